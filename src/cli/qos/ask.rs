//! Questions to a tracker: the arguments of each, and the request that they make.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::Format;
use crate::cli::exit::CliError;
use crate::cli::value::{
    ChannelName, ChannelUri, DurationValue, Place, Rate, ReferenceError, Shown, Since, TrackerUrl,
    duration,
};
use crate::io::http::tracker_url;

/// Shortest and longest time between two rounds of `--watch`.
const WATCH: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3600));

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Everybody.
    Users,
    /// Price packets.
    Packets,
    /// Price intervals.
    Intervals,
    /// Who pays.
    Clients,
    /// Who does not.
    Peers,
    /// Bandwidth of clients.
    Bandwidth,
    /// Latency of clients.
    Latency,
    /// Jitter of clients.
    Jitter,
    /// Several of these three.
    Qos,
    /// First-level clients with a packet.
    DirectClients,
    /// Who serves whom.
    Status,
    /// Samples over time.
    History,
    /// Clusters of servers.
    Clusters,
}

impl Subject {
    /// The call of the API that answers it.
    const fn call(self) -> &'static str {
        match self {
            Self::Users => "get_user_table",
            Self::Packets => "get_price_packets",
            Self::Intervals => "get_price_intervals",
            Self::Clients => "get_clients",
            Self::Peers => "get_peers",
            Self::Bandwidth => "get_bandwidth",
            Self::Latency => "get_latency",
            Self::Jitter => "get_jitter",
            Self::Qos => "get_qos",
            Self::DirectClients => "get_direct_clients_of_packet",
            Self::Status => "get_clients_status",
            Self::History => "history",
            Self::Clusters => "clusters",
        }
    }

    /// The word for it.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Packets => "packets",
            Self::Intervals => "intervals",
            Self::Clients | Self::DirectClients => "clients",
            Self::Peers => "peers",
            Self::Bandwidth => "bandwidth",
            Self::Latency => "latency",
            Self::Jitter => "jitter",
            Self::Qos => "quality",
            Self::Status => "status",
            Self::History => "history",
            Self::Clusters => "clusters",
        }
    }
}

/// A channel by its name, or with its tracker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    trackers: Vec<TrackerUrl>,
    name: ChannelName,
}

impl FromStr for Target {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if !text.contains("://") {
            let name = text.parse().map_err(|why| ReferenceError::Uri {
                uri: Shown::new(text),
                why,
            })?;
            let trackers = Vec::new();
            return Ok(Self { trackers, name });
        }
        match text.parse::<ChannelUri>()?.place {
            Place::Trackers { trackers, name } => Ok(Self { trackers, name }),
            Place::Parents { .. } => Err(ReferenceError::Uri {
                uri: Shown::new(text),
                why: crate::cli::value::ValueError::NeedOneOf {
                    words: "p2ps://TRACKER/CHANNEL",
                },
            }),
        }
    }
}

/// Whom to ask, and how to print the answer.
#[derive(Clone, Debug, clap::Args)]
pub struct CommonArgs {
    /// Trackers to ask, in order.
    #[arg(
        long,
        value_name = "URL",
        help = "Tracker: http://HOST[:PORT][/PATH], https://..., or HOST[:PORT] with port 7851 unless told. Repeatable"
    )]
    pub tracker: Vec<TrackerUrl>,
    /// Trust https trackers whose certificate these authorities (PEM) signed, beside the usual ones.
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// File with the token of a session at the provider, mode 0600, where the tracker asks for one.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Ask again and again: on a terminal the table is painted anew, elsewhere every row says its round.
    #[arg(long, value_name = "DUR", num_args = 0..=1, default_missing_value = "2s",
        value_parser = duration(WATCH.0, WATCH.1), allow_hyphen_values = true)]
    pub watch: Option<DurationValue>,
    /// A table for people, or JSON lines; the default is a table on a terminal and JSON lines elsewhere.
    #[arg(long, value_enum, default_value_t = Format::Auto)]
    pub format: Format,
}

/// Arguments of a question about one channel.
#[derive(Clone, Debug, clap::Args)]
pub struct TableArgs {
    /// Channel: its name, or p2ps://TRACKER/CHANNEL.
    #[arg(value_name = "CHANNEL")]
    pub target: Option<Target>,
    /// Channel by its name.
    #[arg(long, value_name = "NAME")]
    pub content: Option<ChannelName>,
    /// Whom to ask.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// What quality a user must have to be listed.
#[derive(Clone, Debug, clap::Args)]
pub struct Bounds {
    /// Only with this much bandwidth or more, such as 10Mbit.
    #[arg(long, value_name = "RATE", allow_hyphen_values = true)]
    pub bandwidth: Option<Rate>,
    /// Only with this latency or less, such as 60ms.
    #[arg(long, value_name = "DUR", allow_hyphen_values = true,
        value_parser = duration(Duration::ZERO, Duration::from_secs(3600)))]
    pub latency: Option<DurationValue>,
    /// Only with this jitter or less, a plain number such as 1.5.
    #[arg(long, value_name = "N", value_parser = parse_jitter, allow_hyphen_values = true)]
    pub jitter: Option<f64>,
}

/// Arguments of a question for those of a certain quality.
#[derive(Clone, Debug, clap::Args)]
pub struct FilterArgs {
    /// The channel.
    #[command(flatten)]
    pub table: TableArgs,
    /// The quality.
    #[command(flatten)]
    pub bounds: Bounds,
}

/// Arguments of `direct-clients`.
#[derive(Clone, Debug, clap::Args)]
pub struct DirectArgs {
    /// Those of a certain quality.
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Price packet: gold, silver, bronze, or what the provider calls them.
    #[arg(long, value_name = "NAME", required = true)]
    pub packet: ChannelName,
}

/// One of three things that are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Field {
    /// Bandwidth.
    Bw,
    /// Latency.
    Lat,
    /// Jitter.
    Jit,
}

/// Arguments of `qos`.
#[derive(Clone, Debug, clap::Args)]
pub struct FieldArgs {
    /// The channel.
    #[command(flatten)]
    pub table: TableArgs,
    /// What to list, with commas between: bw, lat, jit.
    #[arg(
        long,
        value_name = "FIELD",
        value_delimiter = ',',
        default_value = "bw,lat,jit"
    )]
    pub fields: Vec<Field>,
}

/// Arguments of `history`.
#[derive(Clone, Debug, clap::Args)]
pub struct HistoryArgs {
    /// The channel.
    #[command(flatten)]
    pub table: TableArgs,
    /// From when on: a time such as 2026-11-21T20:00:00Z, or how long ago, such as 10min.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub since: Option<Since>,
    /// Only this user.
    #[arg(long, value_name = "ID", value_parser = parse_id)]
    pub id: Option<String>,
    /// Read what a source, relay or peer kept itself: http://HOST:PORT/history at its --metrics address.
    #[arg(long, value_name = "URL", value_parser = parse_url)]
    pub from: Option<String>,
}

/// Arguments of `clusters`.
#[derive(Clone, Debug, clap::Args)]
pub struct ClusterArgs {
    /// Whom to ask.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Jitter: a number from 0 on.
fn parse_jitter(text: &str) -> Result<f64, &'static str> {
    match text.parse::<f64>() {
        Ok(jitter) if (0.0..=1e6).contains(&jitter) => Ok(jitter),
        _ => Err("need a number from 0 on, for example 1.5"),
    }
}

/// The name that the provider gave somebody, such as `C1_2`, or that of a node.
fn parse_id(text: &str) -> Result<String, &'static str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=64).contains(&text.len()) && text.bytes().all(plain) {
        Ok(text.to_owned())
    } else {
        Err("need a user, for example C1_2")
    }
}

/// The address of a page.
fn parse_url(text: &str) -> Result<String, &'static str> {
    const NEED: &str = "need http://HOST:PORT/history";
    if !text.contains("://") || text.contains(['?', '#']) {
        return Err(NEED);
    }
    tracker_url(text).map_err(|_| NEED)
}

/// A question, ready to be asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// What is asked for.
    pub subject: Subject,
    /// The channel, where it is about one.
    pub content: Option<String>,
    /// The URLs that answer it, to be tried in order.
    pub urls: Vec<String>,
    /// Members of the question, names and values; none needs escaping but a time.
    pub members: Vec<(&'static str, String)>,
    /// From when on.
    pub since: Option<Since>,
    /// Authorities to trust beside the usual ones.
    pub tls_ca: Option<PathBuf>,
    /// The file with the token.
    pub token_file: Option<PathBuf>,
    /// Time between two rounds.
    pub watch: Option<Duration>,
    /// How the answer is printed.
    pub format: Format,
}

impl Query {
    /// The URL of the question at one of the trackers, by the time that it is.
    pub(super) fn url(&self, base: &str) -> String {
        let since = self.since.map(|since| since.timestamp().to_string());
        let members = self
            .members
            .iter()
            .map(|(name, value)| (*name, value.as_str()));
        let members = members.chain(since.as_deref().map(|since| ("since", since)));
        let mut url = base.to_owned();
        for (index, (name, value)) in members.enumerate() {
            url.push(if index == 0 { '?' } else { '&' });
            url.push_str(name);
            url.push('=');
            url.push_str(value);
        }
        url
    }
}

impl CommonArgs {
    fn query(&self, subject: Subject, target: Option<Target>) -> Result<Query, CliError> {
        let (mut trackers, mut content) = (self.tracker.clone(), None);
        if let Some(target) = target {
            trackers.extend(target.trackers);
            content = Some(target.name.to_string());
        }
        if trackers.is_empty() {
            let why = "give --tracker, or p2ps://TRACKER/CHANNEL";
            return Err(CliError::usage("no tracker", why));
        }
        let urls = trackers.iter().map(|tracker| {
            let url = tracker.to_url();
            format!("{}/v1/{}", url.trim_end_matches('/'), subject.call())
        });
        Ok(Query {
            subject,
            urls: urls.collect(),
            members: content
                .iter()
                .map(|name| ("content", name.clone()))
                .collect(),
            content,
            since: None,
            tls_ca: self.tls_ca.clone(),
            token_file: self.token_file.clone(),
            watch: self.watch.map(DurationValue::get),
            format: self.format,
        })
    }
}

impl TableArgs {
    fn target(&self) -> Result<Option<Target>, CliError> {
        match (&self.target, &self.content) {
            (Some(_), Some(_)) => Err(CliError::exclusive("a channel", "--content")),
            (Some(target), None) => Ok(Some(target.clone())),
            (None, Some(name)) => Ok(Some(Target {
                trackers: Vec::new(),
                name: name.clone(),
            })),
            (None, None) => Ok(None),
        }
    }

    /// The question.
    pub(super) fn query(&self, subject: Subject) -> Result<Query, CliError> {
        let Some(target) = self.target()? else {
            let why = "give its name, or p2ps://TRACKER/CHANNEL";
            return Err(CliError::usage("no channel", why));
        };
        self.common.query(subject, Some(target))
    }
}

impl FilterArgs {
    /// The question.
    pub(super) fn query(&self, subject: Subject) -> Result<Query, CliError> {
        let mut query = self.table.query(subject)?;
        let Bounds {
            bandwidth,
            latency,
            jitter,
        } = &self.bounds;
        let mbps = bandwidth.map(|rate| rate.bits_per_second() as f64 / 1e6);
        let ms = latency.map(|span| span.get().as_secs_f64() * 1e3);
        for (name, value) in [("bandwidth", mbps), ("latency", ms), ("jitter", *jitter)] {
            query
                .members
                .extend(value.map(|value| (name, value.to_string())));
        }
        Ok(query)
    }
}

impl DirectArgs {
    /// The question.
    pub(super) fn query(&self) -> Result<Query, CliError> {
        let mut query = self.filter.query(Subject::DirectClients)?;
        query.members.insert(1, ("packet", self.packet.to_string()));
        Ok(query)
    }
}

impl FieldArgs {
    /// The question.
    pub(super) fn query(&self) -> Result<Query, CliError> {
        let mut query = self.table.query(Subject::Qos)?;
        // In one order, each once.
        let words = [(Field::Bw, "bw"), (Field::Lat, "lat"), (Field::Jit, "jit")];
        let words: Vec<&str> = words
            .into_iter()
            .filter(|(field, _)| self.fields.contains(field))
            .map(|(_, word)| word)
            .collect();
        query.members.push(("fields", words.join(",")));
        Ok(query)
    }
}

impl HistoryArgs {
    /// The question.
    pub(super) fn query(&self) -> Result<Query, CliError> {
        let mut query = match &self.from {
            None => self.table.query(Subject::History)?,
            Some(url) => {
                if self.table.target()?.is_some() {
                    return Err(CliError::exclusive("--from", "a channel"));
                }
                let common = &self.table.common;
                // A tracker in the environment is for the other questions.
                Query {
                    subject: Subject::History,
                    content: None,
                    urls: vec![url.clone()],
                    members: Vec::new(),
                    since: None,
                    tls_ca: common.tls_ca.clone(),
                    token_file: common.token_file.clone(),
                    watch: common.watch.map(DurationValue::get),
                    format: common.format,
                }
            }
        };
        query.members.extend(self.id.clone().map(|id| ("id", id)));
        query.since = self.since;
        Ok(query)
    }
}

impl ClusterArgs {
    /// The question.
    pub(super) fn query(&self) -> Result<Query, CliError> {
        self.common.query(Subject::Clusters, None)
    }
}
