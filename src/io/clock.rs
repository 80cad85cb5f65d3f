//! The clocks of this process: one monotone, started with it, and the Unix time that it started at.

use std::time::{Duration, Instant as SystemInstant, SystemTime};

use crate::time::{Epoch, Instant};

/// Reads the time; copies are the same clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: SystemInstant,
    epoch: Epoch,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        let unix = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            start: SystemInstant::now(),
            epoch: Epoch::new(crate::time::micros(unix)),
        }
    }

    /// Time since the start.
    pub fn now(&self) -> Instant {
        Instant::from_micros(crate::time::micros(self.start.elapsed()))
    }

    /// Unix time at the start.
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The same moment for timers of the runtime.
    pub fn to_system(&self, at: Instant) -> tokio::time::Instant {
        (self.start + Duration::from_micros(at.as_micros())).into()
    }

    /// When the kernel took in a datagram that it stamped with Unix time `stamp`, not later than `now`.
    pub fn arrival(&self, now: Instant, stamp: Option<Duration>) -> Instant {
        let unix = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .ok();
        match (stamp, unix) {
            (Some(stamp), Some(unix)) => {
                now.saturating_sub(unix.saturating_sub(stamp).min(Duration::from_secs(1)))
            }
            _ => now,
        }
    }
}
