//! What goes out: new chunks to every child in trains, backlog to newcomers, single chunks on request.
//!
//! Children at the head of the stream get every new munro at once, from bytes laid out a single time. A child that is
//! behind is pumped through its own window until it has caught up.

use super::Node;
use super::archive::{self, LOAD_MUNROS, Next};
use super::outbox::{Outbox, Target, Train};
use super::repair::note_holes;
use super::swarm::{Fresh, Swarm};
use crate::chunk::ChunkRange;
use crate::peer::channel::Channel;
use crate::peer::violation::Violation;
use crate::stats::Counters;
use crate::store::{MunroIndex, Slot};
use crate::time::Instant;
use crate::wire::{Extension, Format, Message, Munro, encode_data_header};

/// Munros sent to one child in one go while it catches up.
const PUMP_MUNROS_MAX: usize = 16;
/// What may be under way to a child at the head before it is treated as behind: two seconds of 8 Mbit/s. Its
/// acknowledgements may just be late; the stream's own rate is what paces it.
const HEAD_IN_FLIGHT_BYTES: u64 = 2 << 20;
/// What any remote may always have under way of backlog or repairs. With less, a child that was starved of processor
/// time for a moment would be given less than the stream's rate from then on and never catch up (RFC 7574 §8.16 lets
/// live deployments be as quick as TCP).
pub(super) const CATCH_UP_BYTES: u64 = 512 * 1024;
/// A DATA message and its channel, without the chunk: 64-bit chunk ranges.
const DATA_HEADER_BYTES: u64 = 4 + 1 + 16 + 8;

impl Node {
    /// After anything came in or was made: push it, ask for what is missing, acknowledge, play.
    pub(super) fn flush(&mut self, now: Instant) {
        for at in 0..self.swarms.len() {
            if self
                .swarms
                .get(at)
                .is_some_and(|swarm| !swarm.fresh.is_empty())
            {
                self.flush_fresh(now, at);
            }
            self.poll_repair(now, at);
            self.poll_playout(now, at);
        }
        self.flush_acks(now);
    }

    fn flush_fresh(&mut self, now: Instant, at: usize) {
        let Some(swarm) = self.swarms.get_mut(at) else {
            return;
        };
        let mut fresh = std::mem::take(&mut swarm.fresh);
        fresh.sort_unstable_by_key(|fresh| fresh.index);
        let before = swarm.newest;
        for &one in &fresh {
            swarm.mark_entries(one);
            if one.is_new {
                note_holes(now, swarm, one.index);
            }
        }
        if let (Some(before), Some(newest)) = (before, swarm.newest)
            && newest > before.plus(1)
        {
            self.note_holes_in_pending(now, at, before, newest);
        }
        self.start_playout(at, &fresh);
        for &one in &fresh {
            self.push_fresh(now, at, one);
            self.announce_to_plain(now, at, one.index);
        }
        fresh.clear();
        if let Some(swarm) = self.swarms.get_mut(at) {
            swarm.fresh = fresh;
        }
    }

    /// One munro with new chunks in it, to all children that are far enough.
    fn push_fresh(&mut self, now: Instant, at: usize, fresh: Fresh) {
        let now_us = self.epoch.unix_micros(now);
        let Self {
            swarms,
            channels,
            outbox,
            ..
        } = self;
        let Some(swarm) = swarms.get_mut(at) else {
            return;
        };
        if swarm.children.is_empty() {
            return;
        }
        let Some(slot) = swarm.window.slot(fresh.index) else {
            return;
        };
        // Laid out at most twice for all who want the same substreams: whole for those who get it in turn, and only the new
        // chunks for those past it.
        let mut trains: Vec<(u32, bool, Train)> = Vec::with_capacity(1);
        let mut pushed = Sent::default();
        for &child in &swarm.children {
            let Some(channel) = channels.get_mut(child) else {
                continue;
            };
            let Some(subscriber) = &mut channel.subscriber else {
                continue;
            };
            if fresh.index < subscriber.start {
                continue;
            }
            let in_turn = subscriber.cursor <= fresh.index;
            if in_turn && !subscriber.at_head {
                continue;
            }
            if in_turn
                && channel.ledbat.in_flight_bytes()
                    > HEAD_IN_FLIGHT_BYTES.max(channel.ledbat.window_bytes())
            {
                subscriber.at_head = false;
                continue;
            }
            let is_whole = in_turn || fresh.is_new;
            let wanted = if is_whole {
                slot.payload_mask()
            } else {
                fresh.mask
            };
            let mask = wanted & subscriber.places;
            let with_hashes = subscriber.wants_hashes;
            subscriber.cursor = subscriber.cursor.max(fresh.index.plus(1));
            if mask == 0 && !(is_whole && with_hashes) {
                continue;
            }
            let laid_out = trains
                .iter()
                .position(|(of, whole, _)| (*of, *whole) == (mask, is_whole));
            let place = laid_out.unwrap_or_else(|| {
                let hashes = is_whole.then(|| Hashes::of(swarm, slot));
                let train = lay_out(outbox, swarm, slot, mask, hashes, now_us);
                trains.push((mask, is_whole, train));
                trains.len() - 1
            });
            if let Some((_, _, train)) = trains.get_mut(place) {
                pushed = pushed.plus(note_sent(now, channel, fresh.index, train, with_hashes));
            }
        }
        for (_, _, train) in trains {
            outbox.push_train(train);
        }
        pushed.count(&mut swarm.counters);
    }

    /// Sends a child that is behind what its window allows.
    pub(super) fn pump(&mut self, now: Instant, at: usize) {
        let now_us = self.epoch.unix_micros(now);
        let Self {
            swarms,
            channels,
            outbox,
            ..
        } = self;
        for _ in 0..PUMP_MUNROS_MAX {
            let Some(channel) = channels.get_mut(at) else {
                return;
            };
            let Some(swarm) = swarms.get_mut(channel.swarm) else {
                return;
            };
            let Some(subscriber) = &mut channel.subscriber else {
                return;
            };
            if subscriber.at_head {
                return;
            }
            let next = swarm.next_behind(subscriber.cursor);
            if matches!(next, Next::Head) {
                subscriber.at_head = true;
                return;
            }
            if channel.ledbat.in_flight_bytes() >= CATCH_UP_BYTES.max(channel.ledbat.window_bytes())
            {
                return;
            }
            let (slot, hashes) = match next {
                Next::Window(slot) => (slot, Hashes::of(swarm, slot)),
                Next::Archive(_) | Next::Load if !archive::is_due(now, subscriber) => {
                    let (index, due) = (channel.swarm, subscriber.archive_due);
                    return self.await_turn(index, due);
                }
                Next::Archive(slot) => {
                    let have = Some(archive::note_given(now, subscriber, slot));
                    (slot, Hashes { have })
                }
                Next::Load => {
                    let (index, cursor) = (channel.swarm, subscriber.cursor);
                    return self.load(now, index, cursor, LOAD_MUNROS);
                }
                Next::Head => return,
            };
            subscriber.cursor = slot.index().plus(1);
            let with_hashes = subscriber.wants_hashes;
            let index = slot.index();
            let mask = slot.payload_mask() & subscriber.places;
            if mask == 0 && !with_hashes {
                continue;
            }
            let mut train = lay_out(outbox, swarm, slot, mask, Some(hashes), now_us);
            let pushed = note_sent(now, channel, index, &mut train, with_hashes);
            outbox.push_train(train);
            pushed.count(&mut swarm.counters);
        }
    }

    /// What a child got: its window opens, and its round-trip time is known better.
    pub(super) fn on_ack(
        &mut self,
        now: Instant,
        arrived: Instant,
        at: usize,
        range: ChunkRange,
        delay_us: i64,
    ) {
        let Some(channel) = self.channels.get_mut(at) else {
            return;
        };
        let swarm = self.swarms.get(channel.swarm);
        let newest = swarm.and_then(Swarm::newest_held);
        // A run may reach past what we have, since others feed the remote too, but not begin there (S-16).
        if newest.is_none_or(|newest| MunroIndex::of(range.first()) > newest) {
            return self.strike(now, at, Violation::BadAck(range.first().get()));
        }
        if let Some(child) = &mut channel.subscriber {
            let oldest = swarm.and_then(|swarm| swarm.window.oldest());
            let oldest = oldest.map(Slot::index);
            child.note_has(range, oldest.unwrap_or_default().first_chunk());
            child.acked_at = now;
        }
        let (bytes, sent_at) = channel.in_flight.on_ack(range);
        if !channel.has_extensions() {
            channel.note_have(range);
        }
        if let Some(sent_at) = sent_at {
            channel.rtt.sample(now, arrived - sent_at);
            channel.ledbat.on_ack(now, bytes, delay_us);
        }
        if channel
            .subscriber
            .as_ref()
            .is_some_and(|child| !child.at_head)
        {
            self.pump(now, at);
        }
        self.serve_plain(now, at);
    }

    /// Sends the acknowledgements that are due: one a channel, not one a chunk.
    fn flush_acks(&mut self, now: Instant) {
        let Self {
            swarms,
            channels,
            outbox,
            ..
        } = self;
        for swarm in swarms.iter() {
            for &at in &swarm.suppliers {
                let Some(channel) = channels.get_mut(at) else {
                    continue;
                };
                let Some((index, delay_us)) = channel.ack_due.take() else {
                    continue;
                };
                // Of several parents each brings a part: what all of them brought is said beside it.
                let whole = match swarm.shares.is_empty() {
                    true => None,
                    false => swarm
                        .head()
                        .and_then(|head| swarm.window.complete().covering(head)),
                };
                // Nothing is acknowledged before it is proven (RFC 7574 §3.5); what waits is looked at again.
                let Some(range) = acknowledged(swarm, index) else {
                    if !channel.pending.is_empty() {
                        channel.ack_due = Some((index, delay_us));
                    }
                    continue;
                };
                let whole = whole.filter(|whole| !whole.contains(range.first()));
                send(now, outbox, channel, |out| {
                    for range in [Some(range), whole].into_iter().flatten() {
                        Message::Ack { range, delay_us }.encode(&swarm.terms.format, out);
                    }
                });
            }
        }
    }
}

/// Sends one datagram on a channel.
pub(super) fn send(
    now: Instant,
    outbox: &mut Outbox,
    channel: &mut Channel,
    fill: impl FnOnce(&mut Vec<u8>),
) {
    let bytes = outbox.datagram(channel.port, channel.addr, channel.remote.channel, fill);
    channel.last_sent = now;
    channel.unanswered = channel.unanswered.saturating_add(1);
    channel.counters.sent_packets += 1;
    channel.counters.sent_bytes += bytes as u64;
}

/// What one train brought one child.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    pub(super) chunks: u64,
    media_bytes: u64,
    hash_bytes: u64,
}

impl Sent {
    const fn plus(self, other: Self) -> Self {
        Self {
            chunks: self.chunks + other.chunks,
            media_bytes: self.media_bytes + other.media_bytes,
            hash_bytes: self.hash_bytes + other.hash_bytes,
        }
    }

    pub(super) const fn count(self, counters: &mut Counters) {
        counters.sent_packets += self.chunks;
        counters.sent_media_bytes += self.media_bytes;
        counters.sent_hash_bytes += self.hash_bytes;
    }
}

/// Adds a child to a train and to the books. Gives the chunks sent.
pub(super) fn note_sent(
    now: Instant,
    channel: &mut Channel,
    index: MunroIndex,
    train: &mut Train,
    with_hashes: bool,
) -> Sent {
    let (datagrams, bytes) = train.size_for(with_hashes);
    train.add_target(Target {
        remote: channel.remote.channel,
        port: channel.port,
        to: channel.addr,
        with_hashes,
    });
    channel.last_sent = now;
    channel.unanswered = channel.unanswered.saturating_add(1);
    channel.counters.sent_packets += datagrams;
    channel.counters.sent_bytes += bytes;
    channel.ledbat.on_sent(bytes);
    channel
        .in_flight
        .on_sent(now, index, u32::try_from(bytes).unwrap_or(u32::MAX));
    let (chunks, chunk_bytes) = train.size_for(false);
    Sent {
        chunks,
        media_bytes: chunk_bytes - chunks * DATA_HEADER_BYTES.min(chunk_bytes),
        hash_bytes: bytes - chunk_bytes,
    }
}

/// What goes behind the chunks of a munro beside its signature and leaf hashes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hashes {
    /// A run of chunks that we have, this munro among them.
    pub(super) have: Option<ChunkRange>,
}

impl Hashes {
    /// With all that is complete around the munro.
    pub(super) fn of(swarm: &Swarm, slot: &Slot) -> Self {
        let have = swarm.window.complete_around(slot.index());
        Self { have }
    }
}

/// Lays out chunks of a munro, and its hashes behind them.
pub(super) fn lay_out(
    outbox: &mut Outbox,
    swarm: &Swarm,
    slot: &Slot,
    mask: u32,
    hashes: Option<Hashes>,
    now_us: u64,
) -> Train {
    let format = &swarm.terms.format;
    let mut train = outbox.new_train();
    for place in 0..32 {
        if mask & (1 << place) == 0 {
            continue;
        }
        let Some(payload) = slot.payload(place) else {
            continue;
        };
        let out = train.begin_datagram();
        encode_data_header(out, format, slot.index().chunk_at(place), now_us);
        out.extend_from_slice(payload);
    }
    if let Some(hashes) = hashes {
        encode_hashes(hashes, slot, format, train.begin_hashes());
    }
    train
}

/// What is complete around a munro, its signature, its leaf hashes.
pub(super) fn encode_hashes(hashes: Hashes, slot: &Slot, format: &Format, out: &mut Vec<u8>) {
    if let Some(range) = hashes.have {
        Message::Have(range).encode(format, out);
    }
    let Some(leaves) = slot.tree().leaves() else {
        return;
    };
    let munro = slot.munro();
    Extension::Munro(Munro {
        start: slot.index().first_chunk(),
        time: munro.time(),
        signature: munro.signature().clone(),
        leaves,
    })
    .encode(format, out);
}

/// The run to acknowledge for a munro: everything around it when it is whole, else the longest run in it.
fn acknowledged(swarm: &Swarm, index: MunroIndex) -> Option<ChunkRange> {
    if let Some(range) = swarm.window.complete_around(index) {
        return Some(range);
    }
    let held = swarm.window.slot(index)?.held_mask();
    let mut best: Option<(u32, u32)> = None;
    let mut place = 0;
    while place < 32 {
        let run = (held >> place).trailing_ones();
        if run > 0 && best.is_none_or(|(_, longest)| run > longest) {
            best = Some((place, run));
        }
        place += run.max(1);
    }
    let (first, run) = best?;
    ChunkRange::from_count(index.chunk_at(first), u64::from(run))
}
