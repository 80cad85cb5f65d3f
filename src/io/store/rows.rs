//! Rows in a redb file: opening, what a damaged file still gives, reading all, writing some.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::{
    Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, StorageError,
    TableDefinition, TableError,
};

use super::StoreError;
use super::disk::{Disk, beside, make_folder, put_in_place};
use super::pages::{PAGE_ROWS, Page};
use super::writer::{Pending, Rows};
use crate::io::media::reason;
use crate::tracker::provider::change::{Change, Table};
use crate::tracker::provider::contract::key;

/// Version of what we put into the file; redb's own stands beside it.
pub(super) const VERSION: u32 = 1;

/// What the file says about itself.
const ABOUT: TableDefinition<'_, &str, &str> = TableDefinition::new("p2ps");
/// Row of [`ABOUT`] with [`VERSION`].
const VERSION_KEY: &str = "version";

/// Pages of the file that redb keeps in memory: the provider holds all rows itself and never reads them back.
const CACHE_BYTES: usize = 8 << 20;

/// Ending of a file in the making.
const NEW: &str = ".new";
/// How many times its length a file may say that it has, to be worth a try: a cut file has the better part of its pages.
const MISSING_MAX: u64 = 4;

/// Ending under which a damaged file is kept.
const DAMAGED: &str = ".damaged";

const fn definition(table: Table) -> TableDefinition<'static, &'static str, &'static str> {
    TableDefinition::new(table.name())
}

/// An open file of rows.
#[derive(Debug)]
pub(super) struct FileRows {
    /// None after an error of the disk, which redb remembers until the file is opened again.
    database: Option<Database>,
    disk: Disk,
}

/// A database that could not be opened.
enum OpenError {
    /// Its contents are wrong.
    Damaged(String),
    /// The system failed.
    Io(std::io::Error),
}

impl From<StorageError> for OpenError {
    fn from(error: StorageError) -> Self {
        match error {
            // A read behind the end is one into a part that was cut off.
            StorageError::Io(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => {
                Self::Io(error)
            }
            other => Self::Damaged(other.to_string().to_lowercase()),
        }
    }
}

impl OpenError {
    fn at(self, path: &Path) -> StoreError {
        match self {
            Self::Damaged(why) => StoreError::damaged(path, why),
            Self::Io(error) => StoreError::open(path, &error),
        }
    }
}

impl FileRows {
    /// Opens the file at `path`, making one where there is none.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let is_new = match fs::symlink_metadata(path) {
            Ok(metadata) => metadata.is_file() && metadata.len() == 0,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
            Err(error) => return Err(StoreError::open(path, &error)),
        };
        if is_new {
            make_folder(path)?;
            return Self::make(path);
        }
        let disk = Disk::open(path)?;
        let found = disk
            .bytes()
            .map_err(|error| StoreError::open(path, &error))?;
        let Some(announced) = disk.bytes_announced() else {
            return Err(StoreError::damaged(path, "not a file of this tool"));
        };
        let opened = match found < announced {
            true => Err(OpenError::Damaged(format!("cut at byte {found}"))),
            false => database(disk.clone()),
        };
        let rows = match opened {
            Ok((database, fell_back)) => {
                if fell_back {
                    warn_cut(path, "ends in a commit that is not whole");
                }
                Self {
                    database: Some(database),
                    disk,
                }
            }
            Err(OpenError::Damaged(why)) => Self::mend(path, &disk, found.max(announced), &why)?,
            Err(error) => return Err(error.at(path)),
        };
        rows.check_version(path)?;
        Ok(rows)
    }

    /// A new file, which has its name only once it is whole.
    fn make(path: &Path) -> Result<Self, StoreError> {
        let new = beside(path, NEW);
        let disk = Disk::create(&new)?;
        let (database, _) = database(disk.clone()).map_err(|error| error.at(path))?;
        let mut rows = Self {
            database: Some(database),
            disk,
        };
        rows.commit(&Pending::new())
            .map_err(|error| StoreError::Open {
                path: StoreError::shown(path),
                why: error.to_string(),
            })?;
        put_in_place(&new, path).map_err(|error| StoreError::open(path, &error))?;
        Ok(rows)
    }

    /// The last commit of a damaged file whose pages are all there. Tried on a copy of `bytes`, because redb refuses a
    /// file that is too short, and one that was closed well, though the commit before the last may be whole; the file
    /// itself is kept under another name.
    fn mend(path: &Path, damaged: &Disk, bytes: u64, why: &str) -> Result<Self, StoreError> {
        let failed = |error: std::io::Error| StoreError::open(path, &error);
        let nothing_left =
            || StoreError::damaged(path, format!("{why}, and no whole commit is left"));
        let found = damaged.bytes().map_err(failed)?;
        if bytes > found.saturating_mul(MISSING_MAX) {
            return Err(nothing_left());
        }
        let new = beside(path, NEW);
        let disk = Disk::create(&new)?;
        let opened = damaged
            .copy_as_crashed(&disk, bytes)
            .map_err(OpenError::Io)
            .and_then(|()| database(disk.clone()));
        let database = match opened {
            Ok((database, _)) => database,
            Err(error) => {
                let _ = fs::remove_file(&new);
                return Err(match error {
                    OpenError::Damaged(_) => nothing_left(),
                    OpenError::Io(error) => failed(error),
                });
            }
        };
        let kept = beside(path, DAMAGED);
        let _ = fs::remove_file(&kept);
        fs::hard_link(path, &kept).map_err(failed)?;
        put_in_place(&new, path).map_err(failed)?;
        warn_cut(path, why);
        Ok(Self {
            database: Some(database),
            disk,
        })
    }

    /// Whether the rows are in a form that this tool knows.
    fn check_version(&self, path: &Path) -> Result<(), StoreError> {
        let damaged = |error: redb::Error| StoreError::damaged(path, error.to_string());
        let Some(database) = &self.database else {
            return Ok(());
        };
        let reading = database
            .begin_read()
            .map_err(|error| damaged(error.into()))?;
        let version = match reading.open_table(ABOUT) {
            Ok(about) => about
                .get(VERSION_KEY)
                .map_err(|error| damaged(error.into()))?
                .map(|version| version.value().to_owned()),
            Err(TableError::TableDoesNotExist(_)) => None,
            Err(error) => return Err(damaged(error.into())),
        };
        match version {
            Some(version) if version == VERSION.to_string() => Ok(()),
            Some(found) => Err(StoreError::Version {
                path: StoreError::shown(path),
                found,
            }),
            None => Err(StoreError::damaged(path, "not a file of this tool")),
        }
    }

    /// Every row.
    pub(super) fn read(&self, path: &Path) -> Result<Vec<Change>, StoreError> {
        let damaged = |error: redb::Error| StoreError::damaged(path, error.to_string());
        let Some(database) = &self.database else {
            return Ok(Vec::new());
        };
        let reading = database
            .begin_read()
            .map_err(|error| damaged(error.into()))?;
        let mut all = Vec::new();
        for table in Table::ALL {
            let rows = match reading.open_table(definition(table)) {
                Ok(rows) => rows,
                Err(TableError::TableDoesNotExist(_)) => continue,
                Err(error) => return Err(damaged(error.into())),
            };
            for row in rows.iter().map_err(|error| damaged(error.into()))? {
                let (key, value) = row.map_err(|error| damaged(error.into()))?;
                all.push(Change {
                    table,
                    key: key.value().to_owned(),
                    value: Some(value.value().to_owned()),
                });
            }
        }
        Ok(all)
    }

    fn try_page(&self, table: Table, after: u64) -> Result<Page, redb::Error> {
        let Some(database) = &self.database else {
            return Err(redb::Error::PreviousIo);
        };
        let reading = database.begin_read()?;
        let rows = match reading.open_table(definition(table)) {
            Ok(rows) => rows,
            Err(TableError::TableDoesNotExist(_)) => return Ok(Page::new()),
            Err(error) => return Err(error.into()),
        };
        let mut page = Page::new();
        for row in rows
            .range(key(after.saturating_add(1)).as_str()..)?
            .take(PAGE_ROWS)
        {
            let (no, value) = row?;
            // Of a tool that knew more, perhaps.
            if let Ok(no) = no.value().parse() {
                page.push((no, value.value().to_owned()));
            }
        }
        Ok(page)
    }

    fn try_commit(&mut self, rows: &Pending) -> Result<(), redb::Error> {
        let database = match &mut self.database {
            Some(database) => database,
            none => none.insert(reopen(self.disk.clone())?),
        };
        let writing = database.begin_write()?;
        {
            let mut about = writing.open_table(ABOUT)?;
            if about.get(VERSION_KEY)?.is_none() {
                about.insert(VERSION_KEY, VERSION.to_string().as_str())?;
            }
        }
        for table in Table::ALL {
            let mut of_table = rows
                .iter()
                .filter(|((found, _), _)| *found == table)
                .peekable();
            if of_table.peek().is_none() {
                continue;
            }
            let mut open = writing.open_table(definition(table))?;
            for ((_, key), value) in of_table {
                match value {
                    Some(value) => drop(open.insert(key.as_str(), value.as_str())?),
                    None => drop(open.remove(key.as_str())?),
                }
            }
        }
        Ok(writing.commit()?)
    }

    #[cfg(test)]
    pub(super) fn is_full(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.disk.is_full)
    }
}

impl Rows for FileRows {
    /// Writes rows in one transaction; when this returns without an error they are on disk.
    fn commit(&mut self, rows: &Pending) -> Result<(), StoreError> {
        let result = self.try_commit(rows);
        if result.is_err() {
            // Whatever went wrong, redb takes nothing more before the file is opened again.
            self.database = None;
        }
        result.map_err(|error| StoreError::NotStored(plain(error)))
    }

    fn page(&self, table: Table, after: u64) -> Result<Page, StoreError> {
        let page = self.try_page(table, after);
        page.map_err(|error| StoreError::Unreadable(plain(error)))
    }

    /// Closes the file, so that it opens again without a repair.
    fn close(self) {
        drop(self.database);
        drop(self.disk);
    }
}

/// Opens a database with every page checked: one that was changed behind redb's back is refused, or falls back to the
/// commit before the last; whether it did is the second part of what is given.
fn database(disk: Disk) -> Result<(Database, bool), OpenError> {
    let fell_back = Arc::new(AtomicBool::new(false));
    let noted = Arc::clone(&fell_back);
    let mut builder = Database::builder();
    builder
        .set_cache_size(CACHE_BYTES)
        .set_check_integrity_on_open(true)
        // A repair reports 0, 0.6 and 0.9; 0.3 only once it found the newest commit not whole.
        .set_repair_callback(move |repair| {
            if repair.progress() > 0.0 && repair.progress() < 0.5 {
                noted.store(true, Ordering::Relaxed);
            }
        });
    match builder.create_with_backend(disk) {
        Ok(database) => Ok((database, fell_back.load(Ordering::Relaxed))),
        Err(DatabaseError::Storage(error)) => Err(error.into()),
        Err(other) => Err(OpenError::Damaged(other.to_string().to_lowercase())),
    }
}

/// Says that something is missing at the end.
fn warn_cut(path: &Path, why: &str) {
    let path = StoreError::shown(path);
    tracing::warn!("state {path} {why}: what follows the last whole record is ignored");
}

/// Opens a database again that this process has just used.
fn reopen(disk: Disk) -> Result<Database, redb::Error> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    Ok(builder.create_with_backend(disk)?)
}

/// An error of redb as people know it.
fn plain(error: redb::Error) -> String {
    match error {
        redb::Error::Io(error) => reason(&error),
        other => other.to_string().to_lowercase(),
    }
}
