//! The loop of a world: one event after the other.

use std::time::Duration;

use super::super::check::{self, Invariant, Violation};
use super::super::oracle::{Mismatch, Player};
use super::super::report::{Record, What};
use super::super::scenario::Role;
use super::super::stream::UNIT;
use super::super::{Boot, NodeId, Output, Port, Purpose, seed_of};
use super::{Event, Packet, SOCKET_BYTES, World};
use crate::time::Instant;

/// Facts of all nodes are looked at so often.
const SWEEP: Duration = Duration::from_millis(100);
/// What the source was given so shortly before it died may not have left it.
const IN_DOUBT: Duration = Duration::from_millis(200);
/// Timers that a machine may want at the moment it has just been given.
const TIMEOUTS_IN_A_ROW: u32 = 2;

pub(super) type Checked = Result<(), Violation>;

const fn millis(ms: u64) -> Instant {
    Instant::from_micros(ms * 1_000)
}

impl World<'_> {
    pub(super) fn play(&mut self) -> Checked {
        self.plan();
        let end = millis(self.scenario.duration_ms);
        while let Some((at, event)) = self.net.queue.pop() {
            if at > end {
                // Popped, so no longer in the queue: it is still on its way.
                if let Event::Deliver(_, packet) = &event {
                    self.net.waiting += packet.datagrams();
                }
                break;
            }
            assert!(at >= self.now, "the queue is ordered by time");
            self.now = at;
            self.handle(event)?;
            if let Some(violation) = self.net.violation.take() {
                return Err(violation);
            }
            if self.net.log.events() > self.limits.events_max {
                return Err(Violation::new(
                    Invariant::Work,
                    self.net.acting,
                    format!("more than {} events", self.limits.events_max),
                ));
            }
        }
        self.net.check_conservation()?;
        self.check_ends()
    }

    fn plan(&mut self) {
        for id in self.scenario.ids() {
            let spec = self.scenario.spec(id);
            if !spec.absent {
                self.net
                    .queue
                    .push(millis(spec.start_ms), Event::Start(id, 0));
            }
        }
        for (index, fault) in self.scenario.faults.iter().enumerate() {
            let lasts = fault.kind.lasts_ms();
            self.net
                .queue
                .push(millis(fault.at_ms), Event::Fault(index as u16));
            self.net
                .queue
                .push(millis(fault.at_ms + lasts), Event::Over(index as u16));
        }
        let first = self.scenario.nodes[0].start_ms + self.scenario.push_ms;
        self.net.queue.push(millis(first), Event::Push);
        if self.scenario.end_ms > 0 {
            self.net
                .queue
                .push(millis(self.scenario.end_ms), Event::End);
        }
        self.net.queue.push(Instant::ZERO + SWEEP, Event::Sweep);
    }

    fn handle(&mut self, event: Event) -> Checked {
        match event {
            Event::Deliver(id, packet) => self.deliver(id, packet),
            Event::Timer(id) => self.timer(id),
            Event::Start(id, life) => self.start(id, life),
            Event::Fault(index) => self.begin(index),
            Event::Over(index) => self.over(index),
            Event::Push => self.push(),
            Event::End => self.end(),
            Event::Sweep => self.sweep(),
        }
    }

    pub(super) fn log(&mut self, what: What, id: NodeId) {
        self.net.log.add(Record::plain(self.now, what, id), &[]);
    }

    // Processes.

    fn start(&mut self, id: NodeId, life: u32) -> Checked {
        let node = &mut self.nodes[id.index()];
        if node.machine.is_some() || node.gone || node.incarnation != life {
            return Ok(());
        }
        self.net.acting = id;
        let boot = Boot {
            id,
            spec: self.scenario.spec(id),
            scenario: &self.scenario,
            now: node.clock.local(self.now),
            epoch: node.clock.epoch(self.now),
            seed: seed_of(
                self.scenario.seed,
                Purpose::Node,
                u64::from(id.0),
                u64::from(life),
            ),
            incarnation: life,
            parents: self
                .scenario
                .spec(id)
                .parents
                .iter()
                .map(|parent| NodeId(*parent).address(Port::Listen).into())
                .collect(),
            saved: node.saved,
        };
        node.machine = Some(self.cast.boot(&boot));
        node.player = Player::new(self.stream);
        node.joined = None;
        node.started = self.now;
        node.paused = false;
        node.armed = None;
        self.log(What::Start, id);
        self.pump(id, 0)
    }

    pub(super) fn kill(&mut self, id: NodeId, for_good: bool) {
        let node = &mut self.nodes[id.index()];
        node.gone |= for_good;
        let Some(machine) = node.machine.take() else {
            return;
        };
        node.saved = machine.saved(node.clock.local(self.now));
        node.incarnation += 1;
        node.inbox_bytes = 0;
        for packet in node.inbox.drain(..) {
            self.net.waiting -= packet.datagrams();
            self.net.refused += packet.datagrams();
        }
        self.net.lives[id.index()] = node.incarnation;
        self.net.counts[id.index()] = (0, 0);
        self.net.ledger.forget(id);
        if id == NodeId::SOURCE {
            let from = self.fed_until(self.now.saturating_sub(IN_DOUBT));
            self.holes.push((from, self.fed_bytes));
        }
        self.log(What::Stop, id);
    }

    pub(super) fn resume(&mut self, id: NodeId) {
        let node = &mut self.nodes[id.index()];
        node.paused = false;
        node.inbox_bytes = 0;
        for packet in node.inbox.drain(..) {
            self.net.waiting -= packet.datagrams();
            self.net.queue.push(self.now, Event::Deliver(id, packet));
        }
        // Whatever timers were due are seen after what the socket kept.
        self.net.queue.push(self.now, Event::Timer(id));
    }

    // Inputs.

    fn deliver(&mut self, id: NodeId, mut packet: Packet) -> Checked {
        let datagrams = packet.datagrams();
        let record = Record {
            other: packet.sender,
            count: datagrams as u32,
            ..Record::plain(self.now, What::Received(packet.port), id)
        };
        let node = &mut self.nodes[id.index()];
        let fits = !node.paused || node.inbox_bytes + packet.train.len() <= SOCKET_BYTES;
        let Some(machine) = node.machine.as_mut().filter(|_| fits) else {
            self.net.refused += datagrams;
            let refused = Record {
                what: What::Refused,
                ..record
            };
            self.net.log.add(refused, &packet.train);
            return Ok(());
        };
        if node.paused {
            node.inbox_bytes += packet.train.len();
            self.net.waiting += datagrams;
            packet.arrived = Some(self.now);
            node.inbox.push_back(packet);
            return Ok(());
        }
        self.net.log.add(record, &packet.train);
        self.net.hand_over(id, &packet);
        self.net.acting = id;
        machine.handle_datagrams(
            node.clock.local(self.now),
            node.clock.local(packet.arrived.unwrap_or(self.now)),
            packet.port,
            packet.from.into(),
            packet.train,
            packet.stride,
        );
        self.pump(id, datagrams)
    }

    fn timer(&mut self, id: NodeId) -> Checked {
        for round in 0.. {
            let node = &mut self.nodes[id.index()];
            if node.armed.is_some_and(|at| at <= self.now) {
                node.armed = None;
            }
            let now = node.clock.local(self.now);
            let Some(machine) = node.machine.as_mut().filter(|_| !node.paused) else {
                return Ok(());
            };
            if machine.poll_timeout(now).is_none_or(|at| at > now) {
                break;
            }
            if round == TIMEOUTS_IN_A_ROW {
                return Err(Violation::new(
                    Invariant::Timers,
                    id,
                    format!(
                        "{round} timers in a row at {now}, and one more for {}",
                        machine.poll_timeout(now).unwrap_or(now)
                    ),
                ));
            }
            self.net.acting = id;
            machine.handle_timeout(now);
            self.log(What::Timeout, id);
            self.pump(id, 0)?;
        }
        self.arm(id);
        Ok(())
    }

    fn push(&mut self) -> Checked {
        let next = self.now + Duration::from_millis(self.scenario.push_ms);
        if self.ended {
            return Ok(());
        }
        self.net.queue.push(next, Event::Push);
        // A stopped source does not empty the pipe, so the encoder waits.
        if self.stalls > 0 || self.nodes[NodeId::SOURCE.index()].paused {
            return Ok(());
        }
        self.fed_remainder += self.scenario.rate_kbps * self.scenario.push_ms / 8;
        let units = self.fed_remainder / UNIT as u64;
        self.fed_remainder %= UNIT as u64;
        if units == 0 {
            return Ok(());
        }
        let first = self.fed_bytes / UNIT as u64;
        self.media.clear();
        self.stream.append(first, units, &mut self.media);
        let before = self.fed_bytes;
        self.fed_bytes += self.media.len() as u64;
        self.fed.push((self.now, self.fed_bytes));
        let node = &mut self.nodes[NodeId::SOURCE.index()];
        let record = Record::plain(self.now, What::Push, NodeId::SOURCE);
        self.net.log.add(record, &self.media);
        match node.machine.as_mut() {
            Some(machine) => {
                self.net.acting = NodeId::SOURCE;
                machine.push_media(node.clock.local(self.now), &self.media);
                self.pump(NodeId::SOURCE, 0)
            }
            None => {
                match self.holes.last_mut().filter(|(_, end)| *end == before) {
                    Some((_, end)) => *end = self.fed_bytes,
                    None => self.holes.push((before, self.fed_bytes)),
                }
                Ok(())
            }
        }
    }

    fn end(&mut self) -> Checked {
        self.ended = true;
        self.log(What::End, NodeId::SOURCE);
        let node = &mut self.nodes[NodeId::SOURCE.index()];
        let Some(machine) = node.machine.as_mut() else {
            return Ok(());
        };
        self.net.acting = NodeId::SOURCE;
        machine.end_media(node.clock.local(self.now));
        self.pump(NodeId::SOURCE, 0)
    }

    // Outputs.

    /// Drains a machine after an input of so many datagrams.
    fn pump(&mut self, id: NodeId, datagrams: u64) -> Checked {
        let node = &mut self.nodes[id.index()];
        let Some(machine) = node.machine.as_mut() else {
            return Ok(());
        };
        let (net, limits, world) = (&mut self.net, &self.limits, self.now);
        let now = node.clock.local(world);
        net.emitted = 0;
        machine.poll_transmit(now, &mut |port, to, bytes, segment| {
            net.send(world, limits, port, to, bytes, segment);
        });
        if net.is_honest(id) {
            let budget =
                limits.work_base + limits.work_per_datagram.max(node.children * 4) * datagrams;
            if net.emitted > budget {
                return Err(Violation::new(
                    Invariant::Work,
                    id,
                    format!("{} datagrams out after {datagrams} in", net.emitted),
                ));
            }
        } else {
            machine.poll_forged(now, &mut |from, to, bytes| {
                net.forge(world, from, to, bytes)
            });
        }
        machine.drain_output(&mut self.output);
        node.inputs += 1;
        let look = node.inputs.is_multiple_of(limits.facts_every.max(1));
        self.played(id)?;
        if look {
            self.look(id)?;
        }
        self.arm(id);
        Ok(())
    }

    fn played(&mut self, id: NodeId) -> Checked {
        let node = &mut self.nodes[id.index()];
        for output in self.output.drain(..) {
            match output {
                Output::Media { chunk, payload } => {
                    self.net
                        .log
                        .add(Record::plain(self.now, What::Played, id), &payload);
                    node.joined.get_or_insert(self.now);
                    node.player
                        .accept(chunk, &payload, self.fed_bytes)
                        .map_err(|mismatch| {
                            let invariant = match mismatch {
                                Mismatch::Forged { .. } => Invariant::Genuine,
                                _ => Invariant::InOrder,
                            };
                            Violation::new(invariant, id, mismatch.to_string())
                        })?;
                }
                Output::End if !self.ended => {
                    return Err(Violation::new(
                        Invariant::Genuine,
                        id,
                        "told of an end while the encoder goes on",
                    ));
                }
                Output::End => node.player.end(self.fed_bytes),
            }
        }
        Ok(())
    }

    /// Plans the next timer of a machine, unless an earlier one is planned.
    fn arm(&mut self, id: NodeId) {
        let node = &mut self.nodes[id.index()];
        let now = node.clock.local(self.now);
        let Some(wanted) = node
            .machine
            .as_ref()
            .and_then(|machine| machine.poll_timeout(now))
        else {
            return;
        };
        let at = node.clock.world(wanted).max(self.now);
        if node.armed.is_none_or(|armed| at < armed) {
            node.armed = Some(at);
            self.net.queue.push(at, Event::Timer(id));
        }
    }

    // Invariants.

    /// Nodes that a node says push to it.
    pub(super) fn parents_of(&mut self, id: NodeId) -> Vec<NodeId> {
        let node = &self.nodes[id.index()];
        let Some(machine) = &node.machine else {
            return Vec::new();
        };
        self.facts.clear();
        machine.facts(node.clock.local(self.now), &mut self.facts);
        self.facts
            .parents
            .iter()
            .filter_map(|address| check::owner(*address))
            .filter(|parent| parent.index() < self.nodes.len())
            .collect()
    }

    /// What one node's facts say.
    fn look(&mut self, id: NodeId) -> Checked {
        if !self.net.is_honest(id) {
            return Ok(());
        }
        let node = &mut self.nodes[id.index()];
        let Some(machine) = &node.machine else {
            return Ok(());
        };
        self.facts.clear();
        machine.facts(node.clock.local(self.now), &mut self.facts);
        node.children = self.facts.children.len() as u64;
        let honest = |other: NodeId| self.net.is_honest(other);
        check::node_facts(id, &self.facts, &self.limits, honest)?;
        let (received, sent) = self.net.counts[id.index()];
        for (name, own, ours) in [
            ("received", self.facts.datagrams_in, received),
            ("sent", self.facts.datagrams_out, sent),
        ] {
            if own.is_some_and(|own| own != ours) {
                return Err(Violation::new(
                    Invariant::Conservation,
                    id,
                    format!("{own:?} datagrams {name} by its own count, {ours} by the world's"),
                ));
            }
        }
        Ok(())
    }

    fn sweep(&mut self) -> Checked {
        self.net.queue.push(self.now + SWEEP, Event::Sweep);
        let mut parents = Vec::with_capacity(self.nodes.len());
        for id in self.scenario.ids() {
            self.look(id)?;
            parents.push(if self.net.is_honest(id) {
                self.parents_of(id)
            } else {
                Vec::new()
            });
        }
        self.tree.check(self.now, &self.limits, &parents)?;
        self.check_live_edge()
    }

    /// Bytes the encoder had written at a moment.
    fn fed_until(&self, at: Instant) -> u64 {
        match self.fed.partition_point(|(time, _)| *time <= at) {
            0 => 0,
            count => self.fed[count - 1].1,
        }
    }

    /// Players that must be well: there, started long enough ago, and with a way to the source.
    fn settled(&self) -> Vec<NodeId> {
        let converge = Duration::from_millis(self.scenario.converge_ms);
        if self.now < millis(self.scenario.quiet_ms()) + converge {
            return Vec::new();
        }
        let mut connected = vec![false; self.nodes.len()];
        connected[NodeId::SOURCE.index()] = self.nodes[0].machine.is_some();
        loop {
            let before = connected.iter().filter(|is| **is).count();
            for id in self.scenario.ids().filter(|id| self.net.is_honest(*id)) {
                let spec = self.scenario.spec(id);
                connected[id.index()] |= self.nodes[id.index()].machine.is_some()
                    && spec
                        .parents
                        .iter()
                        .any(|parent| connected[usize::from(*parent)]);
            }
            if connected.iter().filter(|is| **is).count() == before {
                break;
            }
        }
        self.scenario
            .ids()
            .filter(|id| connected[id.index()] && self.scenario.spec(*id).role == Role::Peer)
            .filter(|id| self.now.since(self.nodes[id.index()].started) > converge)
            .collect()
    }

    fn check_live_edge(&self) -> Checked {
        let late = Duration::from_millis(self.scenario.latency_ms + self.scenario.edge_ms);
        let expected = self.fed_until(self.now.saturating_sub(late));
        for id in self.settled() {
            let player = &self.nodes[id.index()].player;
            let at = player.next();
            if expected > 0 && !player.has_ended() && at.is_none_or(|at| at < expected) {
                return Err(Violation::new(
                    Invariant::LiveEdge,
                    id,
                    format!(
                        "at byte {at:?}, the encoder was at {expected} {late:?} ago and is at {}",
                        self.fed_bytes
                    ),
                ));
            }
        }
        Ok(())
    }

    fn check_ends(&self) -> Checked {
        if !self.ended {
            return Ok(());
        }
        for id in self.settled() {
            let player = &self.nodes[id.index()].player;
            if !player.has_ended() {
                return Err(Violation::new(
                    Invariant::End,
                    id,
                    format!("at byte {:?} of {}", player.next(), self.fed_bytes),
                ));
            }
        }
        Ok(())
    }
}
