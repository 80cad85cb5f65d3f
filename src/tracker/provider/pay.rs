//! Payments: asked of whoever the operator named, booked when they are made, renewed when a unit is over.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde_json::{Value, json};

use super::Provider;
use super::contract::{Contract, Entry, Reason, State};
use super::enrol::Ask;
use super::error::{Code, Refused, refused};
use super::money::Money;
use super::status::{Kind, Status};
use super::user::{PROVIDER, Seller, User};
use crate::time::Instant;

/// Most payments under way.
const PENDING_MAX: usize = 10_000;

/// A user who is away for less is waited for when his contract is due.
const RETURN_GRACE: Duration = Duration::from_secs(60);

/// A payment to be made. Whoever makes it gets the same `account` and `request` again when the tracker was killed before
/// it could book the answer, and must not charge twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// Who pays.
    pub account: String,
    /// Name of the request.
    pub request: String,
    /// How much.
    pub amount: Money,
    /// Currency, for people.
    pub currency: String,
    /// Packet or interval.
    pub terms: String,
    /// Who delivers.
    pub seller: String,
    /// Channel name.
    pub content: String,
}

impl Payment {
    /// What the payment command reads.
    pub fn to_value(&self) -> Value {
        json!({
            "account": self.account,
            "request": self.request,
            "amount": self.amount.to_string(),
            "currency": self.currency,
            "terms": self.terms,
            "seller": self.seller,
            "content": self.content,
        })
    }
}

#[derive(Clone, Debug)]
enum Stand {
    Waiting,
    Made(Option<String>),
    Refused(String),
}

/// Payments under way.
#[derive(Debug, Default)]
pub(super) struct Payments {
    stand: BTreeMap<(String, String), Stand>,
    queue: VecDeque<Payment>,
}

impl Payments {
    /// Asks for a payment once, and says how it stands: the reference of one that is made.
    fn ask(&mut self, payment: Payment) -> Result<Option<String>, Refused> {
        let key = (payment.account.clone(), payment.request.clone());
        match self.stand.get(&key) {
            Some(Stand::Waiting) => {}
            Some(Stand::Made(reference)) => {
                let reference = reference.clone();
                self.stand.remove(&key);
                return Ok(reference);
            }
            Some(Stand::Refused(why)) => {
                let why = format!("payment refused: {why}");
                self.stand.remove(&key);
                return refused(Code::PaymentRefused, why);
            }
            None if self.stand.len() >= PENDING_MAX => {
                return refused(Code::Full, "too many payments are under way");
            }
            None => {
                self.stand.insert(key, Stand::Waiting);
                self.queue.push_back(payment);
            }
        }
        refused(Code::PaymentPending, "the payment is under way, ask again")
    }
}

impl Provider {
    /// A payment to be made.
    pub fn poll_payment(&mut self) -> Option<Payment> {
        self.payments.queue.pop_front()
    }

    /// What became of a payment: the reference of whoever took it, or why not.
    pub fn paid(&mut self, payment: &Payment, outcome: Result<Option<String>, String>) {
        let key = (payment.account.clone(), payment.request.clone());
        if let Some(stand) = self.payments.stand.get_mut(&key) {
            *stand = match outcome {
                Ok(reference) => Stand::Made(reference),
                Err(why) => Stand::Refused(why),
            };
        }
    }

    /// The payment for a new contract: free of charge, made, refused, or to be waited for.
    pub(super) fn payment_for(
        &mut self,
        ask: &Ask<'_>,
        terms: &str,
        price: Money,
        seller: &Seller,
    ) -> Result<Option<String>, Refused> {
        if self.tariff.payment.is_none() {
            return Ok(None);
        }
        let discount = self.discount(price, ask.status.unwrap_or(Status::C));
        self.payments.ask(Payment {
            account: ask.account.to_owned(),
            request: ask.request.to_owned(),
            amount: Money::from_micros(price.micros() - discount.micros()),
            currency: self.tariff.currency.clone(),
            terms: terms.to_owned(),
            seller: seller.name().to_owned(),
            content: ask.content.to_owned(),
        })
    }

    /// What a client of a status saves.
    fn discount(&self, price: Money, status: Status) -> Money {
        if !status.serves_peers() || status.kind() != Kind::Client {
            return Money::ZERO;
        }
        price.share((self.tariff.peers_discount * 1e6) as u64, 1_000_000)
    }

    /// Books one unit of a contract.
    pub(super) fn charge(&mut self, now: Instant, no: u64, reference: Option<String>) {
        let Some(contract) = self.books.contract(no) else {
            return;
        };
        let at = self.epoch.unix_micros(now);
        let status = self.users.get(&contract.user).map(|user| user.status);
        let discount = self.discount(contract.price, status.unwrap_or(Status::C));
        let entry = |from: &str, to: &str, amount, reason| Entry {
            at,
            contract: no,
            from: from.to_owned(),
            to: to.to_owned(),
            amount,
            reason,
            reference: reference.clone(),
        };
        let buyer = &contract.account;
        let mut entries = vec![entry(buyer, PROVIDER, contract.price, Reason::Charge)];
        if discount > Money::ZERO {
            entries.push(entry(PROVIDER, buyer, discount, Reason::Discount));
        }
        // The money goes through the provider to whoever delivers.
        if let Seller::User(seller) = &contract.seller
            && let Some(seller) = self.users.get(seller)
        {
            let rest = Money::from_micros(contract.price.micros() - discount.micros());
            entries.push(entry(PROVIDER, &seller.account, rest, Reason::Payout));
        }
        for entry in entries {
            self.book(entry);
        }
    }

    /// Renews the contracts whose unit is over while their user is there; ends the others. Whoever is away for a moment,
    /// because this tracker was, is waited for.
    pub(super) fn renew(&mut self, now: Instant) {
        let at = self.epoch.unix_micros(now);
        // Those that wait for their payment or their user come again the next time.
        for no in self.books.due(at) {
            let Some(contract) = self.books.contract(no).cloned() else {
                continue;
            };
            if contract.is_rent() {
                self.renew_rent(now, &contract, RETURN_GRACE);
                continue;
            }
            let user = self.users.get(&contract.user);
            match user.map(|user| (user.is_here(), now - user.heard)) {
                Some((true, _)) => {}
                Some((false, away)) if away < RETURN_GRACE => continue,
                _ => {
                    self.end(&contract);
                    continue;
                }
            }
            let until = contract.until.unwrap_or(at);
            match self.payment_again(&contract, until) {
                Err(Refused {
                    code: Code::PaymentPending,
                    ..
                }) => {}
                Ok(reference) => {
                    let next = contract.unit.micros().map(|unit| until.max(at) + unit);
                    self.books.edit(no, |contract| contract.until = next);
                    self.save_contract(no);
                    self.charge(now, no, reference);
                }
                Err(_) => self.end(&contract),
            }
        }
    }

    fn payment_again(
        &mut self,
        contract: &Contract,
        until: u64,
    ) -> Result<Option<String>, Refused> {
        if self.tariff.payment.is_none() {
            return Ok(None);
        }
        let user = self.users.get(&contract.user);
        let status = user.map_or(Status::C, |user| user.status);
        let discount = self.discount(contract.price, status);
        self.payments.ask(Payment {
            account: contract.account.to_string(),
            request: format!("renew-{}-{until}", contract.no),
            amount: Money::from_micros(contract.price.micros() - discount.micros()),
            currency: self.tariff.currency.clone(),
            terms: contract.terms.to_string(),
            seller: contract.seller.name().to_owned(),
            content: contract.content.to_string(),
        })
    }

    /// A contract is over: who is still there is a free peer from now on, who is not is forgotten.
    pub(super) fn end(&mut self, contract: &Contract) {
        self.books
            .edit(contract.no, |contract| contract.state = State::Ended);
        self.save_contract(contract.no);
        match self.users.get(&contract.user).map(User::is_here) {
            Some(true) => self.set_free(&contract.user),
            Some(false) => self.forget(&contract.user),
            None => {}
        }
    }
}
