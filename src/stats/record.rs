//! The records themselves: one JSON object a line, schema `p2ps.qos/1`.
//!
//! Every record begins with the same head. Fields keep the order of the structs here. A value that is not known or
//! not a finite number stays out. No line reaches [`LINE_MAX`] bytes: free text is cut, the rest is bounded by its types.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::stats::SCHEMA;
use crate::stats::counters::{NUMBER_MAX, Tool};
use crate::stats::interval::{End, Interval};
use crate::stats::neighbour::Neighbour;
use crate::stats::timestamp::Timestamp;
use crate::time::micros;
use crate::wire::Answer;

/// No line is as long as this, its line feed included.
pub const LINE_MAX: usize = 4096;

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
    /// The channel as it was asked for, by name or by identifier, the same in all records of a run; `*` where a record is
    /// about all of them.
    pub channel: String,
    /// What the source calls it, once known, where `channel` is not that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_name: Option<String>,
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
    /// A clone asked its user what to do with a stream.
    Notice(StreamNotice),
    /// The user answered.
    Answer(UserAnswer),
    /// One neighbour.
    Neighbour(Box<Neighbour>),
    /// The program is done.
    End(Box<End>),
}

/// The program is up: what it understood and what it got.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Name and version of this schema, `p2ps.qos/1`.
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
            interval_ms: (micros(interval) / 1000).min(NUMBER_MAX),
            ..Self::default()
        }
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

/// A channel streams, and a user is asked what to do: of the clone that asks and of the peer that is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamNotice {
    /// Who asks, or is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Its address.
    pub address: String,
    /// What the channel is called for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Whether the clone can record.
    pub can_record: bool,
}

/// What the user answered: of the clone that has it, and of the peer that knows so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserAnswer {
    /// Who answered, or has the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Its address.
    pub address: String,
    /// The answer.
    pub answer: Answer,
    /// Whether the clone follows it.
    pub followed: bool,
}

/// A record as one line, its line feed included, shorter than [`LINE_MAX`].
///
/// Fields that the head's tool does not have are left out; text that would make the line too long is cut.
pub fn line(head: &Head, record: Record) -> String {
    let head = Head {
        node: name(&head.node).into(),
        channel: name(&head.channel).into(),
        channel_name: head.channel_name.as_deref().map(|text| name(text).into()),
        ..head.clone()
    };
    let mut record = match record {
        Record::Interval(interval) => Record::Interval(Box::new(interval.for_tool(head.tool))),
        Record::End(end) => Record::End(Box::new(end.for_tool(head.tool))),
        other => other,
    };
    let mut line = render(&head, &record);
    let mut limit = LINE_MAX / 2;
    while line.len() + 1 >= LINE_MAX && limit > 0 {
        record.shorten(limit);
        line = render(&head, &record);
        limit /= 2;
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
        Record::Notice(body) => json("notice", head, body),
        Record::Answer(body) => json("answer", head, body),
        Record::Neighbour(body) => json("neighbour", head, body),
        Record::End(body) => json("end", head, body),
    }
}

impl Record {
    /// Cuts every free text to `limit` bytes, and lists to a number of entries that leaves each some room.
    fn shorten(&mut self, limit: usize) {
        for text in self.texts() {
            text.truncate(boundary(text, limit));
        }
        match self {
            Self::Start(start) => {
                start.listen.truncate(limit / 64);
                while start.settings.len() > limit / 16 {
                    start.settings.pop_last();
                }
            }
            Self::Interval(interval) => interval.media.shorten(limit / 64),
            Self::End(end) => end.media.shorten(limit / 64),
            _ => {}
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
            Self::Notice(notice) => [&mut notice.address]
                .into_iter()
                .chain(&mut notice.title)
                .chain(&mut notice.peer)
                .collect(),
            Self::Answer(answer) => [&mut answer.address]
                .into_iter()
                .chain(&mut answer.peer)
                .collect(),
            Self::Neighbour(neighbour) => vec![&mut neighbour.address, &mut neighbour.peer],
            Self::End(end) => vec![&mut end.reason],
            Self::Interval(_) => Vec::new(),
        }
    }
}

/// A name cut to [`NAME_BYTES_MAX`] bytes of JSON.
fn name(text: &str) -> &str {
    // An escape such as \u0001 takes six bytes for one.
    let plain = text
        .bytes()
        .all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\');
    let bytes = if plain {
        NAME_BYTES_MAX
    } else {
        NAME_BYTES_MAX / 6
    };
    &text[..boundary(text, bytes)]
}

/// The last place at or before `bytes` that lies between two characters.
fn boundary(text: &str, bytes: usize) -> usize {
    (0..=bytes.min(text.len()))
        .rev()
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(0)
}
