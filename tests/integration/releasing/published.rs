//! `release/publish`, beside a cosign, a Helm and a skopeo that say what a test has them say.

use std::fs;
use std::process::{Command, Output};

use pinstream::digest::Digest;
use rstest::rstest;
use serde_json::json;
use tempfile::TempDir;

use super::verified::{index, is_jq_missing, shell, write_programs};
use super::{VERSION, complaints};
use crate::support::repository;

/// Writes down what is signed with what.
const COSIGN: &str = r#"#!/bin/sh
echo "$*" >>"$CONTENT/signed"
"#;
/// Says where it has pushed the chart.
const HELM: &str = r#"#!/bin/sh
echo "Pushed: registry.example/charts/pinstream"
echo "Digest: $PUSHED"
"#;
/// Has no tags but what a file says, and manifests in files that are named by their digests.
const SKOPEO: &str = r#"#!/bin/sh
for last; do :; done
case "$1 $last" in
  list-tags*) cat "$CONTENT/tags" >&2; exit 1 ;;
  inspect*oci:*) cat "$CONTENT/index" ;;
  inspect*) cat "$CONTENT/${last##*:}" ;;
esac
"#;
const NO_NAME: &str = "fetching tags list: name unknown: repository name not known to registry";

/// What `release/run` has made, and the scripts that publish it.
struct Built {
    folder: TempDir,
    platform: Digest,
    image: Digest,
    /// Of its manifest in the registry.
    chart: Digest,
}

impl Built {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let platform = Digest::of(b"what amd64 runs");
        let index = index(&platform);
        let chart = json!({"layers": [{"digest": Digest::of(b"the chart").as_str()}]}).to_string();
        let (image, chart_digest) = (Digest::of(index.as_bytes()), Digest::of(chart.as_bytes()));
        let built = Self { folder, platform, image, chart: chart_digest };
        for name in ["out/files", "programs", "release"] {
            fs::create_dir_all(built.folder.path().join(name)).unwrap();
        }
        for script in ["publish", "common.sh", "registry.sh"] {
            let script = format!("release/{script}");
            fs::copy(repository().join(&script), built.folder.path().join(script)).unwrap();
        }
        write_programs(
            &built.folder.path().join("programs"),
            &[("cosign", COSIGN), ("helm", HELM), ("skopeo", SKOPEO)],
        );
        built.write("Cargo.toml", &format!("version = \"{VERSION}\"\n"));
        built.write("index", &index);
        built.write(built.chart.hex(), &chart);
        built.write("tags", NO_NAME);
        built.write("out/image.digest", built.image.as_str());
        built.write(&format!("out/files/pinstream-chart-{VERSION}.tgz"), "the chart");
        shell(&built.folder.path().join("out/files"), "sha256sum pinstream-* >SHA256SUMS");
        built
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.folder.path().join(file), text).unwrap();
    }

    fn publish(&self) -> Output {
        let folder = self.folder.path();
        let path = format!("{}:{}", folder.join("programs").display(), std::env::var("PATH").unwrap());
        let mut command = Command::new(folder.join("release/publish"));
        command.args(["registry.example/pinstream", "registry.example/charts"]);
        command.env("PATH", path).env("CONTENT", folder).env("PUSHED", self.chart.as_str());
        command.env("PINSTREAM_RELEASE_OUT", "out").env("PINSTREAM_RELEASE_ARCHITECTURES", "amd64");
        command.env("SOURCE_DATE_EPOCH", "0").env_remove("COSIGN_KEY").env_remove("GITHUB_OUTPUT").output().unwrap()
    }

    /// What was signed.
    fn signed(&self) -> String {
        fs::read_to_string(self.folder.path().join("signed")).unwrap_or_default()
    }
}

#[test]
fn what_was_built_is_signed_by_its_digests() {
    if is_jq_missing() {
        return;
    }
    let built = Built::new();
    let output = built.publish();
    assert!(output.status.success(), "{}", complaints(&output));
    let signed = built.signed();
    let lines: Vec<_> = signed.lines().collect();
    let signs = |line: &str, command: &str, what: &str| line.starts_with(command) && line.ends_with(what);
    assert!(signs(lines[0], "sign ", &format!("registry.example/pinstream@{}", built.image)), "{signed}");
    // An SBOM is about what it is the SBOM of.
    assert!(signs(lines[1], "attest ", &format!("registry.example/pinstream@{}", built.platform)), "{signed}");
    assert!(signs(lines[2], "sign ", &format!("registry.example/charts/pinstream@{}", built.chart)), "{signed}");
    assert!(lines[3].starts_with("sign-blob ") && lines.len() == 4, "{signed}");
}

#[rstest]
#[case::address("pinging container registry 127.0.0.1:40404: dial tcp 127.0.0.1:40404: connect: connection refused")]
#[case::name("pinging container registry not-found.example: lookup not-found.example: Name or service not known")]
#[case::token("fetching tags list: requesting bearer token: invalid status code from registry 404 (Not Found)")]
#[case::server("fetching tags list: invalid status code from registry 500 (Internal Server Error)")]
fn a_failure_is_not_taken_for_a_version_that_is_new(#[case] failure: &str) {
    if is_jq_missing() {
        return;
    }
    let built = Built::new();
    built.write("tags", failure);
    let complained = complaints(&built.publish());
    assert!(complained.contains("is there is not known") && complained.contains(failure), "{complained}");
    assert_eq!(built.signed(), "");
}

#[rstest]
#[case::skopeo_1_9("fetching tags list: invalid status code from registry 404 (Not Found)")]
#[case::skopeo_1_14("fetching tags list: repository name not known to registry")]
fn a_registry_that_does_not_know_the_name_has_no_such_version(#[case] answer: &str) {
    if is_jq_missing() {
        return;
    }
    let built = Built::new();
    built.write("tags", answer);
    let output = built.publish();
    assert!(output.status.success(), "{}", complaints(&output));
}

#[test]
fn a_chart_that_is_not_what_was_built_is_not_signed() {
    if is_jq_missing() {
        return;
    }
    let mut built = Built::new();
    let other = r#"{"layers": [{"digest": "sha256:0a"}]}"#;
    // The registry has something else by that digest, then Helm has pushed something else.
    built.write(built.chart.hex(), other);
    assert!(complaints(&built.publish()).contains("is not the chart that was built"));
    built.chart = Digest::of(other.as_bytes());
    built.write(built.chart.hex(), other);
    assert!(complaints(&built.publish()).contains("is not the chart that was built"));
    assert!(!built.signed().contains("charts"), "{}", built.signed());
}
