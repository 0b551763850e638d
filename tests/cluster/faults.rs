//! An API server with faults: a proxy before the real one that delays answers, refuses, and breaks watches as it is told.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Response, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{Stream, stream};
use pinstream::metrics::Metrics;
use pinstream::server::Phase;
use pinstream::server::certificate::{Certificate, Files, tls_config};
use pinstream::server::listener::{Limits, Listener};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::certificates::Authority;
use crate::control_plane::ControlPlane;
use crate::user::User;
use crate::wire::Wire;

/// The longest time that a connection is left alone.
const LIMIT: Duration = Duration::from_mins(10);
/// How long one that is busy asks to be left alone, in seconds.
const PATIENCE: u64 = 2;

/// What is wrong with the API server. All but `Slow` end the watches that there are.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// Every answer, and every part of a watch, comes so much later.
    Slow(Duration),
    /// Every request is answered by a refusal.
    Refuses(u16),
    /// The same, as API Priority and Fairness refuses: with a line of text, and when to ask again.
    Busy,
    /// It does not know any more where watches and lists were: they cannot go on.
    Forgets,
    /// Watches end at once.
    EndsWatches,
    /// Watches tell that it does not know any more where they were.
    ExpiresWatches,
}

/// A way to the API server on which there can be faults, below HTTP too.
pub struct Way {
    /// The wire to it.
    pub wire: Wire,
    /// How a user is led this way.
    pub kubeconfig: PathBuf,
    fault: watch::Sender<Option<Fault>>,
    met: Arc<AtomicUsize>,
    busy: Arc<Mutex<Busy>>,
    _runtime: Runtime,
}

/// What requests are answered with.
#[derive(Clone)]
struct Proxy {
    server: String,
    client: reqwest::Client,
    fault: watch::Sender<Option<Fault>>,
    met: Arc<AtomicUsize>,
    busy: Arc<Mutex<Busy>>,
}

/// Who was asked for patience.
#[derive(Default)]
struct Busy {
    /// What was refused, and when.
    refused: HashMap<String, Instant>,
    /// What was asked again too soon.
    impatient: Vec<String>,
}

impl Way {
    /// The way of a user with a token.
    pub fn of(plane: &ControlPlane, user: &User) -> Self {
        let folder = plane.folder("way");
        let mut config: Value = serde_json::from_slice(&fs::read(user.kubeconfig()).unwrap()).unwrap();
        let cluster = config["clusters"][0]["cluster"].take();
        let ca = STANDARD.decode(cluster["certificate-authority-data"].as_str().unwrap()).unwrap();
        let roots = [reqwest::Certificate::from_pem(&ca).unwrap()];
        let (fault, met) = (watch::channel(None).0, Arc::<AtomicUsize>::default());
        let busy = Arc::<Mutex<Busy>>::default();
        let proxy = Proxy {
            server: cluster["server"].as_str().unwrap().to_owned(),
            client: reqwest::Client::builder().tls_certs_only(roots).no_proxy().build().unwrap(),
            fault: fault.clone(),
            met: Arc::clone(&met),
            busy: Arc::clone(&busy),
        };
        let runtime = Runtime::new().unwrap();
        let (port, ca) = serve(&runtime, proxy, &folder);
        let wire = Wire::lead_to(port);
        config["clusters"][0]["cluster"] = json!({"server": format!("https://127.0.0.1:{}", wire.port),
            "certificate-authority-data": STANDARD.encode(fs::read(ca).unwrap())});
        let kubeconfig = folder.join("kubeconfig");
        fs::write(&kubeconfig, config.to_string()).unwrap();
        Self { wire, kubeconfig, fault, met, busy, _runtime: runtime }
    }

    /// There is that fault from now on, or none.
    pub fn has(&self, fault: Option<Fault>) {
        self.met.store(0, Ordering::Relaxed);
        self.fault.send_replace(fault);
    }

    /// What was asked again before the time that a busy API server had asked for.
    pub fn impatient(&self) -> Vec<String> {
        self.busy.lock().unwrap().impatient.clone()
    }

    /// How many answers were spoilt by the fault that there is now.
    pub fn met(&self) -> usize {
        self.met.load(Ordering::Relaxed)
    }
}

/// Serves until the runtime ends. Gives the port and the CA.
fn serve(runtime: &Runtime, proxy: Proxy, folder: &Path) -> (u16, PathBuf) {
    let authority = Authority::new(folder, "ca");
    let pair = authority.sign("proxy", None, &["127.0.0.1"]);
    let certificate = Arc::new(Certificate::default());
    certificate.replace(&Files { certificate: pair.certificate, key: pair.key }.load().unwrap());
    let limits = Limits { handshake: LIMIT, head: LIMIT, idle: LIMIT, write: LIMIT, drain: LIMIT, connections: 1000 };
    let socket = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let port = socket.local_addr().unwrap().port();
    let (router, metrics) = (Router::new().fallback(answer).with_state(proxy), Metrics::new().unwrap().server);
    let listener = Listener::tls(socket, tls_config(certificate).unwrap(), router, limits, metrics);
    let _serving = runtime.spawn(async move {
        let (_phase, phases) = watch::channel(Phase::Serving);
        listener.run(phases).await;
    });
    (port, authority.file)
}

async fn answer(State(proxy): State<Proxy>, request: Request) -> Result<Response<Body>, Infallible> {
    let query = request.uri().query().unwrap_or_default();
    let (is_watch, is_rest) = (query.contains("watch="), query.contains("continue="));
    let fault = *proxy.fault.borrow();
    match fault {
        Some(Fault::Slow(delay)) => {
            proxy.meet();
            tokio::time::sleep(delay).await;
        }
        Some(Fault::Refuses(code)) => return Ok(proxy.refusal(code)),
        Some(Fault::Busy) => return Ok(proxy.patience(&request)),
        Some(Fault::Forgets) if is_watch || is_rest => return Ok(proxy.refusal(410)),
        _ => {}
    }
    let Ok(answer) = proxy.forward(request).await else { return Ok(proxy.refusal(502)) };
    let mut response = Response::builder().status(answer.status());
    for (name, value) in answer.headers().iter().filter(|(name, _)| *name != header::TRANSFER_ENCODING) {
        response = response.header(name, value);
    }
    let body = if is_watch { Body::from_stream(watched(answer, proxy)) } else { Body::from_stream(pieces(answer)) };
    Ok(response.body(body).unwrap())
}

impl Proxy {
    async fn forward(&self, request: Request) -> Result<reqwest::Response, axum::BoxError> {
        let (head, body) = request.into_parts();
        let url = format!("{}{}", self.server, head.uri.path_and_query().map_or("/", |path| path.as_str()));
        let mut headers = head.headers;
        headers.remove(header::HOST);
        let body = to_bytes(body, usize::MAX).await?;
        Ok(self.client.request(head.method, url).headers(headers).body(body).send().await?)
    }

    fn meet(&self) {
        self.met.fetch_add(1, Ordering::Relaxed);
    }

    fn refusal(&self, code: u16) -> Response<Body> {
        self.meet();
        let response = Response::builder().status(code).header(header::CONTENT_TYPE, "application/json");
        response.body(status(code).to_string().into()).unwrap()
    }

    fn patience(&self, request: &Request) -> Response<Body> {
        self.meet();
        let (what, now) = (format!("{} {}", request.method(), request.uri()), Instant::now());
        let mut busy = self.busy.lock().unwrap();
        let before = busy.refused.insert(what.clone(), now);
        // Secrets of a namespace are read for each of its streams.
        let is_free = ["/leases/", "/secrets"].iter().any(|path| what.contains(path));
        if !is_free && before.is_some_and(|before| now < before + Duration::from_secs(PATIENCE)) {
            busy.impatient.push(what);
        }
        let response = Response::builder().status(429).header(header::RETRY_AFTER, PATIENCE);
        response.body("Too many requests, please try again later.\n".into()).unwrap()
    }
}

fn status(code: u16) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "as a test wants it",
        "reason": if code == 410 { "Expired" } else { "InternalError" }, "code": code})
}

/// The parts of an answer as they come.
fn pieces(answer: reqwest::Response) -> impl Stream<Item = io::Result<Bytes>> {
    stream::unfold(answer, async |mut answer| {
        let piece = answer.chunk().await.map_err(io::Error::other).transpose()?;
        Some((piece, answer))
    })
}

/// The parts of a watch, which a fault ends.
fn watched(answer: reqwest::Response, proxy: Proxy) -> impl Stream<Item = io::Result<Bytes>> {
    let faults = proxy.fault.subscribe();
    stream::unfold(Some((answer, proxy, faults)), async |state| {
        let (mut answer, proxy, mut faults) = state?;
        let ends = |fault: &Option<Fault>| !matches!(fault, None | Some(Fault::Slow(_)));
        let piece = tokio::select! {
            biased;
            fault = faults.wait_for(ends) => {
                proxy.meet();
                let is_told = matches!(*fault.ok()?, Some(Fault::ExpiresWatches));
                let event = format!("{}\n", json!({"type": "ERROR", "object": status(410)}));
                return is_told.then(|| (Ok(event.into()), None));
            }
            piece = answer.chunk() => piece,
        };
        let piece = piece.map_err(io::Error::other).transpose()?;
        let fault = *proxy.fault.borrow();
        if let Some(Fault::Slow(delay)) = fault {
            tokio::time::sleep(delay).await;
        }
        Some((piece, Some((answer, proxy, faults))))
    })
}
