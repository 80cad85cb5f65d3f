//! Media coming in: an endpoint opened for reading, as blocks of bytes.
//!
//! Pipes that were handed over and datagrams are left in the kernel until the loop wants them. What can block without
//! telling (files, devices, FIFOs that wait for a writer) is read by a thread of its own, Unix sockets and RTP by a
//! task; both feed a short queue. So [`Input::next`] can be dropped and asked again at any time, and a swarm that is
//! too slow for its encoder makes the encoder wait (or the kernel drop datagrams), not memory grow.

use std::fs::{self, File};
use std::io::{self, ErrorKind, IsTerminal};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rtp_types::RtpPacket;
use tokio::io::AsyncReadExt;
use tokio::net::{UdpSocket, UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::clock::Clock;
use super::descriptor::{Access, take_descriptor};
use super::endpoint::{Datagrams, Endpoint};
use super::error::OpenError;
use super::net;
use super::reader::Feed;
use super::unix_socket::SocketFile;
use super::unread::Unread;
use crate::io::value::{DurationValue, Shown};
use crate::media::{RTP_MPEG_TS, RtpCounts, RtpOrder};

/// Largest block read at once from anything that is no datagram.
pub(super) const BLOCK_BYTES: usize = 64 << 10;
/// Blocks that may wait for [`Input::next`].
pub(super) const QUEUE_BLOCKS: usize = 32;
/// Datagrams that may wait for [`Input::next`]: half a second of 8 Mbit/s.
const QUEUE_DATAGRAMS: usize = 512;
/// How long RTP waits for a missing packet when the address says nothing.
const RTP_HOLD: Duration = Duration::from_millis(50);
/// How often a FIFO whose writer left is asked for the next one.
const FIFO_PAUSE: Duration = Duration::from_millis(20);

/// How fast a file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As its clock references say; what has none is not paced.
    Pcr,
    /// As fast as it is taken.
    None,
}

/// What happens when the writer of an input leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnEof {
    /// The input has ended.
    #[default]
    End,
    /// The next writer is waited for: FIFOs and Unix sockets only. (UDP and RTP never end.)
    Wait,
}

/// How an input is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InputOptions {
    /// When not given, regular files are paced, standard input redirected from one included; all else is not.
    pub pace: Option<Pace>,
    /// What to do when the writer leaves.
    pub on_eof: OnEof,
}

/// An open input.
///
/// Dropping it closes the socket at once; a thread that waits for a silent pipe ends with the process.
#[derive(Debug)]
pub struct Input {
    origin: Origin,
    address: Option<SocketAddr>,
    rtp: Option<Arc<Mutex<RtpCounts>>>,
    task: Option<AbortHandle>,
    /// The socket file this process made, removed when the input is dropped.
    _socket_file: Option<SocketFile>,
}

/// Where blocks come from.
#[derive(Debug)]
enum Origin {
    /// A thread or task that reads as soon as it can.
    Queue(mpsc::Receiver<io::Result<Bytes>>),
    /// The kernel itself.
    Unread(Box<Unread>),
}

impl Drop for Input {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Input {
    /// Opens an endpoint for reading.
    ///
    /// A Unix socket that somebody listens on is connected to; else one is made at the path, and writers connect to
    /// it, one at a time. A FIFO is opened in the background, as opening waits for its writer.
    ///
    /// # Errors
    ///
    /// [`OpenError`], with what was tried and why it failed.
    pub async fn open(endpoint: &Endpoint, options: InputOptions) -> Result<Self, OpenError> {
        let unfit = |why| {
            Err(OpenError::Unfit {
                endpoint: endpoint.clone(),
                why,
            })
        };
        match endpoint {
            Endpoint::Standard => {
                let stdin = io::stdin();
                if stdin.is_terminal() {
                    return Err(OpenError::ReadTerminal);
                }
                let file = stdin
                    .as_fd()
                    .try_clone_to_owned()
                    .map_err(OpenError::io("open", "standard input".to_owned()))?;
                Ok(Self::from_descriptor(file, options))
            }
            Endpoint::Descriptor(number) => {
                let file = take_descriptor(*number, Access::Read)
                    .map_err(OpenError::io("open", endpoint.to_string()))?;
                Ok(Self::from_descriptor(file, options))
            }
            Endpoint::File(path) => Self::open_file(path, options),
            Endpoint::Udp(datagrams) | Endpoint::Rtp(datagrams) => {
                if datagrams.options.rate_max.is_some() {
                    return unfit("maxbw is for outputs");
                }
                let is_rtp = matches!(endpoint, Endpoint::Rtp(_));
                if datagrams.options.latency.is_some() && !is_rtp {
                    return unfit("latency is for rtp inputs, and for outputs");
                }
                Self::open_datagrams(datagrams, is_rtp).await
            }
            Endpoint::Unix(path) => Self::open_unix(path, options.on_eof).await,
            Endpoint::Http(_) => unfit("http is for outputs"),
        }
    }

    /// The next block of media, in order; `None` at the end of input.
    ///
    /// An *empty* block says that the writer left and another one may come: flush what was cut so far, the next byte
    /// starts a new packet. After an error comes the end. Cancel-safe.
    pub async fn next(&mut self) -> Option<io::Result<Bytes>> {
        match &mut self.origin {
            Origin::Queue(queue) => queue.recv().await,
            Origin::Unread(unread) => unread.next().await,
        }
    }

    /// The next block if there is one already.
    pub fn try_next(&mut self) -> Option<io::Result<Bytes>> {
        match &mut self.origin {
            Origin::Queue(queue) => queue.try_recv().ok(),
            Origin::Unread(unread) => unread.try_next(),
        }
    }

    /// Whether what comes may lie unread in the kernel for a while.
    pub const fn can_be_left(&self) -> bool {
        matches!(self.origin, Origin::Unread(_))
    }

    /// Leaves the input alone: nothing that comes wakes anybody up until [`next`](Self::next) is waited for.
    pub fn leave(&mut self) {
        if let Origin::Unread(unread) = &mut self.origin {
            unread.disarm();
        }
    }

    /// Where a socket really listens; of a connected or file input nothing.
    pub const fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// What RTP has seen; `None` for other inputs.
    pub fn rtp_counts(&self) -> Option<RtpCounts> {
        self.rtp
            .as_ref()
            .map(|counts| *counts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn new(queue: mpsc::Receiver<io::Result<Bytes>>) -> Self {
        Self::of(Origin::Queue(queue))
    }

    fn of(origin: Origin) -> Self {
        Self {
            origin,
            address: None,
            rtp: None,
            task: None,
            _socket_file: None,
        }
    }

    fn from_descriptor(descriptor: OwnedFd, options: InputOptions) -> Self {
        let file = File::from(descriptor);
        let kind = file.metadata().map(|found| found.file_type());
        if options.pace != Some(Pace::Pcr)
            && kind
                .as_ref()
                .is_ok_and(|kind| kind.is_fifo() || kind.is_socket())
        {
            return Self::of(Origin::Unread(Box::new(Unread::stream(file))));
        }
        let is_regular = kind.is_ok_and(|kind| kind.is_file());
        Self::read_by_thread(options.pace, is_regular, move |feed| {
            feed.read(&file).map(drop)
        })
    }

    fn open_file(path: &Path, options: InputOptions) -> Result<Self, OpenError> {
        let cannot =
            |error| OpenError::io("open", Shown::new(&path.to_string_lossy()).to_string())(error);
        let kind = fs::metadata(path).map_err(cannot)?.file_type();
        if kind.is_dir() {
            return Err(cannot(io::Error::from_raw_os_error(EISDIR)));
        }
        if kind.is_fifo() {
            let path = path.to_owned();
            return Ok(Self::read_by_thread(options.pace, false, move |feed| {
                let file = File::open(&path)?;
                while !feed.is_closed() {
                    let has_media = feed.read(&file)?;
                    if options.on_eof == OnEof::End {
                        break;
                    }
                    if has_media {
                        feed.send_break()?;
                    }
                    // Kept open, or a writer who comes and goes before it is opened again writes into the void;
                    // and an open FIFO without writers offers nothing to wait for.
                    thread::sleep(FIFO_PAUSE);
                }
                Ok(())
            }));
        }
        let file = File::open(path).map_err(cannot)?;
        Ok(Self::read_by_thread(
            options.pace,
            kind.is_file(),
            move |feed| feed.read(&file).map(drop),
        ))
    }

    fn read_by_thread(
        pace: Option<Pace>,
        is_regular: bool,
        read: impl FnOnce(&mut Feed) -> io::Result<()> + Send + 'static,
    ) -> Self {
        let is_paced = pace.map_or(is_regular, |pace| pace == Pace::Pcr);
        Self::new(Feed::start(is_paced, read))
    }

    async fn open_datagrams(datagrams: &Datagrams, is_rtp: bool) -> Result<Self, OpenError> {
        let address = net::resolve(&datagrams.host).await?;
        let socket = net::receiver(datagrams, address)?;
        let local = socket.local_addr().ok();
        if !is_rtp && datagrams.options.timeout.is_none() {
            let unread = Unread::datagrams(socket, datagrams.options.sources.clone());
            let mut input = Self::of(Origin::Unread(Box::new(unread)));
            input.address = local;
            return Ok(input);
        }
        let socket =
            UdpSocket::from_std(socket).map_err(OpenError::io("bind", datagrams.to_string()))?;
        let options = datagrams.options.clone();
        let (sender, queue) = mpsc::channel(QUEUE_DATAGRAMS);
        let receiver = Receiver {
            socket,
            sources: options.sources,
            timeout: options.timeout,
            sender,
            buffer: vec![0; 65536],
        };
        let mut input = Self::new(queue);
        input.address = local;
        let task = if is_rtp {
            let counts = Arc::new(Mutex::new(RtpCounts::default()));
            input.rtp = Some(counts.clone());
            let hold = options.latency.unwrap_or(RTP_HOLD);
            tokio::spawn(receiver.run_rtp(hold, counts))
        } else {
            tokio::spawn(receiver.run_plain())
        };
        input.task = Some(task.abort_handle());
        Ok(input)
    }

    async fn open_unix(path: &Path, on_eof: OnEof) -> Result<Self, OpenError> {
        let (sender, queue) = mpsc::channel(QUEUE_BLOCKS);
        let mut input = Self::new(queue);
        let task = match UnixStream::connect(path).await {
            Ok(stream) => tokio::spawn(read_connected(stream, path.to_owned(), on_eof, sender)),
            Err(error) => {
                let (listener, socket_file) = SocketFile::listen(path, error)?;
                input._socket_file = Some(socket_file);
                tokio::spawn(read_accepted(listener, on_eof, sender))
            }
        };
        input.task = Some(task.abort_handle());
        Ok(input)
    }
}

const EISDIR: i32 = 21;

/// The task's end of a datagram socket.
struct Receiver {
    socket: UdpSocket,
    sources: Vec<IpAddr>,
    timeout: Option<Duration>,
    sender: mpsc::Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
}

impl Receiver {
    async fn run_plain(mut self) {
        loop {
            let received = match self.timeout {
                Some(limit) => tokio::time::timeout(limit, self.receive())
                    .await
                    .map(Bytes::copy_from_slice)
                    .map_err(|_| silence(limit)),
                None => Ok(Bytes::copy_from_slice(self.receive().await)),
            };
            let is_end = received.is_err();
            if self.sender.send(received).await.is_err() || is_end {
                return;
            }
        }
    }

    async fn run_rtp(mut self, hold: Duration, counts: Arc<Mutex<RtpCounts>>) {
        let clock = Clock::start();
        let mut order = RtpOrder::new(hold);
        let mut heard = clock.now();
        loop {
            let now = clock.now();
            let end = self.timeout.map(|limit| heard + limit);
            if let (Some(end), Some(limit)) = (end, self.timeout)
                && now >= end
            {
                // Nobody may be left to hear it.
                let _ = self.sender.send(Err(silence(limit))).await;
                return;
            }
            let wait = [order.poll_timeout(), end]
                .into_iter()
                .flatten()
                .min()
                .map(|due| due - now);
            let received = match wait {
                Some(wait) => tokio::time::timeout(wait, self.receive()).await.ok(),
                None => Some(self.receive().await),
            };
            let now = clock.now();
            if let Some(datagram) = received
                && let Ok(packet) = RtpPacket::parse(datagram)
                && packet.payload_type() == RTP_MPEG_TS
                && !packet.payload().is_empty()
            {
                heard = now;
                let payload = Bytes::copy_from_slice(packet.payload());
                order.handle_packet(now, packet.ssrc(), packet.sequence_number(), payload);
            }
            order.handle_timeout(now);
            *counts.lock().unwrap_or_else(PoisonError::into_inner) = order.counts();
            while let Some(payload) = order.poll() {
                if self.sender.send(Ok(payload)).await.is_err() {
                    return;
                }
            }
        }
    }

    /// The next datagram from somebody who is listened to.
    ///
    /// An error of the socket ends nothing: interfaces go down and come back.
    async fn receive(&mut self) -> &[u8] {
        const ERROR_PAUSE: Duration = Duration::from_millis(20);
        loop {
            match self.socket.recv_from(&mut self.buffer).await {
                Ok((bytes, from)) if self.is_wanted(from.ip()) && bytes > 0 => {
                    return self.buffer.get(..bytes).unwrap_or_default();
                }
                Ok(_) => {}
                Err(_) => tokio::time::sleep(ERROR_PAUSE).await,
            }
        }
    }

    fn is_wanted(&self, from: IpAddr) -> bool {
        self.sources.is_empty() || self.sources.contains(&from.to_canonical())
    }
}

fn silence(limit: Duration) -> io::Error {
    io::Error::new(
        ErrorKind::TimedOut,
        format!("nothing received for {}", DurationValue::new(limit)),
    )
}

/// Reads from a server; with [`OnEof::Wait`] connects again whenever it is back.
async fn read_connected(
    mut stream: UnixStream,
    path: PathBuf,
    on_eof: OnEof,
    sender: mpsc::Sender<io::Result<Bytes>>,
) {
    const RETRY: Duration = Duration::from_millis(250);
    loop {
        let result = copy_stream(&mut stream, &sender).await;
        if !go_on(result, on_eof, &sender).await {
            return;
        }
        stream = loop {
            match UnixStream::connect(&path).await {
                Ok(stream) => break stream,
                Err(_) if sender.is_closed() => return,
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        };
    }
}

/// Reads from whoever connects, one after the other.
async fn read_accepted(
    listener: UnixListener,
    on_eof: OnEof,
    sender: mpsc::Sender<io::Result<Bytes>>,
) {
    const ERROR_PAUSE: Duration = Duration::from_millis(100);
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely: others will be closed.
            tokio::time::sleep(ERROR_PAUSE).await;
            continue;
        };
        let result = copy_stream(&mut stream, &sender).await;
        if !go_on(result, on_eof, &sender).await {
            return;
        }
    }
}

/// What to do when a writer has left: whether to look for the next.
async fn go_on(
    result: io::Result<()>,
    on_eof: OnEof,
    sender: &mpsc::Sender<io::Result<Bytes>>,
) -> bool {
    match (result, on_eof) {
        (Ok(()), OnEof::End) => false,
        (Err(error), OnEof::End) => {
            // Nobody may be left to hear it.
            let _ = sender.send(Err(error)).await;
            false
        }
        // A writer that was killed leaves with a reset; the next one is as welcome.
        (_, OnEof::Wait) => sender.send(Ok(Bytes::new())).await.is_ok(),
    }
}

async fn copy_stream(
    stream: &mut UnixStream,
    sender: &mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(BLOCK_BYTES / 4);
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        if sender.send(Ok(buffer.split().freeze())).await.is_err() {
            return Ok(());
        }
    }
}
