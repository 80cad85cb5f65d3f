//! A stream whose every byte is a function of seed and offset.
//!
//! It is made of packets of [`UNIT`] bytes that carry their own number, so that the place of any chunk is found without
//! knowing how the stream was cut. It comes in two flavours: bytes that are no known format, and a transport stream
//! with tables, a clock and entry points twice a second.

use super::mix;

/// Bytes in a packet of either flavour.
pub const UNIT: usize = 188;

/// Where in a packet its number stands.
const NUMBER_AT: usize = 4;
const MARK: [u8; NUMBER_AT] = *b"unit";

const SYNC: u8 = 0x47;
const VIDEO_PID: u16 = 0x100;
const PMT_PID: u16 = 0x1000;

/// A stream whose every byte is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    key: u64,
    transport: Option<Transport>,
}

/// What a transport stream is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Transport {
    /// Packets from one entry point to the next.
    group: u64,
    /// Ticks of the 27 MHz clock a packet lasts.
    ticks: u64,
    pat: [u8; UNIT],
    pmt: [u8; UNIT],
}

impl Stream {
    /// Bytes of no known format.
    pub const fn bytes(seed: u64) -> Self {
        Self {
            key: mix(seed ^ 0x6f72_6163_6c65),
            transport: None,
        }
    }

    /// A transport stream of this rate.
    pub fn transport(seed: u64, rate_kbps: u64) -> Self {
        let per_second = (rate_kbps * 125 / UNIT as u64).max(1);
        let [high, low] = PMT_PID.to_be_bytes();
        let [video_high, video_low] = VIDEO_PID.to_be_bytes();
        Self {
            transport: Some(Transport {
                group: (per_second / 2).max(8),
                ticks: 27_000_000 / per_second,
                pat: table(0, 0, &[0, 1, 0xc1, 0, 0, 0, 1, 0xe0 | high, low]),
                pmt: table(
                    PMT_PID,
                    2,
                    &[
                        0,
                        1,
                        0xc1,
                        0,
                        0,
                        0xe0 | video_high,
                        video_low,
                        0xf0,
                        0,
                        // One stream: H.264.
                        0x1b,
                        0xe0 | video_high,
                        video_low,
                        0xf0,
                        0,
                    ],
                ),
            }),
            ..Self::bytes(seed)
        }
    }

    /// Packet `number`.
    pub fn unit(&self, number: u64) -> [u8; UNIT] {
        let Some(transport) = &self.transport else {
            return self.numbered(number, MARK);
        };
        let [high, low] = VIDEO_PID.to_be_bytes();
        let counter = (number & 15) as u8;
        match number % transport.group {
            0 => transport.pat,
            1 => transport.pmt,
            2 => {
                // A picture starts: adaptation field with random access flag and clock.
                let mut unit = self.numbered(number, [SYNC, 0x40 | high, low, 0x30 | counter]);
                let base = (number * transport.ticks / 300) & ((1 << 33) - 1);
                let clock = ((base << 15) | 0x7e00).to_be_bytes();
                unit[4] = 7;
                unit[5] = 0x50;
                unit[6..12].copy_from_slice(&clock[2..]);
                unit
            }
            _ => self.numbered(number, [SYNC, high, low, 0x10 | counter]),
        }
    }

    fn numbered(&self, number: u64, head: [u8; NUMBER_AT]) -> [u8; UNIT] {
        let mut unit = [0; UNIT];
        unit[..NUMBER_AT].copy_from_slice(&head);
        let (words, rest) = unit[NUMBER_AT..].as_chunks_mut::<8>();
        debug_assert!(rest.is_empty());
        let mut state = mix(self.key ^ number);
        for (index, word) in words.iter_mut().enumerate() {
            let value = if index == 0 {
                number ^ self.key
            } else {
                // An odd step of a full-period counter, mixed by one multiplication: plenty to tell packets apart.
                state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                (state ^ (state >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
            };
            *word = value.to_le_bytes();
        }
        unit
    }

    /// Adds `count` packets from `number` on to `out`.
    pub fn append(&self, number: u64, count: u64, out: &mut Vec<u8>) {
        for next in number..number + count {
            out.extend_from_slice(&self.unit(next));
        }
    }

    /// Whether the stream has exactly these bytes at `offset`.
    pub fn matches(&self, offset: u64, bytes: &[u8]) -> bool {
        let mut number = offset / UNIT as u64;
        let mut skip = (offset % UNIT as u64) as usize;
        let mut rest = bytes;
        while !rest.is_empty() {
            let unit = self.unit(number);
            let part = rest.len().min(UNIT - skip);
            if rest[..part] != unit[skip..skip + part] {
                return false;
            }
            rest = &rest[part..];
            number += 1;
            skip = 0;
        }
        true
    }

    /// The offset at which the stream has exactly these bytes, by the first packet number among them.
    pub fn locate(&self, bytes: &[u8]) -> Option<u64> {
        for (start, head) in bytes.windows(NUMBER_AT + 8).enumerate() {
            let numbered = match self.transport {
                None => head[..NUMBER_AT] == MARK,
                Some(_) => head[0] == SYNC && head[3] & 0xf0 == 0x10,
            };
            if !numbered {
                continue;
            }
            let word: [u8; 8] = head[NUMBER_AT..]
                .try_into()
                .expect("the rest of a head is eight bytes");
            let number = u64::from_le_bytes(word) ^ self.key;
            let offset = number
                .checked_mul(UNIT as u64)
                .and_then(|at| at.checked_sub(start as u64));
            if let Some(offset) = offset.filter(|offset| self.matches(*offset, bytes)) {
                return Some(offset);
            }
        }
        None
    }
}

/// A table in one packet (ISO/IEC 13818-1 §2.4.4).
fn table(pid: u16, id: u8, body: &[u8]) -> [u8; UNIT] {
    let [high, low] = pid.to_be_bytes();
    let mut packet = vec![SYNC, 0x40 | high, low, 0x10, 0];
    let section = packet.len();
    packet.extend_from_slice(&[id, 0xb0, (body.len() + 4) as u8]);
    packet.extend_from_slice(body);
    let sum = crc(&packet[section..]);
    packet.extend_from_slice(&sum.to_be_bytes());
    let mut unit = [0xff; UNIT];
    unit[..packet.len()].copy_from_slice(&packet);
    unit
}

/// The CRC of sections (ISO/IEC 13818-1 annex A).
fn crc(data: &[u8]) -> u32 {
    data.iter().fold(u32::MAX, |mut sum, &byte| {
        sum ^= u32::from(byte) << 24;
        for _ in 0..8 {
            sum = sum << 1 ^ if sum >> 31 == 1 { 0x04c1_1db7 } else { 0 };
        }
        sum
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{Scanner, is_transport_stream};

    #[test]
    fn any_cut_of_the_stream_is_found() {
        for stream in [Stream::bytes(3), Stream::transport(3, 400)] {
            let mut all = Vec::new();
            stream.append(0, 400, &mut all);
            for (offset, length) in [
                (3 * 188, 1316),
                (130 * 188, 1316),
                (188 * 5, 20),
                (900, 300),
                (188 * 7 - 1, 13),
            ] {
                assert_eq!(
                    stream.locate(&all[offset..offset + length]),
                    Some(offset as u64),
                    "{offset}+{length}"
                );
            }
            let mut other = Vec::new();
            Stream::bytes(4).append(10, 7, &mut other);
            assert_eq!(stream.locate(&other), None);
        }
    }

    #[test]
    fn a_transport_stream_is_one() {
        let stream = Stream::transport(3, 400);
        let mut all = Vec::new();
        stream.append(0, 400, &mut all);
        assert!(is_transport_stream(&all));
        let mut scanner = Scanner::new();
        scanner.scan(&all);
        assert_eq!(scanner.pmt_pid(), Some(PMT_PID));
        assert_eq!(scanner.has_video(), Some(true));
        let mut bytes = Vec::new();
        Stream::bytes(3).append(0, 40, &mut bytes);
        assert!(!is_transport_stream(&bytes));
    }
}
