//! That the control plane is a real one: version, controllers, rights, tokens, aggregation, a new start.

use serde_json::json;

use crate::control_plane::ControlPlane;
use crate::pinstream::Pinstream;
use crate::tools::kubernetes_version;
use crate::waiting::eventually;
use crate::webhook::by_service;

crate::tests![
    the_version_is_the_wanted_one,
    controllers_make_pods_of_a_deployment,
    a_service_account_may_do_what_a_role_says,
    tokens_are_reviewed,
    helm_installs_a_chart,
    a_namespace_is_deleted_with_what_it_has,
    an_aggregated_api_is_asked_through_its_service,
    the_api_server_starts_again_with_what_it_had,
];

fn the_version_is_the_wanted_one(plane: &ControlPlane) {
    let wanted = kubernetes_version();
    let minor = wanted.rsplit_once('.').unwrap().0;
    let version = plane.admin().kubectl(&["version"]).ok();
    for program in ["Client Version", "Server Version"] {
        assert!(version.contains(&format!("{program}: v{minor}.")), "{wanted} is not {version}");
    }
}

fn controllers_make_pods_of_a_deployment(plane: &ControlPlane) {
    let namespace = plane.namespace();
    namespace.kubectl(&["create", "deployment", "web", "--image=docker.io/library/nginx:1.27", "--replicas=2"]).ok();
    let pods = eventually("the Deployment has two Pods", || {
        let pods = namespace.get(&["pods", "--selector=app=web"])["items"].as_array().unwrap().clone();
        (pods.len() == 2).then_some(pods)
    });
    assert_eq!(pods[0]["metadata"]["ownerReferences"][0]["kind"], "ReplicaSet");
    assert_eq!(pods[0]["status"]["phase"], "Pending");
}

fn a_service_account_may_do_what_a_role_says(plane: &ControlPlane) {
    let namespace = plane.namespace();
    namespace.kubectl(&["create", "serviceaccount", "reader"]).ok();
    let reader = plane.service_account(&namespace.name, "reader");
    let refusal = reader.kubectl(&["get", "secrets"]).refused();
    let who = format!("\"system:serviceaccount:{}:reader\" cannot list resource \"secrets\"", namespace.name);
    assert!(refusal.contains(&who), "{refusal}");

    namespace.kubectl(&["create", "role", "reader", "--verb=list", "--resource=secrets"]).ok();
    let account = format!("--serviceaccount={}:reader", namespace.name);
    namespace.kubectl(&["create", "rolebinding", "reader", "--role=reader", &account]).ok();
    eventually("the role is known", || reader.kubectl(&["get", "secrets"]).is_success);
    reader.kubectl(&["create", "secret", "generic", "own"]).refused();
}

fn tokens_are_reviewed(plane: &ControlPlane) {
    let namespace = plane.namespace();
    let account = plane.service_account(&namespace.name, "default");
    let who = account.kubectl(&["auth", "whoami", "--output=jsonpath={.status.userInfo.username}"]).ok();
    assert_eq!(who, format!("system:serviceaccount:{}:default", namespace.name));

    let token = namespace.kubectl(&["create", "token", "default", "--audience=elsewhere"]).ok();
    let review = |audiences| {
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": {"token": token.trim(), "audiences": audiences}});
        plane.admin().post("/apis/authentication.k8s.io/v1/tokenreviews", &review).ok()["status"]["authenticated"]
            .as_bool()
    };
    assert_eq!(review(json!(["elsewhere"])), Some(true));
    assert_eq!(review(json!(["nowhere"])), None);
}

fn helm_installs_a_chart(plane: &ControlPlane) {
    let namespace = plane.namespace();
    let chart = plane.folder("chart");
    std::fs::create_dir(chart.join("templates")).unwrap();
    std::fs::write(chart.join("Chart.yaml"), "apiVersion: v2\nname: tiny\nversion: 0.1.0\n").unwrap();
    let template = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}\n";
    std::fs::write(chart.join("templates/map.yaml"), template).unwrap();
    namespace.helm(&["install", "first", chart.to_str().unwrap()]).ok();
    assert_eq!(namespace.get(&["configmap", "first"])["metadata"]["labels"]["app.kubernetes.io/managed-by"], "Helm");
    namespace.helm(&["uninstall", "first"]).ok();
    namespace.kubectl(&["get", "configmap", "first"]).refused();
}

fn a_namespace_is_deleted_with_what_it_has(plane: &ControlPlane) {
    let namespace = plane.namespace();
    namespace
        .kubectl_with_stdin(&["create", "--filename=-"], "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}")
        .ok();
    plane.admin().kubectl(&["delete", "namespace", &namespace.name, "--timeout=60s"]).ok();
    namespace.kubectl(&["get", "configmap", "a"]).refused();
}

/// A broken aggregated API disturbs everybody's discovery, hence a control plane of its own.
fn an_aggregated_api_is_asked_through_its_service(plane: &ControlPlane) {
    let own = plane.another();
    let namespace = own.namespace();
    let (server, _) = Pinstream::serve_examples(&own, &namespace.name, &["localhost"]);
    by_service(&namespace, "api", server.port, "/");
    let service = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": "v1.example.dev"},
        "spec": {"group": "example.dev", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 100,
            "insecureSkipTLSVerify": true,
            "service": {"namespace": namespace.name, "name": "api", "port": server.port}}});
    own.admin().kubectl_with_stdin(&["create", "--filename=-"], &service.to_string()).ok();
    let message = "--output=jsonpath={.status.conditions[?(@.type=='Available')].message}";
    eventually("pinstream answers that it has no such API", || {
        let message = own.admin().kubectl(&["get", "apiservice", "v1.example.dev", message]).ok();
        if message.contains("404") { Ok(()) } else { Err(message) }
    });
}

fn the_api_server_starts_again_with_what_it_had(plane: &ControlPlane) {
    let own = plane.another();
    let namespace = own.namespace();
    namespace.kubectl(&["create", "configmap", "kept"]).ok();
    own.stop_api_server();
    namespace.kubectl(&["get", "configmap", "kept"]).refused();
    own.start_api_server();
    assert_eq!(namespace.get(&["configmap", "kept"])["metadata"]["name"], "kept");
    let later = own.namespace();
    later.kubectl(&["create", "deployment", "web", "--image=docker.io/library/nginx:1.27"]).ok();
    eventually("controllers work again", || {
        later.get(&["pods"])["items"].as_array().is_some_and(|pods| !pods.is_empty())
    });
}
