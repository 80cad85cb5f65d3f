//! The provider: what a tracker that sells streams knows beyond who is there.

pub mod change;
