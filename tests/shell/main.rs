//! The real programs on loopback: trees, faults, endpoints, signals, and what they say and write.

mod access;
mod ask;
mod channels;
mod clones;
mod endpoints;
mod exits;
mod faults;
mod harness;
mod media;
mod netns;
mod page;
mod provider;
#[path = "../redis/server.rs"]
mod redis_server;
mod secrets;
mod several;
mod shared;
mod tls;
mod tree;
