//! How somebody becomes a user: what he asks for, whether he may have it, what it costs, who he is from then on.

use std::sync::Arc;

use serde_json::{Value, json};

use super::contract::{Contract, State};
use super::error::{Code, Refused, refused};
use super::money::Money;
use super::status::{Kind, Status};
use super::tariff::{Interval, Qos, Unit};
use super::user::{PROVIDER, Seller, User, child_id};
use super::{Allowed, Provider, USERS_MAX};
use crate::time::Instant;

/// What a client buys: a line of one of the provider's two tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terms<'a> {
    /// A packet, by its name.
    Packet(&'a str),
    /// A bandwidth interval, by its name.
    Interval(&'a str),
}

/// What somebody asks for.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Who asks: the name he logged in with, or his peer identifier.
    pub account: &'a str,
    /// Channel name.
    pub content: &'a str,
    /// What he buys; who buys nothing and names no seller is a free peer.
    pub terms: Option<Terms<'a>>,
    /// Whom he wants to hang below: `provider`, or a user; none: whoever suits.
    pub seller: Option<&'a str>,
    /// Whether he pays although he names neither packet nor interval.
    pub pays: bool,
    /// What he believes to be the price.
    pub price: Option<Money>,
    /// What he believes the price to be for.
    pub unit: Option<Unit>,
    /// Whom he wants to serve; nobody at first, if he does not say.
    pub status: Option<Status>,
    /// His name for the request: the same again gets the same contract.
    pub request: &'a str,
    /// What is known of his quality.
    pub qos: Qos,
    /// Whether a server of the provider has room.
    pub has_room: bool,
}

/// A price of the provider's tables.
struct Offer {
    name: String,
    price: Money,
    unit: Unit,
}

impl Provider {
    /// Makes somebody a user, or finds the user that he is. Gives the identifier.
    ///
    /// # Errors
    ///
    /// [`Refused`]; with [`Code::PaymentPending`] the same has to be asked again when the payment is made.
    pub fn enrol(&mut self, now: Instant, ask: &Ask<'_>) -> Result<Arc<str>, Refused> {
        if let Some(known) = self.known(ask)? {
            self.save_again(&known);
            return Ok(known);
        }
        if ask.account == PROVIDER {
            return refused(Code::NotAllowed, "the provider is no account of yours");
        }
        if self.users.len() >= USERS_MAX {
            return refused(Code::Full, "the provider has too many users");
        }
        let kind = if ask.pays || ask.terms.is_some() {
            Kind::Client
        } else {
            Kind::Peer
        };
        let status = ask.status.unwrap_or(match kind {
            Kind::Client => Status::C,
            Kind::Peer => Status::P,
        });
        if status.kind() != kind {
            let text = format!("status {status} is not one of a {}", noun(kind));
            return refused(Code::NotAllowed, text);
        }
        self.may_have(status, &ask.qos)?;
        match kind {
            Kind::Peer => self.enrol_peer(now, ask, status),
            Kind::Client => self.enrol_client(now, ask, status),
        }
    }

    /// Whom somebody would be allowed to ask, and at which price, if he asked now.
    ///
    /// # Errors
    ///
    /// [`Refused`], as [`enrol`](Self::enrol) would.
    pub fn quote(&self, ask: &Ask<'_>) -> Result<(Allowed, Option<Value>), Refused> {
        let kind = match ask.pays || ask.terms.is_some() {
            true => Kind::Client,
            false => Kind::Peer,
        };
        let (seller, price) = match kind {
            Kind::Client => {
                let seller = self.seller_for_client(ask)?;
                let offer = self.offer(ask, &seller)?;
                let price = json!({
                    "terms": offer.name,
                    "price": offer.price.to_string(),
                    "unit": offer.unit.name(),
                    "currency": self.tariff.currency,
                    "seller": seller.name(),
                });
                (seller, Some(price))
            }
            Kind::Peer => (self.parent_for_peer(ask)?, None),
        };
        let allowed = match &seller {
            Seller::Provider => Allowed {
                servers: true,
                peers: Vec::new(),
            },
            Seller::User(id) => Allowed {
                servers: false,
                peers: self
                    .users
                    .get(id)
                    .and_then(|user| user.peer.clone())
                    .into_iter()
                    .collect(),
            },
        };
        Ok((allowed, price))
    }

    /// The user that somebody is already.
    fn known(&self, ask: &Ask<'_>) -> Result<Option<Arc<str>>, Refused> {
        if let Some(contract) = self.books.of_request(ask.account, ask.content, ask.request)
            && self.users.get(&contract.user).is_some()
        {
            return Ok(Some(Arc::clone(&contract.user)));
        }
        let Some(user) = self.users.of_account(ask.account, ask.content) else {
            return Ok(None);
        };
        let wants_more = match ask.terms {
            Some(Terms::Packet(name)) => user.packet.as_deref() != Some(name),
            Some(Terms::Interval(name)) => user.interval.as_deref() != Some(name),
            None => ask.pays && user.contract.is_none(),
        };
        match (wants_more, user.contract) {
            (false, _) => Ok(Some(Arc::clone(&user.id))),
            // A free peer that begins to pay is somebody else from then on.
            (true, None) => Ok(None),
            (true, Some(_)) => refused(
                Code::AlreadyContracted,
                format!("{} is contracted as {} already", ask.account, user.id),
            ),
        }
    }

    /// Whether somebody of that quality may have a status.
    pub(super) fn may_have(&self, status: Status, qos: &Qos) -> Result<(), Refused> {
        let floor = &self.tariff.charge_floor;
        if !status.serves_clients() || !floor.are_missed(qos) {
            return Ok(());
        }
        refused(
            Code::NotAllowed,
            format!(
                "status {status} needs {} Mbit/s, {} ms, jitter {}: quality is too low to charge for, {} is possible",
                floor.bw_mbps,
                floor.lat_ms,
                floor.jit_ms,
                Status::CP
            ),
        )
    }

    fn enrol_peer(
        &mut self,
        now: Instant,
        ask: &Ask<'_>,
        status: Status,
    ) -> Result<Arc<str>, Refused> {
        let seller = self.parent_for_peer(ask)?;
        Ok(self.add_user(now, ask, status, seller, None, None))
    }

    /// Whom a free peer hangs below.
    fn parent_for_peer(&self, ask: &Ask<'_>) -> Result<Seller, Refused> {
        match ask.seller {
            Some(PROVIDER) => self.servers_for_peers(ask),
            Some(id) => self.serving_user(ask, id, Kind::Peer),
            None => match self.pick(Kind::Peer, ask.content, None, &[]) {
                Some(id) => Ok(Seller::User(id)),
                None => self.servers_for_peers(ask),
            },
        }
    }

    fn servers_for_peers(&self, ask: &Ask<'_>) -> Result<Seller, Refused> {
        match self.tariff.peers_at_servers {
            true if ask.has_room => Ok(Seller::Provider),
            true => refused(Code::Full, "no server has room"),
            false => refused(
                Code::Full,
                "no user serves peers now, and the provider's servers are for clients: come back, or buy a packet",
            ),
        }
    }

    fn enrol_client(
        &mut self,
        now: Instant,
        ask: &Ask<'_>,
        status: Status,
    ) -> Result<Arc<str>, Refused> {
        let seller = self.seller_for_client(ask)?;
        let offer = self.offer(ask, &seller)?;
        if ask.price.is_some_and(|price| price != offer.price)
            || ask.unit.is_some_and(|unit| unit != offer.unit)
        {
            let text = format!(
                "{} costs {} {} per {}: prices are the provider's",
                offer.name,
                offer.price,
                self.tariff.currency,
                offer.unit.name()
            );
            return refused(Code::PriceDiffers, text);
        }
        let reference = self.payment_for(ask, &offer.name, offer.price, &seller)?;
        let no = self.books.next_contract();
        let id = self.add_user(
            now,
            ask,
            status,
            seller.clone(),
            Some(&offer.name),
            Some(no),
        );
        let start = self.epoch.unix_micros(now);
        let contract = Contract {
            no,
            request: ask.request.into(),
            account: ask.account.into(),
            content: self.users.content_name(ask.content),
            user: Arc::clone(&id),
            seller,
            terms: offer.name.into(),
            price: offer.price,
            unit: offer.unit,
            start,
            until: offer.unit.micros().map(|unit| start + unit),
            state: State::Active,
        };
        self.books.put(contract);
        self.save_contract(no);
        self.charge(now, no, reference);
        Ok(id)
    }

    /// Whom a client hangs below.
    fn seller_for_client(&self, ask: &Ask<'_>) -> Result<Seller, Refused> {
        match (ask.seller, ask.terms) {
            (Some(id), _) if id != PROVIDER => self.serving_user(ask, id, Kind::Client),
            // Whoever chooses by the price of an interval wants a user of it.
            (None, Some(Terms::Interval(name))) => {
                let interval = self.interval(name)?;
                match self.pick(Kind::Client, ask.content, Some(interval), &[]) {
                    Some(id) => Ok(Seller::User(id)),
                    None => refused(
                        Code::Full,
                        format!("no client of interval {name} serves clients and has room"),
                    ),
                }
            }
            _ if ask.has_room => Ok(Seller::Provider),
            _ => refused(Code::Full, "no server of the provider has room"),
        }
    }

    /// A user that somebody named, if it serves users of that kind.
    fn serving_user(&self, ask: &Ask<'_>, id: &str, kind: Kind) -> Result<Seller, Refused> {
        let user = self
            .users
            .get(id)
            .filter(|user| *user.content == *ask.content && user.is_here());
        let Some(user) = user else {
            let text = format!("no user {id:?} on {:?} now", ask.content);
            return refused(Code::NoSuchUser, text);
        };
        if !user.status.admits(kind) {
            return refused(
                Code::NotAllowed,
                format!(
                    "{id} has status {}: it serves no {}s",
                    user.status,
                    noun(kind)
                ),
            );
        }
        if *user.account == *ask.account {
            return refused(Code::NotAllowed, format!("{id} is the asker"));
        }
        if user.slots_free == Some(0) {
            return refused(Code::Full, format!("{id} has no room"));
        }
        Ok(Seller::User(Arc::clone(&user.id)))
    }

    fn interval(&self, name: &str) -> Result<&Interval, Refused> {
        self.tariff.interval(name).ok_or_else(|| Refused {
            code: Code::NoSuchTerms,
            text: format!("no interval {name} in the tables"),
        })
    }

    /// What the provider's tables ask for.
    fn offer(&self, ask: &Ask<'_>, seller: &Seller) -> Result<Offer, Refused> {
        let of_seller = match seller {
            Seller::User(id) => self.users.get(id).map(|user| user.qos),
            Seller::Provider => None,
        };
        let by_interval = |interval: &Interval| Offer {
            name: interval.name.clone(),
            price: interval.price,
            unit: interval.unit,
        };
        match ask.terms {
            Some(Terms::Packet(name)) => {
                let Some(packet) = self.tariff.packet(name) else {
                    let text = format!("no packet {name} in the tables");
                    return refused(Code::NoSuchTerms, text);
                };
                // A client sells what it has itself, or something less.
                if let Some(qos) = of_seller
                    && !packet.bounds.hold(&qos)
                {
                    let text = format!("{} does not reach packet {name}", seller.name());
                    return refused(Code::NotAllowed, text);
                }
                Ok(Offer {
                    name: packet.name.clone(),
                    price: packet.price,
                    unit: packet.unit,
                })
            }
            Some(Terms::Interval(name)) => {
                let interval = self.interval(name)?;
                if let Some(qos) = of_seller
                    && !qos.bw_mbps.is_some_and(|bw| interval.contains(bw))
                {
                    let text = format!("{} is not in interval {name}", seller.name());
                    return refused(Code::NotAllowed, text);
                }
                Ok(by_interval(interval))
            }
            None => {
                let bw = of_seller.and_then(|qos| qos.bw_mbps);
                match bw.and_then(|bw| self.tariff.interval_of(bw)) {
                    Some(interval) => Ok(by_interval(interval)),
                    None => refused(Code::BadRequest, "packet, interval: name one of them"),
                }
            }
        }
    }

    fn add_user(
        &mut self,
        now: Instant,
        ask: &Ask<'_>,
        status: Status,
        seller: Seller,
        terms: Option<&str>,
        contract: Option<u64>,
    ) -> Arc<str> {
        let kind = status.kind();
        let has_parents_name = match &seller {
            Seller::User(parent) => kind == Kind::Client || parent.starts_with('P'),
            Seller::Provider => false,
        };
        let (of_its_own, of_parent) = if has_parents_name {
            (0, self.child_number(&seller))
        } else {
            (self.number(kind), 0)
        };
        let id: Arc<str> = child_id(kind, &seller, of_its_own, of_parent).into();
        let is_packet = !matches!(ask.terms, Some(Terms::Interval(_)) | None);
        let named = |wanted: bool| terms.filter(|_| wanted).map(str::to_owned);
        self.users.insert(User {
            id: Arc::clone(&id),
            account: ask.account.into(),
            content: self.users.content_name(ask.content),
            status,
            packet: named(is_packet),
            interval: named(!is_packet),
            seller,
            contract,
            since: self.epoch.unix_micros(now),
            qos: ask.qos,
            children: 0,
            peer: None,
            heard: now,
            has_streamed: false,
            parentless: None,
            is_doubted: false,
            used_mbps: 0.0,
            slots_free: None,
            kbps: None,
            is_outside: false,
        });
        self.save_user(&id);
        id
    }
}

/// The word for a user of a kind.
pub(super) const fn noun(kind: Kind) -> &'static str {
    match kind {
        Kind::Client => "client",
        Kind::Peer => "peer",
    }
}
