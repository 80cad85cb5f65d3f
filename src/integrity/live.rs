//! Live content: every so many chunks make a subtree whose root, the *munro hash*, the source signs
//! (unified Merkle tree, RFC 7574 §6.1.2).
//!
//! A munro need not be full: chunks that the source never filled have the hash of nothing as their leaf, so the number
//! of leaves, and with it the meaning of the signature, stays what the RFC says.

use std::fmt;
use std::ops::Deref;

use bytes::Bytes;

use super::proof::{self, Leaf, ProofError, Proven, Unproven};
use super::tree::Layers;
use super::{ChunkSpec, hash};
use crate::chunk::{Bin, ChunkIndex, ChunkRange};
use crate::integrity::key::{SigningKey, VerifyingKey};
use crate::time::NtpTime;
use crate::wire::Digest;
use crate::wire::option::HashFunction;

/// Chunks of a munro in our own swarms; fixed for the life of a key.
pub const MUNRO_WIDTH: u64 = 32;
/// Chunks of the widest munro accepted from other sources.
pub const MUNRO_WIDTH_MAX: u64 = 256;
/// Most nodes that one chunk can prove: itself, its ancestors and all uncles.
const PATH_MAX: usize = 2 * MUNRO_WIDTH_MAX.ilog2() as usize + 1;

/// Who may sign the chunks of a live swarm, and in which form.
#[derive(Clone, Debug)]
pub struct Authority {
    key: VerifyingKey,
    spec: ChunkSpec,
    function: HashFunction,
    width: Option<u64>,
}

impl Authority {
    /// The authority of a swarm: its key, its chunk addressing and hash function. Munros of any width will do.
    pub fn new(key: VerifyingKey, spec: impl Into<ChunkSpec>, function: HashFunction) -> Self {
        Self {
            key,
            spec: spec.into(),
            function,
            width: None,
        }
    }

    /// Accepts munros of this many chunks only, as the first that was verified had.
    #[must_use]
    pub const fn with_width(mut self, width: u64) -> Self {
        self.width = Some(width);
        self
    }

    /// The key.
    pub const fn key(&self) -> &VerifyingKey {
        &self.key
    }

    /// How chunks are named in what is signed.
    pub const fn spec(&self) -> ChunkSpec {
        self.spec
    }

    /// The hash function.
    pub const fn function(&self) -> HashFunction {
        self.function
    }

    /// Chunks of a munro, when that is fixed.
    pub const fn width(&self) -> Option<u64> {
        self.width
    }

    /// Whether a range can be a munro here: an aligned power of two, of the right width.
    pub fn accepts(&self, range: ChunkRange) -> bool {
        munro_bin(range).is_some() && self.width.is_none_or(|width| range.count() == width)
    }
}

/// Why a munro is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MunroError {
    /// The range is no aligned power of two, not of the swarm's width, or cannot be named.
    #[error("bad munro {range}")]
    Range {
        /// What was to be signed.
        range: ChunkRange,
    },
    /// The signature is not the source's.
    #[error("bad signature of munro {range}")]
    Signature {
        /// What was said to be signed.
        range: ChunkRange,
    },
}

/// A munro hash that the source signed: made by verifying or by signing, and in no other way.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedMunro {
    range: ChunkRange,
    time: NtpTime,
    signature: Bytes,
    function: HashFunction,
    root: Digest,
}

impl SignedMunro {
    /// Checks what came in as INTEGRITY and SIGNED_INTEGRITY (RFC 7574 §6.1.2.2); one signature check.
    ///
    /// # Errors
    ///
    /// When the range is no munro of the swarm, which costs nothing to find, or the signature is wrong.
    pub fn verify(
        authority: &Authority,
        range: ChunkRange,
        time: NtpTime,
        root: Digest,
        signature: Bytes,
    ) -> Result<Self, MunroError> {
        let blob = authority
            .accepts(range)
            .then(|| signed_blob(authority.spec, range, time, &root))
            .flatten()
            .ok_or(MunroError::Range { range })?;
        if root.as_bytes().len() != authority.function.len()
            || !authority.key.verify(&blob, &signature)
        {
            return Err(MunroError::Signature { range });
        }
        Ok(Self {
            range,
            time,
            signature,
            function: authority.function,
            root,
        })
    }

    /// Signs a munro hash.
    ///
    /// # Errors
    ///
    /// [`MunroError::Range`] when the range is no munro of the swarm.
    ///
    /// # Panics
    ///
    /// When the key is not the authority's, or the root no hash of the swarm's hash function.
    pub fn sign(
        key: &SigningKey,
        authority: &Authority,
        range: ChunkRange,
        time: NtpTime,
        root: Digest,
    ) -> Result<Self, MunroError> {
        assert!(
            key.swarm_id() == *authority.key.swarm_id(),
            "the key signs for its own swarm"
        );
        assert_eq!(
            root.as_bytes().len(),
            authority.function.len(),
            "the munro hash is of the swarm's hash function"
        );
        let blob = authority
            .accepts(range)
            .then(|| signed_blob(authority.spec, range, time, &root))
            .flatten()
            .ok_or(MunroError::Range { range })?;
        Ok(Self {
            range,
            time,
            signature: key.sign(&blob),
            function: authority.function,
            root,
        })
    }

    /// The chunks below.
    pub const fn range(&self) -> ChunkRange {
        self.range
    }

    /// When the source signed, by its clock.
    pub const fn time(&self) -> NtpTime {
        self.time
    }

    /// The signature, to be passed on unchanged.
    pub const fn signature(&self) -> &Bytes {
        &self.signature
    }

    /// The munro hash.
    pub const fn root(&self) -> &Digest {
        &self.root
    }

    /// Whether none of the chunks was filled: the mark at the end of a broadcast.
    pub fn is_end_mark(&self) -> bool {
        self.root == hash::empty_root(self.function, self.range.count().ilog2())
    }
}

impl fmt::Debug for SignedMunro {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignedMunro({} {})", self.range, self.root)
    }
}

/// The hashes of one munro: all of them, or as many as chunks have proven.
///
/// Whoever holds one holds proof of its munro hash: it comes out of an [`Unproven`] with the signature, or grows from
/// a [`SignedMunro`]. Takes at most twice the hashes of the filled chunks.
#[derive(Clone)]
pub struct MunroTree {
    function: HashFunction,
    range: ChunkRange,
    top: Bin,
    layers: Layers,
    known: Known,
}

/// Which stored hashes are proven.
#[derive(Clone)]
enum Known {
    All,
    /// A bit for each slot.
    Some(Box<[u64]>),
}

impl MunroTree {
    /// Hashes up the leaves that came in a MUNRO message, or those of chunks just made: the first ones of the munro,
    /// the rest being empty chunks.
    ///
    /// `None` when the range cannot be a munro or has fewer chunks than leaves are given, or a leaf is no hash of
    /// `function`.
    pub fn from_leaves(
        function: HashFunction,
        range: ChunkRange,
        leaves: &[Digest],
    ) -> Option<Unproven<Self>> {
        let top = munro_bin(range)?;
        let fits = |leaf: &Digest| leaf.as_bytes().len() == function.len();
        if leaves.len() as u64 > range.count() || !leaves.iter().all(fits) {
            return None;
        }
        // Empty chunks may be written out; they take no room here.
        let empty = hash::empty_leaf(function);
        let filled = leaves.iter().rposition(|leaf| *leaf != empty);
        let leaves = &leaves[..filled.map_or(0, |last| last + 1)];
        let filler = |layer| hash::empty_root(function, layer);
        Some(Unproven(Self {
            function,
            range,
            top,
            layers: Layers::build(function, top.layer(), leaves, filler),
            known: Known::All,
        }))
    }

    /// The tree of a munro of which only the root is known so far.
    pub fn from_root(munro: &SignedMunro) -> Self {
        let (range, function) = (munro.range, munro.function);
        let top = munro_bin(range).expect("what is signed is a munro");
        let nodes = 2 * range.count() as usize;
        let mut tree = Self {
            function,
            range,
            top,
            layers: Layers::new(function, top.layer(), range.count()),
            known: Known::Some(vec![0; nodes.div_ceil(64)].into()),
        };
        tree.learn(top, &munro.root);
        tree
    }

    /// The chunks below.
    pub const fn range(&self) -> ChunkRange {
        self.range
    }

    /// The munro hash.
    pub fn root(&self) -> Digest {
        self.node(self.top).expect("a tree knows its root")
    }

    /// Whether every hash is known.
    pub fn is_complete(&self) -> bool {
        matches!(self.known, Known::All)
            || self.range.iter().all(|chunk| self.leaf(chunk).is_some())
    }

    /// The proven leaf hash of a chunk.
    pub fn leaf(&self, chunk: ChunkIndex) -> Option<Leaf> {
        let digest = self.node(self.bin(chunk)?)?;
        Some(Leaf::new(chunk, self.function, digest))
    }

    /// The leaf hashes up to the last filled chunk, as a MUNRO message lists them; `None` when one is not known.
    pub fn leaves(&self) -> Option<Vec<Digest>> {
        let filled = 0..self.layers.filled();
        let mut leaves: Vec<Digest> = match self.known {
            // The usual case, once for every munro passed on.
            Known::All => filled
                .map_while(|offset| self.layers.get(0, offset))
                .collect(),
            Known::Some(_) => filled
                .map(|offset| Some(*self.leaf(self.range.first().plus(offset))?.digest()))
                .collect::<Option<_>>()?,
        };
        // What grew from a root may end in empty chunks.
        let empty = hash::empty_leaf(self.function);
        while leaves.last() == Some(&empty) {
            leaves.pop();
        }
        Some(leaves)
    }

    /// The proven hash of a node inside the munro.
    pub fn node(&self, bin: Bin) -> Option<Digest> {
        if !self.top.contains(bin) {
            return None;
        }
        let (layer, offset) = self.position(bin);
        match (self.layers.slot(layer, offset), &self.known) {
            (None, _) => Some(hash::empty_root(self.function, layer)),
            (Some(slot), Known::Some(bits)) if bits[slot / 64] >> (slot % 64) & 1 == 0 => None,
            (Some(_), _) => self.layers.get(layer, offset),
        }
    }

    /// The hashes that prove a chunk, below the munro hash and nearest to it first (RFC 7574 §5.3).
    ///
    /// All of them when the chunk's leaf is known, else those that are.
    pub fn uncles(&self, chunk: ChunkIndex) -> Vec<(Bin, Digest)> {
        self.missing_uncles(chunk, |_| false)
    }

    /// Those [`uncles`](Self::uncles) that a receiver lacks; `holds` says whether it holds any chunk of a range.
    pub fn missing_uncles(
        &self,
        chunk: ChunkIndex,
        holds: impl Fn(ChunkRange) -> bool,
    ) -> Vec<(Bin, Digest)> {
        proof::missing_uncles(chunk, self.top, holds)
            .filter_map(|bin| Some((bin, self.node(bin)?)))
            .collect()
    }

    /// Proves a leaf hash with hashes that were sent for it; all that were needed are proven with it.
    ///
    /// # Errors
    ///
    /// When a hash is missing or does not fit; the tree is then as before.
    pub fn prove(
        &mut self,
        chunk: ChunkIndex,
        leaf: Digest,
        provisional: &[(Bin, Digest)],
    ) -> Result<(), ProofError> {
        let from = self.bin(chunk).ok_or(ProofError::Outside { chunk })?;
        let mut path = [(from, leaf); PATH_MAX];
        let mut length = 0;
        let proven = |bin| self.node(bin);
        proof::climb(
            self.function,
            from,
            leaf,
            proven,
            provisional,
            |bin, hash| {
                path[length] = (bin, hash);
                length += 1;
            },
        )?;
        for (bin, hash) in &path[..length] {
            self.learn(*bin, hash);
        }
        Ok(())
    }

    /// Proves a chunk with hashes that were sent for it, and opens it; its bytes are hashed once.
    ///
    /// # Errors
    ///
    /// Why it is not proven, and the payload back; the tree is then as before.
    pub fn open(
        &mut self,
        chunk: ChunkIndex,
        payload: Unproven<Bytes>,
        provisional: &[(Bin, Digest)],
    ) -> Result<Proven, (ProofError, Unproven<Bytes>)> {
        match self.prove(chunk, payload.leaf_hash(self.function), provisional) {
            Ok(()) => Ok(Proven::own(chunk, payload.0)),
            Err(error) => Err((error, payload)),
        }
    }

    /// Bytes of hashes held.
    pub const fn bytes(&self) -> usize {
        self.layers.bytes()
    }

    fn bin(&self, chunk: ChunkIndex) -> Option<Bin> {
        self.range.contains(chunk).then(|| Bin::leaf(chunk))
    }

    /// Layer and offset of a node inside this tree.
    fn position(&self, bin: Bin) -> (u32, u64) {
        let layer = bin.layer();
        let first = self.range.first().get() >> layer;
        (layer, bin.offset() - first)
    }

    fn learn(&mut self, bin: Bin, digest: &Digest) {
        let (layer, offset) = self.position(bin);
        self.layers.set(layer, offset, digest);
        if let (Known::Some(bits), Some(slot)) = (&mut self.known, self.layers.slot(layer, offset))
        {
            bits[slot / 64] |= 1 << (slot % 64);
        }
    }
}

impl fmt::Debug for MunroTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MunroTree({} {})", self.range, self.root())
    }
}

impl Unproven<MunroTree> {
    /// The chunks below.
    pub const fn range(&self) -> ChunkRange {
        self.0.range
    }

    /// The munro hash that the leaves give.
    pub fn root(&self) -> Digest {
        self.0.root()
    }

    /// Proves the leaves by the signature that came with them.
    ///
    /// # Errors
    ///
    /// As for [`SignedMunro::verify`].
    pub fn verify(
        self,
        authority: &Authority,
        time: NtpTime,
        signature: Bytes,
    ) -> Result<(SignedMunro, MunroTree), MunroError> {
        let (range, root) = (self.0.range, self.0.root());
        let munro = SignedMunro::verify(authority, range, time, root, signature)?;
        Ok((munro, self.0))
    }

    /// Signs the leaves of chunks of our own.
    ///
    /// # Errors
    ///
    /// As for [`SignedMunro::sign`].
    pub fn sign(
        self,
        key: &SigningKey,
        authority: &Authority,
        time: NtpTime,
    ) -> Result<(SignedMunro, MunroTree), MunroError> {
        let munro = SignedMunro::sign(key, authority, self.0.range, time, self.0.root())?;
        Ok((munro, self.0))
    }

    /// Proves the leaves by a munro that is verified already: the same one from another neighbour, or the missing
    /// hashes of one that came alone.
    ///
    /// # Errors
    ///
    /// The leaves back when they are of another range or give another munro hash.
    pub fn settle(self, munro: &SignedMunro) -> Result<MunroTree, Self> {
        if self.0.range == munro.range && self.0.root() == munro.root {
            Ok(self.0)
        } else {
            Err(self)
        }
    }
}

/// The munro hash over leaves; those that are missing up to `width` are empty chunks.
///
/// # Panics
///
/// When `width` is no power of two or less than the number of leaves.
pub fn munro_root(function: HashFunction, width: u64, leaves: &[Digest]) -> Digest {
    assert!(
        width.is_power_of_two() && leaves.len() as u64 <= width,
        "a munro has a power of two of leaves"
    );
    // The roots of whole subtrees to the left of the next leaf, as the one bits of its number say.
    let mut roots = [Digest::empty(function); u64::BITS as usize];
    for (offset, leaf) in leaves.iter().enumerate() {
        let mut root = *leaf;
        let full = offset.trailing_ones() as usize;
        for left in &roots[..full] {
            root = hash::digest_pair(function, left, &root);
        }
        roots[full] = root;
    }
    let height = width.ilog2();
    if leaves.len() as u64 == width {
        return roots[height as usize];
    }
    // The path of the first leaf that is missing: whole subtrees to its left, empty ones to its right.
    let mut root = hash::empty_leaf(function);
    for layer in 0..height {
        root = if leaves.len() >> layer & 1 == 1 {
            hash::digest_pair(function, &roots[layer as usize], &root)
        } else {
            hash::digest_pair(function, &root, &hash::empty_root(function, layer))
        };
    }
    root
}

/// The bytes that a munro signature covers: chunk specification, time stamp, munro hash (RFC 7574 §6.1.2.1).
///
/// `None` when the addressing method cannot name the range: no bin, numbers beyond 32 bits, or byte ranges without a
/// chunk size.
pub fn signed_blob(
    spec: impl Into<ChunkSpec>,
    range: ChunkRange,
    time: NtpTime,
    root: &Digest,
) -> Option<SignedBlob> {
    let mut spec_bytes = [0; ChunkSpec::BYTES_MAX];
    let spec_len = spec.into().encode(range, &mut spec_bytes)?;
    let mut blob = SignedBlob {
        bytes: [0; BLOB_MAX],
        len: 0,
    };
    blob.len = super::put(
        &mut blob.bytes,
        &[
            &spec_bytes[..spec_len],
            &time.to_bits().to_be_bytes(),
            root.as_bytes(),
        ],
    );
    Some(blob)
}

/// Specification, time stamp and the longest hash.
const BLOB_MAX: usize = ChunkSpec::BYTES_MAX + 8 + 64;

/// The bytes that a signature covers, without an allocation.
#[derive(Clone, Copy, Debug)]
pub struct SignedBlob {
    bytes: [u8; BLOB_MAX],
    len: usize,
}

impl Deref for SignedBlob {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The node of a range that can be a munro at all (RFC 7574 §6.1.2: a power of two, at least 2).
fn munro_bin(range: ChunkRange) -> Option<Bin> {
    (2..=MUNRO_WIDTH_MAX)
        .contains(&range.count())
        .then(|| range.to_bin())
        .flatten()
}

#[cfg(test)]
mod tests;
