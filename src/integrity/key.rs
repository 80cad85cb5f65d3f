//! Keys of live swarms: the source's signing key and its file form, and the key that every swarm identifier carries
//! (RFC 7574 §6.1.2, §7.7; public keys as in DNSKEY records, signatures of fixed width).
//!
//! Where a key file lies and who may read it is for the shell to check.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    self as aws, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _,
    ParsedPublicKey, RsaParameters, RsaPublicKeyComponents,
};
use bytes::Bytes;
use data_encoding::BASE64;

use crate::ids::{PeerKey, SwarmId};
use crate::wire::option::SignatureAlgorithm;

/// Sizes of RSA modulus accepted, in bytes: 1024 to 4096 bits, the most that RFC 3110 §2 and RFC 5702 §2 allow.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 128..=512;
/// Longest RSA exponent accepted, in bytes; a longer one only makes checking slow.
const EXPONENT_BYTES_MAX: usize = 4;
/// Characters in a line of a key file (RFC 7468 §2).
const PEM_LINE: usize = 64;

/// Why something is no usable key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A key file with nothing in it.
    #[error("it is empty")]
    Empty,
    /// A key file of another form.
    #[error("it is not a PEM file")]
    NotPem,
    /// A key file whose block is cut short, or holds no key.
    #[error("its PEM block is damaged")]
    Damaged,
    /// The public half, where the secret one is needed.
    #[error("it is a public key")]
    PublicKey,
    /// A key file under a passphrase.
    #[error("it is encrypted, decrypt it with openssl pkcs8")]
    Encrypted,
    /// A private key in a form older than PKCS#8.
    #[error("it is not PKCS#8, convert it with openssl pkcs8 -topk8 -nocrypt")]
    NotPkcs8,
    /// A private key of an algorithm that a source cannot sign with.
    #[error("its algorithm is not Ed25519, P-256 or P-384")]
    NoSigner,
    /// A signature algorithm that is not known here.
    #[error("signature algorithm {code} is not supported")]
    Algorithm {
        /// Number of the algorithm, as in DNSSEC.
        code: u8,
    },
    /// A swarm identifier whose length does not fit its algorithm.
    #[error("{bytes} bytes, need {needed}")]
    Length {
        /// Bytes of the whole identifier.
        bytes: usize,
        /// Bytes that its algorithm needs.
        needed: usize,
    },
    /// An RSA key whose exponent or modulus is out of bounds.
    #[error("RSA key out of bounds: {modulus_bits} bits, exponent of {exponent_bytes} bytes")]
    RsaBounds {
        /// Bits of the modulus, in whole bytes.
        modulus_bits: usize,
        /// Bytes of the exponent.
        exponent_bytes: usize,
    },
    /// Bytes of the right length that are no point of the curve, or no RSA key.
    #[error("no valid public key")]
    Invalid,
    /// The system could make no random numbers.
    #[error("no random numbers from the system")]
    Random,
}

/// The secret of a live source: whoever holds it speaks for the channel.
///
/// Cheap to clone. `Debug` shows only the public half.
#[derive(Clone)]
pub struct SigningKey(Arc<Inner>);

struct Inner {
    pair: Pair,
    swarm_id: SwarmId,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    Ecdsa(EcdsaKeyPair),
}

impl SigningKey {
    /// A fresh key from the system's generator: for the shell, not for the core.
    ///
    /// # Errors
    ///
    /// [`KeyError::NoSigner`] for RSA and what is not implemented, [`KeyError::Random`] when the system fails.
    pub fn generate(algorithm: SignatureAlgorithm) -> Result<Self, KeyError> {
        let pair = match ecdsa(algorithm) {
            Some(curve) => EcdsaKeyPair::generate(curve).map(Pair::Ecdsa),
            None if algorithm == SignatureAlgorithm::Ed25519 => {
                Ed25519KeyPair::generate().map(Pair::Ed25519)
            }
            None => return Err(KeyError::NoSigner),
        };
        Ok(Self::new(algorithm, pair.map_err(|_| KeyError::Random)?))
    }

    /// The Ed25519 key of a 32-byte seed (RFC 8032 §5.1.5).
    pub fn from_seed_ed25519(seed: [u8; 32]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("any 32 bytes are a seed");
        Self::new(SignatureAlgorithm::Ed25519, Pair::Ed25519(pair))
    }

    /// From the contents of a key file: an unencrypted PKCS#8 block in PEM, as `openssl genpkey` writes it.
    ///
    /// # Errors
    ///
    /// A [`KeyError`] that completes "cannot use key F: …".
    pub fn from_pem(contents: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        let der = private_block(contents.as_ref())?;
        let algorithm = pkcs8_algorithm(&der).ok_or(KeyError::NoSigner)?;
        let pair = match ecdsa(algorithm) {
            Some(curve) => EcdsaKeyPair::from_pkcs8(curve, &der).map(Pair::Ecdsa),
            None => Ed25519KeyPair::from_pkcs8(&der).map(Pair::Ed25519),
        };
        Ok(Self::new(algorithm, pair.map_err(|_| KeyError::Damaged)?))
    }

    /// The contents of a key file: secret, to be written with mode 0600.
    pub fn to_pem(&self) -> String {
        let document = match &self.0.pair {
            Pair::Ed25519(pair) => pair.to_pkcs8v1(),
            Pair::Ecdsa(pair) => pair.to_pkcs8v1(),
        }
        .expect("a key that signs can be written");
        let base64 = BASE64.encode(document.as_ref());
        let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
        let mut rest = base64.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(PEM_LINE));
            pem.push_str(line);
            pem.push('\n');
            rest = after;
        }
        pem.push_str("-----END PRIVATE KEY-----\n");
        pem
    }

    /// The swarm that this key speaks for: algorithm number and public key (RFC 7574 §6.1.2).
    pub fn swarm_id(&self) -> SwarmId {
        self.0.swarm_id.clone()
    }

    /// The public half.
    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey::from_swarm_id(&self.0.swarm_id).expect("our own public key is valid")
    }

    /// The public half as the identity of a peer; none but Ed25519 keys are one.
    pub fn peer_key(&self) -> Option<PeerKey> {
        match &self.0.pair {
            Pair::Ed25519(pair) => {
                let public = pair.public_key().as_ref().try_into().ok()?;
                Some(PeerKey::from_bytes(public))
            }
            Pair::Ecdsa(_) => None,
        }
    }

    /// The signature of a message, of the width that the algorithm fixes.
    ///
    /// Ed25519 signs the same message the same way each time; ECDSA does not.
    pub fn sign(&self, message: &[u8]) -> Bytes {
        let signature = match &self.0.pair {
            Pair::Ed25519(pair) => pair.sign(message),
            // The library takes a generator for the sake of its interface and uses its own.
            Pair::Ecdsa(pair) => pair.sign(&SystemRandom::new(), message).expect(
                "signing fails only without random numbers, and then the key could not be made",
            ),
        };
        Bytes::copy_from_slice(signature.as_ref())
    }

    fn new(algorithm: SignatureAlgorithm, pair: Pair) -> Self {
        let public = match &pair {
            Pair::Ed25519(pair) => pair.public_key().as_ref(),
            // Without the 04 in front that marks an uncompressed point (RFC 6605 §4).
            Pair::Ecdsa(pair) => &pair.public_key().as_ref()[1..],
        };
        let mut id = Vec::with_capacity(1 + public.len());
        id.push(algorithm.code());
        id.extend_from_slice(public);
        let swarm_id = SwarmId::new(id).expect("no public key is longer than an identifier may be");
        Self(Arc::new(Inner { pair, swarm_id }))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SigningKey").field(&self.0.swarm_id).finish()
    }
}

/// The public key of a live swarm, checked and ready to verify.
#[derive(Clone)]
pub struct VerifyingKey {
    algorithm: SignatureAlgorithm,
    signature_bytes: usize,
    swarm_id: SwarmId,
    key: ParsedPublicKey,
}

impl VerifyingKey {
    /// The key inside a swarm identifier (RFC 7574 §6.1.2).
    ///
    /// # Errors
    ///
    /// When the algorithm is none of 5, 8, 13, 14 and 15, or the rest is no public key of that algorithm.
    pub fn from_swarm_id(swarm_id: &SwarmId) -> Result<Self, KeyError> {
        let bytes = swarm_id.as_bytes();
        let Some((&code, public)) = bytes.split_first() else {
            return Err(KeyError::Empty);
        };
        let unknown = KeyError::Algorithm { code };
        let algorithm = SignatureAlgorithm::from_code(code).ok_or(unknown)?;
        let needs = |needed| {
            if bytes.len() == needed {
                Ok(())
            } else {
                Err(KeyError::Length {
                    bytes: bytes.len(),
                    needed,
                })
            }
        };
        let point = |curve, needed| {
            needs(needed)?;
            let mut point = Vec::with_capacity(needed);
            point.push(4);
            point.extend_from_slice(public);
            ParsedPublicKey::new(curve, point).map_err(|_| KeyError::Invalid)
        };
        let (key, signature_bytes) = match algorithm {
            SignatureAlgorithm::Ed25519 => {
                needs(33)?;
                let key = ParsedPublicKey::new(&aws::ED25519, public);
                (key.map_err(|_| KeyError::Invalid)?, 64)
            }
            SignatureAlgorithm::EcdsaP256 => (point(&aws::ECDSA_P256_SHA256_FIXED, 65)?, 64),
            SignatureAlgorithm::EcdsaP384 => (point(&aws::ECDSA_P384_SHA384_FIXED, 97)?, 96),
            SignatureAlgorithm::RsaSha1 => {
                rsa(public, &aws::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY)?
            }
            SignatureAlgorithm::RsaSha256 => {
                rsa(public, &aws::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY)?
            }
            SignatureAlgorithm::RsaSha1Nsec3
            | SignatureAlgorithm::RsaSha512
            | SignatureAlgorithm::Ed448 => return Err(unknown),
        };
        Ok(Self {
            algorithm,
            signature_bytes,
            swarm_id: swarm_id.clone(),
            key,
        })
    }

    /// The key that is the identity of a peer.
    ///
    /// # Errors
    ///
    /// [`KeyError::Invalid`] when the bytes are no point of the curve.
    pub fn from_peer_key(peer: &PeerKey) -> Result<Self, KeyError> {
        let mut id = vec![SignatureAlgorithm::Ed25519.code()];
        id.extend_from_slice(peer.as_bytes());
        let swarm_id = SwarmId::new(id).map_err(|_| KeyError::Invalid)?;
        Self::from_swarm_id(&swarm_id)
    }

    /// Whether the signature of the message was made with this key.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        signature.len() == self.signature_bytes && self.key.verify_sig(message, signature).is_ok()
    }

    /// The signature algorithm, option 5 of the handshake.
    pub const fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }

    /// Bytes of every signature: 64, 96, or those of an RSA modulus.
    pub const fn signature_bytes(&self) -> usize {
        self.signature_bytes
    }

    /// The swarm that the key was taken from.
    pub const fn swarm_id(&self) -> &SwarmId {
        &self.swarm_id
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("VerifyingKey").field(&self.swarm_id).finish()
    }
}

fn ecdsa(algorithm: SignatureAlgorithm) -> Option<&'static EcdsaSigningAlgorithm> {
    match algorithm {
        SignatureAlgorithm::EcdsaP256 => Some(&aws::ECDSA_P256_SHA256_FIXED_SIGNING),
        SignatureAlgorithm::EcdsaP384 => Some(&aws::ECDSA_P384_SHA384_FIXED_SIGNING),
        _ => None,
    }
}

/// Reads exponent and modulus of a DNSKEY (RFC 3110 §2); also says how long signatures are.
fn rsa(
    public: &[u8],
    parameters: &'static RsaParameters,
) -> Result<(ParsedPublicKey, usize), KeyError> {
    let (exponent_bytes, rest) = match public {
        [0, high, low, rest @ ..] => (usize::from(u16::from_be_bytes([*high, *low])), rest),
        [len, rest @ ..] => (usize::from(*len), rest),
        [] => (0, public),
    };
    let Some((e, n)) = rest.split_at_checked(exponent_bytes) else {
        return Err(KeyError::RsaBounds {
            modulus_bits: 0,
            exponent_bytes,
        });
    };
    if !MODULUS_BYTES.contains(&n.len()) || !(1..=EXPONENT_BYTES_MAX).contains(&exponent_bytes) {
        return Err(KeyError::RsaBounds {
            modulus_bits: n.len() * 8,
            exponent_bytes,
        });
    }
    // An even modulus or exponent, or an exponent of 1, is no key; the library refuses leading zeros.
    let odd = |number: &[u8]| number.last().is_some_and(|byte| byte & 1 == 1);
    if !odd(n) || !odd(e) || e == [1] {
        return Err(KeyError::Invalid);
    }
    let key = RsaPublicKeyComponents { n, e }
        .to_parsed_public_key(parameters)
        .map_err(|_| KeyError::Invalid)?;
    Ok((key, n.len()))
}

/// The bytes of the block `PRIVATE KEY` of a key file.
fn private_block(contents: &[u8]) -> Result<Vec<u8>, KeyError> {
    let text = str::from_utf8(contents).map_err(|_| KeyError::NotPem)?;
    if text.trim().is_empty() {
        return Err(KeyError::Empty);
    }
    let mut public = ["ssh-", "ecdsa-sha2-"]
        .iter()
        .any(|kind| text.trim_start().starts_with(kind));
    let mut rest = text;
    // Other blocks may come first, for example EC PARAMETERS.
    while let Some((_, after)) = rest.split_once("-----BEGIN ") {
        let (label, body) = after.split_once("-----").ok_or(KeyError::Damaged)?;
        match label {
            "PRIVATE KEY" => {
                let (base64, _) = body
                    .split_once("-----END PRIVATE KEY-----")
                    .ok_or(KeyError::Damaged)?;
                let base64: String = base64.split_ascii_whitespace().collect();
                return BASE64
                    .decode(base64.as_bytes())
                    .map_err(|_| KeyError::Damaged);
            }
            "ENCRYPTED PRIVATE KEY" => return Err(KeyError::Encrypted),
            other if other.ends_with("PRIVATE KEY") => return Err(KeyError::NotPkcs8),
            other => public |= other.ends_with("PUBLIC KEY") || other == "CERTIFICATE",
        }
        rest = body;
    }
    Err(if public {
        KeyError::PublicKey
    } else {
        KeyError::NotPem
    })
}

/// The algorithm that a PKCS#8 document names, when it is one that we sign with.
///
/// The object identifiers of algorithm and curve end within the first 28 bytes, before any byte of the key.
fn pkcs8_algorithm(der: &[u8]) -> Option<SignatureAlgorithm> {
    const IDENTIFIERS: [(&[u8], SignatureAlgorithm); 3] = [
        (&[6, 3, 0x2b, 0x65, 0x70], SignatureAlgorithm::Ed25519),
        (
            &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7],
            SignatureAlgorithm::EcdsaP256,
        ),
        (
            &[6, 5, 0x2b, 0x81, 0x04, 0x00, 0x22],
            SignatureAlgorithm::EcdsaP384,
        ),
    ];
    let head = &der[..der.len().min(28)];
    IDENTIFIERS.iter().find_map(|&(identifier, algorithm)| {
        head.windows(identifier.len())
            .any(|window| window == identifier)
            .then_some(algorithm)
    })
}

#[cfg(test)]
mod tests;
