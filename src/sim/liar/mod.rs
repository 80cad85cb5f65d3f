//! Those who mean no good, in raw datagrams: each opens channels like anybody else, and then lies in its own way.
//!
//! A liar takes children, so that honest nodes come to depend on it, and is a child itself, so that it has a genuine
//! stream to spoil. It knows all addresses and the channel's public key, and keeps no promise of the protocol. What
//! each kind does is in `lies.rs`; here is what they have in common.

mod lies;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::scenario::LiarKind;
use super::{Boot, Forge, Machine, NodeId, Port, Send};
use crate::chunk::ChunkIndex;
use crate::ids::{ChannelId, PeerId, SwarmId};
use crate::rng::Rng;
use crate::time::{Epoch, Instant};
use crate::wire::option::{Handshake, Protection, SignatureAlgorithm, SupportedMessages};
use crate::wire::{
    Datagram, Entry, Extension, Format, Hello, Mask, Message, PathBlock, Status, Subscribe,
    SubscribeReply,
};

/// A liar acts so often.
const TICK: Duration = Duration::from_millis(25);
/// Status, handshakes and subscriptions are repeated so often.
const REPEAT: Duration = Duration::from_secs(1);
/// Channels it keeps: the oldest go first.
const CHANNELS_MAX: usize = 64;
/// Datagrams it remembers.
const TAPE_MAX: usize = 512;

/// One channel with an honest node.
#[derive(Clone, Debug)]
struct Channel {
    port: Port,
    remote: SocketAddr,
    own: ChannelId,
    theirs: Option<ChannelId>,
    /// It has asked for the stream.
    is_child: bool,
}

/// A liar of one kind.
#[derive(Debug)]
pub struct Liar {
    kind: LiarKind,
    swarm: SwarmId,
    format: Format,
    epoch: Epoch,
    rng: Rng,
    name: PeerId,
    parents: Vec<SocketAddr>,
    everyone: Vec<NodeId>,
    channels: Vec<Channel>,
    tape: VecDeque<Bytes>,
    /// Newest chunk it heard of.
    newest: ChunkIndex,
    /// Path that its parent claims, itself at the end.
    path: Vec<PeerId>,
    seq: u32,
    wake: Instant,
    repeat: Instant,
    outbox: Vec<(Port, SocketAddr, Vec<u8>)>,
    forged: Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
}

impl Liar {
    /// The liar of a scenario's node, in the swarm `swarm` with messages of `format`.
    pub fn new(boot: &Boot<'_>, swarm: SwarmId, format: Format) -> Self {
        let mut rng = Rng::new(boot.seed);
        let name = PeerId::from_bytes(rng.next_u64().to_be_bytes());
        Self {
            kind: boot.spec.liar.unwrap_or(LiarKind::Flooder),
            swarm,
            format,
            epoch: boot.epoch,
            name,
            parents: boot.parents.clone(),
            everyone: boot
                .scenario
                .ids()
                .filter(|id| boot.scenario.is_honest(*id))
                .collect(),
            channels: Vec::new(),
            tape: VecDeque::new(),
            newest: ChunkIndex::ZERO,
            path: vec![name],
            seq: 0,
            wake: boot.now,
            repeat: boot.now,
            outbox: Vec::new(),
            forged: Vec::new(),
            rng,
        }
    }

    fn handshake(&self, source: ChannelId) -> Handshake {
        Handshake {
            source,
            version: Some(1),
            minimum_version: Some(1),
            swarm_id: Some(self.swarm.clone()),
            protection: Some(Protection::UnifiedMerkleTree),
            hash: Some(self.format.hash),
            signature: self
                .swarm
                .as_bytes()
                .first()
                .and_then(|code| SignatureAlgorithm::from_code(*code)),
            addressing: Some(self.format.addressing),
            discard_window: Some(u64::MAX),
            supported: Some(SupportedMessages::with_extensions()),
            chunk_size: Some(self.format.chunk_size),
        }
    }

    fn fresh_channel(&mut self) -> ChannelId {
        ChannelId::from_bits(self.rng.next_u32() | 1)
    }

    /// A datagram to a channel.
    fn encode(&self, to: ChannelId, messages: &[Message]) -> Vec<u8> {
        let mut datagram = to.to_bits().to_be_bytes().to_vec();
        for message in messages {
            message.encode(&self.format, &mut datagram);
        }
        datagram
    }

    fn say(&mut self, index: usize, messages: &[Message]) {
        let Some((port, remote, theirs)) = self
            .channels
            .get(index)
            .and_then(|channel| Some((channel.port, channel.remote, channel.theirs?)))
        else {
            return;
        };
        let datagram = self.encode(theirs, messages);
        self.outbox.push((port, remote, datagram));
    }

    fn open_channels(&self) -> Vec<usize> {
        (0..self.channels.len())
            .filter(|index| self.channels[*index].theirs.is_some())
            .collect()
    }

    fn add_channel(&mut self, channel: Channel) {
        if self.channels.len() == CHANNELS_MAX {
            self.channels.remove(0);
        }
        self.channels.push(channel);
    }

    fn somebody(&mut self) -> NodeId {
        let pick = self.rng.below(self.everyone.len() as u64) as usize;
        self.everyone.get(pick).copied().unwrap_or(NodeId::SOURCE)
    }

    // What everybody does.

    fn on_datagram(&mut self, port: Port, from: SocketAddr, datagram: Bytes) {
        let Ok((to, mut messages)) = Datagram::open(datagram.clone()) else {
            return;
        };
        let known = self
            .channels
            .iter()
            .position(|channel| channel.own == to && channel.remote == from);
        let mut index = known;
        let mut has_media = false;
        while let Some(Ok(message)) = messages.next(&self.format) {
            match message {
                Message::Handshake(handshake) => {
                    if handshake.is_closing() {
                        if let Some(index) = index {
                            self.channels.remove(index);
                        }
                        return;
                    }
                    index = self.on_handshake(port, from, index, handshake.source);
                }
                message => {
                    let Some(index) = index else { return };
                    has_media |= matches!(
                        message,
                        Message::Data(_) | Message::Extension(Extension::Munro(_))
                    );
                    self.on_message(index, message);
                }
            }
        }
        if let Some(index) = known.filter(|_| has_media) {
            if self.tape.len() == TAPE_MAX {
                self.tape.pop_front();
            }
            self.tape.push_back(datagram.clone());
            self.pass_on(index, &datagram);
        }
    }

    fn on_handshake(
        &mut self,
        port: Port,
        from: SocketAddr,
        known: Option<usize>,
        theirs: ChannelId,
    ) -> Option<usize> {
        if let Some(index) = known {
            let first = self.channels[index].theirs.replace(theirs).is_none();
            if first {
                self.join(index);
            }
            return known;
        }
        if port == Port::Dial {
            return None;
        }
        let own = self.fresh_channel();
        self.add_channel(Channel {
            port,
            remote: from,
            own,
            theirs: Some(theirs),
            is_child: false,
        });
        let index = self.channels.len() - 1;
        let answer = Message::Handshake(Box::new(self.handshake(own)));
        self.say(index, &[answer]);
        Some(index)
    }

    /// Asks a parent for the stream.
    fn join(&mut self, index: usize) {
        let subscribe = Subscribe {
            id: 1,
            flags: Subscribe::SEND_HASHES,
            from_mode: Subscribe::LIVE_EDGE,
            entries: vec![Entry {
                substream: 0,
                from_chunk: ChunkIndex::ZERO,
            }],
            lease_ms: 30_000,
            priority: 0,
        };
        let hello = Hello {
            peer_id: self.name,
            role: 2,
            degree_max: 100,
            slots_free: 100,
            ..Hello::default()
        };
        self.say(
            index,
            &[
                Message::Extension(Extension::Hello(hello)),
                Message::Extension(Extension::Subscribe(subscribe)),
            ],
        );
    }

    fn on_message(&mut self, index: usize, message: Message) {
        match message {
            Message::Data(data) => self.newest = self.newest.max(data.range.last()),
            Message::Have(range) => self.newest = self.newest.max(range.last()),
            Message::Extension(Extension::Subscribe(subscribe)) => {
                self.channels[index].is_child = true;
                let reply = SubscribeReply {
                    id: subscribe.id,
                    accepted: Mask::all(self.format.substreams),
                    ..SubscribeReply::default()
                };
                let status = self.status();
                self.say(
                    index,
                    &[Message::Extension(Extension::SubscribeReply(reply)), status],
                );
            }
            Message::Extension(Extension::Status(status)) => {
                if let Some(block) = status.paths.first().filter(|block| !block.path.is_empty()) {
                    self.path = block.path.clone();
                    self.path.push(self.name);
                }
            }
            other => self.on_wish(index, &other),
        }
    }

    fn status(&mut self) -> Message {
        self.seq += 1;
        let all = Mask::all(self.format.substreams);
        Message::Extension(Extension::Status(Status {
            seq: self.seq,
            heads: vec![self.newest; usize::from(self.format.substreams)],
            wanted: all.clone(),
            recv_kbps: 1_000,
            sent_kbps: 1_000,
            depth: self.path.len().min(255) as u8,
            slots_free: 100,
            paths: vec![PathBlock {
                mask: all,
                path: self.path.clone(),
            }],
            ..Status::default()
        }))
    }

    /// Keeps channels open, and opens those to parents.
    fn repeat(&mut self) {
        for parent in self.parents.clone() {
            let known = self
                .channels
                .iter()
                .position(|channel| channel.port == Port::Dial && channel.remote == parent);
            let own = match known {
                Some(index) if self.channels[index].theirs.is_some() => {
                    self.join(index);
                    continue;
                }
                Some(index) => self.channels[index].own,
                None => {
                    let own = self.fresh_channel();
                    self.add_channel(Channel {
                        port: Port::Dial,
                        remote: parent,
                        own,
                        theirs: None,
                        is_child: false,
                    });
                    own
                }
            };
            let opening = Message::Handshake(Box::new(self.handshake(own)));
            let datagram = self.encode(ChannelId::NONE, &[opening]);
            self.outbox.push((Port::Dial, parent, datagram));
        }
        for index in self.open_channels() {
            let status = self.status();
            self.say(index, &[status]);
        }
    }
}

impl Machine for Liar {
    fn handle_datagrams(
        &mut self,
        _now: Instant,
        _arrived: Instant,
        port: Port,
        from: SocketAddr,
        train: Bytes,
        stride: usize,
    ) {
        let mut rest = train;
        while !rest.is_empty() {
            let datagram = rest.split_to(stride.clamp(1, rest.len()));
            self.on_datagram(port, from, datagram);
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if now < self.wake {
            return;
        }
        self.wake = now + TICK;
        if now >= self.repeat {
            self.repeat = now + REPEAT;
            self.repeat();
        }
        self.lie(now);
    }

    fn poll_transmit(&mut self, _now: Instant, send: &mut Send<'_>) {
        for (port, to, datagram) in self.outbox.drain(..) {
            send(port, to, &datagram, None);
        }
    }

    fn poll_forged(&mut self, _now: Instant, forge: &mut Forge<'_>) {
        for (from, to, datagram) in self.forged.drain(..) {
            forge(from, to, &datagram);
        }
    }

    fn poll_timeout(&self, _now: Instant) -> Option<Instant> {
        Some(self.wake)
    }

    fn describe(&self, _now: Instant) -> String {
        let children = self.channels.iter().filter(|channel| channel.is_child);
        format!(
            "{} channels, {} children, {} datagrams on tape",
            self.open_channels().len(),
            children.count(),
            self.tape.len()
        )
    }
}
