//! The servers that are compared, each a process of its own that ends with this: nginx and the registry of Pinstream; the
//! image that is pulled, and a slow way to where it comes from.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use pinstream::digest::Digest;
use reqwest::blocking::Client;
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};

use crate::Error;
use crate::client::Address;
use crate::registry::{MANIFEST_TYPE, Registry, Running, answers, free};

/// Bytes that a slow way lets through a second, for each connection.
const RATE: f64 = 100e6;
/// How much of them at once.
const GULP: usize = 64 << 10;

impl Running {
    /// What its status says in kB, as `VmHWM`.
    pub fn status(&self, name: &str) -> Result<u64, Error> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).ok_or("no such line")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// Ends it at once, without a word.
    pub fn kill(&self) -> Result<(), Error> {
        Ok(rustix::process::kill_process(Pid::from_child(&self.0), Signal::KILL)?)
    }
}

/// An image that was pushed.
pub struct Image {
    pub manifest: Digest,
    pub blobs: Vec<Digest>,
}

impl Image {
    /// Pushes one of layers of random bytes.
    pub fn push(registry: &Registry, layers: usize, size: usize) -> Result<Self, Error> {
        let (mut blobs, mut parts) = (Vec::new(), Vec::new());
        for content in std::iter::once(Ok(b"{}".to_vec())).chain((0..layers).map(|_| random(size))) {
            let content = content?;
            let size = content.len();
            let digest = registry.push_blob(content)?;
            parts.push(json!({"digest": digest.as_str(), "size": size}));
            blobs.push(digest);
        }
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": parts[0], "layers": parts[1..]});
        Ok(Self { manifest: registry.push_manifest(&manifest)?, blobs })
    }

    /// Where a repository has its blobs.
    pub fn paths(&self, repository: &str) -> Vec<String> {
        self.blobs.iter().map(|digest| format!("/v2/{repository}/blobs/{digest}")).collect()
    }
}

/// A way to a server that is as slow as one that is not on the same machine. Gives where it begins.
pub fn slow(server: SocketAddr) -> Result<SocketAddr, Error> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let socket = listener.local_addr()?;
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || -> io::Result<()> {
                let server = TcpStream::connect(server)?;
                let (mut asks, mut asked) = (client.try_clone()?, server.try_clone()?);
                thread::spawn(move || {
                    let _ = io::copy(&mut asks, &mut asked);
                    asked.shutdown(Shutdown::Write)
                });
                trickle(server, client)
            });
        }
    });
    Ok(socket)
}

/// Passes on what comes, so many bytes a second from when the first of an answer came.
fn trickle(mut from: TcpStream, mut to: TcpStream) -> io::Result<()> {
    let mut gulp = vec![0; GULP];
    let mut free = Instant::now();
    loop {
        let length = from.read(&mut gulp)?;
        if length == 0 {
            return to.shutdown(Shutdown::Write);
        }
        to.write_all(&gulp[..length])?;
        #[expect(clippy::cast_precision_loss, reason = "a gulp is small")]
        let takes = Duration::from_secs_f64(length as f64 / RATE);
        free = free.max(Instant::now()) + takes;
        thread::sleep(free.saturating_duration_since(Instant::now()));
    }
}

/// nginx as Debian has it, with a process for each core: files over HTTP and HTTPS.
pub struct Nginx {
    pub plain: SocketAddr,
    pub tls: SocketAddr,
    _process: Running,
}

impl Nginx {
    /// Serves the files of `root`. What it needs is in `folder`, its certificate too.
    pub fn start(folder: &Path, root: &Path) -> Result<Self, Error> {
        let [plain, tls] = [free()?, free()?];
        let (root, certificates) = (root.display(), folder.join("certs"));
        let certificates = certificates.display();
        let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
        let config = format!(
            "{user} daemon off; worker_processes auto; pid nginx.pid; error_log nginx.log; events {{}}
            http {{
                access_log off; sendfile on;
                server {{ listen {plain}; root {root}; }}
                server {{ listen {tls} ssl; root {root};
                    ssl_certificate {certificates}/tls.crt; ssl_certificate_key {certificates}/tls.key; }}
            }}"
        );
        fs::write(folder.join("nginx.conf"), config)?;
        let prefix = format!("{}/", folder.display());
        let mut command = Command::new("nginx");
        command.args(["-p", &prefix, "-c", "nginx.conf", "-e", "nginx.log"]).stderr(Stdio::null());
        let process = Running(command.spawn().map_err(|error| format!("nginx: {error}"))?);
        [plain, tls].into_iter().try_for_each(answers)?;
        Ok(Self { plain, tls, _process: process })
    }
}

/// `pinstream registry` over one stream, `demo/app`.
pub struct Pinstream {
    pub address: Address,
    pub process: Running,
    admin: SocketAddr,
}

impl Pinstream {
    /// Starts it. What it keeps is in `storage`; with HTTPS it has the certificate of `folder`.
    pub fn start(folder: &Path, storage: &Path, is_secure: bool) -> Result<Self, Error> {
        let certificates = folder.join("certs");
        let mut command = Command::new(env!("CARGO_BIN_EXE_pinstream"));
        command.args(["registry", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--log-format", "json"]);
        command.arg("--streams").arg(folder.join("streams")).arg("--storage").arg(storage);
        if is_secure {
            command.arg("--tls-cert").arg(certificates.join("tls.crt"));
            command.arg("--tls-key").arg(certificates.join("tls.key"));
        } else {
            command.arg("--plain-http");
        }
        let mut child = command.stderr(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(child.stderr.take().ok_or("no standard error")?).lines();
        let process = Running(child);
        let serving = loop {
            let line: Value = serde_json::from_str(&lines.next().ok_or("it ended early")??)?;
            if line["message"] == "serving" {
                break line;
            }
            println!("{line}");
        };
        thread::spawn(move || lines.map_while(Result::ok).for_each(|line| println!("{line}")));
        let socket =
            |name: &str| -> Result<SocketAddr, Error> { Ok(serving[name].as_str().unwrap_or_default().parse()?) };
        let registry = socket("registry")?;
        let tls = || Address::tls(registry, &certificates.join("ca.crt"));
        let address = if is_secure { tls()? } else { Address::plain(registry) };
        let admin = socket("admin")?;
        let client = Client::builder().no_proxy().build()?;
        while !client.get(format!("http://{admin}/readyz")).send()?.status().is_success() {
            thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { address, process, admin })
    }

    /// The value of one line of the metrics.
    pub fn metric(&self, line: &str) -> Result<f64, Error> {
        let client = Client::builder().no_proxy().build()?;
        let text = client.get(format!("http://{}/metrics", self.admin)).send()?.text()?;
        let value = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
        Ok(value.ok_or("no such metric")?.parse()?)
    }
}

/// Writes the stream whose tag has the image, which is to be pulled from a registry.
pub fn write_stream(folder: &Path, registry: SocketAddr, image: &Image) -> Result<(), Error> {
    let digest = image.manifest.as_str();
    let source = format!("{registry}/app@{digest}");
    let stream = json!({"apiVersion": "pinstream.dev/v1", "kind": "ImageStream", "metadata": {"name": "app", "namespace": "demo"},
        "spec": {"tags": [{"name": "1", "from": {"kind": "DockerImage", "name": source}, "importPolicy": {"insecure": true}}]},
        "status": {"tags": [{"tag": "1", "items": [{"created": "2026-01-01T00:00:00Z", "generation": 1,
            "dockerImageReference": source, "image": digest}]}]}});
    fs::create_dir_all(folder.join("streams"))?;
    Ok(fs::write(folder.join("streams/app.json"), stream.to_string())?)
}

/// So many random bytes.
pub fn random(size: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; size];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| "there are no random numbers")?;
    Ok(bytes)
}
