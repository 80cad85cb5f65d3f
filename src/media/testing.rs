//! Transport streams built by hand, for the tests of this crate.

use super::ts::{PACKET_BYTES, Pcr, SYNC};

/// What the adaptation field of a packet says.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Field {
    pub(crate) random_access: bool,
    /// 27 MHz ticks.
    pub(crate) pcr: Option<u64>,
}

/// A packet with an adaptation field and filler.
pub(crate) fn packet(pid: u16, field: Field) -> Vec<u8> {
    let mut bytes = vec![SYNC, (pid >> 8) as u8, pid as u8, 0x30];
    let flags = u8::from(field.random_access) << 6 | u8::from(field.pcr.is_some()) << 4;
    if let Some(ticks) = field.pcr {
        let (base, extension) = (ticks % Pcr::WRAP / 300, ticks % 300);
        bytes.extend([7, flags]);
        bytes.extend(((base << 15) | 0x7e00 | extension).to_be_bytes()[2..].iter());
    } else {
        bytes.extend([1, flags]);
    }
    bytes.resize(PACKET_BYTES, 0xab);
    bytes
}

/// `count` packets that differ from each other.
pub(crate) fn packets(count: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(count * PACKET_BYTES);
    for number in 0..count {
        let mut one = packet(0x100, Field::default());
        one[3] |= (number & 15) as u8;
        one[180..188].copy_from_slice(&(number as u64).to_be_bytes());
        bytes.extend(one);
    }
    bytes
}

/// A program association table with one program.
pub(crate) fn pat(pmt_pid: u16) -> Vec<u8> {
    let [high, low] = (0xe000 | pmt_pid).to_be_bytes();
    section(0, 0x00, &[0, 1, 0xc1, 0, 0, 0, 1, high, low])
}

/// A program map table: its identifier, the clock's, and the streams as type and identifier.
pub(crate) fn pmt(pid: u16, pcr_pid: u16, streams: &[(u8, u16)]) -> Vec<u8> {
    let [high, low] = (0xe000 | pcr_pid).to_be_bytes();
    let mut body = vec![0, 1, 0xc1, 0, 0, high, low, 0xf0, 0];
    for &(kind, pid) in streams {
        let [high, low] = (0xe000 | pid).to_be_bytes();
        body.extend([kind, high, low, 0xf0, 0]);
    }
    section(pid, 0x02, &body)
}

/// A table section in as many packets as it needs.
fn section(pid: u16, table_id: u8, body: &[u8]) -> Vec<u8> {
    let [high, low] = (0xb000 | (body.len() + 4) as u16).to_be_bytes();
    let mut data = vec![table_id, high, low];
    data.extend(body);
    data.extend(crc(&data).to_be_bytes());
    data.insert(0, 0);
    let mut bytes = Vec::new();
    for (index, part) in data.chunks(PACKET_BYTES - 4).enumerate() {
        let start = if index == 0 { 0x40 } else { 0 };
        bytes.extend([
            SYNC,
            start | (pid >> 8) as u8,
            pid as u8,
            0x10 | index as u8 & 15,
        ]);
        bytes.extend(part);
        bytes.resize(bytes.len().next_multiple_of(PACKET_BYTES), 0xff);
    }
    bytes
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

/// A stream with tables, a clock and pictures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clip {
    /// Packets from one picture to the next.
    pub(crate) packets_per_picture: usize,
    /// Milliseconds from one picture to the next.
    pub(crate) picture_ms: u64,
    /// Pictures from one that can be decoded by itself to the next.
    pub(crate) pictures_per_group: usize,
}

impl Default for Clip {
    fn default() -> Self {
        Self {
            packets_per_picture: 7,
            picture_ms: 40,
            pictures_per_group: 5,
        }
    }
}

impl Clip {
    /// `pictures` pictures; each group begins with tables, each picture carries the clock.
    pub(crate) fn bytes(self, pictures: usize) -> Vec<u8> {
        const VIDEO: u16 = 0x100;
        let mut bytes = Vec::new();
        for picture in 0..pictures {
            let random_access = picture % self.pictures_per_group == 0;
            let mut left = self.packets_per_picture;
            if random_access {
                bytes.extend(pat(0x1000));
                bytes.extend(pmt(0x1000, VIDEO, &[(0x1b, VIDEO), (0x0f, 0x101)]));
                left = left.saturating_sub(2);
            }
            let pcr = Some(picture as u64 * self.picture_ms * 27_000);
            bytes.extend(packet(VIDEO, Field { random_access, pcr }));
            for number in 1..left {
                let mut one = packet(VIDEO, Field::default());
                one[176..184].copy_from_slice(&(picture as u64).to_be_bytes());
                one[184..188].copy_from_slice(&(number as u32).to_be_bytes());
                bytes.extend(one);
            }
        }
        bytes
    }
}
