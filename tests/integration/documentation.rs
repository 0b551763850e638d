//! What the documents say exists does, and what exists is documented.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use clap::CommandFactory as _;
use rstest::rstest;

use crate::support::repository;

pub fn document(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The words in backticks that begin the rows of a document's tables.
pub fn rows(text: &str) -> BTreeSet<String> {
    text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next().map(str::to_owned)).collect()
}

/// Commands that `docs/configuration.md` is about.
const CONFIGURED: [&str; 6] = ["serve", "webhook", "controller", "registry", "certs", "crd"];

/// The flags of a command and of those below it, with their variables.
fn flags(command: &clap::Command) -> BTreeMap<String, Option<String>> {
    let own = command.get_arguments().filter_map(|argument| {
        let flag = argument.get_long().filter(|flag| !["help", "version"].contains(flag))?;
        Some((format!("--{flag}"), argument.get_env().map(|variable| variable.to_str().unwrap().to_owned())))
    });
    own.chain(command.get_subcommands().flat_map(flags)).collect()
}

#[test]
fn every_flag_and_variable_is_documented_and_no_other() {
    let command = pinstream::cli::Cli::command();
    let (configured, others): (Vec<_>, Vec<_>) =
        command.get_subcommands().partition(|command| CONFIGURED.contains(&command.get_name()));
    let text = document("docs/configuration.md");
    let mut expected: BTreeMap<_, _> = configured.into_iter().flat_map(flags).collect();
    let global = command.get_arguments().filter_map(|argument| argument.get_long());
    let global: BTreeSet<_> =
        global.filter(|flag| !["help", "version"].contains(flag)).map(|flag| format!("--{flag}")).collect();
    expected.extend(flags(&command).into_iter().filter(|(flag, _)| global.contains(flag)));
    for (flag, variable) in expected.iter().filter_map(|(flag, variable)| Some((flag, variable.as_ref()?))) {
        let row = format!("| `{flag}` | `{variable}` |");
        assert!(text.contains(&row), "docs/configuration.md has no row {row}");
    }
    let documented = |text: &str| rows(text).into_iter().filter(|word| word.starts_with("--")).collect::<BTreeSet<_>>();
    assert_eq!(documented(&text), expected.into_keys().collect());
    let expected: BTreeSet<_> = others.into_iter().flat_map(flags).map(|(flag, _)| flag).collect();
    assert_eq!(documented(&document("docs/commands.md")), expected);
}

#[test]
fn every_crate_is_explained_and_no_other() {
    let manifest = document("Cargo.toml");
    let crates = |section: &str| -> Vec<String> {
        let (_, rest) = manifest.split_once(&format!("\n[{section}]\n")).unwrap();
        let lines = rest.lines().take_while(|line| !line.starts_with('['));
        lines.filter_map(|line| Some(line.split_once(" = ")?.0.to_owned())).collect()
    };
    let expected: BTreeSet<_> = [crates("dependencies"), crates("dev-dependencies")].concat().into_iter().collect();
    let architecture = document("docs/architecture.md");
    let (_, section) = architecture.split_once("\n## Crates\n").unwrap();
    assert_eq!(rows(section), expected);
}

#[test]
fn every_known_difference_is_explained() {
    let text = document("docs/openshift.md");
    for file in ["differences.json", "write-differences.json"] {
        let differences = document(&format!("tests/conformance/{file}"));
        let differences: serde_json::Value = serde_json::from_str(&differences).unwrap();
        for reason in differences.as_object().unwrap().values().map(|difference| &difference["reason"]) {
            let first = reason.as_str().unwrap().split(':').next().unwrap();
            assert!(text.contains(first), "{first}");
        }
    }
}

#[test]
fn custom_resources_in_the_chart_are_those_of_the_types() {
    for resource in pinstream::crd::all() {
        let path = format!("charts/pinstream/files/crds/{}.yaml", resource.plural);
        let (made, kept) = (resource.manifest().unwrap(), document(&path));
        assert!(made == kept, "renew it with: cargo run -- crd {} > {path}", resource.plural);
    }
}

/// Every `.rs` file below these folders.
fn sources(folders: &[&str]) -> Vec<String> {
    let mut folders: Vec<_> = folders.iter().map(|folder| repository().join(folder)).collect();
    let mut texts = Vec::new();
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension() == Some("rs".as_ref()) {
                texts.push(fs::read_to_string(path).unwrap());
            }
        }
    }
    texts
}

/// The names of all tests: functions below an attribute that says so, and those that cluster tests list.
fn tests() -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    for text in sources(&["src", "tests"]) {
        let mut is_test = false;
        for line in text.lines().map(str::trim_start) {
            let function = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
            if let Some(name) = function.and_then(|rest| rest.split('(').next()).filter(|_| is_test) {
                tests.insert(name.to_owned());
            }
            // Attributes may have several lines.
            let goes_on = is_test && function.is_none() && !line.is_empty();
            is_test = goes_on || line.starts_with("#[") && line.contains("test");
        }
        let lists = text.split("tests![").skip(1).filter_map(|rest| rest.split(']').next());
        let names = lists.flat_map(|list| list.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_'));
        tests.extend(names.filter(|name| name.contains('_')).map(str::to_owned));
    }
    tests
}

#[rstest]
#[case::security("docs/security.md")]
#[case::reliability("docs/reliability.md")]
fn what_is_promised_is_shown_by_tests_that_there_are(#[case] page: &str) {
    let (tests, page) = (tests(), document(page));
    let mut in_table = false;
    let mut count = 0;
    for line in page.lines() {
        in_table = line.starts_with('|') && (in_table || line.ends_with("| shown by |"));
        if !in_table || line.ends_with("| shown by |") || line.starts_with("|--") {
            continue;
        }
        let shown_by = line.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let named: Vec<_> = shown_by.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "no test is named: {line}");
        for name in named {
            assert!(tests.contains(name), "there is no test {name}");
        }
        count += 1;
    }
    assert!(count > 15, "{count} promises");
}

#[test]
fn links_lead_to_files() {
    let docs = fs::read_dir(repository().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let top = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "charts/pinstream/README.md"];
    let top = top.map(|file| repository().join(file));
    for path in docs.chain(top).filter(|path| path.extension() == Some("md".as_ref())) {
        let text = fs::read_to_string(&path).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap();
            if !file.is_empty() && !file.contains("://") {
                assert!(path.parent().unwrap().join(file).exists(), "{}: {link}", path.display());
            }
        }
    }
}
