//! Bytes as a ticket, and as changes to a genuine one.

#![no_main]

use libfuzzer_sys::fuzz_target;
use p2ps::tracker::ticket::check;

fuzz_target!(|bytes: &[u8]| check::ticket(bytes));
