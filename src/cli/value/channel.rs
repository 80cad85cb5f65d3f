//! What to watch: channel names, `p2ps://` addresses, and whatever else can stand in their place.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::{
    DurationValue, ParentAddr, Shown, Ticket, TicketError, TrackerUrl, ValueError, duration,
    nearest,
};
use crate::ids::{IdError, SwarmId, decode_hex};

/// How every channel address begins.
const SCHEME: &str = "p2ps://";
/// Most trackers or hosts one address may name.
const HOSTS_MAX: usize = 16;

/// A channel's name at its trackers: 1 to 64 of `A-Z a-z 0-9 . _ -`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelName(String);

impl ChannelName {
    /// Longest name, in characters.
    pub const CHARACTERS_MAX: usize = 64;

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ChannelName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.is_empty() {
            return Err(ValueError::Empty { example: "film" });
        }
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if let Some(index) = text.chars().position(|c| !known(c)) {
            return Err(ValueError::NameCharacter {
                position: index + 1,
            });
        }
        if text.len() > Self::CHARACTERS_MAX {
            return Err(ValueError::TooLong {
                found: text.len(),
                limit: Self::CHARACTERS_MAX,
            });
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which chunk a newcomer starts with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum StartAt {
    /// The newest point where a player can begin.
    #[default]
    Live,
    /// The oldest such point that the neighbours still hold.
    Oldest,
}

impl fmt::Display for StartAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Live => "live",
            Self::Oldest => "oldest",
        })
    }
}

/// What an address may ask for after its `?`; a flag of the same name wins over it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UriOptions {
    /// `latency` (or `buffer`): as `--latency`.
    pub latency: Option<DurationValue>,
    /// `from`: as `--from`.
    pub from: Option<StartAt>,
    /// `window`: as `--window`.
    pub window: Option<DurationValue>,
    /// `timeout`: as `--timeout`.
    pub timeout: Option<DurationValue>,
}

/// Range of `--latency`.
pub(crate) const LATENCY: (Duration, Duration) = (Duration::ZERO, Duration::from_secs(600));
/// Range of `--window`.
pub(crate) const WINDOW: (Duration, Duration) =
    (Duration::from_secs(1), Duration::from_secs(3_600));
/// Range of `--timeout`.
pub(crate) const TIMEOUT: (Duration, Duration) =
    (Duration::from_millis(1), Duration::from_secs(86_400));

impl UriOptions {
    /// The options in `k=v&k=v`.
    fn parse(query: &str) -> Result<Self, ValueError> {
        const KNOWN: [&str; 5] = ["latency", "buffer", "from", "window", "timeout"];
        let mut options = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let span = |name, (low, high)| {
                duration(low, high)(value).map(Some).map_err(|why| {
                    let why = Box::new(why);
                    ValueError::Parameter { name, why }
                })
            };
            match name {
                "latency" | "buffer" => options.latency = span("latency", LATENCY)?,
                "window" => options.window = span("window", WINDOW)?,
                "timeout" => options.timeout = span("timeout", TIMEOUT)?,
                "from" => {
                    options.from = Some(match value {
                        "live" => StartAt::Live,
                        "oldest" => StartAt::Oldest,
                        _ => {
                            let why = Box::new(ValueError::NeedOneOf {
                                words: "live or oldest",
                            });
                            return Err(ValueError::Parameter { name: "from", why });
                        }
                    });
                }
                _ => {
                    return Err(ValueError::UnknownParameter {
                        name: Shown::part(name),
                        nearest: nearest(name, KNOWN)
                            .and_then(|word| KNOWN.into_iter().find(|known| *known == word)),
                    });
                }
            }
        }
        Ok(options)
    }

    /// The options as they stand after the `?`, in one order.
    fn pairs(&self) -> impl Iterator<Item = (&'static str, String)> {
        [
            ("latency", self.latency.map(|value| value.to_string())),
            ("from", self.from.map(|value| value.to_string())),
            ("window", self.window.map(|value| value.to_string())),
            ("timeout", self.timeout.map(|value| value.to_string())),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }
}

/// Where a channel address points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A name, known to these trackers: `p2ps://TRACKER[:PORT][,…]/CHANNEL`.
    Trackers {
        /// Whom to ask, in order; 1 to 16.
        trackers: Vec<TrackerUrl>,
        /// What to ask for.
        name: ChannelName,
    },
    /// A channel id, served by these hosts: `p2ps://CHANNELID@HOST[:PORT][,…]`.
    Parents {
        /// The swarm identifier of the live stream.
        channel: SwarmId,
        /// Whom to fetch from, in order; 1 to 16.
        parents: Vec<ParentAddr>,
    },
}

/// A channel address: `p2ps://…`, with options after `?`. Never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelUri {
    /// Where it points.
    pub place: Place,
    /// What it asks for.
    pub options: UriOptions,
}

impl FromStr for ChannelUri {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let bad = |why| ReferenceError::Uri {
            uri: Shown::new(text),
            why,
        };
        let Some(rest) = text.strip_prefix(SCHEME) else {
            return Err(ReferenceError::Neither {
                text: Shown::new(text),
            });
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, name) = match rest.split_once('/') {
            Some((authority, name)) => (authority, Some(name)),
            None => (rest, None),
        };
        let place = match authority.rsplit_once('@') {
            Some((id, hosts)) => {
                let channel = parse_channel_id(id)?;
                if name.is_some_and(|name| !name.is_empty()) {
                    return Err(bad(ValueError::NeedOneOf {
                        words: "p2ps://TRACKER/CHANNEL or p2ps://CHANNELID@HOST:PORT",
                    }));
                }
                Place::Parents {
                    channel,
                    parents: parse_list(hosts, "host", str::parse).map_err(bad)?,
                }
            }
            None => Place::Trackers {
                trackers: parse_list(authority, "tracker", TrackerUrl::parse_bare).map_err(bad)?,
                name: match name {
                    None | Some("") => {
                        return Err(bad(ValueError::Missing {
                            part: "channel: need p2ps://TRACKER/CHANNEL",
                        }));
                    }
                    Some(name) => name.parse().map_err(bad)?,
                },
            },
        };
        let options = UriOptions::parse(query).map_err(bad)?;
        Ok(Self { place, options })
    }
}

/// A comma-separated list of 1 to 16 places.
fn parse_list<T>(
    text: &str,
    part: &'static str,
    parse: impl Fn(&str) -> Result<T, ValueError>,
) -> Result<Vec<T>, ValueError> {
    if text.is_empty() {
        return Err(ValueError::Missing { part });
    }
    let found = text.split(',').count();
    if found > HOSTS_MAX {
        return Err(ValueError::TooMany {
            what: "hosts",
            found,
            limit: HOSTS_MAX,
        });
    }
    text.split(',').map(parse).collect()
}

/// The swarm identifier of a live stream in hexadecimal: one byte for the algorithm, then the public key
/// (RFC 7574 §7.4, §7.6).
pub(crate) fn parse_channel_id(text: &str) -> Result<SwarmId, ReferenceError> {
    let bytes = decode_hex(text).map_err(|why| match why {
        IdError::NotHex { .. } => ReferenceError::Id {
            id: Shown::new(text),
            why,
        },
        IdError::Length { .. } => ReferenceError::IdLength { why },
    });
    check_channel_id(bytes?)
}

/// Bytes that must be the swarm identifier of a live stream.
pub(super) fn check_channel_id(bytes: Vec<u8>) -> Result<SwarmId, ReferenceError> {
    let found = bytes.len();
    let length = |needed| ReferenceError::IdLength {
        why: IdError::Length {
            bytes: found,
            needed,
        },
    };
    // Ed25519, P-256 and P-384 keys have one length each; an RSA key of 1024 bits is the shortest we verify.
    let algorithm = bytes.first().copied().unwrap_or(15);
    match algorithm {
        13 if found != 65 => return Err(length(65)),
        14 if found != 97 => return Err(length(97)),
        5 | 8 | 10 if found < 131 => return Err(length(131)),
        5 | 8 | 10 | 13 | 14 => {}
        _ if found != 33 => return Err(length(33)),
        15 => {}
        _ => return Err(ReferenceError::IdAlgorithm { algorithm }),
    }
    SwarmId::new(bytes).map_err(|why| ReferenceError::IdLength { why })
}

impl fmt::Display for ChannelUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn list<T: fmt::Display>(items: &[T], f: &mut fmt::Formatter<'_>) -> fmt::Result {
            items.iter().enumerate().try_for_each(|(index, item)| {
                let comma = if index == 0 { "" } else { "," };
                write!(f, "{comma}{item}")
            })
        }
        f.write_str(SCHEME)?;
        match &self.place {
            Place::Trackers { trackers, name } => {
                list(trackers, f)?;
                write!(f, "/{name}")?;
            }
            Place::Parents { channel, parents } => {
                write!(f, "{channel}@")?;
                list(parents, f)?;
            }
        }
        self.options
            .pairs()
            .enumerate()
            .try_for_each(|(index, (name, value))| {
                let mark = if index == 0 { '?' } else { '&' };
                write!(f, "{mark}{name}={value}")
            })
    }
}

/// What the first argument of relay and peer may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelRef {
    /// `p2ps://…`
    Uri(ChannelUri),
    /// `p2ps-ticket…`
    Ticket(Ticket),
}

impl FromStr for ChannelRef {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.starts_with(Ticket::PREFIX) {
            return Ok(Self::Ticket(text.parse()?));
        }
        Ok(Self::Uri(text.parse()?))
    }
}

impl fmt::Display for ChannelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uri(uri) => uri.fmt(f),
            Self::Ticket(ticket) => ticket.fmt(f),
        }
    }
}

/// What the first argument of a peer may be: a channel, or with `--list` only its trackers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerRef {
    /// A channel.
    Channel(ChannelRef),
    /// `p2ps://TRACKER[:PORT][,…]` without a channel.
    Trackers {
        /// Whom to ask, in order; 1 to 16.
        trackers: Vec<TrackerUrl>,
        /// Why it is no channel.
        why: ReferenceError,
    },
}

impl FromStr for PeerRef {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let why = match text.parse() {
            Ok(channel) => return Ok(Self::Channel(channel)),
            Err(why) => why,
        };
        let hosts = text.strip_prefix(SCHEME).unwrap_or_default();
        let hosts = hosts.strip_suffix('/').unwrap_or(hosts);
        match parse_list(hosts, "tracker", TrackerUrl::parse_bare) {
            Ok(trackers) => Ok(Self::Trackers { trackers, why }),
            Err(_) => Err(why),
        }
    }
}

/// Why a text points to no channel. Displays as a whole error line without the tool's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// The channel id is no hexadecimal text.
    #[error("bad channel id {id}: {why}")]
    Id {
        /// The id as given.
        id: Shown,
        /// What is wrong with it.
        why: IdError,
    },
    /// The channel id is cut or too long; it is not shown, for nobody can see a missing digit in it.
    #[error("bad channel id: {why}")]
    IdLength {
        /// Bytes found and needed.
        why: IdError,
    },
    /// The channel id begins with no algorithm that can be verified.
    #[error("bad channel id: unknown signature algorithm {algorithm}")]
    IdAlgorithm {
        /// The first byte of the id.
        algorithm: u8,
    },
    /// Another part of a `p2ps://` address is wrong.
    #[error("bad address {uri}: {why}")]
    Uri {
        /// The address as given.
        uri: Shown,
        /// What is wrong with it.
        why: ValueError,
    },
    /// A ticket that is none; it is not shown, for it may hold a token.
    #[error("bad ticket: {0}")]
    Ticket(#[from] TicketError),
    /// Neither of the two forms.
    #[error(
        "bad address {text}: need p2ps://TRACKER/CHANNEL, p2ps://CHANNELID@HOST:PORT or a ticket"
    )]
    Neither {
        /// The argument as given.
        text: Shown,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0f974d96a22d224bc01adb915091477d44ccd91c9a41a11430010117d52c59240e";

    fn round(text: &str) -> String {
        text.parse::<ChannelRef>()
            .map_or_else(|error| error.to_string(), |value| value.to_string())
    }

    #[test]
    fn names() {
        for (text, good) in [
            ("film", true),
            ("A.b_c-9", true),
            (&"x".repeat(64), true),
            (&"x".repeat(65), false),
            ("", false),
            ("a b", false),
            ("fílm", false),
            ("../etc", false),
        ] {
            assert_eq!(text.parse::<ChannelName>().is_ok(), good, "{text}");
        }
    }

    #[test]
    fn addresses_print_back() {
        for (text, expected) in [
            ("p2ps://127.0.0.1/film", "p2ps://127.0.0.1:7851/film"),
            ("p2ps://t1,[::1]:80/film", "p2ps://t1:7851,[::1]:80/film"),
            (
                "p2ps://t1/film?buffer=250ms&from=oldest",
                "p2ps://t1:7851/film?latency=250ms&from=oldest",
            ),
        ] {
            assert_eq!(round(text), expected);
            assert_eq!(round(expected), expected);
        }
        let by_id = format!("p2ps://{ID}@relay1:7850,10.0.0.1:9?timeout=5s");
        assert_eq!(round(&by_id), by_id);
        assert_eq!(
            round(&format!("p2ps://{ID}@r/")),
            format!("p2ps://{ID}@r:7850")
        );
    }

    #[test]
    fn bad_addresses_say_what_is_wrong() {
        let short = &ID[..64];
        let neither =
            "need p2ps://TRACKER/CHANNEL, p2ps://CHANNELID@HOST:PORT or a ticket".to_owned();
        for (text, expected) in [
            (
                "p2ps://zz@host".to_owned(),
                "bad channel id \"zz\": not hexadecimal at character 1".to_owned(),
            ),
            (
                format!("p2ps://{short}@host"),
                "bad channel id: 32 bytes, need 33".to_owned(),
            ),
            (
                format!("p2ps://{}@host", &ID[..65]),
                "bad channel id: 32 bytes, need 33".to_owned(),
            ),
            (
                format!("p2ps://0d{}@host", &ID[2..]),
                "bad channel id: 33 bytes, need 65".to_owned(),
            ),
            (
                format!("p2ps://0e{}@host", &ID[2..]),
                "bad channel id: 33 bytes, need 97".to_owned(),
            ),
            (
                format!("p2ps://63{}@host", &ID[2..]),
                "bad channel id: unknown signature algorithm 99".to_owned(),
            ),
            (
                "p2ps://@host".to_owned(),
                "bad channel id: 0 bytes, need 33".to_owned(),
            ),
            (
                format!("p2ps://{ID}@"),
                format!("bad address \"p2ps://{ID}@\": no host"),
            ),
            (
                "p2ps://t1".to_owned(),
                "bad address \"p2ps://t1\": no channel: need p2ps://TRACKER/CHANNEL".to_owned(),
            ),
            (
                "p2ps:///film".to_owned(),
                "bad address \"p2ps:///film\": no tracker".to_owned(),
            ),
            (
                "p2ps://t1/film?latncy=1s".to_owned(),
                "bad address \"p2ps://t1/film?latncy=1s\": unknown parameter \"latncy\": did you mean latency?"
                    .to_owned(),
            ),
            (
                "p2ps://t1/film?latency=5".to_owned(),
                "bad address \"p2ps://t1/film?latency=5\": latency: unit missing, for example 250ms"
                    .to_owned(),
            ),
            ("film".to_owned(), format!("bad address \"film\": {neither}")),
            (
                "P2PS://t1/film".to_owned(),
                format!("bad address \"P2PS://t1/film\": {neither}"),
            ),
        ] {
            assert_eq!(round(&text), expected);
        }
        let many = format!("p2ps://{}/film", vec!["t"; 17].join(","));
        assert!(round(&many).ends_with("17 hosts, limit 16"));
    }
}
