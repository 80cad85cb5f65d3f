//! (io)

pub mod media;
