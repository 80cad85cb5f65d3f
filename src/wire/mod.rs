//! Bytes and messages: RFC 7574 as a codec that keeps no state, and our one private message inside it.
//!
//! A datagram is a destination channel and messages back to back (§8.1). Messages carry no length, so how they are
//! read depends on the channel: [`Format`].

pub mod address;
pub mod check;
pub mod control;
mod cursor;
pub mod description;
pub mod digest;
pub mod extension;
mod message;
pub mod option;

pub use control::{Answer, ControlBody};
pub use cursor::DecodeError;
pub use description::ChannelDescription;
pub use digest::Digest;
pub use extension::{
    AuthChallenge, AuthProof, AuthResponse, Control, Entry, Extension, Hello, Mask, Munro,
    PathBlock, ProbeReply, QosFeedback, Status, Subscribe, SubscribeReply,
};
pub use message::{Data, Message, encode_data_header};

use bytes::Bytes;

use crate::ids::ChannelId;
use cursor::Reader;
use option::{Addressing, ChunkSize, HashFunction};

/// The type of our private envelope: `F0 ‖ length ‖ subtype ‖ body`.
pub const EXTENSION_TYPE: u8 = 0xf0;
/// Messages read from one datagram at most.
pub const MESSAGES_MAX: usize = 256;
/// Longest membership certificate read, in bytes.
pub const CERTIFICATE_BYTES_MAX: usize = 4096;

/// How the messages of one channel are read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// How chunks are named.
    pub addressing: Addressing,
    /// How long hashes are.
    pub hash: HashFunction,
    /// How long signatures are.
    pub signature_bytes: usize,
    /// How long chunks are.
    pub chunk_size: ChunkSize,
    /// Substreams of the layout: extension masks have a bit for each.
    pub substreams: u16,
}

impl Format {
    /// Our live profile: 64-bit chunk ranges, SHA-256, Ed25519, chunks of any size.
    pub const LIVE: Self = Self {
        addressing: Addressing::Ranges64,
        hash: HashFunction::Sha256,
        signature_bytes: 64,
        chunk_size: ChunkSize::Variable,
        substreams: 1,
    };
}

/// The front of a received datagram.
#[derive(Clone, Debug)]
pub struct Datagram;

impl Datagram {
    /// Takes the destination channel off; the messages follow one by one.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Truncated`] when there is not even that.
    pub fn open(bytes: Bytes) -> Result<(ChannelId, Messages), DecodeError> {
        let mut reader = Reader::new(bytes);
        let channel = ChannelId::from_bits(reader.u32()?);
        Ok((
            channel,
            Messages {
                reader,
                count: 0,
                failed: false,
            },
        ))
    }
}

/// The messages of one datagram, in order. Ends at the first error.
#[derive(Clone, Debug)]
pub struct Messages {
    reader: Reader,
    count: usize,
    failed: bool,
}

impl Messages {
    /// The next message, read as the channel's format says; the first one that cannot be read ends it.
    pub fn next(&mut self, format: &Format) -> Option<Result<Message, DecodeError>> {
        if self.failed || self.reader.remaining() == 0 {
            return None;
        }
        let result = if self.count >= MESSAGES_MAX {
            Err(DecodeError::TooManyMessages {
                limit: MESSAGES_MAX,
            })
        } else {
            message::decode(&mut self.reader, format, self.count == 0)
        };
        self.count += 1;
        self.failed = result.is_err();
        Some(result)
    }

    /// Whether nothing is left to read: a datagram without messages is a keepalive.
    pub const fn is_empty(&self) -> bool {
        self.reader.remaining() == 0
    }

    /// Bytes read so far, the destination channel included.
    pub const fn consumed(&self) -> usize {
        self.reader.offset()
    }
}
