//! The way from received bytes to trusted ones, and the fold of hashes that is the proof.

use std::fmt;

use bytes::Bytes;

use super::hash;
use crate::chunk::{Bin, ChunkIndex, ChunkRange};
use crate::wire::Digest;
use crate::wire::option::HashFunction;

/// Something that a remote sent and nobody has checked yet.
///
/// There is no way to the inside but a proof, so what stands behind this type cannot reach store, player, HAVE, FEC or
/// a child by mistake. Wrapping and opening copy nothing.
///
/// ```compile_fail,E0616
/// use bytes::Bytes;
/// use p2ps::integrity::Unproven;
///
/// let received = Unproven::new(Bytes::from_static(b"whatever"));
/// let payload: Bytes = received.0; // private: only prove() gives it away
/// ```
#[derive(Clone)]
pub struct Unproven<T>(pub(super) T);

impl<T> Unproven<T> {
    /// Wraps what came in.
    pub const fn new(value: T) -> Self {
        Self(value)
    }
}

impl Unproven<Bytes> {
    /// Bytes held.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The leaf hash that this payload has.
    pub fn leaf_hash(&self, function: HashFunction) -> Digest {
        hash::digest(function, &self.0)
    }

    /// Opens the payload as the chunk whose proven leaf hash it has.
    ///
    /// # Errors
    ///
    /// The payload back when its hash is another one.
    pub fn prove(self, leaf: &Leaf) -> Result<Proven, Self> {
        if self.leaf_hash(leaf.function) == leaf.digest {
            Ok(Proven::own(leaf.chunk, self.0))
        } else {
            Err(self)
        }
    }
}

impl<T> fmt::Debug for Unproven<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unproven(..)")
    }
}

/// The leaf hash of one chunk, proven by a tree: comes out of trees only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    chunk: ChunkIndex,
    function: HashFunction,
    digest: Digest,
}

impl Leaf {
    pub(super) const fn new(chunk: ChunkIndex, function: HashFunction, digest: Digest) -> Self {
        Self {
            chunk,
            function,
            digest,
        }
    }

    /// The chunk.
    pub const fn chunk(&self) -> ChunkIndex {
        self.chunk
    }

    /// Its hash.
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Whether the source numbered the chunk but never filled it: such a chunk is held by everybody who knows this.
    pub fn is_empty(&self) -> bool {
        self.digest == hash::empty_leaf(self.function)
    }
}

/// A chunk that is the author's: may be stored, played, announced, combined and sent on.
#[derive(Clone, PartialEq, Eq)]
pub struct Proven {
    chunk: ChunkIndex,
    payload: Bytes,
}

impl Proven {
    /// A chunk of the author's own making; never for bytes that came from a remote.
    pub const fn own(chunk: ChunkIndex, payload: Bytes) -> Self {
        Self { chunk, payload }
    }

    /// The chunk.
    pub const fn chunk(&self) -> ChunkIndex {
        self.chunk
    }

    /// Its bytes; none for an empty chunk.
    pub const fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// Its bytes.
    pub fn into_payload(self) -> Bytes {
        self.payload
    }
}

impl fmt::Debug for Proven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proven({}, {} bytes)", self.chunk, self.payload.len())
    }
}

/// Why a chunk is not proven (yet).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The chunk is none of this tree's.
    #[error("chunk {chunk} is outside the tree")]
    Outside {
        /// The chunk.
        chunk: ChunkIndex,
    },
    /// The number of chunks of static content is not known, so nor is the shape of its tree.
    #[error("size of the content is not known")]
    Unsized,
    /// A hash on the way up is not known: the chunk may still be good.
    #[error("hash of bin {bin} is missing")]
    Missing {
        /// The node whose hash is needed.
        bin: Bin,
    },
    /// Chunk or hashes are not the author's; which of them is wrong cannot be told.
    #[error("hashes do not fit at bin {bin}")]
    Mismatch {
        /// The proven node that they did not fit.
        bin: Bin,
    },
}

/// Hashes from one neighbour that no chunk has proven yet.
///
/// Kept for each neighbour by itself: a wrong hash from one must not make a chunk of another fail.
#[derive(Clone, Debug, Default)]
pub struct Provisional {
    hashes: Vec<(Bin, Digest)>,
}

impl Provisional {
    /// Most hashes kept; the oldest go first. Peaks and uncles of one chunk in the largest tree fit.
    pub const LIMIT: usize = 128;

    /// Keeps a hash, in place of an earlier one for the same node.
    pub fn insert(&mut self, bin: Bin, digest: Digest) {
        self.hashes.retain(|(known, _)| *known != bin);
        if self.hashes.len() == Self::LIMIT {
            self.hashes.remove(0);
        }
        self.hashes.push((bin, digest));
    }

    /// The hash kept for a node.
    pub fn get(&self, bin: Bin) -> Option<&Digest> {
        find(&self.hashes, bin)
    }

    /// All of them, oldest first: what `prove` of a tree takes.
    pub fn as_slice(&self) -> &[(Bin, Digest)] {
        &self.hashes
    }

    /// Forgets the hashes of nodes in or below `top`: they are proven, or useless.
    pub fn forget(&mut self, top: Bin) {
        self.hashes.retain(|(bin, _)| !top.contains(*bin));
    }
}

/// The uncles of a chunk below the node `top`, nearest to it first (RFC 7574 §5.2, §5.3); none for a chunk elsewhere.
pub(super) fn uncles(chunk: ChunkIndex, top: Bin) -> impl Iterator<Item = Bin> {
    let inside = top.to_range().contains(chunk);
    (0..if inside { top.layer() } else { 0 })
        .rev()
        .map(move |layer| Bin::from_layer(layer, chunk.get() >> layer).sibling())
}

/// The uncles that a receiver lacks: a chunk that it holds implies every hash beside and on its way up.
///
/// `holds` says whether it holds any chunk of a range, as far as its HAVE and ACK tell (RFC 7574 §5.3).
pub(super) fn missing_uncles(
    chunk: ChunkIndex,
    top: Bin,
    holds: impl Fn(ChunkRange) -> bool,
) -> impl Iterator<Item = Bin> {
    uncles(chunk, top).filter(move |uncle| !holds(uncle.parent().to_range()))
}

/// Folds a hash upwards until it meets a proven node (RFC 7574 §5.2, §5.5).
///
/// `used` is told every node that was not proven before; all of them are when the answer is `Ok`, none when not.
/// Some ancestor of `from` must be proven, else this would climb out of the tree.
pub(super) fn climb(
    function: HashFunction,
    from: Bin,
    hash: Digest,
    proven: impl Fn(Bin) -> Option<Digest>,
    provisional: &[(Bin, Digest)],
    mut used: impl FnMut(Bin, Digest),
) -> Result<(), ProofError> {
    let (mut bin, mut hash) = (from, hash);
    // Two hashes of other lengths could make up the same pair.
    let fits = |digest: &Digest| digest.as_bytes().len() == function.len();
    if !fits(&hash) {
        return Err(ProofError::Mismatch { bin });
    }
    loop {
        if let Some(trusted) = proven(bin) {
            return if trusted == hash {
                Ok(())
            } else {
                Err(ProofError::Mismatch { bin })
            };
        }
        used(bin, hash);
        let sibling = bin.sibling();
        let other = match proven(sibling) {
            Some(other) => other,
            None => {
                let missing = ProofError::Missing { bin: sibling };
                let other = *find(provisional, sibling).ok_or(missing)?;
                if !fits(&other) {
                    return Err(ProofError::Mismatch { bin: sibling });
                }
                used(sibling, other);
                other
            }
        };
        hash = if bin.is_left() {
            hash::digest_pair(function, &hash, &other)
        } else {
            hash::digest_pair(function, &other, &hash)
        };
        bin = bin.parent();
    }
}

/// The newest hash given for a node.
fn find(hashes: &[(Bin, Digest)], bin: Bin) -> Option<&Digest> {
    hashes
        .iter()
        .rev()
        .find_map(|(known, digest)| (*known == bin).then_some(digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_opens_for_its_own_leaf_only() {
        let function = HashFunction::Sha256;
        let payload = Bytes::from_static(b"chunk");
        let leaf =
            |data: &[u8]| Leaf::new(ChunkIndex::new(7), function, hash::digest(function, data));
        let received = Unproven::new(payload.clone());
        assert_eq!(format!("{received:?} {}", received.len()), "Unproven(..) 5");
        let received = received.prove(&leaf(b"another")).unwrap_err();
        let proven = received.prove(&leaf(b"chunk")).unwrap();
        assert_eq!(proven.chunk(), ChunkIndex::new(7));
        assert_eq!(proven.payload().as_ptr(), payload.as_ptr(), "no copy");
        assert_eq!(format!("{proven:?}"), "Proven(7, 5 bytes)");
        assert!(!leaf(b"chunk").is_empty() && leaf(b"").is_empty());
        assert!(Unproven::new(Bytes::new()).prove(&leaf(b"")).is_ok());
    }

    #[test]
    fn provisional_hashes_are_bounded_and_the_newest_counts() {
        let digest = |byte: u8| Digest::from_slice(&[byte; 32]).unwrap();
        let bin = |chunk| Bin::leaf(ChunkIndex::new(chunk));
        let mut hashes = Provisional::default();
        for chunk in 0..=Provisional::LIMIT as u64 {
            hashes.insert(bin(chunk), digest(1));
        }
        assert_eq!(hashes.as_slice().len(), Provisional::LIMIT);
        assert_eq!(hashes.get(bin(0)), None, "the oldest went");
        hashes.insert(bin(1), digest(2));
        assert_eq!(hashes.as_slice().len(), Provisional::LIMIT);
        assert_eq!(hashes.get(bin(1)), Some(&digest(2)));
        hashes.forget(Bin::from_layer(6, 0));
        assert_eq!(hashes.as_slice().len(), Provisional::LIMIT - 63);
        assert_eq!(hashes.get(bin(1)), None);
    }

    #[test]
    fn uncles_come_nearest_the_top_first() {
        let bins = |chunk, holds: &[u64]| -> Vec<u64> {
            let holds: Vec<ChunkIndex> = holds.iter().map(|&n| ChunkIndex::new(n)).collect();
            missing_uncles(ChunkIndex::new(chunk), Bin::from_layer(3, 0), |range| {
                holds.iter().any(|&chunk| range.contains(chunk))
            })
            .map(Bin::to_bits)
            .collect()
        };
        assert_eq!(bins(4, &[]), [3, 13, 10]);
        for outside in [8, 1 << 63, u64::MAX] {
            assert!(bins(outside, &[]).is_empty(), "{outside}");
        }
        // One after the other, seven chunks (RFC 7574 §5.3).
        let mut held = Vec::new();
        for (chunk, expected) in [
            (0, vec![11, 5, 2]),
            (1, vec![]),
            (2, vec![6]),
            (3, vec![]),
            (4, vec![13, 10]),
            (5, vec![]),
            (6, vec![14]),
        ] {
            assert_eq!(bins(chunk, &held), expected, "chunk {chunk}");
            held.push(chunk);
        }
    }
}
