//! The wire against `wire.hex`: every vector read, and written again byte for byte.

use std::net::{Ipv6Addr, SocketAddrV4, SocketAddrV6};

use bytes::Bytes;
use p2ps::chunk::{ChunkIndex, ChunkRange};
use p2ps::ids::{ChannelId, PeerId, PeerKey, SwarmId, decode_hex};
use p2ps::time::NtpTime;
use p2ps::wire::control::WatchAnswer;
use p2ps::wire::extension::Entry;
use p2ps::wire::option::{
    Addressing, ChunkSize, Handshake, HashFunction, Protection, SignatureAlgorithm,
    SupportedMessages,
};
use p2ps::wire::{
    Answer, AuthChallenge, AuthProof, AuthResponse, ChannelDescription, Control, ControlBody, Data,
    Datagram, Digest, Extension, Format, Hello, Mask, Message, Munro, PathBlock, ProbeReply,
    QosFeedback, Status, Subscribe, SubscribeReply,
};

use crate::vectors::{self, Vector, decode};

const P: ChannelId = ChannelId::from_bits(0x7a3b_19c4);
const Q: ChannelId = ChannelId::from_bits(0xc05e_8d21);

/// One vector by name.
pub(crate) fn get(name: &str) -> Vector {
    vectors::all()
        .into_iter()
        .find(|vector| vector.name == name)
        .unwrap_or_else(|| panic!("no vector {name}"))
}

fn range(first: u64, last: u64) -> ChunkRange {
    ChunkRange::new(ChunkIndex::new(first), ChunkIndex::new(last)).expect("in order")
}

/// The datagram reads as these messages, and they are written as this datagram.
#[track_caller]
fn check(name: &str, channel: ChannelId, expected: &[Message]) {
    let vector = get(name);
    let (to, _) = Datagram::open(vector.bytes.clone().into()).expect("has a channel");
    assert_eq!(to, channel, "{name}");
    let messages = decode(&vector.bytes, &vector.format).expect("can be read");
    assert_eq!(messages, expected, "{name}");
    let mut written = channel.to_bits().to_be_bytes().to_vec();
    for message in expected {
        message.encode(&vector.format, &mut written);
    }
    assert_eq!(hex(&written), hex(&vector.bytes), "{name}");
}

#[track_caller]
fn check_extension(name: &str, channel: ChannelId, expected: Extension) {
    check(name, channel, &[Message::Extension(expected)]);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Bytes {
    decode_hex(hex).expect("hexadecimal").into()
}

fn digest(hex: &str) -> Digest {
    Digest::from_slice(&bytes(hex)).expect("a digest")
}

fn integrity(first: u64, last: u64, hash: &str) -> Message {
    Message::Integrity {
        range: range(first, last),
        hash: digest(hash),
    }
}

fn data(chunk: u64, time_us: u64, payload: &[u8]) -> Message {
    Message::Data(Data {
        range: range(chunk, chunk),
        time_us,
        payload: Bytes::copy_from_slice(payload),
    })
}

fn single(substream: u16, substreams: u16) -> Mask {
    let mut mask = Mask::none(substreams);
    mask.set(substream);
    mask
}

const PEER: PeerId = PeerId::from_bytes([0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0xff]);
const OTHER: PeerId = PeerId::from_bytes([0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7]);
const MUNRO_4_7: &str = "0764bb064e406b96b435f9379d07119f58fdc4add1be51d4d6b1f678c3409f12";
const LEAF_1: &str = "9b6ce55f379e9771551de6939556a7e6b949814ae27c2f5cfd5dbeb378ce7c2a";
const LEAF_5: &str = "fa2a5e7b228adc7592461c8e580125312fd01c144b3e50913abc5691b2d16291";
const NODE_2_3: &str = "4876c4f5d6ff44f94d3aadca08daab0b05a62b0c2529817003059b02c366e6d5";
const SIGNED: NtpTime = NtpTime::from_bits(0xeeac_0640_8000_0000);
const SIGNATURE_RANGES64: &str = "0c5ab25012b55b3e504c65c88e7dc51e223220ef518286ca13d9843a00799a48\
                                  7e3005051f70080f31022720b16ebda5a6f9dbbc84cd8ea64835010030505a0c";

fn live_options(source: ChannelId) -> Handshake {
    Handshake {
        source,
        version: Some(1),
        protection: Some(Protection::UnifiedMerkleTree),
        hash: Some(HashFunction::Sha256),
        signature: Some(SignatureAlgorithm::Ed25519),
        addressing: Some(Addressing::Ranges32),
        discard_window: Some(4096),
        supported: SupportedMessages::from_bytes(&[0xf9, 0xf0]),
        chunk_size: Some(ChunkSize::Fixed(1024)),
        ..Handshake::default()
    }
}

fn handshake(handshake: Handshake) -> Message {
    Message::Handshake(Box::new(handshake))
}

// The example datagrams of the protocol reference.

#[test]
fn opening_and_reply() {
    let id = "0f974d96a22d224bc01adb915091477d44ccd91c9a41a11430010117d52c59240e";
    let opening = Handshake {
        minimum_version: Some(1),
        swarm_id: Some(id.parse::<SwarmId>().expect("an identifier")),
        ..live_options(P)
    };
    check("opening", ChannelId::NONE, &[handshake(opening)]);
    assert_eq!(get("opening").bytes.len(), 72);

    check(
        "reply",
        P,
        &[handshake(live_options(Q)), Message::Have(range(0, 7))],
    );
    assert_eq!(get("reply").bytes.len(), 43);
}

#[test]
fn have_and_request() {
    check(
        "have_request",
        Q,
        &[Message::Have(range(0, 3)), Message::Request(range(4, 7))],
    );
}

#[test]
fn first_chunk_of_a_munro() {
    let signature = "abe91643a78b31142856ade429e280f016880813749fcaef342e3f75b4088299\
                     de3b8bfa9505307d52d0bc6be68f20ae9cee03aa1b89ffdc498a2da3de089000";
    check(
        "munro_uncles_data",
        P,
        &[
            integrity(4, 7, MUNRO_4_7),
            Message::SignedIntegrity {
                range: range(4, 7),
                time: SIGNED,
                signature: bytes(signature),
            },
            integrity(
                6,
                7,
                "3987f1917a7d42ac0cf9977daa1bede04c34ae6ad4dc54ae4dd1dac39bf62cc6",
            ),
            integrity(5, 5, LEAF_5),
            data(4, 1_795_262_400_750_000, &[0x45; 1024]),
        ],
    );
    assert_eq!(get("munro_uncles_data").bytes.len(), 1249);
}

#[test]
fn later_chunks() {
    check("data", P, &[data(5, 0x0006_60c8_19ac_e598, &[0x46; 1024])]);
    assert_eq!(get("data").bytes.len(), 1045);
    check(
        "sibling_data",
        P,
        &[
            integrity(
                7,
                7,
                "504f6002db046c5b36ddc7a028bb79763c5b682e23ec464a465760fd758edde2",
            ),
            data(6, 0x0006_60c8_19ac_e980, &[0x47; 1024]),
        ],
    );
    assert_eq!(get("sibling_data").bytes.len(), 1086);
}

#[test]
fn acks_with_delays_of_either_sign() {
    for (name, delay_us) in [("ack", 23_456), ("ack_negative", -1500)] {
        let range = range(0, 5);
        check(name, Q, &[Message::Ack { range, delay_us }]);
        assert_eq!(get(name).bytes.len(), 21);
    }
}

#[test]
fn keepalive_close_bin_and_address() {
    check("keepalive", Q, &[]);
    check("close", Q, &[handshake(Handshake::closing())]);
    check("have_bin", Q, &[Message::Have(range(0, 1))]);
    let addr = SocketAddrV4::new([192, 0, 2, 17].into(), 6778);
    check("pex_v4", Q, &[Message::PexV4(addr)]);
}

#[test]
fn first_chunk_of_static_content() {
    check(
        "static_first_data",
        Q,
        &[
            integrity(
                0,
                3,
                "ae26f109f43e482111414bddd560c70ebef3bf71063d3bc0682d01878b36b2f5",
            ),
            integrity(
                4,
                5,
                "586542a02e91b8f91734be40ae4e67aab3a33f2b5840a8f5d23ca852fd705f61",
            ),
            integrity(
                6,
                6,
                "7d4f38aef5f5d644b73ad0d166018ceb80839748dfc8bd27639e22a5c4d6ebf0",
            ),
            integrity(2, 3, NODE_2_3),
            integrity(1, 1, LEAF_1),
            data(0, 1_795_262_400_750_000, &[0x41; 1024]),
        ],
    );
    assert_eq!(get("static_first_data").bytes.len(), 1250);
}

#[test]
fn opening_in_the_form_of_libswift() {
    let id = "39f0f6208af0576be01fb29dad9368cdc09d2fef";
    let opening = Handshake {
        source: P,
        version: Some(1),
        minimum_version: Some(1),
        swarm_id: Some(id.parse::<SwarmId>().expect("an identifier")),
        protection: Some(Protection::MerkleTree),
        hash: Some(HashFunction::Sha1),
        addressing: Some(Addressing::Ranges32),
        ..Handshake::default()
    };
    check("libswift_opening", ChannelId::NONE, &[handshake(opening)]);
    assert_eq!(get("libswift_opening").bytes.len(), 43);
}

#[test]
fn closing_with_versions_is_closing_too() {
    for (name, minimum_version) in [
        ("close_with_version", None),
        ("close_with_versions", Some(1)),
    ] {
        let closing = Handshake {
            version: Some(1),
            minimum_version,
            ..Handshake::closing()
        };
        assert!(closing.is_closing());
        check(name, Q, &[handshake(closing)]);
    }
}

// Every other message and addressing.

#[test]
fn small_messages() {
    let ip = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    check(
        "small_messages",
        Q,
        &[
            Message::Cancel(range(4, 7)),
            Message::Choke,
            Message::Unchoke,
            Message::PexRequest,
            Message::PexV6(SocketAddrV6::new(ip, 6778, 0, 0)),
            Message::PexCertificate(bytes("308201")),
        ],
    );
}

#[test]
fn hashes_are_as_long_as_the_hash_function() {
    let hash = "c53ae14a959e0d43860d9e00e45d40f2a722293b";
    check("sha1_integrity", Q, &[integrity(0, 3, hash)]);
}

#[test]
fn every_addressing_method() {
    let ack = |range| Message::Ack {
        range,
        delay_us: 23_456,
    };
    let payload = [0xaa, 0xbb, 0xcc];
    let time = 0x0006_60c8_19ac_e1b0;
    check(
        "ranges64",
        Q,
        &[
            Message::Have(range(1 << 32, (1 << 33) - 1)),
            ack(range(0, 5)),
            data(u64::MAX - 1, time, &payload),
        ],
    );
    check(
        "bins32",
        Q,
        &[Message::Request(range(4, 7)), data(5, time, &payload)],
    );
    check(
        "bins64",
        Q,
        &[
            Message::Request(range(4, 7)),
            ack(range(0, u64::from(u32::MAX))),
            data(5, time, &payload),
        ],
    );
    check("bins32_all", Q, &[Message::Have(range(0, (1 << 31) - 1))]);
    check("bins64_all", Q, &[Message::Have(range(0, (1 << 63) - 1))]);
    check(
        "bytes64",
        Q,
        &[Message::Request(range(4, 7)), data(5, time, &[0x46; 1024])],
    );
}

#[test]
fn data_of_a_fixed_size_may_be_followed() {
    let first = data(5, 0x0006_60c8_19ac_e598, &[0x46; 1024]);
    let short = data(6, 0x0006_60c8_19ac_e980, &[0x47; 1000]);
    check("two_data", P, &[first.clone(), short]);
    let ack = Message::Ack {
        range: range(0, 5),
        delay_us: 23_456,
    };
    check("data_then_ack", P, &[first, ack]);
}

#[test]
fn data_of_variable_size_is_the_rest() {
    let time = 0x0006_60c8_19ac_e598;
    check("data_variable", P, &[data(5, time, &[0x46; 1316])]);
    check("data_empty", P, &[data(5, time, &[])]);
}

#[test]
fn signed_munro_in_wide_ranges() {
    check(
        "munro_ranges64",
        P,
        &[
            integrity(4, 7, MUNRO_4_7),
            Message::SignedIntegrity {
                range: range(4, 7),
                time: SIGNED,
                signature: bytes(SIGNATURE_RANGES64),
            },
        ],
    );
}

// Extensions.

#[test]
fn hello() {
    let hello = Hello {
        peer_id: PEER,
        role: 2,
        nat: 1,
        uplink_kbps: 120_000,
        degree_max: 64,
        slots_free: 63,
        asn: 65_000,
        country: *b"DE",
        subnet: [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        flags: 1,
    };
    check_extension("hello", Q, Extension::Hello(hello));
}

#[test]
fn subscriptions() {
    let entry = |substream, from| Entry {
        substream,
        from_chunk: ChunkIndex::new(from),
    };
    let one = Subscribe {
        id: 7,
        flags: Subscribe::SEND_HASHES,
        from_mode: Subscribe::RANDOM_ACCESS,
        entries: vec![entry(0, 4608)],
        lease_ms: 30_000,
        priority: 3,
    };
    let two = Subscribe {
        flags: 0,
        from_mode: Subscribe::EXACT,
        entries: vec![entry(0, 4608), entry(11, 4609)],
        ..one.clone()
    };
    check_extension("subscribe", Q, Extension::Subscribe(one));
    check_extension("subscribe_two", Q, Extension::Subscribe(two));
}

#[test]
fn subscription_replies() {
    let granted = SubscribeReply {
        id: 7,
        accepted: Mask::all(1),
        start: Some(ChunkIndex::new(4608)),
        ..SubscribeReply::default()
    };
    check_extension("sub_reply", Q, Extension::SubscribeReply(granted));
    let refused = SubscribeReply {
        id: 7,
        accepted: Mask::none(12),
        reason: SubscribeReply::FULL,
        retry_ms: 2000,
        start: None,
        alternatives: vec![
            (PEER, "192.0.2.17:6778".parse().expect("an address")),
            (OTHER, "[2001:db8::1]:7850".parse().expect("an address")),
        ],
    };
    check_extension("sub_reply_full", Q, Extension::SubscribeReply(refused));
}

#[test]
fn unsubscriptions() {
    let one = Extension::Unsubscribe {
        mask: Mask::all(1),
        reason: 0,
    };
    check_extension("unsubscribe", Q, one);
    let all = Extension::Unsubscribe {
        mask: Mask::all(12),
        reason: 2,
    };
    check_extension("unsubscribe_twelve", Q, all);
}

#[test]
fn statuses() {
    let status = Status {
        seq: 9,
        heads: vec![ChunkIndex::new(4607)],
        wanted: Mask::all(1),
        recv_kbps: 8000,
        sent_kbps: 16_000,
        loss_permille: 3,
        cumulative_latency_us: 1500,
        jitter_us: 40,
        depth: 3,
        slots_free: 6,
        uplink_kbps: 100_000,
        paths: vec![PathBlock {
            mask: Mask::all(1),
            path: vec![PEER, OTHER],
        }],
    };
    check_extension("status", Q, Extension::Status(status.clone()));
    let two_paths = Status {
        heads: (0..12).map(|n| ChunkIndex::new(100 + n)).collect(),
        wanted: single(9, 12),
        paths: vec![
            PathBlock {
                mask: single(0, 12),
                path: vec![PEER],
            },
            PathBlock {
                mask: single(11, 12),
                path: vec![],
            },
        ],
        ..status
    };
    check_extension("status_twelve", Q, Extension::Status(two_paths));
}

#[test]
fn probes() {
    let probe = Extension::Probe {
        nonce: 0xdead_beef,
        mask: Mask::all(1),
    };
    check_extension("probe", Q, probe);
    let reply = ProbeReply {
        nonce: 0xdead_beef,
        held_us: 400,
        ready: Mask::none(1),
        recv_kbps: 8000,
        cumulative_latency_us: 1500,
        saturated: 1,
        paths: vec![PathBlock {
            mask: Mask::all(1),
            path: vec![PEER],
        }],
    };
    check_extension("probe_reply", Q, Extension::ProbeReply(reply));
}

#[test]
fn quality_feedback() {
    let feedback = QosFeedback {
        substream: 0,
        late_permille: 25,
        lost_permille: 2,
        over_ms: 250,
    };
    check_extension("qos_feedback", Q, Extension::QosFeedback(feedback));
}

#[test]
fn authentication() {
    let key = PeerKey::from_bytes([0xa1; 32]);
    let challenge = AuthChallenge {
        version: AuthChallenge::VERSION,
        nonce: [0x11; 32],
        key: PeerKey::from_bytes([0xb2; 32]),
    };
    check_extension("auth_chal", Q, Extension::AuthChallenge(challenge));
    let response = AuthResponse {
        key,
        nonce: [0x22; 32],
        signature: [0x33; 64],
    };
    check_extension("auth_resp1", Q, Extension::AuthResponse(response));
    let proof = AuthProof {
        key,
        signature: [0x44; 64],
    };
    check_extension("auth_resp2", Q, Extension::AuthProof(proof));
    check_extension("ticket", Q, Extension::Ticket(bytes("0102030405")));
    let answer = Answer::Watch;
    let body = ControlBody::WatchAnswer(WatchAnswer { answer });
    let control = Control {
        kind: body.kind(),
        request: 0x0102_0304,
        body: body.encode().into(),
    };
    check_extension("control", Q, Extension::Control(control));
}

#[test]
fn munros_and_repair() {
    let munro = Munro {
        start: ChunkIndex::new(32),
        time: SIGNED,
        signature: bytes(SIGNATURE_RANGES64),
        leaves: vec![digest(LEAF_1), digest(LEAF_5)],
    };
    check_extension("munro", P, Extension::Munro(munro.clone()));
    let need = Extension::NeedMunro(ChunkIndex::new(32));
    check_extension("need_munro", Q, need);
    let fetch = Extension::Fetch {
        range: range(36, 38),
        flags: Extension::HOLDS_HASHES,
    };
    check_extension("fetch", Q, fetch);

    // A full munro is the largest message of ours: with its channel 1113 bytes.
    let full = Munro {
        leaves: vec![digest(LEAF_1); 32],
        ..munro
    };
    let mut written = vec![0; 4];
    Message::Extension(Extension::Munro(full.clone())).encode(&Format::LIVE, &mut written);
    assert_eq!(written.len(), 1113);
    assert_eq!(
        decode(&written, &Format::LIVE),
        Ok(vec![Message::Extension(Extension::Munro(full))])
    );
}

#[test]
fn descriptions() {
    check_extension("describe", Q, Extension::Describe);
    check_extension("description", Q, Extension::Description(bytes("7b7d0a0a")));

    let id = "0f974d96a22d224bc01adb915091477d44ccd91c9a41a11430010117d52c59240e";
    let film = ChannelDescription {
        name: "film".to_owned(),
        title: "Film".to_owned(),
        swarm_id: id.parse().expect("an identifier"),
        chunk_bytes_max: 1316,
        munro_width: 32,
        substreams: 1,
        data_substreams: 1,
        run_length: 1,
        signature: bytes(SIGNATURE_RANGES64),
    };
    let written = film.encode().expect("fits into a datagram");
    assert_eq!(ChannelDescription::decode(written.clone()), Ok(film));
    check_extension("channel_description", Q, Extension::Description(written));
}

#[test]
fn unknown_extensions_are_skipped_by_their_length() {
    let unknown = |body| Message::Extension(Extension::Unknown { subtype: 200, body });
    check(
        "unknown_subtype",
        Q,
        &[unknown(bytes("010203")), Message::Have(range(0, 7))],
    );
    check("empty_body_of_unknown", Q, &[unknown(Bytes::new())]);
}

#[test]
fn masks_and_lists_of_another_length_are_written_as_the_layout_wants_them() {
    let format = Format {
        substreams: 12,
        ..Format::LIVE
    };
    let read_back = |extension: Extension| {
        let mut written = vec![0; 4];
        extension.encode(&format, &mut written);
        decode(&written, &format).map(|mut messages| messages.pop())
    };
    let narrow = SubscribeReply::default();
    let wide = Extension::SubscribeReply(SubscribeReply {
        accepted: Mask::none(12),
        ..narrow.clone()
    });
    assert_eq!(
        read_back(Extension::SubscribeReply(narrow)),
        Ok(Some(Message::Extension(wide)))
    );
    let read = read_back(Extension::Status(Status::default()));
    let Ok(Some(Message::Extension(Extension::Status(status)))) = read else {
        panic!("no status: {read:?}");
    };
    assert_eq!(status.heads, [ChunkIndex::ZERO; 12]);

    let entry = Entry {
        substream: 0,
        from_chunk: ChunkIndex::ZERO,
    };
    let many = Subscribe {
        entries: vec![entry; 256],
        ..Subscribe::default()
    };
    let read = read_back(Extension::Subscribe(many));
    let Ok(Some(Message::Extension(Extension::Subscribe(cut)))) = read else {
        panic!("no subscription: {read:?}");
    };
    assert_eq!(cut.entries.len(), 255);
}
