//! What each tool does with its checked settings: the checks that touch files and terminals, then the stream.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;

use socket2::{Domain, Protocol, Socket, Type};

use super::access::Access;
use super::clone::{Ask, Say};
use super::common::{Join, Listen, Log, Net, Process, Serve, Stats};
use super::exit::{CliError, Exit, reason, shown_path};
use super::layer::Understood;
use super::progress::Progress;
use super::source::{KeyPlace, KeygenSettings, TicketSettings};
use super::{certificate, listing, log, peer, print, relay, secret, source, stream};
use crate::ids::PeerKey;
use crate::io::clock::Clock;
use crate::io::engine::{OnEnd, Rendezvous, Stream};
use crate::io::lifecycle::{Lifecycle, LifecycleError, Plan};
use crate::io::media::{Endpoint, Input, OpenError, Output, OutputOptions};
use crate::io::signal::{self, Signals};
use crate::media::PACKET_BYTES;
use crate::node::{Auth, Role, SourceConfig, StartFrom, SwarmConfig};
use crate::seal::OVERHEAD_BYTES;
use crate::stats::Tool;
use crate::tracker::announce::Identity;
use crate::tracker::message::{Deal, Role as TrackerRole};

mod tracker;

pub use self::tracker::{order, tracker};

/// Starts messages and the progress line of a tool.
fn begin(tool: &'static str, settings: &Log) -> Progress {
    let progress = Progress::new(settings.progress);
    log::start(tool, settings, &progress);
    progress
}

/// Begins the life of a tool: pid file, ready descriptor, signals, and the way out at a second interrupt. Within a
/// runtime, and before anybody is told that the tool is there: who hears of it may send a signal at once.
///
/// # Errors
///
/// When one of them cannot be had.
pub fn live(tool: &'static str, process: &Process) -> Result<(Lifecycle, Signals), CliError> {
    let plan = Plan {
        tool,
        ready_fd: process.ready_fd,
        pid_file: process.pid_file.clone(),
        on_ready: process.on_ready.clone(),
        on_exit: process.on_exit.clone(),
    };
    let lifecycle = Lifecycle::begin(plan).map_err(|error| match error {
        LifecycleError::Used { path, pid } => CliError::new(
            Exit::Bind,
            format!("cannot take pid file {}", shown_path(&path)),
            format!("used by process {pid}"),
        ),
        LifecycleError::PidFile { path, cause } => CliError::new(
            Exit::Output,
            format!("cannot write pid file {}", shown_path(&path)),
            reason(&cause),
        ),
        LifecycleError::ReadyFd { fd, cause } => {
            CliError::usage(format!("cannot write to --ready-fd {fd}"), reason(&cause))
        }
    })?;
    let watch = signal::on_second_interrupt(|| std::process::exit(Exit::Interrupted.code().into()));
    let signals = watch.and_then(|()| Signals::new());
    let signals = signals
        .map_err(|error| CliError::new(Exit::Failed, "cannot take signals", reason(&error)))?;
    Ok((lifecycle, signals))
}

/// Ends the life of a tool: hook, pid file.
///
/// # Errors
///
/// The one that `outcome` is.
pub fn end(lifecycle: Lifecycle, outcome: Result<Exit, CliError>) -> Result<Exit, CliError> {
    lifecycle.stopping();
    match &outcome {
        Ok(exit) => lifecycle.end(exit.code(), "done"),
        Err(error) => lifecycle.end(error.exit.code(), &error.to_string()),
    }
    outcome
}

/// Runs `p2ps-source`.
///
/// # Errors
///
/// Key, input, output or address that cannot be used; no media.
pub fn source(settings: source::Settings, understood: &Understood) -> Result<Exit, CliError> {
    let clock = Clock::start();
    let progress = begin("p2ps-source", &settings.log);
    certificate::trust(settings.tls_ca.as_deref())?;
    // A dry run leaves nothing behind, so it makes no key.
    let made_later = matches!(&settings.key, KeyPlace::State(path) if !path.exists());
    let key = if settings.process.dry_run && made_later {
        secret::generate(source::Algorithm::Ed25519)?
    } else {
        secret::signing_key(&settings.key)?
    };
    refuse_terminal(&settings.tee)?;
    let loaded = settings.access.load(Some(&key))?;
    stream::block_on(async {
        let input = Input::open(&settings.input, settings.input_options).await;
        let input = input.map_err(|error| CliError::open(&error, Exit::NoInput))?;
        if let Some(address) = input.address() {
            tracing::info!("{} is at {address}", settings.input);
        }
        let mut base = stream::Base::new(clock, &settings.net, &settings.process, progress)?;
        base.credentials = loaded.credentials;
        if settings.process.dry_run {
            return Ok(Exit::Done);
        }
        let tee: Vec<Endpoint> = settings.tee.iter().cloned().collect();
        let tee = stream::open_outputs(&tee, &OutputOptions::default())
            .await?
            .pop();
        let name = settings.channel.to_string();
        let (counter, resume) = stream::open_counter(&settings.state_dir, &name, clock)?;
        let title = settings.title.clone().unwrap_or_default();
        let swarm_id = key.swarm_id();
        let seal = settings.seal.then(stream::start_salt).transpose()?;
        let overhead_bytes = seal.map_or(0, |_| OVERHEAD_BYTES);
        let chunk_bytes = usize::from(settings.chunk_packets) * PACKET_BYTES + overhead_bytes;
        let description = stream::describe(&key, &name, &title, chunk_bytes, settings.layout);
        let peer_id = stream::peer_id_of(&key);
        let rendezvous = (!settings.trackers.is_empty()).then(|| {
            let identity = Identity {
                peer_id: peer_id.to_string(),
                role: TrackerRole::Source,
                channel: Some(name.clone()),
                swarm_id: Some(swarm_id.to_string()),
                title: settings.title.clone(),
                description: description.clone(),
                port: base.listen.local().port(),
                addresses: Vec::new(),
                deal: Deal::default(),
                service: None,
            };
            let (mut announcer, urls) = base.announcer(identity, &settings.trackers);
            if settings.seal {
                announcer.set_sealing();
            }
            Rendezvous::new(announcer, urls)
        });
        let swarm = SwarmConfig {
            swarm_id: swarm_id.clone(),
            window: settings.serve.window,
            playout: None,
            from: StartFrom::Live,
            parents: Vec::new(),
            source: Some(SourceConfig {
                key,
                first_chunk: resume.first_chunk,
                not_before_us: resume.not_before_us,
                sign_delay: settings.sign_delay.0,
                sign_delay_few: settings.sign_delay.1,
                chunk_packets: settings.chunk_packets,
                seal,
            }),
            description,
        };
        let channels = vec![name.clone()];
        let to_stdout = settings.tee.iter().any(peer::writes_stdout);
        let records = stream::open_records(Tool::Source, &settings.stats, !to_stdout).await?;
        let node = peer_id.to_string();
        let reporter = records.reporter(clock, &base.progress, &node, &channels);
        let (mut lifecycle, mut signals) = live("p2ps-source", &settings.process)?;
        let start = stream::start_record(&base.listen, settings.stats.interval, understood);
        reporter.start(base.clock.now(), &start, std::slice::from_ref(&swarm_id));
        reporter.live(match settings.seal {
            true => "waiting for the key to seal with",
            false => "waiting for media",
        });
        let local = base.listen.local();
        tracing::info!(
            "channel {name} at {}",
            stream::address_line(&swarm_id, local)
        );
        let mut config = stream::config(Role::Source, peer_id, &base, vec![swarm], &settings.serve);
        config.auth = loaded.auth;
        let streams = vec![Stream { name, rendezvous }];
        let mut engine = stream::engine(
            base,
            config,
            streams,
            Some(input),
            tee,
            Vec::new(),
            reporter,
            Some(counter),
        )?;
        engine.sign_delay = settings.sign_delay.0;
        engine.allow.clone_from(&settings.access.allow);
        lifecycle.ready(stream::facts(local, &channels));
        let outcome = stream::drive(engine, &mut lifecycle, &mut signals).await;
        end(lifecycle, outcome)
    })
}

/// Runs `p2ps-relay`.
///
/// # Errors
///
/// Output or address that cannot be used; nobody reached in time.
pub fn relay(settings: relay::Settings, understood: &Understood) -> Result<Exit, CliError> {
    let receiver = Receiver {
        tool: "p2ps-relay",
        // With an output of its own a relay plays as well.
        role: Role::Relay,
        plays: !settings.outputs.is_empty(),
        ask: settings.ask.as_ref(),
        answer: None,
        joins: &settings.joins,
        outputs: &settings.outputs,
        output_options: OutputOptions::default(),
        skip: true,
        on_end: OnEnd::Wait,
        serve: &settings.serve,
        tls_ca: settings.tls_ca.as_deref(),
        access: &settings.access,
        net: &settings.net,
        stats: &settings.stats,
        process: &settings.process,
        log: &settings.log,
    };
    receiver.run(understood)
}

/// Runs `p2ps-peer`.
///
/// # Errors
///
/// Output or address that cannot be used; nobody reached in time; an output that failed.
pub fn peer(mut settings: peer::Settings, understood: &Understood) -> Result<Exit, CliError> {
    if matches!(settings.answer, Some(Say::Record | Say::Ignore)) {
        // It says so, and receives nothing.
        settings.outputs.clear();
    }
    let receiver = Receiver {
        tool: "p2ps-peer",
        role: Role::Peer,
        plays: true,
        ask: None,
        answer: settings.answer,
        joins: std::slice::from_ref(&settings.join),
        outputs: &settings.outputs,
        output_options: OutputOptions {
            overwrite: settings.overwrite,
            rotate: settings.rotate,
            blocking: settings.blocking,
            ..OutputOptions::default()
        },
        skip: settings.skip,
        on_end: match settings.on_end {
            peer::OnEnd::Exit => OnEnd::Exit,
            peer::OnEnd::Wait => OnEnd::Wait,
        },
        serve: &settings.serve,
        tls_ca: settings.tls_ca.as_deref(),
        access: &settings.access,
        net: &settings.net,
        stats: &settings.stats,
        process: &settings.process,
        log: &settings.log,
    };
    receiver.run(understood)
}

/// What relay and peer have in common: they find channels, receive, serve, and may play.
struct Receiver<'a> {
    tool: &'static str,
    role: Role,
    plays: bool,
    ask: Option<&'a Ask>,
    answer: Option<Say>,
    joins: &'a [Join],
    outputs: &'a [Endpoint],
    output_options: OutputOptions,
    skip: bool,
    on_end: OnEnd,
    serve: &'a Serve,
    tls_ca: Option<&'a Path>,
    access: &'a Access,
    net: &'a Net,
    stats: &'a Stats,
    process: &'a Process,
    log: &'a Log,
}

impl Receiver<'_> {
    fn run(self, understood: &Understood) -> Result<Exit, CliError> {
        let clock = Clock::start();
        let progress = begin(self.tool, self.log);
        certificate::trust(self.tls_ca)?;
        refuse_terminal(self.outputs)?;
        let phones = self.ask.map(Ask::load).transpose()?.unwrap_or_default();
        let loaded = self.access.load_own(self.process.dry_run)?;
        stream::block_on(async {
            let mut base = stream::Base::new(clock, self.net, self.process, progress)?;
            base.credentials = loaded.credentials;
            if self.process.dry_run {
                return if self.role == Role::Peer {
                    listing::offers(self.joins)
                } else {
                    Ok(Exit::Done)
                };
            }
            let mut options = self.output_options.clone();
            options.seed = base.rng.next_u64();
            let outputs = stream::open_outputs(self.outputs, &options).await?;
            let is_relay = self.role == Role::Relay;
            let tool = if is_relay { Tool::Relay } else { Tool::Peer };
            let stdout_is_free = is_relay && !self.outputs.iter().any(peer::writes_stdout);
            let records = stream::open_records(tool, self.stats, stdout_is_free).await?;
            let (mut lifecycle, signals) = live(self.tool, self.process)?;
            let outcome = self
                .join(
                    base,
                    loaded.auth,
                    outputs,
                    records,
                    &options,
                    &phones,
                    &mut lifecycle,
                    signals,
                    understood,
                )
                .await;
            end(lifecycle, outcome)
        })
    }

    #[expect(clippy::too_many_arguments, reason = "what was opened is used here")]
    async fn join(
        &self,
        mut base: stream::Base,
        auth: Option<Auth>,
        outputs: Vec<Output>,
        records: stream::Opened,
        options: &OutputOptions,
        phones: &BTreeSet<PeerKey>,
        lifecycle: &mut Lifecycle,
        mut signals: Signals,
        understood: &Understood,
    ) -> Result<Exit, CliError> {
        let peer_id = base.peer_id(auth.as_ref());
        let local = base.listen.local();
        let mut found = Vec::new();
        for join in self.joins {
            let find = stream::find(
                &mut base,
                &mut signals,
                peer_id,
                join,
                self.role,
                self.plays,
                self.skip,
            );
            match find.await? {
                Some(channel) => found.push(channel),
                // Asked to stop while looking.
                None => return Ok(Exit::Done),
            }
        }
        tell_apart(&mut found)?;
        let channels: Vec<String> = found.iter().map(|found| found.name.clone()).collect();
        let swarms: Vec<_> = found
            .iter()
            .map(|found| found.swarm.swarm_id.clone())
            .collect();
        let node = peer_id.to_string();
        let reporter = records.reporter(base.clock, &base.progress, &node, &channels);
        reporter.start(
            base.clock.now(),
            &stream::start_record(&base.listen, self.stats.interval, understood),
            &swarms,
        );
        reporter.live("looking for a parent");
        let (swarms, streams) = found
            .into_iter()
            .map(|found| {
                (
                    found.swarm,
                    Stream {
                        name: found.name,
                        rendezvous: found.rendezvous,
                    },
                )
            })
            .unzip();
        let mut config = stream::config(self.role, peer_id, &base, swarms, self.serve);
        config.auth = auth;
        let timeout = self.joins.iter().filter_map(|join| join.timeout).min();
        let mut engine =
            stream::engine(base, config, streams, None, None, outputs, reporter, None)?;
        engine.blocking = options.blocking;
        engine.on_end = self.on_end;
        engine.timeout = timeout;
        engine.allow.clone_from(&self.access.allow);
        if let (Some(ask), Some(join)) = (self.ask, self.joins.first()) {
            // What is due only when the window is over is never written.
            let latency = join.latency.min(self.serve.window / 2);
            ask.apply(&mut engine, phones, latency)?;
        }
        if let Some(say) = self.answer {
            engine.answer = say.answer();
            if say != Say::Watch {
                engine.node.hold_back(0);
            }
        }
        tracing::info!("listening on {local}");
        lifecycle.ready(stream::facts(local, &channels));
        stream::drive(engine, lifecycle, &mut signals).await
    }
}

/// Gives every channel a name of its own, because records and metrics are sorted by it: where two trackers have one of
/// the same name each, the later goes by its identifier.
fn tell_apart(found: &mut [stream::Found]) -> Result<(), CliError> {
    for at in 1..found.len() {
        let (before, rest) = found.split_at_mut(at);
        let Some(channel) = rest.first_mut() else {
            break;
        };
        let id = &channel.swarm.swarm_id;
        if before.iter().any(|known| known.swarm.swarm_id == *id) {
            let what = format!("bad channel {}", channel.name);
            return Err(CliError::usage(what, "given twice"));
        }
        if before.iter().any(|known| known.name == channel.name) {
            channel.name = id.to_string();
        }
    }
    Ok(())
}

/// Runs `p2ps-source keygen`: the key to its file and the channel id to standard output; or, without a file, the key
/// to standard output and the channel id to standard error.
///
/// # Errors
///
/// A file that exists or cannot be written.
pub fn keygen(settings: &KeygenSettings) -> Result<Exit, CliError> {
    let key = secret::generate(settings.algorithm)?;
    let id = format!("{}\n", key.swarm_id());
    match &settings.output {
        Some(path) => {
            secret::write_secret_file(path, &key.to_pem())?;
            print(id.as_bytes())
        }
        None => {
            let exit = print(key.to_pem().as_bytes())?;
            let _ = io::stderr().write_all(id.as_bytes());
            Ok(exit)
        }
    }
}

/// Runs `p2ps-source ticket`.
///
/// # Errors
///
/// A key that cannot be used, or nothing to put into an address.
pub fn ticket(settings: &TicketSettings) -> Result<Exit, CliError> {
    let key = secret::read_signing_key(&settings.key)?;
    let text = settings.text(key.swarm_id())?;
    print(format!("{text}\n").as_bytes())
}

/// Refuses to fill a terminal with media, before anything else is done for it.
fn refuse_terminal<'a>(outputs: impl IntoIterator<Item = &'a Endpoint>) -> Result<(), CliError> {
    if outputs.into_iter().any(peer::writes_stdout) && io::stdout().is_terminal() {
        return Err(CliError::open(&OpenError::WriteTerminal, Exit::Output));
    }
    Ok(())
}

/// Binds the UDP socket of a tool, on an ephemeral port when the default one is taken and was not asked for.
///
/// # Errors
///
/// Exit 7, naming the address.
pub fn bind_udp(net: &Net) -> Result<UdpSocket, CliError> {
    bind(net, Type::DGRAM, Protocol::UDP).map(UdpSocket::from)
}

/// Binds the TCP socket of a tool, in the same way, and listens.
///
/// # Errors
///
/// Exit 7, naming the address.
pub fn bind_tcp(net: &Net) -> Result<TcpListener, CliError> {
    bind(net, Type::STREAM, Protocol::TCP).map(TcpListener::from)
}

fn bind(net: &Net, kind: Type, protocol: Protocol) -> Result<Socket, CliError> {
    let Listen {
        addr,
        dual_stack,
        asked,
    } = net.listen;
    let open = |addr: SocketAddr| -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(addr), kind, Some(protocol))?;
        if addr.is_ipv6() {
            socket.set_only_v6(!dual_stack)?;
        }
        if let Some(device) = &net.bind_dev {
            socket.bind_device(Some(device.as_bytes()))?;
        }
        if kind == Type::STREAM {
            // A tracker that restarts finds its port again although old connections still linger.
            socket.set_reuse_address(true)?;
        }
        socket.bind(&addr.into())?;
        if kind == Type::STREAM {
            socket.listen(1024)?;
        }
        Ok(socket)
    };
    let mut wanted = addr;
    let mut result = open(wanted);
    // A kernel without IPv6 still has all addresses of one family.
    if let Err(error) = &result
        && dual_stack
        && matches!(
            error.raw_os_error(),
            Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
        )
    {
        wanted = (Ipv4Addr::UNSPECIFIED, addr.port()).into();
        result = open(wanted);
    }
    if let Err(error) = &result
        && error.kind() == io::ErrorKind::AddrInUse
        && !asked
    {
        wanted.set_port(0);
        result = open(wanted);
    }
    result.map_err(|error| match (&net.bind_dev, error.raw_os_error()) {
        (Some(device), Some(libc::ENODEV)) => CliError::new(
            Exit::Bind,
            format!("cannot bind {wanted} to {device}"),
            "no such interface",
        ),
        _ => CliError::bind(wanted, &error),
    })
}

#[cfg(test)]
mod tests {
    use super::super::value::Family;
    use super::*;

    fn net(addr: &str, asked: bool) -> Net {
        Net {
            listen: Listen {
                addr: addr.parse().unwrap(),
                dual_stack: false,
                asked,
            },
            bind_dev: None,
            family: Family::Any,
        }
    }

    #[test]
    fn a_taken_default_gives_way_and_a_taken_wish_does_not() {
        let first = bind_udp(&net("127.0.0.1:0", true)).unwrap();
        let taken = first.local_addr().unwrap();
        let second = bind_udp(&net(&taken.to_string(), false)).unwrap();
        assert_ne!(second.local_addr().unwrap().port(), taken.port());
        let error = bind_udp(&net(&taken.to_string(), true)).unwrap_err();
        assert_eq!(error.exit, Exit::Bind);
        assert_eq!(
            error.to_string(),
            format!("cannot bind {taken}: address in use (try --listen :0)")
        );
    }

    #[test]
    fn a_tracker_port_is_not_shared() {
        let first = bind_tcp(&net("127.0.0.1:0", true)).unwrap();
        let taken = first.local_addr().unwrap().to_string();
        assert_eq!(bind_tcp(&net(&taken, true)).unwrap_err().exit, Exit::Bind);
    }
}
