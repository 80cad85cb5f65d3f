//! `p2ps-qos`: says how good a stream was, from records, and who watches how well, from a tracker.
//!
//! [`run`] does everything with streams that are handed in, so that tests need no process. [`records`] reads records;
//! the other modules are a client of the tracker's API: `ask` its questions, `answer` its answers, `table` how
//! people see them, `watch` the conversation.

use std::io::{self, BufRead, IsTerminal as _, Write};
use std::path::Path;
use std::thread;

use clap::{Parser, Subcommand, ValueEnum};

use super::exit::{CliError, Exit};
use super::layer::Understood;
use super::manual::{self, Manual};
use super::{Tool, certificate};
use crate::io::http;
use crate::stats::SCHEMA_JSON;

mod answer;
pub mod ask;
pub mod records;
mod table;
mod watch;

use ask::{ClusterArgs, DirectArgs, FieldArgs, FilterArgs, HistoryArgs, Query, Subject, TableArgs};
use records::{CheckArgs, SummaryArgs};
use watch::World;

/// Read p2ps records or ask a tracker, and say how good the stream is.
#[derive(Clone, Debug, Parser)]
#[command(name = "p2ps-qos", version)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do: the first three with records, the others at a tracker.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Percentiles of join time, latency, jitter, loss, continuity and stalls, by node and channel.
    Summary(SummaryArgs),
    /// Compare records with thresholds; exit 1 at the first that misses one.
    Check(CheckArgs),
    /// Print the JSON Schema of the records.
    Schema,
    /// Everybody on a channel, with bandwidth, latency and jitter.
    Users(TableArgs),
    /// The price packets, gold, silver and bronze: bounds, price, and who has them.
    Packets(TableArgs),
    /// The prices by interval of bandwidth, and whose bandwidth lies there.
    Intervals(TableArgs),
    /// The clients of a channel: those who pay.
    Clients(FilterArgs),
    /// The peers of a channel: those who watch for nothing.
    Peers(FilterArgs),
    /// The bandwidth of every client.
    Bandwidth(TableArgs),
    /// The latency of every client.
    Latency(TableArgs),
    /// The jitter of every client.
    Jitter(TableArgs),
    /// Any of bandwidth, latency and jitter of every client.
    Qos(FieldArgs),
    /// The clients at the provider's own server that have a packet.
    DirectClients(DirectArgs),
    /// Who is what and serves whom: c, c-c, c-p, c-c,p, p, p-p.
    Status(TableArgs),
    /// What was measured when: kept by the tracker, or with --from by a source, relay or peer.
    History(HistoryArgs),
    /// The clusters of servers, where the tracker has any.
    Clusters(ClusterArgs),
}

/// How answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table on a terminal, JSON lines elsewhere.
    Auto,
    /// A table.
    Table,
    /// JSON lines.
    Json,
}

impl Format {
    /// Whether it is to be a table.
    const fn is_table(self, terminal: bool) -> bool {
        match self {
            Self::Auto => terminal,
            Self::Table => true,
            Self::Json => false,
        }
    }
}

/// Exit status: fine.
const OK: u8 = 0;
/// Exit status: a threshold was missed, or reading failed.
const FAILED: u8 = 1;
/// Exit status: nothing to judge, or nothing to read.
const NO_RECORD: u8 = 3;
/// Exit status: standard output failed.
const OUTPUT: u8 = 8;

impl Tool for Args {
    const NAME: &'static str = "p2ps-qos";
    const MANUAL: Manual = manual::QOS;
    type Job = Self;

    fn check(self) -> Result<Self, CliError> {
        if let Command::Check(args) = &self.command {
            args.check()?;
        }
        self.query()?;
        Ok(self)
    }

    fn run(args: Self, _: &Understood) -> Result<Exit, CliError> {
        let stdin = io::stdin();
        if args.reads_stdin() && stdin.is_terminal() {
            return Err(CliError::usage(
                "cannot read records from a terminal",
                "pipe them in or name a file",
            ));
        }
        let stdout = io::stdout();
        let terminal = stdout.is_terminal();
        let code = run(
            &args,
            &mut stdin.lock(),
            terminal,
            &mut stdout.lock(),
            &mut io::stderr(),
        );
        Ok(Exit::Answer(code))
    }
}

impl Args {
    fn reads_stdin(&self) -> bool {
        let files = match &self.command {
            Command::Summary(args) => &args.input.files,
            Command::Check(args) => &args.input.files,
            _ => return false,
        };
        files.is_empty() || files.iter().any(|file| file == Path::new("-"))
    }

    /// The question to a tracker that this is; none for what reads records.
    fn query(&self) -> Result<Option<Query>, CliError> {
        let (subject, table) = match &self.command {
            Command::Summary(_) | Command::Check(_) | Command::Schema => return Ok(None),
            Command::Users(args) => (Subject::Users, args),
            Command::Packets(args) => (Subject::Packets, args),
            Command::Intervals(args) => (Subject::Intervals, args),
            Command::Bandwidth(args) => (Subject::Bandwidth, args),
            Command::Latency(args) => (Subject::Latency, args),
            Command::Jitter(args) => (Subject::Jitter, args),
            Command::Status(args) => (Subject::Status, args),
            Command::Clients(args) => return args.query(Subject::Clients).map(Some),
            Command::Peers(args) => return args.query(Subject::Peers).map(Some),
            Command::Qos(args) => return args.query().map(Some),
            Command::DirectClients(args) => return args.query().map(Some),
            Command::History(args) => return args.query().map(Some),
            Command::Clusters(args) => return args.query().map(Some),
        };
        table.query(subject).map(Some)
    }
}

/// Runs the tool on the streams given and returns its exit status; `terminal` says whether `out` is one.
pub fn run(
    args: &Args,
    stdin: &mut dyn BufRead,
    terminal: bool,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let done = match &args.command {
        Command::Summary(args) => records::summarise(args, stdin, terminal, out, err),
        Command::Check(args) => records::check(args, stdin, out, err),
        Command::Schema => out.write_all(SCHEMA_JSON.as_bytes()).map(|()| OK),
        _ => ask_tracker(args, terminal, out, err),
    };
    match done.and_then(|code| out.flush().map(|()| code)) {
        Ok(code) => code,
        // The reader has enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => OK,
        Err(error) => {
            let _ = writeln!(err, "p2ps-qos: cannot write output: {error}");
            OUTPUT
        }
    }
}

fn ask_tracker(
    args: &Args,
    terminal: bool,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    let mut world = World {
        fetch: &mut http::fetch,
        pause: &mut |span| {
            thread::sleep(span);
            true
        },
    };
    let outcome = match args.query() {
        Ok(Some(query)) => match certificate::trust(query.tls_ca.as_deref()) {
            Ok(()) => watch::run(&query, &mut world, terminal, out, err)?,
            Err(error) => Err(error),
        },
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    Ok(match outcome {
        Ok(()) => OK,
        Err(error) => {
            let _ = writeln!(err, "p2ps-qos: {error}");
            error.exit.code()
        }
    })
}

#[cfg(test)]
mod tests;
