//! A Redis of a test's own: at an address and in a directory that nobody else has, killed when the test is done.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

use tempfile::TempDir;

/// The program of the Debian package of the same name.
const PROGRAM: &str = "redis-server";

/// A Redis that writes down everything before it answers.
#[derive(Debug)]
pub(crate) struct Redis {
    folder: TempDir,
    pub(crate) address: String,
    port: u16,
    password: String,
    /// Certificate and key, behind TLS.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
    child: Option<Child>,
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Redis {
    /// Starts one for a test, or says that the test is left out for want of it.
    pub(crate) fn start(test: &str) -> Option<Self> {
        Self::with_password(test, "")
    }

    /// The same, for those who know a password.
    pub(crate) fn with_password(test: &str, password: &str) -> Option<Self> {
        Self::unstarted(password).started(test)
    }

    /// One that is not there yet.
    pub(crate) fn unstarted(password: &str) -> Self {
        static COUNT: AtomicU8 = AtomicU8::new(1);
        // An address of this test alone: nobody takes the port before the server does, or while it is away.
        let (high, low) = ((std::process::id() >> 8) as u8, std::process::id() as u8);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let address = format!("127.{}.{low}.{count}", 64 | (high & 63));
        let free = TcpListener::bind((address.as_str(), 0)).expect("a loopback address");
        let port = free.local_addr().expect("it is bound").port();
        Self {
            folder: tempfile::tempdir().expect("a temporary directory"),
            address,
            port,
            password: password.to_owned(),
            identity: None,
            child: None,
        }
    }

    /// Starts it for a test, or says that the test is left out for want of it.
    pub(crate) fn started(mut self, test: &str) -> Option<Self> {
        if self.begin() {
            return Some(self);
        }
        // Not by `eprintln!`, which the test harness keeps to itself.
        let line = format!("left out: {test}: needs {PROGRAM}\n");
        let _ = std::io::stderr().write_all(line.as_bytes());
        None
    }

    /// Starts it, again with what it kept; false when it is not installed.
    pub(crate) fn begin(&mut self) -> bool {
        let port = self.port.to_string();
        let mut command = Command::new(PROGRAM);
        match &self.identity {
            None => {
                command.args(["--port", &port]);
            }
            Some((certificate, key)) => {
                command.args([
                    "--port",
                    "0",
                    "--tls-port",
                    &port,
                    "--tls-auth-clients",
                    "no",
                ]);
                command.arg("--tls-cert-file").arg(certificate);
                command.arg("--tls-key-file").arg(key);
                command.arg("--tls-ca-cert-file").arg(certificate);
            }
        }
        let child = command
            .args(["--bind", &self.address])
            .args(["--requirepass", &self.password, "--save", ""])
            .args(["--appendonly", "yes", "--appendfsync", "always"])
            .arg("--dir")
            .arg(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut child) = child else { return false };
        let said = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut lines = said.lines().map_while(Result::ok);
        let is_ready = lines.any(|line| line.contains("Ready to accept connections"));
        assert!(is_ready, "{PROGRAM} does not start");
        std::thread::spawn(move || lines.for_each(drop));
        self.child = Some(child);
        true
    }

    /// Ends it, as a crash would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Where it is, without the password.
    pub(crate) fn url(&self) -> String {
        let scheme = match self.identity {
            Some(_) => "rediss",
            None => "redis",
        };
        format!("{scheme}://{}:{}/0", self.address, self.port)
    }
}
