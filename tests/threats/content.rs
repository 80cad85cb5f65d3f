//! Liars about content: S-01 to S-11.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use p2ps::chunk::{ChunkIndex, ChunkRange};
use p2ps::ids::ChannelId;
use p2ps::node::{Event, Port, Role};
use p2ps::time::Epoch;
use p2ps::wire::{Data, Digest, Extension, Mask, Message, ProbeReply, Subscribe};

use crate::world::*;

/// The type of the first message.
const DATA: u8 = 1;
const INTEGRITY: u8 = 4;
const EXTENSION: u8 = 0xf0;
const MUNRO: u8 = 81;

fn listen(name: u16) -> SocketAddr {
    addr(name, Port::Listen)
}

/// Source 1, relays 2 and 3, peer 4 below both: 2 is the liar, and the parent that 4 prefers.
fn liar_and_honest(tamper: impl Fn(&mut Vec<u8>) + 'static, extensions: bool) -> World {
    let mut world = World::with_source();
    for relay in [2, 3] {
        world.add(relay, config(Role::Relay, relay, &[listen(1)], 0));
    }
    let mut peer = config(Role::Peer, 4, &[listen(2), listen(3)], 1500);
    peer.extensions = extensions;
    world.add(4, peer);
    world.tamper = Box::new(move |from, to, bytes| {
        if from == listen(2) && to == addr(4, Port::Dial) {
            tamper(bytes);
        }
        true
    });
    world
}

#[test]
fn s_01_polluters_reach_no_player_and_the_stream_goes_on() {
    // From its first chunk on, and in the middle of the stream.
    for honest_span in [0, 2000] {
        let honest = Rc::new(RefCell::new(true));
        let is_honest = Rc::clone(&honest);
        let mut world = liar_and_honest(
            move |bytes| {
                if !*is_honest.borrow()
                    && bytes.get(4) == Some(&DATA)
                    && let Some(last) = bytes.last_mut()
                {
                    *last ^= 1;
                }
            },
            true,
        );
        world.run(SECOND);
        let mut sent = Vec::new();
        world.stream(&mut sent, Duration::from_millis(honest_span));
        *honest.borrow_mut() = false;
        world.stream(&mut sent, 8 * SECOND);
        world.end();
        world.assert_played_to_the_end(4, &sent);
        assert_eq!(
            world.violations(4, listen(2)),
            (3, true),
            "three strikes, once"
        );
        assert_eq!(world.violations(4, listen(3)), (0, false));
        let liar = listen(2).to_string();
        let neighbours = world.node(4).neighbours(world.now, 0);
        assert!(
            neighbours.iter().all(|neighbour| neighbour.address != liar),
            "a liar is not called again within the minute"
        );
        let counters = world.node(4).counters(world.now, 0);
        assert_eq!(counters.stalls, 0);
        assert_eq!(counters.due_packets, counters.played_packets);
    }
}

#[test]
fn s_01_polluters_below_us_cost_us_nothing() {
    let mut world = World::with_source();
    world.add(2, config(Role::Peer, 2, &[listen(1)], 0));
    world.run(SECOND);
    let liar = Stranger::call(&mut world, 2, elsewhere(1), true);
    liar.subscribe(&mut world, 1, Subscribe::LIVE_EDGE);
    let mut sent = Vec::new();
    world.stream(&mut sent, SECOND);
    let forged = sign(&other_key(), 1000, ntp(world.now), 9);
    for _ in 0..20 {
        forged.push(&mut world, &liar);
    }
    world.stream(&mut sent, SECOND);
    world.end();
    world.assert_played_to_the_end(2, &sent);
}

#[test]
fn s_02_framing_by_bad_munros_costs_the_liar_alone() {
    let mut world = liar_and_honest(
        |bytes| {
            // The signature, behind which nothing can be proven.
            if bytes.get(4) == Some(&EXTENSION) && bytes.get(7) == Some(&MUNRO) {
                bytes[30] ^= 1;
            }
            if bytes.get(4) == Some(&3)
                && bytes.get(21) == Some(&EXTENSION)
                && bytes.get(24) == Some(&MUNRO)
            {
                bytes[50] ^= 1;
            }
        },
        true,
    );
    world.run(SECOND);
    let mut sent = Vec::new();
    world.stream(&mut sent, 5 * SECOND);
    world.end();
    world.assert_played_to_the_end(4, &sent);
    assert_eq!(world.violations(4, listen(3)), (0, false));
    assert_eq!(world.violations(4, listen(2)), (3, true));
}

#[test]
fn s_02_framing_by_bad_uncle_hashes_costs_the_liar_alone() {
    // The peer is a plain one: hashes come one by one, before the chunks they prove.
    let mut world = liar_and_honest(
        |bytes| {
            if bytes.get(4) == Some(&INTEGRITY)
                && let Some(last) = bytes.last_mut()
            {
                *last ^= 1;
            }
        },
        false,
    );
    world.run(SECOND);
    let mut sent = Vec::new();
    world.stream(&mut sent, 5 * SECOND);
    world.end();
    assert_eq!(world.violations(4, listen(3)), (0, false));
    assert!(
        world.violations(4, listen(2)).1,
        "{:?}",
        world.events.get(&4)
    );
    let played = world.played.get(&4).map_or(&[][..], Vec::as_slice);
    assert!(played.len() > 1_000_000, "{} bytes", played.len());
}

#[test]
fn s_03_spoofed_data_with_a_guessed_channel_is_no_strike() {
    let mut world = World::with_source();
    world.add(2, config(Role::Peer, 2, &[listen(1)], 100));
    world.run(SECOND);
    let mut sent = Vec::new();
    world.stream(&mut sent, SECOND);
    for guess in 0..10_000u32 {
        let channel = ChannelId::from_bits(guess.wrapping_mul(0x9e37_79b9));
        let data = Message::Data(Data {
            range: range(u64::from(guess), u64::from(guess)),
            time_us: 1,
            payload: Bytes::from_static(b"poison"),
        });
        let bytes = datagram(channel, &[data]);
        world.deliver(addr(2, Port::Dial), listen(1), bytes);
    }
    assert_eq!(world.violations(2, listen(1)), (0, false));
    assert_eq!(world.node(2).stats().violations, 0);
    assert!(world.node(2).stats().misdirected_datagrams >= 9_999);
    world.stream(&mut sent, SECOND);
    world.end();
    world.assert_played_to_the_end(2, &sent);
}

/// A peer 2 whose first parent is a stranger, the second one source 1.
fn below_a_stranger() -> (World, Stranger) {
    let mut world = World::with_source();
    let stranger = elsewhere(1);
    world.add(2, config(Role::Peer, 2, &[stranger, listen(1)], 1500));
    world.run(MILLI);
    let liar = Stranger::become_parent(&mut world, 2, stranger);
    (world, liar)
}

#[test]
fn s_05_forged_munros_of_a_parent_cost_three_verifications() {
    let (mut world, liar) = below_a_stranger();
    let mut sent = Vec::new();
    world.stream(&mut sent, 100 * MILLI);
    let before = world.node(2).counters(world.now, 0).verified_munros;
    for number in 0..1000 {
        let forged = sign(&other_key(), number, ntp(world.now), 1);
        liar.send(&mut world, &[forged.munro()]);
    }
    let after = world.node(2).counters(world.now, 0).verified_munros;
    assert!(
        after - before <= 3 + 1,
        "{} signatures looked at",
        after - before
    );
    assert_eq!(world.violations(2, liar.addr), (3, true));
    world.stream(&mut sent, 5 * SECOND);
    world.end();
    world.assert_played_to_the_end(2, &sent);
}

#[test]
fn s_05_forged_munros_of_others_are_not_looked_at() {
    let mut world = World::with_source();
    world.add(2, config(Role::Peer, 2, &[listen(1)], 100));
    world.run(SECOND);
    let liar = Stranger::call(&mut world, 2, elsewhere(1), true);
    let plain = Stranger::call(&mut world, 2, elsewhere(2), false);
    let mut sent = Vec::new();
    world.stream(&mut sent, SECOND);
    let before = world.node(2).counters(world.now, 0).verified_munros;
    for number in 1000..1100 {
        let forged = sign(&other_key(), number, ntp(world.now), 1);
        liar.send(&mut world, &[forged.munro()]);
        plain.send(&mut world, &signed_integrity(&forged));
    }
    let counters = world.node(2).counters(world.now, 0);
    assert_eq!(counters.verified_munros, before);
    world.stream(&mut sent, SECOND);
    world.end();
    world.assert_played_to_the_end(2, &sent);
}

/// A munro as plain peers show it.
fn signed_integrity(signed: &Signed) -> [Message; 2] {
    [
        Message::Integrity {
            range: signed.range,
            hash: signed.root,
        },
        Message::SignedIntegrity {
            range: signed.range,
            time: signed.munro.time,
            signature: signed.munro.signature.clone(),
        },
    ]
}

#[test]
fn s_07_replay_of_what_was_streamed_is_not_accepted() {
    let mut world = World::with_source();
    let mut peer = config(Role::Peer, 2, &[listen(1)], 100);
    peer.swarms[0].window = 2 * SECOND;
    world.add(2, peer);
    let tape = Rc::new(RefCell::new(Vec::new()));
    let recorder = Rc::clone(&tape);
    world.tamper = Box::new(move |from, to, bytes| {
        if from == listen(1) && to == addr(2, Port::Dial) && recorder.borrow().len() < 2000 {
            recorder.borrow_mut().push(bytes.clone());
        }
        true
    });
    world.run(SECOND);
    let mut sent = Vec::new();
    world.stream(&mut sent, 4 * SECOND);
    let before = world.node(2).counters(world.now, 0);
    let tape = std::mem::take(&mut *tape.borrow_mut());
    assert_eq!(tape.len(), 2000);
    for bytes in tape {
        // Worst case: on the right channel, from the right address.
        world.deliver(addr(2, Port::Dial), listen(1), bytes);
    }
    let after = world.node(2).counters(world.now, 0);
    assert_eq!(
        (after.verified_packets, after.verified_munros),
        (before.verified_packets, before.verified_munros),
    );
    assert_eq!(world.violations(2, listen(1)), (0, false));
    world.stream(&mut sent, SECOND);
    world.end();
    world.assert_played_to_the_end(2, &sent);
}

#[test]
fn s_07_replay_of_other_swarms_other_places_and_other_times_fails() {
    let genuine = |world: &World| sign(&key(), 10, ntp(world.now), 1);
    type Forge = fn(&mut Signed);
    let forgeries: [(&str, Forge); 4] = [
        ("other place", |signed| {
            signed.munro.start = ChunkIndex::new(11 * 32);
        }),
        ("other time", |signed| {
            signed.munro.time = ntp(p2ps::time::Instant::from_micros(9_000_000));
        }),
        ("other leaves", |signed| signed.munro.leaves.swap(0, 1)),
        ("fewer leaves", |signed| signed.munro.leaves.truncate(31)),
    ];
    for (name, forge) in forgeries {
        let (mut world, liar) = below_a_stranger();
        let mut forged = genuine(&world);
        forge(&mut forged);
        forged.push(&mut world, &liar);
        let counters = world.node(2).counters(world.now, 0);
        assert_eq!(
            (counters.verified_packets, counters.bad_signatures),
            (0, 1),
            "{name}"
        );
        assert_eq!(world.node(2).window_bytes(), 0, "{name}");
    }
    let (mut world, liar) = below_a_stranger();
    let other = sign(&other_key(), 10, ntp(world.now), 1);
    other.push(&mut world, &liar);
    assert_eq!(world.node(2).window_bytes(), 0, "other swarm");
    // The same hand gives the genuine one, which shows that nothing else was in the way.
    let (mut world, liar) = below_a_stranger();
    genuine(&world).push(&mut world, &liar);
    assert_eq!(world.node(2).window_bytes(), 32 * 1316);
}

#[test]
fn s_07_replay_of_signatures_older_than_the_window_fails() {
    let (mut world, liar) = below_a_stranger();
    let now = world.now;
    let fresh = sign(&key(), 100, ntp(now + 120 * SECOND), 1);
    fresh.push(&mut world, &liar);
    let held = world.node(2).window_bytes();
    assert_eq!(held, 32 * 1316);
    // 61 s before the newest signed time, in the window's numbers.
    let old = sign(&key(), 101, ntp(now + 59 * SECOND), 2);
    old.push(&mut world, &liar);
    assert_eq!(world.node(2).window_bytes(), held);
}

#[test]
fn s_08_clock_a_day_off_plays_all_the_same() {
    for day_us in [-86_400_000_000i64, 0, 86_400_000_000] {
        let mut world = World::with_source();
        let mut peer = config(Role::Peer, 2, &[listen(1)], 300);
        peer.epoch = Epoch::new(1_795_262_400_000_000u64.wrapping_add_signed(day_us));
        world.add(2, peer);
        world.run(SECOND);
        let mut sent = Vec::new();
        world.stream(&mut sent, 3 * SECOND);
        world.end();
        world.assert_played_to_the_end(2, &sent);
        let counters = world.node(2).counters(world.now, 0);
        assert_eq!((counters.stalls, counters.lost_packets), (0, 0), "{day_us}");
    }
}

#[test]
fn s_09_equivocation_is_told_and_the_first_one_kept() {
    let mut world = World::new();
    let parent = elsewhere(1);
    world.add(2, config(Role::Peer, 2, &[parent], 0));
    world.run(MILLI);
    let parent = Stranger::become_parent(&mut world, 2, parent);
    let child = Stranger::call(&mut world, 2, elsewhere(2), true);
    child.subscribe(&mut world, 1, Subscribe::OLDEST);
    let first = sign(&key(), 5, ntp(world.now), 1);
    let second = sign(&key(), 5, ntp(world.now + MILLI), 2);
    first.push(&mut world, &parent);
    second.push(&mut world, &parent);
    world.run(100 * MILLI);
    let alarms = world.events[&2]
        .iter()
        .filter(|event| {
            matches!(event, Event::Equivocation { chunk, .. } if *chunk == first.range.first())
        })
        .count();
    assert_eq!(alarms, 1);
    assert_eq!(world.played[&2], first.chunks.concat());
    for message in child.take(&mut world) {
        match message {
            Message::Data(data) => {
                assert!(
                    first.chunks.contains(&data.payload),
                    "the second one was forwarded"
                );
            }
            Message::Extension(Extension::Munro(munro)) => assert_eq!(munro, first.munro),
            _ => {}
        }
    }
}

#[test]
fn s_11_absurd_claims_take_no_room_and_no_work() {
    for extensions in [true, false] {
        let mut world = World::with_source();
        let stranger = elsewhere(1);
        world.add(2, config(Role::Peer, 2, &[stranger, listen(1)], 1500));
        world.run(MILLI);
        let liar = if extensions {
            Stranger::become_parent(&mut world, 2, stranger)
        } else {
            Stranger::answer(&mut world, 2, stranger, false)
        };
        liar.take(&mut world);
        let most = (1u64 << 62) - 1;
        let hash = Digest::from_slice(&[1; 32]).expect("32 bytes");
        for last in [most, most - 1, 1 << 40] {
            let range = range(0, last);
            let signature = Bytes::from(vec![1; 64]);
            let time = ntp(world.now);
            liar.send(
                &mut world,
                &[
                    Message::Have(range),
                    Message::Integrity { range, hash },
                    Message::SignedIntegrity {
                        range,
                        time,
                        signature,
                    },
                ],
            );
        }
        if extensions {
            let status = liar.status(most);
            liar.send(&mut world, &[status]);
        }
        world.run(SECOND);
        assert_eq!(world.node(2).window_bytes(), 0);
        let asked = liar.take(&mut world).len();
        assert!(asked < 3000, "{asked} messages to the liar");
        // It goes, and what it claimed must not stand in the way of the stream.
        liar.send(&mut world, &[Message::Handshake(Box::new(closing()))]);
        let mut sent = Vec::new();
        world.run(15 * SECOND);
        world.stream(&mut sent, 4 * SECOND);
        world.end();
        world.assert_played_to_the_end(2, &sent);
    }
}

fn closing() -> p2ps::wire::option::Handshake {
    p2ps::wire::option::Handshake::closing()
}

#[test]
fn rows_34_to_36_name_what_was_wrong() {
    // 34: an end before its start, or 2^63 wide.
    let mut world = World::with_source();
    world.add(2, config(Role::Peer, 2, &[listen(1)], 100));
    world.run(SECOND);
    let mut sent = Vec::new();
    world.stream(&mut sent, 100 * MILLI);
    let liar = Stranger::call(&mut world, 1, elsewhere(1), true);
    let mut backwards = liar.theirs.to_bits().to_be_bytes().to_vec();
    backwards.push(8);
    backwards.extend_from_slice(&900u64.to_be_bytes());
    backwards.extend_from_slice(&17u64.to_be_bytes());
    world.deliver(liar.node, liar.addr, backwards.clone());
    let wide = range(0, (1 << 63) - 1);
    liar.send(&mut world, &[Message::Request(wide)]);
    assert!(liar.is_known(&world));
    world.deliver(liar.node, liar.addr, backwards);
    assert!(!liar.is_known(&world), "the third one closes the channel");
    assert_eq!(
        texts(&world, 1),
        [
            "bad range 900..17",
            "bad range 0..9223372036854775807",
            "bad range 900..17"
        ]
    );
    assert!(
        !liar
            .take(&mut world)
            .iter()
            .any(|message| matches!(message, Message::Data(_))),
        "the range was ignored"
    );

    // 35: DATA that can never have been asked for.
    let liar = Stranger::call(&mut world, 2, elsewhere(2), true);
    let data = |chunk: u64| {
        Message::Data(Data {
            range: ChunkRange::single(ChunkIndex::new(chunk)),
            time_us: 1,
            payload: Bytes::from_static(b"x"),
        })
    };
    liar.send(&mut world, &[data(4711)]);
    assert_eq!(texts(&world, 2), ["unrequested chunk 4711"]);

    // 36: DATA with a wrong hash, from the parent, whose munro is known.
    let mut world = World::new();
    let stranger = elsewhere(3);
    world.add(2, config(Role::Peer, 2, &[stranger], 100));
    world.run(MILLI);
    let parent = Stranger::become_parent(&mut world, 2, stranger);
    let signed = sign(&key(), 147, ntp(world.now), 1);
    parent.send(&mut world, &[signed.munro()]);
    parent.send(&mut world, &[data(4711)]);
    assert_eq!(texts(&world, 2), ["chunk 4711 failed its hash"]);
    assert_eq!(world.node(2).window_bytes(), 0);
}

fn texts(world: &World, name: u16) -> Vec<String> {
    let events = world.events.get(&name).into_iter().flatten();
    events
        .filter_map(|event| match event {
            Event::Violated { violation, .. } => Some(violation.to_string()),
            _ => None,
        })
        .collect()
}

#[test]
fn a_player_that_skips_nothing_waits_for_a_hole_without_going_round_in_circles() {
    let mut world = World::new();
    let stranger = elsewhere(1);
    let mut peer = config(Role::Peer, 2, &[stranger], 0);
    if let Some(playout) = &mut peer.swarms[0].playout {
        playout.skip = false;
    }
    world.add(2, peer);
    world.run(MILLI);
    let parent = Stranger::become_parent(&mut world, 2, stranger);
    let signed = sign(&key(), 5, ntp(world.now), 1);
    parent.send(&mut world, &[signed.munro()]);
    for place in (0..32).filter(|place| *place != 3) {
        parent.send(&mut world, &[signed.chunk(place)]);
    }
    for _ in 0..200 {
        world.run(10 * MILLI);
        // It is there, and lacks the chunk.
        for message in parent.take(&mut world) {
            if let Message::Extension(Extension::Probe { nonce, .. }) = message {
                let reply = ProbeReply {
                    nonce,
                    held_us: 0,
                    ready: Mask::all(1),
                    recv_kbps: 0,
                    cumulative_latency_us: 0,
                    saturated: 0,
                    paths: Vec::new(),
                };
                parent.send(
                    &mut world,
                    &[Message::Extension(Extension::ProbeReply(reply))],
                );
            }
        }
    }
    assert!(world.played[&2] == signed.chunks[..3].concat());
    assert_eq!(world.node(2).counters(world.now, 0).stalls, 1);
    parent.send(&mut world, &[signed.chunk(3)]);
    world.run(100 * MILLI);
    assert!(world.played[&2] == signed.chunks.concat());
}
