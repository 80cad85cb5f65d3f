//! The metrics page: the same counters in the text form that Prometheus reads (OpenMetrics 1.0).
//!
//! Names begin with `p2ps_` and end in base units (seconds, bytes, ratios). Labels are the tool and the channel, never
//! a peer: their number would have no bound.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::qos::Histogram;
use crate::stats::counters::{Counters, GAUGES, TOTALS, Tool};

/// The media type of [`page`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The metrics page of one node.
pub fn page(tool: Tool, channel: &str, counters: &Counters) -> String {
    let labels = [
        ("tool".into(), tool.as_str().into()),
        ("channel".into(), channel.to_owned().into()),
    ];
    let mut registry = Registry::with_prefix_and_labels("p2ps", labels.into_iter());
    registry.register(
        "build",
        "Version of the program",
        Info::new([("version", env!("CARGO_PKG_VERSION"))]),
    );
    registry.register_collector(Box::new(Snapshot {
        tool,
        counters: counters.clone(),
    }));
    let mut text = String::new();
    encode(&mut text, &registry).expect("writing to a string cannot fail");
    text
}

#[derive(Debug)]
struct Snapshot {
    tool: Tool,
    counters: Counters,
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let counters = &self.counters;
        for total in TOTALS
            .iter()
            .filter(|total| total.tools.contains(self.tool))
        {
            let value = ConstCounter::new((total.get)(counters));
            put(&mut encoder, total.name, total.help, &value)?;
        }
        if self.tool == Tool::Peer {
            let stalled = ConstCounter::new(counters.stall_us as f64 / 1e6);
            put(
                &mut encoder,
                "stall_seconds",
                "Time that output stood still though it was due",
                &stalled,
            )?;
        }
        for gauge in GAUGES
            .iter()
            .filter(|gauge| gauge.tools.contains(self.tool))
        {
            if let Some(value) = (gauge.get)(counters) {
                put(
                    &mut encoder,
                    gauge.name,
                    gauge.help,
                    &ConstGauge::new(value),
                )?;
            }
        }
        if let Some(bps) = counters.uplink_bps {
            let bytes = ConstGauge::new(bps as f64 / 8.0);
            put(
                &mut encoder,
                "uplink_bytes_per_second",
                "Upload capacity estimated",
                &bytes,
            )?;
        }
        distribution(
            &mut encoder,
            "latency",
            "Cumulative latency from the source",
            &counters.latency,
        )?;
        distribution(
            &mut encoder,
            "age",
            "Age of chunks when put out",
            &counters.age,
        )
    }
}

/// The quantiles of a distribution since the start, as one gauge each.
fn distribution(
    encoder: &mut DescriptorEncoder<'_>,
    what: &str,
    help: &str,
    histogram: &Histogram,
) -> Result<(), fmt::Error> {
    let Some(seen) = histogram.percentiles() else {
        return Ok(());
    };
    for (suffix, part, value) in [
        ("p50", "median", seen.p50),
        ("p90", "90th percentile", seen.p90),
        ("p99", "99th percentile", seen.p99),
        ("p999", "99.9th percentile", seen.p999),
        ("max", "largest", seen.max),
    ] {
        let name = format!("{what}_{suffix}_seconds");
        put(
            encoder,
            &name,
            &format!("{help}: {part} since the start"),
            &ConstGauge::new(value / 1000.0),
        )?;
    }
    Ok(())
}

fn put(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    metric: &impl EncodeMetric,
) -> Result<(), fmt::Error> {
    // The table's help texts are doc comments: a space in front, a full stop at the end (the encoder adds none).
    let help = help.trim().trim_end_matches('.');
    let help = &format!("{help}.");
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

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
        let page = page(Tool::Peer, "film", &counters);
        for expected in [
            "# HELP p2ps_recv_packets Packets received, repairs and duplicates included.\n",
            "# TYPE p2ps_recv_packets counter\n",
            "p2ps_recv_packets_total{tool=\"p2ps-peer\",channel=\"film\"} 1234\n",
            "p2ps_recv_bytes_total{tool=\"p2ps-peer\",channel=\"film\"} 99\n",
            "p2ps_stall_seconds_total{tool=\"p2ps-peer\",channel=\"film\"} 1.5\n",
            "p2ps_rtt_seconds{tool=\"p2ps-peer\",channel=\"film\"} 0.0205\n",
            "p2ps_children{tool=\"p2ps-peer\",channel=\"film\"} 2.0\n",
            "p2ps_latency_max_seconds{tool=\"p2ps-peer\",channel=\"film\"} 0.060",
            "p2ps_build_info{tool=\"p2ps-peer\",channel=\"film\",version=",
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
        let page = page(Tool::Relay, "a\"b\nc\\", &Counters::default());
        assert!(page.contains(r#"channel="a\"b\nc\\""#), "{page}");
    }
}
