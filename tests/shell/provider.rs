//! A tracker that sells, with real programs: tables from a store, sellers that die, trackers that are killed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use p2ps::integrity::key::SigningKey;
use p2ps::io::store::Store;
use p2ps::rng::{Rng, Seed};
use p2ps::tracker::message::{
    Action, Body, Connect, PeerMode, Request, RequestExt, Role, SwarmAction,
};
use p2ps::tracker::provider::change::{Change, Table};
use p2ps::tracker::provider::tariff;
use p2ps::wire::ChannelDescription;
use serde_json::{Value, json};

use crate::faults::played_as_well_as;
use crate::harness::{Place, Running, assert_same, program};
use crate::media::{SLICE_BYTES, slices};

/// The status table of the paper: identifier, status, Mbit/s, ms, jitter.
const PAPER: [(&str, &str, f64, f64, f64); 6] = [
    ("C1", "c", 25.0, 20.0, 0.04),
    ("C9", "c-c", 11.0, 60.0, 1.32),
    ("C5", "c-p", 5.0, 90.0, 2.78),
    ("C2", "c-c,p", 4.0, 80.0, 2.34),
    ("C10", "p", 2.0, 90.0, 3.03),
    ("C12", "p-p", 1.0, 110.0, 3.44),
];

/// A tracker with the example tariff, on a store of the test's.
fn tracker(place: &Place, name: &str) -> Running {
    tracker_at(place, name, "127.0.0.1:0")
}

fn tracker_at(place: &Place, name: &str, listen: &str) -> Running {
    let path = place.path("tariff.toml");
    std::fs::write(&path, tariff::EXAMPLE).expect("a tariff");
    let store = format!("redb:{}", place.arg("tracker.redb"));
    place
        .at("p2ps-tracker", name, listen)
        .args(["--tariff", &place.arg("tariff.toml"), "--store", &store])
        .start()
}

/// One request on a connection of its own; none when the tracker died meanwhile.
pub(crate) fn ask(to: &str, head: &str, body: &str) -> Option<(u16, Value)> {
    let mut stream = TcpStream::connect(to).ok()?;
    let request = format!(
        "{head} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, serde_json::from_str(body).ok()?))
}

pub(crate) fn get(to: &str, path: &str) -> Value {
    let (status, body) = ask(to, &format!("GET {path}"), "").expect("an answer");
    assert_eq!(status, 200, "{body}");
    body
}

/// What `p2ps-qos` prints into a pipe.
fn qos(to: &str, arguments: &[&str]) -> Vec<Value> {
    let output = Command::new(program("p2ps-qos"))
        .args(arguments)
        .args(["--tracker", to, "--content", "film"])
        .output()
        .expect("p2ps-qos runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout)
        .expect("text")
        .lines()
        .map(|line| serde_json::from_str(line).expect("a JSON line"))
        .collect()
}

#[test]
fn t_csp_3_the_same_rows_through_api_and_client() {
    let place = Place::new();
    let url = format!("redb:{}", place.arg("tracker.redb"))
        .parse()
        .expect("a store");
    let rows = PAPER.map(|(id, status, bw, lat, jit)| Change {
        table: Table::Users,
        key: id.to_owned(),
        value: Some(
            json!({
                "account": id, "content": "film", "status": status, "seller": "provider",
                "since": 1, "bw_mbps": bw, "lat_ms": lat, "jit_ms": jit,
            })
            .to_string(),
        ),
    });
    let (store, _) = Store::open(&url).expect("a new store");
    drop(store.submit(rows.to_vec()));
    store.close();
    let tracker = tracker(&place, "tracker");
    let to = tracker.address();
    let table = get(&to, "/v1/get_clients_status?content=film");
    assert_eq!(
        table["columns"],
        json!(["c", "c-c", "c-p", "c-c,p", "p", "p-p"])
    );
    for (id, status, bw, lat, jit) in PAPER {
        let row = &table["rows"][status][0];
        let found = (
            row["id"].as_str(),
            row["bw_mbps"].as_f64(),
            row["lat_ms"].as_f64(),
            row["jit_ms"].as_f64(),
        );
        assert_eq!(found, (Some(id), Some(bw), Some(lat), Some(jit)));
    }
    let by_column: Vec<&Value> = PAPER
        .iter()
        .map(|(_, status, ..)| &table["rows"][*status][0])
        .collect();
    let printed = qos(&to, &["status"]);
    let ids = |rows: Vec<&Value>| -> Vec<(String, String)> {
        let word = |row: &Value, name: &str| row[name].as_str().unwrap_or("?").to_owned();
        rows.into_iter()
            .map(|row| (word(row, "id"), word(row, "status")))
            .collect()
    };
    assert_eq!(ids(printed.iter().collect()), ids(by_column));
    let users = get(&to, "/v1/get_user_table?content=film");
    let users: Vec<&Value> = users["users"].as_array().expect("rows").iter().collect();
    assert_eq!(ids(qos(&to, &["users"]).iter().collect()), ids(users));
    let gold = qos(&to, &["direct-clients", "--packet", "gold"]);
    assert_eq!(
        ids(gold.iter().collect()),
        [("C1".to_owned(), "c".to_owned())]
    );
}

#[test]
fn t_csp_5_children_of_a_killed_seller_go_on_below_another() {
    let place = Place::new();
    let tracker = tracker(&place, "tracker");
    let at = tracker.address();
    let mut source = place.source("source").args(["--tracker", &at]).start();
    let film = format!("p2ps://{at}/film");
    let sell = [
        "--packet",
        "gold",
        "--serve",
        "clients",
        "--upload-limit",
        "90Mbit",
    ];
    let mut sellers: Vec<Running> = ["ann", "bob"]
        .map(|name| {
            place
                .receiver("p2ps-peer", name, &film)
                .args(sell)
                .args(["--user", name])
                .start()
                .attached()
        })
        .into();
    let mut children: Vec<Running> = ["c1", "c2", "c3"]
        .map(|name| {
            place
                .receiver("p2ps-peer", name, &film)
                .args(["--seller", "C1", "--user", name, "--latency", "5s"])
                .start()
                .attached()
        })
        .into();
    let mut undisturbed = place
        .receiver("p2ps-peer", "undisturbed", &film)
        .args(["--packet", "gold", "--user", "dora", "--latency", "5s"])
        .start()
        .attached();
    let below = |child: &Running| {
        child.records().iter().rev().find_map(|record| {
            let is_parent = record["state"] == "buffering" || record["state"] == "parent_changed";
            is_parent
                .then(|| record["address"].as_str().map(str::to_owned))
                .flatten()
        })
    };
    for child in &children {
        assert_eq!(below(child), Some(sellers[0].address()), "as contracted");
    }
    // Long enough for the children to find out, and to ask the tracker.
    let media = slices(0, 100);
    let (before, after) = media.split_at(25 * SLICE_BYTES);
    source.feed(before.chunks(SLICE_BYTES));
    sellers[0].kill();
    source.feed(after.chunks(SLICE_BYTES));
    source.end_input();
    source.done();
    let fine = undisturbed.done();
    for child in &mut children {
        let end = child.done();
        assert_same("child", &child.media(), &media);
        played_as_well_as(&fine, &end);
        assert_eq!(below(child), Some(sellers[1].address()));
    }
    let contracts = get(&at, "/v1/get_contracts?content=film");
    let sold: Vec<&str> = contracts["contracts"]
        .as_array()
        .expect("rows")
        .iter()
        .filter_map(|contract| contract["seller"].as_str())
        .collect();
    assert_eq!(sold, ["provider", "provider", "C2", "C2", "C2", "provider"]);
}

/// Announces the channel as its source would, for trackers that come and go.
pub(crate) fn announce(to: &str, key: &SigningKey) {
    let mut description = ChannelDescription {
        name: "film".into(),
        title: String::new(),
        swarm_id: key.swarm_id(),
        chunk_bytes_max: 1316,
        munro_width: 32,
        substreams: 1,
        data_substreams: 1,
        run_length: 1,
        signature: bytes::Bytes::new(),
    };
    description.signature = key.sign(&description.signed_bytes());
    let request = Request {
        transaction_id: "announce".into(),
        peer_id: "source".into(),
        body: Body::Connect(Connect {
            swarm_action: vec![SwarmAction {
                swarm_id: key.swarm_id().to_string(),
                action: Action::Join,
                peer_mode: PeerMode::Seeder,
            }],
            ..Connect::default()
        }),
        ext: Some(RequestExt {
            role: Some(Role::Source),
            channel: Some("film".into()),
            description: description.encode(),
            port: Some(7850),
            slots_free: Some(1000),
            depth: Some(1),
            ..RequestExt::default()
        }),
    };
    let (status, answer) = ask(to, "POST /", &request.to_json()).expect("an answer");
    assert_eq!(status, 200);
    assert_eq!(answer["PPSPTrackerProtocol"]["error_code"], 0, "{answer}");
}

/// Buys one contract under a name; its identifier when it was acknowledged.
pub(crate) fn buy(to: &str, account: &str) -> Option<String> {
    let post = |name: &str, body: Value| {
        let (status, answer) = ask(to, &format!("POST /v1/{name}"), &body.to_string())?;
        assert_eq!(status, 200, "{name}: {answer}");
        Some(answer)
    };
    let session = post("login", json!({ "user": account }))?["session"].clone();
    post("choose", json!({ "session": session, "content": "film" }))?;
    let contract = json!({ "session": session, "packet": "gold", "request_id": "1" });
    let id = post("contract", contract)?["id"].as_str()?.to_owned();
    Some(id)
}

/// What `p2ps-tracker` prints of its books into a pipe.
fn books(store: &str, words: &[&str]) -> Vec<Value> {
    let output = Command::new(program("p2ps-tracker"))
        .args(words)
        .args(["--store", store])
        .output()
        .expect("p2ps-tracker runs");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    let lines = text.lines();
    let rows = lines.map(|line| serde_json::from_str(line).expect("a JSON line"));
    rows.collect()
}

#[test]
fn files_of_a_placement_are_read_again_and_a_bad_one_changes_nothing() {
    for (placement, flag, good, bad) in [
        (
            "psp",
            "networks",
            "[[network]]\nsubnet = \"10.0.0.0/8\"\ncluster = \"east\"\n",
            "[[network]]\nsubnet = \"here\"\n",
        ),
        (
            "balanced",
            "graph",
            "[friends]\nanna = [\"bert\"]\n",
            "[friends]\nanna = [\"anna\"]\n",
        ),
    ] {
        let place = Place::new();
        let path = place.path("file.toml");
        std::fs::write(&path, good).expect("a file");
        let tracker = place
            .program("p2ps-tracker", "tracker")
            .args([
                "--placement",
                placement,
                &format!("--{flag}"),
                &place.arg("file.toml"),
            ])
            .start();
        tracker.address();
        let says = |text: &str| tracker.line(text, |line| line.contains(text).then_some(()));
        std::fs::write(&path, bad).expect("a file");
        tracker.signal("HUP");
        says(&format!("the old {flag} file stays"));
        std::fs::write(&path, good).expect("a file");
        tracker.signal("HUP");
        says(&format!("{flag} file read again"));
        std::fs::remove_file(&path).expect("it is there");
        tracker.signal("HUP");
        says("no such file; the old");
    }
}

#[test]
fn contracts_and_ledger_are_printed_while_the_tracker_runs_and_when_it_does_not() {
    let place = Place::new();
    let mut tracker = tracker(&place, "tracker");
    let to = tracker.address();
    announce(&to, &SigningKey::from_seed_ed25519([9; 32]));
    for account in ["ann", "bob", "carl"] {
        buy(&to, account).expect("an answer");
    }
    let store = format!("redb:{}", place.arg("tracker.redb"));
    let column = |rows: &[Value], name: &str| -> Vec<Value> {
        rows.iter().map(|row| row[name].clone()).collect()
    };
    let mut before = None;
    for _ in ["it runs", "it does not"] {
        let (contracts, ledger) = (books(&store, &["contracts"]), books(&store, &["ledger"]));
        assert_eq!(column(&contracts, "account"), ["ann", "bob", "carl"]);
        assert_eq!(column(&ledger, "no"), [1, 2, 3]);
        assert_eq!(column(&ledger, "from"), ["ann", "bob", "carl"]);
        let bobs = books(&store, &["ledger", "--user", "bob"]);
        assert_eq!(bobs, [ledger[1].clone()]);
        assert_eq!(books(&store, &["contracts", "--since", "1h"]), contracts);
        let future = ["contracts", "--since", "2999-01-01T00:00:00Z"];
        assert_eq!(books(&store, &future), [Value::Null; 0]);
        let now = (contracts, ledger);
        assert_eq!(before.get_or_insert_with(|| now.clone()), &now);
        if tracker.stdin.is_some() {
            tracker.kill();
            tracker.stdin = None;
        }
    }
    let nothing = format!("redb:{}", place.arg("none.redb"));
    let output = Command::new(program("p2ps-tracker"))
        .args(["ledger", "--store", &nothing])
        .output()
        .expect("p2ps-tracker runs");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(!place.path("none.redb").exists());
}

/// A source that gets media in real time, on a thread of its own, until this is over.
struct Feed {
    thread: Option<JoinHandle<(Running, Vec<u8>)>>,
    is_over: Arc<AtomicBool>,
}

impl Feed {
    fn begin(mut source: Running) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let thread = thread::spawn(move || {
            let mut media = Vec::new();
            for number in 0.. {
                if over.load(Ordering::Acquire) {
                    break;
                }
                let slice = slices(number, 1);
                source.feed([&slice[..]]);
                media.extend(slice);
            }
            (source, media)
        });
        Self {
            thread: Some(thread),
            is_over,
        }
    }

    /// The source, and all that it got.
    fn end(mut self) -> (Running, Vec<u8>) {
        self.is_over.store(true, Ordering::Release);
        let thread = self.thread.take().expect("it ends once");
        thread.join().expect("the source took all")
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
    }
}

/// What a tracker brought together while it was there: a source, a relay, and a client who has a contract; and a viewer
/// who needs no tracker, to compare them with.
struct Audience {
    feed: Feed,
    relay: Running,
    client: Running,
    undisturbed: Running,
}

impl Audience {
    fn gather(place: &Place, at: &str) -> Self {
        let source = place
            .program("p2ps-source", "source")
            .args(["--channel", "news", "--tracker", at, "--max-children", "2"])
            .start();
        let latency = ["--latency", "5s"];
        let direct = source.channel();
        let undisturbed = place
            .receiver("p2ps-peer", "undisturbed", &direct)
            .args(latency)
            .start()
            .attached();
        let news = format!("p2ps://{at}/news");
        let relay = place
            .receiver("p2ps-relay", "relay", &news)
            .start()
            .attached();
        let client = place
            .receiver("p2ps-peer", "client", &news)
            .args(["--packet", "gold", "--user", "client"])
            .args(latency)
            .start()
            .attached();
        let parent = client.state("buffering")["address"].clone();
        assert_eq!(parent, relay.address(), "the source has no slot left");
        Self {
            feed: Feed::begin(source),
            relay,
            client,
            undisturbed,
        }
    }

    /// Whether nobody noticed anything.
    fn part(mut self) {
        let (mut source, media) = self.feed.end();
        source.end_input();
        source.done();
        let fine = self.undisturbed.done();
        let end = self.client.done();
        // It waits for the next stream of that name.
        self.relay.signal("TERM");
        self.relay.done();
        assert_same("client", &self.client.media(), &media);
        played_as_well_as(&fine, &end);
        let was_moved = |record: &Value| record["state"] == "parent_changed";
        assert!(!self.client.records().iter().any(was_moved));
    }
}

#[test]
fn s_47_f18_no_contract_is_lost_or_doubled_when_the_tracker_is_killed() {
    const BUYERS: u64 = 6;
    // `ROUNDS=200` for the figure of the catalogue.
    let rounds = std::env::var("ROUNDS").ok();
    let rounds = rounds
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(8u64);
    let place = Place::alone();
    let key = SigningKey::from_seed_ed25519([9; 32]);
    let mut rng = Rng::new(Seed::from_number(47));
    let mut acknowledged: BTreeMap<String, String> = BTreeMap::new();
    // An address of this test alone, so that nobody takes the port while the tracker is away.
    let mut at = "127.47.0.1:0".to_owned();
    let mut audience = None;
    let mut slowest = Duration::ZERO;
    for round in 0..=rounds {
        let begun = Instant::now();
        let mut tracker = tracker_at(&place, &format!("tracker-{round}"), &at);
        let to = tracker.address();
        get(&to, "/v1/channels");
        slowest = slowest.max(begun.elapsed());
        at.clone_from(&to);
        audience.get_or_insert_with(|| Audience::gather(&place, &to));
        announce(&to, &key);
        // Whatever was acknowledged is there, once and unchanged; a request repeated changes nothing.
        let rows = get(&to, "/v1/get_contracts?content=film");
        let rows = rows["contracts"].as_array().expect("rows").clone();
        let mut users: Vec<&str> = rows.iter().filter_map(|row| row["user"].as_str()).collect();
        let mut accounts: Vec<&str> = rows
            .iter()
            .filter_map(|row| row["account"].as_str())
            .collect();
        for (account, user) in &acknowledged {
            let of_account = rows.iter().filter(|row| row["account"] == **account);
            let found: Vec<&Value> = of_account.map(|row| &row["user"]).collect();
            assert_eq!(found, [user.as_str()], "{account}");
        }
        for names in [&mut users, &mut accounts] {
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count, "doubled");
        }
        if let Some((account, user)) = acknowledged.first_key_value() {
            assert_eq!(buy(&to, account).as_ref(), Some(user));
        }
        if round == rounds {
            let ledger = get(&to, "/v1/get_ledger?content=film");
            let entries = ledger["entries"].as_array().expect("rows");
            let numbers: BTreeSet<u64> = rows.iter().filter_map(|row| row["no"].as_u64()).collect();
            let contracts = entries
                .iter()
                .filter_map(|entry| entry["contract"].as_u64());
            let charges = contracts.filter(|no| numbers.contains(no)).count();
            assert_eq!(charges, rows.len(), "one charge a contract");
            assert!(acknowledged.len() as u64 >= rounds, "it was busy");
            audience.take().expect("from the first round on").part();
            println!(
                "{rounds} kills, {} contracts, ready again after {slowest:.0?} at most",
                acknowledged.len()
            );
            continue;
        }
        // Killed after so many contracts, while others are under way.
        let enough = 1 + rng.below(20);
        let count = AtomicU64::new(0);
        let tracker = std::sync::Mutex::new(&mut tracker);
        let bought: Vec<(String, String)> = thread::scope(|scope| {
            let threads: Vec<_> = (0..BUYERS)
                .map(|buyer| {
                    let (to, count, tracker) = (&to, &count, &tracker);
                    scope.spawn(move || {
                        let mut mine = Vec::new();
                        for number in 0.. {
                            let account = format!("r{round}b{buyer}n{number}");
                            let Some(id) = buy(to, &account) else {
                                break;
                            };
                            mine.push((account, id));
                            if count.fetch_add(1, Ordering::AcqRel) + 1 == enough {
                                tracker.lock().expect("nobody panics with it").kill();
                                break;
                            }
                        }
                        mine
                    })
                })
                .collect();
            threads
                .into_iter()
                .flat_map(|thread| thread.join().expect("a buyer"))
                .collect()
        });
        acknowledged.extend(bought);
    }
}

#[test]
fn a_server_of_somebody_else_serves_under_a_contract() {
    let place = Place::new();
    let rule = "\n[rent]\nhour_max = \"0.01\"\n";
    let write = |rule: &str| {
        let tariff = format!("{}{rule}", tariff::EXAMPLE);
        std::fs::write(place.path("tariff.toml"), tariff).expect("a tariff");
    };
    let store = format!("redb:{}", place.arg("tracker.redb"));
    let start = |name: &str, listen: &str| {
        place
            .program("p2ps-tracker", name)
            .args(["--tariff", &place.arg("tariff.toml"), "--store", &store])
            .args(["--listen", listen])
            .start()
    };
    write("");
    let mut tracker = start("tracker", "127.0.0.1:0");
    let at = tracker.address();
    let mut source = place
        .source("source")
        .args(["--tracker", &at, "--max-children", "1"])
        .start();
    let film = format!("p2ps://{at}/film");
    let server = |name: &str, price: &str| {
        place
            .receiver("p2ps-relay", name, &film)
            .args(["--offer", "100Mbit", "--price", price, "--user", name])
            .start()
    };
    let says = |program: &Running, text: &str| {
        program.line(text, |line| line.contains(text).then_some(()));
    };
    // Nothing is rented before the tariff has a price for it.
    let mut acme = server("acme", "0.50/hour");
    says(&acme, "no servers are rented by the hour");
    acme.kill();
    write(rule);
    tracker.signal("HUP");
    says(&tracker, "tariff");
    let mut dear = server("dear", "2.00/hour");
    says(&dear, "too dear: 100 Mbit/s are worth 1.00 EUR per hour");
    dear.kill();
    let mut acme = server("acme", "0.50/hour").attached();
    says(
        &acme,
        "we are S1 (server below provider): 100 Mbit/s at 0.50 per hour",
    );
    let mut client = place
        .receiver("p2ps-peer", "ann", &film)
        .args(["--packet", "gold", "--user", "ann"])
        .start()
        .attached();
    let rents = |to: &str| {
        let ledger = get(to, "/v1/get_ledger?content=film");
        let entries = ledger["entries"].as_array().expect("rows").clone();
        let rents = entries
            .into_iter()
            .filter(|entry| entry["reason"] == "rent");
        rents
            .map(|entry| format!("{} {} {}", entry["from"], entry["to"], entry["amount"]))
            .collect::<Vec<_>>()
    };
    let once = [r#""provider" "acme" "0.50""#];
    assert_eq!(rents(&at), once);
    // The tracker dies and comes back; the server goes on under the contract that it has.
    let media = slices(0, 30);
    let (before, after) = media.split_at(15 * SLICE_BYTES);
    source.feed(before.chunks(SLICE_BYTES));
    tracker.kill();
    let again = start("again", &at);
    let to = again.address();
    // All three announce themselves again.
    while get(&to, "/v1/channels")["channels"][0]["peers"] != json!(3) {
        thread::yield_now();
    }
    assert_eq!(rents(&to), once, "an hour is paid once");
    source.feed(after.chunks(SLICE_BYTES));
    source.end_input();
    source.done();
    client.done();
    assert_same("client", &client.media(), &media);
    acme.signal("TERM");
    acme.done();
    let contracts = get(&to, "/v1/get_contracts?content=film");
    let rent = &contracts["contracts"][0];
    let found = (
        &rent["account"],
        &rent["seller"],
        &rent["user"],
        &rent["state"],
    );
    let wanted = (
        &json!("provider"),
        &json!("acme"),
        &json!("S1"),
        &json!("active"),
    );
    assert_eq!(found, wanted, "to the end of its hour");
}
