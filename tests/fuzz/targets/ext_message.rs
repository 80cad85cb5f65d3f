//! Subtype and body of an extension message.

#![no_main]

use libfuzzer_sys::fuzz_target;
use p2ps::wire::check;

fuzz_target!(|bytes: &[u8]| check::extension(bytes));
