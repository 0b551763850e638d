//! Standard output, which is data: all of it arrives, or it is told why not.

use std::io::{ErrorKind, Write as _};

use anyhow::Context as _;

/// Prints a text. Whoever reads it may have stopped to, which is no failure. Says whether somebody still reads.
pub(super) fn print(text: &str) -> anyhow::Result<bool> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("the output cannot be written"),
    }
}

/// Prints a line.
pub(super) fn line(text: &str) -> anyhow::Result<()> {
    print(&format!("{text}\n"))?;
    Ok(())
}
