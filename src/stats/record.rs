//! The records themselves: one JSON object a line, schema `p2ps.qos/1`.
//!
//! Every record begins with the same head. Fields keep the order of the structs here. A value that is not known or
//! not a finite number stays out. No line reaches [`LINE_MAX`] bytes: free text is cut, the rest is bounded by its types.

use std::collections::BTreeMap;
use std::time::Duration;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use crate::qos::latency::{Flow, bandwidth_known, bandwidth_measured};
use crate::qos::{Histogram, loss, playback};
use crate::stats::SCHEMA;
use crate::stats::counters::{
    Counters, Deltas, Gauges, NUMBER_MAX, NeighbourCounters, Path, Role, Tool, Totals, milliseconds,
};
use crate::stats::timestamp::Timestamp;

/// No line is as long as this, its line feed included.
pub const LINE_MAX: usize = 4096;

/// Peers of the root path that a record lists, those nearest to the source first.
const ROOT_PATH_MAX: usize = 32;

/// Bytes of a node's or channel's name in a record; longer ones are cut.
const NAME_BYTES_MAX: usize = 128;

/// What every record begins with, after `event`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// When it was written.
    pub ts: Timestamp,
    /// Milliseconds since the program started, by the monotone clock.
    pub up_ms: u64,
    /// The program.
    pub tool: Tool,
    /// Who writes: a peer id in hexadecimal, or the name of a tracker.
    pub node: String,
    /// The channel's name, or its identifier when it has none; `*` where a record is about all of them.
    pub channel: String,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Record {
    /// The program is up.
    Start(Start),
    /// What happened since the last one.
    Interval(Box<Interval>),
    /// Something began or ended.
    State(StateChange),
    /// Something is not as it should be; the program goes on.
    Warn(Notice),
    /// Something failed.
    Error(Notice),
    /// One neighbour.
    Neighbour(Box<Neighbour>),
    /// The program is done.
    End(Box<End>),
}

/// The program is up: what it understood and what it got.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// Version of the program.
    pub version: String,
    /// Name of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Process id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Time between `interval` records, in ms.
    pub interval_ms: u64,
    /// Addresses really bound.
    pub listen: Vec<String>,
    /// Swarm identifier in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swarm: Option<String>,
    /// Receive buffer of the socket as the kernel granted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recv_buffer_bytes: Option<u64>,
    /// Send buffer of the socket as the kernel granted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_buffer_bytes: Option<u64>,
    /// Settings as understood, by flag name without dashes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    /// The command line, secrets left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

impl Start {
    /// The start of this version of the program.
    pub fn new(interval: Duration) -> Self {
        Self {
            schema: SCHEMA.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            interval_ms: milliseconds_of(interval),
            ..Self::default()
        }
    }
}

/// Ratios and rates, all derived from two snapshots.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Packets lost divided by packets expected, before repair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_ratio: Option<f64>,
    /// Packets there when due divided by packets due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continuity_ratio: Option<f64>,
    /// Media sent divided by media received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contribution_ratio: Option<f64>,
    /// Joins rejected divided by joins asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reject_ratio: Option<f64>,
    /// Mbit/s sent, everything included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_mbps: Option<f64>,
    /// Mbit/s received, everything included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recv_mbps: Option<f64>,
    /// Bit rate of the media in Mbit/s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_mbps: Option<f64>,
    /// Upload in use, children times bit rate, in Mbit/s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth_mbps: Option<f64>,
    /// Upload capacity estimated, in Mbit/s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplink_mbps: Option<f64>,
    /// Mean size of an audio packet in bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_packet_bits: Option<f64>,
    /// Mean size of a video packet in bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video_packet_bits: Option<f64>,
    /// Time that output stood still, in ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stall_ms: Option<f64>,
}

impl Rates {
    fn between(before: &Counters, after: &Counters, elapsed: Duration) -> Self {
        let grown = |field: fn(&Counters) -> u64| field(after).saturating_sub(field(before));
        let seconds = elapsed.as_secs_f64();
        let mbps = |bits: f64| finite(bits / seconds / 1e6, 6);
        let ratio = |part: u64, whole: u64| finite(part as f64 / whole as f64, 6);

        // Received for the first time and not by repair; the rest of what was expected was lost.
        let received = grown(|c| c.recv_packets)
            .saturating_sub(grown(|c| c.duplicate_packets))
            .saturating_sub(grown(|c| c.repaired_packets));
        let stream_bytes = grown(|c| c.media_bytes).max(grown(|c| c.recv_media_bytes));
        let stream_bits = stream_bytes as f64 * 8.0;
        let audio = Kind::new(grown(|c| c.audio_packets), grown(|c| c.audio_bits), seconds);
        let video = Kind::new(grown(|c| c.video_packets), grown(|c| c.video_bits), seconds);
        let bandwidth = after.children.and_then(|children| {
            // The measured form where packets were told apart, else the known bit rate (algorithms 1.1).
            let bits_per_second = if audio.packets + video.packets > 0 {
                bandwidth_measured(children, audio.flow, video.flow)
            } else {
                bandwidth_known(children, stream_bits / seconds)
            };
            finite(bits_per_second / 1e6, 6)
        });
        Self {
            loss_ratio: loss::ratio(received, grown(|c| c.lost_packets))
                .and_then(|value| finite(value, 6)),
            continuity_ratio: playback::continuity(
                grown(|c| c.played_packets),
                grown(|c| c.due_packets),
            )
            .and_then(|value| finite(value, 6)),
            contribution_ratio: ratio(after.sent_media_bytes, after.recv_media_bytes),
            reject_ratio: ratio(
                grown(|c| c.rejects),
                grown(|c| c.joins).saturating_add(grown(|c| c.rejects)),
            ),
            sent_mbps: mbps(grown(|c| c.sent_bytes) as f64 * 8.0),
            recv_mbps: mbps(grown(|c| c.recv_bytes) as f64 * 8.0),
            stream_mbps: mbps(stream_bits),
            bandwidth_mbps: bandwidth,
            uplink_mbps: after.uplink_bps.and_then(|bps| finite(bps as f64 / 1e6, 6)),
            audio_packet_bits: (audio.packets > 0)
                .then_some(audio.flow.packet_bits)
                .and_then(|bits| finite(bits, 1)),
            video_packet_bits: (video.packets > 0)
                .then_some(video.flow.packet_bits)
                .and_then(|bits| finite(bits, 1)),
            stall_ms: Some(milliseconds(grown(|c| c.stall_us))),
        }
    }

    const fn retain(&mut self, tool: Tool) {
        if matches!(tool, Tool::Tracker | Tool::Qos) {
            let reject_ratio = self.reject_ratio;
            *self = Self {
                loss_ratio: None,
                continuity_ratio: None,
                contribution_ratio: None,
                reject_ratio,
                sent_mbps: None,
                recv_mbps: None,
                stream_mbps: None,
                bandwidth_mbps: None,
                uplink_mbps: None,
                audio_packet_bits: None,
                video_packet_bits: None,
                stall_ms: None,
            };
            return;
        }
        self.reject_ratio = None;
        if !matches!(tool, Tool::Peer) {
            self.continuity_ratio = None;
            self.stall_ms = None;
        }
        if matches!(tool, Tool::Source) {
            self.loss_ratio = None;
            self.contribution_ratio = None;
        }
    }
}

/// Packets of one kind in one interval.
struct Kind {
    packets: u64,
    flow: Flow,
}

impl Kind {
    fn new(packets: u64, bits: u64, seconds: f64) -> Self {
        Self {
            packets,
            flow: Flow {
                packet_bits: if packets > 0 {
                    bits as f64 / packets as f64
                } else {
                    0.0
                },
                packets_per_second: packets as f64 / seconds,
            },
        }
    }
}

macro_rules! distribution {
    ($name:ident, $what:literal, $p50:ident $p90:ident $p99:ident $p999:ident $max:ident) => {
        #[doc = concat!("Distribution of ", $what, ", in ms (HdrHistogram, right to 1 %).")]
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        pub struct $name {
            /// Median.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub $p50: Option<f64>,
            /// 90th percentile.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub $p90: Option<f64>,
            /// 99th percentile.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub $p99: Option<f64>,
            /// 99.9th percentile.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub $p999: Option<f64>,
            /// Largest.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub $max: Option<f64>,
        }

        impl $name {
            fn of(histogram: &Histogram) -> Self {
                let seen = histogram.percentiles();
                Self {
                    $p50: seen.map(|seen| seen.p50),
                    $p90: seen.map(|seen| seen.p90),
                    $p99: seen.map(|seen| seen.p99),
                    $p999: seen.map(|seen| seen.p999),
                    $max: seen.map(|seen| seen.max),
                }
            }
        }
    };
}

distribution!(
    LatencyDistribution,
    "cumulative latency",
    latency_p50_ms latency_p90_ms latency_p99_ms latency_p999_ms latency_max_ms
);
distribution!(
    AgeDistribution,
    "age when put out",
    age_p50_ms age_p90_ms age_p99_ms age_p999_ms age_max_ms
);

/// Which media went in or out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Media {
    /// SHA-256 over all media read or written so far, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_sha256: Option<String>,
    /// First chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_chunk: Option<u64>,
    /// Last chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_chunk: Option<u64>,
    /// How media gets here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<Path>,
    /// Peers from the source to the parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_path: Option<Vec<String>>,
}

impl Media {
    fn of(counters: &Counters) -> Self {
        let path = counters.root_path.iter().take(ROOT_PATH_MAX);
        Self {
            media_sha256: counters.media_sha256.map(|digest| HEXLOWER.encode(&digest)),
            first_chunk: counters.first_chunk,
            last_chunk: counters.last_chunk,
            path: counters.path,
            root_path: (!counters.root_path.is_empty())
                .then(|| path.map(ToString::to_string).collect()),
        }
    }
}

/// What happened since the last `interval` record, and the totals.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Time covered, in ms.
    pub interval_ms: f64,
    /// Counts in that time.
    #[serde(flatten)]
    pub deltas: Deltas,
    /// Ratios and rates over that time.
    #[serde(flatten)]
    pub rates: Rates,
    /// Gauges now.
    #[serde(flatten)]
    pub gauges: Gauges,
    /// Cumulative latency in that time.
    #[serde(flatten)]
    pub latency: LatencyDistribution,
    /// Age in that time.
    #[serde(flatten)]
    pub age: AgeDistribution,
    /// Which media.
    #[serde(flatten)]
    pub media: Media,
    /// Counts since the start.
    #[serde(flatten)]
    pub totals: Totals,
}

impl Interval {
    /// What happened from the snapshot `before` to the snapshot `after`, `elapsed` later.
    ///
    /// All fields of all tools; [`line`] leaves out those that the writing tool does not have.
    pub fn between(before: &Counters, after: &Counters, elapsed: Duration) -> Self {
        Self {
            interval_ms: milliseconds(crate::time::micros(elapsed)),
            deltas: Deltas::between(before, after),
            rates: Rates::between(before, after, elapsed),
            gauges: Gauges::of(after),
            latency: LatencyDistribution::of(&after.latency.since(&before.latency)),
            age: AgeDistribution::of(&after.age.since(&before.age)),
            media: Media::of(after),
            totals: Totals::of(after),
        }
    }

    /// Leaves out what `tool` does not have.
    #[must_use]
    pub fn for_tool(mut self, tool: Tool) -> Self {
        self.deltas.retain(tool);
        self.rates.retain(tool);
        self.gauges.retain(tool);
        self.totals.retain(tool);
        self
    }
}

/// The program is done: totals and means of the whole run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// Exit status.
    pub exit: u8,
    /// Why it ended, in a few words.
    pub reason: String,
    /// Ratios and mean rates over the whole run.
    #[serde(flatten)]
    pub rates: Rates,
    /// Gauges at the end.
    #[serde(flatten)]
    pub gauges: Gauges,
    /// Cumulative latency over the whole run.
    #[serde(flatten)]
    pub latency: LatencyDistribution,
    /// Age over the whole run.
    #[serde(flatten)]
    pub age: AgeDistribution,
    /// Which media.
    #[serde(flatten)]
    pub media: Media,
    /// Counts since the start.
    #[serde(flatten)]
    pub totals: Totals,
}

impl End {
    /// The end after `up`, with everything in `counters`.
    pub fn of(counters: &Counters, up: Duration, exit: u8, reason: &str) -> Self {
        let run = Interval::between(&Counters::default(), counters, up);
        Self {
            exit,
            reason: reason.into(),
            rates: run.rates,
            gauges: run.gauges,
            latency: run.latency,
            age: run.age,
            media: run.media,
            totals: run.totals,
        }
    }

    /// Leaves out what `tool` does not have.
    #[must_use]
    pub fn for_tool(mut self, tool: Tool) -> Self {
        self.rates.retain(tool);
        self.gauges.retain(tool);
        self.totals.retain(tool);
        self
    }
}

/// What a node is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Waiting for a tracker, a parent, an input or the source.
    Waiting,
    /// Asking for a place.
    Joining,
    /// Media comes in, none goes out yet.
    Buffering,
    /// Media goes out.
    Playing,
    /// Output is due and there is none.
    Stalled,
    /// Bound, registered, able to serve (source, relay, tracker).
    Ready,
    /// Media comes from another parent now.
    ParentChanged,
    /// The parent is gone, looking for another.
    Reconnecting,
    /// A relay was started.
    RelaySpawned,
    /// Sent to another server.
    Redirected,
    /// No new children, leaving when empty.
    Draining,
    /// The channel came to its end.
    Ended,
}

/// Something began or ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StateChange {
    /// The state now.
    pub state: State,
    /// The state before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<State>,
    /// Why, in a few words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The parent, relay or server that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The chunk at which it happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk: Option<u64>,
    /// From the start to the first media byte put out, in ms (first `playing`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join_ms: Option<f64>,
    /// How long output had stood still, in ms (`playing` after `stalled`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stall_ms: Option<f64>,
}

impl StateChange {
    /// A change to `state`, nothing more known.
    pub const fn to(state: State) -> Self {
        Self {
            state,
            previous: None,
            reason: None,
            peer: None,
            address: None,
            chunk: None,
            join_ms: None,
            stall_ms: None,
        }
    }
}

/// A warning or an error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// A short name for programs, such as `cannot_bind`.
    pub code: String,
    /// The line for people, as on stderr, without the tool's name.
    pub message: String,
    /// The peer that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// The exit status that follows, where one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<u8>,
}

/// One neighbour: what went to and fro, and what is known of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Neighbour {
    /// Who, in hexadecimal.
    pub peer: String,
    /// Where.
    pub address: String,
    /// What it is to us.
    pub role: Role,
    /// How it is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<Path>,
    /// Since when it has been a neighbour, in ms.
    pub neighbour_ms: u64,
    /// Its hops from the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depth: Option<u64>,
    /// Children that it would still accept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots_free: Option<u64>,
    /// Children it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub children: Option<u64>,
    /// Load of a server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_ratio: Option<f64>,
    /// Packets lost divided by packets expected since the last record about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_ratio: Option<f64>,
    /// Mbit/s to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_mbps: Option<f64>,
    /// Mbit/s from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recv_mbps: Option<f64>,
    /// Smoothed round trip time, in ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<f64>,
    /// Its mean deviation, in ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_var_ms: Option<f64>,
    /// Jitter of its packets, in ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter_ms: Option<f64>,
    /// Delay from it to here, in ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hop_latency_ms: Option<f64>,
    /// Cumulative latency it reports, in ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<f64>,
    /// Strikes that still count.
    pub strikes: u64,
    /// Packets sent to it.
    pub sent_packets_total: u64,
    /// Packets received from it.
    pub recv_packets_total: u64,
    /// Bytes sent to it.
    pub sent_bytes_total: u64,
    /// Bytes received from it.
    pub recv_bytes_total: u64,
    /// Packets noticed missing on the way from it.
    pub lost_packets_total: u64,
    /// Packets sent to it again.
    pub retransmitted_packets_total: u64,
    /// Packets from it that were already held.
    pub duplicate_packets_total: u64,
    /// Packets from it whose hash was wrong.
    pub bad_hash_packets_total: u64,
}

impl Neighbour {
    /// A neighbour as it is `after`; ratios and rates since `before`, `elapsed` earlier, where there was one.
    pub fn between(
        before: Option<&NeighbourCounters>,
        after: &NeighbourCounters,
        elapsed: Duration,
    ) -> Self {
        let grown = |field: fn(&NeighbourCounters) -> u64| {
            before.map(|before| field(after).saturating_sub(field(before)))
        };
        let mbps = |bytes: u64| finite(bytes as f64 * 8.0 / elapsed.as_secs_f64() / 1e6, 6);
        let limited = |value: u64| value.min(NUMBER_MAX);
        let received = grown(|c| c.recv_packets.saturating_sub(c.duplicate_packets));
        Self {
            peer: after.peer.to_string(),
            address: after.address.clone(),
            role: after.role,
            path: after.path,
            neighbour_ms: limited(after.age_us / 1000),
            depth: after.depth,
            slots_free: after.slots_free,
            children: after.children,
            load_ratio: after.load_ratio.and_then(|value| finite(value, 6)),
            loss_ratio: received
                .zip(grown(|c| c.lost_packets))
                .and_then(|(received, lost)| loss::ratio(received, lost))
                .and_then(|value| finite(value, 6)),
            sent_mbps: grown(|c| c.sent_bytes).and_then(mbps),
            recv_mbps: grown(|c| c.recv_bytes).and_then(mbps),
            rtt_ms: after.rtt_us.map(milliseconds),
            rtt_var_ms: after.rtt_var_us.map(milliseconds),
            jitter_ms: after.jitter_us.map(milliseconds),
            hop_latency_ms: after.hop_latency_us.map(milliseconds),
            latency_ms: after.latency_us.map(milliseconds),
            strikes: limited(after.strikes),
            sent_packets_total: limited(after.sent_packets),
            recv_packets_total: limited(after.recv_packets),
            sent_bytes_total: limited(after.sent_bytes),
            recv_bytes_total: limited(after.recv_bytes),
            lost_packets_total: limited(after.lost_packets),
            retransmitted_packets_total: limited(after.retransmitted_packets),
            duplicate_packets_total: limited(after.duplicate_packets),
            bad_hash_packets_total: limited(after.bad_hash_packets),
        }
    }
}

/// A record as one line, its line feed included, shorter than [`LINE_MAX`].
///
/// Fields that the head's tool does not have are left out; text that would make the line too long is cut.
pub fn line(head: &Head, record: Record) -> String {
    let head = Head {
        node: cut(&head.node, NAME_BYTES_MAX).into(),
        channel: cut(&head.channel, NAME_BYTES_MAX).into(),
        ..head.clone()
    };
    let mut record = match record {
        Record::Interval(interval) => Record::Interval(Box::new(interval.for_tool(head.tool))),
        Record::End(end) => Record::End(Box::new(end.for_tool(head.tool))),
        other => other,
    };
    let mut line = render(&head, &record);
    while line.len() >= LINE_MAX && record.shorten() {
        line = render(&head, &record);
    }
    line.push('\n');
    line
}

/// What [`render`] writes: `event`, the head, the rest.
#[derive(Serialize)]
struct Whole<'a, B: Serialize> {
    event: &'static str,
    #[serde(flatten)]
    head: &'a Head,
    #[serde(flatten)]
    body: &'a B,
}

fn render(head: &Head, record: &Record) -> String {
    fn json<B: Serialize>(event: &'static str, head: &Head, body: &B) -> String {
        serde_json::to_string(&Whole { event, head, body })
            .expect("records are maps with text keys, which JSON can always say")
    }
    match record {
        Record::Start(body) => json("start", head, body),
        Record::Interval(body) => json("interval", head, body),
        Record::State(body) => json("state", head, body),
        Record::Warn(body) => json("warn", head, body),
        Record::Error(body) => json("error", head, body),
        Record::Neighbour(body) => json("neighbour", head, body),
        Record::End(body) => json("end", head, body),
    }
}

impl Record {
    /// Halves the longest free text, or drops an entry of a list; false when nothing is left to cut.
    fn shorten(&mut self) -> bool {
        if let Some(longest) = self.texts().into_iter().max_by_key(|text| text.len())
            && longest.len() > 16
        {
            longest.truncate(longest.floor_char_boundary(longest.len() / 2));
            return true;
        }
        match self {
            Self::Start(start) => {
                start.settings.pop_last().is_some() || start.listen.pop().is_some()
            }
            _ => false,
        }
    }

    /// Everything in it whose length no type bounds.
    fn texts(&mut self) -> Vec<&mut String> {
        match self {
            Self::Start(start) => [&mut start.command, &mut start.host, &mut start.swarm]
                .into_iter()
                .flatten()
                .chain(start.settings.values_mut())
                .chain(&mut start.listen)
                .collect(),
            Self::State(change) => [&mut change.reason, &mut change.peer, &mut change.address]
                .into_iter()
                .flatten()
                .collect(),
            Self::Warn(notice) | Self::Error(notice) => [&mut notice.message, &mut notice.code]
                .into_iter()
                .chain(&mut notice.peer)
                .collect(),
            Self::Neighbour(neighbour) => vec![&mut neighbour.address, &mut neighbour.peer],
            Self::End(end) => vec![&mut end.reason],
            Self::Interval(_) => Vec::new(),
        }
    }
}

/// At most `bytes` of `text`, cut between characters.
fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// `value` rounded to `decimals`, or nothing when it is infinite or no number.
fn finite(value: f64, decimals: i32) -> Option<f64> {
    let scale = 10_f64.powi(decimals);
    let rounded = (value * scale).round() / scale;
    rounded.is_finite().then_some(rounded)
}

fn milliseconds_of(duration: Duration) -> u64 {
    (crate::time::micros(duration) / 1000).min(NUMBER_MAX)
}
