//! Sealed chunks: media that only holders of a key can read, passed on by those who cannot.
//!
//! The payload of every chunk is sealed by itself with AES-128-GCM before it is hashed, so that integrity, repair and
//! forwarding work on sealed bytes (algorithms §3.2). A tracker makes an *epoch key* and hands it out; the key of a
//! chunk is derived from it, from the channel, and from a salt that the source draws at each start. Under one derived
//! key no chunk number is used twice by one start, and two starts have two keys: that is what keeps nonces apart, also
//! when a source forgets its numbers, or two of them share a channel.
//!
//! A sealed chunk says itself that it is one, so late joiners and chunks out of order need nothing else:
//!
//! | bytes | what |
//! | --- | --- |
//! | 4 | 8E 70 32 01: no packet of a transport stream, no text |
//! | 1 | hints for whoever passes it on: 1 a program table starts in it, 2 decoding can begin in it |
//! | 6 | epoch |
//! | 16 | salt of the source's start |
//! | n | media, sealed; what stands before it is authenticated along |
//! | 16 | tag |

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, MAX_TAG_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::hmac;
use bytes::{BufMut as _, Bytes, BytesMut};

use crate::chunk::ChunkIndex;
use crate::ids::SwarmId;
use crate::rng::Seed;

/// How every sealed chunk begins; the last byte is the version.
const MARK: [u8; 4] = [0x8e, b'p', b'2', 1];
/// Bytes of the salt of a start.
pub const SALT_BYTES: usize = 16;
const HEADER_BYTES: usize = MARK.len() + 1 + EpochId::BYTES + SALT_BYTES;
/// Bytes that sealing adds to a chunk.
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + MAX_TAG_LEN;
/// Keys that a reader keeps; the oldest give way.
pub const RING_MAX: usize = 64;
/// Derived keys kept at hand: those of the epochs and starts around a change.
const DERIVED_MAX: usize = 4;
/// Keeps these keys apart from all others made of the same secret.
const LABEL: &[u8] = b"p2ps chunk seal v1\0";

/// Which epoch key. Later ones have larger numbers: seconds of the Unix time at which it was made, and 16 random bits,
/// so that no two trackers, and no tracker that forgot, give one number to two keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct EpochId(u64);

impl EpochId {
    /// Bytes of it in a chunk: numbers of 48 bits are exact in every reader of JSON.
    pub const BYTES: usize = 6;

    /// A number, unless it is too large.
    pub const fn new(number: u64) -> Option<Self> {
        if number < 1 << (8 * Self::BYTES) {
            Some(Self(number))
        } else {
            None
        }
    }

    /// The number of a key made at `unix_s`.
    pub fn at(unix_s: u64, random: u16) -> Self {
        Self(u64::from(unix_s as u32) << 16 | u64::from(random))
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// When it was made, Unix seconds.
    pub const fn made_s(self) -> u64 {
        self.0 >> 16
    }

    fn to_bytes(self) -> [u8; Self::BYTES] {
        let [_, _, bytes @ ..] = self.0.to_be_bytes();
        bytes
    }

    const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let [a, b, c, d, e, f] = bytes;
        Self(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    }
}

/// The secret of one epoch of one channel. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct EpochKey([u8; Self::BYTES]);

impl EpochKey {
    /// Its length.
    pub const BYTES: usize = 32;

    /// A key of random bytes.
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// The secret itself.
    pub const fn reveal(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl fmt::Debug for EpochKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EpochKey(***)")
    }
}

impl Drop for EpochKey {
    fn drop(&mut self) {
        self.0.fill(0);
        // Without this the compiler may see that nobody reads the zeros.
        std::hint::black_box(&self.0);
    }
}

/// Makes secrets from one seed of the system's generator. Whoever sees some of them, or takes it later, learns nothing
/// of the others that were made before.
pub struct Ratchet(hmac::Key);

impl Ratchet {
    /// Secrets from a seed that nothing else is made of.
    pub fn new(seed: Seed) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, seed.as_bytes()))
    }

    /// The next secret.
    pub fn draw(&mut self) -> [u8; 32] {
        let made = |label: &[u8]| -> [u8; 32] {
            let tag = hmac::sign(&self.0, label);
            let bytes = tag.as_ref().first_chunk().copied();
            bytes.expect("HMAC-SHA-256 gives 32 bytes")
        };
        let secret = made(b"p2ps secret");
        self.0 = hmac::Key::new(hmac::HMAC_SHA256, &made(b"p2ps next"));
        secret
    }
}

impl fmt::Debug for Ratchet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ratchet(***)")
    }
}

/// What a sealed chunk tells those who cannot read it: where a player can begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// A program association table starts in it.
    pub has_tables: bool,
    /// Decoding can begin in it.
    pub is_entry: bool,
}

impl Hints {
    const fn bits(self) -> u8 {
        self.has_tables as u8 | (self.is_entry as u8) << 1
    }

    const fn from_bits(bits: u8) -> Self {
        Self {
            has_tables: bits & 1 != 0,
            is_entry: bits & 2 != 0,
        }
    }
}

/// Whether a payload is a sealed chunk. One comparison: it is asked for every chunk of every channel.
pub fn is_sealed(payload: &[u8]) -> bool {
    payload.first_chunk() == Some(&MARK)
}

/// The hints of a sealed chunk; none for anything else.
pub fn hints(payload: &[u8]) -> Option<Hints> {
    is_sealed(payload).then(|| Hints::from_bits(payload.get(MARK.len()).copied().unwrap_or(0)))
}

/// Why a sealed chunk cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Nobody gave us the key.
    #[error("no key of epoch {}", .0.get())]
    NoKey(EpochId),
    /// Not what was sealed with the key.
    #[error("sealed chunk is damaged")]
    Damaged,
}

/// The key of the chunks of one start in one epoch (HKDF, RFC 5869).
fn derive(
    swarm_id: &SwarmId,
    epoch: EpochId,
    key: &EpochKey,
    salt: &[u8; SALT_BYTES],
) -> LessSafeKey {
    let secret = Salt::new(HKDF_SHA256, salt).extract(key.reveal());
    let epoch = epoch.to_bytes();
    let info = [LABEL, &epoch, swarm_id.as_bytes()];
    let made = secret.expand(&info, &AES_128_GCM);
    let made = made.expect("a key of 16 bytes is shorter than 255 hashes");
    LessSafeKey::new(UnboundKey::from(made))
}

/// A chunk's number is used once by one start, and every start has a key of its own.
fn nonce(chunk: ChunkIndex) -> Nonce {
    let mut bytes = [0; 12];
    if let Some(room) = bytes.last_chunk_mut() {
        *room = chunk.get().to_be_bytes();
    }
    Nonce::assume_unique_for_key(bytes)
}

/// Seals the chunks of one start of a source.
pub struct Sealer {
    swarm_id: SwarmId,
    salt: [u8; SALT_BYTES],
    current: Option<(EpochId, LessSafeKey)>,
    /// Nothing below this is sealed any more.
    next: Option<ChunkIndex>,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let epoch = self.current.as_ref().map(|(epoch, _)| epoch);
        write!(f, "Sealer({epoch:?})")
    }
}

impl Sealer {
    /// A sealer without a key. The salt comes from the system's generator, anew at every start.
    pub const fn new(swarm_id: SwarmId, salt: [u8; SALT_BYTES]) -> Self {
        Self {
            swarm_id,
            salt,
            current: None,
            next: None,
        }
    }

    /// Seals with this key from now on.
    pub fn set_key(&mut self, epoch: EpochId, key: &EpochKey) {
        if self.epoch() != Some(epoch) {
            self.current = Some((epoch, derive(&self.swarm_id, epoch, key, &self.salt)));
        }
    }

    /// The epoch whose key is used.
    pub fn epoch(&self) -> Option<EpochId> {
        self.current.as_ref().map(|(epoch, _)| *epoch)
    }

    /// Seals one chunk; none without a key.
    ///
    /// # Panics
    ///
    /// When a chunk number comes again, or goes back: its nonce was used.
    pub fn seal(&mut self, chunk: ChunkIndex, hints: Hints, media: &[u8]) -> Option<Bytes> {
        let (epoch, key) = self.current.as_ref()?;
        assert!(
            self.next.is_none_or(|next| chunk >= next),
            "a source counts its chunks upwards"
        );
        self.next = Some(chunk.plus(1));
        let mut out = BytesMut::with_capacity(media.len() + OVERHEAD_BYTES);
        out.put_slice(&MARK);
        out.put_u8(hints.bits());
        out.put_slice(&epoch.to_bytes());
        out.put_slice(&self.salt);
        out.put_slice(media);
        let (header, body) = out.split_at_mut(HEADER_BYTES);
        let tag = key
            .seal_in_place_separate_tag(nonce(chunk), Aad::from(&*header), body)
            .expect("a chunk is far below what the cipher takes");
        out.put_slice(tag.as_ref());
        Some(out.freeze())
    }
}

/// The keys of a reader.
pub struct Ring {
    swarm_id: SwarmId,
    keys: BTreeMap<EpochId, EpochKey>,
    /// Derived keys, the last used first.
    derived: VecDeque<(EpochId, [u8; SALT_BYTES], LessSafeKey)>,
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.keys.keys()).finish()
    }
}

impl Ring {
    /// No keys yet.
    pub const fn new(swarm_id: SwarmId) -> Self {
        Self {
            swarm_id,
            keys: BTreeMap::new(),
            derived: VecDeque::new(),
        }
    }

    /// Takes a key.
    pub fn add(&mut self, epoch: EpochId, key: EpochKey) {
        if self.keys.get(&epoch) == Some(&key) {
            return;
        }
        self.derived.retain(|(of, ..)| *of != epoch);
        self.keys.insert(epoch, key);
        if self.keys.len() > RING_MAX {
            self.keys.pop_first();
        }
    }

    /// One key.
    pub fn key(&self, epoch: EpochId) -> Option<&EpochKey> {
        self.keys.get(&epoch)
    }

    /// Opens a sealed chunk that was proven to be the author's.
    ///
    /// # Errors
    ///
    /// A key that nobody gave us; anything but what was sealed as this chunk of this channel.
    pub fn open(&mut self, chunk: ChunkIndex, sealed: &[u8]) -> Result<Bytes, OpenError> {
        let (header, body) = sealed
            .split_at_checked(HEADER_BYTES)
            .filter(|(header, _)| is_sealed(header))
            .ok_or(OpenError::Damaged)?;
        let named = header.get(MARK.len() + 1..).unwrap_or_default();
        let (epoch, salt) = named
            .split_first_chunk::<{ EpochId::BYTES }>()
            .ok_or(OpenError::Damaged)?;
        let epoch = EpochId::from_bytes(*epoch);
        let salt: [u8; SALT_BYTES] = salt.try_into().map_err(|_| OpenError::Damaged)?;
        let known = self
            .derived
            .iter()
            .position(|(of, with, _)| *of == epoch && *with == salt);
        match known {
            Some(0) => {}
            Some(at) => self.derived.swap(0, at),
            None => {
                let key = self.keys.get(&epoch).ok_or(OpenError::NoKey(epoch))?;
                let key = derive(&self.swarm_id, epoch, key, &salt);
                self.derived.push_front((epoch, salt, key));
                self.derived.truncate(DERIVED_MAX);
            }
        }
        let (_, _, key) = self.derived.front().ok_or(OpenError::NoKey(epoch))?;
        let mut media = BytesMut::from(body);
        let length = key
            .open_in_place(nonce(chunk), Aad::from(header), &mut media)
            .map_err(|_| OpenError::Damaged)?
            .len();
        media.truncate(length);
        Ok(media.freeze())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn swarm(number: u8) -> SwarmId {
        SwarmId::new(Bytes::from(vec![number; 33])).expect("short enough")
    }

    fn key(number: u8) -> EpochKey {
        EpochKey::from_bytes([number; 32])
    }

    const EPOCH: EpochId = EpochId(0x6b01_2345_6789);
    const MEDIA: &[u8] = b"G: what the viewers paid for";

    fn sealer(salt: u8) -> Sealer {
        let mut sealer = Sealer::new(swarm(1), [salt; 16]);
        sealer.set_key(EPOCH, &key(3));
        sealer
    }

    fn ring() -> Ring {
        let mut ring = Ring::new(swarm(1));
        ring.add(EPOCH, key(3));
        ring
    }

    fn at(number: u64) -> ChunkIndex {
        ChunkIndex::new(number)
    }

    #[test]
    fn what_was_sealed_is_read_by_whoever_has_the_key() {
        let mut sealer = sealer(7);
        let hints_given = Hints {
            has_tables: true,
            is_entry: false,
        };
        let sealed = sealer.seal(at(32), hints_given, MEDIA).expect("a key");
        assert_eq!(sealed.len(), MEDIA.len() + OVERHEAD_BYTES);
        assert_eq!(OVERHEAD_BYTES, 43, "as p2ps-protocol(7) says");
        assert!(!sealed.windows(8).any(|bytes| MEDIA.starts_with(bytes)));
        assert_eq!(hints(&sealed), Some(hints_given));
        // Late, out of order, the same chunk twice.
        let later = sealer.seal(at(40), Hints::default(), MEDIA).expect("a key");
        let mut ring = ring();
        for (chunk, sealed) in [(40, &later), (32, &sealed), (32, &sealed)] {
            assert_eq!(ring.open(at(chunk), sealed).as_deref(), Ok(MEDIA));
        }
        let head = "8e7032010 16b0123456789".replace(' ', "");
        let header: String = sealed
            .iter()
            .take(11)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(header, head);
    }

    #[test]
    fn without_a_key_nothing_is_sealed_and_nothing_read() {
        let mut locked_out = Sealer::new(swarm(1), [7; 16]);
        assert_eq!(locked_out.seal(at(0), Hints::default(), MEDIA), None);
        let sealed = sealer(7)
            .seal(at(0), Hints::default(), MEDIA)
            .expect("a key");
        let mut empty = Ring::new(swarm(1));
        assert_eq!(empty.open(at(0), &sealed), Err(OpenError::NoKey(EPOCH)));
        // Another key under the number, another channel, another chunk.
        let mut wrong = Ring::new(swarm(1));
        wrong.add(EPOCH, key(4));
        assert_eq!(wrong.open(at(0), &sealed), Err(OpenError::Damaged));
        // The right one in its place.
        wrong.add(EPOCH, key(3));
        assert_eq!(wrong.open(at(0), &sealed).as_deref(), Ok(MEDIA));
        let mut elsewhere = Ring::new(swarm(2));
        elsewhere.add(EPOCH, key(3));
        assert_eq!(elsewhere.open(at(0), &sealed), Err(OpenError::Damaged));
        assert_eq!(ring().open(at(1), &sealed), Err(OpenError::Damaged));
    }

    #[test]
    fn a_chunk_that_is_cut_or_changed_is_not_read() {
        let sealed = sealer(7)
            .seal(at(5), Hints::default(), MEDIA)
            .expect("a key");
        let mut ring = ring();
        for length in 0..sealed.len() {
            let cut = sealed.slice(..length);
            assert!(ring.open(at(5), &cut).is_err(), "{length} bytes");
        }
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(ring.open(at(5), &changed).is_err(), "bit {bit}");
        }
        assert_eq!(ring.open(at(5), &sealed).as_deref(), Ok(MEDIA));
    }

    #[test]
    fn no_key_sees_a_nonce_twice_though_numbers_begin_again() {
        // One stream of zeros sealed by two starts that both count from 0, in two epochs: equal key and nonce would
        // show as equal bytes.
        let mut seen = BTreeSet::new();
        for salt in [1, 2] {
            let mut sealer = sealer(salt);
            for chunk in 0..100 {
                if chunk == 50 {
                    sealer.set_key(EpochId(EPOCH.get() + 1), &key(4));
                }
                let sealed = sealer
                    .seal(at(chunk), Hints::default(), &[0; 64])
                    .expect("a key");
                assert!(
                    seen.insert(sealed.slice(HEADER_BYTES..)),
                    "start {salt}, chunk {chunk}"
                );
            }
        }
        let two_sources = Sealer::new(swarm(2), [1; 16]);
        let mut sources = [sealer(9), two_sources];
        sources[1].set_key(EPOCH, &key(3));
        let sealed = sources.map(|mut it| it.seal(at(0), Hints::default(), &[0; 64]));
        assert_ne!(
            sealed[0].as_ref().map(|it| it.slice(27..)),
            sealed[1].as_ref().map(|it| it.slice(27..))
        );
    }

    #[test]
    #[should_panic(expected = "counts its chunks upwards")]
    fn a_number_that_comes_again_is_never_sealed() {
        let mut sealer = sealer(7);
        sealer.seal(at(5), Hints::default(), MEDIA);
        sealer.set_key(EpochId(EPOCH.get() + 1), &key(4));
        sealer.set_key(EPOCH, &key(3));
        sealer.seal(at(5), Hints::default(), b"something else");
    }

    #[test]
    fn a_ring_holds_so_many_keys_and_no_more() {
        let mut ring = Ring::new(swarm(1));
        for number in 0..=RING_MAX as u64 {
            ring.add(EpochId(number), key(1));
        }
        assert_eq!(ring.keys.len(), RING_MAX);
        assert!(ring.key(EpochId(0)).is_none(), "the oldest went");
        let mut sealer = Sealer::new(swarm(1), [1; 16]);
        for number in 1..=RING_MAX as u64 {
            sealer.set_key(EpochId(number), &key(1));
            let sealed = sealer
                .seal(at(number), Hints::default(), MEDIA)
                .expect("a key");
            assert!(ring.open(at(number), &sealed).is_ok());
        }
        assert_eq!(ring.derived.len(), DERIVED_MAX);
    }

    #[test]
    fn secrets_of_a_ratchet_differ_and_repeat_with_its_seed() {
        let secrets = |seed| {
            let mut ratchet = Ratchet::new(Seed::from_number(seed));
            [ratchet.draw(), ratchet.draw(), ratchet.draw()]
        };
        let [a, b, c] = secrets(1);
        assert!(a != b && b != c && a != c);
        assert_eq!(secrets(1), [a, b, c]);
        assert_ne!(secrets(2)[0], a);
    }

    #[test]
    fn media_that_is_not_sealed_is_told_apart() {
        for plain in [&b""[..], b"G", &MARK[..3], b"\x8ep2\x02 another version"] {
            assert_eq!(hints(plain), None, "{plain:?}");
        }
        assert_eq!(hints(&MARK), Some(Hints::default()));
        assert_eq!(ring().open(at(0), &MARK), Err(OpenError::Damaged));
    }
}
