//! Durable state: rows that are on disk before anybody hears that they are there.
//!
//! One thread writes. Whatever was submitted while it wrote goes to disk together, in the order in which it was
//! submitted, in one transaction: so a thousand requests a second share the few syncs that a disk makes. A commit that
//! failed keeps its rows and is tried again with the next, and every second; until then whoever waits for it hears why.

mod disk;
pub mod pages;
mod rows;
pub mod shared;
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
use crate::tracker::provider::change::{Change, Table};
use crate::tracker::registry::Shared;

pub use url::{RedisUrl, StoreUrl};

use pages::Page;
use rows::FileRows;
use shared::lease::{Lease, Turn};
use shared::members::{Members, News};
use shared::{Place, SharedRows};
use writer::{Job, Rows};

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
    /// Rows are there, but cannot be read now.
    #[error("cannot read rows: {0}")]
    Unreadable(String),
    /// A shared store does not answer.
    #[error("cannot reach store {store}: {why}")]
    Unreachable {
        /// The store.
        store: Shown,
        /// What happened.
        why: String,
    },
    /// A shared store does not let us in.
    #[error("refused by store {store}: {why}")]
    Denied {
        /// The store.
        store: Shown,
        /// What is missing.
        why: String,
    },
    /// A shared store answers, but not as one that could be used.
    #[error("cannot use store {store}: {why}")]
    Unusable {
        /// The store.
        store: Shown,
        /// What is wrong.
        why: String,
    },
    /// The rows are those of a provider, and this tracker is not the one that sells.
    #[error("not stored: another tracker sells now")]
    NotSelling,
    /// One of the rows was changed by another tracker since it was read.
    #[error("not stored: another tracker was first")]
    Changed,
}

impl StoreError {
    fn shown(path: &Path) -> Shown {
        Shown::new(&path.to_string_lossy())
    }

    fn closed() -> Self {
        Self::NotStored("store is closed".to_owned())
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
pub struct Store(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Memory,
    File(Arc<Writer>),
    Shared(Arc<Common>),
}

/// A store that several trackers share.
#[derive(Debug)]
struct Common {
    place: Place,
    /// Writes what any tracker may write.
    writer: Writer,
    /// Writes what a provider writes; none while this tracker does not sell.
    seller: Mutex<Option<Writer>>,
}

/// The thread that writes.
#[derive(Debug)]
struct Writer {
    /// None once no more is taken.
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Store {
    /// Opens a store and gives every row in it, in the order of [`Table`] and key.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: what cannot be read is neither guessed nor overwritten.
    pub fn open(url: &StoreUrl) -> Result<(Self, Vec<Change>), StoreError> {
        match url {
            StoreUrl::Memory => Ok((Self(Kind::Memory), Vec::new())),
            StoreUrl::Redb(path) => {
                let rows = FileRows::open(path)?;
                let all = rows.read(path)?;
                let writer = Writer::start(rows).map_err(|error| StoreError::open(path, &error))?;
                Ok((Self(Kind::File(Arc::new(writer))), all))
            }
            StoreUrl::Redis(url) => {
                let place = Place::new(url)?;
                let all = place.read(&Table::ALL)?;
                let writer = Writer::start(SharedRows::new(place.clone(), None));
                let writer = writer.map_err(|error| StoreError::NotStored(reason(&error)))?;
                let common = Common {
                    place,
                    writer,
                    seller: Mutex::new(None),
                };
                Ok((Self(Kind::Shared(Arc::new(common))), all))
            }
        }
    }

    /// Puts rows; the future tells when they are on disk, and need not be waited for.
    ///
    /// Cheap, and never waits: meant to be called under the very lock under which the rows were made, so that the order
    /// on disk is the order in memory.
    pub fn submit(
        &self,
        changes: Vec<Change>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + 'static {
        let waiting: Vec<Waiting> = match &self.0 {
            Kind::Memory => Vec::new(),
            Kind::File(writer) => writer.submit(changes).into_iter().collect(),
            Kind::Shared(common) => {
                let (sold, others): (Vec<Change>, Vec<Change>) =
                    changes.into_iter().partition(Change::is_of_provider);
                let sold = match &*lock(&common.seller) {
                    _ if sold.is_empty() => None,
                    Some(writer) => writer.submit(sold),
                    None => {
                        let (done, waiting) = oneshot::channel();
                        let _ = done.send(Err(StoreError::NotSelling));
                        Some(waiting)
                    }
                };
                sold.into_iter()
                    .chain(common.writer.submit(others))
                    .collect()
            }
        };
        async move {
            for one in waiting {
                one.await.unwrap_or_else(|_| Err(StoreError::closed()))?;
            }
            Ok(())
        }
    }

    /// Puts a row unless a tracker that shares the store has put one; gives the value that counts when it is not ours,
    /// and the row when it has yet to be submitted.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when that cannot be known.
    pub fn claim(&self, row: Change) -> Result<(Option<String>, Option<Change>), StoreError> {
        let Kind::Shared(common) = &self.0 else {
            return Ok((None, Some(row)));
        };
        let found = common.place.claim(&row)?;
        Ok((
            found.filter(|found| Some(found) != row.value.as_ref()),
            None,
        ))
    }

    /// Puts a row on which all trackers that share the store agree, unless another one was first with a change: gives what
    /// the store holds then. Waits for the store.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when it could not be asked.
    pub fn agree(&self, row: Change) -> Result<Change, StoreError> {
        match &self.0 {
            Kind::Shared(common) => common.place.agree(&row),
            // Nobody else could be first.
            Kind::Memory | Kind::File(_) => Ok(row),
        }
    }

    /// The rows of a table of numbered rows that follow the number `after`, as they are on disk: a page of them.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn page(&self, table: Table, after: u64) -> Result<Page, StoreError> {
        let writer = match &self.0 {
            Kind::Memory => return Ok(Page::new()),
            Kind::File(writer) => writer,
            Kind::Shared(common) => &common.writer,
        };
        let read = writer.read(table, after);
        read.await.unwrap_or_else(|_| Err(StoreError::closed()))
    }

    /// Whether other trackers may share the store.
    pub const fn is_shared(&self) -> bool {
        matches!(self.0, Kind::Shared(_))
    }

    /// Whether what is stored survives the end of the store's own process, as far as that says.
    pub fn is_lasting(&self) -> bool {
        match &self.0 {
            Kind::Memory => false,
            Kind::File(_) => true,
            Kind::Shared(common) => common.place.is_lasting() != Some(false),
        }
    }

    /// Tells the other trackers of a shared store what `poll` gives, and `hear` what they tell: see [`Members`]. `node`
    /// is a word that no other tracker has.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: a store that cannot be reached.
    pub fn share(
        &self,
        node: &str,
        poll: impl FnMut() -> Option<Shared> + Send + 'static,
        hear: impl Fn(News) + Clone + Send + 'static,
    ) -> Result<Option<Members>, StoreError> {
        let Kind::Shared(common) = &self.0 else {
            return Ok(None);
        };
        Members::start(common.place.clone(), node, poll, hear).map(Some)
    }

    /// Takes turns in selling with the other trackers of a shared store: see [`Lease`]. `at` is where this one listens.
    ///
    /// # Errors
    ///
    /// The system's, when there is no thread to be had.
    pub fn take_turns(
        &self,
        node: &str,
        at: &str,
        tell: impl FnMut(Turn) + Send + 'static,
    ) -> io::Result<Option<Lease>> {
        let Kind::Shared(common) = &self.0 else {
            return Ok(None);
        };
        Lease::start(self.clone(), common.place.clone(), node, at, tell).map(Some)
    }

    /// Takes a provider's rows from now on, as long as nobody else begins to sell.
    fn sell_in(&self, term: u64) -> io::Result<()> {
        if let Kind::Shared(common) = &self.0 {
            let rows = SharedRows::new(common.place.clone(), Some(term));
            let old = lock(&common.seller).replace(Writer::start(rows)?);
            // Outside the lock: it may have to wait for the store.
            drop(old);
        }
        Ok(())
    }

    /// Takes a provider's rows no more.
    fn sell_no_more(&self) {
        if let Kind::Shared(common) = &self.0 {
            let old = lock(&common.seller).take();
            drop(old);
        }
    }

    /// Writes what is left and closes the file. What is submitted later is not stored.
    pub fn close(&self) {
        match &self.0 {
            Kind::Memory => {}
            Kind::File(writer) => writer.close(),
            Kind::Shared(common) => {
                self.sell_no_more();
                common.writer.close();
            }
        }
    }
}

/// The answer to rows that were submitted.
type Waiting = oneshot::Receiver<Result<(), StoreError>>;

impl Writer {
    fn start(rows: impl Rows + 'static) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || writer::run(rows, &queue))?;
        Ok(Self {
            jobs: Mutex::new(Some(jobs)),
            thread: Mutex::new(Some(thread)),
        })
    }

    fn submit(&self, changes: Vec<Change>) -> Option<Waiting> {
        if changes.is_empty() {
            return None;
        }
        let (done, waiting) = oneshot::channel();
        if let Some(jobs) = &*lock(&self.jobs) {
            // When the thread is gone, so is `done`, and whoever waits hears it.
            let _ = jobs.send(Job::Write { changes, done });
        }
        Some(waiting)
    }

    fn read(&self, table: Table, after: u64) -> oneshot::Receiver<Result<Page, StoreError>> {
        let (done, waiting) = oneshot::channel();
        if let Some(jobs) = &*lock(&self.jobs) {
            let _ = jobs.send(Job::Read { table, after, done });
        }
        waiting
    }

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
