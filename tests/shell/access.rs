//! Channels for some: a source with a list of keys.

use std::fs;
use std::process::Command;

use crate::harness::{Place, assert_same, program};
use crate::media::{SLICE_BYTES, slices};

/// A key file, and the line that a list has for it.
fn keygen(place: &Place, name: &str) -> (String, String) {
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
