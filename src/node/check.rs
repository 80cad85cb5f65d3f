//! Entry point for fuzzing and property tests: any bytes at all are read as a list of things that happen to one node,
//! and what must hold whatever happens is asserted here, once, for both.

mod bounds;
mod input;
mod message;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use input::Input;
use message::any_message;

use super::{Auth, Config, Node, Port, Role, SourceConfig, StartFrom, SwarmConfig};
use crate::chunk::{ChunkIndex, ChunkRange};
use crate::ids::{ChannelId, PeerId};
use crate::integrity::hash::digest;
use crate::integrity::key::SigningKey;
use crate::integrity::live::{Authority, MUNRO_WIDTH, MunroTree};
use crate::peer::handshake::SwarmTerms;
use crate::rng::Seed;
use crate::store::playout::PlayoutConfig;
use crate::time::{Epoch, Instant};
use crate::wire::option::{Addressing, ChunkSize, Handshake, HashFunction, Protection};
use crate::wire::{Answer, Data, Digest, Extension, Format, Hello, Message, Munro};

/// Remotes that call us.
const CALLERS: usize = 3;
/// Remotes that we call.
const PARENTS: usize = 2;
/// Things that happen in one run at most: it is many short ones that find something.
const STEPS_MAX: usize = 256;
/// When all begins.
const START: Instant = Instant::from_micros(1_000_000);
/// Unix time at the start of the clock.
const EPOCH: Epoch = Epoch::new(1_795_262_400_000_000);

/// Reads bytes as operations on a node and carries them out.
///
/// # Panics
///
/// When the node panics, sends what cannot be read, sends an address more than came from it before that was proven,
/// gives unproven bytes to the player, holds or sends more than it may, or wants to be woken in the past for ever.
pub fn endpoint_ops(bytes: &[u8]) {
    let mut input = Input(bytes);
    let mut world = World::new(&mut input);
    for _ in 0..STEPS_MAX {
        if input.0.is_empty() {
            break;
        }
        world.step(&mut input);
        world.check();
    }
    world.now += Duration::from_secs(10);
    world.wake();
    world.check();
}

/// A remote.
struct Remote {
    addr: SocketAddr,
    port: Port,
    ours: ChannelId,
    /// What the node wants to be called by it, newest last.
    theirs: Vec<ChannelId>,
    /// Whether it showed that it gets what we send.
    proven: bool,
    bytes_in: usize,
    bytes_out: usize,
}

struct World {
    now: Instant,
    node: Node,
    key: SigningKey,
    terms: SwarmTerms,
    remotes: Vec<Remote>,
    /// Datagrams to those whom only a remote named.
    named: BTreeMap<SocketAddr, usize>,
    is_source: bool,
    media_bytes: usize,
    last: Option<(usize, Bytes)>,
    closed: bool,
    is_clone: bool,
}

/// What the chunks of the parents' stream hold; a player must be given nothing else.
fn content(chunk: ChunkIndex) -> Bytes {
    let mut bytes = chunk.get().to_be_bytes().to_vec();
    bytes.resize(8 + (chunk.get() % 50) as usize, 0x47);
    bytes.into()
}

impl World {
    fn new(input: &mut Input<'_>) -> Self {
        let setup = input.u8();
        let key = SigningKey::from_seed_ed25519([7; 32]);
        let role = match setup & 3 {
            0 => Role::Source,
            1 => Role::Relay,
            _ => Role::Peer,
        };
        let extensions = setup & 4 == 0;
        let remotes: Vec<Remote> = (0..CALLERS + PARENTS)
            .map(|at| Remote {
                addr: SocketAddr::from(([10, 0, 0, at as u8 + 1], 7000)),
                port: if at < CALLERS {
                    Port::Listen
                } else {
                    Port::Dial
                },
                ours: ChannelId::from_bits(0x4000_0001 + at as u32),
                theirs: Vec::new(),
                proven: at >= CALLERS,
                bytes_in: 0,
                bytes_out: 0,
            })
            .collect();
        let swarm = SwarmConfig {
            swarm_id: key.swarm_id(),
            window: Duration::from_secs(if setup & 8 == 0 { 60 } else { 1 }),
            playout: (role == Role::Peer).then(|| PlayoutConfig {
                latency: Duration::from_millis(u64::from(setup >> 4) * 20),
                skip: setup & 16 == 0,
            }),
            from: if setup & 32 == 0 {
                StartFrom::Live
            } else {
                StartFrom::Oldest
            },
            parents: remotes.iter().skip(CALLERS).map(|it| it.addr).collect(),
            source: (role == Role::Source).then(|| SourceConfig {
                key: key.clone(),
                first_chunk: ChunkIndex::ZERO,
                not_before_us: 0,
                sign_delay: Duration::from_millis(20),
                sign_delay_few: Duration::from_millis(20),
                chunk_packets: 7,
                seal: None,
            }),
            description: Some(Bytes::from_static(b"described")).filter(|_| setup & 64 != 0),
        };
        let terms = SwarmTerms {
            swarm_id: key.swarm_id(),
            protection: Protection::UnifiedMerkleTree,
            hash: HashFunction::Sha256,
            signature: key.verifying_key().algorithm(),
            addressing: Addressing::Ranges64,
            chunk_size: ChunkSize::Variable,
            discard_window: 10_000,
            extensions: true,
            format: Format::LIVE,
        };
        let mut config = Config::new(role, PeerId::from_bytes([9; 8]), EPOCH, swarm);
        config.extensions = extensions;
        config.auth = (setup & 128 != 0).then(|| Auth {
            key: SigningKey::from_seed_ed25519([3; 32]),
            friends: BTreeSet::new(),
            issuers: Vec::new(),
            closed: setup & 16 == 0,
        });
        let now = START;
        let mut node = Node::new(now, config, Seed::from_number(1)).expect("a key that works");
        // Of a user who has no device: whatever comes, nobody may tell it to join.
        let is_clone = role == Role::Relay && setup & 64 != 0;
        if is_clone {
            node.ask_first(0, BTreeSet::new(), None);
        }
        Self {
            now,
            node,
            key,
            terms,
            remotes,
            named: BTreeMap::new(),
            is_source: role == Role::Source,
            media_bytes: 0,
            last: None,
            closed: false,
            is_clone,
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let op = input.u8();
        let who = usize::from(input.u8()) % self.remotes.len();
        match op % 16 {
            0 => {
                let length = usize::from(input.u8());
                let bytes = input.take(length);
                self.deliver(who, bytes);
            }
            1 => {
                let opening = self.handshake(who, true, input.u8());
                self.send(who, ChannelId::NONE, &[opening]);
            }
            2 => {
                let opening = self.handshake(who, true, input.u8());
                let hello = Message::Extension(Extension::Hello(Hello::default()));
                self.send(who, self.channel(who, input), &[opening, hello]);
            }
            3 => {
                let reply = self.handshake(who, false, input.u8());
                self.send(who, self.channel(who, input), &[reply]);
            }
            4..=7 => {
                let count = 1 + usize::from(input.u8() % 8);
                let mut list: Vec<Message> = (0..count).map(|_| self.message(input)).collect();
                if input.u8() > 250 {
                    list = list.into_iter().cycle().take(256).collect();
                }
                self.send(who, self.channel(who, input), &list);
            }
            8 | 9 => {
                let step = match input.u8() {
                    short @ 0..=199 => Duration::from_micros(u64::from(short) * 1000),
                    long => Duration::from_millis(u64::from(long - 199) * 400),
                };
                self.now += step;
                self.wake();
            }
            10 => {
                let length = usize::from(input.u16() % 4096);
                let media = Bytes::from(vec![input.u8(); length]);
                self.media_bytes += length;
                self.node.push_media(self.now, media);
            }
            11 => self.genuine(who, input),
            12 => {
                // What was on its way is repeated, perhaps by another.
                if let Some((sender, bytes)) = self.last.clone() {
                    let from = if op & 16 == 0 { sender } else { who };
                    self.deliver(from, bytes);
                }
            }
            13 => {
                // Somebody else's channel.
                let other = usize::from(input.u8()) % self.remotes.len();
                let list = [self.message(input)];
                self.send(who, self.channel(other, input), &list);
            }
            14 => match input.u8() % 8 {
                0 => self.node.pause_playout(0, true),
                1 => self.node.pause_playout(0, false),
                2 => self.node.go_on(0),
                3 => self.node.drain(),
                4 => self.node.flush_media(self.now),
                5 => self.node.end_media(self.now),
                6 => {
                    let addr = self.remotes.get(who).map(|remote| remote.addr);
                    if who >= CALLERS {
                        self.node.set_candidates(self.now, 0, addr.as_slice());
                    }
                }
                _ if input.u8() == 0 => {
                    self.closed = true;
                    self.node.close(self.now);
                }
                _ => self.node.answer(self.now, 0, Answer::Record),
            },
            _ => {
                // A train, as segmentation offload gives it.
                let length = usize::from(input.u8());
                let stride = usize::from(input.u8());
                let train = input.take(length);
                // Whoever looks for bytes that matter comes to name identifiers that it was given, here as well.
                let datagram = if stride == 0 { train.len() } else { stride };
                for datagram in train.chunks(datagram.max(1)) {
                    self.count_in(who, datagram);
                }
                let (addr, port) = self.place(who);
                self.node
                    .handle_datagrams(self.now, self.now, port, addr, train, stride);
            }
        }
    }

    fn place(&self, who: usize) -> (SocketAddr, Port) {
        let remote = self.remotes.get(who).expect("in range");
        (remote.addr, remote.port)
    }

    /// A channel that the node gave this remote, or one that nobody has.
    fn channel(&self, who: usize, input: &mut Input<'_>) -> ChannelId {
        let known = self.remotes.get(who).map(|remote| &remote.theirs);
        let back = usize::from(input.u8() >> 6);
        known
            .and_then(|theirs| theirs.iter().rev().nth(back).or_else(|| theirs.last()))
            .copied()
            .unwrap_or(ChannelId::from_bits(0x7777_7777))
    }

    fn handshake(&self, who: usize, opening: bool, twist: u8) -> Message {
        let ours = self
            .remotes
            .get(who)
            .map_or(ChannelId::NONE, |remote| remote.ours);
        let mut terms = self.terms.clone();
        terms.extensions = twist & 1 == 0;
        let mut handshake = if opening {
            terms.opening(ours)
        } else {
            terms.reply(ours)
        };
        match twist >> 1 {
            100 => handshake.version = Some(9),
            101 => handshake.chunk_size = None,
            102 => handshake.discard_window = Some(1),
            103 => handshake.discard_window = Some(u64::MAX),
            104 => handshake.supported = None,
            105 => handshake = Handshake::closing(),
            106 => handshake.source = ChannelId::from_bits(0x4000_0001),
            _ => {}
        }
        Message::Handshake(Box::new(handshake))
    }

    fn message(&self, input: &mut Input<'_>) -> Message {
        match any_message(self.now, input) {
            Message::Extension(Extension::SubscribeReply(mut reply)) => {
                reply.id = self.asked(reply.id);
                Message::Extension(Extension::SubscribeReply(reply))
            }
            message => message,
        }
    }

    /// What names a request of the node, mostly: nobody answers what was not asked.
    fn asked(&self, id: u16) -> u16 {
        let channels = self.node.channels.iter();
        let mut asked = channels.filter_map(|(_, channel)| channel.subscription);
        asked
            .next()
            .filter(|_| id & 3 > 0)
            .map_or(id, |subscription| subscription.id)
    }

    /// Part of a munro that the channel's key signed.
    fn genuine(&mut self, who: usize, input: &mut Input<'_>) {
        let number = u64::from(input.u8() % 32);
        let age = Duration::from_millis(u64::from(input.u8()) * 20);
        let first = ChunkIndex::new(number * MUNRO_WIDTH);
        let range = ChunkRange::from_count(first, MUNRO_WIDTH).expect("a low number");
        let filled = if input.u8() > 250 { 0 } else { 20 };
        let chunks: Vec<Bytes> = range.iter().take(filled).map(content).collect();
        let leaves: Vec<Digest> = chunks
            .iter()
            .map(|chunk| digest(HashFunction::Sha256, chunk))
            .collect();
        let authority = Authority::new(
            self.key.verifying_key(),
            Addressing::Ranges64,
            HashFunction::Sha256,
        );
        let time = EPOCH.ntp(self.now.saturating_sub(age));
        let (munro, tree) = MunroTree::from_leaves(HashFunction::Sha256, range, &leaves)
            .and_then(|tree| tree.sign(&self.key, &authority, time).ok())
            .expect("a munro of ours");
        let channel = self.channel(who, input);
        let parts = input.u8();
        if parts & 1 == 0 {
            let message = Message::Extension(Extension::Munro(Munro {
                start: first,
                time,
                signature: munro.signature().clone(),
                leaves,
            }));
            self.send(who, channel, &[message]);
        }
        if parts & 2 != 0 {
            let list = [
                Message::Have(range),
                Message::Integrity {
                    range,
                    hash: *munro.root(),
                },
                Message::SignedIntegrity {
                    range,
                    time,
                    signature: munro.signature().clone(),
                },
            ];
            self.send(who, channel, &list);
        }
        let (from, count) = (usize::from(input.u8() % 20), usize::from(input.u8() % 21));
        for (place, payload) in chunks.into_iter().enumerate().skip(from).take(count) {
            let chunk = first.plus(place as u64);
            let mut list = Vec::new();
            if parts & 2 != 0 {
                let uncles = tree.uncles(chunk).into_iter();
                list.extend(uncles.map(|(bin, hash)| Message::Integrity {
                    range: bin.to_range(),
                    hash,
                }));
            }
            list.push(Message::Data(Data {
                range: ChunkRange::single(chunk),
                time_us: EPOCH.unix_micros(self.now),
                payload,
            }));
            self.send(who, channel, &list);
        }
    }

    fn send(&mut self, who: usize, channel: ChannelId, list: &[Message]) {
        let mut out = channel.to_bits().to_be_bytes().to_vec();
        for message in list {
            message.encode(&Format::LIVE, &mut out);
        }
        self.deliver(who, out.into());
    }

    fn deliver(&mut self, who: usize, bytes: Bytes) {
        self.count_in(who, &bytes);
        self.last = Some((who, bytes.clone()));
        let (addr, port) = self.place(who);
        let stride = bytes.len();
        self.node
            .handle_datagrams(self.now, self.now, port, addr, bytes, stride);
        self.drain();
    }

    fn count_in(&mut self, who: usize, datagram: &[u8]) {
        let channel = datagram.first_chunk::<4>().copied().map(u32::from_be_bytes);
        let remote = self.remotes.get_mut(who).expect("in range");
        remote.bytes_in += datagram.len();
        // Whoever knows what we answered to its address gets mail there.
        remote.proven |=
            channel.is_some_and(|channel| remote.theirs.contains(&ChannelId::from_bits(channel)));
    }

    /// Wakes the node until it wants to sleep.
    fn wake(&mut self) {
        for _ in 0..2 {
            self.node.handle_timeout(self.now);
            self.drain();
        }
        let next = self.node.poll_timeout(self.now);
        assert!(
            next.is_none_or(|next| next > self.now),
            "woken at {} it wants to be woken at {next:?}",
            self.now
        );
        assert_eq!(
            next.is_none(),
            self.closed,
            "only what is closed sleeps for ever"
        );
    }
}
