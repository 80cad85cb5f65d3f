//! Getting and keeping a parent: calling candidates, subscribing, noticing that one died, changing over.
//!
//! One parent pushes; up to two more channels stay open, for repair and to change over to at once. While a change is
//! under way the old parent is kept until the new one has delivered.

use std::time::Duration;

use super::swarm::Swarm;
use super::{Event, Loss, Node};
use crate::chunk::Parts;
use crate::peer::channel::{Channel, Phase, RemoteStatus};
use crate::time::Instant;
use crate::wire::SubscribeReply;

/// A better candidate that was just called gets this long before a worse one is taken.
const PREFERENCE_WAIT: Duration = Duration::from_millis(200);
/// Media missing for this many of its usual spacings: is the parent still there?
const SILENT_SPACINGS: u32 = 6;
const SILENT_LEAST: Duration = Duration::from_millis(150);
const SILENT_MOST: Duration = Duration::from_secs(1);
/// Questions without an answer until a parent is dead, and their least spacing.
pub(super) const PROBES_MAX: u32 = 3;
const PROBE_LEAST: Duration = Duration::from_millis(50);
/// A queue on the way must not hide a death: questions wait no longer for an answer.
const PROBE_MOST: Duration = Duration::from_millis(500);
/// A parent that answers and pushes nothing is left for one that has more after this long.
const STARVED: Duration = Duration::from_secs(1);
/// How far ahead (in chunk numbers) another one must be: five munros.
const STARVED_LEAD: u64 = 160;
/// When a successor has not delivered by then, it is let go.
const SUCCESSOR_SPAN: Duration = Duration::from_secs(2);
/// Nothing urgent: look again then.
const IDLE_CHECK: Duration = Duration::from_millis(500);

impl Node {
    /// Does what is due about the parent of a channel, and sets when to look again.
    pub(super) fn drive_parents(&mut self, now: Instant, index: usize) {
        let Some(swarm) = self.swarms.get_mut(index) else {
            return;
        };
        if swarm.is_source() || self.closed {
            return;
        }
        swarm.parent_check = now + IDLE_CHECK;
        self.resend_openings(now, index);
        self.let_surplus_go(now, index);
        self.call_candidates(now, index);
        if self.is_waiting(index) {
            // Neighbours say whether the channel streams; nothing of it is asked for before the user wants it.
            return;
        }
        self.follow_wish(now, index);
        self.resend_subscriptions(now, index);
        let Some(swarm) = self.swarms.get(index) else {
            return;
        };
        match swarm.parent {
            None => self.choose_parent(now, index),
            Some(parent) => self.watch_parent(now, index, parent),
        }
        self.drive_shares(now, index);
    }

    pub(super) fn check_at(&mut self, index: usize, at: Instant) {
        if let Some(swarm) = self.swarms.get_mut(index) {
            swarm.parent_check = swarm.parent_check.min(at);
        }
    }

    /// Takes the best candidate that is open; waits a moment for a better one that was just called.
    fn choose_parent(&mut self, now: Instant, index: usize) {
        let Some(swarm) = self.swarms.get(index) else {
            return;
        };
        let mut best: Option<(usize, usize)> = None;
        let mut wait: Option<(usize, Instant)> = None;
        for at in self.calls(index) {
            let Some(channel) = self.channels.get(at) else {
                continue;
            };
            let rank = swarm.candidates.rank(channel.addr);
            let refused = swarm.candidates.is_refused(now, channel.addr);
            match channel.phase {
                Phase::Opening { since, .. }
                    if now - since < PREFERENCE_WAIT
                        && wait.is_none_or(|(least, _)| rank < least) =>
                {
                    wait = Some((rank, since + PREFERENCE_WAIT));
                }
                Phase::Open
                    if !refused
                        && !self.leads_through_us(channel)
                        && best.is_none_or(|(least, _)| rank < least) =>
                {
                    best = Some((rank, at));
                }
                _ => {}
            }
        }
        match (best, wait) {
            (Some((rank, _)), Some((better, until))) if better < rank => {
                self.check_at(index, until)
            }
            (Some((_, at)), _) => {
                if let Some(swarm) = self.swarms.get_mut(index) {
                    swarm.parent = Some(at);
                    swarm.shares.forget(at);
                    // It may have been about to take over: it cannot succeed itself.
                    if swarm.successor == Some(at) {
                        swarm.successor = None;
                    }
                    swarm.last_train = None;
                    swarm.jitter.on_sender_changed();
                    swarm.members.on_parent();
                }
                self.subscribe(now, at);
                self.note_plain_parent(now, index, at);
            }
            (None, _) => {}
        }
    }

    /// Whether what a remote has comes from us, as it says itself or as it asked us to.
    pub(super) fn leads_through_us(&self, channel: &Channel) -> bool {
        let parts = self
            .swarms
            .get(channel.swarm)
            .map_or(Parts::ALL, Swarm::main_parts);
        let says_so = |status: &RemoteStatus| status.leads_through(self.peer_id, parts);
        channel.status.as_ref().is_some_and(says_so) || self.is_our_child(channel, parts)
    }

    /// Whoever is asked for the stream turns out to have asked us before: of the two the one with the lesser name gets its
    /// way.
    pub(super) fn break_ring(&mut self, now: Instant, at: usize) {
        let Some(channel) = self.channels.get(at) else {
            return;
        };
        let yields = channel.peer_id().is_some_and(|peer| peer < self.peer_id);
        let parts = channel.subscription.map_or(Parts::NONE, |it| it.parts);
        if yields && self.is_our_child(channel, parts) {
            self.unsubscribe(now, at);
            let retry = Duration::from_secs(5);
            self.give_up_subscription(now, at, SubscribeReply::LOOP, retry);
        }
    }

    /// Whether we push some of these substreams to a remote.
    fn is_our_child(&self, remote: &Channel, parts: Parts) -> bool {
        let Some((peer, swarm)) = remote.peer_id().zip(self.swarms.get(remote.swarm)) else {
            return false;
        };
        let mut children = swarm
            .children
            .iter()
            .filter_map(|&at| self.channels.get(at));
        children.any(|child| {
            let pushed = child.subscriber.as_ref().map_or(Parts::NONE, |it| it.parts);
            child.peer_id() == Some(peer) && !pushed.common(parts).is_empty()
        })
    }

    /// A plain remote cannot be subscribed to; what it announced already is asked for.
    fn note_plain_parent(&mut self, now: Instant, index: usize, at: usize) {
        let Some(channel) = self.channels.get(at) else {
            return;
        };
        if self.speaks_extensions(channel) {
            return;
        }
        let newest = channel
            .newest_announced
            .and_then(|newest| channel.available.covering(newest));
        self.note_parent(index, at);
        if let Some(range) = newest {
            self.on_have(now, at, range);
        }
    }

    /// Tells the shell who pushes to us now, once for each change.
    pub(super) fn note_parent(&mut self, index: usize, at: usize) {
        let Some(channel) = self.channels.get(at) else {
            return;
        };
        let (addr, peer) = (channel.addr, channel.peer_id());
        let Some(swarm) = self.swarms.get_mut(index) else {
            return;
        };
        if swarm.known_parent == Some(addr) {
            return;
        }
        let first = swarm.known_parent.is_none();
        swarm.known_parent = Some(addr);
        if !first {
            swarm.counters.parent_changes += 1;
        }
        self.push_event(Event::ParentChanged {
            swarm: index,
            addr,
            peer,
            first,
        });
    }

    /// Leaves a parent, keeping its channel.
    pub(super) fn drop_parent(&mut self, now: Instant, at: usize, reason: Loss) {
        let Some(channel) = self.channels.get_mut(at) else {
            return;
        };
        channel.subscription = None;
        channel.probe = None;
        let (index, addr) = (channel.swarm, channel.addr);
        let Some(swarm) = self.swarms.get_mut(index) else {
            return;
        };
        if swarm.parent == Some(at) {
            swarm.parent = None;
            swarm.repair.forget_announced();
            swarm.repair.ask_again(now);
        }
        if swarm.successor == Some(at) {
            swarm.successor = None;
        }
        swarm.shares.forget(at);
        self.unsubscribe(now, at);
        self.push_event(Event::ParentLost {
            swarm: index,
            addr,
            reason,
        });
        self.drive_parents(now, index);
    }

    /// Is the parent alive, and does it still have what others have?
    fn watch_parent(&mut self, now: Instant, index: usize, parent: usize) {
        let Some(swarm) = self.swarms.get(index) else {
            return;
        };
        let Some(channel) = self.channels.get(parent) else {
            return;
        };
        if !self.speaks_extensions(channel) {
            return;
        }
        let Some(subscription) = channel.subscription else {
            // Nobody is a parent whom we ask for nothing.
            if let Some(swarm) = self.swarms.get_mut(index) {
                swarm.parent = None;
            }
            return self.choose_parent(now, index);
        };
        if !subscription.accepted {
            return;
        }
        if let Some(successor) = swarm.successor {
            return self.watch_successor(now, index, parent, successor);
        }
        if self.has_lost_us(now, index, parent) {
            self.find_successor(now, index, parent);
            let found = self.swarms.get(index).and_then(|swarm| swarm.successor);
            if found.is_none() {
                self.subscribe(now, parent);
            }
            return;
        }
        // A stream that never began is not missed, unless others have it.
        let Some(last) = subscription.last_media else {
            if now - subscription.since >= STARVED {
                self.find_successor(now, index, parent);
            }
            return;
        };
        let limit = (swarm.train_spacing * SILENT_SPACINGS).clamp(SILENT_LEAST, SILENT_MOST);
        let silent_at = last + limit;
        if now < silent_at {
            return self.check_at(index, silent_at);
        }
        // Whatever it says proves that it lives, whether or not it is the answer to the last question.
        match channel.probe.filter(|_| channel.is_unheard()) {
            Some(probe) => {
                let patience = 1 + probe.tries.saturating_sub(PROBES_MAX);
                let wait = (channel.rtt.timeout(PROBE_LEAST) * patience).min(PROBE_MOST);
                let next = probe.sent + wait;
                if now < next {
                    return self.check_at(index, next);
                }
                if probe.tries >= PROBES_MAX && self.has_other_parent(now, index, parent) {
                    return self.forget(now, parent, Loss::Silent);
                }
                // The only one is asked on until its channel ends: it may just be out of reach for a moment. The call
                // that goes out beside it tells whether it was started anew.
                self.probe(now, parent);
                self.check_at(index, now + wait);
                self.call_candidates(now, index);
            }
            // It answered since the media stopped: alive. Ask again now and then, and see whether others have more.
            None => {
                let asked_lately = swarm.last_liveness.is_some_and(|at| now - at < limit);
                if !asked_lately {
                    if let Some(swarm) = self.swarms.get_mut(index) {
                        swarm.last_liveness = Some(now);
                    }
                    if let Some(channel) = self.channels.get_mut(parent) {
                        channel.probe = None;
                    }
                    self.probe(now, parent);
                    self.check_at(index, now + PROBE_LEAST);
                }
                if now - last >= STARVED {
                    self.find_successor(now, index, parent);
                }
            }
        }
    }

    /// Whether another candidate could take the place of the parent at once.
    fn has_other_parent(&self, now: Instant, index: usize, parent: usize) -> bool {
        let Some(swarm) = self.swarms.get(index) else {
            return false;
        };
        self.calls(index)
            .into_iter()
            .filter(|&at| at != parent)
            .filter_map(|at| self.channels.get(at))
            .any(|channel| {
                channel.is_open()
                    && !swarm.candidates.is_refused(now, channel.addr)
                    && !self.leads_through_us(channel)
            })
    }

    /// Whether the parent has much more than we, and gives none of it: it knows nothing of our subscription any more.
    fn has_lost_us(&self, now: Instant, index: usize, parent: usize) -> bool {
        let newest = self.swarms.get(index).and_then(|swarm| swarm.newest);
        let ours = newest.map_or(0, |newest| newest.chunks().last().get());
        self.channels.get(parent).is_some_and(|channel| {
            let is_ahead = channel.status.as_ref().is_some_and(|status| {
                now - status.at < Duration::from_secs(3)
                    && status.head.get() > ours.saturating_add(STARVED_LEAD)
            });
            let last = channel
                .subscription
                .map(|subscription| subscription.last_push);
            is_ahead && last.is_some_and(|last| now - last >= STARVED)
        })
    }

    /// Subscribes with a neighbour that is ahead of our parent.
    fn find_successor(&mut self, now: Instant, index: usize, parent: usize) {
        let Some(swarm) = self.swarms.get(index) else {
            return;
        };
        let ours = swarm
            .newest
            .map_or(0, |newest| newest.chunks().last().get());
        let ahead = self
            .calls(index)
            .into_iter()
            .filter(|&at| at != parent)
            .find(|&at| {
                self.channels.get(at).is_some_and(|channel| {
                    let refused = swarm.candidates.is_refused(now, channel.addr);
                    channel.is_open()
                        && !refused
                        && !self.leads_through_us(channel)
                        && channel.status.as_ref().is_some_and(|status| {
                            now - status.at < Duration::from_secs(3)
                                && status.head.get() > ours + STARVED_LEAD
                        })
                })
            });
        if let Some(at) = ahead {
            if let Some(swarm) = self.swarms.get_mut(index) {
                swarm.shares.forget(at);
            }
            self.subscribe(now, at);
            if let Some(swarm) = self.swarms.get_mut(index) {
                swarm.successor = Some(at);
            }
        }
    }

    /// The new parent takes over with its first media; the old one is told to stop.
    fn watch_successor(&mut self, now: Instant, index: usize, parent: usize, successor: usize) {
        let Some(subscription) = self
            .channels
            .get(successor)
            .and_then(|channel| channel.subscription)
        else {
            if let Some(swarm) = self.swarms.get_mut(index) {
                swarm.successor = None;
            }
            return;
        };
        if subscription.last_media.is_some() {
            let Some(swarm) = self.swarms.get_mut(index) else {
                return;
            };
            swarm.successor = None;
            swarm.parent = Some(successor);
            swarm.jitter.on_sender_changed();
            let why = self.why_left(index, successor);
            self.drop_parent(now, parent, why);
            self.note_parent(index, successor);
        } else if now - subscription.since > SUCCESSOR_SPAN {
            let Some(swarm) = self.swarms.get_mut(index) else {
                return;
            };
            swarm.successor = None;
            if let Some(addr) = self.channels.get(successor).map(|channel| channel.addr) {
                swarm
                    .candidates
                    .on_refused(now, addr, Duration::from_secs(5));
            }
            if let Some(channel) = self.channels.get_mut(successor) {
                channel.subscription = None;
            }
            self.unsubscribe(now, successor);
        } else {
            self.check_at(index, now + PROBE_LEAST);
        }
    }
}
