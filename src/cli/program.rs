//! The name that the binary was started by: its own, or that of a plugin of kubectl.

use std::ffi::OsString;
use std::path::Path;

use clap::{CommandFactory as _, FromArgMatches as _};

use super::Cli;

/// File name of the plugin, by which kubectl finds it.
const PLUGIN: &str = "kubectl-pinstream";

impl Cli {
    /// Reads the arguments of a process, the first of which is the program. Ends the process if they are wrong, or ask
    /// for help.
    #[must_use]
    pub fn of(arguments: impl IntoIterator<Item = OsString>) -> Self {
        let arguments: Vec<OsString> = arguments.into_iter().collect();
        let mut command = Self::command().bin_name(name(arguments.first()));
        let matches = command.try_get_matches_from_mut(arguments).unwrap_or_else(|error| error.exit());
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut command).exit())
    }
}

/// How help and errors name the program.
fn name(program: Option<&OsString>) -> &'static str {
    let stem = program.and_then(|program| Path::new(program).file_stem());
    if stem == Some(PLUGIN.as_ref()) { "kubectl pinstream" } else { "pinstream" }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("/usr/local/bin/kubectl-pinstream", "kubectl pinstream")]
    #[case("kubectl-pinstream.exe", "kubectl pinstream")]
    #[case("pinstream", "pinstream")]
    #[case("./renamed", "pinstream")]
    fn program_is_named_as_it_was_started(#[case] program: &str, #[case] expected: &str) {
        assert_eq!(name(Some(&program.into())), expected);
    }
}
