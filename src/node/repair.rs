//! Holes: noticing what is missing, asking neighbours for it, and giving it to those that ask us.

use std::time::Duration;

use super::channels::Channels;
use super::push::{CATCH_UP_BYTES, Hashes, encode_hashes, lay_out, note_sent, send};
use super::swarm::Swarm;
use super::{Node, TICK};
use crate::chunk::{ChunkIndex, ChunkRange};
use crate::integrity::live::MUNRO_WIDTH;
use crate::schedule::repair::{Ask, Hole, REORDER_DELAY, Supplier};
use crate::store::playout::Playout;
use crate::store::{MunroIndex, Slot};
use crate::time::Instant;
use crate::wire::{Extension, Message};

/// A parent that pushed nothing for this long is not the only one whose announcements are followed.
const QUIET: Duration = Duration::from_secs(1);
/// Munros looked for behind the newest when so much is announced that it is a jump, or nonsense.
const MISSED_MOST: u64 = 4;
/// How long what was announced and not pushed is followed.
const MISSED_SPAN: Duration = Duration::from_secs(10);
/// A hole is followed for this long where nobody plays.
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);
/// Where nobody plays, children wait for what several parents are to push, so long at most.
const PATIENCE_MOST: Duration = Duration::from_millis(100);
/// Longer than any window.
const NEVER: Duration = Duration::from_secs(1 << 30);
/// Missing munros asked for at once.
pub(super) const MUNRO_GAP_MAX: u64 = 256;
/// The least wait for the answer to a request.
const ANSWER_LEAST: Duration = Duration::from_millis(20);

impl Node {
    /// A remote wants single chunks: REQUEST, or FETCH when it holds the hashes.
    pub(super) fn on_request(
        &mut self,
        now: Instant,
        at: usize,
        range: ChunkRange,
        holds_hashes: bool,
    ) {
        if !self.admits(now, at) {
            return;
        }
        let Some(channel) = self.channels.get_mut(at) else {
            return;
        };
        if let Some(child) = &mut channel.subscriber {
            child.asked_at = now;
        }
        let Some(swarm) = self.swarms.get(channel.swarm) else {
            return;
        };
        let is_plain = !channel.has_extensions() || !self.extensions;
        let window = &swarm.window;
        let (oldest, newest) = if is_plain {
            let ends = (window.oldest(), window.newest());
            (ends.0.map(Slot::index), ends.1.map(Slot::index))
        } else {
            (swarm.oldest_held(), swarm.newest_held())
        };
        let (Some(oldest), Some(newest)) = (oldest, newest) else {
            return;
        };
        let held = ChunkRange::new(oldest.first_chunk(), newest.chunks().last());
        let Some(range) = held.and_then(|held| held.intersection(range)) else {
            return;
        };
        if is_plain {
            return self.note_plain_request(now, at, range);
        }
        let mut index = MunroIndex::of(range.first());
        while index <= MunroIndex::of(range.last()) {
            let Some(channel) = self.channels.get(at) else {
                return;
            };
            let most = CATCH_UP_BYTES.max(channel.ledbat.window_bytes());
            if channel.ledbat.in_flight_bytes() > most || !self.spend_work(MUNRO_WIDTH) {
                // The asker repeats what it still needs; a flood of requests stops here (S-15, S-26).
                return;
            }
            self.stats.looked_up_chunks += MUNRO_WIDTH;
            self.serve_munro(now, at, index, range, holds_hashes);
            index = index.plus(1);
        }
    }

    fn serve_munro(
        &mut self,
        now: Instant,
        at: usize,
        index: MunroIndex,
        range: ChunkRange,
        holds_hashes: bool,
    ) {
        let now_us = self.epoch.unix_micros(now);
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
        let Some(slot) = swarm.slot(index) else {
            // The asker repeats what it still needs; by then it is here.
            let swarm = channel.swarm;
            return self.load(now, swarm, index, 1);
        };
        let mut mask = 0;
        for place in 0..32 {
            let chunk = index.chunk_at(place);
            if slot.payload_mask() & (1 << place) != 0
                && range.contains(chunk)
                && channel.served.allow(now, chunk)
            {
                mask |= 1 << place;
            }
        }
        if mask == 0 {
            return;
        }
        let hashes = (!holds_hashes).then(|| Hashes::of(swarm, slot));
        let mut train = lay_out(outbox, swarm, slot, mask, hashes, now_us);
        let sent = note_sent(now, channel, index, &mut train, true);
        outbox.push_train(train);
        channel.counters.retransmitted_chunks += sent.chunks;
        swarm.counters.retransmitted_packets += sent.chunks;
        sent.count(&mut swarm.counters);
    }

    /// A remote lacks the hashes of a munro.
    pub(super) fn on_need_munro(&mut self, now: Instant, at: usize, start: ChunkIndex) {
        if !self.admits(now, at) {
            return;
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
        if let Some(child) = &mut channel.subscriber {
            child.asked_at = now;
        }
        let Some(swarm) = swarms.get(channel.swarm) else {
            return;
        };
        let Some(slot) = swarm.slot(MunroIndex::of(start)) else {
            let swarm = channel.swarm;
            return self.load(now, swarm, MunroIndex::of(start), 1);
        };
        if !slot.tree().is_complete() || !channel.served.allow_munro(now, slot.index()) {
            return;
        }
        let format = swarm.terms.format;
        send(now, outbox, channel, |out| {
            encode_hashes(Hashes::of(swarm, slot), slot, &format, out)
        });
    }

    /// Asks for what is missing.
    pub(super) fn poll_repair(&mut self, now: Instant, at: usize) {
        let Some(swarm) = self.swarms.get_mut(at) else {
            return;
        };
        if swarm
            .repair
            .deadline()
            .is_none_or(|deadline| deadline > now)
        {
            return;
        }
        let mut asks: Vec<Ask> = Vec::new();
        let channels = &self.channels;
        let (parent, suppliers) = (swarm.parent, &swarm.suppliers);
        swarm.repair.poll(
            now,
            |hole| suppliers_of(channels, suppliers, parent, hole),
            &mut asks,
        );
        swarm.counters.requested_packets += asks.len() as u64;
        self.send_asks(now, at, &asks);
    }

    /// One datagram a remote: NEED_MUNRO for munros, FETCH or REQUEST for runs of chunks.
    fn send_asks(&mut self, now: Instant, at: usize, asks: &[Ask]) {
        let extensions = self.extensions;
        let Self {
            swarms,
            channels,
            outbox,
            ..
        } = self;
        let Some(swarm) = swarms.get(at) else { return };
        let format = swarm.terms.format;
        let mut remotes: Vec<usize> = asks.iter().map(|ask| ask.channel).collect();
        remotes.sort_unstable();
        remotes.dedup();
        for remote in remotes {
            let Some(channel) = channels.get_mut(remote) else {
                continue;
            };
            let extended = extensions && channel.has_extensions();
            let mut messages: Vec<Message> = Vec::new();
            let mut run: Option<ChunkRange> = None;
            let end_run = |run: &mut Option<ChunkRange>, messages: &mut Vec<Message>| {
                let Some(range) = run.take() else { return };
                let holds = swarm.window.slot(MunroIndex::of(range.first())).is_some();
                messages.push(if extended {
                    let flags = if holds { Extension::HOLDS_HASHES } else { 0 };
                    Message::Extension(Extension::Fetch { range, flags })
                } else {
                    Message::Request(range)
                });
            };
            for ask in asks.iter().filter(|ask| ask.channel == remote) {
                match ask.hole {
                    Hole::Munro(index) => {
                        end_run(&mut run, &mut messages);
                        if extended {
                            messages.push(Message::Extension(Extension::NeedMunro(
                                index.first_chunk(),
                            )));
                        }
                    }
                    Hole::Chunk(chunk) => {
                        let joined = run
                            .filter(|run| run.last().plus(1) == chunk)
                            .filter(|run| MunroIndex::of(run.first()) == MunroIndex::of(chunk))
                            .and_then(|run| ChunkRange::new(run.first(), chunk));
                        if joined.is_none() {
                            end_run(&mut run, &mut messages);
                        }
                        run = Some(joined.unwrap_or_else(|| ChunkRange::single(chunk)));
                    }
                }
            }
            end_run(&mut run, &mut messages);
            for batch in messages.chunks(48) {
                send(now, outbox, channel, |out| {
                    for message in batch {
                        message.encode(&format, out);
                    }
                });
            }
        }
    }

    /// Chunks that wait for a lost signature show which others are lost too: those are asked for without waiting.
    pub(super) fn note_holes_in_pending(
        &mut self,
        now: Instant,
        at: usize,
        from: MunroIndex,
        to: MunroIndex,
    ) {
        let Some(swarm) = self.swarms.get_mut(at) else {
            return;
        };
        let Some(channel) = swarm.parent.and_then(|parent| self.channels.get(parent)) else {
            return;
        };
        for (index, mask) in channel.pending.masks() {
            if index < from || index >= to {
                continue;
            }
            for place in 0..32 - mask.leading_zeros() {
                if mask & (1 << place) == 0 {
                    let hole = Hole::Chunk(index.chunk_at(place));
                    swarm
                        .repair
                        .want(now, hole, REORDER_DELAY, now + GIVE_UP_AFTER);
                }
            }
        }
    }

    /// Forgets holes behind the window, and follows what was announced and not pushed: the last munro before a pause has
    /// nothing behind it that would show its loss.
    pub(super) fn tick_stream(&mut self, now: Instant, at: usize) {
        let Some(swarm) = self.swarms.get_mut(at) else {
            return;
        };
        swarm.repair.discard_below(swarm.window.floor());
        if let Some(archive) = &mut swarm.archive {
            archive.tidy(now);
        }
        let Some(newest) = swarm.newest.filter(|_| !swarm.is_source()) else {
            return;
        };
        let channels = &self.channels;
        let pushing = swarm
            .parent
            .and_then(|parent| channels.get(parent))
            .filter(|channel| {
                channel.subscription.is_some_and(|subscription| {
                    subscription.accepted && now - subscription.last_push < QUIET
                })
            });
        // A parent that gives nothing more may not have the end of the stream, or keep it to itself.
        let announced = match pushing {
            Some(parent) => parent.newest_announced,
            None => {
                let suppliers = swarm.suppliers.iter().filter_map(|&at| channels.get(at));
                suppliers
                    .filter_map(|channel| channel.newest_announced)
                    .max()
            }
        };
        let Some(mut announced) = announced else {
            return;
        };
        // One flipped bit in one HAVE must not hide the end of the stream for ever.
        if MunroIndex::of(announced) > newest.plus(MUNRO_GAP_MAX) {
            announced = newest.plus(MISSED_MOST).chunks().last();
        }
        if let Some(gap) = ChunkRange::new(newest.plus(1).first_chunk(), announced) {
            note_gap(now, swarm, gap, TICK, now + MISSED_SPAN);
        }
    }
}

/// Follows the holes in a munro just proven, and in the numbers before it.
pub(super) fn note_holes(now: Instant, swarm: &mut Swarm, index: MunroIndex) {
    let before = swarm.newest;
    swarm.newest = swarm.newest.max(Some(index));
    if swarm.is_source() {
        return;
    }
    let Some(slot) = swarm.window.slot(index) else {
        return;
    };
    let give_up = give_up_at(now, swarm, slot);
    let missing = slot.missing_mask() & slot.filled_mask();
    // With the hashes of single leaves unknown (a plain parent) chunks are asked for as they are announced.
    if slot.tree().is_complete() && missing != 0 {
        let layout = swarm.layout.unwrap_or_default();
        swarm.shares.on_missing(now, layout, missing);
        let latency = swarm.playout.as_ref().map(Playout::latency);
        let most = latency.map_or(PATIENCE_MOST, |latency| latency / 4);
        let mut noticed = 0;
        for place in 0..32 {
            if missing & (1 << place) != 0 {
                let chunk = index.chunk_at(place);
                let after = swarm.shares.patience(layout.substream_of(chunk), most);
                let hole = Hole::Chunk(chunk);
                noticed += u64::from(swarm.repair.want(now, hole, after, give_up));
            }
        }
        swarm.counters.lost_packets += noticed;
    }
    let from = before.map_or(swarm.tune_in, |before| Some(before.plus(1)));
    if let Some(from) = from.filter(|from| *from < index)
        && let Some(gap) = ChunkRange::new(from.first_chunk(), index.first_chunk().minus(1))
    {
        note_gap(now, swarm, gap, REORDER_DELAY, give_up);
    }
}

/// How long the holes around a munro are followed.
pub(super) fn give_up_at(now: Instant, swarm: &Swarm, slot: &Slot) -> Instant {
    match &swarm.playout {
        // What a player waits for it asks for, until it is behind the window.
        Some(playout) if !playout.skips() => now + NEVER,
        // A player has no use for a chunk long after it was due, but children may be behind us.
        Some(playout) => {
            (playout.due(slot) + Duration::from_secs(1)).max(now + Duration::from_secs(2))
        }
        None => now + GIVE_UP_AFTER,
    }
}

/// Follows whole munros that were passed over. More of them than can be lost in a row is a jump in the numbers.
pub(super) fn note_gap(
    now: Instant,
    swarm: &mut Swarm,
    gap: ChunkRange,
    after: Duration,
    give_up: Instant,
) {
    let (first, last) = (MunroIndex::of(gap.first()), MunroIndex::of(gap.last()));
    if last.get() - first.get() >= MUNRO_GAP_MAX {
        return;
    }
    let mut index = first;
    while index <= last {
        if swarm.window.slot(index).is_none() {
            swarm.repair.want(now, Hole::Munro(index), after, give_up);
        }
        index = index.plus(1);
    }
}

/// Who may have a hole: the parent, and whoever announced it.
fn suppliers_of(
    channels: &Channels,
    suppliers: &[usize],
    parent: Option<usize>,
    hole: Hole,
) -> Vec<Supplier> {
    let mut list = Vec::with_capacity(suppliers.len());
    for &at in suppliers {
        let Some(channel) = channels.get(at) else {
            continue;
        };
        let has = match hole {
            Hole::Chunk(chunk) => channel.has(chunk),
            Hole::Munro(index) => channel.available.overlaps(index.chunks()),
        };
        let is_parent = parent == Some(at);
        // A parent may have what it could not announce whole.
        let may_have = has || is_parent;
        if channel.is_open() && !channel.chokes_us && may_have {
            list.push(Supplier {
                channel: at,
                timeout: channel.rtt.repeat_after(ANSWER_LEAST),
                is_parent,
                heard: channel.last_heard,
            });
        }
    }
    list
}
