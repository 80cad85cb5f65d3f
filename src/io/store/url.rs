//! Where a store is: `mem:`, `redb:PATH` or `redis://HOST`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use redis::{Client, ConnectionAddr, IntoConnectionInfo as _, RedisResult, TlsCertificates};

use crate::io::value::ValueError;

/// Every form of [`StoreUrl`].
const FORMS: &str = "mem:, redb:PATH or redis[s]://HOST[:PORT][/DB]";

/// Where durable state is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// In memory; gone when the process ends.
    Memory,
    /// In a file of this machine, used by one process at a time.
    Redb(PathBuf),
    /// In a Redis or Valkey that several trackers share, with what they know of peers.
    Redis(RedisUrl),
}

impl StoreUrl {
    /// Name of the file below a state directory when none was named.
    pub const FILE_DEFAULT: &'static str = "tracker.redb";

    /// The socket at which whoever has the store takes orders; none of a store that nobody else can name.
    pub fn control(&self) -> Option<PathBuf> {
        match self {
            // Orders go to the store itself, and from there to all.
            Self::Memory | Self::Redis(_) => None,
            Self::Redb(path) => {
                let mut path = path.clone().into_os_string();
                path.push(".control");
                Some(path.into())
            }
        }
    }

    /// Whether what goes there and back is behind TLS.
    pub const fn is_private(&self) -> bool {
        matches!(self, Self::Redis(url) if url.is_private)
    }

    /// The same store, whose certificate one of these authorities (PEM) has to have signed; without them, one of the
    /// Mozilla list.
    #[must_use]
    pub fn trusting(mut self, authorities: Vec<u8>) -> Self {
        if let Self::Redis(url) = &mut self {
            url.authorities = Some(authorities);
        }
        self
    }

    /// The store of a state directory.
    pub fn within(state_dir: &Path) -> Self {
        Self::Redb(state_dir.join(Self::FILE_DEFAULT))
    }

    /// A text that may be such an address, without the user and password in it.
    pub fn without_secrets(text: &str) -> String {
        // Whatever stands before the last @ may be a secret, even where the rest makes no sense.
        match (text.split_once("://"), text.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, rest))) if scheme.starts_with("redis") => {
                format!("{scheme}://…@{rest}")
            }
            _ => text.to_owned(),
        }
    }
}

impl FromStr for StoreUrl {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text.split_once(':') {
            Some(("mem", "")) => Ok(Self::Memory),
            Some(("redb", path)) if !path.is_empty() => Ok(Self::Redb(path.into())),
            Some(("redis" | "rediss", _)) => {
                RedisUrl::parse(text)
                    .map(Self::Redis)
                    .ok_or(ValueError::NeedOneOf {
                        words: RedisUrl::FORM,
                    })
            }
            _ => Err(ValueError::NeedOneOf { words: FORMS }),
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("mem:"),
            Self::Redb(path) => write!(f, "redb:{}", path.display()),
            Self::Redis(url) => url.fmt(f),
        }
    }
}

/// The address of a Redis, and who we are there. Shows itself without user and password.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    /// As given, secrets included.
    text: String,
    /// `HOST:PORT/DB`.
    place: String,
    /// Whether it is behind TLS.
    is_private: bool,
    /// Whom its certificate has to be of, PEM.
    authorities: Option<Vec<u8>>,
}

impl RedisUrl {
    const FORM: &'static str = "redis[s]://[[USER]:PASSWORD@]HOST[:PORT][/DB]";

    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.split_once("://")?;
        let info = text.into_connection_info().ok()?;
        let (host, port, is_private) = match info.addr() {
            ConnectionAddr::Tcp(host, port @ 1..) => (host, port, false),
            ConnectionAddr::TcpTls {
                host,
                port: port @ 1..,
                insecure: false,
                ..
            } => (host, port, true),
            _ => return None,
        };
        let db = info.redis_settings().db();
        let is_plain = !rest.contains(['?', '#']) && !rest.contains(char::is_whitespace);
        let host = match host.contains(':') {
            true => format!("[{host}]"),
            false => host.clone(),
        };
        (is_plain && db >= 0).then(|| Self {
            text: text.to_owned(),
            place: format!("{host}:{port}/{db}"),
            is_private,
            authorities: None,
        })
    }

    /// What connects to it.
    pub(super) fn client(&self) -> RedisResult<Client> {
        match self.is_private {
            false => Client::open(self.text.as_str()),
            true => Client::build_with_tls(
                self.text.as_str(),
                TlsCertificates {
                    client_tls: None,
                    root_cert: self.authorities.clone(),
                },
            ),
        }
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_private { "rediss" } else { "redis" };
        write!(f, "{scheme}://{}", self.place)
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        const NEED: &str = "need mem:, redb:PATH or redis[s]://HOST[:PORT][/DB]";
        const NEED_REDIS: &str = "need redis[s]://[[USER]:PASSWORD@]HOST[:PORT][/DB]";
        for (text, shown) in [
            ("mem:", "mem:"),
            ("redb:st", "redb:st"),
            ("redb:/var/lib/p2ps/a:b", "redb:/var/lib/p2ps/a:b"),
            ("redis://cache", "redis://cache:6379/0"),
            ("redis://192.0.2.1:7000/3", "redis://192.0.2.1:7000/3"),
            ("redis://[::1]/", "redis://[::1]:6379/0"),
            ("redis://:s3cret@cache:1/2", "redis://cache:1/2"),
            ("redis://ann:s3cret%40@cache", "redis://cache:6379/0"),
            ("", NEED),
            ("mem", NEED),
            ("mem:x", NEED),
            ("redb:", NEED),
            ("/var/lib/p2ps/st", NEED),
            ("sqlite:st", NEED),
            ("MEM:", NEED),
            ("rediss://:s3cret@cache/1", "rediss://cache:6379/1"),
            ("rediss://cache#insecure", NEED_REDIS),
            ("rediss://cache:0", NEED_REDIS),
            ("rediss:cache", NEED_REDIS),
            ("valkeys://cache", NEED),
            ("valkey://cache", NEED),
            ("redis:", NEED_REDIS),
            ("redis:cache", NEED_REDIS),
            ("redis://", NEED_REDIS),
            ("redis://cache:0", NEED_REDIS),
            ("redis://cache:70000", NEED_REDIS),
            ("redis://cache/film", NEED_REDIS),
            ("redis://cache/-1", NEED_REDIS),
            ("redis://cache/1/2", NEED_REDIS),
            ("redis://cache?protocol=resp3", NEED_REDIS),
            ("redis://cache#insecure", NEED_REDIS),
            ("redis://ca che", NEED_REDIS),
        ] {
            let found = text.parse::<StoreUrl>();
            let found = found.map_or_else(|error| error.to_string(), |url| url.to_string());
            assert_eq!(found, shown, "{text}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        let url: StoreUrl = "redis://ann:s3cret@cache".parse().expect("an address");
        assert!(!format!("{url} {url:?}").contains("s3cret"));
        for (text, shown) in [
            ("redis://:s3@cret@cache:1/2", "redis://…@cache:1/2"),
            ("redis://s3cret@", "redis://…@"),
            ("rediss://:s3cret@cache", "rediss://…@cache"),
            ("redis://cache", "redis://cache"),
            ("redb:a@b", "redb:a@b"),
            ("http://a@b", "http://a@b"),
        ] {
            assert_eq!(StoreUrl::without_secrets(text), shown);
        }
    }
}
