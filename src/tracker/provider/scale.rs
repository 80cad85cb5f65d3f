//! When the provider wants more servers, or fewer (CS-P2P: it watches the table of qualities).

use std::time::Duration;

use super::tariff::ScaleRule;
use crate::time::Instant;

/// What servers and users look like now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Upload in use of all servers, divided by what they have; none without servers whose upload is known.
    pub load: Option<f64>,
    /// Servers.
    pub servers: usize,
    /// Share of paying users outside the bounds of their packet.
    pub outside: f64,
}

/// A wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// So many servers more.
    Up(u64),
    /// So many servers less.
    Down(u64),
}

impl Signal {
    /// The word for it.
    pub const fn op(self) -> &'static str {
        match self {
            Self::Up(_) => "scale_up",
            Self::Down(_) => "scale_down",
        }
    }

    /// How many.
    pub const fn count(self) -> u64 {
        match self {
            Self::Up(count) | Self::Down(count) => count,
        }
    }
}

/// How long a wish is given to come true before it is uttered again.
const PATIENCE: Duration = Duration::from_secs(60);

/// Load that servers are to have after scaling up.
const COMFORTABLE: f64 = 0.6;

/// Watches the load and utters wishes, each once.
#[derive(Clone, Debug, Default)]
pub struct Scale {
    high_since: Option<Instant>,
    low_since: Option<Instant>,
    quiet_until: Option<Instant>,
}

impl Scale {
    /// Looks at the load of now; to be called about once a second.
    pub fn on_load(&mut self, now: Instant, rule: &ScaleRule, load: Load) -> Option<Signal> {
        let is_high = load.load.is_some_and(|load| load > rule.high) || load.outside > rule.outside;
        let is_low = load.load.is_some_and(|load| load < rule.low) && load.servers > 1 && !is_high;
        note(&mut self.high_since, now, is_high);
        note(&mut self.low_since, now, is_low);
        if self.quiet_until.is_some_and(|until| now < until) {
            return None;
        }
        let lasts = |since: Option<Instant>, seconds| {
            since.is_some_and(|since| now - since >= Duration::from_secs(seconds))
        };
        let signal = if lasts(self.high_since, rule.high_s) {
            let wanted = (load.load.unwrap_or(0.0) - COMFORTABLE) * load.servers as f64;
            Signal::Up((wanted.ceil().max(1.0)) as u64)
        } else if lasts(self.low_since, rule.low_s) {
            Signal::Down(1)
        } else {
            return None;
        };
        self.quiet_until = Some(now + PATIENCE);
        self.low_since = None;
        Some(signal)
    }
}

fn note(since: &mut Option<Instant>, now: Instant, holds: bool) {
    *since = holds.then(|| since.unwrap_or(now));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Signals over so many seconds, each with the second it came in.
    fn signals(loads: impl Fn(u64) -> Load, seconds: u64) -> Vec<(u64, Signal)> {
        let mut scale = Scale::default();
        let rule = ScaleRule::default();
        (0..seconds)
            .filter_map(|second| {
                let now = Instant::from_micros(second * 1_000_000);
                let signal = scale.on_load(now, &rule, loads(second))?;
                Some((second, signal))
            })
            .collect()
    }

    #[test]
    fn t_csp_6_a_load_step_is_told_once_within_twelve_seconds() {
        let step = |second: u64| Load {
            load: Some(if second < 5 { 0.5 } else { 0.9 }),
            servers: 4,
            outside: 0.0,
        };
        assert_eq!(signals(step, 60), [(15, Signal::Up(2))]);
        // A peak that is shorter is none.
        let peak = |second: u64| Load {
            load: Some(if second.is_multiple_of(9) { 0.5 } else { 0.9 }),
            servers: 4,
            outside: 0.0,
        };
        assert_eq!(signals(peak, 100), []);
    }

    #[test]
    fn users_outside_their_packet_count_as_load() {
        let outside = |_| Load {
            load: Some(0.5),
            servers: 1,
            outside: 0.06,
        };
        assert_eq!(signals(outside, 30), [(10, Signal::Up(1))]);
    }

    #[test]
    fn idle_servers_go_one_by_one_and_the_last_one_stays() {
        let idle = |servers| {
            move |_| Load {
                load: Some(0.1),
                servers,
                outside: 0.0,
            }
        };
        let down = signals(idle(3), 700);
        assert_eq!(down.first(), Some(&(300, Signal::Down(1))));
        assert_eq!(down.len(), 2);
        assert_eq!(signals(idle(1), 700), []);
    }

    #[test]
    fn a_wish_that_stays_open_is_repeated_after_a_minute() {
        let high = |_| Load {
            load: Some(0.95),
            servers: 10,
            outside: 0.0,
        };
        let told: Vec<u64> = signals(high, 140).into_iter().map(|(at, _)| at).collect();
        assert_eq!(told, [10, 70, 130]);
    }
}
