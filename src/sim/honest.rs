//! Nodes of ours as machines of a world.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::scenario::Role;
use super::{Boot, Facts, Liar, Machine, Output, Port, Purpose, Saved, Send, check, seed_of};
use crate::chunk::ChunkIndex;
use crate::ids::PeerId;
use crate::integrity::key::SigningKey;
use crate::node::{self, Config, Event, Node, SourceConfig, StartFrom, SwarmConfig};
use crate::stats;
use crate::store::playout::{PlayoutConfig, Release};
use crate::time::Instant;
use crate::wire::Format;

/// Addresses remembered as banned.
const BANNED_MAX: usize = 1024;
/// The live window of every node.
const WINDOW: Duration = Duration::from_secs(60);
/// A munro stays open for so long.
const SIGN_DELAY: Duration = Duration::from_millis(20);
const SIGN_DELAY_FEW: Duration = Duration::from_millis(100);

/// A node of ours, with what the world wants to know beside its datagrams.
#[derive(Debug)]
pub struct Honest {
    node: Node,
    output: Vec<Output>,
    banned: Vec<SocketAddr>,
    window_bytes_max: usize,
    /// Whether it looks for a parent, as it last said.
    wanting: Option<bool>,
}

/// The key of a scenario's channel.
pub fn key(seed: u64) -> SigningKey {
    SigningKey::from_seed_ed25519(*seed_of(seed, Purpose::Key, 0, 0).as_bytes())
}

/// The machine of any process of a world: nodes of ours, and those who mean no good.
pub fn cast(boot: &Boot<'_>) -> Box<dyn Machine> {
    match boot.spec.role {
        Role::Liar => Box::new(Liar::new(
            boot,
            key(boot.scenario.seed).swarm_id(),
            Format::LIVE,
        )),
        _ => Box::new(Honest::new(boot)),
    }
}

impl Honest {
    /// The node of one process, configured as the programs do by default.
    ///
    /// # Panics
    ///
    /// Never: the key is one that can be verified with.
    pub fn new(boot: &Boot<'_>) -> Self {
        Self::configured(boot, |_| {})
    }

    /// The same, with something changed in its configuration.
    ///
    /// # Panics
    ///
    /// When the change makes a configuration that no node takes.
    pub fn configured(boot: &Boot<'_>, change: impl FnOnce(&mut Config)) -> Self {
        let key = key(boot.scenario.seed);
        let role = match boot.spec.role {
            Role::Source => node::Role::Source,
            Role::Relay => node::Role::Relay,
            Role::Peer | Role::Liar => node::Role::Peer,
        };
        let swarm = SwarmConfig {
            swarm_id: key.swarm_id(),
            window: WINDOW,
            playout: (role == node::Role::Peer).then_some(PlayoutConfig {
                latency: Duration::from_millis(boot.scenario.latency_ms),
                skip: true,
            }),
            from: StartFrom::Live,
            parents: boot.parents.clone(),
            source: (role == node::Role::Source).then(|| SourceConfig {
                key: key.clone(),
                first_chunk: ChunkIndex::new(boot.saved.next_chunk),
                not_before_us: boot.saved.signed_us,
                sign_delay: SIGN_DELAY,
                sign_delay_few: SIGN_DELAY_FEW,
                chunk_packets: 7,
                seal: None,
            }),
            description: None,
        };
        let seed = boot.seed;
        let mut name = [0; PeerId::LEN];
        name.copy_from_slice(&seed.as_bytes()[..PeerId::LEN]);
        let mut config = Config::new(role, PeerId::from_bytes(name), boot.epoch, swarm);
        change(&mut config);
        Self {
            node: Node::new(boot.now, config, seed).expect("an Ed25519 key can be verified with"),
            output: Vec::new(),
            banned: Vec::new(),
            wanting: None,
            // Signed times are the source's and arrive unevenly, so a tenth more than the window holds.
            window_bytes_max: (boot.scenario.rate_kbps * 125 * WINDOW.as_secs() * 11 / 10) as usize,
        }
    }

    /// The node.
    pub const fn node(&self) -> &Node {
        &self.node
    }

    pub(super) const fn node_mut(&mut self) -> &mut Node {
        &mut self.node
    }

    /// Whether it looks for a parent, if that is news.
    pub(super) const fn take_wanting(&mut self) -> Option<bool> {
        self.wanting.take()
    }

    pub(super) fn drain_events(&mut self) {
        while let Some(event) = self.node.poll_event() {
            match event {
                Event::Playout { release, .. } => match release {
                    Release::Media { chunk, payload, .. } => {
                        self.output.push(Output::Media { chunk, payload });
                    }
                    Release::Ended => self.output.push(Output::End),
                    _ => {}
                },
                Event::Violated {
                    addr, banned: true, ..
                } if self.banned.len() < BANNED_MAX => self.banned.push(addr),
                Event::ParentChanged { .. } => self.wanting = Some(false),
                Event::ParentLost { .. }
                | Event::ParentRefused { .. }
                | Event::NeedParents { .. } => self.wanting = Some(true),
                _ => {}
            }
        }
    }
}

impl Machine for Honest {
    fn handle_datagrams(
        &mut self,
        now: Instant,
        arrived: Instant,
        port: Port,
        from: SocketAddr,
        train: Bytes,
        stride: usize,
    ) {
        self.node
            .handle_datagrams(now, arrived, port, from, train, stride);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.node.handle_timeout(now);
    }

    fn push_media(&mut self, now: Instant, data: &[u8]) {
        self.node.push_media(now, Bytes::copy_from_slice(data));
    }

    fn end_media(&mut self, now: Instant) {
        self.node.end_media(now);
    }

    fn poll_transmit(&mut self, _now: Instant, send: &mut Send<'_>) {
        while let Some(transmit) = self.node.poll_transmit() {
            send(
                transmit.port,
                transmit.to,
                transmit.contents,
                transmit.segment_size,
            );
        }
    }

    fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        self.node.poll_timeout(now)
    }

    fn drain_output(&mut self, out: &mut Vec<Output>) {
        self.drain_events();
        out.append(&mut self.output);
    }

    fn facts(&self, now: Instant, facts: &mut Facts) {
        facts.banned.extend_from_slice(&self.banned);
        let neighbours = self.node.neighbours(now, 0);
        for neighbour in &neighbours {
            if neighbour.role == stats::Role::Child {
                facts
                    .children
                    .extend(neighbour.address.parse::<SocketAddr>());
            }
        }
        // Loops are told of the main parent: what others push has ways of its own.
        facts.parents.extend(self.node.parent_addr(0));
        let counters = self.node.counters(now, 0);
        facts.depth = counters.depth.unwrap_or(0) as u32;
        facts.datagrams_in = Some(counters.recv_datagrams);
        facts.datagrams_out = Some(counters.sent_datagrams);
        facts.gauge("channels", neighbours.len(), node::CHANNELS_MAX);
        facts.gauge(
            "window bytes",
            self.node.window_bytes() as usize,
            self.window_bytes_max,
        );
    }

    fn describe(&self, now: Instant) -> String {
        let counters = self.node.counters(now, 0);
        let neighbours: Vec<String> = self
            .node
            .neighbours(now, 0)
            .iter()
            .map(|other| {
                let who = other.address.parse().ok().and_then(check::owner);
                let who = who.map_or_else(|| other.address.clone(), |id| id.to_string());
                let role = match other.role {
                    stats::Role::Parent => "^",
                    stats::Role::Child => "v",
                    _ => "-",
                };
                format!("{role}{who}{}", "!".repeat(other.strikes as usize))
            })
            .collect();
        let stats = self.node.stats();
        format!(
            "chunks {:?}..{:?}, {} lost, {} stalls, {} unprovable, {} malformed, {} bans, {}",
            counters.first_chunk.unwrap_or(0),
            counters.last_chunk.unwrap_or(0),
            counters.lost_packets,
            counters.stalls,
            stats.unprovable_chunks,
            stats.malformed_datagrams,
            stats.bans,
            neighbours.join(" ")
        )
    }

    fn saved(&self, now: Instant) -> Saved {
        match self.node.source_next_chunk() {
            Some(next) => Saved {
                next_chunk: next.get(),
                signed_us: self.node.signing_time_us(now),
            },
            None => Saved::default(),
        }
    }
}
