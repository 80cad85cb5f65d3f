//! The channel description: what a channel is called and how it is laid out, signed by its key.

use bytes::Bytes;

use super::cursor::{DecodeError, Reader};
use crate::ids::SwarmId;

/// Longest channel name, in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// Longest title, in bytes.
pub const TITLE_BYTES_MAX: usize = 256;
/// Longest description, in bytes: it must fit into one datagram.
pub const DESCRIPTION_BYTES_MAX: usize = 1180;
const FORM: u8 = 1;

/// A channel described by its owner.
///
/// On the wire: form (1) · name length u8, name · title length u16, title · swarm identifier length u16, swarm
/// identifier · largest chunk u16 · munro width u8 · layout N, K, r u8 each · signature over all before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelDescription {
    /// What it is called: 1 to 64 of `A-Z a-z 0-9 . _ -`.
    pub name: String,
    /// What it is called for people; no control characters.
    pub title: String,
    /// Which swarm it is.
    pub swarm_id: SwarmId,
    /// Bytes of its largest chunk.
    pub chunk_bytes_max: u16,
    /// Chunks of a munro.
    pub munro_width: u8,
    /// Substreams, of which `data_substreams` rebuild all, in runs of `run_length` chunks.
    pub substreams: u8,
    /// Substreams that carry media; the others carry parity.
    pub data_substreams: u8,
    /// Chunks in a row of one substream.
    pub run_length: u8,
    /// By the key in `swarm_id`, over [`signed_bytes`](Self::signed_bytes).
    pub signature: Bytes,
}

/// Whether a text can name a channel.
pub fn is_channel_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// Whether a text can be the title of a channel.
pub fn is_title(text: &str) -> bool {
    text.len() <= TITLE_BYTES_MAX && !text.chars().any(char::is_control)
}

impl ChannelDescription {
    /// What the signature covers.
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut out = vec![FORM, self.name.len() as u8];
        out.extend_from_slice(self.name.as_bytes());
        out.extend_from_slice(&(self.title.len() as u16).to_be_bytes());
        out.extend_from_slice(self.title.as_bytes());
        let id = self.swarm_id.as_bytes();
        out.extend_from_slice(&(id.len() as u16).to_be_bytes());
        out.extend_from_slice(id);
        out.extend_from_slice(&self.chunk_bytes_max.to_be_bytes());
        out.extend_from_slice(&[
            self.munro_width,
            self.substreams,
            self.data_substreams,
            self.run_length,
        ]);
        out
    }

    /// The bytes of a DESCRIPTION message; `None` when they do not fit into one datagram.
    pub fn encode(&self) -> Option<Bytes> {
        let mut out = self.signed_bytes();
        out.extend_from_slice(&self.signature);
        (out.len() <= DESCRIPTION_BYTES_MAX).then(|| out.into())
    }

    /// Reads a description; the signature is still to be verified.
    ///
    /// # Errors
    ///
    /// When it is cut short, of another form, or has a name or title that is not allowed.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let form = reader.u8()?;
        if form != FORM {
            return Err(DecodeError::BadOption {
                code: 0,
                value: u32::from(form),
            });
        }
        let length = usize::from(reader.u8()?);
        let name = text(&mut reader, length, is_channel_name)?;
        let length = usize::from(reader.u16()?);
        let title = text(&mut reader, length, is_title)?;
        let offset = reader.offset();
        let length = usize::from(reader.u16()?);
        let swarm_id =
            SwarmId::new(Bytes::copy_from_slice(&reader.take(length)?)).map_err(|_| {
                DecodeError::TooLong {
                    offset,
                    length,
                    limit: SwarmId::BYTES_MAX,
                }
            })?;
        Ok(Self {
            name,
            title,
            swarm_id,
            chunk_bytes_max: reader.u16()?,
            munro_width: reader.u8()?,
            substreams: reader.u8()?,
            data_substreams: reader.u8()?,
            run_length: reader.u8()?,
            signature: reader.take(reader.remaining())?,
        })
    }
}

fn text(
    reader: &mut Reader,
    length: usize,
    allowed: fn(&str) -> bool,
) -> Result<String, DecodeError> {
    let offset = reader.offset();
    let bytes = reader.take(length)?;
    match std::str::from_utf8(&bytes) {
        Ok(text) if allowed(text) => Ok(text.to_owned()),
        _ => Err(DecodeError::UnexpectedOption { offset, code: 0 }),
    }
}
