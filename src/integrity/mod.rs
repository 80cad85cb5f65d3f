//! Is this chunk the author's? What protects a swarm ([`Scheme`]), and the one way from received bytes to bytes that
//! may be stored, played, announced or sent on ([`Unproven`], [`Leaf`], [`Proven`]).
//!
//! | swarm | trust begins at | module |
//! | --- | --- | --- |
//! | content on demand | the root hash that is its name | [`merkle`] |
//! | live | the public key that is its name, through signed munro hashes | [`live`] |
//! | live, every chunk signed | the public key that is its name | [`sign_all`] |
//!
//! Nothing here judges senders or freshness: a refusal says what did not fit, [`peer`](crate::peer) and
//! [`node`](crate::node) decide what that costs whom.

pub mod hash;
pub mod key;
pub mod live;
pub mod merkle;
mod proof;
pub mod sign_all;
mod tree;

pub use proof::{Leaf, ProofError, Proven, Provisional, Unproven};

use crate::chunk::ChunkRange;
use crate::wire::option::{Addressing, ChunkSize};

/// How a swarm names chunks inside what it signs: as in its messages (RFC 7574 §6.1.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkSpec {
    addressing: Addressing,
    chunk_size: ChunkSize,
}

impl ChunkSpec {
    /// Most bytes that a chunk specification takes.
    pub const BYTES_MAX: usize = 16;

    /// The form of a swarm; byte ranges need the chunk size too.
    pub const fn new(addressing: Addressing, chunk_size: ChunkSize) -> Self {
        Self {
            addressing,
            chunk_size,
        }
    }

    /// Writes the range as in a message and says how many bytes that took; `None` when the addressing method
    /// cannot name it.
    pub(crate) fn encode(
        self,
        range: ChunkRange,
        out: &mut [u8; Self::BYTES_MAX],
    ) -> Option<usize> {
        let (first, last) = (range.first().get(), range.last().get());
        match self.addressing {
            Addressing::Bins32 => {
                let bin = u32::try_from(range.to_bin()?.to_bits()).ok()?;
                // All ones names no chunk.
                (bin != u32::MAX).then(|| put(out, &[&bin.to_be_bytes()]))
            }
            Addressing::Bins64 => Some(put(out, &[&range.to_bin()?.to_bits().to_be_bytes()])),
            Addressing::Ranges32 => {
                let first = u32::try_from(first).ok()?.to_be_bytes();
                let last = u32::try_from(last).ok()?.to_be_bytes();
                Some(put(out, &[&first, &last]))
            }
            Addressing::Ranges64 => Some(put(out, &[&first.to_be_bytes(), &last.to_be_bytes()])),
            Addressing::Bytes64 => {
                let ChunkSize::Fixed(size) = self.chunk_size else {
                    return None;
                };
                let size = u64::from(size);
                let start = first.checked_mul(size)?;
                let end = last.checked_add(1)?.checked_mul(size)?.checked_sub(1)?;
                Some(put(out, &[&start.to_be_bytes(), &end.to_be_bytes()]))
            }
        }
    }
}

impl From<Addressing> for ChunkSpec {
    /// For chunks of any size; byte ranges cannot name those.
    fn from(addressing: Addressing) -> Self {
        Self::new(addressing, ChunkSize::Variable)
    }
}

/// Writes the parts one after the other and says how long they are.
fn put(out: &mut [u8], parts: &[&[u8]]) -> usize {
    let mut end = 0;
    for part in parts {
        out[end..end + part.len()].copy_from_slice(part);
        end += part.len();
    }
    end
}
