//! A tracker's answers as tables and lines, and what becomes of those who get none.

use std::cell::RefCell;
use std::ffi::OsString;

use clap::Parser as _;
use serde_json::{Value, json};

use crate::cli;
use crate::cli::qos::Args;
use crate::cli::qos::watch::{self, World};
use crate::io::http::{Answer, HttpError};

/// What came of a conversation.
#[derive(Debug)]
struct Outcome {
    out: String,
    err: String,
    /// Exit status and line, when it failed.
    error: Option<(u8, String)>,
    asked: Vec<String>,
}

/// Talks to a tracker that gives these answers, one a question.
fn talk(line: &str, terminal: bool, answers: Vec<Result<Answer, HttpError>>) -> Outcome {
    let args = Args::try_parse_from(line.split_whitespace()).expect("good arguments");
    let query = args.query().expect("a sound question").expect("a question");
    let asked = RefCell::new(Vec::new());
    let rounds = answers.len();
    let mut answers = answers.into_iter();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let outcome = watch::run(
        &query,
        &mut World {
            fetch: &mut |url, token| {
                let token = token.map(|token| format!(" {token}"));
                let asked = &mut *asked.borrow_mut();
                asked.push(url.to_owned() + &token.unwrap_or_default());
                answers.next().expect("no more questions than answers")
            },
            pause: &mut |_| asked.borrow().len() < rounds,
        },
        terminal,
        &mut out,
        &mut err,
    );
    let outcome = outcome.expect("memory can be written");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Outcome {
        out: text(out),
        err: text(err),
        error: outcome
            .err()
            .map(|error| (error.exit.code(), error.to_string())),
        asked: asked.into_inner(),
    }
}

fn good(body: Value) -> Result<Answer, HttpError> {
    says(200, body)
}

fn says(status: u16, body: Value) -> Result<Answer, HttpError> {
    let body = body.to_string();
    Ok(Answer { status, body })
}

fn asks(line: &str) -> String {
    let outcome = talk(line, false, vec![says(500, json!({}))]);
    outcome.asked.into_iter().next().expect("one question")
}

/// What the arguments are refused with.
fn refused(line: &str) -> String {
    let arguments: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
    let checked = cli::check::<Args>(&arguments, &|_| None);
    let error = checked.expect_err("bad arguments");
    assert_eq!(error.exit.code(), 2, "{line}");
    error.to_string()
}

fn user(id: &str, status: &str, bw: f64, lat: u32, jit: f64) -> Value {
    json!({"id": id, "status": status, "bw_mbps": bw, "lat_ms": lat, "jit_ms": jit, "content": "film"})
}

/// The status table of the paper.
fn golden() -> Value {
    json!({"content": "film", "columns": ["c", "c-c", "c-p", "c-c,p", "p", "p-p"], "rows": {
        "c": [user("C1", "c", 25.0, 20, 0.04)],
        "c-c": [user("C9", "c-c", 11.0, 60, 1.32)],
        "c-p": [user("C5", "c-p", 5.0, 90, 2.78)],
        "c-c,p": [user("C2", "c-c,p", 4.0, 80, 2.34)],
        "p": [user("C10", "p", 2.0, 90, 3.03)],
        "p-p": [user("C12", "p-p", 1.0, 110, 3.44)],
    }})
}

#[test]
fn t_csp_3_the_status_table_has_six_columns_in_their_order() {
    let outcome = talk("p2ps-qos status p2ps://t/film", true, vec![good(golden())]);
    assert_eq!(
        outcome.out,
        "c                c-c              c-p             c-c,p           p                p-p\n\
         C1 25, 20, 0.04  C9 11, 60, 1.32  C5 5, 90, 2.78  C2 4, 80, 2.34  C10 2, 90, 3.03  C12 1, 110, 3.44\n"
    );
    let outcome = talk("p2ps-qos status p2ps://t/film", false, vec![good(golden())]);
    let ids: Vec<String> = outcome
        .out
        .lines()
        .map(|line| {
            let row: Value = serde_json::from_str(line).expect("one object a line");
            format!(
                "{} {}",
                row["status"].as_str().unwrap(),
                row["id"].as_str().unwrap()
            )
        })
        .collect();
    assert_eq!(
        ids,
        ["c C1", "c-c C9", "c-p C5", "c-c,p C2", "p C10", "p-p C12"]
    );
    assert_eq!(
        outcome.out.lines().next(),
        Some(
            r#"{"id":"C1","status":"c","bw_mbps":25.0,"lat_ms":20.0,"jit_ms":0.04,"content":"film"}"#
        )
    );
}

#[test]
fn t_csp_3_every_question_has_its_call() {
    for (line, url) in [
        ("users film", "get_user_table?content=film"),
        ("packets film", "get_price_packets?content=film"),
        (
            "intervals --content film",
            "get_price_intervals?content=film",
        ),
        (
            "clients film --bandwidth 10Mbit --latency 60ms --jitter 1.5",
            "get_clients?content=film&bandwidth=10&latency=60&jitter=1.5",
        ),
        (
            "peers film --jitter 0.0435",
            "get_peers?content=film&jitter=0.0435",
        ),
        ("bandwidth film", "get_bandwidth?content=film"),
        ("latency film", "get_latency?content=film"),
        ("jitter film", "get_jitter?content=film"),
        ("qos film", "get_qos?content=film&fields=bw,lat,jit"),
        (
            "qos film --fields jit,bw",
            "get_qos?content=film&fields=bw,jit",
        ),
        (
            "direct-clients film --packet gold --bandwidth 500kbit",
            "get_direct_clients_of_packet?content=film&packet=gold&bandwidth=0.5",
        ),
        ("status film", "get_clients_status?content=film"),
        (
            "history film --id C1_2 --since 2026-11-21T20:00:00Z",
            "history?content=film&id=C1_2&since=2026-11-21T20:00:00.000000Z",
        ),
        ("clusters", "clusters"),
    ] {
        let asked = asks(&format!("p2ps-qos {line} --tracker t"));
        assert_eq!(asked, format!("http://t:7851/v1/{url}"), "{line}");
    }
    assert_eq!(
        asks("p2ps-qos users p2ps://t:99/film"),
        "http://t:99/v1/get_user_table?content=film"
    );
    assert_eq!(
        asks("p2ps-qos users film --tracker https://t/p2ps/"),
        "https://t:443/p2ps/v1/get_user_table?content=film"
    );
    assert_eq!(
        asks("p2ps-qos history --from http://127.0.0.1:9100/history --since 2026-11-21T20:00:00Z"),
        "http://127.0.0.1:9100/history?since=2026-11-21T20:00:00.000000Z"
    );
}

#[test]
fn numbers_stand_to_the_right() {
    let users = json!({"content": "film", "users": [
        {"id": "C1", "status": "c", "packet": "gold", "interval": "10-", "bw_mbps": 25.0, "lat_ms": 20, "jit_ms": 0.0435,
         "level": 1, "parent": "provider", "content": "film", "since": "2026-11-21T20:00:00Z", "used_mbps": 0.0},
        {"id": "C1_2", "status": "c-c", "bw_mbps": 9.50000001, "lat_ms": 135.25, "level": 2, "parent": "C1"},
    ]});
    let outcome = talk(
        "p2ps-qos users film --tracker t",
        true,
        vec![good(users.clone())],
    );
    assert_eq!(
        outcome.out,
        "ID    STATUS  BW Mbit/s  LATENCY ms  JITTER  PACKET  INTERVAL  LEVEL  PARENT\n\
         C1    c              25          20  0.0435  gold    10-           1  provider\n\
         C1_2  c-c           9.5      135.25                                2  C1\n"
    );
    // Every member of a row reaches the pipe, also those that are new.
    let outcome = talk("p2ps-qos users film --tracker t", false, vec![good(users)]);
    let first: Value = serde_json::from_str(outcome.out.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&first["since"], &first["used_mbps"]),
        (&"2026-11-21T20:00:00Z".into(), &0.0.into())
    );
    let outcome = talk(
        "p2ps-qos bandwidth film --tracker t --format table",
        false,
        vec![good(json!({"users": [{"id": "C1", "bw_mbps": 25}]}))],
    );
    assert_eq!(outcome.out, "ID  BW Mbit/s\nC1         25\n");
    let outcome = talk(
        "p2ps-qos users film --tracker t",
        true,
        vec![good(json!({"users": []}))],
    );
    assert_eq!(outcome.out, "ID\n(none)\n");
}

#[test]
fn prices_are_columns_with_those_who_pay_them() {
    let packets = json!({"content": "film", "currency": "EUR", "packets": [
        {"name": "gold", "bounds": {"bw_mbps": 15, "lat_ms": 30, "jit_ms": 1.0}, "price": "0.60", "unit": "hour",
         "users": ["C1: 25, 20, 0.0435", "C8: 19, 10, 0.5366"]},
        {"name": "silver", "bounds": {"bw_mbps": 10}, "price": "0.30", "unit": "hour", "users": ["C5: 13, 40, 1.4785"]},
    ]});
    let outcome = talk(
        "p2ps-qos packets film --tracker t",
        true,
        vec![good(packets)],
    );
    assert_eq!(
        outcome.out,
        "GOLD                SILVER\n\
         0.60 EUR/hour       0.30 EUR/hour\n\
         >= 15 Mbit/s        >= 10 Mbit/s\n\
         <= 30 ms            any\n\
         <= 1 jitter         any\n\
         C1: 25, 20, 0.0435  C5: 13, 40, 1.4785\n\
         C8: 19, 10, 0.5366\n"
    );
    let intervals = json!({"content": "film", "currency": "EUR", "intervals": [
        {"name": "0-2", "over_mbps": 0, "to_mbps": 2, "price": "0.05", "unit": "hour", "users": []},
        {"name": "10-", "over_mbps": 10, "price": "0.50", "unit": "hour", "users": [user("C1", "c", 25.0, 20, 0.04)]},
    ]});
    let outcome = talk(
        "p2ps-qos intervals film --tracker t",
        true,
        vec![good(intervals)],
    );
    assert_eq!(
        outcome.out,
        "0-2 Mbit/s     10- Mbit/s\n\
         0.05 EUR/hour  0.50 EUR/hour\n\
         \u{20}              C1 25, 20, 0.04 (c)\n"
    );
}

#[test]
fn samples_and_clusters() {
    let samples = json!({"samples": [{"ts": "2026-11-21T20:00:00Z", "id": "C1", "bw_mbps": 3.25, "jit_ms": 0.5}]});
    let outcome = talk(
        "p2ps-qos history film --tracker t",
        true,
        vec![good(samples.clone())],
    );
    assert_eq!(
        outcome.out,
        "TIME                  ID  BW Mbit/s  JITTER\n2026-11-21T20:00:00Z  C1       3.25     0.5\n"
    );
    let outcome = talk(
        "p2ps-qos history film --tracker t",
        false,
        vec![good(samples)],
    );
    assert_eq!(
        outcome.out,
        "{\"ts\":\"2026-11-21T20:00:00Z\",\"id\":\"C1\",\"bw_mbps\":3.25,\"jit_ms\":0.5}\n"
    );
    let clusters = json!({"clusters": [
        {"name": "north", "capacity_mbps": 100, "supporters": 3, "servers": ["a"]},
        {"name": "south", "capacity_mbps": 40.5},
    ]});
    let outcome = talk("p2ps-qos clusters --tracker t", true, vec![good(clusters)]);
    assert_eq!(
        outcome.out,
        "NAME   CAPACITY MBPS  SUPPORTERS\nnorth            100           3\nsouth           40.5\n"
    );
}

#[test]
fn s_42_names_do_not_reach_the_terminal_as_they_are() {
    let users = json!({"users": [{"id": "C1\u{1b}[2J\u{9b}31m", "parent": "a\nb"}]});
    let outcome = talk("p2ps-qos users film --tracker t", true, vec![good(users)]);
    assert!(
        !outcome.out.contains(['\u{1b}', '\u{9b}']),
        "{:?}",
        outcome.out
    );
    assert_eq!(outcome.out.lines().count(), 2, "{:?}", outcome.out);
}

#[test]
fn failures_have_their_exit_status() {
    let line = "p2ps-qos users film --tracker t";
    for (answer, expected) in [
        (
            Err(HttpError::Refused),
            (4, "cannot reach the tracker: t:7851 (connection refused)"),
        ),
        (
            says(404, json!({"error": "no such channel"})),
            (6, "no channel film: t:7851 knows none"),
        ),
        (
            says(404, json!({"error": "film", "code": "no_such_channel"})),
            (6, "no channel film: t:7851 knows none"),
        ),
        (
            says(404, json!({"error": "no such document"})),
            (1, "no answer from t:7851: no such document"),
        ),
        (
            says(
                401,
                json!({"error": "log in first", "code": "not_logged_in"}),
            ),
            (5, "refused by t:7851: log in first"),
        ),
        (
            says(503, json!({"error": "not stored: no space left on device"})),
            (5, "refused by t:7851: not stored: no space left on device"),
        ),
        (
            says(
                400,
                json!({"error": "packet: no such packet", "code": "no_such_packet"}),
            ),
            (2, "not understood by t:7851: packet: no such packet"),
        ),
        (
            says(302, json!("elsewhere")),
            (1, "no answer from t:7851: HTTP status 302"),
        ),
        (
            good(json!({"rows": 1})),
            (
                1,
                "bad answer of t:7851: missing field `users` at line 1 column 10",
            ),
        ),
    ] {
        let outcome = talk(line, true, vec![answer]);
        let (code, text) = outcome.error.expect("it failed");
        assert_eq!((code, text.as_str()), expected);
        assert_eq!(outcome.out, "");
    }
}

#[test]
fn the_second_tracker_answers_for_the_first() {
    let line = "p2ps-qos users film --tracker a --tracker b";
    let row = json!({"users": [{"id": "C1"}]});
    let outcome = talk(line, false, vec![Err(HttpError::Refused), good(row)]);
    assert_eq!(outcome.out, "{\"id\":\"C1\"}\n");
    let silent = || Err(HttpError::Refused);
    let outcome = talk(line, false, vec![silent(), silent()]);
    assert_eq!(
        outcome.error.expect("nobody answered").1,
        "cannot reach any tracker: a:7851 (connection refused), b:7851 (connection refused)"
    );
    // Who knows better counts more than who says nothing.
    let unknown = says(404, json!({"error": "no such channel"}));
    let outcome = talk(line, false, vec![unknown, silent()]);
    assert_eq!(outcome.error.expect("nobody knows it").0, 6);
}

#[test]
fn watching_paints_anew_on_a_terminal_and_counts_rounds_in_a_pipe() {
    let line = "p2ps-qos bandwidth film --tracker t --watch 1s";
    let row = |bw: f64| good(json!({"users": [{"id": "C1", "bw_mbps": bw}]}));
    let gone = || Err(HttpError::Refused);
    let outcome = talk(
        line,
        false,
        vec![row(1.0), row(2.0), gone(), gone(), row(3.0)],
    );
    assert_eq!(
        outcome.out,
        "{\"round\":1,\"id\":\"C1\",\"bw_mbps\":1.0}\n{\"round\":2,\"id\":\"C1\",\"bw_mbps\":2.0}\n\
         {\"round\":5,\"id\":\"C1\",\"bw_mbps\":3.0}\n"
    );
    let said = "p2ps-qos: cannot reach the tracker: t:7851 (connection refused); trying again\n";
    assert_eq!(outcome.err, said);
    let outcome = talk(line, true, vec![row(1.0), gone()]);
    let pages: Vec<&str> = outcome.out.split("\x1b[H").collect();
    assert_eq!(
        pages,
        [
            "\x1b[2J",
            "film: bandwidth\x1b[K\n\x1b[K\nID  BW Mbit/s\x1b[K\nC1          1\x1b[K\n\x1b[J",
            // What was last known stays, and the reason stands above it.
            "film: bandwidth  cannot reach the tracker: t:7851 (connection refused); trying again\x1b[K\n\x1b[K\n\
             ID  BW Mbit/s\x1b[K\nC1          1\x1b[K\n\x1b[J",
        ]
    );
    assert_eq!(outcome.err, "");
    // One that was never there is an error at once.
    let outcome = talk(line, true, vec![gone()]);
    assert_eq!(outcome.error.expect("it failed").0, 4);
}

#[test]
fn a_token_is_shown_to_the_tracker() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("token");
    let line = format!(
        "p2ps-qos users film --tracker t --token-file {}",
        path.display()
    );
    let missing = talk(&line, false, Vec::new());
    let (code, text) = missing.error.expect("it is not there");
    assert_eq!(code, 2);
    assert!(
        text.starts_with("cannot read token ") && text.ends_with(": no such file"),
        "{text}"
    );
    cli::secret::write_secret_file(&path, "let-me-in\n").expect("written");
    let outcome = talk(&line, false, vec![good(json!({"users": []}))]);
    assert_eq!(
        outcome.asked,
        ["http://t:7851/v1/get_user_table?content=film let-me-in"]
    );
}

#[test]
fn bad_arguments_are_named() {
    for (line, expected) in [
        (
            "users",
            "no channel: give its name, or p2ps://TRACKER/CHANNEL",
        ),
        (
            "users film",
            "no tracker: give --tracker, or p2ps://TRACKER/CHANNEL",
        ),
        (
            "users film --content film",
            "a channel and --content exclude each other",
        ),
        (
            "clusters",
            "no tracker: give --tracker, or p2ps://TRACKER/CHANNEL",
        ),
        (
            "history film --from http://h/history",
            "--from and a channel exclude each other",
        ),
        (
            "history --from h:1",
            "bad --from \"h:1\": need http://HOST:PORT/history",
        ),
        (
            "history film --since yesterday",
            "bad --since \"yesterday\": need a time, for example 2026-11-21T20:00:00Z or 10min",
        ),
        (
            "clients film --jitter -1",
            "bad --jitter \"-1\": need a number from 0 on, for example 1.5",
        ),
        (
            "users film --tracker t --watch 1",
            "bad --watch \"1\": unit missing, for example 250ms",
        ),
        (
            "direct-clients film --tracker t",
            "missing --packet: see --help",
        ),
        (
            "qos film --fields x",
            "bad --fields \"x\": need bw, lat or jit",
        ),
    ] {
        assert_eq!(refused(&format!("p2ps-qos {line}")), expected, "{line}");
    }
}
