//! Closed channels: media goes only to neighbours that have proven their key and may have it.
//!
//! Whoever asks is challenged; it answers with its proof and its ticket in one datagram, so that a good ticket costs one
//! round trip more than none (S-45). A subscription waits that long. What a key may do is looked at again whenever it
//! asks for something, and ten times a second for those that are pushed to.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use super::push::send;
use super::{Event, Node, Port};
use crate::chunk::Parts;
use crate::ids::{ChannelId, PeerKey};
use crate::integrity::key::SigningKey;
use crate::peer::auth::{AuthError, Connection, Exchange, Identity};
use crate::peer::channel::Channel;
use crate::peer::served::Allowance;
use crate::peer::violation::Violation;
use crate::time::Instant;
use crate::tracker::ticket::{Demand, Revocation, Revocations, Roles, Ticket, TicketError};
use crate::wire::{
    AuthChallenge, AuthProof, AuthResponse, Extension, Mask, Subscribe, SubscribeReply,
};

/// A challenge without an answer is not sent again sooner.
const CHALLENGE_AGAIN: Duration = Duration::from_millis(50);
/// Who does not answer a challenge for so long is told no.
const ANSWER_SPAN: Duration = Duration::from_secs(1);
/// Who was here when the channel was closed gets so long to show a ticket.
const GRACE: Duration = Duration::from_secs(3);
/// Signatures made or checked for one neighbour.
const SIGNATURES: (u32, Duration) = (6, Duration::from_millis(500));
/// When to ask again after a refusal.
const RETRY: Duration = Duration::from_secs(5);

/// Whom a node knows by key, and whether it gives its channels to others.
#[derive(Clone, Debug)]
pub struct Auth {
    /// Its own key, Ed25519: what its tickets are bound to.
    pub key: SigningKey,
    /// Keys of those who are let in without a ticket.
    pub friends: BTreeSet<PeerKey>,
    /// Keys of the trackers whose tickets are honoured.
    pub issuers: Vec<PeerKey>,
    /// Whether media is given only to friends and holders of tickets.
    pub closed: bool,
}

/// What a node knows about keys, whatever the channel.
#[derive(Debug, Default)]
pub(super) struct Gate {
    identity: Option<Identity>,
    friends: BTreeSet<PeerKey>,
    revocations: Revocations,
    /// Whoever was challenged or has challenged us, by our channel identifier.
    doors: BTreeMap<ChannelId, Door>,
}

impl Gate {
    pub(super) fn new(auth: &Auth) -> Self {
        Self {
            identity: Identity::new(auth.key.clone()),
            friends: auth.friends.clone(),
            ..Self::default()
        }
    }

    /// The neighbour of a channel is gone.
    pub(super) fn forget(&mut self, local: ChannelId) {
        self.doors.remove(&local);
    }
}

/// What one channel of ours demands of neighbours, and what we show to parents.
#[derive(Clone, Debug, Default)]
pub(super) struct Lock {
    pub(super) closed: bool,
    pub(super) issuers: Vec<PeerKey>,
    /// When it was closed, for a channel that was open before.
    closed_at: Option<Instant>,
    ticket: Option<Bytes>,
}

impl Lock {
    pub(super) fn new(auth: &Auth) -> Self {
        Self {
            closed: auth.closed,
            issuers: auth.issuers.clone(),
            ..Self::default()
        }
    }
}

/// What is known of one neighbour.
#[derive(Debug)]
struct Door {
    exchange: Exchange,
    challenged_at: Option<Instant>,
    signatures: Allowance,
    ticket: Option<Ticket>,
    /// Why the last ticket was not taken.
    refusal: Option<TicketError>,
    /// A subscription, and since when it waits for a proof.
    waiting: Option<(Instant, Subscribe)>,
}

impl Default for Door {
    fn default() -> Self {
        Self {
            exchange: Exchange::default(),
            challenged_at: None,
            signatures: Allowance::new(SIGNATURES.0, SIGNATURES.1),
            ticket: None,
            refusal: None,
            waiting: None,
        }
    }
}

/// What somebody of this role (HELLO_EXT) has to be allowed.
const fn roles_of(role: u8) -> Roles {
    match role {
        1 => Roles::PUBLISH,
        2..=5 => Roles::SERVE,
        _ => Roles::WATCH,
    }
}

impl Node {
    /// Gives the node a key of its own, where it had none.
    pub fn set_key(&mut self, key: SigningKey) {
        if self.gate.identity.is_none() {
            self.gate.identity = Identity::new(key);
        }
    }

    /// Neighbours that were asked for their key, or asked for ours.
    pub fn doors(&self) -> usize {
        self.gate.doors.len()
    }

    /// The key that neighbours and trackers know the node by.
    pub fn key(&self) -> Option<PeerKey> {
        self.gate.identity.as_ref().map(Identity::key)
    }

    /// Closes or opens a channel. Neighbours of a channel that is closed while it runs have three seconds to prove that
    /// they may stay.
    pub fn set_closed(&mut self, now: Instant, index: usize, closed: bool, issuers: &[PeerKey]) {
        let Some(swarm) = self.swarms.get_mut(index) else {
            return;
        };
        let lock = &mut swarm.lock;
        lock.issuers = issuers.to_vec();
        if closed && !lock.closed {
            lock.closed_at = Some(now);
        }
        lock.closed = closed;
        for at in self.channels.places() {
            if closed && self.channels.get(at).is_some_and(|it| it.swarm == index) {
                self.challenge(now, at);
            }
        }
        self.cut_off(now);
        self.flush(now);
    }

    /// Takes the ticket that opens a channel to us, and shows it wherever one was asked for: the new one before the old
    /// one ends.
    pub fn set_ticket(&mut self, now: Instant, index: usize, ticket: Bytes) {
        let Some(swarm) = self.swarms.get_mut(index) else {
            return;
        };
        swarm.lock.ticket = Some(ticket.clone());
        swarm.candidates.forgive();
        for at in self.channels.places() {
            let asked = self.channels.get(at).is_some_and(|channel| {
                let door = self.gate.doors.get(&channel.local);
                channel.swarm == index && door.is_some_and(|door| door.exchange.has_answered())
            });
            if asked {
                self.send_extension(now, at, Extension::Ticket(ticket.clone()));
            }
        }
        self.drive_parents(now, index);
        self.flush(now);
    }

    /// Lets these in without tickets from now on, and nobody else.
    pub fn set_friends(&mut self, now: Instant, friends: BTreeSet<PeerKey>) {
        self.gate.friends = friends;
        self.cut_off(now);
        self.flush(now);
    }

    /// The tickets of these users are void. Whoever was let in with one is cut off before this returns.
    pub fn revoke(&mut self, now: Instant, revocations: &[Revocation]) {
        for revocation in revocations {
            self.gate.revocations.add(revocation);
        }
        self.cut_off(now);
        self.flush(now);
    }

    /// The key that a neighbour has proven.
    pub(super) fn proven_key(&self, channel: &Channel) -> Option<PeerKey> {
        let door = self.gate.doors.get(&channel.local)?;
        door.exchange.proven()
    }

    /// Whether a neighbour may have media.
    pub(super) fn admission(&self, now: Instant, at: usize) -> Result<(), TicketError> {
        let Some(channel) = self.channels.get(at) else {
            return Err(TicketError::Missing);
        };
        let Some(swarm) = self.swarms.get(channel.swarm) else {
            return Err(TicketError::Missing);
        };
        let lock = &swarm.lock;
        if !lock.closed {
            return Ok(());
        }
        let door = self.gate.doors.get(&channel.local);
        let verdict = door.map_or(Err(TicketError::Missing), |door| {
            let Some(key) = door.exchange.proven() else {
                return Err(TicketError::Missing);
            };
            let asking = swarm.asking.as_ref();
            if self.gate.friends.contains(&key) || asking.is_some_and(|it| it.is_of_user(&key)) {
                return Ok(());
            }
            let Some(ticket) = &door.ticket else {
                return Err(door.refusal.unwrap_or(TicketError::Missing));
            };
            let demand = Demand {
                swarm_id: Some(&swarm.terms.swarm_id),
                key: &key,
                roles: roles_of(channel.hello.as_ref().map_or(0, |hello| hello.role)),
                now_s: self.epoch.unix_micros(now) / 1_000_000,
            };
            ticket.admits(&demand, &self.gate.revocations)
        });
        let was_here = lock
            .closed_at
            .is_some_and(|closed| channel.opened_at <= closed && now < closed + GRACE);
        if was_here && verdict == Err(TicketError::Missing) {
            return Ok(());
        }
        verdict
    }

    /// Whether a neighbour that asks for media may have it; it is challenged where it has yet to show that.
    pub(super) fn admits(&mut self, now: Instant, at: usize) -> bool {
        let admitted = self.admission(now, at).is_ok();
        if !admitted {
            self.stats.unadmitted_requests += 1;
            self.challenge(now, at);
        }
        admitted
    }

    /// Asks a neighbour who it is, unless that was asked a moment ago or is known.
    pub(super) fn challenge(&mut self, now: Instant, at: usize) {
        let Self {
            gate,
            channels,
            rng,
            extensions,
            ..
        } = self;
        let Some(channel) = channels.get(at) else {
            return;
        };
        let Some(identity) = &gate.identity else {
            return;
        };
        if !*extensions || !channel.is_open() || !channel.has_extensions() {
            return;
        }
        let door = gate.doors.entry(channel.local).or_default();
        if door
            .challenged_at
            .is_some_and(|last| now - last < CHALLENGE_AGAIN)
        {
            return;
        }
        let Some(challenge) = door.exchange.challenge(identity, || rng.bytes()) else {
            return;
        };
        door.challenged_at = Some(now);
        self.send_extension(now, at, Extension::AuthChallenge(challenge));
    }

    /// Somebody called: where the channel is closed it is asked at once, since it is going to want media.
    pub(super) fn challenge_caller(&mut self, now: Instant, at: usize) {
        let asks = self
            .channels
            .get(at)
            .filter(|channel| channel.port == Port::Listen)
            .is_some_and(|channel| {
                let swarm = self.swarms.get(channel.swarm);
                swarm.is_some_and(|it| it.lock.closed) || self.wants_key(channel)
            });
        if asks {
            self.challenge(now, at);
        }
    }

    /// Keeps a subscription until its sender has shown that it may have it, or refuses it.
    pub(super) fn hold_subscription(
        &mut self,
        now: Instant,
        at: usize,
        subscribe: &Subscribe,
        why: TicketError,
    ) {
        self.challenge(now, at);
        let Some(channel) = self.channels.get(at) else {
            return;
        };
        let can_ask = self.gate.identity.is_some();
        let door = self.gate.doors.entry(channel.local).or_default();
        let since = door.waiting.as_ref().map_or(now, |(since, _)| *since);
        if can_ask && door.exchange.proven().is_none() && now - since < ANSWER_SPAN {
            door.waiting = Some((since, subscribe.clone()));
            return;
        }
        self.refuse_entry(now, at, subscribe.id, why);
    }

    /// Tells a neighbour that it gets nothing.
    fn refuse_entry(&mut self, now: Instant, at: usize, id: u16, why: TicketError) {
        let Some(channel) = self.channels.get(at) else {
            return;
        };
        let (index, addr) = (channel.swarm, channel.addr);
        if let Some(door) = self.gate.doors.get_mut(&channel.local) {
            door.waiting = None;
        }
        let Some(swarm) = self.swarms.get_mut(index) else {
            return;
        };
        swarm.counters.refused_subscriptions += 1;
        let reply = SubscribeReply {
            id,
            accepted: Mask::none(swarm.terms.format.substreams),
            reason: SubscribeReply::AUTH,
            retry_ms: RETRY.as_millis() as u32,
            start: None,
            alternatives: Vec::new(),
        };
        self.send_extension(now, at, Extension::SubscribeReply(reply));
        self.push_event(Event::ChildRefused {
            swarm: index,
            addr,
            why,
        });
    }

    /// Grants the subscription that waited for a proof, or refuses it for good.
    fn settle_subscription(&mut self, now: Instant, at: usize) {
        let Some(local) = self.channels.get(at).map(|channel| channel.local) else {
            return;
        };
        let door = self.gate.doors.get_mut(&local);
        let Some((_, subscribe)) = door.and_then(|door| door.waiting.take()) else {
            return;
        };
        match self.admission(now, at) {
            Ok(()) => self.on_subscribe(now, at, &subscribe),
            Err(why) => self.refuse_entry(now, at, subscribe.id, why),
        }
    }

    /// Whether a channel is for those alone who have a ticket.
    pub fn is_closed(&self, index: usize) -> bool {
        self.swarms
            .get(index)
            .is_some_and(|swarm| swarm.lock.closed)
    }

    /// Stops pushing to whoever may not have it any more.
    pub(super) fn cut_off(&mut self, now: Instant) {
        for index in 0..self.swarms.len() {
            let Some(swarm) = self.swarms.get(index).filter(|swarm| swarm.lock.closed) else {
                continue;
            };
            for at in swarm.children.clone() {
                match self.admission(now, at) {
                    // Until it has shown something it is only here for a moment.
                    Ok(()) => self.challenge(now, at),
                    Err(why) => {
                        let child = self.channels.get(at).and_then(|it| it.subscriber.as_ref());
                        let id = child.map_or(0, |child| child.id);
                        self.on_unsubscribe(at, Parts::ALL);
                        self.refuse_entry(now, at, id, why);
                    }
                }
            }
        }
        if !self.swarms.iter().any(|swarm| swarm.lock.closed) {
            return;
        }
        // What plain neighbours asked for earlier waits in their channels.
        for at in self.channels.places() {
            if self.admission(now, at).is_err()
                && let Some(channel) = self.channels.get_mut(at)
            {
                channel.wanted.clear();
            }
        }
    }

    /// A remote wants to know who we are. Only those that we called are told.
    pub(super) fn on_challenge(&mut self, now: Instant, at: usize, challenge: &AuthChallenge) {
        let Self {
            gate,
            channels,
            swarms,
            outbox,
            rng,
            ..
        } = self;
        let Some(channel) = channels.get_mut(at).filter(|channel| channel.initiated) else {
            return;
        };
        let Some(swarm) = swarms.get(channel.swarm) else {
            return;
        };
        let Some(identity) = &gate.identity else {
            return self.leave_closed(now, at);
        };
        let door = gate.doors.entry(channel.local).or_default();
        if !door.signatures.take(now) {
            return;
        }
        let connection = Connection {
            swarm: &swarm.terms.swarm_id,
            ours: channel.local,
            theirs: channel.remote.channel,
        };
        let answer = door
            .exchange
            .answer(identity, &connection, challenge, || rng.bytes());
        let Ok(response) = answer else {
            return self.leave_closed(now, at);
        };
        let format = swarm.terms.format;
        let ticket = swarm.lock.ticket.clone();
        send(now, outbox, channel, |out| {
            Extension::AuthResponse(response).encode(&format, out);
            if let Some(ticket) = ticket {
                Extension::Ticket(ticket).encode(&format, out);
            }
        });
    }

    /// A parent wants a proof that we cannot give.
    fn leave_closed(&mut self, now: Instant, at: usize) {
        if self.channels.get(at).is_some_and(|it| it.is_parent()) {
            self.give_up_subscription(now, at, SubscribeReply::AUTH, RETRY);
        }
    }

    /// A neighbour proves its key.
    pub(super) fn on_auth_response(&mut self, now: Instant, at: usize, response: &AuthResponse) {
        let proof = self.examine(now, at, |exchange, identity, connection| {
            exchange.accept(identity, connection, response)
        });
        let Some(proof) = proof else {
            return;
        };
        self.send_extension(now, at, Extension::AuthProof(proof));
        // Friends need no more; the ticket of others is in the same datagram.
        if self.admission(now, at).is_ok() {
            self.settle_subscription(now, at);
        }
    }

    /// A neighbour that challenged us proves its own key.
    pub(super) fn on_auth_proof(&mut self, now: Instant, at: usize, proof: &AuthProof) {
        let _ = self.examine(now, at, |exchange, identity, connection| {
            exchange.confirm(identity, connection, proof)
        });
    }

    /// Checks a proof; one that does not hold is a strike.
    fn examine<T>(
        &mut self,
        now: Instant,
        at: usize,
        check: impl FnOnce(&mut Exchange, &Identity, &Connection<'_>) -> Result<T, AuthError>,
    ) -> Option<T> {
        let Self {
            gate,
            channels,
            swarms,
            ..
        } = self;
        let channel = channels.get(at)?;
        let swarm = swarms.get(channel.swarm)?;
        let identity = gate.identity.as_ref()?;
        // Whom nothing was asked and who asked nothing has no door.
        let door = gate.doors.get_mut(&channel.local)?;
        if !door.signatures.take(now) {
            return None;
        }
        let connection = Connection {
            swarm: &swarm.terms.swarm_id,
            ours: channel.local,
            theirs: channel.remote.channel,
        };
        match check(&mut door.exchange, identity, &connection) {
            Ok(found) => Some(found),
            Err(error) => {
                self.stats.refused_proofs += 1;
                if error == AuthError::BadSignature {
                    self.strike(now, at, Violation::BadProof);
                }
                None
            }
        }
    }

    /// A neighbour shows a ticket, the first or a renewed one.
    pub(super) fn on_ticket(&mut self, now: Instant, at: usize, bytes: &Bytes) {
        let Self {
            gate,
            channels,
            swarms,
            epoch,
            ..
        } = self;
        let Some(channel) = channels.get(at) else {
            return;
        };
        let Some(swarm) = swarms.get(channel.swarm).filter(|swarm| swarm.lock.closed) else {
            return;
        };
        let Some(door) = gate.doors.get_mut(&channel.local) else {
            return;
        };
        // Without a proof of the key it is bound to it says nothing.
        let Some(key) = door.exchange.proven() else {
            return;
        };
        if !door.signatures.take(now) {
            return;
        }
        let demand = Demand {
            swarm_id: Some(&swarm.terms.swarm_id),
            key: &key,
            roles: roles_of(channel.hello.as_ref().map_or(0, |hello| hello.role)),
            now_s: epoch.unix_micros(now) / 1_000_000,
        };
        let opened = Ticket::open(bytes, &swarm.lock.issuers).and_then(|ticket| {
            let verdict = ticket.admits(&demand, &gate.revocations);
            verdict.map(|()| ticket)
        });
        match opened {
            Ok(ticket) => {
                door.ticket = Some(ticket);
                door.refusal = None;
            }
            // A better one shown before still counts.
            Err(why) => {
                self.stats.refused_tickets += 1;
                door.refusal = Some(why);
            }
        }
        self.settle_subscription(now, at);
    }
}
