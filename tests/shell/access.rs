//! Channels for some: a source with a list of keys.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use serde_json::Value;

use crate::harness::{Place, assert_same, program};
use crate::media::{SLICE_BYTES, slices};

/// A key file, and the line that a list has for it.
pub(crate) fn keygen(place: &Place, name: &str) -> (String, String) {
    let file = place.arg(name);
    let made = Command::new(program("p2ps-source"))
        .args(["keygen", "-o", &file])
        .output()
        .expect("it can be run");
    assert!(made.status.success(), "{made:?}");
    let id = String::from_utf8(made.stdout).expect("hexadecimal");
    (file, format!("{} {name}\n", id.trim()))
}

#[test]
fn t_trib_4_media_goes_to_the_keys_on_the_list_alone() {
    let place = Place::new();
    let (friend_key, friend_line) = keygen(&place, "friend.pem");
    let (late_key, late_line) = keygen(&place, "late.pem");
    let list = place.path("list");
    fs::write(&list, format!("# friends\n{friend_line}")).expect("a list");
    let mut source = place
        .source("source")
        .args(["--allow", &place.arg("list")])
        .start();
    let channel = source.channel();
    let mut friend = place
        .receiver("p2ps-peer", "friend", &channel)
        .args(["--key", &friend_key])
        .start()
        .attached();
    // One with a key that is not on the list, and one without any.
    let mut late = place
        .receiver("p2ps-peer", "late", &channel)
        .args(["--key", &late_key])
        .start();
    let mut stranger = place.receiver("p2ps-peer", "stranger", &channel).start();
    let media = slices(0, 20);
    let (first, second) = media.split_at(10 * SLICE_BYTES);
    source.feed(first.chunks(SLICE_BYTES));
    for refused in [&late, &stranger] {
        let text = refused.record("a refusal", |record| {
            (record["event"] == "warn" && record["code"] == "refused")
                .then(|| record["message"].as_str().unwrap_or_default().to_owned())
        });
        assert!(text.contains("the channel is closed to us"), "{text}");
        assert_eq!(refused.media(), b"", "not a byte");
    }
    // Taken onto the list while it runs.
    fs::write(&list, format!("{friend_line}{late_line}")).expect("a list");
    source.signal("HUP");
    late.state("buffering");
    source.feed(second.chunks(SLICE_BYTES));
    source.end_input();
    source.done();
    friend.done();
    assert_same("friend", &friend.media(), &media);
    late.done();
    let played = late.media();
    assert!(!played.is_empty() && media.ends_with(&played));
    stranger.signal("TERM");
    assert_eq!(stranger.done()["reason"], "asked to stop");
    assert_eq!(stranger.media(), b"");
}

/// An order of the operator on a store; what it printed.
pub(crate) fn order(store: &str, words: &[&str]) -> Value {
    let output = Command::new(program("p2ps-tracker"))
        .args(words)
        .args(["--store", store])
        .output()
        .expect("p2ps-tracker runs");
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Makes a user; the file with its secret.
pub(crate) fn user(place: &Place, store: &str, name: &str, role: &str) -> String {
    let made = order(store, &["user", "add", name, "--role", role]);
    let secret = made["secret"].as_str().expect("a secret").to_owned();
    let path = place.path(name);
    fs::write(&path, format!("{name}:{secret}\n")).expect("a token file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its mode");
    place.arg(name)
}

#[test]
fn users_come_and_go_while_the_tracker_runs() {
    let place = Place::new();
    let store = format!("redb:{}", place.arg("tracker.redb"));
    let mut tracker = place
        .program("p2ps-tracker", "tracker")
        .args(["--store", &store])
        .start();
    let at = tracker.address();
    let socket = place.path("tracker.redb.control");
    let mode = fs::metadata(&socket)
        .expect("a socket")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    order(&store, &["channel", "close", "film"]);
    let studio = user(&place, &store, "studio", "publish");
    let mut source = place
        .source("source")
        .args(["--tracker", &at, "--token-file", &studio])
        .start();
    let film = format!("p2ps://{at}/film");
    let mut viewers = ["ann", "bob"].map(|name| {
        let token = user(&place, &store, name, "watch");
        // Neither helps the other: it is the source that is to cut him off.
        let viewer = place.receiver("p2ps-peer", name, &film);
        let viewer = viewer.args(["--token-file", &token, "--no-upload"]);
        viewer.start().attached()
    });
    let media = slices(0, 20);
    let (first, second) = media.split_at(10 * SLICE_BYTES);
    source.feed(first.chunks(SLICE_BYTES));
    // Whoever is revoked is cut off, although he is connected and his tickets would hold for long.
    order(&store, &["user", "revoke", "bob"]);
    let users = order(&store, &["user", "list"]);
    assert_eq!(users["users"].as_array().map(Vec::len), Some(2), "{users}");
    let [ann, bob] = &mut viewers;
    let refusal = format!(
        "{} does not take us: the channel is closed",
        source.address()
    );
    bob.record("he is refused", |record| {
        let message = record["message"].as_str().unwrap_or_default();
        message.starts_with(&refusal).then_some(())
    });
    // Within two seconds and a little everybody hears of it, and gives him nothing, not even for repair.
    for _ in 0..30 {
        ann.interval();
    }
    source.feed(second.chunks(SLICE_BYTES));
    source.end_input();
    source.done();
    ann.done();
    assert_same("ann", &ann.media(), &media);
    let of_bob = bob.media();
    assert!(first.starts_with(&of_bob), "{} bytes", of_bob.len());
    bob.signal("TERM");
    // Bad orders are refused as without a tracker, and what was ordered is kept.
    let again = Command::new(program("p2ps-tracker"))
        .args(["user", "revoke", "bob", "--store", &store])
        .output()
        .expect("p2ps-tracker runs");
    let line = String::from_utf8_lossy(&again.stderr).into_owned();
    assert_eq!(again.status.code(), Some(2), "{line}");
    assert!(line.contains("cannot user revoke: no such user"), "{line}");
    tracker.signal("TERM");
    tracker.done();
    assert!(!socket.exists());
    assert_eq!(order(&store, &["user", "list"]), users);
    assert_eq!(order(&store, &["channel", "list"])["closed"][0], "film");
}

#[test]
fn t_zat_3_a_closed_channel_is_for_users_with_their_secret() {
    let place = Place::new();
    let store = format!("redb:{}", place.arg("tracker.redb"));
    let studio = user(&place, &store, "studio", "publish");
    let ann = user(&place, &store, "ann", "watch");
    order(&store, &["channel", "close", "film"]);
    assert_eq!(order(&store, &["channel", "list"])["closed"][0], "film");
    let tracker = place
        .program("p2ps-tracker", "tracker")
        .args(["--store", &store])
        .start();
    let at = tracker.address();
    let mut source = place
        .source("source")
        .args(["--tracker", &at, "--token-file", &studio])
        .start();
    let film = format!("p2ps://{at}/film");
    let mut viewer = place
        .receiver("p2ps-peer", "viewer", &film)
        .args(["--token-file", &ann])
        .start()
        .attached();
    // Who has no secret is told nothing, neither by the tracker nor by the source itself.
    let mut stranger = place
        .receiver("p2ps-peer", "stranger", &film)
        .args(["--timeout", "2s"])
        .start();
    assert_eq!(stranger.exit(), Some(5), "{:?}", stranger.lines());
    let below = source.channel();
    let mut direct = place
        .receiver("p2ps-peer", "direct", &below)
        .args(["--timeout", "3s"])
        .start();
    let media = slices(0, 40);
    source.feed(media.chunks(SLICE_BYTES));
    assert_eq!(direct.exit(), Some(4), "{:?}", direct.lines());
    assert!(direct.media().is_empty());
    source.end_input();
    source.done();
    viewer.done();
    assert_same("viewer", &viewer.media(), &media);
    // A user that was revoked is nobody.
    drop(tracker);
    order(&store, &["user", "revoke", "ann"]);
    let users = order(&store, &["user", "list"]);
    assert_eq!(users["users"].as_array().map(Vec::len), Some(1), "{users}");
}

#[test]
fn t_trib_4_a_sealed_channel_is_read_by_those_who_may_watch_alone() {
    let place = Place::new();
    let store = format!("redb:{}", place.arg("tracker.redb"));
    let tokens = [
        ("studio", "publish"),
        ("rita", "serve"),
        ("ann", "watch"),
        ("bert", "watch"),
    ];
    let [studio, rita, ann, bert] = tokens.map(|(name, role)| user(&place, &store, name, role));
    order(&store, &["channel", "close", "film"]);
    let tracker = place
        .program("p2ps-tracker", "tracker")
        .args(["--store", &store])
        .start();
    let at = tracker.address();
    let (friend_key, friend_line) = keygen(&place, "friend.pem");
    fs::write(place.path("list"), friend_line).expect("a list");
    let mut source = place
        .source("source")
        .args(["--seal", "--tracker", &at, "--token-file", &studio])
        .args(["--allow", &place.arg("list"), "--max-children", "2"])
        .start();
    let film = format!("p2ps://{at}/film");
    // A relay that writes what it can read.
    let mut relay = place
        .receiver("p2ps-relay", "relay", &film)
        .args(["--token-file", &rita, "-o", &place.arg("relay.ts")])
        .start()
        .attached();
    // The source has no room for more than these two, so the viewers are below the relay. One who is let in by his key
    // and has no tracker to ask gets the stream, and no key to it.
    let below = source.channel();
    let mut friend = place
        .receiver("p2ps-peer", "friend", &below)
        .args(["--key", &friend_key])
        .start()
        .attached();
    let mut viewers = [("ann", ann), ("bert", bert)].map(|(name, token)| {
        let viewer = place.receiver("p2ps-peer", &format!("{name}-peer"), &film);
        viewer.args(["--token-file", &token]).start().attached()
    });
    let media = slices(0, 40);
    let (first, second) = media.split_at(20 * SLICE_BYTES);
    source.feed(first.chunks(SLICE_BYTES));
    assert_eq!(friend.exit(), Some(5));
    let lines = friend.lines();
    let told = lines.iter().filter(|line| line.contains("sealed"));
    assert_eq!(told.count(), 1, "{lines:?}");
    assert_eq!(friend.media(), b"", "not a byte");
    // When a user is revoked the others get another key, and no byte is lost for that.
    order(&store, &["user", "revoke", "bert"]);
    source.line("another key", |line| {
        line.contains("with the next key").then_some(())
    });
    source.feed(second.chunks(SLICE_BYTES));
    source.end_input();
    source.done();
    let [ann, bert] = &mut viewers;
    let end = ann.done();
    assert_eq!(end["unopened_packets_total"], 0);
    assert_same("ann", &ann.media(), &media);
    bert.signal("TERM");
    bert.done();
    assert!(first.starts_with(&bert.media()), "nothing that came after");
    relay.signal("TERM");
    relay.done();
    let read = fs::read(place.path("relay.ts")).expect("a file");
    assert_eq!(read, b"", "passed on unread");
    let stored = fs::read(place.path("tracker.redb")).expect("a file");
    let mut words = stored.windows(9);
    assert!(
        words.any(|row| row == b"seal.film"),
        "its keys outlive the tracker"
    );
}
