//! Names of things: peers, swarms, channels. Newtypes with a hexadecimal text form.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

/// A peer: the first 8 bytes of the SHA-256 of its key, or random without one.
///
/// A *name*, not an identity: bans, tickets and contracts hold the full key hash.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId([u8; 8]);

impl PeerId {
    /// Bytes on the wire.
    pub const LEN: usize = 8;

    /// From the bytes on the wire.
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// The bytes on the wire.
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

/// The public key of a peer, Ed25519: who it is, where a [`PeerId`] is only what it is called.
///
/// Tickets, lists of friends and bans hold this one (S-32).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey([u8; 32]);

impl PeerKey {
    /// Bytes on the wire.
    pub const LEN: usize = 32;

    /// From the bytes on the wire.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes on the wire.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// A swarm: the root hash of static content, or algorithm number and public key of a live stream
/// (RFC 7574 §7.4, §6.1.2).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SwarmId(Bytes);

impl SwarmId {
    /// Longest swarm identifier accepted, in bytes. Ours, as in libswift; RFC 7574 names no limit. The longest key there
    /// is, RSA of 4096 bits, takes half of it.
    pub const BYTES_MAX: usize = 1024;

    /// A swarm identifier of 1 to [`BYTES_MAX`](Self::BYTES_MAX) bytes.
    ///
    /// # Errors
    ///
    /// [`IdError::Length`] when it is empty or longer.
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self, IdError> {
        let bytes = bytes.into();
        if bytes.is_empty() || bytes.len() > Self::BYTES_MAX {
            return Err(IdError::Length {
                bytes: bytes.len(),
                needed: 33,
            });
        }
        Ok(Self(bytes))
    }

    /// The bytes of option 2.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A channel: 32 random bits chosen by the side that receives on it; 0 is "none yet" (RFC 7574 §3.11, §8.3).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(u32);

impl ChannelId {
    /// The destination of an opening handshake, and the source of a closing one.
    pub const NONE: Self = Self(0);

    /// From the 32 bits on the wire.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The 32 bits on the wire.
    pub const fn to_bits(self) -> u32 {
        self.0
    }

    /// Whether a responder could be reading a STUN message of ours here: the upper half is a STUN type
    /// (RFC 8489 §5), so we never choose such an identifier.
    pub const fn looks_like_stun(self) -> bool {
        matches!(self.0 >> 16, 0x0001 | 0x0101 | 0x0111)
    }
}

/// Why a text is no identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// A character that is no hexadecimal digit; counted from 1.
    #[error("not hexadecimal at character {position}")]
    NotHex {
        /// Position of the character, from 1.
        position: usize,
    },
    /// Not the right number of bytes.
    #[error("{bytes} bytes, need {needed}")]
    Length {
        /// Bytes found.
        bytes: usize,
        /// Bytes needed.
        needed: usize,
    },
}

/// Decodes hexadecimal text of either case; an odd digit at the end counts as half a byte missing.
///
/// # Errors
///
/// [`IdError::NotHex`] at the first character that is no digit.
pub fn decode_hex(text: &str) -> Result<Vec<u8>, IdError> {
    let mut digits = Vec::with_capacity(text.len());
    for (index, character) in text.chars().enumerate() {
        match character.to_digit(16) {
            Some(digit) => digits.push(digit as u8),
            None => {
                return Err(IdError::NotHex {
                    position: index + 1,
                });
            }
        }
    }
    if digits.len() % 2 == 1 {
        return Err(IdError::Length {
            bytes: digits.len() / 2,
            needed: digits.len() / 2 + 1,
        });
    }
    Ok(digits
        .chunks_exact(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect())
}

/// Writes bytes as lower-case hexadecimal.
pub fn fmt_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_hex(&self.0, f)
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId({self})")
    }
}

impl FromStr for PeerId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let bytes = decode_hex(text)?;
        let found = bytes.len();
        bytes.try_into().map(Self).map_err(|_| IdError::Length {
            bytes: found,
            needed: Self::LEN,
        })
    }
}

impl fmt::Display for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_hex(&self.0, f)
    }
}

impl fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerKey({self})")
    }
}

impl FromStr for PeerKey {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let bytes = decode_hex(text)?;
        let found = bytes.len();
        bytes.try_into().map(Self).map_err(|_| IdError::Length {
            bytes: found,
            needed: Self::LEN,
        })
    }
}

impl fmt::Display for SwarmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_hex(&self.0, f)
    }
}

impl fmt::Debug for SwarmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SwarmId({self})")
    }
}

impl FromStr for SwarmId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::new(decode_hex(text)?)
    }
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Debug for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChannelId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_print_what_they_parse() {
        let text = "0f974d96a22d224bc01adb915091477d44ccd91c9a41a11430010117d52c59240e";
        assert_eq!(text.parse::<SwarmId>().unwrap().to_string(), text);
        assert_eq!(
            "00112233445566ff".parse::<PeerId>().unwrap().to_string(),
            "00112233445566ff"
        );
        assert_eq!(ChannelId::from_bits(0x7a3b_19c4).to_string(), "7a3b19c4");
    }

    #[test]
    fn bad_identifiers_say_where() {
        assert_eq!(
            "zz".parse::<SwarmId>(),
            Err(IdError::NotHex { position: 1 })
        );
        assert_eq!(
            "0011".parse::<PeerId>(),
            Err(IdError::Length {
                bytes: 2,
                needed: 8
            })
        );
        assert_eq!(
            "abc".parse::<SwarmId>(),
            Err(IdError::Length {
                bytes: 1,
                needed: 2
            })
        );
        assert!("".parse::<SwarmId>().is_err());
    }
}
