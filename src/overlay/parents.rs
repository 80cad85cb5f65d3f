//! Which remotes may become our parent, in which order, and how soon a failed one is tried again.

use std::net::SocketAddr;
use std::time::Duration;

use crate::rng::Rng;
use crate::time::Instant;

/// Candidates kept at once.
pub const CANDIDATES_MAX: usize = 64;
const BACK_OFF_FIRST: Duration = Duration::from_millis(250);
const BACK_OFF_MAX: Duration = Duration::from_secs(5);
/// A liar is not called again for this long.
const BAN_SPAN: Duration = Duration::from_secs(60);

/// A remote that may become our parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Where it is.
    pub addr: SocketAddr,
    /// Named by the user: kept whatever a tracker says.
    pub is_fixed: bool,
    /// Failures in a row.
    pub failures: u32,
    /// Not to be called before.
    pub not_before: Instant,
    /// Not to be asked for a subscription before.
    pub refused_until: Instant,
    /// That is because the stream came to it from us.
    pub is_below_us: bool,
}

/// Remotes in order of preference.
#[derive(Clone, Debug, Default)]
pub struct Candidates {
    list: Vec<Candidate>,
}

impl Candidates {
    /// Those that the user named, in his order.
    pub fn new(addrs: impl IntoIterator<Item = SocketAddr>) -> Self {
        let mut candidates = Self::default();
        for addr in addrs {
            candidates.add(addr, true);
        }
        candidates
    }

    /// Adds one at the end; one that is known changes nothing. False when there is no room.
    pub fn add(&mut self, addr: SocketAddr, is_fixed: bool) -> bool {
        if self.list.iter().any(|known| known.addr == addr) {
            return true;
        }
        if self.list.len() >= CANDIDATES_MAX {
            return false;
        }
        let never = Instant::ZERO;
        self.list.push(Candidate {
            addr,
            is_fixed,
            failures: 0,
            not_before: never,
            refused_until: never,
            is_below_us: false,
        });
        true
    }

    /// Takes over what a tracker said: its order, behind those that the user named. Others are dropped.
    pub fn replace_found(&mut self, addrs: &[SocketAddr]) {
        let old = std::mem::take(&mut self.list);
        let (fixed, found): (Vec<_>, Vec<_>) =
            old.into_iter().partition(|candidate| candidate.is_fixed);
        self.list = fixed;
        for &addr in addrs {
            // What was learnt about it stays true.
            match found.iter().find(|known| known.addr == addr) {
                Some(known) if self.list.len() < CANDIDATES_MAX => self.list.push(known.clone()),
                _ => {
                    self.add(addr, false);
                }
            }
        }
    }

    /// All of them, best first.
    pub fn iter(&self) -> impl Iterator<Item = &Candidate> {
        self.list.iter()
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Place in the order of preference.
    pub fn rank(&self, addr: SocketAddr) -> usize {
        self.list
            .iter()
            .position(|known| known.addr == addr)
            .unwrap_or(usize::MAX)
    }

    /// One of them.
    pub fn get(&self, addr: SocketAddr) -> Option<&Candidate> {
        self.list.iter().find(|known| known.addr == addr)
    }

    /// It answered.
    pub fn on_open(&mut self, addr: SocketAddr) {
        if let Some(candidate) = self.find(addr) {
            candidate.failures = 0;
        }
    }

    /// It did not answer, or went away: back off, with a fifth of randomness so that the children of a dead relay do
    /// not come back in step.
    pub fn on_failed(&mut self, now: Instant, addr: SocketAddr, rng: &mut Rng) {
        if let Some(candidate) = self.find(addr) {
            let step = BACK_OFF_FIRST
                .saturating_mul(1 << candidate.failures.min(6))
                .min(BACK_OFF_MAX);
            let spread = 0.8 + 0.4 * rng.unit();
            candidate.failures += 1;
            candidate.not_before = now + step.mul_f64(spread);
        }
    }

    /// It sent what it may not: however well it answers, it is left alone for a while.
    pub fn on_banned(&mut self, now: Instant, addr: SocketAddr) {
        if let Some(candidate) = self.find(addr) {
            candidate.failures += 1;
            candidate.not_before = now + BAN_SPAN;
        }
    }

    /// It said no.
    pub fn on_refused(&mut self, now: Instant, addr: SocketAddr, retry: Duration) {
        if let Some(candidate) = self.find(addr) {
            candidate.refused_until =
                now + retry.clamp(Duration::from_secs(1), Duration::from_secs(60));
            candidate.is_below_us = false;
        }
    }

    /// The stream comes to it from us, so it cannot come back.
    pub fn on_below_us(&mut self, now: Instant, addr: SocketAddr, retry: Duration) {
        self.on_refused(now, addr, retry);
        if let Some(candidate) = self.find(addr) {
            candidate.is_below_us = true;
        }
    }

    /// The stream comes to it another way: nothing speaks against it any more.
    pub fn on_rooted_elsewhere(&mut self, addr: SocketAddr) {
        if let Some(candidate) = self.find(addr)
            && std::mem::take(&mut candidate.is_below_us)
        {
            candidate.refused_until = Instant::ZERO;
        }
    }

    /// Whether it is not to be asked for a subscription now.
    pub fn is_refused(&self, now: Instant, addr: SocketAddr) -> bool {
        self.get(addr)
            .is_some_and(|known| known.refused_until > now)
    }

    /// When the next one may be called, among those that `is_busy` does not exclude.
    pub fn next_call(&self, is_busy: impl Fn(SocketAddr) -> bool) -> Option<(Instant, SocketAddr)> {
        self.list
            .iter()
            .filter(|candidate| !is_busy(candidate.addr))
            .map(|candidate| (candidate.not_before, candidate.addr))
            .min_by_key(|(at, _)| *at)
    }

    fn find(&mut self, addr: SocketAddr) -> Option<&mut Candidate> {
        self.list.iter_mut().find(|known| known.addr == addr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Seed;

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    fn order(candidates: &Candidates) -> Vec<u16> {
        candidates
            .iter()
            .map(|candidate| candidate.addr.port())
            .collect()
    }

    #[test]
    fn named_ones_stay_and_found_ones_follow_in_the_trackers_order() {
        let mut candidates = Candidates::new([addr(1), addr(2)]);
        candidates.replace_found(&[addr(9), addr(2), addr(8)]);
        assert_eq!(order(&candidates), [1, 2, 9, 8]);
        candidates.replace_found(&[addr(8)]);
        assert_eq!(order(&candidates), [1, 2, 8]);
        assert_eq!(candidates.rank(addr(8)), 2);
    }

    #[test]
    fn a_failed_one_waits_longer_each_time() {
        let mut rng = Rng::new(Seed::from_number(1));
        let mut candidates = Candidates::new([addr(1)]);
        let mut waits = Vec::new();
        for _ in 0..8 {
            candidates.on_failed(Instant::ZERO, addr(1), &mut rng);
            waits.push(candidates.next_call(|_| false).unwrap().0 - Instant::ZERO);
        }
        assert!(waits[0] >= Duration::from_millis(200) && waits[0] <= Duration::from_millis(300));
        assert!(waits[7] >= Duration::from_secs(4) && waits[7] <= Duration::from_secs(6));
        candidates.on_open(addr(1));
        candidates.on_failed(Instant::ZERO, addr(1), &mut rng);
        assert!(candidates.next_call(|_| false).unwrap().0 < Instant::from_micros(400_000));
    }

    #[test]
    fn whoever_is_below_us_is_asked_again_once_it_is_not() {
        let mut candidates = Candidates::new([addr(1), addr(2)]);
        let retry = Duration::from_secs(5);
        candidates.on_below_us(Instant::ZERO, addr(1), retry);
        candidates.on_refused(Instant::ZERO, addr(2), retry);
        for port in [1, 2] {
            candidates.on_rooted_elsewhere(addr(port));
        }
        let now = Instant::from_micros(1);
        assert!(!candidates.is_refused(now, addr(1)));
        assert!(candidates.is_refused(now, addr(2)), "it was full");
    }

    #[test]
    fn the_list_is_bounded() {
        let mut candidates = Candidates::default();
        for port in 0..CANDIDATES_MAX as u16 {
            assert!(candidates.add(addr(port), false));
        }
        assert!(!candidates.add(addr(9999), false));
        assert!(candidates.next_call(|_| true).is_none());
    }
}
