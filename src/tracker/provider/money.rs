//! Amounts of money: whole millionths, so that sums never drift.

use std::fmt;
use std::str::FromStr;

use serde::ser::{Serialize, Serializer};

/// Millionths in one.
const MICROS: u64 = 1_000_000;

/// Digits behind the point that are always shown.
const DIGITS_SHOWN: usize = 2;

/// An amount in millionths of the provider's currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(u64);

/// Why a text is no amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("need an amount such as 0.60, at most 6 digits behind the point")]
pub struct MoneyError;

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// From millionths.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// In millionths.
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// `count` for each `of`, rounded down; as much as can be at most.
    #[must_use]
    pub fn times(self, count: u64, of: u64) -> Self {
        let micros = u128::from(self.0) * u128::from(count) / u128::from(of.max(1));
        Self(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    /// `part` of `whole` of the amount, rounded down; at most all of it.
    pub fn share(self, part: u64, whole: u64) -> Self {
        let micros = u128::from(self.0) * u128::from(part.min(whole)) / u128::from(whole.max(1));
        Self(u64::try_from(micros).unwrap_or(self.0))
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for Money {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !is_number(whole) || !is_number(fraction) || fraction.len() > 6 {
            return Err(MoneyError);
        }
        let micros: u64 = format!("{fraction:0<6}").parse().map_err(|_| MoneyError)?;
        let whole: u64 = whole.parse().map_err(|_| MoneyError)?;
        whole
            .checked_mul(MICROS)
            .and_then(|whole| whole.checked_add(micros))
            .map(Self)
            .ok_or(MoneyError)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fraction = format!("{:06}", self.0 % MICROS);
        let kept = fraction.trim_end_matches('0').len().max(DIGITS_SHOWN);
        write!(f, "{}.{:.kept$}", self.0 / MICROS, fraction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_print_as_they_are_read() {
        for (text, micros, shown) in [
            ("0.60", 600_000, "0.60"),
            ("1", 1_000_000, "1.00"),
            ("12.5", 12_500_000, "12.50"),
            ("0.000001", 1, "0.000001"),
        ] {
            let money: Money = text.parse().unwrap();
            assert_eq!(
                (money.micros(), money.to_string().as_str()),
                (micros, shown)
            );
        }
        for text in [
            "",
            ".",
            "1.",
            ".5",
            "-1",
            "1e3",
            "0.1234567",
            "99999999999999999999",
        ] {
            assert_eq!(text.parse::<Money>(), Err(MoneyError), "{text}");
        }
    }

    #[test]
    fn a_share_is_never_more_than_the_whole() {
        let price = Money::from_micros(1_000_000);
        assert_eq!(price.share(1, 3), Money::from_micros(333_333));
        assert_eq!(price.share(5, 3), price);
    }
}
