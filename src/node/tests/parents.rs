//! Parents that are out of reach, forget, or were never there.

use super::*;
use crate::chunk::ChunkIndex;
use crate::store::playout::Release;

/// Whether a datagram is one extension message of a subtype.
fn is_extension(datagram: &[u8], subtype: u8) -> bool {
    datagram.get(4) == Some(&crate::wire::EXTENSION_TYPE) && datagram.get(7) == Some(&subtype)
}

const SUBSCRIBE: u8 = 65;

fn losses(table: &Table, name: u16) -> usize {
    let lost = |event: &&Event| matches!(event, Event::ParentLost { .. });
    table
        .events
        .get(&name)
        .map_or(0, |events| events.iter().filter(lost).count())
}

fn has_ended(table: &Table, name: u16) -> bool {
    let ended = Event::Playout {
        swarm: 0,
        release: Release::Ended,
    };
    table.events[&name].contains(&ended)
}

/// How many chunk numbers a node is behind the source.
fn behind(table: &Table, name: u16) -> u64 {
    let last = |name: u16| table.nodes[&name].counters(table.now, 0).last_chunk;
    last(1).unwrap_or(0) - last(name).unwrap_or(0)
}

#[test]
fn the_only_parent_is_asked_on_while_it_is_out_of_reach() {
    for outage_ms in [300, 700, 3000] {
        let mut table = Table::new();
        table.add(1, config(Role::Source, 1, &[], 0));
        table.add(2, config(Role::Peer, 2, &[1], 4000));
        let mut sent = Vec::new();
        table.stream(1, &mut sent, SECOND);
        table.drop = Box::new(|_, _, _, _| true);
        table.stream(1, &mut sent, Duration::from_millis(outage_ms));
        table.drop = Box::new(|_, _, _, _| false);
        table.stream(1, &mut sent, SECOND);
        let now = table.now;
        table.nodes.get_mut(&1).unwrap().end_media(now);
        table.run(6 * SECOND);
        table.assert_played_is_tail_of(2, &sent);
        assert_eq!(losses(&table, 2), 0, "{outage_ms} ms");
        assert_eq!(table.nodes[&1].stats().handshakes, 1, "{outage_ms} ms");
        assert_eq!(table.nodes[&2].channel_count(), 1, "{outage_ms} ms");
    }
}

#[test]
fn the_only_parent_started_anew_is_called_anew() {
    let mut table = Table::new();
    table.add(1, config(Role::Source, 1, &[], 0));
    table.add(2, config(Role::Relay, 2, &[1], 0));
    table.add(3, config(Role::Peer, 3, &[2], 1000));
    let mut sent = Vec::new();
    table.stream(1, &mut sent, SECOND);
    let anew = Node::new(
        table.now,
        config(Role::Relay, 2, &[1], 0),
        Seed::from_number(99),
    );
    table.nodes.insert(2, anew.unwrap());
    table.stream(1, &mut sent, Duration::from_millis(500));
    assert_eq!(table.nodes[&2].child_count(), 1);
    assert_eq!(table.nodes[&3].channel_count(), 1);
    assert_eq!(losses(&table, 3), 1);
}

#[test]
fn a_dead_parent_is_let_go_for_another_at_once_and_for_none_after_five_seconds() {
    for (parents, within) in [(&[2, 3][..], 500), (&[2][..], 5_500)] {
        let mut table = Table::new();
        table.add(1, config(Role::Source, 1, &[], 0));
        table.add(2, config(Role::Relay, 2, &[1], 0));
        table.add(3, config(Role::Relay, 3, &[1], 0));
        table.add(4, config(Role::Peer, 4, parents, 1000));
        let mut sent = Vec::new();
        table.stream(1, &mut sent, SECOND);
        table.nodes.remove(&2);
        table.stream(1, &mut sent, Duration::from_millis(within));
        assert_eq!(losses(&table, 4), 1, "{parents:?}");
    }
}

#[test]
fn an_answer_to_a_request_is_no_answer_to_a_subscription() {
    let mut table = Table::new();
    table.add(1, config(Role::Source, 1, &[], 0));
    table.add(2, config(Role::Relay, 2, &[1], 0));
    let mut sent = Vec::new();
    table.stream(1, &mut sent, SECOND);
    // A hole stays open, and then nothing passes until the channel is given up.
    table.drop = Box::new(|from, to, datagram, _| from == 2 || to == 2 && datagram.len() > 1000);
    table.stream(1, &mut sent, Duration::from_millis(30));
    table.drop = Box::new(|_, _, _, _| true);
    table.stream(1, &mut sent, 6 * SECOND);
    assert_eq!(losses(&table, 2), 1);
    // The new subscription is lost for a while, requests are not.
    table.drop = Box::new(|_, _, datagram, _| is_extension(datagram, SUBSCRIBE));
    table.stream(1, &mut sent, Duration::from_millis(1_200));
    table.drop = Box::new(|_, _, _, _| false);
    table.stream(1, &mut sent, Duration::from_millis(300));
    assert!(behind(&table, 2) <= 64, "{}", behind(&table, 2));
    assert_eq!(table.nodes[&1].child_count(), 1);
}

#[test]
fn a_parent_that_lost_the_subscription_is_asked_again() {
    let mut table = Table::new();
    table.add(1, config(Role::Source, 1, &[], 0));
    table.add(2, config(Role::Peer, 2, &[1], 1000));
    let mut sent = Vec::new();
    table.stream(1, &mut sent, SECOND);
    let source = table.nodes.get_mut(&1).unwrap();
    for at in source.channels.places() {
        source.channels.get_mut(at).unwrap().subscriber = None;
    }
    source.swarms[0].children.clear();
    table.stream(1, &mut sent, 3 * SECOND);
    assert_eq!(table.nodes[&1].child_count(), 1);
    assert_eq!(losses(&table, 2), 0);
}

#[test]
fn candidates_that_do_not_answer_keep_nobody_from_being_called() {
    let mut table = Table::new();
    table.add(1, config(Role::Source, 1, &[], 0));
    // Nodes 7 to 9 are gone.
    table.add(2, config(Role::Peer, 2, &[7, 8, 9, 1], 100));
    let mut sent = Vec::new();
    table.stream(1, &mut sent, 2 * SECOND);
    let join_us = table.nodes[&2].counters(table.now, 0).join_us;
    assert!(
        join_us.is_some_and(|join_us| join_us < 1_300_000),
        "{join_us:?}"
    );
}

#[test]
fn more_open_channels_than_there_is_use_for_are_closed() {
    let mut table = Table::new();
    table.add(1, config(Role::Source, 1, &[], 0));
    for name in 2..=6 {
        table.add(name, config(Role::Relay, name, &[1], 0));
    }
    // Three take long to answer, so others are called as well, and then all of them are there.
    table.delay = |from, to| match (from.min(to), from.max(to)) {
        (2..=4, 7) => Duration::from_millis(700),
        _ => Duration::ZERO,
    };
    table.add(7, config(Role::Peer, 7, &[2, 3, 4, 5, 6], 100));
    let mut sent = Vec::new();
    table.stream(1, &mut sent, 4 * SECOND);
    assert_eq!(table.nodes[&7].channel_count(), 3);
    assert_eq!(losses(&table, 7), 0);
}

#[test]
fn a_neighbour_that_missed_the_end_of_the_handshake_is_told_again() {
    let mut table = Table::new();
    table.add(1, config(Role::Source, 1, &[], 0));
    table.add(2, config(Role::Relay, 2, &[1], 0));
    table.run(SECOND);
    // Nothing after the opening comes to the one that is only kept in reserve.
    table.drop = Box::new(|from, to, datagram, _| {
        let is_opening = datagram.starts_with(&[0; 4]);
        (from, to) == (3, 2) && !is_opening
    });
    table.add(3, config(Role::Peer, 3, &[1, 2], 100));
    let mut sent = Vec::new();
    table.stream(1, &mut sent, Duration::from_millis(200));
    let known = |table: &Table| table.nodes[&2].stats().handshakes;
    assert_eq!(known(&table), 1);
    table.drop = Box::new(|_, _, _, _| false);
    table.stream(1, &mut sent, Duration::from_millis(300));
    assert_eq!(known(&table), 2);
    assert!(table.nodes[&3].stats().sent_datagrams < 100);
}

#[test]
fn a_flipped_bit_in_an_announcement_does_not_hide_the_end() {
    let mut table = Table::new();
    table.add(1, config(Role::Source, 1, &[], 0));
    table.add(2, config(Role::Peer, 2, &[1], 1000));
    let mut sent = Vec::new();
    table.stream(1, &mut sent, SECOND);
    let peer = table.nodes.get_mut(&2).unwrap();
    let parent = peer.swarms[0].parent.unwrap();
    let nonsense = ChunkRange::new(ChunkIndex::new(64), ChunkIndex::new(1 << 41)).unwrap();
    peer.channels.get_mut(parent).unwrap().note_have(nonsense);
    // The end mark is lost, and nothing comes behind it.
    table.drop = Box::new(|_, _, _, _| true);
    let now = table.now;
    table.nodes.get_mut(&1).unwrap().end_media(now);
    table.run(Duration::from_millis(10));
    table.drop = Box::new(|_, _, _, _| false);
    table.run(3 * SECOND);
    assert!(has_ended(&table, 2));
}

#[test]
fn the_end_comes_from_a_neighbour_when_the_parent_keeps_it() {
    let mut table = Table::new();
    table.add(1, config(Role::Source, 1, &[], 0));
    for name in [2, 3] {
        table.add(name, config(Role::Relay, name, &[1], 0));
    }
    table.add(4, config(Role::Peer, 4, &[2, 3], 1000));
    let mut sent = Vec::new();
    table.stream(1, &mut sent, SECOND);
    assert_eq!(table.nodes[&2].child_count(), 1);
    // Relay 2 stays and never sees the end.
    table.drop = Box::new(|from, to, _, _| (from, to) == (1, 2));
    let now = table.now;
    table.nodes.get_mut(&1).unwrap().end_media(now);
    table.run(3 * SECOND);
    assert!(has_ended(&table, 4));
}

#[test]
fn two_newcomers_who_know_each_other_alone_make_no_ring() {
    for apart_ms in [0, 1, 5, 40, 100, 1100] {
        let mut table = Table::new();
        table.delay = |_, _| Duration::from_millis(5);
        table.add(2, config(Role::Peer, 2, &[3], 500));
        table.run(Duration::from_millis(apart_ms));
        table.add(3, config(Role::Peer, 3, &[2], 500));
        table.run(4 * SECOND);
        let parents = |table: &Table, name: u16| table.nodes[&name].counters(table.now, 0).parents;
        let both = [2, 3].map(|name| parents(&table, name));
        assert!(
            both == [Some(1), Some(0)] || both == [Some(0), Some(1)],
            "{apart_ms} ms: {both:?}"
        );
        // Neither has a way to the source, so neither is at a level.
        let depths = [2, 3].map(|name| table.nodes[&name].counters(table.now, 0).depth);
        assert_eq!(depths, [None, None]);
        table.add(1, config(Role::Source, 1, &[], 0));
        let now = table.now;
        for name in [2, 3] {
            let node = table.nodes.get_mut(&name).unwrap();
            let other = 5 - name;
            let named = [addr(1, Port::Listen), addr(other, Port::Listen)];
            node.set_candidates(now, 0, &named);
        }
        let mut sent = Vec::new();
        table.stream(1, &mut sent, 3 * SECOND);
        for name in [2, 3] {
            assert_eq!(losses(&table, name), 0, "{apart_ms} ms");
            let rooted = |event: &&Event| matches!(event, Event::Rooted { .. });
            let count = table.events[&name].iter().filter(rooted).count();
            assert_eq!(count, 1, "{apart_ms} ms, node {name}");
            assert!(!table.played[&name].is_empty());
        }
    }
}
