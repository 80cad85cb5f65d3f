//! Faults of the network between two namespaces: for root, where ip and nft are installed.

use std::process::Command;

use crate::harness::{Place, assert_same, is_installed, left_out};
use crate::media::{SLICE_BYTES, slices};

/// Two namespaces joined by a wire; they go when the test is done.
#[derive(Debug)]
struct Wire {
    names: [String; 2],
}

/// Addresses of the two ends.
const ENDS: [&str; 2] = ["10.77.0.1", "10.77.0.2"];

impl Drop for Wire {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

impl Wire {
    /// Joins two new namespaces; or says what is missing for it.
    fn new(test: &str) -> Result<Self, String> {
        if let Some(tool) = ["ip", "nft"].into_iter().find(|tool| !is_installed(tool)) {
            return Err(tool.to_owned());
        }
        let id = std::process::id();
        let wire = Self {
            names: [format!("p2ps-{test}-{id}-a"), format!("p2ps-{test}-{id}-b")],
        };
        for name in &wire.names {
            let made = Command::new("ip").args(["netns", "add", name]).output();
            let made = made.map_err(|error| format!("ip ({error})"))?;
            if !made.status.success() {
                let why = String::from_utf8_lossy(&made.stderr);
                return Err(format!("network namespaces ({})", why.trim()));
            }
        }
        let [a, b] = &wire.names;
        ip(&format!(
            "link add wire netns {a} type veth peer name wire netns {b}"
        ));
        for (name, end) in wire.names.iter().zip(ENDS) {
            ip(&format!("-n {name} addr add {end}/24 dev wire"));
            // Trains of datagrams would pass the rules, and be lost, as one.
            ip(&format!("-n {name} link set wire gso_max_segs 1"));
            ip(&format!("-n {name} link set lo up"));
            ip(&format!("-n {name} link set wire up"));
        }
        Ok(wire)
    }

    /// Loses so many of a hundred datagrams, at random, in both directions.
    fn lose(&self, percent: u32) {
        for name in &self.names {
            let rules = format!(
                "add table ip faults; \
                 add chain ip faults input {{ type filter hook input priority 0; }}; \
                 add rule ip faults input ip protocol udp numgen random mod 100 < {percent} drop"
            );
            let set = Command::new("ip")
                .args(["netns", "exec", name, "nft", &rules])
                .status();
            assert!(set.is_ok_and(|status| status.success()), "nft {rules}");
        }
    }
}

fn ip(args: &str) {
    let done = Command::new("ip").args(args.split(' ')).status();
    assert!(done.is_ok_and(|status| status.success()), "ip {args}");
}

/// Streams eight seconds over a wire that loses so many of a hundred datagrams each way, to a peer that plays two
/// seconds late: every byte of the source comes out, from the first to the last, and nothing stalls.
fn random_loss_is_repaired(test: &str, percent: u32) {
    let wire = match Wire::new(test) {
        Ok(wire) => wire,
        Err(why) => {
            left_out(test, &why);
            return;
        }
    };
    wire.lose(percent);
    let [here, there] = &wire.names;
    let place = Place::new();
    let state = place.arg("state");
    let mut source = place
        .within(here, "p2ps-source", "source", &format!("{}:0", ENDS[0]))
        .args(["--channel", "film", "--state-dir", &state])
        .start();
    let channel = source.channel();
    let mut peer = place
        .within(there, "p2ps-peer", "peer", &format!("{}:0", ENDS[1]))
        .args(["--from", "oldest", "--latency", "2s", &channel])
        .start()
        .attached();
    let media = slices(0, 80);
    source.feed(media.chunks(SLICE_BYTES));
    // The source leaves once the end is out, and what was lost last is repaired.
    source.end_input();
    source.done();
    let end = peer.done();
    assert_same("peer", &peer.media(), &media);
    assert_eq!(end["continuity_ratio"], 1.0, "{end}");
    assert_eq!(end["stalls_total"], 0, "{end}");
    assert!(end["lost_packets_total"].as_u64() > Some(0), "{end}");
}

#[test]
fn f01_random_loss_of_1_percent_is_repaired() {
    random_loss_is_repaired("f01-1", 1);
}

#[test]
fn f01_random_loss_of_5_percent_is_repaired() {
    random_loss_is_repaired("f01-5", 5);
}

#[test]
fn f01_random_loss_of_10_percent_is_repaired() {
    random_loss_is_repaired("f01-10", 10);
}
