//! Where tickets are made: users by name with the hash of a secret, channels closed or open, and the tracker's key.
//!
//! Whatever changes what must not be forgotten gives the rows to store. The secret of a user is made by the tracker and
//! long, so a plain hash of it gives nothing away.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::seals::{Rules, Seals};
use super::{
    Claims, Demand, Holder, LIFE, LIFE_MAX, Revocation, Revocations, Roles, Ticket, TicketError,
};
use crate::ids::{PeerKey, SwarmId, decode_hex};
use crate::integrity::hash::digest;
use crate::integrity::key::SigningKey;
use crate::integrity::membership;
use crate::rng::{Rng, Seed};
use crate::seal::Ratchet;
use crate::time::{Epoch, Instant};
use crate::tracker::message::{
    AccessRequest, AccessResponse, ChannelAuth, RejectCode, Role, Secret, is_channel_name,
};
use crate::tracker::provider::change::{Change, Table};
use crate::wire::option::HashFunction;

mod readers;

pub use readers::Reading;

/// Revocations in one answer: what a reader of JSON takes in one array.
pub const REVOKED_TOLD_MAX: usize = 1000;
/// Users at most.
pub const ACCOUNTS_MAX: usize = 1_000_000;
/// Row of the key that signs tickets.
const KEY_ROW: &str = "ticket";
/// Rows of channels that are closed.
const CLOSED_ROWS: &str = "closed.";

/// How long tickets hold, never longer than [`LIFE_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lives {
    /// Those of users.
    pub user: Duration,
    /// Those of channels.
    pub channel: Duration,
}

impl Default for Lives {
    fn default() -> Self {
        Self {
            user: LIFE,
            channel: LIFE,
        }
    }
}

/// Why somebody is not served; each text completes "refused by tracker: …".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoginError {
    /// The ticket is not honoured.
    #[error("{0}")]
    Ticket(#[from] TicketError),
    /// No such user, or not his secret: which of them is nobody's business.
    #[error("unknown user or wrong secret")]
    Unknown,
    /// A ticket or a user without a key to bind tickets to.
    #[error("no key")]
    NoKey,
    /// The channel is closed and nobody said who he is.
    #[error("the channel is closed: give --token-file")]
    Needed,
    /// The channel is open to everybody, so nobody could be kept from its key.
    #[error("only closed channels are sealed: p2ps-tracker channel close {0}")]
    Open(String),
    /// Keys do not travel where others can read them.
    #[error("keys to sealed channels are given over https, or on one host")]
    Insecure,
    /// The user may do less.
    #[error("{user} may {allowed}, not {needed}")]
    Role {
        /// Who.
        user: String,
        /// What he may do.
        allowed: Roles,
        /// What he wanted.
        needed: Roles,
    },
}

impl LoginError {
    /// The reason on the wire.
    pub const fn code(&self) -> RejectCode {
        RejectCode::Unauthorized
    }
}

/// Why an order of the operator was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OfficeError {
    /// Not 1 to 64 of the characters allowed.
    #[error("need 1 to 64 of A-Z a-z 0-9 . _ -")]
    Name,
    /// There is one of that name.
    #[error("there is such a user already")]
    Exists,
    /// There is none of that name.
    #[error("no such user")]
    NoSuchUser,
    /// There are as many as can be.
    #[error("too many users")]
    Full,
    /// A stored row that cannot be read.
    #[error("stored row is damaged")]
    Row,
}

/// One user.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Account {
    secret_hash: [u8; 32],
    roles: Roles,
    holder: Holder,
}

impl Account {
    /// Whether that is its secret. A comparison of digests that stops early tells nothing of what was digested.
    fn is_secret(&self, name: &str, secret: &Secret) -> bool {
        self.secret_hash == hash(name, secret)
    }
}

/// One user as stored.
#[derive(Serialize, Deserialize)]
struct AccountRow {
    secret_sha256: String,
    roles: u8,
    client: bool,
}

#[derive(Serialize, Deserialize)]
struct RevocationRow {
    at: u64,
}

/// Who asks, and what for.
#[derive(Clone, Copy, Debug)]
pub struct Visit<'a> {
    /// What he says about himself.
    pub access: &'a AccessRequest,
    /// Which user he says he is; without a secret that means nothing here.
    pub user: Option<&'a str>,
    /// Name of the channel, where the tracker knows one.
    pub channel: Option<&'a str>,
    /// What he wants to be there.
    pub role: Option<Role>,
    /// The name of his peer.
    pub peer: &'a str,
    /// Whether nobody on the way can read what he is answered.
    pub is_private: bool,
}

impl Visit<'_> {
    /// Whether he makes the channel and wants it sealed.
    fn seals(&self) -> bool {
        self.access.seal && self.role == Some(Role::Source)
    }
}

/// Makes tickets and knows whom to give one.
#[derive(Debug)]
pub struct TicketOffice {
    epoch: Epoch,
    key: SigningKey,
    public: PeerKey,
    lives: Lives,
    rng: Rng,
    accounts: BTreeMap<String, Account>,
    closed: BTreeSet<String>,
    revocations: Revocations,
    seals: Seals,
    is_private: bool,
    changes: Vec<Change>,
}

const fn needed(role: Option<Role>) -> Roles {
    match role {
        Some(Role::Source) => Roles::PUBLISH,
        Some(Role::Relay) => Roles::SERVE,
        Some(Role::Peer) | None => Roles::WATCH,
    }
}

impl TicketOffice {
    /// An office without users, whose channels are all open. None when the key is not Ed25519.
    ///
    /// All secrets to come are made of `seed`, which has to come from the system's generator.
    pub fn new(epoch: Epoch, key: SigningKey, lives: Lives, seed: Seed) -> Option<Self> {
        let mut ratchet = Ratchet::new(seed);
        // What is drawn for tickets is shown to everybody.
        let rng = Rng::new(Seed::from_bytes(ratchet.draw()));
        Some(Self {
            epoch,
            public: key.peer_key()?,
            key,
            lives: Lives {
                user: lives.user.min(LIFE_MAX),
                channel: lives.channel.min(LIFE_MAX),
            },
            rng,
            accounts: BTreeMap::new(),
            closed: BTreeSet::new(),
            revocations: Revocations::default(),
            seals: Seals::new(ratchet),
            is_private: false,
            changes: Vec::new(),
        })
    }

    /// Changes the keys of sealed channels by these rules.
    pub const fn set_seal_rules(&mut self, rules: Rules) {
        self.seals.set_rules(rules);
    }

    /// Says that nobody can read what any asker is answered: there is TLS.
    pub const fn set_private(&mut self) {
        self.is_private = true;
    }

    /// What is to be stored because of requests, before they are answered.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// The row that keeps a key over a restart.
    pub fn row_of(key: &SigningKey) -> Change {
        Change {
            table: Table::Keys,
            key: KEY_ROW.to_owned(),
            value: Some(key.to_pem()),
        }
    }

    /// The key in a row, when it is the one of tickets.
    pub fn key_in(table: Table, key: &str, value: &str) -> Option<SigningKey> {
        (table == Table::Keys && key == KEY_ROW)
            .then(|| SigningKey::from_pem(value).ok())
            .flatten()
    }

    /// Takes a row that was stored; rows of others are passed over.
    ///
    /// # Errors
    ///
    /// [`OfficeError::Row`] for one of ours that is damaged.
    pub fn load(&mut self, table: Table, key: &str, value: &str) -> Result<(), OfficeError> {
        let damaged = OfficeError::Row;
        match table {
            Table::Accounts => {
                let row: AccountRow = serde_json::from_str(value).map_err(|_| damaged)?;
                let hash = decode_hex(&row.secret_sha256).map_err(|_| damaged)?;
                let account = Account {
                    secret_hash: hash.try_into().map_err(|_| damaged)?,
                    roles: Roles::from_bits(row.roles).ok_or(damaged)?,
                    holder: if row.client {
                        Holder::Client
                    } else {
                        Holder::Peer
                    },
                };
                self.accounts.insert(key.to_owned(), account);
            }
            Table::Revocations => {
                let row: RevocationRow = serde_json::from_str(value).map_err(|_| damaged)?;
                let user = key.to_owned();
                self.revocations.add(&Revocation { user, at: row.at });
            }
            Table::Meta => {
                if let Some(name) = key.strip_prefix(CLOSED_ROWS) {
                    self.closed.insert(name.to_owned());
                }
            }
            Table::Keys => self.seals.load(key, value)?,
            _ => {}
        }
        Ok(())
    }

    /// Takes all rows anew, after another tool or tracker wrote some: users, closed channels and keys of sealed ones that
    /// are not among them are gone.
    ///
    /// # Errors
    ///
    /// [`OfficeError::Row`] when one of them is damaged; the others are taken.
    pub fn load_again(&mut self, now: Instant, rows: &[Change]) -> Result<(), OfficeError> {
        self.accounts.clear();
        self.closed.clear();
        let mut outcome = self.seals.take_all(now, rows);
        for row in rows.iter().filter(|row| row.table != Table::Keys) {
            let value = row.value.as_deref().unwrap_or_default();
            let loaded = self.load(row.table, &row.key, value);
            outcome = outcome.and(loaded);
        }
        let accounts = &self.accounts;
        self.seals.retain_users(|user| accounts.contains_key(user));
        outcome
    }

    // --- the operator's orders ------------------------------------------------------------------------------------

    /// Makes a user whose secret is `secret`.
    ///
    /// # Errors
    ///
    /// A name that cannot be one, or that is taken; too many users.
    pub fn add_user(
        &mut self,
        name: &str,
        secret: &Secret,
        roles: Roles,
    ) -> Result<Vec<Change>, OfficeError> {
        if !is_channel_name(name) {
            return Err(OfficeError::Name);
        }
        if self.accounts.contains_key(name) {
            return Err(OfficeError::Exists);
        }
        if self.accounts.len() >= ACCOUNTS_MAX {
            return Err(OfficeError::Full);
        }
        let account = Account {
            secret_hash: hash(name, secret),
            roles,
            holder: Holder::Peer,
        };
        let row = AccountRow {
            secret_sha256: hex(&account.secret_hash),
            roles: roles.bits(),
            client: account.holder == Holder::Client,
        };
        self.accounts.insert(name.to_owned(), account);
        Ok(vec![put(Table::Accounts, name, &row)])
    }

    /// Shuts a user out: his name is free again, and what he was given is void.
    ///
    /// # Errors
    ///
    /// [`OfficeError::NoSuchUser`].
    pub fn revoke_user(&mut self, now: Instant, name: &str) -> Result<Vec<Change>, OfficeError> {
        self.accounts.remove(name).ok_or(OfficeError::NoSuchUser)?;
        let revocation = Revocation {
            user: name.to_owned(),
            at: self.unix(now),
        };
        self.revocations.add(&revocation);
        let row = RevocationRow { at: revocation.at };
        let mut changes = vec![
            Change {
                table: Table::Accounts,
                key: name.to_owned(),
                value: None,
            },
            put(Table::Revocations, name, &row),
        ];
        changes.extend(self.seals.revoke(now, revocation.at, name));
        Ok(changes)
    }

    /// Closes a channel, or opens it.
    ///
    /// # Errors
    ///
    /// [`OfficeError::Name`].
    pub fn set_closed(&mut self, name: &str, closed: bool) -> Result<Vec<Change>, OfficeError> {
        if !is_channel_name(name) {
            return Err(OfficeError::Name);
        }
        if closed {
            self.closed.insert(name.to_owned());
        } else {
            self.closed.remove(name);
        }
        let mut changes = vec![Change {
            table: Table::Meta,
            key: format!("{CLOSED_ROWS}{name}"),
            value: closed.then(|| "true".to_owned()),
        }];
        if !closed {
            changes.extend(self.seals.open(name));
        }
        Ok(changes)
    }

    /// Every user and what he may do, by name.
    pub fn users(&self) -> impl Iterator<Item = (&str, Roles)> {
        self.accounts
            .iter()
            .map(|(name, account)| (name.as_str(), account.roles))
    }

    /// Whether there is a user of that name.
    pub fn has_user(&self, name: &str) -> bool {
        self.accounts.contains_key(name)
    }

    /// Whether that is the secret of a user.
    pub fn knows(&self, name: &str, secret: &str) -> bool {
        let account = self.accounts.get(name);
        Secret::new(secret)
            .is_some_and(|secret| account.is_some_and(|known| known.is_secret(name, &secret)))
    }

    /// Every channel that is closed, by name.
    pub fn closed(&self) -> impl Iterator<Item = &str> {
        self.closed.iter().map(String::as_str)
    }

    // --- requests ---------------------------------------------------------------------------------------------------

    /// Who asks: the name of the user, or none where nobody has to say. Whatever he says has to be true.
    ///
    /// # Errors
    ///
    /// Why he is not served.
    pub fn admit(&self, now: Instant, visit: &Visit<'_>) -> Result<Option<String>, LoginError> {
        let access = visit.access;
        let user = match (&access.ticket, visit.user, &access.token) {
            (Some(ticket), ..) => {
                let key = access.key.as_ref().ok_or(LoginError::NoKey)?;
                let ticket = Ticket::open(ticket, &[self.public])?;
                let demand = Demand {
                    swarm_id: None,
                    key,
                    roles: Roles::NONE,
                    now_s: self.unix(now),
                };
                ticket.admits(&demand, &self.revocations)?;
                Some(ticket.claims().user.clone())
            }
            (None, Some(user), Some(token)) => {
                let found = self.accounts.get(user).ok_or(LoginError::Unknown)?;
                if !found.is_secret(user, token) {
                    return Err(LoginError::Unknown);
                }
                Some(user.to_owned())
            }
            (None, None, Some(_)) => return Err(LoginError::Unknown),
            (None, _, None) => None,
        };
        let is_closed = visit.channel.is_some_and(|name| self.closed.contains(name));
        if let Some(channel) = visit.channel.filter(|_| visit.seals()) {
            if !is_closed {
                return Err(LoginError::Open(channel.to_owned()));
            }
            if !visit.is_private && !self.is_private {
                return Err(LoginError::Insecure);
            }
        }
        match &user {
            Some(user) => {
                let account = self.accounts.get(user).ok_or(LoginError::Unknown)?;
                let needed = needed(visit.role);
                if is_closed && !account.roles.allow(needed) {
                    return Err(LoginError::Role {
                        user: user.clone(),
                        allowed: account.roles,
                        needed,
                    });
                }
            }
            None if is_closed => return Err(LoginError::Needed),
            None => {}
        }
        Ok(user)
    }

    /// What the answer says about tickets.
    pub fn answer(
        &mut self,
        now: Instant,
        visit: &Visit<'_>,
        user: Option<&str>,
        swarm_id: Option<&SwarmId>,
        is_new: bool,
    ) -> AccessResponse {
        let is_closed = visit.channel.is_some_and(|name| self.closed.contains(name));
        let mut answer = AccessResponse {
            auth: visit.channel.map(|_| ChannelAuth {
                issuers: vec![self.public],
                closed: is_closed,
            }),
            ..AccessResponse::default()
        };
        if is_closed {
            let now_s = self.unix(now);
            answer.revoked = self.revocations.recent(now_s).collect();
            // The newest matter most: the others end soon anyway.
            answer
                .revoked
                .sort_unstable_by_key(|revoked| std::cmp::Reverse(revoked.at));
            answer.revoked.truncate(REVOKED_TOLD_MAX);
        }
        let (Some(user), Some(key)) = (user, visit.access.key) else {
            return answer;
        };
        if let Some((channel, reader)) = self.reader(visit, user) {
            let now_s = self.unix(now);
            let (keys, changes) = self.seals.visit(now, now_s, channel, &reader);
            answer.seal = keys;
            self.changes.extend(changes);
        }
        if is_new || visit.access.renew {
            answer.user_ticket = self.issue(now, user, key, None);
            answer.channel_ticket = swarm_id.and_then(|id| self.issue(now, user, key, Some(id)));
        }
        answer
    }

    /// A ticket of a user, for trackers or for one channel.
    pub fn issue(
        &mut self,
        now: Instant,
        user: &str,
        key: PeerKey,
        swarm_id: Option<&SwarmId>,
    ) -> Option<Bytes> {
        let account = self.accounts.get(user)?;
        let not_before = self.unix(now);
        let claims = Claims {
            swarm_id: swarm_id.cloned(),
            roles: account.roles,
            holder: account.holder,
            not_before,
            not_after: not_before
                + match swarm_id {
                    Some(_) => self.lives.channel.as_secs(),
                    None => self.lives.user.as_secs(),
                },
            nonce: self.rng.bytes().first_chunk().copied()?,
            key,
            user: user.to_owned(),
        };
        claims.sign(&self.key)
    }

    /// Says that somebody is in a swarm at an address, for neighbours of his to pass on.
    pub fn certify(
        &self,
        now: Instant,
        key: Option<PeerKey>,
        addr: SocketAddr,
        swarm_id: &SwarmId,
    ) -> Option<Bytes> {
        membership::issue(&self.key, key, addr, swarm_id, self.unix(now))
    }

    fn unix(&self, now: Instant) -> u64 {
        self.epoch.unix_micros(now) / 1_000_000
    }
}

/// The user's name is hashed along: the same secret twice does not show.
fn hash(user: &str, secret: &Secret) -> [u8; 32] {
    let text = ["p2ps secret v1", user, secret.reveal()].join("\0");
    let hash = digest(HashFunction::Sha256, text.as_bytes());
    hash.as_bytes().first_chunk().copied().unwrap_or_default()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn put(table: Table, key: &str, row: &impl Serialize) -> Change {
    Change {
        table,
        key: key.to_owned(),
        value: Some(serde_json::to_string(row).expect("plain members")),
    }
}

#[cfg(test)]
mod tests;
