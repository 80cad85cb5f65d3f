//! Where media comes from and where it goes, with real programs on both sides.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

use crate::harness::{PATIENCE, Place, Running, assert_same, mkfifo, sha256};
use crate::media::{SLICE_BYTES, slices};

const PACKET_BYTES: usize = 188;

/// A source, and a peer with this output that is attached to it.
fn one_hop(place: &Place, output: &str) -> (Running, Running) {
    let source = place.source("source").start();
    let channel = source.channel();
    let output = ["--latency", "300ms", "-o", output];
    let peer = place
        .receiver("p2ps-peer", "peer", &channel)
        .args(output)
        .start()
        .attached();
    (source, peer)
}

/// Streams everything to the end; gives what the peer says it wrote.
fn stream(source: &mut Running, peer: &mut Running, media: &[u8]) -> String {
    source.feed(media.chunks(SLICE_BYTES));
    source.end_input();
    source.done();
    let end = peer.done();
    end["media_sha256"].as_str().expect("a hash").to_owned()
}

#[test]
fn a_file_gets_every_byte_and_is_not_overwritten() {
    let place = Place::new();
    let (mut source, mut peer) = one_hop(&place, &place.arg("out.ts"));
    let media = slices(0, 5);
    let sum = stream(&mut source, &mut peer, &media);
    let written = fs::read(place.path("out.ts")).expect("the file");
    assert_same("file", &written, &media);
    assert_eq!(sum, sha256(&media));
    let uri = "p2ps://127.0.0.1/film";
    let mut second = place
        .receiver("p2ps-peer", "second", uri)
        .args(["-o", &place.arg("out.ts")])
        .start();
    assert_eq!(second.exit(), Some(8));
    let said = second.lines().join("\n");
    assert!(
        said.starts_with("p2ps-peer: cannot") && said.contains("out.ts"),
        "{said}"
    );
    assert_same(
        "file",
        &fs::read(place.path("out.ts")).expect("the file"),
        &media,
    );
}

#[test]
fn udp_output_is_whole_datagrams_of_seven_packets() {
    let place = Place::new();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    let address = socket.local_addr().expect("its address");
    let (mut source, mut peer) = one_hop(&place, &format!("udp://{address}"));
    let media = slices(0, 20);
    let length = media.len();
    let reader = thread::spawn(move || {
        let (mut received, mut sizes) = (Vec::new(), Vec::new());
        let mut datagram = [0; 2048];
        while received.len() < length {
            let Ok(count) = socket.recv(&mut datagram) else {
                break;
            };
            received.extend(&datagram[..count]);
            sizes.push(count);
        }
        (received, sizes)
    });
    stream(&mut source, &mut peer, &media);
    let (received, sizes) = reader.join().expect("the reader");
    assert_same("datagrams", &received, &media);
    let whole = 7 * PACKET_BYTES;
    assert!(
        sizes
            .iter()
            .all(|size| size % PACKET_BYTES == 0 && *size <= whole),
        "{sizes:?}"
    );
    // A pause of the stream may cut one short, the rest is whole.
    let short = sizes.iter().filter(|size| **size < whole).count();
    assert!(short * 4 <= sizes.len(), "{sizes:?}");
}

#[test]
fn http_output_serves_two_players() {
    let place = Place::new();
    let (mut source, mut peer) = one_hop(&place, "http://127.0.0.1:0/");
    let address = peer.line("its address", |line| {
        line.split_once(" is at ")
            .map(|(_, address)| address.to_owned())
    });
    let players = [0, 1].map(|_| {
        let mut player = TcpStream::connect(&address).expect("it listens");
        player.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        player
            .write_all(b"GET / HTTP/1.0\r\n\r\n")
            .expect("a request");
        // The answer comes before the media: whoever has it misses nothing.
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            player.read_exact(&mut byte).expect("an answer");
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).to_lowercase();
        assert!(
            head.contains(" 200 ") && head.contains("content-type: video/mp2t\r\n"),
            "{head}"
        );
        thread::spawn(move || {
            let mut media = Vec::new();
            player.read_to_end(&mut media).map(|_| media)
        })
    });
    let media = slices(0, 15);
    stream(&mut source, &mut peer, &media);
    for player in players {
        let received = player.join().expect("the player").expect("media");
        assert_same("player", &received, &media);
    }
}

#[test]
fn unix_output_reaches_the_listener() {
    let place = Place::new();
    let listener = UnixListener::bind(place.path("media")).expect("a socket");
    let reader = thread::spawn(move || {
        let mut media = Vec::new();
        let (mut stream, _) = listener.accept()?;
        stream.read_to_end(&mut media).map(|_| media)
    });
    let (mut source, mut peer) = one_hop(&place, &format!("unix:{}", place.arg("media")));
    let media = slices(0, 10);
    stream(&mut source, &mut peer, &media);
    let received = reader.join().expect("the reader").expect("media");
    assert_same("unix", &received, &media);
}

/// A source with this input, and a peer attached to it.
fn fed_by(place: &Place, input: &[&str]) -> (Running, Running) {
    let source = place.source("source").args(input).start();
    let channel = source.channel();
    let latency = ["--latency", "300ms"];
    let peer = place
        .receiver("p2ps-peer", "peer", &channel)
        .args(latency)
        .start()
        .attached();
    (source, peer)
}

#[test]
fn udp_input_is_streamed() {
    let place = Place::new();
    let (mut source, peer) = fed_by(&place, &["-i", "udp://127.0.0.1:0"]);
    let address = source.line("its address", |line| {
        line.split_once(" is at ")
            .map(|(_, address)| address.to_owned())
    });
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let media = slices(0, 15);
    for slice in media.chunks(SLICE_BYTES) {
        source.interval();
        for datagram in slice.chunks(7 * PACKET_BYTES) {
            socket.send_to(datagram, &address).expect("sent");
        }
    }
    peer.wait_bytes(media.len());
    assert_same("peer", &peer.media(), &media);
    // Datagrams have no end.
    source.signal("TERM");
    assert_eq!(source.done()["media_sha256"], sha256(&media).as_str());
}

#[test]
fn unix_input_is_streamed_to_its_end() {
    let place = Place::new();
    let path = place.path("media");
    let (mut source, mut peer) = fed_by(&place, &["-i", &format!("unix:{}", path.display())]);
    let mut encoder = UnixStream::connect(&path).expect("it listens");
    let media = slices(0, 10);
    for slice in media.chunks(SLICE_BYTES) {
        source.interval();
        encoder.write_all(slice).expect("written");
    }
    drop(encoder);
    assert_eq!(source.done()["reason"], "input ended");
    peer.done();
    assert_same("peer", &peer.media(), &media);
}

#[test]
fn a_fifo_outlives_its_encoder() {
    let place = Place::new();
    let path = place.path("media");
    mkfifo(&path);
    let (mut source, peer) = fed_by(&place, &["-i", &place.arg("media"), "--on-eof", "wait"]);
    let media = slices(0, 12);
    // The first encoder dies in the middle of a packet, and the second begins with a whole one.
    let (before, after) = media.split_at(6 * SLICE_BYTES);
    let before = &before[..before.len() - 100];
    for part in [before, after] {
        let mut encoder = OpenOptions::new()
            .write(true)
            .open(&path)
            .expect("a reader");
        for slice in part.chunks(SLICE_BYTES) {
            source.interval();
            encoder.write_all(slice).expect("written");
        }
        drop(encoder);
        let done = if part.len() == before.len() {
            before.len()
        } else {
            before.len() + after.len()
        };
        peer.wait_bytes(done);
    }
    assert_same("peer", &peer.media(), &[before, after].concat());
    source.signal("TERM");
    source.done();
}

#[test]
fn a_file_is_streamed_by_its_clock() {
    let place = Place::new();
    // Long enough for the peer to come before its end.
    let media = slices(0, 80);
    fs::write(place.path("film.ts"), &media).expect("written");
    let (mut source, mut peer) = fed_by(&place, &["-i", &place.arg("film.ts")]);
    let end = source.done();
    assert_eq!(end["media_sha256"], sha256(&media).as_str());
    peer.done();
    assert_same("peer", &peer.media(), &media);
    // By the clock in the stream: 8 s of media less the last picture, whatever the machine does.
    assert!(end["up_ms"].as_u64() >= Some(7_900), "{end}");
}
