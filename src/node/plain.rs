//! Plain RFC 7574 remotes: HAVE, REQUEST, INTEGRITY and uncle hashes instead of trains.

use std::time::Duration;

use super::Node;
use super::push::send;
use crate::chunk::ChunkRange;
use crate::peer::violation::Violation;
use crate::store::{MunroIndex, Slot};
use crate::time::Instant;
use crate::wire::{Data, Message};

/// Chunks of a plain remote's requests that wait to be sent.
const WANTED_MAX: usize = 2048;
/// Chunks asked of a plain parent ahead of what arrived.
const ASKED_AHEAD_MAX: usize = 2048;
/// Munros whose hashes are remembered as sent.
const HASHES_SENT_MAX: usize = 256;
/// How long a chunk of a plain parent is followed.
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);

impl Node {
    /// The first datagrams to a plain remote: what we have, and our newest signed munro (RFC 7574 §6.1.2.3).
    pub(super) fn greet_plain(&mut self, now: Instant, at: usize) {
        let Some(index) = self.channels.get(at).map(|channel| channel.swarm) else {
            return;
        };
        let newest = self
            .swarms
            .get(index)
            .and_then(|swarm| swarm.window.newest())
            .map(|slot| slot.index())
            // Who cannot prove a key is not told what it cannot have.
            .filter(|_| self.admission(now, at).is_ok());
        match newest {
            Some(newest) => self.show_munro(now, at, newest),
            None => {
                // An empty datagram answers (RFC 7574 §3.1.1).
                let Some(channel) = self.channels.get_mut(at) else {
                    return;
                };
                send(now, &mut self.outbox, channel, |_| {});
            }
        }
    }

    fn is_plain(&self, at: usize) -> bool {
        self.channels.get(at).is_some_and(|channel| {
            channel.is_open() && !(self.extensions && channel.has_extensions())
        })
    }

    /// HAVE, INTEGRITY and SIGNED_INTEGRITY of a munro.
    fn show_munro(&mut self, now: Instant, at: usize, index: MunroIndex) {
        let Self {
            swarms,
            channels,
            outbox,
            ..
        } = self;
        let Some(channel) = channels.get_mut(at) else {
            return;
        };
        let Some(swarm) = swarms.get(channel.swarm) else {
            return;
        };
        let Some(slot) = swarm.window.slot(index) else {
            return;
        };
        let (munro, format) = (slot.munro(), swarm.terms.format);
        let have = swarm.window.complete_around(index);
        send(now, outbox, channel, |out| {
            if let Some(range) = have {
                Message::Have(range).encode(&format, out);
            }
            Message::Integrity {
                range: munro.range(),
                hash: *munro.root(),
            }
            .encode(&format, out);
            Message::SignedIntegrity {
                range: munro.range(),
                time: munro.time(),
                signature: munro.signature().clone(),
            }
            .encode(&format, out);
        });
        let sent = &mut channel.hashes_sent;
        sent.entry(index).or_insert(0);
        while sent.len() > HASHES_SENT_MAX {
            sent.pop_first();
        }
    }

    /// Tells plain remotes about a munro that is complete now.
    pub(super) fn announce_to_plain(&mut self, now: Instant, swarm: usize, index: MunroIndex) {
        let complete = self
            .swarms
            .get(swarm)
            .and_then(|swarm| swarm.window.slot(index))
            .is_some_and(|slot| slot.is_complete() && slot.tree().is_complete());
        if !complete {
            return;
        }
        let plain: Vec<usize> = self
            .channels
            .iter()
            .filter(|(at, channel)| channel.swarm == swarm && self.is_plain(*at))
            // Not to whoever gave it to us (RFC 7574 §3.2: not to peers that have everything).
            .filter(|(_, channel)| !channel.has(index.chunks().last()))
            .filter(|(at, _)| self.admission(now, *at).is_ok())
            .map(|(at, _)| at)
            .collect();
        for at in plain {
            self.show_munro(now, at, index);
        }
    }

    /// A plain remote wants chunks; they leave as its window allows.
    pub(super) fn note_plain_request(&mut self, now: Instant, at: usize, range: ChunkRange) {
        let Some(channel) = self.channels.get_mut(at) else {
            return;
        };
        for chunk in range.iter() {
            if channel.wanted.len() >= WANTED_MAX || self.work_left == 0 {
                break;
            }
            self.work_left -= 1;
            self.stats.looked_up_chunks += 1;
            if channel.wanted.contains(&chunk) {
                continue;
            }
            if channel.served.was_served(chunk) {
                // What proves it may have been lost or spoilt as well.
                channel.hashes_sent.remove(&MunroIndex::of(chunk));
            }
            if channel.served.allow(now, chunk) {
                channel.wanted.push_back(chunk);
            }
        }
        self.serve_plain(now, at);
    }

    /// CANCEL: not wanted any more.
    pub(super) fn on_cancel(&mut self, at: usize, range: ChunkRange) {
        if let Some(channel) = self.channels.get_mut(at) {
            channel.wanted.retain(|chunk| !range.contains(*chunk));
        }
    }

    pub(super) fn on_choke(&mut self, at: usize, choked: bool) {
        if let Some(channel) = self.channels.get_mut(at) {
            channel.chokes_us = choked;
        }
    }

    /// Sends a plain remote the chunks it waits for, hashes first (RFC 7574 §5.3, §6.1.2.2).
    pub(super) fn serve_plain(&mut self, now: Instant, at: usize) {
        let now_us = self.epoch.unix_micros(now);
        while let Some(channel) = self.channels.get_mut(at) {
            if !channel.ledbat.may_send() {
                return;
            }
            let Some(chunk) = channel.wanted.pop_front() else {
                return;
            };
            let index = MunroIndex::of(chunk);
            let Some(swarm) = self.swarms.get(channel.swarm) else {
                return;
            };
            let shown = channel.hashes_sent.contains_key(&index);
            let Some(slot) = swarm.window.slot(index) else {
                continue;
            };
            let Some(payload) = slot.payload(crate::store::position(chunk)).cloned() else {
                continue;
            };
            if !shown {
                self.show_munro(now, at, index);
            }
            let Self {
                swarms,
                channels,
                outbox,
                ..
            } = self;
            let Some(channel) = channels.get_mut(at) else {
                return;
            };
            let Some(swarm) = swarms.get_mut(channel.swarm) else {
                return;
            };
            let Some(slot) = swarm.window.slot(index) else {
                continue;
            };
            let format = swarm.terms.format;
            let first_bit = index.first_chunk().get() * 2;
            let sent = channel.hashes_sent.entry(index).or_insert(0);
            let mut uncles = slot.tree().uncles(chunk);
            uncles.retain(|(bin, _)| {
                let bit = 1u64 << (bin.to_bits() - first_bit).min(63);
                let is_new = *sent & bit == 0;
                *sent |= bit;
                is_new
            });
            if !uncles.is_empty() {
                send(now, outbox, channel, |out| {
                    for (bin, hash) in uncles {
                        Message::Integrity {
                            range: bin.to_range(),
                            hash,
                        }
                        .encode(&format, out);
                    }
                });
            }
            let bytes = payload.len() as u64 + 29;
            let data = Data {
                range: ChunkRange::single(chunk),
                time_us: now_us,
                payload,
            };
            send(now, outbox, channel, |out| {
                Message::Data(data).encode(&format, out)
            });
            channel.ledbat.on_sent(bytes);
            channel
                .in_flight
                .on_sent(now, index, u32::try_from(bytes).unwrap_or(u32::MAX));
            swarm.counters.sent_packets += 1;
        }
    }

    /// A remote has chunks. A plain parent is asked for them at once: nothing comes from it unasked.
    pub(super) fn on_have(&mut self, now: Instant, at: usize, range: ChunkRange) {
        let plain = self.is_plain(at);
        let Some(channel) = self.channels.get_mut(at) else {
            return;
        };
        if !channel.note_have(range) {
            return self.strike(now, at, Violation::TooManyRanges);
        }
        // HAVE is an implicit CANCEL (RFC 7574 §3.7).
        channel.wanted.retain(|chunk| !range.contains(*chunk));
        let Some(swarm) = self.swarms.get_mut(channel.swarm) else {
            return;
        };
        if let Some(child) = &mut channel.subscriber {
            let oldest = swarm.window.oldest().map(Slot::index);
            child.note_has(range, oldest.unwrap_or_default().first_chunk());
        }
        if !plain || swarm.parent != Some(at) {
            return;
        }
        // Begin at the newest munro announced: what the remote would show us first. Where we tune in is settled by a
        // munro that is proven, since a liar announces what nobody has.
        let newest = MunroIndex::of(range.last());
        let first = swarm.tune_in.unwrap_or(newest);
        let from = ChunkRange::new(first.first_chunk().max(range.first()), range.last());
        let give_up = now + GIVE_UP_AFTER;
        for chunk in from
            .into_iter()
            .flat_map(|range| range.iter().rev().take(ASKED_AHEAD_MAX))
        {
            if self.work_left == 0 {
                return;
            }
            self.work_left -= 1;
            self.stats.looked_up_chunks += 1;
            if !swarm.window.holds(chunk) {
                swarm.repair.want_announced(now, chunk, give_up);
            }
        }
    }
}
