//! An API server that follows a script, in simulated time, for tests of what watches it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _, stream};
use http_body_util::StreamBody;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Bytes, Frame};
use hyper::header::{HeaderValue, RETRY_AFTER};
use hyper::{Request, Response};
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tower::util::AndThen;

use crate::store::kube::patience;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What the API server does with one request.
pub(in crate::store::kube) enum Answer {
    /// Status and an object: a page, or a refusal.
    Object(u16, Value),
    /// Status, a body, and for how long the API server wants to be left alone.
    Patient(u16, String, &'static str),
    /// Events of a watch, which then ends or stays open.
    Events(Vec<String>, End),
    /// The connection breaks.
    Broken,
}

/// How a watch goes on after its events.
#[derive(Clone, Copy, PartialEq)]
pub(in crate::store::kube) enum End {
    /// The API server ends it.
    Closed,
    /// It says nothing more.
    Open,
}

/// The requests that came, with the time since the start.
#[derive(Default)]
pub(in crate::store::kube) struct Requests {
    seen: Mutex<Vec<(Duration, String)>>,
    /// There was a request beyond the script.
    is_over: Notify,
}

impl Requests {
    pub(in crate::store::kube) fn uris(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|(_, uri)| uri.clone()).collect()
    }

    /// From each request to the next.
    pub(in crate::store::kube) fn waits(&self) -> Vec<Duration> {
        self.seen.lock().unwrap().windows(2).map(|pair| pair[1].0.saturating_sub(pair[0].0)).collect()
    }

    /// Waits for a request for which there is no answer left.
    pub(in crate::store::kube) async fn are_over(&self) {
        self.is_over.notified().await;
    }
}

/// A client of an API server that answers with these, one after the other.
pub(in crate::store::kube) fn server(script: Vec<Answer>) -> (Client, Arc<Requests>) {
    let requests = Arc::<Requests>::default();
    let started = tokio::time::Instant::now();
    let (script, seen) = (Arc::new(Mutex::new(VecDeque::from(script))), Arc::clone(&requests));
    let server = tower::service_fn(move |request: Request<kube::client::Body>| {
        seen.seen.lock().unwrap().push((started.elapsed(), request.uri().to_string()));
        let (answer, seen) = (script.lock().unwrap().pop_front(), Arc::clone(&seen));
        async move {
            let Some(answer) = answer else {
                seen.is_over.notify_one();
                return std::future::pending().await;
            };
            answer.response()
        }
    });
    (Client::new(AndThen::new(server, patience::noted), "default"), requests)
}

impl Answer {
    fn response(self) -> io::Result<Response<Body>> {
        let (status, lines, end, patience) = match self {
            Self::Object(status, object) => (status, vec![object.to_string()], End::Closed, None),
            Self::Patient(status, body, seconds) => (status, vec![body], End::Closed, Some(seconds)),
            Self::Events(events, end) => (200, events, end, None),
            Self::Broken => return Err(io::ErrorKind::ConnectionReset.into()),
        };
        let mut response = Response::new(UnsyncBoxBody::new(StreamBody::new(frames(lines, end))));
        *response.status_mut() = status.try_into().unwrap();
        if let Some(seconds) = patience {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        Ok(response)
    }
}

fn frames(lines: Vec<String>, end: End) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> {
    let frames = stream::iter(lines).map(|line| Ok(Frame::data(Bytes::from(format!("{line}\n")))));
    let rest = if end == End::Open { stream::pending().left_stream() } else { stream::empty().right_stream() };
    frames.chain(rest)
}

/// An object with nothing but metadata.
pub(in crate::store::kube) fn object(name: &str, version: &str) -> Value {
    json!({"metadata": {"namespace": "demo", "name": name, "resourceVersion": version}})
}

/// A part of a list, with what asks for the rest.
pub(in crate::store::kube) fn page(items: &[Value], version: &str, rest: &str) -> Answer {
    Answer::Object(200, json!({"metadata": {"resourceVersion": version, "continue": rest}, "items": items}))
}

pub(in crate::store::kube) fn event(kind: &str, object: &Value) -> String {
    // API servers write the type first.
    format!(r#"{{"type":"{kind}","object":{object}}}"#)
}

pub(in crate::store::kube) fn bookmark(version: &str) -> String {
    let object = json!({"apiVersion": "v1", "kind": "Any", "metadata": {"resourceVersion": version}});
    event("BOOKMARK", &object)
}

pub(in crate::store::kube) fn status(code: u16) -> Value {
    json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "message": "because", "reason": "", "code": code})
}

pub(in crate::store::kube) fn refusal(code: u16) -> Answer {
    Answer::Object(code, status(code))
}
