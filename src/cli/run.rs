//! What each tool does with its checked settings: the checks that touch files and terminals, then the stream.

use std::io::{self, IsTerminal as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use bytes::Bytes;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::runtime::Runtime;

use super::common::{Listen, Log, Net, Process};
use super::exit::{CliError, Exit, reason, shown_path};
use super::layer::Understood;
use super::progress::Progress;
use super::source::{KeyPlace, KeygenSettings, TicketSettings};
use super::{log, peer, print, relay, secret, source, tracker};
use crate::io::lifecycle::{Lifecycle, LifecycleError, Plan};
use crate::io::media::{Endpoint, Input, OpenError};
use crate::io::signal;

/// Starts messages and the progress line of a tool.
fn begin(tool: &'static str, settings: &Log) -> Progress {
    let progress = Progress::new(settings.progress);
    log::start(tool, settings, &progress);
    progress
}

/// Begins the life of a tool: pid file, ready descriptor, and the way out at a second interrupt.
///
/// # Errors
///
/// When one of them cannot be had.
pub fn live(tool: &'static str, process: &Process) -> Result<Lifecycle, CliError> {
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
    watch.map_err(|error| CliError::new(Exit::Failed, "cannot take signals", reason(&error)))?;
    Ok(lifecycle)
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
pub fn source(settings: source::Settings, _: &Understood) -> Result<Exit, CliError> {
    let progress = begin("p2ps-source", &settings.log);
    // A dry run leaves nothing behind, so it makes no key.
    let made_later = matches!(&settings.key, KeyPlace::State(path) if !path.exists());
    if !(settings.process.dry_run && made_later) {
        secret::signing_key(&settings.key)?;
    }
    refuse_terminal(&settings.tee)?;
    runtime()?.block_on(async {
        let input = Input::open(&settings.input, settings.input_options).await;
        let mut input = input.map_err(|error| CliError::open(&error, Exit::NoInput))?;
        bind_udp(&settings.net)?;
        progress.clear();
        if settings.process.dry_run {
            return Ok(Exit::Done);
        }
        let mut lifecycle = live("p2ps-source", &settings.process)?;
        lifecycle.ready(Vec::new());
        let outcome = first_media(&mut input).await.map(|_| Exit::Done);
        end(lifecycle, outcome)
    })
}

/// Runs `p2ps-relay`.
///
/// # Errors
///
/// Output or address that cannot be used.
pub fn relay(settings: relay::Settings, _: &Understood) -> Result<Exit, CliError> {
    let progress = begin("p2ps-relay", &settings.log);
    refuse_terminal(&settings.outputs)?;
    bind_udp(&settings.net)?;
    progress.clear();
    if settings.process.dry_run {
        return Ok(Exit::Done);
    }
    let mut lifecycle = live("p2ps-relay", &settings.process)?;
    lifecycle.ready(Vec::new());
    end(lifecycle, Ok(Exit::Done))
}

/// Runs `p2ps-peer`.
///
/// # Errors
///
/// Output or address that cannot be used.
pub fn peer(settings: peer::Settings, _: &Understood) -> Result<Exit, CliError> {
    let progress = begin("p2ps-peer", &settings.log);
    refuse_terminal(&settings.outputs)?;
    bind_udp(&settings.net)?;
    progress.clear();
    if settings.process.dry_run {
        return Ok(Exit::Done);
    }
    let mut lifecycle = live("p2ps-peer", &settings.process)?;
    lifecycle.ready(Vec::new());
    end(lifecycle, Ok(Exit::Done))
}

/// Runs `p2ps-tracker`.
///
/// # Errors
///
/// An address that cannot be bound.
pub fn tracker(settings: tracker::Settings, _: &Understood) -> Result<Exit, CliError> {
    let progress = begin("p2ps-tracker", &settings.log);
    bind_tcp(&settings.net)?;
    progress.clear();
    if settings.process.dry_run {
        return Ok(Exit::Done);
    }
    let mut lifecycle = live("p2ps-tracker", &settings.process)?;
    lifecycle.ready(Vec::new());
    end(lifecycle, Ok(Exit::Done))
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

/// Waits for the first bytes of an input.
async fn first_media(input: &mut Input) -> Result<Bytes, CliError> {
    match input.next().await {
        None => Err(CliError::no_media()),
        Some(Ok(bytes)) => Ok(bytes),
        Some(Err(error)) => Err(CliError::new(
            Exit::NoInput,
            "cannot read input",
            reason(&error),
        )),
    }
}

/// The runtime of a tool: one thread.
fn runtime() -> Result<Runtime, CliError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::new(Exit::Failed, "cannot start", reason(&error)))
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
