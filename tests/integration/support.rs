//! The running binary, clients for it, and the waiting that tests have in common.

use std::future::Future;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use reqwest::{Certificate, Client, ClientBuilder};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long a condition may take to come true on a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);

pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A running `pinstream serve` in a folder of its own. Dropping it kills it.
pub struct Server {
    pub folder: TempDir,
    child: Child,
    _stdout: BufReader<ChildStdout>,
    /// What it printed until it was ready.
    pub greeting: String,
    pub webhook: SocketAddr,
    pub admin: SocketAddr,
}

impl Server {
    /// Starts it over `streams/` of a new folder, which `prepare` fills first. Free ports, development certificate.
    pub fn start(arguments: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        Self::start_by(&[], arguments, prepare)
    }

    /// As [`Server::start`], by a program that is given the command line as arguments, and becomes it.
    pub fn start_by(by: &[&str], arguments: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("streams")).unwrap();
        prepare(folder.path());
        let program = [by, &[env!("CARGO_BIN_EXE_pinstream")]].concat();
        let mut child = Command::new(program[0])
            .args(&program[1..])
            .args(["serve", "--streams", "streams", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .args(arguments)
            .env("PINSTREAM_LOG", "warn")
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(folder.path().join("stderr")).unwrap())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut greeting = String::new();
        while !greeting.contains("Ctrl-C") {
            let read = stdout.read_line(&mut greeting).unwrap();
            assert_ne!(read, 0, "it ended before it was ready: {greeting}");
        }
        let address = |word: &str| {
            let line = greeting.lines().find(|line| line.trim_start().starts_with(word)).unwrap();
            line.split("//").nth(1).unwrap().split('/').next().unwrap().parse().unwrap()
        };
        Self { webhook: address("webhook"), admin: address("health"), folder, child, _stdout: stdout, greeting }
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    pub fn ca(&self) -> Vec<u8> {
        std::fs::read(self.path("certs/dev/ca.crt")).unwrap()
    }

    pub fn url(&self) -> String {
        format!("https://localhost:{}/mutate", self.webhook.port())
    }

    /// Where the registry is, as the greeting says.
    pub fn registry(&self) -> String {
        let line = self.greeting.lines().find(|line| line.trim_start().starts_with("registry ")).unwrap();
        line.split_whitespace().nth(1).unwrap().trim_end_matches("/v2/").to_owned()
    }

    /// A client that trusts these CAs, or the development CA if there are none.
    pub fn client(&self, cas: &[&[u8]], configure: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Client {
        let own = self.path("certs/dev/ca.crt").exists().then(|| self.ca());
        let cas = if cas.is_empty() { vec![own.as_deref().unwrap()] } else { cas.to_vec() };
        let roots = cas.into_iter().map(|ca| Certificate::from_pem(ca).unwrap());
        let builder = Client::builder().tls_certs_only(roots).resolve("localhost", self.webhook).no_proxy();
        configure(builder).build().unwrap()
    }

    /// Posts a review and gives back its `response`.
    pub async fn ask(&self, client: &Client, review: &Value) -> Value {
        self.ask_below(client, "", review).await
    }

    /// Posts a review to a path below [`Server::url`] and gives back its `response`.
    pub async fn ask_below(&self, client: &Client, path: &str, review: &Value) -> Value {
        let answer = client.post(format!("{}{path}", self.url())).json(review).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "application/json");
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer["response"]["uid"], review["request"]["uid"]);
        answer["response"].clone()
    }

    pub async fn admin(&self, path: &str) -> (u16, String) {
        let client = Client::builder().no_proxy().build().unwrap();
        let answer = client.get(format!("http://{}{path}", self.admin)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// The value of one line of the metrics.
    pub async fn metric(&self, line: &str) -> f64 {
        let (_, text) = self.admin("/metrics").await;
        let value = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no metric {line} in\n{text}")).parse().unwrap()
    }

    pub fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(self.pid(), signal).unwrap();
    }

    pub fn wait(&mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < PATIENCE, "it does not end");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// A TLS connection that the test drives byte by byte.
    pub fn raw(
        &self,
        configure: impl FnOnce(&mut rustls::ClientConfig),
    ) -> rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
        self.raw_with_versions(rustls::DEFAULT_VERSIONS, configure)
    }

    pub fn raw_with_versions(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        configure: impl FnOnce(&mut rustls::ClientConfig),
    ) -> rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&self.ca()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        configure(&mut config);
        let name = "localhost".try_into().unwrap();
        let connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = TcpStream::connect(self.webhook).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        rustls::StreamOwned::new(connection, stream)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says that this test is left out, in spite of the harness, which keeps to itself what tests print that do not fail.
pub fn leave_out(why: &str) {
    let test = thread::current();
    let line = format!("{} is left out: {why}\n", test.name().unwrap_or("a test"));
    io::stderr().write_all(line.as_bytes()).unwrap();
}

/// Waits until a condition holds.
pub async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < PATIENCE, "it did not come true that {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A stream `name` in `demo` with local look-up and, for each tag, one image.
pub fn stream(name: &str, tags: &[(&str, &str)]) -> Value {
    let history = |(tag, image): &(&str, &str)| {
        let digest = image.split_once('@').unwrap().1;
        json!({"tag": tag, "items": [{"created": "2026-01-01T00:00:00Z", "dockerImageReference": image, "image": digest}]})
    };
    json!({"apiVersion": "pinstream.dev/v1", "kind": "ImageStream", "metadata": {"name": name, "namespace": "demo"},
        "spec": {"lookupPolicy": {"local": true}}, "status": {"tags": tags.iter().map(history).collect::<Vec<_>>()}})
}

/// A pull spec whose digest repeats one hex digit.
pub fn image(digit: char) -> String {
    format!("quay.io/demo/app@sha256:{}", digit.to_string().repeat(64))
}

pub fn review(kind: &str, namespace: &str, operation: &str, object: &Value, old: &Value) -> Value {
    let group =
        object["apiVersion"].as_str().and_then(|version| version.split_once('/')).map_or("", |(group, _)| group);
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "6f1c2b9e-0000-4000-8000-000000000001", "operation": operation, "namespace": namespace,
        "kind": {"group": group, "version": "v1", "kind": kind}, "object": object, "oldObject": old}})
}

/// A review of a Pod in `demo` whose containers have these images.
pub fn pod_review(images: &[&str]) -> Value {
    let containers: Vec<_> =
        images.iter().enumerate().map(|(index, image)| json!({"name": format!("c{index}"), "image": image})).collect();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": containers}});
    review("Pod", "demo", "CREATE", &pod, &Value::Null)
}

/// The decoded patch of a response; none means empty.
pub fn patch_of(response: &Value) -> Value {
    let Some(patch) = response["patch"].as_str() else { return json!([]) };
    assert_eq!(response["patchType"], "JSONPatch");
    serde_json::from_slice(&base64::engine::general_purpose::STANDARD.decode(patch).unwrap()).unwrap()
}

/// Clients that ask without a pause until they are told to stop.
pub struct Load {
    tasks: Vec<tokio::task::JoinHandle<Vec<String>>>,
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
}

impl Load {
    /// Each client asks `review` again and again; a new one is made every `reconnect_every` requests. `check` says
    /// what is wrong with an answer. A client that cannot connect any more stops without a complaint.
    pub fn start(
        url: &str,
        clients: Vec<Box<dyn Fn() -> Client + Send>>,
        reconnect_every: usize,
        review: &Value,
        check: fn(&Value) -> Option<String>,
    ) -> Self {
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let tasks = clients.into_iter().map(|connect| {
            let (stop, asked, url, review) = (Arc::clone(&stop), Arc::clone(&asked), url.to_owned(), review.clone());
            tokio::runtime::Handle::current().spawn(async move {
                let mut failures = Vec::new();
                let mut client = connect();
                for number in 1.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    if number % reconnect_every == 0 {
                        client = connect();
                    }
                    match client.post(&url).json(&review).send().await {
                        Ok(answer) => match answer.json::<Value>().await {
                            Ok(answer) => failures.extend(check(&answer["response"])),
                            Err(error) => failures.push(format!("{error:?}")),
                        },
                        Err(error) if error.is_connect() => break,
                        Err(error) => failures.push(format!("{error:?}")),
                    }
                    asked.fetch_add(1, Ordering::Relaxed);
                }
                failures
            })
        });
        Self { tasks: tasks.collect(), stop, asked }
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// Waits until so many more requests were answered.
    pub async fn more(&self, count: usize) {
        let target = self.asked() + count;
        until("enough requests were answered", async || self.asked() >= target).await;
    }

    /// Stops, and gives back how many requests were answered and what was wrong.
    pub async fn stop(self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        self.ended().await
    }

    /// Waits until no client can connect any more.
    pub async fn ended(self) -> (usize, Vec<String>) {
        let mut failures = Vec::new();
        for task in self.tasks {
            failures.extend(task.await.unwrap());
        }
        (self.asked.load(Ordering::Relaxed), failures)
    }
}
