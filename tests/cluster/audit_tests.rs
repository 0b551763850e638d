//! The audit of a cluster with many namespaces: the command and the controller's metrics agree with a count that is made
//! here from what kubectl gives, by code that shares nothing with them, also after a tag has moved.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use crate::audit_command_tests::audit;
use crate::control_plane::ControlPlane;
use crate::importing::controller;
use crate::release::install_custom_resource;
use crate::waiting::eventually;

crate::tests![an_audit_agrees_with_an_independent_count, a_controller_that_does_not_audit_leaves_pods_alone,];

const NAMESPACES: usize = 40;
/// The namespace whose tag moves, which has many Pods.
const MOVED: usize = 11;
/// Namespaces that have metrics of their own; the rest counts together.
const NAMED: usize = 30;

/// Something counted by namespace and state.
type Counts = BTreeMap<(String, String), u64>;

/// What is independently counted.
#[derive(Debug, PartialEq)]
struct Counted {
    containers: Counts,
    /// By the worst state of their containers.
    pods: Counts,
}

/// From best to worst.
const STATES: [&str; 5] = ["current", "behind", "unknown", "mutable", "unresolved"];

fn an_audit_agrees_with_an_independent_count(plane: &ControlPlane) {
    let plane = plane.another();
    install_custom_resource(&plane);
    let objects: Vec<_> = (0..NAMESPACES)
        .map(|number| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name(number)}}))
        .collect();
    apply(&plane, &objects);
    let streams: Vec<_> = (0..NAMESPACES)
        .map(|number| {
            json!({"apiVersion": "pinstream.dev/v1", "kind": "ImageStream",
            "metadata": {"name": "app", "namespace": name(number)}, "spec": {"lookupPolicy": {"local": true}}})
        })
        .collect();
    apply(&plane, &streams);
    (0..NAMESPACES).for_each(|number| write_history(&plane, number, &[2, 1]));
    let pods: Vec<_> = (0..NAMESPACES).flat_map(pods).collect();
    eventually("ServiceAccounts are there, so that Pods can be", || {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": pods});
        let output = plane.admin().kubectl_with_stdin(&["apply", "--filename=-"], &list.to_string());
        if output.is_success { Ok(()) } else { Err(output.stderr) }
    });

    let controller = controller(&plane, &[&format!("--audit-namespaces={NAMED}")]);
    let counted = count(&plane);
    for state in STATES {
        assert!(counted.containers.keys().any(|(_, counted)| counted == state), "no container is {state}");
    }
    assert_eq!(told(&plane), counted.containers);
    eventually("metrics agree", || measured(&controller.admin("/metrics").1, &counted));
    assert_eq!(controller.metric("pinstream_audit_synced"), Some(1.0));

    write_history(&plane, MOVED, &[3, 2, 1]);
    let moved = count(&plane);
    assert_ne!(moved, counted);
    assert_eq!(told(&plane), moved.containers);
    eventually("metrics follow", || measured(&controller.admin("/metrics").1, &moved));
    let line = format!("pinstream_audit_behind_steps{{pod_namespace=\"{}\"}}", name(MOVED));
    assert_eq!(controller.metric(&line), Some(2.0));

    plane
        .admin()
        .kubectl(&["delete", "pods", "--all", "--wait=false", "--grace-period=0", "--force", "-n", &name(MOVED)])
        .ok();
    let fewer = eventually("the Pods are gone", || {
        let fewer = count(&plane);
        (!fewer.pods.keys().any(|(namespace, _)| *namespace == name(MOVED))).then_some(fewer)
    });
    eventually("metrics forget", || measured(&controller.admin("/metrics").1, &fewer));
}

fn a_controller_that_does_not_audit_leaves_pods_alone(plane: &ControlPlane) {
    let plane = plane.another();
    install_custom_resource(&plane);
    let controller = controller(&plane, &["--no-audit", "--lease=default/unaudited"]);
    eventually("it leads and reads the streams", || {
        let log = controller.log();
        if log.contains("image streams listed") { Ok(()) } else { Err(log) }
    });
    assert_eq!(controller.metric("pinstream_leader"), Some(1.0));
    assert_eq!(controller.metric("pinstream_audit_synced"), Some(0.0));
    assert!(!controller.log().contains("Pods"), "{}", controller.log());
}

fn name(number: usize) -> String {
    format!("team-{number:02}")
}

fn digest(number: usize, image: usize) -> String {
    format!("sha256:{number:032x}{image:032x}")
}

fn apply(plane: &ControlPlane, objects: &[Value]) {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    plane.admin().kubectl_with_stdin(&["apply", "--filename=-"], &list.to_string()).ok();
}

/// Gives the tag `1` of the stream of a namespace these images, newest first.
fn write_history(plane: &ControlPlane, number: usize, images: &[usize]) {
    let path = format!("/apis/pinstream.dev/v1/namespaces/{}/imagestreams/app", name(number));
    let mut stream = plane.admin().ask(&Method::GET, &path, None).unwrap().ok();
    let items: Vec<_> = images
        .iter()
        .map(|image| {
            let digest = digest(number, *image);
            json!({"created": format!("2026-01-{image:02}T00:00:00Z"), "image": digest, "generation": 1,
            "dockerImageReference": format!("quay.io/demo/app@{digest}")})
        })
        .collect();
    stream["status"] = json!({"dockerImageRepository": "", "tags": [{"tag": "1", "items": items}]});
    plane.admin().ask(&Method::PUT, &format!("{path}/status"), Some(&stream)).unwrap().ok();
}

/// The Pods of a namespace: some of each sort, in other numbers than in the next namespace.
fn pods(number: usize) -> Vec<Value> {
    let pinned = |image: usize| format!("quay.io/demo/app@{}", digest(number, image));
    let images = [pinned(2), pinned(1), pinned(9), "quay.io/demo/app:1".to_owned(), "app:1".to_owned()];
    let count = 1 + number % 6;
    let pod = |index: usize| {
        let image = |shift: usize| &images[(number + index * index + shift) % images.len()];
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("pod-{index}"), "namespace": name(number)},
            "spec": {"automountServiceAccountToken": false, "initContainers": [{"name": "init", "image": image(1)}],
                "containers": [{"name": "main", "image": image(0)}]}})
    };
    (0..count).map(pod).collect()
}

/// The independent count.
fn count(plane: &ControlPlane) -> Counted {
    let (pods, streams) =
        (plane.admin().get(&["pods", "-A"]), plane.admin().get(&["imagestreams.pinstream.dev", "-A"]));
    let mut histories: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for stream in streams["items"].as_array().unwrap() {
        let items = stream["status"]["tags"][0]["items"].as_array().unwrap();
        let images = items.iter().map(|item| item["image"].as_str().unwrap()).collect();
        histories.insert(stream["metadata"]["namespace"].as_str().unwrap(), images);
    }
    let mut counted = Counted { containers: Counts::new(), pods: Counts::new() };
    for pod in pods["items"].as_array().unwrap() {
        let namespace = pod["metadata"]["namespace"].as_str().unwrap();
        let (spec, mut worst) = (&pod["spec"], "current");
        for container in ["initContainers", "containers"].iter().flat_map(|list| spec[list].as_array().unwrap()) {
            let image = container["image"].as_str().unwrap();
            let state = match image.split_once('@') {
                Some((_, digest)) => match histories[namespace].iter().position(|known| *known == digest) {
                    Some(0) => "current",
                    Some(_) => "behind",
                    None => "unknown",
                },
                None if image.contains('/') => "mutable",
                None => "unresolved",
            };
            let rank = |state| STATES.iter().position(|known| *known == state);
            worst = if rank(state) > rank(worst) { state } else { worst };
            *counted.containers.entry((namespace.to_owned(), state.to_owned())).or_default() += 1;
        }
        *counted.pods.entry((namespace.to_owned(), worst.to_owned())).or_default() += 1;
    }
    counted
}

/// What `pinstream audit -A` says.
fn told(plane: &ControlPlane) -> Counts {
    let (code, stdout, stderr) = audit(plane.admin(), &["-A", "-o", "json", "--fail-on", "unresolved"]);
    assert_eq!(code, Some(1), "{stderr}");
    let report: Value = serde_json::from_str(&stdout).unwrap();
    let mut counts = Counts::new();
    for (namespace, sums) in report["namespaces"].as_object().unwrap() {
        for (state, count) in sums["containers"].as_object().unwrap() {
            counts.insert((namespace.clone(), state.clone()), count.as_u64().unwrap());
        }
    }
    counts
}

/// Whether the metrics say the same.
fn measured(metrics: &str, expected: &Counted) -> Result<(), String> {
    agrees("pinstream_audit_containers", metrics, &expected.containers)?;
    agrees("pinstream_audit_pods", metrics, &expected.pods)
}

/// Whether a metric says the same: of the namespaces that are named, and of the rest together.
fn agrees(metric: &str, metrics: &str, expected: &Counts) -> Result<(), String> {
    let mut found = Counts::new();
    for line in metrics.lines() {
        let series = line.strip_prefix(metric).and_then(|rest| rest.strip_prefix("{pod_namespace=\""));
        let Some((namespace, rest)) = series.and_then(|rest| rest.split_once("\",state=\"")) else { continue };
        let (state, count) = rest.split_once("\"} ").unwrap();
        found.insert((namespace.to_owned(), state.to_owned()), count.parse().unwrap());
    }
    let named = |namespace: &str| found.contains_key(&(namespace.to_owned(), "current".to_owned()));
    let mut wanted = Counts::new();
    for ((namespace, state), count) in expected {
        let label = if named(namespace) { namespace } else { "(other)" };
        *wanted.entry((label.to_owned(), state.clone())).or_default() += count;
    }
    found.retain(|_, count| *count > 0);
    if found == wanted { Ok(()) } else { Err(format!("{metric}: {found:?} and not {wanted:?}")) }
}
