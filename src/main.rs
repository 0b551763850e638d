//! The binary: parse, run, and one line for what went wrong.

use std::process::ExitCode;

use clap::Parser as _;
use pinstream::cli::Cli;

/// What a failure exits with; 1 is kept for a negative answer.
const FAILURE: u8 = 2;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pinstream: {error:#}");
            ExitCode::from(FAILURE)
        }
    }
}
