//! Variants of good and bad command lines, drawn from a seed: cut, doubled, other case, look-alikes, control
//! characters, a mebibyte.

use std::ffi::OsString;

use p2ps::cli::exit::Exit;
use p2ps::cli::value::{Ticket, Token};
use p2ps::cli::{self, Tool, peer, relay, source, tracker};
use p2ps::rng::{Rng, Seed};

/// Variants of each line.
const VARIANTS: usize = 1000;

/// Characters that people paste without seeing them.
const STRANGE: [char; 16] = [
    '\u{0}',
    '\n',
    '\r',
    '\t',
    '\u{1b}',
    '\u{7f}',
    '"',
    '\\',
    '\u{a0}',
    '\u{200b}',
    '\u{202e}',
    'а',
    '–',
    '．',
    '٣',
    '\u{10ffff}',
];

/// One change of a text.
fn change(text: &str, rng: &mut Rng) -> String {
    let characters: Vec<char> = text.chars().collect();
    let at = rng.below(characters.len() as u64 + 1) as usize;
    let (before, after) = characters.split_at(at);
    let join = |parts: &[&[char]]| parts.concat().into_iter().collect::<String>();
    let strange = [STRANGE[rng.below(STRANGE.len() as u64) as usize]];
    match rng.below(9) {
        0 => join(&[before]),
        1 => join(&[after]),
        2 => join(&[before, before, after]),
        3 => text.to_ascii_uppercase(),
        4 => text.to_ascii_lowercase(),
        5 => join(&[before, &strange, after]),
        6 => join(&[before, after.get(1..).unwrap_or_default()]),
        7 => join(&[before, &['9'; 30], after]),
        _ => text.repeat(1 + rng.below(4) as usize),
    }
}

/// Checks 1000 variants of a command line: taken, or refused in one line of at most 200 characters with exit 2.
fn vary<T: Tool>(line: &str, seed: u64) {
    let mut rng = Rng::new(Seed::from_number(seed));
    let words: Vec<&str> = line.split_whitespace().collect();
    for index in 0..VARIANTS {
        let chosen = rng.below(words.len() as u64) as usize;
        let arguments: Vec<OsString> = std::iter::once(T::NAME.to_owned())
            .chain(words.iter().enumerate().map(|(position, word)| {
                if position != chosen {
                    (*word).to_owned()
                } else if index == 0 {
                    // The kernel takes 128 KiB an argument; clap's search for a like option takes its time.
                    let longest = if word.starts_with('-') {
                        1 << 14
                    } else {
                        1 << 20
                    };
                    word.repeat(longest / word.len())
                } else {
                    let changed = change(word, &mut rng);
                    if rng.chance(0.3) {
                        change(&changed, &mut rng)
                    } else {
                        changed
                    }
                }
            }))
            .map(OsString::from)
            .collect();
        let home = |name: &str| (name == "HOME").then(|| OsString::from("/nonexistent"));
        if let Err(error) = cli::check::<T>(&arguments, &home) {
            let shown = format!("{}: {error}", T::NAME);
            let length = shown.chars().count();
            assert!(length <= 200, "{length}: {shown}");
            assert!(!shown.chars().any(char::is_control), "{shown:?}");
            assert!(!shown.ends_with(['.', ':', ' ']), "{shown}");
            assert_eq!(error.exit, Exit::Usage, "{shown}");
        }
    }
}

const ID: &str = "0f974d96a22d224bc01adb915091477d44ccd91c9a41a11430010117d52c59240e";

#[test]
fn variants_of_addresses() {
    let ticket = Ticket {
        channel: ID.parse().unwrap(),
        trackers: vec!["t1".parse().unwrap()],
        relays: vec!["10.0.0.1:9".parse().unwrap()],
        token: Token::new(b"secret".to_vec()),
    };
    for (seed, line) in [
        "p2ps://zz@host".to_owned(),
        format!("p2ps://{ID}@relay1:7850,[::1]:9?latency=250ms&from=oldest"),
        "p2ps://t1:7851,t2/film?timeout=5s&window=1min&buffer=1s".to_owned(),
        ticket.to_string(),
        "--channel film --tracker https://t1:443/p2ps --parent relay1:7850".to_owned(),
        "--tracker ftp://x".to_owned(),
    ]
    .iter()
    .enumerate()
    {
        vary::<peer::Args>(line, seed as u64);
    }
}

#[test]
fn variants_of_quantities() {
    for (seed, line) in [
        "p2ps://t1/film --latency 10h --window 60s --timeout 5s",
        "p2ps://t1/film --no-upload --upload-limit 8Mbit",
        "p2ps://t1/film -o a.ts --rotate 100MB --on-end wait --overwrite",
        "p2ps://t1/film --ready-fd 3 --seed 7 --log-level debug --log-format json",
    ]
    .into_iter()
    .enumerate()
    {
        vary::<peer::Args>(line, 10 + seed as u64);
    }
    vary::<source::Args>("--channel film --upload-limit -1Mbit --sign-delay 20ms", 20);
    vary::<source::Args>(
        "--channel film --chunk-packets 8 --pace pcr --title Film",
        21,
    );
}

#[test]
fn variants_of_places() {
    for (seed, line) in [
        "p2ps://t1/film --listen 1.2.3.4:99999",
        "p2ps://t1/film --listen [::1]:7850 --bind-dev eth0 -6",
        "p2ps://t1/film --stats fd:3 --stats udp://127.0.0.1:9 --stats-interval 1s",
    ]
    .into_iter()
    .enumerate()
    {
        vary::<peer::Args>(line, 30 + seed as u64);
    }
    vary::<relay::Args>("--parnet relay1 --channel film", 40);
    vary::<relay::Args>("p2ps://t1/film --max-children 500 --from live -vv", 41);
    vary::<source::Args>("ticket --key k --relay r1 --tracker t1 --uri", 42);
    vary::<source::Args>("keygen --algorithm p256 -o k", 43);
    vary::<tracker::Args>("--listen 127.0.0.1:7851 --metrics 127.0.0.1:9100", 44);
}
