//! A machine just good enough to carry a stream: it proves that the world works, and with a flaw, that the world sees
//! it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use p2ps::chunk::ChunkIndex;
use p2ps::rng::Rng;
use p2ps::sim::{Boot, Facts, Forge, Machine, NodeId, Output, Port, Role, Saved, Send};
use p2ps::time::Instant;

const HELLO: u8 = 0;
const COOKIE: u8 = 1;
const SUBSCRIBE: u8 = 2;
const DATA: u8 = 3;
const END: u8 = 4;

const HEADER: usize = 18;
const UNIT: usize = 188;
const KEEP_ALIVE: Duration = Duration::from_millis(100);
const SILENCE: Duration = Duration::from_millis(600);
const LEASE: Duration = Duration::from_secs(2);
const DEPTH_MAX: u8 = 16;

/// What is wrong with a toy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    /// Asks for timers that it was given.
    BusyTimer,
    /// Believes what arrives.
    Unverified,
    /// Plays whatever comes, old or new.
    Repeats,
    /// Sends the stream to whoever says hello.
    NoCookie,
    /// Never looks for another parent.
    Faithful,
    /// Bans the parent that it left.
    Vengeful,
    /// Counts wrongly.
    Miscounts,
    /// Keeps more than it says.
    Hoards,
    /// Fails an assertion on a long datagram.
    Panics,
    /// Answers each datagram with thousands.
    Storms,
    /// Does not say that the stream ended.
    Endless,
}

pub(crate) struct Toy {
    flaw: Flaw,
    is_source: bool,
    key: u64,
    secret: u64,
    parents: Vec<SocketAddr>,
    current: usize,
    cookie: Option<[u8; 8]>,
    heard: Instant,
    has_data: bool,
    depth: u8,
    next_chunk: u64,
    ended: bool,
    children: BTreeMap<SocketAddr, Instant>,
    banned: Vec<SocketAddr>,
    wake: Instant,
    outbox: Vec<(Port, SocketAddr, Vec<u8>, Option<usize>)>,
    output: Vec<Output>,
    received: u64,
    sent: u64,
}

fn tag(key: u64, chunk: u64, payload: &[u8]) -> u64 {
    payload.chunks(8).fold(key ^ chunk, |hash, part| {
        let mut word = [0; 8];
        word[..part.len()].copy_from_slice(part);
        (hash ^ u64::from_le_bytes(word))
            .wrapping_mul(0xff51_afd7_ed55_8ccd)
            .rotate_left(31)
    })
}

fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().unwrap())
}

impl Toy {
    pub(crate) fn new(boot: &Boot<'_>, flaw: Flaw) -> Self {
        let mut rng = Rng::new(boot.seed);
        Self {
            flaw,
            is_source: boot.spec.role == Role::Source,
            key: boot.scenario.seed ^ 0x006b_6579,
            secret: rng.next_u64(),
            parents: boot.parents.clone(),
            current: 0,
            cookie: None,
            heard: boot.now,
            has_data: false,
            depth: u8::from(boot.spec.role == Role::Source),
            next_chunk: boot.saved.next_chunk,
            ended: false,
            children: BTreeMap::new(),
            banned: Vec::new(),
            wake: boot.now,
            outbox: Vec::new(),
            output: Vec::new(),
            received: 0,
            sent: 0,
        }
    }

    fn send(&mut self, port: Port, to: SocketAddr, bytes: Vec<u8>) {
        self.outbox.push((port, to, bytes, None));
    }

    fn cookie_for(&self, address: SocketAddr) -> [u8; 8] {
        let mut text = address.to_string().into_bytes();
        text.extend_from_slice(&self.secret.to_le_bytes());
        tag(self.secret, 0, &text).to_le_bytes()
    }

    fn on_datagram(&mut self, now: Instant, port: Port, from: SocketAddr, datagram: &[u8]) {
        self.received += 1;
        assert!(
            self.flaw != Flaw::Panics || self.next_chunk < 100,
            "a toy fell over"
        );
        match (port, datagram.split_first()) {
            (Port::Listen, Some((&HELLO, rest))) if rest.len() == 8 => {
                if self.flaw == Flaw::NoCookie {
                    self.children.insert(from, now);
                }
                let mut answer = vec![COOKIE];
                answer.extend_from_slice(&self.cookie_for(from));
                self.send(Port::Listen, from, answer);
            }
            (Port::Listen, Some((&SUBSCRIBE, rest))) if rest == self.cookie_for(from) => {
                self.children.insert(from, now);
                if self.flaw == Flaw::Storms {
                    for _ in 0..5_000 {
                        self.send(Port::Listen, from, vec![HELLO]);
                    }
                }
                if self.ended {
                    self.send(Port::Listen, from, self.end_mark());
                }
            }
            (Port::Dial, Some((kind, rest))) if Some(&from) == self.parents.get(self.current) => {
                self.on_parent(now, *kind, rest, datagram);
            }
            _ => {}
        }
    }

    fn on_parent(&mut self, now: Instant, kind: u8, rest: &[u8], datagram: &[u8]) {
        match kind {
            COOKIE if rest.len() == 8 => {
                self.cookie = rest.try_into().ok();
                let mut answer = vec![SUBSCRIBE];
                answer.extend_from_slice(rest);
                let to = self.parents[self.current];
                self.send(Port::Dial, to, answer);
            }
            DATA if datagram.len() == HEADER + UNIT => {
                let chunk = word(&rest[..8]);
                let payload = &datagram[HEADER..];
                let depth = datagram[17];
                let genuine = tag(self.key, chunk, payload) == word(&rest[8..]);
                if !genuine && self.flaw != Flaw::Unverified || depth >= DEPTH_MAX {
                    return;
                }
                if chunk < self.next_chunk && self.flaw != Flaw::Repeats {
                    return;
                }
                self.heard = now;
                self.has_data = true;
                self.depth = depth + 1;
                self.next_chunk = chunk + 1;
                self.output.push(Output::Media {
                    chunk: ChunkIndex::new(chunk),
                    payload: Bytes::copy_from_slice(payload),
                });
                let mut copy = datagram.to_vec();
                copy[17] = self.depth;
                self.forward(&copy, None);
            }
            END if rest.len() == 16 && tag(self.key, word(rest), b"end") == word(&rest[8..]) => {
                self.heard = now;
                if word(rest) <= self.next_chunk + 100 && !self.ended && self.flaw != Flaw::Endless
                {
                    self.ended = true;
                    self.next_chunk = word(rest);
                    self.output.push(Output::End);
                    self.forward(&self.end_mark(), None);
                }
            }
            _ => {}
        }
    }

    fn end_mark(&self) -> Vec<u8> {
        let mut mark = vec![END];
        mark.extend_from_slice(&self.next_chunk.to_le_bytes());
        mark.extend_from_slice(&tag(self.key, self.next_chunk, b"end").to_le_bytes());
        mark
    }

    fn forward(&mut self, train: &[u8], segment: Option<usize>) {
        for child in self.children.keys() {
            self.outbox
                .push((Port::Listen, *child, train.to_vec(), segment));
        }
    }
}

impl Machine for Toy {
    fn handle_datagrams(
        &mut self,
        now: Instant,
        _arrived: Instant,
        port: Port,
        from: SocketAddr,
        train: Bytes,
        stride: usize,
    ) {
        if train.is_empty() {
            self.received += 1;
        }
        for datagram in train.chunks(stride) {
            self.on_datagram(now, port, from, datagram);
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if now < self.wake {
            return;
        }
        if self.flaw != Flaw::BusyTimer {
            self.wake = now + KEEP_ALIVE;
        }
        self.children.retain(|_, seen| now.since(*seen) < LEASE);
        if self.parents.is_empty() || self.ended {
            return;
        }
        if now.since(self.heard) > SILENCE && self.flaw != Flaw::Faithful {
            if self.flaw == Flaw::Vengeful {
                self.banned.push(self.parents[self.current]);
            }
            self.current = (self.current + 1) % self.parents.len();
            self.heard = now;
            self.has_data = false;
            self.cookie = None;
        }
        let to = self.parents[self.current];
        let mut message = Vec::new();
        match self.cookie {
            Some(cookie) if self.has_data => {
                message.push(SUBSCRIBE);
                message.extend_from_slice(&cookie);
            }
            // Nothing comes: that parent may have lost its memory.
            _ => message.extend_from_slice(&[HELLO, 0, 0, 0, 0, 0, 0, 0, 0]),
        }
        if self.cookie.is_some() || (self.wake.as_micros() / 100_000) % 5 < 2 {
            self.send(Port::Dial, to, message);
        }
    }

    fn push_media(&mut self, _now: Instant, data: &[u8]) {
        let mut train = Vec::new();
        for payload in data.chunks(UNIT) {
            let chunk = self.next_chunk;
            self.next_chunk += 1;
            train.push(DATA);
            train.extend_from_slice(&chunk.to_le_bytes());
            train.extend_from_slice(&tag(self.key, chunk, payload).to_le_bytes());
            train.push(self.depth);
            train.extend_from_slice(payload);
        }
        self.forward(&train, Some(HEADER + UNIT));
    }

    fn end_media(&mut self, _now: Instant) {
        self.ended = true;
        self.forward(&self.end_mark(), None);
    }

    fn poll_transmit(&mut self, _now: Instant, send: &mut Send<'_>) {
        for (port, to, bytes, segment) in self.outbox.drain(..) {
            self.sent += bytes.len().div_ceil(segment.unwrap_or(bytes.len())) as u64;
            send(port, to, &bytes, segment);
        }
    }

    fn poll_timeout(&self, _now: Instant) -> Option<Instant> {
        Some(self.wake)
    }

    fn drain_output(&mut self, out: &mut Vec<Output>) {
        out.append(&mut self.output);
    }

    fn facts(&self, _now: Instant, facts: &mut Facts) {
        if self.has_data {
            facts.parents.push(self.parents[self.current]);
        }
        facts.children.extend(self.children.keys());
        facts.depth = u32::from(self.depth);
        facts.banned.extend(&self.banned);
        let limit = if self.flaw == Flaw::Hoards { 0 } else { 64 };
        facts.gauge("children", self.children.len(), limit);
        facts.datagrams_in = Some(self.received + u64::from(self.flaw == Flaw::Miscounts));
        facts.datagrams_out = Some(self.sent);
    }

    fn saved(&self, _now: Instant) -> Saved {
        Saved {
            next_chunk: if self.is_source {
                self.next_chunk + 10
            } else {
                0
            },
            signed_us: 0,
        }
    }
}

/// A liar for toys: answers every hello, then sends wrong bytes; forges hellos in everybody's name.
pub(crate) struct ToyLiar {
    wake: Instant,
    rng: Rng,
    nodes: u64,
    outbox: Vec<(SocketAddr, Vec<u8>)>,
}

impl ToyLiar {
    pub(crate) fn new(boot: &Boot<'_>) -> Self {
        Self {
            wake: boot.now,
            rng: Rng::new(boot.seed),
            nodes: boot.scenario.nodes.len() as u64,
            outbox: Vec::new(),
        }
    }
}

impl Machine for ToyLiar {
    fn handle_datagrams(
        &mut self,
        _now: Instant,
        _arrived: Instant,
        _port: Port,
        from: SocketAddr,
        train: Bytes,
        _stride: usize,
    ) {
        match train.first() {
            Some(&HELLO) => self.outbox.push((from, vec![COOKIE; 9])),
            Some(&SUBSCRIBE) => {
                let mut wrong = vec![DATA];
                wrong.extend_from_slice(&self.rng.below(1_000).to_le_bytes());
                wrong.resize(HEADER + UNIT, 7);
                self.outbox.push((from, wrong));
            }
            _ => {}
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.wake = now + Duration::from_millis(50);
    }

    fn poll_transmit(&mut self, _now: Instant, send: &mut Send<'_>) {
        for (to, bytes) in self.outbox.drain(..) {
            send(Port::Listen, to, &bytes, None);
        }
    }

    fn poll_forged(&mut self, _now: Instant, forge: &mut Forge<'_>) {
        let mut node = || NodeId(self.rng.below(self.nodes) as u16);
        let (victim, target) = (node(), node());
        forge(
            victim.address(Port::Dial).into(),
            target.address(Port::Listen).into(),
            &[HELLO, 0, 0, 0, 0, 0, 0, 0, 0],
        );
    }

    fn poll_timeout(&self, _now: Instant) -> Option<Instant> {
        Some(self.wake)
    }
}

/// Toys with a flaw for every honest node, toy liars for the rest.
pub(crate) fn cast(flaw: Flaw) -> impl FnMut(&Boot<'_>) -> Box<dyn Machine> {
    move |boot| match boot.spec.role {
        Role::Liar => Box::new(ToyLiar::new(boot)),
        _ => Box::new(Toy::new(boot, flaw)),
    }
}
