//! Several trackers with one Redis, with real programs: trackers that are killed, a Redis that is, and nobody notices.

use std::process::Command;

use p2ps::integrity::key::SigningKey;
use p2ps::tracker::provider::tariff;
use serde_json::{Value, json};

use crate::access::{order, user};
use crate::harness::{Place, Running, assert_same, program};
use crate::media::{SLICE_BYTES, slices};
use crate::provider::{announce, ask, buy, get};
use crate::redis_server::Redis;
use crate::tls::Authority;

/// A tracker with a store that others share.
fn tracker(place: &Place, name: &str, redis: &Redis) -> Running {
    let store = redis.url();
    place
        .program("p2ps-tracker", name)
        .args(["--store", &store])
        .start()
}

/// One that sells, when it is its turn. All have one seed, and are nevertheless several.
fn seller(place: &Place, name: &str, redis: &Redis) -> Running {
    let path = place.path("tariff.toml");
    std::fs::write(&path, tariff::EXAMPLE).expect("a tariff");
    let (store, tariff) = (redis.url(), place.arg("tariff.toml"));
    place
        .program("p2ps-tracker", name)
        .args(["--store", &store, "--tariff", &tariff, "--seed", "1"])
        .start()
}

/// Waits until a tracker knows so many peers, by its last word and not by any before.
fn knows(tracker: &Running, peers: u64) {
    let mut last = Value::Null;
    // Sooner than whoever did not say goodbye is forgotten.
    for _ in 0..300 {
        tracker.interval();
        let records = tracker.records();
        let mut newest = records.iter().rev();
        let interval = newest.find(|record| record["event"] == "interval");
        last = interval.map_or(Value::Null, |record| record["peers"].clone());
        if last == peers {
            return;
        }
    }
    let overview = get(&tracker.address(), "/v1/overview");
    panic!("{last} peers, waited for {peers}: {overview}");
}

/// Who is on the channel, as a tracker shows it.
fn ids(at: &str) -> Vec<String> {
    let overview = get(at, "/v1/overview");
    let tree = overview["channels"][0]["tree"].as_array().cloned();
    let ids = tree.into_iter().flatten();
    ids.filter_map(|node| node["id"].as_str().map(str::to_owned))
        .collect()
}

fn node(running: &Running) -> String {
    running.event("start")["node"]
        .as_str()
        .expect("an identifier")
        .to_owned()
}

fn says(running: &Running, words: &str) {
    running.line(words, |line| line.contains(words).then_some(()));
}

#[test]
fn two_trackers_share_one_redis_and_nobody_notices_that_one_is_killed() {
    let Some(redis) =
        Redis::start("two_trackers_share_one_redis_and_nobody_notices_that_one_is_killed")
    else {
        return;
    };
    // `PEERS=200` for more of them.
    let peers = std::env::var("PEERS").ok();
    let peers = peers
        .and_then(|peers| peers.parse().ok())
        .unwrap_or(50_usize);
    let place = Place::alone();
    let mut killed = tracker(&place, "killed", &redis);
    let other = tracker(&place, "other", &redis);
    let (a, b) = (killed.address(), other.address());
    // Everybody announces to the one that will be killed, and half of them to the other as well.
    let mut source = place.source("source").args(["--tracker", &a]).start();
    let relay = place
        .every("1s", "p2ps-relay", "relay", "127.0.0.1:0")
        .args(["--from", "oldest", &format!("p2ps://{a}/film")])
        .start()
        .attached();
    let mut viewers: Vec<Running> = (0..peers)
        .map(|number| {
            let film = match number % 2 {
                0 => format!("p2ps://{a}/film"),
                _ => format!("p2ps://{a},{b}/film"),
            };
            place
                .every(
                    "1s",
                    "p2ps-peer",
                    &format!("viewer-{number}"),
                    "127.0.0.1:0",
                )
                .args(["--from", "oldest", "--latency", "3s", &film])
                .start()
        })
        .collect();
    for viewer in &viewers {
        viewer.state("buffering");
    }
    let everybody = peers as u64 + 2;
    for tracker in [&killed, &other] {
        knows(tracker, everybody);
    }
    let media = slices(0, 60);
    let (before, after) = media.split_at(20 * SLICE_BYTES);
    source.feed(before.chunks(SLICE_BYTES));
    for viewer in &viewers {
        viewer.wait_bytes(SLICE_BYTES);
    }
    killed.kill();
    // The other shows those who spoke to nobody but the dead.
    let known = ids(&b);
    for announced_elsewhere in [&source, &relay, &viewers[0]] {
        assert!(known.contains(&node(announced_elsewhere)), "{known:?}");
    }
    let mut late = place
        .receiver("p2ps-peer", "late", &format!("p2ps://{b}/film"))
        .args(["--latency", "3s"])
        .start()
        .attached();
    source.feed(after.chunks(SLICE_BYTES));
    source.end_input();
    source.done();
    for viewer in viewers.iter_mut().chain([&mut late]) {
        let end = viewer.done();
        assert_same("viewer", &viewer.media(), &media);
        assert_eq!(end["continuity_ratio"], 1.0, "{end}");
    }
}

#[test]
fn trackers_go_on_while_their_redis_is_away_and_catch_up() {
    let Some(mut redis) = Redis::start("trackers_go_on_while_their_redis_is_away_and_catch_up")
    else {
        return;
    };
    let place = Place::new();
    let (one, other) = (
        tracker(&place, "one", &redis),
        tracker(&place, "other", &redis),
    );
    let (a, b) = (one.address(), other.address());
    let mut source = place.source("source").args(["--tracker", &a]).start();
    knows(&other, 1);
    redis.kill();
    for tracker in [&one, &other] {
        says(tracker, "going on with what is in memory");
    }
    // Announced to one alone, which knows nothing of the other; what the other knew of before it knows still.
    let mut here = place
        .receiver("p2ps-peer", "here", &format!("p2ps://{a}/film"))
        .start()
        .attached();
    let mut there = place
        .receiver("p2ps-peer", "there", &format!("p2ps://{b}/film"))
        .start()
        .attached();
    knows(&one, 2);
    knows(&other, 2);
    assert!(redis.begin());
    for tracker in [&one, &other] {
        says(tracker, "is reached again");
        knows(tracker, 3);
    }
    assert_eq!(ids(&a).len(), 3);
    // Who leaves is gone everywhere at once.
    let media = slices(0, 10);
    source.feed(media.chunks(SLICE_BYTES));
    source.end_input();
    source.done();
    for viewer in [&mut here, &mut there] {
        viewer.done();
        assert_same("viewer", &viewer.media(), &media);
    }
    for tracker in [&one, &other] {
        knows(tracker, 0);
    }
}

#[test]
fn a_contract_taken_at_one_tracker_is_known_at_the_other_when_that_is_killed() {
    let test = "a_contract_taken_at_one_tracker_is_known_at_the_other_when_that_is_killed";
    let Some(mut redis) = Redis::start(test) else {
        return;
    };
    let place = Place::new();
    let mut first = seller(&place, "first", &redis);
    says(&first, "this tracker sells");
    let second = seller(&place, "second", &redis);
    let (a, b) = (first.address(), second.address());
    says(
        &second,
        &format!("the tracker at {a} sells, this one stands by"),
    );
    let key = SigningKey::from_seed_ed25519([9; 32]);
    announce(&a, &key);
    knows(&second, 1);
    let ann = buy(&a, "ann").expect("the first sells");
    // One seller at a time, and the other says which.
    let (status, answer) = ask(&b, "POST /v1/login", r#"{"user":"bob"}"#).expect("an answer");
    let why = format!("the tracker at {a} sells, ask there");
    assert_eq!(
        (status, &answer),
        (503, &json!({ "error": why, "code": "standby" }))
    );
    let join = json!({"PPSPTrackerProtocol": {
        "version": 1, "request_type": "CONNECT", "transaction_id": "1", "peer_id": "bob",
        "connect": {"swarm_action": [{"swarm_id": "", "action": "JOIN", "peer_mode": "LEECH"}]},
        "x_ext": {"v": 1, "role": "peer", "channel": "film"}}});
    let (status, answer) = ask(&b, "POST /", &join.to_string()).expect("an answer");
    let reject = &answer["PPSPTrackerProtocol"]["x_ext"]["reject"];
    assert_eq!(
        (status, &reject["code"], &reject["text"]),
        (200, &json!("standby"), &json!(why))
    );
    // What cannot be kept is not sold.
    redis.kill();
    let login = ask(&a, "POST /v1/login", r#"{"user":"carl"}"#)
        .expect("an answer")
        .1;
    let session = &login["session"];
    let post = |name: &str, body: Value| {
        ask(&a, &format!("POST /v1/{name}"), &body.to_string()).expect("an answer")
    };
    post("choose", json!({ "session": session, "content": "film" }));
    let wanted = json!({ "session": session, "packet": "gold", "request_id": "1" });
    let (status, answer) = post("contract", wanted.clone());
    assert_eq!(status, 503, "{answer}");
    assert!(redis.begin());
    let (status, carl) = post("contract", wanted);
    assert_eq!(status, 200, "{carl}");
    first.kill();
    says(&second, "this tracker sells");
    let contracts = get(&b, "/v1/get_contracts?content=film");
    let sold: Vec<(&str, &str)> = contracts["contracts"]
        .as_array()
        .expect("rows")
        .iter()
        .filter_map(|row| Some((row["account"].as_str()?, row["user"].as_str()?)))
        .collect();
    let carl = carl["id"].as_str().expect("an identifier");
    assert_eq!(sold, [("ann", ann.as_str()), ("carl", carl)]);
    // The same again is the same contract, and the channel is known from the dead.
    assert_eq!(buy(&b, "ann"), Some(ann));
    let ledger = get(&b, "/v1/get_ledger?content=film");
    assert_eq!(
        ledger["entries"].as_array().map(Vec::len),
        Some(2),
        "one charge each"
    );
}

#[test]
fn orders_of_the_operator_reach_trackers_that_run() {
    let Some(redis) = Redis::start("orders_of_the_operator_reach_trackers_that_run") else {
        return;
    };
    let place = Place::new();
    let trackers = [
        tracker(&place, "one", &redis),
        tracker(&place, "other", &redis),
    ];
    let mut source = place
        .source("source")
        .args(["--tracker", &trackers[0].address()])
        .start();
    for tracker in &trackers {
        knows(tracker, 1);
    }
    let order = |words: &[&str]| {
        let output = Command::new(program("p2ps-tracker"))
            .args(words)
            .args(["--store", &redis.url()])
            .output()
            .expect("p2ps-tracker runs");
        assert!(output.status.success(), "{output:?}");
    };
    let join = |word: &str| {
        let found: Vec<Value> = trackers
            .iter()
            .map(|tracker| {
                let body = json!({"PPSPTrackerProtocol": {
                    "version": 1, "request_type": "CONNECT", "transaction_id": word, "peer_id": "ann",
                    "connect": {"swarm_action": [{"swarm_id": "", "action": "JOIN", "peer_mode": "LEECH"}]},
                    "x_ext": {"v": 1, "role": "peer", "channel": "film"}}});
                let (_, answer) = ask(&tracker.address(), "POST /", &body.to_string()).expect("an answer");
                answer["PPSPTrackerProtocol"]["error_code"].clone()
            })
            .collect();
        found
    };
    assert_eq!(join("open"), [0, 0]);
    order(&["channel", "close", "film"]);
    // The word is on its way: it comes without anybody asking for it.
    let mut asked = 0;
    let mut found = join("closed");
    while found != [6, 6] {
        assert!(asked < 100, "{found:?}: not every tracker heard of it");
        asked += 1;
        trackers[0].interval();
        found = join(&format!("closed{asked}"));
    }
    source.signal("TERM");
    source.exit();
}

#[test]
fn a_password_lets_in_and_is_never_shown() {
    let Some(redis) = Redis::with_password("a_password_lets_in_and_is_never_shown", "s3cret")
    else {
        return;
    };
    let place = Place::new();
    let url = redis.url();
    let refused = |store: &str| {
        let output = Command::new(program("p2ps-tracker"))
            .args(["--listen", "127.0.0.1:0", "--dry-run", "--store", store])
            .output()
            .expect("p2ps-tracker runs");
        let said = String::from_utf8(output.stderr).expect("text");
        (output.status.code(), said)
    };
    let with = |user: &str| url.replace("redis://", &format!("redis://{user}@"));
    for (store, why) in [
        (url.clone(), "a password is needed: redis://:PASSWORD@HOST"),
        (with(":wrong"), "wrong user or password"),
        (with("ann:s3cret"), "wrong user or password"),
    ] {
        let line = format!("p2ps-tracker: refused by store \"{url}\": {why}\n");
        assert_eq!(refused(&store), (Some(5), line));
    }
    let tracker = place
        .program("p2ps-tracker", "tracker")
        .args(["--store", &with(":s3cret")])
        .start();
    let start = tracker.event("start");
    assert_eq!(
        start["settings"]["store"],
        url.replace("redis://", "redis://…@")
    );
    for text in tracker.lines().into_iter().chain([start.to_string()]) {
        assert!(!text.contains("s3cret"), "{text}");
    }
}

#[test]
fn viewers_who_pay_go_on_when_the_tracker_that_sells_is_killed() {
    let test = "viewers_who_pay_go_on_when_the_tracker_that_sells_is_killed";
    let Some(redis) = Redis::start(test) else {
        return;
    };
    let place = Place::new();
    let mut first = seller(&place, "first", &redis);
    says(&first, "this tracker sells");
    let second = seller(&place, "second", &redis);
    let (a, b) = (first.address(), second.address());
    let mut source = place
        .source("source")
        .args(["--tracker", &a, "--tracker", &b])
        .start();
    let viewer = |name: &str, trackers: &str| {
        place
            .receiver("p2ps-peer", name, &format!("p2ps://{trackers}/film"))
            .args(["--packet", "gold", "--user", name, "--latency", "2s"])
            .start()
            .attached()
    };
    let mut viewers = vec![
        viewer("ann", &format!("{a},{b}")),
        viewer("bob", &format!("{b},{a}")),
    ];
    // The one that stands by learns of all of them.
    knows(&second, 3);
    let media = slices(0, 60);
    let (before, after) = media.split_at(20 * SLICE_BYTES);
    source.feed(before.chunks(SLICE_BYTES));
    first.kill();
    viewers.push(viewer("dora", &b));
    source.feed(after.chunks(SLICE_BYTES));
    source.end_input();
    source.done();
    for viewer in &mut viewers {
        let end = viewer.done();
        assert_same("viewer", &viewer.media(), &media);
        assert_eq!(end["continuity_ratio"], 1.0, "{end}");
    }
    let contracts = get(&b, "/v1/get_contracts?content=film");
    let accounts: Vec<&str> = contracts["contracts"]
        .as_array()
        .expect("rows")
        .iter()
        .filter_map(|row| row["account"].as_str())
        .collect();
    assert_eq!(accounts, ["ann", "bob", "dora"], "nobody paid twice");
}

/// Feeds a source until it has sealed with so many other keys than its first; gives how much it got.
fn feed_until(source: &mut Running, media: &mut std::slice::Chunks<'_, u8>, keys: usize) -> usize {
    let mut fed = 0;
    let changes = |source: &Running| {
        let lines = source.lines();
        let changes = lines
            .iter()
            .filter(|line| line.contains("with the next key"));
        changes.count()
    };
    while changes(source) < keys {
        let slice = media.next().expect("a change before all media is gone");
        source.feed([slice]);
        fed += slice.len();
    }
    fed
}

#[test]
fn a_sealed_channel_has_one_key_at_all_trackers_whichever_of_them_is_killed() {
    let test = "a_sealed_channel_has_one_key_at_all_trackers_whichever_of_them_is_killed";
    let Some(redis) = Redis::start(test) else {
        return;
    };
    let place = Place::new();
    let store = redis.url();
    let studio = user(&place, &store, "studio", "publish");
    order(&store, &["channel", "close", "film"]);
    let tracker = |name: &str| {
        let program = place.program("p2ps-tracker", name);
        program
            .args(["--store", &store, "--key-life", "10s"])
            .start()
    };
    let (mut first, second) = (tracker("first"), tracker("second"));
    let (a, b) = (first.address(), second.address());
    // The source follows the first; most viewers have never heard of it.
    let mut source = place
        .source("source")
        .args([
            "--seal",
            "--tracker",
            &a,
            "--tracker",
            &b,
            "--token-file",
            &studio,
        ])
        .start();
    knows(&second, 1);
    let viewer = |name: &str, trackers: &str| {
        let token = user(&place, &store, name, "watch");
        let film = format!("p2ps://{trackers}/film");
        let viewer = place.receiver("p2ps-peer", &format!("{name}-peer"), &film);
        let viewer = viewer.args(["--token-file", &token, "--latency", "2s"]);
        viewer.start().attached()
    };
    let mut viewers = [viewer("ann", &b), viewer("dora", &format!("{a},{b}"))];
    let mut revoked = [("bert", viewer("bert", &b)), ("carl", viewer("carl", &b))];
    for tracker in [&first, &second] {
        knows(tracker, 5);
    }
    let media = slices(0, 1800);
    let mut rest = media.chunks(SLICE_BYTES);
    let mut fed = 0;
    // By revocation and by time, and the same again when one tracker is dead.
    for (turn, (name, viewer)) in revoked.iter_mut().enumerate() {
        order(&store, &["user", "revoke", name]);
        fed += feed_until(&mut source, &mut rest, 2 * turn + 1);
        viewer.record("he is refused", |record| {
            (record["code"] == "refused").then_some(())
        });
        viewer.signal("TERM");
        viewer.done();
        let got = viewer.media();
        assert!(media[..fed].starts_with(&got), "{} of {fed}", got.len());
        fed += feed_until(&mut source, &mut rest, 2 * turn + 2);
        if turn == 0 {
            first.kill();
        }
    }
    source.end_input();
    source.done();
    for viewer in &mut viewers {
        let end = viewer.done();
        assert_same("viewer", &viewer.media(), &media[..fed]);
        assert_eq!(end["unopened_packets_total"], 0, "{end}");
    }
}

#[test]
fn a_store_behind_tls_is_the_one_that_its_authority_names() {
    let place = Place::new();
    let (authority, stranger) = (place.path("ca"), place.path("stranger"));
    let signer = Authority::new(&authority);
    Authority::new(&stranger);
    let (certificate, key) = (place.path("redis.crt"), place.path("redis.key"));
    let mut redis = Redis::unstarted("s3cret");
    signer.sign(&redis.address, &certificate, &key);
    redis.identity = Some((certificate, key));
    let Some(redis) = redis.started("a_store_behind_tls_is_the_one_that_its_authority_names")
    else {
        return;
    };
    let shown = redis.url();
    let store = shown.replace("://", "://:s3cret@");
    let refused = |args: &[&str]| {
        let output = Command::new(program("p2ps-tracker"))
            .args(["--listen", "127.0.0.1:0", "--dry-run"])
            .args(args)
            .output()
            .expect("p2ps-tracker runs");
        let said = String::from_utf8(output.stderr).expect("text");
        (output.status.code(), said)
    };
    let unknown = format!(
        "p2ps-tracker: cannot reach store \"{shown}\": its certificate is of an unknown authority: give --tls-ca\n"
    );
    let stranger = place.arg("stranger");
    for args in [
        &["--store", &store][..],
        &["--store", &store, "--tls-ca", &stranger],
    ] {
        assert_eq!(refused(args), (Some(4), unknown.clone()));
    }
    let other = store.replace(&redis.address, "localhost");
    let ca = place.arg("ca");
    let (code, line) = refused(&["--store", &other, "--tls-ca", &ca]);
    assert!(code == Some(4) && !line.is_empty(), "{line}");
    let plain = store.replace("rediss", "redis");
    let (code, line) = refused(&["--store", &plain]);
    assert!(
        matches!(code, Some(4 | 5)) && line.lines().count() == 1,
        "{line}"
    );
    let idle = "p2ps-tracker: --tls-ca changes nothing: add --store rediss://HOST\n";
    let found = refused(&["--store", &plain, "--tls-ca", &ca]);
    assert_eq!(found, (Some(2), idle.to_owned()));
    // Rows, news and orders go over it.
    let tracker = |name: &str| {
        let program = place.program("p2ps-tracker", name);
        program.args(["--store", &store, "--tls-ca", &ca]).start()
    };
    let (one, other) = (tracker("one"), tracker("other"));
    let mut source = place
        .source("source")
        .args(["--tracker", &one.address()])
        .start();
    knows(&other, 1);
    let output = Command::new(program("p2ps-tracker"))
        .args([
            "channel", "close", "film", "--store", &store, "--tls-ca", &ca,
        ])
        .output()
        .expect("p2ps-tracker runs");
    assert!(output.status.success(), "{output:?}");
    says(&source, "the channel is closed");
    source.signal("TERM");
    source.exit();
}
