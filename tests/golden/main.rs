//! Bytes and texts that must not change: hex vectors of every message, records, help.

mod ppstp;
mod records;
mod vectors;
mod wire;
mod wire_errors;
