//! A string is a reference if a second reader says so. It prints as it was written, stays one when pinned, and where its
//! image is asked for can be written as a reference to the same place.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| pinstream::fuzzing::run("reference", input));
