//! What is said about quality, and under which name: counters, JSON-lines records, Prometheus text.
//!
//! A node fills one [`Counters`]. Everything that leaves the process is derived from it here, so that records
//! ([`record`], [`interval`], [`neighbour`]), the metrics page ([`prometheus`]) and the tracker's reports cannot drift apart. [`Recorder`] keeps
//! the last snapshot and turns the next one into lines. [`analyse`] reads lines back.
//!
//! The schema is `p2ps.qos/1`: [`SCHEMA_JSON`] and the manual page p2ps-stats(5).

pub mod analyse;
pub mod counters;
pub mod history;
pub mod interval;
pub mod neighbour;
pub mod prometheus;
pub mod record;
pub mod recorder;
pub mod timestamp;

pub use counters::{Counters, Path, Tool};
pub use history::History;
pub use interval::{End, Interval};
pub use neighbour::{Neighbour, NeighbourCounters, Role};
pub use record::{Head, Notice, Record, Start, State, StateChange, StreamNotice, UserAnswer};
pub use recorder::Recorder;

/// Name and version of the record schema, the `schema` field of every `start` record.
pub const SCHEMA: &str = "p2ps.qos/1";

/// The JSON Schema (draft 2020-12) of one record. It lets unknown fields pass: fields are added over time, and
/// readers ignore those they do not know.
pub const SCHEMA_JSON: &str = include_str!("qos-1.schema.json");

/// The schema with every object closed: what tests hold our own records against.
///
/// # Panics
///
/// Never: the text is compiled in and a test parses it.
pub fn closed_schema() -> serde_json::Value {
    let mut schema: serde_json::Value =
        serde_json::from_str(SCHEMA_JSON).expect("the schema that is compiled in is JSON");
    if let Some(events) = schema
        .get_mut("$defs")
        .and_then(serde_json::Value::as_object_mut)
    {
        for definition in events
            .values_mut()
            .filter_map(serde_json::Value::as_object_mut)
        {
            if definition.contains_key("properties") {
                definition.insert("additionalProperties".into(), false.into());
            }
        }
    }
    schema
}
