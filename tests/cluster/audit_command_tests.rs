//! `pinstream audit` on a cluster: which rights it needs, and that the API server takes what it prints for it.

use assert_cmd::Command;
use serde_json::{Value, json};

use crate::control_plane::ControlPlane;
use crate::release::install_custom_resource;
use crate::user::User;
use crate::waiting::eventually;

crate::tests![a_cluster_is_audited_by_whoever_may_list_pods, policy_reports_are_taken_by_the_api_server];

fn a_cluster_is_audited_by_whoever_may_list_pods(plane: &ControlPlane) {
    install_custom_resource(plane);
    let namespace = plane.namespace();
    let admin: &User = &namespace;
    admin.kubectl(&["create", "serviceaccount", "auditor"]).ok();
    let auditor = plane.service_account(&namespace.name, "auditor");
    let (code, _, stderr) = audit(&auditor, &[]);
    assert!(code == Some(2) && stderr.contains("cannot list resource \"imagestreams\""), "{stderr}");

    let allow = |name: &str, resource: &str| {
        admin.kubectl(&["create", "role", name, "--verb=list", &format!("--resource={resource}")]).ok();
        let subject = format!("--serviceaccount={}:auditor", namespace.name);
        admin.kubectl(&["create", "rolebinding", name, &format!("--role={name}"), &subject]).ok();
    };
    allow("streams", "imagestreams.pinstream.dev");
    let right = format!("auditing needs the right to list pods in namespace {}", namespace.name);
    eventually("the right on streams counts", || {
        let (code, _, stderr) = audit(&auditor, &[]);
        if code == Some(2) && stderr.contains(&right) { Ok(()) } else { Err(stderr) }
    });
    allow("pods", "pods");
    eventually("the right on Pods counts", || {
        let (code, stdout, stderr) = audit(&auditor, &[]);
        if code == Some(0) && stdout == "No containers found\n" { Ok(()) } else { Err(stderr + &stdout) }
    });
}

fn policy_reports_are_taken_by_the_api_server(plane: &ControlPlane) {
    install_custom_resource(plane);
    define_policy_reports(plane.admin());
    let namespace = plane.namespace();
    let admin: &User = &namespace;
    let images =
        [format!("quay.io/demo/app@sha256:{}", "a".repeat(64)), "quay.io/demo/app:1".to_owned(), "app:1".to_owned()];
    let containers: Vec<_> =
        images.iter().enumerate().map(|(index, image)| json!({"name": format!("c{index}"), "image": image})).collect();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"},
        "spec": {"automountServiceAccountToken": false, "containers": containers}});
    eventually("the ServiceAccount is there, so that a Pod can be", || {
        let output = admin.kubectl_with_stdin(&["apply", "--filename=-"], &pod.to_string());
        if output.is_success { Ok(()) } else { Err(output.stderr) }
    });
    let (code, reports, stderr) = audit(admin, &["-o", "policyreport", "--fail-on", "mutable"]);
    assert_eq!(code, Some(1), "{stderr}");
    // What a schema does not know is an error, not only dropped.
    let apply = ["apply", "--server-side", "--validate=strict", "--filename=-"];
    admin.kubectl_with_stdin(&apply, &reports).ok();
    let stored = admin.get(&["policyreports.wgpolicyk8s.io", "pinstream-audit"]);
    assert_eq!(stored["summary"], json!({"pass": 0, "fail": 2, "warn": 1, "error": 0, "skip": 0}));
    let results: Vec<_> = stored["results"].as_array().unwrap().iter().map(|result| &result["rule"]).collect();
    assert_eq!(results, ["image-unknown", "image-mutable", "image-unresolved"]);
    assert_eq!(stored["results"][0]["resources"][0]["name"], "web");
}

/// PolicyReport as its API reference has it, as far as fields are concerned that reports may have.
fn define_policy_reports(admin: &User) {
    let (text, map) =
        (json!({"type": "string"}), json!({"type": "object", "additionalProperties": {"type": "string"}}));
    let names = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), text.clone())).collect::<Value>();
    let choice = |values: &[&str]| json!({"type": "string", "enum": values});
    let reference = json!({"type": "object", "properties": names(&["apiVersion", "kind", "namespace", "name", "fieldPath",
        "resourceVersion", "uid"])});
    let mut result = names(&["source", "policy", "rule", "category", "message"]);
    result["scored"] = json!({"type": "boolean"});
    result["result"] = choice(&["pass", "fail", "warn", "error", "skip"]);
    result["severity"] = choice(&["high", "low", "medium"]);
    result["properties"] = map;
    result["resources"] = json!({"type": "array", "items": reference});
    let number = json!({"type": "integer"});
    let summary = json!({"pass": number, "fail": number, "warn": number, "error": number, "skip": number});
    let schema = json!({"type": "object", "properties": {"scope": reference,
        "summary": {"type": "object", "properties": summary},
        "results": {"type": "array", "items": {"type": "object", "required": ["policy"], "properties": result}}}});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "policyreports.wgpolicyk8s.io"},
        "spec": {"group": "wgpolicyk8s.io", "scope": "Namespaced",
            "names": {"plural": "policyreports", "singular": "policyreport", "kind": "PolicyReport"},
            "versions": [{"name": "v1alpha2", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]},
    });
    admin.kubectl_with_stdin(&["apply", "--server-side", "--filename=-"], &definition.to_string()).ok();
    let wait = ["wait", "--for=condition=Established", "--timeout=60s", "crd", "policyreports.wgpolicyk8s.io"];
    admin.kubectl(&wait).ok();
}

/// Exit code and both outputs of `pinstream audit` as a user.
pub fn audit(user: &User, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_pinstream"))
        .arg("audit")
        .args(arguments)
        .env_clear()
        .env("KUBECONFIG", user.kubeconfig())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code(), text(output.stdout), text(output.stderr))
}
