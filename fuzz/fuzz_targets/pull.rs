//! A request as HTTP has it: a path with a query, then headers, a line each. What is asked for is what was written, and can
//! be part of a path; a range is in the blob, and where the standard leaves no choice a second reader finds the same; pages
//! have every tag once; the challenge is one that clients read, and sends them nowhere else.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| pinstream::fuzzing::run("pull", input));
