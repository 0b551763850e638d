//! Pods as they are told, from an API server that follows a script. The loop itself has its own tests.

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::*;
use crate::store::kube::watch::script::{Answer, End, bookmark, event, object, page, refusal, server, status};

fn pod(name: &str, version: &str, images: &[&str]) -> Value {
    let mut pod = object(name, version);
    let containers: Vec<_> = images.iter().map(|image| json!({"name": "c", "image": image, "env": []})).collect();
    pod["metadata"]["managedFields"] = json!([{"manager": "kubelet", "fieldsV1": {"f:status": {}}}]);
    pod["spec"] = json!({"containers": containers, "initContainers": null, "nodeName": "node"});
    pod["status"] = json!({"phase": "Running", "containerStatuses": [{"image": "other", "imageID": "other"}]});
    pod
}

/// What is told until a request comes for which there is no answer left, batch by batch.
async fn told(script: Vec<Answer>) -> Vec<String> {
    let ((client, requests), (sender, mut changes)) = (server(script), mpsc::channel(100));
    tokio::select! {
        () = Watched::pods(client, sender).keep() => {}
        () = requests.are_over() => {}
    }
    let mut told = Vec::new();
    while let Some(batch) = changes.recv().await {
        told.push(batch.iter().map(word).collect::<Vec<_>>().join(" "));
    }
    told
}

fn word(change: &PodChange) -> String {
    match change {
        PodChange::Began => "began".to_owned(),
        PodChange::Applied(key, images) => format!("{}={}", key.name, images.join(",")),
        PodChange::Unreadable(key) => format!("{}?", key.name),
        PodChange::Deleted(key) => format!("-{}", key.name),
        PodChange::Listed => "listed".to_owned(),
        PodChange::Lost => "lost".to_owned(),
        PodChange::Current => "current".to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn pages_and_events_are_told_as_they_come() {
    let events = vec![
        event("ADDED", &pod("c", "8", &["c:1"])),
        event("MODIFIED", &pod("a", "9", &["a:2"])),
        bookmark("10"),
        event("DELETED", &pod("b", "11", &["b:1"])),
    ];
    let told = told(vec![
        page(&[pod("a", "5", &["a:1", "side:1"])], "6", "more"),
        page(&[pod("b", "6", &["b:1"])], "7", ""),
        Answer::Events(events, End::Closed),
    ])
    .await;
    assert_eq!(told[..3], ["began a=a:1,side:1", "b=b:1 listed", "current"]);
    // How many events arrive together is chance.
    assert_eq!(told[3..].join(" "), "c=c:1 a=a:2 -b lost");
}

#[tokio::test(start_paused = true)]
async fn pod_that_cannot_be_read_is_one_pod() {
    let mut broken = pod("b", "6", &[]);
    broken["spec"]["containers"] = json!({"image": "b:1"});
    let told = told(vec![
        page(&[pod("a", "6", &["a:1"]), broken.clone(), pod("c", "6", &["c:1"])], "7", ""),
        Answer::Events(vec![event("MODIFIED", &broken), event("MODIFIED", &pod("a", "9", &["a:2"]))], End::Closed),
    ])
    .await;
    assert_eq!(told[0], "began a=a:1 b? c=c:1 listed");
    assert_eq!(told[1..].join(" "), "current b? a=a:2 lost");
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_is_told_before_everything_is_listed_again() {
    let told = told(vec![
        page(&[pod("a", "6", &["a:1"])], "7", ""),
        Answer::Events(vec![event("ERROR", &status(410))], End::Open),
        page(&[], "8", "more"),
        refusal(410),
        page(&[pod("b", "9", &["b:1"])], "9", ""),
    ])
    .await;
    assert_eq!(told, ["began a=a:1 listed", "current", "lost", "began", "began b=b:1 listed"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_more_is_read_while_nobody_takes_what_was_told() {
    let script = vec![page(&[], "5", "more"), page(&[], "6", "more"), page(&[], "7", "")];
    let ((client, requests), (sender, mut changes)) = (server(script), mpsc::channel(1));
    let mut keep = Box::pin(Watched::pods(client, sender).keep());
    let minute = std::time::Duration::from_mins(1);
    assert!(tokio::time::timeout(minute, &mut keep).await.is_err());
    // An empty page says nothing, so that only the end of the list waits for room.
    assert_eq!(requests.uris().len(), 3);
    assert_eq!(changes.recv().await, Some(vec![PodChange::Began]));
    assert!(tokio::time::timeout(minute, &mut keep).await.is_err());
    assert_eq!((requests.uris().len(), changes.recv().await), (4, Some(vec![PodChange::Listed])));
}

#[test]
fn missing_right_is_named() {
    let status = kube::core::Status { code: 403, message: "no".to_owned(), ..kube::core::Status::default() };
    let error = kube::Error::Api(kube::core::Status { reason: "Forbidden".to_owned(), ..status }.boxed());
    let said = |namespace| pods_error(namespace, &error).to_string();
    assert_eq!(said(None), "no; auditing needs the right to list pods in all namespaces");
    assert_eq!(said(Some("demo")), "no; auditing needs the right to list pods in namespace demo");
}
