//! What comes in: chunks and the hashes that prove them.
//!
//! Nothing gets from a datagram to the window but through [`Unproven`]. A chunk that fails a hash already proven is its
//! sender's fault alone; the chunk is fetched elsewhere.

use std::time::Duration;

use bytes::Bytes;

use super::{Event, Node};
use crate::chunk::{ChunkIndex, ChunkRange};
use crate::integrity::live::{MunroTree, SignedMunro};
use crate::integrity::{ProofError, Proven, Unproven};
use crate::peer::channel::Channel;
use crate::peer::violation::Violation;
use crate::schedule::repair::Hole;
use crate::store::{Inserted, MunroIndex, Slot, position};
use crate::time::{Instant, NtpTime};
use crate::wire::{Data, Digest, Munro};

/// Why a chunk was not proven.
enum Unfit {
    /// Its leaf is proven, and another one.
    Chunk,
    /// It and the unproven hashes do not go together.
    Hashes,
    /// Hashes are missing.
    NotYet,
}

/// Whoever goes on with the stream unasked has taken our subscription. An answer to a request says nothing of the kind:
/// taken for a push it would keep us from subscribing again with a parent that never heard of it.
fn note_push(
    now: Instant,
    channel: &mut Channel,
    newest: Option<MunroIndex>,
    index: MunroIndex,
    asked: bool,
) {
    if let Some(subscription) = &mut channel.subscription
        && !asked
        && newest.is_none_or(|newest| index > newest)
    {
        subscription.accepted = true;
        subscription.last_push = now;
    }
}

impl Node {
    pub(super) fn on_data(&mut self, now: Instant, arrived: Instant, at: usize, data: Data) {
        let chunk = data.range.first();
        let index = MunroIndex::of(chunk);
        let arrived_us = self.epoch.unix_micros(arrived);
        let Some(channel) = self.channels.get_mut(at) else {
            return;
        };
        let Some(swarm) = self.swarms.get_mut(channel.swarm) else {
            return;
        };
        if !swarm.suppliers.contains(&at) {
            // Whoever called us was never asked for anything.
            self.stats.unrequested_chunks += 1;
            if index >= swarm.window.floor() && !swarm.window.holds(chunk) {
                self.strike(now, at, Violation::Unrequested(chunk.get()));
            }
            return;
        }
        swarm.counters.recv_packets += 1;
        swarm.counters.recv_media_bytes += data.payload.len() as u64;
        // One sample a munro: the first DATA of its train, which waited for no other.
        if channel.ack_due.is_none_or(|(due, _)| due < index) {
            let delay_us = arrived_us.wrapping_sub(data.time_us).cast_signed();
            channel.ack_due = Some((index, delay_us));
            channel.last_delay_us = delay_us;
            if swarm.parent == Some(at) {
                swarm.jitter.on_packet(data.time_us, arrived_us);
            }
        }
        let hole = Hole::Chunk(chunk);
        let asked = swarm.repair.is_asked(hole) || swarm.repair.is_asked(Hole::Munro(index));
        note_push(now, channel, swarm.newest, index, asked);
        if !swarm.shares.is_empty() {
            let hashes = swarm.window.slot(index).map(Slot::arrived);
            let lag = hashes.map_or(Duration::ZERO, |at| arrived.max(at) - at);
            swarm.shares.on_chunk(at, lag);
        }
        if let Some(subscription) = &mut channel.subscription {
            subscription.sent_long |= data.payload.len() > super::report::ANY_PATH_BYTES;
        }
        if index < swarm.window.floor() || swarm.tune_in.is_some_and(|first| index < first) {
            swarm.counters.dropped_late_packets += 1;
            return;
        }
        let wanted = channel.is_parent() || asked;
        let slot = swarm.window.slot(index);
        if slot.is_some_and(|slot| slot.held_mask() & (1 << position(chunk)) != 0) {
            swarm.counters.duplicate_packets += 1;
            channel.counters.duplicate_chunks += 1;
            if let (Some(layout), Some(subscription)) = (swarm.layout, &mut channel.subscription) {
                let is_theirs = subscription.parts.contains(layout.substream_of(chunk));
                subscription.is_overdone |= !is_theirs && !asked;
            }
            self.note_takeover(now, at, chunk, data.payload);
            return;
        }
        if !wanted {
            // It may have been asked for and come late, so it costs the sender nothing (S-03).
            self.stats.unrequested_chunks += 1;
            return;
        }
        let unproven = Unproven::new(data.payload);
        if slot.is_none() {
            channel.pending.add(chunk, unproven);
        } else {
            self.prove(now, at, chunk, unproven);
        }
    }

    /// Proves a chunk by the hashes of its munro, and stores it.
    fn prove(&mut self, now: Instant, at: usize, chunk: ChunkIndex, unproven: Unproven<Bytes>) {
        let index = MunroIndex::of(chunk);
        let Some(channel) = self.channels.get_mut(at) else {
            return;
        };
        let Some(swarm) = self.swarms.get_mut(channel.swarm) else {
            return;
        };
        let Some(tree) = swarm.window.tree_mut(index) else {
            return;
        };
        let result = match tree.leaf(chunk) {
            Some(leaf) => unproven.prove(&leaf).map_err(|_| Unfit::Chunk),
            None => tree
                .open(chunk, unproven, channel.provisional.as_slice())
                .map_err(|(error, _)| match error {
                    ProofError::Mismatch { .. } => Unfit::Hashes,
                    ProofError::Missing { .. }
                    | ProofError::Outside { .. }
                    | ProofError::Unsized => Unfit::NotYet,
                }),
        };
        match result {
            Ok(proven) => self.store_proven(now, at, proven),
            Err(Unfit::Chunk) => {
                swarm.counters.bad_hash_packets += 1;
                self.strike(now, at, Violation::BadChunk(chunk.get()));
            }
            // Hashes and chunk come from this one neighbour, so a misfit is its doing whichever of them is wrong. But
            // one flipped bit on the way spoils many chunks: all hashes of the munro are asked for anew, and it counts
            // once.
            Err(Unfit::Hashes) => {
                swarm.counters.bad_hash_packets += 1;
                if channel.note_misfit(index) {
                    self.strike(now, at, Violation::BadChunk(chunk.get()));
                }
            }
            Err(Unfit::NotYet) => self.stats.unprovable_chunks += 1,
        }
    }

    fn store_proven(&mut self, now: Instant, at: usize, proven: Proven) {
        let chunk = proven.chunk();
        let is_empty = proven.payload().is_empty();
        let Some(channel) = self.channels.get_mut(at) else {
            return;
        };
        let Some(swarm) = self.swarms.get_mut(channel.swarm) else {
            return;
        };
        if !swarm.window.put(proven) {
            return;
        }
        // Only what is new and proven counts as delivery: a liar that repeats old chunks is silent.
        if let Some(subscription) = &mut channel.subscription {
            subscription.last_media = Some(now);
        }
        swarm.counters.verified_packets += 1;
        if self.role == super::Role::Relay {
            swarm
                .counters
                .first_chunk
                .get_or_insert_with(|| chunk.get());
            swarm.counters.last_chunk = swarm.counters.last_chunk.max(Some(chunk.get()));
        }
        if let Some(open_for) = swarm.repair.got(now, Hole::Chunk(chunk)) {
            swarm.counters.repaired_packets += 1;
            self.stats.slowest_repair = self.stats.slowest_repair.max(open_for);
        } else {
            swarm.shares.on_delivered(at);
        }
        let mask = if is_empty { 0 } else { 1 << position(chunk) };
        swarm.note_fresh(MunroIndex::of(chunk), mask, false);
    }

    /// Signature and leaf hashes of a munro in one message.
    pub(super) fn on_munro(&mut self, now: Instant, arrived: Instant, at: usize, munro: Munro) {
        let index = MunroIndex::of(munro.start);
        if index.first_chunk() != munro.start {
            return self.strike(now, at, Violation::BadMunro(munro.start.get()));
        }
        let Some(channel) = self.channels.get_mut(at) else {
            return;
        };
        let Some(swarm) = self.swarms.get_mut(channel.swarm) else {
            return;
        };
        swarm.counters.recv_hash_bytes += 85 + 32 * munro.leaves.len() as u64;
        let asked = swarm.repair.is_asked(Hole::Munro(index));
        note_push(now, channel, swarm.newest, index, asked);
        if channel.ack_due.is_none_or(|(due, _)| due < index) {
            channel.ack_due = Some((index, channel.last_delay_us));
        }
        let known = swarm.window.slot(index);
        let same = known.is_some_and(|slot| slot.munro().signature() == &munro.signature);
        let wanted = channel.is_parent() || asked;
        let passed =
            swarm.tune_in.is_some_and(|first| index < first) || swarm.window.is_too_old(munro.time);
        if (same && known.is_some_and(|slot| slot.tree().is_complete())) || !wanted || passed {
            return;
        }
        let Some(tree) = MunroTree::from_leaves(swarm.terms.hash, index.chunks(), &munro.leaves)
        else {
            return self.strike(now, at, Violation::BadMunro(munro.start.get()));
        };
        let settled = match known {
            // The signature is verified already; only the leaves are new.
            Some(slot) if same => tree
                .settle(slot.munro())
                .map(|tree| (slot.munro().clone(), tree))
                .ok(),
            _ => {
                swarm.counters.verified_munros += 1;
                tree.verify(&swarm.authority, munro.time, munro.signature)
                    .ok()
            }
        };
        match settled {
            Some((munro, tree)) => self.store_munro(now, arrived, at, munro, tree),
            None => {
                swarm.counters.bad_signatures += 1;
                self.strike(now, at, Violation::BadMunro(munro.start.get()));
            }
        }
    }

    /// Stores a verified munro and proves what waited for it.
    fn store_munro(
        &mut self,
        now: Instant,
        arrived: Instant,
        at: usize,
        munro: SignedMunro,
        tree: MunroTree,
    ) {
        let index = MunroIndex::of(munro.range().first());
        let Some(swarm_index) = self.channels.get(at).map(|channel| channel.swarm) else {
            return;
        };
        let Some(swarm) = self.swarms.get_mut(swarm_index) else {
            return;
        };
        match swarm.window.insert(arrived, munro, tree) {
            Inserted::New => {}
            Inserted::Known => {
                swarm.note_fresh(index, 0, false);
                return self.prove_pending(now, swarm_index, index);
            }
            Inserted::Conflict => {
                swarm.counters.violations += 1;
                let chunk = index.first_chunk();
                return self.push_event(Event::Equivocation {
                    swarm: swarm_index,
                    chunk,
                });
            }
            Inserted::TooOld => return,
        }
        swarm.repair.got(now, Hole::Munro(index));
        if swarm.tune_in.is_none() {
            self.begin(now, at, index);
        }
        let Some(swarm) = self.swarms.get_mut(swarm_index) else {
            return;
        };
        let is_from_parent = swarm.parent == Some(at);
        if is_from_parent {
            if let Some(last) = swarm.last_train {
                // An eighth of the news, as for round-trip times; a pause is no spacing.
                let spacing = (arrived - last).min(swarm.train_spacing * 4);
                swarm.train_spacing = (swarm.train_spacing * 7 + spacing) / 8;
            }
            swarm.last_train = Some(arrived);
        }
        swarm.note_fresh(index, 0, true);
        if let (Some(playout), Some(slot)) = (&mut swarm.playout, swarm.window.slot(index)) {
            playout.observe(arrived, slot);
        }
        self.prove_pending(now, swarm_index, index);
    }

    fn prove_pending(&mut self, now: Instant, swarm: usize, index: MunroIndex) {
        let Some(suppliers) = self.swarms.get(swarm).map(|swarm| swarm.suppliers.clone()) else {
            return;
        };
        for at in suppliers {
            let Some(channel) = self.channels.get_mut(at) else {
                continue;
            };
            if channel.pending.is_empty() {
                continue;
            }
            for (place, unproven) in channel.pending.take(index) {
                self.prove(now, at, index.chunk_at(place), unproven);
            }
        }
    }

    /// A hash of a plain peer: kept until a chunk or a signature proves it.
    pub(super) fn on_integrity(&mut self, at: usize, range: ChunkRange, hash: Digest) {
        let Some(channel) = self.channels.get_mut(at) else {
            return;
        };
        channel.munro_hash = Some((range, hash));
        if let Some(bin) = range.to_bin() {
            channel.provisional.insert(bin, hash);
        }
    }

    /// The signature of a munro hash that came right before (RFC 7574 §6.1.2.1).
    pub(super) fn on_signed_integrity(
        &mut self,
        now: Instant,
        arrived: Instant,
        at: usize,
        range: ChunkRange,
        time: NtpTime,
        signature: Bytes,
    ) {
        let Some(channel) = self.channels.get_mut(at) else {
            return;
        };
        let Some((_, hash)) = channel
            .munro_hash
            .take()
            .filter(|(hashed, _)| *hashed == range)
        else {
            return;
        };
        if let Some(bin) = range.to_bin() {
            channel.provisional.forget(bin);
        }
        let Some(swarm) = self.swarms.get_mut(channel.swarm) else {
            return;
        };
        let index = MunroIndex::of(range.first());
        let known = swarm
            .window
            .slot(index)
            .is_some_and(|slot| slot.munro().signature() == &signature);
        let passed =
            swarm.tune_in.is_some_and(|first| index < first) || swarm.window.is_too_old(time);
        // Only whoever we get the stream from may make us verify (S-05).
        if known || passed || !swarm.suppliers.contains(&at) || range != index.chunks() {
            return;
        }
        swarm.counters.verified_munros += 1;
        match SignedMunro::verify(&swarm.authority, range, time, hash, signature) {
            Ok(munro) => {
                let tree = MunroTree::from_root(&munro);
                self.store_munro(now, arrived, at, munro, tree);
            }
            Err(_) => {
                swarm.counters.bad_signatures += 1;
                self.strike(now, at, Violation::BadMunro(range.first().get()));
            }
        }
    }
}
