//! Who takes part in a world and how: plain data, drawn from a seed or read from TOML.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fault::{self, Fault};
use super::link::Profile;
use super::{NodeId, Purpose, generator};
use crate::rng::Rng;

/// What a node is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Makes the stream; node 0, and only that.
    Source,
    /// Passes it on.
    Relay,
    /// Plays it, and passes it on.
    Peer,
    /// Means no good.
    Liar,
}

/// How a liar lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LiarKind {
    /// Passes chunks on with altered bytes.
    Polluter,
    /// Sends wrong hashes first, so that the chunks of others fail.
    Framer,
    /// Opens channels, accepts subscriptions, never sends.
    Mute,
    /// Garbage, absurd ranges, handshakes without end, forged addresses.
    Flooder,
    /// Sends old datagrams again.
    Replayer,
    /// Acknowledges what it never got, with flattering delays.
    AckLiar,
}

impl LiarKind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Polluter,
        Self::Framer,
        Self::Mute,
        Self::Flooder,
        Self::Replayer,
        Self::AckLiar,
    ];
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSpec {
    /// What it is there for.
    pub role: Role,
    /// How it lies, when it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liar: Option<LiarKind>,
    /// When its process starts.
    #[serde(default)]
    pub start_ms: u64,
    /// Parents it was told of, in order of preference.
    #[serde(default)]
    pub parents: Vec<u16>,
    /// How much faster its clocks run, in millionths.
    #[serde(default)]
    pub drift_ppm: i32,
    /// How far its wall clock is off.
    #[serde(default)]
    pub wall_ms: i64,
    /// Left out by the shrinker, so that the others keep their numbers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub absent: bool,
}

/// A world before it runs. Two worlds of equal scenarios run alike, event by event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Seed of everything that is not written here: noise of links, seeds of nodes, keys. Below 2^63, as TOML counts.
    pub seed: u64,
    /// How long the world lasts.
    pub duration_ms: u64,
    /// Rate of the stream.
    pub rate_kbps: u64,
    /// Whether it is a transport stream, or bytes of no known format.
    pub is_transport_stream: bool,
    /// The encoder writes so often.
    pub push_ms: u64,
    /// Playout latency of every player.
    pub latency_ms: u64,
    /// After the last fault, and after its own start, a player is back at the live edge within this time.
    pub converge_ms: u64,
    /// At the live edge: no further behind the encoder than the playout latency and this.
    pub edge_ms: u64,
    /// When the encoder closes its output; 0 is never.
    pub end_ms: u64,
    /// Paths differ in delay by up to so much.
    pub spread_us: u64,
    /// Every link.
    pub link: Profile,
    /// Everyone; the source first.
    pub nodes: Vec<NodeSpec>,
    /// Everything that goes wrong, in order of time.
    #[serde(default)]
    pub faults: Vec<Fault>,
}

impl Scenario {
    /// Who takes part.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.nodes.len() as u16).map(NodeId)
    }

    /// What is said about one node.
    ///
    /// # Panics
    ///
    /// When there is no such node.
    pub fn spec(&self, id: NodeId) -> &NodeSpec {
        &self.nodes[id.index()]
    }

    /// Whether a node is there and means well.
    pub fn is_honest(&self, id: NodeId) -> bool {
        self.nodes
            .get(id.index())
            .is_some_and(|spec| spec.role != Role::Liar && !spec.absent)
    }

    /// When the last fault is over, in milliseconds.
    pub fn quiet_ms(&self) -> u64 {
        self.faults
            .iter()
            .map(|fault| fault.at_ms + fault.kind.lasts_ms())
            .max()
            .unwrap_or(0)
    }

    /// As TOML.
    ///
    /// # Panics
    ///
    /// Never for what [`Shape::draw`] makes: numbers of 2^63 and above have no TOML form.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("numbers below 2^63 and plain tables have a TOML form")
    }

    /// From TOML.
    ///
    /// # Errors
    ///
    /// When it is no TOML, or not of this form.
    pub fn from_toml(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }
}

/// What a drawn world is to look like; the rest comes from the seed.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use p2ps::sim::Shape;
///
/// let scenario = Shape::new(7).relays(2).peers(5).liars(1).duration(Duration::from_secs(20)).draw();
/// assert_eq!(scenario.nodes.len(), 9);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    seed: u64,
    relays: u16,
    peers: u16,
    liars: u16,
    duration: Duration,
    rate_kbps: u64,
    push: Duration,
    latency: Duration,
    quiet: bool,
}

impl Shape {
    /// A source, one relay, four peers and one liar for 20 s at 400 kbit/s.
    pub const fn new(seed: u64) -> Self {
        Self {
            seed: seed & (u64::MAX >> 1),
            relays: 1,
            peers: 4,
            liars: 1,
            duration: Duration::from_secs(20),
            rate_kbps: 400,
            push: Duration::from_millis(20),
            latency: Duration::from_secs(1),
            quiet: false,
        }
    }

    /// The world that nodes are held to: 30 of them, two of which lie, for 20 s at 400 kbit/s.
    pub const fn of_thirty(seed: u64) -> Self {
        Self::new(seed)
            .relays(4)
            .peers(23)
            .liars(2)
            .source(400, Duration::from_millis(40))
    }

    /// The source: rate of the stream, and how often the encoder writes.
    #[must_use]
    pub const fn source(mut self, rate_kbps: u64, push: Duration) -> Self {
        self.rate_kbps = rate_kbps;
        self.push = push;
        self
    }

    /// How many relays.
    #[must_use]
    pub const fn relays(mut self, count: u16) -> Self {
        self.relays = count;
        self
    }

    /// How many peers.
    #[must_use]
    pub const fn peers(mut self, count: u16) -> Self {
        self.peers = count;
        self
    }

    /// How many liars.
    #[must_use]
    pub const fn liars(mut self, count: u16) -> Self {
        self.liars = count;
        self
    }

    /// How long.
    #[must_use]
    pub const fn duration(mut self, duration: Duration) -> Self {
        self.duration = duration;
        self
    }

    /// Playout latency of every player.
    #[must_use]
    pub const fn latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// Perfect links, no faults: what must work before anything else is worth trying.
    #[must_use]
    pub const fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// The world of this shape and seed.
    pub fn draw(self) -> Scenario {
        let mut rng = generator(self.seed, Purpose::Scenario, 0, 0);
        let millis = |span: Duration| span.as_millis() as u64;
        let duration_ms = millis(self.duration);
        let latency_ms = millis(self.latency);
        let converge_ms = 5_000;
        let edge_ms = 1_500;
        let mut people = rng.child();
        let mut links = rng.child();
        let mut scenario = Scenario {
            seed: self.seed,
            duration_ms,
            rate_kbps: self.rate_kbps,
            is_transport_stream: people.chance(0.5),
            push_ms: millis(self.push).max(1),
            latency_ms,
            converge_ms,
            edge_ms,
            end_ms: if rng.chance(0.5) {
                duration_ms.saturating_sub(latency_ms + edge_ms + 2_000)
            } else {
                0
            },
            spread_us: if self.quiet { 0 } else { links.below(40_000) },
            link: if self.quiet {
                Profile::default()
            } else {
                draw_link(self.rate_kbps, &mut links)
            },
            nodes: Vec::new(),
            faults: Vec::new(),
        };
        self.draw_nodes(&mut scenario, &mut people);
        if !self.quiet {
            let mut rng = generator(self.seed, Purpose::Faults, 0, 0);
            // The rest is for getting well again, and for the end.
            let quiet_ms = duration_ms.saturating_sub(converge_ms + latency_ms + edge_ms + 3_000);
            scenario.faults = fault::draw(&scenario, quiet_ms, &mut rng);
        }
        scenario
    }

    fn draw_nodes(self, scenario: &mut Scenario, rng: &mut Rng) {
        let flash_crowd = rng.chance(0.3);
        let late = millis_share(self.duration, 3);
        let total = 1 + self.relays + self.peers + self.liars;
        let first_liar = 1 + self.relays + self.peers;
        for number in 0..total {
            let role = match number {
                0 => Role::Source,
                _ if number <= self.relays => Role::Relay,
                _ if number < first_liar => Role::Peer,
                _ => Role::Liar,
            };
            let mut own = rng.child();
            let start_ms = match role {
                Role::Source | Role::Relay => own.below(500),
                Role::Liar => own.below(3_000),
                Role::Peer if flash_crowd => 1_000,
                Role::Peer => own.below(late.max(1)),
            };
            scenario.nodes.push(NodeSpec {
                role,
                liar: (role == Role::Liar)
                    .then(|| LiarKind::ALL[own.below(LiarKind::ALL.len() as u64) as usize]),
                start_ms,
                parents: self.draw_parents(number, first_liar, &mut own),
                drift_ppm: own.below(401) as i32 - 200,
                wall_ms: match own.below(4) {
                    0 => own.below(172_800_000) as i64 - 86_400_000,
                    _ => own.below(200) as i64 - 100,
                },
                absent: false,
            });
        }
    }

    /// Relays know the source and sometimes each other; peers know relays, other peers, sometimes a liar, and at the
    /// end of the list always somebody who stays.
    fn draw_parents(self, number: u16, first_liar: u16, rng: &mut Rng) -> Vec<u16> {
        let pick =
            |rng: &mut Rng, low: u16, high: u16| low + rng.below(u64::from(high - low)) as u16;
        let mut parents = Vec::new();
        if number == 0 {
            return parents;
        }
        if number <= self.relays {
            if self.relays > 1 && rng.chance(0.3) {
                parents.push(pick(rng, 1, self.relays + 1));
            }
            parents.push(0);
        } else {
            if self.liars > 0 && number < first_liar && rng.chance(0.3) {
                parents.push(pick(rng, first_liar, first_liar + self.liars));
            }
            for _ in 0..rng.below(3) {
                parents.push(pick(rng, 1, first_liar));
            }
            parents.push(pick(rng, u16::from(self.relays > 0), self.relays + 1));
            if rng.chance(0.5) {
                parents.push(0);
            }
        }
        let mut known = std::collections::BTreeSet::from([number]);
        parents.retain(|parent| known.insert(*parent));
        parents
    }
}

fn millis_share(span: Duration, parts: u32) -> u64 {
    (span / parts).as_millis() as u64
}

/// A link of some character: each kind of trouble is there or not.
fn draw_link(rate_kbps: u64, rng: &mut Rng) -> Profile {
    let mut link = Profile {
        delay_us: 200 + rng.below(60_000),
        ..Profile::default()
    };
    if rng.chance(0.5) {
        link.jitter_us = rng.below(30_000);
    }
    if rng.chance(0.5) {
        link.loss_ppm = rng.below(50_000) as u32;
    }
    if rng.chance(0.3) {
        link.burst_enter_ppm = rng.below(3_000) as u32;
        link.burst_us = 5_000 + rng.below(295_000);
        link.burst_loss_ppm = 500_000 + rng.below(500_000) as u32;
    }
    if rng.chance(0.4) {
        link.reorder_ppm = rng.below(100_000) as u32;
        link.reorder_us = rng.below(30_000);
    }
    if rng.chance(0.4) {
        link.duplicate_ppm = rng.below(100_000) as u32;
    }
    if rng.chance(0.3) {
        link.corrupt_ppm = rng.below(2_000) as u32;
    }
    if rng.chance(0.3) {
        link.rate_bps = rate_kbps * 1000 * (4 + rng.below(20));
        link.queue_bytes = 20_000 + rng.below(200_000);
    }
    link
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_survives_toml() {
        for seed in 0..50 {
            let scenario = Shape::new(seed).relays(3).peers(8).liars(2).draw();
            let text = scenario.to_toml();
            assert_eq!(Scenario::from_toml(&text).unwrap(), scenario, "{text}");
        }
    }

    #[test]
    fn everyone_can_reach_the_source() {
        for seed in 0..200 {
            let scenario = Shape::new(seed).relays(3).peers(20).liars(2).draw();
            for id in scenario.ids().skip(1) {
                let spec = scenario.spec(id);
                assert!(!spec.parents.contains(&id.0));
                let stays = |parent: &u16| {
                    scenario.nodes[usize::from(*parent)].role != Role::Peer
                        && scenario.is_honest(NodeId(*parent))
                };
                assert!(spec.parents.iter().any(stays), "{id}: {:?}", spec.parents);
            }
        }
    }
}
