//! What the loop waits for: the next of each kind, and for ever where there is none.

use std::future::Future;
use std::pin::Pin;

use crate::io::media::{Input, Outcome, Output};
use crate::io::recording::{Loaded, Recording};

pub(super) async fn next_media(input: &mut Option<Input>) -> Option<std::io::Result<bytes::Bytes>> {
    match input {
        Some(input) => input.next().await,
        None => std::future::pending().await,
    }
}

pub(super) async fn next_loaded(recording: &mut Option<Recording>) -> Loaded {
    match recording {
        Some(recording) => recording.loaded().await,
        None => std::future::pending().await,
    }
}

pub(super) async fn tee_ended(tee: &Option<Output>) -> Outcome {
    match tee {
        Some(output) => output.ended().await,
        None => std::future::pending().await,
    }
}

/// The first output that ended, and how.
pub(super) async fn first_ended(outputs: &[Output]) -> (usize, Outcome) {
    let waits = outputs
        .iter()
        .enumerate()
        .map(|(index, output)| Box::pin(async move { (index, output.ended().await) }));
    futures_first(waits.collect()).await
}

/// The first output that has room again.
pub(super) async fn first_ready(outputs: &[Output]) {
    let full: Vec<_> = outputs
        .iter()
        .filter(|output| output.is_full())
        .map(|output| Box::pin(output.ready()))
        .collect();
    if !full.is_empty() {
        futures_first(full).await;
    }
}

/// The first of several futures to be done.
async fn futures_first<F: Future + Unpin>(mut waits: Vec<F>) -> F::Output {
    std::future::poll_fn(|context| {
        for wait in &mut waits {
            if let std::task::Poll::Ready(output) = Pin::new(wait).poll(context) {
                return std::task::Poll::Ready(output);
            }
        }
        std::task::Poll::Pending
    })
    .await
}
