//! (io)

pub mod http;
