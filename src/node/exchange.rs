//! Peer exchange: neighbours tell each other who else is in the swarm, in the words of a tracker (RFC 7574 §3.10).
//!
//! Every node asks its neighbours now and then. Each answers with its own membership certificate, and with those that its
//! other neighbours gave it when they were last asked. What is told is checked and kept, and called only when nobody is
//! left whom the user or a tracker named: exchange helps through the absence of trackers and replaces none (§12.2.2).
//!
//! Who passes on a certificate that does not hold is only not believed: it may know another tracker.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::Node;
use super::push::send;
use crate::ids::ChannelId;
use crate::integrity::membership;
use crate::peer::served::Allowance;
use crate::time::Instant;
use crate::tracker::address::{Scope, may_learn, scope};
use crate::wire::Message;

/// Certificates in one answer, the answerer's own among them.
const ANSWER_MAX: u8 = 4;
/// Questions of one neighbour that are answered.
const ANSWERS: (u32, Duration) = (2, Duration::from_secs(5));
/// How often a neighbour is asked; after the first time it soon knows more.
const ASK_AGAIN: Duration = Duration::from_secs(30);
const ASK_AGAIN_FIRST: Duration = Duration::from_secs(5);
/// Neighbours asked in a second.
const ASKED_AT_ONCE: usize = 16;
/// What comes later is no answer.
const ANSWER_SPAN: Duration = Duration::from_secs(5);
/// Nobody is named who was not heard for so long (RFC 7574 §3.10).
const HEARD_SPAN: Duration = Duration::from_secs(60);
/// Neighbours looked at for one answer.
const LOOKED_AT_MAX: usize = 64;
/// Members of one swarm known by certificate.
pub const MEMBERS_MAX: usize = 32;
/// Members called at once when nobody else is left, and again after a while.
const OFFERED: (usize, Duration) = (4, Duration::from_secs(5));
/// Trackers know better who has the stream: they get so long to name somebody, and longer when they answered just now,
/// for they are asked again after a second.
const TRACKERS_FIRST: Duration = Duration::from_millis(500);
const TRACKERS_ANSWERING: (Duration, Duration) =
    (Duration::from_secs(2), Duration::from_millis(1500));
/// Ticks between two rounds of questions: a second.
const ROUND_TICKS: u64 = 10;

/// What is exchanged with one neighbour.
#[derive(Debug)]
struct Neighbour {
    asked_at: Option<Instant>,
    /// Whether that was not the first time.
    asked_again: bool,
    /// Certificates of its answer that are still looked at.
    awaited: u8,
    answers: Allowance,
    /// Where it can be called, and who says so.
    own: Option<(SocketAddr, Bytes)>,
}

impl Default for Neighbour {
    fn default() -> Self {
        Self {
            asked_at: None,
            asked_again: false,
            awaited: 0,
            answers: Allowance::new(ANSWERS.0, ANSWERS.1),
            own: None,
        }
    }
}

/// What is exchanged with whom, by our channel identifier.
#[derive(Debug, Default)]
pub(super) struct Exchanges(BTreeMap<ChannelId, Neighbour>);

impl Exchanges {
    /// The neighbour of a channel is gone.
    pub(super) fn forget(&mut self, local: ChannelId) {
        self.0.remove(&local);
    }
}

/// Members of one swarm, by certificate.
#[derive(Debug, Default)]
pub(super) struct Members {
    /// Where we are, as far as we could tell when it came, and who says so.
    own: Option<(Option<SocketAddr>, Bytes)>,
    known: BTreeMap<SocketAddr, Bytes>,
    offered_at: Option<Instant>,
    /// When a tracker last named candidates.
    told_at: Option<Instant>,
    /// Since when nobody is left to call.
    alone_since: Option<Instant>,
}

impl Members {
    /// A tracker named candidates.
    pub(super) const fn on_told(&mut self, now: Instant) {
        self.told_at = Some(now);
    }

    /// Somebody became our parent.
    pub(super) const fn on_parent(&mut self) {
        self.alone_since = None;
    }

    /// Whether trackers had the time to name somebody. To be asked as long as nobody is left to call.
    fn is_their_turn(&mut self, now: Instant) -> bool {
        let since = *self.alone_since.get_or_insert(now);
        let (lately, longer) = TRACKERS_ANSWERING;
        let is_answering = self.told_at.is_some_and(|at| now - at < lately);
        let patience = if is_answering { longer } else { TRACKERS_FIRST };
        now - since >= patience
    }
}

impl Node {
    /// Takes what a tracker says of where we are, for neighbours who ask.
    pub fn set_certificate(&mut self, now: Instant, swarm: usize, certificate: Bytes) {
        let found = self.member(now, swarm, &certificate);
        if let Some(swarm) = self.swarms.get_mut(swarm) {
            swarm.members.own = Some((found, certificate));
        }
    }

    /// Members of a swarm that neighbours told of.
    pub fn members_known(&self, swarm: usize) -> usize {
        let swarm = self.swarms.get(swarm);
        swarm.map_or(0, |swarm| swarm.members.known.len())
    }

    /// Where a certificate says that a member is, when it holds.
    fn member(&self, now: Instant, swarm: usize, certificate: &[u8]) -> Option<SocketAddr> {
        let swarm = self.swarms.get(swarm)?;
        let now_s = self.epoch.unix_micros(now) / 1_000_000;
        let swarm_id = &swarm.terms.swarm_id;
        membership::check(certificate, &swarm.lock.issuers, swarm_id, now_s).ok()
    }

    /// Asks neighbours that were not asked lately.
    pub(super) fn ask_members(&mut self, now: Instant) {
        if !self.tick_count.is_multiple_of(ROUND_TICKS) {
            return;
        }
        let mut left = ASKED_AT_ONCE;
        for at in self.channels.places() {
            let Some(channel) = self.channels.get_mut(at).filter(|it| it.is_open()) else {
                continue;
            };
            // Without the key of a tracker nothing that is told could be checked.
            let swarm = self.swarms.get(channel.swarm);
            if swarm.is_none_or(|swarm| swarm.lock.issuers.is_empty()) {
                continue;
            }
            let neighbour = self.exchanges.0.entry(channel.local).or_default();
            if let Some(last) = neighbour.asked_at {
                let pause = match neighbour.asked_again {
                    true => ASK_AGAIN,
                    false => ASK_AGAIN_FIRST,
                };
                if now - last < pause {
                    continue;
                }
                neighbour.asked_again = true;
            }
            neighbour.asked_at = Some(now);
            neighbour.awaited = ANSWER_MAX;
            send(now, &mut self.outbox, channel, |out| {
                Message::PexRequest.encode(&crate::wire::Format::LIVE, out);
            });
            left -= 1;
            if left == 0 {
                return;
            }
        }
    }

    /// A neighbour wants to know of others.
    pub(super) fn on_pex_request(&mut self, now: Instant, at: usize) {
        let Some(channel) = self.channels.get(at) else {
            return;
        };
        let (index, local, asker) = (channel.swarm, channel.local, channel.addr);
        // Who is in a closed channel is told to those alone who may have it, or whom we chose ourselves.
        if !channel.initiated && self.admission(now, at).is_err() {
            return;
        }
        let neighbour = self.exchanges.0.entry(local).or_default();
        if !neighbour.answers.take(now) {
            return;
        }
        let theirs = neighbour.own.as_ref().map(|(addr, _)| *addr);
        let mut others: Vec<(SocketAddr, Bytes)> = Vec::new();
        // Some in a row, from anywhere on: a server has thousands, and each of them asks.
        let start = ChannelId::from_bits(self.rng.next_u32());
        let row = self.exchanges.0.range(start..);
        let row = row.chain(self.exchanges.0.range(..start));
        for (other, neighbour) in row.take(LOOKED_AT_MAX) {
            let Some((addr, certificate)) = &neighbour.own else {
                continue;
            };
            let channel = self
                .channels
                .find(*other)
                .and_then(|it| self.channels.get(it));
            let is_told = channel.is_some_and(|channel| {
                channel.swarm == index && *other != local && now - channel.last_heard < HEARD_SPAN
            });
            if is_told && Some(*addr) != theirs && others.iter().all(|(known, _)| known != addr) {
                others.push((*addr, certificate.clone()));
            }
        }
        self.rng.shuffle(&mut others);
        let mut answer = Vec::with_capacity(usize::from(ANSWER_MAX));
        let own = self.swarms.get(index).and_then(|it| it.members.own.clone());
        if let Some((_, certificate)) = own
            && let Some(addr) = self.member(now, index, &certificate)
        {
            answer.push((addr, certificate));
        }
        answer.extend(others);
        // What may not be told does not take the place of what may.
        answer.retain(|(addr, _)| may_learn(asker.ip(), addr.ip()));
        answer.truncate(usize::from(ANSWER_MAX));
        answer.retain(|(_, certificate)| self.member(now, index, certificate).is_some());
        for (_, certificate) in answer {
            let Some(channel) = self.channels.get_mut(at) else {
                return;
            };
            send(now, &mut self.outbox, channel, |out| {
                Message::PexCertificate(certificate).encode(&crate::wire::Format::LIVE, out);
            });
        }
    }

    /// Whether what comes from a neighbour answers a question, which then counts as answered in part. Whether it is the
    /// first part.
    fn take_answer(&mut self, now: Instant, local: ChannelId) -> Option<bool> {
        let neighbour = self.exchanges.0.get_mut(&local)?;
        let is_asked = neighbour.asked_at.is_some_and(|at| now - at < ANSWER_SPAN);
        if !is_asked || neighbour.awaited == 0 {
            return None;
        }
        neighbour.awaited -= 1;
        Some(neighbour.awaited + 1 == ANSWER_MAX)
    }

    /// A neighbour tells of itself or of somebody else.
    pub(super) fn on_pex_certificate(&mut self, now: Instant, at: usize, certificate: &Bytes) {
        let Some(channel) = self.channels.get(at) else {
            return;
        };
        let (index, local, from) = (channel.swarm, channel.local, channel.addr);
        let is_initiated = channel.initiated;
        let Some(is_first) = self.take_answer(now, local) else {
            self.stats.refused_certificates += 1;
            return;
        };
        let Some(addr) = self.member(now, index, certificate) else {
            self.stats.refused_certificates += 1;
            return;
        };
        // Its own is the first of its answer, and for where it is; which port it listens on only the certificate knows,
        // unless we called it.
        let is_there = addr.ip().to_canonical() == from.ip().to_canonical();
        let is_own = match is_initiated {
            true => is_there && addr.port() == from.port(),
            false => is_there && is_first,
        };
        // Not the datagram, of which it is a slice.
        let certificate = Bytes::copy_from_slice(certificate);
        if is_own {
            let neighbour = self.exchanges.0.entry(local).or_default();
            neighbour.own = Some((addr, certificate));
            return;
        }
        let Some(swarm) = self.swarms.get_mut(index) else {
            return;
        };
        let members = &mut swarm.members;
        let is_ours = matches!(members.own, Some((Some(own), _)) if own == addr);
        if is_ours || addr.port() == 0 || !may_learn(from.ip(), addr.ip()) {
            self.stats.refused_certificates += 1;
            return;
        }
        if members.known.len() < MEMBERS_MAX || members.known.contains_key(&addr) {
            members.known.insert(addr, certificate);
        }
    }

    /// An address that nobody vouches for: within one private network it may be tried (RFC 7574 §3.10), as the other
    /// hearsay is.
    pub(super) fn on_pex_address(&mut self, now: Instant, at: usize, addr: SocketAddr) {
        let Some(channel) = self.channels.get(at) else {
            return;
        };
        let (index, local, from) = (channel.swarm, channel.local, channel.addr);
        let is_asked = self.take_answer(now, local).is_some();
        let is_public = |addr: SocketAddr| scope(addr.ip()) == Scope::Public;
        let is_near = !is_public(addr) && !is_public(from) && may_learn(from.ip(), addr.ip());
        let is_closed = self.swarms.get(index).is_none_or(|swarm| swarm.lock.closed);
        if is_asked
            && is_near
            && !is_closed
            && let Some(swarm) = self.swarms.get_mut(index)
        {
            swarm.candidates.add_hearsay(now, addr, from);
        }
    }

    /// Nobody is left to call: some of those whom neighbours told of. True when there are any.
    pub(super) fn call_members(&mut self, now: Instant, index: usize) -> bool {
        let Some(swarm) = self.swarms.get_mut(index) else {
            return false;
        };
        let members = &mut swarm.members;
        let was_lately = members
            .offered_at
            .is_some_and(|last| now - last < OFFERED.1);
        if !members.is_their_turn(now) || was_lately || members.known.is_empty() {
            return false;
        }
        members.offered_at = Some(now);
        let mut known: Vec<SocketAddr> = members.known.keys().copied().collect();
        self.rng.shuffle(&mut known);
        let mut left = OFFERED.0;
        for addr in known {
            let certificate = self
                .swarms
                .get(index)
                .and_then(|it| it.members.known.get(&addr));
            let Some(certificate) = certificate.cloned() else {
                continue;
            };
            let holds = self.member(now, index, &certificate).is_some();
            let Some(swarm) = self.swarms.get_mut(index) else {
                break;
            };
            if !holds {
                swarm.members.known.remove(&addr);
            } else if swarm.candidates.get(addr).is_none() && swarm.candidates.add(addr, false) {
                left -= 1;
            }
            if left == 0 {
                break;
            }
        }
        left < OFFERED.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trackers_name_somebody_before_neighbours_do() {
        let at = |ms: u64| Instant::from_micros(ms * 1000);
        // When a tracker answered last, when nobody was left to call, when members are called.
        for (told, alone, called) in [
            (None, 5000, 5500),
            (Some(1000), 5000, 5500),
            (Some(4990), 5000, 6500),
            (Some(5010), 5000, 6500),
        ] {
            let mut members = Members::default();
            if let Some(told) = told {
                members.on_told(at(told));
            }
            let turn = (alone..)
                .step_by(100)
                .find(|&ms| members.is_their_turn(at(ms)));
            assert_eq!(turn, Some(called), "{told:?}");
            members.on_parent();
            assert!(!members.is_their_turn(at(called)), "alone anew");
        }
    }
}
