//! Small swarms on a table: every datagram is handed over at once, or dropped where a test says so.

mod archive;
mod notice;
mod parents;
mod shares;
mod unread;

use std::collections::BTreeMap;

use super::calls::CALLS_MAX;
use super::*;
use crate::chunk::ChunkIndex;
use crate::integrity::key::SigningKey;
use crate::peer::handshake::Remote;
use crate::store::playout::{PlayoutConfig, Release};
use crate::wire::ChannelDescription;
use crate::wire::option::SupportedMessages;

type Dropped = Box<dyn FnMut(u16, u16, &[u8], u64) -> bool>;

/// Nodes by name, and the datagrams between them.
struct Table {
    now: Instant,
    nodes: BTreeMap<u16, Node>,
    /// Chunks each player was given.
    played: BTreeMap<u16, Vec<u8>>,
    events: BTreeMap<u16, Vec<Event>>,
    /// Says which datagrams get lost: from, to, bytes, count so far.
    drop: Dropped,
    count: u64,
    /// How long a datagram takes.
    delay: fn(u16, u16) -> Duration,
    /// Datagrams under way: due, to, port, from, bytes.
    mail: Vec<(Instant, u16, Port, SocketAddr, Vec<u8>)>,
}

fn key() -> SigningKey {
    SigningKey::from_seed_ed25519([7; 32])
}

fn addr(name: u16, port: Port) -> SocketAddr {
    SocketAddr::from((
        [10, 0, 0, name as u8],
        if port == Port::Listen { 7850 } else { 40_000 },
    ))
}

fn config(role: Role, name: u16, parents: &[u16], latency_ms: u64) -> Config {
    let swarm = SwarmConfig {
        swarm_id: key().swarm_id(),
        window: Duration::from_secs(60),
        playout: (role == Role::Peer).then(|| PlayoutConfig {
            latency: Duration::from_millis(latency_ms),
            skip: true,
        }),
        from: StartFrom::Live,
        parents: parents
            .iter()
            .map(|&name| addr(name, Port::Listen))
            .collect(),
        source: (role == Role::Source).then(|| SourceConfig {
            key: key(),
            first_chunk: ChunkIndex::ZERO,
            not_before_us: 0,
            sign_delay: Duration::from_millis(20),
            sign_delay_few: Duration::from_millis(20),
            chunk_packets: 7,
            seal: None,
        }),
        description: None,
    };
    let peer_id = PeerId::from_bytes([name as u8; 8]);
    Config::new(role, peer_id, Epoch::new(1_795_262_400_000_000), swarm)
}

impl Table {
    fn new() -> Self {
        Self {
            now: Instant::from_micros(1_000_000),
            nodes: BTreeMap::new(),
            played: BTreeMap::new(),
            events: BTreeMap::new(),
            drop: Box::new(|_, _, _, _| false),
            count: 0,
            delay: |_, _| Duration::ZERO,
            mail: Vec::new(),
        }
    }

    fn add(&mut self, name: u16, config: Config) {
        let node = Node::new(self.now, config, Seed::from_number(u64::from(name))).unwrap();
        self.nodes.insert(name, node);
    }

    fn name_of(addr: SocketAddr) -> (u16, Port) {
        let std::net::IpAddr::V4(ip) = addr.ip() else {
            panic!("the table has IPv4 only")
        };
        let port = if addr.port() == 7850 {
            Port::Listen
        } else {
            Port::Dial
        };
        (u16::from(ip.octets()[3]), port)
    }

    /// Hands over everything that is due until nothing moves.
    fn settle(&mut self) {
        loop {
            for (&name, node) in &mut self.nodes {
                while let Some(transmit) = node.poll_transmit() {
                    let (to, port) = Self::name_of(transmit.to);
                    let size = transmit
                        .segment_size
                        .unwrap_or(transmit.contents.len())
                        .max(1);
                    for datagram in transmit.contents.chunks(size) {
                        self.count += 1;
                        if !(self.drop)(name, to, datagram, self.count) {
                            let from = addr(name, transmit.port);
                            let due = self.now + (self.delay)(name, to);
                            self.mail.push((due, to, port, from, datagram.to_vec()));
                        }
                    }
                }
                while let Some(event) = node.poll_event() {
                    if let Event::Playout {
                        release: Release::Media { payload, .. },
                        ..
                    } = &event
                    {
                        self.played
                            .entry(name)
                            .or_default()
                            .extend_from_slice(payload);
                    }
                    self.events.entry(name).or_default().push(event);
                }
            }
            let now = self.now;
            let (due, later) = std::mem::take(&mut self.mail)
                .into_iter()
                .partition(|mail| mail.0 <= now);
            self.mail = later;
            if due.is_empty() {
                return;
            }
            for (_, to, port, from, bytes) in due {
                if let Some(node) = self.nodes.get_mut(&to) {
                    let stride = bytes.len();
                    node.handle_datagrams(now, now, port, from, bytes.into(), stride);
                }
            }
        }
    }

    /// Lets time pass, a millisecond at a time.
    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.now += Duration::from_millis(1);
            for node in self.nodes.values_mut() {
                if node.poll_timeout(self.now).is_some_and(|at| at <= self.now) {
                    node.handle_timeout(self.now);
                }
            }
            self.settle();
        }
    }

    /// Streams numbered bytes: 1 ms gives 1000 bytes, 8 Mbit/s.
    fn stream(&mut self, source: u16, sent: &mut Vec<u8>, span: Duration) {
        for _ in 0..span.as_millis() {
            let start = sent.len();
            sent.extend((start..start + 1000).map(|at| (at / 7 % 251) as u8));
            let media = Bytes::copy_from_slice(&sent[start..]);
            let now = self.now;
            self.nodes.get_mut(&source).unwrap().push_media(now, media);
            self.run(Duration::from_millis(1));
        }
    }

    fn assert_played_is_tail_of(&self, name: u16, sent: &[u8]) {
        let played = &self.played[&name];
        assert!(
            !played.is_empty() && played.len() <= sent.len(),
            "{} of {}",
            played.len(),
            sent.len()
        );
        if !sent.ends_with(played) {
            let at = sent.iter().zip(played).position(|(a, b)| a != b);
            let counters = self.nodes[&name].counters(self.now, 0);
            let lost: Vec<&Event> = self.events[&name]
                .iter()
                .filter(|event| {
                    !matches!(
                        event,
                        Event::Playout {
                            release: Release::Media { .. },
                            ..
                        }
                    )
                })
                .collect();
            panic!(
                "node {name} played {} of {}, first difference {at:?}: {lost:?} {counters:?}",
                played.len(),
                sent.len()
            );
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_source_a_relay_and_two_peers_in_a_row() {
    let mut table = Table::new();
    // Started in the worst order: everybody waits for a parent that is not there yet.
    table.add(4, config(Role::Peer, 4, &[3], 0));
    table.add(3, config(Role::Peer, 3, &[2], 100));
    table.add(2, config(Role::Relay, 2, &[1], 0));
    table.run(SECOND);
    table.add(1, config(Role::Source, 1, &[], 0));
    table.run(3 * SECOND);
    let mut sent = Vec::new();
    table.stream(1, &mut sent, 2 * SECOND);
    let now = table.now;
    table.nodes.get_mut(&1).unwrap().end_media(now);
    table.run(SECOND);
    for name in [3, 4] {
        table.assert_played_is_tail_of(name, &sent);
        assert_eq!(
            table.played[&name].len(),
            sent.len(),
            "everybody was there before the first byte"
        );
        let ended = Event::Playout {
            swarm: 0,
            release: Release::Ended,
        };
        assert!(table.events[&name].contains(&ended));
    }
    assert_eq!(table.nodes[&4].counters(now, 0).depth, Some(3));
    assert!(table.nodes[&1].is_drained(table.now));
}

#[test]
fn lost_datagrams_are_fetched_again_before_anybody_notices() {
    let mut table = Table::new();
    table.add(1, config(Role::Source, 1, &[], 0));
    table.add(2, config(Role::Relay, 2, &[1], 0));
    table.add(3, config(Role::Peer, 3, &[2], 300));
    table.run(SECOND);
    let mut sent = Vec::new();
    table.stream(1, &mut sent, Duration::from_millis(200));
    // One datagram in eleven of any kind, both ways.
    table.drop = Box::new(|_, _, _, count| count % 11 == 0);
    table.stream(1, &mut sent, 3 * SECOND);
    table.drop = Box::new(|_, _, _, _| false);
    let now = table.now;
    table.nodes.get_mut(&1).unwrap().end_media(now);
    table.run(SECOND);
    table.assert_played_is_tail_of(3, &sent);
    let counters = table.nodes[&3].counters(table.now, 0);
    assert_eq!(counters.due_packets, counters.played_packets);
    assert!(
        counters.repaired_packets > 50,
        "{}",
        counters.repaired_packets
    );
}

#[test]
fn a_lost_third_datagram_costs_a_round_trip_and_not_the_channel() {
    let mut table = Table::new();
    table.add(1, config(Role::Source, 1, &[], 0));
    let mut sent = Vec::new();
    table.stream(1, &mut sent, Duration::from_millis(200));
    table.count = 0;
    // Opening, reply, and then the one that proves the address and carries our introduction.
    table.drop = Box::new(|from, to, _, count| (from, to, count) == (2, 1, 3));
    table.add(2, config(Role::Peer, 2, &[1], 0));
    table.stream(1, &mut sent, Duration::from_millis(200));
    let now = table.now;
    table.nodes.get_mut(&1).unwrap().end_media(now);
    table.settle();
    table.assert_played_is_tail_of(2, &sent);
    let join_us = table.nodes[&2].counters(now, 0).join_us.unwrap();
    assert!(join_us < 100_000, "{join_us}");
    let lost = |event: &Event| matches!(event, Event::ParentLost { .. });
    assert!(!table.events[&2].iter().any(lost));
}

#[test]
fn the_description_is_asked_for_until_it_comes() {
    let key = key();
    let mut description = ChannelDescription {
        name: "film".into(),
        title: String::new(),
        swarm_id: key.swarm_id(),
        chunk_bytes_max: 1316,
        munro_width: 32,
        substreams: 1,
        data_substreams: 1,
        run_length: 1,
        signature: Bytes::new(),
    };
    description.signature = key.sign(&description.signed_bytes());
    let mut table = Table::new();
    let mut source = config(Role::Source, 1, &[], 0);
    source.swarms[0].description = description.encode();
    table.add(1, source);
    table.add(2, config(Role::Relay, 2, &[1], 0));
    table.add(3, config(Role::Peer, 3, &[2], 0));
    // DESCRIBE and DESCRIPTION are lost for a while, nothing else.
    let about = |datagram: &[u8]| {
        datagram.get(4) == Some(&crate::wire::EXTENSION_TYPE)
            && matches!(datagram.get(7), Some(84 | 85))
    };
    table.drop = Box::new(move |_, _, datagram, _| about(datagram));
    table.run(2 * SECOND);
    table.drop = Box::new(|_, _, _, _| false);
    table.run(10 * SECOND);
    for name in [2, 3] {
        let described = |event: &&Event| matches!(event, Event::Described { .. });
        let count = table.events[&name].iter().filter(described).count();
        assert_eq!(count, 1, "node {name}");
    }
}

#[test]
fn a_dead_parent_is_replaced_without_a_gap() {
    let mut table = Table::new();
    table.add(1, config(Role::Source, 1, &[], 0));
    table.add(2, config(Role::Relay, 2, &[1], 0));
    table.add(3, config(Role::Relay, 3, &[1], 0));
    table.add(4, config(Role::Peer, 4, &[2, 3], 1000));
    table.run(SECOND);
    let mut sent = Vec::new();
    table.stream(1, &mut sent, 2 * SECOND);
    assert!(
        table.nodes[&2].child_count() == 1,
        "the first one named is preferred"
    );
    table.nodes.remove(&2);
    table.stream(1, &mut sent, 3 * SECOND);
    let now = table.now;
    table.nodes.get_mut(&1).unwrap().end_media(now);
    table.run(2 * SECOND);
    table.assert_played_is_tail_of(4, &sent);
    let counters = table.nodes[&4].counters(table.now, 0);
    assert_eq!(
        (counters.due_packets, counters.stalls),
        (counters.played_packets, 0)
    );
    assert_eq!(table.nodes[&3].child_count(), 1);
}

#[test]
fn plain_peers_stream_both_ways() {
    for (source_plain, peer_plain) in [(true, false), (false, true), (true, true)] {
        let mut table = Table::new();
        let mut source = config(Role::Source, 1, &[], 0);
        source.extensions = !source_plain;
        let mut peer = config(Role::Peer, 2, &[1], 200);
        peer.extensions = !peer_plain;
        table.add(1, source);
        table.add(2, peer);
        table.run(SECOND);
        table.drop = Box::new(|_, _, datagram, _| {
            assert_ne!(
                datagram.get(4),
                Some(&crate::wire::EXTENSION_TYPE),
                "an extension reached a plain peer"
            );
            false
        });
        let mut sent = Vec::new();
        table.stream(1, &mut sent, 2 * SECOND);
        table.run(SECOND);
        let played = table.played.get(&2).map_or(0, Vec::len);
        assert!(
            played + 60_000 > sent.len(),
            "{source_plain} {peer_plain}: {played} of {}",
            sent.len()
        );
        assert!(
            sent.starts_with(&table.played[&2])
                || sent.windows(played).any(|part| part == table.played[&2])
        );
    }
}

#[test]
fn t_csp_2_latency_adds_up_down_the_tree() {
    let mut table = Table::new();
    table.delay = |from, to| match (from.min(to), from.max(to)) {
        (1, 2) => Duration::from_millis(20),
        (2, 3) => Duration::from_millis(15),
        (3, 4) => Duration::from_millis(25),
        pair => panic!("nobody in this tree speaks across it: {pair:?}"),
    };
    table.add(1, config(Role::Source, 1, &[], 0));
    for name in 2..=4 {
        table.add(name, config(Role::Peer, name, &[name - 1], 0));
    }
    let mut sent = Vec::new();
    table.stream(1, &mut sent, 8 * SECOND);
    let latency = |name: u16| table.nodes[&name].counters(table.now, 0).latency_us;
    assert_eq!(
        [latency(2), latency(3), latency(4)],
        [Some(20_000), Some(35_000), Some(60_000)]
    );
}

/// A source and a peer that plays from the oldest chunk on, half a second late; the peer has asked for the stream.
fn from_the_oldest() -> Table {
    let mut table = Table::new();
    table.add(1, config(Role::Source, 1, &[], 0));
    let mut peer = config(Role::Peer, 2, &[1], 500);
    peer.swarms[0].from = StartFrom::Oldest;
    table.add(2, peer);
    table.run(SECOND);
    table
}

fn end(table: &mut Table) {
    let now = table.now;
    table.nodes.get_mut(&1).unwrap().end_media(now);
    table.settle();
}

fn is_drained(table: &Table) -> bool {
    table.nodes[&1].is_drained(table.now)
}

/// Lets time pass until the source may leave.
fn drain(table: &mut Table) -> Duration {
    let since = table.now;
    while !is_drained(table) && table.now - since < 5 * SECOND {
        table.run(Duration::from_millis(1));
    }
    table.now - since
}

#[test]
fn a_source_leaves_at_once_when_everybody_has_everything() {
    let mut table = from_the_oldest();
    let mut sent = Vec::new();
    table.stream(1, &mut sent, SECOND);
    end(&mut table);
    assert!(is_drained(&table));
}

#[test]
fn a_source_stays_until_the_end_is_repaired() {
    for lost in 0..30 {
        let mut table = from_the_oldest();
        let mut sent = Vec::new();
        table.stream(1, &mut sent, SECOND);
        // So many datagrams of whatever kind are lost before the end and behind it, both ways.
        let mut left = lost;
        table.drop = Box::new(move |_, _, _, _| {
            let lose = left > 0;
            left -= i32::from(lose);
            lose
        });
        table.stream(1, &mut sent, Duration::from_millis(20));
        end(&mut table);
        let took = drain(&mut table);
        assert!(took < SECOND, "{lost} lost: {took:?}");
        table.nodes.remove(&1);
        table.run(2 * SECOND);
        assert_eq!(table.played[&2].len(), sent.len(), "{lost} lost");
    }
}

#[test]
fn a_source_does_not_wait_for_the_dead() {
    let mut table = from_the_oldest();
    let mut sent = Vec::new();
    table.stream(1, &mut sent, SECOND);
    table.nodes.remove(&2);
    table.stream(1, &mut sent, Duration::from_millis(100));
    end(&mut table);
    let took = drain(&mut table);
    assert!(took >= SECOND && took < 2 * SECOND, "{took:?}");
}

/// Whether a datagram has the hashes of munro 0 in it.
fn shows_the_first_munro(datagram: &[u8]) -> bool {
    datagram.windows(12).any(|bytes| {
        bytes[0] == crate::wire::EXTENSION_TYPE && bytes[3] == 81 && bytes[4..] == [0; 8]
    })
}

#[test]
fn the_oldest_munro_is_fetched_when_it_was_lost_on_its_way() {
    // A relay and a peer that were both there before the first byte, and a peer that comes later. The hashes of the
    // first munro, or all of it, are lost once on each way, with or without the answer to SUBSCRIBE.
    for (whole, answer) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut table = Table::new();
        for (name, parent) in [(3, 2), (4, 3)] {
            let mut peer = config(Role::Peer, name, &[parent], 500);
            peer.swarms[0].from = StartFrom::Oldest;
            table.add(name, peer);
        }
        table.add(2, config(Role::Relay, 2, &[1], 0));
        table.run(SECOND);
        let mut answers = std::collections::BTreeSet::new();
        let mut lost = std::collections::BTreeSet::new();
        table.drop = Box::new(move |from, to, datagram, _| {
            let is_data = datagram.get(4) == Some(&1);
            let in_first = is_data && datagram[5..13] == [0; 8][..];
            let is_answer = datagram.len() > 8 && datagram[4] == 0xf0 && datagram[7] == 66;
            (shows_the_first_munro(datagram) && lost.insert((from, to, 0)))
                || (whole && in_first && lost.insert((from, to, u16::from(datagram[12]) + 1)))
                || (answer && is_answer && answers.insert((from, to)))
        });
        table.add(1, config(Role::Source, 1, &[], 0));
        table.run(5 * SECOND);
        let mut sent = Vec::new();
        table.stream(1, &mut sent, SECOND);
        let mut late = config(Role::Peer, 5, &[2], 500);
        late.swarms[0].from = StartFrom::Oldest;
        table.add(5, late);
        table.stream(1, &mut sent, SECOND);
        end(&mut table);
        table.run(2 * SECOND);
        for name in [3, 4, 5] {
            assert!(
                table.played[&name] == sent,
                "{name} played {} of {}; whole munro {whole}, answer {answer}",
                table.played[&name].len(),
                sent.len()
            );
        }
    }
}

#[test]
fn notices_that_nobody_fetches_are_bounded() {
    let mut table = from_the_oldest();
    let now = table.now;
    let node = table.nodes.get_mut(&1).unwrap();
    assert_eq!(node.child_count(), 1);
    for _ in 0..2 * EVENTS_MAX {
        node.push_event(Event::ChildLeft {
            swarm: 0,
            addr: addr(2, Port::Dial),
        });
    }
    let most = node.events.len();
    assert!(most < EVENTS_MAX);
    node.close(now);
    assert_eq!(node.events.len(), most, "goodbye to a child");
    for _ in 0..2 * EVENTS_MAX {
        node.push_event(Event::NeedParents { swarm: 0 });
    }
    assert_eq!(node.events.len(), EVENTS_MAX);
}

#[test]
fn however_many_come_there_is_room_to_call_a_parent() {
    let mut table = Table::new();
    table.add(1, config(Role::Source, 1, &[], 0));
    table.add(2, config(Role::Relay, 2, &[], 0));
    let now = table.now;
    let node = table.nodes.get_mut(&2).unwrap();
    let remote = Remote {
        channel: ChannelId::from_bits(1),
        discard_window: 0,
        supported: SupportedMessages::with_extensions(),
    };
    for number in 0..(CHANNELS_MAX - CALLS_MAX) as u32 {
        let from = SocketAddr::from(([10, 1, 0, 1], number as u16));
        let id = ChannelId::from_bits(number + 1);
        let channel = Channel::new(id, Port::Listen, from, 0, now, remote);
        node.channels.insert(channel).unwrap();
    }
    // One more who calls, and one whom we call.
    table.add(3, config(Role::Peer, 3, &[2], 50));
    let node = table.nodes.get_mut(&2).unwrap();
    node.set_candidates(now, 0, &[addr(1, Port::Listen)]);
    table.run(Duration::from_secs(1));
    let events = |name: u16| table.events.get(&name).into_iter().flatten();
    let joins = |name: u16| {
        events(name).any(|event| matches!(event, Event::ParentChanged { first: true, .. }))
    };
    assert!(joins(2), "called nobody");
    assert!(!joins(3), "took one too many");
    assert!(table.nodes[&2].channel_count() <= CHANNELS_MAX);
}
