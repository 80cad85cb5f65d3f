//! Packets that did not come: a ratio over the recent past, in fixed memory.
//!
//! Lost means noticed missing, before repair, as in the fraction lost of RTCP (RFC 3550 §6.4.1). What is still
//! missing when it is due is counted by [`crate::qos::playback`].

use std::time::Duration;

use crate::time::{Instant, micros};

/// `lost / (received + lost)`, or nothing when nothing was expected.
pub fn ratio(received: u64, lost: u64) -> Option<f64> {
    let expected = received.saturating_add(lost);
    (expected > 0).then(|| lost as f64 / expected as f64)
}

/// The same in thousandths, rounded to the nearest, as STATUS carries it; 0 when nothing was expected.
pub fn permille(received: u64, lost: u64) -> u16 {
    // At most 1000 by construction.
    ratio(received, lost).map_or(0, |ratio| (ratio * 1000.0).round() as u16)
}

/// Slots of a window; the oldest leaves as a whole, so the window is exact to a tenth of its span.
const SLOTS: usize = 10;

/// Packets received and lost over the last few seconds.
#[derive(Clone, Debug)]
pub struct LossWindow {
    slot_us: u64,
    /// Number of the slot that is being filled: time divided by the slot's length.
    current: u64,
    slots: [(u32, u32); SLOTS],
}

impl LossWindow {
    /// A window over about `span`, at least 10 µs.
    pub fn new(span: Duration) -> Self {
        Self {
            slot_us: (micros(span) / SLOTS as u64).max(1),
            current: 0,
            slots: [(0, 0); SLOTS],
        }
    }

    /// Counts packets that arrived for the first time.
    pub fn on_received(&mut self, now: Instant, packets: u32) {
        let slot = self.slot(now);
        slot.0 = slot.0.saturating_add(packets);
    }

    /// Counts packets that were noticed missing.
    pub fn on_lost(&mut self, now: Instant, packets: u32) {
        let slot = self.slot(now);
        slot.1 = slot.1.saturating_add(packets);
    }

    /// Loss over the window, or nothing when nothing was expected in it.
    pub fn ratio(&mut self, now: Instant) -> Option<f64> {
        let (received, lost) = self.totals(now);
        ratio(received, lost)
    }

    /// Loss over the window in thousandths, 0 when nothing was expected.
    pub fn permille(&mut self, now: Instant) -> u16 {
        let (received, lost) = self.totals(now);
        permille(received, lost)
    }

    /// Packets received and lost in the window.
    pub fn totals(&mut self, now: Instant) -> (u64, u64) {
        self.slot(now);
        self.slots.iter().fold((0, 0), |(received, lost), slot| {
            (received + u64::from(slot.0), lost + u64::from(slot.1))
        })
    }

    fn slot(&mut self, now: Instant) -> &mut (u32, u32) {
        let number = now.as_micros() / self.slot_us;
        if number > self.current {
            let passed = (number - self.current).min(SLOTS as u64);
            for empty in number + 1 - passed..=number {
                self.slots[(empty % SLOTS as u64) as usize] = (0, 0);
            }
            self.current = number;
        }
        &mut self.slots[(self.current % SLOTS as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Instant {
        Instant::from_micros(milliseconds * 1000)
    }

    #[test]
    fn ratios() {
        for (received, lost, expected, thousandths) in [
            (0, 0, None, 0),
            (100, 0, Some(0.0), 0),
            (98, 2, Some(0.02), 20),
            (0, 7, Some(1.0), 1000),
            (1999, 1, Some(0.0005), 1),
        ] {
            assert_eq!(ratio(received, lost), expected);
            assert_eq!(permille(received, lost), thousandths);
        }
    }

    #[test]
    fn the_window_forgets_what_is_older_than_its_span() {
        let mut window = LossWindow::new(Duration::from_secs(5));
        window.on_received(at(0), 90);
        window.on_lost(at(100), 10);
        assert_eq!(window.totals(at(4900)), (90, 10));
        assert_eq!(window.permille(at(4900)), 100);
        window.on_received(at(4950), 10);
        assert_eq!(window.totals(at(5200)), (10, 0));
        assert_eq!(window.ratio(at(60_000)), None);
    }

    #[test]
    fn a_long_silence_empties_every_slot_and_early_time_is_harmless() {
        let mut window = LossWindow::new(Duration::from_secs(1));
        for slot in 0..20 {
            window.on_lost(at(slot * 100), 1);
        }
        assert_eq!(window.totals(at(1999)), (0, 10));
        window.on_received(at(3_600_000), 1);
        assert_eq!(window.totals(at(0)), (1, 0));
    }
}
