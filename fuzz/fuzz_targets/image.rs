//! A media type, a configuration and a manifest, of which the first two are a line each. A manifest that can be read is one of
//! an image or of an index, as a second reader says; to it belongs only what has a digest; the object that is made of it is
//! the same after it was written and read.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| pinstream::fuzzing::run("image", input));
