//! Who may read the books without a session: whoever shows the operator's token; where there is none, every process of
//! the machine itself (S-52).

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, FORWARDED};

use super::guard::is_called_local;
use crate::tracker::address::{Scope, scope};
use crate::tracker::message::Secret;

/// How the operator is known. Clones are the same; the default is by his machine.
#[derive(Clone, Default)]
pub struct Operator(Arc<RwLock<Option<Secret>>>);

impl fmt::Debug for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Operator(***)")
    }
}

impl Operator {
    /// Is known by this token from now on, and by nothing else.
    pub fn set_token(&self, token: Secret) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(token);
    }

    /// Whether a request is his.
    pub(super) fn is_at(&self, from: SocketAddr, headers: &HeaderMap) -> bool {
        let token = self.0.read().unwrap_or_else(PoisonError::into_inner);
        match &*token {
            Some(token) => shown(headers).is_some_and(|shown| {
                // How long it takes says nothing of how much is right.
                verify_slices_are_equal(shown.as_bytes(), token.reveal().as_bytes()).is_ok()
            }),
            None => is_of_this_machine(from, headers),
        }
    }

    /// The session in the header of a request, which stays out of addresses: those end up in logs. The operator's token
    /// is none.
    pub(super) fn session<'a>(&self, headers: &'a HeaderMap, is_his: bool) -> Option<&'a str> {
        let has_token = self.0.read().unwrap_or_else(PoisonError::into_inner);
        shown(headers).filter(|_| has_token.is_none() || !is_his)
    }
}

fn shown(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?;
    value.to_str().ok()?.strip_prefix("Bearer ")
}

/// Whether a request comes from the machine itself, and neither through a proxy on it nor from a page in its browser that
/// calls the machine by another name.
fn is_of_this_machine(from: SocketAddr, headers: &HeaderMap) -> bool {
    scope(from.ip().to_canonical()) == Scope::Loopback
        && is_called_local(headers)
        && !headers.contains_key("x-forwarded-for")
        && !headers.contains_key(FORWARDED)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn map(headers: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = headers.iter();
        let pairs =
            pairs.map(|(name, value)| ((*name).parse().unwrap(), HeaderValue::from_static(value)));
        pairs.collect()
    }

    #[test]
    fn s_52_the_operator_calls_his_machine_by_its_own_name() {
        for (from, headers, is_his) in [
            ("127.0.0.1:9", &[][..], true),
            ("127.0.0.1:9", &[("host", "localhost:7851")], true),
            ("[::1]:9", &[("host", "[::1]:7851")], true),
            ("[::ffff:127.0.0.1]:9", &[("host", "127.0.0.1")], true),
            ("192.0.2.1:9", &[("host", "localhost")], false),
            ("127.0.0.1:9", &[("host", "rebound.example:7851")], false),
            ("127.0.0.1:9", &[("x-forwarded-for", "192.0.2.1")], false),
            ("127.0.0.1:9", &[("forwarded", "for=192.0.2.1")], false),
        ] {
            let from: SocketAddr = from.parse().expect("an address");
            let is_at = Operator::default().is_at(from, &map(headers));
            assert_eq!(is_at, is_his, "{from} {headers:?}");
        }
    }

    #[test]
    fn s_52_with_a_token_nobody_else_is_the_operator() {
        let operator = Operator::default();
        let local: SocketAddr = "127.0.0.1:9".parse().expect("an address");
        let away: SocketAddr = "192.0.2.1:9".parse().expect("an address");
        let right = [("authorization", "Bearer s3cret")];
        // Without one it is the session of somebody.
        assert!(!operator.is_at(away, &map(&right)));
        assert_eq!(operator.session(&map(&right), true), Some("s3cret"));
        operator.set_token(Secret::new("s3cret").expect("a secret"));
        for (headers, is_his, session) in [
            (&right[..], true, None),
            (&[], false, None),
            (&[("authorization", "Bearer s3cre")], false, Some("s3cre")),
            (&[("authorization", "Bearer ")], false, Some("")),
            (&[("authorization", "Basic s3cret")], false, None),
            (&[("host", "localhost")], false, None),
        ] {
            let headers = map(headers);
            for from in [local, away] {
                assert_eq!(operator.is_at(from, &headers), is_his, "{headers:?}");
            }
            assert_eq!(operator.session(&headers, is_his), session, "{headers:?}");
        }
        assert!(!format!("{operator:?}").contains("s3cret"));
    }
}
