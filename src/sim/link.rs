//! One direction between two nodes: what becomes of each datagram offered to it.
//!
//! Delay, jitter, loss in bursts (Gilbert–Elliott), reordering, duplication, flipped bits, a rate with a finite queue, an
//! MTU, a cut. A segmented send is split into its datagrams, each with a fate of its own; what arrives together may be
//! handed over together, as GRO does.

use serde::{Deserialize, Serialize};

use crate::rng::Rng;
use crate::time::Instant;

/// What a link is like; plain data, times in microseconds, shares in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Profile {
    /// Time on the way when nothing else happens.
    pub delay_us: u64,
    /// Largest random time added to it, a train at a time; order is kept.
    pub jitter_us: u64,
    /// Share of datagrams lost in the good state.
    pub loss_ppm: u32,
    /// Share of datagrams lost in the bad state.
    pub burst_loss_ppm: u32,
    /// Chance, a datagram, of falling into the bad state.
    pub burst_enter_ppm: u32,
    /// How long it stays there at most: in time, so that a link with little to carry is not dead for minutes.
    pub burst_us: u64,
    /// Share of datagrams held back, so that later ones overtake them.
    pub reorder_ppm: u32,
    /// How long they are held back at most.
    pub reorder_us: u64,
    /// Share of datagrams that arrive twice.
    pub duplicate_ppm: u32,
    /// Share of datagrams in which one bit flips, past the checksum.
    pub corrupt_ppm: u32,
    /// Least time between two flips on one link: three bad chunks a minute from one sender are a liar's doing, so a
    /// link that is to look honest flips less often.
    pub corrupt_gap_us: u64,
    /// Bits a second; 0 is without limit.
    pub rate_bps: u64,
    /// Bytes that wait for a slow link before the next is dropped.
    pub queue_bytes: u64,
    /// Largest datagram, UDP payload; 0 is without limit.
    pub mtu_bytes: u32,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            delay_us: 5_000,
            jitter_us: 0,
            loss_ppm: 0,
            burst_loss_ppm: 0,
            burst_enter_ppm: 0,
            burst_us: 0,
            reorder_ppm: 0,
            reorder_us: 0,
            duplicate_ppm: 0,
            corrupt_ppm: 0,
            corrupt_gap_us: 61_000_000,
            rate_bps: 0,
            queue_bytes: 256 * 1024,
            mtu_bytes: 1472,
        }
    }
}

/// What a fault adds to a link while it lasts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strain {
    /// Cuts in force; one is enough.
    pub cuts: u32,
    /// Share of datagrams lost on top.
    pub loss_ppm: u32,
    /// Share of datagrams held back on top.
    pub reorder_ppm: u32,
    /// Share of datagrams that arrive twice on top.
    pub duplicate_ppm: u32,
    /// Another rate; 0 leaves it.
    pub rate_bps: u64,
    /// Time added to the delay.
    pub delay_us: u64,
    /// Flip one bit of each of so many datagrams.
    pub flips: u32,
}

/// Why a datagram never arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Chance.
    Random,
    /// A cut link.
    Cut,
    /// A full queue.
    Queue,
    /// Larger than the MTU.
    Mtu,
}

/// A run of datagrams of one train that reach the other end together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// When.
    pub at: Instant,
    /// First datagram of the train.
    pub first: u32,
    /// How many.
    pub count: u32,
    /// Which bit of it is wrong.
    pub flip: Option<u32>,
}

/// Datagrams counted; `offered + duplicated = arriving + lost`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Handed to the link.
    pub offered: u64,
    /// Second copies made.
    pub duplicated: u64,
    /// On their way, or arrived.
    pub arriving: u64,
    /// Lost on the way.
    pub lost: u64,
    /// With a flipped bit.
    pub flipped: u64,
}

/// How what waits in a link moves when the link becomes faster: a queue empties at the rate of now, not at the one that
/// filled it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relief {
    now: Instant,
    delay_us: u64,
    before_bps: u64,
    /// 0 is without limit.
    after_bps: u64,
}

impl Relief {
    /// When something leaves that was to leave at `depart`.
    fn departs(&self, depart: Instant) -> Instant {
        let waits_us = depart.since(self.now).as_micros();
        match self.after_bps {
            _ if depart <= self.now => depart,
            0 => self.now,
            after => {
                let waits_us = waits_us * u128::from(self.before_bps) / u128::from(after);
                Instant::from_micros(self.now.as_micros() + waits_us as u64)
            }
        }
    }

    /// When something arrives that was to arrive at `at`.
    pub fn arrives(&self, at: Instant) -> Instant {
        let delay_us = self.delay_us.min(at.as_micros());
        let depart = Instant::from_micros(at.as_micros() - delay_us);
        Instant::from_micros(self.departs(depart).as_micros() + delay_us)
    }
}

/// One direction between two nodes.
#[derive(Clone, Debug)]
pub struct Link {
    profile: Profile,
    strain: Strain,
    rng: Rng,
    burst_until: Instant,
    busy_until: Instant,
    last_arrival: Instant,
    flip_after: Instant,
    counters: Counters,
}

/// Held back at least so long by a reordering storm on a link that has no span of its own.
const REORDER_SPAN_US: u64 = 20_000;

impl Link {
    /// A link with its own noise.
    pub const fn new(profile: Profile, rng: Rng) -> Self {
        Self {
            profile,
            strain: Strain {
                cuts: 0,
                loss_ppm: 0,
                reorder_ppm: 0,
                duplicate_ppm: 0,
                rate_bps: 0,
                delay_us: 0,
                flips: 0,
            },
            rng,
            burst_until: Instant::ZERO,
            busy_until: Instant::ZERO,
            last_arrival: Instant::ZERO,
            flip_after: Instant::ZERO,
            counters: Counters {
                offered: 0,
                duplicated: 0,
                arriving: 0,
                lost: 0,
                flipped: 0,
            },
        }
    }

    /// What happened so far.
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    const fn rate_bps(&self) -> u64 {
        match self.strain.rate_bps {
            0 => self.profile.rate_bps,
            cut => cut,
        }
    }

    /// Changes what faults add. What is under way has to be moved when that makes the link faster.
    pub fn change(&mut self, now: Instant, change: impl FnOnce(&mut Strain)) -> Option<Relief> {
        let before_bps = self.rate_bps();
        let delay_us = self.profile.delay_us + self.strain.delay_us;
        change(&mut self.strain);
        let after_bps = self.rate_bps();
        let faster = before_bps != 0 && (after_bps == 0 || after_bps > before_bps);
        let relief = faster.then_some(Relief {
            now,
            delay_us,
            before_bps,
            after_bps,
        })?;
        self.busy_until = relief.departs(self.busy_until);
        self.last_arrival = relief.arrives(self.last_arrival);
        Some(relief)
    }

    /// Offers `bytes` bytes in datagrams of `stride` (the last may be shorter); adds what arrives to `arrivals`, and
    /// says of each lost datagram why to `lost`.
    pub fn offer(
        &mut self,
        now: Instant,
        bytes: usize,
        stride: usize,
        arrivals: &mut Vec<Arrival>,
        mut lost: impl FnMut(u32, Loss),
    ) {
        let stride = stride.max(1);
        // A datagram may be empty: a send of no bytes is one datagram.
        let count = bytes.div_ceil(stride).max(1);
        let jitter = match self.profile.jitter_us {
            0 => 0,
            span => self.rng.below(span + 1),
        };
        let delay = self.profile.delay_us + self.strain.delay_us + jitter;
        let together = self.together(count);
        let start = arrivals.len();
        for index in 0..count {
            let number = index as u32;
            let size = stride.min(bytes - (index * stride).min(bytes));
            self.counters.offered += 1;
            match self.fate(now, size) {
                Ok(depart) => {
                    let at = Instant::from_micros(depart.as_micros() + delay);
                    self.arrive(at, number, size, together, start, arrivals);
                }
                Err(why) => {
                    self.counters.lost += 1;
                    lost(number, why);
                }
            }
        }
    }

    /// How many datagrams of a train of `count` the receiver may be given at once.
    fn together(&mut self, count: usize) -> Together {
        if count == 1 {
            return Together::Each;
        }
        match self.rng.below(5) {
            0 => Together::Each,
            1 => Together::SplitAt(self.rng.below(count as u64) as u32),
            _ => Together::All,
        }
    }

    fn fate(&mut self, now: Instant, size: usize) -> Result<Instant, Loss> {
        if self.strain.cuts > 0 {
            return Err(Loss::Cut);
        }
        if self.profile.mtu_bytes != 0 && size > self.profile.mtu_bytes as usize {
            return Err(Loss::Mtu);
        }
        let rate = self.rate_bps();
        let mut depart = now;
        if rate != 0 {
            let start = self.busy_until.max(now);
            let waiting_us = start.as_micros() - now.as_micros();
            let waiting_bytes = (u128::from(waiting_us) * u128::from(rate) / 8_000_000) as u64;
            if waiting_bytes > self.profile.queue_bytes {
                return Err(Loss::Queue);
            }
            // 28 bytes of IPv4 and UDP headers travel too.
            let bits = (size as u64 + 28) * 8;
            depart = Instant::from_micros(start.as_micros() + (bits * 1_000_000).div_ceil(rate));
            self.busy_until = depart;
        }
        if now >= self.burst_until && self.hits(self.profile.burst_enter_ppm) {
            let length = 1 + self.rng.below(self.profile.burst_us.max(1));
            self.burst_until = Instant::from_micros(now.as_micros() + length);
        }
        let loss = if now < self.burst_until {
            self.profile.burst_loss_ppm
        } else {
            self.profile.loss_ppm
        };
        if self.hits(loss) || self.hits(self.strain.loss_ppm) {
            return Err(Loss::Random);
        }
        Ok(depart)
    }

    fn arrive(
        &mut self,
        at: Instant,
        number: u32,
        size: usize,
        together: Together,
        start: usize,
        arrivals: &mut Vec<Arrival>,
    ) {
        let held_back = self.hits(self.profile.reorder_ppm) || self.hits(self.strain.reorder_ppm);
        let at = if held_back {
            let span = self.profile.reorder_us.max(REORDER_SPAN_US);
            Instant::from_micros(at.as_micros() + 1 + self.rng.below(span))
        } else {
            // Jitter is time in a queue: it does not change the order.
            self.last_arrival = at.max(self.last_arrival);
            self.last_arrival
        };
        let flip = self.flip(at, size);
        self.counters.arriving += 1;
        let joined = match arrivals[start..].last_mut() {
            Some(run)
                if !held_back
                    && flip.is_none()
                    && run.flip.is_none()
                    && run.first + run.count == number
                    && together.joins(number) =>
            {
                // Interrupt coalescing: the whole run is seen when its last datagram is there.
                run.at = at;
                run.count += 1;
                true
            }
            _ => false,
        };
        if !joined {
            arrivals.push(Arrival {
                at,
                first: number,
                count: 1,
                flip,
            });
        }
        if self.hits(self.profile.duplicate_ppm) || self.hits(self.strain.duplicate_ppm) {
            self.counters.duplicated += 1;
            self.counters.arriving += 1;
            let later = self.rng.below(self.profile.delay_us.max(1_000));
            arrivals.push(Arrival {
                at: Instant::from_micros(at.as_micros() + later),
                first: number,
                count: 1,
                flip: None,
            });
        }
    }

    fn flip(&mut self, at: Instant, size: usize) -> Option<u32> {
        if size == 0 {
            return None;
        }
        if self.strain.flips > 0 {
            self.strain.flips -= 1;
        } else {
            if self.profile.corrupt_ppm == 0
                || at < self.flip_after
                || !self.hits(self.profile.corrupt_ppm)
            {
                return None;
            }
            self.flip_after = Instant::from_micros(at.as_micros() + self.profile.corrupt_gap_us);
        }
        self.counters.flipped += 1;
        Some(self.rng.below(size as u64 * 8) as u32)
    }

    /// True with `ppm` in a million; draws only when it could go either way.
    const fn hits(&mut self, ppm: u32) -> bool {
        ppm != 0 && self.rng.below(1_000_000) < ppm as u64
    }
}

#[derive(Clone, Copy, Debug)]
enum Together {
    Each,
    All,
    SplitAt(u32),
}

impl Together {
    const fn joins(self, number: u32) -> bool {
        match self {
            Self::Each => false,
            Self::All => true,
            Self::SplitAt(at) => at != number,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Seed;

    fn link(profile: Profile) -> Link {
        Link::new(profile, Rng::new(Seed::from_number(5)))
    }

    fn offer(link: &mut Link, at_us: u64, bytes: usize, stride: usize) -> (Vec<Arrival>, usize) {
        let mut arrivals = Vec::new();
        let mut lost = 0;
        link.offer(
            Instant::from_micros(at_us),
            bytes,
            stride,
            &mut arrivals,
            |_, _| lost += 1,
        );
        (arrivals, lost)
    }

    fn datagrams(arrivals: &[Arrival]) -> u64 {
        arrivals.iter().map(|run| u64::from(run.count)).sum()
    }

    #[test]
    fn a_quiet_link_delays_and_nothing_else() {
        let mut link = link(Profile::default());
        let (arrivals, lost) = offer(&mut link, 100, 1000, 1000);
        assert_eq!(lost, 0);
        assert_eq!(
            arrivals,
            [Arrival {
                at: Instant::from_micros(5_100),
                first: 0,
                count: 1,
                flip: None
            }]
        );
    }

    #[test]
    fn trains_arrive_joined_split_and_singly() {
        let mut link = link(Profile::default());
        let mut runs = [false; 9];
        for round in 0..200 {
            let (arrivals, _) = offer(&mut link, round * 1000, 7 * 100 + 40, 100);
            assert_eq!(datagrams(&arrivals), 8);
            runs[arrivals.len()] = true;
        }
        assert!(runs[1] && runs[2] && runs[8]);
    }

    #[test]
    fn loss_is_what_it_says_and_everything_is_accounted_for() {
        let mut link = link(Profile {
            loss_ppm: 100_000,
            duplicate_ppm: 50_000,
            reorder_ppm: 100_000,
            ..Profile::default()
        });
        let mut arrived = 0;
        for round in 0..10_000 {
            arrived += datagrams(&offer(&mut link, round * 100, 300, 100).0);
        }
        let counters = link.counters();
        assert_eq!(counters.offered, 30_000);
        assert_eq!(counters.arriving, arrived);
        assert_eq!(
            counters.offered + counters.duplicated,
            counters.arriving + counters.lost
        );
        assert!((2_700..3_300).contains(&counters.lost), "{counters:?}");
        assert!(
            (1_200..1_500).contains(&counters.duplicated),
            "{counters:?}"
        );
    }

    #[test]
    fn bursts_come_in_runs() {
        let mut link = link(Profile {
            burst_loss_ppm: 1_000_000,
            burst_enter_ppm: 10_000,
            burst_us: 10_000,
            ..Profile::default()
        });
        let mut longest = 0;
        let mut run = 0;
        for round in 0..10_000 {
            run = if offer(&mut link, round * 100, 100, 100).1 == 1 {
                run + 1
            } else {
                0
            };
            longest = longest.max(run);
        }
        assert!(longest > 20, "{longest}");
    }

    #[test]
    fn a_slow_link_spaces_queues_and_drops() {
        let mut link = link(Profile {
            rate_bps: 8_000_000,
            queue_bytes: 10_000,
            ..Profile::default()
        });
        let (arrivals, lost) = offer(&mut link, 0, 972, 972);
        assert_eq!(lost, 0);
        assert_eq!(arrivals[0].at, Instant::from_micros(6_000));
        let (arrivals, lost) = offer(&mut link, 0, 20 * 972, 972);
        assert_eq!(datagrams(&arrivals) + lost as u64, 20);
        assert_eq!(lost, 10);
    }

    #[test]
    fn order_holds_unless_reordering_is_asked_for() {
        let mut steady = link(Profile {
            jitter_us: 50_000,
            ..Profile::default()
        });
        let mut last = Instant::ZERO;
        for round in 0..1000 {
            let at = offer(&mut steady, round * 10, 10, 10).0[0].at;
            assert!(at >= last);
            last = at;
        }
        let mut storm = link(Profile::default());
        storm.change(Instant::ZERO, |strain| strain.reorder_ppm = 300_000);
        let times: Vec<Instant> = (0..1000)
            .map(|round| offer(&mut storm, round * 10, 10, 10).0[0].at)
            .collect();
        assert!(times.windows(2).any(|pair| pair[1] < pair[0]));
    }

    #[test]
    fn a_queue_empties_at_the_rate_of_now() {
        let at = Instant::from_micros;
        let mut link = link(Profile {
            rate_bps: 8_000_000,
            ..Profile::default()
        });
        assert_eq!(link.change(at(0), |strain| strain.rate_bps = 800_000), None);
        // Ten datagrams of 10 ms each: half of them are gone when the link is fast again.
        let planned: Vec<Instant> = (0..10)
            .map(|_| offer(&mut link, 0, 972, 972).0[0].at)
            .collect();
        assert_eq!((planned[0], planned[9]), (at(15_000), at(105_000)));
        let relief = link.change(at(50_000), |strain| strain.rate_bps = 0);
        let relief = relief.expect("ten times as fast");
        let moved: Vec<Instant> = planned.iter().map(|time| relief.arrives(*time)).collect();
        assert_eq!(moved[..5], planned[..5]);
        assert_eq!((moved[5], moved[9]), (at(56_000), at(60_000)));
        // What comes now is behind them and no further.
        assert_eq!(offer(&mut link, 50_000, 972, 972).0[0].at, at(61_000));
        assert_eq!(link.change(at(60_000), |strain| strain.delay_us = 5), None);
    }

    #[test]
    fn cut_mtu_and_flips() {
        let mut link = link(Profile::default());
        assert_eq!(offer(&mut link, 0, 1473, 1473).1, 1);
        link.change(Instant::ZERO, |strain| strain.cuts = 1);
        assert_eq!(offer(&mut link, 0, 10, 10).1, 1);
        link.change(Instant::ZERO, |strain| strain.cuts = 0);
        link.change(Instant::ZERO, |strain| strain.flips = 1);
        assert!(offer(&mut link, 0, 10, 10).0[0].flip.is_some());
        assert!(offer(&mut link, 0, 10, 10).0[0].flip.is_none());
        assert_eq!(datagrams(&offer(&mut link, 0, 0, 1200).0), 1);
    }
}
