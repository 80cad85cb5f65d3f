//! What people see, and what a newcomer would get.

use super::super::overview::NODES_MAX;
use super::*;

/// A registry with a source, a relay below it, a peer below that, and one that waits.
fn small() -> Registry {
    let mut registry = registry();
    let below = |parent: &str, role: &str, depth: u16| json!({"role": role, "port": 7850, "depth": depth, "slots_free": 2, "parent": parent, "kbps": 2500});
    post(
        &mut registry,
        0,
        "192.0.2.1:1",
        join("source", SWARM, "SEEDER", source("film")),
    );
    for (index, (peer, ext)) in [
        ("peer", below("relay", "peer", 3)),
        ("relay", below("source", "relay", 2)),
        ("late", waiting()),
    ]
    .into_iter()
    .enumerate()
    {
        let from = format!("192.0.2.{}:1", index + 2);
        post(&mut registry, 0, &from, join(peer, SWARM, "LEECH", ext));
    }
    registry
}

#[test]
fn an_overview_shows_who_receives_from_whom_and_no_address() {
    let mut overview = small().overview();
    overview.name_all(&|id| (id == "peer").then(|| "C1_2".to_owned()));
    let value = serde_json::to_value(&overview).expect("JSON");
    assert_eq!(
        value["channels"],
        json!([{"name": "film", "title": "A film", "peers": 4, "sources": 1, "relays": 1, "tree": [
            {"id": "source", "name": null, "role": "source", "depth": 1, "slots_free": 4},
            {"id": "relay", "name": null, "role": "relay", "parent": "source", "depth": 2, "kbps": 2500,
             "slots_free": 2},
            {"id": "peer", "name": "C1_2", "role": "peer", "parent": "relay", "depth": 3, "kbps": 2500, "slots_free": 2},
            {"id": "late", "name": null, "role": "peer", "slots_free": 4},
        ]}])
    );
    assert_eq!(
        (&value["stats"]["peers"], &value["stats"]["joins_total"]),
        (&4.into(), &4.into())
    );
    assert!(!value.to_string().contains("192.0.2"), "{value}");
}

#[test]
fn an_overview_shows_the_nearest_of_many() {
    let mut registry = small();
    for index in 0..NODES_MAX {
        let from = format!("10.0.{}.{}:1", index / 250, index % 250 + 1);
        let name = format!("leaf-{index}");
        post(
            &mut registry,
            0,
            &from,
            join(&name, SWARM, "LEECH", attached(4, 0)),
        );
    }
    let overview = registry.overview();
    let channel = &overview.channels[0];
    assert_eq!(
        (channel.peers, channel.tree.len()),
        (NODES_MAX + 4, NODES_MAX)
    );
    let first: Vec<&str> = channel.tree.iter().map(|node| node.id.as_str()).collect();
    assert_eq!(first[..3], ["source", "relay", "peer"]);
    assert!(!first.contains(&"late"), "it has no parent yet");
}

#[test]
fn an_offer_is_the_list_of_a_join_and_leaves_nothing_behind() {
    let mut registry = small();
    let before = registry.stats();
    let from: SocketAddr = addr("192.0.2.99:1");
    let offer = registry
        .offer(at(1), from.ip(), "film", None)
        .expect("it is announced");
    let again = registry.offer(at(1), from.ip(), "film", None);
    assert_eq!(again.as_ref(), Some(&offer), "no slot was promised");
    assert_eq!(registry.stats(), before);
    let answer = post(
        &mut registry,
        1,
        "192.0.2.99:1",
        join("me", SWARM, "LEECH", waiting()),
    );
    let parents = serde_json::to_value(&offer.parents).expect("JSON");
    assert_eq!(parents, answer["x_ext"]["parents"]);
    let who: Vec<&str> = offer
        .parents
        .iter()
        .map(|parent| parent.peer.as_str())
        .collect();
    assert_eq!(
        (who, offer.depth),
        (vec!["source", "relay", "peer"], Some(2))
    );
    assert_eq!(registry.offer(at(1), from.ip(), "news", None), None);
}
