//! Calls to candidates: how many at once, how long they are waited for, and which are closed again.

use std::time::Duration;

use super::parents::PROBES_MAX;
use super::{Event, Loss, Node};
use crate::peer::channel::Phase;
use crate::time::Instant;

/// Channels to candidates kept open: the parent and two to fall back on.
const SUPPLIERS_WANTED: usize = 3;
/// Channels to candidates of any kind at once: those that say no or nothing must not keep us from calling others.
pub(super) const CALLS_MAX: usize = 8;
/// A call not answered for this long is not waited for, though it goes on.
const CALL_PATIENCE: Duration = Duration::from_secs(1);
/// Our last handshake datagram is repeated after this, then ever more seldom, until the remote says something.
const GREET_AGAIN: Duration = Duration::from_millis(250);
const GREET_AGAIN_MOST: Duration = Duration::from_secs(1);
/// Candidates called at once while there is no parent.
const CALLS_AT_ONCE: usize = 3;

impl Node {
    /// Our channels to candidates of a swarm.
    pub(super) fn calls(&self, index: usize) -> Vec<usize> {
        self.channels
            .iter()
            .filter(|(_, channel)| channel.initiated && channel.swarm == index)
            .map(|(at, _)| at)
            .collect()
    }

    /// Says the last part of the handshake again to a remote that has said nothing since: if it was lost, the remote
    /// knows of no channel, and all that we send there is in vain.
    fn greet_again(&mut self, now: Instant, index: usize, at: usize) {
        let Some(channel) = self.channels.get_mut(at) else {
            return;
        };
        let is_heard = channel.hello.is_some() || channel.status.is_some();
        // Subscriptions are repeated together with it.
        let is_asked = channel
            .subscription
            .is_some_and(|subscription| !subscription.accepted);
        let ours = self.extensions && channel.has_extensions();
        if !channel.is_open() || !ours || is_heard || is_asked {
            return;
        }
        let (last, repeated) = channel.greeted;
        let wait = (GREET_AGAIN * (1 << repeated.min(4))).min(GREET_AGAIN_MOST);
        if now >= last + wait {
            channel.greeted = (now, repeated + 1);
            self.answer_reply(now, at);
        }
        let next = self
            .channels
            .get(at)
            .map_or(now, |channel| channel.greeted.0)
            + wait;
        self.check_at(index, next);
    }

    pub(super) fn resend_openings(&mut self, now: Instant, index: usize) {
        for at in self.calls(index) {
            self.resend_opening(now, at);
            self.greet_again(now, index, at);
            if let Some(Phase::Opening { resend, .. }) =
                self.channels.get(at).map(|channel| channel.phase)
            {
                self.check_at(index, resend);
            }
        }
    }

    pub(super) fn call_candidates(&mut self, now: Instant, index: usize) {
        for _ in 0..CALLS_AT_ONCE {
            let calls = self.calls(index);
            let Some(swarm) = self.swarms.get(index) else {
                return;
            };
            let (mut promising, mut busy) = (0, Vec::with_capacity(calls.len()));
            let mut patience_ends: Option<Instant> = None;
            for channel in calls.iter().filter_map(|&at| self.channels.get(at)) {
                match channel.phase {
                    // It may have been started anew: then only a new call reaches it.
                    Phase::Open if channel.is_in_doubt(PROBES_MAX) => continue,
                    Phase::Open => {
                        let refused = swarm.candidates.is_refused(now, channel.addr);
                        promising += usize::from(!refused);
                    }
                    Phase::Opening { since, .. } if now - since < CALL_PATIENCE => {
                        promising += 1;
                        let ends = since + CALL_PATIENCE;
                        patience_ends = Some(patience_ends.map_or(ends, |at| at.min(ends)));
                    }
                    Phase::Opening { .. } => {}
                }
                busy.push(channel.addr);
            }
            if promising >= SUPPLIERS_WANTED || calls.len() >= CALLS_MAX {
                if let Some(at) = patience_ends {
                    self.check_at(index, at);
                }
                return;
            }
            match swarm.candidates.next_call(|addr| busy.contains(&addr)) {
                Some((when, addr)) if when <= now => {
                    if self.dial(now, index, addr).is_none() {
                        return;
                    }
                }
                // Whom the user and trackers named have all failed, as far as we got.
                _ if promising == 0 && swarm.parent.is_none() && self.call_members(now, index) => {}
                Some((when, _)) => return self.check_at(index, when),
                None => {
                    if calls.is_empty() && self.tick_count.is_multiple_of(10) {
                        self.push_event(Event::NeedParents { swarm: index });
                    }
                    return;
                }
            }
        }
    }

    /// Closes the least wanted of more open channels than we have use for: calls that were not waited for may be answered
    /// after all.
    pub(super) fn let_surplus_go(&mut self, now: Instant, index: usize) {
        let Some(swarm) = self.swarms.get(index) else {
            return;
        };
        let mut spare: Vec<(usize, usize)> = Vec::new();
        for at in self.calls(index) {
            if let Some(channel) = self.channels.get(at)
                && channel.is_open()
                && !channel.is_in_doubt(PROBES_MAX)
                && !swarm.candidates.is_refused(now, channel.addr)
            {
                let is_used =
                    swarm.parent == Some(at) || swarm.successor == Some(at) || swarm.shares.has(at);
                let rank = swarm.candidates.rank(channel.addr);
                spare.push((if is_used { 0 } else { rank.saturating_add(1) }, at));
            }
        }
        spare.sort_unstable();
        let used = spare.iter().filter(|(rank, _)| *rank == 0).count();
        for (_, at) in spare.into_iter().skip(SUPPLIERS_WANTED.max(used)) {
            self.close_channel(now, at, Loss::Left);
        }
    }
}
