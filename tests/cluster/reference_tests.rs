//! Streams that take from streams of other namespaces: only by who may pull there, as the chart's policy has the API server
//! ask.

use reqwest::Method;
use serde_json::{Value, json};

use crate::chart::CHART;
use crate::control_plane::ControlPlane;
use crate::importing::{manifest, streams_path};
use crate::release::install_custom_resource;
use crate::user::{Answer, User};
use crate::waiting::eventually;

crate::tests![a_stream_of_another_namespace_is_named_only_with_the_right_to_pull_from_it];

/// Streams that may be new in one write: each is a question, of which the API server asks only so many.
const MANY: usize = 16;

/// A tag that comes from that tag of a stream.
fn tag(name: &str, namespace: Option<&str>, from: &str) -> Value {
    let mut from = json!({"kind": "ImageStreamTag", "name": from});
    if let Some(namespace) = namespace {
        from["namespace"] = namespace.into();
    }
    json!({"name": name, "from": from})
}

fn a_stream_of_another_namespace_is_named_only_with_the_right_to_pull_from_it(plane: &ControlPlane) {
    let plane = plane.another();
    let admin = plane.admin();
    install_custom_resource(&plane);
    let render = |template: &str| {
        let only = format!("--show-only=templates/{template}.yaml");
        let rendered = admin.helm(&["template", "pinstream", CHART, &only]).ok();
        admin.kubectl_with_stdin(&["apply", "--filename=-"], &rendered).ok();
    };
    render("roles");
    render("references");
    let [own, other] = ["own", "other"].map(|name| plane.namespace_named(name, &json!({})));
    own.kubectl(&["create", "serviceaccount", "writer"]).ok();
    own.kubectl(&["create", "rolebinding", "writer", "--clusterrole=edit", "--serviceaccount=own:writer"]).ok();
    let writer = plane.service_account("own", "writer");
    let write = |method: Method, name: &str, tags: &[Value]| -> Answer { put(&writer, &method, name, tags) };

    eventually("the writer may write", || write(Method::POST, "first", &[]).status == 201);
    let foreign = tag("1", Some("other"), "app:1");
    let refusal = eventually("the policy is in force", || {
        let answer = write(Method::POST, "probe?dryRun=All", std::slice::from_ref(&foreign));
        (answer.status == 403).then_some(answer.body)
    });
    let message = refusal["message"].as_str().unwrap();
    assert!(
        message.contains("to take images from other/app you need the right to get imagestreams/layers there"),
        "{message}"
    );
    // A namespace means nothing in a pull spec, and does not become a reference by and by.
    let mut disguised = foreign.clone();
    disguised["from"]["kind"] = "DockerImage".into();
    write(Method::POST, "disguised", &[disguised]).ok();
    assert_eq!(write(Method::PATCH, "disguised", std::slice::from_ref(&foreign)).status, 403);
    let within = [tag("1", Some("own"), "app:1"), tag("2", None, "app:1"), tag("3", Some(""), "app@sha256:0")];
    write(Method::POST, "within", &within).ok();

    other
        .kubectl(&[
            "create",
            "rolebinding",
            "pull",
            "--clusterrole=pinstream-image-puller",
            "--serviceaccount=own:writer",
        ])
        .ok();
    eventually("the right is known", || write(Method::POST, "taken", std::slice::from_ref(&foreign)).status == 201);
    let many: Vec<_> =
        (0..MANY).map(|number| tag(&number.to_string(), Some("other"), &format!("app-{number}:1"))).collect();
    write(Method::POST, "many", &many).ok();
    let more = [&many[..], &[tag("more", Some("other"), "more:1")]].concat();
    let refusal = write(Method::POST, "more", &more).body.to_string();
    assert!(refusal.contains("at most 16 more streams of other namespaces"), "{refusal}");
    write(Method::PATCH, "many", &more).ok();
    let of_one: Vec<_> =
        (0..10 * MANY).map(|number| tag(&number.to_string(), Some("other"), &format!("app:{number}"))).collect();
    write(Method::POST, "of-one", &of_one).ok();
    other.kubectl(&["delete", "rolebinding", "pull"]).ok();
    let image = tag("2", Some("other"), &format!("app@sha256:{:064x}", 1));
    eventually("the right is gone", || {
        write(Method::PATCH, "taken?dryRun=All", &[foreign.clone(), image.clone()]).status == 403
    });
    write(Method::PATCH, "taken", &[foreign.clone(), tag("3", None, "app:1")]).ok();
    let answer = write(Method::PATCH, "taken", &[tag("4", Some("third"), "app:1"), foreign]);
    assert!(answer.status == 403 && !answer.body["message"].as_str().unwrap().contains("other/"), "{}", answer.body);
}

/// Makes or changes a stream of the namespace `own`.
fn put(user: &User, method: &Method, target: &str, tags: &[Value]) -> Answer {
    let (name, parameters) = target.split_once('?').unwrap_or((target, ""));
    let path = streams_path("own");
    let path = if *method == Method::POST { path } else { format!("{path}/{name}") };
    user.ask(method, &format!("{path}?{parameters}"), Some(&manifest(name, tags))).unwrap()
}
