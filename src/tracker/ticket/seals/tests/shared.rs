//! Several trackers with one store: one sequence of keys, whoever is asked and whoever changes it.

use super::*;

/// A store as trackers share it: it takes the next row after the one it has, and no other.
#[derive(Default)]
struct Store {
    row: Option<String>,
    is_away: bool,
}

fn revision(row: Option<&str>) -> u64 {
    let row = row.map(|text| serde_json::from_str::<serde_json::Value>(text).expect("JSON"));
    row.map_or(0, |row| row["revision"].as_u64().expect("a number"))
}

impl Store {
    /// What is there after a change was asked for.
    fn agree(&mut self, change: &Change) -> Option<Change> {
        if self.is_away {
            return None;
        }
        if revision(self.row.as_deref()) + 1 == revision(change.value.as_deref()) {
            self.row.clone_from(&change.value);
        }
        Some(Change {
            value: self.row.clone(),
            ..change.clone()
        })
    }
}

struct Tracker(Seals);

fn at(second: u64) -> Instant {
    Instant::from_micros(second * 1_000_000)
}

impl Tracker {
    fn new(seed: u64) -> Self {
        let mut seals = Seals::new(Ratchet::new(Seed::from_number(seed)));
        seals.set_rules(Rules {
            patience: RETURN_SPAN,
            settling: HEARSAY_SPAN,
            ..RULES
        });
        seals.set_shared();
        Self(seals)
    }

    /// One that starts with what is stored.
    fn started(seed: u64, store: &Store) -> Self {
        let mut tracker = Self::new(seed);
        let row = store.row.as_deref().expect("a row");
        tracker.0.load("seal.film", row).expect("a row of ours");
        tracker
    }

    /// Hears what the store holds.
    fn hear(&mut self, second: u64, store: &Store) {
        let taken = self.0.take(at(second), "seal.film", store.row.as_deref());
        taken.expect("a row of ours");
    }

    fn propose(&mut self, second: u64, epoch: Option<EpochId>) -> bool {
        self.0
            .propose(at(second), BEGIN + second, "film", &source(epoch))
    }

    fn settle(&mut self, second: u64, change: &Change, store: &mut Store) {
        let found = store.agree(change);
        let taken = self.0.agreed(at(second), &change.key, found.as_ref());
        taken.expect("a row of ours");
    }

    /// Answers the source: what it is to seal with, and the newest key.
    fn source(
        &mut self,
        second: u64,
        store: &mut Store,
        epoch: Option<EpochId>,
    ) -> (Option<EpochId>, Option<EpochId>) {
        while self.propose(second, epoch) {
            let change = self.0.poll_proposal().expect("what is asked of the store");
            self.settle(second, &change, store);
        }
        let (keys, changes) = self
            .0
            .visit(at(second), BEGIN + second, "film", &source(epoch));
        assert_eq!(changes, [], "nothing but what was agreed on");
        let keys = keys.unwrap_or_default();
        (keys.seal_with, keys.newest())
    }

    fn viewer(&mut self, second: u64, user: &str, epoch: Option<EpochId>) -> Option<EpochId> {
        let viewer = Reader {
            user,
            peer: "viewer",
            role: Role::Peer,
            seals: false,
            epoch,
        };
        let (keys, _) = self.0.visit(at(second), BEGIN + second, "film", &viewer);
        keys?.newest()
    }
}

const fn source(epoch: Option<EpochId>) -> Reader<'static> {
    Reader {
        user: "studio",
        peer: "source",
        role: Role::Source,
        seals: true,
        epoch,
    }
}

/// What the operator's tool does while trackers run.
fn revoke(second: u64, store: &mut Store, user: &str) {
    let mut order = Tracker::started(9, store);
    let changes = order.0.revoke(at(second), BEGIN + second, user);
    let [change] = &changes[..] else {
        panic!("one channel: {changes:?}")
    };
    let found = store.agree(change);
    assert_eq!(found.as_ref(), Some(change), "nobody else was first");
}

/// A source at one tracker, a viewer at the other, and the key that both have.
fn sealed() -> (Store, Tracker, Tracker, EpochId) {
    let (mut store, mut one, mut other) = (Store::default(), Tracker::new(1), Tracker::new(2));
    let (used, first) = one.source(0, &mut store, None);
    assert_eq!(used, first, "nobody has to be waited for");
    let first = first.expect("a key");
    other.hear(0, &store);
    assert_eq!(other.viewer(1, "ann", None), Some(first));
    other.viewer(2, "ann", Some(first));
    one.0.note(at(2), "film", "ann", "viewer", Some(first));
    (store, one, other, first)
}

#[test]
fn a_change_waits_for_the_viewers_of_all_trackers() {
    let (mut store, mut one, mut other, first) = sealed();
    revoke(10, &mut store, "bert");
    one.hear(10, &store);
    other.hear(10, &store);
    let (used, next) = one.source(12, &mut store, Some(first));
    assert!(used == Some(first) && next > Some(first));
    // She hears of it where she asks, and says so there.
    assert_eq!(other.viewer(13, "ann", Some(first)), next);
    other.viewer(14, "ann", next);
    assert_eq!(
        one.source(14, &mut store, next).0,
        Some(first),
        "not told yet"
    );
    one.0.note(at(14), "film", "ann", "viewer", next);
    assert_eq!(one.source(15, &mut store, next), (next, next));
    // The source is told the same by whomever it asks.
    other.hear(15, &store);
    assert_eq!(other.source(15, &mut store, next), (next, next));
}

#[test]
fn two_that_change_at_once_end_with_one_key() {
    let (mut store, mut one, mut other, first) = sealed();
    for turn in 1..50 {
        let second = turn * 1000;
        for tracker in [&mut one, &mut other] {
            assert!(tracker.propose(second, Some(first)));
            assert!(tracker.propose(second, Some(first)), "one at a time");
        }
        let changes = [&mut one, &mut other].map(|it| it.0.poll_proposal().expect("a change"));
        assert_ne!(changes[0], changes[1]);
        let before = store.row.clone();
        // Now this one is first, now that one.
        let order = if turn % 2 == 0 { [0, 1] } else { [1, 0] };
        for which in order {
            let tracker = if which == 0 { &mut one } else { &mut other };
            tracker.settle(second, &changes[which], &mut store);
        }
        assert_eq!(store.row, changes[order[0]].value, "the first is taken");
        assert_ne!(store.row, before);
        let newest = [&mut one, &mut other].map(|it| it.viewer(second, "carl", None));
        assert_eq!(newest[0], newest[1], "and the other has it too");
        assert!(one.0.poll_proposal().is_none() && other.0.poll_proposal().is_none());
        // Used at both, once all had time.
        let late = second + 100;
        let used = one.source(late, &mut store, newest[0]).0;
        other.hear(late, &store);
        assert_eq!(
            (used, other.source(late, &mut store, newest[0]).0),
            (newest[0], used)
        );
    }
}

#[test]
fn a_tracker_that_cannot_reach_the_store_changes_nothing_and_catches_up() {
    let (mut store, mut one, mut other, first) = sealed();
    store.is_away = true;
    assert_eq!(
        one.source(700, &mut store, Some(first)),
        (Some(first), Some(first))
    );
    assert!(!one.propose(701, Some(first)), "left alone for a moment");
    // A revocation, and a change of it, of which this one does not hear.
    store.is_away = false;
    revoke(702, &mut store, "bert");
    other.hear(702, &store);
    let next = other.viewer(703, "ann", Some(first));
    other.viewer(704, "ann", next);
    let (used, newest) = other.source(705, &mut store, Some(first));
    assert_eq!((used, newest), (next, next));
    // What it would change is not the next of what is there: it takes that instead.
    assert_eq!(one.source(706, &mut store, Some(first)), (next, next));
    // And with everything when it listens again.
    revoke(710, &mut store, "carl");
    let row = Change {
        table: Table::Keys,
        key: "seal.film".to_owned(),
        value: store.row.clone(),
    };
    let ticket = Change {
        key: "ticket".to_owned(),
        value: Some("another row".to_owned()),
        ..row.clone()
    };
    let rows = [ticket, row];
    for tracker in [&mut one, &mut other] {
        tracker.0.take_all(at(711), &rows).expect("rows of ours");
    }
    assert_eq!(one.viewer(711, "ann", next), other.viewer(711, "ann", next));
    assert!(one.viewer(712, "ann", next) > next);
    // Nothing is sealed there any more.
    one.0.take_all(at(713), &rows[..1]).expect("none of ours");
    assert_eq!(one.viewer(713, "ann", next), None);
}

#[test]
fn viewers_of_a_tracker_that_died_have_time_to_come_back() {
    let (mut store, mut one, other, first) = sealed();
    drop(other);
    revoke(10, &mut store, "bert");
    one.hear(10, &store);
    let first = Some(first);
    for second in (11..70).step_by(2) {
        assert_eq!(one.source(second, &mut store, first).0, first, "{second}");
    }
    // She came, and has it.
    let next = one.viewer(70, "ann", first);
    assert_eq!(one.source(71, &mut store, first).0, first);
    one.viewer(72, "ann", next);
    assert_eq!(one.source(73, &mut store, first).0, next);
    // Who never comes is not waited for any longer.
    revoke(100, &mut store, "carl");
    one.hear(100, &store);
    assert_eq!(one.source(146, &mut store, next).0, next);
    assert!(one.source(147, &mut store, next).0 > next);
}

#[test]
fn what_others_heard_has_time_to_come() {
    let (mut store, mut one, mut other) = (Store::default(), Tracker::new(1), Tracker::new(2));
    let (first, _) = one.source(0, &mut store, None);
    other.hear(0, &store);
    revoke(10, &mut store, "bert");
    one.hear(10, &store);
    other.hear(10, &store);
    // Of a viewer who has just come there nothing is known here.
    assert_eq!(one.source(10, &mut store, first).0, first);
    other.viewer(10, "ann", first);
    one.0.note(at(10), "film", "ann", "viewer", first);
    assert_eq!(one.source(12, &mut store, first).0, first);
    // Users who are shut out are not waited for, whoever tells of them.
    one.0.retain_users(|user| user != "ann");
    assert!(one.source(12, &mut store, first).0 > first);
}

#[test]
fn one_channel_is_asked_about_once_at_a_time() {
    let mut tracker = Tracker::new(1);
    assert!(tracker.propose(0, None) && tracker.propose(0, None));
    let change = tracker.0.poll_proposal().expect("one");
    assert_eq!(tracker.0.poll_proposal(), None);
    // While nothing is agreed on nobody is given anything.
    assert_eq!(tracker.viewer(0, "ann", None), None);
    let failed = tracker.0.agreed(at(1), &change.key, None);
    assert_eq!(failed, Ok(()));
    assert!(!tracker.propose(2, None));
    assert!(tracker.propose(3, None));
    // A row that makes no sense stays where it is.
    let change = tracker.0.poll_proposal().expect("another");
    let damaged = Change {
        value: Some("{}".to_owned()),
        ..change
    };
    let taken = tracker.0.agreed(at(3), &damaged.key, Some(&damaged));
    assert_eq!(taken, Err(OfficeError::Row));
    assert!(!tracker.propose(4, None));
}
