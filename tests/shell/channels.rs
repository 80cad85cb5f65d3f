//! A relay of several channels: each has records and metrics of its own.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixListener;

use serde_json::Value;

use crate::harness::{Place, Running, assert_same};
use crate::media::{SLICE_BYTES, slices};

/// A source under a key of its own.
fn source(place: &Place, name: &str) -> Running {
    let state = place.arg(name);
    place
        .program("p2ps-source", name)
        .args(["--channel", name, "--state-dir", &state])
        .start()
}

/// The page at `address`, without its head.
fn metrics(address: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let request = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer.split_once("\r\n\r\n").expect("a page").1.to_owned()
}

/// The value of a metric for one channel.
fn sample(page: &str, name: &str, channel: &str) -> u64 {
    let head = format!("{name}{{tool=\"p2ps-relay\",channel=\"{channel}\"}} ");
    let value = page.lines().find_map(|line| line.strip_prefix(&head));
    let value = value.unwrap_or_else(|| panic!("no {head}in\n{page}"));
    value.parse::<f64>().expect("a number") as u64
}

#[test]
fn every_channel_of_a_relay_is_seen() {
    let place = Place::new();
    let mut sources = ["film", "news"].map(|name| source(&place, name));
    let channels = [sources[0].channel(), sources[1].channel()];
    let lost = UnixListener::bind(place.path("lost")).expect("a socket for records");
    let lost_path = format!("unix:{}", place.arg("lost"));
    let mut relay = place
        .program("p2ps-relay", "relay")
        .args(["--from", "oldest", "--metrics", "127.0.0.1:0"])
        .args(["--stats", &lost_path])
        .args(&channels)
        .start();
    drop(lost.accept().expect("it connects"));
    let ids = channels.clone().map(|channel| {
        let id = channel
            .strip_prefix("p2ps://")
            .and_then(|rest| rest.split_once('@'));
        id.expect("an address with an identifier").0.to_owned()
    });
    for id in &ids {
        let start = relay.record("the start of a channel", |record| {
            (record["event"] == "start" && record["swarm"] == id.as_str()).then(|| record.clone())
        });
        assert_eq!(start["channel"], id.as_str());
    }
    let mut peers = [0, 1].map(|number| {
        let below = relay.channel_below(&channels[number]);
        let name = format!("peer-{number}");
        place
            .receiver("p2ps-peer", &name, &below)
            .start()
            .attached()
    });
    // The second has three times as much.
    let media = [slices(0, 10), slices(0, 30)];
    for (source, media) in sources.iter_mut().zip(&media) {
        source.feed(media.chunks(SLICE_BYTES));
        source.end_input();
    }
    for (number, peer) in peers.iter_mut().enumerate() {
        peer.done();
        assert_same("peer", &peer.media(), &media[number]);
    }
    let page = metrics(&relay.line("the page", |line| {
        let (_, rest) = line.split_once("metrics at http://")?;
        Some(rest.strip_suffix("/metrics")?.to_owned())
    }));
    relay.signal("TERM");
    relay.done();
    let records = relay.records();
    let of = |id: &str, event: &str| -> Vec<&Value> {
        let is_it = |record: &&Value| record["channel"] == id && record["event"] == event;
        records.iter().filter(is_it).collect()
    };
    let known = |record: &Value| ids.iter().any(|id| record["channel"] == id.as_str());
    assert!(records.iter().all(known));
    for (number, id) in ids.iter().enumerate() {
        let bytes = media[number].len() as u64;
        assert_eq!(sample(&page, "p2ps_recv_media_bytes_total", id), bytes);
        assert_eq!(sample(&page, "p2ps_sent_media_bytes_total", id), bytes);
        // What goes over the wire for one channel is not counted for the other: hashes and headers are the lesser part.
        let sent = sample(&page, "p2ps_sent_bytes_total", id);
        assert!((bytes..bytes * 2).contains(&sent), "{sent} for {bytes}");
        let [end] = of(id, "end")[..] else {
            panic!("one end of {id}");
        };
        assert_eq!(end["recv_media_bytes_total"], bytes);
        let recv = end["recv_bytes_total"].as_u64().expect("bytes");
        assert!((bytes..bytes * 2).contains(&recv), "{recv} for {bytes}");
        // The name is learnt on the way, and beside the identifier: no record is called otherwise than the first.
        let name = ["film", "news"][number];
        assert_eq!(end["channel_name"], name);
        let info = format!(
            "p2ps_channel_info{{tool=\"p2ps-relay\",channel=\"{id}\",name=\"{name}\"}} 1\n"
        );
        assert!(page.contains(&info), "{page}");
        assert!(end["first_chunk"].as_u64() < end["last_chunk"].as_u64());
        assert_eq!(end["handshakes_total"], 2);
        // What is lost on both is counted on one.
        let dropped = end["dropped_records_total"].as_u64();
        assert_eq!(dropped > Some(0), number == 0, "{dropped:?}");
        assert!(!of(id, "interval").is_empty());
        assert!(!of(id, "state").is_empty());
    }
}

#[test]
fn a_channel_that_is_given_twice_is_refused() {
    let place = Place::new();
    let id = "0f".to_owned() + &"25".repeat(32);
    let uri = format!("p2ps://{id}@127.0.0.1:9");
    let mut relay = place
        .receiver("p2ps-relay", "relay", &uri)
        .args([&uri])
        .start();
    assert_eq!(relay.exit(), Some(2));
    let expected = format!("p2ps-relay: bad channel {id}: given twice");
    assert_eq!(relay.lines().pop(), Some(expected));
}
