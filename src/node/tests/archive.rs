//! A recording that is longer than the window, and those who fetch it.

use std::collections::BTreeSet;

use super::notice::{CLONE, PHONE, own_key, with_key};
use super::*;
use crate::seal::{EpochId, EpochKey, SALT_BYTES};
use crate::store::MunroIndex;
use crate::store::filed::Filed;
use crate::wire::control::Answer;

/// What the clone's window holds.
const WINDOW: Duration = Duration::from_secs(2);

/// The shell of the clone: what it was told to keep, and what it is asked for.
#[derive(Default)]
struct Disk {
    media: Vec<u8>,
    munros: Vec<(Filed, Bytes)>,
    /// Events looked at.
    seen: usize,
    loads: usize,
    /// Nothing is written any more.
    is_full: bool,
}

impl Disk {
    /// Does what a shell does with the clone's events.
    fn turn(&mut self, table: &mut Table) {
        let events = table.events.entry(CLONE).or_default();
        let news: Vec<Event> = events.get(self.seen..).unwrap_or_default().to_vec();
        self.seen = events.len();
        for event in news {
            match event {
                Event::Playout {
                    release: Release::Media { payload, .. },
                    ..
                } => self.media.extend_from_slice(&payload),
                Event::Filed { munro, sealed, .. } if !self.is_full => {
                    let played = || {
                        let start = self.media.len() - munro.media_bytes() as usize;
                        Bytes::copy_from_slice(&self.media[start..])
                    };
                    let bytes = sealed.unwrap_or_else(played);
                    self.munros.push((*munro, bytes));
                }
                Event::Load { from, most, .. } => self.load(table, from, most),
                _ => {}
            }
        }
    }

    fn load(&mut self, table: &mut Table, from: MunroIndex, most: usize) {
        self.loads += 1;
        let authority = table.node(CLONE).authority(0).unwrap().clone();
        let later = self.munros.iter().filter(|(filed, _)| filed.index >= from);
        let slots = later
            .filter_map(|(filed, media)| filed.restore(&authority, media.clone()))
            .take(most)
            .collect();
        let now = table.now;
        table.node(CLONE).loaded(now, 0, from, slots);
        table.settle();
    }

    fn span(&self) -> Option<(MunroIndex, MunroIndex)> {
        let (first, last) = (self.munros.first()?, self.munros.last()?);
        Some((first.0.index, last.0.index.plus(1)))
    }

    fn run(&mut self, table: &mut Table, span: Duration) {
        for _ in 0..span.as_millis() {
            table.run(Duration::from_millis(1));
            self.turn(table);
        }
    }

    fn stream(&mut self, table: &mut Table, sent: &mut Vec<u8>, span: Duration) {
        for _ in 0..span.as_millis() {
            table.stream(1, sent, Duration::from_millis(1));
            self.turn(table);
        }
    }

    fn end(&mut self, table: &mut Table) {
        let now = table.now;
        table.node(1).end_media(now);
        self.run(table, SECOND);
    }
}

fn clone() -> Config {
    let mut config = with_key(Role::Relay, CLONE, &[1]);
    config.swarms[0].window = WINDOW;
    config
}

/// The clone, with or without what it recorded before.
fn start_clone(table: &mut Table, kept: Option<Option<(MunroIndex, MunroIndex)>>) {
    table.add(CLONE, clone());
    table.events.remove(&CLONE);
    let phones = [own_key(PHONE).peer_key().expect("Ed25519")];
    let recording = PlayoutConfig {
        latency: Duration::from_millis(50),
        skip: false,
    };
    let node = table.node(CLONE);
    node.ask_first(0, BTreeSet::from(phones), Some(recording));
    if let Some(span) = kept {
        node.resume_recording(0, span);
    }
}

/// A clone that was told to record, and has recorded three times what its window holds.
fn recorded() -> (Table, Disk, Vec<u8>) {
    recorded_of(None)
}

/// The same, of a source that seals with this key, which the clone does not have.
fn recorded_of(seal: Option<(EpochId, EpochKey)>) -> (Table, Disk, Vec<u8>) {
    let (mut table, mut disk, mut sent) = (Table::new(), Disk::default(), Vec::new());
    let mut studio = config(Role::Source, 1, &[], 0);
    let source = studio.swarms[0].source.as_mut().unwrap();
    source.seal = seal.is_some().then_some([3; SALT_BYTES]);
    table.add(1, studio);
    if let Some((epoch, key)) = seal {
        table.node(1).set_seal_keys(0, &[(epoch, key)], Some(epoch));
    }
    start_clone(&mut table, None);
    table.add(PHONE, with_key(Role::Peer, PHONE, &[CLONE]));
    table.node(PHONE).hold_back(0);
    disk.stream(&mut table, &mut sent, 2 * SECOND);
    table.answer(Answer::Record);
    disk.stream(&mut table, &mut sent, 5 * SECOND);
    assert!(!disk.munros.is_empty(), "something is kept");
    table.nodes.remove(&PHONE);
    (table, disk, sent)
}

fn fetch(table: &mut Table) {
    table.played.remove(&PHONE);
    table.events.remove(&PHONE);
    let mut phone = with_key(Role::Peer, PHONE, &[CLONE]);
    phone.swarms[0].playout = Some(PlayoutConfig {
        latency: Duration::from_millis(100),
        skip: false,
    });
    table.add(PHONE, phone);
}

fn restart(table: &mut Table, disk: &mut Disk) {
    table.nodes.remove(&CLONE);
    start_clone(table, Some(disk.span()));
    disk.seen = 0;
}

fn releases(table: &Table, of: impl Fn(&Release) -> bool) -> usize {
    let is_one = |event: &&Event| matches!(event, Event::Playout { release, .. } if of(release));
    table.events[&PHONE].iter().filter(is_one).count()
}

fn assert_played(table: &Table, sent: &[u8], what: &str) {
    let played = table.played.get(&PHONE);
    let played = played.map(Vec::as_slice).unwrap_or_default();
    let differs = played.iter().zip(sent).position(|(a, b)| a != b);
    let (got, of) = (played.len(), sent.len());
    assert!(
        played == sent,
        "{what}: {got} of {of}, other from {differs:?} on"
    );
}

fn assert_ended(table: &Table) {
    assert_eq!(releases(table, |it| *it == Release::Ended), 1);
    assert_eq!(releases(table, |it| matches!(it, Release::Lost { .. })), 0);
}

#[test]
fn a_recording_is_fetched_from_its_first_chunk_and_goes_on_live() {
    let (mut table, mut disk, mut sent) = recorded();
    fetch(&mut table);
    disk.stream(&mut table, &mut sent, 4 * SECOND);
    let behind = sent.len() - table.played[&PHONE].len();
    assert!(behind < 300_000, "live again, {behind} bytes behind");
    assert!(disk.loads > 0);
    disk.end(&mut table);
    assert_played(&table, &sent, "no gap, nothing twice");
    assert_ended(&table);
    // It asked for what it was about to be sent only where it could see the head: five seconds before it.
    let twice = table.nodes[&PHONE].counters(table.now, 0).duplicate_packets;
    assert!(twice < 256 * 16, "{twice}");
}

#[test]
fn what_is_lost_on_the_way_is_fetched_again_from_the_recording() {
    let (mut table, mut disk, mut sent) = recorded();
    disk.end(&mut table);
    disk.stream(&mut table, &mut sent, Duration::ZERO);
    table.nodes.remove(&1);
    for one_in in [7, 20] {
        fetch(&mut table);
        table.drop = Box::new(move |_, _, _, count| count % one_in == 0);
        disk.run(&mut table, 20 * SECOND);
        assert_played(&table, &sent, &format!("one in {one_in} lost"));
        assert_ended(&table);
        table.nodes.remove(&PHONE);
        table.drop = Box::new(|_, _, _, _| false);
        disk.run(&mut table, 10 * SECOND);
    }
}

#[test]
fn a_clone_started_anew_gives_what_it_recorded() {
    let (mut table, mut disk, sent) = recorded();
    disk.end(&mut table);
    table.nodes.remove(&1);
    restart(&mut table, &mut disk);
    // Also when the end mark, behind which nothing comes, is lost at first.
    for lost in [0, 3] {
        fetch(&mut table);
        let last = disk.munros.last().unwrap().0.index.first_chunk().get();
        let mut left = lost;
        table.drop = Box::new(move |from, _, datagram, _| {
            let is_it = from == CLONE
                && datagram
                    .windows(9)
                    .any(|part| part[0] == 81 && part[1..] == last.to_be_bytes());
            let drop = is_it && left > 0;
            left -= u32::from(drop);
            drop
        });
        disk.run(&mut table, 8 * SECOND);
        assert_played(&table, &sent, "all of it");
        assert_ended(&table);
    }
}

#[test]
fn a_clone_started_anew_goes_on_recording() {
    let (mut table, mut disk, mut sent) = recorded();
    restart(&mut table, &mut disk);
    disk.media.clear();
    disk.stream(&mut table, &mut sent, 3 * SECOND);
    fetch(&mut table);
    disk.stream(&mut table, &mut sent, 4 * SECOND);
    disk.end(&mut table);
    assert_played(&table, &sent, "no gap, nothing twice");
    assert_ended(&table);
    let indexes: Vec<_> = disk.munros.iter().map(|(filed, _)| filed.index).collect();
    assert!(indexes.is_sorted_by(|a, b| a < b), "each munro once");
}

#[test]
fn a_gap_in_the_recording_is_passed_over() {
    let (mut table, mut disk, sent) = recorded();
    disk.end(&mut table);
    table.nodes.remove(&1);
    // One that was never there, and one that is not what the source signed any more.
    let gone = disk.munros.remove(100);
    let mut flipped = disk.munros[200].1.to_vec();
    flipped[5] ^= 1;
    let spoilt = std::mem::replace(&mut disk.munros[200].1, flipped.into());
    restart(&mut table, &mut disk);
    fetch(&mut table);
    disk.run(&mut table, 8 * SECOND);
    let before: usize = disk.munros[..100].iter().map(|it| it.1.len()).sum();
    let between: usize = disk.munros[100..200].iter().map(|it| it.1.len()).sum();
    let mut expected = sent;
    let second = before + gone.1.len() + between;
    expected.drain(second..second + spoilt.len());
    expected.drain(before..before + gone.1.len());
    assert_played(&table, &expected, "the rest");
    assert_ended(&table);
    assert_eq!(releases(&table, |it| matches!(it, Release::Jump(_))), 2);
}

#[test]
fn it_is_given_faster_than_it_was_signed_and_not_without_limit() {
    let (mut table, mut disk, sent) = recorded();
    disk.end(&mut table);
    table.nodes.remove(&1);
    restart(&mut table, &mut disk);
    fetch(&mut table);
    disk.run(&mut table, SECOND / 8);
    let received = table.nodes[&PHONE].counters(table.now, 0).recv_media_bytes;
    // An eighth of a second brings no more than two, and what may be given at once.
    assert!((500_000..6_000_000).contains(&received), "{received}");
    disk.run(&mut table, SECOND);
    assert_played(&table, &sent, "all of it");
    assert!(table.nodes[&CLONE].swarms[0].archive.is_some());
}

#[test]
fn a_full_disk_ends_the_recording_and_not_the_stream() {
    let (mut table, mut disk, mut sent) = recorded();
    let written = disk.media.len();
    disk.is_full = true;
    // What is told to the shell at this moment is lost.
    disk.stream(&mut table, &mut sent, SECOND);
    table.node(CLONE).end_recording(0);
    disk.stream(&mut table, &mut sent, 6 * SECOND);
    fetch(&mut table);
    disk.stream(&mut table, &mut sent, 3 * SECOND);
    disk.end(&mut table);
    let played = &table.played[&PHONE];
    assert!(
        played.starts_with(&sent[..written - 100_000]),
        "the recording"
    );
    assert!(
        sent.ends_with(&played[played.len() - 1_000_000..]),
        "then live"
    );
}

#[test]
fn nobody_asks_the_disk_for_what_the_window_holds() {
    let (mut table, mut disk, mut sent) = recorded();
    table.add(9, config(Role::Peer, 9, &[CLONE], 0));
    disk.stream(&mut table, &mut sent, 3 * SECOND);
    disk.end(&mut table);
    table.assert_played_is_tail_of(9, &sent);
    assert_eq!(disk.loads, 0);
}

#[test]
fn munros_that_are_due_at_once_are_kept_apart() {
    let (mut table, mut disk, mut sent) = recorded();
    table.node(CLONE).pause_playout(0, true);
    disk.stream(&mut table, &mut sent, SECOND);
    table.node(CLONE).pause_playout(0, false);
    disk.stream(&mut table, &mut sent, 3 * SECOND);
    disk.end(&mut table);
    let authority = table.node(CLONE).authority(0).unwrap().clone();
    for (filed, media) in &disk.munros {
        let restored = filed.restore(&authority, media.clone());
        assert!(restored.is_some(), "{}", filed.index.get());
    }
    assert!(disk.media == sent, "all of it");
}

#[test]
fn a_clone_without_the_key_keeps_sealed_chunks_for_those_who_have_it() {
    let key = (EpochId::new(1).unwrap(), EpochKey::from_bytes([9; 32]));
    let (mut table, mut disk, sent) = recorded_of(Some(key.clone()));
    disk.end(&mut table);
    assert!(disk.media.is_empty(), "it cannot read any");
    table.nodes.remove(&1);
    restart(&mut table, &mut disk);
    fetch(&mut table);
    table.node(PHONE).set_seal_keys(0, &[key], None);
    disk.run(&mut table, 4 * SECOND);
    assert_played(&table, &sent, "all of it");
    assert_ended(&table);
}
