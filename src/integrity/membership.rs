//! Membership certificates: a tracker's word that somebody at an address was in a swarm at a time, to be passed on by
//! others (RFC 7574 §3.10, §8.13, §12.2.1).
//!
//! An X.509 certificate whose only name is a critical URI, `file://HOST:PORT/SWARM`; the host is an address, never a
//! name. X.509 itself is `rcgen`'s and `webpki`'s.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, Issuer, PKCS_ED25519, PublicKeyData, SanType,
    SerialNumber, SignatureAlgorithm, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, Der, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, Error, KeyUsage};

use super::hash::digest;
use super::key::SigningKey;
use crate::ids::{PeerKey, SwarmId};
use crate::wire::option::HashFunction;

/// Longest certificate looked at.
pub const CERTIFICATE_BYTES_MAX: usize = 1024;
/// How long one holds: through a pause of the tracker, which is when it is needed.
pub const LIFE: Duration = Duration::from_secs(300);
/// By how much the clock of a tracker may be ahead of that of whoever checks.
const SKEW: Duration = Duration::from_secs(60);
/// Trackers whose word is tried.
const ISSUERS_MAX: usize = 8;
/// What a public key looks like in a certificate: the algorithm Ed25519, and a bit string of 32 bytes (RFC 8410).
const KEY_HEAD: [u8; 10] = [0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 33, 0];

/// Why a certificate is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MembershipError {
    /// No certificate of this kind.
    #[error("certificate is damaged")]
    Damaged,
    /// Signed by no tracker that we know.
    #[error("certificate is from another tracker")]
    Issuer,
    /// Does not hold yet.
    #[error("certificate is not valid yet")]
    Early,
    /// Held until some time ago.
    #[error("certificate expired")]
    Expired,
    /// Is about another swarm.
    #[error("certificate is for another swarm")]
    Swarm,
}

/// A key as certificates are made with it.
struct Named<'a> {
    public: PeerKey,
    signer: Option<&'a SigningKey>,
}

impl PublicKeyData for Named<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.public.as_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ED25519
    }
}

impl rcgen::SigningKey for Named<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signer = self.signer.ok_or(rcgen::Error::RemoteKeyError)?;
        Ok(signer.sign(message).to_vec())
    }
}

fn uri(addr: SocketAddr, swarm_id: &SwarmId) -> String {
    let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port());
    format!("file://{addr}/{swarm_id}")
}

/// Certifies that the holder of `subject` was in a swarm at `addr` at `from_s`, Unix seconds. None when the tracker's key
/// is not Ed25519.
pub fn issue(
    issuer: &SigningKey,
    subject: Option<PeerKey>,
    addr: SocketAddr,
    swarm_id: &SwarmId,
    from_s: u64,
) -> Option<Bytes> {
    let public = issuer.peer_key()?;
    let uri = uri(addr, swarm_id);
    let at = |seconds: u64| date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
    let mut params = CertificateParams::default();
    // Without a subject its other name is critical, as RFC 7574 §8.13 wants it.
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into().ok()?)];
    // Later than the year 9999 nothing can be certified.
    let latest = 253_402_300_799 - LIFE.as_secs();
    params.not_before = at(from_s.min(latest));
    params.not_after = at(from_s.min(latest) + LIFE.as_secs());
    let serial = digest(HashFunction::Sha256, format!("{uri} {from_s}").as_bytes());
    let serial = serial.as_bytes().get(..16).unwrap_or_default();
    params.serial_number = Some(SerialNumber::from_slice(serial));
    let mut name = CertificateParams::default();
    name.distinguished_name = DistinguishedName::new();
    name.distinguished_name
        .push(DnType::CommonName, "p2ps tracker");
    let tracker = Named {
        public,
        signer: Some(issuer),
    };
    let subject = Named {
        // Whoever has no key is certified all the same: what counts is where it is.
        public: subject.unwrap_or(public),
        signer: None,
    };
    let made = params
        .signed_by(&subject, &Issuer::new(name, tracker))
        .ok()?;
    Some(Bytes::copy_from_slice(made.der()))
}

/// The address at which one of the `issuers` says that a member of the swarm is.
///
/// # Errors
///
/// The first reason not to believe it.
pub fn check(
    certificate: &[u8],
    issuers: &[PeerKey],
    swarm_id: &SwarmId,
    now_s: u64,
) -> Result<SocketAddr, MembershipError> {
    if certificate.len() > CERTIFICATE_BYTES_MAX {
        return Err(MembershipError::Damaged);
    }
    let der = CertificateDer::from(certificate);
    let certificate = EndEntityCert::try_from(&der).map_err(|_| MembershipError::Damaged)?;
    let mut names = certificate.valid_uri_names();
    let (Some(name), None) = (names.next(), names.next()) else {
        return Err(MembershipError::Damaged);
    };
    let (addr, swarm) = name
        .strip_prefix("file://")
        .and_then(|rest| rest.split_once('/'))
        .ok_or(MembershipError::Damaged)?;
    let addr: SocketAddr = addr.parse().map_err(|_| MembershipError::Damaged)?;
    // RFC 7574 §8.13 does not say in which case the digits are.
    if !swarm.eq_ignore_ascii_case(&swarm_id.to_string()) {
        return Err(MembershipError::Swarm);
    }
    let verdict = verify(&certificate, issuers, now_s);
    let verdict = match verdict {
        Err(MembershipError::Early) => {
            verify(&certificate, issuers, now_s.saturating_add(SKEW.as_secs()))
        }
        verdict => verdict,
    };
    verdict.map(|()| addr)
}

fn verify(
    certificate: &EndEntityCert<'_>,
    issuers: &[PeerKey],
    now_s: u64,
) -> Result<(), MembershipError> {
    let keys: Vec<[u8; KEY_HEAD.len() + 32]> = issuers
        .iter()
        .take(ISSUERS_MAX)
        .map(|key| {
            let mut whole = [0; KEY_HEAD.len() + 32];
            let (head, rest) = whole.split_at_mut(KEY_HEAD.len());
            head.copy_from_slice(&KEY_HEAD);
            rest.copy_from_slice(key.as_bytes());
            whole
        })
        .collect();
    // Trackers have no names that mean anything: whichever key signed it.
    let anchors: Vec<TrustAnchor<'_>> = keys
        .iter()
        .map(|key| TrustAnchor {
            subject: Der::from_slice(certificate.issuer()),
            subject_public_key_info: Der::from_slice(key),
            name_constraints: None,
        })
        .collect();
    let verdict = certificate.verify_for_usage(
        &[webpki::aws_lc_rs::ED25519],
        &anchors,
        &[],
        UnixTime::since_unix_epoch(Duration::from_secs(now_s)),
        KeyUsage::client_auth(),
        None,
        None,
    );
    match verdict {
        Ok(_) => Ok(()),
        Err(Error::CertExpired { .. }) => Err(MembershipError::Expired),
        Err(Error::CertNotValidYet { .. }) => Err(MembershipError::Early),
        Err(Error::UnknownIssuer | Error::InvalidSignatureForPublicKey) => {
            Err(MembershipError::Issuer)
        }
        Err(_) => Err(MembershipError::Damaged),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::decode_hex;

    const NOW: u64 = 1_795_262_400;

    fn key(number: u8) -> SigningKey {
        SigningKey::from_seed_ed25519([number; 32])
    }

    fn public(number: u8) -> PeerKey {
        key(number).peer_key().expect("Ed25519")
    }

    fn swarm() -> SwarmId {
        key(7).swarm_id()
    }

    fn addr(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn issued(at: &str) -> Bytes {
        issue(&key(5), Some(public(8)), addr(at), &swarm(), NOW).expect("an Ed25519 key")
    }

    #[test]
    fn pp_req_4_a_tracker_says_who_is_where() {
        for at in ["192.0.2.0:6778", "[2001:db8::1]:7850", "10.0.0.1:1"] {
            let certificate = issued(at);
            assert!(certificate.len() < 450, "{} bytes", certificate.len());
            for now_s in [NOW - 60, NOW, NOW + 300] {
                let found = check(&certificate, &[public(4), public(5)], &swarm(), now_s);
                assert_eq!(found, Ok(addr(at)), "{now_s}");
            }
            let name = format!("file://{at}/{}", swarm());
            // A critical name (RFC 7574 §8.13): its extension, TRUE, and in it a URI.
            let mut wanted = vec![6, 3, 0x55, 0x1d, 0x11, 1, 1, 0xff, 4];
            let length = u8::try_from(name.len()).expect("short");
            wanted.extend([length + 4, 0x30, length + 2, 0x86, length]);
            wanted.extend(name.as_bytes());
            assert!(
                certificate
                    .windows(wanted.len())
                    .any(|bytes| bytes == wanted)
            );
        }
        let mapped = issued("[::ffff:192.0.2.1]:7850");
        assert_eq!(
            check(&mapped, &[public(5)], &swarm(), NOW),
            Ok(addr("192.0.2.1:7850"))
        );
    }

    #[test]
    fn the_golden_certificate_is_made_and_read() {
        let golden = include_str!("../../tests/golden/membership.hex").trim();
        let golden = decode_hex(golden).expect("hexadecimal");
        assert_eq!(
            issued("192.0.2.0:6778"),
            golden,
            "{:02x}",
            issued("192.0.2.0:6778")
        );
        let found = check(&golden, &[public(5)], &swarm(), NOW);
        assert_eq!(found, Ok(addr("192.0.2.0:6778")));
    }

    #[test]
    fn what_is_no_word_of_our_tracker_is_not_believed() {
        let certificate = issued("192.0.2.0:6778");
        let judge = |issuer: u8, swarm: &SwarmId, now_s| {
            check(&certificate, &[public(issuer)], swarm, now_s)
        };
        assert_eq!(judge(6, &swarm(), NOW), Err(MembershipError::Issuer));
        assert_eq!(
            judge(5, &key(9).swarm_id(), NOW),
            Err(MembershipError::Swarm)
        );
        assert_eq!(judge(5, &swarm(), NOW + 301), Err(MembershipError::Expired));
        assert_eq!(judge(5, &swarm(), NOW - 61), Err(MembershipError::Early));
        assert_eq!(
            check(&certificate, &[], &swarm(), NOW),
            Err(MembershipError::Issuer)
        );
        for length in 0..certificate.len() {
            let cut = certificate.slice(..length);
            assert_eq!(
                check(&cut, &[public(5)], &swarm(), NOW),
                Err(MembershipError::Damaged)
            );
        }
        for bit in 0..certificate.len() * 8 {
            let mut changed = certificate.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(
                check(&changed, &[public(5)], &swarm(), NOW).is_err(),
                "bit {bit}"
            );
        }
        let long = vec![0x30; CERTIFICATE_BYTES_MAX + 1];
        assert_eq!(
            check(&long, &[public(5)], &swarm(), NOW),
            Err(MembershipError::Damaged)
        );
    }

    #[test]
    fn other_names_than_an_address_are_refused() {
        for name in [
            "http://192.0.2.1:7850/".to_owned(),
            format!("file://host.example:7850/{}", swarm()),
            format!("file://192.0.2.1/{}", swarm()),
            "file://192.0.2.1:7850".to_owned(),
        ] {
            let mut params = CertificateParams::default();
            params.subject_alt_names = vec![SanType::URI(name.as_str().try_into().expect("ASCII"))];
            params.serial_number = Some(SerialNumber::from(1));
            let signer = key(5);
            let named = Named {
                public: public(5),
                signer: Some(&signer),
            };
            let made = params.self_signed(&named).expect("it can be made");
            let found = check(made.der(), &[public(5)], &swarm(), NOW);
            assert_eq!(found, Err(MembershipError::Damaged), "{name}");
        }
    }
}
