//! Who supports a cluster and with how much, as receivers measured it; and what the model says of the same load.

use std::sync::Arc;
use std::time::Duration;

use super::shares::Stream;
use super::{Psp, Swarm, Viewer};
use crate::model::psp::Service;
use crate::time::Instant;
use crate::tracker::placement::{ClusterRecord, ModelRecord, Overview, PeerNo, ServerRecord};

/// A receiver that lost more than this is not served well, in parts per million.
pub(super) const LOSS_MAX_PPM: u64 = 50_000;

/// What arrives at a receiver that is served well, at the least, in percent of the rate.
const ARRIVES_PERCENT: u64 = 80;

/// What a receiver says of a parent counts after it has been there for so long.
const GRACE: Duration = Duration::from_secs(5);

impl Viewer {
    /// Whether its parents serve it well, which it has `since`; none while it cannot tell. Of several, nobody can say
    /// which: good ones have other receivers too.
    fn is_served_well(&self, now: Instant, since: Instant, rate: u64) -> Option<bool> {
        let kbps = self.kbps?;
        let is_well = self.loss_ppm.unwrap_or(0) <= LOSS_MAX_PPM
            && kbps.saturating_mul(100) >= rate * ARRIVES_PERCENT;
        (is_well || now.since(since) >= GRACE).then_some(is_well)
    }
}

/// What the receivers of one member measured: those to whom it was given, so that nobody else can talk it down or up.
/// Counted in substreams: who gives a quarter is worth a quarter of a viewer.
#[derive(Clone, Copy, Debug, Default)]
struct Received {
    /// All that anybody says to get from it.
    taken: u64,
    well: u64,
    badly: u64,
    kbps: u64,
}

impl Swarm {
    fn received_from(&self, now: Instant, from: PeerNo, id: &Arc<str>, stream: Stream) -> Received {
        let mut received = Received::default();
        for (no, mask) in self.below.get(id).into_iter().flatten() {
            received.taken += stream.count(*mask);
            let (Some(viewer), Some(feeds)) = (self.viewers.get(no), self.feeds.get(no)) else {
                continue;
            };
            let mut shares = viewer.session.iter().flat_map(|session| &session.shares);
            let share = shares.find(|share| share.from == from);
            let parts = share.map_or(0, |share| stream.count(share.mask & mask));
            match viewer.is_served_well(now, feeds.since, stream.rate) {
                Some(true) => received.well += parts,
                Some(false) => received.badly += parts,
                None => {}
            }
            let kbps = viewer.kbps.unwrap_or(0).min(stream.rate);
            received.kbps += kbps * parts / stream.parts;
        }
        received
    }
}

impl Psp {
    /// Mean length of a session.
    pub(super) fn session_length(&self) -> Duration {
        self.session
            .unwrap_or(self.settings.session)
            .max(Duration::from_secs(1))
    }

    /// What a supporting peer can take on for `asker`: one viewer more than its receivers say it serves well, within its claim; and
    /// nothing when most of them are served badly.
    pub(super) fn supporter_free(
        &self,
        now: Instant,
        swarm: &Swarm,
        no: PeerNo,
        viewer: &Viewer,
        stream: Stream,
        asker: PeerNo,
    ) -> u64 {
        let received = swarm.received_from(now, no, &viewer.id, stream);
        if received.badly > received.well {
            return 0;
        }
        let proven = stream.rate_of(received.well + stream.parts);
        let believed = proven.min(viewer.uplink_kbps.unwrap_or(u64::MAX));
        let promised = self.loads.get(&no).map_or(0, |load| load.kbps);
        // What the asker itself takes is asked for anew.
        let below = swarm.below.get(&viewer.id);
        let own = below.and_then(|below| below.get(&asker));
        let others = received.taken - own.map_or(0, |mask| stream.count(*mask));
        believed.saturating_sub(promised.max(stream.rate_of(others)))
    }

    /// What a server is to send, or sends already if that is more.
    pub(super) fn used_kbps(&self, no: PeerNo) -> u64 {
        let promised = self.loads.get(&no).map_or(0, |load| load.kbps);
        let Some(server) = self.servers.get(&no) else {
            return promised;
        };
        let attached: u64 = self
            .swarms
            .iter()
            .map(|(name, swarm)| {
                let stream = self.stream(name);
                let children = swarm.below.get(&server.id).into_iter().flatten();
                stream.rate_of(children.map(|(_, mask)| stream.count(*mask)).sum())
            })
            .sum();
        promised.max(attached)
    }

    /// What a server has left; nothing when most of its receivers are served badly.
    pub(super) fn free_kbps(&self, now: Instant, no: PeerNo) -> u64 {
        let Some(server) = self.servers.get(&no) else {
            return 0;
        };
        let (mut well, mut badly) = (0, 0);
        for (name, swarm) in &self.swarms {
            let received = swarm.received_from(now, no, &server.id, self.stream(name));
            well += received.well;
            badly += received.badly;
        }
        if badly > well {
            return 0;
        }
        server.capacity_kbps.saturating_sub(self.used_kbps(no))
    }

    /// Load of a server in thousandths of its capacity.
    pub(super) fn load_permille(&self, no: PeerNo) -> u64 {
        let capacity = self
            .servers
            .get(&no)
            .map_or(0, |server| server.capacity_kbps);
        self.used_kbps(no).saturating_mul(1000) / capacity.max(1)
    }

    /// Delay from the source to a server: measured, or that of its way.
    pub(super) fn latency(&self, swarm: &Arc<str>, no: PeerNo) -> Option<Duration> {
        let server = self.servers.get(&no)?;
        server
            .latency
            .or_else(|| self.paths.latency(swarm, &server.cluster))
    }

    pub(super) fn measured(&self, now: Instant) -> Overview {
        let clusters = self
            .clusters
            .keys()
            .map(|name| self.cluster_record(now, name))
            .collect();
        Overview {
            has_clusters: true,
            clusters,
        }
    }

    fn cluster_record(&self, now: Instant, name: &Arc<str>) -> ClusterRecord {
        let mut record = ClusterRecord {
            name: name.to_string(),
            ..ClusterRecord::default()
        };
        for no in self.servers_in(name) {
            if let Some(server) = self.servers.get(&no) {
                record.servers.push(ServerRecord {
                    peer: server.id.to_string(),
                    capacity_kbps: server.capacity_kbps,
                    used_kbps: self.used_kbps(no),
                    sessions: self.loads.get(&no).map_or(0, |load| load.sessions),
                });
            }
        }
        let mut demand = 0;
        for (swarm_id, swarm) in &self.swarms {
            let stream = self.stream(swarm_id);
            for (no, viewer) in &swarm.viewers {
                let session = viewer.session.as_ref();
                if session.is_none_or(|session| session.cluster != *name) {
                    continue;
                }
                record.sessions += 1;
                demand += stream.rate;
                let received = swarm.received_from(now, *no, &viewer.id, stream);
                // Whoever only could has not helped yet.
                if received.well > 0 {
                    record.supporters += 1;
                    record.supporters_kbps += received.kbps;
                }
            }
        }
        if let Some(cluster) = self.clusters.get(name) {
            record.requests_total = cluster.requests_total;
            record.rejects_total = cluster.rejects_total;
            record.redirects_total = cluster.redirects_total;
            record.reject_ratio = cluster.reject_ratio();
            let rate = demand
                .checked_div(record.sessions)
                .unwrap_or(self.settings.rate_kbps);
            record.model = cluster.first_request.and_then(|first| {
                self.model(now.since(first), cluster.requests_total, rate, &record)
            });
        }
        record
    }

    /// The model with what was measured in its place (algorithms 1.2).
    fn model(
        &self,
        since: Duration,
        requests: u64,
        rate: u64,
        record: &ClusterRecord,
    ) -> Option<ModelRecord> {
        let session = self.session_length().as_secs_f64();
        let elapsed = since.as_secs_f64();
        let supporters = record.supporters.max(1) as f64;
        let service = Service {
            server: record
                .servers
                .iter()
                .map(|server| server.capacity_kbps)
                .sum::<u64>() as f64,
            viewer: rate as f64,
            supporter: record.supporters_kbps as f64 / supporters,
            session,
            // In the first moments there is no rate of arrivals yet.
            arrivals: requests as f64 / elapsed.max(session / 10.0),
        };
        if service.server <= 0.0 {
            return None;
        }
        let guaranteed = service.guaranteed_from();
        let t = elapsed / session;
        let within = guaranteed.map_or(t, |guaranteed| t.min(guaranteed));
        Some(ModelRecord {
            interval: t,
            supporters: service.supporters(within),
            reject_ratio: service.reject_ratio(t),
            guaranteed_s: guaranteed.map(|intervals| intervals * session),
        })
    }
}
