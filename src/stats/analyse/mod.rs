//! Reading records back: what `p2ps-qos` summarises and checks.
//!
//! [`read`] turns lines into samples, ours and those of SRT, librist and iperf3; [`summary`] and [`check`] take one
//! sample at a time and keep a bounded amount, so that a file of any size or an endless pipe will do.

pub mod check;
mod foreign;
pub mod read;
pub mod summary;

pub use check::{Check, Limits, Metric, Violation};
pub use read::{BadRecord, Reader, Sample};
pub use summary::Summary;
