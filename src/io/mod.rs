//! (io)

pub mod lifecycle;
pub mod signal;
