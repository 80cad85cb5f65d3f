//! A tracker without HTTP: each test is a short conversation.

use serde_json::{Value, json};

use super::super::message::ErrorCode;
use super::*;

mod glance;
mod listing;
mod sealed;
mod shared;

const SWARM: &str = "0f974d96a22d224bc01adb915091477d44ccd91c9a41a11430010117d52c59240e";

fn at(seconds: u64) -> Instant {
    Instant::from_micros(seconds * 1_000_000)
}

fn registry() -> Registry {
    Registry::new(Config::default(), Seed::from_number(1))
}

fn limited(change: impl FnOnce(&mut Limits)) -> Registry {
    let mut config = Config::default();
    change(&mut config.limits);
    Registry::new(config, Seed::from_number(1))
}

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// Posts `members` in the envelope and gives what stands in the envelope of the answer.
fn post(registry: &mut Registry, seconds: u64, from: &str, members: Value) -> Value {
    let mut protocol =
        json!({"version": 1, "transaction_id": format!("t{}", registry.stats.requests_total)});
    if let (Some(protocol), Value::Object(members)) = (protocol.as_object_mut(), members) {
        protocol.extend(members);
    }
    let body = json!({"PPSPTrackerProtocol": protocol}).to_string();
    let reply = registry.handle_body(at(seconds), addr(from), body.as_bytes());
    assert_eq!(reply.status, 200);
    let mut answer: Value = serde_json::from_str(&reply.body).expect("an answer is JSON");
    answer["PPSPTrackerProtocol"].take()
}

fn join(peer: &str, swarm: &str, mode: &str, ext: Value) -> Value {
    json!({
        "request_type": "CONNECT", "peer_id": peer, "x_ext": ext,
        "connect": {"swarm_action": [{"swarm_id": swarm, "action": "JOIN", "peer_mode": mode}]}
    })
}

fn leave(peer: &str, swarm: &str) -> Value {
    json!({
        "request_type": "CONNECT", "peer_id": peer,
        "connect": {"swarm_action": [{"swarm_id": swarm, "action": "LEAVE", "peer_mode": "LEECH"}]}
    })
}

fn find(peer: &str, swarm: &str, ext: Value) -> Value {
    json!({"request_type": "FIND", "peer_id": peer, "find": {"swarm_id": swarm}, "x_ext": ext})
}

fn report(peer: &str, swarm: &str, ext: Value) -> Value {
    json!({
        "request_type": "STAT_REPORT", "peer_id": peer, "x_ext": ext,
        "stat_report": {"type": "STREAM_STATS", "stat": [{"swarm_id": swarm, "uploaded_bytes": 1,
            "downloaded_bytes": 1, "available_bandwidth": 1, "concurrent_links": 1}]}
    })
}

fn source(name: &str) -> Value {
    json!({"v": 1, "role": "source", "channel": name, "title": "A film", "description": "c2lnbmVk",
           "port": 7850, "depth": 1, "slots_free": 4})
}

/// A peer that has the stream.
fn attached(depth: u16, slots: u16) -> Value {
    json!({"v": 1, "role": "peer", "port": 7850, "depth": depth, "slots_free": slots})
}

/// A peer that waits for it.
fn waiting() -> Value {
    json!({"v": 1, "role": "peer", "port": 7850, "slots_free": 4})
}

/// Who is in the list of an answer, in order.
fn names(answer: &Value) -> Vec<&str> {
    answer["swarm_result"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|result| result["peer_group"]["peer_info"].as_array())
        .flatten()
        .filter_map(|info| info["peer_id"].as_str())
        .collect()
}

fn code(answer: &Value) -> u64 {
    answer["error_code"].as_u64().expect("a code")
}

fn reason(answer: &Value) -> &str {
    answer["x_ext"]["reject"]["code"].as_str().unwrap_or("")
}

#[test]
fn golden_conversation_of_plain_peers() {
    let mut registry = registry();
    let mut pair = |from: &str, request: &str, response: &str| {
        let reply = registry.handle_body(at(0), addr(from), request.as_bytes());
        let parsed = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
        assert_eq!(parsed(&reply.body), parsed(response));
    };
    pair(
        "198.51.100.7:50001",
        r#"{"PPSPTrackerProtocol":{"version":1,"request_type":"CONNECT","transaction_id":"7f3a-1","peer_id":"peer-a",
          "connect":{"peer_addr":[{"ip_address":{"address_type":"ipv4","address":"198.51.100.7"},
            "port":6778,"priority":1,"type":"HOST","peer_protocol":"PPSP-PP"}],
          "swarm_action":[{"swarm_id":"2222","action":"JOIN","peer_mode":"SEEDER"}]}}}"#,
        r#"{"PPSPTrackerProtocol":{"version":1,"response_type":0,"error_code":0,"transaction_id":"7f3a-1",
          "swarm_result":[{"swarm_id":"2222","result":0}]}}"#,
    );
    pair(
        "203.0.113.5:40881",
        r#"{"PPSPTrackerProtocol":{"version":1,"request_type":"CONNECT","transaction_id":"c2-8","peer_id":"peer-b",
          "connect":{"swarm_action":{"swarm_id":"1111","action":"JOIN","peer_mode":"SEEDER"}}}}"#,
        r#"{"PPSPTrackerProtocol":{"version":1,"response_type":0,"error_code":0,"transaction_id":"c2-8",
          "swarm_result":[{"swarm_id":"1111","result":0}]}}"#,
    );
    pair(
        "203.0.113.5:40882",
        r#"{"PPSPTrackerProtocol":{"version":1,"request_type":"CONNECT","transaction_id":"c2-9","peer_id":"peer-b",
          "connect":{"peer_num":{"peer_count":5,"ability_nat":"STUN","concurrent_links":4,"online_time":200,"upload_bandwidth":6000},
          "peer_addr":[{"ip_address":{"address_type":"ipv6","address":"2001:db8::2"},"port":40001,"priority":2,"type":"HOST"},
                       {"ip_address":{"address_type":"ipv4","address":"203.0.113.5"},"port":51234,"priority":1,"type":"REFLEXIVE"}],
          "swarm_action":[{"swarm_id":"1111","action":"LEAVE","peer_mode":"LEECH"},
                          {"swarm_id":"2222","action":"JOIN","peer_mode":"LEECH"}]}}}"#,
        r#"{"PPSPTrackerProtocol":{"version":1,"response_type":0,"error_code":0,"transaction_id":"c2-9",
          "peer_addr":{"ip_address":{"address_type":"ipv4","address":"203.0.113.5"},"port":40882,"priority":1,"type":"REFLEXIVE"},
          "swarm_result":[{"swarm_id":"1111","result":0},
            {"swarm_id":"2222","result":0,"peer_group":{"peer_info":[
              {"peer_id":"peer-a","peer_addr":{"ip_address":{"address_type":"ipv4","address":"198.51.100.7"},
                "port":6778,"priority":1,"type":"HOST","peer_protocol":"PPSP-PP"}}]}}]}}"#,
    );
    pair(
        "203.0.113.5:40883",
        r#"{"PPSPTrackerProtocol":{"version":1,"request_type":"STAT_REPORT","transaction_id":"c2-11","peer_id":"peer-b",
          "stat_report":{"type":"STREAM_STATS","stat":[{"swarm_id":"2222","uploaded_bytes":512000,
            "downloaded_bytes":7680000,"available_bandwidth":1024000,"concurrent_links":5}]}}}"#,
        r#"{"PPSPTrackerProtocol":{"version":1,"response_type":0,"error_code":0,"transaction_id":"c2-11",
          "swarm_result":[{"swarm_id":"2222","result":0}]}}"#,
    );
    pair(
        "198.51.100.7:50002",
        r#"{"PPSPTrackerProtocol":{"version":1,"request_type":"FIND","transaction_id":"c2-10","peer_id":"peer-a",
          "find":{"swarm_id":"2222","peer_num":{"peer_count":10}}}}"#,
        r#"{"PPSPTrackerProtocol":{"version":1,"response_type":0,"error_code":0,"transaction_id":"c2-10",
          "swarm_result":[{"swarm_id":"2222","result":0,"peer_group":{"peer_info":[
            {"peer_id":"peer-b","peer_addr":{"ip_address":{"address_type":"ipv4","address":"203.0.113.5"},
              "port":51234,"priority":1,"type":"REFLEXIVE"}}]}}]}}"#,
    );
    pair(
        "198.51.100.9:1",
        r#"{"PPSPTrackerProtocol":{"version":1,"request_type":"FIND","transaction_id":"c2-11","peer_id":"stranger","find":{"swarm_id":"2222"}}}"#,
        r#"{"PPSPTrackerProtocol":{"version":1,"response_type":1,"error_code":3,"transaction_id":"c2-11"}}"#,
    );
}

#[test]
fn a_name_leads_to_swarm_description_and_parents() {
    let mut registry = registry();
    post(
        &mut registry,
        0,
        "192.0.2.1:1",
        join("src", SWARM, "SEEDER", source("film")),
    );
    let mut ext = waiting();
    ext["channel"] = json!("film");
    let answer = post(&mut registry, 1, "192.0.2.2:1", join("b", "", "LEECH", ext));
    assert_eq!(answer["swarm_result"][0]["swarm_id"], SWARM);
    assert_eq!(answer["x_p2ps_report_interval"], 10);
    assert_eq!(
        answer["x_ext"],
        json!({
            "parents": [{"peer": "src", "addr": "192.0.2.1:7850", "depth": 1, "slots_free": 4, "role": "source"}],
            "channel": {"name": "film", "swarm_id": SWARM, "title": "A film", "description": "c2lnbmVk"},
        })
    );
    let record = registry.channel("film").expect("announced");
    assert_eq!((record.peers, record.info.swarm_id.as_str()), (2, SWARM));
}

#[test]
fn whoever_comes_before_the_source_waits() {
    let mut registry = registry();
    let mut ext = waiting();
    ext["channel"] = json!("film");
    let answer = post(&mut registry, 0, "192.0.2.2:1", join("b", "", "LEECH", ext));
    assert_eq!((code(&answer), reason(&answer)), (3, "no_such_channel"));
    assert_eq!(registry.stats().peers, 0);
    // With the identifier there is success, and nobody to ask: another one who waits is no parent.
    for peer in ["b", "c"] {
        let answer = post(
            &mut registry,
            1,
            "192.0.2.2:1",
            join(peer, SWARM, "LEECH", waiting()),
        );
        assert_eq!(code(&answer), 0);
        assert_eq!(
            answer["swarm_result"][0]["peer_group"]["peer_info"],
            json!([])
        );
    }
    post(
        &mut registry,
        2,
        "192.0.2.1:1",
        join("src", SWARM, "SEEDER", source("film")),
    );
    let answer = post(&mut registry, 3, "192.0.2.2:1", find("b", SWARM, waiting()));
    assert_eq!(names(&answer), ["src"]);
}

#[test]
fn the_first_key_holds_a_name_until_it_expires() {
    let mut registry = registry();
    post(
        &mut registry,
        0,
        "192.0.2.1:1",
        join("src", SWARM, "SEEDER", source("film")),
    );
    let claim = |registry: &mut Registry, seconds| {
        let answer = post(
            registry,
            seconds,
            "192.0.2.9:1",
            join("other", "ffff", "SEEDER", source("film")),
        );
        reason(&answer).to_owned()
    };
    assert_eq!(claim(&mut registry, 1), "name_taken");
    assert_eq!(registry.stats().peers, 1);
    // A report keeps the name, a goodbye keeps it for the key until the time is over.
    post(
        &mut registry,
        10,
        "192.0.2.1:1",
        report("src", SWARM, source("film")),
    );
    post(&mut registry, 11, "192.0.2.1:1", leave("src", SWARM));
    assert_eq!(claim(&mut registry, 44), "name_taken");
    assert_eq!(claim(&mut registry, 45), "");
    assert_eq!(
        registry
            .channel("film")
            .map(|channel| channel.info.swarm_id),
        Some("ffff".to_owned())
    );
}

#[test]
fn a_second_source_of_the_same_key_changes_nothing_while_the_first_lives() {
    let mut registry = registry();
    post(
        &mut registry,
        0,
        "192.0.2.1:1",
        join("src", SWARM, "SEEDER", source("film")),
    );
    let mut forged = source("film");
    forged["title"] = json!("Forged");
    post(
        &mut registry,
        1,
        "192.0.2.9:1",
        join("evil", SWARM, "SEEDER", forged.clone()),
    );
    let title = |registry: &Registry| {
        registry
            .channel("film")
            .and_then(|channel| channel.info.title)
    };
    assert_eq!(title(&registry).as_deref(), Some("A film"));
    // Killed and started again it has a new identifier, and says what holds now.
    let mut restarted = source("film");
    restarted["title"] = json!("A film, second reel");
    post(
        &mut registry,
        1,
        "192.0.2.1:1",
        join("src2", SWARM, "SEEDER", restarted),
    );
    assert_eq!(title(&registry).as_deref(), Some("A film, second reel"));
    post(&mut registry, 2, "192.0.2.1:1", leave("src2", SWARM));
    post(&mut registry, 2, "192.0.2.1:1", leave("src", SWARM));
    post(
        &mut registry,
        3,
        "192.0.2.9:1",
        join("evil", SWARM, "SEEDER", forged),
    );
    assert_eq!(title(&registry).as_deref(), Some("Forged"));
}

#[test]
fn a_description_check_decides_who_may_announce() {
    let mut registry = Registry::new(
        Config {
            description_check: Some(|name, swarm, bytes| {
                (name, swarm, bytes) == ("film", SWARM, b"signed")
            }),
            ..Config::default()
        },
        Seed::from_number(1),
    );
    let refused = post(
        &mut registry,
        0,
        "192.0.2.9:1",
        join("evil", "ffff", "SEEDER", source("film")),
    );
    assert_eq!((code(&refused), reason(&refused)), (3, "bad_description"));
    let accepted = post(
        &mut registry,
        0,
        "192.0.2.1:1",
        join("src", SWARM, "SEEDER", source("film")),
    );
    assert_eq!(code(&accepted), 0);
}

#[test]
fn silence_ends_a_registration_and_reports_keep_it() {
    let mut registry = registry();
    post(
        &mut registry,
        0,
        "192.0.2.1:1",
        join("src", SWARM, "SEEDER", source("film")),
    );
    post(
        &mut registry,
        0,
        "192.0.2.2:1",
        join("b", SWARM, "LEECH", attached(2, 4)),
    );
    for seconds in [30, 60, 90] {
        assert_eq!(
            code(&post(
                &mut registry,
                seconds,
                "192.0.2.2:1",
                report("b", SWARM, attached(2, 4))
            )),
            0
        );
    }
    assert_eq!(
        (registry.stats().peers, registry.stats().expired_total),
        (1, 1)
    );
    assert_eq!(registry.stats().channels, 0);
    assert_eq!(registry.poll_timeout(), Some(at(125)));
    registry.handle_timeout(at(124));
    assert_eq!(registry.stats().peers, 1);
    registry.handle_timeout(at(125));
    let stats = registry.stats();
    assert_eq!((stats.peers, stats.swarms, stats.channels), (0, 0, 0));
    assert_eq!(registry.poll_timeout(), None);
    assert!(
        registry.by_id.is_empty() && registry.by_network.is_empty() && registry.replays.len() == 0
    );
    let answer = post(
        &mut registry,
        126,
        "192.0.2.2:1",
        report("b", SWARM, attached(2, 4)),
    );
    assert_eq!((code(&answer), reason(&answer)), (3, "not_registered"));
}

/// RFC 7846 §2.3.2, the table of action sets, and what ours adds to it.
#[test]
fn states_and_actions() {
    let actions = |list: &[(&str, &str)]| {
        let list: Vec<Value> = list
            .iter()
            .map(|(swarm, action)| json!({"swarm_id": swarm, "action": action, "peer_mode": "LEECH"}))
            .collect();
        json!({"request_type": "CONNECT", "peer_id": "p", "connect": {"swarm_action": list}})
    };
    // From START: (actions, error code, results, registered afterwards).
    for (list, expected) in [
        (&[("1", "JOIN")][..], (0, vec![0], true)),
        (&[("1", "LEAVE")], (3, vec![], false)),
        (&[("1", "PAUSE")], (3, vec![], false)),
        (&[("1", "JOIN"), ("2", "LEAVE")], (0, vec![0, 1], true)),
        (&[("1", "JOIN"), ("2", "JOIN")], (0, vec![0, 0], true)),
        (&[("1", "JOIN"), ("1", "LEAVE")], (0, vec![0, 0], false)),
    ] {
        let mut registry = registry();
        let answer = post(&mut registry, 0, "192.0.2.1:1", actions(list));
        let results: Vec<u64> = answer["swarm_result"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|result| result["result"].as_u64())
            .collect();
        assert_eq!(
            (code(&answer), results, registry.stats().peers == 1),
            expected,
            "{list:?}"
        );
    }
    // From TRACKING in swarm 1.
    for (list, expected) in [
        (&[("1", "LEAVE")][..], (0, false)),
        (&[("2", "JOIN"), ("1", "LEAVE")], (0, true)),
        (&[("1", "LEAVE"), ("2", "JOIN")], (0, true)),
        (&[("1", "JOIN")], (0, true)),
        (&[("2", "LEAVE")], (3, true)),
    ] {
        let mut registry = registry();
        post(&mut registry, 0, "192.0.2.1:1", actions(&[("1", "JOIN")]));
        let answer = post(&mut registry, 1, "192.0.2.1:1", actions(list));
        assert_eq!(
            (code(&answer), registry.stats().peers == 1),
            expected,
            "{list:?}"
        );
    }
    // FIND and STAT_REPORT with a swarm that is none of the peer's: error, and still TRACKING.
    let mut registry = registry();
    post(&mut registry, 0, "192.0.2.1:1", actions(&[("1", "JOIN")]));
    for request in [find("p", "9", Value::Null), report("p", "9", Value::Null)] {
        assert_eq!(code(&post(&mut registry, 1, "192.0.2.1:1", request)), 3);
    }
    let alive = post(
        &mut registry,
        2,
        "192.0.2.1:1",
        json!({"request_type": "STAT_REPORT", "peer_id": "p"}),
    );
    assert_eq!(
        alive["swarm_result"],
        json!([{"swarm_id": "1", "result": 0}])
    );
}

#[test]
fn a_repeated_transaction_gets_its_answer_again() {
    let mut registry = registry();
    let from = addr("192.0.2.1:1");
    let goodbye = br#"{"PPSPTrackerProtocol":{"version":1,"request_type":"CONNECT","transaction_id":"9","peer_id":"p",
        "connect":{"swarm_action":{"swarm_id":"1","action":"LEAVE"}}}}"#;
    let hello = String::from_utf8_lossy(goodbye)
        .replace("LEAVE", "JOIN")
        .replace("\"9\"", "\"8\"");
    let first = registry.handle_body(at(0), from, hello.as_bytes());
    assert_eq!(registry.handle_body(at(1), from, hello.as_bytes()), first);
    let gone = registry.handle_body(at(2), from, goodbye);
    assert_eq!(registry.handle_body(at(3), from, goodbye), gone);
    assert!(gone.body.contains("\"error_code\":0"));
    assert_eq!(registry.stats().replays_total, 2);
    // Another content is another request, whatever its identifier; and nothing is remembered for ever.
    let other = String::from_utf8_lossy(goodbye).replace("\"1\"", "\"2\"");
    assert!(
        registry
            .handle_body(at(4), from, other.as_bytes())
            .body
            .contains("\"error_code\":3")
    );
    assert!(
        registry
            .handle_body(at(60), from, goodbye)
            .body
            .contains("\"error_code\":3")
    );
    assert!(registry.replays.len() == 0);
}

#[test]
fn every_limit_is_reached_and_answered_with_error_5() {
    let reject_of = |answer: &Value| (code(answer), reason(answer).to_owned());
    let full = (5, "full".to_owned());

    let mut peers = limited(|limits| limits.peers = 2);
    let mut per_address = limited(|limits| limits.per_address = 2);
    let mut per_local = limited(|limits| limits.per_local_address = 2);
    for (registry, from) in [
        (&mut peers, ["192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1"]),
        (
            &mut per_address,
            ["[2001:db8::1]:1", "[2001:db8::2]:1", "[2001:db8::3]:1"],
        ),
        (&mut per_local, ["10.0.0.1:1", "10.0.0.1:2", "10.0.0.1:3"]),
    ] {
        for (index, from) in from.into_iter().enumerate() {
            let answer = post(
                registry,
                0,
                from,
                join(&format!("p{index}"), SWARM, "LEECH", waiting()),
            );
            assert_eq!(reject_of(&answer) == full, index == 2, "{from}: {answer}");
        }
        assert_eq!(registry.stats().peers, 2);
        assert_eq!(registry.stats().rejects_total[RejectCode::Full.index()], 1);
        // What expires makes room again.
        let answer = post(registry, 35, from[2], join("p2", SWARM, "LEECH", waiting()));
        assert_eq!(code(&answer), 0);
    }

    let mut swarms = limited(|limits| limits.swarms = 2);
    let mut per_peer = limited(|limits| limits.swarms_per_peer = 2);
    for registry in [&mut swarms, &mut per_peer] {
        for (swarm, expected) in [("1", 0), ("2", 0), ("3", 5), ("2", 0)] {
            let answer = post(
                registry,
                0,
                "192.0.2.1:1",
                join("p", swarm, "LEECH", waiting()),
            );
            assert_eq!(code(&answer), expected, "swarm {swarm}");
        }
    }

    let mut channels = limited(|limits| limits.channels = 2);
    let mut names_per_address = limited(|limits| limits.per_address = 2);
    for registry in [&mut channels, &mut names_per_address] {
        for (name, expected) in [("a", 0), ("b", 0), ("c", 5), ("b", 0)] {
            let answer = post(
                registry,
                0,
                "192.0.2.1:1",
                join("p", SWARM, "SEEDER", source(name)),
            );
            assert_eq!(code(&answer), expected, "channel {name}");
        }
        assert_eq!(registry.channels().count(), 2);
    }

    let mut replays = limited(|limits| limits.replays = 3);
    for _ in 0..10 {
        post(
            &mut replays,
            0,
            "192.0.2.1:1",
            join("p", SWARM, "LEECH", waiting()),
        );
        assert!(replays.replays.len() <= 3);
    }
}

#[test]
fn malformed_bodies_get_a_code_and_are_counted() {
    let mut registry = registry();
    let mut reply = |body: &str| {
        let reply = registry.handle_body(at(0), addr("192.0.2.1:1"), body.as_bytes());
        (
            reply.status,
            serde_json::from_str::<Value>(&reply.body).expect("JSON"),
        )
    };
    let (status, answer) = reply("<html>");
    assert_eq!(status, 400);
    assert!(
        answer["error"]
            .as_str()
            .is_some_and(|error| error.starts_with("not JSON: "))
    );
    let (status, answer) =
        reply(r#"{"PPSPTrackerProtocol":{"version":1,"transaction_id":"t","a":1,"a":2}}"#);
    let answer = &answer["PPSPTrackerProtocol"];
    assert_eq!((status, code(answer)), (200, 1));
    assert_eq!(answer["transaction_id"], "t");
    assert_eq!(answer["x_ext"]["reject"]["text"], "a: member twice");
    let (status, answer) = reply(r#"{"PPSPTrackerProtocol":{"version":9,"transaction_id":"t"}}"#);
    assert_eq!((status, code(&answer["PPSPTrackerProtocol"])), (200, 2));
    let stats = registry.stats();
    assert_eq!(stats.requests_total, 3);
    let counted: Vec<u64> = stats.rejects().map(|(_, count)| count).collect();
    assert_eq!(counted, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(ErrorCode::BadRequest.code(), 1);
}

#[test]
fn the_same_inputs_give_the_same_answers() {
    let run = |seed| {
        let mut registry = Registry::new(Config::default(), Seed::from_number(seed));
        let mut answers = Vec::new();
        for index in 0..40 {
            let from = format!("192.0.2.{index}:1");
            answers.push(post(
                &mut registry,
                index,
                &from,
                join(&format!("p{index}"), SWARM, "LEECH", attached(2, 9)),
            ));
        }
        answers
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}
