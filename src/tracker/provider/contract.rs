//! Contracts and the ledger: who owes whom what, since when.
//!
//! Every contract goes through the provider, at a price of its own tables; so does every payment. The ledger only grows.

use std::sync::Arc;

use serde_json::{Value, json};

use super::money::Money;
use super::tariff::Unit;
use super::user::{PROVIDER, Seller};
use crate::stats::timestamp::Timestamp;

/// How a contract stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It runs, and is renewed when its unit is over.
    Active,
    /// It is over.
    Ended,
    /// It was ended early, and the rest of the fee given back.
    Credited,
}

impl State {
    const ALL: [Self; 3] = [Self::Active, Self::Ended, Self::Credited];

    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Ended => "ended",
            Self::Credited => "credited",
        }
    }
}

/// What was sold to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contract {
    /// Number, from 1 on; never used twice.
    pub no: u64,
    /// What the buyer called the request: the same again gets the same contract.
    pub request: Arc<str>,
    /// Who pays.
    pub account: Arc<str>,
    /// Channel name.
    pub content: Arc<str>,
    /// Identifier of the user that it made.
    pub user: Arc<str>,
    /// Who delivers.
    pub seller: Seller,
    /// Packet or interval, by its name in the tables of the time.
    pub terms: Arc<str>,
    /// Price of one unit.
    pub price: Money,
    /// What the price is for.
    pub unit: Unit,
    /// Begin, in Unix microseconds.
    pub start: u64,
    /// Paid until then, in Unix microseconds; none: to the end of the content.
    pub until: Option<u64>,
    /// How it stands.
    pub state: State,
}

impl Contract {
    /// The part of the unit that is paid for and not used, at a time; the whole price of a content that is not over.
    pub fn rest(&self, now: u64) -> Money {
        match (self.until, self.unit.micros()) {
            (Some(until), Some(unit)) => self.price.share(until.saturating_sub(now), unit),
            _ => Money::ZERO,
        }
    }

    /// Whether the provider is the one who pays: for a server of somebody else.
    pub fn is_rent(&self) -> bool {
        *self.account == *PROVIDER
    }

    /// For the API.
    pub fn to_value(&self) -> Value {
        let time = |at: u64| Timestamp::from_unix_micros(at).to_string();
        let mut value = json!({
            "no": self.no,
            "account": &*self.account,
            "content": &*self.content,
            "user": &*self.user,
            "seller": self.seller.name(),
            "terms": &*self.terms,
            "price": self.price.to_string(),
            "unit": self.unit.name(),
            "start": time(self.start),
            "state": self.state.name(),
        });
        if let Some(until) = self.until {
            value["until"] = json!(time(until));
        }
        value
    }

    /// The row that a store keeps.
    pub fn to_json(&self) -> String {
        json!({
            "request": &*self.request,
            "account": &*self.account,
            "content": &*self.content,
            "user": &*self.user,
            "seller": self.seller.name(),
            "terms": &*self.terms,
            "price": self.price.to_string(),
            "unit": self.unit.name(),
            "start": self.start,
            "until": self.until,
            "state": self.state.name(),
        })
        .to_string()
    }

    /// Reads a row back.
    pub fn from_json(no: u64, text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        let state = text("state")?;
        Some(Self {
            no,
            request: text("request")?.into(),
            account: text("account")?.into(),
            content: text("content")?.into(),
            user: text("user")?.into(),
            seller: Seller::from_name(text("seller")?),
            terms: text("terms")?.into(),
            price: text("price")?.parse().ok()?,
            unit: Unit::from_name(text("unit")?)?,
            start: value.get("start")?.as_u64()?,
            until: value.get("until").and_then(Value::as_u64),
            state: State::ALL.into_iter().find(|known| known.name() == state)?,
        })
    }
}

/// Why money went from one to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A unit of a contract began.
    Charge,
    /// The buyer serves peers.
    Discount,
    /// The rest of a fee was given back.
    Credit,
    /// The seller's part of a charge.
    Payout,
    /// A unit of a server that the provider rents.
    Rent,
}

impl Reason {
    const ALL: [Self; 5] = [
        Self::Charge,
        Self::Discount,
        Self::Credit,
        Self::Payout,
        Self::Rent,
    ];

    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Charge => "charge",
            Self::Discount => "discount",
            Self::Credit => "credit",
            Self::Payout => "payout",
            Self::Rent => "rent",
        }
    }
}

/// One line of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When, in Unix microseconds.
    pub at: u64,
    /// For which contract.
    pub contract: u64,
    /// Who pays: an account, or the provider.
    pub from: String,
    /// Who is paid.
    pub to: String,
    /// How much.
    pub amount: Money,
    /// What for.
    pub reason: Reason,
    /// What the payment hook said of it.
    pub reference: Option<String>,
}

impl Entry {
    /// The row that a store keeps, and the API shows.
    pub fn to_value(&self) -> Value {
        json!({
            "ts": Timestamp::from_unix_micros(self.at).to_string(),
            "contract": self.contract,
            "from": self.from,
            "to": self.to,
            "amount": self.amount.to_string(),
            "reason": self.reason.name(),
            "reference": self.reference,
        })
    }

    /// Reads a row back.
    pub fn from_value(value: &Value) -> Option<Self> {
        let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        let reason = text("reason")?;
        Some(Self {
            at: Timestamp::parse(&text("ts")?)?.unix_micros(),
            contract: value.get("contract")?.as_u64()?,
            from: text("from")?,
            to: text("to")?,
            amount: text("amount")?.parse().ok()?,
            reason: Reason::ALL
                .into_iter()
                .find(|known| known.name() == reason)?,
            reference: text("reference"),
        })
    }
}

/// Key of a numbered row: text order is number order.
pub fn key(no: u64) -> String {
    format!("{no:020}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contract() -> Contract {
        Contract {
            no: 7,
            request: "r1".into(),
            account: "ann".into(),
            content: "film".into(),
            user: "C9_1".into(),
            seller: Seller::User("C9".into()),
            terms: "silver".into(),
            price: "0.40".parse().unwrap(),
            unit: Unit::Hour,
            start: 1_000_000,
            until: Some(3_601_000_000),
            state: State::Active,
        }
    }

    #[test]
    fn a_contract_is_read_back_as_it_was() {
        let contract = contract();
        assert_eq!(Contract::from_json(7, &contract.to_json()), Some(contract));
        assert_eq!(Contract::from_json(7, "{}"), None);
    }

    #[test]
    fn what_is_not_used_is_given_back() {
        let contract = contract();
        for (now, rest) in [
            (1_000_000, "0.40"),
            (1_801_000_000, "0.20"),
            (3_601_000_000, "0.00"),
            (9_000_000_000, "0.00"),
        ] {
            assert_eq!(contract.rest(now).to_string(), rest);
        }
    }

    #[test]
    fn keys_sort_as_numbers() {
        assert!(key(9) < key(10) && key(99) < key(u64::MAX));
    }
}
