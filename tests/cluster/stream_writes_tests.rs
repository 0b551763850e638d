//! Writes of image streams by users: what the chart's webhook makes of them on a real API server, and what kubectl says.

use serde_json::{Value, json};

use crate::control_plane::{ControlPlane, Namespace};
use crate::pinstream::Pinstream;
use crate::release::install_custom_resource;
use crate::waiting::eventually;
use crate::webhook::Webhook;

crate::tests![
    new_streams_are_numbered_and_completed,
    applying_again_changes_nothing,
    tags_that_are_not_applied_any_more_are_gone,
    changes_of_a_tag_are_numbered,
    refusals_list_every_error,
    webhook_and_controller_agree_on_numbers,
];

/// A namespace whose image streams pass the webhook of the chart.
struct Guarded<'plane> {
    namespace: Namespace,
    server: Pinstream,
    _webhook: Webhook<'plane>,
}

impl<'plane> Guarded<'plane> {
    fn new(plane: &'plane ControlPlane) -> Self {
        install_custom_resource(plane);
        Self::of(plane, plane.namespace())
    }

    /// Starts to guard a namespace in which streams may be already.
    fn of(plane: &'plane ControlPlane, namespace: Namespace) -> Self {
        let (server, ca) = Pinstream::serve_examples(plane, &namespace.name, &["localhost"]);
        let webhook = Webhook::register_chart(plane, &namespace, server.port, &ca);
        eventually("the API server asks the webhook", || {
            let created = namespace.post(&format!("{}?dryRun=All", path(&namespace)), &stream("dry", &[tag("1", "a")]));
            number(&created.ok(), "1") == Some(1)
        });
        Self { namespace, server, _webhook: webhook }
    }

    fn get(&self, name: &str) -> Value {
        self.namespace.get(&["imagestream", name])
    }

    fn apply(&self, stream: &Value, how: &str) -> String {
        let arguments = ["apply", &format!("--server-side={}", how == "server-side"), "--filename=-"];
        self.namespace.kubectl_with_stdin(&arguments, &stream.to_string()).ok()
    }

    fn patch(&self, name: &str, patch: &Value) -> String {
        let patch = format!("--patch={patch}");
        self.namespace.kubectl(&["patch", "imagestream", name, "--type=json", &patch]).ok()
    }
}

fn path(namespace: &Namespace) -> String {
    format!("/apis/pinstream.dev/v1/namespaces/{}/imagestreams", namespace.name)
}

fn stream(name: &str, tags: &[Value]) -> Value {
    json!({"apiVersion": "pinstream.dev/v1", "kind": "ImageStream", "metadata": {"name": name}, "spec": {"tags": tags}})
}

fn tag(name: &str, image: &str) -> Value {
    json!({"name": name, "from": {"kind": "DockerImage", "name": image}})
}

fn with(mut tag: Value, field: &str, value: impl Into<Value>) -> Value {
    tag[field] = value.into();
    tag
}

fn find<'a>(stream: &'a Value, tag: &str) -> &'a Value {
    let tags = stream["spec"]["tags"].as_array();
    tags.and_then(|tags| tags.iter().find(|found| found["name"] == tag)).unwrap_or(&Value::Null)
}

/// The number of a tag.
fn number(stream: &Value, tag: &str) -> Option<i64> {
    find(stream, tag)["generation"].as_i64()
}

/// The number of the stream and those of its tags `1` and `2`.
fn numbers(stream: &Value) -> [Option<i64>; 3] {
    [stream["metadata"]["generation"].as_i64(), number(stream, "1"), number(stream, "2")]
}

fn new_streams_are_numbered_and_completed(plane: &ControlPlane) {
    let guarded = Guarded::new(plane);
    let second = with(with(tag("2", "q.io/a:2"), "generation", 99), "importPolicy", json!({"scheduled": true}));
    let manifest = stream("app", &[with(tag("1", "q.io/a:1"), "generation", 0), second]);
    guarded.namespace.kubectl_with_stdin(&["create", "--filename=-"], &manifest.to_string()).ok();
    let stored = guarded.get("app");
    assert_eq!(numbers(&stored), [Some(1); 3]);
    assert_eq!(find(&stored, "1")["importPolicy"], json!({"importMode": "PreserveOriginal"}));
    assert_eq!(find(&stored, "2")["importPolicy"], json!({"importMode": "PreserveOriginal", "scheduled": true}));
    assert_eq!(find(&stored, "2")["referencePolicy"], json!({"type": "Source"}));

    let mut unnamed = stream("", &[tag("1", "q.io/a:1")]);
    unnamed["metadata"] = json!({"generateName": "app-"});
    assert_eq!(number(&guarded.namespace.post(&path(&guarded.namespace), &unnamed).ok(), "1"), Some(1));
    let counted = r#"pinstream_admission_requests_total{kind="ImageStream",operation="CREATE",outcome="patched"}"#;
    assert!(guarded.server.metric(counted) >= Some(2.0));
}

fn applying_again_changes_nothing(plane: &ControlPlane) {
    let guarded = Guarded::new(plane);
    for how in ["client-side", "server-side"] {
        // As written by hand, and as copied from a cluster with numbers of long ago.
        for (name, generation) in [("plain", Value::Null), ("copied", json!(99))] {
            let name = format!("{name}-{how}");
            let numbered = |tag| with(tag, "generation", generation.clone());
            let mut manifest = stream(&name, &[numbered(tag("1", "q.io/a:1")), numbered(tag("2", "q.io/a:2"))]);
            guarded.apply(&manifest, how);
            let stored = guarded.get(&name);
            assert_eq!(numbers(&stored), [Some(1); 3], "{name}");
            // It fails if there is one.
            let server_side = format!("--server-side={}", how == "server-side");
            let diff = ["diff", &server_side, "--filename=-"];
            guarded.namespace.kubectl_with_stdin(&diff, &manifest.to_string()).ok();
            guarded.apply(&manifest, how);
            assert_eq!(guarded.get(&name), stored, "{name}");

            manifest["spec"]["tags"][1] = numbered(tag("2", "q.io/a:3"));
            guarded.apply(&manifest, how);
            let changed = guarded.get(&name);
            assert_eq!(numbers(&changed), [Some(2), Some(1), Some(2)], "{name}");
            guarded.apply(&manifest, how);
            assert_eq!(guarded.get(&name), changed, "{name}");
        }
    }
}

fn tags_that_are_not_applied_any_more_are_gone(plane: &ControlPlane) {
    let guarded = Guarded::new(plane);
    for how in ["client-side", "server-side"] {
        let (first, second) = (tag("1", "q.io/a:1"), tag("2", "q.io/a:2"));
        guarded.apply(&stream(how, &[first.clone(), second.clone()]), how);
        guarded.apply(&stream(how, &[second]), how);
        let stored = guarded.get(how);
        assert_eq!((numbers(&stored), find(&stored, "1")), ([Some(2), None, Some(1)], &Value::Null), "{how}");
        guarded.apply(&stream(how, &[first]), how);
        assert_eq!(numbers(&guarded.get(how)), [Some(3), Some(3), None], "{how}");
    }
}

fn changes_of_a_tag_are_numbered(plane: &ControlPlane) {
    let guarded = Guarded::new(plane);
    guarded.apply(&stream("app", &[tag("1", "q.io/a:1"), tag("2", "q.io/a:2")]), "client-side");
    let replace =
        |field: &str, value: Value| json!([{"op": "replace", "path": format!("/spec/tags/0/{field}"), "value": value}]);
    let steps = [
        (replace("from/name", json!("q.io/a:3")), [2, 2, 1]),
        (replace("generation", json!(0)), [3, 3, 1]),
        (replace("generation", json!(99)), [3, 3, 1]),
        (replace("generation", json!(1)), [3, 3, 1]),
        (json!([{"op": "remove", "path": "/spec/tags/0/generation"}]), [3, 3, 1]),
        (replace("importPolicy/importMode", json!("Legacy")), [4, 4, 1]),
        (json!([{"op": "add", "path": "/spec/tags/0/importPolicy/scheduled", "value": true}]), [5, 4, 1]),
        (json!([{"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}]), [5, 4, 1]),
        (
            json!([{"op": "remove", "path": "/spec/tags/1"}, {"op": "add", "path": "/spec/tags/0", "value": tag("2", "q.io/a:2")}]),
            [6, 4, 1],
        ),
    ];
    for (patch, expected) in steps {
        guarded.patch("app", &patch);
        assert_eq!(numbers(&guarded.get("app")), expected.map(Some), "{patch}");
    }
    let status = r#"{"status": {"dockerImageRepository": "r.io/a"}}"#;
    let arguments = ["patch", "imagestream", "app", "--subresource=status", "--type=merge", "--patch", status];
    guarded.namespace.kubectl(&arguments).ok();
    assert_eq!(numbers(&guarded.get("app")), [Some(6), Some(4), Some(1)]);
    guarded.namespace.kubectl(&["delete", "imagestream", "app"]).ok();
}

fn refusals_list_every_error(plane: &ControlPlane) {
    let guarded = Guarded::new(plane);
    let copy = json!({"name": "copy", "from": {"kind": "ImageStreamTag", "name": "a:b:c"}});
    let manifest = stream("app", &[tag("1.0", "https://q.io/a"), tag("2.0", "q.io/a:2"), copy]).to_string();
    let expected = concat!(
        "The ImageStream \"app\" is invalid: \n",
        "* spec.tags[1.0].from.name: Invalid value: \"https://q.io/a\": invalid reference format: a name is lower-case ",
        "letters and digits, separated by '.', '_', '__', '-' or '/'\n",
        "* spec.tags[copy].from.name: Invalid value: \"a:b:c\": must be of the form <tag>, <repo>:<tag>, <id>, or ",
        "<repo>@<id>\n",
    );
    for arguments in [&["create"][..], &["apply"], &["apply", "--server-side"]] {
        let arguments = [arguments, &["--filename=-"]].concat();
        let complaint = guarded.namespace.kubectl_with_stdin(&arguments, &manifest).refused();
        assert_eq!(complaint, expected, "{arguments:?}");
    }
    let answer = guarded.namespace.post(&path(&guarded.namespace), &serde_json::from_str(&manifest).unwrap());
    assert_eq!((answer.status, &answer.body["reason"]), (422, &json!("Invalid")));
    let message = answer.body["message"].as_str().unwrap();
    assert!(
        message.starts_with(
            "admission webhook \"imagestreams.pinstream.dev\" denied the request: ImageStream \"app\" is invalid: ["
        ),
        "{message}"
    );
    // What no stream can be is judged by the custom resource.
    let complaint = guarded.namespace.kubectl_with_stdin(
        &["create", "--validate=false", "--filename=-"],
        &stream("app", &[json!({"name": "1", "from": "q.io/a"})]).to_string(),
    );
    let complaint = complaint.refused();
    assert!(complaint.contains("Warning: pinstream changed nothing: the image stream cannot be read"), "{complaint}");
    assert!(complaint.contains("spec.tags[0].from: Invalid value"), "{complaint}");
    assert!(guarded.server.log().contains("image stream refused"), "{}", guarded.server.log());
}

/// Streams of a control plane of its own, because a controller sees to all of them.
fn webhook_and_controller_agree_on_numbers(plane: &ControlPlane) {
    let plane = &plane.another();
    install_custom_resource(plane);
    let namespace = plane.namespace();
    let reference = |name: &str| with(tag(name, "q.io/a:1"), "reference", true);
    let copy = json!({"name": "2", "from": {"kind": "ImageStreamTag", "name": "1"}});
    let create = |namespace: &Namespace, stream: &Value| namespace.post(&path(namespace), stream).ok();
    // Stored while no webhook answers: without numbers, and one with a tag that would be refused.
    create(&namespace, &stream("unseen", &[reference("1"), copy.clone()]));
    create(&namespace, &stream("wrong", &[reference("1"), tag("2", "Q.io/A")]));
    let guarded = Guarded::of(plane, namespace);
    create(&guarded.namespace, &stream("seen", &[reference("1"), copy]));
    create(
        &guarded.namespace,
        &stream("elsewhere", &[json!({"name": "1", "from": {"kind": "ImageStreamTag", "name": "none:1"}})]),
    );

    let kubeconfig = plane.admin().kubeconfig().display().to_string();
    let controller = Pinstream::start(plane, &["controller"], &[("PINSTREAM_KUBECONFIG", &kubeconfig)]);
    let in_status = |stream: &Value, tag: &str| {
        let tags = stream["status"]["tags"].as_array();
        tags.and_then(|tags| tags.iter().find(|found| found["tag"] == tag)).cloned()
    };
    let settled = |name: &str, tag: &str| {
        eventually(&format!("{tag} of {name} is in the status"), || {
            let stream = guarded.get(name);
            in_status(&stream, tag).is_some().then_some(stream)
        })
    };
    let seen = settled("seen", "2");
    assert_eq!(numbers(&seen), [Some(1); 3]);
    assert_eq!(in_status(&seen, "2").unwrap()["items"][0]["generation"], 1);
    let unseen = settled("unseen", "2");
    assert_eq!(numbers(&unseen), [Some(2); 3]);
    assert_eq!(in_status(&unseen, "1").unwrap()["items"][0]["generation"], 2);
    assert_eq!(numbers(&settled("wrong", "1")), [Some(2); 3]);
    let elsewhere = settled("elsewhere", "1");
    assert_eq!(numbers(&elsewhere)[..2], [Some(1); 2]);
    assert_eq!(in_status(&elsewhere, "1").unwrap()["conditions"][0]["reason"], "NotFound");

    // A change is seen to by both, once by each.
    guarded.patch("seen", &json!([{"op": "replace", "path": "/spec/tags/0/from/name", "value": "q.io/a:2"}]));
    let moved = eventually("the change is in the status", || {
        let stream = guarded.get("seen");
        (in_status(&stream, "1").unwrap()["items"][0]["dockerImageReference"] == "q.io/a:2").then_some(stream)
    });
    assert_eq!(numbers(&moved), [Some(2), Some(2), Some(1)]);
    drop(controller);
    let _next = Pinstream::start(plane, &["controller"], &[("PINSTREAM_KUBECONFIG", &kubeconfig)]);
    create(&guarded.namespace, &stream("last", &[reference("1")]));
    settled("last", "1");
    let found = ["seen", "unseen", "wrong"].map(|name| numbers(&guarded.get(name)));
    assert_eq!(found, [numbers(&moved), [Some(2); 3], [Some(2); 3]]);
}
