//! An answer as HTTP has it: a status, headers, an empty line, a body. Whatever is read of it is bounded: what people are
//! told, how long is waited. A token can be shown, the next page is one of the same registry, a digest is that of the body.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| pinstream::fuzzing::run("answer", input));
