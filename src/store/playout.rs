//! In-order release to the player: what is due when, what is skipped, when the player runs dry.
//!
//! A munro is due at its signed time, plus the smallest (arrival − signed time) of the last 30 s, plus the wanted
//! latency. Clocks need not agree: only differences of the signed time count.

use std::time::Duration;

use bytes::Bytes;

use super::{MunroIndex, Slot, Window, position};
use crate::chunk::{ChunkIndex, ChunkRange};
use crate::time::{Instant, NtpTime, micros};

/// One bucket a second, thirty of them.
const OFFSET_BUCKETS: usize = 30;
const BUCKET_US: u64 = 1_000_000;
/// A newcomer is given what is in the window before the stream itself: for this long the offsets may fall as it catches up.
const CATCH_UP_SPAN: Duration = Duration::from_secs(5);
/// A fall of the smallest offset by this much is catching up, and not jitter.
const CATCH_UP_FALL_US: i64 = 5_000;
/// From one munro to the next nothing but the source's clock makes up this much time: delay goes away bit by bit.
const JUMP_US: i64 = 2_000_000;
/// A player that gets nothing for this long beyond the usual spacing has run dry.
const STALL_LEAST: Duration = Duration::from_millis(100);

/// What to release, and how to treat holes.
#[derive(Clone, Copy, Debug)]
pub struct PlayoutConfig {
    /// How long after the earliest possible moment a chunk is due.
    pub latency: Duration,
    /// Whether a chunk that is missing when due is skipped; otherwise everything waits for it.
    pub skip: bool,
}

/// One step of the player's stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Release {
    /// The next bytes.
    Media {
        /// Which chunk.
        chunk: ChunkIndex,
        /// Its bytes, never empty.
        payload: Bytes,
        /// Whether a player can start here.
        entry: bool,
    },
    /// Chunks that existed and did not come in time.
    Lost {
        /// The chunks passed over, empty ones included where their munro never came.
        range: ChunkRange,
        /// How many of them are known or reckoned to have had bytes.
        chunk_count: u64,
    },
    /// Numbers that the source never used.
    Jump(ChunkRange),
    /// The player has run dry.
    Stalled,
    /// Media again, after this long without.
    Resumed(Duration),
    /// The source closed the stream here.
    Ended,
}

/// The player's clock and place in the stream.
#[derive(Debug)]
pub struct Playout {
    config: PlayoutConfig,
    next: Option<ChunkIndex>,
    /// Where it was started.
    start: Option<ChunkIndex>,
    base: Option<NtpTime>,
    offsets_us: [i64; OFFSET_BUCKETS],
    bucket: u64,
    /// The munro furthest on: its number, offset and signed time.
    newest: Option<(MunroIndex, i64, NtpTime)>,
    /// The first munro after the source's clock was set, and the offset of those before.
    set_at: Option<(MunroIndex, i64)>,
    started: Option<Instant>,
    /// Nothing is skipped before this.
    hold_until: Instant,
    last_due: Option<Instant>,
    last_release: Instant,
    interval: Duration,
    last_filled: u32,
    stalled_since: Option<Instant>,
    ended: bool,
}

impl Playout {
    /// A player that has not started.
    pub const fn new(config: PlayoutConfig) -> Self {
        Self {
            config,
            next: None,
            start: None,
            base: None,
            offsets_us: [i64::MAX; OFFSET_BUCKETS],
            bucket: 0,
            newest: None,
            set_at: None,
            started: None,
            hold_until: Instant::ZERO,
            last_due: None,
            last_release: Instant::ZERO,
            interval: Duration::ZERO,
            last_filled: 1,
            stalled_since: None,
            ended: false,
        }
    }

    /// The next chunk to release, once started.
    pub const fn next(&self) -> Option<ChunkIndex> {
        self.next
    }

    /// The wanted latency.
    pub const fn latency(&self) -> Duration {
        self.config.latency
    }

    /// Whether what is missing when due is passed over.
    pub const fn skips(&self) -> bool {
        self.config.skip
    }

    /// Starts at a chunk; later calls change nothing.
    pub const fn start_at(&mut self, chunk: ChunkIndex) {
        if self.next.is_none() {
            self.next = Some(chunk);
            self.start = Some(chunk);
        }
    }

    /// Moves the start back, as long as nothing was released or passed over.
    pub fn start_earlier(&mut self, chunk: ChunkIndex) {
        if self.next.is_some_and(|next| chunk < next) && self.next == self.start {
            self.next = Some(chunk);
            self.start = Some(chunk);
        }
    }

    /// Takes note of a munro that arrived, for the clock.
    pub fn observe(&mut self, now: Instant, slot: &Slot) {
        let base = *self.base.get_or_insert_with(|| slot.signed_at());
        let offset_us = now.as_micros() as i64 - slot.signed_at().micros_since(base);
        let bucket = now.as_micros() / BUCKET_US;
        let passed = bucket
            .saturating_sub(self.bucket)
            .min(OFFSET_BUCKETS as u64);
        for step in 0..passed {
            self.offsets_us[((bucket - step) % OFFSET_BUCKETS as u64) as usize] = i64::MAX;
        }
        self.bucket = self.bucket.max(bucket);
        self.notice_set_clock(slot, offset_us);
        if self.set_at.is_some_and(|(first, _)| slot.index() < first) {
            return;
        }
        // The backlog is overdue as soon as the first new munro shows how late it is: its holes get the whole latency.
        let least_us = self.offsets_us.iter().copied().min().unwrap_or(i64::MAX);
        if now - *self.started.get_or_insert(now) < CATCH_UP_SPAN
            && offset_us < least_us.saturating_sub(CATCH_UP_FALL_US)
        {
            self.hold_until = now + self.config.latency;
        }
        let room = &mut self.offsets_us[(bucket % OFFSET_BUCKETS as u64) as usize];
        *room = offset_us.min(*room);
    }

    /// A source that was started anew may have another clock: what is signed by it has an offset of its own. Set forward
    /// it would make all that was signed before overdue at once, set back all that is signed now, for as long as the
    /// smallest offset is remembered.
    fn notice_set_clock(&mut self, slot: &Slot, offset_us: i64) {
        if let Some((newest, last_us, signed)) = self.newest {
            if slot.index() <= newest {
                return;
            }
            let is_set_back = slot.signed_at().micros_since(signed) < 0;
            if is_set_back || offset_us < last_us.saturating_sub(JUMP_US) {
                let least_us = self.offsets_us.iter().copied().min().unwrap_or(i64::MAX);
                self.set_at = Some((slot.index(), least_us));
                self.offsets_us = [i64::MAX; OFFSET_BUCKETS];
            }
        }
        self.newest = Some((slot.index(), offset_us, slot.signed_at()));
    }

    /// When a munro is due.
    pub fn due(&self, slot: &Slot) -> Instant {
        let offset_us = match self.set_at {
            Some((first, before_us)) if slot.index() < first => Some(before_us),
            _ => self.offsets_us.iter().copied().min(),
        };
        let (Some(base), Some(offset_us)) = (self.base, offset_us) else {
            return Instant::ZERO;
        };
        if offset_us == i64::MAX {
            // Nothing arrived for 30 s: whatever is there is long due.
            return Instant::ZERO;
        }
        let due_us = slot
            .signed_at()
            .micros_since(base)
            .saturating_add(offset_us)
            .saturating_add(micros(self.config.latency) as i64);
        // Whichever clock signed it, it is not due later than if it had come first of all.
        Instant::from_micros(due_us.max(0).unsigned_abs()).min(slot.arrived() + self.config.latency)
    }

    /// The next step, when there is one now. `announced` tells whether any neighbour ever had one of the chunks,
    /// `followed` whether any of them may still be given.
    pub fn poll(
        &mut self,
        now: Instant,
        window: &Window,
        announced: impl Fn(ChunkRange) -> bool,
        followed: impl Fn(ChunkRange) -> bool,
    ) -> Option<Release> {
        if self.ended {
            return None;
        }
        loop {
            let next = self.next?;
            let index = MunroIndex::of(next);
            let Some(slot) = window.slots_from(index).next() else {
                return self.run_dry(now);
            };
            let due = self.due(slot);
            if now < due {
                return None;
            }
            if slot.index() != index {
                return self.pass_gap(now, next, slot, window, announced, followed);
            }
            if slot.is_end_mark() {
                self.ended = true;
                return Some(Release::Ended);
            }
            if let Some(since) = self.stalled_since
                && self.can_go_on(slot, position(next))
            {
                self.stalled_since = None;
                return Some(Release::Resumed(now - since));
            }
            self.note_due(due, slot);
            let place = position(next);
            match slot.payload(place) {
                Some(payload) => {
                    self.next = Some(next.plus(1));
                    if !payload.is_empty() {
                        self.last_release = now;
                        let (payload, entry) = (payload.clone(), slot.is_entry(place));
                        return Some(Release::Media {
                            chunk: next,
                            payload,
                            entry,
                        });
                    }
                }
                None if self.config.skip && now < self.hold_until => return None,
                None if self.config.skip => {
                    self.next = Some(next.plus(1));
                    return Some(Release::Lost {
                        range: ChunkRange::single(next),
                        chunk_count: 1,
                    });
                }
                None => return self.run_dry(now),
            }
        }
    }

    /// When to ask again if nothing arrives before.
    pub fn deadline(&self, now: Instant, window: &Window) -> Option<Instant> {
        if self.ended {
            return None;
        }
        let index = MunroIndex::of(self.next?);
        let due = window.slots_from(index).next().map(|slot| self.due(slot));
        match due {
            Some(due) if due > now => Some(due),
            Some(_) if now < self.hold_until => Some(self.hold_until),
            _ => self
                .dry_at()
                .filter(|_| self.stalled_since.is_none())
                .map(|at| at.max(now)),
        }
    }

    /// How much media is waiting for its time.
    pub fn buffered(&self, window: &Window) -> Duration {
        let Some(next) = self.next else {
            return Duration::ZERO;
        };
        let mut ahead = window.slots_from(MunroIndex::of(next));
        match (ahead.next(), window.newest()) {
            (Some(first), Some(newest)) => Duration::from_micros(
                newest
                    .signed_at()
                    .micros_since(first.signed_at())
                    .max(0)
                    .unsigned_abs(),
            ),
            _ => Duration::ZERO,
        }
    }

    /// Whether the player has run dry.
    pub const fn is_stalled(&self) -> bool {
        self.stalled_since.is_some()
    }

    /// Whether the end mark was reached.
    pub const fn has_ended(&self) -> bool {
        self.ended
    }

    /// After the end mark: goes on with whatever comes next (`--on-end wait`).
    pub const fn go_on(&mut self) {
        if self.ended {
            self.ended = false;
            if let Some(next) = self.next {
                self.next = Some(MunroIndex::of(next).plus(1).first_chunk());
            }
        }
    }

    /// Whether bytes will come out of a munro from a position on, without waiting for a hole before them.
    const fn can_go_on(&self, slot: &Slot, place: u32) -> bool {
        let payloads = slot.payload_mask() >> place;
        let before_hole = (slot.held_mask() >> place).trailing_ones();
        payloads != 0 && (self.config.skip || payloads.trailing_zeros() < before_hole)
    }

    fn note_due(&mut self, due: Instant, slot: &Slot) {
        if let Some(last) = self.last_due
            && due > last
        {
            self.interval = (due - last).min(Duration::from_secs(2));
        }
        self.last_due = Some(due);
        self.last_filled = slot.filled_mask().count_ones().max(1);
    }

    /// Nothing is due: has the player waited longer than the usual spacing?
    fn run_dry(&mut self, now: Instant) -> Option<Release> {
        if self.stalled_since.is_none() && self.dry_at().is_some_and(|at| now >= at) {
            self.stalled_since = Some(now);
            return Some(Release::Stalled);
        }
        None
    }

    fn dry_at(&self) -> Option<Instant> {
        self.last_due
            .map(|due| due.max(self.last_release) + STALL_LEAST.max(self.interval * 4))
    }

    /// The munro of `next` is not here and a later one is due.
    fn pass_gap(
        &mut self,
        now: Instant,
        next: ChunkIndex,
        behind: &Slot,
        window: &Window,
        announced: impl Fn(ChunkRange) -> bool,
        followed: impl Fn(ChunkRange) -> bool,
    ) -> Option<Release> {
        let gap = ChunkRange::new(next, behind.index().first_chunk().minus(1))?;
        let existed = announced(gap);
        let gone = MunroIndex::of(next) < window.floor();
        if existed && !self.config.skip && !gone && followed(gap) {
            return self.run_dry(now);
        }
        if existed && now < self.hold_until {
            return None;
        }
        self.next = Some(behind.index().first_chunk());
        if !existed {
            return Some(Release::Jump(gap));
        }
        let munros = behind.index().get() - MunroIndex::of(next).get();
        Some(Release::Lost {
            range: gap,
            chunk_count: munros.saturating_mul(u64::from(self.last_filled)),
        })
    }
}
