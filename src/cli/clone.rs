//! A relay that waits for its user's word, and the peer that gives it: `--ask`, `--record`, `--answer`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::exit::{CliError, Exit, reason, shown_path};
use crate::ids::PeerKey;
use crate::io::allow;
use crate::io::engine::Engine;
use crate::io::recording::Recording;
use crate::store::playout::PlayoutConfig;
use crate::wire::Answer;

/// What the manual says of relays that ask.
pub(super) const NOTE_ASK: &str = "With --ask a relay announces itself to its trackers, and takes nothing of a channel \
    before a peer of its user says so: when the channel streams it tells those that call it and prove a key of the list, \
    until one answers. The answer holds for as long as the relay runs; one who ignored is asked again when his peer \
    comes again. What is recorded is all that the relay's own parents still hold when the answer comes, so a relay that \
    should have the beginning wants an early answer or sources with a long --window.";

/// What the manual says of recordings.
pub(super) const NOTE_RECORD: &str = "A recording is two files: the media, to be played as it is, and beside it FILE.proofs, \
    170 bytes for every 32 chunks or less; of a sealed channel FILE.sealed as well, with the chunks as they came. With \
    these the relay gives the recording to whoever may have the channel and asks for it, from its first chunk on with \
    p2ps-peer --from oldest: up to sixteen times as fast as it was signed, then live without a seam where the stream \
    still runs. The peer verifies each chunk as always. It should write to a file, with --no-skip and --blocking: a player \
    at the end of a pipe is slower than that. Started again with the same --record, also after a crash, the relay asks \
    nobody, goes on recording, and gives what it has. A disk that is full ends the recording, and not the stream. For a new \
    recording give another name, or remove all files of the old one.";

/// Whom a relay asks before it joins.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Channel")]
pub struct AskArgs {
    /// Join when a peer that proves a key of this list answers watch or record, and not before; one key a line as
    /// p2ps-source keygen prints it. SIGHUP reads it again.
    #[arg(long, value_name = "FILE")]
    pub ask: Option<PathBuf>,
    /// File for the media when the answer is record, from the oldest that can be had, and to give it from to those who
    /// fetch it later; one that is there is gone on with. With --ask, one channel only.
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
}

/// Checked [`AskArgs`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// List of the keys of the user's peers.
    pub phones: PathBuf,
    /// Where a recording goes.
    pub record: Option<PathBuf>,
}

impl AskArgs {
    /// Settings; `channels` are carried, and perhaps written to outputs as well.
    pub(super) fn check(self, channels: usize, has_output: bool) -> Result<Option<Ask>, CliError> {
        let Some(phones) = self.ask else {
            let why = "say whom to ask";
            return match self.record {
                Some(_) => Err(CliError::usage("--record without --ask", why)),
                None => Ok(None),
            };
        };
        if has_output {
            return Err(CliError::exclusive("--ask", "--output"));
        }
        if let Some(path) = &self.record {
            if channels > 1 {
                let why = "--record takes one";
                return Err(CliError::usage(format!("{channels} channels"), why));
            }
            if path.as_os_str() == "-" || path.as_os_str().is_empty() {
                let what = format!("bad --record {}", shown_path(path));
                return Err(CliError::usage(what, "need the name of a file"));
            }
        }
        Ok(Some(Ask {
            phones,
            record: self.record,
        }))
    }
}

impl Ask {
    /// Reads the list, and sees that the recording can be made or gone on with: who answers record should not wait for a
    /// refusal.
    pub(super) fn load(&self) -> Result<BTreeSet<PeerKey>, CliError> {
        if let Some(path) = self.record.as_ref().filter(|it| !Recording::is_begun(it)) {
            Recording::check_new(path).map_err(|error| CliError::open(&error, Exit::Output))?;
        }
        allow::read(&self.phones).map_err(|why| {
            CliError::usage(format!("cannot read {}", shown_path(&self.phones)), why)
        })
    }

    /// Makes the node of `engine` ask first.
    ///
    /// # Errors
    ///
    /// When a recording is there that cannot be gone on with.
    pub(super) fn apply(
        &self,
        engine: &mut Engine,
        phones: &BTreeSet<PeerKey>,
        latency: Duration,
    ) -> Result<(), CliError> {
        // A recording that lacks something is worth less than one that is late.
        let recording = self.record.as_ref().map(|_| PlayoutConfig {
            latency,
            skip: false,
        });
        for channel in 0..engine.streams.len() {
            engine.node.ask_first(channel, phones.clone(), recording);
        }
        engine.phones = Some(self.phones.clone());
        engine.blocking = self.record.is_some();
        // There is no hurry before the user has answered.
        engine.patience = engine.timeout.take();
        match &self.record {
            // The user's answer was record, before we were started anew.
            Some(path) if Recording::is_begun(path) => {
                engine.resume_recording(path).map_err(|error| {
                    let what = format!("cannot go on with {}", shown_path(path));
                    CliError::new(Exit::Output, what, reason(&error))
                })
            }
            path => {
                engine.record_to.clone_from(path);
                Ok(())
            }
        }
    }
}

/// What a peer says when a relay asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Say {
    /// Play the stream from that relay.
    Watch,
    /// Have the relay keep it, and exit.
    Record,
    /// Want nothing of it, and exit.
    Ignore,
}

impl Say {
    /// On the wire.
    pub(super) const fn answer(self) -> Answer {
        match self {
            Self::Watch => Answer::Watch,
            Self::Record => Answer::Record,
            Self::Ignore => Answer::Ignore,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ask: Option<&str>, record: Option<&str>, channels: usize) -> Result<bool, String> {
        let args = AskArgs {
            ask: ask.map(PathBuf::from),
            record: record.map(PathBuf::from),
        };
        args.check(channels, false)
            .map(|ask| ask.is_some())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_recording_needs_somebody_to_ask_and_one_channel() {
        assert_eq!(check(None, None, 2), Ok(false));
        assert_eq!(check(Some("phones"), None, 2), Ok(true));
        assert_eq!(check(Some("phones"), Some("film.ts"), 1), Ok(true));
        for (ask, record, channels, why) in [
            (
                None,
                Some("film.ts"),
                1,
                "--record without --ask: say whom to ask",
            ),
            (
                Some("phones"),
                Some("film.ts"),
                2,
                "2 channels: --record takes one",
            ),
            (
                Some("phones"),
                Some("-"),
                1,
                "bad --record \"-\": need the name of a file",
            ),
        ] {
            assert_eq!(check(ask, record, channels), Err(why.to_owned()));
        }
        let both = AskArgs {
            ask: Some("phones".into()),
            record: None,
        };
        let error = both.check(1, true).expect_err("an output");
        assert_eq!(error.to_string(), "--ask and --output exclude each other");
    }
}
