//! The provider's API over HTTP: every call as `POST /v1/NAME` with a JSON object, the reading ones also as
//! `GET /v1/NAME?content=film`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Path, Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ORIGIN};
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode};
use axum::response::Response;
use serde_json::Value;

use super::traffic::Traffic;
use super::{Remote, Server, error};
use crate::tracker::provider::api::{CALLS, Params, is_reading};
use crate::tracker::service::read_params;

/// Most parameters of one call.
const PARAMS_MAX: usize = 32;

/// Longest name or value of a parameter in an address, in bytes.
const PARAM_BYTES_MAX: usize = 256;

/// A reading call.
pub(super) async fn get(
    State(server): State<Server>,
    Extension(Remote(from)): Extension<Remote>,
    Path(name): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    if !is_reading(&name) && CALLS.contains(&name.as_str()) {
        return error(StatusCode::METHOD_NOT_ALLOWED, "need POST");
    }
    let is_long = |(name, value): (&String, &String)| {
        name.len() > PARAM_BYTES_MAX || value.len() > PARAM_BYTES_MAX
    };
    if query.len() > PARAMS_MAX || query.iter().any(is_long) {
        return error(StatusCode::BAD_REQUEST, "too many or too long parameters");
    }
    let mut params: Params = query
        .into_iter()
        .map(|(name, value)| (name, Value::String(value)))
        .collect();
    let is_operator = server.operator.is_at(from, &headers);
    if let Some(session) = server.operator.session(&headers, is_operator) {
        params.insert("session".to_owned(), session.into());
    }
    call(&server, &name, params, is_operator).await
}

/// Any call.
pub(super) async fn post(
    State(server): State<Server>,
    Extension(Remote(from)): Extension<Remote>,
    Extension(traffic): Extension<Arc<Traffic>>,
    Path(name): Path<String>,
    request: Request<Body>,
) -> Response {
    // No tool sends one: a web page in somebody's browser must not contract in his name (S-52).
    if request.headers().contains_key(ORIGIN) {
        return error(StatusCode::FORBIDDEN, "requests of web pages are not taken");
    }
    // Reading is open to the operator by GET; a POST is somebody's own business and shows his session.
    let is_operator = server.operator.is_at(from, request.headers()) && is_reading(&name);
    let body = match server.body(request, &traffic).await {
        Ok(body) => body,
        Err(refusal) => return *refusal,
    };
    match read_params(&body) {
        Ok(params) => {
            let is_operator = is_operator && !params.contains_key("session");
            call(&server, &name, params, is_operator).await
        }
        Err(why) => error(StatusCode::BAD_REQUEST, &why),
    }
}

async fn call(server: &Server, name: &str, params: Params, trusted: bool) -> Response {
    let mut response = server
        .answer(|service, now| service.handle_call(now, name, &params, trusted))
        .await;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
