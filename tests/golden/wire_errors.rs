//! What the wire refuses, and the words it says so with: bad inputs, and the one leniency towards other implementations.

use p2ps::ids::decode_hex;
use p2ps::wire::option::{Addressing, ChunkSize};
use p2ps::wire::{DecodeError, Format, MESSAGES_MAX, Message};

use crate::vectors::{RFC, decode};
use crate::wire::get;

/// What a datagram comes to: its messages counted, and how reading ended.
fn read(hex: &str, format: &Format) -> (usize, Option<DecodeError>) {
    let bytes = decode_hex(&hex.replace(' ', "")).expect("hexadecimal");
    let (_, mut messages) = match p2ps::wire::Datagram::open(bytes.into()) {
        Ok(opened) => opened,
        Err(error) => return (0, Some(error)),
    };
    let mut count = 0;
    while let Some(result) = messages.next(format) {
        match result {
            Ok(_) => count += 1,
            Err(error) => return (count, Some(error)),
        }
    }
    (count, None)
}

/// Rows of datagram, messages read before the error, text of the error.
#[track_caller]
fn refuse(format: &Format, rows: &[(&str, usize, &str)]) {
    for (hex, count, text) in rows {
        let (messages, error) = read(hex, format);
        let error = error.map(|error| error.to_string());
        assert_eq!((messages, error.as_deref()), (*count, Some(*text)), "{hex}");
    }
}

#[test]
fn datagrams_without_a_channel() {
    refuse(
        &RFC,
        &[
            ("", 0, "message cut short at byte 0: 4 more bytes needed"),
            (
                "7a3b19",
                0,
                "message cut short at byte 0: 1 more bytes needed",
            ),
        ],
    );
}

#[test]
fn what_follows_an_unknown_message_is_not_read() {
    refuse(
        &RFC,
        &[
            ("7a3b19c4 3f", 0, "unknown message type 0x3f at byte 4"),
            (
                "7a3b19c4 3f 0a 0b",
                0,
                "unknown message type 0x3f at byte 4",
            ),
            (
                "7a3b19c4 0a 0b 0e 0a",
                2,
                "unknown message type 0x0e at byte 6",
            ),
            ("7a3b19c4 ff", 0, "unknown message type 0xff at byte 4"),
        ],
    );
}

#[test]
fn extensions_of_the_wrong_length() {
    refuse(
        &Format::LIVE,
        &[
            (
                "7a3b19c4 f0 0385 c8",
                0,
                "message cut short at byte 7: 900 more bytes needed",
            ),
            (
                "7a3b19c4 f0 0000 0a",
                0,
                "extension 0 at byte 4 has a body of the wrong length",
            ),
            (
                "7a3b19c4 0a f0 0002 54 00",
                1,
                "extension 84 at byte 5 has a body of the wrong length",
            ),
            (
                "7a3b19c4 f0 0005 45 deadbeef",
                0,
                "extension 69 at byte 4 has a body of the wrong length",
            ),
        ],
    );
}

#[test]
fn ranges_that_name_no_chunks() {
    refuse(
        &RFC,
        &[
            ("7a3b19c4 03 00000384 00000011", 0, "bad range 900..17"),
            ("7a3b19c4 08 00000001 00000000", 0, "bad range 1..0"),
            // DATA is one chunk.
            (
                "7a3b19c4 01 00000004 00000005 0000000000000000 aa",
                0,
                "bad range 4..5",
            ),
        ],
    );
    let addressed = |addressing| Format { addressing, ..RFC };
    refuse(
        &addressed(Addressing::Bins32),
        &[(
            "7a3b19c4 03 ffffffff",
            0,
            "bad range 18446744073709551615..18446744073709551615",
        )],
    );
    refuse(
        &addressed(Addressing::Bytes64),
        &[(
            "7a3b19c4 03 0000000000000001 00000000000003ff",
            0,
            "bad range 1..1023",
        )],
    );
    refuse(
        &Format {
            chunk_size: ChunkSize::Variable,
            ..addressed(Addressing::Bytes64)
        },
        &[(
            "7a3b19c4 03 0000000000000000 00000000000003ff",
            0,
            "byte ranges need a fixed chunk size",
        )],
    );
    refuse(
        &Format::LIVE,
        &[(
            "7a3b19c4 f0 0012 53 0000000000000384 0000000000000011 00",
            0,
            "bad range 900..17",
        )],
    );
}

#[test]
fn handshakes_that_cannot_be_read() {
    // Destination 0, type 0, source 7a3b19c4 take 9 bytes.
    let open = "00000000 00 7a3b19c4";
    for (options, text) in [
        ("", "message cut short at byte 9: 1 more bytes needed"),
        ("00", "message cut short at byte 10: 1 more bytes needed"),
        // Out of order, twice, not assigned.
        ("0101 0001 ff", "unexpected handshake option 0 at byte 11"),
        ("0001 0001 ff", "unexpected handshake option 0 at byte 11"),
        ("0001 0b00 ff", "unexpected handshake option 11 at byte 11"),
        // Values that are not assigned.
        ("0307 ff", "handshake option 3 has the unknown value 7"),
        ("0405 ff", "handshake option 4 has the unknown value 5"),
        ("0509 ff", "handshake option 5 has the unknown value 9"),
        ("0609 ff", "handshake option 6 has the unknown value 9"),
        (
            "0900000000 ff",
            "handshake option 9 has the unknown value 0",
        ),
        ("020000 ff", "handshake option 2 has the unknown value 0"),
        // Lengths.
        (
            "02ffff ff",
            "length 65535 at byte 10 is over the limit of 1024",
        ),
        ("0821 ff", "length 33 at byte 10 is over the limit of 32"),
        (
            "0804 ff",
            "message cut short at byte 11: 3 more bytes needed",
        ),
        // A window whose width nobody told.
        ("0700001000 ff", "unexpected handshake option 7 at byte 9"),
    ] {
        refuse(&RFC, &[(&format!("{open} {options}"), 0, text)]);
    }
    refuse(
        &RFC,
        &[(
            "7a3b19c4 0a 00 00000000 ff",
            1,
            "handshake at byte 5 is not the first message",
        )],
    );
}

#[test]
fn the_window_is_as_wide_as_the_chunk_numbers() {
    for (options, window) in [
        ("0600 0700001000", 4096),
        ("0602 0700001000", 4096),
        ("0601 070000000000001000", 4096),
        ("0603 070000000000001000", 4096),
        ("0604 070000000000001000", 4096),
        // All ones: nothing is ever discarded.
        ("0602 07ffffffff", u64::MAX),
        ("0604 07ffffffffffffffff", u64::MAX),
    ] {
        let bytes = decode_hex(&format!("00000000007a3b19c4{options}ff").replace(' ', ""));
        let messages = decode(&bytes.expect("hexadecimal"), &RFC).expect("can be read");
        let [Message::Handshake(handshake)] = messages.as_slice() else {
            panic!("no handshake: {messages:?}");
        };
        assert_eq!(handshake.discard_window, Some(window), "{options}");
    }
}

#[test]
fn supported_messages_of_the_reference() {
    for (bitmap, types) in [
        ("02fffc", (0..14).collect::<Vec<u8>>()),
        ("02f9f0", vec![0, 1, 2, 3, 4, 7, 8, 9, 10, 11]),
        ("02d9f0", vec![0, 1, 3, 4, 7, 8, 9, 10, 11]),
        ("00", vec![]),
        (
            "1ffffc0000000000000000000000000000000000000000000000000000000080",
            (0..14).chain([240]).collect(),
        ),
    ] {
        let bytes = decode_hex(&format!("00000000007a3b19c408{bitmap}ff"));
        let messages = decode(&bytes.expect("hexadecimal"), &RFC).expect("can be read");
        let [Message::Handshake(handshake)] = messages.as_slice() else {
            panic!("no handshake: {messages:?}");
        };
        let supported = handshake.supported.expect("option 8");
        let read: Vec<u8> = (0..=255).filter(|kind| supported.supports(*kind)).collect();
        assert_eq!(read, types, "{bitmap}");
    }
}

/// PyPPSPP ends with 16 bytes under the number 10, ETRI with 2: unassigned, without a length, and of no use to us.
#[test]
fn option_ten_of_others_is_skipped() {
    let open = "00000000 00 7a3b19c4 0001 0301";
    let uuid = "000102030405060708090a0b0c0d0e0f";
    for (tail, messages) in [
        (format!("0a {uuid} ff"), 1),
        ("0a 1a7a ff".to_owned(), 1),
        // What follows the handshake is read.
        (format!("0a {uuid} ff 0a"), 2),
        ("0a 1a7a ff 0a 0b".to_owned(), 3),
    ] {
        assert_eq!(
            read(&format!("{open} {tail}"), &RFC),
            (messages, None),
            "{tail}"
        );
    }
    for tail in ["0a ff", "0a 00 ff", "0a 1a7a", "0a 1a7a00 ff", "0a"] {
        let (messages, error) = read(&format!("{open} {tail}"), &RFC);
        assert_eq!(messages, 0, "{tail}");
        assert_eq!(
            error.map(|error| error.to_string()).as_deref(),
            Some("unexpected handshake option 10 at byte 13"),
            "{tail}"
        );
    }
}

#[test]
fn a_datagram_has_at_most_256_messages() {
    let most = format!("7a3b19c4 {}", "0a".repeat(MESSAGES_MAX));
    assert_eq!(read(&most, &RFC), (MESSAGES_MAX, None));
    refuse(
        &RFC,
        &[(&format!("{most}0a"), MESSAGES_MAX, "more than 256 messages")],
    );
}

#[test]
fn certificates_and_munros_over_the_limit() {
    refuse(
        &Format::LIVE,
        &[
            (
                "7a3b19c4 0d 1001 30",
                0,
                "length 4097 at byte 5 is over the limit of 4096",
            ),
            (
                "7a3b19c4 0d 0004 308201",
                0,
                "message cut short at byte 7: 1 more bytes needed",
            ),
        ],
    );
    // A munro of 33 leaves, all there.
    let mut munro = get("munro").bytes;
    let leaves = 4 + 4 + 8 + 8 + 64;
    munro.truncate(leaves);
    munro.push(33);
    munro.extend([7; 33 * 32]);
    let length = (munro.len() - 7) as u16;
    munro[5..7].copy_from_slice(&length.to_be_bytes());
    assert_eq!(
        decode(&munro, &Format::LIVE),
        Err(DecodeError::BadExtension {
            offset: 4,
            subtype: 81
        })
    );
}
