//! The pull-through registry over real HTTPS, in front of a registry that counts and can go away.

use std::fs;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;

use axum::body::Bytes;
use reqwest::Version;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Server, until};
use crate::upstream::{MANIFEST_TYPE, Upstream};

/// `pinstream serve` with a registry in front of that one.
pub fn serve(upstream: &Upstream, arguments: &[&str], htpasswd: &str) -> Server {
    let fixed = ["--no-import", "--registry-listen", "127.0.0.1:0", "--storage", "kept"];
    Server::start(&[&fixed[..], arguments].concat(), |folder| {
        fs::write(folder.join("streams/app.json"), upstream.stream().to_string()).unwrap();
        fs::write(folder.join("htpasswd"), htpasswd).unwrap();
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_pulled_once_and_stays_when_its_registry_is_gone() {
    let upstream = Upstream::start(1 << 20).await;
    let server = serve(&upstream, &[], "");
    let url = server.registry();
    let client = server.client(&[], |client| client);
    let first = server.client(&[], reqwest::ClientBuilder::http1_only);
    for (client, version) in [(&first, Version::HTTP_11), (&client, Version::HTTP_2), (&client, Version::HTTP_2)] {
        let answer = client.get(format!("{url}/v2/demo/app/manifests/1")).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (200, version));
        assert_eq!(answer.headers()["content-type"], MANIFEST_TYPE);
        assert_eq!(answer.bytes().await.unwrap(), upstream.manifest);
        let answer = client.get(format!("{url}{}", upstream.layer_path())).send().await.unwrap();
        assert_eq!(answer.bytes().await.unwrap(), upstream.layer);
        upstream.is_gone.store(true, Ordering::Relaxed);
    }
    assert_eq!(upstream.asked.load(Ordering::Relaxed), 2);

    let part = client.get(format!("{url}{}", upstream.layer_path())).header("range", "bytes=1000-1999");
    let part = part.send().await.unwrap();
    let range = part.headers()["content-range"].to_str().unwrap().to_owned();
    assert_eq!((part.status().as_u16(), range.as_str()), (206, "bytes 1000-1999/1048576"));
    assert_eq!(part.bytes().await.unwrap(), upstream.layer.slice(1000..2000));
    for client in [&first, &client] {
        let head = client.head(format!("{url}{}", upstream.layer_path())).send().await.unwrap();
        assert_eq!((head.status().as_u16(), &head.headers()["content-length"]), (200, &"1048576".parse().unwrap()));
    }
    let tags: Value = client.get(format!("{url}/v2/demo/app/tags/list")).send().await.unwrap().json().await.unwrap();
    assert_eq!(tags, json!({"name": "demo/app", "tags": ["1"]}));
    let push = client.post(format!("{url}/v2/demo/app/blobs/uploads/")).body("x").send().await.unwrap();
    assert_eq!(push.status(), 405);
    let sent = server.metric(r#"pinstream_pull_requests_total{class="2xx",method="GET",what="blob"}"#).await;
    assert_eq!((sent, server.metric("pinstream_pull_bytes_total").await), (4.0, f64::from(3 << 20) + 1000.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_in_the_middle_of_a_pull_cuts_nothing_off() {
    // More than sockets hold, so that it cannot have been sent already.
    let upstream = Upstream::start(64 << 20).await;
    let mut server = serve(&upstream, &["--shutdown-delay", "0s"], "");
    let client = server.client(&[], |client| client);
    let layer = format!("{}{}", server.registry(), upstream.layer_path());
    let mut answer = client.get(&layer).send().await.unwrap();
    let mut pulled = answer.chunk().await.unwrap().unwrap().to_vec();
    server.signal(Signal::TERM);
    until("nobody is let in any more", async || TcpStream::connect(server.webhook).is_err()).await;
    while let Some(chunk) = answer.chunk().await.unwrap() {
        pulled.extend_from_slice(&chunk);
    }
    assert!(pulled == upstream.layer);
    drop((answer, client));
    assert_eq!(server.wait().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_in_the_password_file_may_pull() {
    let upstream = Upstream::start(10).await;
    // "pull-secret".
    let user = "ann:$2b$05$AXol5uJ3sUN/05Zc4teqmeKOGQGHE4g.Gjg2RpmeDUeUswkrKJW12\n";
    let server = serve(&upstream, &["--htpasswd", "htpasswd"], user);
    let client = server.client(&[], |client| client);
    let url = format!("{}/v2/demo/app/manifests/1", server.registry());
    let refused = client.get(&url).send().await.unwrap();
    assert_eq!(
        (refused.status().as_u16(), &refused.headers()["www-authenticate"]),
        (401, &"Basic realm=\"pinstream\"".parse().unwrap())
    );
    let as_user = async |user: &str, password: &str| {
        client.get(&url).basic_auth(user, Some(password)).send().await.unwrap().status().as_u16()
    };
    assert_eq!(as_user("ann", "pull-secret").await, 200);
    assert_eq!(as_user("ann", "guessed").await, 401);
    assert_eq!(as_user("bob", "pull-secret").await, 401);
    fs::write(server.path("htpasswd"), user.replace("ann", "bob")).unwrap();
    until("the changed file counts", async || as_user("bob", "pull-secret").await == 200).await;
    assert_eq!(as_user("ann", "pull-secret").await, 401);
    assert_eq!(server.metric(r#"pinstream_pull_access_total{decision="no_credentials"}"#).await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn client_that_takes_nothing_is_let_go() {
    let upstream = Upstream::start(32 << 20).await;
    let server = serve(&upstream, &["--write-timeout", "500ms"], "");
    let url = format!("{}{}", server.registry(), upstream.layer_path());
    for client in [server.client(&[], |client| client), server.client(&[], reqwest::ClientBuilder::http1_only)] {
        let answer = client.get(&url).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        until("nothing is sent any more", async || server.metric("pinstream_pull_transfers").await == 0.0).await;
        assert!(answer.bytes().await.is_err());
        // Who reads gets it all.
        assert_eq!(client.get(&url).send().await.unwrap().bytes().await.unwrap(), upstream.layer);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn registry_of_its_own_serves_a_directory_that_it_may_only_read() {
    let upstream = Upstream::start(10).await;
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("streams")).unwrap();
    fs::write(folder.path().join("streams/app.json"), upstream.stream().to_string()).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_pinstream"))
        .args(["registry", "--plain-http", "--streams", "streams", "--storage", "kept", "--listen", "127.0.0.1:0"])
        .args(["--admin-listen", "127.0.0.1:0", "--log-format", "json"])
        .env_clear()
        .current_dir(folder.path())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    let mut lines = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let serving = lines.find(|line| line["message"] == "serving").unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let get = async |host: &Value, path: &str| {
        let answer = client.get(format!("http://{}{path}", host.as_str().unwrap())).send().await.unwrap();
        (answer.status().as_u16(), answer.bytes().await.unwrap())
    };
    assert_eq!(get(&serving["registry"], "/v2/demo/app/manifests/1").await, (200, upstream.manifest.clone()));
    assert_eq!(get(&serving["registry"], &upstream.layer_path()).await, (200, upstream.layer.clone()));
    assert_eq!(get(&serving["registry"], "/v2/demo/other/tags/list").await.0, 404);
    let ready = get(&serving["admin"], "/readyz?verbose").await;
    assert_eq!(ready, (200, Bytes::from_static(b"[+]streams ok\n[+]serving ok\nreadyz check passed\n")));
    assert!(!folder.path().join("streams/.pinstream").exists());
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM).unwrap();
    let status = tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap();
    assert!(status.success());
}
