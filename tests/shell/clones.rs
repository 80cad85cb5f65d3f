//! Clones: relays that join for one user each, when he says so.

use std::fs;

use serde_json::Value;

use crate::access::{keygen, order, user};
use crate::harness::{Place, Running, Starter, assert_same};
use crate::media::{SLICE_BYTES, clip, slices};

/// What holds less than the streams here are long.
const SMALL: &[&str] = &["--window", "3s", "--latency", "3s"];

/// A clone with a file to record to, and the key of its user's peer.
struct Clone {
    name: &'static str,
    relay: Running,
    phone_key: String,
}

impl Clone {
    fn start(place: &Place, name: &'static str, channel: &str, args: &[&str]) -> Self {
        let program = place.program("p2ps-relay", name);
        Self::start_as(program, place, name, channel, args)
    }

    fn start_as(
        program: Starter,
        place: &Place,
        name: &'static str,
        channel: &str,
        args: &[&str],
    ) -> Self {
        let (phone_key, line) = keygen(place, &format!("{name}.pem"));
        let list = place.path(&format!("{name}.phones"));
        fs::write(&list, line).expect("a list");
        Self {
            name,
            relay: Self::relay(program, place, name, channel, args),
            phone_key,
        }
    }

    fn relay(program: Starter, place: &Place, name: &str, channel: &str, args: &[&str]) -> Running {
        program
            .args(["--ask", &place.arg(&format!("{name}.phones"))])
            .args(["--record", &place.arg(&format!("{name}.ts"))])
            .args(args)
            .args([channel])
            .start()
    }

    /// Kills the relay, as a crash would, and starts it again.
    fn crash(&mut self, place: &Place, channel: &str, args: &[&str]) {
        self.relay.kill();
        self.start_again(place, channel, args);
    }

    fn start_again(&mut self, place: &Place, channel: &str, args: &[&str]) {
        let program = place.program("p2ps-relay", self.name);
        self.relay = Self::relay(program, place, self.name, channel, args);
    }

    /// The user's peer, which knows the clone and nobody else.
    fn phone(&self, place: &Place, channel: &str, name: &str, args: &[&str]) -> Running {
        let below = self.relay.channel_below(channel);
        place
            .receiver("p2ps-peer", &format!("{}-{name}", self.name), &below)
            .args(["--key", &self.phone_key])
            .args(args)
            .start()
    }

    /// Bytes of the stream that it received, at its end; what it wrote is written then.
    fn received(&mut self) -> u64 {
        self.relay.signal("TERM");
        let end = self.relay.done();
        let received = end["recv_media_bytes_total"].as_u64();
        received.expect("a relay counts it")
    }
}

/// The answer as a record has it, and whether it is followed.
fn answer(of: &Running) -> (Value, Value) {
    let record = of.event("answer");
    (record["answer"].clone(), record["followed"].clone())
}

#[test]
fn t_ss_5_only_clones_told_to_watch_or_record_join() {
    let place = Place::new();
    let store = format!("redb:{}", place.arg("tracker.redb"));
    order(&store, &["channel", "close", "film"]);
    let studio = user(&place, &store, "studio", "publish");
    let tokens = ["ann", "bob", "cid"].map(|name| user(&place, &store, name, "serve"));
    let tracker = place
        .program("p2ps-tracker", "tracker")
        .args(["--store", &store])
        .start();
    let at = tracker.address();
    let mut source = place
        .source("source")
        .args(["--tracker", &at, "--token-file", &studio])
        .args(["--title", "A film"])
        .start();
    let channel = source.channel();
    let film = format!("p2ps://{at}/film");
    let [mut watch, mut record, mut ignore] = [("watch", 0), ("record", 1), ("ignore", 2)]
        .map(|(name, user)| Clone::start(&place, name, &film, &["--token-file", &tokens[user]]));
    // One that is nobody's learns nothing of the tracker, and gets nothing of the source.
    let mut nobody = Clone::start(&place, "nobody", &film, &["--timeout", "2s"]);
    let (own_key, _) = keygen(&place, "direct-own.pem");
    let mut direct = Clone::start(&place, "direct", &channel, &["--key", &own_key]);

    let mut watching = watch.phone(&place, &channel, "phone", &[]);
    let mut recording = record.phone(&place, &channel, "phone", &["--answer", "record"]);
    let mut ignoring = ignore.phone(&place, &channel, "phone", &["--answer", "ignore"]);
    let mut refused = direct.phone(&place, &channel, "phone", &["--answer", "record"]);
    let media = slices(0, 60);
    let (first, second) = media.split_at(20 * SLICE_BYTES);
    source.feed(first.chunks(SLICE_BYTES));
    for (clone, phone) in [
        (&watch, &watching),
        (&record, &recording),
        (&ignore, &ignoring),
    ] {
        assert_eq!(phone.event("notice")["title"], "A film", "{}", clone.name);
        let told = (clone.name.into(), true.into());
        assert_eq!(answer(phone), told);
        assert_eq!(answer(&clone.relay), told);
    }
    // Only who is to watch is given anything.
    watching.state("buffering");
    for phone in [&mut recording, &mut ignoring, &mut refused] {
        assert_eq!(phone.done()["reason"], "answered");
        assert_eq!(phone.media(), b"");
    }
    direct.relay.record("a refusal", |record| {
        (record["code"] == "refused").then_some(())
    });
    source.feed(second.chunks(SLICE_BYTES));
    source.end_input();
    source.done();
    watching.done();
    let watched = watching.media();
    assert!(!watched.is_empty() && media.ends_with(&watched), "a tail");

    // The source is gone. Whoever the recording was made for fetches it now.
    record.relay.state("ended");
    let mut later = record.phone(&place, &channel, "later", &[]);
    assert_eq!(later.done()["reason"], "channel ended");
    assert_same("fetched later", &later.media(), &media);

    assert_eq!(nobody.relay.exit(), Some(5), "{:?}", nobody.relay.lines());
    assert!(watch.received() > 0);
    assert!(record.received() >= media.len() as u64);
    let file = fs::read(place.path("record.ts")).expect("a recording");
    assert_same("recording", &file, &media);
    assert_eq!((ignore.received(), direct.received()), (0, 0));
    for name in ["watch", "ignore", "nobody"] {
        assert!(!place.path(&format!("{name}.ts")).exists(), "{name}");
    }
}

#[test]
fn t_ss_5_a_recording_outlives_its_window_its_stream_and_its_clone() {
    let place = Place::new();
    let media = clip(&place, 6).unwrap_or_else(|| slices(0, 60));
    let mut source = place.source("source").start();
    let channel = source.channel();
    let (own_key, _) = keygen(&place, "clone-own.pem");
    let args = [&["--key", &own_key], SMALL].concat();
    let mut clone = Clone::start(&place, "clone", &channel, &args);
    let mut phone = clone.phone(&place, &channel, "phone", &["--answer", "record"]);
    let mut blocks = media.chunks(media.len().div_ceil(60));
    source.feed(blocks.by_ref().take(15));
    assert_eq!(phone.done()["reason"], "answered");
    source.feed(blocks.by_ref().take(20));
    // The recording goes on where it was torn, without being asked for again: its source still has what is missing.
    clone.crash(&place, &channel, &args);
    clone.relay.state("buffering");
    source.feed(blocks);
    source.end_input();
    source.done();
    clone.relay.state("ended");
    let fetch = |clone: &Clone, name| {
        let mut phone = clone.phone(&place, &channel, name, &["--no-skip", "--blocking"]);
        assert_eq!(phone.done()["reason"], "channel ended");
        assert_same(name, &phone.media(), &media);
    };
    fetch(&clone, "later");
    let file = place.path("clone.ts");
    assert_same("recording", &fs::read(&file).expect("a recording"), &media);

    // Half a munro that nothing proves: the machine went down while it was written.
    let torn = [&media[..], &[0x47; 1000]].concat();
    clone.relay.kill();
    fs::write(&file, torn).expect("a torn end");
    clone.start_again(&place, &channel, &args);
    clone.relay.line("the torn end", |line| {
        line.contains("cut 1000 bytes off its end").then_some(())
    });
    fetch(&clone, "again");
    assert_same("mended", &fs::read(&file).expect("a recording"), &media);
}

#[test]
fn a_full_disk_ends_a_recording_and_not_the_stream() {
    let place = Place::new();
    let mut source = place.source("source").start();
    let channel = source.channel();
    let (own_key, _) = keygen(&place, "clone-own.pem");
    let program = place.short_of_disk(200, "p2ps-relay", "clone");
    let args = [&["--key", &own_key], SMALL].concat();
    let mut clone = Clone::start_as(program, &place, "clone", &channel, &args);
    let mut phone = clone.phone(&place, &channel, "phone", &["--answer", "record"]);
    let media = slices(0, 50);
    let mut blocks = media.chunks(SLICE_BYTES);
    source.feed(blocks.by_ref().take(10));
    assert_eq!(phone.done()["reason"], "answered");
    let mut watching = clone.phone(&place, &channel, "watching", &["--no-skip"]);
    source.feed(blocks);
    let line = clone.relay.line("the disk", |line| {
        let is_it = line.contains("the recording ends here");
        is_it.then(|| line.to_owned())
    });
    assert!(line.ends_with("clone.ts: file too large"), "{line}");
    source.end_input();
    source.done();
    watching.done();
    assert_same("watched", &watching.media(), &media);
    clone.received();
    let file = fs::read(place.path("clone.ts")).expect("a recording");
    assert!(file.len() > 100_000 && media.starts_with(&file), "a head");
}
