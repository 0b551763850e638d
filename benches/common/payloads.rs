//! The reviews that are sent, as an API server writes them, and what has to come of each.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::Error;

/// A review by its name.
pub struct Payload {
    pub name: &'static str,
    review: Value,
    /// Images of the object, in the order of its containers, as they have to be after the patch.
    pub expected: Vec<String>,
}

/// What images are called before and after.
pub struct Images {
    /// As it is written: a tag.
    pub written: String,
    /// As it has to be: a digest.
    pub pinned: String,
}

/// Variables in each container of the large object, which make it 200 KiB.
const VARIABLES: usize = 560;
/// Fields that an API server writes before others, in its order; the others follow by name.
const FIELDS: [&str; 25] = [
    "uid",
    "group",
    "version",
    "kind",
    "apiVersion",
    "resource",
    "requestKind",
    "requestResource",
    "name",
    "namespace",
    "operation",
    "userInfo",
    "request",
    "metadata",
    "spec",
    "object",
    "oldObject",
    "dryRun",
    "options",
    "image",
    "args",
    "ports",
    "env",
    "resources",
    "volumeMounts",
];

impl Payload {
    /// All of them.
    pub fn all(images: &Images) -> Vec<Self> {
        let Images { written, pinned } = images;
        let create = |name, kind, object: &Value, count: usize| Self {
            name,
            review: review(kind, "CREATE", object, &Value::Null),
            expected: vec![pinned.clone(); count],
        };
        let deployment = |variables| deployment(&[], &[written, written, written], variables);
        let unchanged = || object("Pod", &pod(&[], &[written], 0));
        vec![
            create("Pod, 1 container", "Pod", &object("Pod", &pod(&[], &[written], 0)), 1),
            create("Pod, 2 containers, 1 init", "Pod", &object("Pod", &pod(&[written], &[written, written], 0)), 3),
            create("Deployment, 3 containers", "Deployment", &deployment(0), 3),
            create("Deployment of 200 KiB", "Deployment", &deployment(VARIABLES), 3),
            create("Pod, already pinned", "Pod", &object("Pod", &pod(&[], &[pinned], 0)), 1),
            Self {
                name: "Pod, updated, image as before",
                review: review("Pod", "UPDATE", &unchanged(), &unchanged()),
                expected: vec![written.clone()],
            },
        ]
    }

    /// As it is sent.
    pub fn body(&self) -> String {
        let mut text = String::new();
        write(&self.review, &mut text);
        text
    }

    /// Applies the patch of an answer, and compares the images that the object has then.
    pub fn check(&self, expected: &[String], answer: &[u8]) -> Result<(), Error> {
        if self.images_after(answer)? == expected {
            Ok(())
        } else {
            Err(format!("{}: {}", self.name, String::from_utf8_lossy(answer)).into())
        }
    }

    /// The images of the object once the patch of an answer was applied.
    pub fn images_after(&self, answer: &[u8]) -> Result<Vec<String>, Error> {
        let answer: Value = serde_json::from_slice(answer)?;
        let response = &answer["response"];
        if response["allowed"] != true || response["uid"] != self.review["request"]["uid"] {
            return Err(format!("{} was not allowed: {answer}", self.name).into());
        }
        let mut object = self.review["request"]["object"].clone();
        if let Some(patch) = response["patch"].as_str() {
            // Some say `null` where nothing is to be changed.
            let patch: Option<json_patch::Patch> = serde_json::from_slice(&STANDARD.decode(patch)?)?;
            json_patch::patch(&mut object, &patch.unwrap_or_default())?;
        }
        Ok(Self::images(&object))
    }

    /// The images of an object of this kind.
    fn images(object: &Value) -> Vec<String> {
        let pod = if object["kind"] == "Pod" { &object["spec"] } else { &object["spec"]["template"]["spec"] };
        let lists = ["initContainers", "containers"].into_iter().filter_map(|list| pod[list].as_array());
        lists.flatten().filter_map(|container| container["image"].as_str().map(str::to_owned)).collect()
    }
}

fn review(kind: &str, operation: &str, object: &Value, old: &Value) -> Value {
    let (group, resource) = if kind == "Pod" { ("", "pods") } else { ("apps", "deployments") };
    let kind = json!({"group": group, "version": "v1", "kind": kind});
    let options = if operation == "CREATE" { "CreateOptions" } else { "UpdateOptions" };
    let resource = json!({"group": group, "version": "v1", "resource": resource});
    json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "kind": kind, "resource": resource,
        "requestKind": kind, "requestResource": resource, "name": "shop", "namespace": "demo", "operation": operation,
        "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller",
            "uid": "5d0b6a5e-35a5-4d2e-a3bb-2f9ee7ad0d55",
            "groups": ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"]},
        "object": object, "oldObject": old, "dryRun": false, "options": {"kind": options, "apiVersion": "meta.k8s.io/v1"}}})
}

fn object(kind: &str, spec: &Value) -> Value {
    let version = if kind == "Pod" { "v1" } else { "apps/v1" };
    // What `kubectl apply` leaves, which is as large as what it was given.
    let applied = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "shop"}, "spec": spec}).to_string();
    let annotations =
        if kind == "Pod" { json!({}) } else { json!({"kubectl.kubernetes.io/last-applied-configuration": applied}) };
    let fields = json!({"f:metadata": {"f:labels": {".": {}, "f:app": {}, "f:pod-template-hash": {}}},
        "f:spec": {"f:containers": {"k:{\"name\":\"c0\"}": {".": {}, "f:image": {}, "f:imagePullPolicy": {}, "f:name": {},
            "f:resources": {}, "f:terminationMessagePath": {}, "f:terminationMessagePolicy": {}}}, "f:dnsPolicy": {},
            "f:enableServiceLinks": {}, "f:restartPolicy": {}, "f:schedulerName": {}, "f:securityContext": {}}});
    json!({"kind": kind, "apiVersion": version, "metadata": {"annotations": annotations,
        "name": "shop", "namespace": "demo", "uid": "9aa4b1d0-9d38-4a0c-9d07-6c8d0f0c2b11",
            "creationTimestamp": "2026-11-25T12:00:00Z", "labels": {"app": "shop", "pod-template-hash": "5d4f8c7b9d"},
            "managedFields": [{"manager": "kube-controller-manager", "operation": "Update", "apiVersion": "v1",
                "time": "2026-11-25T12:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": fields}]},
        "spec": spec})
}

fn pod(init: &[&String], containers: &[&String], variables: usize) -> Value {
    let container = |(number, image): (usize, &&String)| {
        let variable =
            |number: usize| json!({"name": format!("SETTING_{number}"), "value": format!("value of setting {number}")});
        json!({"name": format!("c{number}"), "image": image, "args": ["--port=8080"],
            "env": (0..variables).map(variable).collect::<Vec<_>>(),
            "ports": [{"containerPort": 8080, "protocol": "TCP"}], "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
            "volumeMounts": [{"name": "kube-api-access-x2v7k", "readOnly": true,
                "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}],
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            "imagePullPolicy": "IfNotPresent"})
    };
    json!({"volumes": [{"name": "kube-api-access-x2v7k", "projected": {"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}}]}}],
        "initContainers": init.iter().enumerate().map(|(number, image)| container((number + 10, image))).collect::<Vec<_>>(),
        "containers": containers.iter().enumerate().map(container).collect::<Vec<_>>(),
        "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
        "serviceAccountName": "default", "securityContext": {}, "schedulerName": "default-scheduler",
        "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute",
            "tolerationSeconds": 300}], "enableServiceLinks": true, "preemptionPolicy": "PreemptLowerPriority"})
}

/// Writes JSON with fields in the order of [`FIELDS`].
fn write(value: &Value, text: &mut String) {
    match value {
        Value::Object(fields) => {
            let is_empty = fields.is_empty();
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| FIELDS.iter().position(|field| field == name).unwrap_or(FIELDS.len()));
            for (number, (name, value)) in fields.into_iter().enumerate() {
                text.push(if number == 0 { '{' } else { ',' });
                text.push_str(&Value::from(name.as_str()).to_string());
                text.push(':');
                write(value, text);
            }
            text.push_str(if is_empty { "{}" } else { "}" });
        }
        Value::Array(items) => {
            for (number, item) in items.iter().enumerate() {
                text.push(if number == 0 { '[' } else { ',' });
                write(item, text);
            }
            text.push_str(if items.is_empty() { "[]" } else { "]" });
        }
        scalar => text.push_str(&scalar.to_string()),
    }
}

fn deployment(init: &[&String], containers: &[&String], variables: usize) -> Value {
    let spec = json!({"replicas": 3, "selector": {"matchLabels": {"app": "shop"}}, "template": {
        "metadata": {"labels": {"app": "shop"}}, "spec": pod(init, containers, variables)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}},
        "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600});
    object("Deployment", &spec)
}
