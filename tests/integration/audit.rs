//! `audit` as a whole command, over manifests and a directory of streams.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{image, stream};

const PODS: &str = r#"apiVersion: v1
kind: Pod
metadata: {name: pinned, namespace: demo}
spec:
  containers:
  - {name: new, image: "NEW"}
  - {name: old, image: "OLD"}
  - {name: foreign, image: "FOREIGN"}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: "a<b", namespace: demo}
spec:
  template:
    spec:
      initContainers:
      - {name: short, image: "app:1"}
      containers:
      - name: mutable
        image: quay.io/demo/app:1   # moves
      - {name: lost, image: "nginx:1"}
"#;

/// A folder with the stream `app`, whose tag `1` has had two images, and manifests.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("streams")).unwrap();
    let mut app = stream("app", &[("1", &image('b'))]);
    let digest = image('a').split_once('@').unwrap().1.to_owned();
    let older = json!({"created": "2025-12-01T00:00:00Z", "dockerImageReference": image('a'), "image": digest});
    app["status"]["tags"][0]["items"].as_array_mut().unwrap().push(older);
    fs::write(folder.path().join("streams/app.json"), app.to_string()).unwrap();
    let pods = PODS.replace("NEW", &image('b')).replace("OLD", &image('a')).replace("FOREIGN", &image('f'));
    fs::write(folder.path().join("my pods.yaml"), pods).unwrap();
    folder
}

/// Exit code and both outputs.
fn audit(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_pinstream"))
        .arg("audit")
        .args(arguments)
        .env_clear()
        .env("PINSTREAM_STREAMS", "streams")
        .current_dir(folder)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn manifests_are_audited_as_they_would_be_pinned() {
    let folder = folder();
    fs::write(folder.path().join("none.yaml"), "kind: ConfigMap\n").unwrap();
    let cases: [&[&str]; 6] = [
        &["-f", "my pods.yaml"],
        &["-f", "my pods.yaml", "-o", "yaml", "--fail-on", "mutable"],
        &["-f", "my pods.yaml", "-o", "junit", "--fail-on", "unresolved"],
        &["-f", "none.yaml", "--fail-on", "behind"],
        &["-n", "demo"],
        &["-f", "missing.yaml"],
    ];
    let text = |arguments: &&[&str]| {
        let (code, stdout, stderr) = audit(folder.path(), arguments);
        format!("$ pinstream audit {}\n{stdout}-- exit {code}\n{stderr}", arguments.join(" "))
    };
    insta::assert_snapshot!(cases.iter().map(text).collect::<Vec<_>>().join("\n"));
}

#[test]
fn sarif_names_rule_level_file_and_line() {
    let folder = folder();
    let (code, stdout, _) = audit(folder.path(), &["-f", "my pods.yaml", "-o", "sarif"]);
    let log: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &log["version"]), (0, &json!("2.1.0")));
    let run = &log["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    let results: Vec<_> = run["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| {
            let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
            assert_eq!(rules[index]["id"], result["ruleId"]);
            let place = &result["locations"][0]["physicalLocation"];
            assert_eq!(place["artifactLocation"]["uri"], "my%20pods.yaml");
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            (text(&result["ruleId"]), text(&result["level"]), place["region"]["startLine"].as_u64().unwrap())
        })
        .collect();
    let expected =
        [("behind", "note", 7), ("unknown", "note", 8), ("mutable", "warning", 20), ("unresolved", "error", 21)];
    let expected = expected.map(|(rule, level, line)| (format!("image-{rule}"), level.to_owned(), line));
    assert_eq!(results, expected);
}
