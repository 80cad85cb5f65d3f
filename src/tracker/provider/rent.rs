//! Servers of others, rented for one content or by time (CS-P2P: a provider "may rent external servers for single or
//! short events").
//!
//! Here the provider is the buyer: a contract of its own, whose request is the name of the account that offers. So a
//! server that comes back goes on under its contract, and a unit is paid once however often it comes. What was paid for
//! a unit is not asked back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::contract::{Contract, Entry, Reason, State};
use super::error::{Code, Refused, refused};
use super::money::Money;
use super::tariff::Unit;
use super::user::{PROVIDER, Seller};
use super::{Provider, api::House};
use crate::time::Instant;

/// A contract for a whole content ends when nobody announced that for so long: a source may be starting again.
const CONTENT_GRACE: Duration = Duration::from_secs(60);

/// What a server offers.
#[derive(Clone, Copy, Debug)]
pub struct ServerOffer<'a> {
    /// Who is paid.
    pub account: &'a str,
    /// Channel name.
    pub content: &'a str,
    /// Upload, in kbit/s.
    pub kbps: u64,
    /// Price of one unit.
    pub price: Money,
    /// What the price is for.
    pub unit: Unit,
}

/// A server under contract.
#[derive(Debug)]
struct Rent {
    peer: Option<Arc<str>>,
    heard: Instant,
    /// Since when nobody announces its content.
    without_content: Option<Instant>,
}

/// Servers under contract.
#[derive(Debug, Default)]
pub(super) struct Rents {
    by_contract: BTreeMap<u64, Rent>,
    by_peer: BTreeMap<Arc<str>, u64>,
}

impl Rents {
    /// A contract that was kept: its server may come back.
    pub(super) fn restore(&mut self, now: Instant, contract: &Contract) {
        if contract.is_rent() && contract.state == State::Active {
            let rent = Rent {
                peer: None,
                heard: now,
                without_content: None,
            };
            self.by_contract.insert(contract.no, rent);
        }
    }

    /// A peer is not registered any more.
    pub(super) fn on_gone(&mut self, now: Instant, peer: &str) {
        if let Some(no) = self.by_peer.remove(peer)
            && let Some(rent) = self.by_contract.get_mut(&no)
        {
            rent.peer = None;
            rent.heard = now;
        }
    }

    fn remove(&mut self, no: u64) {
        if let Some(peer) = self.by_contract.remove(&no).and_then(|rent| rent.peer) {
            self.by_peer.remove(&peer);
        }
    }
}

impl Provider {
    /// Takes a server under contract, or goes on with the contract that its account has for the content.
    ///
    /// # Errors
    ///
    /// [`Refused`]: too dear, not needed, other terms than those agreed on, or another server of the account is there.
    pub fn rent(
        &mut self,
        now: Instant,
        peer: &str,
        offer: &ServerOffer<'_>,
    ) -> Result<u64, Refused> {
        let known = self
            .books
            .of_request(PROVIDER, offer.content, offer.account)
            .map(|contract| (contract.no, contract.price, contract.unit));
        let no = match known {
            Some((no, price, unit)) if (price, unit) == (offer.price, offer.unit) => {
                let other = self
                    .rents
                    .by_contract
                    .get(&no)
                    .and_then(|rent| rent.peer.as_deref());
                if other.is_some_and(|other| other != peer) {
                    let text = format!("another server of {} is here", offer.account);
                    return refused(Code::AlreadyContracted, text);
                }
                // The commit of the first time may have failed.
                self.save_contract(no);
                no
            }
            Some((no, price, unit)) => {
                let text = format!("contract {no} runs at {price} per {}", unit.name());
                return refused(Code::AlreadyContracted, text);
            }
            None => self.agree(now, offer)?,
        };
        self.rents.on_gone(now, peer);
        self.rents.by_peer.insert(peer.into(), no);
        let rent = Rent {
            peer: Some(peer.into()),
            heard: now,
            without_content: None,
        };
        self.rents.by_contract.insert(no, rent);
        Ok(no)
    }

    fn agree(&mut self, now: Instant, offer: &ServerOffer<'_>) -> Result<u64, Refused> {
        let rule = &self.tariff.rent;
        let (most, asked) = match offer.unit {
            Unit::Content => (rule.content_max, offer.price),
            Unit::Hour => (rule.hour_max, offer.price),
            Unit::Minute => {
                let hour = offer.price.micros().saturating_mul(60);
                (rule.hour_max, Money::from_micros(hour))
            }
        };
        let Some(most) = most else {
            let text = format!("no servers are rented by the {}", offer.unit.name());
            return refused(Code::NotAllowed, text);
        };
        if self.rents.by_contract.len() >= rule.servers_max {
            return refused(Code::Full, "enough servers are rented");
        }
        if offer.account == PROVIDER {
            return refused(Code::NotAllowed, "the provider rents nothing from itself");
        }
        let most = most.times(offer.kbps, 1000);
        if asked > most {
            let per = match offer.unit {
                Unit::Content => "content",
                Unit::Minute | Unit::Hour => "hour",
            };
            let text = format!(
                "too dear: {} Mbit/s are worth {most} {} per {per}",
                offer.kbps as f64 / 1000.0,
                self.tariff.currency
            );
            return refused(Code::PriceDiffers, text);
        }
        let no = self.books.next_contract();
        let start = self.epoch.unix_micros(now);
        self.books.put(Contract {
            no,
            request: offer.account.into(),
            account: PROVIDER.into(),
            content: self.users.content_name(offer.content),
            user: format!("S{no}").into(),
            seller: Seller::User(offer.account.into()),
            terms: format!("{} Mbit/s", offer.kbps as f64 / 1000.0).into(),
            price: offer.price,
            unit: offer.unit,
            start,
            until: offer.unit.micros().map(|unit| start + unit),
            state: State::Active,
        });
        self.save_contract(no);
        self.pay_rent(now, no);
        Ok(no)
    }

    fn pay_rent(&mut self, now: Instant, no: u64) {
        let Some(contract) = self.books.contract(no) else {
            return;
        };
        let entry = Entry {
            at: self.epoch.unix_micros(now),
            contract: no,
            from: PROVIDER.to_owned(),
            to: contract.seller.name().to_owned(),
            amount: contract.price,
            reason: Reason::Rent,
            reference: None,
        };
        self.book(entry);
    }

    /// A unit of a server is over: another one if it is there.
    pub(super) fn renew_rent(&mut self, now: Instant, contract: &Contract, grace: Duration) {
        let no = contract.no;
        let at = self.epoch.unix_micros(now);
        match self.rents.by_contract.get(&no) {
            Some(rent) if rent.peer.is_some() => {
                let until = contract.until.unwrap_or(at).max(at);
                let next = contract.unit.micros().map(|unit| until + unit);
                self.books.edit(no, |contract| contract.until = next);
                self.save_contract(no);
                self.pay_rent(now, no);
            }
            Some(rent) if now - rent.heard < grace => {}
            _ => self.end_rent(no),
        }
    }

    fn end_rent(&mut self, no: u64) {
        self.rents.remove(no);
        self.books
            .edit(no, |contract| contract.state = State::Ended);
        self.save_contract(no);
    }

    /// Ends the contracts for whole contents that are over.
    pub fn end_contents(&mut self, now: Instant, house: &dyn House) {
        let mut over = Vec::new();
        for (no, rent) in &mut self.rents.by_contract {
            let Some(contract) = self.books.contract(*no) else {
                continue;
            };
            if contract.unit != Unit::Content || house.has_channel(&contract.content) {
                rent.without_content = None;
                continue;
            }
            let since = *rent.without_content.get_or_insert(now);
            if now - since >= CONTENT_GRACE {
                over.push(*no);
            }
        }
        for no in over {
            self.end_rent(no);
        }
    }

    /// The contract under which a peer serves.
    pub fn rent_of(&self, peer: &str) -> Option<&Contract> {
        self.books.contract(*self.rents.by_peer.get(peer)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Epoch;
    use crate::tracker::provider::change::{Change, Table};
    use crate::tracker::provider::tariff::{EXAMPLE, Tariff};

    const HOUR: Duration = Duration::from_secs(3600);

    struct Film(bool);

    impl House for Film {
        fn has_channel(&self, _: &str) -> bool {
            self.0
        }

        fn has_room(&self, _: &str) -> bool {
            true
        }

        fn check_account(&self, _: &str, _: Option<&str>) -> Result<(), String> {
            Ok(())
        }
    }

    fn provider() -> Provider {
        let rule = "[rent]\nhour_max = \"0.01\"\ncontent_max = \"0.02\"\nservers_max = 2\n";
        let tariff = Tariff::parse(&format!("{EXAMPLE}\n{rule}")).expect("a tariff");
        Provider::new(tariff, Epoch::new(1_700_000_000_000_000), [7; 32])
    }

    fn offer<'a>(account: &'a str, price: &str, unit: Unit) -> ServerOffer<'a> {
        ServerOffer {
            account,
            content: "film",
            kbps: 50_000,
            price: price.parse().expect("money"),
            unit,
        }
    }

    fn paid(provider: &Provider) -> Vec<(String, String)> {
        let entries = provider.ledger();
        entries
            .map(|entry| {
                assert_eq!((&*entry.from, entry.reason), (PROVIDER, Reason::Rent));
                (entry.to.clone(), entry.amount.to_string())
            })
            .collect()
    }

    #[test]
    fn offers_are_held_against_the_tariff() {
        let mut provider = provider();
        let now = Instant::ZERO;
        for (account, price, unit, outcome) in [
            ("acme", "0.51", Unit::Hour, Err(Code::PriceDiffers)),
            ("acme", "0.01", Unit::Minute, Err(Code::PriceDiffers)),
            ("acme", "1.01", Unit::Content, Err(Code::PriceDiffers)),
            (PROVIDER, "0.10", Unit::Hour, Err(Code::NotAllowed)),
            ("acme", "0.50", Unit::Hour, Ok(1)),
            ("acme", "0.40", Unit::Hour, Err(Code::AlreadyContracted)),
            ("bolt", "1.00", Unit::Content, Ok(2)),
            ("cold", "0.10", Unit::Hour, Err(Code::Full)),
        ] {
            let found = provider.rent(now, account, &offer(account, price, unit));
            let found = found.map_err(|refused| refused.code);
            assert_eq!(found, outcome, "{account} {price} {unit:?}");
        }
        let id = provider.rent_of("acme").map(|contract| &*contract.user);
        assert_eq!(id, Some("S1"));
        // Without prices in the tariff nothing is rented.
        let tariff = Tariff::parse(EXAMPLE).expect("a tariff");
        provider.set_tariff(tariff);
        let found = provider.rent(now, "dear", &offer("dear", "0.01", Unit::Hour));
        assert_eq!(found.map_err(|refused| refused.code), Err(Code::NotAllowed));
    }

    #[test]
    fn a_unit_is_paid_once_however_often_a_server_comes() {
        let mut provider = provider();
        let mut now = Instant::ZERO;
        let hourly = offer("acme", "0.30", Unit::Hour);
        assert_eq!(provider.rent(now, "p1", &hourly), Ok(1));
        let two = provider.rent(now, "p2", &hourly).map_err(|no| no.code);
        assert_eq!(two, Err(Code::AlreadyContracted), "one at a time");
        provider.on_gone(now, "p1", false);
        assert_eq!(provider.rent(now, "p2", &hourly), Ok(1));
        assert_eq!(paid(&provider), [("acme".to_owned(), "0.30".to_owned())]);
        now += HOUR;
        provider.handle_timeout(now);
        assert_eq!(paid(&provider).len(), 2, "the second hour");
        // Also after a restart of the tracker, from what it kept.
        let rows: Vec<Change> = provider.take_changes();
        let mut again = self::provider();
        assert!(again.restore(now, &rows).is_empty());
        assert_eq!(again.rent(now, "p3", &hourly), Ok(1));
        assert!(!again.take_changes().is_empty(), "kept before it is said");
        // Gone for good: no third hour.
        again.on_gone(now, "p3", true);
        now += HOUR;
        again.handle_timeout(now);
        let state = again.contracts().next().map(|contract| contract.state);
        assert_eq!(state, Some(State::Ended));
        let rents = |row: &Change| row.table == Table::Ledger;
        assert_eq!(again.take_changes().into_iter().filter(rents).count(), 0);
    }

    #[test]
    fn a_content_is_over_when_nobody_announces_it_for_a_minute() {
        let mut provider = provider();
        let mut now = Instant::ZERO;
        let event = offer("acme", "0.80", Unit::Content);
        assert_eq!(provider.rent(now, "p1", &event), Ok(1));
        let state = |provider: &Provider| provider.contract(1).map(|contract| contract.state);
        for (is_on, seconds) in [(false, 0), (false, 59), (true, 1), (false, 1), (false, 59)] {
            now += Duration::from_secs(seconds);
            provider.end_contents(now, &Film(is_on));
            assert_eq!(state(&provider), Some(State::Active));
        }
        now += Duration::from_secs(1);
        provider.end_contents(now, &Film(false));
        assert_eq!(state(&provider), Some(State::Ended));
        assert!(provider.rent_of("p1").is_none());
        assert_eq!(paid(&provider).len(), 1);
    }
}
