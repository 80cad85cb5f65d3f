//! The page for people, and the pictures behind it, as a browser or a script fetches them.

use std::sync::Arc;

use super::*;

/// The value of a header in a raw answer.
fn header<'a>(answer: &'a str, name: &str) -> &'a str {
    let head = answer.split("\r\n\r\n").next().unwrap_or_default();
    let value = head.lines().find_map(|line| {
        let (key, value) = line.split_once(": ")?;
        key.eq_ignore_ascii_case(name).then_some(value)
    });
    value.unwrap_or_else(|| panic!("no {name} in {head}"))
}

async fn fetch(tracker: &Tracker, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    tracker.raw(request.as_bytes()).await
}

#[tokio::test]
async fn s_42_the_page_may_load_itself_and_nothing_else() {
    let tracker = Tracker::start(Options::default()).await;
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/page.js", "text/javascript; charset=utf-8"),
        ("/page.css", "text/css; charset=utf-8"),
        ("/page.svg", "image/svg+xml"),
    ] {
        let answer = fetch(&tracker, path).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}");
        assert_eq!(header(&answer, "content-type"), kind);
        assert_eq!(header(&answer, "x-frame-options"), "DENY");
        assert_eq!(header(&answer, "x-content-type-options"), "nosniff");
        let policy = header(&answer, "content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"));
        assert!(!policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"));
        // Nothing that a policy forbids: no script or style within the page, no other host.
        let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
        assert!(
            !body.contains("innerHTML") && !body.contains("style="),
            "{path}"
        );
        let hosts = body.matches("://").count() - body.matches("http://www.w3.org/").count();
        assert_eq!(hosts, 0, "{path}");
    }
    // POST is PPSTP on any path, also on this one.
    let answer = tracker
        .raw(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        .await;
    assert_eq!(
        header(&answer, "content-type"),
        "application/ppsp-tracker+json"
    );
}

#[tokio::test]
async fn an_overview_is_at_most_a_second_old() {
    let tracker = Tracker::start(Options::default()).await;
    let peers = async || -> Value {
        let answer = tracker.get("/v1/overview").await;
        let overview: Value = serde_json::from_str(&answer.body).expect("JSON");
        overview["stats"]["peers"].clone()
    };
    assert_eq!(peers().await, 0);
    tracker.ask(source()).await;
    assert_eq!(peers().await, 0, "drawn once a second, however many look");
    tracker.turn_clock(1);
    assert_eq!(peers().await, 1);
}

#[tokio::test]
async fn an_overview_has_the_names_of_whoever_knows_them() {
    let tracker = Tracker::start(Options::default()).await;
    let names = Arc::new(|id: &str| (id == "source").then(|| "provider".to_owned()));
    let named = tracker.server.clone().with_names(names);
    let listener = bind("127.0.0.1:0".parse().expect("an address"), false).await;
    let listener = listener.expect("loopback can be bound");
    let url = format!(
        "http://{}/v1/overview",
        listener.local_addr().expect("bound")
    );
    tracker.ask(source()).await;
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(named.serve(listener, async {
        let _ = stopped.await;
    }));
    let answer = http::get(url, PATIENCE).await.expect("it answers");
    let overview: Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!(overview["channels"][0]["tree"][0]["name"], "provider");
    stop.send(()).expect("it waits for it");
    task.await.expect("no panic");
}

#[tokio::test]
async fn an_offer_says_what_a_newcomer_would_get() {
    let tracker = Tracker::start(Options::default()).await;
    let answer = tracker.get("/v1/offer").await;
    assert_eq!(answer.status, 400);
    let answer = tracker.get("/v1/offer?content=film").await;
    let body: Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!(
        (answer.status, &body["code"]),
        (404, &"no_such_channel".into())
    );
    tracker.ask(source()).await;
    let answer = tracker.get("/v1/offer?content=film&packet=gold").await;
    let body: Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!(
        body,
        json!({"content": "film", "depth": 2, "parents": [
            {"peer": "source", "addr": "127.0.0.1:7850", "depth": 1, "slots_free": 3, "role": "source"}]})
    );
    let (stats, _) = tracker.stats();
    assert_eq!((stats.peers, stats.joins_total), (1, 1));
}
