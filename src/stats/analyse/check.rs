//! Thresholds on quality: the first record, or the first window of records, that misses one.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use crate::stats::analyse::read::Sample;
use crate::time::micros;

/// Nodes watched at a time; the one silent the longest gives way.
const NODES_MAX: usize = 4096;

/// Records of one node that a window holds.
const WINDOW_RECORDS_MAX: usize = 4096;

/// What is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// `loss_ratio`.
    Loss,
    /// `latency_ms`, or `age_ms` where a record has no latency.
    Latency,
    /// `jitter_ms`.
    Jitter,
    /// `stall_ms`, summed over the window.
    Stall,
    /// `continuity_ratio`, where less is worse.
    Continuity,
    /// `join_ms`; a peer that has not joined after that time misses it too.
    Join,
}

impl Metric {
    /// All of them, in the order in which one record is judged.
    pub const ALL: [Self; 6] = [
        Self::Loss,
        Self::Latency,
        Self::Jitter,
        Self::Stall,
        Self::Continuity,
        Self::Join,
    ];

    /// Its name in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Latency => "latency",
            Self::Jitter => "jitter",
            Self::Stall => "stall",
            Self::Continuity => "continuity",
            Self::Join => "join",
        }
    }

    fn misses(self, value: f64, limit: f64) -> bool {
        if self == Self::Continuity {
            value < limit
        } else {
            value > limit
        }
    }
}

/// The thresholds; what is `None` is not judged. Ratios, and times in ms.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// Largest loss.
    pub max_loss: Option<f64>,
    /// Largest latency.
    pub max_latency_ms: Option<f64>,
    /// Largest jitter.
    pub max_jitter_ms: Option<f64>,
    /// Longest time stalled.
    pub max_stall_ms: Option<f64>,
    /// Smallest continuity.
    pub min_continuity: Option<f64>,
    /// Longest time to join.
    pub max_join_ms: Option<f64>,
}

impl Limits {
    /// The quality standard of StreamSmart: loss up to 5 %, latency up to 4 s.
    pub const STREAMSMART: Self = Self {
        max_loss: Some(0.05),
        max_latency_ms: Some(4000.0),
        max_jitter_ms: None,
        max_stall_ms: None,
        min_continuity: None,
        max_join_ms: None,
    };

    /// The limit of one metric.
    pub const fn get(&self, metric: Metric) -> Option<f64> {
        match metric {
            Metric::Loss => self.max_loss,
            Metric::Latency => self.max_latency_ms,
            Metric::Jitter => self.max_jitter_ms,
            Metric::Stall => self.max_stall_ms,
            Metric::Continuity => self.min_continuity,
            Metric::Join => self.max_join_ms,
        }
    }

    /// Whether nothing is judged.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// These limits, and `others` where these have none.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        Self {
            max_loss: self.max_loss.or(others.max_loss),
            max_latency_ms: self.max_latency_ms.or(others.max_latency_ms),
            max_jitter_ms: self.max_jitter_ms.or(others.max_jitter_ms),
            max_stall_ms: self.max_stall_ms.or(others.max_stall_ms),
            min_continuity: self.min_continuity.or(others.min_continuity),
            max_join_ms: self.max_join_ms.or(others.max_join_ms),
        }
    }
}

/// A threshold that was missed: `continuity 0.981 below 0.990 (node 3f9c2a1b00d4e5f6, 12:00:05)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Violation {
    /// Which.
    pub metric: Metric,
    /// What was found.
    pub value: f64,
    /// What was allowed.
    pub limit: f64,
    /// Whose record.
    pub node: String,
    /// Its time of day, or the seconds since its start.
    pub time: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (factor, unit, decimals) = match self.metric {
            Metric::Loss => (100.0, "%", 1),
            Metric::Continuity => (1.0, "", 3),
            _ => (1.0, "ms", 0),
        };
        // As many decimals as it takes to tell the two apart.
        let (mut value, mut limit) = (String::new(), String::new());
        for decimals in decimals..=6 {
            value = format!("{:.decimals$}", self.value * factor);
            limit = format!("{:.decimals$}", self.limit * factor);
            if value != limit {
                break;
            }
        }
        let relation = if self.metric == Metric::Continuity {
            "below"
        } else {
            "above"
        };
        let name = self.metric.as_str();
        write!(
            f,
            "{name} {value}{unit} {relation} {limit}{unit} (node {}, {})",
            self.node, self.time
        )
    }
}

/// What one record, or all of a window, says.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    moment_us: u64,
    span_us: u64,
    loss: Option<(f64, f64)>,
    continuity: Option<(f64, f64)>,
    latency: Option<f64>,
    jitter: Option<f64>,
    stall: Option<f64>,
}

impl Entry {
    fn of(sample: &Sample) -> Self {
        // Where the counts are there they weigh the window; a bare ratio weighs as one.
        let weighed = |counts: Option<(f64, f64)>, ratio: &str| {
            let ratio = sample.number(ratio).map(|ratio| (ratio, 1.0));
            counts.filter(|(_, whole)| *whole > 0.0).or(ratio)
        };
        let played = sample
            .number("played_packets")
            .zip(sample.number("due_packets"));
        Self {
            moment_us: sample.moment_us().unwrap_or(0),
            span_us: sample
                .number("interval_ms")
                .map_or(0, |ms| (ms * 1000.0) as u64),
            loss: weighed(sample.loss(), "loss_ratio"),
            continuity: weighed(played, "continuity_ratio"),
            latency: sample
                .number("latency_ms")
                .or_else(|| sample.number("age_ms")),
            jitter: sample.number("jitter_ms"),
            stall: sample.number("stall_ms"),
        }
    }

    fn value(&self, metric: Metric) -> Option<f64> {
        let share = |(part, whole): (f64, f64)| part / whole;
        match metric {
            Metric::Loss => self.loss.map(share),
            Metric::Continuity => self.continuity.map(share),
            Metric::Latency => self.latency,
            Metric::Jitter => self.jitter,
            Metric::Stall => self.stall,
            Metric::Join => None,
        }
    }

    /// Shares over all packets of the window, mean latency and jitter, all stalls.
    fn sum<'a>(entries: impl Iterator<Item = &'a Self> + Clone) -> Self {
        let shares = |field: fn(&Self) -> Option<(f64, f64)>| {
            entries
                .clone()
                .filter_map(field)
                .reduce(|sum, one| (sum.0 + one.0, sum.1 + one.1))
        };
        let mean = |field: fn(&Self) -> Option<f64>| {
            let known = entries.clone().filter_map(field).map(|value| (value, 1.0));
            known
                .reduce(|sum, one| (sum.0 + one.0, sum.1 + one.1))
                .map(|(sum, count)| sum / count)
        };
        Self {
            loss: shares(|entry| entry.loss),
            continuity: shares(|entry| entry.continuity),
            latency: mean(|entry| entry.latency),
            jitter: mean(|entry| entry.jitter),
            stall: entries
                .clone()
                .filter_map(|entry| entry.stall)
                .reduce(|sum, one| sum + one),
            ..Self::default()
        }
    }
}

#[derive(Debug, Default)]
struct Watched {
    entries: VecDeque<Entry>,
    last_us: u64,
    time: String,
    /// A full window was judged; what is left at the end need not be.
    judged: bool,
}

/// Judges records as they come.
#[derive(Debug)]
pub struct Check {
    limits: Limits,
    window: Option<Duration>,
    nodes: BTreeMap<(String, String), Watched>,
    records: u64,
    seen: Vec<Metric>,
}

impl Check {
    /// Judges by `limits`: every record by itself, or every node over the last `window`.
    pub const fn new(limits: Limits, window: Option<Duration>) -> Self {
        Self {
            limits,
            window,
            nodes: BTreeMap::new(),
            records: 0,
            seen: Vec::new(),
        }
    }

    /// Takes in one record; says which threshold it misses, if any.
    ///
    /// Without a window `interval` and `end` are judged each. With one, a node is judged at every `interval` once its
    /// records cover the window, and `end` only when none did. Join times are judged wherever they stand.
    pub fn on_sample(&mut self, sample: &Sample) -> Option<Violation> {
        self.records += 1;
        let join = self.judge_join(sample);
        let other = match (sample.event.as_str(), self.window) {
            ("interval" | "end", None) => {
                self.judge(&Entry::of(sample), &sample.node, &time_of(sample))
            }
            ("interval", Some(window)) => self.on_interval(sample, window),
            ("end", Some(_)) => self.on_end(sample),
            _ => None,
        };
        other.or(join)
    }

    /// At the end of the input: windows that never filled are judged by what they hold.
    pub fn finish(&mut self) -> Option<Violation> {
        let nodes = std::mem::take(&mut self.nodes);
        let open = nodes.into_iter().filter(|(_, watched)| !watched.judged);
        let mut first = None;
        for ((node, _), watched) in open {
            let found = self.judge(&Entry::sum(watched.entries.iter()), &node, &watched.time);
            first = first.or(found);
        }
        first
    }

    /// Records taken in.
    pub const fn records(&self) -> u64 {
        self.records
    }

    /// The first metric that has a limit but was in no record.
    pub fn unseen(&self) -> Option<Metric> {
        let limited = |metric: &Metric| self.limits.get(*metric).is_some();
        Metric::ALL
            .into_iter()
            .filter(limited)
            .find(|metric| !self.seen.contains(metric))
    }

    fn on_interval(&mut self, sample: &Sample, window: Duration) -> Option<Violation> {
        let key = (sample.node.clone(), sample.channel.clone());
        if self.nodes.len() >= NODES_MAX && !self.nodes.contains_key(&key) {
            let oldest = self.nodes.iter().min_by_key(|(_, watched)| watched.last_us);
            let oldest = oldest.map(|(key, _)| key.clone())?;
            self.nodes.remove(&oldest);
        }
        let watched = self.nodes.entry(key).or_default();
        let entry = Entry::of(sample);
        let begin = entry.moment_us.saturating_sub(micros(window));
        watched.entries.push_back(entry);
        while watched.entries.len() > WINDOW_RECORDS_MAX
            || watched
                .entries
                .front()
                .is_some_and(|first| first.moment_us <= begin)
        {
            watched.entries.pop_front();
        }
        (watched.last_us, watched.time) = (entry.moment_us, time_of(sample));
        let covered = watched
            .entries
            .front()
            .is_some_and(|first| first.moment_us.saturating_sub(first.span_us) <= begin);
        if !covered {
            return None;
        }
        watched.judged = true;
        let (sum, time) = (Entry::sum(watched.entries.iter()), watched.time.clone());
        self.judge(&sum, &sample.node, &time)
    }

    fn on_end(&mut self, sample: &Sample) -> Option<Violation> {
        let watched = self
            .nodes
            .remove(&(sample.node.clone(), sample.channel.clone()));
        let time = time_of(sample);
        match watched {
            Some(watched) if watched.judged => None,
            Some(watched) => self.judge(&Entry::sum(watched.entries.iter()), &sample.node, &time),
            None => self.judge(&Entry::of(sample), &sample.node, &time),
        }
    }

    fn judge(&mut self, entry: &Entry, node: &str, time: &str) -> Option<Violation> {
        let mut first = None;
        for metric in Metric::ALL {
            let Some((value, limit)) = entry.value(metric).zip(self.limits.get(metric)) else {
                continue;
            };
            let found = self.compare(metric, value, limit, node, time);
            first = first.or(found);
        }
        first
    }

    fn judge_join(&mut self, sample: &Sample) -> Option<Violation> {
        let limit = self.limits.max_join_ms?;
        let value = match sample.number("join_ms") {
            Some(join) => join,
            // Still waiting: judged only once it is too late, so that an early look does not pass for a join.
            None if sample.event == "interval" && sample.tool == "p2ps-peer" => {
                sample.up_ms.filter(|up_ms| *up_ms > limit)?
            }
            None => return None,
        };
        self.compare(Metric::Join, value, limit, &sample.node, &time_of(sample))
    }

    fn compare(
        &mut self,
        metric: Metric,
        value: f64,
        limit: f64,
        node: &str,
        time: &str,
    ) -> Option<Violation> {
        if !self.seen.contains(&metric) {
            self.seen.push(metric);
        }
        metric.misses(value, limit).then(|| Violation {
            metric,
            value,
            limit,
            node: node.into(),
            time: time.into(),
        })
    }
}

/// `12:00:05`, or `5.0s` after its start where a record has no time of day.
fn time_of(sample: &Sample) -> String {
    match (sample.ts, sample.up_ms) {
        // Hours, minutes and seconds of the fixed text form.
        (Some(ts), _) => ts.to_string().chars().skip(11).take(8).collect(),
        (None, Some(up_ms)) => format!("{:.1}s", up_ms / 1000.0),
        (None, None) => "no time".into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;
    use crate::stats::timestamp::Timestamp;

    fn sample(second: u64, event: &str, fields: &Value) -> Sample {
        Sample {
            event: event.into(),
            ts: Some(Timestamp::from_unix_micros(
                1_795_262_400_000_000 + second * 1_000_000,
            )),
            up_ms: Some(second as f64 * 1000.0),
            tool: "p2ps-peer".into(),
            node: "3f".into(),
            channel: "film".into(),
            fields: fields.as_object().cloned().unwrap_or_else(Map::new),
        }
    }

    fn one(limits: Limits, fields: &Value) -> Option<String> {
        Check::new(limits, None)
            .on_sample(&sample(5, "interval", fields))
            .map(|violation| violation.to_string())
    }

    #[test]
    fn messages() {
        let limits = Limits {
            max_loss: Some(0.05),
            max_latency_ms: Some(4000.0),
            max_jitter_ms: Some(50.0),
            max_stall_ms: Some(0.0),
            min_continuity: Some(0.99),
            max_join_ms: Some(2000.0),
        };
        for (fields, expected) in [
            (
                json!({"continuity_ratio": 0.981}),
                "continuity 0.981 below 0.990 (node 3f, 12:00:05)",
            ),
            (
                json!({"continuity_ratio": 0.9898}),
                "continuity 0.9898 below 0.9900 (node 3f, 12:00:05)",
            ),
            (
                json!({"loss_ratio": 0.07}),
                "loss 7.0% above 5.0% (node 3f, 12:00:05)",
            ),
            (
                json!({"latency_ms": 4210.4, "age_ms": 1.0}),
                "latency 4210ms above 4000ms (node 3f, 12:00:05)",
            ),
            (
                json!({"age_ms": 4000.4}),
                "latency 4000.4ms above 4000.0ms (node 3f, 12:00:05)",
            ),
            (
                json!({"jitter_ms": 51}),
                "jitter 51ms above 50ms (node 3f, 12:00:05)",
            ),
            (
                json!({"stall_ms": 40.0}),
                "stall 40ms above 0ms (node 3f, 12:00:05)",
            ),
            (
                json!({"join_ms": 2500.0}),
                "join 2500ms above 2000ms (node 3f, 12:00:05)",
            ),
            // It has run for 5 s and still has not joined.
            (json!({}), "join 5000ms above 2000ms (node 3f, 12:00:05)"),
        ] {
            assert_eq!(one(limits, &fields).as_deref(), Some(expected), "{fields}");
        }
    }

    #[test]
    fn what_is_at_the_limit_passes() {
        let limits = Limits::STREAMSMART.or(Limits {
            min_continuity: Some(0.99),
            ..Limits::default()
        });
        let fields = json!({"loss_ratio": 0.05, "latency_ms": 4000.0, "continuity_ratio": 0.99});
        assert_eq!(one(limits, &fields), None);
    }

    #[test]
    fn a_window_weighs_packets_and_forgives_a_spike() {
        let mut check = Check::new(Limits::STREAMSMART, Some(Duration::from_secs(10)));
        for second in 1..=60 {
            // 20 of 100 lost in one second of ten: 2 % of the window.
            let lost = if second % 10 == 0 { 20 } else { 0 };
            let fields = json!({"interval_ms": 1000, "lost_packets": lost, "recv_packets": 100 - lost, "latency_ms": 60.0});
            assert_eq!(
                check.on_sample(&sample(second, "interval", &fields)),
                None,
                "second {second}"
            );
        }
        let fields = json!({"interval_ms": 1000, "lost_packets": 60, "recv_packets": 40});
        let found = check
            .on_sample(&sample(61, "interval", &fields))
            .map(|violation| violation.to_string());
        assert_eq!(
            found.as_deref(),
            Some("loss 8.0% above 5.0% (node 3f, 12:01:01)")
        );
    }

    #[test]
    fn a_window_that_never_filled_is_judged_at_the_end() {
        let fields = json!({"interval_ms": 1000, "loss_ratio": 0.5, "latency_ms": 1.0});
        let mut check = Check::new(Limits::STREAMSMART, Some(Duration::from_secs(30)));
        assert_eq!(check.on_sample(&sample(1, "interval", &fields)), None);
        assert!(
            check
                .finish()
                .is_some_and(|violation| violation.metric == Metric::Loss)
        );

        let mut check = Check::new(Limits::STREAMSMART, Some(Duration::from_secs(30)));
        check.on_sample(&sample(1, "interval", &fields));
        assert!(check.on_sample(&sample(2, "end", &json!({}))).is_some());
        assert_eq!(check.finish(), None);
    }

    #[test]
    fn stalls_add_up_over_the_window() {
        let limits = Limits {
            max_stall_ms: Some(100.0),
            ..Limits::default()
        };
        let mut check = Check::new(limits, Some(Duration::from_secs(3)));
        let fields = json!({"interval_ms": 1000, "stall_ms": 40.0});
        assert_eq!(check.on_sample(&sample(1, "interval", &fields)), None);
        assert_eq!(check.on_sample(&sample(2, "interval", &fields)), None);
        assert!(check.on_sample(&sample(3, "interval", &fields)).is_some());
    }

    #[test]
    fn metrics_that_no_record_had_are_named() {
        let mut check = Check::new(Limits::STREAMSMART, None);
        assert_eq!((check.records(), check.unseen()), (0, Some(Metric::Loss)));
        check.on_sample(&sample(1, "interval", &json!({"loss_ratio": 0.0})));
        assert_eq!(check.unseen(), Some(Metric::Latency));
        check.on_sample(&sample(1, "end", &json!({"latency_ms": 1.0})));
        assert_eq!(check.unseen(), None);
    }

    #[test]
    fn nodes_are_judged_apart_and_their_number_is_bounded() {
        let mut check = Check::new(Limits::STREAMSMART, Some(Duration::from_secs(2)));
        for number in 0..NODES_MAX + 10 {
            let fields = json!({"interval_ms": 1000, "loss_ratio": 0.01});
            let mut record = sample(number as u64, "interval", &fields);
            record.node = format!("{number:04x}");
            assert_eq!(check.on_sample(&record), None);
        }
        assert_eq!(check.nodes.len(), NODES_MAX);
    }
}
