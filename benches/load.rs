//! Requests per second over loopback HTTPS: the webhook beside the same server with a constant answer.
//!
//! `cargo bench --bench load [-- SECONDS]`. Both servers are processes of their own and take turns in one run with one
//! client; the ratio of their throughputs is what counts, for the machine is noisy. Where `wrk` is installed it is a client
//! too.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, header};
use axum::routing::post;
use http_body_util::BodyExt as _;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use pinstream::metrics::Metrics;
use pinstream::server::Phase;
use pinstream::server::certificate::{Certificate, Files, tls_config};
use pinstream::server::listener::{Limits, Listener};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsConnector;

const CONNECTIONS: usize = 8;
const ROUNDS: usize = 5;
/// Set in the process that is to be the constant server: the folder of its certificate.
const CONSTANT: &str = "PINSTREAM_BENCH_CONSTANT";
const REVIEW: &str = "examples/reviews/deployment.json";

type Error = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if let Some(folder) = std::env::var_os(CONSTANT) {
        return runtime.block_on(constant(Path::new(&folder)));
    }
    let seconds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(3);
    runtime.block_on(compare(Duration::from_secs(seconds)))
}

/// The server of this crate with a handler that reads the body and answers always the same.
async fn constant(folder: &Path) -> Result<(), Error> {
    let certificate = Arc::new(Certificate::default());
    let files = Files { certificate: folder.join("tls.crt"), key: folder.join("tls.key") };
    certificate.replace(&files.load()?);
    let socket = TcpListener::bind("127.0.0.1:0").await?;
    println!("  webhook  https://{}/mutate", socket.local_addr()?);
    let answer = r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"705ab4f5-6393-11e8-b7cc-42010a800002","allowed":true}}"#;
    let handler = async move |_: Bytes| ([(header::CONTENT_TYPE, "application/json")], answer);
    let limit = Duration::from_secs(10);
    let limits =
        Limits { handshake: limit, head: limit, idle: limit * 12, write: limit, drain: limit, connections: 1000 };
    let router = Router::new().route("/mutate", post(handler));
    let (_phase, phases) = watch::channel(Phase::Serving);
    Listener::tls(socket, tls_config(certificate)?, router, limits, Metrics::new()?.server).run(phases).await;
    Ok(())
}

/// A server in a process of its own, which ends with this.
struct Server(Child, SocketAddr);

impl Server {
    fn start(command: &mut Command) -> Result<Self, Error> {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let stdout = child.stdout.take().ok_or("no standard output")?;
        for line in BufReader::new(stdout).lines() {
            if let Some(address) =
                line?.trim().strip_prefix("webhook  https://").and_then(|rest| rest.split('/').next())
            {
                return Ok(Self(child, address.parse()?));
            }
        }
        Err("the server did not start".into())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    /// Processor time that it used up to now, to 10 ms.
    fn cpu(&self) -> Result<Duration, Error> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        let (_, fields) = stat.rsplit_once(')').ok_or("no process status")?;
        let ticks: Result<Vec<u64>, _> = fields.split_whitespace().skip(11).take(2).map(str::parse).collect();
        Ok(Duration::from_millis(ticks?.iter().sum::<u64>() * 10))
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Client {
    Http1,
    Http2,
    /// HTTP/1.1 by wrk.
    Wrk,
}

/// Answers per second, what each cost the server, and the latencies of one round.
struct Round {
    rate: f64,
    cpu: Duration,
    p50: Duration,
    p99: Duration,
}

async fn compare(length: Duration) -> Result<(), Error> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path().join("certs");
    let pinstream = env!("CARGO_BIN_EXE_pinstream");
    Command::new(pinstream)
        .args(["certs", "--out"])
        .arg(&folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    let mut serve = Command::new(pinstream);
    serve.args(["serve", "--streams", "examples/streams", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    serve.arg("--tls-cert").arg(folder.join("tls.crt")).arg("--tls-key").arg(folder.join("tls.key"));
    let webhook = Server::start(&mut serve)?;
    let constant = Server::start(Command::new(std::env::current_exe()?).env(CONSTANT, &folder))?;
    let patched = std::fs::read_to_string(REVIEW)?;
    let unchanged = patched.replace(r#""namespace": "demo""#, r#""namespace": "else""#);
    println!(
        "{CONNECTIONS} connections, {ROUNDS} rounds of {} s for each server, {} bytes a review",
        length.as_secs(),
        patched.len()
    );
    let servers = Servers { webhook, constant, ca: folder.join("ca.crt"), length };
    for (what, review) in [("patched", patched), ("unchanged", unchanged)] {
        for (client, name) in [(Client::Http1, "HTTP/1.1"), (Client::Http2, "HTTP/2"), (Client::Wrk, "wrk")] {
            if client == Client::Wrk && Command::new("wrk").arg("-v").output().is_err() {
                println!("{what:9} wrk      is not installed, left out");
                continue;
            }
            servers.compare(&format!("{what:9} {name:8}"), client, &Bytes::from(review.clone())).await?;
        }
    }
    Ok(())
}

/// The two servers, and how they are measured.
struct Servers {
    webhook: Server,
    constant: Server,
    ca: PathBuf,
    length: Duration,
}

impl Servers {
    async fn compare(&self, name: &str, client: Client, review: &Bytes) -> Result<(), Error> {
        let (mut webhooks, mut constants) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            for (server, rounds) in [(&self.constant, &mut constants), (&self.webhook, &mut webhooks)] {
                rounds.push(self.round(server, client, review).await?);
            }
        }
        let mut ratios: Vec<f64> =
            webhooks.iter().zip(&constants).map(|(webhook, constant)| webhook.rate / constant.rate).collect();
        ratios.sort_by(f64::total_cmp);
        for (server, mut rounds) in [("constant", constants), ("webhook", webhooks)] {
            rounds.sort_by(|a, b| a.rate.total_cmp(&b.rate));
            let Round { rate, cpu, p50, p99 } = &rounds[ROUNDS / 2];
            println!(
                "{name} {server:8} {rate:7.0} requests/s  p50 {p50:6.0?}  p99 {p99:6.0?}  server {cpu:4.1?} a request"
            );
        }
        println!("{name} ratio    {:7.3} (from {:.3} to {:.3})", ratios[ROUNDS / 2], ratios[0], ratios[ROUNDS - 1]);
        Ok(())
    }

    async fn round(&self, server: &Server, client: Client, review: &Bytes) -> Result<Round, Error> {
        let before = server.cpu()?;
        let round = if client == Client::Wrk {
            wrk(server.1, review, self.length)?
        } else {
            own(server.1, &self.ca, client, review, self.length).await?
        };
        let answers = round.rate * self.length.as_secs_f64();
        Ok(Round { cpu: server.cpu()?.saturating_sub(before).div_f64(answers), ..round })
    }
}

/// A round by wrk, with one thread.
fn wrk(address: SocketAddr, review: &Bytes, length: Duration) -> Result<Round, Error> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("review"), review)?;
    let script = format!(
        "wrk.method = 'POST'\nwrk.body = io.open('{}/review', 'rb'):read('*all')\n\
         wrk.headers['Content-Type'] = 'application/json'\n\
         done = function(summary, latency) print('=', summary.requests / summary.duration * 1e6, \
         latency:percentile(50), latency:percentile(99), summary.errors.status) end\n",
        folder.path().display()
    );
    std::fs::write(folder.path().join("script"), script)?;
    let output = Command::new("wrk")
        .args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{}", length.as_secs())])
        .arg("-s")
        .arg(folder.path().join("script"))
        .arg(format!("https://{address}/mutate?timeout=10s"))
        .output()?;
    let said = String::from_utf8(output.stdout)?;
    let numbers = said.lines().find_map(|line| line.strip_prefix('=')).ok_or("wrk printed no summary")?;
    let numbers: Result<Vec<f64>, _> = numbers.split_whitespace().map(str::parse).collect();
    let [rate, p50, p99, errors] = numbers?[..] else { return Err("wrk printed another summary".into()) };
    assert!(errors == 0.0, "{errors} requests failed");
    let micros = |micros: f64| Duration::from_secs_f64(micros / 1e6);
    Ok(Round { rate, cpu: Duration::ZERO, p50: micros(p50), p99: micros(p99) })
}

/// A round by a bare hyper client.
async fn own(address: SocketAddr, ca: &Path, client: Client, review: &Bytes, length: Duration) -> Result<Round, Error> {
    let tls = client_tls(ca, client)?;
    let started = Instant::now();
    let connections: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            tokio::runtime::Handle::current().spawn(connection(address, tls.clone(), client, review.clone(), length))
        })
        .collect();
    let mut latencies = Vec::new();
    for connection in connections {
        latencies.extend(connection.await??);
    }
    let elapsed = started.elapsed();
    latencies.sort_unstable();
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let rate = latencies.len() as f64 / elapsed.as_secs_f64();
    let at = |percent: usize| latencies[latencies.len() * percent / 100];
    Ok(Round { rate, cpu: Duration::ZERO, p50: at(50), p99: at(99) })
}

fn client_tls(ca: &Path, client: Client) -> Result<TlsConnector, Error> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca)?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    if client == Client::Http2 {
        config.alpn_protocols = vec![b"h2".to_vec()];
    }
    Ok(TlsConnector::from(Arc::new(config)))
}

/// One connection that asks again as soon as it has an answer.
async fn connection(
    address: SocketAddr,
    tls: TlsConnector,
    client: Client,
    review: Bytes,
    length: Duration,
) -> Result<Vec<Duration>, Error> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let io = TokioIo::new(tls.connect("localhost".try_into()?, stream).await?);
    let request = || {
        let uri = if client == Client::Http2 { "https://localhost/mutate?timeout=10s" } else { "/mutate?timeout=10s" };
        Request::post(uri)
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(review.clone()))
    };
    let (mut latencies, started) = (Vec::new(), Instant::now());
    let handle = tokio::runtime::Handle::current();
    macro_rules! ask {
        ($sender:expr) => {
            while started.elapsed() < length {
                let asked = Instant::now();
                let answer = $sender.send_request(request()?).await?;
                assert_eq!(answer.status(), 200);
                answer.into_body().collect().await?;
                latencies.push(asked.elapsed());
            }
        };
    }
    if client == Client::Http2 {
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
        handle.spawn(connection);
        ask!(sender);
    } else {
        let (mut sender, connection) = http1::handshake(io).await?;
        handle.spawn(connection);
        ask!(sender);
    }
    Ok(latencies)
}
