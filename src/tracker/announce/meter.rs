//! What arrives and what is lost, from counters that only grow: the facts of a report.

use super::Facts;
use crate::qos::loss;
use crate::stats::Counters;
use crate::time::Instant;
use crate::tracker::message::Decimal;

/// Rates are taken over spans of at least so many microseconds.
const SPAN_LEAST_US: u64 = 900_000;

/// A moment, and what had been counted by then.
#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Instant,
    media_bytes: u64,
    received: u64,
    lost: u64,
    sent_bytes: u64,
}

/// Makes facts of counters.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    mark: Option<Mark>,
    kbps: Option<u64>,
    sent_kbps: Option<u64>,
    loss: Option<Decimal>,
}

impl Meter {
    /// What to report of one channel that has counted so far what `counters` say.
    pub fn facts(&mut self, now: Instant, counters: &Counters, slots_free: u16) -> Facts {
        self.measure(now, counters);
        Facts {
            slots_free: Some(slots_free),
            // The tracker counts levels, the source being the first.
            depth: counters.depth.and_then(|hops| u16::try_from(hops + 1).ok()),
            parent: counters.root_path.last().map(ToString::to_string),
            parents: counters
                .shares
                .iter()
                .map(|(peer, parts)| (peer.to_string(), *parts))
                .collect(),
            uplink_kbps: counters.uplink_bps.map(|bps| bps / 1000),
            kbps: self.kbps,
            loss: self.loss,
            buffer: counters.buffer_us.map(std::time::Duration::from_micros),
            latency_us: counters.latency_us,
            jitter_us: counters.jitter_us,
            sent_kbps: self.sent_kbps,
            uploaded_bytes: counters.sent_bytes,
            downloaded_bytes: counters.recv_bytes,
            available_bps: counters.uplink_bps.unwrap_or(0),
            links: counters.neighbours.unwrap_or(0),
        }
    }

    fn measure(&mut self, now: Instant, counters: &Counters) {
        let is_source = counters.depth == Some(0);
        let mark = Mark {
            at: now,
            media_bytes: if is_source {
                counters.media_bytes
            } else {
                counters.recv_media_bytes
            },
            received: counters
                .recv_packets
                .saturating_sub(counters.duplicate_packets)
                .saturating_sub(counters.repaired_packets),
            lost: counters.lost_packets,
            sent_bytes: counters.sent_media_bytes,
        };
        let Some(before) = self.mark else {
            self.mark = Some(mark);
            return;
        };
        let span_us = now.since(before.at).as_micros() as u64;
        if span_us < SPAN_LEAST_US {
            return;
        }
        self.mark = Some(mark);
        let bits = mark.media_bytes.saturating_sub(before.media_bytes) * 8;
        self.kbps = Some(bits * 1000 / span_us);
        let sent_bits = mark.sent_bytes.saturating_sub(before.sent_bytes) * 8;
        self.sent_kbps = Some(sent_bits * 1000 / span_us);
        self.loss = loss::ratio(
            mark.received.saturating_sub(before.received),
            mark.lost.saturating_sub(before.lost),
        )
        .map(|ratio| Decimal::from_millionths((ratio * 1e6) as u64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_micros(millis * 1000)
    }

    #[test]
    fn rates_are_of_the_last_second() {
        let mut meter = Meter::default();
        let counters = |packets: u64, lost: u64, repaired: u64| Counters {
            depth: Some(2),
            recv_media_bytes: packets * 1000,
            recv_packets: packets,
            lost_packets: lost,
            repaired_packets: repaired,
            ..Counters::default()
        };
        let mut seen = Vec::new();
        for (millis, packets, lost, repaired) in [
            (0, 500, 9, 9),
            (500, 600, 9, 9),
            (1000, 700, 59, 59),
            (1100, 900, 59, 59),
            (2000, 700, 59, 59),
        ] {
            let facts = meter.facts(at(millis), &counters(packets, lost, repaired), 3);
            seen.push((facts.kbps, facts.loss.map(Decimal::millionths)));
            assert_eq!((facts.depth, facts.slots_free), (Some(3), Some(3)));
        }
        let first = (Some(1600), Some(250_000));
        // A second without a packet has a rate, and no loss.
        assert_eq!(
            seen,
            [(None, None), (None, None), first, first, (Some(0), None)]
        );
    }

    #[test]
    fn a_source_reports_the_rate_that_it_makes() {
        let mut meter = Meter::default();
        for (millis, bytes) in [(0, 0), (1000, 125_000)] {
            let counters = Counters {
                depth: Some(0),
                media_bytes: bytes,
                ..Counters::default()
            };
            let facts = meter.facts(at(millis), &counters, 3);
            assert_eq!(facts.depth, Some(1));
            assert_eq!(facts.kbps, (millis > 0).then_some(1000));
        }
    }
}
