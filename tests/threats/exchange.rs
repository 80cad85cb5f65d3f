//! Peer exchange by certificates: whom neighbours name, and who is believed (RFC 7574 §3.10, §8.13).

use std::collections::BTreeSet;
use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;

use bytes::Bytes;
use p2ps::ids::{PeerKey, SwarmId};
use p2ps::integrity::key::SigningKey;
use p2ps::integrity::membership::{self, CERTIFICATE_BYTES_MAX};
use p2ps::node::{Auth, Config, Event, MEMBERS_MAX, Port, Role};
use p2ps::rng::{Rng, Seed};
use p2ps::time::Epoch;
use p2ps::tracker::announce::{Announcer, Event as Told, Identity};
use p2ps::tracker::message::{Deal, Role as TrackerRole};
use p2ps::tracker::registry::{self, Registry};
use p2ps::tracker::ticket::office::{Lives, TicketOffice};
use p2ps::wire::Message;

use crate::world::*;

/// Unix seconds when a world begins.
const BEGIN: u64 = 1_795_262_401;

fn listen(name: u16) -> SocketAddr {
    addr(name, Port::Listen)
}

fn tracker_key() -> SigningKey {
    SigningKey::from_seed_ed25519([50; 32])
}

fn issuers() -> Vec<PeerKey> {
    tracker_key().peer_key().into_iter().collect()
}

/// A node that knows whose word to take.
fn knowing(role: Role, name: u16, parents: &[SocketAddr]) -> Config {
    Config {
        auth: Some(Auth {
            key: SigningKey::from_seed_ed25519([100 + name as u8; 32]),
            friends: BTreeSet::new(),
            issuers: issuers(),
            closed: false,
        }),
        ..config(role, name, parents, 500)
    }
}

fn certificate(issuer: &SigningKey, at: SocketAddr, swarm_id: &SwarmId, from_s: u64) -> Bytes {
    membership::issue(issuer, None, at, swarm_id, from_s).expect("an Ed25519 key")
}

fn genuine(at: SocketAddr) -> Bytes {
    certificate(&tracker_key(), at, &key().swarm_id(), BEGIN)
}

fn certify(world: &mut World, name: u16) {
    let now = world.now;
    let node = world.nodes.get_mut(&name).expect("a node");
    node.set_certificate(now, 0, genuine(listen(name)));
}

/// What a stranger is told when it asks.
fn told(world: &mut World, stranger: &Stranger) -> Vec<SocketAddr> {
    stranger.take(world);
    stranger.send(world, &[Message::PexRequest]);
    let answers = stranger
        .take(world)
        .into_iter()
        .filter_map(|message| match message {
            Message::PexCertificate(certificate) => Some(membership::check(
                &certificate,
                &issuers(),
                &key().swarm_id(),
                BEGIN + 60,
            )),
            Message::PexV4(_) | Message::PexV6(_) => panic!("an address without a certificate"),
            _ => None,
        });
    answers.collect::<Result<_, _>>().expect("genuine")
}

/// A stranger that node 2 has just asked for others.
fn asked(world: &mut World, at: SocketAddr) -> Stranger {
    let stranger = Stranger::call(world, 2, at, true);
    for _ in 0..40 {
        world.run(100 * MILLI);
        if stranger.take(world).contains(&Message::PexRequest) {
            return stranger;
        }
    }
    panic!("it asks nobody");
}

fn known(world: &World) -> (usize, u64) {
    let node = world.node(2);
    (node.members_known(0), node.stats().refused_certificates)
}

#[test]
fn pp_req_3_5_members_are_told_by_neighbours_who_heard_them_lately() {
    let mut world = World::new();
    world.add(1, knowing(Role::Source, 1, &[]));
    for (name, parent) in [(2, 1), (3, 2), (4, 2), (5, 2)] {
        world.add(name, knowing(Role::Relay, name, &[listen(parent)]));
    }
    for name in 1..=4 {
        certify(&mut world, name);
    }
    world.run(10 * SECOND);
    // Its own first, then its neighbours'; node 5 has no certificate, so nobody speaks of it.
    let guest = Stranger::call(&mut world, 2, SocketAddr::from(([10, 0, 9, 9], 9000)), true);
    let answer = told(&mut world, &guest);
    assert_eq!(answer.first(), Some(&listen(2)));
    let all: BTreeSet<SocketAddr> = answer.iter().copied().collect();
    assert_eq!(all, [1, 2, 3, 4].map(listen).into(), "{answer:?}");
    // Two questions in a row, and then silence for a while.
    assert_eq!(told(&mut world, &guest).len(), 4);
    assert!(told(&mut world, &guest).is_empty());
    // Addresses inside a network are not told outside of it.
    let outside = SocketAddr::from(([198, 51, 100, 7], 9000));
    let outside = Stranger::call(&mut world, 2, outside, true);
    assert!(told(&mut world, &outside).is_empty());
    // Each knows the others, and nobody himself or his own neighbours.
    assert_eq!(world.node(3).members_known(0), 2, "nodes 1 and 4");
    // Who falls silent is named no more.
    world.nodes.remove(&4);
    world.run(70 * SECOND);
    let later = Stranger::call(&mut world, 2, SocketAddr::from(([10, 0, 9, 8], 9000)), true);
    let answer = told(&mut world, &later);
    assert!(
        answer.contains(&listen(3)) && !answer.contains(&listen(4)),
        "{answer:?}"
    );
}

#[test]
fn pp_req_4_what_proves_nothing_is_not_believed_and_costs_nobody_his_place() {
    let mut world = World::new();
    world.add(2, knowing(Role::Relay, 2, &[]));
    let here = SocketAddr::from(([10, 0, 9, 9], 9000));
    let there = listen(77);
    let stranger = Stranger::call(&mut world, 2, here, true);
    let other_swarm = other_key().swarm_id();
    let forged = SigningKey::from_seed_ed25519([51; 32]);
    // Nobody asked.
    stranger.send(&mut world, &[Message::PexCertificate(genuine(there))]);
    assert_eq!(known(&world), (0, 1));
    let ours = key().swarm_id();
    for (number, (certificate, is_taken)) in [
        (certificate(&forged, there, &ours, BEGIN), false),
        (
            certificate(&tracker_key(), there, &ours, BEGIN - 400),
            false,
        ),
        (
            certificate(&tracker_key(), there, &ours, BEGIN + 400),
            false,
        ),
        (
            certificate(&tracker_key(), there, &other_swarm, BEGIN),
            false,
        ),
        (Bytes::from_static(b"nothing of the kind"), false),
        (Bytes::from(vec![0x30; CERTIFICATE_BYTES_MAX + 1]), false),
        // A place where nobody can be called.
        (genuine(SocketAddr::from(([10, 0, 0, 77], 0))), false),
        (genuine(SocketAddr::from(([127, 0, 0, 1], 7850))), false),
        (genuine(SocketAddr::from(([0, 0, 0, 0], 7850))), false),
        (genuine(there), true),
    ]
    .into_iter()
    .enumerate()
    {
        let at = SocketAddr::from(([10, 0, 9, 100 + number as u8], 9000));
        let stranger = asked(&mut world, at);
        let before = known(&world);
        stranger.send(&mut world, &[Message::PexCertificate(certificate)]);
        let (members, refused) = known(&world);
        let expected = if is_taken { (1, 0) } else { (0, 1) };
        assert_eq!(
            (members - before.0, refused - before.1),
            expected,
            "case {number}"
        );
        assert!(stranger.is_known(&world), "case {number}");
        assert_eq!(world.violations(2, at), (0, false));
    }
    // Four in one answer, and what comes late is none.
    let stranger = asked(&mut world, SocketAddr::from(([10, 0, 9, 200], 9000)));
    for number in 0..6 {
        let at = listen(100 + number);
        stranger.send(&mut world, &[Message::PexCertificate(genuine(at))]);
    }
    assert_eq!(known(&world).0, 1 + 4);
    let late = asked(&mut world, SocketAddr::from(([10, 0, 9, 201], 9000)));
    world.run(6 * SECOND);
    late.send(&mut world, &[Message::PexCertificate(genuine(listen(120)))]);
    assert_eq!(known(&world).0, 1 + 4);
}

#[test]
fn so_many_members_are_kept_and_no_more() {
    let mut world = World::new();
    world.add(2, knowing(Role::Relay, 2, &[]));
    for number in 0..12 {
        let stranger = asked(&mut world, SocketAddr::from(([10, 0, 9, number], 9000)));
        for place in 0..4 {
            let at = SocketAddr::from(([10, 0, 8, number * 4 + place], 7850));
            stranger.send(&mut world, &[Message::PexCertificate(genuine(at))]);
        }
    }
    assert_eq!(known(&world).0, MEMBERS_MAX);
}

#[test]
fn addresses_without_certificates_are_tried_inside_one_network_alone() {
    for (from, named, is_called) in [
        ([10, 0, 9, 9], [10, 0, 8, 8], true),
        ([198, 51, 100, 7], [10, 0, 8, 8], false),
        ([198, 51, 100, 7], [203, 0, 113, 8], false),
        ([10, 0, 9, 9], [203, 0, 113, 8], false),
    ] {
        let mut world = World::new();
        world.add(2, knowing(Role::Relay, 2, &[]));
        let named = SocketAddrV4::new(named.into(), 7850);
        let unasked = Stranger::call(&mut world, 2, SocketAddr::from((from, 9001)), true);
        unasked.send(&mut world, &[Message::PexV4(named)]);
        let stranger = asked(&mut world, SocketAddr::from((from, 9000)));
        assert!(world.take(named.into()).is_empty(), "nobody asked for it");
        stranger.send(&mut world, &[Message::PexV4(named)]);
        world.run(SECOND);
        let calls = world.take(named.into());
        assert_eq!(!calls.is_empty(), is_called, "{named} named by {from:?}");
    }
}

/// A tracker that says who is where, and the announcers of nodes 1 to 4.
fn announced(world: &mut World) {
    let epoch = Epoch::new((BEGIN - 1) * 1_000_000);
    let office = TicketOffice::new(epoch, tracker_key(), Lives::default(), Seed::from_number(3));
    let mut tracker = Registry::new(registry::Config::default(), Seed::from_number(4));
    tracker.set_office(office.expect("an Ed25519 key"));
    for (name, role) in [
        (1, TrackerRole::Source),
        (2, TrackerRole::Relay),
        (3, TrackerRole::Relay),
        (4, TrackerRole::Peer),
    ] {
        let identity = Identity {
            peer_id: format!("{name:016x}"),
            role,
            channel: Some("film".to_owned()),
            swarm_id: Some(key().swarm_id().to_string()),
            title: None,
            description: None,
            port: 7850,
            addresses: Vec::new(),
            deal: Deal::default(),
            service: None,
        };
        let rng = Rng::new(Seed::from_number(u64::from(name)));
        let mut announcer = Announcer::new(world.now, identity, 1, rng);
        while let Some((index, body)) = announcer.poll_request(world.now) {
            let from = SocketAddr::from((listen(name).ip(), 4000));
            let reply = tracker.handle_body(world.now, from, body.as_bytes());
            announcer.handle_response(world.now, index, Ok(reply.body));
        }
        let mut certificates = 0;
        while let Some(event) = announcer.poll_event() {
            let node = world.nodes.get_mut(&name).expect("a node");
            match event {
                Told::Auth(auth) => node.set_closed(world.now, 0, auth.closed, &auth.issuers),
                Told::Certificate(certificate) => {
                    certificates += 1;
                    node.set_certificate(world.now, 0, certificate);
                }
                _ => {}
            }
        }
        assert_eq!(certificates, 1, "node {name}");
    }
}

#[test]
fn a_peer_whose_tracker_is_gone_finds_a_parent_through_its_neighbours() {
    let mut world = World::with_source();
    world.add(2, config(Role::Relay, 2, &[listen(1)], 0));
    world.add(3, config(Role::Relay, 3, &[listen(2)], 0));
    // It was told of one parent, and of nobody else.
    world.add(4, config(Role::Peer, 4, &[], 500));
    let now = world.now;
    let peer = world.nodes.get_mut(&4).expect("the peer");
    peer.set_candidates(now, 0, &[listen(2)]);
    announced(&mut world);
    let mut sent = Vec::new();
    world.stream(&mut sent, 4 * SECOND);
    assert_eq!(world.node(4).members_known(0), 2, "source and relay");
    // Nobody calls on what neighbours say while the tracker's own parent is there.
    let told_of = |world: &World| -> BTreeSet<SocketAddr> {
        let events = world.events.get(&4).into_iter().flatten();
        let parents = events.filter_map(|event| match event {
            Event::ParentChanged { addr, .. } => Some(*addr),
            _ => None,
        });
        parents.collect()
    };
    assert_eq!(told_of(&world), [listen(2)].into());
    world.nodes.remove(&2);
    world.stream(&mut sent, Duration::from_secs(8));
    world.end();
    let parents = told_of(&world);
    assert!(
        parents.contains(&listen(1)) || parents.contains(&listen(3)),
        "{parents:?}"
    );
    let played = &world.played[&4];
    assert!(
        sent.ends_with(&played[played.len() - 3_000_000..]),
        "and goes on from there"
    );
}
