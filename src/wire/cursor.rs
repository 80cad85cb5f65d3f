//! Bounds-checked reading of one datagram, and why bytes are no message.

use bytes::Bytes;

/// Why bytes are no message (RFC 7574 §8.1: the first such message ends the reading of a datagram).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The datagram ended inside a message.
    #[error("message cut short at byte {offset}: {needed} more bytes needed")]
    Truncated {
        /// Where the field begins that is not all there.
        offset: usize,
        /// Bytes missing.
        needed: usize,
    },
    /// A message type this version does not define; it has no length, so nothing behind it can be read.
    #[error("unknown message type {kind:#04x} at byte {offset}")]
    UnknownMessage {
        /// Where the message begins.
        offset: usize,
        /// Its type.
        kind: u8,
    },
    /// A range with its end before its start, or a number that names no chunk.
    #[error("bad range {first}..{last}")]
    BadRange {
        /// Where the range begins.
        offset: usize,
        /// First chunk (or byte) named.
        first: u64,
        /// Last chunk (or byte) named.
        last: u64,
    },
    /// A handshake option out of order, repeated, or not known.
    #[error("unexpected handshake option {code} at byte {offset}")]
    UnexpectedOption {
        /// Where the option begins.
        offset: usize,
        /// Its code.
        code: u8,
    },
    /// A handshake option with a value that this version does not define.
    #[error("handshake option {code} has the unknown value {value}")]
    BadOption {
        /// The option.
        code: u8,
        /// Its value.
        value: u32,
    },
    /// A length field above its limit.
    #[error("length {length} at byte {offset} is over the limit of {limit}")]
    TooLong {
        /// Where the length stands.
        offset: usize,
        /// The length given.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// An extension message whose body is not as long as its content.
    #[error("extension {subtype} at byte {offset} has a body of the wrong length")]
    BadExtension {
        /// Where the message begins.
        offset: usize,
        /// Its subtype.
        subtype: u8,
    },
    /// A HANDSHAKE that is not the first message.
    #[error("handshake at byte {offset} is not the first message")]
    LateHandshake {
        /// Where the message begins.
        offset: usize,
    },
    /// More messages than a datagram may have.
    #[error("more than {limit} messages")]
    TooManyMessages {
        /// The limit.
        limit: usize,
    },
    /// The swarm's addressing method cannot be read without a fixed chunk size.
    #[error("byte ranges need a fixed chunk size")]
    NoChunkSize,
}

/// Reads a datagram front to back; slices of it are shared, never copied.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    bytes: Bytes,
    offset: usize,
}

impl Reader {
    pub(crate) const fn new(bytes: Bytes) -> Self {
        Self { bytes, offset: 0 }
    }

    pub(crate) const fn offset(&self) -> usize {
        self.offset
    }

    pub(crate) const fn remaining(&self) -> usize {
        self.bytes.len() - self.offset
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let rest = self.bytes.get(self.offset..).unwrap_or_default();
        let Some(array) = rest.first_chunk::<N>() else {
            return Err(DecodeError::Truncated {
                offset: self.offset,
                needed: N - rest.len(),
            });
        };
        self.offset += N;
        Ok(*array)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn bytes_of<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        self.array()
    }

    /// The next `length` bytes, sharing the datagram.
    pub(crate) fn take(&mut self, length: usize) -> Result<Bytes, DecodeError> {
        let start = self.offset;
        self.slice(length)?;
        Ok(self.bytes.slice(start..self.offset))
    }

    /// The next `length` bytes, for those who copy them anyway.
    pub(crate) fn slice(&mut self, length: usize) -> Result<&[u8], DecodeError> {
        let rest = self.bytes.get(self.offset..).unwrap_or_default();
        let Some(slice) = rest.get(..length) else {
            return Err(DecodeError::Truncated {
                offset: self.offset,
                needed: length - rest.len(),
            });
        };
        self.offset += length;
        Ok(slice)
    }

    /// The next byte, without taking it.
    pub(crate) fn peek(&self, ahead: usize) -> Option<u8> {
        self.bytes.get(self.offset + ahead).copied()
    }
}
