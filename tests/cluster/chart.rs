//! The chart of this repository, and the value sets of `tests/chart` that it is rendered with.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::user::User;

/// The chart, from the repository.
pub const CHART: &str = "charts/pinstream";

/// A folder of `tests/chart`: `values.yaml`, and in `expected.yaml` what it renders to.
pub struct Case {
    pub name: String,
    pub values: PathBuf,
    pub expected: PathBuf,
}

/// Every value set there is.
pub fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chart");
    let mut folders: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    let case = |folder: PathBuf| Case {
        name: folder.file_name().unwrap().to_string_lossy().into_owned(),
        values: folder.join("values.yaml"),
        expected: folder.join("expected.yaml"),
    };
    folders.into_iter().map(case).collect()
}

/// Kinds of others that the chart can make.
const FOREIGN: [(&str, &str, &str, &str); 4] = [
    ("cert-manager.io", "v1", "certificates", "Certificate"),
    ("cert-manager.io", "v1", "issuers", "Issuer"),
    ("monitoring.coreos.com", "v1", "servicemonitors", "ServiceMonitor"),
    ("monitoring.coreos.com", "v1", "prometheusrules", "PrometheusRule"),
];

/// Makes them custom resources that may have any content, and waits until they are served.
pub fn define_foreign(admin: &User) {
    for (group, version, plural, kind) in FOREIGN {
        let name = format!("{plural}.{group}");
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": name},
            "spec": {
                "group": group, "scope": "Namespaced", "names": {"plural": plural, "kind": kind},
                "versions": [{"name": version, "served": true, "storage": true, "schema": {"openAPIV3Schema":
                    {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}],
            },
        });
        admin.kubectl_with_stdin(&["apply", "--server-side", "--filename=-"], &definition.to_string()).ok();
        admin.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "crd", &name]).ok();
    }
}

/// What the release `pinstream` of a namespace consists of, the Pods of `helm test` among it.
pub fn render(user: &User, namespace: &str, values: &Path) -> String {
    // The version is part of what is rendered, not that of the cluster.
    let arguments = ["template", "pinstream", CHART, "--kube-version=v1.36.0", "--namespace", namespace, "--values"];
    user.helm(&[&arguments[..], &[values.to_str().unwrap()]].concat()).ok()
}

/// What `kubectl get` finds by these words, or nothing.
pub fn find(user: &User, words: &[&str]) -> Option<Value> {
    let output = user.kubectl(&[&["get", "--ignore-not-found", "--output=json"], words].concat()).ok();
    (!output.is_empty()).then(|| serde_json::from_str(&output).unwrap())
}
