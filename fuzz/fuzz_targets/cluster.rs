//! A page of a list, or an event of a watch. An object that can be read is the stream that a reader of whole objects finds,
//! and one that cannot be read spoils no other.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| pinstream::fuzzing::run("cluster", input));
