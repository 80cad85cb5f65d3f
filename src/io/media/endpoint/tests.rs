//! Every form and every mistake.

use super::*;

fn error(text: &str) -> String {
    match text.parse::<Endpoint>() {
        Ok(endpoint) => panic!("{text} was read as {endpoint}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn every_form_is_read_and_printed_back() {
    for (text, printed) in [
        ("-", "-"),
        ("fd:3", "fd:3"),
        ("film.ts", "film.ts"),
        ("./-", "./-"),
        ("file:-", "file:-"),
        ("file:fd:3", "file:fd:3"),
        ("file:film.ts", "film.ts"),
        ("file:///tmp/film.ts", "/tmp/film.ts"),
        ("a:b?c.ts", "a:b?c.ts"),
        ("unix:/run/in.sock", "unix:/run/in.sock"),
        ("udp://127.0.0.1:5000", "udp://127.0.0.1:5000"),
        ("UDP://@239.1.1.1:5000/", "udp://239.1.1.1:5000"),
        ("udp://:5000", "udp://:5000"),
        ("udp://@:5000", "udp://:5000"),
        ("rtp://[ff15::1]:5004?", "rtp://[ff15::1]:5004"),
        (
            "rtp://media-1.example.org:5004",
            "rtp://media-1.example.org:5004",
        ),
        (
            "udp://192.0.2.7@232.1.1.1:5000",
            "udp://232.1.1.1:5000?source=192.0.2.7",
        ),
        ("http://", "http://127.0.0.1/"),
        ("http://:8080/", "http://:8080/"),
        ("http://[::1]:0", "http://[::1]:0/"),
        ("http://*", "http://*/"),
    ] {
        let endpoint: Endpoint = text
            .parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(endpoint.to_string(), printed);
        assert_eq!(printed.parse(), Ok(endpoint), "{printed}");
    }
}

#[test]
fn every_parameter_and_alias_is_understood() {
    for (query, printed) in [
        ("pkt_size=1128", "pkt_size=1128"),
        ("ttl=16", "ttl=16"),
        ("tos=0xb8", "iptos=184"),
        ("iptos=184", "iptos=184"),
        ("interface=eth0", "iface=eth0"),
        ("miface=eth0", "iface=eth0"),
        ("localaddr=192.0.2.1", "iface=192.0.2.1"),
        ("adapter=lo", "iface=lo"),
        ("sources=192.0.2.1,192.0.2.2", "source=192.0.2.1,192.0.2.2"),
        ("rcvbufsz=64KiB", "rcvbuf=65536"),
        ("rcvbuf=1MiB", "rcvbuf=1048576"),
        ("sndbuf=4096", "sndbuf=4096"),
        ("buffer_size=4096", "rcvbuf=4096&sndbuf=4096"),
        ("mcloop=off", "mcloop=0"),
        ("buffer=50ms", "latency=50ms"),
        ("latency=1s", "latency=1s"),
        ("timeout=1500ms", "timeout=1500ms"),
        ("bandwidth=8Mbit", "maxbw=8Mbit"),
        ("maxbw=2500kbit&ttl=1&ttl=2", "ttl=2&maxbw=2500kbit"),
    ] {
        let text = format!("udp://239.1.1.1:5000?{query}");
        let endpoint: Endpoint = text
            .parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(
            endpoint.to_string(),
            format!("udp://239.1.1.1:5000?{printed}")
        );
    }
}

#[test]
fn mistakes_are_named() {
    let long = format!("srt{}://x", "t".repeat(200));
    for (text, why) in [
        (
            "",
            "need -, fd:N, a path, udp://, rtp://, unix:PATH or http://",
        ),
        (
            "srt://x:1",
            "unknown scheme \"srt\": need -, fd:N, a path, udp://, rtp://, unix:PATH or http://",
        ),
        ("fd:x", "bad descriptor \"x\": not a number"),
        ("fd:+1", "bad descriptor \"+1\": not a number"),
        ("fd:-1", "bad descriptor \"-1\": not a number"),
        ("unix:", "path missing"),
        ("udp://127.0.0.1", "port missing"),
        ("udp://127.0.0.1:", "port missing"),
        ("udp://127.0.0.1:99999", "port above 65535"),
        ("udp://127.0.0.1:x", "bad port \"x\": not a number"),
        ("udp://::1:5000", "put IPv6 addresses in brackets"),
        ("udp://1.2.3:5000", "bad host \"1.2.3:5000\""),
        ("udp://a b:5000", "bad host \"a b:5000\""),
        (
            "http://127.0.0.1:80/live",
            "bad path \"/live\": only / is served",
        ),
        ("http://127.0.0.1:80/?ttl=1", "unknown parameter \"ttl\""),
        (
            "udp://:1?pktsize=1",
            "unknown parameter \"pktsize\": did you mean pkt_size?",
        ),
        ("udp://:1?colour=red", "unknown parameter \"colour\""),
        (
            "udp://:1?timeout=5",
            "bad timeout \"5\": unit missing, for example 250ms",
        ),
        (
            "udp://:1?maxbw=8",
            "bad maxbw \"8\": unit missing, for example 8Mbit",
        ),
        (
            "udp://:1?latency=soon",
            "bad latency \"soon\": not a number, for example 250ms",
        ),
        (
            "udp://:1?maxbw=8MB",
            "bad maxbw \"8MB\": unknown unit \"MB\", for example 8Mbit",
        ),
        (
            "udp://:1?rcvbuf=1.5",
            "bad rcvbuf \"1.5\": unit missing, for example 64KiB",
        ),
        ("udp://:1?ttl=256", "bad ttl \"256\": need 0 to 255"),
        ("udp://:1?ttl", "bad ttl \"\": need 0 to 255"),
        (
            "udp://:1?pkt_size=9000",
            "bad pkt_size \"9000\": need 188 to 1500 bytes",
        ),
        ("udp://:1?mcloop=2", "bad mcloop \"2\": need 0 or 1"),
        ("udp://:1?source=x", "bad source \"x\": need addresses"),
        (
            "udp://:1?latency=1h",
            "bad latency \"1h\": must be 0s to 10s",
        ),
    ] {
        assert_eq!(error(text), why, "{text}");
    }
    assert!(error(&long).len() < 200);
}

proptest::proptest! {
    #[test]
    fn whatever_is_read_prints_back(text in "(udp|rtp|http|file|unix|fd)?:?/{0,2}[-@a-z0-9.:\\[\\]/?=&]{0,30}") {
        if let Ok(endpoint) = text.parse::<Endpoint>() {
            proptest::prop_assert_eq!(endpoint.to_string().parse(), Ok(endpoint));
        }
    }
}
