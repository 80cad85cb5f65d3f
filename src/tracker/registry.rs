//! The tracker's memory: channels by name, swarms, peers; who may be asked for a stream, until when.
//!
//! One [`Registry`] is one tracker. Time and requests are handed in, responses come out; the same inputs in the same
//! order give the same outputs. Everything that peers say of themselves (depth, free slots) is a hint that orders the
//! list; only the address is not taken from them (S-43).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;

use super::message::{
    Action, AddressKind, Body, ChannelInfo, Connect, Find, PeerAddr, PeerMode, Reject, RejectCode,
    Request, RequestError, RequestExt, Response, ResponseExt, Role, Stat, SwarmResult,
};
use super::placement::{PeerNo, Placement, list::Listed};
use super::ticket::office::{Reading, TicketOffice};
use crate::rng::{Rng, Seed};
use crate::time::Instant;

mod access;
mod answers;
mod choice;
mod config;
mod members;
mod offer;
mod overview;
mod placing;
mod replays;
mod shared;

#[cfg(test)]
mod tests;

pub(super) use answers::not_registered;
use answers::{listed_addr, wanted};
use replays::Replays;

pub use config::{Config, DescriptionCheck, Limits, Stats};
pub use offer::Offer;
pub use overview::{ChannelView, NodeView, Overview, StatsView};
pub use shared::Shared;

/// Most peers in one answer (RFC 7846 §3.2.3 asks for less than 30 to be wanted; S-44 for at most 50).
pub const PEERS_PER_ANSWER_MAX: usize = 30;

/// Seconds after which somebody who asked for an unknown channel asks again: its source may be starting.
const RETRY_CHANNEL_S: u64 = 2;

/// Seconds after which anybody else who was refused asks again.
const RETRY_S: u64 = 10;

/// An answer for the HTTP server to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// 200, or 400 for what is no JSON text at all.
    pub status: u16,
    /// JSON.
    pub body: String,
}

/// A channel, for the list of channels.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ChannelRecord {
    /// What its source announced.
    #[serde(flatten)]
    pub info: ChannelInfo,
    /// Members of its swarm, sources included.
    pub peers: usize,
}

/// One registration: a peer identifier at one address.
///
/// The same identifier from another address is another registration: a peer with two addresses has two, and nobody
/// can take over or end what somebody else registered by using his identifier, which every list shows.
#[derive(Debug)]
struct Peer {
    id: Arc<str>,
    from: IpAddr,
    addr: Option<PeerAddr>,
    expires: Instant,
    swarms: BTreeMap<Arc<str>, PeerMode>,
    /// Names whose swarm this peer makes.
    channels: BTreeSet<Arc<str>>,
    /// Whether it ever sent `x_ext`: then silence about its depth means that it has no parent.
    is_ours: bool,
    /// Whether another tracker told the newest of it.
    is_from_others: bool,
    role: Option<Role>,
    depth: Option<u16>,
    slots_free: Option<u16>,
    /// How often it was the first of a list since it last told its free slots.
    promised: u16,
    parent: Option<Arc<str>>,
    /// Whom it gets which substreams from, when that is more than one.
    parents: Vec<(Arc<str>, u32)>,
    /// What it last said of itself beyond that, for the placement.
    told: placing::Told,
    /// Who plays a sealed channel there, for the other trackers.
    reading: Option<Reading>,
    /// Where it stands among equals.
    salt: u32,
}

#[derive(Debug, Default)]
struct Swarm {
    members: usize,
    /// The members that can be handed out, best first.
    order: BTreeSet<(choice::Rank, PeerNo)>,
    channel: Option<Arc<str>>,
}

#[derive(Debug)]
struct Channel {
    swarm_id: Arc<str>,
    title: Option<String>,
    description: Option<Bytes>,
    /// Substreams that it is cut into, as the description says.
    substreams: Option<u8>,
    /// Whose title and description these are.
    holder: PeerNo,
    /// Where the name was first announced from.
    from: IpAddr,
    expires: Instant,
}

/// What one address or network has taken.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    peers: usize,
    channels: usize,
}

/// One tracker.
#[derive(Debug)]
pub struct Registry {
    config: Config,
    rng: Rng,
    /// Orders equals differently for every asker.
    tie_key: u64,
    next: u64,
    peers: BTreeMap<PeerNo, Peer>,
    by_id: BTreeMap<Arc<str>, BTreeMap<IpAddr, PeerNo>>,
    by_network: BTreeMap<IpAddr, Share>,
    swarms: BTreeMap<Arc<str>, Swarm>,
    channels: BTreeMap<Arc<str>, Channel>,
    peer_timers: BTreeSet<(Instant, PeerNo)>,
    channel_timers: BTreeSet<(Instant, Arc<str>)>,
    replays: Replays,
    /// Peers that are not registered any more, and whether they said so.
    gone: Vec<(Arc<str>, bool)>,
    stats: Stats,
    placement: Box<dyn Placement>,
    office: Option<TicketOffice>,
    /// What other trackers have to hear; none when there are none.
    untold: Option<shared::Untold>,
}

/// Whom a provider lets somebody ask; whoever is not named here is not told of.
#[derive(Clone, Copy, Debug)]
pub struct Allowed<'a> {
    /// Sources and relays.
    pub servers: bool,
    /// Peers by their identifiers.
    pub peers: &'a [Arc<str>],
}

/// Why an action or a request was refused: the reason, and a line for people.
pub(super) type Refusal = (RejectCode, String);

impl Registry {
    /// An empty tracker.
    pub fn new(config: Config, seed: Seed) -> Self {
        let mut rng = Rng::new(seed);
        Self {
            config,
            tie_key: rng.next_u64(),
            rng,
            next: 0,
            peers: BTreeMap::new(),
            by_id: BTreeMap::new(),
            by_network: BTreeMap::new(),
            swarms: BTreeMap::new(),
            channels: BTreeMap::new(),
            peer_timers: BTreeSet::new(),
            channel_timers: BTreeSet::new(),
            replays: Replays::default(),
            gone: Vec::new(),
            stats: Stats::default(),
            placement: Box::new(Listed),
            office: None,
            untold: None,
        }
    }

    /// Lets `office` say who may do what, and give tickets.
    pub fn set_office(&mut self, office: TicketOffice) {
        self.office = Some(office);
    }

    /// Who says who may do what.
    pub const fn office(&mut self) -> Option<&mut TicketOffice> {
        self.office.as_mut()
    }

    /// Answers the body of one POST from `from`, the other end of its connection.
    pub fn handle_body(&mut self, now: Instant, from: SocketAddr, body: &[u8]) -> Reply {
        let response = match Request::from_json(body) {
            Ok(request) => self.handle(now, from, &request),
            Err(RequestError::NotJson(why)) => {
                self.stats.requests_total += 1;
                self.stats.reject(RejectCode::BadRequest);
                return Reply {
                    status: 400,
                    body: serde_json::json!({ "error": why }).to_string(),
                };
            }
            Err(RequestError::Malformed {
                transaction_id,
                code,
                why,
            }) => {
                self.stats.requests_total += 1;
                self.refuse(transaction_id, true, (code, why))
            }
        };
        Reply {
            status: 200,
            body: response.to_json(),
        }
    }

    /// Answers one request from `from`, the other end of its connection.
    pub fn handle(&mut self, now: Instant, from: SocketAddr, request: &Request) -> Response {
        self.handle_allowed(now, from, request, None)
    }

    /// The same, telling only of those whom a provider allows.
    pub fn handle_allowed(
        &mut self,
        now: Instant,
        from: SocketAddr,
        request: &Request,
        allowed: Option<Allowed<'_>>,
    ) -> Response {
        self.handle_timeout(now);
        self.stats.requests_total += 1;
        let ip = from.ip().to_canonical();
        let known = self
            .by_id
            .get(request.peer_id.as_str())
            .and_then(|at| at.get(&ip))
            .copied();
        let user = match self.greet(now, ip, request) {
            Ok(user) => user,
            Err(refusal) => {
                let with_reason = request.ext.is_some();
                return self.refuse(request.transaction_id.clone(), with_reason, refusal);
            }
        };
        let answer = match &request.body {
            Body::Connect(connect) => {
                self.stats.connects_total += 1;
                if let Some(response) = self.replays.get(ip, request) {
                    self.stats.replays_total += 1;
                    if let Some(no) = known {
                        self.touch(now, no);
                    }
                    return response;
                }
                self.connect(
                    now,
                    SocketAddr::new(ip, from.port()),
                    request,
                    connect,
                    known,
                    allowed,
                )
            }
            Body::Find(find) => {
                self.stats.finds_total += 1;
                known
                    .ok_or_else(not_registered)
                    .and_then(|no| self.find(now, no, request, find, allowed))
            }
            Body::StatReport(stats) => {
                self.stats.reports_total += 1;
                known
                    .ok_or_else(not_registered)
                    .and_then(|no| self.report(now, no, request, stats, allowed))
            }
        };
        match answer {
            Ok(mut response) => {
                let sells = allowed.is_some();
                self.give_tickets(now, ip, request, user.as_deref(), sells, &mut response);
                if let Some(ext) = &request.ext {
                    self.ask_to_report(ext.role, &mut response);
                }
                if matches!(request.body, Body::Connect(_)) {
                    let expires = now + self.config.track_timeout;
                    let limit = self.config.limits.replays;
                    self.replays.put(expires, limit, ip, request, &response);
                }
                response
            }
            Err(refusal) => self.refuse(
                request.transaction_id.clone(),
                request.ext.is_some(),
                refusal,
            ),
        }
    }

    /// Forgets peers and names whose time is over. Called by [`handle`](Self::handle) as well.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(expires, no)) = self.peer_timers.first() {
            if expires > now {
                break;
            }
            // Whoever heard the peer last counts it.
            let is_ours = self.peers.get(&no).is_some_and(|peer| !peer.is_from_others);
            self.stats.expired_total += u64::from(is_ours);
            self.remove(now, no, false);
        }
        while self
            .channel_timers
            .first()
            .is_some_and(|(expires, _)| *expires <= now)
        {
            if let Some((_, name)) = self.channel_timers.pop_first() {
                self.forget_channel(&name);
            }
        }
        self.replays.expire(now);
        self.placement.handle_timeout(now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let peer = self.peer_timers.first().map(|(expires, _)| *expires);
        let channel = self.channel_timers.first().map(|(expires, _)| *expires);
        let replay = self.replays.next_expiry();
        let placement = self.placement.poll_timeout();
        [peer, channel, replay, placement]
            .into_iter()
            .flatten()
            .min()
    }

    /// A peer that is not registered any more, and whether it said so itself.
    pub fn poll_gone(&mut self) -> Option<(Arc<str>, bool)> {
        self.gone.pop()
    }

    /// The channel that a request is about: the one it names, or the one whose swarm it names.
    pub fn channel_of(&self, swarm_id: &str, ext: Option<&RequestExt>) -> Option<Arc<str>> {
        match swarm_id {
            "" => {
                let name = ext?.channel.as_deref()?;
                self.channels
                    .get_key_value(name)
                    .map(|(name, _)| Arc::clone(name))
            }
            swarm_id => self.swarms.get(swarm_id)?.channel.clone(),
        }
    }

    /// Whether a source or relay of a channel would take one more.
    pub fn has_room(&self, channel: &str) -> bool {
        let swarm = self
            .channels
            .get(channel)
            .and_then(|channel| self.swarms.get(&channel.swarm_id));
        swarm.is_some_and(Swarm::has_room)
    }

    /// Whether a source or relay of a channel is there at all, with the stream.
    pub fn has_server(&self, channel: &str) -> bool {
        let swarm = self
            .channels
            .get(channel)
            .and_then(|channel| self.swarms.get(&channel.swarm_id));
        swarm.is_some_and(Swarm::has_server)
    }

    /// Counters, and what is registered now.
    pub fn stats(&self) -> Stats {
        Stats {
            peers: self.peers.len(),
            swarms: self.swarms.len(),
            channels: self.channels.len(),
            ..self.stats
        }
    }

    /// Every channel, by name.
    pub fn channels(&self) -> impl Iterator<Item = ChannelRecord> {
        self.channels
            .iter()
            .map(|(name, channel)| self.record(name, channel))
    }

    /// One channel.
    pub fn channel(&self, name: &str) -> Option<ChannelRecord> {
        self.channels
            .get(name)
            .map(|channel| self.record(name, channel))
    }

    fn record(&self, name: &str, channel: &Channel) -> ChannelRecord {
        ChannelRecord {
            info: channel.info(name),
            peers: self
                .swarms
                .get(&channel.swarm_id)
                .map_or(0, |swarm| swarm.members),
        }
    }

    // --- the three requests -----------------------------------------------------------------------------------------

    fn connect(
        &mut self,
        now: Instant,
        from: SocketAddr,
        request: &Request,
        connect: &Connect,
        known: Option<PeerNo>,
        allowed: Option<Allowed<'_>>,
    ) -> Result<Response, Refusal> {
        // RFC 7846 §2.3.2: registered first, and unregistered again when no action was valid.
        let no = match known {
            Some(no) => no,
            None => self.register(now, from.ip(), &request.peer_id)?,
        };
        self.note_heard(no);
        self.unlist(no);
        if let Some(peer) = self.peers.get_mut(&no) {
            peer.update(request.ext.as_ref());
            if !connect.peer_addr.is_empty() || request.ext.is_some() {
                peer.addr = listed_addr(from.ip(), connect, request.ext.as_ref());
            }
        }
        let mut results = Vec::with_capacity(connect.swarm_action.len());
        let mut lists = Vec::new();
        let mut refusal = None;
        for action in &connect.swarm_action {
            // RFC 7846 §4.1.1: a LEECH that joins gets peers, a SEEDER only when it says how many.
            let is_listed = action.peer_mode == PeerMode::Leech || connect.peer_num.is_some();
            let outcome = match action.action {
                Action::Join => self
                    .join(no, &action.swarm_id, action.peer_mode, request.ext.as_ref())
                    .and_then(|(swarm, is_new)| {
                        let placed = self.admit(now, no, &swarm, is_listed, is_new)?;
                        lists.extend(placed.map(|placed| (results.len(), placed)));
                        Ok(swarm)
                    }),
                Action::Leave => self.leave(now, no, &action.swarm_id, request.ext.as_ref()),
                Action::Unknown => Err((
                    RejectCode::Forbidden,
                    "action: need JOIN or LEAVE".to_owned(),
                )),
            };
            let is_ok = outcome.is_ok();
            let swarm_id = match outcome {
                Ok(swarm) => swarm.to_string(),
                Err(why) => {
                    refusal.get_or_insert(why);
                    action.swarm_id.clone()
                }
            };
            results.push(SwarmResult {
                swarm_id,
                is_ok,
                peer_group: None,
            });
        }
        self.list(no);
        let is_member = self
            .peers
            .get(&no)
            .is_some_and(|peer| !peer.swarms.is_empty());
        if !is_member {
            self.remove(now, no, true);
        }
        if results.iter().all(|result| !result.is_ok)
            && let Some(refusal) = refusal
        {
            return Err(refusal);
        }
        if is_member {
            self.touch(now, no);
        }

        let mut response = Response::success(request.transaction_id.clone());
        let mut ext = ResponseExt::default();
        let mut wanted = wanted(connect.peer_num.as_ref());
        for (index, placed) in &lists {
            let Some(result) = results.get_mut(*index) else {
                continue;
            };
            let (group, parents) =
                self.peer_list(now, no, &result.swarm_id, wanted, placed, allowed);
            ext.redirect = ext.redirect.or_else(|| placed.redirect().cloned());
            wanted -= group.len();
            result.peer_group = Some(group);
            ext.parents.extend(parents);
            ext.channel = ext.channel.or_else(|| self.channel_info(&result.swarm_id));
        }
        if !lists.is_empty() {
            response.peer_addr = Some(PeerAddr {
                ip: from.ip(),
                port: from.port(),
                priority: 1,
                kind: AddressKind::Reflexive,
                peer_protocol: None,
            });
        }
        ext.reject = refusal.map(|(code, text)| Reject::new(code, text));
        ext.cluster = self.cluster_for(no);
        response.swarm_result = results;
        response.ext = request.ext.is_some().then_some(ext);
        Ok(response)
    }

    fn find(
        &mut self,
        now: Instant,
        no: PeerNo,
        request: &Request,
        find: &Find,
        allowed: Option<Allowed<'_>>,
    ) -> Result<Response, Refusal> {
        let swarm = self.resolve(&find.swarm_id, request.ext.as_ref())?;
        if !self.swarms.contains_key(&swarm) {
            return Err((RejectCode::Forbidden, "swarm_id: no such swarm".to_owned()));
        }
        self.refresh(now, no, request.ext.as_ref());
        let placed = self.place(now, no, &swarm)?;
        let wanted = wanted(find.peer_num.as_ref());
        let (group, parents) = self.peer_list(now, no, &swarm, wanted, &placed, allowed);
        let mut response = Response::success(request.transaction_id.clone());
        response.swarm_result.push(SwarmResult {
            swarm_id: swarm.to_string(),
            is_ok: true,
            peer_group: Some(group),
        });
        response.ext = request.ext.is_some().then(|| ResponseExt {
            parents,
            channel: self.channel_info(&swarm),
            redirect: placed.redirect().cloned(),
            ..ResponseExt::default()
        });
        Ok(response)
    }

    fn report(
        &mut self,
        now: Instant,
        no: PeerNo,
        request: &Request,
        stats: &[Stat],
        allowed: Option<Allowed<'_>>,
    ) -> Result<Response, Refusal> {
        let Some(peer) = self.peers.get(&no) else {
            return Err(not_registered());
        };
        let result = |swarm_id: &str| SwarmResult {
            swarm_id: swarm_id.to_owned(),
            is_ok: peer.swarms.contains_key(swarm_id),
            peer_group: None,
        };
        let swarm_result: Vec<SwarmResult> = if stats.is_empty() {
            peer.swarms.keys().map(|swarm| result(swarm)).collect()
        } else {
            stats.iter().map(|stat| result(&stat.swarm_id)).collect()
        };
        if swarm_result.iter().all(|result| !result.is_ok) {
            return Err((
                RejectCode::Forbidden,
                "swarm_id: the peer is not in this swarm".to_owned(),
            ));
        }
        self.refresh(now, no, request.ext.as_ref());
        let mut response = Response::success(request.transaction_id.clone());
        if request.ext.is_some() {
            response.ext = self.move_for(now, no, &swarm_result, allowed);
        }
        response.swarm_result = swarm_result;
        Ok(response)
    }
}
