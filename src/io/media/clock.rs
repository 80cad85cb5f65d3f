//! The monotone clock of a thread that paces media.

use crate::time::{Instant, micros};

/// Microseconds since the clock was started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(std::time::Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(std::time::Instant::now())
    }

    pub(super) fn now(&self) -> Instant {
        Instant::from_micros(micros(self.0.elapsed()))
    }
}
