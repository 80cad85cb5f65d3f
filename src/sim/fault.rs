//! What goes wrong and when: plain data, drawn from the seed, printed as TOML, shrunk to what matters.

use serde::{Deserialize, Serialize};

use super::scenario::{Role, Scenario};
use crate::rng::Rng;

/// One thing that goes wrong; times in milliseconds since the world began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// When it begins.
    pub at_ms: u64,
    /// What it is.
    #[serde(flatten)]
    pub kind: FaultKind,
}

/// What goes wrong. Nodes are named by their number in the scenario.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum FaultKind {
    /// All links of a node lose more.
    LossBurst {
        /// Whose links.
        node: u16,
        /// Share lost, in millionths.
        ppm: u32,
        /// For how long.
        ms: u64,
    },
    /// No datagram passes between one side and the rest.
    Partition {
        /// One side.
        side: Vec<u16>,
        /// For how long.
        ms: u64,
    },
    /// One direction between two nodes is dead.
    Cut {
        /// Sender.
        from: u16,
        /// Receiver.
        to: u16,
        /// For how long.
        ms: u64,
    },
    /// A process is killed, all its state with it, and started again.
    Crash {
        /// Whose.
        node: u16,
        /// How long it is gone.
        down_ms: u64,
    },
    /// Whoever pushes to a node at that moment is killed and started again.
    ParentKill {
        /// Whose parent.
        node: u16,
        /// How long it is gone.
        down_ms: u64,
    },
    /// A process is stopped and goes on later with what its socket kept.
    Pause {
        /// Whose.
        node: u16,
        /// For how long.
        ms: u64,
    },
    /// A wall clock is set; processes started later see it.
    ClockStep {
        /// Whose.
        node: u16,
        /// By how much.
        step_ms: i64,
    },
    /// All links of a node become slow.
    RateCut {
        /// Whose links.
        node: u16,
        /// Rate of each.
        kbps: u64,
        /// For how long.
        ms: u64,
    },
    /// Datagrams on all links of a node overtake each other.
    ReorderStorm {
        /// Whose links.
        node: u16,
        /// Share held back, in millionths.
        ppm: u32,
        /// For how long.
        ms: u64,
    },
    /// Datagrams on all links of a node arrive twice.
    DuplicateStorm {
        /// Whose links.
        node: u16,
        /// Share doubled, in millionths.
        ppm: u32,
        /// For how long.
        ms: u64,
    },
    /// All links of a node become long.
    DelaySpike {
        /// Whose links.
        node: u16,
        /// Time added.
        delay_ms: u64,
        /// For how long.
        ms: u64,
    },
    /// One bit of one datagram flips, past the checksum.
    Flip {
        /// Sender.
        from: u16,
        /// Receiver.
        to: u16,
    },
    /// Nodes leave for good, without a word.
    Departure {
        /// Who.
        nodes: Vec<u16>,
    },
    /// The encoder is silent.
    InputStall {
        /// For how long.
        ms: u64,
    },
}

impl FaultKind {
    /// How many kinds the generator knows.
    const KINDS: u64 = 14;

    /// How long it lasts.
    pub const fn lasts_ms(&self) -> u64 {
        match self {
            Self::LossBurst { ms, .. }
            | Self::Partition { ms, .. }
            | Self::Cut { ms, .. }
            | Self::Pause { ms, .. }
            | Self::RateCut { ms, .. }
            | Self::ReorderStorm { ms, .. }
            | Self::DuplicateStorm { ms, .. }
            | Self::DelaySpike { ms, .. }
            | Self::InputStall { ms } => *ms,
            Self::Crash { down_ms, .. } | Self::ParentKill { down_ms, .. } => *down_ms,
            Self::ClockStep { .. } | Self::Flip { .. } | Self::Departure { .. } => 0,
        }
    }
}

/// Faults a world, at most.
const FAULTS_MAX: u64 = 12;

/// Draws the faults of a world: first which kinds exist at all, so that worlds differ in character and not only in
/// detail, then times, targets and depths. All of them are over by `quiet_ms`.
pub fn draw(scenario: &Scenario, quiet_ms: u64, rng: &mut Rng) -> Vec<Fault> {
    let kinds: Vec<u64> = (0..FaultKind::KINDS).filter(|_| rng.chance(0.4)).collect();
    if kinds.is_empty() {
        return Vec::new();
    }
    let count = 1 + rng.below(FAULTS_MAX);
    let start_ms = quiet_ms / 6;
    let mut flips = std::collections::BTreeSet::new();
    let mut faults: Vec<Fault> = (0..count)
        .filter_map(|_| {
            let kind = draw_kind(kinds[rng.below(kinds.len() as u64) as usize], scenario, rng);
            let room = quiet_ms.saturating_sub(start_ms + kind.lasts_ms());
            let at_ms = start_ms + rng.below(room.max(1));
            // More than one flip on a link may be taken for malice, and rightly.
            let wanted = match kind {
                FaultKind::Flip { from, to } => from != to && flips.insert((from, to)),
                _ => at_ms + kind.lasts_ms() <= quiet_ms,
            };
            wanted.then_some(Fault { at_ms, kind })
        })
        .collect();
    faults.sort_by_key(|fault| fault.at_ms);
    faults
}

fn draw_kind(kind: u64, scenario: &Scenario, rng: &mut Rng) -> FaultKind {
    let honest: Vec<u16> = scenario
        .ids()
        .filter(|id| scenario.spec(*id).role != Role::Liar)
        .map(|id| id.0)
        .collect();
    let any = |rng: &mut Rng| honest[rng.below(honest.len() as u64) as usize];
    // The source is one target in five, so that its own faults are seen often.
    let inner = |rng: &mut Rng| {
        if rng.chance(0.2) { 0 } else { any(rng) }
    };
    let between = |rng: &mut Rng, low: u64, high: u64| low + rng.below(high - low);
    match kind {
        0 => FaultKind::LossBurst {
            node: inner(rng),
            ppm: between(rng, 100_000, 1_000_000) as u32,
            ms: between(rng, 50, 2_000),
        },
        1 => FaultKind::Partition {
            side: honest.iter().copied().filter(|_| rng.chance(0.4)).collect(),
            ms: between(rng, 200, 6_000),
        },
        2 => FaultKind::Cut {
            from: inner(rng),
            to: any(rng),
            ms: between(rng, 200, 6_000),
        },
        3 => FaultKind::Crash {
            node: inner(rng),
            down_ms: between(rng, 10, 3_000),
        },
        4 => FaultKind::ParentKill {
            node: any(rng),
            down_ms: between(rng, 10, 3_000),
        },
        5 => FaultKind::Pause {
            node: inner(rng),
            ms: between(rng, 50, 10_000),
        },
        6 => FaultKind::ClockStep {
            node: inner(rng),
            step_ms: between(rng, 0, 172_800_000) as i64 - 86_400_000,
        },
        7 => FaultKind::RateCut {
            node: any(rng),
            kbps: scenario.rate_kbps * between(rng, 50, 110) / 100,
            ms: between(rng, 500, 4_000),
        },
        8 => FaultKind::ReorderStorm {
            node: inner(rng),
            ppm: between(rng, 50_000, 400_000) as u32,
            ms: between(rng, 500, 5_000),
        },
        9 => FaultKind::DuplicateStorm {
            node: inner(rng),
            ppm: between(rng, 50_000, 500_000) as u32,
            ms: between(rng, 500, 5_000),
        },
        10 => FaultKind::DelaySpike {
            node: inner(rng),
            delay_ms: between(rng, 20, 400),
            ms: between(rng, 100, 3_000),
        },
        11 => FaultKind::Flip {
            from: any(rng),
            to: any(rng),
        },
        12 => FaultKind::Departure {
            nodes: scenario
                .ids()
                .filter(|id| scenario.spec(*id).role == Role::Peer && rng.chance(0.3))
                .map(|id| id.0)
                .collect(),
        },
        _ => FaultKind::InputStall {
            ms: between(rng, 100, 3_000),
        },
    }
}

/// Finds a smaller scenario for which `fails` still holds: fewer faults (halves, quarters, one by one), fewer nodes,
/// quieter links. `fails` must say whether the *same* invariant is violated.
///
/// Calls `fails` at most `tries` times.
pub fn shrink(scenario: &Scenario, tries: usize, fails: impl FnMut(&Scenario) -> bool) -> Scenario {
    let mut search = Shrink {
        best: scenario.clone(),
        tries,
        fails,
    };
    search.faults();
    search.nodes();
    search.links();
    search.faults();
    search.best
}

struct Shrink<F> {
    best: Scenario,
    tries: usize,
    fails: F,
}

impl<F: FnMut(&Scenario) -> bool> Shrink<F> {
    fn accept(&mut self, candidate: Scenario) -> bool {
        if self.tries == 0 || candidate == self.best {
            return false;
        }
        self.tries -= 1;
        let smaller = (self.fails)(&candidate);
        if smaller {
            self.best = candidate;
        }
        smaller
    }

    /// Delta debugging (Zeller's ddmin) over the list of faults.
    fn faults(&mut self) {
        let mut parts = 1;
        while !self.best.faults.is_empty() && self.tries > 0 {
            let length = self.best.faults.len();
            let size = length.div_ceil(parts);
            let mut removed = false;
            let mut start = 0;
            while start < self.best.faults.len() {
                let mut candidate = self.best.clone();
                let end = (start + size).min(candidate.faults.len());
                candidate.faults.drain(start..end);
                if self.accept(candidate) {
                    removed = true;
                } else {
                    start = end;
                }
            }
            if size == 1 && !removed {
                break;
            }
            parts = (parts * 2).min(self.best.faults.len().max(1));
        }
    }

    /// Leaves out nodes: halves first, then one by one, from the last.
    fn nodes(&mut self) {
        let count = self.best.nodes.len();
        let mut size = count / 2;
        while size > 0 {
            let mut end = count;
            while end > 1 {
                let start = end.saturating_sub(size).max(1);
                let mut candidate = self.best.clone();
                for spec in &mut candidate.nodes[start..end] {
                    spec.absent = true;
                }
                self.accept(candidate);
                end = start;
            }
            size /= 2;
        }
    }

    fn links(&mut self) {
        type Simplify = fn(&mut super::Profile);
        let steps: [Simplify; 7] = [
            |link| link.jitter_us = 0,
            |link| link.loss_ppm = 0,
            |link| link.burst_enter_ppm = 0,
            |link| link.reorder_ppm = 0,
            |link| link.duplicate_ppm = 0,
            |link| link.corrupt_ppm = 0,
            |link| link.rate_bps = 0,
        ];
        for step in steps {
            let mut candidate = self.best.clone();
            step(&mut candidate.link);
            self.accept(candidate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Purpose, Shape, generator};

    #[test]
    fn plans_differ_in_character_and_end_in_time() {
        let mut kinds = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let scenario = Shape::new(seed).relays(3).peers(8).draw();
            let mut rng = generator(seed, Purpose::Faults, 0, 0);
            let faults = draw(&scenario, 10_000, &mut rng);
            assert!(faults.len() <= FAULTS_MAX as usize);
            for fault in &faults {
                assert!(fault.at_ms + fault.kind.lasts_ms() <= 10_000, "{fault:?}");
                kinds.insert(format!("{:?}", std::mem::discriminant(&fault.kind)));
            }
            assert!(faults.windows(2).all(|pair| pair[0].at_ms <= pair[1].at_ms));
        }
        assert_eq!(kinds.len() as u64, FaultKind::KINDS);
    }

    #[test]
    fn shrinking_keeps_what_matters() {
        let mut scenario = Shape::new(1).relays(3).peers(8).draw();
        scenario.faults = (0..20)
            .map(|index| Fault {
                at_ms: index * 100,
                kind: FaultKind::Crash {
                    node: (index % 5) as u16,
                    down_ms: 10,
                },
            })
            .collect();
        let wanted = |fault: &Fault| fault.at_ms == 700 || fault.at_ms == 1500;
        let mut runs = 0;
        let small = shrink(&scenario, 500, |candidate| {
            runs += 1;
            candidate
                .faults
                .iter()
                .filter(|fault| wanted(fault))
                .count()
                == 2
                && !candidate.nodes[4].absent
        });
        assert_eq!(small.faults.len(), 2);
        assert!(small.faults.iter().all(wanted));
        let present: Vec<usize> = (0..small.nodes.len())
            .filter(|index| !small.nodes[*index].absent)
            .collect();
        assert_eq!(present, [0, 4]);
        assert_eq!(small.link.loss_ppm, 0);
        assert!(runs < 100, "{runs}");
    }
}
