//! Who gets which key, and when the next one is used.

use super::*;
use crate::rng::Seed;

mod shared;

const BEGIN: u64 = 1_795_262_400;
const RULES: Rules = Rules {
    rotation: Duration::from_secs(600),
    patience: Duration::from_secs(35),
    settling: Duration::ZERO,
};

/// The keys of one tracker, and the rows that it stored.
struct Desk {
    seals: Seals,
    rows: BTreeMap<String, String>,
}

impl Desk {
    fn new() -> Self {
        let mut seals = Seals::new(Ratchet::new(Seed::from_number(1)));
        seals.set_rules(RULES);
        Self {
            seals,
            rows: BTreeMap::new(),
        }
    }

    /// The same tracker after a restart, whose clock begins anew.
    fn restarted(self) -> Self {
        let mut seals = Seals::new(Ratchet::new(Seed::from_number(2)));
        seals.set_rules(RULES);
        for (key, value) in &self.rows {
            seals.load(key, value).expect("a row that it wrote");
        }
        seals.load("ticket", "another row").expect("passed over");
        Self { seals, ..self }
    }

    fn store(&mut self, changes: Vec<Change>) {
        for change in changes {
            assert_eq!(change.table, Table::Keys);
            match change.value {
                Some(value) => self.rows.insert(change.key, value),
                None => self.rows.remove(&change.key),
            };
        }
    }

    fn visit(&mut self, second: u64, reader: &Reader<'_>) -> Option<SealKeys> {
        let now = Instant::from_micros(second * 1_000_000);
        let (keys, changes) = self.seals.visit(now, BEGIN + second, "film", reader);
        self.store(changes);
        keys
    }

    /// What the source is to seal with, and the newest key.
    fn source(&mut self, second: u64, epoch: Option<EpochId>) -> (Option<EpochId>, EpochId) {
        let source = Reader {
            user: "studio",
            peer: "source",
            role: Role::Source,
            seals: true,
            epoch,
        };
        let keys = self.visit(second, &source).expect("a key for the source");
        (keys.seal_with, keys.newest().expect("one at least"))
    }

    /// The newest key that a viewer is given.
    fn viewer(&mut self, second: u64, user: &str, epoch: Option<EpochId>) -> Option<EpochId> {
        let viewer = Reader {
            user,
            peer: "viewer",
            role: Role::Peer,
            seals: false,
            epoch,
        };
        let keys = self.visit(second, &viewer)?;
        assert_eq!(keys.seal_with, None, "for the source alone");
        keys.newest()
    }

    fn revoke(&mut self, second: u64, user: &str) {
        let now = Instant::from_micros(second * 1_000_000);
        let changes = self.seals.revoke(now, BEGIN + second, user);
        self.store(changes);
    }
}

/// A channel with two viewers who have the first key.
fn watched() -> (Desk, EpochId) {
    let mut table = Desk::new();
    assert_eq!(table.viewer(0, "ann", None), None, "nothing is sealed yet");
    let (used, newest) = table.source(1, None);
    assert_eq!(used, Some(newest), "nobody has to be waited for");
    for user in ["ann", "bert"] {
        assert_eq!(table.viewer(2, user, None), Some(newest));
        assert_eq!(table.viewer(3, user, Some(newest)), Some(newest));
    }
    (table, newest)
}

#[test]
fn t_trib_4_a_relay_gets_no_key() {
    let (mut table, _) = watched();
    for seals in [false, true] {
        let relay = Reader {
            user: "rita",
            peer: "relay",
            role: Role::Relay,
            seals,
            epoch: None,
        };
        assert_eq!(table.visit(4, &relay), None);
    }
}

#[test]
fn a_new_key_is_used_once_all_viewers_have_it() {
    let (mut table, first) = watched();
    table.revoke(10, "bert");
    let (used, next) = table.source(11, Some(first));
    assert_eq!(used, Some(first), "ann does not have the next one yet");
    assert!(next > first);
    assert_eq!(table.viewer(12, "ann", Some(first)), Some(next));
    assert_eq!(
        table.source(13, Some(next)).0,
        Some(first),
        "it may be lost on its way"
    );
    table.viewer(14, "ann", Some(next));
    assert_eq!(table.source(15, Some(next)), (Some(next), next));
    assert_eq!(
        table.source(16, Some(next)),
        (Some(next), next),
        "and stays"
    );
    // Whoever comes now can read what was sealed before as well.
    let carl = Reader {
        user: "carl",
        peer: "viewer",
        role: Role::Peer,
        seals: false,
        epoch: None,
    };
    let keys = table.visit(17, &carl).expect("keys");
    let epochs: Vec<EpochId> = keys.keys.iter().map(|(epoch, _)| *epoch).collect();
    assert_eq!(epochs, [first, next]);
    assert_ne!(keys.keys[0].1, keys.keys[1].1);
}

#[test]
fn nobody_holds_a_change_up_for_ever() {
    let (mut table, first) = watched();
    table.revoke(10, "bert");
    // A viewer that reports and never has the key.
    for second in (11..45).step_by(5) {
        table.viewer(second, "ann", Some(first));
        assert_eq!(table.source(second, Some(first)).0, Some(first), "{second}");
    }
    let (used, newest) = table.source(45, Some(first));
    assert!(used == Some(newest) && newest > first);
    // One that is gone is not waited for: silence, or a goodbye.
    table.revoke(50, "nobody");
    table.viewer(50, "carl", None);
    table.seals.leave("film", "carl", "viewer");
    let next = table.viewer(51, "ann", Some(newest)).expect("a key");
    table.viewer(52, "ann", Some(next));
    assert_eq!(table.source(53, Some(next)).0, Some(next));
}

#[test]
fn who_is_shut_out_while_a_key_waits_does_not_keep_it() {
    let (mut table, first) = watched();
    table.revoke(10, "bert");
    let second = table.viewer(11, "ann", Some(first)).expect("a key");
    // She has the key that waits, and is shut out before it is used.
    table.revoke(12, "ann");
    let (used, newest) = table.source(13, Some(first));
    assert_eq!(used, Some(second), "nobody is left to wait for");
    assert!(newest > second);
    assert_eq!(table.source(14, Some(newest)), (Some(newest), newest));
}

#[test]
fn keys_change_with_time_and_old_ones_are_forgotten() {
    let (mut table, first) = watched();
    let mut held = first;
    for turn in 1..200 {
        let second = turn * 700;
        let (_, next) = table.source(second, Some(held));
        assert!(next > held, "turn {turn}");
        // The viewers are long gone.
        assert_eq!(table.source(second + 1, Some(next)).0, Some(next));
        held = next;
    }
    let sealed = &table.seals.channels["film"];
    assert_eq!(
        sealed.sequence.keys().count(),
        7,
        "an hour of old ones, and the one in use"
    );
    // Many in a row, as when many users are shut out one by one.
    for turn in 0..100 {
        table.revoke(150_000 + turn, "nobody");
        let (_, next) = table.source(150_000 + turn, Some(held));
        held = next;
    }
    let sealed = &table.seals.channels["film"];
    assert_eq!(sealed.sequence.keys().count(), KEYS_MAX - 1);
}

#[test]
fn keys_outlive_their_tracker() {
    let (mut table, first) = watched();
    table.revoke(10, "bert");
    let (_, next) = table.source(11, Some(first));
    let mut table = table.restarted();
    // The source goes on with what it had, and viewers come back one by one: until all had time to, no change.
    assert_eq!(table.source(1, Some(next)), (Some(first), next));
    table.viewer(2, "ann", Some(next));
    assert_eq!(table.source(74, Some(next)).0, Some(first));
    table.viewer(74, "ann", Some(next));
    assert_eq!(table.source(75, Some(next)).0, Some(next));
    // A tracker that lost its rows makes a key of its own, and does not use it before all viewers are back.
    table.rows.clear();
    let mut table = table.restarted();
    let (used, fresh) = table.source(1, Some(next));
    assert!(used.is_none() && fresh != next);
    assert_eq!(table.viewer(2, "ann", Some(next)), Some(fresh));
    table.viewer(74, "ann", Some(fresh));
    assert_eq!(table.source(75, Some(fresh)).0, None);
    assert_eq!(table.source(76, Some(fresh)).0, Some(fresh));
}

#[test]
fn a_channel_that_is_opened_forgets_its_keys() {
    let (mut table, first) = watched();
    assert_eq!(table.rows.len(), 1);
    let changes = table.seals.open("film");
    table.store(changes);
    assert!(table.rows.is_empty());
    assert_eq!(table.viewer(20, "ann", Some(first)), None);
    let (_, again) = table.source(21, None);
    assert!(again > first, "a number is never used for two keys");
}

#[test]
fn damaged_rows_are_refused() {
    let mut seals = Seals::new(Ratchet::new(Seed::from_number(1)));
    let key = "ab".repeat(32);
    for row in [
        String::new(),
        "{}".to_owned(),
        r#"{"used":[5,1],"again":false,"keys":[]}"#.to_owned(),
        r#"{"used":null,"again":false,"keys":[{"epoch":5,"key":"abc","ended":null}]}"#.to_owned(),
        format!(
            r#"{{"used":null,"again":false,"keys":[{{"epoch":{},"key":"{key}","ended":null}}]}}"#,
            u64::MAX
        ),
    ] {
        assert_eq!(
            seals.load("seal.film", &row),
            Err(OfficeError::Row),
            "{row}"
        );
    }
    let good = format!(
        r#"{{"used":[5,1],"again":true,"keys":[{{"epoch":5,"key":"{key}","ended":null}}]}}"#
    );
    assert_eq!(seals.load("seal.film", &good), Ok(()));
}

#[test]
fn viewers_beyond_the_limit_are_not_waited_for() {
    let (mut table, first) = watched();
    let sealed = table.seals.channels.get_mut("film").expect("sealed");
    let holder = Holder {
        epoch: Some(first),
        seen: Instant::from_micros(4_000_000),
    };
    for number in sealed.holders.len()..HOLDERS_MAX {
        sealed
            .holders
            .insert((number.to_string(), String::new()), holder);
    }
    assert_eq!(table.viewer(5, "carl", None), Some(first), "he is served");
    assert_eq!(table.seals.channels["film"].holders.len(), HOLDERS_MAX);
    // And forgotten when they are silent.
    table.source(60, Some(first));
    assert!(table.seals.channels["film"].holders.is_empty());
}
