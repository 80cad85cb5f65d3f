//! Who is that? Challenge and response between two neighbours, each with a key of its own (algorithms §3.9).
//!
//! Three messages prove both keys: the challenger sends a nonce, the answerer signs it and sends one of its own, the
//! challenger signs that. The signed text names the direction, the swarm, both channels, both keys and both nonces, so
//! that a signature is worth nothing in the other direction, on another connection or in another's mouth. What a proven
//! key may do is not decided here.

use std::fmt;

use crate::ids::{ChannelId, PeerId, PeerKey, SwarmId};
use crate::integrity::hash::digest;
use crate::integrity::key::{SigningKey, VerifyingKey};
use crate::wire::option::HashFunction;
use crate::wire::{AuthChallenge, AuthProof, AuthResponse};

/// Keeps these signatures apart from all others that a key may make.
const LABEL: &[u8] = b"p2ps auth v1\0";
/// The answerer signs to the challenger.
const TO_CHALLENGER: u8 = 1;
/// The challenger signs to the answerer.
const TO_ANSWERER: u8 = 2;

/// What a peer is called: the first 8 bytes of the SHA-256 of its key (algorithms §4.2).
pub fn peer_id_of(key: &PeerKey) -> PeerId {
    let hash = digest(HashFunction::Sha256, key.as_bytes());
    PeerId::from_bytes(hash.as_bytes().first_chunk().copied().unwrap_or_default())
}

/// Our own key.
#[derive(Clone)]
pub struct Identity {
    signing: SigningKey,
    public: PeerKey,
}

impl Identity {
    /// Of an Ed25519 key; none for any other.
    pub fn new(signing: SigningKey) -> Option<Self> {
        let public = signing.peer_key()?;
        Some(Self { signing, public })
    }

    /// The public half.
    pub const fn key(&self) -> PeerKey {
        self.public
    }

    /// What we are called.
    pub fn peer_id(&self) -> PeerId {
        peer_id_of(&self.public)
    }

    fn sign(&self, text: &[u8]) -> [u8; 64] {
        let signature = self.signing.sign(text);
        signature
            .as_ref()
            .try_into()
            .expect("an Ed25519 signature has 64 bytes")
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.public).finish()
    }
}

/// The connection that an exchange belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Connection<'a> {
    /// The swarm of the channel.
    pub swarm: &'a SwarmId,
    /// On datagrams to us.
    pub ours: ChannelId,
    /// On datagrams to the other side.
    pub theirs: ChannelId,
}

/// Why nothing was proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// An exchange that we do not know.
    #[error("unsupported version {0} of authentication")]
    Version(u8),
    /// Somebody uses the key that is ours, or sends back what we sent.
    #[error("authentication by our own key")]
    OwnKey,
    /// Nothing was asked, or something else was proven already.
    #[error("unexpected message of authentication")]
    Unexpected,
    /// Bytes that are no key.
    #[error("no valid key")]
    BadKey,
    /// Signed by another key, over another text, or for another connection.
    #[error("the proof of the key does not hold")]
    BadSignature,
}

/// Our challenge.
#[derive(Clone, Copy, Debug)]
struct Asked {
    nonce: [u8; 32],
    /// The answer that held, and ours to it.
    settled: Option<(AuthResponse, AuthProof)>,
}

/// Our answer to a challenge.
#[derive(Clone, Copy, Debug)]
struct Answered {
    challenge: AuthChallenge,
    response: AuthResponse,
}

/// What two neighbours on one channel have proven to each other.
#[derive(Clone, Copy, Debug, Default)]
pub struct Exchange {
    asked: Option<Asked>,
    answered: Option<Answered>,
    proven: Option<PeerKey>,
}

impl Exchange {
    /// The key that the other side has proven.
    pub const fn proven(&self) -> Option<PeerKey> {
        self.proven
    }

    /// Whether the other side has asked us and was answered.
    pub const fn has_answered(&self) -> bool {
        self.answered.is_some()
    }

    /// The challenge to send: the same one until it is answered. None when the other side has answered.
    pub fn challenge(
        &mut self,
        identity: &Identity,
        nonce: impl FnOnce() -> [u8; 32],
    ) -> Option<AuthChallenge> {
        let asked = self.asked.get_or_insert_with(|| Asked {
            nonce: nonce(),
            settled: None,
        });
        asked.settled.is_none().then_some(AuthChallenge {
            version: AuthChallenge::VERSION,
            nonce: asked.nonce,
            key: identity.public,
        })
    }

    /// Answers a challenge; asked the same again, it says the same again.
    ///
    /// # Errors
    ///
    /// [`AuthError::Version`], and [`AuthError::OwnKey`] for a challenge in our own name.
    pub fn answer(
        &mut self,
        identity: &Identity,
        connection: &Connection<'_>,
        challenge: &AuthChallenge,
        nonce: impl FnOnce() -> [u8; 32],
    ) -> Result<AuthResponse, AuthError> {
        if challenge.version != AuthChallenge::VERSION {
            return Err(AuthError::Version(challenge.version));
        }
        if challenge.key == identity.public {
            return Err(AuthError::OwnKey);
        }
        if let Some(answered) = &self.answered
            && answered.challenge == *challenge
        {
            return Ok(answered.response);
        }
        let nonce = nonce();
        let text = Text {
            swarm: connection.swarm,
            channels: [connection.theirs, connection.ours],
            keys: [challenge.key, identity.public],
            nonces: [challenge.nonce, nonce],
        };
        let response = AuthResponse {
            key: identity.public,
            nonce,
            signature: identity.sign(&text.write(TO_CHALLENGER)),
        };
        self.answered = Some(Answered {
            challenge: *challenge,
            response,
        });
        Ok(response)
    }

    /// Checks the answer to our challenge and gives the proof of our own key.
    ///
    /// # Errors
    ///
    /// Any [`AuthError`]; what was proven before stays.
    pub fn accept(
        &mut self,
        identity: &Identity,
        connection: &Connection<'_>,
        response: &AuthResponse,
    ) -> Result<AuthProof, AuthError> {
        if response.key == identity.public {
            return Err(AuthError::OwnKey);
        }
        let Some(asked) = &mut self.asked else {
            return Err(AuthError::Unexpected);
        };
        match &asked.settled {
            // The network delivered it twice, or our proof was lost.
            Some((settled, proof)) if settled == response => return Ok(*proof),
            Some(_) => return Err(AuthError::Unexpected),
            None => {}
        }
        if self.proven.is_some_and(|proven| proven != response.key) {
            return Err(AuthError::Unexpected);
        }
        let text = Text {
            swarm: connection.swarm,
            channels: [connection.ours, connection.theirs],
            keys: [identity.public, response.key],
            nonces: [asked.nonce, response.nonce],
        };
        verify(
            &response.key,
            &text.write(TO_CHALLENGER),
            &response.signature,
        )?;
        let proof = AuthProof {
            key: identity.public,
            signature: identity.sign(&text.write(TO_ANSWERER)),
        };
        asked.settled = Some((*response, proof));
        self.proven = Some(response.key);
        Ok(proof)
    }

    /// Checks the challenger's proof of the key that it asked in the name of.
    ///
    /// # Errors
    ///
    /// Any [`AuthError`]; what was proven before stays.
    pub fn confirm(
        &mut self,
        identity: &Identity,
        connection: &Connection<'_>,
        proof: &AuthProof,
    ) -> Result<PeerKey, AuthError> {
        if proof.key == identity.public {
            return Err(AuthError::OwnKey);
        }
        let Some(answered) = &self.answered else {
            return Err(AuthError::Unexpected);
        };
        let other = self.proven.is_some_and(|proven| proven != proof.key);
        if other || proof.key != answered.challenge.key {
            return Err(AuthError::Unexpected);
        }
        let text = Text {
            swarm: connection.swarm,
            channels: [connection.theirs, connection.ours],
            keys: [proof.key, identity.public],
            nonces: [answered.challenge.nonce, answered.response.nonce],
        };
        verify(&proof.key, &text.write(TO_ANSWERER), &proof.signature)?;
        self.proven = Some(proof.key);
        Ok(proof.key)
    }
}

/// What is signed; of each pair the challenger's comes first.
struct Text<'a> {
    swarm: &'a SwarmId,
    channels: [ChannelId; 2],
    keys: [PeerKey; 2],
    nonces: [[u8; 32]; 2],
}

impl Text<'_> {
    fn write(&self, direction: u8) -> Vec<u8> {
        let swarm = self.swarm.as_bytes();
        let mut text = Vec::with_capacity(160 + swarm.len());
        text.extend_from_slice(LABEL);
        text.push(direction);
        // Identifiers of swarms are not all of one length: the length keeps what follows apart.
        text.extend_from_slice(&(swarm.len() as u16).to_be_bytes());
        text.extend_from_slice(swarm);
        for channel in self.channels {
            text.extend_from_slice(&channel.to_bits().to_be_bytes());
        }
        for key in self.keys {
            text.extend_from_slice(key.as_bytes());
        }
        for nonce in self.nonces {
            text.extend_from_slice(&nonce);
        }
        text
    }
}

fn verify(key: &PeerKey, text: &[u8], signature: &[u8]) -> Result<(), AuthError> {
    let key = VerifyingKey::from_peer_key(key).map_err(|_| AuthError::BadKey)?;
    if key.verify(text, signature) {
        Ok(())
    } else {
        Err(AuthError::BadSignature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(seed: u8) -> Identity {
        Identity::new(SigningKey::from_seed_ed25519([seed; 32])).expect("an Ed25519 key")
    }

    fn swarm(seed: u8) -> SwarmId {
        SigningKey::from_seed_ed25519([seed; 32]).swarm_id()
    }

    /// A parent that asks, a child that answers, and the channel between them.
    struct Pair {
        swarm: SwarmId,
        parent: (Identity, Exchange, ChannelId),
        child: (Identity, Exchange, ChannelId),
    }

    impl Pair {
        fn new(channels: [u32; 2]) -> Self {
            let side = |seed, id| {
                (
                    identity(seed),
                    Exchange::default(),
                    ChannelId::from_bits(id),
                )
            };
            Self {
                swarm: swarm(1),
                parent: side(2, channels[0]),
                child: side(3, channels[1]),
            }
        }

        fn ask(&mut self, nonce: u8) -> AuthChallenge {
            let (identity, exchange, _) = &mut self.parent;
            let challenge = exchange.challenge(identity, || [nonce; 32]);
            challenge.expect("not answered yet")
        }

        fn answer(&mut self, challenge: &AuthChallenge, nonce: u8) -> AuthResponse {
            let (identity, exchange, ours) = &mut self.child;
            let connection = Connection {
                swarm: &self.swarm,
                ours: *ours,
                theirs: self.parent.2,
            };
            exchange
                .answer(identity, &connection, challenge, || [nonce; 32])
                .expect("a fair question")
        }

        fn accept(&mut self, response: &AuthResponse) -> Result<AuthProof, AuthError> {
            let (identity, exchange, ours) = &mut self.parent;
            let connection = Connection {
                swarm: &self.swarm,
                ours: *ours,
                theirs: self.child.2,
            };
            exchange.accept(identity, &connection, response)
        }

        fn confirm(&mut self, proof: &AuthProof) -> Result<PeerKey, AuthError> {
            let (identity, exchange, ours) = &mut self.child;
            let connection = Connection {
                swarm: &self.swarm,
                ours: *ours,
                theirs: self.parent.2,
            };
            exchange.confirm(identity, &connection, proof)
        }
    }

    #[test]
    fn both_sides_prove_their_keys() {
        let mut pair = Pair::new([10, 20]);
        let challenge = pair.ask(1);
        assert_eq!(pair.ask(9), challenge, "asked again it asks the same");
        let response = pair.answer(&challenge, 2);
        assert_eq!(pair.answer(&challenge, 9), response, "and is told the same");
        assert_eq!(
            pair.parent.1.proven(),
            None,
            "nothing is proven by asking and answering"
        );
        assert_eq!(pair.child.1.proven(), None);
        let proof = pair.accept(&response).expect("it holds");
        assert_eq!(pair.parent.1.proven(), Some(pair.child.0.key()));
        assert_eq!(pair.accept(&response), Ok(proof), "delivered twice");
        assert_eq!(pair.confirm(&proof), Ok(pair.parent.0.key()));
        assert_eq!(pair.child.1.proven(), Some(pair.parent.0.key()));
        let (identity, exchange, _) = &mut pair.parent;
        assert_eq!(exchange.challenge(identity, || [5; 32]), None);
    }

    #[test]
    fn t_trib_4_wrong_keys_replays_mirrors_and_our_own_key_are_refused() {
        // Signed by another key than it names.
        let mut pair = Pair::new([10, 20]);
        let challenge = pair.ask(1);
        let mut response = pair.answer(&challenge, 2);
        response.key = identity(4).key();
        assert_eq!(pair.accept(&response), Err(AuthError::BadSignature));

        // Replayed: to another challenge, on another channel, in another swarm.
        let mut before = Pair::new([10, 20]);
        let challenge = before.ask(1);
        let old = before.answer(&challenge, 2);
        let mut again = Pair::new([10, 20]);
        again.ask(7);
        assert_eq!(again.accept(&old), Err(AuthError::BadSignature));
        for channels in [[11, 20], [10, 21], [20, 10]] {
            let mut other = Pair::new(channels);
            other.ask(1);
            assert_eq!(
                other.accept(&old),
                Err(AuthError::BadSignature),
                "{channels:?}"
            );
        }
        let mut elsewhere = Pair::new([10, 20]);
        elsewhere.swarm = swarm(9);
        elsewhere.ask(1);
        assert_eq!(elsewhere.accept(&old), Err(AuthError::BadSignature));

        // Mirrored: the proof of one direction as the response of the other, and our own words back at us.
        let mut pair = Pair::new([10, 20]);
        let challenge = pair.ask(1);
        let response = pair.answer(&challenge, 2);
        let proof = pair.accept(&response).expect("it holds");
        let mut mirror = Pair::new([10, 20]);
        mirror.ask(1);
        let mirrored = AuthResponse {
            signature: proof.signature,
            ..response
        };
        assert_eq!(mirror.accept(&mirrored), Err(AuthError::BadSignature));
        let as_proof = AuthProof {
            key: pair.parent.0.key(),
            signature: response.signature,
        };
        assert_eq!(pair.confirm(&as_proof), Err(AuthError::BadSignature));

        // Our own key, in each of the three messages.
        let own = AuthResponse {
            key: pair.parent.0.key(),
            ..response
        };
        assert_eq!(pair.accept(&own), Err(AuthError::OwnKey));
        let (identity, exchange, ours) = &mut pair.child;
        let connection = Connection {
            swarm: &pair.swarm,
            ours: *ours,
            theirs: pair.parent.2,
        };
        let in_our_name = AuthChallenge {
            key: identity.key(),
            ..challenge
        };
        let refused = exchange.answer(identity, &connection, &in_our_name, || [0; 32]);
        assert_eq!(refused, Err(AuthError::OwnKey));
        let own = AuthProof {
            key: pair.child.0.key(),
            ..proof
        };
        assert_eq!(pair.confirm(&own), Err(AuthError::OwnKey));
    }

    #[test]
    fn what_nobody_asked_for_proves_nothing() {
        let mut pair = Pair::new([10, 20]);
        let mut other = Pair::new([10, 20]);
        let challenge = other.ask(1);
        let response = other.answer(&challenge, 2);
        let proof = other.accept(&response).expect("it holds");
        assert_eq!(pair.accept(&response), Err(AuthError::Unexpected));
        assert_eq!(pair.confirm(&proof), Err(AuthError::Unexpected));
        // Once settled, nobody else takes the place.
        let third = identity(5);
        let mut second = Pair::new([10, 20]);
        second.child.0 = third;
        let stranger = second.answer(&challenge, 3);
        assert_eq!(other.accept(&stranger), Err(AuthError::Unexpected));
        assert_eq!(other.parent.1.proven(), Some(other.child.0.key()));
        // Nor does a challenger prove another key than it asked with.
        let mut swapped = proof;
        swapped.key = PeerKey::from_bytes([8; 32]);
        assert_eq!(other.confirm(&swapped), Err(AuthError::Unexpected));
        let later = AuthChallenge {
            version: 2,
            ..challenge
        };
        let connection = Connection {
            swarm: &pair.swarm,
            ours: ChannelId::from_bits(20),
            theirs: ChannelId::from_bits(10),
        };
        let (identity, exchange, _) = &mut pair.child;
        let refused = exchange.answer(identity, &connection, &later, || [0; 32]);
        assert_eq!(refused, Err(AuthError::Version(2)));
    }

    #[test]
    fn every_flipped_bit_of_a_response_is_noticed() {
        let mut pair = Pair::new([10, 20]);
        let challenge = pair.ask(1);
        let response = pair.answer(&challenge, 2);
        for bit in 0..64 * 8 {
            let mut flipped = response;
            flipped.signature[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(pair.accept(&flipped), Err(AuthError::BadSignature));
        }
        for bit in 0..32 * 8 {
            let mut flipped = response;
            flipped.nonce[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(pair.accept(&flipped), Err(AuthError::BadSignature));
        }
        assert!(pair.accept(&response).is_ok());
    }
}
