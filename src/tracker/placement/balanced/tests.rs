//! Trees of members that report to a tracker.

use super::super::networks::Networks;
use super::super::testing::{Town, below, named, refusal, role};
use super::*;
use crate::tracker::message::RequestExt;

const FILM: &str = "film";

fn town(settings: Settings) -> Town {
    let mut town = Town::new(Box::new(Balanced::new(settings)));
    town.source("10.9.0.1", "radix", FILM, 1000);
    town
}

fn ip(number: usize) -> String {
    format!("10.0.{}.{}", number / 200, number % 200 + 1)
}

fn join(town: &mut Town, number: usize) -> Vec<String> {
    let answer = town.join(&ip(number), &format!("c{number}"), FILM, role(Role::Peer));
    named(&answer).into_iter().map(str::to_owned).collect()
}

#[test]
fn newcomers_are_told_of_their_parent_and_all_above() {
    let mut town = town(Settings::default());
    assert_eq!(join(&mut town, 1), ["radix"]);
    assert_eq!(join(&mut town, 2), ["radix"]);
    assert_eq!(join(&mut town, 3), ["c1", "radix"]);
    assert_eq!(join(&mut town, 4), ["c2", "radix"]);
    for number in 5..7 {
        join(&mut town, number);
    }
    assert_eq!(join(&mut town, 7), ["c3", "c1", "radix"]);
}

#[test]
fn t_ss_1_sixty_three_clones_fill_six_levels() {
    let mut town = town(Settings::default());
    for number in 1..63 {
        assert!(
            join(&mut town, number).len() <= 5,
            "level 6 has five above it"
        );
    }
    assert!(town.log().is_empty());
    assert_eq!(join(&mut town, 63), ["radix"]);
    assert_eq!(town.log(), ["tree: 3 children each for 64 members"]);
}

#[test]
fn who_hangs_elsewhere_is_told_to_move() {
    let mut town = town(Settings::default());
    for number in 1..4 {
        join(&mut town, number);
    }
    let mut report = |number: usize, parent: &str| {
        town.report(&ip(number), &format!("c{number}"), FILM, below(parent, 2))
    };
    // Its parent has no stream yet: so it is the radix.
    assert_eq!(report(3, "radix"), None);
    assert_eq!(report(1, "radix"), None);
    assert_eq!(report(3, "radix").as_deref(), Some("c1"));
    assert_eq!(report(3, "radix").as_deref(), Some("c1"), "until it has");
    assert_eq!(report(3, "c1"), None);
}

#[test]
fn nobody_is_told_to_move_to_whom_he_does_not_pay() {
    let mut town = town(Settings::default());
    for number in 1..4 {
        join(&mut town, number);
    }
    let report = |town: &mut Town, number: usize| {
        town.report(&ip(number), &format!("c{number}"), FILM, below("radix", 2))
    };
    report(&mut town, 1);
    town.allow(&["c2"]);
    assert_eq!(report(&mut town, 3), None);
    town.allow(&["c1"]);
    assert_eq!(report(&mut town, 3).as_deref(), Some("c1"));
}

#[test]
fn a_leaf_takes_the_place_of_a_clone_that_falls_silent() {
    let mut town = town(Settings::default());
    let parents = [
        (1, "radix"),
        (2, "radix"),
        (3, "c1"),
        (4, "c2"),
        (5, "c1"),
        (6, "c2"),
        (7, "c3"),
    ];
    for (number, parent) in parents {
        assert_eq!(join(&mut town, number)[0], parent);
    }
    // Clone 1 dies; the others go on reporting, its children from under the radix.
    let mut told = Vec::new();
    for _ in 0..5 {
        town.wait(1000);
        for (number, parent) in parents.into_iter().skip(1) {
            let parent = if parent == "c1" { "radix" } else { parent };
            let to = town.report(&ip(number), &format!("c{number}"), FILM, below(parent, 3));
            if let Some(to) = to.filter(|to| to != "c1") {
                told.push((number, to));
            }
        }
        town.report("10.9.0.1", "radix", FILM, role(Role::Source));
    }
    assert!(
        town.log()
            .contains(&"tree: c7 takes the place of c1".to_owned())
    );
    told.sort();
    told.dedup();
    let moves = [(3, "c7"), (5, "c7"), (7, "radix")];
    assert_eq!(told, moves.map(|(number, to)| (number, to.to_owned())));
}

#[test]
fn who_does_not_know_its_slots_yet_takes_children() {
    let mut town = Town::new(Box::new(Balanced::new(Settings::default())));
    let unknown = |role: Role| RequestExt {
        slots_free: None,
        ..super::super::testing::role(role)
    };
    town.join("10.9.0.1", "radix", FILM, unknown(Role::Source));
    for number in 1..8 {
        let answer = town.join(
            &ip(number),
            &format!("c{number}"),
            FILM,
            unknown(Role::Peer),
        );
        assert_eq!(refusal(&answer), None);
    }
    assert!(
        town.log().is_empty(),
        "no widening: 7 fit below a radix with two children"
    );
}

#[test]
fn a_full_tree_refuses_with_a_reason() {
    let mut town = Town::new(Box::new(Balanced::new(Settings::default())));
    let one = |base: RequestExt| RequestExt {
        slots_free: Some(1),
        ..base
    };
    town.join("10.9.0.1", "radix", FILM, one(role(Role::Source)));
    for number in 1..6 {
        let answer = town.join(
            &ip(number),
            &format!("c{number}"),
            FILM,
            one(role(Role::Peer)),
        );
        assert_eq!(refusal(&answer), None);
    }
    let answer = town.join(&ip(6), "c6", FILM, one(role(Role::Peer)));
    assert_eq!(refusal(&answer), Some((5, "the tree is full", 10)));
}

#[test]
fn room_that_is_told_counts_with_the_children_that_are_there() {
    let mut town = town(Settings::default());
    let two = |parent: &str, slots| RequestExt {
        slots_free: Some(slots),
        ..below(parent, 2)
    };
    let limited = RequestExt {
        slots_free: Some(2),
        ..role(Role::Peer)
    };
    town.join(&ip(1), "c1", FILM, limited);
    join(&mut town, 2);
    for number in 3..7 {
        join(&mut town, number);
    }
    // Both children of clone 1 are there, and it has no slot left: that is no reason to take them away.
    for _ in 0..20 {
        town.report(&ip(3), "c3", FILM, below("c1", 3));
        town.report(&ip(5), "c5", FILM, below("c1", 3));
        assert_eq!(town.report(&ip(1), "c1", FILM, two("radix", 0)), None);
    }
    assert_eq!(
        named(&town.find(&ip(3), "c3", FILM, below("c1", 3)))[0],
        "c1"
    );
    // It drops one and takes no other: after a while that one has another place.
    for _ in 0..6 {
        town.report(&ip(3), "c3", FILM, below("c1", 3));
        town.report(&ip(5), "c5", FILM, below("radix", 3));
        town.report(&ip(1), "c1", FILM, two("radix", 0));
    }
    let parents = [3, 5].map(|number| {
        let answer = town.find(&ip(number), &format!("c{number}"), FILM, below("c1", 3));
        named(&answer)[0].to_owned()
    });
    assert_eq!(
        parents.iter().filter(|parent| *parent == "c1").count(),
        1,
        "{parents:?}"
    );
}

#[test]
fn friends_of_few_are_parents_before_anybody_else() {
    let graph = Graph::from_toml("[friends]\nc9 = [\"c3\", \"c4\"]\nc4 = [\"c7\", \"c8\"]")
        .expect("a file");
    let mut town = town(Settings {
        graph,
        ..Settings::default()
    });
    for number in 1..7 {
        join(&mut town, number);
    }
    assert_eq!(join(&mut town, 9)[0], "c3", "it knows one, c4 three");
    assert_eq!(join(&mut town, 8)[0], "c4", "its only friend");
    for (text, word) in [
        ("[friends]\na = [\"a\"]", "own friend"),
        ("[friends]\na = 7", "sequence"),
        ("friends = []", "map"),
        ("[foes]\na = []", "foes"),
    ] {
        let error = Graph::from_toml(text).expect_err(text).to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn a_graph_that_is_read_again_counts_for_those_who_come() {
    let graph = |text| Graph::from_toml(text).expect("a file");
    let mut town = town(Settings {
        graph: graph("[friends]\nc9 = [\"c3\"]"),
        ..Settings::default()
    });
    for number in 1..7 {
        join(&mut town, number);
    }
    town.registry
        .placement_mut()
        .set_graph(graph("[friends]\nc9 = [\"c4\"]\nc8 = [\"c3\"]"));
    assert_eq!(join(&mut town, 9)[0], "c4");
    assert_eq!(join(&mut town, 8)[0], "c3");
    // Another placement has no use for it.
    let now = town.now();
    town.registry
        .placement_mut()
        .set_networks(now, Networks::default());
}

#[test]
fn a_star_hangs_on_the_radix() {
    let mut town = town(Settings {
        is_star: true,
        ..Settings::default()
    });
    for number in 1..20 {
        assert_eq!(join(&mut town, number), ["radix"]);
    }
}

#[test]
fn without_a_radix_there_is_a_list_and_with_it_a_tree_again() {
    let mut town = town(Settings::default());
    join(&mut town, 1);
    town.leave("10.9.0.1", "radix", FILM);
    assert_eq!(join(&mut town, 2), [""; 0]);
    town.source("10.9.0.1", "radix", FILM, 1000);
    for number in [1, 2] {
        town.report(&ip(number), &format!("c{number}"), FILM, role(Role::Peer));
        let answer = town.find(&ip(number), &format!("c{number}"), FILM, role(Role::Peer));
        assert_eq!(named(&answer), ["radix"]);
    }
}
