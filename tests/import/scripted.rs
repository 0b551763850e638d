//! A registry that answers as a script says: what is wrong with a real one cannot be had on demand.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pinstream::metrics::Metrics;
use pinstream::registry::{Client, Settings};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    pub path: String,
    /// As whom it was asked.
    pub host: String,
    pub authorization: Option<String>,
    /// The first byte that is wanted.
    pub from: Option<usize>,
    pub body: String,
}

/// What is answered.
#[derive(Clone)]
pub enum Reply {
    Whole {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: Vec<u8>,
    },
    /// Half of what is announced.
    Cut,
    /// As many bytes as are announced, but the connection ends before the last of them.
    Short {
        status: u16,
        headers: Vec<(&'static str, String)>,
        announced: usize,
        body: Vec<u8>,
    },
    /// Fewer bytes than are announced, and then nothing, as from a machine that is not there any more.
    Vanished {
        announced: usize,
        body: Vec<u8>,
    },
    /// A byte now and then, without an end.
    Drip,
    /// So many bytes at once, and then the same.
    Slowing(usize),
    /// As many bytes as are taken.
    Endless,
    /// A length that is announced, and as many bytes.
    Huge(usize),
    /// Nothing.
    Silent,
    /// Something that is no HTTP.
    Garbage,
    /// A reply that waits until it may be sent.
    Held(Arc<Semaphore>, Box<Reply>),
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self::Whole { status, headers: Vec::new(), body: Vec::new() }
    }

    pub fn text(text: &str) -> Self {
        Self::Whole { status: 200, headers: Vec::new(), body: text.as_bytes().to_vec() }
    }

    pub fn json(value: &Value) -> Self {
        Self::text(&value.to_string())
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        if let Self::Whole { headers, .. } = &mut self {
            headers.push((name, value.into()));
        }
        self
    }

    /// Asks for a token of that server.
    pub fn bearer(realm: &str) -> Self {
        Self::status(401).with("www-authenticate", format!("Bearer realm=\"{realm}\",service=\"test\""))
    }

    pub fn redirect(to: impl Into<String>) -> Self {
        Self::status(307).with("location", to)
    }
}

type Script = Box<dyn Fn(&Asked) -> Reply + Send + Sync>;

struct State {
    script: Script,
    asked: Mutex<Vec<Asked>>,
    sent: AtomicU64,
    hanging: AtomicUsize,
}

/// A running one. Dropping it ends it.
pub struct Scripted {
    /// `127.0.0.1:PORT`.
    pub host: String,
    /// The certificate to trust, PEM, if it has TLS.
    pub certificate: Option<String>,
    state: Arc<State>,
    _serving: JoinSet<()>,
}

impl Scripted {
    /// Speaks plain HTTP.
    pub async fn plain(script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::start(Box::new(script), None).await
    }

    /// Speaks TLS, with a certificate that nobody knows.
    pub async fn tls(script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
        let mut started = Self::start(Box::new(script), Some(TlsAcceptor::from(Arc::new(config)))).await;
        started.certificate = Some(made.cert.pem());
        started
    }

    async fn start(script: Script, acceptor: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let state = State { script, asked: Mutex::default(), sent: AtomicU64::new(0), hanging: AtomicUsize::new(0) };
        let state = Arc::new(state);
        let mut serving = JoinSet::new();
        serving.spawn(accept(listener, acceptor, Arc::clone(&state)));
        Self { host, certificate: None, state, _serving: serving }
    }

    /// Everything that was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.state.asked.lock().unwrap().clone()
    }

    /// What was shown by those who asked, each once, in order.
    pub fn shown(&self) -> Vec<Option<String>> {
        let mut shown: Vec<_> = self.asked().into_iter().map(|asked| asked.authorization).collect();
        shown.dedup();
        shown
    }

    /// How many bytes of bodies were taken from it, as far as it can tell.
    pub fn sent(&self) -> u64 {
        self.state.sent.load(Ordering::SeqCst)
    }

    /// How many answers are under way that have no end.
    pub fn hanging(&self) -> usize {
        self.state.hanging.load(Ordering::SeqCst)
    }

    pub fn url(&self, path: &str) -> String {
        let scheme = if self.certificate.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.host)
    }
}

async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                connections.spawn(connection(accepted.unwrap().0, acceptor.clone(), Arc::clone(&state)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Whatever ends a connection, it has ended.
async fn connection(socket: TcpStream, acceptor: Option<TlsAcceptor>, state: Arc<State>) {
    let _ = match acceptor {
        None => serve(socket, &state).await,
        Some(acceptor) => match acceptor.accept(socket).await {
            Ok(stream) => serve(stream, &state).await,
            Err(error) => Err(error),
        },
    };
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, state: &State) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(asked) = request(&mut stream).await? {
        state.asked.lock().unwrap().push(asked.clone());
        let mut reply = (state.script)(&asked);
        while let Reply::Held(gate, held) = reply {
            gate.acquire().await.unwrap().forget();
            reply = *held;
        }
        answer(&mut stream, state, &asked, reply).await?;
    }
    Ok(())
}

/// `None` if there is no further one, or it is no HTTP.
async fn request(stream: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<Option<Asked>> {
    if stream.fill_buf().await?.first().is_none_or(|byte| !byte.is_ascii_alphabetic()) {
        return Ok(None);
    }
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let header = |name: &str| {
        let mut fields = lines.iter().filter_map(|line| line.split_once(": "));
        fields.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    };
    let mut body = vec![0; header("content-length").map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).await?;
    let mut words = lines[0].split(' ').map(str::to_owned);
    Ok(Some(Asked {
        method: words.next().unwrap(),
        path: words.next().unwrap(),
        host: header("host").unwrap_or_default(),
        authorization: header("authorization"),
        from: header("range").map(|range| range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap()),
        body: String::from_utf8(body).unwrap(),
    }))
}

async fn answer(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    state: &State,
    asked: &Asked,
    reply: Reply,
) -> std::io::Result<()> {
    const BLOCK: &[u8] = &[b' '; 64 << 10];
    let closing = |length: usize| format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    let over = || Err(std::io::Error::other("the script wants the connection closed"));
    match reply {
        Reply::Short { status, headers, announced, body } => {
            stream.write_all(head(status, &headers, announced).as_bytes()).await?;
            send(stream, state, &body).await?;
            stream.shutdown().await?;
            over()
        }
        Reply::Whole { status, headers, body } => {
            stream.write_all(head(status, &headers, body.len()).as_bytes()).await?;
            if asked.method != "HEAD" {
                send(stream, state, &body).await?;
            }
            Ok(())
        }
        Reply::Vanished { announced, body } => {
            stream.write_all(head(200, &[], announced).as_bytes()).await?;
            send(stream, state, &body).await?;
            stream.read_u8().await.map(|_| ())
        }
        Reply::Cut => {
            stream.write_all(closing(1000).as_bytes()).await?;
            send(stream, state, &BLOCK[..500]).await?;
            stream.shutdown().await?;
            over()
        }
        Reply::Huge(length) => {
            stream.write_all(closing(length).as_bytes()).await?;
            for _ in 0..length / BLOCK.len() {
                send(stream, state, BLOCK).await?;
            }
            over()
        }
        Reply::Garbage => {
            stream.write_all(b"220 welcome to the mail server\r\n").await?;
            stream.shutdown().await?;
            over()
        }
        Reply::Silent | Reply::Drip | Reply::Slowing(_) | Reply::Endless => {
            state.hanging.fetch_add(1, Ordering::SeqCst);
            let result = hang(stream, state, &reply, BLOCK).await;
            state.hanging.fetch_sub(1, Ordering::SeqCst);
            result
        }
        Reply::Held(..) => unreachable!("it was waited for"),
    }
}

fn head(status: u16, headers: &[(&'static str, String)], length: usize) -> String {
    let mut head = format!("HTTP/1.1 {status} Scripted\r\ncontent-length: {length}\r\n");
    head.extend(headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")));
    head + "\r\n"
}

/// Until the other side has enough.
async fn hang(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    state: &State,
    reply: &Reply,
    block: &[u8],
) -> std::io::Result<()> {
    if matches!(reply, Reply::Silent) {
        return stream.read_u8().await.map(|_| ());
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
    let is_slow = matches!(reply, Reply::Drip | Reply::Slowing(_));
    if let Reply::Slowing(first) = reply {
        stream.write_all(format!("{first:x}\r\n").as_bytes()).await?;
        send(stream, state, &vec![b' '; *first]).await?;
        stream.write_all(b"\r\n").await?;
    }
    let block = if is_slow { &block[..1] } else { block };
    loop {
        stream.write_all(format!("{:x}\r\n", block.len()).as_bytes()).await?;
        send(stream, state, block).await?;
        stream.write_all(b"\r\n").await?;
        if is_slow {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), state: &State, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await?;
    state.sent.fetch_add(bytes.len() as u64, Ordering::SeqCst);
    Ok(())
}

/// An image small enough to be made up.
#[derive(Clone)]
pub struct TinyImage {
    pub manifest: String,
    pub digest: String,
    config: String,
    config_digest: String,
}

impl TinyImage {
    pub fn new(seed: &str) -> Self {
        let config = json!({"architecture": "amd64", "os": "linux", "config": {"Labels": {"seed": seed}}}).to_string();
        let config_digest = digest(config.as_bytes());
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_digest, "size": config.len()},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest(b""), "size": 7}]})
        .to_string();
        Self { digest: digest(manifest.as_bytes()), manifest, config, config_digest }
    }

    /// What a registry that has it, and under every tag, answers.
    pub fn reply(&self, asked: &Asked) -> Reply {
        if asked.path.contains("/manifests/") {
            let manifest = Reply::text(&self.manifest).with("content-type", MANIFEST);
            return manifest.with("docker-content-digest", self.digest.clone());
        }
        if asked.path.ends_with(&self.config_digest) { Reply::text(&self.config) } else { Reply::status(404) }
    }
}

pub fn digest(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// A client that is not polite, tries again at once and knows no proxies.
pub fn client(change: impl FnOnce(&mut Settings)) -> Client {
    let mut settings = Settings {
        concurrency: 0,
        rate: 0.0,
        retry_wait: Duration::from_millis(1),
        environment_proxies: false,
        ..Settings::default()
    };
    change(&mut settings);
    Client::new(&settings, Metrics::new().unwrap().import.registry_requests).unwrap()
}

/// For those whom a registry may keep waiting for as long as the test likes.
pub fn patient(settings: &mut Settings) {
    settings.silence_timeout = Duration::from_hours(1);
    settings.total_timeout = Duration::from_hours(1);
}

/// Waits for something that comes soon, on a machine that may be busy.
pub async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    let limit = tokio::time::timeout(Duration::from_mins(2), work).await;
    limit.unwrap_or_else(|_| panic!("it did not come true that {what}"))
}
