//! A registry to pull from and to import from, which counts and can go away.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream::{self, StreamExt as _};
use pinstream::digest::Digest;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

pub const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// A registry with one image of one layer, which has the tag `1`.
pub struct Upstream {
    pub address: SocketAddr,
    pub manifest: Bytes,
    pub layer: Bytes,
    pub asked: Arc<AtomicUsize>,
    pub is_gone: Arc<AtomicBool>,
    /// While it is closed, half of everything is sent, and the rest when it is opened.
    pub gate: Arc<watch::Sender<bool>>,
    /// It begins where it is asked to.
    pub knows_ranges: Arc<AtomicBool>,
}

impl Upstream {
    pub async fn start(layer_size: usize) -> Self {
        let layer: Bytes = (0..layer_size).map(|number| u8::try_from(number % 251).unwrap()).collect();
        let config = Bytes::from_static(b"{}");
        let told = |bytes: &Bytes| json!({"digest": Digest::of(bytes).as_str(), "size": bytes.len()});
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": told(&config), "layers": [told(&layer)]});
        let manifest = Bytes::from(manifest.to_string());
        let (asked, is_gone) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (gate, knows_ranges) = (Arc::new(watch::Sender::new(true)), Arc::new(AtomicBool::new(false)));
        let answer = {
            let (all, asked, is_gone) = ([manifest.clone(), layer.clone(), config], asked.clone(), is_gone.clone());
            let (gate, knows_ranges) = (gate.clone(), knows_ranges.clone());
            async move |uri: Uri, headers: HeaderMap| {
                asked.fetch_add(1, Ordering::Relaxed);
                let wanted = uri.path().rsplit('/').next().unwrap_or_default();
                let found = all.iter().find(|bytes| Digest::of(bytes).as_str() == wanted);
                match found.or((wanted == "1").then_some(&all[0])) {
                    _ if is_gone.load(Ordering::Relaxed) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
                    Some(bytes) if *gate.borrow() => {
                        let from = from(&headers).filter(|_| knows_ranges.load(Ordering::Relaxed));
                        part(bytes, from)
                    }
                    Some(bytes) => halting(bytes, gate.subscribe()),
                    None => StatusCode::NOT_FOUND.into_response(),
                }
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = axum::Router::new().fallback(answer);
        tokio::runtime::Handle::current().spawn(async move { axum::serve(listener, router).await });
        Self { address, manifest, layer, asked, is_gone, gate, knows_ranges }
    }

    /// A stream whose tag `1` has the image.
    pub fn stream(&self) -> Value {
        let digest = Digest::of(&self.manifest);
        let image = format!("{}/up/app@{digest}", self.address);
        json!({"apiVersion": "pinstream.dev/v1", "kind": "ImageStream", "metadata": {"name": "app", "namespace": "demo"},
            "spec": {"tags": [{"name": "1", "from": {"kind": "DockerImage", "name": image}, "importPolicy": {"insecure": true}}]},
            "status": {"tags": [{"tag": "1", "items": [{"created": "2026-01-01T00:00:00Z", "generation": 1,
                "dockerImageReference": image, "image": digest.as_str()}]}]}})
    }

    pub fn layer_path(&self) -> String {
        format!("/v2/demo/app/blobs/{}", Digest::of(&self.layer))
    }
}

/// The first byte that is wanted.
fn from(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::RANGE)?.to_str().ok()?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
}

fn part(bytes: &Bytes, from: Option<usize>) -> Response {
    let Some(from) = from else { return ([(header::CONTENT_TYPE, MANIFEST_TYPE)], bytes.clone()).into_response() };
    let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
    (StatusCode::PARTIAL_CONTENT, [(header::CONTENT_RANGE, range)], bytes.slice(from..)).into_response()
}

fn halting(bytes: &Bytes, mut gate: watch::Receiver<bool>) -> Response {
    let (half, rest) = (bytes.slice(..bytes.len() / 2), bytes.slice(bytes.len() / 2..));
    let rest = stream::once(async move {
        gate.wait_for(|is_open| *is_open).await.map_err(std::io::Error::other)?;
        Ok::<_, std::io::Error>(rest)
    });
    Body::from_stream(stream::iter([Ok(half)]).chain(rest)).into_response()
}
