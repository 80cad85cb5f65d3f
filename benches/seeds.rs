//! Seeds by the hundred: which drawn worlds of 30 nodes, faults and liars break an invariant, and the smallest like it.
//!
//! `SEEDS=300 cargo bench --bench seeds` surveys the first 300, `FIRST=300 SEEDS=300` the next 300, on all processors;
//! `SEED=n` tries one (with `WATCH=k` for all that node k does), and `SEED=n SHRINK=1` prints the smallest scenario that
//! fails like it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use p2ps::sim::honest::cast;
use p2ps::sim::{Invariant, NodeId, Scenario, Shape, World, shrink};

fn main() {
    if number("SHRINK").is_some() {
        shrink_a_seed();
    } else {
        survey();
    }
}

/// The seeds to try: the one of `SEED`, or `SEEDS` of them (else `usual`) from `FIRST` (else 0) on.
fn seeds(usual: u64) -> Range<u64> {
    let first = number("FIRST").unwrap_or(0);
    match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => first..first + number("SEEDS").unwrap_or(usual),
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The smallest scenario that fails like that seed does.
fn shrink_a_seed() {
    for seed in seeds(1) {
        let fails = |scenario: &Scenario| {
            World::new(scenario.clone(), cast)
                .run()
                .err()
                .map(|failure| failure.violation.invariant)
        };
        let scenario = Shape::of_thirty(seed).draw();
        let Some(invariant) = fails(&scenario) else {
            println!("seed {seed} holds");
            continue;
        };
        let small = shrink(&scenario, 150, |candidate| {
            fails(candidate) == Some(invariant)
        });
        println!("{}", small.to_toml());
    }
}

/// What a survey found.
#[derive(Default)]
struct Found {
    held: u64,
    events: u64,
    missing: u64,
    joins_us: Vec<u64>,
    failed: BTreeMap<Invariant, Vec<u64>>,
}

/// Tries all seeds and says which fail how.
fn survey() {
    let start = std::time::Instant::now();
    let seeds = seeds(100);
    let (next, found) = (AtomicU64::new(seeds.start), Mutex::new(Found::default()));
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    try_seed(seed, seeds.end - seeds.start == 1, &found);
                }
            });
        }
    });
    let mut found = found.into_inner().expect("no worker panicked");
    found.joins_us.sort_unstable();
    let at = |share: usize| {
        let joins = &found.joins_us;
        joins.get(joins.len() * share / 100).copied().unwrap_or(0) / 1_000
    };
    println!(
        "seeds {seeds:?}: {} held, {} failed, {} events, {} worlds with something missing, join p50 {} ms p90 {} ms p99 {} ms, {:.0} s",
        found.held,
        found.failed.values().map(Vec::len).sum::<usize>(),
        found.events,
        found.missing,
        at(50),
        at(90),
        at(99),
        start.elapsed().as_secs_f64()
    );
    for (invariant, mut seeds) in found.failed {
        seeds.sort_unstable();
        println!("{invariant}: {seeds:?}");
    }
}

/// Tries one seed; tells all about its world when it is the only one.
fn try_seed(seed: u64, alone: bool, found: &Mutex<Found>) {
    let mut world = World::new(Shape::of_thirty(seed).draw(), cast);
    if let Some(node) = number("WATCH") {
        world = world.watch(NodeId(node as u16));
    }
    let result = world.run();
    let mut found = found.lock().expect("no worker panicked");
    match result {
        Ok(outcome) => {
            found.held += 1;
            found.events += outcome.events;
            found.missing += u64::from(outcome.players.iter().any(|player| player.missing > 0));
            let joins = outcome.players.iter().filter_map(|player| player.join_us);
            found.joins_us.extend(joins);
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
            if alone {
                let faults = failure.scenario.find("[[faults]]").unwrap_or(0);
                println!("{}", &failure.scenario[faults..]);
                println!("{}", failure.nodes.join("\n"));
            }
            println!("    {}", failure.nodes[violation.node.index()]);
            let seeds = found.failed.entry(violation.invariant).or_default();
            seeds.push(seed);
        }
    }
}
