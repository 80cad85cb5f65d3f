//! Swarms that a tracker places: the real registry, announcers and nodes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use p2ps::chunk::Layout;
use p2ps::rng::Seed;
use p2ps::sim::tracked::{Office, Shared, cast};
use p2ps::sim::{Fault, FaultKind, NodeId, Outcome, Port, Role, Scenario, Shape, World};
use p2ps::time::Instant;
use p2ps::tracker::announce::Service;
use p2ps::tracker::placement::Placement;
use p2ps::tracker::placement::balanced::{self, Balanced};
use p2ps::tracker::placement::psp::{self, Psp};
use p2ps::tracker::registry::{Config, Registry};

use super::seeds;

fn office(placement: Box<dyn Placement>, services: BTreeMap<u16, Service>) -> Shared {
    let registry = Registry::new(Config::default(), Seed::from_number(7));
    Office::new(registry.with_placement(placement), services)
}

/// A source and so many clones that come one after the other; nobody is told of anybody.
fn crowd(seed: u64, clones: u16, duration_ms: u64) -> Scenario {
    let mut scenario = Shape::new(seed)
        .relays(0)
        .peers(clones)
        .liars(0)
        .duration(Duration::from_millis(duration_ms))
        .quiet()
        .draw();
    scenario.link.delay_us = 10_000;
    scenario.end_ms = 0;
    for (at, node) in scenario.nodes.iter_mut().enumerate() {
        node.parents.clear();
        (node.drift_ppm, node.wall_ms) = (0, 0);
        node.start_ms = if at == 0 { 0 } else { 500 + 100 * at as u64 };
    }
    scenario
}

fn run(scenario: &Scenario, office: &Shared) -> Outcome {
    World::new(scenario.clone(), cast(office))
        .run()
        .unwrap_or_else(|failure| panic!("{failure}"))
}

fn at(millis: u64) -> Instant {
    Instant::from_micros(millis * 1000)
}

fn address(node: u16) -> SocketAddr {
    NodeId(node).address(Port::Listen).into()
}

/// Share of the stream that a player did not play.
fn loss(bytes: u64, missing: u64) -> f64 {
    missing as f64 / (bytes + missing).max(1) as f64
}

#[test]
fn t_ss_3_a_subtree_receives_again_soon_after_a_clone_dies() {
    for seed in seeds(3) {
        let office = office(
            Box::new(Balanced::new(balanced::Settings::default())),
            BTreeMap::new(),
        );
        let mut scenario = crowd(seed, 30, 24_000);
        // Clone 3 is below clone 1, which half of all hang on.
        scenario.faults = vec![Fault {
            at_ms: 11_000,
            kind: FaultKind::ParentKill {
                node: 3,
                down_ms: 60_000,
            },
        }];
        let outcome = run(&scenario, &office);
        let office = office.borrow();
        assert_eq!(
            office.parent_at(3, at(10_900)),
            Some(address(1)),
            "seed {seed}"
        );
        let heir = office
            .log
            .iter()
            .find(|(_, line)| line.contains("takes the place of"));
        assert!(heir.is_some(), "seed {seed}: {:?}", office.log);
        // Healed: the children of the dead are below its heir, not below the radix.
        let healed = office.parent_at(3, at(23_900)).expect("it has a parent");
        assert!(
            healed != address(0) && healed != address(1),
            "seed {seed}: {healed}"
        );
        for player in &outcome.players {
            if player.node == NodeId(1) {
                continue;
            }
            let record = &office.records[&player.node.0];
            assert!(
                record.longest_gap <= Duration::from_secs(2),
                "seed {seed}, {}: {:?} until {:?}",
                player.node,
                record.longest_gap,
                record.longest_gap_ended
            );
            assert!(
                player.bytes > 500_000 && loss(player.bytes, player.missing) <= 0.05,
                "seed {seed}: {player:?}"
            );
        }
    }
}

/// The processor's share of it is a figure of `benches/tree.py`.
#[test]
fn t_ss_4_the_radix_sends_two_copies_in_the_tree_and_sixteen_in_the_star() {
    for (is_star, copies) in [(false, 2.0), (true, 16.0)] {
        for seed in seeds(3) {
            let settings = balanced::Settings {
                is_star,
                ..balanced::Settings::default()
            };
            let office = office(Box::new(Balanced::new(settings)), BTreeMap::new());
            // Whoever comes is there before the first byte that counts.
            let scenario = crowd(seed, 16, 30_000);
            let outcome = run(&scenario, &office);
            let office = office.borrow();
            let (read, sent) = office.records[&0].media_bytes;
            let ratio = sent as f64 / read as f64;
            assert!(
                ratio > 0.8 * copies && ratio < 1.1 * copies,
                "seed {seed}: {ratio} copies instead of {copies}"
            );
            for player in &outcome.players {
                assert_eq!(player.missing, 0, "seed {seed}: {player:?}");
            }
        }
    }
}

#[test]
fn t_ss_6_six_levels_with_loss_on_every_hop_still_play() {
    for seed in seeds(3) {
        let office = office(
            Box::new(Balanced::new(balanced::Settings::default())),
            BTreeMap::new(),
        );
        let mut scenario = crowd(seed, 62, 18_000);
        scenario.link.loss_ppm = 10_000;
        // Played a second after it was signed: well within the four that are allowed.
        assert!(scenario.latency_ms <= 4_000);
        let outcome = run(&scenario, &office);
        let office = office.borrow();
        let levels: Vec<u64> = office.records.values().map(|record| record.level).collect();
        assert_eq!(levels.iter().max(), Some(&6), "seed {seed}: {levels:?}");
        for player in &outcome.players {
            assert!(
                player.bytes > 300_000 && loss(player.bytes, player.missing) <= 0.05,
                "seed {seed}, level {}: {player:?}",
                office.records[&player.node.0].level
            );
        }
    }
}

#[test]
fn t_psp_6_a_full_server_sheds_and_no_viewer_notices() {
    let serving = |cluster: &str, capacity_kbps| Service {
        cluster: cluster.to_owned(),
        capacity_kbps,
    };
    for seed in seeds(3) {
        let placement = Psp::new(psp::Settings {
            rate_kbps: 400,
            ..psp::Settings::default()
        });
        let services = BTreeMap::from([(1, serving("east", 4_200)), (2, serving("west", 8_000))]);
        let office = office(Box::new(placement), services);
        let mut scenario = crowd(seed, 12, 38_000);
        for (number, node) in scenario.nodes.iter_mut().enumerate() {
            match number {
                1 | 2 => {
                    node.role = Role::Relay;
                    // The second server comes when the first is full.
                    node.start_ms = if number == 1 { 300 } else { 15_000 };
                }
                3.. => node.start_ms = 6_000 + 50 * number as u64,
                _ => {}
            }
        }
        let outcome = run(&scenario, &office);
        let office = office.borrow();
        let below = |server: u16, millis| {
            (3..13)
                .filter(|node| office.parent_at(*node, at(millis)) == Some(address(server)))
                .count()
        };
        assert_eq!(below(1, 14_900), 10, "seed {seed}: full: {:?}", office.log);
        // What is promised of the first server, in percent of what it has, with the time.
        let loads = office.loads.iter().filter_map(|(then, overview)| {
            let mut clusters = overview.clusters.iter();
            let server = clusters.find(|cluster| cluster.name == "east")?;
            let server = server.servers.first()?;
            Some((*then, server.used_kbps * 100 / server.capacity_kbps))
        });
        let (before, after): (Vec<_>, Vec<_>) = loads.partition(|(then, _)| *then < at(15_000));
        let full = before.last().map(|(_, percent)| *percent);
        assert!(full >= Some(90), "seed {seed}: {before:?}");
        let late = after.iter().filter(|(then, _)| *then >= at(35_000));
        let late: Vec<u64> = late.map(|(_, percent)| *percent).collect();
        assert!(
            !late.is_empty() && late.iter().all(|percent| *percent < 90),
            "seed {seed}: {after:?}"
        );
        let left = below(1, 35_000);
        assert!(
            left < 10 && left + below(2, 35_000) == 10,
            "seed {seed}: {:?}",
            office.log
        );
        assert!(
            office
                .log
                .iter()
                .any(|(_, line)| line.contains("moves from server"))
        );
        for player in &outcome.players {
            let record = &office.records[&player.node.0];
            assert!(
                record.longest_gap <= Duration::from_secs(1),
                "seed {seed}: {player:?}"
            );
            assert!(
                player.missing == 0 && player.gaps.is_empty(),
                "seed {seed}: {player:?}"
            );
        }
    }
}

#[test]
fn t_psp_3_supporters_and_a_server_share_viewers_and_nobody_misses_anything() {
    for seed in seeds(3) {
        let placement = Psp::new(psp::Settings {
            rate_kbps: 400,
            ..psp::Settings::default()
        });
        let server = Service {
            cluster: "east".to_owned(),
            capacity_kbps: 2_700,
        };
        let office = office(Box::new(placement), BTreeMap::from([(1, server)]));
        office.borrow_mut().layout = Layout::new(4).expect("a layout");
        // A viewer has half its own rate to spare, some three quarters: without parts nobody could help anybody.
        office.borrow_mut().limits = (2..14)
            .map(|node| (node, 230_000 + 10_000 * u64::from(node)))
            .collect();
        let mut scenario = crowd(seed, 13, 40_000);
        for (number, node) in scenario.nodes.iter_mut().enumerate() {
            match number {
                1 => (node.role, node.start_ms) = (Role::Relay, 300),
                2.. => node.start_ms = 4_000 + 1_500 * number as u64,
                _ => {}
            }
        }
        // One that many hang on dies.
        scenario.faults = vec![Fault {
            at_ms: 30_000,
            kind: FaultKind::ParentKill {
                node: 12,
                down_ms: 60_000,
            },
        }];
        let outcome = run(&scenario, &office);
        let office = office.borrow();
        let shared = office
            .records
            .values()
            .filter(|record| record.parents_most > 1);
        assert!(shared.count() >= 3, "seed {seed}: {:?}", office.log);
        for player in &outcome.players {
            let record = &office.records[&player.node.0];
            assert!(
                player.missing == 0 && player.gaps.is_empty(),
                "seed {seed}: {player:?} {record:?}"
            );
        }
    }
}
