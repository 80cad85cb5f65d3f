//! The wire between nodes and the queue of what is to come.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{SocketAddr, SocketAddrV4};

use bytes::{Bytes, BytesMut};

use super::super::check::{Invariant, Ledger, Limits, Violation};
use super::super::link::{Arrival, Link, Loss, Strain};
use super::super::report::{Log, Record, What};
use super::super::scenario::Scenario;
use super::super::{NodeId, Port, Purpose, generator};
use crate::time::Instant;

/// Datagrams on their way to one socket.
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) port: Port,
    pub(super) from: SocketAddrV4,
    pub(super) train: Bytes,
    pub(super) stride: usize,
    /// When a stopped process's socket took them.
    pub(super) arrived: Option<Instant>,
    /// Who really sent them, in which of its lives.
    pub(super) sender: NodeId,
    pub(super) sender_incarnation: u32,
    /// Under its own address.
    pub(super) own_address: bool,
    /// From which life of the receiver the sender had heard.
    pub(super) answers: Option<u32>,
}

impl Packet {
    pub(super) fn datagrams(&self) -> u64 {
        self.train.len().div_ceil(self.stride).max(1) as u64
    }
}

/// What is to come.
#[derive(Debug)]
pub(super) enum Event {
    Deliver(NodeId, Packet),
    Timer(NodeId),
    /// A process starts, unless it did since: the number of its life.
    Start(NodeId, u32),
    Fault(u16),
    Over(u16),
    Push,
    End,
    Sweep,
}

/// Events by time; those of one moment in the order in which they were planned.
#[derive(Debug, Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Reverse<(Instant, u64, u32)>>,
    slots: Vec<Option<Event>>,
    free: Vec<u32>,
    planned: u64,
}

impl Queue {
    pub(super) fn push(&mut self, at: Instant, event: Event) {
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some(event);
                slot
            }
            None => {
                self.slots.push(Some(event));
                (self.slots.len() - 1) as u32
            }
        };
        self.heap.push(Reverse((at, self.planned, slot)));
        self.planned += 1;
    }

    pub(super) fn pop(&mut self) -> Option<(Instant, Event)> {
        let Reverse((at, _, slot)) = self.heap.pop()?;
        self.free.push(slot);
        let event = self.slots[slot as usize].take();
        Some((
            at,
            event.expect("a planned event keeps its slot until it is popped"),
        ))
    }

    /// Plans anew when datagrams from one node to another arrive.
    fn move_deliveries(&mut self, from: NodeId, to: NodeId, moved: impl Fn(Instant) -> Instant) {
        let slots = &self.slots;
        let under_way = |slot: u32| match &slots[slot as usize] {
            Some(Event::Deliver(id, packet)) => *id == to && packet.sender == from,
            _ => false,
        };
        let planned = std::mem::take(&mut self.heap).into_vec();
        self.heap = planned
            .into_iter()
            .map(|Reverse((at, order, slot))| {
                Reverse((if under_way(slot) { moved(at) } else { at }, order, slot))
            })
            .collect();
    }

    fn datagrams_in_flight(&self) -> u64 {
        self.slots
            .iter()
            .flatten()
            .map(|event| match event {
                Event::Deliver(_, packet) => packet.datagrams(),
                _ => 0,
            })
            .sum()
    }
}

/// Longest segmented send of the kernel.
const SEGMENTS_MAX: usize = 64;
/// Largest UDP payload over IPv4.
const TRAIN_BYTES_MAX: usize = 65_507;

/// Links, queue, log and ledger: all that a node's output touches.
#[derive(Debug)]
pub(super) struct Net {
    pub(super) queue: Queue,
    pub(super) log: Log,
    pub(super) ledger: Ledger,
    /// Which life each node is in.
    pub(super) lives: Vec<u32>,
    /// The node whose machine is running.
    pub(super) acting: NodeId,
    /// Datagrams sent since the last input.
    pub(super) emitted: u64,
    /// The first thing wrong with what was sent.
    pub(super) violation: Option<Violation>,
    /// Datagrams handed to a process.
    pub(super) delivered: u64,
    /// Datagrams that came to nobody.
    pub(super) refused: u64,
    /// Datagrams in sockets of stopped processes.
    pub(super) waiting: u64,
    /// Datagrams that each process was handed and that it sent, in this life.
    pub(super) counts: Vec<(u64, u64)>,
    links: Vec<Option<Box<Link>>>,
    honest: Vec<bool>,
    seed: u64,
    scenario: Scenario,
    nowhere: u64,
    arrivals: Vec<Arrival>,
    losses: Vec<Loss>,
}

impl Net {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let count = scenario.nodes.len();
        Self {
            queue: Queue::default(),
            log: Log::default(),
            ledger: Ledger::new(count),
            lives: vec![0; count],
            acting: NodeId::SOURCE,
            emitted: 0,
            violation: None,
            delivered: 0,
            refused: 0,
            waiting: 0,
            counts: vec![(0, 0); count],
            links: (0..count * count).map(|_| None).collect(),
            honest: scenario.ids().map(|id| scenario.is_honest(id)).collect(),
            seed: scenario.seed,
            scenario: Scenario {
                nodes: Vec::new(),
                faults: Vec::new(),
                ..scenario.clone()
            },
            nowhere: 0,
            arrivals: Vec::new(),
            losses: Vec::new(),
        }
    }

    pub(super) fn is_honest(&self, id: NodeId) -> bool {
        self.honest.get(id.index()).copied().unwrap_or(false)
    }

    fn link(&mut self, from: NodeId, to: NodeId) -> &mut Link {
        let index = from.index() * self.lives.len() + to.index();
        let (seed, scenario) = (self.seed, &self.scenario);
        self.links[index].get_or_insert_with(|| {
            let (a, b) = (u64::from(from.0), u64::from(to.0));
            let mut profile = scenario.link;
            // Both directions of a path are equally long.
            let mut path = generator(seed, Purpose::Path, a.min(b), a.max(b));
            profile.delay_us += path.below(scenario.spread_us + 1);
            Box::new(Link::new(profile, generator(seed, Purpose::Link, a, b)))
        })
    }

    /// Changes what faults add to one direction.
    pub(super) fn strain(
        &mut self,
        now: Instant,
        from: NodeId,
        to: NodeId,
        change: impl FnOnce(&mut Strain),
    ) {
        if let Some(relief) = self.link(from, to).change(now, change) {
            self.queue
                .move_deliveries(from, to, |at| relief.arrives(at));
        }
    }

    /// Carries what the acting node sends.
    pub(super) fn send(
        &mut self,
        now: Instant,
        limits: &Limits,
        port: Port,
        to: SocketAddr,
        bytes: &[u8],
        segment: Option<usize>,
    ) {
        let stride = segment.unwrap_or(bytes.len()).max(1);
        let count = bytes.len().div_ceil(stride).max(1);
        let id = self.acting;
        self.emitted += count as u64;
        self.counts[id.index()].1 += count as u64;
        if count > SEGMENTS_MAX || bytes.len() > TRAIN_BYTES_MAX {
            self.object(Violation::new(
                Invariant::Work,
                id,
                format!("a train of {count} datagrams, {} bytes", bytes.len()),
            ));
        }
        let SocketAddr::V4(to) = to else {
            self.nowhere += count as u64;
            return;
        };
        if self.is_honest(id) {
            let checked = self.ledger.sent(
                now,
                limits,
                (id, port),
                to,
                count as u64,
                bytes.len() as u64,
            );
            if let Err(violation) = checked {
                self.object(violation);
            }
        }
        self.carry(now, What::Sent(port), id.address(port), to, bytes, stride);
    }

    /// Carries a datagram that the acting node sends under another address.
    pub(super) fn forge(&mut self, now: Instant, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        self.emitted += 1;
        if let (SocketAddr::V4(from), SocketAddr::V4(to)) = (from, to) {
            self.carry(now, What::Forged, from, to, bytes, bytes.len().max(1));
        }
    }

    fn object(&mut self, violation: Violation) {
        self.violation.get_or_insert(violation);
    }

    fn carry(
        &mut self,
        now: Instant,
        what: What,
        from: SocketAddrV4,
        to: SocketAddrV4,
        bytes: &[u8],
        stride: usize,
    ) {
        let count = bytes.len().div_ceil(stride).max(1);
        let sender = self.acting;
        let target = NodeId::at(to).filter(|(id, _)| id.index() < self.lives.len());
        let record = Record {
            other: target.map_or(sender, |(id, _)| id),
            count: count as u32,
            ..Record::plain(now, what, sender)
        };
        self.log.add(record, bytes);
        let Some((id, port)) = target else {
            self.nowhere += count as u64;
            return;
        };
        let own_address = matches!(what, What::Sent(_));
        let answers = match what {
            What::Sent(own) if self.ledger.has_heard((sender, own), (id, port)) => {
                Some(self.lives[id.index()])
            }
            _ => None,
        };
        let mut arrivals = std::mem::take(&mut self.arrivals);
        let mut losses = std::mem::take(&mut self.losses);
        self.link(sender, id)
            .offer(now, bytes.len(), stride, &mut arrivals, |_, loss| {
                losses.push(loss);
            });
        for loss in losses.drain(..) {
            self.log.add(
                Record {
                    what: What::Lost(loss),
                    count: 1,
                    ..record
                },
                &[],
            );
        }
        let whole = if arrivals.is_empty() {
            Bytes::new()
        } else {
            Bytes::copy_from_slice(bytes)
        };
        for arrival in arrivals.drain(..) {
            let start = (arrival.first as usize * stride).min(whole.len());
            let end = (start + arrival.count as usize * stride).min(whole.len());
            let mut train = whole.slice(start..end);
            if let Some(bit) = arrival.flip {
                let mut flipped = BytesMut::from(&train[..]);
                flipped[bit as usize / 8] ^= 1 << (bit % 8);
                train = flipped.freeze();
            }
            let packet = Packet {
                port,
                from,
                // A lone datagram is its own stride.
                stride: if arrival.count == 1 {
                    train.len().max(1)
                } else {
                    stride
                },
                train,
                arrived: None,
                sender,
                sender_incarnation: self.lives[sender.index()],
                own_address,
                answers,
            };
            self.queue.push(arrival.at, Event::Deliver(id, packet));
        }
        self.arrivals = arrivals;
        self.losses = losses;
    }

    /// The ledger's part of handing datagrams over.
    pub(super) fn hand_over(&mut self, id: NodeId, packet: &Packet) {
        let datagrams = packet.datagrams();
        self.delivered += datagrams;
        self.counts[id.index()].0 += datagrams;
        let speaks =
            packet.own_address && self.lives[packet.sender.index()] == packet.sender_incarnation;
        let answers = packet.own_address && packet.answers == Some(self.lives[id.index()]);
        self.ledger.received(
            (id, packet.port),
            packet.from,
            datagrams,
            packet.train.len() as u64,
            speaks,
            answers,
        );
    }

    /// Datagrams sent and lost on all links.
    pub(super) fn sent_and_lost(&self) -> (u64, u64) {
        self.links
            .iter()
            .flatten()
            .fold((0, 0), |(sent, lost), link| {
                let counters = link.counters();
                (sent + counters.offered, lost + counters.lost)
            })
    }

    /// Sent is received, lost or on its way (I9), counted from both sides.
    pub(super) fn check_conservation(&self) -> Result<(), Violation> {
        let mut arriving = 0;
        for link in self.links.iter().flatten() {
            let counters = link.counters();
            arriving += counters.arriving;
            if counters.offered + counters.duplicated != counters.arriving + counters.lost {
                return Err(Violation::new(
                    Invariant::Conservation,
                    self.acting,
                    format!("{counters:?}"),
                ));
            }
        }
        let in_flight = self.queue.datagrams_in_flight();
        if arriving != self.delivered + self.refused + self.waiting + in_flight {
            return Err(Violation::new(
                Invariant::Conservation,
                self.acting,
                format!(
                    "{arriving} arriving, {} delivered, {} refused, {} waiting, {in_flight} in flight",
                    self.delivered, self.refused, self.waiting
                ),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_one_moment_keep_their_order() {
        let mut queue = Queue::default();
        let at = Instant::from_micros;
        for (time, node) in [(5, 0), (3, 1), (5, 2), (3, 3)] {
            queue.push(at(time), Event::Timer(NodeId(node)));
        }
        let mut order = Vec::new();
        while let Some((time, Event::Timer(id))) = queue.pop() {
            order.push((time.as_micros(), id.0));
        }
        assert_eq!(order, [(3, 1), (3, 3), (5, 0), (5, 2)]);
        queue.push(at(9), Event::Sweep);
        assert_eq!(queue.slots.len(), 4);
    }

    #[test]
    fn only_datagrams_of_the_link_are_moved() {
        let mut queue = Queue::default();
        let at = Instant::from_micros;
        let packet = |sender| Packet {
            port: Port::Listen,
            from: NodeId(sender).address(Port::Dial),
            train: Bytes::new(),
            stride: 1,
            arrived: None,
            sender: NodeId(sender),
            sender_incarnation: 0,
            own_address: true,
            answers: None,
        };
        for (time, to, sender) in [(10, 1, 0), (20, 1, 0), (30, 1, 2), (40, 0, 1)] {
            queue.push(at(time), Event::Deliver(NodeId(to), packet(sender)));
        }
        queue.push(at(50), Event::Sweep);
        queue.move_deliveries(NodeId(0), NodeId(1), |_| at(35));
        let mut order = Vec::new();
        while let Some((time, event)) = queue.pop() {
            order.push((time.as_micros(), matches!(event, Event::Sweep)));
        }
        let expected = [30, 35, 35, 40, 50].map(|time| (time, time == 50));
        assert_eq!(order, expected);
    }
}
