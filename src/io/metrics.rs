//! The metrics page: `--metrics ADDR:PORT` serves `/metrics`, `/healthz`, `/readyz`, and `/history` of the last hour.
//!
//! The node's shell publishes a snapshot of the counters when it writes records; a scrape renders the last one. So a
//! scrape costs the stream nothing and shows what the records show.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use tokio::net::TcpListener;

use crate::stats::History;
use crate::stats::counters::{Counters, Tool};
use crate::stats::history::Sample;
use crate::stats::prometheus::{self, Channel};
use crate::stats::timestamp::Timestamp;

/// The last snapshot of one node, shared between its shell and the server. Copies share it.
#[derive(Clone, Debug)]
pub struct Shared(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    tool: Tool,
    latest: Mutex<Latest>,
}

#[derive(Debug, Default)]
struct Latest {
    node: String,
    channels: Vec<Channel>,
    histories: Vec<History>,
    ready: bool,
}

impl Shared {
    /// No channels yet, not ready.
    pub fn new(tool: Tool) -> Self {
        Self(Arc::new(Inner {
            tool,
            latest: Mutex::default(),
        }))
    }

    /// The node's name and the labels of its channels, once they are known; nothing is counted yet on any of them.
    pub fn set_channels(&self, node: &str, labels: &[String]) {
        let channels = labels.iter().map(|label| Channel {
            label: label.clone(),
            ..Channel::default()
        });
        let mut latest = self.latest();
        latest.node = node.into();
        latest.channels = channels.collect();
        latest.histories = vec![History::default(); labels.len()];
    }

    /// Replaces the snapshot of one channel, by its place among those given, and keeps what it says of quality now.
    pub fn publish(&self, now: Timestamp, channel: usize, counters: &Counters) {
        let latest = &mut *self.latest();
        if let Some(known) = latest.channels.get_mut(channel) {
            if let Some(history) = latest.histories.get_mut(channel) {
                history.push(now, &known.counters, counters);
            }
            known.counters.clone_from(counters);
        }
    }

    /// The name of a channel, once it is known.
    pub fn set_name(&self, channel: usize, name: &str) {
        if let Some(channel) = self.latest().channels.get_mut(channel) {
            channel.name = name.into();
        }
    }

    /// Says whether the tool does its work: a source that reads, a relay or peer that has media on a channel, a tracker
    /// that answers. `/readyz` is 200 then, else 503.
    pub fn set_ready(&self, ready: bool) {
        self.latest().ready = ready;
    }

    fn latest(&self) -> MutexGuard<'_, Latest> {
        // A snapshot is whole or was not written: a thread that panicked cannot have left half of one.
        self.0.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pages, to be served alone or beside others (the tracker's).
pub fn router(shared: Shared) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/history", get(history))
        .with_state(shared)
}

async fn metrics(State(shared): State<Shared>) -> impl IntoResponse {
    let latest = shared.latest();
    let page = prometheus::page(shared.0.tool, &latest.channels);
    drop(latest);
    ([(header::CONTENT_TYPE, prometheus::CONTENT_TYPE)], page)
}

async fn ready(State(shared): State<Shared>) -> impl IntoResponse {
    if shared.latest().ready {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

/// Samples of all channels, `?since=` a time, of `?id=` this node.
async fn history(
    State(shared): State<Shared>,
    Query(asked): Query<BTreeMap<String, String>>,
) -> Response {
    #[derive(Serialize)]
    struct Row<'a> {
        #[serde(flatten)]
        sample: &'a Sample,
        id: &'a str,
        channel: &'a str,
    }
    #[derive(Serialize)]
    struct Rows<'a> {
        samples: Vec<Row<'a>>,
    }
    let since = match asked.get("since").map(|since| Timestamp::parse(since)) {
        Some(None) => {
            let why = "since: need RFC 3339, in UTC";
            let body = serde_json::json!({ "error": why, "code": "bad_request" });
            return (StatusCode::BAD_REQUEST, axum::Json(body)).into_response();
        }
        Some(Some(since)) => since,
        None => Timestamp::default(),
    };
    let latest = shared.latest();
    let is_meant = asked.get("id").is_none_or(|id| *id == latest.node);
    let channels = latest.channels.iter().zip(&latest.histories);
    let rows = channels
        .filter(|_| is_meant)
        .flat_map(|(channel, history)| {
            history.since(since).map(|sample| Row {
                id: &latest.node,
                channel: &channel.label,
                sample,
            })
        });
    let mut samples: Vec<Row<'_>> = rows.collect();
    samples.sort_by_key(|row| row.sample.ts);
    axum::Json(Rows { samples }).into_response()
}

/// Binds the server's socket; port 0 takes a free one, to be read from the listener.
///
/// # Errors
///
/// What the system says: the address is in use, or not ours.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves until `stop` is done.
///
/// # Errors
///
/// What the system says when the listener breaks.
pub async fn serve(
    listener: TcpListener,
    shared: Shared,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(listener, router(shared))
        .with_graceful_shutdown(stop)
        .await
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn fetch(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream
            .write_all(request.as_bytes())
            .await
            .expect("it reads");
        let mut answer = String::new();
        stream
            .read_to_string(&mut answer)
            .await
            .expect("it answers");
        answer
    }

    #[tokio::test]
    async fn pages_show_what_was_published() {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0)))
            .await
            .expect("bound");
        let address = listener.local_addr().expect("bound");
        let shared = Shared::new(Tool::Relay);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = tokio::spawn(serve(listener, shared.clone(), async {
            let _ = stopped.await;
        }));

        assert!(fetch(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        assert!(fetch(address, "/readyz").await.starts_with("HTTP/1.1 503"));
        // Before the channels are found.
        let page = fetch(address, "/metrics").await;
        assert!(page.contains("p2ps_build_info") && !page.contains("sent_packets"));
        shared.set_ready(true);
        assert!(fetch(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        shared.set_channels("3f", &["film".into(), "news".into()]);
        for (channel, sent_packets) in [(0, 7), (1, 9), (2, 11)] {
            let counters = Counters {
                sent_packets,
                ..Counters::default()
            };
            let now = Timestamp::from_unix_micros(1_795_262_400_000_000 + sent_packets);
            shared.publish(now, channel, &counters);
        }
        let page = fetch(address, "/metrics").await;
        assert!(page.contains("openmetrics-text"), "{page}");
        for expected in [
            "p2ps_sent_packets_total{tool=\"p2ps-relay\",channel=\"film\"} 7\n",
            "p2ps_sent_packets_total{tool=\"p2ps-relay\",channel=\"news\"} 9\n",
        ] {
            assert!(page.contains(expected), "{page}");
        }
        assert!(fetch(address, "/").await.starts_with("HTTP/1.1 404"));
        let all = fetch(address, "/history").await;
        let rows = "{\"samples\":[{\"ts\":\"2026-11-21T12:00:00.000007Z\",\"id\":\"3f\",\"channel\":\"film\"},\
                    {\"ts\":\"2026-11-21T12:00:00.000009Z\",\"id\":\"3f\",\"channel\":\"news\"}]}";
        assert!(all.ends_with(rows), "{all}");
        let late = fetch(address, "/history?since=2026-11-21T12:00:00.000008Z&id=3f").await;
        assert!(late.contains("news") && !late.contains("film"), "{late}");
        let others = fetch(address, "/history?id=4f").await;
        assert!(others.ends_with("{\"samples\":[]}"), "{others}");
        let bad = fetch(address, "/history?since=now").await;
        assert!(bad.starts_with("HTTP/1.1 400"), "{bad}");

        stop.send(()).expect("the server waits for it");
        server.await.expect("no panic").expect("no error");
    }
}
