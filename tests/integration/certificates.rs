//! Certificates that change while clients are connected.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use assert_cmd::Command;
use reqwest::Client;

use crate::support::{Load, Server, image, pod_review, stream, until};

/// Makes certificates in a folder with the binary.
fn make(folder: &Path) -> Vec<u8> {
    Command::new(env!("CARGO_BIN_EXE_pinstream")).args(["certs", "--out"]).arg(folder).assert().success();
    fs::read(folder.join("ca.crt")).unwrap()
}

/// Points `..data` to another folder in one step, as the kubelet does it.
fn swap(folder: &Path, target: &str) {
    symlink(target, folder.join("..next")).unwrap();
    fs::rename(folder.join("..next"), folder.join("..data")).unwrap();
}

fn loads(server: &Server, cas: &[&[u8]]) -> Vec<Box<dyn Fn() -> Client + Send>> {
    let (webhook, cas) = (server.webhook, cas.iter().map(|ca| ca.to_vec()).collect::<Vec<_>>());
    (0..4)
        .map(|number| {
            let cas = cas.clone();
            let connect = move || {
                let roots = cas.iter().map(|ca| reqwest::Certificate::from_pem(ca).unwrap());
                let client = Client::builder().tls_certs_only(roots).resolve("localhost", webhook).no_proxy();
                let client = if number % 2 == 0 { client.http1_only() } else { client };
                client.build().unwrap()
            };
            Box::new(connect) as Box<dyn Fn() -> Client + Send>
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_swapped_under_load_fails_no_request() {
    let (mut old, mut new) = (Vec::new(), Vec::new());
    let server = Server::start(&["--tls-cert", "mounted/tls.crt", "--tls-key", "mounted/tls.key"], |folder| {
        fs::write(folder.join("streams/app.json"), stream("app", &[("1", &image('a'))]).to_string()).unwrap();
        let mounted = folder.join("mounted");
        (old, new) = (make(&mounted.join("..1")), make(&mounted.join("..2")));
        fs::create_dir(mounted.join("..broken")).unwrap();
        fs::write(mounted.join("..broken/tls.crt"), "no certificate").unwrap();
        fs::copy(mounted.join("..2/tls.key"), mounted.join("..broken/tls.key")).unwrap();
        symlink("..1", mounted.join("..data")).unwrap();
        for file in ["tls.crt", "tls.key"] {
            symlink(Path::new("..data").join(file), mounted.join(file)).unwrap();
        }
    });
    let review = pod_review(&["app:1"]);
    let check = |response: &serde_json::Value| response["patch"].is_null().then(|| response.to_string());
    let load = Load::start(&server.url(), loads(&server, &[&old, &new]), 20, &review, check);
    load.more(100).await;
    let expiry = server.metric("pinstream_tls_certificate_expiry_timestamp_seconds").await;

    swap(&server.path("mounted"), "..2");
    let loaded = r#"pinstream_tls_certificate_reloads_total{result="loaded"}"#;
    until("the new pair is loaded", async || server.metric(loaded).await == 1.0).await;
    load.more(100).await;
    let only_new = server.client(&[&new], |client| client);
    server.ask(&only_new, &review).await;
    let only_old = server.client(&[&old], |client| client);
    assert!(only_old.post(server.url()).json(&review).send().await.unwrap_err().is_connect());
    assert!(server.metric("pinstream_tls_certificate_expiry_timestamp_seconds").await >= expiry);

    swap(&server.path("mounted"), "..broken");
    let refused = r#"pinstream_tls_certificate_reloads_total{result="refused"}"#;
    until("the broken pair is refused", async || server.metric(refused).await == 1.0).await;
    load.more(100).await;
    server.ask(&server.client(&[&new], |client| client), &review).await;
    assert_eq!(server.admin("/readyz").await.0, 200);

    let (asked, failures) = load.stop().await;
    assert!(failures.is_empty() && asked >= 300, "{} of {asked}: {failures:?}", failures.len());
}
