//! Log lines: to standard error, as text or JSON, in colour only on a terminal.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

use crate::config::{LogArgs, LogFormat};

/// What is not logged unless asked for: kube's client reports each failure as an error, and hands it to us as well,
/// who report it once with what to do.
const QUIET: &str = "kube_client=off";

/// Starts logging for the whole process; `usual` is what is logged if nothing else is asked for.
///
/// # Errors
/// If the filter cannot be read.
pub fn start(args: &LogArgs, usual: &str) -> anyhow::Result<()> {
    let log = args.log.as_deref().unwrap_or(usual);
    let filter = EnvFilter::try_new(format!("{QUIET},{log}")).with_context(|| {
        format!("--log {log:?} is no filter; write a level (error, warn, info, debug, trace) or target=level")
    })?;
    let logger = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match args.log_format {
        LogFormat::Json => logger.json().flatten_event(true).init(),
        LogFormat::Text => {
            let in_colour =
                std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
            logger.with_ansi(in_colour).with_target(false).init();
        }
    }
    Ok(())
}
