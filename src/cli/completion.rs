//! `pinstream completion`: what shells complete commands and flags by.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::stdout;

/// Print the completion of a shell
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  source <(pinstream completion bash)
  pinstream completion zsh > \"${fpath[1]}/_pinstream\"
  pinstream completion fish > ~/.config/fish/completions/pinstream.fish")]
pub(super) struct Completion {
    /// Which shell
    shell: Shell,
}

impl Completion {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::Cli::command(), "pinstream", &mut script);
        stdout::print(&String::from_utf8(script)?)?;
        Ok(())
    }
}
