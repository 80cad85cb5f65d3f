//! Whatever is posted, the reply is one that the protocol defines (S-41, fuzz targets `tracker_request` and
//! `tracker_response`).

use p2ps::tracker::message::{Request, Response};
use p2ps::tracker::registry::Reply;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn post(registry: &mut Registry, body: &[u8]) -> Reply {
    let from = "192.0.2.1:4000".parse().expect("an address");
    registry.handle_body(Instant::ZERO, from, body)
}

fn check(reply: &Reply) -> Result<(), TestCaseError> {
    let value: Value = serde_json::from_str(&reply.body).expect("a reply is JSON");
    match reply.status {
        200 => {
            let protocol = &value["PPSPTrackerProtocol"];
            let code = protocol["error_code"].as_u64();
            prop_assert!(code.is_some_and(|code| code <= 6), "{}", reply.body);
            prop_assert_eq!(
                protocol["response_type"].as_u64(),
                code.map(|code| u64::from(code != 0))
            );
            prop_assert!(protocol["transaction_id"].is_string());
            prop_assert!(Response::from_json(reply.body.as_bytes()).is_ok());
        }
        400 => prop_assert!(value["error"].is_string()),
        status => prop_assert!(false, "status {}", status),
    }
    Ok(())
}

/// A request of ours, somewhere near the form of the schema.
fn request() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (0_u64..3).prop_map(Value::from),
        "[a-z0-9]{0,3}".prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        prop::sample::select(vec![
            "JOIN",
            "LEAVE",
            "SEEDER",
            "LEECH",
            "source",
            "peer",
            "film",
            "127.0.0.1",
            "::1"
        ])
        .prop_map(Value::from),
    ];
    let name = prop::sample::select(vec![
        "peer_num",
        "peer_number",
        "peer_count",
        "peer_addr",
        "ip_address",
        "address",
        "port",
        "priority",
        "type",
        "swarm_action",
        "swarm_id",
        "action",
        "peer_mode",
        "stat",
        "Stat",
        "x_ext",
        "role",
        "channel",
        "title",
        "description",
        "depth",
        "parent",
        "slots_free",
        "connect",
        "find",
        "stat_report",
        "other",
    ]);
    let tree = scalar.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::from),
            vec((name.clone(), inner), 0..6).prop_map(|members| {
                Value::Object(
                    members
                        .into_iter()
                        .map(|(name, value)| (name.to_owned(), value))
                        .collect(),
                )
            }),
        ]
    });
    let kind = prop::sample::select(vec!["CONNECT", "FIND", "STAT_REPORT", "OTHER"]);
    let body = prop::sample::select(vec!["connect", "find", "stat_report"]);
    (kind, body, tree.clone(), tree.clone(), tree, 0_u8..4, 0_u8..10).prop_map(|(kind, body, inner, ext, other, peer, odd)| {
        let mut protocol = json!({"version": 1, "request_type": kind, "transaction_id": "t", "peer_id": format!("p{peer}")});
        protocol[body] = if odd == 0 {
            inner
        } else {
            json!({"swarm_id": "s", "stat": [{"swarm_id": "s"}], "peer_addr": inner,
                   "swarm_action": [{"swarm_id": "s", "action": "JOIN", "peer_mode": "LEECH"}, other]})
        };
        protocol["x_ext"] = ext;
        json!({"PPSPTrackerProtocol": protocol})
    })
}

fn corpus() -> Vec<String> {
    [source(), viewer()]
        .into_iter()
        .map(|mut members| {
            members["version"] = json!(1);
            members["transaction_id"] = json!("t");
            json!({"PPSPTrackerProtocol": members}).to_string()
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(body in vec(any::<u8>(), 0..200)) {
        check(&post(&mut Registry::new(Config::default(), Seed::from_number(1)), &body))?;
        let _ = Response::from_json(&body);
    }

    #[test]
    fn near_requests(bodies in vec(request(), 1..8)) {
        let mut registry = Registry::new(Config::default(), Seed::from_number(1));
        for body in bodies {
            let text = body.to_string();
            check(&post(&mut registry, text.as_bytes()))?;
            if let Ok(request) = Request::from_json(text.as_bytes()) {
                // What was understood means the same in the form of the schema.
                prop_assert_eq!(Request::from_json(request.to_json().as_bytes()), Ok(request));
            }
        }
        registry.handle_timeout(Instant::from_micros(u64::MAX));
        let stats = registry.stats();
        prop_assert_eq!((stats.peers, stats.swarms, stats.channels), (0, 0, 0));
        prop_assert_eq!(registry.poll_timeout(), None);
    }

    #[test]
    fn damaged_requests(which in 0_usize..2, cut in any::<prop::sample::Index>(), place in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut body = corpus().swap_remove(which).into_bytes();
        let at = place.index(body.len());
        body[at] = byte;
        let mut registry = Registry::new(Config::default(), Seed::from_number(1));
        check(&post(&mut registry, &body))?;
        body.truncate(cut.index(body.len() + 1));
        check(&post(&mut registry, &body))?;
    }
}

#[tokio::test]
async fn over_http_too() {
    let tracker = Tracker::start(Options::default()).await;
    let bodies = [
        "",
        "{}",
        "[]",
        "null",
        "\u{0}",
        "{\"PPSPTrackerProtocol\":[]}",
        "{\"a\":1,\"a\":2}",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain([format!("{}1{}", "[".repeat(33), "]".repeat(33))])
    .chain([format!(
        r#"{{"PPSPTrackerProtocol":{{"version":1,"transaction_id":"t","peer_id":"{}"}}}}"#,
        "x".repeat(10_240)
    )]);
    for body in bodies {
        let answer = http::post(tracker.url("/"), body.clone(), PATIENCE)
            .await
            .expect("an answer");
        check(&Reply {
            status: answer.status,
            body: answer.body,
        })
        .expect(&body);
    }
}
