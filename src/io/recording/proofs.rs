//! The file of proofs beside a recording: a header, then a record of one size for each munro, in order.
//!
//! | bytes | header |
//! | --- | --- |
//! | 24 | `p2ps recording proofs 1`, line feed |
//! | 32 | SHA-256 of the channel's id |
//! | 8 | zeros |
//!
//! | bytes | record |
//! | --- | --- |
//! | 8 | the first bytes of the SHA-256 of the rest |
//! | 8 | first chunk of the munro |
//! | 8 | NTP time of signing |
//! | 8 | where its chunks begin: in the media, or in the file of sealed chunks |
//! | 8 | how long the media was behind it |
//! | 2 | 1 its chunks are in the file of sealed chunks, else 0 |
//! | 64 | the length of each chunk |
//! | n | signature, as long as those of the channel's key are |
//!
//! Numbers are big-endian. Leaf hashes are not kept, since they follow from the chunks. Records are found by halving,
//! so nothing of a long recording has to be in memory.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt as _;

use bytes::{Buf as _, BufMut as _, Bytes};

use crate::chunk::ChunkIndex;
use crate::ids::SwarmId;
use crate::integrity::hash;
use crate::integrity::live::MUNRO_WIDTH;
use crate::store::MunroIndex;
use crate::store::filed::Filed;
use crate::time::NtpTime;
use crate::wire::option::HashFunction;

const TITLE: &[u8; 24] = b"p2ps recording proofs 1\n";
/// Bytes of the header.
pub(super) const HEADER_BYTES: u64 = 64;
/// Bytes of a record without the signature.
const FIXED_BYTES: usize = 8 * 5 + 2 + 2 * MUNRO_WIDTH as usize;
const CHECK_BYTES: usize = 8;

/// One munro of the recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// What proves it.
    pub filed: Filed,
    /// Where its chunks begin, in the file that they are in.
    pub offset: u64,
    /// How long the media was behind it.
    pub media_end: u64,
    /// Whether its chunks are in the file of sealed ones.
    pub is_sealed: bool,
}

impl Entry {
    /// Where its chunks end.
    pub(super) fn end(&self) -> u64 {
        self.offset.saturating_add(self.filed.media_bytes())
    }

    /// The record.
    pub(super) fn encode(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(FIXED_BYTES + self.filed.signature.len());
        bytes.put_u64(0);
        bytes.put_u64(self.filed.index.first_chunk().get());
        bytes.put_u64(self.filed.time.to_bits());
        bytes.put_u64(self.offset);
        bytes.put_u64(self.media_end);
        bytes.put_u16(self.is_sealed.into());
        for length in self.filed.lengths {
            bytes.put_u16(length);
        }
        bytes.extend_from_slice(&self.filed.signature);
        let (room, rest) = bytes.split_at_mut(CHECK_BYTES);
        room.copy_from_slice(&check(rest));
        bytes.into()
    }

    /// Reads a record; `None` when it is not as it was written.
    fn decode(mut bytes: Bytes) -> Option<Self> {
        let stored = take(&mut bytes, CHECK_BYTES)?;
        if bytes.len() < FIXED_BYTES - CHECK_BYTES || stored[..] != check(&bytes) {
            return None;
        }
        let start = ChunkIndex::new(bytes.get_u64());
        let index = MunroIndex::of(start);
        // The last numbers there are make no munro.
        let is_munro = start.get().checked_add(MUNRO_WIDTH).is_some();
        if !is_munro || index.first_chunk() != start {
            return None;
        }
        let time = NtpTime::from_bits(bytes.get_u64());
        let (offset, media_end) = (bytes.get_u64(), bytes.get_u64());
        let is_sealed = bytes.get_u16() != 0;
        let lengths = std::array::from_fn(|_| bytes.get_u16());
        let filed = Filed {
            index,
            time,
            lengths,
            signature: bytes,
        };
        Some(Self {
            filed,
            offset,
            media_end,
            is_sealed,
        })
    }
}

fn check(bytes: &[u8]) -> [u8; CHECK_BYTES] {
    let digest = hash::digest(HashFunction::Sha256, bytes);
    let first = digest.as_bytes().first_chunk();
    *first.expect("SHA-256 has 32 bytes")
}

/// Takes the first bytes off, when there are so many.
fn take(bytes: &mut Bytes, count: usize) -> Option<Bytes> {
    (bytes.len() >= count).then(|| bytes.split_to(count))
}

/// The header of a channel's file.
pub(super) fn header(swarm_id: &SwarmId) -> Bytes {
    let mut bytes = Vec::with_capacity(HEADER_BYTES as usize);
    bytes.extend_from_slice(TITLE);
    let id = hash::digest(HashFunction::Sha256, swarm_id.as_bytes());
    bytes.extend_from_slice(id.as_bytes());
    bytes.resize(HEADER_BYTES as usize, 0);
    bytes.into()
}

/// The file, open for reading.
#[derive(Debug)]
pub(super) struct Proofs {
    file: File,
    record_bytes: usize,
}

impl Proofs {
    /// Of a file whose signatures are this long.
    pub(super) const fn new(file: File, signature_bytes: usize) -> Self {
        Self {
            file,
            record_bytes: FIXED_BYTES + signature_bytes,
        }
    }

    /// Whether it is the file of this channel. One that ends in the header is nobody's yet.
    pub(super) fn is_of(&self, swarm_id: &SwarmId) -> io::Result<bool> {
        if self.file.metadata()?.len() < HEADER_BYTES {
            return Ok(true);
        }
        let mut found = [0; HEADER_BYTES as usize];
        self.file.read_exact_at(&mut found, 0)?;
        Ok(found[..] == header(swarm_id)[..])
    }

    /// Whole records in it.
    pub(super) fn count(&self) -> io::Result<u64> {
        let records = self.file.metadata()?.len().saturating_sub(HEADER_BYTES);
        Ok(records / self.record_bytes as u64)
    }

    /// Where a record begins.
    pub(super) const fn position(&self, at: u64) -> u64 {
        HEADER_BYTES + at * self.record_bytes as u64
    }

    /// Records from `at` on, at most `most`; `None` for each that is damaged.
    pub(super) fn read(&self, at: u64, most: usize) -> io::Result<Vec<Option<Entry>>> {
        let there = self.count()?.saturating_sub(at);
        let most = most.min(usize::try_from(there).unwrap_or(usize::MAX));
        let mut bytes = vec![0; most * self.record_bytes];
        self.file.read_exact_at(&mut bytes, self.position(at))?;
        let mut bytes = Bytes::from(bytes);
        let records = std::iter::from_fn(|| take(&mut bytes, self.record_bytes));
        Ok(records.map(Entry::decode).collect())
    }

    /// The first record of a munro that is `from` or behind it; the number of records when there is none. Damaged ones
    /// are passed over.
    pub(super) fn find(&self, from: MunroIndex) -> io::Result<u64> {
        let (mut low, mut high) = (0, self.count()?);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.first_good(middle, high)? {
                Some((at, entry)) if entry.filed.index < from => low = at + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }

    /// The first record that is not damaged from `low` on, and before `high`.
    pub(super) fn first_good(&self, low: u64, high: u64) -> io::Result<Option<(u64, Entry)>> {
        for at in low..high {
            match self.read(at, 1) {
                Ok(mut records) => {
                    if let Some(entry) = records.pop().flatten() {
                        return Ok(Some((at, entry)));
                    }
                }
                // Cut off meanwhile.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64) -> Entry {
        Entry {
            filed: Filed {
                index: MunroIndex::new(index),
                time: NtpTime::from_bits(index << 20),
                signature: vec![index as u8; 64].into(),
                lengths: std::array::from_fn(|at| at as u16 + 1),
            },
            offset: index * 7,
            media_end: index * 9,
            is_sealed: index.is_multiple_of(2),
        }
    }

    /// A file of these munros, each record changed by `damage` beforehand.
    fn file(indexes: &[u64], damage: impl Fn(u64, &mut Vec<u8>)) -> Proofs {
        let file = tempfile::tempfile().unwrap();
        let mut position = HEADER_BYTES;
        for &index in indexes {
            let mut record = entry(index).encode().to_vec();
            damage(index, &mut record);
            file.write_all_at(&record, position).unwrap();
            position += record.len() as u64;
        }
        Proofs::new(file, 64)
    }

    #[test]
    fn a_record_is_read_as_it_was_written_or_not_at_all() {
        let record = entry(77).encode();
        assert_eq!(record.len(), FIXED_BYTES + 64);
        assert_eq!(Entry::decode(record.clone()), Some(entry(77)));
        for at in 0..record.len() {
            let mut flipped = record.to_vec();
            flipped[at] ^= 0x10;
            assert_eq!(Entry::decode(flipped.into()), None, "byte {at}");
        }
        for length in [0, 7, 8, FIXED_BYTES - 1] {
            assert_eq!(Entry::decode(record.slice(..length)), None);
        }
        // Whole, and no munro.
        for start in [33, u64::MAX, u64::MAX - 31] {
            let mut bytes = record.to_vec();
            bytes[8..16].copy_from_slice(&start.to_be_bytes());
            let sum = check(&bytes[8..]);
            bytes[..8].copy_from_slice(&sum);
            assert_eq!(Entry::decode(bytes.into()), None, "{start}");
        }
    }

    #[test]
    fn munros_are_found_by_halving_also_where_numbers_jump() {
        let proofs = file(&[5, 6, 7, 1_000, 1_001, 1 << 40], |_, _| {});
        for (from, at) in [
            (0, 0),
            (5, 0),
            (7, 2),
            (8, 3),
            (1_001, 4),
            (1_002, 5),
            ((1 << 40) + 1, 6),
        ] {
            assert_eq!(proofs.find(MunroIndex::new(from)).unwrap(), at, "{from}");
        }
        let read = proofs.read(3, 9).unwrap();
        assert_eq!(read, [entry(1_000), entry(1_001), entry(1 << 40)].map(Some));
        assert_eq!(proofs.read(6, 9).unwrap(), []);
    }

    #[test]
    fn damaged_records_mislead_nobody() {
        let indexes: Vec<u64> = (0..40).collect();
        for damaged in 0..40 {
            // One whose number looks like a late one, and the two behind it.
            let proofs = file(&indexes, |index, record| {
                if (damaged..damaged + 3).contains(&index) {
                    record[9] = 0x77;
                }
            });
            for from in (0..40).filter(|from| !(damaged..damaged + 3).contains(from)) {
                let at = proofs.find(MunroIndex::new(from)).unwrap();
                // Damaged ones right before it may be named as well: they are passed over when read.
                let first = if from == damaged + 3 { damaged } else { from };
                assert!((first..=from).contains(&at), "{damaged} {from}: {at}");
            }
        }
    }

    #[test]
    fn half_a_record_is_none() {
        let proofs = file(&[1, 2, 3], |index, record| {
            record.truncate(if index == 3 { 40 } else { record.len() });
        });
        assert_eq!(proofs.count().unwrap(), 2);
        assert_eq!(proofs.find(MunroIndex::new(9)).unwrap(), 2);
    }

    #[test]
    fn a_file_belongs_to_one_channel() {
        let [ours, other] = [7, 8].map(|seed| {
            let key = crate::integrity::key::SigningKey::from_seed_ed25519([seed; 32]);
            key.swarm_id()
        });
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&header(&ours), 0).unwrap();
        let proofs = Proofs::new(file, 64);
        assert!(proofs.is_of(&ours).unwrap());
        assert!(!proofs.is_of(&other).unwrap());
    }
}
