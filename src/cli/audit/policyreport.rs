//! An audit as PolicyReport objects of the Kubernetes policy working group, one for each namespace. Pure.

use serde_json::{Value, json};

use super::report::{Counts, Entry, Report};

/// How much each state weighs, in the order of [`crate::audit::Standing::STATES`]. What is current is no result.
const SEVERITIES: [&str; 5] = ["low", "low", "low", "medium", "high"];

/// The objects, by namespace. A container in a state of this rank or a worse one fails, other findings are warnings.
///
/// What is current is counted but not named: objects of a cluster may not be large.
pub(super) fn objects(report: &Report, rank: usize) -> Vec<Value> {
    let object = |(namespace, counts): (&String, &Counts)| {
        object(namespace, counts.current(), report.findings_of(namespace), rank)
    };
    report.namespaces.iter().map(object).collect()
}

fn object(namespace: &str, current: usize, findings: &[Entry], rank: usize) -> Value {
    let failures = findings.iter().filter(|entry| entry.rank >= rank).count();
    json!({
        "apiVersion": "wgpolicyk8s.io/v1alpha2", "kind": "PolicyReport",
        "metadata": {"name": "pinstream-audit", "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": "pinstream"}},
        "scope": {"apiVersion": "v1", "kind": "Namespace", "name": namespace},
        "summary": {"pass": current, "fail": failures, "warn": findings.len() - failures, "error": 0, "skip": 0},
        "results": findings.iter().map(|entry| result(entry, entry.rank >= rank)).collect::<Vec<_>>(),
    })
}

fn result(entry: &Entry, fails: bool) -> Value {
    json!({
        "source": "pinstream", "category": "Images", "policy": "image-standing", "rule": format!("image-{}", entry.state),
        "result": if fails { "fail" } else { "warn" }, "scored": fails, "severity": SEVERITIES[entry.rank],
        "message": entry.sentence(), "resources": [resource(entry)], "properties": properties(entry),
    })
}

/// The object by its kind and name. Its version is known of Pods.
fn resource(entry: &Entry) -> Value {
    let (kind, name) = entry.object.split_once('/').unwrap_or_default();
    let mut resource = json!({"kind": kind, "namespace": entry.namespace, "name": name});
    if kind == "Pod" {
        resource["apiVersion"] = "v1".into();
    }
    resource
}

fn properties(entry: &Entry) -> Value {
    let mut properties = json!({"container": entry.container, "image": entry.image});
    let more = [
        ("tag", entry.tag.clone()),
        ("steps", entry.steps.map(|steps| steps.to_string())),
        ("since", entry.since.map(|since| since.to_string())),
        ("place", entry.spot.as_ref().map(|spot| format!("{}:{}", spot.file, spot.line))),
    ];
    for (name, value) in more {
        if let Some(value) = value {
            properties[name] = value.into();
        }
    }
    properties
}
