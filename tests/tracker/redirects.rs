//! A tracker that wants its askers to ask somebody else, inside their own network (S-46).

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use super::*;

#[tokio::test]
async fn s_46_nobody_goes_where_a_tracker_sends_him() {
    let inside = TcpListener::bind("127.0.0.1:0").expect("loopback can be bound");
    inside.set_nonblocking(true).expect("it can be told");
    let port = inside.local_addr().expect("it is bound").port();
    for host in [
        "127.0.0.1",
        "localhost",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "[::]",
        "2130706433",
        "0x7f000001",
        "127.1",
    ] {
        for status in ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"] {
            let tracker = TcpListener::bind("127.0.0.1:0").expect("loopback can be bound");
            let url = format!("http://{}/", tracker.local_addr().expect("it is bound"));
            let answering = std::thread::spawn(move || {
                let (mut stream, _) = tracker.accept().expect("it is asked");
                let mut request = [0; 4096];
                let read = stream.read(&mut request).expect("a request");
                let answer = format!(
                    "HTTP/1.1 {status}\r\nlocation: http://{host}:{port}/admin\r\n\
                     content-length: 0\r\nconnection: close\r\n\r\n"
                );
                stream.write_all(answer.as_bytes()).expect("it reads");
                read
            });
            let answer = http::post(url, "{}".to_owned(), PATIENCE).await;
            assert!(answering.join().expect("no panic") > 0);
            let taken = answer.is_ok_and(|answer| answer.status == 200);
            assert!(!taken, "{status} to {host} is no answer");
            // Whoever follows has connected by the time that he gives an answer.
            let asked = inside.accept().map(|(_, from)| from);
            assert!(asked.is_err(), "{status} to {host}: {asked:?}");
        }
    }
}
