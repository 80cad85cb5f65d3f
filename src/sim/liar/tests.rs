//! What a liar of each kind sends.

use std::collections::BTreeSet;

use super::*;
use crate::chunk::ChunkRange;
use crate::sim::pair::{Pair, Pending};
use crate::sim::{NodeSpec, Role, Saved, Scenario, Shape};
use crate::wire::{Data, Digest, Munro};

/// A machine that does nothing: the tests speak for it.
struct Silent;

impl Machine for Silent {
    fn handle_datagrams(
        &mut self,
        _: Instant,
        _: Instant,
        _: Port,
        _: SocketAddr,
        _: Bytes,
        _: usize,
    ) {
    }
    fn handle_timeout(&mut self, _: Instant) {}
    fn poll_transmit(&mut self, _: Instant, _: &mut Send<'_>) {}
    fn poll_timeout(&self, _: Instant) -> Option<Instant> {
        None
    }
}

const THEIRS: ChannelId = ChannelId::from_bits(0x1234_5678);

fn swarm() -> SwarmId {
    let mut bytes = vec![15];
    bytes.extend_from_slice(&[7; 32]);
    SwarmId::new(bytes).expect("33 bytes are an identifier")
}

/// A liar as node 1, told of node 0 as its parent.
fn pair(kind: LiarKind) -> Pair {
    let mut scenario: Scenario = Shape::new(1).relays(0).peers(0).liars(1).draw();
    scenario.nodes[1] = NodeSpec {
        liar: Some(kind),
        role: Role::Liar,
        parents: vec![0],
        ..scenario.nodes[1].clone()
    };
    let now = Instant::from_micros(1_000_000);
    let liar = Liar::new(
        &Boot {
            id: NodeId(1),
            spec: &scenario.nodes[1],
            scenario: &scenario,
            now,
            epoch: Epoch::new(1_795_262_400_000_000),
            seed: crate::rng::Seed::from_number(4),
            incarnation: 0,
            parents: vec![NodeId(0).address(Port::Listen).into()],
            saved: Saved::default(),
        },
        swarm(),
        Format::LIVE,
    );
    Pair::new(now, Box::new(Silent), Box::new(liar))
}

fn messages(pending: &Pending) -> (ChannelId, Vec<Message>) {
    let (to, mut rest) = Datagram::open(pending.datagram.clone()).expect("a liar's datagram opens");
    let mut all = Vec::new();
    while let Some(Ok(message)) = rest.next(&Format::LIVE) {
        all.push(message);
    }
    (to, all)
}

fn datagram(to: ChannelId, messages: &[Message]) -> Bytes {
    let mut bytes = to.to_bits().to_be_bytes().to_vec();
    for message in messages {
        message.encode(&Format::LIVE, &mut bytes);
    }
    bytes.into()
}

fn take_all(pair: &mut Pair) -> Vec<Pending> {
    let mut all = Vec::new();
    while let Some(pending) = pair.take(0) {
        all.push(pending);
    }
    all
}

/// Opens the liar's channel to its parent, and one of a child to it; gives back the liar's ends of both.
fn opened(pair: &mut Pair) -> (ChannelId, ChannelId) {
    assert!(pair.advance(Duration::from_millis(30)));
    let openings = take_all(pair);
    let (to, first) = openings
        .iter()
        .filter(|pending| pending.to == NodeId(0).address(Port::Listen).into())
        .map(messages)
        .find(|(_, all)| matches!(all.first(), Some(Message::Handshake(_))))
        .expect("a liar speaks to its parent first");
    assert_eq!(to, ChannelId::NONE);
    let Some(Message::Handshake(opening)) = first.first() else {
        unreachable!("it was searched for");
    };
    assert_eq!(opening.swarm_id, Some(swarm()));
    let up = opening.source;
    let answer = Handshake {
        source: THEIRS,
        ..(**opening).clone()
    };
    let parent = NodeId(0).address(Port::Listen).into();
    let answer = datagram(up, &[Message::Handshake(Box::new(answer))]);
    pair.inject(1, Port::Dial, parent, answer);

    let child = NodeId(0).address(Port::Dial).into();
    let opening = Handshake {
        source: THEIRS,
        ..(**opening).clone()
    };
    let opening = datagram(ChannelId::NONE, &[Message::Handshake(Box::new(opening))]);
    pair.inject(1, Port::Listen, child, opening);
    let down = take_all(pair)
        .iter()
        .filter(|pending| pending.to == child)
        .flat_map(|pending| messages(pending).1)
        .find_map(|message| match message {
            Message::Handshake(answer) => Some(answer.source),
            _ => None,
        })
        .expect("a liar answers an opening");
    let wish = Message::Extension(Extension::Subscribe(Subscribe::default()));
    pair.inject(1, Port::Listen, child, datagram(down, &[wish]));
    (up, down)
}

/// What a child is sent when the liar's parent sends these.
fn passed_on(pair: &mut Pair, up: ChannelId, messages: &[Message]) -> Vec<Bytes> {
    take_all(pair);
    let parent = NodeId(0).address(Port::Listen).into();
    pair.inject(1, Port::Dial, parent, datagram(up, messages));
    let child = NodeId(0).address(Port::Dial).into();
    take_all(pair)
        .into_iter()
        .filter(|pending| pending.to == child)
        .map(|pending| pending.datagram)
        .collect()
}

fn data(chunk: u64) -> Message {
    Message::Data(Data {
        range: ChunkRange::single(ChunkIndex::new(chunk)),
        time_us: 5,
        payload: Bytes::from_static(&[9; 400]),
    })
}

fn munro() -> Message {
    Message::Extension(Extension::Munro(Munro {
        start: ChunkIndex::new(32),
        time: crate::time::NtpTime::default(),
        signature: Bytes::from_static(&[1; 64]),
        leaves: vec![Digest::from_slice(&[2; 32]).expect("32 bytes are a digest"); 8],
    }))
}

#[test]
fn every_liar_takes_part_before_it_lies() {
    for kind in LiarKind::ALL {
        let mut pair = pair(kind);
        let (up, _) = opened(&mut pair);
        let media = passed_on(&mut pair, up, &[data(40)]);
        let expected = !matches!(kind, LiarKind::Mute | LiarKind::Flooder);
        assert_eq!(!media.is_empty(), expected, "{kind:?}");
    }
}

#[test]
fn a_polluter_spoils_chunks_and_a_framer_hashes() {
    let changed = |kind, message: Message| {
        let mut pair = pair(kind);
        let (up, _) = opened(&mut pair);
        let genuine = datagram(THEIRS, std::slice::from_ref(&message));
        (0..40)
            .flat_map(|_| passed_on(&mut pair, up, std::slice::from_ref(&message)))
            .filter(|copy| {
                assert_eq!(copy.len(), genuine.len());
                *copy != genuine
            })
            .count()
    };
    assert!((5..36).contains(&changed(LiarKind::Polluter, data(40))));
    assert_eq!(changed(LiarKind::Polluter, munro()), 0);
    assert_eq!(changed(LiarKind::Framer, data(40)), 0);
    assert_eq!(changed(LiarKind::Framer, munro()), 40);
    assert_eq!(changed(LiarKind::AckLiar, data(40)), 0);
}

#[test]
fn liars_keep_lying_and_their_datagrams_fit() {
    for kind in LiarKind::ALL {
        let mut pair = pair(kind);
        let (up, _) = opened(&mut pair);
        passed_on(&mut pair, up, &[munro()]);
        passed_on(&mut pair, up, &[data(40)]);
        let mut seen = BTreeSet::new();
        for _ in 0..400 {
            assert!(pair.advance(Duration::from_millis(25)));
            for pending in take_all(&mut pair) {
                assert!(pending.datagram.len() <= 1_472, "{kind:?}");
                seen.insert(pending.datagram.get(4).copied());
            }
        }
        assert!(!seen.is_empty(), "{kind:?}");
        if kind == LiarKind::Flooder {
            assert!(seen.len() > 20, "{seen:?}");
        }
    }
}
