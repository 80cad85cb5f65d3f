//! Whom an asker is told about.

use std::time::Duration;

use super::*;
use crate::tracker::message::SwarmAction;

#[test]
fn free_slots_then_depth_then_role_then_slots() {
    let mut registry = registry();
    let peers = [
        (
            "full-1",
            json!({"role": "source", "port": 7850, "depth": 1, "slots_free": 0}),
        ),
        ("deep", attached(4, 60)),
        ("peer-few", attached(2, 3)),
        ("peer-many", attached(2, 9)),
        (
            "relay",
            json!({"role": "relay", "port": 7850, "depth": 2, "slots_free": 2}),
        ),
        (
            "liar",
            json!({"role": "peer", "port": 7850, "depth": 0, "slots_free": 1}),
        ),
        ("waiting", waiting()),
        (
            "no-port",
            json!({"role": "peer", "depth": 2, "slots_free": 9}),
        ),
        (
            "bad-port",
            json!({"role": "peer", "port": 53, "depth": 2, "slots_free": 9}),
        ),
    ];
    for (index, (peer, ext)) in peers.into_iter().enumerate() {
        post(
            &mut registry,
            0,
            &format!("192.0.2.{}:1", index + 1),
            join(peer, SWARM, "LEECH", ext),
        );
    }
    let relay = || json!({"role": "relay", "port": 7850, "depth": 2, "slots_free": 2});
    post(
        &mut registry,
        0,
        "192.0.2.5:1",
        report("relay", SWARM, relay()),
    );
    let order = ["relay", "peer-many", "peer-few", "liar", "deep", "full-1"];
    let answer = post(
        &mut registry,
        1,
        "192.0.2.99:1",
        join("me", SWARM, "LEECH", waiting()),
    );
    assert_eq!(names(&answer), order);
    // The relay promised one of two; twice promised it stands last among those who have none left to give.
    assert_eq!(
        names(&post(
            &mut registry,
            1,
            "192.0.2.99:1",
            find("me", SWARM, waiting())
        )),
        order
    );
    assert_eq!(
        names(&post(
            &mut registry,
            1,
            "192.0.2.99:1",
            find("me", SWARM, waiting())
        )),
        ["peer-many", "peer-few", "liar", "deep", "full-1", "relay"]
    );
    // Its next report sets it right.
    post(
        &mut registry,
        2,
        "192.0.2.5:1",
        report("relay", SWARM, relay()),
    );
    assert_eq!(
        names(&post(
            &mut registry,
            2,
            "192.0.2.99:1",
            find("me", SWARM, waiting())
        )),
        order
    );
}

#[test]
fn nobody_is_sent_to_itself_or_below_itself() {
    let mut registry = registry();
    post(
        &mut registry,
        0,
        "192.0.2.1:1",
        join("src", SWARM, "SEEDER", source("film")),
    );
    let child_of = |parent: &str, depth: u16| {
        let mut ext = attached(depth, 5);
        ext["parent"] = json!(parent);
        ext
    };
    for (index, (peer, parent)) in [("a", "src"), ("b", "a"), ("c", "b"), ("d", "src")]
        .into_iter()
        .enumerate()
    {
        let from = format!("192.0.2.{}:1", index + 2);
        let depth = 2 + u16::from(peer > "a") + u16::from(peer == "c") - u16::from(peer == "d");
        post(
            &mut registry,
            0,
            &from,
            join(peer, SWARM, "LEECH", child_of(parent, depth)),
        );
    }
    let seen = |registry: &mut Registry, from: &str, peer: &str, parent: &str| {
        let answer = post(registry, 1, from, find(peer, SWARM, child_of(parent, 2)));
        let mut names: Vec<String> = names(&answer).into_iter().map(str::to_owned).collect();
        names.sort();
        names.concat()
    };
    assert_eq!(seen(&mut registry, "192.0.2.2:1", "a", "src"), "dsrc");
    assert_eq!(seen(&mut registry, "192.0.2.3:1", "b", "a"), "adsrc");
    assert_eq!(seen(&mut registry, "192.0.2.5:1", "d", "src"), "abcsrc");
    // A ring of claims hides those in it, and costs a bounded walk.
    seen(&mut registry, "192.0.2.2:1", "a", "c");
    assert_eq!(seen(&mut registry, "192.0.2.5:1", "d", "src"), "src");
}

#[test]
fn s_43_only_the_address_of_the_connection_is_handed_out() {
    let mut registry = registry();
    let claims = json!({
        "request_type": "CONNECT", "peer_id": "liar", "x_ext": {"role": "peer", "depth": 2, "slots_free": 9, "ip": "198.51.100.66"},
        "connect": {
            "peer_addr": [
                {"ip_address": {"address_type": "ipv4", "address": "198.51.100.66"}, "port": 5353, "priority": 9, "type": "HOST"},
                {"ip_address": {"address_type": "ipv4", "address": "127.0.0.1"}, "port": 7852, "priority": 8, "type": "HOST"},
                {"ip_address": {"address_type": "ipv6", "address": "::ffff:203.0.113.9"}, "port": 7851, "priority": 1, "type": "HOST"}],
            "swarm_action": [{"swarm_id": SWARM, "action": "JOIN", "peer_mode": "LEECH"}]}
    });
    post(&mut registry, 0, "[::ffff:203.0.113.9]:50000", claims);
    let answer = post(
        &mut registry,
        0,
        "192.0.2.1:1",
        join("me", SWARM, "LEECH", waiting()),
    );
    assert_eq!(answer["x_ext"]["parents"][0]["addr"], "203.0.113.9:7851");
    let text = answer.to_string();
    assert!(
        !text.contains("198.51.100.66") && !text.contains("127.0.0.1"),
        "{text}"
    );
}

#[test]
fn inner_addresses_stay_inside() {
    let mut registry = registry();
    for (peer, from) in [
        ("host", "127.0.0.1:1"),
        ("site", "192.168.1.9:1"),
        ("world", "192.0.2.1:1"),
    ] {
        post(
            &mut registry,
            0,
            from,
            join(peer, SWARM, "LEECH", attached(2, 9)),
        );
    }
    for (from, mut expected) in [
        ("127.0.0.1:1", vec!["host", "site", "world"]),
        ("10.0.0.3:1", vec!["site", "world"]),
        ("198.51.100.1:1", vec!["world"]),
    ] {
        let answer = post(
            &mut registry,
            0,
            from,
            join("me", SWARM, "LEECH", waiting()),
        );
        let mut seen = names(&answer);
        seen.sort_unstable();
        expected.sort_unstable();
        assert_eq!(seen, expected, "{from}");
    }
}

#[test]
fn the_same_identifier_elsewhere_is_somebody_else() {
    let mut registry = registry();
    post(
        &mut registry,
        0,
        "192.0.2.1:1",
        join("p", SWARM, "LEECH", attached(2, 9)),
    );
    assert_eq!(
        code(&post(&mut registry, 1, "192.0.2.66:1", leave("p", SWARM))),
        3
    );
    assert_eq!(
        code(&post(
            &mut registry,
            1,
            "192.0.2.66:1",
            report("p", SWARM, attached(9, 0))
        )),
        3
    );
    let answer = post(
        &mut registry,
        1,
        "192.0.2.9:1",
        join("me", SWARM, "LEECH", waiting()),
    );
    assert_eq!(answer["x_ext"]["parents"][0]["slots_free"], 9);
}

#[test]
fn s_44_an_answer_is_short_and_the_same_asker_sees_the_same_few() {
    let mut registry = registry();
    for index in 0..2000_u32 {
        let from = format!("20.{}.{}.1:1", index / 250, index % 250);
        post(
            &mut registry,
            0,
            &from,
            join(&format!("p{index}"), SWARM, "LEECH", attached(3, 8)),
        );
    }
    let mut seen = BTreeSet::new();
    for minute in 0..60 {
        let now = at(10) + Duration::from_secs(minute * 60);
        // The crowd goes on reporting; the asker asks every minute for an hour.
        let all: Vec<PeerNo> = registry.peers.keys().copied().collect();
        for no in all {
            registry.touch(now, no);
        }
        let request = Request::from_json(
            json!({"PPSPTrackerProtocol": {"version": 1, "transaction_id": format!("m{minute}"), "request_type": "CONNECT",
                "peer_id": format!("asker{minute}"), "peer_num": {"peer_count": 1000},
                "connect": {"swarm_action": {"swarm_id": SWARM, "action": "JOIN"}}}})
            .to_string()
            .as_bytes(),
        )
        .expect("well-formed");
        let response = registry.handle(now, addr("192.0.2.1:9"), &request);
        let group = response.swarm_result[0]
            .peer_group
            .as_deref()
            .expect("a list");
        assert_eq!(group.len(), PEERS_PER_ANSWER_MAX);
        seen.extend(group.iter().map(|info| info.peer_id.clone()));
        registry.handle(
            now,
            addr("192.0.2.1:9"),
            &Request {
                transaction_id: "bye".to_owned() + &minute.to_string(),
                body: Body::Connect(Connect {
                    swarm_action: vec![SwarmAction {
                        swarm_id: SWARM.to_owned(),
                        action: Action::Leave,
                        peer_mode: PeerMode::Leech,
                    }],
                    ..Connect::default()
                }),
                ..request
            },
        );
    }
    assert!(seen.len() <= 200, "{} of 2000 seen", seen.len());
}

#[test]
fn equals_are_spread_over_askers() {
    let mut registry = registry();
    for index in 0..20 {
        post(
            &mut registry,
            0,
            &format!("192.0.2.{index}:1"),
            join(&format!("p{index}"), SWARM, "LEECH", attached(2, 200)),
        );
    }
    let firsts: BTreeSet<String> = (0..20)
        .map(|index| {
            let from = format!("198.51.{index}.1:1");
            let answer = post(
                &mut registry,
                1,
                &from,
                join(&format!("a{index}"), SWARM, "LEECH", waiting()),
            );
            names(&answer)[0].to_owned()
        })
        .collect();
    assert!(firsts.len() >= 8, "20 askers were sent to only {firsts:?}");
}
