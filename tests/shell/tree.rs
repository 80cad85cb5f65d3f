//! Trees of real programs: every byte reaches every viewer.

use crate::harness::{Place, Running, assert_same, left_out, sha256};
use crate::media::{SLICE_BYTES, clip, slices};

/// Waits for everybody's good end, and compares what came out with `expected`.
fn everybody_has(expected: &[u8], source: &mut Running, peers: &mut [Running]) {
    let sum = sha256(expected);
    let end = source.done();
    assert_eq!(end["media_sha256"], sum.as_str());
    assert_eq!(end["media_bytes_total"], expected.len());
    for (number, peer) in peers.iter_mut().enumerate() {
        let end = peer.done();
        assert_same(&format!("peer {number}"), &peer.media(), expected);
        assert_eq!(end["media_sha256"], sum.as_str(), "peer {number}");
        assert_eq!(end["media_bytes_total"], expected.len(), "peer {number}");
        assert_eq!(end["reason"], "channel ended", "peer {number}");
    }
}

/// A source, a relay below it, two peers below the relay and one below the first of them.
fn tree(place: &Place) -> (Running, Running, Vec<Running>) {
    let source = place.source("source").start();
    let channel = source.channel();
    let relay = place
        .receiver("p2ps-relay", "relay", &channel)
        .start()
        .attached();
    let at_relay = relay.channel_below(&channel);
    let first = place
        .receiver("p2ps-peer", "peer-1", &at_relay)
        .start()
        .attached();
    let second = place
        .receiver("p2ps-peer", "peer-2", &at_relay)
        .start()
        .attached();
    let at_peer = first.channel_below(&channel);
    let third = place
        .receiver("p2ps-peer", "peer-3", &at_peer)
        .start()
        .attached();
    (source, relay, vec![first, second, third])
}

#[test]
fn a_tree_of_source_relay_and_peers_delivers_every_byte() {
    let place = Place::new();
    let (mut source, relay, mut peers) = tree(&place);
    let media = slices(0, 30);
    source.feed(media.chunks(SLICE_BYTES));
    source.end_input();
    everybody_has(&media, &mut source, &mut peers);
    // A relay stays for the next stream.
    let mut relay = relay;
    relay.signal("TERM");
    assert_eq!(relay.done()["reason"], "asked to stop");
}

#[test]
fn media_of_ffmpeg_arrives_unchanged() {
    let place = Place::new();
    let Some(media) = clip(&place, 4) else {
        left_out("media_of_ffmpeg_arrives_unchanged", "ffmpeg");
        return;
    };
    let (mut source, _relay, mut peers) = tree(&place);
    // ffmpeg writes in blocks that have nothing to do with packets.
    source.feed(media.chunks(media.len() / 37));
    source.end_input();
    everybody_has(&media, &mut source, &mut peers);
}

#[test]
fn bytes_of_any_kind_arrive_unchanged() {
    let place = Place::new();
    let (mut source, _relay, mut peers) = tree(&place);
    let media: Vec<u8> = (0..200_003_u32)
        .map(|at| (at.wrapping_mul(0x9e37_79b9) >> 24) as u8 & 0x3f)
        .collect();
    source.feed(media.chunks(20_000));
    source.end_input();
    everybody_has(&media, &mut source, &mut peers);
    source.line("raw input", |line| {
        line.contains("no MPEG transport stream").then_some(())
    });
}

#[test]
fn viewers_find_each_other_through_the_tracker() {
    let place = Place::new();
    // The tracker's address has to be known beforehand; everybody else is there before the one they look for.
    let tracker = place.program("p2ps-tracker", "tracker").start();
    let at = tracker.address();
    let uri = format!("p2ps://{at}/film");
    let peer = place.receiver("p2ps-peer", "peer", &uri).start();
    let relay = place
        .program("p2ps-relay", "relay")
        .args(["--from", "oldest", "--channel", "film", "--tracker", &at])
        .start();
    tracker.record("a request", |record| {
        (record["event"] == "interval" && record["requests_total"].as_u64() > Some(1)).then_some(())
    });
    let mut source = place.source("source").args(["--tracker", &at]).start();
    let (relay, peer) = (relay.attached(), peer.attached());
    let media = slices(0, 30);
    source.feed(media.chunks(SLICE_BYTES));
    source.end_input();
    everybody_has(&media, &mut source, &mut [peer]);
    drop(relay);
    tracker.signal("TERM");
    let mut tracker = tracker;
    tracker.done();
}
