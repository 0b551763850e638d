//! That the API server stores what `pinstream serve` answers.

use std::path::Path;

use serde_json::Value;

use crate::control_plane::{ControlPlane, Namespace};
use crate::pinstream::Pinstream;
use crate::waiting::eventually;
use crate::webhook::{Webhook, by_service, by_url};

crate::tests![
    a_deployment_is_pinned_by_a_webhook_with_a_url,
    a_deployment_is_pinned_by_a_webhook_with_a_service,
    without_the_webhook_objects_are_created_as_they_are,
];

/// The image of the example stream `keycloak:20.0`.
const PINNED: &str =
    "quay.io/keycloak/keycloak@sha256:54eda51e10f7a1b6e4b8d8c1e8f7b2c25d9c7d8e0b2f5f6d3c4a1b0e9f8d7c6b";

fn a_deployment_is_pinned_by_a_webhook_with_a_url(plane: &ControlPlane) {
    let namespace = plane.namespace();
    let (server, ca) = Pinstream::serve_examples(plane, &namespace.name, &["localhost"]);
    deployment_is_pinned(plane, &namespace, &server, by_url(server.port, "/mutate"), &ca);
}

fn a_deployment_is_pinned_by_a_webhook_with_a_service(plane: &ControlPlane) {
    let namespace = plane.namespace();
    let name = format!("pinstream.{}.svc", namespace.name);
    let (server, ca) = Pinstream::serve_examples(plane, &namespace.name, &[&name]);
    let client = by_service(&namespace, "pinstream", server.port, "/mutate");
    deployment_is_pinned(plane, &namespace, &server, client, &ca);
}

fn deployment_is_pinned(plane: &ControlPlane, namespace: &Namespace, server: &Pinstream, client: Value, ca: &Path) {
    let _webhook = Webhook::register(plane, namespace, client, ca);
    eventually("the API server asks the webhook", || dry_run(namespace, "keycloak:20.0") == PINNED);
    assert_eq!(dry_run(namespace, "docker.io/library/nginx:1.27"), "docker.io/library/nginx:1.27");

    namespace.kubectl(&["create", "deployment", "mykeycloak", "--image=keycloak:20.0"]).ok();
    assert_eq!(template_image(&namespace.get(&["deployment", "mykeycloak"])), PINNED);
    let pod = eventually("the Deployment has a Pod", || {
        namespace.get(&["pods", "--selector=app=mykeycloak"])["items"].as_array().unwrap().first().cloned()
    });
    assert_eq!(pod["spec"]["containers"][0]["image"], PINNED);
    let replica_sets = namespace.get(&["replicasets"]);
    assert_eq!(replica_sets["items"].as_array().unwrap().len(), 1);
    assert_eq!(template_image(&replica_sets["items"][0]), PINNED);
    let patched = "pinstream_admission_requests_total{kind=\"Deployment\",operation=\"CREATE\",outcome=\"patched\"}";
    assert_eq!(server.metric(patched), Some(1.0));
}

fn without_the_webhook_objects_are_created_as_they_are(plane: &ControlPlane) {
    let namespace = plane.namespace();
    let (server, ca) = Pinstream::serve_examples(plane, &namespace.name, &["localhost"]);
    let _webhook = Webhook::register(plane, &namespace, by_url(server.port, "/mutate"), &ca);
    eventually("the API server asks the webhook", || dry_run(&namespace, "keycloak:20.0") == PINNED);
    let log = server.log();
    assert!(server.terminate().success(), "{log}");
    assert_eq!(dry_run(&namespace, "keycloak:20.0"), "keycloak:20.0");
}

/// The image that a Pod would get.
fn dry_run(namespace: &Namespace, image: &str) -> String {
    let image = format!("--image={image}");
    let jsonpath = "--output=jsonpath={.spec.containers[0].image}";
    namespace.kubectl(&["run", "dry", &image, "--dry-run=server", jsonpath]).ok()
}

fn template_image(object: &Value) -> &Value {
    &object["spec"]["template"]["spec"]["containers"][0]["image"]
}
