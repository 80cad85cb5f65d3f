//! Signals, exit codes and the one line that says why.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::net::UnixListener;
use std::process::Stdio;

use socket2::{Domain, Socket, Type};

use crate::harness::{Place, Running, assert_same, check_record, mkfifo};
use crate::media::{SLICE_BYTES, slices};

/// What a program that failed said last, without the time.
fn last_line(program: &Running) -> String {
    program.lines().pop().unwrap_or_default()
}

/// A port on which nobody answers.
fn deaf(kind: Type) -> (Socket, String) {
    let socket = Socket::new(Domain::IPV4, kind, None).expect("a socket");
    let any: std::net::SocketAddr = ([127, 0, 0, 1], 0).into();
    socket.bind(&any.into()).expect("bound");
    let address = socket.local_addr().expect("an address").as_socket();
    let address = address.expect("of IPv4").to_string();
    (socket, address)
}

#[test]
fn bad_input_21_a_full_disk() {
    let place = Place::new();
    let mut source = place.source("source").start();
    let full = File::options()
        .write(true)
        .open("/dev/full")
        .expect("a full disk");
    let mut peer = place
        .receiver("p2ps-peer", "peer", &source.channel())
        .args(["--latency", "0s"])
        .stdout(full)
        .start()
        .attached();
    source.interval();
    source.write(&slices(0, 2));
    assert_eq!(peer.exit(), Some(8));
    assert_eq!(
        last_line(&peer),
        "p2ps-peer: cannot write output: no space left on device"
    );
    let end = peer.event("end");
    assert_eq!(
        (&end["exit"], &end["reason"]),
        (&8.into(), &"output failed".into())
    );
}

#[test]
fn bad_input_24_no_tracker_answers() {
    let place = Place::new();
    let (_socket, address) = deaf(Type::STREAM);
    let uri = format!("p2ps://{address}/film");
    for tool in ["p2ps-peer", "p2ps-relay"] {
        let mut viewer = place
            .receiver(tool, tool, &uri)
            .args(["--timeout", "1s"])
            .start();
        assert_eq!(viewer.exit(), Some(4), "{tool}");
        assert_eq!(
            last_line(&viewer),
            format!("{tool}: cannot reach any tracker: {address} (connection refused)")
        );
        assert!(viewer.media().is_empty());
    }
}

#[test]
fn a_dead_parent_is_given_up_in_time() {
    let place = Place::new();
    let key = "0f".to_owned() + &"25".repeat(32);
    // One that refuses, and one that never answers.
    let (_socket, silent) = deaf(Type::DGRAM);
    for parent in ["127.0.0.1:9", &silent] {
        let uri = format!("p2ps://{key}@{parent}");
        let mut peer = place
            .receiver("p2ps-peer", "peer", &uri)
            .args(["--timeout", "1s"])
            .start();
        assert_eq!(peer.exit(), Some(4), "{parent}");
        assert_eq!(
            last_line(&peer),
            "p2ps-peer: no media in time: no source, relay or peer sent any"
        );
        assert_eq!(peer.event("end")["exit"], 4);
        assert!(peer.media().is_empty());
    }
}

#[test]
fn bad_inputs_29_and_30_of_records_on_disk() {
    let place = Place::new();
    let mut source = place
        .source("source")
        .args(["--stats", &place.arg("records")])
        .start();
    source.feed([&slices(0, 1)[..]]);
    source.end_input();
    source.done();
    let qos = |args: &[&str]| {
        let run = std::process::Command::new(crate::harness::program("p2ps-qos"))
            .args(args)
            .arg(place.path("records"))
            .stdin(Stdio::null())
            .output()
            .expect("it runs");
        (
            run.status.code(),
            String::from_utf8_lossy(&run.stderr).into_owned(),
            run.stdout,
        )
    };
    let (code, said, _) = qos(&["summary", "--strict"]);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    // The first thing out took longer than nothing at all.
    let (code, said, out) = qos(&["check", "--max-join", "1us"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.starts_with("p2ps-qos: join "), "{said}");
    assert!(
        said.contains(" above ") && said.lines().count() == 1 && out.is_empty(),
        "{said}"
    );
    let mut records = fs::read_to_string(place.path("records")).expect("records");
    let lines = records.lines().count();
    records.push_str("   garbage\n");
    fs::write(place.path("records"), records).expect("written");
    let (code, said, _) = qos(&["check", "--strict", "--max-loss", "5%"]);
    let expected = format!(
        "p2ps-qos: line {}: bad record: expected value at column 4\n",
        lines + 1
    );
    assert_eq!((code, said), (Some(1), expected));
}

#[test]
fn term_says_goodbye_and_exits_0() {
    let place = Place::new();
    let tracker = place.program("p2ps-tracker", "tracker").start();
    let at = tracker.address();
    let source = place.source("source").args(["--tracker", &at]).start();
    let channel = source.channel();
    let relay = place
        .receiver("p2ps-relay", "relay", &channel)
        .start()
        .attached();
    let peer = place
        .receiver("p2ps-peer", "peer", &relay.channel_below(&channel))
        .start()
        .attached();
    let children = |program: &Running, count: u64| {
        program.record("so many children", |record| {
            (record["event"] == "interval" && record["children"] == count).then_some(())
        });
    };
    children(&relay, 1);
    let mut programs = [tracker, source, relay, peer];
    for program in &programs {
        program.interval();
    }
    // From the leaves up: whoever is left hears of it at once, not when somebody falls silent.
    for at in (0..programs.len()).rev() {
        programs[at].signal("TERM");
        assert_eq!(programs[at].done()["reason"], "asked to stop");
        if at == 3 || at == 2 {
            programs[at - 1].interval();
            let newest = programs[at - 1]
                .records()
                .into_iter()
                .rfind(|record| record["event"] == "interval");
            assert_eq!(newest.expect("an interval")["children"], 0);
        }
    }
}

#[test]
fn a_signal_at_the_moment_of_readiness_is_taken() {
    let place = Place::new();
    // The hook sends it as soon as the tool says that it is there.
    let hook = ["--on-ready", "kill -USR1 $PPID; kill -TERM $PPID"];
    let uri = format!("p2ps://0f{}@127.0.0.1:9", "25".repeat(32));
    for mut program in [
        place.program("p2ps-tracker", "tracker").args(hook).start(),
        place.source("source").args(hook).start(),
        place
            .receiver("p2ps-relay", "relay", &uri)
            .args(hook)
            .start(),
        place.receiver("p2ps-peer", "peer", &uri).args(hook).start(),
    ] {
        assert_eq!(program.done()["reason"], "asked to stop");
    }
}

#[test]
fn a_parent_that_stops_is_left_at_once() {
    let place = Place::new();
    let mut source = place.source("source").start();
    let peer = place
        .receiver("p2ps-peer", "peer", &source.channel())
        .start()
        .attached();
    source.interval();
    source.signal("TERM");
    source.done();
    assert_eq!(peer.state("reconnecting")["reason"], "it left");
}

#[test]
fn a_second_interrupt_exits_130() {
    let place = Place::new();
    for name in ["began", "hold"] {
        mkfifo(&place.path(name));
    }
    // The end is held up by a hook: whoever interrupts again does not want to wait for it.
    let hook = "exec >/dev/null 2>&1 </dev/null; echo >began; cat hold";
    let mut source = place.source("source").args(["--on-exit", hook]).start();
    source.interval();
    source.signal("INT");
    let mut word = String::new();
    let began =
        File::open(place.path("began")).and_then(|mut began| began.read_to_string(&mut word));
    began.expect("the hook runs");
    source.signal("INT");
    assert_eq!(source.exit(), Some(130));
    // Lets go of the hook's shell.
    let hold = OpenOptions::new()
        .read(true)
        .write(true)
        .open(place.path("hold"));
    drop(hold);
}

#[test]
fn usr1_writes_records_now() {
    let place = Place::new();
    let source = place.source("source").start();
    let channel = source.channel();
    let peer = place
        .every("1h", "p2ps-peer", "peer", "127.0.0.1:0")
        .args([&channel])
        .start()
        .attached();
    peer.signal("USR1");
    let interval = peer.event("interval");
    assert!(
        interval["interval_ms"].as_f64() < Some(3_600_000.0),
        "{interval}"
    );
    let neighbour = peer.event("neighbour");
    assert_eq!(neighbour["address"], source.address().as_str());
    assert_eq!(neighbour["peer"], source.event("start")["node"]);
}

#[test]
fn hup_opens_the_stats_file_again() {
    let place = Place::new();
    let (file, old) = (place.path("records"), place.path("records.1"));
    let mut source = place
        .source("source")
        .args(["--stats", &place.arg("records")])
        .start();
    source.interval();
    fs::rename(&file, &old).expect("renamed");
    source.signal("HUP");
    source.line("the file", |line| {
        line.contains("reopened stats files").then_some(())
    });
    source.feed([&slices(0, 1)[..]]);
    source.end_input();
    source.done();
    let read = |path| fs::read_to_string(path).expect("records");
    let (before, after) = (read(&old), read(&file));
    for line in before.lines().chain(after.lines()) {
        check_record(line);
    }
    assert!(before.starts_with("{\"event\":\"start\"") && !before.contains("\"event\":\"end\""));
    let end = after.lines().last().unwrap_or_default();
    assert!(end.starts_with("{\"event\":\"end\""), "{end}");
}

#[test]
fn a_lost_stats_sink_is_said_once() {
    let place = Place::new();
    let path = place.path("lost");
    let sink = format!("unix:{}", path.display());
    for program in [
        place.source("source"),
        place.program("p2ps-tracker", "tracker"),
    ] {
        let listener = UnixListener::bind(&path).expect("a socket for records");
        let mut program = program.args(["--stats", &sink]).start();
        drop(listener.accept().expect("it connects"));
        // The other sink is told.
        let warn = program.event("warn");
        assert_eq!(warn["code"], "stats_sink");
        let said = format!("stats sink {sink}: broken pipe, records are dropped");
        assert_eq!(warn["message"], said.as_str());
        for _ in 0..3 {
            program.interval();
        }
        program.signal("TERM");
        assert!(program.done()["dropped_records_total"].as_u64() >= Some(3));
        let of_it = |line: &String| line.contains("stats sink");
        let lines = program.lines();
        assert_eq!(
            lines.iter().filter(|line| of_it(line)).count(),
            1,
            "{lines:?}"
        );
        let warns = program.records();
        let warns = warns.iter().filter(|record| record["event"] == "warn");
        assert_eq!(warns.count(), 1);
        fs::remove_file(&path).expect("removed");
    }
}

#[test]
fn a_relay_that_receives_is_not_given_up() {
    let place = Place::new();
    let mut source = place.source("source").start();
    let mut relay = place
        .receiver("p2ps-relay", "relay", &source.channel())
        .args(["--timeout", "1s"])
        .start()
        .attached();
    source.feed([&slices(0, 1)[..]]);
    relay.record("a later time", |record| {
        let has_media = record["recv_packets_total"].as_u64() > Some(0);
        (has_media && record["up_ms"].as_u64() > Some(1500)).then_some(())
    });
    relay.signal("TERM");
    assert_eq!(relay.done()["reason"], "asked to stop");
}

#[test]
fn a_stats_sink_that_cannot_be_used_is_said_before_anything_is_waited_for() {
    let place = Place::new();
    let (_socket, address) = deaf(Type::STREAM);
    let uri = format!("p2ps://{address}/film");
    for tool in ["p2ps-peer", "p2ps-relay"] {
        let mut viewer = place
            .receiver(tool, tool, &uri)
            .args(["--stats", "nowhere/records"])
            .start();
        assert_eq!(viewer.exit(), Some(8), "{tool}");
        assert_eq!(
            viewer.lines(),
            [format!(
                "{tool}: cannot write records to nowhere/records: no such file"
            )]
        );
    }
}

#[test]
fn a_signal_while_names_are_looked_up_is_heard() {
    let place = Place::new();
    let key = "0f".to_owned() + &"25".repeat(32);
    for (tool, signal) in [("p2ps-peer", "INT"), ("p2ps-relay", "TERM")] {
        let uri = format!("p2ps://{key}@host.invalid");
        let mut viewer = place.receiver(tool, tool, &uri).start();
        viewer.line("the name", |line| {
            let said = "cannot look up host.invalid:7850: name not found; trying again";
            line.contains(said).then_some(())
        });
        viewer.signal(signal);
        assert_eq!(viewer.exit(), Some(0), "{tool}");
    }
}

#[test]
fn usr2_drains() {
    let place = Place::new();
    let mut source = place.source("source").start();
    let channel = source.channel();
    let mut relay = place
        .receiver("p2ps-relay", "relay", &channel)
        .start()
        .attached();
    let below = relay.channel_below(&channel);
    let (_, at) = channel.split_once('@').expect("an address");
    // The relay first, and the source for later.
    let both = format!("{below},{at}");
    let mut peer = place
        .receiver("p2ps-peer", "peer", &both)
        .start()
        .attached();
    let media = slices(0, 20);
    let (before, after) = media.split_at(10 * SLICE_BYTES);
    source.feed(before.chunks(SLICE_BYTES));
    relay.signal("USR2");
    relay.state("draining");
    source.feed(after.chunks(SLICE_BYTES));
    // It serves those it has, and takes nobody.
    let mut late = place
        .receiver("p2ps-peer", "late", &below)
        .args(["--timeout", "1s"])
        .start();
    assert_eq!(late.exit(), Some(4));
    source.end_input();
    source.done();
    peer.done();
    assert_same("peer", &peer.media(), &media);
    assert_eq!(relay.done()["reason"], "drained");
}
