//! Substreams: which chunks of a stream belong together, so that several parents can each push a part of it.
//!
//! Chunk `c` of a stream with `N` substreams is in substream `c mod N` (algorithms §4.3 with K = N and runs of one
//! chunk: leaf hashes travel in one list a munro here, so that longer runs would save nothing). `N` divides the munro
//! width; a munro that is not full is filled from its front, and so is every substream of it.

use super::ChunkIndex;

/// How many substreams a stream is cut into: 1, 2, 4 or 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout(u8);

impl Layout {
    /// The whole stream in one piece.
    pub const WHOLE: Self = Self(1);
    /// Most substreams.
    pub const SUBSTREAMS_MAX: u8 = 8;

    /// A layout of that many substreams, if there is one.
    pub const fn new(substreams: u8) -> Option<Self> {
        match substreams {
            1 | 2 | 4 | 8 => Some(Self(substreams)),
            _ => None,
        }
    }

    /// How many substreams it has.
    pub const fn substreams(self) -> u8 {
        self.0
    }

    /// The substream of a chunk.
    pub const fn substream_of(self, chunk: ChunkIndex) -> u8 {
        (chunk.get() % self.0 as u64) as u8
    }

    /// All substreams of it.
    pub const fn all(self) -> Parts {
        Parts(u8::MAX >> (Self::SUBSTREAMS_MAX - self.0))
    }

    /// The positions in a munro, a bit each, of the chunks in some substreams.
    ///
    /// # Examples
    ///
    /// ```
    /// use p2ps::chunk::{Layout, Parts};
    ///
    /// let layout = Layout::new(4).unwrap();
    /// assert_eq!(layout.places(Parts::from_bits(0b0001)), 0x1111_1111);
    /// assert_eq!(layout.places(layout.all()), u32::MAX);
    /// ```
    pub const fn places(self, parts: Parts) -> u32 {
        let mut places = (parts.0 & self.all().0) as u32;
        let mut width = self.0 as u32;
        while width < u32::BITS {
            places |= places << width;
            width *= 2;
        }
        places
    }
}

impl std::fmt::Display for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Default for Layout {
    fn default() -> Self {
        Self::WHOLE
    }
}

/// A set of substreams; bit `s` stands for substream `s`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Parts(u8);

impl Parts {
    /// No substream.
    pub const NONE: Self = Self(0);
    /// Every substream, however many there are.
    pub const ALL: Self = Self(u8::MAX);

    /// The set with these bits.
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// The bits of the set.
    pub const fn to_bits(self) -> u8 {
        self.0
    }

    /// One substream; none where there are not so many.
    pub const fn one(substream: u8) -> Self {
        match substream < Layout::SUBSTREAMS_MAX {
            true => Self(1 << substream),
            false => Self::NONE,
        }
    }

    /// Whether it is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many substreams are in it.
    pub const fn count(self) -> u32 {
        self.0.count_ones()
    }

    /// Whether a substream is in it.
    pub const fn contains(self, substream: u8) -> bool {
        self.0 & Self::one(substream).0 != 0
    }

    /// What is in either.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in this one alone.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// What is in both.
    #[must_use]
    pub const fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The substreams in it, in order.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..Layout::SUBSTREAMS_MAX).filter(move |substream| self.contains(*substream))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_of_a_munro_is_in_one_substream() {
        for substreams in 0..=u8::MAX {
            let Some(layout) = Layout::new(substreams) else {
                assert!(![1, 2, 4, 8].contains(&substreams));
                continue;
            };
            assert_eq!(layout.all().count(), u32::from(substreams));
            let mut seen = 0;
            for substream in 0..substreams {
                let places = layout.places(Parts::one(substream));
                assert_eq!(seen & places, 0);
                seen |= places;
                for place in 0..32 {
                    let chunk = ChunkIndex::new(32 * 7 + place);
                    let is_in = layout.substream_of(chunk) == substream;
                    assert_eq!(places & 1 << place != 0, is_in);
                }
            }
            assert_eq!(seen, u32::MAX);
            assert_eq!(layout.places(Parts::ALL), u32::MAX);
            assert_eq!(layout.places(Parts::one(substreams)), 0, "there is none");
        }
    }

    #[test]
    fn sets_of_substreams() {
        let (a, b) = (Parts::from_bits(0b0110), Parts::from_bits(0b0011));
        assert_eq!(a.plus(b).to_bits(), 0b0111);
        assert_eq!(a.minus(b).to_bits(), 0b0100);
        assert_eq!(a.common(b).to_bits(), 0b0010);
        assert!(a.minus(Parts::ALL).is_empty() && Parts::one(8).is_empty());
        assert_eq!(a.iter().collect::<Vec<_>>(), [1, 2]);
    }
}
