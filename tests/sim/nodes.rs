//! Swarms of real nodes.

use std::path::Path;
use std::time::Duration;

use p2ps::sim::honest::cast;
use p2ps::sim::{Fault, FaultKind, NodeId, Outcome, Scenario, Shape, World, shrink};

use super::{number, seeds};

fn run(scenario: &Scenario) -> Outcome {
    World::new(scenario.clone(), cast)
        .run()
        .unwrap_or_else(|failure| panic!("{failure}"))
}

/// A world of 30 nodes with faults and liars.
fn shape(seed: u64) -> Shape {
    Shape::new(seed)
        .relays(4)
        .peers(23)
        .liars(2)
        .source(400, Duration::from_millis(40))
        .duration(Duration::from_secs(20))
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
        let mut scenario = shape(seed).peers(8).quiet().draw();
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
        let mut scenario = shape(seed).peers(6).liars(0).quiet().draw();
        scenario.link.loss_ppm = loss_ppm;
        scenario.link.delay_us = 20_000;
        nothing_missing(&run(&scenario));
    }
}

#[test]
fn f02_outages_are_repaired() {
    let mut scenario = shape(4).peers(6).liars(0).quiet().draw();
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
    let mut scenario = shape(5).peers(6).liars(0).quiet().draw();
    scenario.link.reorder_ppm = 250_000;
    scenario.link.reorder_us = 30_000;
    scenario.link.duplicate_ppm = 200_000;
    nothing_missing(&run(&scenario));
}

#[test]
fn f10_a_parent_dies_and_nothing_is_lost() {
    for seed in 0..5 {
        let mut scenario = shape(seed).peers(6).liars(0).quiet().draw();
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

#[test]
fn every_drawn_world_keeps_its_invariants() {
    for seed in seeds(8) {
        run(&shape(seed).draw());
    }
}

#[test]
fn the_same_seed_is_the_same_swarm() {
    for seed in 0..2 {
        let scenario = shape(seed).peers(8).draw();
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

/// With `SEED=n` and `--ignored --nocapture`: the smallest scenario that fails like that seed does.
#[test]
#[ignore = "a tool"]
fn shrink_a_seed() {
    for seed in seeds(1) {
        let fails = |scenario: &Scenario| {
            World::new(scenario.clone(), cast)
                .run()
                .err()
                .map(|failure| failure.violation.invariant)
        };
        let scenario = shape(seed).draw();
        let Some(invariant) = fails(&scenario) else {
            println!("seed {seed} holds");
            continue;
        };
        let small = shrink(&scenario, 150, |candidate| {
            fails(candidate) == Some(invariant)
        });
        println!("{}", small.to_toml());
        run(&small);
    }
}

/// With `SEEDS=n` or `SEED=n` (and `WATCH=n` for all that one node does), `--ignored --nocapture`: tries all of them and says which fail how.
#[test]
#[ignore = "a tool"]
fn survey() {
    let start = std::time::Instant::now();
    let (mut held, mut events, mut missing, mut joins) = (0, 0, 0, Vec::new());
    let mut failed = std::collections::BTreeMap::<_, Vec<u64>>::new();
    for seed in seeds(100) {
        let mut world = World::new(shape(seed).draw(), cast);
        if let Some(node) = number("WATCH") {
            world = world.watch(NodeId(node as u16));
        }
        match world.run() {
            Ok(outcome) => {
                held += 1;
                events += outcome.events;
                missing += u64::from(outcome.players.iter().any(|player| player.missing > 0));
                joins.extend(outcome.players.iter().filter_map(|player| player.join_us));
            }
            Err(failure) => {
                let violation = &failure.violation;
                println!(
                    "SEED={seed} {} {} {}: {}",
                    violation.invariant, failure.at, violation.node, violation.detail
                );
                for line in &failure.watched {
                    println!("{line}");
                }
                if seeds(2).count() == 1 {
                    println!(
                        "{}",
                        &failure.scenario[failure.scenario.find("[[faults]]").unwrap_or(0)..]
                    );
                    println!("{}", failure.nodes.join("\n"));
                }
                println!("    {}", failure.nodes[violation.node.index()]);
                failed.entry(violation.invariant).or_default().push(seed);
            }
        }
    }
    joins.sort_unstable();
    let at = |share: usize| joins.get(joins.len() * share / 100).copied().unwrap_or(0) / 1_000;
    println!(
        "{held} held, {} failed, {events} events, {missing} worlds with something missing, join p50 {} ms p90 {} ms p99 {} ms, {:.0} s",
        failed.values().map(Vec::len).sum::<usize>(),
        at(50),
        at(90),
        at(99),
        start.elapsed().as_secs_f64()
    );
    for (invariant, seeds) in failed {
        println!("{invariant}: {seeds:?}");
    }
}
