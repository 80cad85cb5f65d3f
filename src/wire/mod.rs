//! (wire)

pub mod digest;
pub mod option;

pub use digest::Digest;
