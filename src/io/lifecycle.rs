//! What whoever started the tool hears of it: readiness and end, by service manager, descriptor, file and command.
//!
//! Everything here happens a few times in the life of a process and may block for a moment.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use super::media::{Access, take_descriptor};

/// Longest time the command at the end may take before it is killed.
const ON_EXIT_MAX: Duration = Duration::from_secs(5);
/// Time between two looks at a command that is waited for.
const LOOK: Duration = Duration::from_millis(10);

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Name of the tool, first of the facts.
    pub tool: &'static str,
    /// Descriptor that gets one line when the tool is ready.
    pub ready_fd: Option<u32>,
    /// File that names the process while it runs.
    pub pid_file: Option<PathBuf>,
    /// Command for the moment when the tool is ready.
    pub on_ready: Option<String>,
    /// Command for the end.
    pub on_exit: Option<String>,
}

/// Why the tool cannot be started as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LifecycleError {
    /// Another process that lives holds the pid file.
    #[error("cannot take pid file: used by process {pid}")]
    Used {
        /// The file.
        path: PathBuf,
        /// The process in it.
        pid: u32,
    },
    /// The pid file cannot be written.
    #[error("cannot write pid file: {cause}")]
    PidFile {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The descriptor is not open, or not for writing.
    #[error("cannot write to descriptor {fd}: {cause}")]
    ReadyFd {
        /// The descriptor.
        fd: u32,
        /// Why.
        cause: io::Error,
    },
}

/// Facts for a command: name and value. Each becomes the variable `P2PS_FACT_NAME`.
///
/// They are no plain `P2PS_NAME`, because that is how the tools take their options: a tool started by the command
/// would listen on the address of the one that started it.
pub type Facts = Vec<(&'static str, String)>;

/// Says that the tool is there, ready, and gone. Dropping it removes the pid file.
#[derive(Debug)]
pub struct Lifecycle {
    plan: Plan,
    ready_to: Option<File>,
    facts: Facts,
}

impl Lifecycle {
    /// Takes the pid file and the descriptor.
    ///
    /// # Errors
    ///
    /// When either cannot be had.
    pub fn begin(plan: Plan) -> Result<Self, LifecycleError> {
        let ready_to = match plan.ready_fd {
            Some(fd) => {
                let taken = take_descriptor(fd, Access::Write);
                let taken = taken.map_err(|cause| LifecycleError::ReadyFd { fd, cause })?;
                Some(File::from(taken))
            }
            None => None,
        };
        if let Some(path) = &plan.pid_file {
            take_pid_file(path)?;
        }
        Ok(Self {
            plan,
            ready_to,
            facts: Vec::new(),
        })
    }

    /// Everything is bound: tells the service manager, the descriptor, and the command. The command at the end gets
    /// the same facts, and what came of it.
    pub fn ready(&mut self, facts: Facts) {
        self.facts = facts;
        notify(NotifyState::Ready);
        if let Some(mut file) = self.ready_to.take()
            && let Err(error) = file.write_all(b"ready\n")
        {
            tracing::warn!("cannot write to the ready descriptor: {error}");
        }
        if let Some(command) = &self.plan.on_ready
            && let Some(mut child) = spawn("on-ready", command, self.plan.tool, &self.facts)
        {
            // Somebody must wait for it, or it stays a zombie; nobody must wait with it.
            let waiter = thread::Builder::new().stack_size(128 * 1024);
            let wait = waiter.spawn(move || report("on-ready", child.wait().map(Some)));
            if let Err(error) = wait {
                tracing::warn!("cannot wait for the on-ready command: {error}");
            }
        }
    }

    /// One line about what the tool does, for the service manager.
    pub fn status(&self, text: &str) {
        notify(NotifyState::Status(text));
    }

    /// How often [`alive`](Self::alive) must be called, when the service manager watches: half of its limit.
    pub fn watchdog_period(&self) -> Option<Duration> {
        sd_notify::watchdog_enabled().map(|limit| limit / 2)
    }

    /// The tool still turns its loop.
    pub fn alive(&self) {
        notify(NotifyState::Watchdog);
    }

    /// The tool begins to end.
    pub fn stopping(&self) {
        notify(NotifyState::Stopping);
    }

    /// The tool has ended with an exit code, for a reason in a word or two: runs the command, at most 5 s, and removes
    /// the pid file.
    pub fn end(mut self, exit: u8, reason: &str) {
        let Some(command) = &self.plan.on_exit else {
            return;
        };
        self.facts.push(("exit", exit.to_string()));
        self.facts.push(("reason", reason.to_owned()));
        if let Some(child) = spawn("on-exit", command, self.plan.tool, &self.facts) {
            report("on-exit", wait_at_most(child, ON_EXIT_MAX));
        }
    }
}

impl Drop for Lifecycle {
    fn drop(&mut self) {
        if let Some(path) = &self.plan.pid_file
            && read_pid(path) == Some(std::process::id())
        {
            // When it cannot be removed, the next start finds a process that is not there, and takes it.
            let _ = fs::remove_file(path);
        }
    }
}

/// Tells the service manager, when there is one.
fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!("cannot tell the service manager: {error}");
    }
}

/// The process that a pid file names.
fn read_pid(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Writes our process id, whole or not at all, unless another live process is in the file.
fn take_pid_file(path: &Path) -> Result<(), LifecycleError> {
    let own = std::process::id();
    if let Some(pid) = read_pid(path)
        && pid != own
        && Path::new(&format!("/proc/{pid}")).exists()
    {
        return Err(LifecycleError::Used {
            path: path.to_owned(),
            pid,
        });
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{own}"));
    let beside = PathBuf::from(beside);
    let written = fs::write(&beside, format!("{own}\n")).and_then(|()| fs::rename(&beside, path));
    written.map_err(|cause| {
        let _ = fs::remove_file(&beside);
        LifecycleError::PidFile {
            path: path.to_owned(),
            cause,
        }
    })
}

/// Starts a command in a shell. Its standard output is our standard error: ours carries media.
fn spawn(kind: &str, command: &str, tool: &str, facts: &[(&str, String)]) -> Option<Child> {
    let stdout = io::stderr().as_fd().try_clone_to_owned();
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(stdout.map_or_else(|_| Stdio::null(), Stdio::from))
        .env("P2PS_FACT_TOOL", tool)
        .env("P2PS_FACT_PID", std::process::id().to_string());
    for (name, value) in facts {
        let name = name.to_ascii_uppercase().replace('-', "_");
        // A value cannot hold the byte that ends it.
        shell.env(format!("P2PS_FACT_{name}"), value.replace('\0', ""));
    }
    shell
        .spawn()
        .inspect_err(|error| tracing::warn!("cannot run the {kind} command: {error}"))
        .ok()
}

/// Waits for a command, and kills it when it takes too long.
fn wait_at_most(mut child: Child, limit: Duration) -> io::Result<Option<std::process::ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(LOOK);
    }
}

/// Says when a command did not do well.
fn report(kind: &str, outcome: io::Result<Option<std::process::ExitStatus>>) {
    match outcome {
        Ok(Some(status)) if status.success() => {}
        Ok(Some(status)) => tracing::warn!("the {kind} command failed: {status}"),
        Ok(None) => tracing::warn!("the {kind} command took too long and was killed"),
        Err(error) => tracing::warn!("cannot wait for the {kind} command: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_at_the_end_knows_the_facts() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let lifecycle = Lifecycle::begin(Plan {
            tool: "p2ps-peer",
            on_exit: Some(format!(
                "env | grep ^P2PS_FACT_ | sort >'{}'",
                out.display()
            )),
            ..Plan::default()
        });
        let mut lifecycle = lifecycle.unwrap();
        lifecycle.ready(vec![
            ("channel-id", "0f97".to_owned()),
            ("listen", "[::1]:7850 $(false)".to_owned()),
        ]);
        lifecycle.end(4, "unreachable");
        let text = fs::read_to_string(out).unwrap();
        assert_eq!(
            text,
            format!(
                "P2PS_FACT_CHANNEL_ID=0f97\nP2PS_FACT_EXIT=4\nP2PS_FACT_LISTEN=[::1]:7850 $(false)\n\
                 P2PS_FACT_PID={}\nP2PS_FACT_REASON=unreachable\nP2PS_FACT_TOOL=p2ps-peer\n",
                std::process::id()
            )
        );
    }

    #[test]
    fn a_command_that_hangs_is_killed() {
        let child = spawn("test", "exec sleep 600", "p2ps-peer", &[]).unwrap();
        assert!(wait_at_most(child, Duration::ZERO).unwrap().is_none());
    }

    #[test]
    fn a_descriptor_that_is_not_open_is_refused() {
        let closed = Plan {
            ready_fd: Some(1023),
            ..Plan::default()
        };
        assert!(matches!(
            Lifecycle::begin(closed),
            Err(LifecycleError::ReadyFd { fd: 1023, .. })
        ));
    }

    #[test]
    fn a_pid_file_is_held_by_one_live_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        let plan = Plan {
            pid_file: Some(path.clone()),
            ..Plan::default()
        };
        // Process 1 always lives; no process has the number after the largest.
        fs::write(&path, "1\n").unwrap();
        assert!(matches!(
            Lifecycle::begin(plan.clone()),
            Err(LifecycleError::Used { pid: 1, .. })
        ));
        fs::write(&path, "4194305\n").unwrap();
        let lifecycle = Lifecycle::begin(plan.clone()).unwrap();
        assert_eq!(read_pid(&path), Some(std::process::id()));
        drop(lifecycle);
        assert!(!path.exists());
        let elsewhere = Plan {
            pid_file: Some(dir.path().join("no/pid")),
            ..plan
        };
        assert!(matches!(
            Lifecycle::begin(elsewhere),
            Err(LifecycleError::PidFile { .. })
        ));
    }
}
