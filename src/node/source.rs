//! The source's part: media into chunks, chunks into munros, munros signed in time.

use std::time::Duration;

use bytes::Bytes;

use super::Node;
use super::config::SourceConfig;
use crate::chunk::ChunkIndex;
use crate::integrity::Proven;
use crate::integrity::hash::digest;
use crate::integrity::key::SigningKey;
use crate::integrity::live::{Authority, MUNRO_WIDTH, MunroTree, SignedMunro};
use crate::media::{Cutter, Scanner};
use crate::seal::{EpochId, EpochKey, Hints, OVERHEAD_BYTES, Sealer, is_sealed};
use crate::store::MunroIndex;
use crate::time::{Instant, NtpTime, micros};

/// A munro just signed: its tree and the bytes of its chunks, in order from the first.
#[derive(Debug)]
pub(super) struct Signed {
    pub munro: SignedMunro,
    pub tree: MunroTree,
    pub chunks: Vec<Bytes>,
}

/// The open munro of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsigned {
    /// When it will be signed, full or not: until then what comes for it may lie unread.
    pub due: Instant,
    /// Whether there are bytes of no full chunk.
    pub has_partial: bool,
}

/// When the bytes of a block came, as far as known: after `since` and by `now`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Came {
    pub since: Instant,
    pub now: Instant,
}

impl Came {
    /// The moment at which the last `left` of `all` bytes began to come, if they came evenly.
    fn of_last(self, left: usize, all: usize) -> Instant {
        let share = left.min(all) as u64;
        let span = micros(self.now - self.since);
        let ago = span.saturating_mul(share) / (all as u64).max(1);
        self.now.saturating_sub(Duration::from_micros(ago))
    }
}

/// Less than so many chunks in a munro are few: its signature and hashes weigh a tenth of them and more.
const FEW_CHUNKS: usize = 8;

/// What a source needs to seal: the chunks that it seals can be scanned by nobody else.
#[derive(Debug)]
struct Sealing {
    sealer: Sealer,
    scanner: Scanner,
}

/// Cuts, seals where that is wanted, and signs.
#[derive(Debug)]
pub(super) struct Source {
    key: SigningKey,
    authority: Authority,
    sealing: Option<Sealing>,
    cutter: Cutter,
    chunks: Vec<Bytes>,
    next: MunroIndex,
    sign_delay: Duration,
    sign_delay_few: Duration,
    /// When the first byte of the open munro came.
    open_since: Option<Instant>,
    /// When the first byte that is in no full chunk came.
    partial_since: Option<Instant>,
    ended: bool,
}

impl Source {
    pub(super) fn new(config: SourceConfig, authority: Authority) -> Self {
        let sealing = config.seal.map(|salt| Sealing {
            sealer: Sealer::new(config.key.swarm_id(), salt),
            scanner: Scanner::new(),
        });
        Self {
            sealing,
            key: config.key,
            authority,
            cutter: Cutter::new(usize::from(config.chunk_packets)),
            chunks: Vec::with_capacity(MUNRO_WIDTH as usize),
            next: MunroIndex::new(config.first_chunk.get().div_ceil(MUNRO_WIDTH)),
            sign_delay: config.sign_delay,
            sign_delay_few: config.sign_delay_few.max(config.sign_delay),
            open_since: None,
            partial_since: None,
            ended: false,
        }
    }

    /// The munro that will be signed next.
    pub(super) const fn next_munro(&self) -> MunroIndex {
        self.next
    }

    /// Whether it is to seal and has no key to do so: media is not taken then, lest it goes out as it is.
    pub(super) fn awaits_key(&self) -> bool {
        let sealing = self.sealing.as_ref();
        sealing.is_some_and(|sealing| sealing.sealer.epoch().is_none())
    }

    /// Seals with this key from the next munro on. Whether it is another one.
    pub(super) fn set_seal(&mut self, epoch: EpochId, key: &EpochKey) -> bool {
        let Some(Sealing { sealer, .. }) = &mut self.sealing else {
            return false;
        };
        let is_new = sealer.epoch() != Some(epoch);
        sealer.set_key(epoch, key);
        is_new
    }

    /// Bytes of a chunk that are no media.
    pub(super) fn overhead_bytes(&self) -> u64 {
        self.sealing.as_ref().map_or(0, |_| OVERHEAD_BYTES as u64)
    }

    /// Whether the input is a transport stream, as far as seen.
    pub(super) const fn is_transport_stream(&self) -> Option<bool> {
        self.cutter.is_transport_stream()
    }

    /// Takes media in; full munros come out at once.
    pub(super) fn push(
        &mut self,
        came: Came,
        ntp: NtpTime,
        media: Bytes,
        signed: &mut Vec<Signed>,
    ) {
        if media.is_empty() || self.awaits_key() {
            return;
        }
        let pushed = media.len();
        self.open_since.get_or_insert(came.since);
        self.partial_since.get_or_insert(came.since);
        self.cutter.push(media);
        while let Some(chunk) = self.cutter.next_chunk() {
            // Whatever is left came with this input or would have been cut before.
            let left = self.cutter.pending_bytes();
            self.partial_since = (left > 0).then(|| came.of_last(left, pushed));
            self.add(ntp, chunk, signed);
        }
        if !self.chunks.is_empty() {
            self.open_since.get_or_insert(came.since);
        }
    }

    /// What the open munro waits for, if media comes at `rate` bytes a second from now on.
    pub(super) fn unsigned(&self, now: Instant, rate: Option<u64>) -> Unsigned {
        let since = self.open_since.unwrap_or(now);
        let chunk_bytes = self.cutter.chunk_bytes();
        let partial_bytes = self.cutter.pending_bytes();
        let held = self.chunks.len() * chunk_bytes + partial_bytes;
        let reaches = |chunks: usize| {
            let missing = (chunks * chunk_bytes).saturating_sub(held) as u64;
            // A little more, so that it is there.
            let micros = (missing + missing / 16).saturating_mul(1_000_000);
            let span = micros.checked_div(rate.unwrap_or(0)).unwrap_or(u64::MAX);
            now + Duration::from_micros(if missing == 0 { 0 } else { span })
        };
        let enough = reaches(FEW_CHUNKS).max(since + self.sign_delay);
        let few = since + self.sign_delay_few;
        Unsigned {
            due: reaches(MUNRO_WIDTH as usize).min(enough).min(few),
            has_partial: partial_bytes > 0,
        }
    }

    /// One chunk more for the open munro, which is signed when it is full.
    fn add(&mut self, ntp: NtpTime, mut chunk: Bytes, signed: &mut Vec<Signed>) {
        if self.sealing.is_none() && is_sealed(&chunk) {
            // Media that happens to begin like a sealed chunk must not be taken for one.
            self.take_in(ntp, chunk.split_to(1), signed);
        }
        self.take_in(ntp, chunk, signed);
    }

    fn take_in(&mut self, ntp: NtpTime, chunk: Bytes, signed: &mut Vec<Signed>) {
        self.chunks.push(chunk);
        if self.chunks.len() as u64 == MUNRO_WIDTH {
            self.close(ntp, signed);
        }
    }

    /// When the open munro must be signed.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let delay = match self.chunks.len() {
            0..FEW_CHUNKS => self.sign_delay_few,
            _ => self.sign_delay,
        };
        self.open_since.map(|since| since + delay)
    }

    /// Signs the open munro if it is time.
    pub(super) fn poll(&mut self, now: Instant, ntp: NtpTime, signed: &mut Vec<Signed>) {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        if self.chunks.is_empty() {
            // Less than a chunk in the whole sign delay: cut what there is. With full chunks at hand the rest waits
            // for company in the next munro, whose delay runs from its first byte as well.
            while let Some(chunk) = self.cutter.flush() {
                self.add(ntp, chunk, signed);
            }
            self.partial_since = None;
        }
        if self.chunks.is_empty() {
            // A torn packet alone cannot be sent; it waits for its other part.
            self.open_since = (self.cutter.pending_bytes() > 0).then_some(now);
            return;
        }
        self.close(ntp, signed);
    }

    /// The input has ended: everything left, then the end mark, a munro of empty chunks.
    pub(super) fn finish(&mut self, ntp: NtpTime, signed: &mut Vec<Signed>) {
        if self.ended {
            return;
        }
        self.flush(ntp, signed);
        self.ended = true;
        self.close(ntp, signed);
    }

    /// Everything left goes out, and the stream stays open.
    pub(super) fn flush(&mut self, ntp: NtpTime, signed: &mut Vec<Signed>) {
        while let Some(chunk) = self.cutter.finish() {
            self.add(ntp, chunk, signed);
        }
        self.partial_since = None;
        if !self.chunks.is_empty() {
            self.close(ntp, signed);
        }
    }

    fn close(&mut self, ntp: NtpTime, signed: &mut Vec<Signed>) {
        self.seal();
        let function = self.authority.function();
        let leaves: Vec<_> = self
            .chunks
            .iter()
            .map(|chunk| digest(function, chunk))
            .collect();
        let chunks = std::mem::replace(&mut self.chunks, Vec::with_capacity(MUNRO_WIDTH as usize));
        let (munro, tree) = MunroTree::from_leaves(function, self.next.chunks(), &leaves)
            .and_then(|tree| tree.sign(&self.key, &self.authority, ntp).ok())
            .expect("at most one munro of chunks was cut, in our own addressing");
        self.next = self.next.plus(1);
        self.open_since = self.partial_since;
        signed.push(Signed {
            munro,
            tree,
            chunks,
        });
    }

    /// Seals the chunks of the open munro, which has its number and its key for good from here on.
    fn seal(&mut self) {
        let Some(Sealing { sealer, scanner }) = &mut self.sealing else {
            return;
        };
        for (chunk, media) in self.next.chunks().iter().zip(&mut self.chunks) {
            let marks = scanner.scan(media);
            let hints = Hints {
                has_tables: marks.has_pat,
                is_entry: marks.random_access,
            };
            let sealed = sealer.seal(chunk, hints, media);
            *media = sealed.expect("without a key no media is taken");
        }
    }
}

impl Node {
    /// Whether the source of channel 0 waits for a key to seal with, and takes no media before.
    pub fn awaits_seal_key(&self) -> bool {
        let source = self.swarms.first().and_then(|swarm| swarm.source.as_ref());
        source.is_some_and(Source::awaits_key)
    }

    /// More media for the source of channel 0.
    pub fn push_media(&mut self, now: Instant, media: Bytes) {
        self.push_media_since(now, now, media);
    }

    /// The same of media that may have been there to be read since `since`: its delay runs from then.
    pub fn push_media_since(&mut self, now: Instant, since: Instant, media: Bytes) {
        let since = since.min(now);
        self.sign(now, 0, |source, ntp, signed| {
            source.push(Came { since, now }, ntp, media, signed);
        });
        self.flush(now);
    }

    /// What the source of channel 0 will sign next, and when, if media comes at `rate` bytes a second from now on.
    pub fn source_unsigned(&self, now: Instant, rate: Option<u64>) -> Option<Unsigned> {
        let source = self.swarms.first()?.source.as_ref()?;
        Some(source.unsigned(now, rate))
    }

    /// The source's input has ended: what is left goes out, then the end mark.
    pub fn end_media(&mut self, now: Instant) {
        self.sign(now, 0, Source::finish);
        self.flush(now);
    }

    /// The source's input paused or changes hands: what is left goes out, the stream stays open.
    pub fn flush_media(&mut self, now: Instant) {
        self.sign(now, 0, Source::flush);
        self.flush(now);
    }

    /// Signs what has waited long enough.
    pub(super) fn poll_source(&mut self, now: Instant, at: usize) {
        self.sign(now, at, |source, ntp, signed| source.poll(now, ntp, signed));
    }

    /// Has the source of a channel sign, and stores what it signed.
    fn sign(
        &mut self,
        now: Instant,
        at: usize,
        work: impl FnOnce(&mut Source, NtpTime, &mut Vec<Signed>),
    ) {
        let ntp = self.epoch.ntp(now);
        let Some(swarm) = self.swarms.get_mut(at) else {
            return;
        };
        let Some(source) = swarm.source.as_mut() else {
            return;
        };
        let overhead_bytes = source.overhead_bytes();
        work(source, ntp, &mut self.signed);
        for Signed {
            munro,
            tree,
            chunks,
        } in self.signed.drain(..)
        {
            let index = MunroIndex::of(munro.range().first());
            swarm.counters.signed_munros += 1;
            swarm.window.insert(now, munro, tree);
            swarm.newest = swarm.newest.max(Some(index));
            let mut mask = 0;
            for (place, payload) in chunks.into_iter().enumerate() {
                let chunk = index.chunk_at(place as u32);
                swarm.counters.media_bytes += payload.len() as u64 - overhead_bytes;
                swarm
                    .counters
                    .first_chunk
                    .get_or_insert_with(|| chunk.get());
                swarm.counters.last_chunk = Some(chunk.get());
                swarm.window.put(Proven::own(chunk, payload));
                mask |= 1 << place;
            }
            swarm.note_fresh(index, mask, true);
        }
    }

    /// The first chunk number that the source has not used, to be kept across restarts.
    pub fn source_next_chunk(&self) -> Option<ChunkIndex> {
        let source = self.swarms.first()?.source.as_ref()?;
        Some(source.next_munro().first_chunk())
    }

    /// The Unix time, in microseconds, that is signed at `now`: never less than before, to be kept across restarts like
    /// [`source_next_chunk`](Self::source_next_chunk).
    pub const fn signing_time_us(&self, now: Instant) -> u64 {
        self.epoch.unix_micros(now)
    }

    /// Whether the source's input looks like a transport stream; `None` while too little was seen.
    pub fn source_is_transport_stream(&self) -> Option<bool> {
        self.swarms.first()?.source.as_ref()?.is_transport_stream()
    }
}
