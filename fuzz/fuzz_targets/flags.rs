//! A value and an address, a line each. A value of a flag is refused or means what is written when it is printed again; of an
//! address that is blocked no spelling can be asked.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| pinstream::fuzzing::run("flags", input));
