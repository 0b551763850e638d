//! A pattern and a text, a line each: a second reader says the same of them, and so do all who use patterns.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| pinstream::fuzzing::run("patterns", input));
