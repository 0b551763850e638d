//! A text is read or refused with a place in it. A stream that was read can be written, read again and indexed. Those who
//! read the documents as values see as many, each in its own bytes, and the same streams in them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| pinstream::fuzzing::run("documents", input));
