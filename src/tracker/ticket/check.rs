//! Entry point for fuzzing and property tests: no bytes but those that a tracker signed are a ticket.

use super::{Claims, Demand, Holder, Revocations, Roles, Ticket};
use crate::ids::PeerKey;
use crate::integrity::key::SigningKey;

/// Reads bytes as a ticket, and as changes to a genuine one: each pair of bytes flips bits somewhere, and the first one
/// says where to cut.
///
/// # Panics
///
/// When anything is honoured that the tracker did not sign.
pub fn ticket(bytes: &[u8]) {
    let issuer = SigningKey::from_seed_ed25519([5; 32]);
    let claims = Claims {
        swarm_id: Some(SigningKey::from_seed_ed25519([6; 32]).swarm_id()),
        roles: Roles::WATCH,
        holder: Holder::Peer,
        not_before: 1_795_262_400,
        not_after: 1_795_263_000,
        nonce: [7; 16],
        key: PeerKey::from_bytes([8; 32]),
        user: "anna".to_owned(),
    };
    let genuine = claims.sign(&issuer).expect("claims that fit");
    let issuers: Vec<PeerKey> = issuer.peer_key().into_iter().collect();
    let demand = Demand {
        swarm_id: claims.swarm_id.as_ref(),
        key: &claims.key,
        roles: Roles::WATCH,
        now_s: claims.not_before,
    };
    let judge = |bytes: &[u8]| {
        let _ = Claims::read(bytes);
        let opened = Ticket::open(bytes, &issuers);
        assert_eq!(opened.is_ok(), bytes == genuine, "only the genuine one");
        if let Ok(ticket) = opened {
            assert_eq!(ticket.claims(), &claims);
            assert_eq!(ticket.admits(&demand, &Revocations::default()), Ok(()));
        }
    };
    judge(bytes);
    let Some((&cut, changes)) = bytes.split_first() else {
        return judge(&genuine);
    };
    let mut changed = genuine.to_vec();
    for change in changes.chunks_exact(2) {
        if let [at, bits] = *change {
            let at = usize::from(at) % changed.len();
            if let Some(byte) = changed.get_mut(at) {
                *byte ^= bits;
            }
        }
    }
    changed.truncate(changed.len() - usize::from(cut) % changed.len());
    judge(&changed);
    // A field written anew by whoever reads: what is read is all that was signed.
    if let Ok(read) = Claims::read(&changed) {
        let again = read.sign(&issuer);
        assert_eq!(
            again.as_ref() == Some(&genuine),
            read == claims,
            "what is signed is what is read"
        );
    }
}
