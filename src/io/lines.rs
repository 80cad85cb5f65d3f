//! Where records go: stats sinks that never hold up the stream.
//!
//! Each sink has a thread of its own and a queue of bounded length. A sink that is slow loses records, a sink that is
//! gone loses all of them; both are counted ([`Sink::dropped`]) and said once in the log, and media flows on.
//!
//! Files are appended to, never truncated: that is what log rotation expects (rename, HUP, new file), and every run
//! begins with a `start` record, so runs in one file stay apart.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{ToSocketAddrs, UdpSocket};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::media::reason;

/// What follows from a sink that cannot be written.
const DROPPED: &str = "records are dropped";
/// Lines that wait for a slow sink; at most 1 MiB of them.
const QUEUE_LINES: usize = 256;

/// Where lines go: the argument of `--stats`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// `-`: standard output.
    Stdout,
    /// `fd:N`: a descriptor that is already open.
    Descriptor(u32),
    /// A file or FIFO by name.
    File(PathBuf),
    /// `unix:PATH`: a stream socket that somebody listens on.
    Unix(PathBuf),
    /// `udp://HOST:PORT`: one datagram a line.
    Udp(String),
}

/// Why a text is no [`Destination`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DestinationError {
    /// Nothing was given.
    #[error("need -, fd:N, a path, unix:PATH or udp://HOST:PORT")]
    Empty,
    /// `fd:` without a number.
    #[error("fd: needs a number, for example fd:3")]
    Descriptor,
    /// `unix:` without a path.
    #[error("unix: needs a path")]
    Unix,
    /// `udp://` without host and port.
    #[error("need host and port, for example udp://127.0.0.1:9000")]
    Udp,
    /// A scheme that no sink has.
    #[error("records go to -, fd:N, a path, unix:PATH or udp://HOST:PORT")]
    Scheme,
}

impl FromStr for Destination {
    type Err = DestinationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            Err(DestinationError::Empty)
        } else if text == "-" {
            Ok(Self::Stdout)
        } else if let Some(number) = text.strip_prefix("fd:") {
            let digits = number.bytes().all(|byte| byte.is_ascii_digit());
            let number = number.parse().ok().filter(|_| digits);
            number
                .map(Self::Descriptor)
                .ok_or(DestinationError::Descriptor)
        } else if let Some(path) = text.strip_prefix("unix:") {
            let path = (!path.is_empty()).then(|| Self::Unix(path.into()));
            path.ok_or(DestinationError::Unix)
        } else if let Some(address) = text.strip_prefix("udp://") {
            let (host, port) = address.rsplit_once(':').ok_or(DestinationError::Udp)?;
            let port = port.parse::<u16>().ok().filter(|port| *port > 0);
            if host.is_empty() || port.is_none() {
                return Err(DestinationError::Udp);
            }
            Ok(Self::Udp(address.into()))
        } else if text.contains("://") {
            Err(DestinationError::Scheme)
        } else {
            Ok(Self::File(
                text.strip_prefix("file:").unwrap_or(text).into(),
            ))
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("-"),
            Self::Descriptor(number) => write!(f, "fd:{number}"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Udp(address) => write!(f, "udp://{address}"),
        }
    }
}

/// An open stats sink.
#[derive(Debug)]
pub struct Sink {
    queue: SyncSender<Job>,
    shared: Arc<Shared>,
    done: Receiver<()>,
}

#[derive(Debug)]
enum Job {
    Line(String),
    /// Look at [`Shared::reopen`].
    Wake,
}

#[derive(Debug, Default)]
struct Shared {
    dropped: AtomicU64,
    reopen: AtomicBool,
    closed: AtomicBool,
    failure: Mutex<Option<String>>,
}

impl Sink {
    /// Opens `destination`. FIFOs and pipes, whose opening may wait for a reader, are opened by the sink's own thread.
    ///
    /// # Errors
    ///
    /// What the system says when the file, socket or descriptor cannot be opened for writing.
    pub fn open(destination: &Destination) -> io::Result<Self> {
        let writer = if waits_for_reader(destination) {
            Writer::Unopened
        } else {
            Writer::Open(open(destination)?)
        };
        Self::start(destination.clone(), writer)
    }

    fn start(destination: Destination, writer: Writer) -> io::Result<Self> {
        let (queue, jobs) = mpsc::sync_channel(QUEUE_LINES);
        let (finished, done) = mpsc::channel();
        let shared = Arc::new(Shared::default());
        let worker = Worker {
            destination,
            writer,
            torn: false,
            shared: Arc::clone(&shared),
        };
        thread::Builder::new().name("stats".into()).spawn(move || {
            worker.run(&jobs);
            drop(finished);
        })?;
        Ok(Self {
            queue,
            shared,
            done,
        })
    }

    /// Hands over one line (its line feed included). Never waits: a line that finds the queue full is dropped.
    pub fn send(&self, line: String) {
        if self.queue.try_send(Job::Line(line)).is_err() {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines lost so far.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Whether the reader is gone; [`reopen`](Self::reopen) may bring it back.
    pub fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Relaxed)
    }

    /// What went wrong, once: for the `warn` record in the other sinks. The log has it already.
    pub fn take_failure(&self) -> Option<String> {
        self.shared
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Opens files and sockets anew, for HUP: after rotation lines go to the new file, a lost reader is found again.
    /// Standard output and descriptors stay as they are.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Release);
        // With a full queue the thread sees the flag at its next line.
        let _ = self.queue.try_send(Job::Wake);
    }

    /// Writes what is queued and closes; gives up after `patience`. Returns the lines lost.
    pub fn close(self, patience: Duration) -> u64 {
        let Self {
            queue,
            shared,
            done,
        } = self;
        drop(queue);
        // The thread drops its end when it is done: disconnection is the answer waited for.
        let _ = done.recv_timeout(patience);
        shared.dropped.load(Ordering::Relaxed)
    }
}

enum Writer {
    /// To be opened by the thread.
    Unopened,
    Open(Box<dyn Write + Send>),
    /// The reader is gone.
    Gone,
}

struct Worker {
    destination: Destination,
    writer: Writer,
    /// The last line was cut short by an error; the next begins on a line of its own.
    torn: bool,
    shared: Arc<Shared>,
}

impl Worker {
    fn run(mut self, jobs: &Receiver<Job>) {
        self.open_if(matches!(self.writer, Writer::Unopened));
        let mut failing = false;
        while let Ok(job) = jobs.recv() {
            let again = self.shared.reopen.swap(false, Ordering::AcqRel);
            let fixed = matches!(
                self.destination,
                Destination::Stdout | Destination::Descriptor(_)
            );
            self.open_if(again && !fixed);
            let Job::Line(line) = job else { continue };
            match self.write(&line) {
                Ok(()) => failing = false,
                Err(error) => {
                    self.shared.dropped.fetch_add(1, Ordering::Relaxed);
                    let gone = is_gone(&error);
                    if gone {
                        self.writer = Writer::Gone;
                        self.shared.closed.store(true, Ordering::Relaxed);
                    }
                    if !std::mem::replace(&mut failing, true) {
                        self.fail(&error, DROPPED);
                    }
                }
            }
        }
    }

    fn open_if(&mut self, wanted: bool) {
        if !wanted {
            return;
        }
        match open(&self.destination) {
            Ok(writer) => {
                self.writer = Writer::Open(writer);
                self.torn = false;
                self.shared.closed.store(false, Ordering::Relaxed);
            }
            Err(error) if matches!(self.writer, Writer::Open(_)) => {
                self.fail(&error, "the old one is kept");
            }
            Err(error) => self.fail(&error, DROPPED),
        }
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        let Writer::Open(writer) = &mut self.writer else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        if self.torn {
            writer.write_all(b"\n")?;
        }
        self.torn = true;
        writer.write_all(line.as_bytes())?;
        writer.flush()?;
        self.torn = false;
        Ok(())
    }

    fn fail(&self, error: &io::Error, therefore: &str) {
        let text = format!(
            "stats sink {}: {}, {therefore}",
            self.destination,
            reason(error)
        );
        tracing::warn!("{text}");
        *self
            .shared
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(text);
    }
}

/// Errors after which writing again is pointless until the sink is opened anew.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::NotConnected
    )
}

fn descriptor_path(number: u32) -> PathBuf {
    // Opening the name gives a descriptor of our own without taking ownership of a bare number.
    PathBuf::from(format!("/dev/fd/{number}"))
}

fn waits_for_reader(destination: &Destination) -> bool {
    let is_fifo = |path: &Path| fs::metadata(path).is_ok_and(|meta| meta.file_type().is_fifo());
    match destination {
        Destination::File(path) => is_fifo(path),
        Destination::Descriptor(number) => *number > 2 && is_fifo(&descriptor_path(*number)),
        Destination::Stdout | Destination::Unix(_) | Destination::Udp(_) => false,
    }
}

fn open(destination: &Destination) -> io::Result<Box<dyn Write + Send>> {
    Ok(match destination {
        Destination::Stdout | Destination::Descriptor(1) => Box::new(io::stdout()),
        Destination::Descriptor(2) => Box::new(io::stderr()),
        Destination::Descriptor(number) => Box::new(
            OpenOptions::new()
                .append(true)
                .open(descriptor_path(*number))?,
        ),
        Destination::File(path) => {
            Box::new(OpenOptions::new().append(true).create(true).open(path)?)
        }
        Destination::Unix(path) => Box::new(UnixStream::connect(path)?),
        Destination::Udp(address) => Box::new(Datagrams::connect(address)?),
    })
}

/// One datagram for every write.
struct Datagrams(UdpSocket);

impl Datagrams {
    fn connect(address: &str) -> io::Result<Self> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "no address");
        for remote in address.to_socket_addrs()? {
            let any = if remote.is_ipv4() {
                "0.0.0.0:0"
            } else {
                "[::]:0"
            };
            match UdpSocket::bind(any).and_then(|socket| socket.connect(remote).map(|()| socket)) {
                Ok(socket) => return Ok(Self(socket)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl Write for Datagrams {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.0.send(line) {
            // Nobody listens there now; somebody may later.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(line.len()),
            sent => sent,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Opens a file of records for reading, for `p2ps-qos`.
///
/// # Errors
///
/// What the system says when it cannot be opened, or that it is a directory.
pub fn open_records(path: &Path) -> io::Result<Box<dyn BufRead>> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok(Box::new(BufReader::with_capacity(64 * 1024, file)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn destinations() {
        for (text, expected) in [
            ("-", Ok(Destination::Stdout)),
            ("fd:3", Ok(Destination::Descriptor(3))),
            ("qos.jsonl", Ok(Destination::File("qos.jsonl".into()))),
            ("file:/tmp/a b", Ok(Destination::File("/tmp/a b".into()))),
            ("unix:/run/x", Ok(Destination::Unix("/run/x".into()))),
            (
                "udp://[::1]:9000",
                Ok(Destination::Udp("[::1]:9000".into())),
            ),
            ("", Err(DestinationError::Empty)),
            ("fd:", Err(DestinationError::Descriptor)),
            ("fd:+3", Err(DestinationError::Descriptor)),
            ("fd:99999999999", Err(DestinationError::Descriptor)),
            ("unix:", Err(DestinationError::Unix)),
            ("udp://host", Err(DestinationError::Udp)),
            ("udp://:9000", Err(DestinationError::Udp)),
            ("udp://host:0", Err(DestinationError::Udp)),
            ("tcp://host:9", Err(DestinationError::Scheme)),
        ] {
            assert_eq!(text.parse::<Destination>(), expected, "{text}");
        }
    }

    #[test]
    fn a_file_is_appended_to_and_reopened_after_rotation() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (path, old) = (dir.path().join("qos.jsonl"), dir.path().join("qos.jsonl.1"));
        fs::write(&path, "before\n").expect("writable");
        let sink = Sink::open(&Destination::File(path.clone())).expect("writable");
        sink.send("one\n".into());
        assert_eq!(sink.close(PATIENCE), 0);
        let sink = Sink::open(&Destination::File(path.clone())).expect("writable");
        fs::rename(&path, &old).expect("renamed");
        sink.reopen();
        sink.send("two\n".into());
        assert_eq!(sink.close(PATIENCE), 0);
        assert_eq!(fs::read_to_string(&old).expect("readable"), "before\none\n");
        assert_eq!(fs::read_to_string(&path).expect("readable"), "two\n");
    }

    #[test]
    fn what_cannot_be_opened_is_an_error_at_once() {
        for destination in [
            Destination::File("/nonexistent/directory/qos.jsonl".into()),
            Destination::Unix("/nonexistent/socket".into()),
            Destination::Descriptor(987_654),
        ] {
            assert!(Sink::open(&destination).is_err(), "{destination}");
        }
    }

    #[test]
    fn a_unix_socket_gets_every_line() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("stats");
        let listener = UnixListener::bind(&path).expect("bound");
        let sink = Sink::open(&Destination::Unix(path)).expect("connected");
        let (stream, _) = listener.accept().expect("a connection waits");
        for number in 0..10 {
            sink.send(format!("{number}\n"));
        }
        assert_eq!(sink.close(PATIENCE), 0);
        assert_eq!(BufReader::new(stream).lines().count(), 10);
    }

    #[test]
    fn udp_sends_one_datagram_a_line_and_survives_nobody_listening() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
        let address = socket.local_addr().expect("bound").to_string();
        let sink = Sink::open(&Destination::Udp(address)).expect("connected");
        sink.send("one\n".into());
        let mut buffer = [0; 64];
        let (bytes, _) = socket.recv_from(&mut buffer).expect("a datagram comes");
        assert_eq!(&buffer[..bytes], b"one\n");
        drop(socket);
        for _ in 0..5 {
            sink.send("unheard\n".into());
        }
        assert_eq!(sink.close(PATIENCE), 0);
    }

    /// A writer that waits before every line until told to go on.
    struct Slow(Receiver<()>);

    impl Write for Slow {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_slow_sink_loses_lines_and_never_waits() {
        let (go, waits) = mpsc::channel();
        let sink = Sink::start(Destination::Stdout, Writer::Open(Box::new(Slow(waits))))
            .expect("a thread");
        let sent = QUEUE_LINES + 50;
        for _ in 0..sent {
            sink.send("line\n".into());
        }
        // One line may have left the queue for the writer.
        let dropped = sink.dropped();
        assert!((49..=50).contains(&dropped), "{dropped}");
        drop(go);
        assert_eq!(sink.close(PATIENCE), dropped);
    }

    #[test]
    fn closing_a_stuck_sink_gives_up() {
        let (_go, waits) = mpsc::channel();
        let sink = Sink::start(Destination::Stdout, Writer::Open(Box::new(Slow(waits))))
            .expect("a thread");
        sink.send("line\n".into());
        sink.close(Duration::from_millis(1));
    }

    #[test]
    fn a_closed_reader_is_said_once_and_costs_only_lines() {
        let (reader, writer) = io::pipe().expect("a pipe");
        drop(reader);
        let sink =
            Sink::start(Destination::Stdout, Writer::Open(Box::new(writer))).expect("a thread");
        for _ in 0..3 {
            sink.send("line\n".into());
        }
        let shared = Arc::clone(&sink.shared);
        assert_eq!(sink.close(PATIENCE), 3);
        assert!(shared.closed.load(Ordering::Relaxed));
        let failure = shared.failure.lock().expect("not poisoned").take();
        assert_eq!(
            failure.as_deref(),
            Some("stats sink -: broken pipe, records are dropped")
        );
    }

    #[test]
    fn a_line_cut_by_a_full_disk_is_ended_before_the_next() {
        struct Full(u32, Arc<Mutex<Vec<u8>>>);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 += 1;
                match self.0 {
                    1 => {
                        self.1.lock().expect("not poisoned").extend(&bytes[..4]);
                        Ok(4)
                    }
                    2 => Err(io::ErrorKind::StorageFull.into()),
                    _ => {
                        self.1.lock().expect("not poisoned").extend(bytes);
                        Ok(bytes.len())
                    }
                }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let disk = Arc::new(Mutex::new(Vec::new()));
        let writer = Writer::Open(Box::new(Full(0, Arc::clone(&disk))));
        let sink = Sink::start(Destination::Stdout, writer).expect("a thread");
        sink.send("first line\n".into());
        sink.send("second line\n".into());
        assert_eq!(sink.close(PATIENCE), 1);
        assert_eq!(*disk.lock().expect("not poisoned"), b"firs\nsecond line\n");
    }

    #[test]
    fn a_fifo_without_a_reader_does_not_hold_up_the_start() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("fifo");
        let made = std::process::Command::new("mkfifo")
            .arg(&path)
            .status()
            .expect("mkfifo runs");
        assert!(made.success());
        let sink = Sink::open(&Destination::File(path.clone())).expect("opened later");
        sink.send("line\n".into());
        let mut lines = BufReader::new(File::open(&path).expect("a writer comes")).lines();
        assert_eq!(lines.next().expect("a line").expect("readable"), "line");
        assert_eq!(sink.close(PATIENCE), 0);
    }
}
