//! HTTP: the tracker's server ([`server`]), and the few requests that the other tools make.
//!
//! The client blocks in a thread of its own (`spawn_blocking`); the loop that moves media never waits for it. `http`
//! and `https` URLs are spoken, the latter with the certificate authorities of the Mozilla list and those that [`trust`] adds.

use std::io::ErrorKind;
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;

use rustls::CertificateError;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider};

use super::media::is_unknown_name;
use crate::tracker::message::{CONTENT_TYPE, RESPONSE_BYTES_MAX};

pub mod server;

/// TCP port of a tracker whose URL names none.
pub const TRACKER_PORT: u16 = 7851;

/// Why there is no answer; one line for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The URL is none that is spoken here.
    #[error("need http, https or host:port")]
    BadUrl,
    /// The host has no address.
    #[error("name not found")]
    NameNotFound,
    /// Nobody listens there.
    #[error("connection refused")]
    Refused,
    /// There was no answer in time.
    #[error("timed out after {}", humantime::format_duration(*.0))]
    TimedOut(Duration),
    /// The answer is longer than any of ours.
    #[error("answer over {0} bytes")]
    TooLong(usize),
    /// The other end is not who it should be.
    #[error("its certificate {0}")]
    Certificate(&'static str),
    /// The connection failed in another way.
    #[error("{0}")]
    Failed(String),
}

/// An answer, whatever its status: a body that can be read counts more than the status (RFC 7846 maps none).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Body, UTF-8; of a tracker's protocol at most [`RESPONSE_BYTES_MAX`] bytes.
    pub body: String,
}

/// The URL that a `--tracker` value means: `http://…` and `https://…` as they are, `HOST[:PORT]` with `http` and
/// port [`TRACKER_PORT`].
///
/// # Errors
///
/// [`HttpError::BadUrl`] for any other scheme, for a URL without a host, and for a port above 65535.
///
/// # Examples
///
/// ```
/// use p2ps::io::http::tracker_url;
///
/// assert_eq!(tracker_url("127.0.0.1").unwrap(), "http://127.0.0.1:7851/");
/// assert_eq!(tracker_url("[::1]:99").unwrap(), "http://[::1]:99/");
/// assert!(tracker_url("ftp://x").is_err());
/// ```
pub fn tracker_url(text: &str) -> Result<String, HttpError> {
    if text.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return Err(HttpError::BadUrl);
    }
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme @ ("http" | "https"), rest)) => (scheme, rest),
        Some(_) => return Err(HttpError::BadUrl),
        None => ("http", text),
    };
    let (authority, path) = match rest.find(['/', '?', '#']) {
        Some(end) => rest.split_at(end),
        None => (rest, "/"),
    };
    // Secrets do not belong into URLs, which end up in process lists and logs.
    if authority.contains('@') || !path.starts_with('/') {
        return Err(HttpError::BadUrl);
    }
    let (host, port) = match authority.rfind(']') {
        Some(end) if authority.starts_with('[') => authority.split_at(end + 1),
        Some(_) => return Err(HttpError::BadUrl),
        None => match authority.find(':') {
            Some(colon) => authority.split_at(colon),
            None => (authority, ""),
        },
    };
    let port = match (port.strip_prefix(':'), scheme) {
        (Some(port), _) => port.parse().map_err(|_| HttpError::BadUrl)?,
        (None, "http") if !text.contains("://") => TRACKER_PORT,
        (None, "http") => 80,
        (None, _) => 443,
    };
    if host.is_empty() || (host.starts_with('[') && host.len() < 4) {
        return Err(HttpError::BadUrl);
    }
    Ok(format!("{scheme}://{host}:{port}{path}"))
}

/// Posts a PPSTP body and waits for the answer, at most `timeout` for all of it.
///
/// # Errors
///
/// [`HttpError`] when there is no answer.
pub async fn post(url: String, body: String, timeout: Duration) -> Result<Answer, HttpError> {
    in_a_thread(timeout, move || {
        ask(|agent| {
            agent
                .post(&url)
                .config()
                .timeout_global(Some(timeout))
                .build()
                .content_type(CONTENT_TYPE)
                .header("Accept", CONTENT_TYPE)
                .send(&body)
        })
    })
    .await
}

/// Fetches a document, waiting at most `timeout` for all of it.
///
/// # Errors
///
/// [`HttpError`] when there is no answer.
pub async fn get(url: String, timeout: Duration) -> Result<Answer, HttpError> {
    in_a_thread(timeout, move || {
        ask(|agent| {
            agent
                .get(&url)
                .config()
                .timeout_global(Some(timeout))
                .build()
                .call()
        })
    })
    .await
}

/// Trusts certificates that these authorities (PEM) signed, beside those of the Mozilla list. For the whole process, and
/// before its first request: what is said later changes nothing.
///
/// # Errors
///
/// [`HttpError::Certificate`] when there is no certificate in it.
pub fn trust(authorities: &[u8]) -> Result<(), HttpError> {
    let found = certificates(authorities).ok_or(HttpError::Certificate("is missing"))?;
    let _ = OUR_AGENT.set(agent(RootCerts::new_with_certs(&found)));
    Ok(())
}

/// Whether there are certificates (PEM) in a text, and nothing that is damaged.
pub fn has_certificate(text: &[u8]) -> bool {
    certificates(text).is_some()
}

/// The certificates in a text; none where there are none, or one is damaged.
fn certificates(text: &[u8]) -> Option<Vec<Certificate<'static>>> {
    let found = ureq::tls::parse_pem(text)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(Some(certificate)),
            Ok(_) => None,
            Err(_) => Some(None),
        })
        .collect::<Option<Vec<_>>>()?;
    (!found.is_empty()).then_some(found)
}

/// Asks those that [`trust`] named and, where the certificate is of none of them, those of the Mozilla list: nothing of
/// a request was sent before the certificate was found good.
fn ask<F>(request: F) -> Result<ureq::http::Response<ureq::Body>, ureq::Error>
where
    F: Fn(&ureq::Agent) -> Result<ureq::http::Response<ureq::Body>, ureq::Error>,
{
    match OUR_AGENT.get().map(&request) {
        Some(Err(error)) if is_unknown_authority(&error) => request(&AGENT),
        Some(answer) => answer,
        None => request(&AGENT),
    }
}

/// What TLS found wrong, which ureq hands on inside an error of the connection.
fn tls_error(error: &ureq::Error) -> Option<&rustls::Error> {
    match error {
        ureq::Error::Rustls(error) => Some(error),
        ureq::Error::Io(error) => error.get_ref()?.downcast_ref(),
        _ => None,
    }
}

fn is_unknown_authority(error: &ureq::Error) -> bool {
    // Authorities of one name and different keys show as a signature that is wrong.
    matches!(
        tls_error(error),
        Some(rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature
        ))
    )
}

/// What is wrong with a certificate, in words for whoever can do something about it.
pub(super) fn certificate_fault(error: &CertificateError) -> &'static str {
    match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "is of an unknown authority: give --tls-ca"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "is for another name"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "is not valid yet"
        }
        _ => "is not valid",
    }
}

/// Trusts those that [`trust`] named.
static OUR_AGENT: OnceLock<ureq::Agent> = OnceLock::new();

/// Trusts the Mozilla list.
static AGENT: LazyLock<ureq::Agent> = LazyLock::new(|| agent(RootCerts::WebPki));

/// How long [`fetch`] waits for a document.
const FETCH_SPAN: Duration = Duration::from_secs(10);

/// Longest document that [`fetch`] takes: a table of a hundred thousand users.
const FETCH_BYTES_MAX: usize = 64 << 20;

/// Fetches a document and blocks until it is there, ten seconds at most; `token` shows the server who asks. For tools
/// that have nothing else to do meanwhile.
///
/// # Errors
///
/// [`HttpError`] when there is no answer.
pub fn fetch(url: &str, token: Option<&str>) -> Result<Answer, HttpError> {
    let answer = ask(|agent| {
        let mut request = agent
            .get(url)
            .config()
            .timeout_global(Some(FETCH_SPAN))
            .build();
        if let Some(token) = token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        request.call()
    })
    .and_then(|response| read_answer(response, FETCH_BYTES_MAX));
    answer.map_err(|error| explain(error, FETCH_SPAN, FETCH_BYTES_MAX))
}

/// Requests are seconds apart: no connection is kept for the next one. Redirects are not followed: a tracker that is
/// no longer ours must not choose where we connect to (S-46). Nor are proxies of the environment used: the tracker
/// hands out the address that we come from, and a proxy has no media.
fn agent(authorities: RootCerts) -> ureq::Agent {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ureq::Agent::config_builder()
        .user_agent(concat!("p2ps/", env!("CARGO_PKG_VERSION")))
        .http_status_as_error(false)
        .proxy(None)
        .max_redirects(0)
        .max_idle_connections(0)
        .tls_config(
            TlsConfig::builder()
                .provider(TlsProvider::Rustls)
                .root_certs(authorities)
                .unversioned_rustls_crypto_provider(provider)
                .build(),
        )
        .build()
        .into()
}

async fn in_a_thread<F>(timeout: Duration, request: F) -> Result<Answer, HttpError>
where
    F: FnOnce() -> Result<ureq::http::Response<ureq::Body>, ureq::Error> + Send + 'static,
{
    let blocking = tokio::task::spawn_blocking(move || {
        request().and_then(|response| read_answer(response, RESPONSE_BYTES_MAX))
    });
    match blocking.await {
        Ok(answer) => answer.map_err(|error| explain(error, timeout, RESPONSE_BYTES_MAX)),
        Err(error) => Err(HttpError::Failed(error.to_string())),
    }
}

fn read_answer(
    mut response: ureq::http::Response<ureq::Body>,
    bytes_max: usize,
) -> Result<Answer, ureq::Error> {
    Ok(Answer {
        status: response.status().as_u16(),
        body: response
            .body_mut()
            .with_config()
            .limit(bytes_max as u64)
            .read_to_string()?,
    })
}

fn explain(error: ureq::Error, timeout: Duration, bytes_max: usize) -> HttpError {
    match tls_error(&error) {
        Some(rustls::Error::InvalidCertificate(fault)) => {
            return HttpError::Certificate(certificate_fault(fault));
        }
        Some(fault) => return HttpError::Failed(format!("no tls: {fault}").to_lowercase()),
        None => {}
    }
    match error {
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => HttpError::BadUrl,
        ureq::Error::HostNotFound => HttpError::NameNotFound,
        ureq::Error::Timeout(_) => HttpError::TimedOut(timeout),
        ureq::Error::BodyExceedsLimit(_) => HttpError::TooLong(bytes_max),
        ureq::Error::Io(error) => match error.kind() {
            ErrorKind::ConnectionRefused => HttpError::Refused,
            ErrorKind::TimedOut | ErrorKind::WouldBlock => HttpError::TimedOut(timeout),
            _ if is_unknown_name(&error) => HttpError::NameNotFound,
            _ => HttpError::Failed(error.to_string().to_lowercase()),
        },
        other => HttpError::Failed(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tracker_values_and_what_they_mean() {
        for (text, url) in [
            ("127.0.0.1", "http://127.0.0.1:7851/"),
            ("t.example:99", "http://t.example:99/"),
            ("[2001:db8::1]", "http://[2001:db8::1]:7851/"),
            ("[::1]:99", "http://[::1]:99/"),
            ("http://t.example", "http://t.example:80/"),
            ("http://t.example:99/p2ps", "http://t.example:99/p2ps"),
            ("https://t.example/a?b=c", "https://t.example:443/a?b=c"),
        ] {
            assert_eq!(tracker_url(text).as_deref(), Ok(url), "{text}");
        }
        for text in [
            "",
            "ftp://x",
            "file:///etc/passwd",
            "http://",
            "http:///x",
            ":99",
            "t:99999",
            "t:x",
            "t:-1",
            "[::1",
            "[]",
            "a]b",
            "user:secret@t",
            "http://user@t/",
            "t example",
            "t\u{1b}",
            "t?x",
        ] {
            assert_eq!(tracker_url(text), Err(HttpError::BadUrl), "{text}");
        }
    }

    #[test]
    fn errors_are_one_line_each() {
        let timeout = Duration::from_secs(5);
        for (error, text) in [
            (ureq::Error::HostNotFound, "name not found"),
            (
                ureq::Error::Timeout(ureq::Timeout::Global),
                "timed out after 5s",
            ),
            (
                ureq::Error::Io(ErrorKind::ConnectionRefused.into()),
                "connection refused",
            ),
            (ureq::Error::BodyExceedsLimit(1), "answer over 262144 bytes"),
        ] {
            assert_eq!(
                explain(error, timeout, RESPONSE_BYTES_MAX).to_string(),
                text
            );
        }
    }
}
