//! Our private messages: `F0 ‖ length u16 ‖ subtype u8 ‖ body`, sent only to peers whose Supported Messages show it.
//!
//! The length counts subtype and body, so a subtype that is not known is skipped whole. Chunk numbers are 64 bits wide
//! whatever the swarm's addressing; masks have a bit for each substream, most significant first. What they say stands here
//! with the envelope; the bytes of each body are the affair of `body`.

mod body;

use std::net::SocketAddr;

use bytes::Bytes;

use super::cursor::{DecodeError, Reader};
use super::{Digest, EXTENSION_TYPE, Format};
use crate::chunk::{ChunkIndex, ChunkRange, Parts};
use crate::ids::{PeerId, PeerKey};
use crate::time::NtpTime;

/// Leaf hashes in one MUNRO at most: the widest munro with one.
pub const MUNRO_LEAVES_MAX: usize = 32;

/// A set of substreams: ⌈N/8⌉ bytes, substream 0 in the most significant bit of the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mask(Vec<u8>);

impl Mask {
    /// All substreams of a layout with `substreams` of them.
    pub fn all(substreams: u16) -> Self {
        let mut mask = Self(vec![0; bytes_of(substreams)]);
        for substream in 0..substreams {
            mask.set(substream);
        }
        mask
    }

    /// None of them.
    pub fn none(substreams: u16) -> Self {
        Self(vec![0; bytes_of(substreams)])
    }

    /// A few of up to eight substreams.
    pub fn from_parts(parts: Parts) -> Self {
        Self(vec![parts.to_bits().reverse_bits()])
    }

    /// Its first eight substreams.
    pub fn parts(&self) -> Parts {
        Parts::from_bits(self.0.first().copied().unwrap_or(0).reverse_bits())
    }

    /// Adds a substream; one outside the layout changes nothing.
    pub fn set(&mut self, substream: u16) {
        if let Some(byte) = self.0.get_mut(usize::from(substream / 8)) {
            *byte |= 0x80 >> (substream % 8);
        }
    }

    /// Whether a substream is in it.
    pub fn contains(&self, substream: u16) -> bool {
        self.0
            .get(usize::from(substream / 8))
            .is_some_and(|byte| byte & (0x80 >> (substream % 8)) != 0)
    }

    /// Whether no substream is in it.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }

    fn decode(reader: &mut Reader, format: &Format) -> Result<Self, DecodeError> {
        Ok(Self(reader.slice(bytes_of(format.substreams))?.to_vec()))
    }

    /// As wide as the layout wants it, whatever layout it was made for.
    fn encode(&self, format: &Format, out: &mut Vec<u8>) {
        let bytes = self.0.iter().copied().chain(std::iter::repeat(0));
        out.extend(bytes.take(bytes_of(format.substreams)));
    }
}

fn bytes_of(substreams: u16) -> usize {
    usize::from(substreams).div_ceil(8)
}

/// 64 HELLO_EXT: who is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// Its name.
    pub peer_id: PeerId,
    /// 0 peer, 1 source, 2 relay, 3 repeater, 4 server, 5 clone, 6 super-peer, 7 seeder.
    pub role: u8,
    /// 0 unknown, 1 public, 2 cone, 3 symmetric.
    pub nat: u8,
    /// Upload it can give, kbit/s; 0 unknown.
    pub uplink_kbps: u32,
    /// Children it takes at most.
    pub degree_max: u16,
    /// Children it would still take.
    pub slots_free: u16,
    /// Autonomous system, 0 unknown.
    pub asn: u32,
    /// Country, two letters, zero unknown.
    pub country: [u8; 2],
    /// Its network, zero unknown.
    pub subnet: [u8; 16],
    /// Reserved bits.
    pub flags: u16,
}

/// Where a subscription to one substream begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which substream, or [`ALL`](Self::ALL).
    pub substream: u8,
    /// Its first chunk, for [`Subscribe::EXACT`].
    pub from_chunk: ChunkIndex,
}

impl Entry {
    /// Every substream, for whoever does not know yet how many there are.
    pub const ALL: u8 = u8::MAX;
}

/// 65 SUBSCRIBE: push me every chunk from there on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscribe {
    /// Repeated in the answer.
    pub id: u16,
    /// [`SEND_HASHES`](Self::SEND_HASHES).
    pub flags: u8,
    /// One of the `from` modes.
    pub from_mode: u8,
    /// Substreams wanted.
    pub entries: Vec<Entry>,
    /// How long it holds unless a STATUS renews it, in milliseconds.
    pub lease_ms: u32,
    /// Class of service asked for.
    pub priority: u8,
}

impl Subscribe {
    /// Flag: the hashes are wanted from this parent.
    pub const SEND_HASHES: u8 = 1;
    /// Begin at `from_chunk`.
    pub const EXACT: u8 = 0;
    /// Begin at the newest random access point.
    pub const RANDOM_ACCESS: u8 = 1;
    /// Begin at the oldest chunk held.
    pub const OLDEST: u8 = 2;
    /// Begin at the live edge.
    pub const LIVE_EDGE: u8 = 3;
}

/// 66 SUB_REPLY: which substreams are granted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscribeReply {
    /// The request's.
    pub id: u16,
    /// Substreams granted.
    pub accepted: Mask,
    /// One of the reasons.
    pub reason: u8,
    /// When to ask again, milliseconds.
    pub retry_ms: u32,
    /// The first chunk pushed, as far as the parent knows it yet; the same answer comes again once it does.
    pub start: Option<ChunkIndex>,
    /// Who else may have room.
    pub alternatives: Vec<(PeerId, SocketAddr)>,
}

impl SubscribeReply {
    /// Granted.
    pub const OK: u8 = 0;
    /// No slot or bandwidth left.
    pub const FULL: u8 = 1;
    /// The asker is an ancestor.
    pub const LOOP: u8 = 2;
    /// The tree would grow too deep.
    pub const DEPTH: u8 = 3;
    /// Not allowed.
    pub const AUTH: u8 = 4;
    /// Does not have it.
    pub const NOT_HAVE: u8 = 5;
    /// Does not want to.
    pub const POLICY: u8 = 6;
    /// Others go first.
    pub const PRIORITY: u8 = 7;
}

/// A group of substreams that share a path from the source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathBlock {
    /// Which substreams.
    pub mask: Mask,
    /// The peers from the source to the sender.
    pub path: Vec<PeerId>,
}

/// 68 STATUS: how the sender is doing; renews subscriptions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Counts up.
    pub seq: u32,
    /// For each substream, the newest chunk without a gap before it.
    pub heads: Vec<ChunkIndex>,
    /// Substreams wanted from the receiver.
    pub wanted: Mask,
    /// Media received, kbit/s.
    pub recv_kbps: u32,
    /// Media sent, kbit/s.
    pub sent_kbps: u32,
    /// Chunks lost, in thousandths.
    pub loss_permille: u16,
    /// From the source to the sender, microseconds.
    pub cumulative_latency_us: u32,
    /// Jitter on the last hop, microseconds.
    pub jitter_us: u32,
    /// Levels from the source, which is 1; 0 without a path.
    pub depth: u8,
    /// Children it would still take.
    pub slots_free: u16,
    /// Upload it reckons it has, kbit/s; 0 unknown.
    pub uplink_kbps: u32,
    /// How the media reaches it.
    pub paths: Vec<PathBlock>,
}

/// 70 PROBE_REPLY: alive, and how ready.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeReply {
    /// The probe's.
    pub nonce: u32,
    /// How long the probe waited to be read, microseconds: whoever serves many reads when media arrives.
    pub held_us: u32,
    /// Substreams it could serve.
    pub ready: Mask,
    /// Media received over the last seconds, kbit/s.
    pub recv_kbps: u32,
    /// From the source to the sender, microseconds.
    pub cumulative_latency_us: u32,
    /// 1 when its upload is used up.
    pub saturated: u8,
    /// How the media reaches it.
    pub paths: Vec<PathBlock>,
}

/// 71 QOS_FEEDBACK: how what you send arrives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QosFeedback {
    /// Which substream.
    pub substream: u8,
    /// Chunks that came too late, in thousandths.
    pub late_permille: u16,
    /// Chunks that never came, in thousandths.
    pub lost_permille: u16,
    /// Over how long, milliseconds.
    pub over_ms: u32,
}

/// 74 AUTH_CHAL: prove that you hold a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthChallenge {
    /// Of the exchange, [`VERSION`](Self::VERSION).
    pub version: u8,
    /// What the answer must sign, never used before.
    pub nonce: [u8; 32],
    /// The key of the sender, which the answer must name.
    pub key: PeerKey,
}

impl AuthChallenge {
    /// The only version there is.
    pub const VERSION: u8 = 1;
}

/// 75 AUTH_RESP1: the proof, and a challenge in return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthResponse {
    /// The key of the sender.
    pub key: PeerKey,
    /// What the answer to this one must sign.
    pub nonce: [u8; 32],
    /// By that key.
    pub signature: [u8; 64],
}

/// 76 AUTH_RESP2: the proof of whoever asked first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthProof {
    /// The key of the sender.
    pub key: PeerKey,
    /// By that key.
    pub signature: [u8; 64],
}

/// 79 CONTROL: a request or an answer between a clone and its user's peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// What the body is; [`ControlBody`](super::ControlBody) has those that are known.
    pub kind: u16,
    /// Names the request; repeated in what answers it.
    pub request: u32,
    /// JSON, at most [`BODY_BYTES_MAX`](super::control::BODY_BYTES_MAX).
    pub body: Bytes,
}

/// 81 MUNRO: the signature and all leaf hashes of a munro in one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Munro {
    /// First chunk.
    pub start: ChunkIndex,
    /// The source's clock at signing.
    pub time: NtpTime,
    /// The signature over the munro hash.
    pub signature: Bytes,
    /// Leaf hashes of the first chunks; the others are empty.
    pub leaves: Vec<Digest>,
}

/// One private message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Extension {
    /// 64.
    Hello(Hello),
    /// 65.
    Subscribe(Subscribe),
    /// 66.
    SubscribeReply(SubscribeReply),
    /// 67: stop pushing.
    Unsubscribe {
        /// Substreams not wanted any more.
        mask: Mask,
        /// Why, as in SUB_REPLY.
        reason: u8,
    },
    /// 68.
    Status(Status),
    /// 69: are you there, and could you serve these?
    Probe {
        /// Repeated in the answer.
        nonce: u32,
        /// Substreams asked about.
        mask: Mask,
    },
    /// 70.
    ProbeReply(ProbeReply),
    /// 71.
    QosFeedback(QosFeedback),
    /// 74.
    AuthChallenge(AuthChallenge),
    /// 75.
    AuthResponse(AuthResponse),
    /// 76.
    AuthProof(AuthProof),
    /// 77: what the tracker allows the sender.
    Ticket(Bytes),
    /// 79.
    Control(Control),
    /// 81.
    Munro(Munro),
    /// 82: send me the MUNRO that begins there.
    NeedMunro(ChunkIndex),
    /// 83: send me these chunks.
    Fetch {
        /// The chunks.
        range: ChunkRange,
        /// [`Extension::HOLDS_HASHES`].
        flags: u8,
    },
    /// 84: send me the channel description.
    Describe,
    /// 85: the channel description, signed.
    Description(Bytes),
    /// Any other subtype, to be ignored.
    Unknown {
        /// Its number.
        subtype: u8,
        /// Its body.
        body: Bytes,
    },
}

impl Extension {
    /// Flag of FETCH: the asker has the hashes.
    pub const HOLDS_HASHES: u8 = 1;

    const fn subtype(&self) -> u8 {
        match self {
            Self::Hello(_) => 64,
            Self::Subscribe(_) => 65,
            Self::SubscribeReply(_) => 66,
            Self::Unsubscribe { .. } => 67,
            Self::Status(_) => 68,
            Self::Probe { .. } => 69,
            Self::ProbeReply(_) => 70,
            Self::QosFeedback(_) => 71,
            Self::AuthChallenge(_) => 74,
            Self::AuthResponse(_) => 75,
            Self::AuthProof(_) => 76,
            Self::Ticket(_) => 77,
            Self::Control(_) => 79,
            Self::Munro(_) => 81,
            Self::NeedMunro(_) => 82,
            Self::Fetch { .. } => 83,
            Self::Describe => 84,
            Self::Description(_) => 85,
            Self::Unknown { subtype, .. } => *subtype,
        }
    }

    /// Reads what follows the type byte, which stood at `offset`.
    pub(super) fn decode(
        reader: &mut Reader,
        format: &Format,
        offset: usize,
    ) -> Result<Self, DecodeError> {
        let length = usize::from(reader.u16()?);
        if length == 0 {
            return Err(DecodeError::BadExtension { offset, subtype: 0 });
        }
        if length > reader.remaining() {
            let needed = length - reader.remaining();
            return Err(DecodeError::Truncated {
                offset: reader.offset(),
                needed,
            });
        }
        let mut body = Reader::new(reader.take(length)?);
        let subtype = body.u8()?;
        let wrong = DecodeError::BadExtension { offset, subtype };
        // Inside the body a field that is cut short means that the length was wrong.
        let extension =
            Self::decode_body(&mut body, format, subtype).map_err(|error| match error {
                DecodeError::BadRange { .. } => error,
                _ => wrong,
            })?;
        if body.remaining() > 0 {
            return Err(wrong);
        }
        Ok(extension)
    }

    /// Appends the message with its envelope.
    pub fn encode(&self, format: &Format, out: &mut Vec<u8>) {
        out.push(EXTENSION_TYPE);
        let length_at = out.len();
        out.extend_from_slice(&[0, 0, self.subtype()]);
        self.encode_body(format, out);
        let length = u16::try_from(out.len() - length_at - 2)
            .unwrap_or(u16::MAX)
            .to_be_bytes();
        if let Some(room) = out.get_mut(length_at..length_at + 2) {
            room.copy_from_slice(&length);
        }
    }
}
