//! Writes chunks to a file, pipe or device, and rotates files.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::output::Progress;
use super::queue::{MediaOut, Queue, Taken};

/// Chunks written at once: what one `writev` of a pipe takes in.
const BATCH_CHUNKS: usize = 64;
/// Pause before a sink that others put into non-blocking mode is tried again.
const WOULD_BLOCK_PAUSE: Duration = Duration::from_millis(2);

/// When a file output begins its next file: at the first entry point after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotate {
    /// This many bytes in the file.
    Bytes(u64),
    /// This long since its first byte.
    Every(Duration),
}

/// Names and opens one file after the other: `film.ts` becomes `film-0001.ts`, `film-0002.ts`, ….
#[derive(Debug)]
pub(super) struct Rotation {
    path: PathBuf,
    rotate: Rotate,
    overwrite: bool,
    number: u32,
    written: u64,
    since: Instant,
    has_entries: bool,
}

impl Rotation {
    pub(super) fn new(path: PathBuf, rotate: Rotate, overwrite: bool) -> Self {
        Self {
            path,
            rotate,
            overwrite,
            number: 0,
            written: 0,
            since: Instant::now(),
            has_entries: false,
        }
    }

    /// Opens the next file; numbers already taken are passed over unless files may be replaced.
    pub(super) fn next_file(&mut self) -> io::Result<File> {
        self.written = 0;
        self.since = Instant::now();
        loop {
            self.number = self
                .number
                .checked_add(1)
                .ok_or_else(|| io::Error::other("no file numbers left"))?;
            match create(&numbered(&self.path, self.number), self.overwrite) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                other => return other,
            }
        }
    }

    /// Whether `chunk` belongs into the next file.
    fn is_due(&mut self, chunk: &MediaOut, now: Instant) -> bool {
        self.has_entries |= chunk.entry;
        let is_over = match self.rotate {
            Rotate::Bytes(limit) => self.written >= limit,
            Rotate::Every(span) => self.written > 0 && now.duration_since(self.since) >= span,
        };
        is_over && (chunk.entry || !self.has_entries)
    }
}

/// `dir/film.ts`, 7 → `dir/film-0007.ts`.
fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.file_stem().map_or_else(OsString::new, OsString::from);
    name.push(format!("-{number:04}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

/// Creates a regular file; an existing one only when it may be replaced.
pub(super) fn create(path: &Path, overwrite: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true);
    if overwrite {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    options.open(path)
}

/// Writes what comes out of the queue until its end.
pub(super) fn write_files(
    queue: &Queue,
    progress: &Progress,
    mut file: File,
    mut rotation: Option<Rotation>,
) -> io::Result<()> {
    let mut batch = VecDeque::new();
    loop {
        match queue.take(&mut batch, BATCH_CHUNKS, None) {
            Taken::End => return Ok(()),
            Taken::Some | Taken::Timeout => {}
        }
        let Some(rotation) = &mut rotation else {
            write_batch(queue, &mut file, &mut batch, progress)?;
            continue;
        };
        let now = Instant::now();
        while !batch.is_empty() {
            let mut same = VecDeque::new();
            while let Some(chunk) = batch.pop_front() {
                if rotation.is_due(&chunk, now) {
                    if same.is_empty() {
                        file = rotation.next_file()?;
                    } else {
                        batch.push_front(chunk);
                        break;
                    }
                }
                rotation.written += chunk.bytes.len() as u64;
                same.push_back(chunk);
            }
            write_batch(queue, &mut file, &mut same, progress)?;
        }
    }
}

/// Writes a batch with as few calls as it takes; counts what was written even when it fails halfway.
fn write_batch(
    queue: &Queue,
    file: &mut impl Write,
    batch: &mut VecDeque<MediaOut>,
    progress: &Progress,
) -> io::Result<()> {
    while !batch.is_empty() {
        let slices: Vec<IoSlice<'_>> = batch.iter().map(|c| IoSlice::new(&c.bytes)).collect();
        let mut written = match file.write_vectored(&slices) {
            Ok(0) if slices.iter().any(|slice| !slice.is_empty()) => {
                return Err(ErrorKind::WriteZero.into());
            }
            Ok(written) => written,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            // A descriptor shared with a program that wants it so.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if queue.is_stopped() {
                    return Ok(());
                }
                thread::sleep(WOULD_BLOCK_PAUSE);
                continue;
            }
            Err(error) => return Err(error),
        };
        drop(slices);
        while let Some(front) = batch.front_mut() {
            let part = front.bytes.split_to(written.min(front.bytes.len()));
            progress.add(&part);
            written -= part.len();
            if !front.bytes.is_empty() {
                break;
            }
            batch.pop_front();
        }
    }
    Ok(())
}
