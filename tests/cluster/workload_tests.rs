//! That every kind of workload ends up with the digest, whichever way people write it, and goes back when they go back.

use std::time::Duration;

use serde_json::{Value, json};

use crate::control_plane::{ControlPlane, Namespace};
use crate::release::{PINNED, Reach, Release, image_of_pod};
use crate::waiting::{eventually, eventually_within};

crate::tests![every_kind_of_workload_is_pinned, every_way_to_write_a_deployment_brings_the_expected_image, pin_modes];

/// The image of the example stream `tools:1.36`.
const TOOLS: &str = "docker.io/library/busybox@sha256:2a1c9b8d7e6f5040312213243546576879808a9babcbdcedfe0f1e2d3c4b5a69";

fn every_kind_of_workload_is_pinned(plane: &ControlPlane) {
    let release = Release::install(plane, Reach::Service, &json!({}));
    let namespace = release.working_namespace(&json!({}));
    // First, because its controller makes a Job no sooner than at the next full minute.
    let minutely = json!({"template": pod_template("minutely", "Never")});
    create(
        &namespace,
        &json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "minutely"},
            "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": minutely}}}),
    );

    namespace.kubectl(&["create", "deployment", "mykeycloak", "--image=keycloak:20.0"]).ok();
    assert_eq!(template_image(&namespace.get(&["deployment", "mykeycloak"])), PINNED);
    assert_eq!(image_of_first_pod(&namespace, "app=mykeycloak"), PINNED);
    let replica_sets = namespace.get(&["replicasets"]);
    assert_eq!(replica_sets["items"].as_array().unwrap().len(), 1);
    assert_eq!(template_image(&replica_sets["items"][0]), PINNED);

    for (version, kind, more) in [
        ("apps/v1", "StatefulSet", json!({"serviceName": "none"})),
        ("apps/v1", "DaemonSet", json!({})),
        ("apps/v1", "ReplicaSet", json!({})),
        ("v1", "ReplicationController", json!({})),
        ("batch/v1", "Job", json!({})),
    ] {
        let name = kind.to_lowercase();
        create(&namespace, &templated(version, kind, &name, &more));
        assert_eq!(template_image(&namespace.get(&[&name, &name])), PINNED, "{kind}");
        assert_eq!(image_of_first_pod(&namespace, &format!("app={name}")), PINNED, "{kind}");
    }

    let job = &namespace.get(&["cronjob", "minutely"])["spec"]["jobTemplate"];
    assert_eq!(template_image(job), PINNED);
    namespace.kubectl(&["create", "job", "by-hand", "--from=cronjob/minutely"]).ok();
    assert_eq!(template_image(&namespace.get(&["job", "by-hand"])), PINNED);

    namespace.kubectl(&["run", "bare", "--image=keycloak:20.0"]).ok();
    assert_eq!(namespace.get(&["pod", "bare"])["spec"]["containers"][0]["image"], PINNED);
    namespace.kubectl(&["debug", "bare", "--image=tools:1.36", "--container=debugger", "--attach=false"]).ok();
    assert_eq!(namespace.get(&["pod", "bare"])["spec"]["ephemeralContainers"][0]["image"], TOOLS);

    create(
        &namespace,
        &json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "with-volume"}, "spec": {
            "containers": [{"name": "main", "image": "registry.example/app:1", "volumeMounts": [{"name": "tools", "mountPath": "/tools"}]}],
            "volumes": [{"name": "tools", "image": {"reference": "tools:1.36"}}]}}),
    );
    let pod = namespace.get(&["pod", "with-volume"]);
    assert_eq!(pod["spec"]["containers"][0]["image"], "registry.example/app:1");
    let reference =
        pod["spec"]["volumes"].as_array().unwrap().iter().find_map(|volume| volume["image"]["reference"].as_str());
    assert_eq!(reference, Some(TOOLS));

    let job = eventually_within(Duration::from_mins(2), "the CronJob has made a Job", || {
        let jobs = namespace.get(&["jobs"])["items"].as_array().unwrap().clone();
        jobs.into_iter().find(|job| job["metadata"]["name"].as_str().unwrap().starts_with("minutely-"))
    });
    assert_eq!(template_image(&job), PINNED);
    let name = job["metadata"]["name"].as_str().unwrap();
    assert_eq!(image_of_first_pod(&namespace, &format!("job-name={name}")), PINNED);
}

fn every_way_to_write_a_deployment_brings_the_expected_image(plane: &ControlPlane) {
    let release = Release::install(plane, Reach::Service, &json!({}));
    let namespace = release.working_namespace(&json!({}));
    let image = |name: &str| template_image(&namespace.get(&["deployment", name])).as_str().unwrap().to_owned();
    let generation = |name: &str| namespace.get(&["deployment", name])["metadata"]["generation"].as_i64().unwrap();

    for (name, flags) in [("applied", &[][..]), ("server-side", &["--server-side"][..])] {
        let manifest = templated("apps/v1", "Deployment", name, &json!({})).to_string();
        let apply = || namespace.kubectl_with_stdin(&[&["apply", "--filename=-"], flags].concat(), &manifest).ok();
        apply();
        assert_eq!(image(name), PINNED, "{name}");
        eventually("the controller has seen it", || {
            namespace.get(&["deployment", name])["status"]["observedGeneration"] == 1
        });
        apply();
        assert_eq!((image(name).as_str(), generation(name)), (PINNED, 1), "{name}");
    }

    let dry = templated("apps/v1", "Deployment", "dry", &json!({})).to_string();
    let dry = namespace.kubectl_with_stdin(&["apply", "--dry-run=server", "--output=json", "--filename=-"], &dry).ok();
    assert_eq!(template_image(&serde_json::from_str(&dry).unwrap()), PINNED);

    namespace.kubectl(&["set", "image", "deployment/applied", "main=tools:1.36"]).ok();
    assert_eq!(image("applied"), TOOLS);
    eventually("the new revision has its ReplicaSet", || {
        namespace.get(&["replicasets", "--selector=app=applied"])["items"].as_array().unwrap().len() == 2
    });
    namespace.kubectl(&["rollout", "undo", "deployment/applied"]).ok();
    assert_eq!(image("applied"), PINNED);
}

fn pin_modes(plane: &ControlPlane) {
    let release = Release::install(plane, Reach::Service, &json!({}));
    let _ready = release.working_namespace(&json!({}));

    let namespace = release.user_namespace(&json!({"pinstream.dev/pin": "pod"}));
    eventually("Pods are pinned", || image_of_pod(&namespace, "keycloak:20.0") == PINNED);
    let manifest = templated("apps/v1", "Deployment", "web", &json!({})).to_string();
    for _ in 0..3 {
        namespace.kubectl_with_stdin(&["apply", "--filename=-"], &manifest).ok();
        let deployment = namespace.get(&["deployment", "web"]);
        assert_eq!(
            (template_image(&deployment), &deployment["metadata"]["generation"]),
            (&json!("keycloak:20.0"), &json!(1))
        );
    }
    assert_eq!(namespace.kubectl_with_stdin(&["diff", "--filename=-"], &manifest).ok(), "");
    assert_eq!(image_of_first_pod(&namespace, "app=web"), PINNED);
    assert_eq!(namespace.get(&["replicasets"])["items"].as_array().unwrap().len(), 1);

    let namespace = release.user_namespace(&json!({"pinstream.dev/pin": "off"}));
    namespace.kubectl_with_stdin(&["apply", "--filename=-"], &manifest).ok();
    assert_eq!(template_image(&namespace.get(&["deployment", "web"])), "keycloak:20.0");
    assert_eq!(image_of_first_pod(&namespace, "app=web"), "keycloak:20.0");
}

fn create(namespace: &Namespace, object: &Value) {
    namespace.kubectl_with_stdin(&["create", "--filename=-"], &object.to_string()).ok();
}

/// An object with a pod template that has the short name `keycloak:20.0`.
fn templated(version: &str, kind: &str, name: &str, more: &Value) -> Value {
    let restart = if kind == "Job" { "Never" } else { "Always" };
    let mut object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name},
        "spec": {"template": pod_template(name, restart)}});
    match kind {
        "Job" => {}
        "ReplicationController" => object["spec"]["selector"] = json!({"app": name}),
        _ => object["spec"]["selector"] = json!({"matchLabels": {"app": name}}),
    }
    for (key, value) in more.as_object().unwrap() {
        object["spec"][key] = value.clone();
    }
    object
}

fn pod_template(app: &str, restart: &str) -> Value {
    json!({"metadata": {"labels": {"app": app}},
        "spec": {"restartPolicy": restart, "containers": [{"name": "main", "image": "keycloak:20.0"}]}})
}

fn template_image(object: &Value) -> &Value {
    &object["spec"]["template"]["spec"]["containers"][0]["image"]
}

/// The image of the first Pod that a controller makes.
fn image_of_first_pod(namespace: &Namespace, selector: &str) -> String {
    let selector = format!("--selector={selector}");
    eventually(&format!("there is a Pod with {selector}"), || {
        let pods = namespace.get(&["pods", &selector]);
        pods["items"][0]["spec"]["containers"][0]["image"].as_str().map(str::to_owned)
    })
}
