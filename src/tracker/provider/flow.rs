//! The event flow of a newcomer as calls: log in, choose a content, contract or join, set the status, leave.
//!
//! Calls out of this order are refused, each with the step that is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::integrity::hash::digest;
use crate::time::Instant;
use crate::wire::option::HashFunction;

use super::error::{Code, Refused, refused};
use super::status::{Kind, Status};
use super::user::User;
use super::{Ask, Provider};

/// Logins at a time.
pub(super) const SESSIONS_MAX: usize = 100_000;

/// A login that nobody uses for so long is over.
const SESSION_SPAN: Duration = Duration::from_secs(3600);

/// Bytes of the digest that a token shows.
const TOKEN_BYTES: usize = 16;

/// One login.
#[derive(Clone, Debug)]
struct Session {
    account: Arc<str>,
    content: Option<Arc<str>>,
    user: Option<Arc<str>>,
    expires: Instant,
}

/// All logins, by their token.
#[derive(Debug)]
pub(super) struct Sessions {
    secret: [u8; 32],
    count: u64,
    table: BTreeMap<String, Session>,
    timers: BTreeSet<(Instant, String)>,
}

impl Sessions {
    pub(super) const fn new(secret: [u8; 32]) -> Self {
        Self {
            secret,
            count: 0,
            table: BTreeMap::new(),
            timers: BTreeSet::new(),
        }
    }

    /// Forgets logins that nobody used for long.
    pub(super) fn expire(&mut self, now: Instant) {
        while self.timers.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, token)) = self.timers.pop_first() {
                self.table.remove(&token);
            }
        }
    }

    fn open(&mut self, now: Instant, account: &str) -> Result<String, Refused> {
        if self.table.len() >= SESSIONS_MAX {
            return refused(Code::Full, "too many logins at a time");
        }
        self.count += 1;
        let mut text = self.secret.to_vec();
        text.extend_from_slice(&self.count.to_be_bytes());
        text.extend_from_slice(account.as_bytes());
        let digest = digest(HashFunction::Sha256, &text);
        let token = data_encoding::HEXLOWER.encode(
            digest
                .as_bytes()
                .get(..TOKEN_BYTES)
                .expect("a SHA-256 digest has 32 bytes"),
        );
        let expires = now + SESSION_SPAN;
        self.timers.insert((expires, token.clone()));
        self.table.insert(
            token.clone(),
            Session {
                account: account.into(),
                content: None,
                user: None,
                expires,
            },
        );
        Ok(token)
    }

    /// A login that somebody shows, for another hour.
    fn get(&mut self, now: Instant, token: &str) -> Result<&mut Session, Refused> {
        let Some(session) = self.table.get_mut(token) else {
            return refused(Code::NotLoggedIn, "session: log in first");
        };
        self.timers.remove(&(session.expires, token.to_owned()));
        session.expires = now + SESSION_SPAN;
        self.timers.insert((session.expires, token.to_owned()));
        Ok(session)
    }
}

impl Provider {
    /// Opens a session for an account whose secret was checked. Gives its token.
    ///
    /// # Errors
    ///
    /// [`Code::Full`].
    pub fn login(&mut self, now: Instant, account: &str) -> Result<String, Refused> {
        self.sessions.open(now, account)
    }

    /// The account of a session.
    ///
    /// # Errors
    ///
    /// [`Code::NotLoggedIn`].
    pub fn account_of(&mut self, now: Instant, token: &str) -> Result<Arc<str>, Refused> {
        let session = self.sessions.get(now, token)?;
        Ok(Arc::clone(&session.account))
    }

    /// The content of a session.
    ///
    /// # Errors
    ///
    /// [`Code::NotLoggedIn`], [`Code::NoContent`].
    pub fn content_of(&mut self, now: Instant, token: &str) -> Result<Arc<str>, Refused> {
        let session = self.sessions.get(now, token)?;
        match &session.content {
            Some(content) => Ok(Arc::clone(content)),
            None => refused(Code::NoContent, "content: choose one first"),
        }
    }

    /// Chooses a content; the session forgets whom he was on another.
    ///
    /// # Errors
    ///
    /// [`Code::NotLoggedIn`].
    pub fn choose(&mut self, now: Instant, token: &str, content: &str) -> Result<(), Refused> {
        let session = self.sessions.get(now, token)?;
        if session.content.as_deref() != Some(content) {
            session.content = Some(content.into());
            session.user = None;
        }
        Ok(())
    }

    /// Makes the holder of a session a user of the content that he chose: account and content of `ask` are the
    /// session's.
    ///
    /// # Errors
    ///
    /// As [`enrol`](Self::enrol), and when no content was chosen.
    pub fn contract_in(
        &mut self,
        now: Instant,
        token: &str,
        ask: &Ask<'_>,
    ) -> Result<Arc<str>, Refused> {
        let content = self.content_of(now, token)?;
        let account = self.account_of(now, token)?;
        let user = self.enrol(
            now,
            &Ask {
                account: &account,
                content: &content,
                ..*ask
            },
        )?;
        self.sessions.get(now, token)?.user = Some(Arc::clone(&user));
        Ok(user)
    }

    /// The user of a session.
    ///
    /// # Errors
    ///
    /// [`Code::NotLoggedIn`], [`Code::NoContent`], [`Code::NotContracted`].
    pub fn user_in(&mut self, now: Instant, token: &str) -> Result<Arc<str>, Refused> {
        self.content_of(now, token)?;
        let user = self.sessions.get(now, token)?.user.clone();
        match user.filter(|user| self.users.get(user).is_some()) {
            Some(user) => Ok(user),
            None => refused(Code::NotContracted, "user: contract or join first"),
        }
    }

    /// Sets the status of a user: whom it serves is its own decision, as far as its quality allows.
    ///
    /// # Errors
    ///
    /// [`Code::NotAllowed`], [`Code::NoSuchUser`].
    pub fn set_status(&mut self, id: &str, status: Status) -> Result<(), Refused> {
        let Some(user) = self.users.get(id) else {
            return refused(Code::NoSuchUser, format!("no user {id:?}"));
        };
        if user.status.kind() != status.kind() {
            let is = match user.status.kind() {
                Kind::Client => "a client",
                Kind::Peer => "a peer",
            };
            return refused(
                Code::NotAllowed,
                format!("{id} is {is}: it cannot have status {status}"),
            );
        }
        self.may_have(status, &user.qos)?;
        self.users.edit(id, |user| user.status = status);
        // Also what he is already: that may not be kept yet.
        self.save_user(id);
        Ok(())
    }

    /// A user leaves for good: its contract is over at once, and nothing is given back.
    pub fn leave(&mut self, id: &str) {
        let leave = |user: &mut User| {
            user.peer = None;
            user.contract
        };
        let contract = self.users.edit(id, leave).flatten();
        match contract.and_then(|no| self.books.contract(no)).cloned() {
            Some(contract) => self.end(&contract),
            None => self.forget(id),
        }
    }
}
