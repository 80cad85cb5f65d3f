//! Arguments of `p2ps-source`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

use super::access::{Access, AllowArgs, LoginArgs};
use super::common::{
    Log, LogArgs, Net, NetArgs, Process, ProcessArgs, Serve, ServeArgs, Stats, StatsArgs,
    TrackerArgs, state_dir,
};
use super::exit::{CliError, Exit};
use super::layer::Understood;
use super::manual::{self, Manual};
use super::peer::writes_stdout;
use super::value::{
    ChannelName, ChannelUri, DurationValue, ParentAddr, Place, Ticket, TrackerUrl, ValueError,
    count, duration,
};
use super::{Tool, run};
use crate::chunk::Layout;
use crate::io::media::{self, Endpoint, InputOptions};

/// Transport stream packets in a chunk that is sealed: as many as leave room for the seal in 1316 bytes.
const PACKETS_SEALED: u32 = 6;

/// Longest wait before a munro is signed, and of one with few chunks.
const SIGN_DELAYS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(100));

/// Longest title, in characters.
const TITLE_CHARACTERS_MAX: usize = 256;

/// Turn media on standard input into a signed live channel.
///
/// Reads a transport stream (or any bytes) from standard input, a file, a descriptor or the network, cuts it into
/// chunks, signs them and sends them to whoever subscribes: relays and peers, found through a tracker or by hand.
#[derive(Parser, Clone, Debug)]
#[command(name = "p2ps-source", version, args_conflicts_with_subcommands = true)]
pub struct Args {
    /// What to do instead of streaming.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Media to stream: -, fd:N, PATH, udp://HOST:PORT, rtp://HOST:PORT or unix:PATH.
    #[arg(
        short,
        long,
        value_name = "IN",
        default_value = "-",
        help_heading = "Media"
    )]
    pub input: Endpoint,
    /// How fast to read: by the stream's clock (pcr; the default for files) or as it comes (none).
    #[arg(long, value_name = "HOW", help_heading = "Media")]
    pub pace: Option<Pace>,
    /// What to do when the input ends: end the channel, or wait for the next encoder.
    #[arg(
        long,
        value_name = "WHAT",
        default_value = "exit",
        help_heading = "Media"
    )]
    pub on_eof: OnEof,
    /// Write the media that was read to this output as well; - is standard output.
    #[arg(long, value_name = "OUT", help_heading = "Media")]
    pub tee: Option<Endpoint>,
    /// Longest wait before what was read is signed and sent: 1ms to 2s [default: 20ms, of a slow stream up to 100ms].
    #[arg(long, value_name = "DUR", allow_hyphen_values = true, help_heading = "Media",
        value_parser = duration(Duration::from_millis(1), Duration::from_secs(2)))]
    pub sign_delay: Option<DurationValue>,
    /// Transport stream packets in a chunk: 1 to 7, 6 with --seal; fewer where the path takes only small datagrams
    /// [default: as many as go].
    #[arg(long, value_name = "N", allow_hyphen_values = true, help_heading = "Media", value_parser = count(1, 7))]
    pub chunk_packets: Option<u32>,
    /// Substreams that the stream is cut into, so that a viewer can get it from several parents, each a part: 1, 2, 4 or 8.
    #[arg(long, value_name = "N", default_value = "1", allow_hyphen_values = true, help_heading = "Media",
        value_parser = substreams)]
    pub substreams: Layout,
    /// Seal the media: only those whom the tracker lets watch can read it, and relays pass it on unread. The channel has to
    /// be closed at its tracker.
    #[arg(long, help_heading = "Channel")]
    pub seal: bool,
    /// Name of the channel at its trackers: 1 to 64 of A-Z a-z 0-9 . _ -
    #[arg(long, value_name = "NAME", help_heading = "Channel")]
    pub channel: Option<ChannelName>,
    /// Title for people.
    #[arg(long, value_name = "TEXT", value_parser = title, help_heading = "Channel")]
    pub title: Option<String>,
    /// How the channel is found.
    #[command(flatten)]
    pub tracker: TrackerArgs,
    /// Secret key that signs the channel; mode 0600 [default: NAME.key in the state directory, made when missing].
    #[arg(long, value_name = "FILE", help_heading = "Channel")]
    pub key: Option<PathBuf>,
    /// Directory for keys and counters [default: $STATE_DIRECTORY, else $XDG_STATE_HOME/p2ps].
    #[arg(long, value_name = "DIR", help_heading = "Channel")]
    pub state_dir: Option<PathBuf>,
    /// What is served.
    #[command(flatten)]
    pub serve: ServeArgs,
    /// To whom.
    #[command(flatten)]
    pub allow: AllowArgs,
    /// Who we are to trackers.
    #[command(flatten)]
    pub login: LoginArgs,
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

/// What `p2ps-source` does beside streaming.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Make a secret key and print its channel id.
    Keygen {
        /// File to write the key to, which must not exist; - prints the key itself, and the channel id on standard
        /// error.
        #[arg(short, long, value_name = "FILE", default_value = "-")]
        output: String,
        /// Signature algorithm.
        #[arg(long, value_name = "NAME", default_value = "ed25519")]
        algorithm: Algorithm,
    },
    /// Print one word with which others can join.
    Ticket {
        /// Secret key of the channel; mode 0600.
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// Name of the channel; without --key, its key in the state directory is used.
        #[arg(long, value_name = "NAME")]
        channel: Option<ChannelName>,
        /// Directory for keys and counters [default: $STATE_DIRECTORY, else $XDG_STATE_HOME/p2ps].
        #[arg(long, value_name = "DIR")]
        state_dir: Option<PathBuf>,
        /// Tracker that knows the channel. Repeatable.
        #[arg(long, value_name = "URL")]
        tracker: Vec<TrackerUrl>,
        /// Where the channel can be had.
        #[arg(
            long,
            value_name = "ADDR",
            help = "Source or relay that carries the channel: HOST[:PORT]. Repeatable"
        )]
        relay: Vec<ParentAddr>,
        /// Print a p2ps:// address instead: of the relays when there are any, else of the trackers.
        #[arg(long)]
        uri: bool,
    },
}

/// How fast the input is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Pace {
    /// By the program clock of the transport stream.
    Pcr,
    /// As it comes.
    None,
}

/// What happens when the input ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnEof {
    /// End the channel with a signed mark.
    Exit,
    /// Keep the channel and open the input again.
    Wait,
}

/// Algorithms a channel can be signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Algorithm {
    /// Ed25519: small and quick; what our own tools prefer.
    Ed25519,
    /// ECDSA on P-256 with SHA-256.
    P256,
    /// ECDSA on P-384 with SHA-384.
    P384,
}

/// A number of substreams that there is a layout for.
fn substreams(text: &str) -> Result<Layout, ValueError> {
    let layout = text.parse().ok().and_then(Layout::new);
    layout.ok_or(ValueError::NeedOneOf {
        words: "1, 2, 4 or 8",
    })
}

/// A title of 1 to 256 printable characters.
fn title(text: &str) -> Result<String, ValueError> {
    let found = text.chars().count();
    if found > TITLE_CHARACTERS_MAX {
        return Err(ValueError::TooLong {
            found,
            limit: TITLE_CHARACTERS_MAX,
        });
    }
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(ValueError::NeedOneOf {
            words: "one line of printable text",
        });
    }
    Ok(text.to_owned())
}

/// Where the secret key of a channel is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPlace {
    /// A file that must exist.
    Given(PathBuf),
    /// A file of the state directory, made when missing.
    State(PathBuf),
}

impl KeyPlace {
    /// The file.
    pub fn path(&self) -> &std::path::Path {
        match self {
            Self::Given(path) | Self::State(path) => path,
        }
    }
}

/// What `p2ps-source` was asked to do.
#[derive(Clone, Debug)]
pub enum Job {
    /// Stream.
    Stream(Box<Settings>),
    /// Make a key.
    Keygen(KeygenSettings),
    /// Print a ticket.
    Ticket(TicketSettings),
}

/// Checked arguments of a source that streams.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Media to stream.
    pub input: Endpoint,
    /// How fast to read it, and what to do when it ends.
    pub input_options: InputOptions,
    /// Where else the media goes.
    pub tee: Option<Endpoint>,
    /// Longest wait before a munro is signed, and of one with few chunks.
    pub sign_delay: (Duration, Duration),
    /// Transport stream packets in a chunk, 1 to 7.
    pub chunk_packets: u8,
    /// How the stream is cut into substreams.
    pub layout: Layout,
    /// Seal the media.
    pub seal: bool,
    /// Name of the channel.
    pub channel: ChannelName,
    /// Title for people.
    pub title: Option<String>,
    /// Trackers to announce to.
    pub trackers: Vec<TrackerUrl>,
    /// Where the key is.
    pub key: KeyPlace,
    /// Where counters are kept.
    pub state_dir: PathBuf,
    /// What is served.
    pub serve: Serve,
    /// Authorities to trust beside the usual ones.
    pub tls_ca: Option<PathBuf>,
    /// To whom.
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

/// Checked arguments of `keygen`.
#[derive(Clone, Debug)]
pub struct KeygenSettings {
    /// File for the key; none is standard output.
    pub output: Option<PathBuf>,
    /// Signature algorithm.
    pub algorithm: Algorithm,
}

/// Checked arguments of `ticket`.
#[derive(Clone, Debug)]
pub struct TicketSettings {
    /// Where the key is.
    pub key: PathBuf,
    /// Name of the channel.
    pub channel: Option<ChannelName>,
    /// Trackers to list.
    pub trackers: Vec<TrackerUrl>,
    /// Relays to list.
    pub relays: Vec<ParentAddr>,
    /// Print a `p2ps://` address.
    pub uri: bool,
}

impl TicketSettings {
    /// The one word (or address) for a channel id, once the key is read.
    ///
    /// # Errors
    ///
    /// When an address was asked for, and neither relays nor a name and trackers are there to put into it.
    pub fn text(&self, channel: crate::ids::SwarmId) -> Result<String, CliError> {
        if !self.uri {
            return Ok(Ticket {
                channel,
                trackers: self.trackers.clone(),
                relays: self.relays.clone(),
                token: None,
            }
            .to_string());
        }
        let place = match (&self.channel, self.relays.is_empty()) {
            (_, false) => Place::Parents {
                channel,
                parents: self.relays.clone(),
            },
            (Some(name), true) if !self.trackers.is_empty() => Place::Trackers {
                trackers: self.trackers.clone(),
                name: name.clone(),
            },
            _ => {
                return Err(CliError::usage(
                    "no way to the channel",
                    "give --relay, or --channel and --tracker",
                ));
            }
        };
        let options = super::value::UriOptions::default();
        Ok(ChannelUri { place, options }.to_string())
    }
}

/// Name of the key file of a channel in the state directory.
fn key_in(state_dir: &std::path::Path, channel: &ChannelName) -> PathBuf {
    state_dir.join(format!("{channel}.key"))
}

impl Tool for Args {
    const NAME: &'static str = "p2ps-source";
    const IMPLIED: &'static [(&'static str, &'static str)] = &[
        ("listen", ":7850"),
        ("sign-delay", "20ms"),
        ("window", "1min"),
    ];
    const MANUAL: Manual = manual::SOURCE;
    type Job = Job;

    fn check(self) -> Result<Job, CliError> {
        match self.command {
            Some(Command::Keygen { output, algorithm }) => {
                return Ok(Job::Keygen(KeygenSettings {
                    output: (output != "-").then(|| output.into()),
                    algorithm,
                }));
            }
            Some(Command::Ticket {
                key,
                channel,
                state_dir: dir,
                tracker,
                relay,
                uri,
            }) => {
                let key = match (key, &channel) {
                    (Some(key), _) => key,
                    (None, Some(channel)) => key_in(&state_dir(dir)?, channel),
                    (None, None) => {
                        return Err(CliError::usage("no key", "give --key or --channel"));
                    }
                };
                for (what, found) in [("--tracker", tracker.len()), ("--relay", relay.len())] {
                    if found > Ticket::HOSTS_MAX {
                        let why = format!("{found} given, limit {}", Ticket::HOSTS_MAX);
                        return Err(CliError::usage(format!("too many {what}"), why));
                    }
                }
                return Ok(Job::Ticket(TicketSettings {
                    key,
                    channel,
                    trackers: tracker,
                    relays: relay,
                    uri,
                }));
            }
            None => {}
        }
        let channel = self
            .channel
            .ok_or_else(|| CliError::usage("no channel", "name it with --channel"))?;
        let state_dir = state_dir(self.state_dir)?;
        let access = Access::of_source(self.allow, self.login);
        if access.reads_stdin() && matches!(self.input, Endpoint::Standard) {
            return Err(CliError::exclusive("--token-file -", "--input -"));
        }
        if self.seal && self.tracker.tracker.is_empty() {
            let why = "add --tracker: the keys come from there";
            return Err(CliError::usage("cannot seal", why));
        }
        let most = if self.seal { PACKETS_SEALED } else { 7 };
        let chunk_packets = self.chunk_packets.unwrap_or(most);
        if chunk_packets > most {
            let why = format!("with --seal at most {most} go into a datagram");
            return Err(CliError::usage("bad --chunk-packets 7", why));
        }
        let to_stdout = self.tee.as_ref().is_some_and(writes_stdout);
        Ok(Job::Stream(Box::new(Settings {
            input: self.input,
            input_options: InputOptions {
                pace: self.pace.map(|pace| match pace {
                    Pace::Pcr => media::Pace::Pcr,
                    Pace::None => media::Pace::None,
                }),
                on_eof: match self.on_eof {
                    OnEof::Exit => media::OnEof::End,
                    OnEof::Wait => media::OnEof::Wait,
                },
            },
            tee: self.tee,
            sign_delay: match self.sign_delay.map(DurationValue::get) {
                Some(delay) => (delay, delay),
                None => SIGN_DELAYS,
            },
            chunk_packets: chunk_packets as u8, // 1 to 7 by its parser.
            layout: self.substreams,
            seal: self.seal,
            key: self.key.map_or_else(
                || KeyPlace::State(key_in(&state_dir, &channel)),
                KeyPlace::Given,
            ),
            channel,
            title: self.title,
            trackers: self.tracker.tracker,
            state_dir,
            serve: self.serve.check(),
            tls_ca: self.tracker.tls_ca,
            access,
            net: self.net.check_udp()?,
            stats: self.stats.check(to_stdout.then_some("--tee -"))?,
            process: self.process.check(),
            log: self.log.check()?,
        })))
    }

    fn run(job: Job, understood: &Understood) -> Result<Exit, CliError> {
        match job {
            Job::Stream(settings) => run::source(*settings, understood),
            Job::Keygen(settings) => run::keygen(&settings),
            Job::Ticket(settings) => run::ticket(&settings),
        }
    }
}
