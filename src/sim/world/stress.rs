//! Faults begun and ended.

use std::time::Duration;

use super::super::NodeId;
use super::super::fault::FaultKind;
use super::super::link::Strain;
use super::super::report::What;
use super::run::Checked;
use super::{Event, World};

impl World<'_> {
    fn strain_all(&mut self, node: u16, change: impl Fn(&mut Strain)) {
        let node = NodeId(node);
        for other in self.scenario.ids().filter(|other| *other != node) {
            self.net.strain(self.now, node, other, &change);
            self.net.strain(self.now, other, node, &change);
        }
    }

    pub(super) fn begin(&mut self, index: u16) -> Checked {
        self.log(What::Fault(index), NodeId::SOURCE);
        match self.scenario.faults[usize::from(index)].kind.clone() {
            FaultKind::Crash { node, down_ms } => self.crash(NodeId(node), down_ms),
            FaultKind::ParentKill { node, down_ms } => {
                if let Some(parent) = self.parents_of(NodeId(node)).first() {
                    self.crash(*parent, down_ms);
                }
            }
            FaultKind::Pause { node, .. } => {
                let id = NodeId(node);
                let state = &mut self.nodes[id.index()];
                if state.machine.is_some() && !state.paused {
                    state.paused = true;
                    self.hit[usize::from(index)] = Some((id, state.incarnation));
                }
            }
            FaultKind::Departure { nodes } => {
                for node in nodes {
                    self.kill(NodeId(node), true);
                }
            }
            FaultKind::ClockStep { node, step_ms } => {
                self.nodes[usize::from(node)].clock.wall_us += step_ms * 1_000;
            }
            FaultKind::Flip { from, to } => {
                self.net
                    .strain(self.now, NodeId(from), NodeId(to), |strain| {
                        strain.flips += 1
                    });
            }
            FaultKind::InputStall { .. } => self.stalls += 1,
            kind => self.stress(&kind, true),
        }
        Ok(())
    }

    pub(super) fn over(&mut self, index: u16) -> Checked {
        self.log(What::Over(index), NodeId::SOURCE);
        match self.scenario.faults[usize::from(index)].kind.clone() {
            FaultKind::Pause { .. } => {
                if let Some((id, life)) = self.hit[usize::from(index)]
                    && self.nodes[id.index()].incarnation == life
                {
                    self.resume(id);
                }
            }
            FaultKind::InputStall { .. } => self.stalls -= 1,
            FaultKind::Crash { .. }
            | FaultKind::ParentKill { .. }
            | FaultKind::Departure { .. }
            | FaultKind::ClockStep { .. }
            | FaultKind::Flip { .. } => {}
            kind => self.stress(&kind, false),
        }
        Ok(())
    }

    /// Puts the load of a fault on links, or takes it off.
    fn stress(&mut self, kind: &FaultKind, on: bool) {
        let add = |value: &mut u32, part: u32| {
            *value = if on { *value + part } else { *value - part };
        };
        match kind {
            FaultKind::LossBurst { node, ppm, .. } => {
                self.strain_all(*node, |strain| add(&mut strain.loss_ppm, *ppm));
            }
            FaultKind::ReorderStorm { node, ppm, .. } => {
                self.strain_all(*node, |strain| add(&mut strain.reorder_ppm, *ppm));
            }
            FaultKind::DuplicateStorm { node, ppm, .. } => {
                self.strain_all(*node, |strain| add(&mut strain.duplicate_ppm, *ppm));
            }
            FaultKind::RateCut { node, kbps, .. } => {
                let rate_bps = if on { kbps * 1_000 } else { 0 };
                self.strain_all(*node, |strain| strain.rate_bps = rate_bps);
            }
            FaultKind::DelaySpike { node, delay_ms, .. } => {
                let delay_us = delay_ms * 1_000;
                self.strain_all(*node, |strain| {
                    strain.delay_us = if on {
                        strain.delay_us + delay_us
                    } else {
                        strain.delay_us - delay_us
                    };
                });
            }
            FaultKind::Cut { from, to, .. } => {
                self.net
                    .strain(self.now, NodeId(*from), NodeId(*to), |strain| {
                        add(&mut strain.cuts, 1);
                    });
            }
            FaultKind::Partition { side, .. } => {
                let apart = |a: NodeId, b: NodeId| side.contains(&a.0) != side.contains(&b.0);
                for a in self.scenario.ids() {
                    for b in self.scenario.ids().filter(|b| apart(a, *b)) {
                        self.net
                            .strain(self.now, a, b, |strain| add(&mut strain.cuts, 1));
                    }
                }
            }
            _ => {}
        }
    }

    fn crash(&mut self, id: NodeId, down_ms: u64) {
        if self.nodes[id.index()].machine.is_none() {
            return;
        }
        self.kill(id, false);
        let life = self.nodes[id.index()].incarnation;
        let back = self.now + Duration::from_millis(down_ms);
        self.net.queue.push(back, Event::Start(id, life));
    }
}
