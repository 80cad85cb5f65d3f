//! What slow connections cost everybody else at a tracker: how long a join takes where nobody is slow, and where 10,000
//! are.
//!
//! `cargo bench --bench slow` runs the real program twice. At one of the two, `SLOW` (10,000) connections from many
//! loopback addresses each begin a header and never end it; whoever is shown out comes again after `PAUSE_MS` (1,000).
//! Meanwhile `JOINS` (4,000, no more than one address may hold) viewers join at both, by turns, each on a connection of
//! its own, as the tools do: what else the machine does befalls both. Generator and trackers share the machine.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use p2ps::io::http::server::make_room;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::sleep;

/// Slow connections of one address: as many as it may have.
const PER_ADDRESS: u64 = 64;

/// Latencies up to a minute, in microseconds.
const LATENCY_MAX_US: u64 = 60_000_000;

fn main() {
    let slow = number("SLOW", 10_000);
    let joins = number("JOINS", 4_000);
    let pause = Duration::from_millis(number("PAUSE_MS", 1_000));
    let wanted = usize::try_from(slow).expect("a number") + 64;
    let room = make_room(wanted);
    assert_eq!(room, wanted, "the hard limit of open files is too low");
    let ((mut quiet, at_quiet), (mut crowded, at_crowded)) = (start(), start());
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().expect("a runtime")
    };
    let begun = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&begun);
    std::thread::spawn(move || {
        runtime().block_on(async {
            for number in 0..slow {
                tokio::spawn(linger(at_crowded, number, pause, Arc::clone(&counted)));
                // A listener has so many places for those who wait.
                if number % 256 == 255 {
                    sleep(Duration::from_millis(20)).await;
                }
            }
            std::future::pending::<()>().await;
        });
    });
    while begun.load(Ordering::Relaxed) < slow {
        std::thread::sleep(Duration::from_millis(50));
    }
    let runtime = runtime();
    let before = begun.load(Ordering::Relaxed);
    let since = Instant::now();
    let mut taken =
        [(); 2].map(|()| Histogram::<u64>::new_with_bounds(1, LATENCY_MAX_US, 3).expect("bounds"));
    runtime.block_on(async {
        for viewer in 0..joins {
            for (addr, taken) in [at_quiet, at_crowded].into_iter().zip(&mut taken) {
                let us = join(addr, viewer).await;
                taken.saturating_record(us.max(1));
            }
            sleep(Duration::from_millis(1)).await;
        }
    });
    let came = begun.load(Ordering::Relaxed) - before;
    let [without, with] = &taken;
    for (name, all) in [("without", without), ("with", with)] {
        println!(
            "{name}: {} joins, p50 {:.2} ms, p99 {:.2} ms, p999 {:.2} ms",
            all.len(),
            milliseconds(all, 0.5),
            milliseconds(all, 0.99),
            milliseconds(all, 0.999),
        );
    }
    println!(
        "ratio with {slow} slow connections, {:.0} of which come again each second: p50 {:.2}, p99 {:.2}",
        came as f64 / since.elapsed().as_secs_f64(),
        milliseconds(with, 0.5) / milliseconds(without, 0.5),
        milliseconds(with, 0.99) / milliseconds(without, 0.99),
    );
    let metrics = runtime.block_on(ask(at_crowded, "GET /metrics", ""));
    for line in metrics.lines().filter(|line| line.contains("_http_")) {
        if !line.starts_with('#') {
            println!("{line}");
        }
    }
    for child in [&mut quiet, &mut crowded] {
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    let value = std::env::var(name).ok();
    value
        .and_then(|value| value.parse().ok())
        .unwrap_or(otherwise)
}

fn milliseconds(all: &Histogram<u64>, quantile: f64) -> f64 {
    all.value_at_quantile(quantile) as f64 / 1000.0
}

/// A tracker without a store.
fn start() -> (Child, SocketAddr) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_p2ps-tracker"))
        .args(["--listen", "127.0.0.1:0", "-q", "--stats", "-"])
        .args(["--stats-interval", "1h", "--store", "mem:"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe"))
        .read_line(&mut line)
        .expect("a record");
    let start: Value = serde_json::from_str(&line).expect("a record");
    let addr = start["listen"][0].as_str().expect("an address");
    (child, addr.parse().expect("an address"))
}

/// Begins a header again and again, and never ends one.
async fn linger(addr: SocketAddr, number: u64, pause: Duration, begun: Arc<AtomicU64>) {
    let host = u16::try_from(number / PER_ADDRESS + 1).expect("a /16 of addresses");
    let [high, low] = host.to_be_bytes();
    let from = SocketAddr::from((Ipv4Addr::new(127, 9, high, low), 0));
    let mut word = [0; 512];
    loop {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(from).expect("loopback");
        if let Ok(mut stream) = socket.connect(addr).await {
            let _ = stream.write_all(b"POST / HTTP/1.1\r\nho").await;
            begun.fetch_add(1, Ordering::Relaxed);
            while let Ok(1..) = stream.read(&mut word).await {}
        }
        sleep(pause).await;
    }
}

/// Lets a viewer join: the time that it took, in microseconds.
async fn join(addr: SocketAddr, viewer: u64) -> u64 {
    let body = json!({"PPSPTrackerProtocol": {
        "version": 1, "request_type": "CONNECT", "transaction_id": format!("{viewer:x}-1"),
        "peer_id": format!("{viewer:016x}"),
        "x_ext": {"v": 1, "role": "peer", "port": 7850, "slots_free": 4},
        "connect": {"swarm_action": [{"swarm_id": "5e", "action": "JOIN", "peer_mode": "LEECH"}]}}});
    let begun = Instant::now();
    let answer = ask(addr, "POST /", &body.to_string()).await;
    assert!(answer.contains("\"error_code\":0"), "{answer}");
    u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// One request on a connection of its own; the body of the answer.
async fn ask(addr: SocketAddr, what: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.expect("it listens");
    let request = format!(
        "{what} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream
        .write_all(request.as_bytes())
        .await
        .expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer
}
