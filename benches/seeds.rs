//! Seeds by the hundred: which drawn worlds of 30 nodes, faults and liars break an invariant, and the smallest like it.
//!
//! `SEEDS=300 cargo bench --bench seeds` surveys; `SEED=n` tries one (with `WATCH=k` for all that node k does), and
//! `SEED=n SHRINK=1` prints the smallest scenario that fails like it.

use std::ops::Range;
use std::time::Duration;

use p2ps::sim::honest::cast;
use p2ps::sim::{NodeId, Scenario, Shape, World, shrink};

fn main() {
    if number("SHRINK").is_some() {
        shrink_a_seed();
    } else {
        survey();
    }
}

/// The seeds to try: the one of `SEED`, the first `SEEDS`, or the first `usual`.
fn seeds(usual: u64) -> Range<u64> {
    match (number("SEED"), number("SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, Some(count)) => 0..count,
        (None, None) => 0..usual,
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// A world of 30 nodes with faults and liars, as the tests draw it.
fn shape(seed: u64) -> Shape {
    Shape::new(seed)
        .relays(4)
        .peers(23)
        .liars(2)
        .source(400, Duration::from_millis(40))
        .duration(Duration::from_secs(20))
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
        let scenario = shape(seed).draw();
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

/// Tries all seeds and says which fail how.
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
