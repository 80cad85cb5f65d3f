//! Media going out: an endpoint opened for writing, fed chunk by chunk.
//!
//! Everything that can block is written by an operating system thread of its own, so that a stuck reader costs its
//! own queue and nothing else. Players over HTTP and Unix sockets are served by tasks, each from a queue of its own.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::datagram::{DatagramKind, DatagramWriter};
use super::descriptor::{Access, take_descriptor};
use super::endpoint::{Datagrams, Endpoint, HttpAddress};
use super::error::OpenError;
use super::hub::Hub;
use super::net;
use super::queue::{MediaOut, Offered, Queue};
use super::serve;
use super::tally::Tally;
use super::unix_socket::SocketFile;
use super::writer::{self, Rotate, Rotation};
use crate::io::value::Shown;

/// How an output is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputOptions {
    /// Replace an existing regular file instead of refusing it.
    pub overwrite: bool,
    /// Begin a new file now and then; file outputs only.
    pub rotate: Option<Rotate>,
    /// Ask the swarm to wait instead of dropping groups.
    pub blocking: bool,
    /// Bytes that may wait for one reader.
    pub queue_bytes: usize,
    /// Draws the sequence numbers, time stamp and source identifier that RTP starts from (RFC 3550 §5.1 wants them
    /// random).
    pub seed: u64,
}

impl Default for OutputOptions {
    fn default() -> Self {
        Self {
            overwrite: false,
            rotate: None,
            blocking: false,
            // Four seconds of 8 Mbit/s.
            queue_bytes: 4 << 20,
            seed: 0,
        }
    }
}

/// How an output ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// All that was queued is written.
    Finished,
    /// The reader has enough: a reason to stop cleanly.
    Closed,
    /// Writing failed: disk full, file system gone.
    Failed(Arc<io::Error>),
    /// [`Output::finish`] ran out of time; this many bytes were still queued.
    Abandoned {
        /// Bytes never written.
        bytes: usize,
    },
}

/// Running totals of one output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputTotals {
    /// Bytes written; for a server, taken into the stream it serves.
    pub bytes: u64,
    /// SHA-256 of these bytes.
    pub sha256: [u8; 32],
    /// Chunks that a slow reader did not get, over all readers.
    pub dropped_chunks: u64,
    /// Datagrams that the network refused.
    pub send_errors: u64,
    /// Bytes waiting.
    pub queued_bytes: usize,
    /// Readers served at this moment; 1 for everything that is no server.
    pub readers: usize,
}

/// What a writer tells about its progress.
#[derive(Debug)]
pub(super) struct Progress {
    tally: Mutex<Tally>,
    send_errors: Mutex<u64>,
    outcome: watch::Sender<Option<Outcome>>,
}

impl Progress {
    fn new() -> Self {
        Self {
            tally: Mutex::default(),
            send_errors: Mutex::default(),
            outcome: watch::Sender::new(None),
        }
    }

    /// Counts what was written.
    pub(super) fn add(&self, bytes: &[u8]) {
        lock(&self.tally).update(bytes);
    }

    pub(super) fn add_send_error(&self) {
        *lock(&self.send_errors) += 1;
    }

    /// The first outcome stays.
    pub(super) fn end(&self, outcome: Outcome) {
        self.outcome.send_if_modified(|current| {
            let is_first = current.is_none();
            current.get_or_insert(outcome);
            is_first
        });
    }

    /// The outcome of a writer that returned `result`.
    pub(super) fn end_with(&self, result: io::Result<()>) {
        self.end(match result {
            Ok(()) => Outcome::Finished,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                ) =>
            {
                Outcome::Closed
            }
            Err(error) => Outcome::Failed(Arc::new(error)),
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An open output.
///
/// Dropping it forgets what is queued; [`finish`](Self::finish) writes it.
#[derive(Debug)]
pub struct Output {
    way: Way,
    progress: Arc<Progress>,
    address: Option<SocketAddr>,
    /// The socket file this process made, removed when the output is dropped.
    _socket_file: Option<SocketFile>,
}

/// Who takes what is offered.
#[derive(Debug)]
enum Way {
    /// A thread.
    Thread(Arc<Queue>),
    /// A server and its task.
    Server(Arc<Hub>, AbortHandle),
}

impl Drop for Output {
    fn drop(&mut self) {
        match &self.way {
            Way::Thread(queue) => queue.stop(),
            Way::Server(_, task) => task.abort(),
        }
    }
}

impl Output {
    /// Opens an endpoint for writing.
    ///
    /// A regular file that exists is refused unless told otherwise; FIFOs and devices are written as they are. A FIFO
    /// is opened in the background, as opening waits for its reader.
    ///
    /// # Errors
    ///
    /// [`OpenError`], with what was tried and why it failed.
    pub async fn open(endpoint: &Endpoint, options: &OutputOptions) -> Result<Self, OpenError> {
        let unfit = |why| {
            Err(OpenError::Unfit {
                endpoint: endpoint.clone(),
                why,
            })
        };
        if options.rotate.is_some() && !matches!(endpoint, Endpoint::File(_)) {
            return unfit("only files can be rotated");
        }
        match endpoint {
            Endpoint::Standard => {
                let stdout = io::stdout();
                if stdout.is_terminal() {
                    return Err(OpenError::WriteTerminal);
                }
                let file = stdout
                    .as_fd()
                    .try_clone_to_owned()
                    .map_err(OpenError::io("open", "standard output".to_owned()))?;
                Self::write_stream(options, move || Ok(File::from(file)))
            }
            Endpoint::Descriptor(number) => {
                let file = take_descriptor(*number, Access::Write)
                    .map_err(OpenError::io("open", endpoint.to_string()))?;
                Self::write_stream(options, move || Ok(File::from(file)))
            }
            Endpoint::File(path) => Self::open_file(path, options),
            Endpoint::Udp(datagrams) => {
                Self::open_datagrams(datagrams, DatagramKind::Plain, options).await
            }
            Endpoint::Rtp(datagrams) => {
                let kind = DatagramKind::rtp(options.seed);
                Self::open_datagrams(datagrams, kind, options).await
            }
            Endpoint::Unix(path) => Self::open_unix(path, options).await,
            Endpoint::Http(address) => Self::open_http(address, options).await,
        }
    }

    /// Offers a chunk; never waits.
    pub fn offer(&self, chunk: MediaOut) -> Offered {
        match &self.way {
            Way::Thread(queue) => queue.offer(chunk),
            Way::Server(hub, ..) => {
                let bytes = chunk.bytes.clone();
                let offered = hub.offer(chunk);
                if offered == Offered::Queued {
                    self.progress.add(&bytes);
                }
                offered
            }
        }
    }

    /// Whether the queue is full: with back-pressure, a reason to offer nothing yet.
    pub fn is_full(&self) -> bool {
        match &self.way {
            Way::Thread(queue) => queue.is_full(),
            Way::Server(hub, ..) => hub.is_full(),
        }
    }

    /// Waits until half the queue is free, or the output has ended.
    pub async fn ready(&self) {
        match &self.way {
            Way::Thread(queue) => queue.ready().await,
            Way::Server(hub, ..) => hub.ready().await,
        }
    }

    /// Where a server listens.
    pub const fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// What was written so far.
    pub fn totals(&self) -> OutputTotals {
        let (dropped_chunks, queued_bytes, readers) = match &self.way {
            Way::Thread(queue) => (queue.dropped_chunks(), queue.queued_bytes(), 1),
            Way::Server(hub, ..) => (hub.dropped_chunks(), hub.queued_bytes(), hub.readers()),
        };
        let tally = lock(&self.progress.tally).clone();
        OutputTotals {
            bytes: tally.bytes(),
            sha256: tally.sha256(),
            dropped_chunks,
            send_errors: *lock(&self.progress.send_errors),
            queued_bytes,
            readers,
        }
    }

    /// How it ended, if it has.
    pub fn outcome(&self) -> Option<Outcome> {
        self.progress.outcome.borrow().clone()
    }

    /// Waits for the end: a reader that closed, a disk that is full. Cancel-safe.
    pub async fn ended(&self) -> Outcome {
        let mut outcome = self.progress.outcome.subscribe();
        let found = outcome.wait_for(Option::is_some).await;
        found
            .ok()
            .and_then(|found| found.clone())
            .expect("the sender lives in self and the value was waited for")
    }

    /// Writes what is queued, for at most `limit`, and ends the output.
    pub async fn finish(&self, limit: Duration) -> Outcome {
        match &self.way {
            Way::Thread(queue) => queue.close(),
            Way::Server(hub, ..) => hub.close(),
        }
        if let Ok(outcome) = tokio::time::timeout(limit, self.ended()).await {
            return outcome;
        }
        let bytes = match &self.way {
            Way::Thread(queue) => {
                let bytes = queue.queued_bytes();
                queue.stop();
                bytes
            }
            Way::Server(hub, task) => {
                task.abort();
                hub.queued_bytes()
            }
        };
        self.progress.end(Outcome::Abandoned { bytes });
        self.ended().await
    }

    /// Whether a file of this name could be made now: it is not there, and its directory is.
    ///
    /// # Errors
    ///
    /// That it is there, or its directory is not.
    pub fn check_new_file(path: &Path) -> Result<(), OpenError> {
        let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
        let why = if fs::symlink_metadata(path).is_ok() {
            libc::EEXIST
        } else if folder.is_some_and(|folder| !folder.is_dir()) {
            libc::ENOENT
        } else {
            return Ok(());
        };
        let shown = Shown::new(&path.to_string_lossy()).to_string();
        Err(OpenError::io("open", shown)(io::Error::from_raw_os_error(
            why,
        )))
    }

    /// Writes all that is offered to an open file, from where it stands on.
    ///
    /// # Errors
    ///
    /// When there can be no thread for it.
    pub fn to_file(file: File) -> io::Result<Self> {
        let options = OutputOptions {
            blocking: true,
            ..OutputOptions::default()
        };
        Self::write_stream(&options, move || Ok(file)).map_err(io::Error::other)
    }

    fn open_file(path: &Path, options: &OutputOptions) -> Result<Self, OpenError> {
        let cannot =
            |error| OpenError::io("open", Shown::new(&path.to_string_lossy()).to_string())(error);
        if let Some(rotate) = options.rotate {
            let mut rotation = Rotation::new(path.to_owned(), rotate, options.overwrite);
            let first = rotation.next_file().map_err(cannot)?;
            return Self::spawn(options, move |queue, progress| {
                writer::write_files(queue, progress, first, Some(rotation))
            });
        }
        let special = fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir());
        let is_fifo = special && fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo());
        if is_fifo {
            let path = path.to_owned();
            return Self::write_stream(options, move || OpenOptions::new().write(true).open(path));
        }
        let file = if special {
            OpenOptions::new().write(true).open(path)
        } else {
            writer::create(path, options.overwrite)
        };
        let file = file.map_err(cannot)?;
        Self::write_stream(options, move || Ok(file))
    }

    async fn open_datagrams(
        datagrams: &Datagrams,
        kind: DatagramKind,
        options: &OutputOptions,
    ) -> Result<Self, OpenError> {
        let unfit = |why| OpenError::Unfit {
            endpoint: match &kind {
                DatagramKind::Plain => Endpoint::Udp(Box::new(datagrams.clone())),
                DatagramKind::Rtp(_) => Endpoint::Rtp(Box::new(datagrams.clone())),
            },
            why,
        };
        if datagrams.port == 0 {
            return Err(unfit("an output needs a port"));
        }
        if datagrams.options.timeout.is_some() {
            return Err(unfit("timeout is for inputs"));
        }
        if !datagrams.options.sources.is_empty() {
            return Err(unfit("source is for inputs"));
        }
        let Some(address) = net::resolve(&datagrams.host).await? else {
            return Err(unfit("an output needs a host"));
        };
        let socket = net::sender(datagrams, address)?;
        let mut writer = DatagramWriter::new(socket, kind, &datagrams.options);
        Self::spawn(options, move |queue, progress| writer.run(queue, progress))
    }

    async fn open_unix(path: &Path, options: &OutputOptions) -> Result<Self, OpenError> {
        match UnixStream::connect(path) {
            Ok(stream) => {
                Self::write_stream(options, move || Ok(File::from(OwnedFd::from(stream))))
            }
            Err(error) => {
                let (listener, socket_file) = SocketFile::listen(path, error)?;
                Ok(Self::serve(options, Some(socket_file), |hub| {
                    serve::unix(listener, hub)
                }))
            }
        }
    }

    async fn open_http(address: &HttpAddress, options: &OutputOptions) -> Result<Self, OpenError> {
        let ip = net::resolve(&address.host).await?;
        let bind = |port| net::listener(ip, port).and_then(TcpListener::from_std);
        let port = address.port.unwrap_or(HttpAddress::PORT_DEFAULT);
        let listener = match bind(port) {
            // Not asked for by name: several players share a host.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && address.port.is_none() => {
                bind(0)
            }
            other => other,
        };
        let shown = format!("{}:{port}", address.host);
        let listener = listener.map_err(OpenError::io("bind", shown))?;
        let local = listener.local_addr().ok();
        let mut output = Self::serve(options, None, |hub| serve::http(listener, hub));
        output.address = local;
        Ok(output)
    }

    fn serve<S: Future<Output = ()> + Send + 'static>(
        options: &OutputOptions,
        socket_file: Option<SocketFile>,
        serve: impl FnOnce(Arc<Hub>) -> S,
    ) -> Self {
        let hub = Arc::new(Hub::new(options.queue_bytes, options.blocking));
        let progress = Arc::new(Progress::new());
        let server = serve(hub.clone());
        let ended = progress.clone();
        let task = tokio::spawn(async move {
            server.await;
            ended.end(Outcome::Finished);
        });
        Self {
            way: Way::Server(hub, task.abort_handle()),
            progress,
            address: None,
            _socket_file: socket_file,
        }
    }

    fn write_stream(
        options: &OutputOptions,
        open: impl FnOnce() -> io::Result<File> + Send + 'static,
    ) -> Result<Self, OpenError> {
        Self::spawn(options, move |queue, progress| {
            writer::write_files(queue, progress, open()?, None)
        })
    }

    fn spawn(
        options: &OutputOptions,
        write: impl FnOnce(&Queue, &Progress) -> io::Result<()> + Send + 'static,
    ) -> Result<Self, OpenError> {
        let queue = Arc::new(Queue::new(options.queue_bytes, options.blocking));
        let progress = Arc::new(Progress::new());
        let output = Self {
            way: Way::Thread(queue.clone()),
            progress: progress.clone(),
            address: None,
            _socket_file: None,
        };
        thread::Builder::new()
            .name("media-output".to_owned())
            .spawn(move || {
                let result = write(&queue, &progress);
                // In this order: who hears of the end finds nothing taken any more.
                queue.stop();
                progress.end_with(result);
            })
            .map_err(OpenError::io("start", "a writer thread".to_owned()))?;
        Ok(output)
    }
}
