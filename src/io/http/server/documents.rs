//! Documents that change nothing: health, metrics, the list of channels.

use std::sync::atomic::Ordering;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use super::metrics::render;
use super::{Server, error};

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
    let text = render(&server.stats(), &server.http_stats(), &server.overview());
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(CONTENT_TYPE, kind)], text).into_response()
}

pub(super) async fn clusters(State(server): State<Server>) -> Response {
    axum::Json(server.overview()).into_response()
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
        .service()
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
    let record = server.service().registry().channel(&name);
    match record {
        Some(record) => axum::Json(record).into_response(),
        None => error(StatusCode::NOT_FOUND, "no such channel"),
    }
}
