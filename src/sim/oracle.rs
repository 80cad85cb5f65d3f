//! The stream as a function of seed and offset, and one player's output against it.
//!
//! The source is fed packets of [`UNIT`] bytes that carry their own number, so that the oracle finds the place of any
//! chunk without knowing how the stream was cut.

use bytes::Bytes;

use super::mix;
use crate::chunk::ChunkIndex;

/// Bytes in a packet of the stream: that of a transport stream, though its first byte is never the sync byte.
pub const UNIT: usize = 188;

/// Where in a packet its number stands.
const NUMBER_AT: usize = 4;
const MARK: [u8; NUMBER_AT] = *b"unit";

/// A stream whose every byte is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    key: u64,
}

impl Stream {
    /// The stream of one seed.
    pub const fn new(seed: u64) -> Self {
        Self {
            key: mix(seed ^ 0x6f72_6163_6c65),
        }
    }

    /// Packet `number`.
    pub fn unit(self, number: u64) -> [u8; UNIT] {
        let mut unit = [0; UNIT];
        unit[..NUMBER_AT].copy_from_slice(&MARK);
        let (words, rest) = unit[NUMBER_AT..].as_chunks_mut::<8>();
        debug_assert!(rest.is_empty());
        let mut state = mix(self.key ^ number);
        for (index, word) in words.iter_mut().enumerate() {
            let value = if index == 0 {
                number ^ self.key
            } else {
                // An odd step of a full-period counter, mixed by one multiplication: plenty to tell packets apart.
                state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                (state ^ (state >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
            };
            *word = value.to_le_bytes();
        }
        unit
    }

    /// Adds `count` packets from `number` on to `out`.
    pub fn append(self, number: u64, count: u64, out: &mut Vec<u8>) {
        for next in number..number + count {
            out.extend_from_slice(&self.unit(next));
        }
    }

    /// Whether the stream has exactly these bytes at `offset`.
    pub fn matches(self, offset: u64, bytes: &[u8]) -> bool {
        let mut number = offset / UNIT as u64;
        let mut skip = (offset % UNIT as u64) as usize;
        let mut rest = bytes;
        while !rest.is_empty() {
            let unit = self.unit(number);
            let part = rest.len().min(UNIT - skip);
            if rest[..part] != unit[skip..skip + part] {
                return false;
            }
            rest = &rest[part..];
            number += 1;
            skip = 0;
        }
        true
    }

    /// The offset at which the stream has exactly these bytes, by the first whole packet number among them.
    pub fn locate(self, bytes: &[u8]) -> Option<u64> {
        let whole = NUMBER_AT + 8;
        for start in 0..bytes.len().min(UNIT) {
            let Some(head) = bytes.get(start..start + whole) else {
                break;
            };
            if head[..NUMBER_AT] != MARK {
                continue;
            }
            let word: [u8; 8] = head[NUMBER_AT..]
                .try_into()
                .expect("the rest of a head is eight bytes");
            let number = u64::from_le_bytes(word) ^ self.key;
            let offset = number
                .checked_mul(UNIT as u64)
                .and_then(|at| at.checked_sub(start as u64));
            if let Some(offset) = offset.filter(|offset| self.matches(*offset, bytes)) {
                return Some(offset);
            }
        }
        None
    }
}

/// Why an output is not the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// Bytes that are nowhere in the stream, or that were not yet made.
    #[error("chunk {chunk}: {bytes} bytes the source never sent")]
    Forged {
        /// The chunk.
        chunk: ChunkIndex,
        /// How many bytes it has.
        bytes: usize,
    },
    /// A chunk after a later one, or once more.
    #[error("chunk {chunk} after chunk {last}")]
    ChunkOrder {
        /// The chunk.
        chunk: ChunkIndex,
        /// The one before.
        last: ChunkIndex,
    },
    /// Genuine bytes that the player had already.
    #[error("chunk {chunk} starts at byte {offset}, byte {expected} was next")]
    ByteOrder {
        /// The chunk.
        chunk: ChunkIndex,
        /// Where its bytes belong.
        offset: u64,
        /// What was to follow.
        expected: u64,
    },
    /// Something after the end.
    #[error("chunk {chunk} after the end")]
    AfterEnd {
        /// The chunk.
        chunk: ChunkIndex,
    },
}

/// One player: everything one process wrote, against the stream.
#[derive(Clone, Debug)]
pub struct Player {
    stream: Stream,
    last_chunk: Option<ChunkIndex>,
    first: Option<u64>,
    next: u64,
    bytes: u64,
    gaps: Vec<(u64, u64)>,
    ended: bool,
}

impl Player {
    /// A player that has seen nothing.
    pub const fn new(stream: Stream) -> Self {
        Self {
            stream,
            last_chunk: None,
            first: None,
            next: 0,
            bytes: 0,
            gaps: Vec::new(),
            ended: false,
        }
    }

    /// The next chunk it was given, when the source had been fed `fed` bytes.
    ///
    /// # Errors
    ///
    /// [`Mismatch`] when these are not the stream's bytes in order, each once. A gap is no mismatch: it is counted.
    pub fn accept(&mut self, chunk: ChunkIndex, payload: &Bytes, fed: u64) -> Result<(), Mismatch> {
        if self.ended {
            return Err(Mismatch::AfterEnd { chunk });
        }
        if let Some(last) = self.last_chunk.filter(|last| *last >= chunk) {
            return Err(Mismatch::ChunkOrder { chunk, last });
        }
        self.last_chunk = Some(chunk);
        if payload.is_empty() {
            return Ok(());
        }
        let length = payload.len() as u64;
        let offset = if self.first.is_some() && self.stream.matches(self.next, payload) {
            self.next
        } else {
            self.find(payload, fed).ok_or(Mismatch::Forged {
                chunk,
                bytes: payload.len(),
            })?
        };
        if offset + length > fed {
            return Err(Mismatch::Forged {
                chunk,
                bytes: payload.len(),
            });
        }
        if self.first.is_none() {
            self.first = Some(offset);
        } else if offset < self.next {
            return Err(Mismatch::ByteOrder {
                chunk,
                offset,
                expected: self.next,
            });
        } else if offset > self.next {
            self.gaps.push((self.next, offset));
        }
        self.bytes += length;
        self.next = offset + length;
        Ok(())
    }

    fn find(&self, payload: &[u8], fed: u64) -> Option<u64> {
        self.stream.locate(payload).or_else(|| {
            // Too short to hold a number: the first place from where we are.
            (self.next..fed).find(|offset| self.stream.matches(*offset, payload))
        })
    }

    /// The player was told that the stream ended, when the source had been fed `fed` bytes.
    pub fn end(&mut self, fed: u64) {
        if !self.ended && self.first.is_some() && self.next < fed {
            self.gaps.push((self.next, fed));
        }
        self.ended = true;
    }

    /// Whether it was told so.
    pub const fn has_ended(&self) -> bool {
        self.ended
    }

    /// The byte after the last one given; `None` before the first.
    pub fn next(&self) -> Option<u64> {
        self.first.map(|_| self.next)
    }

    /// The first byte given.
    pub const fn first(&self) -> Option<u64> {
        self.first
    }

    /// Bytes given.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Stretches of the stream left out.
    pub fn gaps(&self) -> &[(u64, u64)] {
        &self.gaps
    }

    /// Bytes left out, those in `excused` stretches (sorted, apart) not counted.
    pub fn missing(&self, excused: &[(u64, u64)]) -> u64 {
        self.gaps
            .iter()
            .map(|&(from, to)| {
                let forgiven: u64 = excused
                    .iter()
                    .map(|&(start, end)| end.min(to).saturating_sub(start.max(from)))
                    .sum();
                (to - from).saturating_sub(forgiven)
            })
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(stream: Stream, offset: usize, length: usize) -> Bytes {
        let mut all = Vec::new();
        stream.append(0, 40, &mut all);
        Bytes::copy_from_slice(&all[offset..offset + length])
    }

    #[test]
    fn any_cut_of_the_stream_is_found() {
        let stream = Stream::new(3);
        for (offset, length) in [(0, 1316), (1316, 1316), (188, 20), (100, 300), (187, 13)] {
            assert_eq!(
                stream.locate(&bytes(stream, offset, length)),
                Some(offset as u64),
                "{offset}+{length}"
            );
        }
        assert_eq!(stream.locate(&bytes(Stream::new(4), 0, 1316)), None);
    }

    #[test]
    fn a_player_may_miss_but_not_repeat_or_invent() {
        let stream = Stream::new(3);
        let mut player = Player::new(stream);
        let chunk = ChunkIndex::new;
        let fed = 40 * UNIT as u64;
        assert_eq!(
            player.accept(chunk(10), &bytes(stream, 188, 188), fed),
            Ok(())
        );
        assert_eq!(
            player.accept(chunk(11), &bytes(stream, 376, 5), fed),
            Ok(())
        );
        assert_eq!(
            player.accept(chunk(14), &bytes(stream, 940, 188), fed),
            Ok(())
        );
        assert_eq!(player.gaps(), [(381, 940)]);
        assert_eq!(player.missing(&[(0, 400), (900, 2000)]), 500);
        assert_eq!(
            player.accept(chunk(14), &bytes(stream, 1128, 188), fed),
            Err(Mismatch::ChunkOrder {
                chunk: chunk(14),
                last: chunk(14)
            })
        );
        assert_eq!(
            player.accept(chunk(15), &bytes(stream, 376, 188), fed),
            Err(Mismatch::ByteOrder {
                chunk: chunk(15),
                offset: 376,
                expected: 1128
            })
        );
        let mut wrong = bytes(stream, 1128, 188).to_vec();
        wrong[100] ^= 1;
        assert_eq!(
            player.accept(chunk(16), &wrong.into(), fed),
            Err(Mismatch::Forged {
                chunk: chunk(16),
                bytes: 188
            })
        );
        player.end(fed);
        assert_eq!(player.gaps().last(), Some(&(1128, fed)));
        assert_eq!(
            player.accept(chunk(17), &bytes(stream, 1128, 188), fed),
            Err(Mismatch::AfterEnd { chunk: chunk(17) })
        );
    }

    #[test]
    fn bytes_from_the_future_are_forged() {
        let stream = Stream::new(3);
        let mut player = Player::new(stream);
        assert!(
            player
                .accept(ChunkIndex::ZERO, &bytes(stream, 0, 188), 187)
                .is_err()
        );
    }
}
