//! The bounded queue between the swarm and one reader of its media.
//!
//! Offering never waits. A reader that is too slow loses whole groups: from the chunk that found the queue full up to
//! the next entry point for which there is room again, so that what it gets can be decoded.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Notify;

/// One chunk on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaOut {
    /// The payload.
    pub bytes: Bytes,
    /// Whether decoding can begin here.
    pub entry: bool,
    /// The number of the chunk.
    pub chunk: u64,
}

/// What became of a chunk that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// It will be written.
    Queued,
    /// There was no room, or its group has lost a chunk already.
    Dropped,
    /// The output takes nothing any more.
    Ended,
}

/// What a taker found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Chunks were moved.
    Some,
    /// Nothing came in time.
    Timeout,
    /// Nothing will come any more.
    End,
}

/// How many times the limit a queue grows when its owner wants back-pressure but goes on offering.
const OVERRUN: usize = 4;

/// See the module.
#[derive(Debug)]
pub(super) struct Queue {
    limit_bytes: usize,
    /// Back-pressure instead of dropping.
    is_blocking: bool,
    state: Mutex<State>,
    filled: Condvar,
    drained: Notify,
}

#[derive(Debug, Default)]
struct State {
    chunks: VecDeque<MediaOut>,
    bytes: usize,
    is_dropping: bool,
    has_entries: bool,
    /// Nothing more will be offered.
    is_closed: bool,
    /// Nothing more will be taken.
    is_stopped: bool,
    /// Still waits for the entry point to begin with; what passes meanwhile is not lost to anybody.
    is_joining: bool,
    dropped_chunks: u64,
    reader: Option<Waker>,
}

impl Queue {
    pub(super) fn new(limit_bytes: usize, is_blocking: bool) -> Self {
        Self {
            limit_bytes,
            is_blocking,
            state: Mutex::default(),
            filled: Condvar::new(),
            drained: Notify::new(),
        }
    }

    /// A queue for a reader that must wait for the next entry point.
    pub(super) fn new_joining(limit_bytes: usize, is_blocking: bool) -> Self {
        let queue = Self::new(limit_bytes, is_blocking);
        queue.lock().is_joining = true;
        queue
    }

    pub(super) fn offer(&self, chunk: MediaOut) -> Offered {
        let mut state = self.lock();
        if state.is_closed || state.is_stopped {
            return Offered::Ended;
        }
        if state.is_joining && !chunk.entry {
            return Offered::Dropped;
        }
        state.is_joining = false;
        state.has_entries |= chunk.entry;
        let bytes = state.bytes + chunk.bytes.len();
        let fits = if self.is_blocking {
            bytes <= self.limit_bytes * OVERRUN
        } else if state.is_dropping {
            // Half the room, or the next overflow would follow at once. A stream that never showed an entry point
            // can be entered anywhere.
            (chunk.entry || !state.has_entries) && bytes <= self.limit_bytes / 2
        } else {
            bytes <= self.limit_bytes
        };
        state.is_dropping = !fits;
        if !fits {
            state.dropped_chunks += 1;
            return Offered::Dropped;
        }
        state.bytes = bytes;
        state.chunks.push_back(chunk);
        let reader = if state.chunks.len() == 1 {
            self.filled.notify_one();
            state.reader.take()
        } else {
            None
        };
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
        Offered::Queued
    }

    /// Moves all that is queued, at most `limit` chunks; waits until `deadline` (for ever without) when there is none.
    pub(super) fn take(
        &self,
        into: &mut VecDeque<MediaOut>,
        limit: usize,
        deadline: Option<Instant>,
    ) -> Taken {
        let mut state = self.lock();
        loop {
            if state.is_stopped {
                return Taken::End;
            }
            if !state.chunks.is_empty() {
                let count = state.chunks.len().min(limit);
                let bytes: usize = state.chunks.iter().take(count).map(|c| c.bytes.len()).sum();
                into.extend(state.chunks.drain(..count));
                state.bytes -= bytes;
                if state.bytes <= self.limit_bytes / 2 {
                    self.drained.notify_waiters();
                }
                return Taken::Some;
            }
            if state.is_closed {
                return Taken::End;
            }
            let left = match deadline {
                None => Duration::MAX,
                Some(deadline) => match deadline.checked_duration_since(Instant::now()) {
                    Some(left) if !left.is_zero() => left,
                    _ => return Taken::Timeout,
                },
            };
            state = if left == Duration::MAX {
                self.filled
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner)
            } else {
                self.filled
                    .wait_timeout(state, left)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            };
        }
    }

    /// The next chunk for a task; `None` at the end.
    pub(super) fn poll_take(&self, context: &Context<'_>) -> Poll<Option<MediaOut>> {
        let mut state = self.lock();
        if state.is_stopped {
            return Poll::Ready(None);
        }
        if let Some(chunk) = state.chunks.pop_front() {
            state.bytes -= chunk.bytes.len();
            if state.bytes <= self.limit_bytes / 2 {
                self.drained.notify_waiters();
            }
            return Poll::Ready(Some(chunk));
        }
        if state.is_closed {
            return Poll::Ready(None);
        }
        state.reader = Some(context.waker().clone());
        Poll::Pending
    }

    /// No more offers; what is queued will still be taken.
    pub(super) fn close(&self) {
        self.end(|state| state.is_closed = true);
    }

    /// Nothing more is taken; what is queued is forgotten.
    pub(super) fn stop(&self) {
        self.end(|state| {
            state.is_stopped = true;
            state.chunks.clear();
            state.bytes = 0;
        });
    }

    fn end(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        let reader = state.reader.take();
        drop(state);
        self.filled.notify_all();
        self.drained.notify_waiters();
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.lock().is_stopped
    }

    pub(super) fn is_full(&self) -> bool {
        let state = self.lock();
        state.bytes >= self.limit_bytes && !state.is_stopped
    }

    /// Waits until there is room again: half the queue, or its end.
    pub(super) async fn ready(&self) {
        loop {
            let drained = self.drained.notified();
            tokio::pin!(drained);
            // Registered before looking, or a drain in between would be missed.
            drained.as_mut().enable();
            if !self.is_full() {
                return;
            }
            drained.await;
        }
    }

    pub(super) fn dropped_chunks(&self) -> u64 {
        self.lock().dropped_chunks
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(number: u64, entry: bool) -> MediaOut {
        MediaOut {
            bytes: Bytes::from(vec![number as u8; 10]),
            entry,
            chunk: number,
        }
    }

    fn taken(queue: &Queue, limit: usize) -> Vec<u64> {
        let mut chunks = VecDeque::new();
        queue.take(&mut chunks, limit, Some(Instant::now()));
        chunks.iter().map(|chunk| chunk.chunk).collect()
    }

    #[test]
    fn a_full_queue_drops_whole_groups_up_to_an_entry_with_room() {
        let queue = Queue::new(60, false);
        for number in 0..9 {
            let entry = number % 4 == 0;
            let offered = queue.offer(chunk(number, entry));
            let expected = if number < 6 {
                Offered::Queued
            } else {
                Offered::Dropped
            };
            assert_eq!(offered, expected, "{number}");
        }
        assert_eq!(taken(&queue, 64), [0, 1, 2, 3, 4, 5]);
        // Room again, but the group of 8 has lost its entry.
        for number in 9..14 {
            queue.offer(chunk(number, number % 4 == 0));
        }
        assert_eq!(taken(&queue, 64), [12, 13]);
        assert_eq!(queue.dropped_chunks(), 6);
    }

    #[test]
    fn an_entry_without_room_does_not_end_the_dropping() {
        let queue = Queue::new(40, false);
        for number in 0..5 {
            queue.offer(chunk(number, number == 0));
        }
        assert_eq!(taken(&queue, 1), [0]);
        // 30 of 40 bytes are still queued: an entry now would overflow again at once.
        assert_eq!(queue.offer(chunk(8, true)), Offered::Dropped);
        assert_eq!(taken(&queue, 2), [1, 2]);
        assert_eq!(queue.offer(chunk(9, true)), Offered::Queued);
    }

    #[test]
    fn a_stream_without_entries_goes_on_anywhere() {
        let queue = Queue::new(30, false);
        for number in 0..4 {
            queue.offer(chunk(number, false));
        }
        assert_eq!(taken(&queue, 64), [0, 1, 2]);
        assert_eq!(queue.offer(chunk(4, false)), Offered::Queued);
    }

    #[test]
    fn a_reader_that_joins_begins_at_an_entry() {
        let queue = Queue::new_joining(100, false);
        for number in 0..4 {
            queue.offer(chunk(number, number == 2));
        }
        assert_eq!(taken(&queue, 64), [2, 3]);
        assert_eq!(queue.dropped_chunks(), 0);
    }

    #[test]
    fn back_pressure_drops_nothing_until_it_is_ignored_for_long() {
        let queue = Queue::new(30, true);
        for number in 0..12 {
            assert_eq!(queue.is_full(), number >= 3);
            assert_eq!(queue.offer(chunk(number, false)), Offered::Queued);
        }
        assert_eq!(queue.offer(chunk(12, true)), Offered::Dropped);
    }

    #[test]
    fn a_closed_queue_is_drained_and_a_stopped_one_is_not() {
        let queue = Queue::new(100, false);
        queue.offer(chunk(1, false));
        queue.close();
        assert_eq!(queue.offer(chunk(2, false)), Offered::Ended);
        let mut chunks = VecDeque::new();
        assert_eq!(queue.take(&mut chunks, 64, None), Taken::Some);
        assert_eq!(queue.take(&mut chunks, 64, None), Taken::End);
        let queue = Queue::new(100, false);
        queue.offer(chunk(1, false));
        queue.stop();
        assert_eq!(queue.take(&mut chunks, 64, None), Taken::End);
        assert_eq!(queue.queued_bytes(), 0);
    }

    #[tokio::test]
    async fn ready_waits_for_half_the_queue() {
        let queue = Queue::new(20, true);
        queue.ready().await;
        queue.offer(chunk(1, false));
        queue.offer(chunk(2, false));
        let mut ready = Box::pin(queue.ready());
        assert!(futures_poll(&mut ready).is_pending());
        assert_eq!(taken(&queue, 1), [1]);
        ready.await;
    }

    fn futures_poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
        std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
    }
}
