//! Was the chunk there when it was due: continuity and stalls of one viewer.
//!
//! Continuity is chunks present at their playback deadline divided by chunks due. Empty chunks (numbers the source
//! never filled) are not due. A stall is a time without output while output was due; it is counted once when it
//! begins, and its time while it lasts, so that a viewer who is stuck right now shows it.

use std::time::Duration;

use crate::time::Instant;

/// Continuity and stalls since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Playback {
    due: u64,
    present: u64,
    stalls: u64,
    stalled: Duration,
    stalled_since: Option<Instant>,
}

impl Playback {
    /// Counts one chunk whose deadline passed, and whether it was there.
    pub const fn on_due(&mut self, present: bool) {
        self.due += 1;
        self.present += present as u64;
    }

    /// Output stopped though it was due; nothing changes when it already had.
    pub const fn on_stalled(&mut self, now: Instant) {
        if self.stalled_since.is_none() {
            self.stalled_since = Some(now);
            self.stalls += 1;
        }
    }

    /// Output goes on; returns how long it was stopped.
    pub fn on_resumed(&mut self, now: Instant) -> Duration {
        let lasted = self.current_stall(now);
        self.stalled += lasted;
        self.stalled_since = None;
        lasted
    }

    /// Whether output is stopped now.
    pub const fn is_stalled(&self) -> bool {
        self.stalled_since.is_some()
    }

    /// Chunks whose deadline passed.
    pub const fn due(&self) -> u64 {
        self.due
    }

    /// Chunks that were there at their deadline.
    pub const fn present(&self) -> u64 {
        self.present
    }

    /// Present divided by due, or nothing before the first deadline.
    pub fn continuity(&self) -> Option<f64> {
        continuity(self.present, self.due)
    }

    /// Stalls begun.
    pub const fn stalls(&self) -> u64 {
        self.stalls
    }

    /// Time stalled, the stall that lasts included.
    pub fn stalled(&self, now: Instant) -> Duration {
        self.stalled + self.current_stall(now)
    }

    fn current_stall(&self, now: Instant) -> Duration {
        self.stalled_since
            .map_or(Duration::ZERO, |since| now - since)
    }
}

/// `present / due`, or nothing when nothing was due.
pub fn continuity(present: u64, due: u64) -> Option<f64> {
    (due > 0).then(|| present.min(due) as f64 / due as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Instant {
        Instant::from_micros(milliseconds * 1000)
    }

    #[test]
    fn continuity_is_present_over_due() {
        let mut playback = Playback::default();
        assert_eq!(playback.continuity(), None);
        for chunk in 0..1000 {
            playback.on_due(chunk % 50 != 0);
        }
        assert_eq!((playback.due(), playback.present()), (1000, 980));
        assert_eq!(playback.continuity(), Some(0.98));
    }

    #[test]
    fn a_stall_counts_once_and_grows_while_it_lasts() {
        let mut playback = Playback::default();
        playback.on_stalled(at(1000));
        playback.on_stalled(at(1200));
        assert_eq!(playback.stalls(), 1);
        assert_eq!(playback.stalled(at(1500)), Duration::from_millis(500));
        assert_eq!(playback.on_resumed(at(1800)), Duration::from_millis(800));
        assert!(!playback.is_stalled());
        playback.on_stalled(at(3000));
        assert_eq!(playback.stalls(), 2);
        assert_eq!(playback.stalled(at(3100)), Duration::from_millis(900));
    }

    #[test]
    fn resuming_without_a_stall_adds_nothing() {
        let mut playback = Playback::default();
        assert_eq!(playback.on_resumed(at(5000)), Duration::ZERO);
        assert_eq!(playback.stalled(at(9000)), Duration::ZERO);
    }
}
