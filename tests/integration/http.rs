//! What the webhook lets in, what it says to the rest, and how long it waits.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use reqwest::Version;
use reqwest::header::CONTENT_TYPE;
use rstest::rstest;
use serde_json::{Value, json};

use crate::support::{Server, image, patch_of, pod_review, repository, stream, until};

fn with_app(arguments: &[&str]) -> Server {
    Server::start(arguments, |folder| {
        let stream = stream("app", &[("1", &image('a')), ("latest", &image('b'))]);
        fs::write(folder.join("streams/app.json"), stream.to_string()).unwrap();
    })
}

#[tokio::test]
async fn short_names_are_pinned_over_every_protocol() {
    let server = with_app(&[]);
    let versions = [
        (server.client(&[], |client| client), Version::HTTP_2),
        (server.client(&[], reqwest::ClientBuilder::http1_only), Version::HTTP_11),
    ];
    for (client, version) in versions {
        let answer = client.post(server.url()).json(&pod_review(&["app:1", "other"])).send().await.unwrap();
        assert_eq!(answer.version(), version);
        let answer: Value = answer.json().await.unwrap();
        let patch = json!([{"op": "replace", "path": "/spec/containers/0/image", "value": image('a')}]);
        assert_eq!(patch_of(&answer["response"]), patch);
    }
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut stream = server.raw_with_versions(&[version], |_| ());
        stream.write_all(b"GET /mutate HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
        assert_eq!(stream.conn.protocol_version(), Some(version.version));
    }
}

#[tokio::test]
async fn what_is_no_review_gets_the_right_status_and_one_line() {
    let server = with_app(&[]);
    let client = server.client(&[], |client| client);
    let (base, url) = (server.url().replace("/mutate", ""), server.url());
    let json = "application/json";
    let requests = [
        (client.get(&url), 405, "GET is not possible here: POST an AdmissionReview"),
        (
            client.post(format!("{base}/mutated")).body("{}"),
            404,
            "there is nothing at /mutated: the webhook is at /mutate, /mutate/pod, /mutate/imagestreams, /validate and /validate/pod",
        ),
        (client.post(&url).body("{}"), 415, "the content type is missing; send an AdmissionReview as application/json"),
        (
            client.post(&url).header(CONTENT_TYPE, "text/yaml").body("{}"),
            415,
            "the content type is \"text/yaml\"; send",
        ),
        (
            client.post(&url).header(CONTENT_TYPE, json).body("{"),
            400,
            "the body is no AdmissionReview: EOF while parsing",
        ),
        (
            client.post(&url).header(CONTENT_TYPE, json).body(vec![b' '; (7 << 20) + 1]),
            413,
            "the body is larger than 7 MiB",
        ),
    ];
    for (request, status, text) in requests {
        let answer = request.send().await.unwrap();
        let found = answer.status().as_u16();
        let body = answer.text().await.unwrap();
        assert_eq!(found, status, "{body}");
        assert!(body.starts_with(text) && body.ends_with('\n') && body.lines().count() == 1, "{body}");
    }
    let answer = client.get(&url).send().await.unwrap();
    assert_eq!(answer.headers()["allow"], "POST");
}

#[tokio::test]
async fn largest_review_is_read_and_the_content_type_may_have_parameters() {
    let server = with_app(&[]);
    let client = server.client(&[], |client| client);
    let mut review = pod_review(&["app"]);
    review["request"]["object"]["metadata"]["annotations"] = json!({"large": "x".repeat(6 << 20)});
    let request = client.post(format!("{}?timeout=10s", server.url()));
    let answer = request.header(CONTENT_TYPE, "Application/JSON; charset=utf-8").body(review.to_string());
    let answer: Value = answer.send().await.unwrap().json().await.unwrap();
    assert_eq!(patch_of(&answer["response"])[0]["value"], image('b'));
}

#[tokio::test]
async fn unreadable_review_with_a_uid_is_answered_and_counted() {
    let server = with_app(&[]);
    let client = server.client(&[], |client| client);
    let mut review = pod_review(&["app"]);
    review["request"]["kind"] = json!("Pod");
    let response = server.ask(&client, &review).await;
    assert_eq!((&response["allowed"], patch_of(&response)), (&json!(true), json!([])));
    assert!(response["warnings"][0].as_str().unwrap().starts_with("pinstream changed nothing: "));
    let counted = r#"pinstream_admission_requests_total{kind="other",operation="other",outcome="malformed"}"#;
    assert_eq!(server.metric(counted).await.round(), 1.0);
}

#[tokio::test]
async fn pod_path_pins_pods_and_nothing_else() {
    let server = with_app(&["--kind", "argoproj.io/Rollout=/spec/template"]);
    let client = server.client(&[], |client| client);
    let spec = json!({"containers": [{"name": "c", "image": "app:1"}]});
    let template = json!({"metadata": {"name": "w"}, "spec": {"template": {"spec": spec}}});
    let pod = json!({"metadata": {"name": "p", "ownerReferences": [{"controller": true}]}, "spec": spec});
    let debugged =
        json!({"metadata": {"name": "p"}, "spec": {"ephemeralContainers": [{"name": "d", "image": "app:1"}]}});
    let cases = [
        ("apps/v1", "Deployment", "", &template, None),
        ("batch/v1", "Job", "", &template, None),
        ("argoproj.io/v1alpha1", "Rollout", "", &template, None),
        ("v1", "Pod", "", &pod, Some("/spec/containers/0/image")),
        ("v1", "Pod", "ephemeralcontainers", &debugged, Some("/spec/ephemeralContainers/0/image")),
        ("v1", "Pod", "status", &pod, None),
    ];
    for (version, kind, subresource, object, pinned) in cases {
        let mut object = object.clone();
        object["apiVersion"] = version.into();
        let operation = if subresource.is_empty() { "CREATE" } else { "UPDATE" };
        let mut review = crate::support::review(kind, "demo", operation, &object, &Value::Null);
        review["request"]["subResource"] = subresource.into();
        let answer = client.post(format!("{}/pod", server.url())).json(&review).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        let expected = pinned.map(|path| json!([{"op": "replace", "path": path, "value": image('a')}]));
        assert_eq!(patch_of(&answer["response"]), expected.unwrap_or(json!([])), "{kind} {subresource}");
        assert_eq!((&answer["response"]["allowed"], answer["response"].get("warnings")), (&json!(true), None));
    }
    // The other path pins what this one leaves alone.
    let review = crate::support::review("Deployment", "demo", "CREATE", &deployment(&template), &Value::Null);
    assert_eq!(patch_of(&server.ask(&client, &review).await)[0]["value"], image('a'));
}

fn deployment(template: &Value) -> Value {
    let mut object = template.clone();
    object["apiVersion"] = "apps/v1".into();
    object
}

fn raw_head(timeout: &str, length: usize) -> String {
    format!(
        "POST /mutate{timeout} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    )
}

#[test]
fn body_that_does_not_arrive_in_the_time_asked_for_is_given_up() {
    let server = with_app(&[]);
    let mut stream = server.raw(|_| ());
    stream.write_all(raw_head("?timeout=200ms", 10).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.ends_with("the body did not arrive within 0.2 s\n"), "{answer}");
}

#[rstest]
#[case::silent_before_the_handshake(&["--handshake-timeout", "200ms"], None)]
#[case::slow_head(&["--header-timeout", "200ms"], Some("POST /mut"))]
#[case::idle(&["--idle-timeout", "200ms"], Some(""))]
#[tokio::test]
async fn slow_clients_are_let_go_and_hold_up_nobody(#[case] arguments: &[&str], #[case] written: Option<&str>) {
    let server = with_app(arguments);
    let slow = match written {
        None => TcpStream::connect(server.webhook).unwrap(),
        Some(text) => {
            let mut stream = server.raw(|_| ());
            while stream.conn.is_handshaking() {
                stream.conn.complete_io(&mut stream.sock).unwrap();
            }
            stream.write_all(text.as_bytes()).unwrap();
            stream.sock
        }
    };
    let client = server.client(&[], |client| client);
    assert_eq!(patch_of(&server.ask(&client, &pod_review(&["app"])).await).as_array().unwrap().len(), 1);
    drop(client);
    tokio::task::spawn_blocking(move || (&slow).read_to_end(&mut Vec::new())).await.unwrap().unwrap();
    until("every connection is gone", async || server.metric("pinstream_connections").await == 0.0).await;
    let failures = if written.is_none() { 1.0 } else { 0.0 };
    assert_eq!(server.metric("pinstream_tls_handshake_failures_total").await, failures);
}

#[tokio::test]
async fn connections_above_the_cap_are_closed_at_once() {
    let server = with_app(&["--max-connections", "1"]);
    let first = server.client(&[], |client| client);
    server.ask(&first, &pod_review(&["app"])).await;
    let second = TcpStream::connect(server.webhook).unwrap();
    tokio::task::spawn_blocking(move || (&second).read_to_end(&mut Vec::new())).await.unwrap().unwrap();
    assert_eq!(server.metric("pinstream_connections_refused_total").await, 1.0);
    drop(first);
    until("the place is free again", async || server.metric("pinstream_connections").await == 0.0).await;
    let client = server.client(&[], |client| client);
    server.ask(&client, &pod_review(&["app"])).await;
}

#[tokio::test]
async fn health_names_its_gates_and_metrics_count() {
    let server = with_app(&[]);
    let client = server.client(&[], |client| client);
    server.ask(&client, &pod_review(&["app:1", "app:2", "quay.io/a/b:1"])).await;
    assert_eq!(server.admin("/livez").await, (200, "ok\n".to_owned()));
    assert_eq!(server.admin("/readyz").await, (200, "ok\n".to_owned()));
    let verbose = "[+]streams ok\n[+]levels ok\n[+]certificate ok\n[+]serving ok\nreadyz check passed\n";
    assert_eq!(server.admin("/readyz?verbose").await, (200, verbose.to_owned()));
    let (status, line) = server.admin("/").await;
    assert_eq!((status, line.as_str()), (404, "there is nothing at /: see /livez, /readyz?verbose and /metrics\n"));
    let expected = [
        (r#"pinstream_admission_requests_total{kind="Pod",operation="CREATE",outcome="patched"}"#, 1.0),
        (r#"pinstream_admission_slots_total{outcome="pinned"}"#, 1.0),
        (r#"pinstream_admission_slots_total{outcome="tag_missing"}"#, 1.0),
        (r#"pinstream_admission_slots_total{outcome="not_short_name"}"#, 1.0),
        ("pinstream_admission_decision_duration_seconds_count", 1.0),
        ("pinstream_admission_request_duration_seconds_count", 1.0),
        ("pinstream_index_streams", 1.0),
        ("pinstream_index_tags", 2.0),
        ("pinstream_source_synced", 1.0),
    ];
    for (line, value) in expected {
        assert_eq!(server.metric(line).await, value, "{line}");
    }
    assert!(server.metric("process_resident_memory_bytes").await > 0.0);
}

#[tokio::test]
async fn examples_of_the_repository_work_and_kinds_can_be_added() {
    let examples = repository().join("examples");
    let server =
        Server::start(&["--kind", "argoproj.io/Rollout=/spec/template", "--registry-host", "r.io"], |folder| {
            for file in ["keycloak.yaml", "tools.yaml"] {
                fs::copy(examples.join("streams").join(file), folder.join("streams").join(file)).unwrap();
            }
        });
    let client = server.client(&[], |client| client);
    let mut answers = Vec::new();
    for file in ["deployment", "pod", "cronjob"] {
        let review = fs::read(examples.join(format!("reviews/{file}.json"))).unwrap();
        let response = server.ask(&client, &serde_json::from_slice(&review).unwrap()).await;
        answers.push(json!({"patch": patch_of(&response), "warnings": response["warnings"]}));
    }
    let rollout = json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "metadata": {"name": "r"},
        "spec": {"template": {"spec": {"containers": [{"name": "c", "image": "tools:new"}]}}}});
    let review = crate::support::review("Rollout", "demo", "CREATE", &rollout, &Value::Null);
    answers.push(patch_of(&server.ask(&client, &review).await));
    insta::assert_snapshot!(serde_json::to_string_pretty(&answers).unwrap());
}
