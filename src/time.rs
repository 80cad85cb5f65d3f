//! Time as the core sees it: handed in, never read.
//!
//! [`Instant`] counts microseconds from an arbitrary start and drives every
//! timer; [`NtpTime`] is the absolute time that a live signature carries;
//! [`Epoch`] ties the two together with one fixed offset, so that no time
//! stamp of ours ever steps (RFC 7574 §8.7 wants system time in microseconds).

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

/// A moment on the monotone clock of one process or simulated world, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The start of the clock.
    pub const ZERO: Self = Self(0);

    /// The moment `micros` microseconds after the start of the clock.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the start of the clock.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to `self`, zero when `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// `self - span`, or the start of the clock when that is earlier.
    pub fn saturating_sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(micros(span)))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(micros(span)))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, span: Duration) {
        *self = *self + span;
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

/// A duration in whole microseconds, saturating after 584 000 years.
pub fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// Seconds from the NTP era (1900) to the Unix epoch (1970).
const NTP_TO_UNIX_SECONDS: u64 = 2_208_988_800;

/// A 64-bit NTP time stamp: 32 bits of seconds since 1900, 32 bits of fraction (RFC 5905).
///
/// Time stamps are compared as a signed difference modulo 2^64, so the roll-over
/// of 2036 is an ordinary step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NtpTime(u64);

impl NtpTime {
    /// From the 64 bits on the wire.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The 64 bits on the wire.
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// From microseconds since the Unix epoch.
    pub const fn from_unix_micros(micros: u64) -> Self {
        let seconds = (micros / 1_000_000).wrapping_add(NTP_TO_UNIX_SECONDS) & 0xffff_ffff;
        // Rounded up, so that the way back gives the same microsecond.
        let fraction = ((micros % 1_000_000) << 32).div_ceil(1_000_000);
        Self(seconds << 32 | fraction)
    }

    /// Microseconds since the Unix epoch, in the NTP era nearest to `near` (also Unix microseconds).
    pub const fn to_unix_micros(self, near: u64) -> u64 {
        near.wrapping_add_signed(self.micros_since(Self::from_unix_micros(near)))
    }

    /// Signed microseconds from `earlier` to `self`.
    pub const fn micros_since(self, earlier: Self) -> i64 {
        let difference = self.0.wrapping_sub(earlier.0) as i64;
        // 2^32 units a second; split so that the product cannot overflow.
        let seconds = difference >> 32;
        let fraction = difference & 0xffff_ffff;
        seconds * 1_000_000 + ((fraction * 1_000_000) >> 32)
    }
}

/// What Unix time it was, in microseconds, when [`Instant::ZERO`] was.
///
/// Read once at start and kept: clock steps after that do not move our time stamps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch of a clock that started at `unix_micros`.
    pub const fn new(unix_micros: u64) -> Self {
        Self(unix_micros)
    }

    /// Unix time in microseconds at `at`.
    pub const fn unix_micros(self, at: Instant) -> u64 {
        self.0.wrapping_add(at.0)
    }

    /// The same epoch, or a later one in which it is `floor` Unix microseconds at `at`: time does not step back over a
    /// restart when the wall clock did.
    #[must_use]
    pub const fn no_earlier(self, at: Instant, floor: u64) -> Self {
        if self.unix_micros(at) < floor {
            Self(floor.wrapping_sub(at.0))
        } else {
            self
        }
    }

    /// NTP time at `at`.
    pub const fn ntp(self, at: Instant) -> NtpTime {
        NtpTime::from_unix_micros(self.unix_micros(at))
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}s", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ntp_time_of_the_reference_vector() {
        // RFC 7574 live vector: Unix 1795262400.5.
        assert_eq!(
            NtpTime::from_unix_micros(1_795_262_400_500_000).to_bits(),
            0xeeac_0640_8000_0000
        );
    }

    #[test]
    fn ntp_time_round_trips_every_microsecond_of_a_second() {
        let base = 1_795_262_400_000_000;
        for micro in (0..1_000_000).step_by(7) {
            assert_eq!(
                NtpTime::from_unix_micros(base + micro).to_unix_micros(base),
                base + micro
            );
        }
    }

    #[test]
    fn ntp_time_differences_cross_the_era() {
        let before = NtpTime::from_bits(0xffff_ffff_8000_0000);
        let after = NtpTime::from_bits(0x0000_0000_8000_0000);
        assert_eq!(after.micros_since(before), 1_000_000);
        assert_eq!(before.micros_since(after), -1_000_000);
    }

    #[test]
    fn an_epoch_can_be_held_to_a_floor() {
        let (epoch, at) = (Epoch::new(1_000), Instant::from_micros(50));
        assert_eq!(epoch.no_earlier(at, 1_050), epoch);
        let later = epoch.no_earlier(at, 9_000);
        assert_eq!(later.unix_micros(at), 9_000);
        assert_eq!(later.unix_micros(Instant::from_micros(60)), 9_010);
        // A floor below the start of the clock has no epoch of its own, and needs none.
        assert_eq!(Epoch::new(0).no_earlier(at, 20), Epoch::new(0));
        assert_eq!(Epoch::new(0).no_earlier(at, 60).unix_micros(at), 60);
    }

    #[test]
    fn instants_saturate_instead_of_wrapping() {
        assert_eq!(Instant::ZERO - Instant::from_micros(5), Duration::ZERO);
        assert_eq!(
            Instant::from_micros(u64::MAX) + Duration::from_secs(1),
            Instant::from_micros(u64::MAX)
        );
    }
}
