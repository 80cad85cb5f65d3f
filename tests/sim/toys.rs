//! The world itself, tried with toys: what is well stays well, and each flaw is seen for what it is.

use std::time::Duration;

use p2ps::sim::{Invariant, Outcome, Scenario, Shape, World, shrink};

use super::seeds;
use super::toy::{Flaw, cast};

fn shape(seed: u64) -> Shape {
    Shape::new(seed)
        .relays(3)
        .peers(8)
        .liars(1)
        .duration(Duration::from_secs(20))
}

fn run(scenario: &Scenario, flaw: Flaw) -> Result<Outcome, Invariant> {
    World::new(scenario.clone(), cast(flaw))
        .run()
        .map_err(|failure| failure.violation.invariant)
}

#[test]
fn nothing_is_lost_in_a_quiet_world() {
    let scenario = shape(1).quiet().draw();
    let outcome = World::new(scenario, cast(Flaw::None))
        .run()
        .unwrap_or_else(|failure| panic!("{failure}"));
    for player in &outcome.players {
        assert!(player.bytes > 100_000, "{player:?}");
        assert_eq!(player.missing, 0, "{player:?}");
        assert!(player.join_us.is_some(), "{player:?}");
    }
}

#[test]
fn toys_survive_every_fault() {
    let mut lost = 0;
    for seed in seeds(40) {
        let outcome = World::new(shape(seed).draw(), cast(Flaw::None))
            .run()
            .unwrap_or_else(|failure| panic!("{failure}"));
        lost += outcome.lost;
    }
    assert!(lost > 0);
}

#[test]
fn the_same_seed_is_the_same_world() {
    let mut hashes = std::collections::BTreeSet::new();
    for seed in 0..5 {
        let scenario = shape(seed).draw();
        let replayed = Scenario::from_toml(&scenario.to_toml()).unwrap();
        let first = run(&scenario, Flaw::None).unwrap();
        assert_eq!(first, run(&replayed, Flaw::None).unwrap());
        hashes.insert(first.hash);
    }
    assert_eq!(hashes.len(), 5);
}

#[test]
fn every_flaw_is_seen_for_what_it_is() {
    let table = [
        (Flaw::BusyTimer, Invariant::Timers),
        (Flaw::Unverified, Invariant::Genuine),
        (Flaw::Repeats, Invariant::InOrder),
        (Flaw::NoCookie, Invariant::Amplification),
        (Flaw::Faithful, Invariant::LiveEdge),
        (Flaw::Vengeful, Invariant::NoHonestBan),
        (Flaw::Miscounts, Invariant::Conservation),
        (Flaw::Hoards, Invariant::Limits),
        (Flaw::Panics, Invariant::NoPanic),
        (Flaw::Storms, Invariant::Work),
        (Flaw::Endless, Invariant::End),
    ];
    for (flaw, invariant) in table {
        let found = (0..30).find_map(|seed| run(&shape(seed).draw(), flaw).err());
        assert_eq!(found, Some(invariant), "{flaw:?}");
    }
}

#[test]
fn a_violation_shrinks_to_its_cause() {
    let fails = |scenario: &Scenario| run(scenario, Flaw::Faithful) == Err(Invariant::LiveEdge);
    let scenario = (0..50)
        .map(|seed| shape(seed).draw())
        .find(|scenario| scenario.faults.len() > 3 && fails(scenario))
        .expect("a parent that goes away is in most plans");
    let small = shrink(&scenario, 60, fails);
    assert!(fails(&small));
    assert!(small.faults.len() <= 1, "{}", small.to_toml());
    let present = small.nodes.iter().filter(|node| !node.absent).count();
    assert!(present <= 4, "{}", small.to_toml());
}

/// Run in release with `--ignored --nocapture`: how many events a second of processor time.
#[test]
#[ignore = "a measurement"]
fn speed_of_the_world() {
    let scenario = Shape::new(3)
        .relays(4)
        .peers(45)
        .liars(1)
        .source(2_000, Duration::from_millis(10))
        .duration(Duration::from_secs(60))
        .quiet()
        .draw();
    let start = std::time::Instant::now();
    let outcome = World::new(scenario, cast(Flaw::None))
        .run()
        .unwrap_or_else(|failure| panic!("{failure}"));
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{} events in {seconds:.2} s: {:.2} M/s, {} datagrams",
        outcome.events,
        outcome.events as f64 / seconds / 1e6,
        outcome.sent
    );
}
