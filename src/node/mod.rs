//! The one machine that a shell or a simulator drives: channels with remotes, streams, what to send, what happened.
//!
//! Call [`Node::handle_datagrams`], [`Node::handle_timeout`] or [`Node::push_media`] with the time; then drain
//! [`Node::poll_transmit`] and [`Node::poll_event`] and ask [`Node::poll_timeout`] when to come back. Nothing here
//! blocks, and nothing that a remote sends can fail.

mod calls;
pub mod check;
pub mod config;
mod control;
mod ends;
mod open;
mod outbox;
mod parents;
mod plain;
mod push;
mod questions;
mod receive;
mod report;
mod source;
mod swarm;

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

pub use config::{Config, Role, SourceConfig, StartFrom, SwarmConfig};
pub use outbox::Transmit;
pub use report::NodeStats;

use crate::chunk::{ChunkIndex, ChunkRange};
use crate::ids::{ChannelId, PeerId};
use crate::integrity::key::KeyError;
use crate::peer::channel::Channel;
pub use crate::peer::channel::Port;
use crate::peer::handshake::{Cookies, HalfOpenTable};
use crate::peer::violation::Violation;
use crate::rng::{Rng, Seed};
use crate::store::MunroIndex;
use crate::store::playout::Release;
use crate::time::{Epoch, Instant};
use crate::wire::{Datagram, DecodeError, Extension, Message};
use outbox::Outbox;
use source::Signed;
use swarm::Swarm;

/// Channels of all kinds at once.
pub const CHANNELS_MAX: usize = 16_384;
/// Housekeeping happens about this often.
const TICK: Duration = Duration::from_millis(100);
/// How much later than planned a tick may come when nothing else wakes the node: media usually does.
const TICK_SLACK: Duration = Duration::from_millis(50);
/// A parent that pushed nothing for this long is not the only one whose announcements are followed.
const QUIET: Duration = Duration::from_secs(1);
/// Munros looked for behind the newest when so much is announced that it is a jump, or nonsense.
const MISSED_MOST: u64 = 4;
/// How long what was announced and not pushed is followed.
const MISSED_SPAN: Duration = Duration::from_secs(10);
/// Chunks looked up for the requests and announcements of one datagram: ranges are cheap to name (S-26).
const WORK_PER_DATAGRAM: u64 = 4096;
/// A range this wide is nonsense whoever names it.
const RANGE_MAX: u64 = 1 << 63;
/// Events kept for a shell that does not fetch them; beyond it no more notices are kept, but all media is.
const EVENTS_MAX: usize = 4096;

/// Something the shell should know or do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The next step of the player's stream.
    Playout {
        /// Which channel, by place in the configuration.
        swarm: usize,
        /// What.
        release: Release,
    },
    /// A parent pushes to us, the first or another one.
    ParentChanged {
        /// Which channel.
        swarm: usize,
        /// Where it is.
        addr: SocketAddr,
        /// Who it is, if it said so.
        peer: Option<PeerId>,
        /// Whether it is the first one.
        first: bool,
    },
    /// There is no parent any more.
    ParentLost {
        /// Which channel.
        swarm: usize,
        /// Where it was.
        addr: SocketAddr,
        /// Why.
        reason: Loss,
    },
    /// A parent said no.
    ParentRefused {
        /// Which channel.
        swarm: usize,
        /// Where it is.
        addr: SocketAddr,
        /// Reason of SUB_REPLY.
        reason: u8,
    },
    /// A remote subscribed with us.
    ChildJoined {
        /// Which channel.
        swarm: usize,
        /// Where it is.
        addr: SocketAddr,
    },
    /// A child went away.
    ChildLeft {
        /// Which channel.
        swarm: usize,
        /// Where it was.
        addr: SocketAddr,
    },
    /// No candidate is left to call: a tracker may know more.
    NeedParents {
        /// Which channel.
        swarm: usize,
    },
    /// A remote gave the description of the channel; signature verified.
    Described {
        /// Which channel.
        swarm: usize,
        /// The bytes of DESCRIPTION.
        description: Bytes,
    },
    /// A remote did what it may not.
    Violated {
        /// Where it is.
        addr: SocketAddr,
        /// What.
        violation: Violation,
        /// Whether that cost it the channel.
        banned: bool,
    },
    /// The source's key signed two different munros for one range.
    Equivocation {
        /// Which channel.
        swarm: usize,
        /// First chunk of the munro.
        chunk: ChunkIndex,
    },
}

/// Why a parent is one no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It said goodbye.
    Left,
    /// It said goodbye after the end mark of the channel, which is here.
    Ended,
    /// It answers nothing.
    Silent,
    /// It answers, but has no media while others do.
    Starved,
    /// It sent what it may not.
    Banned,
    /// Our own subtree is above it.
    Loop,
}

/// Which sockets and swarm a channel belongs to, by its place in the table.
type ById = HashMap<ChannelId, usize, BuildHasherDefault<DefaultHasher>>;

/// All channels: a table with holes, and the way from identifiers to places.
#[derive(Debug, Default)]
struct Channels {
    table: Vec<Option<Channel>>,
    free: Vec<usize>,
    by_id: ById,
}

impl Channels {
    fn len(&self) -> usize {
        self.by_id.len()
    }

    fn get(&self, at: usize) -> Option<&Channel> {
        self.table.get(at).and_then(Option::as_ref)
    }

    fn get_mut(&mut self, at: usize) -> Option<&mut Channel> {
        self.table.get_mut(at).and_then(Option::as_mut)
    }

    fn find(&self, id: ChannelId) -> Option<usize> {
        self.by_id.get(&id).copied()
    }

    fn insert(&mut self, channel: Channel) -> Option<usize> {
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

    fn remove(&mut self, at: usize) -> Option<Channel> {
        let channel = self.table.get_mut(at)?.take()?;
        self.by_id.remove(&channel.local);
        self.free.push(at);
        Some(channel)
    }

    fn iter(&self) -> impl Iterator<Item = (usize, &Channel)> {
        self.table
            .iter()
            .enumerate()
            .filter_map(|(at, channel)| channel.as_ref().map(|channel| (at, channel)))
    }

    fn places(&self) -> Vec<usize> {
        self.iter().map(|(at, _)| at).collect()
    }
}

/// A source, relay or peer.
#[derive(Debug)]
pub struct Node {
    role: Role,
    peer_id: PeerId,
    epoch: Epoch,
    extensions: bool,
    children_max: usize,
    upload_limit_bps: Option<u64>,
    rng: Rng,
    cookies: Cookies,
    half_open: HalfOpenTable,
    channels: Channels,
    swarms: Vec<Swarm>,
    outbox: Outbox,
    events: VecDeque<Event>,
    next_tick: Instant,
    tick_count: u64,
    started: Instant,
    draining: bool,
    closed: bool,
    stats: NodeStats,
    /// Whether remotes that come in sent something that should not wait.
    listen_urgency: bool,
    /// Chunks that the datagram at hand may still have us look at.
    work_left: u64,
    /// Reused by the source.
    signed: Vec<Signed>,
}

impl Node {
    /// A node that has not sent anything yet.
    ///
    /// # Errors
    ///
    /// When a swarm identifier is no public key that can be verified with.
    pub fn new(now: Instant, config: Config, seed: Seed) -> Result<Self, KeyError> {
        let mut rng = Rng::new(seed);
        let cookies = Cookies::new(&mut rng);
        // Neighbours discard what is signed long before the newest that they have, so time must not begin again.
        let sources = config
            .swarms
            .iter()
            .filter_map(|swarm| swarm.source.as_ref());
        let not_before_us = sources.map(|source| source.not_before_us).max();
        let epoch = config.epoch.no_earlier(now, not_before_us.unwrap_or(0));
        let swarms = config
            .swarms
            .into_iter()
            .map(|swarm| Swarm::new(now, swarm, config.extensions))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            role: config.role,
            peer_id: config.peer_id,
            epoch,
            extensions: config.extensions,
            children_max: config.children_max.min(CHANNELS_MAX),
            upload_limit_bps: config.upload_limit_bps,
            rng,
            cookies,
            half_open: HalfOpenTable::default(),
            channels: Channels::default(),
            swarms,
            outbox: Outbox::default(),
            events: VecDeque::new(),
            next_tick: now,
            tick_count: 0,
            started: now,
            draining: false,
            closed: false,
            stats: NodeStats::default(),
            listen_urgency: false,
            work_left: 0,
            signed: Vec::new(),
        })
    }

    /// Its name.
    pub const fn peer_id(&self) -> PeerId {
        self.peer_id
    }

    /// Takes in what one receive call gave: datagrams of `stride` bytes back to back, the last perhaps shorter.
    ///
    /// `arrived` is when the kernel had them, `now` when we look; both on the node's clock.
    pub fn handle_datagrams(
        &mut self,
        now: Instant,
        arrived: Instant,
        port: Port,
        from: SocketAddr,
        train: Bytes,
        stride: usize,
    ) {
        let stride = stride.max(1);
        let mut rest = train;
        loop {
            let datagram = rest.split_to(stride.min(rest.len()));
            self.handle_datagram(now, arrived.min(now), port, from, datagram);
            if rest.is_empty() {
                break;
            }
        }
        if now >= self.next_tick {
            self.tick(now);
        }
        self.flush(now);
    }

    fn handle_datagram(
        &mut self,
        now: Instant,
        arrived: Instant,
        port: Port,
        from: SocketAddr,
        datagram: Bytes,
    ) {
        self.stats.recv_datagrams += 1;
        self.stats.recv_bytes += datagram.len() as u64;
        let length = datagram.len();
        let (id, mut messages) = match Datagram::open(datagram) {
            Ok(opened) => opened,
            Err(error) => return self.note_malformed(error),
        };
        if id == ChannelId::NONE {
            return self.handle_opening(now, port, from, messages, length);
        }
        let at = match self.channels.find(id) {
            Some(at) => at,
            None => match self.admit_stranger(now, port, from, id, &messages) {
                Some(at) => at,
                None => return,
            },
        };
        let Some(channel) = self.channels.get_mut(at) else {
            return;
        };
        // A channel belongs to the address it was opened with (S-14, S-20).
        if channel.addr != from || channel.port != port {
            self.stats.misdirected_datagrams += 1;
            return;
        }
        channel.last_heard = now;
        channel.unanswered = 0;
        channel.counters.recv_packets += 1;
        channel.counters.recv_bytes += length as u64;
        let swarm = channel.swarm;
        let Some(format) = self.swarms.get(swarm).map(|swarm| swarm.terms.format) else {
            return;
        };
        self.work_left = WORK_PER_DATAGRAM;
        let mut first = true;
        while let Some(message) = messages.next(&format) {
            match message {
                Ok(message) => {
                    if !self.handle_message(now, arrived, at, message, first) {
                        return;
                    }
                }
                Err(error) => {
                    self.note_malformed(error);
                    if let DecodeError::BadRange { first, last, .. } = error {
                        self.strike(now, at, Violation::BadRange { first, last });
                    }
                    return;
                }
            }
            first = false;
        }
    }

    /// One message of a channel; false when the rest of the datagram is not to be read.
    fn handle_message(
        &mut self,
        now: Instant,
        arrived: Instant,
        at: usize,
        message: Message,
        first: bool,
    ) -> bool {
        if let Message::Handshake(handshake) = message {
            return first && self.handle_handshake(now, arrived, at, &handshake);
        }
        if !self.channels.get(at).is_some_and(Channel::is_open) {
            // Only a handshake opens (RFC 7574 §3.1.1).
            return false;
        }
        self.listen_urgency |= !is_routine(&message)
            && self
                .channels
                .get(at)
                .is_some_and(|channel| channel.port == Port::Listen);
        if let Some(range) = range_of(&message).filter(|range| range.count() >= RANGE_MAX) {
            let (first, last) = (range.first().get(), range.last().get());
            self.strike(now, at, Violation::BadRange { first, last });
            return self.channels.get(at).is_some();
        }
        match message {
            Message::Handshake(_) => {}
            Message::Data(data) => self.on_data(now, arrived, at, data),
            Message::Ack { range, delay_us } => self.on_ack(now, arrived, at, range, delay_us),
            Message::Have(range) => self.on_have(now, at, range),
            Message::Integrity { range, hash } => self.on_integrity(at, range, hash),
            Message::SignedIntegrity {
                range,
                time,
                signature,
            } => {
                self.on_signed_integrity(now, arrived, at, range, time, signature);
            }
            Message::Request(range) => self.on_request(now, at, range, false),
            Message::Cancel(range) => self.on_cancel(at, range),
            Message::Choke => self.on_choke(at, true),
            Message::Unchoke => self.on_choke(at, false),
            // Peer exchange is optional, and answered by silence (RFC 7574 §3.10).
            Message::PexRequest
            | Message::PexV4(_)
            | Message::PexV6(_)
            | Message::PexCertificate(_) => {}
            Message::Extension(extension) => {
                // Whoever was not offered it may not use it.
                if self.extensions && self.channels.get(at).is_some_and(Channel::has_extensions) {
                    self.on_extension(now, arrived, at, extension);
                }
            }
        }
        self.channels.get(at).is_some()
    }

    /// Stops or resumes the release of media to the player, whose output is full; chunks stay in the window meanwhile.
    pub fn pause_playout(&mut self, swarm: usize, paused: bool) {
        if let Some(swarm) = self.swarms.get_mut(swarm) {
            swarm.is_paused = paused;
        }
    }

    /// What is due at this time.
    pub fn handle_timeout(&mut self, now: Instant) {
        if now >= self.next_tick {
            self.tick(now);
        }
        for swarm in 0..self.swarms.len() {
            self.poll_source(now, swarm);
            self.poll_repair(now, swarm);
            self.drive_parents(now, swarm);
            self.poll_playout(now, swarm);
        }
        self.flush(now);
    }

    /// More media for the source of channel 0.
    pub fn push_media(&mut self, now: Instant, media: Bytes) {
        let ntp = self.epoch.ntp(now);
        let mut signed = std::mem::take(&mut self.signed);
        if let Some(source) = self
            .swarms
            .first_mut()
            .and_then(|swarm| swarm.source.as_mut())
        {
            source.push(now, ntp, media, &mut signed);
        }
        self.store_signed(now, 0, &mut signed);
        self.signed = signed;
        self.flush(now);
    }

    /// The source's input has ended: what is left goes out, then the end mark.
    pub fn end_media(&mut self, now: Instant) {
        let ntp = self.epoch.ntp(now);
        let mut signed = std::mem::take(&mut self.signed);
        if let Some(source) = self
            .swarms
            .first_mut()
            .and_then(|swarm| swarm.source.as_mut())
        {
            source.finish(ntp, &mut signed);
        }
        self.store_signed(now, 0, &mut signed);
        self.signed = signed;
        self.flush(now);
    }

    /// The source's input paused or changes hands: what is left goes out, the stream stays open.
    pub fn flush_media(&mut self, now: Instant) {
        let ntp = self.epoch.ntp(now);
        let mut signed = std::mem::take(&mut self.signed);
        if let Some(source) = self
            .swarms
            .first_mut()
            .and_then(|swarm| swarm.source.as_mut())
        {
            source.flush(ntp, &mut signed);
        }
        self.store_signed(now, 0, &mut signed);
        self.signed = signed;
        self.flush(now);
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

    /// Remotes that may become parents, as a tracker named them, best first.
    pub fn set_candidates(&mut self, now: Instant, swarm: usize, addrs: &[SocketAddr]) {
        if let Some(swarm) = self.swarms.get_mut(swarm) {
            swarm.candidates.replace_found(addrs);
        }
        self.drive_parents(now, swarm);
    }

    /// Whether a remote that came in sent something since the last call that should be looked at soon: anything but
    /// acknowledgements and regular reports.
    pub const fn take_listen_urgency(&mut self) -> bool {
        std::mem::replace(&mut self.listen_urgency, false)
    }

    /// No new children from now on.
    pub const fn drain(&mut self) {
        self.draining = true;
    }

    /// Children of all channels.
    pub fn child_count(&self) -> usize {
        self.swarms.iter().map(|swarm| swarm.children.len()).sum()
    }

    /// Chunks noticed missing in all channels.
    pub fn lost_chunks(&self) -> u64 {
        let lost = |swarm: &Swarm| swarm.counters.lost_packets;
        self.swarms.iter().map(lost).sum()
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

    /// What to send next; the bytes stay until the next call.
    pub fn poll_transmit(&mut self) -> Option<Transmit<'_>> {
        if self.outbox.is_empty() {
            self.outbox.tidy();
            return None;
        }
        let transmit = self.outbox.poll()?;
        let datagrams = transmit
            .segment_size
            .map_or(1, |size| transmit.contents.len().div_ceil(size));
        self.stats.sent_datagrams += datagrams as u64;
        self.stats.sent_bytes += transmit.contents.len() as u64;
        Some(transmit)
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) if nothing else happens before.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        if self.closed {
            return None;
        }
        let mut at = self.next_tick + TICK_SLACK;
        for swarm in &self.swarms {
            let deadlines = [
                swarm.source.as_ref().and_then(source::Source::deadline),
                swarm.repair.deadline(),
                (!swarm.is_source()).then_some(swarm.parent_check),
                swarm
                    .playout
                    .as_ref()
                    .filter(|_| !swarm.is_paused)
                    .and_then(|playout| playout.deadline(now, &swarm.window)),
            ];
            for deadline in deadlines.into_iter().flatten() {
                at = at.min(deadline);
            }
        }
        Some(at)
    }

    /// Takes a share of what one datagram may have us look at; false when that is used up.
    const fn spend_work(&mut self, share: u64) -> bool {
        let enough = self.work_left >= share;
        self.work_left = self.work_left.saturating_sub(share);
        enough
    }

    fn push_event(&mut self, event: Event) {
        let most = match event {
            Event::Playout { .. } => usize::MAX,
            // What anybody can bring about as often as he likes leaves room for the rest.
            Event::ChildJoined { .. } | Event::ChildLeft { .. } | Event::Violated { .. } => {
                EVENTS_MAX / 2
            }
            _ => EVENTS_MAX,
        };
        if self.events.len() < most {
            self.events.push_back(event);
        }
    }

    fn note_malformed(&mut self, error: DecodeError) {
        self.stats.malformed_datagrams += 1;
        self.stats.last_decode_error = Some(error);
    }

    /// Housekeeping: leases, silences, STATUS, and what else has time.
    fn tick(&mut self, now: Instant) {
        self.next_tick = now + TICK;
        self.tick_count += 1;
        self.tick_channels(now);
        for swarm in 0..self.swarms.len() {
            self.drive_parents(now, swarm);
            self.start_playout(swarm, &[]);
            self.tick_stream(now, swarm);
        }
    }

    /// Forgets holes behind the window, and follows what was announced and not pushed: the last munro before a pause has
    /// nothing behind it that would show its loss.
    fn tick_stream(&mut self, now: Instant, at: usize) {
        let Some(swarm) = self.swarms.get_mut(at) else {
            return;
        };
        swarm.repair.discard_below(swarm.window.floor());
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
        if MunroIndex::of(announced) > newest.plus(push::MUNRO_GAP_MAX) {
            announced = newest.plus(MISSED_MOST).chunks().last();
        }
        if let Some(gap) = ChunkRange::new(newest.plus(1).first_chunk(), announced) {
            push::note_gap(now, swarm, gap, TICK, now + MISSED_SPAN);
        }
    }

    /// Stores what the source just signed.
    fn store_signed(&mut self, now: Instant, at: usize, signed: &mut Vec<Signed>) {
        let Some(swarm) = self.swarms.get_mut(at) else {
            return;
        };
        for Signed {
            munro,
            tree,
            chunks,
        } in signed.drain(..)
        {
            let index = MunroIndex::of(munro.range().first());
            swarm.counters.signed_munros += 1;
            swarm.window.insert(now, munro, tree);
            swarm.newest = swarm.newest.max(Some(index));
            let mut mask = 0;
            for (place, payload) in chunks.into_iter().enumerate() {
                let chunk = index.chunk_at(place as u32);
                swarm.counters.media_bytes += payload.len() as u64;
                swarm
                    .counters
                    .first_chunk
                    .get_or_insert_with(|| chunk.get());
                swarm.counters.last_chunk = Some(chunk.get());
                swarm
                    .window
                    .put(crate::integrity::Proven::own(chunk, payload));
                mask |= 1 << place;
            }
            swarm.note_fresh(index, mask, true);
        }
    }

    fn poll_source(&mut self, now: Instant, at: usize) {
        let ntp = self.epoch.ntp(now);
        let mut signed = std::mem::take(&mut self.signed);
        if let Some(source) = self
            .swarms
            .get_mut(at)
            .and_then(|swarm| swarm.source.as_mut())
        {
            source.poll(now, ntp, &mut signed);
        }
        if !signed.is_empty() {
            self.store_signed(now, at, &mut signed);
        }
        self.signed = signed;
    }

    /// Releases what is due to the player.
    fn poll_playout(&mut self, now: Instant, at: usize) {
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
            let Some(release) = playout.poll(now, &swarm.window, announced, followed) else {
                return;
            };
            let counters = &mut swarm.counters;
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
                        counters.join_us = Some(crate::time::micros(now - self.started));
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
                    counters.stall_us += crate::time::micros(*span);
                    swarm.stalled_since = None;
                }
                Release::Jump(_) => {}
                Release::Ended => swarm.has_ended = true,
            }
            self.push_event(Event::Playout { swarm: at, release });
        }
    }
}

/// The chunks that a message names.
const fn range_of(message: &Message) -> Option<ChunkRange> {
    match message {
        Message::Ack { range, .. }
        | Message::Have(range)
        | Message::Integrity { range, .. }
        | Message::SignedIntegrity { range, .. }
        | Message::Request(range)
        | Message::Cancel(range)
        | Message::Extension(Extension::Fetch { range, .. }) => Some(*range),
        _ => None,
    }
}

/// Whether a message can wait for the next wake-up without anybody noticing.
const fn is_routine(message: &Message) -> bool {
    matches!(
        message,
        Message::Ack { .. }
            | Message::Have(_)
            | Message::Extension(
                Extension::Status(_)
                    | Extension::QosFeedback(_)
                    | Extension::Probe { .. }
                    | Extension::Hello(_)
            )
    )
}

#[cfg(test)]
mod tests;
