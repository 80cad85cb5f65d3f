//! Arguments of `p2ps-relay`.

use std::path::PathBuf;

use clap::Parser;

use super::access::{Access, AllowArgs, KeyArgs, LoginArgs};
use super::clone::{Ask, AskArgs};
use super::common::{
    Join, JoinArgs, Log, LogArgs, Net, NetArgs, Process, ProcessArgs, Serve, ServeArgs, Stats,
    StatsArgs, TrackerArgs,
};
use super::deal::OfferArgs;
use super::exit::{CliError, Exit};
use super::layer::Understood;
use super::manual::{self, Manual};
use super::value::{ChannelName, ChannelRef, Rate};
use super::{Tool, peer, run};
use crate::io::media::Endpoint;
use crate::tracker::announce::Service;

/// Receive live channels once and pass them on to many.
///
/// Joins each channel it is given, verifies every chunk and serves it to relays and peers that subscribe.
#[derive(Parser, Clone, Debug)]
#[command(name = "p2ps-relay", version, args_conflicts_with_subcommands = true)]
pub struct Args {
    /// Channels to carry: p2ps://TRACKER/CHANNEL, p2ps://CHANNELID@HOST:PORT, or a ticket.
    #[arg(value_name = "CHANNEL")]
    pub uri: Vec<ChannelRef>,
    /// Channel to carry, by its name at the trackers given, or by its id. Repeatable.
    #[arg(long, value_name = "NAME", help_heading = "Channel")]
    pub channel: Vec<ChannelName>,
    /// How channels are found.
    #[command(flatten)]
    pub tracker: TrackerArgs,
    /// How channels are joined.
    #[command(flatten)]
    pub join: JoinArgs,
    /// Whom is asked first.
    #[command(flatten)]
    pub ask: AskArgs,
    /// Also write the media here: -, fd:N, PATH, udp://HOST:PORT, rtp://HOST:PORT, unix:PATH, http://ADDR:PORT/.
    /// Repeatable; one channel only.
    #[arg(short, long, value_name = "OUT", help_heading = "Media")]
    pub output: Vec<Endpoint>,
    /// Who we are to neighbours that ask for it.
    #[command(flatten)]
    pub key: KeyArgs,
    /// Who we are to trackers.
    #[command(flatten)]
    pub login: LoginArgs,
    /// What is served.
    #[command(flatten)]
    pub serve: ServeArgs,
    /// Serve this cluster of a tracker that places viewers by clusters; auto leaves it to the tracker.
    #[arg(long, value_name = "NAME", help_heading = "Serving")]
    pub cluster: Option<ChannelName>,
    /// What the relay may send to its cluster, for example 100Mbit; with --cluster.
    #[arg(
        long,
        value_name = "RATE",
        help_heading = "Serving",
        allow_hyphen_values = true
    )]
    pub capacity: Option<Rate>,
    /// What it costs whom.
    #[command(flatten)]
    pub rental: OfferArgs,
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

/// Checked arguments of a relay.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Channels to carry, at least one.
    pub joins: Vec<Join>,
    /// Whom to ask before joining.
    pub ask: Option<Ask>,
    /// Where the media goes beside the children; only with one channel.
    pub outputs: Vec<Endpoint>,
    /// What is served.
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

impl Tool for Args {
    const NAME: &'static str = "p2ps-relay";
    const IMPLIED: &'static [(&'static str, &'static str)] = &[
        ("listen", ":7850"),
        ("window", "1min"),
        ("latency", "1s"),
        ("from", "live"),
    ];
    const MANUAL: Manual = manual::RELAY;
    type Job = Box<Settings>;

    fn check(self) -> Result<Box<Settings>, CliError> {
        let service = match (self.cluster, self.capacity) {
            (Some(cluster), Some(capacity)) => Some(Service {
                cluster: cluster.to_string(),
                capacity_kbps: capacity.bits_per_second() / 1000,
            }),
            (Some(_), None) => {
                let why = "say what the relay may send";
                return Err(CliError::usage("--cluster without --capacity", why));
            }
            (None, Some(_)) => {
                let why = "say which cluster it is for";
                return Err(CliError::usage("--capacity without --cluster", why));
            }
            (None, None) => None,
        };
        let mut joins = self.join.check(
            self.uri,
            self.channel,
            &self.tracker.tracker,
            self.serve.window,
        )?;
        if joins.len() > 1 && !self.output.is_empty() {
            let why = "an output takes one";
            return Err(CliError::usage(format!("{} channels", joins.len()), why));
        }
        let offered = self.rental.offer;
        let deal = self.rental.check()?;
        let mut serve = self.serve.check();
        serve.upload_limit = serve.upload_limit.or(offered);
        for join in &mut joins {
            if offered.is_some() && join.trackers.is_empty() {
                let why = "a contract is made at the tracker, give --tracker";
                return Err(CliError::usage("--offer without a tracker", why));
            }
            join.deal.clone_from(&deal);
            join.service.clone_from(&service);
        }
        let ask = self.ask.check(joins.len(), !self.output.is_empty())?;
        let media = peer::check_outputs(&self.output)?;
        let mut access = Access::check(self.allow, self.key, self.login)?;
        if ask.is_some() {
            access.need_key()?;
        }
        Ok(Box::new(Settings {
            joins,
            ask,
            outputs: self.output,
            serve,
            tls_ca: self.tracker.tls_ca,
            access,
            net: self.net.check_udp()?,
            stats: self.stats.check(media)?,
            process: self.process.check(),
            log: self.log.check()?,
        }))
    }

    fn run(settings: Box<Settings>, understood: &Understood) -> Result<Exit, CliError> {
        run::relay(*settings, understood)
    }
}
