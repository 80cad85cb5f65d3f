//! The unified tree of live content against worked examples.

use super::*;
use crate::ids::{SwarmId, decode_hex};
use crate::wire::option::{Addressing, ChunkSize};
use crate::wire::{Format, Message};

const FUNCTION: HashFunction = HashFunction::Sha256;
const TIME: NtpTime = NtpTime::from_bits(0xeeac_0640_8000_0000);
const MUNRO_4_TO_7: &str = "0764bb064e406b96b435f9379d07119f58fdc4add1be51d4d6b1f678c3409f12";
const ED25519_RANGES32: &str = "abe91643a78b31142856ade429e280f016880813749fcaef342e3f75b4088299\
    de3b8bfa9505307d52d0bc6be68f20ae9cee03aa1b89ffdc498a2da3de089000";
const ED25519_RANGES64: &str = "0c5ab25012b55b3e504c65c88e7dc51e223220ef518286ca13d9843a00799a48\
    7e3005051f70080f31022720b16ebda5a6f9dbbc84cd8ea64835010030505a0c";
const P256_RANGES32: &str = "65a1150d67c3a12412f4d9328e667e321654c8e2f85a4cc66f9a40e33cbc4f0e\
    314d297773519a29428d242f06d5b245122562ce7fba9aa247f827b946e96cf0";

fn range(first: u64, last: u64) -> ChunkRange {
    ChunkRange::new(ChunkIndex::new(first), ChunkIndex::new(last)).unwrap()
}

fn hex(text: &str) -> Bytes {
    decode_hex(text).unwrap().into()
}

fn hash(text: &str) -> Digest {
    Digest::from_slice(&hex(text)).unwrap()
}

/// The key of RFC 8080 §6 and its authority.
fn source(spec: impl Into<ChunkSpec>) -> (SigningKey, Authority) {
    let key = SigningKey::from_seed_ed25519(*b"82260384628080122645190204142262");
    let authority = Authority::new(key.verifying_key(), spec, FUNCTION);
    (key, authority)
}

/// Chunk n of the reference: 1024 times one byte.
fn payload(chunk: u64) -> Bytes {
    vec![0x41 + chunk as u8; 1024].into()
}

fn leaves(range: ChunkRange) -> Vec<Digest> {
    range
        .iter()
        .map(|chunk| hash::digest(FUNCTION, &payload(chunk.get())))
        .collect()
}

fn signed(range: ChunkRange, leaves: &[Digest]) -> (SignedMunro, MunroTree) {
    let (key, authority) = source(Addressing::Ranges64);
    let tree = MunroTree::from_leaves(FUNCTION, range, leaves).unwrap();
    tree.sign(&key, &authority, TIME).unwrap()
}

#[test]
fn hashes_of_the_reference() {
    let (munro, tree) = signed(range(4, 7), &leaves(range(4, 7)));
    assert_eq!(munro.root().to_string(), MUNRO_4_TO_7);
    for (bin, expected) in [
        (
            8,
            "7027515fbf2ca8d0dd931cbef2b7dda1716827cb4a0ef8adad10eaeb2c33860c",
        ),
        (
            10,
            "fa2a5e7b228adc7592461c8e580125312fd01c144b3e50913abc5691b2d16291",
        ),
        (
            12,
            "b54de8d8e7ed6289081b15a560eccab84dc52d58f4e1b7b6a6dd5a24f991807a",
        ),
        (
            14,
            "504f6002db046c5b36ddc7a028bb79763c5b682e23ec464a465760fd758edde2",
        ),
        (
            9,
            "586542a02e91b8f91734be40ae4e67aab3a33f2b5840a8f5d23ca852fd705f61",
        ),
        (
            13,
            "3987f1917a7d42ac0cf9977daa1bede04c34ae6ad4dc54ae4dd1dac39bf62cc6",
        ),
        (11, MUNRO_4_TO_7),
    ] {
        assert_eq!(
            tree.node(Bin::from_bits(bin).unwrap()),
            Some(hash(expected))
        );
    }
    assert_eq!(tree.node(Bin::from_bits(6).unwrap()), None, "outside");
    assert_eq!(
        munro_root(FUNCTION, 4, &leaves(range(0, 3))),
        hash("ae26f109f43e482111414bddd560c70ebef3bf71063d3bc0682d01878b36b2f5")
    );
}

#[test]
fn signatures_of_the_reference() {
    let root = hash(MUNRO_4_TO_7);
    let blob = signed_blob(Addressing::Ranges32, range(4, 7), TIME, &root).unwrap();
    assert_eq!(
        blob[..],
        hex(&format!("0000000400000007eeac064080000000{MUNRO_4_TO_7}"))
    );
    for (addressing, signature) in [
        (Addressing::Ranges32, ED25519_RANGES32),
        (Addressing::Ranges64, ED25519_RANGES64),
    ] {
        let (key, authority) = source(addressing);
        let munro = SignedMunro::sign(&key, &authority, range(4, 7), TIME, root).unwrap();
        assert_eq!(munro.signature(), &hex(signature));
        let received = SignedMunro::verify(&authority, range(4, 7), TIME, root, hex(signature));
        assert_eq!(received, Ok(munro));
    }
    let id = "0d60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6\
        7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299";
    let id: SwarmId = id.parse().unwrap();
    let key = VerifyingKey::from_swarm_id(&id).unwrap();
    let authority = Authority::new(key, Addressing::Ranges32, FUNCTION);
    let munro = SignedMunro::verify(&authority, range(4, 7), TIME, root, hex(P256_RANGES32));
    assert!(munro.is_ok());
}

#[test]
fn what_is_signed_in_every_addressing() {
    let root = hash(MUNRO_4_TO_7);
    let tail = format!("eeac064080000000{MUNRO_4_TO_7}");
    let bytes = ChunkSpec::new(Addressing::Bytes64, ChunkSize::Fixed(1024));
    for (spec, expected) in [
        (Addressing::Bins32.into(), "0000000b"),
        (Addressing::Bins64.into(), "000000000000000b"),
        (Addressing::Ranges32.into(), "0000000400000007"),
        (
            Addressing::Ranges64.into(),
            "00000000000000040000000000000007",
        ),
        (bytes, "00000000000010000000000000001fff"),
    ] {
        let spec: ChunkSpec = spec;
        let blob = signed_blob(spec, range(4, 7), TIME, &root).unwrap();
        assert_eq!(blob[..], hex(&format!("{expected}{tail}")), "{spec:?}");
        // "Exactly as on the wire" (RFC 7574 §6.1.2.1).
        let format = Format {
            addressing: spec.addressing,
            chunk_size: spec.chunk_size,
            ..Format::LIVE
        };
        let mut message = Vec::new();
        Message::Have(range(4, 7)).encode(&format, &mut message);
        assert!(blob.starts_with(&message[1..]), "{spec:?}");
    }
    let blob = signed_blob(&Format::LIVE, range(4, 7), TIME, &root).unwrap();
    assert_eq!(blob.len(), 16 + 8 + 32, "our own profile");
    let high = range(1 << 32, (1 << 32) + 3);
    for spec in [
        Addressing::Bins32,
        Addressing::Ranges32,
        Addressing::Bytes64,
    ] {
        assert!(signed_blob(spec, high, TIME, &root).is_none(), "{spec:?}");
    }
    assert!(signed_blob(Addressing::Bins64, range(1, 2), TIME, &root).is_none());
    let end = range(u64::MAX - 3, u64::MAX);
    assert!(signed_blob(bytes, end, TIME, &root).is_none());
    assert!(signed_blob(Addressing::Bins64, end, TIME, &root).is_none());
}

#[test]
fn one_other_bit_and_a_signature_is_refused() {
    let (_, authority) = source(Addressing::Ranges64);
    let root = hash(MUNRO_4_TO_7);
    let good = hex(ED25519_RANGES64);
    let refused = |range, time, root, signature| {
        SignedMunro::verify(&authority, range, time, root, signature).unwrap_err()
    };
    let wrong = MunroError::Signature { range: range(4, 7) };
    let later = NtpTime::from_bits(TIME.to_bits() + 1);
    assert_eq!(refused(range(4, 7), later, root, good.clone()), wrong);
    assert_eq!(
        refused(range(8, 11), TIME, root, good.clone()),
        MunroError::Signature {
            range: range(8, 11)
        }
    );
    let other = hash::digest(FUNCTION, b"");
    assert_eq!(refused(range(4, 7), TIME, other, good.clone()), wrong);
    let short = Digest::from_slice(&root.as_bytes()[..20]).unwrap();
    assert_eq!(refused(range(4, 7), TIME, short, good.clone()), wrong);
    for bit in 0..good.len() * 8 {
        let mut bad = good.to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(refused(range(4, 7), TIME, root, bad.into()), wrong, "{bit}");
    }
    assert_eq!(refused(range(4, 7), TIME, root, good.slice(..63)), wrong);
    // The other form of naming chunks is another message.
    assert_eq!(
        refused(range(4, 7), TIME, root, hex(ED25519_RANGES32)),
        wrong
    );
}

#[test]
fn only_aligned_powers_of_two_are_munros() {
    let (key, authority) = source(Addressing::Ranges64);
    let root = hash(MUNRO_4_TO_7);
    let sign = |authority: &Authority, range| {
        SignedMunro::sign(&key, authority, range, TIME, root).map(|munro| munro.range())
    };
    for bad in [
        range(4, 4),
        range(5, 6),
        range(4, 6),
        range(0, 511),
        range(0, u64::MAX),
        range(u64::MAX - 31, u64::MAX),
    ] {
        assert_eq!(sign(&authority, bad), Err(MunroError::Range { range: bad }));
        assert!(MunroTree::from_leaves(FUNCTION, bad, &[]).is_none());
    }
    for good in [
        range(4, 5),
        range(256, 511),
        range((1 << 63) - 32, (1 << 63) - 1),
    ] {
        assert_eq!(sign(&authority, good), Ok(good));
    }
    let fixed = authority.with_width(32);
    assert_eq!(sign(&fixed, range(32, 63)), Ok(range(32, 63)));
    assert!(sign(&fixed, range(32, 47)).is_err());
    assert_eq!(
        sign(&fixed, range(0, 63)).unwrap_err().to_string(),
        "bad munro 0..63"
    );
}

#[test]
fn empty_chunks_have_the_hash_of_nothing() {
    let all = range(32, 63);
    for filled in 0..=32 {
        let leaves = leaves(range(0, 31));
        let leaves = &leaves[..filled];
        let mut padded = leaves.to_vec();
        padded.resize(32, hash::empty_leaf(FUNCTION));
        let (munro, tree) = signed(all, leaves);
        assert_eq!(*munro.root(), munro_root(FUNCTION, 32, leaves));
        assert_eq!(*munro.root(), munro_root(FUNCTION, 32, &padded));
        assert_eq!(signed(all, &padded).0, munro, "written out or not");
        assert_eq!(tree.leaves().unwrap(), leaves);
        assert_eq!(munro.is_end_mark(), filled == 0);
        assert!(tree.is_complete() && tree.bytes() <= (2 * filled + 5) * 32);
        for (offset, chunk) in all.iter().enumerate() {
            let leaf = tree.leaf(chunk).unwrap();
            assert_eq!(leaf.is_empty(), offset >= filled);
            assert_eq!(leaf.chunk(), chunk);
            assert_eq!(tree.uncles(chunk).len(), 5);
        }
        assert!(tree.leaf(ChunkIndex::new(64)).is_none());
    }
    assert_eq!(
        munro_root(FUNCTION, 32, &[]),
        hash::empty_root(FUNCTION, 5),
        "the end mark"
    );
}

#[test]
fn chunks_climb_to_the_munro_and_take_their_hashes_along() {
    let (munro, whole) = signed(range(4, 7), &leaves(range(4, 7)));
    let mut tree = MunroTree::from_root(&munro);
    let [c4, c5, c6, c7] = [4, 5, 6, 7].map(ChunkIndex::new);
    let received = |chunk| Unproven::new(payload(chunk));
    assert_eq!(
        tree.open(c4, received(4), &[]).unwrap_err().0,
        ProofError::Missing { bin: Bin::leaf(c5) }
    );
    let uncles = whole.uncles(c4);
    assert_eq!(
        uncles
            .iter()
            .map(|(bin, _)| bin.to_bits())
            .collect::<Vec<_>>(),
        [13, 10]
    );
    assert_eq!(
        tree.open(c4, received(4), &uncles[..1]).unwrap_err().0,
        ProofError::Missing { bin: Bin::leaf(c5) }
    );
    assert_eq!(
        tree.open(c4, received(4), &uncles).unwrap().payload(),
        &payload(4)
    );
    // The sibling came along, and the node above 6 and 7.
    assert_eq!(tree.leaf(c5), whole.leaf(c5));
    assert!(tree.open(c5, received(5), &[]).is_ok());
    assert_eq!(
        tree.node(Bin::from_bits(13).unwrap()),
        whole.node(Bin::from_bits(13).unwrap())
    );
    assert_eq!(tree.leaf(c6), None);
    assert!(!tree.is_complete() && tree.leaves().is_none());
    let lacking = whole.missing_uncles(c6, |held| held.contains(c4));
    assert_eq!(
        lacking,
        [(Bin::leaf(c7), *whole.leaf(c7).unwrap().digest())]
    );
    assert!(tree.open(c6, received(6), &lacking).is_ok());
    assert!(tree.is_complete());
    assert_eq!(tree.leaves(), whole.leaves());
    assert_eq!(tree.uncles(c6), whole.uncles(c6));
}

#[test]
fn a_failed_proof_leaves_no_hash_behind() {
    let (munro, whole) = signed(range(4, 7), &leaves(range(4, 7)));
    let mut tree = MunroTree::from_root(&munro);
    let c4 = ChunkIndex::new(4);
    let mut uncles = whole.uncles(c4);
    uncles[0].1 = hash::digest(FUNCTION, b"a liar's");
    let before = tree.clone();
    let (error, payload) = tree
        .open(c4, Unproven::new(payload(4)), &uncles)
        .unwrap_err();
    let munro_bin = Bin::from_bits(11).unwrap();
    assert_eq!(error, ProofError::Mismatch { bin: munro_bin });
    for bin in 0..16 {
        let bin = Bin::from_bits(bin).unwrap();
        assert_eq!(tree.node(bin), before.node(bin));
    }
    // The same chunk with the right hashes, as another neighbour sends them.
    assert!(tree.open(c4, payload, &whole.uncles(c4)).is_ok());
    assert_eq!(
        tree.prove(ChunkIndex::new(8), *munro.root(), &[]),
        Err(ProofError::Outside {
            chunk: ChunkIndex::new(8)
        })
    );
}

#[test]
fn hashes_of_other_lengths_prove_nothing() {
    let (munro, whole) = signed(range(4, 5), &leaves(range(4, 5)));
    let (c4, c5) = (ChunkIndex::new(4), ChunkIndex::new(5));
    let pair = [
        whole.leaf(c4).unwrap().digest().as_bytes(),
        whole.leaf(c5).unwrap().digest().as_bytes(),
    ]
    .concat();
    // Cut elsewhere, both ends make up the same pair.
    let (left, right) = pair.split_at(31);
    let (left, right) = (
        Digest::from_slice(left).unwrap(),
        Digest::from_slice(right).unwrap(),
    );
    let mut tree = MunroTree::from_root(&munro);
    let uncles = [(Bin::leaf(c5), right)];
    assert!(tree.prove(c4, left, &uncles).is_err());
    assert!(MunroTree::from_leaves(FUNCTION, range(4, 5), &[left, right]).is_none());
}

#[test]
fn leaves_from_another_neighbour_settle_without_a_second_check() {
    let all = leaves(range(4, 7));
    let (munro, tree) = signed(range(4, 7), &all);
    let claim = |range, leaves: &[Digest]| MunroTree::from_leaves(FUNCTION, range, leaves).unwrap();
    let settled = claim(range(4, 7), &all).settle(&munro).unwrap();
    assert_eq!(settled.leaves(), tree.leaves());
    assert!(claim(range(4, 7), &all[..3]).settle(&munro).is_err());
    assert!(claim(range(8, 11), &all).settle(&munro).is_err());
    assert!(MunroTree::from_leaves(FUNCTION, range(4, 5), &all).is_none());
}

#[test]
fn s_11_claims_of_absurd_munros_allocate_nothing() {
    let (_, authority) = source(Addressing::Ranges64);
    for count in [512, 1 << 20, 1 << 62] {
        let claim = ChunkRange::from_count(ChunkIndex::ZERO, count).unwrap();
        assert!(MunroTree::from_leaves(FUNCTION, claim, &[]).is_none());
        assert_eq!(
            SignedMunro::verify(&authority, claim, TIME, hash(MUNRO_4_TO_7), Bytes::new()),
            Err(MunroError::Range { range: claim })
        );
    }
    // The widest that is accepted stays far below 64 KiB, even with the longest hashes.
    let widest = ChunkRange::from_count(ChunkIndex::ZERO, MUNRO_WIDTH_MAX).unwrap();
    let leaves = vec![hash::digest(HashFunction::Sha512, b"x"); MUNRO_WIDTH_MAX as usize];
    let tree = MunroTree::from_leaves(HashFunction::Sha512, widest, &leaves).unwrap();
    assert_eq!(tree.0.bytes(), 511 * 64);
}
