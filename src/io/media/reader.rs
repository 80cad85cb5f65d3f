//! The thread that reads what can block, and spreads a file over time.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::thread;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use super::clock::Clock;
use super::input::{BLOCK_BYTES, QUEUE_BLOCKS};
use crate::media::{Anchor, AnchorLimits, Cutter, Scanner, Timeline};

/// Pause before an input that others put into non-blocking mode is asked again.
const WOULD_BLOCK_PAUSE: Duration = Duration::from_millis(2);

/// The reading thread's end of the queue.
pub(super) struct Feed {
    sender: mpsc::Sender<io::Result<Bytes>>,
    pacing: Option<Pacing>,
}

/// What it takes to spread a file over time.
struct Pacing {
    clock: Clock,
    cutter: Cutter,
    scanner: Scanner,
    timeline: Timeline<Bytes>,
    anchor: Anchor,
}

impl Pacing {
    fn new() -> Self {
        Self {
            clock: Clock::start(),
            cutter: Cutter::new(7),
            scanner: Scanner::new(),
            timeline: Timeline::new(),
            anchor: Anchor::new(AnchorLimits::FILE),
        }
    }
}

impl Feed {
    /// Starts the thread; what comes out of the queue is what `read` takes in.
    pub(super) fn start(
        is_paced: bool,
        read: impl FnOnce(&mut Self) -> io::Result<()> + Send + 'static,
    ) -> mpsc::Receiver<io::Result<Bytes>> {
        let (sender, queue) = mpsc::channel(QUEUE_BLOCKS);
        let mut feed = Self {
            sender,
            pacing: is_paced.then(Pacing::new),
        };
        let body = move || {
            let result = read(&mut feed).and_then(|()| feed.end());
            if let Err(error) = result
                && error.kind() != ErrorKind::BrokenPipe
            {
                // Nobody may be left to hear it.
                let _ = feed.sender.blocking_send(Err(error));
            }
        };
        let spawned = thread::Builder::new()
            .name("media-input".to_owned())
            .spawn(body);
        let Err(error) = spawned else {
            return queue;
        };
        let (sender, queue) = mpsc::channel(1);
        let _ = sender.try_send(Err(error));
        queue
    }

    /// Whether nobody wants more.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Reads to the end; whether there was anything.
    pub(super) fn read(&mut self, mut file: &File) -> io::Result<bool> {
        let mut buffer = BytesMut::new();
        let mut has_media = false;
        loop {
            // Zeroed once, then given out slice by slice: no copy from here to the swarm.
            if buffer.len() < BLOCK_BYTES / 4 {
                buffer = BytesMut::zeroed(BLOCK_BYTES);
            }
            match file.read(&mut buffer) {
                Ok(0) => return Ok(has_media),
                Ok(bytes) => {
                    has_media = true;
                    self.take(buffer.split_to(bytes).freeze())?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A descriptor shared with a program that wants it so.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if self.sender.is_closed() {
                        return Err(ErrorKind::BrokenPipe.into());
                    }
                    thread::sleep(WOULD_BLOCK_PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn take(&mut self, block: Bytes) -> io::Result<()> {
        let Some(pacing) = &mut self.pacing else {
            return self.send(block);
        };
        pacing.cutter.push(block);
        while let Some(chunk) = pacing.cutter.next_chunk() {
            let pcr = pacing.scanner.scan(&chunk).pcr;
            let bytes = chunk.len();
            pacing.timeline.push(chunk, bytes, pcr);
        }
        self.release()
    }

    /// Sends what the timeline has placed, each piece when it is due.
    fn release(&mut self) -> io::Result<()> {
        loop {
            let Some(pacing) = &mut self.pacing else {
                return Ok(());
            };
            let Some(slot) = pacing.timeline.pop() else {
                return Ok(());
            };
            let now = pacing.clock.now();
            let due = pacing.anchor.at(now, slot.due, slot.starts_stretch);
            if self.sender.is_closed() {
                return Err(ErrorKind::BrokenPipe.into());
            }
            if due > now {
                thread::sleep(due - now);
            }
            self.send(slot.item)?;
        }
    }

    /// What pacing still holds back.
    fn end(&mut self) -> io::Result<()> {
        if let Some(pacing) = &mut self.pacing {
            while let Some(chunk) = pacing.cutter.finish() {
                let pcr = pacing.scanner.scan(&chunk).pcr;
                let bytes = chunk.len();
                pacing.timeline.push(chunk, bytes, pcr);
            }
            pacing.timeline.flush();
        }
        self.release()
    }

    /// Says that the writer left.
    pub(super) fn send_break(&mut self) -> io::Result<()> {
        self.end()?;
        self.send(Bytes::new())
    }

    fn send(&self, block: Bytes) -> io::Result<()> {
        self.sender
            .blocking_send(Ok(block))
            .map_err(|_| ErrorKind::BrokenPipe.into())
    }
}
