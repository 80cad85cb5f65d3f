//! Handshake options: what two peers must agree on before anything else (RFC 7574 §7).

use super::cursor::{DecodeError, Reader};
use crate::ids::{ChannelId, SwarmId};

macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $( $(#[$variant_doc:meta])* $variant:ident = $code:literal, )+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name { $( $(#[$variant_doc])* $variant = $code, )+ }

        impl $name {
            /// Every value this version defines.
            pub const ALL: &[Self] = &[$( Self::$variant ),+];

            /// From the code on the wire.
            pub const fn from_code(code: u8) -> Option<Self> {
                match code { $( $code => Some(Self::$variant), )+ _ => None }
            }

            /// The code on the wire.
            pub const fn code(self) -> u8 {
                self as u8
            }
        }
    };
}

codes! {
    /// How chunks are named in messages (option 6, RFC 7574 §7.8).
    Addressing {
        /// 32-bit bins.
        Bins32 = 0,
        /// 64-bit byte ranges.
        Bytes64 = 1,
        /// 32-bit chunk ranges, the default.
        Ranges32 = 2,
        /// 64-bit bins.
        Bins64 = 3,
        /// 64-bit chunk ranges, for channels that never end.
        Ranges64 = 4,
    }
}

codes! {
    /// How content is protected (option 3, RFC 7574 §7.5).
    Protection {
        /// Not at all: erratum 4880 withdrew it.
        None = 0,
        /// Merkle hash tree, for static content.
        MerkleTree = 1,
        /// Every chunk signed.
        SignAll = 2,
        /// Unified Merkle tree, for live content.
        UnifiedMerkleTree = 3,
    }
}

codes! {
    /// The hash of the Merkle tree (option 4, RFC 7574 §7.6).
    HashFunction {
        /// SHA-1, for compatibility only.
        Sha1 = 0,
        /// SHA-224.
        Sha224 = 1,
        /// SHA-256, the default.
        Sha256 = 2,
        /// SHA-384.
        Sha384 = 3,
        /// SHA-512.
        Sha512 = 4,
    }
}

impl HashFunction {
    /// Bytes of a digest.
    #[expect(clippy::len_without_is_empty, reason = "no digest is empty")]
    pub const fn len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha224 => 28,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

codes! {
    /// The algorithm of live signatures, by DNSSEC number (option 5, RFC 7574 §7.7).
    SignatureAlgorithm {
        /// RSA with SHA-1.
        RsaSha1 = 5,
        /// RSA with SHA-1, under its other number.
        RsaSha1Nsec3 = 7,
        /// RSA with SHA-256.
        RsaSha256 = 8,
        /// RSA with SHA-512.
        RsaSha512 = 10,
        /// ECDSA on P-256 with SHA-256, the RFC's default.
        EcdsaP256 = 13,
        /// ECDSA on P-384 with SHA-384.
        EcdsaP384 = 14,
        /// Ed25519 (RFC 8080), ours.
        Ed25519 = 15,
        /// Ed448 (RFC 8080).
        Ed448 = 16,
    }
}

/// How long chunks are (option 9, RFC 7574 §7.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkSize {
    /// Bytes of every chunk but the last.
    Fixed(u32),
    /// As long as the datagram says.
    Variable,
}

impl ChunkSize {
    /// From the number on the wire; 0 is no size.
    pub const fn from_bits(bits: u32) -> Option<Self> {
        match bits {
            0 => None,
            u32::MAX => Some(Self::Variable),
            size => Some(Self::Fixed(size)),
        }
    }

    /// The number on the wire.
    pub const fn to_bits(self) -> u32 {
        match self {
            Self::Fixed(size) => size,
            Self::Variable => u32::MAX,
        }
    }
}

/// Which message types a peer reads: bit X, counted from the most significant of the first byte (option 8, RFC 7574 §7.10).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SupportedMessages([u8; 32]);

impl SupportedMessages {
    /// All messages of RFC 7574, none of ours.
    pub const fn all_rfc() -> Self {
        let mut bits = [0; 32];
        bits[0] = 0xff;
        bits[1] = 0xfc;
        Self(bits)
    }

    /// All messages of RFC 7574 and our envelope.
    pub const fn with_extensions() -> Self {
        let Self(mut bits) = Self::all_rfc();
        bits[super::EXTENSION_TYPE as usize / 8] |= 0x80 >> (super::EXTENSION_TYPE % 8);
        Self(bits)
    }

    /// Of any bytes, the rest being zero.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut bits = [0; 32];
        bits.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(Self(bits))
    }

    /// Whether a message type is read.
    pub const fn supports(&self, kind: u8) -> bool {
        self.0[kind as usize / 8] & (0x80 >> (kind % 8)) != 0
    }

    /// The bytes up to the last that is not zero.
    pub fn as_bytes(&self) -> &[u8] {
        let len = self
            .0
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        self.0.get(..len).unwrap_or_default()
    }
}

impl std::fmt::Debug for SupportedMessages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SupportedMessages(")?;
        crate::ids::fmt_hex(self.as_bytes(), f)?;
        f.write_str(")")
    }
}

/// A HANDSHAKE message: the sender's channel and its options, each at most once (RFC 7574 §8.4).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handshake {
    /// The sender's channel; none closes the channel that this comes in on.
    pub source: ChannelId,
    /// Option 0: highest version spoken.
    pub version: Option<u8>,
    /// Option 1: lowest version spoken.
    pub minimum_version: Option<u8>,
    /// Option 2.
    pub swarm_id: Option<SwarmId>,
    /// Option 3.
    pub protection: Option<Protection>,
    /// Option 4.
    pub hash: Option<HashFunction>,
    /// Option 5.
    pub signature: Option<SignatureAlgorithm>,
    /// Option 6.
    pub addressing: Option<Addressing>,
    /// Option 7, in chunks (bytes for byte ranges); all ones of either width means everything.
    pub discard_window: Option<u64>,
    /// Option 8.
    pub supported: Option<SupportedMessages>,
    /// Option 9.
    pub chunk_size: Option<ChunkSize>,
}

const END: u8 = 255;

impl Handshake {
    /// The message that closes a channel (RFC 7574 §3.1.2).
    pub fn closing() -> Self {
        Self::default()
    }

    /// Whether it closes the channel.
    pub fn is_closing(&self) -> bool {
        self.source == ChannelId::NONE
    }

    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let mut handshake = Self {
            source: ChannelId::from_bits(reader.u32()?),
            ..Self::default()
        };
        let mut least = 0;
        loop {
            let offset = reader.offset();
            let code = reader.u8()?;
            if code == END {
                return Ok(handshake);
            }
            // Sorted and without repetition, or the list cannot be trusted (RFC 7574 §7).
            if code < least || code > 10 {
                return Err(DecodeError::UnexpectedOption { offset, code });
            }
            least = code + 1;
            handshake.decode_option(reader, offset, code)?;
        }
    }

    fn decode_option(
        &mut self,
        reader: &mut Reader,
        offset: usize,
        code: u8,
    ) -> Result<(), DecodeError> {
        match code {
            0 => self.version = Some(reader.u8()?),
            1 => self.minimum_version = Some(reader.u8()?),
            2 => {
                let length = usize::from(reader.u16()?);
                if length == 0 {
                    return Err(DecodeError::BadOption { code, value: 0 });
                }
                if length > SwarmId::BYTES_MAX {
                    return Err(DecodeError::TooLong {
                        offset: offset + 1,
                        length,
                        limit: SwarmId::BYTES_MAX,
                    });
                }
                let bytes = reader.take(length)?;
                // A copy: the identifier outlives the datagram by far.
                self.swarm_id = SwarmId::new(bytes::Bytes::copy_from_slice(&bytes)).ok();
            }
            3 => self.protection = Some(known(code, reader.u8()?, Protection::from_code)?),
            4 => self.hash = Some(known(code, reader.u8()?, HashFunction::from_code)?),
            5 => self.signature = Some(known(code, reader.u8()?, SignatureAlgorithm::from_code)?),
            6 => self.addressing = Some(known(code, reader.u8()?, Addressing::from_code)?),
            7 => self.discard_window = Some(self.decode_window(reader, offset)?),
            8 => {
                let length = usize::from(reader.u8()?);
                if length > 32 {
                    return Err(DecodeError::TooLong {
                        offset: offset + 1,
                        length,
                        limit: 32,
                    });
                }
                self.supported = SupportedMessages::from_bytes(&reader.take(length)?);
            }
            9 => {
                let bits = reader.u32()?;
                let size = ChunkSize::from_bits(bits)
                    .ok_or(DecodeError::BadOption { code, value: bits })?;
                self.chunk_size = Some(size);
            }
            _ => skip_squatted_option(reader, offset, code)?,
        }
        Ok(())
    }

    /// Its width depends on option 6, which the order puts before it.
    fn decode_window(&self, reader: &mut Reader, offset: usize) -> Result<u64, DecodeError> {
        match self.addressing {
            Some(Addressing::Bins32 | Addressing::Ranges32) => {
                let window = reader.u32()?;
                Ok(if window == u32::MAX {
                    u64::MAX
                } else {
                    u64::from(window)
                })
            }
            Some(_) => reader.u64(),
            None => Err(DecodeError::UnexpectedOption { offset, code: 7 }),
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.source.to_bits().to_be_bytes());
        let mut short = |code: u8, value: Option<u8>| {
            if let Some(value) = value {
                out.extend_from_slice(&[code, value]);
            }
        };
        short(0, self.version);
        short(1, self.minimum_version);
        if let Some(id) = &self.swarm_id {
            out.push(2);
            out.extend_from_slice(&(id.as_bytes().len() as u16).to_be_bytes());
            out.extend_from_slice(id.as_bytes());
        }
        let mut short = |code: u8, value: Option<u8>| {
            if let Some(value) = value {
                out.extend_from_slice(&[code, value]);
            }
        };
        short(3, self.protection.map(Protection::code));
        short(4, self.hash.map(HashFunction::code));
        short(5, self.signature.map(SignatureAlgorithm::code));
        short(6, self.addressing.map(Addressing::code));
        if let Some(window) = self.discard_window {
            out.push(7);
            match self.addressing {
                Some(Addressing::Bins32 | Addressing::Ranges32) => {
                    out.extend_from_slice(&u32::try_from(window).unwrap_or(u32::MAX).to_be_bytes());
                }
                _ => out.extend_from_slice(&window.to_be_bytes()),
            }
        }
        if let Some(supported) = &self.supported {
            let bytes = supported.as_bytes();
            out.extend_from_slice(&[8, bytes.len() as u8]);
            out.extend_from_slice(bytes);
        }
        if let Some(size) = self.chunk_size {
            out.push(9);
            out.extend_from_slice(&size.to_bits().to_be_bytes());
        }
        out.push(END);
    }
}

fn known<T>(code: u8, value: u8, parse: impl Fn(u8) -> Option<T>) -> Result<T, DecodeError> {
    let value_bits = u32::from(value);
    parse(value).ok_or(DecodeError::BadOption {
        code,
        value: value_bits,
    })
}

/// Option 10 is not assigned, but two other implementations send it last: 16 bytes or 2, told apart by where the end
/// mark is. Its value means nothing to us.
fn skip_squatted_option(reader: &mut Reader, offset: usize, code: u8) -> Result<(), DecodeError> {
    for length in [16, 2] {
        if reader.peek(length) == Some(END) {
            reader.take(length)?;
            return Ok(());
        }
    }
    Err(DecodeError::UnexpectedOption { offset, code })
}
