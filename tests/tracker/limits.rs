//! What strangers may take of the tracker's connections: the same behind TLS, and with thousands of them.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use p2ps::io::http;
use p2ps::io::http::server::{Identity, Options, make_room};
use rcgen::generate_simple_self_signed;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};

use super::{PATIENCE, SWARM, Tracker, left_out, read_to_end, source, viewer};

/// Somebody behind TLS.
fn identity() -> Identity {
    let made = generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let key = made.signing_key.serialize_pem();
    Identity::from_pem(made.cert.pem().as_bytes(), key.as_bytes()).expect("a pair")
}

/// The record header and the first bytes of a ClientHello that says it is 200 bytes long.
const HALF_A_HELLO: &[u8] = b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03";

#[tokio::test]
async fn s_40_handshakes_that_do_not_end_are_headers_that_do_not_come() {
    let options = Options {
        header_timeout: Duration::from_millis(40),
        ..Options::default()
    };
    let tracker = Tracker::with_identity(options, Some(identity())).await;
    for half in [&b""[..], HALF_A_HELLO] {
        // Not a word of plain HTTP, which would be none of TLS.
        assert_eq!(tracker.raw(half).await, "");
    }
    assert_eq!(tracker.stats().1.timeouts_total, 2);
    assert_eq!(tracker.stats().1.connections_total, 2);
}

#[tokio::test]
async fn s_40_connections_that_are_too_many_for_tls() {
    let options = Options {
        connections_per_address: 1,
        ..Options::default()
    };
    let tracker = Tracker::with_identity(options, Some(identity())).await;
    let mut first = TcpStream::connect(tracker.addr).await.expect("it listens");
    first.write_all(HALF_A_HELLO).await.expect("it reads");
    let mut second = TcpStream::connect(tracker.addr).await.expect("it listens");
    assert_eq!(read_to_end(&mut second).await, "");
    assert_eq!(tracker.stats().1.refused_total, 1);
}

/// Connections that send one header for ever.
const SLOW: usize = 10_000;

/// Of one address: less than what it may have.
const SLOW_PER_ADDRESS: usize = 50;

/// Somebody who begins a header.
async fn slow(tracker: &Tracker, number: usize) -> TcpStream {
    let host = u16::try_from(number / SLOW_PER_ADDRESS).expect("200 addresses");
    let [high, low] = (host + 1).to_be_bytes();
    let socket = TcpSocket::new_v4().expect("a socket");
    let from = Ipv4Addr::new(127, 1, high, low);
    socket.bind(SocketAddr::from((from, 0))).expect("loopback");
    let mut stream = socket.connect(tracker.addr).await.expect("it listens");
    let half = b"POST / HTTP/1.1\r\nho";
    stream.write_all(half).await.expect("it reads");
    stream
}

/// More slow connections than there are places, from many addresses, and nothing but who is brief drives them out:
/// whoever is brief is served.
#[tokio::test]
async fn s_40_slow_connections_leave_the_others_alone() {
    let options = Options {
        header_timeout: 30 * PATIENCE,
        idle_timeout: 30 * PATIENCE,
        ..Options::default()
    };
    // Both ends of each are in this process.
    let needed = SLOW + options.connections_max + 64;
    if make_room(needed) < needed {
        let test = "s_40_slow_connections_leave_the_others_alone";
        left_out(test, &format!("a hard limit of {needed} open files"));
        return;
    }
    let tracker = Tracker::start(options).await;
    assert_eq!(tracker.ask(source()).await["error_code"], 0);
    let mut all = Vec::with_capacity(SLOW);
    for number in 0..SLOW {
        all.push(slow(&tracker, number).await);
        if number % 500 == 0 {
            assert_eq!(tracker.get("/healthz").await.body, "ok\n", "{number}");
        }
    }
    for number in 0..20 {
        let mut joins = viewer();
        joins["peer_id"] = json!(format!("viewer{number}"));
        assert_eq!(tracker.ask(joins).await["error_code"], 0);
    }
    let http = tracker.stats().1;
    assert_eq!((http.refused_total, http.timeouts_total), (0, 0));
    assert!(http.connections <= options.connections_max as u64);
    assert!(http.called_off_total >= (SLOW - options.connections_max) as u64);
    // Those that had been slow for longest went, and were told.
    let told = read_to_end(&mut all[0]).await;
    assert!(told.starts_with("HTTP/1.1 503 "), "{told}");
    let last = all.last().expect("ten thousand");
    assert!(
        last.try_read(&mut [0]).is_err(),
        "the newest are still there"
    );
}

/// A body with these members in the envelope, as text, and the transaction `t9`.
fn body(members: &str) -> String {
    format!(r#"{{"PPSPTrackerProtocol":{{"version":1,"transaction_id":"t9",{members}}}}}"#)
}

/// Posts a body; gives status, error code (none outside the protocol) and what is said for people.
async fn said(tracker: &Tracker, body: impl Into<Vec<u8>>) -> (u16, Option<u64>, String) {
    let body = body.into();
    let mut request = format!(
        "POST / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend(body);
    let answer = tracker.raw(&request).await;
    assert!(!answer.contains('\u{1b}') && !answer.contains('\u{7}'));
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    let (_, text) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let value: Value = serde_json::from_str(text).expect("JSON");
    let protocol = &value["PPSPTrackerProtocol"];
    let why = match protocol {
        Value::Null => &value["error"],
        protocol => {
            assert_eq!(protocol["transaction_id"], "t9");
            &protocol["x_ext"]["reject"]["text"]
        }
    };
    (
        status.expect("a status"),
        protocol["error_code"].as_u64(),
        why.as_str().unwrap_or_default().to_owned(),
    )
}

const FIND: &str = r#""request_type":"FIND","peer_id":"p","find":{"swarm_id":"s"}"#;

#[tokio::test]
async fn s_41_json_that_hurts_is_an_error_and_nothing_more() {
    let tracker = Tracker::start(Options::default()).await;
    let nested = |depth: usize| format!("{FIND},\"x\":{}1{}", "[".repeat(depth), "]".repeat(depth));
    let long = "x".repeat(10_240);
    for (members, expected) in [
        // Depth is counted from the outermost object, which is two above the member.
        (nested(31), Some("31")),
        (nested(30), None),
        (format!("{FIND},\"version\":1"), Some("member twice")),
        (
            format!("{FIND},\"x\":[{}1]", "1,".repeat(1024)),
            Some("1024"),
        ),
        (
            FIND.replace("\"s\"", &format!("\"{long}\"")),
            Some("10240 bytes"),
        ),
        (FIND.replace("\"s\"", "{}"), Some("swarm_id")),
        (FIND.replace("\"p\"", "[]"), Some("peer_id")),
    ] {
        let (status, code, why) = said(&tracker, body(&members)).await;
        match expected {
            Some(part) => {
                assert_eq!((status, code), (200, Some(1)), "{members:.80} {why}");
                assert!(!why.is_empty(), "{part} of {members:.80}");
            }
            // Well-formed: the peer is unknown.
            None => assert_eq!((status, code), (200, Some(3)), "{members:.80}"),
        }
    }
    // What breaks the syntax has no transaction to answer.
    for broken in [
        body(&format!("{FIND},\"x\":NaN")).into_bytes(),
        body(&format!("{FIND},\"x\":1e999")).into_bytes(),
        body(&format!("{FIND},\"x\":\"\\ud800\"")).into_bytes(),
        [body(FIND).as_bytes(), b"\xff"].concat(),
        "[".repeat(60_000).into_bytes(),
        Vec::new(),
    ] {
        let (status, code, why) = said(&tracker, broken).await;
        assert_eq!((status, code), (400, None), "{why}");
        assert!(!why.is_empty());
    }
}

#[tokio::test]
async fn s_42_names_with_escapes_are_errors() {
    let tracker = Tracker::start(Options::default()).await;
    for (member, value) in [
        ("channel", "\u{1b}]0;x\u{7}../../etc"),
        ("channel", "../../etc"),
        ("channel", ".."),
        ("title", "a \u{1b}[31mfilm"),
    ] {
        let mut request = source();
        request["x_ext"][member] = json!(value);
        let answer = tracker.ask(request).await;
        assert_eq!(answer["error_code"], 1, "{member} {value}");
        assert!(!answer.to_string().contains("etc"));
    }
    let mut request = source();
    request["peer_id"] = json!("\u{1b}]0;x\u{7}");
    assert_eq!(tracker.ask(request).await["error_code"], 1);
    // Nothing of it reached the lists that people look at.
    let channels: Value =
        serde_json::from_str(&tracker.get("/v1/channels").await.body).expect("JSON");
    assert_eq!(channels, json!({"channels": []}));
    assert!(!tracker.get("/metrics").await.body.contains('\u{1b}'));
}

#[tokio::test]
async fn s_43_an_address_is_the_one_that_the_connection_came_from() {
    let tracker = Tracker::start(Options::default()).await;
    let mut seeder = source();
    seeder["connect"]["peer_addr"] = json!([
        {"ip_address": {"address_type": "ipv4", "address": "198.51.100.66"}, "port": 53, "priority": 9, "type": "HOST"},
    ]);
    assert_eq!(tracker.ask(seeder).await["error_code"], 0);
    let joined = tracker
        .ask(json!({"request_type": "CONNECT", "peer_id": "v",
            "connect": {"swarm_action": [{"swarm_id": SWARM, "action": "JOIN", "peer_mode": "LEECH"}]}}))
        .await;
    assert!(!joined.to_string().contains("198.51.100.66"), "{joined}");
    let listed = &joined["swarm_result"][0]["peer_group"]["peer_info"][0]["peer_addr"];
    assert_eq!(listed["ip_address"]["address"], "127.0.0.1");
}

#[tokio::test]
async fn s_52_a_tracker_of_this_machine_is_called_by_its_name() {
    let tracker = Tracker::start(Options::default()).await;
    for (host, status) in [
        ("localhost", 200),
        ("127.0.0.1:7851", 200),
        ("[::1]:7851", 200),
        ("rebound.evil.example", 403),
        ("192.0.2.1", 403),
    ] {
        for path in ["/v1/channels", "/healthz", "/metrics"] {
            let answer = tracker
                .raw(
                    format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")
                        .as_bytes(),
                )
                .await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{host} {path}: {answer}"
            );
            // No page of another site is ever allowed to read an answer.
            assert!(
                !answer.to_lowercase().contains("access-control"),
                "{answer}"
            );
        }
    }
    let body = body(FIND);
    let answer = tracker
        .raw(
            format!(
                "POST / HTTP/1.1\r\nhost: rebound.evil.example\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
            .as_bytes(),
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert_eq!(tracker.stats().0.requests_total, 0);
}

#[tokio::test]
async fn bad_input_38_bodies_too_long_and_headers_too_slow() {
    let options = Options {
        header_timeout: Duration::from_millis(40),
        ..Options::default()
    };
    let tracker = Tracker::start(options).await;
    let answer = http::post(tracker.url("/"), "x".repeat(65_537), PATIENCE)
        .await
        .expect("an answer");
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (413, r#"{"error":"request body over 65536 bytes"}"#)
    );
    let answer = tracker.raw(b"POST / HTTP/1.1\r\nhost: loc").await;
    assert!(
        answer.starts_with("HTTP/1.1 408 ")
            && answer.ends_with(r#"{"error":"request header did not come in time"}"#),
        "{answer}"
    );
}

#[tokio::test]
async fn bad_input_39_json_within_the_protocol_and_outside() {
    let tracker = Tracker::start(Options::default()).await;
    let long = FIND.replace("\"p\"", &format!("\"{}\"", "x".repeat(10_240)));
    // RFC 7846 error 01 for what can be parsed, with a line for people where the peer reads ours.
    let (status, code, why) = said(&tracker, body(&long)).await;
    assert_eq!(
        (status, code, why.as_str()),
        (200, Some(1), "peer_id: 10240 bytes, limit 256")
    );
    let (status, code, why) = said(&tracker, body(&format!("{FIND},\"version\":1"))).await;
    assert_eq!(
        (status, code, why.as_str()),
        (200, Some(1), "version: member twice")
    );
    let (status, code, why) = said(&tracker, "{\"\u{fffd}").await;
    assert_eq!((status, code), (400, None));
    assert!(why.starts_with("not JSON: "), "{why}");
    let (status, _, why) = said(&tracker, b"{\"PPSP\xff".to_vec()).await;
    assert_eq!(status, 400, "{why}");
}

#[tokio::test]
async fn bad_input_40_claimed_addresses_are_ignored() {
    let tracker = Tracker::start(Options::default()).await;
    tracker.ask(source()).await;
    for (number, (kind, address, port)) in [
        ("ipv4", "198.51.100.66", 7000),
        ("ipv6", "::ffff:127.0.0.1", 7001),
        ("ipv4", "224.0.0.1", 7002),
        ("ipv4", "127.0.0.1", 53),
        ("ipv4", "127.0.0.1", 0),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = tracker
            .ask(json!({"request_type": "CONNECT", "peer_id": format!("liar{number}"),
                "connect": {
                    "peer_addr": [{"ip_address": {"address_type": kind, "address": address}, "port": port,
                        "priority": 1, "type": "HOST"}],
                    "swarm_action": [{"swarm_id": SWARM, "action": "JOIN", "peer_mode": "SEEDER"}]}}))
            .await;
        assert!(
            answer["error_code"] == 0 || answer["error_code"] == 1,
            "{answer}"
        );
    }
    let list = tracker
        .ask(json!({"request_type": "CONNECT", "peer_id": "viewer",
            "connect": {"swarm_action": [{"swarm_id": SWARM, "action": "JOIN", "peer_mode": "LEECH"}]}}))
        .await;
    let infos = list["swarm_result"][0]["peer_group"]["peer_info"]
        .as_array()
        .expect("a list");
    assert!(!infos.is_empty());
    for info in infos {
        let addr = &info["peer_addr"];
        assert_eq!(addr["ip_address"]["address"], "127.0.0.1", "{info}");
        assert!(
            addr["port"].as_u64().is_some_and(|port| port >= 1024),
            "{info}"
        );
    }
}
