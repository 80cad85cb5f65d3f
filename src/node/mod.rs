//! The one machine that a shell or a simulator drives: channels with remotes, streams, what to send, what happened.
//!
//! Call [`Node::handle_datagrams`], [`Node::handle_timeout`] or [`Node::push_media`] with the time; then drain
//! [`Node::poll_transmit`] and [`Node::poll_event`] and ask [`Node::poll_timeout`] when to come back. Nothing here
//! blocks, and nothing that a remote sends can fail.

mod access;
mod archive;
mod calls;
mod channels;
pub mod check;
mod children;
pub mod config;
mod control;
mod ends;
mod event;
mod exchange;
mod moves;
mod notice;
mod open;
mod outbox;
mod parents;
mod plain;
mod play;
mod push;
mod questions;
mod receive;
mod repair;
mod report;
mod shares;
mod source;
mod subscribe;
mod swarm;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

pub use access::Auth;
pub use config::{Config, Role, SourceConfig, StartFrom, SwarmConfig};
pub use event::{Event, Loss};
pub use exchange::MEMBERS_MAX;
pub use outbox::Transmit;
pub use report::NodeStats;
pub use source::Unsigned;

use crate::chunk::ChunkRange;
use crate::ids::{ChannelId, PeerId};
use crate::integrity::key::KeyError;
use crate::peer::channel::Channel;
pub use crate::peer::channel::Port;
use crate::peer::handshake::{Cookies, HalfOpenTable};
use crate::peer::violation::Violation;
use crate::rng::{Rng, Seed};
use crate::time::{Epoch, Instant};
use crate::wire::{Datagram, DecodeError, Extension, Message};
use access::{Gate, Lock};
use channels::Channels;
use exchange::Exchanges;
use outbox::Outbox;
use source::Signed;
use swarm::Swarm;

/// Channels of all kinds at once.
pub const CHANNELS_MAX: usize = 16_384;
/// Housekeeping happens about this often.
const TICK: Duration = Duration::from_millis(100);
/// How much later than planned a tick may come when nothing else wakes the node: media usually does.
const TICK_SLACK: Duration = Duration::from_millis(50);
/// Chunks looked up for the requests and announcements of one datagram: ranges are cheap to name (S-26).
const WORK_PER_DATAGRAM: u64 = 4096;
/// A range this wide is nonsense whoever names it.
const RANGE_MAX: u64 = 1 << 63;
/// Events kept for a shell that does not fetch them; beyond it no more notices are kept, but all media is.
const EVENTS_MAX: usize = 4096;

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
    gate: Gate,
    exchanges: Exchanges,
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
        let lock = config.auth.as_ref().map(Lock::new).unwrap_or_default();
        let gate = config.auth.as_ref().map(Gate::new).unwrap_or_default();
        let swarms = config
            .swarms
            .into_iter()
            .map(|swarm| Swarm::new(now, swarm, lock.clone(), config.extensions))
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
            gate,
            exchanges: Exchanges::default(),
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
        let known = self.channels.find(id);
        if known.is_none() && port == Port::Dial {
            // Nobody comes in here: a remote that we called would have one more channel, with all that it may hold.
            self.stats.misdirected_datagrams += 1;
            return;
        }
        if id == ChannelId::NONE {
            return self.handle_opening(now, from, messages, length);
        }
        let at = match known {
            Some(at) => at,
            None => match self.admit_stranger(now, from, id, &messages) {
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
            Message::PexRequest => self.on_pex_request(now, at),
            Message::PexV4(addr) => self.on_pex_address(now, at, addr.into()),
            Message::PexV6(addr) => self.on_pex_address(now, at, addr.into()),
            Message::PexCertificate(certificate) => self.on_pex_certificate(now, at, &certificate),
            Message::Extension(extension) => {
                // Whoever was not offered it may not use it.
                if self.extensions && self.channels.get(at).is_some_and(Channel::has_extensions) {
                    self.on_extension(now, arrived, at, extension);
                }
            }
        }
        self.channels.get(at).is_some()
    }

    /// What is due at this time.
    pub fn handle_timeout(&mut self, now: Instant) {
        if now >= self.next_tick {
            self.tick(now);
        }
        for swarm in 0..self.swarms.len() {
            self.poll_source(now, swarm);
            self.poll_archive(now, swarm);
            self.poll_repair(now, swarm);
            self.drive_parents(now, swarm);
            self.poll_playout(now, swarm);
        }
        self.flush(now);
    }

    /// Remotes that may become parents, as a tracker named them, best first.
    pub fn set_candidates(&mut self, now: Instant, swarm: usize, addrs: &[SocketAddr]) {
        if let Some(swarm) = self.swarms.get_mut(swarm) {
            swarm.candidates.replace_found(addrs);
            swarm.members.on_told(now);
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
                swarm.archive.as_ref().and_then(archive::Archive::turn),
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
            Event::Playout { .. } | Event::Filed { .. } | Event::Load { .. } => usize::MAX,
            // What anybody can bring about as often as he likes leaves room for the rest.
            Event::ChildJoined { .. }
            | Event::ChildLeft { .. }
            | Event::ChildRefused { .. }
            | Event::Violated { .. } => EVENTS_MAX / 2,
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
        self.cut_off(now);
        self.ask_members(now);
        for swarm in 0..self.swarms.len() {
            self.drive_parents(now, swarm);
            self.ask_description(now, swarm);
            self.start_playout(swarm, &[]);
            self.tick_notices(now, swarm);
            self.tick_stream(now, swarm);
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
            | Message::PexRequest
            | Message::PexCertificate(_)
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
