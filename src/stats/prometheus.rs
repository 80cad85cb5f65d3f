//! The metrics page: the same counters in the text form that Prometheus reads (OpenMetrics 1.0).
//!
//! Names begin with `p2ps_` and end in base units (seconds, bytes, ratios). Labels are the tool and the channel, never
//! a peer: their number would have no bound. Every channel of a node has a sample of its own.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::qos::{Histogram, Percentiles};
use crate::stats::counters::{Counters, GAUGES, TOTALS, Tool};

/// The media type of [`page`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// One channel on the page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Channel {
    /// What the records call it, and the label `channel`; no two of a node have the same.
    pub label: String,
    /// What its source calls it; empty while that is not known.
    pub name: String,
    /// Its counters.
    pub counters: Counters,
}

/// The metrics page of one node.
pub fn page(tool: Tool, channels: &[Channel]) -> String {
    let labels = [("tool".into(), tool.as_str().into())];
    let mut registry = Registry::with_prefix_and_labels("p2ps", labels.into_iter());
    registry.register(
        "build",
        "Version of the program",
        Info::new([("version", env!("CARGO_PKG_VERSION"))]),
    );
    registry.register_collector(Box::new(Snapshot {
        tool,
        channels: channels.to_vec(),
    }));
    let mut text = String::new();
    encode(&mut text, &registry).expect("writing to a string cannot fail");
    text
}

#[derive(Debug)]
struct Snapshot {
    tool: Tool,
    channels: Vec<Channel>,
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let is_named = |channel: &&Channel| !channel.name.is_empty();
        if self.channels.iter().any(|channel| is_named(&channel)) {
            let help = "What the source calls the channel.";
            let mut info = encoder.encode_descriptor("channel", help, None, MetricType::Info)?;
            for Channel { label, name, .. } in self.channels.iter().filter(is_named) {
                info.encode_info(&[("channel", label.as_str()), ("name", name.as_str())])?;
            }
        }
        let mut put = |name: &str, help: &str, value: Value<'_>| {
            put(&mut encoder, &self.channels, name, help, value)
        };
        for total in TOTALS
            .iter()
            .filter(|total| total.tools.contains(self.tool))
        {
            put(total.name, total.help, Value::Count(&total.get))?;
        }
        if self.tool == Tool::Peer {
            put(
                "stall_seconds",
                "Time that output stood still though it was due",
                Value::Time(&|counters| counters.stall_us as f64 / 1e6),
            )?;
        }
        for gauge in GAUGES
            .iter()
            .filter(|gauge| gauge.tools.contains(self.tool))
        {
            put(gauge.name, gauge.help, Value::Gauge(&gauge.get))?;
        }
        put(
            "uplink_bytes_per_second",
            "Upload capacity estimated",
            Value::Gauge(&|counters| counters.uplink_bps.map(|bps| bps as f64 / 8.0)),
        )?;
        for (what, help, histogram) in DISTRIBUTIONS {
            for (suffix, part, quantile) in QUANTILES {
                put(
                    &format!("{what}_{suffix}_seconds"),
                    &format!("{help}: {part} since the start"),
                    Value::Gauge(&|counters| {
                        let seen = histogram(counters).percentiles()?;
                        Some(quantile(&seen) / 1000.0)
                    }),
                )?;
            }
        }
        Ok(())
    }
}

type HistogramOf = fn(&Counters) -> &Histogram;
type QuantileOf = fn(&Percentiles) -> f64;

/// Distributions since the start, of which each quantile is one gauge.
const DISTRIBUTIONS: [(&str, &str, HistogramOf); 2] = [
    (
        "latency",
        "Cumulative latency from the source",
        |counters| &counters.latency,
    ),
    ("age", "Age of chunks when put out", |counters| {
        &counters.age
    }),
];

const QUANTILES: [(&str, &str, QuantileOf); 5] = [
    ("p50", "median", |seen| seen.p50),
    ("p90", "90th percentile", |seen| seen.p90),
    ("p99", "99th percentile", |seen| seen.p99),
    ("p999", "99.9th percentile", |seen| seen.p999),
    ("max", "largest", |seen| seen.max),
];

/// How a metric is taken from the counters of a channel.
enum Value<'a> {
    Count(&'a dyn Fn(&Counters) -> u64),
    /// A counter of seconds.
    Time(&'a dyn Fn(&Counters) -> f64),
    Gauge(&'a dyn Fn(&Counters) -> Option<f64>),
}

impl Value<'_> {
    const fn kind(&self) -> MetricType {
        match self {
            Self::Count(_) | Self::Time(_) => MetricType::Counter,
            Self::Gauge(_) => MetricType::Gauge,
        }
    }

    fn of(&self, counters: &Counters) -> Option<Box<dyn EncodeMetric>> {
        Some(match self {
            Self::Count(get) => Box::new(ConstCounter::new(get(counters))),
            Self::Time(get) => Box::new(ConstCounter::new(get(counters))),
            Self::Gauge(get) => Box::new(ConstGauge::new(get(counters)?)),
        })
    }
}

/// Writes one metric, a sample for each channel that has it; nothing when none has.
fn put(
    encoder: &mut DescriptorEncoder<'_>,
    channels: &[Channel],
    name: &str,
    help: &str,
    value: Value<'_>,
) -> Result<(), fmt::Error> {
    let samples: Vec<_> = channels
        .iter()
        .filter_map(|channel| Some((&channel.label, value.of(&channel.counters)?)))
        .collect();
    if samples.is_empty() {
        return Ok(());
    }
    // The table's help texts are doc comments: a space in front, a full stop at the end (the encoder adds none).
    let help = help.trim().trim_end_matches('.');
    let help = &format!("{help}.");
    let mut metric = encoder.encode_descriptor(name, help, None, value.kind())?;
    for (label, sample) in samples {
        sample.encode(metric.encode_family(&[("channel", label.as_str())])?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn channel(label: &str, counters: Counters) -> Channel {
        Channel {
            label: label.into(),
            counters,
            ..Channel::default()
        }
    }

    #[test]
    fn names_learnt_later_stand_beside_the_labels() {
        let mut channels = [
            channel("0fab", Counters::default()),
            channel("news", Counters::default()),
        ];
        assert!(!page(Tool::Relay, &channels).contains("p2ps_channel"));
        channels[0].name = "film".into();
        let page = page(Tool::Relay, &channels);
        let expected = "# TYPE p2ps_channel info\n\
            p2ps_channel_info{tool=\"p2ps-relay\",channel=\"0fab\",name=\"film\"} 1\n# HELP";
        assert!(page.contains(expected), "{page}");
        assert!(page.contains("p2ps_sent_bytes_total{tool=\"p2ps-relay\",channel=\"0fab\"} 0\n"));
    }

    #[test]
    fn every_channel_has_a_sample_under_one_heading() {
        let film = Counters {
            recv_packets: 7,
            depth: Some(1),
            ..Counters::default()
        };
        let news = Counters {
            recv_packets: 8,
            ..Counters::default()
        };
        let page = page(Tool::Relay, &[channel("film", film), channel("news", news)]);
        let expected = "# TYPE p2ps_recv_packets counter\n\
            p2ps_recv_packets_total{tool=\"p2ps-relay\",channel=\"film\"} 7\n\
            p2ps_recv_packets_total{tool=\"p2ps-relay\",channel=\"news\"} 8\n";
        assert!(page.contains(expected), "{page}");
        // Where one does not know, the other still says.
        let expected =
            "# TYPE p2ps_depth gauge\np2ps_depth{tool=\"p2ps-relay\",channel=\"film\"} 1.0\n# ";
        assert!(page.contains(expected), "{page}");
    }

    #[test]
    fn the_page_of_a_peer() {
        let mut counters = Counters {
            recv_packets: 1234,
            recv_bytes: 99,
            stall_us: 1_500_000,
            rtt_us: Some(20_500),
            children: Some(2),
            ..Counters::default()
        };
        counters.latency.record(Duration::from_millis(60));
        let page = page(Tool::Peer, &[channel("film", counters)]);
        for expected in [
            "# HELP p2ps_recv_packets Packets received, repairs and duplicates included.\n",
            "# TYPE p2ps_recv_packets counter\n",
            "p2ps_recv_packets_total{tool=\"p2ps-peer\",channel=\"film\"} 1234\n",
            "p2ps_recv_bytes_total{tool=\"p2ps-peer\",channel=\"film\"} 99\n",
            "p2ps_stall_seconds_total{tool=\"p2ps-peer\",channel=\"film\"} 1.5\n",
            "p2ps_rtt_seconds{tool=\"p2ps-peer\",channel=\"film\"} 0.0205\n",
            "p2ps_children{tool=\"p2ps-peer\",channel=\"film\"} 2.0\n",
            "p2ps_latency_max_seconds{tool=\"p2ps-peer\",channel=\"film\"} 0.060",
            "p2ps_build_info{tool=\"p2ps-peer\",version=",
        ] {
            assert!(page.contains(expected), "{expected} in\n{page}");
        }
        assert!(page.ends_with("# EOF\n"));
        // What is not known is not there, nor what is another tool's.
        for absent in ["p2ps_age_seconds", "p2ps_signed_munros", "p2ps_joins"] {
            assert!(!page.contains(absent), "{absent} in\n{page}");
        }
    }

    #[test]
    fn names_are_unique_and_end_in_base_units() {
        let mut names: Vec<_> = TOTALS
            .iter()
            .map(|total| total.name)
            .chain(GAUGES.iter().map(|gauge| gauge.name))
            .collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        for name in names {
            assert!(
                !["_ms", "_us", "_mbps", "_total"]
                    .iter()
                    .any(|unit| name.ends_with(unit)),
                "{name}"
            );
        }
    }

    #[test]
    fn a_channel_name_cannot_break_a_line() {
        let page = page(Tool::Relay, &[channel("a\"b\nc\\", Counters::default())]);
        assert!(page.contains(r#"channel="a\"b\nc\\""#), "{page}");
    }
}
