//! How many bytes went by, and their running SHA-256.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};

/// Counts and hashes a stream of bytes; the figures `media_bytes_total` and `media_sha256`.
#[derive(Clone)]
pub struct Tally {
    bytes: u64,
    context: Context,
}

impl Default for Tally {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tally")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Tally {
    /// Nothing so far.
    pub fn new() -> Self {
        Self {
            bytes: 0,
            context: Context::new(&SHA256),
        }
    }

    /// More bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.context.update(bytes);
    }

    /// Bytes so far.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// SHA-256 of all bytes so far.
    pub fn sha256(&self) -> [u8; 32] {
        let digest = self.context.clone().finish();
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_runs_along() {
        let mut tally = Tally::new();
        tally.update(b"ab");
        let half = tally.sha256();
        tally.update(b"c");
        assert_eq!(tally.bytes(), 3);
        assert_eq!(tally.sha256()[..4], [0xba, 0x78, 0x16, 0xbf]);
        assert_eq!(half[..4], [0xfb, 0x8e, 0x20, 0xfc]);
    }
}
