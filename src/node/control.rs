//! Our extension messages between neighbours: who is there, STATUS, and what becomes of the others.

use std::time::Duration;

use super::push::send;
use super::swarm::Swarm;
use super::{Event, Loss, Node, Port};
use crate::chunk::{Layout, Parts};
use crate::ids::PeerId;
use crate::peer::channel::{Channel, PATH_MAX, Phase, RemoteStatus};
use crate::qos::latency::cumulative;
use crate::time::{Instant, micros};
use crate::wire::{Extension, Hello, Mask, Message, PathBlock, Status};

/// Ticks from one STATUS to the next: one second.
const STATUS_TICKS: u64 = 10;
/// A neighbour that speaks our extensions sends STATUS each second; five missed and it is gone (algorithms §4.5).
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(5);
/// RFC 7574 §3.12: dead after three minutes and three datagrams without an answer.
const PLAIN_SILENCE_MAX: Duration = Duration::from_secs(180);
const PLAIN_UNANSWERED_MAX: u32 = 3;
/// Keeps NAT bindings open.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// Pushed and not acknowledged for this long: given up.
const ACK_WAIT: Duration = Duration::from_secs(1);
/// Ways that substreams may come.
const PATH_BLOCKS_MAX: usize = Layout::SUBSTREAMS_MAX as usize;

/// A whole stream.
const EIGHTHS: u64 = Layout::SUBSTREAMS_MAX as u64;

/// How much of a stream some substreams are.
fn eighths_of(swarm: &Swarm, parts: Parts) -> u64 {
    let layout = swarm.layout.unwrap_or_default();
    u64::from(parts.common(layout.all()).count()) * EIGHTHS / u64::from(layout.substreams())
}

impl Node {
    /// What we say about ourselves.
    pub(super) fn hello(&self) -> Extension {
        Extension::Hello(Hello {
            peer_id: self.peer_id,
            role: self.role.code(),
            uplink_kbps: self
                .upload_limit_bps
                .map_or(0, |bps| u32::try_from(bps / 1000).unwrap_or(u32::MAX)),
            degree_max: u16::try_from(self.children_max).unwrap_or(u16::MAX),
            slots_free: self.slots_free(),
            ..Hello::default()
        })
    }

    /// Children it would still take.
    pub fn slots_free(&self) -> u16 {
        if self.draining {
            return 0;
        }
        let mut free = self.children_max.saturating_sub(self.child_count());
        if let Some(eighths) = self.eighths_free() {
            // A child that takes a part needs no more than that.
            let least = self
                .swarms
                .iter()
                .map(|swarm| eighths_of(swarm, Parts::one(0)))
                .min();
            let whole = usize::try_from(eighths / EIGHTHS).unwrap_or(usize::MAX);
            let some = usize::from(eighths >= least.unwrap_or(EIGHTHS));
            free = free.min(whole.max(some));
        }
        u16::try_from(free).unwrap_or(u16::MAX)
    }

    /// Whether a remote that wants these substreams of a stream could have them beside what others have.
    pub(super) fn has_room_for(&self, index: usize, parts: Parts) -> bool {
        let needed = self
            .swarms
            .get(index)
            .map_or(EIGHTHS, |swarm| eighths_of(swarm, parts));
        !self.draining
            && self.child_count() < self.children_max
            && self.eighths_free().is_none_or(|free| free >= needed)
    }

    /// What the limit of the upload leaves, in eighths of a stream.
    fn eighths_free(&self) -> Option<u64> {
        let limit = self.upload_limit_bps?;
        let rates = self.swarms.iter().map(|swarm| swarm.rate_bps);
        let rate = rates.max().unwrap_or(0).max(1);
        let taken = self.swarms.iter().map(|swarm| {
            if swarm.layout.is_none_or(|layout| layout == Layout::WHOLE) {
                return swarm.children.len() as u64 * EIGHTHS;
            }
            let children = swarm
                .children
                .iter()
                .filter_map(|&at| self.channels.get(at));
            let children = children.filter_map(|it| it.subscriber.as_ref());
            children
                .map(|child| eighths_of(swarm, child.parts))
                .sum::<u64>()
        });
        let all = limit.saturating_mul(EIGHTHS) / rate;
        Some(all.saturating_sub(taken.sum()))
    }

    pub(super) fn on_extension(
        &mut self,
        now: Instant,
        arrived: Instant,
        at: usize,
        extension: Extension,
    ) {
        match extension {
            Extension::Hello(hello) => {
                let Some(channel) = self.channels.get_mut(at) else {
                    return;
                };
                let is_new = channel.hello.replace(hello).is_none();
                match channel.port {
                    Port::Listen if is_new => {
                        // Who called introduced itself with its last handshake datagram; now it learns who we are.
                        let ours = self.hello();
                        self.send_extension(now, at, ours);
                        self.challenge_caller(now, at);
                    }
                    Port::Listen => {}
                    Port::Dial => self.break_ring(now, at),
                }
            }
            Extension::Subscribe(subscribe) => self.on_subscribe(now, at, &subscribe),
            Extension::SubscribeReply(reply) => self.on_subscribe_reply(now, at, &reply),
            Extension::Unsubscribe { mask, .. } => self.on_unsubscribe(at, mask.parts()),
            Extension::Status(status) => self.on_status(now, at, status),
            Extension::Probe { nonce, .. } => self.answer_probe(now, arrived, at, nonce),
            Extension::ProbeReply(reply) => self.on_probe_reply(now, arrived, at, &reply),
            Extension::QosFeedback(feedback) => {
                if let Some(channel) = self.channels.get_mut(at) {
                    channel.feedback = Some((
                        feedback.late_permille,
                        feedback.lost_permille,
                        feedback.over_ms,
                    ));
                }
            }
            Extension::Munro(munro) => self.on_munro(now, arrived, at, munro),
            Extension::NeedMunro(start) => self.on_need_munro(now, at, start),
            Extension::Fetch { range, flags } => {
                self.on_request(now, at, range, flags & Extension::HOLDS_HASHES != 0);
            }
            Extension::Describe => self.answer_describe(now, at),
            Extension::Description(bytes) => self.on_description(now, at, bytes),
            Extension::AuthChallenge(challenge) => self.on_challenge(now, at, &challenge),
            Extension::AuthResponse(response) => self.on_auth_response(now, at, &response),
            Extension::AuthProof(proof) => self.on_auth_proof(now, at, &proof),
            Extension::Ticket(bytes) => self.on_ticket(now, at, &bytes),
            Extension::Control(control) => self.on_control(now, at, &control),
            Extension::Unknown { .. } => {}
        }
    }

    fn on_status(&mut self, now: Instant, at: usize, status: Status) {
        let Some(channel) = self.channels.get_mut(at) else {
            return;
        };
        if let Some(child) = &mut channel.subscriber {
            child.lease_end = now + child.lease;
        }
        let mut paths: Vec<(Parts, Vec<PeerId>)> = Vec::with_capacity(1);
        for block in status.paths.into_iter().take(PATH_BLOCKS_MAX) {
            let path = block.path.into_iter().take(PATH_MAX + 1).collect();
            paths.push((block.mask.parts(), path));
        }
        let told = RemoteStatus {
            at: now,
            head: status.heads.first().copied().unwrap_or_default(),
            depth: status.depth,
            slots_free: status.slots_free,
            cumulative_latency_us: status.cumulative_latency_us,
            paths,
        };
        // Before its first subscription there is nothing that could come back to us, but it shows that all does.
        let asked = channel.subscription.map_or(Parts::ALL, |it| it.parts);
        let in_loop = told.leads_through(self.peer_id, asked);
        let had_root = channel.status.as_ref().is_some_and(|it| it.depth > 0);
        if !in_loop
            && status.depth > 0
            && channel.initiated
            && let Some(swarm) = self.swarms.get_mut(channel.swarm)
        {
            swarm.candidates.on_rooted_elsewhere(channel.addr);
        }
        channel.status = Some(told);
        let (index, is_asked) = (channel.swarm, channel.is_parent());
        let swarm = self.swarms.get(index);
        if status.depth > 0 && !had_root && swarm.is_some_and(|it| it.parent == Some(at)) {
            self.push_event(Event::Rooted { swarm: index });
        }
        if in_loop && is_asked {
            self.leave_loop(now, index, at);
        }
    }

    /// The peers from the source to us, ourselves last, for each group of substreams that come the same way; only ourselves
    /// while there is no parent.
    pub(super) fn paths(&self, index: usize) -> Vec<(Parts, Vec<PeerId>)> {
        let through = |at: usize, substream: u8| {
            let status = self.channels.get(at).and_then(|it| it.status.as_ref());
            let above = status.map_or(&[][..], |status| status.path_of(substream));
            let mut path: Vec<PeerId> = above.iter().copied().take(PATH_MAX).collect();
            path.push(self.peer_id);
            path
        };
        let Some(swarm) = self.swarms.get(index) else {
            return Vec::new();
        };
        let mut paths: Vec<(Parts, Vec<PeerId>)> = Vec::with_capacity(1);
        for (at, parts) in self.parents_of(index) {
            for substream in parts.common(swarm.layout.unwrap_or_default().all()).iter() {
                let (one, path) = (Parts::one(substream), through(at, substream));
                match paths.iter_mut().find(|(_, known)| *known == path) {
                    Some((along, _)) => *along = along.plus(one),
                    None => paths.push((one, path)),
                }
            }
        }
        if paths.is_empty() {
            paths.push((swarm.all_parts(), vec![self.peer_id]));
        }
        paths
    }

    /// The longest of them.
    pub(super) fn path(&self, swarm: usize) -> Vec<PeerId> {
        let paths = self.paths(swarm).into_iter().map(|(_, path)| path);
        paths.max_by_key(Vec::len).unwrap_or_default()
    }

    /// The same on the wire.
    pub(super) fn path_blocks(&self, swarm: usize) -> Vec<PathBlock> {
        let block = |(parts, path)| PathBlock {
            mask: Mask::from_parts(parts),
            path,
        };
        self.paths(swarm).into_iter().map(block).collect()
    }

    /// Hop latency from the parent: half the shortest of the recent round trips (algorithms §1.1, clocks unknown).
    pub(super) fn hop_latency(&self, swarm: usize) -> Option<Duration> {
        let parent = self.swarms.get(swarm)?.parent?;
        let channel = self.channels.get(parent)?;
        channel.rtt.is_known().then(|| channel.rtt.minimum() / 2)
    }

    /// Time from the source to us: the parent's, and the last hop.
    pub(super) fn cumulative_latency(&self, swarm: usize) -> Option<Duration> {
        let stream = self.swarms.get(swarm)?;
        if stream.is_source() {
            return Some(Duration::ZERO);
        }
        let status = self.channels.get(stream.parent?)?.status.as_ref()?;
        let parent = Duration::from_micros(u64::from(status.cumulative_latency_us));
        Some(cumulative(parent, self.hop_latency(swarm)?))
    }

    /// Our level, the source's is 1; none (0) while no path to the source is known.
    pub(super) fn depth(&self, swarm: usize) -> u8 {
        let rooted = self.swarms.get(swarm).is_some_and(|stream| {
            stream.is_source()
                || stream
                    .parent
                    .and_then(|at| self.channels.get(at))
                    .and_then(|channel| channel.status.as_ref())
                    .is_some_and(|status| status.depth > 0)
        });
        if rooted {
            u8::try_from(self.path(swarm).len()).unwrap_or(u8::MAX)
        } else {
            0
        }
    }

    pub(super) fn status_for(&mut self, at: usize) -> Option<Extension> {
        let index = self.channels.get(at)?.swarm;
        let paths = self.path_blocks(index);
        let depth = self.depth(index);
        let latency = self.cumulative_latency(index).map_or(0, micros);
        let slots_free = self.slots_free();
        let swarm = self.swarms.get(index)?;
        let substreams = swarm.terms.format.substreams;
        let channel = self.channels.get_mut(at)?;
        channel.status_seq = channel.status_seq.wrapping_add(1);
        let wanted = channel.subscription.map_or(Parts::NONE, |it| it.parts);
        Some(Extension::Status(Status {
            seq: channel.status_seq,
            heads: vec![swarm.head().unwrap_or_default(); usize::from(substreams)],
            wanted: Mask::from_parts(wanted),
            recv_kbps: u32::try_from(swarm.rate_bps / 1000).unwrap_or(u32::MAX),
            sent_kbps: u32::try_from(swarm.rate_bps / 1000 * swarm.children.len() as u64)
                .unwrap_or(u32::MAX),
            loss_permille: swarm.loss_permille(),
            cumulative_latency_us: u32::try_from(latency).unwrap_or(u32::MAX),
            jitter_us: u32::try_from(swarm.jitter.as_micros()).unwrap_or(u32::MAX),
            depth,
            slots_free,
            uplink_kbps: self
                .upload_limit_bps
                .map_or(0, |bps| u32::try_from(bps / 1000).unwrap_or(u32::MAX)),
            paths,
        }))
    }

    /// STATUS, with what we have before it, so that neighbours know whom to ask for repair.
    fn send_status(&mut self, now: Instant, at: usize) {
        let Some(status) = self.status_for(at) else {
            return;
        };
        let Some(channel) = self.channels.get_mut(at) else {
            return;
        };
        let Some(swarm) = self.swarms.get(channel.swarm) else {
            return;
        };
        let format = swarm.terms.format;
        // Who is being caught up would ask for what it is about to be sent; and the end of a recording by itself would
        // look as if there were nothing before it.
        let child = channel.subscriber.as_ref();
        let have = match child.map(|child| child.at_head) {
            Some(false) => None,
            at_head => swarm
                .head()
                .and_then(|head| swarm.window.complete().covering(head))
                .or_else(|| at_head.and_then(|_| swarm.recorded_end())),
        };
        let feedback = swarm.feedback().filter(|_| channel.is_parent());
        send(now, &mut self.outbox, channel, |out| {
            if let Some(range) = have {
                Message::Have(range).encode(&format, out);
            }
            status.encode(&format, out);
            if let Some(feedback) = feedback {
                Extension::QosFeedback(feedback).encode(&format, out);
            }
        });
    }

    pub(super) fn send_extension(&mut self, now: Instant, at: usize, extension: Extension) {
        let Some(channel) = self.channels.get_mut(at) else {
            return;
        };
        let Some(swarm) = self.swarms.get(channel.swarm) else {
            return;
        };
        let format = swarm.terms.format;
        send(now, &mut self.outbox, channel, |out| {
            extension.encode(&format, out)
        });
    }

    /// Leases, silences, STATUS and keepalives of all channels.
    pub(super) fn tick_channels(&mut self, now: Instant) {
        for swarm in &mut self.swarms {
            swarm.tick(now);
        }
        for at in self.channels.places() {
            let Some(channel) = self.channels.get_mut(at) else {
                continue;
            };
            if matches!(channel.phase, Phase::Opening { .. }) {
                self.resend_opening(now, at);
                continue;
            }
            let ours = self.extensions && channel.has_extensions();
            let silent = now - channel.last_heard;
            let dead = if ours {
                silent > SILENCE_MAX
            } else {
                silent > PLAIN_SILENCE_MAX && channel.unanswered >= PLAIN_UNANSWERED_MAX
            };
            if dead {
                self.forget(now, at, Loss::Silent);
                continue;
            }
            let lost = channel
                .in_flight
                .expire(now.saturating_sub(ACK_WAIT.max(channel.rtt.smoothed() * 4)));
            if lost > 0 {
                let rtt = channel.rtt.smoothed();
                channel.ledbat.on_loss(now, lost, rtt);
            }
            if channel
                .subscriber
                .as_ref()
                .is_some_and(|child| now > child.lease_end)
            {
                self.on_unsubscribe(at, Parts::ALL);
                continue;
            }
            if channel
                .subscriber
                .as_ref()
                .is_some_and(|child| !child.at_head)
            {
                self.pump(now, at);
            }
            let turn = self.is_status_turn(at);
            if ours {
                self.repeat_end(now, at);
            }
            let Some(channel) = self.channels.get(at) else {
                continue;
            };
            if ours && turn {
                self.send_status(now, at);
                if self
                    .channels
                    .get(at)
                    .is_some_and(|channel| channel.initiated && channel.probe.is_none())
                {
                    // Round-trip times to whoever we may need: half of one is the hop latency.
                    self.probe(now, at);
                }
            } else if now - channel.last_sent >= KEEPALIVE {
                let Some(channel) = self.channels.get_mut(at) else {
                    continue;
                };
                send(now, &mut self.outbox, channel, |_| {});
            }
            if !ours {
                self.serve_plain(now, at);
            }
        }
    }

    /// Whether it is a channel's turn in this second.
    pub(super) const fn is_status_turn(&self, at: usize) -> bool {
        (self.tick_count + at as u64).is_multiple_of(STATUS_TICKS)
    }

    /// Whether a channel reads our extensions and may be asked to push.
    pub(super) fn speaks_extensions(&self, channel: &Channel) -> bool {
        self.extensions && channel.has_extensions()
    }
}
