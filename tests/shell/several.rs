//! Viewers who get the stream from several parents at once.

use serde_json::Value;

use crate::harness::{Place, Running, assert_same};
use crate::media::{SLICE_BYTES, slices};

/// Waits until a tool counts so many parents.
fn parents(of: &Running, count: u64) {
    of.record(&format!("{count} parents"), |record| {
        let is_interval = record["event"] == "interval";
        (is_interval && record["parents"].as_u64() == Some(count)).then_some(())
    });
}

fn total(end: &Value, field: &str) -> u64 {
    end[field]
        .as_u64()
        .unwrap_or_else(|| panic!("{field}: {end}"))
}

/// PSP in its mixed mode (algorithms 3.2): what supporting viewers have to spare, and the rest from the server; and the
/// server alone when they leave.
#[test]
fn t_psp_3_supporters_share_a_viewer_with_the_server() {
    let place = Place::alone();
    let tracker = place
        .program("p2ps-tracker", "tracker")
        .args(["--placement", "psp"])
        .start();
    let at = tracker.address();
    let mut source = place
        .source("source")
        .args(["--tracker", &at, "--substreams", "4"])
        .start();
    source.channel();
    let film = format!("p2ps://{at}/film");
    // The media has 1.05 Mbit/s; the server has room for one viewer and a half.
    let relay = place
        .program("p2ps-relay", "relay")
        .args(["--cluster", "north", "--capacity", "1700kbit", &film])
        .start()
        .attached();
    let viewer = |name: &str, upload: &[&str]| {
        let viewer = place.program("p2ps-peer", name).args(["--latency", "1s"]);
        viewer.args(upload).args([film.as_str()]).start()
    };
    let media = slices(0, 300);
    let mut rest = media.chunks(SLICE_BYTES);
    source.feed(rest.by_ref().take(20));
    let mut supporter = viewer("supporter", &["--upload-limit", "700kbit"]).attached();
    source.feed(rest.by_ref().take(40));
    let mut shared = viewer("shared", &["--no-upload"]).attached();
    let mut fed = 0;
    while shared_parents(&shared) < 2 {
        source.feed(rest.by_ref().take(1));
        fed += 1;
        assert!(fed < 150, "it never got a second parent");
    }
    source.feed(rest.by_ref().take(20));
    supporter.kill();
    source.feed(rest.by_ref().take(30));
    parents(&shared, 1);
    source.end_input();
    source.done();
    let end = shared.done();
    let watched = shared.media();
    let sent = &media[..media.len() - rest.map(<[u8]>::len).sum::<usize>()];
    assert!(watched.len() > 50 * SLICE_BYTES, "{}", watched.len());
    assert_same("shared", &watched, &sent[sent.len() - watched.len()..]);
    assert_eq!(total(&end, "stalls_total"), 0);
    drop(relay);
}

/// How many parents the last interval counted.
fn shared_parents(of: &Running) -> u64 {
    let records = of.records();
    let last = records
        .iter()
        .rev()
        .find_map(|record| record["parents"].as_u64());
    last.unwrap_or(0)
}
