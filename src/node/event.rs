//! What a node tells its shell.

use std::net::SocketAddr;

use bytes::Bytes;

use crate::chunk::ChunkIndex;
use crate::ids::PeerId;
use crate::peer::violation::Violation;
use crate::store::MunroIndex;
use crate::store::filed::Filed;
use crate::store::playout::Release;
use crate::tracker::ticket::TicketError;
use crate::wire::control::{Answer, NotifyStream};

/// Something the shell should know or do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The next step of the player's stream.
    Playout {
        /// Which channel, by place in the configuration.
        swarm: usize,
        /// What.
        release: Release,
    },
    /// The player of a recording has passed a munro, all of whose chunks it was given: this is to be kept with them.
    Filed {
        /// Which channel.
        swarm: usize,
        /// What proves it.
        munro: Box<Filed>,
        /// Its chunks as they came, back to back, where they are sealed: what was played are other bytes.
        sealed: Option<Bytes>,
    },
    /// Munros of the recording are wanted: [`Node::loaded`](super::Node::loaded) takes them.
    Load {
        /// Which channel.
        swarm: usize,
        /// The first munro of the recording from this one on, and those behind it.
        from: MunroIndex,
        /// How many.
        most: usize,
    },
    /// A parent pushes to us, the first or another one.
    ParentChanged {
        /// Which channel.
        swarm: usize,
        /// Where it is.
        addr: SocketAddr,
        /// Who it is, if it said so.
        peer: Option<PeerId>,
        /// Whether it is the first one.
        first: bool,
    },
    /// The parent, which we had before the stream reached it, knows its way to the source now: we have something to give.
    Rooted {
        /// Which channel.
        swarm: usize,
    },
    /// There is no parent any more.
    ParentLost {
        /// Which channel.
        swarm: usize,
        /// Where it was.
        addr: SocketAddr,
        /// Why.
        reason: Loss,
    },
    /// A parent said no.
    ParentRefused {
        /// Which channel.
        swarm: usize,
        /// Where it is.
        addr: SocketAddr,
        /// Reason of SUB_REPLY.
        reason: u8,
    },
    /// A remote subscribed with us.
    ChildJoined {
        /// Which channel.
        swarm: usize,
        /// Where it is.
        addr: SocketAddr,
    },
    /// A child went away.
    ChildLeft {
        /// Which channel.
        swarm: usize,
        /// Where it was.
        addr: SocketAddr,
    },
    /// A remote wanted a closed channel, or had it until now, and may not have it.
    ChildRefused {
        /// Which channel.
        swarm: usize,
        /// Where it is.
        addr: SocketAddr,
        /// What it lacks.
        why: TicketError,
    },
    /// No candidate is left to call: a tracker may know more.
    NeedParents {
        /// Which channel.
        swarm: usize,
    },
    /// A remote gave the description of the channel; signature verified.
    Described {
        /// Which channel.
        swarm: usize,
        /// The bytes of DESCRIPTION.
        description: Bytes,
    },
    /// The stream is sealed, and nobody gave us the key that it is sealed with now. Told once for each key.
    Sealed {
        /// Which channel.
        swarm: usize,
    },
    /// A remote did what it may not.
    Violated {
        /// Where it is.
        addr: SocketAddr,
        /// What.
        violation: Violation,
        /// Whether that cost it the channel.
        banned: bool,
    },
    /// A clone told its user's peer, or we were told, that the channel streams.
    Notice {
        /// Which channel.
        swarm: usize,
        /// Where the other side is.
        addr: SocketAddr,
        /// Who it is.
        peer: Option<PeerId>,
        /// What was said.
        notice: NotifyStream,
    },
    /// The user's answer came to his clone, or his clone has it.
    Answered {
        /// Which channel.
        swarm: usize,
        /// Where the other side is.
        addr: SocketAddr,
        /// Who it is.
        peer: Option<PeerId>,
        /// The answer.
        answer: Answer,
        /// Whether the clone follows it.
        taken: bool,
    },
    /// The source's key signed two different munros for one range.
    Equivocation {
        /// Which channel.
        swarm: usize,
        /// First chunk of the munro.
        chunk: ChunkIndex,
    },
}

/// Why a parent is one no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It said goodbye.
    Left,
    /// It said goodbye after the end mark of the channel, which is here.
    Ended,
    /// It answers nothing.
    Silent,
    /// It answers, but has no media while others do.
    Starved,
    /// It sent what it may not.
    Banned,
    /// Our own subtree is above it.
    Loop,
    /// We were told of another one, which delivers.
    Moved,
}
