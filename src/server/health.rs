//! `/livez` and `/readyz`: is the process alive, and may it be sent requests.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Router;
use axum::extract::RawQuery;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// One condition of being ready.
pub struct Gate {
    name: &'static str,
    closed: Box<dyn Fn() -> Option<&'static str> + Send + Sync>,
}

impl Gate {
    /// A gate that is closed while `closed` gives a reason.
    pub fn new(name: &'static str, closed: impl Fn() -> Option<&'static str> + Send + Sync + 'static) -> Self {
        Self { name, closed: Box::new(closed) }
    }
}

/// `/livez`, which answers as long as the process does, and `/readyz`, which names each gate if it is asked to
/// (`?verbose`) or one is closed.
pub fn router(gates: Vec<Gate>) -> Router {
    let gates = Arc::new(gates);
    let ready = async move |RawQuery(query): RawQuery| readiness(&gates, is_verbose(query.as_deref()));
    Router::new().route("/livez", get(async || "ok\n")).route("/readyz", get(ready)).fallback(wrong_path)
}

fn is_verbose(query: Option<&str>) -> bool {
    query.is_some_and(|query| query.split('&').any(|pair| pair.split('=').next() == Some("verbose")))
}

async fn wrong_path(uri: Uri) -> Response {
    let text = format!("there is nothing at {}: see /livez, /readyz?verbose and /metrics\n", uri.path());
    (StatusCode::NOT_FOUND, text).into_response()
}

fn readiness(gates: &[Gate], verbose: bool) -> Response {
    let mut report = String::new();
    let mut is_ready = true;
    for gate in gates {
        let _ = match (gate.closed)() {
            None => writeln!(report, "[+]{} ok", gate.name),
            Some(reason) => {
                is_ready = false;
                writeln!(report, "[-]{} failed: {reason}", gate.name)
            }
        };
    }
    let (status, verdict) = if is_ready {
        (StatusCode::OK, "readyz check passed\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "readyz check failed\n")
    };
    report.push_str(verdict);
    (status, if is_ready && !verbose { "ok\n".to_owned() } else { report }).into_response()
}
