//! What a remote did wrong, and what that costs it.
//!
//! Only what nobody else can have caused costs a strike: a chunk that fails a leaf already proven, a munro whose
//! signature fails although the channel is ours alone. Everything else is dropped and counted.

use std::time::Duration;

use crate::time::Instant;

/// A message that was well formed and not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A range with its end before its start, or wider than any window.
    #[error("bad range {first}..{last}")]
    BadRange {
        /// First chunk named.
        first: u64,
        /// Last chunk named.
        last: u64,
    },
    /// A chunk that was neither requested nor subscribed to.
    #[error("unrequested chunk {0}")]
    Unrequested(u64),
    /// A chunk whose bytes do not match its proven hash.
    #[error("chunk {0} failed its hash")]
    BadChunk(u64),
    /// A munro whose signature does not hold.
    #[error("munro at chunk {0} failed its signature")]
    BadMunro(u64),
    /// The chunk source signed two different munros for one range.
    #[error("munro at chunk {0} was signed twice with different hashes")]
    Equivocation(u64),
    /// An acknowledgement of chunks that were never sent.
    #[error("acknowledged chunk {0} which was never sent")]
    BadAck(u64),
    /// A signature that does not prove the key it names.
    #[error("the proof of its key does not hold")]
    BadProof,
    /// An announcement of more than can be kept.
    #[error("too many ranges announced")]
    TooManyRanges,
}

/// Strikes that cost a remote its channel.
pub const STRIKES_MAX: usize = 3;
/// How long a strike counts.
pub const STRIKE_SPAN: Duration = Duration::from_secs(60);

/// The recent strikes of one channel.
#[derive(Clone, Debug, Default)]
pub struct Strikes {
    at: [Option<Instant>; STRIKES_MAX],
}

impl Strikes {
    /// Notes one; true when that was the last one allowed.
    pub fn strike(&mut self, now: Instant) -> bool {
        self.at.rotate_right(1);
        self.at[0] = Some(now);
        self.at
            .iter()
            .all(|at| at.is_some_and(|at| now - at <= STRIKE_SPAN))
    }

    /// Strikes that still count.
    pub fn count(&self, now: Instant) -> usize {
        self.at
            .iter()
            .filter(|at| at.is_some_and(|at| now - at <= STRIKE_SPAN))
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_in_a_minute_are_too_many() {
        let second = |s: u64| Instant::from_micros(s * 1_000_000);
        let mut strikes = Strikes::default();
        assert!(!strikes.strike(second(0)));
        assert!(!strikes.strike(second(30)));
        assert!(!strikes.strike(second(70)), "the first one has lapsed");
        assert!(strikes.strike(second(80)));
        assert_eq!(strikes.count(second(140)), 1);
    }
}
