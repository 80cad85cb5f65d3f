//! `--since 2026-11-21T20:00:00Z`, `--since 10min`: from when on.

use std::str::FromStr;
use std::time::{Duration, SystemTime};

use super::DurationValue;
use crate::stats::timestamp::Timestamp;
use crate::time::micros;

/// A moment: as a time, or as how long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// This moment.
    At(Timestamp),
    /// So long before the question is asked.
    Ago(Duration),
}

impl FromStr for Since {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        if let Some(at) = Timestamp::parse(text) {
            return Ok(Self::At(at));
        }
        let ago: DurationValue = text
            .parse()
            .map_err(|_| "need a time, for example 2026-11-21T20:00:00Z or 10min")?;
        Ok(Self::Ago(ago.get()))
    }
}

impl Since {
    /// The moment, by the clock of this machine.
    pub fn timestamp(self) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(span) => {
                let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                let before = unix.unwrap_or_default().saturating_sub(span);
                Timestamp::from_unix_micros(micros(before))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_ago_count_from_now() {
        let ago = "10min".parse();
        assert_eq!(ago, Ok(Since::Ago(Duration::from_secs(600))));
        let at = "2026-11-21T20:00:00Z"
            .parse::<Since>()
            .map(Since::timestamp);
        let wanted = Timestamp::parse("2026-11-21T20:00:00Z");
        assert_eq!(at.ok(), wanted);
        assert!("yesterday".parse::<Since>().is_err() && "10".parse::<Since>().is_err());
    }
}
