//! The servers that are compared, each a process of its own that ends with this.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::header;
use axum::routing::post;
use pinstream::metrics::Metrics;
use pinstream::server::Phase;
use pinstream::server::certificate::{Certificate, Files, tls_config};
use pinstream::server::listener::{Limits, Listener};
use serde_json::json;
use tokio::sync::watch;

use crate::Error;
use crate::registry::{MANIFEST_TYPE, Registry, Running, answers, free};

/// Set in the process that is to be the constant server: the folder of its certificate and its answers.
pub const CONSTANT: &str = "PINSTREAM_BENCH_CONSTANT";

/// A webhook.
pub struct Server {
    process: Running,
    socket: SocketAddr,
    place: Place,
}

/// Where reviews are sent.
#[derive(Clone, Copy)]
enum Place {
    /// All of them.
    Fixed(&'static str),
    /// Each to a place of its own.
    Numbered,
}

impl Server {
    /// Pinstream over one stream, `demo/app`, whose tag `1` is that image.
    pub fn webhook(folder: &Path, image: &str) -> Result<Self, Error> {
        let (program, certs) = (env!("CARGO_BIN_EXE_pinstream"), folder.join("certs"));
        let mut made = Command::new(program);
        made.args(["certs", "localhost", "--out"]).arg(&certs);
        made.stdout(Stdio::null()).stderr(Stdio::null()).status()?;
        let digest = image.split_once('@').ok_or("no digest")?.1;
        let stream = json!({"apiVersion": "pinstream.dev/v1", "kind": "ImageStream",
            "metadata": {"name": "app", "namespace": "demo"}, "spec": {"lookupPolicy": {"local": true}},
            "status": {"tags": [{"tag": "1", "items": [{"created": "2026-01-01T00:00:00Z", "generation": 1,
                "dockerImageReference": image, "image": digest}]}]}});
        fs::create_dir_all(folder.join("streams"))?;
        fs::write(folder.join("streams/app.json"), stream.to_string())?;
        let mut command = Command::new(program);
        command.args(["serve", "--no-import", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
        command.arg("--tls-cert").arg(certs.join("tls.crt")).arg("--tls-key").arg(certs.join("tls.key"));
        command.arg("--streams").arg(folder.join("streams"));
        Self::start(&mut command, Place::Fixed("/mutate"))
    }

    /// The server of this crate with handlers that read the body and answer always the same.
    pub fn constant(folder: &Path, answers: &[Bytes]) -> Result<Self, Error> {
        for (number, answer) in answers.iter().enumerate() {
            fs::write(folder.join(format!("certs/{number}.answer")), answer)?;
        }
        let mut command = Command::new(std::env::current_exe()?);
        Self::start(command.env(CONSTANT, folder.join("certs")), Place::Numbered)
    }

    /// k8s-digester, which asks the registry of each image.
    pub fn digester(folder: &Path, program: &Path) -> Result<Self, Error> {
        let [socket, health, metrics] = [free()?, free()?, free()?];
        // It wants to know an API server, and does not ask it.
        let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "none",
            "clusters": [{"name": "none", "cluster": {"server": "http://127.0.0.1:1"}}],
            "contexts": [{"name": "none", "context": {"cluster": "none", "user": ""}}]});
        fs::write(folder.join("kubeconfig"), config.to_string())?;
        let mut command = Command::new(program);
        command.args(["webhook", "--disable-cert-rotation", "--offline", "--cert-dir"]).arg(folder.join("certs"));
        command.arg(format!("--port={}", socket.port())).arg(format!("--health-addr={health}"));
        command.arg(format!("--metrics-addr={metrics}"));
        command.env("KUBECONFIG", folder.join("kubeconfig")).stdout(Stdio::null()).stderr(Stdio::null());
        let process = Running(command.spawn().map_err(|error| format!("{}: {error}", program.display()))?);
        answers(socket)?;
        Ok(Self { process, socket, place: Place::Fixed("/v1/mutate") })
    }

    fn start(command: &mut Command, place: Place) -> Result<Self, Error> {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("no standard output")?).lines();
        let process = Running(child);
        loop {
            let line = lines.next().ok_or("the server did not start")??;
            let address = line.trim().strip_prefix("webhook  https://").and_then(|rest| rest.split('/').next());
            if let Some(address) = address {
                return Ok(Self { socket: address.parse()?, process, place });
            }
        }
    }

    /// Where the review of a number is sent.
    pub fn url(&self, number: usize) -> String {
        match self.place {
            Place::Fixed(path) => format!("https://{}{path}?timeout=10s", self.socket),
            Place::Numbered => format!("https://{}/{number}?timeout=10s", self.socket),
        }
    }

    /// Processor time that it used up to now, to 10 ms.
    pub fn cpu(&self) -> Result<Duration, Error> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.0.id()))?;
        let (_, fields) = stat.rsplit_once(')').ok_or("no process status")?;
        let ticks: Result<Vec<u64>, _> = fields.split_whitespace().skip(11).take(2).map(str::parse).collect();
        Ok(Duration::from_millis(ticks?.iter().sum::<u64>() * 10))
    }
}

/// What [`Server::constant`] runs.
pub async fn constant(folder: &Path) -> Result<(), Error> {
    let certificate = Arc::new(Certificate::default());
    let files = Files { certificate: folder.join("tls.crt"), key: folder.join("tls.key") };
    certificate.replace(&files.load()?);
    let mut router = Router::new();
    for number in 0.. {
        let Ok(answer) = fs::read(folder.join(format!("{number}.answer"))).map(Bytes::from) else { break };
        let handler = async move |_: Bytes| ([(header::CONTENT_TYPE, "application/json")], answer);
        router = router.route(&format!("/{number}"), post(handler));
    }
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("  webhook  https://{}/", socket.local_addr()?);
    let limit = Duration::from_secs(10);
    let limits =
        Limits { handshake: limit, head: limit, idle: limit * 12, write: limit, drain: limit, connections: 1000 };
    let (_phase, phases) = watch::channel(Phase::Serving);
    Listener::tls(socket, tls_config(certificate)?, router, limits, Metrics::new()?.server).run(phases).await;
    Ok(())
}

/// Pushes an image without layers as `app:1`, and gives its digest.
pub fn push(registry: &Registry) -> Result<String, Error> {
    let config = registry.push_blob(b"{}".to_vec())?;
    let config = json!({"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config.as_str(), "size": 2});
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": []});
    Ok(registry.push_manifest(&manifest)?.to_string())
}

/// A way to a server whose answers come later. Gives where it begins.
pub fn late(server: SocketAddr, delay: Duration) -> Result<SocketAddr, Error> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let socket = listener.local_addr()?;
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || -> io::Result<()> {
                let mut server = TcpStream::connect(server)?;
                let (mut asks, mut asked, mut client) = (client.try_clone()?, server.try_clone()?, client);
                thread::spawn(move || {
                    let _ = io::copy(&mut asks, &mut asked);
                    asked.shutdown(Shutdown::Write)
                });
                let mut piece = vec![0; 64 << 10];
                loop {
                    let length = server.read(&mut piece)?;
                    if length == 0 {
                        return client.shutdown(Shutdown::Write);
                    }
                    thread::sleep(delay);
                    client.write_all(&piece[..length])?;
                }
            });
        }
    });
    Ok(socket)
}
