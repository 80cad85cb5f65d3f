//! (cli)
pub mod value;
