//! Following a tracker that wants us below another parent, without missing anything: the old one is kept until the new
//! one has delivered.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::{Loss, Node};
use crate::chunk::ChunkIndex;
use crate::integrity::Unproven;
use crate::store::MunroIndex;
use crate::time::Instant;

/// A wish is followed for so long; the tracker repeats it as long as it stands.
const WISH_SPAN: Duration = Duration::from_secs(5);
/// How soon to look again whether the one wished for has answered.
const WISH_CHECK: Duration = Duration::from_millis(50);

impl Node {
    /// Makes `addr` the parent as soon as it delivers. A parent that the user named is kept whatever a tracker wishes.
    pub fn move_to(&mut self, now: Instant, index: usize, addr: SocketAddr) {
        let has_fixed = self.parent_addr(index).is_some_and(|parent| {
            let swarm = self.swarms.get(index);
            swarm.is_some_and(|swarm| swarm.candidates.is_fixed(parent))
        });
        if has_fixed {
            return;
        }
        if let Some(swarm) = self.swarms.get_mut(index) {
            swarm.candidates.prefer(addr);
            swarm.wished = Some((addr, now + WISH_SPAN));
        }
        self.drive_parents(now, index);
    }

    /// Where the parent is, the main one when there are several.
    pub fn parent_addr(&self, index: usize) -> Option<SocketAddr> {
        let parent = self.swarms.get(index)?.parent?;
        self.channels.get(parent).map(|channel| channel.addr)
    }

    /// Calls the one wished for, and subscribes with it once it has answered.
    pub(super) fn follow_wish(&mut self, now: Instant, index: usize) {
        let Some((addr, until)) = self.swarms.get(index).and_then(|swarm| swarm.wished) else {
            return;
        };
        let parent = self.parent_addr(index);
        let Some(swarm) = self.swarms.get_mut(index) else {
            return;
        };
        if now >= until || parent == Some(addr) {
            swarm.wished = None;
            return;
        }
        // Without a parent the best candidate is taken, and that is this one.
        if parent.is_none() || swarm.successor.is_some() || swarm.candidates.is_refused(now, addr) {
            return;
        }
        let called = self.calls(index).into_iter().find(|at| {
            self.channels
                .get(*at)
                .is_some_and(|channel| channel.addr == addr)
        });
        match called {
            Some(at) => {
                let is_ready = self
                    .channels
                    .get(at)
                    .is_some_and(|channel| channel.is_open() && !self.leads_through_us(channel));
                if is_ready {
                    if let Some(swarm) = self.swarms.get_mut(index) {
                        swarm.shares.forget(at);
                    }
                    self.subscribe(now, at);
                    if let Some(swarm) = self.swarms.get_mut(index) {
                        swarm.successor = Some(at);
                    }
                }
            }
            None => {
                let not_before = self
                    .swarms
                    .get(index)
                    .and_then(|swarm| swarm.candidates.get(addr))
                    .map_or(now, |candidate| candidate.not_before);
                if not_before <= now {
                    self.dial(now, index, addr);
                }
            }
        }
        self.check_at(index, now + WISH_CHECK);
    }

    /// A chunk came that was here already: from the one wished for it is a delivery like any other when it is genuine and
    /// of the newest munro, because the old parent goes on meanwhile and may be the faster one.
    pub(super) fn note_takeover(
        &mut self,
        now: Instant,
        at: usize,
        chunk: ChunkIndex,
        payload: Bytes,
    ) {
        let Some(channel) = self.channels.get_mut(at) else {
            return;
        };
        let Some(swarm) = self.swarms.get_mut(channel.swarm) else {
            return;
        };
        let index = MunroIndex::of(chunk);
        let is_awaited = swarm.successor == Some(at) && swarm.wished.is_some();
        let is_newest = swarm.newest.is_none_or(|newest| index >= newest);
        // A helper may always be somewhat later than the main parent.
        if !(is_awaited && is_newest || swarm.shares.awaits(at)) {
            return;
        }
        let leaf = swarm
            .window
            .tree_mut(index)
            .and_then(|tree| tree.leaf(chunk));
        if let Some(subscription) = &mut channel.subscription
            && leaf.is_some_and(|leaf| Unproven::new(payload).prove(&leaf).is_ok())
        {
            subscription.last_media = Some(now);
        }
    }

    /// Why a parent is left for one that took over.
    pub(super) fn why_left(&self, index: usize, successor: usize) -> Loss {
        let addr = self.channels.get(successor).map(|channel| channel.addr);
        let wished = self.swarms.get(index).and_then(|swarm| swarm.wished);
        if wished.is_some_and(|(wished, _)| Some(wished) == addr) {
            Loss::Moved
        } else {
            Loss::Starved
        }
    }
}
