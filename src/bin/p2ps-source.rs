//! `p2ps-source`: turn media on standard input into a signed live channel.

use std::process::ExitCode;

use p2ps::cli;

fn main() -> ExitCode {
    cli::main::<cli::source::Args>()
}
