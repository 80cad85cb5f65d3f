//! What a node is told before it starts.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::access::Auth;
use crate::chunk::ChunkIndex;
use crate::ids::{PeerId, SwarmId};
use crate::integrity::key::SigningKey;
use crate::seal::SALT_BYTES;
use crate::store::playout::PlayoutConfig;
use crate::time::Epoch;

/// What a node is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Signs and sends out.
    Source,
    /// Receives once, fans out.
    Relay,
    /// Plays, and fans out as well.
    Peer,
}

impl Role {
    /// The number in HELLO_EXT.
    pub const fn code(self) -> u8 {
        match self {
            Self::Peer => 0,
            Self::Source => 1,
            Self::Relay => 2,
        }
    }
}

/// Where in a stream a newcomer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartFrom {
    /// The newest place a player can start at, or the newest chunk when there is none.
    Live,
    /// The oldest chunk that the parent has.
    Oldest,
}

/// One channel to take part in.
#[derive(Clone, Debug)]
pub struct SwarmConfig {
    /// Which one.
    pub swarm_id: SwarmId,
    /// How long chunks are kept, by signed time.
    pub window: Duration,
    /// The player, where there is one.
    pub playout: Option<PlayoutConfig>,
    /// Where to begin.
    pub from: StartFrom,
    /// Parents in order of preference.
    pub parents: Vec<SocketAddr>,
    /// The source's part.
    pub source: Option<SourceConfig>,
    /// The signed channel description, as far as known.
    pub description: Option<Bytes>,
}

/// What only a source has.
#[derive(Clone, Debug)]
pub struct SourceConfig {
    /// The key of the channel.
    pub key: SigningKey,
    /// The first chunk number to use; rounded up to a whole munro.
    pub first_chunk: ChunkIndex,
    /// Unix time in microseconds before which nothing is signed: later than all that was signed under this key, also
    /// when the wall clock has been set back since (S-10). 0 for a new key.
    pub not_before_us: u64,
    /// How long a munro stays open after its first byte.
    pub sign_delay: Duration,
    /// The same while it has few chunks: a signature for each picture of a slow stream would cost more than a tenth of it.
    pub sign_delay_few: Duration,
    /// Transport stream packets a chunk.
    pub chunk_packets: u8,
    /// Chunks are sealed, with this salt: random, and another one at every start. None sends them as they are.
    pub seal: Option<[u8; SALT_BYTES]>,
}

/// A node and its channels.
#[derive(Clone, Debug)]
pub struct Config {
    /// What it is for.
    pub role: Role,
    /// Its name.
    pub peer_id: PeerId,
    /// Unix time at the start of its clock.
    pub epoch: Epoch,
    /// Whether our extension messages are spoken; off makes it a plain RFC 7574 peer.
    pub extensions: bool,
    /// Children it takes over all channels.
    pub children_max: usize,
    /// What it may send, in bits a second.
    pub upload_limit_bps: Option<u64>,
    /// Its key, and whether its channels are closed; none has no key and closes nothing.
    pub auth: Option<Auth>,
    /// Its channels.
    pub swarms: Vec<SwarmConfig>,
}

impl Config {
    /// A node with one channel and no limits.
    pub fn new(role: Role, peer_id: PeerId, epoch: Epoch, swarm: SwarmConfig) -> Self {
        Self {
            role,
            peer_id,
            epoch,
            extensions: true,
            children_max: usize::MAX,
            upload_limit_bps: None,
            auth: None,
            swarms: vec![swarm],
        }
    }
}
