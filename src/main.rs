//! The binary: parse, run, and one line for what went wrong.

use std::process::ExitCode;

use pinstream::cli::{Cli, Miss};

/// What a negative answer exits with: something is not there, or was found.
const NEGATIVE: u8 = 1;
/// What a failure exits with.
const FAILURE: u8 = 2;

fn main() -> ExitCode {
    match Cli::of(std::env::args_os()).run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pinstream: {error:#}");
            ExitCode::from(if error.is::<Miss>() { NEGATIVE } else { FAILURE })
        }
    }
}
