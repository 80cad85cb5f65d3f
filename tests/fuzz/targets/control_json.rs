//! The body of a CONTROL message behind its kind.

#![no_main]

use libfuzzer_sys::fuzz_target;
use p2ps::wire::check;

fuzz_target!(|bytes: &[u8]| {
    if let [kind, body @ ..] = bytes {
        check::control_json(u16::from(kind % 5), body);
    }
});
