//! Serves a [`Hub`] to players: over HTTP, or plainly over a Unix socket.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use http_body::Frame;
use hyper::server::conn::http1::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::hub::{Hub, Reader};

/// Connections at once, those that have not asked for anything yet included.
const CONNECTIONS_MAX: usize = 256;
/// How long a client may take to send its request.
const REQUEST_TIME: Duration = Duration::from_secs(10);
/// Pause after a failed accept: out of descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// After this silence a vanished client is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Serves players over HTTP until the stream has ended and all have got the rest.
///
/// `GET /` is the stream from its newest entry point on, `HEAD /` its headers. Anything else is refused; a Range header
/// is ignored, as RFC 9110 §14.2 allows.
pub(super) async fn http(listener: TcpListener, hub: Arc<Hub>) {
    let router = Router::new()
        .route("/", get(stream))
        .with_state(hub.clone());
    accept(
        hub,
        |context| listener.poll_accept(context).map_ok(|(stream, _)| stream),
        |stream, hub| serve_http(stream, router.clone(), hub),
    )
    .await;
}

/// Serves whoever connects to a Unix socket until the stream has ended and all have got the rest.
pub(super) async fn unix(listener: UnixListener, hub: Arc<Hub>) {
    accept(
        hub,
        |context| listener.poll_accept(context).map_ok(|(stream, _)| stream),
        serve_unix,
    )
    .await;
}

async fn accept<S, C>(
    hub: Arc<Hub>,
    next: impl Fn(&mut Context<'_>) -> Poll<io::Result<S>>,
    serve: impl Fn(S, Arc<Hub>) -> C,
) where
    C: Future<Output = ()> + Send + 'static,
{
    let mut closed = hub.closed();
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            // Waiting fails only without a hub, and we hold one.
            _ = closed.wait_for(|closed| *closed) => break,
            accepted = poll_fn(&next) => accepted,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            // One too many is closed: it learns at once, and the others are served.
            Ok(stream) if connections.len() < CONNECTIONS_MAX => {
                connections.spawn(serve(stream, hub.clone()));
            }
            Ok(_) => {}
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
    while connections.join_next().await.is_some() {}
}

async fn serve_http(stream: TcpStream, router: Router, hub: Arc<Hub>) {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE);
    // Both only make things better; without them things work too.
    let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
    let _ = stream.set_nodelay(true);
    let mut builder = Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIME)
        .keep_alive(false);
    let service = TowerToHyperService::new(router);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let mut closed = hub.closed();
    let is_over = tokio::select! {
        _ = connection.as_mut() => true,
        _ = closed.wait_for(|closed| *closed) => false,
    };
    if !is_over {
        // Ends at once what has not asked for anything; a player gets the rest of the stream.
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}

async fn serve_unix(mut stream: UnixStream, hub: Arc<Hub>) {
    let Some(reader) = hub.join() else {
        return;
    };
    while let Some(bytes) = reader.next().await {
        if stream.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

async fn stream(State(hub): State<Arc<Hub>>, method: Method) -> Response {
    let kind = match hub.is_transport_stream() {
        Some(false) => "application/octet-stream",
        // Before the first chunk too: it is what players expect.
        Some(true) | None => "video/mp2t",
    };
    let reader = if method == Method::HEAD {
        None
    } else {
        match hub.join() {
            Some(reader) => Some(reader),
            None => return (StatusCode::SERVICE_UNAVAILABLE, "too many players\n").into_response(),
        }
    };
    let mut response = Response::new(Body::new(Stream(reader)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("none"));
    response
}

/// A body of unknown length; nothing for `HEAD`.
struct Stream(Option<Reader>);

impl http_body::Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &self.0 {
            Some(reader) => reader
                .poll_next(context)
                .map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes)))),
            None => Poll::Ready(None),
        }
    }
}
