//! Who gets a channel: handshakes that are refused, and channel identifiers as cookies.

use p2ps::ids::ChannelId;
use p2ps::node::{Port, Role};
use p2ps::wire::option::{ChunkSize, Handshake};
use p2ps::wire::{Extension, Hello, Message};

use crate::world::*;

fn answer_to(world: &mut World, from: u32, ours: u32) -> ChannelId {
    let opening = Message::Handshake(Box::new(opening(true, ours)));
    let node = addr(1, Port::Listen);
    world.deliver(node, elsewhere(from), datagram(ChannelId::NONE, &[opening]));
    let answers = world.take(elsewhere(from));
    match messages(answers.first().expect("an answer")).1.first() {
        Some(Message::Handshake(reply)) => reply.source,
        other => panic!("{other:?}"),
    }
}

/// Datagram 3.
fn come_back(world: &mut World, from: u32, ours: u32, cookie: ChannelId) -> bool {
    let list = [
        Message::Handshake(Box::new(opening(true, ours))),
        Message::Extension(Extension::Hello(Hello::default())),
    ];
    world.strays.clear();
    let before = world.node(1).channel_count();
    let node = addr(1, Port::Listen);
    world.deliver(node, elsewhere(from), datagram(cookie, &list));
    let opened = world.node(1).channel_count() > before;
    assert!(
        opened || world.strays.is_empty(),
        "silence to whoever is refused"
    );
    opened
}

#[test]
fn cookies_open_for_whom_they_were_made_and_in_time() {
    let mut world = World::with_source();
    let cookie = answer_to(&mut world, 1, 77);
    assert!(!come_back(&mut world, 2, 77, cookie), "other address");
    assert!(
        !come_back(&mut world, 1, 78, cookie),
        "other source channel"
    );
    let mut other_world = World::new();
    other_world.nodes.insert(
        1,
        p2ps::node::Node::new(
            other_world.now,
            config(Role::Source, 1, &[], 0),
            p2ps::rng::Seed::from_number(99),
        )
        .expect("a key that works"),
    );
    let foreign = answer_to(&mut other_world, 1, 77);
    assert_ne!(foreign, cookie);
    assert!(
        !come_back(&mut world, 1, 77, foreign),
        "right length, wrong key"
    );
    for length in 1..=64u8 {
        let bytes: Vec<u8> = (0..length)
            .map(|at| at.wrapping_mul(167) ^ length)
            .collect();
        world.deliver(addr(1, Port::Listen), elsewhere(1), bytes);
    }
    assert_eq!(world.node(1).channel_count(), 0, "bytes at random");
    world.run(14 * SECOND);
    assert!(come_back(&mut world, 1, 77, cookie), "its own, in time");

    let late = answer_to(&mut world, 3, 77);
    world.run(31 * SECOND);
    assert!(!come_back(&mut world, 3, 77, late), "expired");
    let fresh = answer_to(&mut world, 3, 77);
    assert!(come_back(&mut world, 3, 77, fresh));
}

#[test]
fn row_37_bad_handshakes_meet_silence_and_leave_nothing() {
    type Spoil = fn(&mut Handshake);
    let refused: [(&str, Spoil); 8] = [
        ("other swarm", |handshake| {
            handshake.swarm_id = Some(other_key().swarm_id());
        }),
        ("no swarm", |handshake| handshake.swarm_id = None),
        ("version 9", |handshake| {
            handshake.version = Some(9);
            handshake.minimum_version = Some(9);
        }),
        ("version 0", |handshake| {
            handshake.version = Some(0);
            handshake.minimum_version = Some(0);
        }),
        ("no version", |handshake| {
            handshake.version = None;
            handshake.minimum_version = None;
        }),
        ("chunk size 1024", |handshake| {
            handshake.chunk_size = Some(ChunkSize::Fixed(1024));
        }),
        ("no source channel", |handshake| {
            handshake.source = ChannelId::NONE;
        }),
        ("no window", |handshake| handshake.discard_window = None),
    ];
    for extensions in [true, false] {
        let mut world = World::with_source();
        for (name, spoil) in &refused {
            let mut handshake = opening(extensions, 77);
            spoil(&mut handshake);
            let bytes = datagram(ChannelId::NONE, &[Message::Handshake(Box::new(handshake))]);
            world.deliver(addr(1, Port::Listen), elsewhere(1), bytes);
            assert!(world.strays.is_empty(), "{name}");
            let node = world.node(1);
            assert_eq!(
                (node.channel_count(), node.half_open_count()),
                (0, 0),
                "{name}"
            );
        }
        // Chunk size 0 is no option value at all: written over the four bytes before the end.
        let whole = Message::Handshake(Box::new(opening(extensions, 77)));
        let mut bytes = datagram(ChannelId::NONE, &[whole]);
        let end = bytes.len() - 1;
        bytes[end - 4..end].fill(0);
        world.deliver(addr(1, Port::Listen), elsewhere(1), bytes);
        assert!(world.strays.is_empty(), "chunk size 0");
        assert_eq!(world.node(1).half_open_count(), 0);
        world.run(20 * SECOND);
        assert!(world.strays.is_empty());
    }
    let mut world = World::with_source();
    let mut handshake = opening(true, 77);
    handshake.version = Some(9);
    handshake.minimum_version = Some(9);
    let bytes = datagram(ChannelId::NONE, &[Message::Handshake(Box::new(handshake))]);
    world.deliver(addr(1, Port::Listen), elsewhere(1), bytes);
    let refusal = world.node(1).stats().last_refusal.expect("told why");
    assert_eq!(
        format!("handshake refused: {refusal}"),
        "handshake refused: unsupported version 9"
    );
}

#[test]
fn row_37_self_connection_is_not_answered() {
    for extensions in [true, false] {
        let mut world = World::new();
        let mut peer = config(Role::Peer, 1, &[addr(1, Port::Listen)], 0);
        peer.extensions = extensions;
        world.add(1, peer);
        world.run(30 * SECOND);
        let node = world.node(1);
        assert_eq!(node.stats().answered_handshakes, 0);
        assert_eq!(node.half_open_count(), 0);
        assert!(node.channel_count() <= 1, "its own call, unanswered");
    }
}

#[test]
fn nobody_comes_in_on_the_socket_that_we_call_from() {
    // A node's parent knows that socket, and has a channel there already.
    let mut world = World::new();
    let parent = elsewhere(1);
    world.add(2, config(Role::Peer, 2, &[parent], 100));
    world.run(MILLI);
    let called = Stranger::answer(&mut world, 2, parent, true);
    for extensions in [true, false] {
        for from in [parent, elsewhere(2)] {
            called.take(&mut world);
            let first = Message::Handshake(Box::new(opening(extensions, 77)));
            let bytes = datagram(ChannelId::NONE, std::slice::from_ref(&first));
            world.deliver(addr(2, Port::Dial), from, bytes.clone());
            assert!(world.strays.is_empty(), "an answer to {from}");
            // What was asked for on one socket is of no use on the other.
            world.deliver(addr(2, Port::Listen), from, bytes);
            let answers = world.take(from);
            let (_, list) = messages(answers.first().expect("an answer"));
            let Some(Message::Handshake(reply)) = list.first() else {
                panic!("{list:?}");
            };
            let third = datagram(reply.source, &[first]);
            world.deliver(addr(2, Port::Dial), from, third.clone());
            assert_eq!(world.node(2).channel_count(), 1, "{from}");
            world.deliver(addr(2, Port::Listen), from, third);
            assert_eq!(world.node(2).channel_count(), 2, "{from}");
            let goodbye = Message::Handshake(Box::new(Handshake::closing()));
            let goodbye = datagram(reply.source, &[goodbye]);
            world.deliver(addr(2, Port::Listen), from, goodbye);
            world.strays.clear();
            assert_eq!(world.node(2).channel_count(), 1, "{from}");
        }
    }
}
