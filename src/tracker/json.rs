//! Reads JSON that strangers sent, within limits, into a tree.
//!
//! What breaks the syntax ends the reading. What breaks a limit (depth, array length, string length, a member twice)
//! is remembered and left out of the tree, and reading goes on: the transaction identifier may stand behind it, and an
//! answer should carry it (RFC 7846 §4.3 wants an error response for every malformed message).

use std::cell::RefCell;
use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::{Map, Number, Value};

/// Longest request read, in bytes.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// Longest response read, in bytes: the swarms of a whole request, 30 peers and a description fit.
pub const RESPONSE_BYTES_MAX: usize = 256 * 1024;

/// Deepest nesting of objects and arrays.
pub const DEPTH_MAX: usize = 32;

/// Longest array, in elements.
pub const ARRAY_MAX: usize = 1024;

/// Longest array of addresses, in elements.
pub const ADDRESSES_MAX: usize = 64;

/// Longest identifier (`peer_id`, `transaction_id`), in bytes.
pub const IDENTIFIER_BYTES_MAX: usize = 256;

/// Longest swarm identifier, in bytes: twice [`crate::ids::SwarmId::BYTES_MAX`], as it is written in hexadecimal.
pub const SWARM_ID_BYTES_MAX: usize = 2 * crate::ids::SwarmId::BYTES_MAX;

/// Longest encoded channel description, in bytes of base64.
pub const DESCRIPTION_BYTES_MAX: usize = 8192;

/// Longest encoded ticket or certificate, in bytes of base64.
const TICKET_TEXT_BYTES_MAX: usize = 2048;

/// Longest string of any other member, and longest member name, in bytes.
pub const STRING_BYTES_MAX: usize = 1024;

/// Longest text about a violation, in characters.
const TEXT_CHARS_MAX: usize = 160;

/// How long the string of one member may be.
fn string_limit(member: &str) -> usize {
    match member {
        "peer_id" | "transaction_id" => IDENTIFIER_BYTES_MAX,
        "swarm_id" => SWARM_ID_BYTES_MAX,
        "description" => DESCRIPTION_BYTES_MAX,
        "ticket" | "user_ticket" | "channel_ticket" | "x_p2ps_cert" => TICKET_TEXT_BYTES_MAX,
        _ => STRING_BYTES_MAX,
    }
}

/// How long the array of one member may be.
fn array_limit(member: &str) -> usize {
    match member {
        "peer_addr" => ADDRESSES_MAX,
        _ => ARRAY_MAX,
    }
}

/// A tree, and the first limit that it broke.
#[derive(Debug)]
pub(super) struct Reading {
    /// What was read, without the parts that broke a limit.
    pub(super) value: Value,
    /// What was wrong with it, for people.
    pub(super) violation: Option<String>,
}

/// Reads one body of at most `bytes_max` bytes.
///
/// # Errors
///
/// A line for people when the body is too long or no JSON text.
pub(super) fn read(body: &[u8], bytes_max: usize) -> Result<Reading, String> {
    if body.len() > bytes_max {
        return Err(format!("body over {bytes_max} bytes"));
    }
    let violation = RefCell::new(None);
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let seed = Node {
        member: "body",
        depth: 0,
        violation: &violation,
    };
    let value = seed
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| format!("not JSON: {error}"))?;
    Ok(Reading {
        value,
        // Member names in it are a stranger's: nothing unprintable may reach a log or a terminal.
        violation: violation
            .into_inner()
            .map(|what: String| what.escape_debug().take(TEXT_CHARS_MAX).collect()),
    })
}

/// Reads one value that stands under `member`, `depth` containers deep.
#[derive(Clone, Copy)]
struct Node<'a> {
    member: &'a str,
    depth: usize,
    violation: &'a RefCell<Option<String>>,
}

impl Node<'_> {
    /// Remembers the first violation only: it is what the sender has to mend first.
    fn blame(&self, what: impl FnOnce() -> String) {
        self.violation.borrow_mut().get_or_insert_with(what);
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if self.depth > DEPTH_MAX {
            self.blame(|| format!("{}: nested over {DEPTH_MAX} deep", self.member));
            return deserializer
                .deserialize_ignored_any(IgnoredAny)
                .map(|_| Value::Null);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        let limit = string_limit(self.member);
        if value.len() > limit {
            self.blame(|| format!("{}: {} bytes, limit {limit}", self.member, value.len()));
            return Ok(Value::Null);
        }
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let inner = Node {
            depth: self.depth + 1,
            ..self
        };
        let limit = array_limit(self.member);
        let mut array = Vec::new();
        while array.len() < limit {
            match elements.next_element_seed(inner)? {
                Some(value) => array.push(value),
                None => return Ok(Value::Array(array)),
            }
        }
        while elements.next_element::<IgnoredAny>()?.is_some() {
            self.blame(|| format!("{}: over {limit} elements", self.member));
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if name.len() > STRING_BYTES_MAX {
                return Err(A::Error::custom(format_args!(
                    "member name over {STRING_BYTES_MAX} bytes"
                )));
            }
            let value = members.next_value_seed(Node {
                member: &name,
                depth: self.depth + 1,
                violation: self.violation,
            })?;
            if object.contains_key(&name) {
                self.blame(|| format!("{name}: member twice"));
            } else {
                object.insert(name, value);
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violation(body: &str) -> Option<String> {
        read(body.as_bytes(), BODY_BYTES_MAX)
            .expect("syntactically JSON")
            .violation
    }

    #[test]
    fn a_broken_limit_is_named_and_the_rest_is_still_read() {
        let long = "x".repeat(10_240);
        let reading = read(
            format!(r#"{{"peer_id":"{long}","transaction_id":"t"}}"#).as_bytes(),
            BODY_BYTES_MAX,
        )
        .unwrap();
        assert_eq!(
            reading.violation.as_deref(),
            Some("peer_id: 10240 bytes, limit 256")
        );
        assert_eq!(reading.value["transaction_id"], "t");

        assert_eq!(
            violation(r#"{"a":1,"b":{"a":1},"a":2}"#).as_deref(),
            Some("a: member twice")
        );
    }

    #[test]
    fn limits_hold_at_their_edge() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(violation(&nested(DEPTH_MAX + 1)), None);
        assert_eq!(
            violation(&nested(DEPTH_MAX + 2)).as_deref(),
            Some("body: nested over 32 deep")
        );

        let array =
            |name: &str, count: usize| format!(r#"{{"{name}":[{}0]}}"#, "0,".repeat(count - 1));
        assert_eq!(violation(&array("stat", ARRAY_MAX)), None);
        assert_eq!(
            violation(&array("stat", ARRAY_MAX + 1)).as_deref(),
            Some("stat: over 1024 elements")
        );
        assert_eq!(
            violation(&array("peer_addr", ADDRESSES_MAX + 1)).as_deref(),
            Some("peer_addr: over 64 elements")
        );

        let text = |name: &str, bytes: usize| format!(r#"{{"{name}":"{}"}}"#, "y".repeat(bytes));
        for (name, limit) in [
            ("transaction_id", IDENTIFIER_BYTES_MAX),
            ("swarm_id", SWARM_ID_BYTES_MAX),
            ("description", DESCRIPTION_BYTES_MAX),
            ("anything", STRING_BYTES_MAX),
        ] {
            assert_eq!(violation(&text(name, limit)), None);
            assert!(violation(&text(name, limit + 1)).is_some(), "{name}");
        }
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for body in [
            &b""[..],
            b"{",
            b"{}x",
            b"{\"a\":NaN}",
            b"{\"a\":1e999}",
            b"\"\xff\"",
            b"\"\\ud800\"",
            b"{\"a\":01}",
        ] {
            assert!(
                read(body, BODY_BYTES_MAX).is_err(),
                "{}",
                body.escape_ascii()
            );
        }
        assert!(read(&vec![b' '; BODY_BYTES_MAX + 1], BODY_BYTES_MAX).is_err());
        // Nesting far past every stack is refused by the parser, not by a crash.
        assert!(read("[".repeat(60_000).as_bytes(), BODY_BYTES_MAX).is_err());
    }
}
