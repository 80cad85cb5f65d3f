//! Which chunk, from whom, when.

pub mod repair;
