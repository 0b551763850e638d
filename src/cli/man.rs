//! `pinstream man`: manual pages, made of what `--help` says.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _};

/// Write the manual pages
///
/// One page for each command, such as pinstream-resolve.1.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  pinstream man --out ~/.local/share/man/man1
  man pinstream-resolve")]
pub(super) struct Man {
    /// Folder to write to
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl Man {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let written =
            fs::create_dir_all(&self.out).and_then(|()| clap_mangen::generate_to(super::Cli::command(), &self.out));
        written.with_context(|| format!("manual pages cannot be written to {}", self.out.display()))?;
        eprintln!("Manual pages are in {}.", self.out.display());
        Ok(())
    }
}
