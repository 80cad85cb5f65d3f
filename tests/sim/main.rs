//! Swarms in virtual time. `SEED=n` replays one world, `SEEDS=n` tries so many.

mod nodes;
mod placement;
mod requirements;
mod toy;
mod toys;

use std::ops::Range;

/// The seeds to try: the one of `SEED`, the first `SEEDS`, or the first `usual`.
fn seeds(usual: u64) -> Range<u64> {
    match (number("SEED"), number("SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, Some(count)) => 0..count,
        (None, None) => 0..usual,
    }
}

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("bad {name} \"{text}\": not a number")))
}
