//! A network in memory: whole swarms in virtual time, with every fault from one seed.
//!
//! Nothing here waits and nothing reads a clock. A [`Scenario`] is plain data: who takes part, what the links are like,
//! what goes wrong and when. [`World`] plays it on any [`Machine`], checks what must always hold after every step
//! ([`check`]), compares every player's bytes with the source's ([`oracle`]), and on a violation says how to see it
//! again ([`report`]).
//!
//! | file | answers |
//! | --- | --- |
//! | [`scenario`] | who takes part, drawn from a seed or read from TOML |
//! | [`link`] | what one direction between two nodes does to datagrams |
//! | [`fault`] | what goes wrong, when; and the smallest plan that still shows a violation |
//! | [`world`] | events in order of time, machines driven, datagrams carried |
//! | [`stream`] | the source's bytes, a function of seed and offset |
//! | [`oracle`] | one player's output against them |
//! | [`check`] | the invariants and their limits |
//! | [`report`] | the last events, the state of each node, the line that replays it |
//! | [`honest`] | nodes of ours as machines |
//! | [`tracked`] | the same with a tracker, which sits beside the network |
//! | [`liar`] | those who mean no good, in raw datagrams |
//! | [`pair`] | two machines, and a caller who owns the wire between them |
//!
//! Randomness is a tree: one number gives a generator for each purpose and identity ([`generator`]), so that one more
//! draw on one link moves nothing elsewhere.

pub mod check;
pub mod fault;
pub mod honest;
pub mod liar;
pub mod link;
pub mod oracle;
pub mod pair;
pub mod report;
pub mod scenario;
pub mod stream;
pub mod tracked;
pub mod world;

pub use check::{Invariant, Limits, Violation};
pub use fault::{Fault, FaultKind, shrink};
pub use liar::Liar;
pub use link::{Link, Profile};
pub use report::{Failure, Outcome, PlayerOutcome};
pub use scenario::{LiarKind, NodeSpec, Role, Scenario, Shape};
pub use world::World;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use bytes::Bytes;

use crate::chunk::ChunkIndex;
pub use crate::node::Port;
use crate::rng::{Rng, Seed};
use crate::time::{Epoch, Instant};

/// The number of a node in its world; the source is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u16);

impl NodeId {
    /// The source.
    pub const SOURCE: Self = Self(0);
    const LISTEN_PORT: u16 = 7850;
    const DIAL_PORT: u16 = 7860;

    /// The address of one of the node's sockets: 10.0.x.y, one host a node.
    pub const fn address(self, port: Port) -> SocketAddrV4 {
        let [high, low] = self.0.to_be_bytes();
        let number = match port {
            Port::Listen => Self::LISTEN_PORT,
            Port::Dial => Self::DIAL_PORT,
        };
        SocketAddrV4::new(Ipv4Addr::new(10, 0, high, low), number)
    }

    /// Whose socket an address is, whether or not that node exists.
    pub const fn at(address: SocketAddrV4) -> Option<(Self, Port)> {
        let [ten, zero, high, low] = address.ip().octets();
        if ten != 10 || zero != 0 {
            return None;
        }
        let port = match address.port() {
            Self::LISTEN_PORT => Port::Listen,
            Self::DIAL_PORT => Port::Dial,
            _ => return None,
        };
        Some((Self(u16::from_be_bytes([high, low])), port))
    }

    /// As an index into tables of nodes.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl std::fmt::Display for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "n{}", self.0)
    }
}

/// Where a machine's datagrams go: socket, destination, contents, and the size of each segment when it is a train.
pub type Send<'a> = dyn FnMut(Port, SocketAddr, &[u8], Option<usize>) + 'a;

/// Where a liar's forged datagrams go: claimed source, destination, contents.
pub type Forge<'a> = dyn FnMut(SocketAddr, SocketAddr, &[u8]) + 'a;

/// Anything the world can drive: a node of ours, a liar, a toy.
///
/// Times are those of the machine's own clock (its start and its drift are the scenario's), and never go backwards.
pub trait Machine {
    /// Datagrams of `stride` bytes each (the last may be shorter) came to `port` from one address; the kernel had them
    /// at `arrived`, which is before `now` when the process was stopped.
    fn handle_datagrams(
        &mut self,
        now: Instant,
        arrived: Instant,
        port: Port,
        from: SocketAddr,
        train: Bytes,
        stride: usize,
    );

    /// The time of [`poll_timeout`](Self::poll_timeout) came.
    fn handle_timeout(&mut self, now: Instant);

    /// More of the stream, for a source.
    fn push_media(&mut self, _now: Instant, _data: &[u8]) {}

    /// The end of the stream, for a source.
    fn end_media(&mut self, _now: Instant) {}

    /// Hands over everything that is to be sent now.
    fn poll_transmit(&mut self, now: Instant, send: &mut Send<'_>);

    /// Hands over datagrams under other people's addresses: liars only.
    fn poll_forged(&mut self, _now: Instant, _forge: &mut Forge<'_>) {}

    /// When [`handle_timeout`](Self::handle_timeout) is wanted.
    fn poll_timeout(&self, now: Instant) -> Option<Instant>;

    /// Hands over what the player was given since the last call.
    fn drain_output(&mut self, _out: &mut Vec<Output>) {}

    /// What the invariants want to know; called after some steps, so it should cost little.
    fn facts(&self, _now: Instant, _facts: &mut Facts) {}

    /// One line for people, in the report of a violation.
    fn describe(&self, _now: Instant) -> String {
        String::new()
    }

    /// What the process had on disk: handed back in [`Boot::saved`] when it is started again after a crash.
    fn saved(&self, _now: Instant) -> Saved {
        Saved::default()
    }
}

/// The state file of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// The first chunk number that was never used.
    pub next_chunk: u64,
    /// The Unix time, in microseconds, that was signed last.
    pub signed_us: u64,
}

/// What a player was given.
#[derive(Clone, Debug)]
pub enum Output {
    /// The payload of one chunk.
    Media {
        /// The chunk.
        chunk: ChunkIndex,
        /// Its bytes.
        payload: Bytes,
    },
    /// The stream ended: nothing follows.
    End,
}

/// What a machine says about itself; cleared and filled anew each time.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Listening addresses of those who push to it now.
    pub parents: Vec<SocketAddr>,
    /// Addresses of those it pushes to now.
    pub children: Vec<SocketAddr>,
    /// Levels from the source, the source being 1; 0 when it has no place in the tree.
    pub depth: u32,
    /// Everything with a named limit.
    pub gauges: Vec<Gauge>,
    /// Addresses it refuses to deal with.
    pub banned: Vec<SocketAddr>,
    /// Datagrams handed to it, by its own count.
    pub datagrams_in: Option<u64>,
    /// Datagrams it handed over, by its own count.
    pub datagrams_out: Option<u64>,
}

impl Facts {
    /// Empties every list, keeping its memory.
    pub fn clear(&mut self) {
        self.parents.clear();
        self.children.clear();
        self.depth = 0;
        self.gauges.clear();
        self.banned.clear();
        self.datagrams_in = None;
        self.datagrams_out = None;
    }

    /// Adds one gauge.
    pub fn gauge(&mut self, name: &'static str, value: usize, limit: usize) {
        self.gauges.push(Gauge { name, value, limit });
    }
}

/// Something that grows, and how far it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gauge {
    /// What is counted.
    pub name: &'static str,
    /// How much of it there is.
    pub value: usize,
    /// How much there may be.
    pub limit: usize,
}

/// What a process finds when it is started.
#[derive(Debug)]
pub struct Boot<'a> {
    /// Who it is.
    pub id: NodeId,
    /// What the scenario says about it.
    pub spec: &'a NodeSpec,
    /// The whole scenario.
    pub scenario: &'a Scenario,
    /// Its clock now.
    pub now: Instant,
    /// Its wall clock.
    pub epoch: Epoch,
    /// Its randomness, another one after each restart.
    pub seed: Seed,
    /// How often it was started before.
    pub incarnation: u32,
    /// Its listening addresses of parents, in order of preference.
    pub parents: Vec<SocketAddr>,
    /// What [`Machine::saved`] said when it crashed; zeros at first.
    pub saved: Saved,
}

/// Makes the machine of a node when its process starts.
pub trait Cast {
    /// The machine for one start of one node.
    fn boot(&mut self, boot: &Boot<'_>) -> Box<dyn Machine>;
}

impl<F: FnMut(&Boot<'_>) -> Box<dyn Machine>> Cast for F {
    fn boot(&mut self, boot: &Boot<'_>) -> Box<dyn Machine> {
        self(boot)
    }
}

/// What a generator is for; with one or two identities it names a branch of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Who takes part and how.
    Scenario,
    /// What goes wrong.
    Faults,
    /// Noise of the link between two nodes.
    Link,
    /// Randomness of one start of one node.
    Node,
    /// Properties of the link between two nodes.
    Path,
    /// The key of the stream.
    Key,
}

/// The generator for one purpose and identity in the world of one seed.
pub fn generator(seed: u64, purpose: Purpose, a: u64, b: u64) -> Rng {
    Rng::new(seed_of(seed, purpose, a, b))
}

/// The seed for one purpose and identity in the world of one seed.
pub fn seed_of(seed: u64, purpose: Purpose, a: u64, b: u64) -> Seed {
    let mut word = mix(seed);
    for part in [purpose as u64 + 1, a, b] {
        word = mix(word ^ part.wrapping_mul(0xff51_afd7_ed55_8ccd));
    }
    Seed::from_number(word)
}

/// One step of splitmix64: each bit of the input moves each bit of the output.
pub(crate) const fn mix(value: u64) -> u64 {
    let mut word = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_name_their_node() {
        for id in [NodeId(0), NodeId(29), NodeId(300)] {
            for port in [Port::Listen, Port::Dial] {
                assert_eq!(NodeId::at(id.address(port)), Some((id, port)));
            }
        }
        assert_eq!(
            NodeId::at(SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 7850)),
            None
        );
    }

    #[test]
    fn each_purpose_has_its_own_numbers() {
        let mut seen = std::collections::BTreeSet::new();
        for purpose in [Purpose::Scenario, Purpose::Faults, Purpose::Link] {
            for a in 0..4 {
                for b in 0..4 {
                    assert!(seen.insert(generator(9, purpose, a, b).next_u64()));
                }
            }
        }
        assert_eq!(
            generator(9, Purpose::Link, 3, 7).next_u64(),
            generator(9, Purpose::Link, 3, 7).next_u64()
        );
    }
}
