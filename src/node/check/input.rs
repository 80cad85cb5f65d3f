//! Any bytes read as numbers, chunks and paths: enough of the far ends of each to find what breaks there.

use bytes::Bytes;

use crate::chunk::{ChunkIndex, ChunkRange};
use crate::ids::PeerId;
use crate::wire::option::HashFunction;
use crate::wire::{Digest, Mask, PathBlock};

/// The bytes left; zero when there are none.
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl Input<'_> {
    pub(super) fn u8(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    pub(super) fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.u8(), self.u8()])
    }

    pub(super) fn u64(&mut self) -> u64 {
        (0..8).fold(0, |number, _| number << 8 | u64::from(self.u8()))
    }

    pub(super) fn take(&mut self, length: usize) -> Bytes {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        Bytes::copy_from_slice(taken)
    }

    /// Chunk numbers: mostly near the beginning, where the stream is, some at the far ends.
    pub(super) fn chunk(&mut self) -> ChunkIndex {
        ChunkIndex::new(match self.u8() {
            kind @ 0..=199 => u64::from(kind) * 4 + u64::from(kind & 3),
            200..=219 => u64::from(self.u16()),
            220..=229 => u64::MAX - u64::from(self.u8()),
            230..=239 => (1 << 63) - u64::from(self.u8()),
            _ => self.u64(),
        })
    }

    pub(super) fn range(&mut self) -> ChunkRange {
        let (a, b) = (self.chunk(), self.chunk());
        ChunkRange::new(a.min(b), a.max(b)).unwrap_or_else(|| ChunkRange::single(a))
    }

    pub(super) fn digest(&mut self) -> Digest {
        Digest::from_slice(&[self.u8(); 32]).unwrap_or_else(|| Digest::empty(HashFunction::Sha256))
    }

    pub(super) fn path(&mut self) -> Vec<PathBlock> {
        let hops = usize::from(self.u8() % 40);
        let first = self.u8();
        let path = (0..hops).map(|hop| PeerId::from_bytes([first.wrapping_add(hop as u8); 8]));
        vec![PathBlock {
            mask: Mask::all(1),
            path: path.collect(),
        }]
    }
}
