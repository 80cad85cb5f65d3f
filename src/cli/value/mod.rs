//! Values a person types: each parses from its text, prints back, and says in one line what was wrong.
//!
//! Numbers with units are read in [`crate::io::value`], for options and for the parameters of media addresses alike.

mod address;
mod channel;
mod rotate;
mod since;
mod ticket;

pub use crate::io::store::StoreUrl;
pub use crate::io::value::{
    DurationValue, Percent, Rate, Shown, Size, ValueError, count, duration, nearest, printable,
};

pub use address::{Family, Host, ListenAddr, ParentAddr, Scheme, TrackerUrl};
pub use channel::{
    ChannelName, ChannelRef, ChannelUri, PeerRef, Place, ReferenceError, StartAt, UriOptions,
};
pub(crate) use channel::{LATENCY, TIMEOUT, WINDOW};
pub use rotate::Rotate;
pub use since::Since;
pub use ticket::{Ticket, TicketError, Token};
