//! Handshake options.

/// Option 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Addressing {
    Bins32 = 0,
    Bytes64 = 1,
    Ranges32 = 2,
    Bins64 = 3,
    Ranges64 = 4,
}

impl Addressing {
    /// From the code on the wire.
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Bins32,
            1 => Self::Bytes64,
            2 => Self::Ranges32,
            3 => Self::Bins64,
            4 => Self::Ranges64,
            _ => return None,
        })
    }

    /// The code on the wire.
    pub const fn code(self) -> u8 {
        self as u8
    }
}

/// Option 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Protection {
    None = 0,
    MerkleTree = 1,
    SignAll = 2,
    UnifiedMerkleTree = 3,
}

impl Protection {
    /// From the code on the wire.
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::None,
            1 => Self::MerkleTree,
            2 => Self::SignAll,
            3 => Self::UnifiedMerkleTree,
            _ => return None,
        })
    }

    /// The code on the wire.
    pub const fn code(self) -> u8 {
        self as u8
    }
}

/// Option 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum HashFunction {
    Sha1 = 0,
    Sha224 = 1,
    Sha256 = 2,
    Sha384 = 3,
    Sha512 = 4,
}

impl HashFunction {
    /// From the code on the wire.
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Sha1,
            1 => Self::Sha224,
            2 => Self::Sha256,
            3 => Self::Sha384,
            4 => Self::Sha512,
            _ => return None,
        })
    }

    /// The code on the wire.
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl HashFunction {
    /// Bytes of a digest.
    #[allow(clippy::len_without_is_empty)]
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

/// Option 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum SignatureAlgorithm {
    RsaSha1 = 5,
    RsaSha1Nsec3 = 7,
    RsaSha256 = 8,
    RsaSha512 = 10,
    EcdsaP256 = 13,
    EcdsaP384 = 14,
    Ed25519 = 15,
    Ed448 = 16,
}

impl SignatureAlgorithm {
    /// From the code on the wire.
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            5 => Self::RsaSha1,
            7 => Self::RsaSha1Nsec3,
            8 => Self::RsaSha256,
            10 => Self::RsaSha512,
            13 => Self::EcdsaP256,
            14 => Self::EcdsaP384,
            15 => Self::Ed25519,
            16 => Self::Ed448,
            _ => return None,
        })
    }

    /// The code on the wire.
    pub const fn code(self) -> u8 {
        self as u8
    }
}

/// Option 9.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkSize {
    /// Bytes of every chunk but the last.
    Fixed(u32),
    /// As long as the datagram says.
    Variable,
}
