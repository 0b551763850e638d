//! Standard output, which is data: all of it arrives, or it is told why not.

use std::io::{ErrorKind, Write as _};

use anyhow::Context as _;

/// Prints a text. Whoever reads it may stop to.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("the output cannot be written"),
        _ => Ok(()),
    }
}
