//! One stream, any number of readers who come and go.
//!
//! Keeps the group that plays right now, so that whoever comes starts at its entry point and shows a picture at once;
//! each reader has a queue of its own and a slow one loses its own groups.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::watch;

use super::queue::{MediaOut, Offered, Queue};
use crate::media::{Scanner, Tables, is_transport_stream};

/// Readers served at once; more are turned away.
pub(super) const READERS_MAX: usize = 128;

/// See the module.
#[derive(Debug)]
pub(super) struct Hub {
    limit_bytes: usize,
    is_blocking: bool,
    state: Mutex<State>,
    closed: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    readers: Vec<Arc<Queue>>,
    /// The chunks since the newest entry point; empty when there is none, or the group is too long to keep.
    group: VecDeque<MediaOut>,
    group_bytes: usize,
    has_entries: bool,
    is_transport_stream: Option<bool>,
    scanner: Scanner,
    tables: Tables,
    /// Of readers that have left.
    dropped_chunks: u64,
}

/// One reader's end; leaves the hub when dropped.
#[derive(Debug)]
pub(super) struct Reader {
    hub: Arc<Hub>,
    queue: Arc<Queue>,
}

impl Hub {
    pub(super) fn new(limit_bytes: usize, is_blocking: bool) -> Self {
        Self {
            limit_bytes,
            is_blocking,
            state: Mutex::default(),
            closed: watch::Sender::new(false),
        }
    }

    /// Passes a chunk to every reader; never waits.
    pub(super) fn offer(&self, chunk: MediaOut) -> Offered {
        if self.is_closed() {
            return Offered::Ended;
        }
        let mut state = self.lock();
        for reader in &state.readers {
            reader.offer(chunk.clone());
        }
        state.remember(chunk, self.limit_bytes / 2);
        Offered::Queued
    }

    /// A new reader; `None` when there are too many, or the stream has ended.
    pub(super) fn join(self: &Arc<Self>) -> Option<Reader> {
        let mut state = self.lock();
        if self.is_closed() || state.readers.len() >= READERS_MAX {
            return None;
        }
        let queue = if state.has_entries && state.group.is_empty() {
            Queue::new_joining(self.limit_bytes, self.is_blocking)
        } else {
            Queue::new(self.limit_bytes, self.is_blocking)
        };
        if let Some(first) = state.group.front() {
            queue.offer(MediaOut {
                bytes: state.tables.packets().into(),
                ..first.clone()
            });
        }
        for chunk in &state.group {
            queue.offer(chunk.clone());
        }
        let queue = Arc::new(queue);
        state.readers.push(queue.clone());
        let hub = self.clone();
        Some(Reader { hub, queue })
    }

    /// Whether what plays is a transport stream, as far as is known.
    pub(super) fn is_transport_stream(&self) -> Option<bool> {
        self.lock().is_transport_stream
    }

    pub(super) fn readers(&self) -> usize {
        self.lock().readers.len()
    }

    pub(super) fn dropped_chunks(&self) -> u64 {
        let state = self.lock();
        let present: u64 = state.readers.iter().map(|q| q.dropped_chunks()).sum();
        state.dropped_chunks + present
    }

    /// Of the reader that is furthest behind.
    pub(super) fn queued_bytes(&self) -> usize {
        let state = self.lock();
        state
            .readers
            .iter()
            .map(|queue| queue.queued_bytes())
            .max()
            .unwrap_or(0)
    }

    pub(super) fn is_full(&self) -> bool {
        self.lock().readers.iter().any(|queue| queue.is_full())
    }

    pub(super) async fn ready(&self) {
        loop {
            let full = self.lock().readers.iter().find(|q| q.is_full()).cloned();
            match full {
                Some(queue) => queue.ready().await,
                None => return,
            }
        }
    }

    /// The stream has ended: readers get what is queued, and nobody joins any more.
    pub(super) fn close(&self) {
        self.closed.send_replace(true);
        for reader in &self.lock().readers {
            reader.close();
        }
    }

    fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// Becomes true when the stream has ended.
    pub(super) fn closed(&self) -> watch::Receiver<bool> {
        self.closed.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remember(&mut self, chunk: MediaOut, group_bytes_max: usize) {
        self.is_transport_stream
            .get_or_insert_with(|| is_transport_stream(&chunk.bytes));
        self.scanner.scan(&chunk.bytes);
        self.tables.observe(&chunk.bytes, self.scanner.pmt_pid());
        let bytes = self.group_bytes + chunk.bytes.len();
        if chunk.entry {
            self.has_entries = true;
            self.group.clear();
            self.group_bytes = chunk.bytes.len();
        } else if self.group.is_empty() {
            return;
        } else if bytes > group_bytes_max {
            self.group.clear();
            return;
        } else {
            self.group_bytes = bytes;
        }
        self.group.push_back(chunk);
    }
}

impl Reader {
    /// The next piece; `None` at the end.
    pub(super) async fn next(&self) -> Option<Bytes> {
        poll_fn(|context| self.poll_next(context)).await
    }

    pub(super) fn poll_next(&self, context: &Context<'_>) -> Poll<Option<Bytes>> {
        self.queue
            .poll_take(context)
            .map(|chunk| chunk.map(|chunk| chunk.bytes))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.hub.lock();
        state.readers.retain(|q| !Arc::ptr_eq(q, &self.queue));
        state.dropped_chunks += self.queue.dropped_chunks();
        drop(state);
        // Whoever waits for room in it need not any more.
        self.queue.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::testing::{Clip, pat, pmt};

    fn chunk(number: u64, entry: bool) -> MediaOut {
        MediaOut {
            bytes: Bytes::from(vec![number as u8; 10]),
            entry,
            chunk: number,
        }
    }

    fn hub(limit: usize, chunks: &[(u64, bool)]) -> Arc<Hub> {
        let hub = Arc::new(Hub::new(limit, false));
        for &(number, entry) in chunks {
            hub.offer(chunk(number, entry));
        }
        hub
    }

    /// What the reader has waiting: the first byte of each piece.
    fn waiting(reader: &Reader) -> Vec<u8> {
        let context = Context::from_waker(std::task::Waker::noop());
        std::iter::from_fn(|| match reader.poll_next(&context) {
            Poll::Ready(Some(bytes)) => Some(bytes),
            _ => None,
        })
        .filter_map(|bytes| bytes.first().copied())
        .collect()
    }

    #[test]
    fn each_reader_starts_at_the_newest_entry() {
        let hub = hub(1000, &[(0, true), (1, false), (2, true), (3, false)]);
        let first = hub.join().expect("room");
        hub.offer(chunk(4, true));
        let second = hub.join().expect("room");
        hub.offer(chunk(5, false));
        assert_eq!(waiting(&first), [2, 3, 4, 5]);
        assert_eq!(waiting(&second), [4, 5]);
        drop(second);
        assert_eq!(hub.readers(), 1);
    }

    #[test]
    fn a_group_too_long_to_keep_is_waited_out() {
        let hub = hub(60, &[(0, true), (1, false), (2, false), (3, false)]);
        let reader = hub.join().expect("room");
        hub.offer(chunk(4, false));
        assert!(waiting(&reader).is_empty());
        hub.offer(chunk(5, true));
        assert_eq!(waiting(&reader), [5]);
        assert_eq!(hub.dropped_chunks(), 0);
    }

    #[test]
    fn a_stream_without_entries_is_joined_anywhere() {
        let hub = hub(1000, &[(0, false)]);
        let reader = hub.join().expect("room");
        hub.offer(chunk(1, false));
        assert_eq!(waiting(&reader), [1]);
    }

    #[test]
    fn a_slow_reader_loses_its_own_groups_only() {
        let hub = hub(40, &[]);
        let fast = hub.join().expect("room");
        let slow = hub.join().expect("room");
        for number in 0..8 {
            hub.offer(chunk(number, number % 4 == 0));
            assert_eq!(waiting(&fast), [number as u8]);
        }
        assert_eq!(hub.dropped_chunks(), 4);
        assert!(hub.is_full());
        drop(slow);
        assert!(!hub.is_full());
        assert_eq!(hub.dropped_chunks(), 4);
    }

    #[test]
    fn the_tables_come_first() {
        let hub = Arc::new(Hub::new(1 << 20, false));
        let clip = Bytes::from(Clip::default().bytes(2));
        hub.offer(MediaOut {
            bytes: clip.slice(..376),
            entry: false,
            chunk: 0,
        });
        hub.offer(MediaOut {
            bytes: clip.slice(376..),
            entry: true,
            chunk: 1,
        });
        let reader = hub.join().expect("room");
        let context = Context::from_waker(std::task::Waker::noop());
        let Poll::Ready(Some(first)) = reader.poll_next(&context) else {
            panic!("the tables are there");
        };
        let tables = [
            pat(0x1000),
            pmt(0x1000, 0x100, &[(0x1b, 0x100), (0x0f, 0x101)]),
        ];
        assert_eq!(first, tables.concat());
        assert_eq!(hub.is_transport_stream(), Some(true));
    }

    #[test]
    fn readers_are_bounded_and_the_end_is_the_end() {
        let hub = hub(1000, &[(0, true)]);
        let mut readers: Vec<Reader> = std::iter::from_fn(|| hub.join()).collect();
        assert_eq!(readers.len(), READERS_MAX);
        hub.close();
        assert_eq!(hub.offer(chunk(1, true)), Offered::Ended);
        assert_eq!(waiting(&readers[0]), [0]);
        readers.clear();
        assert!(hub.join().is_none());
    }
}
