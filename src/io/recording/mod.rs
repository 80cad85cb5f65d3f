//! A recording that can be fetched (algorithms §3.3): the media in one file, as it is played, and beside it the proofs
//! of its munros, so that whoever is given it later can verify each chunk as the source's, like any other.
//!
//! Two threads write, as for every output, and one reads. Of sealed chunks what is played are other bytes than those
//! that are signed; these have a third file. All of them only grow, so that a process that is killed leaves nothing
//! worse than a torn end, which the next one cuts off.

mod proofs;
mod reader;

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use self::proofs::{Entry, HEADER_BYTES, Proofs, header};
use self::reader::Reader;
use super::media::{MediaOut, OpenError, Outcome, Output};
use crate::integrity::live::Authority;
use crate::store::filed::Filed;
use crate::store::{MunroIndex, Slot};

/// The munros of a recording: from the first up to before the end, some of them perhaps missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first one.
    pub first: MunroIndex,
    /// The one behind the last.
    pub end: MunroIndex,
}

/// What was read back: the question, and the munros from there on.
#[derive(Debug)]
pub struct Loaded {
    /// The munro that was asked for.
    pub from: MunroIndex,
    /// It, or the next that there is, and those behind it.
    pub slots: Vec<Slot>,
}

/// A question to the thread that reads.
#[derive(Clone, Copy, Debug)]
struct Load {
    from: MunroIndex,
    most: usize,
}

/// The files of one recording.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Names {
    media: PathBuf,
    proofs: PathBuf,
    sealed: PathBuf,
}

impl Names {
    fn of(media: &Path) -> Self {
        let beside = |ending| {
            let mut name = OsString::from(media);
            name.push(ending);
            PathBuf::from(name)
        };
        Self {
            media: media.to_owned(),
            proofs: beside(".proofs"),
            sealed: beside(".sealed"),
        }
    }
}

/// A recording that is being made, and given to those who fetch it.
#[derive(Debug)]
pub struct Recording {
    names: Names,
    /// Bytes of media offered to the output.
    media_bytes: u64,
    /// None when the disk is full: what is there is still read.
    proofs: Option<Output>,
    /// Sealed chunks, and the bytes of them.
    sealed: Option<(Output, u64)>,
    loads: mpsc::Sender<Load>,
    loaded: UnboundedReceiver<Loaded>,
}

impl Recording {
    /// Whether there is a recording of this name, which can be gone on with.
    pub fn is_begun(path: &Path) -> bool {
        let names = Names::of(path);
        names.media.is_file() && names.proofs.is_file()
    }

    /// Whether a recording of this name could be made now.
    ///
    /// # Errors
    ///
    /// What [`create`](Self::create) would say.
    pub fn check_new(path: &Path) -> Result<(), OpenError> {
        let names = Names::of(path);
        let all = [&names.media, &names.proofs, &names.sealed];
        all.into_iter()
            .try_for_each(|name| Output::check_new_file(name))
    }

    /// Makes a recording of a channel. The media goes to the output.
    ///
    /// # Errors
    ///
    /// When one of its files is there already, or cannot be made.
    pub fn create(path: &Path, authority: Authority) -> io::Result<(Self, Output)> {
        let names = Names::of(path);
        let media = new_file(&names.media)?;
        let mut proofs = new_file(&names.proofs)?;
        lock(&media)?;
        proofs.write_all(&header(authority.key().swarm_id()))?;
        let reader = Reader::open(&names, authority)?;
        Self::start(names, reader, (media, 0), proofs)
    }

    /// Goes on with a recording of a channel, behind the last munro that is there whole; says which there are.
    ///
    /// # Errors
    ///
    /// When it is another channel's ([`ErrorKind::InvalidData`]), somebody else writes it, or it cannot be read.
    pub fn resume(path: &Path, authority: Authority) -> io::Result<(Self, Output, Option<Span>)> {
        let names = Names::of(path);
        let mut media = OpenOptions::new().write(true).open(&names.media)?;
        lock(&media)?;
        let swarm_id = authority.key().swarm_id();
        let mut proofs = OpenOptions::new().write(true).open(&names.proofs)?;
        let file = File::open(&names.proofs)?;
        if !Proofs::new(file, authority.key().signature_bytes()).is_of(swarm_id)? {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                "a recording of another channel",
            ));
        }
        if proofs.metadata()?.len() < HEADER_BYTES {
            proofs.write_all(&header(swarm_id))?;
        }
        let mut reader = Reader::open(&names, authority)?;
        let found = reader.mend()?;
        if found.cut_bytes > 0 {
            tracing::warn!(
                "{}: cut {} bytes off its end, which was torn",
                names.media.display(),
                found.cut_bytes
            );
        }
        media.seek(SeekFrom::End(0))?;
        proofs.seek(SeekFrom::End(0))?;
        let (recording, output) = Self::start(names, reader, (media, found.media_bytes), proofs)?;
        Ok((recording, output, found.span))
    }

    fn start(
        names: Names,
        reader: Reader,
        (media, media_bytes): (File, u64),
        proofs: File,
    ) -> io::Result<(Self, Output)> {
        let (loads, questions) = mpsc::channel();
        let (answers, loaded) = unbounded_channel();
        thread::Builder::new()
            .name("recording".to_owned())
            .spawn(move || serve(reader, &questions, &answers))?;
        let recording = Self {
            names,
            media_bytes,
            proofs: Some(Output::to_file(proofs)?),
            sealed: None,
            loads,
            loaded,
        };
        Ok((recording, Output::to_file(media)?))
    }

    /// Takes note of media that went to the output.
    pub const fn note_media(&mut self, bytes: usize) {
        self.media_bytes += bytes as u64;
    }

    /// Keeps the proof of a munro, all of whose media went to the output, and its chunks where they are sealed.
    ///
    /// # Errors
    ///
    /// When writing has failed since the last call.
    pub fn file(&mut self, filed: Filed, sealed: Option<Bytes>) -> Result<(), Arc<io::Error>> {
        let Some(proofs) = &self.proofs else {
            return Ok(());
        };
        let chunk = filed.index.first_chunk().get();
        let is_sealed = sealed.is_some();
        let offset = match sealed {
            Some(bytes) => {
                let (output, length) = match &mut self.sealed {
                    Some(open) => open,
                    none => none.insert(open_sealed(&self.names.sealed).map_err(Arc::new)?),
                };
                let offset = *length;
                *length += bytes.len() as u64;
                offer(output, chunk, bytes)?;
                offset
            }
            None => self.media_bytes.saturating_sub(filed.media_bytes()),
        };
        let entry = Entry {
            filed,
            offset,
            media_end: self.media_bytes,
            is_sealed,
        };
        offer(proofs, chunk, entry.encode())
    }

    /// Nothing is added any more.
    pub fn stop_writing(&mut self) {
        self.proofs = None;
        self.sealed = None;
    }

    /// The name of the media, for people.
    pub fn path(&self) -> &Path {
        &self.names.media
    }

    /// Has munros read back: [`loaded`](Self::loaded) gives them.
    pub fn load(&self, from: MunroIndex, most: usize) {
        // The thread lives as long as its questions can come.
        let _ = self.loads.send(Load { from, most });
    }

    /// What was read back next. Cancel-safe.
    pub async fn loaded(&mut self) -> Loaded {
        match self.loaded.recv().await {
            Some(loaded) => loaded,
            None => std::future::pending().await,
        }
    }

    /// Writes what is queued, for at most `limit`.
    pub async fn finish(&self, limit: Duration) {
        let sealed = self.sealed.as_ref().map(|(output, _)| output);
        for output in self.proofs.iter().chain(sealed) {
            output.finish(limit).await;
        }
    }
}

fn serve(mut reader: Reader, questions: &mpsc::Receiver<Load>, answers: &UnboundedSender<Loaded>) {
    let mut has_failed = false;
    for Load { from, most } in questions {
        let slots = reader.load(from, most).unwrap_or_else(|error| {
            if !std::mem::replace(&mut has_failed, true) {
                tracing::warn!("cannot read the recording: {error}");
            }
            Vec::new()
        });
        if answers.send(Loaded { from, slots }).is_err() {
            return;
        }
    }
}

fn offer(output: &Output, chunk: u64, bytes: Bytes) -> Result<(), Arc<io::Error>> {
    if let Some(Outcome::Failed(error)) = output.outcome() {
        return Err(error);
    }
    output.offer(MediaOut {
        bytes,
        entry: true,
        chunk,
    });
    Ok(())
}

fn new_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// The file of sealed chunks, made when the first comes, or gone on with.
fn open_sealed(path: &Path) -> io::Result<(Output, u64)> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    let length = file.seek(SeekFrom::End(0))?;
    Ok((Output::to_file(file)?, length))
}

/// One process writes a recording.
fn lock(media: &File) -> io::Result<()> {
    match media.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(io::Error::new(
            ErrorKind::ResourceBusy,
            "another process writes it",
        )),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests;
