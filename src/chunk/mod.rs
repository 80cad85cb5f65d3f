//! Names of chunks: one ([`ChunkIndex`]), several in a row ([`ChunkRange`]), an aligned run ([`Bin`]), any set
//! ([`ChunkSet`]); and which of them one of several parents pushes ([`Layout`], [`Parts`]).

mod layout;
mod set;

pub use layout::{Layout, Parts};
pub use set::ChunkSet;

use std::fmt;

/// The number of a chunk in its swarm, from 0 (RFC 7574 §4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkIndex(u64);

impl ChunkIndex {
    /// The first chunk of any content.
    pub const ZERO: Self = Self(0);
    /// The largest number; all ones also means "everything up to the end" in some discard windows.
    pub const MAX: Self = Self(u64::MAX);

    /// Chunk number `number`.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The chunk `count` further on; the last one of all when there is no such.
    #[must_use]
    pub const fn plus(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }

    /// The chunk `count` before; the first one of all when there is no such.
    #[must_use]
    pub const fn minus(self, count: u64) -> Self {
        Self(self.0.saturating_sub(count))
    }
}

impl fmt::Display for ChunkIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One or more consecutive chunks, both ends included as on the wire (RFC 7574 §4.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkRange {
    first: ChunkIndex,
    last: ChunkIndex,
}

impl ChunkRange {
    /// `first..=last`, or `None` when it would be empty.
    pub const fn new(first: ChunkIndex, last: ChunkIndex) -> Option<Self> {
        if first.0 <= last.0 {
            Some(Self { first, last })
        } else {
            None
        }
    }

    /// A single chunk.
    pub const fn single(chunk: ChunkIndex) -> Self {
        Self {
            first: chunk,
            last: chunk,
        }
    }

    /// `count` chunks from `first` on, or `None` when `count` is 0 or the numbers run out.
    pub const fn from_count(first: ChunkIndex, count: u64) -> Option<Self> {
        if count == 0 {
            return None;
        }
        match first.0.checked_add(count - 1) {
            Some(last) => Some(Self {
                first,
                last: ChunkIndex(last),
            }),
            None => None,
        }
    }

    /// The first chunk.
    pub const fn first(self) -> ChunkIndex {
        self.first
    }

    /// The last chunk.
    pub const fn last(self) -> ChunkIndex {
        self.last
    }

    /// How many chunks; saturates for the range of all 2^64.
    pub const fn count(self) -> u64 {
        (self.last.0 - self.first.0).saturating_add(1)
    }

    /// Whether the chunk lies inside.
    pub const fn contains(self, chunk: ChunkIndex) -> bool {
        self.first.0 <= chunk.0 && chunk.0 <= self.last.0
    }

    /// The chunks in both ranges.
    pub fn intersection(self, other: Self) -> Option<Self> {
        Self::new(self.first.max(other.first), self.last.min(other.last))
    }

    /// The chunks in order.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = ChunkIndex> {
        (self.first.0..=self.last.0).map(ChunkIndex)
    }

    /// The bin of exactly these chunks, or `None` when the range is no aligned power of two.
    pub const fn to_bin(self) -> Option<Bin> {
        let span = self.last.0 - self.first.0;
        if span.count_ones() != span.trailing_ones() || self.first.0 & span != 0 {
            return None;
        }
        let layer = span.trailing_ones();
        if layer >= Bin::LAYER_MAX || self.last.0 > Bin::CHUNK_MAX {
            return None;
        }
        Some(Bin::from_layer(layer, self.first.0 >> layer))
    }

    /// The fewest bins that make up the range, from the left (RFC 7574 §4.2).
    ///
    /// At most 126 of them; nothing for chunks that bins cannot name.
    pub fn bins(self) -> Vec<Bin> {
        let mut bins = Vec::new();
        let end = self.last.0.min(Bin::CHUNK_MAX);
        let mut start = self.first.0;
        while start <= end {
            let aligned = if start == 0 {
                Bin::LAYER_MAX - 1
            } else {
                start.trailing_zeros()
            };
            let fitting = (end - start + 1).ilog2();
            let layer = aligned.min(fitting);
            bins.push(Bin::from_layer(layer, start >> layer));
            start += 1 << layer;
        }
        bins
    }
}

impl fmt::Display for ChunkRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.first, self.last)
    }
}

/// An aligned run of 2^n chunks, named by one number.
///
/// Even bins are single chunks; an odd bin is the parent of the two runs half
/// its size (RFC 7574 §4.2). Availability can be announced in bins and the hash
/// tree is indexed by them, so this type is copied freely and never allocates.
///
/// # Examples
///
/// ```
/// use p2ps::chunk::{Bin, ChunkIndex};
///
/// let pair = Bin::leaf(ChunkIndex::new(2)).parent();
/// assert_eq!(pair.to_range().first(), ChunkIndex::new(2));
/// assert_eq!(pair.to_range().last(), ChunkIndex::new(3));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bin(u64);

impl Bin {
    /// Layers of the tree over all chunks that a 64-bit bin can name.
    pub const LAYER_MAX: u32 = 64;
    /// Highest chunk that a 64-bit bin can name.
    pub const CHUNK_MAX: u64 = (1 << 63) - 1;

    /// From the number on the wire; `None` for all ones, which means "nothing".
    pub const fn from_bits(bits: u64) -> Option<Self> {
        if bits == u64::MAX {
            None
        } else {
            Some(Self(bits))
        }
    }

    /// The number on the wire.
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// The bin of one chunk.
    ///
    /// # Panics
    ///
    /// When the chunk is above [`CHUNK_MAX`](Self::CHUNK_MAX): a 64-bit live number cannot get there.
    pub const fn leaf(chunk: ChunkIndex) -> Self {
        assert!(
            chunk.0 <= Self::CHUNK_MAX,
            "a chunk number beyond 2^63 has no bin"
        );
        Self(chunk.0 * 2)
    }

    /// The bin number `offset` of layer `layer`; layer 0 holds the leaves.
    ///
    /// # Panics
    ///
    /// When layer or offset lie outside the tree.
    pub const fn from_layer(layer: u32, offset: u64) -> Self {
        assert!(
            layer < Self::LAYER_MAX && offset <= Self::CHUNK_MAX >> layer,
            "outside the tree of bins"
        );
        Self((offset << layer << 1) + (1 << layer) - 1)
    }

    /// Distance from the leaves.
    pub const fn layer(self) -> u32 {
        self.0.trailing_ones()
    }

    /// Position inside the layer, from 0.
    pub const fn offset(self) -> u64 {
        (self.0 >> self.layer()) >> 1
    }

    /// The chunks below.
    pub const fn to_range(self) -> ChunkRange {
        let layer = self.layer();
        let first = self.offset() << layer;
        ChunkRange {
            first: ChunkIndex(first),
            last: ChunkIndex(first + ((1 << layer) - 1)),
        }
    }

    /// The run twice as long around this one.
    #[must_use]
    pub const fn parent(self) -> Self {
        let mask = self.0 ^ (self.0 + 1);
        Self((self.0 | mask) & !mask.wrapping_add(1))
    }

    /// The other half of the parent.
    #[must_use]
    pub const fn sibling(self) -> Self {
        let mask = self.0 ^ (self.0 + 1);
        Self(self.0 ^ mask.wrapping_add(1))
    }

    /// Whether it is the first half of its parent.
    pub const fn is_left(self) -> bool {
        self.offset() & 1 == 0
    }

    /// The two halves; `None` for a single chunk.
    pub const fn children(self) -> Option<(Self, Self)> {
        let layer = self.layer();
        if layer == 0 {
            return None;
        }
        let half = 1 << (layer - 1);
        Some((Self(self.0 - half), Self(self.0 + half)))
    }

    /// Whether all chunks of `other` are among its own.
    pub const fn contains(self, other: Self) -> bool {
        let leftmost = self.0 & (self.0 + 1);
        let rightmost = (self.0 | (self.0 + 1)) - 1;
        leftmost <= other.0 && other.0 <= rightmost
    }
}

impl fmt::Display for Bin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u64, last: u64) -> ChunkRange {
        ChunkRange::new(ChunkIndex(first), ChunkIndex(last)).unwrap()
    }

    #[test]
    fn bins_of_the_reference() {
        assert_eq!(range(4, 7).to_bin(), Some(Bin(11)));
        assert_eq!(range(6, 7).to_bin(), Some(Bin(13)));
        assert_eq!(range(5, 5).to_bin(), Some(Bin(10)));
        assert_eq!(range(1, 6).bins(), [Bin(2), Bin(5), Bin(9), Bin(12)]);
    }

    #[test]
    fn only_aligned_powers_of_two_are_bins() {
        assert_eq!(range(1, 2).to_bin(), None);
        assert_eq!(range(0, 2).to_bin(), None);
        assert_eq!(range(2, 5).to_bin(), None);
        assert_eq!(range(0, u64::MAX).to_bin(), None);
    }

    #[test]
    fn family_of_a_bin() {
        let bin = Bin(9);
        assert_eq!(
            (bin.layer(), bin.offset(), bin.parent(), bin.sibling()),
            (1, 2, Bin(11), Bin(13))
        );
        assert_eq!(bin.children(), Some((Bin(8), Bin(10))));
        assert_eq!(bin.to_range(), range(4, 5));
        assert!(Bin(7).contains(bin) && !bin.contains(Bin(7)) && bin.is_left());
    }

    #[test]
    fn the_top_of_the_tree_does_not_overflow() {
        let top = Bin::from_layer(Bin::LAYER_MAX - 1, 0);
        assert_eq!(top.to_range(), range(0, Bin::CHUNK_MAX));
        assert_eq!(top.to_range().to_bin(), Some(top));
        assert_eq!(range(0, Bin::CHUNK_MAX).bins(), [top]);
        assert!(range(0, u64::MAX).bins().len() < 127);
        assert_eq!(range(0, u64::MAX).count(), u64::MAX);
    }
}
