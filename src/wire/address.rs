//! Chunk specifications: how a range of chunks is written in each addressing method (RFC 7574 §4).

use super::Format;
use super::cursor::{DecodeError, Reader};
use super::option::{Addressing, ChunkSize};
use crate::chunk::{Bin, ChunkIndex, ChunkRange};

/// Reads one specification.
pub(crate) fn decode(reader: &mut Reader, format: &Format) -> Result<ChunkRange, DecodeError> {
    let offset = reader.offset();
    match format.addressing {
        Addressing::Bins32 => {
            let bits = u64::from(reader.u32()?);
            // The top of a 32-bit tree is "everything", all ones is "nothing".
            bin_range(
                offset,
                if bits == u64::from(u32::MAX) {
                    u64::MAX
                } else {
                    bits
                },
            )
        }
        Addressing::Bins64 => bin_range(offset, reader.u64()?),
        Addressing::Ranges32 => {
            let (first, last) = (u64::from(reader.u32()?), u64::from(reader.u32()?));
            range(offset, first, last)
        }
        Addressing::Ranges64 => {
            let (first, last) = (reader.u64()?, reader.u64()?);
            range(offset, first, last)
        }
        Addressing::Bytes64 => {
            let ChunkSize::Fixed(size) = format.chunk_size else {
                return Err(DecodeError::NoChunkSize);
            };
            let (first, last) = (reader.u64()?, reader.u64()?);
            let size = u64::from(size.max(1));
            if first > last || first % size != 0 {
                return Err(DecodeError::BadRange {
                    offset,
                    first,
                    last,
                });
            }
            range(offset, first / size, last / size)
        }
    }
}

fn range(offset: usize, first: u64, last: u64) -> Result<ChunkRange, DecodeError> {
    ChunkRange::new(ChunkIndex::new(first), ChunkIndex::new(last)).ok_or(DecodeError::BadRange {
        offset,
        first,
        last,
    })
}

fn bin_range(offset: usize, bits: u64) -> Result<ChunkRange, DecodeError> {
    Bin::from_bits(bits)
        .map(Bin::to_range)
        .ok_or(DecodeError::BadRange {
            offset,
            first: bits,
            last: bits,
        })
}

/// Writes a range. Bins can name only aligned powers of two: another range is cut to the first bin of it, so callers
/// that must name all of it ask [`pieces`].
pub(crate) fn encode(out: &mut Vec<u8>, format: &Format, range: ChunkRange) {
    let (first, last) = (range.first().get(), range.last().get());
    match format.addressing {
        Addressing::Bins32 => {
            let bits = first_bin(range)
                .and_then(|bits| u32::try_from(bits).ok())
                .unwrap_or(u32::MAX);
            out.extend_from_slice(&bits.to_be_bytes());
        }
        Addressing::Bins64 => {
            out.extend_from_slice(&first_bin(range).unwrap_or(u64::MAX).to_be_bytes())
        }
        Addressing::Ranges32 => {
            for number in [first, last] {
                out.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes());
            }
        }
        Addressing::Ranges64 => {
            out.extend_from_slice(&first.to_be_bytes());
            out.extend_from_slice(&last.to_be_bytes());
        }
        Addressing::Bytes64 => {
            let size = match format.chunk_size {
                ChunkSize::Fixed(size) => u64::from(size.max(1)),
                ChunkSize::Variable => 1,
            };
            let end = last.saturating_mul(size).saturating_add(size - 1);
            out.extend_from_slice(&first.saturating_mul(size).to_be_bytes());
            out.extend_from_slice(&end.to_be_bytes());
        }
    }
}

fn first_bin(range: ChunkRange) -> Option<u64> {
    range
        .to_bin()
        .or_else(|| range.bins().first().copied())
        .map(Bin::to_bits)
}

/// The ranges to write, one message each, that together name `range`.
pub fn pieces(format: &Format, range: ChunkRange) -> Vec<ChunkRange> {
    match format.addressing {
        Addressing::Bins32 | Addressing::Bins64 => {
            range.bins().into_iter().map(Bin::to_range).collect()
        }
        _ => vec![range],
    }
}

/// Bytes of one specification.
pub const fn len(addressing: Addressing) -> usize {
    match addressing {
        Addressing::Bins32 => 4,
        Addressing::Ranges32 | Addressing::Bins64 => 8,
        Addressing::Bytes64 | Addressing::Ranges64 => 16,
    }
}
