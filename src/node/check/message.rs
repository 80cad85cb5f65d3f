//! Any bytes read as a message.

use std::net::SocketAddr;

use bytes::Bytes;

use super::EPOCH;
use super::input::Input;
use crate::chunk::ChunkRange;
use crate::ids::{PeerId, PeerKey};
use crate::time::{Instant, NtpTime};
use crate::wire::control::{Answer, AnswerTaken, ControlBody, NotifyStream, WatchAnswer};
use crate::wire::extension::Control;
use crate::wire::{
    AuthChallenge, AuthProof, AuthResponse, Data, Entry, Extension, Hello, Mask, Message, Munro,
    ProbeReply, QosFeedback, Status, Subscribe, SubscribeReply,
};

/// From here on a byte means CONTROL: below it they mean what they meant when they were found.
const CONTROL_FROM: u8 = 240;

/// A request or an answer that can be read, mostly.
fn any_control(input: &mut Input<'_>) -> Control {
    let kind = input.u8();
    let answer = [Answer::Watch, Answer::Record, Answer::Ignore]
        .get(usize::from(kind >> 6))
        .copied()
        .unwrap_or(Answer::Watch);
    let body = match kind % 4 {
        0 => ControlBody::NotifyStream(NotifyStream::default()).encode(),
        1 => ControlBody::WatchAnswer(WatchAnswer { answer }).encode(),
        2 => {
            let taken = kind & 4 == 0;
            ControlBody::AnswerTaken(AnswerTaken { answer, taken }).encode()
        }
        _ => input.take(8).to_vec(),
    };
    Control {
        kind: u16::from(kind % 4) + 1,
        request: u32::from(input.u8() % 2),
        body: body.into(),
    }
}

/// A message of any kind, mostly of numbers that mean something.
pub(super) fn any_message(now: Instant, input: &mut Input<'_>) -> Message {
    let time = EPOCH.ntp(now);
    let kind = input.u8();
    if kind >= CONTROL_FROM {
        return Message::Extension(Extension::Control(any_control(input)));
    }
    match kind % 30 {
        0 => Message::Ack {
            range: input.range(),
            delay_us: input.u64().cast_signed(),
        },
        1 => Message::Have(input.range()),
        2 => Message::Integrity {
            range: input.range(),
            hash: input.digest(),
        },
        3 => Message::SignedIntegrity {
            range: input.range(),
            time: NtpTime::from_bits(input.u64()),
            signature: Bytes::from(vec![input.u8(); 64]),
        },
        4 => Message::Request(input.range()),
        5 => Message::Cancel(input.range()),
        6 => Message::Choke,
        7 => Message::Unchoke,
        8 => Message::PexRequest,
        9 => Message::PexCertificate(input.take(4)),
        10 | 11 => Message::Data(Data {
            range: ChunkRange::single(input.chunk()),
            time_us: input.u64(),
            payload: input.take(8),
        }),
        12 => Message::Extension(Extension::Hello(Hello {
            peer_id: PeerId::from_bytes([input.u8(); 8]),
            ..Hello::default()
        })),
        13 | 14 => Message::Extension(Extension::Subscribe(Subscribe {
            id: u16::from(input.u8()),
            flags: input.u8(),
            from_mode: input.u8() % 6,
            entries: vec![Entry {
                substream: 0,
                from_chunk: input.chunk(),
            }],
            lease_ms: u32::from(input.u16()),
            priority: 0,
        })),
        15 => Message::Extension(Extension::SubscribeReply(SubscribeReply {
            id: input.u16(),
            accepted: Mask::all(1),
            reason: input.u8() % 8,
            retry_ms: u32::from(input.u16()),
            start: Some(input.chunk()).filter(|chunk| chunk.get() % 3 > 0),
            alternatives: vec![(
                PeerId::from_bytes([input.u8(); 8]),
                SocketAddr::from(([input.u8(), input.u8(), input.u8(), 1], input.u16())),
            )],
        })),
        16 => Message::Extension(Extension::Unsubscribe {
            mask: Mask::all(1),
            reason: input.u8(),
        }),
        17 => Message::Extension(Extension::Status(Status {
            seq: 1,
            heads: vec![input.chunk()],
            wanted: Mask::none(1),
            recv_kbps: u32::MAX,
            sent_kbps: u32::MAX,
            loss_permille: input.u16(),
            cumulative_latency_us: u32::from(input.u16()) << 16,
            jitter_us: 0,
            depth: input.u8(),
            slots_free: input.u16(),
            uplink_kbps: u32::MAX,
            paths: input.path(),
        })),
        18 => Message::Extension(Extension::Probe {
            nonce: 1,
            mask: Mask::all(1),
        }),
        19 => Message::Extension(Extension::ProbeReply(ProbeReply {
            nonce: u32::from(input.u16()),
            held_us: u32::MAX,
            ready: Mask::all(1),
            recv_kbps: 0,
            cumulative_latency_us: u32::MAX,
            saturated: 0,
            paths: input.path(),
        })),
        20 => Message::Extension(Extension::QosFeedback(QosFeedback {
            substream: input.u8(),
            late_permille: 0,
            lost_permille: input.u16(),
            over_ms: u32::MAX,
        })),
        21 => Message::Extension(Extension::Munro(Munro {
            start: input.chunk(),
            time,
            signature: Bytes::from(vec![input.u8(); 64]),
            leaves: vec![input.digest(); usize::from(input.u8() % 40)],
        })),
        22 => Message::Extension(Extension::NeedMunro(input.chunk())),
        23 => Message::Extension(Extension::Fetch {
            range: input.range(),
            flags: input.u8(),
        }),
        24 => Message::Extension(Extension::Describe),
        25 => Message::Extension(Extension::AuthChallenge(AuthChallenge {
            version: input.u8() % 3,
            nonce: [input.u8(); 32],
            key: PeerKey::from_bytes([input.u8(); 32]),
        })),
        26 => Message::Extension(Extension::AuthResponse(AuthResponse {
            key: PeerKey::from_bytes([input.u8(); 32]),
            nonce: [input.u8(); 32],
            signature: [input.u8(); 64],
        })),
        27 => Message::Extension(Extension::AuthProof(AuthProof {
            key: PeerKey::from_bytes([input.u8(); 32]),
            signature: [input.u8(); 64],
        })),
        28 => Message::Extension(Extension::Ticket(input.take(40))),
        _ => Message::Extension(Extension::Description(input.take(40))),
    }
}
