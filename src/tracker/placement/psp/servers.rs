//! Servers: which cluster one serves, the way of a stream to it, and load moved from full to less loaded ones.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::measure::LOSS_MAX_PPM;
use super::shares::{Share, joined};
use super::{CLUSTERS_MAX, Psp, Server, named};
use crate::time::Instant;
use crate::tracker::address::may_learn;
use crate::tracker::placement::{Member, PeerNo};

/// A server sheds load above this, in thousandths of its capacity, until it is below.
const FULL_PERMILLE: u64 = 900;

/// A server below this takes load from others.
const SPARE_PERMILLE: u64 = 700;

/// Sessions that one server gives away in one round, at most, in percent.
const SHED_PERCENT: u64 = 10;

/// The cluster of a server that left it to a tracker which knows of none.
const FIRST_CLUSTER: &str = "main";

impl Psp {
    /// Takes a server's report.
    pub(super) fn on_server(
        &mut self,
        now: Instant,
        swarm: &Arc<str>,
        member: &Member,
        cluster: &Arc<str>,
    ) {
        let known = self.servers.get(&member.no);
        let chosen = match (named(cluster), known) {
            (Some(cluster), _) => Arc::clone(cluster),
            (None, Some(known)) if known.is_auto => Arc::clone(&known.cluster),
            (None, _) => self.neediest_cluster(),
        };
        if !self.clusters.contains_key(&chosen) && self.clusters.len() >= CLUSTERS_MAX {
            return self.on_viewer(swarm, member);
        }
        let is_new = known.is_none();
        let is_shedding = known.is_some_and(|known| known.is_shedding);
        let needs = self.clusters.entry(Arc::clone(&chosen)).or_default();
        if is_new {
            needs.unmet_kbps = 0;
        }
        self.servers.insert(
            member.no,
            Server {
                id: Arc::clone(&member.id),
                ip: member.ip,
                cluster: Arc::clone(&chosen),
                is_auto: named(cluster).is_none(),
                capacity_kbps: member.capacity_kbps.unwrap_or(0),
                latency: member.latency,
                is_shedding,
            },
        );
        if let Some(entry) = self.swarms.get_mut(swarm) {
            let parent = member.parent.clone().filter(|_| member.depth.is_some());
            entry.servers.insert(member.no, parent);
        }
        if is_new {
            let capacity = member.capacity_kbps.unwrap_or(0);
            self.say(format!(
                "psp: server {} serves cluster {chosen} with {capacity} kbit/s",
                member.id
            ));
        }
        if member.loss_ppm.is_some_and(|loss| loss > LOSS_MAX_PPM)
            && self.leads(swarm, member.no)
            && self.paths.on_loss(now, swarm, &chosen)
        {
            self.find_way(now, swarm, &chosen);
        }
    }

    pub(super) fn on_server_gone(&mut self, swarm: &Arc<str>, no: PeerNo) {
        let is_elsewhere = self
            .swarms
            .iter()
            .any(|(name, entry)| name != swarm && entry.servers.contains_key(&no));
        let Some(server) = self.servers.get(&no) else {
            return;
        };
        let cluster = Arc::clone(&server.cluster);
        if self.servers_in(&cluster).iter().all(|other| {
            *other == no
                || !self
                    .swarms
                    .get(swarm)
                    .is_some_and(|entry| entry.servers.contains_key(other))
        }) {
            self.paths.forget(swarm, &cluster);
        }
        if !is_elsewhere {
            self.servers.remove(&no);
        }
    }

    /// Where a server is needed most: where most was asked for in vain, else in the fullest cluster.
    fn neediest_cluster(&self) -> Arc<str> {
        let fullness = |name: &Arc<str>| {
            let servers = self.servers_in(name);
            servers
                .iter()
                .map(|no| self.load_permille(*no))
                .min()
                .unwrap_or(u64::MAX)
        };
        self.clusters
            .iter()
            .max_by_key(|(name, cluster)| {
                (
                    cluster.unmet_kbps,
                    fullness(name),
                    std::cmp::Reverse(Arc::clone(name)),
                )
            })
            .map_or_else(|| FIRST_CLUSTER.into(), |(name, _)| Arc::clone(name))
    }

    /// Servers of a cluster, the least loaded first.
    pub(super) fn servers_in(&self, cluster: &str) -> Vec<PeerNo> {
        let mut servers: Vec<(u64, PeerNo)> = self
            .servers
            .iter()
            .filter(|(_, server)| *server.cluster == *cluster)
            .map(|(no, _)| (self.load_permille(*no), *no))
            .collect();
        servers.sort_unstable();
        servers.into_iter().map(|(_, no)| no).collect()
    }

    /// Those of them that have a stream.
    pub(super) fn servers_of(&self, swarm: &str, cluster: &str) -> Vec<PeerNo> {
        let has_stream = |no: &PeerNo| {
            let parent = self
                .swarms
                .get(swarm)
                .and_then(|entry| entry.servers.get(no));
            parent.is_some_and(Option::is_some)
        };
        let mut servers = self.servers_in(cluster);
        servers.retain(has_stream);
        servers
    }

    /// The server that gets a stream for its whole cluster: the one that is there longest.
    fn lead(&self, swarm: &str, cluster: &str) -> Option<PeerNo> {
        let entry = self.swarms.get(swarm)?;
        entry.servers.keys().copied().find(|no| {
            self.servers
                .get(no)
                .is_some_and(|server| *server.cluster == *cluster)
        })
    }

    fn leads(&self, swarm: &str, no: PeerNo) -> bool {
        self.servers
            .get(&no)
            .is_some_and(|server| self.lead(swarm, &server.cluster) == Some(no))
    }

    /// Finds the way of a stream to a cluster anew.
    fn find_way(&mut self, now: Instant, swarm: &Arc<str>, cluster: &Arc<str>) {
        if self.paths.is_empty() {
            return;
        }
        let rate = self.stream(swarm).rate;
        let carriers: BTreeSet<Arc<str>> = self
            .swarms
            .get(swarm)
            .into_iter()
            .flat_map(|entry| entry.servers.keys())
            .filter_map(|no| Some(Arc::clone(&self.servers.get(no)?.cluster)))
            .collect();
        let carries = |name: &str| carriers.contains(name);
        if self.paths.find(now, swarm, cluster, rate, carries) {
            let through = self.paths.through(swarm, cluster).unwrap_or_default();
            let through = match through.join(" and ") {
                names if names.is_empty() => "directly".to_owned(),
                names => format!("through {names}"),
            };
            let latency = self.paths.latency(swarm, cluster).unwrap_or_default();
            let (film, latency) = (self.title(swarm), latency.as_secs_f64() * 1000.0);
            self.say(format!(
                "psp: {film} comes to cluster {cluster} {through}, {latency:.1} ms"
            ));
        }
    }

    /// Finds all ways anew, as links fill and empty.
    pub(super) fn find_ways(&mut self, now: Instant) {
        let ways: Vec<(Arc<str>, Arc<str>)> = self
            .swarms
            .iter()
            .flat_map(|(name, entry)| entry.servers.keys().map(move |no| (name, no)))
            .filter_map(|(name, no)| {
                Some((Arc::clone(name), Arc::clone(&self.servers.get(no)?.cluster)))
            })
            .collect();
        for (swarm, cluster) in ways.into_iter().collect::<BTreeSet<_>>() {
            self.find_way(now, &swarm, &cluster);
        }
    }

    /// Whom a server gets a stream from: the first server of its cluster, which gets it from the cluster before it on the
    /// way, or from the source. The source stands in for all.
    pub(super) fn way_to(
        &mut self,
        now: Instant,
        swarm: &Arc<str>,
        no: PeerNo,
    ) -> Option<Vec<PeerNo>> {
        let cluster = Arc::clone(&self.servers.get(&no)?.cluster);
        if self.paths.through(swarm, &cluster).is_none() {
            self.find_way(now, swarm, &cluster);
        }
        let (source, _) = self.swarms.get(swarm)?.source.as_ref()?;
        let source = *source;
        let mut parents = Vec::new();
        match self.lead(swarm, &cluster) {
            Some(lead) if lead != no => parents.push(lead),
            _ => {
                let through = self.paths.through(swarm, &cluster).unwrap_or_default();
                let before = through.last().and_then(|before| self.lead(swarm, before));
                parents.extend(before);
            }
        }
        parents.push(source);
        Some(parents)
    }

    /// The parent that a server should have, where it has another.
    pub(super) fn server_move(
        &mut self,
        now: Instant,
        swarm: &Arc<str>,
        no: PeerNo,
    ) -> Vec<PeerNo> {
        let Some(wanted) = self
            .way_to(now, swarm, no)
            .and_then(|parents| parents.first().copied())
        else {
            return Vec::new();
        };
        let Some(entry) = self.swarms.get(swarm) else {
            return Vec::new();
        };
        let Some(Some(parent)) = entry.servers.get(&no) else {
            return Vec::new();
        };
        let has_stream = |no: PeerNo| entry.servers.get(&no).is_none_or(Option::is_some);
        let name = match &entry.source {
            Some((source, id)) if *source == wanted => Arc::clone(id),
            _ => self.name(swarm, wanted),
        };
        if *parent == name || !has_stream(wanted) {
            return Vec::new();
        }
        vec![wanted]
    }

    /// Moves the newest sessions of full servers to the least loaded ones.
    pub(super) fn balance(&mut self, now: Instant) {
        let servers: Vec<PeerNo> = self.servers.keys().copied().collect();
        for no in servers {
            let load = self.load_permille(no);
            let Some(server) = self.servers.get_mut(&no) else {
                continue;
            };
            server.is_shedding =
                load > FULL_PERMILLE || (server.is_shedding && load >= FULL_PERMILLE);
            if server.is_shedding {
                self.shed(now, no);
            }
        }
    }

    fn shed(&mut self, now: Instant, no: PeerNo) {
        let Some(server) = self.servers.get(&no) else {
            return;
        };
        let capacity = server.capacity_kbps.max(1);
        let mut sessions: Vec<(u64, Arc<str>, PeerNo, Share)> = Vec::new();
        for (name, swarm) in &self.swarms {
            for (viewer_no, viewer) in &swarm.viewers {
                let session = viewer.session.iter();
                let shares = session.flat_map(|session| {
                    let shares = session.shares.iter();
                    shares.map(|share| (session.number, *share))
                });
                for (number, share) in shares.filter(|(_, share)| share.from == no) {
                    sessions.push((number, Arc::clone(name), *viewer_no, share));
                }
            }
        }
        sessions.sort_unstable_by_key(|(number, ..)| std::cmp::Reverse(*number));
        let most = (sessions.len() as u64 * SHED_PERCENT).div_ceil(100);
        let mut used = self.used_kbps(no);
        for (_, swarm, viewer, share) in sessions.into_iter().take(most as usize) {
            if used * 1000 / capacity < FULL_PERMILLE {
                return;
            }
            let Some((target, cluster)) = self.taker(now, &swarm, viewer, share) else {
                continue;
            };
            let Some((shares, home)) = self.moved(&swarm, viewer, share.from, target) else {
                continue;
            };
            let (name, from, to) = (
                self.name(&swarm, viewer),
                self.name(&swarm, no),
                self.name(&swarm, target),
            );
            self.say(format!(
                "psp: {name} moves from server {from} to server {to} of cluster {cluster}"
            ));
            // Who keeps some of its parents stays where they are.
            let cluster = if shares.len() > 1 { home } else { cluster };
            self.supply(&swarm, viewer, &cluster, shares);
            used = used.saturating_sub(share.kbps);
        }
    }

    /// The shares of a session, with another server in the place of one, and its cluster.
    fn moved(
        &self,
        swarm: &str,
        viewer: PeerNo,
        from: PeerNo,
        to: PeerNo,
    ) -> Option<(Vec<Share>, Arc<str>)> {
        let viewer = self.swarms.get(swarm)?.viewers.get(&viewer)?;
        let session = viewer.session.as_ref()?;
        let replaced = session.shares.iter().map(|share| Share {
            from: if share.from == from { to } else { share.from },
            ..*share
        });
        let shares = joined(self.stream(swarm), replaced);
        Some((shares, Arc::clone(&session.cluster)))
    }

    /// The least loaded server that has a stream and room for one more viewer of it.
    fn taker(
        &self,
        now: Instant,
        swarm: &Arc<str>,
        viewer: PeerNo,
        share: Share,
    ) -> Option<(PeerNo, Arc<str>)> {
        let entry = self.swarms.get(swarm)?;
        let ip = entry.viewers.get(&viewer)?.ip;
        entry
            .servers
            .iter()
            .filter(|(no, parent)| parent.is_some() && **no != share.from)
            .filter_map(|(no, _)| Some((self.load_permille(*no), *no, self.servers.get(no)?)))
            .filter(|(load, no, server)| {
                *load < SPARE_PERMILLE
                    && self.free_kbps(now, *no) >= share.kbps
                    && may_learn(ip, server.ip)
            })
            .min_by_key(|(load, no, _)| (*load, *no))
            .map(|(_, no, server)| (no, Arc::clone(&server.cluster)))
    }
}
