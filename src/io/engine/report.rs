//! What the loop tells: records to stats sinks, the metrics page, lines for people.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::{End, Engine, Run, peer_text};
use crate::ids::{PeerId, SwarmId};
use crate::io::lines::Sink;
use crate::io::metrics::Shared;
use crate::stats::timestamp::Timestamp;
use crate::stats::{Counters, Notice, Record, Recorder, Start, State, StateChange};
use crate::time::{Instant, micros};
use crate::wire::ChannelDescription;

/// Skipped chunks are summed up over this long before they are told.
const SKIPS_TOLD_EVERY: Duration = Duration::from_secs(10);
/// How long the last records may take to be written.
const CLOSE_SPAN: Duration = Duration::from_millis(500);

/// Something that shows a text to people.
pub type Teller = Box<dyn Fn(&str)>;

/// Where people see what is going on: a live line while nothing plays, or one line a second.
#[derive(Default)]
pub struct Show {
    /// Replaces the live line on standard error.
    pub live: Option<Teller>,
    /// Prints one line for people on standard output.
    pub line: Option<Teller>,
}

impl fmt::Debug for Show {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Show")
    }
}

/// Writes records and lines of one process.
#[derive(Debug)]
pub struct Reporter {
    recorders: Vec<Recorder>,
    sinks: Vec<Sink>,
    metrics: Option<Shared>,
    show: Show,
    interval: Duration,
    due: Instant,
    states: Vec<Option<State>>,
    first_media_at: Option<Instant>,
    skips: (Instant, u64),
    last_sent: (Instant, u64),
}

impl Reporter {
    /// Reports the channels of `recorders`, the first interval ending one `interval` from `now`.
    pub fn new(
        now: Instant,
        recorders: Vec<Recorder>,
        sinks: Vec<Sink>,
        metrics: Option<Shared>,
        show: Show,
        interval: Duration,
    ) -> Self {
        Self {
            states: vec![None; recorders.len()],
            recorders,
            sinks,
            metrics,
            show,
            interval,
            due: now + interval,
            first_media_at: None,
            skips: (now, 0),
            last_sent: (now, 0),
        }
    }

    /// When the next interval ends.
    pub const fn due(&self) -> Instant {
        self.due
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        now >= self.due
    }

    /// Writes the `start` record of every channel, each with its own of `swarms` where there are any.
    pub fn start(&self, now: Instant, start: &Start, swarms: &[SwarmId]) {
        for (channel, recorder) in self.recorders.iter().enumerate() {
            let mut start = start.clone();
            start.swarm = swarms.get(channel).map(SwarmId::to_string);
            self.send(recorder.line(now, Record::Start(start)));
        }
    }

    /// Unix time at `now`, as records say it.
    fn wall(&self, now: Instant) -> Timestamp {
        let recorder = self.recorders.first();
        recorder.map_or_else(Timestamp::default, |recorder| recorder.timestamp(now))
    }

    fn send(&self, line: String) {
        if let Some((last, others)) = self.sinks.split_last() {
            for sink in others {
                sink.send(line.clone());
            }
            last.send(line);
        }
    }

    pub(super) fn record(&self, now: Instant, channel: usize, record: Record) {
        if let Some(recorder) = self.recorders.get(channel)
            && !self.sinks.is_empty()
        {
            self.send(recorder.line(now, record));
        }
    }

    /// Opens files anew.
    pub fn reopen(&self) {
        for sink in &self.sinks {
            sink.reopen();
        }
    }

    /// Shows what is waited for on the live line.
    pub fn live(&self, text: &str) {
        if let Some(live) = &self.show.live {
            live(text);
        }
    }

    /// Something began or ended.
    pub(super) fn state(&mut self, now: Instant, channel: usize, mut change: StateChange) {
        if let Some(known) = self.states.get_mut(channel) {
            change.previous = known
                .replace(change.state)
                .filter(|before| *before != change.state);
        }
        self.record(now, channel, Record::State(change));
    }

    /// A line for people, and a `warn` record.
    pub(super) fn warn(&self, now: Instant, channel: usize, code: &str, message: &str) {
        tracing::warn!("{message}");
        self.note(now, channel, code, message);
    }

    /// A `warn` record alone.
    fn note(&self, now: Instant, channel: usize, code: &str, message: &str) {
        let notice = Notice {
            code: code.into(),
            message: message.into(),
            peer: None,
            exit: None,
        };
        self.record(now, channel, Record::Warn(notice));
    }

    /// Tells the other sinks what became of one; the log was told when it happened.
    fn note_lost_sinks(&self, now: Instant) {
        for sink in &self.sinks {
            if let Some(failure) = sink.take_failure() {
                self.note(now, 0, "stats_sink", &failure);
            }
        }
    }

    /// The first media byte went out (of a source: came in).
    pub(super) fn first_media(&mut self, now: Instant, channel: usize, chunk: u64) {
        self.first_media_at.get_or_insert(now);
        let join_us = micros(now - Instant::ZERO);
        let mut change = StateChange::to(State::Playing);
        change.chunk = Some(chunk);
        change.join_ms = Some(join_us as f64 / 1000.0);
        self.state(now, channel, change);
        self.live("");
        tracing::info!("first media after {:.3} s", join_us as f64 / 1e6);
    }

    pub(super) fn skipped(&mut self, now: Instant, channel: usize, chunk: u64, count: u64) {
        self.skips.1 += count;
        if now - self.skips.0 >= SKIPS_TOLD_EVERY || self.skips.1 == count {
            let text = format!(
                "{} chunks were not there when due, the last from {chunk} on",
                self.skips.1
            );
            self.warn(now, channel, "skipped", &text);
            self.skips = (now, 0);
        }
    }

    pub(super) fn stalled(&mut self, now: Instant, channel: usize) {
        tracing::warn!("stalled: no media to play");
        self.live("stalled: waiting for media");
        self.state(now, channel, StateChange::to(State::Stalled));
    }

    pub(super) fn resumed(&mut self, now: Instant, channel: usize, span: Duration) {
        self.live("");
        tracing::info!("playing again after {:.1} s", span.as_secs_f64());
        let mut change = StateChange::to(State::Playing);
        change.stall_ms = Some(micros(span) as f64 / 1000.0);
        self.state(now, channel, change);
    }

    pub(super) fn parent(
        &mut self,
        now: Instant,
        channel: usize,
        addr: SocketAddr,
        peer: Option<PeerId>,
        first: bool,
    ) {
        let mut change = StateChange::to(if first {
            State::Buffering
        } else {
            State::ParentChanged
        });
        change.peer = peer.map(|peer| peer.to_string());
        change.address = Some(addr.to_string());
        self.state(now, channel, change);
        let what = if first {
            "receiving from"
        } else {
            "now receiving from"
        };
        tracing::info!("{what} {}", peer_text(peer, addr));
        if self.first_media_at.is_none() {
            self.live(&format!("joined {addr}, waiting for media"));
        }
    }

    pub(super) fn parent_lost(
        &mut self,
        now: Instant,
        channel: usize,
        addr: SocketAddr,
        why: &str,
        is_usual: bool,
    ) {
        let mut change = StateChange::to(State::Reconnecting);
        change.address = Some(addr.to_string());
        change.reason = Some(why.into());
        self.state(now, channel, change);
        if is_usual {
            tracing::info!("{addr} left: {why}");
        } else {
            tracing::warn!("lost parent {addr}: {why}; looking for another");
        }
    }

    pub(super) fn described(&mut self, channel: usize, description: Bytes) {
        let Ok(description) = ChannelDescription::decode(description) else {
            return;
        };
        if let Some(recorder) = self.recorders.get_mut(channel) {
            recorder.set_name(&description.name);
        }
        if let Some(metrics) = &self.metrics {
            metrics.set_name(channel, &description.name);
        }
        match description.title.as_str() {
            "" => tracing::info!("channel {}", description.name),
            title => tracing::info!("channel {}: {title}", description.name),
        }
    }

    /// One line for people about all channels, once a second.
    fn people(&mut self, now: Instant, channels: &[Counters]) {
        let Some(line) = &self.show.line else { return };
        let sum = |of: fn(&Counters) -> u64| channels.iter().map(of).sum::<u64>();
        let sent = sum(|counters| counters.sent_bytes);
        let span = (now - self.last_sent.0).as_secs_f64().max(0.001);
        let mbps = sent.saturating_sub(self.last_sent.1) as f64 * 8e-6 / span;
        self.last_sent = (now, sent);
        line(&format!(
            "{} children, {mbps:.1} Mbit/s out, {} lost, {} repaired",
            sum(|counters| counters.children.unwrap_or(0)),
            sum(|counters| counters.lost_packets),
            sum(|counters| counters.repaired_packets),
        ));
    }
}

/// For programs without a node: the tracker.
impl Reporter {
    /// Ends an interval of the one channel there is.
    pub fn interval(&mut self, now: Instant, counters: &Counters) {
        let counters = &self.with_dropped(counters);
        while self.due <= now {
            self.due += self.interval;
        }
        if let Some(metrics) = &self.metrics {
            metrics.publish(self.wall(now), 0, counters);
            metrics.set_ready(true);
        }
        if !self.sinks.is_empty()
            && let Some(recorder) = self.recorders.first_mut()
        {
            let line = recorder.interval(now, counters);
            self.send(line);
        }
        self.note_lost_sinks(now);
    }

    fn with_dropped(&self, counters: &Counters) -> Counters {
        Counters {
            dropped_records: self.sinks.iter().map(Sink::dropped).sum(),
            ..counters.clone()
        }
    }

    /// One line for people, where they look.
    pub fn line(&self, text: &str) {
        if let Some(line) = &self.show.line {
            line(text);
        }
    }

    /// The last records, written out.
    pub fn close(mut self, now: Instant, counters: &Counters, exit: u8, reason: &str) {
        self.interval(now, counters);
        if let Some(recorder) = self.recorders.first() {
            let counters = self.with_dropped(counters);
            self.send(recorder.end(now, &counters, exit, reason));
        }
        for sink in self.sinks.drain(..) {
            sink.close(CLOSE_SPAN);
        }
    }
}

impl Engine {
    /// The counters of a channel with what only the shell knows, which counts with the first.
    fn full_counters(&self, run: &Run, now: Instant, channel: usize) -> Counters {
        let mut counters = self.node.counters(now, channel);
        if channel == 0 {
            counters.dropped_records = self.reporter.sinks.iter().map(Sink::dropped).sum();
            counters.kernel_dropped_packets = self.kernel_drops.count();
            if let Some(first) = self.reporter.first_media_at {
                counters.join_us = Some(micros(first - Instant::ZERO));
            }
            if self.counter.is_some() {
                counters.media_bytes = run.input_tally.bytes();
                counters.media_sha256 = Some(run.input_tally.sha256());
            } else if let Some(output) = self.outputs.first() {
                let totals = output.totals();
                counters.media_bytes = totals.bytes;
                counters.media_sha256 = Some(totals.sha256);
                counters.output_dropped_packets = self
                    .outputs
                    .iter()
                    .map(|output| output.totals().dropped_chunks)
                    .sum();
            }
        }
        counters
    }

    /// Ends an interval: records, metrics, reports to trackers.
    pub(super) fn report(&mut self, run: &Run, now: Instant) {
        // What waits is counted by its channel, but not yet by the node.
        self.transmit(now);
        let lost = self.node.lost_chunks();
        self.kernel_drops.look(now, lost, false);
        let reporter = &mut self.reporter;
        while reporter.due <= now {
            reporter.due += reporter.interval;
        }
        let channels: Vec<Counters> = (0..self.streams.len())
            .map(|channel| self.full_counters(run, now, channel))
            .collect();
        self.reporter.people(now, &channels);
        if let Some(metrics) = &self.reporter.metrics {
            let receives = |counters: &Counters| counters.parents.unwrap_or(1) > 0;
            metrics.set_ready(run.saw_media || channels.iter().any(receives));
        }
        for (channel, counters) in channels.iter().enumerate() {
            let reporter = &mut self.reporter;
            if let Some(metrics) = &reporter.metrics {
                metrics.publish(reporter.wall(now), channel, counters);
            }
            if !reporter.sinks.is_empty()
                && let Some(recorder) = reporter.recorders.get_mut(channel)
            {
                let mut lines = vec![recorder.interval(now, counters)];
                lines.extend(recorder.neighbours(now, &self.node.neighbours(now, channel)));
                for line in lines {
                    reporter.send(line);
                }
            }
        }
        self.reporter.note_lost_sinks(now);
    }

    /// Gives every tracker's next report what it needs.
    pub(super) fn tell_trackers(&mut self, now: Instant) {
        let slots_free = self.node.slots_free();
        for (channel, stream) in self.streams.iter_mut().enumerate() {
            if let Some(rendezvous) = stream.rendezvous.as_mut() {
                // Who has yet to join has nothing to give.
                let is_waiting = self.node.is_waiting(channel);
                let slots_free = if is_waiting { 0 } else { slots_free };
                rendezvous.set_facts(now, &self.node.counters(now, channel), slots_free);
            }
        }
    }

    /// The last records, written out.
    pub(super) fn report_end(&mut self, run: &Run, end: &End) {
        let now = self.clock.now();
        self.kernel_drops.look(now, self.node.lost_chunks(), true);
        self.report(run, now);
        let (exit, reason) = end.summary();
        for channel in 0..self.streams.len() {
            let counters = self.full_counters(run, now, channel);
            if let Some(recorder) = self.reporter.recorders.get(channel) {
                let line = recorder.end(now, &counters, exit, reason);
                self.reporter.send(line);
            }
        }
        self.reporter.live("");
        for sink in self.reporter.sinks.drain(..) {
            sink.close(CLOSE_SPAN);
        }
    }
}

impl End {
    /// Exit code and reason, as the `end` record has them.
    pub const fn summary(&self) -> (u8, &'static str) {
        match self {
            Self::Stopped => (0, "asked to stop"),
            Self::InputEnded => (0, "input ended"),
            Self::NoMedia(_) => (3, "no media"),
            Self::ChannelEnded => (0, "channel ended"),
            Self::ReaderClosed => (0, "reader closed the output"),
            Self::OutputFailed(_) => (8, "output failed"),
            Self::TimedOut => (4, "nobody could be reached in time"),
            Self::Refused(_) => (5, "refused"),
            Self::Sealed => (5, "sealed"),
            Self::Drained => (0, "drained"),
            Self::Answered => (0, "answered"),
            Self::NotFollowed(_) => (5, "refused"),
        }
    }
}
