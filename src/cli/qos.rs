//! Arguments of `p2ps-qos`.

use clap::Parser;

use super::Tool;
use super::exit::{CliError, Exit};
use super::layer::Understood;
use super::manual::{self, Manual};

/// Summarise and check the records of the other tools.
#[derive(Parser, Clone, Debug)]
#[command(name = "p2ps-qos", version)]
pub struct Args {}

impl Tool for Args {
    const NAME: &'static str = "p2ps-qos";
    const MANUAL: Manual = manual::QOS;
    type Job = ();

    fn check(self) -> Result<(), CliError> {
        Err(CliError::usage("nothing to do", "see --help"))
    }

    fn run((): (), _: &Understood) -> Result<Exit, CliError> {
        Ok(Exit::Done)
    }
}
