//! A manifest is resolved or refused. What was resolved can be read, has as many documents and images, and stays as it is when
//! it is resolved again; all but images is as it was. As one YAML stream it says the same.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| pinstream::fuzzing::run("resolve", input));
