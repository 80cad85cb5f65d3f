//! Answers of a tracker's API, read into rows, and written as one JSON object a line.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::ask::Subject;

/// One user, with what the question asked for; members that are new keep their place at the end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct User {
    /// The name that the provider gave.
    pub(super) id: String,
    /// What it is and serves, such as `c-c,p`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<String>,
    /// Its price packet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) packet: Option<String>,
    /// Its price interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) interval: Option<String>,
    /// What of quality was measured.
    #[serde(flatten)]
    pub(super) quality: Quality,
    /// Level below the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) level: Option<u64>,
    /// Who serves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) parent: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub(super) more: Map<String, Value>,
}

/// Bandwidth, latency, jitter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Quality {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) bw_mbps: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) lat_ms: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) jit_ms: Option<f64>,
}

/// One price packet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Packet {
    pub(super) name: String,
    #[serde(default)]
    pub(super) bounds: Quality,
    #[serde(default)]
    pub(super) price: String,
    #[serde(default)]
    pub(super) unit: String,
    /// Those who have it, as `ID: BW, LAT, JIT`.
    #[serde(default)]
    pub(super) users: Vec<String>,
    #[serde(flatten)]
    pub(super) more: Map<String, Value>,
}

/// One price by bandwidth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Interval {
    pub(super) name: String,
    #[serde(default)]
    pub(super) over_mbps: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) to_mbps: Option<f64>,
    #[serde(default)]
    pub(super) price: String,
    #[serde(default)]
    pub(super) unit: String,
    #[serde(default)]
    pub(super) users: Vec<User>,
    #[serde(flatten)]
    pub(super) more: Map<String, Value>,
}

/// What was measured at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Sample {
    pub(super) ts: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<String>,
    #[serde(flatten)]
    pub(super) quality: Quality,
    #[serde(flatten)]
    pub(super) more: Map<String, Value>,
}

/// The status table: columns in their order, each with its users.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Status(pub(super) Vec<(String, Vec<User>)>);

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    Users(Vec<User>),
    Packets {
        currency: String,
        packets: Vec<Packet>,
    },
    Intervals {
        currency: String,
        intervals: Vec<Interval>,
    },
    Status(Status),
    History(Vec<Sample>),
    /// Rows whose columns only the tracker knows.
    Rows(Vec<Map<String, Value>>),
}

impl Answer {
    /// Reads the body of an answer; the error says why it is none.
    pub(super) fn read(subject: Subject, body: &str) -> Result<Self, String> {
        fn from<T: for<'a> Deserialize<'a>>(body: &str) -> Result<T, String> {
            serde_json::from_str(body).map_err(|error| error.to_string())
        }
        #[derive(Deserialize)]
        struct Users {
            users: Vec<User>,
        }
        #[derive(Deserialize)]
        struct Packets {
            #[serde(default)]
            currency: String,
            packets: Vec<Packet>,
        }
        #[derive(Deserialize)]
        struct Intervals {
            #[serde(default)]
            currency: String,
            intervals: Vec<Interval>,
        }
        #[derive(Deserialize)]
        struct Columns {
            columns: Vec<String>,
            rows: std::collections::BTreeMap<String, Vec<User>>,
        }
        #[derive(Deserialize)]
        struct Samples {
            samples: Vec<Sample>,
        }
        #[derive(Deserialize)]
        struct Clusters {
            clusters: Vec<Map<String, Value>>,
        }
        Ok(match subject {
            Subject::Packets => {
                let Packets { currency, packets } = from(body)?;
                Self::Packets { currency, packets }
            }
            Subject::Intervals => {
                let Intervals {
                    currency,
                    intervals,
                } = from(body)?;
                Self::Intervals {
                    currency,
                    intervals,
                }
            }
            Subject::Status => {
                let Columns { columns, mut rows } = from(body)?;
                let column = |name: String| {
                    let users = rows.remove(&name).unwrap_or_default();
                    (name, users)
                };
                Self::Status(Status(columns.into_iter().map(column).collect()))
            }
            Subject::History => Self::History(from::<Samples>(body)?.samples),
            Subject::Clusters => Self::Rows(from::<Clusters>(body)?.clusters),
            Subject::Users
            | Subject::Clients
            | Subject::Peers
            | Subject::Bandwidth
            | Subject::Latency
            | Subject::Jitter
            | Subject::Qos
            | Subject::DirectClients => Self::Users(from::<Users>(body)?.users),
        })
    }

    /// One JSON object a row and line, each with the number of its round where there are several.
    pub(super) fn lines(&self, round: Option<u64>) -> String {
        match self {
            Self::Users(users) => lines(round, users),
            Self::Packets { packets, .. } => lines(round, packets),
            Self::Intervals { intervals, .. } => lines(round, intervals),
            Self::Status(Status(columns)) => {
                lines(round, columns.iter().flat_map(|(_, users)| users))
            }
            Self::History(samples) => lines(round, samples),
            Self::Rows(rows) => lines(round, rows),
        }
    }
}

fn lines<'a, T: Serialize + 'a>(
    round: Option<u64>,
    rows: impl IntoIterator<Item = &'a T>,
) -> String {
    #[derive(Serialize)]
    struct InRound<'a, T> {
        #[serde(skip_serializing_if = "Option::is_none")]
        round: Option<u64>,
        #[serde(flatten)]
        row: &'a T,
    }
    let line = |row: &'a T| {
        let line = serde_json::to_string(&InRound { round, row });
        line.expect("string keys and finite numbers, as they were read") + "\n"
    };
    rows.into_iter().map(line).collect()
}
