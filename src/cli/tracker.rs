//! Arguments of `p2ps-tracker`.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::books::Books;
use super::certificate::{self, IdentityFiles};
use super::common::{
    Log, LogArgs, Net, NetArgs, Process, ProcessArgs, Stats, StatsArgs, state_dir,
};
use super::exit::{CliError, Exit};
use super::layer::Understood;
use super::manual::{self, Manual};
use super::value::{DurationValue, ListenAddr, Since, StoreUrl, TrackerUrl, count, duration};
use super::{Tool, run};
use crate::tracker::provider::change::Table;

/// Tell sources, relays and peers of each other.
///
/// Keeps who is on which channel in memory, and gives every newcomer the parents that suit it (RFC 7846 over HTTP).
/// The swarm keeps streaming when the tracker is gone.
#[derive(Parser, Clone, Debug)]
#[command(name = "p2ps-tracker", version, args_conflicts_with_subcommands = true)]
pub struct Args {
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
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
    /// Whom newcomers are sent to.
    #[command(flatten)]
    pub placement: PlacementArgs,
    /// Where the tool is on the network.
    #[command(flatten)]
    pub net: NetArgs,
    /// How long one key of a sealed channel is used: 10s to 7d. When a user is revoked there is a new one at once.
    #[arg(long, value_name = "DUR", default_value = "1h", allow_hyphen_values = true, help_heading = "Access",
        value_parser = duration(Duration::from_secs(10), Duration::from_secs(7 * 86_400)))]
    pub key_life: DurationValue,
    /// Let nobody read contracts, the ledger, or tables without a session, but who shows the token in this file (one
    /// word, mode 0600) as Authorization: Bearer; read again on HUP. Without it every process of this machine may.
    #[arg(long, value_name = "FILE", help_heading = "Access")]
    pub admin_token_file: Option<PathBuf>,
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
    /// Where durable state is kept: redb:PATH, mem:, or redis://HOST:PORT/DB (rediss:// behind TLS) for several trackers
    /// that are one [default: tracker.redb in the state directory].
    #[arg(long, value_name = "URL")]
    pub store: Option<StoreUrl>,
    /// Directory for durable state [default: $STATE_DIRECTORY, else $XDG_STATE_HOME/p2ps].
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Trust a rediss store whose certificate these authorities (PEM) signed, in place of the usual ones.
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
}

/// Checked [`StateArgs`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The store.
    pub store: StoreUrl,
    /// Whom its certificate has to be of.
    pub tls_ca: Option<PathBuf>,
}

impl State {
    /// The store, with whom to trust.
    ///
    /// # Errors
    ///
    /// A usage error that names the file and what is wrong with it.
    pub fn read(&self) -> Result<StoreUrl, CliError> {
        let store = self.store.clone();
        match &self.tls_ca {
            Some(path) => Ok(store.trusting(certificate::authorities(path)?)),
            None => Ok(store),
        }
    }
}

impl StateArgs {
    fn check(self) -> Result<State, CliError> {
        let store = match self.store {
            Some(store) => store,
            None => StoreUrl::within(&state_dir(self.state_dir)?),
        };
        if self.tls_ca.is_some() && !store.is_private() {
            let why = "add --store rediss://HOST";
            return Err(CliError::usage("--tls-ca changes nothing", why));
        }
        Ok(State {
            store,
            tls_ca: self.tls_ca,
        })
    }
}

/// What to put in order, in a tracker that runs or in the store of one that does not.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Users who prove themselves with a secret.
    User {
        /// What to do.
        #[command(subcommand)]
        order: UserOrder,
    },
    /// Channels that only users may join, and hand on to nobody else.
    Channel {
        /// What to do.
        #[command(subcommand)]
        order: ChannelOrder,
    },
    /// Print every contract that was ever made: who bought what of whom, at which price.
    Contracts(BooksArgs),
    /// Print every entry of the ledger: who paid whom how much, and what for.
    Ledger(BooksArgs),
}

/// Which rows to print: a table on a terminal, a JSON object a line in a pipe.
#[derive(clap::Args, Clone, Debug)]
pub struct BooksArgs {
    /// From when on: a time such as 2026-11-21T20:00:00Z, or how long ago, such as 30d.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub since: Option<Since>,
    /// Only what this account or user bought, sold, paid or was paid.
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Where the store is.
    #[command(flatten)]
    pub state: StateArgs,
}

/// What to do with users.
#[derive(Subcommand, Clone, Debug)]
pub enum UserOrder {
    /// Make a user and print its secret, which is shown only now.
    Add {
        /// Name of the user.
        name: String,
        /// What the user may do: watch, serve, publish. Repeatable [default: watch].
        #[arg(long, value_name = "ROLE")]
        role: Vec<String>,
        /// Where the store is.
        #[command(flatten)]
        state: StateArgs,
    },
    /// Print every user.
    List {
        /// Where the store is.
        #[command(flatten)]
        state: StateArgs,
    },
    /// Forget a user; tickets it holds are not honoured any more.
    Revoke {
        /// Name of the user.
        name: String,
        /// Where the store is.
        #[command(flatten)]
        state: StateArgs,
    },
}

/// What to do with channels.
#[derive(Subcommand, Clone, Debug)]
pub enum ChannelOrder {
    /// Let only users join a channel.
    Close {
        /// Name of the channel.
        name: String,
        /// Where the store is.
        #[command(flatten)]
        state: StateArgs,
    },
    /// Let everybody join a channel.
    Open {
        /// Name of the channel.
        name: String,
        /// Where the store is.
        #[command(flatten)]
        state: StateArgs,
    },
    /// Print every closed channel.
    List {
        /// Where the store is.
        #[command(flatten)]
        state: StateArgs,
    },
}

/// What a tracker is asked to do.
#[derive(Clone, Debug)]
pub enum Job {
    /// Serve.
    Serve(Box<Settings>),
    /// Carry out an order on a store.
    Order {
        /// The store.
        state: State,
        /// The order, as the ticket office names it.
        order: &'static str,
        /// What it says.
        body: Value,
    },
    /// Print what was sold.
    Books(Books),
}

impl BooksArgs {
    fn check(self, table: Table) -> Result<Job, CliError> {
        Ok(Job::Books(Books {
            state: self.state.check()?,
            table,
            since: self.since.map(Since::timestamp),
            user: self.user,
        }))
    }
}

impl Command {
    fn check(self) -> Result<Job, CliError> {
        let (state, order, body) = match self {
            Self::Contracts(books) => return books.check(Table::Contracts),
            Self::Ledger(books) => return books.check(Table::Ledger),
            Self::User { order } => match order {
                UserOrder::Add { name, role, state } if role.is_empty() => {
                    (state, "user_add", json!({ "name": name }))
                }
                UserOrder::Add { name, role, state } => {
                    (state, "user_add", json!({ "name": name, "roles": role }))
                }
                UserOrder::List { state } => (state, "user_list", json!({})),
                UserOrder::Revoke { name, state } => {
                    (state, "user_revoke", json!({ "name": name }))
                }
            },
            Self::Channel { order } => match order {
                ChannelOrder::Close { name, state } => {
                    (state, "channel_close", json!({ "name": name }))
                }
                ChannelOrder::Open { name, state } => {
                    (state, "channel_open", json!({ "name": name }))
                }
                ChannelOrder::List { state } => (state, "channel_list", json!({})),
            },
        };
        Ok(Job::Order {
            state: state.check()?,
            order,
            body,
        })
    }
}

/// Whom newcomers are sent to.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Placement")]
pub struct PlacementArgs {
    /// Whom newcomers are sent to.
    #[arg(long, value_name = "RULE", default_value = "list")]
    pub placement: Rule,
    /// Where addresses are (subnet, AS, country, cluster), and links between clusters: a TOML file, for psp; read again
    /// on HUP.
    #[arg(long, value_name = "FILE")]
    pub networks: Option<PathBuf>,
    /// Length of a session until some have ended, for what psp compares itself with: 1s to 1d [default: 1h].
    #[arg(long, value_name = "DUR", allow_hyphen_values = true,
        value_parser = duration(Duration::from_secs(1), Duration::from_secs(86_400)))]
    pub session_length: Option<DurationValue>,
    /// Who knows whom, by peer id, to make friends neighbours: a TOML file, for balanced; read again on HUP.
    #[arg(long, value_name = "FILE")]
    pub graph: Option<PathBuf>,
    /// Most neighbours of anybody but the source, for balanced: 2 to 1000.
    #[arg(long, value_name = "N", value_parser = count(2, 1000), allow_hyphen_values = true)]
    pub hub_cap: Option<u32>,
}

/// Whom newcomers are sent to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Rule {
    /// Whoever has free slots, nearest to the source first.
    #[default]
    List,
    /// Supporting viewers of the nearest cluster, its server for what they lack, then another cluster.
    Psp,
    /// The same, with every viewer from supporting viewers alone or from a server alone.
    PspStrict,
    /// A place in a balanced tree of six levels.
    Balanced,
    /// The source, all of them.
    Star,
}

/// Checked [`PlacementArgs`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// The standing order of each swarm.
    List,
    /// Clusters with servers.
    Psp {
        /// File that says where addresses are.
        networks: Option<PathBuf>,
        /// Length of a session until some have ended; none is the default.
        session: Option<Duration>,
        /// Whether a server fills what supporting viewers lack.
        mix: bool,
    },
    /// A balanced tree.
    Balanced {
        /// File that says who knows whom.
        graph: Option<PathBuf>,
        /// Most neighbours of anybody but the source.
        hub_cap: Option<u16>,
    },
    /// The source for everybody.
    Star,
}

impl PlacementArgs {
    fn check(self) -> Result<Placement, CliError> {
        let is_psp = matches!(self.placement, Rule::Psp | Rule::PspStrict);
        let is_balanced = self.placement == Rule::Balanced;
        for (is_given, fits, flag, rule) in [
            (self.networks.is_some(), is_psp, "--networks", "psp"),
            (
                self.session_length.is_some(),
                is_psp,
                "--session-length",
                "psp",
            ),
            (self.graph.is_some(), is_balanced, "--graph", "balanced"),
            (self.hub_cap.is_some(), is_balanced, "--hub-cap", "balanced"),
        ] {
            if is_given && !fits {
                let why = format!("add --placement {rule}");
                return Err(CliError::usage(format!("{flag} changes nothing"), why));
            }
        }
        Ok(match self.placement {
            Rule::List => Placement::List,
            Rule::Psp | Rule::PspStrict => Placement::Psp {
                networks: self.networks,
                session: self.session_length.map(DurationValue::get),
                mix: self.placement == Rule::Psp,
            },
            Rule::Balanced => Placement::Balanced {
                graph: self.graph,
                hub_cap: self.hub_cap.and_then(|most| u16::try_from(most).ok()),
            },
            Rule::Star => Placement::Star,
        })
    }
}

/// Checked arguments of a tracker.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Tariff of a provider.
    pub tariff: Option<PathBuf>,
    /// Whom newcomers are sent to.
    pub placement: Placement,
    /// Where the tool is on the network; the port is TCP.
    pub net: Net,
    /// Who the tracker is behind TLS; none serves plain HTTP.
    pub tls: Option<IdentityFiles>,
    /// How long one key of a sealed channel is used.
    pub key_life: Duration,
    /// File with the token of the operator.
    pub admin_token_file: Option<PathBuf>,
    /// Where durable state is kept.
    pub state: State,
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
    type Job = Job;

    fn check(self) -> Result<Job, CliError> {
        if let Some(command) = self.command {
            return command.check();
        }
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
        Ok(Job::Serve(Box::new(Settings {
            placement: self.placement.check()?,
            tariff: self.tariff,
            net,
            tls,
            key_life: self.key_life.get(),
            admin_token_file: self.admin_token_file,
            state: self.state.check()?,
            stats: self.stats.check(None)?,
            process: self.process.check(),
            log: self.log.check()?,
        })))
    }

    fn run(job: Job, understood: &Understood) -> Result<Exit, CliError> {
        match job {
            Job::Serve(settings) => run::tracker(*settings, understood),
            Job::Order { state, order, body } => run::order(&state.read()?, order, &body),
            Job::Books(books) => books.run(),
        }
    }
}
