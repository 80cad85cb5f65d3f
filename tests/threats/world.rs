//! A few nodes on a table, and strangers who speak the protocol by hand. Time is virtual; nothing here waits.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use p2ps::chunk::{ChunkIndex, ChunkRange};
use p2ps::ids::{ChannelId, PeerId};
use p2ps::integrity::hash::digest;
use p2ps::integrity::key::SigningKey;
use p2ps::integrity::live::{Authority, MUNRO_WIDTH, MunroTree};
use p2ps::node::{Config, Event, Node, Port, Role, SourceConfig, StartFrom, SwarmConfig};
use p2ps::peer::handshake::SwarmTerms;
use p2ps::rng::Seed;
use p2ps::store::playout::{PlayoutConfig, Release};
use p2ps::time::{Epoch, Instant, NtpTime};
use p2ps::wire::option::{Addressing, ChunkSize, Handshake, HashFunction, Protection};
use p2ps::wire::{
    Data, Datagram, Digest, Entry, Extension, Format, Hello, Mask, Message, Munro, Status,
    Subscribe, SubscribeReply,
};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MILLI: Duration = Duration::from_millis(1);
const EPOCH_US: u64 = 1_795_262_400_000_000;
const LISTEN: u16 = 7850;
const DIAL: u16 = 40_000;

pub(crate) fn key() -> SigningKey {
    SigningKey::from_seed_ed25519([7; 32])
}

/// The key of another channel.
pub(crate) fn other_key() -> SigningKey {
    SigningKey::from_seed_ed25519([8; 32])
}

/// What all peers of the channel agree on.
pub(crate) fn terms(key: &SigningKey, extensions: bool) -> SwarmTerms {
    SwarmTerms {
        swarm_id: key.swarm_id(),
        protection: Protection::UnifiedMerkleTree,
        hash: HashFunction::Sha256,
        signature: key.verifying_key().algorithm(),
        addressing: Addressing::Ranges64,
        chunk_size: ChunkSize::Variable,
        discard_window: 100_000,
        extensions,
        format: Format::LIVE,
    }
}

/// A node's address. Nodes are named by a number.
pub(crate) fn addr(name: u16, port: Port) -> SocketAddr {
    let port = if port == Port::Listen { LISTEN } else { DIAL };
    SocketAddr::from(([10, 0, 0, name as u8], port))
}

/// An address where no node is.
pub(crate) fn elsewhere(number: u32) -> SocketAddr {
    let [_, b, c, d] = number.to_be_bytes();
    SocketAddr::from(([172, b, c, d], 9000))
}

fn node_at(addr: SocketAddr) -> Option<(u16, Port)> {
    let IpAddr::V4(ip) = addr.ip() else {
        return None;
    };
    let [10, 0, 0, name] = ip.octets() else {
        return None;
    };
    match addr.port() {
        LISTEN => Some((u16::from(name), Port::Listen)),
        DIAL => Some((u16::from(name), Port::Dial)),
        _ => None,
    }
}

pub(crate) fn config(role: Role, name: u16, parents: &[SocketAddr], latency_ms: u64) -> Config {
    let swarm = SwarmConfig {
        swarm_id: key().swarm_id(),
        window: 60 * SECOND,
        playout: (role == Role::Peer).then(|| PlayoutConfig {
            latency: Duration::from_millis(latency_ms),
            skip: true,
        }),
        from: StartFrom::Live,
        parents: parents.to_vec(),
        source: (role == Role::Source).then(|| SourceConfig {
            key: key(),
            first_chunk: ChunkIndex::ZERO,
            not_before_us: 0,
            sign_delay: Duration::from_millis(20),
            sign_delay_few: Duration::from_millis(20),
            chunk_packets: 7,
            seal: None,
        }),
        description: None,
    };
    let peer_id = PeerId::from_bytes([name as u8; 8]);
    Config::new(role, peer_id, Epoch::new(EPOCH_US), swarm)
}

/// What happens to a datagram on its way: from, to, bytes; false loses it.
pub(crate) type Tamper = Box<dyn FnMut(SocketAddr, SocketAddr, &mut Vec<u8>) -> bool>;

/// A datagram that nobody on the table took.
#[derive(Clone, Debug)]
pub(crate) struct Stray {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub bytes: Vec<u8>,
}

pub(crate) struct World {
    pub now: Instant,
    pub nodes: BTreeMap<u16, Node>,
    /// What each player was given.
    pub played: BTreeMap<u16, Vec<u8>>,
    pub events: BTreeMap<u16, Vec<Event>>,
    /// What went to addresses without a node, in order.
    pub strays: VecDeque<Stray>,
    pub tamper: Tamper,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            now: Instant::from_micros(1_000_000),
            nodes: BTreeMap::new(),
            played: BTreeMap::new(),
            events: BTreeMap::new(),
            strays: VecDeque::new(),
            tamper: Box::new(|_, _, _| true),
        }
    }

    pub(crate) fn add(&mut self, name: u16, config: Config) {
        let node = Node::new(self.now, config, Seed::from_number(u64::from(name)));
        self.nodes.insert(name, node.expect("a key that works"));
    }

    pub(crate) fn node(&self, name: u16) -> &Node {
        &self.nodes[&name]
    }

    /// A source, already there for `addr(1, Listen)`.
    pub(crate) fn with_source() -> Self {
        let mut world = Self::new();
        world.add(1, config(Role::Source, 1, &[], 0));
        world
    }

    /// Hands a datagram to a node, and everything that comes of it to the others.
    pub(crate) fn deliver(&mut self, to: SocketAddr, from: SocketAddr, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        if let Some((name, port)) = node_at(to)
            && let Some(node) = self.nodes.get_mut(&name)
        {
            let stride = bytes.len();
            node.handle_datagrams(self.now, self.now, port, from, bytes, stride);
        }
        self.settle();
    }

    pub(crate) fn settle(&mut self) {
        loop {
            let mut mail: Vec<Stray> = Vec::new();
            for (&name, node) in &mut self.nodes {
                while let Some(transmit) = node.poll_transmit() {
                    let size = transmit.segment_size.unwrap_or(usize::MAX);
                    let (from, to) = (addr(name, transmit.port), transmit.to);
                    for bytes in transmit.contents.chunks(size) {
                        let mut bytes = bytes.to_vec();
                        if (self.tamper)(from, to, &mut bytes) {
                            mail.push(Stray { from, to, bytes });
                        }
                    }
                }
                while let Some(event) = node.poll_event() {
                    if let Event::Playout { release, .. } = &event {
                        if let Release::Media { payload, .. } = release {
                            self.played
                                .entry(name)
                                .or_default()
                                .extend_from_slice(payload);
                        }
                        continue;
                    }
                    self.events.entry(name).or_default().push(event);
                }
            }
            if mail.is_empty() {
                return;
            }
            for stray in mail {
                match node_at(stray.to) {
                    Some((name, port)) if self.nodes.contains_key(&name) => {
                        let node = self.nodes.get_mut(&name).expect("just seen");
                        let stride = stray.bytes.len();
                        node.handle_datagrams(
                            self.now,
                            self.now,
                            port,
                            stray.from,
                            stray.bytes.into(),
                            stride,
                        );
                    }
                    _ => self.strays.push_back(stray),
                }
            }
        }
    }

    /// Lets time pass, a millisecond at a time.
    pub(crate) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.now += MILLI;
            for node in self.nodes.values_mut() {
                if node.poll_timeout(self.now).is_some_and(|at| at <= self.now) {
                    node.handle_timeout(self.now);
                }
            }
            self.settle();
        }
    }

    /// Node 1 streams numbered bytes, 8 Mbit/s.
    pub(crate) fn stream(&mut self, sent: &mut Vec<u8>, span: Duration) {
        for _ in 0..span.as_millis() {
            let media = more_media(sent);
            let now = self.now;
            let source = self.nodes.get_mut(&1).expect("the source");
            source.push_media(now, media);
            self.run(MILLI);
        }
    }

    pub(crate) fn end(&mut self) {
        let now = self.now;
        self.nodes.get_mut(&1).expect("the source").end_media(now);
        self.run(2 * SECOND);
    }

    /// Every byte the player was given is the source's, in order and without a gap, up to the last one.
    #[track_caller]
    pub(crate) fn assert_played_to_the_end(&self, name: u16, sent: &[u8]) {
        let played = self.played.get(&name).map_or(&[][..], Vec::as_slice);
        assert!(
            !played.is_empty() && sent.ends_with(played),
            "node {name} played {} bytes of {}, the tail of what was sent: {}; {:?}",
            played.len(),
            sent.len(),
            sent.ends_with(played),
            self.events.get(&name)
        );
    }

    /// Violations that a node noted about an address, and whether it was banned.
    pub(crate) fn violations(&self, name: u16, by: SocketAddr) -> (usize, bool) {
        let mut found = (0, false);
        for event in self.events.get(&name).into_iter().flatten() {
            if let Event::Violated { addr, banned, .. } = event
                && *addr == by
            {
                found = (found.0 + 1, found.1 || *banned);
            }
        }
        found
    }

    /// Takes what went to an address: datagrams.
    pub(crate) fn take(&mut self, to: SocketAddr) -> Vec<Vec<u8>> {
        let (mine, rest) = self.strays.drain(..).partition(|stray| stray.to == to);
        self.strays = rest;
        let mine: VecDeque<Stray> = mine;
        mine.into_iter().map(|stray| stray.bytes).collect()
    }
}

/// A millisecond of media: bytes that tell where they stand.
pub(crate) fn more_media(sent: &mut Vec<u8>) -> Bytes {
    let start = sent.len();
    sent.extend((start..start + 1000).map(|at| (at / 7 % 251) as u8 ^ (at >> 12) as u8));
    Bytes::copy_from_slice(&sent[start..])
}

/// Writes a datagram.
pub(crate) fn datagram(channel: ChannelId, messages: &[Message]) -> Vec<u8> {
    let mut out = channel.to_bits().to_be_bytes().to_vec();
    for message in messages {
        message.encode(&Format::LIVE, &mut out);
    }
    out
}

/// Reads a datagram.
#[track_caller]
pub(crate) fn messages(bytes: &[u8]) -> (ChannelId, Vec<Message>) {
    let (channel, mut reader) =
        Datagram::open(Bytes::copy_from_slice(bytes)).expect("a node writes whole datagrams");
    let mut list = Vec::new();
    while let Some(message) = reader.next(&Format::LIVE) {
        list.push(message.expect("a node writes what can be read"));
    }
    (channel, list)
}

pub(crate) fn range(first: u64, last: u64) -> ChunkRange {
    ChunkRange::new(ChunkIndex::new(first), ChunkIndex::new(last)).expect("in order")
}

/// A remote that is no node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stranger {
    pub addr: SocketAddr,
    /// The socket of the node it talks to.
    pub node: SocketAddr,
    pub ours: ChannelId,
    pub theirs: ChannelId,
}

impl Stranger {
    /// Opens a channel with a node as anybody may.
    #[track_caller]
    pub(crate) fn call(world: &mut World, name: u16, addr: SocketAddr, extensions: bool) -> Self {
        let ours = ChannelId::from_bits(0x4000_0000 | u32::from(addr.port()));
        let node = self::addr(name, Port::Listen);
        world.take(addr);
        let opening = Message::Handshake(Box::new(terms(&key(), extensions).opening(ours)));
        world.deliver(
            node,
            addr,
            datagram(ChannelId::NONE, std::slice::from_ref(&opening)),
        );
        let answers = world.take(addr);
        let answer = answers.first().expect("an answer to the opening");
        let (channel, list) = messages(answer);
        assert_eq!(channel, ours);
        let Some(Message::Handshake(reply)) = list.first() else {
            panic!("no handshake in {list:?}");
        };
        let stranger = Self {
            addr,
            node,
            ours,
            theirs: reply.source,
        };
        if extensions {
            let hello = Message::Extension(Extension::Hello(Hello {
                peer_id: PeerId::from_bytes([0xee; 8]),
                ..Hello::default()
            }));
            stranger.send(world, &[opening, hello]);
        } else {
            stranger.send(world, &[]);
        }
        stranger
    }

    /// Answers the call of a node that has this address for a parent.
    #[track_caller]
    pub(crate) fn answer(world: &mut World, name: u16, addr: SocketAddr, extensions: bool) -> Self {
        let ours = ChannelId::from_bits(0x5000_0000 | u32::from(addr.port()));
        let calls = world.take(addr);
        let call = calls.last().expect("a call from the node");
        let (_, list) = messages(call);
        let Some(Message::Handshake(opening)) = list.first() else {
            panic!("no handshake in {list:?}");
        };
        let stranger = Self {
            addr,
            node: self::addr(name, Port::Dial),
            ours,
            theirs: opening.source,
        };
        let reply = terms(&key(), extensions).reply(ours);
        stranger.send(world, &[Message::Handshake(Box::new(reply))]);
        stranger
    }

    /// Answers the call, and says yes to the subscription that follows.
    #[track_caller]
    pub(crate) fn become_parent(world: &mut World, name: u16, addr: SocketAddr) -> Self {
        let stranger = Self::answer(world, name, addr, true);
        let id = stranger
            .take(world)
            .into_iter()
            .find_map(|message| match message {
                Message::Extension(Extension::Subscribe(subscribe)) => Some(subscribe.id),
                _ => None,
            });
        stranger.send(
            world,
            &[Message::Extension(Extension::SubscribeReply(
                SubscribeReply {
                    id: id.expect("a subscription"),
                    accepted: Mask::all(1),
                    ..SubscribeReply::default()
                },
            ))],
        );
        stranger
    }

    pub(crate) fn subscribe(&self, world: &mut World, id: u16, from_mode: u8) {
        let subscribe = Subscribe {
            id,
            flags: Subscribe::SEND_HASHES,
            from_mode,
            entries: vec![Entry {
                substream: 0,
                from_chunk: ChunkIndex::ZERO,
            }],
            lease_ms: 30_000,
            priority: 0,
        };
        self.send(
            world,
            &[Message::Extension(Extension::Subscribe(subscribe))],
        );
    }

    pub(crate) fn send(&self, world: &mut World, messages: &[Message]) {
        world.deliver(self.node, self.addr, datagram(self.theirs, messages));
    }

    pub(crate) fn send_from(&self, world: &mut World, from: SocketAddr, messages: &[Message]) {
        world.deliver(self.node, from, datagram(self.theirs, messages));
    }

    /// What came from the node since the last time.
    #[track_caller]
    pub(crate) fn take(&self, world: &mut World) -> Vec<Message> {
        let mut list = Vec::new();
        for bytes in world.take(self.addr) {
            list.extend(messages(&bytes).1);
        }
        list
    }

    /// Keeps the channel alive.
    pub(crate) fn status(&self, head: u64) -> Message {
        Message::Extension(Extension::Status(Status {
            seq: 1,
            heads: vec![ChunkIndex::new(head)],
            wanted: Mask::none(1),
            recv_kbps: 0,
            sent_kbps: 0,
            loss_permille: 0,
            cumulative_latency_us: 0,
            jitter_us: 0,
            depth: 1,
            slots_free: 1,
            uplink_kbps: 0,
            paths: Vec::new(),
        }))
    }

    pub(crate) fn is_known(&self, world: &World) -> bool {
        let name = node_at(self.node).expect("a node").0;
        let list = world.node(name).neighbours(world.now, 0);
        list.iter()
            .any(|neighbour| neighbour.address == self.addr.to_string())
    }
}

/// Real content, signed with whatever key: one munro and its chunks.
#[derive(Clone)]
pub(crate) struct Signed {
    pub munro: Munro,
    pub root: Digest,
    pub range: ChunkRange,
    pub chunks: Vec<Bytes>,
}

/// When the strangers' munros are signed: at the nodes' own time.
pub(crate) fn ntp(now: Instant) -> NtpTime {
    Epoch::new(EPOCH_US).ntp(now)
}

pub(crate) fn sign(key: &SigningKey, number: u64, time: NtpTime, fill: u8) -> Signed {
    let chunks: Vec<Bytes> = (0..MUNRO_WIDTH)
        .map(|place| {
            let mut chunk = vec![fill; 1316];
            chunk[..8].copy_from_slice(&(number * MUNRO_WIDTH + place).to_be_bytes());
            Bytes::from(chunk)
        })
        .collect();
    let leaves: Vec<Digest> = chunks
        .iter()
        .map(|chunk| digest(HashFunction::Sha256, chunk))
        .collect();
    let range = range(number * MUNRO_WIDTH, number * MUNRO_WIDTH + MUNRO_WIDTH - 1);
    let authority = Authority::new(
        key.verifying_key(),
        Addressing::Ranges64,
        HashFunction::Sha256,
    )
    .with_width(MUNRO_WIDTH);
    let (munro, tree) = MunroTree::from_leaves(HashFunction::Sha256, range, &leaves)
        .expect("a munro")
        .sign(key, &authority, time)
        .expect("a key that signs");
    let root = tree.root();
    Signed {
        munro: Munro {
            start: range.first(),
            time,
            signature: munro.signature().clone(),
            leaves,
        },
        root,
        range,
        chunks,
    }
}

impl Signed {
    pub(crate) fn munro(&self) -> Message {
        Message::Extension(Extension::Munro(self.munro.clone()))
    }

    pub(crate) fn chunk(&self, place: usize) -> Message {
        Message::Data(Data {
            range: ChunkRange::single(self.range.first().plus(place as u64)),
            time_us: EPOCH_US,
            payload: self.chunks[place].clone(),
        })
    }

    /// The whole munro to a node, a datagram a chunk, the hashes last.
    pub(crate) fn push(&self, world: &mut World, from: &Stranger) {
        for place in 0..self.chunks.len() {
            from.send(world, &[self.chunk(place)]);
        }
        from.send(world, &[self.munro()]);
    }
}

/// A handshake that opens a channel.
pub(crate) fn opening(extensions: bool, ours: u32) -> Handshake {
    terms(&key(), extensions).opening(ChannelId::from_bits(ours))
}
