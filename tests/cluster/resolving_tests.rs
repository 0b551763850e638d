//! `resolve`, `explain` and the plugin of kubectl against a cluster.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use assert_cmd::Command;
use reqwest::Method;
use serde_json::{Value, json};

use crate::control_plane::{ControlPlane, Namespace};
use crate::release::install_custom_resource;
use crate::user::User;

crate::tests![
    a_rendered_helm_chart_is_resolved,
    images_of_objects_are_explained,
    what_may_not_be_read_is_a_failure,
    the_plugin_of_kubectl_does_the_same,
];

const PINSTREAM: &str = env!("CARGO_BIN_EXE_pinstream");

/// A pull spec whose digest repeats one hex digit.
fn image(digit: char) -> String {
    format!("quay.io/demo/app@sha256:{}", digit.to_string().repeat(64))
}

/// Creates the stream `app` with look-up, whose tag `1` has had two images.
fn create_stream(namespace: &Namespace) {
    let event = |digit: char, created: &str| {
        let digest = image(digit).split_once('@').map(|(_, digest)| digest.to_owned());
        json!({"created": created, "dockerImageReference": image(digit), "image": digest, "generation": 1})
    };
    let stream = json!({"apiVersion": "pinstream.dev/v1", "kind": "ImageStream", "metadata": {"name": "app"},
        "spec": {"lookupPolicy": {"local": true}}});
    let path = format!("/apis/pinstream.dev/v1/namespaces/{}/imagestreams", namespace.name);
    let mut created = namespace.post(&path, &stream).ok();
    created["status"] = json!({"dockerImageRepository": "", "tags": [{"tag": "1",
        "items": [event('b', "2026-01-02T00:00:00Z"), event('a', "2026-01-01T00:00:00Z")]}]});
    namespace.ask(&Method::PUT, &format!("{path}/app/status"), Some(&created)).unwrap().ok();
}

/// A namespace with the stream.
fn prepared(plane: &ControlPlane, labels: &Value) -> Namespace {
    install_custom_resource(plane);
    let namespace = plane.namespace_with_labels(labels);
    create_stream(&namespace);
    namespace
}

/// Exit code and both outputs of a program with the kubeconfig of a user.
fn run(user: &User, program: &Path, arguments: &[&str], stdin: &str) -> (Option<i32>, String, String) {
    let output = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("KUBECONFIG", user.kubeconfig())
        .env("PATH", program.parent().unwrap())
        .write_stdin(stdin)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn pinstream(user: &User, arguments: &[&str], stdin: &str) -> (Option<i32>, String, String) {
    run(user, Path::new(PINSTREAM), arguments, stdin)
}

fn a_rendered_helm_chart_is_resolved(plane: &ControlPlane) {
    let namespace = prepared(plane, &json!({}));
    let chart = plane.folder("chart").join("web");
    let chart = chart.to_str().unwrap();
    namespace.helm(&["create", chart]).ok();
    let values = ["--set=image.repository=app", "--set-string=image.tag=1", "--skip-tests"];
    let rendered = namespace.helm(&[&["template", "web", chart], &values[..]].concat()).ok();
    assert!(rendered.contains("image: \"app:1\""), "{rendered}");

    let (code, resolved, stderr) = pinstream(&namespace, &["resolve", "-f", "-"], &rendered);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert_eq!(resolved, rendered.replace("\"app:1\"", &format!("\"{}\"", image('b'))));
    namespace.kubectl_with_stdin(&["apply", "--filename=-"], &resolved).ok();
    let deployment = namespace.get(&["deployment", "web"]);
    assert_eq!(deployment["spec"]["template"]["spec"]["containers"][0]["image"], image('b'));

    let other = rendered.replace("app:1", "nginx:1");
    let (code, same, stderr) = pinstream(&namespace, &["resolve", "-f", "-"], &other);
    assert_eq!((code, same), (Some(1), other));
    let expected = format!("there is no image stream nginx in namespace {}", namespace.name);
    assert!(stderr.contains(&expected) && stderr.contains("Deployment/web, containers[web]: nginx:1"), "{stderr}");
}

fn images_of_objects_are_explained(plane: &ControlPlane) {
    let namespace = prepared(plane, &json!({"pinstream.dev/pin": "off"}));
    namespace.kubectl(&["create", "deployment", "web", "--image=app:1", "--replicas=0"]).ok();
    namespace.kubectl(&["run", "old", &format!("--image={}", image('a'))]).ok();

    let (code, text, stderr) = pinstream(&namespace, &["explain", "deploy/web"], "");
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let expected = format!(
        "Object:     Deployment/web in namespace {name}\nPin:        off: nothing is pinned in namespace {name}\n\n\
         Image:      app:1\nContainer:  containers[app]\nStream:     app in namespace {name}, local look-up on\n\
         Tag:        1\nEvent:      app:1, current (1 of 2), of 2026-01-02T00:00:00Z\nNow:        pinned to {}\n",
        image('b'),
        name = namespace.name,
    );
    assert_eq!(text, expected);

    let (code, json, _) = pinstream(&namespace, &["explain", "pod/old", "-o", "json"], "");
    let explained: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &explained["object"], &explained["pin"]), (Some(0), &json!("Pod/old"), &json!("off")));
    assert_eq!(explained["images"][0]["events"][0]["behind"], 1);

    let (code, _, stderr) = pinstream(&namespace, &["explain", "pod/none"], "");
    let expected = format!("pinstream: there is no Pod none in namespace {}\n", namespace.name);
    assert_eq!((code, stderr), (Some(1), expected));
}

fn what_may_not_be_read_is_a_failure(plane: &ControlPlane) {
    let namespace = prepared(plane, &json!({}));
    let nobody = plane.service_account(&namespace.name, "default");
    for arguments in [&["explain", "app:1"][..], &["explain", "pod/x"], &["resolve", "-f", "-"]] {
        let pod = "{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"spec\": {\"containers\": [{\"image\": \"app:1\"}]}}";
        let (code, stdout, stderr) = pinstream(&nobody, arguments, pod);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(stderr.contains("403") && stderr.contains("cannot list resource"), "{stderr}");
    }
}

fn the_plugin_of_kubectl_does_the_same(plane: &ControlPlane) {
    let namespace = prepared(plane, &json!({}));
    let folder = plane.folder("plugin");
    symlink(PINSTREAM, folder.join("kubectl-pinstream")).unwrap();
    let kubectl = folder.join("kubectl");
    fs::copy(plane.tool("kubectl"), &kubectl).unwrap();

    let (code, stdout, stderr) = run(&namespace, &kubectl, &["plugin", "list"], "");
    assert!(code == Some(0) && stdout.contains("kubectl-pinstream"), "{stdout}{stderr}");
    let (code, stdout, _) = run(&namespace, &kubectl, &["pinstream", "explain", "app:1"], "");
    assert!(code == Some(0) && stdout.contains(&image('b')), "{stdout}");
    let (code, _, stderr) = run(&namespace, &kubectl, &["pinstream", "explain", "app:2"], "");
    assert_eq!((code, stderr.as_str()), (Some(1), "pinstream: 1 of 1 images not resolved\n"));
    let (_, help, _) = run(&namespace, &kubectl, &["pinstream", "resolve", "--help"], "");
    assert!(help.contains("Usage: kubectl pinstream resolve "), "{help}");
}
