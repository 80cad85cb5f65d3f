//! One channel's stream in a node: the window, the player, the source, the holes, and how it all went.

use std::time::Duration;

use bytes::Bytes;

use super::config::{StartFrom, SwarmConfig};
use super::source::Source;
use crate::chunk::ChunkIndex;
use crate::ids::PeerId;
use crate::integrity::key::{KeyError, VerifyingKey};
use crate::integrity::live::{Authority, MUNRO_WIDTH};
use crate::media::Scanner;
use crate::overlay::parents::Candidates;
use crate::peer::handshake::SwarmTerms;
use crate::qos::JitterMeter;
use crate::schedule::repair::Repair;
use crate::store::playout::Playout;
use crate::store::{MunroIndex, Window};
use crate::time::{Instant, micros};
use crate::wire::Format;
use crate::wire::option::{Addressing, ChunkSize, HashFunction, Protection};

/// Munros a second that the announced discard window is reckoned with: one each default sign delay.
const MUNROS_PER_SECOND: u64 = 50;
/// A start point is looked for in this many chunks before the random access flag: tables precede a key frame closely.
const TABLES_BEFORE_ENTRY: u64 = 64;

/// What arrived or was made since the last flush.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fresh {
    pub index: MunroIndex,
    /// Positions of chunks with bytes that are new.
    pub mask: u32,
    /// Whether the munro itself is new.
    pub is_new: bool,
}

/// Totals of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SwarmCounters {
    /// Chunks proven and stored.
    pub chunks_received: u64,
    /// Payload bytes proven and stored.
    pub payload_bytes_received: u64,
    /// Chunks pushed or served.
    pub chunks_sent: u64,
    /// Chunks found missing when their munro was proven.
    pub chunks_missing: u64,
    /// Chunks that were repaired after they were asked for.
    pub chunks_repaired: u64,
    /// Chunks passed over because they were not there when due.
    pub chunks_skipped: u64,
    /// Chunks released to the player.
    pub chunks_played: u64,
    /// Chunks that were here already.
    pub duplicate_chunks: u64,
    /// Chunks that came behind the window or the player.
    pub late_chunks: u64,
    /// Chunks nobody asked for.
    pub unrequested_chunks: u64,
    /// Chunks or munros that failed hash or signature.
    pub failed_proofs: u64,
    /// Munros whose signature was verified.
    pub munros_verified: u64,
    /// Munros signed.
    pub munros_signed: u64,
    /// Requests for chunks or munros sent.
    pub requests_sent: u64,
    /// Chunks sent again on request.
    pub chunks_retransmitted: u64,
    /// Times the player ran dry.
    pub stalls: u64,
    /// How long it was dry.
    pub stalled_us: u64,
    /// Times the parent changed.
    pub parent_changes: u64,
    /// Munros that the source signed twice.
    pub equivocations: u64,
}

/// One channel's stream.
#[derive(Debug)]
pub(super) struct Swarm {
    pub terms: SwarmTerms,
    pub authority: Authority,
    pub window: Window,
    pub playout: Option<Playout>,
    pub from: StartFrom,
    pub source: Option<Source>,
    pub repair: Repair,
    pub candidates: Candidates,
    /// Channels of remotes that we push to, by index.
    pub children: Vec<usize>,
    /// Channels of remotes that we may get chunks from, by index.
    pub suppliers: Vec<usize>,
    /// The channel of the parent.
    pub parent: Option<usize>,
    /// The channel of the parent that is to replace it, once it delivers.
    pub successor: Option<usize>,
    pub fresh: Vec<Fresh>,
    pub scanner: Scanner,
    pub last_tables: Option<ChunkIndex>,
    /// The first munro wanted: where we tuned in.
    pub tune_in: Option<MunroIndex>,
    /// The newest munro proven.
    pub newest: Option<MunroIndex>,
    pub description: Option<Bytes>,
    pub asked_description: bool,
    pub jitter: JitterMeter,
    /// When media last came from the parent, and the usual spacing of that.
    pub last_train: Option<Instant>,
    pub train_spacing: Duration,
    pub first_media_at: Option<Instant>,
    pub counters: SwarmCounters,
    pub had_parent: bool,
    pub has_ended: bool,
    /// When to look after the parent again.
    pub parent_check: Instant,
}

impl Swarm {
    pub(super) fn new(now: Instant, config: SwarmConfig, extensions: bool) -> Result<Self, KeyError> {
        let key = VerifyingKey::from_swarm_id(&config.swarm_id)?;
        let discard_window = (micros(config.window) / 1_000_000 + 1) * MUNROS_PER_SECOND * MUNRO_WIDTH;
        let format = Format { signature_bytes: key.signature_bytes(), ..Format::LIVE };
        let terms = SwarmTerms {
            swarm_id: config.swarm_id,
            protection: Protection::UnifiedMerkleTree,
            hash: HashFunction::Sha256,
            signature: key.algorithm(),
            addressing: Addressing::Ranges64,
            chunk_size: ChunkSize::Variable,
            discard_window,
            extensions,
            format,
        };
        let authority = Authority::new(key, terms.addressing, terms.hash).with_width(MUNRO_WIDTH);
        let source = config.source.map(|source| Source::new(source, authority.clone()));
        let tune_in = source.as_ref().map(Source::next_munro);
        Ok(Self {
            terms,
            authority,
            window: Window::new(config.window),
            playout: config.playout.map(Playout::new),
            from: config.from,
            source,
            repair: Repair::new(),
            candidates: Candidates::new(config.parents),
            children: Vec::new(),
            suppliers: Vec::new(),
            parent: None,
            successor: None,
            fresh: Vec::new(),
            scanner: Scanner::new(),
            last_tables: None,
            tune_in,
            newest: None,
            description: config.description,
            asked_description: false,
            jitter: JitterMeter::default(),
            last_train: None,
            train_spacing: Duration::from_millis(20),
            first_media_at: None,
            counters: SwarmCounters::default(),
            had_parent: false,
            has_ended: false,
            parent_check: now,
        })
    }

    /// Whether we are where the stream comes from.
    pub(super) const fn is_source(&self) -> bool {
        self.source.is_some()
    }

    /// Notes a chunk or a munro that is to be flushed.
    pub(super) fn note_fresh(&mut self, index: MunroIndex, mask: u32, is_new: bool) {
        match self.fresh.iter_mut().rfind(|fresh| fresh.index == index) {
            Some(fresh) => {
                fresh.mask |= mask;
                fresh.is_new |= is_new;
            }
            None => self.fresh.push(Fresh { index, mask, is_new }),
        }
    }

    /// Looks for places where a player can start among the new chunks of a munro.
    pub(super) fn mark_entries(&mut self, fresh: Fresh) {
        let Self { window, scanner, last_tables, .. } = self;
        let Some(slot) = window.slot(fresh.index) else { return };
        let mut entry = None;
        for place in 0..32 {
            if fresh.mask & (1 << place) == 0 {
                continue;
            }
            let Some(payload) = slot.payload(place) else { continue };
            let chunk = fresh.index.chunk_at(place);
            let marks = scanner.scan(payload);
            if marks.has_pat {
                *last_tables = Some(chunk);
            }
            if marks.random_access {
                let tables = last_tables.filter(|tables| {
                    chunk.get().checked_sub(tables.get()).is_some_and(|back| back < TABLES_BEFORE_ENTRY)
                });
                entry = Some(tables.unwrap_or(chunk));
            }
        }
        if let Some(chunk) = entry {
            window.mark_entry(chunk);
        }
    }

    /// The newest chunk without a gap before it.
    pub(super) fn head(&self) -> Option<ChunkIndex> {
        let newest = self.window.newest()?;
        match self.window.complete_around(newest.index()) {
            Some(run) => Some(run.last()),
            None => self.window.complete().last(),
        }
    }
}

/// A path from the source, as STATUS carries it.
pub(super) fn path_through(parent: &[PeerId], me: PeerId) -> Vec<PeerId> {
    let mut path = parent.to_vec();
    path.push(me);
    path
}
