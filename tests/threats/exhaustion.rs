//! Those who want to have us work, send or remember too much: S-12 to S-26.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use p2ps::chunk::{ChunkIndex, ChunkRange};
use p2ps::ids::ChannelId;
use p2ps::node::{Port, Role};
use p2ps::peer::handshake::HALF_OPEN_MAX;
use p2ps::wire::option::Handshake;
use p2ps::wire::{Data, Digest, Extension, Mask, Message, Subscribe};
use proptest::prelude::*;

use crate::world::*;

fn listen(name: u16) -> SocketAddr {
    addr(name, Port::Listen)
}

/// A source that has streamed for a second.
fn streaming(sent: &mut Vec<u8>) -> World {
    let mut world = World::with_source();
    world.stream(sent, SECOND);
    world
}

fn bytes_of(strays: &[Stray]) -> usize {
    strays.iter().map(|stray| stray.bytes.len()).sum()
}

/// How often each chunk and each munro is in what came.
fn copies(list: &[Message], chunk: u64) -> (usize, usize) {
    let chunk = ChunkIndex::new(chunk);
    let data = list
        .iter()
        .filter(|message| matches!(message, Message::Data(data) if data.range.first() == chunk));
    let munros = list.iter().filter(|message| {
        matches!(message, Message::Extension(Extension::Munro(munro)) if munro.start == chunk)
    });
    (data.count(), munros.count())
}

#[test]
fn s_12_spoofed_handshakes_get_no_more_than_they_sent_and_leave_nothing() {
    for extensions in [true, false] {
        let mut world = streaming(&mut Vec::new());
        let mut bytes_in = 0;
        for number in 0..20_000 {
            let opening = Message::Handshake(Box::new(opening(extensions, number + 1)));
            let bytes = datagram(ChannelId::NONE, &[opening]);
            bytes_in += bytes.len();
            world.deliver(listen(1), elsewhere(number), bytes);
            if number % 100 == 0 {
                world.run(MILLI);
            }
        }
        world.run(20 * SECOND);
        let strays: Vec<Stray> = world.strays.drain(..).collect();
        assert_eq!(strays.len(), 20_000, "each is answered once");
        assert!(bytes_of(&strays) <= bytes_in);
        let node = world.node(1);
        assert_eq!(node.channel_count(), 0);
        assert!(node.half_open_count() <= if extensions { 0 } else { HALF_OPEN_MAX });
    }
}

/// Anything that somebody without a channel may send.
fn strangers_datagram() -> impl Strategy<Value = Vec<u8>> {
    let channel = prop_oneof![3 => Just(0u32), 1 => any::<u32>()];
    let handshake = (any::<bool>(), 1..u32::MAX, any::<u8>(), any::<bool>()).prop_map(
        |(extensions, ours, cut, closing)| {
            let mut handshake = opening(extensions, ours);
            // Options left out make it shorter, down to what is refused.
            if cut & 1 != 0 {
                handshake.minimum_version = None;
            }
            if cut & 2 != 0 {
                handshake.supported = None;
            }
            if cut & 4 != 0 {
                handshake.chunk_size = None;
            }
            if closing {
                handshake = Handshake::closing();
            }
            Message::Handshake(Box::new(handshake))
        },
    );
    let other = prop_oneof![
        Just(Message::PexRequest),
        Just(Message::Choke),
        Just(Message::Request(range(0, u64::MAX))),
        Just(Message::Have(range(0, 1 << 40))),
        Just(Message::Extension(Extension::Describe)),
        Just(Message::Extension(Extension::NeedMunro(ChunkIndex::ZERO))),
        Just(Message::Extension(Extension::Probe {
            nonce: 1,
            mask: Mask::all(1)
        })),
        Just(Message::Extension(Extension::Fetch {
            range: range(0, 1000),
            flags: 0
        })),
    ];
    let list = (
        proptest::option::weighted(0.8, handshake),
        proptest::collection::vec(other, 0..4),
    );
    (channel, list, proptest::option::of(0..200usize)).prop_map(
        |(channel, (handshake, others), length)| {
            let list: Vec<Message> = handshake.into_iter().chain(others).collect();
            let mut bytes = datagram(ChannelId::from_bits(channel), &list);
            if let Some(length) = length {
                bytes.truncate(length);
            }
            bytes
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn s_13_amplification_before_an_address_is_proven_is_at_most_one(
        mail in proptest::collection::vec((0..3u32, strangers_datagram(), 0..300u64), 1..40)
    ) {
        let mut world = World::with_source();
        world.stream(&mut Vec::new(), 100 * MILLI);
        let (mut came, mut went) = ([0; 3], [0; 3]);
        for (from, bytes, wait) in mail {
            came[from as usize] += bytes.len();
            world.deliver(listen(1), elsewhere(from), bytes);
            world.run(Duration::from_millis(wait));
            for stray in world.strays.drain(..) {
                let to = (0..3).find(|to| elsewhere(*to) == stray.to).expect("one of them");
                went[to as usize] += stray.bytes.len();
            }
            for (went, came) in went.iter().zip(came) {
                prop_assert!(*went <= came, "{went} bytes for {came}");
            }
        }
        world.run(20 * SECOND);
        prop_assert!(world.strays.is_empty(), "sent without being asked");
    }
}

#[test]
fn s_14_moved_address_gets_nothing() {
    let mut sent = Vec::new();
    let mut world = streaming(&mut sent);
    let attacker = Stranger::call(&mut world, 1, elsewhere(1), true);
    attacker.subscribe(&mut world, 1, Subscribe::LIVE_EDGE);
    world.stream(&mut sent, 100 * MILLI);
    assert!(!attacker.take(&mut world).is_empty());
    let victim = elsewhere(2);
    for _ in 0..100 {
        let status = attacker.status(0);
        attacker.send_from(
            &mut world,
            victim,
            &[status, Message::Request(range(0, 31))],
        );
        let opening = Message::Handshake(Box::new(opening(true, attacker.ours.to_bits())));
        attacker.send_from(&mut world, victim, &[opening]);
        world.stream(&mut sent, 100 * MILLI);
    }
    assert_eq!(world.take(victim).len(), 0);
    assert!(!attacker.is_known(&world), "silent for ten seconds");
    assert!(world.node(1).stats().misdirected_datagrams >= 200);
}

#[test]
fn s_15_duplicate_requests_are_answered_three_times() {
    let chunk = range(64, 64);
    let requests: [(&str, Message); 4] = [
        ("REQUEST", Message::Request(chunk)),
        (
            "FETCH",
            Message::Extension(Extension::Fetch {
                range: chunk,
                flags: 0,
            }),
        ),
        (
            "FETCH without hashes",
            Message::Extension(Extension::Fetch {
                range: chunk,
                flags: Extension::HOLDS_HASHES,
            }),
        ),
        (
            "NEED_MUNRO",
            Message::Extension(Extension::NeedMunro(chunk.first())),
        ),
    ];
    for extensions in [true, false] {
        for (name, request) in &requests {
            if !extensions && matches!(request, Message::Extension(_)) {
                continue;
            }
            let mut world = streaming(&mut Vec::new());
            let asker = Stranger::call(&mut world, 1, elsewhere(1), extensions);
            asker.take(&mut world);
            for _ in 0..1000 {
                asker.send(&mut world, std::slice::from_ref(request));
            }
            let (data, munros) = copies(&asker.take(&mut world), 64);
            assert!(data <= 3 && munros <= 3, "{name}: {data} {munros}");
            assert!(data + munros > 0, "{name} was not answered at all");
        }
    }
}

#[test]
fn s_15_request_floods_without_acknowledgements_are_bounded() {
    // Every munro there is, over and over, in datagrams full of requests: what may be under way is bounded.
    for extensions in [true, false] {
        let mut sent = Vec::new();
        let mut world = World::with_source();
        world.stream(&mut sent, 10 * SECOND);
        let asker = Stranger::call(&mut world, 1, elsewhere(1), extensions);
        asker.take(&mut world);
        let fetches: Vec<Message> = (0..60u64)
            .map(|number| {
                let range = range(number * 96, number * 96 + 31);
                if extensions {
                    Message::Extension(Extension::Fetch { range, flags: 0 })
                } else {
                    Message::Request(range)
                }
            })
            .collect();
        for _ in 0..100 {
            asker.send(&mut world, &fetches);
        }
        let strays: Vec<Stray> = world.strays.drain(..).collect();
        let bytes = bytes_of(&strays);
        assert!(bytes <= 700_000, "{bytes} bytes under way");
    }
}

#[test]
fn s_16_lying_acks_of_what_was_never_sent_close_the_channel() {
    let mut sent = Vec::new();
    let mut world = streaming(&mut sent);
    let liar = Stranger::call(&mut world, 1, elsewhere(1), true);
    let never = range(1 << 40, 1 << 41);
    for _ in 0..3 {
        let ack = Message::Ack {
            range: never,
            delay_us: 0,
        };
        liar.send(&mut world, &[ack]);
    }
    assert!(!liar.is_known(&world));
    assert_eq!(world.violations(1, liar.addr), (3, true));
}

#[test]
fn s_16_lying_acks_of_everything_do_not_raise_the_rate() {
    let mut sent = Vec::new();
    let mut world = World::with_source();
    world.stream(&mut sent, 10 * SECOND);
    let pushed = |world: &mut World, lies: usize| {
        let child = Stranger::call(world, 1, elsewhere(lies as u32 + 1), true);
        let ack = Message::Ack {
            range: range(0, 4000),
            delay_us: -1_000_000,
        };
        for _ in 0..lies {
            child.send(world, std::slice::from_ref(&ack));
        }
        child.take(world);
        child.subscribe(world, 1, Subscribe::OLDEST);
        child.take(world).len()
    };
    let honest = pushed(&mut world, 0);
    let liar = pushed(&mut world, 1000);
    assert!(
        liar * 10 <= honest * 11,
        "{liar} to the liar, {honest} to others"
    );
}

#[test]
fn s_20_wrong_channel_or_address_meets_silence() {
    let mut sent = Vec::new();
    let mut world = streaming(&mut sent);
    let owner = Stranger::call(&mut world, 1, elsewhere(1), true);
    owner.take(&mut world);
    let probe = Message::Extension(Extension::Probe {
        nonce: 1,
        mask: Mask::all(1),
    });
    // From other addresses on the right channel.
    for number in 2..2000 {
        owner.send_from(&mut world, elsewhere(number), std::slice::from_ref(&probe));
    }
    // From the right address on other channels.
    for number in 1..2000u32 {
        let channel = ChannelId::from_bits(owner.theirs.to_bits() ^ number.wrapping_mul(0x9e37));
        if channel != owner.theirs {
            world.deliver(
                owner.node,
                owner.addr,
                datagram(channel, std::slice::from_ref(&probe)),
            );
        }
    }
    // On the other socket.
    let bytes = datagram(owner.theirs, std::slice::from_ref(&probe));
    world.deliver(addr(1, Port::Dial), owner.addr, bytes);
    assert_eq!(world.strays.len(), 0);
    assert_eq!(world.node(1).channel_count(), 1);
    assert!(owner.is_known(&world));
    owner.send(&mut world, std::slice::from_ref(&probe));
    assert_eq!(owner.take(&mut world).len(), 1, "its owner is answered");
}

#[test]
fn s_21_half_open_channels_are_few_and_do_not_keep_honest_peers_out() {
    let mut sent = Vec::new();
    let mut world = streaming(&mut sent);
    let mut honest = config(Role::Peer, 2, &[listen(1)], 100);
    honest.extensions = false;
    let mut number = 0;
    for round in 0..1000 {
        for _ in 0..100 {
            number += 1;
            let opening = Message::Handshake(Box::new(opening(false, number)));
            world.deliver(
                listen(1),
                elsewhere(number),
                datagram(ChannelId::NONE, &[opening]),
            );
        }
        world.strays.clear();
        assert!(world.node(1).half_open_count() <= HALF_OPEN_MAX);
        if round == 500 {
            world.add(2, honest.clone());
        }
        world.stream(&mut sent, MILLI);
    }
    assert_eq!(world.node(1).channel_count(), 1, "the honest one");
    assert!(
        world
            .played
            .get(&2)
            .is_some_and(|played| played.len() > 200_000)
    );
    // Five seconds without openings, and the next one finds the table empty.
    world.run(6 * SECOND);
    let opening = Message::Handshake(Box::new(opening(false, 7)));
    world.deliver(
        listen(1),
        elsewhere(7),
        datagram(ChannelId::NONE, &[opening]),
    );
    assert_eq!(world.node(1).half_open_count(), 1);
}

#[test]
fn s_22_pending_memory_of_a_parent_without_proofs_is_bounded() {
    let mut world = World::new();
    let stranger = elsewhere(1);
    world.add(2, config(Role::Peer, 2, &[stranger], 100));
    world.run(MILLI);
    let liar = Stranger::become_parent(&mut world, 2, stranger);
    let hash = Digest::from_slice(&[1; 32]).expect("32 bytes");
    for chunk in 0..20_000u64 {
        // One a munro, the worst there is, and then all.
        let chunk = if chunk < 10_000 { chunk * 32 } else { chunk };
        let range = ChunkRange::single(ChunkIndex::new(chunk));
        let data = Message::Data(Data {
            range,
            time_us: 1,
            payload: Bytes::from(vec![1; 1316]),
        });
        liar.send(&mut world, &[Message::Integrity { range, hash }]);
        liar.send(&mut world, &[data]);
        if chunk.is_multiple_of(100) {
            world.run(MILLI);
        }
    }
    let node = world.node(2);
    assert!(node.unproven_chunks() <= 160, "{}", node.unproven_chunks());
    assert_eq!(node.window_bytes(), 0);
    assert!(node.unproven_hashes() <= 1024, "{}", node.unproven_hashes());
}

#[test]
fn s_23_have_bombs_are_a_violation() {
    let mut world = streaming(&mut Vec::new());
    for extensions in [true, false] {
        let bomber = Stranger::call(&mut world, 1, elsewhere(1), extensions);
        for number in 0..300 {
            bomber.send(&mut world, &[Message::Have(range(number * 4, number * 4))]);
        }
        assert!(!bomber.is_known(&world));
    }
    assert_eq!(world.violations(1, elsewhere(1)), (6, true));
    // Ranges that touch are one.
    let honest = Stranger::call(&mut world, 1, elsewhere(2), true);
    for number in 0..3000 {
        honest.send(&mut world, &[Message::Have(range(number, number))]);
    }
    assert_eq!(world.violations(1, honest.addr), (0, false));
}

#[test]
fn s_24_unknown_messages_end_their_datagram_and_nothing_else() {
    let mut sent = Vec::new();
    let mut world = streaming(&mut sent);
    let child = Stranger::call(&mut world, 1, elsewhere(1), true);
    child.subscribe(&mut world, 1, Subscribe::LIVE_EDGE);
    for _ in 0..100 {
        let mut bytes = child.theirs.to_bits().to_be_bytes().to_vec();
        bytes.push(0x3f);
        Message::Extension(Extension::Unsubscribe {
            mask: Mask::all(1),
            reason: 0,
        })
        .encode(&p2ps::wire::Format::LIVE, &mut bytes);
        world.deliver(child.node, child.addr, bytes);
    }
    let stats = world.node(1).stats();
    assert_eq!((stats.malformed_datagrams, stats.violations), (100, 0));
    let text = stats.last_decode_error.as_ref().map(ToString::to_string);
    assert_eq!(text.as_deref(), Some("unknown message type 0x3f at byte 4"));
    assert_eq!(
        world.node(1).child_count(),
        1,
        "what was behind it was not read"
    );
    child.take(&mut world);
    world.stream(&mut sent, 100 * MILLI);
    assert!(!child.take(&mut world).is_empty());
}

/// Chunks that a node looked up for one datagram.
fn looked_up(world: &mut World, node: u16, sender: &Stranger, list: &[Message]) -> u64 {
    let before = world.node(node).stats().looked_up_chunks;
    sender.send(world, list);
    world.node(node).stats().looked_up_chunks - before
}

#[test]
fn s_26_endless_work_is_cut_short() {
    let mut sent = Vec::new();
    let mut world = World::with_source();
    world.stream(&mut sent, 10 * SECOND);
    world.add(2, config(Role::Peer, 2, &[listen(1)], 100));
    world.run(SECOND);
    let everything = range(0, (1 << 62) - 1);
    let huge: Vec<Message> = vec![
        Message::Request(everything),
        Message::Extension(Extension::Fetch {
            range: everything,
            flags: 0,
        }),
        Message::Have(everything),
        Message::Ack {
            range: range(0, (1 << 62) - 1),
            delay_us: i64::MIN,
        },
        Message::Cancel(everything),
        Message::Extension(Extension::NeedMunro(ChunkIndex::new(u64::MAX))),
        Message::Extension(Extension::Describe),
    ];
    let mut most = 0;
    for extensions in [true, false] {
        for message in &huge {
            let list = vec![message.clone(); 256];
            for round in 0..40 {
                let worker = Stranger::call(&mut world, 1, elsewhere(1), extensions);
                world.strays.clear();
                for _ in 0..10 {
                    most = most.max(looked_up(&mut world, 1, &worker, &list));
                }
                let out = world.strays.len();
                assert!(
                    out <= 10 * 1024,
                    "{out} datagrams for {message:?}, round {round}"
                );
                world.strays.clear();
            }
        }
    }
    for length in 0..4 {
        for _ in 0..10_000 {
            world.deliver(listen(1), elsewhere(1), vec![0; length]);
        }
    }
    // What is named is looked for, but 256 times all that is held is not.
    assert!((1..=4096).contains(&most), "{most} chunks for a datagram");
    world.run(100 * MILLI);
    world.stream(&mut sent, SECOND);
    world.end();
    assert!(sent.ends_with(&world.played[&2]), "the stream went on");
}

#[test]
fn s_26_endless_announcements_of_a_plain_parent_are_cut_short() {
    let mut world = World::new();
    let stranger = elsewhere(1);
    world.add(2, config(Role::Peer, 2, &[stranger], 100));
    world.run(MILLI);
    let liar = Stranger::answer(&mut world, 2, stranger, false);
    let mut most = 0;
    for _ in 0..100 {
        let list = vec![Message::Have(range(0, (1 << 62) - 1)); 256];
        most = most.max(looked_up(&mut world, 2, &liar, &list));
        world.run(MILLI);
    }
    let out = world.strays.len();
    assert!(out < 20_000, "{out} datagrams");
    assert!((1..=4096).contains(&most), "{most} chunks for a datagram");
}

#[test]
fn s_48_slow_reader_is_given_nothing_while_it_is_full() {
    let mut world = World::with_source();
    world.add(2, config(Role::Peer, 2, &[listen(1)], 100));
    world.run(SECOND);
    let mut sent = Vec::new();
    world.stream(&mut sent, SECOND);
    let given = world.played[&2].len();
    let pause = |world: &mut World, paused| {
        let player = world.nodes.get_mut(&2).expect("the player");
        player.pause_playout(0, paused);
    };
    pause(&mut world, true);
    world.stream(&mut sent, 3 * SECOND);
    assert_eq!(world.played[&2].len(), given);
    pause(&mut world, false);
    world.stream(&mut sent, SECOND);
    world.end();
    world.assert_played_to_the_end(2, &sent);
}
