//! A smoothed rate: once a second `r <- r + (sample - r) / 8`, as TCP smooths its round trip time.

use std::time::Duration;

use crate::time::{Instant, micros};

/// Length of one sample.
const SECOND: u64 = 1_000_000;

/// Silence longer than this many seconds leaves less than 10^-14 of any rate: it is zero.
const FADE_SECONDS: u64 = 256;

/// Units a second (bytes, packets), smoothed over about eight seconds. The first full second counts in whole.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    second_started: Instant,
    sample: u64,
    smoothed: Option<f64>,
}

impl Rate {
    /// A rate that starts to count at `now`.
    pub const fn new(now: Instant) -> Self {
        Self {
            second_started: now,
            sample: 0,
            smoothed: None,
        }
    }

    /// Counts `units` at `now`.
    pub fn add(&mut self, now: Instant, units: u64) {
        self.close_seconds(now);
        self.sample = self.sample.saturating_add(units);
    }

    /// Units a second; before the first full second, what that second holds so far.
    pub fn per_second(&mut self, now: Instant) -> f64 {
        self.close_seconds(now);
        self.smoothed.unwrap_or(self.sample as f64)
    }

    fn close_seconds(&mut self, now: Instant) {
        let mut full = micros(now - self.second_started) / SECOND;
        if full == 0 {
            return;
        }
        self.second_started += Duration::from_micros(full * SECOND);
        if full > FADE_SECONDS {
            (self.sample, self.smoothed) = (0, Some(0.0));
            return;
        }
        while full > 0 {
            let sample = self.sample as f64;
            self.smoothed = Some(
                self.smoothed
                    .map_or(sample, |rate| rate + (sample - rate) / 8.0),
            );
            self.sample = 0;
            full -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Instant {
        Instant::from_micros(milliseconds * 1000)
    }

    #[test]
    fn samples_are_smoothed_by_an_eighth() {
        let mut rate = Rate::new(at(0));
        rate.add(at(100), 500);
        rate.add(at(900), 300);
        assert_eq!(rate.per_second(at(950)), 800.0);
        assert_eq!(rate.per_second(at(1000)), 800.0);
        rate.add(at(1500), 1600);
        assert_eq!(rate.per_second(at(2000)), 900.0);
        assert_eq!(rate.per_second(at(3000)), 787.5);
    }

    #[test]
    fn a_constant_rate_stays_and_silence_fades() {
        let mut rate = Rate::new(at(0));
        for tick in 0..600 {
            rate.add(at(tick * 100), 125_000);
        }
        assert_eq!(rate.per_second(at(60_000)), 1_250_000.0);
        assert!(rate.per_second(at(100_000)) < 7000.0);
        assert_eq!(rate.per_second(at(1_000_000)), 0.0);
    }
}
