//! `pinstream registry`: the pull-through registry.

mod gc;

use clap::{Args, Subcommand};

/// The registry that images of streams are pulled through
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  pinstream registry gc --storage /var/lib/pinstream")]
pub(super) struct Registry {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Gc(Box<gc::Gc>),
}

impl Registry {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.what {
            What::Gc(gc) => gc.run(),
        }
    }
}
