//! A body is answered by a review or refused. A patch applies to the object and touches nothing but images, which become those
//! of the streams; a second pass changes nothing. A second reader finds the same images.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| pinstream::fuzzing::run("review", input));
