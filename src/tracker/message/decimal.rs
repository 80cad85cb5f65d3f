//! Numbers with a fraction, as JSON writes them, exact to a millionth: they can be compared and hashed.

use std::time::Duration;

use serde::ser::{Serialize, Serializer};
use serde_json::Value;

/// A number from 0 up, in millionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decimal(u64);

impl Decimal {
    /// So many millionths.
    pub const fn from_millionths(millionths: u64) -> Self {
        Self(millionths)
    }

    /// In millionths: of a ratio parts per million, of seconds microseconds.
    pub const fn millionths(self) -> u64 {
        self.0
    }

    /// As a span, of a number of seconds.
    pub const fn as_seconds(self) -> Duration {
        Duration::from_micros(self.0)
    }

    /// A JSON number that is not negative.
    pub(super) fn from_value(value: &Value) -> Option<Self> {
        let number = value.as_f64().filter(|number| *number >= 0.0)?;
        // Casting saturates.
        Some(Self((number * 1e6).round() as u64))
    }
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0 as f64 / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for millionths in [0, 1, 50_000, 999_999, 1_000_000, 12_345_678] {
            let number = Decimal::from_millionths(millionths);
            let value = serde_json::to_value(number).expect("a number");
            assert_eq!(Decimal::from_value(&value), Some(number), "{value}");
        }
        for text in ["-1", "\"1\"", "null", "-0.5"] {
            let value: Value = serde_json::from_str(text).expect("JSON");
            assert_eq!(Decimal::from_value(&value), None, "{text}");
        }
        let huge = serde_json::from_str("1e300").expect("JSON");
        assert_eq!(
            Decimal::from_value(&huge).map(Decimal::millionths),
            Some(u64::MAX)
        );
    }
}
