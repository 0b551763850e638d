//! A field and a tag of the first stream of a text are set: either that is refused, or the text can be read again, or whoever
//! writes has to refuse it. In JSON the rest stays as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| pinstream::fuzzing::run("edits", input));
