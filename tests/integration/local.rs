//! Reference policy `Local` over a directory: where images are pulled from, with a registry host, a cache, and neither.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Server, image, patch_of, pod_review, until};

/// A stream that needs no import: a tag with an image, and one that was asked for and has none.
fn stream() -> Value {
    let (pull_spec, local) = (image('a'), json!({"type": "Local"}));
    let digest = pull_spec.split_once('@').unwrap().1;
    json!({"apiVersion": "image.openshift.io/v1", "kind": "ImageStream",
        "metadata": {"name": "app", "namespace": "demo"},
        "spec": {"lookupPolicy": {"local": true}, "tags": [
            {"name": "1", "referencePolicy": local}, {"name": "none", "referencePolicy": local}]},
        "status": {"dockerImageRepository": "", "tags": [{"tag": "1", "items": [
            {"created": "2026-01-01T00:00:00Z", "dockerImageReference": pull_spec, "image": digest, "generation": 1}]}]}})
}

fn put_stream(folder: &Path) {
    fs::write(folder.join("streams/app.json"), stream().to_string()).unwrap();
}

/// What images of a Pod become; nothing for one that stays as it is.
async fn resolved(server: &Server, images: &[&str]) -> Vec<String> {
    let client = server.client(&[], |client| client);
    let patch = patch_of(&server.ask(&client, &pod_review(images)).await);
    let operations = patch.as_array().cloned().unwrap_or_default();
    operations.iter().map(|operation| operation["value"].as_str().unwrap().to_owned()).collect()
}

fn digest() -> String {
    image('a').split_once('@').unwrap().1.to_owned()
}

/// Runs a command over a directory, and gives standard output and standard error.
fn run(streams: &Path, arguments: &[&str]) -> (String, String) {
    let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_pinstream"));
    let output = command.args(arguments).args(["-n", "demo", "--streams"]).arg(streams).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", text(output.stderr));
    (text(output.stdout), text(output.stderr))
}

fn repository_of(streams: &Path) -> String {
    let stream: Value = serde_json::from_slice(&fs::read(streams.join("app.json")).unwrap()).unwrap();
    stream["status"]["dockerImageRepository"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn registry_host_is_written_into_the_streams_and_resolved_to() {
    let server = Server::start(&["--registry-host", "reg.io:5000"], put_stream);
    let repository = "reg.io:5000/demo/app";
    let expected = [format!("{repository}@{}", digest()), format!("{repository}:none")];
    assert_eq!(resolved(&server, &["app:1", "app:none"]).await, expected);
    assert!(resolved(&server, &[&expected[0], &expected[1]]).await.is_empty(), "a second time changes nothing");
    let streams = server.path("streams");
    until("the repository is written", async || repository_of(&streams) == repository).await;

    let (described, _) = run(&streams, &["describe", "is", "app"]);
    assert!(described.contains(&format!("Image Repository:\t{repository}\n")), "{described}");
    assert!(!described.contains("no registry host"), "{described}");
    let (described, _) = run(&streams, &["describe", "istag", "app:1"]);
    assert!(described.contains(&format!("Docker Image:\t{}\n", expected[0])), "{described}");
    let (explained, _) = run(&streams, &["explain", "app:1"]);
    assert!(explained.contains(&expected[0]), "{explained}");

    let (_, told) = run(&streams, &["tag", "app:1", "app:2", "--reference-policy", "local"]);
    assert_eq!((repository_of(&streams).as_str(), told.as_str()), (repository, ""));
    let pulled = [format!("{repository}@{}", digest())];
    until("the new tag resolves", async || resolved(&server, &["app:2"]).await == pulled).await;
}

#[tokio::test]
async fn host_that_is_not_set_any_more_is_forgotten() {
    let server = Server::start(&[], |folder| {
        let mut stream = stream();
        stream["status"]["dockerImageRepository"] = "reg.io/demo/app".into();
        fs::write(folder.join("streams/app.json"), stream.to_string()).unwrap();
    });
    let streams = server.path("streams");
    until("the repository is gone", async || repository_of(&streams).is_empty()).await;
    until("the source is pulled from", async || resolved(&server, &["app:1", "app:none"]).await == [image('a')]).await;
    let why = "pulled from the source, or a pull-through cache of it: no registry host is set";
    for what in [["is", "app"], ["istag", "app:1"]] {
        let (described, _) = run(&streams, &["describe", what[0], what[1]]);
        assert!(described.contains(why), "{described}");
    }
    let (_, told) = run(&streams, &["tag", "app:1", "app:2", "--reference-policy", "local"]);
    assert_eq!(told, format!("tag app:2 is {why}; see the flag --registry-host of the servers\n"));
    let (_, told) = run(&streams, &["tag", "app:1", "new:1", "--reference-policy", "local"]);
    assert_eq!(told, "", "no server can have said where it is served");
}

#[tokio::test]
async fn cache_of_the_source_is_pulled_from() {
    let registry = image('a').split_once('/').unwrap().0.to_owned();
    let cache = format!("{registry}=cache.io/{{registry}}/x");
    let server = Server::start(&["--pull-through-cache", &cache, "--registry-host", "reg.io"], put_stream);
    let cached = format!("cache.io/{registry}/x/{}", image('a').split_once('/').unwrap().1);
    assert_eq!(resolved(&server, &["app:1", "app:none"]).await, [cached.clone(), "reg.io/demo/app:none".to_owned()]);
    assert!(resolved(&server, &[&cached]).await.is_empty(), "a second time changes nothing");
    let (explained, _) = run(&server.path("streams"), &["explain", "app:1", "--pull-through-cache", &cache]);
    assert!(explained.contains(&cached), "{explained}");
}
