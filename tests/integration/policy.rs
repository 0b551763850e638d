//! The policy over HTTPS: what is counted, warned of and refused, by level, exception and path.

use serde_json::{Value, json};

use crate::support::{Server, image, pod_review, review};

const PAUSE: &str = "registry.k8s.io/pause:3.10";

fn server(arguments: &[&str]) -> Server {
    Server::start(arguments, |_| ())
}

/// The response to a review at `/validate` and what is below it.
async fn validated(server: &Server, below: &str, review: &Value) -> Value {
    let client = server.client(&[], |client| client);
    server.ask_below(&client, &format!("/../validate{below}"), review).await
}

#[tokio::test]
async fn unpinned_image_is_counted_by_default() {
    let server = server(&[]);
    let response = validated(&server, "", &pod_review(&["nginx:1.25", &image('a')])).await;
    let annotations = json!({"level": "audit", "result": "audited", "containers.0": "unpinned: nginx:1.25"});
    let uid = &response["uid"];
    assert_eq!(response, json!({"uid": uid, "allowed": true, "auditAnnotations": annotations}));
    let objects = r#"pinstream_policy_objects_total{kind="Pod",level="audit",operation="CREATE",result="audited"}"#;
    assert!((server.metric(objects).await - 1.0).abs() < f64::EPSILON);
    for (finding, count) in [("unpinned", 1.0), ("pinned", 1.0), ("unchanged", 0.0)] {
        let slots = format!(r#"pinstream_policy_slots_total{{finding="{finding}",level="audit"}}"#);
        assert!((server.metric(&slots).await - count).abs() < f64::EPSILON, "{finding}");
    }
}

#[tokio::test]
async fn level_warns_or_refuses_as_the_namespace_says() {
    let server = server(&["--policy", "warn", "--policy-namespace", "prod=enforce,lab=audit", "--log", "info"]);
    let in_namespace = |namespace: &str| {
        let mut review = pod_review(&["nginx:1.25"]);
        review["request"]["namespace"] = json!(namespace);
        review
    };
    let response = validated(&server, "", &in_namespace("demo")).await;
    assert_eq!(response["warnings"], json!(["containers[c0]: nginx:1.25: not pinned by digest"]));
    assert_eq!(response["allowed"], true);
    let response = validated(&server, "", &in_namespace("lab")).await;
    assert_eq!((&response["allowed"], response.get("warnings")), (&json!(true), None));
    let response = validated(&server, "", &in_namespace("prod")).await;
    assert_eq!((&response["allowed"], response.get("warnings")), (&json!(false), None));
    let status = &response["status"];
    assert_eq!(
        (&status["code"], &status["reason"], &status["status"]),
        (&json!(403), &json!("Forbidden"), &json!("Failure"))
    );
    let message = status["message"].as_str().unwrap();
    assert!(message.starts_with("not pinned by digest: containers[c0] nginx:1.25. "), "{message}");
    assert!(message.contains("`pinstream tag nginx:1.25 nginx:1.25 -n prod`"), "{message}");
    assert_eq!(status["details"]["causes"][0]["field"], "spec.containers[0].image");
    let refused = r#"pinstream_policy_objects_total{kind="Pod",level="enforce",operation="CREATE",result="refused"}"#;
    assert!((server.metric(refused).await - 1.0).abs() < f64::EPSILON);
    let refused = r#"pinstream_admission_requests_total{kind="Pod",operation="CREATE",outcome="refused"}"#;
    assert!((server.metric(refused).await - 1.0).abs() < f64::EPSILON);
    let log = std::fs::read_to_string(server.path("stderr")).unwrap();
    assert!(log.contains("object refused by the policy") && log.contains(r#"images=["nginx:1.25"]"#), "{log}");
}

#[tokio::test]
async fn exceptions_let_images_pass_and_are_counted_by_kind() {
    let annotated = || {
        let mut review = pod_review(&["nginx:1.25", PAUSE]);
        review["request"]["object"]["metadata"]["annotations"] = json!({"pinstream.dev/policy-except": "c0"});
        review
    };
    let enforced = ["--policy", "enforce", "--policy-except", "registry.k8s.io/pause:*"];
    let lenient = server(&enforced);
    let response = validated(&lenient, "", &annotated()).await;
    assert_eq!((&response["allowed"], &response["auditAnnotations"]["result"]), (&json!(true), &json!("excepted")));
    for finding in ["excepted_by_pattern", "excepted_by_annotation"] {
        let slots = format!(r#"pinstream_policy_slots_total{{finding="{finding}",level="enforce"}}"#);
        assert!((lenient.metric(&slots).await - 1.0).abs() < f64::EPSILON, "{finding}");
    }
    let strict = server(&[&enforced[..], &["--policy-ignore-annotations"]].concat());
    let response = validated(&strict, "", &annotated()).await;
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.contains("containers[c0] nginx:1.25.") && !message.contains("policy-except"), "{message}");
}

#[tokio::test]
async fn path_of_pods_leaves_templates_alone() {
    let server = server(&["--policy", "enforce"]);
    let template = json!({"spec": {"containers": [{"name": "c", "image": "nginx"}]}});
    let object = json!({"apiVersion": "apps/v1", "metadata": {"name": "d"}, "spec": {"template": template}});
    let deployment = review("Deployment", "demo", "CREATE", &object, &Value::Null);
    assert_eq!(validated(&server, "", &deployment).await["allowed"], false);
    assert_eq!(validated(&server, "/pod", &deployment).await["allowed"], true);
    assert_eq!(validated(&server, "/pod", &pod_review(&["nginx"])).await["allowed"], false);
    let unchanged = review("Deployment", "demo", "UPDATE", &object, &object);
    assert_eq!(validated(&server, "", &unchanged).await["allowed"], true);
}

#[tokio::test]
async fn what_cannot_be_read_is_allowed_with_a_warning() {
    let server = server(&["--policy", "enforce"]);
    let mut review = pod_review(&["nginx"]);
    review["request"]["object"] = Value::Null;
    let response = validated(&server, "", &review).await;
    assert_eq!(response["allowed"], true);
    assert!(response["warnings"][0].as_str().unwrap().contains("request.object is missing"), "{response}");
}
