//! `p2ps-relay`: receive live channels once and pass them on to many.

use std::process::ExitCode;

use p2ps::cli;

fn main() -> ExitCode {
    cli::main::<cli::relay::Args>()
}
