//! Lists of keys: who is let in without a ticket.
//!
//! One key a line, the rest of the line is for people, and so is all behind `#`. A key is written as 64 hexadecimal
//! digits, or with the `0f` in front that a channel id has.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::value::Shown;
use crate::ids::PeerKey;

/// Largest list read, in bytes.
const LIST_BYTES_MAX: u64 = 16 << 20;
/// In front of an Ed25519 key in a channel id.
const ED25519: &str = "0f";

/// Reads a list of keys.
///
/// # Errors
///
/// What completes "cannot read FILE: …".
pub fn read(path: &Path) -> Result<BTreeSet<PeerKey>, String> {
    let metadata = fs::metadata(path).map_err(|error| reason(&error))?;
    if metadata.is_dir() {
        return Err("is a directory".to_owned());
    }
    if metadata.len() > LIST_BYTES_MAX {
        return Err(format!("over {LIST_BYTES_MAX} bytes"));
    }
    let text = fs::read_to_string(path).map_err(|error| reason(&error))?;
    parse(&text)
}

fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file".to_owned(),
        std::io::ErrorKind::InvalidData => "it is not text".to_owned(),
        _ => error.to_string().to_lowercase(),
    }
}

fn parse(text: &str) -> Result<BTreeSet<PeerKey>, String> {
    let mut keys = BTreeSet::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        let Some(word) = line.split_ascii_whitespace().next() else {
            continue;
        };
        let key = word
            .strip_prefix(ED25519)
            .filter(|rest| rest.len() == 2 * PeerKey::LEN)
            .unwrap_or(word);
        let key = key
            .parse()
            .map_err(|why| format!("line {}: bad key {}: {why}", at + 1, Shown::new(word)))?;
        keys.insert(key);
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_in_both_forms_and_mistakes_have_a_line() {
        let (a, b) = ("a1".repeat(32), "b2".repeat(32));
        let text = format!("# friends\n\n{a} anna\n  0f{b}   # bert\n{a}\n");
        let keys: Vec<String> = parse(&text)
            .expect("a list")
            .iter()
            .map(PeerKey::to_string)
            .collect();
        assert_eq!(keys, [a.clone(), b]);
        assert_eq!(parse(""), Ok(BTreeSet::new()));
        let wrong = parse(&format!("{a}\nzz\n")).expect_err("no key");
        assert!(wrong.starts_with("line 2: bad key"), "{wrong}");
        assert!(wrong.ends_with("not hexadecimal at character 1"), "{wrong}");
        let short = parse("0f00").expect_err("too short");
        assert!(short.ends_with("2 bytes, need 32"), "{short}");
    }
}
