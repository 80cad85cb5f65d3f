//! Distributions of latencies: HdrHistogram over microseconds, reported in milliseconds.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram as Hdr;

use crate::time::micros;

/// Longest time told apart from longer ones: 10 minutes, the limit of `--latency`.
const MAX_US: u64 = 600_000_000;

/// Two significant digits: every value is right to 1 %, in 24 KiB.
const DIGITS: u8 = 2;

/// How often which latency was seen. Values above 10 minutes count as 10 minutes.
///
/// # Examples
///
/// ```
/// use p2ps::qos::Histogram;
///
/// let mut latency = Histogram::default();
/// for ms in 1..=100 {
///     latency.record_us(ms * 1000);
/// }
/// let seen = latency.percentiles().expect("it is not empty");
/// assert!((seen.p50 - 50.0).abs() < 0.5 && (seen.max - 100.0).abs() < 1.0);
/// ```
#[derive(Clone, PartialEq)]
pub struct Histogram(Hdr<u64>);

/// The five figures of a distribution that are reported, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Percentiles {
    /// Median.
    pub p50: f64,
    /// 90 of 100 are at or below.
    pub p90: f64,
    /// 99 of 100 are at or below.
    pub p99: f64,
    /// 999 of 1000 are at or below.
    pub p999: f64,
    /// The largest.
    pub max: f64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self(
            Hdr::new_with_bounds(1, MAX_US, DIGITS)
                .expect("1 is below the maximum and 2 digits are within 0 to 5"),
        )
    }
}

impl Histogram {
    /// Records one duration.
    pub fn record(&mut self, duration: Duration) {
        self.record_us(micros(duration));
    }

    /// Records one value in microseconds.
    pub fn record_us(&mut self, value: u64) {
        self.0.saturating_record(value);
    }

    /// Values recorded.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The value in milliseconds at or below which the share `quantile` (0 to 1) of all lies; 0 when empty.
    pub fn quantile_ms(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile).min(MAX_US) as f64 / 1000.0
    }

    /// The figures that are reported, or nothing when nothing was recorded.
    pub fn percentiles(&self) -> Option<Percentiles> {
        (!self.0.is_empty()).then(|| Percentiles {
            p50: self.quantile_ms(0.5),
            p90: self.quantile_ms(0.9),
            p99: self.quantile_ms(0.99),
            p999: self.quantile_ms(0.999),
            max: self.quantile_ms(1.0),
        })
    }

    /// Takes in everything that `other` recorded.
    pub fn merge(&mut self, other: &Self) {
        self.0
            .add(&other.0)
            .expect("all histograms have the same bounds");
    }

    /// What was recorded since `earlier`, an older copy of this histogram.
    ///
    /// Empty when `earlier` holds more than this one (it is no older copy).
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut difference = self.clone();
        if difference.0.subtract(&earlier.0).is_err() {
            difference.0.reset();
        }
        difference
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Histogram({} values, {:?})",
            self.count(),
            self.percentiles()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_to_one_percent() {
        let mut histogram = Histogram::default();
        for value in 1..=100_000_u64 {
            histogram.record_us(value);
        }
        let seen = histogram.percentiles().expect("not empty");
        for (found, exact) in [
            (seen.p50, 50.0),
            (seen.p90, 90.0),
            (seen.p99, 99.0),
            (seen.p999, 99.9),
            (seen.max, 100.0),
        ] {
            assert!(
                (found - exact).abs() <= exact / 100.0,
                "{found} against {exact}"
            );
        }
        assert!(seen.p999 <= seen.max);
    }

    #[test]
    fn nothing_recorded_has_no_percentiles() {
        assert_eq!(Histogram::default().percentiles(), None);
    }

    #[test]
    fn values_out_of_bounds_are_kept_at_the_bounds() {
        let mut histogram = Histogram::default();
        histogram.record_us(0);
        histogram.record(Duration::MAX);
        assert_eq!(histogram.count(), 2);
        assert_eq!(histogram.quantile_ms(1.0), 600_000.0);
    }

    #[test]
    fn the_difference_of_two_copies_is_what_came_between() {
        let mut histogram = Histogram::default();
        histogram.record_us(1_000_000);
        let earlier = histogram.clone();
        for _ in 0..10 {
            histogram.record_us(2000);
        }
        let between = histogram.since(&earlier);
        assert_eq!(between.count(), 10);
        assert!(between.percentiles().is_some_and(|seen| seen.max < 2.1));
        assert_eq!(earlier.since(&histogram).count(), 0);

        let mut merged = earlier.clone();
        merged.merge(&between);
        assert_eq!(merged.count(), histogram.count());
    }
}
