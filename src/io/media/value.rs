//! Values with units as people write them, and what they may have meant.

use std::fmt;
use std::time::Duration;

/// A text for an error line: quoted, escaped, cut at 80 characters.
pub fn quoted(text: &str) -> impl fmt::Display + '_ {
    struct Quoted<'a>(&'a str);
    impl fmt::Display for Quoted<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            const SHOWN: usize = 80;
            let cut = self.0.char_indices().nth(SHOWN);
            let shown = cut.and_then(|(at, _)| self.0.get(..at)).unwrap_or(self.0);
            write!(
                f,
                "\"{}{}\"",
                shown.escape_debug(),
                if cut.is_some() { "…" } else { "" }
            )
        }
    }
    Quoted(text)
}

/// Why a text is no value; the words after the value in an error line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// A bare number: other tools read it as milliseconds, microseconds, bytes or kilobits.
    #[error("unit missing, for example {example}")]
    UnitMissing {
        /// A value that would do.
        example: &'static str,
    },
    /// Not the form asked for.
    #[error("need {need}")]
    Form {
        /// What would do.
        need: &'static str,
    },
}

/// A duration with its unit: `250ms`, `1s`, `2min`.
///
/// # Errors
///
/// [`ValueError`] for a bare number (0 included) and for anything else that is no duration.
pub fn parse_duration(text: &str) -> Result<Duration, ValueError> {
    let example = "250ms";
    if is_bare_number(text) {
        return Err(ValueError::UnitMissing { example });
    }
    humantime::parse_duration(text).map_err(|_| ValueError::Form {
        need: "a duration, for example 250ms",
    })
}

/// Bits a second: `800kbit`, `8Mbit`, `1.5Gbit`; also with `/s` or `ps` at the end.
///
/// # Errors
///
/// [`ValueError`] for a bare number and for anything else that is no rate above zero.
pub fn parse_rate(text: &str) -> Result<u64, ValueError> {
    if is_bare_number(text) {
        return Err(ValueError::UnitMissing { example: "8Mbit" });
    }
    const UNITS: [(&str, f64); 4] = [("bit", 1.0), ("kbit", 1e3), ("Mbit", 1e6), ("Gbit", 1e9)];
    let form = ValueError::Form {
        need: "a rate, for example 8Mbit",
    };
    let plain = text
        .strip_suffix("/s")
        .or_else(|| text.strip_suffix("ps"))
        .unwrap_or(text);
    scaled(plain, &UNITS)
        .filter(|&bits| (1.0..=1e12).contains(&bits))
        .map(|bits| bits.round() as u64)
        .ok_or(form)
}

/// Bytes: `1316`, `64KiB`, `2MB`. Bytes are the unit everybody means, so a bare number is one.
///
/// # Errors
///
/// [`ValueError`] for anything that is no size.
pub fn parse_size(text: &str) -> Result<u64, ValueError> {
    const UNITS: [(&str, f64); 9] = [
        ("", 1.0),
        ("B", 1.0),
        ("kB", 1e3),
        ("KiB", 1024.0),
        ("MB", 1e6),
        ("MiB", 1_048_576.0),
        ("GB", 1e9),
        ("GiB", 1_073_741_824.0),
        ("TiB", 1_099_511_627_776.0),
    ];
    scaled(text, &UNITS)
        .filter(|&bytes| (0.0..=9e15).contains(&bytes) && bytes.fract() == 0.0)
        .map(|bytes| bytes as u64)
        .ok_or(ValueError::Form {
            need: "a size, for example 64KiB",
        })
}

/// A number followed by one of the units, case apart.
fn scaled(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let factor = units
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(unit.trim()))?
        .1;
    number.parse::<f64>().ok().map(|number| number * factor)
}

fn is_bare_number(text: &str) -> bool {
    !text.is_empty() && text.parse::<f64>().is_ok()
}

/// The duration in its largest exact unit, as [`parse_duration`] reads it.
pub(super) fn exact_duration(span: Duration) -> String {
    let nanos = span.as_nanos();
    [(1_000_000_000, "s"), (1_000_000, "ms"), (1000, "us")]
        .into_iter()
        .find(|(unit, _)| nanos.is_multiple_of(*unit))
        .map_or_else(
            || format!("{nanos}ns"),
            |(unit, name)| format!("{}{name}", nanos / unit),
        )
}

/// The rate in its largest exact unit, as [`parse_rate`] reads it.
pub(super) fn exact_rate(bits: u64) -> String {
    [(1_000_000_000, "Gbit"), (1_000_000, "Mbit"), (1000, "kbit")]
        .into_iter()
        .find(|(unit, _)| bits.is_multiple_of(*unit))
        .map_or_else(
            || format!("{bits}bit"),
            |(unit, name)| format!("{}{name}", bits / unit),
        )
}

/// The candidate that `word` was probably meant to be: at most a third of its letters (at least two) apart.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// Longer words are not mistyped, they are something else; keeps the comparison small.
    const LETTERS_MAX: usize = 40;
    let letters: Vec<char> = word.chars().take(LETTERS_MAX + 1).collect();
    if letters.len() > LETTERS_MAX {
        return None;
    }
    candidates
        .into_iter()
        .map(|candidate| (distance(&letters, candidate), candidate))
        .filter(|&(distance, candidate)| distance <= (candidate.len() / 3).max(2))
        .filter(|&(distance, candidate)| distance < candidate.len().max(letters.len()))
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// Letters to insert, remove, change or swap with their neighbour.
fn distance(word: &[char], other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut rows = vec![(0..=other.len()).collect::<Vec<usize>>()];
    for (i, &a) in word.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &b) in other.iter().enumerate() {
            let mut best = (rows[i][j] + usize::from(!a.eq_ignore_ascii_case(&b)))
                .min(rows[i][j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && a == other[j - 1] && b == word[i - 1] {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[word.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("2min"), Ok(Duration::from_secs(120)));
        let missing = ValueError::UnitMissing { example: "250ms" };
        assert_eq!(parse_duration("5"), Err(missing));
        assert_eq!(parse_duration("0"), Err(missing));
        assert_eq!(parse_duration("-1.5"), Err(missing));
        assert!(parse_duration("soon").is_err() && parse_duration("").is_err());
    }

    #[test]
    fn rates_are_bits_with_a_unit() {
        assert_eq!(parse_rate("8Mbit"), Ok(8_000_000));
        assert_eq!(parse_rate("1.5gbit/s"), Ok(1_500_000_000));
        assert_eq!(parse_rate("800kbps").ok(), None);
        assert_eq!(parse_rate("800kbitps"), Ok(800_000));
        assert_eq!(
            parse_rate("8"),
            Err(ValueError::UnitMissing { example: "8Mbit" })
        );
        for bad in ["0bit", "-1Mbit", "1e400Mbit", "", "Mbit", "8MB"] {
            assert!(parse_rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_bytes() {
        assert_eq!(parse_size("1316"), Ok(1316));
        assert_eq!(parse_size("64KiB"), Ok(65536));
        assert_eq!(parse_size("1.5MiB"), Ok(1_572_864));
        assert!(
            ["", "-1", "1.5", "64Kibit", "é"]
                .iter()
                .all(|text| parse_size(text).is_err())
        );
    }

    #[test]
    fn values_print_in_their_largest_exact_unit() {
        assert_eq!(exact_duration(Duration::from_millis(1500)), "1500ms");
        assert_eq!(exact_duration(Duration::from_secs(2)), "2s");
        assert_eq!(exact_rate(8_000_000), "8Mbit");
        assert_eq!(exact_rate(1), "1bit");
    }

    #[test]
    fn the_nearest_word_is_offered() {
        let words = ["ttl", "pkt_size", "iface", "timeout"];
        assert_eq!(nearest("pktsize", words), Some("pkt_size"));
        assert_eq!(nearest("tll", words), Some("ttl"));
        assert_eq!(nearest("timoeut", words), Some("timeout"));
        assert_eq!(nearest("colour", words), None);
        assert_eq!(nearest(&"x".repeat(1 << 20), words), None);
    }

    #[test]
    fn long_and_wild_texts_are_cut_and_escaped() {
        assert_eq!(quoted("a\n\u{1b}").to_string(), "\"a\\n\\u{1b}\"");
        assert_eq!(quoted(&"é".repeat(100)).to_string().chars().count(), 83);
    }
}
