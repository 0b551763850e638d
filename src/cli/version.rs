//! `pinstream version`.

use clap::{Args, ValueEnum};
use serde_json::json;

use super::stdout;
use crate::store::edit::yaml;

/// Print the version
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  pinstream version
  pinstream version -o json")]
pub(super) struct Version {
    /// How to print it
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Text,
    Json,
    Yaml,
}

impl Version {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let version = env!("CARGO_PKG_VERSION");
        let platform = format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH);
        let all = json!({"clientVersion": {"version": version, "platform": platform}});
        stdout::print(&match self.output {
            Output::Text => format!("Client Version: {version}\n"),
            Output::Json => format!("{all:#}\n"),
            Output::Yaml => yaml(&all)?,
        })?;
        Ok(())
    }
}
