//! What happened in the node, handed on: media to outputs, news to trackers, records and people.

use super::{End, Engine, OnEnd, Run, trackers};
use crate::io::allow;
use crate::io::media::{MediaOut, Output};
use crate::node::{Event, Loss, Role};
use crate::stats::{State, StateChange};
use crate::store::playout::Release;
use crate::time::Instant;
use crate::wire::SubscribeReply;
use crate::wire::control::AnswerTaken;

impl Engine {
    /// Hands on what happened in the node.
    pub(super) fn take_events(&mut self, run: &mut Run, now: Instant) {
        self.offer_held(run);
        while run.held.is_none() || !self.blocking {
            let Some(event) = self.node.poll_event() else {
                break;
            };
            match event {
                Event::Playout { swarm, release } => self.on_release(run, now, swarm, release),
                Event::Sealed { swarm } => self.on_sealed(run, now, swarm),
                Event::Filed { munro, sealed, .. } => self.on_filed(run, *munro, sealed),
                Event::Load { from, most, .. } => self.on_load(from, most),
                event => self.on_event(run, now, event),
            }
        }
    }

    fn on_release(&mut self, run: &mut Run, now: Instant, swarm: usize, release: Release) {
        match release {
            Release::Media {
                chunk,
                payload,
                entry,
            } => {
                if !run.saw_media {
                    run.saw_media = true;
                    self.reporter.first_media(now, swarm, chunk.get());
                }
                let media = MediaOut {
                    bytes: payload,
                    entry,
                    chunk: chunk.get(),
                };
                if self.blocking && self.outputs.iter().any(Output::is_full) {
                    run.held = Some(media);
                    self.node.pause_playout(swarm, true);
                    return;
                }
                self.offer(&media);
            }
            Release::Lost { range, chunk_count } => {
                self.reporter
                    .skipped(now, swarm, range.first().get(), chunk_count);
            }
            Release::Jump(range) => tracing::debug!("the source skipped chunks {range}"),
            Release::Stalled => self.reporter.stalled(now, swarm),
            Release::Resumed(span) => self.reporter.resumed(now, swarm, span),
            Release::Ended => {
                self.reporter
                    .state(now, swarm, StateChange::to(State::Ended));
                match self.on_end {
                    OnEnd::Wait => self.node.go_on(swarm),
                    OnEnd::Exit => run.channels_ended += 1,
                }
            }
        }
    }

    /// With back-pressure: what could not be written goes first.
    fn offer_held(&mut self, run: &mut Run) {
        if run.held.is_some()
            && !self.outputs.iter().any(Output::is_full)
            && let Some(media) = run.held.take()
        {
            self.offer(&media);
            self.node.pause_playout(0, false);
        }
    }

    fn offer(&mut self, media: &MediaOut) {
        for output in &self.outputs {
            output.offer(media.clone());
        }
        if let Some(recording) = &mut self.recording {
            recording.note_media(media.bytes.len());
        }
    }

    fn on_event(&mut self, run: &mut Run, now: Instant, event: Event) {
        match event {
            Event::ParentChanged {
                swarm,
                addr,
                peer,
                first,
            } => {
                self.tell_trackers(now);
                self.want_parents(now, swarm, false);
                self.reporter.parent(now, swarm, addr, peer, first);
            }
            // Trackers send newcomers to those alone who have the stream.
            Event::Rooted { .. } => self.tell_trackers(now),
            Event::ParentLost {
                swarm,
                addr,
                reason,
            } => {
                // The question says that there is no parent any more: a provider looks for another seller then.
                self.tell_trackers(now);
                self.want_parents(now, swarm, true);
                let is_usual = matches!(reason, Loss::Ended | Loss::Moved);
                self.reporter
                    .parent_lost(now, swarm, addr, loss_text(reason), is_usual);
            }
            Event::ParentRefused {
                swarm,
                addr,
                reason,
            } => {
                self.want_parents(now, swarm, true);
                self.reporter.warn(
                    now,
                    swarm,
                    "refused",
                    &format!("{addr} does not take us: {}", refusal_text(reason)),
                );
            }
            Event::NeedParents { swarm } => self.want_parents(now, swarm, true),
            Event::ChildJoined { swarm, addr } => {
                tracing::debug!("{addr} joined");
                let stream = self.streams.get_mut(swarm);
                if self.node.is_closed(swarm)
                    && let Some(rendezvous) = stream.and_then(|stream| stream.rendezvous.as_mut())
                {
                    rendezvous.check_tickets(now);
                }
            }
            Event::ChildLeft { addr, .. } => tracing::debug!("{addr} left"),
            Event::ChildRefused { addr, why, .. } => tracing::debug!("refused {addr}: {why}"),
            Event::Described { swarm, description } => self.reporter.described(swarm, description),
            Event::Violated {
                addr,
                violation,
                banned,
            } => {
                let end = if banned { ": channel closed" } else { "" };
                self.reporter.warn(
                    now,
                    0,
                    "violation",
                    &format!("{violation} from {addr}{end}"),
                );
            }
            Event::Equivocation { swarm, chunk } => {
                let text = format!(
                    "the source signed chunk {chunk} twice with different contents: is its key stolen?"
                );
                self.reporter.warn(now, swarm, "equivocation", &text);
            }
            Event::Notice {
                swarm,
                addr,
                peer,
                notice,
            } => self.on_notice(now, swarm, addr, peer, &notice),
            Event::Answered {
                swarm,
                addr,
                peer,
                answer,
                taken,
            } => {
                let told = AnswerTaken { answer, taken };
                self.on_answered(run, now, swarm, addr, peer, told);
            }
            Event::Playout { .. }
            | Event::Sealed { .. }
            | Event::Filed { .. }
            | Event::Load { .. } => {}
        }
    }

    /// We cannot read what we get. Without a tracker nobody will ever give us the key.
    fn on_sealed(&self, run: &mut Run, now: Instant, swarm: usize) {
        let stream = self.streams.get(swarm);
        let has_tracker = stream.is_some_and(|stream| stream.rendezvous.is_some());
        run.sealed = true;
        if has_tracker || self.node.role() == Role::Relay {
            let text = "the channel is sealed and no tracker gave us the key: nothing is played";
            self.reporter.warn(now, swarm, "sealed", text);
        } else {
            run.end = Some(End::Sealed);
        }
    }

    pub(super) fn want_parents(&mut self, now: Instant, swarm: usize, wanting: bool) {
        if let Some(rendezvous) = self
            .streams
            .get_mut(swarm)
            .and_then(|stream| stream.rendezvous.as_mut())
        {
            rendezvous.want_parents(now, wanting);
        }
    }

    /// Reads the list of keys again; one that cannot be read leaves the old one standing.
    pub(super) fn reload_friends(&mut self) {
        let Some(path) = &self.allow else {
            return;
        };
        let now = self.clock.now();
        match allow::read(path) {
            Ok(friends) => {
                tracing::info!("{} keys in {}", friends.len(), path.display());
                self.node.set_friends(now, friends);
            }
            Err(why) => {
                let text = format!("kept the old list of keys: cannot read the new one: {why}");
                self.reporter.warn(now, 0, "allow", &text);
            }
        }
    }

    pub(super) fn take_tracker_news(&mut self, now: Instant) {
        for index in 0..self.streams.len() {
            let Some(rendezvous) = self
                .streams
                .get_mut(index)
                .and_then(|stream| stream.rendezvous.as_mut())
            else {
                continue;
            };
            while let Some(news) = rendezvous.poll_news() {
                match news {
                    trackers::News::Parents(addrs, parts) => {
                        self.node.set_candidates(now, index, &addrs);
                        // Without any it says nothing of who pushes what: that stands.
                        if !parts.is_empty() {
                            self.node.set_shares(now, index, &parts);
                        }
                    }
                    trackers::News::MoveTo(addr) => self.node.move_to(now, index, addr),
                    trackers::News::Ticket(ticket) => self.node.set_ticket(now, index, ticket),
                    trackers::News::Auth(auth) => {
                        // Whoever has a list of his own has closed the channel himself.
                        let closed = auth.closed || self.allow.is_some();
                        self.node.set_closed(now, index, closed, &auth.issuers);
                    }
                    trackers::News::Revoked(revoked) => self.node.revoke(now, &revoked),
                    trackers::News::Seal(seal) => {
                        let is_first = self.node.awaits_seal_key();
                        let (keys, with) = (&seal.keys, seal.seal_with);
                        if self.node.set_seal_keys(index, keys, with) {
                            let next = if is_first { "" } else { " with the next key" };
                            tracing::info!("sealing the media{next}");
                        }
                    }
                    trackers::News::Certificate(certificate) => {
                        self.node.set_certificate(now, index, certificate);
                    }
                    trackers::News::Trouble(text) => {
                        self.reporter.warn(now, index, "tracker", &text)
                    }
                    trackers::News::Fine(text) => tracing::info!("{text}"),
                }
            }
        }
    }
}

const fn loss_text(loss: Loss) -> &'static str {
    match loss {
        Loss::Left => "it left",
        Loss::Ended => "the channel ended",
        Loss::Silent => "it is silent",
        Loss::Starved => "others have more",
        Loss::Banned => "it sent what it may not",
        Loss::Loop => "it gets the stream from us",
        Loss::Moved => "the tracker wants us elsewhere",
    }
}

const fn refusal_text(reason: u8) -> &'static str {
    match reason {
        SubscribeReply::FULL => "full",
        SubscribeReply::LOOP => "it gets the stream from us",
        SubscribeReply::DEPTH => "too many hops from the source",
        SubscribeReply::AUTH => "the channel is closed to us: it takes a key or a ticket",
        SubscribeReply::NOT_HAVE => "it does not have the stream",
        _ => "its policy",
    }
}
