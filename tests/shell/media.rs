//! A transport stream made by rule: tables, a clock, pictures, and no two packets alike.

use std::fs;
use std::process::Command;

use crate::harness::{Place, is_installed};

const PACKET_BYTES: usize = 188;
const VIDEO: u16 = 0x100;
const TABLE: u16 = 0x1000;
/// A picture every 20 ms.
const PICTURE_TICKS: u64 = 27_000_000 / 50;
const PACKETS_PER_PICTURE: usize = 14;
/// Players can begin every 100 ms.
const PICTURES_PER_GROUP: usize = 5;

/// Media of one interval: 100 ms, about 1 Mbit/s.
pub(crate) const SLICE_BYTES: usize = PICTURES_PER_GROUP * PACKETS_PER_PICTURE * PACKET_BYTES;

/// `count` slices of 100 ms, the clock beginning at slice `first`.
pub(crate) fn slices(first: usize, count: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(count * SLICE_BYTES);
    let mut counters = Counters::default();
    for picture in first * PICTURES_PER_GROUP..(first + count) * PICTURES_PER_GROUP {
        let entry = picture % PICTURES_PER_GROUP == 0;
        let mut packets = PACKETS_PER_PICTURE;
        if entry {
            section(
                &mut out,
                0,
                counters.next(0),
                0x00,
                &[0, 1, 0xc1, 0, 0, 0, 1, 0xf0, 0x00],
            );
            let streams = [
                0, 1, 0xc1, 0, 0, 0xe1, 0x00, 0xf0, 0, 0x1b, 0xe1, 0x00, 0xf0, 0,
            ];
            section(&mut out, TABLE, counters.next(1), 0x02, &streams);
            packets -= 2;
        }
        for number in 0..packets {
            let start = out.len();
            let first = number == 0;
            let pid = VIDEO.to_be_bytes();
            out.extend([0x47, pid[0] | u8::from(first) << 6, pid[1]]);
            out.push(if first { 0x30 } else { 0x10 } | counters.next(2));
            if first {
                let base = picture as u64 * PICTURE_TICKS / 300;
                let pcr = (base << 15) | 0x7e00;
                out.extend([7, u8::from(entry) << 6 | 0x10]);
                out.extend(&pcr.to_be_bytes()[2..]);
            }
            let mut noise = (picture * PACKETS_PER_PICTURE + number) as u64;
            while out.len() < start + PACKET_BYTES {
                noise = noise
                    .wrapping_mul(0x5851_f42d_4c95_7f2d)
                    .wrapping_add(0x1405_7b7e_f767_814f);
                out.push((noise >> 56) as u8);
            }
        }
    }
    out
}

/// A clip of so many seconds that ffmpeg makes, about 1 Mbit/s; none where it is not installed.
pub(crate) fn clip(place: &Place, seconds: u32) -> Option<Vec<u8>> {
    if !is_installed("ffmpeg") {
        return None;
    }
    let clip = place.path("clip.ts");
    let made = Command::new("ffmpeg")
        .args("-v error -f lavfi -i testsrc=size=320x240:rate=25".split(' '))
        .args("-f lavfi -i sine=frequency=440".split(' '))
        .args(["-t", &seconds.to_string()])
        .args("-c:v mpeg2video -b:v 800k -c:a mp2 -f mpegts".split(' '))
        .arg(&clip)
        .status();
    let is_made = made.is_ok_and(|status| status.success());
    assert!(is_made, "ffmpeg makes a clip");
    Some(fs::read(&clip).expect("the clip"))
}

/// Continuity counters of the tables and the video.
#[derive(Default)]
struct Counters([u8; 3]);

impl Counters {
    fn next(&mut self, which: usize) -> u8 {
        let counter = self.0[which];
        self.0[which] = (counter + 1) & 15;
        counter
    }
}

/// A table in one packet.
fn section(out: &mut Vec<u8>, pid: u16, counter: u8, table: u8, body: &[u8]) {
    let start = out.len();
    let pid = pid.to_be_bytes();
    out.extend([0x47, 0x40 | pid[0], pid[1], 0x10 | counter, 0]);
    let section = out.len();
    let length = (0xb000 | (body.len() as u16 + 4)).to_be_bytes();
    out.extend([table, length[0], length[1]]);
    out.extend(body);
    let sum = crc(&out[section..]);
    out.extend(sum.to_be_bytes());
    out.resize(start + PACKET_BYTES, 0xff);
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
