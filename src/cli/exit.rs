//! How a tool ends: its exit codes, and the one line it says when it fails.

use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use super::value::{Shown, printable};
use crate::io::media::OpenError;
use crate::io::store::StoreError;

pub use crate::io::media::reason;

/// How a tool ended. The numbers are the same in all five.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done, or asked to stop, or the reader closed the sink.
    Done,
    /// Failed while running.
    Failed,
    /// Usage or configuration error.
    Usage,
    /// The input ended or failed before any media.
    NoInput,
    /// No tracker, relay or peer could be reached in time.
    Unreachable,
    /// Refused: token, price, capacity.
    Refused,
    /// No such channel.
    NoChannel,
    /// Address in use, or no permission to bind.
    Bind,
    /// Output failed.
    Output,
    /// A second interrupt.
    Interrupted,
    /// The answer of `p2ps-qos check`, whose numbers follow monitoring's own table.
    Answer(u8),
}

/// Every exit code with its meaning, as the manuals print it.
pub const EXIT_TABLE: [(Exit, &str); 10] = [
    (
        Exit::Done,
        "done, or asked to stop, or the reader closed the sink",
    ),
    (Exit::Failed, "failed while running"),
    (Exit::Usage, "usage or configuration error"),
    (Exit::NoInput, "the input ended or failed before any media"),
    (
        Exit::Unreachable,
        "no tracker, relay or peer could be reached in time",
    ),
    (Exit::Refused, "refused: token, price, capacity"),
    (Exit::NoChannel, "no such channel"),
    (Exit::Bind, "address in use, or no permission to bind"),
    (Exit::Output, "output failed (disk full, file exists)"),
    (Exit::Interrupted, "a second interrupt"),
];

impl Exit {
    /// The number the shell sees.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NoInput => 3,
            Self::Unreachable => 4,
            Self::Refused => 5,
            Self::NoChannel => 6,
            Self::Bind => 7,
            Self::Output => 8,
            Self::Interrupted => 130,
            Self::Answer(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a tool gave up: `what: why`, in lower case, without a full stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CliError {
    /// How the tool ends.
    pub exit: Exit,
    /// What could not be done, with the thing that was wrong in it.
    pub what: String,
    /// The cause, and where there is one the cure; empty when `what` says all.
    pub why: String,
}

impl CliError {
    /// An error of any kind.
    pub fn new(exit: Exit, what: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            exit,
            what: what.into(),
            why: why.into(),
        }
    }

    /// A usage or configuration error.
    pub fn usage(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what, why)
    }

    /// Two options that cannot both hold.
    pub fn exclusive(one: &str, other: &str) -> Self {
        Self::usage(format!("{one} and {other} exclude each other"), "")
    }

    /// A socket that could not be bound to `address`.
    pub fn bind(address: impl fmt::Display, error: &io::Error) -> Self {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => " (try --listen :0)",
            io::ErrorKind::PermissionDenied => " (ports below 1024 need privileges)",
            _ => "",
        };
        Self::new(
            Exit::Bind,
            format!("cannot bind {address}"),
            format!("{}{hint}", reason(error)),
        )
    }

    /// An input or output that could not be opened; `otherwise` when it was neither the person nor the network.
    pub fn open(error: &OpenError, otherwise: Exit) -> Self {
        let exit = match error {
            OpenError::Io { action: "bind", .. } => Exit::Bind,
            OpenError::Io { .. } => otherwise,
            _ => Exit::Usage,
        };
        Self::new(exit, error.to_string(), "")
    }

    /// Durable state that cannot be had.
    pub fn store(error: &StoreError) -> Self {
        let exit = match error {
            StoreError::Locked { .. } => Exit::Bind,
            StoreError::Unreachable { .. } => Exit::Unreachable,
            StoreError::Denied { .. } => Exit::Refused,
            StoreError::Damaged { .. }
            | StoreError::NotStored(_)
            | StoreError::Unreadable(_)
            | StoreError::NotSelling
            | StoreError::Changed => Exit::Failed,
            _ => Exit::Usage,
        };
        Self::new(exit, error.to_string(), "")
    }

    /// An input without a single byte.
    pub fn no_media() -> Self {
        Self::new(
            Exit::NoInput,
            "no media",
            "input ended before the first byte",
        )
    }

    /// An output that failed while it was written.
    pub fn write_output(error: &io::Error) -> Self {
        Self::new(Exit::Output, "cannot write output", reason(error))
    }

    /// A file that could not be read: configuration, state, key.
    pub fn read_file(kind: &str, path: &Path, error: &io::Error) -> Self {
        Self::usage(
            format!("cannot read {kind} {}", shown_path(path)),
            reason(error),
        )
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.what))?;
        if !self.why.is_empty() {
            write!(f, ": {}", printable(&self.why))?;
        }
        Ok(())
    }
}

impl std::error::Error for CliError {}

/// A path as error lines show it.
pub fn shown_path(path: &Path) -> Shown {
    Shown::new(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_one_line() {
        let in_use = io::Error::from_raw_os_error(libc::EADDRINUSE);
        let full = io::Error::from_raw_os_error(libc::ENOSPC);
        for (error, code, line) in [
            (
                CliError::bind("0.0.0.0:7850", &in_use),
                7,
                "cannot bind 0.0.0.0:7850: address in use (try --listen :0)",
            ),
            (
                CliError::exclusive("--no-upload", "--upload-limit"),
                2,
                "--no-upload and --upload-limit exclude each other",
            ),
            (
                CliError::open(&OpenError::ReadTerminal, Exit::NoInput),
                2,
                "cannot read media from a terminal: pipe a stream in or name a file with -i",
            ),
            (
                CliError::write_output(&full),
                8,
                "cannot write output: no space left on device",
            ),
            (
                CliError::usage("a\nb", "\u{1b}[31mc"),
                2,
                "a\\nb: \\u{1b}[31mc",
            ),
            (
                CliError::read_file(
                    "key",
                    Path::new("k"),
                    &io::Error::from_raw_os_error(libc::ELOOP),
                ),
                2,
                "cannot read key \"k\": too many levels of symbolic links",
            ),
        ] {
            assert_eq!(
                (error.exit.code(), error.to_string().as_str()),
                (code, line)
            );
        }
    }

    #[test]
    fn the_table_holds_every_code_once() {
        let codes: Vec<u8> = EXIT_TABLE.iter().map(|(exit, _)| exit.code()).collect();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7, 8, 130]);
    }
}
