//! What the media shows and how it is divided: transport stream marks, chunks, pacing, RTP order.
//!
//! All of it is pure: bytes and times in, chunks and deadlines out. Endpoints live in [`crate::io::media`].

mod cutter;
mod gather;
mod pace;
mod rtp;
#[cfg(test)]
pub(crate) mod testing;
mod ts;

pub use cutter::Cutter;
pub use gather::Gather;
pub use pace::{Anchor, AnchorLimits, Pacer, Slot, Timeline};
pub use rtp::{RTP_MPEG_TS, RtpCounts, RtpOrder};
pub use ts::{Marks, PACKET_BYTES, Pcr, Scanner, Tables, is_transport_stream};
