//! Events in order of time: machines driven, datagrams carried, faults begun and ended, invariants checked.

mod net;
mod run;
mod stress;

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use net::{Event, Net, Packet};

use super::check::{self, Invariant, Limits, Tree, Violation};
use super::oracle::Player;
use super::report::{Failure, Outcome, PlayerOutcome};
use super::scenario::{Role, Scenario};
use super::stream::Stream;
use super::{Cast, Facts, Machine, NodeId, Output, Saved};
use crate::time::{Epoch, Instant};

/// Bytes a socket keeps for a process that does not read.
const SOCKET_BYTES: usize = 1 << 20;

/// Unix time at which every world begins: fixed, as all else.
const WORLD_BEGINS_UNIX_US: u64 = 1_795_262_400_000_000;

/// The monotone and the wall clock of one node.
#[derive(Clone, Copy, Debug)]
struct Clock {
    base_us: u64,
    drift_ppm: i32,
    wall_us: i64,
}

impl Clock {
    /// Microseconds that it counts in a million.
    fn rate(self) -> u128 {
        u128::from(1_000_000_u32.saturating_add_signed(self.drift_ppm))
    }

    /// What the node's monotone clock shows.
    fn local(self, world: Instant) -> Instant {
        let elapsed = u128::from(world.as_micros()) * self.rate() / 1_000_000;
        Instant::from_micros(self.base_us + elapsed as u64)
    }

    /// The first moment of the world at which the node's clock shows `local` or later.
    fn world(self, local: Instant) -> Instant {
        let elapsed = u128::from(local.as_micros().saturating_sub(self.base_us));
        let at = (elapsed * 1_000_000).div_ceil(self.rate());
        Instant::from_micros(u64::try_from(at).unwrap_or(u64::MAX))
    }

    /// The node's wall clock, tied to its monotone one as a process does when it starts.
    fn epoch(self, world: Instant) -> Epoch {
        let wall = (WORLD_BEGINS_UNIX_US + world.as_micros()).wrapping_add_signed(self.wall_us);
        Epoch::new(wall.wrapping_sub(self.local(world).as_micros()))
    }
}

/// One node: its process when there is one, and what outlives it.
struct Node {
    machine: Option<Box<dyn Machine>>,
    clock: Clock,
    incarnation: u32,
    saved: Saved,
    started: Instant,
    gone: bool,
    paused: bool,
    inbox: VecDeque<Packet>,
    inbox_bytes: usize,
    armed: Option<Instant>,
    inputs: u32,
    children: u64,
    player: Player,
    joined: Option<Instant>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("up", &self.machine.is_some())
            .field("incarnation", &self.incarnation)
            .field("paused", &self.paused)
            .finish_non_exhaustive()
    }
}

/// A swarm in virtual time.
pub struct World<'c> {
    scenario: Scenario,
    limits: Limits,
    cast: Box<dyn Cast + 'c>,
    nodes: Vec<Node>,
    net: Net,
    now: Instant,
    stream: Stream,
    /// What the encoder has written: moment and bytes in all.
    fed: Vec<(Instant, u64)>,
    /// What it wrote when no source was there to read it, or just before one died.
    holes: Vec<(u64, u64)>,
    fed_bytes: u64,
    fed_remainder: u64,
    stalls: u32,
    ended: bool,
    tree: Tree,
    /// Whom a fault hit, and which start of it.
    hit: Vec<Option<(NodeId, u32)>>,
    media: Vec<u8>,
    output: Vec<Output>,
    facts: Facts,
}

impl std::fmt::Debug for World<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World")
            .field("seed", &self.scenario.seed)
            .field("now", &self.now)
            .field("nodes", &self.nodes)
            .finish_non_exhaustive()
    }
}

impl<'c> World<'c> {
    /// A world that has not begun; `cast` makes the machine of each process.
    pub fn new(scenario: Scenario, cast: impl Cast + 'c) -> Self {
        let stream = if scenario.is_transport_stream {
            Stream::transport(scenario.seed, scenario.rate_kbps)
        } else {
            Stream::bytes(scenario.seed)
        };
        let nodes = scenario
            .ids()
            .map(|id| {
                let spec = scenario.spec(id);
                Node {
                    machine: None,
                    clock: Clock {
                        // Each machine was switched on at another time: clocks have nothing in common.
                        base_us: super::mix(scenario.seed ^ u64::from(id.0)) % 1_000_000_000_000,
                        drift_ppm: spec.drift_ppm,
                        wall_us: spec.wall_ms * 1_000,
                    },
                    incarnation: 0,
                    saved: Saved::default(),
                    started: Instant::ZERO,
                    gone: spec.absent,
                    paused: false,
                    inbox: VecDeque::new(),
                    inbox_bytes: 0,
                    armed: None,
                    inputs: 0,
                    children: 0,
                    player: Player::new(stream),
                    joined: None,
                }
            })
            .collect();
        Self {
            limits: Limits::default(),
            cast: Box::new(cast),
            nodes,
            net: Net::new(&scenario),
            now: Instant::ZERO,
            stream,
            fed: Vec::new(),
            holes: Vec::new(),
            fed_bytes: 0,
            fed_remainder: 0,
            stalls: 0,
            ended: false,
            tree: Tree::new(scenario.nodes.len()),
            hit: vec![None; scenario.faults.len()],
            media: Vec::new(),
            output: Vec::new(),
            facts: Facts::default(),
            scenario,
        }
    }

    /// With other limits.
    #[must_use]
    pub const fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Keeps everything that one node does and gets, for the report of a violation.
    #[must_use]
    pub const fn watch(mut self, node: NodeId) -> Self {
        self.net.log.watch(node);
        self
    }

    /// Runs the world to its end.
    ///
    /// # Errors
    ///
    /// The first violation, with all that is needed to see it again.
    pub fn run(mut self) -> Result<Outcome, Box<Failure>> {
        let played = catch_unwind(AssertUnwindSafe(|| self.play()));
        let violation = match played {
            Ok(Ok(())) => return Ok(self.outcome()),
            Ok(Err(violation)) => violation,
            Err(panic) => Violation::new(
                Invariant::NoPanic,
                self.net.acting,
                panic_text(panic.as_ref()),
            ),
        };
        Err(Box::new(self.failure(violation)))
    }

    fn outcome(&self) -> Outcome {
        let (sent, lost) = self.net.sent_and_lost();
        Outcome {
            hash: self.net.log.hash(),
            events: self.net.log.events(),
            fed: self.fed_bytes,
            sent,
            lost,
            players: self
                .scenario
                .ids()
                .filter(|id| self.is_player(*id))
                .map(|id| self.player_outcome(id))
                .collect(),
        }
    }

    fn is_player(&self, id: NodeId) -> bool {
        self.scenario.spec(id).role == Role::Peer && self.scenario.is_honest(id)
    }

    fn player_outcome(&self, node: NodeId) -> PlayerOutcome {
        let state = &self.nodes[node.index()];
        let joined = state.joined.map(|at| at.since(state.started));
        PlayerOutcome {
            node,
            join_us: joined.map(crate::time::micros),
            bytes: state.player.bytes(),
            missing: state.player.missing(&self.holes),
            gaps: state.player.gaps().to_vec(),
            first: state.player.first(),
            ended: state.player.has_ended(),
            alive: state.machine.is_some(),
        }
    }

    fn failure(&self, violation: Violation) -> Failure {
        // After a panic a machine may be in any state: describe what still answers.
        let nodes = self
            .scenario
            .ids()
            .map(|id| {
                catch_unwind(AssertUnwindSafe(|| self.describe(id)))
                    .unwrap_or_else(|_| format!("{id}: cannot be described"))
            })
            .collect();
        Failure {
            seed: self.scenario.seed,
            violation,
            at: self.now,
            step: self.net.log.events(),
            events: self.net.log.last(),
            watched: self.net.log.watched(),
            nodes,
            scenario: self.scenario.to_toml(),
        }
    }

    fn describe(&self, id: NodeId) -> String {
        let spec = self.scenario.spec(id);
        let node = &self.nodes[id.index()];
        let mut line = format!("{id:>4} {:?}", spec.role);
        if let Some(kind) = spec.liar {
            line += &format!(" ({kind:?})");
        }
        let Some(machine) = &node.machine else {
            return line + if node.gone { ", gone" } else { ", down" };
        };
        let now = node.clock.local(self.now);
        let mut facts = Facts::default();
        machine.facts(now, &mut facts);
        let names = |list: &[std::net::SocketAddr]| -> Vec<String> {
            list.iter()
                .map(|address| match check::owner(*address) {
                    Some(id) => id.to_string(),
                    None => address.to_string(),
                })
                .collect()
        };
        line += &format!(
            ", life {} since {}{}, told of {:?}, parents {:?}, children {:?}, depth {}",
            node.incarnation,
            node.started,
            if node.paused { ", paused" } else { "" },
            spec.parents,
            names(&facts.parents),
            names(&facts.children),
            facts.depth
        );
        if spec.role == Role::Peer {
            line += &format!(
                ", at byte {:?} of {}, {} gaps",
                node.player.next(),
                self.fed_bytes,
                node.player.gaps().len()
            );
        }
        let more = machine.describe(now);
        if more.is_empty() {
            line
        } else {
            line + ", " + &more
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panicked".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drifting_clock_is_never_early() {
        for drift_ppm in [-200, -3, 0, 3, 200] {
            let clock = Clock {
                base_us: 77,
                drift_ppm,
                wall_us: 0,
            };
            for at in (0..5_000_000).step_by(999) {
                let local = clock.local(Instant::from_micros(at));
                let world = clock.world(local);
                assert!(world <= Instant::from_micros(at), "{drift_ppm} {at}");
                assert_eq!(clock.local(world), local, "{drift_ppm} {at}");
            }
        }
    }

    #[test]
    fn wall_clocks_are_off_by_what_the_scenario_says() {
        let clock = Clock {
            base_us: 1_000_000,
            drift_ppm: 200,
            wall_us: -5_000_000,
        };
        let start = Instant::from_micros(10_000_000);
        let epoch = clock.epoch(start);
        assert_eq!(
            epoch.unix_micros(clock.local(start)),
            WORLD_BEGINS_UNIX_US + 5_000_000
        );
    }
}
