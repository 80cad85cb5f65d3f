//! Hash trees of static content against worked examples.

use super::*;
use crate::ids::decode_hex;

const SHA256: HashFunction = HashFunction::Sha256;
const ROOT_C: &str = "fa329ba81b2797f3fda17795d092aea4f4816ea110d680c0ab11f56a0b5668f2";

fn hash(hex: &str) -> Digest {
    Digest::from_slice(&decode_hex(hex).unwrap()).unwrap()
}

fn bin(bits: u64) -> Bin {
    Bin::from_bits(bits).unwrap()
}

fn chunk(number: u64) -> ChunkIndex {
    ChunkIndex::new(number)
}

/// File C of the reference: six chunks of 1024 bytes and one of 1018.
fn file_c() -> Vec<Bytes> {
    (0..7)
        .map(|n| Bytes::from(vec![0x41 + n; if n < 6 { 1024 } else { 1018 }]))
        .collect()
}

fn bits(hashes: &[(Bin, Digest)]) -> Vec<u64> {
    hashes.iter().map(|(bin, _)| bin.to_bits()).collect()
}

#[test]
fn roots_of_the_reference() {
    let hello = [b"Hello world!\n"];
    let dollars = [vec![b'$'; 1024], vec![b'$'; 4]];
    let root = |function, chunks: &[&[u8]]| {
        MerkleTree::from_chunks(function, chunks)
            .unwrap()
            .root()
            .to_string()
    };
    for (function, expected) in [
        (
            HashFunction::Sha1,
            "47a013e660d408619d894b20806b1d5086aab03b",
        ),
        (
            SHA256,
            "0ba904eae8773b70c75333db4de2f3ac45a8ad4ddba1b242f0b3cfc199391dd8",
        ),
    ] {
        assert_eq!(root(function, &hello.map(|chunk| &chunk[..])), expected);
    }
    let tree = MerkleTree::from_chunks(HashFunction::Sha1, &dollars).unwrap();
    assert_eq!(
        tree.root(),
        hash("5b53677d3a695f29f1b4e18ab6d705312ef7f8c3")
    );
    assert_eq!(
        tree.node(bin(0)),
        Some(hash("4d38c7459a659d769bb956c2d758d266008199a4"))
    );
    assert_eq!(
        tree.node(bin(2)),
        Some(hash("a923e4b60d2a2a2a5ede87479e0314b028e3ae60"))
    );
    assert!(MerkleTree::from_chunks(SHA256, [[0; 0]; 0]).is_none());
}

#[test]
fn every_hash_of_file_c() {
    let tree = MerkleTree::from_chunks(SHA256, file_c()).unwrap();
    for (number, expected) in [
        (
            0,
            "6ab72eeb9e77b07540897e0c8d6d23ec8eef0f8c3a47e1b3f4e93443d9536bed",
        ),
        (
            2,
            "9b6ce55f379e9771551de6939556a7e6b949814ae27c2f5cfd5dbeb378ce7c2a",
        ),
        (
            4,
            "418bcc1d0a75aada93349f29d523e38aed97efe794df4c1971c311b2b4f752dd",
        ),
        (
            6,
            "5fcc445a936b3b6b827a49a81703a0f15b4f47cdc267a28225d589b2149673c4",
        ),
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
            "7d4f38aef5f5d644b73ad0d166018ceb80839748dfc8bd27639e22a5c4d6ebf0",
        ),
        (
            14,
            "0000000000000000000000000000000000000000000000000000000000000000",
        ),
        (
            1,
            "04a53c6ddf238e7ca9654e632388a763d5389302865f9866a60ecd043224446c",
        ),
        (
            5,
            "4876c4f5d6ff44f94d3aadca08daab0b05a62b0c2529817003059b02c366e6d5",
        ),
        (
            9,
            "586542a02e91b8f91734be40ae4e67aab3a33f2b5840a8f5d23ca852fd705f61",
        ),
        (
            13,
            "945b59963d97b9f92f3eb8f2bef0c532f9d2bbcbf0c7c23102ae154d25e62f83",
        ),
        (
            3,
            "ae26f109f43e482111414bddd560c70ebef3bf71063d3bc0682d01878b36b2f5",
        ),
        (
            11,
            "cdb8d0e3ec00946bba978582810a9eab97304bcdc4413b52e976b6254cee81d1",
        ),
        (7, ROOT_C),
    ] {
        assert_eq!(tree.node(bin(number)), Some(hash(expected)), "bin {number}");
    }
    assert_eq!(tree.node(bin(15)), None, "above the root");
    assert_eq!(tree.node(bin(16)), None, "beside the root");
    assert_eq!(tree.chunks(), 7);

    let tree = MerkleTree::from_chunks(HashFunction::Sha1, file_c()).unwrap();
    assert_eq!(
        tree.root(),
        hash("39f0f6208af0576be01fb29dad9368cdc09d2fef")
    );
    assert_eq!(
        tree.peaks(),
        [
            (bin(3), hash("c53ae14a959e0d43860d9e00e45d40f2a722293b")),
            (bin(9), hash("d7cfa45531843b226bf74c478f4fa6fd05611031")),
            (bin(12), hash("c00f0ea8e487414706b805dca8b7095983e1f7fd")),
        ]
    );
}

#[test]
fn peaks_are_the_one_bits() {
    for (chunks, expected) in [
        (0, vec![]),
        (1, vec![0]),
        (2, vec![1]),
        (3, vec![1, 4]),
        (7, vec![3, 9, 12]),
        (8, vec![7]),
        (1 << 62, vec![(1 << 62) - 1]),
        ((1 << 62) + 1, vec![]),
        (u64::MAX, vec![]),
    ] {
        let found: Vec<u64> = peaks(chunks).into_iter().map(Bin::to_bits).collect();
        assert_eq!(found, expected, "{chunks}");
    }
    assert_eq!(peak_above(7, chunk(5)), Some(bin(9)));
    assert_eq!(peak_above(7, chunk(7)), None);
    assert_eq!(peaks(CHUNKS_MAX - 1).len(), 62);
}

#[test]
fn peaks_prove_the_number_of_chunks() {
    for count in [1, 2, 3, 4, 5, 7, 8, 21, 64, 100] {
        let chunks = (0..count).map(|n| [n as u8; 3]);
        let tree = MerkleTree::from_chunks(SHA256, chunks).unwrap();
        let fresh = || Verifier::new(SHA256, tree.root(), None).unwrap();
        let mut verifier = fresh();
        assert_eq!(
            verifier.prove(chunk(0), tree.root(), &[]),
            Err(ProofError::Unsized)
        );
        assert_eq!(verifier.learn_peaks(&tree.peaks()), Ok(count));
        assert_eq!(verifier.chunks(), Some(count));
        for (bin, hash) in tree.peaks() {
            assert_eq!(verifier.node(bin), Some(hash));
        }
        // Told twice, or told what the swarm's description says.
        assert_eq!(verifier.learn_peaks(&tree.peaks()), Ok(count));
        let mut told = Verifier::new(SHA256, tree.root(), Some(count + 1)).unwrap();
        assert_eq!(
            told.learn_peaks(&tree.peaks()),
            Err(PeakError::Count {
                chunks: count,
                needed: count + 1
            })
        );
        // One bit off.
        let mut forged = tree.peaks();
        let mut bytes = forged[0].1.as_bytes().to_vec();
        bytes[31] ^= 1;
        forged[0].1 = Digest::from_slice(&bytes).unwrap();
        let mut verifier = fresh();
        assert_eq!(
            verifier.learn_peaks(&forged),
            Err(PeakError::Mismatch { chunks: count })
        );
        assert_eq!((verifier.chunks(), verifier.bytes()), (None, 0));
    }
}

#[test]
fn rows_that_are_no_peaks_are_refused() {
    let tree = MerkleTree::from_chunks(SHA256, file_c()).unwrap();
    let all = tree.peaks();
    let any = all[0].1;
    let mut verifier = Verifier::new(SHA256, tree.root(), None).unwrap();
    let mut learn = |peaks: &[(Bin, Digest)]| verifier.learn_peaks(peaks).unwrap_err();
    assert_eq!(learn(&[]), PeakError::None);
    assert_eq!(learn(&all[1..]), PeakError::Shape { bin: bin(9) });
    assert_eq!(learn(&[all[0], all[2]]), PeakError::Shape { bin: bin(12) });
    assert_eq!(learn(&[all[0], all[0]]), PeakError::Shape { bin: bin(3) });
    assert_eq!(learn(&all[..2]), PeakError::Mismatch { chunks: 6 });
    // Two halves of a whole node are no peaks.
    assert_eq!(
        learn(&[(bin(1), any), (bin(5), any)]),
        PeakError::Shape { bin: bin(5) }
    );
    let giant = Bin::from_layer(62, 0);
    assert_eq!(
        learn(&[(giant, any)]),
        PeakError::Mismatch { chunks: 1 << 62 }
    );
    assert_eq!(
        learn(&[(giant, any), (Bin::from_layer(0, 1 << 62), any)]),
        PeakError::Shape {
            bin: Bin::from_layer(0, 1 << 62)
        }
    );
    for bits in [(1 << 63) - 1, u64::MAX - 1, u64::MAX >> 2 << 1] {
        assert!(matches!(
            learn(&[(bin(bits), any)]),
            PeakError::Shape { .. }
        ));
    }
    assert_eq!(
        learn(&all[..2]).to_string(),
        "peaks of 6 chunks do not fit the root"
    );
}

#[test]
fn a_size_from_a_trusted_place_is_not_talked_away() {
    let tree = MerkleTree::from_chunks(SHA256, file_c()).unwrap();
    let root = tree.root();
    for lie in [
        vec![(bin(0), root)],
        vec![(bin(1), root)],
        vec![(Bin::from_layer(62, 0), root)],
    ] {
        // RFC 7574 §5.6 leaves no way to tell.
        let mut trusting = Verifier::new(SHA256, root, None).unwrap();
        assert!(trusting.learn_peaks(&lie).is_ok());
        assert_eq!(trusting.bytes(), 0);
        let mut told = Verifier::new(SHA256, root, Some(7)).unwrap();
        assert!(matches!(
            told.learn_peaks(&lie),
            Err(PeakError::Count { needed: 7, .. })
        ));
        assert_eq!(told.learn_peaks(&tree.peaks()), Ok(7));
    }
}

#[test]
fn the_first_datagram_of_the_reference() {
    // Peaks, then uncles below the peak; the uncle beside the peak follows from the other peaks.
    let tree = MerkleTree::from_chunks(SHA256, file_c()).unwrap();
    assert_eq!(bits(&tree.peaks()), [3, 9, 12]);
    let peak = peak_above(7, chunk(0)).unwrap();
    let uncles = tree.missing_uncles(chunk(0), peak, |_| false);
    assert_eq!(bits(&uncles), [5, 2]);
    let mut verifier = Verifier::new(SHA256, tree.root(), None).unwrap();
    verifier.learn_peaks(&tree.peaks()).unwrap();
    assert_eq!(verifier.node(bin(11)), tree.node(bin(11)));
    let payload = || Unproven::new(file_c()[0].clone());
    assert!(verifier.open(chunk(0), payload(), &uncles).is_ok());
    // The whole way to the root, in falling height (RFC 7574 §5.3).
    let uncles = tree.missing_uncles(chunk(0), tree.top(), |_| false);
    assert_eq!(bits(&uncles), [11, 5, 2]);
}

#[test]
fn seven_chunks_in_a_row_need_seven_hashes() {
    let tree = MerkleTree::from_chunks(SHA256, file_c()).unwrap();
    let mut verifier = Verifier::new(SHA256, hash(ROOT_C), Some(7)).unwrap();
    let mut sent = Vec::new();
    for (number, payload) in file_c().into_iter().enumerate() {
        let number = number as u64;
        let holds = |range: ChunkRange| range.first().get() < number;
        let uncles = tree.missing_uncles(chunk(number), tree.top(), holds);
        sent.push(bits(&uncles));
        let proven = verifier.open(chunk(number), Unproven::new(payload.clone()), &uncles);
        assert_eq!(proven.unwrap(), Proven::own(chunk(number), payload));
    }
    assert_eq!(
        sent,
        [
            vec![11, 5, 2],
            vec![],
            vec![6],
            vec![],
            vec![13, 10],
            vec![],
            vec![14]
        ]
    );
    for number in 0..15 {
        assert_eq!(verifier.node(bin(number)), tree.node(bin(number)));
    }
    let (all, none) = (|_| true, |_| false);
    assert_eq!(
        verifier.missing_uncles(chunk(4), tree.top(), none),
        tree.missing_uncles(chunk(4), tree.top(), none),
        "who has fetched all can serve all"
    );
    assert!(
        verifier
            .missing_uncles(chunk(4), tree.top(), all)
            .is_empty()
    );
}

#[test]
fn a_failed_chunk_leaves_no_hash_behind() {
    let tree = MerkleTree::from_chunks(SHA256, file_c()).unwrap();
    let mut verifier = Verifier::new(SHA256, tree.root(), Some(7)).unwrap();
    let mut uncles = tree.missing_uncles(chunk(0), tree.top(), |_| false);
    uncles[1].1 = tree.root();
    let payload = Unproven::new(file_c()[0].clone());
    let (error, payload) = verifier.open(chunk(0), payload, &uncles).unwrap_err();
    assert_eq!(error, ProofError::Mismatch { bin: bin(7) });
    assert_eq!(verifier.bytes(), 0);
    let (error, payload) = verifier.open(chunk(0), payload, &uncles[..2]).unwrap_err();
    assert_eq!(error, ProofError::Missing { bin: bin(2) });
    let (error, payload) = verifier.open(chunk(7), payload, &uncles).unwrap_err();
    assert_eq!(error, ProofError::Outside { chunk: chunk(7) });
    let uncles = tree.missing_uncles(chunk(0), tree.top(), |_| false);
    assert!(verifier.open(chunk(0), payload, &uncles).is_ok());
    assert_eq!(verifier.leaf(chunk(1)).unwrap().chunk(), chunk(1));
    assert_eq!(verifier.leaf(chunk(6)), None);
}

#[test]
fn pages_have_a_place_for_every_node() {
    use std::collections::BTreeSet;
    let mut places = BTreeSet::new();
    for layer in 0..10 {
        for offset in 0..1 << (10 - layer) {
            let (page, slot) = Page::place(Bin::from_layer(layer, offset));
            assert!(slot < Page::NODES && places.insert((page, slot)));
        }
    }
    const { assert!(Page::NODES <= 32, "a bit for each") };
}

#[test]
fn s_11_claims_of_absurd_content_allocate_nothing() {
    let root = hash(ROOT_C);
    let any = hash::digest(SHA256, b"a claim");
    // By metadata: nothing is allocated before a chunk is proven.
    let mut verifier = Verifier::new(SHA256, root, Some(CHUNKS_MAX)).unwrap();
    assert!(Verifier::new(SHA256, root, Some(CHUNKS_MAX + 1)).is_none());
    assert!(Verifier::new(SHA256, root, Some(0)).is_none());
    let last = chunk(CHUNKS_MAX - 1);
    let uncles: Vec<_> = proof::uncles(last, Bin::from_layer(62, 0))
        .map(|bin| (bin, any))
        .collect();
    assert_eq!(uncles.len(), 62);
    assert!(matches!(
        verifier.prove(last, any, &uncles),
        Err(ProofError::Mismatch { .. })
    ));
    assert_eq!(verifier.bytes(), 0);
    // By peaks that do not fit.
    let claim: Vec<_> = peaks(CHUNKS_MAX - 1)
        .into_iter()
        .map(|bin| (bin, any))
        .collect();
    let mut verifier = Verifier::new(SHA256, root, None).unwrap();
    assert_eq!(
        verifier.learn_peaks(&claim),
        Err(PeakError::Mismatch {
            chunks: CHUNKS_MAX - 1
        })
    );
    assert_eq!(verifier.bytes(), 0);
    // By a publisher who made up a root for such peaks: the dearest hash function still stays small.
    let function = HashFunction::Sha512;
    let any = hash::digest(function, b"a claim");
    let claim: Vec<_> = peaks(CHUNKS_MAX - 1)
        .into_iter()
        .map(|bin| (bin, any))
        .collect();
    let mut root = hash::digest_pair(function, &any, &Digest::empty(function));
    for _ in 1..62 {
        root = hash::digest_pair(function, &any, &root);
    }
    let mut verifier = Verifier::new(function, root, None).unwrap();
    assert_eq!(verifier.learn_peaks(&claim), Ok(CHUNKS_MAX - 1));
    assert!(verifier.bytes() < 64 << 10, "{}", verifier.bytes());
}
