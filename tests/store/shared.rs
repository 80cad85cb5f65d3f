//! Rows in a Redis that several trackers share: who may write them, and what a Redis that dies does to them.

use std::sync::mpsc;

use p2ps::io::store::pages::{PAGE_ROWS, Pages};
use p2ps::io::store::shared::lease::Turn;
use p2ps::io::store::{Store, StoreError, StoreUrl};
use p2ps::tracker::provider::change::{Change, Table};

use super::redis_server::Redis;
use super::wait;

fn put(table: Table, key: &str, value: &str) -> Change {
    Change {
        table,
        key: key.to_owned(),
        value: Some(value.to_owned()),
    }
}

fn url(redis: &Redis) -> StoreUrl {
    redis.url().parse().expect("an address")
}

fn open(redis: &Redis) -> (Store, Vec<Change>) {
    Store::open(&url(redis)).expect("a store")
}

/// What another connection sees.
fn ask(redis: &Redis, words: &[&str]) -> redis::Value {
    let client = redis::Client::open(redis.url()).expect("an address");
    let mut connection = client.get_connection().expect("a connection");
    let mut command = redis::cmd(words[0]);
    for word in &words[1..] {
        command.arg(*word);
    }
    command.query(&mut connection).expect("an answer")
}

/// Begins to ask for a turn; gives what it is told.
fn turns(
    store: &Store,
    node: &str,
) -> (
    Option<p2ps::io::store::shared::lease::Lease>,
    mpsc::Receiver<Turn>,
) {
    let (told, turns) = mpsc::channel();
    let lease = store.take_turns(node, &format!("{node}.example:7851"), move |turn| {
        let _ = told.send(turn);
    });
    (lease.expect("a thread"), turns)
}

#[test]
fn a_long_ledger_is_read_a_page_at_a_time() {
    let Some(redis) = Redis::start("a_long_ledger_is_read_a_page_at_a_time") else {
        return;
    };
    let (store, _) = open(&redis);
    let (lease, turns) = turns(&store, "one");
    assert_eq!(turns.recv(), Ok(Turn::Ours(Vec::new())));
    let count = PAGE_ROWS as u64 + 2;
    let row = |no: u64| put(Table::Ledger, &format!("{no:020}"), &format!("entry {no}"));
    wait(store.submit((1..=count).map(row).collect())).expect("it sells");
    let mut pages = Pages::open(&url(&redis), Table::Ledger).expect("a store");
    for numbers in [1..=PAGE_ROWS as u64, PAGE_ROWS as u64 + 1..=count] {
        let expected = numbers.map(|no| (no, format!("entry {no}")));
        let page = pages.next_page().expect("a page");
        assert_eq!(page, expected.collect::<Vec<_>>());
    }
    assert_eq!(pages.next_page(), Ok(Vec::new()));
    let mut contracts = Pages::open(&url(&redis), Table::Contracts).expect("a store");
    assert_eq!(contracts.next_page(), Ok(Vec::new()));
    drop(lease);
}

#[test]
fn rows_of_all_trackers_come_back_by_table_and_key() {
    let Some(redis) = Redis::start("rows_of_all_trackers_come_back_by_table_and_key") else {
        return;
    };
    let ((one, rows), (other, _)) = (open(&redis), open(&redis));
    assert_eq!(rows, []);
    let many: Vec<Change> = (0..2500)
        .map(|number| {
            put(
                Table::Accounts,
                &format!("user {number:04}"),
                "{\"é\": \"\\n\"}",
            )
        })
        .collect();
    wait(one.submit(many.clone())).expect("stored");
    wait(other.submit(vec![
        put(Table::Revocations, "eve", "{}"),
        put(Table::Meta, "closed.film", "true"),
        Change {
            value: None,
            ..many[7].clone()
        },
    ]))
    .expect("stored");
    drop((one, other));
    let (_store, rows) = open(&redis);
    let mut expected = vec![put(Table::Meta, "closed.film", "true")];
    expected.extend(many.into_iter().filter(|row| row.key != "user 0007"));
    expected.push(put(Table::Revocations, "eve", "{}"));
    assert_eq!(rows, expected);
}

#[test]
fn the_first_key_is_the_key_of_all() {
    let Some(redis) = Redis::start("the_first_key_is_the_key_of_all") else {
        return;
    };
    let ((one, _), (other, _)) = (open(&redis), open(&redis));
    let claim = |store: &Store, value: &str| {
        let (found, left) = store
            .claim(put(Table::Keys, "ticket", value))
            .expect("an answer");
        assert_eq!(left, None, "nothing is left to be stored");
        found
    };
    assert_eq!(claim(&one, "mine"), None);
    assert_eq!(claim(&other, "mine too").as_deref(), Some("mine"));
    assert_eq!(claim(&one, "mine"), None, "the same again is no conflict");
}

#[test]
fn what_all_agree_on_changes_one_step_at_a_time() {
    let Some(mut redis) = Redis::start("what_all_agree_on_changes_one_step_at_a_time") else {
        return;
    };
    let ((one, _), (other, _)) = (open(&redis), open(&redis));
    let row = |revision: u64, by: &str| {
        let value = format!("{{\"revision\":{revision},\"by\":\"{by}\"}}");
        put(Table::Keys, "seal.film", &value)
    };
    let none = Change {
        value: None,
        ..row(0, "")
    };
    assert_eq!(one.agree(row(1, "one")), Ok(row(1, "one")));
    assert_eq!(other.agree(row(1, "other")), Ok(row(1, "one")), "too late");
    assert_eq!(other.agree(row(2, "other")), Ok(row(2, "other")));
    // Of an order that rests on what is past nothing is done.
    let order = |revision| vec![put(Table::Accounts, "ann", "{}"), row(revision, "order")];
    assert_eq!(wait(one.submit(order(2))), Err(StoreError::Changed));
    assert_eq!(open(&redis).1, [row(2, "other")]);
    wait(one.submit(order(3))).expect("the next");
    assert_eq!(other.agree(row(3, "other")), Ok(row(3, "order")));
    wait(one.submit(vec![none.clone()])).expect("removed");
    assert_eq!(one.agree(row(4, "one")), Ok(none.clone()), "it begins anew");
    // What says nothing of revisions has none.
    for strange in ["{}", "[]", "null", "x", ""] {
        ask(&redis, &["HSET", "p2ps:table:keys", "seal.film", strange]);
        assert_eq!(one.agree(row(1, "one")), Ok(row(1, "one")), "{strange}");
    }
    redis.kill();
    let error = one.agree(row(2, "one")).expect_err("nobody to ask");
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
}

#[test]
fn only_the_one_who_sells_writes_what_is_sold() {
    let Some(redis) = Redis::start("only_the_one_who_sells_writes_what_is_sold") else {
        return;
    };
    let ((one, _), (other, _)) = (open(&redis), open(&redis));
    let contract = |key: &str| {
        vec![
            put(Table::Contracts, key, "{}"),
            put(Table::Meta, "next_client", key),
        ]
    };
    assert_eq!(
        wait(one.submit(contract("1"))),
        Err(StoreError::NotSelling),
        "nobody sells yet"
    );
    let (lease, ours) = turns(&one, "one");
    assert_eq!(ours.recv(), Ok(Turn::Ours(vec![])));
    wait(one.submit(contract("1"))).expect("its turn");
    let (waiting, theirs) = turns(&other, "other");
    assert_eq!(
        theirs.recv(),
        Ok(Turn::Another("one.example:7851".to_owned()))
    );
    assert_eq!(
        wait(other.submit(contract("2"))),
        Err(StoreError::NotSelling)
    );
    // Who leaves hands over, with every row.
    drop(lease);
    assert_eq!(
        theirs.recv(),
        Ok(Turn::Ours(contract("1").into_iter().rev().collect()))
    );
    wait(other.submit(contract("2"))).expect("its turn");
    // The first was asleep, and has not heard of it.
    assert_eq!(wait(one.submit(contract("3"))), Err(StoreError::NotSelling));
    wait(one.submit(vec![put(Table::Accounts, "ann", "{}")])).expect("anybody's");
    drop(waiting);
    let (_store, rows) = open(&redis);
    let keys: Vec<&str> = rows.iter().map(|row| row.key.as_str()).collect();
    assert_eq!(keys, ["next_client", "ann", "1", "2"]);
}

#[test]
fn a_seller_that_was_silent_goes_on_only_if_nobody_else_began() {
    let Some(mut redis) =
        Redis::start("a_seller_that_was_silent_goes_on_only_if_nobody_else_began")
    else {
        return;
    };
    let (store, _) = open(&redis);
    let (_lease, turns) = turns(&store, "one");
    assert_eq!(turns.recv(), Ok(Turn::Ours(vec![])));
    let contract = |key: &str| vec![put(Table::Contracts, key, "{}")];
    redis.kill();
    let error = wait(store.submit(contract("1"))).expect_err("nobody to write it");
    assert!(matches!(error, StoreError::NotStored(_)), "{error}");
    assert!(redis.begin());
    // What could not be written is, with the next; it has sold all the time.
    wait(store.submit(contract("2"))).expect("stored");
    ask(&redis, &["DEL", "p2ps:seller"]);
    wait(store.submit(contract("3"))).expect("nobody else began");
    // Another one begins.
    ask(&redis, &["SET", "p2ps:seller", "other other.example:7851"]);
    ask(&redis, &["INCR", "p2ps:term"]);
    assert_eq!(
        wait(store.submit(contract("4"))),
        Err(StoreError::NotSelling)
    );
    assert_eq!(
        turns.recv(),
        Ok(Turn::Another("other.example:7851".to_owned()))
    );
    // And ends: what it left is what counts.
    ask(&redis, &["HDEL", "p2ps:table:contracts", "2"]);
    ask(&redis, &["DEL", "p2ps:seller"]);
    let rows = [contract("1"), contract("3")].concat();
    assert_eq!(turns.recv(), Ok(Turn::Ours(rows)));
    wait(store.submit(contract("5"))).expect("its turn again");
}

#[test]
fn stores_that_cannot_be_used_are_named_and_left_alone() {
    let test = "stores_that_cannot_be_used_are_named_and_left_alone";
    let Some(redis) = Redis::start(test) else {
        return;
    };
    let place = redis.url();
    let refusal = || {
        Store::open(&url(&redis))
            .map(drop)
            .expect_err("no store")
            .to_string()
    };
    ask(&redis, &["HSET", "p2ps", "version", "9"]);
    let newer = format!("cannot read state \"{place}\": version 9, this tool knows 1");
    assert_eq!(refusal(), newer);
    ask(&redis, &["SET", "p2ps", "something else"]);
    let foreign = format!("cannot use store \"{place}\": its keys p2ps… are somebody else's");
    assert_eq!(refusal(), foreign);
    assert_eq!(ask(&redis, &["DBSIZE"]), redis::Value::Int(1));
}
