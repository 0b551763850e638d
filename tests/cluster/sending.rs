//! Which objects the API server sends to the chart's webhooks, as seen without a webhook.
//!
//! The webhooks are at a port where nobody listens, with failure policy `Fail`: what is sent is refused, and so is what a
//! condition fails on, with another message.

use serde_json::{Value, json};

use crate::chart::CHART;
use crate::control_plane::{ControlPlane, Namespace};
use crate::user::Answer;
use crate::waiting::eventually;

/// Kinds that hold images.
pub const KINDS: [&str; 9] = [
    "Pod",
    "PodTemplate",
    "ReplicationController",
    "Deployment",
    "ReplicaSet",
    "StatefulSet",
    "DaemonSet",
    "Job",
    "CronJob",
];

/// What the API server did with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// It called this webhook.
    Sent(String),
    /// It called none. The object may still be invalid.
    NotSent,
}

/// One of the chart's webhook configurations.
#[derive(Clone, Copy)]
pub enum Configuration {
    /// What is pinned.
    Mutating,
    /// What is held to the policy.
    Validating,
}

/// Registers webhooks of the chart for namespaces labelled with the given one's name, that is, for it.
pub fn register(plane: &ControlPlane, namespace: &Namespace, configuration: Configuration, values: &[&str]) {
    let label = format!("test={}", namespace.name);
    plane.admin().kubectl(&["label", "namespace", &namespace.name, &label]).ok();
    let name = plane.unique("pinstream");
    let selector = format!("webhook.namespaceSelector.matchLabels.{label}");
    let streams = format!("webhook.imageStreams.namespaceSelector.matchLabels.{label}");
    let failure = "webhook.failurePolicy=Fail,policy.failurePolicy=Fail";
    let common = [&*selector, &streams, failure, "webhook.url=https://127.0.0.1:1", "podTemplates=true"].join(",");
    let template = match configuration {
        Configuration::Mutating => "--show-only=templates/webhookconfiguration.yaml",
        Configuration::Validating => "--show-only=templates/validatingwebhookconfiguration.yaml",
    };
    let arguments = ["template", &name, CHART, template, "--set", &common];
    let rendered = plane.admin().helm(&[&arguments[..], values].concat()).ok();
    plane.admin().kubectl_with_stdin(&["create", "--filename=-"], &rendered).ok();
    eventually("the webhooks are called", || {
        let probe = json!({"metadata": {"name": "probe"}, "spec": {"containers": [{"name": "a", "image": "probe"}]}});
        matches!(create(namespace, "Pod", probe), Reaction::Sent(_))
    });
}

/// Tries to create an object, without storing it.
pub fn create(namespace: &Namespace, kind: &str, object: Value) -> Reaction {
    reaction(&post(namespace, kind, object))
}

/// What the API server answers to that.
pub fn post(namespace: &Namespace, kind: &str, object: Value) -> Answer {
    namespace.post(&format!("{}?dryRun=All", path(namespace, kind)), &of_kind(kind, object))
}

/// Where the objects of a kind are in a namespace.
pub fn path(namespace: &Namespace, kind: &str) -> String {
    let (version, plural) = version_and_plural(kind);
    let root = if version.contains('/') { "apis" } else { "api" };
    format!("/{root}/{version}/namespaces/{}/{plural}", namespace.name)
}

/// The object as one of that kind.
pub fn of_kind(kind: &str, mut object: Value) -> Value {
    object["apiVersion"] = json!(version_and_plural(kind).0);
    object["kind"] = json!(kind);
    object
}

fn version_and_plural(kind: &str) -> (&'static str, &'static str) {
    match kind {
        "Pod" => ("v1", "pods"),
        "PodTemplate" => ("v1", "podtemplates"),
        "ReplicationController" => ("v1", "replicationcontrollers"),
        "Deployment" => ("apps/v1", "deployments"),
        "ReplicaSet" => ("apps/v1", "replicasets"),
        "StatefulSet" => ("apps/v1", "statefulsets"),
        "DaemonSet" => ("apps/v1", "daemonsets"),
        "Job" => ("batch/v1", "jobs"),
        "CronJob" => ("batch/v1", "cronjobs"),
        "Certificate" => ("cert-manager.io/v1", "certificates"),
        "Issuer" => ("cert-manager.io/v1", "issuers"),
        other => panic!("{other} has no path here"),
    }
}

/// What the API server did before it answered that.
pub fn reaction(answer: &Answer) -> Reaction {
    let message = answer.body["message"].as_str().unwrap_or_default();
    if let Some((_, rest)) = message.split_once("failed calling webhook \"") {
        return Reaction::Sent(rest.split('"').next().unwrap().to_owned());
    }
    assert!(matches!(answer.status, 200 | 201 | 422), "{}: {message}", answer.status);
    Reaction::NotSent
}

/// An object of that kind whose pod spec and template metadata are these.
pub fn object(kind: &str, metadata: &Value, spec: &Value) -> Value {
    let mut template_metadata = metadata.clone();
    template_metadata["labels"] = json!({"app": "a"});
    let template = json!({"metadata": template_metadata, "spec": spec});
    let selector = json!({"matchLabels": {"app": "a"}});
    let below = match kind {
        "Pod" => return json!({"metadata": with_name(metadata), "spec": spec}),
        "PodTemplate" => return json!({"metadata": {"name": "a"}, "template": template}),
        "CronJob" => json!({"schedule": "@daily", "jobTemplate": {"spec": {"template": template}}}),
        "Job" => json!({"template": template}),
        "ReplicationController" => json!({"selector": {"app": "a"}, "template": template}),
        _ => json!({"selector": selector, "serviceName": "a", "template": template}),
    };
    json!({"metadata": {"name": "a"}, "spec": below})
}

/// An object of that kind with this pod spec, valid for it.
pub fn valid(kind: &str, spec: &Value) -> Value {
    valid_with(kind, &json!({}), spec)
}

/// Like [`valid`], with this metadata of its pod template.
pub fn valid_with(kind: &str, metadata: &Value, spec: &Value) -> Value {
    let mut spec = spec.clone();
    spec["restartPolicy"] = json!(if matches!(kind, "Job" | "CronJob") { "Never" } else { "Always" });
    object(kind, metadata, &spec)
}

/// Metadata with a name.
pub fn with_name(metadata: &Value) -> Value {
    let mut metadata = metadata.clone();
    metadata["name"] = json!("a");
    metadata
}

/// A pod spec whose containers have these images.
pub fn pod_spec(images: &[&str]) -> Value {
    let container = |(index, image): (usize, &&str)| json!({"name": format!("c{index}"), "image": image});
    json!({"restartPolicy": "Never", "containers": images.iter().enumerate().map(container).collect::<Vec<_>>()})
}

/// An image with a digest of that algorithm, of so many digits.
pub fn with_digest(algorithm: &str, digits: usize) -> String {
    format!("quay.io/keycloak/keycloak:20.0@{algorithm}:{}", "0a".repeat(digits.div_ceil(2)).split_at(digits).0)
}
