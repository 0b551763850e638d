//! Registers a local process as a mutating webhook, by URL or by a Service.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::{Value, json};

use crate::chart::CHART;
use crate::control_plane::{ControlPlane, Namespace};
use crate::user::User;

const CONFIGURATIONS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";

/// A webhook of one namespace. Dropping it takes it away.
pub struct Webhook<'plane> {
    admin: &'plane User,
    path: String,
}

impl<'plane> Webhook<'plane> {
    /// Has what is created and updated in a namespace sent to a server that the API server reaches as `client`
    /// says: [`by_url`] or [`by_service`]. It is seen a moment later.
    pub fn register(plane: &'plane ControlPlane, namespace: &Namespace, client: Value, ca: &Path) -> Self {
        Self::register_with(plane, namespace, client, ca, &json!([]))
    }

    /// Like [`Webhook::register`], but only what meets `matchConditions` is sent.
    pub fn register_with(
        plane: &'plane ControlPlane,
        namespace: &Namespace,
        client: Value,
        ca: &Path,
        conditions: &Value,
    ) -> Self {
        let client = with_bundle(client, ca);
        Self::create(plane, namespace, &json!({"clientConfig": client, "matchConditions": conditions}))
    }

    /// Like [`Webhook::register`], but nothing is stored without an answer.
    pub fn register_strict(plane: &'plane ControlPlane, namespace: &Namespace, client: Value, ca: &Path) -> Self {
        let client = with_bundle(client, ca);
        Self::create(plane, namespace, &json!({"clientConfig": client, "failurePolicy": "Fail"}))
    }

    /// The webhook has these fields, and others as they are in the chart.
    fn create(plane: &'plane ControlPlane, namespace: &Namespace, fields: &Value) -> Self {
        let name = plane.unique("webhook");
        let kinds = [
            ("", json!(["pods", "pods/ephemeralcontainers", "replicationcontrollers"])),
            ("apps", json!(["deployments", "replicasets", "statefulsets", "daemonsets"])),
            ("batch", json!(["jobs", "cronjobs"])),
        ];
        let rule = |(group, resources): (&str, Value)| json!({"apiGroups": [group], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": resources});
        let mut webhook = json!({
            "name": "workload.pinstream.dev", "rules": kinds.map(rule),
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace.name}},
            "failurePolicy": "Ignore", "timeoutSeconds": 3, "reinvocationPolicy": "IfNeeded",
            "sideEffects": "None", "matchPolicy": "Equivalent", "admissionReviewVersions": ["v1"],
        });
        webhook.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": name}, "webhooks": [webhook],
        });
        plane.admin().post(CONFIGURATIONS, &configuration).ok();
        Self { admin: plane.admin(), path: format!("{CONFIGURATIONS}/{name}") }
    }

    /// Has the webhooks of the chart called at a port of this machine, for one namespace.
    pub fn register_chart(plane: &'plane ControlPlane, namespace: &Namespace, port: u16, ca: &Path) -> Self {
        let (admin, name) = (plane.admin(), plane.unique("pinstream"));
        let label = format!("test={}", namespace.name);
        admin.kubectl(&["label", "namespace", &namespace.name, &label]).ok();
        let values = [
            "certificates.mode=secret,certificates.secret.name=unused".to_owned(),
            format!("webhook.url=https://localhost:{port}"),
            format!("webhook.namespaceSelector.matchLabels.{label}"),
            format!("webhook.imageStreams.namespaceSelector.matchLabels.{label}"),
        ]
        .join(",");
        let bundle = format!("--set-file=certificates.secret.caBundle={}", ca.display());
        let template = "--show-only=templates/webhookconfiguration.yaml";
        let rendered = admin.helm(&["template", &name, CHART, template, &bundle, "--set", &values]).ok();
        admin.kubectl_with_stdin(&["create", "--filename=-"], &rendered).ok();
        Self { admin, path: format!("{CONFIGURATIONS}/{name}") }
    }
}

impl Drop for Webhook<'_> {
    fn drop(&mut self) {
        let _ = self.admin.ask(&Method::DELETE, &self.path, None);
    }
}

/// How a server is reached whose certificate is of that CA.
fn with_bundle(mut client: Value, ca: &Path) -> Value {
    client["caBundle"] = STANDARD.encode(fs::read(ca).unwrap()).into();
    client
}

/// Reached at a port of this machine.
pub fn by_url(port: u16, path: &str) -> Value {
    json!({"url": format!("https://localhost:{port}{path}")})
}

/// Reached through a Service, as in a cluster. The Service leads to a port of this machine, which is why it has that
/// port itself. The server must have a certificate for `SERVICE.NAMESPACE.svc`.
pub fn by_service(namespace: &Namespace, service: &str, port: u16, path: &str) -> Value {
    let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": service},
        "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]}});
    namespace.post(&format!("/api/v1/namespaces/{}/services", namespace.name), &object).ok();
    json!({"service": {"namespace": namespace.name, "name": service, "port": port, "path": path}})
}
