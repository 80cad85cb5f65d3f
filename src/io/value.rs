//! Values a person types, wherever they stand (options, variables, files, parameters of an address): what was wrong with
//! one in a line, and the parser of numbers with units.
//!
//! A bare number is refused wherever a unit matters: the tools next door count the same option in milliseconds,
//! microseconds, bytes or kilobits, and a guess would be wrong half the time.

mod quantity;

use std::fmt;

pub use quantity::{DurationValue, Percent, Rate, Size, bytes, count, duration};

/// Longest value that an error line shows, in characters.
const SHOWN_CHARACTERS_MAX: usize = 80;
/// Longest part of a value that is shown beside the value itself.
const PART_CHARACTERS_MAX: usize = 24;

/// Why a text is no value of the wanted kind. Displays as the last part of an error line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// Nothing at all.
    #[error("empty, for example {example}")]
    Empty {
        /// A value that would do.
        example: &'static str,
    },
    /// Does not begin with a number.
    #[error("not a number, for example {example}")]
    NotNumber {
        /// A value that would do.
        example: &'static str,
    },
    /// A number without its unit.
    #[error("unit missing, for example {example}")]
    UnitMissing {
        /// A value that would do.
        example: &'static str,
    },
    /// A unit of nothing we measure here.
    #[error("unknown unit {unit}, for example {example}")]
    UnitUnknown {
        /// What followed the number.
        unit: Shown,
        /// A value that would do.
        example: &'static str,
    },
    /// Outside what the option allows.
    #[error("must be {low} to {high}")]
    OutOfRange {
        /// Smallest value allowed, in the option's own form.
        low: String,
        /// Largest value allowed, in the option's own form.
        high: String,
    },
    /// The number after the colon does not fit a port.
    #[error("port above 65535")]
    PortAboveMax,
    /// Port 0 where a port of somebody else is meant.
    #[error("port 0 cannot be reached")]
    PortZero,
    /// What follows the colon is no number.
    #[error("port is not a number")]
    PortNotNumber,
    /// An IPv6 address whose colons cannot be told from the port's.
    #[error("put an IPv6 address in brackets, for example [::1]:7850")]
    Brackets,
    /// No address and port.
    #[error("need ADDR:PORT, for example {example}")]
    NeedAddressPort {
        /// A value that would do.
        example: &'static str,
    },
    /// A host name where only an address of this machine can stand.
    #[error("need an IP address, for example {example}")]
    NeedAddress {
        /// A value that would do.
        example: &'static str,
    },
    /// A host that is neither an address nor a name.
    #[error("bad host name {host}")]
    BadHost {
        /// The host as given.
        host: Shown,
    },
    /// Not a place where a tracker could be.
    #[error("need http, https or host:port")]
    TrackerScheme,
    /// A character that does not belong there.
    #[error("character {position} is not one of A-Z a-z 0-9 . _ -")]
    NameCharacter {
        /// Position of the character, from 1.
        position: usize,
    },
    /// Longer than allowed.
    #[error("{found} characters, limit {limit}")]
    TooLong {
        /// Characters found.
        found: usize,
        /// Characters allowed.
        limit: usize,
    },
    /// A list with more entries than allowed.
    #[error("{found} {what}, limit {limit}")]
    TooMany {
        /// What is listed.
        what: &'static str,
        /// Entries found.
        found: usize,
        /// Entries allowed.
        limit: usize,
    },
    /// A part of an address that must be there is not.
    #[error("no {part}")]
    Missing {
        /// The part.
        part: &'static str,
    },
    /// A parameter after `?` that this kind of address does not have.
    #[error("unknown parameter {name}{}", did_you_mean(.nearest))]
    UnknownParameter {
        /// The parameter as given.
        name: Shown,
        /// The known one most like it.
        nearest: Option<&'static str>,
    },
    /// A parameter after `?` whose value is wrong.
    #[error("{name}: {why}")]
    Parameter {
        /// The parameter.
        name: &'static str,
        /// What is wrong with its value.
        why: Box<Self>,
    },
    /// One word of a few.
    #[error("need {words}")]
    NeedOneOf {
        /// The words.
        words: &'static str,
    },
}

/// An ending for an error line: nothing, or the nearest thing that would have been known.
fn did_you_mean(nearest: &Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |word| format!(": did you mean {word}?"))
}

/// A text of a person or a remote, in the form error lines show it: quoted, non-printables escaped, cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown(String);

impl Shown {
    /// The first 80 characters of `text`, safe for a terminal.
    pub fn new(text: &str) -> Self {
        Self::cut(text, SHOWN_CHARACTERS_MAX)
    }

    /// The first 24 characters of a part of a value: the line shows the value already.
    pub fn part(text: &str) -> Self {
        Self::cut(text, PART_CHARACTERS_MAX)
    }

    fn cut(text: &str, characters_max: usize) -> Self {
        let mut out = String::from("\"");
        let mut room = characters_max;
        for character in text.chars() {
            let escaped = escape(character);
            let length = escaped.chars().count();
            if length > room {
                out.push('…');
                break;
            }
            room -= length;
            out.push_str(&escaped);
        }
        out.push('"');
        Self(out)
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One character as a terminal may have it.
fn escape(character: char) -> String {
    match character {
        '\'' => "'".to_owned(),
        _ => character.escape_debug().to_string(),
    }
}

/// A whole line as a terminal may have it: one line, nothing that moves the cursor.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' | '\\' => out.push(character),
            _ => out.push_str(&escape(character)),
        }
    }
    out
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
    fn shown_values_are_escaped_and_cut() {
        assert_eq!(
            Shown::new("a\"b\n\u{1b}[2J").to_string(),
            r#""a\"b\n\u{1b}[2J""#
        );
        assert_eq!(Shown::new("it's é").to_string(), "\"it's é\"");
        assert_eq!(Shown::new("\u{202e}x").to_string(), r#""\u{202e}x""#);
        let long = Shown::new(&"x".repeat(1 << 20)).to_string();
        assert_eq!(long, format!("\"{}…\"", "x".repeat(80)));
        assert_eq!(printable("a \"b\"\r\n"), r#"a "b"\r\n"#);
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
}
