//! What must hold of all that a node sends, tells and keeps.

use bytes::Bytes;

use super::{START, World, content};
use crate::ids::ChannelId;
use crate::node::calls::CALLS_MAX;
use crate::node::open::HEARSAY_TRIES;
use crate::node::{Event, MEMBERS_MAX, Port};
use crate::peer::channel::{Channel, PENDING_CHUNKS_MAX};
use crate::peer::handshake::HALF_OPEN_MAX;
use crate::store::playout::Release;
use crate::time::micros;
use crate::wire::{Datagram, Format, Message};

/// Datagrams that one thing that happens may cause.
const DATAGRAMS_MAX: usize = 16_384;
/// Nobody is called on hearsay twice within ten minutes.
const HEARSAY_AGAIN_US: u64 = 600_000_000;

impl World {
    /// Takes out what the node sends and tells.
    pub(super) fn drain(&mut self) {
        let mut datagrams = 0;
        while let Some(transmit) = self.node.poll_transmit() {
            let size = transmit.segment_size.unwrap_or(usize::MAX);
            for bytes in transmit.contents.chunks(size) {
                datagrams += 1;
                let (channel, mut list) =
                    Datagram::open(Bytes::copy_from_slice(bytes)).expect("a whole datagram");
                let Some(remote) = self
                    .remotes
                    .iter_mut()
                    .find(|remote| remote.addr == transmit.to && remote.port == transmit.port)
                else {
                    // Remotes name whom they like; those are called, seldom, and hear nothing else.
                    assert_eq!((transmit.port, channel), (Port::Dial, ChannelId::NONE));
                    let tries = self.named.entry(transmit.to).or_default();
                    *tries += 1;
                    let spans = 1 + micros(self.now - START) / HEARSAY_AGAIN_US;
                    assert!(
                        *tries as u64 <= spans * u64::from(HEARSAY_TRIES),
                        "{tries} calls to {}",
                        transmit.to
                    );
                    continue;
                };
                remote.bytes_out += bytes.len();
                assert!(
                    remote.proven || remote.bytes_out <= remote.bytes_in,
                    "{} bytes for {} from {}",
                    remote.bytes_out,
                    remote.bytes_in,
                    remote.addr
                );
                while let Some(message) = list.next(&Format::LIVE) {
                    if let Message::Handshake(handshake) = message.expect("what can be read")
                        && !handshake.is_closing()
                        && remote.theirs.last() != Some(&handshake.source)
                    {
                        remote.theirs.push(handshake.source);
                    }
                }
            }
        }
        assert!(datagrams <= DATAGRAMS_MAX, "{datagrams} datagrams at once");
        while let Some(event) = self.node.poll_event() {
            if let Event::Playout {
                release: Release::Media { chunk, payload, .. },
                ..
            } = event
                && !self.is_source
            {
                assert_eq!(payload, content(chunk), "chunk {chunk} is not the source's");
            }
        }
    }

    /// What must hold after each step.
    pub(super) fn check(&mut self) {
        self.drain();
        self.check_channels();
        let node = &self.node;
        let channels = node.channel_count();
        let came: usize = self.remotes.iter().map(|remote| remote.bytes_in).sum();
        let held = usize::try_from(node.window_bytes()).unwrap_or(usize::MAX);
        assert!(
            held <= came + self.media_bytes,
            "{held} bytes in the window"
        );
        assert!(node.half_open_count() <= HALF_OPEN_MAX.min(came / 40));
        assert!(node.child_count() <= channels);
        assert!(node.members_known(0) <= MEMBERS_MAX);
        assert!(node.unproven_chunks() <= channels * PENDING_CHUNKS_MAX);
        assert!(node.unproven_hashes() <= channels * 128);
        if self.is_clone {
            let subscribed = |(_, channel): (_, &Channel)| channel.subscription.is_some();
            assert!(node.is_waiting(0), "told to join by a stranger");
            assert!(!node.channels.iter().any(subscribed), "joined nobody's");
        }
        let _ = node.counters(self.now, 0);
        let _ = node.neighbours(self.now, 0);
    }

    /// A remote has one channel that it opened. We have one with each that we called, and while that is in doubt one more
    /// call; no more than so many in all.
    fn check_channels(&self) {
        let channels: Vec<_> = self.node.channels.iter().collect();
        let calls = self.node.calls(0);
        assert!(calls.len() <= CALLS_MAX, "{} calls", calls.len());
        assert!(!self.closed || channels.is_empty(), "open when closed");
        for (at, channel) in &channels {
            let port = if channel.initiated {
                Port::Dial
            } else {
                Port::Listen
            };
            assert_eq!(channel.port, port, "{}", channel.addr);
            let alike = channels.iter().filter(|(_, other)| {
                (other.addr, other.initiated, other.is_open())
                    == (channel.addr, channel.initiated, channel.is_open())
            });
            assert_eq!(alike.count(), 1, "like {at} at {}", channel.addr);
        }
    }
}
