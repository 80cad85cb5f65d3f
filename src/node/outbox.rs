//! What waits to be sent: single datagrams, and trains that go to many children with one byte string.
//!
//! A train is laid out once; for each child only the channel identifiers in it are overwritten, so fan-out copies
//! nothing. Each run of equal datagrams leaves in one segmented send.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::ids::ChannelId;
use crate::peer::channel::Port;

/// Datagrams in one segmented send: Linux takes 64 everywhere, 128 lately.
pub(super) const SEGMENTS_MAX: usize = 60;
/// Bytes in one segmented send.
pub(super) const SEND_BYTES_MAX: usize = 65_000;

/// Bytes to send: one datagram, or several of `segment_size` bytes of which the last may be shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit<'a> {
    /// From which socket.
    pub port: Port,
    /// Where to.
    pub to: SocketAddr,
    /// The bytes.
    pub contents: &'a [u8],
    /// The size of a datagram, when there are several.
    pub segment_size: Option<usize>,
}

/// Whom a train goes to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    /// Its channel identifier.
    pub remote: ChannelId,
    /// Our socket towards it.
    pub port: Port,
    /// Its address.
    pub to: SocketAddr,
    /// Whether it gets the datagram with the hashes as well.
    pub with_hashes: bool,
}

/// Datagrams in a row that go out in one send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    start: usize,
    end: usize,
    segment: usize,
}

/// Datagrams laid out for many children.
#[derive(Debug, Default)]
pub(super) struct Train {
    bytes: Vec<u8>,
    /// Where each datagram begins.
    cuts: Vec<usize>,
    /// Where the datagram with the hashes begins, which is then the last.
    hashes_at: Option<usize>,
    runs_all: Vec<Run>,
    runs_without_hashes: Vec<Run>,
    targets: Vec<Target>,
    /// The next target, and the next run of it.
    next: (usize, usize),
}

impl Train {
    fn clear(&mut self) {
        self.bytes.clear();
        self.cuts.clear();
        self.hashes_at = None;
        self.runs_all.clear();
        self.runs_without_hashes.clear();
        self.targets.clear();
        self.next = (0, 0);
    }

    /// Begins a datagram: room for the channel identifier is made, the rest is the caller's to append.
    pub(super) fn begin_datagram(&mut self) -> &mut Vec<u8> {
        self.cuts.push(self.bytes.len());
        self.bytes.extend_from_slice(&[0; 4]);
        &mut self.bytes
    }

    /// Begins the datagram with the hashes; nothing may follow it.
    pub(super) fn begin_hashes(&mut self) -> &mut Vec<u8> {
        self.hashes_at = Some(self.bytes.len());
        self.begin_datagram()
    }

    /// Adds a child.
    pub(super) fn add_target(&mut self, target: Target) {
        self.targets.push(target);
    }

    /// Datagrams and bytes that a child gets.
    pub(super) fn size_for(&self, with_hashes: bool) -> (u64, u64) {
        match self.hashes_at {
            Some(at) if !with_hashes => (self.cuts.len() as u64 - 1, at as u64),
            _ => (self.cuts.len() as u64, self.bytes.len() as u64),
        }
    }

    fn seal(&mut self) {
        let end = self.bytes.len();
        self.runs_all = runs(&self.cuts, end);
        if let Some(at) = self.hashes_at {
            let cuts = self.cuts.len().saturating_sub(1);
            self.runs_without_hashes = runs(self.cuts.get(..cuts).unwrap_or_default(), at);
        }
    }

    fn runs_of(&self, target: &Target) -> &[Run] {
        if target.with_hashes || self.hashes_at.is_none() {
            &self.runs_all
        } else {
            &self.runs_without_hashes
        }
    }
}

/// Groups datagrams into segmented sends: equal ones, the last perhaps shorter.
fn runs(cuts: &[usize], end: usize) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::with_capacity(2);
    for (at, &start) in cuts.iter().enumerate() {
        let stop = cuts.get(at + 1).copied().unwrap_or(end);
        let size = stop - start;
        if let Some(run) = runs.last_mut() {
            let whole = (run.end - run.start).is_multiple_of(run.segment);
            let room = stop - run.start <= SEND_BYTES_MAX
                && (run.end - run.start) / run.segment < SEGMENTS_MAX;
            if whole && room && size <= run.segment {
                run.end = stop;
                continue;
            }
        }
        runs.push(Run {
            start,
            end: stop,
            segment: size,
        });
    }
    runs
}

#[derive(Debug)]
enum Item {
    Datagram {
        port: Port,
        to: SocketAddr,
        start: usize,
        end: usize,
    },
    Train(Train),
}

/// Everything that waits to be sent, in order.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    items: VecDeque<Item>,
    arena: Vec<u8>,
    /// The train being sent, taken off the queue.
    current: Option<Train>,
    spare: Vec<Train>,
}

impl Outbox {
    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty() && self.current.is_none()
    }

    /// Queues one datagram that `fill` appends, channel identifier first. Gives its length.
    pub(super) fn datagram(
        &mut self,
        port: Port,
        to: SocketAddr,
        channel: ChannelId,
        fill: impl FnOnce(&mut Vec<u8>),
    ) -> usize {
        let start = self.arena.len();
        self.arena
            .extend_from_slice(&channel.to_bits().to_be_bytes());
        fill(&mut self.arena);
        let end = self.arena.len();
        self.items.push_back(Item::Datagram {
            port,
            to,
            start,
            end,
        });
        end - start
    }

    /// An empty train to fill.
    pub(super) fn new_train(&mut self) -> Train {
        self.spare.pop().unwrap_or_default()
    }

    /// Queues a train.
    pub(super) fn push_train(&mut self, mut train: Train) {
        if train.targets.is_empty() || train.cuts.is_empty() {
            self.recycle(train);
            return;
        }
        train.seal();
        self.items.push_back(Item::Train(train));
    }

    fn recycle(&mut self, mut train: Train) {
        train.clear();
        if self.spare.len() < 16 {
            self.spare.push(train);
        }
    }

    /// The next send. The bytes are the outbox's and stay until the next call.
    pub(super) fn poll(&mut self) -> Option<Transmit<'_>> {
        while let Some(train) = &mut self.current {
            let (at, run_at) = train.next;
            let Some(target) = train.targets.get(at).copied() else {
                if let Some(done) = self.current.take() {
                    self.recycle(done);
                }
                break;
            };
            if run_at == 0 {
                let id = target.remote.to_bits().to_be_bytes();
                for &cut in &train.cuts {
                    if let Some(room) = train.bytes.get_mut(cut..cut + 4) {
                        room.copy_from_slice(&id);
                    }
                }
            }
            let Some(run) = train.runs_of(&target).get(run_at).copied() else {
                train.next = (at + 1, 0);
                continue;
            };
            train.next = (at, run_at + 1);
            let contents = self.current.as_ref()?.bytes.get(run.start..run.end)?;
            let segment_size = Some(run.segment).filter(|segment| *segment < contents.len());
            return Some(Transmit {
                port: target.port,
                to: target.to,
                contents,
                segment_size,
            });
        }
        match self.items.pop_front()? {
            Item::Datagram {
                port,
                to,
                start,
                end,
            } => {
                let contents = self.arena.get(start..end)?;
                Some(Transmit {
                    port,
                    to,
                    contents,
                    segment_size: None,
                })
            }
            Item::Train(train) => {
                self.current = Some(train);
                self.poll()
            }
        }
    }

    /// Gives the room of datagrams back once all are sent.
    pub(super) fn tidy(&mut self) {
        if self.items.is_empty() {
            self.arena.clear();
            self.arena.shrink_to(256 * 1024);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9);

    fn target(id: u32, with_hashes: bool) -> Target {
        Target {
            remote: ChannelId::from_bits(id),
            port: Port::Listen,
            to: TO,
            with_hashes,
        }
    }

    fn sends(outbox: &mut Outbox) -> Vec<(Vec<u8>, Option<usize>)> {
        let mut out = Vec::new();
        while let Some(transmit) = outbox.poll() {
            out.push((transmit.contents.to_vec(), transmit.segment_size));
        }
        outbox.tidy();
        out
    }

    #[test]
    fn a_train_of_equal_datagrams_and_shorter_hashes_is_one_send_a_child() {
        let mut outbox = Outbox::default();
        let mut train = outbox.new_train();
        train.begin_datagram().extend_from_slice(b"aaaa");
        train.begin_datagram().extend_from_slice(b"bbbb");
        train.begin_hashes().extend_from_slice(b"h");
        train.add_target(target(1, true));
        train.add_target(target(2, false));
        assert_eq!(
            (train.size_for(true), train.size_for(false)),
            ((3, 21), (2, 16))
        );
        outbox.push_train(train);
        assert_eq!(
            sends(&mut outbox),
            [
                (b"\0\0\0\x01aaaa\0\0\0\x01bbbb\0\0\0\x01h".to_vec(), Some(8)),
                (b"\0\0\0\x02aaaa\0\0\0\x02bbbb".to_vec(), Some(8)),
            ]
        );
        assert!(outbox.is_empty());
    }

    #[test]
    fn datagrams_that_do_not_fit_a_run_get_a_send_of_their_own() {
        assert_eq!(
            runs(&[0, 10, 20, 25, 35], 40),
            [
                Run {
                    start: 0,
                    end: 25,
                    segment: 10
                },
                Run {
                    start: 25,
                    end: 40,
                    segment: 10
                },
            ]
        );
        let many: Vec<usize> = (0..100).map(|at| at * 1345).collect();
        let sends = runs(&many, 134_500);
        assert!(
            sends
                .iter()
                .all(|run| run.end - run.start <= SEND_BYTES_MAX)
        );
        assert_eq!(
            sends.iter().map(|run| run.end - run.start).sum::<usize>(),
            134_500
        );
    }

    #[test]
    fn datagrams_and_trains_keep_their_order() {
        let mut outbox = Outbox::default();
        outbox.datagram(Port::Dial, TO, ChannelId::from_bits(7), |out| out.push(1));
        let mut train = outbox.new_train();
        train.begin_datagram().push(2);
        train.add_target(target(8, true));
        outbox.push_train(train);
        outbox.datagram(Port::Dial, TO, ChannelId::from_bits(9), |out| out.push(3));
        let ends: Vec<u8> = sends(&mut outbox)
            .iter()
            .map(|(bytes, _)| bytes[4])
            .collect();
        assert_eq!(ends, [1, 2, 3]);
    }
}
