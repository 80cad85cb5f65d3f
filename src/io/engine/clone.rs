//! A clone and its user's peer: what either does when a question or an answer comes.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{End, Engine, Run, peer_text};
use crate::ids::PeerId;
use crate::io::allow;
use crate::io::media::Output;
use crate::stats::{Record, StreamNotice, UserAnswer};
use crate::time::Instant;
use crate::wire::Answer;
use crate::wire::control::{AnswerTaken, NotifyStream};

impl Engine {
    const fn is_clone(&self) -> bool {
        self.phones.is_some()
    }

    /// We asked our user, or a clone asks us.
    pub(super) fn on_notice(
        &mut self,
        now: Instant,
        swarm: usize,
        addr: SocketAddr,
        peer: Option<PeerId>,
        notice: &NotifyStream,
    ) {
        let record = StreamNotice {
            peer: peer.map(|peer| peer.to_string()),
            address: addr.to_string(),
            title: Some(notice.title.clone()).filter(|title| !title.is_empty()),
            can_record: notice.records,
        };
        self.reporter.record(now, swarm, Record::Notice(record));
        let who = peer_text(peer, addr);
        if self.is_clone() {
            tracing::info!("the channel streams: asked {who} what to do");
        } else {
            let title = match notice.title.as_str() {
                "" => &notice.channel,
                title => title,
            };
            let answer = self.answer.as_str();
            tracing::info!("{who} says that the channel streams ({title}): answering {answer}");
            self.node.answer(now, swarm, self.answer);
        }
    }

    /// Our user answered, or the clone has our answer.
    pub(super) fn on_answered(
        &mut self,
        run: &mut Run,
        now: Instant,
        swarm: usize,
        addr: SocketAddr,
        peer: Option<PeerId>,
        told: AnswerTaken,
    ) {
        let AnswerTaken { answer, taken } = told;
        let record = UserAnswer {
            peer: peer.map(|peer| peer.to_string()),
            address: addr.to_string(),
            answer,
            followed: taken,
        };
        self.reporter.record(now, swarm, Record::Answer(record));
        let who = peer_text(peer, addr);
        let word = answer.as_str();
        if self.is_clone() {
            tracing::info!("{who} answers {word}");
            if taken {
                self.follow(run, now, answer);
            }
        } else {
            tracing::info!("{who} has our answer: {word}");
            if !taken {
                run.end = Some(End::NotFollowed(answer));
            } else if answer != Answer::Watch {
                run.end = Some(End::Answered);
            }
        }
    }

    /// The node joins by itself; what is written is our affair.
    fn follow(&mut self, run: &mut Run, now: Instant, answer: Answer) {
        if answer == Answer::Ignore {
            return;
        }
        if let Some(patience) = self.patience.take() {
            self.timeout = Some((now - Instant::ZERO) + patience);
        }
        if answer == Answer::Record
            && let Some(path) = self.recording.take()
        {
            match Output::new_file(&path) {
                Ok(output) => self.outputs.push(output),
                Err(error) => run.end = Some(End::OutputFailed(Arc::new(error))),
            }
        }
    }

    /// Reads the list of the user's keys again; one that cannot be read leaves the old one standing.
    pub(super) fn reload_phones(&mut self) {
        let Some(path) = &self.phones else {
            return;
        };
        match allow::read(path) {
            Ok(phones) => {
                tracing::info!("{} keys in {}", phones.len(), path.display());
                self.node.set_phones(&phones);
            }
            Err(why) => {
                let text = format!("kept the old list of keys: cannot read the new one: {why}");
                self.reporter.warn(self.clock.now(), 0, "ask", &text);
            }
        }
    }
}
