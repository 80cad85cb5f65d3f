//! Questions to a tracker and to a node: who is there, what would I get, how was it.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::{Place, program};

/// Exit status, the lines of standard output as JSON, and standard error.
fn ask(line: &str) -> (Option<i32>, Vec<Value>, String) {
    let mut words = line.split_whitespace();
    let tool = program(words.next().expect("a program"));
    let run = Command::new(tool)
        .args(words)
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    let out = String::from_utf8(run.stdout).expect("text");
    let json = |line: &str| serde_json::from_str(line).expect("an object a line");
    (
        run.status.code(),
        out.lines().map(json).collect(),
        String::from_utf8_lossy(&run.stderr).into_owned(),
    )
}

#[test]
fn channels_are_listed_and_offers_made_without_joining() {
    let place = Place::new();
    let tracker = place.program("p2ps-tracker", "tracker").start();
    let at = tracker.address();
    let (code, channels, _) = ask(&format!("p2ps-peer --list p2ps://{at}/"));
    assert_eq!((code, channels.len()), (Some(0), 0));
    let source = place
        .source("source")
        .args(["--tracker", &at, "--title", "A film"])
        .start();
    let relay = place
        .receiver("p2ps-relay", "relay", &format!("p2ps://{at}/film"))
        .start()
        .attached();
    let (code, channels, _) = ask(&format!("p2ps-peer --list --tracker {at}"));
    assert_eq!(code, Some(0));
    assert_eq!(
        (
            &channels[0]["name"],
            &channels[0]["title"],
            &channels[0]["peers"]
        ),
        (&"film".into(), &"A film".into(), &2.into())
    );
    let dry = "--dry-run --listen 127.0.0.1:0";
    let (code, offers, said) = ask(&format!("p2ps-peer p2ps://{at}/film {dry}"));
    assert_eq!((code, offers.len()), (Some(0), 1), "{said}");
    let first = &offers[0]["parents"][0];
    assert_eq!(
        (&offers[0]["content"], &offers[0]["depth"], &first["role"]),
        (&"film".into(), &2.into(), &"source".into())
    );
    assert_eq!(first["addr"], source.address().as_str());
    // Nobody joined for it.
    let (_, channels, _) = ask(&format!("p2ps-peer --list --tracker {at}"));
    assert_eq!(channels[0]["peers"], 2);
    let (code, _, said) = ask(&format!("p2ps-peer p2ps://{at}/news {dry}"));
    let expected = format!("p2ps-peer: no channel news: {at} knows none\n");
    assert_eq!((code, said), (Some(6), expected));
    drop((relay, tracker));
    let (code, _, said) = ask(&format!("p2ps-peer p2ps://{at}/film {dry}"));
    let expected = format!("p2ps-peer: cannot reach the tracker: {at} (connection refused)\n");
    assert_eq!((code, said), (Some(4), expected));
    let (code, _, said) = ask(&format!("p2ps-qos users film --tracker {at}"));
    let expected = format!("p2ps-qos: cannot reach the tracker: {at} (connection refused)\n");
    assert_eq!((code, said), (Some(4), expected));
}

#[test]
fn a_node_remembers_its_own_quality() {
    let place = Place::new();
    let source = place.source("source").start();
    let relay = place
        .receiver("p2ps-relay", "relay", &source.channel())
        .args(["--metrics", "127.0.0.1:0"])
        .start()
        .attached();
    let start = relay.event("start");
    let page = relay.line("the page", |line| {
        let (_, rest) = line.split_once("metrics at ")?;
        Some(rest.strip_suffix("/metrics")?.to_owned())
    });
    relay.interval();
    relay.interval();
    let (code, samples, said) = ask(&format!("p2ps-qos history --from {page}/history"));
    assert_eq!(code, Some(0), "{said}");
    assert!(samples.len() >= 2, "{samples:?}");
    for sample in &samples {
        assert_eq!(
            (&sample["id"], &sample["channel"]),
            (&start["node"], &start["channel"])
        );
        assert!(sample["ts"].as_str() > start["ts"].as_str(), "{sample}");
    }
    let last = &samples[samples.len() - 1];
    assert!(last["lat_ms"].as_f64().is_some(), "{last}");
    let since = last["ts"].as_str().expect("a time");
    let (_, late, _) = ask(&format!(
        "p2ps-qos history --from {page}/history --since {since}"
    ));
    assert_eq!(late.first(), Some(last));
    let (code, _, said) = ask(&format!("p2ps-qos history --from {page}/elsewhere"));
    assert_eq!(code, Some(1), "{said}");
}
