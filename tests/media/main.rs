//! Endpoints of media against the real thing: pipes, sockets, full disks, players, and a clip made by ffmpeg.

use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use p2ps::io::media::{
    Endpoint, Input, InputOptions, MediaOut, Offered, OnEof, OpenError, Outcome, Output,
    OutputOptions, Pace, Rotate, Tally,
};
use p2ps::media::{Cutter, Scanner};
use tempfile::TempDir;

/// Nothing here takes longer unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it does not hang")
}

fn endpoint(text: &str) -> Endpoint {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

async fn input(text: &str, on_eof: OnEof) -> Input {
    let pace = Some(Pace::None);
    Input::open(&endpoint(text), InputOptions { pace, on_eof })
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}

async fn output(text: &str, options: &OutputOptions) -> Output {
    Output::open(&endpoint(text), options)
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}

/// Reads `bytes` bytes, or to the end when there are fewer; an empty block becomes `|`.
async fn read(input: &mut Input, bytes: usize) -> Vec<u8> {
    let mut found = Vec::new();
    while found.len() < bytes
        && let Some(block) = soon(input.next()).await
    {
        let block = block.unwrap_or_else(|error| panic!("{error}"));
        if block.is_empty() {
            found.push(b'|');
        }
        found.extend_from_slice(&block);
    }
    found
}

fn chunk(number: u64, bytes: impl Into<Bytes>) -> MediaOut {
    MediaOut {
        bytes: bytes.into(),
        entry: number.is_multiple_of(8),
        chunk: number,
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut tally = Tally::new();
    tally.update(bytes);
    tally.sha256()
}

fn path(dir: &TempDir, name: &str) -> String {
    dir.path().join(name).to_string_lossy().into_owned()
}

fn temp() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// A transport stream with a clock: `pictures` pictures of 14 packets, 10 ms apart.
fn stream(pictures: u64) -> Bytes {
    let mut bytes = Vec::new();
    for picture in 0..pictures {
        for number in 0..14_u64 {
            let mut packet = vec![0x47, 0x01, 0x00, 0x20, 183];
            if number == 0 {
                let base = picture * 900;
                packet.extend([0x10]);
                packet.extend(&((base << 15) | 0x7e00).to_be_bytes()[2..]);
            } else {
                packet.push(0);
            }
            packet.resize(180, 0xff);
            packet.extend((picture * 14 + number).to_be_bytes());
            bytes.extend(packet);
        }
    }
    bytes.into()
}

/// Offers the stream in chunks of seven packets.
fn offer_all(output: &Output, stream: &Bytes) {
    for (number, start) in (0..stream.len()).step_by(1316).enumerate() {
        let end = (start + 1316).min(stream.len());
        let offered = output.offer(chunk(number as u64, stream.slice(start..end)));
        assert_eq!(offered, Offered::Queued);
    }
}

/// Says that a test was left out; not by `eprintln!`, which the test harness keeps to itself.
fn left_out(test: &str, needs: &str) {
    let line = format!("left out: {test}: needs {needs}\n");
    std::io::stderr()
        .write_all(line.as_bytes())
        .expect("stderr is open");
}

// Files, pipes, devices

#[tokio::test]
async fn a_file_is_read_unchanged_paced_or_not() {
    let dir = temp();
    let name = path(&dir, "in.ts");
    let stream = stream(6);
    fs::write(&name, &stream).expect("room for a small file");
    for pace in [None, Some(Pace::Pcr), Some(Pace::None)] {
        let options = InputOptions {
            pace,
            ..InputOptions::default()
        };
        let started = std::time::Instant::now();
        let mut input = Input::open(&endpoint(&name), options).await.expect("opens");
        assert!(read(&mut input, usize::MAX).await == stream, "{pace:?}");
        // Six pictures, 10 ms apart: the last one starts after 50.
        let is_paced = pace != Some(Pace::None);
        assert!(!is_paced || started.elapsed() >= Duration::from_millis(50));
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_named() {
    for (text, line) in [
        ("/no/such.ts", "cannot open \"/no/such.ts\": no such file"),
        ("/tmp", "cannot open \"/tmp\": is a directory"),
        ("fd:987654", "cannot open fd:987654: not open"),
        (
            "http://127.0.0.1:1/",
            "cannot use \"http://127.0.0.1:1/\": http is for outputs",
        ),
        (
            "udp://203.0.113.1:0",
            "cannot bind 203.0.113.1:0: no such address on this machine",
        ),
        (
            "udp://127.0.0.1:0?maxbw=1Mbit",
            "cannot use \"udp://127.0.0.1:0?maxbw=1Mbit\": maxbw is for outputs",
        ),
    ] {
        let error = Input::open(&endpoint(text), InputOptions::default()).await;
        assert_eq!(error.expect_err(text).to_string(), line);
    }
}

#[tokio::test]
async fn a_file_output_counts_and_hashes_what_it_wrote() {
    let dir = temp();
    let name = path(&dir, "out.ts");
    let stream = stream(20);
    let output = output(&name, &OutputOptions::default()).await;
    offer_all(&output, &stream);
    assert!(matches!(output.finish(PATIENCE).await, Outcome::Finished));
    let totals = output.totals();
    assert_eq!(totals.bytes, stream.len() as u64);
    assert_eq!(totals.sha256, sha256(&stream));
    assert!(fs::read(&name).expect("written") == stream);
    assert_eq!(output.offer(chunk(0, "x")), Offered::Ended);
}

#[tokio::test]
async fn an_existing_file_is_refused_unless_it_may_be_replaced() {
    let dir = temp();
    let name = path(&dir, "out.ts");
    fs::write(&name, "old and longer").expect("room for a small file");
    let refused = Output::open(&endpoint(&name), &OutputOptions::default()).await;
    let error = refused.expect_err("it exists");
    assert_eq!(error.kind(), Some(ErrorKind::AlreadyExists));
    assert_eq!(
        error.to_string(),
        format!("cannot open \"{name}\": file exists")
    );
    let options = OutputOptions {
        overwrite: true,
        ..OutputOptions::default()
    };
    let output = output(&name, &options).await;
    output.offer(chunk(0, "new"));
    output.finish(PATIENCE).await;
    assert_eq!(fs::read(&name).expect("written"), b"new");
}

#[tokio::test]
async fn files_rotate_at_entry_points() {
    let dir = temp();
    fs::write(dir.path().join("out-0002.ts"), "taken").expect("room for a small file");
    let options = OutputOptions {
        rotate: Some(Rotate::Bytes(5)),
        ..OutputOptions::default()
    };
    let output = output(&path(&dir, "out.ts"), &options).await;
    // Entry points at 0, 8 and 16, all over the limit by then.
    for number in 0..20 {
        output.offer(chunk(number, vec![b'a' + number as u8]));
    }
    output.finish(PATIENCE).await;
    let file = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap_or_default();
    assert_eq!(file("out-0001.ts"), "abcdefgh");
    assert_eq!(file("out-0002.ts"), "taken");
    assert_eq!(file("out-0003.ts"), "ijklmnop");
    assert_eq!(file("out-0004.ts"), "qrst");
    assert!(!dir.path().join("out.ts").exists());
}

#[tokio::test]
async fn a_full_disk_is_a_failure() {
    let output = output("/dev/full", &OutputOptions::default()).await;
    output.offer(chunk(0, vec![0; 1316]));
    let Outcome::Failed(error) = soon(output.ended()).await else {
        panic!("/dev/full is full");
    };
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(output.totals().bytes, 0);
    assert!(matches!(output.finish(PATIENCE).await, Outcome::Failed(_)));
}

#[tokio::test]
async fn a_fifo_waits_for_its_next_writer() {
    let dir = temp();
    let name = path(&dir, "fifo");
    let made = Command::new("mkfifo").arg(&name).status();
    assert!(made.expect("coreutils are everywhere").success());
    let mut input = input(&name, OnEof::Wait).await;
    for part in ["one", "two"] {
        let name = name.clone();
        // Opening waits for the reader.
        let writer = tokio::task::spawn_blocking(move || fs::write(name, part));
        assert_eq!(read(&mut input, 4).await, format!("{part}|").as_bytes());
        soon(writer)
            .await
            .expect("no panic")
            .expect("the reader is there");
    }
}

#[tokio::test]
async fn descriptors_are_taken_over_from_the_parent() {
    if std::env::var_os("P2PS_TEST_CHILD").is_some() {
        return;
    }
    let dir = temp();
    fs::write(dir.path().join("in"), "seven").expect("room for a small file");
    let script = r#"exec "$0" --exact inherited_descriptors --nocapture 7<"$1/in" 8>"$1/out""#;
    let child = Command::new("sh")
        .args(["-c", script])
        .arg(std::env::current_exe().expect("this test runs"))
        .arg(dir.path())
        .env("P2PS_TEST_CHILD", "1")
        .output()
        .expect("there is a shell");
    let said = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(child.status.success(), "{said}");
    assert_eq!(fs::read(dir.path().join("out")).expect("made"), b"seven");
}

/// The other half of the test above: does nothing unless its parent opened the descriptors.
#[tokio::test]
async fn inherited_descriptors() {
    if std::env::var_os("P2PS_TEST_CHILD").is_none() {
        return;
    }
    let open_again = Input::open(&endpoint("fd:8"), InputOptions::default()).await;
    let error = open_again.expect_err("open for writing only").to_string();
    assert_eq!(error, "cannot open fd:8: open for writing only");
    let mut input = input("fd:7", OnEof::End).await;
    let output = output("fd:8", &OutputOptions::default()).await;
    output.offer(chunk(0, read(&mut input, 5).await));
    assert!(matches!(output.finish(PATIENCE).await, Outcome::Finished));
    let again = Input::open(&endpoint("fd:7"), InputOptions::default()).await;
    assert!(again.is_err(), "a descriptor is taken once");
}

// Slow and leaving readers

/// A Unix socket whose other end is connected and read by nobody.
async fn stuck_output(dir: &TempDir, queue_bytes: usize, blocking: bool) -> (Output, UnixStream) {
    let name = path(dir, "sink.sock");
    let listener = UnixListener::bind(&name).expect("a fresh path");
    let options = OutputOptions {
        blocking,
        queue_bytes,
        ..OutputOptions::default()
    };
    let output = output(&format!("unix:{name}"), &options).await;
    let (stream, _) = listener.accept().expect("just connected");
    (output, stream)
}

#[tokio::test]
async fn a_slow_reader_never_blocks_and_loses_whole_groups() {
    let dir = temp();
    let (output, mut reader) = stuck_output(&dir, 64 << 10, false).await;
    let payload = |number: u64| Bytes::from([&number.to_be_bytes()[..], &[0; 1308]].concat());
    let mut offered = 0;
    // The socket's buffer is the kernel's affair: go on until the queue overflows, and then some.
    while output.totals().dropped_chunks < 100 {
        output.offer(chunk(offered, payload(offered)));
        offered += 1;
    }
    assert!(output.totals().queued_bytes <= 64 << 10);
    // The reader wakes up: it gets the rest in order, and after a gap an entry point.
    let collected = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map(|_| bytes)
    });
    soon(async {
        while output.totals().queued_bytes > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for number in offered..offered + 9 {
        output.offer(chunk(number, payload(number)));
    }
    assert!(matches!(output.finish(PATIENCE).await, Outcome::Finished));
    let bytes = soon(collected)
        .await
        .expect("no panic")
        .expect("a readable socket");
    let numbers: Vec<u64> = bytes
        .chunks(1316)
        .filter_map(|chunk| chunk.first_chunk())
        .map(|number| u64::from_be_bytes(*number))
        .collect();
    assert_eq!(bytes.len() as u64, output.totals().bytes);
    assert_eq!(sha256(&bytes), output.totals().sha256);
    let gaps: Vec<&[u64]> = numbers.windows(2).filter(|w| w[1] != w[0] + 1).collect();
    assert!(!gaps.is_empty());
    for gap in gaps {
        assert!(gap[1].is_multiple_of(8), "{gap:?} does not end at an entry");
    }
}

#[tokio::test]
async fn back_pressure_loses_nothing() {
    let dir = temp();
    let (output, mut reader) = stuck_output(&dir, 64 << 10, true).await;
    let collected = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map(|_| bytes.len())
    });
    for number in 0..2000 {
        soon(output.ready()).await;
        assert_eq!(output.offer(chunk(number, vec![0; 1316])), Offered::Queued);
    }
    assert!(matches!(output.finish(PATIENCE).await, Outcome::Finished));
    drop(output);
    let bytes = soon(collected).await.expect("no panic");
    assert_eq!(bytes.expect("a readable socket"), 2000 * 1316);
}

#[tokio::test]
async fn finishing_a_stuck_output_takes_no_longer_than_allowed() {
    let dir = temp();
    // More than any socket buffer holds.
    let (output, _reader) = stuck_output(&dir, 16 << 20, false).await;
    while output.totals().dropped_chunks == 0 {
        output.offer(chunk(1, vec![0; 1316]));
    }
    let outcome = soon(output.finish(Duration::from_millis(1))).await;
    assert!(matches!(outcome, Outcome::Abandoned { bytes } if bytes > 0));
}

#[tokio::test]
async fn a_reader_that_leaves_has_enough() {
    let dir = temp();
    let (output, reader) = stuck_output(&dir, 64 << 10, false).await;
    drop(reader);
    output.offer(chunk(0, vec![0; 1316]));
    assert!(matches!(soon(output.ended()).await, Outcome::Closed));
    assert_eq!(output.offer(chunk(1, "x")), Offered::Ended);
}

// Unix sockets

#[tokio::test]
async fn a_unix_input_connects_where_somebody_listens() {
    let dir = temp();
    let name = path(&dir, "in.sock");
    let listener = UnixListener::bind(&name).expect("a fresh path");
    let mut input = input(&format!("unix:{name}"), OnEof::End).await;
    let (mut stream, _) = listener.accept().expect("just connected");
    stream.write_all(b"media").expect("the reader is there");
    drop(stream);
    assert_eq!(read(&mut input, usize::MAX).await, b"media");
}

#[tokio::test]
async fn a_unix_input_listens_where_nobody_does() {
    let dir = temp();
    let name = path(&dir, "in.sock");
    // The socket of a process that is gone.
    drop(UnixListener::bind(&name).expect("a fresh path"));
    let mut input = input(&format!("unix:{name}"), OnEof::Wait).await;
    for part in ["one", "two"] {
        let mut stream = UnixStream::connect(&name).expect("it listens");
        stream
            .write_all(part.as_bytes())
            .expect("the reader is there");
        drop(stream);
        assert_eq!(read(&mut input, 4).await, format!("{part}|").as_bytes());
    }
    drop(input);
    assert!(!Path::new(&name).exists());
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_left_alone() {
    let dir = temp();
    let name = path(&dir, "file");
    fs::write(&name, "precious").expect("room for a small file");
    let error = Input::open(&endpoint(&format!("unix:{name}")), InputOptions::default()).await;
    assert_eq!(
        error.expect_err("no socket").to_string(),
        format!("cannot bind unix:\"{name}\": not a socket")
    );
    assert_eq!(fs::read(&name).expect("still there"), b"precious");
}

#[tokio::test]
async fn a_unix_output_serves_whoever_connects() {
    let dir = temp();
    let name = path(&dir, "out.sock");
    let output = output(&format!("unix:{name}"), &OutputOptions::default()).await;
    output.offer(chunk(0, "entry "));
    output.offer(chunk(1, "more "));
    let mut first = UnixStream::connect(&name).expect("it listens");
    soon(async {
        while output.totals().readers == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    output.offer(chunk(2, "rest"));
    assert!(matches!(output.finish(PATIENCE).await, Outcome::Finished));
    let mut text = String::new();
    first.read_to_string(&mut text).expect("text");
    assert_eq!(text, "entry more rest");
    drop(output);
    assert!(!Path::new(&name).exists());
}

// Datagrams

async fn through(scheme: &str, host: &str, query: &str) -> Result<(), OpenError> {
    let stream = stream(30);
    let listen = endpoint(&format!("{scheme}://{host}:0{query}"));
    let mut input = Input::open(&listen, InputOptions::default()).await?;
    let port = input.address().expect("bound").port();
    // The source filter is the receiver's; the rest holds for both.
    let query = query.split("&source=").next().unwrap_or(query);
    let send = endpoint(&format!("{scheme}://{host}:{port}{query}"));
    let output = Output::open(&send, &OutputOptions::default()).await?;
    offer_all(&output, &stream);
    assert!(matches!(output.finish(PATIENCE).await, Outcome::Finished));
    let received = read(&mut input, stream.len()).await;
    assert!(received == stream, "{scheme}://{host}{query}");
    assert_eq!(output.totals().sha256, sha256(&stream));
    if let Some(counts) = input.rtp_counts() {
        assert_eq!((counts.packets, counts.lost), (60, 0));
    }
    Ok(())
}

#[tokio::test]
async fn udp_and_rtp_carry_the_stream_unchanged() {
    for scheme in ["udp", "rtp"] {
        for host in ["127.0.0.1", "localhost"] {
            through(scheme, host, "?ttl=3&tos=0xb8&buffer_size=1MiB")
                .await
                .expect("loopback is there");
        }
    }
}

#[tokio::test]
async fn multicast_is_joined_sent_and_heard() {
    for query in [
        "?iface=127.0.0.1&ttl=0",
        "?iface=lo&ttl=0",
        "?iface=127.0.0.1&ttl=0&source=127.0.0.1",
        "?iface=lo&ttl=0&source=127.0.0.1",
    ] {
        through("udp", "239.255.77.1", query)
            .await
            .unwrap_or_else(|error| panic!("{query}: {error}"));
    }
}

#[tokio::test]
async fn ipv6_works_where_there_is_any() {
    if std::net::UdpSocket::bind("[::1]:0").is_err() {
        return left_out("ipv6_works_where_there_is_any", "IPv6");
    }
    through("udp", "[::1]", "?ttl=3&tos=8&iface=::1")
        .await
        .expect("loopback is there");
    let mixed = endpoint("udp://[::1]:9?iface=127.0.0.1");
    let send = Output::open(&mixed, &OutputOptions::default()).await;
    assert_eq!(
        send.expect_err("two families").to_string(),
        "cannot send to [::1]:9: the address of the interface is of the other family"
    );
}

#[tokio::test]
async fn an_empty_host_hears_both_families() {
    let mut input = input("udp://:0", OnEof::End).await;
    let port = input.address().expect("bound").port();
    let send = std::net::UdpSocket::bind("127.0.0.1:0").expect("loopback is there");
    send.send_to(b"four", ("127.0.0.1", port))
        .expect("loopback is there");
    assert_eq!(read(&mut input, 4).await, b"four");
    if let Ok(send) = std::net::UdpSocket::bind("[::1]:0") {
        send.send_to(b"six", ("::1", port))
            .expect("loopback is there");
        assert_eq!(read(&mut input, 3).await, b"six");
    }
}

#[tokio::test]
async fn datagrams_of_others_are_not_heard() {
    let mut input = input(
        "udp://127.0.0.1:0?source=127.0.0.9&timeout=50ms",
        OnEof::End,
    )
    .await;
    let to = input.address().expect("bound");
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("loopback is there");
    socket.send_to(b"stranger", to).expect("loopback is there");
    let error = soon(input.next()).await.expect("an error comes first");
    let error = error.expect_err("nobody may be heard");
    assert_eq!(error.to_string(), "nothing received for 50ms");
    assert!(soon(input.next()).await.is_none());
}

#[tokio::test]
async fn rtp_comes_out_in_order() {
    let mut input = input("rtp://127.0.0.1:0?latency=10s", OnEof::End).await;
    let to = input.address().expect("bound");
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("loopback is there");
    let send = |kind: u8, sequence: u16, ssrc: u8, payload: &[u8]| {
        let mut packet = vec![0x80, kind];
        packet.extend(sequence.to_be_bytes());
        packet.extend([0, 0, 0, 0, 0, 0, 0, ssrc]);
        packet.extend(payload);
        socket.send_to(&packet, to).expect("loopback is there");
    };
    for sequence in [65534, 65535, 1, 0, 3, 2] {
        send(33, sequence, 7, &sequence.to_be_bytes());
        send(96, sequence, 7, b"no transport stream");
        send(33, sequence, 8, b"another source");
    }
    socket.send_to(b"garbage", to).expect("loopback is there");
    let expected: Vec<u8> = [65534, 65535, 0, 1, 2, 3]
        .iter()
        .flat_map(|sequence: &u16| sequence.to_be_bytes())
        .collect();
    assert_eq!(read(&mut input, expected.len()).await, expected);
}

#[tokio::test]
async fn a_receiver_that_is_not_there_costs_nothing() {
    // A port that was free a moment ago, on an address that no other test uses.
    let port = {
        let socket = std::net::UdpSocket::bind("127.0.0.2:0").expect("loopback is there");
        socket.local_addr().expect("bound").port()
    };
    let output = output(
        &format!("udp://127.0.0.2:{port}"),
        &OutputOptions::default(),
    )
    .await;
    offer_all(&output, &stream(3));
    assert!(matches!(output.finish(PATIENCE).await, Outcome::Finished));
    assert!(output.totals().send_errors > 0);
}

// HTTP

/// Connects and asks; gives what has come when `bytes` bytes or the end have.
fn http(address: SocketAddr, request: &str, bytes: usize) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a nonzero time");
    stream
        .write_all(format!("{request}\r\nHost: x\r\n\r\n").as_bytes())
        .expect("the server is there");
    let mut found = Vec::new();
    let mut block = [0; 4096];
    while found.len() < bytes {
        match stream.read(&mut block).expect("an answer in time") {
            0 => break,
            count => found.extend(&block[..count]),
        }
    }
    String::from_utf8_lossy(&found).into_owned()
}

#[tokio::test]
async fn several_players_each_start_at_the_newest_entry() {
    let output = output("http://127.0.0.1:0/", &OutputOptions::default()).await;
    let address = output.address().expect("it listens");
    output.offer(chunk(0, "old "));
    output.offer(chunk(8, "new "));
    let ask = |request: &'static str| {
        tokio::task::spawn_blocking(move || http(address, request, usize::MAX))
    };
    let players = [ask("GET / HTTP/1.1"), ask("GET / HTTP/1.0")];
    soon(async {
        while output.totals().readers < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    output.offer(chunk(9, "rest"));
    assert!(matches!(output.finish(PATIENCE).await, Outcome::Finished));
    for player in players {
        let answer = soon(player).await.expect("no panic").to_lowercase();
        assert!(answer.contains(" 200 ok\r\n"), "{answer}");
        assert!(answer.contains("cache-control: no-store"), "{answer}");
        let media: String = answer.split("\r\n\r\n").skip(1).collect();
        assert!(!media.contains("old"), "{answer}");
        assert!(media.contains("new ") && media.contains("rest"), "{answer}");
    }
    assert_eq!(output.totals().bytes, 12);
}

#[tokio::test]
async fn head_and_wrong_requests_are_answered() {
    let output = output("http://127.0.0.1:0", &OutputOptions::default()).await;
    let address = output.address().expect("it listens");
    output.offer(chunk(0, stream(1)));
    for (request, status, header) in [
        ("HEAD / HTTP/1.1", " 200 ", "content-type: video/mp2t\r\n"),
        ("GET /favicon.ico HTTP/1.1", " 404 ", ""),
        ("POST / HTTP/1.1", " 405 ", "allow: get,head\r\n"),
    ] {
        let ask = tokio::task::spawn_blocking(move || http(address, request, usize::MAX));
        let answer = soon(ask).await.expect("no panic").to_lowercase();
        assert!(answer.contains(status), "{answer}");
        assert!(answer.contains(header), "{answer}");
        assert!(
            !request.starts_with("HEAD")
                || !answer.contains("content-length") && answer.ends_with("\r\n\r\n"),
            "{answer}"
        );
    }
    // Taken, and asked for by name.
    let second = Output::open(
        &endpoint(&format!("http://{address}/")),
        &OutputOptions::default(),
    )
    .await;
    assert_eq!(
        second.expect_err("taken").to_string(),
        format!("cannot bind {address}: address in use")
    );
}

#[tokio::test]
async fn a_client_that_asks_nothing_does_not_hold_up_the_end() {
    let output = output("http://127.0.0.1:0/", &OutputOptions::default()).await;
    let address = output.address().expect("it listens");
    let mut idle = TcpStream::connect(address).expect("it listens");
    assert!(matches!(output.finish(PATIENCE).await, Outcome::Finished));
    assert_eq!(idle.read(&mut [0; 16]).unwrap_or(0), 0);
}

// Against ffmpeg

/// A clip of four seconds, H.264 with a keyframe a second and AAC; `None`, said once, where there is no ffmpeg.
fn clip(dir: &TempDir, test: &str) -> Option<PathBuf> {
    let has = |tool: &str| {
        let found = Command::new(tool)
            .arg("-version")
            .stdout(Stdio::null())
            .status();
        found.is_ok_and(|status| status.success())
    };
    if !has("ffmpeg") || !has("ffprobe") {
        left_out(test, "ffmpeg");
        return None;
    }
    let file = dir.path().join("clip.ts");
    let made = Command::new("ffmpeg")
        .args(["-loglevel", "error", "-f", "lavfi"])
        .args(["-i", "testsrc2=size=320x180:rate=25", "-f", "lavfi"])
        .args(["-i", "sine", "-t", "4", "-c:v", "libx264", "-g", "25"])
        .args(["-preset", "ultrafast", "-c:a", "aac", "-f", "mpegts"])
        .arg(&file)
        .status();
    assert!(made.is_ok_and(|status| status.success()));
    Some(file)
}

#[test]
fn random_access_points_are_the_keyframes_that_ffprobe_finds() {
    let dir = temp();
    let Some(file) = clip(
        &dir,
        "random_access_points_are_the_keyframes_that_ffprobe_finds",
    ) else {
        return;
    };
    let listed = Command::new("ffprobe")
        .args(["-loglevel", "error", "-select_streams", "v"])
        .args(["-show_entries", "packet=pos,flags", "-of", "csv=p=0"])
        .arg(&file)
        .output()
        .expect("ffprobe is there");
    let keyframes: Vec<usize> = String::from_utf8_lossy(&listed.stdout)
        .lines()
        .filter(|line| line.contains('K'))
        .filter_map(|line| line.split(',').next()?.parse().ok())
        .collect();
    assert_eq!(keyframes.len(), 4);
    let media = Bytes::from(fs::read(&file).expect("just made"));
    for packets in 1..=7 {
        let mut cutter = Cutter::new(packets);
        cutter.push(media.clone());
        let mut scanner = Scanner::new();
        let mut found = BTreeSet::new();
        let chunks = std::iter::from_fn(|| cutter.next_chunk());
        for (index, chunk) in chunks.enumerate() {
            if scanner.scan(&chunk).random_access {
                found.insert(index);
            }
        }
        let expected: BTreeSet<usize> = keyframes.iter().map(|at| at / (packets * 188)).collect();
        assert_eq!(found, expected, "{packets} packets a chunk");
        assert_eq!(scanner.has_video(), Some(true));
    }
}

#[tokio::test]
async fn ffprobe_plays_what_http_serves_from_the_middle() {
    let dir = temp();
    let Some(file) = clip(&dir, "ffprobe_plays_what_http_serves_from_the_middle") else {
        return;
    };
    let media = Bytes::from(fs::read(&file).expect("just made"));
    let output = output("http://127.0.0.1:0/", &OutputOptions::default()).await;
    let address = output.address().expect("it listens");
    let mut cutter = Cutter::new(7);
    cutter.push(media);
    let chunks: Vec<Bytes> = std::iter::from_fn(|| cutter.next_chunk()).collect();
    let mut scanner = Scanner::new();
    let mut chunks = chunks.into_iter().enumerate().map(|(index, bytes)| {
        let entry = scanner.scan(&bytes).random_access;
        let chunk = index as u64;
        MediaOut {
            bytes,
            entry,
            chunk,
        }
    });
    // The player comes in the middle of the second group of pictures.
    let mut entries = 0;
    while entries < 2 {
        let chunk = chunks.next().expect("four groups");
        entries += u32::from(chunk.entry);
        output.offer(chunk);
    }
    let player = tokio::task::spawn_blocking(move || {
        Command::new("ffprobe")
            .args(["-v", "error", "-select_streams", "v", "-count_frames"])
            .args(["-show_entries", "stream=nb_read_frames,codec_name"])
            .args(["-of", "csv=p=0"])
            .arg(format!("http://{address}/"))
            .output()
    });
    soon(async {
        while output.totals().readers == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for chunk in chunks {
        output.offer(chunk);
    }
    assert!(matches!(output.finish(PATIENCE).await, Outcome::Finished));
    let found = soon(player)
        .await
        .expect("no panic")
        .expect("ffprobe is there");
    assert_eq!(String::from_utf8_lossy(&found.stderr), "");
    assert_eq!(
        String::from_utf8_lossy(&found.stdout).lines().next(),
        Some("h264,75")
    );
}
