//! A stream that is allowed is so too once it was changed, and is not changed again; one that is refused is told all that is
//! wrong.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| pinstream::fuzzing::run("image_streams", input));
