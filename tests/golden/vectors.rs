//! The vectors of `wire.hex`: names, formats and bytes.

use p2ps::wire::option::{Addressing, ChunkSize, HashFunction};
use p2ps::wire::{Datagram, DecodeError, Format, Message};

/// The format of the example datagrams of the protocol reference.
pub(crate) const RFC: Format = Format {
    addressing: Addressing::Ranges32,
    hash: HashFunction::Sha256,
    signature_bytes: 64,
    chunk_size: ChunkSize::Fixed(1024),
    substreams: 1,
};

pub(crate) struct Vector {
    pub(crate) name: &'static str,
    pub(crate) format: Format,
    pub(crate) bytes: Vec<u8>,
}

/// All vectors, in the order of the file.
pub(crate) fn all() -> Vec<Vector> {
    let mut vectors: Vec<Vector> = Vec::new();
    for line in include_str!("wire.hex").lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Some(head) = line.strip_prefix('[') {
            let (name, format) = head
                .trim_end_matches(']')
                .split_once(' ')
                .expect("a vector has a name and a format");
            vectors.push(Vector {
                name,
                format: format_named(format),
                bytes: Vec::new(),
            });
        } else if !line.is_empty() {
            let vector = vectors.last_mut().expect("bytes belong to a vector");
            line.split_whitespace()
                .for_each(|word| push(&mut vector.bytes, word));
        }
    }
    vectors
}

/// Every message of a datagram, or the first error.
pub(crate) fn decode(bytes: &[u8], format: &Format) -> Result<Vec<Message>, DecodeError> {
    let (_, mut messages) = Datagram::open(bytes.to_vec().into())?;
    std::iter::from_fn(|| messages.next(format)).collect()
}

fn push(bytes: &mut Vec<u8>, word: &str) {
    let (hex, count) = match word.split_once('*') {
        Some((hex, count)) => (hex, count.parse().expect("a decimal count")),
        None => (word, 1),
    };
    let once = p2ps::ids::decode_hex(hex).expect("hexadecimal");
    (0..count).for_each(|_| bytes.extend_from_slice(&once));
}

fn format_named(name: &str) -> Format {
    match name {
        "rfc" => RFC,
        "rfc/bins32" => addressed(Addressing::Bins32),
        "rfc/bins64" => addressed(Addressing::Bins64),
        "rfc/bytes64" => addressed(Addressing::Bytes64),
        "rfc/ranges64" => addressed(Addressing::Ranges64),
        "rfc/sha1" => Format {
            hash: HashFunction::Sha1,
            ..RFC
        },
        "rfc/variable" => Format {
            chunk_size: ChunkSize::Variable,
            ..RFC
        },
        "live" => Format::LIVE,
        "live/12" => Format {
            substreams: 12,
            ..Format::LIVE
        },
        _ => panic!("no format {name}"),
    }
}

fn addressed(addressing: Addressing) -> Format {
    Format { addressing, ..RFC }
}
