//! The source's side of the loop: reading media, and keeping the chunk counter across restarts.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use bytes::Bytes;

use super::{End, Engine, INPUT_BLOCKS_MAX, Run};
use crate::chunk::ChunkIndex;
use crate::integrity::live::MUNRO_WIDTH;

/// Chunk numbers reserved at once: after a crash this many are skipped at most. 2^40 of them last for ever.
const RESERVE: u64 = 1 << 20;

/// How old the saved time gets while the stream runs.
const SAVE_EVERY_US: u64 = 10_000_000;

/// Where a source goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resume {
    /// The first chunk number to use.
    pub first_chunk: ChunkIndex,
    /// The Unix time, in microseconds, before which nothing may be signed; 0 when the wall clock is fine.
    pub not_before_us: u64,
}

/// The next chunk number of a key and the time signed last, on disk.
///
/// The file holds a number that was never used. It is always ahead of the stream, so that a crash at any moment costs
/// numbers and reuses none (S-10); a clean end writes the exact one. Behind it is the time signed last, at most
/// ten seconds old: when the wall clock was set back since, signing goes on from there, because everybody who has
/// some of the stream takes older munros for a replay. A file without the time, as earlier versions wrote it, is read as
/// well. Without the file there is nothing to go on from: both numbers and time begin again, neighbours that still hold
/// the old stream ignore the new one until they forget it, and a fresh key is the cure.
#[derive(Debug)]
pub struct Counter {
    path: PathBuf,
    reserved: u64,
    saved_us: u64,
    failed: bool,
    /// Refreshes the time, since the disk may be slow and the loop may not.
    refresher: Option<JoinHandle<io::Result<()>>>,
}

impl Counter {
    /// Reads the counter, or begins at 0, and reserves numbers at once; `wall_us` is the Unix time in microseconds.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or written, or holds no number.
    pub fn open(path: &Path, wall_us: u64) -> io::Result<(Self, Resume)> {
        let (next, saved_us) = match fs::read_to_string(path) {
            Ok(text) => parse(&text).ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    "no chunk number in it: remove it only together with the key",
                )
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => (0, 0),
            Err(error) => return Err(error),
        };
        let first = next.next_multiple_of(MUNRO_WIDTH);
        // After a crash what was signed last is not known better than this.
        let not_before_us = if wall_us <= saved_us {
            saved_us.saturating_add(SAVE_EVERY_US)
        } else {
            0
        };
        let mut counter = Self {
            path: path.to_owned(),
            reserved: 0,
            saved_us: 0,
            failed: false,
            refresher: None,
        };
        counter.write(first + RESERVE, wall_us.max(not_before_us))?;
        let resume = Resume {
            first_chunk: ChunkIndex::new(first),
            not_before_us,
        };
        Ok((counter, resume))
    }

    /// Reserves more before the reserve is used up, and saves the time now and then.
    pub(super) fn keep_ahead(&mut self, next: ChunkIndex, signing_us: u64) {
        if next.get() + RESERVE / 2 > self.reserved {
            let written = self.write(next.get() + RESERVE, signing_us);
            self.note(written);
        } else if signing_us >= self.saved_us.saturating_add(SAVE_EVERY_US) {
            let refreshed = self.refresh(signing_us);
            self.note(refreshed);
        }
    }

    /// A clean end: the exact number and time.
    pub(super) fn settle(&mut self, next: ChunkIndex, signing_us: u64) {
        if let Err(error) = self.write(next.get(), signing_us) {
            tracing::warn!("cannot write {}: {error}", self.path.display());
        }
    }

    fn note(&mut self, written: io::Result<()>) {
        if let Err(error) = written
            && !self.failed
        {
            self.failed = true;
            tracing::warn!(
                "cannot write {}: {error}: keep a fresh key at hand for a restart",
                self.path.display()
            );
        }
    }

    /// Saves the time in a thread of its own. Gives how the last one fared.
    fn refresh(&mut self, signing_us: u64) -> io::Result<()> {
        if self
            .refresher
            .as_ref()
            .is_some_and(|busy| !busy.is_finished())
        {
            return Ok(());
        }
        let last = self.join();
        let (path, number) = (self.path.clone(), self.reserved);
        let name = "counter".to_owned();
        let refresher = thread::Builder::new()
            .name(name)
            .spawn(move || write_whole(&path, number, signing_us))?;
        self.refresher = Some(refresher);
        self.saved_us = signing_us;
        last
    }

    /// Waits for a write under way: two at once would be in each other's way.
    fn join(&mut self) -> io::Result<()> {
        match self.refresher.take().map(JoinHandle::join) {
            Some(Ok(written)) => written,
            _ => Ok(()),
        }
    }

    fn write(&mut self, number: u64, signing_us: u64) -> io::Result<()> {
        let last = self.join();
        write_whole(&self.path, number, signing_us)?;
        self.reserved = number;
        self.saved_us = signing_us;
        last
    }
}

/// A number, and a time behind it unless an earlier version wrote it.
fn parse(text: &str) -> Option<(u64, u64)> {
    let mut words = text.split_ascii_whitespace();
    let number = words.next()?.parse().ok()?;
    let saved_us = match words.next() {
        Some(word) => word.parse().ok()?,
        None => 0,
    };
    words.next().is_none().then_some((number, saved_us))
}

/// Whole or not at all, also when the machine stops in between.
fn write_whole(path: &Path, number: u64, signing_us: u64) -> io::Result<()> {
    let new = path.with_extension("next.new");
    let mut file = fs::File::create(&new)?;
    writeln!(file, "{number} {signing_us}")?;
    file.sync_all()?;
    fs::rename(&new, path)
}

impl Engine {
    /// One block of the input, and what came with it.
    pub(super) fn on_media(&mut self, run: &mut Run, first: Option<io::Result<Bytes>>) {
        let read = match first {
            Some(first) => self.take_blocks(run, Some(first)),
            None => return self.end_input(run, None),
        };
        self.plan_reading(run, read);
    }

    /// What came while the input was left alone.
    pub(super) fn read_media(&mut self, run: &mut Run) {
        run.input_at = None;
        let first = self.input.as_mut().and_then(super::Input::try_next);
        let read = self.take_blocks(run, first);
        self.plan_reading(run, read);
    }

    /// Takes a block and those that are there behind it. Gives their bytes; nothing when there may be more.
    fn take_blocks(&mut self, run: &mut Run, first: Option<io::Result<Bytes>>) -> Option<u64> {
        let mut next = first;
        let mut bytes = 0;
        for _ in 0..INPUT_BLOCKS_MAX {
            match next {
                Some(Ok(media)) => {
                    bytes += media.len() as u64;
                    self.take_media(run, media);
                }
                Some(Err(error)) => {
                    self.end_input(run, Some(error));
                    return None;
                }
                None => return Some(bytes),
            }
            next = self.input.as_mut().and_then(super::Input::try_next);
        }
        if let Some(Ok(media)) = next {
            self.take_media(run, media);
        }
        None
    }

    /// Decides when the input is read next: at the latest when the munro must be signed that this is for.
    fn plan_reading(&mut self, run: &mut Run, read: Option<u64>) {
        let now = self.clock.now();
        let (Some(bytes), Some(input)) = (read, &mut self.input) else {
            return;
        };
        if !input.can_be_left() {
            return;
        }
        run.gather.note(now, bytes);
        if self.node.poll_timeout(now).is_some_and(|at| now >= at) {
            // What was left alone until it had to be signed.
            self.node.handle_timeout(now);
        }
        let Some(unsigned) = self.node.source_unsigned(now, run.gather.rate()) else {
            return;
        };
        run.input_at = run.gather.next(now, unsigned.due, unsigned.has_partial);
        if run.input_at.is_some() {
            input.leave();
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
        self.node
            .push_media_since(now, run.gather.since(now), media);
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

    /// An afternoon in 2026.
    const NOW: u64 = 1_795_262_400_000_000;

    fn counter_file() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("film.next");
        (dir, path)
    }

    #[test]
    fn a_crash_costs_numbers_and_reuses_none() {
        let (_dir, path) = counter_file();
        let (mut counter, resume) = Counter::open(&path, NOW).unwrap();
        assert_eq!(resume.first_chunk.get(), 0);
        for step in 0..100 {
            counter.keep_ahead(ChunkIndex::new(step * 100_000), NOW + step);
        }
        // Killed here: nothing below the last number used may come again.
        let (mut counter, resume) = Counter::open(&path, NOW + 100).unwrap();
        let again = resume.first_chunk.get();
        assert!(
            again > 99 * 100_000 && again.is_multiple_of(MUNRO_WIDTH),
            "{again}"
        );
        counter.settle(ChunkIndex::new(again + 64), NOW + 200);
        let (_, exact) = Counter::open(&path, NOW + 300).unwrap();
        assert_eq!(exact.first_chunk.get(), again + 64);
    }

    #[test]
    fn s10_time_goes_on_when_the_clock_was_set_back() {
        let (_dir, path) = counter_file();
        let (mut counter, resume) = Counter::open(&path, NOW).unwrap();
        assert_eq!(resume.not_before_us, 0);
        let last = NOW + 3 * SAVE_EVERY_US;
        for signing_us in (NOW..=last).step_by(1_000_000) {
            counter.keep_ahead(ChunkIndex::ZERO, signing_us);
            // The loop turns many times a second; the disk is given its time here.
            counter.join().unwrap();
        }
        drop(counter);
        // Killed up to ten seconds later, and an hour earlier by the wall clock.
        let (_, back) = Counter::open(&path, last - 3_600_000_000).unwrap();
        assert_eq!(back.not_before_us, last + SAVE_EVERY_US);
        // The clock is right again: it has caught up only after what the second start may have signed.
        let (_, early) = Counter::open(&path, last).unwrap();
        assert!(early.not_before_us > back.not_before_us);
        let (_, late) = Counter::open(&path, last + 3_600_000_000).unwrap();
        assert_eq!(late.not_before_us, 0);
    }

    #[test]
    fn a_file_of_an_earlier_version_is_read() {
        let (_dir, path) = counter_file();
        fs::write(&path, "96\n").unwrap();
        let (_, resume) = Counter::open(&path, NOW).unwrap();
        let expected = Resume {
            first_chunk: ChunkIndex::new(96),
            not_before_us: 0,
        };
        assert_eq!(resume, expected);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("{} {NOW}\n", 96 + RESERVE));
    }

    #[test]
    fn a_damaged_counter_is_refused_and_not_reset() {
        for damaged in ["12x", "", "12 x", "12 13 14", "-1"] {
            let (_dir, path) = counter_file();
            fs::write(&path, damaged).unwrap();
            let error = Counter::open(&path, NOW).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{damaged:?}");
            assert_eq!(fs::read_to_string(&path).unwrap(), damaged);
        }
    }
}
