//! When each piece of a transport stream is due, by its own clock.
//!
//! [`Pacer`] turns clock references into time since the start, across wraps and breaks; [`Timeline`] spreads what lies
//! between two references evenly; [`Anchor`] ties that time to a clock, and follows a live sender whose clock differs.

use std::collections::VecDeque;
use std::time::Duration;

use super::ts::Pcr;
use crate::time::{Instant, micros};

/// Clock references further apart than this, or going back, are a break in the stream and not time that passed.
///
/// The standard asks for one every 100 ms; streams of slides have been seen with one every two seconds. Ours.
const STEP_MAX: Duration = Duration::from_secs(3);

/// Turns clock references into time since the first one.
///
/// The time never goes back. At a break (another programme, a cut) one step as long as the last good one is assumed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pacer {
    last: Option<(Pcr, Duration)>,
    step: Duration,
}

impl Pacer {
    /// A pacer that has seen no clock.
    pub const fn new() -> Self {
        Self {
            last: None,
            step: Duration::ZERO,
        }
    }

    /// Whether a reference was seen.
    pub const fn has_started(&self) -> bool {
        self.last.is_some()
    }

    /// When what carries `pcr` is due, counted from the first reference ever given.
    pub fn due(&mut self, pcr: Pcr) -> Duration {
        let due = match self.last {
            None => Duration::ZERO,
            Some((last, due)) => {
                let step = pcr.since(last);
                if step <= STEP_MAX {
                    self.step = step;
                }
                due + self.step
            }
        };
        self.last = Some((pcr, due));
        due
    }
}

/// Where a piece of media lies in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot<T> {
    /// What was pushed.
    pub item: T,
    /// Time since the first clock reference.
    pub due: Duration,
    /// Whether it is the first piece of a stretch between two clock references.
    pub starts_stretch: bool,
}

/// Spreads pieces evenly, by their bytes, between the clock references around them, constant rate or not.
///
/// Holds back what follows the newest reference until the next one is seen: only then is its rate known. What comes
/// before the first reference is due at once.
#[derive(Clone, Debug)]
pub struct Timeline<T> {
    pacer: Pacer,
    /// Since the newest reference.
    open: VecDeque<(T, usize)>,
    open_bytes: usize,
    open_since: Duration,
    placed: VecDeque<Slot<T>>,
    /// The rate of the last complete stretch.
    rate: Option<(usize, Duration)>,
}

impl<T> Default for Timeline<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Timeline<T> {
    /// Bytes held back for want of a clock reference; more than that leaves at the last rate known.
    ///
    /// 100 ms, the longest distance allowed, of 80 Mbit/s. Ours.
    pub const OPEN_BYTES_MAX: usize = 1 << 20;

    /// An empty timeline.
    pub const fn new() -> Self {
        Self {
            pacer: Pacer::new(),
            open: VecDeque::new(),
            open_bytes: 0,
            open_since: Duration::ZERO,
            placed: VecDeque::new(),
            rate: None,
        }
    }

    /// The next piece of the stream, its size, and its clock reference if it has one.
    pub fn push(&mut self, item: T, bytes: usize, pcr: Option<Pcr>) {
        if let Some(pcr) = pcr {
            let due = self.pacer.due(pcr);
            // What left at a guessed rate may have run ahead.
            let due = due.max(self.open_since);
            if self.open_bytes > 0 && due > self.open_since {
                self.rate = Some((self.open_bytes, due - self.open_since));
            }
            self.place_until(due);
        }
        self.open.push_back((item, bytes));
        self.open_bytes += bytes;
        if self.open_bytes > Self::OPEN_BYTES_MAX || !self.pacer.has_started() {
            self.flush();
        }
    }

    /// Places what is held back at the last rate known: the end of the stream, or a pause in it.
    pub fn flush(&mut self) {
        let guess = match self.rate {
            Some((bytes, span)) => {
                let nanos = span.as_nanos() * self.open_bytes as u128 / bytes.max(1) as u128;
                Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).min(STEP_MAX)
            }
            None => Duration::ZERO,
        };
        self.place_until(self.open_since + guess);
    }

    /// The next piece whose time is known.
    pub fn pop(&mut self) -> Option<Slot<T>> {
        self.placed.pop_front()
    }

    /// Whether nothing is held, placed or not.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty() && self.placed.is_empty()
    }

    /// Whether pieces wait for the next clock reference.
    pub fn is_waiting(&self) -> bool {
        !self.open.is_empty()
    }

    fn place_until(&mut self, end: Duration) {
        let span = (end - self.open_since).as_nanos();
        let total = self.open_bytes.max(1) as u128;
        let mut before = 0_u128;
        let mut starts_stretch = true;
        for (item, bytes) in self.open.drain(..) {
            let nanos = u64::try_from(span * before / total).unwrap_or(u64::MAX);
            self.placed.push_back(Slot {
                item,
                due: self.open_since + Duration::from_nanos(nanos),
                starts_stretch,
            });
            starts_stretch = false;
            before += bytes as u128;
        }
        self.open_bytes = 0;
        self.open_since = end;
    }
}

/// How an [`Anchor`] follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnchorLimits {
    /// How long after becoming known the first piece leaves, and the margin kept later.
    pub lead: Duration,
    /// A piece later than this moves everything after it: no burst to catch up.
    pub late: Duration,
    /// A piece due further ahead than this moves everything nearer: the wait would only add delay.
    pub ahead: Duration,
    /// Whether to win back, slowly, what is early by more than the margin.
    pub follows: bool,
}

impl AnchorLimits {
    /// For a file: exact, and after the machine slept it goes on instead of bursting.
    pub const FILE: Self = Self {
        lead: Duration::ZERO,
        late: Duration::from_millis(500),
        ahead: Duration::from_secs(4),
        follows: false,
    };

    /// For a live stream with this margin.
    pub const fn live(lead: Duration) -> Self {
        Self {
            lead,
            late: Duration::ZERO,
            ahead: Duration::from_millis(500),
            follows: true,
        }
    }
}

/// Ties stream time to a clock.
///
/// A live sender's clock runs a little faster or slower than ours. When pieces come late the anchor moves back at
/// once; when they come earlier than the margin asks for, it creeps forward by a fiftieth of the time that passes.
#[derive(Clone, Copy, Debug)]
pub struct Anchor {
    limits: AnchorLimits,
    /// Microseconds on our clock at stream time zero; may lie before its start.
    origin_us: Option<i128>,
    last_due: Duration,
}

impl Anchor {
    /// An anchor that takes hold at the first piece.
    pub const fn new(limits: AnchorLimits) -> Self {
        Self {
            limits,
            origin_us: None,
            last_due: Duration::ZERO,
        }
    }

    /// When a piece leaves that is due at `due` in stream time and became known `now`.
    ///
    /// The margin is judged at the first piece of a stretch only: the others were held back together with it.
    pub fn at(&mut self, now: Instant, due: Duration, starts_stretch: bool) -> Instant {
        let now_us = i128::from(now.as_micros());
        let due_us = i128::from(micros(due));
        let lead_us = i128::from(micros(self.limits.lead));
        let origin = self.origin_us.get_or_insert(now_us + lead_us - due_us);
        let early = *origin + due_us - now_us;
        if early < -i128::from(micros(self.limits.late)) {
            *origin = now_us - due_us;
        } else if early > i128::from(micros(self.limits.ahead)) {
            *origin = now_us + lead_us - due_us;
        } else if starts_stretch && self.limits.follows {
            let passed = i128::from(micros(due.saturating_sub(self.last_due)));
            *origin -= (early - lead_us).clamp(0, passed / 50);
        }
        if starts_stretch {
            self.last_due = due;
        }
        let at = u64::try_from((*origin + due_us).max(0)).unwrap_or(u64::MAX);
        Instant::from_micros(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 27_000;

    fn due_ms(pcrs: &[u64]) -> Vec<u128> {
        let mut pacer = Pacer::new();
        pcrs.iter()
            .map(|&ticks| pacer.due(Pcr::new(ticks)).as_millis())
            .collect()
    }

    #[test]
    fn time_follows_the_clock_references() {
        assert_eq!(due_ms(&[7 * MS, 47 * MS, 147 * MS]), [0, 40, 140]);
    }

    #[test]
    fn time_crosses_the_wrap_of_the_clock() {
        let start = Pcr::WRAP - 20 * MS;
        assert_eq!(
            due_ms(&[start, start + 20 * MS, start + 60 * MS]),
            [0, 20, 60]
        );
    }

    #[test]
    fn a_break_forward_or_back_costs_one_usual_step() {
        assert_eq!(
            due_ms(&[
                0,
                40 * MS,
                90_000 * MS,
                90_040 * MS,
                5 * MS,
                45 * MS,
                45 * MS
            ]),
            [0, 40, 80, 120, 160, 200, 200]
        );
    }

    fn placed(timeline: &mut Timeline<u32>) -> Vec<(u32, u128)> {
        std::iter::from_fn(|| timeline.pop())
            .map(|slot| (slot.item, slot.due.as_millis()))
            .collect()
    }

    #[test]
    fn pieces_between_two_references_are_spread_by_their_bytes() {
        let mut timeline = Timeline::new();
        timeline.push(1, 100, Some(Pcr::new(0)));
        timeline.push(2, 200, None);
        timeline.push(3, 100, None);
        assert_eq!(placed(&mut timeline), []);
        timeline.push(4, 100, Some(Pcr::new(40 * MS)));
        assert_eq!(placed(&mut timeline), [(1, 0), (2, 10), (3, 30)]);
        // Twice the rate in the next stretch: variable bit rate stays smooth.
        timeline.push(5, 700, None);
        timeline.push(6, 100, Some(Pcr::new(80 * MS)));
        assert_eq!(placed(&mut timeline), [(4, 40), (5, 45)]);
        timeline.flush();
        assert_eq!(placed(&mut timeline), [(6, 80)]);
        assert!(timeline.is_empty());
    }

    #[test]
    fn what_comes_before_the_first_reference_is_due_at_once() {
        let mut timeline = Timeline::new();
        timeline.push(1, 100, None);
        timeline.push(2, 100, None);
        assert_eq!(placed(&mut timeline), [(1, 0), (2, 0)]);
        timeline.push(3, 100, Some(Pcr::new(123 * MS)));
        timeline.push(4, 100, Some(Pcr::new(163 * MS)));
        assert_eq!(placed(&mut timeline), [(3, 0)]);
    }

    #[test]
    fn when_references_stop_at_most_a_megabyte_is_held() {
        let mut timeline = Timeline::new();
        for item in 0..2000 {
            timeline.push(item, 1316, (item == 0).then_some(Pcr::new(0)));
            assert!(timeline.open_bytes <= Timeline::<u32>::OPEN_BYTES_MAX);
        }
        assert!(placed(&mut timeline).iter().all(|&(_, due)| due == 0));
    }

    #[test]
    fn the_tail_leaves_at_the_last_rate() {
        let mut timeline = Timeline::new();
        timeline.push(1, 1000, Some(Pcr::new(0)));
        timeline.push(2, 500, Some(Pcr::new(40 * MS)));
        timeline.push(3, 500, None);
        timeline.flush();
        assert_eq!(placed(&mut timeline), [(1, 0), (2, 40), (3, 60)]);
    }

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1000)
    }

    #[test]
    fn a_file_that_was_suspended_goes_on_without_a_burst() {
        let mut anchor = Anchor::new(AnchorLimits::FILE);
        let due = Duration::from_millis;
        assert_eq!(anchor.at(at(100), due(0), true), at(100));
        assert_eq!(anchor.at(at(120), due(40), true), at(140));
        // A little late is caught up, a lot is not.
        assert_eq!(anchor.at(at(300), due(80), true), at(180));
        assert_eq!(anchor.at(at(9000), due(120), true), at(9000));
        assert_eq!(anchor.at(at(9000), due(160), true), at(9040));
    }

    #[test]
    fn a_live_stream_keeps_its_margin_and_follows_the_sender() {
        let due = Duration::from_millis;
        let mut anchor = Anchor::new(AnchorLimits::live(due(20)));
        assert_eq!(anchor.at(at(1000), due(0), true), at(1020));
        // 30 ms late: everything after it moves by the 10 ms that the margin did not cover.
        assert_eq!(anchor.at(at(1130), due(100), true), at(1130));
        // Early by more than the margin: a fiftieth of the stretch is won back.
        assert_eq!(
            anchor.at(at(1200), due(200), true),
            Instant::from_micros(1_228_000)
        );
        // A queue of a second is not kept.
        assert_eq!(anchor.at(at(1300), due(1300), true), at(1320));
    }
}
