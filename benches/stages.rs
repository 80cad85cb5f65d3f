//! What each stage of a munro costs: medians of many runs, in microseconds, on one thread and without any socket.
//!
//! `cargo bench --bench stages`. A munro is what 20 ms of 8 Mbit/s are: 16 chunks of 1316 bytes and one datagram of hashes.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant as SystemInstant};

use bytes::Bytes;
use p2ps::chunk::ChunkIndex;
use p2ps::ids::PeerId;
use p2ps::integrity::ChunkSpec;
use p2ps::integrity::hash::digest;
use p2ps::integrity::key::SigningKey;
use p2ps::integrity::live::{Authority, MunroTree};
use p2ps::node::{Config, Node, Port, Role, SourceConfig, StartFrom, SwarmConfig};
use p2ps::rng::Seed;
use p2ps::seal::{EpochId, EpochKey, Hints, Ring, SALT_BYTES, Sealer};
use p2ps::store::MunroIndex;
use p2ps::store::playout::PlayoutConfig;
use p2ps::time::{Epoch, Instant, NtpTime};
use p2ps::wire::option::{Addressing, ChunkSize, HashFunction};
use p2ps::wire::{Datagram, Digest, Format};

const CHUNKS: usize = 16;
const CHUNK_BYTES: usize = 1316;
const RUNS: usize = 500;
const SPACING: Duration = Duration::from_millis(21);

/// The median time of `RUNS` runs; `run` gives what it took itself.
fn median(mut run: impl FnMut() -> Duration) -> f64 {
    let mut took: Vec<Duration> = (0..RUNS).map(|_| run()).collect();
    took.sort_unstable();
    took[RUNS / 2].as_secs_f64() * 1e6
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let start = SystemInstant::now();
    black_box(work());
    start.elapsed()
}

fn print(stage: &str, micros: f64) {
    println!("{stage:<52} {micros:>8.2} us");
}

fn key() -> SigningKey {
    SigningKey::from_seed_ed25519([7; 32])
}

fn addr(name: u16, port: Port) -> SocketAddr {
    let ip = [10, 0, (name >> 8) as u8, name as u8];
    SocketAddr::from((ip, if port == Port::Listen { 7850 } else { 40_000 }))
}

/// A source, a relay under it, and `children` peers under the relay; datagrams are handed over in memory.
struct Table {
    now: Instant,
    nodes: BTreeMap<u16, Node>,
    /// Only the train that the source sent last is kept.
    train: Option<(SocketAddr, Vec<u8>, usize)>,
    media: Bytes,
}

const SOURCE: u16 = 1;
const RELAY: u16 = 2;

impl Table {
    fn new(children: u16) -> Self {
        let mut table = Self {
            now: Instant::from_micros(1_000_000),
            nodes: BTreeMap::new(),
            train: None,
            media: Bytes::from(vec![0x5a; CHUNKS * CHUNK_BYTES]),
        };
        table.add(SOURCE, Role::Source, None);
        table.add(RELAY, Role::Relay, Some(SOURCE));
        for child in 0..children {
            table.add(3 + child, Role::Peer, Some(RELAY));
        }
        for _ in 0..200 {
            table.munro();
        }
        table
    }

    fn add(&mut self, name: u16, role: Role, parent: Option<u16>) {
        let swarm = SwarmConfig {
            swarm_id: key().swarm_id(),
            window: Duration::from_secs(2),
            playout: (role == Role::Peer).then_some(PlayoutConfig {
                latency: Duration::ZERO,
                skip: true,
            }),
            from: StartFrom::Live,
            parents: parent
                .map(|parent| addr(parent, Port::Listen))
                .into_iter()
                .collect(),
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
        let peer_id = PeerId::from_bytes(u64::from(name).to_be_bytes());
        let config = Config::new(role, peer_id, Epoch::new(1_795_262_400_000_000), swarm);
        let node = Node::new(self.now, config, Seed::from_number(u64::from(name)))
            .expect("the key is one");
        self.nodes.insert(name, node);
    }

    fn node(&mut self, name: u16) -> &mut Node {
        self.nodes.get_mut(&name).expect("added")
    }

    /// Everything that a node has to send, as (to, port, from, bytes, stride).
    fn sends(name: u16, node: &mut Node) -> Vec<(u16, Port, SocketAddr, Vec<u8>, usize)> {
        let mut mail = Vec::new();
        while let Some(transmit) = node.poll_transmit() {
            let SocketAddr::V4(to) = transmit.to else {
                continue;
            };
            let [_, _, high, low] = to.ip().octets();
            let port = if to.port() == 7850 {
                Port::Listen
            } else {
                Port::Dial
            };
            let stride = transmit.segment_size.unwrap_or(transmit.contents.len());
            mail.push((
                u16::from_be_bytes([high, low]),
                port,
                addr(name, transmit.port),
                transmit.contents.to_vec(),
                stride,
            ));
        }
        while node.poll_event().is_some() {}
        mail
    }

    fn settle(&mut self) {
        loop {
            let mut moved = false;
            let names: Vec<u16> = self.nodes.keys().copied().collect();
            for name in names {
                for (to, port, from, bytes, stride) in Self::sends(name, self.node(name)) {
                    moved = true;
                    let now = self.now;
                    self.node(to)
                        .handle_datagrams(now, now, port, from, bytes.into(), stride);
                }
            }
            if !moved {
                return;
            }
        }
    }

    /// The source signs a munro; gives what signing and laying out took, and the train for the relay.
    fn sign(&mut self) -> Duration {
        self.now += SPACING;
        let (now, media) = (self.now, self.media.clone());
        let took = timed(|| {
            let source = self.node(SOURCE);
            source.push_media(now, media);
            source.flush_media(now);
        });
        self.train = None;
        for (to, port, from, bytes, stride) in Self::sends(SOURCE, self.node(SOURCE)) {
            if to == RELAY && bytes.len() > CHUNK_BYTES {
                self.train = Some((from, bytes, stride));
            } else {
                self.node(to)
                    .handle_datagrams(now, now, port, from, bytes.into(), stride);
            }
        }
        took
    }

    /// The relay takes the train in: decodes, proves, stores, lays out for its children.
    fn relay(&mut self) -> Duration {
        let Some((from, bytes, stride)) = self.train.take() else {
            return Duration::ZERO;
        };
        let (now, bytes) = (self.now, Bytes::from(bytes));
        timed(|| {
            self.node(RELAY)
                .handle_datagrams(now, now, Port::Dial, from, bytes, stride)
        })
    }

    fn munro(&mut self) {
        self.sign();
        self.relay();
        let now = self.now;
        for node in self.nodes.values_mut() {
            if node.poll_timeout(now).is_some_and(|at| now >= at) {
                node.handle_timeout(now);
            }
        }
        self.settle();
    }

    /// Times `RUNS` munros: signing, taking in, and handing the sends out one by one.
    fn measure(&mut self) -> (f64, f64, f64, usize) {
        let (mut signed, mut relayed, mut sent) = (Vec::new(), Vec::new(), Vec::new());
        let mut sends = 0;
        for _ in 0..RUNS {
            signed.push(self.sign());
            relayed.push(self.relay());
            let mut mail = Vec::new();
            let node = self.node(RELAY);
            let mut took = Duration::ZERO;
            loop {
                let start = SystemInstant::now();
                let transmit = node.poll_transmit();
                took += start.elapsed();
                let Some(transmit) = transmit else { break };
                let SocketAddr::V4(to) = transmit.to else {
                    continue;
                };
                let [_, _, high, low] = to.ip().octets();
                let port = if to.port() == 7850 {
                    Port::Listen
                } else {
                    Port::Dial
                };
                let stride = transmit.segment_size.unwrap_or(transmit.contents.len());
                mail.push((
                    u16::from_be_bytes([high, low]),
                    port,
                    addr(RELAY, transmit.port),
                    transmit.contents.to_vec(),
                    stride,
                ));
            }
            sent.push(took);
            sends = mail.len();
            let now = self.now;
            for (to, port, from, bytes, stride) in mail {
                self.node(to)
                    .handle_datagrams(now, now, port, from, bytes.into(), stride);
            }
            self.munro_rest();
        }
        let mid = |mut all: Vec<Duration>| {
            all.sort_unstable();
            all[all.len() / 2].as_secs_f64() * 1e6
        };
        (mid(signed), mid(relayed), mid(sent), sends)
    }

    fn munro_rest(&mut self) {
        let now = self.now;
        for node in self.nodes.values_mut() {
            if node.poll_timeout(now).is_some_and(|at| now >= at) {
                node.handle_timeout(now);
            }
        }
        self.settle();
    }
}

fn primitives() {
    let chunk = vec![0x5a; CHUNK_BYTES];
    print(
        "SHA-256 of a chunk",
        median(|| timed(|| digest(HashFunction::Sha256, &chunk))),
    );
    let (key, spec) = (
        key(),
        ChunkSpec::new(Addressing::Ranges64, ChunkSize::Variable),
    );
    let authority = Authority::new(key.verifying_key(), spec, HashFunction::Sha256);
    let leaves: Vec<Digest> = (0..CHUNKS)
        .map(|at| digest(HashFunction::Sha256, &[at as u8; CHUNK_BYTES]))
        .collect();
    let range = MunroIndex::new(9).chunks();
    let time = NtpTime::from_unix_micros(1_795_262_400_000_000);
    let tree = || {
        MunroTree::from_leaves(HashFunction::Sha256, range, &leaves)
            .expect("16 leaves fit 32 chunks")
    };
    print("hash up 16 leaves", median(|| timed(tree)));
    print(
        "hash up 16 leaves and sign the munro",
        median(|| timed(|| tree().sign(&key, &authority, time))),
    );
    let (munro, _) = tree()
        .sign(&key, &authority, time)
        .expect("a key of its own authority");
    let signature = munro.signature().clone();
    print(
        "hash up 16 leaves and verify the signature",
        median(|| timed(|| tree().verify(&authority, time, signature.clone()))),
    );
}

/// Sealing a chunk, and opening it.
fn sealing() {
    let (epoch, key_of_epoch) = (EpochId::at(1, 0), EpochKey::from_bytes([3; 32]));
    let mut sealer = Sealer::new(key().swarm_id(), [9; SALT_BYTES]);
    sealer.set_key(epoch, &key_of_epoch);
    let mut ring = Ring::new(key().swarm_id());
    ring.add(epoch, key_of_epoch);
    let media = vec![5; 6 * 188];
    let mut chunk = 0;
    let mut sealed = Bytes::new();
    let seal = median(|| {
        chunk += 1;
        timed(|| {
            sealed = sealer
                .seal(ChunkIndex::new(chunk), Hints::default(), &media)
                .expect("there is a key")
        })
    });
    print("seal a chunk of 1128 bytes", seal);
    let open = median(|| {
        timed(|| {
            ring.open(ChunkIndex::new(chunk), &sealed)
                .expect("the same key")
        })
    });
    print("open it", open);
}

fn main() {
    primitives();
    sealing();
    let mut table = Table::new(1);
    table.sign();
    if let Some((_, bytes, stride)) = table.train.clone() {
        let datagrams: Vec<Bytes> = bytes.chunks(stride).map(Bytes::copy_from_slice).collect();
        print(
            &format!("decode a train of {} datagrams", datagrams.len()),
            median(|| {
                timed(|| {
                    for datagram in &datagrams {
                        let Ok((_, mut messages)) = Datagram::open(datagram.clone()) else {
                            continue;
                        };
                        while let Some(message) = messages.next(&Format::LIVE) {
                            let _ = black_box(message);
                        }
                    }
                })
            }),
        );
    }
    table.relay();
    let (signed, alone, _, _) = table.measure();
    print("source: cut, hash, sign, lay out a munro", signed);
    print("relay: decode, prove, store, lay out, 1 child", alone);
    for children in [16, 64] {
        let (_, taken, sent, sends) = Table::new(children).measure();
        print(&format!("the same with {children} children"), taken);
        print(
            &format!("patch and hand out a send ({sends} of them)"),
            sent / sends.max(1) as f64,
        );
        print(
            "books for each further child",
            (taken - alone) / f64::from(children - 1),
        );
    }
}
