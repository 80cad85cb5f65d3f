//! p2ps: live peer-to-peer media streaming over RFC 7574 and RFC 7846.
//!
//! One library, five thin programs. A deterministic core decides; a shell moves bytes. The layers, each of which knows
//! only those below it:
//!
//! | layer | answers |
//! | --- | --- |
//! | [`cli`] | what did the person ask for, and is it possible |
//! | [`io`] | sockets, files, clocks, signals: the only place that waits |
//! | [`node`] | the one machine a shell or a simulator drives |
//! | [`peer`], [`schedule`], [`overlay`], [`tracker`] | one remote; which chunk when; who neighbours whom; rendezvous |
//! | [`integrity`], [`seal`], [`store`], [`media`], [`qos`], [`stats`] | is it genuine; who can read it; what is held; what the stream shows; how well it runs; records |
//! | [`wire`] | bytes and messages |
//! | [`chunk`] | chunk numbers, ranges, bins |
//! | [`time`], [`rng`], [`ids`] | plain data |
//!
//! [`sim`] stands beside [`io`]: it drives nodes in virtual time, with every fault from one seed.

pub mod chunk;
pub mod cli;
pub mod ids;
pub mod integrity;
pub mod io;
pub mod media;
pub mod model;
pub mod node;
pub mod overlay;
pub mod peer;
pub mod qos;
pub mod rng;
pub mod schedule;
pub mod seal;
pub mod sim;
pub mod stats;
pub mod store;
pub mod time;
pub mod tracker;
pub mod wire;
