//! What a viewer wants of a provider that sells the channel: which packet, from whom, and whom he serves in return.

use std::fmt;
use std::str::FromStr;

use clap::Args;

use super::exit::CliError;
use super::value::{Rate, Shown};
use crate::tracker::message::{Deal, Rental, is_channel_name};
use crate::tracker::provider::money::Money;
use crate::tracker::provider::status::{Kind, Status};
use crate::tracker::provider::tariff::Unit;
use crate::tracker::provider::user::PROVIDER;

/// A name of the provider's world: an account, a packet, an interval, a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word(String);

impl FromStr for Word {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match is_channel_name(text) {
            true => Ok(Self(text.to_owned())),
            false => Err("need 1 to 64 of A-Z a-z 0-9 . _ -"),
        }
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whom a user serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serves {
    clients: bool,
    peers: bool,
}

impl FromStr for Serves {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut serves = Self {
            clients: false,
            peers: false,
        };
        if text == "none" {
            return Ok(serves);
        }
        for part in text.split(',') {
            match part {
                "clients" => serves.clients = true,
                "peers" => serves.peers = true,
                _ => return Err("need none, clients, peers or clients,peers"),
            }
        }
        Ok(serves)
    }
}

impl fmt::Display for Serves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.clients, self.peers) {
            (false, false) => "none",
            (true, false) => "clients",
            (false, true) => "peers",
            (true, true) => "clients,peers",
        })
    }
}

/// What is wanted of a provider.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Provider")]
pub struct DealArgs {
    /// Name of the account at the provider [default: the peer's own id].
    #[arg(long, value_name = "NAME")]
    pub user: Option<Word>,
    /// Buy this packet of the provider's tariff, such as gold.
    #[arg(long, value_name = "NAME")]
    pub packet: Option<Word>,
    /// Buy by bandwidth interval, such as 5-10: from a client of that interval.
    #[arg(long, value_name = "NAME")]
    pub interval: Option<Word>,
    /// Buy from this user, such as C9; alone, at the price of its interval.
    #[arg(long, value_name = "ID")]
    pub seller: Option<Word>,
    /// Hang below this user as a free peer.
    #[arg(long, value_name = "ID")]
    pub below: Option<Word>,
    /// Whom to serve: none, clients, peers, or clients,peers [default: none].
    #[arg(long, value_name = "WHOM")]
    pub serve: Option<Serves>,
}

impl DealArgs {
    /// What the tracker is told.
    pub(super) fn check(self) -> Result<Deal, CliError> {
        for (one, first, other, second) in [
            (&self.packet, "--packet", &self.interval, "--interval"),
            (&self.seller, "--seller", &self.below, "--below"),
            (&self.packet, "--packet", &self.below, "--below"),
            (&self.interval, "--interval", &self.below, "--below"),
        ] {
            if one.is_some() && other.is_some() {
                return Err(CliError::exclusive(first, second));
            }
        }
        let of_provider = |id: &Option<Word>| id.as_ref().is_some_and(|id| id.0 == PROVIDER);
        if of_provider(&self.seller) && self.packet.is_none() && self.interval.is_none() {
            return Err(CliError::usage(
                "no packet to buy from the provider",
                "name one with --packet",
            ));
        }
        let pays = self.packet.is_some() || self.interval.is_some() || self.seller.is_some();
        let kind = if pays { Kind::Client } else { Kind::Peer };
        let serves = self.serve;
        let status = match serves {
            Some(serves) => match Status::new(kind, serves.clients, serves.peers) {
                Some(status) => Some(status),
                None => {
                    return Err(CliError::usage(
                        format!("bad --serve {}", Shown::new(&serves.to_string())),
                        "a free peer serves no clients; buy with --packet or --seller to sell",
                    ));
                }
            },
            // Who only names a seller says with its status that he pays.
            None => pays.then_some(Status::C),
        };
        let text = |word: Option<Word>| word.map(|word| word.0);
        Ok(Deal {
            user: text(self.user),
            session: None,
            packet: text(self.packet),
            interval: text(self.interval),
            seller: text(self.seller).or_else(|| text(self.below)),
            status: status.map(|status| status.name().to_owned()),
            offer: None,
        })
    }
}

/// A price of one unit: `0.50/hour`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    amount: Money,
    unit: Unit,
}

impl FromStr for Price {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let (amount, unit) = text.split_once('/')?;
            Some(Self {
                amount: amount.parse().ok()?,
                unit: Unit::from_name(unit)?,
            })
        };
        read().ok_or("need an amount and minute, hour or content, such as 0.50/hour")
    }
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.amount, self.unit.name())
    }
}

/// What a server offers a provider.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Provider")]
pub struct OfferArgs {
    /// Serve for the provider of the channel under a contract, with so much upload, which is also the --upload-limit
    /// unless that is given; with --price.
    #[arg(long, value_name = "RATE", allow_hyphen_values = true)]
    pub offer: Option<Rate>,
    /// What the upload offered costs: 0.02/minute, 0.50/hour, or 3.00/content.
    #[arg(long, value_name = "PRICE", allow_hyphen_values = true)]
    pub price: Option<Price>,
    /// Name of the account at the provider that is paid [default: the relay's own id, another one each start].
    #[arg(long, value_name = "NAME")]
    pub user: Option<Word>,
}

impl OfferArgs {
    /// What the tracker is told.
    pub(super) fn check(self) -> Result<Deal, CliError> {
        let (kbps, price) = match (self.offer, self.price) {
            (Some(offer), Some(price)) => (offer.bits_per_second() / 1000, price),
            (None, None) if self.user.is_none() => return Ok(Deal::default()),
            (None, None) => {
                return Err(CliError::usage("--user without --offer", "offer something"));
            }
            (Some(_), None) => {
                let why = "say what it costs, such as --price 0.50/hour";
                return Err(CliError::usage("--offer without --price", why));
            }
            (None, Some(_)) => {
                let why = "say what it is for, such as --offer 100Mbit";
                return Err(CliError::usage("--price without --offer", why));
            }
        };
        if kbps == 0 {
            return Err(CliError::usage("bad --offer", "need 1kbit or more"));
        }
        Ok(Deal {
            user: self.user.map(|user| user.0),
            offer: Some(Rental {
                kbps,
                price: price.amount,
                unit: price.unit,
            }),
            ..Deal::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deal(set: impl FnOnce(&mut DealArgs)) -> Result<Deal, CliError> {
        let mut args = DealArgs::default();
        set(&mut args);
        args.check()
    }

    fn word(text: &str) -> Option<Word> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn whoever_pays_may_serve_clients() {
        let sold = deal(|args| {
            args.packet = word("silver");
            args.serve = Some("clients,peers".parse().unwrap());
        });
        assert_eq!(sold.unwrap().status.as_deref(), Some("c-c,p"));
        let free = deal(|args| args.serve = Some("peers".parse().unwrap()));
        assert_eq!(free.unwrap().status.as_deref(), Some("p-p"));
        assert!(deal(|args| args.serve = Some("clients".parse().unwrap())).is_err());
        let by_seller = deal(|args| args.seller = word("C9")).unwrap();
        assert_eq!(by_seller.status.as_deref(), Some("c"));
        assert_eq!(deal(|_| {}).unwrap(), Deal::default());
    }

    #[test]
    fn an_offer_has_a_price() {
        let offer = |offer: Option<&str>, price: Option<&str>, user: Option<&str>| {
            OfferArgs {
                offer: offer.map(|text| text.parse().unwrap()),
                price: price.map(|text| text.parse().unwrap()),
                user: user.and_then(word),
            }
            .check()
        };
        let deal = offer(Some("100Mbit"), Some("0.50/hour"), Some("acme")).unwrap();
        let rental = deal.offer.expect("an offer");
        assert_eq!((rental.kbps, rental.unit), (100_000, Unit::Hour));
        assert_eq!(rental.price.to_string(), "0.50");
        assert_eq!(deal.user.as_deref(), Some("acme"));
        assert_eq!(offer(None, None, None).unwrap(), Deal::default());
        assert!(offer(Some("1Mbit"), None, None).is_err());
        assert!(offer(None, Some("1/content"), None).is_err());
        assert!(offer(None, None, Some("acme")).is_err());
        for bad in ["", "1", "1/day", "x/hour", "-1/hour", "1/hour/2"] {
            assert!(bad.parse::<Price>().is_err(), "{bad}");
        }
        assert_eq!(
            "0.5/hour".parse::<Price>().unwrap().to_string(),
            "0.50/hour"
        );
    }

    #[test]
    fn contradictions_are_refused() {
        assert!(deal(|args| (args.packet, args.interval) = (word("a"), word("b"))).is_err());
        assert!(deal(|args| (args.seller, args.below) = (word("a"), word("b"))).is_err());
        assert!(deal(|args| (args.packet, args.below) = (word("a"), word("b"))).is_err());
        assert!(deal(|args| args.seller = word("provider")).is_err());
        assert!("clients,dogs".parse::<Serves>().is_err());
        assert!("\u{1b}]0;x".parse::<Word>().is_err());
    }
}
