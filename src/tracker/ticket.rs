//! Tickets: what a tracker allows whom, in a few signed bytes that others can check without asking it.
//!
//! A *user ticket* says who somebody is and is shown to trackers; a *channel ticket* opens one channel and is shown to
//! neighbours. Both are bound to the key of their holder, who proves it each time (`peer::auth`): a copy is worth nothing
//! to anybody else (S-45). They hold for minutes and are renewed; what must end sooner is told by [`Revocations`].

pub mod check;
pub mod office;
pub mod orders;
pub mod seals;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use super::message::is_channel_name;
use crate::ids::{PeerKey, SwarmId};
use crate::integrity::key::{SigningKey, VerifyingKey};

/// How long a ticket holds when nobody says otherwise.
pub const LIFE: Duration = Duration::from_secs(600);
/// No ticket holds longer (algorithms §3.7).
pub const LIFE_MAX: Duration = Duration::from_secs(3600);
/// By how much the clock of a tracker may be ahead of that of whoever checks.
pub const SKEW: Duration = Duration::from_secs(60);
/// A ticket and its envelope fit into one datagram.
pub const TICKET_BYTES_MAX: usize = 1180;
/// Users whose tickets are void at once: as many were revoked within one [`LIFE_MAX`].
pub const REVOCATIONS_MAX: usize = 4096;

/// The only form there is.
const VERSION: u8 = 1;
/// Keeps these signatures apart from all others that a key may make.
const LABEL: &[u8] = b"p2ps ticket v1\0";
const SIGNATURE_BYTES: usize = 64;

/// What a ticket is shown to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Trackers: who the holder is.
    User,
    /// Neighbours: what the holder may do in one channel.
    Channel,
}

impl Kind {
    const fn code(self) -> u8 {
        match self {
            Self::User => 1,
            Self::Channel => 2,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Channel => "channel",
        }
    }
}

/// What the holder is to the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Takes the stream and passes nothing on.
    Client,
    /// Passes it on as well.
    Peer,
}

/// What somebody may do in a channel: any of three.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles(u8);

impl Roles {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Play the stream, and pass it on while playing.
    pub const WATCH: Self = Self(1);
    /// Pass the stream on as a relay.
    pub const SERVE: Self = Self(2);
    /// Make the stream.
    pub const PUBLISH: Self = Self(4);
    /// All three.
    pub const ALL: Self = Self(7);

    /// From the byte of a ticket; none when it says what is not known here.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits <= Self::ALL.0 {
            Some(Self(bits))
        } else {
            None
        }
    }

    /// The byte of a ticket.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// These and those.
    #[must_use]
    pub const fn with(self, more: Self) -> Self {
        Self(self.0 | more.0)
    }

    /// Whether all of `needed` are among them.
    pub const fn allow(self, needed: Self) -> bool {
        self.0 & needed.0 == needed.0
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Self::WATCH, "watch"),
            (Self::SERVE, "serve"),
            (Self::PUBLISH, "publish"),
        ];
        let mut first = true;
        for (role, name) in names {
            if self.allow(role) {
                if !first {
                    f.write_str(" and ")?;
                }
                f.write_str(name)?;
                first = false;
            }
        }
        if first {
            f.write_str("nothing")
        } else {
            Ok(())
        }
    }
}

/// Why a ticket is not honoured; each text completes "refused: …".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TicketError {
    /// No ticket was shown.
    #[error("no ticket")]
    Missing,
    /// Bytes that are no ticket.
    #[error("ticket is damaged")]
    Damaged,
    /// A later form.
    #[error("ticket has version {0}, this tool knows 1")]
    Version(u8),
    /// Signed in the name of nobody that we know.
    #[error("ticket is from another tracker")]
    Issuer,
    /// Not what the tracker signed.
    #[error("ticket was changed: its signature does not hold")]
    Signature,
    /// Made to be shown elsewhere.
    #[error("ticket is for {}", if *found == Kind::User { "trackers, not for a channel" } else { "a channel, not for trackers" })]
    Kind {
        /// What it is.
        found: Kind,
    },
    /// Opens another channel.
    #[error("ticket is for another channel")]
    Channel,
    /// Belongs to somebody else.
    #[error("ticket belongs to another key")]
    Key,
    /// Allows less.
    #[error("ticket allows to {allowed}, not to {needed}")]
    Role {
        /// What it allows.
        allowed: Roles,
        /// What was to be done.
        needed: Roles,
    },
    /// Holds for longer than any may.
    #[error("ticket holds for {}, longer than any may", span(*.0))]
    TooLong(u64),
    /// Does not hold yet.
    #[error("ticket is not valid before {} from now", span(*.0))]
    Early(u64),
    /// Held until so many seconds ago.
    #[error("ticket expired {} ago", span(*.0))]
    Expired(u64),
    /// Its user was shut out after it was made.
    #[error("ticket was revoked")]
    Revoked,
}

/// Seconds in the largest unit that they fill.
fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}min", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// What a ticket says. Whoever holds one may read it; only [`Ticket::open`] tells whether it is true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// What it is shown to, and which channel it opens: none for trackers.
    pub swarm_id: Option<SwarmId>,
    /// What is allowed.
    pub roles: Roles,
    /// What the holder is.
    pub holder: Holder,
    /// When it was made, Unix seconds: it holds from then on.
    pub not_before: u64,
    /// When it ends, Unix seconds.
    pub not_after: u64,
    /// Tells tickets apart.
    pub nonce: [u8; 16],
    /// The key that the holder must prove.
    pub key: PeerKey,
    /// Who the holder is: 1 to 64 of `A-Z a-z 0-9 . _ -`.
    pub user: String,
}

impl Claims {
    /// What it is shown to.
    pub const fn kind(&self) -> Kind {
        match self.swarm_id {
            Some(_) => Kind::Channel,
            None => Kind::User,
        }
    }

    /// When to ask for the next one: after half of its life.
    pub const fn renew_at(&self) -> u64 {
        self.not_before + self.not_after.saturating_sub(self.not_before) / 2
    }

    /// The ticket, signed by the key of a tracker. None when that key is not Ed25519, or the user's name or the swarm
    /// identifier does not fit.
    pub fn sign(&self, issuer: &SigningKey) -> Option<Bytes> {
        if !is_channel_name(&self.user) {
            return None;
        }
        let swarm = self.swarm_id.as_ref().map_or(&[][..], SwarmId::as_bytes);
        let mut out = vec![
            VERSION,
            self.kind().code(),
            self.roles.bits(),
            match self.holder {
                Holder::Client => 0,
                Holder::Peer => 1,
            },
        ];
        out.extend_from_slice(&self.not_before.to_be_bytes());
        out.extend_from_slice(&self.not_after.to_be_bytes());
        out.extend_from_slice(&self.nonce);
        out.extend_from_slice(self.key.as_bytes());
        out.extend_from_slice(issuer.peer_key()?.as_bytes());
        out.push(u8::try_from(self.user.len()).ok()?);
        out.extend_from_slice(self.user.as_bytes());
        out.extend_from_slice(&u16::try_from(swarm.len()).ok()?.to_be_bytes());
        out.extend_from_slice(swarm);
        if out.len() + SIGNATURE_BYTES > TICKET_BYTES_MAX {
            return None;
        }
        let signature = issuer.sign(&[LABEL, &out].concat());
        out.extend_from_slice(&signature);
        Some(out.into())
    }

    /// Reads a ticket without asking whether it is genuine: for its holder.
    ///
    /// # Errors
    ///
    /// [`TicketError::Version`] and [`TicketError::Damaged`].
    pub fn read(bytes: &[u8]) -> Result<Self, TicketError> {
        read(bytes).map(|(claims, _)| claims)
    }
}

/// Claims and the key in whose name they were signed.
fn read(bytes: &[u8]) -> Result<(Claims, PeerKey), TicketError> {
    let (&version, _) = bytes.split_first().ok_or(TicketError::Damaged)?;
    if version != VERSION {
        return Err(TicketError::Version(version));
    }
    if bytes.len() > TICKET_BYTES_MAX {
        return Err(TicketError::Damaged);
    }
    read_body(bytes).ok_or(TicketError::Damaged)
}

fn read_body(bytes: &[u8]) -> Option<(Claims, PeerKey)> {
    fn fixed<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
        let (head, tail) = rest.split_first_chunk::<N>()?;
        *rest = tail;
        Some(*head)
    }
    fn slice<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
        let (head, tail) = rest.split_at_checked(length)?;
        *rest = tail;
        Some(head)
    }
    let mut rest = bytes;
    let [_, kind, roles, holder] = fixed(&mut rest)?;
    let roles = Roles::from_bits(roles)?;
    let holder = match holder {
        0 => Holder::Client,
        1 => Holder::Peer,
        _ => return None,
    };
    let not_before = u64::from_be_bytes(fixed(&mut rest)?);
    let not_after = u64::from_be_bytes(fixed(&mut rest)?);
    let nonce = fixed(&mut rest)?;
    let key = PeerKey::from_bytes(fixed(&mut rest)?);
    let issuer = PeerKey::from_bytes(fixed(&mut rest)?);
    let [length] = fixed(&mut rest)?;
    let user = str::from_utf8(slice(&mut rest, usize::from(length))?).ok()?;
    let length = u16::from_be_bytes(fixed(&mut rest)?);
    let swarm = slice(&mut rest, usize::from(length))?;
    let swarm_id = match kind {
        1 if swarm.is_empty() => None,
        2 => Some(SwarmId::new(Bytes::copy_from_slice(swarm)).ok()?),
        _ => return None,
    };
    if rest.len() != SIGNATURE_BYTES || !is_channel_name(user) || not_after < not_before {
        return None;
    }
    let claims = Claims {
        swarm_id,
        roles,
        holder,
        not_before,
        not_after,
        nonce,
        key,
        user: user.to_owned(),
    };
    Some((claims, issuer))
}

/// What somebody wants, which a ticket may allow.
#[derive(Clone, Copy, Debug)]
pub struct Demand<'a> {
    /// The channel; none at a tracker.
    pub swarm_id: Option<&'a SwarmId>,
    /// The key that was proven.
    pub key: &'a PeerKey,
    /// What is to be done.
    pub roles: Roles,
    /// Unix seconds.
    pub now_s: u64,
}

/// A ticket that is what a tracker signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket(Claims);

impl Ticket {
    /// Reads a ticket and checks that one of the `issuers` signed it. Whether it allows anything now is for
    /// [`admits`](Self::admits) to say.
    ///
    /// # Errors
    ///
    /// [`TicketError::Damaged`], [`Version`](TicketError::Version), [`Issuer`](TicketError::Issuer) and
    /// [`Signature`](TicketError::Signature).
    pub fn open(bytes: &[u8], issuers: &[PeerKey]) -> Result<Self, TicketError> {
        let (claims, issuer) = read(bytes)?;
        if !issuers.contains(&issuer) {
            return Err(TicketError::Issuer);
        }
        let signed = bytes.len().saturating_sub(SIGNATURE_BYTES);
        let (content, signature) = bytes.split_at_checked(signed).unwrap_or_default();
        let genuine = VerifyingKey::from_peer_key(&issuer)
            .is_ok_and(|key| key.verify(&[LABEL, content].concat(), signature));
        if genuine {
            Ok(Self(claims))
        } else {
            Err(TicketError::Signature)
        }
    }

    /// What it says.
    pub const fn claims(&self) -> &Claims {
        &self.0
    }

    /// Whether it allows what is wanted, and was not revoked.
    ///
    /// # Errors
    ///
    /// The first reason why not.
    pub fn admits(
        &self,
        demand: &Demand<'_>,
        revocations: &Revocations,
    ) -> Result<(), TicketError> {
        let Claims {
            swarm_id,
            roles,
            not_before,
            not_after,
            key,
            ..
        } = &self.0;
        if swarm_id.is_some() != demand.swarm_id.is_some() {
            return Err(TicketError::Kind {
                found: self.0.kind(),
            });
        }
        if swarm_id.as_ref() != demand.swarm_id {
            return Err(TicketError::Channel);
        }
        if key != demand.key {
            return Err(TicketError::Key);
        }
        if !roles.allow(demand.roles) {
            return Err(TicketError::Role {
                allowed: *roles,
                needed: demand.roles,
            });
        }
        if not_after - not_before > LIFE_MAX.as_secs() {
            return Err(TicketError::TooLong(not_after - not_before));
        }
        if demand.now_s.saturating_add(SKEW.as_secs()) < *not_before {
            return Err(TicketError::Early(not_before - demand.now_s));
        }
        if demand.now_s >= *not_after {
            return Err(TicketError::Expired(demand.now_s - not_after));
        }
        if revocations.cover(&self.0) {
            return Err(TicketError::Revoked);
        }
        Ok(())
    }
}

/// A user was shut out: what he was given up to then is void.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Revocation {
    /// Who.
    pub user: String,
    /// When, Unix seconds; tickets made later hold.
    pub at: u64,
}

/// Whose tickets are void though they have not ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revocations(BTreeMap<String, u64>);

impl Revocations {
    /// Notes one. When there are too many, the oldest goes: its tickets have ended, or will have first.
    pub fn add(&mut self, revocation: &Revocation) {
        let at = self.0.entry(revocation.user.clone()).or_default();
        *at = revocation.at.max(*at);
        if self.0.len() > REVOCATIONS_MAX {
            let oldest = self.0.iter().min_by_key(|(_, at)| **at);
            if let Some(user) = oldest.map(|(user, _)| user.clone()) {
                self.0.remove(&user);
            }
        }
    }

    /// Those that a ticket may still be held against, by user.
    pub fn recent(&self, now_s: u64) -> impl Iterator<Item = Revocation> {
        let limit = LIFE_MAX.as_secs() + SKEW.as_secs();
        self.0
            .iter()
            .filter(move |(_, at)| at.saturating_add(limit) >= now_s)
            .map(|(user, at)| Revocation {
                user: user.clone(),
                at: *at,
            })
    }

    /// Whether a ticket is void.
    pub fn cover(&self, claims: &Claims) -> bool {
        self.0
            .get(&claims.user)
            .is_some_and(|at| claims.not_before <= *at)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests;
