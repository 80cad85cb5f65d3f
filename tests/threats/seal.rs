//! Sealed channels: the media is for those who have the keys, whoever passes it on (algorithms §3.2, T-TRIB-4).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use p2ps::ids::{PeerKey, SwarmId};
use p2ps::integrity::key::SigningKey;
use p2ps::node::{Config, Event, Port, Role};
use p2ps::rng::{Rng, Seed};
use p2ps::seal::{EpochId, EpochKey, OVERHEAD_BYTES, is_sealed};
use p2ps::sim::stream::Stream;
use p2ps::time::Epoch;
use p2ps::tracker::announce::{Announcer, Credentials, Event as Told, Identity};
use p2ps::tracker::message::{Deal, Role as TrackerRole, Secret};
use p2ps::tracker::registry::{self, Registry};
use p2ps::tracker::ticket::Roles;
use p2ps::tracker::ticket::office::{Lives, TicketOffice};
use p2ps::tracker::ticket::seals::Rules;
use p2ps::wire::Message;

use crate::world::*;

const EPOCH: u64 = 1_795_262_400;
const REPORT: Duration = Duration::from_secs(2);
/// What nobody without a key may see, in every block of media.
const MARKER: &[u8] = b"what the viewers paid for";

fn listen(name: u16) -> SocketAddr {
    addr(name, Port::Listen)
}

fn sealed_source() -> Config {
    let mut config = config(Role::Source, 1, &[], 0);
    let source = config.swarms[0].source.as_mut().expect("a source");
    source.chunk_packets = 6;
    source.seal = Some([9; 16]);
    config
}

/// A table whose source seals, and where nobody ever sees the media go by.
fn sealed_world() -> World {
    let mut world = World::new();
    world.add(1, sealed_source());
    world.tamper = Box::new(|_, _, bytes| {
        let shows = bytes.windows(MARKER.len()).any(|seen| seen == MARKER);
        assert!(!shows, "media on the wire");
        true
    });
    world
}

fn one_key(number: u8) -> Vec<(EpochId, EpochKey)> {
    vec![(
        EpochId::at(u64::from(number), 0),
        EpochKey::from_bytes([number; 32]),
    )]
}

fn give_keys(world: &mut World, name: u16, keys: &[(EpochId, EpochKey)]) {
    let node = world.nodes.get_mut(&name).expect("a node");
    let with = keys.last().map(|(epoch, _)| *epoch);
    node.set_seal_keys(0, keys, with);
}

/// Ten milliseconds of media that tells where it stands, 1 Mbit/s.
fn feed(world: &mut World, sent: &mut Vec<u8>) {
    let mut block = MARKER.to_vec();
    let number = sent.len() as u64;
    block.extend(number.to_be_bytes());
    block.extend((0..1250 - block.len()).map(|at| (number as usize / 1250 + at) as u8));
    sent.extend_from_slice(&block);
    let now = world.now;
    let source = world.nodes.get_mut(&1).expect("the source");
    source.push_media(now, Bytes::from(block));
    world.run(10 * MILLI);
}

fn played(world: &World, name: u16) -> &[u8] {
    world.played.get(&name).map_or(&[], Vec::as_slice)
}

fn unopened(world: &World, name: u16) -> u64 {
    world.node(name).counters(world.now, 0).unopened_packets
}

fn told_of_seal(world: &World, name: u16) -> usize {
    let events = world.events.get(&name).into_iter().flatten();
    events
        .filter(|event| matches!(event, Event::Sealed { .. }))
        .count()
}

#[test]
fn media_is_for_those_with_the_key_and_relays_pass_it_on_unread() {
    let mut world = sealed_world();
    world.add(2, config(Role::Relay, 2, &[listen(1)], 0));
    for (name, keys) in [(3, one_key(1)), (4, Vec::new()), (5, one_key(2))] {
        world.add(name, config(Role::Peer, name, &[listen(2)], 200));
        give_keys(&mut world, name, &keys);
    }
    // The right number, the wrong key.
    let wrong = vec![(one_key(1)[0].0, EpochKey::from_bytes([7; 32]))];
    world.add(6, config(Role::Peer, 6, &[listen(2)], 200));
    give_keys(&mut world, 6, &wrong);
    world.run(SECOND);
    let mut sent = Vec::new();
    assert!(world.node(1).awaits_seal_key());
    feed(&mut world, &mut sent);
    sent.clear();
    give_keys(&mut world, 1, &one_key(1));
    assert!(
        !world.node(1).awaits_seal_key(),
        "what came before is not sent"
    );
    for _ in 0..300 {
        feed(&mut world, &mut sent);
    }
    world.end();
    assert_eq!(played(&world, 3), sent, "byte for byte");
    assert_eq!((unopened(&world, 3), told_of_seal(&world, 3)), (0, 0));
    let source = world.node(1).counters(world.now, 0);
    assert_eq!(
        source.media_bytes,
        sent.len() as u64,
        "the seal is no media"
    );
    for name in [4, 5, 6] {
        assert_eq!(played(&world, name), b"", "node {name}");
        let counters = world.node(name).counters(world.now, 0);
        assert!(counters.unopened_packets > 0);
        assert_eq!(counters.unopened_packets, counters.due_packets);
        assert_eq!(
            counters.played_packets, 0,
            "lost, as far as the player goes"
        );
    }
    // Told once, however many chunks; a key that does not fit is no missing one.
    assert_eq!([4, 5, 6].map(|name| told_of_seal(&world, name)), [1, 1, 0]);
}

#[test]
fn a_viewer_of_a_sealed_stream_begins_where_decoding_can() {
    let stream = Stream::transport(5, 1000);
    let mut world = sealed_world();
    give_keys(&mut world, 1, &one_key(1));
    world.add(2, config(Role::Relay, 2, &[listen(1)], 0));
    world.run(SECOND);
    let mut packets = 0;
    for turn in 0..400 {
        if turn == 333 {
            world.add(3, config(Role::Peer, 3, &[listen(2)], 200));
            give_keys(&mut world, 3, &one_key(1));
        }
        let mut media = Vec::new();
        stream.append(packets, 7, &mut media);
        packets += 7;
        let now = world.now;
        let source = world.nodes.get_mut(&1).expect("the source");
        source.push_media(now, Bytes::from(media));
        world.run(10 * MILLI);
    }
    world.end();
    let got = played(&world, 3);
    assert!(got.len() > 50_000, "{}", got.len());
    let start = packets * 188 - got.len() as u64;
    assert!(stream.matches(start, got), "the tail of the stream");
    // A table of programs is in its first chunk; the relay that chose this place has no key.
    let is_table = |packet: &[u8]| matches!(packet, [0x47, high, 0, ..] if high & 0x1f == 0);
    let tables: Vec<usize> = got
        .chunks(188)
        .enumerate()
        .filter(|(_, it)| is_table(it))
        .map(|(at, _)| at)
        .collect();
    assert!(tables[0] < 6, "begins at {start}, tables at {tables:?}");
    assert!(tables[1] > 6, "they are rare");
    assert!(start < 333 * 1316, "and before it came: {start}");
}

#[test]
fn media_that_looks_like_a_sealed_chunk_is_played_as_it_is() {
    let mut world = World::with_source();
    world.add(2, config(Role::Peer, 2, &[listen(1)], 200));
    world.run(SECOND);
    let mut sent = Vec::new();
    let looks_sealed = [&[0x8e, b'p', b'2', 1][..], &[5; 1312]].concat();
    assert!(is_sealed(&looks_sealed));
    for _ in 0..100 {
        sent.extend_from_slice(&looks_sealed);
        let now = world.now;
        let source = world.nodes.get_mut(&1).expect("the source");
        source.push_media(now, Bytes::from(looks_sealed.clone()));
        world.run(5 * MILLI);
    }
    world.end();
    assert_eq!(played(&world, 2), sent);
    assert_eq!(unopened(&world, 2), 0);
}

#[test]
fn sealed_chunks_are_no_longer_than_others() {
    let mut world = sealed_world();
    give_keys(&mut world, 1, &one_key(1));
    let viewer = Stranger::call(&mut world, 1, elsewhere(5), true);
    viewer.subscribe(&mut world, 7, 1);
    let mut sent = Vec::new();
    for _ in 0..20 {
        feed(&mut world, &mut sent);
    }
    let mut longest = 0;
    for message in viewer.take(&mut world) {
        if let Message::Data(data) = message {
            assert!(is_sealed(&data.payload));
            longest = longest.max(data.payload.len());
        }
    }
    assert_eq!(longest, 6 * 188 + OVERHEAD_BYTES);
    assert!(longest <= 1316);
}

// --- with a tracker ---------------------------------------------------------------------------------------------------

/// Nodes of a sealed channel, the tracker that they report to, and how the source was told to seal.
struct Channel {
    world: World,
    tracker: Registry,
    announcers: BTreeMap<u16, Announcer>,
    /// Bytes that had been sent when the source was told of another key.
    switched: Vec<usize>,
    with: Option<EpochId>,
    sent: Vec<u8>,
}

fn secret() -> Secret {
    Secret::new("s3cret").expect("printable")
}

impl Channel {
    fn new() -> Self {
        let issuer = SigningKey::from_seed_ed25519([50; 32]);
        let epoch = Epoch::new(EPOCH * 1_000_000);
        let lives = Lives::default();
        let office = TicketOffice::new(epoch, issuer, lives, Seed::from_number(3));
        let mut office = office.expect("an Ed25519 key");
        for (name, roles) in [
            ("studio", Roles::PUBLISH),
            ("rita", Roles::SERVE),
            ("ann", Roles::WATCH),
            ("bert", Roles::WATCH),
        ] {
            office.add_user(name, &secret(), roles).expect("a new user");
        }
        office.set_closed("film", true).expect("a name");
        office.set_seal_rules(Rules {
            patience: REPORT * 7 / 2,
            ..Rules::default()
        });
        let config = registry::Config::with_report_interval(REPORT);
        let mut tracker = Registry::new(config, Seed::from_number(4));
        tracker.set_office(office);
        let mut channel = Self {
            world: sealed_world(),
            tracker,
            announcers: BTreeMap::new(),
            switched: Vec::new(),
            with: None,
            sent: Vec::new(),
        };
        channel.announce(1, TrackerRole::Source, "studio");
        channel
    }

    fn swarm() -> SwarmId {
        key().swarm_id()
    }

    fn announce(&mut self, name: u16, role: TrackerRole, user: &str) {
        let identity = Identity {
            peer_id: format!("{name:016x}"),
            role,
            channel: Some("film".to_owned()),
            swarm_id: Some(Self::swarm().to_string()),
            title: None,
            description: None,
            port: 7850,
            addresses: Vec::new(),
            deal: Deal::default(),
            service: None,
        };
        let rng = Rng::new(Seed::from_number(u64::from(name)));
        let mut announcer = Announcer::new(self.world.now, identity, 1, rng);
        announcer.set_credentials(Credentials {
            key: PeerKey::from_bytes([name as u8; 32]),
            login: Some((user.to_owned(), secret())),
            ticket: None,
        });
        if role == TrackerRole::Source {
            announcer.set_sealing();
        }
        self.announcers.insert(name, announcer);
        self.report();
    }

    /// Everybody says to the tracker what is due, over loopback, and hears of keys.
    fn report(&mut self) {
        let now = self.world.now;
        for (&name, announcer) in &mut self.announcers {
            announcer.handle_timeout(now);
            while let Some((index, body)) = announcer.poll_request(now) {
                let from = SocketAddr::from(([127, 0, 0, name as u8], 4000));
                let reply = self.tracker.handle_body(now, from, body.as_bytes());
                let is_relay = body.contains(r#""role":"relay""#);
                assert!(
                    !(is_relay && reply.body.contains(r#""seal""#)),
                    "a key for a relay"
                );
                announcer.handle_response(now, index, Ok(reply.body));
            }
            while let Some(event) = announcer.poll_event() {
                if let Told::Seal(seal) = event {
                    if name == 1 && seal.seal_with != self.with {
                        self.with = seal.seal_with;
                        self.switched.push(self.sent.len());
                    }
                    let node = self.world.nodes.get_mut(&name).expect("a node");
                    node.set_seal_keys(0, &seal.keys, seal.seal_with);
                }
            }
        }
    }

    fn stream(&mut self, span: Duration) {
        for _ in 0..span.as_millis() / 10 {
            self.report();
            feed(&mut self.world, &mut self.sent);
        }
    }

    fn join(&mut self, name: u16, role: Role, user: &str) {
        let (parent, is_relay) = (if name == 2 { 1 } else { 2 }, role == Role::Relay);
        self.world
            .add(name, config(role, name, &[listen(parent)], 200));
        let role = if is_relay {
            TrackerRole::Relay
        } else {
            TrackerRole::Peer
        };
        self.announce(name, role, user);
        self.world.run(SECOND);
    }
}

#[test]
fn t_trib_4_who_is_revoked_reads_nothing_more_and_nobody_else_misses_a_byte() {
    let mut channel = Channel::new();
    assert_eq!(channel.switched, [0], "nobody has to be waited for");
    // The relay lets everybody in: it is in league with the one who is to be shut out.
    channel.join(2, Role::Relay, "rita");
    channel.join(3, Role::Peer, "ann");
    channel.join(4, Role::Peer, "bert");
    channel.stream(5 * SECOND);
    let office = channel.tracker.office().expect("it has one");
    let changes = office
        .revoke_user(channel.world.now, "bert")
        .expect("a user");
    assert!(
        changes.iter().any(|row| row.key == "seal.film"),
        "{changes:?}"
    );
    let revoked_at = channel.sent.len();
    channel.stream(20 * SECOND);
    channel.world.end();
    let &[_, switched] = &channel.switched[..] else {
        panic!("changed {:?}", channel.switched);
    };
    // Within three reports.
    let late = (switched - revoked_at) / 1250 * 10;
    assert!(late <= 3 * REPORT.as_millis() as usize, "{late} ms");
    assert_eq!(
        played(&channel.world, 3),
        channel.sent,
        "ann has every byte"
    );
    assert_eq!(unopened(&channel.world, 3), 0);
    let bert = played(&channel.world, 4);
    assert!(channel.sent.starts_with(bert));
    assert!(bert.len() > revoked_at / 2, "he watched until then");
    // What was in the open munro when the key changed is sealed with the new one or the old one, not after it.
    assert!(bert.len() <= switched, "{} of {switched}", bert.len());
    assert!(
        unopened(&channel.world, 4) > 1000,
        "he is still given the stream"
    );
    assert_eq!(told_of_seal(&channel.world, 4), 1);
}

#[test]
fn keys_do_not_travel_in_the_clear() {
    let mut channel = Channel::new();
    let answer = |channel: &mut Channel, from: &str, role: &str, user: &str, extra: &str| {
        let body = format!(
            r#"{{"PPSPTrackerProtocol":{{"version":1,"request_type":"CONNECT","transaction_id":"{from}-{}","peer_id":"{role}",
            "connect":{{"swarm_action":[{{"swarm_id":"{}","action":"JOIN","peer_mode":"LEECH"}}]}},
            "x_ext":{{"v":1,"role":"{role}","channel":"film","port":7850,"user":"{user}","token":"s3cret","key":"{}"{extra}}}}}}}"#,
            extra.len(),
            Channel::swarm(),
            PeerKey::from_bytes([5; 32]),
        );
        let from = format!("{from}:4000").parse().expect("an address");
        let now = channel.world.now;
        channel.tracker.handle_body(now, from, body.as_bytes()).body
    };
    let near = answer(&mut channel, "127.0.0.1", "peer", "ann", "");
    assert!(near.contains(r#""keys""#), "{near}");
    let far = answer(&mut channel, "192.0.2.7", "peer", "ann", "");
    assert!(
        !far.contains(r#""keys""#) && far.contains("channel_ticket"),
        "{far}"
    );
    let source = answer(
        &mut channel,
        "192.0.2.7",
        "source",
        "studio",
        r#","seal":true"#,
    );
    assert!(source.contains("over https, or on one host"), "{source}");
    // With TLS the distance does not matter.
    channel.tracker.office().expect("it has one").set_private();
    let far = answer(&mut channel, "192.0.2.8", "peer", "ann", "");
    assert!(far.contains(r#""keys""#), "{far}");
    // A source cannot seal what everybody may watch.
    let office = channel.tracker.office().expect("it has one");
    office.set_closed("film", false).expect("a name");
    let source = answer(
        &mut channel,
        "127.0.0.2",
        "source",
        "studio",
        r#","seal":true"#,
    );
    assert!(
        source.contains("only closed channels are sealed"),
        "{source}"
    );
    assert!(!answer(&mut channel, "127.0.0.3", "peer", "ann", "").contains(r#""keys""#));
}
