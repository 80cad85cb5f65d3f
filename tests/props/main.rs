//! What must hold for all inputs, on inputs drawn at random.

mod integrity;
mod node;
mod ticket;
#[path = "../golden/vectors.rs"]
mod vectors;
mod wire;
