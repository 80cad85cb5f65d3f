//! Whom an asker is told about.

use super::*;

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

/// Somebody who wants to know every viewer asks six times a minute for an hour, under new names, from a network of his
/// own, by every kind of request that names others.
#[test]
fn s_44_an_answer_is_short_and_the_same_asker_sees_the_same_few() {
    const PEERS: u32 = 10_000;
    const ASKS_A_MINUTE: u64 = 6;
    let mut registry = registry();
    for index in 0..PEERS {
        let from = format!("20.{}.{}.1:1", index / 250, index % 250);
        let viewer = join(&format!("p{index}"), SWARM, "LEECH", attached(3, 8));
        post(&mut registry, 0, &from, viewer);
    }
    let crowd: Vec<PeerNo> = registry.peers.keys().copied().collect();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let mut listed: BTreeSet<String> = BTreeSet::new();
    for ask in 0..60 * ASKS_A_MINUTE {
        let seconds = 10 + ask / ASKS_A_MINUTE * 60 + ask % ASKS_A_MINUTE * 5;
        // The crowd goes on reporting: those whom nobody was sent to have nothing new to say.
        if ask % ASKS_A_MINUTE == 0 {
            for no in &crowd {
                registry.touch(at(seconds), *no);
            }
        }
        // The others say that nobody came.
        for id in std::mem::take(&mut listed) {
            let no = registry.by_id[id.as_str()].values().next();
            let from = registry.peers[no.expect("one of that name")].from;
            let still = report(&id, SWARM, attached(3, 8));
            post(&mut registry, seconds, &format!("{from}:1"), still);
            seen.insert(id);
        }
        let from = format!("192.0.2.{}:9", ask % 250);
        let me = format!("asker{ask}");
        let ext = match ask % 3 {
            0 => Value::Null,
            1 => waiting(),
            _ => json!({"v": 1, "role": "relay", "port": 7850, "slots_free": 4}),
        };
        let mut asks = vec![
            join(&me, SWARM, "LEECH", ext.clone()),
            find(&me, SWARM, ext),
        ];
        for asked in &mut asks {
            let want = json!({"peer_count": 1000});
            match asked["request_type"].as_str() {
                Some("FIND") => asked["find"]["peer_num"] = want,
                _ => asked["connect"]["peer_num"] = want,
            }
            let answer = post(&mut registry, seconds, &from, asked.take());
            let few = names(&answer);
            assert_eq!(few.len(), PEERS_PER_ANSWER_MAX, "{answer}");
            listed.extend(few.into_iter().map(str::to_owned));
            let parents = answer["x_ext"]["parents"].as_array();
            let parents = parents.into_iter().flatten();
            listed.extend(parents.filter_map(|parent| Some(parent["peer"].as_str()?.to_owned())));
        }
        assert_eq!(
            code(&post(&mut registry, seconds, &from, leave(&me, SWARM))),
            0
        );
    }
    seen.extend(listed);
    assert_eq!(registry.peers.len(), crowd.len(), "all are still there");
    assert!(
        seen.len() <= PEERS as usize / 10,
        "{} of {PEERS} seen",
        seen.len()
    );
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
