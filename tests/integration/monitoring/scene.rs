//! A server that imports, pins, refuses and is pulled from, so that every metric has something to count.

use std::fs;

use reqwest::Client;
use serde_json::json;

use crate::support::{Server, pod_review, until};
use crate::upstream::Upstream;

/// `pinstream serve` with all that it can do, and the registry behind it.
pub struct Scene {
    pub server: Server,
    upstream: Upstream,
    client: Client,
}

impl Scene {
    /// A server that has imported.
    pub async fn start() -> Self {
        let upstream = Upstream::start(1 << 16).await;
        let pulling = ["--registry-listen", "127.0.0.1:0", "--storage", "kept"];
        let arguments = [&pulling[..], &["--policy", "enforce", "--metrics-streams", "1"]].concat();
        let server = Server::start(&arguments, |folder| {
            fs::write(folder.join("streams/app.json"), upstream.stream().to_string()).unwrap();
        });
        let client = server.client(&[], |client| client);
        let scene = Self { server, upstream, client };
        scene.imports("again").await;
        let pins = async || scene.server.ask(&scene.client, &pod_review(&["again:1"])).await["patch"].is_string();
        until("what was imported is pinned", pins).await;
        scene
    }

    /// Makes a stream that can be imported and one that cannot, and waits until both were tried.
    pub async fn imports(&self, name: &str) {
        let before = self.ended().await;
        for (name, tag) in [(name.to_owned(), "1"), (format!("{name}-gone"), "gone")] {
            let mut stream = self.upstream.stream();
            stream["metadata"]["name"] = json!(name);
            let source = json!({"kind": "DockerImage", "name": format!("{}/up/app:{tag}", self.upstream.address)});
            let policy = json!({"insecure": true, "scheduled": true});
            stream["spec"] = json!({"lookupPolicy": {"local": true},
                "tags": [{"name": "1", "from": source, "importPolicy": policy}]});
            stream.as_object_mut().unwrap().remove("status");
            fs::write(self.server.path(&format!("streams/{name}.json")), stream.to_string()).unwrap();
        }
        until("both streams were tried", async || {
            let now = self.ended().await;
            now.0 > before.0 && now.1 > before.1
        })
        .await;
    }

    /// How many imports ended well, and how many failed.
    async fn ended(&self) -> (f64, f64) {
        let (_, metrics) = self.server.admin("/metrics").await;
        let count = |result: &str| {
            let lines =
                metrics.lines().filter(|line| line.starts_with("pinstream_imports_total") && line.contains(result));
            lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
        };
        (count("\"imported\""), count("\"failed\""))
    }

    /// Lets objects in, refuses one, sends what is no review, and pulls an image.
    pub async fn round(&self) {
        self.server.ask(&self.client, &pod_review(&["again:1", "quay.io/demo/other:1"])).await;
        self.server.ask_below(&self.client, "/../validate", &pod_review(&["quay.io/demo/other:1"])).await;
        let mut unreadable = pod_review(&["again:1"]);
        unreadable["request"]["kind"] = json!("Pod");
        self.server.ask(&self.client, &unreadable).await;
        let manifest = "/v2/demo/app/manifests/1".to_owned();
        for path in [manifest, self.upstream.layer_path()] {
            let answer = self.client.get(format!("{}{path}", self.server.registry())).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{path}");
            answer.bytes().await.unwrap();
        }
    }
}
