//! What a tracker is run with, and what it counts.

use std::net::IpAddr;
use std::time::Duration;

use crate::tracker::address::{Scope, scope};
use crate::tracker::message::{RejectCode, Role};

/// How often those report who have to hear of something soon.
const SOON: Duration = Duration::from_secs(2);

/// Of those not more than so many in a second.
const SOON_REPORTS_MAX: u64 = 2000;

/// Whether a signed description proves that a key may announce a channel: name, swarm identifier, description.
pub type DescriptionCheck = fn(&str, &str, &[u8]) -> bool;

/// What a tracker is run with.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// How often relays and peers are asked to report; answered as `x_p2ps_report_interval` in whole seconds.
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

    /// How often somebody is asked to report. Nobody finds a channel at a tracker that was started again before its source
    /// was heard there, and sources are few. In a closed channel everybody who gives something to others has to hear of
    /// revoked users, as soon as so many peers can be told without too many reports.
    pub(super) fn report_interval_of(
        &self,
        role: Option<Role>,
        is_closed: bool,
        peers: usize,
    ) -> Duration {
        let soonest = match (role, is_closed) {
            (Some(Role::Source), _) => SOON,
            (_, true) => SOON.max(Duration::from_secs(peers as u64 / SOON_REPORTS_MAX)),
            (_, false) => self.report_interval,
        };
        soonest.min(self.report_interval)
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
    pub(super) fn per_address(&self, ip: IpAddr) -> usize {
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

    pub(super) fn reject(&mut self, code: RejectCode) {
        self.rejects_total[code.index()] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_to_hear_something_soon_reports_often() {
        let config = Config::default();
        for (role, is_closed, peers, seconds) in [
            (Role::Source, false, 1_000_000, 2),
            (Role::Peer, false, 5, 10),
            (Role::Peer, true, 5, 2),
            (Role::Relay, true, 6_000, 3),
            (Role::Peer, true, 1_000_000, 10),
        ] {
            let interval = config.report_interval_of(Some(role), is_closed, peers);
            assert_eq!(
                interval,
                Duration::from_secs(seconds),
                "{role:?} of {peers}"
            );
        }
    }
}
