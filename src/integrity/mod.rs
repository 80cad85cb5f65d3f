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
//!
//! # Examples
//!
//! A munro of three chunks on its way from the source to a relay:
//!
//! ```
//! use bytes::Bytes;
//! use p2ps::chunk::{ChunkIndex, ChunkRange};
//! use p2ps::integrity::key::{SigningKey, VerifyingKey};
//! use p2ps::integrity::live::{Authority, MUNRO_WIDTH, MunroTree};
//! use p2ps::integrity::{Unproven, hash};
//! use p2ps::time::NtpTime;
//! use p2ps::wire::option::{Addressing, HashFunction};
//!
//! let function = HashFunction::Sha256;
//! let range = ChunkRange::from_count(ChunkIndex::new(64), MUNRO_WIDTH).unwrap();
//! let time = NtpTime::from_unix_micros(1_795_262_400_500_000);
//!
//! // The source hashes what it cut and signs.
//! let key = SigningKey::from_seed_ed25519([1; 32]);
//! let own = Authority::new(key.verifying_key(), Addressing::Ranges64, function);
//! let leaves = [b"one", b"two", b"six"].map(|chunk| hash::digest(function, chunk));
//! let claim = MunroTree::from_leaves(function, range, &leaves).unwrap();
//! let (munro, _) = claim.sign(&key, &own, time).unwrap();
//!
//! // The relay knows the name of the swarm; range, time, leaves and signature came in one message.
//! let public = VerifyingKey::from_swarm_id(&key.swarm_id()).unwrap();
//! let authority = Authority::new(public, Addressing::Ranges64, function).with_width(MUNRO_WIDTH);
//! let claim = MunroTree::from_leaves(function, range, &leaves).unwrap();
//! let (_, tree) = claim.verify(&authority, time, munro.signature().clone()).unwrap();
//!
//! // A chunk is opened by its leaf, whenever it comes.
//! let leaf = tree.leaf(ChunkIndex::new(65)).unwrap();
//! let proven = Unproven::new(Bytes::from_static(b"two")).prove(&leaf).unwrap();
//! assert_eq!((proven.chunk(), &proven.payload()[..]), (ChunkIndex::new(65), &b"two"[..]));
//! assert!(Unproven::new(Bytes::from_static(b"ten")).prove(&leaf).is_err());
//! assert!(tree.leaf(ChunkIndex::new(67)).unwrap().is_empty());
//! ```

pub mod hash;
pub mod key;
pub mod live;
pub mod membership;
pub mod merkle;
mod proof;
pub mod sign_all;
mod tree;

pub use proof::{Leaf, ProofError, Proven, Provisional, Unproven};

use key::{KeyError, VerifyingKey};
use live::Authority;
use merkle::Verifier;

use crate::chunk::ChunkRange;
use crate::ids::SwarmId;
use crate::wire::option::{Addressing, ChunkSize, HashFunction, Protection, SignatureAlgorithm};
use crate::wire::{Digest, Format};

/// What protects the content of a swarm: its metadata, checked once.
#[derive(Clone, Debug)]
pub enum Scheme {
    /// Static content under its root hash (CIPM 1, RFC 7574 §5).
    MerkleTree(Verifier),
    /// Live, a signature for every chunk (CIPM 2, RFC 7574 §6.1.1).
    SignAll(Authority),
    /// Live, a signature for every munro (CIPM 3, RFC 7574 §6.1.2).
    UnifiedMerkleTree(Authority),
}

/// Why swarm metadata protects nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemeError {
    /// CIPM 0: protection is always required (RFC 7574, errata 4724 and 4880).
    #[error("content is not protected")]
    Unprotected,
    /// The swarm identifier of static content is no hash of the swarm's hash function.
    #[error("root hash of {bytes} bytes, need {needed}")]
    Root {
        /// Bytes of the identifier.
        bytes: usize,
        /// Bytes of a hash.
        needed: usize,
    },
    /// Static content of no chunks, or of more than trees hold.
    #[error("bad size of content: {chunks} chunks")]
    Chunks {
        /// Chunks of the content.
        chunks: u64,
    },
    /// The swarm identifier of live content holds no usable key.
    #[error("bad key: {0}")]
    Key(#[from] KeyError),
    /// Option 5 names another algorithm than the swarm identifier.
    #[error("signature algorithm {option}, key of algorithm {key}")]
    Algorithm {
        /// What the option says.
        option: u8,
        /// What the key says.
        key: u8,
    },
}

impl Scheme {
    /// From the metadata of a swarm as in the options of its handshakes (RFC 7574 §7).
    ///
    /// `signature` counts for live swarms and is otherwise ignored; `chunks` is the size of static content when that
    /// comes from a trusted place.
    ///
    /// # Errors
    ///
    /// When the parts contradict each other, or there is no protection.
    pub fn new(
        protection: Protection,
        swarm_id: &SwarmId,
        function: HashFunction,
        signature: Option<SignatureAlgorithm>,
        spec: ChunkSpec,
        chunks: Option<u64>,
    ) -> Result<Self, SchemeError> {
        let authority = || {
            let key = VerifyingKey::from_swarm_id(swarm_id)?;
            match signature {
                Some(option) if option != key.algorithm() => Err(SchemeError::Algorithm {
                    option: option.code(),
                    key: key.algorithm().code(),
                }),
                _ => Ok(Authority::new(key, spec, function)),
            }
        };
        match protection {
            Protection::None => Err(SchemeError::Unprotected),
            Protection::MerkleTree => {
                let bytes = swarm_id.as_bytes();
                let needed = function.len();
                let root = Digest::from_slice(bytes)
                    .filter(|_| bytes.len() == needed)
                    .ok_or(SchemeError::Root {
                        bytes: bytes.len(),
                        needed,
                    })?;
                let chunks_or_zero = chunks.unwrap_or(0);
                Verifier::new(function, root, chunks)
                    .map(Self::MerkleTree)
                    .ok_or(SchemeError::Chunks {
                        chunks: chunks_or_zero,
                    })
            }
            Protection::SignAll => authority().map(Self::SignAll),
            Protection::UnifiedMerkleTree => authority().map(Self::UnifiedMerkleTree),
        }
    }
}

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

impl From<&Format> for ChunkSpec {
    fn from(format: &Format) -> Self {
        Self::new(format.addressing, format.chunk_size)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swarm_is_protected_by_what_its_identifier_holds() {
        let root = "47a013e660d408619d894b20806b1d5086aab03b";
        let key = "0f974d96a22d224bc01adb915091477d44ccd91c9a41a11430010117d52c59240e";
        let scheme = |protection, id: &str, function, signature, chunks| {
            let spec = Addressing::Ranges64.into();
            let id = id.parse().unwrap();
            match Scheme::new(protection, &id, function, signature, spec, chunks) {
                Ok(Scheme::MerkleTree(_)) => Ok(1),
                Ok(Scheme::SignAll(_)) => Ok(2),
                Ok(Scheme::UnifiedMerkleTree(_)) => Ok(3),
                Err(error) => Err(error.to_string()),
            }
        };
        let (sha1, sha256) = (HashFunction::Sha1, HashFunction::Sha256);
        let ed25519 = Some(SignatureAlgorithm::Ed25519);
        let p256 = Some(SignatureAlgorithm::EcdsaP256);
        for (protection, id, function, signature, chunks, expected) in [
            (Protection::MerkleTree, root, sha1, None, None, Ok(1)),
            (Protection::MerkleTree, root, sha1, None, Some(5), Ok(1)),
            (Protection::SignAll, key, sha256, ed25519, None, Ok(2)),
            (
                Protection::UnifiedMerkleTree,
                key,
                sha256,
                None,
                None,
                Ok(3),
            ),
            (
                Protection::None,
                key,
                sha256,
                None,
                None,
                Err("content is not protected"),
            ),
            (
                Protection::MerkleTree,
                root,
                sha256,
                None,
                None,
                Err("root hash of 20 bytes, need 32"),
            ),
            (
                Protection::MerkleTree,
                root,
                sha1,
                None,
                Some(0),
                Err("bad size of content: 0 chunks"),
            ),
            (
                Protection::UnifiedMerkleTree,
                key,
                sha256,
                p256,
                None,
                Err("signature algorithm 13, key of algorithm 15"),
            ),
            (
                Protection::UnifiedMerkleTree,
                &key[..64],
                sha256,
                None,
                None,
                Err("bad key: 32 bytes, need 33"),
            ),
        ] {
            let found = scheme(protection, id, function, signature, chunks);
            assert_eq!(found, expected.map_err(str::to_owned));
        }
    }
}
