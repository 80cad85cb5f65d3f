//! Arguments of the five tools.

pub mod qos;
