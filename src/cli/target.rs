//! Flags of every command on image streams: where they are, and whether anything is written.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

/// Where the image streams are.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Where")]
pub(super) struct Target {
    /// Work on a directory of image streams. Without it, on the cluster of the kubeconfig
    #[arg(long, value_name = "DIR", env = "PINSTREAM_STREAMS")]
    pub streams: Option<PathBuf>,

    /// Namespace. Without it, that of the kubeconfig's context, else default
    #[arg(short, long, value_name = "NAME", value_parser = super::name::namespace)]
    pub namespace: Option<String>,

    /// Kubeconfig to reach the cluster with. Without it, the Pod's ServiceAccount, else the usual kubeconfig
    #[arg(long, value_name = "FILE", env = "PINSTREAM_KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig
    #[arg(long, value_name = "NAME", env = "PINSTREAM_CONTEXT")]
    pub context: Option<String>,
}

/// Whether a command writes.
#[derive(Args, Clone, Copy, Debug)]
pub(super) struct DryRunArgs {
    /// Only show what would be written: client asks nobody, server has the API server check it
    #[arg(long, value_name = "WHO", default_value = "none", num_args = 0..=1, default_missing_value = "client", require_equals = true)]
    pub dry_run: DryRun,
}

/// Who pretends to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum DryRun {
    /// Nobody: it is written.
    #[default]
    None,
    /// This process.
    Client,
    /// The API server; over a directory this process.
    Server,
}

impl DryRun {
    /// What is put behind a message.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Client => " (dry run)",
            Self::Server => " (server dry run)",
        }
    }
}

/// Whether a command waits for what it asked for.
#[derive(Args, Clone, Copy, Debug)]
pub(super) struct WaitArgs {
    /// Wait until what was asked for is imported; over a directory, import it
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub wait: bool,

    /// How long to wait
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = crate::config::duration)]
    pub timeout: Duration,
}

impl Default for WaitArgs {
    fn default() -> Self {
        Self { wait: false, timeout: Duration::ZERO }
    }
}
