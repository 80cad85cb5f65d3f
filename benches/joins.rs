//! Joins at a tracker: how many a minute, how long each takes, and what 100,000 peers cost in memory.
//!
//! `cargo bench --bench joins` runs the real program with its durable store and a tariff, and viewers who each buy a
//! packet: user, contract and ledger are on disk before the answer. They come on kept connections from many loopback
//! addresses (one address may hold 64 connections and 4096 peers). `FREE=1` leaves the tariff out. First as fast as they can until `PEERS`
//! (100,000) are registered, then at a steady `RATE` (100,000 a minute) for `SECONDS` (20), which shows how long a join
//! takes that does not stand in a queue of the generator's own making. Generator and tracker share the machine.
//! `STORE` names another store than a file: `mem:`, or `redis://HOST:PORT`, a Redis in which databases 0 and 1 are empty.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, sleep_until};

/// The tariff that comes with the sources.
const TARIFF: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/tariff.toml");

/// Relays with 60,000 slots each.
const SERVERS: u64 = 2;

/// Connections, each from an address of its own.
const CONNECTIONS: u64 = 64;

/// Latencies up to a minute, in microseconds.
const LATENCY_MAX_US: u64 = 60_000_000;

fn main() {
    // Source and relays are some of them.
    let peers = number("PEERS").unwrap_or(100_000) - SERVERS - 1;
    let a_minute = number("RATE").unwrap_or(100_000);
    let seconds = number("SECONDS").unwrap_or(20);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let crowded = Tracker::start(0);
    let begun = Instant::now();
    let all = runtime.block_on(crowd(crowded.addr, peers, None));
    let took = begun.elapsed();
    let registered = runtime.block_on(crowded.peers());
    println!(
        "flat out: {} joins in {:.1} s, {:.0} a minute; p50 {:.1} ms, p99 {:.1} ms with {CONNECTIONS} always waiting",
        all.len(),
        took.as_secs_f64(),
        all.len() as f64 * 60.0 / took.as_secs_f64(),
        milliseconds(&all, 0.5),
        milliseconds(&all, 0.99),
    );
    println!(
        "memory: {:.1} MB resident with {registered} peers, {:.1} MB before",
        crowded.resident_mb(),
        crowded.empty_mb
    );
    drop(crowded);
    let steady = Tracker::start(1);
    let count = a_minute * seconds / 60;
    let pause = Duration::from_secs(60).div_f64(a_minute as f64);
    let all = runtime.block_on(crowd(steady.addr, count, Some(pause)));
    println!(
        "steady: {a_minute} a minute for {seconds} s: p50 {:.2} ms, p99 {:.2} ms, p999 {:.2} ms",
        milliseconds(&all, 0.5),
        milliseconds(&all, 0.99),
        milliseconds(&all, 0.999),
    );
}

/// Whether the channel is sold.
fn sells() -> bool {
    number("FREE").is_none()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn milliseconds(all: &Histogram<u64>, quantile: f64) -> f64 {
    all.value_at_quantile(quantile) as f64 / 1000.0
}

/// A tracker of its own and the source of a channel at it, killed when they are no longer needed.
struct Tracker {
    child: Child,
    source: Child,
    addr: SocketAddr,
    empty_mb: f64,
    _folder: tempfile::TempDir,
}

impl Tracker {
    fn start(number: u8) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = format!("redb:{}", folder.path().join("st").display());
        let store = match std::env::var("STORE") {
            Ok(store) if store.starts_with("redis:") => format!("{store}/{number}"),
            Ok(store) => store,
            Err(_) => file,
        };
        let mut child = Command::new(env!("CARGO_BIN_EXE_p2ps-tracker"))
            .args(["--listen", "127.0.0.1:0", "-q", "--stats", "-"])
            .args(["--stats-interval", "1h", "--store"])
            .arg(store)
            .args(if sells() {
                &["--tariff", TARIFF][..]
            } else {
                &[]
            })
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe"))
            .read_line(&mut line)
            .expect("a record");
        let start: Value = serde_json::from_str(&line).expect("a record");
        let addr = start["listen"][0].as_str().expect("an address");
        let source = Command::new(env!("CARGO_BIN_EXE_p2ps-source"))
            .args([
                "--channel",
                "film",
                "--tracker",
                addr,
                "-q",
                "--listen",
                "127.0.0.1:0",
            ])
            .arg("--state-dir")
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("it starts");
        let mut tracker = Self {
            child,
            source,
            addr: addr.parse().expect("an address"),
            empty_mb: 0.0,
            _folder: folder,
        };
        tracker.empty_mb = tracker.resident_mb();
        tracker
    }

    /// Resident memory, in 10^6 bytes.
    fn resident_mb(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
        kib.expect("a number") * 1024.0 / 1e6
    }

    /// How many peers it says it has.
    async fn peers(&self) -> u64 {
        let mut client = Client::connect(self.addr, 0).await;
        let page = client.ask("GET /metrics", "").await;
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix("p2ps_tracker_peers "));
        line.and_then(|value| value.parse().ok()).expect("a number")
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        for child in [&mut self.source, &mut self.child] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Lets `count` viewers join, one every `pause` where there is one: the time that each took.
async fn crowd(addr: SocketAddr, count: u64, pause: Option<Duration>) -> Histogram<u64> {
    let mut servers = Client::connect(addr, 0).await;
    // The source says a signed word for the channel, and only then it has a name.
    while servers
        .ask("GET /v1/channels/film", "")
        .await
        .contains("error")
    {
        tokio::task::yield_now().await;
    }
    for server in 0..SERVERS {
        servers.post(&announcement(server, 0)).await;
    }
    let alive = tokio::spawn(async move {
        for round in 1_u64.. {
            sleep(Duration::from_secs(2)).await;
            for server in 0..SERVERS {
                servers.post(&announcement(server, round)).await;
            }
        }
    });
    let next = Arc::new(Mutex::new(0_u64));
    let start = tokio::time::Instant::now();
    let mut workers = Vec::new();
    for number in 0..CONNECTIONS {
        let next = Arc::clone(&next);
        let mut client = Client::connect(addr, number + 1).await;
        workers.push(tokio::spawn(async move {
            let mut taken =
                Histogram::<u64>::new_with_bounds(1, LATENCY_MAX_US, 3).expect("bounds");
            loop {
                let viewer = {
                    let mut next = next.lock().expect("nobody panics");
                    *next += 1;
                    *next - 1
                };
                if viewer >= count {
                    return taken;
                }
                // Late is late: whoever should have begun earlier has waited since then.
                let begun = match pause {
                    Some(pause) => {
                        let due = start + pause.mul_f64(viewer as f64);
                        sleep_until(due).await;
                        due
                    }
                    None => tokio::time::Instant::now(),
                };
                client.post(&join(viewer)).await;
                let us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                taken.saturating_record(us.max(1));
            }
        }));
    }
    let mut all = Histogram::<u64>::new_with_bounds(1, LATENCY_MAX_US, 3).expect("bounds");
    for worker in workers {
        all.add(worker.await.expect("a worker"))
            .expect("the same bounds");
    }
    alive.abort();
    all
}

/// What a relay says that has the stream.
fn announcement(server: u64, round: u64) -> Value {
    json!({"PPSPTrackerProtocol": {
        "version": 1, "request_type": "CONNECT", "transaction_id": format!("s{round}"), "peer_id": format!("server{server}"),
        "x_ext": {"v": 1, "role": "relay", "channel": "film", "port": 7850 + server, "depth": 2, "slots_free": 60_000},
        "connect": {"swarm_action": [{"swarm_id": "", "action": "JOIN", "peer_mode": "SEEDER"}]}}})
}

/// What a viewer of ours says.
fn join(viewer: u64) -> Value {
    let mut ext = json!({"v": 1, "role": "peer", "channel": "film", "port": 7850, "slots_free": 4});
    if sells() {
        ext["packet"] = json!("gold");
        ext["status"] = json!("c");
    }
    json!({"PPSPTrackerProtocol": {
        "version": 1, "request_type": "CONNECT", "transaction_id": format!("{viewer:x}-1"),
        "peer_id": format!("{:016x}", viewer.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        "x_ext": ext,
        "connect": {"swarm_action": [{"swarm_id": "", "action": "JOIN", "peer_mode": "LEECH"}]}}})
}

/// One kept connection.
struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    async fn connect(addr: SocketAddr, number: u64) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        let host = u8::try_from(number % 250 + 2).expect("less than 252");
        let from = SocketAddr::from((Ipv4Addr::new(127, 7, 0, host), 0));
        socket.bind(from).expect("loopback");
        let stream = socket.connect(addr).await.expect("it listens");
        stream.set_nodelay(true).expect("an option");
        Self {
            stream,
            buffer: Vec::with_capacity(16_384),
        }
    }

    async fn post(&mut self, body: &Value) {
        let answer = self.ask("POST /", &body.to_string()).await;
        assert!(answer.contains("\"error_code\":0"), "{answer}");
    }

    /// Sends a request and gives the body of the answer.
    async fn ask(&mut self, what: &str, body: &str) -> String {
        let request = format!(
            "{what} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/ppsp-tracker+json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream
            .write_all(request.as_bytes())
            .await
            .expect("it reads");
        self.buffer.clear();
        loop {
            let read = self.stream.read_buf(&mut self.buffer).await;
            assert!(read.expect("it answers") > 0, "closed");
            let text = String::from_utf8_lossy(&self.buffer);
            let Some((head, rest)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            let length = head
                .lines()
                .filter_map(|line| line.split_once(": "))
                .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                .and_then(|(_, length)| length.parse::<usize>().ok());
            if length.is_some_and(|length| rest.len() >= length) {
                return rest.to_owned();
            }
        }
    }
}
