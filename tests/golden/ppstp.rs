//! Conversations of RFC 7846, request by request: the examples of the protocol reference, and the forms that the RFC's
//! own examples and its few users show beside the schema. `P2PS_BLESS=1` writes the responses anew.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use p2ps::rng::Seed;
use p2ps::time::Instant;
use p2ps::tracker::registry::{Config, Registry};
use serde_json::Value;

#[test]
fn rfc_7846_golden_pairs() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/ppstp.json");
    let text = fs::read_to_string(&path).expect("the pairs");
    let mut pairs: Vec<Value> = serde_json::from_str(&text).expect("JSON");
    let is_blessing = std::env::var_os("P2PS_BLESS").is_some();
    let mut registry = Registry::new(Config::default(), Seed::from_number(1));
    for pair in &mut pairs {
        let from: SocketAddr = pair["from"]
            .as_str()
            .and_then(|from| from.parse().ok())
            .expect("an address");
        let reply = registry.handle_body(
            Instant::from_micros(0),
            from,
            pair["request"].to_string().as_bytes(),
        );
        let response: Value = serde_json::from_str(&reply.body).expect("JSON");
        if is_blessing {
            pair["response"] = response;
        } else {
            assert_eq!(
                (reply.status, &response),
                (200, &pair["response"]),
                "{}",
                pair["what"]
            );
        }
    }
    if is_blessing {
        let text = serde_json::to_string_pretty(&pairs).expect("JSON");
        fs::write(path, text + "\n").expect("written");
    }
}
