//! What an MPEG transport stream shows without decoding it: tables, clock, random access points.
//!
//! Packet and table parsing are `mpeg2ts-reader`'s; here is only the choice of what to look at. A stream with
//! several programs is judged by the first one in its PAT, the one a player picks.

use std::fmt;
use std::time::Duration;

use mpeg2ts_reader::StreamType;
use mpeg2ts_reader::descriptor::CoreDescriptors;
use mpeg2ts_reader::packet::Packet;
use mpeg2ts_reader::psi::pat::{PatSection, ProgramDescriptor};
use mpeg2ts_reader::psi::pmt::{PmtSection, StreamInfo};
use mpeg2ts_reader::psi::{
    BufferSectionSyntaxParser, CrcCheckWholeSectionSyntaxPayloadParser, CurrentNext,
    SectionCommonHeader, SectionPacketConsumer, SectionSyntaxSectionProcessor, TableSyntaxHeader,
    WholeSectionSyntaxPayloadParser,
};

/// Bytes of a transport stream packet (ISO/IEC 13818-1 §2.4.3.2).
pub const PACKET_BYTES: usize = 188;

/// First byte of every packet.
pub(super) const SYNC: u8 = 0x47;

/// Whether these bytes look like a transport stream that starts with a whole packet: a sync byte at every
/// multiple of 188. Nothing at all does not.
///
/// One packet alone is weak evidence (one text in 256 begins with a `G`); three are good.
pub fn is_transport_stream(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes
            .iter()
            .step_by(PACKET_BYTES)
            .all(|&first| first == SYNC)
}

/// A program clock reference: 27 MHz, wrapping after 26.5 hours (ISO/IEC 13818-1 §2.4.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pcr(u64);

impl Pcr {
    /// Ticks after which the clock starts again: 2^33 · 300.
    pub const WRAP: u64 = (1 << 33) * 300;
    /// Ticks a second.
    pub const HERTZ: u64 = 27_000_000;

    /// From 27 MHz ticks, taken modulo the wrap.
    pub const fn new(ticks: u64) -> Self {
        Self(ticks % Self::WRAP)
    }

    /// 27 MHz ticks, below [`WRAP`](Self::WRAP).
    pub const fn ticks(self) -> u64 {
        self.0
    }

    /// Ticks from `earlier` to `self` going forward, across the wrap where that is the way.
    pub const fn ticks_since(self, earlier: Self) -> u64 {
        (self.0 + Self::WRAP - earlier.0) % Self::WRAP
    }

    /// Time from `earlier` to `self` going forward.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.ticks_since(earlier) * 1000 / 27)
    }
}

/// What one chunk shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// A program association table starts in it: a decoder that knows nothing can begin soon after.
    pub has_pat: bool,
    /// Decoding can begin in it: a random access flag on the video (on anything, when there is no video).
    pub random_access: bool,
    /// The first clock reference of the program.
    pub pcr: Option<Pcr>,
}

type Sections<P> = SectionPacketConsumer<
    SectionSyntaxSectionProcessor<
        BufferSectionSyntaxParser<CrcCheckWholeSectionSyntaxPayloadParser<P>>,
    >,
>;

fn sections<P: WholeSectionSyntaxPayloadParser<Context = Program>>(parser: P) -> Sections<P> {
    SectionPacketConsumer::new(SectionSyntaxSectionProcessor::new(
        BufferSectionSyntaxParser::new(CrcCheckWholeSectionSyntaxPayloadParser::new(parser)),
    ))
}

/// Reads the marks of chunk after chunk, in stream order.
///
/// A chunk is a whole number of 188-byte packets; one that is not (raw media, a torn packet) has no marks. Costs one
/// look at each packet's header; allocates only for a table that spans packets. Gaps are harmless: tables are checked
/// by their CRC and come again.
pub struct Scanner {
    pat: Sections<PatReader>,
    pmt: Sections<PmtReader>,
    program: Program,
}

/// What the tables said about the program that counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Program {
    pmt_pid: Option<u16>,
    /// Set by the map table; before one was seen, the first packet with a clock stands in.
    pcr_pid: Option<u16>,
    mapped: bool,
    video_pid: Option<u16>,
}

impl Default for Scanner {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Scanner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scanner")
            .field("program", &self.program)
            .finish_non_exhaustive()
    }
}

impl Scanner {
    /// A scanner that knows no tables yet.
    pub fn new() -> Self {
        Self {
            pat: sections(PatReader),
            pmt: sections(PmtReader),
            program: Program::default(),
        }
    }

    /// The packet identifier of the program map table, once a PAT named it.
    pub const fn pmt_pid(&self) -> Option<u16> {
        self.program.pmt_pid
    }

    /// Whether the program has video; `None` before its map table was seen.
    pub const fn has_video(&self) -> Option<bool> {
        if self.program.mapped {
            Some(self.program.video_pid.is_some())
        } else {
            None
        }
    }

    /// What the next chunk shows.
    pub fn scan(&mut self, payload: &[u8]) -> Marks {
        let mut marks = Marks::default();
        if !payload.len().is_multiple_of(PACKET_BYTES) {
            return marks;
        }
        for bytes in payload.chunks_exact(PACKET_BYTES) {
            if let Some(packet) = Packet::try_new(bytes) {
                self.scan_packet(&packet, &mut marks);
            }
        }
        marks
    }

    fn scan_packet(&mut self, packet: &Packet<'_>, marks: &mut Marks) {
        if packet.transport_error_indicator() {
            return;
        }
        let pid = u16::from(packet.pid());
        if pid == 0 {
            marks.has_pat |= packet.payload_unit_start_indicator();
            self.pat.consume(&mut self.program, packet);
        } else if self.program.pmt_pid == Some(pid) {
            self.pmt.consume(&mut self.program, packet);
        }
        let Some(field) = packet.adaptation_field() else {
            return;
        };
        if field.random_access_indicator() && self.program.mapped {
            marks.random_access |= self.program.video_pid.is_none_or(|video| video == pid);
        }
        if marks.pcr.is_none()
            && let Ok(clock) = field.pcr()
            && *self.program.pcr_pid.get_or_insert(pid) == pid
        {
            marks.pcr = Some(Pcr::new(u64::from(clock)));
        }
    }
}

/// The newest tables of a stream, to be put before media that is entered in the middle.
///
/// A random access point need not follow its tables closely; a player that meets the picture first may throw it away.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    pat: Vec<u8>,
    pmt: Vec<u8>,
}

impl Tables {
    /// Longest table kept; one of 1024 bytes takes six packets (ISO/IEC 13818-1 §2.4.4.8).
    const BYTES_MAX: usize = 6 * PACKET_BYTES;

    /// Looks for table packets in the next chunk; `pmt_pid` is what [`Scanner::pmt_pid`] says after it.
    pub fn observe(&mut self, payload: &[u8], pmt_pid: Option<u16>) {
        if !payload.len().is_multiple_of(PACKET_BYTES) {
            return;
        }
        for bytes in payload.chunks_exact(PACKET_BYTES) {
            let Some(packet) = Packet::try_new(bytes) else {
                continue;
            };
            let pid = u16::from(packet.pid());
            let table = match pid {
                0 => &mut self.pat,
                _ if Some(pid) == pmt_pid => &mut self.pmt,
                _ => continue,
            };
            if packet.payload_unit_start_indicator() {
                table.clear();
            } else if table.is_empty() || table.len() >= Self::BYTES_MAX {
                continue;
            }
            table.extend_from_slice(bytes);
        }
    }

    /// The packets of both tables, those that were seen.
    pub fn packets(&self) -> Vec<u8> {
        [&self.pat[..], &self.pmt[..]].concat()
    }
}

/// The part of a whole section between its headers and its CRC; `None` when it is too short or not yet valid.
fn section_body<'a>(header: &TableSyntaxHeader<'_>, data: &'a [u8]) -> Option<&'a [u8]> {
    const CRC_BYTES: usize = 4;
    if header.current_next_indicator() != CurrentNext::Current {
        return None;
    }
    let end = data.len().checked_sub(CRC_BYTES)?;
    data.get(SectionCommonHeader::SIZE + TableSyntaxHeader::SIZE..end)
}

struct PatReader;

impl WholeSectionSyntaxPayloadParser for PatReader {
    type Context = Program;

    fn section<'a>(
        &mut self,
        program: &mut Program,
        header: &SectionCommonHeader,
        table: &TableSyntaxHeader<'a>,
        data: &'a [u8],
    ) {
        const TABLE_ID: u8 = 0x00;
        // Later sections of a long table cannot hold the first program.
        if header.table_id != TABLE_ID || table.section_number() != 0 {
            return;
        }
        let Some(body) = section_body(table, data) else {
            return;
        };
        let first = PatSection::new(body)
            .programs()
            .find_map(|entry| match entry {
                ProgramDescriptor::Program { pid, .. } => Some(u16::from(pid)),
                ProgramDescriptor::Network { .. } => None,
            });
        // Another map table is another programme: what was learnt from the old one misleads.
        if first.is_some() && first != program.pmt_pid {
            *program = Program {
                pmt_pid: first,
                ..Program::default()
            };
        }
    }
}

struct PmtReader;

impl WholeSectionSyntaxPayloadParser for PmtReader {
    type Context = Program;

    fn section<'a>(
        &mut self,
        program: &mut Program,
        header: &SectionCommonHeader,
        table: &TableSyntaxHeader<'a>,
        data: &'a [u8],
    ) {
        const TABLE_ID: u8 = 0x02;
        /// "No clock" (ISO/IEC 13818-1 §2.4.4.9).
        const NO_PCR: u16 = 0x1fff;
        if header.table_id != TABLE_ID {
            return;
        }
        let Some(Ok(map)) = section_body(table, data).map(PmtSection::from_bytes) else {
            return;
        };
        program.mapped = true;
        program.pcr_pid = Some(u16::from(map.pcr_pid())).filter(|&pid| pid != NO_PCR);
        program.video_pid = map
            .streams()
            .find(is_video)
            .map(|stream| u16::from(stream.elementary_pid()));
    }
}

/// Whether a stream of the map table is moving pictures.
fn is_video(stream: &StreamInfo<'_>) -> bool {
    match stream.stream_type() {
        StreamType::ISO_11172_VIDEO
        | StreamType::H262
        | StreamType::ISO_14496_2_VISUAL
        | StreamType::H264
        | StreamType::H265
        | StreamType::CHINESE_VIDEO_STANDARD => true,
        // Private data says by a registration what it is.
        StreamType::H222_0_PES_PRIVATE_DATA => {
            stream
                .descriptors::<CoreDescriptors<'_>>()
                .any(|descriptor| match descriptor {
                    Ok(CoreDescriptors::Registration(found)) => [
                        b"AV01", b"HEVC", b"VVC ", b"VC-1", b"drac", b"AVSV", b"AVS2", b"AVS3",
                    ]
                    .iter()
                    .any(|&name| found.format_identifier().0.0 == *name),
                    _ => false,
                })
        }
        // SVC, MVC, JPEG 2000, MPEG-2 and H.264 stereo, HEVC layers, VVC, JPEG XS; Dirac, AVS2, AVS3, VC-1.
        StreamType(0x1f..=0x23 | 0x25..=0x29 | 0x32..=0x34 | 0xd1 | 0xd2 | 0xd4 | 0xea) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::media::testing::{Clip, Field, packet, packets, pat, pmt};

    const H264: u8 = 0x1b;
    const AAC: u8 = 0x0f;
    const VIDEO: u16 = 0x100;
    const AUDIO: u16 = 0x101;

    fn access(pid: u16) -> Vec<u8> {
        packet(
            pid,
            Field {
                random_access: true,
                pcr: None,
            },
        )
    }

    #[test]
    fn sync_bytes_tell_a_transport_stream() {
        assert!(is_transport_stream(&packets(3)));
        assert!(is_transport_stream(&packets(3)[..400]));
        assert!(!is_transport_stream(&packets(3)[1..]));
        assert!(!is_transport_stream(b""));
        assert!(!is_transport_stream(b"RIFF"));
    }

    #[test]
    fn only_the_video_counts_once_the_tables_are_known() {
        let mut scanner = Scanner::new();
        assert!(!scanner.scan(&access(VIDEO)).random_access);
        assert!(scanner.scan(&pat(0x1000)).has_pat);
        assert!(!scanner.scan(&access(VIDEO)).random_access);
        scanner.scan(&pmt(0x1000, VIDEO, &[(AAC, AUDIO), (H264, VIDEO)]));
        assert!(!scanner.scan(&access(AUDIO)).random_access);
        assert!(scanner.scan(&access(VIDEO)).random_access);
        assert_eq!(scanner.has_video(), Some(true));
    }

    #[test]
    fn without_video_any_flag_counts() {
        let mut scanner = Scanner::new();
        scanner.scan(&[pat(0x1000), pmt(0x1000, AUDIO, &[(AAC, AUDIO)])].concat());
        assert!(scanner.scan(&access(AUDIO)).random_access);
        assert_eq!(scanner.has_video(), Some(false));
    }

    #[test]
    fn tables_and_flag_may_share_a_chunk() {
        let chunk = [pat(0x30), pmt(0x30, VIDEO, &[(H264, VIDEO)]), access(VIDEO)].concat();
        let marks = Scanner::new().scan(&chunk);
        assert!(marks.has_pat && marks.random_access);
    }

    #[test]
    fn a_new_map_replaces_the_old_one() {
        let mut scanner = Scanner::new();
        scanner.scan(&[pat(0x30), pmt(0x30, VIDEO, &[(H264, VIDEO)])].concat());
        scanner.scan(&[pat(0x40), pmt(0x40, 0x200, &[(H264, 0x200)])].concat());
        assert!(!scanner.scan(&access(VIDEO)).random_access);
        assert!(scanner.scan(&access(0x200)).random_access);
    }

    #[test]
    fn a_map_longer_than_a_packet_is_put_together() {
        let streams: Vec<(u8, u16)> = (0..60).map(|n| (AAC, 0x200 + n)).collect();
        let streams = [&streams[..], &[(H264, VIDEO)]].concat();
        let mut scanner = Scanner::new();
        scanner.scan(&[pat(0x30), pmt(0x30, VIDEO, &streams)].concat());
        assert!(scanner.scan(&access(VIDEO)).random_access);
        assert!(!scanner.scan(&access(0x201)).random_access);
    }

    #[test]
    fn the_newest_tables_are_kept() {
        let mut tables = Tables::default();
        assert!(tables.packets().is_empty());
        let long: Vec<(u8, u16)> = (0..60).map(|n| (AAC, 0x200 + n)).collect();
        let old = [pat(0x30), pmt(0x30, VIDEO, &long)].concat();
        tables.observe(&old, Some(0x30));
        assert_eq!(tables.packets(), old);
        let new = [pat(0x30), pmt(0x30, VIDEO, &[(H264, VIDEO)])].concat();
        let chunk = [&packets(1)[..], &new, &packets(2)].concat();
        tables.observe(&chunk, Some(0x30));
        tables.observe(&packets(1)[1..], Some(0x30));
        assert_eq!(tables.packets(), new);
    }

    #[test]
    fn a_damaged_map_is_not_believed() {
        let mut table = pmt(0x30, VIDEO, &[(H264, VIDEO)]);
        table[12] ^= 1;
        let mut scanner = Scanner::new();
        scanner.scan(&[pat(0x30), table].concat());
        assert!(!scanner.scan(&access(VIDEO)).random_access);
    }

    #[test]
    fn the_clock_is_the_one_the_map_names() {
        let clock = |pid, ticks| {
            packet(
                pid,
                Field {
                    random_access: false,
                    pcr: Some(ticks),
                },
            )
        };
        let mut scanner = Scanner::new();
        scanner.scan(&[pat(0x30), pmt(0x30, VIDEO, &[(H264, VIDEO)])].concat());
        let chunk = [clock(AUDIO, 5), clock(VIDEO, 2_700_000_123)].concat();
        assert_eq!(scanner.scan(&chunk).pcr, Some(Pcr::new(2_700_000_123)));
        assert_eq!(scanner.scan(&clock(AUDIO, 5)).pcr, None);
    }

    #[test]
    fn a_torn_chunk_has_no_marks() {
        let mut scanner = Scanner::new();
        assert_eq!(scanner.scan(&pat(0x30)[..187]), Marks::default());
        assert_eq!(scanner.scan(b""), Marks::default());
    }

    #[test]
    fn clock_differences_go_forward_across_the_wrap() {
        let late = Pcr::new(Pcr::WRAP - 27);
        let early = Pcr::new(27_000_000 - 27);
        assert_eq!(early.since(late), Duration::from_secs(1));
        assert_eq!(early.since(early), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(
            flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..200),
            noise in proptest::collection::vec(any::<u8>(), 0..1316),
        ) {
            let mut stream = Clip::default().bytes(50);
            for (at, value) in flips {
                let at = at.index(stream.len());
                stream[at] = value;
            }
            let mut scanner = Scanner::new();
            for chunk in stream.chunks(1316) {
                scanner.scan(chunk);
            }
            scanner.scan(&noise);
            let mut packets = noise;
            packets.truncate(packets.len() / 188 * 188);
            for first in packets.iter_mut().step_by(188) {
                *first = SYNC;
            }
            scanner.scan(&packets);
        }
    }
}
