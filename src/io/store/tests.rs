//! Rows in and out, and a disk that is full for a while.

use std::sync::atomic::Ordering;

use super::pages::{PAGE_ROWS, Pages};
use super::*;
use crate::tracker::provider::change::Table;
use crate::tracker::provider::contract::key;

fn put(table: Table, key: &str, value: &str) -> Change {
    Change {
        table,
        key: key.to_owned(),
        value: Some(value.to_owned()),
    }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime")
        .block_on(future)
}

#[test]
fn rows_come_back_by_table_and_key() {
    let dir = tempfile::tempdir().unwrap();
    let url = StoreUrl::within(&dir.path().join("deep/down"));
    let (store, rows) = Store::open(&url).unwrap();
    assert_eq!(rows, []);
    wait(store.submit(vec![
        put(Table::Ledger, "0002", "two"),
        put(Table::Meta, "next", "1"),
        put(Table::Accounts, "eve", "{}"),
    ]))
    .unwrap();
    wait(store.submit(vec![
        put(Table::Ledger, "0001", "one"),
        put(Table::Meta, "next", "2"),
        Change {
            table: Table::Accounts,
            key: "eve".to_owned(),
            value: None,
        },
    ]))
    .unwrap();
    // Not waited for, but written before the file is closed.
    drop(store.submit(vec![put(Table::Users, "C1", "{}")]));
    store.close();
    assert_eq!(
        wait(store.submit(vec![put(Table::Users, "C2", "{}")])),
        Err(StoreError::NotStored("store is closed".to_owned()))
    );
    drop(store);
    let (_store, rows) = Store::open(&url).unwrap();
    assert_eq!(
        rows,
        [
            put(Table::Meta, "next", "2"),
            put(Table::Users, "C1", "{}"),
            put(Table::Ledger, "0001", "one"),
            put(Table::Ledger, "0002", "two"),
        ]
    );
}

/// All rows of a walk, and how many pages it took.
fn walk(url: &StoreUrl, table: Table) -> (Vec<(u64, String)>, usize) {
    let mut pages = Pages::open(url, table).unwrap();
    let mut all = Vec::new();
    for count in 0.. {
        let page = pages.next_page().unwrap();
        assert!(page.len() <= PAGE_ROWS);
        if page.is_empty() {
            return (all, count);
        }
        all.extend(page);
    }
    unreachable!("there is an end")
}

#[test]
fn long_tables_are_read_a_page_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("st");
    let url = StoreUrl::Redb(path.clone());
    let why = Pages::open(&url, Table::Ledger).unwrap_err().to_string();
    assert!(why.ends_with("no such file"), "{why}");
    assert!(!path.exists(), "looking makes nothing");
    let (store, _) = Store::open(&url).unwrap();
    let count = 2 * PAGE_ROWS as u64 + 3;
    let row = |no: u64| put(Table::Ledger, &key(no), &format!("entry {no}"));
    wait(store.submit((1..=count).map(row).collect())).unwrap();
    // Of a store that is in use, as far as it is on disk.
    let page = wait(store.page(Table::Ledger, PAGE_ROWS as u64)).unwrap();
    assert_eq!((page.len(), page[0].0), (PAGE_ROWS, PAGE_ROWS as u64 + 1));
    assert_eq!(wait(store.page(Table::Ledger, count)), Ok(Vec::new()));
    assert_eq!(wait(store.page(Table::Contracts, 0)), Ok(Vec::new()));
    store.close();
    assert!(wait(store.page(Table::Ledger, 0)).is_err());
    drop(store);
    let (all, pages) = walk(&url, Table::Ledger);
    assert_eq!(pages, 3);
    let expected = (1..=count).map(|no| (no, format!("entry {no}")));
    assert_eq!(all, expected.collect::<Vec<_>>());
    assert_eq!(walk(&url, Table::Contracts), (Vec::new(), 0));
    assert_eq!(walk(&StoreUrl::Memory, Table::Ledger), (Vec::new(), 0));
}

#[test]
fn memory_keeps_nothing() {
    let (store, _) = Store::open(&StoreUrl::Memory).unwrap();
    assert_eq!(
        wait(store.submit(vec![put(Table::Meta, "next", "1")])),
        Ok(())
    );
    assert_eq!(Store::open(&StoreUrl::Memory).unwrap().1, []);
}

#[test]
fn f27_rows_that_do_not_fit_are_kept_and_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("st");
    let rows = FileRows::open(&path).unwrap();
    let is_full = rows.is_full();
    let store = Store(Kind::File(Arc::new(Writer::start(rows).unwrap())));
    let put = |key: &str, value: &str| vec![put(Table::Contracts, key, value)];
    wait(store.submit(put("1", "a"))).unwrap();
    is_full.store(true, Ordering::Relaxed);
    for value in ["b", "c"] {
        let error = wait(store.submit(put("2", value))).unwrap_err();
        assert_eq!(error.to_string(), "not stored: no space left on device");
    }
    is_full.store(false, Ordering::Relaxed);
    wait(store.submit(put("3", "d"))).unwrap();
    drop(store);
    let (_, all) = Store::open(&StoreUrl::Redb(path)).unwrap();
    let all: Vec<_> = all.into_iter().filter_map(|row| row.value).collect();
    assert_eq!(all, ["a", "c", "d"]);
}
