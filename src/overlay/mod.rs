//! Who neighbours whom.

pub mod parents;
