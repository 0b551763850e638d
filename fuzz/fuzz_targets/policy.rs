//! A second reader says the same of an object that is created; whatever is refused is told with all that is wrong.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| pinstream::fuzzing::run("policy", input));
