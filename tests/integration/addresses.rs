//! Whom a stream cannot make the importer connect to: by an address, a name, a redirect or a token server.

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

use axum::http::header::{LOCATION, WWW_AUTHENTICATE};
use axum::http::{HeaderName, StatusCode};
use serde_json::{Value, json};

use crate::support::{Server, until};

/// What is blocked in these tests beside what is blocked anyway: two addresses of this machine, and what `localhost` is.
const BLOCKED: [&str; 2] = ["--registry-block-address", "127.0.0.1,::1,127.0.0.3"];

/// Somebody who must not be connected to.
struct Bait(TcpListener);

impl Bait {
    fn at(address: &str) -> Self {
        let listener = TcpListener::bind((address, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    fn is_untouched(&self) -> bool {
        self.0.accept().is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }
}

/// A registry at an address that may be asked, which answers everything with that status and header.
async fn registry(status: StatusCode, header: HeaderName, value: String) -> SocketAddr {
    answering(status, header, value, "").await
}

/// The same, with a body.
async fn answering(status: StatusCode, header: HeaderName, value: String, body: &'static str) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.2:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = axum::Router::new().fallback(async move || (status, [(header, value)], body));
    tokio::runtime::Handle::current().spawn(async move { axum::serve(listener, router).await });
    address
}

async fn redirecting(to: &str) -> SocketAddr {
    registry(StatusCode::TEMPORARY_REDIRECT, LOCATION, to.to_owned()).await
}

async fn wanting_a_token_of(realm: &str) -> SocketAddr {
    registry(StatusCode::UNAUTHORIZED, WWW_AUTHENTICATE, format!("Bearer realm=\"{realm}\",service=\"x\"")).await
}

/// What `pinstream serve` says of a tag that comes from there.
async fn told(arguments: &[&str], from: &str) -> (String, String) {
    let (_, reason, message) = served(arguments, from).await;
    (reason, message)
}

/// The same, with the server that says it.
async fn served(arguments: &[&str], from: &str) -> (Server, String, String) {
    let source = json!({"kind": "DockerImage", "name": from});
    let stream = json!({"apiVersion": "image.openshift.io/v1", "kind": "ImageStream",
        "metadata": {"name": "app", "namespace": "demo"},
        "spec": {"tags": [{"name": "1", "from": source, "importPolicy": {"insecure": true}}]}});
    let server = Server::start(arguments, |folder| {
        fs::write(folder.join("streams/app.json"), stream.to_string()).unwrap();
    });
    let condition = || {
        let stream: Value = serde_json::from_slice(&fs::read(server.path("streams/app.json")).unwrap()).unwrap();
        stream["status"]["tags"][0]["conditions"][0].clone()
    };
    until("the import failed", async || condition()["status"] == "False").await;
    let text = |field: &str| condition()[field].as_str().unwrap().to_owned();
    let (reason, message) = (text("reason"), text("message"));
    (server, reason, message)
}

/// The message of a tag that was refused for the address that it leads to.
async fn refused(arguments: &[&str], from: &str) -> String {
    let (reason, message) = told(arguments, from).await;
    assert_eq!(reason, "Forbidden", "{message}");
    assert!(
        message.ends_with("is one that registries may not have; --registry-allow-address says otherwise"),
        "{message}"
    );
    message
}

#[tokio::test]
async fn metadata_of_the_machine_is_not_imported_from() {
    let metadata = "its address 169.254.169.254";
    let message = refused(&[], "169.254.169.254/latest/meta-data:1").await;
    assert!(message.contains(&format!("the registry 169.254.169.254 is not asked: {metadata}")), "{message}");
    let message = refused(&[], "2852039166:80/latest/meta-data:1").await;
    assert!(message.contains(metadata), "{message}");

    let inside = "http://169.254.169.254/latest/meta-data/";
    let registry = redirecting(inside).await;
    let message = refused(&[], &format!("{registry}/a/b:1")).await;
    let way = format!("the registry {registry} leads to 169.254.169.254, which is not asked: {metadata}");
    assert!(message.contains(&way), "{message}");

    let registry = wanting_a_token_of(inside).await;
    let message = refused(&[], &format!("{registry}/a/b:1")).await;
    assert!(message.contains(&format!("the token server 169.254.169.254 is not asked: {metadata}")), "{message}");
}

#[tokio::test]
async fn blocked_address_is_not_connected_to() {
    let bait = Bait::at("127.0.0.3");
    let inside = format!("127.0.0.3:{}", bait.port());
    refused(&BLOCKED, &format!("{inside}/a/b:1")).await;
    refused(&BLOCKED, &format!("{}/a/b:1", redirecting(&format!("http://{inside}/")).await)).await;
    refused(&BLOCKED, &format!("{}/a/b:1", wanting_a_token_of(&format!("http://{inside}/")).await)).await;
    assert!(bait.is_untouched());
}

#[tokio::test]
async fn name_is_judged_by_the_address_that_it_has() {
    let bait = Bait::at("127.0.0.1");
    let inside = format!("localhost:{}", bait.port());
    let untold = "is not asked: its address is one that registries may not have";
    let message = refused(&BLOCKED, &format!("{inside}/a/b:1")).await;
    assert!(message.contains(&format!("the registry {inside} {untold}")), "{message}");
    let message = refused(&BLOCKED, &format!("{}/a/b:1", redirecting(&format!("http://{inside}/")).await)).await;
    assert!(message.contains(&format!("leads to {inside}, which {untold}")), "{message}");
    refused(&BLOCKED, &format!("{}/a/b:1", wanting_a_token_of(&format!("http://{inside}/")).await)).await;
    assert!(bait.is_untouched());
}

/// Registries lead to storage with the right to read in the address: to some that is not there, and to some that answers.
#[tokio::test]
async fn signed_address_that_a_registry_leads_to_is_told_nowhere() {
    let storage = registry(StatusCode::INTERNAL_SERVER_ERROR, LOCATION, String::new()).await;
    let closed = format!("https://127.0.0.1:{}", Bait::at("127.0.0.1").port());
    for to in [closed, format!("http://{storage}")] {
        let registry = redirecting(&format!("{to}/blob?X-Amz-Signature=s3cr3t")).await;
        let (server, _, message) = served(&["--log", "trace"], &format!("{registry}/a/b:1")).await;
        let metrics = reqwest::get(format!("http://{}/metrics", server.admin)).await.unwrap().text().await.unwrap();
        let log = fs::read_to_string(server.path("stderr")).unwrap();
        assert!(log.contains("TRACE") && metrics.contains("pinstream_"), "{log}");
        for told in [message, metrics, log, fs::read_to_string(server.path("streams/app.json")).unwrap()] {
            assert!(!told.contains("s3cr3t"), "{told}");
        }
    }
}

#[tokio::test]
async fn answer_of_what_is_no_registry_is_not_read_out() {
    for (status, body) in [
        (StatusCode::OK, "password=hunter2"),
        (StatusCode::OK, "\"hunter2\""),
        (StatusCode::OK, r#"{"mediaType": {"hunter2": 1}}"#),
        (StatusCode::OK, r#"{"schemaVersion": "hunter2", "layers": "hunter2", "config": "hunter2"}"#),
        (StatusCode::INTERNAL_SERVER_ERROR, "password=hunter2"),
        (StatusCode::NOT_FOUND, r#"{"password": "hunter2"}"#),
        (StatusCode::UNAUTHORIZED, r#"{"password": "hunter2"}"#),
    ] {
        let inside = answering(status, HeaderName::from_static("x-password"), "hunter2".to_owned(), body).await;
        let (_, message) = told(&[], &format!("{inside}/a/b:1")).await;
        assert!(!message.contains("hunter2"), "{body}: {message}");
    }
}

#[tokio::test]
async fn smallest_network_that_is_given_counts() {
    let registry = registry(StatusCode::NOT_FOUND, LOCATION, String::new()).await;
    let from = format!("{registry}/a/b:1");
    let block = ["--registry-block-address", "127.0.0.0/8"];
    refused(&block, &from).await;
    let (reason, message) = told(&[&block[..], &["--registry-allow-address", "127.0.0.2"]].concat(), &from).await;
    assert_eq!(reason, "NotFound", "{message}");
}
