//! From checked settings to a running node: keys, sockets, media, trackers, records, and the way out.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use super::common::{ChannelKey, Join, Net, Process, Serve, Stats};
use super::exit::{CliError, Exit, reason, shown_path};
use super::layer::Understood;
use super::progress::Progress;
use super::run::bind_udp;
use super::value::{Family, Host, ParentAddr, StartAt, TrackerUrl};
use crate::chunk::ChunkIndex;
use crate::ids::PeerId;
use crate::integrity::hash::digest;
use crate::integrity::key::SigningKey;
use crate::io::clock::Clock;
use crate::io::engine::{
    Counter, End, Engine, NotFound, OnEnd, Rendezvous, Reporter, Show, Stream, Teller,
    counter_path, find_channel,
};
use crate::io::lifecycle::Lifecycle;
use crate::io::lines::{Destination, Sink};
use crate::io::media::{Endpoint, Input, Output, OutputOptions};
use crate::io::metrics::{self, Shared};
use crate::io::signal::{Signal, Signals};
use crate::io::udp::Udp;
use crate::node::{Config, Node, Role, StartFrom, SwarmConfig};
use crate::rng::{Rng, Seed};
use crate::stats::{Recorder, Start, Tool as StatsTool};
use crate::store::playout::PlayoutConfig;
use crate::tracker::announce::{Announcer, Identity};
use crate::tracker::message::Role as TrackerRole;
use crate::wire::ChannelDescription;
use crate::wire::option::HashFunction;

/// Trains that one receive call may bring: few from a parent, many acknowledgements from children.
const DIAL_BATCH: usize = 4;
const LISTEN_BATCH: usize = 32;

/// Runs an async body on the one thread of the tool; what still runs in the background ends with it.
pub(super) fn block_on<T>(body: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::new(Exit::Failed, "cannot start", reason(&error)))?;
    let result = runtime.block_on(body);
    runtime.shutdown_background();
    result
}

/// What all nodes have, ready to be made into an engine.
#[derive(Debug)]
pub(super) struct Base {
    pub(super) clock: Clock,
    pub(super) seed: Seed,
    pub(super) rng: Rng,
    pub(super) net: Net,
    pub(super) listen: Udp,
    pub(super) dial: Udp,
    pub(super) progress: Progress,
}

impl Base {
    /// Binds the sockets and draws the seed.
    pub(super) fn new(
        clock: Clock,
        net: &Net,
        process: &Process,
        progress: Progress,
    ) -> Result<Self, CliError> {
        let failed = |what: &'static str| {
            move |error: std::io::Error| CliError::new(Exit::Bind, what, reason(&error))
        };
        let listen = bind_udp(net)?;
        let local = listen.local_addr().map_err(failed("cannot bind"))?;
        let dial =
            Udp::dial_socket(local, net.bind_dev.as_deref()).map_err(failed("cannot bind"))?;
        let seed = seed(process)?;
        let mut rng = Rng::new(seed);
        Ok(Self {
            clock,
            seed: Seed::from_bytes(rng.bytes()),
            rng,
            net: net.clone(),
            listen: Udp::new(listen, LISTEN_BATCH).map_err(failed("cannot use socket"))?,
            dial: Udp::new(dial, DIAL_BATCH).map_err(failed("cannot use socket"))?,
            progress,
        })
    }

    /// A random name for a node without a key.
    pub(super) fn peer_id(&mut self) -> PeerId {
        PeerId::from_bytes(self.rng.next_u64().to_be_bytes())
    }

    /// The trackers of a channel, to be kept informed.
    pub(super) fn announcer(
        &mut self,
        identity: Identity,
        trackers: &[TrackerUrl],
    ) -> (Announcer, Vec<String>) {
        let urls: Vec<String> = trackers.iter().map(TrackerUrl::to_url).collect();
        (
            Announcer::new(self.clock.now(), identity, urls.len(), self.rng.child()),
            urls,
        )
    }
}

/// Where random choices come from: `--seed`, else the system.
pub(super) fn seed(process: &Process) -> Result<Seed, CliError> {
    if let Some(number) = process.seed {
        return Ok(Seed::from_number(number));
    }
    let mut bytes = [0; 32];
    // Straight from the kernel: the library that signs gathers jitter of its own first, for 70 ms and more.
    getrandom::fill(&mut bytes).map_err(|_| {
        CliError::new(
            Exit::Failed,
            "cannot draw random numbers",
            "the system gives none",
        )
    })?;
    Ok(Seed::from_bytes(bytes))
}

/// Opens outputs.
pub(super) async fn open_outputs(
    endpoints: &[Endpoint],
    options: &OutputOptions,
) -> Result<Vec<Output>, CliError> {
    let mut outputs = Vec::with_capacity(endpoints.len());
    for endpoint in endpoints {
        let is_file = matches!(endpoint, Endpoint::File(_));
        let options = OutputOptions {
            rotate: options.rotate.filter(|_| is_file),
            ..options.clone()
        };
        let output = Output::open(endpoint, &options)
            .await
            .map_err(|error| CliError::open(&error, Exit::Output))?;
        if let Some(address) = output.address() {
            tracing::info!("{endpoint} is at {address}");
        }
        outputs.push(output);
    }
    Ok(outputs)
}

/// Records, metrics and lines for people.
pub(super) async fn reporter(
    clock: Clock,
    progress: &Progress,
    tool: StatsTool,
    node: &str,
    channels: &[String],
    stats: &Stats,
    stdout_is_free: bool,
) -> Result<Reporter, CliError> {
    let now = clock.now();
    let recorders = channels.iter().map(|channel| {
        Recorder::new(
            crate::time::Instant::ZERO,
            clock.epoch(),
            tool,
            node,
            channel,
        )
    });
    let mut sinks = Vec::new();
    for dest in &stats.dests {
        sinks.push(open_sink(dest)?);
    }
    // Standard output carries the records of tools that put no media there, unless a person looks at it.
    let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stdout());
    if stdout_is_free && stats.dests.is_empty() && !is_terminal {
        sinks.push(open_sink(&Destination::Stdout)?);
    }
    let line: Option<Teller> =
        (stdout_is_free && is_terminal && stats.dests.is_empty()).then(|| {
            let print: Teller = Box::new(|text: &str| {
                let _ = std::io::Write::write_fmt(&mut std::io::stdout(), format_args!("{text}\n"));
            });
            print
        });
    let shared = match stats.metrics {
        Some(listen) => Some(serve_metrics(tool, channels, listen).await?),
        None => None,
    };
    let progress = progress.clone();
    let live: Teller = Box::new(move |text: &str| {
        if text.is_empty() {
            progress.clear()
        } else {
            progress.set(text)
        }
    });
    let show = Show {
        live: Some(live),
        line,
    };
    Ok(Reporter::new(
        now,
        recorders.collect(),
        sinks,
        shared,
        show,
        stats.interval,
    ))
}

fn open_sink(destination: &Destination) -> Result<Sink, CliError> {
    Sink::open(destination).map_err(|error| {
        CliError::new(
            Exit::Output,
            format!("cannot write records to {destination}"),
            reason(&error),
        )
    })
}

/// Serves the metrics page in the background.
pub(super) async fn serve_metrics(
    tool: StatsTool,
    channels: &[String],
    listen: super::value::ListenAddr,
) -> Result<Shared, CliError> {
    let shared = Shared::new(tool, channels);
    // The whole address left out means this machine only: metrics are nobody else's business.
    let addr = match listen.address {
        Some(ip) => SocketAddr::new(ip, listen.port),
        None => SocketAddr::from(([127, 0, 0, 1], listen.port)),
    };
    let listener = metrics::bind(addr)
        .await
        .map_err(|error| CliError::bind(addr, &error))?;
    if let Ok(addr) = listener.local_addr() {
        tracing::info!("metrics at http://{addr}/metrics");
    }
    let served = shared.clone();
    tokio::spawn(async move {
        if let Err(error) = metrics::serve(listener, served, std::future::pending()).await {
            tracing::warn!("metrics page ended: {error}");
        }
    });
    Ok(shared)
}

/// The `start` record, and the facts for hooks.
pub(super) fn start_record(
    engine_addr: &Udp,
    interval: Duration,
    understood: &Understood,
) -> Start {
    let mut start = Start::new(interval);
    start.listen = vec![engine_addr.local().to_string()];
    let (recv, send) = engine_addr.granted();
    start.recv_buffer_bytes = Some(recv as u64);
    start.send_buffer_bytes = Some(send as u64);
    fill_start(&mut start, understood);
    start
}

/// What every `start` record says about machine, process and settings.
pub(super) fn fill_start(start: &mut Start, understood: &Understood) {
    start.host = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .map(|name| name.trim().to_owned());
    start.pid = Some(std::process::id());
    start.settings = understood
        .settings
        .iter()
        .filter(|setting| !setting.values.is_empty())
        .map(|setting| (setting.name.clone(), setting.values.join(" ")))
        .collect::<BTreeMap<_, _>>();
    start.command = Some(understood.command_line.join(" "));
}

/// Looks a parent up. Names that are not known yet are asked again by the caller.
async fn resolve(parent: &ParentAddr, family: Family) -> Option<SocketAddr> {
    let fits = |addr: &SocketAddr| match family {
        Family::V4 => addr.is_ipv4(),
        Family::V6 => addr.is_ipv6(),
        Family::Any => true,
    };
    match &parent.host {
        Host::Ip(ip) => Some(SocketAddr::new(*ip, parent.port)).filter(fits),
        Host::Name(name) => tokio::net::lookup_host((name.as_str(), parent.port))
            .await
            .ok()?
            .find(fits),
    }
}

/// Looks parents up, waiting for names that are not known yet: the network may come up later than we do.
async fn resolve_all(
    clock: &Clock,
    parents: &[ParentAddr],
    family: Family,
    timeout: Option<Duration>,
    progress: &Progress,
) -> Result<Vec<SocketAddr>, CliError> {
    let mut told = false;
    let end = timeout.map(|timeout| crate::time::Instant::ZERO + timeout);
    loop {
        let mut addrs = Vec::new();
        let mut unknown = None;
        for parent in parents {
            let answer = resolve(parent, family);
            // Servers of names may be silent for longer than we are to wait.
            let answer = match end {
                Some(end) => tokio::time::timeout_at(clock.to_system(end), answer).await,
                None => Ok(answer.await),
            };
            match answer.ok().flatten() {
                Some(addr) => addrs.push(addr),
                None => unknown = Some(parent),
            }
        }
        let Some(unknown) = unknown else {
            return Ok(addrs);
        };
        // One that can be called is enough to begin with.
        if !addrs.is_empty() {
            tracing::warn!("cannot look up {unknown}: going on without it");
            return Ok(addrs);
        }
        if end.is_some_and(|end| clock.now() >= end) {
            return Err(CliError::new(
                Exit::Unreachable,
                format!("cannot reach {unknown}"),
                "name not found",
            ));
        }
        if !std::mem::replace(&mut told, true) {
            tracing::warn!("cannot look up {unknown}: name not found; trying again");
        }
        progress.set(&format!("waiting for the name {}", unknown.host));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Waits for a signal that ends the tool; nobody hangs on it yet, so draining does.
async fn asked_to_stop(signals: &mut Signals) {
    while !matches!(signals.next().await, Signal::Stop | Signal::Drain) {}
}

/// One channel to take part in, found and described.
pub(super) struct Found {
    pub(super) name: String,
    pub(super) swarm: SwarmConfig,
    pub(super) rendezvous: Option<Rendezvous>,
}

/// Finds a channel by its identifier, its name at a tracker, or both.
pub(super) async fn find(
    base: &mut Base,
    signals: &mut Signals,
    peer_id: PeerId,
    join: &Join,
    role: Role,
    plays: bool,
    skip: bool,
) -> Result<Option<Found>, CliError> {
    let parents = resolve_all(
        &base.clock,
        &join.parents,
        base.net.family,
        join.timeout,
        &base.progress,
    );
    let parents = tokio::select! {
        biased;
        () = asked_to_stop(signals) => return Ok(None),
        parents = parents => parents?,
    };
    let identity = Identity {
        peer_id: peer_id.to_string(),
        role: if role == Role::Relay {
            TrackerRole::Relay
        } else {
            TrackerRole::Peer
        },
        channel: match &join.channel {
            ChannelKey::Name(name) => Some(name.to_string()),
            ChannelKey::Id(_) => None,
        },
        swarm_id: match &join.channel {
            ChannelKey::Id(id) => Some(id.to_string()),
            ChannelKey::Name(_) => None,
        },
        title: None,
        description: None,
        port: base.listen.local().port(),
        addresses: Vec::new(),
    };
    let announcer = (!join.trackers.is_empty()).then(|| base.announcer(identity, &join.trackers));
    let playout = plays.then_some(PlayoutConfig {
        latency: join.latency,
        skip,
    });
    let swarm = |swarm_id| SwarmConfig {
        swarm_id,
        window: join.window,
        playout,
        from: match join.from {
            StartAt::Live => StartFrom::Live,
            StartAt::Oldest => StartFrom::Oldest,
        },
        parents: parents.clone(),
        source: None,
        description: None,
    };
    match (&join.channel, announcer) {
        (ChannelKey::Id(id), announcer) => Ok(Some(Found {
            name: id.to_string(),
            swarm: swarm(id.clone()),
            rendezvous: announcer.map(|(announcer, urls)| Rendezvous::new(announcer, urls)),
        })),
        (ChannelKey::Name(name), None) => Err(CliError::usage(
            format!("no tracker for channel {name}"),
            "name one with --tracker, or give the channel id",
        )),
        (ChannelKey::Name(name), Some((announcer, urls))) => {
            base.progress.set(&format!("looking for channel {name}"));
            let stop = asked_to_stop(signals);
            let say = |text: &str| tracing::warn!("{text}");
            let found = find_channel(&base.clock, announcer, &urls, join.timeout, stop, say).await;
            match found {
                Ok((announcer, found, addrs)) => {
                    let mut swarm = swarm(found.swarm_id.clone());
                    swarm.description = genuine(found.description, &found.swarm_id);
                    let mut rendezvous = Rendezvous::new(announcer, urls);
                    rendezvous.begin_with(addrs);
                    Ok(Some(Found {
                        name: name.to_string(),
                        swarm,
                        rendezvous: Some(rendezvous),
                    }))
                }
                Err(NotFound::Stopped) => Ok(None),
                Err(NotFound::NoChannel) => Err(CliError::new(
                    Exit::NoChannel,
                    format!("no channel {name}"),
                    "no tracker knows it",
                )),
                Err(NotFound::Unreachable(list)) => Err(unreachable(&list)),
            }
        }
    }
}

fn unreachable(list: &[(String, String)]) -> CliError {
    let each: Vec<String> = list
        .iter()
        .map(|(url, why)| format!("{} ({why})", host_of(url)))
        .collect();
    let why = if each.is_empty() {
        "no answer in time".to_owned()
    } else {
        each.join(", ")
    };
    CliError::new(Exit::Unreachable, "cannot reach any tracker", why)
}

/// Host of a tracker's address, as error lines name it.
fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

/// A description whose signature holds for the swarm.
fn genuine(
    description: Option<bytes::Bytes>,
    swarm_id: &crate::ids::SwarmId,
) -> Option<bytes::Bytes> {
    let bytes = description?;
    check_description(&bytes)
        .filter(|description| description.swarm_id == *swarm_id)
        .map(|_| bytes)
}

/// Reads a channel description and verifies it by the key that it names.
pub(super) fn check_description(bytes: &[u8]) -> Option<ChannelDescription> {
    let description = ChannelDescription::decode(bytes::Bytes::copy_from_slice(bytes)).ok()?;
    let key = crate::integrity::key::VerifyingKey::from_swarm_id(&description.swarm_id).ok()?;
    key.verify(&description.signed_bytes(), &description.signature)
        .then_some(description)
}

/// What a source says about its channel.
pub(super) fn describe(
    key: &SigningKey,
    name: &str,
    title: &str,
    chunk_packets: u8,
) -> Option<bytes::Bytes> {
    let mut description = ChannelDescription {
        name: name.to_owned(),
        title: title.to_owned(),
        swarm_id: key.swarm_id(),
        chunk_bytes_max: u16::from(chunk_packets) * 188,
        munro_width: 32,
        substreams: 1,
        data_substreams: 1,
        run_length: 1,
        signature: bytes::Bytes::new(),
    };
    description.signature = key.sign(&description.signed_bytes());
    description.encode()
}

/// The name of a node with a key: the head of the key's hash.
pub(super) fn peer_id_of(key: &SigningKey) -> PeerId {
    let hash = digest(
        HashFunction::Sha256,
        key.swarm_id().as_bytes().get(1..).unwrap_or_default(),
    );
    PeerId::from_bytes(hash.as_bytes().first_chunk().copied().unwrap_or_default())
}

/// Opens the counter of a source, making its directory.
pub(super) fn open_counter(
    state_dir: &Path,
    name: &str,
) -> Result<(Counter, ChunkIndex), CliError> {
    let path = counter_path(state_dir, name);
    std::fs::create_dir_all(state_dir)
        .and_then(|()| Counter::open(&path))
        .map_err(|error| {
            CliError::usage(
                format!("cannot use counter {}", shown_path(&path)),
                reason(&error),
            )
        })
}

/// The one line that says how to join a channel by hand.
pub(super) fn address_line(swarm_id: &crate::ids::SwarmId, local: SocketAddr) -> String {
    let host = match local.ip() {
        ip if ip.is_unspecified() => "HOST".to_owned(),
        IpAddr::V6(ip) => format!("[{ip}]"),
        IpAddr::V4(ip) => ip.to_string(),
    };
    format!("p2ps://{swarm_id}@{host}:{}", local.port())
}

/// What a tool needs to be ready, and what its hooks are told.
pub(super) fn facts(local: SocketAddr, channels: &[String]) -> Vec<(&'static str, String)> {
    vec![
        ("LISTEN", local.to_string()),
        ("PORT", local.port().to_string()),
        ("CHANNEL", channels.join(" ")),
    ]
}

/// The node's part of the settings.
pub(super) fn config(
    role: Role,
    peer_id: PeerId,
    base: &Base,
    swarms: Vec<SwarmConfig>,
    serve: &Serve,
) -> Config {
    Config {
        role,
        peer_id,
        epoch: base.clock.epoch(),
        extensions: true,
        children_max: serve.max_children.map_or(usize::MAX, |count| {
            usize::try_from(count).unwrap_or(usize::MAX)
        }),
        upload_limit_bps: serve.upload_limit.map(|rate| rate.bits_per_second()),
        swarms,
    }
}

/// Puts the parts together.
#[expect(clippy::too_many_arguments, reason = "every part is needed once, here")]
pub(super) fn engine(
    base: Base,
    config: Config,
    streams: Vec<Stream>,
    input: Option<Input>,
    tee: Option<Output>,
    outputs: Vec<Output>,
    reporter: Reporter,
    counter: Option<Counter>,
) -> Result<Engine, CliError> {
    let node = Node::new(base.clock.now(), config, base.seed)
        .map_err(|error| CliError::usage("cannot use channel", error.to_string()))?;
    Ok(Engine {
        clock: base.clock,
        node,
        listen: base.listen,
        dial: base.dial,
        streams,
        input,
        tee,
        outputs,
        blocking: false,
        on_end: OnEnd::Exit,
        timeout: None,
        counter,
        reporter,
    })
}

/// Runs an engine and says how it ended.
pub(super) async fn drive(
    engine: Engine,
    lifecycle: &mut Lifecycle,
    signals: &mut Signals,
) -> Result<Exit, CliError> {
    let end = engine
        .run(lifecycle, signals)
        .await
        .map_err(|error| CliError::new(Exit::Failed, "cannot run", reason(&error)))?;
    match end {
        End::Stopped | End::InputEnded | End::ChannelEnded | End::ReaderClosed | End::Drained => {
            Ok(Exit::Done)
        }
        End::NoMedia(None) => Err(CliError::no_media()),
        End::NoMedia(Some(error)) => Err(CliError::new(
            Exit::NoInput,
            "cannot read input",
            reason(&error),
        )),
        End::OutputFailed(error) => Err(CliError::write_output(&error)),
        End::TimedOut => Err(CliError::new(
            Exit::Unreachable,
            "no media in time",
            "no source, relay or peer sent any",
        )),
    }
}
