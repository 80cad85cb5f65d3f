//! Sends media as datagrams, paced by its own clock.
//!
//! The swarm hands out a munro at a time; what leaves here is spread evenly again, in datagrams full of transport
//! stream packets. That costs one clock reference's distance (40 ms or less as a rule) and the margin. What is no
//! transport stream leaves at once, a datagram for each chunk.

use std::collections::VecDeque;
use std::io;
use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant as StdInstant};

use bytes::Bytes;
use rtp_types::RtpPacketBuilder;

use super::clock::Clock;
use super::endpoint::DatagramOptions;
use super::output::Progress;
use super::queue::{MediaOut, Queue, Taken};
use crate::io::value::Rate;
use crate::media::{
    Anchor, AnchorLimits, Cutter, PACKET_BYTES, RTP_MPEG_TS, Scanner, Timeline, is_transport_stream,
};
use crate::rng::{Rng, Seed};
use crate::time::{Instant, micros};

/// Payload of a datagram when the address says nothing: seven packets.
const PACKET_BYTES_DEFAULT: usize = 7 * PACKET_BYTES;
/// Margin for the unevenness of what arrives; one munro. Ours.
const LEAD: Duration = Duration::from_millis(20);
/// After this silence nothing more is waited for, neither to fill a datagram nor for a clock reference.
const IDLE: Duration = Duration::from_millis(150);
/// Nor after this time, silence or not: the standard asks for a clock reference every 100 ms.
const HOLD_MAX: Duration = Duration::from_millis(400);
/// Bytes that may wait for their time; beyond that the queue fills and drops groups.
const PENDING_BYTES_MAX: usize = 4 << 20;
/// Chunks taken at once.
const BATCH_CHUNKS: usize = 64;
/// How often a thread that waits for its time looks whether it should still.
const LOOK: Duration = Duration::from_millis(50);

/// What is around the payload.
#[derive(Clone, Debug)]
pub(super) enum DatagramKind {
    /// Nothing.
    Plain,
    /// An RTP header.
    Rtp(RtpState),
}

/// What the next RTP header says.
#[derive(Clone, Debug)]
pub(super) struct RtpState {
    ssrc: u32,
    sequence: u16,
    timestamp_base: u32,
    packet: Vec<u8>,
}

impl DatagramKind {
    /// RTP that starts from numbers drawn from `seed`.
    pub(super) fn rtp(seed: u64) -> Self {
        let mut rng = Rng::new(Seed::from_number(seed));
        Self::Rtp(RtpState {
            ssrc: rng.next_u32(),
            sequence: rng.next_u32() as u16,
            timestamp_base: rng.next_u32(),
            packet: Vec::new(),
        })
    }
}

impl RtpState {
    /// The packet around `payload`, whose stream time is `due`.
    fn wrap(&mut self, payload: &[u8], due: Duration) -> &[u8] {
        // 90 kHz is 9 ticks in 100 µs (RFC 2250 §2: the time the payload should be sent).
        let ticks = (micros(due) / 100)
            .wrapping_mul(9)
            .wrapping_add(micros(due) % 100 * 9 / 100);
        self.packet.clear();
        let written = RtpPacketBuilder::<&[u8], &[u8]>::new()
            .payload_type(RTP_MPEG_TS)
            .sequence_number(self.sequence)
            .timestamp(self.timestamp_base.wrapping_add(ticks as u32))
            .ssrc(self.ssrc)
            .payload(payload)
            .write_into_vec(&mut self.packet);
        written.expect("a header without extensions fits any payload");
        self.sequence = self.sequence.wrapping_add(1);
        &self.packet
    }
}

/// A datagram that waits for its time.
#[derive(Debug)]
struct Pending {
    at: Instant,
    due: Duration,
    payload: Bytes,
}

/// Everything between the queue and the socket.
#[derive(Debug)]
pub(super) struct DatagramWriter {
    socket: UdpSocket,
    kind: DatagramKind,
    payload_max: usize,
    rate_max: Option<u64>,
    /// Whether there were transport stream packets.
    has_packets: bool,
    plan: Plan,
}

/// Where each datagram lies in time; knows no socket and no clock of its own.
#[derive(Debug)]
struct Plan {
    cutter: Cutter,
    scanner: Scanner,
    timeline: Timeline<Bytes>,
    anchor: Anchor,
    pending: VecDeque<Pending>,
    pending_bytes: usize,
    last_at: Instant,
    last_due: Duration,
    /// Since when something waits for more to come.
    held_since: Option<Instant>,
}

impl DatagramWriter {
    pub(super) fn new(socket: UdpSocket, kind: DatagramKind, options: &DatagramOptions) -> Self {
        let payload_max = options.packet_bytes.unwrap_or(PACKET_BYTES_DEFAULT);
        Self {
            socket,
            kind,
            payload_max,
            rate_max: options.rate_max.map(Rate::bits_per_second),
            has_packets: false,
            plan: Plan::new(
                (payload_max / PACKET_BYTES).clamp(1, 7),
                options.latency.unwrap_or(LEAD),
            ),
        }
    }

    /// Sends what comes out of the queue until its end.
    pub(super) fn run(&mut self, queue: &Queue, progress: &Progress) -> io::Result<()> {
        let clock = Clock::start();
        let mut batch = VecDeque::new();
        let mut idle_at = clock.now() + IDLE;
        loop {
            let now = clock.now();
            self.send_due(now, progress);
            let next = self.plan.pending.front().map(|first| first.at);
            if self.plan.pending_bytes > PENDING_BYTES_MAX {
                thread::sleep(next.map_or(LOOK, |next| next - now).min(LOOK));
                if queue.is_stopped() {
                    return Ok(());
                }
                continue;
            }
            let give_up = self
                .plan
                .held_since
                .map(|since| idle_at.min(since + HOLD_MAX));
            let wake = next
                .into_iter()
                .chain(give_up)
                .min()
                .map(|wake| StdInstant::now() + (wake - now));
            match queue.take(&mut batch, BATCH_CHUNKS, wake) {
                Taken::Some => {
                    let now = clock.now();
                    idle_at = now + IDLE;
                    for chunk in batch.drain(..) {
                        self.take(now, &chunk, progress)?;
                    }
                }
                Taken::Timeout => {}
                Taken::End => break,
            }
            let now = clock.now();
            let held_since = self.plan.held_since;
            if held_since.is_some_and(|since| now >= idle_at.min(since + HOLD_MAX)) {
                self.plan.flush(now, self.rate_max);
                idle_at = now + IDLE;
            }
        }
        self.plan.finish(clock.now(), self.rate_max);
        while let Some(first) = self.plan.pending.front() {
            let now = clock.now();
            if queue.is_stopped() {
                return Ok(());
            }
            if first.at > now {
                thread::sleep((first.at - now).min(LOOK));
            }
            self.send_due(clock.now(), progress);
        }
        Ok(())
    }

    fn take(&mut self, now: Instant, chunk: &MediaOut, progress: &Progress) -> io::Result<()> {
        let bytes = &chunk.bytes;
        if bytes.len().is_multiple_of(PACKET_BYTES) && is_transport_stream(bytes) {
            self.has_packets = true;
            self.plan.push_packets(now, bytes.clone(), self.rate_max);
        } else if matches!(self.kind, DatagramKind::Rtp(_)) {
            if self.has_packets {
                // A stretch of garbage in a transport stream: nothing that a payload type would stand for.
                progress.add_send_error();
                return Ok(());
            }
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "rtp carries MPEG-TS, and this stream is none",
            ));
        } else {
            self.plan
                .push_raw(now, bytes.clone(), self.payload_max, self.rate_max);
        }
        Ok(())
    }

    fn send_due(&mut self, now: Instant, progress: &Progress) {
        while let Some(first) = self.plan.pending.pop_front() {
            if first.at > now {
                self.plan.pending.push_front(first);
                return;
            }
            self.plan.pending_bytes -= first.payload.len();
            self.send(&first, progress);
        }
    }

    /// An error of the network costs a datagram at most: interfaces come back, receivers start late.
    fn send(&mut self, datagram: &Pending, progress: &Progress) {
        let packet = match &mut self.kind {
            DatagramKind::Plain => &datagram.payload[..],
            DatagramKind::Rtp(state) => state.wrap(&datagram.payload, datagram.due),
        };
        let mut sent = self.socket.send(packet);
        if let Err(error) = &sent
            && error.kind() == io::ErrorKind::ConnectionRefused
        {
            // The answer to an earlier datagram; this one was not tried yet.
            progress.add_send_error();
            sent = self.socket.send(packet);
        }
        match sent {
            Ok(_) => progress.add(&datagram.payload),
            Err(_) => progress.add_send_error(),
        }
    }
}

impl Plan {
    fn new(packets: usize, lead: Duration) -> Self {
        Self {
            cutter: Cutter::new(packets),
            scanner: Scanner::new(),
            timeline: Timeline::new(),
            anchor: Anchor::new(AnchorLimits::live(lead)),
            pending: VecDeque::new(),
            pending_bytes: 0,
            last_at: Instant::ZERO,
            last_due: Duration::ZERO,
            held_since: None,
        }
    }

    fn push_packets(&mut self, now: Instant, packets: Bytes, rate_max: Option<u64>) {
        self.cutter.push(packets);
        while let Some(datagram) = self.cutter.next_chunk() {
            self.push_datagram(datagram);
        }
        self.place(now, rate_max);
    }

    /// What is no transport stream leaves at once, but does not overtake.
    fn push_raw(&mut self, now: Instant, mut bytes: Bytes, max: usize, rate_max: Option<u64>) {
        self.finish(now, rate_max);
        while !bytes.is_empty() {
            let payload = bytes.split_to(bytes.len().min(max));
            self.push_pending(now, self.last_due, payload, rate_max);
        }
    }

    /// The stream pauses: what is whole leaves.
    fn flush(&mut self, now: Instant, rate_max: Option<u64>) {
        while let Some(datagram) = self.cutter.flush() {
            self.push_datagram(datagram);
        }
        self.timeline.flush();
        self.place(now, rate_max);
    }

    /// The stream ends: everything leaves.
    fn finish(&mut self, now: Instant, rate_max: Option<u64>) {
        while let Some(datagram) = self.cutter.finish() {
            self.push_datagram(datagram);
        }
        self.timeline.flush();
        self.place(now, rate_max);
    }

    fn push_datagram(&mut self, datagram: Bytes) {
        let pcr = self.scanner.scan(&datagram).pcr;
        let bytes = datagram.len();
        self.timeline.push(datagram, bytes, pcr);
    }

    fn place(&mut self, now: Instant, rate_max: Option<u64>) {
        while let Some(slot) = self.timeline.pop() {
            self.held_since = None;
            let at = self.anchor.at(now, slot.due, slot.starts_stretch);
            self.last_due = slot.due;
            self.push_pending(at, slot.due, slot.item, rate_max);
        }
        if self.timeline.is_waiting() || self.cutter.pending_bytes() > 0 {
            self.held_since.get_or_insert(now);
        } else {
            self.held_since = None;
        }
    }

    fn push_pending(&mut self, at: Instant, due: Duration, payload: Bytes, rate_max: Option<u64>) {
        let at = at.max(self.last_at);
        self.last_at = at;
        if let Some(rate) = rate_max {
            let micros = payload.len() as u64 * 8 * 1_000_000 / rate.max(1);
            self.last_at += Duration::from_micros(micros);
        }
        self.pending_bytes += payload.len();
        self.pending.push_back(Pending { at, due, payload });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::testing::Clip;

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1000)
    }

    fn sent_ms(plan: &Plan) -> Vec<u64> {
        plan.pending
            .iter()
            .map(|datagram| datagram.at.as_micros() / 1000)
            .collect()
    }

    #[test]
    fn a_burst_leaves_evenly_in_full_datagrams() {
        let mut plan = Plan::new(7, Duration::from_millis(20));
        // Two pictures of 28 packets, 40 ms apart, arriving at once in chunks of three packets.
        let clip = Clip {
            packets_per_picture: 28,
            ..Clip::default()
        };
        let stream = Bytes::from(clip.bytes(3));
        for start in (0..stream.len()).step_by(3 * 188) {
            let end = (start + 3 * 188).min(stream.len());
            plan.push_packets(at(1000), stream.slice(start..end), None);
        }
        // The second picture came 40 ms early; a fiftieth of that is won back.
        assert_eq!(
            sent_ms(&plan),
            [1020, 1030, 1040, 1050, 1059, 1069, 1079, 1089]
        );
        assert!(
            plan.pending
                .iter()
                .all(|datagram| datagram.payload.len() == 1316)
        );
        assert_eq!(plan.held_since, Some(at(1000)));
        plan.flush(at(1100), None);
        assert_eq!(plan.held_since, None);
        assert_eq!(sent_ms(&plan)[8..], [1100, 1110, 1120, 1130]);
    }

    #[test]
    fn what_is_no_transport_stream_leaves_at_once() {
        let mut plan = Plan::new(7, Duration::from_millis(20));
        plan.push_raw(at(5), Bytes::from(vec![1; 2000]), 1316, None);
        assert_eq!(sent_ms(&plan), [5, 5]);
        assert_eq!(plan.pending_bytes, 2000);
    }

    #[test]
    fn the_rate_has_a_ceiling() {
        let mut plan = Plan::new(7, Duration::ZERO);
        let rate = Some(1_316_000 * 8);
        plan.push_raw(at(5), Bytes::from(vec![1; 1316 * 4]), 1316, rate);
        assert_eq!(sent_ms(&plan), [5, 6, 7, 8]);
    }

    #[test]
    fn rtp_headers_count_and_carry_the_stream_time() {
        let DatagramKind::Rtp(mut state) = DatagramKind::rtp(7) else {
            panic!("rtp makes rtp");
        };
        let read = |packet: &[u8]| {
            let packet = rtp_types::RtpPacket::parse(packet).expect("a packet of our own");
            assert_eq!((packet.payload_type(), packet.payload()), (33, &b"x"[..]));
            (packet.sequence_number(), packet.timestamp(), packet.ssrc())
        };
        let first = read(state.wrap(b"x", Duration::ZERO));
        let second = read(state.wrap(b"x", Duration::from_secs(1)));
        assert_eq!(second.0, first.0.wrapping_add(1));
        assert_eq!(second.1, first.1.wrapping_add(90_000));
        assert_eq!(second.2, first.2);
    }
}
