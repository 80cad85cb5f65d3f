//! The window and the player over munros signed by a key of the tests.

use std::time::Duration;

use bytes::Bytes;

use super::playout::{Playout, PlayoutConfig, Release};
use super::*;
use crate::integrity::hash::digest;
use crate::integrity::key::SigningKey;
use crate::integrity::live::Authority;
use crate::wire::option::{Addressing, HashFunction};

const EPOCH_US: u64 = 1_795_262_400_000_000;

/// A munro of `count` chunks signed `ms` after the epoch; each chunk is its number in text.
fn signed(index: u64, ms: u64, count: u64) -> (SignedMunro, MunroTree, Vec<Proven>) {
    let key = SigningKey::from_seed_ed25519([1; 32]);
    let function = HashFunction::Sha256;
    let authority = Authority::new(key.verifying_key(), Addressing::Ranges64, function);
    let index = MunroIndex::new(index);
    let payload = |place| Bytes::from(index.chunk_at(place).to_string());
    let leaves: Vec<_> = (0..count as u32)
        .map(|place| digest(function, &payload(place)))
        .collect();
    let time = NtpTime::from_unix_micros(EPOCH_US + ms * 1000);
    let tree = MunroTree::from_leaves(function, index.chunks(), &leaves).unwrap();
    let (munro, tree) = tree.sign(&key, &authority, time).unwrap();
    let chunks = (0..count as u32).map(|place| Proven::own(index.chunk_at(place), payload(place)));
    (munro, tree, chunks.collect())
}

fn at(ms: u64) -> Instant {
    Instant::from_micros(ms * 1000)
}

/// A window with munros (index, signed at, chunks, those missing), each arrived 5 ms after it was signed.
fn window(munros: &[(u64, u64, u64, &[u64])]) -> Window {
    let mut window = Window::new(Duration::from_secs(60));
    for &(index, ms, count, missing) in munros {
        let (munro, tree, chunks) = signed(index, ms, count);
        assert_eq!(window.insert(at(ms + 5), munro, tree), Inserted::New);
        for (place, chunk) in chunks.into_iter().enumerate() {
            if !missing.contains(&(place as u64)) {
                assert!(window.put(chunk));
            }
        }
    }
    window
}

fn player(window: &Window, latency_ms: u64, skip: bool) -> Playout {
    let latency = Duration::from_millis(latency_ms);
    let mut playout = Playout::new(PlayoutConfig { latency, skip });
    for slot in window.slots() {
        playout.observe(slot.arrived(), slot);
    }
    playout.start_at(window.oldest().unwrap().index().first_chunk());
    playout
}

/// What comes out until nothing does, in short.
fn play(playout: &mut Playout, now: Instant, window: &Window, announced: bool) -> Vec<String> {
    let mut out = Vec::new();
    while let Some(release) = playout.poll(now, window, |_| announced, |_| announced) {
        out.push(match release {
            Release::Media { payload, .. } => String::from_utf8(payload.to_vec()).unwrap(),
            Release::Lost { range, chunk_count } => format!("lost {range} ({chunk_count})"),
            Release::Jump(range) => format!("jump {range}"),
            Release::Stalled => "stalled".into(),
            Release::Resumed(span) => format!("resumed {}", span.as_millis()),
            Release::Ended => "ended".into(),
        });
    }
    out
}

#[test]
fn chunks_come_out_in_order_when_they_are_due() {
    let window = window(&[(0, 0, 2, &[]), (1, 20, 1, &[])]);
    let mut playout = player(&window, 100, true);
    assert_eq!(play(&mut playout, at(104), &window, true), [""; 0]);
    assert_eq!(playout.deadline(at(50), &window), Some(at(105)));
    assert_eq!(play(&mut playout, at(105), &window, true), ["0", "1"]);
    assert_eq!(play(&mut playout, at(125), &window, true), ["32"]);
}

#[test]
fn a_hole_is_skipped_at_its_time_or_waited_for() {
    let holed = window(&[(0, 0, 3, &[1]), (1, 20, 1, &[])]);
    assert_eq!(
        play(&mut player(&holed, 0, true), at(25), &holed, true),
        ["0", "lost 1..1 (1)", "2", "32"]
    );
    let mut waiting = player(&holed, 0, false);
    assert_eq!(play(&mut waiting, at(25), &holed, true), ["0"]);
    assert_eq!(play(&mut waiting, at(2000), &holed, true), ["stalled"]);
    let mut mended = holed;
    mended.put(Proven::own(ChunkIndex::new(1), Bytes::from_static(b"1")));
    assert_eq!(
        play(&mut waiting, at(2100), &mended, true),
        ["resumed 100", "1", "2", "32"]
    );
}

#[test]
fn holes_in_the_backlog_get_the_whole_latency() {
    // A newcomer gets two munros of the past in one burst with the newest: at once all of them are overdue.
    let mut backlog = window(&[(0, 0, 3, &[1]), (1, 500, 1, &[]), (2, 1000, 1, &[])]);
    let mut playout = Playout::new(PlayoutConfig {
        latency: Duration::from_millis(300),
        skip: true,
    });
    for (index, ms) in [(0, 1005), (1, 1006), (2, 1007)] {
        playout.observe(at(ms), backlog.slot(MunroIndex::new(index)).unwrap());
    }
    playout.start_at(ChunkIndex::new(0));
    assert_eq!(play(&mut playout, at(1010), &backlog, true), ["0"]);
    assert_eq!(playout.deadline(at(1010), &backlog), Some(at(1307)));
    assert_eq!(play(&mut playout, at(1304), &backlog, true), [""; 0]);
    backlog.put(Proven::own(ChunkIndex::new(1), Bytes::from_static(b"1")));
    assert_eq!(
        play(&mut playout, at(1304), &backlog, true),
        ["1", "2", "32"]
    );
    assert_eq!(play(&mut playout, at(1307), &backlog, true), ["64"]);
}

/// Munros of one chunk each, ten a second of the viewer's clock; those from `restart` on are signed `set_ms` later.
fn restarted(restart: u64, set_ms: i64) -> (Window, Playout) {
    let mut held = Window::new(Duration::from_secs(600));
    let mut playout = Playout::new(PlayoutConfig {
        latency: Duration::from_secs(1),
        skip: true,
    });
    playout.start_at(ChunkIndex::new(0));
    for index in 0..2 * restart {
        let now = 100_000 + index * 100;
        let set_ms = if index < restart { 0 } else { set_ms };
        let (munro, tree, chunks) = signed(index, now.saturating_add_signed(set_ms), 1);
        held.insert(at(now + 5), munro, tree);
        playout.observe(at(now + 5), held.slot(MunroIndex::new(index)).unwrap());
        for chunk in chunks {
            held.put(chunk);
        }
    }
    (held, playout)
}

#[test]
fn every_munro_is_due_in_time_whatever_was_done_to_the_clock_of_its_source() {
    for set_ms in [0, 5_000, 300_000, -5_000, -90_000] {
        let (held, playout) = restarted(20, set_ms);
        for slot in held.slots() {
            let early = slot.arrived() + Duration::from_secs(1) - playout.due(slot);
            assert_eq!(early, Duration::ZERO, "{set_ms} {:?}", slot.index());
        }
    }
}

#[test]
fn munros_out_of_order_do_not_wait_for_the_clock_of_another_day() {
    let mut held = Window::new(Duration::from_secs(200_000));
    let latency = Duration::from_secs(1);
    let config = PlayoutConfig {
        latency,
        skip: true,
    };
    let mut playout = Playout::new(config);
    let day_ms = 86_400_000;
    let came = [(0, 0), (2, day_ms), (1, day_ms), (4, day_ms), (3, day_ms)];
    for (turn, (index, set_ms)) in (0..).zip(came) {
        let now = 100_000 + turn * 20;
        let (munro, tree, _) = signed(index, now + set_ms, 1);
        held.insert(at(now), munro, tree);
        let slot = held.slot(MunroIndex::new(index)).unwrap();
        playout.observe(at(now), slot);
        assert!(playout.due(slot) <= at(now) + latency, "{index}");
    }
}

#[test]
fn delay_that_goes_away_is_no_other_clock() {
    let (mut held, mut playout) = (window(&[]), player(&window(&[(0, 0, 1, &[])]), 1000, true));
    // Three seconds of munros that were held up come in one burst, and the next in time.
    for index in 1..160 {
        let signed_ms = index * 20;
        let (munro, tree, _) = signed(index, signed_ms, 1);
        held.insert(at(signed_ms.max(3_000)), munro, tree);
        let slot = held.slot(MunroIndex::new(index)).unwrap();
        playout.observe(slot.arrived(), slot);
    }
    for slot in held.slots() {
        let signed_ms = slot.index().get() * 20;
        assert_eq!(playout.due(slot), at(signed_ms + 1000));
    }
}

#[test]
fn numbers_never_used_are_a_jump_and_a_munro_never_seen_is_a_loss() {
    let gap = window(&[(0, 0, 1, &[]), (5, 20, 4, &[])]);
    assert_eq!(
        play(&mut player(&gap, 0, true), at(25), &gap, false)[..2],
        ["0", "jump 32..159"]
    );
    assert_eq!(
        play(&mut player(&gap, 0, true), at(25), &gap, true)[1],
        "lost 32..159 (4)"
    );
}

#[test]
fn a_player_runs_dry_once_and_goes_on() {
    let mut held = window(&[(0, 0, 1, &[]), (1, 20, 1, &[])]);
    let mut playout = player(&held, 0, true);
    assert_eq!(play(&mut playout, at(25), &held, true), ["0", "32"]);
    assert_eq!(play(&mut playout, at(124), &held, true), [""; 0]);
    assert_eq!(play(&mut playout, at(125), &held, true), ["stalled"]);
    assert_eq!(play(&mut playout, at(500), &held, true), [""; 0]);
    let (munro, tree, chunks) = signed(2, 600, 1);
    held.insert(at(605), munro, tree);
    held.put(chunks.into_iter().next().unwrap());
    playout.observe(at(605), held.newest().unwrap());
    assert_eq!(
        play(&mut playout, at(605), &held, true),
        ["resumed 480", "64"]
    );
}

#[test]
fn the_end_mark_ends_and_a_new_broadcast_goes_on_behind_it() {
    let held = window(&[(0, 0, 1, &[]), (1, 20, 0, &[]), (2, 40, 1, &[])]);
    let mut playout = player(&held, 0, true);
    assert_eq!(play(&mut playout, at(100), &held, true), ["0", "ended"]);
    assert!(playout.has_ended());
    playout.go_on();
    assert_eq!(play(&mut playout, at(100), &held, true), ["64"]);
}

#[test]
fn the_window_forgets_by_signed_time_and_takes_nothing_older() {
    let mut held = window(&[(0, 0, 2, &[]), (1, 30_000, 1, &[]), (2, 61_000, 1, &[])]);
    assert_eq!(held.oldest().map(|slot| slot.index().get()), Some(1));
    assert_eq!(
        (held.floor(), held.payload_bytes()),
        (MunroIndex::new(1), 4)
    );
    let (munro, tree, _) = signed(0, 0, 2);
    assert_eq!(held.insert(at(61_100), munro, tree), Inserted::TooOld);
}

#[test]
fn availability_grows_munro_by_munro_and_mends() {
    let mut held = window(&[(0, 0, 2, &[]), (1, 20, 2, &[0]), (2, 40, 2, &[])]);
    let around = |held: &Window, index| {
        held.complete_around(MunroIndex::new(index))
            .map(|range| range.to_string())
    };
    assert_eq!(around(&held, 0).as_deref(), Some("0..31"));
    assert_eq!(around(&held, 1), None);
    held.put(Proven::own(ChunkIndex::new(32), Bytes::from_static(b"32")));
    assert_eq!(around(&held, 1).as_deref(), Some("0..95"));
}

#[test]
fn another_hash_for_a_munro_is_a_conflict_and_the_first_stays() {
    let mut held = window(&[(0, 0, 2, &[])]);
    let (munro, tree, _) = signed(0, 0, 3);
    assert_eq!(held.insert(at(9), munro, tree), Inserted::Conflict);
    assert_eq!(held.newest().map(|slot| slot.payload_mask()), Some(0b11));
    let (munro, tree, _) = signed(0, 0, 2);
    assert_eq!(held.insert(at(9), munro, tree), Inserted::Known);
}
