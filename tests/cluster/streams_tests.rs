//! Image streams in a cluster: what the custom resource takes, refuses and shows, and that `pinstream webhook` follows
//! what happens to streams and to the API server.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::blocking::Client;
use reqwest::{Certificate, Method};
use serde_json::{Value, json};

use crate::control_plane::{ControlPlane, Namespace};
use crate::pinstream::Pinstream;
use crate::release::install_custom_resource;
use crate::user::User;
use crate::waiting::eventually;

crate::tests![
    columns_are_shown,
    invalid_streams_are_refused_with_a_reason,
    streams_that_openshift_wrote_are_taken_and_given_back_unchanged,
    streams_are_followed_as_they_come_change_and_go,
    the_webhook_waits_for_rights_and_resource_and_outlives_the_api_server,
    openshift_streams_are_preferred_and_a_bad_one_keeps_its_last_good_version,
];

/// The verbs that are enough, and no other.
const READER: &str = "pinstream-test-reader";

/// Installs the custom resource of the chart, and waits until it is served.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A ServiceAccount of a namespace that may list and watch image streams.
fn reader(plane: &ControlPlane, namespace: &str) -> User {
    let admin = plane.admin();
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": READER},
        "rules": [{"apiGroups": ["pinstream.dev", "image.openshift.io"], "resources": ["imagestreams"],
            "verbs": ["list", "watch"]}]});
    admin.kubectl_with_stdin(&["apply", "--server-side", "--filename=-"], &role.to_string()).ok();
    let account = format!("--serviceaccount={namespace}:default");
    admin.kubectl(&["create", "clusterrolebinding", &plane.unique("reader"), "--clusterrole", READER, &account]).ok();
    plane.service_account(namespace, "default")
}

/// `pinstream webhook` with a certificate for `localhost`.
struct Webhook {
    server: Pinstream,
    client: Client,
}

impl Webhook {
    fn start(plane: &ControlPlane, user: &User, source: &str, start: Start) -> Self {
        let certificates = plane.folder("certificates");
        let mut certs = assert_cmd::Command::new(env!("CARGO_BIN_EXE_pinstream"));
        certs.args(["certs", "localhost", "--out"]).arg(&certificates).assert().success();
        let file = |name: &str| certificates.join(name).display().to_string();
        let kubeconfig = user.kubeconfig().display().to_string();
        let environment = [
            ("PINSTREAM_TLS_CERT", &*file("tls.crt")),
            ("PINSTREAM_TLS_KEY", &*file("tls.key")),
            ("PINSTREAM_KUBECONFIG", &*kubeconfig),
            ("PINSTREAM_SOURCE", source),
        ];
        let ca = Certificate::from_pem(&std::fs::read(certificates.join("ca.crt")).unwrap()).unwrap();
        let client = Client::builder().tls_certs_only([ca]).no_proxy().build().unwrap();
        Self { server: start(plane, &["webhook"], &environment), client }
    }

    /// What a Pod's image becomes.
    fn resolve(&self, namespace: &str, image: &str) -> String {
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
            "uid": "1", "operation": "CREATE", "namespace": namespace, "kind": {"group": "", "kind": "Pod"},
            "object": {"spec": {"containers": [{"name": "c", "image": image}]}}}});
        let url = format!("https://localhost:{}/mutate/pod", self.server.port);
        let answer = self.client.post(url).header("Content-Type", "application/json").body(review.to_string()).send();
        let answer: Value = serde_json::from_str(&answer.unwrap().text().unwrap()).unwrap();
        let Some(patch) = answer["response"]["patch"].as_str() else { return image.to_owned() };
        let patch: Value = serde_json::from_slice(&STANDARD.decode(patch).unwrap()).unwrap();
        patch[0]["value"].as_str().unwrap().to_owned()
    }

    fn age(&self) -> f64 {
        self.server.metric("pinstream_source_age_seconds").unwrap()
    }

    fn is_ready(&self) -> bool {
        self.server.admin("/readyz").0 == 200
    }
}

type Start = fn(&ControlPlane, &[&str], &[(&str, &str)]) -> Pinstream;

/// A pull spec whose digest repeats one hex digit.
fn image(digit: char) -> String {
    format!("quay.io/demo/app@sha256:{}", digit.to_string().repeat(64))
}

/// A stream with look-up whose tag `1` has an image.
fn stream(group: &str, name: &str, digit: char) -> Value {
    let digest = image(digit).split_once('@').map(|(_, digest)| digest.to_owned());
    json!({"apiVersion": format!("{group}/v1"), "kind": "ImageStream", "metadata": {"name": name},
        "spec": {"lookupPolicy": {"local": true}},
        "status": {"dockerImageRepository": "", "tags": [{"tag": "1", "items": [{"created": "2026-01-01T00:00:00Z",
            "dockerImageReference": image(digit), "image": digest, "generation": 1}]}]}})
}

fn path(group: &str, namespace: &str) -> String {
    format!("/apis/{group}/v1/namespaces/{namespace}/imagestreams")
}

/// Creates a stream and writes its status.
fn create(namespace: &Namespace, stream: &Value) -> Value {
    let path = path("pinstream.dev", &namespace.name);
    let mut created = namespace.post(&path, stream).ok();
    created["status"] = stream["status"].clone();
    let path = format!("{path}/{}/status", created["metadata"]["name"].as_str().unwrap());
    namespace.ask(&Method::PUT, &path, Some(&created)).unwrap().ok()
}

fn delete(user: &User, group: &str, namespace: &str, name: &str) {
    let path = format!("{}/{name}", path(group, namespace));
    user.ask(&Method::DELETE, &path, None).unwrap().ok();
}

fn columns_are_shown(plane: &ControlPlane) {
    install_custom_resource(plane);
    let namespace = plane.namespace();
    let mut app = stream("pinstream.dev", "app", 'a');
    app["status"]["dockerImageRepository"] = "r.io/demo/app".into();
    create(&namespace, &app);
    let columns = |line: &str| {
        let cells = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty());
        cells.map(str::to_owned).collect::<Vec<_>>()
    };
    let table = namespace.kubectl(&["get", "is"]).ok();
    let lines: Vec<_> = table.lines().map(columns).collect();
    assert_eq!(lines[0], ["NAME", "REPOSITORY", "TAGS (FIRST)", "LOCAL LOOKUP", "UPDATED", "AGE"]);
    assert_eq!(lines[1][..4], ["app", "r.io/demo/app", "1", "true"]);
    assert!(lines[1].len() == 6 && lines[1][4..].iter().all(|age| age.ends_with('s')), "{table}");
    assert!(namespace.kubectl(&["get", "all"]).ok().contains("imagestream.pinstream.dev/app"));
    let explained = namespace.kubectl(&["explain", "imagestream.spec.tags.referencePolicy.type"]).ok();
    assert!(explained.contains("\"Local\": From the registry that serves the streams."), "{explained}");
}

fn invalid_streams_are_refused_with_a_reason(plane: &ControlPlane) {
    install_custom_resource(plane);
    let namespace = plane.namespace();
    let tag = |tag: Value| json!({"tags": [tag]});
    let from = |kind: &str, name: &str| json!({"kind": kind, "name": name});
    let cases = [
        (
            tag(json!({"name": "a b"})),
            "spec.tags[0].name: Invalid value: \"a b\": a tag is a letter, digit or '_', then",
        ),
        (tag(json!({"name": "x".repeat(129)})), "spec.tags[0].name: Too long: may not be more than 128 bytes"),
        (json!({"tags": [{"name": "1"}, {"name": "1"}]}), "spec.tags[1]: Duplicate value: {\"name\":\"1\"}"),
        (
            tag(json!({"name": "1", "referencePolicy": {"type": "Elsewhere"}})),
            "spec.tags[0].referencePolicy.type: Unsupported value: \"Elsewhere\": supported values: \"Source\", \"Local\"",
        ),
        (
            tag(json!({"name": "1", "from": from("Image", "x")})),
            "spec.tags[0].from.kind: Unsupported value: \"Image\": supported values: \"DockerImage\", \"ImageStreamTag\"",
        ),
        (tag(json!({"name": "1", "from": {"name": "x"}})), "spec.tags[0].from.kind: Required value"),
        (
            tag(json!({"name": "1", "from": from("DockerImage", "a b")})),
            "spec.tags[0].from.name: Invalid value: \"a b\": a name has no spaces",
        ),
        (
            tag(json!({"name": "1", "from": from("ImageStreamTag", "a:b"), "importPolicy": {"scheduled": true}})),
            "spec.tags[0].importPolicy.scheduled: Invalid value: only a tag from a DockerImage may be scheduled",
        ),
        (
            tag(json!({"name": "1", "importPolicy": {"importMode": "Some"}})),
            "importMode: Unsupported value: \"Some\": supported values: \"\", \"Legacy\", \"PreserveOriginal\"",
        ),
        (
            json!({"dockerImageRepository": "quay.io/a/b:1"}),
            "spec.dockerImageRepository: Invalid value: \"quay.io/a/b:1\": a repository is written without a tag",
        ),
        (json!({"lookupPolicy": {"lokal": true}}), "unknown field \"spec.lookupPolicy.lokal\""),
    ];
    for (spec, reason) in cases {
        let stream =
            json!({"apiVersion": "pinstream.dev/v1", "kind": "ImageStream", "metadata": {"name": "app"}, "spec": spec});
        let complaint = namespace.kubectl_with_stdin(&["create", "--filename=-"], &stream.to_string()).refused();
        assert!(complaint.contains(reason), "{spec}: {complaint}");
    }
    let mut app = create(&namespace, &stream("pinstream.dev", "app", 'a'));
    app["status"]["tags"][0]["items"][0]["image"] = "sha256:1".into();
    let complaint =
        namespace.kubectl_with_stdin(&["replace", "--subresource=status", "--filename=-"], &app.to_string()).refused();
    assert!(complaint.contains("status.tags[0].items[0].image: Invalid value: \"sha256:1\""), "{complaint}");
}

/// Every image stream in any JSON value.
fn streams_in(value: &Value, found: &mut Vec<Value>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| streams_in(value, found)),
        Value::Object(fields) if value["kind"] == "ImageStream" && fields.contains_key("status") => {
            found.push(value.clone());
        }
        Value::Object(fields) => fields.values().for_each(|value| streams_in(value, found)),
        _ => {}
    }
}

fn streams_that_openshift_wrote_are_taken_and_given_back_unchanged(plane: &ControlPlane) {
    install_custom_resource(plane);
    let namespace = plane.namespace();
    let mut recorded = Vec::new();
    for file in ["writes.json", "admission-with-registry.json", "admission-without-registry.json"] {
        let text = std::fs::read_to_string(repository("tests/conformance").join(file)).unwrap();
        let before = recorded.len();
        let recording: Value = serde_json::from_str(&text).unwrap();
        match recording.as_array() {
            Some(writes) => writes.iter().for_each(|write| streams_in(&write["response"], &mut recorded)),
            None => streams_in(&recording["streams"], &mut recorded),
        }
        assert!(recorded.len() >= before + 9, "{file}");
    }
    for (number, mut manifest) in recorded.into_iter().enumerate() {
        let name = format!("recorded-{number}");
        manifest["apiVersion"] = "pinstream.dev/v1".into();
        manifest["metadata"]["namespace"] = namespace.name.as_str().into();
        manifest["metadata"]["name"] = name.as_str().into();
        let path = path("pinstream.dev", &namespace.name);
        // By kubectl as users do it, and otherwise as kubectl does it: unknown fields are refused.
        if number % 10 == 0 {
            namespace.kubectl_with_stdin(&["create", "--filename=-"], &manifest.to_string()).ok();
        } else {
            manifest["metadata"].as_object_mut().unwrap().remove("resourceVersion");
            namespace.post(&format!("{path}?fieldValidation=Strict"), &manifest).ok();
        }
        if number % 10 == 0 {
            for field in ["resourceVersion", "uid"] {
                manifest["metadata"].as_object_mut().unwrap().remove(field);
            }
            let arguments = ["replace", "--subresource=status", "--filename=-"];
            namespace.kubectl_with_stdin(&arguments, &manifest.to_string()).ok();
        } else {
            let mut stored = namespace.ask(&Method::GET, &format!("{path}/{name}"), None).unwrap().ok();
            stored["status"] = manifest["status"].clone();
            let path = format!("{path}/{name}/status?fieldValidation=Strict");
            namespace.ask(&Method::PUT, &path, Some(&stored)).unwrap().ok();
        }
        let stored = namespace.ask(&Method::GET, &format!("{path}/{name}"), None).unwrap().ok();
        assert_eq!((&stored["spec"], &stored["status"]), (&manifest["spec"], &manifest["status"]), "{manifest}");
    }
}

fn streams_are_followed_as_they_come_change_and_go(plane: &ControlPlane) {
    install_custom_resource(plane);
    let namespace = plane.namespace();
    let user = reader(plane, &namespace.name);
    create(&namespace, &stream("pinstream.dev", "first", 'a'));
    // More than one page.
    for number in 0..120 {
        let stream = stream("pinstream.dev", &format!("more-{number}"), 'a');
        namespace.post(&path("pinstream.dev", &namespace.name), &stream).ok();
    }
    let webhook = Webhook::start(plane, &user, "auto", Pinstream::start);
    let resolve = |image: &str| webhook.resolve(&namespace.name, image);
    assert_eq!(resolve("first:1"), image('a'), "it is ready only when it knows what was there before");
    assert!(webhook.server.metric("pinstream_index_streams").is_some_and(|streams| streams > 120.0));
    assert!(webhook.age().abs() < f64::EPSILON);

    let mut app = create(&namespace, &stream("pinstream.dev", "app", 'b'));
    eventually("the new stream is known", || resolve("app:1") == image('b'));
    app["status"] = stream("pinstream.dev", "app", 'c')["status"].clone();
    let status = format!("{}/app/status", path("pinstream.dev", &namespace.name));
    let app = namespace.ask(&Method::PUT, &status, Some(&app)).unwrap().ok();
    assert_eq!(app["metadata"]["generation"], 1);
    eventually("the new image is known", || resolve("app:1") == image('c'));

    namespace
        .kubectl(&["patch", "is/app", "--type=merge", "--patch", r#"{"spec": {"lookupPolicy": {"local": false}}}"#])
        .ok();
    eventually("look-up is off", || resolve("app:1") == "app:1");
    delete(&namespace, "pinstream.dev", &namespace.name, "first");
    eventually("the deleted stream is gone", || resolve("first:1") == "first:1");
    assert!(webhook.server.terminate().success());
}

fn the_webhook_waits_for_rights_and_resource_and_outlives_the_api_server(plane: &ControlPlane) {
    let plane = &plane.another();
    let namespace = plane.namespace();
    let nobody = plane.service_account(&namespace.name, "default");
    let webhook = Webhook::start(plane, &nobody, "auto", Pinstream::start_alive);
    let logs = |text: &str| webhook.server.log().contains(text);
    eventually("the missing rights are named", || {
        logs("allow get, list and watch on imagestreams.pinstream.dev in all namespaces")
    });
    assert!(!webhook.is_ready() && webhook.age() > 0.0);
    reader(plane, &namespace.name);
    eventually("the missing resource is named", || {
        logs("the cluster has no imagestreams.pinstream.dev; install the custom resource: pinstream crd |")
    });
    assert!(!webhook.is_ready());
    install_custom_resource(plane);
    eventually("it is ready", || webhook.is_ready());

    create(&namespace, &stream("pinstream.dev", "stays", 'a'));
    create(&namespace, &stream("pinstream.dev", "goes", 'b'));
    let resolve = |image: &str| webhook.resolve(&namespace.name, image);
    eventually("the streams are known", || resolve("stays:1") == image('a') && resolve("goes:1") == image('b'));
    assert!(webhook.age().abs() < f64::EPSILON);

    plane.stop_api_server();
    eventually("the loss is seen", || webhook.age() > 1.0);
    eventually("the loss is logged", || logs("the last known ones stay in force"));
    assert_eq!(resolve("stays:1"), image('a'));
    assert!(webhook.is_ready());
    assert_eq!(webhook.server.metric("pinstream_source_synced"), Some(0.0));

    plane.start_api_server();
    // For a moment it refuses: its storage is being made ready.
    let goes = format!("{}/goes", path("pinstream.dev", &namespace.name));
    eventually("the API server takes a deletion", || {
        namespace.ask(&Method::DELETE, &goes, None).is_ok_and(|answer| answer.status == 200)
    });
    create(&namespace, &stream("pinstream.dev", "comes", 'c'));
    eventually("what happened meanwhile is known", || {
        resolve("comes:1") == image('c') && resolve("goes:1") == "goes:1"
    });
    assert_eq!(resolve("stays:1"), image('a'));
    eventually("the watch is up", || webhook.age() == 0.0);
    assert!(webhook.server.terminate().success());
}

/// A resource like OpenShift's, which takes whatever it is given.
pub fn install_openshift(plane: &ControlPlane) {
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "imagestreams.image.openshift.io"},
        "spec": {"group": "image.openshift.io", "scope": "Namespaced",
            "names": {"kind": "ImageStream", "plural": "imagestreams"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}});
    plane.admin().post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).ok();
    plane.admin().kubectl(&["wait", "--for=condition=Established", "crd/imagestreams.image.openshift.io"]).ok();
}

fn openshift_streams_are_preferred_and_a_bad_one_keeps_its_last_good_version(plane: &ControlPlane) {
    let plane = &plane.another();
    install_custom_resource(plane);
    install_openshift(plane);
    let namespace = plane.namespace();
    let user = reader(plane, &namespace.name);
    create(&namespace, &stream("pinstream.dev", "app", 'b'));
    let openshift = path("image.openshift.io", &namespace.name);
    for name in ["app", "other"] {
        namespace.post(&openshift, &stream("image.openshift.io", name, 'a')).ok();
    }
    let mut never_good = stream("image.openshift.io", "bad", 'a');
    never_good["spec"]["tags"] = json!([{"name": "1", "importPolicy": {"importMode": "Sometimes"}}]);
    namespace.post(&openshift, &never_good).ok();

    for (source, expected) in [("openshift", 'a'), ("pinstream", 'b'), ("auto", 'a')] {
        let webhook = Webhook::start(plane, &user, source, Pinstream::start);
        assert_eq!(webhook.resolve(&namespace.name, "app:1"), image(expected), "{source}");
    }
    let webhook = Webhook::start(plane, &user, "auto", Pinstream::start);
    let problems = || webhook.server.metric("pinstream_source_problems");
    let passed_over = format!("image stream cannot be read and is passed over stream={}/bad", namespace.name);
    assert!(webhook.server.log().contains(&passed_over), "{}", webhook.server.log());
    assert_eq!((problems(), webhook.resolve(&namespace.name, "bad:1")), (Some(1.0), "bad:1".to_owned()));

    let spoil = json!({"status": {"tags": [{"tag": "1", "items": "none"}]}});
    namespace.ask(&Method::PATCH, &format!("{openshift}/app"), Some(&spoil)).unwrap().ok();
    eventually("the bad stream is counted", || problems() == Some(2.0));
    assert_eq!(webhook.resolve(&namespace.name, "app:1"), image('a'));
    let kept = format!("its last good version stays in force stream={}/app", namespace.name);
    assert!(webhook.server.log().contains(&kept), "{}", webhook.server.log());

    delete(&namespace, "image.openshift.io", &namespace.name, "app");
    eventually("the bad stream is gone", || webhook.resolve(&namespace.name, "app:1") == "app:1");
    delete(&namespace, "image.openshift.io", &namespace.name, "bad");
    eventually("nothing is bad any more", || problems() == Some(0.0));
    assert_eq!(webhook.resolve(&namespace.name, "other:1"), image('a'));
}
