//! A clone and its user (algorithms §3.3): the clone says that a channel streams, the user answers watch, record or
//! ignore, and until then the clone takes nothing of the stream.
//!
//! Who the user is his key says: the clone asks only callers that have proven one of those it was given, and takes an
//! answer only from whom it asked. A user's peer listens only to those it calls itself and whom the user or a tracker
//! named. Both sides repeat themselves, since datagrams get lost, and both stop.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Event, Node, Port};
use crate::ids::{ChannelId, PeerKey};
use crate::peer::channel::Channel;
use crate::store::playout::PlayoutConfig;
use crate::time::Instant;
use crate::wire::control::{Answer, AnswerTaken, ControlBody, NotifyStream, WatchAnswer};
use crate::wire::extension::Control;
use crate::wire::{ChannelDescription, Extension};

/// Neighbours asked at once: a user has a few devices.
const ASKED_MAX: usize = 16;
/// A notice without an answer is sent again, ever more seldom: people take their time.
const NOTICE_AGAIN: Duration = Duration::from_millis(500);
const NOTICE_AGAIN_MOST: Duration = Duration::from_secs(16);
/// After about eight minutes the user is not there; he is asked again when his peer comes again.
const NOTICES_MAX: u32 = 32;
/// An answer that was not confirmed is sent again: here only the network takes its time.
const ANSWER_AGAIN: Duration = Duration::from_millis(250);
const ANSWER_AGAIN_MOST: Duration = Duration::from_secs(4);
const ANSWERS_MAX: u32 = 16;
/// A caller gets so long to prove its key before its subscription is answered.
const PROOF_SPAN: Duration = Duration::from_secs(1);

/// What a clone knows of its user.
#[derive(Debug)]
pub(super) struct Asking {
    /// Keys of his devices.
    phones: BTreeSet<PeerKey>,
    /// How the stream would be written, where it can be.
    recording: Option<PlayoutConfig>,
    /// Whoever was asked, by our channel identifier.
    asked: BTreeMap<ChannelId, Asked>,
    /// What was answered by whom the clone then followed.
    followed: Option<Answer>,
}

/// A question to one neighbour.
#[derive(Clone, Copy, Debug)]
struct Asked {
    request: u32,
    next: Instant,
    tries: u32,
    /// The answer, and whether it was followed.
    answer: Option<AnswerTaken>,
}

/// The question that a clone put to us.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    /// Our identifier of its channel.
    from: ChannelId,
    request: u32,
    answer: Option<Answer>,
    next: Instant,
    tries: u32,
    is_confirmed: bool,
}

#[cfg(test)]
impl Heard {
    pub(super) const fn request(&self) -> u32 {
        self.request
    }
}

impl Asking {
    /// The neighbour of a channel is gone; when it comes again it is asked again.
    pub(super) fn forget(&mut self, local: ChannelId) {
        self.asked.remove(&local);
    }

    /// Whether a key is the user's.
    pub(super) fn is_of_user(&self, key: &PeerKey) -> bool {
        self.phones.contains(key)
    }

    /// The answer was record before the clone was started anew: how the stream is written.
    pub(super) fn resume(&mut self) -> Option<PlayoutConfig> {
        let recording = self.recording?;
        self.followed = Some(Answer::Record);
        Some(recording)
    }

    /// What a clone that was told to record says when it is asked to watch, and so on.
    fn judge(&self, answer: Answer) -> bool {
        match (self.followed, answer) {
            (_, Answer::Watch | Answer::Ignore) => true,
            (None, Answer::Record) => self.recording.is_some(),
            (Some(followed), Answer::Record) => followed == Answer::Record,
        }
    }
}

impl Node {
    /// Makes the node a clone in one of its channels: it does not join before one of the `phones` says so. With
    /// `recording` it can also be told to play the stream from its oldest chunk on, to a file.
    pub fn ask_first(
        &mut self,
        index: usize,
        phones: BTreeSet<PeerKey>,
        recording: Option<PlayoutConfig>,
    ) {
        if let Some(swarm) = self.swarms.get_mut(index) {
            swarm.is_waiting = true;
            swarm.asking = Some(Asking {
                phones,
                recording,
                asked: BTreeMap::new(),
                followed: None,
            });
        }
    }

    /// Gives a clone another list of its user's keys.
    pub fn set_phones(&mut self, phones: &BTreeSet<PeerKey>) {
        for asking in self.swarms.iter_mut().filter_map(|it| it.asking.as_mut()) {
            asking.phones.clone_from(phones);
        }
    }

    /// Joins nobody in this channel before [`answer`](Self::answer) says watch.
    pub fn hold_back(&mut self, index: usize) {
        if let Some(swarm) = self.swarms.get_mut(index) {
            swarm.is_waiting = true;
        }
    }

    /// Whether the node has yet to join a channel, because nobody said so.
    pub fn is_waiting(&self, index: usize) -> bool {
        self.swarms.get(index).is_some_and(|swarm| swarm.is_waiting)
    }

    /// What the user says to the notice that came last.
    pub fn answer(&mut self, now: Instant, index: usize, answer: Answer) {
        let Some(swarm) = self.swarms.get_mut(index) else {
            return;
        };
        if let Some(heard) = &mut swarm.heard
            && heard.answer.is_none()
        {
            heard.answer = Some(answer);
            heard.next = now;
        }
        if answer == Answer::Watch && swarm.asking.is_none() {
            swarm.is_waiting = false;
        }
        self.tick_notices(now, index);
        self.drive_parents(now, index);
        self.flush(now);
    }

    /// Whether a neighbour has proven that it is the user's.
    pub(super) fn is_phone(&self, channel: &Channel) -> bool {
        let asking = self
            .swarms
            .get(channel.swarm)
            .and_then(|it| it.asking.as_ref());
        asking.is_some_and(|asking| {
            self.proven_key(channel)
                .is_some_and(|key| asking.phones.contains(&key))
        })
    }

    /// Whether a caller is to be asked for its key because it may be the user's.
    pub(super) fn wants_key(&self, channel: &Channel) -> bool {
        let swarm = self.swarms.get(channel.swarm);
        channel.port == Port::Listen
            && swarm.is_some_and(|swarm| swarm.is_waiting && swarm.asking.is_some())
    }

    /// Whether a subscription is not answered yet: who asks has yet to prove whose peer it is.
    pub(super) fn awaits_key(&self, now: Instant, at: usize) -> bool {
        self.channels.get(at).is_some_and(|channel| {
            self.wants_key(channel)
                && self.proven_key(channel).is_none()
                && now - channel.opened_at < PROOF_SPAN
        })
    }

    /// Asks the user when there is something to ask, and repeats what was lost.
    pub(super) fn tick_notices(&mut self, now: Instant, index: usize) {
        let Some(swarm) = self.swarms.get(index) else {
            return;
        };
        if swarm.asking.is_some() && swarm.is_waiting {
            self.ask_phones(now, index);
        }
        self.repeat_answer(now, index);
    }

    fn ask_phones(&mut self, now: Instant, index: usize) {
        let callers: Vec<usize> = self
            .channels
            .iter()
            .filter(|(_, it)| it.swarm == index && it.hello.is_some() && self.wants_key(it))
            .map(|(at, _)| at)
            .collect();
        let streams = self.streams_above(index);
        for at in callers {
            let Some(channel) = self.channels.get(at) else {
                continue;
            };
            if self.is_phone(channel) {
                if streams {
                    self.notify(now, index, at);
                }
            } else if self.proven_key(channel).is_none() && self.is_status_turn(at) {
                // The first one, or the answer, was lost.
                self.challenge(now, at);
            }
        }
    }

    /// Whether somebody that we could join has some of the stream, and a way to its source.
    fn streams_above(&self, index: usize) -> bool {
        self.channels.iter().any(|(_, channel)| {
            channel.initiated
                && channel.swarm == index
                && channel.is_open()
                && channel.newest_announced.is_some()
                && channel
                    .status
                    .as_ref()
                    .is_some_and(|status| status.depth > 0)
                && !self.leads_through_us(channel)
        })
    }

    /// Tells a neighbour that is the user's, unless it was told a moment ago or has answered.
    fn notify(&mut self, now: Instant, index: usize, at: usize) {
        let request = self.rng.next_u32();
        let Some(local) = self.channels.get(at).map(|channel| channel.local) else {
            return;
        };
        let Some(swarm) = self.swarms.get_mut(index) else {
            return;
        };
        let Some(asking) = &mut swarm.asking else {
            return;
        };
        if !asking.asked.contains_key(&local) && asking.asked.len() >= ASKED_MAX {
            return;
        }
        let is_new = !asking.asked.contains_key(&local);
        let asked = asking.asked.entry(local).or_insert(Asked {
            request,
            next: now,
            tries: 0,
            answer: None,
        });
        if asked.answer.is_some() || asked.tries >= NOTICES_MAX || now < asked.next {
            return;
        }
        asked.next = now + (NOTICE_AGAIN * (1 << asked.tries.min(8))).min(NOTICE_AGAIN_MOST);
        asked.tries += 1;
        let request = asked.request;
        let described = swarm.description.clone();
        let described = described.and_then(|bytes| ChannelDescription::decode(bytes).ok());
        let (channel, title) = described.map_or_else(Default::default, |it| (it.name, it.title));
        let notice = NotifyStream {
            channel,
            title,
            records: asking.recording.is_some(),
        };
        if is_new && let Some(channel) = self.channels.get(at) {
            self.push_event(Event::Notice {
                swarm: index,
                addr: channel.addr,
                peer: channel.peer_id(),
                notice: notice.clone(),
            });
        }
        self.send_control(now, at, request, &ControlBody::NotifyStream(notice));
    }

    fn repeat_answer(&mut self, now: Instant, index: usize) {
        let Some(heard) = self
            .swarms
            .get_mut(index)
            .and_then(|swarm| swarm.heard.as_mut())
        else {
            return;
        };
        let Some(answer) = heard.answer else {
            return;
        };
        if heard.is_confirmed || heard.tries >= ANSWERS_MAX || now < heard.next {
            return;
        }
        let Some(at) = self.channels.find(heard.from) else {
            return;
        };
        heard.next = now + (ANSWER_AGAIN * (1 << heard.tries.min(8))).min(ANSWER_AGAIN_MOST);
        heard.tries += 1;
        let request = heard.request;
        let body = ControlBody::WatchAnswer(WatchAnswer { answer });
        self.send_control(now, at, request, &body);
    }

    fn send_control(&mut self, now: Instant, at: usize, request: u32, body: &ControlBody) {
        let control = Control {
            kind: body.kind(),
            request,
            body: body.encode().into(),
        };
        self.send_extension(now, at, Extension::Control(control));
    }

    /// CONTROL: what cannot be read, and what we did not ask for or may not be told, is passed over.
    pub(super) fn on_control(&mut self, now: Instant, at: usize, control: &Control) {
        let Some(channel) = self.channels.get_mut(at) else {
            return;
        };
        if !channel.controls.take(now) {
            return;
        }
        match ControlBody::decode(control.kind, &control.body) {
            Some(ControlBody::NotifyStream(notice)) => {
                self.on_notice(now, at, control.request, notice);
            }
            Some(ControlBody::WatchAnswer(answer)) => {
                self.on_watch_answer(now, at, control.request, answer.answer);
            }
            Some(ControlBody::AnswerTaken(taken)) => self.on_taken(at, control.request, taken),
            None => {}
        }
    }

    /// Somebody says that the channel streams: believed of those that we called because the user or a tracker named them.
    fn on_notice(&mut self, now: Instant, at: usize, request: u32, notice: NotifyStream) {
        let Some(channel) = self.channels.get(at).filter(|it| it.initiated) else {
            return;
        };
        let (index, addr, from, peer) = (
            channel.swarm,
            channel.addr,
            channel.local,
            channel.peer_id(),
        );
        let Some(swarm) = self.swarms.get_mut(index) else {
            return;
        };
        // A clone is nobody's phone.
        if !swarm.candidates.is_vouched_for(addr) || swarm.asking.is_some() {
            return;
        }
        if let Some(heard) = &mut swarm.heard
            && heard.from == from
            && heard.request == request
        {
            // Our answer was lost.
            if heard.answer.is_some() {
                heard.next = now;
                heard.tries = heard.tries.min(ANSWERS_MAX - 1);
                self.repeat_answer(now, index);
            }
            return;
        }
        swarm.heard = Some(Heard {
            from,
            request,
            answer: None,
            next: now,
            tries: 0,
            is_confirmed: false,
        });
        self.push_event(Event::Notice {
            swarm: index,
            addr,
            peer,
            notice,
        });
    }

    /// The user says what he wants: taken once, and only from whom it was asked.
    fn on_watch_answer(&mut self, now: Instant, at: usize, request: u32, answer: Answer) {
        let Some(channel) = self.channels.get(at) else {
            return;
        };
        let (index, addr, peer, local) = (
            channel.swarm,
            channel.addr,
            channel.peer_id(),
            channel.local,
        );
        // The list may have been changed since.
        let is_phone = self.is_phone(channel);
        let Some(swarm) = self.swarms.get_mut(index) else {
            return;
        };
        let Some(asking) = &mut swarm.asking else {
            return;
        };
        let taken = asking.judge(answer);
        let Some(asked) = asking
            .asked
            .get_mut(&local)
            .filter(|asked| is_phone && asked.request == request)
        else {
            return;
        };
        let is_first = asked.answer.is_none();
        let confirmation = *asked.answer.get_or_insert(AnswerTaken { answer, taken });
        let body = ControlBody::AnswerTaken(confirmation);
        self.send_control(now, at, request, &body);
        if !is_first {
            return;
        }
        self.push_event(Event::Answered {
            swarm: index,
            addr,
            peer,
            answer,
            taken,
        });
        if taken && answer != Answer::Ignore {
            self.join(now, index, answer);
        }
    }

    /// Takes part in the channel from now on.
    fn join(&mut self, now: Instant, index: usize, answer: Answer) {
        let Some(swarm) = self.swarms.get_mut(index).filter(|it| it.is_waiting) else {
            return;
        };
        swarm.is_waiting = false;
        if let Some(asking) = &mut swarm.asking {
            asking.followed = Some(answer);
            if answer == Answer::Record
                && let Some(recording) = asking.recording
            {
                swarm.record(recording);
                swarm.start_archive(None);
            }
        }
        self.drive_parents(now, index);
    }

    /// The clone has our answer.
    fn on_taken(&mut self, at: usize, request: u32, taken: AnswerTaken) {
        let Some(channel) = self.channels.get(at) else {
            return;
        };
        let (index, addr, peer, local) = (
            channel.swarm,
            channel.addr,
            channel.peer_id(),
            channel.local,
        );
        let Some(heard) = self
            .swarms
            .get_mut(index)
            .and_then(|swarm| swarm.heard.as_mut())
        else {
            return;
        };
        let is_ours =
            heard.from == local && heard.request == request && heard.answer == Some(taken.answer);
        if is_ours && !std::mem::replace(&mut heard.is_confirmed, true) {
            self.push_event(Event::Answered {
                swarm: index,
                addr,
                peer,
                answer: taken.answer,
                taken: taken.taken,
            });
        }
    }
}
