//! Notes when a connection last moved a byte.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::slots::Slot;

/// When a connection last moved a byte, whether what came last is part of a request that is not answered yet, and the
/// place that the connection takes.
pub(super) struct Traffic {
    slot: Slot,
    start: Instant,
    last_ms: AtomicU64,
    is_inside_request: AtomicBool,
}

impl Traffic {
    pub(super) fn new(slot: Slot) -> Self {
        Self {
            slot,
            start: Instant::now(),
            last_ms: AtomicU64::new(0),
            is_inside_request: AtomicBool::new(false),
        }
    }

    pub(super) fn last(&self) -> Instant {
        self.start + Duration::from_millis(self.last_ms.load(Ordering::Relaxed))
    }

    fn moved(&self) {
        let since = self.start.elapsed().as_millis();
        self.last_ms
            .store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Part of a request came.
    pub(super) fn request_begins(&self) {
        self.is_inside_request.store(true, Ordering::Relaxed);
    }

    /// The header of a request is here, and its body is to come or it has none.
    pub(super) fn header_is_read(&self, has_body: bool) {
        self.is_inside_request.store(false, Ordering::Relaxed);
        if !has_body {
            self.slot.is_served();
        }
    }

    /// A request is here with all of its body.
    pub(super) fn request_is_read(&self) {
        self.is_inside_request.store(false, Ordering::Relaxed);
        self.slot.is_served();
    }

    pub(super) const fn slot(&self) -> &Slot {
        &self.slot
    }

    pub(super) fn is_inside_request(&self) -> bool {
        self.is_inside_request.load(Ordering::Relaxed)
    }
}

/// A stream that notes its traffic.
pub(super) struct Watched {
    pub(super) stream: TcpStream,
    pub(super) traffic: Arc<Traffic>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        if result.is_ready() && buf.filled().len() > before {
            self.traffic.moved();
        }
        result
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if result.is_ready() {
            self.traffic.moved();
        }
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
