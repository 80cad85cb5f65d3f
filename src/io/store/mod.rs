//! Durable state: rows that are on disk before anybody hears that they are there.
//!
//! One thread writes. Whatever was submitted while it wrote goes to disk together, in the order in which it was
//! submitted, in one transaction: so a thousand requests a second share the few syncs that a disk makes. A commit that
//! failed keeps its rows and is tried again with the next, and every second; until then whoever waits for it hears why.

mod disk;
mod rows;
#[cfg(test)]
mod tests;
mod url;
mod writer;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use crate::io::media::reason;
use crate::io::value::Shown;
use crate::tracker::provider::change::Change;

pub use url::StoreUrl;

use rows::Rows;
use writer::Job;

/// Why there is no store, or why something is not in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file cannot be opened or made.
    #[error("cannot open state {path}: {why}")]
    Open {
        /// The file.
        path: Shown,
        /// The system's reason.
        why: String,
    },
    /// The file is there but must not be used.
    #[error("cannot use state {path}: {why}")]
    Refused {
        /// The file.
        path: Shown,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Another process has it.
    #[error("cannot lock state {path}: used by {}", Holder(*.pid))]
    Locked {
        /// The file.
        path: Shown,
        /// The process, where the system tells.
        pid: Option<u32>,
    },
    /// A newer tool wrote it.
    #[error(
        "cannot read state {path}: version {found}, this tool knows {}",
        rows::VERSION
    )]
    Version {
        /// The file.
        path: Shown,
        /// The version it says.
        found: String,
    },
    /// What is in it cannot be right, and no whole commit is left.
    #[error("cannot read state {path}: {why}")]
    Damaged {
        /// The file.
        path: Shown,
        /// What is wrong with it.
        why: String,
    },
    /// The rows are not on disk now; they are kept and tried again.
    #[error("not stored: {0}")]
    NotStored(String),
}

impl StoreError {
    fn shown(path: &Path) -> Shown {
        Shown::new(&path.to_string_lossy())
    }

    fn open(path: &Path, error: &io::Error) -> Self {
        Self::Open {
            path: Self::shown(path),
            why: reason(error),
        }
    }

    fn refused(path: &Path, why: &'static str) -> Self {
        Self::Refused {
            path: Self::shown(path),
            why,
        }
    }

    fn damaged(path: &Path, why: impl Into<String>) -> Self {
        Self::Damaged {
            path: Self::shown(path),
            why: why.into(),
        }
    }
}

/// Who holds a lock.
struct Holder(Option<u32>);

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(pid) => write!(f, "process {pid}"),
            None => f.write_str("another process"),
        }
    }
}

/// A store that takes rows. Clones are the same store; the last one to go waits until everything is written.
#[derive(Clone, Debug)]
pub struct Store(Option<Arc<Writer>>);

/// The thread that writes.
#[derive(Debug)]
struct Writer {
    /// None once no more is taken.
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Store {
    /// Opens a store and gives every row in it, in the order of [`Table`](crate::tracker::provider::change::Table)
    /// and key.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: what cannot be read is neither guessed nor overwritten.
    pub fn open(url: &StoreUrl) -> Result<(Self, Vec<Change>), StoreError> {
        match url {
            StoreUrl::Memory => Ok((Self(None), Vec::new())),
            StoreUrl::Redb(path) => {
                let (rows, all) = Rows::open(path)?;
                let store = Self::start(rows).map_err(|error| StoreError::open(path, &error))?;
                Ok((store, all))
            }
        }
    }

    fn start(rows: Rows) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || writer::run(rows, &queue))?;
        Ok(Self(Some(Arc::new(Writer {
            jobs: Mutex::new(Some(jobs)),
            thread: Mutex::new(Some(thread)),
        }))))
    }

    /// Puts rows; the future tells when they are on disk, and need not be waited for.
    ///
    /// Cheap, and never waits: meant to be called under the very lock under which the rows were made, so that the order
    /// on disk is the order in memory.
    pub fn submit(
        &self,
        changes: Vec<Change>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + 'static {
        let waiting = match &self.0 {
            Some(writer) if !changes.is_empty() => {
                let (done, waiting) = oneshot::channel();
                if let Some(jobs) = &*lock(&writer.jobs) {
                    // When the thread is gone, so is `done`, and the future says so.
                    let _ = jobs.send(Job { changes, done });
                }
                Some(waiting)
            }
            _ => None,
        };
        async move {
            match waiting {
                Some(waiting) => waiting
                    .await
                    .unwrap_or_else(|_| Err(StoreError::NotStored("store is closed".to_owned()))),
                None => Ok(()),
            }
        }
    }

    /// Writes what is left and closes the file. What is submitted later is not stored.
    pub fn close(&self) {
        if let Some(writer) = &self.0 {
            writer.close();
        }
    }
}

impl Writer {
    fn close(&self) {
        *lock(&self.jobs) = None;
        if let Some(thread) = lock(&self.thread).take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

/// A lock whose data is whole even if a holder panicked: it is one value that is put or taken.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
