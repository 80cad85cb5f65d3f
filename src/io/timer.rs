//! One timer for all that a loop waits for.
//!
//! The runtime's own timers ring a bell of their own whenever the next one comes nearer, which is a second wake-up for
//! each that they are there for, and go by whole milliseconds.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::udp::watched;
use crate::time::Instant;

/// It may be early by this much: nothing is done then, and it is set again.
const SLACK: Duration = Duration::from_millis(5);

/// Rings once at the time it was set to.
#[derive(Debug)]
pub struct Timer {
    watch: AsyncFd<OwnedFd>,
    set: Option<Instant>,
}

impl Timer {
    /// A timer that is not set.
    ///
    /// # Errors
    ///
    /// When the kernel has none left.
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self {
            watch: watched(timer, Interest::READABLE)?,
            set: None,
        })
    }

    /// Has it ring at `at`, or a little earlier.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn set(&mut self, now: Instant, at: Instant) -> io::Result<()> {
        if self
            .set
            .is_some_and(|set| set > now && set <= at && at <= set + SLACK)
        {
            return Ok(());
        }
        // Nothing at all would turn it off.
        let span = (at - now).max(Duration::from_nanos(1));
        let zero = Timespec::default();
        let value = Timespec {
            tv_sec: span.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: span.subsec_nanos().into(),
        };
        let spec = Itimerspec {
            it_interval: zero,
            it_value: value,
        };
        timerfd_settime(self.watch.get_ref(), TimerfdTimerFlags::empty(), &spec)?;
        self.set = Some(at);
        Ok(())
    }

    /// Waits until it rings. Cancel-safe.
    pub async fn rings(&mut self) {
        if let Ok(mut ready) = self.watch.readable().await {
            // Setting it again forgets what was not read.
            ready.clear_ready();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::clock::Clock;

    #[tokio::test]
    async fn it_rings_when_it_was_set_to_and_not_before() {
        let clock = Clock::start();
        let mut timer = Timer::new().unwrap();
        for span_us in [0, 300, 2_500] {
            let now = clock.now();
            let at = now + Duration::from_micros(span_us);
            timer.set(now, at).unwrap();
            timer.rings().await;
            assert!(clock.now() >= at);
        }
    }

    #[tokio::test]
    async fn set_to_something_earlier_it_rings_earlier() {
        let clock = Clock::start();
        let mut timer = Timer::new().unwrap();
        let now = clock.now();
        timer.set(now, now + Duration::from_secs(3600)).unwrap();
        let at = now + Duration::from_millis(1);
        timer.set(now, at).unwrap();
        timer.rings().await;
        assert!(clock.now() >= at);
    }
}
