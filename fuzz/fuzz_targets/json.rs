//! What is read as JSON is read as the same by `serde_json`, and nothing that it refuses is passed over.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| pinstream::fuzzing::run("json", input));
