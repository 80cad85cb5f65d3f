//! The files under man/ and completions/ are what the arguments say. `P2PS_BLESS=1` rewrites them.

use std::fs;
use std::path::{Path, PathBuf};

use clap_complete::Shell;
use p2ps::cli::{self, Tool, manual, peer, qos, relay, source, tracker};

/// Every file that is made from the definitions of one tool.
fn files_of<T: Tool>() -> Vec<(PathBuf, Vec<u8>)> {
    let name = T::NAME;
    vec![
        (
            format!("man/{name}.1").into(),
            manual::page::<T>().into_bytes(),
        ),
        (
            format!("completions/{name}.bash").into(),
            cli::completions::<T>(Shell::Bash),
        ),
        (
            format!("completions/_{name}").into(),
            cli::completions::<T>(Shell::Zsh),
        ),
        (
            format!("completions/{name}.fish").into(),
            cli::completions::<T>(Shell::Fish),
        ),
    ]
}

#[test]
fn manuals_and_completions_are_what_the_arguments_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let bless = std::env::var_os("P2PS_BLESS").is_some_and(|value| value == "1");
    let files = [
        files_of::<source::Args>(),
        files_of::<relay::Args>(),
        files_of::<peer::Args>(),
        files_of::<tracker::Args>(),
        files_of::<qos::Args>(),
    ];
    let mut stale = Vec::new();
    for (path, contents) in files.concat() {
        let file = root.join(&path);
        if bless {
            fs::create_dir_all(file.parent().expect("a folder of the repository")).unwrap();
            fs::write(&file, &contents).unwrap();
        } else if fs::read(&file).ok().as_ref() != Some(&contents) {
            stale.push(path);
        }
    }
    assert!(
        stale.is_empty(),
        "stale, P2PS_BLESS=1 cargo test --test assets rewrites them: {stale:?}"
    );
}
