//! The player: where it begins, what is due, and how that is counted.

use super::swarm::Fresh;
use super::{Event, Node, Role, StartFrom};
use crate::chunk::{ChunkIndex, ChunkRange};
use crate::seal::{self, EpochId, EpochKey, OpenError};
use crate::store::MunroIndex;
use crate::store::playout::Release;
use crate::time::{Instant, micros};

impl Node {
    /// A player begins at the first place in the first munro where it can, else at its first chunk; from the oldest
    /// chunk on, where the parent began to push.
    pub(super) fn start_playout(&mut self, at: usize, fresh: &[Fresh]) {
        let awaits_start = self.awaits_start(at);
        let Some(swarm) = self.swarms.get_mut(at) else {
            return;
        };
        let Some(playout) = &mut swarm.playout else {
            return;
        };
        if playout.next().is_some() {
            return;
        }
        if swarm.from == StartFrom::Oldest {
            if let Some(first) = swarm.tune_in.filter(|_| !awaits_start) {
                playout.start_at(first.first_chunk());
            }
            return;
        }
        let first = fresh
            .iter()
            .find(|fresh| fresh.is_new)
            .map(|fresh| fresh.index);
        if let Some(slot) = first.and_then(|index| swarm.window.slot(index)) {
            playout.start_at(slot.index().chunk_at(slot.entry().unwrap_or(0)));
        }
    }

    /// Releases what is due to the player.
    pub(super) fn poll_playout(&mut self, now: Instant, at: usize) {
        loop {
            let Some(swarm) = self.swarms.get_mut(at) else {
                return;
            };
            let Some(playout) = swarm.playout.as_mut().filter(|_| !swarm.is_paused) else {
                return;
            };
            let channels = &self.channels;
            let suppliers = &swarm.suppliers;
            let announced = |range: ChunkRange| {
                suppliers
                    .iter()
                    .filter_map(|&at| channels.get(at))
                    .any(|channel| channel.available.overlaps(range))
            };
            let repair = &swarm.repair;
            let followed = |range| repair.follows(range);
            let Some(mut release) = playout.poll(now, &swarm.window, announced, followed) else {
                return self.file_passed(at, None);
            };
            let counters = &mut swarm.counters;
            if let Release::Media { chunk, payload, .. } = &mut release
                && seal::is_sealed(payload)
            {
                match swarm.ring.open(*chunk, payload) {
                    Ok(media) => *payload = media,
                    Err(why) => {
                        counters.due_packets += 1;
                        counters.unopened_packets += 1;
                        self.note_unopened(at, *chunk, why);
                        continue;
                    }
                }
            }
            match &release {
                Release::Media { chunk, payload, .. } => {
                    counters.due_packets += 1;
                    counters.played_packets += 1;
                    counters.media_bytes += payload.len() as u64;
                    // A relay with an output counts what it has for others.
                    if self.role != Role::Relay {
                        counters.first_chunk.get_or_insert_with(|| chunk.get());
                        counters.last_chunk = Some(chunk.get());
                    }
                    if swarm.first_media_at.is_none() {
                        swarm.first_media_at = Some(now);
                        counters.join_us = Some(micros(now - self.started));
                    }
                    if let Some(slot) = swarm.window.slot(MunroIndex::of(*chunk)) {
                        let age = self.epoch.ntp(now).micros_since(slot.signed_at());
                        if age >= 0 {
                            counters.age_us = Some(age.unsigned_abs());
                            counters.age.record_us(age.unsigned_abs());
                        }
                    }
                }
                Release::Lost { chunk_count, .. } => {
                    counters.due_packets += chunk_count;
                }
                Release::Stalled => {
                    counters.stalls += 1;
                    swarm.stalled_since = Some(now);
                }
                Release::Resumed(span) => {
                    counters.stall_us += micros(*span);
                    swarm.stalled_since = None;
                }
                Release::Jump(_) => {}
                Release::Ended => swarm.has_ended = true,
            }
            if let Release::Media { chunk, .. } = &release
                && swarm.archive.is_some()
            {
                // Before anything of the next munro is given out, which may be due at once.
                let munro = MunroIndex::of(*chunk);
                self.file_passed(at, Some(munro));
            }
            self.push_event(Event::Playout { swarm: at, release });
        }
    }

    /// A chunk that is here and cannot be read. That a key is missing is told once for each; whoever waits for one has
    /// many such chunks.
    fn note_unopened(&mut self, at: usize, chunk: ChunkIndex, why: OpenError) {
        let Some(swarm) = self.swarms.get_mut(at) else {
            return;
        };
        match why {
            OpenError::NoKey(epoch) if swarm.missing_key != Some(epoch) => {
                swarm.missing_key = Some(epoch);
                self.push_event(Event::Sealed { swarm: at });
            }
            OpenError::NoKey(_) => {}
            _ => {
                let release = Release::Lost {
                    range: ChunkRange::single(chunk),
                    chunk_count: 1,
                };
                self.push_event(Event::Playout { swarm: at, release });
            }
        }
    }

    /// Takes keys to sealed chunks. A source seals with the key of `seal_with` from its next munro on: true when that is
    /// another one than before.
    pub fn set_seal_keys(
        &mut self,
        swarm: usize,
        keys: &[(EpochId, EpochKey)],
        seal_with: Option<EpochId>,
    ) -> bool {
        let Some(swarm) = self.swarms.get_mut(swarm) else {
            return false;
        };
        for (epoch, key) in keys {
            swarm.ring.add(*epoch, key.clone());
        }
        if let (Some(source), Some(epoch)) = (&mut swarm.source, seal_with)
            && let Some(key) = swarm.ring.key(epoch)
        {
            return source.set_seal(epoch, key);
        }
        false
    }

    /// Stops or resumes the release of media to the player, whose output is full; chunks stay in the window meanwhile.
    pub fn pause_playout(&mut self, swarm: usize, paused: bool) {
        if let Some(swarm) = self.swarms.get_mut(swarm) {
            swarm.is_paused = paused;
        }
    }

    /// The player goes on behind an end mark.
    pub fn go_on(&mut self, swarm: usize) {
        if let Some(playout) = self
            .swarms
            .get_mut(swarm)
            .and_then(|swarm| swarm.playout.as_mut())
        {
            playout.go_on();
        }
    }
}
