//! What quality a node had, when: its own samples of the last hour, for whoever asks since when it is so.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;

use crate::stats::counters::{Counters, milliseconds};
use crate::stats::interval::Rates;
use crate::stats::timestamp::Timestamp;
use crate::time::micros;

/// Samples kept.
pub const SAMPLES_MAX: usize = 3600;

/// How long a sample is kept.
const KEPT: Duration = Duration::from_secs(3600);

/// What was measured at one moment. What is not known is left out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Sample {
    /// When.
    pub ts: Timestamp,
    /// Upload capacity, in Mbit/s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bw_mbps: Option<f64>,
    /// Cumulative latency from the source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lat_ms: Option<f64>,
    /// Interarrival jitter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jit_ms: Option<f64>,
    /// Upload in use, children times bit rate, in Mbit/s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used_mbps: Option<f64>,
}

/// The samples of one channel, oldest first.
#[derive(Clone, Debug, Default)]
pub struct History {
    samples: VecDeque<Sample>,
}

impl History {
    /// Takes what the counters say at `ts`; `before` are those of the sample before.
    pub fn push(&mut self, ts: Timestamp, before: &Counters, after: &Counters) {
        let last = self.samples.back().map(|sample| sample.ts);
        let span = last.map_or(0, |last| {
            ts.unix_micros().saturating_sub(last.unix_micros())
        });
        let rates = Rates::between(before, after, Duration::from_micros(span));
        let oldest = ts.unix_micros().saturating_sub(micros(KEPT));
        while self.samples.len() >= SAMPLES_MAX
            || self
                .samples
                .front()
                .is_some_and(|first| first.ts.unix_micros() < oldest)
        {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample {
            ts,
            bw_mbps: rates.uplink_mbps,
            lat_ms: after.latency_us.map(milliseconds),
            jit_ms: after.jitter_us.map(milliseconds),
            used_mbps: rates.bandwidth_mbps.filter(|_| span > 0),
        });
    }

    /// Samples at or after `since`, oldest first.
    pub fn since(&self, since: Timestamp) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(move |sample| sample.ts >= since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Timestamp {
        Timestamp::from_unix_micros(1_795_262_400_000_000 + second * 1_000_000)
    }

    #[test]
    fn a_sample_says_what_is_known() {
        let mut history = History::default();
        let first = Counters {
            latency_us: Some(20_000),
            children: Some(2),
            ..Counters::default()
        };
        history.push(at(0), &Counters::default(), &first);
        let second = Counters {
            recv_media_bytes: 250_000,
            jitter_us: Some(1_500),
            uplink_bps: Some(25_000_000),
            ..first.clone()
        };
        history.push(at(1), &first, &second);
        let lines: Vec<String> = history
            .since(at(0))
            .map(|sample| serde_json::to_string(sample).expect("finite numbers"))
            .collect();
        assert_eq!(
            lines,
            [
                // Nothing can be said of a rate before there is a span.
                r#"{"ts":"2026-11-21T12:00:00.000000Z","lat_ms":20.0}"#,
                r#"{"ts":"2026-11-21T12:00:01.000000Z","bw_mbps":25.0,"lat_ms":20.0,"jit_ms":1.5,"used_mbps":4.0}"#,
            ]
        );
        assert_eq!(history.since(at(1)).count(), 1);
    }

    #[test]
    fn the_last_hour_is_kept_and_no_more_than_3600_samples() {
        let mut history = History::default();
        let counters = Counters::default();
        for second in (0..8000).step_by(10) {
            history.push(at(second), &counters, &counters);
        }
        assert_eq!(
            history.samples.front().map(|first| first.ts),
            Some(at(4390))
        );
        for _ in 0..SAMPLES_MAX + 10 {
            history.push(at(8000), &counters, &counters);
        }
        assert_eq!(history.samples.len(), SAMPLES_MAX);
    }
}
