//! When an output file is cut.

use std::fmt;
use std::str::FromStr;

use super::{DurationValue, Size, ValueError};

/// When an output file is closed and the next one begun: after so many bytes, or so much time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotate {
    /// After this many bytes.
    Size(Size),
    /// After this much time.
    Time(DurationValue),
}

impl Rotate {
    /// As the outputs take it.
    pub const fn get(self) -> crate::io::media::Rotate {
        match self {
            Self::Size(size) => crate::io::media::Rotate::Bytes(size.bytes()),
            Self::Time(time) => crate::io::media::Rotate::Every(time.get()),
        }
    }
}

impl FromStr for Rotate {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        const EXAMPLE: &str = "100MB or 10min";
        let span = super::duration(
            std::time::Duration::from_secs(1),
            std::time::Duration::from_secs(366 * 86_400),
        );
        match text.parse() {
            Ok(size) => Ok(Self::Size(size)),
            Err(ValueError::UnitUnknown { .. }) => match span(text) {
                Ok(time) => Ok(Self::Time(time)),
                Err(ValueError::UnitUnknown { unit, .. }) => Err(ValueError::UnitUnknown {
                    unit,
                    example: EXAMPLE,
                }),
                Err(error) => Err(error),
            },
            Err(ValueError::UnitMissing { .. }) => {
                Err(ValueError::UnitMissing { example: EXAMPLE })
            }
            Err(ValueError::NotNumber { .. } | ValueError::Empty { .. }) => {
                Err(ValueError::NotNumber { example: EXAMPLE })
            }
            Err(error) => Err(error),
        }
    }
}

impl fmt::Display for Rotate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size(size) => size.fmt(f),
            Self::Time(time) => time.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(text: &str) -> String {
        text.parse::<Rotate>()
            .map_or_else(|error| error.to_string(), |value| value.to_string())
    }

    #[test]
    fn rotations() {
        for (text, expected) in [
            ("100MB", "100MB"),
            ("10min", "10min"),
            ("100", "unit missing, for example 100MB or 10min"),
            ("100x", "unknown unit \"x\", for example 100MB or 10min"),
            ("", "not a number, for example 100MB or 10min"),
            ("0B", "must be 1B to 1024TiB"),
            ("1ms", "must be 1s to 366d"),
        ] {
            assert_eq!(round(text), expected, "{text}");
        }
    }
}
