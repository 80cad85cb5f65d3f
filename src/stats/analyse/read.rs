//! Lines to samples, one at a time.

use std::io::{self, BufRead, Read};

use serde_json::{Map, Value};

use crate::stats::analyse::foreign;
use crate::stats::timestamp::Timestamp;

/// Longest line that is read, in bytes; ours are shorter than 4096, other tools write longer ones.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// One record, ours or another tool's under our names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// `interval`, `end`, ...; events of later versions pass through.
    pub event: String,
    /// When it was written, where it says so.
    pub ts: Option<Timestamp>,
    /// Time since the writer started, in ms, where it says so.
    pub up_ms: Option<f64>,
    /// The program.
    pub tool: String,
    /// The node.
    pub node: String,
    /// The channel.
    pub channel: String,
    /// Everything else.
    pub fields: Map<String, Value>,
}

impl Sample {
    /// A number by its name; nothing when it is not there.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.fields.get(name).and_then(Value::as_f64)
    }

    /// Packets lost and packets expected in the time it covers.
    pub fn loss(&self) -> Option<(f64, f64)> {
        let lost = self.number("lost_packets")?;
        let zero_or = |name| self.number(name).unwrap_or(0.0);
        let fresh = self.number("recv_packets")?
            - zero_or("duplicate_packets")
            - zero_or("repaired_packets");
        Some((lost, fresh.max(0.0) + lost))
    }

    /// A moment for windows, in µs: the time stamp, else the time since its start.
    pub fn moment_us(&self) -> Option<u64> {
        let up_us = || self.up_ms.map(|ms| (ms * 1000.0) as u64);
        self.ts.map(Timestamp::unix_micros).or_else(up_us)
    }
}

/// A line that is no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: bad record: {why}")]
pub struct BadRecord {
    /// Number of the line, from 1.
    pub line: u64,
    /// What is wrong, and at which column when the syntax is.
    pub why: String,
}

/// Samples from a stream of lines.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    line: u64,
    buffer: Vec<u8>,
    csv: Option<foreign::Csv>,
}

impl<R: BufRead> Reader<R> {
    /// Reads from `input`, from line 1 on.
    pub const fn new(input: R) -> Self {
        Self {
            input,
            line: 0,
            buffer: Vec::new(),
            csv: None,
        }
    }

    /// The next sample, or the next line that is none; nothing at the end. Empty lines and headers are passed over.
    ///
    /// # Errors
    ///
    /// What the input says.
    pub fn next_sample(&mut self) -> io::Result<Option<Result<Sample, BadRecord>>> {
        while self.read_line()? {
            if let Some(found) = self.sample() {
                let line = self.line;
                return Ok(Some(found.map_err(|why| BadRecord { line, why })));
            }
        }
        Ok(None)
    }

    /// Reads one line into the buffer, without its line feed; false at the end of the input.
    fn read_line(&mut self) -> io::Result<bool> {
        self.buffer.clear();
        let limit = LINE_BYTES_MAX as u64 + 2;
        if self
            .input
            .by_ref()
            .take(limit)
            .read_until(b'\n', &mut self.buffer)?
            == 0
        {
            return Ok(false);
        }
        self.line += 1;
        if self.buffer.last() == Some(&b'\n') {
            self.buffer.pop();
        } else if self.buffer.len() > LINE_BYTES_MAX {
            self.skip_rest()?;
        }
        Ok(true)
    }

    fn skip_rest(&mut self) -> io::Result<()> {
        loop {
            let waiting = self.input.fill_buf()?;
            let end = waiting.iter().position(|byte| *byte == b'\n');
            let used = end.map_or(waiting.len(), |end| end + 1);
            if used == 0 || end.is_some() {
                self.input.consume(used);
                return Ok(());
            }
            self.input.consume(used);
        }
    }

    fn sample(&mut self) -> Option<Result<Sample, String>> {
        let text = self.buffer.trim_ascii();
        if text.is_empty() {
            return None;
        }
        if self.buffer.len() > LINE_BYTES_MAX {
            return Some(Err(format!("longer than {LINE_BYTES_MAX} bytes")));
        }
        if let Some(csv) = foreign::Csv::header(text) {
            self.csv = Some(csv);
            return None;
        }
        if let Some(csv) = self.csv.as_ref().filter(|_| text[0].is_ascii_digit()) {
            return Some(csv.sample(text));
        }
        let value = match serde_json::from_slice(&self.buffer) {
            Ok(Value::Object(fields)) => fields,
            Ok(_) => return Some(Err("not an object".into())),
            Err(error) => return Some(Err(syntax(&error))),
        };
        Some(foreign::adapt(&value).unwrap_or_else(|| ours(value)))
    }
}

/// `expected value at line 1 column 4` without the line, which is always 1.
fn syntax(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or(&text);
    format!("{what} at column {}", error.column())
}

/// One of our own records.
fn ours(mut fields: Map<String, Value>) -> Result<Sample, String> {
    let mut text = |name: &str| match fields.remove(name) {
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(format!("{name} is not a text")),
        None => Err(format!("no {name}")),
    };
    let (event, ts, tool) = (text("event")?, text("ts")?, text("tool")?);
    let (node, channel) = (text("node")?, text("channel")?);
    let ts = Timestamp::parse(&ts)
        .ok_or_else(|| format!("ts is not an RFC 3339 time: {:?}", shown(&ts)))?;
    if let Some(name) = fields
        .iter()
        .find(|(name, value)| is_number(name) && !value.is_number())
    {
        return Err(format!("{} is not a number", shown(name.0)));
    }
    Ok(Sample {
        event,
        ts: Some(ts),
        up_ms: fields.get("up_ms").and_then(Value::as_f64),
        tool,
        node,
        channel,
        fields,
    })
}

/// At most 80 characters of what somebody wrote.
fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

/// Whether a name says that a number stands there: all units but text have a suffix.
fn is_number(name: &str) -> bool {
    [
        "_ms", "_total", "_ratio", "_packets", "_bytes", "_mbps", "_bits",
    ]
    .iter()
    .any(|unit| name.ends_with(unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = r#""ts":"2026-11-21T12:00:05.000000Z","up_ms":5000,"tool":"p2ps-peer","node":"3f","channel":"film""#;

    fn read(text: &[u8]) -> Vec<Result<Sample, String>> {
        let mut reader = Reader::new(text);
        let mut found = Vec::new();
        while let Some(sample) = reader.next_sample().expect("memory does not fail") {
            found.push(sample.map_err(|bad| bad.to_string()));
        }
        found
    }

    #[test]
    fn a_record_and_its_numbers() {
        let line = format!(
            r#"{{"event":"interval",{HEAD},"loss_ratio":0.02,"recv_packets":100,"lost_packets":4,"repaired_packets":4,"added_later":[1]}}"#
        );
        let found = read(line.as_bytes());
        let sample = found[0].as_ref().expect("a record");
        assert_eq!(
            (sample.event.as_str(), sample.node.as_str()),
            ("interval", "3f")
        );
        assert_eq!(sample.number("loss_ratio"), Some(0.02));
        assert_eq!(sample.loss(), Some((4.0, 100.0)));
        assert_eq!(sample.number("jitter_ms"), None);
        assert_eq!(sample.moment_us(), Some(1_795_262_405_000_000));
    }

    #[test]
    fn what_is_no_record_says_where_and_why() {
        let text = format!(
            "\n{{\"event\":\"interval\",{HEAD}}}\n   garbage\n[1]\n{{\"a\":1}}\n{{\"event\":\"end\",{HEAD},\"rtt_ms\":null}}\n{{\"event\":\"x\",\"ts\":\"now\",\"tool\":\"\",\"node\":\"\",\"channel\":\"\"}}\n{{\"event\":"
        );
        let errors: Vec<_> = read(text.as_bytes())
            .into_iter()
            .filter_map(Result::err)
            .collect();
        assert_eq!(
            errors,
            [
                "line 3: bad record: expected value at column 4",
                "line 4: bad record: not an object",
                "line 5: bad record: no event",
                "line 6: bad record: rtt_ms is not a number",
                "line 7: bad record: ts is not an RFC 3339 time: \"now\"",
                "line 8: bad record: EOF while parsing a value at column 9",
            ]
        );
    }

    #[test]
    fn a_line_without_end_is_bounded_and_the_next_one_is_read() {
        let mut text = vec![b'x'; 300_000];
        text.extend(format!("\n{{\"event\":\"end\",{HEAD}}}\n").bytes());
        let found = read(&text);
        assert_eq!(
            found[0],
            Err("line 1: bad record: longer than 65536 bytes".into())
        );
        assert!(found[1].is_ok() && found.len() == 2);
    }

    #[test]
    fn bytes_that_are_no_text_are_no_record() {
        let found = read(b"\xff\xfe{}\n\x00\n");
        assert!(found.len() == 2 && found.iter().all(Result::is_err));
    }
}
