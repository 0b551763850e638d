//! That the policy inside the API server decides as the webhook does, on a table of objects, and holds while no webhook is
//! there.

use serde_json::{Value, json};

use crate::control_plane::ControlPlane;
use crate::judges::{Judges, UNPINNED};
use crate::release::{Reach, Release};
use crate::sending::{KINDS, pod_spec, post, valid, valid_with, with_digest};
use crate::waiting::eventually;

crate::tests![
    new_objects_are_judged_alike,
    exceptions_are_judged_alike,
    annotations_that_are_ignored_are_so_by_both,
    changes_are_judged_alike,
    changes_of_pods_are_judged_alike,
    levels_and_pin_modes_are_judged_alike,
    large_objects_stay_within_the_budget,
    the_policy_holds_while_no_webhook_is_there,
];

/// Kinds whose pod templates can be changed.
const CHANGEABLE: [&str; 7] =
    ["PodTemplate", "ReplicationController", "Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "CronJob"];
const EXCEPT: &str = "pinstream.dev/policy-except";

fn pinned() -> String {
    with_digest("sha256", 64)
}

/// A change of a pod spec.
type Change = fn(&mut Value);

/// A pod spec with one pinned container, and that field.
fn spec_with(field: &str, value: Value) -> Value {
    let mut spec = pod_spec(&[&pinned()]);
    spec[field] = value;
    spec
}

/// The name that the API server must not give a container a second time may well be that of a volume.
fn volumes(references: &[&str]) -> Value {
    let volume =
        |(index, reference): (usize, &&str)| json!({"name": format!("c{index}"), "image": {"reference": reference}});
    references.iter().enumerate().map(volume).chain([json!({"name": "e", "emptyDir": {}})]).collect()
}

fn new_objects_are_judged_alike(plane: &ControlPlane) {
    let judges = Judges::install(plane, &json!({}));
    judges.enforce();
    let pinned = pinned();
    let one = |image: &str| (pod_spec(&[image]), Some(format!("containers[c0] {image}")));
    let all = |images: &[&str]| (pod_spec(images), None);
    let twelve: Vec<String> = (0..12).map(|index| format!("app:{index}")).collect();
    let ten: Vec<String> = (0..10).map(|index| format!("containers[c{index}] app:{index}")).collect();
    let sidecar = json!([{"name": "s", "image": UNPINNED, "restartPolicy": "Always"}, {"name": "i", "image": pinned}]);
    let cases = [
        all(&[&pinned]),
        all(&[&with_digest("sha384", 96), &with_digest("sha512", 128)]),
        all(&[&format!("a\nb{}", pinned.split_at(12).1)]),
        one(UNPINNED),
        one("app"),
        one("registry.example:5000/app"),
        one(&with_digest("sha256", 63)),
        one(&with_digest("sha256", 65)),
        one(&with_digest("sha384", 64)),
        one(&with_digest("sha512", 64)),
        one(&with_digest("md5", 32)),
        one(&pinned.to_uppercase()),
        one(pinned.split_once('@').unwrap().1),
        one(&format!("@{}", pinned.split_once('@').unwrap().1)),
        one(&format!("{pinned}@{}", pinned.split_once('@').unwrap().1)),
        (pod_spec(&[&pinned, UNPINNED, "app"]), Some(format!("containers[c1] {UNPINNED}, containers[c2] app"))),
        (
            pod_spec(&twelve.iter().map(String::as_str).collect::<Vec<_>>()),
            Some(format!("{} and 2 more", ten.join(", "))),
        ),
        (spec_with("initContainers", sidecar), Some(format!("initContainers[s] {UNPINNED}"))),
        (spec_with("volumes", volumes(&[UNPINNED, &pinned])), Some(format!("volumes[c0] {UNPINNED}"))),
        (spec_with("volumes", volumes(&[&pinned])), None),
    ];
    for kind in KINDS {
        for (spec, expected) in &cases {
            assert_eq!(judges.judge(kind, &valid(kind, spec)), *expected, "{kind}: {spec}");
        }
    }
    for (kind, controller, is_refused) in
        [("ReplicaSet", true, false), ("Job", true, false), ("ReplicaSet", false, true), ("Pod", true, true)]
    {
        let mut object = valid(kind, &pod_spec(&[UNPINNED]));
        object["metadata"]["ownerReferences"] =
            json!([{"apiVersion": "x/v1", "kind": "X", "name": "x", "uid": "u", "controller": controller}]);
        assert_eq!(judges.judge(kind, &object).is_some(), is_refused, "{kind}, controller: {controller}");
    }
    no_expression_is_warned_of(plane, judges.name());
}

/// The API server finds nothing wrong with the types in a policy.
fn no_expression_is_warned_of(plane: &ControlPlane, policy: &str) {
    let status = eventually("the types are checked", || {
        let mut policy = plane.admin().get(&["validatingadmissionpolicy", policy]);
        let status = policy["status"].take();
        (status["observedGeneration"] == policy["metadata"]["generation"]).then_some(status)
    });
    assert_eq!(status["typeChecking"], json!({}));
}

fn exceptions_are_judged_alike(plane: &ControlPlane) {
    let patterns = ["registry.k8s.io/pause:*", "quay.io/*/debug-?:*", "exact.example/app:1", "*.any/x"];
    let judges = Judges::install(plane, &json!({"exceptions": patterns}));
    judges.enforce();
    for (image, is_refused) in [
        ("registry.k8s.io/pause:3.10", false),
        ("registry.k8s.io/pause:", false),
        ("registry.k8s.io/pause:a\nb", false),
        ("registry.k8s.io/pause", true),
        ("registryxk8s.io/pause:3.10", true),
        ("mirror/registry.k8s.io/pause:3.10", true),
        ("quay.io/a/b/debug-7:1", false),
        ("quay.io/a/debug-\u{e4}:1", false),
        ("quay.io/a/debug-\n:1", false),
        ("quay.io/a/debug-77:1", true),
        ("exact.example/app:1", false),
        ("exact.example/app:11", true),
        (".any/x", false),
        ("any/x", true),
    ] {
        let expected = is_refused.then(|| format!("containers[c0] {image}"));
        assert_eq!(judges.judge("Deployment", &valid("Deployment", &pod_spec(&[image]))), expected, "{image:?}");
    }
    let mut spec = pod_spec(&[UNPINNED, UNPINNED]);
    spec["volumes"] = volumes(&[UNPINNED]);
    let places =
        |places: &[&str]| Some(places.iter().map(|place| format!("{place} {UNPINNED}")).collect::<Vec<_>>().join(", "));
    let all = ["containers[c0]", "containers[c1]", "volumes[c0]"];
    for (value, expected) in [
        ("*", None),
        (" * , x", None),
        ("c0,c1", None),
        ("x, c0\u{a0},\tc1", None),
        ("c0", places(&["containers[c1]"])),
        ("C0,c", places(&all)),
        ("", places(&all)),
        ("c0 c1", places(&all)),
    ] {
        for kind in KINDS {
            let metadata = json!({"annotations": {EXCEPT: value}});
            assert_eq!(judges.judge(kind, &valid_with(kind, &metadata, &spec)), expected, "{kind}: {value:?}");
            let mut object = valid(kind, &spec);
            object["metadata"]["annotations"] = json!({EXCEPT: value, "other": "*"});
            assert_eq!(judges.judge(kind, &object), expected, "{kind} itself: {value:?}");
        }
    }
    let mut both = valid_with("Deployment", &json!({"annotations": {EXCEPT: "c0"}}), &spec);
    both["metadata"]["annotations"] = json!({EXCEPT: "c1"});
    assert_eq!(judges.judge("Deployment", &both), None);
}

fn annotations_that_are_ignored_are_so_by_both(plane: &ControlPlane) {
    let judges = Judges::install(plane, &json!({"ignoreAnnotations": true}));
    judges.enforce();
    let metadata = json!({"annotations": {EXCEPT: "*"}});
    for kind in KINDS {
        let refused = judges.judge(kind, &valid_with(kind, &metadata, &pod_spec(&[UNPINNED])));
        assert_eq!(refused, Some(format!("containers[c0] {UNPINNED}")), "{kind}");
    }
}

fn changes_are_judged_alike(plane: &ControlPlane) {
    let judges = Judges::install(plane, &json!({}));
    let mut before = pod_spec(&[UNPINNED, "app:1"]);
    before["initContainers"] = json!([{"name": "i", "image": "init:1"}]);
    before["volumes"] = volumes(&[UNPINNED, "data:1"]);
    for kind in CHANGEABLE {
        let mut object = valid(kind, &before);
        if object["spec"].get("selector").is_some() {
            object["spec"]["replicas"] = json!(0);
        }
        judges.store(kind, &object);
    }
    judges.enforce();
    let cases: [(&str, Change, Option<&str>); 11] = [
        ("nothing", |_| (), None),
        ("other fields", |spec| spec["terminationGracePeriodSeconds"] = json!(5), None),
        ("an image", |spec| spec["containers"][1]["image"] = json!("app:2"), Some("containers[c1] app:2")),
        ("pinned now", |spec| spec["containers"][1]["image"] = json!(pinned()), None),
        ("renamed", |spec| spec["containers"][1]["name"] = json!("d"), Some("containers[d] app:1")),
        ("reordered", |spec| spec["containers"].as_array_mut().unwrap().reverse(), None),
        (
            "exchanged",
            |spec| {
                spec["containers"][0]["image"] = json!("app:1");
                spec["containers"][1]["image"] = json!(UNPINNED);
            },
            Some("containers[c0] app:1, containers[c1] quay.io/team/app:1"),
        ),
        (
            "one more",
            |spec| spec["containers"].as_array_mut().unwrap().push(json!({"name": "d", "image": "app:1"})),
            Some("containers[d] app:1"),
        ),
        (
            "moved among containers",
            |spec| {
                let container = spec["containers"].as_array_mut().unwrap().pop().unwrap();
                spec["initContainers"].as_array_mut().unwrap().push(container);
            },
            None,
        ),
        ("a volume", |spec| spec["volumes"][1]["image"]["reference"] = json!("data:2"), Some("volumes[c1] data:2")),
        (
            "a volume, as a container of that name",
            |spec| spec["volumes"][1]["image"]["reference"] = json!("app:1"),
            Some("volumes[c1] app:1"),
        ),
    ];
    for kind in CHANGEABLE {
        for (name, change, expected) in cases {
            let refused = judges.judge_change(kind, "a", &|object| {
                let template = match kind {
                    "PodTemplate" => &mut object["template"],
                    "CronJob" => &mut object["spec"]["jobTemplate"]["spec"]["template"],
                    _ => &mut object["spec"]["template"],
                };
                change(&mut template["spec"]);
            });
            assert_eq!(refused.as_deref(), expected, "{kind}: {name}");
        }
    }
    for scaled in ["ReplicationController", "Deployment", "ReplicaSet", "StatefulSet"] {
        assert_eq!(judges.judge_change(scaled, "a", &|object| object["spec"]["replicas"] = json!(2)), None, "{scaled}");
    }
}

fn changes_of_pods_are_judged_alike(plane: &ControlPlane) {
    let judges = Judges::install(plane, &json!({}));
    judges.store("Pod", &valid("Pod", &pod_spec(&[UNPINNED, "app:1"])));
    judges.enforce();
    let image = |image: &'static str| move |pod: &mut Value| pod["spec"]["containers"][1]["image"] = json!(image);
    assert_eq!(judges.judge_change("Pod", "a", &|pod| pod["metadata"]["labels"] = json!({"app": "a"})), None);
    assert_eq!(judges.judge_change("Pod", "a", &image("app:2")).as_deref(), Some("containers[c1] app:2"));
    let debug = |name: &str, image: &str| {
        let container = json!({"name": name, "image": image});
        let debug = |pod: &mut Value| pod["spec"]["ephemeralContainers"] = json!([container]);
        judges.judge_change("Pod", "a/ephemeralcontainers", &debug)
    };
    assert_eq!(debug("debug", "tools:1").as_deref(), Some("ephemeralContainers[debug] tools:1"));
    assert_eq!(debug("debug", &pinned()), None);
}

fn levels_and_pin_modes_are_judged_alike(plane: &ControlPlane) {
    // Of the chart and of the namespace, and whether the policy is enforced.
    let levels = [
        ("audit", "-", false),
        ("audit", "=enforce", true),
        ("audit", "=warn", false),
        ("audit", "=Enforce", false),
        ("enforce", "-", true),
        ("enforce", "=audit", false),
        ("enforce", "=enforce", true),
        ("enforce", "=warn", false),
        ("enforce", "=misspelt", true),
    ];
    for default in ["audit", "enforce"] {
        let judges = Judges::install(plane, &json!({"level": default}));
        judges.enforce();
        for (_, label, is_enforced) in levels.iter().filter(|(level, ..)| *level == default) {
            judges.label(&format!("pinstream.dev/policy{label}"));
            judges.wait_until("Deployment", *is_enforced);
        }
        judges.enforce();
        for (mode, are_templates_held) in [("=pod", false), ("=off", true), ("=workload", true), ("-", true)] {
            judges.label(&format!("pinstream.dev/pin{mode}"));
            judges.wait_until("Deployment", are_templates_held);
            assert!(judges.judge("Pod", &valid("Pod", &pod_spec(&[UNPINNED]))).is_some(), "{mode}");
        }
    }
}

fn large_objects_stay_within_the_budget(plane: &ControlPlane) {
    let patterns: Vec<String> =
        (0..50).map(|number| format!("registry-{number}.example/some/team-{number}/application-{number}:*")).collect();
    let judges = Judges::install(plane, &json!({"exceptions": patterns}));
    let image = |tag: &str| format!("registry.example/{}{tag}", "path/".repeat(40));
    let deployment = |name: &str, image: &str, count: usize| {
        let mut spec = pod_spec(&vec![image; count]);
        spec["volumes"] = (0..count).map(|index| json!({"name": format!("v{index}"), "emptyDir": {}})).collect();
        let mut deployment = valid("Deployment", &spec);
        deployment["metadata"]["name"] = json!(name);
        deployment["spec"]["replicas"] = json!(0);
        deployment
    };
    judges.store("Deployment", &deployment("a", &image("app:1"), 100));
    judges.enforce();
    let ten = (0..10).map(|index| format!("containers[c{index}] {}", image("app:2"))).collect::<Vec<_>>().join(", ");
    let refused = Some(format!("{ten} and 90 more"));
    assert_eq!(judges.judge("Deployment", &deployment("b", &image("app:2"), 100)), refused);
    let change = |image: String| {
        let template = deployment("a", &image, 100)["spec"]["template"].clone();
        move |object: &mut Value| object["spec"]["template"] = template.clone()
    };
    assert_eq!(judges.judge_change("Deployment", "a", &change(image("app:1"))), None);
    assert_eq!(judges.judge_change("Deployment", "a", &change(image("app:2"))), refused);
    assert_eq!(judges.judge("Deployment", &deployment("b", &pinned(), 2_000)), None);
    // What is too long to be named is refused with the next step all the same.
    let [_, namespace] = judges.namespaces();
    let answer = post(namespace, "Deployment", deployment("b", &image(&"long/".repeat(200)), 20));
    assert!(answer.body["message"].as_str().unwrap().contains("write images with their digests"), "{}", answer.body);
}

fn the_policy_holds_while_no_webhook_is_there(plane: &ControlPlane) {
    let policy = json!({"validatingAdmissionPolicy": {"enabled": true}, "exceptions": ["registry.k8s.io/pause:*"]});
    let release = Release::install(plane, Reach::Url, &json!({"replicas": 1, "policy": policy}));
    let (enforced, audited) = (release.working_namespace(&json!({})), release.working_namespace(&json!({})));
    plane.admin().kubectl(&["label", "namespace", &enforced.name, "pinstream.dev/policy=enforce"]).ok();
    let image = format!("--image={UNPINNED}");
    let by_itself = format!("ValidatingAdmissionPolicy '{}' with binding '{0}-workload' denied request", release.name);
    eventually("the API server has the policy", || {
        enforced.kubectl(&["run", "web", &image, "--dry-run=server"]).stderr.contains(&by_itself)
    });
    let counted = || {
        let labels = "kind=\"Pod\",level=\"enforce\",operation=\"CREATE\",result=\"refused\"";
        release.seen().metric(&format!("pinstream_policy_objects_total{{{labels}}}"))
    };
    let before = counted();
    enforced.kubectl(&["run", "web", &image]).refused();
    assert_eq!(counted(), before, "what the API server refuses is not sent to the webhook");

    release.namespace.kubectl(&["scale", "deployment", &release.name, "--replicas=0"]).ok();
    eventually("no replica is left", || release.namespace.get(&["pods"])["items"] == json!([]));

    let refusal = enforced.kubectl(&["run", "web", &image]).refused();
    for expected in [
        &by_itself,
        "not pinned by digest: containers[web] quay.io/team/app:1",
        &format!("Namespace {} has policy enforce", enforced.name),
        "write the image with its digest",
        &format!("pinstream tag {UNPINNED} STREAM:TAG -n {}", enforced.name),
        "pinstream.dev/policy-except: web",
    ] {
        assert!(refusal.contains(expected), "{expected}: {refusal}");
    }
    enforced.kubectl(&["create", "deployment", "web", &image]).refused();
    // Nobody resolves short names either.
    enforced.kubectl(&["run", "short", "--image=keycloak:20.0"]).refused();
    enforced.kubectl(&["run", "pinned", &format!("--image={}", pinned())]).ok();
    enforced.kubectl(&["run", "pause", "--image=registry.k8s.io/pause:3.10"]).ok();
    enforced.kubectl(&["run", "excepted", &image, "--annotations=pinstream.dev/policy-except=excepted"]).ok();
    audited.kubectl(&["run", "web", &image]).ok();
}
