//! What RFC 6972 asks of a swarm as a whole.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use p2ps::sim::honest::Honest;
use p2ps::sim::{Boot, Facts, Machine, Output, Port, Saved, Send, Shape, World};
use p2ps::time::Instant;

/// What all nodes of a world sent: bytes in datagrams, and bytes of media in them.
#[derive(Debug, Default)]
struct Sent {
    all: Cell<u64>,
    media: Cell<u64>,
}

/// A node that tells at its end what it sent.
struct Counted {
    node: Honest,
    now: Cell<Instant>,
    sent: Rc<Sent>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let counters = self.node.node().counters(self.now.get(), 0);
        let Sent { all, media } = &*self.sent;
        all.set(all.get() + counters.sent_bytes);
        media.set(media.get() + counters.sent_media_bytes);
    }
}

impl Machine for Counted {
    fn handle_datagrams(
        &mut self,
        now: Instant,
        arrived: Instant,
        port: Port,
        from: SocketAddr,
        train: Bytes,
        stride: usize,
    ) {
        self.now.set(now);
        self.node
            .handle_datagrams(now, arrived, port, from, train, stride);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.now.set(now);
        self.node.handle_timeout(now);
    }

    fn push_media(&mut self, now: Instant, data: &[u8]) {
        self.node.push_media(now, data);
    }

    fn end_media(&mut self, now: Instant) {
        self.node.end_media(now);
    }

    fn poll_transmit(&mut self, now: Instant, send: &mut Send<'_>) {
        self.node.poll_transmit(now, send);
    }

    fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        self.node.poll_timeout(now)
    }

    fn drain_output(&mut self, out: &mut Vec<Output>) {
        self.node.drain_output(out);
    }

    fn facts(&self, now: Instant, facts: &mut Facts) {
        self.node.facts(now, facts);
    }

    fn describe(&self, now: Instant) -> String {
        self.node.describe(now)
    }

    fn saved(&self, now: Instant) -> Saved {
        self.node.saved(now)
    }
}

/// Bytes of control for a thousand bytes of media that 50 peers and 4 relays send each other at 1 Mbit/s with the timers
/// that the tools have, when the encoder writes so often: headers, hashes, signatures, STATUS, acknowledgements.
fn control_permille(push_ms: u64) -> u64 {
    let mut scenario = Shape::new(6972)
        .relays(4)
        .peers(50)
        .liars(0)
        .source(1_000, Duration::from_millis(push_ms))
        .duration(Duration::from_secs(10))
        .quiet()
        .draw();
    scenario.end_ms = 0;
    let sent = Rc::new(Sent::default());
    let cast = {
        let sent = Rc::clone(&sent);
        move |boot: &Boot<'_>| -> Box<dyn Machine> {
            Box::new(Counted {
                node: Honest::new(boot),
                now: Cell::new(boot.now),
                sent: Rc::clone(&sent),
            })
        }
    };
    let outcome = World::new(scenario, cast)
        .run()
        .unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(outcome.players.len(), 50);
    for player in &outcome.players {
        assert!(player.missing == 0 && player.bytes > 250_000, "{player:?}");
    }
    let (all, media) = (sent.all.get(), sent.media.get());
    let played: u64 = outcome.players.iter().map(|player| player.bytes).sum();
    assert!(media >= played, "{media} sent, {played} played");
    (all - media) * 1000 / media
}

/// The better part of control is munros: a signature, and a hash for each chunk. So a munro of few chunks stays open for
/// longer, however often the encoder writes.
#[test]
fn t_req_3_control_is_less_than_a_tenth_of_media() {
    for push_ms in [20, 40, 100] {
        let permille = control_permille(push_ms);
        assert!(
            permille < 100,
            "{permille} of 1000 where the encoder writes every {push_ms} ms"
        );
    }
}

/// Source and peers that speak nothing but RFC 7574 to each other: the stream is complete at each.
#[test]
fn t_req_2_plain_peers_complete_a_swarm() {
    let mut scenario = Shape::new(7574).relays(0).peers(2).liars(0).quiet().draw();
    scenario.end_ms = 14_000;
    let cast = |boot: &Boot<'_>| -> Box<dyn Machine> {
        Box::new(Honest::configured(boot, |config| config.extensions = false))
    };
    let outcome = World::new(scenario, cast)
        .run()
        .unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(outcome.players.len(), 2);
    for player in &outcome.players {
        assert!(player.missing == 0 && player.gaps.is_empty(), "{player:?}");
        assert!(player.bytes > 100_000 && player.ended, "{player:?}");
    }
}
