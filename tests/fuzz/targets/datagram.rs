//! Any datagram, read in every format.

#![no_main]

use libfuzzer_sys::fuzz_target;
use p2ps::wire::check;

fuzz_target!(|bytes: &[u8]| check::datagram(bytes));
