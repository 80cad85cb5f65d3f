//! What must always hold, and what must become true again; with the limits that say how much is too much.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;

use super::{Facts, NodeId, Port};
use crate::time::Instant;

/// What must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// I1: only bytes of the source reach a player.
    Genuine,
    /// I2: in order, each once.
    InOrder,
    /// I3: no timer in the past twice.
    Timers,
    /// I4: every named limit is kept.
    Limits,
    /// I5: an address that has proven nothing gets no more than it sent.
    Amplification,
    /// I6: nobody is its own ancestor, no path is too long.
    Tree,
    /// I7: one parent a substream, two only while changing.
    OneParent,
    /// I8: nobody honest is banned.
    NoHonestBan,
    /// I9: sent is received, lost or on its way.
    Conservation,
    /// I10: the work one input causes is bounded.
    Work,
    /// I11: once faults are over, every player is at the live edge.
    LiveEdge,
    /// The stream's end reaches every player.
    End,
    /// No machine panics.
    NoPanic,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Genuine => "I1 genuine",
            Self::InOrder => "I2 in order",
            Self::Timers => "I3 timers",
            Self::Limits => "I4 limits",
            Self::Amplification => "I5 amplification",
            Self::Tree => "I6 tree",
            Self::OneParent => "I7 one parent",
            Self::NoHonestBan => "I8 no honest ban",
            Self::Conservation => "I9 conservation",
            Self::Work => "I10 work",
            Self::LiveEdge => "I11 live edge",
            Self::End => "end of stream",
            Self::NoPanic => "no panic",
        })
    }
}

/// How much is too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Levels of the tree, the source being 1.
    pub depth_max: u32,
    /// Nodes learn of each other's paths by message, so a loop may exist until the next one; not longer than this.
    pub cycle_max: Duration,
    /// Two parents at once no longer than this.
    pub change_max: Duration,
    /// Datagrams after any one input.
    pub work_base: u64,
    /// And so many more for each datagram of the input.
    pub work_per_datagram: u64,
    /// Datagrams to an address that never answered, at first.
    pub dial_burst: u64,
    /// And so many more a second.
    pub dial_per_second: u64,
    /// Facts are asked for after every so many inputs of a node (and all of them ten times a second).
    pub facts_every: u32,
    /// Events in a world; more is a storm.
    pub events_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            depth_max: 32,
            cycle_max: Duration::from_secs(2),
            change_max: Duration::from_secs(2),
            work_base: 4096,
            work_per_datagram: 128,
            dial_burst: 10,
            dial_per_second: 4,
            facts_every: 16,
            events_max: 50_000_000,
        }
    }
}

/// Something that must never be, and was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What did not hold.
    pub invariant: Invariant,
    /// At which node.
    pub node: NodeId,
    /// In numbers.
    pub detail: String,
}

impl Violation {
    /// A violation at a node.
    pub fn new(invariant: Invariant, node: NodeId, detail: impl Into<String>) -> Self {
        Self {
            invariant,
            node,
            detail: detail.into(),
        }
    }
}

/// One socket's dealings with one remote address.
#[derive(Clone, Copy, Debug, Default)]
struct Dealings {
    bytes_in: u64,
    bytes_out: u64,
    datagrams_in: u64,
    datagrams_out: u64,
    first_out: Option<Instant>,
    /// The process behind the remote address has received something from this process.
    heard: bool,
    /// And has sent something since that arrived here: it may count as proven.
    proven: bool,
}

/// Who sent how much to whom before an address was proven (I5).
///
/// An address *can* only be proven once its owner received something from this process and answered: before that, a
/// machine that sends more than it got has believed a guess.
#[derive(Debug)]
pub struct Ledger {
    sockets: usize,
    known: Vec<Dealings>,
    strangers: BTreeMap<(usize, SocketAddrV4), Dealings>,
}

const fn socket(id: NodeId, port: Port) -> usize {
    id.index() * 2
        + match port {
            Port::Listen => 0,
            Port::Dial => 1,
        }
}

impl Ledger {
    /// For `nodes` nodes.
    pub fn new(nodes: usize) -> Self {
        let sockets = nodes * 2;
        Self {
            sockets,
            known: vec![Dealings::default(); sockets * sockets],
            strangers: BTreeMap::new(),
        }
    }

    fn dealings(&mut self, own: usize, remote: SocketAddrV4) -> &mut Dealings {
        match NodeId::at(remote) {
            Some((id, port)) if socket(id, port) < self.sockets => {
                &mut self.known[own * self.sockets + socket(id, port)]
            }
            _ => self.strangers.entry((own, remote)).or_default(),
        }
    }

    /// Whether `own` has received something from the present process behind `remote`.
    pub fn has_heard(&mut self, own: (NodeId, Port), remote: (NodeId, Port)) -> bool {
        let (own, remote) = (socket(own.0, own.1), socket(remote.0, remote.1));
        remote < self.sockets && self.known[remote * self.sockets + own].heard
    }

    /// A node's process started anew: nothing is proven to it.
    pub fn forget(&mut self, id: NodeId) {
        for port in [Port::Listen, Port::Dial] {
            let own = socket(id, port);
            self.known[own * self.sockets..][..self.sockets].fill(Dealings::default());
            self.strangers.retain(|(socket, _), _| *socket != own);
        }
    }

    /// `own` was handed datagrams that claim to be from `remote`: `speaks` when the process there now did send them,
    /// `answers` when it did so after it had received something from the present process of `own`.
    pub fn received(
        &mut self,
        own: (NodeId, Port),
        remote: SocketAddrV4,
        datagrams: u64,
        bytes: u64,
        speaks: bool,
        answers: bool,
    ) {
        let index = socket(own.0, own.1);
        let dealings = self.dealings(index, remote);
        dealings.bytes_in += bytes;
        dealings.datagrams_in += datagrams;
        dealings.proven |= answers;
        if speaks && let Some((id, port)) = NodeId::at(remote) {
            self.known[socket(id, port) * self.sockets + index].heard = true;
        }
    }

    /// `own` sends; what is wrong with that.
    ///
    /// # Errors
    ///
    /// The violation when it sends more than it may to an address that has proven nothing.
    pub fn sent(
        &mut self,
        now: Instant,
        limits: &Limits,
        own: (NodeId, Port),
        remote: SocketAddrV4,
        datagrams: u64,
        bytes: u64,
    ) -> Result<(), Violation> {
        let dealings = self.dealings(socket(own.0, own.1), remote);
        dealings.bytes_out += bytes;
        dealings.datagrams_out += datagrams;
        let first = *dealings.first_out.get_or_insert(now);
        if dealings.proven {
            return Ok(());
        }
        let too_much = match own.1 {
            // It was spoken to: no more out than in.
            Port::Listen => {
                dealings.bytes_out > dealings.bytes_in
                    || dealings.datagrams_out > dealings.datagrams_in
            }
            // It speaks first, to an address somebody told it.
            Port::Dial => {
                let seconds = now.since(first).as_secs();
                dealings.datagrams_in == 0
                    && dealings.datagrams_out > limits.dial_burst + limits.dial_per_second * seconds
            }
        };
        if too_much {
            return Err(Violation::new(
                Invariant::Amplification,
                own.0,
                format!(
                    "{} bytes in {} datagrams to unproven {remote} by {:?}, {} bytes in {} datagrams from it",
                    dealings.bytes_out,
                    dealings.datagrams_out,
                    own.1,
                    dealings.bytes_in,
                    dealings.datagrams_in
                ),
            ));
        }
        Ok(())
    }
}

/// What one node's facts say by themselves: limits (I4), depth (I6), bans (I8).
///
/// # Errors
///
/// The first violation found.
pub fn node_facts(
    id: NodeId,
    facts: &Facts,
    limits: &Limits,
    is_honest: impl Fn(NodeId) -> bool,
) -> Result<(), Violation> {
    for gauge in &facts.gauges {
        if gauge.value > gauge.limit {
            return Err(Violation::new(
                Invariant::Limits,
                id,
                format!("{}: {} of {}", gauge.name, gauge.value, gauge.limit),
            ));
        }
    }
    if facts.depth > limits.depth_max {
        return Err(Violation::new(
            Invariant::Tree,
            id,
            format!("depth {} of {}", facts.depth, limits.depth_max),
        ));
    }
    for address in &facts.banned {
        if let Some(victim) = owner(*address).filter(|victim| is_honest(*victim)) {
            return Err(Violation::new(
                Invariant::NoHonestBan,
                id,
                format!("{victim} at {address} is banned"),
            ));
        }
    }
    Ok(())
}

/// Whose address it is.
pub const fn owner(address: SocketAddr) -> Option<NodeId> {
    match address {
        SocketAddr::V4(address) => match NodeId::at(address) {
            Some((id, _)) => Some(id),
            None => None,
        },
        SocketAddr::V6(_) => None,
    }
}

/// Since when a node has had something that may only be for a short time.
#[derive(Clone, Copy, Debug, Default)]
struct Since {
    cycle: Option<Instant>,
    two_parents: Option<Instant>,
}

/// The tree over all nodes: loops (I6) and second parents (I7) that last.
#[derive(Debug)]
pub struct Tree {
    since: Vec<Since>,
}

impl Tree {
    /// For `nodes` nodes.
    pub fn new(nodes: usize) -> Self {
        Self {
            since: vec![Since::default(); nodes],
        }
    }

    /// Looks at who has whom as a parent now; an empty list for a node that is down.
    ///
    /// # Errors
    ///
    /// The first node that has been its own ancestor, or has had two parents, for too long.
    pub fn check(
        &mut self,
        now: Instant,
        limits: &Limits,
        parents: &[Vec<NodeId>],
    ) -> Result<(), Violation> {
        let looped = on_cycles(parents);
        for (index, since) in self.since.iter_mut().enumerate() {
            let id = NodeId(index as u16);
            if lasts(&mut since.cycle, looped[index], now, limits.cycle_max) {
                return Err(Violation::new(
                    Invariant::Tree,
                    id,
                    format!("its own ancestor for more than {:?}", limits.cycle_max),
                ));
            }
            let two = parents[index].len() > 1;
            if lasts(&mut since.two_parents, two, now, limits.change_max) {
                return Err(Violation::new(
                    Invariant::OneParent,
                    id,
                    format!(
                        "{} parents for more than {:?}",
                        parents[index].len(),
                        limits.change_max
                    ),
                ));
            }
        }
        Ok(())
    }
}

fn lasts(since: &mut Option<Instant>, holds: bool, now: Instant, max: Duration) -> bool {
    if !holds {
        *since = None;
        return false;
    }
    now.since(*since.get_or_insert(now)) > max
}

/// Which nodes can reach themselves.
fn on_cycles(parents: &[Vec<NodeId>]) -> Vec<bool> {
    let mut looped = vec![false; parents.len()];
    let mut seen = vec![usize::MAX; parents.len()];
    let mut todo = Vec::new();
    for (start, looped) in looped.iter_mut().enumerate() {
        todo.extend_from_slice(&parents[start]);
        while let Some(next) = todo.pop() {
            let Some(mark) = seen.get_mut(next.index()) else {
                continue;
            };
            if next.index() == start {
                *looped = true;
            }
            if *mark != start {
                *mark = start;
                todo.extend_from_slice(&parents[next.index()]);
            }
        }
    }
    looped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(list: &[u16]) -> Vec<NodeId> {
        list.iter().copied().map(NodeId).collect()
    }

    #[test]
    fn loops_are_found_and_tails_are_not() {
        let parents = [
            ids(&[]),
            ids(&[0]),
            ids(&[3]),
            ids(&[4]),
            ids(&[2]),
            ids(&[2]),
            ids(&[6]),
        ];
        assert_eq!(
            on_cycles(&parents),
            [false, false, true, true, true, false, true]
        );
    }

    #[test]
    fn a_loop_may_be_short() {
        let mut tree = Tree::new(2);
        let limits = Limits::default();
        let at = Instant::from_micros;
        let looped = [ids(&[1]), ids(&[0])];
        assert!(tree.check(at(0), &limits, &looped).is_ok());
        assert!(tree.check(at(1_900_000), &limits, &looped).is_ok());
        assert!(
            tree.check(at(1_950_000), &limits, &[ids(&[]), ids(&[0])])
                .is_ok()
        );
        assert!(tree.check(at(2_100_000), &limits, &looped).is_ok());
        let late = tree.check(at(4_200_000), &limits, &looped);
        assert_eq!(late.unwrap_err().invariant, Invariant::Tree);
    }

    #[test]
    fn an_address_is_proven_by_an_answer_of_its_owner_only() {
        let mut ledger = Ledger::new(2);
        let limits = Limits::default();
        let server = (NodeId(0), Port::Listen);
        let client = (NodeId(1), Port::Dial);
        let address = client.0.address(client.1);
        let send = |ledger: &mut Ledger, bytes| {
            ledger.sent(Instant::ZERO, &limits, server, address, 1, bytes)
        };
        ledger.received(server, address, 1, 100, true, false);
        assert!(send(&mut ledger, 60).is_ok());
        // A second answer to one datagram, though smaller than it.
        assert!(send(&mut ledger, 10).is_err());
        assert!(!ledger.has_heard(client, server));
        ledger.received(client, server.0.address(server.1), 1, 60, true, false);
        assert!(ledger.has_heard(client, server));
        ledger.received(server, address, 1, 10, true, true);
        assert!(send(&mut ledger, 100_000).is_ok());
        ledger.forget(server.0);
        assert!(send(&mut ledger, 1).is_err());
    }

    #[test]
    fn a_limit_is_a_limit() {
        let mut facts = Facts::default();
        facts.gauge("channels", 4, 4);
        let check = |facts: &Facts| node_facts(NodeId(1), facts, &Limits::default(), |_| true);
        assert!(check(&facts).is_ok());
        facts.gauge("half-open", 5, 4);
        assert_eq!(check(&facts).unwrap_err().detail, "half-open: 5 of 4");
        facts.clear();
        facts.banned.push(NodeId(3).address(Port::Dial).into());
        assert_eq!(check(&facts).unwrap_err().invariant, Invariant::NoHonestBan);
    }
}
