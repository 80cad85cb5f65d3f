//! Keys to sealed channels: one for each epoch, made here, given to whoever may read, changed when somebody may not any
//! more.
//!
//! A new key goes to everybody first and is used afterwards: each request says which key the asker has, and the source is
//! told to seal with the next one when all viewers have it. Who was shut out gets no more keys, so whatever is sealed
//! after a change is closed to him, whoever still passes it on to him. A viewer that never says it has the key holds the
//! change up for no longer than silence would.
//!
//! Where several trackers share a store, a change is proposed to it first, and what it holds then is the channel's for all
//! of them; each tells the others which keys its viewers have.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::office::OfficeError;
use crate::seal::{EpochId, Ratchet};
use crate::time::Instant;
use crate::tracker::message::{Role, SealKeys};
use crate::tracker::provider::change::{Change, SEAL_ROWS, Table, is_agreed};

mod sequence;

use sequence::Sequence;

/// A key is used for so long when nobody says otherwise.
pub const ROTATION: Duration = Duration::from_secs(3600);
/// Longest pause of a viewer that lost sight of its tracker: a minute and a fifth, and a moment for the answer.
pub const RETURN_SPAN: Duration = Duration::from_secs(75);
/// When several trackers share a store, what they tell each other has come after this time.
pub const HEARSAY_SPAN: Duration = Duration::from_secs(1);
/// A store that did not take a change is left alone for so long.
const RETRY: Duration = Duration::from_secs(2);
/// Keys of one channel; the oldest give way.
pub const KEYS_MAX: usize = 32;
/// Viewers of one channel whose keys are watched; a change does not wait for more.
pub const HOLDERS_MAX: usize = 100_000;

/// How keys change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How long one key is used.
    pub rotation: Duration,
    /// A viewer that was silent for so long is gone, and a change waits no longer than that.
    pub patience: Duration,
    /// A change waits at least so long: others may know of viewers of whom nothing was heard here yet.
    pub settling: Duration,
}

impl Rules {
    const DEFAULT: Self = Self {
        rotation: ROTATION,
        patience: Duration::from_secs(35),
        settling: Duration::ZERO,
    };
}

impl Default for Rules {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Who asks for keys, in a channel that is closed and that he may enter.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    /// The user.
    pub user: &'a str,
    /// The peer that speaks for him.
    pub peer: &'a str,
    /// What it is there.
    pub role: Role,
    /// Whether it is the source and wants to seal.
    pub seals: bool,
    /// The newest key that it has.
    pub epoch: Option<EpochId>,
}

/// A viewer.
#[derive(Clone, Copy, Debug)]
struct Holder {
    epoch: Option<EpochId>,
    seen: Instant,
}

/// What is asked of the store that trackers share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Proposal {
    #[default]
    None,
    /// A change is on its way.
    UnderWay,
    /// The store could not be asked; not again before this.
    Failed(Instant),
}

/// One channel.
#[derive(Debug, Default)]
struct Sealed {
    sequence: Sequence,
    /// The key that waits to be used, and since when.
    waits: Option<(EpochId, Instant)>,
    /// Before this there may be viewers that have not reported since we began.
    blind_until: Instant,
    /// By user and peer.
    holders: BTreeMap<(String, String), Holder>,
    proposal: Proposal,
}

impl Sealed {
    /// Goes on with other keys.
    fn set(&mut self, now: Instant, sequence: Sequence) {
        self.sequence = sequence;
        let waiting = self.sequence.waiting();
        if waiting != self.waits.map(|(epoch, _)| epoch) {
            self.waits = waiting.map(|epoch| (epoch, now));
        }
    }

    /// Whether everybody has the key that waits, or had time enough.
    fn is_ready(&self, now: Instant, next: EpochId, rules: &Rules) -> bool {
        let is_known = self.waits.filter(|(epoch, _)| *epoch == next);
        let since = is_known.map_or(now, |(_, since)| since);
        let all_have_it = || self.holders.values().all(|it| it.epoch >= Some(next));
        // The first key of all takes nothing away from anybody.
        let has_settled = self.sequence.used().is_none() || now >= since + rules.settling;
        let sees_all = has_settled && now >= self.blind_until;
        let limit = (since + rules.patience).max(self.blind_until);
        (sees_all && all_have_it()) || now >= limit
    }

    /// A viewer is there, and says what it has.
    fn note(&mut self, now: Instant, user: &str, peer: &str, epoch: Option<EpochId>) {
        let who = (user.to_owned(), peer.to_owned());
        let is_known = self.holders.contains_key(&who);
        if is_known || self.holders.len() < HOLDERS_MAX {
            self.holders.insert(who, Holder { epoch, seen: now });
        }
    }

    /// What is to change now: there is a first key, the next one is used, or the one after begins to wait.
    fn next(
        &mut self,
        now: Instant,
        now_s: u64,
        rules: &Rules,
        held: Option<EpochId>,
        ratchet: &mut Ratchet,
    ) -> Option<Sequence> {
        self.holders
            .retain(|_, holder| holder.seen + rules.patience > now);
        let mut next = self.sequence.clone();
        let mut is_changed = false;
        if next.is_empty() {
            is_changed |= next.begin(now_s, ratchet);
            if held.is_some() {
                // We gave it that key and have forgotten it, and all the viewers who have it.
                self.blind_until = self.blind_until.max(now + RETURN_SPAN);
            }
        }
        match (next.waiting(), next.used()) {
            (Some(epoch), _) if self.is_ready(now, epoch, rules) => {
                next.switch(now_s, ratchet);
                is_changed = true;
            }
            (None, Some((_, since))) if now_s.saturating_sub(since) >= rules.rotation.as_secs() => {
                is_changed |= next.begin(now_s, ratchet);
            }
            _ => {}
        }
        next.count_change();
        is_changed.then_some(next)
    }
}

/// The keys of all sealed channels of a tracker.
#[derive(Debug)]
pub struct Seals {
    ratchet: Ratchet,
    rules: Rules,
    /// Whether other trackers have the same store.
    is_shared: bool,
    /// Channels that are or were sealed, by name: closed ones, so as many as the operator likes.
    channels: BTreeMap<String, Sealed>,
    /// Changes that the store is to be asked for, at most one of a channel.
    proposals: VecDeque<Change>,
}

impl Seals {
    /// No keys yet; they will come from `ratchet`.
    pub const fn new(ratchet: Ratchet) -> Self {
        Self {
            ratchet,
            rules: Rules::DEFAULT,
            is_shared: false,
            channels: BTreeMap::new(),
            proposals: VecDeque::new(),
        }
    }

    /// Changes keys by other rules.
    pub const fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// Changes no keys from now on but those that the store agreed to: other trackers have the same.
    pub const fn set_shared(&mut self) {
        self.is_shared = true;
    }

    /// Takes a row of [`Table::Keys`] that was stored when the tracker started; rows of others are passed over.
    ///
    /// # Errors
    ///
    /// [`OfficeError::Row`] for one of ours that is damaged.
    pub fn load(&mut self, key: &str, value: &str) -> Result<(), OfficeError> {
        if let Some(name) = key.strip_prefix(SEAL_ROWS) {
            let mut sealed = Sealed {
                blind_until: Instant::ZERO + RETURN_SPAN,
                ..Sealed::default()
            };
            let sequence = Sequence::from_row(value).ok_or(OfficeError::Row)?;
            sealed.set(Instant::ZERO, sequence);
            self.channels.insert(name.to_owned(), sealed);
        }
        Ok(())
    }

    // --- one store, several trackers ----------------------------------------------------------------------------------

    /// Takes what the store holds now under a key, or that it holds nothing there.
    ///
    /// # Errors
    ///
    /// [`OfficeError::Row`] for a row that is damaged: what was known stays.
    pub fn take(
        &mut self,
        now: Instant,
        key: &str,
        value: Option<&str>,
    ) -> Result<(), OfficeError> {
        let Some(name) = key.strip_prefix(SEAL_ROWS) else {
            return Ok(());
        };
        let Some(value) = value else {
            self.channels.remove(name);
            return Ok(());
        };
        let sequence = Sequence::from_row(value).ok_or(OfficeError::Row)?;
        let sealed = self.channels.entry(name.to_owned()).or_default();
        sealed.set(now, sequence);
        Ok(())
    }

    /// Takes everything that the store holds: channels that are not among it are not sealed any more.
    ///
    /// # Errors
    ///
    /// [`OfficeError::Row`] when one of the rows is damaged; the others are taken.
    pub fn take_all(&mut self, now: Instant, rows: &[Change]) -> Result<(), OfficeError> {
        let ours = |row: &&Change| is_agreed(row.table, &row.key);
        let names: Vec<&str> = rows
            .iter()
            .filter(ours)
            .filter_map(|row| row.key.strip_prefix(SEAL_ROWS))
            .collect();
        self.channels
            .retain(|name, sealed| sealed.sequence.is_empty() || names.contains(&name.as_str()));
        let mut outcome = Ok(());
        for row in rows.iter().filter(ours) {
            let taken = self.take(now, &row.key, row.value.as_deref());
            outcome = outcome.and(taken);
        }
        outcome
    }

    /// Looks whether keys are to change now, before the source of a channel is answered: true when the store has to be
    /// asked first.
    pub fn propose(
        &mut self,
        now: Instant,
        now_s: u64,
        channel: &str,
        reader: &Reader<'_>,
    ) -> bool {
        if !self.is_shared || !reader.seals {
            return false;
        }
        let sealed = self.channels.entry(channel.to_owned()).or_default();
        match sealed.proposal {
            Proposal::UnderWay => return true,
            Proposal::Failed(until) if now < until => return false,
            Proposal::Failed(_) | Proposal::None => {}
        }
        let (rules, ratchet) = (&self.rules, &mut self.ratchet);
        let Some(next) = sealed.next(now, now_s, rules, reader.epoch, ratchet) else {
            return false;
        };
        sealed.proposal = Proposal::UnderWay;
        self.proposals.push_back(next.row(channel));
        true
    }

    /// A change that the store is to be asked for.
    pub fn poll_proposal(&mut self) -> Option<Change> {
        self.proposals.pop_front()
    }

    /// Takes what the store holds after it was asked for a change: the change, or what another tracker was first with; none
    /// when it could not be asked.
    ///
    /// # Errors
    ///
    /// [`OfficeError::Row`] for a row that is damaged: what was known stays.
    pub fn agreed(
        &mut self,
        now: Instant,
        key: &str,
        found: Option<&Change>,
    ) -> Result<(), OfficeError> {
        let taken = match found {
            Some(row) => self.take(now, &row.key, row.value.as_deref()),
            None => Ok(()),
        };
        let name = key.strip_prefix(SEAL_ROWS).unwrap_or_default();
        if let Some(sealed) = self.channels.get_mut(name) {
            sealed.proposal = match (found, &taken) {
                (Some(_), Ok(())) => Proposal::None,
                _ => Proposal::Failed(now + RETRY),
            };
        }
        taken
    }

    /// Notes a viewer of whom another tracker told.
    pub fn note(
        &mut self,
        now: Instant,
        channel: &str,
        user: &str,
        peer: &str,
        epoch: Option<EpochId>,
    ) {
        if let Some(sealed) = self.channels.get_mut(channel) {
            sealed.note(now, user, peer, epoch);
        }
    }

    /// Forgets viewers whose user may not be any more.
    pub fn retain_users(&mut self, is_user: impl Fn(&str) -> bool) {
        for sealed in self.channels.values_mut() {
            sealed.holders.retain(|(user, _), _| is_user(user));
        }
    }

    // --- requests ---------------------------------------------------------------------------------------------------

    /// What somebody who may read a closed channel gets, and what is to be stored before he gets it.
    pub fn visit(
        &mut self,
        now: Instant,
        now_s: u64,
        channel: &str,
        reader: &Reader<'_>,
    ) -> (Option<SealKeys>, Vec<Change>) {
        // Whoever only passes it on needs no key.
        if reader.role == Role::Relay {
            return (None, Vec::new());
        }
        if reader.seals && !self.channels.contains_key(channel) {
            self.channels.insert(channel.to_owned(), Sealed::default());
        }
        let Some(sealed) = self.channels.get_mut(channel) else {
            return (None, Vec::new());
        };
        if reader.role == Role::Peer {
            sealed.note(now, reader.user, reader.peer, reader.epoch);
        }
        let mut changes = Vec::new();
        // Only the source is told which key to use: what it asks for is looked into when it asks.
        if reader.seals && !self.is_shared {
            let (rules, ratchet) = (&self.rules, &mut self.ratchet);
            if let Some(next) = sealed.next(now, now_s, rules, reader.epoch, ratchet) {
                changes.push(next.row(channel));
                sealed.set(now, next);
            }
        }
        let used = sealed.sequence.used();
        let keys = sealed.sequence.keys();
        let keys = SealKeys {
            seal_with: used.map(|(epoch, _)| epoch).filter(|_| reader.seals),
            keys: keys.map(|(epoch, key)| (epoch, key.clone())).collect(),
        };
        ((!keys.keys.is_empty()).then_some(keys), changes)
    }

    /// A peer says goodbye: nothing waits for it.
    pub fn leave(&mut self, channel: &str, user: &str, peer: &str) {
        if let Some(sealed) = self.channels.get_mut(channel) {
            sealed.holders.remove(&(user.to_owned(), peer.to_owned()));
        }
    }

    /// A user is shut out: whatever he was given is of no use for what is sealed after the next change.
    pub fn revoke(&mut self, now: Instant, now_s: u64, user: &str) -> Vec<Change> {
        let mut changes = Vec::new();
        for (name, sealed) in &mut self.channels {
            sealed.holders.retain(|(of, _), _| of != user);
            let mut next = sealed.sequence.clone();
            if next.shut_out(now_s, &mut self.ratchet) {
                changes.push(next.row(name));
                sealed.set(now, next);
            }
        }
        changes
    }

    /// A channel is open to everybody: its keys are worth nothing.
    pub fn open(&mut self, channel: &str) -> Vec<Change> {
        let known = self.channels.remove(channel);
        let had_keys = known.is_some_and(|sealed| !sealed.sequence.is_empty());
        let row = Change {
            table: Table::Keys,
            key: format!("{SEAL_ROWS}{channel}"),
            value: None,
        };
        had_keys.then_some(row).into_iter().collect()
    }
}

#[cfg(test)]
mod tests;
