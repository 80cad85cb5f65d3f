//! How long a round trip to one remote takes: RFC 6298's estimator and a windowed minimum.

use std::time::Duration;

use crate::time::{Instant, micros};

/// How many samples the minimum looks back over.
const MINIMUM_SAMPLES: usize = 16;

/// Round-trip estimators of one channel.
#[derive(Clone, Debug, Default)]
pub struct Rtt {
    smoothed_us: u64,
    variance_us: u64,
    recent_us: [u64; MINIMUM_SAMPLES],
    count: u64,
    last: Instant,
}

impl Rtt {
    /// What is assumed before the first sample.
    pub const INITIAL: Duration = Duration::from_millis(100);

    /// Takes one sample in (RFC 6298 §2).
    pub fn sample(&mut self, now: Instant, rtt: Duration) {
        let rtt = micros(rtt).max(1);
        if self.count == 0 {
            self.smoothed_us = rtt;
            self.variance_us = rtt / 2;
        } else {
            self.variance_us = (3 * self.variance_us + self.smoothed_us.abs_diff(rtt)) / 4;
            self.smoothed_us = (7 * self.smoothed_us + rtt) / 8;
        }
        self.recent_us[(self.count % MINIMUM_SAMPLES as u64) as usize] = rtt;
        self.count += 1;
        self.last = now;
    }

    /// Whether any sample was taken.
    pub const fn is_known(&self) -> bool {
        self.count > 0
    }

    /// The smoothed round-trip time.
    pub const fn smoothed(&self) -> Duration {
        if self.count == 0 {
            Self::INITIAL
        } else {
            Duration::from_micros(self.smoothed_us)
        }
    }

    /// The mean deviation.
    pub const fn variance(&self) -> Duration {
        Duration::from_micros(self.variance_us)
    }

    /// The least of the last samples: what the path takes when nobody holds a datagram back.
    pub fn minimum(&self) -> Duration {
        let known = self.count.min(MINIMUM_SAMPLES as u64) as usize;
        match self.recent_us[..known].iter().min() {
            Some(&least) => Duration::from_micros(least),
            None => Self::INITIAL,
        }
    }

    /// How long to wait before a request is repeated that has a deadline: an answer on the shortest way known and a
    /// little more, never under `least`. What RFC 6298 would wait leaves room for one try or two; asking once too often
    /// costs a datagram.
    pub fn repeat_after(&self, least: Duration) -> Duration {
        let shortest = self.minimum();
        (shortest + shortest / 4 + Duration::from_millis(10))
            .min(self.timeout(least))
            .max(least)
    }

    /// How long to wait for an answer before asking again, never under `least`.
    pub fn timeout(&self, least: Duration) -> Duration {
        (self.smoothed() + 4 * self.variance().min(self.smoothed())).max(least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimators_follow_rfc_6298() {
        let mut rtt = Rtt::default();
        assert_eq!(
            (rtt.smoothed(), rtt.minimum()),
            (Rtt::INITIAL, Rtt::INITIAL)
        );
        rtt.sample(Instant::ZERO, Duration::from_millis(40));
        assert_eq!(
            (rtt.smoothed(), rtt.variance()),
            (Duration::from_millis(40), Duration::from_millis(20))
        );
        rtt.sample(Instant::ZERO, Duration::from_millis(48));
        assert_eq!(
            (rtt.smoothed(), rtt.variance()),
            (Duration::from_millis(41), Duration::from_millis(17))
        );
        assert_eq!(rtt.timeout(Duration::ZERO), Duration::from_millis(109));
        assert_eq!(rtt.timeout(Duration::from_secs(1)), Duration::from_secs(1));
        assert_eq!(rtt.repeat_after(Duration::ZERO), Duration::from_millis(60));
        assert_eq!(
            rtt.repeat_after(Duration::from_millis(80)),
            Duration::from_millis(80)
        );
    }

    #[test]
    fn the_minimum_forgets() {
        let mut rtt = Rtt::default();
        rtt.sample(Instant::ZERO, Duration::from_millis(1));
        for _ in 0..MINIMUM_SAMPLES {
            rtt.sample(Instant::ZERO, Duration::from_millis(7));
        }
        assert_eq!(rtt.minimum(), Duration::from_millis(7));
    }
}
