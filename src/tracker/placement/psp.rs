//! Clusters with servers, and viewers who help them (algorithms 3.2, after PSP).
//!
//! A viewer is sent to the nearest cluster. There supporting peers serve it when they have room, else a server does;
//! when neither has, another cluster; else it is rejected. What supporters can give is what their receivers measured, and
//! one viewer more: a claim opens the door for the first one, nothing else.
//!
//! | file | answers |
//! | --- | --- |
//! | `admission` | the seven steps of a request |
//! | `shares` | which substreams come from whom, and that nobody gets one through himself |
//! | `measure` | who supports, with how much; what the model says |
//! | `servers` | which cluster a server serves, the way to it, and load moved between servers |

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::networks::Networks;
use super::paths::Paths;
use super::{Choice, Member, Overview, PeerNo, Placed, Placement, Refused};
use crate::time::Instant;
use crate::tracker::message::{CLUSTER_AUTO, Redirect, Role};

mod admission;
mod measure;
mod servers;
mod shares;

#[cfg(test)]
mod tests;

use shares::{Feeds, Share};

/// Time between two rounds of balancing.
const ROUND: Duration = Duration::from_secs(10);

/// Time between two looks at the ways of streams: with a report of the server behind it, a link that filled is left
/// within 10 s.
const LOOK: Duration = Duration::from_secs(5);

/// How often members report.
const REPORT: Duration = Duration::from_secs(2);

/// Most clusters; relays that name further ones serve none.
pub const CLUSTERS_MAX: usize = 1024;

/// Most log lines kept for the shell.
const LOG_LINES_MAX: usize = 1024;

/// Reports in a row without the parent that a viewer was given, until it is given another.
const UNMET_MAX: u8 = 5;

/// How long a viewer is not sent again to whom it could not reach. Nobody else is kept from there for it: a liar could
/// empty a cluster by complaints.
const AVOIDED: Duration = Duration::from_secs(60);

/// How the policy decides.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether a server fills what supporters lack, or serves a viewer alone or not at all.
    pub mix: bool,
    /// Rate of a stream whose source has not told it yet, in kbit/s.
    pub rate_kbps: u64,
    /// Length of a session, until some have ended.
    pub session: Duration,
    /// A buffer is full from here on.
    pub full_buffer: Duration,
    /// Where addresses are, and links between clusters.
    pub networks: Networks,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mix: true,
            rate_kbps: 4_000,
            session: Duration::from_secs(3600),
            full_buffer: Duration::from_millis(500),
            networks: Networks::default(),
        }
    }
}

/// One viewer that was let in.
#[derive(Debug)]
struct Session {
    /// Later ones are larger.
    number: u64,
    since: Instant,
    /// When it should have found the parents that it was given.
    settles: Instant,
    cluster: Arc<str>,
    redirect: Option<Redirect>,
    /// Supporters first.
    shares: Vec<Share>,
    /// Reports in a row from under other parents.
    unmet: u8,
}

/// One member that is no server.
#[derive(Debug)]
struct Viewer {
    id: Arc<str>,
    ip: IpAddr,
    is_listed: bool,
    takes_shares: bool,
    has_slots: bool,
    depth: Option<u16>,
    uplink_kbps: Option<u64>,
    kbps: Option<u64>,
    loss_ppm: Option<u64>,
    session: Option<Session>,
    is_supporter: bool,
}

/// One swarm.
#[derive(Debug, Default)]
struct Swarm {
    channel: Option<Arc<str>>,
    source: Option<(PeerNo, Arc<str>)>,
    rate_kbps: Option<u64>,
    /// Substreams that it is cut into, as its source described them.
    parts: Option<u8>,
    viewers: BTreeMap<PeerNo, Viewer>,
    /// Servers in it, and the parent that each reported; those without have not got the stream.
    servers: BTreeMap<PeerNo, Option<Arc<str>>>,
    /// The parents that viewers and servers reported.
    feeds: BTreeMap<PeerNo, Feeds>,
    /// The same by the parent: what it gives to whom.
    below: BTreeMap<Arc<str>, BTreeMap<PeerNo, u32>>,
    by_id: BTreeMap<Arc<str>, PeerNo>,
}

/// One relay that serves a cluster.
#[derive(Debug)]
struct Server {
    id: Arc<str>,
    ip: IpAddr,
    cluster: Arc<str>,
    is_auto: bool,
    capacity_kbps: u64,
    latency: Option<Duration>,
    is_shedding: bool,
}

/// What one cluster was asked for.
#[derive(Debug, Default)]
struct Cluster {
    requests_total: u64,
    rejects_total: u64,
    redirects_total: u64,
    first_request: Option<Instant>,
    /// Begin of the current interval of one session length, requests and rejects in it.
    interval: (Instant, u64, u64),
    /// Rates of viewers that other clusters had to serve or nobody did; fades.
    unmet_kbps: u64,
}

/// What somebody is to send.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    kbps: u64,
    sessions: u64,
}

/// The policy.
#[derive(Debug)]
pub struct Psp {
    settings: Settings,
    clusters: BTreeMap<Arc<str>, Cluster>,
    servers: BTreeMap<PeerNo, Server>,
    swarms: BTreeMap<Arc<str>, Swarm>,
    loads: BTreeMap<PeerNo, Load>,
    paths: Paths,
    /// Viewers and whom they could not reach.
    unreached: BTreeMap<(PeerNo, PeerNo), Instant>,
    sessions: u64,
    /// Mean length of sessions that ended.
    session: Option<Duration>,
    look_at: Option<Instant>,
    round_at: Instant,
    log: VecDeque<String>,
}

impl Psp {
    /// No clusters yet: relays bring them.
    pub fn new(settings: Settings) -> Self {
        Self {
            paths: Paths::new(settings.networks.links()),
            settings,
            clusters: BTreeMap::new(),
            servers: BTreeMap::new(),
            swarms: BTreeMap::new(),
            loads: BTreeMap::new(),
            unreached: BTreeMap::new(),
            sessions: 0,
            session: None,
            look_at: None,
            round_at: Instant::ZERO,
            log: VecDeque::new(),
        }
    }

    fn say(&mut self, line: String) {
        if self.log.len() >= LOG_LINES_MAX {
            self.log.pop_front();
        }
        self.log.push_back(line);
    }

    /// A swarm for people: the name of its channel, or the beginning of its identifier.
    fn title(&self, swarm: &str) -> String {
        match self
            .swarms
            .get(swarm)
            .and_then(|swarm| swarm.channel.as_deref())
        {
            Some(channel) => channel.to_owned(),
            None => swarm.chars().take(8).collect(),
        }
    }

    /// A member for people.
    fn name(&self, swarm: &str, no: PeerNo) -> Arc<str> {
        let viewer = self
            .swarms
            .get(swarm)
            .and_then(|swarm| swarm.viewers.get(&no));
        match (viewer, self.servers.get(&no)) {
            (Some(viewer), _) => Arc::clone(&viewer.id),
            (None, Some(server)) => Arc::clone(&server.id),
            (None, None) => "?".into(),
        }
    }

    fn load(&mut self, share: Share, is_added: bool) {
        let load = self.loads.entry(share.from).or_default();
        if is_added {
            load.kbps += share.kbps;
            load.sessions += 1;
        } else {
            load.kbps -= share.kbps;
            load.sessions -= 1;
        }
        if load.sessions == 0 {
            self.loads.remove(&share.from);
        }
    }

    /// Ends a session: what it was given is free again.
    fn release(&mut self, now: Instant, swarm: &str, no: PeerNo) -> Option<Session> {
        let viewer = self.swarms.get_mut(swarm)?.viewers.get_mut(&no)?;
        viewer.is_supporter = false;
        let session = viewer.session.take()?;
        for share in session.shares.iter().copied() {
            self.load(share, false);
        }
        let length = now.since(session.since);
        // A mean that follows: one session in sixteen.
        let mean = self.session.unwrap_or(self.settings.session);
        self.session = Some((mean * 15 + length) / 16);
        Some(session)
    }

    /// Gives a session other shares.
    fn supply(&mut self, swarm: &str, no: PeerNo, cluster: &Arc<str>, shares: Vec<Share>) {
        let viewer = self
            .swarms
            .get_mut(swarm)
            .and_then(|swarm| swarm.viewers.get_mut(&no));
        let Some(session) = viewer.and_then(|viewer| viewer.session.as_mut()) else {
            return;
        };
        session.cluster = Arc::clone(cluster);
        session.unmet = 0;
        let old = std::mem::replace(&mut session.shares, shares.clone());
        for share in old {
            self.load(share, false);
        }
        for share in shares {
            self.load(share, true);
        }
    }

    fn is_server(&self, no: PeerNo) -> bool {
        self.servers.contains_key(&no)
    }

    /// Takes a viewer's report.
    fn on_viewer(&mut self, swarm: &Arc<str>, member: &Member) {
        let full_buffer = self.settings.full_buffer;
        let entry = self.swarms.entry(Arc::clone(swarm)).or_default();
        let before = entry.viewers.remove(&member.no);
        let (session, was_supporter) = match before {
            Some(before) => (before.session, before.is_supporter),
            None => (None, false),
        };
        let has_slots = member.slots_free != Some(0);
        // Who plays nothing has what it passes on at once.
        let is_full = match member.buffer {
            Some(buffer) => buffer >= full_buffer,
            None => member.role == Role::Relay,
        };
        // Who gets the stream badly passes it on badly.
        let is_whole = member.loss_ppm.unwrap_or(0) <= measure::LOSS_MAX_PPM;
        let has_content = member.depth.is_some() && is_full && is_whole;
        let is_supporter = session.is_some() && has_content && (has_slots || was_supporter);
        let cluster = session.as_ref().map(|session| Arc::clone(&session.cluster));
        entry.viewers.insert(
            member.no,
            Viewer {
                id: Arc::clone(&member.id),
                ip: member.ip,
                is_listed: member.is_listed,
                takes_shares: member.takes_shares,
                has_slots,
                depth: member.depth,
                uplink_kbps: member.uplink_kbps,
                kbps: member.kbps,
                loss_ppm: member.loss_ppm,
                session,
                is_supporter,
            },
        );
        if let Some(cluster) = cluster.filter(|_| is_supporter && !was_supporter) {
            self.say(format!("psp 5: {} supports cluster {cluster}", member.id));
        }
    }
}

impl Placement for Psp {
    fn on_member(&mut self, now: Instant, swarm: &Arc<str>, member: &Member) {
        if self.look_at.is_none() {
            (self.look_at, self.round_at) = (Some(now + LOOK), now + ROUND);
        }
        let entry = self.swarms.entry(Arc::clone(swarm)).or_default();
        entry.channel.clone_from(&member.channel);
        if member.role == Role::Source {
            entry.source = Some((member.no, Arc::clone(&member.id)));
            entry.rate_kbps = member.kbps.filter(|rate| *rate > 0).or(entry.rate_kbps);
            if let Some(parts) = member.substreams {
                self.cut(now, swarm, parts);
            }
            return;
        }
        entry.hang(now, member);
        match &member.cluster {
            Some(cluster) if member.role == Role::Relay => {
                self.on_server(now, swarm, member, cluster);
            }
            _ => self.on_viewer(swarm, member),
        }
    }

    fn on_gone(&mut self, now: Instant, swarm: &Arc<str>, no: PeerNo) {
        self.release(now, swarm, no);
        let Some(entry) = self.swarms.get_mut(swarm) else {
            return;
        };
        if entry
            .source
            .as_ref()
            .is_some_and(|(source, _)| *source == no)
        {
            entry.source = None;
        }
        entry.unhang(no);
        let server = self.servers.get(&no).map(|server| &server.id);
        let viewer = entry.viewers.remove(&no).map(|viewer| viewer.id);
        if let Some(id) = viewer.as_ref().or(server)
            && entry.by_id.get(id) == Some(&no)
        {
            entry.by_id.remove(id);
        }
        let was_server = entry.servers.remove(&no).is_some();
        let is_empty =
            entry.viewers.is_empty() && entry.servers.is_empty() && entry.source.is_none();
        if was_server {
            self.on_server_gone(swarm, no);
        }
        if is_empty {
            self.swarms.remove(swarm);
        } else {
            self.replace_supplier(now, swarm, no);
        }
    }

    fn place(&mut self, now: Instant, swarm: &Arc<str>, asker: PeerNo) -> Result<Placed, Refused> {
        if self.is_server(asker) {
            return Ok(match self.way_to(now, swarm, asker) {
                Some(parents) => Placed::to(parents),
                None => Placed::Listed,
            });
        }
        self.request(now, swarm, asker)?;
        let entry = self.swarms.get(swarm);
        let viewer = entry.and_then(|entry| entry.viewers.get(&asker));
        let session = viewer.and_then(|viewer| viewer.session.as_ref());
        Ok(Placed::Parents {
            parents: self.choices(swarm, asker).unwrap_or_default(),
            redirect: session.and_then(|session| session.redirect.clone()),
        })
    }

    fn move_of(&mut self, now: Instant, swarm: &Arc<str>, no: PeerNo) -> Vec<Choice> {
        if self.is_server(no) {
            let parents = self.server_move(now, swarm, no);
            return parents.into_iter().map(Choice::to).collect();
        }
        let unmet = self.unmet(swarm, no);
        let viewer = self
            .swarms
            .get_mut(swarm)
            .and_then(|entry| entry.viewers.get_mut(&no))
            .filter(|viewer| viewer.depth.is_some());
        let Some(session) = viewer.and_then(|viewer| viewer.session.as_mut()) else {
            return Vec::new();
        };
        session.unmet = match unmet.is_empty() {
            true => 0,
            false => session.unmet + 1,
        };
        if session.unmet == 0 {
            return Vec::new();
        }
        if session.unmet > UNMET_MAX {
            for from in &unmet {
                self.unreached.insert((no, *from), now + AVOIDED);
            }
            self.supply_again(now, swarm, no, &unmet);
            return Vec::new();
        }
        let mut choices = self.choices(swarm, no).unwrap_or_default();
        if choices.iter().all(|choice| choice.mask.is_none()) {
            choices.truncate(1);
        }
        choices
    }

    fn cluster_of(&self, no: PeerNo) -> Option<Arc<str>> {
        let server = self.servers.get(&no)?;
        server.is_auto.then(|| Arc::clone(&server.cluster))
    }

    fn report_interval(&self) -> Option<Duration> {
        Some(REPORT)
    }

    fn handle_timeout(&mut self, now: Instant) {
        let Some(due) = self.look_at.filter(|at| *at <= now) else {
            return;
        };
        // Being called late moves no later look.
        let next = Some(due + LOOK).filter(|next| *next > now);
        self.look_at = (!self.swarms.is_empty()).then(|| next.unwrap_or(now + LOOK));
        self.find_ways(now);
        if now < self.round_at {
            return;
        }
        self.round_at = (self.round_at + ROUND).max(now + LOOK);
        self.unreached.retain(|_, until| *until > now);
        self.balance(now);
        for cluster in self.clusters.values_mut() {
            cluster.unmet_kbps = cluster.unmet_kbps * 9 / 10;
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.look_at
    }

    fn poll_log(&mut self) -> Option<String> {
        self.log.pop_front()
    }

    /// Viewers stay where they were let in; newcomers, and the ways of streams, go by the new file.
    fn set_networks(&mut self, now: Instant, networks: Networks) {
        self.paths.set_links(networks.links());
        self.settings.networks = networks;
        self.find_ways(now);
    }

    fn overview(&self, now: Instant) -> Overview {
        self.measured(now)
    }
}

/// The cluster that a relay named, when it named one.
fn named(cluster: &Arc<str>) -> Option<&Arc<str>> {
    (**cluster != *CLUSTER_AUTO).then_some(cluster)
}
