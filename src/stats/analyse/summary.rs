//! Percentiles of a run: one row a node and channel, and one over all.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;
use serde_json::Value;

use crate::qos::Histogram;
use crate::stats::analyse::read::Sample;
use crate::stats::interval::finite;
use crate::stats::timestamp::Timestamp;

/// Nodes with a row of their own; further ones count in the last row only.
const NODES_MAX: usize = 1024;

/// One row, as it is printed; `*` as node is all of them.
///
/// Where the node wrote an `end` record, the percentiles of latency and age are its own, over every chunk; else they
/// are those of the values in its `interval` records.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Row {
    /// Always `summary`.
    pub event: &'static str,
    /// The program, `*` over all.
    pub tool: String,
    /// The node, `*` over all.
    pub node: String,
    /// The channel, `*` over all.
    pub channel: String,
    /// What the source calls it, where the records say and it is not that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel_name: Option<String>,
    /// First record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_ts: Option<Timestamp>,
    /// Last record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_ts: Option<Timestamp>,
    /// Records read.
    pub records: u64,
    /// Exit status of the last run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit: Option<u64>,
    /// Time to join, the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub join_ms: Option<f64>,
    /// Median time to join, over all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub join_p50_ms: Option<f64>,
    /// 90th percentile of times to join, over all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub join_p90_ms: Option<f64>,
    /// Longest time to join, over all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub join_max_ms: Option<f64>,
    /// Median latency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_p50_ms: Option<f64>,
    /// 90th percentile of latency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_p90_ms: Option<f64>,
    /// 99th percentile of latency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_p99_ms: Option<f64>,
    /// 99.9th percentile of latency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_p999_ms: Option<f64>,
    /// Largest latency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_max_ms: Option<f64>,
    /// Median age.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_p50_ms: Option<f64>,
    /// 99th percentile of age.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_p99_ms: Option<f64>,
    /// Largest age.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_max_ms: Option<f64>,
    /// Median jitter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter_p50_ms: Option<f64>,
    /// Largest jitter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter_max_ms: Option<f64>,
    /// Packets lost divided by packets expected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss_ratio: Option<f64>,
    /// Packets there when due divided by packets due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub continuity_ratio: Option<f64>,
    /// Stalls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stalls_total: Option<f64>,
    /// Time stalled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stall_ms_total: Option<f64>,
    /// Mean bit rate received, or of the stream where nothing is received.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_mbps: Option<f64>,
    /// `warn` records.
    pub warnings: u64,
    /// `error` records.
    pub errors: u64,
}

/// A total that starts anew with every run.
#[derive(Clone, Copy, Debug, Default)]
struct Runs {
    known: bool,
    before: f64,
    last: f64,
}

impl Runs {
    fn see(&mut self, value: Option<f64>) {
        let Some(value) = value else { return };
        if value < self.last {
            self.before += self.last;
        }
        (self.last, self.known) = (value, true);
    }

    fn total(self) -> Option<f64> {
        self.known.then_some(self.before + self.last)
    }
}

/// Everything kept of one node, or of all.
#[derive(Clone, Debug, Default)]
struct Kept {
    row: Row,
    latency: Histogram,
    age: Histogram,
    jitter: Histogram,
    /// Lost and expected, played and due, Mbit/s times ms and ms.
    loss: (f64, f64),
    continuity: (f64, f64),
    rate: (f64, f64),
    stalls: Runs,
    stall_ms: Runs,
}

impl Kept {
    fn on_sample(&mut self, sample: &Sample) {
        let row = &mut self.row;
        row.records += 1;
        row.first_ts = row.first_ts.or(sample.ts);
        row.last_ts = sample.ts.or(row.last_ts);
        row.join_ms = sample.number("join_ms").or(row.join_ms);
        if let Some(Value::String(name)) = sample.fields.get("channel_name") {
            row.channel_name = Some(name.clone());
        }
        self.stalls.see(sample.number("stalls_total"));
        self.stall_ms.see(sample.number("stall_ms_total"));
        match sample.event.as_str() {
            "warn" => row.warnings += 1,
            "error" => row.errors += 1,
            "interval" => self.on_interval(sample),
            "end" => {
                row.exit = sample.number("exit").map(|exit| exit as u64);
                // The node's own distribution is over every chunk; ours would be over one value an interval.
                for (field, name) in [
                    (&mut row.latency_p50_ms, "latency_p50_ms"),
                    (&mut row.latency_p90_ms, "latency_p90_ms"),
                    (&mut row.latency_p99_ms, "latency_p99_ms"),
                    (&mut row.latency_p999_ms, "latency_p999_ms"),
                    (&mut row.latency_max_ms, "latency_max_ms"),
                    (&mut row.age_p50_ms, "age_p50_ms"),
                    (&mut row.age_p99_ms, "age_p99_ms"),
                    (&mut row.age_max_ms, "age_max_ms"),
                ] {
                    *field = sample.number(name).or(*field);
                }
            }
            _ => {}
        }
    }

    fn on_interval(&mut self, sample: &Sample) {
        for (histogram, name) in [
            (&mut self.latency, "latency_ms"),
            (&mut self.age, "age_ms"),
            (&mut self.jitter, "jitter_ms"),
        ] {
            if let Some(ms) = sample.number(name) {
                histogram.record_us((ms * 1000.0) as u64);
            }
        }
        let played = sample
            .number("played_packets")
            .zip(sample.number("due_packets"));
        let span = sample.number("interval_ms").unwrap_or(1000.0);
        let rate = ["recv_mbps", "stream_mbps", "sent_mbps"]
            .into_iter()
            .find_map(|name| sample.number(name));
        for (sum, one) in [
            (&mut self.loss, sample.loss()),
            (&mut self.continuity, played),
            (&mut self.rate, rate.map(|mbps| (mbps * span, span))),
        ] {
            let (part, whole) = one.unwrap_or_default();
            *sum = (sum.0 + part, sum.1 + whole);
        }
    }

    fn merge(&mut self, other: &Self) {
        let row = &mut self.row;
        row.records += other.row.records;
        row.warnings += other.row.warnings;
        row.errors += other.row.errors;
        row.first_ts = [row.first_ts, other.row.first_ts]
            .into_iter()
            .flatten()
            .min();
        row.last_ts = row.last_ts.max(other.row.last_ts);
        self.latency.merge(&other.latency);
        self.age.merge(&other.age);
        self.jitter.merge(&other.jitter);
        for (sum, one) in [
            (&mut self.loss, other.loss),
            (&mut self.continuity, other.continuity),
            (&mut self.rate, other.rate),
        ] {
            *sum = (sum.0 + one.0, sum.1 + one.1);
        }
        for (sum, one) in [
            (&mut self.stalls, other.stalls),
            (&mut self.stall_ms, other.stall_ms),
        ] {
            sum.before += one.total().unwrap_or(0.0);
            sum.known |= one.known;
        }
    }

    fn row(&self) -> Row {
        let share = |(part, whole): (f64, f64)| finite(part / whole, 6);
        let latency = self.latency.percentiles();
        let age = self.age.percentiles();
        let jitter = self.jitter.percentiles();
        let row = &self.row;
        Row {
            event: "summary",
            latency_p50_ms: row.latency_p50_ms.or_else(|| latency.map(|seen| seen.p50)),
            latency_p90_ms: row.latency_p90_ms.or_else(|| latency.map(|seen| seen.p90)),
            latency_p99_ms: row.latency_p99_ms.or_else(|| latency.map(|seen| seen.p99)),
            latency_p999_ms: row
                .latency_p999_ms
                .or_else(|| latency.map(|seen| seen.p999)),
            latency_max_ms: row.latency_max_ms.or_else(|| latency.map(|seen| seen.max)),
            age_p50_ms: row.age_p50_ms.or_else(|| age.map(|seen| seen.p50)),
            age_p99_ms: row.age_p99_ms.or_else(|| age.map(|seen| seen.p99)),
            age_max_ms: row.age_max_ms.or_else(|| age.map(|seen| seen.max)),
            jitter_p50_ms: jitter.map(|seen| seen.p50),
            jitter_max_ms: jitter.map(|seen| seen.max),
            loss_ratio: share(self.loss),
            continuity_ratio: share(self.continuity),
            stalls_total: self.stalls.total(),
            stall_ms_total: self.stall_ms.total(),
            mean_mbps: share(self.rate),
            ..row.clone()
        }
    }
}

/// Takes in records and gives the rows.
#[derive(Debug, Default)]
pub struct Summary {
    nodes: BTreeMap<(String, String), Kept>,
    rest: Kept,
}

impl Summary {
    /// Takes in one record. Those about a neighbour are left to the neighbour's own.
    pub fn on_sample(&mut self, sample: &Sample) {
        if sample.event == "neighbour" || sample.event == "summary" {
            return;
        }
        let key = (sample.channel.clone(), sample.node.clone());
        if self.nodes.len() >= NODES_MAX && !self.nodes.contains_key(&key) {
            self.rest.on_sample(sample);
            return;
        }
        let kept = self.nodes.entry(key).or_insert_with(|| Kept {
            row: Row {
                tool: sample.tool.clone(),
                node: sample.node.clone(),
                channel: sample.channel.clone(),
                ..Row::default()
            },
            ..Kept::default()
        });
        kept.on_sample(sample);
    }

    /// Whether no record was seen.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The rows: by channel, then node; one over all at the end when there are several.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<_> = self.nodes.values().map(Kept::row).collect();
        if rows.len() > 1 {
            rows.push(self.over_all());
        }
        rows
    }

    fn over_all(&self) -> Row {
        let mut all = Kept {
            row: Row {
                tool: "*".into(),
                node: "*".into(),
                channel: "*".into(),
                ..Row::default()
            },
            ..Kept::default()
        };
        let mut joins = Histogram::default();
        for kept in self.nodes.values().chain([&self.rest]) {
            all.merge(kept);
            if let Some(ms) = kept.row.join_ms {
                joins.record_us((ms * 1000.0) as u64);
            }
        }
        let joins = joins.percentiles();
        Row {
            join_p50_ms: joins.map(|seen| seen.p50),
            join_p90_ms: joins.map(|seen| seen.p90),
            join_max_ms: joins.map(|seen| seen.max),
            ..all.row()
        }
    }
}

/// The rows as a table for people, times in ms.
pub fn table(rows: &[Row]) -> String {
    const HEADS: [&str; 15] = [
        "CHANNEL", "NODE", "TOOL", "JOIN", "P50", "P90", "P99", "P99.9", "MAX", "JITTER", "LOSS",
        "CONTIN.", "STALLS", "STALLED", "MBIT/S",
    ];
    let mut lines = vec![HEADS.map(String::from)];
    for row in rows {
        let ms = |value: Option<f64>| number(value, |value| if value < 100.0 { 2 } else { 0 });
        // A row without latency shows the age instead.
        let latency = [
            row.latency_p50_ms.or(row.age_p50_ms),
            row.latency_p90_ms,
            row.latency_p99_ms.or(row.age_p99_ms),
            row.latency_p999_ms,
            row.latency_max_ms.or(row.age_max_ms),
        ];
        let [p50, p90, p99, p999, max] = latency.map(ms);
        let loss = row
            .loss_ratio
            .map_or_else(|| "-".into(), |ratio| format!("{:.2}%", ratio * 100.0));
        lines.push([
            printable(row.channel_name.as_ref().unwrap_or(&row.channel)),
            printable(&row.node),
            printable(&row.tool),
            ms(row.join_ms.or(row.join_p50_ms)),
            p50,
            p90,
            p99,
            p999,
            max,
            ms(row.jitter_p50_ms),
            loss,
            number(row.continuity_ratio, |_| 4),
            number(row.stalls_total, |_| 0),
            ms(row.stall_ms_total),
            number(row.mean_mbps, |_| 3),
        ]);
    }
    let mut widths = [0; HEADS.len()];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for line in &lines {
        for (column, (cell, width)) in line.iter().zip(widths).enumerate() {
            // Names to the left, numbers to the right.
            let put = if column < 3 {
                write!(text, "{cell:<width$}  ")
            } else {
                write!(text, "{cell:>width$}  ")
            };
            put.expect("writing to a string cannot fail");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

fn number(value: Option<f64>, decimals: impl Fn(f64) -> usize) -> String {
    value.map_or_else(
        || "-".into(),
        |value| format!("{value:.0$}", decimals(value)),
    )
}

/// A name as a terminal may show it: no control characters, at most 32 long.
fn printable(name: &str) -> String {
    name.chars()
        .filter(|character| !character.is_control())
        .take(32)
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sample(node: &str, event: &str, fields: &Value) -> Sample {
        Sample {
            event: event.into(),
            tool: "p2ps-peer".into(),
            node: node.into(),
            channel: "film".into(),
            fields: fields.as_object().cloned().unwrap_or_default(),
            ..Sample::default()
        }
    }

    fn two_nodes() -> Summary {
        let mut summary = Summary::default();
        for ms in 1..=100 {
            let fields = json!({"interval_ms": 1000, "latency_ms": ms, "jitter_ms": 2, "lost_packets": 1,
                "recv_packets": 99, "due_packets": 100, "played_packets": 100, "recv_mbps": 8, "join_ms": 120,
                "stalls_total": ms / 50, "stall_ms_total": ms / 50 * 40});
            summary.on_sample(&sample("aa", "interval", &fields));
        }
        summary.on_sample(&sample("aa", "warn", &json!({})));
        let fields =
            json!({"interval_ms": 500, "latency_ms": 1000, "join_ms": 240, "recv_mbps": 2});
        summary.on_sample(&sample("bb", "interval", &fields));
        summary.on_sample(&sample(
            "bb",
            "end",
            &json!({"exit": 0, "latency_p50_ms": 900.0, "latency_p99_ms": 1100.0}),
        ));
        summary.on_sample(&sample("bb", "neighbour", &json!({"latency_ms": 5})));
        summary
    }

    #[test]
    fn one_row_a_node_and_one_over_all() {
        let rows = two_nodes().rows();
        let [first, second, all] = rows.as_slice() else {
            panic!("{rows:?}");
        };
        let near = |found: Option<f64>, expected: f64| {
            assert!(
                found.is_some_and(|found| (found - expected).abs() <= expected / 100.0),
                "{found:?} {expected}"
            );
        };
        near(first.latency_p50_ms, 50.0);
        near(first.latency_p99_ms, 99.0);
        near(first.latency_max_ms, 100.0);
        assert_eq!(
            (first.loss_ratio, first.continuity_ratio),
            (Some(0.01), Some(1.0))
        );
        assert_eq!(
            (first.stalls_total, first.stall_ms_total),
            (Some(2.0), Some(80.0))
        );
        assert_eq!(
            (first.mean_mbps, first.join_ms, first.warnings),
            (Some(8.0), Some(120.0), 1)
        );
        // Its own distribution, where it wrote one.
        assert_eq!(
            (second.latency_p50_ms, second.latency_p99_ms),
            (Some(900.0), Some(1100.0))
        );
        assert_eq!(
            (second.exit, second.loss_ratio, second.records),
            (Some(0), None, 2)
        );
        assert_eq!((all.node.as_str(), all.records), ("*", 103));
        near(all.join_p50_ms, 120.0);
        near(all.join_max_ms, 240.0);
        near(all.latency_max_ms, 1000.0);
        near(all.mean_mbps, 7.97);
    }

    #[test]
    fn a_name_learnt_on_the_way_makes_no_second_row() {
        let mut summary = Summary::default();
        summary.on_sample(&sample("aa", "start", &json!({})));
        let fields = json!({"channel_name": "Film of the day", "recv_mbps": 8});
        summary.on_sample(&sample("aa", "interval", &fields));
        let rows = summary.rows();
        let [row] = rows.as_slice() else {
            panic!("{rows:?}");
        };
        assert_eq!((row.channel.as_str(), row.records), ("film", 2));
        assert_eq!(row.channel_name.as_deref(), Some("Film of the day"));
        // People read the name.
        let text = table(&rows);
        assert!(
            text.lines()
                .nth(1)
                .is_some_and(|line| line.starts_with("Film of the day  aa")),
            "{text}"
        );
    }

    #[test]
    fn totals_of_several_runs_add_up() {
        let mut summary = Summary::default();
        for total in [1, 3, 0, 2] {
            summary.on_sample(&sample("aa", "interval", &json!({"stalls_total": total})));
        }
        assert_eq!(summary.rows()[0].stalls_total, Some(5.0));
    }

    #[test]
    fn the_table() {
        let text = table(&two_nodes().rows());
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[0][..5], ["CHANNEL", "NODE", "TOOL", "JOIN", "P50"]);
        assert_eq!(lines[1][..4], ["film", "aa", "p2ps-peer", "120"]);
        assert_eq!(lines[1][10..14], ["1.00%", "1.0000", "2", "80.00"]);
        assert_eq!(lines[2][10], "-");
        assert!(text.lines().all(|line| line.trim_end() == line));
    }

    #[test]
    fn the_number_of_rows_is_bounded() {
        let mut summary = Summary::default();
        for number in 0..NODES_MAX + 5 {
            summary.on_sample(&sample(&number.to_string(), "warn", &json!({})));
        }
        let rows = summary.rows();
        assert_eq!(rows.len(), NODES_MAX + 1);
        assert_eq!(rows[NODES_MAX].warnings, NODES_MAX as u64 + 5);
    }
}
