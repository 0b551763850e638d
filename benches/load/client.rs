//! Clients that cost little, so that what is measured is the server.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode, Uri, Version, header};
use http_body_util::BodyExt as _;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio_rustls::TlsConnector;

use crate::Error;

/// How many of them there are.
pub const CONNECTIONS: usize = 8;

/// How servers are spoken to.
#[derive(Clone, Copy, PartialEq)]
pub enum Via {
    Http1,
    Http2,
    /// HTTP/2 if the server has it.
    Either,
    /// HTTP/1.1 by wrk.
    Wrk,
}

impl Via {
    /// Whether this machine has it.
    pub fn is_there(self) -> bool {
        self != Self::Wrk || Command::new("wrk").arg("-v").output().is_ok()
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
            Self::Either => "HTTP",
            Self::Wrk => "HTTP/1.1 by wrk",
        }
    }
}

/// What one round came to.
#[derive(Clone, Copy, Default)]
pub struct Round {
    /// Answers a second.
    pub rate: f64,
    /// What each cost the server, where that is known.
    pub cpu: Duration,
    /// Latencies.
    pub p50: Duration,
    pub p99: Duration,
    /// How long after they were due requests went out, at most but for one in a hundred.
    pub late: Duration,
}

/// Asks servers.
#[derive(Clone)]
pub struct Client {
    via: Via,
    tls: TlsConnector,
    /// Whose certificate the servers have.
    name: ServerName<'static>,
    /// Where wrk finds what it is to send.
    folder: PathBuf,
}

/// A connection.
enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

impl Sender {
    /// Sends a review, and waits for the answer.
    async fn ask(&mut self, url: &Uri, body: Bytes) -> Result<Bytes, Error> {
        let request = |uri: &str, version: Version| {
            Request::post(uri)
                .version(version)
                .header(header::HOST, "localhost")
                .header(header::CONTENT_TYPE, "application/json")
                .body(Body::from(body))
        };
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        let answer = match self {
            Self::Http1(sender) => sender.send_request(request(path, Version::HTTP_11)?).await?,
            Self::Http2(sender) => {
                sender.send_request(request(&format!("https://localhost{path}"), Version::HTTP_2)?).await?
            }
        };
        if answer.status() != StatusCode::OK {
            return Err(format!("{url} answered {}", answer.status()).into());
        }
        Ok(answer.into_body().collect().await?.to_bytes())
    }
}

impl Client {
    /// One that trusts this CA to say who has that name.
    pub fn new(via: Via, ca: &Path, name: &str) -> Result<Self, Error> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca)?)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // All servers have one name, and no ticket of another.
        config.resumption = rustls::client::Resumption::disabled();
        config.alpn_protocols = match via {
            Via::Http1 | Via::Wrk => Vec::new(),
            Via::Http2 => vec![b"h2".to_vec()],
            Via::Either => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        };
        let folder = ca.parent().ok_or("the CA is in no folder")?.to_owned();
        let name = ServerName::try_from(name.to_owned())?;
        Ok(Self { via, tls: TlsConnector::from(Arc::new(config)), name, folder })
    }

    async fn connect(&self, url: &Uri) -> Result<Sender, Error> {
        let authority = url.authority().ok_or("no address")?;
        let stream = TcpStream::connect(authority.as_str()).await?;
        stream.set_nodelay(true)?;
        let stream = self.tls.connect(self.name.clone(), stream).await?;
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let (io, handle) = (TokioIo::new(stream), Handle::current());
        Ok(if is_http2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
            handle.spawn(connection);
            Sender::Http2(sender)
        } else {
            let (sender, connection) = http1::handshake(io).await?;
            handle.spawn(connection);
            Sender::Http1(sender)
        })
    }

    /// Asks once.
    pub async fn ask(&self, url: &str, body: Bytes) -> Result<Bytes, Error> {
        let url: Uri = url.parse()?;
        self.connect(&url).await?.ask(&url, body).await
    }

    /// Asks on each connection again as soon as there is an answer. All answers have to be as long as the first.
    pub async fn closed(&self, url: &str, body: &Bytes, length: Duration) -> Result<Round, Error> {
        if self.via == Via::Wrk {
            return self.wrk(url, body, length);
        }
        let url: Uri = url.parse()?;
        let mut senders = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut sender = self.connect(&url).await?;
            let first = sender.ask(&url, body.clone()).await?;
            senders.push((sender, first.len()));
        }
        let (started, handle) = (Instant::now(), Handle::current());
        let ask = |(mut sender, expected): (Sender, usize), url: Uri, body: Bytes| async move {
            let mut latencies = Vec::new();
            while started.elapsed() < length {
                let asked = Instant::now();
                let answer = sender.ask(&url, body.clone()).await?;
                latencies.push(asked.elapsed());
                if answer.len() != expected {
                    return Err(format!("{url} answered {}", String::from_utf8_lossy(&answer)).into());
                }
            }
            Ok::<_, Error>(latencies)
        };
        let asking = senders.into_iter().map(|sender| handle.spawn(ask(sender, url.clone(), body.clone())));
        let mut latencies = Vec::new();
        for connection in asking.collect::<Vec<_>>() {
            latencies.extend(connection.await??);
        }
        Ok(round(latencies, started.elapsed()))
    }

    /// Asks so often a second over HTTP/2, evenly, whether there are answers or not. Latencies count from when a request
    /// was due.
    pub async fn open(&self, url: &str, body: &Bytes, rate: u32, length: Duration) -> Result<Round, Error> {
        let url: Uri = url.parse()?;
        let mut senders = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut sender = self.connect(&url).await?;
            sender.ask(&url, body.clone()).await?;
            let Sender::Http2(sender) = sender else { return Err("only HTTP/2 asks so".into()) };
            senders.push(sender);
        }
        let (handle, body) = (Handle::current(), body.clone());
        // A thread of its own: timers of the runtime go by whole milliseconds.
        let pace = move || {
            let (started, gap) = (Instant::now(), Duration::from_secs(1) / rate);
            let mut asking = Vec::new();
            for (number, sender) in (0..).zip(senders.iter().cycle()) {
                let due = started + gap * number;
                if due >= started + length {
                    break;
                }
                thread::sleep(due.saturating_duration_since(Instant::now()));
                let (url, body, mut sender) = (url.clone(), body.clone(), Sender::Http2(sender.clone()));
                asking.push(handle.spawn(async move {
                    let late = due.elapsed();
                    sender.ask(&url, body).await?;
                    Ok::<_, Error>((due.elapsed(), late))
                }));
            }
            (asking, started)
        };
        let (asking, started) = tokio::task::spawn_blocking(pace).await?;
        let (mut latencies, mut late) = (Vec::new(), Vec::new());
        for answer in asking {
            let answer = answer.await??;
            latencies.push(answer.0);
            late.push(answer.1);
        }
        let late = percentile(&mut late, 99);
        Ok(Round { late, ..round(latencies, started.elapsed()) })
    }

    /// As [`Client::closed`], by wrk with one thread.
    fn wrk(&self, url: &str, body: &Bytes, length: Duration) -> Result<Round, Error> {
        let (review, script) = (self.folder.join("review"), self.folder.join("script"));
        std::fs::write(&review, body)?;
        let text = format!(
            "wrk.method = 'POST'\nwrk.body = io.open('{}', 'rb'):read('*all')\n\
             wrk.headers['Content-Type'] = 'application/json'\n\
             done = function(summary, latency) print('=', summary.requests / summary.duration * 1e6, \
             latency:percentile(50), latency:percentile(99), summary.errors.status) end\n",
            review.display()
        );
        std::fs::write(&script, text)?;
        let mut wrk = Command::new("wrk");
        wrk.args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{}", length.as_secs().max(1)), "-s"])
            .arg(script)
            .arg(url);
        let said = String::from_utf8(wrk.output()?.stdout)?;
        let numbers = said.lines().find_map(|line| line.strip_prefix('=')).ok_or("wrk printed no summary")?;
        let numbers: Result<Vec<f64>, _> = numbers.split_whitespace().map(str::parse).collect();
        let [rate, p50, p99, errors] = numbers?[..] else { return Err("wrk printed another summary".into()) };
        if errors > 0.0 {
            return Err(format!("{errors} requests failed").into());
        }
        let micros = |micros: f64| Duration::from_secs_f64(micros / 1e6);
        Ok(Round { rate, p50: micros(p50), p99: micros(p99), ..Round::default() })
    }
}

fn round(mut latencies: Vec<Duration>, elapsed: Duration) -> Round {
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let rate = latencies.len() as f64 / elapsed.as_secs_f64();
    let (p50, p99) = (percentile(&mut latencies, 50), percentile(&mut latencies, 99));
    Round { rate, p50, p99, ..Round::default() }
}

/// The time that so many percent are below.
fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times.get(times.len() * percent / 100).copied().unwrap_or_default()
}
