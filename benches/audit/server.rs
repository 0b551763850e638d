//! As much of an API server as a controller needs: Pods and image streams listed in pages and watched, and a Lease.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread;

use futures_util::{StreamExt as _, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use crate::Error;
use crate::objects::{STREAMS, Template, main_image, stream};

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A running server. It ends with the process.
pub struct Server {
    pub address: SocketAddr,
    cluster: Arc<Cluster>,
}

/// What the server has.
struct Cluster {
    template: Template,
    pods: usize,
    lease: Mutex<Option<Bytes>>,
    watches: [Watch; 2],
    /// Requests that a controller had no reason for here.
    odd: Mutex<Vec<String>>,
}

/// Events on their way to whoever watches.
struct Watch {
    sender: UnboundedSender<String>,
    events: Mutex<Option<UnboundedReceiver<String>>>,
}

impl Watch {
    fn new() -> Self {
        let (sender, events) = unbounded_channel();
        Self { sender, events: Mutex::new(Some(events)) }
    }
}

impl Server {
    /// Starts it with so many Pods.
    pub fn start(pods: usize) -> Result<Self, Error> {
        let watches = [Watch::new(), Watch::new()];
        let cluster =
            Cluster { template: Template::read()?, pods, lease: Mutex::default(), watches, odd: Mutex::default() };
        let cluster = Arc::new(cluster);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let (address, served) = (listener.local_addr()?, Arc::clone(&cluster));
        thread::spawn(move || runtime.block_on(serve(listener, served)));
        Ok(Self { address, cluster })
    }

    /// Tells that a Pod has changed, and now runs that image.
    pub fn change_pod(&self, number: usize, version: usize, image: &str) -> Result<(), Error> {
        let mut event = r#"{"type":"MODIFIED","object":"#.to_owned();
        self.cluster.template.write(number, version, image, &mut event);
        event += "}\n";
        Ok(self.cluster.watches[0].sender.send(event)?)
    }

    /// Tells that the first tag of a stream has had so many images more.
    pub fn change_stream(&self, number: usize, version: usize, more: usize) -> Result<(), Error> {
        let event = format!("{{\"type\":\"MODIFIED\",\"object\":{}}}\n", stream(number, version, more));
        Ok(self.cluster.watches[1].sender.send(event)?)
    }

    /// Fails if there was a request that nobody should have made.
    pub fn check(&self) -> Result<(), Error> {
        let odd = self.cluster.odd.lock().map_err(|_| "the server panicked")?;
        if odd.is_empty() { Ok(()) } else { Err(format!("unexpected requests: {odd:?}").into()) }
    }
}

async fn serve(listener: TcpListener, cluster: Arc<Cluster>) {
    let mut connections = JoinSet::new();
    while let Ok((connection, _)) = listener.accept().await {
        let cluster = Arc::clone(&cluster);
        let service = service_fn(move |request| {
            let cluster = Arc::clone(&cluster);
            async move { cluster.answer(request).await }
        });
        connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(connection), service));
    }
}

impl Cluster {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, Error> {
        let (path, query) = (request.uri().path().to_owned(), request.uri().query().unwrap_or_default().to_owned());
        let is_list = request.method() == Method::GET;
        match path.as_str() {
            "/api/v1/pods" if is_list => Ok(self.pods(&query)),
            "/apis/pinstream.dev/v1/imagestreams" if is_list => Ok(self.streams(&query)),
            path if path.contains("/leases") => self.lease(request).await,
            _ => {
                let said = format!("{} {path}", request.method());
                self.odd.lock().map_err(|_| "poisoned")?.push(said);
                Ok(missing())
            }
        }
    }

    fn pods(&self, query: &str) -> Response<Body> {
        let item = |number: usize, text: &mut String| self.template.write(number, 1, &main_image(number), text);
        collection(query, &self.watches[0], self.pods, item)
    }

    fn streams(&self, query: &str) -> Response<Body> {
        let item = |number: usize, text: &mut String| text.push_str(&stream(number, 1, 0));
        collection(query, &self.watches[1], STREAMS, item)
    }

    async fn lease(&self, request: Request<Incoming>) -> Result<Response<Body>, Error> {
        let is_read = request.method() == Method::GET;
        let written = request.into_body().collect().await?.to_bytes();
        let mut lease = self.lease.lock().map_err(|_| "poisoned")?;
        if !is_read {
            *lease = Some(written);
        }
        Ok(lease.clone().map_or_else(missing, |lease| Response::new(Full::from(lease).boxed_unsync())))
    }
}

/// A page of so many objects, or a watch.
fn collection(query: &str, watch: &Watch, count: usize, item: impl Fn(usize, &mut String)) -> Response<Body> {
    let value =
        |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default();
    if value("watch") == "true" {
        return watched(watch);
    }
    let begin = value("continue").parse().unwrap_or(0);
    let end = value("limit").parse().map_or(count, |limit: usize| count.min(begin + limit));
    let rest = if end < count { end.to_string() } else { String::new() };
    let mut text = format!(r#"{{"metadata":{{"resourceVersion":"1","continue":"{rest}"}},"items":["#);
    for number in begin..end {
        if number > begin {
            text.push(',');
        }
        item(number, &mut text);
    }
    text += "]}";
    Response::new(Full::from(text).boxed_unsync())
}

/// The events of a watch, as long as the controller lives.
fn watched(watch: &Watch) -> Response<Body> {
    let events = watch.events.lock().ok().and_then(|mut events| events.take());
    let frames = stream::unfold(events, |events| async {
        let mut events = events?;
        let event = events.recv().await?;
        Some((Ok(Frame::data(Bytes::from(event))), Some(events)))
    });
    Response::new(StreamBody::new(frames.boxed()).boxed_unsync())
}

fn missing() -> Response<Body> {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404,
        "message": "not found"});
    let mut response = Response::new(Full::from(status.to_string()).boxed_unsync());
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}
