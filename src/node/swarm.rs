//! One channel's stream in a node: the window, the player, the source, the holes, and how it all went.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::access::Lock;
use super::archive::Archive;
use super::config::{StartFrom, SwarmConfig};
use super::exchange::Members;
use super::notice::{Asking, Heard};
use super::shares::Shares;
use super::source::Source;
use crate::chunk::{ChunkIndex, Layout, Parts};
use crate::integrity::key::{KeyError, VerifyingKey};
use crate::integrity::live::{Authority, MUNRO_WIDTH};
use crate::media::Scanner;
use crate::overlay::parents::Candidates;
use crate::peer::channel::ChannelCounters;
use crate::peer::handshake::SwarmTerms;
use crate::qos::Jitter;
use crate::schedule::repair::Repair;
use crate::seal::{self, EpochId, Hints, Ring};
use crate::stats::Counters;
use crate::store::playout::{Playout, PlayoutConfig};
use crate::store::{MunroIndex, Window};
use crate::time::{Instant, micros};
use crate::wire::option::{Addressing, ChunkSize, HashFunction, Protection};
use crate::wire::{ChannelDescription, Format, QosFeedback};

/// Munros a second that the announced discard window is reckoned with: one each default sign delay.
const MUNROS_PER_SECOND: u64 = 50;
/// A start point is looked for in this many chunks before the random access flag: tables precede a key frame closely.
const TABLES_BEFORE_ENTRY: u64 = 64;
const RATE_SPAN: Duration = Duration::from_secs(1);
const LOSS_SPAN: Duration = Duration::from_secs(10);

/// What arrived or was made since the last flush.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fresh {
    pub index: MunroIndex,
    /// Positions of chunks with bytes that are new.
    pub mask: u32,
    /// Whether the munro itself is new.
    pub is_new: bool,
}

/// One channel's stream.
#[derive(Debug)]
pub(super) struct Swarm {
    pub terms: SwarmTerms,
    /// Whether it is closed, and to whom not.
    pub lock: Lock,
    /// Keys to sealed chunks.
    pub ring: Ring,
    /// The epoch whose key is missing, told to the shell.
    pub missing_key: Option<EpochId>,
    pub authority: Authority,
    pub window: Window,
    /// What the shell keeps of the stream, where it is recorded.
    pub archive: Option<Archive>,
    pub playout: Option<Playout>,
    pub from: StartFrom,
    pub source: Option<Source>,
    pub repair: Repair,
    pub candidates: Candidates,
    /// Who else is in the swarm, as neighbours told.
    pub members: Members,
    /// Channels of remotes that we push to, by index.
    pub children: Vec<usize>,
    /// Channels of remotes that we may get chunks from, by index.
    pub suppliers: Vec<usize>,
    /// The channel of the parent.
    pub parent: Option<usize>,
    /// The channel of the parent that is to replace it, once it delivers.
    pub successor: Option<usize>,
    /// Who else pushes a part of the stream.
    pub shares: Shares,
    /// How many substreams there are, once that is known.
    pub layout: Option<Layout>,
    /// Who should be the parent, as a tracker says, and how long that is tried.
    pub wished: Option<(SocketAddr, Instant)>,
    /// Whether nobody is subscribed to yet, because the user has not said so.
    pub is_waiting: bool,
    /// Of a clone: how its user is asked.
    pub asking: Option<Asking>,
    /// Of a user's peer: what it was asked last.
    pub heard: Option<Heard>,
    pub fresh: Vec<Fresh>,
    pub scanner: Scanner,
    pub last_tables: Option<ChunkIndex>,
    /// The first munro wanted: where we tuned in.
    pub tune_in: Option<MunroIndex>,
    /// The newest munro proven.
    pub newest: Option<MunroIndex>,
    pub description: Option<Bytes>,
    /// When the description was last asked for.
    pub asked_description: Option<Instant>,
    pub jitter: Jitter,
    /// When media last came from the parent, and the usual spacing of that.
    pub last_train: Option<Instant>,
    pub train_spacing: Duration,
    pub first_media_at: Option<Instant>,
    pub counters: Counters,
    /// What was counted on channels that are gone.
    pub gone: ChannelCounters,
    /// The last parent told to the shell.
    pub known_parent: Option<SocketAddr>,
    /// When a silent parent was last asked whether it lives.
    pub last_liveness: Option<Instant>,
    pub has_ended: bool,
    pub is_paused: bool,
    pub stalled_since: Option<Instant>,
    /// The rate of the stream, in bits a second.
    pub rate_bps: u64,
    rate_mark: (Instant, u64),
    /// Chunks and holes at the last ten seconds' turn.
    loss_mark: (Instant, u64, u64),
    loss_permille: u16,
    /// When to look after the parent again.
    pub parent_check: Instant,
}

impl Swarm {
    pub(super) fn new(
        now: Instant,
        config: SwarmConfig,
        lock: Lock,
        extensions: bool,
    ) -> Result<Self, KeyError> {
        let key = VerifyingKey::from_swarm_id(&config.swarm_id)?;
        let discard_window =
            (micros(config.window) / 1_000_000 + 1) * MUNROS_PER_SECOND * MUNRO_WIDTH;
        let format = Format {
            signature_bytes: key.signature_bytes(),
            ..Format::LIVE
        };
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
        let source = config
            .source
            .map(|source| Source::new(source, authority.clone()));
        let tune_in = source.as_ref().map(Source::next_munro);
        let mut swarm = Self {
            ring: Ring::new(terms.swarm_id.clone()),
            missing_key: None,
            terms,
            lock,
            authority,
            window: Window::new(config.window),
            archive: None,
            playout: config.playout.map(Playout::new),
            from: config.from,
            source,
            repair: Repair::new(),
            candidates: Candidates::new(config.parents),
            members: Members::default(),
            children: Vec::new(),
            suppliers: Vec::new(),
            parent: None,
            successor: None,
            shares: Shares::default(),
            layout: None,
            wished: None,
            is_waiting: false,
            asking: None,
            heard: None,
            fresh: Vec::new(),
            scanner: Scanner::new(),
            last_tables: None,
            tune_in,
            newest: None,
            description: None,
            asked_description: None,
            jitter: Jitter::default(),
            last_train: None,
            train_spacing: Duration::from_millis(20),
            first_media_at: None,
            counters: Counters::default(),
            gone: ChannelCounters::default(),
            known_parent: None,
            last_liveness: None,
            has_ended: false,
            is_paused: false,
            stalled_since: None,
            rate_bps: 0,
            rate_mark: (now, 0),
            loss_mark: (now, 0, 0),
            loss_permille: 0,
            parent_check: now,
        };
        if let Some(bytes) = config.description
            && let Ok(description) = ChannelDescription::decode(bytes.clone())
        {
            swarm.describe(bytes, &description);
        }
        Ok(swarm)
    }

    /// Takes a genuine description.
    pub(super) fn describe(&mut self, bytes: Bytes, description: &ChannelDescription) {
        let layout = Layout::new(description.substreams).filter(|_| {
            description.data_substreams == description.substreams && description.run_length == 1
        });
        // A layout that is none of ours is taken in one piece.
        let layout = layout.unwrap_or_default();
        self.terms.format.substreams = u16::from(layout.substreams());
        self.layout = Some(layout);
        self.description = Some(bytes);
    }

    /// Substreams that exist, as far as that is known.
    pub(super) fn all_parts(&self) -> Parts {
        self.layout.map_or(Parts::ALL, Layout::all)
    }

    /// What the main parent is to push: what nobody else does.
    pub(super) fn main_parts(&self) -> Parts {
        self.all_parts().minus(self.shares.relied_on())
    }

    /// Whether we are where the stream comes from.
    pub(super) const fn is_source(&self) -> bool {
        self.source.is_some()
    }

    /// Plays all that can be had, for a recording.
    pub(super) fn record(&mut self, recording: PlayoutConfig) {
        self.playout = Some(Playout::new(recording));
        self.from = StartFrom::Oldest;
    }

    /// Notes a chunk or a munro that is to be flushed.
    pub(super) fn note_fresh(&mut self, index: MunroIndex, mask: u32, is_new: bool) {
        match self.fresh.iter_mut().rfind(|fresh| fresh.index == index) {
            Some(fresh) => {
                fresh.mask |= mask;
                fresh.is_new |= is_new;
            }
            None => self.fresh.push(Fresh {
                index,
                mask,
                is_new,
            }),
        }
    }

    /// Looks for places where a player can start among the new chunks of a munro.
    pub(super) fn mark_entries(&mut self, fresh: Fresh) {
        let Self {
            window,
            scanner,
            last_tables,
            ..
        } = self;
        let Some(slot) = window.slot(fresh.index) else {
            return;
        };
        let mut entry = None;
        for place in 0..32 {
            if fresh.mask & (1 << place) == 0 {
                continue;
            }
            let Some(payload) = slot.payload(place) else {
                continue;
            };
            let chunk = fresh.index.chunk_at(place);
            let marks = match seal::hints(payload) {
                Some(hints) => hints,
                None => {
                    let marks = scanner.scan(payload);
                    Hints {
                        has_tables: marks.has_pat,
                        is_entry: marks.random_access,
                    }
                }
            };
            if marks.has_tables {
                *last_tables = Some(chunk);
            }
            if marks.is_entry {
                let tables = last_tables.filter(|tables| {
                    chunk
                        .get()
                        .checked_sub(tables.get())
                        .is_some_and(|back| back < TABLES_BEFORE_ENTRY)
                });
                entry = Some(tables.unwrap_or(chunk));
            }
        }
        if let Some(chunk) = entry {
            window.mark_entry(chunk);
        }
    }

    /// Ten times a second: the rate over the last second, the loss over the last ten.
    pub(super) fn tick(&mut self, now: Instant) {
        let counters = &self.counters;
        let bytes = if self.is_source() {
            counters.media_bytes
        } else {
            counters.recv_media_bytes
        };
        let span = now - self.rate_mark.0;
        if span >= RATE_SPAN {
            let rate = (bytes - self.rate_mark.1).saturating_mul(8_000_000) / micros(span).max(1);
            // A quarter of the news: one burst is no rate.
            self.rate_bps = if self.rate_bps == 0 {
                rate
            } else {
                (self.rate_bps * 3 + rate) / 4
            };
            self.rate_mark = (now, bytes);
        }
        if now - self.loss_mark.0 >= LOSS_SPAN {
            let (_, verified, lost) = self.loss_mark;
            let (came, missing) = (
                counters.verified_packets - verified,
                counters.lost_packets - lost,
            );
            self.loss_permille = crate::qos::loss::permille(came, missing);
            self.loss_mark = (now, counters.verified_packets, counters.lost_packets);
        }
    }

    /// Chunks noticed missing, in thousandths, over the last ten seconds.
    pub(super) const fn loss_permille(&self) -> u16 {
        self.loss_permille
    }

    /// The oldest munro that is here or still to come.
    pub(super) fn oldest(&self) -> Option<MunroIndex> {
        self.tune_in.map(|first| first.max(self.window.floor()))
    }

    /// What the parent should know, when there is something.
    pub(super) fn feedback(&self) -> Option<QosFeedback> {
        (self.loss_permille > 0).then(|| QosFeedback {
            substream: 0,
            late_permille: 0,
            lost_permille: self.loss_permille,
            over_ms: LOSS_SPAN.as_millis() as u32,
        })
    }

    /// The newest chunk without a gap before it.
    pub(super) fn head(&self) -> Option<ChunkIndex> {
        let Some(newest) = self.window.newest() else {
            return self.recorded_end().map(|munro| munro.last());
        };
        match self.window.complete_around(newest.index()) {
            Some(run) => Some(run.last()),
            None => self.window.complete().last(),
        }
    }
}
