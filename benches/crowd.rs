//! Many receivers in one process, each a node with a real socket: what `fanout.py --crowd` puts behind a relay.
//!
//! `crowd --parent ADDR:PORT --channel HEX --count N [--full K] [--threads T] [--warm S] [--window S]` prints one JSON
//! line. The first K children are whole nodes: they verify, acknowledge and play. The others subscribe as nodes do, then
//! only count what comes and acknowledge it, so that 1500 of them leave the relay a core to itself.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use p2ps::chunk::{ChunkIndex, ChunkRange};
use p2ps::ids::{ChannelId, PeerId, SwarmId, decode_hex};
use p2ps::io::clock::Clock;
use p2ps::io::udp::{Received, Udp};
use p2ps::node::{Config, Event, Node, Port, Role, StartFrom, SwarmConfig, Transmit};
use p2ps::rng::Seed;
use p2ps::store::playout::{PlayoutConfig, Release};
use p2ps::store::{MunroIndex, position};
use p2ps::wire::{Format, Message};

/// Every socket is looked at this often.
const ROUND: Duration = Duration::from_millis(5);
/// Children started in one round.
const JOIN_AT_ONCE: usize = 10;

struct Child {
    node: Node,
    udp: Udp,
    parent: SocketAddr,
    is_whole: bool,
    subscribed: bool,
    /// The parent's identifier of our channel, read off what the node sends.
    remote: Option<ChannelId>,
    /// Chunks that came, by munro: a bit for each.
    came: Vec<(MunroIndex, u32)>,
    played: u64,
    lost: u64,
    bytes: u64,
    /// Times that its parent was lost.
    left: u64,
}

impl Child {
    fn new(clock: &Clock, number: u64, options: &Options) -> Self {
        let swarm = SwarmConfig {
            swarm_id: options.channel.clone(),
            window: Duration::from_secs(2),
            playout: Some(PlayoutConfig {
                latency: Duration::from_millis(500),
                skip: true,
            }),
            from: StartFrom::Live,
            parents: vec![options.parent],
            source: None,
            description: None,
        };
        let config = Config::new(
            Role::Peer,
            PeerId::from_bytes((number + 1).to_be_bytes()),
            clock.epoch(),
            swarm,
        );
        let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("a socket for every child");
        Self {
            node: Node::new(clock.now(), config, Seed::from_number(number))
                .expect("a channel id that is a key"),
            udp: Udp::new(socket, 2).expect("a socket"),
            parent: options.parent,
            is_whole: number < options.full as u64,
            subscribed: false,
            remote: None,
            came: Vec::new(),
            played: 0,
            lost: 0,
            bytes: 0,
            left: 0,
        }
    }

    fn round(&mut self, clock: &Clock, acks: &mut Vec<(MunroIndex, u32)>) {
        let Self {
            node,
            udp,
            is_whole,
            subscribed,
            came,
            bytes,
            ..
        } = self;
        acks.clear();
        udp.receive(clock, |received| {
            *bytes += received.train.len() as u64;
            let now = clock.now();
            let seen = count(&received, came);
            if !*is_whole && *subscribed {
                // Its lease outlives the measurement, so acknowledgements are all that the parent needs.
                acks.extend(seen);
            } else {
                let Received {
                    arrived,
                    from,
                    train,
                    stride,
                } = received;
                node.handle_datagrams(now, arrived, Port::Dial, from, train, stride);
            }
        });
        let now = clock.now();
        let is_driven = *is_whole || !*subscribed;
        if is_driven && node.poll_timeout(now).is_some_and(|at| now >= at) {
            node.handle_timeout(now);
        }
        while let Some(event) = self.node.poll_event() {
            match event {
                Event::ParentChanged { .. } => self.subscribed = true,
                Event::ParentLost { .. } => {
                    self.subscribed = false;
                    self.left += 1;
                }
                Event::Playout {
                    release: Release::Media { .. },
                    ..
                } => self.played += 1,
                Event::Playout {
                    release: Release::Lost { chunk_count, .. },
                    ..
                } => self.lost += chunk_count,
                _ => {}
            }
        }
        while let Some(transmit) = self.node.poll_transmit() {
            if let Some(id) = transmit.contents.first_chunk::<4>() {
                let id = u32::from_be_bytes(*id);
                self.remote = (id != 0).then(|| ChannelId::from_bits(id)).or(self.remote);
            }
            self.udp.send(now, &transmit);
        }
        if let Some(remote) = self.remote {
            for (index, chunks) in acks.drain(..) {
                self.acknowledge(now, remote, index, chunks);
            }
        }
    }

    fn acknowledge(
        &mut self,
        now: p2ps::time::Instant,
        remote: ChannelId,
        index: MunroIndex,
        chunks: u32,
    ) {
        let Some(range) = ChunkRange::from_count(index.first_chunk(), u64::from(chunks)) else {
            return;
        };
        let mut out = remote.to_bits().to_be_bytes().to_vec();
        Message::Ack {
            range,
            delay_us: 1000,
        }
        .encode(&Format::LIVE, &mut out);
        let to = self.parent;
        self.udp.send(
            now,
            &Transmit {
                port: Port::Dial,
                to,
                contents: &out,
                segment_size: None,
            },
        );
    }
}

/// Books the chunks of a train; gives its munro and how many came.
fn count(received: &Received, came: &mut Vec<(MunroIndex, u32)>) -> Option<(MunroIndex, u32)> {
    let mut seen: Option<(MunroIndex, u32)> = None;
    for datagram in received.train.chunks(received.stride.max(1)) {
        // Channel, DATA, first and last chunk (RFC 7574 §8.6, 64-bit ranges).
        let Some([1, first @ ..]) = datagram.get(4..13) else {
            continue;
        };
        let Ok(first) = <[u8; 8]>::try_from(first) else {
            continue;
        };
        let chunk = ChunkIndex::new(u64::from_be_bytes(first));
        let (index, bit) = (MunroIndex::of(chunk), 1 << position(chunk));
        match came.iter_mut().rev().take(64).find(|(at, _)| *at == index) {
            Some((_, mask)) => *mask |= bit,
            None => came.push((index, bit)),
        }
        match &mut seen {
            Some((at, chunks)) if *at == index => *chunks += 1,
            _ => seen = Some((index, 1)),
        }
    }
    seen
}

#[derive(Debug)]
struct Options {
    parent: SocketAddr,
    channel: SwarmId,
    count: usize,
    full: usize,
    threads: usize,
    warm: Duration,
    window: Duration,
}

impl Options {
    fn read() -> Option<Self> {
        let words: Vec<String> = std::env::args().collect();
        let value = |name: &str| {
            let at = words.iter().position(|word| word == name)?;
            words.get(at + 1).cloned()
        };
        let number =
            |name: &str, default: f64| value(name).map_or(Some(default), |text| text.parse().ok());
        Some(Self {
            parent: value("--parent")?.parse().ok()?,
            channel: SwarmId::new(decode_hex(&value("--channel")?).ok()?).ok()?,
            count: value("--count")?.parse().ok()?,
            full: number("--full", 64.0)? as usize,
            threads: number("--threads", 2.0)?.max(1.0) as usize,
            warm: Duration::from_secs_f64(number("--warm", 3.0)?),
            window: Duration::from_secs_f64(number("--window", 6.0)?),
        })
    }
}

/// What the threads tell each other.
#[derive(Default)]
struct Shared {
    /// 0 while children join, then [`MEASURING`], then [`DONE`].
    phase: AtomicU8,
    joined: AtomicUsize,
}

const MEASURING: u8 = 1;
const DONE: u8 = 2;

/// One thread's children and what it noted when the measurement began.
struct Share {
    children: Vec<Child>,
    from: Option<MunroIndex>,
    lost_before: u64,
}

/// Drives every `threads`th child until the measurement is done.
fn drive(clock: &Clock, options: &Options, shared: &Shared, first: usize) -> Share {
    let mut numbers = (first..options.count).step_by(options.threads);
    let mut share = Share {
        children: Vec::new(),
        from: None,
        lost_before: 0,
    };
    let mut acks = Vec::new();
    let mut joined_before = 0;
    let mut is_measuring = false;
    loop {
        let round = Instant::now();
        for number in numbers.by_ref().take(JOIN_AT_ONCE) {
            share
                .children
                .push(Child::new(clock, number as u64, options));
        }
        for child in &mut share.children {
            child.round(clock, &mut acks);
        }
        let has_joined = |child: &&Child| child.subscribed && !child.came.is_empty();
        let joined = share.children.iter().filter(has_joined).count();
        shared.joined.fetch_add(joined, Ordering::Relaxed);
        shared.joined.fetch_sub(joined_before, Ordering::Relaxed);
        joined_before = joined;
        match shared.phase.load(Ordering::Relaxed) {
            DONE => return share,
            MEASURING if !is_measuring => {
                is_measuring = true;
                share.from = newest(&share.children);
                share.lost_before = share.children.iter().map(|child| child.lost).sum();
            }
            _ => {}
        }
        std::thread::sleep(ROUND.saturating_sub(round.elapsed()));
    }
}

/// Begins the measurement when all have joined, or after half a minute, and ends it.
fn time(options: &Options, shared: &Shared) {
    let started = Instant::now();
    while shared.joined.load(Ordering::Relaxed) < options.count
        && started.elapsed() < Duration::from_secs(30)
    {
        std::thread::sleep(ROUND);
    }
    std::thread::sleep(options.warm);
    // The driver starts its own clock on this word.
    println!("measuring {}", shared.joined.load(Ordering::Relaxed));
    shared.phase.store(MEASURING, Ordering::Relaxed);
    std::thread::sleep(options.window);
    shared.phase.store(DONE, Ordering::Relaxed);
}

fn main() {
    let Some(options) = Options::read() else {
        eprintln!("crowd: run benches/fanout.py --crowd, which starts it with a relay to call");
        return;
    };
    let clock = Clock::start();
    let shared = Shared::default();
    let shares: Vec<Share> = std::thread::scope(|scope| {
        let (clock, options, shared) = (&clock, &options, &shared);
        let threads: Vec<_> = (0..options.threads)
            .map(|first| scope.spawn(move || drive(clock, options, shared, first)))
            .collect();
        time(options, shared);
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a thread that does not panic"))
            .collect()
    });
    let from = shares.iter().filter_map(|share| share.from).max();
    let lost_before = shares.iter().map(|share| share.lost_before).sum();
    let children: Vec<Child> = shares
        .into_iter()
        .flat_map(|share| share.children)
        .collect();
    report(&children, from, lost_before);
}

/// The munro that every child must have been sent by now.
fn newest(children: &[Child]) -> Option<MunroIndex> {
    children
        .iter()
        .filter_map(|child| child.came.last())
        .map(|(index, _)| *index)
        .max()
}

/// What came between two munros at every child, beside what the luckiest got.
fn report(children: &[Child], from: Option<MunroIndex>, lost_before: u64) {
    let from = from.unwrap_or(MunroIndex::new(0));
    let to = newest(children)
        .map_or(from, |newest| newest.minus(10))
        .max(from);
    let got: Vec<u64> = children
        .iter()
        .map(|child| {
            let inside = child
                .came
                .iter()
                .filter(|(index, _)| *index > from && *index <= to);
            inside.map(|(_, mask)| u64::from(mask.count_ones())).sum()
        })
        .collect();
    let due = got.iter().copied().max().unwrap_or(0);
    let complete = got.iter().filter(|&&chunks| chunks == due).count();
    let missing: u64 = got.iter().map(|chunks| due - chunks).sum();
    let lost = children.iter().map(|child| child.lost).sum::<u64>() - lost_before;
    let played: u64 = children.iter().map(|child| child.played).sum();
    println!(
        "{{\"children\":{},\"munros\":{},\"due\":{},\"complete\":{complete},\"missing\":{missing},\"played\":{played},\"lost_at_players\":{lost},\"parents_lost\":{},\"blocked\":{},\"bytes\":{}}}",
        children.len(),
        to.get() - from.get(),
        due * children.len() as u64,
        children.iter().map(|child| child.left).sum::<u64>(),
        children
            .iter()
            .map(|child| child.udp.counters.blocked + child.udp.counters.recv_errors)
            .sum::<u64>(),
        children.iter().map(|child| child.bytes).sum::<u64>(),
    );
}
