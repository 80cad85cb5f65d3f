//! The two UDP sockets of a node: trains out in one segmented send, trains in by one receive.
//!
//! The socket that children come in on is not watched while media flows: what waits there is mostly acknowledgements,
//! which can be read when the next media wakes us up anyway.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use bytes::Bytes;
use quinn_udp::{RecvMeta, UdpSocketState};
use rustix::net::sockopt;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::clock::Clock;
use crate::node::Transmit;
use crate::time::Instant;

/// Wanted socket buffers: two seconds of 8 Mbit/s (a stop of 300 ms loses 80 to 135 chunks with the default).
const BUFFER_BYTES: usize = 2 << 20;
/// Receive calls in a row before others get their turn.
const BATCHES_MAX: usize = 16;
/// One GRO train has up to 64 KiB.
const TRAIN_BYTES: usize = 64 * 1024;
/// Sends kept while the socket takes none.
const WAITING_SENDS_MAX: usize = 1024;
/// The kernel's count of drops is read at least this often.
const DROPS_SPAN: Duration = Duration::from_secs(10);
/// After the kernel refused a segmented send: when to try one again.
const PROBE_AGAIN: Duration = Duration::from_secs(10);

/// Datagrams that came in together.
#[derive(Debug)]
pub struct Received {
    /// When the kernel had them.
    pub arrived: Instant,
    /// From where.
    pub from: SocketAddr,
    /// The datagrams, back to back.
    pub train: Bytes,
    /// The size of each but the last.
    pub stride: usize,
}

/// Troubles of one socket since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UdpCounters {
    /// Sends that the system refused.
    pub send_errors: u64,
    /// Datagrams too long for the path (EMSGSIZE).
    pub too_long: u64,
    /// Sends that had to wait for room, or were given up for want of it.
    pub blocked: u64,
    /// Receives that failed.
    pub recv_errors: u64,
}

#[derive(Debug)]
struct Waiting {
    to: SocketAddr,
    contents: Vec<u8>,
    segment_size: Option<usize>,
}

/// One socket.
#[derive(Debug)]
pub struct Udp {
    socket: UdpSocket,
    state: UdpSocketState,
    /// Tells of datagrams only: a socket watched for room as well wakes us whenever a send has left it.
    watch: Option<AsyncFd<UdpSocket>>,
    /// Tells of room, while sends wait.
    room: Option<AsyncFd<UdpSocket>>,
    local: SocketAddr,
    buffers: Vec<u8>,
    batch: usize,
    waiting: VecDeque<Waiting>,
    segments_max: usize,
    probe_at: Option<Instant>,
    granted: (usize, usize),
    /// Troubles so far.
    pub counters: UdpCounters,
}

impl Udp {
    /// Takes over a bound socket; `batch` is how many trains one receive call may bring.
    ///
    /// # Errors
    ///
    /// When the system refuses to make it non-blocking.
    pub fn new(socket: UdpSocket, batch: usize) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let granted = set_buffers(&socket);
        let state = UdpSocketState::new((&socket).into())?;
        let segments_max = state.max_gso_segments();
        let local = socket.local_addr()?;
        let batch = batch.clamp(1, quinn_udp::BATCH_SIZE);
        Ok(Self {
            buffers: vec![0; batch * TRAIN_BYTES],
            socket,
            state,
            watch: None,
            room: None,
            local,
            batch,
            waiting: VecDeque::new(),
            segments_max,
            probe_at: None,
            granted,
            counters: UdpCounters::default(),
        })
    }

    /// A socket on any port that can reach what `listen` can, on the same interface.
    ///
    /// # Errors
    ///
    /// When it cannot be made or bound.
    pub fn dial_socket(listen: SocketAddr, device: Option<&str>) -> io::Result<UdpSocket> {
        let socket = Socket::new(
            Domain::for_address(listen),
            Type::DGRAM,
            Some(Protocol::UDP),
        )?;
        if listen.is_ipv6() {
            socket.set_only_v6(!listen.ip().is_unspecified())?;
        }
        if let Some(device) = device {
            socket.bind_device(Some(device.as_bytes()))?;
        }
        // From the address we listen on, so that routes and firewalls treat both alike; from any when that is any.
        socket.bind(&SocketAddr::new(listen.ip(), 0).into())?;
        Ok(socket.into())
    }

    /// Where it is bound.
    pub const fn local(&self) -> SocketAddr {
        self.local
    }

    /// Receive and send buffer that the kernel granted, in bytes.
    pub const fn granted(&self) -> (usize, usize) {
        self.granted
    }

    /// Watches the socket, so that [`ready`](Self::ready) can wait for it.
    ///
    /// # Errors
    ///
    /// When the runtime cannot watch it.
    pub fn arm(&mut self) -> io::Result<()> {
        if self.watch.is_none() {
            let socket = self.socket.try_clone()?;
            self.watch = Some(watched(socket, Interest::READABLE)?);
        }
        Ok(())
    }

    /// Leaves the socket alone: nothing that arrives wakes us up.
    pub fn disarm(&mut self) {
        self.watch = None;
    }

    /// Waits until there is something to read, or room for what waits to be sent. For ever while
    /// not armed and nothing waits.
    pub async fn ready(&self) {
        let readable = async {
            match &self.watch {
                Some(watch) => drop(watch.readable().await),
                None => std::future::pending().await,
            }
        };
        let Some(room) = &self.room else {
            return readable.await;
        };
        tokio::select! {
            () = readable => {}
            _ = room.writable() => {}
        }
    }

    /// Reads what is there, in order of arrival; false when there may be more.
    pub fn receive(&mut self, clock: &Clock, mut take: impl FnMut(Received)) -> bool {
        for _ in 0..BATCHES_MAX {
            let mut metas = [RecvMeta::default(); quinn_udp::BATCH_SIZE];
            let mut slices: Vec<IoSliceMut<'_>> = self
                .buffers
                .chunks_exact_mut(TRAIN_BYTES)
                .map(IoSliceMut::new)
                .collect();
            let metas = metas.get_mut(..self.batch).unwrap_or_default();
            let count = match self.state.recv((&self.socket).into(), &mut slices, metas) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.clear_readable();
                    return true;
                }
                Err(_) => {
                    // ICMP errors and the like concern one remote; its silence tells the same.
                    self.counters.recv_errors += 1;
                    continue;
                }
            };
            let now = clock.now();
            for (meta, buffer) in metas
                .iter()
                .take(count)
                .zip(self.buffers.chunks_exact(TRAIN_BYTES))
            {
                let Some(bytes) = buffer.get(..meta.len) else {
                    continue;
                };
                take(Received {
                    arrived: clock.arrival(now, meta.timestamp),
                    from: canonical(meta.addr),
                    // One copy of the train; every chunk in it is a slice of that from here on.
                    train: Bytes::copy_from_slice(bytes),
                    stride: meta.stride,
                });
            }
            if count < self.batch {
                // A short batch emptied the socket; what comes now raises a new event.
                self.clear_readable();
                return true;
            }
        }
        false
    }

    fn clear_readable(&self) {
        if let Some(watch) = &self.watch {
            let _ = watch.try_io(Interest::READABLE, |_| {
                Err::<(), _>(io::ErrorKind::WouldBlock.into())
            });
        }
    }

    /// Sends, or keeps it until there is room.
    pub fn send(&mut self, now: Instant, transmit: &Transmit<'_>) {
        if !self.waiting.is_empty() {
            return self.wait(transmit.to, transmit.contents, transmit.segment_size);
        }
        self.restore_segments(now);
        match self.try_send(now, transmit.to, transmit.contents, transmit.segment_size) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.wait(transmit.to, transmit.contents, transmit.segment_size);
            }
            _ => {}
        }
    }

    /// Sends what waited.
    pub fn flush(&mut self, now: Instant) {
        while let Some(next) = self.waiting.pop_front() {
            if let Err(error) = self.try_send(now, next.to, &next.contents, next.segment_size)
                && error.kind() == io::ErrorKind::WouldBlock
            {
                self.waiting.push_front(next);
                if let Some(room) = &self.room {
                    let _ = room.try_io(Interest::WRITABLE, |_| {
                        Err::<(), _>(io::ErrorKind::WouldBlock.into())
                    });
                }
                return;
            }
        }
        self.room = None;
    }

    fn wait(&mut self, to: SocketAddr, contents: &[u8], segment_size: Option<usize>) {
        self.counters.blocked += 1;
        if self.room.is_none() {
            let watch = |socket| watched(socket, Interest::WRITABLE);
            self.room = self.socket.try_clone().and_then(watch).ok();
        }
        if self.waiting.len() < WAITING_SENDS_MAX && self.room.is_some() {
            self.waiting.push_back(Waiting {
                to,
                contents: contents.to_vec(),
                segment_size,
            });
        }
    }

    fn try_send(
        &mut self,
        now: Instant,
        to: SocketAddr,
        contents: &[u8],
        segment_size: Option<usize>,
    ) -> io::Result<()> {
        let Some(destination) = self.reachable(to) else {
            self.counters.send_errors += 1;
            return Ok(());
        };
        let step = match segment_size {
            Some(size) => size * self.state.max_gso_segments().max(1),
            None => contents.len().max(1),
        };
        // An empty datagram is a datagram too.
        let mut rest = contents;
        loop {
            let (part, tail) = rest.split_at(step.min(rest.len()));
            let transmit = quinn_udp::Transmit {
                destination,
                ecn: None,
                contents: part,
                segment_size: segment_size.filter(|size| *size < part.len()),
                src_ip: None,
            };
            match self.state.try_send((&self.socket).into(), &transmit) {
                Ok(()) => {}
                Err(error)
                    if error.kind() == io::ErrorKind::WouldBlock
                        && rest.len() == contents.len() =>
                {
                    return Err(error);
                }
                Err(error) => {
                    self.counters.send_errors += 1;
                    if error.raw_os_error() == Some(libc::EMSGSIZE) {
                        self.counters.too_long += 1;
                    }
                    if self.state.max_gso_segments() < self.segments_max && self.probe_at.is_none()
                    {
                        self.probe_at = Some(now + PROBE_AGAIN);
                    }
                }
            }
            rest = tail;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    /// The library gives segmented sends up for good after one error, for every remote; one bad path must not cost all.
    fn restore_segments(&mut self, now: Instant) {
        if self.probe_at.is_some_and(|at| now >= at)
            && let Ok(state) = UdpSocketState::new((&self.socket).into())
        {
            self.state = state;
            self.probe_at = None;
        }
    }

    /// The address as this socket needs it; `None` when it cannot get there (EINVAL would end segmented sends).
    fn reachable(&self, to: SocketAddr) -> Option<SocketAddr> {
        if self.local.ip().is_loopback() && !to.ip().to_canonical().is_loopback() {
            return None;
        }
        match (self.local, to) {
            (SocketAddr::V6(_), SocketAddr::V4(v4)) => Some(SocketAddr::new(
                IpAddr::V6(v4.ip().to_ipv6_mapped()),
                v4.port(),
            )),
            (SocketAddr::V4(_), SocketAddr::V6(v6)) => Some(SocketAddr::new(
                IpAddr::V4(v6.ip().to_ipv4_mapped()?),
                v6.port(),
            )),
            _ => Some(to),
        }
    }
}

/// Watches a socket or pipe for one thing only: the runtime's own types watch for both, and would wake us up whenever
/// there is room to send.
#[expect(
    deprecated,
    reason = "its successor is unsafe for types that lie about their descriptor; sockets and files do not"
)]
pub(super) fn watched<T: AsRawFd>(watched: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(watched, interest)
}

/// IPv4 addresses as such, also where an IPv6 socket shows them.
fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// Asks for large buffers, past the system's limit where we may; gives what was granted.
fn set_buffers(socket: &UdpSocket) -> (usize, usize) {
    if sockopt::set_socket_recv_buffer_size_force(socket, BUFFER_BYTES).is_err() {
        let _ = sockopt::set_socket_recv_buffer_size(socket, BUFFER_BYTES);
    }
    if sockopt::set_socket_send_buffer_size_force(socket, BUFFER_BYTES).is_err() {
        let _ = sockopt::set_socket_send_buffer_size(socket, BUFFER_BYTES);
    }
    let recv = sockopt::socket_recv_buffer_size(socket);
    let send = sockopt::socket_send_buffer_size(socket);
    (recv.unwrap_or(0), send.unwrap_or(0))
}

/// Datagrams that the kernel dropped because nobody read them in time, looked up now and then.
///
/// The table holds every socket of the host, so it is read when there is reason to.
#[derive(Debug)]
pub struct KernelDrops {
    ports: [u16; 2],
    count: u64,
    read_at: Option<Instant>,
    lost_then: u64,
}

impl KernelDrops {
    /// Follows the sockets bound to these ports.
    pub const fn new(ports: [u16; 2]) -> Self {
        Self {
            ports,
            count: 0,
            read_at: None,
            lost_then: 0,
        }
    }

    /// Reads the table when chunks were lost since the last time, the news is old, or `is_last` wants it exact.
    pub fn look(&mut self, now: Instant, lost: u64, is_last: bool) {
        let is_stale = self.read_at.is_none_or(|at| now - at >= DROPS_SPAN);
        if is_stale || is_last || lost != self.lost_then {
            self.count = kernel_drops(&self.ports);
            self.read_at = Some(now);
            self.lost_then = lost;
        }
    }

    /// Drops at the last look.
    pub const fn count(&self) -> u64 {
        self.count
    }
}

/// The drops of UDP sockets bound to these ports (the count behind SO_RXQ_OVFL).
fn kernel_drops(ports: &[u16]) -> u64 {
    let mut drops = 0;
    for table in ["/proc/self/net/udp", "/proc/self/net/udp6"] {
        let Ok(text) = std::fs::read_to_string(table) else {
            continue;
        };
        drops += text
            .lines()
            .skip(1)
            .filter_map(|line| drops_of(line, ports))
            .sum::<u64>();
    }
    drops
}

/// The last field of a line whose local port is one of `ports`.
fn drops_of(line: &str, ports: &[u16]) -> Option<u64> {
    let mut fields = line.split_whitespace();
    let (_, port) = fields.nth(1)?.rsplit_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    ports
        .contains(&port)
        .then(|| fields.last()?.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::channel::Port;

    fn socket() -> Udp {
        Udp::new(UdpSocket::bind("127.0.0.1:0").unwrap(), 4).unwrap()
    }

    #[tokio::test]
    async fn a_train_arrives_whole_and_in_order() {
        let (mut from, mut to) = (socket(), socket());
        let clock = Clock::start();
        let contents: Vec<u8> = (0..10_000u32).map(|at| (at / 1000) as u8).collect();
        let transmit = Transmit {
            port: Port::Dial,
            to: to.local(),
            contents: &contents,
            segment_size: Some(1200),
        };
        to.arm().unwrap();
        from.send(clock.now(), &transmit);
        let mut bytes = Vec::new();
        while bytes.len() < contents.len() {
            to.ready().await;
            to.receive(&clock, |received| {
                assert_eq!(received.from, from.local());
                assert!(received.stride <= 1200 && received.arrived <= clock.now());
                bytes.extend_from_slice(&received.train);
            });
        }
        assert_eq!(bytes, contents);
        assert_eq!(from.counters, UdpCounters::default());
    }

    #[test]
    fn what_a_socket_cannot_reach_is_counted_and_not_tried() {
        let mut udp = socket();
        let to = SocketAddr::from(([192, 0, 2, 1], 9));
        udp.send(
            Instant::ZERO,
            &Transmit {
                port: Port::Dial,
                to,
                contents: b"x",
                segment_size: None,
            },
        );
        assert_eq!(udp.counters.send_errors, 1);
        assert_eq!(udp.segments_max, udp.state.max_gso_segments());
    }

    #[test]
    fn drops_are_read_off_the_kernels_table() {
        let line = " 1234: 0100007F:1EAA 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0000000000000000 17";
        assert_eq!(drops_of(line, &[0x1eaa]), Some(17));
        assert_eq!(drops_of(line, &[0x1eab]), None);
        assert_eq!(drops_of("", &[1]), None);
    }
}
