//! The closed formulas of the papers, as plain functions: no state, no dependencies.

pub mod psp;
