//! Runs the real programs and waits for what they say: records, lines, media. Nothing sleeps; whatever takes longer
//! than [`PATIENCE`] hangs.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Nothing here takes longer unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What grows while a program runs, and somebody waits for.
#[derive(Debug)]
pub(crate) struct Growing<T> {
    state: Mutex<(Vec<T>, bool)>,
    changed: Condvar,
}

impl<T> Growing<T> {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new((Vec::new(), false)),
            changed: Condvar::new(),
        })
    }

    fn add(&self, more: impl IntoIterator<Item = T>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0.extend(more);
        self.changed.notify_all();
    }

    fn close(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.1 = true;
        self.changed.notify_all();
    }

    /// Waits until `found` finds something in what there is; `None` when it ended, or took too long, without.
    fn wait<R>(&self, mut found: impl FnMut(&[T]) -> Option<R>) -> Option<R> {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match found(&state.0) {
                Some(result) => return Some(result),
                None if state.1 || left.is_zero() => return None,
                None => {}
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for the end of it.
    fn wait_end(&self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while !state.1 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl<T: Clone> Growing<T> {
    fn all(&self) -> Vec<T> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0.clone()
    }
}

/// One record.
fn parsed(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// Holds a record against the closed schema.
pub(crate) fn check_record(line: &str) {
    static SCHEMA: OnceLock<jsonschema::Validator> = OnceLock::new();
    let schema = SCHEMA.get_or_init(|| {
        jsonschema::draft202012::new(&p2ps::stats::closed_schema()).expect("the schema is one")
    });
    if let Err(error) = schema.validate(&parsed(line)) {
        panic!("{error}: {line}");
    }
}

/// Tests that run, and whether one of them is a crowd.
static RUNNING: (Mutex<(usize, bool)>, Condvar) = (Mutex::new((0, false)), Condvar::new());

/// The turn of a test: others may run beside it, or none, while it takes all of the machine.
#[derive(Debug)]
struct Turn;

impl Turn {
    fn take(is_crowd: bool) -> Self {
        let (running, changed) = &RUNNING;
        let running = running.lock().unwrap_or_else(PoisonError::into_inner);
        // Who waits to be alone keeps nobody from starting: a test may have two places.
        let may_not = |(tests, crowd): &mut (usize, bool)| *crowd || (is_crowd && *tests > 0);
        let mut running = changed
            .wait_while(running, may_not)
            .unwrap_or_else(PoisonError::into_inner);
        running.0 += 1;
        running.1 = is_crowd;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let (running, changed) = &RUNNING;
        let mut running = running.lock().unwrap_or_else(PoisonError::into_inner);
        running.0 -= 1;
        running.1 = false;
        changed.notify_all();
    }
}

/// A directory in which a test keeps everything.
#[derive(Debug)]
pub(crate) struct Place(TempDir, Turn);

impl Place {
    pub(crate) fn new() -> Self {
        Self::with(Turn::take(false))
    }

    /// The same for a test with so many programs that others beside it would not be on time.
    pub(crate) fn alone() -> Self {
        Self::with(Turn::take(true))
    }

    fn with(turn: Turn) -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"), turn)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The path as an argument.
    pub(crate) fn arg(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// A program with what every test wants of it: a free port, and records every 100 ms where the test reads them.
    pub(crate) fn program(&self, tool: &str, name: &str) -> Starter {
        self.at(tool, name, "127.0.0.1:0")
    }

    /// The same, at an address of the test's choice.
    pub(crate) fn at(&self, tool: &str, name: &str, listen: &str) -> Starter {
        self.every("100ms", tool, name, listen)
    }

    /// The same, with another time between records.
    pub(crate) fn every(&self, interval: &str, tool: &str, name: &str, listen: &str) -> Starter {
        self.prepare(Command::new(program(tool)), interval, name, listen)
    }

    /// The same, in a network namespace.
    pub(crate) fn within(&self, namespace: &str, tool: &str, name: &str, listen: &str) -> Starter {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace, program(tool)]);
        self.prepare(command, "100ms", name, listen)
    }

    /// The same, with no file to be longer than so many KiB: the disk is full then.
    pub(crate) fn short_of_disk(&self, kib: u32, tool: &str, name: &str) -> Starter {
        let mut command = Command::new("sh");
        let limit = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", 2 * kib);
        command.args(["-c", &limit, program(tool)]);
        self.prepare(command, "100ms", name, "127.0.0.1:0")
    }

    fn prepare(&self, mut command: Command, interval: &str, name: &str, listen: &str) -> Starter {
        let socket = self.path(&format!("{name}.records"));
        let _ = fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).expect("a socket for records");
        command
            .current_dir(self.0.path())
            .env_remove("STATE_DIRECTORY")
            .env("XDG_STATE_HOME", self.path(&format!("{name}.state")))
            .args(["--listen", listen, "--stats-interval", interval, "--stats"])
            .arg(format!("unix:{}", socket.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Starter {
            name: name.to_owned(),
            command,
            listener,
            socket,
            keep_stdout: false,
        }
    }

    /// A source of channel `film` with its key and counter here.
    pub(crate) fn source(&self, name: &str) -> Starter {
        self.source_at(name, "127.0.0.1:0")
    }

    pub(crate) fn source_at(&self, name: &str, listen: &str) -> Starter {
        let state = self.arg("state");
        self.at("p2ps-source", name, listen)
            .args(["--channel", "film", "--state-dir", &state])
    }

    /// A relay or peer that takes everything the parent holds, from the beginning.
    pub(crate) fn receiver(&self, tool: &str, name: &str, channel: &str) -> Starter {
        self.program(tool, name).args(["--from", "oldest", channel])
    }
}

/// The path of one of the programs.
pub(crate) fn program(tool: &str) -> &'static str {
    match tool {
        "p2ps-source" => env!("CARGO_BIN_EXE_p2ps-source"),
        "p2ps-relay" => env!("CARGO_BIN_EXE_p2ps-relay"),
        "p2ps-peer" => env!("CARGO_BIN_EXE_p2ps-peer"),
        "p2ps-tracker" => env!("CARGO_BIN_EXE_p2ps-tracker"),
        "p2ps-qos" => env!("CARGO_BIN_EXE_p2ps-qos"),
        _ => panic!("no program {tool}"),
    }
}

/// A program about to run.
#[derive(Debug)]
pub(crate) struct Starter {
    name: String,
    command: Command,
    listener: UnixListener,
    socket: PathBuf,
    keep_stdout: bool,
}

impl Starter {
    pub(crate) fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    /// The test reads standard output itself, or leaves it unread.
    pub(crate) fn keep_stdout(mut self) -> Self {
        self.keep_stdout = true;
        self
    }

    pub(crate) fn stdout(mut self, to: impl Into<Stdio>) -> Self {
        self.command.stdout(to);
        self
    }

    pub(crate) fn start(mut self) -> Running {
        let mut child = self
            .command
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", self.name));
        let (records, lines, media) = (Growing::new(), Growing::new(), Growing::new());
        let (listener, to) = (self.listener, Arc::clone(&records));
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        thread::spawn(move || {
            // It may open its sinks again.
            while !over.load(Ordering::Acquire)
                && let Ok((stream, _)) = listener.accept()
            {
                for line in BufReader::new(stream).lines() {
                    let Ok(line) = line else { break };
                    to.add([line]);
                }
            }
            to.close();
        });
        let (stderr, to) = (child.stderr.take(), Arc::clone(&lines));
        thread::spawn(move || {
            for line in stderr
                .into_iter()
                .flat_map(|stderr| BufReader::new(stderr).lines())
            {
                let Ok(line) = line else { break };
                to.add([line]);
            }
            to.close();
        });
        let mut stdout = child.stdout.take();
        if self.keep_stdout {
            media.close();
        } else {
            let (stdout, to) = (stdout.take(), Arc::clone(&media));
            thread::spawn(move || collect(stdout, &to));
        }
        Running {
            name: self.name,
            stdin: child.stdin.take(),
            stdout,
            child,
            is_over,
            socket: self.socket,
            records,
            lines,
            media,
        }
    }
}

/// Reads to the end.
fn collect(from: Option<impl Read>, to: &Growing<u8>) {
    let mut block = vec![0; 1 << 16];
    if let Some(mut from) = from {
        while let Ok(count @ 1..) = from.read(&mut block) {
            to.add(block[..count].iter().copied());
        }
    }
    to.close();
}

/// A program that runs; it is killed when the test is done with it.
#[derive(Debug)]
pub(crate) struct Running {
    name: String,
    child: Child,
    is_over: Arc<AtomicBool>,
    socket: PathBuf,
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: Option<ChildStdout>,
    records: Arc<Growing<String>>,
    lines: Arc<Growing<String>>,
    media: Arc<Growing<u8>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.end_records();
        if !thread::panicking() {
            for line in self.records.all() {
                check_record(&line);
            }
        } else {
            eprintln!("--- {}", self.name);
            for line in self.lines.all() {
                eprintln!("{line}");
            }
            for line in self
                .records
                .all()
                .iter()
                .filter(|line| !line.contains("\"interval\""))
            {
                eprintln!("{line}");
            }
        }
    }
}

impl Running {
    /// Waits for the first record that `wanted` takes something from.
    pub(crate) fn record<R>(&self, what: &str, mut wanted: impl FnMut(&Value) -> Option<R>) -> R {
        let mut seen = 0;
        let found = self.records.wait(|lines| {
            let fresh = &lines[seen..];
            seen = lines.len();
            fresh.iter().find_map(|line| wanted(&parsed(line)))
        });
        found.unwrap_or_else(|| panic!("{}: no record of {what}", self.name))
    }

    /// Every record so far.
    pub(crate) fn records(&self) -> Vec<Value> {
        self.records.all().iter().map(|line| parsed(line)).collect()
    }

    /// Waits for a record of this kind.
    pub(crate) fn event(&self, event: &str) -> Value {
        self.record(event, |record| {
            (record["event"] == event).then(|| record.clone())
        })
    }

    /// Waits until it said that it is in this state.
    pub(crate) fn state(&self, state: &str) -> Value {
        self.record(state, |record| {
            (record["state"] == state).then(|| record.clone())
        })
    }

    /// How many intervals ended.
    fn intervals(lines: &[String]) -> usize {
        let is_interval = |line: &&String| line.starts_with("{\"event\":\"interval\"");
        lines.iter().filter(is_interval).count()
    }

    /// Waits for the end of one interval more.
    pub(crate) fn interval(&self) {
        let mut before = None;
        let passed = self.records.wait(|lines| {
            let now = Self::intervals(lines);
            (now > *before.get_or_insert(now)).then_some(())
        });
        passed.unwrap_or_else(|| panic!("{}: no further interval", self.name));
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> String {
        let start = self.event("start");
        start["listen"][0].as_str().expect("an address").to_owned()
    }

    /// The channel by its identifier, at this source.
    pub(crate) fn channel(&self) -> String {
        let start = self.event("start");
        format!(
            "p2ps://{}@{}",
            start["swarm"].as_str().expect("a swarm"),
            self.address()
        )
    }

    /// The channel by its identifier, at this relay or peer, for others.
    pub(crate) fn channel_below(&self, channel: &str) -> String {
        let (id, _) = channel
            .split_once('@')
            .expect("an address with an identifier");
        format!("{id}@{}", self.address())
    }

    /// Waits until it is attached to a parent.
    pub(crate) fn attached(self) -> Self {
        self.state("buffering");
        self
    }

    /// Writes media to standard input, a slice each time that an interval ended: about in real time.
    pub(crate) fn feed<'a>(&mut self, slices: impl IntoIterator<Item = &'a [u8]>) {
        for slice in slices {
            self.interval();
            self.write(slice);
        }
    }

    /// Writes to standard input at once.
    pub(crate) fn write(&mut self, media: &[u8]) {
        let stdin = self.stdin.as_mut().expect("input is still open");
        let written = stdin.write_all(media);
        written.unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    /// Ends its input.
    pub(crate) fn end_input(&mut self) {
        self.stdin = None;
    }

    /// Waits until so many media bytes came out.
    pub(crate) fn wait_bytes(&self, count: usize) {
        let enough = self
            .media
            .wait(|media| (media.len() >= count).then_some(()));
        if enough.is_none() {
            panic!(
                "{}: {} bytes out, waited for {count}",
                self.name,
                self.media.all().len()
            );
        }
    }

    /// What came out so far.
    pub(crate) fn media(&self) -> Vec<u8> {
        self.media.all()
    }

    /// Waits for a line on standard error that `wanted` takes something from.
    pub(crate) fn line<R>(&self, what: &str, mut wanted: impl FnMut(&str) -> Option<R>) -> R {
        let found = self
            .lines
            .wait(|lines| lines.iter().find_map(|line| wanted(line)));
        found.unwrap_or_else(|| panic!("{}: no line about {what}", self.name))
    }

    /// What was said on standard error.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.all()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id();
        let sent = Command::new("sh")
            .arg("-c")
            .arg(format!("kill -{signal} {pid}"))
            .status();
        assert!(
            sent.is_ok_and(|status| status.success()),
            "{}: kill -{signal}",
            self.name
        );
    }

    /// Kills it, as a crash would.
    pub(crate) fn kill(&mut self) {
        self.child
            .kill()
            .unwrap_or_else(|error| panic!("{}: {error}", self.name));
        self.exit();
    }

    /// Waits for its end; gives its exit code, or none when a signal ended it.
    pub(crate) fn exit(&mut self) -> Option<i32> {
        // A program keeps standard error open as long as it lives.
        assert!(self.lines.wait_end(), "{} does not end", self.name);
        let code = self.child.wait().expect("it was started").code();
        self.end_records();
        self.media.wait_end();
        code
    }

    /// Once it is gone: nobody else connects to its socket for records.
    fn end_records(&self) {
        self.is_over.store(true, Ordering::Release);
        let _ = UnixStream::connect(&self.socket);
        self.records.wait_end();
    }

    /// Waits for a good end; gives the `end` record.
    pub(crate) fn done(&mut self) -> Value {
        assert_eq!(self.exit(), Some(0), "{}", self.name);
        for record in self.records() {
            assert_ne!(record["event"], "error", "{}: {record}", self.name);
        }
        self.event("end")
    }
}

/// SHA-256 as records write it.
pub(crate) fn sha256(media: &[u8]) -> String {
    use p2ps::integrity::hash::digest;
    use p2ps::wire::option::HashFunction;
    let digest = digest(HashFunction::Sha256, media);
    digest
        .as_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Whether two media are the same; says where they part, and not all of both.
pub(crate) fn assert_same(name: &str, found: &[u8], expected: &[u8]) {
    if found != expected {
        let at = found
            .iter()
            .zip(expected)
            .take_while(|(left, right)| left == right)
            .count();
        panic!(
            "{name}: {} bytes, expected {}, different from byte {at} on",
            found.len(),
            expected.len()
        );
    }
}

/// Whether a program is installed.
pub(crate) fn is_installed(tool: &str) -> bool {
    let dirs = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&dirs).any(|dir| dir.join(tool).is_file())
}

/// Says that a test was left out; not by `eprintln!`, which the test harness keeps to itself.
pub(crate) fn left_out(test: &str, needs: &str) {
    let line = format!("left out: {test}: needs {needs}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// A FIFO at `path`.
pub(crate) fn mkfifo(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status();
    assert!(
        made.is_ok_and(|status| status.success()),
        "mkfifo {}",
        path.display()
    );
}
