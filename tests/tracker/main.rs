//! The tracker over real HTTP on loopback: port 0, a clock that the test turns, time-outs of milliseconds.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use p2ps::io::http::server::{HttpStats, Identity, Options, Server, bind};
use p2ps::io::http::{self, Answer, HttpError};
use p2ps::rng::Seed;
use p2ps::time::Instant;
use p2ps::tracker::placement::psp::{self, Psp};
use p2ps::tracker::registry::{Config, Registry, Stats};
use p2ps::tracker::service::Service;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

mod access;
mod announcers;
mod garbage;
mod limits;
mod page;
mod provider;
mod redirects;
mod states;

const SWARM: &str = "0f974d96a22d224bc01adb915091477d44ccd91c9a41a11430010117d52c59240e";

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A tracker in this process.
struct Tracker {
    addr: SocketAddr,
    server: Server,
    micros: Arc<AtomicU64>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Tracker {
    async fn start(options: Options) -> Self {
        Self::with_identity(options, None).await
    }

    async fn with_identity(options: Options, identity: Option<Identity>) -> Self {
        let registry = Registry::new(Config::default(), Seed::from_number(1));
        Self::with(registry, options, identity).await
    }

    async fn with(registry: Registry, options: Options, identity: Option<Identity>) -> Self {
        let service = Service::new(registry, None);
        let dress = |server: Server| server.with_options(options).with_identity(identity);
        Self::serve(service, dress).await
    }

    async fn serve(service: Service, dress: impl FnOnce(Server) -> Server) -> Self {
        let listener = bind("127.0.0.1:0".parse().expect("an address"), false)
            .await
            .expect("loopback can be bound");
        let addr = listener.local_addr().expect("it is bound");
        let micros = Arc::new(AtomicU64::new(0));
        let clock = {
            let micros = Arc::clone(&micros);
            move || Instant::from_micros(micros.load(Ordering::Relaxed))
        };
        let server = dress(Server::new(Arc::new(Mutex::new(service)), clock));
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.clone().serve(listener, async {
            let _ = stopped.await;
        }));
        Self {
            addr,
            server,
            micros,
            stop: Some(stop),
            task,
        }
    }

    fn turn_clock(&self, seconds: u64) {
        self.micros
            .fetch_add(seconds * 1_000_000, Ordering::Relaxed);
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    fn stats(&self) -> (Stats, HttpStats) {
        (self.server.stats(), self.server.http_stats())
    }

    /// Posts members in the envelope and gives those of the answer.
    async fn ask(&self, members: Value) -> Value {
        let mut protocol =
            json!({"version": 1, "transaction_id": members.to_string().len().to_string()});
        if let (Some(protocol), Value::Object(members)) = (protocol.as_object_mut(), members) {
            protocol.extend(members);
        }
        let body = json!({"PPSPTrackerProtocol": protocol}).to_string();
        let answer = http::post(self.url("/any/path"), body, PATIENCE)
            .await
            .expect("the tracker answers");
        assert_eq!(answer.status, 200);
        let mut value: Value = serde_json::from_str(&answer.body).expect("JSON");
        value["PPSPTrackerProtocol"].take()
    }

    async fn get(&self, path: &str) -> Answer {
        http::get(self.url(path), PATIENCE)
            .await
            .expect("the tracker answers")
    }

    /// Writes bytes and reads until the tracker closes the connection.
    async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.addr).await.expect("it listens");
        stream.write_all(bytes).await.expect("it reads");
        read_to_end(&mut stream).await
    }
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer))
        .await
        .expect("the tracker closes in time")
        .expect("and does so cleanly");
    String::from_utf8(answer).expect("text")
}

/// Says that a test was left out; not by `eprintln!`, which the test harness keeps to itself.
fn left_out(test: &str, needs: &str) {
    let line = format!("left out: {test}: needs {needs}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}

fn source() -> Value {
    json!({
        "request_type": "CONNECT", "peer_id": "source",
        "x_ext": {"role": "source", "channel": "film", "title": "A <film>", "description": "c2lnbmVk",
                  "port": 7850, "depth": 1, "slots_free": 3},
        "connect": {"swarm_action": [{"swarm_id": SWARM, "action": "JOIN", "peer_mode": "SEEDER"}]}
    })
}

fn viewer() -> Value {
    json!({
        "request_type": "CONNECT", "peer_id": "viewer",
        "x_ext": {"role": "peer", "channel": "film", "port": 7860, "slots_free": 3},
        "connect": {
            "peer_addr": [{"ip_address": {"address_type": "ipv4", "address": "198.51.100.66"}, "port": 5353,
                           "priority": 1, "type": "HOST"}],
            "swarm_action": [{"swarm_id": "", "action": "JOIN", "peer_mode": "LEECH"}]}
    })
}

#[tokio::test]
async fn join_find_report_and_expiry() {
    let tracker = Tracker::start(Options::default()).await;
    let before = tracker.ask(viewer()).await;
    assert_eq!(before["x_ext"]["reject"]["code"], "no_such_channel");

    assert_eq!(tracker.ask(source()).await["error_code"], 0);
    let joined = tracker.ask(viewer()).await;
    assert_eq!(joined["x_ext"]["parents"][0]["addr"], "127.0.0.1:7850");
    assert_eq!(joined["x_ext"]["channel"]["description"], "c2lnbmVk");
    assert_eq!(joined["peer_addr"]["ip_address"]["address"], "127.0.0.1");

    tracker.turn_clock(30);
    let report = json!({
        "request_type": "STAT_REPORT", "peer_id": "viewer",
        "x_ext": {"role": "peer", "port": 7860, "depth": 2, "parent": "source", "slots_free": 3}
    });
    assert_eq!(tracker.ask(report.clone()).await["error_code"], 0);
    tracker.turn_clock(5);
    let found = tracker
        .ask(json!({"request_type": "FIND", "peer_id": "viewer", "find": {"swarm_id": SWARM}}))
        .await;
    // The source was silent for 35 s.
    assert_eq!(
        found["swarm_result"][0]["peer_group"]["peer_info"],
        json!([])
    );
    tracker.turn_clock(35);
    assert_eq!(tracker.ask(report).await["error_code"], 3);
    let (stats, _) = tracker.stats();
    assert_eq!(
        (stats.peers, stats.channels, stats.expired_total),
        (0, 0, 2)
    );
}

#[tokio::test]
async fn names_are_taken_and_s_43_claimed_addresses_go_nowhere() {
    let tracker = Tracker::start(Options::default()).await;
    tracker.ask(source()).await;
    tracker.ask(viewer()).await;
    let mut other = source();
    other["peer_id"] = json!("other");
    other["connect"]["swarm_action"][0]["swarm_id"] = json!("ffff");
    let refused = tracker.ask(other).await;
    assert_eq!(refused["error_code"], 3);
    assert_eq!(refused["x_ext"]["reject"]["code"], "name_taken");

    // The viewer claimed to be a victim's address; attached now, it is handed out where it really is.
    let report = json!({
        "request_type": "STAT_REPORT", "peer_id": "viewer",
        "x_ext": {"role": "peer", "depth": 2, "parent": "source", "slots_free": 3}
    });
    tracker.ask(report).await;
    let mut third = viewer();
    third["peer_id"] = json!("third");
    let answer = tracker.ask(third).await;
    assert_eq!(answer["x_ext"]["parents"][1]["addr"], "127.0.0.1:7860");
    assert!(!answer.to_string().contains("198.51.100.66"));
}

#[tokio::test]
async fn documents_beside_the_protocol() {
    let tracker = Tracker::start(Options::default()).await;
    tracker.ask(source()).await;
    tracker.ask(viewer()).await;
    assert_eq!(tracker.get("/healthz").await.body, "ok\n");
    assert_eq!(tracker.get("/readyz").await.body, "ready\n");
    let parsed = |answer: Answer| serde_json::from_str::<Value>(&answer.body).expect("JSON");
    assert_eq!(
        parsed(tracker.get("/v1/channels").await),
        json!({"channels": [{"name": "film", "swarm_id": SWARM, "title": "A <film>", "peers": 2}]})
    );
    assert_eq!(
        parsed(tracker.get("/v1/channels/film").await),
        json!({"name": "film", "swarm_id": SWARM, "title": "A <film>", "description": "c2lnbmVk", "peers": 2})
    );
    for path in ["/v1/channels/other", "/v1/channels/%1b", "/nothing"] {
        assert_eq!(tracker.get(path).await.status, 404, "{path}");
    }
    let metrics = tracker.get("/metrics").await.body;
    for line in [
        "p2ps_tracker_joins_total 2",
        "p2ps_tracker_peers 2",
        "p2ps_tracker_channels 1",
        "p2ps_tracker_rejects_total{reason=\"name_taken\"} 0",
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line} in {metrics}"
        );
    }
    tracker.turn_clock(35);
    assert_eq!(
        parsed(tracker.get("/v1/channels").await),
        json!({"channels": []})
    );
}

#[tokio::test]
async fn s_40_bodies_that_are_too_long() {
    let tracker = Tracker::start(Options::default()).await;
    let expected = r#"{"error":"request body over 65536 bytes"}"#;
    for bytes in [65_537, 300_000] {
        let answer = http::post(tracker.url("/"), "x".repeat(bytes), PATIENCE)
            .await
            .expect("an answer");
        assert_eq!((answer.status, answer.body.as_str()), (413, expected));
    }
    // Announced only: nobody waits for it.
    let answer = tracker
        .raw(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99999999999\r\n\r\n")
        .await;
    assert!(
        answer.starts_with("HTTP/1.1 413 ") && answer.ends_with(expected),
        "{answer}"
    );
    // In pieces, of no announced length.
    let piece = format!("8000\r\n{}\r\n", "y".repeat(0x8000));
    let body = format!(
        "POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n{piece}{piece}{piece}0\r\n\r\n"
    );
    let answer = tracker.raw(body.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    // The longest body that is taken is answered by the protocol.
    let answer = http::post(tracker.url("/"), " ".repeat(65_536), PATIENCE)
        .await
        .expect("an answer");
    assert_eq!(answer.status, 400);
    assert_eq!(tracker.stats().1.oversized_total, 4);
    // A header over 8 KiB.
    let header = format!(
        "GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n",
        "z".repeat(9000)
    );
    let answer = tracker.raw(header.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn s_40_headers_and_bodies_that_do_not_come() {
    let short = Duration::from_millis(40);
    let tracker = Tracker::start(Options {
        header_timeout: short,
        body_timeout: short,
        ..Options::default()
    })
    .await;
    let answer = tracker.raw(b"POST / HTTP/1.1\r\nho").await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    let answer = tracker
        .raw(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n{")
        .await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_eq!(tracker.stats().1.timeouts_total, 2);
    // Who says nothing at all, or has been answered, is left without a word.
    assert_eq!(tracker.raw(b"").await, "");
    let answer = tracker
        .raw(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok\n"),
        "{answer}"
    );
}

#[tokio::test]
async fn clusters_and_what_the_model_says_of_them() {
    let psp = Psp::new(psp::Settings::default());
    let registry = Registry::new(Config::default(), Seed::from_number(1));
    let registry = registry.with_placement(Box::new(psp));
    let tracker = Tracker::with(registry, Options::default(), None).await;
    tracker.ask(source()).await;
    let join = |peer: &str, ext: Value| {
        json!({
            "request_type": "CONNECT", "peer_id": peer, "x_ext": ext,
            "connect": {"swarm_action": [{"swarm_id": SWARM, "action": "JOIN", "peer_mode": "LEECH"}]}
        })
    };
    let server = json!({"role": "relay", "port": 7850, "depth": 2, "parent": "source", "cluster": "east",
                        "capacity_kbps": 4000});
    tracker.ask(join("server", server)).await;
    let viewer = json!({"role": "peer", "port": 7851});
    let first = tracker.ask(join("one", viewer.clone())).await;
    assert_eq!(first["x_ext"]["parents"][0]["peer"], "server");
    let second = tracker.ask(join("two", viewer)).await;
    assert_eq!(second["error_code"], 5);
    let reject = &second["x_ext"]["reject"];
    assert_eq!(
        (reject["code"].as_str(), reject["retry_s"].as_u64()),
        (Some("full"), Some(10))
    );
    let answer = tracker.get("/v1/clusters").await;
    let list: Value = serde_json::from_str(&answer.body).expect("JSON");
    let east = &list["clusters"][0];
    assert_eq!(
        (
            &east["name"],
            &east["sessions"],
            &east["requests_total"],
            &east["rejects_total"]
        ),
        (&json!("east"), &json!(1), &json!(2), &json!(1))
    );
    assert_eq!(
        east["servers"],
        json!([{"peer": "server", "capacity_kbps": 4000, "used_kbps": 4000, "sessions": 1}])
    );
    assert_eq!(east["reject_ratio"], 0.5);
    assert!(east["model"]["reject_ratio"].is_number(), "{east}");
    let metrics = tracker.get("/metrics").await.body;
    assert!(metrics.contains("p2ps_tracker_supporters 0\n"), "{metrics}");
    assert!(
        metrics.contains("p2ps_tracker_model_reject_ratio 0."),
        "{metrics}"
    );
}

#[tokio::test]
async fn s_40_connections_on_which_nothing_moves() {
    let tracker = Tracker::start(Options {
        idle_timeout: Duration::from_millis(40),
        ..Options::default()
    })
    .await;
    assert_eq!(tracker.raw(b"POST / HTTP/1.1\r\n").await, "");
    assert_eq!(tracker.stats().1.timeouts_total, 1);
}

#[tokio::test]
async fn s_40_connections_that_are_too_many_of_one_address() {
    let tracker = Tracker::start(Options {
        connections_per_address: 2,
        ..Options::default()
    })
    .await;
    let mut open = Vec::new();
    for _ in 0..2 {
        open.push(TcpStream::connect(tracker.addr).await.expect("it listens"));
    }
    let mut third = TcpStream::connect(tracker.addr).await.expect("it listens");
    assert!(read_to_end(&mut third).await.starts_with("HTTP/1.1 429 "));
    assert_eq!(tracker.stats().1.refused_total, 1);
    // Whoever leaves makes room: the end of the file says that the tracker has seen it go.
    let mut first = open.remove(0);
    first
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .await
        .expect("it reads");
    assert!(read_to_end(&mut first).await.ends_with("ok\n"));
    while tracker.stats().1.connections > 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(tracker.get("/healthz").await.status, 200);
}

/// F28. Runs itself again in a process of its own that may open few files.
#[test]
fn s_40_accepting_goes_on_after_a_want_of_descriptors() {
    const NAME: &str = "s_40_accepting_goes_on_after_a_want_of_descriptors";
    const CHILD: &str = "P2PS_TEST_FEW_DESCRIPTORS";
    if std::env::var_os(CHILD).is_some() {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime")
            .block_on(without_descriptors());
        return;
    }
    let status = std::process::Command::new("sh")
        .args(["-c", "ulimit -n 64 && exec \"$0\" --exact \"$1\""])
        .arg(std::env::current_exe().expect("this test"))
        .arg(NAME)
        .env(CHILD, "1")
        .stdout(std::process::Stdio::null())
        .status()
        .expect("sh runs");
    assert!(status.success());
}

async fn without_descriptors() {
    let tracker = Tracker::start(Options::default()).await;
    tracker.get("/healthz").await;
    let mut files = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        files.push(file);
    }
    assert!(
        files.pop().is_some(),
        "one descriptor for the client, none for the tracker"
    );
    let mut client = TcpStream::connect(tracker.addr).await.expect("it listens");
    while tracker.stats().1.accept_errors_total == 0 {
        tokio::task::yield_now().await;
    }
    drop(files);
    client
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .await
        .expect("it reads");
    assert!(read_to_end(&mut client).await.ends_with("ok\n"));
    assert!(tracker.stats().1.accept_errors_total < 10, "no busy loop");
}

#[tokio::test]
async fn s_52_web_pages_do_not_announce() {
    let tracker = Tracker::start(Options::default()).await;
    let answer = tracker
        .raw(b"POST / HTTP/1.1\r\nhost: localhost\r\norigin: http://evil.example\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}")
        .await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    let answer = tracker
        .raw(b"PUT / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
}

#[tokio::test]
async fn plain_http_is_for_loopback_unless_told_otherwise() {
    let anywhere = "0.0.0.0:0".parse().expect("an address");
    let error = bind(anywhere, false)
        .await
        .expect_err("not without being told");
    assert!(error.to_string().contains("--insecure-http"), "{error}");
}

#[tokio::test]
async fn a_stop_ends_the_server_with_connections_open() {
    let mut tracker = Tracker::start(Options::default()).await;
    let mut idle = TcpStream::connect(tracker.addr).await.expect("it listens");
    tracker.get("/healthz").await;
    drop(tracker.stop.take());
    tokio::time::timeout(PATIENCE, tracker.task)
        .await
        .expect("it stops")
        .expect("and does not panic");
    assert_eq!(read_to_end(&mut idle).await, "");
    assert_eq!(
        http::get(format!("http://{}/healthz", tracker.addr), PATIENCE).await,
        Err(HttpError::Refused)
    );
}

#[tokio::test]
async fn a_client_waits_no_longer_than_it_was_told_and_speaks_tls() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback can be bound");
    let addr = silent.local_addr().expect("it is bound");
    let timeout = Duration::from_millis(50);
    for scheme in ["http", "https"] {
        assert_eq!(
            http::post(format!("{scheme}://{addr}/"), "{}".to_owned(), timeout).await,
            Err(HttpError::TimedOut(timeout))
        );
    }
    let tracker = Tracker::start(Options::default()).await;
    let error = http::get(format!("https://{}/healthz", tracker.addr), PATIENCE).await;
    assert!(matches!(error, Err(HttpError::Failed(_))), "{error:?}");
}
