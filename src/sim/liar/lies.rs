//! What each kind of liar does beside what everybody does.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use bytes::Bytes;

use super::super::scenario::LiarKind;
use super::super::{NodeId, Port};
use super::Liar;
use crate::chunk::{ChunkIndex, ChunkRange};
use crate::ids::ChannelId;
use crate::time::Instant;
use crate::wire::{
    Data, Datagram, Digest, Entry, Extension, Mask, Message, ProbeReply, QosFeedback, Subscribe,
};

/// Room before the payload of a DATA message in our format: channel, type, range, time stamp.
const DATA_HEADER_BYTES: usize = 29;
/// Munros that begin here, in chunks.
const MUNRO_WIDTH: u64 = 32;

impl Liar {
    /// Media came from a parent: what the children get of it.
    pub(super) fn pass_on(&mut self, from: usize, datagram: &Bytes) {
        for index in self.open_channels() {
            let channel = &self.channels[index];
            if index == from || !channel.is_child {
                continue;
            }
            let (remote, theirs) = (channel.remote, channel.theirs);
            let mut copy = datagram.to_vec();
            if let (Some(theirs), Some(room)) = (theirs, copy.get_mut(..4)) {
                room.copy_from_slice(&theirs.to_bits().to_be_bytes());
            }
            match self.kind {
                LiarKind::Mute | LiarKind::Flooder => continue,
                LiarKind::Polluter => self.pollute(&mut copy),
                LiarKind::Framer => self.misprint(&mut copy),
                LiarKind::Replayer | LiarKind::AckLiar => {}
            }
            self.outbox.push((Port::Listen, remote, copy));
        }
    }

    /// Alters one byte of a chunk, half of the time.
    fn pollute(&mut self, datagram: &mut [u8]) {
        let is_data = datagram.get(4) == Some(&1) && datagram.len() > DATA_HEADER_BYTES;
        if is_data && self.rng.chance(0.5) {
            let room = (datagram.len() - DATA_HEADER_BYTES) as u64;
            let at = DATA_HEADER_BYTES + self.rng.below(room) as usize;
            datagram[at] ^= 1 << self.rng.below(8);
        }
    }

    /// Alters one byte of whatever carries hashes.
    fn misprint(&mut self, datagram: &mut [u8]) {
        if datagram.get(4) != Some(&1) && datagram.len() > 40 {
            let room = (datagram.len() - 40) as u64;
            let at = 40 + self.rng.below(room) as usize;
            datagram[at] ^= 1 << self.rng.below(8);
        }
    }

    /// Somebody asks for something.
    pub(super) fn on_wish(&mut self, index: usize, message: &Message) {
        if self.kind == LiarKind::Mute {
            return;
        }
        match message {
            Message::Request(range) | Message::Extension(Extension::Fetch { range, .. }) => {
                let wrong = Data {
                    range: ChunkRange::single(range.first()),
                    time_us: self.epoch.unix_micros(self.wake),
                    payload: Bytes::copy_from_slice(&self.rng.bytes()),
                };
                self.say(index, &[Message::Data(wrong)]);
            }
            Message::Extension(Extension::Probe { nonce, .. }) => {
                let reply = ProbeReply {
                    nonce: *nonce,
                    ready: Mask::all(self.format.substreams),
                    recv_kbps: 1_000_000,
                    ..ProbeReply::default()
                };
                self.say(index, &[Message::Extension(Extension::ProbeReply(reply))]);
            }
            _ => {}
        }
    }

    /// One tick of malice.
    pub(super) fn lie(&mut self, now: Instant) {
        match self.kind {
            LiarKind::Mute => {}
            LiarKind::Polluter => self.spoof_media(),
            LiarKind::Framer => self.frame(),
            LiarKind::Flooder => self.flood(),
            LiarKind::Replayer => self.replay(),
            LiarKind::AckLiar => self.acknowledge(now),
        }
    }

    fn any_open(&mut self) -> Option<usize> {
        let open = self.open_channels();
        let pick = self.rng.below(open.len() as u64) as usize;
        open.get(pick).copied()
    }

    fn wrong_hash(&mut self) -> Digest {
        Digest::from_slice(&self.rng.bytes()).unwrap_or_else(|| Digest::empty(self.format.hash))
    }

    /// Chunks in the name of others, to channels guessed at random.
    fn spoof_media(&mut self) {
        if !self.rng.chance(0.2) {
            return;
        }
        let (victim, framed) = (self.somebody(), self.somebody());
        let guess = ChannelId::from_bits(self.rng.next_u32());
        let data = Message::Data(Data {
            range: ChunkRange::single(self.newest.plus(1)),
            time_us: 0,
            payload: Bytes::copy_from_slice(&self.rng.bytes()),
        });
        let datagram = self.encode(guess, &[data]);
        let (from, to) = if self.rng.chance(0.5) {
            (Port::Listen, Port::Dial)
        } else {
            (Port::Dial, Port::Listen)
        };
        self.forged.push((
            framed.address(from).into(),
            victim.address(to).into(),
            datagram,
        ));
    }

    /// Wrong hashes ahead of the stream, to everybody who listens.
    fn frame(&mut self) {
        let Some(index) = self.any_open() else { return };
        let start = self.newest.get() / MUNRO_WIDTH * MUNRO_WIDTH + MUNRO_WIDTH;
        let layer = self.rng.below(5) as u32;
        let width = 1 << layer;
        let first = ChunkIndex::new(start + self.rng.below(MUNRO_WIDTH >> layer) * width);
        let Some(range) = ChunkRange::from_count(first, width) else {
            return;
        };
        let hash = self.wrong_hash();
        self.say(index, &[Message::Integrity { range, hash }]);
        if let Some(old) = self.tape.back().cloned()
            && let Ok((_, mut messages)) = Datagram::open(old)
        {
            while let Some(Ok(message)) = messages.next(&self.format) {
                // The right signature on the wrong leaves, and on the wrong munro.
                if let Message::Extension(Extension::Munro(mut munro)) = message {
                    if self.rng.chance(0.5) {
                        munro.start = ChunkIndex::new(start);
                    } else if let Some(leaf) = munro.leaves.first_mut() {
                        *leaf = hash;
                    }
                    self.say(index, &[Message::Extension(Extension::Munro(munro))]);
                }
            }
        }
    }

    /// Garbage, absurd ranges, handshakes without end, strangers' addresses.
    fn flood(&mut self) {
        for _ in 0..4 {
            let target: SocketAddr = self.somebody().address(Port::Listen).into();
            match self.rng.below(6) {
                0 => {
                    let length = self.rng.below(1_400) as usize;
                    let mut garbage: Vec<u8> = Vec::with_capacity(length + 32);
                    while garbage.len() < length {
                        garbage.extend_from_slice(&self.rng.bytes());
                    }
                    garbage.truncate(length);
                    if self.rng.chance(0.5)
                        && let Some(room) = garbage.get_mut(..4)
                    {
                        room.fill(0);
                    }
                    self.outbox.push((Port::Dial, target, garbage));
                }
                1 => {
                    let opening = self.opening();
                    self.outbox.push((Port::Dial, target, opening));
                }
                2 => {
                    // From addresses that are nobody's, and from somebody else's.
                    let opening = self.opening();
                    let bits = self.rng.next_u32();
                    let from = if self.rng.chance(0.5) {
                        SocketAddrV4::new(
                            Ipv4Addr::from(0xc000_0200 | bits & 0xff),
                            (bits >> 16) as u16,
                        )
                    } else {
                        self.somebody().address(Port::Dial)
                    };
                    self.forged.push((from.into(), target, opening));
                }
                3 => {
                    let opening = self.opening();
                    let cut = self.rng.below(opening.len() as u64) as usize;
                    let cut = opening.get(..cut).unwrap_or_default().to_vec();
                    self.outbox.push((Port::Dial, target, cut));
                }
                _ => self.absurd(),
            }
        }
    }

    fn opening(&mut self) -> Vec<u8> {
        let source = self.fresh_channel();
        let opening = Message::Handshake(Box::new(self.handshake(source)));
        self.encode(ChannelId::NONE, &[opening])
    }

    /// Well-formed messages that ask for too much.
    fn absurd(&mut self) {
        let Some(index) = self.any_open() else { return };
        let first = ChunkIndex::new(self.rng.next_u64() >> self.rng.below(64));
        let last = ChunkIndex::new(first.get().saturating_add(self.rng.next_u64() >> 1));
        let Some(range) = ChunkRange::new(first, last) else {
            return;
        };
        let messages = match self.rng.below(8) {
            0 => vec![Message::Request(range); 80],
            1 => vec![Message::Have(range)],
            2 => (0..80)
                .map(|step| Message::Have(ChunkRange::single(self.newest.plus(step * 2))))
                .collect(),
            3 => vec![Message::Extension(Extension::Fetch { range, flags: 0 }); 50],
            4 => (0..100)
                .map(|step| Message::Extension(Extension::NeedMunro(first.plus(step))))
                .collect(),
            5 => vec![Message::Cancel(range), Message::Choke, Message::Unchoke],
            6 => vec![Message::PexRequest; 1_000],
            _ => vec![Message::Extension(Extension::Describe); 100],
        };
        self.say(index, &messages);
    }

    /// Old datagrams again: to children, to parents, and to strangers in the name of their parents.
    fn replay(&mut self) {
        for _ in 0..2 {
            let pick = self.rng.below(self.tape.len() as u64) as usize;
            let Some(old) = self.tape.get(pick).cloned() else {
                return;
            };
            let mut copy = old.to_vec();
            if self.rng.chance(0.7)
                && let Some(index) = self.any_open()
            {
                let channel = &self.channels[index];
                let (port, remote) = (channel.port, channel.remote);
                if let (Some(theirs), Some(room)) = (channel.theirs, copy.get_mut(..4)) {
                    room.copy_from_slice(&theirs.to_bits().to_be_bytes());
                }
                self.outbox.push((port, remote, copy));
            } else {
                let victim = self.somebody().address(Port::Dial);
                let parent = NodeId::SOURCE.address(Port::Listen);
                self.forged.push((parent.into(), victim.into(), copy));
            }
        }
    }

    /// Flattering acknowledgements, of chunks that it has and of chunks that nobody has yet.
    fn acknowledge(&mut self, now: Instant) {
        let Some(index) = self.any_open() else { return };
        let ahead = self.rng.below(2_000);
        let Some(range) = ChunkRange::from_count(self.newest.minus(20), ahead + 1) else {
            return;
        };
        let delay_us = match self.rng.below(4) {
            0 => 0,
            1 => i64::MIN,
            2 => i64::MAX,
            _ => -(self.epoch.unix_micros(now) as i64),
        };
        let mut messages = vec![Message::Ack { range, delay_us }, Message::Have(range)];
        match self.rng.below(6) {
            0 => messages.push(Message::Extension(Extension::QosFeedback(QosFeedback {
                substream: 0,
                late_permille: u16::MAX,
                lost_permille: u16::MAX,
                over_ms: 0,
            }))),
            1 => messages.push(Message::Extension(Extension::Subscribe(Subscribe {
                id: self.rng.next_u32() as u16,
                flags: 0xff,
                from_mode: Subscribe::EXACT,
                entries: (0..=255)
                    .map(|substream| Entry {
                        substream,
                        from_chunk: ChunkIndex::ZERO,
                    })
                    .take(140)
                    .collect(),
                lease_ms: u32::MAX,
                priority: 255,
            }))),
            2 => messages.push(Message::Extension(Extension::Unsubscribe {
                mask: Mask::all(self.format.substreams),
                reason: 255,
            })),
            _ => {}
        }
        self.say(index, &messages);
    }
}
