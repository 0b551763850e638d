//! That the API server sends what can be affected and nothing else, by the CEL conditions of the chart's webhooks.

use serde_json::{Value, json};

use crate::control_plane::ControlPlane;
use crate::sending::{Configuration, KINDS, Reaction, create, object, pod_spec, reaction, register, with_name};
use crate::waiting::eventually;

crate::tests![
    what_can_be_affected_is_sent_and_nothing_else,
    odd_objects_make_no_condition_fail,
    conditions_stay_within_their_budget,
    only_ephemeral_containers_of_a_running_pod_are_sent,
    the_label_of_a_namespace_chooses_the_webhook,
];

const FULL: &str = "quay.io/keycloak/keycloak:20.0";
const DIGEST: &str = "keycloak@sha256:54eda51e10f7a1b6e4b8d8c1e8f7b2c25d9c7d8e0b2f5f6d3c4a1b0e9f8d7c6b";
const FORCE: &str = "alpha.image.policy.openshift.io/resolve-names";

fn what_can_be_affected_is_sent_and_nothing_else(plane: &ControlPlane) {
    let namespace = plane.namespace();
    register(plane, &namespace, Configuration::Mutating, &[]);
    let (sent, not_sent) = (Reaction::Sent("workload.pinstream.dev".to_owned()), Reaction::NotSent);
    let with = |field: &str, value: Value| {
        let mut spec = pod_spec(&[FULL]);
        spec[field] = value;
        spec
    };
    let volume = |reference| json!([{"name": "v", "image": {"reference": reference}}, {"name": "e", "emptyDir": {}}]);
    let force = |value| json!({"annotations": {FORCE: value, "other": "*"}});
    let cases = [
        (json!({}), pod_spec(&["keycloak:20.0"]), &sent),
        (json!({}), pod_spec(&[FULL, "keycloak"]), &sent),
        (json!({}), pod_spec(&[FULL]), &not_sent),
        (json!({}), pod_spec(&[DIGEST]), &not_sent),
        (json!({}), with("initContainers", json!([{"name": "i", "image": "tools"}])), &sent),
        (json!({}), with("initContainers", json!([{"name": "i", "image": FULL}])), &not_sent),
        (json!({}), with("volumes", volume("keycloak")), &sent),
        (json!({}), with("volumes", volume(FULL)), &not_sent),
        (force("*"), pod_spec(&[FULL]), &sent),
        (force("x"), pod_spec(&[FULL]), &not_sent),
    ];
    for kind in KINDS {
        for (metadata, spec, expected) in &cases {
            assert_eq!(create(&namespace, kind, object(kind, metadata, spec)), **expected, "{kind}: {metadata} {spec}");
        }
    }
    let mut deployment = object("Deployment", &json!({}), &pod_spec(&[FULL]));
    deployment["metadata"] = with_name(&force("*"));
    assert_eq!(create(&namespace, "Deployment", deployment), sent, "the annotation is on the object itself");

    for (kind, controller, expected) in
        [("ReplicaSet", true, &not_sent), ("ReplicaSet", false, &sent), ("Pod", true, &sent)]
    {
        let mut object = object(kind, &json!({}), &pod_spec(&["keycloak"]));
        let owner = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "a", "uid": "u"});
        object["metadata"]["ownerReferences"] = json!([owner]);
        object["metadata"]["ownerReferences"][0]["controller"] = json!(controller);
        assert_eq!(create(&namespace, kind, object), *expected, "{kind}, controller: {controller}");
    }
}

fn odd_objects_make_no_condition_fail(plane: &ControlPlane) {
    let namespace = plane.namespace();
    register(plane, &namespace, Configuration::Mutating, &[]);
    let specs = [
        json!(null),
        json!({}),
        json!({"containers": null}),
        json!({"containers": []}),
        json!({"containers": [null]}),
        json!({"containers": [{"name": "a"}]}),
        json!({"containers": [{"name": "a", "image": null}]}),
        json!({"containers": [{"name": "a", "image": ""}]}),
        json!({"containers": [{"name": "a", "image": FULL}], "initContainers": null, "ephemeralContainers": null, "volumes": null}),
        json!({"containers": [{"name": "a", "image": FULL}], "volumes": [null]}),
        json!({"containers": [{"name": "a", "image": FULL}], "volumes": [{"name": "v"}, {"name": "w", "image": null}, {"name": "x", "image": {}}]}),
    ];
    let metadata = [json!({}), json!({"annotations": null, "ownerReferences": null, "labels": null})];
    for kind in ["Pod", "PodTemplate", "ReplicationController", "Deployment", "Job", "CronJob"] {
        for (metadata, spec) in metadata.iter().flat_map(|metadata| specs.iter().map(move |spec| (metadata, spec))) {
            let object = object(kind, metadata, spec);
            assert_eq!(create(&namespace, kind, object), Reaction::NotSent, "{kind}: {metadata} {spec}");
        }
        for object in [json!({}), json!({"spec": {}}), json!({"spec": null}), json!({"spec": {"template": null}})] {
            let mut object = object;
            object["metadata"] = json!({"name": "a"});
            assert_eq!(create(&namespace, kind, object.clone()), Reaction::NotSent, "{kind}: {object}");
        }
    }
}

fn conditions_stay_within_their_budget(plane: &ControlPlane) {
    let namespace = plane.namespace();
    register(plane, &namespace, Configuration::Mutating, &[]);
    let long = format!("registry.example/{}", "path/".repeat(200));
    for (count, image) in [(300, FULL), (300, &*long), (3_000, FULL)] {
        let mut spec = pod_spec(&vec![image; count]);
        spec["initContainers"] = spec["containers"].clone();
        spec["volumes"] = (0..count).map(|index| json!({"name": format!("v{index}"), "emptyDir": {}})).collect();
        assert_eq!(create(&namespace, "Pod", object("Pod", &json!({}), &spec)), Reaction::NotSent);
        spec["containers"][count - 1]["image"] = json!("keycloak");
        let sent = Reaction::Sent("workload.pinstream.dev".to_owned());
        assert_eq!(create(&namespace, "Pod", object("Pod", &json!({}), &spec)), sent);
    }
}

fn only_ephemeral_containers_of_a_running_pod_are_sent(plane: &ControlPlane) {
    let namespace = plane.namespace();
    let path = format!("/api/v1/namespaces/{}/pods", namespace.name);
    let mut pod = object("Pod", &json!({}), &pod_spec(&[FULL]));
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    namespace.post(&path, &pod).ok();
    register(plane, &namespace, Configuration::Mutating, &[]);
    let put = |subresource: &str, change: &dyn Fn(&mut Value)| {
        let mut pod = namespace.get(&["pod", "a"]);
        change(&mut pod);
        let path = format!("{path}/a{subresource}?dryRun=All");
        reaction(&namespace.ask(&reqwest::Method::PUT, &path, Some(&pod)).unwrap())
    };
    let debug = |image: &'static str| {
        move |pod: &mut Value| pod["spec"]["ephemeralContainers"] = json!([{"name": "debug", "image": image}])
    };
    assert_eq!(put("/ephemeralcontainers", &debug(FULL)), Reaction::NotSent);
    assert_eq!(put("/ephemeralcontainers", &debug("tools")), Reaction::Sent("workload.pinstream.dev".to_owned()));
    assert_eq!(put("", &|pod| pod["metadata"]["labels"] = json!({"app": "a"})), Reaction::NotSent);
    assert_eq!(put("/status", &|pod| pod["status"]["phase"] = json!("Running")), Reaction::NotSent);
}

fn the_label_of_a_namespace_chooses_the_webhook(plane: &ControlPlane) {
    let (template, pod) = ("workload.pinstream.dev", "pod.pinstream.dev");
    // Default, label, and who is sent a Deployment and a Pod.
    let cases = [
        ("workload", None, Some(template), Some(template)),
        ("workload", Some("pod"), None, Some(pod)),
        ("workload", Some("off"), None, None),
        ("workload", Some("workload"), Some(template), Some(template)),
        ("workload", Some("misspelt"), Some(template), Some(template)),
        ("pod", None, None, Some(pod)),
        ("pod", Some("workload"), Some(template), Some(template)),
        ("pod", Some("off"), None, None),
        ("off", None, None, None),
        ("off", Some("pod"), None, Some(pod)),
        ("off", Some("workload"), Some(template), Some(template)),
    ];
    for default in ["workload", "pod", "off"] {
        let namespace = plane.namespace_with_labels(&json!({"pinstream.dev/pin": "pod"}));
        register(plane, &namespace, Configuration::Mutating, &["--set", &format!("pin.default={default}")]);
        for &(_, label, deployments_go_to, pods_go_to) in cases.iter().filter(|case| case.0 == default) {
            let label = label.map_or("pinstream.dev/pin-".to_owned(), |label| format!("pinstream.dev/pin={label}"));
            plane.admin().kubectl(&["label", "--overwrite", "namespace", &namespace.name, &label]).ok();
            let goes_to = |kind| match create(&namespace, kind, object(kind, &json!({}), &pod_spec(&["keycloak"]))) {
                Reaction::Sent(webhook) => Some(webhook),
                Reaction::NotSent => None,
            };
            eventually(&format!("default {default}, {label}"), || {
                let (deployments, pods) = (goes_to("Deployment"), goes_to("Pod"));
                let is_right = (deployments.as_deref(), pods.as_deref()) == (deployments_go_to, pods_go_to);
                if is_right { Ok(()) } else { Err(format!("Deployments go to {deployments:?}, Pods to {pods:?}")) }
            });
        }
    }
}
