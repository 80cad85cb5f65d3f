//! Any bytes as a list of things that happen to a node.

#![no_main]

use libfuzzer_sys::fuzz_target;
use p2ps::node::check;

fuzz_target!(|bytes: &[u8]| check::endpoint_ops(bytes));
