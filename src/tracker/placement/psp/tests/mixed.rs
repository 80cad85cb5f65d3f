//! A stream in parts: supporters give what they can, the server the rest, and each what it was given.

use std::collections::BTreeSet;

use super::super::shares::{Stream, given};
use super::*;
use crate::rng::{Rng, Seed};
use crate::tracker::message::{Feed, Response};
use crate::tracker::placement::Choice;
use crate::tracker::placement::testing::shares;

/// A town whose channel of 1000 kbit/s is cut into four.
fn quarters(mix: bool) -> Town {
    let mut town = Town::new(Box::new(Psp::new(Settings { mix, ..settings() })));
    town.source_of("origin", FILM, 1000, 4);
    town.join("10.1.0.1", "s1", FILM, serving("east", 9000, 10));
    town
}

/// A viewer with a full buffer and an uplink, below a server.
fn helping(uplink_kbps: u64) -> RequestExt {
    RequestExt {
        uplink_kbps: Some(uplink_kbps),
        ..watching("s1", 1000, 0)
    }
}

/// A viewer that gets substreams from several, the first of whom pushes hashes.
fn sharing(from: &[(&str, u32)]) -> RequestExt {
    let feeds = from.iter().map(|(peer, mask)| Feed {
        peer: (*peer).to_owned(),
        mask: *mask,
    });
    RequestExt {
        parents: feeds.collect(),
        buffer_s: None,
        ..watching(from.first().map_or("", |(peer, _)| peer), 1000, 0)
    }
}

/// So many viewers, each of whom helps with so much.
fn helpers(town: &mut Town, uplinks: &[u64]) {
    let named: Vec<(String, u64)> = (1..)
        .map(|at| format!("v{at}"))
        .zip(uplinks.iter().copied())
        .collect();
    for (viewer_id, _) in &named {
        town.join("10.1.0.11", viewer_id, FILM, viewer());
    }
    for (viewer_id, uplink) in &named {
        town.report("10.1.0.11", viewer_id, FILM, helping(*uplink));
    }
    town.log();
}

fn report(town: &mut Town, viewer_id: &str, from: &[(&str, u32)]) -> Response {
    town.reported("10.1.0.13", viewer_id, FILM, sharing(from))
}

#[test]
fn several_supporters_share_a_viewer_and_the_server_fills_the_rest() {
    for (mix, line, told) in [
        (
            true,
            "psp 4: v3 streams from server s1 of cluster east (500 kbit/s)",
            &["s1:1100", "v1:0001", "v2:0010"][..],
        ),
        (
            false,
            "psp 4: v3 streams from server s1 of cluster east (1000 kbit/s)",
            &["s1"][..],
        ),
    ] {
        let mut town = quarters(mix);
        helpers(&mut town, &[300, 300]);
        let answer = town.join("10.1.0.13", "v3", FILM, viewer());
        assert_eq!(shares(&answer), told);
        let log = town.log();
        let shared =
            "psp 3: v3 streams from supporters of cluster east: v1 (250 kbit/s), v2 (250 kbit/s)";
        assert_eq!(log.iter().any(|line| line == shared), mix, "{log:?}");
        assert_eq!(log.last().map(String::as_str), Some(line));
    }
    // Where supporters have room for everything, both do the same.
    for mix in [true, false] {
        let mut town = quarters(mix);
        helpers(&mut town, &[600, 510]);
        let answer = town.join("10.1.0.13", "v3", FILM, viewer());
        assert_eq!(
            shares(&answer),
            ["v1:0011", "v2:1100", "s1"],
            "the server stands in"
        );
    }
}

#[test]
fn a_channel_that_is_not_cut_is_not_shared() {
    let mut town = town(settings());
    town.join("10.1.0.1", "s1", FILM, serving("east", 9000, 10));
    helpers(&mut town, &[900, 900]);
    let answer = town.join("10.1.0.13", "v3", FILM, viewer());
    assert_eq!(shares(&answer), ["s1"]);
    // Whatever a viewer says of several parents, nobody knows of substreams here.
    let answer = report(&mut town, "v3", &[("s1", 1), ("v1", 2)]);
    assert_eq!(shares(&answer), [""; 0]);
}

#[test]
fn another_takes_the_place_of_one_and_the_rest_stays() {
    let mut town = quarters(true);
    helpers(&mut town, &[300, 300, 300]);
    let answer = town.join("10.1.0.13", "v4", FILM, viewer());
    let told = ["v1:0001", "v2:0010", "v3:0100", "s1:1000"];
    assert_eq!(shares(&answer), told);
    let mut parents = [("v1", 1), ("v2", 2), ("v3", 4), ("s1", 8)];
    assert_eq!(shares(&report(&mut town, "v4", &parents)), [""; 0]);
    town.log();
    // A supporter goes: what it gave comes from the server, which gives more now than anybody else.
    town.leave("10.1.0.11", "v2", FILM);
    let line = "psp 4: v4 streams from server s1 of cluster east (250 kbit/s)";
    assert_eq!(town.log(), [line]);
    parents[1].0 = "s1";
    for _ in 0..2 {
        let answer = report(&mut town, "v4", &[("v1", 1), ("v3", 4), ("s1", 8)]);
        assert_eq!(shares(&answer), ["s1:1010", "v1:0001", "v3:0100"]);
    }
    assert_eq!(shares(&report(&mut town, "v4", &parents)), [""; 0]);
    // One that it cannot reach is not named for ever, and again the others stay.
    let without = [("s1", 14), ("v1", 1)];
    for round in 0..6 {
        let answer = report(&mut town, "v4", &without);
        assert_eq!(shares(&answer).is_empty(), round == 5, "{round}");
    }
    assert_eq!(town.log(), [line]);
    assert_eq!(shares(&report(&mut town, "v4", &without)), [""; 0]);
}

#[test]
fn who_lost_the_one_that_pushes_hashes_keeps_the_others() {
    let mut town = quarters(true);
    town.join("10.1.0.2", "s2", FILM, serving("east", 9000, 10));
    helpers(&mut town, &[300, 300]);
    let answer = town.join("10.1.0.13", "v3", FILM, viewer());
    assert_eq!(shares(&answer), ["s2:1100", "v1:0001", "v2:0010", "s1"]);
    let lost = || RequestExt {
        depth: None,
        ..sharing(&[("v1", 1), ("v2", 2)])
    };
    let found = town.find("10.1.0.13", "v3", FILM, lost());
    assert_eq!(shares(&found), shares(&answer), "it is still on its way");
    town.wait(4000);
    for (ip, server) in [("10.1.0.1", "s1"), ("10.1.0.2", "s2")] {
        town.report(ip, server, FILM, serving("east", 9000, 10));
    }
    let moved = ["s1:1100", "v1:0001", "v2:0010", "s2"];
    for _ in 0..2 {
        let found = town.find("10.1.0.13", "v3", FILM, lost());
        assert_eq!(shares(&found), moved);
    }
}

#[test]
fn a_relay_gets_all_from_one() {
    let mut town = quarters(true);
    helpers(&mut town, &[300, 300]);
    let answer = town.join("10.1.0.13", "r1", FILM, role(Role::Relay));
    assert_eq!(shares(&answer), ["s1"]);
}

#[test]
fn strict_means_supporters_alone_or_the_server_alone() {
    let mut town = quarters(false);
    helpers(&mut town, &[600, 510, 250]);
    let answer = town.join("10.1.0.13", "v4", FILM, viewer());
    assert_eq!(shares(&answer), ["v1:0011", "v2:1100", "s1"]);
    let parents = [("v1", 3), ("v2", 12)];
    assert_eq!(shares(&report(&mut town, "v4", &parents)), [""; 0]);
    // A quarter is all that is left.
    town.leave("10.1.0.11", "v1", FILM);
    assert_eq!(shares(&report(&mut town, "v4", &parents)), ["s1:1111"]);
    assert_eq!(shares(&report(&mut town, "v4", &[("s1", 15)])), [""; 0]);
}

#[test]
fn a_supporter_that_gives_a_quarter_is_measured_by_a_quarter() {
    let mut town = quarters(true);
    helpers(&mut town, &[1_000_000]);
    // One viewer is believed, then one more than what has arrived.
    let whole = town.join("10.1.0.12", "v2", FILM, viewer());
    assert_eq!(shares(&whole), ["v1", "s1"]);
    // It takes a quarter from v1 and says that all is well.
    let mixed = [("s1", 7), ("v1", 8)];
    town.reported("10.1.0.12", "v2", FILM, sharing(&mixed));
    let record = &town.registry.clusters(town.now()).clusters[0];
    assert_eq!(
        (record.supporters, record.supporters_kbps),
        (1, 250),
        "{record:?}"
    );
    // Promised one whole, proven a quarter: a quarter more.
    let answer = town.join("10.1.0.14", "v3", FILM, viewer());
    assert_eq!(shares(&answer), ["s1:1110", "v1:0001"]);
    // Of the server a whole stream goes to v1, and three quarters to v2 by its word, to v3 by ours.
    let record = &town.registry.clusters(town.now()).clusters[0];
    assert_eq!(record.servers[0].used_kbps, 1750, "{record:?}");
}

#[test]
fn a_full_server_gives_away_its_share_alone() {
    let mut town = Town::new(Box::new(Psp::new(settings())));
    town.source_of("origin", FILM, 1000, 4);
    town.join("10.1.0.1", "s1", FILM, serving("east", 2500, 10));
    helpers(&mut town, &[500]);
    let answer = town.join("10.1.0.13", "v2", FILM, viewer());
    assert_eq!(shares(&answer), ["v1:0011", "s1:1100"]);
    town.join("10.2.0.1", "s2", FILM, serving("west", 9000, 20));
    let mut told = Vec::new();
    for _ in 0..6 {
        town.wait(2000);
        town.report("10.1.0.1", "s1", FILM, serving("east", 1600, 10));
        town.report("10.2.0.1", "s2", FILM, serving("west", 9000, 20));
        town.report("10.1.0.11", "v1", FILM, helping(500));
        told = shares(&report(&mut town, "v2", &[("v1", 3), ("s1", 12)]));
    }
    assert_eq!(told, ["v1:0011", "s2:1100", "s1"], "{:?}", town.log());
}

#[test]
fn a_channel_cut_anew_is_shared_out_anew() {
    let mut town = quarters(true);
    helpers(&mut town, &[500]);
    assert_eq!(
        shares(&town.join("10.1.0.13", "v2", FILM, viewer())),
        ["v1:0011", "s1:1100"]
    );
    let parents = [("v1", 3), ("s1", 12)];
    assert_eq!(shares(&report(&mut town, "v2", &parents)), [""; 0]);
    town.source_of("origin", FILM, 1000, 2);
    assert_eq!(
        shares(&report(&mut town, "v2", &parents)),
        ["v1:0001", "s1:0010"]
    );
    // What is no number of substreams is no description.
    for nonsense in [0, 3, 16, 255] {
        town.source_of("origin", FILM, 1000, nonsense);
        assert_eq!(
            shares(&report(&mut town, "v2", &[("v1", 1), ("s1", 2)])),
            [""; 0]
        );
    }
}

#[test]
fn rates_and_substreams_convert_without_a_remainder_too_much() {
    for (rate, parts) in [
        (1000, 1),
        (1000, 4),
        (1001, 8),
        (1, 8),
        (7, 2),
        (u64::MAX, 8),
    ] {
        let stream = Stream::new(rate, Some(parts));
        assert_eq!(stream.whole(), (1 << parts) - 1);
        assert_eq!(stream.kbps(u32::MAX), stream.rate);
        for free in (0..=3 * stream.rate).step_by((stream.rate / 50).max(1) as usize) {
            for mask in [0, 1, 0b1010_0101, 0b1111_0000, u32::MAX] {
                let taken = stream.within(mask, free);
                assert_eq!(taken & !(mask & stream.whole()), 0);
                assert!(
                    stream.kbps(taken) <= free,
                    "{stream:?}: {free} {mask:b} {taken:b}"
                );
                let is_all = taken == mask & stream.whole();
                assert!(is_all || stream.rate_of(stream.count(taken) + 1) > free);
            }
        }
    }
    assert_eq!(Stream::new(0, None), Stream { rate: 1, parts: 1 });
}

/// Members that a policy is told of directly, with everything that it knows.
struct Crowd {
    psp: Psp,
    now: Instant,
    rng: Rng,
    film: Arc<str>,
    next: u64,
    /// Viewers, and whom each was told to get what from.
    viewers: BTreeMap<u64, Vec<(Arc<str>, u32)>>,
}

fn id(no: u64) -> Arc<str> {
    format!("p{no}").into()
}

impl Crowd {
    fn new(seed: u64, mix: bool, substreams: u8) -> Self {
        let mut crowd = Self {
            psp: Psp::new(Settings {
                mix,
                ..Settings::default()
            }),
            now: Instant::ZERO,
            rng: Rng::new(Seed::from_number(seed)),
            film: FILM.into(),
            next: 10,
            viewers: BTreeMap::new(),
        };
        let origin = Member {
            kbps: Some(1000),
            substreams: Some(substreams),
            ..crowd.member(0, Role::Source)
        };
        crowd.tell(&origin);
        for server in 1..3 {
            let serving = Member {
                cluster: Some("east".into()),
                capacity_kbps: Some(1_000_000),
                depth: Some(2),
                parent: Some(id(0)),
                ..crowd.member(server, Role::Relay)
            };
            crowd.tell(&serving);
        }
        crowd
    }

    fn member(&self, no: u64, role: Role) -> Member {
        Member {
            no: PeerNo(no),
            id: id(no),
            ip: std::net::Ipv4Addr::new(10, 1, 0, 1).into(),
            channel: Some(FILM.into()),
            substreams: None,
            role,
            is_listed: true,
            takes_shares: !no.is_multiple_of(6),
            depth: None,
            parent: None,
            parents: Vec::new(),
            slots_free: None,
            uplink_kbps: None,
            kbps: None,
            loss_ppm: None,
            buffer: None,
            latency: None,
            cluster: None,
            capacity_kbps: None,
        }
    }

    fn tell(&mut self, member: &Member) {
        self.psp.on_member(self.now, &self.film.clone(), member);
    }

    fn stream(&self) -> Stream {
        self.psp.stream(FILM)
    }

    /// What every supporter could give to somebody.
    fn free(&self, asker: PeerNo) -> BTreeMap<PeerNo, u64> {
        let entry = &self.psp.swarms[FILM];
        let free = |(no, viewer): (&PeerNo, &Viewer)| {
            let free = self
                .psp
                .supporter_free(self.now, entry, *no, viewer, self.stream(), asker);
            (*no, free)
        };
        entry.viewers.iter().map(free).collect()
    }

    /// Takes an answer: masks together are the whole stream, and nothing of it twice.
    fn take(&mut self, no: u64, choices: &[Choice]) {
        let masks: Vec<u32> = choices.iter().filter_map(|choice| choice.mask).collect();
        let name = |choice: &Choice| id(choice.no.0);
        let told = match (
            masks.iter().copied().reduce(|all, mask| all | mask),
            choices,
        ) {
            (Some(all), _) => {
                assert_eq!(all, self.stream().whole(), "{choices:?}");
                let count: u64 = masks.iter().map(|mask| self.stream().count(*mask)).sum();
                assert_eq!(count, self.stream().parts, "{choices:?}");
                let largest = masks.iter().map(|mask| mask.count_ones()).max();
                assert_eq!(masks.first().map(|mask| mask.count_ones()), largest);
                let shared = choices.iter().filter_map(|at| Some((name(at), at.mask?)));
                shared.collect()
            }
            (None, [first, ..]) => vec![(name(first), u32::MAX)],
            (None, []) => return,
        };
        self.viewers.insert(no, told);
    }

    fn join(&mut self) {
        let no = self.next;
        self.next += 1;
        let newcomer = self.member(no, Role::Peer);
        self.tell(&newcomer);
        let free = self.free(PeerNo(no));
        let film = Arc::clone(&self.film);
        let placed = self
            .psp
            .place(self.now, &film, PeerNo(no))
            .expect("servers have room");
        let session = self.psp.swarms[FILM].viewers[&PeerNo(no)].session.as_ref();
        for share in &session.expect("it was let in").shares {
            assert!(
                share.is_server || share.kbps <= free[&share.from],
                "{share:?}"
            );
        }
        let Placed::Parents { parents, .. } = placed else {
            panic!("psp has no list")
        };
        self.take(no, &parents);
    }

    /// A viewer reports: what it was told, mostly.
    fn report(&mut self, no: u64) {
        let mut feeds = self.viewers[&no].clone();
        match self.rng.below(12) {
            0 => feeds.truncate(1),
            1 => {
                let other = id(self.rng.below(self.next));
                feeds = vec![(other, self.rng.next_u32() & 0xff), (id(1), 1)];
            }
            _ => {}
        }
        // Servers serve well; of others it depends.
        let is_served = |server| feeds.iter().any(|(parent, _)| *parent == id(server));
        let kbps = match is_served(1) || is_served(2) {
            true => 1000,
            false => 700 + self.rng.below(400),
        };
        let member = Member {
            depth: Some(3),
            parent: feeds.first().map(|(parent, _)| Arc::clone(parent)),
            parents: if feeds.len() > 1 { feeds } else { Vec::new() },
            uplink_kbps: Some(self.rng.below(2500)),
            kbps: Some(kbps),
            buffer: Some(Duration::from_millis(900)),
            slots_free: Some(self.rng.below(5) as u16),
            ..self.member(no, Role::Peer)
        };
        self.tell(&member);
        let film = Arc::clone(&self.film);
        let choices = self.psp.move_of(self.now, &film, PeerNo(no));
        self.take(no, &choices);
    }

    fn leave(&mut self, no: u64) {
        let film = Arc::clone(&self.film);
        self.psp.on_gone(self.now, &film, PeerNo(no));
        self.viewers.remove(&no);
    }

    fn check(&self) {
        let (entry, whole) = (&self.psp.swarms[FILM], self.stream().whole());
        let mut promised: BTreeMap<PeerNo, u64> = BTreeMap::new();
        for (no, viewer) in &entry.viewers {
            let Some(session) = &viewer.session else {
                continue;
            };
            let shares = &session.shares;
            let count: u64 = shares
                .iter()
                .map(|share| self.stream().count(share.mask))
                .sum();
            assert_eq!(
                count,
                u64::from(given(shares).count_ones()),
                "twice: {shares:?}"
            );
            let is_cut_off = |server| self.psp.unreached.contains_key(&(*no, PeerNo(server)));
            let is_complete = given(shares) == whole;
            assert!(
                is_complete || is_cut_off(1) || is_cut_off(2),
                "{no:?}: {shares:?}"
            );
            assert!(
                shares.is_sorted_by_key(|share| share.is_server),
                "{shares:?}"
            );
            let servers = shares.iter().filter(|share| share.is_server).count();
            assert!(
                self.psp.settings.mix || servers == 0 || shares.len() == 1,
                "{shares:?}"
            );
            assert!(
                !no.0.is_multiple_of(6) || shares.len() <= 1,
                "{no:?}: {shares:?}"
            );
            for share in shares {
                *promised.entry(share.from).or_default() += share.kbps;
            }
            // However it was decided, every substream comes from a server in the end.
            for part in (0..self.stream().parts).map(|part| 1 << part) {
                let mut at = *no;
                for step in 0.. {
                    assert!(
                        step <= entry.viewers.len(),
                        "substream {part:b} runs in a ring"
                    );
                    let viewer = entry.viewers.get(&at);
                    let shares = viewer.and_then(|viewer| Some(&viewer.session.as_ref()?.shares));
                    let mut above = shares.into_iter().flatten();
                    match above.find(|share| share.mask & part != 0) {
                        Some(share) => at = share.from,
                        None => break,
                    }
                }
            }
        }
        let loads = self.psp.loads.iter().map(|(no, load)| (*no, load.kbps));
        assert_eq!(loads.collect::<BTreeMap<_, _>>(), promised);
        let hung: usize = entry.below.values().map(BTreeMap::len).sum();
        let feeds = entry.feeds.values().map(|feeds| {
            let from: BTreeSet<_> = feeds.from.iter().map(|(parent, _)| parent).collect();
            from.len()
        });
        assert_eq!(hung, feeds.sum::<usize>());
    }
}

#[test]
fn whatever_happens_shares_are_whole_disjoint_and_without_rings() {
    for seed in 0..24 {
        let substreams = [1, 2, 4, 8][(seed % 4) as usize];
        let mut crowd = Crowd::new(seed, !seed.is_multiple_of(3), substreams);
        let mut shared = 0;
        for _ in 0..250 {
            let viewers: Vec<u64> = crowd.viewers.keys().copied().collect();
            let pick = crowd.rng.below(viewers.len().max(1) as u64) as usize;
            match (viewers.get(pick), crowd.rng.below(20)) {
                (None, _) | (_, 0..4) => crowd.join(),
                (Some(no), 4..6) if viewers.len() > 3 => crowd.leave(*no),
                (_, 6) => {
                    crowd.now += Duration::from_secs(3);
                    crowd.psp.handle_timeout(crowd.now);
                }
                (Some(no), _) => crowd.report(*no),
            }
            crowd.check();
            let entry = &crowd.psp.swarms[FILM];
            let sessions = entry
                .viewers
                .values()
                .filter_map(|viewer| viewer.session.as_ref());
            shared += sessions.filter(|session| session.shares.len() > 1).count();
        }
        assert_eq!(shared > 0, substreams > 1, "seed {seed}");
    }
}

#[test]
fn two_may_serve_each_other_but_not_with_the_same() {
    let mut crowd = Crowd::new(1, true, 4);
    let film = Arc::clone(&crowd.film);
    crowd.join();
    crowd.join();
    let (a, b) = (PeerNo(10), PeerNo(11));
    let report = |crowd: &mut Crowd, no: PeerNo, from: &[(u64, u32)]| {
        let member = Member {
            depth: Some(3),
            parent: from.first().map(|(parent, _)| id(*parent)),
            parents: from
                .iter()
                .map(|(parent, mask)| (id(*parent), *mask))
                .collect(),
            buffer: Some(Duration::from_secs(1)),
            ..crowd.member(no.0, Role::Peer)
        };
        crowd.tell(&member);
    };
    report(&mut crowd, a, &[(1, 0b0011), (11, 0b1100)]);
    report(&mut crowd, b, &[(2, 0b1111)]);
    let entry = &crowd.psp.swarms[FILM];
    for (below, above, looped) in [(a, b, 0b1100), (b, a, 0), (a, a, 0b1111)] {
        assert_eq!(
            entry.through(below, above, 0b1111),
            looped,
            "{below:?} {above:?}"
        );
    }
    // Somebody between the two makes no difference, nor does what is decided and not done yet.
    report(&mut crowd, PeerNo(12), &[(10, 0b0110), (1, 0b1001)]);
    let entry = &crowd.psp.swarms[FILM];
    assert_eq!(entry.through(PeerNo(12), b, 0b1111), 0b0100);
    // By its own report all but one substream; that one as p10 was given it.
    assert_eq!(entry.through(PeerNo(12), PeerNo(1), 0b1111), 0b1111);
    // Both lose their servers: each gets from the other only what the other does not get from it.
    crowd
        .psp
        .supply_again(crowd.now, &film, b, &BTreeSet::from([PeerNo(1), PeerNo(2)]));
    let session = crowd.psp.swarms[FILM].viewers[&b].session.as_ref();
    let shares = &session.expect("it is in").shares;
    let from_a = shares
        .iter()
        .find(|share| share.from == a)
        .expect("it supports");
    assert_eq!(from_a.mask, 0b0011, "{shares:?}");
}
