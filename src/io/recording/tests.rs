//! Recordings on a real disk: written, torn, spoilt, and read back.

use std::fs;
use std::os::unix::fs::FileExt as _;

use super::*;
use crate::integrity::hash;
use crate::integrity::key::SigningKey;
use crate::integrity::live::{MUNRO_WIDTH, MunroTree};
use crate::time::NtpTime;
use crate::wire::option::{Addressing, HashFunction};

const SHA256: HashFunction = HashFunction::Sha256;

fn key() -> SigningKey {
    SigningKey::from_seed_ed25519([7; 32])
}

fn authority(key: &SigningKey) -> Authority {
    Authority::new(key.verifying_key(), Addressing::Ranges64, SHA256).with_width(MUNRO_WIDTH)
}

/// A munro of three chunks, signed.
fn munro(index: u64) -> (Filed, Vec<Bytes>) {
    let chunks: Vec<Bytes> = (0..3u8)
        .map(|place| vec![place ^ index as u8; 100 + usize::from(place)].into())
        .collect();
    let leaves: Vec<_> = chunks
        .iter()
        .map(|chunk| hash::digest(SHA256, chunk))
        .collect();
    let index = MunroIndex::new(index);
    let time = NtpTime::from_bits(index.get() << 26);
    let (signed, _) = MunroTree::from_leaves(SHA256, index.chunks(), &leaves)
        .expect("hashes")
        .sign(&key(), &authority(&key()), time)
        .expect("a munro");
    let mut lengths = [0; MUNRO_WIDTH as usize];
    for (length, chunk) in lengths.iter_mut().zip(&chunks) {
        *length = chunk.len() as u16;
    }
    let filed = Filed {
        index,
        time,
        signature: signed.signature().clone(),
        lengths,
    };
    (filed, chunks)
}

/// Bytes of media in a munro.
const BYTES: u64 = 303;

struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("film.ts")
    }

    fn names(&self) -> Names {
        Names::of(&self.path())
    }

    /// Writes munros, and closes the recording cleanly.
    async fn write(&self, indexes: impl IntoIterator<Item = u64>, is_sealed: bool) {
        let (recording, output) = if Recording::is_begun(&self.path()) {
            let (recording, output, _) =
                Recording::resume(&self.path(), authority(&key())).expect("a recording");
            (recording, output)
        } else {
            Recording::create(&self.path(), authority(&key())).expect("a recording")
        };
        write(recording, output, indexes, is_sealed).await;
    }

    /// What is found when the recording is gone on with.
    async fn span(&self) -> Option<(u64, u64)> {
        let (_recording, output, span) =
            Recording::resume(&self.path(), authority(&key())).expect("it is ours");
        output.finish(Duration::MAX).await;
        span.map(|span| (span.first.get(), span.end.get()))
    }

    /// The munros that are given from one on.
    fn load(&self, from: u64, most: usize) -> Vec<u64> {
        let mut reader = Reader::open(&self.names(), authority(&key())).expect("files");
        let slots = reader.load(MunroIndex::new(from), most).expect("munros");
        slots.iter().map(|slot| slot.index().get()).collect()
    }

    fn cut(&self, path: &Path, bytes: u64) {
        let file = OpenOptions::new().write(true).open(path).expect("a file");
        let length = file.metadata().expect("facts").len();
        file.set_len(length - bytes).expect("shorter");
    }

    fn flip(&self, path: &Path, at: u64) {
        let file = File::options().read(true).write(true).open(path);
        let file = file.expect("a file");
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).expect("a byte");
        file.write_all_at(&[byte[0] ^ 4], at).expect("written");
    }
}

async fn write(
    mut recording: Recording,
    output: Output,
    indexes: impl IntoIterator<Item = u64>,
    is_sealed: bool,
) {
    for index in indexes {
        let (filed, chunks) = munro(index);
        let sealed = is_sealed.then(|| Bytes::from(chunks.concat()));
        for bytes in chunks {
            // What is played of a sealed chunk is shorter.
            let bytes = bytes.slice(if is_sealed { 43 } else { 0 }..);
            recording.note_media(bytes.len());
            output.offer(MediaOut {
                bytes,
                entry: true,
                chunk: 0,
            });
        }
        recording.file(filed, sealed).expect("room");
    }
    output.finish(Duration::MAX).await;
    recording.finish(Duration::MAX).await;
}

#[tokio::test]
async fn what_was_recorded_is_given_from_anywhere() {
    let disk = Disk::new();
    disk.write([3, 4, 5, 90, 91], false).await;
    assert_eq!(disk.load(0, 16), [3, 4, 5, 90, 91]);
    assert_eq!(disk.load(6, 1), [90]);
    assert!(disk.load(92, 16).is_empty());
    assert_eq!(disk.span().await, Some((3, 92)));
    // And gone on with.
    disk.write([92, 93], false).await;
    assert_eq!(disk.load(91, 16), [91, 92, 93]);
    let media = fs::read(disk.path()).expect("media");
    let expected: Vec<u8> = [3, 4, 5, 90, 91, 92, 93]
        .into_iter()
        .flat_map(|index| munro(index).1.concat())
        .collect();
    assert!(media == expected);
}

#[tokio::test]
async fn one_after_the_other_is_not_searched_for() {
    let disk = Disk::new();
    disk.write(0..100, false).await;
    let mut reader = Reader::open(&disk.names(), authority(&key())).expect("files");
    let mut from = MunroIndex::default();
    let mut given = Vec::new();
    loop {
        let slots = reader.load(from, 7).expect("munros");
        let Some(last) = slots.last() else { break };
        from = last.index().plus(1);
        given.extend(slots.iter().map(|slot| slot.index().get()));
    }
    assert!(given.into_iter().eq(0..100));
}

#[tokio::test]
async fn a_torn_end_is_cut_off() {
    for (media, proofs) in [
        (1, 0),
        (BYTES, 0),
        (BYTES + 1, 0),
        (0, 1),
        (0, 90),
        (5, 300),
    ] {
        let disk = Disk::new();
        disk.write(10..20, false).await;
        disk.cut(&disk.path(), media);
        disk.cut(&disk.names().proofs, proofs);
        let by_media = media.div_ceil(BYTES);
        let by_proofs = u64::from(proofs > 0) + u64::from(proofs > 172);
        let left = 10 - by_media.max(by_proofs);
        assert_eq!(disk.span().await, Some((10, 10 + left)), "{media} {proofs}");
        let bytes = fs::metadata(disk.path()).expect("facts").len();
        assert_eq!(bytes, left * BYTES);
        disk.write([30], false).await;
        let mut expected: Vec<u64> = (10..10 + left).collect();
        expected.push(30);
        assert_eq!(disk.load(0, 16), expected);
    }
}

#[tokio::test]
async fn one_that_was_killed_at_its_start_begins_again() {
    let disk = Disk::new();
    disk.write([], false).await;
    fs::write(disk.path(), b"half a chunk").expect("media");
    disk.cut(&disk.names().proofs, 20);
    assert_eq!(disk.span().await, None);
    disk.write([7], false).await;
    assert_eq!(disk.load(0, 16), [7]);
}

#[tokio::test]
async fn a_flipped_bit_is_not_given() {
    let disk = Disk::new();
    disk.write(0..10, false).await;
    disk.flip(&disk.path(), 3 * BYTES + 150);
    assert_eq!(disk.load(0, 16), [0, 1, 2, 4, 5, 6, 7, 8, 9]);
    // In a proof: the munro's signature, its number.
    let record = (fs::metadata(&disk.names().proofs).expect("facts").len() - HEADER_BYTES) / 10;
    disk.flip(&disk.names().proofs, HEADER_BYTES + 6 * record - 1);
    disk.flip(&disk.names().proofs, HEADER_BYTES + 7 * record + 9);
    assert_eq!(disk.load(0, 16), [0, 1, 2, 4, 6, 8, 9]);
    assert_eq!(disk.load(5, 2), [6, 8]);
    assert_eq!(disk.span().await, Some((0, 10)), "the rest stays");
}

#[tokio::test]
async fn what_is_still_on_its_way_to_the_disk_is_waited_for() {
    let disk = Disk::new();
    disk.write(0..4, false).await;
    let media = fs::read(disk.path()).expect("media");
    disk.cut(&disk.path(), BYTES + 1);
    let mut reader = Reader::open(&disk.names(), authority(&key())).expect("files");
    let mut load = |from| {
        let slots = reader.load(MunroIndex::new(from), 16).expect("munros");
        slots
            .iter()
            .map(|slot| slot.index().get())
            .collect::<Vec<_>>()
    };
    assert_eq!(load(0), [0, 1]);
    assert!(load(2).is_empty());
    fs::write(disk.path(), media).expect("media");
    assert_eq!(load(2), [2, 3]);
}

#[tokio::test]
async fn sealed_chunks_are_kept_as_they_came() {
    let disk = Disk::new();
    disk.write(0..5, true).await;
    assert_eq!(disk.load(1, 16), [1, 2, 3, 4]);
    assert_eq!(
        fs::metadata(disk.path()).expect("facts").len(),
        5 * (BYTES - 3 * 43)
    );
    disk.cut(&disk.names().sealed, 1);
    assert_eq!(disk.span().await, Some((0, 4)));
    disk.write(5..7, true).await;
    // One that is not sealed any more.
    disk.write(7..9, false).await;
    assert_eq!(disk.load(0, 16), [0, 1, 2, 3, 5, 6, 7, 8]);
    assert_eq!(disk.span().await, Some((0, 9)));
}

#[tokio::test]
async fn a_recording_is_one_channels_and_one_process_s() {
    let disk = Disk::new();
    let (recording, output) =
        Recording::create(&disk.path(), authority(&key())).expect("a recording");
    let why = |key: &SigningKey| {
        let error = Recording::resume(&disk.path(), authority(key)).expect_err("refused");
        error.kind()
    };
    assert_eq!(why(&key()), ErrorKind::ResourceBusy);
    let again = Recording::create(&disk.path(), authority(&key())).expect_err("refused");
    assert_eq!(again.kind(), ErrorKind::AlreadyExists);
    write(recording, output, 0..3, false).await;
    let other = SigningKey::from_seed_ed25519([8; 32]);
    assert_eq!(why(&other), ErrorKind::InvalidData);
    assert_eq!(disk.span().await, Some((0, 3)), "as it was");
}

#[tokio::test]
async fn the_thread_that_reads_answers_in_order() {
    let disk = Disk::new();
    disk.write(0..40, false).await;
    let (mut recording, _output, _) =
        Recording::resume(&disk.path(), authority(&key())).expect("a recording");
    for from in [0, 16, 39, 40] {
        recording.load(MunroIndex::new(from), 16);
    }
    for (from, count) in [(0, 16), (16, 16), (39, 1), (40, 0)] {
        let loaded = recording.loaded().await;
        assert_eq!((loaded.from.get(), loaded.slots.len()), (from, count));
    }
}
