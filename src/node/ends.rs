//! Both ends of a stream: where it begins here, and who still lacks something of it when it is over.

use std::time::Duration;

use super::push::{Hashes, encode_hashes, send};
use super::repair::{MUNRO_GAP_MAX, give_up_at, note_gap};
use super::subscribe::START_TRIES;
use super::swarm::Swarm;
use super::{Node, StartFrom};
use crate::chunk::ChunkRange;
use crate::peer::channel::{Channel, Subscriber};
use crate::schedule::repair::REORDER_DELAY;
use crate::store::MunroIndex;
use crate::time::Instant;

/// A child that has not acknowledged something for so long, and does not ask for it either, will not any more: it is
/// dead, or has given it up. Tries at long round-trip times are further apart, but by then it is too late for them.
const QUIET_SPAN: Duration = Duration::from_millis(1500);
/// The end mark is repeated for so long to children that have not acknowledged it.
const END_REPEAT_SPAN: Duration = Duration::from_secs(5);

impl Node {
    /// The first munro of a stream is here: it begins with that one, or where the parent said that it began to push.
    pub(super) fn begin(&mut self, now: Instant, at: usize, index: MunroIndex) {
        let Some(channel) = self.channels.get(at) else {
            return;
        };
        let start = channel
            .subscription
            .filter(|subscription| subscription.begins)
            .and_then(|subscription| subscription.start)
            .filter(|start| is_just_before(*start, index))
            .unwrap_or(index);
        self.begin_at(now, channel.swarm, start);
    }

    /// The parent's answer came behind its first munros: those before them were lost, and are holes.
    pub(super) fn begin_earlier(&mut self, now: Instant, swarm: usize, start: MunroIndex) {
        let Some(first) = self.swarms.get(swarm).and_then(|swarm| swarm.tune_in) else {
            return;
        };
        if !is_just_before(start, first) {
            return;
        }
        self.begin_at(now, swarm, start);
        let Some(swarm) = self.swarms.get_mut(swarm) else {
            return;
        };
        if let Some(playout) = &mut swarm.playout
            && swarm.from == StartFrom::Oldest
        {
            playout.start_earlier(start.first_chunk());
        }
        note_gap_before(now, swarm, start, first);
    }

    /// Whether the parent is still to say where it began to push.
    pub(super) fn awaits_start(&self, swarm: usize) -> bool {
        self.swarms
            .get(swarm)
            .and_then(|swarm| swarm.parent)
            .and_then(|parent| self.channels.get(parent))
            .filter(|channel| self.speaks_extensions(channel))
            .and_then(|channel| channel.subscription)
            .is_some_and(|subscription| {
                subscription.begins && !subscription.answered && subscription.tries < START_TRIES
            })
    }

    /// Sets where the stream begins here, and tells the children that begin with us.
    fn begin_at(&mut self, now: Instant, swarm: usize, start: MunroIndex) {
        let Some(stream) = self.swarms.get_mut(swarm) else {
            return;
        };
        stream.tune_in = Some(start);
        for at in stream.children.clone() {
            let Some(child) = self
                .channels
                .get_mut(at)
                .and_then(|channel| channel.subscriber.as_mut())
                .filter(|child| child.begins_with_us)
            else {
                continue;
            };
            child.start = start;
            child.cursor = child.cursor.max(start);
            self.send_granted(now, at);
        }
    }

    /// Whether every child has acknowledged everything that it was promised, or does not want it any more.
    pub fn is_drained(&self, now: Instant) -> bool {
        self.outbox.is_empty()
            && self
                .channels
                .iter()
                .all(|(_, channel)| !self.waits_for_more(now, channel))
    }

    /// Whether something we have is still to reach a child.
    fn waits_for_more(&self, now: Instant, channel: &Channel) -> bool {
        let (Some(child), Some(swarm)) = (&channel.subscriber, self.swarms.get(channel.swarm))
        else {
            return false;
        };
        let Some((oldest, newest)) = swarm.window.oldest().zip(swarm.window.newest()) else {
            return false;
        };
        let first = oldest.index().max(child.start).first_chunk();
        let Some(pushed) = ChunkRange::new(first, newest.index().chunks().last()) else {
            return false;
        };
        let quiet_since = quiet_since(child);
        let complete = swarm.window.complete().intersection(pushed);
        let lacking = complete.into_iter().flat_map(|run| child.has.gaps(run));
        lacking.into_iter().any(|gap| {
            swarm
                .window
                .slots_from(MunroIndex::of(gap.first()))
                .take_while(|slot| slot.index() <= MunroIndex::of(gap.last()))
                .any(|slot| now - slot.arrived().max(quiet_since) < QUIET_SPAN)
        })
    }

    /// The end mark has nothing behind it that would show its loss, nor has the acknowledgement of it.
    pub(super) fn repeat_end(&mut self, now: Instant, at: usize) {
        let Some(channel) = self.channels.get_mut(at) else {
            return;
        };
        let Some(child) = channel.subscriber.as_ref().filter(|child| child.at_head) else {
            return;
        };
        let Some(swarm) = self.swarms.get(channel.swarm) else {
            return;
        };
        let Some(end) = swarm.window.newest().filter(|slot| slot.is_end_mark()) else {
            return;
        };
        let acknowledged = child.has.contains(end.index().first_chunk());
        let age = now - end.arrived();
        // Fresh, it is under way.
        if acknowledged || age >= END_REPEAT_SPAN || age < channel.rtt.smoothed() {
            return;
        }
        let format = swarm.terms.format;
        send(now, &mut self.outbox, channel, |out| {
            encode_hashes(Hashes::of(swarm, end), end, &format, out)
        });
    }
}

/// When a child last showed that it wants more.
fn quiet_since(child: &Subscriber) -> Instant {
    if child.at_head {
        child.asked_at
    } else {
        // It is being caught up: its acknowledgements ask for more.
        child.asked_at.max(child.acked_at)
    }
}

/// Follows what a parent pushed from `start` on and that never came, up to `first`, which did.
fn note_gap_before(now: Instant, swarm: &mut Swarm, start: MunroIndex, first: MunroIndex) {
    let gap = ChunkRange::new(start.first_chunk(), first.first_chunk().minus(1));
    if let (Some(gap), Some(slot)) = (gap, swarm.window.slot(first)) {
        let give_up = give_up_at(now, swarm, slot);
        note_gap(now, swarm, gap, REORDER_DELAY, give_up);
    }
}

/// Whether a stream said to begin at `start` may have lost all before `first`. A liar could say anything, and what was
/// not lost but never pushed would be asked for in vain: no more than can be lost in a row is believed.
fn is_just_before(start: MunroIndex, first: MunroIndex) -> bool {
    start < first && first.get() - start.get() < MUNRO_GAP_MAX
}
