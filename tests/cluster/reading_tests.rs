//! Commands that read, on a cluster: objects of its API group, images that are resources, Pods that run, rights that are
//! missing. What is the same over a directory is tested there.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use reqwest::Method;
use serde_json::{Value, json};

use crate::control_plane::{ControlPlane, Namespace};
use crate::release::install_custom_resource;
use crate::streams_tests::install_openshift;
use crate::user::User;

crate::tests![
    streams_and_tags_are_read_from_the_cluster_of_the_kubeconfig,
    history_counts_the_pods_that_run_an_image,
    changes_of_a_cluster_are_watched,
    missing_rights_are_named,
    streams_of_openshifts_group_are_read_as_they_are,
];

/// The digest that repeats one hex digit.
fn digest(digit: &str) -> String {
    format!("sha256:{}", digit.repeat(64))
}

/// The pull spec of that digest.
fn image(digit: &str) -> String {
    format!("quay.io/demo/app@{}", digest(digit))
}

/// A stream whose tag `1` points to image `a` now and pointed to `b` before.
fn stream(group: &str) -> Value {
    let item = |digit: &str| {
        json!({"created": "2026-01-01T00:00:00Z", "dockerImageReference": image(digit),
        "image": digest(digit), "generation": 1})
    };
    json!({"apiVersion": format!("{group}/v1"), "kind": "ImageStream",
        "metadata": {"name": "app", "labels": {"team": "web"}},
        "spec": {"tags": [{"name": "1", "generation": 1, "from": {"kind": "DockerImage", "name": "quay.io/demo/app:1"}}]},
        "status": {"dockerImageRepository": "", "tags": [{"tag": "1", "items": [item("a"), item("b")]}]}})
}

/// Creates the stream and writes its status.
fn create(namespace: &Namespace) {
    let path = format!("/apis/pinstream.dev/v1/namespaces/{}/imagestreams", namespace.name);
    let mut created = namespace.post(&path, &stream("pinstream.dev")).ok();
    created["status"] = stream("pinstream.dev")["status"].clone();
    namespace.ask(&Method::PUT, &format!("{path}/app/status"), Some(&created)).unwrap().ok();
}

/// Makes known what image `a` is.
fn create_image(admin: &User) {
    let resource = json!({"apiVersion": "pinstream.dev/v1", "kind": "Image",
        "metadata": {"name": digest("a").replace(':', "-")}, "dockerImageReference": image("a"),
        "dockerImageMetadata": {"kind": "DockerImage", "apiVersion": "image.openshift.io/1.0", "Id": "sha256:cc",
            "Architecture": "amd64", "Size": 568, "Config": {"Entrypoint": ["/hello"]}},
        "dockerImageMetadataVersion": "1.0",
        "dockerImageLayers": [{"name": "sha256:dd", "size": 107, "mediaType": "l"}]});
    admin.kubectl_with_stdin(&["apply", "--server-side", "--filename=-"], &resource.to_string()).ok();
}

fn pinstream(kubeconfig: &Path, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pinstream"));
    command.args(line.split(' ')).env_clear().env("KUBECONFIG", kubeconfig).stdin(Stdio::null());
    command
}

/// What a command of a user prints, and what it complains with which exit code.
fn run(user: &User, line: &str) -> Result<String, (Option<i32>, String)> {
    let output = pinstream(user.kubeconfig(), line).output().unwrap();
    let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    if output.status.success() { Ok(stdout) } else { Err((output.status.code(), stderr)) }
}

fn object(user: &User, line: &str) -> Value {
    serde_json::from_str(&run(user, line).unwrap()).unwrap()
}

/// The cells of each line of a table.
fn cells(table: &str) -> Vec<Vec<&str>> {
    let cells = |line| str::split(line, "   ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
    table.lines().map(cells).collect()
}

fn streams_and_tags_are_read_from_the_cluster_of_the_kubeconfig(plane: &ControlPlane) {
    install_custom_resource(plane);
    create_image(plane.admin());
    let (namespace, other) = (plane.namespace(), plane.namespace());
    create(&namespace);
    create(&other);

    let table = run(&namespace, "get is").unwrap();
    assert_eq!(cells(&table)[0], ["NAME", "IMAGE REPOSITORY", "TAGS", "UPDATED"]);
    assert_eq!((cells(&table).len(), &cells(&table)[1][..2]), (2, &["app", "1"][..]));
    let all = run(&namespace, "get istag -A -l team=web").unwrap();
    for namespace in [&namespace, &other] {
        let line = [namespace.name.as_str(), "app:1", &image("a")];
        assert!(cells(&all).iter().any(|cells| cells[..3] == line), "{all}");
    }

    let got = object(&namespace, "get is app -o json");
    assert_eq!(got["apiVersion"], "pinstream.dev/v1");
    assert!(got["metadata"]["uid"].is_string() && got["metadata"].get("managedFields").is_none(), "{got}");
    let got = object(&namespace, "get istag app:1 -o json");
    assert_eq!(got["image"]["metadata"]["name"], digest("a").as_str());
    assert_eq!(got["image"]["dockerImageMetadata"]["Size"], 568);
    assert_eq!(
        run(&other, &format!("get is -n {} -o name", namespace.name)).unwrap(),
        "imagestream.pinstream.dev/app\n"
    );

    let described = run(&namespace, "describe is app").unwrap();
    let tag = format!("1\n  tagged from quay.io/demo/app:1\n\n  * {}\n", image("a"));
    assert!(described.contains("\nCreated:\t\t") && described.contains(&tag), "{described}");
    let described = run(&namespace, "describe istag app:1").unwrap();
    for line in ["Created:\t", "Image Size:\t568B in 1 layers", "Layers:\t\t107B\tsha256:dd", "Entrypoint:\t/hello"] {
        assert!(described.lines().any(|described| described.starts_with(line)), "{line}: {described}");
    }

    let miss = format!(
        "pinstream: there is no image stream none in namespace {}; make it with: pinstream create is none\n",
        namespace.name
    );
    for line in ["get is none", "describe is none", "history none:1"] {
        assert_eq!(run(&namespace, line), Err((Some(1), miss.clone())), "{line}");
    }
}

fn history_counts_the_pods_that_run_an_image(plane: &ControlPlane) {
    install_custom_resource(plane);
    let namespace = plane.namespace();
    create(&namespace);
    let table = run(&namespace, "history app:1").unwrap();
    assert_eq!(cells(&table)[0], ["NUMBER", "UPDATED", "TAGS", "PODS", "IMAGE REFERENCE"]);
    let pods = || {
        let history = object(&namespace, "history app:1 -o json");
        let items = history["items"].as_array().unwrap().iter();
        items.map(|item| (item["image"].clone(), item["pods"].as_u64().unwrap())).collect::<Vec<_>>()
    };
    let expected = |new: u64, old: u64| vec![(digest("a").into(), new), (digest("b").into(), old)];
    assert_eq!(pods(), expected(0, 0));
    for (name, digit) in [("one", "a"), ("two", "a"), ("old", "b"), ("other", "c")] {
        namespace.kubectl(&["run", name, &format!("--image={}", image(digit))]).ok();
    }
    assert_eq!(pods(), expected(2, 1));
}

fn changes_of_a_cluster_are_watched(plane: &ControlPlane) {
    install_custom_resource(plane);
    let namespace = plane.namespace();
    namespace.kubectl_with_stdin(&["create", "--filename=-"], &stream("pinstream.dev").to_string()).ok();
    let mut watching = pinstream(namespace.kubeconfig(), "get is -o name -w").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "imagestream.pinstream.dev/app");
    let mut second = stream("pinstream.dev");
    second["metadata"]["name"] = "second".into();
    namespace.kubectl_with_stdin(&["create", "--filename=-"], &second.to_string()).ok();
    assert_eq!(lines.next().unwrap(), "imagestream.pinstream.dev/second");
    namespace.kubectl(&["label", "is/app", "tier=front"]).ok();
    assert_eq!(lines.next().unwrap(), "imagestream.pinstream.dev/app");
    watching.kill().unwrap();
    watching.wait().unwrap();
}

fn missing_rights_are_named(plane: &ControlPlane) {
    install_custom_resource(plane);
    let namespace = plane.namespace();
    let nobody = plane.service_account(&namespace.name, "default");
    for line in ["get is", "get istag -A", "describe is app", "history app:1"] {
        let (code, complaint) = run(&nobody, line).unwrap_err();
        assert_eq!(code, Some(2), "{line}: {complaint}");
        assert!(complaint.contains("imagestreams") && complaint.contains("forbidden"), "{line}: {complaint}");
    }
}

fn streams_of_openshifts_group_are_read_as_they_are(plane: &ControlPlane) {
    let plane = &plane.another();
    install_openshift(plane);
    let namespace = plane.namespace();
    let path = format!("/apis/image.openshift.io/v1/namespaces/{}/imagestreams", namespace.name);
    namespace.post(&path, &stream("image.openshift.io")).ok();
    assert_eq!(run(&namespace, "get istag -o name").unwrap(), "imagestreamtag.image.openshift.io/app:1\n");
    assert_eq!(object(&namespace, "get is app -o json")["apiVersion"], "image.openshift.io/v1");
    assert_eq!(object(&namespace, "get istag app:1 -o json")["apiVersion"], "image.openshift.io/v1");
    assert!(run(&namespace, "describe is app").unwrap().contains(&image("a")));
    // There are no images here.
    let described = run(&namespace, "describe istag app:1").unwrap();
    assert_eq!(described.lines().count(), 3, "{described}");
    assert_eq!(cells(&run(&namespace, "history app:1").unwrap())[1][3], "0");
}
