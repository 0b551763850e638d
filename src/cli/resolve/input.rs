//! The manifests that a command is given: files, directories, standard input.

use std::fmt;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::diff::unified;
use super::manifest::{Manifest, Resolved};
use crate::store::directory;
use crate::store::documents::Format;
use crate::store::edit;

/// One file.
pub(in crate::cli) struct Input {
    pub source: Source,
    pub manifest: Manifest,
}

/// Where a manifest comes from.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cli) enum Source {
    Stdin,
    File(PathBuf),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdin => f.write_str("standard input"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Input {
    fn new(source: Source, bytes: Vec<u8>, format: Option<Format>) -> anyhow::Result<Self> {
        let text = String::from_utf8(bytes).map_err(|_| anyhow::anyhow!("{source} is no text in UTF-8"))?;
        let manifest = Manifest::read(text, format).with_context(|| source.to_string())?;
        Ok(Self { source, manifest })
    }

    /// What changes, as a diff.
    pub(super) fn diff(&self, resolved: &Resolved) -> String {
        unified(self.source.to_string().trim_start_matches('/'), &self.manifest.text, &resolved.edits)
    }

    /// The text as one of several in a stream of YAML documents.
    pub(super) fn document(&self, resolved: &Resolved) -> String {
        let mut edits: Vec<_> = resolved.edits.iter().cloned().chain(self.manifest.separators()).collect();
        edits.sort_by_key(|edit| edit.at.start);
        let text = edit::apply(&self.manifest.text, &edits);
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let marker = match text.as_bytes() {
            [b'-', b'-', b'-', ..] => "",
            // A directive may only stand behind the end of a document.
            [b'%', ..] => "...\n",
            _ => "---\n",
        };
        let end = if text.ends_with('\n') { "" } else { "\n" };
        format!("{marker}# {}\n{text}{end}", self.source)
    }
}

/// Reads everything that is named, in order.
pub(in crate::cli) fn read(names: &[PathBuf]) -> anyhow::Result<Vec<Input>> {
    let mut inputs = Vec::new();
    for name in names {
        if name == Path::new("-") {
            let mut bytes = Vec::new();
            std::io::stdin().lock().read_to_end(&mut bytes).context("standard input cannot be read")?;
            inputs.push(Input::new(Source::Stdin, bytes, None)?);
        } else if name.is_dir() {
            let manifests = directory::manifests(name)?;
            anyhow::ensure!(!manifests.is_empty(), "there is no *.yaml, *.yml or *.json below {}", name.display());
            for path in manifests {
                inputs.push(read_file(path)?);
            }
        } else {
            inputs.push(read_file(name.clone())?);
        }
    }
    Ok(inputs)
}

fn read_file(path: PathBuf) -> anyhow::Result<Input> {
    let bytes = fs::read(&path).with_context(|| {
        format!("{} cannot be read; write -f FILE, -f DIR, or -f - for standard input", path.display())
    })?;
    let format = directory::format_of(&path);
    Input::new(Source::File(path), bytes, format)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::plain("a: 1\n", "---\n# standard input\na: 1\n")]
    #[case::marker("--- # x\na: 1\n", "# standard input\n--- # x\na: 1\n")]
    #[case::directive("%YAML 1.2\n---\na: 1\n", "...\n# standard input\n%YAML 1.2\n---\na: 1\n")]
    #[case::windows("\u{feff}a: 1\r\n", "---\n# standard input\na: 1\r\n")]
    #[case::no_line_end("{\"a\": 1}", "---\n# standard input\n{\"a\": 1}\n")]
    #[case::json_values("{\"a\": 1}{}\n", "---\n# standard input\n{\"a\": 1}\n---\n{}\n")]
    #[case::empty("", "---\n# standard input\n\n")]
    fn text_becomes_one_of_several_documents(#[case] text: &str, #[case] expected: &str) {
        let input = Input::new(Source::Stdin, text.into(), None).unwrap();
        assert_eq!(input.document(&Resolved::default()), expected);
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_by_name() {
        let error = Input::new(Source::File("a.yaml".into()), vec![0xff], None).err().unwrap();
        assert_eq!(error.to_string(), "a.yaml is no text in UTF-8");
    }
}
