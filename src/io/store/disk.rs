//! The file below a store: who may open it, that only one does, and its bytes for redb.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::ops::Deref;
use std::os::unix::fs::{
    DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
#[cfg(test)]
use std::sync::atomic::{AtomicBool, Ordering};

use redb::StorageBackend;

use super::StoreError;

/// First bytes of every redb file.
const MAGIC: [u8; 9] = *b"redb\x1a\x0a\xa9\x0d\x0a";
/// Where the header has its flags ("god byte" in redb's design document), and two of them.
const FLAGS_AT: u64 = 9;
const RECOVERY_REQUIRED: u8 = 2;
const TWO_PHASE_COMMIT: u8 = 4;
/// The part of a header that is read here: up to the counts of regions.
const HEADER_BYTES: usize = 32;

/// An open file that this process alone uses as a store. Clones are the same open file.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    file: Arc<Locked>,
    #[cfg(test)]
    pub(super) is_full: Arc<AtomicBool>,
}

/// A file under a lock, which ends with it. Closing alone would not do: a child process that another thread is just
/// starting holds every file for a moment, and the lock with it.
#[derive(Debug)]
struct Locked(File);

impl Drop for Locked {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

impl Deref for Locked {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl Disk {
    /// Opens a file that is there: none of somebody else, none that others may read (keys and accounts are in it), no
    /// link (whoever can write beside it must not choose what we read).
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(OpenOptions::new().read(true).write(true), path)
    }

    /// The same for a file that may be there; its contents are gone.
    pub(super) fn create(path: &Path) -> Result<Self, StoreError> {
        let mut options = OpenOptions::new();
        let disk = Self::open_with(
            options.read(true).write(true).create(true).mode(0o600),
            path,
        )?;
        // Only now that nobody else has it.
        disk.file
            .set_len(0)
            .map_err(|error| StoreError::open(path, &error))?;
        Ok(disk)
    }

    fn open_with(options: &mut OpenOptions, path: &Path) -> Result<Self, StoreError> {
        let file = options
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(path)
            .map_err(|error| match path.is_symlink() {
                true => StoreError::refused(path, "is a symbolic link"),
                false => StoreError::open(path, &error),
            })?;
        let metadata = file
            .metadata()
            .map_err(|error| StoreError::open(path, &error))?;
        let owner = metadata.uid();
        if !metadata.is_file() {
            return Err(StoreError::refused(path, "is not a plain file"));
        }
        if owner != 0 && owner != rustix::process::geteuid().as_raw() {
            return Err(StoreError::refused(path, "belongs to another user"));
        }
        if metadata.permissions().mode() & 0o177 != 0 {
            return Err(StoreError::refused(
                path,
                "readable by others, chmod 600 it",
            ));
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(StoreError::Locked {
                    path: StoreError::shown(path),
                    pid: holder(metadata.ino()),
                });
            }
            Err(fs::TryLockError::Error(error)) => return Err(StoreError::open(path, &error)),
        }
        Ok(Self {
            file: Arc::new(Locked(file)),
            #[cfg(test)]
            is_full: Arc::default(),
        })
    }

    /// How long the file is.
    pub(super) fn bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// How long the file says that it is; none when it does not begin as one of redb's.
    ///
    /// The counts stand in the header in plain (redb's design document, "Super-header"); no data lies behind them.
    pub(super) fn bytes_announced(&self) -> Option<u64> {
        let mut header = [0; HEADER_BYTES];
        self.file.read_exact_at(&mut header, 0).ok()?;
        if !header.starts_with(&MAGIC) {
            return None;
        }
        // Page size, header pages of a region, its most data pages, full regions, pages of the last one.
        let field = |at: usize| {
            let bytes = header.get(12 + 4 * at..16 + 4 * at)?;
            Some(u64::from(u32::from_le_bytes(bytes.try_into().ok()?)))
        };
        let (page, heads, data) = (field(0)?, field(1)?, field(2)?);
        let (full, last) = (field(3)?, field(4)?);
        let last_region = if last > 0 { heads + last } else { 0 };
        let pages = full.checked_mul(heads + data)?.checked_add(last_region)?;
        pages.checked_add(1)?.checked_mul(page)
    }

    /// Copies all bytes, fills up to `bytes` with zeros, and marks the copy as left by a crash in the middle of a commit
    /// of one phase: then redb believes neither of its two newest commits before it has seen all of their pages.
    pub(super) fn copy_as_crashed(&self, to: &Self, bytes: u64) -> io::Result<()> {
        let (mut from, mut into) = (&**self.file, &**to.file);
        io::Seek::rewind(&mut from)?;
        io::copy(&mut from, &mut into)?;
        to.file.set_len(bytes)?;
        let mut flags = [0];
        to.file.read_exact_at(&mut flags, FLAGS_AT)?;
        let flags = flags.map(|flags| flags & !TWO_PHASE_COMMIT | RECOVERY_REQUIRED);
        to.file.write_all_at(&flags, FLAGS_AT)?;
        to.file.sync_all()
    }

    #[cfg(test)]
    fn check(&self) -> io::Result<()> {
        match self.is_full.load(Ordering::Relaxed) {
            true => Err(io::Error::from_raw_os_error(libc::ENOSPC)),
            false => Ok(()),
        }
    }
}

// The lock that matters is ours and spans all databases that are opened on one file; redb needs none.
impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.bytes()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        #[cfg(test)]
        self.check()?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        #[cfg(test)]
        self.check()?;
        self.file.write_all_at(data, offset)
    }
}

/// The process that holds the lock of a file, as far as the system tells.
fn holder(inode: u64) -> Option<u32> {
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let tail = format!(":{inode}");
    locks.lines().find_map(|line| {
        // `1: FLOCK ADVISORY WRITE 4711 08:01:131 0 EOF`
        let mut words = line.split_whitespace();
        let is_lock = words.by_ref().any(|word| word == "FLOCK");
        let pid = words.nth(2)?.parse().ok()?;
        (is_lock && pid != 0 && words.next()?.ends_with(&tail)).then_some(pid)
    })
}

/// Makes the folder of a file, for nobody else to look into.
pub(super) fn make_folder(path: &Path) -> Result<(), StoreError> {
    let mut builder = DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o700)
        .create(folder_of(path))
        .map_err(|error| StoreError::open(path, &error))
}

/// `path` with an ending of its own beside it.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Gives a finished file its name, and the folder that name for good.
pub(super) fn put_in_place(from: &Path, path: &Path) -> io::Result<()> {
    fs::rename(from, path)?;
    File::open(folder_of(path))?.sync_all()
}

fn folder_of(path: &Path) -> &Path {
    path.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("."))
}
