//! A munro outside the window: what proves it, kept apart from its bytes, and how both become a [`Slot`] again.

use bytes::Bytes;

use super::{MunroIndex, Slot};
use crate::integrity::hash;
use crate::integrity::live::{Authority, MUNRO_WIDTH, MunroTree};
use crate::time::{Instant, NtpTime};

/// What has to be kept of a munro beside the bytes of its chunks: the leaf hashes follow from those.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filed {
    /// Which munro.
    pub index: MunroIndex,
    /// The source's clock at signing.
    pub time: NtpTime,
    /// The source's signature.
    pub signature: Bytes,
    /// Bytes of each chunk; none of an empty one.
    pub lengths: [u16; MUNRO_WIDTH as usize],
}

impl Filed {
    /// Of a munro in the window. `None` while something of it is missing: what is there could not be proven from itself.
    pub fn of(slot: &Slot) -> Option<Self> {
        if !slot.is_complete() {
            return None;
        }
        let mut lengths = [0; MUNRO_WIDTH as usize];
        for (place, length) in (0..).zip(&mut lengths) {
            *length = u16::try_from(slot.payload(place)?.len()).ok()?;
        }
        Some(Self {
            index: slot.index(),
            time: slot.signed_at(),
            signature: slot.munro().signature().clone(),
            lengths,
        })
    }

    /// Bytes of all its chunks.
    pub fn media_bytes(&self) -> u64 {
        self.lengths.iter().map(|&length| u64::from(length)).sum()
    }

    /// The munro with its chunks, which stand back to back in `media`. `None` when these are not what the source
    /// signed, or there are more or fewer bytes.
    pub fn restore(&self, authority: &Authority, mut media: Bytes) -> Option<Slot> {
        if media.len() as u64 != self.media_bytes() {
            return None;
        }
        let filled_count = self.lengths.iter().rposition(|&length| length > 0);
        let filled_count = filled_count.map_or(0, |last| last + 1);
        let mut payloads = Vec::with_capacity(filled_count);
        let (mut filled, mut bit) = (0, 1);
        for &length in self.lengths.iter().take(filled_count) {
            payloads.push(media.split_to(usize::from(length)));
            filled |= if length > 0 { bit } else { 0 };
            bit <<= 1;
        }
        let function = authority.function();
        let leaves: Vec<_> = payloads
            .iter()
            .map(|payload| hash::digest(function, payload))
            .collect();
        let tree = MunroTree::from_leaves(function, self.index.chunks(), &leaves)?;
        let signature = self.signature.clone();
        let (munro, tree) = tree.verify(authority, self.time, signature).ok()?;
        Some(Slot {
            index: self.index,
            munro,
            tree,
            arrived: Instant::ZERO,
            filled,
            held: u32::MAX,
            entries: 0,
            payloads,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::integrity::Proven;
    use crate::integrity::key::SigningKey;
    use crate::store::Window;
    use crate::wire::option::{Addressing, HashFunction};
    use std::time::Duration;

    const SHA256: HashFunction = HashFunction::Sha256;

    fn authority() -> (SigningKey, Authority) {
        let key = SigningKey::from_seed_ed25519([7; 32]);
        let authority = Authority::new(key.verifying_key(), Addressing::Ranges64, SHA256);
        (key, authority.with_width(MUNRO_WIDTH))
    }

    /// Munro 3 of chunks of these lengths, in a window, all of it or without the last chunk.
    fn window(lengths: &[usize], is_whole: bool) -> (Window, Authority, Bytes) {
        let (key, authority) = authority();
        let index = MunroIndex::new(3);
        let chunks: Vec<Bytes> = lengths
            .iter()
            .enumerate()
            .map(|(at, &length)| vec![at as u8 + 1; length].into())
            .collect();
        let leaves: Vec<_> = chunks
            .iter()
            .map(|chunk| hash::digest(SHA256, chunk))
            .collect();
        let (munro, tree) = MunroTree::from_leaves(SHA256, index.chunks(), &leaves)
            .unwrap()
            .sign(&key, &authority, NtpTime::from_bits(9 << 32))
            .unwrap();
        let mut window = Window::new(Duration::from_secs(1));
        window.insert(Instant::ZERO, munro, tree);
        let held = chunks.len() - usize::from(!is_whole);
        for (place, chunk) in chunks.iter().take(held).enumerate() {
            window.put(Proven::own(index.chunk_at(place as u32), chunk.clone()));
        }
        (window, authority, chunks.concat().into())
    }

    #[test]
    fn a_munro_comes_back_as_it_was() {
        for lengths in [vec![1316; 32], vec![100, 0, 7], vec![]] {
            let (window, authority, media) = window(&lengths, true);
            let slot = window.oldest().unwrap();
            let filed = Filed::of(slot).unwrap();
            assert_eq!(filed.media_bytes(), media.len() as u64);
            let again = filed.restore(&authority, media).unwrap();
            assert_eq!(again.munro(), slot.munro());
            assert_eq!(again.payload_mask(), slot.payload_mask(), "{lengths:?}");
            assert_eq!(again.is_end_mark(), lengths.is_empty());
            for place in 0..32 {
                assert_eq!(again.payload(place), slot.payload(place));
            }
            assert_eq!(again.tree().leaves(), slot.tree().leaves());
        }
    }

    #[test]
    fn nothing_comes_back_that_the_source_did_not_sign() {
        let (window, authority, media) = window(&[1316, 1316, 20], true);
        let filed = Filed::of(window.oldest().unwrap()).unwrap();
        for at in [0, 1316, media.len() - 1] {
            let mut flipped = media.to_vec();
            flipped[at] ^= 1;
            assert!(filed.restore(&authority, flipped.into()).is_none(), "{at}");
        }
        let changed: [fn(&mut Filed); 4] = [
            |filed| filed.index = MunroIndex::new(4),
            |filed| filed.time = NtpTime::from_bits(10 << 32),
            |filed| filed.lengths.swap(1, 2),
            |filed| filed.signature = Bytes::from_static(&[0; 64]),
        ];
        for change in changed {
            let mut filed = filed.clone();
            change(&mut filed);
            assert!(filed.restore(&authority, media.clone()).is_none());
        }
        let short = media.slice(1..);
        assert!(filed.restore(&authority, short).is_none());
    }

    #[test]
    fn a_munro_with_a_hole_is_not_kept() {
        let (window, ..) = window(&[10, 10], false);
        assert_eq!(Filed::of(window.oldest().unwrap()), None);
    }
}
