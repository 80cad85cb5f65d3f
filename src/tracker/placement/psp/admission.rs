//! The seven steps of a request, in their order (algorithms 3.2); each leaves a line in the log.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::shares::{Share, given, joined};
use super::{Cluster, Psp, Session};
use crate::time::Instant;
use crate::tracker::address::may_learn;
use crate::tracker::message::Redirect;
use crate::tracker::placement::networks::Nearness;
use crate::tracker::placement::{PeerNo, Refused};

/// Clusters that one request is redirected to at most.
pub(super) const REDIRECTS_MAX: usize = 3;

/// A viewer that asks again before this has passed gets the same answer.
const SETTLING: Duration = Duration::from_secs(4);

/// Longest root path of somebody who serves others.
const DEPTH_MAX: u16 = 31;

impl Psp {
    /// Lets a viewer in, or says why not. One that is in and has the stream keeps what it has.
    pub(super) fn request(
        &mut self,
        now: Instant,
        swarm: &Arc<str>,
        asker: PeerNo,
    ) -> Result<(), Refused> {
        let Some(viewer) = self
            .swarms
            .get(swarm)
            .and_then(|entry| entry.viewers.get(&asker))
        else {
            return Ok(());
        };
        if let Some(session) = &viewer.session {
            if viewer.depth.is_some() {
                // What it lost and nobody could give then.
                self.supply_again(now, swarm, asker, &BTreeSet::new());
                return Ok(());
            }
            if now < session.settles {
                return Ok(());
            }
            let (first, shares) = (session.parent(), session.shares.len());
            let unmet = self.unmet(swarm, asker);
            let is_fed = !unmet.is_empty() && unmet.len() < shares;
            let lost = match first {
                // Some go on giving: others are found for the rest.
                _ if is_fed => unmet,
                // Its parents gave it nothing: it is let in again, elsewhere if need be.
                first => first.into_iter().map(|share| share.from).collect(),
            };
            for from in &lost {
                self.unreached.insert((asker, *from), now + super::AVOIDED);
            }
            if is_fed {
                self.settle(now, swarm, asker);
                self.supply_again(now, swarm, asker, &lost);
                return Ok(());
            }
            self.release(now, swarm, asker);
        }
        self.admit(now, swarm, asker)
    }

    /// Gives a session time to find its parents.
    fn settle(&mut self, now: Instant, swarm: &str, asker: PeerNo) {
        let viewer = self
            .swarms
            .get_mut(swarm)
            .and_then(|entry| entry.viewers.get_mut(&asker));
        if let Some(session) = viewer.and_then(|viewer| viewer.session.as_mut()) {
            session.settles = now + SETTLING;
        }
    }

    fn admit(&mut self, now: Instant, swarm: &Arc<str>, asker: PeerNo) -> Result<(), Refused> {
        let (stream, film, name) = (
            self.stream(swarm),
            self.title(swarm),
            self.name(swarm, asker),
        );
        let rate = stream.rate;
        self.say(format!("psp 1: {name} asks for {film} at {rate} kbit/s"));
        let Some((home, nearness)) = self.nearest_cluster(swarm, asker) else {
            return self.reject(now, asker, swarm, None, "there is no cluster");
        };
        self.count_request(now, &home);
        let server = self.servers_in(&home).first().copied();
        let server = server.map_or_else(
            || "no server".to_owned(),
            |no| format!("server {}", self.name(swarm, no)),
        );
        self.say(format!(
            "psp 2: {name} is sent to cluster {home}, {server} ({})",
            nearness.name()
        ));
        let mut tried: BTreeSet<Arc<str>> = BTreeSet::new();
        let mut at = Arc::clone(&home);
        let mut redirect = None;
        loop {
            if let Some(shares) = self.find_supply(now, swarm, asker, &at, stream.whole()) {
                self.say_supply(swarm, &name, &at, &shares);
                self.open_session(now, swarm, asker, &at, redirect);
                self.supply(swarm, asker, &at, shares);
                return Ok(());
            }
            let reason = if self.has_content(swarm, &at) {
                format!("no bandwidth in cluster {at}")
            } else {
                format!("{film} is not in cluster {at}")
            };
            tried.insert(at);
            let next = self.best_server(now, swarm, asker, &tried, rate);
            let Some(best) = next.filter(|_| tried.len() <= REDIRECTS_MAX) else {
                return self.reject(now, asker, swarm, Some(&home), &reason);
            };
            let (server, cluster, free) = best;
            let latency = self
                .latency(swarm, server)
                .map_or_else(String::new, |latency| {
                    format!(", {:.1} ms", latency.as_secs_f64() * 1000.0)
                });
            let id = self.name(swarm, server);
            self.say(format!(
                "psp 6: {name} goes on to cluster {cluster}, server {id} ({free} kbit/s free{latency}): {reason}"
            ));
            redirect = Some(Redirect {
                cluster: cluster.to_string(),
                server: id.to_string(),
                reason,
            });
            if tried.len() == 1
                && let Some(home) = self.clusters.get_mut(&home)
            {
                home.redirects_total += 1;
                home.unmet_kbps = home.unmet_kbps.saturating_add(rate);
            }
            at = cluster;
        }
    }

    fn open_session(
        &mut self,
        now: Instant,
        swarm: &Arc<str>,
        asker: PeerNo,
        cluster: &Arc<str>,
        redirect: Option<Redirect>,
    ) {
        self.sessions += 1;
        let number = self.sessions;
        if let Some(viewer) = self
            .swarms
            .get_mut(swarm)
            .and_then(|entry| entry.viewers.get_mut(&asker))
        {
            viewer.session = Some(Session {
                number,
                since: now,
                settles: now + SETTLING,
                cluster: Arc::clone(cluster),
                redirect,
                shares: Vec::new(),
                unmet: 0,
            });
        }
    }

    fn reject(
        &mut self,
        now: Instant,
        asker: PeerNo,
        swarm: &Arc<str>,
        home: Option<&Arc<str>>,
        reason: &str,
    ) -> Result<(), Refused> {
        let (name, rate) = (self.name(swarm, asker), self.stream(swarm).rate);
        self.say(format!(
            "psp 7: {name} is rejected: {reason}, and nothing free elsewhere"
        ));
        // It never was redirected, as far as it can see.
        if let Some(cluster) = home.and_then(|home| self.clusters.get_mut(home)) {
            cluster.rejects_total += 1;
            cluster.interval.2 += 1;
            cluster.unmet_kbps = cluster.unmet_kbps.saturating_add(rate);
            cluster.first_request.get_or_insert(now);
        }
        Err(Refused(format!("{reason}, and nothing free elsewhere")))
    }

    fn count_request(&mut self, now: Instant, home: &Arc<str>) {
        let length = self.session_length();
        let cluster = self.clusters.entry(Arc::clone(home)).or_default();
        cluster.first_request.get_or_insert(now);
        cluster.requests_total += 1;
        let (begin, requests, rejects) = cluster.interval;
        cluster.interval = if requests == 0 || now.since(begin) >= length {
            (now, 1, 0)
        } else {
            (begin, requests + 1, rejects)
        };
    }

    /// Step 2: the cluster that a viewer belongs to, and by what.
    fn nearest_cluster(&self, swarm: &str, asker: PeerNo) -> Option<(Arc<str>, Nearness)> {
        let ip = self.swarms.get(swarm)?.viewers.get(&asker)?.ip;
        // Its own network may belong to a cluster that has no server yet.
        let own = self.settings.networks.place(ip).cluster;
        let with_servers = self
            .servers
            .values()
            .map(|server| Arc::clone(&server.cluster));
        let clusters: BTreeSet<Arc<str>> = with_servers.chain(own).collect();
        clusters
            .into_iter()
            .map(|name| {
                let servers = self.servers_in(&name);
                let ips: Vec<_> = servers
                    .iter()
                    .filter_map(|no| Some(self.servers.get(no)?.ip))
                    .collect();
                let nearness = self.settings.networks.nearness(ip, &name, &ips);
                let load = servers.iter().map(|no| self.load_permille(*no)).min();
                (nearness, load.unwrap_or(u64::MAX), name)
            })
            .min()
            .map(|(nearness, _, name)| (name, nearness))
    }

    /// Whether anybody in a cluster has the stream.
    fn has_content(&self, swarm: &str, cluster: &Arc<str>) -> bool {
        !self.servers_of(swarm, cluster).is_empty()
            || self.swarms.get(swarm).is_some_and(|entry| {
                entry.viewers.values().any(|viewer| {
                    let session = viewer.session.as_ref();
                    viewer.is_supporter
                        && session.is_some_and(|session| session.cluster == *cluster)
                })
            })
    }

    /// Steps 3 and 4: who in a cluster gives a viewer the substreams of a mask.
    fn find_supply(
        &self,
        now: Instant,
        swarm: &Arc<str>,
        asker: PeerNo,
        cluster: &Arc<str>,
        wanted: u32,
    ) -> Option<Vec<Share>> {
        let stream = self.stream(swarm);
        let entry = self.swarms.get(swarm)?;
        let viewer = entry.viewers.get(&asker)?;
        let (mut shares, mut missing) = (Vec::new(), wanted);
        for (no, free) in self.supporters(now, swarm, asker, cluster) {
            if stream.within(missing, free) == 0 {
                continue;
            }
            // Looked at last: it walks up a path.
            let looped = entry.through(no, asker, missing);
            let mask = stream.within(missing & !looped, free);
            if mask != 0 && (viewer.takes_shares || mask == wanted) {
                shares.push(Share {
                    from: no,
                    mask,
                    kbps: stream.kbps(mask),
                    is_server: false,
                });
                missing &= !mask;
            }
            if missing == 0 {
                return Some(shares);
            }
        }
        if !self.settings.mix {
            shares.clear();
            missing = wanted;
        }
        let rest = stream.kbps(missing);
        let ip = viewer.ip;
        let server = self.servers_of(swarm, cluster).into_iter().find(|no| {
            self.free_kbps(now, *no) >= rest
                && self.can_reach(now, asker, *no)
                && self
                    .servers
                    .get(no)
                    .is_some_and(|server| may_learn(ip, server.ip))
        })?;
        shares.push(Share {
            from: server,
            mask: missing,
            kbps: rest,
            is_server: true,
        });
        Some(shares)
    }

    /// Supporting peers of a cluster with something to give to a viewer, nearest to the source first.
    fn supporters(
        &self,
        now: Instant,
        swarm: &Arc<str>,
        asker: PeerNo,
        cluster: &Arc<str>,
    ) -> Vec<(PeerNo, u64)> {
        let Some(entry) = self.swarms.get(swarm) else {
            return Vec::new();
        };
        let Some(ip) = entry.viewers.get(&asker).map(|viewer| viewer.ip) else {
            return Vec::new();
        };
        let stream = self.stream(swarm);
        let mut found: Vec<_> = entry
            .viewers
            .iter()
            .filter(|(no, viewer)| {
                let session = viewer.session.as_ref();
                viewer.is_supporter
                    && viewer.is_listed
                    && viewer.has_slots
                    && viewer.depth.is_some_and(|depth| depth < DEPTH_MAX)
                    && session.is_some_and(|session| session.cluster == *cluster)
                    && may_learn(ip, viewer.ip)
                    && self.can_reach(now, asker, **no)
            })
            .map(|(no, viewer)| {
                let free = self.supporter_free(now, entry, *no, viewer, stream, asker);
                (viewer.depth, std::cmp::Reverse(free), *no)
            })
            .collect();
        found.sort_unstable();
        found
            .into_iter()
            .map(|(_, free, no)| (no, free.0))
            .filter(|(_, free)| *free > 0)
            .collect()
    }

    /// Whether a viewer did not fail to reach somebody lately.
    fn can_reach(&self, now: Instant, asker: PeerNo, no: PeerNo) -> bool {
        let until = self.unreached.get(&(asker, no));
        until.is_none_or(|until| *until <= now)
    }

    fn say_supply(&mut self, swarm: &str, name: &str, cluster: &str, shares: &[Share]) {
        let (servers, supporters): (Vec<Share>, Vec<Share>) =
            shares.iter().partition(|share| share.is_server);
        if !supporters.is_empty() {
            let each: Vec<String> = supporters
                .iter()
                .map(|share| format!("{} ({} kbit/s)", self.name(swarm, share.from), share.kbps))
                .collect();
            let each = each.join(", ");
            self.say(format!(
                "psp 3: {name} streams from supporters of cluster {cluster}: {each}"
            ));
        }
        for share in servers {
            let server = self.name(swarm, share.from);
            self.say(format!(
                "psp 4: {name} streams from server {server} of cluster {cluster} ({} kbit/s)",
                share.kbps
            ));
        }
    }

    /// Step 6: the server with the stream and `kbps` to give that is nearest to the source, in a cluster not tried yet.
    fn best_server(
        &self,
        now: Instant,
        swarm: &Arc<str>,
        asker: PeerNo,
        tried: &BTreeSet<Arc<str>>,
        kbps: u64,
    ) -> Option<(PeerNo, Arc<str>, u64)> {
        let entry = self.swarms.get(swarm)?;
        let ip = entry.viewers.get(&asker)?.ip;
        entry
            .servers
            .iter()
            .filter(|(_, parent)| parent.is_some())
            .filter_map(|(no, _)| Some((*no, self.servers.get(no)?)))
            .filter(|(_, server)| !tried.contains(&server.cluster) && may_learn(ip, server.ip))
            .filter(|(no, _)| self.can_reach(now, asker, *no))
            .map(|(no, server)| (no, Arc::clone(&server.cluster), self.free_kbps(now, no)))
            .filter(|(_, _, free)| *free >= kbps)
            .min_by_key(|(no, _, _)| (self.latency(swarm, *no).unwrap_or(Duration::MAX), *no))
    }

    /// Somebody who served viewers is gone: they are supplied again, each in its own cluster if possible.
    pub(super) fn replace_supplier(&mut self, now: Instant, swarm: &Arc<str>, gone: PeerNo) {
        if !self.loads.contains_key(&gone) {
            return;
        }
        let Some(entry) = self.swarms.get(swarm) else {
            return;
        };
        let hit: Vec<PeerNo> = entry
            .viewers
            .iter()
            .filter(|(_, viewer)| {
                let session = viewer.session.as_ref();
                session.is_some_and(|session| session.shares.iter().any(|share| share.from == gone))
            })
            .map(|(no, _)| *no)
            .collect();
        for no in hit {
            self.supply_again(now, swarm, no, &BTreeSet::from([gone]));
        }
    }

    /// Finds others in the place of suppliers that a session lost, and for what it lacks; those that it keeps go on as
    /// they do. Without any, servers fill the gap without having promised it.
    pub(super) fn supply_again(
        &mut self,
        now: Instant,
        swarm: &Arc<str>,
        no: PeerNo,
        lost: &BTreeSet<PeerNo>,
    ) {
        let entry = self.swarms.get(swarm);
        let viewer = entry.and_then(|entry| entry.viewers.get(&no));
        let Some(session) = viewer.and_then(|viewer| viewer.session.as_ref()) else {
            return;
        };
        let whole = self.stream(swarm).whole();
        let home = Arc::clone(&session.cluster);
        let is_lost = |share: &&Share| lost.contains(&share.from);
        let is_touched = session.shares.iter().any(|share| is_lost(&share));
        let kept: Vec<Share> = session
            .shares
            .iter()
            .filter(|share| !is_lost(share))
            .copied()
            .collect();
        let missing = whole & !given(&kept);
        if missing == 0 && !is_touched {
            return;
        }
        self.supply(swarm, no, &home, kept.clone());
        if self.complete(now, swarm, no, &home, &kept, missing) || self.settings.mix {
            return;
        }
        // What one kind alone cannot complete comes from the other alone.
        if !kept.is_empty() {
            self.supply(swarm, no, &home, Vec::new());
            if !self.complete(now, swarm, no, &home, &[], whole) {
                self.supply(swarm, no, &home, kept);
            }
        }
    }

    /// Adds to the shares that a session keeps what it lacks, from its cluster or the next best; says whether it could.
    fn complete(
        &mut self,
        now: Instant,
        swarm: &Arc<str>,
        no: PeerNo,
        home: &Arc<str>,
        kept: &[Share],
        missing: u32,
    ) -> bool {
        let (stream, name) = (self.stream(swarm), self.name(swarm, no));
        let mut tried = BTreeSet::new();
        let mut at = Arc::clone(home);
        loop {
            let shares = self.find_supply(now, swarm, no, &at, missing);
            let fits = |shares: &Vec<Share>| {
                let is_mixed = !kept.is_empty() && shares.iter().any(|share| share.is_server);
                self.settings.mix || !is_mixed
            };
            if let Some(shares) = shares.filter(fits) {
                self.say_supply(swarm, &name, &at, &shares);
                // Who keeps some of its parents stays where they are.
                let cluster = if kept.is_empty() { &at } else { home };
                let shares = joined(stream, kept.iter().copied().chain(shares));
                self.supply(swarm, no, cluster, shares);
                return true;
            }
            tried.insert(at);
            let kbps = stream.kbps(missing);
            match self.best_server(now, swarm, no, &tried, kbps) {
                Some((_, cluster, _)) if tried.len() <= REDIRECTS_MAX => at = cluster,
                _ => return false,
            }
        }
    }
}

impl Cluster {
    /// Rejected divided by asked, in the current interval.
    pub(super) fn reject_ratio(&self) -> Option<f64> {
        let (_, requests, rejects) = self.interval;
        (requests > 0).then(|| rejects as f64 / requests as f64)
    }
}
