//! How the server ends.

use std::fs;

use reqwest::Client;
use rustix::process::Signal;

use crate::support::{Load, Server, image, pod_review, stream, until};

fn start(arguments: &[&str]) -> Server {
    Server::start(arguments, |folder| {
        fs::write(folder.join("streams/app.json"), stream("app", &[("1", &image('a'))]).to_string()).unwrap();
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_fails_no_request() {
    // Time enough for the requests that follow, however busy the machine is.
    let mut server = start(&["--shutdown-delay", "5s"]);
    let clients = (0..8).map(|number| {
        let client = server.client(&[], |client| if number % 2 == 0 { client.http1_only() } else { client });
        Box::new(move || client.clone()) as Box<dyn Fn() -> Client + Send>
    });
    let check = |response: &serde_json::Value| response["patch"].is_null().then(|| response.to_string());
    let load = Load::start(&server.url(), clients.collect(), usize::MAX, &pod_review(&["app:1"]), check);
    load.more(200).await;
    server.signal(Signal::TERM);
    until("it is unready", async || server.admin("/readyz").await.0 == 503).await;
    let (status, report) = server.admin("/readyz?verbose").await;
    assert_eq!(status, 503);
    assert!(report.ends_with("[-]serving failed: stopping\nreadyz check failed\n"), "{report}");
    load.more(50).await;
    let (asked, failures) = load.ended().await;
    assert!(failures.is_empty(), "{} of {asked}: {failures:?}", failures.len());
    assert_eq!(server.wait().code(), Some(0));
}

#[tokio::test]
async fn second_signal_ends_at_once() {
    let mut server = start(&["--shutdown-delay", "1h"]);
    server.signal(Signal::TERM);
    until("it is unready", async || server.admin("/readyz").await.0 == 503).await;
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(2));
}

#[test]
fn interrupt_does_not_wait_for_other_replicas() {
    let mut server = start(&["--shutdown-delay", "1h"]);
    server.signal(Signal::INT);
    assert_eq!(server.wait().code(), Some(0));
}
