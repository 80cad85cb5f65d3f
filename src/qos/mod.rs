//! How well it runs: the meters of one neighbour and of one stream.
//!
//! Each file answers one question and keeps a fixed amount of memory: [`jitter`] (RFC 3550 §6.4.1), [`latency`]
//! (delay hop by hop, upload in use), [`loss`], [`playback`] (was the chunk there when it was due) and [`histogram`]
//! (distributions). Time is handed in. What is printed of it, and under
//! which name, is the business of [`crate::stats`].

pub mod histogram;
pub mod jitter;
pub mod latency;
pub mod loss;
pub mod playback;

pub use histogram::{Histogram, Percentiles};
pub use jitter::Jitter;
