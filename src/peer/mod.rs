//! One remote, one swarm: opening a channel, what is known about the other side, what it may do.

pub mod auth;
pub mod channel;
pub mod handshake;
pub mod ledbat;
pub mod rtt;
pub mod served;
pub mod violation;
