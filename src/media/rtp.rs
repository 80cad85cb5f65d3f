//! Puts RTP packets back in order (RFC 3550 §5.1, appendix A.1).
//!
//! Takes sequence numbers and payloads, not packets: the header is read where the socket is.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use crate::time::Instant;

/// Payload type of an MPEG transport stream, whose clock runs at 90 kHz (RFC 3551 §6).
pub const RTP_MPEG_TS: u8 = 33;

/// Packets that may wait for a missing one; 0.7 s of 8 Mbit/s.
const WINDOW_MAX: usize = 512;
/// A sequence number this far off is a sender that started again, once a second packet says the same.
const JUMP_MAX: u64 = 1000;
/// How far apart the two packets may be that make a source trusted: they may have been reordered too.
const PROBATION_STEP: u16 = 16;
/// Sources that may be on probation at once.
const CANDIDATES_MAX: usize = 4;
/// Another source takes over when the current one has been silent for this long.
const SILENCE: Duration = Duration::from_secs(1);

/// What an [`RtpOrder`] has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RtpCounts {
    /// Packets given out.
    pub packets: u64,
    /// Packets that never came.
    pub lost: u64,
    /// Packets that came again, or too late.
    pub late: u64,
    /// Packets that came before their turn.
    pub reordered: u64,
    /// Packets of other sources.
    pub foreign: u64,
}

/// Packets in as they arrive, payloads out in sequence.
///
/// The first source with two packets in a row is the one listened to; another one takes over when it falls silent. A
/// missing packet holds up what follows for the hold time at most. An empty payload that comes out says that the
/// stream starts afresh.
#[derive(Debug)]
pub struct RtpOrder {
    hold: Duration,
    source: Option<Source>,
    /// The last packet of each source that is not trusted.
    candidates: Vec<(u32, u16, Bytes)>,
    ready: VecDeque<Bytes>,
    counts: RtpCounts,
}

#[derive(Debug)]
struct Source {
    ssrc: u32,
    heard: Instant,
    /// Extended number of the next packet to give out; starts above 2^16 so that a late one cannot underflow.
    next: u64,
    waiting: BTreeMap<u64, (Instant, Bytes)>,
}

impl RtpOrder {
    /// An empty window that waits `hold` for a missing packet.
    pub const fn new(hold: Duration) -> Self {
        Self {
            hold,
            source: None,
            candidates: Vec::new(),
            ready: VecDeque::new(),
            counts: RtpCounts {
                packets: 0,
                lost: 0,
                late: 0,
                reordered: 0,
                foreign: 0,
            },
        }
    }

    /// What was seen so far.
    pub const fn counts(&self) -> RtpCounts {
        self.counts
    }

    /// A packet has arrived.
    pub fn handle_packet(&mut self, now: Instant, ssrc: u32, sequence: u16, payload: Bytes) {
        let Some(source) = &mut self.source else {
            self.audition(now, ssrc, sequence, payload);
            return;
        };
        if source.ssrc != ssrc {
            if now - source.heard > SILENCE {
                self.audition(now, ssrc, sequence, payload);
            } else {
                self.counts.foreign += 1;
            }
            return;
        }
        let number = extend(source.next, sequence);
        if number.abs_diff(source.next) > JUMP_MAX {
            self.audition(now, ssrc, sequence, payload);
            return;
        }
        source.heard = now;
        self.candidates.clear();
        if number < source.next || source.waiting.contains_key(&number) {
            self.counts.late += 1;
            return;
        }
        if source
            .waiting
            .last_key_value()
            .is_some_and(|(&last, _)| number < last)
        {
            self.counts.reordered += 1;
        }
        source.waiting.insert(number, (now, payload));
        if source.waiting.len() > WINDOW_MAX {
            self.skip();
        }
        self.release();
    }

    /// Gives up on packets that are missing for too long.
    pub fn handle_timeout(&mut self, now: Instant) {
        while self.poll_timeout().is_some_and(|due| due <= now) {
            self.skip();
            self.release();
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let (arrived, _) = self.source.as_ref()?.waiting.first_key_value()?.1;
        Some(*arrived + self.hold)
    }

    /// The next payload in sequence; an empty one marks a fresh start.
    pub fn poll(&mut self) -> Option<Bytes> {
        self.ready.pop_front()
    }

    /// A packet that belongs to no trusted sequence: two near each other make one.
    fn audition(&mut self, now: Instant, ssrc: u32, sequence: u16, payload: Bytes) {
        let near = |first: u16| {
            let step = sequence.wrapping_sub(first);
            step != 0 && step.min(step.wrapping_neg()) <= PROBATION_STEP
        };
        let known = self
            .candidates
            .iter()
            .position(|&(known, ..)| known == ssrc);
        let first = known.map(|index| self.candidates.swap_remove(index));
        let Some((_, first, first_payload)) = first.filter(|&(_, first, _)| near(first)) else {
            self.counts.foreign += u64::from(known.is_some());
            if self.candidates.len() >= CANDIDATES_MAX {
                self.candidates.remove(0);
                self.counts.foreign += 1;
            }
            self.candidates.push((ssrc, sequence, payload));
            return;
        };
        self.candidates.clear();
        if self.source.take().is_some_and(|old| {
            // What the old sequence still held is in order, only with holes.
            self.counts.packets += old.waiting.len() as u64;
            self.ready
                .extend(old.waiting.into_values().map(|(_, payload)| payload));
            true
        }) {
            self.ready.push_back(Bytes::new());
        }
        let base = (1 << 32) + u64::from(first);
        let second = extend(base, sequence);
        self.source = Some(Source {
            ssrc,
            heard: now,
            next: base.min(second),
            waiting: BTreeMap::from([(base, (now, first_payload)), (second, (now, payload))]),
        });
        self.release();
    }

    fn release(&mut self) {
        let Some(source) = &mut self.source else {
            return;
        };
        while let Some(first) = source.waiting.first_entry() {
            if *first.key() != source.next {
                break;
            }
            self.ready.push_back(first.remove().1);
            self.counts.packets += 1;
            source.next += 1;
        }
    }

    /// Counts what is missing before the first packet that waits as lost.
    fn skip(&mut self) {
        if let Some(source) = &mut self.source
            && let Some((&first, _)) = source.waiting.first_key_value()
        {
            self.counts.lost += first - source.next;
            source.next = first;
        }
    }
}

/// The number nearest to `near` whose low 16 bits are `sequence`.
fn extend(near: u64, sequence: u16) -> u64 {
    let step = sequence.wrapping_sub(near as u16) as i16;
    near.wrapping_add_signed(step.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Duration = Duration::from_millis(50);

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1000)
    }

    /// Feeds sequence numbers a millisecond apart and gives what came out, by number; 0 is a fresh start.
    fn run(order: &mut RtpOrder, start_ms: u64, ssrc: u32, sequence: &[u16]) -> Vec<u16> {
        let mut out = Vec::new();
        for (index, &number) in sequence.iter().enumerate() {
            let now = at(start_ms + index as u64);
            order.handle_timeout(now);
            let payload = Bytes::copy_from_slice(&number.to_be_bytes());
            order.handle_packet(now, ssrc, number, payload);
            out.extend(std::iter::from_fn(|| order.poll()).map(|bytes| {
                bytes
                    .first_chunk()
                    .map_or(0, |number| u16::from_be_bytes(*number))
            }));
        }
        out
    }

    #[test]
    fn packets_leave_in_sequence() {
        let mut order = RtpOrder::new(HOLD);
        assert_eq!(
            run(&mut order, 0, 1, &[2, 1, 5, 3, 4, 4, 7, 6]),
            [1, 2, 3, 4, 5, 6, 7]
        );
        let counts = order.counts();
        assert_eq!((counts.packets, counts.lost, counts.late), (7, 0, 1));
        assert_eq!(counts.reordered, 2 + 1);
    }

    #[test]
    fn the_sequence_wraps() {
        let mut order = RtpOrder::new(HOLD);
        assert_eq!(
            run(&mut order, 0, 1, &[65533, 65534, 0xffff, 1, 2, 3]),
            [65533, 65534, 65535]
        );
        order.handle_timeout(at(1000));
        assert_eq!(order.counts().lost, 1);
        assert_eq!(std::iter::from_fn(|| order.poll()).count(), 3);
    }

    #[test]
    fn a_missing_packet_is_waited_for_and_then_skipped() {
        let mut order = RtpOrder::new(HOLD);
        assert_eq!(run(&mut order, 0, 1, &[1, 2, 4, 5]), [1, 2]);
        assert_eq!(order.poll_timeout(), Some(at(2) + HOLD));
        order.handle_timeout(at(51));
        assert_eq!(order.poll(), None);
        order.handle_timeout(at(52));
        assert_eq!(std::iter::from_fn(|| order.poll()).count(), 2);
        assert_eq!((order.counts().lost, order.poll_timeout()), (1, None));
        assert_eq!(run(&mut order, 60, 1, &[3, 6]), [6]);
        assert_eq!(order.counts().late, 1);
    }

    #[test]
    fn the_window_is_bounded() {
        let mut order = RtpOrder::new(Duration::from_secs(3600));
        let numbers: Vec<u16> = (1..3).chain(4..=600).collect();
        let out = run(&mut order, 0, 1, &numbers);
        assert_eq!((out.len(), order.counts().lost), (numbers.len(), 1));
        assert_eq!(order.poll_timeout(), None);
    }

    #[test]
    fn another_source_is_ignored_until_the_first_falls_silent() {
        let mut order = RtpOrder::new(HOLD);
        assert_eq!(run(&mut order, 0, 1, &[1, 2]), [1, 2]);
        assert!(run(&mut order, 10, 2, &[70, 71]).is_empty());
        assert_eq!(order.counts().foreign, 2);
        assert_eq!(run(&mut order, 2000, 2, &[90, 91, 92]), [0, 90, 91, 92]);
    }

    #[test]
    fn a_sender_that_starts_again_is_followed_after_two_packets() {
        let mut order = RtpOrder::new(HOLD);
        assert_eq!(run(&mut order, 0, 1, &[1, 2]), [1, 2]);
        // One wild number is not believed.
        assert_eq!(run(&mut order, 10, 1, &[30000, 3]), [3]);
        assert_eq!(run(&mut order, 20, 1, &[30000, 30001]), [0, 30000, 30001]);
    }

    #[test]
    fn of_two_sources_that_start_together_one_is_listened_to() {
        let mut order = RtpOrder::new(HOLD);
        let mut out = Vec::new();
        for number in 1..4 {
            out.extend(run(&mut order, u64::from(number), 1, &[number]));
            out.extend(run(&mut order, u64::from(number), 2, &[number + 500]));
        }
        assert_eq!(out, [1, 2, 3]);
    }

    #[test]
    fn strangers_are_bounded() {
        let mut order = RtpOrder::new(HOLD);
        for ssrc in 0..100 {
            assert!(run(&mut order, 0, ssrc, &[1]).is_empty());
        }
        assert_eq!(order.candidates.len(), CANDIDATES_MAX);
    }

    #[test]
    fn one_stray_packet_makes_no_source() {
        let mut order = RtpOrder::new(HOLD);
        assert!(run(&mut order, 0, 9, &[4711]).is_empty());
        assert_eq!(run(&mut order, 10, 1, &[1, 2]), [1, 2]);
    }
}
