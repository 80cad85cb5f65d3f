//! Whom a peer may ask for the stream, and whom a client gets when his seller is gone.

use std::sync::Arc;
use std::time::Duration;

use super::Provider;
use super::contract::{Entry, Reason, State};
use super::status::Kind;
use super::tariff::Interval;
use super::user::{PROVIDER, Seller, User};
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
        let first = self.users.get(user.seller.name());
        let first =
            first.filter(|first| first.content == user.content && first.status.serves_peers());
        let others = self.users.open_to(Kind::Peer, &user.content);
        let others = others.filter(|other| other.id != user.id && user.seller.name() != &*other.id);
        let peers = first.into_iter().chain(others);
        peers
            .filter_map(|other| other.peer.clone())
            .take(NAMED_MAX)
            .collect()
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
        self.users.edit(&lost, |lost| lost.is_doubted = true);
        self.users.edit(id, |user| {
            user.has_streamed = false;
            user.parentless = Some(now);
            if let Some(seller) = &seller {
                user.seller = seller.clone();
            }
        });
        match (seller, contract) {
            (Some(seller), Some(no)) => {
                self.books.edit(no, |contract| contract.seller = seller);
                self.save_contract(no);
                self.save_user(id);
            }
            (Some(_), None) => self.save_user(id),
            (None, contract) => {
                if let Some(no) = contract {
                    self.credit(now, no);
                }
                self.set_free(id);
            }
        }
    }

    /// Ends a contract early and gives back the rest of the fee.
    pub(super) fn credit(&mut self, now: Instant, no: u64) {
        let at = self.epoch.unix_micros(now);
        let running = self.books.contract(no);
        if running.is_none_or(|contract| contract.state != State::Active) {
            return;
        }
        let Some(contract) = self
            .books
            .edit(no, |contract| contract.state = State::Credited)
        else {
            return;
        };
        let entry = Entry {
            at,
            contract: no,
            from: PROVIDER.to_owned(),
            to: contract.account.to_string(),
            amount: contract.rest(at),
            reason: Reason::Credit,
            reference: None,
        };
        self.save_contract(no);
        self.book(entry);
    }

    /// The user of a content that serves users of a kind best and has room; none of `not`.
    pub(super) fn pick(
        &self,
        kind: Kind,
        content: &str,
        interval: Option<&Interval>,
        not: &[&str],
    ) -> Option<Arc<str>> {
        let fits = |user: &&User| {
            !not.contains(&&*user.id)
                && interval
                    .is_none_or(|range| user.qos.bw_mbps.is_some_and(|bw| range.contains(bw)))
        };
        let found = self.users.open_to(kind, content).find(fits)?;
        Some(Arc::clone(&found.id))
    }
}
