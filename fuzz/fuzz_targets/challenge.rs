//! A challenge that is written in another way means the same, and where the standard leaves no choice a second reader finds
//! the same.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| pinstream::fuzzing::run("challenge", input));
