//! Hash values of any of the swarm's hash functions.

use std::fmt;

use super::option::HashFunction;
use crate::ids::fmt_hex;

/// The output of a hash function, up to 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest {
    len: u8,
    bytes: [u8; 64],
}

impl Digest {
    /// From 1 to 64 bytes.
    pub fn from_slice(slice: &[u8]) -> Option<Self> {
        if slice.is_empty() || slice.len() > 64 {
            return None;
        }
        let mut bytes = [0; 64];
        bytes[..slice.len()].copy_from_slice(slice);
        Some(Self {
            len: slice.len() as u8,
            bytes,
        })
    }

    /// The empty hash of a Merkle tree: all zero (RFC 7574 §5.1).
    pub const fn empty(function: HashFunction) -> Self {
        Self {
            len: function.len() as u8,
            bytes: [0; 64],
        }
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_hex(self.as_bytes(), f)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}
