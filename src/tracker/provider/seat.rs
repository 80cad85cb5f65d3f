//! Whom a peer may ask for the stream, and whom a client gets when his seller is gone.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use super::Provider;
use super::contract::{Entry, Reason, State};
use super::status::{Kind, Status};
use super::tariff::Interval;
use super::user::{PROVIDER, Seller, User, natural};
use crate::time::Instant;

/// How long a seller may take to deliver before somebody else is asked.
const PATIENCE: Duration = Duration::from_secs(2);

/// Users named to one asker.
const NAMED_MAX: usize = 64;

/// Whom somebody may ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// The provider's servers, and its sources.
    pub servers: bool,
    /// Peers of users.
    pub peers: Vec<Arc<str>>,
}

/// What the servers of a channel have left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Room for one more.
    Free,
    /// None.
    Full,
    /// There are no servers: the stream is away, and nobody is to blame for not having it.
    NoServer,
}

impl Provider {
    /// Whom a peer may ask for the stream now. A client whose seller is lost gets another one here.
    pub fn allowed(&mut self, now: Instant, peer: &str, room: Room) -> Allowed {
        let Some(user) = self.user_of(peer) else {
            // A server: it hangs below servers.
            return Allowed {
                servers: true,
                peers: Vec::new(),
            };
        };
        let id = Arc::clone(&user.id);
        if user.status.kind() == Kind::Client
            && room != Room::NoServer
            && self.has_lost_seller(now, &id)
        {
            self.redirect(now, &id, room == Room::Free);
        }
        let Some(user) = self.users.get(&id) else {
            return Allowed::default();
        };
        match (&user.seller, user.status.kind()) {
            (Seller::Provider, _) => Allowed {
                servers: true,
                peers: Vec::new(),
            },
            (Seller::User(seller), Kind::Client) => Allowed {
                servers: false,
                peers: self
                    .users
                    .get(seller)
                    .and_then(|s| s.peer.clone())
                    .into_iter()
                    .collect(),
            },
            (Seller::User(_), Kind::Peer) => Allowed {
                servers: self.tariff.peers_at_servers,
                peers: self.serving_peers(user),
            },
        }
    }

    /// The peers of users below which a free peer may hang: the one it came to first.
    fn serving_peers(&self, user: &User) -> Vec<Arc<str>> {
        let mut found: Vec<&User> = self
            .users
            .values()
            .filter(|other| other.content == user.content && other.id != user.id)
            .filter(|other| other.status.serves_peers())
            .collect();
        found.sort_by_cached_key(|other| (user.seller.name() != &*other.id, merit(other)));
        let peers = found.into_iter().filter_map(|other| other.peer.clone());
        peers.take(NAMED_MAX).collect()
    }

    /// Whether a client's seller cannot deliver: it is gone, serves no clients any more, or does not.
    fn has_lost_seller(&self, now: Instant, id: &str) -> bool {
        let Some(user) = self.users.get(id) else {
            return false;
        };
        let Seller::User(seller) = &user.seller else {
            return false;
        };
        let serves = self.users.get(seller).is_some_and(|seller| {
            seller.is_here() && seller.content == user.content && seller.status.serves_clients()
        });
        let is_waiting = user.parentless.is_some_and(|since| {
            // Who had the stream and has it no more lost his parent; who never had it waits for a while.
            user.has_streamed || now - since >= PATIENCE
        });
        !serves || is_waiting
    }

    /// Gives a client another seller of the same price range; else a server; else it is a free peer, and gets the rest
    /// of its fee back.
    fn redirect(&mut self, now: Instant, id: &Arc<str>, has_room: bool) {
        let Some(user) = self.users.get(id) else {
            return;
        };
        let Seller::User(lost) = user.seller.clone() else {
            return;
        };
        let of_lost = self.users.get(&lost).and_then(|lost| lost.qos.bw_mbps);
        let interval = match &user.interval {
            Some(name) => self.tariff.interval(name),
            None => of_lost.and_then(|bw| self.tariff.interval_of(bw)),
        };
        let found = self.pick(Kind::Client, &user.content, interval, &[&*lost, &**id]);
        let seller = match found {
            Some(found) => Some(Seller::User(found)),
            None if has_room => Some(Seller::Provider),
            None => None,
        };
        let contract = user.contract;
        // It may be dead, and not missed yet: nobody else is sent there before it reports again.
        if let Some(lost) = self.users.get_mut(&lost) {
            lost.is_doubted = true;
        }
        let Some(user) = self.users.get_mut(id) else {
            return;
        };
        user.has_streamed = false;
        user.parentless = Some(now);
        match seller {
            Some(seller) => {
                user.seller = seller.clone();
                if let Some(no) = contract
                    && let Some(contract) = self.contracts.get_mut(&no)
                {
                    contract.seller = seller;
                    self.save_contract(no);
                }
            }
            None => {
                user.status = Status::P;
                if let Some(no) = contract {
                    self.credit(now, no);
                }
            }
        }
        self.save_user(id);
    }

    /// Ends a contract early and gives back the rest of the fee.
    pub(super) fn credit(&mut self, now: Instant, no: u64) {
        let at = self.epoch.unix_micros(now);
        let Some(contract) = self.contracts.get_mut(&no) else {
            return;
        };
        if contract.state != State::Active {
            return;
        }
        contract.state = State::Credited;
        if let Some(until) = contract.until {
            self.renewals.remove(&(until, no));
        }
        let entry = Entry {
            at,
            contract: no,
            from: PROVIDER.to_owned(),
            to: contract.account.clone(),
            amount: contract.rest(at),
            reason: Reason::Credit,
            reference: None,
        };
        self.save_contract(no);
        self.book(entry);
    }

    /// The user of a content that serves users of a kind best: those that serve only clients before those that serve
    /// peers as well, with room, nearest to the source; none of `not`.
    pub(super) fn pick(
        &self,
        kind: Kind,
        content: &str,
        interval: Option<&Interval>,
        not: &[&str],
    ) -> Option<Arc<str>> {
        self.users
            .values()
            .filter(|user| *user.content == *content && user.is_here())
            .filter(|user| user.status.admits(kind) && user.slots_free != Some(0))
            .filter(|user| !user.is_doubted)
            .filter(|user| !not.contains(&&*user.id))
            .filter(|user| {
                interval.is_none_or(|range| user.qos.bw_mbps.is_some_and(|bw| range.contains(bw)))
            })
            .filter(|user| {
                // Enough free upload for the stream, as far as both are known.
                let rate = user.kbps.map_or(0.0, |kbps| kbps as f64 / 1000.0);
                user.free_mbps().is_none_or(|free| free >= rate)
            })
            .min_by_key(|user| merit(user))
            .map(|user| Arc::clone(&user.id))
    }
}

/// The better, the smaller.
fn merit(user: &User) -> (Status, u64, Reverse<u16>, (String, Vec<u64>)) {
    (
        user.status,
        user.qos
            .lat_ms
            .map_or(u64::MAX, |lat| (lat * 1000.0) as u64),
        Reverse(user.slots_free.unwrap_or(0)),
        natural(&user.id),
    )
}
