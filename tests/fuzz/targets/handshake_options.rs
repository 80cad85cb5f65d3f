//! The options of a handshake, behind its source channel.

#![no_main]

use libfuzzer_sys::fuzz_target;
use p2ps::wire::check;

fuzz_target!(|bytes: &[u8]| check::handshake_options(bytes));
