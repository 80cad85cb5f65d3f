//! A tracker behind TLS: a swarm over it, certificates that are wrong, and a change of certificate.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::harness::{Place, Running, assert_same};
use crate::media::{SLICE_BYTES, slices};

/// An authority, with its certificate in a file.
pub(crate) struct Authority(Issuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new(file: &Path) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate");
        fs::write(file, certificate.pem()).expect("written");
        Self(Issuer::new(params, key))
    }

    /// Writes certificate and key of a host.
    pub(crate) fn sign(&self, host: &str, certificate_file: &Path, key_file: &Path) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![host.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        fs::write(certificate_file, certificate.pem()).expect("written");
        fs::write(key_file, key.serialize_pem()).expect("written");
        fs::set_permissions(key_file, Permissions::from_mode(0o600)).expect("its owner's only");
    }
}

/// A tracker with the certificate and key in `cert` and `key`.
fn tracker(place: &Place) -> Running {
    place
        .program("p2ps-tracker", "tracker")
        .args(["--tls-cert", "cert", "--tls-key", "key"])
        .start()
}

fn url(tracker: &Running) -> String {
    format!("https://{}/", tracker.address())
}

#[test]
fn a_swarm_over_https() {
    let place = Place::new();
    let authority = Authority::new(&place.path("ca"));
    authority.sign("127.0.0.1", &place.path("cert"), &place.path("key"));
    let mut tracker = tracker(&place);
    let https = url(&tracker);
    let mut source = place
        .source("source")
        .args(["--tracker", &https, "--tls-ca", "ca"])
        .start();
    let media = slices(0, 12);
    source.feed(media.chunks(SLICE_BYTES).take(4));
    let mut peer = place
        .program("p2ps-peer", "peer")
        .args(["--from", "oldest", "--channel", "film"])
        .args(["--tracker", &https, "--tls-ca", "ca"])
        .start()
        .attached();
    source.feed(media.chunks(SLICE_BYTES).skip(4));
    source.end_input();
    peer.done();
    source.done();
    assert_same("peer", &peer.media(), &media);
    tracker.signal("TERM");
    let end = tracker.done();
    assert_eq!(end["joins_total"], 2);
}

/// A peer that looks for a channel and gives up; what it said last.
fn refused(place: &Place, https: &str, authority: &str) -> String {
    let mut peer = place
        .program("p2ps-peer", "peer")
        .args(["--channel", "film", "--timeout", "1s"])
        .args(["--tracker", https, "--tls-ca", authority])
        .start();
    assert_eq!(peer.exit(), Some(4));
    peer.lines().pop().unwrap_or_default()
}

#[test]
fn certificates_that_are_wrong_are_one_line() {
    let place = Place::new();
    Authority::new(&place.path("other"));
    let authority = Authority::new(&place.path("ca"));
    authority.sign("127.0.0.1", &place.path("cert"), &place.path("key"));
    let running = tracker(&place);
    let https = url(&running);
    let line = |running: &Running, why: &str| {
        let at = running.address();
        format!("p2ps-peer: cannot reach any tracker: {at} (its certificate {why})")
    };
    assert_eq!(
        refused(&place, &https, "other"),
        line(&running, "is of an unknown authority: give --tls-ca")
    );
    drop(running);
    authority.sign("tracker.example", &place.path("cert"), &place.path("key"));
    let running = tracker(&place);
    let https = url(&running);
    assert_eq!(
        refused(&place, &https, "ca"),
        line(&running, "is for another name")
    );
}

#[test]
fn hup_reads_the_certificate_again_and_a_bad_one_keeps_the_old() {
    let place = Place::new();
    let (cert, key) = (place.path("cert"), place.path("key"));
    Authority::new(&place.path("old")).sign("127.0.0.1", &cert, &key);
    let tracker = tracker(&place);
    let https = url(&tracker);
    // Whoever trusts the authority comes as far as the question for the channel.
    let is_trusted = |authority: &str| {
        let mut peer = place
            .program("p2ps-peer", "peer")
            .args(["--channel", "film", "--timeout", "1s"])
            .args(["--tracker", &https, "--tls-ca", authority])
            .start();
        peer.exit() == Some(6)
    };
    assert!(is_trusted("old"));
    Authority::new(&place.path("new")).sign("127.0.0.1", &cert, &key);
    tracker.signal("HUP");
    tracker.line("a change", |line| {
        line.ends_with("certificate read again").then_some(())
    });
    assert!(is_trusted("new") && !is_trusted("old"));
    fs::write(&cert, "no certificate").expect("written");
    tracker.signal("HUP");
    let why = tracker.line("no change", |line| {
        Some(line.split_once("not changed: ")?.1.to_owned())
    });
    assert_eq!(why, "cannot use certificate \"cert\": no certificate in it");
    assert!(is_trusted("new"));
}
