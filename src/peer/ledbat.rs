//! Congestion control of what we send to one remote (RFC 7574 §8.16, RFC 6817), in bytes.
//!
//! It gates what may wait: catching up a newcomer, answering requests. Live chunks at the head are paced by the stream
//! itself and only watched here.

use std::time::Duration;

use crate::time::{Instant, micros};

/// The extra delay we allow ourselves to cause; RFC 6817 §2.4.2 has at most 100 ms.
const TARGET_US: i64 = 100_000;
/// One datagram of full size.
const SEGMENT_BYTES: u64 = 1345;
/// Two trains of a full munro: what a relay sends to a newcomer before it hears anything. RFC 6817 §2.4.2 has 2
/// segments for traffic that nobody waits for; a viewer waits (RFC 7574 §8.16 lets live deployments be as quick as TCP).
const INITIAL_BYTES: u64 = 64 * SEGMENT_BYTES;
const MINIMUM_BYTES: u64 = 2 * SEGMENT_BYTES;
const MAXIMUM_BYTES: u64 = 8 << 20;
/// One minimum a minute, ten minutes of them (RFC 6817 BASE_HISTORY).
const BASE_HISTORY: usize = 10;
const BASE_SPAN: Duration = Duration::from_secs(60);
/// Samples the current delay is the minimum of (RFC 6817 CURRENT_FILTER).
const CURRENT_FILTER: usize = 4;

/// The window of one sender towards one remote.
#[derive(Clone, Debug)]
pub struct Ledbat {
    window_bytes: u64,
    in_flight_bytes: u64,
    base_us: [i64; BASE_HISTORY],
    base_since: Instant,
    current_us: [i64; CURRENT_FILTER],
    samples: usize,
    slow_start: bool,
    last_decrease: Instant,
}

impl Default for Ledbat {
    fn default() -> Self {
        Self {
            window_bytes: INITIAL_BYTES,
            in_flight_bytes: 0,
            base_us: [i64::MAX; BASE_HISTORY],
            base_since: Instant::ZERO,
            current_us: [i64::MAX; CURRENT_FILTER],
            samples: 0,
            slow_start: true,
            last_decrease: Instant::ZERO,
        }
    }
}

impl Ledbat {
    /// Bytes sent and not yet acknowledged or given up.
    pub const fn in_flight_bytes(&self) -> u64 {
        self.in_flight_bytes
    }

    /// Bytes that may be under way at once.
    pub const fn window_bytes(&self) -> u64 {
        self.window_bytes
    }

    /// Whether one more datagram may go.
    pub const fn may_send(&self) -> bool {
        self.in_flight_bytes < self.window_bytes
    }

    /// How much longer than at its best the path takes now.
    pub fn queuing_delay(&self) -> Duration {
        let base = self.base_us.iter().copied().min().unwrap_or(i64::MAX);
        let current = self.current_us.iter().copied().min().unwrap_or(i64::MAX);
        if base == i64::MAX || current == i64::MAX {
            return Duration::ZERO;
        }
        Duration::from_micros(current.saturating_sub(base).max(0).unsigned_abs())
    }

    /// `bytes` went out.
    pub const fn on_sent(&mut self, bytes: u64) {
        self.in_flight_bytes += bytes;
    }

    /// `bytes` were acknowledged, the newest of them after a one-way delay of `delay_us` (RFC 6817 §2.4.2).
    pub fn on_ack(&mut self, now: Instant, bytes: u64, delay_us: i64) {
        self.note_delay(now, delay_us);
        let flight_before = self.in_flight_bytes;
        self.in_flight_bytes = self.in_flight_bytes.saturating_sub(bytes);
        let queuing_us = self.queuing_delay().as_micros() as i64;
        if self.slow_start && queuing_us < TARGET_US / 4 {
            // Doubling until the queue shows: a newcomer's backlog is paid once.
            self.window_bytes = self.window_bytes.saturating_add(bytes);
        } else {
            self.slow_start = false;
            let off_target = TARGET_US.saturating_sub(queuing_us).max(-TARGET_US);
            let gain = off_target as f64 / TARGET_US as f64 * bytes as f64 * SEGMENT_BYTES as f64
                / self.window_bytes as f64;
            self.window_bytes = (self.window_bytes as f64 + gain).max(0.0) as u64;
        }
        // RFC 6817: no reserve beyond what was really under way, so an idle flow does not burst later.
        let reserve = flight_before.saturating_mul(2).max(INITIAL_BYTES);
        self.window_bytes = self
            .window_bytes
            .clamp(MINIMUM_BYTES, reserve.min(MAXIMUM_BYTES));
    }

    /// `bytes` were given up; the window halves at most once a round trip.
    pub fn on_loss(&mut self, now: Instant, bytes: u64, rtt: Duration) {
        self.in_flight_bytes = self.in_flight_bytes.saturating_sub(bytes);
        self.slow_start = false;
        if now - self.last_decrease >= rtt {
            self.last_decrease = now;
            self.window_bytes = (self.window_bytes / 2).max(MINIMUM_BYTES);
        }
    }

    fn note_delay(&mut self, now: Instant, delay_us: i64) {
        if self.samples == 0 {
            self.base_since = now;
        }
        let minutes = micros(now - self.base_since) / micros(BASE_SPAN);
        if minutes > 0 {
            let shift = usize::try_from(minutes)
                .unwrap_or(BASE_HISTORY)
                .min(BASE_HISTORY);
            self.base_us.rotate_right(shift);
            self.base_us[..shift].fill(i64::MAX);
            self.base_since += BASE_SPAN * u32::try_from(minutes).unwrap_or(u32::MAX);
        }
        self.base_us[0] = self.base_us[0].min(delay_us);
        self.current_us[self.samples % CURRENT_FILTER] = delay_us;
        self.samples += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1000)
    }

    #[test]
    fn grows_while_the_queue_is_short_and_shrinks_when_it_is_long() {
        let mut ledbat = Ledbat::default();
        for round in 0..20 {
            let flight = ledbat.window_bytes();
            ledbat.on_sent(flight);
            ledbat.on_ack(at(round * 40), flight, 20_000);
        }
        let grown = ledbat.window_bytes();
        assert!(grown > 10 * INITIAL_BYTES, "{grown}");
        for round in 20..80 {
            let flight = ledbat.window_bytes();
            ledbat.on_sent(flight);
            ledbat.on_ack(at(round * 40), flight, 20_000 + 300_000);
        }
        assert!(ledbat.window_bytes() < grown, "{}", ledbat.window_bytes());
        assert_eq!(ledbat.queuing_delay(), Duration::from_millis(300));
    }

    #[test]
    fn loss_halves_once_a_round_trip() {
        let mut ledbat = Ledbat::default();
        ledbat.on_loss(at(1000), 0, Duration::from_millis(40));
        ledbat.on_loss(at(1010), 0, Duration::from_millis(40));
        assert_eq!(ledbat.window_bytes(), INITIAL_BYTES / 2);
    }

    #[test]
    fn an_old_base_delay_is_forgotten_after_ten_minutes() {
        let mut ledbat = Ledbat::default();
        ledbat.on_ack(at(0), 0, 1_000);
        for minute in 1..=11 {
            ledbat.on_ack(at(minute * 60_000), 0, 50_000);
        }
        assert_eq!(ledbat.queuing_delay(), Duration::ZERO);
    }

    #[test]
    fn extreme_delay_samples_do_no_harm() {
        let mut ledbat = Ledbat::default();
        for delay in [i64::MIN, i64::MAX, 0, -1, i64::MAX] {
            ledbat.on_sent(1000);
            ledbat.on_ack(at(1), 1000, delay);
        }
        assert!(ledbat.window_bytes() >= MINIMUM_BYTES);
    }
}
