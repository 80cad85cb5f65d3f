//! Several parents at once, each pushing a part.

use std::cell::RefCell;
use std::rc::Rc;

use super::*;
use crate::chunk::Parts;

/// A source, relays 2 and 3 below it, and viewer 4 that takes half of eight from each; or whatever `shares` say.
fn world(substreams: u8, relays: &[u16], latency_ms: u64) -> (Table, Vec<u8>) {
    let mut table = Table::new();
    let description = described(substreams);
    let mut source = config(Role::Source, 1, &[], 0);
    source.swarms[0].description = description.clone();
    // Munros are full then, and all substreams the same.
    if let Some(source) = &mut source.swarms[0].source {
        source.sign_delay = Duration::from_millis(200);
        source.sign_delay_few = Duration::from_millis(200);
    }
    table.add(1, source);
    for &relay in relays {
        let mut config = config(Role::Relay, relay, &[1], 0);
        config.swarms[0].description = description.clone();
        table.add(relay, config);
    }
    let mut viewer = config(Role::Peer, 9, relays, latency_ms);
    viewer.swarms[0].description = description;
    table.add(9, viewer);
    let mut sent = Vec::new();
    table.stream(1, &mut sent, SECOND);
    (table, sent)
}

fn described(substreams: u8) -> Option<Bytes> {
    let key = key();
    let mut description = ChannelDescription {
        name: "film".into(),
        title: String::new(),
        swarm_id: key.swarm_id(),
        chunk_bytes_max: 1316,
        munro_width: 32,
        substreams,
        data_substreams: substreams,
        run_length: 1,
        signature: Bytes::new(),
    };
    description.signature = key.sign(&description.signed_bytes());
    description.encode()
}

impl Table {
    fn share(&mut self, viewer: u16, shares: &[(u16, u8)]) {
        let shares: Vec<(SocketAddr, Parts)> = shares
            .iter()
            .map(|&(name, bits)| (addr(name, Port::Listen), Parts::from_bits(bits)))
            .collect();
        let now = self.now;
        let node = self.nodes.get_mut(&viewer).unwrap();
        node.set_shares(now, 0, &shares);
    }

    /// What each parent of a node pushes.
    fn pushed(&self, viewer: u16) -> BTreeMap<u16, u32> {
        let counters = self.nodes[&viewer].counters(self.now, 0);
        let name = |peer: PeerId| u16::from(peer.as_bytes()[0]);
        let shares = counters.shares.into_iter();
        shares.map(|(peer, bits)| (name(peer), bits)).collect()
    }

    fn finish_at(&mut self, viewer: u16, sent: &[u8]) {
        let now = self.now;
        self.nodes.get_mut(&1).unwrap().end_media(now);
        self.run(2 * SECOND);
        self.assert_played_is_tail_of(viewer, sent);
        assert!(has_ended(self, viewer));
    }

    fn sent_to_viewer(&self, relay: u16) -> u64 {
        self.nodes[&relay].counters(self.now, 0).sent_media_bytes
    }
}

fn has_ended(table: &Table, name: u16) -> bool {
    let ended = Event::Playout {
        swarm: 0,
        release: Release::Ended,
    };
    table.events[&name].contains(&ended)
}

#[test]
fn each_parent_pushes_its_part_and_nothing_comes_twice() {
    for (substreams, shares) in [
        (2, vec![(2, 0b01), (3, 0b10)]),
        (4, vec![(2, 0b0101), (3, 0b0010), (4, 0b1000)]),
        (
            8,
            vec![(2, 0b0000_1111), (3, 0b0011_0000), (4, 0b1100_0000)],
        ),
    ] {
        let relays: Vec<u16> = shares.iter().map(|(name, _)| *name).collect();
        let (mut table, mut sent) = world(substreams, &relays, 500);
        // Each way takes another time.
        table.delay = |from, to| Duration::from_millis(u64::from(from * to) % 17);
        table.share(9, &shares);
        table.stream(1, &mut sent, 2 * SECOND);
        let pushed = shares.iter().map(|&(name, bits)| (name, u32::from(bits)));
        assert_eq!(table.pushed(9), pushed.collect());
        let before = table.nodes[&9].counters(table.now, 0);
        let begun: Vec<u64> = relays.iter().map(|&it| table.sent_to_viewer(it)).collect();
        let start = sent.len();
        table.stream(1, &mut sent, 4 * SECOND);
        let after = table.nodes[&9].counters(table.now, 0);
        assert_eq!(after.duplicate_packets, before.duplicate_packets);
        assert_eq!(after.requested_packets, before.requested_packets);
        for (&(name, bits), begun) in shares.iter().zip(begun) {
            let part = table.sent_to_viewer(name) - begun;
            let whole = (sent.len() - start) as f64;
            let fair = f64::from(bits.count_ones()) / f64::from(substreams);
            let ratio = part as f64 / whole / fair;
            assert!((0.9..1.1).contains(&ratio), "node {name}: {ratio}");
        }
        table.finish_at(9, &sent);
    }
}

#[test]
fn the_end_the_start_and_loss_are_no_different_below_several() {
    let (mut table, mut sent) = world(4, &[2, 3], 500);
    table.share(9, &[(2, 0b0011), (3, 0b1100)]);
    table.drop = Box::new(|_, _, _, count| count % 13 == 0);
    table.stream(1, &mut sent, 6 * SECOND);
    assert_eq!(table.pushed(9).len(), 2);
    table.drop = Box::new(|_, _, _, _| false);
    table.finish_at(9, &sent);
}

#[test]
fn a_parent_that_dies_costs_nothing_whichever_it_is() {
    for dead in [2, 3] {
        let (mut table, mut sent) = world(4, &[2, 3], 1000);
        table.share(9, &[(2, 0b0111), (3, 0b1000)]);
        table.stream(1, &mut sent, 2 * SECOND);
        assert_eq!(table.pushed(9).len(), 2);
        table.nodes.remove(&dead);
        table.stream(1, &mut sent, 4 * SECOND);
        assert!(table.pushed(9).is_empty(), "one is left");
        table.finish_at(9, &sent);
    }
}

#[test]
fn a_helper_that_only_says_that_it_pushes_is_let_go() {
    let (mut table, mut sent) = world(4, &[2, 3], 1000);
    table.share(9, &[(2, 0b0111), (3, 0b1000)]);
    table.stream(1, &mut sent, 2 * SECOND);
    // Everything of it arrives but chunks: those are long.
    table.drop = Box::new(|from, to, datagram, _| (from, to) == (3, 9) && datagram.len() > 1000);
    table.stream(1, &mut sent, 2 * SECOND);
    assert!(table.pushed(9).is_empty());
    table.finish_at(9, &sent);
}

#[test]
fn a_helper_is_relied_on_once_it_has_delivered_and_not_before() {
    let (mut table, mut sent) = world(4, &[2, 3], 1000);
    table.drop = Box::new(|from, to, datagram, _| (from, to) == (3, 9) && datagram.len() > 1000);
    table.share(9, &[(2, 0b0111), (3, 0b1000)]);
    table.stream(1, &mut sent, 4 * SECOND);
    assert!(table.pushed(9).is_empty());
    let counters = table.nodes[&9].counters(table.now, 0);
    assert_eq!(counters.requested_packets, 0, "the main one pushes it all");
    table.finish_at(9, &sent);
}

#[test]
fn what_the_tracker_takes_back_the_main_parent_pushes() {
    let (mut table, mut sent) = world(4, &[2, 3, 4], 1000);
    table.share(9, &[(2, 0b0011), (3, 0b0100), (4, 0b1000)]);
    table.stream(1, &mut sent, 2 * SECOND);
    assert_eq!(table.pushed(9).len(), 3);
    table.share(9, &[(2, 0b0111), (4, 0b1000)]);
    table.stream(1, &mut sent, 2 * SECOND);
    assert_eq!(table.pushed(9), [(2, 0b0111), (4, 0b1000)].into());
    table.share(9, &[]);
    table.stream(1, &mut sent, 2 * SECOND);
    assert!(table.pushed(9).is_empty());
    table.finish_at(9, &sent);
}

#[test]
fn lost_words_between_parents_and_viewer_are_said_again() {
    // SUBSCRIBE 65, SUB_REPLY 66 and UNSUBSCRIBE 67 get lost, one of two.
    let about = |datagram: &[u8]| {
        datagram.get(4) == Some(&crate::wire::EXTENSION_TYPE)
            && matches!(datagram.get(7), Some(65..=67))
    };
    let (mut table, mut sent) = world(4, &[2, 3], 1000);
    let mut rng = Rng::new(Seed::from_number(7));
    table.drop = Box::new(move |_, _, datagram, _| about(datagram) && rng.below(2) == 0);
    table.share(9, &[(2, 0b0011), (3, 0b1100)]);
    table.stream(1, &mut sent, 8 * SECOND);
    let before = table.nodes[&9].counters(table.now, 0).duplicate_packets;
    table.stream(1, &mut sent, SECOND);
    let after = table.nodes[&9].counters(table.now, 0).duplicate_packets;
    assert_eq!((table.pushed(9).len(), after), (2, before));
    table.finish_at(9, &sent);
}

#[test]
fn two_viewers_help_each_other_with_different_parts_and_not_with_the_same() {
    for (theirs, ours, is_split) in [(0b0001, 0b0010, true), (0b0001, 0b0001, false)] {
        let (mut table, mut sent) = world(4, &[2], 1000);
        let mut other = config(Role::Peer, 8, &[2, 9], 1000);
        other.swarms[0].description = described(4);
        table.add(8, other);
        let now = table.now;
        let named = [2, 8].map(|name| addr(name, Port::Listen));
        table
            .nodes
            .get_mut(&9)
            .unwrap()
            .set_candidates(now, 0, &named);
        table.stream(1, &mut sent, SECOND);
        table.share(9, &[(2, !theirs & 0b1111), (8, theirs)]);
        table.stream(1, &mut sent, 2 * SECOND);
        table.share(8, &[(2, !ours & 0b1111), (9, ours)]);
        table.stream(1, &mut sent, 4 * SECOND);
        assert_eq!(table.pushed(9).len(), 2);
        assert_eq!(table.pushed(8).len() == 2, is_split);
        for name in [8, 9] {
            let counters = table.nodes[&name].counters(table.now, 0);
            assert_eq!(counters.parent_changes, 0);
        }
        let now = table.now;
        table.nodes.get_mut(&1).unwrap().end_media(now);
        table.run(2 * SECOND);
        table.assert_played_is_tail_of(9, &sent);
    }
}

#[test]
fn whoever_learns_of_the_layout_late_gets_everything_and_then_its_parts() {
    let (mut table, mut sent) = world(4, &[2, 3], 500);
    let viewer = config(Role::Peer, 10, &[2, 3], 500);
    table.add(10, viewer);
    table.stream(1, &mut sent, 2 * SECOND);
    table.share(10, &[(2, 0b0011), (3, 0b1100)]);
    table.stream(1, &mut sent, 2 * SECOND);
    assert_eq!(table.pushed(10), [(2, 0b0011), (3, 0b1100)].into());
    let losses = table.events[&10].iter();
    let lost = losses.filter(|event| matches!(event, Event::ParentLost { .. }));
    assert_eq!(lost.count(), 0);
    table.finish_at(10, &sent);
}

#[test]
fn whoever_has_room_for_a_part_alone_takes_nobody_for_more() {
    let (mut table, mut sent) = world(4, &[2], 1000);
    let mut small = config(Role::Peer, 8, &[2], 1000);
    small.swarms[0].description = described(4);
    // 8 Mbit/s and what goes with it: two substreams of four, and not three.
    small.upload_limit_bps = Some(5_000_000);
    table.add(8, small);
    let now = table.now;
    let named = [2, 8].map(|name| addr(name, Port::Listen));
    table
        .nodes
        .get_mut(&9)
        .unwrap()
        .set_candidates(now, 0, &named);
    table.stream(1, &mut sent, 3 * SECOND);
    assert_eq!(table.nodes[&8].slots_free(), 1);
    table.share(9, &[(2, 0b0001), (8, 0b1110)]);
    table.stream(1, &mut sent, 2 * SECOND);
    assert!(table.pushed(9).is_empty(), "three are too much");
    table.share(9, &[(2, 0b0011), (8, 0b1100)]);
    table.stream(1, &mut sent, 3 * SECOND);
    assert_eq!(table.pushed(9), [(2, 0b0011), (8, 0b1100)].into());
    assert_eq!(table.nodes[&8].slots_free(), 0);
    table.finish_at(9, &sent);
}

#[test]
fn a_helper_that_sends_nothing_but_nonsense_is_let_go() {
    let (mut table, mut sent) = world(4, &[2, 3], 400);
    table.share(9, &[(2, 0b0111), (3, 0b1000)]);
    table.stream(1, &mut sent, 2 * SECOND);
    assert_eq!(table.pushed(9).len(), 2);
    // What comes of it from now on is one chunk of before, again and again: on time, and of no use.
    let old = Rc::new(RefCell::new(Vec::new()));
    let kept = Rc::clone(&old);
    table.drop = Box::new(move |from, to, datagram, _| {
        let is_chunk = (from, to) == (3, 9) && datagram.len() > 1000;
        if is_chunk && kept.borrow().is_empty() {
            kept.replace(datagram.to_vec());
        }
        is_chunk
    });
    for _ in 0..100 {
        table.stream(1, &mut sent, Duration::from_millis(20));
        let again = old.borrow().clone();
        let from = addr(3, Port::Listen);
        table.mail.push((table.now, 9, Port::Dial, from, again));
    }
    assert!(table.pushed(9).is_empty());
    let counters = table.nodes[&9].counters(table.now, 0);
    assert_eq!(counters.due_packets, counters.played_packets);
    table.finish_at(9, &sent);
}
