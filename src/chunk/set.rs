//! A set of chunks as a sorted list of ranges: what is held, wanted, announced.

/// A set of chunks, kept as disjoint ranges in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChunkSet {}
