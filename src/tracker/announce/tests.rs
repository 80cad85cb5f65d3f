//! Announcers talk to real registries, and to trackers that fail in every way.

use super::*;
use crate::rng::Seed;
use crate::tracker::message::Deal;
use crate::tracker::registry::{Config, Registry};

const SWARM: &str = "0f974d96a22d224bc01adb915091477d44ccd91c9a41a11430010117d52c59240e";

fn at(millis: u64) -> Instant {
    Instant::from_micros(millis * 1000)
}

fn rng(number: u64) -> Rng {
    Rng::new(Seed::from_number(number))
}

fn identity(peer: &str, role: Role) -> Identity {
    Identity {
        peer_id: peer.to_owned(),
        role,
        channel: Some("film".to_owned()),
        swarm_id: (role == Role::Source).then(|| SWARM.to_owned()),
        title: Some("A film".to_owned()),
        description: (role == Role::Source).then(|| Bytes::from_static(b"signed")),
        port: 7850,
        addresses: Vec::new(),
        deal: Deal::default(),
        service: None,
    }
}

fn registry() -> Registry {
    Registry::new(Config::default(), Seed::from_number(9))
}

fn source_facts() -> Facts {
    Facts {
        slots_free: Some(4),
        ..Facts::default()
    }
}

/// Runs every announcer against one registry until `until`; each has an address of its own.
fn run(registry: &mut Registry, announcers: &mut [&mut Announcer], from: u64, until: u64) {
    for millis in (from..until).step_by(100) {
        let now = at(millis);
        for (index, announcer) in announcers.iter_mut().enumerate() {
            let from = format!("192.0.2.{}:9", index + 1)
                .parse()
                .expect("an address");
            announcer.handle_timeout(now);
            while let Some((tracker, body)) = announcer.poll_request(now) {
                let reply = registry.handle_body(now, from, body.as_bytes());
                announcer.handle_response(now, tracker, Ok(reply.body));
            }
        }
    }
}

fn events(announcer: &mut Announcer) -> Vec<Event> {
    std::iter::from_fn(|| announcer.poll_event()).collect()
}

/// Takes the one request that is due and answers it with an error of the shell.
fn fail(announcer: &mut Announcer, now: Instant) -> String {
    let (tracker, body) = announcer.poll_request(now).expect("a request is due");
    announcer.handle_response(now, tracker, Err("connection refused".to_owned()));
    body
}

#[test]
fn a_viewer_before_the_source_gets_its_parents_when_the_source_comes() {
    let mut registry = registry();
    let mut viewer = Announcer::new(at(0), identity("viewer", Role::Peer), 1, rng(1));
    run(&mut registry, &mut [&mut viewer], 0, 10_000);
    assert_eq!(events(&mut viewer), [Event::NoSuchChannel { tracker: 0 }]);
    assert!(registry.stats().requests_total < 10);

    let mut source = Announcer::new(at(10_000), identity("source", Role::Source), 1, rng(2));
    source.set_facts(at(10_000), source_facts());
    run(
        &mut registry,
        &mut [&mut viewer, &mut source],
        10_000,
        13_000,
    );
    let told = events(&mut viewer);
    assert!(
        matches!(&told[0], Event::Channel(channel) if channel.swarm_id == SWARM && channel.description.as_deref() == Some(b"signed")),
        "{told:?}"
    );
    let Event::Parents(parents) = &told[1] else {
        panic!("{told:?}")
    };
    assert_eq!(parents[0].peer, "source");
    assert_eq!(parents[0].addr.to_string(), "192.0.2.2:7850");
    assert_eq!(
        (parents[0].depth, parents[0].role),
        (Some(1), Some(Role::Source))
    );
    assert_eq!(viewer.swarm_id(), Some(SWARM));
    assert!(matches!(events(&mut source)[..], [Event::Channel(_)] | []));
}

#[test]
fn who_has_just_come_says_at_once_that_it_has_the_stream() {
    let mut registry = registry();
    let mut source = Announcer::new(at(0), identity("source", Role::Source), 1, rng(2));
    source.set_facts(at(0), source_facts());
    let mut relay = Announcer::new(at(0), identity("relay", Role::Relay), 1, rng(1));
    run(&mut registry, &mut [&mut source, &mut relay], 0, 100);
    let facts = Facts {
        depth: Some(2),
        slots_free: Some(3),
        ..Facts::default()
    };
    relay.set_facts(at(100), facts.clone());
    let mut viewer = Announcer::new(at(200), identity("viewer", Role::Peer), 1, rng(3));
    run(
        &mut registry,
        &mut [&mut source, &mut relay, &mut viewer],
        100,
        300,
    );
    let named = events(&mut viewer)
        .into_iter()
        .find_map(|event| match event {
            Event::Parents(parents) => Some(parents),
            _ => None,
        });
    assert_eq!(named.expect("a list").len(), 2, "the source and the relay");
    // Whoever gets it and loses it all the time says so once a second.
    let reports = registry.stats().reports_total;
    for step in 3..11 {
        let depth = (step % 2 == 0).then_some(2);
        let now = step * 100;
        relay.set_facts(
            at(now),
            Facts {
                depth,
                ..facts.clone()
            },
        );
        run(
            &mut registry,
            &mut [&mut source, &mut relay],
            now,
            now + 100,
        );
    }
    assert_eq!(registry.stats().reports_total, reports);
}

#[test]
fn a_ticket_that_is_shown_is_asked_about_once_a_second() {
    let mut registry = registry();
    let mut source = Announcer::new(at(0), identity("source", Role::Source), 1, rng(2));
    source.set_facts(at(0), source_facts());
    run(&mut registry, &mut [&mut source], 0, 2000);
    let before = registry.stats().reports_total;
    for now in (2000..4000).step_by(100) {
        source.check_tickets(at(now));
        run(&mut registry, &mut [&mut source], now, now + 100);
    }
    let asked = registry.stats().reports_total - before;
    assert!((2..=3).contains(&asked), "{asked}");
}

#[test]
fn reports_keep_the_registration_and_finds_go_on_while_wanted() {
    let mut registry = registry();
    let mut source = Announcer::new(at(0), identity("source", Role::Source), 1, rng(2));
    source.set_facts(at(0), source_facts());
    let mut viewer = Announcer::new(at(0), identity("viewer", Role::Peer), 1, rng(1));
    run(&mut registry, &mut [&mut source, &mut viewer], 0, 10_000);
    let wanting = registry.stats();
    assert!((3..=6).contains(&wanting.finds_total), "{wanting:?}");

    let facts = Facts {
        depth: Some(2),
        parent: Some("source".to_owned()),
        slots_free: Some(3),
        ..Facts::default()
    };
    viewer.want_parents(at(10_000), false);
    viewer.set_facts(at(10_000), facts);
    run(
        &mut registry,
        &mut [&mut source, &mut viewer],
        10_000,
        130_000,
    );
    let stats = registry.stats();
    assert_eq!(
        (stats.peers, stats.expired_total, stats.connects_total),
        (2, 0, 2)
    );
    let finds = stats.finds_total - wanting.finds_total;
    assert!(
        (1..=2).contains(&finds),
        "the list is renewed once a minute: {finds}"
    );
    // Ten seconds apart, give or take a tenth, 13 in 130 s, and the one that was sent soon; of the source two apart, 65.
    assert!((70..=86).contains(&stats.reports_total), "{stats:?}");
    // The source never asks for parents.
    assert!(
        !events(&mut source)
            .iter()
            .any(|event| matches!(event, Event::Parents(_)))
    );

    // A lost parent is told at once, and others are asked for at once.
    events(&mut viewer);
    viewer.want_parents(at(130_000), true);
    run(
        &mut registry,
        &mut [&mut source, &mut viewer],
        130_000,
        130_100,
    );
    assert!(matches!(events(&mut viewer)[..], [Event::Parents(ref parents)] if parents.len() == 1));
}

#[test]
fn news_that_come_while_a_request_is_out_are_told_after_it() {
    let mut registry = registry();
    let from = "192.0.2.1:9".parse().expect("an address");
    let mut source = Announcer::new(at(0), identity("source", Role::Source), 1, rng(2));
    let (tracker, body) = source.poll_request(at(0)).expect("CONNECT");
    source.set_facts(at(5), source_facts());
    let reply = registry.handle_body(at(10), from, body.as_bytes());
    source.handle_response(at(10), tracker, Ok(reply.body));
    assert_eq!(source.poll_timeout(), Some(at(1000)));
    let (_, body) = source.poll_request(at(1000)).expect("STAT_REPORT");
    assert!(
        body.contains("STAT_REPORT") && body.contains("\"slots_free\":4"),
        "{body}"
    );
}

#[test]
fn a_tracker_that_is_away_is_asked_again_with_the_same_request_and_growing_pauses() {
    let mut viewer = Announcer::new(at(0), identity("viewer", Role::Peer), 1, rng(1));
    let first = fail(&mut viewer, at(0));
    assert_eq!(
        events(&mut viewer),
        [Event::Unreachable {
            tracker: 0,
            why: "connection refused".to_owned()
        }]
    );
    let mut now = at(0);
    // 1, 2, 4, 8 s with a fifth more or less; never the long pause while it waits for the stream.
    for seconds in [1.0, 2.0, 4.0, 8.0, 8.0, 8.0] {
        let next = viewer.poll_timeout().expect("a retry");
        let pause = next.since(now).as_secs_f64();
        assert!(
            (seconds * 0.8..=seconds * 1.2).contains(&pause),
            "{pause} after {seconds}"
        );
        assert_eq!(
            viewer.poll_request(Instant::from_micros(next.as_micros() - 1)),
            None
        );
        assert_eq!(fail(&mut viewer, next), first);
        now = next;
    }
    // Told once only.
    assert_eq!(events(&mut viewer), []);
    // With the stream there is no hurry.
    viewer.want_parents(now, false);
    let next = viewer.poll_timeout().expect("a retry");
    fail(&mut viewer, next);
    let pause = viewer
        .poll_timeout()
        .expect("a retry")
        .since(next)
        .as_secs();
    assert!((48..=72).contains(&pause), "{pause}");
    // Who needs parents again does not wait for the end of the long pause.
    viewer.want_parents(next, true);
    assert_eq!(viewer.poll_timeout(), Some(next + Duration::from_secs(1)));
    // The tracker comes back.
    let now = next + Duration::from_secs(1);
    let (_, body) = viewer.poll_request(now).expect("the same request");
    assert_eq!(body, first);
    let reply = registry().handle_body(
        now,
        "192.0.2.1:9".parse().expect("an address"),
        body.as_bytes(),
    );
    viewer.handle_response(now, 0, Ok(reply.body));
    assert_eq!(
        events(&mut viewer),
        [
            Event::Recovered { tracker: 0 },
            Event::NoSuchChannel { tracker: 0 }
        ]
    );
}

#[test]
fn a_restarted_tracker_is_joined_again_with_a_new_transaction() {
    let mut before = registry();
    let mut source = Announcer::new(at(0), identity("source", Role::Source), 1, rng(2));
    source.set_facts(at(0), source_facts());
    run(&mut before, &mut [&mut source], 0, 5000);
    let mut after = registry();
    run(&mut after, &mut [&mut source], 5000, 20_000);
    let stats = after.stats();
    assert_eq!(
        (stats.peers, stats.channels, stats.connects_total),
        (1, 1, 1)
    );
    assert!(
        !events(&mut source)
            .iter()
            .any(|event| matches!(event, Event::Unreachable { .. }))
    );
}

#[test]
fn a_channel_is_known_again_soon_after_its_tracker_began_anew() {
    for away in [0, 700, 5000, 120_000] {
        let (down, back) = (31_300, 31_300 + away);
        let mut source = Announcer::new(at(0), identity("source", Role::Source), 1, rng(2));
        source.set_facts(at(0), source_facts());
        run(&mut registry(), &mut [&mut source], 0, down);
        for millis in (down..back).step_by(100) {
            source.handle_timeout(at(millis));
            while let Some((tracker, _)) = source.poll_request(at(millis)) {
                let refused = Err("connection refused".to_owned());
                source.handle_response(at(millis), tracker, refused);
            }
        }
        // A newcomer with --timeout 5s does not wait in vain.
        let mut viewer = Announcer::new(at(back), identity("viewer", Role::Peer), 1, rng(1));
        let mut all = [&mut viewer, &mut source];
        run(&mut registry(), &mut all, back, back + 5000);
        let has_parents = |event: &Event| matches!(event, Event::Parents(all) if !all.is_empty());
        assert!(events(&mut viewer).iter().any(has_parents), "{away} ms");
    }
}

#[test]
fn answers_of_several_trackers_are_merged_and_one_that_is_away_does_not_matter() {
    let mut registries = [registry(), registry()];
    let mut sources: Vec<Announcer> = ["one", "two"]
        .into_iter()
        .map(|peer| {
            let mut source = Announcer::new(at(0), identity(peer, Role::Source), 1, rng(3));
            source.set_facts(at(0), source_facts());
            source
        })
        .collect();
    for (index, (registry, source)) in registries.iter_mut().zip(&mut sources).enumerate() {
        let (_, body) = source.poll_request(at(0)).expect("CONNECT");
        let from = format!("192.0.2.{}:9", index + 1)
            .parse()
            .expect("an address");
        registry.handle_body(at(0), from, body.as_bytes());
    }
    let mut viewer = Announcer::new(at(0), identity("viewer", Role::Peer), 3, rng(1));
    while let Some((tracker, body)) = viewer.poll_request(at(0)) {
        let from = "198.51.100.1:9".parse().expect("an address");
        let answer = match registries.get_mut(tracker) {
            Some(registry) => Ok(registry.handle_body(at(0), from, body.as_bytes()).body),
            None => Err("timed out".to_owned()),
        };
        viewer.handle_response(at(0), tracker, answer);
    }
    let told = events(&mut viewer);
    let merged = told.iter().rev().find_map(|event| match event {
        Event::Parents(parents) => Some(
            parents
                .iter()
                .map(|parent| parent.peer.as_str())
                .collect::<Vec<_>>(),
        ),
        _ => None,
    });
    assert_eq!(merged, Some(vec!["one", "two"]));
    assert!(told.contains(&Event::Unreachable {
        tracker: 2,
        why: "timed out".to_owned()
    }));
}

#[test]
fn a_taken_name_is_told_once_and_asked_for_again() {
    let mut registry = registry();
    let mut first = Announcer::new(at(0), identity("first", Role::Source), 1, rng(1));
    let mut other = identity("other", Role::Source);
    other.swarm_id = Some("ffff".to_owned());
    let mut other = Announcer::new(at(0), other, 1, rng(2));
    run(&mut registry, &mut [&mut first, &mut other], 0, 30_000);
    let told = events(&mut other);
    assert!(
        matches!(&told[..], [Event::Refused { tracker: 0, code: RejectCode::NameTaken, why }] if why.contains("film")),
        "{told:?}"
    );
    assert!(registry.stats().rejects_total[RejectCode::NameTaken.index()] >= 2);
}

#[test]
fn goodbye_is_said_once_to_those_who_know_us() {
    let mut registry = registry();
    let mut source = Announcer::new(at(0), identity("source", Role::Source), 2, rng(1));
    let from = "192.0.2.1:9".parse().expect("an address");
    while let Some((tracker, body)) = source.poll_request(at(0)) {
        let answer = match tracker {
            0 => Ok(registry.handle_body(at(0), from, body.as_bytes()).body),
            _ => Err("refused".to_owned()),
        };
        source.handle_response(at(0), tracker, answer);
    }
    assert!(!source.is_gone());
    source.leave();
    let (tracker, body) = source.poll_request(at(100)).expect("LEAVE");
    assert!(tracker == 0 && body.contains("LEAVE"));
    assert!(!source.is_gone());
    source.handle_response(
        at(100),
        0,
        Ok(registry.handle_body(at(100), from, body.as_bytes()).body),
    );
    assert!(source.is_gone());
    assert_eq!(
        (source.poll_request(at(200)), source.poll_timeout()),
        (None, None)
    );
    assert_eq!(registry.stats().peers, 0);
}

#[test]
fn goodbye_does_not_wait_for_what_is_under_way() {
    let mut registry = registry();
    let from = "192.0.2.1:9".parse().expect("an address");
    let mut peer = Announcer::new(at(0), identity("source", Role::Source), 1, rng(1));
    let answer = |registry: &mut Registry, body: &str| {
        Ok(registry.handle_body(at(0), from, body.as_bytes()).body)
    };
    // Told of us, and killed before the answer is here.
    let (_, join) = peer.poll_request(at(0)).expect("JOIN");
    let joined = answer(&mut registry, &join);
    peer.leave();
    let (_, leave) = peer.poll_request(at(0)).expect("LEAVE");
    assert!(leave.contains("LEAVE"), "{leave}");
    peer.handle_response(at(0), 0, joined);
    assert!(!peer.is_gone(), "that answered something else");
    let left = answer(&mut registry, &leave);
    peer.handle_response(at(0), 0, left);
    assert!(peer.is_gone());
    assert_eq!(registry.stats().peers, 0);
}

#[test]
fn a_tracker_without_the_extension_is_spoken_to_without_it() {
    let refuse = r#"{"PPSPTrackerProtocol":{"version":1,"response_type":1,"error_code":1,"transaction_id":"ID"}}"#;
    let accept = r#"{"PPSPTrackerProtocol":{"version":1,"response_type":0,"error_code":0,"transaction_id":"ID",
        "swarm_result":{"swarm_id":"SWARM","result":0,"peer_group":{"peer_info":{"peer_id":"a","peer_addr":
        {"ip_address":{"address_type":"ipv4","address":"192.0.2.7"},"port":6778,"priority":1,"type":"HOST"}}}}}}"#;
    let answer = |template: &str, body: &str| {
        let request = Request::from_json(body.as_bytes()).expect("ours");
        Ok(template
            .replace("ID", &request.transaction_id)
            .replace("SWARM", SWARM))
    };
    let mut known = identity("viewer", Role::Peer);
    known.swarm_id = Some(SWARM.to_owned());
    let mut viewer = Announcer::new(at(0), known, 1, rng(1));
    let (_, body) = viewer.poll_request(at(0)).expect("CONNECT");
    viewer.handle_response(at(0), 0, answer(refuse, &body));
    let (_, plain) = viewer.poll_request(at(0)).expect("CONNECT again");
    assert!(body.contains("x_ext") && !plain.contains("x_ext"));
    viewer.handle_response(at(0), 0, answer(accept, &plain));
    let told = events(&mut viewer);
    assert!(
        matches!(&told[..], [Event::Parents(parents)] if parents[0].addr.to_string() == "192.0.2.7:6778"),
        "{told:?}"
    );

    // By name alone such a tracker is of no use, and it is said so.
    let mut viewer = Announcer::new(at(0), identity("viewer", Role::Peer), 1, rng(1));
    let (_, body) = viewer.poll_request(at(0)).expect("CONNECT");
    viewer.handle_response(at(0), 0, answer(refuse, &body));
    assert_eq!(viewer.poll_request(at(0)), None);
    assert!(
        matches!(&events(&mut viewer)[..], [Event::Refused { why, .. }] if why.contains("channel id"))
    );
}

#[test]
fn nonsense_for_an_answer_is_an_outage_and_useless_addresses_are_dropped() {
    for (answer, why) in [
        ("<html>", "not JSON: expected value at line 1 column 1"),
        (r#"{"error":"busy"}"#, "busy"),
        (
            r#"{"PPSPTrackerProtocol":{"version":1,"error_code":0,"transaction_id":"other"}}"#,
            "answers another transaction",
        ),
    ] {
        let mut viewer = Announcer::new(at(0), identity("viewer", Role::Peer), 1, rng(1));
        viewer.poll_request(at(0)).expect("CONNECT");
        viewer.handle_response(at(0), 0, Ok(answer.to_owned()));
        assert_eq!(
            events(&mut viewer),
            [Event::Unreachable {
                tracker: 0,
                why: why.to_owned()
            }]
        );
    }
    let mut viewer = Announcer::new(at(0), identity("viewer", Role::Peer), 1, rng(1));
    let (_, body) = viewer.poll_request(at(0)).expect("CONNECT");
    let id = Request::from_json(body.as_bytes())
        .expect("ours")
        .transaction_id;
    let many: Vec<String> = (0..200)
        .map(|index| {
            format!(
                r#"{{"peer":"p{index}","addr":"192.0.2.1:{}"}}"#,
                2000 + index
            )
        })
        .chain(
            ["224.0.0.1:7850", "0.0.0.0:7850", "192.0.2.1:0"]
                .map(|addr| format!(r#"{{"peer":"x","addr":"{addr}"}}"#)),
        )
        .collect();
    let answer = format!(
        r#"{{"PPSPTrackerProtocol":{{"version":1,"error_code":0,"transaction_id":"{id}","swarm_result":
        [{{"swarm_id":"{SWARM}","result":0,"peer_group":{{"peer_info":[]}}}}],"x_ext":{{"parents":[{{"peer":"viewer","addr":"192.0.2.9:7850"}},
        {{"peer":"m","addr":"224.0.0.1:7850"}},{{"peer":"z","addr":"192.0.2.1:0"}},{}]}}}}}}"#,
        many.join(",")
    );
    viewer.handle_response(at(0), 0, Ok(answer));
    let told = events(&mut viewer);
    let Some(Event::Parents(parents)) = told.last() else {
        panic!("{told:?}")
    };
    assert_eq!(parents.len(), PARENTS_MAX);
    assert!(parents.iter().all(|parent| parent.peer.starts_with('p')));
}

#[test]
fn a_request_that_the_shell_lost_is_sent_again() {
    let mut viewer = Announcer::new(at(0), identity("viewer", Role::Peer), 99, rng(1));
    assert_eq!(viewer.trackers.len(), TRACKERS_MAX);
    let (_, body) = viewer.poll_request(at(0)).expect("CONNECT");
    viewer.handle_timeout(at(29_999));
    assert_eq!(events(&mut viewer), []);
    viewer.handle_timeout(at(30_000));
    assert!(
        matches!(&events(&mut viewer)[..], [Event::Unreachable { tracker: 0, why }] if why == "no answer")
    );
    let again = (31_000..32_000).find_map(|millis| {
        viewer
            .poll_request(at(millis))
            .filter(|(tracker, _)| *tracker == 0)
    });
    assert_eq!(again, Some((0, body)));
}

#[test]
fn who_is_refused_for_want_of_room_asks_again_with_a_new_request() {
    let psp = crate::tracker::placement::psp::Psp::new(Default::default());
    let mut registry = registry().with_placement(Box::new(psp));
    let mut source = Announcer::new(at(0), identity("source", Role::Source), 1, rng(2));
    source.set_facts(at(0), source_facts());
    run(&mut registry, &mut [&mut source], 0, 1000);
    let mut viewer = Announcer::new(at(1000), identity("viewer", Role::Peer), 1, rng(1));
    run(&mut registry, &mut [&mut source, &mut viewer], 1000, 9000);
    let refused = Event::Refused {
        tracker: 0,
        code: RejectCode::Full,
        why: "there is no cluster, and nothing free elsewhere".to_owned(),
    };
    assert_eq!(events(&mut viewer), [refused]);
    assert_eq!(registry.stats().rejects_total[RejectCode::Full.index()], 1);
    // After the ten seconds that the tracker asked for it tries again; it is told once.
    run(&mut registry, &mut [&mut source, &mut viewer], 9000, 14_000);
    assert_eq!(registry.stats().rejects_total[RejectCode::Full.index()], 2);
    assert_eq!(events(&mut viewer), []);

    // A server comes, and the viewer is let in.
    let mut server = Announcer::new(
        at(14_000),
        Identity {
            service: Some(Service {
                cluster: "auto".to_owned(),
                capacity_kbps: 100_000,
            }),
            ..identity("server", Role::Relay)
        },
        1,
        rng(3),
    );
    server.set_facts(
        at(14_000),
        Facts {
            depth: Some(2),
            parent: Some("source".to_owned()),
            ..source_facts()
        },
    );
    run(
        &mut registry,
        &mut [&mut source, &mut viewer, &mut server],
        14_000,
        30_000,
    );
    let told = events(&mut server);
    assert!(
        told.contains(&Event::Cluster("main".to_owned())),
        "{told:?}"
    );
    let told = events(&mut viewer);
    let is_served = |event: &Event| matches!(event, Event::Parents(parents) if parents.iter().any(|parent| parent.peer == "server"));
    assert!(told.iter().any(is_served), "{told:?}");
}

#[test]
fn a_member_below_another_parent_is_told_where_it_belongs() {
    let tree = crate::tracker::placement::balanced::Balanced::new(Default::default());
    let mut registry = registry().with_placement(Box::new(tree));
    let below = |parent: &str| Facts {
        depth: Some(2),
        parent: Some(parent.to_owned()),
        ..source_facts()
    };
    let mut source = Announcer::new(at(0), identity("source", Role::Source), 1, rng(9));
    source.set_facts(at(0), source_facts());
    let mut clones: Vec<Announcer> = ["a", "b", "c"]
        .iter()
        .zip(1..)
        .map(|(name, seed)| {
            let mut clone = Announcer::new(at(0), identity(name, Role::Peer), 1, rng(seed));
            clone.set_facts(at(0), below("source"));
            clone.want_parents(at(0), false);
            clone
        })
        .collect();
    let [a, b, c] = &mut clones[..] else {
        unreachable!("three were made")
    };
    run(&mut registry, &mut [&mut source, a, b, c], 0, 4000);
    let moves = |events: Vec<Event>| -> Vec<String> {
        let to = events.into_iter().filter_map(|event| match event {
            Event::MoveTo(parent) => Some(parent.peer),
            _ => None,
        });
        to.collect()
    };
    assert_eq!(moves(events(a)), [""; 0]);
    let told = moves(events(c));
    assert!(
        told.len() >= 2 && told.iter().all(|to| to == "a"),
        "{told:?}"
    );
    c.set_facts(at(4000), below("a"));
    run(&mut registry, &mut [&mut source, a, b, c], 4000, 8000);
    assert_eq!(moves(events(c)), [""; 0]);
}

/// The answer of a tracker to the request that an announcer has due; its list as the extension tells it.
fn answer(announcer: &mut Announcer, now: Instant, tracker: usize, list: bool, parents: &str) {
    let due = std::iter::from_fn(|| announcer.poll_request(now)).collect::<Vec<_>>();
    let (_, body) = due
        .iter()
        .find(|(index, _)| *index == tracker)
        .expect("due");
    let request = Request::from_json(body.as_bytes()).expect("ours");
    let group = if list {
        r#","peer_group":{"peer_info":[]}"#
    } else {
        ""
    };
    let body = format!(
        r#"{{"PPSPTrackerProtocol":{{"version":1,"error_code":0,"transaction_id":"{}","swarm_result":
        [{{"swarm_id":"{SWARM}","result":0{group}}}],"x_p2ps_report_interval":10,"x_ext":{{"parents":[{parents}]}}}}}}"#,
        request.transaction_id
    );
    announcer.handle_response(now, tracker, Ok(body));
}

fn parent(peer: &str, mask: u32) -> String {
    let at = peer.bytes().map(u32::from).sum::<u32>() % 250;
    format!(r#"{{"peer":"{peer}","addr":"192.0.2.{at}:7850","mask":{mask}}}"#)
}

/// The last list that was told, as `peer:mask`.
fn told(announcer: &mut Announcer) -> Option<String> {
    let lists = events(announcer)
        .into_iter()
        .filter_map(|event| match event {
            Event::Parents(parents) => Some(parents),
            _ => None,
        });
    let text = |parent: Parent| match parent.mask {
        Some(mask) => format!("{}:{mask:04b}", parent.peer),
        None => parent.peer,
    };
    let list = lists.last()?;
    Some(list.into_iter().map(text).collect::<Vec<_>>().join(" "))
}

#[test]
fn masks_are_told_as_a_tracker_gives_them_or_not_at_all() {
    let [a, b, s] = [("a", 13), ("b", 2), ("s", 0)].map(|(peer, mask)| parent(peer, mask));
    for (parents, expected) in [
        (format!("{a},{b},{s}"), "a:1101 b:0010 s"),
        (format!("{s},{a},{b}"), "a:1101 b:0010 s"),
        (s.clone(), "s"),
        // Twice the same substream; one of two that cannot be asked.
        (format!("{a},{},{s}", parent("b", 3)), "a b s"),
        (format!("{},{b},{s}", parent("viewer", 13)), "b s"),
        (
            format!(r#"{a},{{"peer":"b","addr":"224.0.0.1:7850","mask":2}},{s}"#),
            "a s",
        ),
    ] {
        let mut viewer = Announcer::new(at(0), identity("viewer", Role::Peer), 1, rng(1));
        answer(&mut viewer, at(0), 0, true, &parents);
        assert_eq!(told(&mut viewer).as_deref(), Some(expected), "{parents}");
    }
}

#[test]
fn other_parents_come_with_the_answer_to_a_report() {
    let mut viewer = Announcer::new(at(0), identity("viewer", Role::Peer), 1, rng(1));
    answer(&mut viewer, at(0), 0, true, &parent("a", 0));
    assert_eq!(told(&mut viewer).as_deref(), Some("a"));
    viewer.want_parents(at(0), false);
    let whole = Facts {
        depth: Some(2),
        parent: Some("a".to_owned()),
        ..Facts::default()
    };
    viewer.set_facts(at(2000), whole.clone());
    answer(&mut viewer, at(2000), 0, false, "");
    assert_eq!(told(&mut viewer), None, "it is where it should be");
    let several = [parent("b", 7), parent("a", 8)].join(",");
    for now in [14_000, 26_000] {
        answer(&mut viewer, at(now), 0, false, &several);
        assert_eq!(told(&mut viewer).as_deref(), Some("b:0111 a:1000"));
    }
    // Nobody waits for the list to be renewed any longer for it.
    assert!(viewer.trackers[0].find_at <= at(60_000));

    // Another set of parents is said soon, and as it is.
    let facts = Facts {
        parents: vec![("b".to_owned(), 7), ("a".to_owned(), 8)],
        ..whole
    };
    viewer.set_facts(at(27_000), facts.clone());
    let (_, body) = viewer.poll_request(at(27_000)).expect("news");
    let ext = Request::from_json(body.as_bytes()).expect("ours").ext;
    let feeds = ext.map(|ext| ext.parents).unwrap_or_default();
    let feeds: Vec<(&str, u32)> = feeds.iter().map(|feed| (&*feed.peer, feed.mask)).collect();
    assert_eq!(feeds, [("b", 7), ("a", 8)]);
    viewer.handle_response(at(27_000), 0, Err("lost".to_owned()));
    viewer.set_facts(at(27_500), facts);
    assert!(!viewer.trackers[0].has_news, "the same again");
}

#[test]
fn of_two_trackers_one_shares_out() {
    let mut viewer = Announcer::new(at(0), identity("viewer", Role::Peer), 2, rng(1));
    let [first, second] = [0, 1].map(|_| viewer.poll_request(at(0)).expect("CONNECT").1);
    let mut reply = |tracker: usize, body: &str, parents: &[String]| {
        let id = Request::from_json(body.as_bytes()).expect("ours");
        let body = format!(
            r#"{{"PPSPTrackerProtocol":{{"version":1,"error_code":0,"transaction_id":"{}","swarm_result":
            [{{"swarm_id":"{SWARM}","result":0,"peer_group":{{"peer_info":[]}}}}],"x_ext":{{"parents":[{}]}}}}}}"#,
            id.transaction_id,
            parents.join(",")
        );
        viewer.handle_response(at(0), tracker, Ok(body));
        told(&mut viewer)
    };
    let said = reply(1, &second, &[parent("c", 3), parent("d", 12)]);
    assert_eq!(said.as_deref(), Some("c:0011 d:1100"));
    let said = reply(0, &first, &[parent("a", 1), parent("b", 14)]);
    assert_eq!(said.as_deref(), Some("a:0001 b:1110 c d"));
    let again = viewer.poll_request(at(2000));
    let again = again.into_iter().chain(viewer.poll_request(at(2000)));
    let (_, body) = again
        .into_iter()
        .find(|(index, _)| *index == 1)
        .expect("FIND");
    let id = Request::from_json(body.as_bytes()).expect("ours");
    let body = format!(
        r#"{{"PPSPTrackerProtocol":{{"version":1,"error_code":0,"transaction_id":"{}","swarm_result":
        [{{"swarm_id":"{SWARM}","result":0,"peer_group":{{"peer_info":[]}}}}],"x_ext":{{"parents":[{}]}}}}}}"#,
        id.transaction_id,
        parent("c", 3)
    );
    viewer.handle_response(at(2000), 1, Ok(body));
    assert_eq!(
        told(&mut viewer).as_deref(),
        Some("a c b"),
        "a list, and no shares"
    );
}

#[test]
fn who_is_to_share_is_told_until_it_says_that_it_does() {
    let psp = crate::tracker::placement::psp::Psp::new(Default::default());
    let mut registry = registry().with_placement(Box::new(psp));
    let cut = Identity {
        description: Some(crate::tracker::placement::testing::described("film", 4)),
        ..identity("source", Role::Source)
    };
    let serving = Identity {
        service: Some(Service {
            cluster: "east".to_owned(),
            capacity_kbps: 9000,
        }),
        ..identity("server", Role::Relay)
    };
    let below = |parent: &str, depth| Facts {
        depth: Some(depth),
        parent: Some(parent.to_owned()),
        kbps: Some(1000),
        ..source_facts()
    };
    let mut source = Announcer::new(at(0), cut, 1, rng(1));
    source.set_facts(
        at(0),
        Facts {
            kbps: Some(1000),
            ..source_facts()
        },
    );
    let mut server = Announcer::new(at(0), serving, 1, rng(2));
    let mut helper = Announcer::new(at(1000), identity("helper", Role::Peer), 1, rng(3));
    let mut viewer = Announcer::new(at(4000), identity("viewer", Role::Peer), 1, rng(4));
    run(&mut registry, &mut [&mut source, &mut server], 0, 500);
    server.set_facts(at(500), below("source", 2));
    run(&mut registry, &mut [&mut source, &mut server], 500, 1000);
    let mut all = [&mut source, &mut server, &mut helper, &mut viewer];
    run(&mut registry, &mut all[..3], 1000, 2000);
    let helping = Facts {
        buffer: Some(Duration::from_millis(900)),
        uplink_kbps: Some(300),
        ..below("server", 3)
    };
    all[2].set_facts(at(2000), helping);
    run(&mut registry, &mut all[..3], 2000, 4000);
    run(&mut registry, &mut all, 4000, 4500);
    let shared = "server:1110 helper:0001";
    assert_eq!(told(all[3]).as_deref(), Some(shared));
    // It takes all from one, and is reminded; then it does as it was told.
    all[3].want_parents(at(4500), false);
    all[3].set_facts(at(4500), below("server", 3));
    run(&mut registry, &mut all, 4500, 9000);
    assert_eq!(told(all[3]).as_deref(), Some(shared));
    let sharing = Facts {
        parents: vec![("server".to_owned(), 0b1110), ("helper".to_owned(), 1)],
        ..below("server", 3)
    };
    all[3].set_facts(at(9000), sharing);
    run(&mut registry, &mut all, 9000, 20_000);
    assert_eq!(told(all[3]), None);
}
