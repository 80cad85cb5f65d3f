//! Who may speak to the tracker through somebody's browser: nobody but pages of its own (S-52).
//!
//! A name of an attacker's can be made to lead to 127.0.0.1 after his page was loaded (DNS rebinding); such a request
//! still names him as its host. So a tracker that only this machine can reach wants to be called by a name of this
//! machine; what name others know an open one by, it cannot know.

use std::net::IpAddr;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, Request, StatusCode};
use axum::middleware::Next;
use axum::response::Response;

use super::error;

/// Whether the listener is one that only this machine reaches.
#[derive(Clone, Copy, Debug)]
pub(super) struct IsLocal(pub(super) bool);

/// Lets a request through, or answers it.
pub(super) async fn check(
    State(IsLocal(is_local)): State<IsLocal>,
    request: Request<Body>,
    next: Next,
) -> Response {
    match refusal(request.headers(), is_local) {
        Some(why) => error(StatusCode::FORBIDDEN, why),
        None => next.run(request).await,
    }
}

/// Whether the tracker was called by a name of this machine. Browsers always name a host; only tools of old leave it out.
pub(super) fn is_called_local(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).map(|host| host.to_str().ok());
    host.is_none_or(|host| host.is_some_and(is_this_machine))
}

fn refusal(headers: &HeaderMap, is_local: bool) -> Option<&'static str> {
    let host = headers.get(HOST).map(|host| host.to_str().ok());
    if is_local && !is_called_local(headers) {
        return Some("host: this tracker serves its own machine, call it localhost");
    }
    // No tool sends an origin: a page of somebody else must not ask in the name of whoever looks at it.
    let origin = headers.get(ORIGIN)?;
    let authority = origin.to_str().ok().and_then(|text| text.split_once("://"));
    match (authority, host) {
        (Some((_, authority)), Some(Some(host))) if authority.eq_ignore_ascii_case(host) => None,
        _ => Some("requests of web pages are not taken"),
    }
}

/// Whether `HOST[:PORT]` is a name or address of this machine alone.
fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split(':').next().unwrap_or(host),
    };
    match name.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => name.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_52_hosts_and_origins() {
        for (host, origin, local, open) in [
            ("localhost:7851", "", true, true),
            ("LOCALHOST", "", true, true),
            ("127.0.0.1:7851", "", true, true),
            ("127.1.2.3", "", true, true),
            ("[::1]:7851", "", true, true),
            ("[::ffff:127.0.0.1]", "", true, true),
            ("", "", true, true),
            ("evil.example", "", false, true),
            ("evil.example:7851", "", false, true),
            ("127.0.0.1.evil.example", "", false, true),
            ("localhost.evil.example", "", false, true),
            ("192.168.1.7", "", false, true),
            ("[2001:db8::1]", "", false, true),
            ("0.0.0.0:7851", "", false, true),
            ("127.0.0.1:7851", "http://127.0.0.1:7851", true, true),
            ("127.0.0.1:7851", "http://evil.example", false, false),
            ("127.0.0.1:7851", "null", false, false),
            ("", "http://evil.example", false, false),
            ("evil.example", "http://evil.example", false, true),
            ("tracker.example", "https://evil.example", false, false),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in [(HOST, host), (ORIGIN, origin)] {
                if !value.is_empty() {
                    headers.insert(name, value.parse().expect("a header"));
                }
            }
            for (is_local, passes) in [(true, local), (false, open)] {
                let refusal = refusal(&headers, is_local);
                assert_eq!(refusal.is_none(), passes, "{host} {origin} {is_local}");
            }
        }
    }
}
