//! Swarms of real nodes.

use std::path::Path;

use p2ps::sim::honest::cast;
use p2ps::sim::{Fault, FaultKind, Outcome, Scenario, Shape, World};

use super::seeds;

fn run(scenario: &Scenario) -> Outcome {
    World::new(scenario.clone(), cast)
        .run()
        .unwrap_or_else(|failure| panic!("{failure}"))
}

fn nothing_missing(outcome: &Outcome) {
    for player in &outcome.players {
        assert!(player.bytes > 50_000, "{player:?}");
        assert!(player.missing == 0 && player.gaps.is_empty(), "{player:?}");
    }
}

#[test]
fn a_quiet_world_loses_nothing() {
    for seed in 0..3 {
        let mut scenario = Shape::of_thirty(seed).peers(8).quiet().draw();
        scenario.end_ms = 16_000;
        let outcome = run(&scenario);
        nothing_missing(&outcome);
        for player in &outcome.players {
            assert!(player.ended, "{player:?}");
        }
    }
}

#[test]
fn f01_random_loss_is_repaired() {
    for (seed, loss_ppm) in [(1, 10_000), (2, 50_000), (3, 100_000)] {
        let mut scenario = Shape::of_thirty(seed).peers(6).liars(0).quiet().draw();
        scenario.link.loss_ppm = loss_ppm;
        scenario.link.delay_us = 20_000;
        nothing_missing(&run(&scenario));
    }
}

#[test]
fn f02_outages_are_repaired() {
    let mut scenario = Shape::of_thirty(4).peers(6).liars(0).quiet().draw();
    scenario.faults = (0..4)
        .map(|index| Fault {
            at_ms: 4_000 + index * 3_000,
            kind: FaultKind::LossBurst {
                node: 0,
                ppm: 1_000_000,
                ms: 300,
            },
        })
        .collect();
    nothing_missing(&run(&scenario));
}

#[test]
fn f04_f05_reordered_and_doubled_datagrams_change_nothing() {
    let mut scenario = Shape::of_thirty(5).peers(6).liars(0).quiet().draw();
    scenario.link.reorder_ppm = 250_000;
    scenario.link.reorder_us = 30_000;
    scenario.link.duplicate_ppm = 200_000;
    nothing_missing(&run(&scenario));
}

#[test]
fn f10_a_parent_dies_and_nothing_is_lost() {
    for seed in 0..5 {
        let mut scenario = Shape::of_thirty(seed).peers(6).liars(0).quiet().draw();
        for node in &mut scenario.nodes[1..] {
            node.start_ms = node.start_ms.min(1_000);
        }
        for node in &mut scenario.nodes[5..] {
            node.parents = vec![1 + (seed as u16 % 4), 1 + (seed as u16 + 1) % 4];
        }
        scenario.faults = vec![Fault {
            at_ms: 8_000,
            kind: FaultKind::ParentKill {
                node: 6,
                down_ms: 60_000,
            },
        }];
        scenario.duration_ms = 20_000;
        nothing_missing(&run(&scenario));
    }
}

/// A source that is killed, and starts again with its clock set by so much.
fn restarted_with_another_clock(seed: u64, step_ms: i64) -> Outcome {
    let mut scenario = Shape::of_thirty(seed).peers(8).liars(0).quiet().draw();
    for node in &mut scenario.nodes {
        node.start_ms = node.start_ms.min(2_000);
    }
    scenario.end_ms = 0;
    scenario.faults = vec![
        Fault {
            at_ms: 6_000,
            kind: FaultKind::ClockStep { node: 0, step_ms },
        },
        Fault {
            at_ms: 7_000,
            kind: FaultKind::Crash {
                node: 0,
                down_ms: 700,
            },
        },
    ];
    run(&scenario)
}

#[test]
fn s10_a_restarted_source_is_heard_whatever_its_clock_says() {
    const HOUR_MS: i64 = 3_600_000;
    for (seed, step_ms) in [(1, -HOUR_MS), (2, -30_000), (3, -1_000), (4, 40_000)] {
        let outcome = restarted_with_another_clock(seed, step_ms);
        // What the encoder wrote while nobody read it is not missing.
        for player in &outcome.players {
            assert_eq!(player.missing, 0, "{step_ms} ms: {player:?}");
        }
    }
    // So far ahead that windows forget at once what was not played yet: it must go on, and does.
    restarted_with_another_clock(5, 24 * HOUR_MS);
}

#[test]
fn every_drawn_world_keeps_its_invariants() {
    for seed in seeds(8) {
        run(&Shape::of_thirty(seed).draw());
    }
}

#[test]
fn the_same_seed_is_the_same_swarm() {
    for seed in 0..2 {
        let scenario = Shape::of_thirty(seed).peers(8).draw();
        assert_eq!(run(&scenario), run(&scenario));
    }
}

/// What once went wrong, each found by a drawn world and shrunk.
#[test]
fn what_was_found_stays_mended() {
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sim/found");
    let Ok(entries) = std::fs::read_dir(found) else {
        return;
    };
    for entry in entries {
        let path = entry.expect("a directory that opens can be read").path();
        let text = std::fs::read_to_string(&path).expect("a found scenario is a text file");
        let scenario = Scenario::from_toml(&text)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        println!("{}", path.display());
        run(&scenario);
    }
}
