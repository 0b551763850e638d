//! A control plane whose Pods are pinned, held to the policy and audited, and a Prometheus that scrapes who does it.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::control_plane::{ControlPlane, Namespace};
use crate::importing::{controller, webhook_server};
use crate::pinstream::Pinstream;
use crate::prometheus::Prometheus;
use crate::registry::{Guard, Registry};

/// The label of namespaces that the webhooks are called for.
const LABEL: &str = "monitored";

/// The processes, each of which ends with it.
pub struct Monitored<'p> {
    pub plane: &'p ControlPlane,
    pub registry: Registry,
    pub webhook: Pinstream,
    pub prometheus: Prometheus,
    _controller: Pinstream,
}

impl<'p> Monitored<'p> {
    /// Starts them on a control plane of their own, which has the custom resource. `further` are scraped too.
    pub fn start(plane: &'p ControlPlane, program: &Path, interval: &str, further: &[(&str, u16)]) -> Self {
        let registry = Registry::start(plane, Guard::Open);
        let controller = controller(plane, &["--import-interval=1m"]);
        let (webhook, ca) = webhook_server(plane, &["--policy-except=registry.example/base:*"]);
        register(plane, webhook.port, &ca);
        let own = [("pinstream", webhook.admin_port), ("pinstream-controller", controller.admin_port)];
        let prometheus = Prometheus::start(plane, program, interval, &[&own, further].concat());
        Self { plane, registry, webhook, prometheus, _controller: controller }
    }

    /// A new namespace whose objects are sent to the webhook and held to the policy at that level.
    pub fn namespace(&self, name: &str, level: &str) -> Namespace {
        self.plane.namespace_named(name, &json!({LABEL: "true", "pinstream.dev/policy": level}))
    }
}

/// Has the webhook called at a port of this machine, to change objects and to judge them.
fn register(plane: &ControlPlane, port: u16, ca: &Path) {
    let rule = |group: &str, resource: &str| json!({"apiGroups": [group], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": [resource]});
    let bundle = STANDARD.encode(fs::read(ca).unwrap());
    for (kind, resource, name, path) in [
        ("MutatingWebhookConfiguration", "mutatingwebhookconfigurations", "workload.pinstream.dev", "mutate"),
        ("ValidatingWebhookConfiguration", "validatingwebhookconfigurations", "policy.pinstream.dev", "validate"),
    ] {
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": "pinstream"},
            "webhooks": [{
                "name": name, "clientConfig": {"url": format!("https://localhost:{port}/{path}"), "caBundle": bundle},
                "rules": [rule("", "pods"), rule("apps", "deployments"), rule("batch", "cronjobs")],
                "namespaceSelector": {"matchLabels": {LABEL: "true"}},
                "failurePolicy": "Ignore", "timeoutSeconds": 1, "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
            }],
        });
        plane.admin().post(&format!("/apis/admissionregistration.k8s.io/v1/{resource}"), &configuration).ok();
    }
}

/// A Pod of one container.
pub fn pod(name: &str, image: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"automountServiceAccountToken": false, "containers": [{"name": "main", "image": image}]}})
}

/// Path of the Pods of a namespace.
pub fn pods_path(namespace: &Namespace) -> String {
    format!("/api/v1/namespaces/{}/pods", namespace.name)
}
