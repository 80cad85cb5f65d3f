//! Two machines, and a caller who owns the wire between them: for tests and fuzzers that decide the fate of every
//! single datagram.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::{Machine, NodeId, Output, Port};
use crate::time::Instant;

/// One datagram that one of the two has sent and the other has not yet seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Which of the two sent it: 0 or 1.
    pub sender: usize,
    /// From which of its sockets.
    pub port: Port,
    /// Whereto.
    pub to: SocketAddr,
    /// What.
    pub datagram: Bytes,
}

/// Two machines and the datagrams between them.
///
/// The machines are nodes 0 and 1 by address; both live on one clock, moved by the caller.
pub struct Pair {
    machines: [Box<dyn Machine>; 2],
    now: Instant,
    pending: Vec<Pending>,
    output: [Vec<Output>; 2],
}

/// Datagrams kept at most: a caller that delivers nothing must not fill memory, so the oldest are dropped.
pub const PENDING_MAX: usize = 4096;

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair")
            .field("now", &self.now)
            .field("pending", &self.pending.len())
            .finish_non_exhaustive()
    }
}

impl Pair {
    /// Two machines that were made at `now`.
    pub fn new(now: Instant, first: Box<dyn Machine>, second: Box<dyn Machine>) -> Self {
        let mut pair = Self {
            machines: [first, second],
            now,
            pending: Vec::new(),
            output: [Vec::new(), Vec::new()],
        };
        pair.drain(0);
        pair.drain(1);
        pair
    }

    /// The time.
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// One of the two.
    pub fn machine(&mut self, which: usize) -> &mut dyn Machine {
        self.machines[which & 1].as_mut()
    }

    /// What is on the wire, oldest first.
    pub fn pending(&self) -> &[Pending] {
        &self.pending
    }

    /// What one player was given since it was last asked.
    pub fn take_output(&mut self, which: usize) -> Vec<Output> {
        std::mem::take(&mut self.output[which & 1])
    }

    /// Takes a datagram off the wire: it is lost, unless it is handed over by [`inject`](Self::inject).
    pub fn take(&mut self, index: usize) -> Option<Pending> {
        (index < self.pending.len()).then(|| self.pending.remove(index))
    }

    /// Delivers a datagram to whom it is addressed, and keeps it on the wire when it is to come twice.
    pub fn deliver(&mut self, index: usize, again: bool) {
        let Some(pending) = self.pending.get(index).cloned() else {
            return;
        };
        if !again {
            self.pending.remove(index);
        }
        let target = match pending.to {
            SocketAddr::V4(address) => NodeId::at(address),
            SocketAddr::V6(_) => None,
        };
        if let Some((id, port)) = target.filter(|(id, _)| id.0 < 2) {
            let from = NodeId(pending.sender as u16).address(pending.port);
            self.inject(id.index(), port, from.into(), pending.datagram);
        }
    }

    /// Hands one of the two a datagram of the caller's.
    pub fn inject(&mut self, which: usize, port: Port, from: SocketAddr, datagram: Bytes) {
        let stride = datagram.len().max(1);
        self.machines[which & 1].handle_datagrams(self.now, self.now, port, from, datagram, stride);
        self.drain(which & 1);
    }

    /// Delivers everything in order, and what is sent in answer, up to `rounds` datagrams.
    pub fn settle(&mut self, rounds: usize) {
        for _ in 0..rounds {
            if self.pending.is_empty() {
                return;
            }
            self.deliver(0, false);
        }
    }

    /// Moves the clock, stopping at each timer on the way; whether the machines kept to their own timers: none may ask
    /// three times for a moment that it was given.
    pub fn advance(&mut self, span: Duration) -> bool {
        let end = self.now + span;
        let mut repeats = 0;
        loop {
            let next = (0..2)
                .filter_map(|which| Some((self.machines[which].poll_timeout(self.now)?, which)))
                .min();
            let Some((at, which)) = next.filter(|(at, _)| *at <= end) else {
                break;
            };
            if at > self.now {
                self.now = at;
                repeats = 0;
            }
            // Two machines, each of which may ask twice.
            repeats += 1;
            if repeats > 4 {
                return false;
            }
            self.machines[which].handle_timeout(self.now);
            self.drain(which);
        }
        self.now = end;
        true
    }

    /// Lets the caller act on a machine (push media, say) and collects what it sends.
    pub fn act(&mut self, which: usize, action: impl FnOnce(&mut dyn Machine, Instant)) {
        action(self.machines[which & 1].as_mut(), self.now);
        self.drain(which & 1);
    }

    fn drain(&mut self, which: usize) {
        let pending = &mut self.pending;
        self.machines[which].poll_transmit(self.now, &mut |port, to, bytes, segment| {
            let whole = Bytes::copy_from_slice(bytes);
            let stride = segment.unwrap_or(bytes.len()).max(1);
            for index in 0..bytes.len().div_ceil(stride).max(1) {
                let start = index * stride;
                pending.push(Pending {
                    sender: which,
                    port,
                    to,
                    datagram: whole.slice(start..(start + stride).min(bytes.len())),
                });
            }
        });
        if pending.len() > PENDING_MAX {
            pending.drain(..pending.len() - PENDING_MAX);
        }
        self.machines[which].drain_output(&mut self.output[which]);
    }
}
