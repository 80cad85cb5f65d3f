//! The tracker's memory: channels by name, swarms, peers; who may be asked for a stream, until when.
//!
//! One [`Registry`] is one tracker. Time and requests are handed in, responses come out; the same inputs in the same
//! order give the same outputs. Everything that peers say of themselves (depth, free slots) is a hint that orders the
//! list; only the address is not taken from them (S-43).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::address::{PORT_MIN, Scope, network, scope};
use super::message::{
    Action, AddressKind, Body, ChannelInfo, Connect, Find, Parent, PeerAddr, PeerInfo, PeerMode,
    PeerNum, Reject, RejectCode, Request, RequestError, RequestExt, Response, ResponseExt, Role,
    Stat, SwarmResult,
};
use crate::rng::{Rng, Seed};
use crate::time::Instant;

mod choice;

#[cfg(test)]
mod tests;

/// Most peers in one answer (RFC 7846 §3.2.3 asks for less than 30 to be wanted; S-44 for at most 50).
pub const PEERS_PER_ANSWER_MAX: usize = 30;

/// Seconds after which somebody who asked for an unknown channel asks again: its source may be starting.
const RETRY_CHANNEL_S: u64 = 2;

/// Seconds after which anybody else who was refused asks again.
const RETRY_S: u64 = 10;

/// Whether a signed description proves that a key may announce a channel: name, swarm identifier, description.
pub type DescriptionCheck = fn(&str, &str, &[u8]) -> bool;

/// What a tracker is run with.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// How often peers are asked to report; answered as `x_p2ps_report_interval` in whole seconds.
    pub report_interval: Duration,
    /// A peer that was silent for so long is forgotten (the track timer of RFC 7846 §2.3.2).
    pub track_timeout: Duration,
    /// How much the tracker remembers.
    pub limits: Limits,
    /// Asked before a name is given to a key; without it any source may announce any free name.
    pub description_check: Option<DescriptionCheck>,
}

impl Config {
    /// Timers for live swarms that report every `report_interval`: forgotten after three and a half of them.
    ///
    /// The init timer of RFC 7846 has no counterpart: registering and judging the actions is one step here.
    pub fn with_report_interval(report_interval: Duration) -> Self {
        Self {
            report_interval,
            track_timeout: report_interval * 7 / 2,
            limits: Limits::default(),
            description_check: None,
        }
    }
}

impl Default for Config {
    /// Reports every 10 s, forgotten after 35 s.
    fn default() -> Self {
        Self::with_report_interval(Duration::from_secs(10))
    }
}

/// How much a tracker remembers; what would exceed it is answered with error 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Registered peers.
    pub peers: usize,
    /// Registered peers of one public IPv4 address, or IPv6 /64; and channel names that came from there.
    pub per_address: usize,
    /// The same of one loopback, link-local or private address: laboratories run many on one host.
    pub per_local_address: usize,
    /// Swarms.
    pub swarms: usize,
    /// Swarms of one peer.
    pub swarms_per_peer: usize,
    /// Channel names.
    pub channels: usize,
    /// Answers kept to be repeated.
    pub replays: usize,
}

impl Limits {
    /// What one address may take, of peers and of names; at least one.
    fn per_address(&self, ip: IpAddr) -> usize {
        match scope(ip) {
            Scope::Loopback | Scope::Link | Scope::Private => self.per_local_address,
            Scope::Public | Scope::Never => self.per_address,
        }
        .max(1)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            peers: 100_000,
            per_address: 64,
            per_local_address: 4096,
            swarms: 50_000,
            swarms_per_peer: 16,
            channels: 10_000,
            replays: 4096,
        }
    }
}

/// Counters and gauges of a tracker; counters only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Requests, refused ones and bodies that were none included.
    pub requests_total: u64,
    /// Well-formed CONNECTs.
    pub connects_total: u64,
    /// Well-formed FINDs.
    pub finds_total: u64,
    /// Well-formed STAT_REPORTs.
    pub reports_total: u64,
    /// Swarms joined; a JOIN by a member is none.
    pub joins_total: u64,
    /// Swarms left by LEAVE.
    pub leaves_total: u64,
    /// Peers forgotten because they were silent.
    pub expired_total: u64,
    /// Answers repeated for a repeated transaction.
    pub replays_total: u64,
    /// Requests refused, by [`RejectCode::index`].
    pub rejects_total: [u64; RejectCode::ALL.len()],
    /// Peers registered now.
    pub peers: usize,
    /// Swarms with members now.
    pub swarms: usize,
    /// Names held now.
    pub channels: usize,
}

impl Stats {
    /// Requests refused, by reason.
    pub fn rejects(&self) -> impl Iterator<Item = (RejectCode, u64)> {
        RejectCode::ALL
            .into_iter()
            .map(|code| (code, self.rejects_total[code.index()]))
    }

    fn reject(&mut self, code: RejectCode) {
        self.rejects_total[code.index()] += 1;
    }
}

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

/// A number of its own for each registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct PeerNo(u64);

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
    role: Option<Role>,
    depth: Option<u16>,
    slots_free: Option<u16>,
    /// How often it was the first of a list since it last told its free slots.
    promised: u16,
    parent: Option<Arc<str>>,
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

/// Whose transaction it was.
type Transaction = (Arc<str>, IpAddr, String);

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
    replays: BTreeMap<Transaction, (u64, Response)>,
    replay_timers: VecDeque<(Instant, Transaction)>,
    stats: Stats,
}

/// Why an action or a request was refused: the reason, and a line for people.
type Refusal = (RejectCode, String);

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
            replays: BTreeMap::new(),
            replay_timers: VecDeque::new(),
            stats: Stats::default(),
        }
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
        self.handle_timeout(now);
        self.stats.requests_total += 1;
        let ip = from.ip().to_canonical();
        let known = self
            .by_id
            .get(request.peer_id.as_str())
            .and_then(|at| at.get(&ip))
            .copied();
        let answer = match &request.body {
            Body::Connect(connect) => {
                self.stats.connects_total += 1;
                if let Some(response) = self.replay(ip, request) {
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
                )
            }
            Body::Find(find) => {
                self.stats.finds_total += 1;
                known
                    .ok_or_else(not_registered)
                    .and_then(|no| self.find(now, no, request, find))
            }
            Body::StatReport(stats) => {
                self.stats.reports_total += 1;
                known
                    .ok_or_else(not_registered)
                    .and_then(|no| self.report(now, no, request, stats))
            }
        };
        match answer {
            Ok(mut response) => {
                if request.ext.is_some() {
                    response.report_interval_s = Some(self.config.report_interval.as_secs().max(1));
                }
                if matches!(request.body, Body::Connect(_)) {
                    self.remember(now, ip, request, &response);
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
            self.stats.expired_total += 1;
            self.remove(no);
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
        while self
            .replay_timers
            .front()
            .is_some_and(|(expires, _)| *expires <= now)
        {
            if let Some((_, transaction)) = self.replay_timers.pop_front() {
                self.replays.remove(&transaction);
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let peer = self.peer_timers.first().map(|(expires, _)| *expires);
        let channel = self.channel_timers.first().map(|(expires, _)| *expires);
        let replay = self.replay_timers.front().map(|(expires, _)| *expires);
        [peer, channel, replay].into_iter().flatten().min()
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
    ) -> Result<Response, Refusal> {
        // RFC 7846 §2.3.2: registered first, and unregistered again when no action was valid.
        let no = match known {
            Some(no) => no,
            None => self.register(now, from.ip(), &request.peer_id)?,
        };
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
            let outcome = match action.action {
                Action::Join => {
                    self.join(no, &action.swarm_id, action.peer_mode, request.ext.as_ref())
                }
                Action::Leave => self.leave(no, &action.swarm_id, request.ext.as_ref()),
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
            // RFC 7846 §4.1.1: a LEECH that joins gets peers, a SEEDER only when it says how many.
            if is_ok
                && action.action == Action::Join
                && (action.peer_mode == PeerMode::Leech || connect.peer_num.is_some())
            {
                lists.push(results.len());
            }
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
            self.remove(no);
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
        for index in lists.iter().copied() {
            let Some(result) = results.get_mut(index) else {
                continue;
            };
            let (group, parents) = self.peer_list(now, no, &result.swarm_id, wanted);
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
    ) -> Result<Response, Refusal> {
        let swarm = self.resolve(&find.swarm_id, request.ext.as_ref())?;
        if !self.swarms.contains_key(&swarm) {
            return Err((RejectCode::Forbidden, "swarm_id: no such swarm".to_owned()));
        }
        self.refresh(now, no, request.ext.as_ref());
        let (group, parents) = self.peer_list(now, no, &swarm, wanted(find.peer_num.as_ref()));
        let mut response = Response::success(request.transaction_id.clone());
        response.swarm_result.push(SwarmResult {
            swarm_id: swarm.to_string(),
            is_ok: true,
            peer_group: Some(group),
        });
        response.ext = request.ext.is_some().then(|| ResponseExt {
            parents,
            channel: self.channel_info(&swarm),
            reject: None,
        });
        Ok(response)
    }

    fn report(
        &mut self,
        now: Instant,
        no: PeerNo,
        request: &Request,
        stats: &[Stat],
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
        response.swarm_result = swarm_result;
        Ok(response)
    }

    // --- registrations ----------------------------------------------------------------------------------------------

    fn register(&mut self, now: Instant, from: IpAddr, id: &str) -> Result<PeerNo, Refusal> {
        let full = |what: &str| Err((RejectCode::Full, what.to_owned()));
        if self.peers.len() >= self.config.limits.peers {
            return full("the tracker is full");
        }
        let share = self.by_network.entry(network(from)).or_default();
        if share.peers >= self.config.limits.per_address(from) {
            return full("too many peers from this address");
        }
        share.peers += 1;
        let no = PeerNo(self.next);
        self.next += 1;
        let id: Arc<str> = id.into();
        self.by_id
            .entry(Arc::clone(&id))
            .or_default()
            .insert(from, no);
        let expires = now + self.config.track_timeout;
        self.peer_timers.insert((expires, no));
        self.peers.insert(
            no,
            Peer {
                id,
                from,
                addr: None,
                expires,
                swarms: BTreeMap::new(),
                channels: BTreeSet::new(),
                is_ours: false,
                role: None,
                depth: None,
                slots_free: None,
                promised: 0,
                parent: None,
                salt: self.rng.next_u32(),
            },
        );
        Ok(no)
    }

    fn remove(&mut self, no: PeerNo) {
        self.unlist(no);
        let Some(peer) = self.peers.remove(&no) else {
            return;
        };
        self.peer_timers.remove(&(peer.expires, no));
        for swarm in peer.swarms.keys() {
            self.drop_member(swarm);
        }
        if let Some(at) = self.by_id.get_mut(&peer.id) {
            at.remove(&peer.from);
            if at.is_empty() {
                self.by_id.remove(&peer.id);
            }
        }
        self.shrink_share(peer.from, |share| share.peers -= 1);
    }

    fn shrink_share(&mut self, from: IpAddr, take: impl FnOnce(&mut Share)) {
        let network = network(from);
        if let Some(share) = self.by_network.get_mut(&network) {
            take(share);
            if (share.peers, share.channels) == (0, 0) {
                self.by_network.remove(&network);
            }
        }
    }

    /// Starts the track timer of a peer again, and keeps the names that it announced.
    fn touch(&mut self, now: Instant, no: PeerNo) {
        let expires = now + self.config.track_timeout;
        let Some(peer) = self.peers.get_mut(&no) else {
            return;
        };
        self.peer_timers.remove(&(peer.expires, no));
        peer.expires = expires;
        self.peer_timers.insert((expires, no));
        for name in &peer.channels {
            if let Some(channel) = self.channels.get_mut(name) {
                self.channel_timers
                    .remove(&(channel.expires, Arc::clone(name)));
                channel.expires = expires;
                self.channel_timers.insert((expires, Arc::clone(name)));
            }
        }
    }

    /// Takes what a registered peer says of itself, and starts its track timer again.
    fn refresh(&mut self, now: Instant, no: PeerNo, ext: Option<&RequestExt>) {
        self.unlist(no);
        if let Some(peer) = self.peers.get_mut(&no) {
            peer.update(ext);
        }
        self.list(no);
        self.touch(now, no);
    }

    // --- swarms and channels ----------------------------------------------------------------------------------------

    /// The swarm that a request means: by its identifier, or by the name of its channel.
    fn resolve(&self, swarm_id: &str, ext: Option<&RequestExt>) -> Result<Arc<str>, Refusal> {
        if !swarm_id.is_empty() {
            return Ok(match self.swarms.get_key_value(swarm_id) {
                Some((known, _)) => Arc::clone(known),
                None => swarm_id.into(),
            });
        }
        let Some(name) = ext.and_then(|ext| ext.channel.as_deref()) else {
            return Err((
                RejectCode::Forbidden,
                "swarm_id: empty, and no channel named".to_owned(),
            ));
        };
        match self.channels.get(name) {
            Some(channel) => Ok(Arc::clone(&channel.swarm_id)),
            None => Err((
                RejectCode::NoSuchChannel,
                format!("no channel {name:?} here"),
            )),
        }
    }

    fn join(
        &mut self,
        no: PeerNo,
        swarm_id: &str,
        mode: PeerMode,
        ext: Option<&RequestExt>,
    ) -> Result<Arc<str>, Refusal> {
        let swarm = self.resolve(swarm_id, ext)?;
        let limits = self.config.limits;
        let Some(peer) = self.peers.get(&no) else {
            return Err(not_registered());
        };
        let from = peer.from;
        let is_member = peer.swarms.contains_key(&swarm);
        if !is_member && peer.swarms.len() >= limits.swarms_per_peer {
            return Err((RejectCode::Full, "too many swarms of one peer".to_owned()));
        }
        if !self.swarms.contains_key(&swarm) && self.swarms.len() >= limits.swarms {
            return Err((
                RejectCode::Full,
                "the tracker has too many swarms".to_owned(),
            ));
        }
        let announced = match ext {
            Some(ext) if mode == PeerMode::Seeder && ext.role == Some(Role::Source) => {
                ext.channel.as_deref()
            }
            _ => None,
        };
        if let (Some(name), Some(ext)) = (announced, ext) {
            self.may_announce(from, name, &swarm, ext)?;
        }
        if let Some(peer) = self.peers.get_mut(&no) {
            peer.swarms.insert(Arc::clone(&swarm), mode);
        }
        let entry = self.swarms.entry(Arc::clone(&swarm)).or_default();
        if !is_member {
            // RFC 7846 leaves a second JOIN open; here it updates address and mode.
            entry.members += 1;
            self.stats.joins_total += 1;
        }
        if let (Some(name), Some(ext)) = (announced, ext) {
            self.announce(no, name, &swarm, ext);
        }
        Ok(swarm)
    }

    fn leave(
        &mut self,
        no: PeerNo,
        swarm_id: &str,
        ext: Option<&RequestExt>,
    ) -> Result<Arc<str>, Refusal> {
        let swarm = self.resolve(swarm_id, ext)?;
        let peer = self.peers.get_mut(&no);
        if peer.is_none_or(|peer| peer.swarms.remove(&swarm).is_none()) {
            return Err((
                RejectCode::Forbidden,
                "swarm_id: the peer is not in this swarm".to_owned(),
            ));
        }
        self.drop_member(&swarm);
        self.stats.leaves_total += 1;
        Ok(swarm)
    }

    fn drop_member(&mut self, swarm: &Arc<str>) {
        if let Some(entry) = self.swarms.get_mut(swarm) {
            entry.members -= 1;
            if entry.members == 0 {
                self.swarms.remove(swarm);
            }
        }
    }

    /// Whether a source of `swarm` may have the name: the first key that announces it holds it until it expires.
    fn may_announce(
        &self,
        from: IpAddr,
        name: &str,
        swarm: &Arc<str>,
        ext: &RequestExt,
    ) -> Result<(), Refusal> {
        match self.channels.get(name) {
            Some(channel) if channel.swarm_id != *swarm => {
                return Err((
                    RejectCode::NameTaken,
                    format!("channel {name:?} is announced by another key"),
                ));
            }
            Some(_) => {}
            None if self.channels.len() >= self.config.limits.channels => {
                return Err((
                    RejectCode::Full,
                    "the tracker has too many channels".to_owned(),
                ));
            }
            None => {
                let share = self.by_network.get(&network(from));
                if share.map_or(0, |share| share.channels) >= self.config.limits.per_address(from) {
                    return Err((
                        RejectCode::Full,
                        "too many channels from this address".to_owned(),
                    ));
                }
            }
        }
        if let Some(is_proof) = self.config.description_check
            && !ext
                .description
                .as_ref()
                .is_some_and(|description| is_proof(name, swarm, description))
        {
            return Err((
                RejectCode::BadDescription,
                format!("channel {name:?}: the description is not signed by the key of its swarm"),
            ));
        }
        Ok(())
    }

    fn announce(&mut self, no: PeerNo, name: &str, swarm: &Arc<str>, ext: &RequestExt) {
        let Some(peer) = self.peers.get_mut(&no) else {
            return;
        };
        let name: Arc<str> = match self.channels.get_key_value(name) {
            Some((known, _)) => Arc::clone(known),
            None => name.into(),
        };
        peer.channels.insert(Arc::clone(&name));
        let (mut from, expires) = (peer.from, peer.expires);
        if let Some(swarm) = self.swarms.get_mut(swarm) {
            swarm.channel = Some(Arc::clone(&name));
        }
        // Somebody else who claims to be the same source does not change what a source that is alive announced.
        if let Some(channel) = self.channels.get(&name)
            && channel.holder != no
            && self.peers.contains_key(&channel.holder)
        {
            return;
        }
        match self.channels.get(&name) {
            Some(old) => {
                from = old.from;
                self.channel_timers
                    .remove(&(old.expires, Arc::clone(&name)));
            }
            None => self.by_network.entry(network(from)).or_default().channels += 1,
        }
        self.channel_timers.insert((expires, Arc::clone(&name)));
        self.channels.insert(
            name,
            Channel {
                swarm_id: Arc::clone(swarm),
                title: ext.title.clone(),
                description: ext.description.clone(),
                holder: no,
                from,
                expires,
            },
        );
    }

    fn forget_channel(&mut self, name: &Arc<str>) {
        let Some(channel) = self.channels.remove(name) else {
            return;
        };
        self.shrink_share(channel.from, |share| share.channels -= 1);
        if let Some(swarm) = self.swarms.get_mut(&channel.swarm_id)
            && swarm.channel.as_ref() == Some(name)
        {
            swarm.channel = None;
        }
    }

    fn channel_info(&self, swarm: &str) -> Option<ChannelInfo> {
        let name = self.swarms.get(swarm)?.channel.as_ref()?;
        self.channels.get(name).map(|channel| channel.info(name))
    }

    // --- answers ----------------------------------------------------------------------------------------------------

    /// At most `count` members of a swarm for `asker`, best first, in both forms of the response.
    fn peer_list(
        &mut self,
        now: Instant,
        asker: PeerNo,
        swarm: &str,
        count: usize,
    ) -> (Vec<PeerInfo>, Vec<Parent>) {
        let chosen = self.choose(now, asker, swarm, count);
        let mut group = Vec::with_capacity(chosen.len());
        let mut parents = Vec::with_capacity(chosen.len());
        for (position, no) in chosen.iter().enumerate() {
            let Some((peer, addr)) = self
                .peers
                .get(no)
                .and_then(|peer| Some((peer, peer.addr.as_ref()?)))
            else {
                continue;
            };
            group.push(PeerInfo {
                peer_id: peer.id.to_string(),
                peer_addr: PeerAddr {
                    priority: (chosen.len() - position) as u64,
                    ..addr.clone()
                },
            });
            parents.push(Parent {
                peer: peer.id.to_string(),
                addr: SocketAddr::new(addr.ip, addr.port),
                depth: peer.swarms.get(swarm).and_then(|mode| peer.depth_as(*mode)),
                slots_free: peer.slots_left(),
                role: peer.role,
            });
        }
        // Whoever has the stream asks for a second choice, not for a slot.
        let is_waiting = self
            .peers
            .get(&asker)
            .is_some_and(|asker| asker.role != Some(Role::Source) && asker.depth.is_none());
        if let Some(first) = chosen.first().filter(|_| is_waiting) {
            self.promise(*first);
        }
        (group, parents)
    }

    fn refuse(
        &mut self,
        transaction_id: String,
        with_reason: bool,
        (code, text): Refusal,
    ) -> Response {
        self.stats.reject(code);
        let mut response = Response::failure(transaction_id, code.error_code());
        if with_reason {
            response.ext = Some(ResponseExt {
                reject: Some(Reject::new(code, text)),
                ..ResponseExt::default()
            });
        }
        response
    }

    /// The answer that this very request got before (RFC 7846 §4.2: repeated identifiers are accepted).
    ///
    /// Only CONNECT needs it: to do a FIND or STAT_REPORT twice is harmless.
    fn replay(&mut self, ip: IpAddr, request: &Request) -> Option<Response> {
        let transaction = (
            request.peer_id.as_str().into(),
            ip,
            request.transaction_id.clone(),
        );
        let (seen, response) = self.replays.get(&transaction)?;
        if *seen != fingerprint(request) {
            return None;
        }
        self.stats.replays_total += 1;
        Some(response.clone())
    }

    fn remember(&mut self, now: Instant, ip: IpAddr, request: &Request, response: &Response) {
        let transaction: Transaction = (
            request.peer_id.as_str().into(),
            ip,
            request.transaction_id.clone(),
        );
        let entry = (fingerprint(request), response.clone());
        if self.replays.insert(transaction.clone(), entry).is_some() {
            return;
        }
        self.replay_timers
            .push_back((now + self.config.track_timeout, transaction));
        while self.replays.len() > self.config.limits.replays {
            match self.replay_timers.pop_front() {
                Some((_, oldest)) => self.replays.remove(&oldest),
                None => break,
            };
        }
    }
}

impl Reject {
    fn new(code: RejectCode, text: String) -> Self {
        Self {
            code,
            text,
            retry_s: match code {
                RejectCode::NotRegistered => 0,
                RejectCode::NoSuchChannel => RETRY_CHANNEL_S,
                _ => RETRY_S,
            },
        }
    }
}

impl Peer {
    /// Takes what the peer says of itself; a plain RFC 7846 peer says nothing.
    fn update(&mut self, ext: Option<&RequestExt>) {
        let Some(ext) = ext else { return };
        self.is_ours = true;
        self.role = ext.role;
        self.depth = ext.depth;
        self.slots_free = ext.slots_free;
        self.promised = 0;
        self.parent = ext.parent.as_deref().map(Arc::from);
    }
}

impl Channel {
    fn info(&self, name: &str) -> ChannelInfo {
        ChannelInfo {
            name: name.to_owned(),
            swarm_id: self.swarm_id.to_string(),
            title: self.title.clone(),
            description: self.description.clone(),
        }
    }
}

fn not_registered() -> Refusal {
    (
        RejectCode::NotRegistered,
        "peer_id: not registered, send CONNECT".to_owned(),
    )
}

fn wanted(peer_num: Option<&PeerNum>) -> usize {
    let count = peer_num.map_or(u64::MAX, |num| num.peer_count);
    usize::try_from(count).map_or(PEERS_PER_ANSWER_MAX, |count| {
        count.min(PEERS_PER_ANSWER_MAX)
    })
}

/// The one address of a peer that is handed out: where its request came from, with the port that it announces (S-43).
///
/// Of several claimed ports, the one claimed for that very address counts, else the preferred one of its family.
fn listed_addr(ip: IpAddr, connect: &Connect, ext: Option<&RequestExt>) -> Option<PeerAddr> {
    let claimed = connect.peer_addr.iter().max_by_key(|claimed| {
        (
            claimed.ip == ip,
            claimed.ip.is_ipv4() == ip.is_ipv4(),
            claimed.priority,
        )
    });
    let port = ext
        .and_then(|ext| ext.port)
        .or(claimed.map(|claimed| claimed.port))?;
    (port >= PORT_MIN && scope(ip) != Scope::Never).then(|| PeerAddr {
        ip,
        port,
        priority: 1,
        kind: match claimed {
            Some(claimed) if claimed.ip == ip => claimed.kind,
            _ => AddressKind::Reflexive,
        },
        peer_protocol: claimed.and_then(|claimed| claimed.peer_protocol.clone()),
    })
}

/// Tells requests with the same transaction identifier apart; no secret, a collision replays an answer.
fn fingerprint(request: &Request) -> u64 {
    let mut hasher = DefaultHasher::new();
    request.hash(&mut hasher);
    hasher.finish()
}
