//! Where to listen, whom to ask: addresses, hosts, tracker URLs.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::{Shown, ValueError};

/// Longest host name, in characters (RFC 1035 §2.3.4).
const HOST_CHARACTERS_MAX: usize = 253;
/// Longest path of a tracker URL, in characters.
const PATH_CHARACTERS_MAX: usize = 1024;

/// Address families a tool may use: `-4`, `-6`, or both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// Whatever works.
    #[default]
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

impl Family {
    /// Whether an address may be used.
    pub const fn allows(self, address: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
        }
    }
}

/// A machine: an address or a name still to be looked up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A literal address.
    Ip(IpAddr),
    /// A name, 1 to 253 characters of letters, digits, `.`, `-`, `_`.
    Name(String),
}

impl Host {
    /// A host without brackets, as split from its port.
    fn parse(text: &str) -> Result<Self, ValueError> {
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Ok(Self::Ip(address.into()));
        }
        if let Ok(address) = text.parse::<Ipv6Addr>() {
            return Ok(Self::Ip(address.into()));
        }
        let bad = || ValueError::BadHost {
            host: Shown::part(text),
        };
        // All digits and dots is a mistyped address (1.2.3.400), which a resolver would wait for.
        let has_letter = text.bytes().any(|byte| byte.is_ascii_alphabetic());
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        if has_letter
            && text.len() <= HOST_CHARACTERS_MAX
            && text.bytes().all(known)
            && !text.starts_with(['.', '-'])
        {
            Ok(Self::Name(text.to_ascii_lowercase()))
        } else {
            Err(bad())
        }
    }

    /// Whether this is surely this machine itself.
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Ip(address) => address.is_loopback(),
            Self::Name(name) => name == "localhost",
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Ip(IpAddr::V4(address)) => address.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Host and port as texts: `host`, `host:port`, `[v6]`, `[v6]:port`.
fn split_port(text: &str) -> Result<(&str, Option<&str>), ValueError> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or(ValueError::Brackets)?;
        if host.parse::<Ipv6Addr>().is_err() {
            return Err(ValueError::BadHost {
                host: Shown::part(host),
            });
        }
        return match after.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if after.is_empty() => Ok((host, None)),
            None => Err(ValueError::Brackets),
        };
    }
    match text.split_once(':') {
        None => Ok((text, None)),
        Some((_, port)) if port.contains(':') => Err(ValueError::Brackets),
        Some((host, port)) => Ok((host, Some(port))),
    }
}

/// A port, 0 included.
fn parse_port(text: &str) -> Result<u16, ValueError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ValueError::PortNotNumber);
    }
    text.parse().map_err(|_| ValueError::PortAboveMax)
}

/// A port somebody else listens on, or the default one.
fn parse_remote_port(text: Option<&str>, default: u16) -> Result<u16, ValueError> {
    match text.map(parse_port).transpose()? {
        Some(0) => Err(ValueError::PortZero),
        Some(port) => Ok(port),
        None => Ok(default),
    }
}

/// Where a tool listens: `ADDR:PORT`, `[V6]:PORT`, or `:PORT` for every address of both families. Port 0 is any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenAddr {
    /// The address; none is all addresses.
    pub address: Option<IpAddr>,
    /// The port; 0 lets the system choose.
    pub port: u16,
}

impl ListenAddr {
    /// The socket address to bind for a family, and whether an IPv6 socket takes IPv4 as well; none when the family
    /// excludes the address.
    pub fn resolve(self, family: Family) -> Option<(SocketAddr, bool)> {
        match (self.address, family) {
            (None, Family::V4) => Some(((Ipv4Addr::UNSPECIFIED, self.port).into(), false)),
            (None, _) => Some((
                (Ipv6Addr::UNSPECIFIED, self.port).into(),
                family == Family::Any,
            )),
            (Some(address), _) if family.allows(address) => {
                let dual = address == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && family == Family::Any;
                Some(((address, self.port).into(), dual))
            }
            (Some(_), _) => None,
        }
    }
}

impl FromStr for ListenAddr {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        const EXAMPLE: &str = "127.0.0.1:7850";
        let (host, port) = split_port(text)?;
        let port = port.ok_or(ValueError::NeedAddressPort { example: ":7850" })?;
        let port = parse_port(port)?;
        let address = match host {
            "" => None,
            _ => match Host::parse(host)? {
                Host::Ip(address) => Some(address),
                Host::Name(_) => return Err(ValueError::NeedAddress { example: EXAMPLE }),
            },
        };
        Ok(Self { address, port })
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => SocketAddr::from((address, self.port)).fmt(f),
            None => write!(f, ":{}", self.port),
        }
    }
}

/// A neighbour to fetch from: `HOST[:PORT]`, port 7850 unless told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ParentAddr {
    /// The machine.
    pub host: Host,
    /// Its UDP port, never 0.
    pub port: u16,
}

impl ParentAddr {
    /// Where sources, relays and peers listen unless told otherwise.
    pub const PORT_DEFAULT: u16 = 7850;
}

impl FromStr for ParentAddr {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.is_empty() {
            return Err(ValueError::Empty {
                example: "relay1:7850",
            });
        }
        let (host, port) = split_port(text)?;
        Ok(Self {
            host: Host::parse(host)?,
            port: parse_remote_port(port, Self::PORT_DEFAULT)?,
        })
    }
}

impl fmt::Display for ParentAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// How a tracker is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `http://`, and every tracker written without a scheme.
    Http,
    /// `https://`.
    Https,
}

/// A tracker: `http://HOST[:PORT][/PATH]`, `https://…`, or `HOST[:PORT]`. Unless told, the port is 7851 without a scheme,
/// and that of the scheme with one: such a tracker stands behind a web server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TrackerUrl {
    /// How it is spoken to.
    pub scheme: Scheme,
    /// The machine.
    pub host: Host,
    /// Its TCP port, never 0.
    pub port: u16,
    /// The path, with its leading slash; empty when none was given.
    pub path: String,
}

impl TrackerUrl {
    /// Where trackers listen unless told otherwise.
    pub const PORT_DEFAULT: u16 = 7851;

    /// The whole URL, as an HTTP client wants it.
    pub fn to_url(&self) -> String {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        let path = if self.path.is_empty() {
            "/"
        } else {
            &self.path
        };
        format!("{scheme}://{}:{}{path}", self.host, self.port)
    }

    /// `HOST[:PORT]` with nothing else, as it stands in a `p2ps://` address.
    pub(super) fn parse_bare(text: &str) -> Result<Self, ValueError> {
        Self::parse_authority(text, Self::PORT_DEFAULT)
    }

    fn parse_authority(text: &str, default: u16) -> Result<Self, ValueError> {
        let (host, port) = split_port(text)?;
        Ok(Self {
            scheme: Scheme::Http,
            host: Host::parse(host)?,
            port: parse_remote_port(port, default)?,
            path: String::new(),
        })
    }
}

impl FromStr for TrackerUrl {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.is_empty() {
            return Err(ValueError::Empty {
                example: "127.0.0.1:7851",
            });
        }
        let (scheme, default, rest) = match text.split_once("://") {
            None => {
                // A scheme without its slashes, or a path: not a bare host, and the cure is the same.
                if text.contains(['/', '?', '#', '@']) {
                    return Err(ValueError::TrackerScheme);
                }
                return Self::parse_bare(text);
            }
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (Scheme::Http, 80, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => {
                (Scheme::Https, 443, rest)
            }
            Some(_) => return Err(ValueError::TrackerScheme),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if path.len() > PATH_CHARACTERS_MAX {
            return Err(ValueError::TooLong {
                found: path.chars().count(),
                limit: PATH_CHARACTERS_MAX,
            });
        }
        // Graphic ASCII only: what else belongs into a path is percent-encoded by whoever wrote it. No query, no user.
        let plain = |byte: u8| byte.is_ascii_graphic() && !b"?#".contains(&byte);
        if !path.bytes().all(plain) {
            return Err(ValueError::TrackerScheme);
        }
        Ok(Self {
            scheme,
            path: if path == "/" { "" } else { path }.to_owned(),
            ..Self::parse_authority(authority, default)?
        })
    }
}

impl fmt::Display for TrackerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scheme {
            Scheme::Http if self.path.is_empty() => write!(f, "{}:{}", self.host, self.port),
            _ => f.write_str(&self.to_url()),
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
    fn listen_addresses() {
        for (text, expected) in [
            ("1.2.3.4:7850", "1.2.3.4:7850"),
            (":0", ":0"),
            ("[::]:7850", "[::]:7850"),
            ("[::1]:0", "[::1]:0"),
            ("1.2.3.4:99999", "port above 65535"),
            ("1.2.3.4:65536", "port above 65535"),
            ("1.2.3.4", "need ADDR:PORT, for example :7850"),
            ("7850", "need ADDR:PORT, for example :7850"),
            ("", "need ADDR:PORT, for example :7850"),
            (
                "localhost:1",
                "need an IP address, for example 127.0.0.1:7850",
            ),
            ("1.2.3.400:1", "bad host name \"1.2.3.400\""),
            ("1.2.3.4:x", "port is not a number"),
            ("1.2.3.4:+1", "port is not a number"),
            ("1.2.3.4:", "port is not a number"),
            (
                "::1:7850",
                "put an IPv6 address in brackets, for example [::1]:7850",
            ),
            (
                "[::1",
                "put an IPv6 address in brackets, for example [::1]:7850",
            ),
            (
                "[::1]7850",
                "put an IPv6 address in brackets, for example [::1]:7850",
            ),
            ("[host]:1", "bad host name \"host\""),
        ] {
            assert_eq!(round::<ListenAddr>(text), expected, "{text}");
        }
    }

    #[test]
    fn families_choose_what_is_bound() {
        let any: ListenAddr = ":7850".parse().unwrap();
        let four: ListenAddr = "10.0.0.1:1".parse().unwrap();
        for (listen, family, expected) in [
            (any, Family::Any, Some(("[::]:7850", true))),
            (any, Family::V4, Some(("0.0.0.0:7850", false))),
            (any, Family::V6, Some(("[::]:7850", false))),
            (four, Family::Any, Some(("10.0.0.1:1", false))),
            (four, Family::V4, Some(("10.0.0.1:1", false))),
            (four, Family::V6, None),
        ] {
            let expected = expected.map(|(text, dual)| (text.parse().unwrap(), dual));
            assert_eq!(listen.resolve(family), expected, "{listen} {family:?}");
        }
    }

    #[test]
    fn parents() {
        for (text, expected) in [
            ("relay1", "relay1:7850"),
            ("Relay1.Example.org:9", "relay1.example.org:9"),
            ("10.0.0.1", "10.0.0.1:7850"),
            ("[2001:db8::1]", "[2001:db8::1]:7850"),
            ("", "empty, for example relay1:7850"),
            (":7850", "bad host name \"\""),
            ("relay1:0", "port 0 cannot be reached"),
            ("re lay", "bad host name \"re lay\""),
            ("rеlay", "bad host name \"rеlay\""), // The second letter is Cyrillic.
            (
                "2001:db8::1",
                "put an IPv6 address in brackets, for example [::1]:7850",
            ),
        ] {
            assert_eq!(round::<ParentAddr>(text), expected, "{text}");
        }
    }

    #[test]
    fn trackers() {
        for (text, expected) in [
            ("127.0.0.1", "127.0.0.1:7851"),
            ("t1:80", "t1:80"),
            ("http://t1", "t1:80"),
            ("http://t1:7851/", "t1:7851"),
            ("HTTPS://t1/p2ps", "https://t1:443/p2ps"),
            ("https://[::1]:7851", "https://[::1]:7851/"),
            ("ftp://x", "need http, https or host:port"),
            ("file:///etc/passwd", "need http, https or host:port"),
            ("t1/p2ps", "need http, https or host:port"),
            ("http://t1/a?b", "need http, https or host:port"),
            ("http://", "bad host name \"\""),
            ("http://u:p@t1", "bad host name \"u\""),
            ("", "empty, for example 127.0.0.1:7851"),
        ] {
            let shown = round::<TrackerUrl>(text);
            if text.contains('@') {
                assert!(!shown.is_empty() && text.parse::<TrackerUrl>().is_err());
            } else {
                assert_eq!(shown, expected, "{text}");
            }
        }
        assert_eq!(
            "t1".parse::<TrackerUrl>().unwrap().to_url(),
            "http://t1:7851/"
        );
    }
}
