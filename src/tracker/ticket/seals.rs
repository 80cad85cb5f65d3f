//! Keys to sealed channels: one for each epoch, made here, given to whoever may read, changed when somebody may not any
//! more.
//!
//! A new key goes to everybody first and is used afterwards: each request says which key the asker has, and the source is
//! told to seal with the next one when all viewers have it. Who was shut out gets no more keys, so whatever is sealed
//! after a change is closed to him, whoever still passes it on to him. A viewer that never says it has the key holds the
//! change up for no longer than silence would.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::office::OfficeError;
use crate::ids::decode_hex;
use crate::seal::{EpochId, EpochKey, Ratchet};
use crate::time::Instant;
use crate::tracker::message::{Role, SealKeys};
use crate::tracker::provider::change::{Change, Table};

/// Rows of sealed channels.
const ROWS: &str = "seal.";
/// A key is used for so long when nobody says otherwise.
pub const ROTATION: Duration = Duration::from_secs(3600);
/// Longest pause of a viewer that lost sight of its tracker: a minute and a fifth, and a moment for the answer.
const RETURN_SPAN: Duration = Duration::from_secs(75);
/// A key that is not used any more is given out for so long: what it sealed is still in the windows of relays.
const KEEP_S: u64 = 3600;
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
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            rotation: ROTATION,
            patience: Duration::from_secs(35),
        }
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

#[derive(Clone, Debug)]
struct Epoch {
    id: EpochId,
    key: EpochKey,
    /// When the next one took its place, Unix seconds.
    ended_s: Option<u64>,
}

/// A viewer.
#[derive(Clone, Copy, Debug)]
struct Holder {
    epoch: Option<EpochId>,
    seen: Instant,
}

/// One channel.
#[derive(Debug, Default)]
struct Sealed {
    /// In order; behind the one in use, at most one.
    epochs: Vec<Epoch>,
    /// The epoch in use, and since when, Unix seconds.
    used: Option<(EpochId, u64)>,
    /// Since when the last one waits to be used.
    waits_since: Instant,
    /// Somebody was shut out who may have the key that waits.
    again: bool,
    /// Before this there may be viewers that have not reported since we began.
    blind_until: Instant,
    /// By user and peer.
    holders: BTreeMap<(String, String), Holder>,
}

#[derive(Serialize, Deserialize)]
struct Row {
    used: Option<(u64, u64)>,
    again: bool,
    keys: Vec<KeyRow>,
}

#[derive(Serialize, Deserialize)]
struct KeyRow {
    epoch: u64,
    key: String,
    ended: Option<u64>,
}

impl Sealed {
    fn waiting(&self) -> Option<EpochId> {
        let last = self.epochs.last()?.id;
        (self.used.map(|(used, _)| used) != Some(last)).then_some(last)
    }

    /// Makes the key that is to be used next.
    fn begin(&mut self, now: Instant, now_s: u64, ratchet: &mut Ratchet) {
        let newest = self.epochs.last().map_or(0, |epoch| epoch.id.get());
        let random = ratchet.draw();
        let random = u16::from_be_bytes([random[0], random[1]]);
        // Also after the clock was set back, a later key has a larger number.
        let id = EpochId::at(now_s, random);
        let id = match EpochId::new(newest + 1) {
            Some(next) => id.max(next),
            None => return,
        };
        self.epochs.push(Epoch {
            id,
            key: EpochKey::from_bytes(ratchet.draw()),
            ended_s: None,
        });
        self.waits_since = now;
    }

    /// From now on the last key is the one in use.
    fn switch(&mut self, now_s: u64) {
        let Some(next) = self.epochs.last().map(|epoch| epoch.id) else {
            return;
        };
        if let Some((used, _)) = self.used
            && let Some(old) = self.epochs.iter_mut().find(|epoch| epoch.id == used)
        {
            old.ended_s = Some(now_s);
        }
        self.used = Some((next, now_s));
        let is_kept = |epoch: &Epoch| {
            epoch
                .ended_s
                .is_none_or(|at| at.saturating_add(KEEP_S) > now_s)
        };
        self.epochs.retain(is_kept);
        let excess = self.epochs.len().saturating_sub(KEYS_MAX - 1);
        self.epochs.drain(..excess);
    }

    /// Whether everybody has the key that waits, or had time enough.
    fn is_ready(&self, now: Instant, next: EpochId, patience: Duration) -> bool {
        let known = || self.holders.values().all(|it| it.epoch >= Some(next));
        let sees_all = now >= self.blind_until;
        let limit = (self.waits_since + patience).max(self.blind_until);
        (sees_all && known()) || now >= limit
    }

    /// A viewer is there, and says what it has.
    fn note(&mut self, now: Instant, reader: &Reader<'_>) {
        let who = (reader.user.to_owned(), reader.peer.to_owned());
        let holder = Holder {
            epoch: reader.epoch,
            seen: now,
        };
        let is_known = self.holders.contains_key(&who);
        if is_known || self.holders.len() < HOLDERS_MAX {
            self.holders.insert(who, holder);
        }
    }

    /// Makes the first key, changes to the next one, begins with the one after.
    fn advance(
        &mut self,
        now: Instant,
        now_s: u64,
        rules: &Rules,
        held: Option<EpochId>,
        ratchet: &mut Ratchet,
    ) {
        self.holders
            .retain(|_, holder| holder.seen + rules.patience > now);
        if self.epochs.is_empty() {
            self.begin(now, now_s, ratchet);
            if held.is_some() {
                // We gave it that key and have forgotten it, and all the viewers who have it.
                self.blind_until = self.blind_until.max(now + RETURN_SPAN);
            }
        }
        match (self.waiting(), self.used) {
            (Some(next), _) if self.is_ready(now, next, rules.patience) => {
                self.switch(now_s);
                if std::mem::take(&mut self.again) {
                    self.begin(now, now_s, ratchet);
                }
            }
            (None, Some((_, since))) if now_s.saturating_sub(since) >= rules.rotation.as_secs() => {
                self.begin(now, now_s, ratchet);
            }
            _ => {}
        }
    }

    fn row(&self, name: &str) -> Change {
        let row = Row {
            used: self.used.map(|(id, since)| (id.get(), since)),
            again: self.again,
            keys: self
                .epochs
                .iter()
                .map(|epoch| KeyRow {
                    epoch: epoch.id.get(),
                    key: hex(epoch.key.reveal()),
                    ended: epoch.ended_s,
                })
                .collect(),
        };
        Change {
            table: Table::Keys,
            key: format!("{ROWS}{name}"),
            value: Some(serde_json::to_string(&row).expect("plain members")),
        }
    }

    fn from_row(text: &str) -> Option<Self> {
        let row: Row = serde_json::from_str(text).ok()?;
        let epochs = row.keys.into_iter().map(|key| {
            Some(Epoch {
                id: EpochId::new(key.epoch)?,
                key: EpochKey::from_bytes(decode_hex(&key.key).ok()?.try_into().ok()?),
                ended_s: key.ended,
            })
        });
        let epochs: Vec<Epoch> = epochs.collect::<Option<_>>()?;
        let used = match row.used {
            Some((id, since)) => Some((EpochId::new(id)?, since)),
            None => None,
        };
        let in_order = epochs.is_sorted_by(|one, other| one.id < other.id);
        let known = used.is_none_or(|(used, _)| epochs.iter().any(|epoch| epoch.id == used));
        (in_order && known && epochs.len() <= KEYS_MAX).then(|| Self {
            epochs,
            used,
            again: row.again,
            blind_until: Instant::ZERO + RETURN_SPAN,
            ..Self::default()
        })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The keys of all sealed channels of a tracker.
#[derive(Debug)]
pub struct Seals {
    ratchet: Ratchet,
    rules: Rules,
    /// Channels that are or were sealed, by name: closed ones, so as many as the operator likes.
    channels: BTreeMap<String, Sealed>,
}

impl Seals {
    /// No keys yet; they will come from `ratchet`.
    pub const fn new(ratchet: Ratchet) -> Self {
        Self {
            ratchet,
            rules: Rules {
                rotation: ROTATION,
                patience: Duration::from_secs(35),
            },
            channels: BTreeMap::new(),
        }
    }

    /// Changes keys by other rules.
    pub const fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// Takes a row of [`Table::Keys`] that was stored; rows of others are passed over.
    ///
    /// # Errors
    ///
    /// [`OfficeError::Row`] for one of ours that is damaged.
    pub fn load(&mut self, key: &str, value: &str) -> Result<(), OfficeError> {
        if let Some(name) = key.strip_prefix(ROWS) {
            let sealed = Sealed::from_row(value).ok_or(OfficeError::Row)?;
            self.channels.insert(name.to_owned(), sealed);
        }
        Ok(())
    }

    /// What somebody who may read a closed channel gets, and what is to be stored before he gets it.
    pub fn visit(
        &mut self,
        now: Instant,
        now_s: u64,
        channel: &str,
        reader: &Reader<'_>,
    ) -> (Option<SealKeys>, Vec<Change>) {
        let Self {
            ratchet,
            rules,
            channels,
        } = self;
        // Whoever only passes it on needs no key.
        if reader.role == Role::Relay {
            return (None, Vec::new());
        }
        if reader.seals && !channels.contains_key(channel) {
            channels.insert(channel.to_owned(), Sealed::default());
        }
        let Some(sealed) = channels.get_mut(channel) else {
            return (None, Vec::new());
        };
        let before = (sealed.used, sealed.epochs.len());
        if reader.role == Role::Peer {
            sealed.note(now, reader);
        }
        // Only the source is told which key to use: what it asks for is looked into when it asks.
        if reader.seals {
            sealed.advance(now, now_s, rules, reader.epoch, ratchet);
        }
        let changes = if before == (sealed.used, sealed.epochs.len()) {
            Vec::new()
        } else {
            vec![sealed.row(channel)]
        };
        let keys = SealKeys {
            seal_with: sealed.used.map(|(epoch, _)| epoch).filter(|_| reader.seals),
            keys: sealed
                .epochs
                .iter()
                .map(|epoch| (epoch.id, epoch.key.clone()))
                .collect(),
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
            if sealed.epochs.is_empty() {
                continue;
            }
            if sealed.waiting().is_some() {
                // He may have that one; what nobody used yet cannot be taken back from whoever has it.
                sealed.again = true;
            } else {
                sealed.begin(now, now_s, &mut self.ratchet);
            }
            changes.push(sealed.row(name));
        }
        changes
    }

    /// A channel is open to everybody: its keys are worth nothing.
    pub fn open(&mut self, channel: &str) -> Vec<Change> {
        let known = self.channels.remove(channel);
        let had_keys = known.is_some_and(|sealed| !sealed.epochs.is_empty());
        let row = Change {
            table: Table::Keys,
            key: format!("{ROWS}{channel}"),
            value: None,
        };
        had_keys.then_some(row).into_iter().collect()
    }
}

#[cfg(test)]
mod tests;
