//! Sockets for datagrams of media: addresses, interfaces, multicast, buffers.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};

use super::endpoint::{DatagramOptions, Datagrams, Host};
use super::error::OpenError;

/// Receive and send buffer asked of the kernel when nothing was said: 2 s of 8 Mbit/s. Ours.
const BUFFER_BYTES: usize = 2 << 20;

/// Looks a host up; `None` for all addresses.
pub(super) async fn resolve(host: &Host) -> Result<Option<IpAddr>, OpenError> {
    match host {
        Host::Any => Ok(None),
        Host::Ip(address) => Ok(Some(*address)),
        Host::Name(name) => tokio::net::lookup_host((name.as_str(), 0))
            .await
            .and_then(|mut found| {
                found
                    .next()
                    .ok_or_else(|| io::Error::other("name has no address"))
            })
            .map(|found| Some(found.ip()))
            .map_err(|error| {
                // The resolver's own words are three lines long.
                let text = if error.raw_os_error().is_some() {
                    error
                } else {
                    io::Error::new(io::ErrorKind::HostUnreachable, "name not found")
                };
                OpenError::io("look up", name.clone())(text)
            }),
    }
}

/// A bound socket that hears what an input endpoint names.
pub(super) fn receiver(
    datagrams: &Datagrams,
    address: Option<IpAddr>,
) -> Result<UdpSocket, OpenError> {
    let options = &datagrams.options;
    let bind = SocketAddr::new(
        address.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        datagrams.port,
    );
    let socket =
        bound(datagrams, address, bind).map_err(OpenError::io("bind", bind.to_string()))?;
    if let Some(group) = address.filter(IpAddr::is_multicast) {
        join(&socket, group, options).map_err(OpenError::io("join", group.to_string()))?;
    }
    Ok(socket.into())
}

fn bound(datagrams: &Datagrams, address: Option<IpAddr>, bind: SocketAddr) -> io::Result<Socket> {
    let options = &datagrams.options;
    let (socket, bind) = match new_socket(bind) {
        // A machine without IPv6 still has all its addresses.
        Err(_) if address.is_none() => {
            let bind = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), bind.port());
            (new_socket(bind)?, bind)
        }
        other => (other?, bind),
    };
    if address.is_none() && bind.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // Several receivers may share a group; a unicast port has one owner.
    if bind.ip().is_multicast() {
        socket.set_reuse_address(true)?;
    } else if let Some(Interface::Named { name, .. }) = interface(options)? {
        socket.bind_device(Some(name.as_bytes()))?;
    }
    // The kernel may grant less; it never refuses.
    socket.set_recv_buffer_size(options.receive_buffer.unwrap_or(BUFFER_BYTES))?;
    socket.set_nonblocking(true)?;
    // Bound to the group itself, the socket hears nothing else that arrives on the port.
    socket.bind(&scoped(bind, options)?.into())?;
    Ok(socket)
}

/// The address with the number of its interface, without which IPv6 takes no link-local one (RFC 4007 §6).
fn scoped(address: SocketAddr, options: &DatagramOptions) -> io::Result<SocketAddr> {
    let SocketAddr::V6(mut address) = address else {
        return Ok(address);
    };
    if let Some(interface) = interface(options)? {
        address.set_scope_id(interface.index()?);
    }
    Ok(address.into())
}

fn new_socket(address: SocketAddr) -> io::Result<Socket> {
    Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )
}

fn join(socket: &Socket, group: IpAddr, options: &DatagramOptions) -> io::Result<()> {
    let interface = interface(options)?;
    match group {
        IpAddr::V4(group) => {
            let sources: Vec<Ipv4Addr> = options
                .sources
                .iter()
                .filter_map(|source| match source {
                    IpAddr::V4(source) => Some(*source),
                    IpAddr::V6(_) => None,
                })
                .collect();
            if sources.is_empty() {
                let on = match interface {
                    None => InterfaceIndexOrAddress::Address(Ipv4Addr::UNSPECIFIED),
                    Some(Interface::Named { index, .. }) => InterfaceIndexOrAddress::Index(index),
                    Some(Interface::Address(address)) => {
                        InterfaceIndexOrAddress::Address(only_v4(address)?)
                    }
                };
                return socket.join_multicast_v4_n(&group, &on);
            }
            let on = match interface {
                None => Ipv4Addr::UNSPECIFIED,
                Some(interface) => interface.v4_address(group)?,
            };
            sources
                .iter()
                .try_for_each(|source| socket.join_ssm_v4(source, &group, &on))
        }
        // The kernel's filter for IPv6 sources is out of reach here; the input's own filter does the same work.
        IpAddr::V6(group) => {
            socket.join_multicast_v6(&group, interface.map_or(Ok(0), |found| found.index())?)
        }
    }
}

/// A socket connected to where an output endpoint sends.
pub(super) fn sender(datagrams: &Datagrams, address: IpAddr) -> Result<UdpSocket, OpenError> {
    let to = SocketAddr::new(address, datagrams.port);
    connected(&datagrams.options, to).map_err(OpenError::io("send to", to.to_string()))
}

fn connected(options: &DatagramOptions, to: SocketAddr) -> io::Result<UdpSocket> {
    let socket = new_socket(to)?;
    let interface = interface(options)?;
    // An address names the sender as well as the interface.
    if let Some(Interface::Address(address)) = &interface {
        if address.is_ipv4() != to.is_ipv4() {
            return Err(other_family());
        }
        socket.bind(&SocketAddr::new(*address, 0).into())?;
    }
    match to.ip() {
        IpAddr::V4(group) if group.is_multicast() => {
            socket.set_multicast_loop_v4(options.multicast_loop.unwrap_or(true))?;
            if let Some(ttl) = options.ttl {
                socket.set_multicast_ttl_v4(ttl.into())?;
            }
            if let Some(interface) = interface {
                socket.set_multicast_if_v4(&interface.v4_address(group)?)?;
            }
        }
        IpAddr::V6(group) if group.is_multicast() => {
            socket.set_multicast_loop_v6(options.multicast_loop.unwrap_or(true))?;
            if let Some(ttl) = options.ttl {
                socket.set_multicast_hops_v6(ttl.into())?;
            }
            if let Some(interface) = interface {
                socket.set_multicast_if_v6(interface.index()?)?;
            }
        }
        address => {
            if let Some(ttl) = options.ttl {
                match address {
                    IpAddr::V4(_) => socket.set_ttl_v4(ttl.into())?,
                    IpAddr::V6(_) => socket.set_unicast_hops_v6(ttl.into())?,
                }
            }
            if let Some(Interface::Named { name, .. }) = interface {
                socket.bind_device(Some(name.as_bytes()))?;
            }
        }
    }
    if let Some(tos) = options.tos {
        match to {
            SocketAddr::V4(_) => socket.set_tos_v4(tos.into())?,
            SocketAddr::V6(_) => socket.set_tclass_v6(tos.into())?,
        }
    }
    socket.set_send_buffer_size(options.send_buffer.unwrap_or(BUFFER_BYTES))?;
    socket.connect(&scoped(to, options)?.into())?;
    Ok(socket.into())
}

/// A listening socket for players, on `address` or on all addresses of both families.
pub(super) fn listener(address: Option<IpAddr>, port: u16) -> io::Result<TcpListener> {
    const BACKLOG: i32 = 128;
    let open = |address: IpAddr| {
        let bind = SocketAddr::new(address, port);
        let socket = Socket::new(Domain::for_address(bind), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if bind.is_ipv6() {
            socket.set_only_v6(!address.is_unspecified())?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&bind.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    match address {
        Some(address) => open(address),
        None => open(Ipv6Addr::UNSPECIFIED.into()).or_else(|error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => Err(error),
            // A machine without IPv6.
            _ => open(Ipv4Addr::UNSPECIFIED.into()),
        }),
    }
}

/// An interface as it was named.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Interface {
    Address(IpAddr),
    Named { name: String, index: u32 },
}

fn interface(options: &DatagramOptions) -> io::Result<Option<Interface>> {
    let Some(text) = &options.interface else {
        return Ok(None);
    };
    if let Ok(address) = text.parse() {
        return Ok(Some(Interface::Address(address)));
    }
    // Asked of a socket and not of /sys, which may show the interfaces of another network namespace.
    let probe = new_socket(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0))?;
    let index = rustix::net::netdevice::name_to_index(&probe, text)
        .map_err(|_| io::Error::new(io::ErrorKind::NotFound, format!("no interface {text}")))?;
    Ok(Some(Interface::Named {
        name: text.clone(),
        index,
    }))
}

impl Interface {
    /// The IPv4 address the interface would send from.
    fn v4_address(&self, group: Ipv4Addr) -> io::Result<Ipv4Addr> {
        match self {
            Self::Address(address) => only_v4(*address),
            Self::Named { name, index } => {
                /// The loopback is the first interface of every network namespace.
                const LOOPBACK_INDEX: u32 = 1;
                // The loopback's own address never leaves the host, so the kernel would not pick it for a group.
                if *index == LOOPBACK_INDEX {
                    return Ok(Ipv4Addr::LOCALHOST);
                }
                // The kernel picks the address when a socket tied to the interface is pointed at the group.
                let probe = new_socket(SocketAddr::new(group.into(), 9))?;
                probe.bind_device(Some(name.as_bytes()))?;
                probe.connect(&SocketAddr::new(group.into(), 9).into())?;
                let local = probe.local_addr()?.as_socket_ipv4();
                Ok(*local.ok_or_else(no_address)?.ip())
            }
        }
    }

    /// The number of the interface.
    fn index(&self) -> io::Result<u32> {
        match self {
            Self::Named { index, .. } => Ok(*index),
            Self::Address(IpAddr::V6(address)) => fs::read_to_string("/proc/net/if_inet6")?
                .lines()
                .find_map(|line| {
                    let mut words = line.split_ascii_whitespace();
                    let found = u128::from_str_radix(words.next()?, 16).ok()?;
                    let index = u32::from_str_radix(words.next()?, 16).ok()?;
                    (Ipv6Addr::from(found) == *address).then_some(index)
                })
                .ok_or_else(no_address),
            Self::Address(IpAddr::V4(_)) => Err(other_family()),
        }
    }
}

fn only_v4(address: IpAddr) -> io::Result<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(_) => Err(other_family()),
    }
}

fn other_family() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        "the address of the interface is of the other family",
    )
}

fn no_address() -> io::Error {
    io::Error::new(
        io::ErrorKind::AddrNotAvailable,
        "the interface has no such address",
    )
}
