//! Whom an asker is told about: the order of a swarm's members, and the pick from it.
//!
//! Members with free slots first, nearest to the source first, sources and relays before peers at the same level,
//! then those with most slots. Equals are ordered by a keyed hash of asker and time slice: everybody is sent elsewhere, and
//! who asks again and again still sees the same few (S-44).

use std::cmp::Reverse;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::{Allowed, Peer, Registry, Swarm};
use crate::time::Instant;
use crate::tracker::address::{may_learn, network};
use crate::tracker::message::{Parent, PeerAddr, PeerMode, Role};
use crate::tracker::placement::PeerNo;

/// Members looked at for one answer: bounds the work of a request whatever the size of the swarm.
const EXAMINED_MAX: usize = 1024;

/// Equals that one answer is drawn from.
const POOL_MAX: usize = 128;

/// Longest root path followed; a longer one is no tree of ours (presets go down to 32 levels).
const PATH_MAX: usize = 64;

/// How long an asker keeps his order of equals, in microseconds.
const SLICE_US: u64 = 600_000_000;

/// Level of a member that does not say: behind every level that is known, before the used up.
const DEPTH_UNKNOWN: u16 = u16::MAX;

/// The place of a member among those of its swarm; smaller is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    merit: Merit,
    salt: u32,
}

/// What a rank is earned by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Merit {
    room: Room,
    depth: u16,
    role: Role,
    slots: Reverse<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Room {
    Free,
    Unknown,
    /// Still told: a neighbour for repairs, and its refusal names others.
    UsedUp,
}

impl Peer {
    /// Its level in a swarm where it is in the given mode; the source is at 1, whoever is not below it.
    pub(super) fn depth_as(&self, mode: PeerMode) -> Option<u16> {
        match (self.role, self.is_ours) {
            (Some(Role::Source), _) => Some(1),
            (_, false) => (mode == PeerMode::Seeder).then_some(1),
            (_, true) => self.depth.map(|depth| depth.max(2)),
        }
    }

    /// Free slots that have not been promised to askers since it told them.
    pub(super) fn slots_left(&self) -> Option<u16> {
        self.slots_free
            .map(|slots| slots.saturating_sub(self.promised))
    }

    /// What others are told of it.
    pub(super) fn as_parent(&self, swarm: &str, addr: &PeerAddr) -> Parent {
        Parent {
            peer: self.id.to_string(),
            addr: SocketAddr::new(addr.ip, addr.port),
            mask: None,
            depth: self.swarms.get(swarm).and_then(|mode| self.depth_as(*mode)),
            slots_free: self.slots_left(),
            role: self.role,
        }
    }

    /// Its place in a swarm; none while nobody could be sent to it.
    fn rank_as(&self, mode: PeerMode) -> Option<Rank> {
        self.addr.as_ref()?;
        let depth = self.depth_as(mode);
        if self.is_ours && depth.is_none() {
            return None; // It has no parent, so it has no stream to give.
        }
        let slots = self.slots_left();
        Some(Rank {
            merit: Merit {
                room: match slots {
                    Some(0) => Room::UsedUp,
                    Some(_) => Room::Free,
                    None => Room::Unknown,
                },
                depth: depth.unwrap_or(DEPTH_UNKNOWN),
                role: self.role.unwrap_or(match mode {
                    PeerMode::Seeder => Role::Source,
                    PeerMode::Leech => Role::Peer,
                }),
                slots: Reverse(slots.unwrap_or(0)),
            },
            salt: self.salt,
        })
    }
}

impl Swarm {
    /// Whether a source or relay is among its best members.
    pub(super) fn has_server(&self) -> bool {
        let mut best = self.order.iter().take(EXAMINED_MAX);
        best.any(|(rank, _)| rank.merit.role != Role::Peer)
    }

    /// Whether one of them has room.
    pub(super) fn has_room(&self) -> bool {
        self.order
            .iter()
            .take(EXAMINED_MAX)
            .take_while(|(rank, _)| rank.merit.room != Room::UsedUp)
            .any(|(rank, _)| rank.merit.role != Role::Peer)
    }
}

impl Allowed<'_> {
    pub(super) fn admits(&self, peer: &Peer, swarm: &str) -> bool {
        let is_server = match peer.role {
            Some(role) => role != Role::Peer,
            // A plain peer does not say; who seeds is taken for a server.
            None => peer.swarms.get(swarm) == Some(&PeerMode::Seeder),
        };
        match is_server {
            true => self.servers,
            false => self.peers.contains(&peer.id),
        }
    }
}

impl Registry {
    /// Takes a peer out of the order of its swarms; to be done before anything that its rank depends on changes.
    pub(super) fn unlist(&mut self, no: PeerNo) {
        let Some(peer) = self.peers.get(&no) else {
            return;
        };
        for (swarm, mode) in &peer.swarms {
            if let (Some(rank), Some(swarm)) = (peer.rank_as(*mode), self.swarms.get_mut(swarm)) {
                swarm.order.remove(&(rank, no));
            }
        }
    }

    /// Puts a peer into the order of its swarms again.
    pub(super) fn list(&mut self, no: PeerNo) {
        let Some(peer) = self.peers.get(&no) else {
            return;
        };
        for (swarm, mode) in &peer.swarms {
            if let (Some(rank), Some(swarm)) = (peer.rank_as(*mode), self.swarms.get_mut(swarm)) {
                swarm.order.insert((rank, no));
            }
        }
    }

    /// Counts one child for a peer that was the first of a list, so that a crowd that comes within one report
    /// interval is not sent to one place.
    pub(super) fn promise(&mut self, no: PeerNo) {
        self.unlist(no);
        if let Some(peer) = self.peers.get_mut(&no) {
            peer.promised = peer.promised.saturating_add(1);
        }
        self.list(no);
    }

    /// At most `count` members for `asker`, best first: neither itself nor anybody below it, and only addresses that
    /// it may learn.
    pub(super) fn choose(
        &self,
        now: Instant,
        asker: PeerNo,
        swarm: &str,
        count: usize,
        allowed: Option<Allowed<'_>>,
    ) -> Vec<PeerNo> {
        match self.peers.get(&asker) {
            Some(me) => self.choose_for(now, me.from, Some(&me.id), swarm, count, allowed),
            None => Vec::new(),
        }
    }

    /// The same for an address, on behalf of a peer or of nobody.
    pub(super) fn choose_for(
        &self,
        now: Instant,
        from: IpAddr,
        me: Option<&Arc<str>>,
        swarm: &str,
        count: usize,
        allowed: Option<Allowed<'_>>,
    ) -> Vec<PeerNo> {
        let Some(table) = self.swarms.get(swarm) else {
            return Vec::new();
        };
        // A few who are named are looked up; of many, the best are looked at.
        let named: Vec<(Rank, PeerNo)> = allowed
            .filter(|allowed| !allowed.servers)
            .map_or_else(Vec::new, |allowed| self.ranked(swarm, allowed.peers));
        let order: &mut dyn Iterator<Item = &(Rank, PeerNo)> = match allowed {
            Some(allowed) if !allowed.servers => &mut named.iter(),
            _ => &mut table.order.iter(),
        };
        let mut pool: Vec<(Merit, PeerNo)> = Vec::new();
        for &(rank, no) in order.take(EXAMINED_MAX) {
            let is_tie = pool.last().is_some_and(|(merit, _)| *merit == rank.merit);
            if pool.len() >= POOL_MAX || (pool.len() >= count && !is_tie) {
                break;
            }
            let Some(peer) = self.peers.get(&no) else {
                continue;
            };
            let ip = peer.addr.as_ref().map(|addr| addr.ip);
            let is_useless = me.is_some_and(|me| peer.id == *me || self.is_below(peer, me));
            let is_allowed = allowed.is_none_or(|allowed| allowed.admits(peer, swarm));
            if !is_useless && is_allowed && ip.is_some_and(|ip| may_learn(from, ip)) {
                pool.push((rank.merit, no));
            }
        }
        let slice = now.as_micros() / SLICE_US;
        pool.sort_by_cached_key(|&(merit, no)| (merit, self.tie_break(from, slice, no)));
        pool.truncate(count);
        pool.into_iter().map(|(_, no)| no).collect()
    }

    /// Members of a swarm by their identifiers, best first.
    fn ranked(&self, swarm: &str, ids: &[Arc<str>]) -> Vec<(Rank, PeerNo)> {
        let registrations = ids.iter().filter_map(|id| self.by_id.get(id));
        let mut found: Vec<(Rank, PeerNo)> = registrations
            .flat_map(|at| at.values())
            .filter_map(|no| {
                let peer = self.peers.get(no)?;
                Some((peer.rank_as(*peer.swarms.get(swarm)?)?, *no))
            })
            .collect();
        found.sort_unstable();
        found
    }

    /// Whether the root path of a peer leads through `above`, as far as reports tell, or `above` gives a share to
    /// somebody on it.
    fn is_below(&self, peer: &Peer, above: &Arc<str>) -> bool {
        let mut on_path = Some(peer);
        for _ in 0..PATH_MAX {
            let Some(peer) = on_path else { return false };
            let shares = peer.parents.iter().map(|(parent, _)| parent);
            if peer
                .parent
                .iter()
                .chain(shares)
                .any(|parent| parent == above)
            {
                return true;
            }
            on_path = peer
                .parent
                .as_ref()
                .and_then(|id| self.by_id.get(id))
                .and_then(|at| at.values().next())
                .and_then(|no| self.peers.get(no));
        }
        true // Longer than any tree: a ring, made of lies or of reports that crossed.
    }

    fn tie_break(&self, asker: IpAddr, slice: u64, no: PeerNo) -> u64 {
        let network = match network(asker) {
            IpAddr::V4(ip) => u64::from(ip.to_bits()),
            IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64,
        };
        [network, slice, no.0]
            .into_iter()
            .fold(self.tie_key, |state, word| mix(state ^ mix(word)))
    }
}

/// The finaliser of SplitMix64: every input bit moves every output bit.
const fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
