//! When an input is read that need not be watched: seldom, and in time.
//!
//! A source needs what it reads when a munro fills or its time is up, and waking up for every few bytes of an encoder
//! costs it more than all else that it does. So between reads the input is left alone while media flows, and watched
//! when it does not, so that the first byte after a pause is seen as it comes.

use std::time::Duration;

use crate::time::{Instant, micros};

/// What comes within this share of the sign delay before a munro is signed may have come at any moment of it.
const LOOK_SHARE: u32 = 8;
/// Bounds of that span.
const LOOK_MIN: Duration = Duration::from_millis(1);
const LOOK_MAX: Duration = Duration::from_millis(10);
/// So many reads in a row that left nothing of a chunk, and none is expected to.
const EVEN_READS: u32 = 8;
/// Less than this is not worth leaving the input alone.
const PAUSE_MIN: Duration = Duration::from_millis(1);

/// The plan of one input.
#[derive(Clone, Debug)]
pub struct Gather {
    look: Duration,
    /// When the input was read last.
    read_at: Instant,
    /// Whether the input is watched since then.
    watched: bool,
    /// Whether a pause has just ended: what follows may be much at once.
    fresh: bool,
    /// Whether the last read found nothing.
    idle: bool,
    /// Reads in a row that ended with a full chunk.
    even: u32,
    rate: Option<u64>,
    counted_since: Instant,
    counted_bytes: u64,
}

impl Gather {
    /// For munros that are signed this long after their first byte.
    pub fn new(sign_delay: Duration) -> Self {
        Self {
            look: (sign_delay / LOOK_SHARE).clamp(LOOK_MIN, LOOK_MAX),
            read_at: Instant::ZERO,
            watched: true,
            fresh: true,
            idle: true,
            even: 0,
            rate: None,
            counted_since: Instant::ZERO,
            counted_bytes: 0,
        }
    }

    /// The earliest moment at which what is read now can have come.
    pub const fn since(&self, now: Instant) -> Instant {
        if self.watched { now } else { self.read_at }
    }

    /// Bytes a second that came lately, when there was time to tell.
    pub const fn rate(&self) -> Option<u64> {
        self.rate
    }

    /// The input was read dry, and gave so many bytes.
    pub fn note(&mut self, now: Instant, bytes: u64) {
        self.fresh = self.watched && (self.idle || now - self.read_at >= self.look);
        self.idle = bytes == 0;
        self.read_at = now;
        if self.idle || self.fresh {
            // When the bytes of this read came is not known.
            self.counted_since = now;
            self.counted_bytes = 0;
            return;
        }
        self.counted_bytes += bytes;
        let span = now - self.counted_since;
        if span >= self.look {
            self.rate = Some(self.counted_bytes.saturating_mul(1_000_000) / micros(span).max(1));
            self.counted_since = now;
            self.counted_bytes = 0;
        }
    }

    /// When to read next, given when the open munro will be signed if media goes on as it did, and whether there is
    /// something left of a chunk; `None` to watch the input.
    pub fn next(&mut self, now: Instant, due: Instant, has_partial: bool) -> Option<Instant> {
        self.even = if has_partial {
            0
        } else {
            self.even.saturating_add(1)
        };
        let look = if self.fresh {
            now + self.look
        } else if self.even < EVEN_READS {
            // What is left of a chunk when the munro is signed may not be as old as the munro: so it is read just before.
            due.saturating_sub(self.look)
        } else {
            due
        };
        let at = if look >= now + PAUSE_MIN {
            look.min(due)
        } else {
            due
        };
        let next = Some(at).filter(|&at| !self.idle && at >= now + PAUSE_MIN);
        self.watched = next.is_none();
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_millis(20);

    fn at(micros: u64) -> Instant {
        Instant::from_micros(micros)
    }

    /// A gatherer that has read an even stream of 8 Mbit/s for a while, last at 1 s.
    fn flowing(has_partial: bool) -> Gather {
        let mut gather = Gather::new(DELAY);
        for round in 1..=50 {
            let now = at(round * 20_000);
            gather.note(now, 20_000);
            gather.next(now, now + DELAY, has_partial);
        }
        gather
    }

    #[test]
    fn while_media_flows_it_is_read_once_a_munro() {
        let mut gather = flowing(false);
        assert_eq!(gather.rate(), Some(1_000_000));
        assert_eq!(gather.since(at(1_020_000)), at(1_000_000));
        gather.note(at(1_020_000), 20_000);
        assert_eq!(
            gather.next(at(1_020_000), at(1_040_000), false),
            Some(at(1_040_000))
        );
    }

    #[test]
    fn where_chunks_stay_open_it_is_read_shortly_before_as_well() {
        let mut gather = flowing(true);
        gather.note(at(1_020_000), 20_000);
        assert_eq!(
            gather.next(at(1_020_000), at(1_040_000), true),
            Some(at(1_037_500))
        );
        gather.note(at(1_037_500), 17_500);
        assert_eq!(
            gather.next(at(1_037_500), at(1_040_000), true),
            Some(at(1_040_000))
        );
        // What comes now is at most so old.
        assert_eq!(gather.since(at(1_040_000)), at(1_037_500));
    }

    #[test]
    fn when_nothing_comes_it_is_watched() {
        let mut gather = flowing(false);
        gather.note(at(1_020_000), 0);
        assert_eq!(gather.next(at(1_020_000), at(1_040_000), false), None);
        // The first byte after the pause is seen when it comes, and what follows it soon: it may be much.
        assert_eq!(gather.since(at(1_300_000)), at(1_300_000));
        gather.note(at(1_300_000), 1316);
        assert_eq!(
            gather.next(at(1_300_000), at(1_320_000), false),
            Some(at(1_302_500))
        );
    }

    #[test]
    fn what_is_due_at_once_is_watched() {
        // A writer without end fills munros faster than it is worth to wait.
        let mut gather = flowing(false);
        gather.note(at(1_020_000), 4_000_000);
        assert_eq!(gather.rate(), Some(200_000_000));
        assert_eq!(gather.next(at(1_020_000), at(1_020_200), false), None);
        assert_eq!(gather.since(at(1_020_300)), at(1_020_300));
    }

    #[test]
    fn short_delays_are_watched_throughout() {
        let mut gather = Gather::new(Duration::from_millis(1));
        for round in 1..=50 {
            let now = at(round * 1_000);
            gather.note(now, 1316);
            assert_eq!(
                gather.next(now, now + Duration::from_micros(999), false),
                None
            );
        }
    }
}
