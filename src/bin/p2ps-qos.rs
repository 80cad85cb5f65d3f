//! `p2ps-qos`: summarise and check the records of the other tools.

use std::process::ExitCode;

use p2ps::cli;

fn main() -> ExitCode {
    cli::main::<cli::qos::Args>()
}
