//! The keys of one channel, one after the other, as they stand in the store.
//!
//! Trackers with one store have one sequence: each change is the next of what is there, told apart by a number, and of
//! two that are made at once the store takes one.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::KEYS_MAX;
use crate::ids::decode_hex;
use crate::seal::{EpochId, EpochKey, Ratchet};
use crate::tracker::provider::change::{Change, SEAL_ROWS, Table};

/// A key that is not used any more is given out for so long: what it sealed is still in the windows of relays.
const KEEP_S: u64 = 3600;

#[derive(Clone, Debug)]
struct Epoch {
    id: EpochId,
    key: EpochKey,
    /// When the next one took its place, Unix seconds.
    ended_s: Option<u64>,
}

/// The keys of one channel.
#[derive(Clone, Debug, Default)]
pub(super) struct Sequence {
    /// How many changes there were.
    revision: u64,
    /// In order; behind the one in use, at most one.
    epochs: Vec<Epoch>,
    /// The epoch in use, and since when, Unix seconds.
    used: Option<(EpochId, u64)>,
    /// Somebody was shut out who may have the key that waits.
    again: bool,
}

#[derive(Serialize, Deserialize)]
struct Row {
    #[serde(default)]
    revision: u64,
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

impl Sequence {
    /// Whether there is no key yet.
    pub(super) const fn is_empty(&self) -> bool {
        self.epochs.is_empty()
    }

    /// The epoch in use, and since when, Unix seconds.
    pub(super) const fn used(&self) -> Option<(EpochId, u64)> {
        self.used
    }

    /// The key that is to be used next, when there is one.
    pub(super) fn waiting(&self) -> Option<EpochId> {
        let last = self.epochs.last()?.id;
        (self.used.map(|(used, _)| used) != Some(last)).then_some(last)
    }

    /// Every key that is given out, the oldest first.
    pub(super) fn keys(&self) -> impl Iterator<Item = (EpochId, &EpochKey)> {
        self.epochs.iter().map(|epoch| (epoch.id, &epoch.key))
    }

    /// Counts what was done to it as one change.
    pub(super) const fn count_change(&mut self) {
        self.revision += 1;
    }

    /// Makes the key that is to be used next; false when numbers have come to their end.
    pub(super) fn begin(&mut self, now_s: u64, ratchet: &mut Ratchet) -> bool {
        let newest = self.epochs.last().map_or(0, |epoch| epoch.id.get());
        let random = ratchet.draw();
        let random = u16::from_be_bytes([random[0], random[1]]);
        // Also after the clock was set back, a later key has a larger number.
        let id = EpochId::at(now_s, random);
        let id = match EpochId::new(newest + 1) {
            Some(next) => id.max(next),
            None => return false,
        };
        self.epochs.push(Epoch {
            id,
            key: EpochKey::from_bytes(ratchet.draw()),
            ended_s: None,
        });
        true
    }

    /// From now on the last key is the one in use; another follows when somebody was shut out meanwhile.
    pub(super) fn switch(&mut self, now_s: u64, ratchet: &mut Ratchet) {
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
        if std::mem::take(&mut self.again) {
            self.begin(now_s, ratchet);
        }
    }

    /// Somebody was shut out: true when that changes anything.
    pub(super) fn shut_out(&mut self, now_s: u64, ratchet: &mut Ratchet) -> bool {
        if self.is_empty() || self.again {
            return false;
        }
        if self.waiting().is_some() {
            // He may have that one; what nobody used yet cannot be taken back from whoever has it.
            self.again = true;
        } else {
            self.begin(now_s, ratchet);
        }
        self.count_change();
        true
    }

    /// The row of a channel.
    pub(super) fn row(&self, channel: &str) -> Change {
        let row = Row {
            revision: self.revision,
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
            key: format!("{SEAL_ROWS}{channel}"),
            value: Some(serde_json::to_string(&row).expect("plain members")),
        }
    }

    /// What a row says; none when that cannot be.
    pub(super) fn from_row(text: &str) -> Option<Self> {
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
        (in_order && known && epochs.len() <= KEYS_MAX).then_some(Self {
            revision: row.revision,
            epochs,
            used,
            again: row.again,
        })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
