//! A webhook that answers a constant: the server of this crate with a handler that reads nothing but the `uid`.
//!
//! `/mutate` allows, `/patch` allows with a patch.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::header;
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pinstream::metrics::Metrics;
use pinstream::server::Phase;
use pinstream::server::certificate::{Certificate, Files, tls_config};
use pinstream::server::listener::{Limits, Listener};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::control_plane::{ControlPlane, Namespace};
use crate::release::{PINNED, Release};
use crate::service::Service;
use crate::webhook::{Webhook, by_url};

/// Serves while it lives.
pub struct Constant {
    /// Where, on 127.0.0.1.
    port: u16,
    /// The CA of its certificate.
    ca: PathBuf,
    calls: Arc<AtomicUsize>,
    _runtime: Runtime,
}

impl Constant {
    /// `patch` is what `/patch` answers, JSON.
    fn start(folder: &Path, patch: &str) -> Self {
        let mut certs = assert_cmd::Command::new(env!("CARGO_BIN_EXE_pinstream"));
        certs.args(["certs", "--out"]).arg(folder).assert().success();
        let files = Files { certificate: folder.join("tls.crt"), key: folder.join("tls.key") };
        let certificate = Arc::new(Certificate::default());
        certificate.replace(&files.load().unwrap());
        let calls = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&calls);
        let handler = |more: String| {
            async move |review: Bytes| {
                counted.fetch_add(1, Ordering::Relaxed);
                ([(header::CONTENT_TYPE, "application/json")], answer(&review, &more))
            }
        };
        let patch = format!(r#","patchType":"JSONPatch","patch":"{}""#, STANDARD.encode(patch));
        let router =
            Router::new().route("/mutate", post(handler.clone()(String::new()))).route("/patch", post(handler(patch)));
        let limit = Duration::from_secs(10);
        let limits =
            Limits { handshake: limit, head: limit, idle: limit * 12, write: limit, drain: limit, connections: 1000 };
        let runtime = Runtime::new().unwrap();
        let socket = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = socket.local_addr().unwrap().port();
        let metrics = Metrics::new().unwrap().server;
        let listener = Listener::tls(socket, tls_config(certificate).unwrap(), router, limits, metrics);
        let _serving = runtime.spawn(async move {
            let (_phase, phases) = watch::channel(Phase::Serving);
            listener.run(phases).await;
        });
        Self { port, ca: folder.join("ca.crt"), calls, _runtime: runtime }
    }

    /// How often it was called.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

/// A constant beside a release: reached through a Service like it, sent the same objects, and its patch is the same.
pub struct Beside<'plane> {
    /// What answers.
    pub server: Constant,
    plane: &'plane ControlPlane,
    service: Service,
    conditions: Value,
}

impl<'plane> Beside<'plane> {
    /// Nothing is sent to it yet.
    pub fn start(plane: &'plane ControlPlane, release: &Release<'_>) -> Self {
        let patch = json!([{"op": "replace", "path": "/spec/containers/0/image", "value": PINNED}]).to_string();
        let (server, service) = (Constant::start(&plane.folder("constant"), &patch), Service::start());
        service.lead_to(vec![server.port]);
        let configuration = plane.admin().get(&["mutatingwebhookconfiguration", &release.name]);
        let conditions = configuration["webhooks"][0]["matchConditions"].clone();
        Self { server, plane, service, conditions }
    }

    /// Has it answer for a namespace, with what is at that path.
    pub fn register(&self, namespace: &Namespace, path: &str) -> Webhook<'plane> {
        let client = by_url(self.service.port, path);
        Webhook::register_with(self.plane, namespace, client, &self.server.ca, &self.conditions)
    }
}

/// The first `uid` of a review is that of its request.
fn answer(review: &[u8], more: &str) -> String {
    let review = String::from_utf8_lossy(review);
    let uid = review.split_once("\"uid\":\"").and_then(|(_, rest)| rest.split_once('"')).unwrap().0;
    format!(
        r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{{"uid":"{uid}","allowed":true{more}}}}}"#
    )
}
