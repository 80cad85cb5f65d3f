//! What one remote was given on request, and how much more of it there will be (S-15).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::chunk::ChunkIndex;
use crate::store::{MunroIndex, position};
use crate::time::Instant;

/// How often one chunk is served to one remote at once.
const COPIES_AT_ONCE: usize = 3;
/// After that, no sooner than so long after the last time.
const SERVED_AGAIN: Duration = Duration::from_millis(50);
/// A munro of which nothing was served for so long is forgotten: whoever names enough others to bring that about gets
/// three copies in this time, and may have one in each [`SERVED_AGAIN`] anyway.
const FORGET_AFTER: Duration = Duration::from_millis(150);
/// Munros remembered. In the time after which they are forgotten nobody is sent as many.
const MUNROS_MAX: usize = 2048;
/// How often room is made at most.
const TIDY_EACH: Duration = Duration::from_millis(50);
/// The bit of a munro's hashes, behind those of its chunks.
const HASHES: u32 = 32;

/// How often each chunk, and each munro's hashes, were served on request.
#[derive(Debug, Default)]
pub struct Served {
    munros: BTreeMap<MunroIndex, Copies>,
    tidied_at: Option<Instant>,
}

/// What was served of one munro: a bit for each chunk, and one for the hashes.
#[derive(Clone, Copy, Debug)]
struct Copies {
    /// What was served once, twice, three times.
    times: [u64; COPIES_AT_ONCE],
    /// What was served since `since`.
    recent: u64,
    since: Instant,
    last: Instant,
}

impl Served {
    /// Whether a chunk may be served once more; counts it.
    pub fn allow(&mut self, now: Instant, chunk: ChunkIndex) -> bool {
        self.allow_place(now, MunroIndex::of(chunk), position(chunk))
    }

    /// Whether a munro's hashes may be served once more; counts it.
    pub fn allow_munro(&mut self, now: Instant, index: MunroIndex) -> bool {
        self.allow_place(now, index, HASHES)
    }

    /// Whether a chunk was served lately.
    pub fn was_served(&self, chunk: ChunkIndex) -> bool {
        self.munros
            .get(&MunroIndex::of(chunk))
            .is_some_and(|copies| copies.times[0] & (1 << position(chunk)) != 0)
    }

    fn allow_place(&mut self, now: Instant, index: MunroIndex, place: u32) -> bool {
        if !self.munros.contains_key(&index) && !self.has_room(now) {
            return false;
        }
        let copies = self.munros.entry(index).or_insert(Copies {
            times: [0; COPIES_AT_ONCE],
            recent: 0,
            since: now,
            last: now,
        });
        if now - copies.since >= SERVED_AGAIN {
            copies.recent = 0;
            copies.since = now;
        }
        let bit = 1 << place;
        let is_new_copy = copies.times.iter_mut().find(|times| **times & bit == 0);
        match is_new_copy {
            Some(times) => *times |= bit,
            // All that were sent may be lost: whoever still asks later is given it, at a pace that floods nobody.
            None if copies.recent & bit == 0 => {}
            None => return false,
        }
        copies.recent |= bit;
        copies.last = now;
        true
    }

    fn has_room(&mut self, now: Instant) -> bool {
        if self.munros.len() < MUNROS_MAX {
            return true;
        }
        if self.tidied_at.is_none_or(|at| now - at >= TIDY_EACH) {
            self.tidied_at = Some(now);
            self.munros
                .retain(|_, copies| now - copies.last < FORGET_AFTER);
        }
        self.munros.len() < MUNROS_MAX
    }
}

/// How many answers of one kind a remote gets: so many at once, and one more each `pace`.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    /// When all of it would be there again.
    full_at: Instant,
    at_once: u32,
    pace: Duration,
}

impl Allowance {
    /// None of it is used.
    pub const fn new(at_once: u32, pace: Duration) -> Self {
        Self {
            full_at: Instant::ZERO,
            at_once,
            pace,
        }
    }

    /// Takes one; false when there is none.
    pub fn take(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.max(now) + self.pace;
        if full_at - now > self.pace * self.at_once {
            return false;
        }
        self.full_at = full_at;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1_000)
    }

    #[test]
    fn a_chunk_is_served_three_times_at_once_and_then_slowly() {
        let mut served = Served::default();
        let chunk = ChunkIndex::new(64);
        assert_eq!(
            [0, 1, 2, 3, 52, 53, 101, 102].map(|ms| served.allow(at(ms), chunk)),
            [true, true, true, false, true, false, false, true]
        );
        assert!(served.allow(at(102), ChunkIndex::new(65)));
        assert!(served.allow_munro(at(102), MunroIndex::of(chunk)));
        assert!(served.was_served(chunk) && !served.was_served(ChunkIndex::new(66)));
    }

    #[test]
    fn every_copy_asked_for_late_enough_is_served() {
        // Whatever else of the munro is asked for meanwhile.
        let mut served = Served::default();
        for ms in 0..2000 {
            let other = served.allow(at(ms), ChunkIndex::new(1 + ms % 7));
            assert!(other || ms > 20);
            if ms % 50 == 17 {
                assert!(served.allow(at(ms), ChunkIndex::new(0)), "{ms}");
            }
        }
    }

    #[test]
    fn whoever_names_many_chunks_gets_no_more_of_each() {
        let mut served = Served::default();
        let mut copies = 0;
        for round in 0..40 {
            // Asks for the chunk in question, then for enough others to be forgotten if that were possible.
            for _ in 0..10 {
                copies += u32::from(served.allow(at(round * 10), ChunkIndex::ZERO));
            }
            for munro in 1..=6000 {
                let chunk = MunroIndex::new(round * 6000 + munro).first_chunk();
                served.allow(at(round * 10), chunk);
            }
            assert!(served.munros.len() <= MUNROS_MAX);
        }
        // Three at once, and one for each twentieth of a second after that.
        assert!(copies <= 3 + 8, "{copies}");
        assert!(
            served.allow(at(5000), ChunkIndex::new(1 << 40)),
            "room again"
        );
    }

    #[test]
    fn an_allowance_is_used_up_and_comes_back_at_its_pace() {
        let mut allowance = Allowance::new(3, Duration::from_secs(1));
        let taken = [1, 2, 3, 4, 900, 1002, 1003, 9000, 9001, 9002, 9003];
        assert_eq!(
            taken.map(|ms| allowance.take(at(ms))),
            [
                true, true, true, false, false, true, false, true, true, true, false
            ]
        );
    }
}
