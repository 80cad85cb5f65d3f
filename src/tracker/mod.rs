//! Rendezvous: who is on which channel, and whom a newcomer should ask for it (RFC 7846).
//!
//! [`message`] is what goes over the wire, [`registry`] the tracker's memory, [`announce`] the client's side of the
//! conversation. None of them knows HTTP, sockets or a clock: `io::http` carries the bodies.

pub mod address;
pub mod announce;
mod json;
pub mod message;
pub mod placement;
pub mod provider;
pub mod registry;
pub mod service;
pub mod ticket;
