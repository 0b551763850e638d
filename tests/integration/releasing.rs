//! The scripts and workflows of a release: that versions agree, and that what is run is there and may do no more than it must.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rstest::rstest;
use serde_json::{Map, Value};
use tempfile::TempDir;

use crate::documentation::document;
use crate::support::repository;

/// The files that tell the version, and the scripts that read them.
const TELLING: [&str; 9] = [
    "Cargo.toml",
    "Cargo.lock",
    "CHANGELOG.md",
    "Dockerfile",
    "charts/pinstream/Chart.yaml",
    "docs/container.md",
    "release/check",
    "release/common.sh",
    "release/notes",
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

#[test]
fn only_the_job_that_builds_nothing_of_a_release_may_write() {
    for name in ["ci", "release"] {
        let (_, workflow) = workflow(name);
        assert_eq!(workflow["permissions"], Value::Object(Map::new()));
        for (job_name, job) in jobs(&workflow) {
            assert!(job["timeout-minutes"].is_u64(), "{job_name}");
            let writes = job["permissions"].as_object().unwrap().values().any(|right| right == "write");
            assert_eq!(writes, job_name == "publish", "{job_name}");
            let compiles = steps(job, "run").any(|command| command.starts_with("release/run") || command == ".ci/run");
            assert!(!(writes && compiles), "{job_name}");
        }
    }
}

#[test]
fn what_builds_a_release_is_pinned() {
    let (dockerfile, tools) = (document("Dockerfile"), document("release/tools/build"));
    let (_, rest) = dockerfile.split_once("cargo-auditable@").unwrap();
    let version = rest.split_whitespace().next().unwrap();
    assert!(
        tools.contains(&format!("of_cargo \"$tool\" {version} ;;")),
        "release/tools/build has another cargo-auditable"
    );
    let base = dockerfile.lines().find_map(|line| line.strip_prefix("ARG RUST_IMAGE=")).unwrap();
    assert!(base.contains("@sha256:"), "{base}");
}

/// A cosign that finds everything signed but what has `$REFUSED` in its arguments, with the SBOM in `$ATTESTED`.
const COSIGN: &str = r#"#!/bin/sh
case "$*" in *"$REFUSED"*) exit 1 ;; esac
[ "$1" != verify-attestation ] || cat "$ATTESTED"
"#;
const IMAGE: &str = "registry.example/pinstream@sha256:0a";
const CHART: &str = "registry.example/charts/pinstream@sha256:0b";

/// The files of a release, `release/`, with that cosign beside them.
fn released() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &str| fs::write(folder.path().join(file), text).unwrap();
    fs::create_dir(folder.path().join("release")).unwrap();
    write("cosign", COSIGN);
    fs::set_permissions(folder.path().join("cosign"), fs::Permissions::from_mode(0o755)).unwrap();
    write("release/pinstream.cdx.json", r#"{"bomFormat": "CycloneDX"}"#);
    write("release/pinstream.tar.gz", "the archive");
    let sums = "cd release && sha256sum pinstream.* >SHA256SUMS && touch SHA256SUMS.sigstore.json";
    assert!(Command::new("sh").args(["-c", sums]).current_dir(folder.path()).status().unwrap().success());
    let statement = BASE64_STANDARD.encode(r#"{"predicate": {"bomFormat": "CycloneDX"}}"#);
    write("attested", &format!("{{\"payload\": \"{statement}\"}}\n"));
    folder
}

fn verify(released: &TempDir, refused: &str, image: &str) -> Output {
    let path = format!("{}:{}", released.path().display(), std::env::var("PATH").unwrap());
    let mut command = Command::new(repository().join("release/verify"));
    command.arg(released.path().join("release")).args([image, CHART]);
    command.env("PATH", path).env("REFUSED", refused).env("ATTESTED", released.path().join("attested"));
    command.env("COSIGN_PUBLIC_KEY", "cosign.pub").output().unwrap()
}

/// `release/verify` reads JSON with jq, which not every machine has.
fn is_jq_missing() -> bool {
    let is_missing = Command::new("jq").arg("--version").output().is_err();
    if is_missing {
        eprintln!("left out: there is no jq");
    }
    is_missing
}

#[test]
fn a_release_that_is_as_it_was_signed_is_accepted() {
    if is_jq_missing() {
        return;
    }
    let output = verify(&released(), "nothing", IMAGE);
    assert!(output.status.success(), "{}", complaints(&output));
}

#[rstest]
#[case::checksums("verify-blob", "the checksums are not signed")]
#[case::image(IMAGE, "the image is not signed")]
#[case::chart(CHART, "the chart is not signed")]
#[case::sbom("verify-attestation", "the image has no signed SBOM")]
fn what_is_not_signed_is_refused(#[case] refused: &str, #[case] complaint: &str) {
    if is_jq_missing() {
        return;
    }
    let complained = complaints(&verify(&released(), refused, IMAGE));
    assert!(complained.contains(complaint), "{complained}");
}

#[rstest]
#[case::archive("pinstream.tar.gz", "the archivE")]
#[case::sbom("pinstream.cdx.json", r#"{"bomFormat": "CycloneDy"}"#)]
#[case::a_file_that_is_gone("pinstream.tar.gz", "")]
fn a_file_that_was_changed_is_refused(#[case] file: &str, #[case] text: &str) {
    if is_jq_missing() {
        return;
    }
    let released = released();
    let path = released.path().join("release").join(file);
    if text.is_empty() {
        fs::remove_file(path).unwrap();
    } else {
        fs::write(path, text).unwrap();
    }
    let complained = complaints(&verify(&released, "nothing", IMAGE));
    assert!(complained.contains("a file is not what its checksum says"), "{complained}");
}

#[test]
fn a_file_without_a_checksum_is_refused() {
    if is_jq_missing() {
        return;
    }
    let released = released();
    fs::write(released.path().join("release/more.tar.gz"), "more").unwrap();
    let complained = complaints(&verify(&released, "nothing", IMAGE));
    assert!(complained.contains("more.tar.gz has no checksum"), "{complained}");
}

#[test]
fn an_image_signed_with_another_sbom_or_named_by_a_tag_is_refused() {
    if is_jq_missing() {
        return;
    }
    let released = released();
    let statement = BASE64_STANDARD.encode(r#"{"predicate": {"bomFormat": "another"}}"#);
    fs::write(released.path().join("attested"), format!("{{\"payload\": \"{statement}\"}}\n")).unwrap();
    let complained = complaints(&verify(&released, "nothing", IMAGE));
    assert!(complained.contains("the image is not signed with the SBOM"), "{complained}");
    let complained = complaints(&verify(&released, "nothing", "registry.example/pinstream:1.0"));
    assert!(complained.contains("a tag may be moved"), "{complained}");
}
