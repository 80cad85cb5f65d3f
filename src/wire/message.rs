//! The fourteen messages of RFC 7574 §8, and the envelope of our own.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

use bytes::Bytes;

use super::cursor::{DecodeError, Reader};
use super::extension::Extension;
use super::option::{ChunkSize, Handshake};
use super::{CERTIFICATE_BYTES_MAX, Digest, EXTENSION_TYPE, Format, address};
use crate::chunk::{ChunkIndex, ChunkRange};
use crate::time::NtpTime;

/// A chunk under way (RFC 7574 §8.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    /// Which chunk; a range of one.
    pub range: ChunkRange,
    /// The sender's clock in Unix microseconds.
    pub time_us: u64,
    /// The chunk, sharing the datagram.
    pub payload: Bytes,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// §8.4: opens, answers or closes.
    Handshake(Box<Handshake>),
    /// §8.6: a chunk.
    Data(Data),
    /// §8.7: chunks that arrived, and how long the newest took.
    Ack {
        /// The chunks.
        range: ChunkRange,
        /// Receiver's clock minus the time stamp of the DATA, in microseconds; clocks differ, so it may be negative.
        delay_us: i64,
    },
    /// §8.5: chunks the sender has.
    Have(ChunkRange),
    /// §8.8: a hash of the tree.
    Integrity {
        /// The chunks below.
        range: ChunkRange,
        /// The hash.
        hash: Digest,
    },
    /// §8.13: the address of a peer.
    PexV4(SocketAddrV4),
    /// §8.13: asks for peers.
    PexRequest,
    /// §8.9: a signature over the hash in the INTEGRITY right before.
    SignedIntegrity {
        /// The chunks below.
        range: ChunkRange,
        /// The source's clock at signing.
        time: NtpTime,
        /// The signature.
        signature: Bytes,
    },
    /// §8.10: chunks wanted.
    Request(ChunkRange),
    /// §8.11: chunks not wanted any more.
    Cancel(ChunkRange),
    /// §8.12: requests are not answered.
    Choke,
    /// §8.12: requests are answered again.
    Unchoke,
    /// §8.13: the address of a peer.
    PexV6(SocketAddrV6),
    /// §8.13: the membership certificate of a peer.
    PexCertificate(Bytes),
    /// Our envelope.
    Extension(Extension),
}

const HANDSHAKE: u8 = 0;
const DATA: u8 = 1;
const ACK: u8 = 2;
const HAVE: u8 = 3;
const INTEGRITY: u8 = 4;
const PEX_RES_V4: u8 = 5;
const PEX_REQ: u8 = 6;
const SIGNED_INTEGRITY: u8 = 7;
const REQUEST: u8 = 8;
const CANCEL: u8 = 9;
const CHOKE: u8 = 10;
const UNCHOKE: u8 = 11;
const PEX_RES_V6: u8 = 12;
const PEX_RES_CERT: u8 = 13;

pub(super) fn decode(
    reader: &mut Reader,
    format: &Format,
    first: bool,
) -> Result<Message, DecodeError> {
    let offset = reader.offset();
    let kind = reader.u8()?;
    Ok(match kind {
        HANDSHAKE if !first => return Err(DecodeError::LateHandshake { offset }),
        HANDSHAKE => Message::Handshake(Box::new(Handshake::decode(reader)?)),
        DATA => Message::Data(decode_data(reader, format)?),
        ACK => Message::Ack {
            range: address::decode(reader, format)?,
            delay_us: reader.u64()?.cast_signed(),
        },
        HAVE => Message::Have(address::decode(reader, format)?),
        INTEGRITY => Message::Integrity {
            range: address::decode(reader, format)?,
            hash: hash(reader, format)?,
        },
        PEX_RES_V4 => {
            let ip = Ipv4Addr::from(reader.bytes_of::<4>()?);
            Message::PexV4(SocketAddrV4::new(ip, reader.u16()?))
        }
        PEX_REQ => Message::PexRequest,
        SIGNED_INTEGRITY => Message::SignedIntegrity {
            range: address::decode(reader, format)?,
            time: NtpTime::from_bits(reader.u64()?),
            signature: reader.take(format.signature_bytes)?,
        },
        REQUEST => Message::Request(address::decode(reader, format)?),
        CANCEL => Message::Cancel(address::decode(reader, format)?),
        CHOKE => Message::Choke,
        UNCHOKE => Message::Unchoke,
        PEX_RES_V6 => {
            let ip = Ipv6Addr::from(reader.bytes_of::<16>()?);
            Message::PexV6(SocketAddrV6::new(ip, reader.u16()?, 0, 0))
        }
        PEX_RES_CERT => {
            let length = usize::from(reader.u16()?);
            if length > CERTIFICATE_BYTES_MAX {
                return Err(DecodeError::TooLong {
                    offset: offset + 1,
                    length,
                    limit: CERTIFICATE_BYTES_MAX,
                });
            }
            Message::PexCertificate(reader.take(length)?)
        }
        EXTENSION_TYPE => Message::Extension(Extension::decode(reader, format, offset)?),
        _ => return Err(DecodeError::UnknownMessage { offset, kind }),
    })
}

fn decode_data(reader: &mut Reader, format: &Format) -> Result<Data, DecodeError> {
    let offset = reader.offset();
    let range = address::decode(reader, format)?;
    if range.count() != 1 {
        let (first, last) = (range.first().get(), range.last().get());
        return Err(DecodeError::BadRange {
            offset,
            first,
            last,
        });
    }
    let time_us = reader.u64()?;
    // The length is implicit: a whole chunk when there is more than that, else the rest (RFC 7574 §8.6).
    let length = match format.chunk_size {
        ChunkSize::Fixed(size) => reader.remaining().min(size as usize),
        ChunkSize::Variable => reader.remaining(),
    };
    Ok(Data {
        range,
        time_us,
        payload: reader.take(length)?,
    })
}

pub(super) fn hash(reader: &mut Reader, format: &Format) -> Result<Digest, DecodeError> {
    let bytes = reader.slice(format.hash.len())?;
    Ok(Digest::from_slice(bytes).unwrap_or_else(|| Digest::empty(format.hash)))
}

impl Message {
    /// Appends the message. Bins name one aligned run only: see [`address::pieces`] for other ranges.
    pub fn encode(&self, format: &Format, out: &mut Vec<u8>) {
        let with_range = |out: &mut Vec<u8>, kind: u8, range: &ChunkRange| {
            out.push(kind);
            address::encode(out, format, *range);
        };
        match self {
            Self::Handshake(handshake) => {
                out.push(HANDSHAKE);
                handshake.encode(out);
            }
            Self::Data(data) => {
                encode_data_header(out, format, data.range.first(), data.time_us);
                out.extend_from_slice(&data.payload);
            }
            Self::Ack { range, delay_us } => {
                with_range(out, ACK, range);
                out.extend_from_slice(&delay_us.to_be_bytes());
            }
            Self::Have(range) => with_range(out, HAVE, range),
            Self::Integrity { range, hash } => {
                with_range(out, INTEGRITY, range);
                out.extend_from_slice(hash.as_bytes());
            }
            Self::PexV4(addr) => {
                out.push(PEX_RES_V4);
                out.extend_from_slice(&addr.ip().octets());
                out.extend_from_slice(&addr.port().to_be_bytes());
            }
            Self::PexRequest => out.push(PEX_REQ),
            Self::SignedIntegrity {
                range,
                time,
                signature,
            } => {
                with_range(out, SIGNED_INTEGRITY, range);
                out.extend_from_slice(&time.to_bits().to_be_bytes());
                out.extend_from_slice(signature);
            }
            Self::Request(range) => with_range(out, REQUEST, range),
            Self::Cancel(range) => with_range(out, CANCEL, range),
            Self::Choke => out.push(CHOKE),
            Self::Unchoke => out.push(UNCHOKE),
            Self::PexV6(addr) => {
                out.push(PEX_RES_V6);
                out.extend_from_slice(&addr.ip().octets());
                out.extend_from_slice(&addr.port().to_be_bytes());
            }
            Self::PexCertificate(certificate) => {
                out.push(PEX_RES_CERT);
                out.extend_from_slice(&(certificate.len() as u16).to_be_bytes());
                out.extend_from_slice(certificate);
            }
            Self::Extension(extension) => extension.encode(format, out),
        }
    }
}

/// Appends everything of a DATA message but the chunk itself.
pub fn encode_data_header(out: &mut Vec<u8>, format: &Format, chunk: ChunkIndex, time_us: u64) {
    out.push(DATA);
    address::encode(out, format, ChunkRange::single(chunk));
    out.extend_from_slice(&time_us.to_be_bytes());
}
