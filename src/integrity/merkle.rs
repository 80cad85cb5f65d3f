//! Static content: one hash tree whose root is the name of the swarm (RFC 7574 §5).
//!
//! The author and everybody who has all chunks holds a [`MerkleTree`]; who is still fetching, a [`Verifier`].

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;

use super::hash;
use super::proof::{self, Leaf, ProofError, Proven, Unproven};
use super::tree::Layers;
use crate::chunk::{Bin, ChunkIndex, ChunkRange};
use crate::wire::Digest;
use crate::wire::option::HashFunction;

/// Most chunks of static content: trees are at most 62 layers high.
pub const CHUNKS_MAX: u64 = 1 << 62;

/// The hash tree of content that is here as a whole.
#[derive(Clone)]
pub struct MerkleTree {
    function: HashFunction,
    layers: Layers,
}

impl MerkleTree {
    /// Hashes all chunks of some content in order; `None` when there are none.
    pub fn from_chunks<C: AsRef<[u8]>>(
        function: HashFunction,
        chunks: impl IntoIterator<Item = C>,
    ) -> Option<Self> {
        let leaves: Vec<Digest> = chunks
            .into_iter()
            .map(|chunk| hash::digest(function, chunk.as_ref()))
            .collect();
        let height = top(leaves.len() as u64)?.layer();
        let filler = |_| Digest::empty(function);
        Some(Self {
            function,
            layers: Layers::build(function, height, &leaves, filler),
        })
    }

    /// Chunks of the content.
    pub const fn chunks(&self) -> u64 {
        self.layers.filled()
    }

    /// The root hash, which is the swarm identifier.
    pub fn root(&self) -> Digest {
        self.node(self.top()).expect("a tree has a root")
    }

    /// The node of the root.
    pub fn top(&self) -> Bin {
        Bin::from_layer(self.layers.height(), 0)
    }

    /// The hash of a node of the tree.
    pub fn node(&self, bin: Bin) -> Option<Digest> {
        self.top().contains(bin).then(|| {
            self.layers
                .get(bin.layer(), bin.offset())
                .unwrap_or_else(|| Digest::empty(self.function))
        })
    }

    /// The hashes that tell the number of chunks, from the left (RFC 7574 §5.6).
    pub fn peaks(&self) -> Vec<(Bin, Digest)> {
        self.with_hashes(peaks(self.chunks()))
    }

    /// The hashes for a chunk that a receiver lacks, in the order in which they are sent (RFC 7574 §5.3).
    ///
    /// `top` is the highest node whose hash it has: the root, or with peaks the [peak](peak_above) above the chunk;
    /// `holds` says whether it holds any chunk of a range.
    pub fn missing_uncles(
        &self,
        chunk: ChunkIndex,
        top: Bin,
        holds: impl Fn(ChunkRange) -> bool,
    ) -> Vec<(Bin, Digest)> {
        self.with_hashes(proof::missing_uncles(chunk, top, holds))
    }

    fn with_hashes(&self, bins: impl IntoIterator<Item = Bin>) -> Vec<(Bin, Digest)> {
        bins.into_iter()
            .filter_map(|bin| Some((bin, self.node(bin)?)))
            .collect()
    }
}

impl fmt::Debug for MerkleTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MerkleTree({} chunks, {})", self.chunks(), self.root())
    }
}

/// The peaks of content with so many chunks: filled nodes without a filled sibling, from the left (RFC 7574 §5.6).
///
/// One for each one bit of the number; none beyond [`CHUNKS_MAX`].
pub fn peaks(chunks: u64) -> Vec<Bin> {
    let mut first = 0;
    (0..Bin::LAYER_MAX)
        .rev()
        .filter(|layer| chunks <= CHUNKS_MAX && chunks >> layer & 1 == 1)
        .map(|layer| {
            let peak = Bin::from_layer(layer, first >> layer);
            first += 1 << layer;
            peak
        })
        .collect()
}

/// The peak above a chunk; `None` when the chunk is not one of so many.
pub fn peak_above(chunks: u64, chunk: ChunkIndex) -> Option<Bin> {
    peaks(chunks)
        .into_iter()
        .find(|peak| peak.to_range().contains(chunk))
}

/// Why peak hashes are not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeakError {
    /// They are no row of nodes of falling height from the first chunk on.
    #[error("no row of peaks at bin {bin}")]
    Shape {
        /// The node that does not continue the row.
        bin: Bin,
    },
    /// There are none.
    #[error("no peaks")]
    None,
    /// They say another number of chunks than is known.
    #[error("peaks of {chunks} chunks, content has {needed}")]
    Count {
        /// What the peaks say.
        chunks: u64,
        /// What is known.
        needed: u64,
    },
    /// They do not fold to the root hash.
    #[error("peaks of {chunks} chunks do not fit the root")]
    Mismatch {
        /// What the peaks say.
        chunks: u64,
    },
}

/// The proven part of a hash tree of which first only the root is known.
///
/// Memory grows with what is proven, never with what a remote claims.
#[derive(Clone)]
pub struct Verifier {
    function: HashFunction,
    root: Digest,
    chunks: Option<u64>,
    /// Proven nodes below the root, some layers and neighbours together.
    pages: BTreeMap<(u32, u64), Page>,
}

impl Verifier {
    /// For the content of a root hash, of so many chunks when that is known from a trusted place.
    ///
    /// Without it the number must come from [peaks](Self::learn_peaks), and whoever sends those first can lie within
    /// what a root hash allows: leaves and inner nodes are hashed alike, so the root itself passes as the one peak of
    /// any power of two, and the two hashes below it as content of one short chunk.
    ///
    /// `None` when the root is no hash of `function`, or the number is 0 or beyond [`CHUNKS_MAX`].
    pub fn new(function: HashFunction, root: Digest, chunks: Option<u64>) -> Option<Self> {
        let fits = root.as_bytes().len() == function.len();
        let sized = chunks.is_none_or(|chunks| top(chunks).is_some());
        (fits && sized).then_some(Self {
            function,
            root,
            chunks,
            pages: BTreeMap::new(),
        })
    }

    /// Chunks of the content, once that is known.
    pub const fn chunks(&self) -> Option<u64> {
        self.chunks
    }

    /// The root hash.
    pub const fn root(&self) -> &Digest {
        &self.root
    }

    /// Proves peak hashes, and by them the number of chunks (RFC 7574 §5.6).
    ///
    /// # Errors
    ///
    /// When they are no peaks or do not fit; nothing of them is kept then.
    pub fn learn_peaks(&mut self, peaks: &[(Bin, Digest)]) -> Result<u64, PeakError> {
        let mut chunks = 0;
        let mut layer = Bin::LAYER_MAX;
        for &(bin, _) in peaks {
            // The numbers stay below 2^63: the layers fall.
            let range = bin.to_range();
            if bin.layer() >= layer || range.first().get() != chunks {
                return Err(PeakError::Shape { bin });
            }
            layer = bin.layer();
            chunks += range.count();
        }
        let &(last, hash) = peaks.last().ok_or(PeakError::None)?;
        if let Some(needed) = self.chunks.filter(|needed| *needed != chunks) {
            return Err(PeakError::Count { chunks, needed });
        }
        let sized = Self {
            chunks: Some(chunks),
            pages: BTreeMap::new(),
            ..*self
        };
        let top = top(chunks).ok_or(PeakError::Shape { bin: last })?;
        let mut path = Vec::new();
        // To the right of the last peak everything is empty, to the left of its ancestors are the other peaks.
        let proven = |bin| sized.node_below(top, chunks, bin);
        proof::climb(self.function, last, hash, proven, peaks, |bin, hash| {
            path.push((bin, hash));
        })
        .map_err(|_| PeakError::Mismatch { chunks })?;
        self.chunks = Some(chunks);
        self.learn(path);
        Ok(chunks)
    }

    /// The proven hash of a node; the root's once the number of chunks is known.
    pub fn node(&self, bin: Bin) -> Option<Digest> {
        let chunks = self.chunks?;
        self.node_below(top(chunks)?, chunks, bin)
    }

    /// The proven leaf hash of a chunk.
    pub fn leaf(&self, chunk: ChunkIndex) -> Option<Leaf> {
        let digest = self.node(self.bin(chunk).ok()?)?;
        Some(Leaf::new(chunk, self.function, digest))
    }

    /// The hashes for a proven chunk that another receiver lacks: as [`MerkleTree::missing_uncles`].
    pub fn missing_uncles(
        &self,
        chunk: ChunkIndex,
        top: Bin,
        holds: impl Fn(ChunkRange) -> bool,
    ) -> Vec<(Bin, Digest)> {
        proof::missing_uncles(chunk, top, holds)
            .filter_map(|bin| Some((bin, self.node(bin)?)))
            .collect()
    }

    /// Proves a leaf hash with hashes that were sent for it; all that were needed are proven with it
    /// (RFC 7574 §5.2, §5.5).
    ///
    /// # Errors
    ///
    /// When a hash is missing or does not fit, or the number of chunks is not known; nothing is kept then.
    pub fn prove(
        &mut self,
        chunk: ChunkIndex,
        leaf: Digest,
        provisional: &[(Bin, Digest)],
    ) -> Result<(), ProofError> {
        let from = self.bin(chunk)?;
        let mut path = Vec::new();
        let proven = |bin| self.node(bin);
        proof::climb(
            self.function,
            from,
            leaf,
            proven,
            provisional,
            |bin, hash| {
                path.push((bin, hash));
            },
        )?;
        self.learn(path);
        Ok(())
    }

    /// Proves a chunk with hashes that were sent for it, and opens it.
    ///
    /// # Errors
    ///
    /// Why it is not proven, and the payload back.
    pub fn open(
        &mut self,
        chunk: ChunkIndex,
        payload: Unproven<Bytes>,
        provisional: &[(Bin, Digest)],
    ) -> Result<Proven, (ProofError, Unproven<Bytes>)> {
        match self.prove(chunk, payload.leaf_hash(self.function), provisional) {
            Ok(()) => Ok(Proven::own(chunk, payload.0)),
            Err(error) => Err((error, payload)),
        }
    }

    /// Bytes of hashes held.
    pub fn bytes(&self) -> usize {
        self.pages.len() * Page::NODES * self.function.len()
    }

    fn bin(&self, chunk: ChunkIndex) -> Result<Bin, ProofError> {
        match self.chunks {
            None => Err(ProofError::Unsized),
            Some(chunks) if chunk.get() >= chunks => Err(ProofError::Outside { chunk }),
            Some(_) => Ok(Bin::leaf(chunk)),
        }
    }

    fn node_below(&self, top: Bin, chunks: u64, bin: Bin) -> Option<Digest> {
        if bin == top {
            return Some(self.root);
        }
        if !top.contains(bin) {
            return None;
        }
        if bin.to_range().first().get() >= chunks {
            return Some(Digest::empty(self.function));
        }
        let (page, slot) = Page::place(bin);
        self.pages.get(&page)?.get(slot, self.function.len())
    }

    fn learn(&mut self, path: Vec<(Bin, Digest)>) {
        let len = self.function.len();
        for (bin, hash) in path {
            let (page, slot) = Page::place(bin);
            let page = self.pages.entry(page).or_insert_with(|| Page::new(len));
            page.set(slot, &hash);
        }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verifier({:?} chunks, {})", self.chunks, self.root)
    }
}

/// The nodes of [`LAYERS`](Page::LAYERS) layers below one node.
#[derive(Clone)]
struct Page {
    known: u32,
    nodes: Box<[u8]>,
}

impl Page {
    /// Enough to share the cost of an allocation, few enough that a lone path stays small.
    const LAYERS: u32 = 4;
    const NODES: usize = (2 << Self::LAYERS) - 2;

    fn new(len: usize) -> Self {
        Self {
            known: 0,
            nodes: vec![0; Self::NODES * len].into(),
        }
    }

    /// Which page a node is on, and where.
    const fn place(bin: Bin) -> ((u32, u64), usize) {
        let (layer, offset) = (bin.layer(), bin.offset());
        let tier = layer / Self::LAYERS;
        let above_leaves = layer % Self::LAYERS;
        let to_page = Self::LAYERS - above_leaves;
        // The wider layers of the page come first.
        let wider = (2 << Self::LAYERS) - (2 << to_page);
        let inside = offset & ((1 << to_page) - 1);
        ((tier, offset >> to_page), wider + inside as usize)
    }

    fn get(&self, slot: usize, len: usize) -> Option<Digest> {
        if self.known >> slot & 1 == 0 {
            return None;
        }
        Digest::from_slice(&self.nodes[slot * len..][..len])
    }

    fn set(&mut self, slot: usize, digest: &Digest) {
        let bytes = digest.as_bytes();
        self.nodes[slot * bytes.len()..][..bytes.len()].copy_from_slice(bytes);
        self.known |= 1 << slot;
    }
}

/// The root node over so many chunks (RFC 7574 §5.1: the smallest that holds them).
fn top(chunks: u64) -> Option<Bin> {
    (1..=CHUNKS_MAX)
        .contains(&chunks)
        .then(|| Bin::from_layer(chunks.next_power_of_two().trailing_zeros(), 0))
}

#[cfg(test)]
mod tests;
