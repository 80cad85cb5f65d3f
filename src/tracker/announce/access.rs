//! Who the announcing peer is, and the tickets that trackers give it: a new one is asked for after half of a life.

use std::time::Duration;

use bytes::Bytes;

use super::{Announcer, Event};
use crate::ids::PeerKey;
use crate::integrity::membership;
use crate::time::Instant;
use crate::tracker::message::{AccessRequest, AccessResponse, ChannelAuth, SealKeys, Secret};
use crate::tracker::ticket::{Claims, LIFE_MAX};

/// What the announcer tells trackers about who it speaks for.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The key that neighbours know the peer by.
    pub key: PeerKey,
    /// The user and his secret, where there is one.
    pub login: Option<(String, Secret)>,
    /// A ticket of the user that was had before.
    pub ticket: Option<Bytes>,
}

/// What one tracker gave.
#[derive(Debug, Default)]
pub(super) struct Held {
    user_ticket: Option<Bytes>,
    /// When to ask for new ones.
    pub(super) renew_at: Option<Instant>,
    auth: Option<ChannelAuth>,
    /// When to ask for another membership certificate.
    certify_at: Option<Instant>,
    /// Keys to the channel, as it gave them last.
    seal: Option<SealKeys>,
}

impl Held {
    /// Whether the tracker is to say again where we are: after half of a certificate's life.
    pub(super) fn wants_certificate(&self, now: Instant) -> bool {
        self.certify_at.is_none_or(|at| at <= now)
    }

    /// Whether the tracker has given a key that it does not have the source use yet, or none to a source that seals.
    pub(super) fn awaits_key(&self, is_sealing: bool) -> bool {
        match &self.seal {
            Some(seal) => seal.newest() > seal.seal_with,
            None => is_sealing,
        }
    }
}

/// When half of a ticket's life is over, for one that came now. Spans, so that no wall clock is needed.
fn renew_at(now: Instant, ticket: &[u8]) -> Option<Instant> {
    let claims = Claims::read(ticket).ok()?;
    let life = claims.not_after.saturating_sub(claims.not_before);
    Some(now + Duration::from_secs(life.min(LIFE_MAX.as_secs())) / 2)
}

impl Announcer {
    /// Says from now on who asks.
    pub fn set_credentials(&mut self, credentials: Credentials) {
        for tracker in &mut self.trackers {
            tracker.held.user_ticket.clone_from(&credentials.ticket);
        }
        self.credentials = Some(credentials);
    }

    /// What the next request to a tracker says about who asks.
    pub(super) fn access(&self, now: Instant, index: usize) -> AccessRequest {
        let (Some(credentials), Some(tracker)) = (&self.credentials, self.trackers.get(index))
        else {
            return AccessRequest::default();
        };
        let held = &tracker.held;
        let mut access = AccessRequest {
            key: Some(credentials.key),
            renew: held.renew_at.is_some_and(|at| at <= now),
            seal: self.is_sealing,
            epoch: held.seal.as_ref().and_then(SealKeys::newest),
            ..AccessRequest::default()
        };
        match (&held.user_ticket, &credentials.login) {
            (Some(ticket), _) => access.ticket = Some(ticket.clone()),
            (None, Some((_, secret))) => access.token = Some(secret.clone()),
            (None, None) => {}
        }
        access
    }

    /// The user in whose name the announcer speaks.
    pub(super) fn user(&self) -> Option<String> {
        let login = self.credentials.as_ref()?.login.as_ref();
        login.map(|(user, _)| user.clone())
    }

    /// Takes what a tracker says about tickets.
    pub(super) fn take_access(&mut self, now: Instant, index: usize, access: AccessResponse) {
        let Some(tracker) = self.trackers.get_mut(index) else {
            return;
        };
        let tickets = [&access.user_ticket, &access.channel_ticket];
        let renewals = tickets.into_iter().flatten();
        if let Some(at) = renewals.filter_map(|ticket| renew_at(now, ticket)).min() {
            tracker.held.renew_at = Some(at);
        }
        if access.user_ticket.is_some() {
            tracker.held.user_ticket = access.user_ticket;
        }
        if access.auth.is_some() && tracker.held.auth != access.auth {
            tracker.held.auth = access.auth;
            let mut all = ChannelAuth::default();
            for auth in self.trackers.iter().filter_map(|it| it.held.auth.as_ref()) {
                all.closed |= auth.closed;
                let new = auth.issuers.iter().filter(|key| !all.issuers.contains(key));
                let new: Vec<PeerKey> = new.copied().collect();
                all.issuers.extend(new);
            }
            self.events.push_back(Event::Auth(all));
        }
        if !access.revoked.is_empty() && self.revoked != access.revoked {
            self.revoked.clone_from(&access.revoked);
            self.events.push_back(Event::Revoked(access.revoked));
        }
        if let Some(seal) = access.seal {
            self.take_seal(now, index, seal);
        }
        if let Some(ticket) = access.channel_ticket {
            self.events.push_back(Event::Ticket(ticket));
        }
    }

    /// Takes what a tracker says of where we are.
    pub(super) fn take_certificate(&mut self, now: Instant, index: usize, certificate: Bytes) {
        if let Some(tracker) = self.trackers.get_mut(index) {
            tracker.held.certify_at = Some(now + membership::LIFE / 2);
        }
        self.events.push_back(Event::Certificate(certificate));
    }

    /// Has trackers give keys to seal the channel with, from its source.
    pub const fn set_sealing(&mut self) {
        self.is_sealing = true;
    }

    /// Takes the keys that a tracker gave. That we have a new one is told soon: others wait until all have it.
    fn take_seal(&mut self, now: Instant, index: usize, seal: SealKeys) {
        let Some(tracker) = self.trackers.get_mut(index) else {
            return;
        };
        let before = tracker.held.seal.as_ref();
        if before == Some(&seal) {
            return;
        }
        if before.and_then(SealKeys::newest) != seal.newest() {
            tracker.has_news = true;
            tracker.report_at = tracker.report_at.min(tracker.soon(now));
        }
        self.follow(index, &seal);
        if let Some(tracker) = self.trackers.get_mut(index) {
            tracker.held.seal = Some(seal);
        }
        let mut all = SealKeys {
            seal_with: self.seals_with.map(|(epoch, _)| epoch),
            keys: Vec::new(),
        };
        for seal in self.trackers.iter().filter_map(|it| it.held.seal.as_ref()) {
            for known in &seal.keys {
                if !all.keys.contains(known) {
                    all.keys.push(known.clone());
                }
            }
        }
        self.events.push_back(Event::Seal(all));
    }

    /// Sees which key the source is to seal with. Trackers that share a store have one sequence of keys, and whichever
    /// names a later one is right: the others have yet to hear of it, or are dead. Of trackers that have keys of their own
    /// the first that names one is followed.
    fn follow(&mut self, index: usize, seal: &SealKeys) {
        let Some(named) = seal.seal_with else {
            return;
        };
        if let Some((used, of)) = self.seals_with {
            let knows =
                |seal: &SealKeys, wanted| seal.keys.iter().any(|(epoch, _)| *epoch == wanted);
            let goes_on = named > used && knows(seal, used);
            let followed = self.trackers.get(of).and_then(|it| it.held.seal.as_ref());
            let is_past = named < used && followed.is_some_and(|seal| knows(seal, named));
            if !goes_on && (index > of || is_past) {
                return;
            }
        }
        self.seals_with = Some((named, index));
    }

    /// A tracker does not take our ticket: true when the secret is to be tried in its place.
    pub(super) fn drop_ticket(&mut self, index: usize) -> bool {
        let has_login = self
            .credentials
            .as_ref()
            .is_some_and(|credentials| credentials.login.is_some());
        let tracker = self.trackers.get_mut(index).filter(|_| has_login);
        tracker.is_some_and(|tracker| tracker.held.user_ticket.take().is_some())
    }
}
