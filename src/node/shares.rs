//! Several parents at once: others push substreams of the stream beside the main parent, who pushes the rest and all the
//! hashes.
//!
//! Who is to push what a tracker says ([`Node::set_shares`]). Another one is relied on once it has delivered; until then,
//! and as soon as it owes us something for too long, the main parent pushes its share as well. So whatever a helper does,
//! the stream is no worse off than below the main parent alone.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Loss, Node};
use crate::chunk::{Layout, Parts};
use crate::schedule::repair::REORDER_DELAY;
use crate::time::Instant;
use crate::wire::SubscribeReply;

/// Parents beside the main one.
pub(super) const HELPERS_MAX: usize = Layout::SUBSTREAMS_MAX as usize - 1;
/// When a helper has not delivered by then, it is let go.
const FIRST_MEDIA_SPAN: Duration = Duration::from_secs(2);
/// A helper that owes us something for so long gives nothing.
const OWED_SPAN: Duration = Duration::from_millis(300);
/// A helper that was let go is not asked again before.
const RETRY: Duration = Duration::from_secs(5);
/// However late a helper is, what it owes is asked for elsewhere then.
const PATIENCE_MAX: Duration = Duration::from_millis(250);
/// How soon to look after helpers again.
const CHECK: Duration = Duration::from_millis(50);

/// Who is to push what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Share {
    addr: SocketAddr,
    parts: Parts,
}

/// Who was asked to push a part.
#[derive(Clone, Copy, Debug)]
struct Helper {
    /// Its channel.
    at: usize,
    parts: Parts,
    /// Whether the main parent was told to leave this part to it.
    is_relied_on: bool,
    /// How long after the hashes of a munro its chunks came, at the most, lately.
    lag: Duration,
    /// Since when something of its part is missing.
    owes_since: Option<Instant>,
}

/// The parents of one stream beside the main one.
#[derive(Debug, Default)]
pub(super) struct Shares {
    wanted: Vec<Share>,
    helpers: Vec<Helper>,
}

impl Shares {
    /// Whether the main parent is the only one.
    pub(super) const fn is_empty(&self) -> bool {
        self.helpers.is_empty()
    }

    /// What helpers push so that nobody else needs to.
    pub(super) fn relied_on(&self) -> Parts {
        let relied_on = self.helpers.iter().filter(|helper| helper.is_relied_on);
        relied_on.fold(Parts::NONE, |all, helper| all.plus(helper.parts))
    }

    /// Those that push a part of their own, and which.
    pub(super) fn pushing(&self) -> impl Iterator<Item = (usize, Parts)> {
        let relied_on = self.helpers.iter().filter(|helper| helper.is_relied_on);
        relied_on.map(|helper| (helper.at, helper.parts))
    }

    /// The channels of all that were asked.
    pub(super) fn channels(&self) -> impl Iterator<Item = usize> {
        self.helpers.iter().map(|helper| helper.at)
    }

    /// Whether it was asked for a part.
    pub(super) fn has(&self, at: usize) -> bool {
        self.helpers.iter().any(|helper| helper.at == at)
    }

    /// Whether it has yet to show that it delivers.
    pub(super) fn awaits(&self, at: usize) -> bool {
        let mut helpers = self.helpers.iter();
        helpers.any(|helper| helper.at == at && !helper.is_relied_on)
    }

    /// A chunk came from a helper, so long after the hashes of its munro.
    pub(super) fn on_chunk(&mut self, at: usize, lag: Duration) {
        if let Some(helper) = self.find(at) {
            // The worst is forgotten slowly: some ninety chunks later it counts half.
            helper.lag = lag.min(PATIENCE_MAX).max(helper.lag - helper.lag / 128);
        }
    }

    /// A helper pushed something that was missing, and it was genuine.
    pub(super) fn on_delivered(&mut self, at: usize) {
        if let Some(helper) = self.find(at) {
            helper.owes_since = None;
        }
    }

    /// Chunks at these positions of a munro are missing: whoever was to push them owes them.
    pub(super) fn on_missing(&mut self, now: Instant, layout: Layout, missing: u32) {
        for helper in &mut self.helpers {
            if helper.is_relied_on && missing & layout.places(helper.parts) != 0 {
                helper.owes_since.get_or_insert(now);
            }
        }
    }

    /// How long a chunk of a substream may come later than the hashes, without being lost; no longer than `most`, since it
    /// has to be here in time, whatever a helper makes us wait.
    pub(super) fn patience(&self, substream: u8, most: Duration) -> Duration {
        let mut helpers = self.helpers.iter();
        let helper = helpers.find(|it| it.is_relied_on && it.parts.contains(substream));
        helper.map_or(REORDER_DELAY, |helper| {
            let patience = (REORDER_DELAY + helper.lag * 3 / 2).min(PATIENCE_MAX);
            patience.min(most).max(REORDER_DELAY)
        })
    }

    fn find(&mut self, at: usize) -> Option<&mut Helper> {
        self.helpers.iter_mut().find(|helper| helper.at == at)
    }

    /// It is to be the main parent, or is none at all.
    pub(super) fn forget(&mut self, at: usize) {
        self.helpers.retain(|helper| helper.at != at);
    }
}

impl Node {
    /// Remotes that are to push parts of a stream, as a tracker says. What none of them pushes the main parent does, who is
    /// chosen among the candidates as ever.
    pub fn set_shares(&mut self, now: Instant, index: usize, shares: &[(SocketAddr, Parts)]) {
        let Some(swarm) = self.swarms.get_mut(index) else {
            return;
        };
        let mut taken = Parts::NONE;
        swarm.shares.wanted.clear();
        for &(addr, parts) in shares.iter().take(HELPERS_MAX + 1) {
            let parts = parts.minus(taken);
            taken = taken.plus(parts);
            swarm.shares.wanted.push(Share { addr, parts });
        }
        self.drive_parents(now, index);
    }

    /// What each parent of a stream pushes, the main one first.
    pub(super) fn parents_of(&self, index: usize) -> Vec<(usize, Parts)> {
        let Some(swarm) = self.swarms.get(index) else {
            return Vec::new();
        };
        let main = swarm.parent.map(|at| (at, swarm.main_parts()));
        main.into_iter().chain(swarm.shares.pushing()).collect()
    }

    /// Asks helpers, relies on them, and lets them go.
    pub(super) fn drive_shares(&mut self, now: Instant, index: usize) {
        self.let_helpers_go(now, index);
        self.rely_on_helpers(now, index);
        self.ask_helpers(now, index);
        self.keep_parts(now, index);
        let Some(swarm) = self.swarms.get(index) else {
            return;
        };
        if !swarm.shares.is_empty() {
            self.check_at(index, now + CHECK);
        }
    }

    /// The main parent, when it has delivered something and can be asked for parts.
    fn settled_parent(&self, index: usize) -> Option<usize> {
        let parent = self.swarms.get(index)?.parent?;
        let channel = self.channels.get(parent)?;
        let subscription = channel.subscription?;
        (self.speaks_extensions(channel) && subscription.last_media.is_some()).then_some(parent)
    }

    fn let_helpers_go(&mut self, now: Instant, index: usize) {
        let Some(swarm) = self.swarms.get(index) else {
            return;
        };
        let mut gone: Vec<(usize, bool)> = Vec::new();
        for helper in &swarm.shares.helpers {
            let channel = self.channels.get(helper.at);
            let asked = channel.and_then(|channel| Some((channel.addr, channel.subscription?)));
            let Some((addr, subscription)) = asked else {
                gone.push((helper.at, false));
                continue;
            };
            let share = Share {
                addr,
                parts: helper.parts,
            };
            let is_wanted = swarm.shares.wanted.contains(&share) && swarm.parent != Some(helper.at);
            let is_late = match helper.is_relied_on {
                true => helper
                    .owes_since
                    .is_some_and(|at| now - at > OWED_SPAN + helper.lag),
                false => now - subscription.since > FIRST_MEDIA_SPAN,
            };
            if is_late || !is_wanted {
                gone.push((helper.at, is_late));
            }
        }
        for (at, is_late) in gone {
            self.dismiss(now, index, at, is_late);
        }
    }

    /// Tells a helper to stop. Its part is the main parent's from now on.
    fn dismiss(&mut self, now: Instant, index: usize, at: usize, is_late: bool) {
        if self
            .swarms
            .get(index)
            .is_some_and(|swarm| swarm.parent != Some(at))
        {
            self.unsubscribe(now, at);
            if let Some(channel) = self.channels.get_mut(at) {
                channel.subscription = None;
                let addr = channel.addr;
                if is_late && let Some(swarm) = self.swarms.get_mut(index) {
                    swarm.candidates.on_refused(now, addr, RETRY);
                }
            }
        }
        self.lose_helper(now, index, at);
    }

    /// Somebody pushes to us no more: the part of a helper is the main parent's again.
    pub(super) fn lose_helper(&mut self, now: Instant, index: usize, at: usize) {
        if let Some(swarm) = self.swarms.get_mut(index) {
            swarm.shares.forget(at);
            self.check_at(index, now);
        }
    }

    /// Whoever has delivered is relied on: the main parent pushes that part no more.
    fn rely_on_helpers(&mut self, now: Instant, index: usize) {
        let Some(parent) = self.settled_parent(index) else {
            return;
        };
        let Some(swarm) = self.swarms.get_mut(index) else {
            return;
        };
        let before = swarm.shares.relied_on();
        for helper in &mut swarm.shares.helpers {
            let subscription = self.channels.get(helper.at).and_then(|it| it.subscription);
            let has_delivered = subscription.is_some_and(|it| it.last_media.is_some());
            if has_delivered && !helper.is_relied_on {
                helper.is_relied_on = true;
                helper.owes_since = None;
            }
        }
        if swarm.shares.relied_on() != before {
            let parts = swarm.main_parts();
            self.narrow(now, parent, parts);
        }
    }

    /// Tells a parent to push these substreams alone.
    fn narrow(&mut self, now: Instant, at: usize, parts: Parts) {
        let Some(channel) = self.channels.get_mut(at) else {
            return;
        };
        let index = channel.swarm;
        if let Some(subscription) = &mut channel.subscription {
            subscription.parts = parts;
            subscription.is_overdone = false;
        }
        let all = self
            .swarms
            .get(index)
            .map_or(Parts::ALL, super::swarm::Swarm::all_parts);
        self.unsubscribe_from(now, at, all.minus(parts));
    }

    /// Sees to it that every parent was asked for what it is to push, and is told again to leave the rest where that was
    /// lost.
    fn keep_parts(&mut self, now: Instant, index: usize) {
        let main = self.swarms.get(index).and_then(|swarm| swarm.parent);
        for (at, parts) in self.parents_of(index) {
            let subscription = self.channels.get(at).and_then(|it| it.subscription);
            let Some(subscription) = subscription.filter(|it| it.accepted) else {
                continue;
            };
            if main == Some(at) && !parts.minus(subscription.parts).is_empty() {
                self.subscribe(now, at);
            } else if subscription.is_overdone {
                self.narrow(now, at, parts);
            }
        }
    }

    /// Calls those that are to push a part, and subscribes with those that answered.
    fn ask_helpers(&mut self, now: Instant, index: usize) {
        let Some(parent) = self.settled_parent(index) else {
            return;
        };
        let Some(swarm) = self.swarms.get(index) else {
            return;
        };
        let Some(layout) = swarm.layout.filter(|it| it.substreams() > 1) else {
            return;
        };
        let main = self.channels.get(parent).map(|channel| channel.addr);
        for share in swarm.shares.wanted.clone() {
            let parts = share.parts.common(layout.all());
            let Some(swarm) = self.swarms.get(index) else {
                return;
            };
            // Something is left for the main parent, who proves that the rest is missing.
            let is_all = layout
                .all()
                .minus(parts)
                .minus(swarm.shares.relied_on())
                .is_empty();
            let is_refused = swarm.candidates.is_refused(now, share.addr);
            if parts != share.parts || parts.is_empty() || is_all || is_refused {
                continue;
            }
            let called = self.calls(index).into_iter().find(|at| {
                let channel = self.channels.get(*at);
                channel.is_some_and(|channel| channel.addr == share.addr)
            });
            match called {
                _ if main == Some(share.addr) => {}
                Some(at) if swarm.shares.has(at) || swarm.successor == Some(at) => {}
                Some(at) => self.ask_helper(now, index, at, parts),
                None => {
                    let candidate = swarm.candidates.get(share.addr);
                    if candidate.is_some_and(|known| known.not_before <= now) {
                        self.dial(now, index, share.addr);
                    }
                }
            }
        }
    }

    fn ask_helper(&mut self, now: Instant, index: usize, at: usize, parts: Parts) {
        let Some(channel) = self.channels.get(at) else {
            return;
        };
        let status = channel.status.as_ref();
        let is_loop = status.is_some_and(|status| status.leads_through(self.peer_id, parts));
        if !channel.is_open() || !self.speaks_extensions(channel) {
            return;
        }
        let addr = channel.addr;
        let Some(swarm) = self.swarms.get_mut(index) else {
            return;
        };
        if is_loop {
            return swarm.candidates.on_refused(now, addr, RETRY);
        }
        if swarm.shares.helpers.len() >= HELPERS_MAX {
            return;
        }
        swarm.shares.helpers.push(Helper {
            at,
            parts,
            is_relied_on: false,
            lag: Duration::ZERO,
            owes_since: None,
        });
        self.subscribe_parts(now, at, parts);
    }

    /// A granted subscription: whether all is granted that was asked for, or it has to be left.
    pub(super) fn is_granted(&self, at: usize, granted: Parts) -> bool {
        let Some(channel) = self.channels.get(at) else {
            return false;
        };
        let asked = channel.subscription.map_or(Parts::NONE, |it| it.parts);
        let layout = self
            .swarms
            .get(channel.swarm)
            .and_then(|swarm| swarm.layout);
        layout.is_none_or(|layout| asked.common(layout.all()).minus(granted).is_empty())
    }

    /// A parent grants a part of what it was asked for: the rest comes to it from us.
    pub(super) fn refuse_partly(&mut self, now: Instant, at: usize) {
        self.unsubscribe(now, at);
        self.give_up_subscription(now, at, SubscribeReply::LOOP, RETRY);
    }

    /// A loop showed itself in a part of the stream.
    pub(super) fn leave_loop(&mut self, now: Instant, index: usize, at: usize) {
        let Some(addr) = self.channels.get(at).map(|channel| channel.addr) else {
            return;
        };
        let Some(swarm) = self.swarms.get_mut(index) else {
            return;
        };
        if swarm.shares.has(at) {
            swarm.candidates.on_refused(now, addr, RETRY);
            return self.dismiss(now, index, at, false);
        }
        swarm.candidates.on_below_us(now, addr, RETRY);
        self.drop_parent(now, at, Loss::Loop);
    }
}
