//! Sockets, files, clocks, signals: the only place that waits.

pub mod http;
pub mod lines;
pub mod media;
