//! A tracker that sells, over HTTP: what is acknowledged is kept, payments are made some at a time.

use std::sync::atomic::AtomicBool;

use p2ps::io::http::server::{Keeper, Operator, PAYMENTS_MAX};
use p2ps::time::Epoch;
use p2ps::tracker::message::Secret;
use p2ps::tracker::provider::Provider;
use p2ps::tracker::provider::tariff::{EXAMPLE, Tariff};

use super::*;

/// A tracker that sells what its source announces.
async fn shop(tariff: &str, keeper: Option<Keeper>) -> Tracker {
    shop_with(tariff, |server| match keeper {
        Some(keeper) => server.with_keeper(keeper),
        None => server,
    })
    .await
}

async fn shop_with(tariff: &str, dress: impl FnOnce(Server) -> Server) -> Tracker {
    let registry = Registry::new(Config::default(), Seed::from_number(1));
    let tariff = Tariff::parse(tariff).expect("a tariff");
    let provider = Provider::new(tariff, Epoch::new(1_795_262_400_000_000), [7; 32]);
    let service = Service::new(registry, Some(provider));
    let tracker = Tracker::serve(service, dress).await;
    assert_eq!(tracker.ask(source()).await["error_code"], 0);
    tracker
}

async fn call(tracker: &Tracker, name: &str, params: &Value) -> (u16, Value) {
    let url = tracker.url(&format!("/v1/{name}"));
    let answer = http::post(url, params.to_string(), PATIENCE).await;
    let answer = answer.expect("the tracker answers");
    let body = serde_json::from_str(&answer.body).expect("JSON");
    (answer.status, body)
}

/// Logs in and chooses the film; the session.
async fn enter(tracker: &Tracker, user: &str) -> Value {
    let (status, body) = call(tracker, "login", &json!({ "user": user })).await;
    assert_eq!(status, 200, "{body}");
    let session = body["session"].clone();
    let film = json!({ "session": session, "content": "film" });
    assert_eq!(call(tracker, "choose", &film).await.0, 200);
    session
}

#[tokio::test]
async fn nothing_is_acknowledged_that_is_not_kept() {
    let is_broken = Arc::new(AtomicBool::new(true));
    let keeper: Keeper = {
        let is_broken = Arc::clone(&is_broken);
        Arc::new(move |changes| {
            assert!(!changes.is_empty());
            let outcome = match is_broken.load(Ordering::Relaxed) {
                true => Err("the disk is full".to_owned()),
                false => Ok(()),
            };
            Box::pin(std::future::ready(outcome))
        })
    };
    let tracker = shop(EXAMPLE, Some(keeper)).await;
    let session = enter(&tracker, "ann").await;
    let gold = json!({ "session": session, "packet": "gold", "request_id": "1" });
    for attempt in 1..=2 {
        let (status, body) = call(&tracker, "contract", &gold).await;
        assert_eq!(
            (status, &body["error"]),
            (503, &json!("the disk is full")),
            "{attempt}"
        );
    }
    is_broken.store(false, Ordering::Relaxed);
    let (status, body) = call(&tracker, "contract", &gold).await;
    assert_eq!(
        (status, &body["id"], &body["contract"]["no"]),
        (200, &json!("C1"), &json!(1))
    );
    // The same through CONNECT, which has no other word for it than HTTP's.
    let mut viewer = viewer();
    viewer["x_ext"]["packet"] = json!("gold");
    let envelope = json!({ "version": 1, "transaction_id": "7" });
    let mut protocol = envelope.as_object().cloned().expect("an object");
    protocol.extend(viewer.as_object().cloned().expect("an object"));
    let body = json!({ "PPSPTrackerProtocol": protocol }).to_string();
    is_broken.store(true, Ordering::Relaxed);
    for (broken, wanted) in [(true, 503), (true, 503), (false, 200)] {
        is_broken.store(broken, Ordering::Relaxed);
        let answer = http::post(tracker.url("/"), body.clone(), PATIENCE).await;
        assert_eq!(answer.expect("an answer").status, wanted);
    }
}

#[tokio::test]
async fn payments_are_made_some_at_a_time() {
    let dir = tempfile::tempdir().expect("a directory");
    let (running, go) = (dir.path().join("running"), dir.path().join("go"));
    std::fs::create_dir(&running).expect("a directory");
    // Each says that it runs, and how many do; then it waits to be let go.
    let script = "read order; touch \"$0/$$\"; ls \"$0\" | wc -l >> \"$1.seen\"; \
                  while [ ! -e \"$1\" ]; do sleep 0.01; done; rm \"$0/$$\"";
    let command = json!(["sh", "-c", script, running, go]);
    let tracker = shop(&format!("payment = {command}\n{EXAMPLE}"), None).await;
    let tracker = Arc::new(tracker);
    let mut buyers = tokio::task::JoinSet::new();
    for buyer in 0..3 * PAYMENTS_MAX {
        let tracker = Arc::clone(&tracker);
        buyers.spawn(async move {
            let session = enter(&tracker, &format!("b{buyer}")).await;
            let gold = json!({ "session": session, "packet": "gold", "request_id": "1" });
            call(&tracker, "contract", &gold).await
        });
    }
    let seen = || std::fs::read_to_string(go.with_extension("seen")).unwrap_or_default();
    let full = async {
        while seen().lines().count() < PAYMENTS_MAX {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, full)
        .await
        .expect("as many as may run do");
    std::fs::write(&go, "").expect("a file");
    while let Some(bought) = buyers.join_next().await {
        let (status, body) = bought.expect("no panic");
        assert_eq!(status, 200, "{body}");
    }
    let at_a_time: Vec<usize> = seen()
        .lines()
        .filter_map(|line| line.trim().parse().ok())
        .collect();
    assert_eq!(at_a_time.len(), 3 * PAYMENTS_MAX, "each was made once");
    assert_eq!(at_a_time.into_iter().max(), Some(PAYMENTS_MAX));
}

#[tokio::test]
async fn s_52_books_are_shown_to_who_has_the_token() {
    let operator = Operator::default();
    let known = operator.clone();
    let tracker = shop_with(EXAMPLE, |server| server.with_operator(known)).await;
    let session = enter(&tracker, "ann").await;
    let session = session.as_str().expect("a token").to_owned();
    let asked = async |path: &str, bearer: &str| {
        let get = format!(
            "GET /v1/{path}?content=film HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {bearer}\r\nconnection: close\r\n\r\n"
        );
        let answer = tracker.raw(get.as_bytes()).await;
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    };
    let plain = async |path: &str| {
        let url = tracker.url(&format!("/v1/{path}?content=film"));
        http::get(url, PATIENCE).await.expect("an answer").status
    };
    assert_eq!(
        plain("get_ledger").await,
        200,
        "this machine is the operator's"
    );
    operator.set_token(Secret::new("t0ken").expect("a secret"));
    for path in ["get_ledger", "get_contracts", "get_user_table"] {
        assert_eq!(asked(path, "t0ken").await, "200", "{path}");
        assert_ne!(asked(path, "t0kem").await, "200", "{path}");
        assert_ne!(plain(path).await, 200, "{path}");
    }
    // A session is still worth what it was.
    assert_eq!(asked("get_user_table", &session).await, "200");
    assert_eq!(asked("get_ledger", &session).await, "403");
}

/// All places are taken by requests that wait for the disk: nobody is driven out of them.
#[tokio::test]
async fn s_40_whoever_is_being_served_makes_no_room() {
    let waiting = Arc::new(AtomicU64::new(0));
    let keeper: Keeper = {
        let waiting = Arc::clone(&waiting);
        Arc::new(move |_| {
            waiting.fetch_add(1, Ordering::Relaxed);
            Box::pin(std::future::pending())
        })
    };
    let options = Options {
        connections_max: 2,
        ..Options::default()
    };
    let tracker = shop_with(EXAMPLE, |server| {
        server.with_keeper(keeper).with_options(options)
    })
    .await;
    let mut buyers = Vec::new();
    for user in ["ann", "bob"] {
        let session = enter(&tracker, user).await;
        let body = json!({ "session": session, "packet": "gold", "request_id": "1" }).to_string();
        let mut buyer = TcpStream::connect(tracker.addr).await.expect("it listens");
        let length = body.len();
        let request = format!(
            "POST /v1/contract HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        buyer.write_all(request.as_bytes()).await.expect("it reads");
        buyers.push(buyer);
    }
    while waiting.load(Ordering::Relaxed) < 2 {
        tokio::task::yield_now().await;
    }
    let mut third = TcpStream::connect(tracker.addr).await.expect("it listens");
    let answer = read_to_end(&mut third).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    for buyer in &buyers {
        assert!(buyer.try_read(&mut [0]).is_err(), "it waits");
    }
}
