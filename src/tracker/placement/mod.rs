//! Whom a newcomer is sent to: in which order, through which cluster, or why nowhere.
//!
//! The [`registry`](super::registry) keeps who is there; a [`Placement`] is told of every member and decides. It holds
//! facts and no addresses: it names peers by [`PeerNo`], and the registry leaves out whom the asker may not learn of.
//!
//! | file | answers |
//! | --- | --- |
//! | [`list`] | everybody with free slots, nearest to the source first |
//! | [`psp`] | clusters with servers: supporting peers first, then the server, then another cluster |
//! | [`balanced`] | one balanced tree for each swarm, or a star to compare it with |
//! | [`tree`] | that tree: joins handed down, widening, promotion, rebalancing |
//! | [`networks`] | where an address is: autonomous system, country, cluster |
//! | [`paths`] | the way from the source to a server that has room for the stream |

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use self::balanced::Graph;
use self::networks::Networks;
use super::message::{Redirect, Role};
use crate::time::Instant;

pub mod balanced;
pub mod list;
pub mod networks;
pub mod paths;
pub mod psp;
pub mod tree;

#[cfg(test)]
pub(in crate::tracker) mod testing;

/// A number of its own for each registration; later ones are larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerNo(pub(in crate::tracker) u64);

/// A member of a swarm, as it was last heard of. All but number, name and address are its own claims.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its registration.
    pub no: PeerNo,
    /// Its `peer_id`.
    pub id: Arc<str>,
    /// Where its requests come from.
    pub ip: IpAddr,
    /// The name of the channel, where the swarm has one.
    pub channel: Option<Arc<str>>,
    /// Substreams that the channel is cut into, where its source described that.
    pub substreams: Option<u8>,
    /// What it is.
    pub role: Role,
    /// Whether others can be told where it is.
    pub is_listed: bool,
    /// Whether it can get a stream from several parents.
    pub takes_shares: bool,
    /// Level below the source, which is at 1; none while it has no parent.
    pub depth: Option<u16>,
    /// `peer_id` of its parent.
    pub parent: Option<Arc<str>>,
    /// Whom it gets which substreams from, when that is more than one.
    pub parents: Vec<(Arc<str>, u32)>,
    /// Children that it would still take.
    pub slots_free: Option<u16>,
    /// Upload capability in kbit/s.
    pub uplink_kbps: Option<u64>,
    /// Rate at which the stream arrives; of a source, at which it is made.
    pub kbps: Option<u64>,
    /// Share of the stream that did not come the first time, in parts per million.
    pub loss_ppm: Option<u64>,
    /// Media held and not yet due.
    pub buffer: Option<Duration>,
    /// Cumulative latency from the source.
    pub latency: Option<Duration>,
    /// Name of the cluster that it serves.
    pub cluster: Option<Arc<str>>,
    /// What it may send to its cluster, in kbit/s.
    pub capacity_kbps: Option<u64>,
}

/// One whom an asker is sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Who.
    pub no: PeerNo,
    /// For which substreams, bit s for substream s; none for all of them.
    pub mask: Option<u32>,
}

impl Choice {
    /// Somebody for the whole stream.
    pub const fn to(no: PeerNo) -> Self {
        Self { no, mask: None }
    }
}

/// Where an asker is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placed {
    /// To those whom the registry's standing order puts first.
    Listed,
    /// To these, in this order, and to nobody else.
    Parents {
        /// The first is the parent; those with a mask share the stream, and the others stand in.
        parents: Vec<Choice>,
        /// The cluster that serves it, where it is not its own.
        redirect: Option<Redirect>,
    },
}

impl Placed {
    /// To these, without a redirect.
    pub fn to(parents: Vec<PeerNo>) -> Self {
        Self::Parents {
            parents: parents.into_iter().map(Choice::to).collect(),
            redirect: None,
        }
    }

    /// The cluster that the asker was redirected to.
    pub const fn redirect(&self) -> Option<&Redirect> {
        match self {
            Self::Parents { redirect, .. } => redirect.as_ref(),
            Self::Listed => None,
        }
    }
}

/// Why an asker is sent nowhere, for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// A policy: facts in, decisions out. Time never goes backwards.
pub trait Placement: fmt::Debug + Send {
    /// A member joined a swarm, or said again how it does.
    fn on_member(&mut self, _now: Instant, _swarm: &Arc<str>, _member: &Member) {}

    /// A member left a swarm, or fell silent.
    fn on_gone(&mut self, _now: Instant, _swarm: &Arc<str>, _no: PeerNo) {}

    /// Whom to send a member to that asks for parents.
    ///
    /// # Errors
    ///
    /// Why there is nobody.
    fn place(&mut self, now: Instant, swarm: &Arc<str>, asker: PeerNo) -> Result<Placed, Refused>;

    /// Who should be the parent of a member that reported, where that is somebody else than it says: the first that it
    /// can be told of; or, where some have a mask, those together. Asked after each report, until it says so.
    fn move_of(&mut self, _now: Instant, _swarm: &Arc<str>, _no: PeerNo) -> Vec<Choice> {
        Vec::new()
    }

    /// The cluster chosen for a relay that left it to the tracker.
    fn cluster_of(&self, _no: PeerNo) -> Option<Arc<str>> {
        None
    }

    /// How often members have to report for this to work.
    fn report_interval(&self) -> Option<Duration> {
        None
    }

    /// The time of [`poll_timeout`](Self::poll_timeout) came; harmless when it did not.
    fn handle_timeout(&mut self, _now: Instant) {}

    /// When [`handle_timeout`](Self::handle_timeout) has something to do next.
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// What was decided since the last call, for people, one line at a time.
    fn poll_log(&mut self) -> Option<String> {
        None
    }

    /// The file that says where addresses are was written anew.
    fn set_networks(&mut self, _now: Instant, _networks: Networks) {}

    /// The file that says who knows whom was written anew.
    fn set_graph(&mut self, _graph: Graph) {}

    /// Clusters and what they carry.
    fn overview(&self, _now: Instant) -> Overview {
        Overview::default()
    }
}

/// Clusters and what they carry, for `GET /v1/clusters`, records and metrics.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Overview {
    /// Whether there are clusters at all.
    #[serde(skip)]
    pub has_clusters: bool,
    /// Each of them, by name.
    pub clusters: Vec<ClusterRecord>,
}

impl Overview {
    /// Supporting peers of all clusters.
    pub fn supporters(&self) -> u64 {
        self.clusters.iter().map(|cluster| cluster.supporters).sum()
    }

    /// The model for all clusters that were asked for something: supporters in all, and the reject ratio weighted by
    /// requests.
    pub fn model(&self) -> Option<ModelRecord> {
        let mut all = ModelRecord::default();
        let mut requests = 0.0;
        for cluster in &self.clusters {
            if let Some(model) = cluster.model {
                let weight = cluster.requests_total as f64;
                all.supporters += model.supporters;
                all.reject_ratio += model.reject_ratio * weight;
                all.interval = all.interval.max(model.interval);
                requests += weight;
            }
        }
        all.reject_ratio /= requests;
        (requests > 0.0).then_some(all)
    }
}

/// One cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ClusterRecord {
    /// Its name.
    pub name: String,
    /// Its servers, by `peer_id`.
    pub servers: Vec<ServerRecord>,
    /// Viewers that it serves.
    pub sessions: u64,
    /// Viewers that serve others, by what their receivers measured.
    pub supporters: u64,
    /// What supporters deliver now, in kbit/s, as their receivers measured it.
    pub supporters_kbps: u64,
    /// Viewers that belong here and asked to be let in, so far.
    pub requests_total: u64,
    /// Those of them that were let in nowhere.
    pub rejects_total: u64,
    /// Those of them that another cluster serves.
    pub redirects_total: u64,
    /// Rejected divided by asked, in the current interval of one session length.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reject_ratio: Option<f64>,
    /// What the model says for the same load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelRecord>,
}

/// One server of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ServerRecord {
    /// Its `peer_id`.
    pub peer: String,
    /// What it may send, in kbit/s.
    pub capacity_kbps: u64,
    /// What is promised of that, in kbit/s.
    pub used_kbps: u64,
    /// Viewers that stream from it.
    pub sessions: u64,
}

/// What the model of the service guaranteed period says of a cluster (algorithms 1.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct ModelRecord {
    /// Session lengths since the first request.
    pub interval: f64,
    /// Supporting peers that there should be.
    pub supporters: f64,
    /// Share of requests that should be rejected.
    pub reject_ratio: f64,
    /// Seconds after the first request from which on nobody is rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guaranteed_s: Option<f64>,
}
