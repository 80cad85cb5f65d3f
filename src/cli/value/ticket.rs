//! Tickets: everything needed to join a channel, in one word that survives chat windows and shells.
//!
//! `p2ps-ticket` and lower-case base32 (RFC 4648 §6, no padding) over: version (1 byte, 1); channel id (u16 length,
//! bytes); trackers (count, then each a u16 length and its text); relays (count, then each a kind, the host, a u16
//! port); token (u8 length, bytes, 0 for none); CRC-32 of all that (a mistyped letter would otherwise be another
//! channel, and the peer would wait for it for ever). Numbers are big-endian.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::channel::check_channel_id;
use super::{Host, ParentAddr, TrackerUrl};
use crate::ids::SwarmId;

/// Version of the layout.
const VERSION: u8 = 1;
/// How the host of a relay is written.
const HOST_V4: u8 = 4;
const HOST_V6: u8 = 6;
const HOST_NAME: u8 = 0;

/// An admission token: shown to trackers and parents, never to a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Vec<u8>);

impl Token {
    /// Longest token, in bytes.
    pub const BYTES_MAX: usize = 255;

    /// A token of 1 to 255 bytes.
    pub fn new(bytes: Vec<u8>) -> Option<Self> {
        (1..=Self::BYTES_MAX)
            .contains(&bytes.len())
            .then_some(Self(bytes))
    }

    /// The secret.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

/// Everything needed to join a channel. Displaying it shows its token: see [`without_token`](Self::without_token).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The swarm identifier of the live stream.
    pub channel: SwarmId,
    /// Trackers that know it; at most 16.
    pub trackers: Vec<TrackerUrl>,
    /// Relays that carry it; at most 16.
    pub relays: Vec<ParentAddr>,
    /// What admits its holder, where the channel asks for it.
    pub token: Option<Token>,
}

/// Why a word is no ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TicketError {
    /// Longer than any ticket.
    #[error("{found} characters, limit {limit}")]
    TooLong {
        /// Characters found.
        found: usize,
        /// Characters allowed.
        limit: usize,
    },
    /// A character that is not lower-case base32, or bits left over at the end.
    #[error("not base32 at character {position}")]
    NotBase32 {
        /// Position in the word, from 1, the prefix counted.
        position: usize,
    },
    /// The word ends inside a field.
    #[error("cut short at byte {offset}")]
    Truncated {
        /// Where the missing bytes would begin, after base32.
        offset: usize,
    },
    /// Every byte is there, but they are not those that were written.
    #[error("checksum is wrong, a character was changed")]
    Checksum,
    /// Written by a newer program.
    #[error("version {version}, this tool knows 1")]
    Version {
        /// The version found.
        version: u8,
    },
    /// A field holds what it may not.
    #[error("bad {field}")]
    Field {
        /// The field.
        field: &'static str,
    },
}

impl Ticket {
    /// How every ticket begins.
    pub const PREFIX: &str = "p2ps-ticket";
    /// Most trackers, and most relays, in a ticket.
    pub const HOSTS_MAX: usize = 16;
    /// Longest word taken for a ticket, in characters.
    pub const CHARACTERS_MAX: usize = 65_536;

    /// The same ticket for logs and records.
    #[must_use]
    pub fn without_token(&self) -> Self {
        Self {
            token: None,
            ..self.clone()
        }
    }

    fn encode(&self) -> Vec<u8> {
        fn text(out: &mut Vec<u8>, text: &str) {
            out.extend((text.len() as u16).to_be_bytes());
            out.extend(text.as_bytes());
        }
        let mut out = vec![VERSION];
        let id = self.channel.as_bytes();
        out.extend((id.len() as u16).to_be_bytes());
        out.extend(id);
        out.push(self.trackers.len().min(Self::HOSTS_MAX) as u8);
        for tracker in self.trackers.iter().take(Self::HOSTS_MAX) {
            text(&mut out, &tracker.to_string());
        }
        out.push(self.relays.len().min(Self::HOSTS_MAX) as u8);
        for relay in self.relays.iter().take(Self::HOSTS_MAX) {
            match &relay.host {
                Host::Ip(std::net::IpAddr::V4(address)) => {
                    out.push(HOST_V4);
                    out.extend(address.octets());
                }
                Host::Ip(std::net::IpAddr::V6(address)) => {
                    out.push(HOST_V6);
                    out.extend(address.octets());
                }
                Host::Name(name) => {
                    out.push(HOST_NAME);
                    text(&mut out, name);
                }
            }
            out.extend(relay.port.to_be_bytes());
        }
        let token = self.token.as_ref().map_or(&[][..], Token::as_bytes);
        out.push(token.len() as u8); // At most 255 by `Token::new`.
        out.extend(token);
        let sum = crc32(&out);
        out.extend(sum.to_be_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, TicketError> {
        let mut reader = Reader { bytes, offset: 0 };
        let version = reader.u8()?;
        if version != VERSION {
            return Err(TicketError::Version { version });
        }
        let id_bytes = usize::from(reader.u16()?);
        let id = reader.take(id_bytes)?.to_vec();
        let trackers: Vec<&str> = (0..reader.count("tracker count")?)
            .map(|_| reader.text("tracker"))
            .collect::<Result<_, _>>()?;
        let mut relays = Vec::new();
        for _ in 0..reader.count("relay count")? {
            let host = match reader.u8()? {
                HOST_V4 => Host::Ip(Ipv4Addr::from(reader.array::<4>()?).into()),
                HOST_V6 => Host::Ip(Ipv6Addr::from(reader.array::<16>()?).into()),
                HOST_NAME => {
                    let name: Result<ParentAddr, _> = reader.text("relay")?.parse();
                    name.map_err(|_| TicketError::Field { field: "relay" })?
                        .host
                }
                _ => return Err(TicketError::Field { field: "relay" }),
            };
            relays.push(ParentAddr {
                host,
                port: reader.u16()?,
            });
        }
        let token_bytes = usize::from(reader.u8()?);
        let token = reader.take(token_bytes)?.to_vec();
        let summed = bytes.get(..reader.offset).unwrap_or_default();
        let sum = reader.array::<4>()?;
        if reader.offset != bytes.len() {
            return Err(TicketError::Field { field: "length" });
        }
        if sum != crc32(summed).to_be_bytes() {
            return Err(TicketError::Checksum);
        }
        let channel = check_channel_id(id).map_err(|_| TicketError::Field {
            field: "channel id",
        })?;
        let trackers = trackers
            .into_iter()
            .map(|text| {
                text.parse()
                    .map_err(|_| TicketError::Field { field: "tracker" })
            })
            .collect::<Result<_, _>>()?;
        if relays.iter().any(|relay| relay.port == 0) {
            return Err(TicketError::Field { field: "relay" });
        }
        Ok(Self {
            channel,
            trackers,
            relays,
            token: Token::new(token),
        })
    }
}

/// CRC-32 as in Ethernet and zip, bit by bit: a ticket is read once.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg())
        })
    })
}

/// Reads fields, never past the end.
struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], TicketError> {
        let end = self.offset.saturating_add(count);
        let field = self.bytes.get(self.offset..end);
        let field = field.ok_or(TicketError::Truncated {
            offset: self.bytes.len(),
        })?;
        self.offset = end;
        Ok(field)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], TicketError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn u8(&mut self) -> Result<u8, TicketError> {
        Ok(self.array::<1>()?[0])
    }

    fn u16(&mut self) -> Result<u16, TicketError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn count(&mut self, field: &'static str) -> Result<u8, TicketError> {
        let count = self.u8()?;
        if usize::from(count) > Ticket::HOSTS_MAX {
            return Err(TicketError::Field { field });
        }
        Ok(count)
    }

    fn text(&mut self, field: &'static str) -> Result<&'a str, TicketError> {
        let length = usize::from(self.u16()?);
        std::str::from_utf8(self.take(length)?).map_err(|_| TicketError::Field { field })
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, TicketError> {
        if text.len() > Self::CHARACTERS_MAX {
            return Err(TicketError::TooLong {
                found: text.chars().count(),
                limit: Self::CHARACTERS_MAX,
            });
        }
        let word = text
            .strip_prefix(Self::PREFIX)
            .ok_or(TicketError::NotBase32 { position: 1 })?;
        let base32 = |c: char| matches!(c, 'a'..='z' | '2'..='7');
        let bad = |index: usize| TicketError::NotBase32 {
            position: Self::PREFIX.len() + index + 1,
        };
        if let Some(index) = word.chars().position(|c| !base32(c)) {
            return Err(bad(index));
        }
        let bytes = data_encoding::BASE32_NOPAD
            .decode(word.to_ascii_uppercase().as_bytes())
            .map_err(|error| bad(error.position))?;
        Self::decode(&bytes)
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = data_encoding::BASE32_NOPAD.encode(&self.encode());
        write!(f, "{}{}", Self::PREFIX, word.to_ascii_lowercase())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> Ticket {
        Ticket {
            channel: "0f974d96a22d224bc01adb915091477d44ccd91c9a41a11430010117d52c59240e"
                .parse()
                .unwrap(),
            trackers: vec![
                "t1".parse().unwrap(),
                "https://t2:443/p2ps".parse().unwrap(),
            ],
            relays: vec![
                "10.0.0.1:9".parse().unwrap(),
                "[2001:db8::1]".parse().unwrap(),
                "relay1".parse().unwrap(),
            ],
            token: Token::new(b"let me in".to_vec()),
        }
    }

    #[test]
    fn tickets_are_one_word_and_come_back() {
        let word = ticket().to_string();
        assert!(word.starts_with("p2ps-ticketae"));
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(word.chars().all(plain));
        assert_eq!(word.parse(), Ok(ticket()));
        let bare = Ticket {
            trackers: Vec::new(),
            relays: Vec::new(),
            ..ticket().without_token()
        };
        assert_eq!(bare.to_string().parse(), Ok(bare));
    }

    #[test]
    fn the_checksum_is_the_common_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn a_token_is_shown_to_nobody() {
        assert!(!format!("{:?}", ticket()).contains("let me in"));
        assert_eq!(ticket().without_token().token, None);
    }

    #[test]
    fn every_cut_and_every_changed_letter_is_noticed() {
        let word = ticket().to_string();
        for end in 0..word.len() {
            assert!(word[..end].parse::<Ticket>().is_err(), "cut at {end}");
        }
        for index in Ticket::PREFIX.len()..word.len() {
            let other = if &word[index..=index] == "a" {
                "b"
            } else {
                "a"
            };
            let changed = format!("{}{other}{}", &word[..index], &word[index + 1..]);
            assert!(changed.parse::<Ticket>().is_err(), "changed at {index}");
        }
        assert!(format!("{word}aa").parse::<Ticket>().is_err());
        assert!(word.to_ascii_uppercase().parse::<Ticket>().is_err());
    }

    #[test]
    fn errors_name_the_place() {
        for (word, expected) in [
            ("p2ps-ticket", "cut short at byte 0"),
            ("p2ps-ticket1", "not base32 at character 12"),
            ("p2ps-ticketae", "cut short at byte 1"),
            ("p2ps-ticketai", "version 2, this tool knows 1"),
            ("p2ps-ticketa", "not base32 at character 12"),
        ] {
            let error = word.parse::<Ticket>().unwrap_err();
            assert_eq!(error.to_string(), expected, "{word}");
        }
        let long = "p2ps-ticket".repeat(1 << 16);
        assert!(matches!(
            long.parse::<Ticket>(),
            Err(TicketError::TooLong { .. })
        ));
    }
}
