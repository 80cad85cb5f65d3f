//! The state of one channel: who is there, what it has, what we owe each other (RFC 7574 §3.11).

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::handshake::Remote;
use super::ledbat::Ledbat;
use super::rtt::Rtt;
use super::served::{Allowance, Served};
use super::violation::Strikes;
use crate::chunk::{ChunkIndex, ChunkRange, ChunkSet, Parts};
use crate::ids::{ChannelId, PeerId};
use crate::integrity::{Provisional, Unproven};
use crate::store::{MunroIndex, position};
use crate::time::{Instant, NtpTime};
use crate::wire::{Digest, Hello};

/// Unproven chunks kept for one remote: five full munros, about 210 KiB (S-22).
pub const PENDING_CHUNKS_MAX: usize = 160;
/// Munros remembered whose hashes did not fit.
const MISFITS_MAX: usize = 16;
/// Runs that a child acknowledged, before those that were discarded here are forgotten.
const SUBSCRIBER_RANGES: usize = 64;
/// Munros whose sending is remembered until they are acknowledged.
const SENT_MUNROS_MAX: usize = 4096;
/// Answers to PROBE: a neighbour that fears for us asks every 50 ms.
const PROBE_ANSWERS: (u32, Duration) = (20, Duration::from_millis(50));
/// Answers to DESCRIBE, which are long.
const DESCRIBE_ANSWERS: (u32, Duration) = (3, Duration::from_secs(1));
/// Descriptions looked at, a signature each.
const DESCRIPTIONS: (u32, Duration) = (3, Duration::from_secs(1));
/// CONTROL messages looked at, JSON each.
const CONTROLS: (u32, Duration) = (8, Duration::from_millis(100));
/// Peers named in a root path (algorithms §4.4: depth 32 at most).
pub const PATH_MAX: usize = 32;

/// Which of a process's two sockets a channel lives on.
///
/// Remotes come in on one and are called from the other, so that a relay can drain the acknowledgements of its children
/// when media arrives instead of waking up for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Port {
    /// Bound to the advertised address.
    Listen,
    /// Bound to any port; whoever was not called from it gets no answer there.
    Dial,
}

/// How far a channel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// We sent datagram 1.
    Opening {
        /// When to send it again.
        resend: Instant,
        /// How often it was sent.
        tries: u32,
        /// When it was sent first.
        since: Instant,
    },
    /// Both sides have proven their address.
    Open,
}

/// Our subscription at a remote: it is our parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Names the request.
    pub id: u16,
    /// When it was asked for first.
    pub since: Instant,
    /// What is asked for.
    pub parts: Parts,
    /// Whether it pushes more than it is to.
    pub is_overdone: bool,
    /// When to ask again.
    pub resend: Instant,
    /// How often it was asked for.
    pub tries: u32,
    /// Whether the parent said yes, or pushed.
    pub accepted: bool,
    /// Whether the parent said anything.
    pub answered: bool,
    /// Whether nothing of the stream was here when it was asked for: it begins where the parent says.
    pub begins: bool,
    /// The first munro that the parent said it pushes.
    pub start: Option<MunroIndex>,
    /// When its last media came.
    pub last_media: Option<Instant>,
    /// Whether a datagram came from it that is too long for some paths.
    pub sent_long: bool,
    /// When it last gave more of the stream without being asked for it.
    pub last_push: Instant,
}

/// A remote's subscription with us: it is our child.
#[derive(Clone, Debug)]
pub struct Subscriber {
    /// Names its request.
    pub id: u16,
    /// What it wants of the stream.
    pub parts: Parts,
    /// Where in a munro that is, a bit each.
    pub places: u32,
    /// Whether it wants the hashes from us.
    pub wants_hashes: bool,
    /// The first munro it was sent, or will be.
    pub start: MunroIndex,
    /// Whether it came before anything was here: it begins where we begin.
    pub begins_with_us: bool,
    /// The next munro to send.
    pub cursor: MunroIndex,
    /// Whether it has been sent all there is.
    pub at_head: bool,
    /// When the lease ends unless renewed.
    pub lease_end: Instant,
    /// How long a renewal holds.
    pub lease: Duration,
    /// What it said it has.
    pub has: ChunkSet,
    /// When it last acknowledged something.
    pub acked_at: Instant,
    /// When it last asked for something missing.
    pub asked_at: Instant,
    /// When it may be given the next munro of a recording.
    pub archive_due: Instant,
    /// The signed time of the last one that it was given.
    pub archive_time: Option<NtpTime>,
    /// The run of chunks up to there that it was given without a gap.
    pub archive_run: Option<ChunkRange>,
}

impl Subscriber {
    /// Notes what it has; nothing before `oldest` matters any more.
    pub fn note_has(&mut self, range: ChunkRange, oldest: ChunkIndex) {
        if self.has.range_count() > SUBSCRIBER_RANGES {
            self.has.discard_below(oldest);
        }
        // One with more holes than can be kept is not known to have everything, which is true.
        self.has.insert(range);
    }
}

/// What a remote said about itself in STATUS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteStatus {
    /// When it said so.
    pub at: Instant,
    /// Its newest chunk without a gap before it.
    pub head: ChunkIndex,
    /// Its distance from the source; the source is 1.
    pub depth: u8,
    /// Children it would still take.
    pub slots_free: u16,
    /// Time from the source to it, in microseconds.
    pub cumulative_latency_us: u32,
    /// Its paths from the source, itself last, and what comes along each; most have one for all.
    pub paths: Vec<(Parts, Vec<PeerId>)>,
}

impl RemoteStatus {
    /// Whether some of these substreams come to it through `peer`.
    pub fn leads_through(&self, peer: PeerId, parts: Parts) -> bool {
        let mut paths = self.paths.iter();
        paths.any(|(along, path)| !along.common(parts).is_empty() && path.contains(&peer))
    }

    /// How a substream comes to it.
    pub fn path_of(&self, substream: u8) -> &[PeerId] {
        let mut paths = self.paths.iter();
        let found = paths.find(|(along, _)| along.contains(substream));
        found
            .or_else(|| self.paths.first())
            .map_or(&[], |(_, path)| path)
    }
}

/// Unproven chunks of one munro.
#[derive(Debug)]
struct PendingMunro {
    index: MunroIndex,
    chunks: Vec<(u32, Unproven<Bytes>)>,
}

/// Chunks that arrived before the hash that proves them.
#[derive(Debug, Default)]
pub struct Pending {
    munros: VecDeque<PendingMunro>,
    count: usize,
}

impl Pending {
    /// Chunks waiting.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether nothing waits.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Keeps a chunk; the oldest munro makes room when there are too many.
    pub fn add(&mut self, chunk: ChunkIndex, unproven: Unproven<Bytes>) {
        let (index, place) = (MunroIndex::of(chunk), position(chunk));
        while self.count >= PENDING_CHUNKS_MAX {
            let Some(dropped) = self.munros.pop_front() else {
                break;
            };
            self.count -= dropped.chunks.len();
        }
        let at = match self.munros.iter().rposition(|munro| munro.index == index) {
            Some(at) => at,
            None => {
                self.munros.push_back(PendingMunro {
                    index,
                    chunks: Vec::with_capacity(16),
                });
                self.munros.len() - 1
            }
        };
        if let Some(munro) = self.munros.get_mut(at)
            && !munro.chunks.iter().any(|(kept, _)| *kept == place)
        {
            munro.chunks.push((place, unproven));
            self.count += 1;
        }
    }

    /// Takes out all chunks of a munro.
    pub fn take(&mut self, index: MunroIndex) -> Vec<(u32, Unproven<Bytes>)> {
        match self
            .munros
            .iter()
            .position(|munro| munro.index == index)
            .and_then(|at| self.munros.remove(at))
        {
            Some(munro) => {
                self.count -= munro.chunks.len();
                munro.chunks
            }
            None => Vec::new(),
        }
    }

    /// The munros with chunks waiting, and at which positions.
    pub fn masks(&self) -> impl Iterator<Item = (MunroIndex, u32)> {
        self.munros.iter().map(|munro| {
            (
                munro.index,
                munro
                    .chunks
                    .iter()
                    .fold(0, |mask, (place, _)| mask | 1 << (place % 32)),
            )
        })
    }
}

/// A munro under way to a child.
#[derive(Clone, Copy, Debug)]
struct Sent {
    index: MunroIndex,
    bytes: u32,
    at: Instant,
}

/// What was pushed and not acknowledged yet.
#[derive(Debug, Default)]
pub struct InFlight {
    sent: VecDeque<Sent>,
}

impl InFlight {
    /// Notes a train.
    pub fn on_sent(&mut self, now: Instant, index: MunroIndex, bytes: u32) {
        if self.sent.len() >= SENT_MUNROS_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back(Sent {
            index,
            bytes,
            at: now,
        });
    }

    /// Takes out what a range acknowledges: its bytes, and when the newest of it was sent.
    pub fn on_ack(&mut self, range: ChunkRange) -> (u64, Option<Instant>) {
        let (first, last) = (MunroIndex::of(range.first()), MunroIndex::of(range.last()));
        let (mut bytes, mut newest) = (0, None);
        self.sent.retain(|sent| {
            let acked = first <= sent.index && sent.index <= last;
            if acked {
                bytes += u64::from(sent.bytes);
                newest = newest.max(Some(sent.at));
            }
            !acked
        });
        (bytes, newest)
    }

    /// Gives up what was sent before `before`: its bytes.
    pub fn expire(&mut self, before: Instant) -> u64 {
        let mut bytes = 0;
        while let Some(sent) = self.sent.front() {
            if sent.at >= before {
                break;
            }
            bytes += u64::from(sent.bytes);
            self.sent.pop_front();
        }
        bytes
    }
}

/// Bytes and datagrams of one channel, since it opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelCounters {
    /// Datagrams sent.
    pub sent_packets: u64,
    /// Bytes sent, UDP payload.
    pub sent_bytes: u64,
    /// Datagrams received.
    pub recv_packets: u64,
    /// Bytes received, UDP payload.
    pub recv_bytes: u64,
    /// Chunks received that were here already.
    pub duplicate_chunks: u64,
    /// Chunks it had to send a second time, on request.
    pub retransmitted_chunks: u64,
    /// Messages of it that were not allowed.
    pub violations: u64,
}

impl ChannelCounters {
    /// Adds what was counted on another channel.
    pub const fn add(&mut self, other: &Self) {
        self.sent_packets += other.sent_packets;
        self.sent_bytes += other.sent_bytes;
        self.recv_packets += other.recv_packets;
        self.recv_bytes += other.recv_bytes;
        self.duplicate_chunks += other.duplicate_chunks;
        self.retransmitted_chunks += other.retransmitted_chunks;
        self.violations += other.violations;
    }
}

/// One channel.
#[derive(Debug)]
pub struct Channel {
    /// The identifier on datagrams to us.
    pub local: ChannelId,
    /// Where the remote is.
    pub addr: SocketAddr,
    /// Which socket it is reached by.
    pub port: Port,
    /// Which of our swarms.
    pub swarm: usize,
    /// Whether we opened it.
    pub initiated: bool,
    /// How far it is.
    pub phase: Phase,
    /// What its handshake said; channel identifier none while opening.
    pub remote: Remote,
    /// What it said about itself.
    pub hello: Option<Hello>,
    /// When it opened.
    pub opened_at: Instant,
    /// When our last handshake datagram went to it, for a remote that we called, and how often it was repeated.
    pub greeted: (Instant, u32),
    /// When a datagram last came from it.
    pub last_heard: Instant,
    /// When a datagram last went to it.
    pub last_sent: Instant,
    /// Datagrams sent since one came.
    pub unanswered: u32,
    /// Round-trip times.
    pub rtt: Rtt,
    /// Congestion control towards it.
    pub ledbat: Ledbat,
    /// Its strikes.
    pub strikes: Strikes,
    /// What it announced.
    pub available: ChunkSet,
    /// The newest chunk it announced.
    pub newest_announced: Option<ChunkIndex>,
    /// Its last STATUS.
    pub status: Option<RemoteStatus>,
    /// Our subscription there.
    pub subscription: Option<Subscription>,
    /// Its subscription here.
    pub subscriber: Option<Subscriber>,
    /// Whether it does not answer requests.
    pub chokes_us: bool,
    /// Chunks of it that wait for their hashes.
    pub pending: Pending,
    /// Uncle hashes of it that no chunk has proven yet.
    pub provisional: Provisional,
    /// Munros whose hashes from it did not fit its chunks: that cost it a strike each.
    pub misfits: VecDeque<MunroIndex>,
    /// A munro hash announced by INTEGRITY, for the SIGNED_INTEGRITY right behind it.
    pub munro_hash: Option<(ChunkRange, Digest)>,
    /// Pushed and not acknowledged.
    pub in_flight: InFlight,
    /// Served on request.
    pub served: Served,
    /// Probes of it that are answered.
    pub probe_answers: Allowance,
    /// Questions of it for the description that are answered.
    pub describe_answers: Allowance,
    /// Descriptions of it that are looked at.
    pub descriptions: Allowance,
    /// Requests and answers of it, as CONTROL, that are looked at.
    pub controls: Allowance,
    /// Chunks it asked for and was not sent yet.
    pub wanted: VecDeque<ChunkIndex>,
    /// An acknowledgement that is due: the newest chunk's munro and the delay sample of its first datagram.
    pub ack_due: Option<(MunroIndex, i64)>,
    /// The last delay sample, for what carries no time stamp.
    pub last_delay_us: i64,
    /// The nonce and time of a probe that was not answered.
    pub probe: Option<Probe>,
    /// The last STATUS number sent.
    pub status_seq: u32,
    /// What it reported about its reception.
    pub feedback: Option<(u16, u16, u32)>,
    /// For a plain peer: which hashes it was sent already, a bit for each node of the munro.
    pub hashes_sent: BTreeMap<MunroIndex, u64>,
    /// Counters.
    pub counters: ChannelCounters,
}

/// A question whether the remote is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What the answer must repeat.
    pub nonce: u32,
    /// When the first one of this series went out.
    pub since: Instant,
    /// When this one went out.
    pub sent: Instant,
    /// How many went out.
    pub tries: u32,
}

impl Channel {
    /// A channel of which nothing but the addresses is known.
    pub fn new(
        local: ChannelId,
        port: Port,
        addr: SocketAddr,
        swarm: usize,
        now: Instant,
        remote: Remote,
    ) -> Self {
        Self {
            local,
            addr,
            port,
            swarm,
            initiated: false,
            phase: Phase::Open,
            remote,
            hello: None,
            opened_at: now,
            greeted: (now, 0),
            last_heard: now,
            last_sent: now,
            unanswered: 0,
            rtt: Rtt::default(),
            ledbat: Ledbat::default(),
            strikes: Strikes::default(),
            available: ChunkSet::default(),
            newest_announced: None,
            status: None,
            subscription: None,
            subscriber: None,
            chokes_us: false,
            pending: Pending::default(),
            provisional: Provisional::default(),
            misfits: VecDeque::new(),
            munro_hash: None,
            in_flight: InFlight::default(),
            served: Served::default(),
            probe_answers: Allowance::new(PROBE_ANSWERS.0, PROBE_ANSWERS.1),
            describe_answers: Allowance::new(DESCRIBE_ANSWERS.0, DESCRIBE_ANSWERS.1),
            descriptions: Allowance::new(DESCRIPTIONS.0, DESCRIPTIONS.1),
            controls: Allowance::new(CONTROLS.0, CONTROLS.1),
            wanted: VecDeque::new(),
            ack_due: None,
            last_delay_us: 0,
            probe: None,
            status_seq: 0,
            feedback: None,
            hashes_sent: BTreeMap::new(),
            counters: ChannelCounters::default(),
        }
    }

    /// Throws away the unproven hashes of a munro, which did not fit its chunks; true the first time.
    pub fn note_misfit(&mut self, index: MunroIndex) -> bool {
        if let Some(munro) = index.chunks().to_bin() {
            self.provisional.forget(munro);
        }
        if self.misfits.contains(&index) {
            return false;
        }
        if self.misfits.len() >= MISFITS_MAX {
            self.misfits.pop_front();
        }
        self.misfits.push_back(index);
        true
    }

    /// Whether nothing came from it since it was first asked whether it lives.
    pub fn is_unheard(&self) -> bool {
        self.probe
            .is_some_and(|probe| self.last_heard <= probe.since)
    }

    /// Whether it has let so many questions go by and said nothing.
    pub fn is_in_doubt(&self, questions: u32) -> bool {
        self.is_unheard() && self.probe.is_some_and(|probe| probe.tries >= questions)
    }

    /// Whether both sides have proven their address.
    pub const fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    /// Whether the remote reads our extension messages.
    pub const fn has_extensions(&self) -> bool {
        self.remote.has_extensions()
    }

    /// Whether the remote pushes to us, or was asked to.
    pub const fn is_parent(&self) -> bool {
        self.subscription.is_some()
    }

    /// Whether we push to the remote.
    pub const fn is_child(&self) -> bool {
        self.subscriber.is_some()
    }

    /// The remote's name, when it gave one.
    pub fn peer_id(&self) -> Option<PeerId> {
        self.hello.as_ref().map(|hello| hello.peer_id)
    }

    /// Whether the remote has all of a range: announced, and not yet discarded by it (RFC 7574 §6.2).
    pub fn has(&self, chunk: ChunkIndex) -> bool {
        let Some(newest) = self.newest_announced else {
            return false;
        };
        let floor = newest.minus(self.remote.discard_window.saturating_sub(1));
        chunk >= floor && self.available.contains(chunk)
    }

    /// Notes a HAVE; false when the remote announces more pieces than can be kept (S-23).
    pub fn note_have(&mut self, range: ChunkRange) -> bool {
        self.newest_announced = self.newest_announced.max(Some(range.last()));
        if let Some(newest) = self.newest_announced {
            let floor = newest.minus(self.remote.discard_window.saturating_sub(1));
            if self.available.range_count() > 128 {
                self.available.discard_below(floor);
            }
        }
        self.available.insert(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_takes_out_the_munros_it_touches() {
        let mut flight = InFlight::default();
        for number in 0..4u64 {
            flight.on_sent(Instant::from_micros(number), MunroIndex::new(number), 100);
        }
        let range = ChunkRange::new(ChunkIndex::new(32), ChunkIndex::new(95)).unwrap();
        assert_eq!(flight.on_ack(range), (200, Some(Instant::from_micros(2))));
        assert_eq!(flight.expire(Instant::from_micros(3)), 100);
        assert_eq!(flight.expire(Instant::from_micros(9)), 100);
    }
}
