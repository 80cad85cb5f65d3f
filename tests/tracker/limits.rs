//! What strangers may take of the tracker's connections: the same behind TLS, and with thousands of them.

use std::time::Duration;

use p2ps::io::http::server::{Identity, Options};
use rcgen::generate_simple_self_signed;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::{Tracker, read_to_end};

/// Somebody behind TLS.
fn identity() -> Identity {
    let made = generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let key = made.signing_key.serialize_pem();
    Identity::from_pem(made.cert.pem().as_bytes(), key.as_bytes()).expect("a pair")
}

/// The record header and the first bytes of a ClientHello that says it is 200 bytes long.
const HALF_A_HELLO: &[u8] = b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03";

#[tokio::test]
async fn s_40_handshakes_that_do_not_end_are_headers_that_do_not_come() {
    let options = Options {
        header_timeout: Duration::from_millis(40),
        ..Options::default()
    };
    let tracker = Tracker::with_identity(options, Some(identity())).await;
    for half in [&b""[..], HALF_A_HELLO] {
        // Not a word of plain HTTP, which would be none of TLS.
        assert_eq!(tracker.raw(half).await, "");
    }
    assert_eq!(tracker.stats().1.timeouts_total, 2);
    assert_eq!(tracker.stats().1.connections_total, 2);
}

#[tokio::test]
async fn s_40_connections_that_are_too_many_for_tls() {
    let options = Options {
        connections_per_address: 1,
        ..Options::default()
    };
    let tracker = Tracker::with_identity(options, Some(identity())).await;
    let mut first = TcpStream::connect(tracker.addr).await.expect("it listens");
    first.write_all(HALF_A_HELLO).await.expect("it reads");
    let mut second = TcpStream::connect(tracker.addr).await.expect("it listens");
    assert_eq!(read_to_end(&mut second).await, "");
    assert_eq!(tracker.stats().1.refused_total, 1);
}
