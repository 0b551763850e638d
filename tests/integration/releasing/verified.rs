//! `release/verify`, beside a cosign and a skopeo that say what a test has them say.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Output};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use pinstream::digest::Digest;
use rstest::rstest;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::complaints;
use crate::support::{leave_out, repository};

/// Finds everything signed but what has `$REFUSED` in its arguments. What is attested of a digest is in a file named by it.
const COSIGN: &str = r#"#!/bin/sh
case "$*" in *"$REFUSED"*) exit 1 ;; esac
for last; do :; done
[ "$1" != verify-attestation ] || cat "$CONTENT/attested-${last##*:}"
"#;
/// Has the manifests in files named by their digests.
const SKOPEO: &str = r#"#!/bin/sh
for last; do :; done
cat "$CONTENT/${last##*:}"
"#;
const SBOM: &str = r#"{"bomFormat": "CycloneDX"}"#;
const ARCHIVE: &str = "pinstream-1.0.0-linux-amd64.tar.gz";
const SBOM_FILE: &str = "pinstream-1.0.0-linux-amd64.cdx.json";
const CHART_FILE: &str = "pinstream-chart-1.0.0.tgz";

/// Puts programs of these texts in a folder.
pub fn write_programs(folder: &Path, programs: &[(&str, &str)]) {
    for (name, text) in programs {
        let program = folder.join(name);
        fs::write(&program, text).unwrap();
        fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// Runs a line of shell in a folder.
pub fn shell(folder: &Path, line: &str) {
    assert!(Command::new("sh").args(["-ec", line]).current_dir(folder).status().unwrap().success(), "{line}");
}

/// The scripts read JSON with jq, which not every machine has.
pub fn is_jq_missing() -> bool {
    let is_missing = Command::new("jq").arg("--version").output().is_err();
    if is_missing {
        leave_out("there is no jq");
    }
    is_missing
}

/// The index of an image that has this for amd64.
pub fn index(platform: &Digest) -> String {
    let platform = json!({"digest": platform.as_str(), "platform": {"os": "linux", "architecture": "amd64"}});
    json!({"manifests": [platform]}).to_string()
}

/// The files of a release in `release/`, and in `content/` what its registry and its signatures are.
struct Released {
    folder: TempDir,
    image: String,
    chart: String,
}

impl Released {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["release", "content", "pinstream"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        write_programs(folder.path(), &[("cosign", COSIGN), ("skopeo", SKOPEO)]);
        let mut released = Self { folder, image: String::new(), chart: String::new() };
        let platform = Digest::of(b"what amd64 runs");
        released.attest(SBOM);
        let image = released.content(&index(&platform));
        released.image = format!("registry.example/pinstream@{image}");
        released.write("release", ARCHIVE, "the archive");
        released.write("release", SBOM_FILE, SBOM);
        released.package(&format!("image:\n  digest: {image}\nother:\n  digest: none\n"));
        released.sum();
        released
    }

    fn write(&self, folder: &str, file: &str, text: &str) {
        fs::write(self.folder.path().join(folder).join(file), text).unwrap();
    }

    /// Has the registry give this, and gives back its digest.
    fn content(&self, manifest: &str) -> Digest {
        let digest = Digest::of(manifest.as_bytes());
        self.write("content", digest.hex(), manifest);
        digest
    }

    /// What amd64 runs is signed with this SBOM.
    fn attest(&self, sbom: &str) {
        let predicate: Value = serde_json::from_str(sbom).unwrap();
        let payload = BASE64_STANDARD.encode(json!({"predicate": predicate}).to_string());
        let file = format!("attested-{}", Digest::of(b"what amd64 runs").hex());
        self.write("content", &file, &json!({"payload": payload}).to_string());
    }

    /// Makes a chart with these values, which is in the registry too.
    fn package(&mut self, values: &str) {
        self.write("pinstream", "values.yaml", values);
        shell(self.folder.path(), &format!("tar -czf release/{CHART_FILE} pinstream"));
        let chart = Digest::of(&fs::read(self.folder.path().join("release").join(CHART_FILE)).unwrap());
        let manifest = self.content(&json!({"layers": [{"digest": chart.as_str()}]}).to_string());
        self.chart = format!("registry.example/charts/pinstream@{manifest}");
    }

    fn sum(&self) {
        let sums = "cd release && sha256sum pinstream-* >SHA256SUMS && touch SHA256SUMS.sigstore.json";
        shell(self.folder.path(), sums);
    }

    fn verify(&self, refused: &str) -> Output {
        let path = format!("{}:{}", self.folder.path().display(), std::env::var("PATH").unwrap());
        let mut command = Command::new(repository().join("release/verify"));
        command.arg(self.folder.path().join("release")).args([&self.image, &self.chart]);
        command.env("PATH", path).env("REFUSED", refused).env("CONTENT", self.folder.path().join("content"));
        command.env("COSIGN_PUBLIC_KEY", "cosign.pub").output().unwrap()
    }

    /// What is said of it, when it is refused.
    fn complaints(&self) -> String {
        complaints(&self.verify("nothing"))
    }
}

#[test]
fn a_release_that_is_as_it_was_signed_is_accepted() {
    if is_jq_missing() {
        return;
    }
    let output = Released::new().verify("nothing");
    assert!(output.status.success(), "{}", complaints(&output));
}

#[rstest]
#[case::checksums("verify-blob", "the checksums are not signed")]
#[case::image("registry.example/pinstream@", "the image is not signed")]
#[case::chart("registry.example/charts/pinstream@", "the chart is not signed")]
#[case::sbom("verify-attestation", "the image for amd64 has no signed SBOM")]
fn what_is_not_signed_is_refused(#[case] refused: &str, #[case] complaint: &str) {
    if is_jq_missing() {
        return;
    }
    let complained = complaints(&Released::new().verify(refused));
    assert!(complained.contains(complaint), "{complained}");
}

#[rstest]
#[case::archive(ARCHIVE, "the archivE")]
#[case::sbom(SBOM_FILE, r#"{"bomFormat": "CycloneDy"}"#)]
#[case::a_file_that_is_gone(ARCHIVE, "")]
fn a_file_that_was_changed_is_refused(#[case] file: &str, #[case] text: &str) {
    if is_jq_missing() {
        return;
    }
    let released = Released::new();
    if text.is_empty() {
        fs::remove_file(released.folder.path().join("release").join(file)).unwrap();
    } else {
        released.write("release", file, text);
    }
    let complained = released.complaints();
    assert!(complained.contains("a file is not what its checksum says"), "{complained}");
}

#[rstest]
#[case::file("more.tar.gz")]
#[case::file_that_ls_does_not_show(".more")]
#[case::file_named_like_the_checksums("SHA256SUMS.more")]
fn a_file_without_a_checksum_is_refused(#[case] file: &str) {
    if is_jq_missing() {
        return;
    }
    let released = Released::new();
    released.write("release", file, "more");
    let complained = released.complaints();
    assert!(complained.contains(&format!("{file} has no checksum")), "{complained}");
}

#[test]
fn a_folder_or_a_link_among_the_files_is_refused() {
    if is_jq_missing() {
        return;
    }
    let released = Released::new();
    let folder = released.folder.path().join("release");
    fs::create_dir(folder.join("more")).unwrap();
    let complained = released.complaints();
    assert!(complained.contains("more has no checksum, or is no file"), "{complained}");
    fs::remove_dir(folder.join("more")).unwrap();

    fs::rename(folder.join(ARCHIVE), released.folder.path().join("elsewhere")).unwrap();
    symlink("../elsewhere", folder.join(ARCHIVE)).unwrap();
    let complained = released.complaints();
    assert!(complained.contains(&format!("{ARCHIVE} has no checksum, or is no file")), "{complained}");
}

#[test]
fn an_image_signed_with_another_sbom_or_named_by_a_tag_is_refused() {
    if is_jq_missing() {
        return;
    }
    let mut released = Released::new();
    released.attest(r#"{"bomFormat": "another"}"#);
    let complained = released.complaints();
    assert!(complained.contains("the image for amd64 is not signed with the SBOM"), "{complained}");
    released.image = "registry.example/pinstream:1.0.0".to_owned();
    let complained = released.complaints();
    assert!(complained.contains("a tag may be moved"), "{complained}");
}

#[test]
fn files_image_and_chart_that_are_not_of_one_release_are_refused() {
    if is_jq_missing() {
        return;
    }
    // Each of what follows is signed.
    let mut released = Released::new();
    let ours = released.chart.clone();
    let other = released.content(r#"{"layers": [{"digest": "sha256:0a"}]}"#);
    released.chart = format!("registry.example/charts/pinstream@{other}");
    let complained = released.complaints();
    assert!(complained.contains("is not the file"), "{complained}");

    released.chart = ours;
    let other = released.content(&index(&Digest::of(b"what amd64 has run")));
    released.image = format!("registry.example/pinstream@{other}");
    let complained = released.complaints();
    assert!(complained.contains("the chart is for the image sha256:"), "{complained}");
}

#[test]
fn what_a_registry_gives_must_have_the_digest_that_is_asked_for() {
    if is_jq_missing() {
        return;
    }
    let released = Released::new();
    let (_, digest) = released.chart.rsplit_once(':').unwrap();
    let file = released.folder.path().join("content").join(digest);
    fs::write(&file, format!("{} ", fs::read_to_string(&file).unwrap())).unwrap();
    let complained = released.complaints();
    assert!(complained.contains("the registry does not give registry.example/charts/pinstream@"), "{complained}");
}
