//! Arguments of `p2ps-tracker`.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use clap::Parser;

use super::certificate::IdentityFiles;
use super::common::{
    Log, LogArgs, Net, NetArgs, Process, ProcessArgs, Stats, StatsArgs, state_dir,
};
use super::exit::{CliError, Exit};
use super::layer::Understood;
use super::manual::{self, Manual};
use super::value::{ListenAddr, StoreUrl, TrackerUrl};
use super::{Tool, run};

/// Tell sources, relays and peers of each other.
///
/// Keeps who is on which channel in memory, and gives every newcomer the parents that suit it (RFC 7846 over HTTP).
/// The swarm keeps streaming when the tracker is gone.
#[derive(Parser, Clone, Debug)]
#[command(name = "p2ps-tracker", version, args_conflicts_with_subcommands = true)]
pub struct Args {
    /// Serve plain HTTP on addresses other than loopback.
    #[arg(long, help_heading = "Network")]
    pub insecure_http: bool,
    /// Sell streams by this tariff: packets, bandwidth intervals and their prices, in TOML; read again on HUP.
    #[arg(long, value_name = "FILE", help_heading = "Provider")]
    pub tariff: Option<PathBuf>,
    /// Serve HTTPS with this certificate chain (PEM, our own first); read again on HUP.
    #[arg(long, value_name = "FILE", help_heading = "Network")]
    pub tls_cert: Option<PathBuf>,
    /// Private key of the certificate (PEM, mode 0600).
    #[arg(long, value_name = "FILE", help_heading = "Network")]
    pub tls_key: Option<PathBuf>,
    /// Where the tool is on the network.
    #[command(flatten)]
    pub net: NetArgs,
    /// What the tracker keeps, and where.
    #[command(flatten)]
    pub state: StateArgs,
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

/// What the tracker keeps when it ends.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "State")]
pub struct StateArgs {
    /// Where durable state is kept: redb:PATH or mem: [default: tracker.redb in the state directory].
    #[arg(long, value_name = "URL")]
    pub store: Option<StoreUrl>,
    /// Directory for durable state [default: $STATE_DIRECTORY, else $XDG_STATE_HOME/p2ps].
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

impl StateArgs {
    fn check(self) -> Result<StoreUrl, CliError> {
        match self.store {
            Some(store) => Ok(store),
            None => Ok(StoreUrl::within(&state_dir(self.state_dir)?)),
        }
    }
}

/// Checked arguments of a tracker.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Tariff of a provider.
    pub tariff: Option<PathBuf>,
    /// Where the tool is on the network; the port is TCP.
    pub net: Net,
    /// Who the tracker is behind TLS; none serves plain HTTP.
    pub tls: Option<IdentityFiles>,
    /// Where durable state is kept.
    pub store: StoreUrl,
    /// Where records go.
    pub stats: Stats,
    /// How the process behaves.
    pub process: Process,
    /// What the tool says.
    pub log: Log,
}

impl Tool for Args {
    const NAME: &'static str = "p2ps-tracker";
    const IMPLIED: &'static [(&'static str, &'static str)] = &[("listen", "127.0.0.1:7851")];
    const MANUAL: Manual = manual::TRACKER;
    type Job = Box<Settings>;

    fn check(self) -> Result<Box<Settings>, CliError> {
        let port = TrackerUrl::PORT_DEFAULT;
        let net = self.net.check(
            ListenAddr {
                address: Some(Ipv4Addr::LOCALHOST.into()),
                port,
            },
            ListenAddr {
                address: Some(Ipv6Addr::LOCALHOST.into()),
                port,
            },
        )?;
        let tls = match (self.tls_cert, self.tls_key) {
            (Some(certificate), Some(key)) => Some(IdentityFiles { certificate, key }),
            (None, None) => None,
            (Some(_), None) => return Err(CliError::usage("--tls-cert needs --tls-key", "")),
            (None, Some(_)) => return Err(CliError::usage("--tls-key needs --tls-cert", "")),
        };
        if tls.is_some() && self.insecure_http {
            return Err(CliError::exclusive("--tls-cert", "--insecure-http"));
        }
        if tls.is_none() && !self.insecure_http && !net.listen.addr.ip().is_loopback() {
            return Err(CliError::usage(
                format!("will not serve plain http on {}", net.listen.addr),
                "add --tls-cert and --tls-key, or --insecure-http",
            ));
        }
        Ok(Box::new(Settings {
            tariff: self.tariff,
            net,
            tls,
            store: self.state.check()?,
            stats: self.stats.check(None)?,
            process: self.process.check(),
            log: self.log.check()?,
        }))
    }

    fn run(settings: Box<Settings>, understood: &Understood) -> Result<Exit, CliError> {
        run::tracker(*settings, understood)
    }
}
