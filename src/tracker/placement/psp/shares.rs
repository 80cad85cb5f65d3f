//! One stream in parts: how much of it a rate carries, which parts come from whom, and through whom.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{PeerNo, Psp, Session, Swarm};
use crate::time::Instant;
use crate::tracker::placement::{Choice, Member};

/// Most members looked at on the way up from one; longer than any tree.
const TRACED_MAX: usize = 256;

/// Highest rate of a stream, in kbit/s: sums of what strangers claim stay numbers.
const RATE_MAX_KBPS: u64 = 1_000_000_000;

/// A stream as it can be shared out: by substreams, which are of equal rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stream {
    /// In kbit/s, at least 1.
    pub(super) rate: u64,
    /// Substreams, at least 1.
    pub(super) parts: u64,
}

impl Stream {
    pub(super) fn new(rate: u64, parts: Option<u8>) -> Self {
        Self {
            rate: rate.clamp(1, RATE_MAX_KBPS),
            parts: u64::from(parts.unwrap_or(1).max(1)),
        }
    }

    /// The mask of all of it.
    pub(super) fn whole(self) -> u32 {
        (1 << self.parts) - 1
    }

    /// How many substreams of it a mask has.
    pub(super) fn count(self, mask: u32) -> u64 {
        u64::from((mask & self.whole()).count_ones())
    }

    /// The rate of so many substreams; the last takes what does not divide.
    pub(super) const fn rate_of(self, parts: u64) -> u64 {
        (self.rate * parts).div_ceil(self.parts)
    }

    /// The rate of a mask.
    pub(super) fn kbps(self, mask: u32) -> u64 {
        self.rate_of(self.count(mask))
    }

    /// The first substreams of a mask, as many as a rate carries.
    pub(super) fn within(self, mask: u32, kbps: u64) -> u32 {
        let most = kbps.saturating_mul(self.parts) / self.rate;
        let (mut rest, mut taken) = (mask & self.whole(), 0);
        for _ in 0..most.min(self.parts) {
            let lowest = rest & rest.wrapping_neg();
            taken |= lowest;
            rest ^= lowest;
        }
        taken
    }
}

/// What a viewer gets, and from whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) from: PeerNo,
    /// Which substreams; those of the shares of one viewer are all different.
    pub(super) mask: u32,
    pub(super) kbps: u64,
    pub(super) is_server: bool,
}

/// Everything that shares give together.
pub(super) fn given(shares: &[Share]) -> u32 {
    shares.iter().fold(0, |mask, share| mask | share.mask)
}

/// Shares one of each giver, supporters first.
pub(super) fn joined(stream: Stream, shares: impl IntoIterator<Item = Share>) -> Vec<Share> {
    let mut joined: Vec<Share> = Vec::new();
    for share in shares {
        match joined.iter_mut().find(|known| known.from == share.from) {
            Some(known) => {
                known.mask |= share.mask;
                known.kbps = stream.kbps(known.mask);
            }
            None => joined.push(share),
        }
    }
    joined.sort_by_key(|share| share.is_server);
    joined
}

/// Whom a member says it gets the stream from: which substreams, all bits for whoever has one parent.
#[derive(Debug)]
pub(super) struct Feeds {
    /// Since when it has been saying that.
    pub(super) since: Instant,
    pub(super) from: Vec<(Arc<str>, u32)>,
}

impl Feeds {
    fn of(now: Instant, member: &Member) -> Self {
        let several = member.parents.iter().cloned();
        let one = member
            .parent
            .iter()
            .map(|parent| (Arc::clone(parent), u32::MAX));
        Self {
            since: now,
            from: match member.parents.is_empty() {
                true => one.collect(),
                false => several.collect(),
            },
        }
    }

    /// What comes from one parent.
    pub(super) fn mask_from(&self, id: &Arc<str>) -> u32 {
        let from = self.from.iter().filter(|(parent, _)| parent == id);
        from.fold(0, |mask, (_, part)| mask | part)
    }
}

impl Session {
    /// Who should push hashes to it: whoever gives most, supporters before servers.
    pub(super) fn parent(&self) -> Option<Share> {
        self.shares
            .iter()
            .copied()
            .reduce(|best, share| if share.kbps > best.kbps { share } else { best })
    }
}

impl Swarm {
    /// Remembers under whom a member says it is.
    pub(super) fn hang(&mut self, now: Instant, member: &Member) {
        let mut feeds = Feeds::of(now, member);
        if let Some(before) = self.feeds.get(&member.no)
            && before.from == feeds.from
        {
            feeds.since = before.since;
        }
        self.unhang(member.no);
        for (parent, mask) in &feeds.from {
            let below = self.below.entry(Arc::clone(parent)).or_default();
            *below.entry(member.no).or_default() |= mask;
        }
        self.feeds.insert(member.no, feeds);
        self.by_id.insert(Arc::clone(&member.id), member.no);
    }

    pub(super) fn unhang(&mut self, no: PeerNo) {
        let Some(feeds) = self.feeds.remove(&no) else {
            return;
        };
        for (parent, _) in feeds.from {
            if let Some(children) = self.below.get_mut(&parent) {
                children.remove(&no);
                if children.is_empty() {
                    self.below.remove(&parent);
                }
            }
        }
    }

    /// The substreams of `mask` that a member has got through `above`: as reports tell, and as it was decided and is not
    /// reported yet.
    pub(super) fn through(&self, no: PeerNo, above: PeerNo, mask: u32) -> u32 {
        let mut looped = 0;
        let mut seen: BTreeMap<PeerNo, u32> = BTreeMap::new();
        let mut open = vec![(no, mask)];
        let mut traced = 0;
        while let Some((at, mask)) = open.pop() {
            if at == above {
                looped |= mask;
                continue;
            }
            let known = seen.entry(at).or_default();
            let mask = mask & !*known;
            if mask == 0 {
                continue;
            }
            *known |= mask;
            traced += 1;
            if traced > TRACED_MAX {
                return u32::MAX;
            }
            let feeds = self.feeds.get(&at);
            for (parent, part) in feeds.into_iter().flat_map(|feeds| &feeds.from) {
                if let Some(parent) = self.by_id.get(parent) {
                    open.push((*parent, mask & part));
                }
            }
            let session = self
                .viewers
                .get(&at)
                .and_then(|viewer| viewer.session.as_ref());
            for share in session.into_iter().flat_map(|session| &session.shares) {
                open.push((share.from, mask & share.mask));
            }
        }
        looped
    }

    /// Whether a viewer is to be told masks: it has several parents, or is to have them, and what they are given is the
    /// whole stream.
    fn is_shared(&self, no: PeerNo, session: &Session, stream: Stream) -> bool {
        let feeds = self.feeds.get(&no).map_or(0, |feeds| feeds.from.len());
        self.parts.is_some()
            && (session.shares.len() > 1 || feeds > 1)
            && given(&session.shares) == stream.whole()
    }
}

impl Psp {
    /// The stream of a swarm, as it can be shared out.
    pub(super) fn stream(&self, swarm: &str) -> Stream {
        let entry = self.swarms.get(swarm);
        let rate = entry.and_then(|entry| entry.rate_kbps);
        Stream::new(
            rate.unwrap_or(self.settings.rate_kbps),
            entry.and_then(|entry| entry.parts),
        )
    }

    /// Who is told to a viewer: the parent it was given, other shares, then the servers of its cluster to stand in.
    pub(super) fn choices(&self, swarm: &str, no: PeerNo) -> Option<Vec<Choice>> {
        let entry = self.swarms.get(swarm)?;
        let session = entry.viewers.get(&no)?.session.as_ref()?;
        let is_shared = entry.is_shared(no, session, self.stream(swarm));
        let choice = |share: Share| Choice {
            no: share.from,
            mask: is_shared.then_some(share.mask),
        };
        let first = session.parent()?;
        let mut choices = vec![choice(first)];
        let others = session
            .shares
            .iter()
            .filter(|share| share.from != first.from);
        choices.extend(others.copied().map(choice));
        for server in self.servers_of(swarm, &session.cluster) {
            if choices.iter().all(|known| known.no != server) {
                choices.push(Choice::to(server));
            }
        }
        Some(choices)
    }

    /// Those who give a viewer less than it was given there, as it says; none of a session that is not complete.
    pub(super) fn unmet(&self, swarm: &str, no: PeerNo) -> BTreeSet<PeerNo> {
        let stream = self.stream(swarm);
        let Some(entry) = self.swarms.get(swarm) else {
            return BTreeSet::new();
        };
        let (Some(viewer), Some(feeds)) = (entry.viewers.get(&no), entry.feeds.get(&no)) else {
            return BTreeSet::new();
        };
        let shares = match &viewer.session {
            Some(session) if given(&session.shares) == stream.whole() => &session.shares[..],
            _ => &[],
        };
        let is_unmet =
            |share: &&Share| share.mask & !feeds.mask_from(&self.name(swarm, share.from)) != 0;
        shares
            .iter()
            .filter(is_unmet)
            .map(|share| share.from)
            .collect()
    }

    /// A channel is cut otherwise than before: who gets all from one goes on, the others are supplied anew.
    pub(super) fn cut(&mut self, now: Instant, swarm: &Arc<str>, parts: u8) {
        let Some(entry) = self.swarms.get_mut(swarm) else {
            return;
        };
        if entry.parts.replace(parts) == Some(parts) {
            return;
        }
        let whole = self.stream(swarm).whole();
        let mut anew: Vec<(PeerNo, BTreeSet<PeerNo>)> = Vec::new();
        let viewers = self.swarms.get_mut(swarm).map(|entry| &mut entry.viewers);
        for (no, viewer) in viewers.into_iter().flatten() {
            let Some(session) = &mut viewer.session else {
                continue;
            };
            match &mut session.shares[..] {
                [] => {}
                [share] => share.mask = whole,
                shares => anew.push((*no, shares.iter().map(|share| share.from).collect())),
            }
        }
        for (no, lost) in anew {
            self.supply_again(now, swarm, no, &lost);
        }
    }
}
