//! Clusters with servers, and viewers who help them (algorithms 3.2, after PSP).
//!
//! A viewer is sent to the nearest cluster. There supporting peers serve it when they have room, else a server does;
//! when neither has, another cluster; else it is rejected. What supporters can give is what their receivers measured, and
//! one viewer more: a claim opens the door for the first one, nothing else.
//!
//! | file | answers |
//! | --- | --- |
//! | `admission` | the seven steps of a request |
//! | `measure` | who supports, with how much; what the model says |
//! | `servers` | which cluster a server serves, the way to it, and load moved between servers |

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::networks::Networks;
use super::paths::Paths;
use super::{Member, Overview, PeerNo, Placed, Placement, Refused};
use crate::time::Instant;
use crate::tracker::message::{CLUSTER_AUTO, Redirect, Role};

mod admission;
mod measure;
mod servers;

#[cfg(test)]
mod tests;

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
    /// Parts of one stream that a viewer may get from different parents; the peers of today take all from one.
    pub parts: u64,
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
            parts: 1,
            networks: Networks::default(),
        }
    }
}

/// What a viewer gets, and from whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Share {
    from: PeerNo,
    kbps: u64,
    is_server: bool,
}

/// One viewer that was let in.
#[derive(Debug)]
struct Session {
    /// Later ones are larger.
    number: u64,
    since: Instant,
    cluster: Arc<str>,
    redirect: Option<Redirect>,
    /// Supporters first.
    shares: Vec<Share>,
    /// Reports in a row from under another parent.
    unmet: u8,
}

impl Session {
    /// Who should push to it: whoever gives most, supporters before servers.
    fn parent(&self) -> Option<Share> {
        self.shares
            .iter()
            .copied()
            .reduce(|best, share| if share.kbps > best.kbps { share } else { best })
    }
}

/// One member that is no server.
#[derive(Debug)]
struct Viewer {
    id: Arc<str>,
    ip: IpAddr,
    is_listed: bool,
    has_slots: bool,
    depth: Option<u16>,
    parent: Option<Arc<str>>,
    parent_since: Instant,
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
    viewers: BTreeMap<PeerNo, Viewer>,
    /// Servers in it, and the parent that each reported; those without have not got the stream.
    servers: BTreeMap<PeerNo, Option<Arc<str>>>,
    /// Viewers and servers by the parent that they reported.
    below: BTreeMap<Arc<str>, BTreeSet<PeerNo>>,
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

    /// The rate of a swarm.
    fn rate(&self, swarm: &str) -> u64 {
        self.swarms
            .get(swarm)
            .and_then(|swarm| swarm.rate_kbps)
            .unwrap_or(self.settings.rate_kbps)
            .max(1)
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

    /// Who is told to a viewer: the parent it was given, other shares, then the servers of its cluster to stand in.
    fn parents(&self, swarm: &str, no: PeerNo) -> Option<(Vec<PeerNo>, Option<Redirect>)> {
        let entry = self.swarms.get(swarm)?;
        let session = entry.viewers.get(&no)?.session.as_ref()?;
        let first = session.parent()?.from;
        let mut parents = vec![first];
        let servers = self.servers_of(swarm, &session.cluster);
        for other in session.shares.iter().map(|share| share.from).chain(servers) {
            if !parents.contains(&other) {
                parents.push(other);
            }
        }
        Some((parents, session.redirect.clone()))
    }

    fn is_server(&self, no: PeerNo) -> bool {
        self.servers.contains_key(&no)
    }

    /// Takes a viewer's report.
    fn on_viewer(&mut self, now: Instant, swarm: &Arc<str>, member: &Member) {
        let full_buffer = self.settings.full_buffer;
        let entry = self.swarms.entry(Arc::clone(swarm)).or_default();
        let before = entry.viewers.remove(&member.no);
        let (mut session, mut was_supporter, mut parent_since) = (None, false, now);
        if let Some(before) = before {
            if before.parent == member.parent {
                parent_since = before.parent_since;
            }
            (session, was_supporter) = (before.session, before.is_supporter);
        }
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
                has_slots,
                depth: member.depth,
                parent: member.parent.clone(),
                parent_since,
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

impl Swarm {
    /// Remembers under whom a member says it is.
    fn hang(&mut self, no: PeerNo, id: &Arc<str>, parent: Option<&Arc<str>>) {
        self.unhang(no);
        if let Some(parent) = parent {
            self.below.entry(Arc::clone(parent)).or_default().insert(no);
        }
        self.by_id.insert(Arc::clone(id), no);
    }

    fn unhang(&mut self, no: PeerNo) {
        let viewer = self
            .viewers
            .get(&no)
            .and_then(|viewer| viewer.parent.clone());
        let server = self.servers.get(&no).cloned().flatten();
        if let Some(parent) = viewer.or(server)
            && let Some(children) = self.below.get_mut(&parent)
        {
            children.remove(&no);
            if children.is_empty() {
                self.below.remove(&parent);
            }
        }
    }

    /// Whether the stream comes to a member through another, as far as reports tell.
    fn is_below(&self, no: PeerNo, above: PeerNo) -> bool {
        let mut at = no;
        for _ in 0..64 {
            if at == above {
                return true;
            }
            let parent = self
                .viewers
                .get(&at)
                .and_then(|viewer| viewer.parent.as_ref());
            match parent.and_then(|parent| self.by_id.get(parent)) {
                Some(parent) => at = *parent,
                None => return false,
            }
        }
        true
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
            return;
        }
        entry.hang(member.no, &member.id, member.parent.as_ref());
        match &member.cluster {
            Some(cluster) if member.role == Role::Relay => {
                self.on_server(now, swarm, member, cluster);
            }
            _ => self.on_viewer(now, swarm, member),
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
        Ok(match self.parents(swarm, asker) {
            Some((parents, redirect)) => Placed::Parents { parents, redirect },
            None => Placed::to(Vec::new()),
        })
    }

    fn move_of(&mut self, now: Instant, swarm: &Arc<str>, no: PeerNo) -> Vec<PeerNo> {
        if self.is_server(no) {
            return self.server_move(now, swarm, no);
        }
        let Some(viewer) = self
            .swarms
            .get_mut(swarm)
            .and_then(|entry| entry.viewers.get_mut(&no))
        else {
            return Vec::new();
        };
        let (depth, reported) = (viewer.depth, viewer.parent.clone());
        let wanted = viewer.session.as_ref().and_then(Session::parent);
        let Some(wanted) = wanted.filter(|_| depth.is_some()) else {
            return Vec::new();
        };
        let name = self.name(swarm, wanted.from);
        let session = self
            .swarms
            .get_mut(swarm)
            .and_then(|entry| entry.viewers.get_mut(&no)?.session.as_mut());
        let Some(session) = session else {
            return Vec::new();
        };
        if reported.as_ref() == Some(&name) {
            session.unmet = 0;
            return Vec::new();
        }
        session.unmet += 1;
        if session.unmet > UNMET_MAX {
            self.unreached.insert((no, wanted.from), now + AVOIDED);
            self.supply_again(now, swarm, no);
            return Vec::new();
        }
        vec![wanted.from]
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
