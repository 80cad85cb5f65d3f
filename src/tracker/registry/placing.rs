//! What the registry asks its placement, and tells it.

use std::sync::Arc;
use std::time::Duration;

use super::{Allowed, PEERS_PER_ANSWER_MAX, Refusal, Registry};
use crate::time::Instant;
use crate::tracker::address::may_learn;
use crate::tracker::message::{
    Decimal, Parent, RejectCode, RequestExt, ResponseExt, Role, SwarmResult,
};
use crate::tracker::placement::{Choice, Member, Overview, PeerNo, Placed, Placement};

/// What a peer last said of itself that orders no list.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    uplink_kbps: Option<u64>,
    pub(super) kbps: Option<u64>,
    loss: Option<Decimal>,
    buffer_s: Option<Decimal>,
    latency_us: Option<u64>,
    cluster: Option<Arc<str>>,
    capacity_kbps: Option<u64>,
}

impl Told {
    pub(super) fn of(ext: &RequestExt) -> Self {
        Self {
            uplink_kbps: ext.uplink_kbps,
            kbps: ext.kbps,
            loss: ext.loss,
            buffer_s: ext.buffer_s,
            latency_us: ext.latency_us,
            cluster: ext.cluster.as_deref().map(Arc::from),
            capacity_kbps: ext.capacity_kbps,
        }
    }

    /// The same, as a peer says it.
    pub(super) fn as_ext(&self) -> RequestExt {
        RequestExt {
            uplink_kbps: self.uplink_kbps,
            kbps: self.kbps,
            loss: self.loss,
            buffer_s: self.buffer_s,
            latency_us: self.latency_us,
            cluster: self.cluster.as_ref().map(ToString::to_string),
            capacity_kbps: self.capacity_kbps,
            ..RequestExt::default()
        }
    }
}

impl Registry {
    /// The same tracker, with newcomers placed by another policy.
    ///
    /// A policy that lives on fresh reports sets their interval, and with it how soon silence is absence.
    #[must_use]
    pub fn with_placement(mut self, placement: Box<dyn Placement>) -> Self {
        if let Some(interval) = placement.report_interval() {
            self.config.report_interval = interval;
            self.config.track_timeout = interval * 7 / 2;
        }
        self.placement = placement;
        self
    }

    /// What the placement decided since the last call, for people, one line at a time.
    pub fn poll_log(&mut self) -> Option<String> {
        self.placement.poll_log()
    }

    /// Who places newcomers, to be told what the operator wrote anew.
    pub fn placement_mut(&mut self) -> &mut dyn Placement {
        &mut *self.placement
    }

    /// Clusters and their load, as the placement sees them.
    pub fn clusters(&self, now: Instant) -> Overview {
        self.placement.overview(now)
    }

    fn member(&self, no: PeerNo, swarm: &str) -> Option<Member> {
        let peer = self.peers.get(&no)?;
        let name = self.swarms.get(swarm)?.channel.as_ref();
        Some(Member {
            no,
            id: Arc::clone(&peer.id),
            ip: peer.from,
            substreams: name.and_then(|name| self.channels.get(name)?.substreams),
            channel: name.cloned(),
            role: peer.role.unwrap_or(Role::Peer),
            is_listed: peer.addr.is_some(),
            // A relay passes on all of it, and RFC 7846 knows no substreams.
            takes_shares: peer.is_ours && peer.role == Some(Role::Peer),
            depth: peer.depth,
            parent: peer.parent.clone(),
            parents: peer.parents.clone(),
            slots_free: peer.slots_free,
            uplink_kbps: peer.told.uplink_kbps,
            kbps: peer.told.kbps,
            loss_ppm: peer.told.loss.map(Decimal::millionths),
            buffer: peer.told.buffer_s.map(Decimal::as_seconds),
            latency: peer.told.latency_us.map(Duration::from_micros),
            cluster: peer.told.cluster.clone(),
            capacity_kbps: peer.told.capacity_kbps,
        })
    }

    /// Tells the placement how a peer does, for each swarm that it is in.
    pub(super) fn tell_placement(&mut self, now: Instant, no: PeerNo) {
        let Some(peer) = self.peers.get(&no) else {
            return;
        };
        let swarms: Vec<Arc<str>> = peer.swarms.keys().map(Arc::clone).collect();
        for swarm in swarms {
            if let Some(member) = self.member(no, &swarm) {
                self.placement.on_member(now, &swarm, &member);
            }
        }
    }

    /// Lets a member into a swarm that it has just joined and, when it wants a list, places it; or puts it out again.
    pub(super) fn admit(
        &mut self,
        now: Instant,
        no: PeerNo,
        swarm: &Arc<str>,
        is_listed: bool,
        is_new: bool,
    ) -> Result<Option<Placed>, Refusal> {
        if let Some(member) = self.member(no, swarm) {
            self.placement.on_member(now, swarm, &member);
        }
        if !is_listed {
            return Ok(None);
        }
        self.place(now, no, swarm).map(Some).inspect_err(|_| {
            let peer = self.peers.get_mut(&no);
            if peer.is_some_and(|peer| peer.swarms.remove(swarm).is_some()) {
                self.drop_member(swarm);
                self.placement.on_gone(now, swarm, no);
                self.stats.joins_total -= u64::from(is_new);
            }
        })
    }

    /// Whom a member is to be sent to.
    pub(super) fn place(
        &mut self,
        now: Instant,
        no: PeerNo,
        swarm: &Arc<str>,
    ) -> Result<Placed, Refusal> {
        self.placement
            .place(now, swarm, no)
            .map_err(|refused| (RejectCode::Full, refused.0))
    }

    /// Those of `parents` that `asker` can be told of, and that are not more than what it pays for. Of those who share a
    /// stream all are told as such, or none.
    pub(super) fn tellable(
        &self,
        asker: PeerNo,
        swarm: &str,
        parents: &[Choice],
        count: usize,
        allowed: Option<Allowed<'_>>,
    ) -> Vec<Choice> {
        let Some(me) = self.peers.get(&asker) else {
            return Vec::new();
        };
        let is_told = |choice: &Choice| {
            self.peers.get(&choice.no).is_some_and(|peer| {
                let ip = peer.addr.as_ref().map(|addr| addr.ip);
                peer.id != me.id
                    && ip.is_some_and(|ip| may_learn(me.from, ip))
                    && allowed.is_none_or(|allowed| allowed.admits(peer, swarm))
            })
        };
        let told = parents.iter().copied().filter(is_told).take(count);
        let mut told: Vec<Choice> = told.collect();
        let shares = |choices: &[Choice]| {
            let masks = choices.iter().filter(|choice| choice.mask.is_some());
            masks.count()
        };
        if shares(&told) != shares(parents) {
            for choice in &mut told {
                choice.mask = None;
            }
        }
        told
    }

    /// A peer as an answer names it.
    pub(super) fn parent_info(&self, choice: Choice, swarm: &str) -> Option<Parent> {
        let peer = self.peers.get(&choice.no)?;
        Some(Parent {
            mask: choice.mask,
            ..peer.as_parent(swarm, peer.addr.as_ref()?)
        })
    }

    /// What the placement wants of a peer that reported, of what it may have.
    pub(super) fn move_for(
        &mut self,
        now: Instant,
        no: PeerNo,
        results: &[SwarmResult],
        allowed: Option<Allowed<'_>>,
    ) -> Option<ResponseExt> {
        let result = results.iter().find(|result| result.is_ok)?;
        let swarm = Arc::clone(self.swarms.get_key_value(result.swarm_id.as_str())?.0);
        let wanted = self.placement.move_of(now, &swarm, no);
        let told = self.tellable(no, &swarm, &wanted, PEERS_PER_ANSWER_MAX, allowed);
        let is_shared = |choices: &[Choice]| choices.iter().any(|choice| choice.mask.is_some());
        let mut ext = ResponseExt {
            cluster: self.cluster_for(no),
            ..ResponseExt::default()
        };
        let mut infos = told
            .iter()
            .filter_map(|choice| self.parent_info(*choice, &swarm));
        if is_shared(&told) {
            ext.parents = infos.collect();
        } else if !is_shared(&wanted) {
            ext.move_to = infos.next();
        }
        (ext != ResponseExt::default()).then_some(ext)
    }

    /// The cluster that the placement chose for a relay.
    pub(super) fn cluster_for(&self, no: PeerNo) -> Option<String> {
        self.placement.cluster_of(no).map(|name| name.to_string())
    }
}
