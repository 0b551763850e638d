//! The registry of a Helm release: it runs with the rights and the volume that the chart gives it, and is reached through
//! the chart's Service.

use std::fs;

use serde_json::json;

use crate::chart;
use crate::control_plane::ControlPlane;
use crate::importing::{Importing, Stream, manifest};
use crate::pulling::{Skopeo, token};
use crate::registry::{Content, Guard, Registry};
use crate::release::{Reach, Release};
use crate::waiting::eventually;

crate::tests![Importing: images_outlive_their_source_the_pods_and_the_release];

/// The chart with a registry, and where the CA of its certificate is.
fn install(plane: &ControlPlane) -> (Release<'_>, String) {
    let (certificates, trusted) = (plane.folder("certificates"), plane.folder("trusted"));
    let mut certs = assert_cmd::Command::new(env!("CARGO_BIN_EXE_pinstream"));
    certs.args(["certs", "localhost", "--out"]).arg(&certificates).assert().success();
    fs::copy(certificates.join("ca.crt"), trusted.join("ca.crt")).unwrap();
    let values = json!({"registry": {"enabled": true, "certificate": {"secretName": "images-tls"},
        "storage": {"budget": "900MiB", "volume": {"size": "1Gi"}}}});
    let release = Release::install_prepared(plane, Reach::Service, &values, |namespace| {
        let file = |flag: &str, name: &str| format!("--{flag}={}", certificates.join(name).display());
        let (certificate, key) = (file("cert", "tls.crt"), file("key", "tls.key"));
        namespace.kubectl(&["create", "secret", "tls", "images-tls", &certificate, &key]).ok();
    });
    (release, trusted.display().to_string())
}

fn images_outlive_their_source_the_pods_and_the_release(site: &Importing) {
    let (plane, namespace) = (&site.plane, site.plane.namespace());
    let source = Registry::start(plane, Guard::Open);
    let digest = source.push("app", "1", &Content::image("released"));
    Stream::apply(&namespace, &manifest("app", &[source.spec_tag("1", "app:1")])).has_history("1", &[&digest]);
    let (release, trusted) = install(plane);
    let image = format!("localhost:{}/{}/app@{digest}", release.registry.port, namespace.name);
    let (certificates, credentials) =
        (format!("--src-cert-dir={trusted}"), format!("any:{}", token(&namespace, "puller", Some("app"))));
    let pull = || Skopeo::new(plane).pull(&image, &[&certificates, "--src-creds", &credentials]);

    let first = eventually("the Service leads to the registry", pull);
    source.stop();
    assert!(pull().unwrap() == first);
    Skopeo::new(plane).pull(&image, &[&certificates, "--src-no-creds"]).unwrap_err();

    let name = format!("{}-registry", release.name);
    let deployment = format!("deployment/{name}");
    release.namespace.kubectl(&["rollout", "restart", &deployment]).ok();
    release.namespace.kubectl(&["rollout", "status", &deployment, "--timeout=90s"]).ok();
    assert!(eventually("the next Pod serves the same volume", pull) == first);
    assert_eq!(release.seen().failures(), 0, "{}", release.seen().logs());

    release.namespace.helm(&["uninstall", &release.name, "--wait", "--timeout=90s"]).ok();
    eventually("nobody serves any more", || pull().is_err());
    assert!(chart::find(&release.namespace, &[&deployment]).is_none());
    let claim = chart::find(&release.namespace, &["persistentvolumeclaim", &name]);
    assert_eq!(claim.unwrap()["status"]["phase"], "Bound", "what was pulled is kept");
}
