//! The flags that tools share: one group for each subject, each checked once into plain settings.
//!
//! A flag that stands here has the same name, value form and meaning wherever it is taken.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tracing::level_filters::LevelFilter;

use super::exit::CliError;
use super::value::{
    ChannelName, ChannelRef, DurationValue, Family, LATENCY, ListenAddr, ParentAddr, Place, Rate,
    StartAt, TIMEOUT, Token, TrackerUrl, UriOptions, ValueError, WINDOW, count, duration,
};
use crate::ids::SwarmId;
use crate::io::lines::Destination;
use crate::tracker::announce::Service;
use crate::tracker::message::Deal;

/// Default of `--latency`.
pub const LATENCY_DEFAULT: Duration = Duration::from_secs(1);
/// Default of `--window`.
pub const WINDOW_DEFAULT: Duration = Duration::from_secs(60);
/// Most children a node takes; the bound of `--max-children`.
pub const CHILDREN_MAX: u32 = 65_535;

/// Highest descriptor number taken: the usual soft limit of open files, less one.
const DESCRIPTOR_MAX: u32 = 1023;

/// A name of a network interface: 1 to 15 characters (`IFNAMSIZ`), no slash, no space.
fn interface(text: &str) -> Result<String, ValueError> {
    let plain = |c: char| c.is_ascii_graphic() && c != '/';
    if (1..=15).contains(&text.len()) && text.chars().all(plain) {
        Ok(text.to_owned())
    } else {
        Err(ValueError::NeedOneOf {
            words: "an interface name of 1 to 15 characters",
        })
    }
}

/// The state directory: as given, else the service manager's, else the user's.
pub(super) fn state_dir(given: Option<PathBuf>) -> Result<PathBuf, CliError> {
    if let Some(dir) = given {
        return Ok(dir);
    }
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(dirs) = set("STATE_DIRECTORY") {
        // systemd lists several with colons between; the first is the unit's own.
        let dirs = dirs.to_string_lossy();
        return Ok(dirs.split(':').next().unwrap_or_default().into());
    }
    let base = set("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(set("HOME")?).join(".local/state")));
    base.map(|base| base.join("p2ps"))
        .ok_or_else(|| CliError::usage("no state directory", "give --state-dir"))
}

/// Where the tool is on the network.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Network")]
pub struct NetArgs {
    /// Where to listen.
    #[arg(
        long,
        value_name = "ADDR:PORT",
        help = "Address to listen on: ADDR:PORT, [V6]:PORT, or :PORT for all addresses; port 0 takes any free one"
    )]
    pub listen: Option<ListenAddr>,
    /// Use this network interface only.
    #[arg(long, value_name = "IFACE", value_parser = interface)]
    pub bind_dev: Option<String>,
    /// Use IPv4 only.
    #[arg(short = '4', long)]
    pub ipv4: bool,
    /// Use IPv6 only.
    #[arg(short = '6', long)]
    pub ipv6: bool,
}

/// Where a tool listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The address to bind.
    pub addr: SocketAddr,
    /// Whether an IPv6 socket takes IPv4 as well.
    pub dual_stack: bool,
    /// Whether it was asked for: a default that is taken gives way to an ephemeral port, a wish does not.
    pub asked: bool,
}

/// Checked [`NetArgs`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Net {
    /// Where to listen.
    pub listen: Listen,
    /// The only interface to use.
    pub bind_dev: Option<String>,
    /// The families to use, also for names that are looked up.
    pub family: Family,
}

impl NetArgs {
    /// Settings, with `default` where no `--listen` was given. `default` for IPv6 stands in when `-6` excludes it.
    pub(super) fn check(
        self,
        default: ListenAddr,
        default_v6: ListenAddr,
    ) -> Result<Net, CliError> {
        let family = match (self.ipv4, self.ipv6) {
            (true, true) => return Err(CliError::exclusive("-4", "-6")),
            (true, false) => Family::V4,
            (false, true) => Family::V6,
            (false, false) => Family::Any,
        };
        let wanted = self.listen.unwrap_or(default);
        let resolved = wanted
            .resolve(family)
            .or_else(|| default_v6.resolve(family).filter(|_| self.listen.is_none()));
        let Some((addr, dual_stack)) = resolved else {
            let flag = if self.ipv4 { "-4" } else { "-6" };
            return Err(CliError::exclusive(flag, &format!("--listen {wanted}")));
        };
        Ok(Net {
            listen: Listen {
                addr,
                dual_stack,
                asked: self.listen.is_some(),
            },
            bind_dev: self.bind_dev,
            family,
        })
    }

    /// Settings of a tool that speaks the peer protocol: UDP 7850 on all addresses.
    pub(super) fn check_udp(self) -> Result<Net, CliError> {
        let any = ListenAddr {
            address: None,
            port: ParentAddr::PORT_DEFAULT,
        };
        self.check(any, any)
    }
}

/// What is held for others, and how much of it they get.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Serving")]
pub struct ServeArgs {
    /// How much of the live stream to hold, for repair and for late joiners: 1s to 1h.
    #[arg(long, value_name = "DUR", value_parser = duration(WINDOW.0, WINDOW.1), allow_hyphen_values = true)]
    pub window: Option<DurationValue>,
    /// Most children to serve [default: as many as the uplink carries].
    #[arg(long, value_name = "N", value_parser = count(0, CHILDREN_MAX), allow_hyphen_values = true)]
    pub max_children: Option<u32>,
    /// Most upload to use, all children together, for example 8Mbit.
    #[arg(long, value_name = "RATE", allow_hyphen_values = true)]
    pub upload_limit: Option<Rate>,
}

/// Checked [`ServeArgs`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serve {
    /// How much of the live stream to hold.
    pub window: Duration,
    /// Most children; none is as many as the uplink carries, 0 is nobody.
    pub max_children: Option<u32>,
    /// Most upload, all children together.
    pub upload_limit: Option<Rate>,
}

impl ServeArgs {
    /// Settings.
    pub(super) fn check(self) -> Serve {
        Serve {
            window: self.window.map_or(WINDOW_DEFAULT, DurationValue::get),
            max_children: self.max_children,
            upload_limit: self.upload_limit,
        }
    }
}

/// How a channel is found.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Channel")]
pub struct TrackerArgs {
    /// Trackers to ask.
    #[arg(
        long,
        value_name = "URL",
        help = "Tracker: http://HOST[:PORT][/PATH], https://..., or HOST[:PORT] with port 7851 unless told. Repeatable"
    )]
    pub tracker: Vec<TrackerUrl>,
    /// Trust https trackers whose certificate these authorities (PEM) signed, beside the usual ones.
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
}

/// How a channel is joined.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Channel")]
pub struct JoinArgs {
    /// Neighbours to fetch from, in order of preference.
    #[arg(
        long,
        value_name = "ADDR",
        help = "Fetch from this source, relay or peer: HOST[:PORT], port 7850 unless told. Repeatable, in order of preference"
    )]
    pub parent: Vec<ParentAddr>,
    /// Play this long after the source signed, to leave time for repair: 0s to 10min.
    #[arg(long, value_name = "DUR", value_parser = duration(LATENCY.0, LATENCY.1), allow_hyphen_values = true)]
    pub latency: Option<DurationValue>,
    /// Where to begin.
    #[arg(long, value_name = "WHERE")]
    pub from: Option<StartAt>,
    /// Give up when there is no first media after this long: 1ms to 1d [default: wait for ever].
    #[arg(long, value_name = "DUR", value_parser = duration(TIMEOUT.0, TIMEOUT.1), allow_hyphen_values = true)]
    pub timeout: Option<DurationValue>,
}

/// What names a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelKey {
    /// Its name; trackers and parents know the swarm.
    Name(ChannelName),
    /// Its swarm identifier.
    Id(SwarmId),
}

/// One channel to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// What to join.
    pub channel: ChannelKey,
    /// Trackers to ask, in order.
    pub trackers: Vec<TrackerUrl>,
    /// Neighbours to fetch from, in order of preference: those of the command line, then those of the address.
    pub parents: Vec<ParentAddr>,
    /// What admits us, from a ticket.
    pub token: Option<Token>,
    /// The cluster that a relay serves.
    pub service: Option<Service>,
    /// How long after the signed time to play.
    pub latency: Duration,
    /// Where to begin.
    pub from: StartAt,
    /// How much of the live stream to hold.
    pub window: Duration,
    /// When to give up; none is never.
    pub timeout: Option<Duration>,
    /// What is wanted of a provider.
    pub deal: Deal,
}

impl JoinArgs {
    /// One channel of `given`, with what the flags say about every channel.
    fn join(
        &self,
        given: Given,
        tracker: &[TrackerUrl],
        window: Option<DurationValue>,
    ) -> Result<Join, CliError> {
        let mut trackers = tracker.to_vec();
        let mut parents = self.parent.clone();
        let mut token = None;
        let mut options = UriOptions::default();
        let channel = match given {
            Given::Name(name) => ChannelKey::Name(name),
            Given::Reference(ChannelRef::Uri(uri)) => {
                options = uri.options;
                match uri.place {
                    Place::Trackers { trackers: at, name } => {
                        trackers.extend(at);
                        ChannelKey::Name(name)
                    }
                    Place::Parents {
                        channel,
                        parents: at,
                    } => {
                        parents.extend(at);
                        ChannelKey::Id(channel)
                    }
                }
            }
            Given::Reference(ChannelRef::Ticket(ticket)) => {
                trackers.extend(ticket.trackers);
                parents.extend(ticket.relays);
                token = ticket.token;
                ChannelKey::Id(ticket.channel)
            }
        };
        if trackers.is_empty() && parents.is_empty() {
            return Err(CliError::usage(
                "no way to the channel",
                "give --tracker or --parent",
            ));
        }
        let span = |flag: Option<DurationValue>, option: Option<DurationValue>| {
            flag.or(option).map(DurationValue::get)
        };
        Ok(Join {
            channel,
            trackers,
            parents,
            token,
            service: None,
            latency: span(self.latency, options.latency).unwrap_or(LATENCY_DEFAULT),
            from: self.from.or(options.from).unwrap_or_default(),
            window: span(window, options.window).unwrap_or(WINDOW_DEFAULT),
            timeout: span(self.timeout, options.timeout),
            deal: Deal::default(),
        })
    }

    /// Every channel that was asked for, addresses first, in the order given.
    pub(super) fn check(
        &self,
        references: Vec<ChannelRef>,
        names: Vec<ChannelName>,
        tracker: &[TrackerUrl],
        window: Option<DurationValue>,
    ) -> Result<Vec<Join>, CliError> {
        if references.is_empty() && names.is_empty() {
            return Err(CliError::usage(
                "no channel",
                "give a p2ps:// address or a ticket",
            ));
        }
        let references = references.into_iter().map(Given::Reference);
        let names = names.into_iter().map(Given::Name);
        references
            .chain(names)
            .map(|given| self.join(given, tracker, window))
            .collect()
    }
}

/// A channel as it was given.
enum Given {
    Reference(ChannelRef),
    Name(ChannelName),
}

/// Where records go.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Records")]
pub struct StatsArgs {
    /// Write records (JSON lines) to -, fd:N, PATH, unix:PATH or udp://HOST:PORT. Repeatable.
    #[arg(long, value_name = "DEST")]
    pub stats: Vec<Destination>,
    /// Time between interval records: 100ms to 1h.
    #[arg(long, value_name = "DUR", default_value = "1s", allow_hyphen_values = true,
        value_parser = duration(Duration::from_millis(100), Duration::from_secs(3600)))]
    pub stats_interval: Option<DurationValue>,
    /// Serve Prometheus metrics over HTTP at this address.
    #[arg(long, value_name = "ADDR:PORT")]
    pub metrics: Option<ListenAddr>,
}

/// Checked [`StatsArgs`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Where records go; none was asked for when empty.
    pub dests: Vec<Destination>,
    /// Time between interval records.
    pub interval: Duration,
    /// Where to serve metrics.
    pub metrics: Option<ListenAddr>,
}

impl StatsArgs {
    /// Settings; `media` names the option that already writes media to standard output.
    pub(super) fn check(self, media: Option<&str>) -> Result<Stats, CliError> {
        let stdout =
            |dest: &Destination| matches!(dest, Destination::Stdout | Destination::Descriptor(1));
        if let (Some(media), Some(dest)) = (media, self.stats.iter().find(|dest| stdout(dest))) {
            return Err(CliError::exclusive(&format!("--stats {dest}"), media));
        }
        Ok(Stats {
            dests: self.stats,
            interval: self
                .stats_interval
                .map_or(Duration::from_secs(1), DurationValue::get),
            metrics: self.metrics,
        })
    }
}

/// How the process behaves towards whoever started it.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Process")]
pub struct ProcessArgs {
    /// Read settings from this TOML file; keys are the long option names. Flags and P2PS_* win over it.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print every setting and where it came from, and exit.
    #[arg(long)]
    pub print_config: bool,
    /// Check options and configuration, and exit: 0 or 2.
    #[arg(long)]
    pub check_config: bool,
    /// Do everything up to the first packet: open, read, bind; then exit. A peer asks its trackers what it would get.
    #[arg(long)]
    pub dry_run: bool,
    /// Run this with sh -c once everything is bound; facts are in P2PS_FACT_*.
    #[arg(long, value_name = "CMD")]
    pub on_ready: Option<String>,
    /// Run this with sh -c at the end; facts are in P2PS_FACT_*.
    #[arg(long, value_name = "CMD")]
    pub on_exit: Option<String>,
    /// Write one line to this descriptor once everything is bound: 3 to 1023.
    #[arg(long, value_name = "N", value_parser = count(3, DESCRIPTOR_MAX), allow_hyphen_values = true)]
    pub ready_fd: Option<u32>,
    /// Write the process id to this file, and remove it at the end.
    #[arg(long, value_name = "PATH")]
    pub pid_file: Option<PathBuf>,
    /// Draw every random choice but keys from this number, to repeat a run.
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = seed)]
    pub seed: Option<u64>,
}

/// A number of 64 bits.
fn seed(text: &str) -> Result<u64, ValueError> {
    text.parse().map_err(|_| ValueError::OutOfRange {
        low: "0".to_owned(),
        high: u64::MAX.to_string(),
    })
}

/// Checked [`ProcessArgs`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Stop before the first packet.
    pub dry_run: bool,
    /// Command for the moment when everything is bound.
    pub on_ready: Option<String>,
    /// Command for the end.
    pub on_exit: Option<String>,
    /// Descriptor that hears about readiness.
    pub ready_fd: Option<u32>,
    /// File that names the process.
    pub pid_file: Option<PathBuf>,
    /// Seed of every random choice but keys; none is the system's.
    pub seed: Option<u64>,
}

impl ProcessArgs {
    /// Settings.
    pub(super) fn check(self) -> Process {
        Process {
            dry_run: self.dry_run,
            on_ready: self.on_ready,
            on_exit: self.on_exit,
            ready_fd: self.ready_fd,
            pid_file: self.pid_file,
            seed: self.seed,
        }
    }
}

/// What the tool says to people.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Messages")]
pub struct LogArgs {
    /// Least serious message to show.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log_level: Level,
    /// Form of messages on standard error.
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub log_format: LogFormat,
    /// Say more; twice for everything.
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Say nothing but errors.
    #[arg(short, long)]
    pub quiet: bool,
    /// Show no progress line on a terminal.
    #[arg(long)]
    pub no_progress: bool,
}

/// How serious a message must be to be shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Level {
    /// Nothing.
    Off,
    /// What ends the tool, or costs media.
    Error,
    /// What somebody should look at.
    Warn,
    /// What happened.
    #[default]
    Info,
    /// Why it happened.
    Debug,
    /// Every step.
    Trace,
}

/// How messages are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line of words.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Checked [`LogArgs`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// Least serious message to show.
    pub level: LevelFilter,
    /// Form of messages.
    pub format: LogFormat,
    /// Whether a progress line may be shown when standard error is a terminal.
    pub progress: bool,
}

impl LogArgs {
    /// Settings.
    pub(super) fn check(self) -> Result<Log, CliError> {
        if self.quiet && self.verbose > 0 {
            return Err(CliError::exclusive("-q", "-v"));
        }
        let level = match (self.quiet, self.verbose) {
            (true, _) => self.log_level.min(Level::Error),
            (_, 0) => self.log_level,
            (_, 1) => self.log_level.max(Level::Debug),
            _ => Level::Trace,
        };
        Ok(Log {
            level: match level {
                Level::Off => LevelFilter::OFF,
                Level::Error => LevelFilter::ERROR,
                Level::Warn => LevelFilter::WARN,
                Level::Info => LevelFilter::INFO,
                Level::Debug => LevelFilter::DEBUG,
                Level::Trace => LevelFilter::TRACE,
            },
            format: self.log_format,
            progress: !self.no_progress && !self.quiet,
        })
    }
}
