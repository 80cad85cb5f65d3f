//! Entry points for fuzzing and property tests: any bytes at all go in, and what must hold of them is asserted here,
//! once, for both.

use bytes::Bytes;

use super::control::BODY_BYTES_MAX;
use super::option::{Addressing, ChunkSize, HashFunction};
use super::{
    ChannelDescription, ControlBody, Datagram, DecodeError, EXTENSION_TYPE, Extension, Format,
    MESSAGES_MAX, Message,
};
use crate::ids::ChannelId;

/// One format for each way of reading: every addressing, hashes of two lengths, both kinds of chunk, one and several
/// substreams.
const FORMATS: [Format; 6] = [
    Format::LIVE,
    Format {
        addressing: Addressing::Ranges32,
        hash: HashFunction::Sha1,
        signature_bytes: 96,
        chunk_size: ChunkSize::Fixed(16),
        substreams: 12,
    },
    Format {
        addressing: Addressing::Bins32,
        ..Format::LIVE
    },
    Format {
        addressing: Addressing::Bins64,
        chunk_size: ChunkSize::Fixed(1024),
        ..Format::LIVE
    },
    Format {
        addressing: Addressing::Bytes64,
        chunk_size: ChunkSize::Fixed(24),
        ..Format::LIVE
    },
    Format {
        addressing: Addressing::Bytes64,
        chunk_size: ChunkSize::Fixed(1),
        ..Format::LIVE
    },
];

/// Reads a datagram in every format.
///
/// # Panics
///
/// When it reads past the end or more than [`MESSAGES_MAX`] messages, goes on after an error, or does not read again
/// what it wrote.
pub fn datagram(bytes: &[u8]) {
    for format in &FORMATS {
        stable(bytes, format);
    }
}

/// Reads the options of a handshake: what follows the source channel.
///
/// # Panics
///
/// As [`datagram`], and when a handshake that lacks its end is accepted.
pub fn handshake_options(bytes: &[u8]) {
    // Destination channel 0, type 0, any source channel.
    let opening = [[0, 0, 0, 0, 0, 1, 2, 3, 4].as_slice(), bytes].concat();
    let Some(Message::Handshake(handshake)) = stable(&opening, &Format::LIVE).into_iter().next()
    else {
        return;
    };
    let mut written = vec![0; 4];
    Message::Handshake(handshake).encode(&Format::LIVE, &mut written);
    for length in 4..written.len() {
        let (messages, _, _) = read(written.get(..length).unwrap_or_default(), &Format::LIVE);
        assert!(messages.is_empty(), "a handshake of {length} bytes");
    }
}

/// Reads an extension message: subtype and body.
///
/// # Panics
///
/// As [`datagram`], and when what is read is not written byte for byte, when a body is accepted that is a byte too
/// long or too short, or when the message behind the envelope is not found.
pub fn extension(bytes: &[u8]) {
    for format in &FORMATS {
        let Some(datagram) = enveloped(bytes) else {
            return;
        };
        let messages = stable(&datagram, format);
        let [Message::Extension(extension), Message::Choke] = messages.as_slice() else {
            assert!(messages.is_empty(), "half an extension: {messages:?}");
            continue;
        };
        let mut written = vec![0; 4];
        extension.encode(format, &mut written);
        Message::Choke.encode(format, &mut written);
        assert_eq!(written, datagram, "{extension:?}");

        match extension {
            Extension::Description(bytes) => description(bytes),
            Extension::Control(control) => control_json(control.kind, &control.body),
            _ => {}
        }
        // 79 CONTROL, 85 DESCRIPTION and subtypes we do not know are as long as they are.
        if bytes.first().is_some_and(|subtype| is_exact(*subtype)) {
            let longer = [bytes, &[0]].concat();
            let shorter = bytes.get(..bytes.len() - 1).unwrap_or_default();
            for wrong in [longer.as_slice(), shorter] {
                let messages = enveloped(wrong).map(|datagram| stable(&datagram, format));
                assert_eq!(messages.unwrap_or_default(), [], "{extension:?}");
            }
        }
    }
}

/// The message behind the envelope.
const CHOKE: u8 = 10;

/// Reads a channel description.
///
/// # Panics
///
/// When what is read is not written byte for byte.
pub fn description(bytes: &Bytes) {
    if let Ok(description) = ChannelDescription::decode(bytes.clone()) {
        assert_eq!(
            description.encode().filter(|written| written != bytes),
            None,
            "{description:?}"
        );
    }
}

/// Reads the body of a CONTROL message.
///
/// # Panics
///
/// When a body that is too long is read, when something is shown to people that may not be, or when what is read is not
/// read again from what is written of it.
pub fn control_json(kind: u16, body: &[u8]) {
    let Some(read) = ControlBody::decode(kind, body) else {
        return;
    };
    assert!(body.len() <= BODY_BYTES_MAX, "{} bytes", body.len());
    if let ControlBody::NotifyStream(notice) = &read {
        assert!(!notice.title.chars().any(char::is_control), "{notice:?}");
    }
    let written = read.encode();
    assert!(written.len() <= BODY_BYTES_MAX, "{read:?}");
    assert_eq!(read.kind(), kind);
    assert_eq!(ControlBody::decode(kind, &written), Some(read));
}

/// Whether the content of a subtype says how long it is.
const fn is_exact(subtype: u8) -> bool {
    matches!(subtype, 64..=71 | 81..=84)
}

/// A datagram of this extension and a CHOKE behind it; `None` when there is no such length.
fn enveloped(content: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(content.len()).ok()?.to_be_bytes();
    let front = [0, 0, 0, 0, EXTENSION_TYPE];
    Some([front.as_slice(), &length, content, &[CHOKE]].concat())
}

/// Reads a datagram, writes it, reads it again: the messages.
fn stable(bytes: &[u8], format: &Format) -> Vec<Message> {
    let (messages, consumed, error) = read(bytes, format);
    assert!(consumed <= bytes.len(), "read past the end");
    assert!(messages.len() <= MESSAGES_MAX, "too many messages");
    assert!(
        error.is_some() || consumed == bytes.len(),
        "bytes left unread without an error"
    );
    let mut written = vec![0; 4];
    for message in &messages {
        message.encode(format, &mut written);
    }
    let (again, _, error) = read(&written, format);
    assert_eq!(error, None, "what was written: {messages:?}");
    assert_eq!(again, messages);
    messages
}

/// The messages up to the first error, how much was read, and the error.
fn read(bytes: &[u8], format: &Format) -> (Vec<Message>, usize, Option<DecodeError>) {
    let opened = Datagram::open(Bytes::copy_from_slice(bytes));
    let (_, mut reader): (ChannelId, _) = match opened {
        Ok(opened) => opened,
        Err(error) => return (Vec::new(), 0, Some(error)),
    };
    let mut messages = Vec::new();
    while let Some(result) = reader.next(format) {
        match result {
            Ok(message) => messages.push(message),
            Err(error) => {
                assert!(
                    reader.next(format).is_none(),
                    "reading goes on after {error}"
                );
                return (messages, reader.consumed(), Some(error));
            }
        }
    }
    (messages, reader.consumed(), None)
}
