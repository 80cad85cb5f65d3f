//! The house rules that a program can check: which layer knows which, and what is not written below `io`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The layers of src/lib.rs, lowest first. A module knows those of lower layers, and none beside it.
const LAYERS: &[&[&str]] = &[
    &["time", "rng", "ids"],
    &["chunk"],
    &["wire"],
    &[
        "integrity",
        "seal",
        "fec",
        "store",
        "media",
        "qos",
        "stats",
        "model",
    ],
    &["peer", "schedule", "overlay", "tracker", "preset"],
    &["node"],
    &["io", "sim"],
    &["cli"],
];

/// Neighbours within a layer of which one stands on the other.
const WITHIN: &[(&str, &str, &str)] = &[
    ("ids", "rng", "new identifiers are drawn"),
    (
        "stats",
        "qos",
        "records carry what the meters of qos measured",
    ),
    (
        "store",
        "integrity",
        "the window keeps chunks as they were proven, and their trees",
    ),
];

/// Modules of layers that may touch the world: sockets, files, clocks, output.
const SHELL: &[&str] = &["io", "cli", "bin"];

/// What stops at the shell.
const WORLDLY: &[&str] = &[
    "SystemTime",
    "std::time::Instant",
    "std::fs",
    "std::env",
    "std::thread",
    "std::process",
    "tokio",
    "socket2",
    "quinn_udp",
    "UdpSocket",
    "TcpStream",
    "TcpListener",
    "println!",
    "print!",
    "dbg!",
    "thread_rng",
];

/// Below the shell, maps in random order: only where nobody walks through them.
const LOOKED_UP_ONLY: &[(&str, &str)] = &[(
    "src/node/channels.rs",
    "channels by their identifier; its hasher has no random keys",
)];

/// Lines a file has at most; past that it holds two ideas.
const LINES_MAX: usize = 600;

/// Lines a file of tests has at most: tables are long.
const TEST_LINES_MAX: usize = 1000;

/// Reasons for which a test may be left to those who ask for it: it shows something, and proves nothing.
const TOOLS: &[&str] = &["a tool", "a measurement"];

/// One source file.
struct Source {
    /// From the top of the repository.
    path: String,
    text: String,
}

impl Source {
    /// The module of the library that it belongs to; `bin` for a program.
    fn module(&self) -> &str {
        let inside = self.path.strip_prefix("src/").unwrap_or(&self.path);
        inside
            .split('/')
            .next()
            .unwrap_or(inside)
            .trim_end_matches(".rs")
    }

    fn is_test(&self) -> bool {
        self.path.contains("/tests")
    }

    /// Number and text of each line, without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(at, line)| {
            let comment = line
                .find("// ")
                .or_else(|| line.find("///"))
                .or_else(|| line.find("//!"));
            (
                at + 1,
                comment.map_or(line, |at| line.get(..at).unwrap_or(line)),
            )
        })
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below a folder whose names end in `suffix`, in order.
fn files(folder: &str, suffix: &str) -> Vec<Source> {
    fn walk(folder: &Path, found: &mut BTreeSet<PathBuf>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
                walk(&path, found);
            } else if path.is_file() {
                found.insert(path);
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(&root().join(folder), &mut found);
    found
        .into_iter()
        .filter(|path| path.to_string_lossy().ends_with(suffix))
        .filter_map(|path| {
            let name = path
                .strip_prefix(root())
                .ok()?
                .to_string_lossy()
                .into_owned();
            Some(Source {
                path: name,
                text: fs::read_to_string(&path).ok()?,
            })
        })
        .collect()
}

fn library() -> Vec<Source> {
    let mut sources = files("src", ".rs");
    assert!(sources.len() > 50, "the sources are not where they were");
    sources.retain(|source| source.path != "src/lib.rs");
    sources
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// The modules that a line names after `crate::`.
fn named_modules(line: &str) -> Vec<&str> {
    let word = |text: &str| {
        text.find(|char: char| !char.is_alphanumeric() && char != '_')
            .unwrap_or(text.len())
    };
    let mut modules = Vec::new();
    for (at, _) in line.match_indices("crate::") {
        // `pub(in crate::node)` grants, it does not import; `$crate::` does.
        let rest = &line[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            for part in group.split_inclusive([',', '{', '}']) {
                let name = part.trim_start();
                if depth == 0 && !name.is_empty() {
                    modules.push(&name[..word(name)]);
                }
                depth += part.matches('{').count();
                depth = depth.saturating_sub(part.matches('}').count());
            }
        } else {
            modules.push(&rest[..word(rest)]);
        }
    }
    modules.retain(|module| !module.is_empty());
    modules
}

/// Fails with the whole list, one fault a line.
fn expect_none(what: &str, faults: &[String]) {
    assert!(faults.is_empty(), "{what}:\n  {}", faults.join("\n  "));
}

#[test]
fn modules_named_in_imports() {
    let table: &[(&str, &[&str])] = &[
        ("use crate::wire::{Digest, Format};", &["wire"]),
        ("use crate::{ids, time::Instant};", &["ids", "time"]),
        (
            "use crate::{chunk::{ChunkIndex, Bin}, qos};",
            &["chunk", "qos"],
        ),
        ("fn f(now: crate::time::Instant) {", &["time"]),
        ("use super::time;", &[]),
    ];
    for (line, modules) in table {
        assert_eq!(named_modules(line), *modules, "{line}");
    }
}

#[test]
fn imports_point_one_way() {
    let mut faults = Vec::new();
    for source in library() {
        let own = source.module();
        if own == "bin" {
            for (number, line) in source.code() {
                let at = line.find("p2ps::").map(|at| &line[at + "p2ps::".len()..]);
                if at.is_some_and(|rest| !rest.starts_with("cli")) {
                    faults.push(format!(
                        "{}:{number}: a program starts cli and nothing else",
                        source.path
                    ));
                }
            }
            continue;
        }
        let Some(height) = layer(own) else {
            faults.push(format!(
                "{}: module {own} stands in no layer of tests/tidy.rs",
                source.path
            ));
            continue;
        };
        for (number, line) in source.code() {
            for module in named_modules(line) {
                let allowed = module == own
                    || layer(module).is_some_and(|other| other < height)
                    || WITHIN
                        .iter()
                        .any(|(from, to, _)| (*from, *to) == (own, module))
                    // Macros and items of the crate's root have no layer.
                    || (layer(module).is_none() && !root().join("src").join(module).exists());
                if !allowed {
                    faults.push(format!(
                        "{}:{number}: {own} must not know {module}",
                        source.path
                    ));
                }
            }
        }
    }
    expect_none("imports that point up or sideways", &faults);
}

#[test]
fn the_core_touches_no_world() {
    let mut faults = Vec::new();
    for source in library() {
        if SHELL.contains(&source.module()) {
            continue;
        }
        for (number, line) in source.code() {
            let line = line.trim_start();
            let clock = line.contains("std::time::{") && line.contains("Instant");
            let word = WORLDLY.iter().find(|word| line.contains(**word)).copied();
            if let Some(word) = word.or_else(|| clock.then_some("std::time::Instant")) {
                faults.push(format!("{}:{number}: {word}", source.path));
            }
            let random = line.contains("HashMap") || line.contains("HashSet");
            if random && !LOOKED_UP_ONLY.iter().any(|(path, _)| *path == source.path) {
                faults.push(format!(
                    "{}:{number}: a map in random order; BTreeMap, or name it in LOOKED_UP_ONLY",
                    source.path
                ));
            }
        }
    }
    expect_none("what belongs into io or cli", &faults);
}

#[test]
fn files_are_short() {
    let mut faults = Vec::new();
    for source in library() {
        let lines = source.text.lines().count();
        let most = if source.is_test() {
            TEST_LINES_MAX
        } else {
            LINES_MAX
        };
        if lines > most {
            faults.push(format!(
                "{}: {lines} lines, more than {most}; which two ideas does it hold?",
                source.path
            ));
        }
        if source.module() == "bin" && lines > 15 {
            faults.push(format!(
                "{}: {lines} lines; a program only starts cli",
                source.path
            ));
        }
    }
    expect_none("long files", &faults);
}

#[test]
fn exceptions_name_files_that_exist() {
    let gone: Vec<String> = LOOKED_UP_ONLY
        .iter()
        .filter(|(path, _)| !root().join(path).is_file())
        .map(|(path, _)| (*path).to_owned())
        .collect();
    expect_none("exceptions for files that are gone", &gone);
}

#[test]
fn files_open_with_what_they_answer() {
    let faults: Vec<String> = library()
        .into_iter()
        .filter(|source| !source.text.starts_with("//!"))
        .map(|source| source.path)
        .collect();
    expect_none("files that do not open with //!", &faults);
}

#[test]
fn nothing_is_left_for_later() {
    // In pieces, or this file would find itself.
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("un", "implemented!"),
        concat!("to", "do!("),
        concat!("#[", "ignore"),
    ];
    let mut sources = files("src", ".rs");
    for (folder, suffix) in [
        ("tests", ".rs"),
        ("tests", "run"),
        ("benches", ".rs"),
        ("examples", ".sh"),
        ("man", ""),
    ] {
        sources.extend(files(folder, suffix));
    }
    let mut faults = Vec::new();
    for source in &sources {
        for (at, line) in source.text.lines().enumerate() {
            let is_tool = TOOLS
                .iter()
                .any(|why| line.ends_with(&format!("= \"{why}\"]")));
            let word = words.iter().find(|word| line.contains(**word));
            if let Some(word) = word.filter(|_| !is_tool) {
                faults.push(format!("{}:{}: {word}", source.path, at + 1));
            }
        }
    }
    expect_none("things left for later", &faults);
}

#[test]
fn exceptions_from_lints_say_why() {
    let mut faults = Vec::new();
    for source in files("src", ".rs").into_iter().chain(files("tests", ".rs")) {
        for kind in ["[allow(", "[expect("] {
            for (at, _) in source.text.match_indices(kind) {
                let before = source.text.get(..at).unwrap_or_default();
                if !before.ends_with('#') && !before.ends_with("#!") {
                    continue;
                }
                let rest = source.text.get(at..).unwrap_or_default();
                let attribute = rest.find(")]").and_then(|end| rest.get(..end));
                if !attribute.is_some_and(|attribute| attribute.contains("reason =")) {
                    let number = before.lines().count();
                    faults.push(format!("{}:{number}: no reason", source.path));
                }
            }
        }
    }
    expect_none("lints switched off without a reason", &faults);
}

/// The variants of an enum, each with the first line of its documentation.
fn variants(path: &str, name: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(root().join(path)).expect("a file of the repository");
    let head = format!("pub enum {name} {{");
    let body = text
        .lines()
        .skip_while(|line| !line.starts_with(&head))
        .skip(1)
        .take_while(|line| !line.starts_with('}'));
    let mut found = Vec::new();
    let mut doc = String::new();
    for line in body {
        // Fields stand deeper.
        let Some(line) = line
            .strip_prefix("    ")
            .filter(|line| !line.starts_with(' '))
        else {
            continue;
        };
        if let Some(text) = line.strip_prefix("/// ") {
            if doc.is_empty() {
                doc.push_str(text);
            }
        } else if line.starts_with(char::is_alphabetic) {
            let end = line
                .find(|char: char| !char.is_alphanumeric())
                .unwrap_or(line.len());
            found.push((line[..end].to_owned(), std::mem::take(&mut doc)));
        }
    }
    found
}

#[test]
fn messages_name_their_section() {
    let messages = variants("src/wire/message.rs", "Message");
    assert!(messages.len() >= 15, "{messages:?}");
    let faults: Vec<String> = messages
        .into_iter()
        .filter(|(name, doc)| !doc.starts_with('§') && name != "Extension")
        .map(|(name, doc)| format!("{name}: {doc}"))
        .collect();
    expect_none("messages without a § of RFC 7574", &faults);
}

#[test]
fn extensions_name_their_number_and_stand_in_the_manual() {
    let manual = fs::read_to_string(root().join("man/p2ps-protocol.7")).expect("the manual");
    let extensions = variants("src/wire/extension.rs", "Extension");
    assert!(extensions.len() >= 14, "{extensions:?}");
    let mut faults = Vec::new();
    for (name, doc) in extensions {
        if name == "Unknown" {
            continue;
        }
        let number: String = doc
            .chars()
            .take_while(|char| char.is_ascii_digit())
            .collect();
        if number.is_empty() {
            faults.push(format!("{name}: {doc}"));
        } else if !manual
            .lines()
            .any(|line| line.starts_with(&format!(".SS {number} ")))
        {
            faults.push(format!(
                "{name}: man/p2ps-protocol.7 has no section {number}"
            ));
        }
    }
    expect_none(
        "private messages without a number or a description",
        &faults,
    );
}

/// Says that a test was left out; not by `eprintln!`, which the test harness keeps to itself.
fn left_out(test: &str, needs: &str) {
    let line = format!("left out: {test}: needs {needs}\n");
    let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
}

#[test]
fn manuals_give_no_warning() {
    let mut faults = Vec::new();
    for page in files("man", "") {
        let run = Command::new("man")
            .args(["--warnings", "--local-file", &page.path])
            .current_dir(root())
            .env("LC_ALL", "C.UTF-8")
            .env("MANWIDTH", "80")
            .env("MANPAGER", "cat")
            .output();
        let Ok(output) = run else {
            return left_out("manuals_give_no_warning", "man of man-db");
        };
        let words = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() || !words.is_empty() {
            faults.push(format!("{}: {}", page.path, words.trim()));
        }
    }
    expect_none("manuals that do not read well", &faults);
}
