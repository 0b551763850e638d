//! Log lines: to standard error, as text or JSON, in colour only on a terminal.

use std::error::Error;
use std::fmt;
use std::io::IsTerminal as _;

use anyhow::Context as _;
use tracing::field::{Field, Visit};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::{RecordFields, VisitFmt as _, VisitOutput as _};
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{DefaultVisitor, Writer};

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
            let logger = logger.with_ansi(in_colour).with_target(false);
            if in_colour { logger.init() } else { logger.fmt_fields(PlainFields).init() }
        }
    }
    Ok(())
}

/// The fields of a line without colours, written as tracing does. Most are strings that need no escape, and those are
/// copied as they are: an admission that pins images is as quick as its log line.
struct PlainFields;

/// Writes strings without escapes, and hands on the rest.
struct PlainVisitor<'w> {
    other: DefaultVisitor<'w>,
    is_first: bool,
}

impl<'w> FormatFields<'w> for PlainFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut visitor = PlainVisitor { other: DefaultVisitor::new(writer, true), is_first: true };
        fields.record(&mut visitor);
        visitor.other.finish()
    }
}

impl PlainVisitor<'_> {
    /// Writes a string that needs no escape.
    fn copy(&mut self, name: &str, value: &str) -> fmt::Result {
        let writer = self.other.writer();
        [" ", name, "=\"", value, "\""].into_iter().try_for_each(|piece| writer.write_str(piece))
    }
}

impl Visit for PlainVisitor<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
        // Only the other visitor knows the names that are special, and how a line begins.
        let is_usual = !self.is_first && field.name() != "message" && !field.name().starts_with("r#");
        if !is_usual || !value.bytes().all(is_plain) || self.copy(field.name(), value).is_err() {
            self.is_first = false;
            self.other.record_str(field, value);
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.is_first = false;
        self.other.record_error(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.is_first = false;
        self.other.record_debug(field, value);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn some_events() {
        let error = std::fmt::Error;
        tracing::info!(uid = "705a-b4f5", name = "a \"b\"\\", path = "é\n\x1b[31m", count = 3, list = ?["a"], "pinned");
        tracing::warn!(name = "first", "{} and {}", "one", "\x1b[0m");
        tracing::info!(name = "no message", other = "a", %error, third = "b", r#type = "c", is = true);
        tracing::info!(error = &error as &dyn Error, after = "a");
        tracing::info!(empty = "", "");
    }

    #[test]
    fn lines_are_those_of_tracing() {
        let (plain, usual) = (Lines::default(), Lines::default());
        let logger = || tracing_subscriber::fmt().with_ansi(false).without_time();
        let into = |lines: &Lines| {
            let lines = lines.clone();
            move || lines.clone()
        };
        let ours = logger().with_writer(into(&plain)).fmt_fields(PlainFields).finish();
        tracing::subscriber::with_default(ours, some_events);
        tracing::subscriber::with_default(logger().with_writer(into(&usual)).finish(), some_events);
        let text = |lines: Lines| String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let (plain, usual) = (text(plain), text(usual));
        assert_eq!(plain.lines().count(), 5);
        assert_eq!(plain, usual);
    }
}
