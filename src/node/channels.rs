//! The table of all channels: places that stay, and the way from identifiers to them.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};

use super::CHANNELS_MAX;
use crate::ids::ChannelId;
use crate::peer::channel::Channel;

/// Which sockets and swarm a channel belongs to, by its place in the table.
type ById = HashMap<ChannelId, usize, BuildHasherDefault<DefaultHasher>>;

/// All channels: a table with holes, and the way from identifiers to places.
#[derive(Debug, Default)]
pub(super) struct Channels {
    table: Vec<Option<Channel>>,
    free: Vec<usize>,
    by_id: ById,
}

impl Channels {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn get(&self, at: usize) -> Option<&Channel> {
        self.table.get(at).and_then(Option::as_ref)
    }

    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut Channel> {
        self.table.get_mut(at).and_then(Option::as_mut)
    }

    pub(super) fn find(&self, id: ChannelId) -> Option<usize> {
        self.by_id.get(&id).copied()
    }

    pub(super) fn insert(&mut self, channel: Channel) -> Option<usize> {
        if self.len() >= CHANNELS_MAX {
            return None;
        }
        let id = channel.local;
        let at = self.free.pop().unwrap_or(self.table.len());
        if at == self.table.len() {
            self.table.push(None);
        }
        *self.table.get_mut(at)? = Some(channel);
        self.by_id.insert(id, at);
        Some(at)
    }

    pub(super) fn remove(&mut self, at: usize) -> Option<Channel> {
        let channel = self.table.get_mut(at)?.take()?;
        self.by_id.remove(&channel.local);
        self.free.push(at);
        Some(channel)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Channel)> {
        self.table
            .iter()
            .enumerate()
            .filter_map(|(at, channel)| channel.as_ref().map(|channel| (at, channel)))
    }

    pub(super) fn places(&self) -> Vec<usize> {
        self.iter().map(|(at, _)| at).collect()
    }
}
