//! An input that is read when the loop wants to: pipes, streams and datagrams that wait in the kernel until then.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::net::{IpAddr, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};

use bytes::{Bytes, BytesMut};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::fcntl_setpipe_size;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::input::BLOCK_BYTES;
use crate::io::udp::watched;

/// What a pipe is made to hold, where the system lets us: an encoder's largest picture does not wait for its reader.
const PIPE_BYTES: usize = 1 << 20;
/// Errors of a socket in a row after which it is left alone until something arrives.
const ERRORS_MAX: usize = 8;
/// Room in which the next datagram is most likely to fit.
const ROOM_BYTES: usize = 2048;
/// Longest datagram.
const DATAGRAM_BYTES: usize = 65536;

/// Where it comes from.
#[derive(Debug)]
enum Origin {
    Stream(File),
    Datagrams {
        socket: UdpSocket,
        /// Who is listened to; everybody when empty.
        sources: Vec<IpAddr>,
        datagram: Vec<u8>,
    },
}

/// A descriptor with media in it.
#[derive(Debug)]
pub(super) struct Unread {
    origin: Origin,
    buffer: BytesMut,
    watch: Option<AsyncFd<OwnedFd>>,
    ended: bool,
}

impl Unread {
    /// The reading end of a pipe, or a connected socket.
    pub(super) fn stream(file: File) -> Self {
        // Refused, it stays as it is.
        let _ = fcntl_setpipe_size(&file, PIPE_BYTES);
        Self::new(Origin::Stream(file))
    }

    /// A bound socket that does not block, whose datagrams of these sources are wanted.
    pub(super) fn datagrams(socket: UdpSocket, sources: Vec<IpAddr>) -> Self {
        Self::new(Origin::Datagrams {
            socket,
            sources,
            datagram: vec![0; DATAGRAM_BYTES],
        })
    }

    fn new(origin: Origin) -> Self {
        Self {
            origin,
            buffer: BytesMut::new(),
            watch: None,
            ended: false,
        }
    }

    /// Waits for the next block; `None` at the end. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            if let Some(block) = self.try_next() {
                return Some(block);
            }
            if self.ended {
                return None;
            }
            if let Err(error) = self.ready().await {
                self.ended = true;
                return Some(Err(error));
            }
        }
    }

    /// Leaves it alone: what comes wakes nobody up until [`next`](Self::next) waits again.
    pub(super) fn disarm(&mut self) {
        self.watch = None;
    }

    async fn ready(&mut self) -> io::Result<()> {
        let watch = match &mut self.watch {
            Some(watch) => watch,
            none => {
                let descriptor = match &self.origin {
                    Origin::Stream(file) => file.as_fd().try_clone_to_owned()?,
                    Origin::Datagrams { socket, .. } => socket.as_fd().try_clone_to_owned()?,
                };
                none.insert(watched(descriptor, Interest::READABLE)?)
            }
        };
        watch.readable().await.map(drop)
    }

    /// The next block if there is one: whatever is there, up to [`BLOCK_BYTES`]; of datagrams as many.
    pub(super) fn try_next(&mut self) -> Option<io::Result<Bytes>> {
        if self.ended {
            return None;
        }
        let read = match &mut self.origin {
            Origin::Stream(file) => read_stream(file, &mut self.buffer),
            Origin::Datagrams {
                socket,
                sources,
                datagram,
            } => read_datagrams(socket, sources, datagram, &mut self.buffer),
        };
        match read {
            Ok(Some(block)) if block.is_empty() => {
                self.ended = true;
                None
            }
            Ok(Some(block)) => Some(Ok(block)),
            Ok(None) => {
                if let Some(watch) = &self.watch {
                    let _ = watch.try_io(Interest::READABLE, |_| {
                        Err::<(), _>(ErrorKind::WouldBlock.into())
                    });
                }
                None
            }
            Err(error) => {
                self.ended = true;
                Some(Err(error))
            }
        }
    }
}

/// What a stream has; nothing when it has nothing now, an empty block at its end.
///
/// Others may rely on the descriptor to block, so it is asked whether a read would, and read after that.
fn read_stream(mut file: &File, buffer: &mut BytesMut) -> io::Result<Option<Bytes>> {
    // Zeroed once, then given out slice by slice: no copy from here to the swarm.
    if buffer.len() < BLOCK_BYTES / 4 {
        *buffer = BytesMut::zeroed(BLOCK_BYTES);
    }
    loop {
        let mut asked = [PollFd::new(&file, PollFlags::IN)];
        match poll(&mut asked, Some(&Timespec::default())) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        match file.read(buffer) {
            Ok(bytes) => return Ok(Some(buffer.split_to(bytes).freeze())),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

/// The datagrams that are there, back to back.
///
/// An error of the socket ends nothing: interfaces go down and come back.
fn read_datagrams(
    socket: &UdpSocket,
    sources: &[IpAddr],
    datagram: &mut [u8],
    buffer: &mut BytesMut,
) -> io::Result<Option<Bytes>> {
    // Given out slice by slice, as little as possible of it for nothing: what is given out is held for long.
    if buffer.capacity() < BLOCK_BYTES / 4 {
        *buffer = BytesMut::with_capacity(BLOCK_BYTES);
    }
    let mut errors = 0;
    while buffer.capacity() - buffer.len() >= ROOM_BYTES && errors < ERRORS_MAX {
        match socket.recv_from(datagram) {
            Ok((bytes, from)) => {
                if sources.is_empty() || sources.contains(&from.ip().to_canonical()) {
                    buffer.extend_from_slice(datagram.get(..bytes).unwrap_or_default());
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(_) => errors += 1,
        }
    }
    Ok((!buffer.is_empty()).then(|| buffer.split().freeze()))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn bytes(block: Option<io::Result<Bytes>>) -> Option<Bytes> {
        block.map(|block| block.expect("the other end is sound"))
    }

    #[tokio::test]
    async fn what_comes_while_a_pipe_is_left_alone_is_there_in_one_piece() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut unread = Unread::stream(OwnedFd::from(reader).into());
        assert_eq!(bytes(unread.try_next()), None);
        writer.write_all(b"ab").unwrap();
        assert_eq!(bytes(unread.next().await).as_deref(), Some(&b"ab"[..]));
        unread.disarm();
        writer.write_all(b"cd").unwrap();
        writer.write_all(b"ef").unwrap();
        drop(writer);
        assert_eq!(bytes(unread.try_next()).as_deref(), Some(&b"cdef"[..]));
        assert_eq!(bytes(unread.try_next()), None);
        assert_eq!(bytes(unread.next().await), None);
    }

    #[tokio::test]
    async fn datagrams_lie_back_to_back_and_strangers_are_left_out() {
        let socket = || UdpSocket::bind("127.0.0.1:0").unwrap();
        let (to, from) = (socket(), socket());
        to.set_nonblocking(true).unwrap();
        from.connect(to.local_addr().unwrap()).unwrap();
        let known = from.local_addr().unwrap().ip();
        let stranger = IpAddr::from([192, 0, 2, 1]);
        for (sources, expected) in [(vec![known], Some(&b"abc"[..])), (vec![stranger], None)] {
            let mut unread = Unread::datagrams(to.try_clone().unwrap(), sources);
            for datagram in [&b"a"[..], b"", b"bc"] {
                from.send(datagram).unwrap();
            }
            unread.ready().await.unwrap();
            assert_eq!(bytes(unread.try_next()).as_deref(), expected);
            assert_eq!(bytes(unread.try_next()), None);
        }
    }

    #[test]
    fn blocks_of_datagrams_share_their_memory() {
        let socket = || UdpSocket::bind("127.0.0.1:0").unwrap();
        let (to, from) = (socket(), socket());
        to.set_nonblocking(true).unwrap();
        from.connect(to.local_addr().unwrap()).unwrap();
        let mut unread = Unread::datagrams(to, Vec::new());
        let mut blocks = (0..8).map(|_| {
            from.send(&[0x47; 1316]).unwrap();
            bytes(unread.try_next()).expect("loopback delivers at once")
        });
        let first = blocks.next().unwrap();
        let gaps: Vec<_> = blocks
            .map(|block| block.as_ptr() as usize - first.as_ptr() as usize)
            .collect();
        assert_eq!(gaps, (1..8).map(|at| at * 1316).collect::<Vec<_>>());
    }
}
