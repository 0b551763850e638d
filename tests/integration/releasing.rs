//! The scripts and workflows of a release: that versions agree, and that what is run is there and may do no more than it must.
//! What is published and what users check are below it.

mod published;
mod verified;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use rstest::rstest;
use serde_json::{Map, Value};
use tempfile::TempDir;

use crate::documentation::document;
use crate::support::repository;

/// The files that tell the version, and the scripts that read them.
const TELLING: [&str; 10] = [
    "Cargo.toml",
    "Cargo.lock",
    "CHANGELOG.md",
    "Dockerfile",
    "charts/pinstream/Chart.yaml",
    "docs/container.md",
    "release/check",
    "release/common.sh",
    "release/notes",
    "release/registry.sh",
];

/// The version of `Cargo.toml`.
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn copied() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in TELLING {
        let copy = folder.path().join(file);
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(repository().join(file), copy).unwrap();
    }
    folder
}

fn run(folder: &Path, script: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(folder.join("release").join(script));
    command.args(arguments).env("SOURCE_DATE_EPOCH", "0").output().unwrap()
}

fn complaints(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn every_file_says_the_same_version() {
    let output = run(repository(), "check", &[]);
    assert!(output.status.success(), "{}", complaints(&output));
}

#[rstest]
#[case::lock_file("Cargo.lock", "name = \"pinstream\"\nversion = \"VERSION\"")]
#[case::chart("charts/pinstream/Chart.yaml", "\nversion: VERSION")]
#[case::application_of_the_chart("charts/pinstream/Chart.yaml", "appVersion: \"VERSION\"")]
#[case::label_of_the_image("Dockerfile", "ARG VERSION=VERSION")]
#[case::commands_of_the_documents("docs/container.md", "REGISTRY/pinstream:VERSION")]
#[case::table_of_the_documents("docs/container.md", "| `VERSION` | `VERSION` |")]
fn another_version_is_named_with_its_file(#[case] file: &str, #[case] line: &str) {
    let folder = copied();
    let (start, _) = line.rsplit_once("VERSION").unwrap();
    let text = document(file);
    let (old, new) = (format!("{start}{VERSION}"), format!("{start}99.0.0"));
    assert!(text.contains(&old), "{file}: {old}");
    fs::write(folder.path().join(file), text.replace(&old, &new)).unwrap();
    let complaint = complaints(&run(folder.path(), "check", &[]));
    assert!(complaint.contains(&format!("{file} says 99.0.0, Cargo.toml {VERSION}")), "{complaint}");
}

#[test]
fn a_tag_needs_its_version_and_its_section_of_the_changelog() {
    let folder = copied();
    let changelog = folder.path().join("CHANGELOG.md");
    fs::write(&changelog, format!("# Changelog\n\n## {VERSION} - 2026-12-01\n\n- New.\n\n## 0.0.9\n\n- Old.\n"))
        .unwrap();
    assert!(run(folder.path(), "check", &[&format!("v{VERSION}")]).status.success());
    assert_eq!(String::from_utf8(run(folder.path(), "notes", &[VERSION]).stdout).unwrap(), "- New.\n");

    let complaint = complaints(&run(folder.path(), "check", &["v98.0.0"]));
    assert!(complaint.contains(&format!("the tag must be v{VERSION}")), "{complaint}");
    fs::write(&changelog, "# Changelog\n\n## Unreleased\n\n- New.\n").unwrap();
    let complaint = complaints(&run(folder.path(), "check", &[&format!("v{VERSION}")]));
    assert!(complaint.contains("rename the section 'Unreleased'"), "{complaint}");
}

fn workflow(name: &str) -> (String, Value) {
    let text = document(&format!(".github/workflows/{name}.yml"));
    let parsed = serde_saphyr::from_str(&text).unwrap();
    (text, parsed)
}

fn jobs(workflow: &Value) -> &Map<String, Value> {
    workflow["jobs"].as_object().unwrap()
}

/// What the steps of a job have under this key.
fn steps<'a>(job: &'a Value, key: &'a str) -> impl Iterator<Item = &'a str> {
    job["steps"].as_array().unwrap().iter().filter_map(move |step| step[key].as_str())
}

#[rstest]
#[case::ci("ci")]
#[case::release("release")]
fn workflows_run_scripts_that_there_are(#[case] name: &str) {
    let (_, workflow) = workflow(name);
    for command in jobs(&workflow).values().flat_map(|job| steps(job, "run")) {
        assert!(!command.contains("${{"), "what others write is no part of a script, but a variable: {command}");
        let script = command.split_whitespace().next().unwrap();
        if script != "gh" {
            let mode = fs::metadata(repository().join(script))
                .unwrap_or_else(|error| panic!("{script}: {error}"))
                .permissions();
            assert!(mode.mode() & 0o111 != 0, "{script} cannot be run");
        }
    }
}

#[rstest]
#[case::ci("ci")]
#[case::release("release")]
fn actions_are_pinned_by_commit(#[case] name: &str) {
    let (text, workflow) = workflow(name);
    for action in jobs(&workflow).values().flat_map(|job| steps(job, "uses")) {
        let commit = action.split_once('@').unwrap().1;
        assert!(commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()), "{action}");
        assert!(text.contains(&format!("{action} # v")), "the comment must tell the version: {action}");
    }
}

/// What the job that may write runs. None of it is made of what is released.
const PUBLISHING: [&str; 8] = [
    "actions/attest-build-provenance@",
    "actions/checkout@",
    "actions/download-artifact@",
    "gh release create ",
    "release/login ",
    "release/publish ",
    "release/tools/build cosign helm",
    "release/verify ",
];

#[test]
fn only_the_job_that_builds_nothing_of_a_release_may_write() {
    for name in ["ci", "release"] {
        let (_, workflow) = workflow(name);
        assert_eq!(workflow["permissions"], Value::Object(Map::new()));
        for (job_name, job) in jobs(&workflow) {
            assert!(job["timeout-minutes"].is_u64(), "{job_name}");
            let writes = job["permissions"].as_object().unwrap().values().any(|right| right == "write");
            assert_eq!(writes, (name, job_name.as_str()) == ("release", "publish"), "{job_name}");
            for step in steps(job, "run").chain(steps(job, "uses")).filter(|_| writes) {
                assert!(PUBLISHING.iter().any(|known| step.starts_with(known)), "{step}");
                assert!(!step.contains(['\n', ';', '&', '|', '`', '(']), "one command a step: {step}");
            }
        }
    }
}

#[test]
fn what_builds_a_release_is_pinned() {
    let (dockerfile, tools) = (document("Dockerfile"), document("release/tools/build"));
    let (_, rest) = dockerfile.split_once("cargo-auditable@").unwrap();
    let version = rest.split_whitespace().next().unwrap();
    assert!(
        tools.contains(&format!("cargo-auditable) of_cargo \"$tool\" {version} ;;")),
        "release/tools/build has another cargo-auditable"
    );
    let base = dockerfile.lines().find_map(|line| line.strip_prefix("ARG RUST_IMAGE=")).unwrap();
    assert!(base.contains("@sha256:"), "{base}");
    let lines: Vec<_> =
        tools.lines().map(str::trim).filter(|line| line.ends_with(" ;;") && line.contains(" of_")).collect();
    assert!(lines.len() >= 5, "{lines:?}");
    for line in lines {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            [_, "of_cargo", "\"$tool\"", version, ";;"] => assert!(is_exact(version), "{line}"),
            [_, "of_go", "\"$tool\"", folder, _, ";;"] => {
                assert!(repository().join(folder).join("go.sum").exists(), "{line}");
            }
            _ => panic!("neither a tool of Rust by its version nor one of Go by its checksums: {line}"),
        }
    }
}

/// A version that stands for one and no other.
fn is_exact(version: &str) -> bool {
    let parts: Vec<_> = version.split('.').collect();
    parts.len() == 3 && parts.iter().all(|part| part.parse::<u32>().is_ok())
}

#[test]
fn what_checks_a_change_is_pinned() {
    let checks = document(".ci/run");
    let version = checks.lines().find_map(|line| line.strip_prefix("deny=")).unwrap();
    assert!(is_exact(version), "{version}");
    for line in checks.lines().filter(|line| line.contains("cargo install")) {
        assert!(line.contains("--locked") && line.contains("\"cargo-deny@$deny\""), "{line}");
    }
}

#[test]
fn an_image_to_compile_in_that_may_change_is_refused() {
    let mut command = Command::new(repository().join("release/run"));
    command.arg("binaries").env("SOURCE_DATE_EPOCH", "0").env("RUST_IMAGE", "docker.io/library/rust:1");
    let complaint = complaints(&command.output().unwrap());
    assert!(complaint.contains("name it by digest"), "{complaint}");
}
