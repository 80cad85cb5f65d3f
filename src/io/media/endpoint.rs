//! Where media comes from or goes to, as people write it: `-`, `fd:3`, `film.ts`, `udp://…`.
//!
//! Parsing and printing only; `Input` and `Output` open what is named here.

use crate::io::value::{DurationValue, Rate, Shown, ValueError, bytes, duration, nearest};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// One end of the media, as an argument names it.
///
/// ```
/// use p2ps::io::media::Endpoint;
///
/// let endpoint: Endpoint = "udp://@239.1.1.1:5000?interface=eth0&ttl=4".parse()?;
/// assert_eq!(endpoint.to_string(), "udp://239.1.1.1:5000?ttl=4&iface=eth0");
/// # Ok::<(), p2ps::io::media::EndpointError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Endpoint {
    /// `-`: standard input or output.
    Standard,
    /// `fd:N`: a descriptor that the parent process opened.
    Descriptor(u32),
    /// `PATH` or `file:PATH`: a file, FIFO or device.
    File(PathBuf),
    /// `udp://HOST:PORT`: plain datagrams.
    Udp(Box<Datagrams>),
    /// `rtp://HOST:PORT`: RTP/AVP with MPEG-TS, payload type 33 (RFC 3551).
    Rtp(Box<Datagrams>),
    /// `unix:PATH`: a stream socket.
    Unix(PathBuf),
    /// `http://ADDR:PORT/`: a server for players; output only.
    Http(HttpAddress),
}

/// Address and settings of a datagram endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagrams {
    /// Where to listen, or to send.
    pub host: Host,
    /// 0 as an input: any free port.
    pub port: u16,
    /// What followed the question mark.
    pub options: DatagramOptions,
}

/// The parameters of `udp://` and `rtp://`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DatagramOptions {
    /// `pkt_size`: largest payload of a datagram, 188 to 1500 bytes; 1316 when not given.
    pub packet_bytes: Option<usize>,
    /// `ttl`: hops of what is sent.
    pub ttl: Option<u8>,
    /// `iptos`, `tos`: type of service, or traffic class.
    pub tos: Option<u8>,
    /// `iface`, `interface`, `miface`, `localaddr`, `adapter`: interface by name or by address.
    pub interface: Option<String>,
    /// `source`, `sources`: the only senders listened to; a multicast group is joined for them alone.
    pub sources: Vec<IpAddr>,
    /// `rcvbuf`, `rcvbufsz`, `buffer_size`: receive buffer asked of the kernel, bytes.
    pub receive_buffer: Option<usize>,
    /// `sndbuf`, `buffer_size`: send buffer asked of the kernel, bytes.
    pub send_buffer: Option<usize>,
    /// `mcloop`: whether multicast sent here is heard here; it is when not given.
    pub multicast_loop: Option<bool>,
    /// `latency`, `buffer`: how long RTP waits for late packets; the margin of a paced output.
    pub latency: Option<Duration>,
    /// `timeout`: silence after which an input has failed.
    pub timeout: Option<Duration>,
    /// `maxbw`, `bandwidth`: highest rate of a paced output, bits a second.
    pub rate_max: Option<Rate>,
}

/// The host part of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// Empty or `*`: all addresses of both families.
    Any,
    /// A literal address.
    Ip(IpAddr),
    /// A name to be looked up when opened.
    Name(String),
}

/// Where the playback server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpAddress {
    /// Loopback when the whole address was left out.
    pub host: Host,
    /// When not given: [`PORT_DEFAULT`](Self::PORT_DEFAULT), or any free one where that is taken.
    pub port: Option<u16>,
}

impl HttpAddress {
    /// The port of local playback.
    pub const PORT_DEFAULT: u16 = 7852;
}

/// Why a text names no endpoint: the words after the text itself in an error line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// Nothing given.
    #[error("need -, fd:N, a path, udp://, rtp://, unix:PATH or http://")]
    Empty,
    /// A scheme that is none of ours.
    #[error("unknown scheme {}: need -, fd:N, a path, udp://, rtp://, unix:PATH or http://", Shown::new(.scheme))]
    Scheme {
        /// What stood before the colon.
        scheme: String,
    },
    /// `fd:` without a number.
    #[error("bad descriptor {}: not a number", Shown::new(.text))]
    Descriptor {
        /// What stood after the colon.
        text: String,
    },
    /// `file:` or `unix:` without a path.
    #[error("path missing")]
    PathMissing,
    /// An address without a port.
    #[error("port missing")]
    PortMissing,
    /// A port that is no number.
    #[error("bad port {}: not a number", Shown::new(.text))]
    Port {
        /// What stood there.
        text: String,
    },
    /// A port that no socket has.
    #[error("port above 65535")]
    PortRange,
    /// An IPv6 address without brackets.
    #[error("put IPv6 addresses in brackets")]
    Brackets,
    /// A host that is neither address nor name.
    #[error("bad host {}", Shown::new(.text))]
    Host {
        /// What stood there.
        text: String,
    },
    /// A path where only `/` is served.
    #[error("bad path {}: only / is served", Shown::new(.text))]
    HttpPath {
        /// What stood there.
        text: String,
    },
    /// A parameter that this form does not have.
    #[error("unknown parameter {}{}", Shown::new(.name), .nearest.map(|name| format!(": did you mean {name}?")).unwrap_or_default())]
    UnknownParameter {
        /// The name given.
        name: String,
        /// The one that was probably meant.
        nearest: Option<&'static str>,
    },
    /// A parameter whose value does not fit.
    #[error("bad {name} {}: {why}", Shown::new(.value))]
    Value {
        /// The parameter.
        name: String,
        /// Its value.
        value: String,
        /// What is wrong.
        why: ValueError,
    },
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        if text.is_empty() {
            return Err(EndpointError::Empty);
        }
        if text == "-" {
            return Ok(Self::Standard);
        }
        if let Some((scheme, rest)) = text.split_once("://")
            && is_scheme(scheme)
        {
            return match scheme.to_ascii_lowercase().as_str() {
                "udp" => parse_datagrams(rest).map(|found| Self::Udp(Box::new(found))),
                "rtp" => parse_datagrams(rest).map(|found| Self::Rtp(Box::new(found))),
                "http" => parse_http(rest).map(Self::Http),
                "file" => path(rest).map(Self::File),
                "unix" => path(rest).map(Self::Unix),
                _ => Err(EndpointError::Scheme {
                    scheme: scheme.to_owned(),
                }),
            };
        }
        if let Some(number) = text.strip_prefix("fd:") {
            return number
                .parse()
                .ok()
                .filter(|_| number.bytes().all(|digit| digit.is_ascii_digit()))
                .map(Self::Descriptor)
                .ok_or_else(|| EndpointError::Descriptor {
                    text: number.to_owned(),
                });
        }
        if let Some(rest) = text.strip_prefix("file:") {
            return path(rest).map(Self::File);
        }
        if let Some(rest) = text.strip_prefix("unix:") {
            return path(rest).map(Self::Unix);
        }
        path(text).map(Self::File)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standard => f.write_str("-"),
            Self::Descriptor(number) => write!(f, "fd:{number}"),
            Self::File(path) => {
                let text = path.display().to_string();
                // A name that would be read as something else says what it is.
                let is_plain = matches!(text.parse(), Ok(Self::File(again)) if again == *path);
                write!(f, "{}{text}", if is_plain { "" } else { "file:" })
            }
            Self::Udp(datagrams) => write!(f, "udp://{datagrams}"),
            Self::Rtp(datagrams) => write!(f, "rtp://{datagrams}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Http(address) => match (&address.host, address.port) {
                (host, Some(port)) => write!(f, "http://{host}:{port}/"),
                (Host::Any, None) => f.write_str("http://*/"),
                (host, None) => write!(f, "http://{host}/"),
            },
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => Ok(()),
            Self::Ip(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Ip(IpAddr::V4(address)) => address.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Datagrams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}{}", self.host, self.port, self.options)
    }
}

impl fmt::Display for DatagramOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text_of = |span| DurationValue::new(span).to_string();
        let sources: Vec<String> = self.sources.iter().map(IpAddr::to_string).collect();
        let values = [
            ("pkt_size", self.packet_bytes.map(|n| n.to_string())),
            ("ttl", self.ttl.map(|n| n.to_string())),
            ("iptos", self.tos.map(|n| n.to_string())),
            ("iface", self.interface.clone()),
            (
                "source",
                Some(sources.join(",")).filter(|text| !text.is_empty()),
            ),
            ("rcvbuf", self.receive_buffer.map(|n| n.to_string())),
            ("sndbuf", self.send_buffer.map(|n| n.to_string())),
            (
                "mcloop",
                self.multicast_loop.map(|on| u8::from(on).to_string()),
            ),
            ("latency", self.latency.map(text_of)),
            ("timeout", self.timeout.map(text_of)),
            ("maxbw", self.rate_max.map(|rate| rate.to_string())),
        ];
        let mut separator = '?';
        for (name, value) in values {
            if let Some(value) = value {
                write!(f, "{separator}{name}={value}")?;
                separator = '&';
            }
        }
        Ok(())
    }
}

/// Longest `latency` of an endpoint.
const LATENCY_MAX: Duration = Duration::from_secs(10);

/// Every name a datagram parameter goes by, for the question "did you mean".
const PARAMETERS: [&str; 21] = [
    "pkt_size",
    "ttl",
    "iptos",
    "tos",
    "iface",
    "interface",
    "miface",
    "localaddr",
    "adapter",
    "source",
    "sources",
    "rcvbuf",
    "sndbuf",
    "buffer_size",
    "rcvbufsz",
    "mcloop",
    "latency",
    "buffer",
    "timeout",
    "maxbw",
    "bandwidth",
];

impl DatagramOptions {
    /// Reads `k=v&k=v`.
    fn parse(query: &str) -> Result<Self, EndpointError> {
        let mut options = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            options.set(name, value)?;
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), EndpointError> {
        let bad = |why| EndpointError::Value {
            name: name.to_owned(),
            value: value.to_owned(),
            why,
        };
        let form = |words| bad(ValueError::NeedOneOf { words });
        match name {
            "pkt_size" => {
                let size = bytes(value).map_err(bad)?;
                let fitting = usize::try_from(size)
                    .ok()
                    .filter(|bytes| (188..=1500).contains(bytes));
                self.packet_bytes = Some(fitting.ok_or_else(|| form("188 to 1500 bytes"))?);
            }
            "ttl" => self.ttl = Some(value.parse().map_err(|_| form("0 to 255"))?),
            "iptos" | "tos" => {
                let number = match value.strip_prefix("0x") {
                    Some(digits) => u8::from_str_radix(digits, 16),
                    None => value.parse(),
                };
                self.tos = Some(number.map_err(|_| form("0 to 255"))?);
            }
            "iface" | "interface" | "miface" | "localaddr" | "adapter" => {
                if value.is_empty() || value.contains('/') {
                    return Err(form("the name or address of an interface"));
                }
                self.interface = Some(value.to_owned());
            }
            "source" | "sources" => {
                for address in value.split(',') {
                    let address = address.parse().map_err(|_| form("addresses"))?;
                    self.sources.push(address);
                }
            }
            "rcvbuf" | "rcvbufsz" => self.receive_buffer = Some(buffer_bytes(value, bad)?),
            "sndbuf" => self.send_buffer = Some(buffer_bytes(value, bad)?),
            "buffer_size" => {
                let bytes = buffer_bytes(value, bad)?;
                self.receive_buffer = Some(bytes);
                self.send_buffer = Some(bytes);
            }
            "mcloop" => {
                self.multicast_loop = match value {
                    "1" | "true" | "yes" | "on" => Some(true),
                    "0" | "false" | "no" | "off" => Some(false),
                    _ => return Err(form("0 or 1")),
                };
            }
            "latency" | "buffer" => {
                let span = duration(Duration::ZERO, LATENCY_MAX)(value).map_err(bad)?;
                self.latency = Some(span.get());
            }
            "timeout" => {
                let span: DurationValue = value.parse().map_err(bad)?;
                if span.get().is_zero() {
                    return Err(form("more than 0s"));
                }
                self.timeout = Some(span.get());
            }
            "maxbw" | "bandwidth" => self.rate_max = Some(value.parse().map_err(bad)?),
            _ => {
                return Err(EndpointError::UnknownParameter {
                    name: name.to_owned(),
                    nearest: nearest(name, PARAMETERS),
                });
            }
        }
        Ok(())
    }
}

/// A socket buffer: what the kernel takes is an `int`.
fn buffer_bytes(
    value: &str,
    bad: impl Fn(ValueError) -> EndpointError,
) -> Result<usize, EndpointError> {
    let size = bytes(value).map_err(&bad)?;
    usize::try_from(size)
        .ok()
        .filter(|bytes| (1..=1 << 30).contains(bytes))
        .ok_or_else(|| {
            bad(ValueError::NeedOneOf {
                words: "1 byte to 1GiB",
            })
        })
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"+.-".contains(&b))
}

fn path(text: &str) -> Result<PathBuf, EndpointError> {
    if text.is_empty() {
        return Err(EndpointError::PathMissing);
    }
    Ok(PathBuf::from(text))
}

fn parse_datagrams(text: &str) -> Result<Datagrams, EndpointError> {
    let (address, query) = text.split_once('?').unwrap_or((text, ""));
    let address = address.strip_suffix('/').unwrap_or(address);
    let mut options = DatagramOptions::parse(query)?;
    // `udp://@GROUP:PORT`, and with the one wanted sender before the sign, as VLC writes it.
    let address = match address.rsplit_once('@') {
        Some(("", address)) => address,
        Some((source, address)) => {
            let source = source.trim_start_matches('[').trim_end_matches(']');
            options
                .sources
                .push(source.parse().map_err(|_| EndpointError::Host {
                    text: source.to_owned(),
                })?);
            address
        }
        None => address,
    };
    let (host, port) = split_address(address)?;
    Ok(Datagrams {
        host,
        port: port.ok_or(EndpointError::PortMissing)?,
        options,
    })
}

fn parse_http(text: &str) -> Result<HttpAddress, EndpointError> {
    let (text, query) = text.split_once('?').unwrap_or((text, ""));
    if let Some(pair) = query.split('&').find(|pair| !pair.is_empty()) {
        return Err(EndpointError::UnknownParameter {
            name: pair.split('=').next().unwrap_or(pair).to_owned(),
            nearest: None,
        });
    }
    let (address, path) = text
        .find('/')
        .map_or((text, ""), |slash| text.split_at(slash));
    if !matches!(path, "" | "/") {
        return Err(EndpointError::HttpPath {
            text: path.to_owned(),
        });
    }
    if address.is_empty() {
        return Ok(HttpAddress {
            host: Host::Ip(Ipv4Addr::LOCALHOST.into()),
            port: None,
        });
    }
    let (host, port) = split_address(address)?;
    Ok(HttpAddress { host, port })
}

/// `HOST:PORT`, `[V6]:PORT`, `:PORT`, `HOST`.
fn split_address(text: &str) -> Result<(Host, Option<u16>), EndpointError> {
    let bad_host = || EndpointError::Host {
        text: text.to_owned(),
    };
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once(']').ok_or_else(bad_host)?;
        let host = Host::Ip(IpAddr::V6(address.parse().map_err(|_| bad_host())?));
        match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if rest.is_empty() => (host, None),
            None => return Err(bad_host()),
        }
    } else {
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        };
        if port.is_some_and(|port| port.contains(':')) {
            return Err(EndpointError::Brackets);
        }
        let host = if host.is_empty() || host == "*" {
            Host::Any
        } else if let Ok(address) = host.parse() {
            Host::Ip(address)
        } else if is_host_name(host) {
            Host::Name(host.to_owned())
        } else {
            return Err(bad_host());
        };
        (host, port)
    };
    let port = match port {
        None => None,
        Some("") => return Err(EndpointError::PortMissing),
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => {
            Some(port.parse().map_err(|_| EndpointError::PortRange)?)
        }
        Some(port) => {
            return Err(EndpointError::Port {
                text: port.to_owned(),
            });
        }
    };
    Ok((host, port))
}

/// A name a resolver could know; four numbers that are no address are not one.
fn is_host_name(text: &str) -> bool {
    text.len() <= 253
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        && text.bytes().any(|b| b.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests;
