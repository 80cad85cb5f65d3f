//! Two trackers that tell each other what they heard.

use std::time::Duration;

use super::*;
use crate::tracker::registry::Shared;

fn pair() -> (Registry, Registry) {
    let one = |seed| Registry::new(Config::default(), Seed::from_number(seed)).with_others();
    (one(1), one(2))
}

/// Carries what `from` has to tell to `to`, as it goes over the wire; gives how much it was.
fn tell(seconds: u64, from: &mut Registry, to: &mut Registry) -> usize {
    let mut count = 0;
    while let Some(shared) = from.poll_shared(at(seconds)) {
        let read = Shared::read(&shared.key(), &shared.value(), shared.ttl);
        assert_eq!(read.as_ref(), Some(&shared));
        assert!(to.on_shared(at(seconds), &shared), "{shared:?}");
        count += 1;
    }
    count
}

/// A source and a peer with the stream, both at `one`.
fn film(one: &mut Registry) {
    post(
        one,
        0,
        "192.0.2.1:40000",
        join("source", SWARM, "SEEDER", source("film")),
    );
    post(
        one,
        0,
        "192.0.2.2:40000",
        join("relay", SWARM, "LEECH", attached(2, 3)),
    );
}

#[test]
fn a_newcomer_sees_at_one_tracker_whom_the_other_knows() {
    let (mut one, mut other) = pair();
    film(&mut one);
    assert_eq!(tell(0, &mut one, &mut other), 2);
    // By name, and with everything that orders the list: the whole answer is the one that the first would give.
    let newcomer = || {
        let mut join = join("new", "", "LEECH", waiting());
        join["x_ext"]["channel"] = json!("film");
        join
    };
    let there = post(&mut other, 1, "192.0.2.3:40000", newcomer());
    assert_eq!(names(&there), ["source", "relay"]);
    assert_eq!(there["x_ext"]["channel"]["title"], "A film");
    let here = post(&mut one, 1, "192.0.2.3:40000", newcomer());
    assert_eq!(here["swarm_result"], there["swarm_result"]);
    assert_eq!(here["x_ext"], there["x_ext"]);
    // What was told is not told back, and what happened elsewhere is not counted here.
    let stats = other.stats();
    assert_eq!((stats.peers, stats.joins_total), (3, 1));
    assert_eq!(tell(1, &mut other, &mut one), 1);
    assert_eq!(
        one.channels().collect::<Vec<_>>(),
        other.channels().collect::<Vec<_>>()
    );
}

#[test]
fn who_gives_a_peer_a_share_is_not_sent_to_it_wherever_it_asks() {
    let (mut one, mut other) = pair();
    film(&mut one);
    let mut several = attached(2, 3);
    several["parents"] = json!([{ "peer": "source", "mask": 1 }, { "peer": "giver", "mask": 2 }]);
    let told = report("relay", SWARM, several);
    post(&mut one, 1, "192.0.2.2:40000", told);
    tell(1, &mut one, &mut other);
    for registry in [&mut one, &mut other] {
        for (peer, expected) in [("giver", &["source"][..]), ("new", &["source", "relay"])] {
            let newcomer = join(peer, SWARM, "LEECH", waiting());
            let answer = post(registry, 2, "192.0.2.3:40000", newcomer);
            assert_eq!(names(&answer), expected);
        }
    }
}

#[test]
fn a_peer_goes_on_at_another_tracker_as_if_nothing_had_happened() {
    let (mut one, mut other) = pair();
    film(&mut one);
    tell(0, &mut one, &mut other);
    drop(one);
    let answer = post(
        &mut other,
        20,
        "192.0.2.2:41000",
        report("relay", SWARM, attached(2, 9)),
    );
    assert_eq!(code(&answer), 0);
    // Whoever spoke here is kept; the source was silent for too long, and its name is free.
    other.handle_timeout(at(36));
    assert_eq!((other.stats().peers, other.stats().channels), (1, 0));
    assert_eq!(
        other.stats().expired_total,
        0,
        "heard elsewhere, counted there"
    );
    other.handle_timeout(at(56));
    assert_eq!((other.stats().peers, other.stats().expired_total), (0, 1));
}

#[test]
fn who_leaves_one_tracker_left_both_and_the_dead_expire_at_both() {
    let (mut one, mut other) = pair();
    film(&mut one);
    tell(0, &mut one, &mut other);
    // At the other one, which knows the relay by hearsay alone.
    post(&mut other, 10, "192.0.2.2:40000", leave("relay", SWARM));
    assert_eq!(other.stats().peers, 1);
    assert_eq!(tell(10, &mut other, &mut one), 1);
    assert_eq!(one.stats().peers, 1);
    assert_eq!(tell(10, &mut one, &mut other), 0, "nothing echoes");
    for tracker in [&mut one, &mut other] {
        tracker.handle_timeout(at(36));
        assert_eq!((tracker.stats().peers, tracker.stats().swarms), (0, 0));
    }
    assert_eq!(tell(36, &mut one, &mut other), 0, "silence needs no word");
}

#[test]
fn the_newest_word_replaces_all_that_was_known() {
    let (mut one, mut other) = pair();
    film(&mut one);
    tell(0, &mut one, &mut other);
    post(
        &mut one,
        1,
        "192.0.2.2:40000",
        join("relay", "22", "LEECH", attached(3, 1)),
    );
    post(&mut one, 1, "192.0.2.2:40000", leave("relay", SWARM));
    // Several requests since the last time are one word.
    assert_eq!(tell(1, &mut one, &mut other), 1);
    let list = |registry: &mut Registry, swarm: &str| {
        let answer = post(
            registry,
            2,
            "192.0.2.9:1",
            join("new", swarm, "LEECH", waiting()),
        );
        names(&answer).join(" ")
    };
    assert_eq!(list(&mut other, "22"), "relay");
    assert_eq!(list(&mut other, SWARM), "source");
}

#[test]
fn everything_heard_here_is_told_again_when_the_others_may_have_lost_it() {
    let (mut one, mut other) = pair();
    film(&mut one);
    let by_other = join("elsewhere", SWARM, "LEECH", attached(2, 1));
    post(&mut other, 0, "192.0.2.4:40000", by_other);
    tell(0, &mut one, &mut other);
    tell(0, &mut other, &mut one);
    let mut third = pair().0;
    one.share_again();
    assert_eq!(tell(10, &mut one, &mut third), 2, "the others tell theirs");
    // For as long as it holds, not longer.
    third.handle_timeout(at(34));
    assert_eq!(third.stats().peers, 2);
    third.handle_timeout(at(35));
    assert_eq!(third.stats().peers, 0);
}

#[test]
fn hearsay_is_what_nobody_said_here_since() {
    let (mut one, mut other) = pair();
    film(&mut one);
    tell(0, &mut one, &mut other);
    let relay = |registry: &Registry| registry.is_from_others("relay", addr("192.0.2.2:1").ip());
    assert!(!relay(&one) && relay(&other));
    one.take_for_hearsay();
    assert!(relay(&one));
    assert_eq!(tell(1, &mut one, &mut other), 0);
    let there = report("relay", SWARM, attached(2, 3));
    assert_eq!(code(&post(&mut one, 2, "192.0.2.2:40000", there)), 0);
    assert!(!relay(&one));
    assert_eq!(tell(2, &mut one, &mut other), 1);
}

#[test]
fn a_name_that_another_key_holds_here_stays_with_it() {
    let (mut one, mut other) = pair();
    film(&mut one);
    post(
        &mut other,
        0,
        "192.0.2.7:1",
        join("rival", "22", "SEEDER", source("film")),
    );
    // Both were first at their tracker; neither loses the name, and both are members of their swarms.
    tell(0, &mut one, &mut other);
    let swarm_of = |registry: &Registry| {
        registry
            .channel("film")
            .map(|channel| channel.info.swarm_id)
    };
    assert_eq!(swarm_of(&one).as_deref(), Some(SWARM));
    assert_eq!(swarm_of(&other).as_deref(), Some("22"));
    let answer = post(
        &mut other,
        1,
        "192.0.2.9:1",
        join("new", SWARM, "LEECH", waiting()),
    );
    assert_eq!(names(&answer), ["source", "relay"]);
}

#[test]
fn what_makes_no_sense_is_not_taken() {
    let (mut one, mut other) = pair();
    film(&mut one);
    let told = one.poll_shared(at(0)).expect("there is news");
    let with = |change: &dyn Fn(&mut Shared)| {
        let mut shared = told.clone();
        change(&mut shared);
        shared
    };
    for strange in [
        with(&|shared| shared.joins = vec!["{}".to_owned()]),
        with(&|shared| shared.joins = vec![shared.joins[0].replace("JOIN", "LEAVE")]),
        with(&|shared| shared.peer_id = "somebody else".into()),
        with(&|shared| shared.joins = vec![shared.joins[0].replace(SWARM, "")]),
        with(&|shared| shared.joins.push("[".repeat(100_000))),
    ] {
        assert!(!other.on_shared(at(0), &strange), "{strange:?}");
        assert_eq!(other.stats().peers, 0);
    }
    for (key, value) in [("", ""), ("192.0.2.1", ""), ("here source", "")] {
        assert_eq!(Shared::read(key, value, Duration::ZERO), None, "{key}");
    }
    // No word holds for ever, and nothing needs more room than there is.
    let mut small = limited(|limits| limits.peers = 1).with_others();
    assert!(small.on_shared(at(0), &with(&|shared| shared.ttl = Duration::MAX)));
    assert!(!small.on_shared(
        at(0),
        &with(&|shared| shared.from = addr("192.0.2.77:1").ip())
    ));
    small.handle_timeout(at(3601));
    assert_eq!(small.stats().peers, 0);
}

#[test]
fn whoever_leaves_here_is_gone_there_although_others_had_the_last_word_about_him() {
    let (mut one, mut other) = pair();
    film(&mut one);
    let mut told = Vec::new();
    while let Some(shared) = one.poll_shared(at(0)) {
        assert!(other.on_shared(at(0), &shared));
        told.push(shared);
    }
    // After the store was away, its old keys are read again: also what this tracker had told itself.
    for shared in &told {
        assert!(one.on_shared(at(1), shared));
    }
    post(&mut one, 2, "192.0.2.2:40000", leave("relay", SWARM));
    assert_eq!(tell(2, &mut one, &mut other), 1);
    assert_eq!(other.stats().peers, 1);
    // And who says goodbye to a tracker that he never spoke to.
    post(&mut other, 3, "192.0.2.1:40000", leave("source", SWARM));
    assert_eq!(tell(3, &mut other, &mut one), 1);
    assert_eq!(one.stats().peers, 0);
}
