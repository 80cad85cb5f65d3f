//! RFC 3339 time stamps in UTC with microseconds, to and from Unix microseconds.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Unix time in microseconds; its text is `2026-11-21T14:50:00.000123Z`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The last microsecond of the year 9999, the end of what the text form can say.
    const MAX: u64 = 253_402_300_799_999_999;

    /// From microseconds since the Unix epoch; times after the year 9999 become its last microsecond.
    pub const fn from_unix_micros(micros: u64) -> Self {
        Self(if micros > Self::MAX {
            Self::MAX
        } else {
            micros
        })
    }

    /// Microseconds since the Unix epoch.
    pub const fn unix_micros(self) -> u64 {
        self.0
    }

    /// Reads any RFC 3339 time from 1970 on, whatever its fraction and offset.
    pub fn parse(text: &str) -> Option<Self> {
        let (date, time) = text.split_at_checked(10)?;
        let mut date = date.splitn(3, '-').map(digits);
        let (year, month, day) = (date.next()??, date.next()??, date.next()??);
        if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day)
        {
            return None;
        }
        let time = time.strip_prefix(['T', 't', ' '])?;
        let (clock, zone) = time.split_at(time.find(['Z', 'z', '+', '-'])?);
        let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
        let mut clock = clock.splitn(3, ':').map(digits);
        let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
        if hour > 23 || minute > 59 || second > 60 || fraction.is_empty() {
            return None;
        }
        digits(fraction.get(..fraction.len().min(18))?)?;
        let micros = fraction.bytes().chain(std::iter::repeat(b'0')).take(6);
        let micros = micros.fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
        let seconds =
            days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
        let seconds = seconds.checked_add_signed(-zone_seconds(zone)?)?;
        Some(Self::from_unix_micros(seconds * 1_000_000 + micros))
    }
}

/// A run of 1 to 18 decimal digits and nothing else.
fn digits(text: &str) -> Option<u64> {
    (text.len() <= 18 && text.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

fn zone_seconds(zone: &str) -> Option<i64> {
    if matches!(zone, "Z" | "z") {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let offset = zone.get(1..)?;
    // SRT's tools write +0100 where RFC 3339 wants +01:00.
    let (hours, minutes) = match offset.split_once(':') {
        Some(parts) => parts,
        None if offset.len() == 4 => offset.split_at_checked(2)?,
        None => return None,
    };
    let (hours, minutes) = (digits(hours)?, digits(minutes)?);
    (hours < 24 && minutes < 60).then(|| sign * (hours * 3600 + minutes * 60) as i64)
}

/// Days since 1970-01-01 of a date of the Gregorian calendar (years from 1970).
fn days_from_civil(year: u64, month: u64, day: u64) -> u64 {
    // Years that begin in March put the leap day at the end (Howard Hinnant, chrono-compatible date algorithms).
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - 719_468
}

fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year_of_era;
    if month < 10 {
        (year, month + 3, day)
    } else {
        (year + 1, month - 9, day)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, micros) = (self.0 / 1_000_000, self.0 % 1_000_000);
        let (year, month, day) = civil_from_days(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z"
        )
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom("not an RFC 3339 time"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAIRS: [(u64, &str); 6] = [
        (0, "1970-01-01T00:00:00.000000Z"),
        (951_782_400_000_001, "2000-02-29T00:00:00.000001Z"),
        (1_078_012_799_999_999, "2004-02-28T23:59:59.999999Z"),
        (1_795_262_400_500_000, "2026-11-21T12:00:00.500000Z"),
        (4_107_542_400_000_000, "2100-03-01T00:00:00.000000Z"),
        (Timestamp::MAX, "9999-12-31T23:59:59.999999Z"),
    ];

    #[test]
    fn text_both_ways() {
        for (micros, text) in PAIRS {
            assert_eq!(Timestamp::from_unix_micros(micros).to_string(), text);
            assert_eq!(Timestamp::parse(text), Some(Timestamp(micros)), "{text}");
        }
        assert_eq!(
            Timestamp::from_unix_micros(u64::MAX).to_string(),
            PAIRS[5].1
        );
    }

    #[test]
    fn every_day_of_two_centuries() {
        for day in 0..73_049 {
            let (year, month, date) = civil_from_days(day);
            assert_eq!(days_from_civil(year, month, date), day);
        }
    }

    #[test]
    fn other_forms_of_the_same_moment() {
        for text in [
            "2026-11-21T12:00:00.5Z",
            "2026-11-21t12:00:00.500z",
            "2026-11-21T13:00:00.500000000+01:00",
            "2026-11-21 11:30:00.5-00:30",
            "2026-11-21T13:00:00.500000+0100",
        ] {
            assert_eq!(
                Timestamp::parse(text),
                Some(Timestamp(1_795_262_400_500_000)),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "yesterday",
            "2026-11-21",
            "2026-13-01T00:00:00Z",
            "2026-11-21T25:00:00Z",
            "2026-11-21T12:00:00",
            "2026-11-21T12:00Z",
            "2026-11-21T12:00:00.Z",
            "2026-11-21T12:00:00.-5Z",
            "1969-12-31T23:59:59Z",
            "2026-11-21T12:00:00+1",
            "1970-01-01T00:00:00+01:00",
            "+026-11-21T12:00:00Z",
            "2026-11-2é",
        ] {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
    }
}
