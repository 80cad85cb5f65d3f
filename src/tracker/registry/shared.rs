//! What trackers with one store tell each other: every registration, as the requests that would make it.
//!
//! Whoever answered a peer tells the others what he knows of it now, and until when; the newest word counts, and a
//! peer that nobody hears expires everywhere at the same time. The requests are read by the same strict reader as
//! those of peers, but nobody is answered, placed or promised anything.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Peer, Registry, listed_addr};
use crate::time::Instant;
use crate::tracker::address::network;
use crate::tracker::message::{
    Action, Body, Connect, PeerMode, Request, RequestExt, Role, SwarmAction,
};
use crate::tracker::placement::PeerNo;
use crate::tracker::ticket::office::{Reading, TicketOffice};

/// Longest time for which another tracker's word holds, whatever it says.
const TTL_MAX: Duration = Duration::from_secs(3600);

/// One registration, as one tracker tells it to the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// Who.
    pub peer_id: Arc<str>,
    /// Where his requests come from.
    pub from: IpAddr,
    /// How long that holds if nobody hears of him.
    pub ttl: Duration,
    /// One CONNECT for each swarm that he is in, as JSON in one line; none when he left.
    pub joins: Vec<String>,
}

impl Shared {
    /// Name of the registration among those of all trackers: address, a space, peer identifier.
    pub fn key(&self) -> String {
        format!("{} {}", self.from, self.peer_id)
    }

    /// What is kept under the name; empty when the peer left.
    pub fn value(&self) -> String {
        self.joins.join("\n")
    }

    /// Reads what [`key`](Self::key) and [`value`](Self::value) wrote; none for anything else.
    pub fn read(key: &str, value: &str, ttl: Duration) -> Option<Self> {
        let (from, peer_id) = key.split_once(' ')?;
        Some(Self {
            peer_id: peer_id.into(),
            from: from.parse().ok()?,
            ttl: ttl.min(TTL_MAX),
            joins: value.lines().map(str::to_owned).collect(),
        })
    }
}

/// Who plays a sealed channel, as another tracker found.
fn reading(ext: &RequestExt) -> Option<Reading> {
    let user = ext.deal.user.as_deref()?;
    (ext.role == Some(Role::Peer)).then(|| Reading {
        user: user.into(),
        epoch: ext.access.epoch,
    })
}

/// What the others have not been told yet.
#[derive(Debug, Default)]
pub(super) struct Untold {
    /// Who was heard.
    heard: BTreeSet<PeerNo>,
    /// Who left, and from where.
    left: VecDeque<(Arc<str>, IpAddr)>,
}

impl Registry {
    /// The same tracker, as one of several: [`poll_shared`](Self::poll_shared) says what it has to tell.
    #[must_use]
    pub fn with_others(mut self) -> Self {
        self.untold = Some(Untold::default());
        self
    }

    /// What the other trackers have to hear next.
    pub fn poll_shared(&mut self, now: Instant) -> Option<Shared> {
        let untold = self.untold.as_mut()?;
        if let Some((peer_id, from)) = untold.left.pop_front() {
            return Some(Shared {
                peer_id,
                from,
                ttl: Duration::ZERO,
                joins: Vec::new(),
            });
        }
        while let Some(no) = self.untold.as_mut()?.heard.pop_first() {
            if let Some(peer) = self.peers.get(&no).filter(|peer| peer.expires > now) {
                return Some(Shared {
                    peer_id: Arc::clone(&peer.id),
                    from: peer.from,
                    ttl: peer.expires - now,
                    joins: self.joins_of(peer),
                });
            }
        }
        None
    }

    /// Tells everything again that this tracker heard itself: the others may have lost it.
    pub fn share_again(&mut self) {
        let heard = self.peers.iter().filter(|(_, peer)| !peer.is_from_others);
        let heard: BTreeSet<PeerNo> = heard.map(|(no, _)| *no).collect();
        if let Some(untold) = &mut self.untold {
            untold.heard = heard;
        }
    }

    /// Takes what another tracker told; false when it makes no sense, or when there is no room for it.
    pub fn on_shared(&mut self, now: Instant, shared: &Shared) -> bool {
        // What happened elsewhere is counted there.
        let stats = self.stats;
        let is_taken = self.take_shared(now, shared);
        self.stats = stats;
        is_taken
    }

    /// Whether a peer at an address is known only by what another tracker told.
    pub fn is_from_others(&self, peer_id: &str, from: IpAddr) -> bool {
        let at = self.by_id.get(peer_id);
        at.and_then(|at| at.get(&from.to_canonical()))
            .and_then(|no| self.peers.get(no))
            .is_some_and(|peer| peer.is_from_others)
    }

    /// Takes everything that is known for another tracker's word, until the peers speak again.
    pub fn take_for_hearsay(&mut self) {
        for peer in self.peers.values_mut() {
            peer.is_from_others = true;
        }
        if let Some(untold) = &mut self.untold {
            untold.heard.clear();
        }
    }

    /// Notes that a peer spoke to this tracker itself.
    pub(super) fn note_heard(&mut self, no: PeerNo) {
        if let (Some(untold), Some(peer)) = (&mut self.untold, self.peers.get_mut(&no)) {
            peer.is_from_others = false;
            untold.heard.insert(no);
        }
    }

    /// Notes that a peer is not registered any more.
    pub(super) fn note_removed(&mut self, no: PeerNo, peer: &Peer, has_left: bool) {
        if let Some(untold) = &mut self.untold {
            untold.heard.remove(&no);
            // Silence needs no word: everybody hears it.
            if has_left && !peer.is_from_others {
                untold.left.push_back((Arc::clone(&peer.id), peer.from));
            }
        }
    }

    /// The requests that would make a registration.
    fn joins_of(&self, peer: &Peer) -> Vec<String> {
        let joins = peer.swarms.iter().map(|(swarm, mode)| {
            let mut ext = peer.is_ours.then(|| peer.as_ext());
            if let (Some(ext), Some(reading)) = (&mut ext, &peer.reading) {
                ext.deal.user = Some(reading.user.to_string());
                ext.access.epoch = reading.epoch;
            }
            let name = peer.channels.iter().find_map(|name| {
                let channel = self.channels.get_key_value(name)?;
                (channel.1.swarm_id == *swarm).then_some(channel)
            });
            if let (Some(ext), Some((name, channel))) = (&mut ext, name) {
                ext.channel = Some(name.to_string());
                ext.title.clone_from(&channel.title);
                ext.description.clone_from(&channel.description);
            }
            let request = Request {
                transaction_id: "shared".to_owned(),
                peer_id: peer.id.to_string(),
                body: Body::Connect(Connect {
                    peer_num: None,
                    peer_addr: peer.addr.iter().cloned().collect(),
                    swarm_action: vec![SwarmAction {
                        swarm_id: swarm.to_string(),
                        action: Action::Join,
                        peer_mode: *mode,
                    }],
                }),
                ext,
            };
            request.to_json()
        });
        joins.collect()
    }

    fn take_shared(&mut self, now: Instant, shared: &Shared) -> bool {
        let from = shared.from.to_canonical();
        let at = self.by_id.get(&shared.peer_id);
        let known = at.and_then(|at| at.get(&from)).copied();
        if shared.joins.is_empty() {
            if let Some(no) = known {
                self.mark(no);
                self.end_reading(no);
                self.remove(now, no, true);
            }
            return true;
        }
        let mut joins: Vec<(Connect, Option<RequestExt>)> = Vec::new();
        for text in &shared.joins {
            match Request::from_json(text.as_bytes()) {
                Ok(Request {
                    peer_id,
                    body: Body::Connect(connect),
                    ext,
                    ..
                }) if *peer_id == *shared.peer_id => joins.push((connect, ext)),
                _ => return false,
            }
        }
        let no = match known {
            Some(no) => no,
            // Who took him in kept to the share of his address; here only the room counts.
            None if self.peers.len() >= self.config.limits.peers => return false,
            None => self.put_peer(now, from, &shared.peer_id),
        };
        self.mark(no);
        self.unlist(no);
        let mut swarms: BTreeSet<Arc<str>> = BTreeSet::new();
        for (connect, ext) in &joins {
            if let Some(peer) = self.peers.get_mut(&no) {
                peer.update(ext.as_ref());
                peer.addr = listed_addr(from, connect, ext.as_ref());
                peer.reading = ext.as_ref().and_then(reading);
            }
            for action in &connect.swarm_action {
                if action.action == Action::Join {
                    let (swarm, mode) = (&action.swarm_id, action.peer_mode);
                    swarms.extend(self.join_shared(no, swarm, mode, ext.as_ref()));
                }
            }
        }
        let was_in: Vec<Arc<str>> = match self.peers.get(&no) {
            Some(peer) => peer.swarms.keys().map(Arc::clone).collect(),
            None => Vec::new(),
        };
        for swarm in was_in.iter().filter(|swarm| !swarms.contains(*swarm)) {
            if let Some(peer) = self.peers.get_mut(&no) {
                peer.swarms.remove(swarm);
            }
            self.drop_member(swarm);
            self.placement.on_gone(now, swarm, no);
        }
        if swarms.is_empty() {
            self.remove(now, no, false);
            return false;
        }
        self.list(no);
        self.begin_reading(now, no);
        self.keep_until(no, now + shared.ttl.min(TTL_MAX));
        self.tell_placement(now, no);
        true
    }

    /// Makes a peer a member of a swarm; without the name that it announces where another key holds that here.
    fn join_shared(
        &mut self,
        no: PeerNo,
        swarm: &str,
        mode: PeerMode,
        ext: Option<&RequestExt>,
    ) -> Option<Arc<str>> {
        if swarm.is_empty() {
            return None;
        }
        let joined = self
            .join(no, swarm, mode, ext)
            .or_else(|_| self.join(no, swarm, mode, None));
        joined.ok().map(|(swarm, _)| swarm)
    }

    /// Notes who plays a sealed channel at a peer that was answered here.
    pub(super) fn note_reading(&mut self, from: IpAddr, peer_id: &str, reading: Reading) {
        let no = self.by_id.get(peer_id).and_then(|at| at.get(&from));
        if let Some(peer) = no.and_then(|no| self.peers.get_mut(no)) {
            peer.reading = Some(reading);
        }
    }

    /// Counts a peer of whom another tracker told among those whose keys a change waits for.
    fn begin_reading(&mut self, now: Instant, no: PeerNo) {
        self.with_readings(no, |office, channel, peer, reading| {
            office.note_reader(now, channel, peer, reading);
        });
    }

    /// Waits for it no more.
    fn end_reading(&mut self, no: PeerNo) {
        self.with_readings(no, |office, channel, peer, reading| {
            office.leave(channel, &reading.user, peer);
        });
    }

    /// Does something for each channel that a peer plays.
    fn with_readings(
        &mut self,
        no: PeerNo,
        mut act: impl FnMut(&mut TicketOffice, &str, &str, &Reading),
    ) {
        let (Some(peer), Some(office)) = (self.peers.get(&no), &mut self.office) else {
            return;
        };
        let Some(reading) = &peer.reading else {
            return;
        };
        for swarm in peer.swarms.keys() {
            let channel = self.swarms.get(swarm);
            if let Some(channel) = channel.and_then(|swarm| swarm.channel.as_deref()) {
                act(office, channel, &peer.id, reading);
            }
        }
    }

    /// Notes that what is known of a peer is another tracker's word, which nobody has to be told again.
    fn mark(&mut self, no: PeerNo) {
        if let (Some(untold), Some(peer)) = (&mut self.untold, self.peers.get_mut(&no)) {
            peer.is_from_others = true;
            untold.heard.remove(&no);
        }
    }

    /// Registers a peer, without asking whether it may.
    pub(super) fn put_peer(&mut self, now: Instant, from: IpAddr, id: &str) -> PeerNo {
        self.by_network.entry(network(from)).or_default().peers += 1;
        let no = PeerNo(self.next);
        self.next += 1;
        let id: Arc<str> = id.into();
        self.by_id
            .entry(Arc::clone(&id))
            .or_default()
            .insert(from, no);
        let expires = now + self.config.track_timeout;
        self.peer_timers.insert((expires, no));
        let salt = self.rng.next_u32();
        self.peers.insert(no, Peer::new(id, from, expires, salt));
        no
    }
}
