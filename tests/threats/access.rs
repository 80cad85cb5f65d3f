//! Closed channels: keys, friends and tickets (T-TRIB-4, S-45).

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use p2ps::ids::{PeerKey, SwarmId};
use p2ps::integrity::key::SigningKey;
use p2ps::node::{Auth, Config, Event, Port, Role};
use p2ps::peer::auth::{Connection, Exchange, Identity};
use p2ps::tracker::ticket::{Claims, Holder, Revocation, Roles, TicketError};
use p2ps::wire::{AuthResponse, Extension, Message, Subscribe, SubscribeReply};

use crate::world::*;

/// Unix seconds when a world begins.
const BEGIN: u64 = 1_795_262_401;

fn listen(name: u16) -> SocketAddr {
    addr(name, Port::Listen)
}

fn own_key(name: u16) -> SigningKey {
    SigningKey::from_seed_ed25519([100 + name as u8; 32])
}

fn public(key: &SigningKey) -> PeerKey {
    key.peer_key().expect("an Ed25519 key")
}

fn issuer() -> SigningKey {
    SigningKey::from_seed_ed25519([50; 32])
}

fn auth(name: u16, closed: bool) -> Auth {
    Auth {
        key: own_key(name),
        friends: BTreeSet::new(),
        issuers: vec![public(&issuer())],
        closed,
    }
}

/// A node with a key of its own.
fn keyed(role: Role, name: u16, parents: &[SocketAddr], closed: bool) -> Config {
    Config {
        auth: Some(auth(name, closed)),
        ..config(role, name, parents, 500)
    }
}

/// What lets this node watch, for ten minutes.
fn claims(name: u16) -> Claims {
    Claims {
        swarm_id: Some(key().swarm_id()),
        roles: Roles::WATCH,
        holder: Holder::Peer,
        not_before: BEGIN,
        not_after: BEGIN + 600,
        nonce: [name as u8; 16],
        key: public(&own_key(name)),
        user: format!("user-{name}"),
    }
}

fn signed(claims: &Claims) -> Bytes {
    claims.sign(&issuer()).expect("claims that fit")
}

/// Media datagrams that went to each address.
type Media = Rc<RefCell<BTreeMap<SocketAddr, usize>>>;

/// A source that gives its channel to friends and holders of tickets only, and what leaves it.
fn closed_source() -> (World, Media) {
    let mut world = World::new();
    world.add(1, keyed(Role::Source, 1, &[], true));
    let media: Media = Rc::default();
    count_media(&mut world, &media);
    (world, media)
}

fn count_media(world: &mut World, media: &Media) {
    let media = Rc::clone(media);
    world.tamper = Box::new(move |from, to, bytes| {
        if from.port() == listen(1).port() && bytes.get(4) == Some(&1) {
            *media.borrow_mut().entry(to).or_default() += 1;
        }
        true
    });
}

fn media_to(media: &Media, name: u16) -> usize {
    media
        .borrow()
        .get(&addr(name, Port::Dial))
        .copied()
        .unwrap_or(0)
}

fn give(world: &mut World, name: u16, ticket: Bytes) {
    let now = world.now;
    let node = world.nodes.get_mut(&name).expect("a node");
    node.set_ticket(now, 0, ticket);
    world.settle();
}

fn refusals(world: &World, name: u16) -> Vec<TicketError> {
    let events = world.events.get(&name).into_iter().flatten();
    let refused = events.filter_map(|event| match event {
        Event::ChildRefused { why, .. } => Some(*why),
        _ => None,
    });
    refused.collect()
}

#[test]
fn t_trib_4_a_friend_gets_the_privileged_call_and_a_stranger_does_not() {
    let mut world = World::with_source();
    let mut relay = keyed(Role::Relay, 2, &[listen(1)], true);
    if let Some(auth) = &mut relay.auth {
        auth.friends.insert(public(&own_key(3)));
    }
    world.add(2, relay);
    let media: Media = Rc::default();
    count_media(&mut world, &media);
    world.run(SECOND);
    world.add(3, keyed(Role::Peer, 3, &[listen(2)], false));
    world.add(4, keyed(Role::Peer, 4, &[listen(2)], false));
    world.add(5, config(Role::Peer, 5, &[listen(2)], 500));
    let mut plain = config(Role::Peer, 6, &[listen(2)], 500);
    plain.extensions = false;
    world.add(6, plain);
    let mut sent = Vec::new();
    world.stream(&mut sent, 4 * SECOND);
    world.end();
    world.assert_played_to_the_end(3, &sent);
    for stranger in [4, 5, 6] {
        assert_eq!(media_to(&media, stranger), 0, "node {stranger}");
        assert!(!world.played.contains_key(&stranger));
    }
    for stranger in [4, 5] {
        let events = world.events.get(&stranger).into_iter().flatten();
        let refused = events
            .filter(|event| {
                matches!(
                    event,
                    Event::ParentRefused {
                        reason: SubscribeReply::AUTH,
                        ..
                    }
                )
            })
            .count();
        assert!(
            (1..=3).contains(&refused),
            "told so, and not again and again: {refused}"
        );
    }
    // Not a friend any more.
    let before = media_to(&media, 3);
    let now = world.now;
    let relay = world.nodes.get_mut(&2).expect("the relay");
    relay.set_friends(now, BTreeSet::new());
    world.stream(&mut sent, SECOND);
    assert_eq!(media_to(&media, 3), before);
}

#[test]
fn s_45_only_the_right_ticket_opens_a_closed_channel() {
    let stranger = SigningKey::from_seed_ed25519([51; 32]);
    let good = signed(&claims(2));
    let with = |change: &dyn Fn(&mut Claims)| {
        let mut claims = claims(2);
        change(&mut claims);
        signed(&claims)
    };
    let flipped = |at: usize| {
        let mut bytes = good.to_vec();
        bytes[at] ^= 1;
        Bytes::from(bytes)
    };
    let role = TicketError::Role {
        allowed: Roles::WATCH,
        needed: Roles::SERVE,
    };
    let cases: Vec<(&str, Role, Bytes, Option<TicketError>)> = vec![
        ("good", Role::Peer, good.clone(), None),
        (
            "expired",
            Role::Peer,
            with(&|it| (it.not_before, it.not_after) = (BEGIN - 700, BEGIN - 100)),
            Some(TicketError::Expired(100)),
        ),
        (
            "other channel",
            Role::Peer,
            with(&|it| it.swarm_id = Some(other_key().swarm_id())),
            Some(TicketError::Channel),
        ),
        (
            "for trackers",
            Role::Peer,
            with(&|it| it.swarm_id = None),
            Some(TicketError::Kind {
                found: p2ps::tracker::ticket::Kind::User,
            }),
        ),
        (
            "other key",
            Role::Peer,
            with(&|it| it.key = public(&own_key(3))),
            Some(TicketError::Key),
        ),
        (
            "cut",
            Role::Peer,
            good.slice(..good.len() - 1),
            Some(TicketError::Damaged),
        ),
        (
            "flipped in its times",
            Role::Peer,
            flipped(19),
            Some(TicketError::Signature),
        ),
        (
            "flipped in its signature",
            Role::Peer,
            flipped(good.len() - 1),
            Some(TicketError::Signature),
        ),
        (
            "of another tracker",
            Role::Peer,
            claims(2).sign(&stranger).expect("claims that fit"),
            Some(TicketError::Issuer),
        ),
        ("watching as a relay", Role::Relay, good.clone(), Some(role)),
        (
            "serving as a relay",
            Role::Relay,
            with(&|it| it.roles = Roles::SERVE),
            None,
        ),
    ];
    for (name, role, ticket, expected) in cases {
        let (mut world, media) = closed_source();
        world.add(2, keyed(role, 2, &[listen(1)], false));
        give(&mut world, 2, ticket);
        let mut sent = Vec::new();
        world.stream(&mut sent, SECOND);
        match expected {
            None => {
                assert!(media_to(&media, 2) > 500, "{name}: let in");
                assert_eq!(refusals(&world, 1), [], "{name}");
            }
            Some(why) => {
                assert_eq!(media_to(&media, 2), 0, "{name}: kept out");
                assert_eq!(refusals(&world, 1), [why], "{name}");
            }
        }
    }
}

/// A stranger with a key who speaks the exchange by hand.
struct Caller {
    stranger: Stranger,
    identity: Identity,
    exchange: Exchange,
}

impl Caller {
    fn new(world: &mut World, seed: u8, from: u32) -> Self {
        let signing = SigningKey::from_seed_ed25519([seed; 32]);
        Self {
            stranger: Stranger::call(world, 1, elsewhere(from), true),
            identity: Identity::new(signing).expect("an Ed25519 key"),
            exchange: Exchange::default(),
        }
    }

    /// Answers the challenge that is in its mail.
    fn respond(&mut self, world: &mut World) -> AuthResponse {
        let challenge = self
            .stranger
            .take(world)
            .into_iter()
            .find_map(|message| match message {
                Message::Extension(Extension::AuthChallenge(challenge)) => Some(challenge),
                _ => None,
            })
            .expect("a challenge");
        let swarm: SwarmId = key().swarm_id();
        let connection = Connection {
            swarm: &swarm,
            ours: self.stranger.ours,
            theirs: self.stranger.theirs,
        };
        self.exchange
            .answer(&self.identity, &connection, &challenge, || [1; 32])
            .expect("a fair question")
    }

    fn ticket(&self) -> Bytes {
        let claims = Claims {
            key: self.identity.key(),
            ..claims(9)
        };
        signed(&claims)
    }
}

fn is_media(message: &Message) -> bool {
    matches!(message, Message::Data(_))
}

fn proof_and_ticket(response: AuthResponse, ticket: Bytes) -> [Message; 2] {
    [
        Message::Extension(Extension::AuthResponse(response)),
        Message::Extension(Extension::Ticket(ticket)),
    ]
}

#[test]
fn s_45_a_good_ticket_costs_one_round_trip() {
    let (mut world, _) = closed_source();
    let mut sent = Vec::new();
    world.stream(&mut sent, 100 * MILLI);
    let mut caller = Caller::new(&mut world, 60, 1);
    // There: who called is asked for a proof without having asked for anything. The subscription crosses it.
    let stranger = caller.stranger;
    stranger.subscribe(&mut world, 1, Subscribe::OLDEST);
    let response = caller.respond(&mut world);
    assert!(!stranger.take(&mut world).iter().any(is_media));
    // And back: one datagram with proof and ticket, and media follows at once.
    let ticket = caller.ticket();
    stranger.send(&mut world, &proof_and_ticket(response, ticket));
    let answer = stranger.take(&mut world);
    assert!(answer.iter().any(is_media), "{answer:?}");
    assert!(answer.iter().any(|message| matches!(
        message,
        Message::Extension(Extension::SubscribeReply(reply)) if reply.reason == SubscribeReply::OK
    )));
    assert!(
        answer
            .iter()
            .any(|message| matches!(message, Message::Extension(Extension::AuthProof(_)))),
        "the node proves its key as well"
    );
}

#[test]
fn s_45_a_ticket_is_worth_nothing_to_a_thief() {
    let (mut world, _) = closed_source();
    let mut sent = Vec::new();
    world.stream(&mut sent, 100 * MILLI);
    let mut owner = Caller::new(&mut world, 60, 1);
    owner.stranger.subscribe(&mut world, 1, Subscribe::OLDEST);
    let response = owner.respond(&mut world);
    let ticket = owner.ticket();
    let words = proof_and_ticket(response, ticket.clone());
    owner.stranger.send(&mut world, &words);
    assert!(owner.stranger.take(&mut world).iter().any(is_media));

    // All he said, on a channel of the thief.
    let thief = Caller::new(&mut world, 61, 2);
    thief.stranger.subscribe(&mut world, 1, Subscribe::OLDEST);
    thief.stranger.send(&mut world, &words);
    world.stream(&mut sent, 200 * MILLI);
    assert!(!thief.stranger.take(&mut world).iter().any(is_media));

    // The ticket, under the thief's own key.
    let mut thief = Caller::new(&mut world, 62, 3);
    thief.stranger.subscribe(&mut world, 1, Subscribe::OLDEST);
    let own = thief.respond(&mut world);
    thief
        .stranger
        .send(&mut world, &proof_and_ticket(own, ticket.clone()));
    world.stream(&mut sent, 200 * MILLI);
    assert!(!thief.stranger.take(&mut world).iter().any(is_media));
    assert_eq!(refusals(&world, 1).last(), Some(&TicketError::Key));

    // From another address, on the channel of the owner.
    let elsewhere = elsewhere(4);
    let fetch = Message::Extension(Extension::Fetch {
        range: range(0, 31),
        flags: 0,
    });
    owner.stranger.send_from(&mut world, elsewhere, &[fetch]);
    assert_eq!(world.take(elsewhere).len(), 0);

    // A guess instead of a signature costs the channel at the third try.
    let mut liar = Caller::new(&mut world, 63, 5);
    let mut guess = liar.respond(&mut world);
    guess.signature = [7; 64];
    for _ in 0..3 {
        let ticket = liar.ticket();
        liar.stranger
            .send(&mut world, &proof_and_ticket(guess, ticket));
    }
    assert_eq!(world.violations(1, liar.stranger.addr), (3, true));
}

#[test]
fn s_45_nothing_but_words_for_those_without_a_ticket() {
    let (mut world, _) = closed_source();
    let mut sent = Vec::new();
    world.stream(&mut sent, 200 * MILLI);
    for (number, extensions) in [(1, true), (2, false)] {
        let stranger = Stranger::call(&mut world, 1, elsewhere(number), extensions);
        let mut asks = vec![Message::Request(range(0, 63)), Message::Have(range(0, 0))];
        if extensions {
            asks.push(Message::Extension(Extension::Fetch {
                range: range(0, 63),
                flags: Extension::HOLDS_HASHES,
            }));
            asks.push(Message::Extension(Extension::NeedMunro(
                range(0, 0).first(),
            )));
            asks.push(Message::Extension(Extension::Ticket(signed(&claims(9)))));
        }
        for _ in 0..5 {
            stranger.send(&mut world, &asks);
            world.stream(&mut sent, 100 * MILLI);
        }
        let got = stranger.take(&mut world);
        assert!(
            !got.iter().any(|message| is_media(message)
                || matches!(message, Message::Extension(Extension::Munro(_)))
                || matches!(message, Message::SignedIntegrity { .. })),
            "{got:?}"
        );
    }
    assert!(world.node(1).stats().unadmitted_requests > 10);
}

#[test]
fn s_45_renewals_are_silent_and_what_is_not_renewed_ends() {
    let (mut world, media) = closed_source();
    let short = |name, from: u64| {
        signed(&Claims {
            not_before: BEGIN + from,
            not_after: BEGIN + from + 4,
            ..claims(name)
        })
    };
    for name in [2, 3] {
        world.add(name, keyed(Role::Peer, name, &[listen(1)], false));
        give(&mut world, name, short(name, 0));
    }
    let mut sent = Vec::new();
    for second in 1..10 {
        world.stream(&mut sent, SECOND);
        if second % 2 == 0 {
            give(&mut world, 2, short(2, second));
        }
        if second == 3 {
            assert!(media_to(&media, 3) > 1000, "in until it ends");
        }
        if second == 4 {
            world.stream(&mut sent, 200 * MILLI);
            media.borrow_mut().remove(&addr(3, Port::Dial));
        }
    }
    assert_eq!(media_to(&media, 3), 0, "ended to the second");
    assert_eq!(refusals(&world, 1).first(), Some(&TicketError::Expired(0)));
    world.end();
    world.assert_played_to_the_end(2, &sent);
    assert!(
        world
            .events
            .get(&2)
            .into_iter()
            .flatten()
            .all(|event| !matches!(
                event,
                Event::ParentLost {
                    reason: p2ps::node::Loss::Silent | p2ps::node::Loss::Starved,
                    ..
                } | Event::ParentRefused { .. }
            )),
        "{:?}",
        world.events.get(&2)
    );
    // A new one opens again, without waiting for the next try.
    let mut more = Vec::new();
    let from = (world.now - p2ps::time::Instant::ZERO).as_secs() - 1;
    give(&mut world, 3, short(3, from));
    world.stream(&mut more, 300 * MILLI);
    assert!(media_to(&media, 3) > 100);
}

#[test]
fn s_45_whoever_is_revoked_is_cut_off_at_once() {
    let (mut world, media) = closed_source();
    for name in [2, 3] {
        world.add(name, keyed(Role::Peer, name, &[listen(1)], false));
        give(&mut world, name, signed(&claims(name)));
    }
    let mut sent = Vec::new();
    world.stream(&mut sent, SECOND);
    let before = (media_to(&media, 2), media_to(&media, 3));
    assert!(before.0 > 500 && before.1 > 500);
    let now = world.now;
    let revocation = Revocation {
        user: "user-2".to_owned(),
        at: BEGIN + 1,
    };
    let source = world.nodes.get_mut(&1).expect("the source");
    source.revoke(now, &[revocation]);
    world.settle();
    assert_eq!(refusals(&world, 1), [TicketError::Revoked]);
    world.stream(&mut sent, 2 * SECOND);
    assert_eq!(media_to(&media, 2), before.0, "not one datagram more");
    assert!(media_to(&media, 3) > before.1 + 1000, "the other goes on");
    // The old ticket opens nothing more, a later one does.
    give(&mut world, 2, signed(&claims(2)));
    world.stream(&mut sent, 300 * MILLI);
    assert_eq!(media_to(&media, 2), before.0);
    let later = Claims {
        not_before: BEGIN + 3,
        ..claims(2)
    };
    give(&mut world, 2, signed(&later));
    world.stream(&mut sent, 300 * MILLI);
    assert!(media_to(&media, 2) > before.0 + 100);
}

#[test]
fn s_45_a_lost_challenge_answer_or_proof_is_made_good() {
    // The subtypes of which the first one is lost.
    for lost in [74, 75, 76, 66] {
        let (mut world, _) = closed_source();
        let mut is_lost = false;
        world.tamper = Box::new(move |_, _, bytes| {
            let hit = !is_lost && bytes.get(4) == Some(&0xf0) && bytes.get(7) == Some(&lost);
            is_lost |= hit;
            !hit
        });
        world.add(2, keyed(Role::Peer, 2, &[listen(1)], false));
        give(&mut world, 2, signed(&claims(2)));
        let mut sent = Vec::new();
        world.stream(&mut sent, 3 * SECOND);
        world.end();
        world.assert_played_to_the_end(2, &sent);
        let refused = world.events.get(&2).into_iter().flatten();
        let refused = refused.filter(|event| matches!(event, Event::ParentRefused { .. }));
        assert_eq!(refused.count(), 0, "{lost}");
    }
}

#[test]
fn s_45_a_channel_closed_while_it_runs_keeps_those_with_tickets() {
    let mut world = World::new();
    world.add(1, keyed(Role::Source, 1, &[], false));
    let media: Media = Rc::default();
    count_media(&mut world, &media);
    for name in [2, 3] {
        world.add(name, keyed(Role::Peer, name, &[listen(1)], false));
    }
    give(&mut world, 2, signed(&claims(2)));
    let mut sent = Vec::new();
    world.stream(&mut sent, SECOND);
    assert!(media_to(&media, 3) > 500, "open for all");
    let now = world.now;
    let source = world.nodes.get_mut(&1).expect("the source");
    source.set_closed(now, 0, true, &[public(&issuer())]);
    world.settle();
    world.stream(&mut sent, 3 * SECOND + 200 * MILLI);
    let before = media_to(&media, 3);
    world.stream(&mut sent, 2 * SECOND);
    assert_eq!(media_to(&media, 3), before, "no ticket, no media");
    world.end();
    world.assert_played_to_the_end(2, &sent);
}

#[test]
fn many_who_prove_nothing_leave_nothing_behind() {
    let (mut world, _) = closed_source();
    for number in 0..50 {
        let stranger = Stranger::call(&mut world, 1, elsewhere(number), true);
        stranger.subscribe(&mut world, 1, Subscribe::LIVE_EDGE);
        let asked = stranger.take(&mut world);
        assert!(
            asked
                .iter()
                .any(|message| matches!(message, Message::Extension(Extension::AuthChallenge(_))))
        );
    }
    assert_eq!(world.node(1).doors(), 50);
    world.run(Duration::from_secs(6));
    assert_eq!(world.node(1).doors(), 0);
}
