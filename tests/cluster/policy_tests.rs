//! That a namespace is taken from looking to warning to refusing by its label, as users see it through kubectl.

use reqwest::Certificate;
use reqwest::blocking::Client;
use serde_json::{Value, json};

use crate::control_plane::{ControlPlane, Namespace};
use crate::release::{PINNED, Reach, Release, image_of_pod};
use crate::sending::{of_kind, path, pod_spec, valid};
use crate::user::{Output, User};
use crate::waiting::eventually;

crate::tests![
    a_namespace_is_taken_from_looking_to_refusing,
    what_was_there_goes_on_and_may_be_changed_otherwise,
    exceptions_pass_and_are_counted,
    debugging_containers_are_held_to_the_policy,
    only_pods_are_held_to_it_where_only_pods_are_pinned,
    refusals_are_told_by_events,
    levels_stay_while_the_api_server_is_away,
    tenants_label_no_namespace_and_labels_may_be_ignored,
    what_says_that_a_controller_decides_escapes_until_its_pods,
];

/// An image that no stream resolves.
const UNPINNED: &str = "quay.io/keycloak/keycloak:20.0";

/// A release whose one replica counts everything.
fn install<'plane>(plane: &'plane ControlPlane, policy: &Value) -> Release<'plane> {
    // By URL, so that Helm finds the Service as it has made it when it upgrades.
    Release::install(plane, Reach::Url, &json!({"replicas": 1, "policy": policy}))
}

/// Labels a namespace, and waits until the webhook has seen it.
fn set_level(plane: &ControlPlane, namespace: &Namespace, level: &str) {
    let label = format!("pinstream.dev/policy={level}");
    plane.admin().kubectl(&["label", "--overwrite", "namespace", &namespace.name, &label]).ok();
    eventually(&format!("the level is {level}"), || {
        let Output { is_success, stderr, .. } = run(namespace, "try", UNPINNED, &["--dry-run=server"]);
        match level {
            "audit" => is_success && stderr.is_empty(),
            "warn" => is_success && !stderr.is_empty(),
            _ => !is_success,
        }
    });
}

fn run(user: &User, name: &str, image: &str, more: &[&str]) -> Output {
    user.kubectl(&[&["run", name, &format!("--image={image}")], more].concat())
}

fn create_deployment(user: &User, name: &str, image: &str) -> Output {
    user.kubectl(&["create", "deployment", name, &format!("--image={image}")])
}

/// The images of the Pods of a Deployment, or of other objects with that label.
fn images(user: &User, app: &str) -> Vec<String> {
    let pods = user.get(&["pods", &format!("--selector=app={app}")]);
    let image = |pod: &Value| pod["spec"]["containers"][0]["image"].as_str().unwrap().to_owned();
    pods["items"].as_array().unwrap().iter().map(image).collect()
}

fn a_namespace_is_taken_from_looking_to_refusing(plane: &ControlPlane) {
    let release = install(plane, &json!({}));
    let namespace = release.working_namespace(&json!({}));
    let counted = |level: &str, kind: &str, result: &str| {
        let labels = format!("kind=\"{kind}\",level=\"{level}\",operation=\"CREATE\",result=\"{result}\"");
        release.seen().metric(&format!("pinstream_policy_objects_total{{{labels}}}"))
    };
    eventually("the API server asks", || {
        run(&namespace, "try", UNPINNED, &["--dry-run=server"]).ok();
        counted("audit", "Pod", "audited")
    });
    let created = create_deployment(&namespace, "audited", UNPINNED);
    assert_eq!((created.is_success, &*created.stderr), (true, ""));
    assert_eq!(counted("audit", "Deployment", "audited"), Some(1.0));

    set_level(plane, &namespace, "warn");
    let warning = "Warning: containers[warned]: quay.io/keycloak/keycloak:20.0: not pinned by digest\n";
    let warned = run(&namespace, "warned", UNPINNED, &[]);
    assert_eq!((warned.is_success, &*warned.stderr), (true, warning));
    assert_eq!(run(&namespace, "pinned", "keycloak:20.0", &[]).stderr, "");

    set_level(plane, &namespace, "enforce");
    let refusal = run(&namespace, "refused", UNPINNED, &[]).refused();
    for expected in [
        "workload.policy.pinstream.dev",
        "not pinned by digest: containers[refused] quay.io/keycloak/keycloak:20.0",
        &format!("Namespace {} has policy enforce", namespace.name),
        "write the image with its digest",
        &format!("pinstream tag quay.io/keycloak/keycloak:20.0 keycloak:20.0 -n {}", namespace.name),
        "pinstream.dev/policy-except: refused",
    ] {
        assert!(refusal.contains(expected), "{expected}: {refusal}");
    }
    let refusal = create_deployment(&namespace, "refused", UNPINNED).refused();
    assert!(refusal.contains("containers[keycloak] quay.io/keycloak/keycloak:20.0"), "{refusal}");
    assert_eq!(counted("enforce", "Deployment", "refused"), Some(1.0));
    // Names that a stream resolves are pinned before anybody asks.
    assert_eq!(image_of_pod(&namespace, "keycloak:20.0"), PINNED);
    create_deployment(&namespace, "web", "keycloak:20.0").ok();
    eventually("it has its Pod", || images(&namespace, "web") == [PINNED]);

    set_level(plane, &namespace, "audit");
    create_deployment(&namespace, "refused", UNPINNED).ok();
    assert_eq!(release.seen().failures(), 0);
}

fn what_was_there_goes_on_and_may_be_changed_otherwise(plane: &ControlPlane) {
    let release = install(plane, &json!({}));
    let namespace = release.working_namespace(&json!({}));
    create_deployment(&namespace, "old", UNPINNED).ok();
    run(&namespace, "alone", UNPINNED, &[]).ok();
    eventually("it has its Pod", || images(&namespace, "old") == [UNPINNED]);
    let pods = || namespace.kubectl(&["get", "pods", "--output=jsonpath={.items[*].metadata.uid}"]).ok();
    let before = pods();

    set_level(plane, &namespace, "enforce");
    for change in [
        &["annotate", "deployment", "old", "note=kept"][..],
        &["label", "pod", "alone", "note=kept"],
        &["scale", "deployment", "old", "--replicas=2"],
        &["set", "env", "deployment", "old", "NOTE=kept", "--dry-run=server"],
    ] {
        namespace.kubectl(change).ok();
    }
    // The template stays, but another Pod of it is a new one.
    eventually("a second Pod was refused", || {
        let events = namespace.kubectl(&["get", "events", "--field-selector=reason=FailedCreate"]).ok();
        events.contains("not pinned by digest: containers[keycloak]")
    });
    assert_eq!(pods(), before);

    let other = "keycloak=quay.io/keycloak/keycloak:21.0";
    let refusal = namespace.kubectl(&["set", "image", "deployment/old", other]).refused();
    assert!(refusal.contains("containers[keycloak] quay.io/keycloak/keycloak:21.0"), "{refusal}");
    namespace.kubectl(&["set", "image", "deployment/old", "keycloak=keycloak:20.0"]).ok();
    eventually("it has a Pod again that is new", || images(&namespace, "old").iter().any(|image| image == PINNED));
}

fn exceptions_pass_and_are_counted(plane: &ControlPlane) {
    let release = install(plane, &json!({"level": "enforce", "exceptions": ["registry.k8s.io/pause:*"]}));
    let namespace = release.working_namespace(&json!({"pinstream.dev/policy": "audit"}));
    plane.admin().kubectl(&["label", "namespace", &namespace.name, "pinstream.dev/policy-"]).ok();
    eventually("the level is that of the chart", || {
        !run(&namespace, "try", UNPINNED, &["--dry-run=server"]).is_success
    });
    let annotated = |name: &str, container: &str| {
        let annotation = format!("--annotations=pinstream.dev/policy-except={container}");
        run(&namespace, name, UNPINNED, &[&*annotation])
    };
    let finding = |finding: &str| {
        let labels = format!("finding=\"{finding}\",level=\"enforce\"");
        release.seen().metric(&format!("pinstream_policy_slots_total{{{labels}}}"))
    };
    run(&namespace, "pause", "registry.k8s.io/pause:3.10", &[]).ok();
    assert_eq!(finding("excepted_by_pattern"), Some(1.0));
    annotated("excepted", "excepted").ok();
    annotated("excepted-too", "*").ok();
    assert_eq!(finding("excepted_by_annotation"), Some(2.0));
    annotated("refused", "another").refused();

    release.helm("upgrade", &["--set=policy.ignoreAnnotations=true", "--wait", "--timeout=90s"]).ok();
    eventually("annotations except nothing", || !annotated("late", "late").is_success);
    run(&namespace, "pause-too", "registry.k8s.io/pause:3.10", &[]).ok();
}

fn debugging_containers_are_held_to_the_policy(plane: &ControlPlane) {
    let release = install(plane, &json!({}));
    let namespace = release.working_namespace(&json!({}));
    run(&namespace, "web", "keycloak:20.0", &[]).ok();
    set_level(plane, &namespace, "enforce");
    let debug = |name: &str, image: &str| {
        let (name, image) = (format!("--container={name}"), format!("--image={image}"));
        namespace.kubectl(&["debug", "web", &name, &image, "--attach=false"])
    };
    let refusal = debug("tools", "busybox:1.37").refused();
    assert!(refusal.contains("not pinned by digest: ephemeralContainers[tools] busybox:1.37"), "{refusal}");
    debug("same", "keycloak:20.0").ok();
    assert_eq!(namespace.get(&["pod", "web"])["spec"]["ephemeralContainers"][0]["image"], PINNED);
}

fn only_pods_are_held_to_it_where_only_pods_are_pinned(plane: &ControlPlane) {
    let release = install(plane, &json!({}));
    let namespace = release.working_namespace(&json!({"pinstream.dev/pin": "pod"}));
    set_level(plane, &namespace, "enforce");
    create_deployment(&namespace, "short", "keycloak:20.0").ok();
    let template = "--output=jsonpath={.spec.template.spec.containers[0].image}";
    assert_eq!(namespace.kubectl(&["get", "deployment", "short", template]).ok(), "keycloak:20.0");
    eventually("its Pod is pinned", || images(&namespace, "short") == [PINNED]);
    let refusal = run(&namespace, "refused", UNPINNED, &[]).refused();
    assert!(refusal.contains("pod.policy.pinstream.dev"), "{refusal}");

    // Where nothing is pinned, short names are no exception.
    plane.admin().kubectl(&["label", "--overwrite", "namespace", &namespace.name, "pinstream.dev/pin=off"]).ok();
    eventually("templates are held to it too", || !create_deployment(&namespace, "late", "keycloak:20.0").is_success);
}

fn refusals_are_told_by_events(plane: &ControlPlane) {
    let release = install(plane, &json!({}));
    let namespace = release.working_namespace(&json!({}));
    create_deployment(&namespace, "old", UNPINNED).ok();
    eventually("it has its Pod", || images(&namespace, "old").len() == 1);
    set_level(plane, &namespace, "enforce");
    run(&namespace, "alone", UNPINNED, &[]).refused();
    namespace.kubectl(&["scale", "deployment", "old", "--replicas=2"]).ok();
    let told = || -> Vec<String> {
        let path =
            "--output=jsonpath={range .items[*]}{.involvedObject.kind} {.involvedObject.name} {.message}{\"\\n\"}{end}";
        let events = namespace.kubectl(&["get", "events", "--field-selector=reason=PolicyRefused", path]).ok();
        events.lines().map(str::to_owned).collect()
    };
    let is_told = |begin: &str| told().iter().any(|event| event.starts_with(begin));
    eventually("the Pod's refusal is told", || is_told("Pod alone not pinned by digest: containers[alone]"));
    eventually("that of a Deployment's Pod is told of its ReplicaSet", || {
        is_told("ReplicaSet old-") && told().iter().any(|event| event.contains("containers[keycloak]"))
    });
    // Refusals are told one after the other: those of dry runs were not.
    assert!(!is_told("Pod try"), "{:?}", told());
}

fn levels_stay_while_the_api_server_is_away(plane: &ControlPlane) {
    let plane = plane.another();
    let release = install(&plane, &json!({}));
    let namespace = release.working_namespace(&json!({}));
    set_level(&plane, &namespace, "enforce");
    let trusted = release.bundle();
    let pod = json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "a", "image": UNPINNED}]}});
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"uid": "u",
        "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE", "namespace": namespace.name,
        "object": pod}});
    let answer = || judge(&release, &trusted, &review);
    assert_eq!(answer()["allowed"], false);
    plane.stop_api_server();
    eventually("the watch of levels has ended", || {
        release.seen().logs().contains("levels of namespaces cannot be watched")
    });
    assert_eq!(answer()["allowed"], false);
    plane.start_api_server();
    set_level(&plane, &namespace, "warn");
    assert_eq!((&answer()["allowed"], answer()["warnings"].as_array().map(Vec::len)), (&json!(true), Some(1)));
    assert_eq!(release.seen().failures(), 0);
}

/// What the webhook answers to a review, asked without an API server.
fn judge(release: &Release, trusted: &str, review: &Value) -> Value {
    let client = Client::builder()
        .tls_certs_only(Certificate::from_pem_bundle(trusted.as_bytes()).unwrap())
        .no_proxy()
        .build()
        .unwrap();
    let url = format!("https://localhost:{}/validate", release.service.port);
    let answer: Value = client.post(url).json(review).send().unwrap().json().unwrap();
    answer["response"].clone()
}

fn tenants_label_no_namespace_and_labels_may_be_ignored(plane: &ControlPlane) {
    let policy = json!({"level": "enforce"});
    let values = json!({"replicas": 1, "policy": policy, "extraArgs": ["--policy-ignore-labels"]});
    let release = Release::install(plane, Reach::Url, &values);
    let namespace = release.working_namespace(&json!({"pinstream.dev/policy": "audit"}));
    eventually("the API server asks", || !run(&namespace, "try", UNPINNED, &["--dry-run=server"]).is_success);
    let refusal = run(&namespace, "refused", UNPINNED, &[]).refused();
    assert!(refusal.contains("not pinned by digest: containers[refused]"), "{refusal}");

    namespace.kubectl(&["create", "serviceaccount", "tenant"]).ok();
    let subject = format!("--serviceaccount={}:tenant", namespace.name);
    namespace.kubectl(&["create", "rolebinding", "tenant", "--clusterrole=admin", &subject]).ok();
    let tenant = plane.service_account(&namespace.name, "tenant");
    eventually("the tenant may make Pods", || tenant.kubectl(&["auth", "can-i", "create", "pods"]).is_success);
    let refusal =
        tenant.kubectl(&["label", "--overwrite", "namespace", &namespace.name, "pinstream.dev/policy=warn"]).refused();
    assert!(refusal.contains("cannot patch resource \"namespaces\""), "{refusal}");
}

fn what_says_that_a_controller_decides_escapes_until_its_pods(plane: &ControlPlane) {
    let release = install(plane, &json!({"validatingAdmissionPolicy": {"enabled": true}}));
    let namespace = release.working_namespace(&json!({}));
    set_level(plane, &namespace, "enforce");
    namespace.kubectl(&["create", "configmap", "owner"]).ok();
    let owner = namespace.get(&["configmap", "owner"]);
    let mut made_up = of_kind("ReplicaSet", valid("ReplicaSet", &pod_spec(&[UNPINNED])));
    let create = |object: &Value| namespace.post(&path(&namespace, "ReplicaSet"), object);
    assert_eq!(create(&made_up).status, 403);
    made_up["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner",
        "uid": owner["metadata"]["uid"], "controller": true}]);
    create(&made_up).ok();
    eventually("its Pod is refused", || {
        let events = namespace.kubectl(&["get", "events", "--field-selector=reason=FailedCreate"]).ok();
        events.contains("not pinned by digest: containers[c0]")
    });
    assert_eq!(namespace.get(&["pods"])["items"], json!([]));
}
