//! The live window: what is held of a stream, by munro, with discard from the back (RFC 7574 §6.2).
//!
//! Only proven things get in ([`SignedMunro`], [`Proven`]); payloads stay slices of the datagrams they came in. Who may
//! have them and when they are due is decided elsewhere ([`playout`] for the player).

pub mod filed;
pub mod playout;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::chunk::{ChunkIndex, ChunkRange, ChunkSet};
use crate::integrity::Proven;
use crate::integrity::live::{MUNRO_WIDTH, MunroTree, SignedMunro};
use crate::time::{Instant, NtpTime};

/// Munros kept at most, whatever their age: an hour of 20 ms munros would be 180 000.
pub const SLOTS_MAX: usize = 32_768;

/// Which munro of a stream, counted from chunk 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MunroIndex(u64);

impl MunroIndex {
    /// Munro number `number`.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The munro a chunk belongs to.
    pub const fn of(chunk: ChunkIndex) -> Self {
        Self(chunk.get() / MUNRO_WIDTH)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The munro `count` further on.
    #[must_use]
    pub const fn plus(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }

    /// The munro `count` before, or the first.
    #[must_use]
    pub const fn minus(self, count: u64) -> Self {
        Self(self.0.saturating_sub(count))
    }

    /// Its chunks.
    pub const fn chunks(self) -> ChunkRange {
        let first = self.0.saturating_mul(MUNRO_WIDTH);
        ChunkRange::from_count(ChunkIndex::new(first), MUNRO_WIDTH)
            .expect("a munro made from a chunk number ends before the numbers do")
    }

    /// Its first chunk.
    pub const fn first_chunk(self) -> ChunkIndex {
        self.chunks().first()
    }

    /// Its chunk at `position`.
    pub const fn chunk_at(self, position: u32) -> ChunkIndex {
        self.first_chunk().plus(position as u64)
    }
}

/// The position of a chunk in its munro.
pub const fn position(chunk: ChunkIndex) -> u32 {
    (chunk.get() % MUNRO_WIDTH) as u32
}

/// One munro of the window.
#[derive(Clone, Debug)]
pub struct Slot {
    index: MunroIndex,
    munro: SignedMunro,
    tree: MunroTree,
    arrived: Instant,
    /// Chunks that are not known to be empty.
    filled: u32,
    /// Chunks that are proven and here; empty ones count.
    held: u32,
    /// Chunks a player can start at.
    entries: u32,
    /// Payloads by position, up to the last one held.
    payloads: Vec<Bytes>,
}

impl Slot {
    /// Which munro.
    pub const fn index(&self) -> MunroIndex {
        self.index
    }

    /// The signed root.
    pub const fn munro(&self) -> &SignedMunro {
        &self.munro
    }

    /// When the signature arrived or was made.
    pub const fn arrived(&self) -> Instant {
        self.arrived
    }

    /// The source's clock at signing.
    pub const fn signed_at(&self) -> NtpTime {
        self.munro.time()
    }

    /// The hashes below it, as far as known.
    pub const fn tree(&self) -> &MunroTree {
        &self.tree
    }

    /// Chunks with bytes in them, as far as known.
    pub const fn filled_mask(&self) -> u32 {
        self.filled
    }

    /// Chunks held, empty ones included.
    pub const fn held_mask(&self) -> u32 {
        self.held
    }

    /// Chunks held that have bytes in them.
    pub const fn payload_mask(&self) -> u32 {
        self.held & self.filled
    }

    /// Chunks still missing.
    pub const fn missing_mask(&self) -> u32 {
        !self.held
    }

    /// Whether nothing is missing.
    pub const fn is_complete(&self) -> bool {
        self.held == u32::MAX
    }

    /// Whether the source closed the stream with it: complete and all empty.
    pub const fn is_end_mark(&self) -> bool {
        self.held == u32::MAX && self.filled == 0
    }

    /// The first chunk in it that a player can start at.
    pub const fn entry(&self) -> Option<u32> {
        if self.entries == 0 {
            None
        } else {
            Some(self.entries.trailing_zeros())
        }
    }

    /// Whether a player can start at the chunk at `position`.
    pub const fn is_entry(&self, position: u32) -> bool {
        position < 32 && self.entries & (1 << position) != 0
    }

    /// The bytes of the chunk at `position`, when held; empty chunks have none.
    pub fn payload(&self, position: u32) -> Option<&Bytes> {
        if position >= 32 || self.held & (1 << position) == 0 {
            return None;
        }
        static NOTHING: Bytes = Bytes::new();
        Some(self.payloads.get(position as usize).unwrap_or(&NOTHING))
    }
}

/// What [`Window::insert`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// A munro that was not there.
    New,
    /// The same munro again.
    Known,
    /// Another hash for a munro that is there: the source signed twice (S-09).
    Conflict,
    /// Behind the window.
    TooOld,
}

/// The live window of one stream.
#[derive(Debug)]
pub struct Window {
    span: Duration,
    slots: VecDeque<Slot>,
    complete: ChunkSet,
    newest_signed: Option<NtpTime>,
    payload_bytes: u64,
    /// Nothing below this is taken any more.
    floor: MunroIndex,
}

impl Window {
    /// An empty window that keeps munros signed up to `span` before the newest.
    pub fn new(span: Duration) -> Self {
        Self {
            span,
            slots: VecDeque::new(),
            complete: ChunkSet::default(),
            newest_signed: None,
            payload_bytes: 0,
            floor: MunroIndex(0),
        }
    }

    /// Payload bytes held.
    pub const fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    /// The newest signed time.
    pub const fn newest_signed(&self) -> Option<NtpTime> {
        self.newest_signed
    }

    /// The first munro that would still be taken in.
    pub const fn floor(&self) -> MunroIndex {
        self.floor
    }

    /// Munros in order.
    pub fn slots(&self) -> impl DoubleEndedIterator<Item = &Slot> {
        self.slots.iter()
    }

    /// Munros in order from `from` on.
    pub fn slots_from(&self, from: MunroIndex) -> impl Iterator<Item = &Slot> {
        let at = self.slots.partition_point(|slot| slot.index < from);
        self.slots.range(at..)
    }

    /// The oldest munro held.
    pub fn oldest(&self) -> Option<&Slot> {
        self.slots.front()
    }

    /// The newest munro held.
    pub fn newest(&self) -> Option<&Slot> {
        self.slots.back()
    }

    /// The chunks of complete munros.
    pub const fn complete(&self) -> &ChunkSet {
        &self.complete
    }

    /// One munro.
    pub fn slot(&self, index: MunroIndex) -> Option<&Slot> {
        self.find(index).ok().and_then(|at| self.slots.get(at))
    }

    /// Whether a chunk is held.
    pub fn holds(&self, chunk: ChunkIndex) -> bool {
        self.slot(MunroIndex::of(chunk))
            .is_some_and(|slot| slot.held & (1 << position(chunk)) != 0)
    }

    /// Where munro `index` is or belongs. Streams are dense, so the guess by distance from the newest nearly always hits.
    fn find(&self, index: MunroIndex) -> Result<usize, usize> {
        if let Some(newest) = self.slots.back() {
            let Some(back) = newest.index.0.checked_sub(index.0) else {
                return Err(self.slots.len());
            };
            if let Some(at) =
                (self.slots.len() - 1).checked_sub(usize::try_from(back).unwrap_or(usize::MAX))
                && self.slots.get(at).is_some_and(|slot| slot.index == index)
            {
                return Ok(at);
            }
        }
        self.slots.binary_search_by_key(&index, |slot| slot.index)
    }

    /// Takes a signed munro in; its chunks follow by [`put`](Self::put). Empty chunks count as held at once.
    pub fn insert(&mut self, now: Instant, munro: SignedMunro, tree: MunroTree) -> Inserted {
        let index = MunroIndex::of(munro.range().first());
        if index < self.floor || self.is_too_old(munro.time()) {
            return Inserted::TooOld;
        }
        let at = match self.find(index) {
            Ok(at) => return self.merge(at, &munro, tree),
            Err(at) => at,
        };
        let (filled, held) = masks(&tree);
        self.newest_signed = Some(match self.newest_signed {
            Some(newest) if munro.time().micros_since(newest) < 0 => newest,
            _ => munro.time(),
        });
        let payloads = Vec::with_capacity((32 - filled.leading_zeros()) as usize);
        let slot = Slot {
            index,
            munro,
            tree,
            arrived: now,
            filled,
            held,
            entries: 0,
            payloads,
        };
        if slot.is_complete() {
            self.complete.insert(index.chunks());
        }
        self.slots.insert(at, slot);
        self.discard();
        Inserted::New
    }

    /// A munro that is there came again, perhaps with more hashes than were known.
    fn merge(&mut self, at: usize, munro: &SignedMunro, tree: MunroTree) -> Inserted {
        let Some(slot) = self.slots.get_mut(at) else {
            return Inserted::TooOld;
        };
        if slot.munro.root() != munro.root() {
            return Inserted::Conflict;
        }
        if tree.is_complete() && !slot.tree.is_complete() {
            let (filled, held) = masks(&tree);
            slot.filled = filled;
            slot.held |= held;
            slot.tree = tree;
            if slot.is_complete() {
                self.complete.insert(slot.index.chunks());
            }
        }
        Inserted::Known
    }

    /// Takes a proven chunk in; true when it was missing.
    pub fn put(&mut self, proven: Proven) -> bool {
        let chunk = proven.chunk();
        let index = MunroIndex::of(chunk);
        let Ok(at) = self.find(index) else {
            return false;
        };
        let Some(slot) = self.slots.get_mut(at) else {
            return false;
        };
        let place = position(chunk);
        let bit = 1 << place;
        if slot.held & bit != 0 {
            return false;
        }
        let payload = proven.into_payload();
        slot.held |= bit;
        self.payload_bytes += payload.len() as u64;
        if payload.is_empty() {
            slot.filled &= !bit;
        } else {
            let place = place as usize;
            if slot.payloads.len() <= place {
                slot.payloads.resize(place + 1, Bytes::new());
            }
            if let Some(room) = slot.payloads.get_mut(place) {
                *room = payload;
            }
        }
        if slot.is_complete() {
            self.complete.insert(index.chunks());
        }
        true
    }

    /// The tree of a munro, to prove chunks with.
    pub fn tree_mut(&mut self, index: MunroIndex) -> Option<&mut MunroTree> {
        let at = self.find(index).ok()?;
        Some(&mut self.slots.get_mut(at)?.tree)
    }

    /// Notes that a player can start at a chunk.
    pub fn mark_entry(&mut self, chunk: ChunkIndex) {
        if let Ok(at) = self.find(MunroIndex::of(chunk))
            && let Some(slot) = self.slots.get_mut(at)
        {
            slot.entries |= 1 << position(chunk);
        }
    }

    /// The newest munro with a place a player can start at.
    pub fn newest_entry(&self) -> Option<&Slot> {
        self.slots.iter().rev().find(|slot| slot.entries != 0)
    }

    /// The biggest complete run of chunks around a munro, as HAVE wants it (RFC 7574 §3.2).
    pub fn complete_around(&self, index: MunroIndex) -> Option<ChunkRange> {
        self.complete.covering(index.first_chunk())
    }

    /// Whether something signed then has no place here any more.
    pub fn is_too_old(&self, signed: NtpTime) -> bool {
        self.newest_signed.is_some_and(|newest| {
            newest.micros_since(signed) > i64::try_from(self.span.as_micros()).unwrap_or(i64::MAX)
        })
    }

    /// Drops what is older than the span, and the oldest beyond [`SLOTS_MAX`].
    fn discard(&mut self) {
        while let Some(oldest) = self.slots.front() {
            if self.slots.len() <= SLOTS_MAX && !self.is_too_old(oldest.munro.time()) {
                break;
            }
            let Some(slot) = self.slots.pop_front() else {
                break;
            };
            self.payload_bytes -= slot
                .payloads
                .iter()
                .map(|payload| payload.len() as u64)
                .sum::<u64>();
            self.floor = slot.index.plus(1);
        }
        // A run of complete munros may begin before the window (RFC 7574 §6.2), but not without end.
        if self.complete.range_count() > 64
            && let Some(oldest) = self.slots.front()
        {
            self.complete.discard_below(oldest.index.first_chunk());
        }
    }
}

/// Which chunks may have bytes in them, and which are known to be empty and so held already.
fn masks(tree: &MunroTree) -> (u32, u32) {
    let mut empty = 0;
    for (place, chunk) in tree.range().iter().take(32).enumerate() {
        if tree.leaf(chunk).is_some_and(|leaf| leaf.is_empty()) {
            empty |= 1 << place;
        }
    }
    (!empty, empty)
}

#[cfg(test)]
mod tests;
