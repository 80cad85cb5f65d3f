//! The bodies of private messages as bytes, each read and written side by side.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{
    AuthChallenge, AuthProof, AuthResponse, Control, Entry, Extension, Hello, MUNRO_LEAVES_MAX,
    Mask, Munro, PathBlock, ProbeReply, QosFeedback, Status, Subscribe, SubscribeReply,
};
use crate::chunk::{ChunkIndex, ChunkRange};
use crate::ids::{PeerId, PeerKey};
use crate::time::NtpTime;
use crate::wire::control::BODY_BYTES_MAX;
use crate::wire::cursor::{DecodeError, Reader};
use crate::wire::{Format, message};

impl Extension {
    /// Reads what follows the subtype.
    pub(super) fn decode_body(
        body: &mut Reader,
        format: &Format,
        subtype: u8,
    ) -> Result<Self, DecodeError> {
        Ok(match subtype {
            64 => Self::Hello(Hello {
                peer_id: PeerId::from_bytes(body.bytes_of()?),
                role: body.u8()?,
                nat: body.u8()?,
                uplink_kbps: body.u32()?,
                degree_max: body.u16()?,
                slots_free: body.u16()?,
                asn: body.u32()?,
                country: body.bytes_of()?,
                subnet: body.bytes_of()?,
                flags: body.u16()?,
            }),
            65 => Self::Subscribe(decode_subscribe(body)?),
            66 => Self::SubscribeReply(decode_subscribe_reply(body, format)?),
            67 => Self::Unsubscribe {
                mask: Mask::decode(body, format)?,
                reason: body.u8()?,
            },
            68 => Self::Status(decode_status(body, format)?),
            69 => Self::Probe {
                nonce: body.u32()?,
                mask: Mask::decode(body, format)?,
            },
            70 => Self::ProbeReply(ProbeReply {
                nonce: body.u32()?,
                held_us: body.u32()?,
                ready: Mask::decode(body, format)?,
                recv_kbps: body.u32()?,
                cumulative_latency_us: body.u32()?,
                saturated: body.u8()?,
                paths: decode_paths(body, format)?,
            }),
            71 => Self::QosFeedback(QosFeedback {
                substream: body.u8()?,
                late_permille: body.u16()?,
                lost_permille: body.u16()?,
                over_ms: body.u32()?,
            }),
            74 => Self::AuthChallenge(AuthChallenge {
                version: body.u8()?,
                nonce: body.bytes_of()?,
                key: PeerKey::from_bytes(body.bytes_of()?),
            }),
            75 => Self::AuthResponse(AuthResponse {
                key: PeerKey::from_bytes(body.bytes_of()?),
                nonce: body.bytes_of()?,
                signature: body.bytes_of()?,
            }),
            76 => Self::AuthProof(AuthProof {
                key: PeerKey::from_bytes(body.bytes_of()?),
                signature: body.bytes_of()?,
            }),
            77 => Self::Ticket(body.take(body.remaining())?),
            79 => {
                let (kind, request) = (body.u16()?, body.u32()?);
                let (offset, length) = (body.offset(), body.remaining());
                if length > BODY_BYTES_MAX {
                    return Err(DecodeError::TooLong {
                        offset,
                        length,
                        limit: BODY_BYTES_MAX,
                    });
                }
                Self::Control(Control {
                    kind,
                    request,
                    body: body.take(length)?,
                })
            }
            81 => Self::Munro(decode_munro(body, format)?),
            82 => Self::NeedMunro(ChunkIndex::new(body.u64()?)),
            83 => {
                let (first, last) = (body.u64()?, body.u64()?);
                let range = ChunkRange::new(ChunkIndex::new(first), ChunkIndex::new(last)).ok_or(
                    DecodeError::BadRange {
                        offset: 0,
                        first,
                        last,
                    },
                )?;
                Self::Fetch {
                    range,
                    flags: body.u8()?,
                }
            }
            84 => Self::Describe,
            85 => Self::Description(body.take(body.remaining())?),
            _ => Self::Unknown {
                subtype,
                body: body.take(body.remaining())?,
            },
        })
    }

    /// Appends what follows the subtype.
    pub(super) fn encode_body(&self, format: &Format, out: &mut Vec<u8>) {
        match self {
            Self::Hello(hello) => {
                out.extend_from_slice(hello.peer_id.as_bytes());
                out.extend_from_slice(&[hello.role, hello.nat]);
                out.extend_from_slice(&hello.uplink_kbps.to_be_bytes());
                out.extend_from_slice(&hello.degree_max.to_be_bytes());
                out.extend_from_slice(&hello.slots_free.to_be_bytes());
                out.extend_from_slice(&hello.asn.to_be_bytes());
                out.extend_from_slice(&hello.country);
                out.extend_from_slice(&hello.subnet);
                out.extend_from_slice(&hello.flags.to_be_bytes());
            }
            Self::Subscribe(subscribe) => encode_subscribe(subscribe, out),
            Self::SubscribeReply(reply) => encode_subscribe_reply(reply, format, out),
            Self::Unsubscribe { mask, reason } => {
                mask.encode(format, out);
                out.push(*reason);
            }
            Self::Status(status) => encode_status(status, format, out),
            Self::Probe { nonce, mask } => {
                out.extend_from_slice(&nonce.to_be_bytes());
                mask.encode(format, out);
            }
            Self::ProbeReply(reply) => {
                out.extend_from_slice(&reply.nonce.to_be_bytes());
                out.extend_from_slice(&reply.held_us.to_be_bytes());
                reply.ready.encode(format, out);
                out.extend_from_slice(&reply.recv_kbps.to_be_bytes());
                out.extend_from_slice(&reply.cumulative_latency_us.to_be_bytes());
                out.push(reply.saturated);
                encode_paths(&reply.paths, format, out);
            }
            Self::QosFeedback(feedback) => {
                out.push(feedback.substream);
                out.extend_from_slice(&feedback.late_permille.to_be_bytes());
                out.extend_from_slice(&feedback.lost_permille.to_be_bytes());
                out.extend_from_slice(&feedback.over_ms.to_be_bytes());
            }
            Self::AuthChallenge(challenge) => {
                out.push(challenge.version);
                out.extend_from_slice(&challenge.nonce);
                out.extend_from_slice(challenge.key.as_bytes());
            }
            Self::AuthResponse(response) => {
                out.extend_from_slice(response.key.as_bytes());
                out.extend_from_slice(&response.nonce);
                out.extend_from_slice(&response.signature);
            }
            Self::AuthProof(proof) => {
                out.extend_from_slice(proof.key.as_bytes());
                out.extend_from_slice(&proof.signature);
            }
            Self::Control(control) => {
                out.extend_from_slice(&control.kind.to_be_bytes());
                out.extend_from_slice(&control.request.to_be_bytes());
                out.extend_from_slice(&control.body);
            }
            Self::Munro(munro) => {
                out.extend_from_slice(&munro.start.get().to_be_bytes());
                out.extend_from_slice(&munro.time.to_bits().to_be_bytes());
                out.extend_from_slice(&munro.signature);
                let leaves = countable(&munro.leaves);
                out.push(leaves.len() as u8);
                for leaf in leaves {
                    out.extend_from_slice(leaf.as_bytes());
                }
            }
            Self::NeedMunro(start) => out.extend_from_slice(&start.get().to_be_bytes()),
            Self::Fetch { range, flags } => {
                out.extend_from_slice(&range.first().get().to_be_bytes());
                out.extend_from_slice(&range.last().get().to_be_bytes());
                out.push(*flags);
            }
            Self::Describe => {}
            Self::Ticket(bytes) | Self::Description(bytes) | Self::Unknown { body: bytes, .. } => {
                out.extend_from_slice(bytes)
            }
        }
    }
}

/// As much of a list as a count of one byte can announce.
fn countable<T>(list: &[T]) -> &[T] {
    list.get(..usize::from(u8::MAX)).unwrap_or(list)
}

fn decode_subscribe(body: &mut Reader) -> Result<Subscribe, DecodeError> {
    let (id, flags, from_mode) = (body.u16()?, body.u8()?, body.u8()?);
    let count = body.u8()?;
    let mut entries = Vec::with_capacity(usize::from(count).min(body.remaining() / 9));
    for _ in 0..count {
        entries.push(Entry {
            substream: body.u8()?,
            from_chunk: ChunkIndex::new(body.u64()?),
        });
    }
    Ok(Subscribe {
        id,
        flags,
        from_mode,
        entries,
        lease_ms: body.u32()?,
        priority: body.u8()?,
    })
}

fn encode_subscribe(subscribe: &Subscribe, out: &mut Vec<u8>) {
    let entries = countable(&subscribe.entries);
    out.extend_from_slice(&subscribe.id.to_be_bytes());
    out.extend_from_slice(&[subscribe.flags, subscribe.from_mode, entries.len() as u8]);
    for entry in entries {
        out.push(entry.substream);
        out.extend_from_slice(&entry.from_chunk.get().to_be_bytes());
    }
    out.extend_from_slice(&subscribe.lease_ms.to_be_bytes());
    out.push(subscribe.priority);
}

/// In place of the first chunk of a SUB_REPLY: not known.
const START_UNKNOWN: u64 = u64::MAX;

fn decode_subscribe_reply(
    body: &mut Reader,
    format: &Format,
) -> Result<SubscribeReply, DecodeError> {
    let id = body.u16()?;
    let accepted = Mask::decode(body, format)?;
    let (reason, retry_ms) = (body.u8()?, body.u32()?);
    let start = Some(body.u64()?).filter(|start| *start != START_UNKNOWN);
    let count = body.u8()?;
    let mut alternatives = Vec::with_capacity(usize::from(count).min(body.remaining() / 15));
    for _ in 0..count {
        let peer_id = PeerId::from_bytes(body.bytes_of()?);
        let ip = match body.u8()? {
            4 => IpAddr::V4(Ipv4Addr::from(body.bytes_of::<4>()?)),
            6 => IpAddr::V6(Ipv6Addr::from(body.bytes_of::<16>()?)),
            family => {
                return Err(DecodeError::UnknownMessage {
                    offset: body.offset(),
                    kind: family,
                });
            }
        };
        alternatives.push((peer_id, SocketAddr::new(ip, body.u16()?)));
    }
    Ok(SubscribeReply {
        id,
        accepted,
        reason,
        retry_ms,
        start: start.map(ChunkIndex::new),
        alternatives,
    })
}

fn encode_subscribe_reply(reply: &SubscribeReply, format: &Format, out: &mut Vec<u8>) {
    out.extend_from_slice(&reply.id.to_be_bytes());
    reply.accepted.encode(format, out);
    out.push(reply.reason);
    out.extend_from_slice(&reply.retry_ms.to_be_bytes());
    let start = reply.start.map_or(START_UNKNOWN, ChunkIndex::get);
    out.extend_from_slice(&start.to_be_bytes());
    let alternatives = countable(&reply.alternatives);
    out.push(alternatives.len() as u8);
    for (peer_id, addr) in alternatives {
        out.extend_from_slice(peer_id.as_bytes());
        match addr.ip() {
            IpAddr::V4(ip) => {
                out.push(4);
                out.extend_from_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                out.push(6);
                out.extend_from_slice(&ip.octets());
            }
        }
        out.extend_from_slice(&addr.port().to_be_bytes());
    }
}

fn decode_paths(body: &mut Reader, format: &Format) -> Result<Vec<PathBlock>, DecodeError> {
    let count = body.u8()?;
    let mut paths = Vec::with_capacity(usize::from(count).min(body.remaining() / 2));
    for _ in 0..count {
        let mask = Mask::decode(body, format)?;
        let length = body.u8()?;
        let mut path = Vec::with_capacity(usize::from(length).min(body.remaining() / PeerId::LEN));
        for _ in 0..length {
            path.push(PeerId::from_bytes(body.bytes_of()?));
        }
        paths.push(PathBlock { mask, path });
    }
    Ok(paths)
}

fn encode_paths(paths: &[PathBlock], format: &Format, out: &mut Vec<u8>) {
    let paths = countable(paths);
    out.push(paths.len() as u8);
    for block in paths {
        block.mask.encode(format, out);
        let path = countable(&block.path);
        out.push(path.len() as u8);
        for peer in path {
            out.extend_from_slice(peer.as_bytes());
        }
    }
}

fn decode_status(body: &mut Reader, format: &Format) -> Result<Status, DecodeError> {
    let seq = body.u32()?;
    let mut heads = Vec::with_capacity(usize::from(format.substreams).min(body.remaining() / 8));
    for _ in 0..format.substreams {
        heads.push(ChunkIndex::new(body.u64()?));
    }
    Ok(Status {
        seq,
        heads,
        wanted: Mask::decode(body, format)?,
        recv_kbps: body.u32()?,
        sent_kbps: body.u32()?,
        loss_permille: body.u16()?,
        cumulative_latency_us: body.u32()?,
        jitter_us: body.u32()?,
        depth: body.u8()?,
        slots_free: body.u16()?,
        uplink_kbps: body.u32()?,
        paths: decode_paths(body, format)?,
    })
}

fn encode_status(status: &Status, format: &Format, out: &mut Vec<u8>) {
    out.extend_from_slice(&status.seq.to_be_bytes());
    let heads = status
        .heads
        .iter()
        .chain(std::iter::repeat(&ChunkIndex::ZERO));
    for head in heads.take(usize::from(format.substreams)) {
        out.extend_from_slice(&head.get().to_be_bytes());
    }
    status.wanted.encode(format, out);
    out.extend_from_slice(&status.recv_kbps.to_be_bytes());
    out.extend_from_slice(&status.sent_kbps.to_be_bytes());
    out.extend_from_slice(&status.loss_permille.to_be_bytes());
    out.extend_from_slice(&status.cumulative_latency_us.to_be_bytes());
    out.extend_from_slice(&status.jitter_us.to_be_bytes());
    out.push(status.depth);
    out.extend_from_slice(&status.slots_free.to_be_bytes());
    out.extend_from_slice(&status.uplink_kbps.to_be_bytes());
    encode_paths(&status.paths, format, out);
}

fn decode_munro(body: &mut Reader, format: &Format) -> Result<Munro, DecodeError> {
    let start = ChunkIndex::new(body.u64()?);
    let time = NtpTime::from_bits(body.u64()?);
    let signature = body.take(format.signature_bytes)?;
    let count = usize::from(body.u8()?);
    if count > MUNRO_LEAVES_MAX {
        return Err(DecodeError::TooLong {
            offset: body.offset(),
            length: count,
            limit: MUNRO_LEAVES_MAX,
        });
    }
    let mut leaves = Vec::with_capacity(count);
    for _ in 0..count {
        leaves.push(message::hash(body, format)?);
    }
    Ok(Munro {
        start,
        time,
        signature,
        leaves,
    })
}
