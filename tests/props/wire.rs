//! The codec: what is written is read again, and no bytes at all make it panic.

use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use p2ps::chunk::{Bin, ChunkIndex, ChunkRange};
use p2ps::ids::{ChannelId, PeerId, PeerKey, SwarmId};
use p2ps::time::NtpTime;
use p2ps::wire::extension::Entry;
use p2ps::wire::option::{
    Addressing, ChunkSize, Handshake, HashFunction, Protection, SignatureAlgorithm,
    SupportedMessages,
};
use p2ps::wire::{
    AuthChallenge, AuthProof, AuthResponse, Control, Data, DecodeError, Digest, Extension, Format,
    Hello, Mask, Message, Munro, PathBlock, ProbeReply, QosFeedback, Status, Subscribe,
    SubscribeReply, address, check,
};

use crate::vectors::{self, decode};

const CHUNK_BYTES: u32 = 1024;

fn format() -> impl Strategy<Value = Format> {
    (
        select(Addressing::ALL),
        select(HashFunction::ALL),
        select(&[64, 96, 256][..]),
        any::<bool>(),
        1..20u16,
    )
        .prop_map(|(addressing, hash, signature_bytes, fixed, substreams)| {
            // Byte ranges say nothing without a chunk size.
            let chunk_size = if fixed || addressing == Addressing::Bytes64 {
                ChunkSize::Fixed(CHUNK_BYTES)
            } else {
                ChunkSize::Variable
            };
            Format {
                addressing,
                hash,
                signature_bytes,
                chunk_size,
                substreams,
            }
        })
}

/// Chunks that an addressing method can name, the last ones of all among them.
fn range(addressing: Addressing) -> BoxedStrategy<ChunkRange> {
    let max = match addressing {
        Addressing::Bins32 => (1 << 31) - 1,
        Addressing::Ranges32 => u64::from(u32::MAX),
        Addressing::Bins64 => Bin::CHUNK_MAX,
        Addressing::Bytes64 => u64::MAX / u64::from(CHUNK_BYTES),
        Addressing::Ranges64 => u64::MAX,
    };
    let number = prop_oneof![0..=max, 0..100u64, max - 100..=max];
    match addressing {
        Addressing::Bins32 | Addressing::Bins64 => (number, 0..=max.ilog2() + 1)
            .prop_map(move |(number, layer)| {
                let span = (1 << layer) - 1;
                range_of(number & !span, number & !span | span)
            })
            .boxed(),
        _ => (number.clone(), number)
            .prop_map(|(a, b)| range_of(a.min(b), a.max(b)))
            .boxed(),
    }
}

fn range_of(first: u64, last: u64) -> ChunkRange {
    ChunkRange::new(ChunkIndex::new(first), ChunkIndex::new(last)).expect("in order")
}

fn blob(length: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), length).prop_map(Bytes::from)
}

fn digest(format: Format) -> impl Strategy<Value = Digest> {
    blob(format.hash.len()).prop_map(|bytes| Digest::from_slice(&bytes).expect("a digest"))
}

fn ntp_time() -> impl Strategy<Value = NtpTime> {
    any::<u64>().prop_map(NtpTime::from_bits)
}

fn chunk() -> impl Strategy<Value = ChunkIndex> {
    any::<u64>().prop_map(ChunkIndex::new)
}

fn peer_id() -> impl Strategy<Value = PeerId> {
    any::<[u8; 8]>().prop_map(PeerId::from_bytes)
}

fn mask(format: Format) -> impl Strategy<Value = Mask> {
    vec(0..format.substreams, 0..4).prop_map(move |substreams| {
        let mut mask = Mask::none(format.substreams);
        substreams.into_iter().for_each(|one| mask.set(one));
        mask
    })
}

fn paths(format: Format) -> impl Strategy<Value = Vec<PathBlock>> {
    let block = (mask(format), vec(peer_id(), 0..5));
    vec(
        block.prop_map(|(mask, path)| PathBlock { mask, path }),
        0..4,
    )
}

fn v4() -> impl Strategy<Value = SocketAddrV4> {
    any::<([u8; 4], u16)>().prop_map(|(ip, port)| SocketAddrV4::new(ip.into(), port))
}

fn v6() -> impl Strategy<Value = SocketAddrV6> {
    any::<([u8; 16], u16)>().prop_map(|(ip, port)| SocketAddrV6::new(ip.into(), port, 0, 0))
}

fn handshake() -> impl Strategy<Value = Message> {
    let of = proptest::option::of::<BoxedStrategy<u8>>;
    let code = |known: Vec<u8>| of(select(known).boxed());
    let metadata = (
        proptest::option::of(vec(any::<u8>(), 1..100)),
        code(Protection::ALL.iter().map(|it| it.code()).collect()),
        code(HashFunction::ALL.iter().map(|it| it.code()).collect()),
        code(SignatureAlgorithm::ALL.iter().map(|it| it.code()).collect()),
        code(Addressing::ALL.iter().map(|it| it.code()).collect()),
        proptest::option::of(1..=u32::MAX),
    );
    let own = (
        any::<u32>(),
        any::<Option<u8>>(),
        any::<Option<u8>>(),
        proptest::option::of(prop_oneof![0..u64::from(u32::MAX), Just(u64::MAX)]),
        proptest::option::of(vec(any::<u8>(), 0..=32)),
    );
    (metadata, own).prop_map(|(metadata, own)| {
        let (swarm_id, protection, hash, signature, addressing, chunk_size) = metadata;
        let (source, version, minimum_version, window, supported) = own;
        let addressing = addressing.and_then(Addressing::from_code);
        Message::Handshake(Box::new(Handshake {
            source: ChannelId::from_bits(source),
            version,
            minimum_version,
            swarm_id: swarm_id.map(|id| SwarmId::new(id).expect("short enough")),
            protection: protection.and_then(Protection::from_code),
            hash: hash.and_then(HashFunction::from_code),
            signature: signature.and_then(SignatureAlgorithm::from_code),
            addressing,
            // The width of the window depends on the addressing: it cannot be told without.
            discard_window: addressing.and(window),
            supported: supported.and_then(|bits| SupportedMessages::from_bytes(&bits)),
            chunk_size: chunk_size.and_then(ChunkSize::from_bits),
        }))
    })
}

/// Any message of RFC 7574 but HANDSHAKE and DATA.
fn small(format: Format) -> impl Strategy<Value = Message> {
    let range = range(format.addressing);
    prop_oneof![
        (range.clone(), any::<i64>())
            .prop_map(|(range, delay_us)| Message::Ack { range, delay_us }),
        range.clone().prop_map(Message::Have),
        (range.clone(), digest(format))
            .prop_map(|(range, hash)| Message::Integrity { range, hash }),
        v4().prop_map(Message::PexV4),
        Just(Message::PexRequest),
        (range.clone(), ntp_time(), blob(format.signature_bytes)).prop_map(
            |(range, time, signature)| Message::SignedIntegrity {
                range,
                time,
                signature
            }
        ),
        range.clone().prop_map(Message::Request),
        range.prop_map(Message::Cancel),
        Just(Message::Choke),
        Just(Message::Unchoke),
        v6().prop_map(Message::PexV6),
        blob(0..100).prop_map(Message::PexCertificate),
    ]
}

fn extension(format: Format) -> impl Strategy<Value = Message> {
    prop_oneof![
        tree_extension(format),
        report_extension(format),
        repair_extension(format),
        auth_extension()
    ]
    .prop_map(Message::Extension)
}

fn tree_extension(format: Format) -> impl Strategy<Value = Extension> {
    let hello = (
        peer_id(),
        any::<(u8, u8, u32, u16, u16, u32)>(),
        any::<([u8; 2], [u8; 16], u16)>(),
    )
        .prop_map(|(peer_id, numbers, (country, subnet, flags))| {
            let (role, nat, uplink_kbps, degree_max, slots_free, asn) = numbers;
            Extension::Hello(Hello {
                peer_id,
                role,
                nat,
                uplink_kbps,
                degree_max,
                slots_free,
                asn,
                country,
                subnet,
                flags,
            })
        });
    let entry = (any::<u8>(), chunk()).prop_map(|(substream, from_chunk)| Entry {
        substream,
        from_chunk,
    });
    let subscribe = (any::<(u16, u8, u8, u32, u8)>(), vec(entry, 0..20)).prop_map(
        |((id, flags, from_mode, lease_ms, priority), entries)| {
            Extension::Subscribe(Subscribe {
                id,
                flags,
                from_mode,
                entries,
                lease_ms,
                priority,
            })
        },
    );
    let addr = prop_oneof![v4().prop_map(SocketAddr::V4), v6().prop_map(SocketAddr::V6)];
    let reply = (
        any::<(u16, u8, u32)>(),
        mask(format),
        proptest::option::of(0..u64::MAX),
        vec((peer_id(), addr), 0..5),
    )
        .prop_map(|((id, reason, retry_ms), accepted, start, alternatives)| {
            Extension::SubscribeReply(SubscribeReply {
                id,
                accepted,
                reason,
                retry_ms,
                start: start.map(ChunkIndex::new),
                alternatives,
            })
        });
    let unsubscribe = (mask(format), any::<u8>())
        .prop_map(|(mask, reason)| Extension::Unsubscribe { mask, reason });
    prop_oneof![hello, subscribe, reply, unsubscribe]
}

fn report_extension(format: Format) -> impl Strategy<Value = Extension> {
    let status = (
        any::<(u32, u32, u32, u16, u32, u32)>(),
        any::<(u8, u16, u32)>(),
        vec(chunk(), usize::from(format.substreams)),
        mask(format),
        paths(format),
    )
        .prop_map(|(rates, place, heads, wanted, paths)| {
            let (seq, recv_kbps, sent_kbps, loss_permille, cumulative_latency_us, jitter_us) =
                rates;
            let (depth, slots_free, uplink_kbps) = place;
            Extension::Status(Status {
                seq,
                heads,
                wanted,
                recv_kbps,
                sent_kbps,
                loss_permille,
                cumulative_latency_us,
                jitter_us,
                depth,
                slots_free,
                uplink_kbps,
                paths,
            })
        });
    let probe =
        (any::<u32>(), mask(format)).prop_map(|(nonce, mask)| Extension::Probe { nonce, mask });
    let reply = (
        any::<(u32, u32, u32, u32, u8)>(),
        mask(format),
        paths(format),
    )
        .prop_map(
            |((nonce, held_us, recv_kbps, cumulative_latency_us, saturated), ready, paths)| {
                Extension::ProbeReply(ProbeReply {
                    nonce,
                    held_us,
                    ready,
                    recv_kbps,
                    cumulative_latency_us,
                    saturated,
                    paths,
                })
            },
        );
    let feedback = any::<(u8, u16, u16, u32)>().prop_map(
        |(substream, late_permille, lost_permille, over_ms)| {
            Extension::QosFeedback(QosFeedback {
                substream,
                late_permille,
                lost_permille,
                over_ms,
            })
        },
    );
    prop_oneof![status, probe, reply, feedback]
}

fn auth_extension() -> impl Strategy<Value = Extension> {
    fn fixed<const N: usize>() -> impl Strategy<Value = [u8; N]> {
        vec(any::<u8>(), N).prop_map(|bytes| bytes.try_into().expect("as long as asked for"))
    }
    let key = || fixed().prop_map(PeerKey::from_bytes);
    let challenge = (any::<u8>(), fixed(), key()).prop_map(|(version, nonce, key)| {
        Extension::AuthChallenge(AuthChallenge {
            version,
            nonce,
            key,
        })
    });
    let response = (key(), fixed(), fixed()).prop_map(|(key, nonce, signature)| {
        Extension::AuthResponse(AuthResponse {
            key,
            nonce,
            signature,
        })
    });
    let proof = (key(), fixed())
        .prop_map(|(key, signature)| Extension::AuthProof(AuthProof { key, signature }));
    let ticket = blob(0..600).prop_map(Extension::Ticket);
    let control = (any::<u16>(), any::<u32>(), blob(0..=1024)).prop_map(|(kind, request, body)| {
        Extension::Control(Control {
            kind,
            request,
            body,
        })
    });
    prop_oneof![challenge, response, proof, ticket, control]
}

fn repair_extension(format: Format) -> impl Strategy<Value = Extension> {
    let munro = (
        chunk(),
        ntp_time(),
        blob(format.signature_bytes),
        vec(digest(format), 0..=32),
    )
        .prop_map(|(start, time, signature, leaves)| {
            Extension::Munro(Munro {
                start,
                time,
                signature,
                leaves,
            })
        });
    prop_oneof![
        munro,
        chunk().prop_map(Extension::NeedMunro),
        (range(Addressing::Ranges64), any::<u8>())
            .prop_map(|(range, flags)| Extension::Fetch { range, flags }),
        Just(Extension::Describe),
        blob(0..1000).prop_map(Extension::Description),
        (86..=255u8, blob(0..100)).prop_map(|(subtype, body)| Extension::Unknown { subtype, body }),
    ]
}

fn data(format: Format) -> impl Strategy<Value = Message> {
    let chunk = range(format.addressing).prop_map(|range| ChunkRange::single(range.first()));
    let time = any::<u64>();
    let length = match format.chunk_size {
        ChunkSize::Fixed(size) => size as usize,
        ChunkSize::Variable => 1400,
    };
    (chunk, time, blob(0..=length)).prop_map(|(range, time_us, payload)| {
        Message::Data(Data {
            range,
            time_us,
            payload,
        })
    })
}

/// A format and a datagram in it: perhaps a HANDSHAKE, then anything, then perhaps DATA.
fn datagram() -> impl Strategy<Value = (Format, Vec<Message>)> {
    format().prop_flat_map(|format| {
        let small = prop_oneof![small(format), extension(format)];
        (
            Just(format),
            proptest::option::weighted(0.3, handshake()),
            vec(small, 0..6),
            proptest::option::of(data(format)),
        )
            .prop_map(|(format, handshake, small, data)| {
                let messages = handshake.into_iter().chain(small).chain(data).collect();
                (format, messages)
            })
    })
}

fn write(messages: &[Message], format: &Format) -> Vec<u8> {
    let mut written = vec![0; 4];
    for message in messages {
        message.encode(format, &mut written);
    }
    written
}

proptest! {
    #[test]
    fn what_is_written_is_read_again((format, messages) in datagram()) {
        let written = write(&messages, &format);
        prop_assert_eq!(decode(&written, &format), Ok(messages));
    }

    #[test]
    fn cuts_and_flips_of_any_datagram_are_harmless(
        (format, messages) in datagram(),
        cut: Index,
        flip: Index,
        bit in 0..8u8,
    ) {
        let mut written = write(&messages, &format);
        let shorter = written.get(..cut.index(written.len())).expect("inside");
        prop_assert_ne!(decode(shorter, &format), Ok(messages));
        check::datagram(shorter);
        *flip.get_mut(&mut written) ^= 1 << bit;
        check::datagram(&written);
    }

    #[test]
    fn any_bytes_are_harmless(bytes in vec(any::<u8>(), 0..300)) {
        check::datagram(&bytes);
        check::handshake_options(&bytes);
        check::extension(&bytes);
    }

    #[test]
    fn bodies_of_control_are_harmless(
        kind in 0..5u16,
        title in any::<String>(),
        depth in 0..12usize,
        cut: Index,
        flip: Index,
        bit in 0..8u8,
    ) {
        let title = serde_json::to_string(&title).expect("a text is JSON");
        let nested = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let text = format!(
            r#"{{"channel":"film","title":{title},"records":true,"answer":"watch","taken":true,"x":{}}}"#,
            if depth > 0 { nested } else { "0".to_owned() },
        );
        let mut body = text.into_bytes();
        check::control_json(kind, &body);
        check::control_json(kind, body.get(..cut.index(body.len())).expect("inside"));
        *flip.get_mut(&mut body) ^= 1 << bit;
        check::control_json(kind, &body);
    }

    #[test]
    fn pieces_are_named_exactly(
        (format, range) in format().prop_flat_map(|format| {
            let ranges = match format.addressing {
                Addressing::Bins32 => range(Addressing::Ranges32)
                    .prop_filter_map("beyond 31 bits", |range| {
                        range.intersection(range_of(0, (1 << 31) - 1))
                    })
                    .boxed(),
                Addressing::Bins64 => range(Addressing::Ranges64)
                    .prop_filter_map("beyond 63 bits", |range| {
                        range.intersection(range_of(0, Bin::CHUNK_MAX))
                    })
                    .boxed(),
                other => range(other),
            };
            (Just(format), ranges)
        })
    ) {
        let mut next = Some(range.first());
        for piece in address::pieces(&format, range) {
            let written = write(&[Message::Have(piece)], &format);
            prop_assert_eq!(decode(&written, &format), Ok(vec![Message::Have(piece)]));
            prop_assert_eq!(Some(piece.first()), next);
            next = piece.last().get().checked_add(1).map(ChunkIndex::new);
        }
        prop_assert_eq!(next, range.last().get().checked_add(1).map(ChunkIndex::new));
    }
}

#[test]
fn every_vector_is_written_as_it_was_read() {
    for vector in vectors::all() {
        let messages = decode(&vector.bytes, &vector.format).expect(vector.name);
        let written = write(&messages, &vector.format);
        assert_eq!(written.get(4..), vector.bytes.get(4..), "{}", vector.name);
    }
}

#[test]
fn every_vector_cut_at_every_byte() {
    for vector in vectors::all() {
        let whole = decode(&vector.bytes, &vector.format).expect(vector.name);
        for length in 0..vector.bytes.len() {
            let cut = vector.bytes.get(..length).expect("inside");
            check::datagram(cut);
            match decode(cut, &vector.format) {
                Ok(messages) => assert_ne!(messages, whole, "{} at {length}", vector.name),
                Err(error) => assert!(
                    matches!(
                        error,
                        DecodeError::Truncated { .. } | DecodeError::UnexpectedOption { .. }
                    ),
                    "{} at {length}: {error}",
                    vector.name
                ),
            }
        }
    }
}

#[test]
fn every_vector_with_every_bit_flipped() {
    for vector in vectors::all() {
        // Behind the front there are only hashes and chunks.
        for position in 0..vector.bytes.len().min(160) {
            for bit in 0..8 {
                let mut flipped = vector.bytes.clone();
                flipped[position] ^= 1 << bit;
                let _ = decode(&flipped, &vector.format);
                check::datagram(&flipped);
                if let Some(options) = flipped.get(9..) {
                    check::handshake_options(options);
                }
                if let Some(content) = flipped.get(7..) {
                    check::extension(content);
                }
            }
        }
    }
}
