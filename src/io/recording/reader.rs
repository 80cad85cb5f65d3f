//! Reading a recording back: finding munros, proving them anew, and cutting off what a crash left torn.
//!
//! Nothing is given that is not the source's: each munro is hashed up and its signature verified before it is handed
//! on. All of it happens in a thread of its own, so that a slow disk and the hashing hold up nobody who streams.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use bytes::Bytes;

use super::proofs::{Entry, HEADER_BYTES, Proofs};
use super::{Names, Span};
use crate::integrity::live::Authority;
use crate::store::{MunroIndex, Slot};

/// Records read at once where many are damaged.
const RECORDS_LEAST: usize = 16;

/// A recording, open for reading.
#[derive(Debug)]
pub(super) struct Reader {
    names: Names,
    proofs: Proofs,
    media: File,
    /// Opened when it is needed first.
    sealed: Option<File>,
    authority: Authority,
    /// The munro behind the last that was given, and its record: most ask on from there.
    place: (MunroIndex, u64),
    /// The damaged munro furthest on that was reported.
    reported: Option<MunroIndex>,
}

/// What was left of a recording that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Its munros, when there are any.
    pub span: Option<Span>,
    /// Bytes of media that are proven.
    pub media_bytes: u64,
    /// Bytes of media that were cut off.
    pub cut_bytes: u64,
}

impl Reader {
    /// Opens both files of a recording.
    pub(super) fn open(names: &Names, authority: Authority) -> io::Result<Self> {
        let signature_bytes = authority.key().signature_bytes();
        Ok(Self {
            names: names.clone(),
            proofs: Proofs::new(File::open(&names.proofs)?, signature_bytes),
            media: File::open(&names.media)?,
            sealed: None,
            authority,
            place: (MunroIndex::default(), 0),
            reported: None,
        })
    }

    /// Munros from `from` on, at most `most`: none when there is no more, or the rest is not written yet.
    pub(super) fn load(&mut self, from: MunroIndex, most: usize) -> io::Result<Vec<Slot>> {
        let mut at = match self.place {
            (next, at) if next == from => at,
            _ => self.proofs.find(from)?,
        };
        let mut slots = Vec::with_capacity(most);
        while slots.len() < most {
            let wanted = (most - slots.len()).max(RECORDS_LEAST);
            let records = self.proofs.read(at, wanted)?;
            if records.is_empty() {
                break;
            }
            let (taken, is_all) = self.take(&records, most, &mut slots);
            at += taken as u64;
            if !is_all {
                break;
            }
        }
        if let Some(last) = slots.last() {
            self.place = (last.index().plus(1), at);
        }
        Ok(slots)
    }

    /// The munros of these records, as far as they are written and wanted. Gives the records used, and whether those
    /// behind them can be.
    fn take(
        &mut self,
        records: &[Option<Entry>],
        most: usize,
        slots: &mut Vec<Slot>,
    ) -> (usize, bool) {
        for (taken, record) in records.iter().enumerate() {
            if slots.len() >= most {
                return (taken, false);
            }
            let Some(entry) = record else {
                continue;
            };
            match self.restore(entry) {
                Ok(Some(slot)) => slots.push(slot),
                Ok(None) => self.report_damage(entry),
                Err(NotYet) => return (taken, false),
            }
        }
        (records.len(), true)
    }

    /// A munro with its chunks, when they are what the source signed.
    fn restore(&mut self, entry: &Entry) -> Result<Option<Slot>, NotYet> {
        let Some(file) = self.file_of(entry) else {
            return Ok(None);
        };
        if file.metadata().is_ok_and(|found| found.len() < entry.end()) {
            return Err(NotYet);
        }
        let bytes = usize::try_from(entry.filed.media_bytes()).unwrap_or(usize::MAX);
        let mut media = vec![0; bytes];
        if file.read_exact_at(&mut media, entry.offset).is_err() {
            return Ok(None);
        }
        Ok(entry.filed.restore(&self.authority, Bytes::from(media)))
    }

    fn file_of(&mut self, entry: &Entry) -> Option<&File> {
        if !entry.is_sealed {
            return Some(&self.media);
        }
        if self.sealed.is_none() {
            self.sealed = File::open(&self.names.sealed).ok();
        }
        self.sealed.as_ref()
    }

    /// Says once of each munro that it is not given.
    fn report_damage(&mut self, entry: &Entry) {
        let index = entry.filed.index;
        if self.reported.is_none_or(|reported| index > reported) {
            self.reported = Some(index);
            tracing::warn!(
                "{}: chunks from {} on are not what the source signed: not given to anybody",
                self.names.media.display(),
                index.first_chunk()
            );
        }
    }

    /// Finds the last munro that is there whole, and cuts off what stands behind it.
    pub(super) fn mend(&mut self) -> io::Result<Found> {
        let mut count = self.proofs.count()?;
        let mut last = None;
        while count > 0 {
            let record = self.proofs.read(count - 1, 1)?.pop().flatten();
            if let Some(entry) = record
                && let Ok(Some(_)) = self.restore(&entry)
            {
                last = Some(entry);
                break;
            }
            count -= 1;
        }
        let media_bytes = last.as_ref().map_or(0, |entry| entry.media_end);
        let had = cut(&self.names.media, media_bytes)?;
        let records_end = if count == 0 {
            HEADER_BYTES
        } else {
            self.proofs.position(count)
        };
        cut(&self.names.proofs, records_end)?;
        if let Some(entry) = last.as_ref().filter(|entry| entry.is_sealed) {
            cut(&self.names.sealed, entry.end())?;
        }
        let first = self.proofs.first_good(0, count)?;
        let span = first.zip(last).map(|((_, first), last)| Span {
            first: first.filed.index,
            end: last.filed.index.plus(1),
        });
        Ok(Found {
            span,
            media_bytes,
            cut_bytes: had.saturating_sub(media_bytes),
        })
    }
}

/// What a record speaks of is still on its way to the disk.
#[derive(Debug)]
struct NotYet;

/// Makes a file no longer than this. Gives how long it was.
fn cut(path: &Path, most: u64) -> io::Result<u64> {
    let file = OpenOptions::new().write(true).open(path)?;
    let length = file.metadata()?.len();
    if length > most {
        file.set_len(most)?;
    }
    Ok(length)
}
