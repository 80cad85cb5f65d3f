//! The source's side of the loop: reading media, and keeping the chunk counter across restarts.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::{End, Engine, INPUT_BLOCKS_MAX, Run};
use crate::chunk::ChunkIndex;
use crate::integrity::live::MUNRO_WIDTH;

/// Chunk numbers reserved at once: after a crash this many are skipped at most. 2^40 of them last for ever.
const RESERVE: u64 = 1 << 20;

/// The next chunk number of a key, on disk.
///
/// The file holds a number that was never used. It is always ahead of the stream, so that a crash at any moment costs
/// numbers and reuses none (S-10); a clean end writes the exact one.
#[derive(Debug)]
pub struct Counter {
    path: PathBuf,
    reserved: u64,
    failed: bool,
}

impl Counter {
    /// Reads the counter, or begins at 0, and reserves numbers at once. Gives the first number to use.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or written, or holds no number.
    pub fn open(path: &Path) -> io::Result<(Self, ChunkIndex)> {
        let first = match fs::read_to_string(path) {
            Ok(text) => text.trim().parse::<u64>().map_err(|_| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    "no chunk number in it: remove it only together with the key",
                )
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        let first = first.next_multiple_of(MUNRO_WIDTH);
        let mut counter = Self {
            path: path.to_owned(),
            reserved: 0,
            failed: false,
        };
        counter.write(first + RESERVE)?;
        Ok((counter, ChunkIndex::new(first)))
    }

    /// Reserves more before the reserve is used up.
    pub(super) fn keep_ahead(&mut self, next: ChunkIndex) {
        if next.get() + RESERVE / 2 > self.reserved
            && let Err(error) = self.write(next.get() + RESERVE)
            && !self.failed
        {
            self.failed = true;
            tracing::warn!(
                "cannot write {}: {error}: keep a fresh key at hand for a restart",
                self.path.display()
            );
        }
    }

    /// A clean end: the exact number.
    pub(super) fn settle(&mut self, next: ChunkIndex) {
        if let Err(error) = self.write(next.get()) {
            tracing::warn!("cannot write {}: {error}", self.path.display());
        }
    }

    /// Whole or not at all, also when the machine stops in between.
    fn write(&mut self, number: u64) -> io::Result<()> {
        let new = self.path.with_extension("next.new");
        let mut file = fs::File::create(&new)?;
        writeln!(file, "{number}")?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        self.reserved = number;
        Ok(())
    }
}

impl Engine {
    /// One block of the input, and what came with it.
    pub(super) fn on_media(&mut self, run: &mut Run, first: Option<io::Result<Bytes>>) {
        let mut next = first;
        for _ in 0..INPUT_BLOCKS_MAX {
            match next {
                Some(Ok(media)) => self.take_media(run, media),
                Some(Err(error)) => return self.end_input(run, Some(error)),
                None => return self.end_input(run, None),
            }
            next = match self.input.as_mut().and_then(super::Input::try_next) {
                Some(more) => Some(more),
                None => return,
            };
        }
        if let Some(Ok(media)) = next {
            self.take_media(run, media);
        }
    }

    fn take_media(&mut self, run: &mut Run, media: Bytes) {
        let now = self.clock.now();
        if media.is_empty() {
            // The writer left and another may come.
            return self.node.flush_media(now);
        }
        if !run.saw_media {
            run.saw_media = true;
            self.reporter.first_media(now, 0, 0);
        }
        run.input_tally.update(&media);
        if let Some(tee) = &self.tee {
            tee.offer(super::MediaOut {
                bytes: media.clone(),
                entry: true,
                chunk: 0,
            });
        }
        self.node.push_media(now, media);
        if !run.warned_raw && self.node.source_is_transport_stream() == Some(false) {
            run.warned_raw = true;
            let text = "input is no MPEG transport stream: late joiners cannot decode it (ffmpeg: -f mpegts)";
            self.reporter.warn(now, 0, "raw_input", text);
        }
    }

    fn end_input(&mut self, run: &mut Run, error: Option<io::Error>) {
        self.input = None;
        if !run.saw_media {
            run.end = Some(End::NoMedia(error));
            return;
        }
        if let Some(error) = error {
            tracing::warn!("cannot read input: {error}");
        }
        let now = self.clock.now();
        self.node.end_media(now);
        run.input_done = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_costs_numbers_and_reuses_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("film.next");
        let (mut counter, first) = Counter::open(&path).unwrap();
        assert_eq!(first.get(), 0);
        for step in 0..100 {
            counter.keep_ahead(ChunkIndex::new(step * 100_000));
        }
        // Killed here: nothing below the last number used may come again.
        let (mut counter, again) = Counter::open(&path).unwrap();
        assert!(
            again.get() > 99 * 100_000 && again.get() % MUNRO_WIDTH == 0,
            "{again}"
        );
        counter.settle(ChunkIndex::new(again.get() + 64));
        let (_, exact) = Counter::open(&path).unwrap();
        assert_eq!(exact.get(), again.get() + 64);
    }

    #[test]
    fn a_damaged_counter_is_refused_and_not_reset() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("film.next");
        fs::write(&path, "12x").unwrap();
        assert_eq!(
            Counter::open(&path).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "12x");
    }
}
