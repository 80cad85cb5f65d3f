//! From checked settings to a running node: keys, sockets, media, and the way out.
//!
//! How a channel is found stands in [`join`], what the tool tells in [`records`].

mod join;
mod records;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use super::common::{Net, Process, Serve};
use super::exit::{CliError, Exit, reason, shown_path};
use super::progress::Progress;
use super::run::bind_udp;
use super::value::TrackerUrl;
use crate::chunk::Layout;
use crate::ids::PeerId;
use crate::integrity::hash::digest;
use crate::integrity::key::SigningKey;
use crate::io::clock::Clock;
use crate::io::engine::{Counter, End, Engine, OnEnd, Reporter, Resume, Stream, counter_path};
use crate::io::lifecycle::Lifecycle;
use crate::io::media::{Endpoint, Input, Output, OutputOptions};
use crate::io::signal::Signals;
use crate::io::udp::{KernelDrops, Udp};
use crate::node::{Auth, Config, Node, Role, SwarmConfig};
use crate::rng::{Rng, Seed};
use crate::seal::SALT_BYTES;
use crate::tracker::announce::{Announcer, Credentials, Identity};
use crate::wire::option::HashFunction;
use crate::wire::{Answer, ChannelDescription};

pub(super) use join::{Found, find};
pub(super) use records::{Opened, fill_start, open_records, start_record};

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
    /// Who we are to trackers.
    pub(super) credentials: Option<Credentials>,
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
            credentials: None,
        })
    }

    /// The name of a node: that of its key, else a random one.
    pub(super) fn peer_id(&mut self, auth: Option<&Auth>) -> PeerId {
        match auth.and_then(|auth| auth.key.peer_key()) {
            Some(key) => crate::peer::auth::peer_id_of(&key),
            None => PeerId::from_bytes(self.rng.next_u64().to_be_bytes()),
        }
    }

    /// The trackers of a channel, to be kept informed.
    pub(super) fn announcer(
        &mut self,
        identity: Identity,
        trackers: &[TrackerUrl],
    ) -> (Announcer, Vec<String>) {
        let urls: Vec<String> = trackers.iter().map(TrackerUrl::to_url).collect();
        let now = self.clock.now();
        let mut announcer = Announcer::new(now, identity, urls.len(), self.rng.child());
        if let Some(credentials) = &self.credentials {
            announcer.set_credentials(credentials.clone());
        }
        (announcer, urls)
    }
}

/// Where random choices come from: `--seed`, else the system.
pub(super) fn seed(process: &Process) -> Result<Seed, CliError> {
    if let Some(number) = process.seed {
        return Ok(Seed::from_number(number));
    }
    random().map(Seed::from_bytes)
}

/// The salt of a source that seals: never from `--seed`, because two starts with one salt would use their keys twice.
pub(super) fn start_salt() -> Result<[u8; SALT_BYTES], CliError> {
    random()
}

/// Bytes of the system's generator, straight from the kernel: the library that signs gathers jitter of its own first,
/// for 70 ms and more.
fn random<const N: usize>() -> Result<[u8; N], CliError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| {
        CliError::new(
            Exit::Failed,
            "cannot draw random numbers",
            "the system gives none",
        )
    })?;
    Ok(bytes)
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
    chunk_bytes: usize,
    layout: Layout,
) -> Option<bytes::Bytes> {
    let mut description = ChannelDescription {
        name: name.to_owned(),
        title: title.to_owned(),
        swarm_id: key.swarm_id(),
        chunk_bytes_max: chunk_bytes.try_into().ok()?,
        munro_width: 32,
        substreams: layout.substreams(),
        data_substreams: layout.substreams(),
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
    clock: Clock,
) -> Result<(Counter, Resume), CliError> {
    let path = counter_path(state_dir, name);
    let wall_us = clock.epoch().unix_micros(clock.now());
    std::fs::create_dir_all(state_dir)
        .and_then(|()| Counter::open(&path, wall_us))
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
        auth: None,
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
    let ports = [base.listen.local().port(), base.dial.local().port()];
    Ok(Engine {
        clock: base.clock,
        node,
        listen: base.listen,
        dial: base.dial,
        streams,
        input,
        sign_delay: Duration::ZERO,
        tee,
        outputs,
        blocking: false,
        on_end: OnEnd::Exit,
        timeout: None,
        allow: None,
        phones: None,
        record_to: None,
        recording: None,
        patience: None,
        answer: Answer::Watch,
        counter,
        kernel_drops: KernelDrops::new(ports),
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
        End::Stopped
        | End::InputEnded
        | End::ChannelEnded
        | End::ReaderClosed
        | End::Drained
        | End::Answered => Ok(Exit::Done),
        End::NotFollowed(answer) => Err(CliError::new(
            Exit::Refused,
            format!("cannot {}", answer.as_str()),
            "the relay that asked does not",
        )),
        End::NoMedia(None) => Err(CliError::no_media()),
        End::NoMedia(Some(error)) => Err(CliError::new(
            Exit::NoInput,
            "cannot read input",
            reason(&error),
        )),
        End::OutputFailed(error) => Err(CliError::write_output(&error)),
        End::Refused(why) => Err(CliError::new(Exit::Refused, "refused by tracker", why)),
        End::Sealed => Err(CliError::new(
            Exit::Refused,
            "cannot play",
            "the channel is sealed and nobody gave us the key: join through its tracker, with --token-file",
        )),
        End::TimedOut => Err(CliError::new(
            Exit::Unreachable,
            "no media in time",
            "no source, relay or peer sent any",
        )),
    }
}
