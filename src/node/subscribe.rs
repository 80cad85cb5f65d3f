//! Asking a remote to push: SUBSCRIBE, what comes back, and goodbye.

use std::time::Duration;

use super::swarm::Swarm;
use super::{Event, Loss, Node, StartFrom};
use crate::chunk::{ChunkIndex, Parts};
use crate::peer::channel::{Channel, Subscription};
use crate::store::MunroIndex;
use crate::time::Instant;
use crate::wire::{Entry, Extension, Mask, Subscribe, SubscribeReply};

/// A request without an answer is repeated after the round-trip time, but neither sooner nor later than this.
const SUBSCRIBE_RESEND_LEAST: Duration = Duration::from_millis(50);
const SUBSCRIBE_RESEND_MOST: Duration = Duration::from_millis(250);
/// A remote that answers no request is left after this long: others may be waiting to be asked.
const SUBSCRIBE_SPAN: Duration = Duration::from_millis(1500);
/// Who pushes and has not said where it began is asked so often.
pub(super) const START_TRIES: u32 = 8;
/// Alternatives looked at in one refusal.
const ALTERNATIVES_MAX: usize = 4;
const LEASE_MS: u32 = 30_000;

/// How long a remote gets to answer a SUBSCRIBE.
fn subscribe_again_after(channel: &Channel) -> Duration {
    channel
        .rtt
        .repeat_after(SUBSCRIBE_RESEND_LEAST)
        .min(SUBSCRIBE_RESEND_MOST)
}

impl Node {
    /// Asks a remote to push what no helper pushes.
    pub(super) fn subscribe(&mut self, now: Instant, at: usize) {
        let index = self.channels.get(at).map(|channel| channel.swarm);
        if let Some(swarm) = index.and_then(|index| self.swarms.get(index)) {
            let parts = swarm.main_parts();
            self.subscribe_parts(now, at, parts);
        }
    }

    /// Asks a remote to push some substreams.
    pub(super) fn subscribe_parts(&mut self, now: Instant, at: usize, parts: Parts) {
        let id = (self.rng.next_u32() >> 16) as u16;
        let Some(channel) = self.channels.get_mut(at) else {
            return;
        };
        let (index, resend) = (channel.swarm, now + subscribe_again_after(channel));
        let begins = self
            .swarms
            .get(channel.swarm)
            .is_some_and(|swarm| swarm.newest.is_none());
        let before = channel.subscription;
        channel.subscription = Some(Subscription {
            id,
            since: now,
            parts,
            is_overdone: false,
            resend,
            tries: 1,
            accepted: false,
            answered: false,
            begins,
            start: None,
            sent_long: before.is_some_and(|before| before.sent_long),
            last_media: before.and_then(|before| before.last_media),
            last_push: now,
        });
        self.check_at(index, resend);
        self.send_subscribe(now, at);
    }

    fn send_subscribe(&mut self, now: Instant, at: usize) {
        let Some(channel) = self.channels.get(at) else {
            return;
        };
        if !self.speaks_extensions(channel) {
            return;
        }
        let index = channel.swarm;
        let Some(subscription) = channel.subscription else {
            return;
        };
        let Some(swarm) = self.swarms.get_mut(index) else {
            return;
        };
        // Newcomers say where to begin; whoever has some of the stream goes on behind it.
        let (from_mode, from_chunk) = match (swarm.newest, swarm.from) {
            (Some(newest), _) => (Subscribe::EXACT, newest.plus(1).first_chunk()),
            (None, StartFrom::Live) => (Subscribe::RANDOM_ACCESS, ChunkIndex::ZERO),
            (None, StartFrom::Oldest) => (Subscribe::OLDEST, ChunkIndex::ZERO),
        };
        let entry = |substream| Entry {
            substream,
            from_chunk,
        };
        let entries = match swarm.layout {
            Some(layout) => subscription
                .parts
                .common(layout.all())
                .iter()
                .map(entry)
                .collect(),
            None => vec![entry(Entry::ALL)],
        };
        let is_helper = swarm.shares.has(at);
        let message = Extension::Subscribe(Subscribe {
            id: subscription.id,
            flags: if is_helper { 0 } else { Subscribe::SEND_HASHES },
            from_mode,
            entries,
            lease_ms: LEASE_MS,
            priority: 0,
        });
        self.send_extension(now, at, message);
        self.ask_description(now, index);
    }

    pub(super) fn resend_subscriptions(&mut self, now: Instant, index: usize) {
        let Some(swarm) = self.swarms.get(index) else {
            return;
        };
        let has_begun = swarm.tune_in.is_some();
        let asked = [swarm.parent, swarm.successor].into_iter().flatten();
        let asked: Vec<usize> = asked.chain(swarm.shares.channels()).collect();
        for at in asked {
            let Some(channel) = self.channels.get_mut(at) else {
                continue;
            };
            let plain = !(self.extensions && channel.has_extensions());
            let again_after = subscribe_again_after(channel);
            let is_unheard = channel.hello.is_none();
            let Some(subscription) = &mut channel.subscription else {
                continue;
            };
            // Media alone does not tell where it began: an answer that was lost is asked for again. A parent that had
            // nothing itself said so at first, and more once it had.
            let lacks_start = subscription.begins && subscription.start.is_none() && has_begun;
            let enough =
                subscription.tries >= START_TRIES || (subscription.answered && !lacks_start);
            if plain || (subscription.accepted && enough) {
                continue;
            }
            if now < subscription.resend {
                let resend = subscription.resend;
                self.check_at(index, resend);
                continue;
            }
            if !subscription.accepted && now - subscription.since >= SUBSCRIBE_SPAN {
                self.close_channel(now, at, Loss::Silent);
                continue;
            }
            subscription.resend = now + again_after * (1 << (subscription.tries / 2).min(2));
            subscription.tries += 1;
            let resend = subscription.resend;
            if is_unheard {
                // Without our last handshake datagram the remote knows nothing of the channel.
                self.answer_reply(now, at);
            }
            self.send_subscribe(now, at);
            self.check_at(index, resend);
        }
    }

    pub(super) fn on_subscribe_reply(&mut self, now: Instant, at: usize, reply: &SubscribeReply) {
        let Some(channel) = self.channels.get(at) else {
            return;
        };
        if channel
            .subscription
            .is_none_or(|asked| asked.id != reply.id)
        {
            return;
        }
        let (index, addr) = (channel.swarm, channel.addr);
        if reply.reason == SubscribeReply::OK {
            if !self.is_granted(at, reply.accepted.parts()) {
                return self.refuse_partly(now, at);
            }
            let channel = self.channels.get_mut(at);
            let Some(subscription) = channel.and_then(|it| it.subscription.as_mut()) else {
                return;
            };
            subscription.accepted = true;
            if !subscription.answered {
                subscription.answered = true;
                subscription.tries = 1;
            }
            let start = reply.start.map(MunroIndex::of);
            subscription.start = start.or(subscription.start);
            let begins = subscription.begins;
            let is_parent = self
                .swarms
                .get(index)
                .is_some_and(|swarm| swarm.parent == Some(at));
            if is_parent {
                self.note_parent(index, at);
            }
            if let Some(start) = start.filter(|_| begins) {
                self.begin_earlier(now, index, start);
            }
            self.start_playout(index, &[]);
            return;
        }
        if let Some(swarm) = self.swarms.get_mut(index) {
            for (_, alternative) in reply.alternatives.iter().take(ALTERNATIVES_MAX) {
                swarm.candidates.add_hearsay(now, *alternative, addr);
            }
        }
        let retry = Duration::from_millis(u64::from(reply.retry_ms));
        self.give_up_subscription(now, at, reply.reason, retry);
    }

    /// A parent takes us not, or not any more.
    pub(super) fn give_up_subscription(
        &mut self,
        now: Instant,
        at: usize,
        reason: u8,
        retry: Duration,
    ) {
        let Some(channel) = self.channels.get_mut(at) else {
            return;
        };
        channel.subscription = None;
        let (index, addr) = (channel.swarm, channel.addr);
        let Some(swarm) = self.swarms.get_mut(index) else {
            return;
        };
        if reason == SubscribeReply::LOOP {
            swarm.candidates.on_below_us(now, addr, retry);
        } else {
            swarm.candidates.on_refused(now, addr, retry);
        }
        if swarm.successor == Some(at) {
            swarm.successor = None;
        }
        if swarm.parent == Some(at) {
            swarm.parent = None;
        }
        self.lose_helper(now, index, at);
        self.push_event(Event::ParentRefused {
            swarm: index,
            addr,
            reason,
        });
        self.drive_parents(now, index);
    }

    /// Tells a remote to push no more.
    pub(super) fn unsubscribe(&mut self, now: Instant, at: usize) {
        let index = self.channels.get(at).map(|channel| channel.swarm);
        let swarm = index.and_then(|index| self.swarms.get(index));
        let all = swarm.map_or(Parts::ALL, Swarm::all_parts);
        self.unsubscribe_from(now, at, all);
    }

    /// Tells a remote not to push some substreams any more.
    pub(super) fn unsubscribe_from(&mut self, now: Instant, at: usize, parts: Parts) {
        let mask = Mask::from_parts(parts);
        self.send_extension(now, at, Extension::Unsubscribe { mask, reason: 0 });
    }
}
