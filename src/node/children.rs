//! Subscriptions with us: who may be our child, for what of the stream, and when that ends.

use std::time::Duration;

use super::control::SILENCE_MAX;
use super::{Event, Node};
use crate::chunk::{ChunkIndex, ChunkSet, Parts};
use crate::ids::PeerId;
use crate::peer::channel::{PATH_MAX, Subscriber};
use crate::store::MunroIndex;
use crate::time::Instant;
use crate::wire::{Entry, Extension, Mask, Subscribe, SubscribeReply};

/// The longest lease granted.
const LEASE_MAX: Duration = Duration::from_secs(30);
/// When to ask again after a refusal.
const RETRY_FULL: Duration = Duration::from_secs(2);

impl Node {
    /// SUBSCRIBE: a child asks for the stream. Asked again it gets the same answer.
    pub(super) fn on_subscribe(&mut self, now: Instant, at: usize, subscribe: &Subscribe) {
        let Some(channel) = self.channels.get(at) else {
            return;
        };
        if let Err(why) = self.admission(now, at) {
            return self.hold_subscription(now, at, subscribe, why);
        }
        if self.awaits_key(now, at) {
            // It asks again.
            return self.challenge(now, at);
        }
        let index = channel.swarm;
        let repeated = channel
            .subscriber
            .as_ref()
            .is_some_and(|child| child.id == subscribe.id);
        let Some(swarm) = self.swarms.get(index) else {
            return;
        };
        let one = |entry: &Entry| match entry.substream {
            Entry::ALL => Parts::ALL,
            substream => Parts::one(substream),
        };
        let asked = subscribe.entries.iter().map(one);
        let asked = asked.fold(Parts::NONE, Parts::plus);
        let layout = swarm.layout.unwrap_or_default();
        let asked = asked.common(layout.all());
        let (reason, parts) = if repeated {
            (SubscribeReply::OK, asked)
        } else {
            self.judge(at, asked)
        };
        let Some(swarm) = self.swarms.get_mut(index) else {
            return;
        };
        if reason == SubscribeReply::OK && !repeated {
            let from = subscribe
                .entries
                .first()
                .map_or(ChunkIndex::ZERO, |entry| entry.from_chunk);
            let newest = swarm.newest_held();
            let start = match subscribe.from_mode {
                Subscribe::EXACT => Some(MunroIndex::of(from)),
                // Without anything here it begins where we begin.
                _ if newest.is_none() => None,
                Subscribe::OLDEST => swarm.oldest_held(),
                Subscribe::LIVE_EDGE => newest,
                _ => swarm
                    .window
                    .newest_entry()
                    .map(|slot| slot.index())
                    .or(newest),
            };
            let begins_with_us = start.is_none();
            let start = start.or_else(|| swarm.oldest()).unwrap_or_default();
            let lease = Duration::from_millis(u64::from(subscribe.lease_ms))
                .min(LEASE_MAX)
                .max(SILENCE_MAX);
            if let Some(channel) = self.channels.get_mut(at) {
                let is_new = channel.subscriber.is_none();
                // Who asks anew is given it no faster.
                let before = channel.subscriber.as_ref();
                let archive_due = before.map_or(now, |child| child.archive_due);
                channel.subscriber = Some(Subscriber {
                    id: subscribe.id,
                    parts,
                    places: layout.places(parts),
                    wants_hashes: subscribe.flags & Subscribe::SEND_HASHES != 0,
                    start,
                    begins_with_us,
                    cursor: start,
                    at_head: false,
                    lease_end: now + lease,
                    lease,
                    has: ChunkSet::default(),
                    acked_at: now,
                    asked_at: now,
                    archive_due,
                    archive_time: None,
                    archive_run: None,
                });
                let addr = channel.addr;
                if is_new {
                    swarm.children.push(at);
                    swarm.counters.accepted_subscriptions += 1;
                    self.push_event(Event::ChildJoined { swarm: index, addr });
                }
            }
        } else if reason != SubscribeReply::OK
            && let Some(swarm) = self.swarms.get_mut(index)
        {
            swarm.counters.refused_subscriptions += 1;
        }
        let status = self.status_for(at);
        if reason == SubscribeReply::OK {
            self.send_granted(now, at);
        } else {
            let reply = SubscribeReply {
                id: subscribe.id,
                accepted: Mask::from_parts(Parts::NONE),
                reason,
                retry_ms: RETRY_FULL.as_millis() as u32,
                start: None,
                // Where a child of ours listens is known to the tracker alone; its dialling address is no use to others.
                alternatives: Vec::new(),
            };
            self.send_extension(now, at, Extension::SubscribeReply(reply));
        }
        // The path comes with the answer, so that a loop shows before media flows.
        if let Some(status) = status {
            self.send_extension(now, at, status);
        }
        self.pump(now, at);
    }

    /// Tells a child that it is one, and what it is pushed first.
    pub(super) fn send_granted(&mut self, now: Instant, at: usize) {
        let Some(channel) = self.channels.get(at) else {
            return;
        };
        let (Some(child), Some(swarm)) = (&channel.subscriber, self.swarms.get(channel.swarm))
        else {
            return;
        };
        let start = if child.begins_with_us {
            swarm.oldest()
        } else {
            Some(child.start)
        };
        let reply = SubscribeReply {
            id: child.id,
            accepted: Mask::from_parts(child.parts),
            reason: SubscribeReply::OK,
            start: start.map(MunroIndex::first_chunk),
            ..SubscribeReply::default()
        };
        self.send_extension(now, at, Extension::SubscribeReply(reply));
    }

    /// What a remote pushes to us, or is to push: that it cannot have from us too. Of two that ask each other at the same
    /// time the one with the lesser name gets its way.
    fn asked_of(&self, swarm: usize, peer: PeerId) -> Parts {
        let parents = self.swarms.get(swarm).into_iter().flat_map(|swarm| {
            let main = swarm.parent.into_iter();
            main.chain(swarm.shares.channels())
        });
        let asked = parents.filter_map(|at| {
            let parent = self.channels.get(at)?;
            let subscription = parent.subscription?;
            let stands = subscription.accepted || self.peer_id < peer;
            (parent.peer_id() == Some(peer) && stands).then_some(subscription.parts)
        });
        asked.fold(Parts::NONE, Parts::plus)
    }

    /// Whether a remote may become our child, and for what of the parts that it asks for.
    fn judge(&self, at: usize, asked: Parts) -> (u8, Parts) {
        let Some(channel) = self.channels.get(at) else {
            return (SubscribeReply::POLICY, Parts::NONE);
        };
        if self.draining || self.closed {
            return (SubscribeReply::POLICY, Parts::NONE);
        }
        let has_nothing = self.is_waiting(channel.swarm) && !self.is_phone(channel);
        if has_nothing || asked.is_empty() {
            return (SubscribeReply::NOT_HAVE, Parts::NONE);
        }
        let blocks = self.paths(channel.swarm);
        let mut granted = asked;
        if let Some(peer) = channel.peer_id() {
            granted = granted.minus(self.asked_of(channel.swarm, peer));
            for (parts, path) in &blocks {
                if peer == self.peer_id || path.contains(&peer) {
                    granted = granted.minus(*parts);
                }
            }
        }
        if granted.is_empty() {
            return (SubscribeReply::LOOP, Parts::NONE);
        }
        if blocks.iter().any(|(_, path)| path.len() >= PATH_MAX) {
            return (SubscribeReply::DEPTH, Parts::NONE);
        }
        if !channel.is_child() && !self.has_room_for(channel.swarm, granted) {
            return (SubscribeReply::FULL, Parts::NONE);
        }
        (SubscribeReply::OK, granted)
    }

    /// A child wants some substreams no more; without any it is none.
    pub(super) fn on_unsubscribe(&mut self, at: usize, parts: Parts) {
        let Some(channel) = self.channels.get_mut(at) else {
            return;
        };
        let Some(child) = &mut channel.subscriber else {
            return;
        };
        let layout = self
            .swarms
            .get(channel.swarm)
            .and_then(|swarm| swarm.layout);
        let layout = layout.unwrap_or_default();
        child.parts = child.parts.minus(parts);
        child.places = layout.places(child.parts);
        if !child.parts.is_empty() {
            return;
        }
        channel.subscriber = None;
        let (index, addr) = (channel.swarm, channel.addr);
        if let Some(swarm) = self.swarms.get_mut(index) {
            swarm.children.retain(|&child| child != at);
        }
        self.push_event(Event::ChildLeft { swarm: index, addr });
    }
}
