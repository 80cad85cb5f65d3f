//! A clone and its user's peer: what either does when a question or an answer comes.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::{End, Engine, Run, peer_text};
use crate::ids::PeerId;
use crate::io::allow;
use crate::io::media::{Output, reason};
use crate::io::recording::{Loaded, Recording};
use crate::stats::{Record, StreamNotice, UserAnswer};
use crate::store::MunroIndex;
use crate::store::filed::Filed;
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
            && let Some(path) = self.record_to.take()
            && let Some(authority) = self.node.authority(0)
        {
            match Recording::create(&path, authority.clone()) {
                Ok((recording, output)) => self.record(recording, output),
                Err(error) => run.end = Some(End::OutputFailed(Arc::new(error))),
            }
        }
    }

    fn record(&mut self, recording: Recording, output: Output) {
        self.outputs.push(output);
        self.recording = Some(recording);
    }

    /// Goes on with a recording that the user asked for before the tool was started anew.
    ///
    /// # Errors
    ///
    /// What [`Recording::resume`] says.
    pub fn resume_recording(&mut self, path: &Path) -> io::Result<()> {
        let Some(authority) = self.node.authority(0) else {
            return Ok(());
        };
        let (recording, output, span) = Recording::resume(path, authority.clone())?;
        self.record(recording, output);
        self.node
            .resume_recording(0, span.map(|span| (span.first, span.end)));
        Ok(())
    }

    /// The player of the recording is through with a munro.
    pub(super) fn on_filed(&mut self, run: &mut Run, munro: Filed, sealed: Option<Bytes>) {
        let written = self.recording.as_mut().map(|it| it.file(munro, sealed));
        if let Some(Err(error)) = written {
            self.end_recording(run, &error);
        }
    }

    /// Somebody fetches what the window has no more.
    pub(super) fn on_load(&self, from: MunroIndex, most: usize) {
        if let Some(recording) = &self.recording {
            recording.load(from, most);
        }
    }

    /// Munros of the recording are here.
    pub(super) fn on_loaded(&mut self, Loaded { from, slots }: Loaded) {
        let now = self.clock.now();
        self.node.loaded(now, 0, from, slots);
    }

    /// The disk is full, or worse: what is there can still be fetched, and the stream goes on.
    pub(super) fn end_recording(&mut self, run: &mut Run, error: &io::Error) {
        let Some(recording) = &mut self.recording else {
            return;
        };
        let (path, why) = (recording.path().display(), reason(error));
        let text = format!("the recording ends here: cannot write {path}: {why}");
        recording.stop_writing();
        self.outputs.clear();
        self.blocking = false;
        run.held = None;
        self.node.end_recording(0);
        self.reporter.warn(self.clock.now(), 0, "record", &text);
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
