//! That the API server has judged what is not pinned and nothing else, by the CEL conditions of the chart's webhooks.
//!
//! They come after the API server's own validation, so every object here is a valid one.

use serde_json::{Value, json};

use crate::chart::define_foreign;
use crate::control_plane::{ControlPlane, Namespace};
use crate::sending::{
    Configuration, KINDS, Reaction, pod_spec, post, reaction, register, valid, with_digest, with_name,
};
use crate::waiting::eventually;

crate::tests![
    what_is_not_pinned_is_sent_and_nothing_else,
    what_is_absent_or_null_makes_no_condition_of_the_policy_fail,
    conditions_of_the_policy_stay_within_their_budget,
    running_pods_are_sent_for_what_is_written,
    the_pin_mode_of_a_namespace_chooses_what_is_held_to_the_policy,
    further_kinds_are_sent_unseen,
];

const FULL: &str = "quay.io/keycloak/keycloak:20.0";
const WORKLOAD: &str = "workload.policy.pinstream.dev";
const POD: &str = "pod.policy.pinstream.dev";

/// Tries to create an object, and says by which webhook it is sent, if by one. It has to be valid.
fn sent(namespace: &Namespace, kind: &str, object: Value) -> Option<String> {
    let answer = post(namespace, kind, object);
    match reaction(&answer) {
        Reaction::Sent(webhook) => Some(webhook),
        Reaction::NotSent => {
            assert_eq!(answer.status, 201, "{kind}: {}", answer.body);
            None
        }
    }
}

fn what_is_not_pinned_is_sent_and_nothing_else(plane: &ControlPlane) {
    let namespace = plane.namespace();
    register(plane, &namespace, Configuration::Validating, &[]);
    let pinned = with_digest("sha256", 64);
    let with = |field: &str, value: Value| {
        let mut spec = pod_spec(&[&pinned]);
        spec[field] = value;
        spec
    };
    let initial = |image: &str| with("initContainers", json!([{"name": "i", "image": image}]));
    let volume = |image: &str| {
        let image = json!({"name": "v", "image": {"reference": image}});
        with("volumes", json!([{"name": "e", "emptyDir": {}}, image]))
    };
    let cases = [
        (pod_spec(&[&pinned]), false),
        (pod_spec(&[&pinned, &pinned]), false),
        (pod_spec(&[FULL]), true),
        (pod_spec(&["keycloak"]), true),
        (pod_spec(&[&pinned, FULL]), true),
        (pod_spec(&[&with_digest("sha256", 63)]), true),
        (pod_spec(&[&with_digest("sha256", 65)]), true),
        // Pinned, but left to the webhook to see.
        (pod_spec(&[&with_digest("sha512", 128)]), true),
        (pod_spec(&[&pinned.to_uppercase()]), true),
        (pod_spec(&[pinned.split_once('@').unwrap().1]), true),
        (initial(&pinned), false),
        (initial(FULL), true),
        (volume(&pinned), false),
        (volume(FULL), true),
    ];
    for kind in KINDS {
        for (spec, is_sent) in &cases {
            let expected = is_sent.then_some(WORKLOAD);
            assert_eq!(sent(&namespace, kind, valid(kind, spec)).as_deref(), expected, "{kind}: {spec}");
        }
    }
    for (kind, controller, expected) in
        [("ReplicaSet", true, None), ("ReplicaSet", false, Some(WORKLOAD)), ("Pod", true, Some(WORKLOAD))]
    {
        let mut object = valid(kind, &pod_spec(&[FULL]));
        object["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": "a",
            "uid": "u", "controller": controller}]);
        assert_eq!(sent(&namespace, kind, object).as_deref(), expected, "{kind}, controller: {controller}");
    }
}

fn what_is_absent_or_null_makes_no_condition_of_the_policy_fail(plane: &ControlPlane) {
    let namespace = plane.namespace();
    register(plane, &namespace, Configuration::Validating, &[]);
    let container = json!({"name": "a", "image": with_digest("sha256", 64)});
    let specs = [
        json!({"containers": [container]}),
        json!({"containers": [container], "initContainers": null, "volumes": null}),
        json!({"containers": [container], "initContainers": [], "volumes": []}),
        json!({"containers": [container], "volumes": [{"name": "v"}, {"name": "w", "image": null, "emptyDir": {}}]}),
    ];
    let metadata = [json!({}), json!({"annotations": null, "ownerReferences": null}), json!({"ownerReferences": []})];
    for kind in KINDS {
        for (metadata, spec) in metadata.iter().flat_map(|metadata| specs.iter().map(move |spec| (metadata, spec))) {
            let mut object = valid(kind, spec);
            object["metadata"] = with_name(metadata);
            assert_eq!(sent(&namespace, kind, object), None, "{kind}: {metadata} {spec}");
        }
    }
    // A PodTemplate needs no template.
    assert_eq!(reaction(&post(&namespace, "PodTemplate", json!({"metadata": {"name": "a"}}))), Reaction::NotSent);
}

fn conditions_of_the_policy_stay_within_their_budget(plane: &ControlPlane) {
    let namespace = plane.namespace();
    register(plane, &namespace, Configuration::Validating, &[]);
    let long = |length: usize| format!("registry.example/{}{}", "p/".repeat(length), with_digest("sha256", 64));
    for (count, image) in [(300, long(0)), (300, long(500)), (2_000, long(0))] {
        let mut spec = pod_spec(&vec![&*image; count]);
        spec["initContainers"] = (0..count).map(|index| json!({"name": format!("i{index}"), "image": image})).collect();
        spec["volumes"] = (0..count).map(|index| json!({"name": format!("v{index}"), "emptyDir": {}})).collect();
        assert_eq!(sent(&namespace, "Pod", valid("Pod", &spec)), None, "{count} images of {} bytes", image.len());
        spec["containers"][count - 1]["image"] = json!(FULL);
        assert_eq!(sent(&namespace, "Pod", valid("Pod", &spec)).as_deref(), Some(WORKLOAD));
    }
}

fn running_pods_are_sent_for_what_is_written(plane: &ControlPlane) {
    let namespace = plane.namespace();
    let path = format!("/api/v1/namespaces/{}/pods", namespace.name);
    let mut pod = valid("Pod", &pod_spec(&[&with_digest("sha256", 64)]));
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    namespace.post(&path, &pod).ok();
    register(plane, &namespace, Configuration::Validating, &[]);
    let put = |subresource: &str, change: &dyn Fn(&mut Value)| {
        let mut pod = namespace.get(&["pod", "a"]);
        change(&mut pod);
        let path = format!("{path}/a{subresource}?dryRun=All");
        reaction(&namespace.ask(&reqwest::Method::PUT, &path, Some(&pod)).unwrap())
    };
    let debug = |image: &str| {
        let containers = json!([{"name": "debug", "image": image}]);
        move |pod: &mut Value| pod["spec"]["ephemeralContainers"] = containers.clone()
    };
    let sent = Reaction::Sent(WORKLOAD.to_owned());
    assert_eq!(put("/ephemeralcontainers", &debug(&with_digest("sha256", 64))), Reaction::NotSent);
    assert_eq!(put("/ephemeralcontainers", &debug("tools")), sent);
    assert_eq!(put("", &|pod| pod["metadata"]["labels"] = json!({"app": "a"})), Reaction::NotSent);
    assert_eq!(put("", &|pod| pod["spec"]["containers"][0]["image"] = json!(FULL)), sent);
    assert_eq!(put("/status", &|pod| pod["status"]["phase"] = json!("Running")), Reaction::NotSent);
}

fn the_pin_mode_of_a_namespace_chooses_what_is_held_to_the_policy(plane: &ControlPlane) {
    // Default, label, and who is sent a Deployment and a Pod.
    let cases = [
        ("workload", None, Some(WORKLOAD), Some(WORKLOAD)),
        ("workload", Some("pod"), None, Some(POD)),
        ("workload", Some("off"), Some(WORKLOAD), Some(WORKLOAD)),
        ("workload", Some("misspelt"), Some(WORKLOAD), Some(WORKLOAD)),
        ("pod", None, None, Some(POD)),
        ("pod", Some("workload"), Some(WORKLOAD), Some(WORKLOAD)),
        ("pod", Some("off"), Some(WORKLOAD), Some(WORKLOAD)),
        ("off", None, Some(WORKLOAD), Some(WORKLOAD)),
        ("off", Some("pod"), None, Some(POD)),
    ];
    for default in ["workload", "pod", "off"] {
        let namespace = plane.namespace();
        register(plane, &namespace, Configuration::Validating, &["--set", &format!("pin.default={default}")]);
        for &(_, label, deployments_go_to, pods_go_to) in cases.iter().filter(|case| case.0 == default) {
            let label = label.map_or("pinstream.dev/pin-".to_owned(), |label| format!("pinstream.dev/pin={label}"));
            plane.admin().kubectl(&["label", "--overwrite", "namespace", &namespace.name, &label]).ok();
            eventually(&format!("default {default}, {label}"), || {
                let [deployments, pods] =
                    ["Deployment", "Pod"].map(|kind| sent(&namespace, kind, valid(kind, &pod_spec(&[FULL]))));
                let is_right = (deployments.as_deref(), pods.as_deref()) == (deployments_go_to, pods_go_to);
                if is_right { Ok(()) } else { Err(format!("Deployments go to {deployments:?}, Pods to {pods:?}")) }
            });
        }
    }
}

fn further_kinds_are_sent_unseen(plane: &ControlPlane) {
    define_foreign(plane.admin());
    let namespace = plane.namespace();
    let kind = "kinds[0].group=cert-manager.io,kinds[0].kind=Certificate,kinds[0].resource=certificates,\
                kinds[0].versions[0]=v1,kinds[0].pointer=/spec/template";
    register(plane, &namespace, Configuration::Validating, &["--set", kind]);
    let object = json!({"apiVersion": "cert-manager.io/v1", "kind": "Certificate", "metadata": {"name": "a"},
        "spec": {"template": {"spec": pod_spec(&[FULL])}}});
    let path = format!("/apis/cert-manager.io/v1/namespaces/{}/certificates?dryRun=All", namespace.name);
    let expected = Reaction::Sent("kinds.policy.pinstream.dev".to_owned());
    assert_eq!(reaction(&namespace.post(&path, &object)), expected);
}
