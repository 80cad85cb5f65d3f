//! Storage for the hashes of one tree: layer by layer, from the leaves up, in a single allocation.

use super::hash;
use crate::wire::Digest;
use crate::wire::option::HashFunction;

/// The hashes of a tree of 2^`height` leaves of which only the first `filled` differ from a filler.
///
/// Only nodes above a filled leaf take room: 2 × `filled` + `height` hashes or less.
#[derive(Clone)]
pub(super) struct Layers {
    function: HashFunction,
    height: u32,
    filled: u64,
    nodes: Box<[u8]>,
}

impl Layers {
    /// Room for a tree, all zero.
    pub(super) fn new(function: HashFunction, height: u32, filled: u64) -> Self {
        let nodes: u64 = (0..=height).map(|layer| width(filled, layer)).sum();
        let bytes = usize::try_from(nodes).expect("a tree that is held fits into memory");
        Self {
            function,
            height,
            filled,
            nodes: vec![0; bytes * function.len()].into(),
        }
    }

    /// A whole tree over its filled leaves; `filler` is the hash of a node of a layer with nothing below.
    pub(super) fn build(
        function: HashFunction,
        height: u32,
        leaves: &[Digest],
        filler: impl Fn(u32) -> Digest,
    ) -> Self {
        let mut tree = Self::new(function, height, leaves.len() as u64);
        for (offset, leaf) in leaves.iter().enumerate() {
            tree.set(0, offset as u64, leaf);
        }
        for layer in 0..height {
            for offset in 0..width(tree.filled, layer + 1) {
                let child = |offset| tree.get(layer, offset).unwrap_or_else(|| filler(layer));
                let (left, right) = (child(2 * offset), child(2 * offset + 1));
                tree.set(
                    layer + 1,
                    offset,
                    &hash::digest_pair(function, &left, &right),
                );
            }
        }
        tree
    }

    /// Layers above the leaves.
    pub(super) const fn height(&self) -> u32 {
        self.height
    }

    /// Leaves that have room.
    pub(super) const fn filled(&self) -> u64 {
        self.filled
    }

    /// The place of a node in order of storage; `None` when no filled leaf is below it.
    pub(super) fn slot(&self, layer: u32, offset: u64) -> Option<usize> {
        if layer > self.height || offset >= width(self.filled, layer) {
            return None;
        }
        let below: u64 = (0..layer).map(|layer| width(self.filled, layer)).sum();
        Some((below + offset) as usize)
    }

    /// The hash of a node; `None` when no filled leaf is below it.
    pub(super) fn get(&self, layer: u32, offset: u64) -> Option<Digest> {
        let len = self.function.len();
        let start = self.slot(layer, offset)? * len;
        Digest::from_slice(&self.nodes[start..start + len])
    }

    /// Sets the hash of a node above a filled leaf.
    pub(super) fn set(&mut self, layer: u32, offset: u64, digest: &Digest) {
        let len = self.function.len();
        let slot = self.slot(layer, offset).expect("the node has room");
        self.nodes[slot * len..][..len].copy_from_slice(digest.as_bytes());
    }

    /// Bytes of hashes held.
    pub(super) const fn bytes(&self) -> usize {
        self.nodes.len()
    }
}

/// How many nodes of a layer are above the first `filled` leaves.
fn width(filled: u64, layer: u32) -> u64 {
    filled.div_ceil(1 << layer)
}
