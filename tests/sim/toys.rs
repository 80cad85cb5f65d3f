//! The world itself, tried with toys: what is well stays well, and each flaw is seen for what it is.

use std::time::Duration;

use p2ps::rng::{Rng, Seed};
use p2ps::sim::pair::Pair;
use p2ps::sim::{
    Boot, Invariant, Machine, NodeId, Outcome, Output, Port, Saved, Scenario, Shape, World, shrink,
};
use p2ps::time::{Epoch, Instant};

use super::seeds;
use super::toy::{Flaw, Toy, cast};

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
    for seed in seeds(12) {
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
        // A flaw may break more than one thing, and which shows first depends on the world drawn.
        let mut found = (0..30).filter_map(|seed| run(&shape(seed).draw(), flaw).err());
        assert!(found.any(|broken| broken == invariant), "{flaw:?}");
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

#[test]
fn two_toys_make_progress_however_the_wire_behaves() {
    for seed in 0..20 {
        let mut rng = Rng::new(Seed::from_number(seed));
        let scenario = Shape::new(seed).relays(0).peers(1).liars(0).draw();
        let now = Instant::from_micros(1_000_000);
        let toy = |id: u16| -> Box<dyn Machine> {
            let parents = if id == 0 {
                vec![]
            } else {
                vec![NodeId(0).address(Port::Listen).into()]
            };
            Box::new(Toy::new(
                &Boot {
                    id: NodeId(id),
                    spec: &scenario.nodes[usize::from(id)],
                    scenario: &scenario,
                    now,
                    epoch: Epoch::new(0),
                    seed: Seed::from_number(seed + u64::from(id)),
                    incarnation: 0,
                    parents,
                    saved: Saved::default(),
                },
                Flaw::None,
            ))
        };
        let mut pair = Pair::new(now, toy(0), toy(1));
        for _ in 0..300 {
            match rng.below(5) {
                0 => assert!(pair.advance(Duration::from_millis(rng.below(80)))),
                1 => drop(pair.take(rng.below(pair.pending().len() as u64 + 1) as usize)),
                2 => pair.act(0, |source, now| source.push_media(now, &[7; 376])),
                fate => {
                    let index = rng.below(pair.pending().len() as u64 + 1) as usize;
                    pair.deliver(index, fate == 3);
                }
            }
        }
        pair.settle(10_000);
        pair.take_output(1);
        for _ in 0..30 {
            assert!(pair.advance(Duration::from_millis(100)));
            pair.act(0, |source, now| source.push_media(now, &[8; 188]));
            pair.settle(100);
        }
        let played = pair.take_output(1);
        assert!(
            matches!(played.last(), Some(Output::Media { payload, .. }) if payload[..] == [8; 188]),
            "seed {seed}: {} outputs",
            played.len()
        );
    }
}
