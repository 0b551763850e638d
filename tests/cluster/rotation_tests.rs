//! That certificates change without anybody noticing, and that what others break is mended.

use std::fs;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Certificate;
use reqwest::blocking::Client;
use serde_json::json;

use crate::availability_tests::Load;
use crate::certificates::Authority;
use crate::control_plane::ControlPlane;
use crate::release::{Reach, Release};
use crate::waiting::eventually;

crate::tests![
    certificates_and_authorities_rotate_under_load,
    overwritten_bundle_is_repaired,
    configuration_that_is_made_anew_is_filled,
    lost_secret_is_made_anew,
];

fn certificates_and_authorities_rotate_under_load(plane: &ControlPlane) {
    let release = Release::install(plane, Reach::Service, &json!({"certificates": {"self": {"lifetime": "10s"}}}));
    eventually("both replicas serve", || release.seen().admin_ports().len() == 2);
    let namespace = release.working_namespace(&json!({}));
    let load = Load::start(&namespace, "?dryRun=All");
    let first = release.bundle();
    // An API server keeps its connections; this caller makes a new one each time, and trusts what it is told to.
    let mut calls = 0;
    eventually("a new authority has taken over", || {
        let trusted = release.bundle();
        let answer = call(&release, &trusted);
        assert!(answer.is_ok(), "after {calls} calls: {answer:?}\n{trusted}");
        calls += 1;
        !trusted.contains(first.trim()) && !release.bundle().is_empty()
    });
    let found = load.end();
    assert!(found.wrong.is_empty(), "{} of {} Pods: {:?}", found.wrong.len(), found.pinned, &found.wrong[..1]);
    let logs = release.seen().logs();
    assert!(logs.matches("new certificate issued").count() >= 3, "{logs}");
    assert_eq!(release.seen().failures(), 0);
}

fn overwritten_bundle_is_repaired(plane: &ControlPlane) {
    let release = Release::install(plane, Reach::Service, &json!({}));
    let before = release.bundle();
    let other = fs::read(Authority::new(&plane.folder("other"), "other").file).unwrap();
    let patch = json!([{"op": "replace", "path": "/webhooks/0/clientConfig/caBundle", "value": STANDARD.encode(other)},
        {"op": "remove", "path": "/webhooks/1/clientConfig/caBundle"}]);
    let patch = format!("--patch={patch}");
    for kind in ["mutatingwebhookconfiguration", "validatingwebhookconfiguration"] {
        plane.admin().kubectl(&["patch", kind, &release.name, "--type=json", &patch]).ok();
        eventually("the bundle is repaired", || release.bundles().iter().all(|bundle| *bundle == before));
    }
    assert_eq!(release.bundles().len(), 5);
    release.working_namespace(&json!({}));
}

/// The one that may be missing while the webhook runs.
fn configuration_that_is_made_anew_is_filled(plane: &ControlPlane) {
    let release = Release::install(plane, Reach::Service, &json!({}));
    let (before, words) = (release.bundles(), ["validatingwebhookconfiguration", release.name.as_str()]);
    let mut configuration = plane.admin().get(&words);
    configuration["metadata"] = json!({"name": release.name, "labels": configuration["metadata"]["labels"]});
    for webhook in configuration["webhooks"].as_array_mut().unwrap() {
        webhook["clientConfig"]["caBundle"].take();
    }
    plane.admin().kubectl(&[&["delete"], &words[..]].concat()).ok();
    plane.admin().kubectl_with_stdin(&["create", "--filename=-"], &configuration.to_string()).ok();
    eventually("it has the bundle", || release.bundles() == before);
}

fn lost_secret_is_made_anew(plane: &ControlPlane) {
    let release = Release::install(plane, Reach::Service, &json!({}));
    let before = release.bundle();
    let secret = format!("{}-tls", release.name);
    let patch = r#"--patch={"data": null}"#;
    release.namespace.kubectl(&["patch", "secret", &secret, "--type=merge", patch]).ok();
    eventually("there is a new authority", || {
        release.bundles().iter().all(|bundle| *bundle != before && !bundle.is_empty())
    });
    release.working_namespace(&json!({}));
    assert_eq!(release.seen().failures(), 0);
}

/// A call by a new connection of somebody who trusts these authorities.
fn call(release: &Release, trusted: &str) -> Result<u16, reqwest::Error> {
    let name = format!("{}.{}.svc", release.name, release.namespace.name);
    let client = Client::builder()
        .tls_certs_only(Certificate::from_pem_bundle(trusted.as_bytes())?)
        .resolve(&name, ([127, 0, 0, 1], release.service.port).into())
        .timeout(Duration::from_secs(10))
        .no_proxy()
        .build()?;
    Ok(client.get(format!("https://{name}:{}/mutate", release.service.port)).send()?.status().as_u16())
}
