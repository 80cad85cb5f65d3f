//! The tool as people see it: arguments and records in, lines and exit status out.

use clap::Parser;
use serde_json::Value;

use super::{Args, run};
use crate::cli::Tool as _;
use crate::cli::exit::Exit;

mod api;

/// Exit status, standard output, standard error.
fn qos(line: &str, records: &str) -> (u8, String, String) {
    on(line, records, false)
}

fn on(line: &str, records: &str, terminal: bool) -> (u8, String, String) {
    let args = Args::try_parse_from(line.split_whitespace()).expect("good arguments");
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = run(&args, &mut records.as_bytes(), terminal, &mut out, &mut err);
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (code, text(out), text(err))
}

fn refused(line: &str) -> String {
    let error = Args::try_parse_from(line.split_whitespace()).expect_err("bad arguments");
    assert_eq!(error.exit_code(), 2, "{line}");
    error.to_string()
}

fn record(second: u64, event: &str, fields: &str) -> String {
    format!(
        "{{\"event\":\"{event}\",\"ts\":\"2026-11-21T12:00:{second:02}.000000Z\",\"up_ms\":{second}000,\
         \"tool\":\"p2ps-peer\",\"node\":\"3f9c2a1b00d4e5f6\",\"channel\":\"film\",{fields}}}\n"
    )
}

fn intervals(fields: &str) -> String {
    (1..=5)
        .map(|second| record(second, "interval", fields))
        .collect()
}

const GOOD: &str = "\"interval_ms\":1000,\"loss_ratio\":0.01,\"latency_ms\":60,\"continuity_ratio\":1,\"stall_ms\":0,\
                    \"jitter_ms\":2.3,\"join_ms\":121";

#[test]
fn bad_input_29_a_threshold_missed_is_named() {
    let records = intervals(GOOD) + &record(5, "interval", "\"continuity_ratio\":0.981");
    let (code, out, err) = qos("p2ps-qos check --min-continuity 0.99", &records);
    assert_eq!(
        err,
        "p2ps-qos: continuity 0.981 below 0.990 (node 3f9c2a1b00d4e5f6, 12:00:05)\n"
    );
    assert_eq!((code, out.as_str()), (1, ""));
}

#[test]
fn bad_input_30_garbage_is_named_when_strict_and_passed_over_when_not() {
    let lines: String = (1..=16)
        .map(|second| record(second, "interval", GOOD))
        .collect();
    let records = lines + "   garbage\n" + &record(20, "interval", GOOD);
    let (code, _, err) = qos("p2ps-qos check --strict --max-loss 5%", &records);
    assert_eq!(
        (code, err.as_str()),
        (
            1,
            "p2ps-qos: line 17: bad record: expected value at column 4\n"
        )
    );
    let (code, _, err) = qos("p2ps-qos check --max-loss 5%", &records);
    assert_eq!(
        (code, err.as_str()),
        (
            0,
            "p2ps-qos: 1 line is no record, passed over (--strict says which)\n"
        )
    );
    assert_eq!(qos("p2ps-qos summary --strict", &records).0, 1);
}

#[test]
fn within_every_threshold_it_says_nothing() {
    let line = "p2ps-qos check --max-loss 5% --max-latency 4s --max-jitter 50ms --max-stall 0s --min-continuity 0.99 \
                --max-join 2s";
    assert_eq!(
        qos(line, &intervals(GOOD)),
        (0, String::new(), String::new())
    );
    assert_eq!(qos(&format!("{line} --window 30s"), &intervals(GOOD)).0, 0);
    assert_eq!(
        qos("p2ps-qos check --standard streamsmart", &intervals(GOOD)).0,
        0
    );
}

#[test]
fn the_standard_of_streamsmart() {
    for (fields, text) in [
        (
            "\"loss_ratio\":0.051,\"latency_ms\":1",
            "loss 5.1% above 5.0%",
        ),
        (
            "\"loss_ratio\":0,\"latency_ms\":4001",
            "latency 4001ms above 4000ms",
        ),
    ] {
        let (code, _, err) = qos("p2ps-qos check --standard streamsmart", &intervals(fields));
        assert_eq!(code, 1);
        assert!(err.starts_with(&format!("p2ps-qos: {text} (node")), "{err}");
    }
}

#[test]
fn a_check_without_records_is_no_pass() {
    for records in ["", "\n\n", "nothing here\n"] {
        let (code, _, err) = qos("p2ps-qos check --max-loss 5%", records);
        assert_eq!(code, 3, "{records:?}");
        assert!(err.ends_with("p2ps-qos: no records\n"), "{err}");
    }
    let start = record(1, "start", "\"version\":\"0.1.0\"");
    let (code, _, err) = qos("p2ps-qos check --max-loss 5%", &start);
    assert_eq!(
        (code, err.as_str()),
        (3, "p2ps-qos: no record has loss_ratio\n")
    );
    assert_eq!(qos("p2ps-qos summary", "").0, 3);
}

#[test]
fn a_check_without_thresholds_is_a_mistake() {
    for (line, exit) in [
        ("p2ps-qos check", Exit::Usage),
        ("p2ps-qos check --nagios --window 5s", Exit::Answer(3)),
    ] {
        let args = Args::try_parse_from(line.split_whitespace()).expect("good arguments");
        let error = args.check().expect_err("no threshold");
        assert_eq!((error.exit, error.what.as_str()), (exit, "no threshold"));
    }
}

#[test]
fn it_stops_at_the_first_record_that_misses() {
    // An input that would never end, as from `tail -f`: reading past the bad record is a failure of this test.
    struct Endless(Vec<u8>);
    impl std::io::Read for Endless {
        fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
            assert!(!self.0.is_empty(), "it read on");
            let bytes = self.0.len().min(to.len());
            to[..bytes].copy_from_slice(&self.0[..bytes]);
            self.0.drain(..bytes);
            Ok(bytes)
        }
    }
    let args =
        Args::try_parse_from(["p2ps-qos", "check", "--max-loss", "5%"]).expect("good arguments");
    let records = record(1, "interval", "\"loss_ratio\":0.5");
    let mut input = std::io::BufReader::with_capacity(1, Endless(records.into_bytes()));
    assert_eq!(
        run(&args, &mut input, false, &mut Vec::new(), &mut Vec::new()),
        1
    );
}

#[test]
fn nagios_lines_and_codes() {
    let late = |ms: u32| intervals(&format!("\"loss_ratio\":0,\"latency_ms\":{ms}"));
    for (records, code, text) in [
        (intervals(GOOD), 0, "P2PS OK - 5 records within limits\n"),
        (
            late(4500),
            1,
            "P2PS WARNING - latency 4500ms above 4000ms (node 3f9c2a1b00d4e5f6, 12:00:01)\n",
        ),
        (
            late(5500),
            2,
            "P2PS CRITICAL - latency 5500ms above 5000ms (node 3f9c2a1b00d4e5f6, 12:00:01)\n",
        ),
        (String::new(), 3, "P2PS UNKNOWN - no records\n"),
    ] {
        let found = qos("p2ps-qos check --nagios --standard streamsmart", &records);
        assert_eq!((found.0, found.1.as_str()), (code, text));
    }
    // One bad second in a good window.
    let records =
        intervals(GOOD) + &record(6, "interval", "\"interval_ms\":1000,\"loss_ratio\":0.06");
    assert_eq!(
        qos(
            "p2ps-qos check --nagios --max-loss 5% --window 5s",
            &records
        )
        .0,
        1
    );
}

#[test]
fn a_summary_is_json_in_a_pipe_and_a_table_on_a_terminal() {
    let records = intervals(GOOD);
    let (code, out, _) = on("p2ps-qos summary", &records, false);
    let row: Value = serde_json::from_str(&out).expect("one JSON line");
    assert_eq!(
        (code, &row["event"], &row["records"]),
        (0, &"summary".into(), &5.into())
    );
    assert_eq!(row["latency_p50_ms"].as_f64().map(f64::round), Some(60.0));
    let (_, table, _) = on("p2ps-qos summary -", &records, true);
    assert!(table.starts_with("CHANNEL"), "{table}");
    assert_eq!(
        on("p2ps-qos summary --format table", &records, false).1,
        table
    );
    assert_eq!(on("p2ps-qos summary --format json", &records, true).1, out);
}

#[test]
fn files_are_read_one_after_the_other() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    std::fs::write(&one, intervals(GOOD)).expect("writable");
    std::fs::write(&two, "nothing\n").expect("writable");
    let (one, two) = (one.display(), two.display());
    let (code, _, err) = qos(
        &format!("p2ps-qos check --strict --max-loss 5% {one} {two}"),
        "",
    );
    assert_eq!(code, 1);
    assert!(
        err.starts_with(&format!(
            "p2ps-qos: {two}: line 1: bad record: expected ident"
        )),
        "{err}"
    );
    let (code, _, err) = qos("p2ps-qos summary /nonexistent/qos.jsonl", "");
    assert_eq!(
        (code, err.as_str()),
        (
            3,
            "p2ps-qos: cannot open \"/nonexistent/qos.jsonl\": no such file\n"
        )
    );
    let (code, _, err) = qos(&format!("p2ps-qos summary {}", dir.path().display()), "");
    assert_eq!(code, 3);
    assert!(err.ends_with(": is a directory\n"), "{err}");
}

#[test]
fn the_schema_is_printed() {
    let (code, out, _) = qos("p2ps-qos schema", "");
    assert_eq!((code, out.as_str()), (0, crate::stats::SCHEMA_JSON));
}

#[test]
fn values_need_units_and_bounds() {
    for (line, text) in [
        (
            "p2ps-qos check --max-latency 4",
            "unit missing, for example 250ms",
        ),
        ("p2ps-qos check --max-latency fast", "not a number"),
        (
            "p2ps-qos check --max-loss 5",
            "must be 0 to 1, or 0% to 100%",
        ),
        ("p2ps-qos check --max-loss -1%", "must be 0 to 1"),
        ("p2ps-qos check --max-loss nan", "must be 0 to 1"),
        ("p2ps-qos check --standard best", "streamsmart"),
        ("p2ps-qos", "summary"),
    ] {
        let message = refused(line);
        assert!(message.contains(text), "{line}: {message}");
    }
}

#[test]
fn a_closed_output_is_no_error() {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let args = Args::try_parse_from(["p2ps-qos", "summary"]).expect("good arguments");
    let mut err = Vec::new();
    let code = run(
        &args,
        &mut intervals(GOOD).as_bytes(),
        false,
        &mut writer,
        &mut err,
    );
    assert_eq!((code, err.len()), (0, 0));
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
    let code = run(
        &args,
        &mut intervals(GOOD).as_bytes(),
        false,
        &mut full.expect("a Linux machine"),
        &mut err,
    );
    assert_eq!(code, 8);
}
