//! Durable state against what machines do to it: processes killed at any moment, files cut, blanked and flipped.

#[path = "../redis/server.rs"]
mod redis_server;
mod shared;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use p2ps::io::store::{Store, StoreError, StoreUrl};
use p2ps::rng::{Rng, Seed};
use p2ps::tracker::provider::change::{Change, Table};

/// The file for a child that writes until it is killed.
const CHILD: &str = "P2PS_TEST_STORE";

/// Processes that are started inherit open files, and their locks, until they begin: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the row of a number holds: of different lengths, so that pages split at different places.
fn value(number: u64) -> String {
    format!("{number} {}", "x".repeat((number * 37 % 400) as usize))
}

/// A numbered row, and the count of them: both or none must be there.
fn numbered(number: u64) -> Vec<Change> {
    let row = |table, key: String, value| Change {
        table,
        key,
        value: Some(value),
    };
    vec![
        row(Table::Ledger, format!("{number:012}"), value(number)),
        row(Table::Meta, "count".to_owned(), number.to_string()),
    ]
}

/// How many numbered rows there are; they are the first ones, each once, and the count says so.
fn counted(rows: &[Change]) -> u64 {
    let ledger: Vec<&Change> = rows
        .iter()
        .filter(|row| row.table == Table::Ledger)
        .collect();
    for (number, row) in (1..).zip(&ledger) {
        assert_eq!(row.key, format!("{number:012}"));
        assert_eq!(row.value, Some(value(number)));
    }
    let count = rows.iter().find(|row| row.table == Table::Meta);
    let count = count.map_or("0", |row| row.value.as_deref().unwrap_or_default());
    assert_eq!(count, ledger.len().to_string());
    ledger.len() as u64
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime")
        .block_on(future)
}

fn open(path: &Path) -> Result<(Store, Vec<Change>), StoreError> {
    Store::open(&StoreUrl::Redb(path.to_owned()))
}

/// Goes on with the numbers, several at a time, and says each once it is stored.
fn write_until_killed(path: &Path) {
    let (store, rows) = open(path).expect("a store");
    let mut number = counted(&rows);
    let mut out = fs::OpenOptions::new()
        .write(true)
        .open("/dev/fd/3")
        .expect("somebody listens");
    loop {
        let group: Vec<_> = (0..=number % 7)
            .map(|_| {
                number += 1;
                (number, store.submit(numbered(number)))
            })
            .collect();
        for (number, stored) in group {
            wait(stored).expect("it is stored");
            writeln!(out, "{number}").expect("somebody listens");
        }
    }
}

#[test]
fn s_47_what_was_acknowledged_survives_kill_9() {
    const NAME: &str = "s_47_what_was_acknowledged_survives_kill_9";
    if let Some(path) = std::env::var_os(CHILD) {
        write_until_killed(Path::new(&path));
    }
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("st");
    let mut rng = Rng::new(Seed::from_number(47));
    let (mut before, mut acknowledged) = (0, 0);
    for round in 0..50 {
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$0\" --exact \"$1\" 3>&1 1>/dev/null"])
            .arg(std::env::current_exe().expect("this test"))
            .arg(NAME)
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh runs");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        // Killed in the middle of whatever it does after so many; in the first rounds while it makes the file.
        let enough = match round {
            0..5 => 0,
            _ => rng.next_u64() % 60,
        };
        for _ in 0..enough {
            let line = lines.next().expect("it goes on").expect("text");
            acknowledged = line.parse().expect("a number");
        }
        child.kill().expect("it runs");
        child.wait().expect("it ends");
        for line in lines {
            acknowledged = line.expect("text").parse().expect("a number");
        }
        let (store, rows) = open(&path).expect("it opens again");
        let found = counted(&rows);
        assert!(
            found >= acknowledged.max(before),
            "round {round}: {found} rows, {acknowledged} acknowledged, {before} before"
        );
        before = found;
        drop(store);
    }
    assert!(acknowledged > 500, "{acknowledged} rows in all rounds");
}

/// A file with numbered rows, written in many commits; `is_clean` closes it, else it is as a crash leaves it.
fn written(dir: &Path, is_clean: bool) -> (PathBuf, u64) {
    let path = dir.join("st");
    let (store, _) = open(&path).expect("a store");
    let count = 200;
    for number in 1..=count {
        wait(store.submit(numbered(number))).expect("it is stored");
    }
    let copy = dir.join(if is_clean { "clean" } else { "crashed" });
    if is_clean {
        store.close();
    }
    fs::copy(&path, &copy).expect("a copy");
    (copy, count)
}

/// Opens a file of these bytes: the rows that it gave, or why not.
fn opened(path: &Path, bytes: &[u8]) -> Result<u64, String> {
    for ending in ["", ".new", ".damaged"] {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        let _ = fs::remove_file(name);
    }
    let mut file = fs::OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::mode(&mut file, 0o600);
    let mut file = file
        .write(true)
        .create_new(true)
        .open(path)
        .expect("a file");
    file.write_all(bytes).expect("written");
    drop(file);
    match open(path) {
        Ok((store, rows)) => {
            let found = counted(&rows);
            // It goes on from there.
            wait(store.submit(numbered(found + 1))).expect("it is stored");
            drop(store);
            let (_store, rows) = open(path).expect("it opens again");
            assert_eq!(counted(&rows), found + 1);
            Ok(found)
        }
        Err(error) => {
            let line = error.to_string();
            assert!(
                line.starts_with("cannot read state ") && !line.contains('\n'),
                "{line}"
            );
            // Nothing was written over: what could not be read is there for somebody who can.
            assert_eq!(
                fs::metadata(path).expect("it is there").len(),
                bytes.len() as u64
            );
            Err(line)
        }
    }
}

/// Opens many damaged forms of a file; says how many of them gave all rows, some, and none.
fn tally(forms: impl Iterator<Item = Vec<u8>>, count: u64) -> [usize; 3] {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("damaged");
    let mut tally = [0; 3];
    for bytes in forms {
        match opened(&path, &bytes) {
            Ok(found) if found == count => tally[0] += 1,
            Ok(_) => tally[1] += 1,
            Err(_) => tally[2] += 1,
        }
    }
    tally
}

/// A page of redb.
const PAGE: usize = 4096;

#[test]
fn f19_damaged_files_give_a_prefix_or_one_line() {
    let _alone = alone();
    for is_clean in [true, false] {
        let dir = tempfile::tempdir().expect("a folder");
        let (path, count) = written(dir.path(), is_clean);
        let whole = fs::read(path).expect("read");
        assert_eq!(tally([whole.clone()].into_iter(), count), [1, 0, 0]);
        let cuts = (1..=64).map(|step| whole[..whole.len() - step * 512].to_vec());
        let [_, _, refused] = tally(cuts, count);
        assert!(refused > 0);
        let blanked = (0..whole.len()).step_by(PAGE).map(|at| {
            let mut bytes = whole.clone();
            bytes[at..at + PAGE].fill(0);
            bytes
        });
        let [all, some, refused] = tally(blanked, count);
        assert!(all > 0 && refused > 0, "pages in use and others");
        // Half a commit is as if it had not been; after a good end there is none.
        assert!(is_clean || some > 0);
        let mut rng = Rng::new(Seed::from_number(19));
        let mut flip = |range: usize| {
            let mut bytes = whole.clone();
            let at = (rng.next_u64() % range as u64) as usize;
            bytes[at] ^= 1 << (rng.next_u64() % 8);
            bytes
        };
        let header: Vec<_> = (0..150).map(|_| flip(320)).collect();
        let anywhere: Vec<_> = (0..100).map(|_| flip(whole.len())).collect();
        let [all, _, refused] = tally(header.into_iter().chain(anywhere), count);
        assert!(all > 0 && refused > 0);
    }
}
