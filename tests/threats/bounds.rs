//! How much of us a remote can drive: whom it makes us call, what it makes us say, what it makes us wait for.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use p2ps::ids::PeerId;
use p2ps::node::{Port, Role, StartFrom};
use p2ps::wire::option::Handshake;
use p2ps::wire::{
    ChannelDescription, Extension, Mask, Message, ProbeReply, Subscribe, SubscribeReply,
};

use crate::world::*;

const INTEGRITY: u8 = 4;

fn listen(name: u16) -> SocketAddr {
    addr(name, Port::Listen)
}

/// What keeps a channel alive, and an answer to each PROBE.
fn keep_alive(world: &mut World, remote: &Stranger, head: u64) -> Vec<Message> {
    let came = remote.take(world);
    for message in &came {
        if let Message::Extension(Extension::Probe { nonce, .. }) = message {
            let reply = ProbeReply {
                nonce: *nonce,
                ready: Mask::all(1),
                ..ProbeReply::default()
            };
            remote.send(world, &[Message::Extension(Extension::ProbeReply(reply))]);
        }
    }
    let status = remote.status(head);
    remote.send(world, &[status]);
    came
}

#[test]
fn s_19_s_29_alternatives_of_a_liar_pester_nobody() {
    let mut world = World::new();
    let stranger = elsewhere(1);
    world.add(2, config(Role::Peer, 2, &[stranger], 100));
    world.run(MILLI);
    let liar = Stranger::answer(&mut world, 2, stranger, true);
    let mut got: BTreeMap<SocketAddr, usize> = BTreeMap::new();
    let (mut named, mut refusals) = (100, 0);
    for _ in 0..150 * 4 {
        for message in keep_alive(&mut world, &liar, 0) {
            let Message::Extension(Extension::Subscribe(subscribe)) = message else {
                continue;
            };
            // As many victims as there is room for, always others, and one that is named again and again.
            let alternatives = (0..60).map(|_| {
                named += 1;
                (PeerId::default(), elsewhere(named))
            });
            let refusal = SubscribeReply {
                id: subscribe.id,
                accepted: Mask::none(1),
                reason: SubscribeReply::FULL,
                alternatives: std::iter::once((PeerId::default(), elsewhere(99)))
                    .chain(alternatives)
                    .collect(),
                ..SubscribeReply::default()
            };
            refusals += 1;
            liar.send(
                &mut world,
                &[Message::Extension(Extension::SubscribeReply(refusal))],
            );
        }
        world.run(250 * MILLI);
        let own = liar.addr;
        for stray in world.strays.iter().filter(|stray| stray.to != own) {
            *got.entry(stray.to).or_default() += 1;
        }
        world.strays.retain(|stray| stray.to == own);
    }
    assert!(refusals > 50, "{refusals} refusals");
    assert!(got.contains_key(&elsewhere(99)), "hearsay is followed");
    assert!(got.len() <= 6 * 3, "{} victims in 150 seconds", got.len());
    assert!(got.values().all(|count| *count <= 3), "{got:?}");
}

#[test]
fn s_29_who_is_off_the_list_is_not_called_on_and_on() {
    let mut world = World::new();
    let stranger = elsewhere(1);
    world.add(2, config(Role::Peer, 2, &[stranger], 100));
    world.run(MILLI);
    let liar = Stranger::answer(&mut world, 2, stranger, true);
    let asked = liar.take(&mut world).into_iter();
    let id = asked
        .filter_map(|message| match message {
            Message::Extension(Extension::Subscribe(subscribe)) => Some(subscribe.id),
            _ => None,
        })
        .next();
    let refusal = SubscribeReply {
        id: id.expect("a subscription"),
        accepted: Mask::none(1),
        reason: SubscribeReply::FULL,
        alternatives: vec![(PeerId::default(), elsewhere(99))],
        ..SubscribeReply::default()
    };
    let refusal = Message::Extension(Extension::SubscribeReply(refusal));
    liar.send(&mut world, &[refusal]);
    // A tracker that knows nobody.
    let now = world.now;
    let node = world.nodes.get_mut(&2).expect("a node");
    node.set_candidates(now, 0, &[]);
    world.run(10 * SECOND);
    let calls = world.take(elsewhere(99));
    assert!((1..=3).contains(&calls.len()), "{} calls", calls.len());
}

#[test]
fn s_15_naming_thousands_of_chunks_gives_no_more_copies() {
    for extensions in [true, false] {
        let mut sent = Vec::new();
        let mut world = World::with_source();
        world.stream(&mut sent, 10 * SECOND);
        let asker = Stranger::call(&mut world, 1, elsewhere(1), extensions);
        asker.take(&mut world);
        let (mut copies, mut others) = (0, 0);
        for _ in 0..8 {
            for _ in 0..10 {
                asker.send(&mut world, &[Message::Request(range(0, 0))]);
            }
            for munro in 1..480u64 {
                let range = range(munro * 32, munro * 32 + 31);
                asker.send(&mut world, &[Message::Request(range)]);
                // Acknowledged, or nothing more would come.
                let ack = Message::Ack { range, delay_us: 0 };
                asker.send(&mut world, &[ack]);
            }
            for message in asker.take(&mut world) {
                if let Message::Data(data) = message {
                    copies += usize::from(data.range.first().get() == 0);
                    others += usize::from(data.range.first().get() != 0);
                }
            }
        }
        assert_eq!(copies, 3, "extensions: {extensions}");
        assert!(others > 2 * 4096, "{others} other chunks");
    }
}

#[test]
fn questions_are_answered_at_a_pace() {
    let mut world = World::new();
    let mut source = config(Role::Source, 1, &[], 0);
    // A long one.
    let description = ChannelDescription {
        name: "film".to_owned(),
        title: String::new(),
        swarm_id: key().swarm_id(),
        chunk_bytes_max: 1316,
        munro_width: 32,
        substreams: 1,
        data_substreams: 1,
        run_length: 1,
        signature: Bytes::from(vec![7; 1000]),
    };
    source.swarms[0].description = description.encode();
    world.add(1, source);
    world.stream(&mut Vec::new(), 100 * MILLI);
    let asker = Stranger::call(&mut world, 1, elsewhere(1), true);
    asker.take(&mut world);
    let mut ask = |question: Extension| {
        for _ in 0..1000 {
            asker.send(&mut world, &[Message::Extension(question.clone())]);
        }
        let first = asker.take(&mut world).len();
        world.run(SECOND);
        asker.take(&mut world);
        for _ in 0..1000 {
            asker.send(&mut world, &[Message::Extension(question.clone())]);
        }
        (first, asker.take(&mut world).len())
    };
    let probe = Extension::Probe {
        nonce: 1,
        mask: Mask::all(1),
    };
    assert_eq!(ask(probe), (20, 20));
    assert_eq!(ask(Extension::Describe), (3, 1));
}

#[test]
fn s_02_one_flipped_hash_is_one_strike_and_costs_nothing() {
    // A plain peer below a relay: hashes come one by one. One bit of one of them is flipped on the way, of those that
    // prove most chunks: the last of a datagram.
    for flipped in 0..6 {
        let mut world = World::with_source();
        world.add(2, config(Role::Relay, 2, &[listen(1)], 0));
        let mut peer = config(Role::Peer, 3, &[listen(2)], 1500);
        peer.extensions = false;
        world.add(3, peer);
        let seen = Rc::new(RefCell::new(0));
        let count = Rc::clone(&seen);
        world.tamper = Box::new(move |from, to, bytes| {
            // Uncles, not a munro and its signature.
            let uncles = bytes[4..]
                .chunks(49)
                .take_while(|message| message[0] == INTEGRITY)
                .count();
            if from == listen(2) && to == addr(3, Port::Dial) && uncles > 1 {
                let mut count = count.borrow_mut();
                *count += 1;
                if *count == 100 + flipped {
                    bytes[49 * uncles] ^= 1;
                }
            }
            true
        });
        world.run(SECOND);
        let mut sent = Vec::new();
        world.stream(&mut sent, 4 * SECOND);
        world.run(2 * SECOND);
        assert!(*seen.borrow() > 110);
        let (strikes, banned) = world.violations(3, listen(2));
        assert!(strikes <= 1 && !banned, "hash {flipped}: {strikes} strikes");
        let counters = world.node(3).counters(world.now, 0);
        assert_eq!(counters.due_packets, counters.played_packets, "{flipped}");
        let played = &world.played[&3];
        let found = sent.windows(played.len()).any(|part| part == played);
        assert!(
            found && played.len() + 100_000 > sent.len(),
            "{}",
            played.len()
        );
    }
}

#[test]
fn false_announcements_of_a_plain_parent_leave_room_for_real_holes() {
    let mut world = World::with_source();
    let stranger = elsewhere(1);
    let mut peer = config(Role::Peer, 2, &[stranger, listen(1)], 500);
    peer.swarms[0].from = StartFrom::Oldest;
    world.add(2, peer);
    world.run(MILLI);
    let liar = Stranger::answer(&mut world, 2, stranger, false);
    // Each is asked for from its newest munro on: 600 times 17 chunks.
    for number in 0..600u64 {
        let first = (1 << 40) + number * 10_000;
        liar.send(&mut world, &[Message::Have(range(first, first + 5000))]);
    }
    assert!(world.node(2).stats().looked_up_chunks > 10_000);
    let bye = Message::Handshake(Box::new(Handshake::closing()));
    liar.send(&mut world, &[bye]);
    // Every seventh datagram of the honest one is lost.
    let mut count = 0;
    world.tamper = Box::new(move |from, to, _| {
        let media = from == listen(1) && to == addr(2, Port::Dial);
        count += u32::from(media);
        !media || count % 7 != 0
    });
    let mut sent = Vec::new();
    world.run(SECOND);
    world.stream(&mut sent, 4 * SECOND);
    world.end();
    assert_eq!(world.played[&2].len(), sent.len());
}

#[test]
fn a_player_that_skips_nothing_does_not_wait_for_a_lie() {
    let mut world = World::new();
    let (parent, liar) = (elsewhere(1), elsewhere(2));
    let mut peer = config(Role::Peer, 2, &[parent, liar], 0);
    if let Some(playout) = &mut peer.swarms[0].playout {
        playout.skip = false;
    }
    world.add(2, peer);
    world.run(MILLI);
    let parent = Stranger::become_parent(&mut world, 2, parent);
    let liar = Stranger::answer(&mut world, 2, liar, true);
    // The source jumped from munro 5 to 10; the liar says that it has those between.
    let before = sign(&key(), 5, ntp(world.now), 1);
    let behind = sign(&key(), 10, ntp(world.now + 20 * MILLI), 2);
    liar.send(&mut world, &[Message::Have(range(0, 400))]);
    before.push(&mut world, &parent);
    behind.push(&mut world, &parent);
    let mut waited = Duration::ZERO;
    while world.played[&2].len() == before.chunks.concat().len() && waited < 40 * SECOND {
        liar.send(&mut world, &[Message::Have(range(0, 400))]);
        keep_alive(&mut world, &parent, 351);
        keep_alive(&mut world, &liar, 351);
        world.run(10 * MILLI);
        waited += 10 * MILLI;
    }
    assert!(liar.is_known(&world) && parent.is_known(&world));
    assert!(waited > SECOND, "it was asked for what it announced");
    assert!(waited < 10 * SECOND, "{waited:?}");
    let all = [before.chunks.concat(), behind.chunks.concat()].concat();
    assert!(world.played[&2] == all);
}

#[test]
fn f32_a_path_that_swallows_long_datagrams_is_noticed() {
    for (most, expected) in [(1200, true), (1500, false)] {
        let mut world = World::with_source();
        world.add(2, config(Role::Peer, 2, &[listen(1)], 100));
        world.tamper = Box::new(move |_, _, bytes| bytes.len() <= most);
        let mut sent = Vec::new();
        world.stream(&mut sent, Duration::from_millis(1500));
        let swallows = |world: &World| world.node(2).swallows_long_datagrams(world.now, 0);
        assert_eq!(swallows(&world), None, "too early to tell");
        world.stream(&mut sent, 2 * SECOND);
        assert_eq!(swallows(&world), expected.then_some(listen(1)));
    }
    // Chunks that are short anyway get through, and the rest of a stream that pauses is no reason either.
    let mut world = World::new();
    let mut source = config(Role::Source, 1, &[], 0);
    if let Some(source) = &mut source.swarms[0].source {
        source.chunk_packets = 5;
    }
    world.add(1, source);
    world.add(2, config(Role::Peer, 2, &[listen(1)], 100));
    world.tamper = Box::new(|_, _, bytes| bytes.len() <= 1200);
    let mut sent = Vec::new();
    world.stream(&mut sent, 4 * SECOND);
    let swallowed = world.node(2).swallows_long_datagrams(world.now, 0);
    assert_eq!(swallowed, None);
}

#[test]
fn a_parent_that_lies_about_its_start_costs_a_wait_at_most() {
    // From far in the past, far ahead, or a little too early.
    for start in [0, u64::MAX - 1, 40 * 32 + 7] {
        let mut world = World::new();
        let stranger = elsewhere(1);
        let mut peer = config(Role::Peer, 2, &[stranger], 100);
        peer.swarms[0].from = StartFrom::Oldest;
        world.add(2, peer);
        world.run(MILLI);
        let liar = Stranger::answer(&mut world, 2, stranger, true);
        let id = liar
            .take(&mut world)
            .into_iter()
            .find_map(|message| match message {
                Message::Extension(Extension::Subscribe(subscribe)) => {
                    assert_eq!(subscribe.from_mode, Subscribe::OLDEST);
                    Some(subscribe.id)
                }
                _ => None,
            });
        let reply = SubscribeReply {
            id: id.expect("a subscription"),
            accepted: Mask::all(1),
            start: Some(p2ps::chunk::ChunkIndex::new(start)),
            ..SubscribeReply::default()
        };
        liar.send(
            &mut world,
            &[Message::Extension(Extension::SubscribeReply(reply))],
        );
        let signed = sign(&key(), 1000 * u64::from(start < 40) + 45, ntp(world.now), 1);
        signed.push(&mut world, &liar);
        world.run(SECOND);
        assert!(
            world
                .played
                .get(&2)
                .is_some_and(|played| *played == signed.chunks.concat()),
            "start {start}"
        );
    }
}
