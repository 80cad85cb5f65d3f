//! Questions between neighbours and their answers: PROBE (are you there?) and DESCRIBE (what is this channel?).

use std::time::Duration;

use bytes::Bytes;

use super::{Event, Node};
use crate::integrity::key::VerifyingKey;
use crate::peer::channel::Probe;
use crate::time::{Instant, micros};
use crate::wire::{ChannelDescription, Extension, Mask, ProbeReply};

/// The description is asked for again after this.
const DESCRIBE_AGAIN: Duration = Duration::from_secs(3);

impl Node {
    /// Asks a neighbour whether it is there.
    pub(super) fn probe(&mut self, now: Instant, at: usize) {
        let nonce = self.rng.next_u32();
        let Some(channel) = self.channels.get_mut(at) else {
            return;
        };
        let Some(swarm) = self.swarms.get(channel.swarm) else {
            return;
        };
        let substreams = swarm.terms.format.substreams;
        channel.probe = Some(match channel.probe {
            Some(probe) => Probe {
                nonce,
                since: probe.since,
                sent: now,
                tries: probe.tries + 1,
            },
            None => Probe {
                nonce,
                since: now,
                sent: now,
                tries: 1,
            },
        });
        self.send_extension(
            now,
            at,
            Extension::Probe {
                nonce,
                mask: Mask::all(substreams),
            },
        );
    }

    pub(super) fn answer_probe(&mut self, now: Instant, arrived: Instant, at: usize, nonce: u32) {
        let Some(channel) = self.channels.get_mut(at) else {
            return;
        };
        if !channel.probe_answers.take(now) {
            return;
        }
        let index = channel.swarm;
        let latency = self.cumulative_latency(index).map_or(0, micros);
        let full = self.slots_free() == 0;
        let paths = self.path_blocks(index);
        let Some(swarm) = self.swarms.get(index) else {
            return;
        };
        let substreams = swarm.terms.format.substreams;
        let reply = ProbeReply {
            nonce,
            held_us: u32::try_from(micros(now - arrived)).unwrap_or(u32::MAX),
            ready: if full {
                Mask::none(substreams)
            } else {
                Mask::all(substreams)
            },
            recv_kbps: u32::try_from(swarm.rate_bps / 1000).unwrap_or(u32::MAX),
            cumulative_latency_us: u32::try_from(latency).unwrap_or(u32::MAX),
            saturated: u8::from(full),
            paths,
        };
        self.send_extension(now, at, Extension::ProbeReply(reply));
    }

    pub(super) fn on_probe_reply(
        &mut self,
        now: Instant,
        arrived: Instant,
        at: usize,
        reply: &ProbeReply,
    ) {
        let Some(channel) = self.channels.get_mut(at) else {
            return;
        };
        if let Some(probe) = channel.probe
            && probe.nonce == reply.nonce
        {
            channel.probe = None;
            // What it was held back for is not the path's doing; a liar about that only spoils its own figure.
            let held = Duration::from_micros(u64::from(reply.held_us));
            channel
                .rtt
                .sample(now, (arrived - probe.sent).saturating_sub(held));
        }
    }

    /// Asks the parent what the channel is, again and again: question and answer may be lost, or it may not know yet.
    pub(super) fn ask_description(&mut self, now: Instant, index: usize) {
        let Some(swarm) = self.swarms.get(index) else {
            return;
        };
        let is_asked = |asked: Instant| now - asked < DESCRIBE_AGAIN;
        let is_needed =
            swarm.description.is_none() && !swarm.asked_description.is_some_and(is_asked);
        let speaks = |parent: &usize| {
            let channel = self.channels.get(*parent);
            channel.is_some_and(|channel| self.speaks_extensions(channel))
        };
        // Whoever has yet to be told to join asks somebody else: what the user is asked names the channel.
        let asked = match swarm.parent {
            None if is_needed && swarm.is_waiting => self.calls(index).into_iter().find(speaks),
            parent => parent.filter(|_| is_needed).filter(speaks),
        };
        let Some(parent) = asked else {
            return;
        };
        if let Some(swarm) = self.swarms.get_mut(index) {
            swarm.asked_description = Some(now);
        }
        self.send_extension(now, parent, Extension::Describe);
    }

    pub(super) fn answer_describe(&mut self, now: Instant, at: usize) {
        let Some(channel) = self.channels.get_mut(at) else {
            return;
        };
        let Some(bytes) = self
            .swarms
            .get(channel.swarm)
            .and_then(|swarm| swarm.description.clone())
        else {
            return;
        };
        if !channel.describe_answers.take(now) {
            return;
        }
        self.send_extension(now, at, Extension::Description(bytes));
    }

    /// DESCRIPTION: believed when the key of the channel signed it.
    pub(super) fn on_description(&mut self, now: Instant, at: usize, bytes: Bytes) {
        let Some(channel) = self.channels.get_mut(at) else {
            return;
        };
        let index = channel.swarm;
        let Some(swarm) = self.swarms.get_mut(index) else {
            return;
        };
        if swarm.description.is_some()
            || swarm.asked_description.is_none()
            || !channel.descriptions.take(now)
        {
            return;
        }
        let Ok(description) = ChannelDescription::decode(bytes.clone()) else {
            return;
        };
        let genuine = description.swarm_id == swarm.terms.swarm_id
            && VerifyingKey::from_swarm_id(&description.swarm_id)
                .is_ok_and(|key| key.verify(&description.signed_bytes(), &description.signature));
        if genuine {
            swarm.describe(bytes.clone(), &description);
            self.push_event(Event::Described {
                swarm: index,
                description: bytes,
            });
        }
    }
}
