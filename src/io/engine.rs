//! The loop that drives one [`Node`]: sockets, timers, media in and out, trackers, signals, records.
//!
//! One thread does all of it; only outputs and stats sinks write from threads of their own, so that a stuck reader
//! never stalls the swarm.

mod clone;
mod events;
mod report;
mod source;
mod trackers;
mod waits;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;

pub use report::{Reporter, Show, Teller};
pub use source::{Counter, Resume};
pub use trackers::{Found, NotFound, Rendezvous, find_channel};

use super::clock::Clock;
use super::lifecycle::Lifecycle;
use super::media::{Input, MediaOut, Outcome, Output, Tally};
use super::recording::Recording;
use super::signal::{Signal, Signals};
use super::timer::Timer;
use super::udp::{KernelDrops, Received, Udp};
use crate::ids::PeerId;
use crate::media::Gather;
use crate::node::{Node, Port, Role};
use crate::stats::{State, StateChange};
use crate::time::Instant;
use crate::wire::Answer;

/// While media flows, what children send is read with it, and at the latest after this.
///
/// Several times the spacing of trains, so that this wait alone never wakes us while they come.
const LISTEN_PAUSE: Duration = Duration::from_millis(100);
/// So much earlier it is read with media that was waited for.
const LISTEN_EARLY: Duration = Duration::from_millis(25);
/// The same while children ask for repairs.
const LISTEN_PAUSE_URGENT: Duration = Duration::from_millis(1);
/// Children count as asking for repairs this long after they did.
const URGENT_SPAN: Duration = Duration::from_secs(2);
/// Media blocks read from the input in one go.
const INPUT_BLOCKS_MAX: usize = 64;
/// How long children get to fetch the rest of a stream that ended.
const DRAIN_SPAN: Duration = Duration::from_secs(5);
/// How long outputs get to write what is queued.
const OUTPUT_SPAN: Duration = Duration::from_secs(2);
/// How often what trackers are told is made anew; when it is sent, they say.
const TELL_TRACKERS: Duration = Duration::from_secs(1);
/// How long the goodbye to trackers may take: four round trips of TLS to the other side of the world, and some.
const LEAVE_SPAN: Duration = Duration::from_secs(1);

/// What happens when the source closes the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnEnd {
    /// Everything is played, then the tool ends.
    Exit,
    /// The tool stays for the next broadcast.
    Wait,
}

/// Why the loop ended.
#[derive(Debug)]
pub enum End {
    /// A signal asked for it.
    Stopped,
    /// The input ended and everybody has it.
    InputEnded,
    /// The input ended or failed before any media.
    NoMedia(Option<std::io::Error>),
    /// The source closed the channel.
    ChannelEnded,
    /// The reader of an output has enough.
    ReaderClosed,
    /// An output could not be written.
    OutputFailed(std::sync::Arc<std::io::Error>),
    /// Nobody could be reached in time.
    TimedOut,
    /// A tracker let nobody in for as long as there was time: why.
    Refused(String),
    /// The channel is sealed, and nobody gives us its key.
    Sealed,
    /// Asked to leave when empty, and empty.
    Drained,
    /// A clone has our answer, and that was all.
    Answered,
    /// A clone has our answer and does not do that.
    NotFollowed(Answer),
}

/// One channel as the shell sees it.
#[derive(Debug)]
pub struct Stream {
    /// What it is called in records and messages.
    pub name: String,
    /// How trackers are kept informed, where there are any.
    pub rendezvous: Option<Rendezvous>,
}

/// Everything the loop needs.
#[derive(Debug)]
pub struct Engine {
    /// The clock that the node was started by.
    pub clock: Clock,
    /// The node.
    pub node: Node,
    /// Where remotes come in.
    pub listen: Udp,
    /// Where remotes are called from.
    pub dial: Udp,
    /// The channels, in the order of the node's configuration.
    pub streams: Vec<Stream>,
    /// The media of a source.
    pub input: Option<Input>,
    /// How long media may wait to be signed.
    pub sign_delay: Duration,
    /// Where else the media of a source goes.
    pub tee: Option<Output>,
    /// Where the media of a player goes.
    pub outputs: Vec<Output>,
    /// Whether a full output holds the player up.
    pub blocking: bool,
    /// What to do when the source closes the channel.
    pub on_end: OnEnd,
    /// When to give up if nothing was played by then.
    pub timeout: Option<Duration>,
    /// List of the keys that media is given to, whatever trackers say.
    pub allow: Option<PathBuf>,
    /// List of the keys of a clone's user: nothing is joined before one of these says so.
    pub phones: Option<PathBuf>,
    /// The file that a clone makes when its user says record, until it is made.
    pub record_to: Option<PathBuf>,
    /// What a clone records, and gives to those who fetch it.
    pub recording: Option<Recording>,
    /// The timeout of a clone, from when it joins.
    pub patience: Option<Duration>,
    /// What is said to a clone that asks us.
    pub answer: Answer,
    /// Where the source's chunk numbers are kept.
    pub counter: Option<Counter>,
    /// What the kernel dropped of what came for us.
    pub kernel_drops: KernelDrops,
    /// Records, metrics and lines for people.
    pub reporter: Reporter,
}

/// What changes while the loop runs.
#[derive(Debug)]
struct Run {
    timer: Timer,
    answers: mpsc::UnboundedReceiver<trackers::Answer>,
    /// The listening socket is not watched before this.
    listen_at: Option<Instant>,
    urgent_at: Option<Instant>,
    input_tally: Tally,
    /// When an input that is left alone is read next; one that is watched has none.
    input_at: Option<Instant>,
    gather: Gather,
    input_done: Option<Instant>,
    saw_media: bool,
    /// There is media that we have no key to.
    sealed: bool,
    warned_raw: bool,
    held: Option<MediaOut>,
    channels_ended: usize,
    draining: bool,
    warned_mtu: bool,
    /// When trackers' next reports get fresh facts.
    tell_at: Instant,
    /// When the service manager wants to hear from us next.
    alive_at: Option<Instant>,
    end: Option<End>,
}

impl Engine {
    /// Runs until something ends it.
    ///
    /// # Errors
    ///
    /// When the runtime cannot watch sockets.
    pub async fn run(
        mut self,
        lifecycle: &mut Lifecycle,
        signals: &mut Signals,
    ) -> std::io::Result<End> {
        let (answer_to, answers) = mpsc::unbounded_channel();
        for (index, stream) in self.streams.iter_mut().enumerate() {
            if let Some(rendezvous) = &mut stream.rendezvous {
                rendezvous.attach(index, answer_to.clone());
            }
        }
        self.dial.arm()?;
        self.listen.arm()?;
        let mut run = Run {
            timer: Timer::new()?,
            answers,
            listen_at: None,
            urgent_at: None,
            input_tally: Tally::new(),
            input_at: None,
            gather: Gather::new(self.sign_delay),
            input_done: None,
            saw_media: false,
            sealed: false,
            warned_raw: false,
            held: None,
            channels_ended: 0,
            draining: false,
            warned_mtu: false,
            tell_at: Instant::ZERO,
            alive_at: lifecycle
                .watchdog_period()
                .map(|period| self.clock.now() + period),
            end: None,
        };
        let now = self.clock.now();
        self.node.handle_timeout(now);
        // The first request says what is known already.
        self.tell_trackers(now);
        while run.end.is_none() {
            self.step(&mut run);
            let now = self.clock.now();
            if run.alive_at.is_some_and(|at| now >= at) {
                lifecycle.alive();
                run.alive_at = lifecycle.watchdog_period().map(|period| now + period);
            }
            if run.end.is_some() {
                break;
            }
            self.wait(&mut run, signals, lifecycle).await?;
        }
        let end = run.end.take().unwrap_or(End::Stopped);
        lifecycle.stopping();
        self.finish(&run, &end).await;
        Ok(end)
    }

    /// Moves everything that can move without waiting.
    fn step(&mut self, run: &mut Run) {
        let now = self.clock.now();
        self.transmit(now);
        self.take_events(run, now);
        for stream in &mut self.streams {
            if let Some(rendezvous) = &mut stream.rendezvous {
                rendezvous.poll(now);
            }
        }
        self.take_tracker_news(now);
        if self.reporter.is_due(now) {
            self.warn_of_narrow_paths(run, now);
            self.report(run, now);
        }
        if now >= run.tell_at {
            run.tell_at = now + TELL_TRACKERS;
            self.tell_trackers(now);
        }
        if let Some(counter) = &mut self.counter
            && let Some(next) = self.node.source_next_chunk()
        {
            counter.keep_ahead(next, self.node.signing_time_us(now));
        }
        self.check_end(run, now);
        self.transmit(now);
    }

    /// Says once what cures datagrams that are longer than the path takes.
    fn warn_of_narrow_paths(&self, run: &mut Run, now: Instant) {
        if run.warned_mtu {
            return;
        }
        let too_long = self.listen.counters.too_long + self.dial.counters.too_long > 0;
        let swallowed =
            (0..self.streams.len()).find_map(|swarm| self.node.swallows_long_datagrams(now, swarm));
        let what = match swallowed {
            Some(parent) => format!("full-size datagrams from {parent} do not arrive"),
            None if too_long => "full-size datagrams are too long for a path".to_owned(),
            None => return,
        };
        run.warned_mtu = true;
        let text = format!("{what}: try --chunk-packets 6 or less at the source");
        self.reporter.warn(now, 0, "mtu", &text);
    }

    fn transmit(&mut self, now: Instant) {
        while let Some(transmit) = self.node.poll_transmit() {
            match transmit.port {
                Port::Listen => self.listen.send(now, &transmit),
                Port::Dial => self.dial.send(now, &transmit),
            }
        }
    }

    /// When the next thing is due.
    fn deadline(&self, run: &Run, now: Instant) -> Instant {
        let mut at = self.reporter.due().min(run.tell_at);
        at = at.min(self.node.poll_timeout(now).unwrap_or(at));
        for stream in &self.streams {
            if let Some(due) = stream
                .rendezvous
                .as_ref()
                .and_then(Rendezvous::poll_timeout)
            {
                at = at.min(due);
            }
        }
        if let Some(timeout) = self.timeout.filter(|_| !run.saw_media) {
            at = at.min(Instant::ZERO + timeout);
        }
        [
            run.listen_at,
            run.input_at,
            run.input_done.map(|since| since + DRAIN_SPAN),
            run.alive_at,
        ]
        .into_iter()
        .flatten()
        .fold(at, Instant::min)
    }

    async fn wait(
        &mut self,
        run: &mut Run,
        signals: &mut Signals,
        lifecycle: &Lifecycle,
    ) -> std::io::Result<()> {
        let now = self.clock.now();
        let deadline = self.deadline(run, now);
        run.timer.set(now, deadline)?;
        let full = self.blocking && run.held.is_some();
        // What comes before there is a key to seal with waits where it is.
        let takes_media = self.input.is_some() && !self.node.awaits_seal_key();
        let watches_media = takes_media && run.input_at.is_none();
        let Self {
            dial,
            listen,
            input,
            outputs,
            tee,
            recording,
            ..
        } = self;
        tokio::select! {
            biased;
            signal = signals.next() => self.on_signal(run, signal, lifecycle),
            () = dial.ready() => self.receive(run),
            () = listen.ready() => self.receive(run),
            media = waits::next_media(input), if watches_media => self.on_media(run, media),
            Some(answer) = run.answers.recv() => {
                let now = self.clock.now();
                if let Some(rendezvous) =
                    self.streams.get_mut(answer.stream).and_then(|stream| stream.rendezvous.as_mut())
                {
                    rendezvous.handle(now, answer);
                }
            }
            outcome = waits::first_ended(outputs), if !outputs.is_empty() => self.on_output_end(run, outcome),
            outcome = waits::tee_ended(tee), if tee.is_some() => {
                // The stream matters more than its copy: the tee is let go, unless it is why the tool runs.
                if let Outcome::Failed(error) = &outcome {
                    tracing::warn!("cannot write --tee output: {error}");
                }
                self.tee = None;
            }
            () = waits::first_ready(outputs), if full => {}
            loaded = waits::next_loaded(recording), if recording.is_some() => self.on_loaded(loaded),
            () = run.timer.rings() => {
                let now = self.clock.now();
                if run.listen_at.is_some_and(|at| now >= at) {
                    self.receive(run);
                }
            }
        }
        let now = self.clock.now();
        if run.input_at.is_some_and(|at| now >= at) {
            self.read_media(run);
            if run.listen_at.is_some_and(|at| now + LISTEN_EARLY >= at) {
                self.receive(run);
            }
        }
        if self.node.poll_timeout(now).is_some_and(|at| now >= at) {
            self.node.handle_timeout(now);
        }
        Ok(())
    }

    /// Reads both sockets dry. What came from parents goes on to children before their news is read.
    fn receive(&mut self, run: &mut Run) {
        let clock = self.clock;
        let now = clock.now();
        self.dial.flush(now);
        self.listen.flush(now);
        let node = &mut self.node;
        self.dial
            .receive(&clock, |received| take(node, &clock, Port::Dial, received));
        self.transmit(now);
        let node = &mut self.node;
        let drained = self.listen.receive(&clock, |received| {
            take(node, &clock, Port::Listen, received)
        });
        self.pace_listening(run, drained);
    }

    /// Decides whether to watch the listening socket, or to read it along with the next media.
    fn pace_listening(&mut self, run: &mut Run, drained: bool) {
        let now = self.clock.now();
        if self.node.take_listen_urgency() {
            run.urgent_at = Some(now);
        }
        if self.node.child_count() == 0 || !drained {
            run.listen_at = None;
            let _ = self.listen.arm();
            return;
        }
        let hurried = run.urgent_at.is_some_and(|at| now - at < URGENT_SPAN);
        run.listen_at = Some(
            now + if hurried {
                LISTEN_PAUSE_URGENT
            } else {
                LISTEN_PAUSE
            },
        );
        self.listen.disarm();
    }

    fn on_signal(&mut self, run: &mut Run, signal: Signal, lifecycle: &Lifecycle) {
        match signal {
            Signal::Stop => run.end = Some(End::Stopped),
            Signal::Reload => {
                self.reporter.reopen();
                self.reload_friends();
                self.reload_phones();
                tracing::info!("reopened stats files; other settings need a restart");
            }
            Signal::Report => self.report(run, self.clock.now()),
            Signal::Drain => {
                lifecycle.status("draining");
                self.node.drain();
                run.draining = true;
                let now = self.clock.now();
                for channel in 0..self.streams.len() {
                    self.reporter
                        .state(now, channel, StateChange::to(State::Draining));
                }
                tracing::info!("draining: no new children, leaving when none are left");
            }
        }
    }

    fn on_output_end(&mut self, run: &mut Run, (index, outcome): (usize, Outcome)) {
        match outcome {
            Outcome::Failed(error) if self.recording.is_some() => self.end_recording(run, &error),
            Outcome::Failed(error) => run.end = Some(End::OutputFailed(error)),
            Outcome::Closed if self.outputs.len() == 1 => run.end = Some(End::ReaderClosed),
            Outcome::Closed | Outcome::Finished | Outcome::Abandoned { .. } => {
                if index < self.outputs.len() {
                    self.outputs.remove(index);
                }
            }
        }
    }

    fn check_end(&mut self, run: &mut Run, now: Instant) {
        if let Some(since) = run.input_done
            && (self.node.is_drained(now) || now - since >= DRAIN_SPAN)
        {
            run.end = Some(End::InputEnded);
        }
        if run.channels_ended > 0 && run.channels_ended >= self.streams.len() {
            // Children below may still be fetching the end.
            let since = *run.input_done.get_or_insert(now);
            if self.node.is_drained(now) || now - since >= DRAIN_SPAN {
                run.end = Some(End::ChannelEnded);
            }
        }
        if self
            .timeout
            .is_some_and(|timeout| !run.saw_media && now >= Instant::ZERO + timeout)
        {
            // What plays nothing has what it came for when it has something for others.
            let receives = |channel| self.node.counters(now, channel).verified_packets > 0;
            if run.sealed && self.node.role() != Role::Relay {
                run.end = Some(End::Sealed);
            } else if (0..self.streams.len()).any(receives) {
                self.timeout = None;
            } else {
                let mut trackers = self.streams.iter().filter_map(|of| of.rendezvous.as_ref());
                let refused = trackers.find_map(Rendezvous::refused);
                run.end = Some(refused.map_or(End::TimedOut, |why| End::Refused(why.to_owned())));
            }
        }
        if run.draining && self.node.child_count() == 0 {
            run.end = Some(End::Drained);
        }
    }

    /// Says goodbye, writes what is queued, writes the last records.
    async fn finish(&mut self, run: &Run, end: &End) {
        let now = self.clock.now();
        if let Some(counter) = &mut self.counter
            && let Some(next) = self.node.source_next_chunk()
        {
            counter.settle(next, self.node.signing_time_us(now));
        }
        self.node.close(now);
        self.transmit(now);
        let leaving = self
            .streams
            .iter_mut()
            .filter_map(|stream| stream.rendezvous.as_mut());
        let leaves: Vec<_> = leaving.map(|rendezvous| rendezvous.leave(now)).collect();
        for output in self.outputs.iter().chain(&self.tee) {
            if !matches!(end, End::ReaderClosed | End::OutputFailed(_)) {
                output.finish(OUTPUT_SPAN).await;
            }
        }
        if let Some(recording) = &self.recording {
            recording.finish(OUTPUT_SPAN).await;
        }
        let _ = tokio::time::timeout(LEAVE_SPAN, async {
            for leave in leaves.into_iter().flatten() {
                let _ = leave.await;
            }
        })
        .await;
        self.report_end(run, end);
    }
}

fn take(node: &mut Node, clock: &Clock, port: Port, received: Received) {
    node.handle_datagrams(
        clock.now(),
        received.arrived,
        port,
        received.from,
        received.train,
        received.stride,
    );
}

/// A node's name for people.
pub fn peer_text(peer: Option<PeerId>, addr: SocketAddr) -> String {
    peer.map_or_else(|| addr.to_string(), |peer| format!("{addr} ({peer})"))
}

/// Where the counter of a channel is kept.
pub fn counter_path(state_dir: &std::path::Path, name: &str) -> PathBuf {
    state_dir.join(format!("{name}.next"))
}
