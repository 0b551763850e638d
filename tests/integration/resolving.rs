//! `resolve` and `explain` as whole commands, over a directory of streams.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{image, stream};

/// A folder with the streams `keycloak` (two images in `20.0`; `broken` never imported, `21.0` stale) and `off`.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("streams")).unwrap();
    let mut keycloak = stream("keycloak", &[("20.0", &image('b')), ("21.0", &image('c'))]);
    let from = |tag: &str, scheduled: bool| {
        json!({"name": tag, "from": {"kind": "DockerImage", "name": format!("quay.io/demo/app:{tag}")},
            "generation": 1, "importPolicy": {"scheduled": scheduled}})
    };
    keycloak["spec"]["tags"] = json!([from("20.0", true), from("21.0", false), from("broken", false)]);
    let older = json!({"created": "2025-12-01T00:00:00Z", "dockerImageReference": image('a'), "image": digest('a')});
    keycloak["status"]["tags"][0]["items"].as_array_mut().unwrap().push(older);
    let failed = json!([{"type": "ImportSuccess", "status": "False", "reason": "NotFound", "generation": 1,
        "message": "there is no such tag", "lastTransitionTime": "2026-01-02T00:00:00Z"}]);
    keycloak["status"]["tags"][1]["conditions"] = failed.clone();
    let broken = json!({"tag": "broken", "items": null, "conditions": failed});
    keycloak["status"]["tags"].as_array_mut().unwrap().push(broken);
    let mut off = stream("off", &[("1", &image('d'))]);
    off["spec"]["lookupPolicy"]["local"] = false.into();
    for stream in [keycloak, off] {
        let name = format!("streams/{}.json", stream["metadata"]["name"].as_str().unwrap());
        fs::write(folder.path().join(name), stream.to_string()).unwrap();
    }
    folder
}

fn digest(digit: char) -> String {
    image(digit).split_once('@').unwrap().1.to_owned()
}

/// Exit code and both outputs of a command in a folder, as a text.
fn run(folder: &Path, arguments: &str, stdin: &str) -> String {
    let arguments: Vec<_> = arguments.split(' ').collect();
    let output = Command::new(env!("CARGO_BIN_EXE_pinstream"))
        .args(&arguments)
        .env_clear()
        .env("PINSTREAM_STREAMS", "streams")
        .current_dir(folder)
        .write_stdin(stdin)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    let code = output.status.code().unwrap();
    format!("$ pinstream {}\n{stdout}-- exit {code}\n{stderr}\n", arguments.join(" "))
}

const WEB: &str = r#"# What the shop runs.
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: demo}   # ours
spec:
  template:
    spec:
      initContainers:
      - name: init
        image: 'keycloak:21.0'     # older
      containers:
      -   image: "keycloak:20.0"
          name: web
"#;

const MORE: &str = r"apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: c, image: off:1}]}}
- {apiVersion: v1, kind: Pod, metadata: {name: b}, spec: {containers: [{name: c, image: nginx}, {name: d, image: keycloak:broken}]}}
---
kind: Pod
apiVersion: v1
metadata: {name: d}
spec: {containers: [{name: e, image: quay.io/demo/app:1}]}
";

#[test]
fn resolve_pins_and_says_what_stays() {
    let folder = folder();
    fs::create_dir(folder.path().join("m")).unwrap();
    fs::write(folder.path().join("m/web.yaml"), WEB).unwrap();
    fs::write(folder.path().join("more.yaml"), MORE).unwrap();
    fs::write(folder.path().join("m/pod.json"), "{\"kind\": \"Pod\", \"apiVersion\": \"v1\"}").unwrap();
    fs::create_dir(folder.path().join("none")).unwrap();
    let cases = [
        ("resolve -f - -n demo", WEB),
        ("resolve -f m -f more.yaml -n demo", ""),
        ("resolve -f more.yaml -n demo --strict --diff", ""),
        ("resolve -f m/web.yaml --diff", ""),
        ("resolve -f -", ""),
        ("resolve -f - -n other", MORE),
        ("resolve -f -", "a: [\n"),
        ("resolve -f gone.yaml", ""),
        ("resolve -f none", ""),
        ("resolve -f - -i", WEB),
    ];
    insta::assert_snapshot!(cases.map(|(arguments, stdin)| run(folder.path(), arguments, stdin)).join("\n"));
}

#[test]
fn resolve_in_place_writes_only_what_changes_and_all_or_nothing() {
    let folder = folder();
    let path = folder.path().join("web.yaml");
    fs::write(&path, WEB).unwrap();
    fs::write(folder.path().join("bad.yaml"), "a: [\n").unwrap();
    let refused = run(folder.path(), "resolve -f web.yaml -f bad.yaml -i", "");
    assert!(refused.contains("exit 2\npinstream: bad.yaml: document 1, line"), "{refused}");
    assert_eq!(fs::read_to_string(&path).unwrap(), WEB);

    let written = run(folder.path(), "resolve -f web.yaml -i", "");
    assert!(written.contains("-- exit 0\nweb.yaml: 2 of 2 images pinned\n"), "{written}");
    let expected = WEB.replace("keycloak:20.0", &image('b')).replace("keycloak:21.0", &image('c'));
    assert_eq!(fs::read_to_string(&path).unwrap(), expected);
    assert_eq!(run(folder.path(), "resolve -f web.yaml -i", ""), "$ pinstream resolve -f web.yaml -i\n-- exit 0\n\n");
}

#[test]
fn explain_says_where_images_come_from() {
    let folder = folder();
    let (older, unknown) = (image('a'), image('f'));
    let cases = [
        "explain keycloak:20.0 -n demo",
        "explain keycloak:21.0 -n demo",
        "explain keycloak:broken -n demo",
        "explain keycloak -n demo",
        "explain off:1 -n demo",
        "explain nginx:1 -n demo",
        "explain quay.io/demo/app:20.0 -n demo",
        &format!("explain {older} -n demo"),
        &format!("explain {unknown} -n demo"),
        "explain Keycloak -n demo",
        "explain keycloak:20.0 -n demo -o yaml",
        "explain deploy/web -n demo",
        "explain pod/Web -n demo",
    ];
    insta::assert_snapshot!(cases.map(|arguments| run(folder.path(), arguments, "")).join("\n"));
}

#[test]
fn explain_as_json_is_read_by_programs() {
    let folder = folder();
    let text = run(folder.path(), "explain keycloak:20.0 -n demo -o json", "");
    let (json, _) = text.split_once('\n').unwrap().1.split_once("-- exit 0").unwrap();
    let read: Value = serde_json::from_str(json).unwrap();
    assert_eq!(read["images"][0]["becomes"], image('b'));
    assert_eq!(read["images"][0]["events"][0]["of"], 2);
}

#[test]
fn thousand_manifests_come_out_in_order() {
    let folder = folder();
    let manifests = folder.path().join("many");
    fs::create_dir(&manifests).unwrap();
    for number in 0..1000 {
        fs::write(manifests.join(format!("{number:04}.yaml")), WEB.replace("web,", &format!("web-{number:04},")))
            .unwrap();
    }
    let output = run(folder.path(), "resolve -f many", "");
    let names: Vec<_> =
        output.lines().filter_map(|line| line.strip_prefix("metadata: {name: web-")?.get(..4)).collect();
    assert_eq!(names, (0..1000).map(|number| format!("{number:04}")).collect::<Vec<_>>());
    assert_eq!(output.matches(&image('b')).count(), 1000);
    assert!(!output.contains("keycloak:20.0\""));
}
