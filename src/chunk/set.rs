//! A set of chunks as a sorted list of ranges: what is held, wanted, announced.
//!
//! A live window is a few long runs with some holes, so a short list beats a
//! bitmap, costs the same for 64-bit chunk numbers, and has a natural bound on
//! what a remote can make us hold.

use super::{ChunkIndex, ChunkRange};

/// A set of chunks, kept as disjoint ranges in order that never touch each other.
///
/// Growing the last range or adding one behind it, the whole life of a live
/// edge, costs O(1); any look-up is a binary search.
///
/// # Examples
///
/// ```
/// use p2ps::chunk::{ChunkIndex, ChunkRange, ChunkSet};
///
/// let mut held = ChunkSet::new();
/// assert!(held.insert(ChunkRange::from_count(ChunkIndex::new(4), 3).unwrap()));
/// assert!(held.insert(ChunkRange::single(ChunkIndex::new(7))));
/// assert_eq!(held.range_count(), 1);
/// assert_eq!(held.first_gap_from(ChunkIndex::new(5)), Some(ChunkIndex::new(8)));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChunkSet {
    ranges: Vec<ChunkRange>,
}

impl ChunkSet {
    /// Most separate ranges kept; more holes than that is nothing a neighbour of ours announces in earnest.
    pub const RANGES_MAX: usize = 256;

    /// The empty set.
    pub const fn new() -> Self {
        Self { ranges: Vec::new() }
    }

    /// Whether it holds no chunk.
    pub const fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many separate ranges it takes, at most [`RANGES_MAX`](Self::RANGES_MAX).
    pub const fn range_count(&self) -> usize {
        self.ranges.len()
    }

    /// How many chunks; saturates for all 2^64.
    pub fn chunk_count(&self) -> u64 {
        self.ranges
            .iter()
            .fold(0, |sum, range| range.count().saturating_add(sum))
    }

    /// The ranges in order; between two of them at least one chunk is missing.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = ChunkRange> + ExactSizeIterator + '_ {
        self.ranges.iter().copied()
    }

    /// The lowest chunk.
    pub fn first(&self) -> Option<ChunkIndex> {
        self.ranges.first().map(|range| range.first())
    }

    /// The highest chunk.
    pub fn last(&self) -> Option<ChunkIndex> {
        self.ranges.last().map(|range| range.last())
    }

    /// Adds the chunks of `range`.
    ///
    /// Returns `false`, with the set unchanged, when that would take more than
    /// [`RANGES_MAX`](Self::RANGES_MAX) separate ranges.
    pub fn insert(&mut self, range: ChunkRange) -> bool {
        if let Some(tail) = self.ranges.last_mut()
            && range.first() >= tail.first()
        {
            if reaches(*tail, range.first()) {
                tail.last = tail.last.max(range.last());
                return true;
            }
        } else if !self.ranges.is_empty() {
            return self.insert_inside(range);
        }
        let room = self.ranges.len() < Self::RANGES_MAX;
        if room {
            self.ranges.push(range);
        }
        room
    }

    /// `insert` for a range that begins before the last one kept.
    fn insert_inside(&mut self, range: ChunkRange) -> bool {
        // Those that overlap or touch `range` are one run in the list; they and it become one.
        let start = self
            .ranges
            .partition_point(|kept| kept.last() < range.first() && !reaches(*kept, range.first()));
        let end = self
            .ranges
            .partition_point(|kept| kept.first() <= range.last() || reaches(range, kept.first()));
        match self.ranges.get(start..end) {
            Some([head, ..]) => {
                let tail = self.ranges[end - 1];
                let merged = ChunkRange {
                    first: head.first.min(range.first),
                    last: tail.last.max(range.last),
                };
                self.ranges[start] = merged;
                self.ranges.drain(start + 1..end);
                true
            }
            _ => {
                let room = self.ranges.len() < Self::RANGES_MAX;
                if room {
                    self.ranges.insert(start, range);
                }
                room
            }
        }
    }

    /// Takes the chunks of `range` out.
    ///
    /// A hole in the middle of a full set would need one range too many: then
    /// the shorter of the two remainders goes as well, so that the set never
    /// claims a chunk that was taken out.
    pub fn remove(&mut self, range: ChunkRange) {
        let (start, end) = self.overlapping(range);
        let (Some(head), Some(tail)) = (
            self.ranges.get(start).copied(),
            end.checked_sub(1)
                .filter(|last| *last >= start)
                .and_then(|last| self.ranges.get(last).copied()),
        ) else {
            return;
        };
        let mut left = (head.first < range.first).then(|| ChunkRange {
            first: head.first,
            last: range.first.minus(1),
        });
        let mut right = (tail.last > range.last).then(|| ChunkRange {
            first: range.last.plus(1),
            last: tail.last,
        });
        if let (Some(before), Some(after)) = (left, right)
            && self.ranges.len() - (end - start) + 2 > Self::RANGES_MAX
        {
            if before.count() < after.count() {
                left = None;
            } else {
                right = None;
            }
        }
        self.ranges
            .splice(start..end, left.into_iter().chain(right));
    }

    /// Takes out every chunk below `bound`.
    pub fn discard_below(&mut self, bound: ChunkIndex) {
        let gone = self.ranges.partition_point(|kept| kept.last() < bound);
        self.ranges.drain(..gone);
        if let Some(head) = self.ranges.first_mut() {
            head.first = head.first.max(bound);
        }
    }

    /// Takes everything out.
    pub fn clear(&mut self) {
        self.ranges.clear();
    }

    /// Whether the chunk is in the set.
    pub fn contains(&self, chunk: ChunkIndex) -> bool {
        self.covering(chunk).is_some()
    }

    /// The longest complete run around `chunk`, or `None` when the chunk itself is missing.
    pub fn covering(&self, chunk: ChunkIndex) -> Option<ChunkRange> {
        let at = self.position(chunk);
        self.ranges
            .get(at)
            .copied()
            .filter(|kept| kept.contains(chunk))
    }

    /// The first missing chunk at or after `chunk`; `None` when all up to the last number of all are there.
    pub fn first_gap_from(&self, chunk: ChunkIndex) -> Option<ChunkIndex> {
        match self.covering(chunk) {
            Some(run) => run.last().get().checked_add(1).map(ChunkIndex::new),
            None => Some(chunk),
        }
    }

    /// The chunks of `within` that are missing, in order.
    pub fn gaps(&self, within: ChunkRange) -> Vec<ChunkRange> {
        let mut gaps = Vec::new();
        let mut from = within.first();
        for kept in self.overlapping_ranges(within) {
            if from < kept.first() {
                gaps.push(ChunkRange {
                    first: from,
                    last: kept.first().minus(1),
                });
            }
            if kept.last() >= within.last() {
                return gaps;
            }
            // Cannot saturate: the run ends before the last chunk of `within`.
            from = kept.last().plus(1);
        }
        gaps.push(ChunkRange {
            first: from,
            last: within.last(),
        });
        gaps
    }

    /// Whether any chunk of `range` is in the set.
    pub fn overlaps(&self, range: ChunkRange) -> bool {
        !self.overlapping_ranges(range).is_empty()
    }

    /// The chunks of `range` that are in the set, in order.
    pub fn intersection(&self, range: ChunkRange) -> Vec<ChunkRange> {
        self.overlapping_ranges(range)
            .iter()
            .filter_map(|kept| kept.intersection(range))
            .collect()
    }

    /// Index of the first range that ends at or after `chunk`.
    fn position(&self, chunk: ChunkIndex) -> usize {
        // The live edge is asked for most often.
        match self.ranges.split_last() {
            Some((tail, rest)) if tail.first() <= chunk => {
                rest.len() + usize::from(tail.last() < chunk)
            }
            _ => self.ranges.partition_point(|kept| kept.last() < chunk),
        }
    }

    /// Indices, end excluded, of the ranges that share a chunk with `range`.
    fn overlapping(&self, range: ChunkRange) -> (usize, usize) {
        let start = self.position(range.first());
        let end = self
            .ranges
            .partition_point(|kept| kept.first() <= range.last());
        (start, end)
    }

    fn overlapping_ranges(&self, range: ChunkRange) -> &[ChunkRange] {
        let (start, end) = self.overlapping(range);
        self.ranges.get(start..end).unwrap_or_default()
    }
}

/// Whether `chunk` lies at most one past the end of `range`.
fn reaches(range: ChunkRange, chunk: ChunkIndex) -> bool {
    chunk <= range.last().plus(1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    type Pairs = [(u64, u64)];

    fn range(first: u64, last: u64) -> ChunkRange {
        ChunkRange::new(ChunkIndex::new(first), ChunkIndex::new(last)).unwrap()
    }

    fn set(ranges: &Pairs) -> ChunkSet {
        let mut set = ChunkSet::new();
        for (first, last) in ranges {
            assert!(set.insert(range(*first, *last)));
        }
        set
    }

    fn listed(set: &ChunkSet) -> Vec<(u64, u64)> {
        pairs(set.iter())
    }

    fn pairs(ranges: impl IntoIterator<Item = ChunkRange>) -> Vec<(u64, u64)> {
        ranges
            .into_iter()
            .map(|range| (range.first().get(), range.last().get()))
            .collect()
    }

    #[test]
    fn inserted_ranges_merge_where_they_touch() {
        let table: &[(&Pairs, &Pairs)] = &[
            (&[(1, 2), (3, 4)], &[(1, 4)]),
            (&[(3, 4), (1, 2)], &[(1, 4)]),
            (&[(1, 2), (4, 5)], &[(1, 2), (4, 5)]),
            (&[(4, 5), (1, 2)], &[(1, 2), (4, 5)]),
            (&[(1, 2), (4, 5), (3, 3)], &[(1, 5)]),
            (&[(1, 2), (4, 5), (7, 8), (2, 7)], &[(1, 8)]),
            (&[(1, 2), (4, 5), (7, 8), (0, 20)], &[(0, 20)]),
            (&[(4, 9), (5, 6)], &[(4, 9)]),
            (&[(4, 9), (20, 20), (5, 6)], &[(4, 9), (20, 20)]),
        ];
        for (inserted, held) in table {
            assert_eq!(listed(&set(inserted)), *held, "{inserted:?}");
        }
    }

    #[test]
    fn removed_ranges_split_what_they_cut() {
        let table: &[((u64, u64), &Pairs)] = &[
            ((0, 100), &[]),
            ((12, 15), &[(10, 11), (16, 19), (30, 39)]),
            ((15, 34), &[(10, 14), (35, 39)]),
            ((20, 29), &[(10, 19), (30, 39)]),
            ((0, 10), &[(11, 19), (30, 39)]),
            ((39, 60), &[(10, 19), (30, 38)]),
            ((40, 60), &[(10, 19), (30, 39)]),
        ];
        for (removed, held) in table {
            let mut set = set(&[(10, 19), (30, 39)]);
            set.remove(range(removed.0, removed.1));
            assert_eq!(listed(&set), *held, "{removed:?}");
        }
        let mut empty = ChunkSet::new();
        empty.remove(range(0, u64::MAX));
        assert!(empty.is_empty());
    }

    #[test]
    fn questions_about_runs_and_gaps() {
        let set = set(&[(10, 19), (30, 39)]);
        let at = |number| ChunkIndex::new(number);
        assert_eq!(set.covering(at(9)), None);
        assert_eq!(set.covering(at(10)), Some(range(10, 19)));
        assert_eq!(set.covering(at(39)), Some(range(30, 39)));
        assert_eq!(set.covering(at(40)), None);
        assert_eq!(set.first_gap_from(at(12)), Some(at(20)));
        assert_eq!(set.first_gap_from(at(25)), Some(at(25)));
        assert_eq!(pairs(set.gaps(range(0, 50))), [(0, 9), (20, 29), (40, 50)]);
        assert_eq!(pairs(set.gaps(range(12, 35))), [(20, 29)]);
        assert_eq!(pairs(set.gaps(range(12, 19))), []);
        assert_eq!(pairs(set.intersection(range(15, 31))), [(15, 19), (30, 31)]);
        assert!(set.overlaps(range(19, 25)) && !set.overlaps(range(20, 29)));
        assert_eq!((set.first(), set.last()), (Some(at(10)), Some(at(39))));
        assert_eq!(set.chunk_count(), 20);
    }

    #[test]
    fn the_last_chunk_number_does_not_overflow() {
        let max = u64::MAX;
        let mut set = set(&[(max - 3, max), (max, max)]);
        assert_eq!(listed(&set), [(max - 3, max)]);
        assert_eq!(set.first_gap_from(ChunkIndex::new(max - 1)), None);
        assert_eq!(pairs(set.gaps(range(max - 5, max))), [(max - 5, max - 4)]);
        assert!(set.insert(range(0, max - 4)));
        assert_eq!(listed(&set), [(0, max)]);
        assert_eq!(set.chunk_count(), max);
        set.remove(range(0, max - 1));
        assert_eq!(listed(&set), [(max, max)]);
        set.discard_below(ChunkIndex::MAX);
        assert_eq!(listed(&set), [(max, max)]);
        set.remove(range(max, max));
        assert!(set.is_empty());
    }

    #[test]
    fn a_full_set_refuses_one_more_range_and_stays_as_it_is() {
        let mut set = ChunkSet::new();
        for number in 0..ChunkSet::RANGES_MAX as u64 {
            assert!(set.insert(range(number * 10 + 10, number * 10 + 15)));
        }
        let full = set.clone();
        for refused in [range(0, 1), range(17, 18), range(9_000, 9_001)] {
            assert!(!set.insert(refused), "{refused}");
            assert_eq!(set, full);
        }
        assert!(set.insert(range(15, 16)), "growing a range is no new one");
        set.remove(range(21, 22));
        assert_eq!(set.range_count(), ChunkSet::RANGES_MAX);
        assert!(!set.overlaps(range(20, 22)) && set.contains(ChunkIndex::new(23)));
    }

    #[derive(Clone, Debug)]
    enum Operation {
        Insert(u64, u64),
        Remove(u64, u64),
        DiscardBelow(u64),
    }

    fn operations() -> impl Strategy<Value = Vec<Operation>> {
        let operation = prop_oneof![
            6 => (0..120u64, 0..9u64).prop_map(|(first, more)| Operation::Insert(first, more)),
            3 => (0..120u64, 0..15u64).prop_map(|(first, more)| Operation::Remove(first, more)),
            1 => (0..120u64).prop_map(Operation::DiscardBelow),
        ];
        proptest::collection::vec(operation, 0..60)
    }

    proptest! {
        #[test]
        fn behaves_like_a_plain_set(operations in operations(), high: bool) {
            const SPAN: u64 = 135;
            let base = if high { u64::MAX - SPAN } else { 0 };
            let mut set = ChunkSet::new();
            let mut model = BTreeSet::new();
            for operation in operations {
                match operation {
                    Operation::Insert(first, more) => {
                        prop_assert!(set.insert(range(base + first, base + first + more)));
                        model.extend(base + first..=base + first + more);
                    }
                    Operation::Remove(first, more) => {
                        set.remove(range(base + first, base + first + more));
                        model.retain(|chunk| !(base + first..=base + first + more).contains(chunk));
                    }
                    Operation::DiscardBelow(bound) => {
                        set.discard_below(ChunkIndex::new(base + bound));
                        model.retain(|chunk| *chunk >= base + bound);
                    }
                }
                let held: Vec<u64> = set.iter().flat_map(ChunkRange::iter).map(ChunkIndex::get).collect();
                prop_assert_eq!(&held, &model.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(set.chunk_count(), model.len() as u64);
                prop_assert_eq!(set.last().map(ChunkIndex::get), model.last().copied());
                let list: Vec<_> = set.iter().collect();
                prop_assert!(list.windows(2).all(|pair| pair[0].last().get() + 1 < pair[1].first().get()));
            }
            for number in base..=base + SPAN {
                let chunk = ChunkIndex::new(number);
                prop_assert_eq!(set.contains(chunk), model.contains(&number));
                let gap = (number..=base + SPAN).find(|chunk| !model.contains(chunk));
                let found = set.first_gap_from(chunk).map(ChunkIndex::get);
                prop_assert_eq!(found, gap.or(if high { None } else { Some(base + SPAN + 1) }));
            }
            let within = range(base + 20, base + 90);
            let missing: Vec<_> = set.gaps(within).into_iter().flat_map(ChunkRange::iter).collect();
            let present: Vec<_> = set.intersection(within).into_iter().flat_map(ChunkRange::iter).collect();
            prop_assert_eq!(set.overlaps(within), !present.is_empty());
            for chunk in within.iter() {
                prop_assert_eq!(present.contains(&chunk), model.contains(&chunk.get()));
                prop_assert_eq!(missing.contains(&chunk), !model.contains(&chunk.get()));
            }
        }
    }
}
