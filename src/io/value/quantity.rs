//! Numbers with units: rates, sizes, durations, percentages; and plain counts.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::{Shown, ValueError};

/// A text split into its number and whatever follows; `None` when it does not begin with a number.
fn split_number(text: &str) -> Option<(f64, &str)> {
    let bytes = text.as_bytes();
    let digits = |from: usize| {
        let rest = bytes.get(from..).unwrap_or_default();
        from + rest.iter().take_while(|byte| byte.is_ascii_digit()).count()
    };
    let start = usize::from(matches!(bytes.first(), Some(b'+' | b'-')));
    let whole = digits(start);
    let mut end = whole;
    if bytes.get(whole) == Some(&b'.') {
        end = digits(whole + 1);
        if end == whole + 1 {
            return None;
        }
    }
    if end == start {
        return None;
    }
    // An `e` belongs to the number only when an exponent follows it.
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits(end + 1 + sign);
        if exponent > end + 1 + sign {
            end = exponent;
        }
    }
    let (number, unit) = text.split_at_checked(end)?;
    Some((number.parse().ok()?, unit.trim()))
}

/// A number in base units, found by `scale` for its unit, rounded to a whole one.
fn parse_scaled(
    text: &str,
    example: &'static str,
    scale: impl Fn(&str) -> Option<f64>,
) -> Result<f64, ValueError> {
    if text.trim().is_empty() {
        return Err(ValueError::Empty { example });
    }
    let (number, unit) = split_number(text.trim()).ok_or(ValueError::NotNumber { example })?;
    if unit.is_empty() {
        return Err(ValueError::UnitMissing { example });
    }
    let scale = scale(unit).ok_or_else(|| ValueError::UnitUnknown {
        unit: Shown::part(unit),
        example,
    })?;
    Ok((number * scale).round())
}

/// Writes `value` in the unit that needs the smallest number and loses nothing.
fn fmt_exact(value: u128, units: &[(u128, &str)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (scale, unit) = units
        .iter()
        .filter(|(scale, _)| value.is_multiple_of(*scale))
        .min_by_key(|(scale, _)| value / scale)
        .copied()
        .unwrap_or((1, ""));
    write!(f, "{}{unit}", value / scale)
}

/// Bits a second, 1kbit to 100Gbit; `bit`, `kbit`, `Mbit`, `Gbit`, with or without `/s` or `ps`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(u64);

impl Rate {
    /// Slowest rate that can be asked for.
    pub const MIN: Self = Self(1_000);
    /// Fastest rate that can be asked for.
    pub const MAX: Self = Self(100_000_000_000);

    /// Bits a second.
    pub const fn bits_per_second(self) -> u64 {
        self.0
    }
}

impl FromStr for Rate {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let bits = parse_scaled(text, "8Mbit", |unit| {
            let unit = unit.to_ascii_lowercase();
            let plain = unit.strip_suffix("/s").or_else(|| unit.strip_suffix("ps"));
            match plain.unwrap_or(&unit) {
                "bit" => Some(1.0),
                "kbit" => Some(1e3),
                "mbit" => Some(1e6),
                "gbit" => Some(1e9),
                _ => None,
            }
        })?;
        if bits >= Self::MIN.0 as f64 && bits <= Self::MAX.0 as f64 {
            Ok(Self(bits as u64))
        } else {
            Err(ValueError::OutOfRange {
                low: Self::MIN.to_string(),
                high: Self::MAX.to_string(),
            })
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u128, &str); 4] = [
            (1_000_000_000, "Gbit"),
            (1_000_000, "Mbit"),
            (1_000, "kbit"),
            (1, "bit"),
        ];
        fmt_exact(u128::from(self.0), &UNITS, f)
    }
}

/// Bytes, 1B to 1024TiB; `B`, `kB`, `MB`, `GB`, `TB` are powers of 1000, `KiB` to `TiB` of 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(u64);

impl Size {
    /// Smallest size that can be asked for.
    pub const MIN: Self = Self(1);
    /// Largest size that can be asked for.
    pub const MAX: Self = Self(1 << 50);

    /// Bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let bytes = parse_scaled(text, "64KiB", |unit| match unit {
            "B" => Some(1.0),
            "kB" | "KB" => Some(1e3),
            "MB" => Some(1e6),
            "GB" => Some(1e9),
            "TB" => Some(1e12),
            "KiB" | "kiB" => Some(1024.0),
            "MiB" => Some(1_048_576.0),
            "GiB" => Some(1_073_741_824.0),
            "TiB" => Some(1_099_511_627_776.0),
            _ => None,
        })?;
        if bytes >= Self::MIN.0 as f64 && bytes <= Self::MAX.0 as f64 {
            Ok(Self(bytes as u64))
        } else {
            Err(ValueError::OutOfRange {
                low: Self::MIN.to_string(),
                high: Self::MAX.to_string(),
            })
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u128, &str); 9] = [
            (1 << 40, "TiB"),
            (1_000_000_000_000, "TB"),
            (1 << 30, "GiB"),
            (1_000_000_000, "GB"),
            (1 << 20, "MiB"),
            (1_000_000, "MB"),
            (1 << 10, "KiB"),
            (1_000, "kB"),
            (1, "B"),
        ];
        fmt_exact(u128::from(self.0), &UNITS, f)
    }
}

/// Bytes, for parameters of which a bare number is that many in every tool next door: `1316`, `64KiB`.
///
/// # Errors
///
/// As for [`Size`]; and a bare number past its range.
pub fn bytes(text: &str) -> Result<u64, ValueError> {
    let is_bare = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_bare {
        return text.parse().map(Size::bytes);
    }
    let number = text.parse().ok().filter(|bytes| *bytes <= Size::MAX.0);
    number.ok_or_else(|| ValueError::OutOfRange {
        low: "0B".to_owned(),
        high: Size::MAX.to_string(),
    })
}

/// A span of time; `ns`, `us`, `ms`, `s`, `min` (or `m`), `h`, `d`. Each option sets its own range: [`duration`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DurationValue(Duration);

impl DurationValue {
    /// Longest span any option takes: 100 years, so that nothing below overflows.
    pub const MAX: Self = Self(Duration::from_secs(36_525 * 86_400));

    /// A span for a default.
    pub const fn new(span: Duration) -> Self {
        Self(span)
    }

    /// The span.
    pub const fn get(self) -> Duration {
        self.0
    }
}

/// The value parser of an option that takes a span of `low` to `high`.
pub fn duration(
    low: Duration,
    high: Duration,
) -> impl Fn(&str) -> Result<DurationValue, ValueError> + Clone + Send + Sync + 'static {
    move |text| {
        let out_of_range = || ValueError::OutOfRange {
            low: DurationValue(low).to_string(),
            high: DurationValue(high).to_string(),
        };
        // Saturated numbers are past every option's range; say that range rather than the widest one.
        let value = match text.parse::<DurationValue>() {
            Err(ValueError::OutOfRange { .. }) => return Err(out_of_range()),
            other => other?,
        };
        if value.0 < low || value.0 > high {
            return Err(out_of_range());
        }
        Ok(value)
    }
}

impl FromStr for DurationValue {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let nanos = parse_scaled(text, "250ms", |unit| match unit {
            "ns" => Some(1.0),
            "us" | "µs" => Some(1e3),
            "ms" => Some(1e6),
            "s" | "sec" => Some(1e9),
            "m" | "min" => Some(60e9),
            "h" => Some(3_600e9),
            "d" => Some(86_400e9),
            _ => None,
        })?;
        if nanos >= 0.0 && nanos <= Self::MAX.0.as_nanos() as f64 {
            Ok(Self(Duration::from_nanos(nanos as u64)))
        } else {
            Err(ValueError::OutOfRange {
                low: "0s".to_owned(),
                high: Self::MAX.to_string(),
            })
        }
    }
}

impl fmt::Display for DurationValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u128, &str); 7] = [
            (86_400_000_000_000, "d"),
            (3_600_000_000_000, "h"),
            (60_000_000_000, "min"),
            (1_000_000_000, "s"),
            (1_000_000, "ms"),
            (1_000, "us"),
            (1, "ns"),
        ];
        if self.0.is_zero() {
            return f.write_str("0s");
        }
        fmt_exact(self.0.as_nanos(), &UNITS, f)
    }
}

/// A share of a whole, 0% to 100%.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Percent(f64);

impl Percent {
    /// The share as a ratio, 0 to 1.
    pub fn ratio(self) -> f64 {
        self.0 / 100.0
    }
}

impl FromStr for Percent {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        const EXAMPLE: &str = "5%";
        if text.trim().is_empty() {
            return Err(ValueError::Empty { example: EXAMPLE });
        }
        let (number, unit) =
            split_number(text.trim()).ok_or(ValueError::NotNumber { example: EXAMPLE })?;
        match unit {
            "%" => {}
            "" => return Err(ValueError::UnitMissing { example: EXAMPLE }),
            _ => {
                return Err(ValueError::UnitUnknown {
                    unit: Shown::part(unit),
                    example: EXAMPLE,
                });
            }
        }
        if (0.0..=100.0).contains(&number) {
            Ok(Self(number.abs())) // -0% is 0%.
        } else {
            Err(ValueError::OutOfRange {
                low: "0%".to_owned(),
                high: "100%".to_owned(),
            })
        }
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

/// The value parser of an option that takes a whole number of `low` to `high`.
pub fn count(
    low: u32,
    high: u32,
) -> impl Fn(&str) -> Result<u32, ValueError> + Clone + Send + Sync + 'static {
    move |text| {
        let out_of_range = || ValueError::OutOfRange {
            low: low.to_string(),
            high: high.to_string(),
        };
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(out_of_range());
        }
        let number: u32 = text.parse().map_err(|_| out_of_range())?;
        if (low..=high).contains(&number) {
            Ok(number)
        } else {
            Err(out_of_range())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a text parses to, printed back; or what is wrong with it.
    fn round<T: FromStr<Err = ValueError> + fmt::Display>(text: &str) -> String {
        text.parse::<T>()
            .map_or_else(|error| error.to_string(), |value| value.to_string())
    }

    #[test]
    fn rates() {
        for (text, expected) in [
            ("8Mbit", "8Mbit"),
            ("8mbit/s", "8Mbit"),
            ("800kbitps", "800kbit"),
            ("800kbps", "unknown unit \"kbps\", for example 8Mbit"),
            ("1.5Gbit", "1500Mbit"),
            ("2.5 Mbit", "2500kbit"),
            ("1e3kbit", "1Mbit"),
            ("1234bit", "1234bit"),
            ("100Gbit", "100Gbit"),
            ("8", "unit missing, for example 8Mbit"),
            ("8MB", "unknown unit \"MB\", for example 8Mbit"),
            ("8exabit", "unknown unit \"exabit\", for example 8Mbit"),
            ("fast", "not a number, for example 8Mbit"),
            ("", "empty, for example 8Mbit"),
            ("-1Mbit", "must be 1kbit to 100Gbit"),
            ("0bit", "must be 1kbit to 100Gbit"),
            ("1e400Mbit", "must be 1kbit to 100Gbit"),
            ("100.1Gbit", "must be 1kbit to 100Gbit"),
            ("infMbit", "not a number, for example 8Mbit"),
            ("8.Mbit", "not a number, for example 8Mbit"),
            ("٨Mbit", "not a number, for example 8Mbit"),
        ] {
            assert_eq!(round::<Rate>(text), expected, "{text}");
        }
        assert_eq!(
            "8Mbit".parse::<Rate>().unwrap().bits_per_second(),
            8_000_000
        );
    }

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("64KiB", "64KiB"),
            ("4GB", "4GB"),
            ("1.5MiB", "1536KiB"),
            ("1000B", "1kB"),
            ("7B", "7B"),
            ("64", "unit missing, for example 64KiB"),
            ("64K", "unknown unit \"K\", for example 64KiB"),
            ("0B", "must be 1B to 1024TiB"),
            ("1e30GB", "must be 1B to 1024TiB"),
        ] {
            assert_eq!(round::<Size>(text), expected, "{text}");
        }
        assert_eq!((bytes("1316"), bytes("0")), (Ok(1316), Ok(0)));
        assert_eq!(bytes("64KiB"), Ok(65_536));
        for text in ["", "-1", "1.5", "64Kibit", "é", "99999999999999999999"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, expected) in [
            ("250ms", "250ms"),
            ("10min", "10min"),
            ("90s", "90s"),
            ("1.5s", "1500ms"),
            ("0s", "0s"),
            ("0ms", "0s"),
            ("60s", "1min"),
            ("36500d", "36500d"),
            ("250", "unit missing, for example 250ms"),
            ("1y", "unknown unit \"y\", for example 250ms"),
            ("-1s", "must be 0s to 36525d"),
            ("1e999s", "must be 0s to 36525d"),
        ] {
            assert_eq!(round::<DurationValue>(text), expected, "{text}");
        }
        let latency = duration(Duration::ZERO, Duration::from_secs(600));
        assert_eq!(latency("10min").unwrap().get(), Duration::from_secs(600));
        for text in ["10h", "-1s", "1e999s", "10.1min"] {
            assert_eq!(
                latency(text).unwrap_err().to_string(),
                "must be 0s to 10min"
            );
        }
    }

    #[test]
    fn percentages_and_counts() {
        assert_eq!(round::<Percent>("5%"), "5%");
        assert_eq!(round::<Percent>("-0%"), "0%");
        assert_eq!(round::<Percent>("0.05"), "unit missing, for example 5%");
        assert_eq!(round::<Percent>("101%"), "must be 0% to 100%");
        assert!("12.5%".parse::<Percent>().unwrap().ratio() == 0.125);
        let packets = count(1, 7);
        assert_eq!(packets("7"), Ok(7));
        for text in ["0", "8", "-1", "", "x", "7.0", "99999999999999999999"] {
            assert_eq!(packets(text).unwrap_err().to_string(), "must be 1 to 7");
        }
    }
}
