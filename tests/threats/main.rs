//! The threat catalogue against whole nodes: each test is named after its threat.

mod access;
mod bounds;
mod content;
mod exchange;
mod exhaustion;
mod opening;
mod seal;
mod world;
