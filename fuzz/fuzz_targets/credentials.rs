//! Of a secret, in both forms that it can have, and of Docker's own file no more is shown to a registry than was written for
//! it: the host has to be that of the entry. Nothing secret is printed, and a secret of a namespace makes no program run.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| pinstream::fuzzing::run("credentials", input));
