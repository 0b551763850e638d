//! Writes of image streams over HTTPS: what is answered, counted and logged.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Server, patch_of, review};

const PATH: &str = "/imagestreams";

fn stream(tags: &Value) -> Value {
    json!({"apiVersion": "pinstream.dev/v1", "kind": "ImageStream", "metadata": {"name": "app"}, "spec": {"tags": tags}})
}

fn created(tags: &Value) -> Value {
    review("ImageStream", "demo", "CREATE", &stream(tags), &Value::Null)
}

fn tag(name: &str, image: &str) -> Value {
    json!({"name": name, "from": {"kind": "DockerImage", "name": image}})
}

fn counted(operation: &str, outcome: &str) -> String {
    format!(r#"pinstream_admission_requests_total{{kind="ImageStream",operation="{operation}",outcome="{outcome}"}}"#)
}

#[tokio::test]
async fn streams_are_completed_and_left_alone_when_they_are() {
    let server = Server::start(&["--log", "info", "--import-mode", "Legacy"], |_| ());
    let client = server.client(&[], |client| client);
    let mut object = stream(&json!([tag("1", "q.io/a:1")]));
    let response = server.ask_below(&client, PATH, &created(&json!([tag("1", "q.io/a:1")]))).await;
    let patch = patch_of(&response);
    assert_eq!(patch[1]["value"], json!({"importMode": "Legacy"}));
    json_patch::patch(&mut object, &serde_json::from_value::<json_patch::Patch>(patch).unwrap()).unwrap();
    object["metadata"]["generation"] = json!(1);
    assert_eq!(object["spec"]["tags"][0]["generation"], 1);

    let unchanged = review("ImageStream", "demo", "UPDATE", &object, &object);
    let response = server.ask_below(&client, PATH, &unchanged).await;
    assert_eq!((&response["allowed"], patch_of(&response)), (&json!(true), json!([])));
    let mut moved = object.clone();
    moved["spec"]["tags"][0]["from"]["name"] = json!("q.io/a:2");
    let moved = review("ImageStream", "demo", "UPDATE", &moved, &object);
    let number = json!([{"op": "add", "path": "/spec/tags/0/generation", "value": 2}]);
    assert_eq!(patch_of(&server.ask_below(&client, PATH, &moved).await), number);
    let mut status = moved;
    status["request"]["subResource"] = json!("status");
    assert_eq!(patch_of(&server.ask_below(&client, PATH, &status).await), json!([]));

    let outcomes = [("CREATE", "patched"), ("UPDATE", "unchanged"), ("UPDATE", "patched"), ("UPDATE", "ignored")];
    for (operation, outcome) in outcomes {
        assert_eq!(server.metric(&counted(operation, outcome)).await, 1.0, "{operation} {outcome}");
    }
    let log = fs::read_to_string(server.path("stderr")).unwrap();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("image stream completed")).collect();
    assert_eq!(lines.len(), 2, "{log}");
    assert!(lines[1].ends_with(r#"namespace="demo" name="" count=1 told="1: generation 2""#), "{log}");
}

#[tokio::test]
async fn refusal_lists_every_error_is_counted_and_logged() {
    let arguments = ["--log", "info", "--registry-block", "blocked.io", "--registry-block", "registry-1.docker.io"];
    let server = Server::start(&arguments, |_| ());
    let client = server.client(&[], |client| client);
    let tags = [tag("1", "blocked.io/a:1"), tag("2", "q.io/a:1"), tag("3", "nginx"), tag("4\n", "q.io/A")];
    let response = server.ask_below(&client, PATH, &created(&json!(tags))).await;
    assert_eq!((&response["allowed"], &response["status"]["code"]), (&json!(false), &json!(422)));
    let status = &response["status"];
    assert_eq!((&status["reason"], &status["details"]["name"]), (&json!("Invalid"), &json!("app")));
    let causes = status["details"]["causes"].as_array().unwrap();
    let fields: Vec<_> = causes.iter().map(|cause| cause["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["spec.tags[1].from.name", "spec.tags[3].from.name", "spec.tags[4\n].from.name"]);
    assert_eq!(causes[1]["message"], "Forbidden: images may not be imported from docker.io");
    let message = status["message"].as_str().unwrap();
    assert!(fields.iter().all(|field| message.contains(field)), "{message}");

    assert_eq!(server.metric(&counted("CREATE", "refused")).await, 1.0);
    let log = fs::read_to_string(server.path("stderr")).unwrap();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("image stream refused")).collect();
    assert!(lines.len() == 1 && lines[0].contains(r"count=3") && lines[0].contains(r"spec.tags[4\n]"), "{log}");
}
