//! Trees, munros and signatures: every honest order verifies, no flipped bit does, and a naive reading of RFC 7574 §5
//! gives the same hashes.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use p2ps::chunk::{Bin, ChunkIndex, ChunkRange};
use p2ps::ids::SwarmId;
use p2ps::integrity::key::{SigningKey, VerifyingKey};
use p2ps::integrity::live::{Authority, MunroTree, SignedMunro, munro_root};
use p2ps::integrity::merkle::{self, MerkleTree, Verifier};
use p2ps::integrity::{Proven, Unproven, hash};
use p2ps::time::NtpTime;
use p2ps::wire::Digest;
use p2ps::wire::option::{Addressing, HashFunction};

const FUNCTIONS: [HashFunction; 5] = [
    HashFunction::Sha1,
    HashFunction::Sha224,
    HashFunction::Sha256,
    HashFunction::Sha384,
    HashFunction::Sha512,
];

fn function() -> impl Strategy<Value = HashFunction> {
    prop::sample::select(&FUNCTIONS[..])
}

/// A munro at any place, some of its chunks filled, and the order in which a receiver gets them.
#[derive(Clone, Debug)]
struct Case {
    function: HashFunction,
    range: ChunkRange,
    payloads: Vec<Bytes>,
    order: Vec<ChunkIndex>,
    /// Draws for the order of the uncles of each chunk.
    shuffles: Vec<u64>,
}

fn case(first_max: u64) -> impl Strategy<Value = Case> {
    (1u32..=6)
        .prop_flat_map(move |layer| {
            let width = 1u64 << layer;
            let numbers: Vec<u64> = (0..width).collect();
            (
                function(),
                Just(width),
                0..=first_max >> layer,
                vec(vec(any::<u8>(), 0..40), 0..=width as usize),
                Just(numbers).prop_shuffle(),
                0..=width as usize,
                vec(any::<u64>(), width as usize),
            )
        })
        .prop_map(
            |(function, width, place, payloads, order, taken, shuffles)| {
                let first = ChunkIndex::new(place * width);
                Case {
                    function,
                    range: ChunkRange::from_count(first, width).unwrap(),
                    payloads: payloads.into_iter().map(Bytes::from).collect(),
                    order: order[..taken].iter().map(|&n| first.plus(n)).collect(),
                    shuffles,
                }
            },
        )
}

impl Case {
    fn payload(&self, chunk: ChunkIndex) -> Bytes {
        let offset = (chunk.get() - self.range.first().get()) as usize;
        self.payloads.get(offset).cloned().unwrap_or_default()
    }

    fn leaves(&self) -> Vec<Digest> {
        let digest = |payload: &Bytes| hash::digest(self.function, payload);
        self.payloads.iter().map(digest).collect()
    }

    fn authority(&self) -> (SigningKey, Authority) {
        let key = SigningKey::from_seed_ed25519([7; 32]);
        let authority = Authority::new(key.verifying_key(), Addressing::Ranges64, self.function);
        (key, authority)
    }

    fn sign(&self) -> (SignedMunro, MunroTree) {
        let (key, authority) = self.authority();
        MunroTree::from_leaves(self.function, self.range, &self.leaves())
            .unwrap()
            .sign(&key, &authority, NtpTime::from_bits(1 << 40))
            .unwrap()
    }
}

/// Turns a list of hashes: messages may be lost, repeated and come late, so trees must not ask for an order.
fn turn(hashes: &mut [(Bin, Digest)], draw: u64) {
    if !hashes.is_empty() {
        let by = draw as usize % hashes.len();
        hashes.rotate_left(by);
    }
}

fn flip(bytes: &[u8], at: Index) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let bit = at.index(bytes.len() * 8);
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes
}

/// RFC 7574 §5.1, word for word: the hash of a node over leaves that start at its first chunk.
fn naive(function: HashFunction, leaves: &[Digest], filler: Digest, width: usize) -> Digest {
    if width == 1 {
        return leaves.first().copied().unwrap_or(filler);
    }
    let (left, right) = leaves.split_at(leaves.len().min(width / 2));
    let left = naive(function, left, filler, width / 2);
    let right = naive(function, right, filler, width / 2);
    let empty = vec![0; function.len()];
    if left.as_bytes() == empty && right.as_bytes() == empty {
        return left;
    }
    hash::digest(function, &[left.as_bytes(), right.as_bytes()].concat())
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 128,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn chunks_of_a_munro_verify_in_any_order(case in case((1 << 63) - 64)) {
        let (munro, whole) = case.sign();
        let mut tree = MunroTree::from_root(&munro);
        let mut held: Vec<ChunkIndex> = Vec::new();
        for (&chunk, &draw) in case.order.iter().zip(&case.shuffles) {
            let mut uncles = whole.missing_uncles(chunk, |range| {
                held.iter().any(|&held| range.contains(held))
            });
            turn(&mut uncles, draw);
            let proven = tree.open(chunk, Unproven::new(case.payload(chunk)), &uncles);
            prop_assert_eq!(proven.unwrap(), Proven::own(chunk, case.payload(chunk)));
            held.push(chunk);
            // Whoever has proven a chunk can prove it to others, and knows nothing wrong.
            prop_assert_eq!(tree.uncles(chunk), whole.uncles(chunk));
            for chunk in case.range.iter().filter(|&chunk| tree.leaf(chunk).is_some()) {
                prop_assert_eq!(tree.leaf(chunk), whole.leaf(chunk));
                prop_assert_eq!(tree.uncles(chunk), whole.uncles(chunk));
            }
        }
        let complete = case.range.iter().all(|chunk| tree.leaf(chunk).is_some());
        prop_assert_eq!(tree.is_complete(), complete);
        prop_assert_eq!(tree.leaves(), complete.then(|| whole.leaves().unwrap()));
    }

    #[test]
    fn a_flipped_bit_in_chunk_or_hash_proves_nothing(
        case in case(1 << 40),
        which in any::<Index>(),
        at in any::<Index>(),
        draw in any::<u64>(),
    ) {
        let (munro, whole) = case.sign();
        let mut tree = MunroTree::from_root(&munro);
        let chunk = case.range.first().plus(draw % case.range.count());
        let mut uncles = whole.uncles(chunk);
        let victim = which.index(uncles.len() + 1);
        let mut payload = case.payload(chunk);
        match uncles.get_mut(victim) {
            Some((_, hash)) => *hash = Digest::from_slice(&flip(hash.as_bytes(), at)).unwrap(),
            None if payload.is_empty() => payload = Bytes::from_static(&[0]),
            None => payload = flip(&payload, at).into(),
        }
        let refused = tree.open(chunk, Unproven::new(payload.clone()), &uncles).unwrap_err().1;
        prop_assert!(case.range.iter().all(|chunk| tree.leaf(chunk).is_none()));
        // Nor against the leaf itself, unless the chunk was left as it was.
        let opens = refused.prove(&whole.leaf(chunk).unwrap()).is_ok();
        prop_assert_eq!(opens, payload == case.payload(chunk));
    }

    #[test]
    fn a_flipped_bit_in_what_is_signed_is_refused(
        case in case(1 << 40),
        which in 0..4,
        at in any::<Index>(),
    ) {
        let (munro, _) = case.sign();
        let (_, authority) = case.authority();
        let (mut range, mut time, mut leaves) = (munro.range(), munro.time(), case.leaves());
        let mut signature = munro.signature().clone();
        match which {
            0 if !leaves.is_empty() => {
                let leaf = at.index(leaves.len());
                let hash = flip(leaves[leaf].as_bytes(), at);
                leaves[leaf] = Digest::from_slice(&hash).unwrap();
            }
            1 => {
                let bits = flip(&time.to_bits().to_be_bytes(), at);
                time = NtpTime::from_bits(u64::from_be_bytes(bits.try_into().unwrap()));
            }
            2 => {
                let first = range.first().get() ^ range.count() << at.index(20);
                range = ChunkRange::from_count(ChunkIndex::new(first), range.count()).unwrap();
            }
            _ => signature = flip(&signature, at).into(),
        }
        let claim = MunroTree::from_leaves(case.function, range, &leaves).unwrap();
        prop_assert!(claim.verify(&authority, time, signature).is_err());
    }

    #[test]
    fn munro_hashes_are_those_of_the_naive_tree(case in case(1 << 40)) {
        let leaves = case.leaves();
        let width = case.range.count();
        let filler = hash::empty_leaf(case.function);
        let expected = naive(case.function, &leaves, filler, width as usize);
        prop_assert_eq!(munro_root(case.function, width, &leaves), expected);
        let claim = MunroTree::from_leaves(case.function, case.range, &leaves).unwrap();
        prop_assert_eq!(claim.root(), expected);
    }

    #[test]
    fn static_chunks_verify_in_any_order(
        function in function(),
        payloads in vec(vec(any::<u8>(), 1..20), 1..80),
        draws in vec((any::<Index>(), any::<u64>()), 1..80),
        with_peaks in any::<bool>(),
        with_size in any::<bool>(),
    ) {
        let tree = MerkleTree::from_chunks(function, &payloads).unwrap();
        let count = payloads.len() as u64;
        let leaves: Vec<_> = payloads.iter().map(|data| hash::digest(function, data)).collect();
        let width = payloads.len().next_power_of_two();
        prop_assert_eq!(tree.root(), naive(function, &leaves, Digest::empty(function), width));

        let sized = (with_size || !with_peaks).then_some(count);
        let mut verifier = Verifier::new(function, tree.root(), sized).unwrap();
        if with_peaks {
            prop_assert_eq!(verifier.learn_peaks(&tree.peaks()), Ok(count));
        }
        let mut held: Vec<ChunkIndex> = Vec::new();
        for (which, draw) in draws {
            let number = which.index(payloads.len());
            let (chunk, payload) = (ChunkIndex::new(number as u64), &payloads[number]);
            let top = match with_peaks {
                true => merkle::peak_above(count, chunk).unwrap(),
                false => tree.top(),
            };
            let holds = |range: ChunkRange| held.iter().any(|&held| range.contains(held));
            let mut uncles = tree.missing_uncles(chunk, top, holds);
            turn(&mut uncles, draw);
            let bad = flip(payload, which);
            prop_assert!(verifier.open(chunk, Unproven::new(bad.into()), &uncles).is_err());
            let good = Unproven::new(payload.clone().into());
            prop_assert!(verifier.open(chunk, good, &uncles).is_ok());
            held.push(chunk);
            let all = tree.missing_uncles(chunk, tree.top(), |_| false);
            prop_assert_eq!(verifier.missing_uncles(chunk, tree.top(), |_| false), all);
        }
    }

    #[test]
    fn wrong_peaks_are_refused(
        function in function(),
        count in 1u64..200,
        which in any::<Index>(),
        at in any::<Index>(),
        numbers in vec(any::<u64>(), 0..6),
    ) {
        let tree = MerkleTree::from_chunks(function, (0..count).map(u64::to_be_bytes)).unwrap();
        let mut verifier = Verifier::new(function, tree.root(), None).unwrap();
        let mut peaks = tree.peaks();
        let peak = which.index(peaks.len());
        let hash = flip(peaks[peak].1.as_bytes(), at);
        peaks[peak].1 = Digest::from_slice(&hash).unwrap();
        prop_assert!(verifier.learn_peaks(&peaks).is_err());
        // Any nodes at all.
        let hash = hash::digest(function, b"made up");
        let claims: Vec<_> = numbers
            .into_iter()
            .filter_map(|bits| Some((Bin::from_bits(bits)?, hash)))
            .collect();
        prop_assert!(verifier.learn_peaks(&claims).is_err());
        prop_assert_eq!((verifier.chunks(), verifier.bytes()), (None, 0));
    }

    #[test]
    fn bytes_that_are_no_key_are_an_error(bytes in vec(any::<u8>(), 1..200), code in 0u8..20) {
        let mut id = bytes.clone();
        id[0] = code;
        if let Ok(key) = VerifyingKey::from_swarm_id(&SwarmId::new(id).unwrap()) {
            prop_assert!(!key.verify(b"message", &bytes));
        }
        prop_assert!(SigningKey::from_pem(&bytes).is_err());
    }

    #[test]
    fn a_key_file_with_a_flipped_bit_is_refused_or_another_key(
        seed in any::<[u8; 32]>(),
        at in any::<Index>(),
    ) {
        let key = SigningKey::from_seed_ed25519(seed);
        let pem = key.to_pem();
        if let Ok(other) = SigningKey::from_pem(flip(pem.as_bytes(), at)) {
            let signature = other.sign(b"message");
            prop_assert!(other.verifying_key().verify(b"message", &signature));
        }
    }
}
