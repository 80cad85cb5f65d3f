//! Live content with a signature for every chunk (Sign All, RFC 7574 §6.1.1): simple, dear, optional.

use bytes::Bytes;

use super::ChunkSpec;
use super::key::SigningKey;
use super::live::Authority;
use super::proof::{Proven, Unproven};
use crate::chunk::{ChunkIndex, ChunkRange};
use crate::time::NtpTime;

/// A chunk with the signature that proves it, as it is passed on: made by verifying or by signing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedChunk {
    chunk: Proven,
    time: NtpTime,
    signature: Bytes,
}

impl SignedChunk {
    /// Checks a chunk against the signature that came before it.
    ///
    /// # Errors
    ///
    /// The payload back when the signature is not the source's, or the swarm cannot name the chunk.
    pub fn verify(
        authority: &Authority,
        chunk: ChunkIndex,
        time: NtpTime,
        signature: Bytes,
        payload: Unproven<Bytes>,
    ) -> Result<Self, Unproven<Bytes>> {
        match signed_message(authority.spec(), chunk, time, &payload.0) {
            Some(message) if authority.key().verify(&message, &signature) => Ok(Self {
                chunk: Proven::own(chunk, payload.0),
                time,
                signature,
            }),
            _ => Err(payload),
        }
    }

    /// Signs a chunk of our own; `None` when the swarm cannot name it.
    pub fn sign(key: &SigningKey, spec: ChunkSpec, chunk: Proven, time: NtpTime) -> Option<Self> {
        let message = signed_message(spec, chunk.chunk(), time, chunk.payload())?;
        let signature = key.sign(&message);
        Some(Self {
            chunk,
            time,
            signature,
        })
    }

    /// The chunk.
    pub const fn chunk(&self) -> &Proven {
        &self.chunk
    }

    /// The chunk.
    pub fn into_chunk(self) -> Proven {
        self.chunk
    }

    /// When the source signed, by its clock.
    pub const fn time(&self) -> NtpTime {
        self.time
    }

    /// The signature, to be passed on unchanged.
    pub const fn signature(&self) -> &Bytes {
        &self.signature
    }
}

/// The bytes that the signature covers: chunk specification, time stamp, chunk.
fn signed_message(
    spec: ChunkSpec,
    chunk: ChunkIndex,
    time: NtpTime,
    payload: &[u8],
) -> Option<Vec<u8>> {
    let mut spec_bytes = [0; ChunkSpec::BYTES_MAX];
    let spec_len = spec.encode(ChunkRange::single(chunk), &mut spec_bytes)?;
    Some(
        [
            &spec_bytes[..spec_len],
            &time.to_bits().to_be_bytes(),
            payload,
        ]
        .concat(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::decode_hex;
    use crate::wire::option::{Addressing, HashFunction};

    #[test]
    fn the_signature_of_the_reference() {
        let key = SigningKey::from_seed_ed25519(*b"82260384628080122645190204142262");
        let spec = ChunkSpec::from(Addressing::Ranges32);
        let authority = Authority::new(key.verifying_key(), spec, HashFunction::Sha256);
        let chunk = ChunkIndex::new(5);
        let time = NtpTime::from_bits(0xeeac_0640_8000_0000);
        let payload = Bytes::from(vec![0x46; 1024]);
        let signed = SignedChunk::sign(&key, spec, Proven::own(chunk, payload.clone()), time);
        let signed = signed.unwrap();
        let expected = "6f7929070839c671ae8ef7b3a3b3e42f156a23edf793e1c490c2ebadb0cb018c\
            34a04e3e43bbff9fd539c0da53a1b2f236cbf46758b53b46517cb2c44a5dd401";
        assert_eq!(signed.signature()[..], decode_hex(expected).unwrap());

        let verify = |chunk, time, payload: &Bytes| {
            let payload = Unproven::new(payload.clone());
            SignedChunk::verify(&authority, chunk, time, signed.signature().clone(), payload)
        };
        assert_eq!(verify(chunk, time, &payload).unwrap(), signed);
        assert!(verify(chunk.plus(1), time, &payload).is_err());
        assert!(verify(chunk, NtpTime::from_bits(0), &payload).is_err());
        assert!(verify(chunk, time, &payload.slice(1..)).is_err());
        assert!(verify(ChunkIndex::new(1 << 32), time, &payload).is_err());
    }
}
