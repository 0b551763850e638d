//! The pull-through registry over real HTTPS, in front of a registry that counts and can go away.

use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::body::Bytes;
use axum::http::{StatusCode, Uri, header};
use axum::response::IntoResponse as _;
use pinstream::digest::Digest;
use reqwest::Version;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::{Server, until};

const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// A registry with one image of one layer.
struct Upstream {
    address: SocketAddr,
    manifest: Bytes,
    layer: Bytes,
    asked: Arc<AtomicUsize>,
    is_gone: Arc<AtomicBool>,
}

impl Upstream {
    async fn start(layer_size: usize) -> Self {
        let layer: Bytes = (0..layer_size).map(|number| u8::try_from(number % 251).unwrap()).collect();
        let config = Bytes::from_static(b"{}");
        let part = |bytes: &Bytes| json!({"digest": Digest::of(bytes).as_str(), "size": bytes.len()});
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": part(&config), "layers": [part(&layer)]});
        let manifest = Bytes::from(manifest.to_string());
        let (asked, is_gone) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let answer = {
            let (all, asked, is_gone) = ([manifest.clone(), layer.clone(), config], asked.clone(), is_gone.clone());
            async move |uri: Uri| {
                asked.fetch_add(1, Ordering::Relaxed);
                let digest = uri.path().rsplit('/').next().unwrap_or_default();
                match all.iter().find(|bytes| Digest::of(bytes).as_str() == digest) {
                    _ if is_gone.load(Ordering::Relaxed) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
                    Some(bytes) => ([(header::CONTENT_TYPE, MANIFEST_TYPE)], bytes.clone()).into_response(),
                    None => StatusCode::NOT_FOUND.into_response(),
                }
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = axum::Router::new().fallback(answer);
        tokio::runtime::Handle::current().spawn(async move { axum::serve(listener, router).await });
        Self { address, manifest, layer, asked, is_gone }
    }

    /// A stream whose tag `1` has the image.
    fn stream(&self) -> Value {
        let digest = Digest::of(&self.manifest);
        let image = format!("{}/up/app@{digest}", self.address);
        json!({"apiVersion": "pinstream.dev/v1", "kind": "ImageStream", "metadata": {"name": "app", "namespace": "demo"},
            "spec": {"tags": [{"name": "1", "from": {"kind": "DockerImage", "name": image}, "importPolicy": {"insecure": true}}]},
            "status": {"tags": [{"tag": "1", "items": [{"created": "2026-01-01T00:00:00Z", "generation": 1,
                "dockerImageReference": image, "image": digest.as_str()}]}]}})
    }

    fn layer_path(&self) -> String {
        format!("/v2/demo/app/blobs/{}", Digest::of(&self.layer))
    }
}

/// `pinstream serve` with a registry in front of that one.
fn serve(upstream: &Upstream, arguments: &[&str], htpasswd: &str) -> Server {
    let fixed = ["--no-import", "--registry-listen", "127.0.0.1:0", "--storage", "kept"];
    Server::start(&[&fixed[..], arguments].concat(), |folder| {
        fs::write(folder.join("streams/app.json"), upstream.stream().to_string()).unwrap();
        fs::write(folder.join("htpasswd"), htpasswd).unwrap();
    })
}

/// Where the registry is, as the greeting says.
fn registry(server: &Server) -> String {
    let line = server.greeting.lines().find(|line| line.trim_start().starts_with("registry ")).unwrap();
    line.split_whitespace().nth(1).unwrap().trim_end_matches("/v2/").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_pulled_once_and_stays_when_its_registry_is_gone() {
    let upstream = Upstream::start(1 << 20).await;
    let server = serve(&upstream, &[], "");
    let url = registry(&server);
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
async fn whoever_is_in_the_password_file_may_pull() {
    let upstream = Upstream::start(10).await;
    // "pull-secret".
    let user = "ann:$2b$05$AXol5uJ3sUN/05Zc4teqmeKOGQGHE4g.Gjg2RpmeDUeUswkrKJW12\n";
    let server = serve(&upstream, &["--htpasswd", "htpasswd"], user);
    let client = server.client(&[], |client| client);
    let url = format!("{}/v2/demo/app/manifests/1", registry(&server));
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
    let url = format!("{}{}", registry(&server), upstream.layer_path());
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
