//! A clone and its user: it joins when it is told to, and nobody else can tell it.

use std::collections::BTreeSet;

use super::*;
use crate::wire::control::{Answer, ControlBody, WatchAnswer};
use crate::wire::extension::Control;

pub(super) const CLONE: u16 = 2;
pub(super) const PHONE: u16 = 3;
const STRANGER: u16 = 4;
const CONTROL: u8 = 79;

/// The key of a node that has one.
pub(super) fn own_key(name: u16) -> SigningKey {
    SigningKey::from_seed_ed25519([name as u8; 32])
}

fn auth(name: u16) -> Auth {
    Auth {
        key: own_key(name),
        friends: BTreeSet::new(),
        issuers: Vec::new(),
        closed: false,
    }
}

pub(super) fn with_key(role: Role, name: u16, parents: &[u16]) -> Config {
    let mut config = config(role, name, parents, 0);
    config.auth = Some(auth(name));
    config.swarms[0].from = StartFrom::Oldest;
    config
}

/// A source that streams, a clone below it that can record, and its user's peer, which holds back where it is not to
/// watch.
fn world(holds_back: bool) -> (Table, Vec<u8>) {
    let mut table = Table::new();
    table.add(1, config(Role::Source, 1, &[], 0));
    table.add(CLONE, with_key(Role::Relay, CLONE, &[1]));
    let phones = [own_key(PHONE).peer_key().expect("Ed25519")];
    let recording = PlayoutConfig {
        latency: Duration::ZERO,
        skip: false,
    };
    table
        .node(CLONE)
        .ask_first(0, BTreeSet::from(phones), Some(recording));
    table.add(PHONE, with_key(Role::Peer, PHONE, &[CLONE]));
    if holds_back {
        table.node(PHONE).hold_back(0);
    }
    let mut sent = Vec::new();
    table.stream(1, &mut sent, Duration::from_millis(300));
    (table, sent)
}

fn notices(table: &Table, name: u16) -> usize {
    let is_one = |event: &&Event| matches!(event, Event::Notice { .. });
    let events = table.events.get(&name).into_iter().flatten();
    events.filter(is_one).count()
}

/// What was answered and whether it is followed, as this node knows it.
fn answers(table: &Table, name: u16) -> Vec<(Answer, bool)> {
    let answered = |event: &Event| match event {
        Event::Answered { answer, taken, .. } => Some((*answer, *taken)),
        _ => None,
    };
    let events = table.events.get(&name).into_iter().flatten();
    events.filter_map(answered).collect()
}

impl Table {
    pub(super) fn node(&mut self, name: u16) -> &mut Node {
        self.nodes.get_mut(&name).unwrap()
    }

    pub(super) fn answer(&mut self, answer: Answer) {
        let now = self.now;
        self.node(PHONE).answer(now, 0, answer);
        self.settle();
    }

    /// Chunks that the clone received.
    fn received(&self) -> u64 {
        self.nodes[&CLONE].counters(self.now, 0).recv_media_bytes
    }

    /// Streams on and ends; everything that is to arrive has arrived.
    fn finish(&mut self, sent: &mut Vec<u8>) {
        self.stream(1, sent, SECOND);
        let now = self.now;
        self.node(1).end_media(now);
        self.run(2 * SECOND);
    }

    /// Loses the first `count` CONTROL messages of a kind.
    fn lose(&mut self, kind: u8, mut count: u32) {
        self.drop = Box::new(move |_, _, datagram, _| {
            let is_it = datagram.get(4) == Some(&crate::wire::EXTENSION_TYPE)
                && datagram.get(7) == Some(&CONTROL)
                && datagram.get(9) == Some(&kind);
            let lost = is_it && count > 0;
            count -= u32::from(lost);
            lost
        });
    }

    /// An answer as `from` would send it on its channel to the clone.
    fn forge(&mut self, from: u16, request: u32, answer: Answer) {
        let body = ControlBody::WatchAnswer(WatchAnswer { answer });
        let control = Extension::Control(Control {
            kind: body.kind(),
            request,
            body: body.encode().into(),
        });
        let now = self.now;
        let node = self.node(from);
        let at = node.calls(0)[0];
        node.send_extension(now, at, control);
        self.settle();
    }

    /// The request that the clone put to its user.
    fn request(&self) -> u32 {
        let heard = self.nodes[&PHONE].swarms[0].heard;
        heard.expect("it was asked").request()
    }
}

#[test]
fn nothing_is_taken_before_the_user_says_so() {
    let (mut table, mut sent) = world(true);
    table.stream(1, &mut sent, 3 * SECOND);
    assert_eq!((notices(&table, CLONE), notices(&table, PHONE)), (1, 1));
    assert_eq!(table.received(), 0);
    assert!(table.nodes[&CLONE].is_waiting(0));
    assert_eq!(table.nodes[&1].child_count(), 0);
}

#[test]
fn watch_joins_and_passes_the_stream_on() {
    let (mut table, mut sent) = world(false);
    table.stream(1, &mut sent, 2 * SECOND);
    table.answer(Answer::Watch);
    table.finish(&mut sent);
    assert_eq!(answers(&table, CLONE), [(Answer::Watch, true)]);
    assert_eq!(answers(&table, PHONE), [(Answer::Watch, true)]);
    table.assert_played_is_tail_of(PHONE, &sent);
    assert!(!table.played.contains_key(&CLONE), "nothing is recorded");
}

#[test]
fn record_plays_everything_at_the_clone_and_the_peer_fetches_it_later() {
    let (mut table, mut sent) = world(true);
    table.stream(1, &mut sent, 2 * SECOND);
    table.answer(Answer::Record);
    table.finish(&mut sent);
    assert_eq!(answers(&table, PHONE), [(Answer::Record, true)]);
    assert!(table.played[&CLONE] == sent, "from the first byte on");
    assert!(!table.played.contains_key(&PHONE), "nothing is passed on");
    // The source is gone, and so was the peer.
    table.nodes.remove(&1);
    table.nodes.remove(&PHONE);
    table.run(10 * SECOND);
    table.add(PHONE, with_key(Role::Peer, PHONE, &[CLONE]));
    table.run(3 * SECOND);
    assert!(table.played[&PHONE] == sent, "the whole recording");
    let ended = Event::Playout {
        swarm: 0,
        release: Release::Ended,
    };
    assert!(table.events[&PHONE].contains(&ended));
}

#[test]
fn a_recording_is_fetched_to_its_end_over_a_bad_path() {
    let (mut table, mut sent) = world(true);
    table.stream(1, &mut sent, SECOND);
    table.answer(Answer::Record);
    table.finish(&mut sent);
    table.nodes.remove(&1);
    table.nodes.remove(&PHONE);
    table.run(10 * SECOND);
    for one_in in [3, 4, 5, 7, 11] {
        table.played.remove(&PHONE);
        table.events.remove(&PHONE);
        table.drop = Box::new(move |_, _, _, count| count % one_in == 0);
        let mut phone = with_key(Role::Peer, PHONE, &[CLONE]);
        phone.swarms[0].playout = Some(PlayoutConfig {
            latency: Duration::from_millis(100),
            skip: false,
        });
        table.add(PHONE, phone);
        table.run(12 * SECOND);
        assert!(table.played[&PHONE] == sent, "one in {one_in} lost");
        let ended = Event::Playout {
            swarm: 0,
            release: Release::Ended,
        };
        assert!(
            table.events[&PHONE].contains(&ended),
            "one in {one_in} lost"
        );
        let now = table.now;
        table.node(PHONE).close(now);
        table.settle();
    }
}

/// Whether a datagram carries an end mark: a munro of nothing.
fn has_end_mark(datagram: &[u8]) -> bool {
    let datagram = Bytes::copy_from_slice(datagram);
    let Ok((_, mut messages)) = Datagram::open(datagram) else {
        return false;
    };
    let all = std::iter::from_fn(|| messages.next(&crate::wire::Format::LIVE));
    all.into_iter().flatten().any(|message| {
        matches!(message, Message::Extension(Extension::Munro(munro)) if munro.leaves.is_empty())
    })
}

#[test]
fn the_end_of_a_recording_is_not_lost_for_good() {
    let (mut table, mut sent) = world(true);
    table.stream(1, &mut sent, SECOND);
    table.answer(Answer::Record);
    table.finish(&mut sent);
    table.nodes.remove(&1);
    table.nodes.remove(&PHONE);
    table.run(10 * SECOND);
    let lost = std::rc::Rc::new(std::cell::Cell::new(0));
    let seen = std::rc::Rc::clone(&lost);
    table.drop = Box::new(move |from, _, datagram, _| {
        let is_lost = from == CLONE && seen.get() < 2 && has_end_mark(datagram);
        seen.set(seen.get() + u32::from(is_lost));
        is_lost
    });
    table.add(PHONE, with_key(Role::Peer, PHONE, &[CLONE]));
    table.run(10 * SECOND);
    assert!(lost.get() > 0);
    let ended = Event::Playout {
        swarm: 0,
        release: Release::Ended,
    };
    assert!(table.events[&PHONE].contains(&ended));
}

#[test]
fn the_list_of_keys_can_grow_and_shrink() {
    let (mut table, mut sent) = world(true);
    table.stream(1, &mut sent, 2 * SECOND);
    let request = table.request();
    let keys = [own_key(STRANGER).peer_key().expect("Ed25519")];
    table.node(CLONE).set_phones(&BTreeSet::from(keys));
    table.add(STRANGER, with_key(Role::Peer, STRANGER, &[CLONE]));
    table.stream(1, &mut sent, 2 * SECOND);
    assert_eq!(notices(&table, STRANGER), 1);
    // Whoever was asked and is on the list no more has nothing to say.
    table.forge(PHONE, request, Answer::Record);
    assert_eq!(answers(&table, CLONE), []);
    assert_eq!(table.received(), 0);
}

#[test]
fn ignore_takes_nothing() {
    let (mut table, mut sent) = world(true);
    table.stream(1, &mut sent, 2 * SECOND);
    table.answer(Answer::Ignore);
    table.finish(&mut sent);
    assert_eq!(answers(&table, CLONE), [(Answer::Ignore, true)]);
    assert_eq!(table.received(), 0);
    assert_eq!(notices(&table, PHONE), 1, "asked once");
}

#[test]
fn notices_answers_and_confirmations_may_be_lost() {
    for kind in 1..=3 {
        let (mut table, mut sent) = world(true);
        table.lose(kind, 2);
        table.stream(1, &mut sent, 4 * SECOND);
        assert_eq!(notices(&table, PHONE), 1, "kind {kind}");
        table.answer(Answer::Record);
        table.finish(&mut sent);
        table.run(SECOND);
        for name in [CLONE, PHONE] {
            let told = answers(&table, name);
            assert_eq!(told, [(Answer::Record, true)], "kind {kind}, {name}");
        }
        assert!(table.played[&CLONE] == sent, "kind {kind}");
    }
}

#[test]
fn an_answer_counts_once_and_only_to_what_was_asked() {
    let (mut table, mut sent) = world(true);
    table.stream(1, &mut sent, 2 * SECOND);
    let request = table.request();
    table.forge(PHONE, request.wrapping_add(1), Answer::Watch);
    assert_eq!(answers(&table, CLONE), []);
    table.forge(PHONE, request, Answer::Ignore);
    table.forge(PHONE, request, Answer::Ignore);
    table.forge(PHONE, request, Answer::Record);
    assert_eq!(answers(&table, CLONE), [(Answer::Ignore, true)]);
    table.finish(&mut sent);
    assert_eq!(table.received(), 0);
}

#[test]
fn a_stranger_is_not_asked_and_cannot_answer() {
    let (mut table, mut sent) = world(true);
    table.add(STRANGER, with_key(Role::Peer, STRANGER, &[CLONE]));
    table.stream(1, &mut sent, 3 * SECOND);
    assert_eq!(notices(&table, STRANGER), 0);
    // It knows the request by heart, and comes too late and too early.
    let request = table.request();
    table.forge(STRANGER, request, Answer::Record);
    table.stream(1, &mut sent, SECOND);
    assert_eq!(answers(&table, CLONE), []);
    assert_eq!(table.received(), 0);
    let refused = |event: &Event| matches!(event, Event::ParentRefused { .. });
    assert!(table.events[&STRANGER].iter().any(refused));
    assert!(!table.events[&PHONE].iter().any(refused));
    // When the clone has joined, it serves strangers like any relay.
    table.answer(Answer::Watch);
    table.finish(&mut sent);
    table.run(3 * SECOND);
    assert!(table.played.contains_key(&STRANGER));
}

#[test]
fn a_clone_without_a_file_cannot_be_told_to_record() {
    let (mut table, mut sent) = world(true);
    let phones = BTreeSet::from([own_key(PHONE).peer_key().expect("Ed25519")]);
    table.node(CLONE).ask_first(0, phones, None);
    table.stream(1, &mut sent, 2 * SECOND);
    table.answer(Answer::Record);
    table.finish(&mut sent);
    assert_eq!(answers(&table, PHONE), [(Answer::Record, false)]);
    assert_eq!(table.received(), 0);
}

#[test]
fn a_user_who_ignored_is_asked_again_when_his_peer_comes_again() {
    let (mut table, mut sent) = world(true);
    table.stream(1, &mut sent, 2 * SECOND);
    table.answer(Answer::Ignore);
    let now = table.now;
    table.node(PHONE).close(now);
    table.settle();
    table.add(PHONE, with_key(Role::Peer, PHONE, &[CLONE]));
    table.stream(1, &mut sent, 2 * SECOND);
    assert_eq!(notices(&table, PHONE), 2);
    table.answer(Answer::Watch);
    table.finish(&mut sent);
    table.assert_played_is_tail_of(PHONE, &sent);
}

#[test]
fn nobody_answers_for_ever_and_nobody_asks_for_ever() {
    let (mut table, mut sent) = world(true);
    table.stream(1, &mut sent, 2 * SECOND);
    table.lose(2, u32::MAX);
    table.answer(Answer::Watch);
    // Not one datagram more than is bounded, however long it lasts.
    table.count = 0;
    let asked = std::rc::Rc::new(std::cell::Cell::new((0, 0)));
    let seen = std::rc::Rc::clone(&asked);
    table.drop = Box::new(move |_, _, datagram, _| {
        let is_control = datagram.get(7) == Some(&CONTROL);
        let (notices, answers) = seen.get();
        match datagram.get(9) {
            Some(1) if is_control => seen.set((notices + 1, answers)),
            Some(2) if is_control => {
                seen.set((notices, answers + 1));
                return true;
            }
            _ => {}
        }
        false
    });
    table.run(120 * SECOND);
    let (notices, answers) = asked.get();
    assert!((1..=32).contains(&notices), "{notices} notices");
    assert!((1..=64).contains(&answers), "{answers} answers");
}
