//! What a node counted, for records, metrics and trackers.

use std::net::SocketAddr;
use std::time::Duration;

use super::swarm::Swarm;
use super::{Node, Role};
use crate::chunk::Parts;
use crate::peer::channel::ChannelCounters;
use crate::peer::handshake::Refused;
use crate::stats;
use crate::stats::{Counters, NeighbourCounters};
use crate::time::{Instant, micros};
use crate::wire::DecodeError;

/// Payload that gets through wherever IP version 6 does: its 1280 bytes less all headers, ours included.
pub(super) const ANY_PATH_BYTES: usize = 1184;
/// How long chunks are missing until that is the path's doing, and of how long the munros are looked at.
const SWALLOWED_AFTER: Duration = Duration::from_secs(2);
const SWALLOWED_SPAN: Duration = Duration::from_secs(4);
/// Chunks looked at, at the least.
const SWALLOWED_LEAST: u32 = 16;

/// Counts of the node as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeStats {
    /// Datagrams received.
    pub recv_datagrams: u64,
    /// Bytes received.
    pub recv_bytes: u64,
    /// Datagrams sent.
    pub sent_datagrams: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Datagrams that could not be read to their end.
    pub malformed_datagrams: u64,
    /// Why the last one could not.
    pub last_decode_error: Option<DecodeError>,
    /// Datagrams on no channel of theirs.
    pub misdirected_datagrams: u64,
    /// Openings answered.
    pub answered_handshakes: u64,
    /// Channels opened.
    pub handshakes: u64,
    /// Openings that failed a check or got no answer.
    pub failed_handshakes: u64,
    /// Why the last one failed its check.
    pub last_refusal: Option<Refused>,
    /// Messages that were not allowed.
    pub violations: u64,
    /// Channels lost by their remotes for violations.
    pub bans: u64,
    /// Requests for media of a closed channel by those who have not shown that they may have it.
    pub unadmitted_requests: u64,
    /// Proofs of keys that proved nothing.
    pub refused_proofs: u64,
    /// Tickets that were not taken.
    pub refused_tickets: u64,
    /// Membership certificates that nobody asked for or that prove nothing.
    pub refused_certificates: u64,
    /// Chunks nobody asked for.
    pub unrequested_chunks: u64,
    /// Chunks that came without the hashes to prove them.
    pub unprovable_chunks: u64,
    /// Chunks looked up because remotes asked for them or announced them.
    pub looked_up_chunks: u64,
    /// The longest that a repaired hole was open.
    pub slowest_repair: Duration,
}

impl Node {
    /// Counts of the node as a whole.
    pub const fn stats(&self) -> &NodeStats {
        &self.stats
    }

    /// All counters and gauges of one channel. What the shell alone knows (kernel drops, hashes of what was written) is
    /// added there.
    ///
    /// What belongs to no channel (the openings of strangers, datagrams that are none of ours) counts with the first, so
    /// that all channels together have everything, and nothing twice.
    pub fn counters(&self, now: Instant, swarm: usize) -> Counters {
        let Some(stream) = self.swarms.get(swarm) else {
            return Counters::default();
        };
        let mut counters = stream.counters.clone();
        let traffic = self.traffic(swarm);
        counters.sent_datagrams = traffic.sent_packets;
        counters.recv_datagrams = traffic.recv_packets;
        counters.sent_bytes = traffic.sent_bytes;
        counters.recv_bytes = traffic.recv_bytes;
        counters.violations += traffic.violations;
        if swarm == 0 {
            counters.malformed_datagrams = self.stats.malformed_datagrams;
            counters.failed_handshakes = self.stats.failed_handshakes;
        }
        let parent = stream
            .parent
            .and_then(|at| self.channels.get(at))
            .filter(|channel| channel.is_open());
        if let Some(parent) = parent.filter(|parent| parent.rtt.is_known()) {
            counters.rtt_us = Some(micros(parent.rtt.smoothed()));
            counters.rtt_var_us = Some(micros(parent.rtt.variance()));
            counters.hop_latency_us = self.hop_latency(swarm).map(micros);
        }
        if !stream.is_source() {
            counters.jitter_us = Some(stream.jitter.as_micros());
            counters.latency_us = self.cumulative_latency(swarm).map(micros);
            counters.parents = Some(self.parents_of(swarm).len() as u64);
            if let Some(playout) = &stream.playout {
                counters.buffer_us = Some(micros(playout.buffered(&stream.window)));
                counters.target_latency_us = Some(micros(playout.latency()));
            }
        }
        counters.children = Some(stream.children.len() as u64);
        let neighbours = self
            .channels
            .iter()
            .filter(|(_, channel)| channel.swarm == swarm && channel.is_open());
        counters.neighbours = Some(neighbours.count() as u64);
        // The main parent's, when there are several.
        let main = self.paths(swarm).into_iter().next();
        let mut path = main.map_or_else(Vec::new, |(_, path)| path);
        path.pop();
        // Whose path begins at no source has no level.
        counters.depth = u64::from(self.depth(swarm)).checked_sub(1);
        counters.root_path = path;
        let parents = self.parents_of(swarm);
        if parents.len() > 1 {
            let named = |(at, parts): (usize, Parts)| {
                let peer = self.channels.get(at)?.peer_id()?;
                Some((peer, u32::from(parts.to_bits())))
            };
            counters.shares = parents.into_iter().filter_map(named).collect();
        }
        if let Some(since) = stream.stalled_since {
            counters.stall_us += micros(now - since);
        }
        if let Some(bps) = self.upload_limit_bps {
            counters.uplink_bps = Some(bps);
        }
        counters
    }

    /// What the neighbours of a channel sent and were sent since the start, those included that are gone.
    fn traffic(&self, swarm: usize) -> ChannelCounters {
        let mut traffic = self
            .swarms
            .get(swarm)
            .map_or_else(ChannelCounters::default, |stream| stream.gone);
        for (_, channel) in self.channels.iter() {
            if channel.swarm == swarm {
                traffic.add(&channel.counters);
            }
        }
        if swarm == 0 {
            let stats = &self.stats;
            let mut others = ChannelCounters::default();
            for other in 1..self.swarms.len() {
                others.add(&self.traffic(other));
            }
            traffic.sent_packets = stats.sent_datagrams.saturating_sub(others.sent_packets);
            traffic.sent_bytes = stats.sent_bytes.saturating_sub(others.sent_bytes);
            traffic.recv_packets = stats.recv_datagrams.saturating_sub(others.recv_packets);
            traffic.recv_bytes = stats.recv_bytes.saturating_sub(others.recv_bytes);
        }
        traffic
    }

    /// What was counted about each neighbour of a channel.
    pub fn neighbours(&self, now: Instant, swarm: usize) -> Vec<NeighbourCounters> {
        self.channels
            .iter()
            .filter(|(_, channel)| channel.swarm == swarm && channel.is_open())
            .map(|(at, channel)| {
                let stream = self.swarms.get(swarm);
                let pushes = |it: &Swarm| {
                    it.parent == Some(at) || it.shares.pushing().any(|(by, _)| by == at)
                };
                let role = if stream.is_some_and(pushes) {
                    stats::Role::Parent
                } else if channel.is_child() {
                    stats::Role::Child
                } else {
                    stats::Role::Partner
                };
                let mut counters = NeighbourCounters::new(
                    channel.peer_id().unwrap_or_default(),
                    channel.addr.to_string(),
                    role,
                );
                counters.age_us = micros(now - channel.opened_at);
                counters.sent_packets = channel.counters.sent_packets;
                counters.recv_packets = channel.counters.recv_packets;
                counters.sent_bytes = channel.counters.sent_bytes;
                counters.recv_bytes = channel.counters.recv_bytes;
                counters.retransmitted_packets = channel.counters.retransmitted_chunks;
                counters.duplicate_packets = channel.counters.duplicate_chunks;
                counters.strikes = channel.strikes.count(now) as u64;
                if channel.rtt.is_known() {
                    counters.rtt_us = Some(micros(channel.rtt.smoothed()));
                    counters.rtt_var_us = Some(micros(channel.rtt.variance()));
                }
                counters
            })
            .collect()
    }

    /// The parent whose short datagrams come, hashes and answers, while no long one ever did and nearly all chunks are
    /// missing: the path swallows what is too long for it without a word.
    pub fn swallows_long_datagrams(&self, now: Instant, swarm: usize) -> Option<SocketAddr> {
        let stream = self.swarms.get(swarm)?;
        let parent = self.channels.get(stream.parent?)?;
        if parent.subscription?.sent_long || !self.speaks_extensions(parent) {
            return None;
        }
        let (mut missing, mut filled) = (0, 0);
        for slot in stream.window.slots().rev() {
            let age = now - slot.arrived();
            if age > SWALLOWED_SPAN {
                break;
            }
            if age >= SWALLOWED_AFTER {
                missing += (slot.filled_mask() & !slot.held_mask()).count_ones();
                filled += slot.filled_mask().count_ones();
            }
        }
        (filled >= SWALLOWED_LEAST && missing * 4 > filled * 3).then_some(parent.addr)
    }

    /// What the node is for.
    pub const fn role(&self) -> Role {
        self.role
    }

    /// Chunk payload held, in bytes, over all channels.
    pub fn window_bytes(&self) -> u64 {
        self.swarms
            .iter()
            .map(|swarm| swarm.window.payload_bytes())
            .sum()
    }

    /// Channels of all kinds, those being opened included.
    pub fn channel_count(&self) -> usize {
        self.channels.len()
    }

    /// Plain remotes that were answered and have not come back yet.
    pub const fn half_open_count(&self) -> usize {
        self.half_open.len()
    }

    /// Chunks held that nothing has proven yet, over all remotes.
    pub fn unproven_chunks(&self) -> usize {
        let channels = self.channels.iter();
        channels.map(|(_, channel)| channel.pending.len()).sum()
    }

    /// Hashes held that nothing has proven yet, over all remotes.
    pub fn unproven_hashes(&self) -> usize {
        let channels = self.channels.iter();
        channels
            .map(|(_, channel)| channel.provisional.as_slice().len())
            .sum()
    }
}
