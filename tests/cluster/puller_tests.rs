//! Who may pull: the roles of the chart, and the commands of `docs/registry.md` as they are written.

use std::fs;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::chart::CHART;
use crate::control_plane::ControlPlane;
use crate::release::install_custom_resource;
use crate::waiting::eventually;

crate::tests![commands_of_the_page_let_pods_pull_from_their_namespace];

const PAGE: &str = "docs/registry.md";

/// The first commands below a heading of the page.
fn commands(heading: &str) -> String {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE)).unwrap();
    let (_, below) = page.split_once(&format!("\n### {heading}\n")).unwrap();
    let (_, block) = below.split_once("\n```sh\n").unwrap();
    block.split_once("\n```").unwrap().0.to_owned()
}

/// Whether somebody may pull from a namespace.
fn may_pull(plane: &ControlPlane, user: &str, namespace: &str) -> bool {
    let resource = json!({"group": "pinstream.dev", "resource": "imagestreams", "subresource": "layers", "name": "app",
        "verb": "get", "namespace": namespace});
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {"user": user, "resourceAttributes": resource}});
    let answer = plane.admin().post("/apis/authorization.k8s.io/v1/subjectaccessreviews", &review).ok();
    answer["status"]["allowed"] == true
}

/// Whose token it is.
fn whose(plane: &ControlPlane, token: &str) -> Value {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
    let answer = plane.admin().post("/apis/authentication.k8s.io/v1/tokenreviews", &review).ok();
    answer["status"]["user"]["username"].clone()
}

/// The roles have fixed names, hence a control plane of its own.
fn commands_of_the_page_let_pods_pull_from_their_namespace(plane: &ControlPlane) {
    let plane = plane.another();
    let admin = plane.admin();
    install_custom_resource(&plane);
    let values = "registry.enabled=true,registry.host=images.example,registry.certificate.mode=none";
    let roles = admin.helm(&["template", "pinstream", CHART, "--show-only=templates/roles.yaml", "--set", values]).ok();
    admin.kubectl_with_stdin(&["apply", "--filename=-"], &roles).ok();
    admin.kubectl(&["create", "namespace", "demo"]).ok();
    eventually("the namespace has a ServiceAccount", || {
        admin
            .kubectl(&["-n", "demo", "get", "serviceaccount", "default", "--ignore-not-found"])
            .ok()
            .contains("default")
    });
    let puller = "system:serviceaccount:demo:image-puller";
    assert!(!may_pull(&plane, puller, "demo"));

    let kubectl = plane.tool("kubectl");
    let path = format!("{}:{}", kubectl.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let shell = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &commands("Pods pull with a token")])
        .env("KUBECONFIG", admin.kubeconfig())
        .env("PATH", path)
        .output()
        .unwrap();
    assert!(shell.status.success(), "{}", String::from_utf8_lossy(&shell.stderr));

    assert!(may_pull(&plane, puller, "demo") && !may_pull(&plane, puller, "default"));
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "app", "namespace": "demo"},
        "spec": {"containers": [{"name": "app", "image": "images.example/demo/app:1"}]}});
    let pod = admin.post("/api/v1/namespaces/demo/pods", &pod).ok();
    assert_eq!(pod["spec"]["imagePullSecrets"], json!([{"name": "image-puller"}]));
    let secret = admin.get(&["-n", "demo", "secret", "image-puller"]);
    let login = STANDARD.decode(secret["data"][".dockerconfigjson"].as_str().unwrap()).unwrap();
    let login: Value = serde_json::from_slice(&login).unwrap();
    let token = login["auths"]["images.example:30500"]["password"].as_str().unwrap();
    assert_eq!(whose(&plane, token), puller);

    for role in ["view", "edit", "admin"] {
        let user = format!("--user={role}er");
        admin.kubectl(&["-n", "demo", "create", "rolebinding", role, &format!("--clusterrole={role}"), &user]).ok();
        eventually("the role has the right", || may_pull(&plane, &format!("{role}er"), "demo"));
    }
}
