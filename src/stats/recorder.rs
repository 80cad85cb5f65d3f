//! One node's record writer: keeps the last snapshots and turns the next ones into lines.

use std::collections::BTreeMap;

use crate::ids::PeerId;
use crate::stats::counters::{Counters, Tool};
use crate::stats::interval::{End, Interval};
use crate::stats::neighbour::{Neighbour, NeighbourCounters};
use crate::stats::record::{Head, Record, line};
use crate::stats::timestamp::Timestamp;
use crate::time::{Epoch, Instant, micros};

/// Neighbours whose last snapshot is kept; those beyond are written without ratios and rates.
const NEIGHBOURS_MAX: usize = 4096;

/// Writes the records of one node on one channel. It puts nothing anywhere: every call returns the line.
#[derive(Clone, Debug)]
pub struct Recorder {
    tool: Tool,
    node: String,
    channel: String,
    channel_name: Option<String>,
    epoch: Epoch,
    started: Instant,
    last: Instant,
    before: Box<Counters>,
    neighbours: BTreeMap<PeerId, (Instant, NeighbourCounters)>,
}

impl Recorder {
    /// A writer for `node` on `channel`, whose program started at `now`; `epoch` says what Unix time that is.
    pub fn new(now: Instant, epoch: Epoch, tool: Tool, node: &str, channel: &str) -> Self {
        Self {
            tool,
            node: node.into(),
            channel: channel.into(),
            channel_name: None,
            epoch,
            started: now,
            last: now,
            before: Box::default(),
            neighbours: BTreeMap::new(),
        }
    }

    /// The program that writes.
    pub const fn tool(&self) -> Tool {
        self.tool
    }

    /// The channel's name, learnt later. What the records call it stays: those of one run belong together.
    pub fn set_name(&mut self, name: &str) {
        self.channel_name = (name != self.channel).then(|| name.into());
    }

    /// The time stamp of a record that is made now.
    pub fn timestamp(&self, now: Instant) -> Timestamp {
        Timestamp::from_unix_micros(self.epoch.unix_micros(now))
    }

    /// Any record, as a line.
    pub fn line(&self, now: Instant, record: Record) -> String {
        let head = Head {
            ts: self.timestamp(now),
            up_ms: micros(now - self.started) / 1000,
            tool: self.tool,
            node: self.node.clone(),
            channel: self.channel.clone(),
            channel_name: self.channel_name.clone(),
        };
        line(&head, record)
    }

    /// The `interval` record since the last one.
    pub fn interval(&mut self, now: Instant, counters: &Counters) -> String {
        let interval = Interval::between(&self.before, counters, now - self.last);
        (*self.before).clone_from(counters);
        self.last = now;
        self.line(now, Record::Interval(Box::new(interval)))
    }

    /// One `neighbour` record for each entry, in the order given, with rates since the last call that had it.
    pub fn neighbours(&mut self, now: Instant, neighbours: &[NeighbourCounters]) -> Vec<String> {
        let known = std::mem::take(&mut self.neighbours);
        let mut lines = Vec::with_capacity(neighbours.len());
        for after in neighbours {
            let before = known.get(&after.peer);
            let elapsed = before.map_or(now - self.started, |(then, _)| now - *then);
            let record = Neighbour::between(before.map(|(_, before)| before), after, elapsed);
            lines.push(self.line(now, Record::Neighbour(Box::new(record))));
            if self.neighbours.len() < NEIGHBOURS_MAX {
                self.neighbours.insert(after.peer, (now, after.clone()));
            }
        }
        lines
    }

    /// The `end` record.
    pub fn end(&self, now: Instant, counters: &Counters, exit: u8, reason: &str) -> String {
        let end = End::of(counters, now - self.started, exit, reason);
        self.line(now, Record::End(Box::new(end)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::Value;

    use super::*;
    use crate::stats::neighbour::Role;
    use crate::stats::record::{State, StateChange};

    fn recorder() -> Recorder {
        let epoch = Epoch::new(1_795_262_400_000_000);
        Recorder::new(
            Instant::from_micros(500_000),
            epoch,
            Tool::Peer,
            "3f00000000000000",
            "film",
        )
    }

    fn at(milliseconds: u64) -> Instant {
        Instant::from_micros(milliseconds * 1000)
    }

    fn json(line: &str) -> Value {
        serde_json::from_str(line).expect("a record is JSON")
    }

    #[test]
    fn intervals_cover_the_time_since_the_last_one() {
        let mut recorder = recorder();
        let mut counters = Counters {
            recv_packets: 98,
            lost_packets: 2,
            recv_bytes: 125_000,
            ..Counters::default()
        };
        counters.latency.record(Duration::from_millis(20));
        let first = json(&recorder.interval(at(1500), &counters));
        assert_eq!(first["up_ms"], 1000);
        assert_eq!(first["interval_ms"], 1000.0);
        assert_eq!(first["loss_ratio"], 0.02);
        assert_eq!(first["recv_mbps"], 1.0);

        counters.recv_packets += 50;
        counters.latency.record(Duration::from_millis(40));
        let second = json(&recorder.interval(at(2000), &counters));
        assert_eq!(second["interval_ms"], 500.0);
        assert_eq!(
            (&second["recv_packets"], &second["recv_packets_total"]),
            (&50.into(), &148.into())
        );
        assert_eq!(second["loss_ratio"], 0.0);
        assert!(
            second["latency_p50_ms"]
                .as_f64()
                .is_some_and(|p50| (p50 - 40.0).abs() < 0.4)
        );

        let end = json(&recorder.end(at(2500), &counters, 0, "asked to stop"));
        assert_eq!(end["recv_packets_total"], 148);
        assert!(
            end["latency_p50_ms"]
                .as_f64()
                .is_some_and(|p50| (p50 - 20.0).abs() < 0.2)
        );
        assert_eq!(end["ts"], "2026-11-21T12:00:02.500000Z");
    }

    #[test]
    fn an_interval_of_no_length_has_no_rates() {
        let mut recorder = recorder();
        let record = json(&recorder.interval(at(500), &Counters::default()));
        assert_eq!(record["interval_ms"], 0.0);
        for absent in [
            "recv_mbps",
            "sent_mbps",
            "stream_mbps",
            "bandwidth_mbps",
            "loss_ratio",
        ] {
            assert!(record.get(absent).is_none(), "{absent}");
        }
    }

    #[test]
    fn neighbours_have_rates_from_their_second_record_on() {
        let mut recorder = recorder();
        let mut parent = NeighbourCounters::new(
            PeerId::from_bytes([7; 8]),
            "127.0.0.1:7850".into(),
            Role::Parent,
        );
        let first = recorder.neighbours(at(1500), std::slice::from_ref(&parent));
        assert!(json(&first[0]).get("recv_mbps").is_none());
        parent.recv_bytes = 250_000;
        parent.recv_packets = 90;
        parent.lost_packets = 10;
        let second = json(&recorder.neighbours(at(2500), &[parent])[0]);
        assert_eq!(second["recv_mbps"], 2.0);
        assert_eq!(second["loss_ratio"], 0.1);
        assert_eq!(second["peer"], "0707070707070707");
    }

    #[test]
    fn neighbours_that_left_are_forgotten() {
        let mut recorder = recorder();
        let peer =
            NeighbourCounters::new(PeerId::from_bytes([7; 8]), "[::1]:1".into(), Role::Child);
        recorder.neighbours(at(1000), &[peer]);
        assert_eq!(recorder.neighbours.len(), 1);
        recorder.neighbours(at(2000), &[]);
        assert!(recorder.neighbours.is_empty());
    }

    #[test]
    fn the_head_comes_first_and_in_order() {
        let mut recorder = recorder();
        // A name that is what it is called anyway is not repeated.
        for (name, expected) in [("film", ""), ("news", "\"channel_name\":\"news\",")] {
            recorder.set_name(name);
            let line = recorder.line(at(600), Record::State(StateChange::to(State::Joining)));
            assert_eq!(
                line,
                format!(
                    "{{\"event\":\"state\",\"ts\":\"2026-11-21T12:00:00.600000Z\",\"up_ms\":100,\
                     \"tool\":\"p2ps-peer\",\"node\":\"3f00000000000000\",\"channel\":\"film\",{expected}\
                     \"state\":\"joining\"}}\n"
                )
            );
        }
    }
}
