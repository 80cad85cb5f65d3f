//! One neighbour: what is counted about it, and its record.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::PeerId;
use crate::qos::loss;
use crate::stats::counters::{NUMBER_MAX, Path, milliseconds};
use crate::stats::interval::finite;

/// What a neighbour is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It pushes media to us.
    Parent,
    /// We push media to it.
    Child,
    /// Chunks go both ways, or either may be asked for repair.
    Partner,
    /// Known and probed, no media yet.
    Candidate,
    /// A relay or source that the tracker places viewers at.
    Server,
}

/// What a node counted about one neighbour since it met it.
#[derive(Clone, Debug, PartialEq)]
pub struct NeighbourCounters {
    /// Who it is.
    pub peer: PeerId,
    /// Where it is, as `ADDRESS:PORT`.
    pub address: String,
    /// What it is to us.
    pub role: Role,
    /// How it is reached.
    pub path: Option<Path>,
    /// Since when it has been a neighbour, in µs.
    pub age_us: u64,
    /// Packets sent to it.
    pub sent_packets: u64,
    /// Packets received from it.
    pub recv_packets: u64,
    /// Bytes sent to it.
    pub sent_bytes: u64,
    /// Bytes received from it.
    pub recv_bytes: u64,
    /// Packets noticed missing on the way from it.
    pub lost_packets: u64,
    /// Packets sent to it again.
    pub retransmitted_packets: u64,
    /// Packets from it that were already held.
    pub duplicate_packets: u64,
    /// Packets from it whose hash was wrong.
    pub bad_hash_packets: u64,
    /// Strikes against it that still count.
    pub strikes: u64,
    /// Smoothed round trip time, in µs.
    pub rtt_us: Option<u64>,
    /// Its mean deviation, in µs.
    pub rtt_var_us: Option<u64>,
    /// Jitter of its packets, in µs.
    pub jitter_us: Option<u64>,
    /// Delay from it to here, in µs.
    pub hop_latency_us: Option<u64>,
    /// Cumulative latency that it reports, in µs.
    pub latency_us: Option<u64>,
    /// Its hops from the source.
    pub depth: Option<u64>,
    /// Children that it would still accept.
    pub slots_free: Option<u64>,
    /// Children it has (a server, as the tracker knows it).
    pub children: Option<u64>,
    /// Load of a server, used by capacity, as the tracker knows it.
    pub load_ratio: Option<f64>,
}

impl NeighbourCounters {
    /// A neighbour of which nothing is counted yet.
    pub const fn new(peer: PeerId, address: String, role: Role) -> Self {
        Self {
            peer,
            address,
            role,
            path: None,
            age_us: 0,
            sent_packets: 0,
            recv_packets: 0,
            sent_bytes: 0,
            recv_bytes: 0,
            lost_packets: 0,
            retransmitted_packets: 0,
            duplicate_packets: 0,
            bad_hash_packets: 0,
            strikes: 0,
            rtt_us: None,
            rtt_var_us: None,
            jitter_us: None,
            hop_latency_us: None,
            latency_us: None,
            depth: None,
            slots_free: None,
            children: None,
            load_ratio: None,
        }
    }
}

/// One neighbour: what went to and fro, and what is known of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Neighbour {
    /// Who, in hexadecimal.
    pub peer: String,
    /// Where.
    pub address: String,
    /// What it is to us.
    pub role: Role,
    /// How it is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<Path>,
    /// Since when it has been a neighbour, in ms.
    pub neighbour_ms: u64,
    /// Its hops from the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depth: Option<u64>,
    /// Children that it would still accept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots_free: Option<u64>,
    /// Children it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub children: Option<u64>,
    /// Load of a server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_ratio: Option<f64>,
    /// Packets lost divided by packets expected since the last record about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_ratio: Option<f64>,
    /// Mbit/s to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_mbps: Option<f64>,
    /// Mbit/s from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recv_mbps: Option<f64>,
    /// Smoothed round trip time, in ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<f64>,
    /// Its mean deviation, in ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_var_ms: Option<f64>,
    /// Jitter of its packets, in ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter_ms: Option<f64>,
    /// Delay from it to here, in ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hop_latency_ms: Option<f64>,
    /// Cumulative latency it reports, in ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<f64>,
    /// Strikes that still count.
    pub strikes: u64,
    /// Packets sent to it.
    pub sent_packets_total: u64,
    /// Packets received from it.
    pub recv_packets_total: u64,
    /// Bytes sent to it.
    pub sent_bytes_total: u64,
    /// Bytes received from it.
    pub recv_bytes_total: u64,
    /// Packets noticed missing on the way from it.
    pub lost_packets_total: u64,
    /// Packets sent to it again.
    pub retransmitted_packets_total: u64,
    /// Packets from it that were already held.
    pub duplicate_packets_total: u64,
    /// Packets from it whose hash was wrong.
    pub bad_hash_packets_total: u64,
}

impl Neighbour {
    /// A neighbour as it is `after`; ratios and rates since `before`, `elapsed` earlier, where there was one.
    pub fn between(
        before: Option<&NeighbourCounters>,
        after: &NeighbourCounters,
        elapsed: Duration,
    ) -> Self {
        let grown = |field: fn(&NeighbourCounters) -> u64| {
            before.map(|before| field(after).saturating_sub(field(before)))
        };
        let mbps = |bytes: u64| finite(bytes as f64 * 8.0 / elapsed.as_secs_f64() / 1e6, 6);
        let limited = |value: u64| value.min(NUMBER_MAX);
        let received = grown(|c| c.recv_packets.saturating_sub(c.duplicate_packets));
        Self {
            peer: after.peer.to_string(),
            address: after.address.clone(),
            role: after.role,
            path: after.path,
            neighbour_ms: limited(after.age_us / 1000),
            depth: after.depth,
            slots_free: after.slots_free,
            children: after.children,
            load_ratio: after.load_ratio.and_then(|value| finite(value, 6)),
            loss_ratio: received
                .zip(grown(|c| c.lost_packets))
                .and_then(|(received, lost)| loss::ratio(received, lost))
                .and_then(|value| finite(value, 6)),
            sent_mbps: grown(|c| c.sent_bytes).and_then(mbps),
            recv_mbps: grown(|c| c.recv_bytes).and_then(mbps),
            rtt_ms: after.rtt_us.map(milliseconds),
            rtt_var_ms: after.rtt_var_us.map(milliseconds),
            jitter_ms: after.jitter_us.map(milliseconds),
            hop_latency_ms: after.hop_latency_us.map(milliseconds),
            latency_ms: after.latency_us.map(milliseconds),
            strikes: limited(after.strikes),
            sent_packets_total: limited(after.sent_packets),
            recv_packets_total: limited(after.recv_packets),
            sent_bytes_total: limited(after.sent_bytes),
            recv_bytes_total: limited(after.recv_bytes),
            lost_packets_total: limited(after.lost_packets),
            retransmitted_packets_total: limited(after.retransmitted_packets),
            duplicate_packets_total: limited(after.duplicate_packets),
            bad_hash_packets_total: limited(after.bad_hash_packets),
        }
    }
}
