//! `p2ps-tracker`: tell sources, relays and peers of each other.

use std::process::ExitCode;

use p2ps::cli;

fn main() -> ExitCode {
    cli::main::<cli::tracker::Args>()
}
