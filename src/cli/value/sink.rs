//! Where records go, and when an output file is cut.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::{DurationValue, ParentAddr, Size, ValueError};

/// Highest descriptor number taken: the usual soft limit of open files, less one.
pub(crate) const DESCRIPTOR_MAX: u32 = 1023;

/// Where records go: `-`, `fd:N`, `PATH` (or `file:PATH`), `unix:PATH`, `udp://HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatsDest {
    /// Standard output.
    Stdout,
    /// A descriptor that is already open.
    Descriptor(u32),
    /// A file, appended to.
    File(PathBuf),
    /// A stream socket.
    Unix(PathBuf),
    /// One datagram a record; the port must be given.
    Udp(ParentAddr),
}

impl FromStr for StatsDest {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        const EXAMPLE: &str = "fd:3 or stats.jsonl";
        if let Some(number) = text.strip_prefix("fd:") {
            let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
            let number = number
                .parse()
                .ok()
                .filter(|n| digits && *n <= DESCRIPTOR_MAX);
            return number.map(Self::Descriptor).ok_or(ValueError::Descriptor);
        }
        if let Some(place) = text.strip_prefix("udp://") {
            let place: ParentAddr = match place.rsplit_once(':') {
                Some((_, port)) if !port.ends_with(']') => place.parse()?,
                _ => {
                    return Err(ValueError::NeedAddressPort {
                        example: "udp://127.0.0.1:9000",
                    });
                }
            };
            return Ok(Self::Udp(place));
        }
        if let Some((scheme, _)) = text.split_once("://")
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())
        {
            return Err(ValueError::NeedOneOf {
                words: "-, fd:N, PATH, unix:PATH or udp://HOST:PORT",
            });
        }
        match text {
            "-" => Ok(Self::Stdout),
            "" | "file:" | "unix:" => Err(ValueError::Empty { example: EXAMPLE }),
            _ => Ok(match text.strip_prefix("unix:") {
                Some(path) => Self::Unix(path.into()),
                None => Self::File(text.strip_prefix("file:").unwrap_or(text).into()),
            }),
        }
    }
}

impl fmt::Display for StatsDest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("-"),
            Self::Descriptor(number) => write!(f, "fd:{number}"),
            Self::File(path) => {
                // A file that would read as something else keeps its prefix.
                let text = path.to_string_lossy();
                let plain = text.parse() == Ok(Self::File(path.clone()));
                write!(f, "{}{text}", if plain { "" } else { "file:" })
            }
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Udp(place) => write!(f, "udp://{place}"),
        }
    }
}

/// When an output file is closed and the next one begun: after so many bytes, or so much time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotate {
    /// After this many bytes.
    Size(Size),
    /// After this much time.
    Time(DurationValue),
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

    fn round<T: FromStr<Err = ValueError> + fmt::Display>(text: &str) -> String {
        text.parse::<T>()
            .map_or_else(|error| error.to_string(), |value| value.to_string())
    }

    #[test]
    fn stats_destinations() {
        for (text, expected) in [
            ("-", "-"),
            ("fd:3", "fd:3"),
            ("qos.jsonl", "qos.jsonl"),
            ("file:fd:3", "file:fd:3"),
            ("file:-", "file:-"),
            ("/dev/fd/3", "/dev/fd/3"),
            ("unix:/run/x", "unix:/run/x"),
            ("udp://127.0.0.1:9000", "udp://127.0.0.1:9000"),
            ("udp://[::1]:9000", "udp://[::1]:9000"),
            (
                "udp://[::1]",
                "need ADDR:PORT, for example udp://127.0.0.1:9000",
            ),
            (
                "udp://host",
                "need ADDR:PORT, for example udp://127.0.0.1:9000",
            ),
            ("fd:x", "need fd:N with N from 0 to 1023"),
            ("fd:+3", "need fd:N with N from 0 to 1023"),
            ("fd:9999", "need fd:N with N from 0 to 1023"),
            ("", "empty, for example fd:3 or stats.jsonl"),
            (
                "tcp://x:1",
                "need -, fd:N, PATH, unix:PATH or udp://HOST:PORT",
            ),
        ] {
            assert_eq!(round::<StatsDest>(text), expected, "{text}");
        }
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
            assert_eq!(round::<Rotate>(text), expected, "{text}");
        }
    }
}
