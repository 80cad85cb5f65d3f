//! The hash functions of a swarm (RFC 7574 §7.6) and the two ways a tree uses them: on a chunk, on a pair of hashes.

use std::sync::OnceLock;

use aws_lc_rs::digest as aws;

use crate::wire::Digest;
use crate::wire::option::HashFunction;

/// Layers of all-empty subtrees whose roots are kept ready: enough for a munro of 256 chunks.
const EMPTY_LAYERS: usize = 9;

/// The hash of some bytes: the leaf hash of a chunk with that payload (RFC 7574 §5.1).
pub fn digest(function: HashFunction, data: &[u8]) -> Digest {
    let hash = aws::digest(algorithm(function), data);
    Digest::from_slice(hash.as_ref()).expect("a hash has 20 to 64 bytes")
}

/// The hash of the node above two nodes: of both hashes end to end, or the empty hash when both are empty
/// (RFC 7574 §5.1).
pub fn digest_pair(function: HashFunction, left: &Digest, right: &Digest) -> Digest {
    let empty = Digest::empty(function);
    if *left == empty && *right == empty {
        return empty;
    }
    let (left, right) = (left.as_bytes(), right.as_bytes());
    let mut pair = [0; 128];
    let end = left.len() + right.len();
    pair[..left.len()].copy_from_slice(left);
    pair[left.len()..end].copy_from_slice(right);
    digest(function, &pair[..end])
}

/// The hash of nothing: the leaf of an *empty chunk*, one that the source numbered but never filled.
pub fn empty_leaf(function: HashFunction) -> Digest {
    empty_root(function, 0)
}

/// The root of 2^`layer` empty chunks.
pub fn empty_root(function: HashFunction, layer: u32) -> Digest {
    static ROOTS: [OnceLock<[Digest; EMPTY_LAYERS]>; 5] = [const { OnceLock::new() }; 5];
    let slot = match function {
        HashFunction::Sha1 => 0,
        HashFunction::Sha224 => 1,
        HashFunction::Sha256 => 2,
        HashFunction::Sha384 => 3,
        HashFunction::Sha512 => 4,
    };
    let roots = ROOTS[slot].get_or_init(|| {
        let mut roots = [digest(function, &[]); EMPTY_LAYERS];
        for layer in 1..EMPTY_LAYERS {
            roots[layer] = digest_pair(function, &roots[layer - 1], &roots[layer - 1]);
        }
        roots
    });
    let layer = layer as usize;
    let mut root = roots[layer.min(EMPTY_LAYERS - 1)];
    for _ in EMPTY_LAYERS - 1..layer {
        root = digest_pair(function, &root, &root);
    }
    root
}

fn algorithm(function: HashFunction) -> &'static aws::Algorithm {
    match function {
        HashFunction::Sha1 => &aws::SHA1_FOR_LEGACY_USE_ONLY,
        HashFunction::Sha224 => &aws::SHA224,
        HashFunction::Sha256 => &aws::SHA256,
        HashFunction::Sha384 => &aws::SHA384,
        HashFunction::Sha512 => &aws::SHA512,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_nothing() {
        for (function, hex) in [
            (
                HashFunction::Sha1,
                "da39a3ee5e6b4b0d3255bfef95601890afd80709",
            ),
            (
                HashFunction::Sha224,
                "d14a028c2a3a2bc9476102bb288234c415a2b01f828ea62ac5b3e42f",
            ),
            (
                HashFunction::Sha256,
                "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            ),
            (
                HashFunction::Sha384,
                "38b060a751ac96384cd9327eb1b1e36a21fdb71114be07434c0cc7bf63f6e1da274edebfe76f65fbd51ad2f14898b95b",
            ),
            (
                HashFunction::Sha512,
                "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e",
            ),
        ] {
            assert_eq!(empty_leaf(function).to_string(), hex);
            assert_eq!(empty_leaf(function).as_bytes().len(), function.len());
        }
    }

    #[test]
    fn roots_of_empty_chunks_are_folds_at_any_height() {
        let mut root = digest(HashFunction::Sha256, &[]);
        for layer in 0..14 {
            assert_eq!(empty_root(HashFunction::Sha256, layer), root);
            root = digest_pair(HashFunction::Sha256, &root, &root);
        }
    }

    #[test]
    fn only_two_empty_hashes_make_an_empty_hash() {
        let function = HashFunction::Sha1;
        let empty = Digest::empty(function);
        let some = digest(function, b"x");
        assert_eq!(digest_pair(function, &empty, &empty), empty);
        let mut bytes = some.as_bytes().to_vec();
        bytes.extend_from_slice(&[0; 20]);
        assert_eq!(
            digest_pair(function, &some, &empty),
            digest(function, &bytes)
        );
        assert_ne!(
            digest_pair(function, &some, &empty),
            digest_pair(function, &empty, &some)
        );
    }
}
