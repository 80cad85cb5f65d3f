//! Opening a channel: what is offered, what is checked, and how strangers are kept from costing anything (RFC 7574 §3.1, §8.4).
//!
//! A responder keeps no state for a remote that speaks our extensions: the channel identifier in its reply is a keyed
//! hash over address, time slice, swarm and the remote's own identifier, and the remote repeats its HANDSHAKE in the
//! third datagram. Plain peers do not repeat it; for them there is one bounded table.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::ids::{ChannelId, SwarmId};
use crate::integrity::hash::digest;
use crate::rng::{Rng, Seed};
use crate::time::{Instant, micros};
use crate::wire::option::{
    Addressing, ChunkSize, Handshake, HashFunction, Protection, SignatureAlgorithm,
    SupportedMessages,
};
use crate::wire::{EXTENSION_TYPE, Format};

/// The version spoken, and the only one there is.
const VERSION: u8 = 1;
/// A cookie holds for the rest of its slice and one more.
const COOKIE_SLICE: Duration = Duration::from_secs(15);
/// Tries to find an identifier that is not in use.
const COOKIE_SALTS: u8 = 4;
/// Half-open channels of plain peers kept at once; beyond it a random one makes room (S-21).
pub const HALF_OPEN_MAX: usize = 1024;
/// How long a plain peer may take to answer our reply.
pub const HALF_OPEN_SPAN: Duration = Duration::from_secs(5);

/// What all peers of a swarm must agree on, and what we add for ourselves.
#[derive(Clone, Debug)]
pub struct SwarmTerms {
    /// Which swarm.
    pub swarm_id: SwarmId,
    /// Content integrity protection method.
    pub protection: Protection,
    /// Hash of the Merkle tree.
    pub hash: HashFunction,
    /// Algorithm of the live signature.
    pub signature: SignatureAlgorithm,
    /// How chunks are named.
    pub addressing: Addressing,
    /// How long chunks are.
    pub chunk_size: ChunkSize,
    /// Chunks kept, counted back from the last one announced (option 7).
    pub discard_window: u64,
    /// Whether our extensions are offered.
    pub extensions: bool,
    /// How messages of the swarm are read.
    pub format: Format,
}

/// Why a handshake was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// No version in common.
    #[error("unsupported version {0}")]
    Version(u8),
    /// A swarm we are not in.
    #[error("unknown swarm")]
    Swarm,
    /// An option that must be there.
    #[error("option {0} is missing")]
    Missing(u8),
    /// An option that differs from the swarm's.
    #[error("option {0} differs from the swarm's")]
    Differs(u8),
    /// A closing or empty source channel where one is needed.
    #[error("no source channel")]
    NoChannel,
}

/// What a checked handshake tells about the remote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Its channel identifier.
    pub channel: ChannelId,
    /// Chunks it keeps.
    pub discard_window: u64,
    /// Message types it reads.
    pub supported: SupportedMessages,
}

impl Remote {
    /// Whether it reads our extension messages.
    pub const fn has_extensions(&self) -> bool {
        self.supported.supports(EXTENSION_TYPE)
    }
}

impl SwarmTerms {
    /// The handshake of datagram 1, and of its repetition in datagram 3.
    pub fn opening(&self, local: ChannelId) -> Handshake {
        Handshake {
            minimum_version: Some(VERSION),
            swarm_id: Some(self.swarm_id.clone()),
            ..self.reply(local)
        }
    }

    /// The handshake of datagram 2.
    pub fn reply(&self, local: ChannelId) -> Handshake {
        let live = !matches!(self.protection, Protection::MerkleTree | Protection::None);
        Handshake {
            source: local,
            version: Some(VERSION),
            minimum_version: None,
            swarm_id: None,
            protection: Some(self.protection),
            hash: Some(self.hash).filter(|_| self.protection != Protection::SignAll),
            signature: Some(self.signature).filter(|_| live),
            addressing: Some(self.addressing),
            discard_window: Some(self.discard_window).filter(|_| live),
            supported: Some(if self.extensions {
                SupportedMessages::with_extensions()
            } else {
                SupportedMessages::all_rfc()
            }),
            chunk_size: Some(self.chunk_size),
        }
    }

    /// Checks the handshake of a remote; `opening` for datagram 1, where more is required (RFC 7574 §7).
    ///
    /// # Errors
    ///
    /// The first check that failed; the answer to any of them is silence.
    pub fn check(&self, handshake: &Handshake, opening: bool) -> Result<Remote, Refused> {
        fn same<T: PartialEq>(
            code: u8,
            found: Option<T>,
            ours: &T,
            needed: bool,
        ) -> Result<(), Refused> {
            match found {
                Some(found) if found == *ours => Ok(()),
                Some(_) => Err(Refused::Differs(code)),
                None if needed => Err(Refused::Missing(code)),
                None => Ok(()),
            }
        }
        if handshake.source == ChannelId::NONE {
            return Err(Refused::NoChannel);
        }
        let highest = handshake.version.ok_or(Refused::Missing(0))?;
        let lowest = handshake.minimum_version.unwrap_or(highest);
        if lowest > VERSION || highest < VERSION {
            return Err(Refused::Version(highest));
        }
        match &handshake.swarm_id {
            Some(found) if *found != self.swarm_id => return Err(Refused::Swarm),
            None if opening => return Err(Refused::Missing(2)),
            _ => {}
        }
        let live = matches!(
            self.protection,
            Protection::SignAll | Protection::UnifiedMerkleTree
        );
        same(3, handshake.protection, &self.protection, true)?;
        same(
            4,
            handshake.hash,
            &self.hash,
            self.protection != Protection::SignAll,
        )?;
        same(5, handshake.signature, &self.signature, live)?;
        same(6, handshake.addressing, &self.addressing, true)?;
        same(9, handshake.chunk_size, &self.chunk_size, true)?;
        let discard_window = match handshake.discard_window {
            Some(window) => window,
            None if live => return Err(Refused::Missing(7)),
            None => u64::MAX,
        };
        Ok(Remote {
            channel: handshake.source,
            discard_window,
            // No option 8 means every message of this version, and no extension.
            supported: handshake
                .supported
                .unwrap_or_else(SupportedMessages::all_rfc),
        })
    }
}

/// Makes and recognises the channel identifiers given to strangers.
#[derive(Debug)]
pub struct Cookies {
    key: Seed,
}

impl Cookies {
    /// With a key of its own.
    pub fn new(rng: &mut Rng) -> Self {
        Self {
            key: Seed::from_bytes(rng.bytes()),
        }
    }

    /// The identifier for a stranger's channel; the first one of a few that `is_free`.
    pub fn issue(
        &self,
        now: Instant,
        from: SocketAddr,
        swarm: &SwarmId,
        remote: ChannelId,
        is_free: impl Fn(ChannelId) -> bool,
    ) -> Option<ChannelId> {
        let slice = micros(now - Instant::ZERO) / micros(COOKIE_SLICE);
        (0..COOKIE_SALTS)
            .map(|salt| self.compute(slice, from, swarm, remote, salt))
            .find(|id| *id != ChannelId::NONE && !id.looks_like_stun() && is_free(*id))
    }

    /// Whether `id` was issued to that stranger in this slice or the one before.
    pub fn recognise(
        &self,
        now: Instant,
        from: SocketAddr,
        swarm: &SwarmId,
        remote: ChannelId,
        id: ChannelId,
    ) -> bool {
        let slice = micros(now - Instant::ZERO) / micros(COOKIE_SLICE);
        let mut hit = false;
        for slice in [Some(slice), slice.checked_sub(1)].into_iter().flatten() {
            for salt in 0..COOKIE_SALTS {
                // No early exit: the time taken tells nothing about which one it was.
                hit |= self.compute(slice, from, swarm, remote, salt) == id;
            }
        }
        hit && id != ChannelId::NONE
    }

    fn compute(
        &self,
        slice: u64,
        from: SocketAddr,
        swarm: &SwarmId,
        remote: ChannelId,
        salt: u8,
    ) -> ChannelId {
        let mut input = Vec::with_capacity(96 + swarm.as_bytes().len());
        input.extend_from_slice(self.key.as_bytes());
        input.extend_from_slice(&slice.to_be_bytes());
        match from.ip() {
            IpAddr::V4(ip) => input.extend_from_slice(&ip.to_ipv6_mapped().octets()),
            IpAddr::V6(ip) => input.extend_from_slice(&ip.octets()),
        }
        input.extend_from_slice(&from.port().to_be_bytes());
        input.extend_from_slice(&remote.to_bits().to_be_bytes());
        input.push(salt);
        input.extend_from_slice(swarm.as_bytes());
        // Truncated to 4 of 32 bytes, a plain keyed SHA-256 gives nothing away to extend.
        let hash = digest(HashFunction::Sha256, &input);
        let head = hash
            .as_bytes()
            .first_chunk::<4>()
            .copied()
            .unwrap_or_default();
        ChannelId::from_bits(u32::from_be_bytes(head))
    }
}

/// A plain peer that was answered and has not come back yet.
#[derive(Clone, Copy, Debug)]
pub struct HalfOpen {
    /// The identifier we gave it.
    pub local: ChannelId,
    /// Where it is.
    pub from: SocketAddr,
    /// What its handshake said.
    pub remote: Remote,
    /// Which of our swarms.
    pub swarm: usize,
    /// When it asked.
    pub since: Instant,
}

/// The half-open channels of plain peers.
#[derive(Debug, Default)]
pub struct HalfOpenTable {
    entries: Vec<HalfOpen>,
}

impl HalfOpenTable {
    /// How many there are.
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether an identifier is taken.
    pub fn contains(&self, local: ChannelId) -> bool {
        self.entries.iter().any(|entry| entry.local == local)
    }

    /// The entry of a repeated opening.
    pub fn find(&self, from: SocketAddr, remote: ChannelId, swarm: usize) -> Option<&HalfOpen> {
        self.entries.iter().find(|entry| {
            entry.from == from && entry.remote.channel == remote && entry.swarm == swarm
        })
    }

    /// Adds one; a full table drops a random one first.
    pub fn add(&mut self, rng: &mut Rng, entry: HalfOpen) {
        self.expire(entry.since);
        if self.entries.len() >= HALF_OPEN_MAX {
            let victim = rng.below(self.entries.len() as u64) as usize;
            self.entries.swap_remove(victim);
        }
        self.entries.push(entry);
    }

    /// Takes the entry that a datagram on `local` completes.
    pub fn complete(
        &mut self,
        now: Instant,
        from: SocketAddr,
        local: ChannelId,
    ) -> Option<HalfOpen> {
        self.expire(now);
        let at = self
            .entries
            .iter()
            .position(|entry| entry.local == local && entry.from == from)?;
        Some(self.entries.swap_remove(at))
    }

    fn expire(&mut self, now: Instant) {
        self.entries
            .retain(|entry| now - entry.since <= HALF_OPEN_SPAN);
    }
}
