//! Clusters of a few members, through the tracker as it is.

use super::super::testing::{Town, below, named, ratio, refusal, role};
use super::*;
use crate::tracker::message::{Decimal, RequestExt};

mod mixed;

const FILM: &str = "film";

const NETWORKS: &str = r#"
    [[network]]
    subnet = "10.1.0.0/16"
    cluster = "east"
    [[network]]
    subnet = "10.2.0.0/16"
    cluster = "west"
    [[network]]
    subnet = "10.3.0.0/16"
    cluster = "north"
"#;

fn settings() -> Settings {
    Settings {
        networks: Networks::from_toml(NETWORKS).expect("a file"),
        ..Settings::default()
    }
}

fn town(settings: Settings) -> Town {
    let mut town = Town::new(Box::new(Psp::new(settings)));
    town.source("10.9.0.1", "origin", FILM, 1000);
    town
}

fn serving(cluster: &str, capacity_kbps: u64, latency_ms: u64) -> RequestExt {
    RequestExt {
        role: Some(Role::Relay),
        cluster: Some(cluster.to_owned()),
        capacity_kbps: Some(capacity_kbps),
        latency_us: Some(latency_ms * 1000),
        ..below("origin", 2)
    }
}

/// A viewer with a full buffer, as `parent` serves it.
fn watching(parent: &str, kbps: u64, loss: u64) -> RequestExt {
    RequestExt {
        kbps: Some(kbps),
        loss: ratio(loss),
        buffer_s: Some(Decimal::from_millionths(900_000)),
        ..below(parent, 3)
    }
}

fn viewer() -> RequestExt {
    role(Role::Peer)
}

#[test]
fn t_psp_3_each_step_is_reached_and_says_so() {
    let mut town = town(settings());
    town.join("10.1.0.1", "s1", FILM, serving("east", 1000, 10));
    town.join("10.2.0.1", "s2", FILM, serving("west", 1000, 20));
    town.log();

    let answer = town.join("10.1.0.11", "v1", FILM, viewer());
    assert_eq!(named(&answer), ["s1"]);
    assert_eq!(
        town.log(),
        [
            "psp 1: v1 asks for film at 1000 kbit/s",
            "psp 2: v1 is sent to cluster east, server s1 (nearest by subnet)",
            "psp 4: v1 streams from server s1 of cluster east (1000 kbit/s)",
        ]
    );

    town.report("10.1.0.11", "v1", FILM, watching("s1", 1000, 0));
    assert_eq!(town.log(), ["psp 5: v1 supports cluster east"]);
    town.report("10.1.0.11", "v1", FILM, watching("s1", 1000, 0));
    assert_eq!(town.log(), [""; 0], "once");

    // The server stands in for the supporter.
    let answer = town.join("10.1.0.12", "v2", FILM, viewer());
    assert_eq!(named(&answer), ["v1", "s1"]);
    assert_eq!(
        town.log(),
        [
            "psp 1: v2 asks for film at 1000 kbit/s",
            "psp 2: v2 is sent to cluster east, server s1 (nearest by subnet)",
            "psp 3: v2 streams from supporters of cluster east: v1 (1000 kbit/s)",
        ]
    );

    let answer = town.join("10.1.0.13", "v3", FILM, viewer());
    assert_eq!(named(&answer), ["s2"]);
    assert_eq!(
        town.log(),
        [
            "psp 1: v3 asks for film at 1000 kbit/s",
            "psp 2: v3 is sent to cluster east, server s1 (nearest by subnet)",
            "psp 6: v3 goes on to cluster west, server s2 (1000 kbit/s free, 20.0 ms): no bandwidth in cluster east",
            "psp 4: v3 streams from server s2 of cluster west (1000 kbit/s)",
        ]
    );

    let answer = town.join("10.1.0.14", "v4", FILM, viewer());
    let why = "no bandwidth in cluster east, and nothing free elsewhere";
    assert_eq!(refusal(&answer), Some((5, why, 10)));
    assert_eq!(
        town.log(),
        [
            "psp 1: v4 asks for film at 1000 kbit/s",
            "psp 2: v4 is sent to cluster east, server s1 (nearest by subnet)",
            "psp 7: v4 is rejected: no bandwidth in cluster east, and nothing free elsewhere",
        ]
    );
    assert_eq!(
        town.registry.stats().joins_total,
        6,
        "who is rejected has not joined"
    );
    // When somebody leaves there is room again.
    town.leave("10.1.0.13", "v3", FILM);
    assert_eq!(named(&town.join("10.1.0.14", "v4", FILM, viewer())), ["s2"]);
}

#[test]
fn t_psp_4_a_cluster_without_the_file_redirects_once() {
    let mut town = town(settings());
    town.source("10.9.0.1", "origin", "news", 1000);
    town.join("10.1.0.1", "s1", "news", serving("east", 9000, 5));
    town.join("10.2.0.1", "s2", FILM, serving("west", 9000, 30));
    town.join("10.3.0.1", "s3", FILM, serving("north", 9000, 20));
    town.log();
    let answer = town.join("10.1.0.11", "v1", FILM, viewer());
    assert_eq!(
        named(&answer),
        ["s3"],
        "the lowest latency of those who have it"
    );
    let redirect = answer
        .ext
        .and_then(|ext| ext.redirect)
        .expect("it was redirected");
    assert_eq!(
        (
            redirect.cluster.as_str(),
            redirect.server.as_str(),
            redirect.reason.as_str()
        ),
        ("north", "s3", "film is not in cluster east")
    );
    let log = town.log();
    let redirects = log.iter().filter(|line| line.starts_with("psp 6:")).count();
    assert_eq!(redirects, 1, "{log:?}");
    let overview = town.registry.clusters(town.now());
    let east = overview
        .clusters
        .iter()
        .find(|cluster| cluster.name == "east");
    let east = east.expect("it was asked");
    assert_eq!(
        (
            east.requests_total,
            east.redirects_total,
            east.rejects_total
        ),
        (1, 1, 0)
    );
}

#[test]
fn supporters_are_believed_what_their_receivers_measured() {
    let mut town = town(settings());
    town.join("10.1.0.1", "s1", FILM, serving("east", 5000, 10));
    town.join("10.1.0.11", "v1", FILM, viewer());
    // It claims a gigabit.
    let boast = || RequestExt {
        uplink_kbps: Some(1_000_000),
        ..watching("s1", 1000, 0)
    };
    town.report("10.1.0.11", "v1", FILM, boast());
    assert_eq!(
        named(&town.join("10.1.0.12", "v2", FILM, viewer())),
        ["v1", "s1"]
    );
    // Nobody has measured anything yet: no second one.
    assert_eq!(named(&town.join("10.1.0.13", "v3", FILM, viewer())), ["s1"]);
    town.report("10.1.0.12", "v2", FILM, watching("v1", 980, 1));
    assert_eq!(
        named(&town.join("10.1.0.14", "v4", FILM, viewer())),
        ["v1", "s1"]
    );
    // Both lose a fifth, and have for a while: that was too much.
    for _ in 0..4 {
        town.wait(2000);
        town.report("10.1.0.1", "s1", FILM, serving("east", 5000, 10));
        town.report("10.1.0.11", "v1", FILM, boast());
        town.report("10.1.0.12", "v2", FILM, watching("v1", 800, 20));
        town.report("10.1.0.14", "v4", FILM, watching("v1", 800, 20));
        town.report(
            "10.1.0.13",
            "v3",
            FILM,
            RequestExt {
                buffer_s: None,
                ..watching("s1", 1000, 0)
            },
        );
    }
    assert_eq!(named(&town.join("10.1.0.15", "v5", FILM, viewer())), ["s1"]);
    let record = &town.registry.clusters(town.now()).clusters[0];
    assert_eq!((record.sessions, record.supporters), (5, 0), "{record:?}");
}

#[test]
fn who_served_is_replaced_when_gone() {
    let mut town = town(settings());
    town.join("10.1.0.1", "s1", FILM, serving("east", 2000, 10));
    town.join("10.1.0.11", "v1", FILM, viewer());
    town.report("10.1.0.11", "v1", FILM, watching("s1", 1000, 0));
    town.join("10.1.0.12", "v2", FILM, viewer());
    assert_eq!(
        town.report("10.1.0.12", "v2", FILM, watching("s1", 1000, 0))
            .as_deref(),
        Some("v1")
    );
    town.leave("10.1.0.11", "v1", FILM);
    assert_eq!(
        town.report("10.1.0.12", "v2", FILM, watching("s1", 1000, 0)),
        None
    );
    // Nobody who cannot be reached is named for ever.
    town.join("10.1.0.13", "v3", FILM, viewer());
    let mut told = 0;
    for _ in 0..10 {
        town.wait(1000);
        town.report("10.1.0.1", "s1", FILM, serving("east", 9000, 10));
        town.report("10.1.0.12", "v2", FILM, watching("s1", 1000, 0));
        told += usize::from(
            town.report("10.1.0.13", "v3", FILM, watching("s1", 1000, 0))
                .is_some(),
        );
    }
    assert_eq!(told, 5);
}

#[test]
fn a_full_server_sheds_its_newest_sessions() {
    let mut town = town(settings());
    town.join("10.1.0.1", "s1", FILM, serving("east", 10_000, 10));
    for number in 0..10 {
        let ip = format!("10.1.0.{}", 11 + number);
        town.join(&ip, &format!("v{number}"), FILM, viewer());
    }
    town.join("10.2.0.1", "s2", FILM, serving("west", 10_000, 20));
    let mut moved = Vec::new();
    for _ in 0..10 {
        town.wait(2000);
        town.report("10.1.0.1", "s1", FILM, serving("east", 10_000, 10));
        town.report("10.2.0.1", "s2", FILM, serving("west", 10_000, 20));
        for number in 0..10 {
            let (ip, id) = (format!("10.1.0.{}", 11 + number), format!("v{number}"));
            let parent = if moved.contains(&id) { "s2" } else { "s1" };
            let still = RequestExt {
                buffer_s: None,
                ..watching(parent, 1000, 0)
            };
            if let Some(to) = town.report(&ip, &id, FILM, still) {
                assert_eq!(to, "s2");
                moved.push(id);
            }
        }
    }
    // 10 % of the sessions a round: one, then another; then it is below 90 %.
    assert_eq!(moved, ["v9", "v8"]);
}

#[test]
fn a_server_without_a_cluster_goes_where_it_is_needed() {
    let mut town = town(settings());
    town.join("10.1.0.1", "s1", FILM, serving("east", 1000, 10));
    for number in 1..4 {
        town.join(
            &format!("10.1.0.1{number}"),
            &format!("e{number}"),
            FILM,
            viewer(),
        );
        town.join(
            &format!("10.3.0.1{number}"),
            &format!("n{number}"),
            FILM,
            viewer(),
        );
    }
    for number in 5..7 {
        town.join(
            &format!("10.1.0.1{number}"),
            &format!("e{number}"),
            FILM,
            viewer(),
        );
    }
    // Nobody serves north, and 3 asked there; in east 4 of 5 were refused.
    let answer = town.join("10.9.0.2", "a1", FILM, serving("auto", 5000, 10));
    let cluster = answer.ext.and_then(|ext| ext.cluster);
    assert_eq!(cluster.as_deref(), Some("east"));
    let answer = town.join("10.9.0.3", "a2", FILM, serving("auto", 5000, 10));
    let cluster = answer.ext.and_then(|ext| ext.cluster);
    assert_eq!(
        cluster.as_deref(),
        Some("north"),
        "what was missed in east has been answered"
    );
    assert_eq!(named(&town.join("10.3.0.11", "n1", FILM, viewer())), ["a2"]);
}

/// Servers b, c, d; d gets the stream directly in 10 ms, through b in 30, through c in 50.
#[test]
fn t_psp_7_the_way_to_a_server_is_the_shortest_with_room() {
    let links = r#"
        [[link]]
        from = "source"
        to = "d"
        latency_ms = 10
        capacity_mbps = 0.9
        [[link]]
        from = "source"
        to = "b"
        latency_ms = 5
        capacity_mbps = 9
        [[link]]
        from = "source"
        to = "c"
        latency_ms = 10
        capacity_mbps = 9
        [[link]]
        from = "b"
        to = "d"
        latency_ms = 25
        capacity_mbps = 1.5
        [[link]]
        from = "c"
        to = "d"
        latency_ms = 40
        capacity_mbps = 1.5
    "#;
    let mut town = town(Settings {
        networks: Networks::from_toml(links).expect("a file"),
        ..Settings::default()
    });
    town.join("10.2.0.1", "sb", FILM, serving("b", 9000, 5));
    town.join("10.3.0.1", "sc", FILM, serving("c", 9000, 10));
    town.log();
    let answer = town.join("10.4.0.1", "sd", FILM, serving("d", 9000, 10));
    assert_eq!(named(&answer), ["sb", "origin"]);
    assert_eq!(
        town.log(),
        [
            "psp: server sd serves cluster d with 9000 kbit/s",
            "psp: film comes to cluster d through b, 30.0 ms",
        ]
    );
    let sd = |parent: &str, loss| RequestExt {
        loss: ratio(loss),
        ..RequestExt {
            parent: Some(parent.to_owned()),
            ..serving("d", 9000, 30)
        }
    };
    assert_eq!(town.report("10.4.0.1", "sd", FILM, sd("sb", 0)), None);
    // Somebody else fills the link from b: a tenth is lost, and within one report the way is another.
    town.wait(2000);
    for (ip, id, cluster) in [("10.2.0.1", "sb", "b"), ("10.3.0.1", "sc", "c")] {
        assert_eq!(town.report(ip, id, FILM, serving(cluster, 9000, 5)), None);
    }
    assert_eq!(
        town.report("10.4.0.1", "sd", FILM, sd("sb", 10)).as_deref(),
        Some("sc")
    );
    assert_eq!(
        town.log(),
        ["psp: film comes to cluster d through c, 50.0 ms"]
    );
    assert_eq!(town.report("10.4.0.1", "sd", FILM, sd("sc", 0)), None);
}

/// Two streams share the link to d, which has room for both until one of them grows. Whenever that is, that one is sent
/// another way within ten seconds, and the other stays.
#[test]
fn t_psp_7_a_link_that_fills_is_left_within_ten_seconds() {
    let links = r#"
        [[link]]
        from = "source"
        to = "d"
        latency_ms = 10
        capacity_mbps = 1.5
        [[link]]
        from = "source"
        to = "b"
        latency_ms = 5
        capacity_mbps = 9
        [[link]]
        from = "b"
        to = "d"
        latency_ms = 25
        capacity_mbps = 1.0
    "#;
    const NEWS: &str = "news";
    let channels = [(FILM, "10.9.0.1", "origin"), (NEWS, "10.9.0.2", "studio")];
    let servers = [("10.2.0.1", "sb", "b"), ("10.4.0.1", "sd", "d")];
    for phase in 0..20 {
        let mut town = town(Settings {
            networks: Networks::from_toml(links).expect("a file"),
            ..Settings::default()
        });
        town.source("10.9.0.2", "studio", NEWS, 400);
        for (channel, ..) in channels {
            for (ip, name, cluster) in servers {
                let id = format!("{name}-{channel}");
                town.join(ip, &id, channel, serving(cluster, 9000, 10));
            }
        }
        town.log();
        // All report every two seconds, the sources at a time of their own, the servers just before the ways are looked
        // at: they hear of it two seconds later.
        let (mut filled, mut moved) = (None, None);
        for tick in 1..400 {
            town.wait(100);
            for (channel, ip, source) in channels {
                if tick % 20 == phase {
                    let is_more = channel == NEWS && tick > 200;
                    let making = RequestExt {
                        channel: Some(channel.to_owned()),
                        kbps: Some(match channel {
                            NEWS if is_more => 900,
                            NEWS => 400,
                            _ => 1000,
                        }),
                        ..role(Role::Source)
                    };
                    town.report(ip, source, channel, making);
                    if is_more {
                        filled.get_or_insert_with(|| town.now());
                    }
                }
                for (ip, name, cluster) in servers.into_iter().filter(|_| tick % 20 == 19) {
                    let below = RequestExt {
                        parent: Some(source.to_owned()),
                        ..serving(cluster, 9000, 10)
                    };
                    let told = town.report(ip, &format!("{name}-{channel}"), channel, below);
                    if let Some(to) = told {
                        moved.get_or_insert_with(|| (town.now(), to));
                    }
                }
            }
        }
        let (filled, (moved, to)) = (filled.expect("it grew"), moved.expect("it was moved"));
        assert_eq!(to, "sb-news", "phase {phase}");
        let took = moved - filled;
        assert!(took <= Duration::from_secs(10), "phase {phase}: {took:?}");
        assert_eq!(
            town.log(),
            ["psp: news comes to cluster d through b, 30.0 ms"],
            "phase {phase}"
        );
    }
}

#[test]
fn a_file_of_networks_that_is_read_again_counts_for_those_who_come() {
    let mut town = town(settings());
    town.join("10.1.0.1", "s1", FILM, serving("east", 9000, 10));
    town.join("10.2.0.1", "s2", FILM, serving("west", 9000, 20));
    assert_eq!(named(&town.join("10.3.0.11", "v1", FILM, viewer())), ["s1"]);
    town.log();
    let fresh = r#"
        [[network]]
        subnet = "10.3.0.0/16"
        cluster = "west"
        [[link]]
        from = "source"
        to = "east"
        latency_ms = 10
        capacity_mbps = 9
        [[link]]
        from = "east"
        to = "west"
        latency_ms = 5
        capacity_mbps = 9
    "#;
    let now = town.now();
    let fresh = Networks::from_toml(fresh).expect("a file");
    town.registry.placement_mut().set_networks(now, fresh);
    assert_eq!(
        town.log(),
        [
            "psp: film comes to cluster east directly, 10.0 ms",
            "psp: film comes to cluster west through east, 15.0 ms"
        ]
    );
    assert_eq!(named(&town.join("10.3.0.12", "v2", FILM, viewer())), ["s2"]);
    assert_eq!(
        named(&town.find("10.3.0.11", "v1", FILM, viewer())),
        ["s1"],
        "who is served stays"
    );
    // The way of the stream is another too.
    let west = town.report("10.2.0.1", "s2", FILM, serving("west", 9000, 20));
    assert_eq!(west.as_deref(), Some("s1"));
}

#[test]
fn without_networks_the_least_loaded_cluster_is_next() {
    let mut town = town(Settings::default());
    town.join("10.1.0.1", "s1", FILM, serving("east", 2000, 10));
    town.join("10.2.0.1", "s2", FILM, serving("west", 8000, 10));
    let mut count = [0, 0];
    for number in 0..5 {
        let answer = town.join(
            &format!("10.1.1.{number}"),
            &format!("v{number}"),
            FILM,
            viewer(),
        );
        count[usize::from(named(&answer) == ["s2"])] += 1;
    }
    assert_eq!(count, [1, 4]);
}

#[test]
fn the_model_stands_beside_what_was_measured() {
    let mut town = town(settings());
    town.join("10.1.0.1", "s1", FILM, serving("east", 2000, 10));
    for number in 0..8 {
        town.join(
            &format!("10.1.1.{number}"),
            &format!("v{number}"),
            FILM,
            viewer(),
        );
    }
    let record = &town.registry.clusters(town.now()).clusters[0];
    assert_eq!((record.requests_total, record.rejects_total), (8, 6));
    assert_eq!(record.reject_ratio, Some(0.75));
    let model = record.model.expect("there is a server");
    // 8 requests in a tenth of a session: λL = 80, D = 80 000, R(0) = 1 − 2000/80 000.
    assert!((model.reject_ratio - 0.975).abs() < 1e-9, "{model:?}");
    assert_eq!(model.guaranteed_s, None, "nobody helped yet");
}

#[test]
fn complaints_of_one_viewer_keep_nobody_else_away() {
    let mut town = town(settings());
    town.join("10.1.0.1", "s1", FILM, serving("east", 9000, 10));
    town.join("10.2.0.1", "s2", FILM, serving("west", 9000, 20));
    let wait = |town: &mut Town| {
        town.wait(4000);
        town.report("10.1.0.1", "s1", FILM, serving("east", 9000, 10));
        town.report("10.2.0.1", "s2", FILM, serving("west", 9000, 20));
    };
    // It never gets the stream, it says, whoever gives it.
    assert_eq!(
        named(&town.join("10.1.0.66", "liar", FILM, viewer())),
        ["s1"]
    );
    wait(&mut town);
    let found = town.find("10.1.0.66", "liar", FILM, viewer());
    assert_eq!(named(&found), ["s2"], "the other one for it");
    wait(&mut town);
    let found = town.find("10.1.0.66", "liar", FILM, viewer());
    assert!(named(&found).is_empty(), "nobody is left for it");
    for (ip, peer) in [("10.1.0.11", "v1"), ("10.1.0.12", "v2")] {
        let answer = town.join(ip, peer, FILM, viewer());
        assert_eq!(named(&answer), ["s1"], "{:?}", town.log());
    }
}
