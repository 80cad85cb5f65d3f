//! What went wrong with an endpoint, in one line.

use std::io;

use super::endpoint::Endpoint;
use crate::io::value::Shown;

/// Why an endpoint could not be opened; the part of the error line after the tool's name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Standard input is a terminal.
    #[error("cannot read media from a terminal: pipe a stream in or name a file with -i")]
    ReadTerminal,
    /// Standard output is a terminal.
    #[error("will not write media to a terminal: redirect it or use -o")]
    WriteTerminal,
    /// It makes no sense in this place: a mistake on the command line.
    #[error("cannot use {}: {why}", Shown::new(&.endpoint.to_string()))]
    Unfit {
        /// What was named.
        endpoint: Endpoint,
        /// Why not.
        why: &'static str,
    },
    /// The system refused.
    #[error("cannot {action} {what}: {}", reason(.source))]
    Io {
        /// `open`, `bind`, `join`, ….
        action: &'static str,
        /// The file or address, as it should be shown.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
}

impl OpenError {
    /// Maps an I/O error that happened while doing `action` to `what`.
    pub(super) fn io(action: &'static str, what: String) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            action,
            what,
            source,
        }
    }

    /// The kind of I/O error, if it was one: tells a taken address from a missing file.
    pub fn kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Io { source, .. } => Some(source.kind()),
            _ => None,
        }
    }
}

/// Whether a host has no address: the system's resolver has no number for that, only its words.
pub(crate) fn is_unknown_name(error: &io::Error) -> bool {
    let text = error.to_string();
    error.raw_os_error().is_none()
        && ["Name or service not known", "No address associated"]
            .iter()
            .any(|words| text.contains(words))
}

/// An I/O error in the words of an error line: lower case, without the number.
pub fn reason(error: &io::Error) -> String {
    use io::ErrorKind;
    let known = match error.kind() {
        _ if is_unknown_name(error) => Some("name not found"),
        _ if error.raw_os_error().is_none() => None,
        ErrorKind::NotFound => Some("no such file"),
        ErrorKind::AlreadyExists => Some("file exists"),
        ErrorKind::IsADirectory => Some("is a directory"),
        ErrorKind::AddrInUse => Some("address in use"),
        ErrorKind::AddrNotAvailable => Some("no such address on this machine"),
        ErrorKind::StorageFull => Some("no space left on device"),
        ErrorKind::TimedOut => Some("timed out"),
        _ => None,
    };
    if let Some(known) = known {
        return known.to_owned();
    }
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    match letters.next() {
        // "I/O error" and the like stay as they are.
        Some(first) if letters.clone().next().is_some_and(char::is_lowercase) => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_short_and_lower_case() {
        for (number, text) in [
            (2, "no such file"),
            (13, "permission denied"),
            (17, "file exists"),
            (21, "is a directory"),
            (28, "no space left on device"),
            (98, "address in use"),
            (111, "connection refused"),
        ] {
            assert_eq!(reason(&io::Error::from_raw_os_error(number)), text);
        }
        assert_eq!(reason(&io::Error::other("not open")), "not open");
        let unknown = std::net::ToSocketAddrs::to_socket_addrs("host.invalid:1").unwrap_err();
        assert_eq!(reason(&unknown), "name not found");
    }

    #[test]
    fn the_line_names_what_was_opened() {
        let error = OpenError::io("open", Shown::new("movie.ts").to_string())(
            io::Error::from_raw_os_error(2),
        );
        assert_eq!(error.to_string(), "cannot open \"movie.ts\": no such file");
    }
}
