//! What people see of a tracker in a browser: one page that reads and never writes, and the pictures behind it.
//!
//! `/` is the page, with its script and style beside it: nothing comes from anywhere else, and nothing is built.
//! `/v1/overview` is the picture of everything; `/v1/offer` says what a newcomer would get.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Extension, Query, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::{Remote, Server, error, lock, ppstp};
use crate::time::Instant;
use crate::tracker::message::Deal;

const HTML: &str = include_str!("page/page.html");
const SCRIPT: &str = include_str!("page/page.js");
const STYLE: &str = include_str!("page/page.css");
const ICON: &str = include_str!("page/page.svg");

/// What a browser may do with the page: load its own script, style and icon, and ask its own server. Names that
/// strangers announce can do nothing even if they got into it (S-42).
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// How long one picture serves all who look: it costs a walk through all peers.
const FRESH: Duration = Duration::from_secs(1);

/// Knows what the provider calls a `peer_id`.
pub type Names = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// The last picture, and who knows names.
#[derive(Clone, Default)]
pub(super) struct Glance {
    names: Option<Names>,
    last: Arc<Mutex<Option<(Instant, Bytes)>>>,
}

impl fmt::Debug for Glance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Glance")
    }
}

/// The page and its pictures.
pub(super) fn router() -> Router<Server> {
    let file = |kind: &'static str, text: &'static str| {
        get(move || async move { static_file(kind, text) }).fallback(ppstp)
    };
    Router::new()
        .route("/", file("text/html; charset=utf-8", HTML))
        .route("/page.js", file("text/javascript; charset=utf-8", SCRIPT))
        .route("/page.css", file("text/css; charset=utf-8", STYLE))
        .route("/page.svg", file("image/svg+xml", ICON))
        .route("/v1/overview", get(overview).fallback(ppstp))
        .route("/v1/offer", get(offer).fallback(ppstp))
}

fn static_file(kind: &'static str, text: &'static str) -> Response {
    let headers: [(HeaderName, &str); 6] = [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_FRAME_OPTIONS, "DENY"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
}

fn json(body: impl Into<axum::body::Body>) -> Response {
    let headers = [
        (CONTENT_TYPE, "application/json"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CACHE_CONTROL, "no-store"),
    ];
    (headers, body.into()).into_response()
}

impl Server {
    /// The same server with somebody who knows what the provider calls a `peer_id`. He is asked while nothing here is
    /// locked.
    pub fn with_names(mut self, names: Names) -> Self {
        self.glance.names = Some(names);
        self
    }

    /// The picture of everything, at most [`FRESH`] old.
    fn glance(&self) -> Bytes {
        let now = (self.clock)();
        // Whoever comes while it is drawn waits for it: one walk a second, however many look.
        let mut last = lock(&self.glance.last);
        if let Some((drawn, body)) = &*last
            && now < *drawn + FRESH
        {
            return body.clone();
        }
        let mut overview = self.service().registry().overview();
        if let Some(names) = &self.glance.names {
            overview.name_all(&**names);
        }
        let body = serde_json::to_vec(&overview).expect("string keys and integers only");
        let body = Bytes::from(body);
        *last = Some((now, body.clone()));
        body
    }
}

async fn overview(State(server): State<Server>) -> Response {
    json(server.glance())
}

async fn offer(
    State(server): State<Server>,
    Extension(Remote(from)): Extension<Remote>,
    Query(asked): Query<BTreeMap<String, String>>,
) -> Response {
    let Some(content) = asked.get("content") else {
        return error(StatusCode::BAD_REQUEST, "content: missing");
    };
    let now = (server.clock)();
    let word = |name: &str| asked.get(name).filter(|word| !word.is_empty()).cloned();
    let deal = Deal {
        packet: word("packet"),
        interval: word("interval"),
        seller: word("seller"),
        status: word("status"),
        ..Deal::default()
    };
    let offer = server.service().offer(now, from.ip(), content, &deal);
    match offer {
        Some(offer) => json(serde_json::to_vec(&offer).expect("string keys and integers only")),
        None => {
            let why = "no such channel";
            let body = serde_json::json!({ "error": why, "code": "no_such_channel" });
            (StatusCode::NOT_FOUND, axum::Json(body)).into_response()
        }
    }
}
