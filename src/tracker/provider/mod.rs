//! The provider: what a tracker that sells streams knows beyond who is there (CS-P2P).
//!
//! One [`Provider`] keeps users, contracts and the ledger, and decides who may hang below whom. It knows peers by their
//! identifiers only; who is connected, where, and how many slots he has, is the registry's affair and handed in.
//! Time is handed in too; everything durable leaves as [`Change`]s.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::time::{Epoch, Instant};

pub mod api;
pub mod books;
pub mod change;
pub mod contract;
mod enrol;
pub mod error;
mod flow;
pub mod history;
pub mod money;
mod pay;
mod rent;
pub mod scale;
mod seat;
pub mod status;
pub mod tariff;
pub mod user;
mod users;

#[cfg(test)]
mod tests;

use books::Books;
use change::{Change, Table};
use contract::{Contract, Entry};
use flow::Sessions;
use history::History;
use rent::Rents;
use scale::{Load, Scale, Signal};
use status::{Kind, Status};
use tariff::{Qos, Tariff};
use user::{Seller, User};
use users::Users;

pub use enrol::{Ask, Terms};
pub use error::{Code, Refused};
pub use pay::Payment;
pub use rent::ServerOffer;
pub use seat::{Allowed, Room};

/// Most users, of all contents together.
pub const USERS_MAX: usize = 200_000;

/// Numbers of free users are reserved in blocks: one write each block, and none is used twice after a crash.
const BLOCK: u64 = 1000;

/// Free users who were not heard of for so long are forgotten.
const PEER_GRACE: Duration = Duration::from_secs(60);

/// How often the load is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a peer reports of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Report {
    /// Upload capability in kbit/s.
    pub uplink_kbps: Option<u64>,
    /// Upload in use in kbit/s.
    pub sent_kbps: Option<u64>,
    /// Rate at which the stream arrives, in kbit/s.
    pub kbps: Option<u64>,
    /// Cumulative latency from the source, in microseconds.
    pub latency_us: Option<u64>,
    /// Jitter, in microseconds.
    pub jitter_us: Option<u64>,
    /// Children that it would still take.
    pub slots_free: Option<u16>,
    /// Whether it has a parent.
    pub has_parent: bool,
}

/// What a provider is made of.
#[derive(Debug)]
pub struct Provider {
    tariff: Tariff,
    epoch: Epoch,
    users: Users,
    books: Books,
    rents: Rents,
    /// Next numbers, and up to where those of free users are reserved.
    next_client: u64,
    next_peer: u64,
    peers_reserved: u64,
    sessions: Sessions,
    payments: pay::Payments,
    history: History,
    scale: Scale,
    looked: Option<Instant>,
    /// Servers by their peer identifier: upload in use and capability, in kbit/s.
    servers: BTreeMap<Arc<str>, (u64, u64)>,
    changes: Vec<Change>,
    signals: VecDeque<(Signal, Load)>,
}

impl Provider {
    /// A provider without users. `secret` makes session tokens that cannot be guessed.
    pub fn new(tariff: Tariff, epoch: Epoch, secret: [u8; 32]) -> Self {
        Self {
            tariff,
            epoch,
            users: Users::default(),
            books: Books::default(),
            rents: Rents::default(),
            next_client: 1,
            next_peer: 1,
            peers_reserved: 1,
            sessions: Sessions::new(secret),
            payments: pay::Payments::default(),
            history: History::default(),
            scale: Scale::default(),
            looked: None,
            servers: BTreeMap::new(),
            changes: Vec::new(),
            signals: VecDeque::new(),
        }
    }

    /// Takes back what a store kept. Gives the rows that make no sense, by table and key.
    pub fn restore(&mut self, now: Instant, rows: &[Change]) -> Vec<String> {
        let mut strange = Vec::new();
        for row in rows {
            let Some(value) = &row.value else { continue };
            if !self.restore_row(now, row.table, &row.key, value) {
                strange.push(format!("{} {}", row.table.name(), row.key));
            }
        }
        strange
    }

    fn restore_row(&mut self, now: Instant, table: Table, key: &str, value: &str) -> bool {
        match table {
            Table::Meta => match (key, value.parse()) {
                ("next_client", Ok(next)) => self.next_client = next,
                ("next_peer", Ok(next)) => {
                    self.next_peer = next;
                    self.peers_reserved = next;
                }
                _ => {}
            },
            Table::Users => match User::from_json(key, value, now) {
                Some(user) => self.users.insert(user),
                None => return false,
            },
            Table::Contracts => {
                let no = key.parse().ok();
                match no.and_then(|no| Contract::from_json(no, value)) {
                    Some(contract) => {
                        self.rents.restore(now, &contract);
                        self.books.put(contract);
                    }
                    None => return false,
                }
            }
            Table::Ledger => match serde_json::from_str(value)
                .ok()
                .and_then(|value| Entry::from_value(&value))
            {
                Some(entry) => drop(self.books.book(entry)),
                None => return false,
            },
            Table::Accounts | Table::Revocations | Table::Keys => {}
        }
        true
    }

    /// Other prices from now on; running contracts keep theirs until they are renewed.
    pub fn set_tariff(&mut self, tariff: Tariff) {
        self.tariff = tariff;
    }

    /// The tariff of now.
    pub const fn tariff(&self) -> &Tariff {
        &self.tariff
    }

    /// What must be durable before anybody hears of it.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// A wish for servers, and the load that it comes from.
    pub fn poll_signal(&mut self) -> Option<(Signal, Load)> {
        self.signals.pop_front()
    }

    /// Renews contracts, forgets free users who are gone, and looks at the load.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.sessions.expire(now);
        if self.looked.is_some_and(|looked| now - looked < LOOK_EVERY) {
            return;
        }
        self.looked = Some(now);
        self.renew(now);
        while let Some(id) = self.users.away(now, PEER_GRACE) {
            self.forget(&id);
        }
        let load = self.load();
        if let Some(signal) = self.scale.on_load(now, &self.tariff.scale, load) {
            self.signals.push_back((signal, load));
        }
    }

    /// How loaded servers are, and how content those who pay.
    pub fn load(&self) -> Load {
        let known = self.servers.values().filter(|(_, uplink)| *uplink > 0);
        let (sent, uplink) = known.fold((0, 0), |(sent, uplink), server| {
            (sent + server.0, uplink + server.1)
        });
        let (guaranteed, outside) = self.users.guaranteed();
        Load {
            load: (uplink > 0).then(|| sent as f64 / uplink as f64),
            servers: self.servers.len(),
            outside: outside as f64 / guaranteed.max(1) as f64,
        }
    }

    // --- what the registry tells ------------------------------------------------------------------------------------

    /// A peer is that user now.
    pub fn connected(&mut self, now: Instant, id: &str, peer: &str) {
        // A free user who begins to pay, or goes to another channel, is not who he was.
        if let Some(old) = self.users.of_peer(peer)
            && *old.id != *id
        {
            let old = Arc::clone(&old.id);
            self.disconnect(now, &old, true);
        }
        self.users.edit(id, |user| {
            user.heard = now;
            user.has_streamed = false;
            user.parentless = Some(now);
            if user.peer.as_deref() != Some(peer) {
                user.peer = Some(peer.into());
            }
        });
    }

    /// A user has no peer from now on. Clients keep their place until their time is paid off; who was free and does not
    /// come back is gone.
    fn disconnect(&mut self, now: Instant, id: &str, has_left: bool) {
        let kind = self.users.edit(id, |user| {
            user.peer = None;
            user.heard = now;
            user.used_mbps = 0.0;
            user.status.kind()
        });
        if has_left && kind == Some(Kind::Peer) {
            self.forget(id);
        }
    }

    /// A server of the provider, or one that it rents, tells how it does.
    pub fn on_server(&mut self, peer: &str, report: &Report) {
        let load = (
            report.sent_kbps.unwrap_or(0),
            report.uplink_kbps.unwrap_or(0),
        );
        match self.servers.get_mut(peer) {
            Some(known) => *known = load,
            None => {
                self.servers.insert(peer.into(), load);
            }
        }
    }

    /// A user's peer tells how it does. Whose quality is too low to charge for serves no clients from now on.
    pub fn on_report(&mut self, now: Instant, peer: &str, report: &Report) {
        let Some(user) = self.users.of_peer(peer) else {
            return;
        };
        let mega = |kbps: u64| kbps as f64 / 1000.0;
        let milli = |us: u64| us as f64 / 1000.0;
        let qos = Qos {
            // What it can carry; where nobody says so, what it was seen to carry: a stream at least, and not only
            // acknowledgements.
            bw_mbps: report
                .uplink_kbps
                .or_else(|| {
                    let stream = report.kbps.filter(|kbps| *kbps > 0)?;
                    report.sent_kbps.filter(|sent| *sent >= stream / 2)
                })
                .map(mega)
                .or(user.qos.bw_mbps),
            lat_ms: report.latency_us.map(milli).or(user.qos.lat_ms),
            jit_ms: report.jitter_us.map(milli).or(user.qos.jit_ms),
        };
        let at = self.epoch.unix_micros(now);
        self.history
            .push(at, &user.id, &user.content, qos, self.tariff.history_s);
        let packet = user.packet.as_deref();
        let bounds = packet.and_then(|name| Some(self.tariff.packet(name)?.bounds));
        let is_lowered = user.status.serves_clients() && self.tariff.charge_floor.are_missed(&qos);
        let id = Arc::clone(&user.id);
        self.users.edit(&id, |user| {
            user.heard = now;
            user.is_doubted = false;
            if report.has_parent {
                user.has_streamed = true;
                user.parentless = None;
            } else {
                user.parentless.get_or_insert(now);
            }
            user.qos = qos;
            user.used_mbps = report.sent_kbps.map_or(0.0, mega);
            // Who has no stream yet does not know how often he can give it.
            user.slots_free = report.slots_free.filter(|_| report.has_parent);
            user.kbps = report.kbps;
            // Bandwidth is what the path can carry: a stream that is slower than the bound is no fault.
            user.is_outside = bounds.is_some_and(|bounds| {
                qos.lat_ms.is_some_and(|lat| lat > bounds.lat_ms)
                    || qos.jit_ms.is_some_and(|jit| jit > bounds.jit_ms)
            });
            if is_lowered {
                user.status = user.status.without_clients();
            }
        });
        if is_lowered {
            self.save_user(&id);
        }
    }

    /// A peer is not registered any more.
    pub fn on_gone(&mut self, now: Instant, peer: &str, has_left: bool) {
        self.servers.remove(peer);
        self.rents.on_gone(now, peer);
        if let Some(user) = self.users.of_peer(peer) {
            let id = Arc::clone(&user.id);
            self.disconnect(now, &id, has_left);
        }
    }

    /// Who a peer is.
    pub fn user_of(&self, peer: &str) -> Option<&User> {
        self.users.of_peer(peer)
    }

    /// A user by the identifier that the provider gave him.
    pub fn user(&self, id: &str) -> Option<&User> {
        self.users.get(id)
    }

    /// A contract by its number; none of one that is long over.
    pub fn contract(&self, no: u64) -> Option<&Contract> {
        self.books.contract(no)
    }

    /// Contracts by number: those that run, and the last [`books::OVER_SHOWN`] of those that are over.
    pub fn contracts(&self) -> impl Iterator<Item = &Contract> {
        self.books.contracts()
    }

    /// The last [`books::ENTRIES_SHOWN`] entries of the ledger, oldest first.
    pub fn ledger(&self) -> impl Iterator<Item = &Entry> {
        self.books.entries()
    }

    /// Users now.
    pub fn user_count(&self) -> usize {
        self.users.len()
    }

    // --- tables -----------------------------------------------------------------------------------------------------

    fn forget(&mut self, id: &str) {
        if let Some(user) = self.users.remove(id)
            && user.is_durable()
        {
            self.change(Table::Users, id.to_owned(), None);
        }
    }

    /// Writes down what is durable of a user: those who pay, or have paid.
    fn save_user(&mut self, id: &str) {
        if let Some(user) = self.users.get(id)
            && user.is_durable()
        {
            let value = user.to_json();
            self.change(Table::Users, id.to_owned(), Some(value));
        }
    }

    fn save_contract(&mut self, no: u64) {
        if let Some(contract) = self.books.contract(no) {
            let value = contract.to_json();
            self.change(Table::Contracts, contract::key(no), Some(value));
        }
    }

    /// Writes a user and its contract down again: whoever asks twice waits until both are kept, although the first
    /// answer may have said that they were not.
    fn save_again(&mut self, id: &str) {
        self.save_user(id);
        if let Some(no) = self.users.get(id).and_then(|user| user.contract) {
            self.save_contract(no);
        }
    }

    /// A user's contract is over, and he is there: a free peer from now on.
    fn set_free(&mut self, id: &str) {
        self.users.edit(id, |user| {
            user.status = match user.status.serves_peers() {
                true => Status::PP,
                false => Status::P,
            };
            user.contract = None;
            user.packet = None;
            user.interval = None;
        });
        self.change(Table::Users, id.to_owned(), None);
    }

    fn change(&mut self, table: Table, key: String, value: Option<String>) {
        self.changes.push(Change { table, key, value });
    }

    /// Books an entry.
    fn book(&mut self, entry: Entry) {
        let value = entry.to_value().to_string();
        let key = contract::key(self.books.book(entry));
        self.change(Table::Ledger, key, Some(value));
    }

    /// The next number for a user of a kind.
    fn number(&mut self, kind: Kind) -> u64 {
        match kind {
            Kind::Client => {
                let number = self.next_client;
                self.next_client += 1;
                let next = self.next_client.to_string();
                self.change(Table::Meta, "next_client".to_owned(), Some(next));
                number
            }
            Kind::Peer => {
                let number = self.next_peer;
                self.next_peer += 1;
                if number >= self.peers_reserved {
                    self.peers_reserved = number + BLOCK;
                    let next = self.peers_reserved.to_string();
                    self.change(Table::Meta, "next_peer".to_owned(), Some(next));
                }
                number
            }
        }
    }

    /// The number of the next child of a user.
    fn child_number(&mut self, seller: &Seller) -> u64 {
        let Seller::User(id) = seller else { return 0 };
        let count = |user: &mut User| {
            user.children += 1;
            user.children
        };
        let Some(number) = self.users.edit(id, count) else {
            return 0;
        };
        self.save_user(id);
        number
    }
}
