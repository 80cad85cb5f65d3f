//! Faults of the catalogue, with real programs.

use serde_json::Value;

use crate::harness::{Place, Running, assert_same};
use crate::media::{SLICE_BYTES, slices};

/// Nothing was missing, and what was there for later never ran out, or only where it did at a peer whom nothing befell:
/// when the test itself writes too late, both wait.
pub(crate) fn played_as_well_as(undisturbed: &Value, end: &Value) {
    for end in [undisturbed, end] {
        assert_eq!(end["continuity_ratio"], 1.0, "{end}");
    }
    let stalls = |end: &Value| end["stalls_total"].as_u64().expect("a count");
    assert!(
        stalls(end) <= stalls(undisturbed),
        "stood still {} times, the other {} times",
        stalls(end),
        stalls(undisturbed)
    );
}

#[test]
fn f09_parent_killed_another_takes_over() {
    let place = Place::new();
    let mut source = place.source("source").start();
    let channel = source.channel();
    let mut relays: Vec<Running> = ["relay-a", "relay-b"]
        .map(|name| {
            place
                .receiver("p2ps-relay", name, &channel)
                .start()
                .attached()
        })
        .into();
    let (id, _) = channel.split_once('@').expect("an identifier");
    let uri = format!("{id}@{},{}", relays[0].address(), relays[1].address());
    let mut peer = place
        .receiver("p2ps-peer", "peer", &uri)
        .args(["--latency", "1s"])
        .start()
        .attached();
    let mut undisturbed = place
        .receiver("p2ps-peer", "undisturbed", &channel)
        .args(["--latency", "1s"])
        .start()
        .attached();
    let media = slices(0, 50);
    let (before, after) = media.split_at(25 * SLICE_BYTES);
    source.feed(before.chunks(SLICE_BYTES));
    peer.wait_bytes(SLICE_BYTES);
    let parents = |record: &Value| {
        let is_parent = record["state"] == "buffering" || record["state"] == "parent_changed";
        is_parent
            .then(|| record["address"].as_str().map(str::to_owned))
            .flatten()
    };
    let parent = peer
        .records()
        .iter()
        .filter_map(parents)
        .next_back()
        .expect("a parent");
    let at = relays
        .iter()
        .position(|relay| relay.address() == parent)
        .expect("one of the two");
    let mut killed = relays.remove(at);
    killed.kill();
    source.feed(after.chunks(SLICE_BYTES));
    source.end_input();
    source.done();
    let end = peer.done();
    assert_same("peer", &peer.media(), &media);
    played_as_well_as(&undisturbed.done(), &end);
    let last = peer.records().iter().filter_map(parents).next_back();
    assert_eq!(last, Some(relays[0].address()));
}

#[test]
fn f13_source_killed_and_restarted_viewers_go_on() {
    let place = Place::new();
    // An address of this test alone, so that nobody takes the port while the source is away.
    let mut source = place.source_at("source", "127.13.0.1:0").start();
    let (address, channel) = (source.address(), source.channel());
    let latency = ["--latency", "300ms"];
    let relay = place
        .receiver("p2ps-relay", "relay", &channel)
        .start()
        .attached();
    let below = place
        .receiver("p2ps-peer", "below", &relay.channel_below(&channel))
        .args(latency)
        .start()
        .attached();
    let direct = place
        .receiver("p2ps-peer", "direct", &channel)
        .args(latency)
        .start()
        .attached();
    let media = slices(0, 30);
    let (before, after) = media.split_at(10 * SLICE_BYTES);
    source.feed(before.chunks(SLICE_BYTES));
    for peer in [&below, &direct] {
        peer.wait_bytes(before.len());
    }
    let last_chunk = |records: &[Value]| {
        records
            .iter()
            .filter_map(|record| record["last_chunk"].as_u64())
            .max()
    };
    source.interval();
    source.kill();
    let last = last_chunk(&source.records()).expect("chunks were signed");

    let mut again = place.source_at("again", &address).start();
    assert_eq!(again.channel(), channel);
    again.feed(after.chunks(SLICE_BYTES));
    again.end_input();
    let end = again.done();
    assert!(
        end["first_chunk"].as_u64() > Some(last),
        "{last} and then {end}"
    );
    for mut peer in [below, direct] {
        peer.done();
        assert_same("peer", &peer.media(), &media);
    }
}

#[test]
fn f14_input_ends_viewers_exit_0_with_all_bytes() {
    let place = Place::new();
    let mut source = place.source("source").start();
    let channel = source.channel();
    let mut peer = place
        .receiver("p2ps-peer", "peer", &channel)
        .start()
        .attached();
    // Ends in the middle of a packet, right after the last byte.
    let media = slices(0, 3);
    let media = &media[..media.len() - 100];
    source.write(media);
    source.end_input();
    assert_eq!(source.done()["reason"], "input ended");
    assert_eq!(peer.done()["reason"], "channel ended");
    assert_same("peer", &peer.media(), media);
    // That the source leaves now is no trouble.
    let lines = peer.lines();
    let is_trouble = |line: &String| line.contains("warning");
    assert!(!lines.iter().any(is_trouble), "{lines:?}");
}

#[test]
fn f14_input_pauses_and_goes_on() {
    let place = Place::new();
    let mut source = place.source("source").start();
    let channel = source.channel();
    let latency = ["--latency", "100ms"];
    let mut peer = place
        .receiver("p2ps-peer", "peer", &channel)
        .args(latency)
        .start()
        .attached();
    let media = slices(0, 20);
    let (before, after) = media.split_at(10 * SLICE_BYTES);
    source.feed(before.chunks(SLICE_BYTES));
    // What was written before the pause is out although nothing follows, and the pause is told.
    peer.wait_bytes(before.len());
    peer.state("stalled");
    source.feed(after.chunks(SLICE_BYTES));
    source.end_input();
    source.done();
    let end = peer.done();
    assert_same("peer", &peer.media(), &media);
    assert!(end["stalls_total"].as_u64() > Some(0), "{end}");
    assert_eq!(end["continuity_ratio"], 1.0, "{end}");
}

#[test]
fn f25_slow_reader_does_not_disturb_children() {
    let place = Place::new();
    let mut source = place.source("source").start();
    let channel = source.channel();
    let mut slow = place
        .receiver("p2ps-peer", "slow", &channel)
        .keep_stdout()
        .start()
        .attached();
    let below = slow.channel_below(&channel);
    let mut child = place
        .receiver("p2ps-peer", "child", &below)
        .start()
        .attached();
    let mut undisturbed = place
        .receiver("p2ps-peer", "undisturbed", &channel)
        .start()
        .attached();
    // Far more than a pipe takes.
    let media = slices(0, 40);
    source.feed(media.chunks(SLICE_BYTES));
    source.end_input();
    source.done();
    let end = child.done();
    assert_same("child", &child.media(), &media);
    played_as_well_as(&undisturbed.done(), &end);
    // What nobody reads is given up.
    slow.done();
    assert!(slow.stdout.is_some());
}

#[test]
fn f26_closed_reader_ends_the_peer_with_0() {
    let place = Place::new();
    let mut source = place.source("source").start();
    let channel = source.channel();
    let mut peer = place
        .receiver("p2ps-peer", "peer", &channel)
        .args(["--latency", "0s"])
        .keep_stdout()
        .start()
        .attached();
    let mut read = vec![0; 1000];
    let media = slices(0, 1);
    source.write(&media);
    let mut stdout = peer.stdout.take().expect("its output");
    std::io::Read::read_exact(&mut stdout, &mut read).expect("media");
    assert_same("peer", &read, &media[..1000]);
    drop(stdout);
    // The reader's absence is noticed by the next write, or before.
    let media = slices(1, 1);
    source.write(&media);
    assert_eq!(peer.done()["reason"], "reader closed the output");
    let said = peer.lines();
    assert!(
        !said
            .iter()
            .any(|line| line.contains("warning") || line.contains("cannot")),
        "{said:?}"
    );
}

#[test]
fn s_10_a_killed_source_reuses_no_chunk_number() {
    let place = Place::new();
    let media = slices(0, 2);
    let mut last = None;
    for round in 0..20 {
        let mut source = place.source("source").start();
        source.interval();
        source.write(&media);
        // Twenty chunks of seven packets, unless the deadline cut them smaller.
        let first = source.record("everything signed", |record| {
            let first = record["first_chunk"].as_u64()?;
            let last = record["last_chunk"].as_u64()?;
            (record["event"] == "interval" && last - first >= 19).then_some(first)
        });
        // Killed with a munro open in some rounds.
        source.write(&media[..round * 188]);
        source.kill();
        assert!(
            Some(first) > last,
            "round {round}: {last:?} and then {first}"
        );
        let newest = source
            .records()
            .iter()
            .filter_map(|record| record["last_chunk"].as_u64())
            .max();
        last = newest.max(Some(first));
    }
}
