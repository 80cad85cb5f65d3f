//! Sockets, files, clocks, signals: the only place that waits.

pub mod allow;
pub mod clock;
pub mod control;
pub mod engine;
pub mod hook;
pub mod http;
pub mod lifecycle;
pub mod lines;
pub mod media;
pub mod metrics;
pub mod recording;
pub mod signal;
pub mod store;
pub mod timer;
pub mod udp;
pub mod value;
