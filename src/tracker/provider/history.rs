//! What quality users had, when: the samples behind "since when is it so".

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::{Value, json};

use super::tariff::Qos;
use crate::stats::timestamp::Timestamp;

/// Samples kept, of all users together: some 20 MB.
pub const SAMPLES_MAX: usize = 1 << 18;

/// Samples in one answer.
pub const ANSWER_MAX: usize = 10_000;

#[derive(Clone, Debug)]
struct Sample {
    at: u64,
    user: Arc<str>,
    content: Arc<str>,
    qos: Qos,
}

/// Samples in the order of time.
#[derive(Clone, Debug, Default)]
pub struct History {
    samples: VecDeque<Sample>,
}

impl History {
    /// Takes a sample at a time in Unix microseconds, and forgets what is older than `keep_s` seconds.
    pub fn push(&mut self, at: u64, user: &Arc<str>, content: &Arc<str>, qos: Qos, keep_s: u64) {
        let oldest = at.saturating_sub(keep_s.saturating_mul(1_000_000));
        while self.samples.len() >= SAMPLES_MAX
            || self.samples.front().is_some_and(|first| first.at < oldest)
        {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample {
            at,
            user: Arc::clone(user),
            content: Arc::clone(content),
            qos,
        });
    }

    /// Samples of a content at or after `since`, oldest first, of one user or of all; the newest
    /// [`ANSWER_MAX`] of them.
    pub fn query(&self, content: &str, user: Option<&str>, since: u64) -> Vec<Value> {
        let first = self.samples.partition_point(|sample| sample.at < since);
        let mut rows: Vec<Value> = self
            .samples
            .range(first..)
            .rev()
            .filter(|sample| &*sample.content == content)
            .filter(|sample| user.is_none_or(|user| &*sample.user == user))
            .take(ANSWER_MAX)
            .map(|sample| {
                let mut row = json!({
                    "ts": Timestamp::from_unix_micros(sample.at).to_string(),
                    "id": &*sample.user,
                });
                let qos = &sample.qos;
                for (name, value) in [
                    ("bw_mbps", qos.bw_mbps),
                    ("lat_ms", qos.lat_ms),
                    ("jit_ms", qos.jit_ms),
                ] {
                    if let Some(value) = value {
                        row[name] = json!(value);
                    }
                }
                row
            })
            .collect();
        rows.reverse();
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_kept_for_a_while_and_found_by_time_and_user() {
        let mut history = History::default();
        let (film, ann, bob) = (Arc::from("film"), Arc::from("C1"), Arc::from("C2"));
        for second in 0..100u64 {
            let user = if second % 2 == 0 { &ann } else { &bob };
            let qos = Qos {
                lat_ms: Some(second as f64),
                ..Qos::default()
            };
            history.push(second * 1_000_000, user, &film, qos, 60);
        }
        assert_eq!(history.query("film", None, 0).len(), 61);
        assert_eq!(history.query("other", None, 0).len(), 0);
        let rows = history.query("film", Some("C1"), 95_000_000);
        let late: Vec<f64> = rows
            .iter()
            .filter_map(|row| row["lat_ms"].as_f64())
            .collect();
        assert_eq!(late, [96.0, 98.0]);
    }

    #[test]
    fn samples_have_a_limit() {
        let mut history = History::default();
        let (film, ann) = (Arc::from("film"), Arc::from("C1"));
        for _ in 0..SAMPLES_MAX + 10 {
            history.push(5, &ann, &film, Qos::default(), 60);
        }
        assert_eq!(history.samples.len(), SAMPLES_MAX);
        assert_eq!(history.query("film", None, 0).len(), ANSWER_MAX);
    }
}
