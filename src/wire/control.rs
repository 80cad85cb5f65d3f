//! The JSON bodies of CONTROL: what a clone and its user's own peer say to each other about a stream.
//!
//! A clone (StreamSmart's word) is a relay that takes part in a channel for one user. It tells his peer that the channel
//! streams and joins when the user says so. JSON comes over UDP here, so it is held to [`BODY_BYTES_MAX`] and
//! [`DEPTH_MAX`] before it is read; members that are not known are passed over.

use serde::{Deserialize, Serialize};

use super::description::{is_channel_name, is_title};

/// Longest body, in bytes.
pub const BODY_BYTES_MAX: usize = 1024;
/// Objects and arrays within each other at most.
pub const DEPTH_MAX: usize = 8;

/// What a user wants of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The clone joins, and passes the stream on to the user's peer.
    Watch,
    /// The clone joins and keeps the stream; the user's peer fetches it later.
    Record,
    /// The clone does not join.
    Ignore,
}

impl Answer {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Watch => "watch",
            Self::Record => "record",
            Self::Ignore => "ignore",
        }
    }
}

/// Kind 1, from a clone: the channel streams; what shall be done?
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotifyStream {
    /// What the channel is called, empty while that is not known.
    #[serde(default)]
    pub channel: String,
    /// What it is called for people.
    #[serde(default)]
    pub title: String,
    /// Whether the clone can record.
    #[serde(default)]
    pub records: bool,
}

/// Kind 2, from the user's peer: this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchAnswer {
    /// What the user wants.
    pub answer: Answer,
}

/// Kind 3, from the clone: the answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerTaken {
    /// The answer.
    pub answer: Answer,
    /// Whether it is followed: a clone that cannot record cannot be told to.
    pub taken: bool,
}

/// One body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlBody {
    /// 1.
    NotifyStream(NotifyStream),
    /// 2.
    WatchAnswer(WatchAnswer),
    /// 3.
    AnswerTaken(AnswerTaken),
}

impl ControlBody {
    /// The number on the wire.
    pub const fn kind(&self) -> u16 {
        match self {
            Self::NotifyStream(_) => 1,
            Self::WatchAnswer(_) => 2,
            Self::AnswerTaken(_) => 3,
        }
    }

    /// Reads a body; `None` when it is too long, too deep, of a kind that is not known, or not what its kind has.
    pub fn decode(kind: u16, body: &[u8]) -> Option<Self> {
        if body.len() > BODY_BYTES_MAX || depth(body) > DEPTH_MAX {
            return None;
        }
        match kind {
            1 => {
                let notice: NotifyStream = serde_json::from_slice(body).ok()?;
                // People are shown these.
                let fits = notice.channel.is_empty() || is_channel_name(&notice.channel);
                (fits && is_title(&notice.title)).then_some(Self::NotifyStream(notice))
            }
            2 => serde_json::from_slice(body).ok().map(Self::WatchAnswer),
            3 => serde_json::from_slice(body).ok().map(Self::AnswerTaken),
            _ => None,
        }
    }

    /// The body in bytes; nothing that [`decode`](Self::decode) takes becomes too long.
    pub fn encode(&self) -> Vec<u8> {
        let written = match self {
            Self::NotifyStream(body) => serde_json::to_vec(body),
            Self::WatchAnswer(body) => serde_json::to_vec(body),
            Self::AnswerTaken(body) => serde_json::to_vec(body),
        };
        written.expect("texts, flags and words are JSON")
    }
}

/// How many objects and arrays stand within each other, at the deepest place.
fn depth(body: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_text, mut is_escaped) = (false, false);
    for byte in body {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_text => is_escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_read_and_what_is_not_known_is_passed_over() {
        let notice = ControlBody::decode(
            1,
            br#"{"channel":"film","title":"A \"film\"","records":true,"later":{"x":[1]}}"#,
        );
        let expected = NotifyStream {
            channel: "film".into(),
            title: "A \"film\"".into(),
            records: true,
        };
        assert_eq!(notice, Some(ControlBody::NotifyStream(expected)));
        for answer in [Answer::Watch, Answer::Record, Answer::Ignore] {
            let text = format!(r#"{{"answer":"{}"}}"#, answer.as_str());
            let body = ControlBody::WatchAnswer(WatchAnswer { answer });
            assert_eq!(ControlBody::decode(2, text.as_bytes()), Some(body.clone()));
            assert_eq!(body.encode(), text.as_bytes());
        }
    }

    #[test]
    fn wrong_bodies_are_none() {
        let long = format!(r#"{{"answer":"watch","x":"{}"}}"#, "y".repeat(1000));
        let deep = |by: usize| {
            let nested = format!("{}{}", "[".repeat(by), "]".repeat(by));
            format!(r#"{{"answer":"watch","x":{nested}}}"#)
        };
        assert!(ControlBody::decode(2, deep(DEPTH_MAX - 1).as_bytes()).is_some());
        for (kind, body) in [
            (2, long.as_str()),
            (2, deep(DEPTH_MAX).as_str()),
            (2, r#"{"answer":"dance"}"#),
            (2, r#"{"answer":"watch","answer":"ignore"}"#),
            (2, r#"{"answer":"watch"}x"#),
            (2, r#"{}"#),
            (3, r#"{"answer":"watch"}"#),
            (1, r#"{"channel":"a film"}"#),
            (1, r#"{"title":"\u001b[2J"}"#),
            (1, r#"{"records":1}"#),
            (4, r#"{"answer":"watch"}"#),
            (2, ""),
        ] {
            assert_eq!(
                ControlBody::decode(kind, body.as_bytes()),
                None,
                "{kind} {body}"
            );
        }
    }

    #[test]
    fn the_longest_notice_fits() {
        let notice = ControlBody::NotifyStream(NotifyStream {
            channel: "c".repeat(64),
            title: "\\".repeat(256),
            records: true,
        });
        let written = notice.encode();
        assert_eq!(ControlBody::decode(1, &written), Some(notice));
    }
}
