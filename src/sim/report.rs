//! What a run leaves behind: figures when it went well; the last events, every node's state and the line that replays
//! it when it did not.

use std::fmt;

use bytes::Bytes;

use super::check::Violation;
use super::link::Loss;
use super::{NodeId, Port, mix};
use crate::time::Instant;
use crate::wire::{Datagram, Format};

/// Events kept for the report.
pub const EVENTS_KEPT: usize = 200;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A process started.
    Start,
    /// A process is gone.
    Stop,
    /// A timer.
    Timeout,
    /// The encoder wrote.
    Push,
    /// The encoder closed its output.
    End,
    /// A fault began.
    Fault(u16),
    /// A fault is over.
    Over(u16),
    /// Datagrams left.
    Sent(Port),
    /// Datagrams left under somebody else's address.
    Forged,
    /// Datagrams were handed over.
    Received(Port),
    /// A datagram was lost on the way.
    Lost(Loss),
    /// Datagrams came to a process that is not there, or whose socket is full.
    Refused,
    /// The player was given something.
    Played,
}

impl What {
    const fn code(self) -> u64 {
        match self {
            Self::Start => 1,
            Self::Stop => 2,
            Self::Timeout => 3,
            Self::Push => 4,
            Self::End => 5,
            Self::Fault(index) => 0x100 + index as u64,
            Self::Over(index) => 0x2_0000 + index as u64,
            Self::Sent(Port::Listen) => 8,
            Self::Sent(Port::Dial) => 9,
            Self::Forged => 10,
            Self::Received(Port::Listen) => 11,
            Self::Received(Port::Dial) => 12,
            Self::Lost(loss) => 13 + loss as u64,
            Self::Refused => 20,
            Self::Played => 21,
        }
    }
}

/// One event; the payload by its first bytes.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// When.
    pub at: Instant,
    /// What.
    pub what: What,
    /// At whom.
    pub node: NodeId,
    /// To or from whom.
    pub other: NodeId,
    /// Datagrams.
    pub count: u32,
    /// Bytes.
    pub bytes: u32,
    /// The first bytes.
    pub head: [u8; 16],
}

impl Record {
    /// A record of an event without a payload.
    pub const fn plain(at: Instant, what: What, node: NodeId) -> Self {
        Self {
            at,
            what,
            node,
            other: node,
            count: 0,
            bytes: 0,
            head: [0; 16],
        }
    }
}

/// The last events, and a hash of all of them.
#[derive(Debug)]
pub struct Log {
    kept: Vec<Record>,
    next: usize,
    hash: u64,
    events: u64,
    watch: Option<NodeId>,
    watched: Vec<(Record, Bytes)>,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            kept: Vec::with_capacity(EVENTS_KEPT),
            next: 0,
            hash: 0x7032_7073,
            events: 0,
            watch: None,
            watched: Vec::new(),
        }
    }
}

impl Log {
    /// Keeps every event of one node, whole.
    pub const fn watch(&mut self, node: NodeId) {
        self.watch = Some(node);
    }

    /// Every event of the node that is watched, one line each.
    pub fn watched(&self) -> Vec<String> {
        let line = |(record, payload): &(Record, Bytes)| match names(payload.clone()) {
            Some(names) => format!("{record} {names}"),
            None => record.to_string(),
        };
        self.watched.iter().map(line).collect()
    }

    /// Adds an event; `payload` is hashed by its length, its first and its last bytes.
    pub fn add(&mut self, mut record: Record, payload: &[u8]) {
        let head = payload.len().min(16);
        record.head[..head].copy_from_slice(&payload[..head]);
        let mut tail = [0; 16];
        tail[..head].copy_from_slice(&payload[payload.len() - head..]);
        record.bytes = payload.len() as u32;
        let word = |bytes: &[u8; 16]| {
            let number = u128::from_le_bytes(*bytes);
            (number as u64) ^ ((number >> 64) as u64).rotate_left(32)
        };
        let who = u64::from(record.node.0) << 48
            | u64::from(record.other.0) << 32
            | u64::from(record.bytes);
        let mut hash = self.hash ^ mix(record.at.as_micros() ^ record.what.code() << 40);
        hash = mix(hash ^ who);
        hash = mix(hash ^ word(&record.head) ^ word(&tail).rotate_left(17));
        self.hash = hash;
        self.events += 1;
        if self.watch == Some(record.node) {
            self.watched.push((record, Bytes::copy_from_slice(payload)));
        }
        if self.kept.len() < EVENTS_KEPT {
            self.kept.push(record);
        } else {
            self.kept[self.next] = record;
        }
        self.next = (self.next + 1) % EVENTS_KEPT;
    }

    /// Hash of everything that happened, in order.
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// How much happened.
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// The last events, oldest first.
    pub fn last(&self) -> Vec<Record> {
        let (new, old) = self.kept.split_at(self.next.min(self.kept.len()));
        old.iter().chain(new).copied().collect()
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:>4} ", self.at, self.node.to_string())?;
        let far = self.other;
        match self.what {
            What::Start => f.write_str("starts")?,
            What::Stop => f.write_str("is gone")?,
            What::Timeout => f.write_str("timer")?,
            What::Push => write!(f, "encoder: {} bytes", self.bytes)?,
            What::End => f.write_str("encoder: end")?,
            What::Fault(index) => write!(f, "fault {index} begins")?,
            What::Over(index) => write!(f, "fault {index} is over")?,
            What::Sent(port) => write!(f, "{port:?} -> {far} {}x", self.count)?,
            What::Forged => write!(f, "forged -> {far} {}x", self.count)?,
            What::Received(port) => write!(f, "{port:?} <- {far} {}x", self.count)?,
            What::Lost(loss) => write!(f, "-> {far} lost: {loss:?}")?,
            What::Refused => write!(f, "<- {far} refused {}x", self.count)?,
            What::Played => f.write_str("plays")?,
        }
        if self.bytes > 0 && !matches!(self.what, What::Push) {
            write!(f, " {}B ", self.bytes)?;
            let shown = (self.bytes as usize).min(self.head.len());
            crate::ids::fmt_hex(&self.head[..shown], f)?;
        }
        Ok(())
    }
}

/// The messages of a datagram by name, when it can be read as one of our live channels'.
fn names(payload: Bytes) -> Option<String> {
    let (_, mut messages) = Datagram::open(payload).ok()?;
    let mut names = Vec::new();
    while let Some(Ok(message)) = messages.next(&Format::LIVE) {
        let text = format!("{message:?}");
        // The payload says nothing, and there is much of it.
        let end = text.find("payload").unwrap_or(text.len()).min(160);
        names.push(text.get(..end).unwrap_or_default().to_owned());
    }
    (!names.is_empty()).then(|| names.join(" | "))
}

/// One player at the end of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlayerOutcome {
    /// Who.
    pub node: NodeId,
    /// From start to the first byte, for the last start.
    pub join_us: Option<u64>,
    /// Bytes given.
    pub bytes: u64,
    /// Bytes left out that a source had been given.
    pub missing: u64,
    /// What was left out: first byte, and the byte after the last.
    pub gaps: Vec<(u64, u64)>,
    /// The first byte given.
    pub first: Option<u64>,
    /// Was told of the end.
    pub ended: bool,
    /// Was there to the last.
    pub alive: bool,
}

/// A run without violation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Hash of everything that happened.
    pub hash: u64,
    /// How much happened.
    pub events: u64,
    /// Bytes the encoder wrote.
    pub fed: u64,
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams lost on the way.
    pub lost: u64,
    /// Every honest player.
    pub players: Vec<PlayerOutcome>,
}

/// A run with one.
#[derive(Debug)]
pub struct Failure {
    /// The world.
    pub seed: u64,
    /// What did not hold.
    pub violation: Violation,
    /// When, in the world's time.
    pub at: Instant,
    /// After how many events.
    pub step: u64,
    /// The last events.
    pub events: Vec<Record>,
    /// Everything the watched node did and got.
    pub watched: Vec<String>,
    /// One line a node.
    pub nodes: Vec<String>,
    /// The scenario as TOML.
    pub scenario: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.watched {
            writeln!(f, "{line}")?;
        }
        writeln!(f, "---- last {} events", self.events.len())?;
        for record in &self.events {
            writeln!(f, "{record}")?;
        }
        writeln!(f, "---- nodes")?;
        for line in &self.nodes {
            writeln!(f, "{line}")?;
        }
        writeln!(f, "---- faults")?;
        let faults = self.scenario.find("[[faults]]");
        writeln!(f, "{}", faults.map_or("", |at| &self.scenario[at..]))?;
        writeln!(
            f,
            "violated: {} at {} after {} events, {}: {}",
            self.violation.invariant,
            self.at,
            self.step,
            self.violation.node,
            self.violation.detail
        )?;
        write!(f, "replay: SEED={} cargo test --test sim", self.seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(at: u64) -> Record {
        Record::plain(Instant::from_micros(at), What::Timeout, NodeId(3))
    }

    #[test]
    fn the_last_events_stay_in_order() {
        let mut log = Log::default();
        for at in 0..450 {
            log.add(record(at), b"");
        }
        let last = log.last();
        assert_eq!(last.len(), EVENTS_KEPT);
        assert_eq!(last[0].at, Instant::from_micros(250));
        assert!(last.windows(2).all(|pair| pair[0].at < pair[1].at));
    }

    #[test]
    fn the_hash_sees_order_and_bytes() {
        let hash = |payloads: &[&[u8]]| {
            let mut log = Log::default();
            for payload in payloads {
                log.add(record(1), payload);
            }
            log.hash()
        };
        assert_eq!(hash(&[b"a", b"b"]), hash(&[b"a", b"b"]));
        assert_ne!(hash(&[b"a", b"b"]), hash(&[b"b", b"a"]));
        assert_ne!(hash(&[b"abc"]), hash(&[b"abd"]));
    }
}
