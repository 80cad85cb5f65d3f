//! The tracker's HTTP server: PPSTP on any path, health, metrics, the list of channels.
//!
//! Strangers connect here, so everything has an end: header and body in bytes and in seconds, idle connections,
//! connections of one address and of all (S-40). The registry answers; this file only carries.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::header::{CONNECTION, CONTENT_TYPE, ORIGIN};
use axum::http::{HeaderValue, Method, Request, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::body::Body as _;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant as TokioInstant, sleep, sleep_until, timeout};

use crate::time::Instant;
use crate::tracker::address::{Scope, scope};
use crate::tracker::message;
use crate::tracker::placement::Overview;
use crate::tracker::registry::Stats;
use crate::tracker::service::Service;

mod answer;
mod api;
mod body;
mod documents;
mod guard;
mod hooks;
mod metrics;
mod operator;
mod orders;
mod page;
mod slots;
mod tls;
mod traffic;

pub use answer::{Agreed, Agreer, Keeper, Kept};
pub use operator::Operator;
pub use page::Names;
pub use slots::make_room;
pub use tls::{Identity, TlsError};

use body::{BodyError, read_body};
use documents::{channel, channels, clusters, healthz, metrics, readyz};
use guard::IsLocal;
use page::Glance;
use slots::{Open, Slot};
use tls::Conversation;
use traffic::{Traffic, Watched};

/// Pause after an accept that failed, for want of descriptors as a rule: those who are served go on meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often what expired is forgotten when nobody asks.
const TICK: Duration = Duration::from_secs(1);

/// How long connections may go on after the server was asked to stop.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(500);

/// What the server takes from strangers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Header of one request, in bytes; hyper wants at least 8192.
    pub header_bytes_max: usize,
    /// Body of one request, in bytes.
    pub body_bytes_max: usize,
    /// Time for a header, and between two requests on one connection.
    pub header_timeout: Duration,
    /// Time for a body.
    pub body_timeout: Duration,
    /// Time in which no byte moves.
    pub idle_timeout: Duration,
    /// Connections of one IPv4 address, or IPv6 /64.
    pub connections_per_address: usize,
    /// Connections in all.
    pub connections_max: usize,
    /// How long an answer may wait for a payment, or for other trackers to agree.
    pub payment_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            header_bytes_max: 8192,
            body_bytes_max: message::BODY_BYTES_MAX,
            header_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            connections_per_address: 64,
            connections_max: 8192,
            payment_timeout: Duration::from_secs(20),
        }
    }
}

/// What happened below PPSTP; counters only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HttpStats {
    /// Connections accepted.
    pub connections_total: u64,
    /// Connections closed at once because there were too many.
    pub refused_total: u64,
    /// Connections closed to make room, because they had owed a request for longest.
    pub called_off_total: u64,
    /// Headers and bodies that did not come in time.
    pub timeouts_total: u64,
    /// Bodies that were too long.
    pub oversized_total: u64,
    /// Accepts that failed.
    pub accept_errors_total: u64,
    /// Connections open now.
    pub connections: u64,
}

#[derive(Debug, Default)]
struct Counters {
    connections: AtomicU64,
    refused: AtomicU64,
    called_off: AtomicU64,
    timeouts: AtomicU64,
    oversized: AtomicU64,
    accept_errors: AtomicU64,
}

/// Payment commands that run at a time.
pub const PAYMENTS_MAX: usize = 8;

/// Gives the time; the shell's clock, or a test's.
type Clock = Arc<dyn Fn() -> Instant + Send + Sync>;

/// One tracker behind HTTP. Clones are the same tracker.
#[derive(Clone)]
pub struct Server {
    service: Arc<Mutex<Service>>,
    keeper: Keeper,
    agreer: Agreer,
    /// Whether it was said that nothing is agreed on.
    is_alone: Arc<AtomicBool>,
    /// Counts payments that were made or refused, and changes that were agreed on or not.
    settled: Arc<watch::Sender<u64>>,
    /// Payments that may still be begun.
    tills: Arc<Semaphore>,
    clock: Clock,
    options: Options,
    counters: Arc<Counters>,
    open: Arc<Mutex<Open>>,
    is_stopping: Arc<AtomicBool>,
    identity: Option<Identity>,
    glance: Glance,
    operator: Operator,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// Binds the tracker's TCP socket, on loopback or, when told that plain HTTP is fine, anywhere.
///
/// # Errors
///
/// The system's error, or [`io::ErrorKind::PermissionDenied`] with a line that says what to do for an address that
/// others can reach.
pub async fn bind(addr: SocketAddr, insecure_http: bool) -> io::Result<TcpListener> {
    if scope(addr.ip()) != Scope::Loopback && !insecure_http {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "plain HTTP on {addr} can be read and changed on its way: give --tls-cert and --tls-key, or \
                 --insecure-http"
            ),
        ));
    }
    TcpListener::bind(addr).await
}

/// Serves `service` on `listener` with the default [`Options`] until `shutdown` completes.
pub async fn serve(
    listener: TcpListener,
    service: Arc<Mutex<Service>>,
    clock: impl Fn() -> Instant + Send + Sync + 'static,
    shutdown: impl Future<Output = ()>,
) {
    Server::new(service, clock).serve(listener, shutdown).await;
}

impl Server {
    /// A server for a tracker, with the default [`Options`], that keeps nothing.
    pub fn new(
        service: Arc<Mutex<Service>>,
        clock: impl Fn() -> Instant + Send + Sync + 'static,
    ) -> Self {
        Self {
            service,
            keeper: Arc::new(|_| Box::pin(std::future::ready(Ok(())))),
            agreer: Arc::new(|change| Box::pin(std::future::ready(Ok(change)))),
            is_alone: Arc::default(),
            settled: Arc::new(watch::Sender::new(0)),
            tills: Arc::new(Semaphore::new(PAYMENTS_MAX)),
            clock: Arc::new(clock),
            options: Options::default(),
            counters: Arc::default(),
            open: Arc::default(),
            is_stopping: Arc::default(),
            identity: None,
            glance: Glance::default(),
            operator: Operator::default(),
        }
    }

    /// The same server with other limits.
    pub fn with_options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// The same server, making durable what must be before it answers.
    pub fn with_keeper(mut self, keeper: Keeper) -> Self {
        self.keeper = keeper;
        self
    }

    /// The same server, asking a store that other trackers share for what they have to agree on.
    pub fn with_agreer(mut self, agreer: Agreer) -> Self {
        self.agreer = agreer;
        self
    }

    /// The same server behind TLS.
    pub fn with_identity(mut self, identity: Option<Identity>) -> Self {
        self.identity = identity;
        self
    }

    /// The same server, with an operator who is known by other means.
    pub fn with_operator(mut self, operator: Operator) -> Self {
        self.operator = operator;
        self
    }

    /// What the registry counts, after forgetting what expired.
    pub fn stats(&self) -> Stats {
        self.service().stats()
    }

    /// Clusters and their load.
    pub fn overview(&self) -> Overview {
        let now = (self.clock)();
        self.service().registry().clusters(now)
    }

    /// What the server counts below PPSTP.
    pub fn http_stats(&self) -> HttpStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        HttpStats {
            connections_total: read(&self.counters.connections),
            refused_total: read(&self.counters.refused),
            called_off_total: read(&self.counters.called_off),
            timeouts_total: read(&self.counters.timeouts),
            oversized_total: read(&self.counters.oversized),
            accept_errors_total: read(&self.counters.accept_errors),
            connections: lock(&self.open).total() as u64,
        }
    }

    /// Serves until `shutdown` completes; then takes no more connections and lets the open ones end, half a second
    /// at most.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let is_loopback = |local: SocketAddr| scope(local.ip()) == Scope::Loopback;
        let is_local = IsLocal(listener.local_addr().is_ok_and(is_loopback));
        let app = self.clone().router(is_local);
        let (stop, stopped) = watch::channel(());
        let mut connections = JoinSet::new();
        let mut tick = tokio::time::interval(TICK);
        let mut is_failing = false;
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some(_) = connections.join_next() => {}
                _ = tick.tick() => self.tick(),
                accepted = listener.accept() => match accepted {
                    Ok((stream, from)) => {
                        is_failing = false;
                        if let Some(slot) = self.admit(&stream, from) {
                            let (server, app, stopped) = (self.clone(), app.clone(), stopped.clone());
                            connections.spawn(async move {
                                server.connection(stream, from, slot, app, stopped).await;
                            });
                        }
                    }
                    Err(error) => {
                        count(&self.counters.accept_errors);
                        if !std::mem::replace(&mut is_failing, true) {
                            tracing::warn!("cannot accept connections: {error}");
                        }
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        self.is_stopping.store(true, Ordering::Relaxed);
        drop(listener);
        drop(stop);
        let drained = timeout(SHUTDOWN_GRACE, async {
            while connections.join_next().await.is_some() {}
        });
        if drained.await.is_err() {
            connections.shutdown().await;
        }
    }

    /// The tracker, with everything forgotten that expired by now.
    fn service(&self) -> MutexGuard<'_, Service> {
        let mut service = lock(&self.service);
        let changes = service.handle_timeout((self.clock)());
        if !changes.is_empty() {
            // Nobody waits for it; the store says itself when it cannot.
            tokio::spawn((self.keeper)(changes));
        }
        tell(&mut service);
        service
    }

    /// The body of a request, or the answer to one that is too long, too slow or cut short.
    async fn body(
        &self,
        request: Request<Body>,
        traffic: &Traffic,
    ) -> Result<Vec<u8>, Box<Response>> {
        let refusal = match read_body(&self.options, request).await {
            Ok(body) => {
                traffic.request_is_read();
                return Ok(body);
            }
            Err(BodyError::TooLong) => {
                count(&self.counters.oversized);
                let why = format!("request body over {} bytes", self.options.body_bytes_max);
                error(StatusCode::PAYLOAD_TOO_LARGE, &why)
            }
            Err(BodyError::TooSlow) => {
                count(&self.counters.timeouts);
                let why = "request body did not come in time";
                error(StatusCode::REQUEST_TIMEOUT, why)
            }
            Err(BodyError::Broken) => error(StatusCode::BAD_REQUEST, "request body cut short"),
        };
        Err(Box::new(closing(refusal)))
    }

    async fn connection(
        &self,
        stream: TcpStream,
        from: SocketAddr,
        slot: Slot,
        app: Router,
        mut stopped: watch::Receiver<()>,
    ) {
        // An answer is one segment; there is nothing to gather.
        let _ = stream.set_nodelay(true);
        let traffic = Arc::new(Traffic::new(slot));
        let watched = Watched {
            stream,
            traffic: Arc::clone(&traffic),
        };
        let conversation = Conversation::new(watched, self.identity.as_ref());
        let app = TowerToHyperService::new(app);
        let service = service_fn({
            let traffic = Arc::clone(&traffic);
            move |mut request: Request<hyper::body::Incoming>| {
                traffic.header_is_read(!request.body().is_end_stream());
                request.extensions_mut().insert(Remote(from));
                request.extensions_mut().insert(Arc::clone(&traffic));
                let (answering, traffic) = (app.call(request), Arc::clone(&traffic));
                async move {
                    let answer = answering.await;
                    traffic.slot().is_answered();
                    answer
                }
            }
        });
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.options.header_timeout)
            .max_buf_size(self.options.header_bytes_max)
            .serve_connection(TokioIo::new(conversation), service);
        let mut is_stopping = false;
        let result = loop {
            let idle_at = traffic.last() + self.options.idle_timeout;
            tokio::select! {
                result = &mut connection => break Some(result),
                () = traffic.slot().called_off() => break None,
                _ = stopped.changed(), if !is_stopping => {
                    is_stopping = true;
                    std::pin::Pin::new(&mut connection).graceful_shutdown();
                }
                () = sleep_until(idle_at) => {
                    if traffic.last() + self.options.idle_timeout <= TokioInstant::now() {
                        count(&self.counters.timeouts);
                        return;
                    }
                }
            }
        };
        // hyper ends a connection whose header does not come without a word; whoever sent half of one gets one.
        let (status, why) = match result {
            Some(Err(error)) if error.is_timeout() => (
                StatusCode::REQUEST_TIMEOUT,
                "request header did not come in time",
            ),
            // As for who is not let in.
            None if self.identity.is_none() => {
                (StatusCode::SERVICE_UNAVAILABLE, "too many connections")
            }
            _ => return,
        };
        let mut conversation = connection.into_parts().io.into_inner();
        if traffic.is_inside_request() || conversation.is_handshaking() {
            if status == StatusCode::REQUEST_TIMEOUT {
                count(&self.counters.timeouts);
            }
            conversation.say(answer(status, why).as_bytes()).await;
        }
    }

    fn router(self, is_local: IsLocal) -> Router {
        Router::new()
            .route("/healthz", get(healthz).fallback(ppstp))
            .route("/readyz", get(readyz).fallback(ppstp))
            .route("/metrics", get(metrics).fallback(ppstp))
            .route("/v1/clusters", get(clusters).fallback(ppstp))
            .route("/v1/channels", get(channels).fallback(ppstp))
            .route("/v1/channels/{name}", get(channel).fallback(ppstp))
            .route("/v1/{name}", get(api::get).post(api::post))
            .merge(page::router())
            .fallback(ppstp)
            .layer(from_fn_with_state(is_local, guard::check))
            .with_state(self)
    }
}

/// The other end of the connection that a request came on.
#[derive(Clone, Copy)]
struct Remote(SocketAddr);

/// PPSTP: POST on any path (RFC 7846 gives paths no meaning).
async fn ppstp(
    State(server): State<Server>,
    Extension(Remote(from)): Extension<Remote>,
    Extension(traffic): Extension<Arc<Traffic>>,
    request: Request<Body>,
) -> Response {
    if request.method() != Method::POST {
        return match request.method() {
            &Method::GET | &Method::HEAD => error(StatusCode::NOT_FOUND, "no such document"),
            _ => error(StatusCode::METHOD_NOT_ALLOWED, "need POST"),
        };
    }
    // No tool sends one: a web page in somebody's browser must not announce in his name (S-52).
    if request.headers().contains_key(ORIGIN) {
        return error(StatusCode::FORBIDDEN, "requests of web pages are not taken");
    }
    let body = match server.body(request, &traffic).await {
        Ok(body) => body,
        Err(refusal) => return *refusal,
    };
    let mut response = server
        .answer(|service, now| service.handle_body(now, from, &body))
        .await;
    let kind = match response.status() {
        StatusCode::OK => message::CONTENT_TYPE,
        _ => "application/json",
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// An error that is none of PPSTP: `{"error":"…"}`.
fn error(status: StatusCode, why: &str) -> Response {
    (status, axum::Json(serde_json::json!({ "error": why }))).into_response()
}

fn closing(mut response: Response) -> Response {
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Writes a short error where hyper does not, as far as the socket takes it; the connection is closed afterwards.
fn say(stream: &TcpStream, status: StatusCode, why: &str) {
    let _ = stream.try_write(answer(status, why).as_bytes());
}

/// A short error as it goes over the wire.
fn answer(status: StatusCode, why: &str) -> String {
    let body = serde_json::json!({ "error": why }).to_string();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// A lock whose data is whole even if a holder panicked: every change below it is one call into the registry.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Logs what the placement decided.
fn tell(service: &mut Service) {
    while let Some(line) = service.poll_log() {
        tracing::info!("{line}");
    }
}
