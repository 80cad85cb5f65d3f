//! S-50: what is secret is seen in no process list, environment, record, line or core file.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs;

use crate::harness::{Place, Running};
use crate::media::slices;
use crate::tls::Authority;

/// Parts of the text of a key that nothing else has.
fn parts(pem: &str) -> Vec<String> {
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    // The first bytes of every key of a kind are the same.
    let body: Vec<char> = body.chars().skip(24).collect();
    body.chunks(12)
        .filter(|part| part.len() == 12)
        .map(|part| part.iter().collect())
        .collect()
}

/// Everything that others may see of a program.
fn seen(program: &Running) -> String {
    let pid = program.event("start")["pid"].clone();
    let proc = |name: &str| {
        let bytes = fs::read(format!("/proc/{pid}/{name}")).expect("it runs");
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let limits = proc("limits");
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let soft = core.and_then(|line| line.split_whitespace().nth(4));
    assert_eq!(soft, Some("0"), "no core files");
    let mut seen = proc("cmdline") + &proc("environ");
    for record in program.records() {
        seen += &record.to_string();
    }
    seen + &program.lines().join("\n")
}

/// Lets programs that this test starts leave core files, where the machine allows any: that they do not is their own
/// doing then.
fn allow_core_files() {
    let limit = getrlimit(Resource::Core);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Core, raised).expect("up to the hard limit is allowed");
    if limit.maximum == Some(0) {
        eprintln!("core files are not looked at: the hard limit of this machine is 0");
    }
}

#[test]
fn s_50_secrets_are_seen_nowhere() {
    allow_core_files();
    let place = Place::new();
    Authority::new(&place.path("ca")).sign("127.0.0.1", &place.path("cert"), &place.path("key"));
    let tracker = place
        .program("p2ps-tracker", "tracker")
        .args(["--tls-cert", "cert", "--tls-key", "key", "-vv"])
        .start();
    let https = format!("https://{}/", tracker.address());
    let mut source = place
        .source("source")
        .args(["--tracker", &https, "--tls-ca", "ca", "-vv"])
        .start();
    let peer = place
        .program("p2ps-peer", "peer")
        .args(["--from", "oldest", "--channel", "film", "-vv"])
        .args(["--tracker", &https, "--tls-ca", "ca"])
        .start();
    source.feed([&slices(0, 1)[..]]);
    let peer = peer.attached();
    let secrets: Vec<String> = ["key", "state/film.key"]
        .iter()
        .flat_map(|name| parts(&fs::read_to_string(place.path(name)).expect("a key")))
        .collect();
    assert!(secrets.len() >= 4, "{} parts", secrets.len());
    for program in [&tracker, &source, &peer] {
        let seen = seen(program);
        assert!(seen.contains("--listen") && seen.len() > 1000);
        for secret in &secrets {
            assert!(!seen.contains(secret.as_str()), "{secret}");
        }
    }
}
