//! Interarrival jitter as RTP reports it (RFC 3550 §6.4.1, appendix A.8).
//!
//! `D(i,j) = (R_j - S_j) - (R_i - S_i)` and `J(i) = J(i-1) + (|D(i-1,i)| - J(i-1)) / 16`, R the arrival and S the
//! sender's time stamp. Only differences of transit times enter, so the clocks of the two ends need not agree.

use std::time::Duration;

/// One step of the filter on real numbers, in whatever unit `jitter` and `difference` share.
///
/// The reference form; [`Jitter`] is the one for the path of a packet.
pub fn step(jitter: f64, difference: f64) -> f64 {
    jitter + (difference.abs() - jitter) / 16.0
}

/// The filter on whole microseconds, kept times 16 so that rounding does not pull it to zero (RFC 3550 A.8).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use p2ps::qos::Jitter;
///
/// let mut jitter = Jitter::default();
/// jitter.on_packet(0, 40_000);
/// jitter.on_packet(20_000, 76_000); // 16 ms later than its spacing said
/// assert_eq!(jitter.get(), Duration::from_millis(1));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Jitter {
    transit: Option<i64>,
    scaled: u64,
}

impl Jitter {
    /// A larger step than this (one hour, in µs) is a clock that was set or a liar, and starts the filter anew.
    const STEP_MAX: u64 = 3_600_000_000;

    /// Takes in one packet: the sender's stamp and our arrival time, in microseconds of any two clocks.
    ///
    /// Packets may come out of order; the filter follows the order of arrival, as RFC 3550 asks.
    pub const fn on_packet(&mut self, sent_us: u64, received_us: u64) {
        let transit = received_us.wrapping_sub(sent_us) as i64;
        if let Some(before) = self.transit {
            let difference = transit.wrapping_sub(before).unsigned_abs();
            if difference <= Self::STEP_MAX {
                self.on_difference(difference);
            }
        }
        self.transit = Some(transit);
    }

    /// Takes in |D| itself, in microseconds.
    const fn on_difference(&mut self, difference: u64) {
        self.scaled = self.scaled + difference - ((self.scaled + 8) >> 4);
    }

    /// The jitter now.
    pub const fn get(&self) -> Duration {
        Duration::from_micros(self.scaled >> 4)
    }

    /// The jitter now in whole microseconds.
    pub const fn as_micros(&self) -> u64 {
        self.scaled >> 4
    }

    /// Forgets the last transit time but keeps the value: after a change of parent, whose clock is another one.
    pub const fn on_sender_changed(&mut self) {
        self.transit = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIFFERENCES_MS: [u64; 5] = [16, 16, 0, 8, 4];
    const GOLDEN_MS: [f64; 5] = [
        1.0,
        1.9375,
        1.816_406_25,
        2.202_880_859_375,
        2.315_200_805_664_062_5,
    ];

    #[test]
    fn t_csp_1_jitter_on_real_numbers() {
        let mut jitter = 0.0;
        for (difference, golden) in DIFFERENCES_MS.into_iter().zip(GOLDEN_MS) {
            jitter = step(jitter, difference as f64);
            assert_eq!(jitter, golden);
        }
    }

    #[test]
    fn t_csp_1_jitter_on_integers_is_within_a_microsecond() {
        let mut jitter = Jitter::default();
        for (difference, golden) in DIFFERENCES_MS.into_iter().zip(GOLDEN_MS) {
            jitter.on_difference(difference * 1000);
            let error = jitter.as_micros() as f64 - golden * 1000.0;
            assert!(
                error.abs() <= 1.0,
                "{} against {golden}",
                jitter.as_micros()
            );
        }
    }

    #[test]
    fn packets_give_the_golden_sequence_whatever_the_clock_offset() {
        for offset in [0_u64, 5_000_000, u64::MAX - 50_000] {
            let mut jitter = Jitter::default();
            // Transit times whose successive differences are +16, -16, 0, +8, -4 ms.
            let transits = [10_000_u64, 26_000, 10_000, 10_000, 18_000, 14_000];
            for (index, transit) in transits.into_iter().enumerate() {
                let sent = index as u64 * 20_000;
                jitter.on_packet(sent.wrapping_add(offset), sent + transit);
            }
            assert_eq!(jitter.as_micros(), 2315);
        }
    }

    #[test]
    fn even_spacing_decays_to_nothing() {
        let mut jitter = Jitter::default();
        jitter.on_packet(0, 0);
        jitter.on_packet(0, 50_000);
        for index in 0..400 {
            jitter.on_packet(index * 1000, index * 1000 + 50_000);
        }
        assert_eq!(jitter.as_micros(), 0);
    }

    #[test]
    fn a_set_clock_does_not_count_as_jitter() {
        let mut jitter = Jitter::default();
        jitter.on_packet(0, 0);
        jitter.on_packet(u64::MAX / 2, 1000);
        assert_eq!(jitter.get(), Duration::ZERO);
    }

    #[test]
    fn a_new_parent_does_not_count_as_jitter() {
        let mut jitter = Jitter::default();
        jitter.on_packet(0, 1000);
        jitter.on_sender_changed();
        jitter.on_packet(0, 900_000);
        assert_eq!(jitter.get(), Duration::ZERO);
    }
}
