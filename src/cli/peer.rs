//! Arguments of `p2ps-peer`.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use super::access::{Access, AllowArgs, KeyArgs, LoginArgs};
use super::clone::Say;
use super::common::{
    Join, JoinArgs, Log, LogArgs, Net, NetArgs, Process, ProcessArgs, Serve, ServeArgs, Stats,
    StatsArgs, TrackerArgs,
};
use super::deal::DealArgs;
use super::exit::{CliError, Exit};
use super::layer::Understood;
use super::listing::List;
use super::manual::{self, Manual};
use super::value::{ChannelName, ChannelRef, PeerRef, Place, Rotate, Shown, TrackerUrl};
use super::{Tool, run, usage};
use crate::io::media::{self, Endpoint};

/// Receive a live channel and write it to standard output.
///
/// Joins a channel through its tracker, a ticket or a parent given by hand, verifies every chunk, writes the media in
/// order, and passes it on to other peers.
#[derive(Parser, Clone, Debug)]
#[command(name = "p2ps-peer", version, args_conflicts_with_subcommands = true)]
pub struct Args {
    /// Channel to play: p2ps://TRACKER/CHANNEL, p2ps://CHANNELID@HOST:PORT, or a ticket.
    #[arg(value_name = "CHANNEL")]
    pub uri: Option<PeerRef>,
    /// Channel to play, by its name at the trackers given, or by its id.
    #[arg(long, value_name = "NAME", help_heading = "Channel")]
    pub channel: Option<ChannelName>,
    /// List the channels of the trackers given, or of p2ps://TRACKER/, and exit.
    #[arg(long, help_heading = "Channel")]
    pub list: bool,
    /// How the channel is found.
    #[command(flatten)]
    pub tracker: TrackerArgs,
    /// How the channel is joined.
    #[command(flatten)]
    pub join: JoinArgs,
    /// What is wanted of a provider.
    #[command(flatten)]
    pub deal: DealArgs,
    /// What to say to a relay that asks first, started with --ask [default: watch].
    #[arg(long, value_name = "ANSWER", help_heading = "Channel")]
    pub answer: Option<Say>,
    /// Where the media goes: -, fd:N, PATH, udp://HOST:PORT, rtp://HOST:PORT, unix:PATH, http://ADDR:PORT/. Repeatable.
    #[arg(
        short,
        long,
        value_name = "OUT",
        default_value = "-",
        help_heading = "Media"
    )]
    pub output: Vec<Endpoint>,
    /// Wait for a missing chunk as long as it takes, instead of skipping it at its deadline.
    #[arg(long, help_heading = "Media")]
    pub no_skip: bool,
    /// Let a slow reader hold up the output, instead of dropping media at the next entry point.
    #[arg(long, help_heading = "Media")]
    pub blocking: bool,
    /// What to do when the source ends the channel.
    #[arg(
        long,
        value_name = "WHAT",
        default_value = "exit",
        help_heading = "Media"
    )]
    pub on_end: OnEnd,
    /// Write over output files that exist.
    #[arg(long, help_heading = "Media")]
    pub overwrite: bool,
    /// Begin a new output file after this many bytes or this much time: 100MB, 10min.
    #[arg(
        long,
        value_name = "SIZE|DUR",
        allow_hyphen_values = true,
        help_heading = "Media"
    )]
    pub rotate: Option<Rotate>,
    /// Pass nothing on to other peers.
    #[arg(long, help_heading = "Serving")]
    pub no_upload: bool,
    /// Who we are to neighbours that ask for it.
    #[command(flatten)]
    pub key: KeyArgs,
    /// Who we are to trackers.
    #[command(flatten)]
    pub login: LoginArgs,
    /// What is served.
    #[command(flatten)]
    pub serve: ServeArgs,
    /// To whom.
    #[command(flatten)]
    pub allow: AllowArgs,
    /// Where the tool is on the network.
    #[command(flatten)]
    pub net: NetArgs,
    /// Where records go.
    #[command(flatten)]
    pub stats: StatsArgs,
    /// How the process behaves.
    #[command(flatten)]
    pub process: ProcessArgs,
    /// What the tool says.
    #[command(flatten)]
    pub log: LogArgs,
}

/// What happens when the source ends the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnEnd {
    /// Play what is left, and exit.
    Exit,
    /// Stay for the next stream under the same key.
    Wait,
}

/// Checked arguments of a peer.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The channel to play.
    pub join: Join,
    /// What to say to a relay that asks; none is watch, where a key is given.
    pub answer: Option<Say>,
    /// Where the media goes, at least one.
    pub outputs: Vec<Endpoint>,
    /// Skip a missing chunk at its deadline.
    pub skip: bool,
    /// Let a slow reader hold up the output.
    pub blocking: bool,
    /// What to do when the source ends the channel.
    pub on_end: OnEnd,
    /// Write over output files that exist.
    pub overwrite: bool,
    /// When to begin a new output file.
    pub rotate: Option<media::Rotate>,
    /// What is served; at most 0 children with `--no-upload`.
    pub serve: Serve,
    /// Authorities to trust beside the usual ones.
    pub tls_ca: Option<PathBuf>,
    /// Our key, and to whom media is given.
    pub access: Access,
    /// Where the tool is on the network.
    pub net: Net,
    /// Where records go.
    pub stats: Stats,
    /// How the process behaves.
    pub process: Process,
    /// What the tool says.
    pub log: Log,
}

/// What a peer is to do.
#[derive(Clone, Debug)]
pub enum Job {
    /// Receive a channel.
    Play(Box<Settings>),
    /// List channels.
    List(List),
}

/// Whether an output is standard output.
pub(super) const fn writes_stdout(output: &Endpoint) -> bool {
    matches!(output, Endpoint::Standard | Endpoint::Descriptor(1))
}

/// Checks that no output is named twice; gives the option that writes to standard output.
pub(super) fn check_outputs(outputs: &[Endpoint]) -> Result<Option<&'static str>, CliError> {
    for (index, output) in outputs.iter().enumerate() {
        if outputs.iter().take(index).any(|other| other == output) {
            return Err(CliError::usage(
                format!("bad --output {}", Shown::new(&output.to_string())),
                "given twice",
            ));
        }
    }
    Ok(outputs.iter().any(writes_stdout).then_some("--output -"))
}

impl Tool for Args {
    const NAME: &'static str = "p2ps-peer";
    const IMPLIED: &'static [(&'static str, &'static str)] = &[
        ("listen", ":7850"),
        ("window", "1min"),
        ("latency", "1s"),
        ("from", "live"),
    ];
    const MANUAL: Manual = manual::PEER;
    type Job = Job;

    fn check(self) -> Result<Job, CliError> {
        if self.list {
            return self.list().map(Job::List);
        }
        if self.no_upload {
            if self.serve.upload_limit.is_some() {
                return Err(CliError::exclusive("--no-upload", "--upload-limit"));
            }
            if self.serve.max_children.is_some() {
                return Err(CliError::exclusive("--no-upload", "--max-children"));
            }
        }
        if self.uri.is_some() && self.channel.is_some() {
            return Err(CliError::exclusive("an address", "--channel"));
        }
        let reference: Option<ChannelRef> = match self.uri {
            Some(PeerRef::Channel(channel)) => Some(channel),
            Some(PeerRef::Trackers { why, .. }) => return Err(usage::bad_reference(&why)),
            None => None,
        };
        let references = reference.into_iter().collect();
        let names = self.channel.into_iter().collect();
        let trackers = &self.tracker.tracker;
        let joins = self
            .join
            .check(references, names, trackers, self.serve.window)?;
        let mut join = joins
            .into_iter()
            .next()
            .expect("check gives one join for each channel, and at least one");
        join.deal = self.deal.check()?;
        let media = check_outputs(&self.output)?;
        let mut access = Access::check(self.allow, self.key, self.login)?;
        if self.answer.is_some() {
            access.need_key()?;
        }
        let mut serve = self.serve.check();
        if self.no_upload {
            serve.max_children = Some(0);
        }
        Ok(Job::Play(Box::new(Settings {
            join,
            answer: self.answer,
            outputs: self.output,
            skip: !self.no_skip,
            blocking: self.blocking,
            on_end: self.on_end,
            overwrite: self.overwrite,
            rotate: self.rotate.map(Rotate::get),
            serve,
            tls_ca: self.tracker.tls_ca,
            access,
            net: self.net.check_udp()?,
            stats: self.stats.check(media)?,
            process: self.process.check(),
            log: self.log.check()?,
        })))
    }

    fn run(job: Job, understood: &Understood) -> Result<Exit, CliError> {
        match job {
            Job::Play(settings) => run::peer(*settings, understood),
            Job::List(list) => list.run(),
        }
    }
}

impl Args {
    /// Whose channels to list.
    fn list(self) -> Result<List, CliError> {
        let mut trackers: Vec<TrackerUrl> = self.tracker.tracker;
        match self.uri {
            Some(PeerRef::Trackers { trackers: at, .. }) => trackers.extend(at),
            Some(PeerRef::Channel(ChannelRef::Uri(uri))) => match uri.place {
                Place::Trackers { trackers: at, .. } => trackers.extend(at),
                Place::Parents { .. } => {}
            },
            Some(PeerRef::Channel(ChannelRef::Ticket(ticket))) => trackers.extend(ticket.trackers),
            None => {}
        }
        if trackers.is_empty() {
            let why = "give --tracker or p2ps://TRACKER/";
            return Err(CliError::usage("no tracker to list channels of", why));
        }
        let tls_ca = self.tracker.tls_ca;
        Ok(List { trackers, tls_ca })
    }
}
