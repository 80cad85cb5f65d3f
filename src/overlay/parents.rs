//! Which remotes may become our parent, in which order, and how soon a failed one is tried again.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::rng::Rng;
use crate::time::Instant;

/// Candidates kept at once.
pub const CANDIDATES_MAX: usize = 64;
const BACK_OFF_FIRST: Duration = Duration::from_millis(250);
const BACK_OFF_MAX: Duration = Duration::from_secs(5);
/// A liar is not called again for this long.
const BAN_SPAN: Duration = Duration::from_secs(60);

/// Candidates kept that nobody but another remote named.
pub const HEARSAY_MAX: usize = 8;
/// Calls to such candidates in a minute: a liar must not use us to pester others (S-19).
pub const HEARSAY_CALLS_PER_MINUTE: usize = 6;
const MINUTE: Duration = Duration::from_secs(60);
/// Nobody is called again on hearsay for so long (S-29).
const HEARSAY_AGAIN: Duration = Duration::from_secs(600);
/// What is called in [`HEARSAY_AGAIN`] fits.
const CALLED_MAX: usize = 64;
/// Ports below are those of services that we are not.
const PORT_LEAST: u16 = 1024;

/// A remote that may become our parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Where it is.
    pub addr: SocketAddr,
    /// Named by the user: kept whatever a tracker says.
    pub is_fixed: bool,
    /// Named by another remote alone: called once, and forgotten when that fails.
    pub is_hearsay: bool,
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
    /// Who was called on hearsay, and when.
    called: VecDeque<(Instant, SocketAddr)>,
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
        if let Some(known) = self.find(addr) {
            known.is_hearsay = false;
            return true;
        }
        if self.list.len() >= CANDIDATES_MAX {
            return false;
        }
        self.list.push(Candidate {
            addr,
            is_fixed,
            is_hearsay: false,
            failures: 0,
            not_before: Instant::ZERO,
            refused_until: Instant::ZERO,
            is_below_us: false,
        });
        true
    }

    /// Adds one that the remote at `from` named, which may be lying: a few are kept, at addresses that may mean
    /// something here, and none that was called lately.
    pub fn add_hearsay(&mut self, now: Instant, addr: SocketAddr, from: SocketAddr) -> bool {
        let place = place_of(addr);
        let hearsay = || self.list.iter().filter(|known| known.is_hearsay);
        let called = self
            .called
            .iter()
            .any(|(at, called)| *called == place && now - *at < HEARSAY_AGAIN);
        if hearsay().count() >= HEARSAY_MAX
            || hearsay().any(|known| place_of(known.addr) == place)
            || called
            || !may_name(from, addr)
            || self.list.len() >= CANDIDATES_MAX
            || self.get(addr).is_some()
        {
            return false;
        }
        self.list.push(Candidate {
            addr,
            is_fixed: false,
            is_hearsay: true,
            failures: 0,
            not_before: now,
            refused_until: Instant::ZERO,
            is_below_us: false,
        });
        true
    }

    /// Whether nobody but another remote named it.
    fn is_hearsay(&self, addr: SocketAddr) -> bool {
        self.get(addr).is_some_and(|known| known.is_hearsay)
    }

    /// It is being called.
    pub fn on_called(&mut self, now: Instant, addr: SocketAddr) {
        if self.is_hearsay(addr) {
            if self.called.len() >= CALLED_MAX {
                self.called.pop_front();
            }
            self.called.push_back((now, place_of(addr)));
        }
    }

    /// Whether the user or a tracker named it, and still does.
    pub fn is_vouched_for(&self, addr: SocketAddr) -> bool {
        self.get(addr).is_some_and(|known| !known.is_hearsay)
    }

    /// Forgets one that only another remote named.
    pub fn forget_hearsay(&mut self, addr: SocketAddr) {
        self.list
            .retain(|known| known.addr != addr || !known.is_hearsay);
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
                Some(known) if self.list.len() < CANDIDATES_MAX => self.list.push(Candidate {
                    is_hearsay: false,
                    ..known.clone()
                }),
                _ => {
                    self.add(addr, false);
                }
            }
        }
    }

    /// Puts one before all others that the user did not name, adding it if there is room.
    pub fn prefer(&mut self, addr: SocketAddr) {
        if !self.add(addr, false) {
            return;
        }
        let fixed = self.list.iter().filter(|known| known.is_fixed).count();
        if let Some(at) = self.list.iter().position(|known| known.addr == addr)
            && at > fixed
        {
            let preferred = self.list.remove(at);
            self.list.insert(fixed, preferred);
        }
    }

    /// Whether the user named it.
    pub fn is_fixed(&self, addr: SocketAddr) -> bool {
        self.get(addr).is_some_and(|known| known.is_fixed)
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
        self.forget_hearsay(addr);
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
        self.forget_hearsay(addr);
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

    /// What they said no to has changed: they may be asked again.
    pub fn forgive(&mut self) {
        for candidate in &mut self.list {
            if !candidate.is_below_us {
                candidate.refused_until = Instant::ZERO;
            }
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
        let hearsay_at = self
            .called
            .len()
            .checked_sub(HEARSAY_CALLS_PER_MINUTE)
            .and_then(|first| self.called.get(first))
            .map_or(Instant::ZERO, |(at, _)| *at + MINUTE);
        self.list
            .iter()
            .filter(|candidate| !is_busy(candidate.addr))
            .map(|candidate| {
                let at = if candidate.is_hearsay {
                    candidate.not_before.max(hearsay_at)
                } else {
                    candidate.not_before
                };
                (at, candidate.addr)
            })
            .min_by_key(|(at, _)| *at)
    }

    fn find(&mut self, addr: SocketAddr) -> Option<&mut Candidate> {
        self.list.iter_mut().find(|known| known.addr == addr)
    }
}

/// Whom a call to an address may pester: a host on the internet is one whatever the port.
fn place_of(addr: SocketAddr) -> SocketAddr {
    match reach(addr.ip()) {
        Some(Reach::World) => SocketAddr::new(addr.ip().to_canonical(), 0),
        _ => addr,
    }
}

/// Whether the remote at `from` can know about `addr`, and we may try it.
fn may_name(from: SocketAddr, addr: SocketAddr) -> bool {
    // What means something only nearby may be named by somebody just as near.
    addr.port() >= PORT_LEAST
        && addr != from
        && reach(addr.ip()).is_some_and(|wide| Some(wide) >= reach(from.ip()))
}

/// How far away an address means the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    Machine,
    Link,
    Site,
    World,
}

/// Nothing for addresses that are nobody's alone.
fn reach(ip: IpAddr) -> Option<Reach> {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            match a {
                0 | 224..=255 => None,
                127 => Some(Reach::Machine),
                // RFC 6598 shares 100.64.0.0/10 among the customers of a provider.
                100 if b & 0xc0 == 64 => Some(Reach::Site),
                _ if ip.is_link_local() => Some(Reach::Link),
                _ if ip.is_private() => Some(Reach::Site),
                _ => Some(Reach::World),
            }
        }
        IpAddr::V6(ip) if ip.is_loopback() => Some(Reach::Machine),
        IpAddr::V6(ip) if ip.is_multicast() || ip.octets().starts_with(&[0; 12]) => None,
        IpAddr::V6(ip) if ip.is_unicast_link_local() => Some(Reach::Link),
        IpAddr::V6(ip) if ip.is_unique_local() => Some(Reach::Site),
        IpAddr::V6(_) => Some(Reach::World),
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

    #[test]
    fn s_19_remotes_name_nobody_whom_they_cannot_know() {
        // Who names, whom, whether it is believed.
        let table = [
            ("192.0.2.7:7850", "198.51.100.1:7850", true),
            ("192.0.2.7:7850", "[2001:db8::1]:7850", true),
            ("192.0.2.7:7850", "192.0.2.7:7850", false),
            ("192.0.2.7:7850", "198.51.100.1:53", false),
            ("192.0.2.7:7850", "127.0.0.1:7850", false),
            ("192.0.2.7:7850", "[::ffff:127.0.0.1]:7850", false),
            ("192.0.2.7:7850", "[::1]:7850", false),
            ("192.0.2.7:7850", "[::127.0.0.1]:7850", false),
            ("192.0.2.7:7850", "0.0.0.0:7850", false),
            ("192.0.2.7:7850", "[::]:7850", false),
            ("192.0.2.7:7850", "224.0.0.1:7850", false),
            ("192.0.2.7:7850", "255.255.255.255:7850", false),
            ("192.0.2.7:7850", "[ff02::1]:7850", false),
            ("192.0.2.7:7850", "10.0.0.1:7850", false),
            ("192.0.2.7:7850", "100.64.0.1:7850", false),
            ("192.0.2.7:7850", "169.254.1.1:7850", false),
            ("192.0.2.7:7850", "[fe80::1]:7850", false),
            ("192.0.2.7:7850", "[fd00::1]:7850", false),
            ("10.0.0.2:7850", "10.0.0.1:7850", true),
            ("10.0.0.2:7850", "127.0.0.1:7850", false),
            ("10.0.0.2:7850", "224.0.0.1:7850", false),
            ("127.0.0.1:7850", "127.0.0.1:7851", true),
            ("127.0.0.1:7850", "0.0.0.0:7851", false),
        ];
        for (from, named, believed) in table {
            let (from, named) = (from.parse().unwrap(), named.parse().unwrap());
            let added = Candidates::default().add_hearsay(Instant::ZERO, named, from);
            assert_eq!(added, believed, "{from} names {named}");
        }
    }

    #[test]
    fn s_29_hearsay_is_followed_once_and_seldom() {
        let from = addr(1);
        let second = |s: u64| Instant::from_micros(s * 1_000_000);
        let victim = |number: u8| SocketAddr::from(([198, 51, 100, number], 7850));
        let mut rng = Rng::new(Seed::from_number(1));
        let mut candidates = Candidates::default();
        for number in 0..100 {
            candidates.add_hearsay(second(1), victim(number), from);
        }
        assert_eq!(candidates.len(), HEARSAY_MAX);
        let mut calls = Vec::new();
        for now in (1..3600).map(second) {
            if let Some((at, victim)) = candidates.next_call(|_| false)
                && at <= now
            {
                candidates.on_called(now, victim);
                candidates.on_failed(now, victim, &mut rng);
                calls.push((now, victim));
            }
            for number in 0..100 {
                // Another port is the same host.
                let mut again = victim(number);
                again.set_port(7850 + (now.as_micros() / 1_000_000) as u16);
                candidates.add_hearsay(now, again, from);
            }
        }
        for (at, called) in &calls {
            let lately = |span: Duration| {
                calls
                    .iter()
                    .filter(move |(t, _)| *t <= *at && *at - *t < span)
            };
            assert!(lately(MINUTE).count() <= HEARSAY_CALLS_PER_MINUTE);
            let same = lately(HEARSAY_AGAIN).filter(|(_, other)| other.ip() == called.ip());
            assert_eq!(same.count(), 1, "{called}");
        }
        assert!(calls.len() > 100, "{} calls", calls.len());
        // A tracker vouches for it.
        candidates.replace_found(&[victim(7)]);
        candidates.on_failed(second(3600), victim(7), &mut rng);
        assert_eq!(
            (candidates.len(), candidates.is_hearsay(victim(7))),
            (1, false)
        );
    }
}
