//! Documents beside the protocol: health, metrics, the list of channels.

use std::sync::atomic::Ordering;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use super::{HttpStats, Server, error};
use crate::tracker::registry::Stats;

pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

pub(super) async fn readyz(State(server): State<Server>) -> Response {
    if server.is_stopping.load(Ordering::Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    }
    "ready\n".into_response()
}

pub(super) async fn metrics(State(server): State<Server>) -> Response {
    let text = render_metrics(&server.stats(), &server.http_stats());
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(CONTENT_TYPE, kind)], text).into_response()
}

pub(super) async fn channels(State(server): State<Server>) -> Response {
    #[derive(serde::Serialize)]
    struct Entry {
        name: String,
        swarm_id: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<String>,
        peers: usize,
    }
    #[derive(serde::Serialize)]
    struct List {
        channels: Vec<Entry>,
    }
    let channels = server
        .registry()
        .channels()
        .map(|record| Entry {
            name: record.info.name,
            swarm_id: record.info.swarm_id,
            title: record.info.title,
            peers: record.peers,
        })
        .collect();
    axum::Json(List { channels }).into_response()
}

pub(super) async fn channel(State(server): State<Server>, Path(name): Path<String>) -> Response {
    let record = server.registry().channel(&name);
    match record {
        Some(record) => axum::Json(record).into_response(),
        None => error(StatusCode::NOT_FOUND, "no such channel"),
    }
}

/// Every counter in the text form of Prometheus.
fn render_metrics(stats: &Stats, http: &HttpStats) -> String {
    let rows = [
        ("requests_total", "counter", stats.requests_total),
        ("connects_total", "counter", stats.connects_total),
        ("finds_total", "counter", stats.finds_total),
        ("reports_total", "counter", stats.reports_total),
        ("joins_total", "counter", stats.joins_total),
        ("leaves_total", "counter", stats.leaves_total),
        ("expired_total", "counter", stats.expired_total),
        ("replays_total", "counter", stats.replays_total),
        ("peers", "gauge", stats.peers as u64),
        ("swarms", "gauge", stats.swarms as u64),
        ("channels", "gauge", stats.channels as u64),
        ("http_connections_total", "counter", http.connections_total),
        ("http_refused_total", "counter", http.refused_total),
        ("http_timeouts_total", "counter", http.timeouts_total),
        ("http_oversized_total", "counter", http.oversized_total),
        (
            "http_accept_errors_total",
            "counter",
            http.accept_errors_total,
        ),
        ("http_connections", "gauge", http.connections),
    ];
    let mut text = String::new();
    for (name, kind, value) in rows {
        text += &format!("# TYPE p2ps_tracker_{name} {kind}\np2ps_tracker_{name} {value}\n");
    }
    text += "# TYPE p2ps_tracker_rejects_total counter\n";
    for (code, value) in stats.rejects() {
        text += &format!(
            "p2ps_tracker_rejects_total{{reason=\"{}\"}} {value}\n",
            code.name()
        );
    }
    text
}
