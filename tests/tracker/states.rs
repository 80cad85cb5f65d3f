//! The state machine of a peer at the tracker (RFC 7846 §2.3.2), row by row.

use std::net::SocketAddr;

use p2ps::rng::Seed;
use p2ps::time::Instant;
use p2ps::tracker::registry::{Config, Registry};
use serde_json::{Value, json};

/// A tracker, one peer of it, and a count of transactions.
struct Talk {
    registry: Registry,
    transaction: u64,
}

/// What a peer does: when, in seconds, and what.
type Step = (u64, Value);

/// What came before, an event, its error code, and until when the registration lasts if nothing more comes.
type Row = (&'static str, Vec<Step>, Step, u64, Option<u64>);

impl Talk {
    fn new() -> Self {
        Self {
            registry: Registry::new(Config::default(), Seed::from_number(1)),
            transaction: 0,
        }
    }

    fn says(&mut self, (second, members): &Step) -> Value {
        self.transaction += 1;
        let mut protocol =
            json!({"version": 1, "transaction_id": self.transaction.to_string(), "peer_id": "p"});
        if let (Some(protocol), Some(members)) = (protocol.as_object_mut(), members.as_object()) {
            protocol.extend(members.clone());
        }
        let body = json!({"PPSPTrackerProtocol": protocol}).to_string();
        let now = Instant::from_micros(second * 1_000_000);
        let from: SocketAddr = "192.0.2.1:4000".parse().expect("an address");
        let reply = self.registry.handle_body(now, from, body.as_bytes());
        assert_eq!(reply.status, 200);
        let mut answer: Value = serde_json::from_str(&reply.body).expect("JSON");
        answer["PPSPTrackerProtocol"].take()
    }

    fn is_registered(&mut self, second: u64) -> bool {
        self.registry
            .handle_timeout(Instant::from_micros(second * 1_000_000));
        self.registry.stats().peers == 1
    }
}

fn connect(mode: &str, actions: &[(&str, &str)]) -> Value {
    let actions: Vec<Value> = actions
        .iter()
        .map(|(action, swarm)| json!({"swarm_id": swarm, "action": action, "peer_mode": mode}))
        .collect();
    json!({"request_type": "CONNECT", "connect": {"swarm_action": actions}})
}

fn find(swarm: &str) -> Value {
    json!({"request_type": "FIND", "find": {"swarm_id": swarm}})
}

fn report(swarm: &str) -> Value {
    json!({"request_type": "STAT_REPORT", "stat_report": {"type": "STREAM_STATS", "stat": [{"swarm_id": swarm,
        "uploaded_bytes": 1, "downloaded_bytes": 1, "available_bandwidth": 1, "concurrent_links": 1}]}})
}

/// The track timer of the default configuration, in seconds.
const TRACK_S: u64 = 35;

#[test]
fn rfc_7846_the_states_of_a_peer_row_by_row() {
    let join = || connect("LEECH", &[("JOIN", "a")]);
    let tracking = || vec![(0, join())];
    let late = TRACK_S - 5;
    let table: Vec<Row> = vec![
        (
            "START, CONNECT with valid actions",
            vec![],
            (0, join()),
            0,
            Some(TRACK_S),
        ),
        (
            "PEER REGISTERED, only invalid actions (A)",
            vec![],
            (0, connect("LEECH", &[("LEAVE", "a")])),
            3,
            None,
        ),
        (
            "PEER REGISTERED, unknown action (A)",
            vec![],
            (0, connect("LEECH", &[("PAUSE", "a")])),
            3,
            None,
        ),
        (
            "FIND of an unregistered peer (B)",
            vec![],
            (0, find("a")),
            3,
            None,
        ),
        (
            "STAT_REPORT of an unregistered peer (B)",
            vec![],
            (0, report("a")),
            3,
            None,
        ),
        (
            "TRACKING, FIND",
            tracking(),
            (late, find("a")),
            0,
            Some(late + TRACK_S),
        ),
        (
            "TRACKING, STAT_REPORT",
            tracking(),
            (late, report("a")),
            0,
            Some(late + TRACK_S),
        ),
        (
            "TRACKING, STAT_REPORT without statistics",
            tracking(),
            (late, json!({"request_type": "STAT_REPORT"})),
            0,
            Some(late + TRACK_S),
        ),
        (
            "TRACKING, CONNECT with valid actions",
            tracking(),
            (late, connect("LEECH", &[("JOIN", "b")])),
            0,
            Some(late + TRACK_S),
        ),
        (
            "TRACKING, the final LEAVE",
            tracking(),
            (late, connect("LEECH", &[("LEAVE", "a")])),
            0,
            None,
        ),
        (
            "TRACKING, CONNECT with invalid actions (C)",
            tracking(),
            (late, connect("LEECH", &[("LEAVE", "b")])),
            3,
            Some(TRACK_S),
        ),
        (
            "TRACKING, FIND of no swarm (C)",
            tracking(),
            (late, find("b")),
            3,
            Some(TRACK_S),
        ),
        (
            "TRACKING, STAT_REPORT of no swarm of its (C)",
            tracking(),
            (late, report("b")),
            3,
            Some(TRACK_S),
        ),
        (
            "TRACKING, track timer expired (D)",
            tracking(),
            (TRACK_S, report("a")),
            3,
            None,
        ),
    ];
    for (row, before, event, code, until) in table {
        let mut talk = Talk::new();
        for step in &before {
            assert_eq!(talk.says(step)["error_code"], 0, "{row}");
        }
        let answer = talk.says(&event);
        assert_eq!(answer["error_code"], code, "{row}");
        assert_eq!(answer["response_type"], u64::from(code != 0), "{row}");
        if code != 0 {
            // Errors are empty (RFC 7846 §4.3).
            assert!(
                answer.get("swarm_result").is_none() && answer.get("peer_addr").is_none(),
                "{row}"
            );
        }
        assert_eq!(talk.is_registered(event.0), until.is_some(), "{row}");
        if let Some(until) = until {
            assert!(talk.is_registered(until - 1), "{row}: gone too early");
            assert!(!talk.is_registered(until), "{row}: there too long");
        }
    }
}

#[test]
fn rfc_7846_valid_sets_of_actions_row_by_row() {
    let leech = [("JOIN", "a")];
    // (mode, swarms joined before, actions, results or none for an error, registered afterwards).
    for (mode, before, actions, results, is_registered) in [
        ("LEECH", &[][..], &leech[..], Some(&[0][..]), true),
        ("LEECH", &[], &[("LEAVE", "a")], None, false),
        ("LEECH", &leech, &[("LEAVE", "a")], Some(&[0]), false),
        // The RFC ends the registration; here what can be done is done, and the rest is told.
        (
            "LEECH",
            &[],
            &[("JOIN", "b"), ("LEAVE", "a")],
            Some(&[0, 1]),
            true,
        ),
        (
            "LEECH",
            &leech,
            &[("JOIN", "b"), ("LEAVE", "a")],
            Some(&[0, 0]),
            true,
        ),
        (
            "SEEDER",
            &[],
            &[("JOIN", "a"), ("JOIN", "b")],
            Some(&[0, 0]),
            true,
        ),
        // An update: a repeated announcement must not end a source (its rows in the RFC contradict each other).
        (
            "SEEDER",
            &[("JOIN", "a")],
            &[("JOIN", "a"), ("JOIN", "b")],
            Some(&[0, 0]),
            true,
        ),
        (
            "SEEDER",
            &[("JOIN", "a"), ("JOIN", "b")],
            &[("LEAVE", "a"), ("LEAVE", "b")],
            Some(&[0, 0]),
            false,
        ),
        (
            "SEEDER",
            &[("JOIN", "a"), ("JOIN", "b")],
            &[("LEAVE", "a")],
            Some(&[0]),
            true,
        ),
    ] {
        let what = format!("{mode} {before:?} {actions:?}");
        let mut talk = Talk::new();
        if !before.is_empty() {
            talk.says(&(0, connect(mode, before)));
        }
        let answer = talk.says(&(1, connect(mode, actions)));
        let found: Option<Vec<u64>> = answer["swarm_result"].as_array().map(|list| {
            list.iter()
                .filter_map(|result| result["result"].as_u64())
                .collect()
        });
        assert_eq!(found.as_deref(), results, "{what}");
        assert_eq!(
            answer["error_code"],
            if results.is_some() { 0 } else { 3 },
            "{what}"
        );
        assert_eq!(talk.is_registered(1), is_registered, "{what}");
    }
}
