//! Opening and closing channels (RFC 7574 §3.1, §8.4).

use std::net::SocketAddr;
use std::time::Duration;

use super::calls::CALLS_MAX;
use super::{CHANNELS_MAX, Event, Loss, Node};
use crate::ids::ChannelId;
use crate::peer::channel::{Channel, Phase, Port};
use crate::peer::handshake::{HalfOpen, Remote};
use crate::peer::violation::Violation;
use crate::time::Instant;
use crate::wire::option::{Handshake, SupportedMessages};
use crate::wire::{EXTENSION_TYPE, Format, Message, Messages};

/// First wait before an opening is sent again; doubles to [`RESEND_MAX`].
const RESEND_FIRST: Duration = Duration::from_millis(250);
const RESEND_MAX: Duration = Duration::from_secs(1);
/// An opening without an answer for this long has failed.
const OPENING_SPAN: Duration = Duration::from_secs(8);
/// Openings sent to somebody whom only another remote named (S-29), or nobody any more.
pub(super) const HEARSAY_TRIES: u32 = 3;

impl Node {
    /// Calls a remote: datagram 1.
    pub(super) fn dial(&mut self, now: Instant, swarm: usize, addr: SocketAddr) -> Option<usize> {
        let local = self.new_channel_id()?;
        let remote = Remote {
            channel: ChannelId::NONE,
            discard_window: 0,
            supported: SupportedMessages::all_rfc(),
        };
        let mut channel = Channel::new(local, Port::Dial, addr, swarm, now, remote);
        channel.initiated = true;
        channel.phase = Phase::Opening {
            resend: now + RESEND_FIRST,
            tries: 1,
            since: now,
        };
        let at = self.channels.insert(channel)?;
        if let Some(swarm) = self.swarms.get_mut(swarm) {
            swarm.candidates.on_called(now, addr);
        }
        self.send_opening(now, at);
        Some(at)
    }

    fn new_channel_id(&mut self) -> Option<ChannelId> {
        (0..16).find_map(|_| {
            let id = ChannelId::from_bits(self.rng.next_u32());
            let usable = id != ChannelId::NONE
                && !id.looks_like_stun()
                && self.channels.find(id).is_none()
                && !self.half_open.contains(id);
            usable.then_some(id)
        })
    }

    fn send_opening(&mut self, now: Instant, at: usize) {
        let Some(channel) = self.channels.get_mut(at) else {
            return;
        };
        let Some(swarm) = self.swarms.get(channel.swarm) else {
            return;
        };
        let handshake = swarm.terms.opening(channel.local);
        channel.last_sent = now;
        channel.unanswered += 1;
        channel.counters.sent_packets += 1;
        let message = Message::Handshake(Box::new(handshake));
        let bytes = self
            .outbox
            .datagram(channel.port, channel.addr, ChannelId::NONE, |out| {
                message.encode(&swarm.terms.format, out);
            });
        channel.counters.sent_bytes += bytes as u64;
    }

    /// Sends an opening again, or gives it up.
    pub(super) fn resend_opening(&mut self, now: Instant, at: usize) {
        let Some(channel) = self.channels.get_mut(at) else {
            return;
        };
        let Phase::Opening {
            resend,
            tries,
            since,
        } = channel.phase
        else {
            return;
        };
        // What a tracker says takes hearsay off the list, while it is being called too.
        let is_enough = tries >= HEARSAY_TRIES
            && now >= resend
            && self
                .swarms
                .get(channel.swarm)
                .is_some_and(|swarm| !swarm.candidates.is_vouched_for(channel.addr));
        if now - since >= OPENING_SPAN || is_enough {
            self.stats.failed_handshakes += 1;
            return self.forget(now, at, Loss::Silent);
        }
        if now >= resend {
            let wait = RESEND_FIRST
                .saturating_mul(1 << tries.min(8))
                .min(RESEND_MAX);
            channel.phase = Phase::Opening {
                resend: now + wait,
                tries: tries + 1,
                since,
            };
            self.send_opening(now, at);
        }
    }

    /// Datagram 1 of a stranger. Any failed check is met with silence (RFC 7574 §3.1.1).
    pub(super) fn handle_opening(
        &mut self,
        now: Instant,
        from: SocketAddr,
        mut messages: Messages,
        length: usize,
    ) {
        // Nothing but the handshake is read: its options say how the rest would be, and nothing in it is needed.
        let handshake = match messages.next(&Format::LIVE) {
            Some(Ok(Message::Handshake(handshake))) => handshake,
            Some(Err(error)) => return self.note_malformed(error),
            _ => return,
        };
        let Some((at, remote)) = self.check_opening(&handshake) else {
            return;
        };
        if self.closed {
            return;
        }
        if let Some(own) = self.own_call(at, remote.channel) {
            let own = self.channels.get(own).map(|channel| channel.addr);
            if let (Some(addr), Some(swarm)) = (own, self.swarms.get_mut(at)) {
                swarm.candidates.forget_hearsay(addr);
            }
            return;
        }
        let Some(swarm) = self.swarms.get(at) else {
            return;
        };
        let local = if remote.has_extensions() && self.extensions {
            // Stateless: the answer is all there is of it until the address is proven.
            let is_free = |id| self.channels.find(id).is_none();
            self.cookies
                .issue(now, from, &swarm.terms.swarm_id, remote.channel, is_free)
        } else {
            self.half_open_for(now, from, at, remote)
        };
        let Some(local) = local else { return };
        let Some(swarm) = self.swarms.get(at) else {
            return;
        };
        let reply = Message::Handshake(Box::new(swarm.terms.reply(local)));
        let have = swarm
            .window
            .newest()
            .and_then(|slot| swarm.window.complete_around(slot.index()));
        let format = swarm.terms.format;
        let mut answer = Vec::with_capacity(128);
        reply.encode(&format, &mut answer);
        // Never more than was asked with (S-12): what does not fit is told once the address is proven.
        if answer.len() + 4 > length {
            return;
        }
        if let Some(range) = have {
            let before = answer.len();
            Message::Have(range).encode(&format, &mut answer);
            if answer.len() + 4 > length {
                answer.truncate(before);
            }
        }
        self.stats.answered_handshakes += 1;
        self.outbox
            .datagram(Port::Listen, from, remote.channel, |out| {
                out.extend_from_slice(&answer)
            });
    }

    /// Finds the swarm of an opening and checks it.
    fn check_opening(&mut self, handshake: &Handshake) -> Option<(usize, Remote)> {
        let id = handshake.swarm_id.as_ref()?;
        let Some(at) = self
            .swarms
            .iter()
            .position(|swarm| swarm.terms.swarm_id == *id)
        else {
            self.stats.failed_handshakes += 1;
            self.stats.last_refusal = Some(crate::peer::handshake::Refused::Swarm);
            return None;
        };
        match self.swarms.get(at)?.terms.check(handshake, true) {
            Ok(remote) => Some((at, remote)),
            Err(refused) => {
                self.stats.failed_handshakes += 1;
                self.stats.last_refusal = Some(refused);
                None
            }
        }
    }

    /// The channel of ours that a call comes from, when we called ourselves.
    fn own_call(&self, swarm: usize, remote: ChannelId) -> Option<usize> {
        self.channels.find(remote).filter(|&at| {
            self.channels.get(at).is_some_and(|channel| {
                channel.initiated
                    && channel.swarm == swarm
                    && matches!(channel.phase, Phase::Opening { .. })
            })
        })
    }

    /// The half-open entry of a plain peer: the same one for a repeated opening.
    fn half_open_for(
        &mut self,
        now: Instant,
        from: SocketAddr,
        swarm: usize,
        remote: Remote,
    ) -> Option<ChannelId> {
        if let Some(entry) = self.half_open.find(from, remote.channel, swarm) {
            return Some(entry.local);
        }
        let local = self.new_channel_id()?;
        self.half_open.add(
            &mut self.rng,
            HalfOpen {
                local,
                from,
                remote,
                swarm,
                since: now,
            },
        );
        Some(local)
    }

    /// A datagram on an identifier that has no channel: datagram 3 of somebody we answered, or nothing.
    pub(super) fn admit_stranger(
        &mut self,
        now: Instant,
        from: SocketAddr,
        id: ChannelId,
        messages: &Messages,
    ) -> Option<usize> {
        // However many come, there is room for the calls that get us a parent.
        let room = CHANNELS_MAX.saturating_sub(CALLS_MAX * self.swarms.len());
        if self.closed || self.channels.len() >= room {
            return None;
        }
        if let Some(entry) = self.half_open.complete(now, from, id) {
            return self.open_stranger(now, from, id, entry.swarm, entry.remote);
        }
        // Ours repeat their handshake, and the identifier proves that they got our answer.
        let Some(Ok(Message::Handshake(handshake))) = messages.clone().next(&Format::LIVE) else {
            self.stats.misdirected_datagrams += 1;
            return None;
        };
        if handshake.is_closing() {
            return None;
        }
        let (at, remote) = self.check_opening(&handshake)?;
        let swarm = self.swarms.get(at)?;
        if !self
            .cookies
            .recognise(now, from, &swarm.terms.swarm_id, remote.channel, id)
        {
            self.stats.misdirected_datagrams += 1;
            return None;
        }
        self.open_stranger(now, from, id, at, remote)
    }

    fn open_stranger(
        &mut self,
        now: Instant,
        from: SocketAddr,
        id: ChannelId,
        swarm: usize,
        remote: Remote,
    ) -> Option<usize> {
        // A new channel from the same address is a restart: the old one goes now that the new one is proven.
        let old = self
            .channels
            .iter()
            .find(|(_, channel)| {
                channel.addr == from && channel.swarm == swarm && !channel.initiated
            })
            .map(|(at, _)| at);
        if let Some(old) = old {
            self.forget(now, old, Loss::Left);
        }
        let at = self
            .channels
            .insert(Channel::new(id, Port::Listen, from, swarm, now, remote))?;
        self.stats.handshakes += 1;
        if let Some(swarm) = self.swarms.get_mut(swarm) {
            swarm.counters.handshakes += 1;
        }
        if !self.channels.get(at)?.has_extensions() || !self.extensions {
            self.greet_plain(now, at);
        }
        Some(at)
    }

    /// A handshake on a channel that exists: the answer to ours, a repetition, or goodbye.
    pub(super) fn handle_handshake(
        &mut self,
        now: Instant,
        arrived: Instant,
        at: usize,
        handshake: &Handshake,
    ) -> bool {
        let Some(channel) = self.channels.get_mut(at) else {
            return false;
        };
        if handshake.is_closing() {
            // Before our call is answered nobody can have said goodbye.
            if channel.is_open() {
                self.forget(now, at, Loss::Left);
            }
            return false;
        }
        let Phase::Opening { tries, since, .. } = channel.phase else {
            // Datagram 3 repeats the handshake; more copies mean nothing.
            return handshake.source == channel.remote.channel;
        };
        let (addr, index) = (channel.addr, channel.swarm);
        // Called once more while it was silent: either it was only out of reach, and there is no use for another channel,
        // or it was started anew and knows nothing of the old one.
        let old = self
            .channels
            .iter()
            .find(|(other, channel)| {
                let is_same = channel.addr == addr && channel.swarm == index;
                *other != at && is_same && channel.initiated && channel.is_open()
            })
            .map(|(old, channel)| (old, channel.is_unheard()));
        if let Some((_, false)) = old {
            // It has sent no more than an answer, and keeps nothing of us.
            if let Some(gone) = self.channels.remove(at)
                && let Some(swarm) = self.swarms.get_mut(index)
            {
                swarm.gone.add(&gone.counters);
            }
            return false;
        }
        let Some(channel) = self.channels.get_mut(at) else {
            return false;
        };
        let Some(swarm) = self.swarms.get_mut(channel.swarm) else {
            return false;
        };
        let remote = match swarm.terms.check(handshake, false) {
            Ok(remote) => remote,
            Err(refused) => {
                self.stats.failed_handshakes += 1;
                self.stats.last_refusal = Some(refused);
                return false;
            }
        };
        channel.remote = remote;
        channel.phase = Phase::Open;
        channel.opened_at = now;
        channel.greeted = (now, 0);
        if tries == 1 {
            channel.rtt.sample(now, arrived - since);
        }
        self.stats.handshakes += 1;
        swarm.counters.handshakes += 1;
        swarm.candidates.on_open(channel.addr);
        if !swarm.suppliers.contains(&at) {
            swarm.suppliers.push(at);
        }
        self.answer_reply(now, at);
        if let Some((old, _)) = old {
            self.forget(now, old, Loss::Silent);
        }
        self.drive_parents(now, index);
        true
    }

    /// Datagram 3: must be sent at once, since the other side may hold state for us.
    pub(super) fn answer_reply(&mut self, now: Instant, at: usize) {
        let Some(channel) = self.channels.get_mut(at) else {
            return;
        };
        let Some(swarm) = self.swarms.get(channel.swarm) else {
            return;
        };
        let ours = channel.remote.supported.supports(EXTENSION_TYPE) && self.extensions;
        channel.last_sent = now;
        if ours {
            let handshake = Message::Handshake(Box::new(swarm.terms.opening(channel.local)));
            let format = swarm.terms.format;
            let hello = self.hello();
            let Some(channel) = self.channels.get_mut(at) else {
                return;
            };
            self.outbox
                .datagram(channel.port, channel.addr, channel.remote.channel, |out| {
                    handshake.encode(&format, out);
                    hello.encode(&format, out);
                });
        } else {
            self.greet_plain(now, at);
        }
    }

    /// A remote is gone: its channel and all that hung on it.
    pub(super) fn forget(&mut self, now: Instant, at: usize, loss: Loss) {
        let Some(channel) = self.channels.remove(at) else {
            return;
        };
        self.gate.forget(channel.local);
        self.exchanges.forget(channel.local);
        let index = channel.swarm;
        let Some(swarm) = self.swarms.get_mut(index) else {
            return;
        };
        if let Some(asking) = &mut swarm.asking {
            asking.forget(channel.local);
        }
        swarm.gone.add(&channel.counters);
        swarm.suppliers.retain(|&supplier| supplier != at);
        if channel.is_child() {
            swarm.children.retain(|&child| child != at);
            self.push_event(Event::ChildLeft {
                swarm: index,
                addr: channel.addr,
            });
        }
        let Some(swarm) = self.swarms.get_mut(index) else {
            return;
        };
        if channel.initiated && loss == Loss::Banned {
            swarm.candidates.on_banned(now, channel.addr);
        } else if channel.initiated {
            swarm.candidates.on_failed(now, channel.addr, &mut self.rng);
        }
        if swarm.successor == Some(at) {
            swarm.successor = None;
        }
        if swarm.shares.has(at) {
            swarm.shares.forget(at);
            swarm.parent_check = now;
        }
        if swarm.parent == Some(at) {
            swarm.parent = None;
            swarm.repair.forget_announced();
            swarm.repair.ask_again(now);
            let newest = swarm.window.newest();
            let has_ended = newest.is_some_and(|slot| slot.is_end_mark());
            let reason = if loss == Loss::Left && has_ended {
                Loss::Ended
            } else {
                loss
            };
            self.push_event(Event::ParentLost {
                swarm: index,
                addr: channel.addr,
                reason,
            });
            self.drive_parents(now, index);
        }
    }

    /// Says goodbye on a channel and forgets it.
    pub(super) fn close_channel(&mut self, now: Instant, at: usize, loss: Loss) {
        if let Some(channel) = self.channels.get(at)
            && channel.is_open()
            && let Some(swarm) = self.swarms.get(channel.swarm)
        {
            let message = Message::Handshake(Box::new(Handshake::closing()));
            self.outbox
                .datagram(channel.port, channel.addr, channel.remote.channel, |out| {
                    message.encode(&swarm.terms.format, out);
                });
        }
        self.forget(now, at, loss);
    }

    /// Says goodbye to everybody; nothing is answered after that.
    pub fn close(&mut self, now: Instant) {
        self.closed = true;
        for at in self.channels.places() {
            self.close_channel(now, at, Loss::Left);
        }
    }

    /// Notes what a remote did that it alone can have done; the third time in a minute costs it the channel.
    pub(super) fn strike(&mut self, now: Instant, at: usize, violation: Violation) {
        let Some(channel) = self.channels.get_mut(at) else {
            return;
        };
        channel.counters.violations += 1;
        self.stats.violations += 1;
        let banned = channel.strikes.strike(now);
        let addr = channel.addr;
        self.push_event(Event::Violated {
            addr,
            violation,
            banned,
        });
        if banned {
            self.stats.bans += 1;
            self.close_channel(now, at, Loss::Banned);
        }
    }
}
