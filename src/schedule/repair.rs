//! Holes: what is missing, whom to ask for it, and when to ask again.
//!
//! Facts in ([`Repair::want`], [`Repair::got`]), decisions out ([`Repair::poll`]). A hole is left alone for a moment,
//! since datagrams overtake each other; then the parent is asked, again after its round-trip time, then every
//! neighbour that announced it in turn.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::chunk::{ChunkIndex, ChunkRange};
use crate::store::{MunroIndex, position};
use crate::time::Instant;

/// Holes followed at once; what does not fit waits for room, oldest first.
pub const WANTS_MAX: usize = 4096;
/// Of these, holes that only the announcements of neighbours tell of.
pub const ANNOUNCED_MAX: usize = WANTS_MAX / 2;
/// Asked of neighbours that were there and did not give it, so often: what nothing proves to exist is forgotten then.
/// Five seconds at the least.
const FAILURES_MAX: u32 = 16;
/// Requests given out by one [`Repair::poll`].
pub const ASKS_PER_POLL_MAX: usize = 512;
/// How long a hole may just be a datagram overtaken by others.
pub const REORDER_DELAY: Duration = Duration::from_millis(3);
/// Never ask for the same thing more often than this.
const ASK_AGAIN_LEAST: Duration = Duration::from_millis(15);
/// Asked of the parent alone before others are tried as well.
const PARENT_TRIES: u32 = 2;

/// A neighbour as the scheduler sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Supplier {
    /// The caller's name for it.
    pub channel: usize,
    /// How long to wait for its answer.
    pub timeout: Duration,
    /// Whether it is the parent.
    pub is_parent: bool,
    /// When something last came from it.
    pub heard: Instant,
}

/// What to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hole {
    /// The signature and hashes of a munro.
    Munro(MunroIndex),
    /// One chunk.
    Chunk(ChunkIndex),
}

impl Hole {
    /// The munro it is in.
    pub const fn munro(self) -> MunroIndex {
        match self {
            Self::Munro(munro) => munro,
            Self::Chunk(chunk) => MunroIndex::of(chunk),
        }
    }

    /// Holes in order of play, the munro before its chunks.
    const fn key(self) -> (u64, u32) {
        match self {
            Self::Munro(munro) => (munro.get(), 0),
            Self::Chunk(chunk) => (MunroIndex::of(chunk).get(), position(chunk) + 1),
        }
    }
}

#[derive(Clone, Debug)]
struct Want {
    hole: Hole,
    since: Instant,
    next_ask: Instant,
    give_up: Instant,
    tries: u32,
    /// What tells that it exists.
    evidence: Evidence,
    asked_at: Instant,
    /// Tries that a neighbour which was there left unanswered.
    failures: u32,
}

/// What tells that something missing exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Evidence {
    /// A neighbour announced it.
    Announced,
    /// There are signed munros behind it: it is lost, or the source never used the numbers.
    Passed,
    /// The source signed it.
    Signed,
}

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Whom.
    pub channel: usize,
    /// For what.
    pub hole: Hole,
    /// How often it was asked for before.
    pub tries: u32,
}

/// All holes of one stream.
#[derive(Debug, Default)]
pub struct Repair {
    wants: BTreeMap<(u64, u32), Want>,
    /// How many of them neighbours only announced.
    announced: usize,
    next: Option<Instant>,
    asked_total: u64,
    repaired_total: u64,
}

impl Repair {
    /// Nothing is missing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Holes followed now.
    pub fn len(&self) -> usize {
        self.wants.len()
    }

    /// Whether nothing is missing.
    pub fn is_empty(&self) -> bool {
        self.wants.is_empty()
    }

    /// Requests made.
    pub const fn asked_total(&self) -> u64 {
        self.asked_total
    }

    /// Holes closed after they were asked for.
    pub const fn repaired_total(&self) -> u64 {
        self.repaired_total
    }

    /// A hole was seen; it is asked for `after` that unless it closes, and forgotten at `give_up`.
    pub fn want(&mut self, now: Instant, hole: Hole, after: Duration, give_up: Instant) -> bool {
        let evidence = match hole {
            Hole::Munro(_) => Evidence::Passed,
            Hole::Chunk(_) => Evidence::Signed,
        };
        self.follow(now, hole, after, give_up, evidence)
    }

    /// A neighbour that is asked for everything announced a chunk. It may be lying: such chunks leave room for others.
    pub fn want_announced(&mut self, now: Instant, chunk: ChunkIndex, give_up: Instant) -> bool {
        let hole = Hole::Chunk(chunk);
        self.announced < ANNOUNCED_MAX
            && self.follow(now, hole, Duration::ZERO, give_up, Evidence::Announced)
    }

    fn follow(
        &mut self,
        now: Instant,
        hole: Hole,
        after: Duration,
        give_up: Instant,
        evidence: Evidence,
    ) -> bool {
        let key = hole.key();
        if let Some(known) = self.wants.get_mut(&key) {
            if known.evidence == Evidence::Announced && evidence > known.evidence {
                self.announced -= 1;
            }
            known.evidence = known.evidence.max(evidence);
            known.give_up = known.give_up.max(give_up);
            return false;
        }
        if self.wants.len() >= WANTS_MAX {
            return false;
        }
        self.announced += usize::from(evidence == Evidence::Announced);
        let next_ask = now + after;
        self.wants.insert(
            key,
            Want {
                hole,
                since: now,
                next_ask,
                give_up,
                tries: 0,
                evidence,
                asked_at: now,
                failures: 0,
            },
        );
        self.next = Some(self.next.map_or(next_ask, |next| next.min(next_ask)));
        true
    }

    /// A hole closed. Gives how long it was open when it had been asked for.
    pub fn got(&mut self, now: Instant, hole: Hole) -> Option<Duration> {
        if self.wants.is_empty() {
            return None;
        }
        let want = self.wants.remove(&hole.key())?;
        self.announced -= usize::from(want.evidence == Evidence::Announced);
        if want.tries == 0 {
            return None;
        }
        self.repaired_total += 1;
        Some(now - want.since)
    }

    /// Whether a chunk was asked for and is still missing.
    pub fn is_asked(&self, hole: Hole) -> bool {
        self.wants
            .get(&hole.key())
            .is_some_and(|want| want.tries > 0)
    }

    /// Everything in munros before `floor` is not wanted any more.
    pub fn discard_below(&mut self, floor: MunroIndex) {
        if self
            .wants
            .first_key_value()
            .is_some_and(|((munro, _), _)| *munro < floor.get())
        {
            self.wants = self.wants.split_off(&(floor.get(), 0));
            self.count_announced();
        }
    }

    /// Whoever announced chunks is not asked any more: what nothing else tells of is forgotten.
    pub fn forget_announced(&mut self) {
        self.wants
            .retain(|_, want| want.evidence != Evidence::Announced);
        self.announced = 0;
    }

    /// Whether anything of a range is still asked for.
    pub fn follows(&self, range: ChunkRange) -> bool {
        let first = (MunroIndex::of(range.first()).get(), 0);
        let last = (MunroIndex::of(range.last()).get(), u32::MAX);
        self.wants.range(first..=last).next().is_some()
    }

    fn count_announced(&mut self) {
        let announced = |want: &&Want| want.evidence == Evidence::Announced;
        self.announced = self.wants.values().filter(announced).count();
    }

    /// A neighbour went away or came: ask for everything again at once.
    pub fn ask_again(&mut self, now: Instant) {
        for want in self.wants.values_mut() {
            want.next_ask = now;
        }
        if !self.wants.is_empty() {
            self.next = Some(now);
        }
    }

    /// When [`poll`](Self::poll) has something to say.
    pub fn deadline(&self) -> Option<Instant> {
        if self.wants.is_empty() {
            None
        } else {
            self.next
        }
    }

    /// Requests that are due, in order of play. `suppliers` lists who may have a hole, best first.
    pub fn poll(
        &mut self,
        now: Instant,
        mut suppliers: impl FnMut(Hole) -> Vec<Supplier>,
        asks: &mut Vec<Ask>,
    ) {
        if self.next.is_none_or(|next| next > now) {
            return;
        }
        let mut next: Option<Instant> = None;
        let mut given_up = Vec::new();
        for (key, want) in &mut self.wants {
            let in_vain = want.failures >= FAILURES_MAX && want.evidence < Evidence::Signed;
            if want.give_up <= now || in_vain {
                given_up.push(*key);
                continue;
            }
            if want.next_ask <= now && asks.len() < ASKS_PER_POLL_MAX {
                let from = suppliers(want.hole);
                want.next_ask = now + ask(now, want, &from, asks);
            }
            let at = want.next_ask.max(now).min(want.give_up);
            next = Some(next.map_or(at, |next| next.min(at)));
        }
        for key in &given_up {
            self.wants.remove(key);
        }
        if self.announced > 0 && !given_up.is_empty() {
            self.count_announced();
        }
        // What did not fit this time is due still: come back in a moment, not at once.
        self.next = next.map(|next| next.max(now + Duration::from_millis(1)));
        self.asked_total += asks.len() as u64;
    }
}

/// Asks whoever is next for a hole; gives how long to wait for that.
fn ask(now: Instant, want: &mut Want, from: &[Supplier], asks: &mut Vec<Ask>) -> Duration {
    let Some(first) = from
        .iter()
        .find(|supplier| supplier.is_parent)
        .or_else(|| from.first())
    else {
        // Nobody has it now; somebody may announce it.
        return Duration::from_millis(50);
    };
    let mut wait = first.timeout;
    let others: Vec<&Supplier> = from
        .iter()
        .filter(|supplier| supplier.channel != first.channel)
        .collect();
    asks.push(Ask {
        channel: first.channel,
        hole: want.hole,
        tries: want.tries,
    });
    if want.tries >= PARENT_TRIES && !others.is_empty() {
        let turn = (want.tries - PARENT_TRIES) as usize % others.len();
        if let Some(other) = others.get(turn) {
            asks.push(Ask {
                channel: other.channel,
                hole: want.hole,
                tries: want.tries,
            });
            wait = wait.min(other.timeout);
        }
    }
    // Whoever says nothing at all is cut off, which proves nothing about what it has.
    let unanswered = want.tries > 0 && from.iter().any(|supplier| supplier.heard > want.asked_at);
    want.failures += u32::from(unanswered);
    want.asked_at = now;
    want.tries += 1;
    // A few quick tries, then ever slower: a hole nobody can fill must not cost a stream of requests.
    let patience = 1 << want.tries.saturating_sub(6).min(5);
    wait.max(ASK_AGAIN_LEAST) * patience
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: Supplier = Supplier {
        channel: 1,
        timeout: Duration::from_millis(50),
        is_parent: true,
        heard: Instant::ZERO,
    };
    const OTHER: Supplier = Supplier {
        channel: 2,
        timeout: Duration::from_millis(30),
        is_parent: false,
        heard: Instant::ZERO,
    };

    fn ms(ms: u64) -> Instant {
        Instant::from_micros(ms * 1000)
    }

    fn chunk(number: u64) -> Hole {
        Hole::Chunk(ChunkIndex::new(number))
    }

    fn asked(repair: &mut Repair, now: Instant, from: &[Supplier]) -> Vec<(usize, Hole)> {
        let mut asks = Vec::new();
        repair.poll(now, |_| from.to_vec(), &mut asks);
        asks.iter().map(|ask| (ask.channel, ask.hole)).collect()
    }

    #[test]
    fn a_datagram_that_was_only_overtaken_is_never_asked_for() {
        let mut repair = Repair::new();
        repair.want(ms(0), chunk(5), REORDER_DELAY, ms(1000));
        assert_eq!(asked(&mut repair, ms(2), &[PARENT]), []);
        assert_eq!(repair.got(ms(2), chunk(5)), None);
        assert_eq!((repair.deadline(), repair.repaired_total()), (None, 0));
    }

    #[test]
    fn the_parent_twice_then_the_others_as_well() {
        let mut repair = Repair::new();
        repair.want(ms(0), chunk(5), REORDER_DELAY, ms(1000));
        let both = [PARENT, OTHER];
        assert_eq!(asked(&mut repair, ms(3), &both), [(1, chunk(5))]);
        assert_eq!(asked(&mut repair, ms(52), &both), []);
        assert_eq!(asked(&mut repair, ms(53), &both), [(1, chunk(5))]);
        assert_eq!(
            asked(&mut repair, ms(103), &both),
            [(1, chunk(5)), (2, chunk(5))]
        );
        assert_eq!(repair.deadline(), Some(ms(133)));
        assert_eq!(
            repair.got(ms(120), chunk(5)),
            Some(Duration::from_millis(120))
        );
        assert_eq!((repair.asked_total(), repair.repaired_total()), (4, 1));
    }

    #[test]
    fn holes_are_asked_in_order_of_play_the_munro_before_its_chunks() {
        let mut repair = Repair::new();
        let munro = Hole::Munro(MunroIndex::new(1));
        for hole in [chunk(70), chunk(33), munro, chunk(2)] {
            repair.want(ms(0), hole, Duration::ZERO, ms(1000));
        }
        let order: Vec<Hole> = asked(&mut repair, ms(0), &[PARENT])
            .into_iter()
            .map(|(_, hole)| hole)
            .collect();
        assert_eq!(order, [chunk(2), munro, chunk(33), chunk(70)]);
    }

    #[test]
    fn a_hole_is_given_up_at_its_time_and_below_the_floor() {
        let mut repair = Repair::new();
        repair.want(ms(0), chunk(5), Duration::ZERO, ms(100));
        repair.want(ms(0), chunk(100), Duration::ZERO, ms(500));
        assert_eq!(asked(&mut repair, ms(100), &[]), []);
        assert_eq!(repair.len(), 1);
        repair.discard_below(MunroIndex::new(4));
        assert!(repair.is_empty());
    }

    #[test]
    fn the_number_of_holes_is_bounded() {
        let mut repair = Repair::new();
        for number in 0..WANTS_MAX as u64 {
            assert!(repair.want(ms(0), chunk(number), Duration::ZERO, ms(100)));
        }
        assert!(!repair.want(ms(0), chunk(u64::MAX), Duration::ZERO, ms(100)));
        let mut asks = Vec::new();
        repair.poll(ms(0), |_| vec![PARENT], &mut asks);
        assert_eq!(asks.len(), ASKS_PER_POLL_MAX);
        assert!(repair.deadline().is_some_and(|at| at > ms(0)));
    }

    #[test]
    fn what_neighbours_only_announced_leaves_room_and_is_forgotten_with_them() {
        let mut repair = Repair::new();
        for number in 0..WANTS_MAX as u64 {
            repair.want_announced(ms(0), ChunkIndex::new(number), ms(10_000));
        }
        assert_eq!(repair.len(), ANNOUNCED_MAX);
        assert!(repair.want(ms(0), chunk(9999), REORDER_DELAY, ms(100)));
        // One of them turned out to be signed.
        repair.want(ms(0), chunk(7), REORDER_DELAY, ms(10_000));
        assert!(repair.want_announced(ms(0), ChunkIndex::new(8000), ms(10_000)));
        repair.forget_announced();
        assert_eq!(repair.len(), 2);
        assert!(repair.want_announced(ms(0), ChunkIndex::new(1), ms(10_000)));
    }

    #[test]
    fn what_nobody_gives_is_asked_for_for_ever_only_if_it_was_signed() {
        let never = ms(u64::MAX / 2000);
        let munro = Hole::Munro(MunroIndex::new(9));
        for (alive, left) in [(true, 1), (false, 2)] {
            let mut repair = Repair::new();
            repair.want(ms(0), chunk(5), Duration::ZERO, never);
            repair.want(ms(0), munro, Duration::ZERO, never);
            for at in (0..60_000).step_by(5) {
                let heard = ms(if alive { at } else { 0 });
                asked(&mut repair, ms(at), &[Supplier { heard, ..PARENT }]);
                assert!(at > 3000 || repair.len() == 2, "{at}");
            }
            assert_eq!(repair.len(), left, "{alive}");
            assert_eq!(repair.follows(MunroIndex::new(9).chunks()), !alive);
        }
    }
}
