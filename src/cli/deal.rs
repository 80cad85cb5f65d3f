//! What a viewer wants of a provider that sells the channel: which packet, from whom, and whom he serves in return.

use std::fmt;
use std::str::FromStr;

use clap::Args;

use super::exit::CliError;
use super::value::Shown;
use crate::tracker::message::{Deal, is_channel_name};
use crate::tracker::provider::status::{Kind, Status};
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
    fn contradictions_are_refused() {
        assert!(deal(|args| (args.packet, args.interval) = (word("a"), word("b"))).is_err());
        assert!(deal(|args| (args.seller, args.below) = (word("a"), word("b"))).is_err());
        assert!(deal(|args| (args.packet, args.below) = (word("a"), word("b"))).is_err());
        assert!(deal(|args| args.seller = word("provider")).is_err());
        assert!("clients,dogs".parse::<Serves>().is_err());
        assert!("\u{1b}]0;x".parse::<Word>().is_err());
    }
}
