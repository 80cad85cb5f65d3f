//! What two snapshots of the counters say: the bodies of `interval` and `end` records.

use std::time::Duration;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use crate::qos::latency::{Flow, bandwidth_known, bandwidth_measured};
use crate::qos::{Histogram, loss, playback};
use crate::stats::counters::{Counters, Deltas, Gauges, Path, Tool, Totals, milliseconds};
use crate::time::micros;

/// Peers of the root path that a record lists, those nearest to the source first.
const ROOT_PATH_MAX: usize = 32;

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
    /// What two snapshots say that are `elapsed` apart.
    pub(super) fn between(before: &Counters, after: &Counters, elapsed: Duration) -> Self {
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
    /// First chunk of this run that was signed (source), received and proven (relay) or put out (peer).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_chunk: Option<u64>,
    /// Last one so far.
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

    pub(in crate::stats) fn shorten(&mut self, peers: usize) {
        if let Some(path) = &mut self.root_path {
            path.truncate(peers);
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
    /// All fields of all tools; [`line`](crate::stats::record::line) leaves out those that the writing tool does not have.
    pub fn between(before: &Counters, after: &Counters, elapsed: Duration) -> Self {
        Self {
            interval_ms: milliseconds(micros(elapsed)),
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

/// `value` rounded to `decimals`, or nothing when it is infinite or no number.
pub(in crate::stats) fn finite(value: f64, decimals: i32) -> Option<f64> {
    let scale = 10_f64.powi(decimals);
    let rounded = (value * scale).round() / scale;
    rounded.is_finite().then_some(rounded)
}
