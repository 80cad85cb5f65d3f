//! One player's output against the stream: only its bytes, in order, each once.

use bytes::Bytes;

use super::stream::Stream;
use crate::chunk::ChunkIndex;

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
    use crate::sim::stream::UNIT;

    fn bytes(stream: Stream, offset: usize, length: usize) -> Bytes {
        let mut all = Vec::new();
        stream.append(0, 40, &mut all);
        Bytes::copy_from_slice(&all[offset..offset + length])
    }

    #[test]
    fn a_player_may_miss_but_not_repeat_or_invent() {
        let stream = Stream::bytes(3);
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
        let stream = Stream::bytes(3);
        let mut player = Player::new(stream);
        assert!(
            player
                .accept(ChunkIndex::ZERO, &bytes(stream, 0, 188), 187)
                .is_err()
        );
    }
}
