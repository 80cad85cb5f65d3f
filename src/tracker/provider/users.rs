//! Every user, and the ways to find one: by identifier, peer, account and content, best server first.
//!
//! A user is changed through [`Users::edit`] alone, so that no way leads to what it was before. None of them walks all
//! users: a request costs the same with a hundred and with a hundred thousand.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::status::{Kind, Status};
use super::user::User;
use crate::time::Instant;

/// Who serves better comes first: those that serve only clients before those that serve peers as well, then nearest to
/// the source, then most room, then whoever came first.
type Merit = (Status, u64, Reverse<u16>, usize, Arc<str>);

/// Users of one content.
#[derive(Debug, Default)]
struct Content {
    users: BTreeSet<Arc<str>>,
    /// Who is here, serves users of a kind and has room, as far as is known.
    open_to_clients: BTreeSet<Merit>,
    open_to_peers: BTreeSet<Merit>,
}

/// Where a user stands in the indexes.
#[derive(PartialEq)]
struct Place {
    peer: Option<Arc<str>>,
    status: Status,
    merit: Option<Merit>,
    /// A free user without a peer, by when he was heard of.
    left: Option<Instant>,
    is_guaranteed: bool,
    is_outside: bool,
}

impl Place {
    fn of(user: &User) -> Self {
        let kind = user.status.kind();
        // Enough free upload for the stream, as far as both are known.
        let rate = user.kbps.map_or(0.0, |kbps| kbps as f64 / 1000.0);
        let is_open = user.is_here()
            && !user.is_doubted
            && (user.status.admits(Kind::Client) || user.status.admits(Kind::Peer))
            && user.slots_free != Some(0)
            && user.free_mbps().is_none_or(|free| free >= rate);
        let is_guaranteed = user.packet.is_some() && user.is_here();
        Self {
            peer: user.peer.clone(),
            status: user.status,
            merit: is_open.then(|| merit(user)),
            left: (kind == Kind::Peer && !user.is_here()).then_some(user.heard),
            is_guaranteed,
            is_outside: is_guaranteed && user.is_outside,
        }
    }
}

fn merit(user: &User) -> Merit {
    let latency = user.qos.lat_ms;
    (
        user.status,
        latency.map_or(u64::MAX, |lat| (lat * 1000.0) as u64),
        Reverse(user.slots_free.unwrap_or(0)),
        user.id.len(),
        Arc::clone(&user.id),
    )
}

/// Every user.
#[derive(Debug, Default)]
pub(super) struct Users {
    table: BTreeMap<Arc<str>, User>,
    ways: Ways,
}

#[derive(Debug, Default)]
struct Ways {
    by_peer: BTreeMap<Arc<str>, Arc<str>>,
    /// Who an account is on a content.
    by_account: BTreeMap<(Arc<str>, Arc<str>), Arc<str>>,
    contents: BTreeMap<Arc<str>, Content>,
    left: BTreeSet<(Instant, Arc<str>)>,
    guaranteed: usize,
    outside: usize,
}

impl Users {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// One by the identifier that the provider gave him.
    pub(super) fn get(&self, id: &str) -> Option<&User> {
        self.table.get(id)
    }

    /// Who a peer is.
    pub(super) fn of_peer(&self, peer: &str) -> Option<&User> {
        self.table.get(self.ways.by_peer.get(peer)?)
    }

    /// Who an account is on a content.
    pub(super) fn of_account(&self, account: &str, content: &str) -> Option<&User> {
        let who = (Arc::from(account), Arc::from(content));
        self.table.get(self.ways.by_account.get(&who)?)
    }

    /// Users of a content, by identifier.
    pub(super) fn of_content(&self, content: &str) -> impl Iterator<Item = &User> {
        let content = self.ways.contents.get(content);
        let ids = content.into_iter().flat_map(|content| &content.users);
        ids.filter_map(|id| self.table.get(id))
    }

    /// Users of a content that are here, serve users of a kind and have room, as far as is known; best first.
    pub(super) fn open_to(&self, kind: Kind, content: &str) -> impl Iterator<Item = &User> {
        let content = self.ways.contents.get(content);
        let ranked = content.into_iter().flat_map(move |content| match kind {
            Kind::Client => &content.open_to_clients,
            Kind::Peer => &content.open_to_peers,
        });
        ranked.filter_map(|(.., id)| self.table.get(id))
    }

    /// The name of a content as the others of it have it, so that it is kept once.
    pub(super) fn content_name(&self, content: &str) -> Arc<str> {
        let known = self.ways.contents.get_key_value(content);
        known.map_or_else(|| content.into(), |(name, _)| Arc::clone(name))
    }

    /// A free user who is away since `span` or longer.
    pub(super) fn away(&self, now: Instant, span: Duration) -> Option<Arc<str>> {
        let (since, id) = self.ways.left.first()?;
        (now - *since >= span).then(|| Arc::clone(id))
    }

    /// Those who are here and bought a packet, and how many of them get less.
    pub(super) const fn guaranteed(&self) -> (usize, usize) {
        (self.ways.guaranteed, self.ways.outside)
    }

    /// Somebody new. From now on his account means him.
    pub(super) fn insert(&mut self, user: User) {
        self.remove(&user.id);
        let who = (Arc::clone(&user.account), Arc::clone(&user.content));
        self.ways.by_account.insert(who, Arc::clone(&user.id));
        let content = Arc::clone(&user.content);
        let content = self.ways.contents.entry(content).or_default();
        content.users.insert(Arc::clone(&user.id));
        self.ways
            .list(&user.id, &user.content, Place::of(&user), true);
        self.table.insert(Arc::clone(&user.id), user);
    }

    /// Somebody is gone for good.
    pub(super) fn remove(&mut self, id: &str) -> Option<User> {
        let user = self.table.remove(id)?;
        self.ways
            .list(&user.id, &user.content, Place::of(&user), false);
        let who = (Arc::clone(&user.account), Arc::clone(&user.content));
        if self.ways.by_account.get(&who) == Some(&user.id) {
            self.ways.by_account.remove(&who);
        }
        if let Some(content) = self.ways.contents.get_mut(&user.content) {
            content.users.remove(&user.id);
            if content.users.is_empty() {
                self.ways.contents.remove(&user.content);
            }
        }
        Some(user)
    }

    /// Changes a user: all but his identifier, account and content.
    pub(super) fn edit<T>(&mut self, id: &str, change: impl FnOnce(&mut User) -> T) -> Option<T> {
        let user = self.table.get_mut(id)?;
        let before = Place::of(user);
        let outcome = change(user);
        let after = Place::of(user);
        if before != after {
            self.ways.list(&user.id, &user.content, before, false);
            self.ways.list(&user.id, &user.content, after, true);
        }
        Some(outcome)
    }
}

impl Ways {
    /// Puts somebody where he belongs, or takes him out of there.
    fn list(&mut self, id: &Arc<str>, content: &str, place: Place, is_in: bool) {
        if let Some(peer) = place.peer {
            if is_in {
                self.by_peer.insert(peer, Arc::clone(id));
            } else if self.by_peer.get(&peer) == Some(id) {
                self.by_peer.remove(&peer);
            }
        }
        if let Some(since) = place.left {
            let entry = (since, Arc::clone(id));
            match is_in {
                true => self.left.insert(entry),
                false => self.left.remove(&entry),
            };
        }
        let count = |total: &mut usize, counts: bool| match is_in {
            true => *total += usize::from(counts),
            false => *total -= usize::from(counts),
        };
        count(&mut self.guaranteed, place.is_guaranteed);
        count(&mut self.outside, place.is_outside);
        let (Some(merit), Some(content)) = (place.merit, self.contents.get_mut(content)) else {
            return;
        };
        for (kind, open) in [
            (Kind::Client, &mut content.open_to_clients),
            (Kind::Peer, &mut content.open_to_peers),
        ] {
            if !place.status.admits(kind) {
                continue;
            }
            match is_in {
                true => open.insert(merit.clone()),
                false => open.remove(&merit),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Rng, Seed};

    fn user(no: u64) -> User {
        let row = r#"{"account":"a","content":"film","status":"c","seller":"provider","since":1}"#;
        let mut user = User::from_json(&format!("C{no}"), row, Instant::ZERO).expect("a user");
        user.account = format!("a{no}").into();
        user
    }

    /// What [`Users::open_to`] must give, found by looking at everybody.
    fn looked_for(users: &Users, kind: Kind) -> Vec<Arc<str>> {
        let fits = |user: &&User| {
            let rate = user.kbps.unwrap_or(0) as f64 / 1000.0;
            user.is_here()
                && user.status.admits(kind)
                && !user.is_doubted
                && user.slots_free != Some(0)
                && user.free_mbps().is_none_or(|free| free >= rate)
        };
        let mut found: Vec<&User> = users.table.values().filter(fits).collect();
        found.sort_by_key(|user| merit(user));
        found.into_iter().map(|user| Arc::clone(&user.id)).collect()
    }

    #[test]
    fn the_ways_lead_to_what_is_there() {
        let mut rng = Rng::new(Seed::from_number(7));
        let mut users = Users::default();
        for step in 0..4000 {
            let no = rng.below(40);
            let id = format!("C{no}");
            match rng.below(20) {
                0..3 => users.insert(user(no)),
                3 => drop(users.remove(&id)),
                _ => {
                    let (status, peer) = (rng.below(6) as usize, rng.below(3));
                    let (slots, latency, kbps) = (rng.below(3), rng.below(4), rng.below(3));
                    let (is_doubted, is_outside) = (rng.below(5) == 0, rng.below(2) == 0);
                    let has_packet = rng.below(2) == 0;
                    users.edit(&id, |user| {
                        user.status = Status::ALL[status];
                        user.peer = (peer > 0).then(|| format!("{no}-{peer}").into());
                        user.slots_free = Some(slots as u16);
                        user.qos.lat_ms = Some(latency as f64);
                        user.qos.bw_mbps = Some(1.0);
                        user.kbps = Some(kbps * 700);
                        user.is_doubted = is_doubted;
                        user.is_outside = is_outside;
                        user.packet = has_packet.then(|| "gold".to_owned());
                        user.heard = Instant::from_micros(step);
                    });
                }
            }
            for kind in [Kind::Client, Kind::Peer] {
                let found: Vec<_> = users.open_to(kind, "film").map(|user| &user.id).collect();
                let wanted = looked_for(&users, kind);
                assert_eq!(found, wanted.iter().collect::<Vec<_>>(), "step {step}");
            }
            let here: Vec<&User> = users.table.values().filter(|user| user.is_here()).collect();
            assert_eq!(users.ways.by_peer.len(), here.len());
            for user in here {
                let peer = user.peer.as_deref().unwrap_or_default();
                assert_eq!(users.of_peer(peer).map(|found| &found.id), Some(&user.id));
            }
            let guaranteed = |user: &&User| user.is_here() && user.packet.is_some();
            let guaranteed = users.table.values().filter(guaranteed);
            let outside = guaranteed.clone().filter(|user| user.is_outside).count();
            assert_eq!(users.guaranteed(), (guaranteed.count(), outside));
            let left = |user: &&User| !user.is_here() && user.status.kind() == Kind::Peer;
            assert_eq!(
                users.ways.left.len(),
                users.table.values().filter(left).count()
            );
            assert_eq!(users.of_content("film").count(), users.len());
            assert_eq!(users.ways.by_account.len(), users.len());
        }
        let ids: Vec<Arc<str>> = users.table.keys().cloned().collect();
        for id in ids {
            users.remove(&id);
        }
        let ways = &users.ways;
        assert!(ways.by_peer.is_empty() && ways.by_account.is_empty() && ways.left.is_empty());
        assert!(ways.contents.is_empty() && users.guaranteed() == (0, 0));
    }
}
