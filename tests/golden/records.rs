//! Records: every line against the JSON Schema, the exact lines, their length, and the manual page p2ps-stats(5).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use p2ps::ids::PeerId;
use p2ps::stats::{
    Counters, NeighbourCounters, Notice, Path, Record, Recorder, Role, SCHEMA_JSON, Start, State,
    StateChange, StreamNotice, Tool, UserAnswer, closed_schema,
};
use p2ps::time::{Epoch, Instant};
use p2ps::wire::Answer;
use serde_json::Value;

const TOOLS: [Tool; 4] = [Tool::Source, Tool::Relay, Tool::Peer, Tool::Tracker];

const EVENTS: [(&str, &str); 9] = [
    ("start", "start"),
    ("interval", "interval"),
    ("state", "state_change"),
    ("warn", "warn"),
    ("error", "error"),
    ("notice", "notice"),
    ("answer", "answer"),
    ("neighbour", "neighbour"),
    ("end", "end"),
];

fn peer(byte: u8) -> PeerId {
    PeerId::from_bytes([byte; 8])
}

/// Ten seconds of an 8 Mbit/s stream with everything known that can be known.
fn busy() -> Counters {
    let mut counters = Counters {
        sent_packets: 15_200,
        recv_packets: 7620,
        sent_bytes: 20_900_000,
        recv_bytes: 10_400_000,
        lost_packets: 150,
        retransmitted_packets: 12,
        requested_packets: 150,
        repaired_packets: 148,
        dropped_late_packets: 1,
        duplicate_packets: 3,
        kernel_dropped_packets: 0,
        fec_sent_packets: 40,
        fec_repaired_packets: 9,
        fec_failed_packets: 1,
        due_packets: 7500,
        played_packets: 7498,
        joins: 9,
        rejects: 1,
        sent_media_bytes: 20_003_200,
        recv_media_bytes: 10_027_920,
        media_bytes: 10_000_000,
        signed_munros: 240,
        verified_munros: 240,
        audio_packets: 500,
        audio_bits: 640_000,
        video_packets: 1000,
        video_bits: 9_600_000,
        stalls: 1,
        stall_us: 40_500,
        rtt_us: Some(40_120),
        rtt_var_us: Some(310),
        jitter_us: Some(2315),
        hop_latency_us: Some(20_060),
        latency_us: Some(60_000),
        audio_latency_us: Some(60_100),
        video_latency_us: Some(59_900),
        age_us: Some(61_000),
        buffer_us: Some(940_000),
        target_latency_us: Some(1_000_000),
        join_us: Some(121_250),
        send_queue_us: Some(90),
        parents: Some(1),
        children: Some(2),
        neighbours: Some(3),
        depth: Some(3),
        slots_free: Some(14),
        peers: Some(9),
        supporters: Some(2),
        model_supporters: Some(3),
        model_reject_permille: Some(75),
        channels: Some(1),
        uplink_bps: Some(94_000_000),
        path: Some(Path::Direct),
        root_path: vec![peer(0x0a), peer(0x0b)],
        media_sha256: Some([0xab; 32]),
        first_chunk: Some(0),
        last_chunk: Some(7599),
        ..Counters::default()
    };
    for ms in 1..=100 {
        counters.latency.record(Duration::from_millis(ms));
        counters.age.record(Duration::from_millis(ms + 1));
    }
    counters
}

fn parent() -> NeighbourCounters {
    NeighbourCounters {
        path: Some(Path::Direct),
        age_us: 9_000_000,
        recv_packets: 7620,
        recv_bytes: 10_400_000,
        lost_packets: 150,
        rtt_us: Some(40_120),
        rtt_var_us: Some(310),
        jitter_us: Some(2315),
        hop_latency_us: Some(20_060),
        latency_us: Some(39_940),
        depth: Some(2),
        slots_free: Some(0),
        children: Some(4),
        load_ratio: Some(0.8),
        ..NeighbourCounters::new(peer(0x0b), "192.0.2.7:7850".into(), Role::Parent)
    }
}

/// One run of a tool: every event at least once, each with all its fields where the tool has them.
fn run(tool: Tool) -> Vec<String> {
    let started = Instant::from_micros(77);
    let epoch = Epoch::new(1_795_262_400_000_000);
    let at = |milliseconds| started + Duration::from_millis(milliseconds);
    let id = format!("0f{}", "ab".repeat(32));
    let is_by_id = tool == Tool::Relay;
    let channel = if is_by_id { &id } else { "film" };
    let mut recorder = Recorder::new(started, epoch, tool, "3f9c2a1b00d4e5f6", channel);
    recorder.set_name("film");
    let start = Start {
        host: Some("box".into()),
        pid: Some(4711),
        listen: vec!["0.0.0.0:7850".into(), "[::]:7850".into()],
        swarm: Some(id),
        recv_buffer_bytes: Some(8_388_608),
        send_buffer_bytes: Some(425_984),
        settings: BTreeMap::from([
            ("latency".into(), "1s".into()),
            ("window".into(), "1m".into()),
        ]),
        command: Some("p2ps --latency 1s".into()),
        ..Start::new(Duration::from_secs(10))
    };
    let playing = StateChange {
        previous: Some(State::Stalled),
        reason: Some("first chunk".into()),
        peer: Some(peer(0x0b).to_string()),
        address: Some("192.0.2.7:7850".into()),
        chunk: Some(32),
        join_ms: Some(121.25),
        stall_ms: Some(40.5),
        ..StateChange::to(State::Playing)
    };
    let notice = Notice {
        code: "parent_silent".into(),
        message: "parent 192.0.2.7:7850 is silent".into(),
        peer: Some(peer(0x0b).to_string()),
        exit: Some(4),
    };
    let asked = StreamNotice {
        peer: Some(peer(0x0b).to_string()),
        address: "192.0.2.7:7850".into(),
        title: Some("A film".into()),
        can_record: true,
    };
    let answered = UserAnswer {
        peer: Some(peer(0x0b).to_string()),
        address: "192.0.2.7:7850".into(),
        answer: Answer::Record,
        followed: true,
    };
    let idle = Counters::default();
    let mut lines = vec![
        recorder.line(at(0), Record::Start(start)),
        recorder.line(at(121), Record::State(playing)),
        recorder.interval(at(1000), &idle),
        recorder.interval(at(11_000), &busy()),
        recorder.line(at(11_001), Record::Warn(notice.clone())),
        recorder.line(at(11_002), Record::Error(notice)),
        recorder.line(at(11_003), Record::Notice(asked)),
        recorder.line(at(11_004), Record::Answer(answered)),
        recorder.end(at(12_000), &busy(), 0, "asked to stop"),
    ];
    let fresh = NeighbourCounters::new(peer(0x0b), "192.0.2.7:7850".into(), Role::Parent);
    lines.extend(recorder.neighbours(at(12_001), &[fresh]));
    lines.extend(recorder.neighbours(at(13_001), &[parent()]));
    lines
}

fn definition<'a>(schema: &'a Value, event: &str) -> &'a Value {
    let (_, name) = EVENTS
        .iter()
        .find(|(known, _)| *known == event)
        .expect("a known event");
    &schema["$defs"][name]
}

/// The schema of one event alone: its errors name the field, those of the whole only say that nothing fits.
fn validator(event: &str) -> jsonschema::Validator {
    let schema = closed_schema();
    let mut alone = definition(&schema, event).clone();
    alone["$defs"] = schema["$defs"].clone();
    jsonschema::draft202012::new(&alone).expect("the schema is one")
}

#[test]
fn every_record_of_every_tool_fits_the_closed_schema() {
    let whole = jsonschema::draft202012::new(&closed_schema()).expect("the schema is one");
    for tool in TOOLS {
        for line in run(tool) {
            let record: Value = serde_json::from_str(&line).expect("JSON");
            let event = record["event"].as_str().expect("a text");
            if let Err(error) = validator(event).validate(&record) {
                panic!(
                    "{tool:?} {event}: {error} at {}\n{line}",
                    error.instance_path()
                );
            }
            assert!(whole.is_valid(&record), "{line}");
        }
    }
}

#[test]
fn the_schema_is_itself_valid_and_open_to_new_fields() {
    let schema: Value = serde_json::from_str(SCHEMA_JSON).expect("JSON");
    jsonschema::draft202012::meta::validate(&schema).expect("draft 2020-12");
    let open = jsonschema::draft202012::new(&schema).expect("the schema is one");
    let closed = jsonschema::draft202012::new(&closed_schema()).expect("the schema is one");
    let line = run(Tool::Peer).pop().expect("a record");
    let mut record: Value = serde_json::from_str(&line).expect("JSON");
    record["added_later"] = 1.into();
    assert!(open.is_valid(&record) && !closed.is_valid(&record));
}

#[test]
fn the_schema_refuses_wrong_records() {
    let schema = jsonschema::draft202012::new(&closed_schema()).expect("the schema is one");
    let good: Value = serde_json::from_str(&run(Tool::Peer)[3]).expect("JSON");
    assert!(schema.is_valid(&good));
    let wrong: [(&str, Value); 8] = [
        ("loss_ratio", 1.5.into()),
        ("loss_ratio", Value::Null),
        ("recv_packets_total", (-1).into()),
        ("recv_packets_total", "7".into()),
        ("ts", "2026-11-21T12:00:00Z".into()),
        ("tool", "p2ps".into()),
        ("event", "intervall".into()),
        ("root_path", "0a".into()),
    ];
    for (field, value) in wrong {
        let mut record = good.clone();
        record[field] = value.clone();
        assert!(!schema.is_valid(&record), "{field}: {value}");
    }
    for field in [
        "ts",
        "node",
        "channel",
        "event",
        "interval_ms",
        "media_bytes_total",
        "lost_packets",
    ] {
        let mut record = good.clone();
        record.as_object_mut().expect("an object").remove(field);
        assert!(!schema.is_valid(&record), "{field}");
    }
}

#[test]
fn schema_and_records_have_the_same_fields() {
    let schema: Value = serde_json::from_str(SCHEMA_JSON).expect("JSON");
    let mut written: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in TOOLS.into_iter().flat_map(run) {
        let record: BTreeMap<String, Value> = serde_json::from_str(&line).expect("an object");
        let event = record["event"].as_str().expect("a text").to_owned();
        written.entry(event).or_default().extend(record.into_keys());
    }
    for (event, _) in EVENTS {
        let known = definition(&schema, event)["properties"]
            .as_object()
            .expect("an object");
        let known: BTreeSet<_> = known.keys().cloned().collect();
        assert_eq!(written[event], known, "{event}");
    }
}

#[test]
fn tools_have_only_their_own_fields() {
    for (tool, present, absent) in [
        (
            Tool::Source,
            "signed_munros_total media_sha256 children",
            "loss_ratio continuity_ratio stalls_total joins",
        ),
        (
            Tool::Relay,
            "loss_ratio latency_ms slots_free",
            "continuity_ratio stall_ms_total media_bytes_total joins",
        ),
        (
            Tool::Peer,
            "continuity_ratio stall_ms_total join_ms media_sha256",
            "signed_munros_total reject_ratio peers",
        ),
        (
            Tool::Tracker,
            "reject_ratio joins_total supporters",
            "sent_packets loss_ratio stall_ms rtt_ms children",
        ),
    ] {
        let record: Value = serde_json::from_str(&run(tool)[3]).expect("JSON");
        for field in present.split(' ') {
            assert!(record.get(field).is_some(), "{tool:?} lacks {field}");
        }
        for field in absent.split(' ') {
            assert!(record.get(field).is_none(), "{tool:?} has {field}");
        }
    }
}

#[test]
fn derived_values() {
    let record: Value = serde_json::from_str(&run(Tool::Peer)[3]).expect("JSON");
    for (field, expected) in [
        ("interval_ms", 10_000.0),
        // 150 lost; 7620 received, of which 3 twice and 148 by repair.
        ("loss_ratio", 0.019_688),
        ("continuity_ratio", 0.999_733),
        ("contribution_ratio", 1.994_751),
        ("recv_mbps", 8.32),
        ("sent_mbps", 16.72),
        ("stream_mbps", 8.022_336),
        // Two children, 1280 bits at 50/s and 9600 bits at 100/s: the golden value of the measured form.
        ("bandwidth_mbps", 2.048),
        ("uplink_mbps", 94.0),
        ("stall_ms", 40.5),
        ("jitter_ms", 2.315),
        ("join_ms", 121.25),
    ] {
        assert_eq!(record[field], expected, "{field}");
    }
}

#[test]
fn the_exact_lines() {
    let lines = TOOLS.into_iter().flat_map(run).collect::<String>();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/records.jsonl");
    if std::env::var_os("P2PS_BLESS").is_some() {
        std::fs::write(path, &lines).expect("writable");
    }
    let golden = std::fs::read_to_string(path).expect("readable");
    for (line, golden) in lines.lines().zip(golden.lines()) {
        assert_eq!(line, golden, "P2PS_BLESS=1 rewrites the file");
    }
    assert_eq!(lines.lines().count(), golden.lines().count());
}

#[test]
fn no_line_reaches_4096_bytes() {
    let mut counters = busy();
    counters.root_path = vec![peer(0xff); 4000];
    (counters.first_chunk, counters.last_chunk) = (Some(u64::MAX), Some(u64::MAX));
    let long = "\u{1}é\"".repeat(5000);
    let now = Instant::from_micros(u64::MAX / 2);
    for tool in TOOLS {
        let mut recorder = Recorder::new(
            Instant::ZERO,
            Epoch::default(),
            tool,
            &"n".repeat(900),
            &"c".repeat(900),
        );
        let notice = Notice {
            code: long.clone(),
            message: long.clone(),
            peer: Some(long.clone()),
            exit: None,
        };
        let asked = StreamNotice {
            title: Some(long.clone()),
            address: long.clone(),
            ..StreamNotice::default()
        };
        let start = Start {
            host: Some(long.clone()),
            listen: vec![long.clone(); 100],
            settings: (0..500)
                .map(|number| (format!("key{number}"), long.clone()))
                .collect(),
            command: Some(long.clone()),
            swarm: Some("ab".repeat(1024)),
            ..Start::new(Duration::MAX)
        };
        let state = StateChange {
            reason: Some(long.clone()),
            address: Some(long.clone()),
            ..StateChange::to(State::Reconnecting)
        };
        let mut lines = vec![
            recorder.line(now, Record::Start(start)),
            recorder.line(now, Record::State(state)),
            recorder.line(now, Record::Warn(notice.clone())),
            recorder.line(now, Record::Error(notice)),
            recorder.line(now, Record::Notice(asked)),
            recorder.interval(now, &counters),
            recorder.end(now, &counters, 255, &long),
        ];
        let neighbour = NeighbourCounters::new(peer(1), long.clone(), Role::Candidate);
        lines.extend(recorder.neighbours(now, &[neighbour]));
        for line in lines {
            assert!(line.len() < 4096, "{} bytes: {line}", line.len());
            assert!(line.ends_with("}\n"));
            serde_json::from_str::<Value>(&line).expect("still JSON");
        }
    }
}

#[test]
fn the_widest_numbers_still_fit() {
    // Every number of a real line widened to the 16 digits of 2^53 - 1, counts and fractions alike.
    for line in TOOLS.into_iter().flat_map(run) {
        let record: BTreeMap<String, Value> = serde_json::from_str(&line).expect("an object");
        let bytes = line.len();
        let wider: usize = record
            .values()
            .filter(|value| value.is_number())
            .map(|value| 16_usize.saturating_sub(value.to_string().len()))
            .sum();
        let names = 2 * 128;
        assert!(
            bytes + wider + names < 4096,
            "{bytes} bytes could become {}",
            bytes + wider + names
        );
    }
}

#[test]
fn the_manual_names_every_field() {
    let page = include_str!("../../man/p2ps-stats.5");
    let schema: Value = serde_json::from_str(SCHEMA_JSON).expect("JSON");
    // In roff an underscore needs no escape; a field stands in the page as a word of its own.
    let words: BTreeSet<&str> = page
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .collect();
    for (event, _) in EVENTS {
        assert!(words.contains(event), "{event}");
        for field in definition(&schema, event)["properties"]
            .as_object()
            .expect("an object")
            .keys()
        {
            assert!(
                words.contains(field.as_str()),
                "p2ps-stats(5) does not mention {field} of {event}"
            );
        }
    }
}
