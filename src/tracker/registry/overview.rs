//! Everything at one glance, for people: channels, who is on them, and who receives from whom.

use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use serde::Serialize;

use super::{Peer, PeerNo, Registry, Stats};
use crate::tracker::message::{PeerMode, Role};

/// Most nodes shown of one channel, those nearest to the source first. More is no picture any more.
pub(super) const NODES_MAX: usize = 500;

/// Most channels shown.
pub(super) const CHANNELS_MAX: usize = 200;

/// A tracker at one glance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Overview {
    /// Channels by name.
    pub channels: Vec<ChannelView>,
    /// Counters.
    pub stats: StatsView,
}

/// A channel at one glance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChannelView {
    /// Its name.
    pub name: String,
    /// Its title, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Members of its swarm, whatever they are.
    pub peers: usize,
    /// Those that make the stream.
    pub sources: usize,
    /// Those that only pass it on.
    pub relays: usize,
    /// The members, nearest to the source first, at most 500.
    pub tree: Vec<NodeView>,
}

/// A member at one glance. Its address is nobody's business here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeView {
    /// Its `peer_id`.
    pub id: String,
    /// Name that the provider gave it.
    pub name: Option<String>,
    /// What it is.
    pub role: Role,
    /// Its parent's `peer_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Level; the source is at 1. Absent while it has no parent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<u16>,
    /// Rate at which the stream arrives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kbps: Option<u64>,
    /// Children that it would still take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots_free: Option<u16>,
}

/// Counters at one glance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct StatsView {
    /// Peers registered now.
    pub peers: usize,
    /// Channels announced now.
    pub channels: usize,
    /// Swarms joined since the start.
    pub joins_total: u64,
    /// Swarms left.
    pub leaves_total: u64,
    /// Requests.
    pub requests_total: u64,
    /// Requests refused.
    pub rejects_total: u64,
}

impl From<Stats> for StatsView {
    fn from(stats: Stats) -> Self {
        Self {
            peers: stats.peers,
            channels: stats.channels,
            joins_total: stats.joins_total,
            leaves_total: stats.leaves_total,
            requests_total: stats.requests_total,
            rejects_total: stats.rejects().map(|(_, count)| count).sum(),
        }
    }
}

impl Overview {
    /// Puts names to nodes: what the provider calls a `peer_id`.
    pub fn name_all(&mut self, name_of: &dyn Fn(&str) -> Option<String>) {
        for node in self
            .channels
            .iter_mut()
            .flat_map(|channel| &mut channel.tree)
        {
            node.name = name_of(&node.id);
        }
    }
}

/// What is gathered of one swarm.
#[derive(Default)]
struct Gathered {
    sources: usize,
    relays: usize,
    /// The nearest so far, the farthest of them on top.
    nearest: BinaryHeap<(u16, PeerNo)>,
}

impl Registry {
    /// A picture of everything, without the names that a provider gives.
    ///
    /// Walks through all peers once: the caller keeps the answer for a while.
    pub fn overview(&self) -> Overview {
        let mut swarms: BTreeMap<&Arc<str>, Gathered> = self
            .channels
            .values()
            .take(CHANNELS_MAX)
            .map(|channel| (&channel.swarm_id, Gathered::default()))
            .collect();
        for (no, peer) in &self.peers {
            for (swarm, mode) in &peer.swarms {
                if let Some(gathered) = swarms.get_mut(swarm) {
                    gathered.add(*no, peer, *mode);
                }
            }
        }
        let view = |(name, channel): (&Arc<str>, &super::Channel)| {
            let gathered = swarms.get(&channel.swarm_id)?;
            let mut nearest: Vec<(u16, PeerNo)> = gathered.nearest.iter().copied().collect();
            nearest.sort_unstable();
            let tree = nearest.iter().filter_map(|(_, no)| {
                let peer = self.peers.get(no)?;
                let mode = peer.swarms.get(&channel.swarm_id)?;
                Some(peer.as_node(*mode))
            });
            Some(ChannelView {
                name: name.to_string(),
                title: channel.title.clone(),
                peers: self.swarms.get(&channel.swarm_id)?.members,
                sources: gathered.sources,
                relays: gathered.relays,
                tree: tree.collect(),
            })
        };
        Overview {
            channels: self
                .channels
                .iter()
                .take(CHANNELS_MAX)
                .filter_map(view)
                .collect(),
            stats: self.stats().into(),
        }
    }
}

impl Gathered {
    fn add(&mut self, no: PeerNo, peer: &Peer, mode: PeerMode) {
        match peer.role_as(mode) {
            Role::Source => self.sources += 1,
            Role::Relay => self.relays += 1,
            Role::Peer => {}
        }
        // Whoever has no parent stands behind everybody, and is the first not to be shown.
        self.nearest
            .push((peer.depth_as(mode).unwrap_or(u16::MAX), no));
        if self.nearest.len() > NODES_MAX {
            self.nearest.pop();
        }
    }
}

impl Peer {
    /// What it is, by its own word or by its mode.
    fn role_as(&self, mode: PeerMode) -> Role {
        self.role.unwrap_or(match mode {
            PeerMode::Seeder => Role::Source,
            PeerMode::Leech => Role::Peer,
        })
    }

    fn as_node(&self, mode: PeerMode) -> NodeView {
        NodeView {
            id: self.id.to_string(),
            name: None,
            role: self.role_as(mode),
            parent: self.parent.as_ref().map(ToString::to_string),
            depth: self.depth_as(mode),
            kbps: self.told.kbps,
            slots_free: self.slots_free,
        }
    }
}
