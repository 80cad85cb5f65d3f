//! Who is given keys to sealed channels, and what trackers with one store agree on and tell each other about that.

use std::sync::Arc;

use super::super::seals::Reader;
use super::{OfficeError, TicketOffice, Visit};
use crate::seal::EpochId;
use crate::time::Instant;
use crate::tracker::provider::change::Change;

/// Who plays a sealed channel, as trackers with one store tell each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The user, who proved himself.
    pub user: Arc<str>,
    /// The newest key that he said he has.
    pub epoch: Option<EpochId>,
}

impl TicketOffice {
    /// Says that other trackers have the same store: keys of sealed channels change when it agreed.
    pub const fn set_shared(&mut self) {
        self.seals.set_shared();
    }

    /// Takes what a store that others share holds now under the key of one row of secrets.
    ///
    /// # Errors
    ///
    /// [`OfficeError::Row`] for one of ours that is damaged.
    pub fn take_key(
        &mut self,
        now: Instant,
        key: &str,
        value: Option<&str>,
    ) -> Result<(), OfficeError> {
        self.seals.take(now, key, value)
    }

    /// Who asks for keys of which channel; none where nobody is given any.
    pub(super) fn reader<'a>(
        &self,
        visit: &Visit<'a>,
        user: &'a str,
    ) -> Option<(&'a str, Reader<'a>)> {
        let channel = visit.channel.filter(|name| self.closed.contains(*name))?;
        let reader = Reader {
            user,
            peer: visit.peer,
            role: visit.role?,
            seals: visit.seals(),
            epoch: visit.access.epoch,
        };
        let gets_keys = visit.access.key.is_some() && (visit.is_private || self.is_private);
        gets_keys.then_some((channel, reader))
    }

    /// Looks whether the store has to be asked before somebody who was admitted is answered: see `Seals::propose`.
    pub fn propose(&mut self, now: Instant, visit: &Visit<'_>, user: &str) -> bool {
        let now_s = self.unix(now);
        let reader = self.reader(visit, user);
        reader.is_some_and(|(channel, reader)| self.seals.propose(now, now_s, channel, &reader))
    }

    /// A change that a store which others share is to be asked for, and what it holds then to be told with
    /// [`agreed`](Self::agreed).
    pub fn poll_proposal(&mut self) -> Option<Change> {
        self.seals.poll_proposal()
    }

    /// Takes what came of a proposal: see `Seals::agreed`.
    ///
    /// # Errors
    ///
    /// [`OfficeError::Row`] when a damaged row is in its place.
    pub fn agreed(
        &mut self,
        now: Instant,
        key: &str,
        found: Option<&Change>,
    ) -> Result<(), OfficeError> {
        self.seals.agreed(now, key, found)
    }

    /// Notes somebody who reads a channel, and of whom another tracker told.
    pub fn note_reader(&mut self, now: Instant, channel: &str, peer: &str, reading: &Reading) {
        if self.accounts.contains_key(&*reading.user) {
            let (user, epoch) = (&reading.user, reading.epoch);
            self.seals.note(now, channel, user, peer, epoch);
        }
    }

    /// A peer says goodbye to a channel.
    pub fn leave(&mut self, channel: &str, user: &str, peer: &str) {
        self.seals.leave(channel, user, peer);
    }
}
