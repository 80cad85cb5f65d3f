//! Cuts a byte stream into chunk payloads without changing a byte.
//!
//! In a transport stream chunks hold whole packets, so that every chunk can be scanned by itself and a viewer who
//! misses one is never out of step. Anything else is cut into runs of the same size.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::ts::{PACKET_BYTES, SYNC};

/// Sync bytes, 188 apart, that make a place the start of a packet.
const SYNCS: usize = 3;
/// Bytes looked at in search of a packet start.
const VIEW_BYTES: usize = 2048;
/// Bytes at the start of a stream after which it is taken for something other than a transport stream.
const DECISION_BYTES: usize = 4096;

/// Bytes in at any split, chunk payloads out.
///
/// ```
/// use bytes::Bytes;
/// use p2ps::media::Cutter;
///
/// let mut cutter = Cutter::new(7);
/// cutter.push(Bytes::from_static(b"not a transport stream"));
/// assert_eq!(cutter.next_chunk(), None);
/// assert_eq!(cutter.flush().as_deref(), Some(&b"not a transport stream"[..]));
/// ```
///
/// A chunk that lies inside one pushed block is a slice of it; only chunks across a seam are copied. Push, then call
/// [`next_chunk`](Self::next_chunk) until `None`; at a deadline call [`flush`](Self::flush) until `None`; at the end
/// of input [`finish`](Self::finish) until `None`.
#[derive(Debug)]
pub struct Cutter {
    chunk_bytes: usize,
    mode: Mode,
    /// Bytes given out while nothing was known.
    undecided_bytes: usize,
    /// The start of the next chunk, when it lies across a seam.
    carry: BytesMut,
    /// What follows, as it was pushed.
    blocks: VecDeque<Bytes>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Nothing is known yet.
    Start,
    /// Whole packets, in step.
    Packets,
    /// Was in step and lost it.
    Lost,
    /// No transport stream.
    Raw,
}

/// The first place where a packet may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Candidate {
    offset: usize,
    /// Whether all the sync bytes asked for lie in view.
    is_certain: bool,
}

impl Cutter {
    /// A cutter for chunks of up to `packets` · 188 bytes.
    ///
    /// # Panics
    ///
    /// When `packets` is not 1 to 7: seven fill the datagram that every network takes.
    pub fn new(packets: usize) -> Self {
        assert!((1..=7).contains(&packets), "1 to 7 packets make a chunk");
        Self {
            chunk_bytes: packets * PACKET_BYTES,
            mode: Mode::Start,
            undecided_bytes: 0,
            carry: BytesMut::new(),
            blocks: VecDeque::new(),
        }
    }

    /// Whether the input is a transport stream; `None` while too little was seen.
    pub const fn is_transport_stream(&self) -> Option<bool> {
        match self.mode {
            Mode::Start => None,
            Mode::Packets | Mode::Lost => Some(true),
            Mode::Raw => Some(false),
        }
    }

    /// Bytes of a full chunk.
    pub const fn chunk_bytes(&self) -> usize {
        self.chunk_bytes
    }

    /// Bytes pushed and not given out yet.
    pub fn pending_bytes(&self) -> usize {
        self.carry.len() + self.blocks.iter().map(Bytes::len).sum::<usize>()
    }

    /// More input.
    pub fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.blocks.push_back(bytes);
        }
    }

    /// The next full chunk; `None` until there are bytes enough.
    pub fn next_chunk(&mut self) -> Option<Bytes> {
        loop {
            match self.mode {
                Mode::Raw => {
                    let size = self.chunk_bytes;
                    return (self.view(size).len() >= size).then(|| self.take(size));
                }
                Mode::Packets => {
                    let (packets, in_step) = self.whole_packets();
                    let bytes = packets * PACKET_BYTES;
                    if !in_step {
                        self.mode = Mode::Lost;
                        if packets > 0 {
                            return Some(self.take(bytes));
                        }
                    } else if bytes == self.chunk_bytes {
                        return Some(self.take(bytes));
                    } else {
                        return None;
                    }
                }
                Mode::Start | Mode::Lost => {
                    if self.mode == Mode::Start && self.undecided_bytes >= DECISION_BYTES {
                        self.mode = Mode::Raw;
                        continue;
                    }
                    let view = self.view(VIEW_BYTES);
                    let found = first_packet(view);
                    let garbage = found.map_or(view.len(), |candidate| candidate.offset);
                    let is_certain = found.is_some_and(|candidate| candidate.is_certain);
                    if is_certain && garbage == 0 {
                        self.mode = Mode::Packets;
                    } else if garbage >= self.chunk_bytes || is_certain {
                        return Some(self.take_garbage(garbage));
                    } else {
                        return None;
                    }
                }
            }
        }
    }

    /// What may leave before a chunk is full, because its deadline came; `None` when nothing may.
    ///
    /// Of a transport stream the whole packets; a torn one waits for its rest. Of anything else all there is.
    pub fn flush(&mut self) -> Option<Bytes> {
        if let Some(chunk) = self.next_chunk() {
            return Some(chunk);
        }
        let view = match self.mode {
            Mode::Packets => {
                let (packets, _) = self.whole_packets();
                return (packets > 0).then(|| self.take(packets * PACKET_BYTES));
            }
            Mode::Raw => self.view(self.chunk_bytes),
            Mode::Start | Mode::Lost => self.view(VIEW_BYTES),
        };
        if view.is_empty() {
            return None;
        }
        let bytes = view.len();
        match (self.mode, first_packet(self.peek())) {
            // So far like a stream that begins with a whole packet: guessing wrong would put it out of step.
            (Mode::Start, Some(candidate))
                if candidate.offset == 0 && self.undecided_bytes == 0 =>
            {
                if bytes < PACKET_BYTES {
                    return None;
                }
                self.mode = Mode::Packets;
                self.flush()
            }
            (Mode::Lost, Some(candidate)) => {
                if candidate.offset > 0 {
                    return Some(self.take_garbage(candidate.offset));
                }
                if bytes < PACKET_BYTES {
                    return None;
                }
                self.mode = Mode::Packets;
                self.flush()
            }
            _ => Some(self.take_garbage(bytes)),
        }
    }

    /// The rest, torn packets included: the input has ended (or its writer left and another will come).
    ///
    /// After `None` the cutter is as new, except that it remembers having seen a transport stream.
    pub fn finish(&mut self) -> Option<Bytes> {
        if let Some(chunk) = self.flush() {
            return Some(chunk);
        }
        let bytes = self.view(self.chunk_bytes).len();
        if bytes > 0 {
            return Some(self.take(bytes.min(self.chunk_bytes)));
        }
        if self.mode == Mode::Packets {
            // The next writer starts with a packet of its own; looking again costs nothing.
            self.mode = Mode::Lost;
        }
        None
    }

    /// Bytes before a packet start, or of unknown nature.
    fn take_garbage(&mut self, bytes: usize) -> Bytes {
        let bytes = bytes.min(self.chunk_bytes);
        self.undecided_bytes = self.undecided_bytes.saturating_add(bytes);
        self.take(bytes)
    }

    /// Packets in step at the front, at most a chunk of them, and whether the next place is in step too.
    fn whole_packets(&mut self) -> (usize, bool) {
        let view = self.view(self.chunk_bytes);
        let mut packets = 0;
        for packet in view.chunks(PACKET_BYTES) {
            if packet.first() != Some(&SYNC) {
                return (packets, false);
            }
            packets += usize::from(packet.len() == PACKET_BYTES);
        }
        (packets, true)
    }

    /// The bytes at the front in one piece: `want` of them when there are so many.
    fn view(&mut self, want: usize) -> &[u8] {
        if !self.carry.is_empty() || self.blocks.front().is_some_and(|front| front.len() < want) {
            while self.carry.len() < want {
                let Some(front) = self.blocks.front_mut() else {
                    break;
                };
                if self.carry.capacity() == 0 {
                    self.carry.reserve(want);
                }
                let part = front.split_to(front.len().min(want - self.carry.len()));
                self.carry.extend_from_slice(&part);
                if front.is_empty() {
                    self.blocks.pop_front();
                }
            }
        }
        let view = self.peek();
        view.get(..want).unwrap_or(view)
    }

    /// The bytes at the front that are in one piece already.
    fn peek(&self) -> &[u8] {
        if self.carry.is_empty() {
            self.blocks.front().map_or(&[], |front| &front[..])
        } else {
            &self.carry
        }
    }

    /// Takes `bytes` bytes that [`view`](Self::view) has shown.
    fn take(&mut self, bytes: usize) -> Bytes {
        if !self.carry.is_empty() {
            return self.carry.split_to(bytes).freeze();
        }
        let front = self.blocks.front_mut().expect("view showed these bytes");
        let chunk = front.split_to(bytes);
        if front.is_empty() {
            self.blocks.pop_front();
        }
        chunk
    }
}

/// The first offset from which a sync byte stands every 188 bytes, as far as can be seen.
fn first_packet(view: &[u8]) -> Option<Candidate> {
    view.iter()
        .enumerate()
        .filter(|&(_, &byte)| byte == SYNC)
        .find_map(|(offset, _)| {
            let mut seen = 0;
            for &byte in view[offset..].iter().step_by(PACKET_BYTES).take(SYNCS) {
                if byte != SYNC {
                    return None;
                }
                seen += 1;
            }
            Some(Candidate {
                offset,
                is_certain: seen == SYNCS,
            })
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::media::testing::packets;

    /// Everything that comes out when `input` is pushed in pieces that end at `cuts`, with a deadline after each
    /// piece whose flag is set.
    fn cut(input: &[u8], cuts: &[(usize, bool)], packets: usize) -> Vec<Bytes> {
        let mut cutter = Cutter::new(packets);
        let mut chunks = Vec::new();
        let mut rest = Bytes::copy_from_slice(input);
        for &(bytes, deadline) in cuts {
            cutter.push(rest.split_to(bytes.min(rest.len())));
            chunks.extend(std::iter::from_fn(|| cutter.next_chunk()));
            if deadline {
                chunks.extend(std::iter::from_fn(|| cutter.flush()));
            }
        }
        cutter.push(rest);
        chunks.extend(std::iter::from_fn(|| cutter.next_chunk()));
        chunks.extend(std::iter::from_fn(|| cutter.finish()));
        assert_eq!(cutter.pending_bytes(), 0);
        chunks
    }

    fn sizes(chunks: &[Bytes]) -> Vec<usize> {
        chunks.iter().map(Bytes::len).collect()
    }

    #[test]
    fn packets_leave_in_whole_chunks() {
        let stream = packets(17);
        let chunks = cut(&stream, &[(1, false), (500, false), (188, false)], 7);
        assert_eq!(sizes(&chunks), [1316, 1316, 564]);
        assert_eq!(sizes(&cut(&stream, &[], 3)), [564, 564, 564, 564, 564, 376]);
    }

    #[test]
    fn a_chunk_inside_one_block_is_not_copied() {
        let block = Bytes::from(packets(21));
        let mut cutter = Cutter::new(7);
        cutter.push(block.clone());
        for start in [0, 1316, 2632] {
            let chunk = cutter.next_chunk().expect("21 packets make three chunks");
            assert_eq!(chunk.as_ptr(), block[start..].as_ptr());
        }
    }

    #[test]
    fn a_deadline_cuts_at_a_packet_and_keeps_the_torn_one() {
        let stream = packets(9);
        let chunks = cut(&stream, &[(600, true), (50, true)], 7);
        assert_eq!(sizes(&chunks), [564, 1128]);
    }

    #[test]
    fn a_deadline_gives_out_all_of_what_is_no_transport_stream() {
        let chunks = cut(
            b"hello world, nothing to see",
            &[(5, true), (1, false), (5, true)],
            7,
        );
        assert_eq!(sizes(&chunks), [5, 6, 16]);
    }

    #[test]
    fn anything_else_is_cut_into_runs() {
        let noise: Vec<u8> = (0..10_000_u32)
            .map(|n| ((n * n) >> 7) as u8 & 0x3f)
            .collect();
        let mut cutter = Cutter::new(7);
        cutter.push(noise.into());
        let chunks: Vec<Bytes> = std::iter::from_fn(|| cutter.next_chunk()).collect();
        assert_eq!(sizes(&chunks), [1316; 7]);
        assert_eq!(cutter.is_transport_stream(), Some(false));
    }

    #[test]
    fn garbage_before_the_first_packet_is_a_chunk_of_its_own() {
        let mut stream = vec![0x11; 300];
        stream.extend(packets(14));
        let chunks = cut(&stream, &[(700, false)], 7);
        assert_eq!(sizes(&chunks), [300, 1316, 1316]);
    }

    #[test]
    fn a_stream_that_begins_inside_a_packet_falls_into_step() {
        let stream = &packets(15)[88..];
        assert_eq!(sizes(&cut(stream, &[], 7)), [100, 1316, 1316]);
    }

    #[test]
    fn sync_lost_in_the_middle_is_found_again() {
        let mut stream = packets(10);
        stream.extend([0x22; 50]);
        stream.extend(packets(10));
        let chunks = cut(&stream, &[], 7);
        assert_eq!(sizes(&chunks), [1316, 564, 50, 1316, 564]);
    }

    #[test]
    fn a_second_writer_starts_in_step() {
        let mut cutter = Cutter::new(7);
        cutter.push(Bytes::from(packets(8)).slice(..8 * 188 - 20));
        let mut chunks: Vec<Bytes> = std::iter::from_fn(|| cutter.finish()).collect();
        cutter.push(packets(7).into());
        chunks.extend(cutter.next_chunk());
        assert_eq!(sizes(&chunks), [1316, 168, 1316]);
    }

    proptest! {
        #[test]
        fn any_split_passes_unchanged(
            parts in proptest::collection::vec((0_usize..4, 0_usize..900), 0..12),
            cuts in proptest::collection::vec((0_usize..2000, any::<bool>()), 0..40),
            packets_per_chunk in 1_usize..=7,
        ) {
            let mut input = Vec::new();
            for (kind, length) in parts {
                match kind {
                    0 | 1 => input.extend(packets(length / 50)),
                    2 => input.extend((0..length).map(|n| (n * 7) as u8)),
                    _ => input.extend(std::iter::repeat_n(SYNC, length)),
                }
            }
            let chunks = cut(&input, &cuts, packets_per_chunk);
            prop_assert!(chunks.iter().all(|chunk| (1..=packets_per_chunk * 188).contains(&chunk.len())));
            prop_assert_eq!(chunks.concat(), input);
        }

        #[test]
        fn a_clean_stream_is_cut_into_whole_packets_at_any_split(
            count in 0_usize..40,
            cuts in proptest::collection::vec((0_usize..2000, any::<bool>()), 0..40),
            packets_per_chunk in 1_usize..=7,
        ) {
            let input = packets(count);
            let chunks = cut(&input, &cuts, packets_per_chunk);
            prop_assert!(chunks.iter().all(|chunk| chunk.len() % 188 == 0));
            prop_assert_eq!(chunks.concat(), input);
        }
    }
}
