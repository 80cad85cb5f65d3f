//! `p2ps-peer`: receive a live channel and write it to standard output.

use std::process::ExitCode;

use p2ps::cli;

fn main() -> ExitCode {
    cli::main::<cli::peer::Args>()
}
