//! The loop against an API server that follows a script, in simulated time: what it asks for, in which order and when,
//! and what its sink is told. How real API servers behave is seen by the cluster tests.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex};

use futures_util::{Stream, stream};
use http_body_util::StreamBody;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Bytes, Frame};
use hyper::{Request, Response};
use rstest::rstest;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::*;

type Body = UnsyncBoxBody<Bytes, Infallible>;

const LIST: &str = "/apis/pinstream.dev/v1/imagestreams?&limit=100";

/// What the API server does with one request.
enum Answer {
    /// Status and an object: a page, or a refusal.
    Object(u16, Value),
    /// Events of a watch, which then ends or stays open.
    Events(Vec<Value>, End),
    /// The connection breaks.
    Broken,
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    Closed,
    Open,
}

/// What happened: requests with the time since the start, and what the sink was told.
#[derive(Default)]
struct Happened {
    requests: Mutex<Vec<(Duration, String)>>,
    told: Mutex<Vec<String>>,
    /// There was a request beyond the script.
    is_over: Notify,
}

impl Happened {
    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().iter().map(|(_, request)| request.clone()).collect()
    }

    /// From each request to the next.
    fn waits(&self) -> Vec<Duration> {
        self.requests.lock().unwrap().windows(2).map(|pair| pair[1].0.saturating_sub(pair[0].0)).collect()
    }

    fn told(&self) -> String {
        self.told.lock().unwrap().join(" ")
    }

    fn tell(&self, what: impl Into<String>) {
        self.told.lock().unwrap().push(what.into());
    }
}

impl Sink for Arc<Happened> {
    fn begin_list(&mut self) {
        self.tell("begin");
    }

    fn end_list(&mut self) {
        self.tell("end");
    }

    fn apply(&mut self, item: Item) {
        self.tell(format!("+{}", item.key().name));
    }

    fn delete(&mut self, key: &Key) {
        self.tell(format!("-{}", key.name));
    }

    fn flush(&mut self) {
        self.tell("flush");
    }

    fn is_current(&self) {
        self.tell("current");
    }

    fn is_lost(&self, _since: Instant) {
        self.tell("lost");
    }

    fn stream_count(&self) -> usize {
        0
    }
}

/// Keeps the streams until a request comes for which there is no answer left.
async fn follow(script: Vec<Answer>) -> Arc<Happened> {
    let happened = Arc::<Happened>::default();
    let started = tokio::time::Instant::now();
    let (script, seen) = (Arc::new(Mutex::new(VecDeque::from(script))), Arc::clone(&happened));
    let server = tower::service_fn(move |request: Request<kube::client::Body>| {
        let request = request.uri().to_string();
        seen.requests.lock().unwrap().push((started.elapsed(), request));
        let (answer, seen) = (script.lock().unwrap().pop_front(), Arc::clone(&seen));
        async move {
            let Some(answer) = answer else {
                seen.is_over.notify_one();
                return std::future::pending().await;
            };
            answer.response()
        }
    });
    let client = Client::new(server, "default");
    let watched = Watched::of(client, Preference::Pinstream, Arc::clone(&happened));
    tokio::select! {
        () = watched.keep() => {}
        () = happened.is_over.notified() => {}
    }
    happened
}

impl Answer {
    fn response(self) -> io::Result<Response<Body>> {
        let (status, lines, end) = match self {
            Self::Object(status, object) => (status, vec![object], End::Closed),
            Self::Events(events, end) => (200, events, end),
            Self::Broken => return Err(io::ErrorKind::ConnectionReset.into()),
        };
        let mut response = Response::new(UnsyncBoxBody::new(StreamBody::new(frames(lines, end))));
        *response.status_mut() = status.try_into().unwrap();
        Ok(response)
    }
}

fn frames(lines: Vec<Value>, end: End) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> {
    let frames = stream::iter(lines).map(|line| Ok(Frame::data(Bytes::from(format!("{line}\n")))));
    let rest = if end == End::Open { stream::pending().left_stream() } else { stream::empty().right_stream() };
    frames.chain(rest)
}

fn stream(name: &str, version: &str) -> Value {
    json!({"metadata": {"namespace": "demo", "name": name, "resourceVersion": version}})
}

fn page(names: &[&str], version: &str, rest: &str) -> Answer {
    let items: Vec<_> = names.iter().map(|name| stream(name, version)).collect();
    Answer::Object(200, json!({"metadata": {"resourceVersion": version, "continue": rest}, "items": items}))
}

fn event(kind: &str, object: &Value) -> Value {
    json!({"type": kind, "object": object})
}

fn bookmark(version: &str) -> Value {
    let object =
        json!({"apiVersion": "pinstream.dev/v1", "kind": "ImageStream", "metadata": {"resourceVersion": version}});
    event("BOOKMARK", &object)
}

fn status(code: u16) -> Value {
    json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "message": "because", "reason": "", "code": code})
}

fn refusal(code: u16) -> Answer {
    Answer::Object(code, status(code))
}

fn watch(version: &str) -> String {
    let path = "/apis/pinstream.dev/v1/imagestreams";
    format!("{path}?&watch=true&timeoutSeconds=290&allowWatchBookmarks=true&resourceVersion={version}")
}

#[tokio::test(start_paused = true)]
async fn every_page_is_read_before_the_watch_begins_where_the_list_ended() {
    let happened = follow(vec![page(&["a"], "6", "more"), page(&["b", "c"], "7", "")]).await;
    assert_eq!(happened.requests(), [LIST, &format!("{LIST}&continue=more"), &watch("7")]);
    assert_eq!(happened.told(), "begin +a +b +c end flush");
}

#[rstest]
#[case(vec![refusal(503), Answer::Broken, refusal(429)])]
#[case(vec![Answer::Events(vec![], End::Closed)])]
#[case(vec![Answer::Events(vec![], End::Open)])]
#[tokio::test(start_paused = true)]
async fn what_passes_is_resumed_where_the_watch_was(#[case] trouble: Vec<Answer>) {
    let tries = trouble.len() + 1;
    let events = vec![event("MODIFIED", &stream("a", "8")), event("DELETED", &stream("b", "9")), bookmark("12")];
    let mut script = vec![page(&["a", "b"], "7", ""), Answer::Events(events, End::Closed)];
    script.extend(trouble);
    let happened = follow(script).await;
    assert_eq!(happened.requests()[..2], [LIST, &watch("7")]);
    assert_eq!(happened.requests()[2..], vec![watch("12"); tries]);
    assert!(happened.told().starts_with("begin +a +b end flush current +a -b flush lost"), "{}", happened.told());
}

#[rstest]
#[case(Answer::Events(vec![event("ERROR", &status(410))], End::Open))]
#[case(refusal(410))]
#[case(refusal(403))]
#[case(refusal(404))]
#[tokio::test(start_paused = true)]
async fn after_anything_else_everything_is_listed_again(#[case] trouble: Answer) {
    let happened = follow(vec![page(&["a"], "7", ""), trouble, page(&["b"], "20", "")]).await;
    assert_eq!(happened.requests(), [LIST, &watch("7"), LIST, &watch("20")]);
    assert!(happened.told().ends_with("lost begin +b end flush"), "{}", happened.told());
}

#[rstest]
#[case(refusal(410))]
#[case(Answer::Broken)]
#[tokio::test(start_paused = true)]
async fn list_that_breaks_off_begins_again_at_its_first_page(#[case] trouble: Answer) {
    let happened = follow(vec![page(&["a"], "6", "more"), trouble, page(&["b"], "9", "")]).await;
    assert_eq!(happened.requests(), [LIST, &format!("{LIST}&continue=more"), LIST, &watch("9")]);
    assert_eq!(happened.told(), "begin +a begin +b end flush");
}

#[tokio::test(start_paused = true)]
async fn watch_that_says_nothing_is_given_up() {
    let happened = follow(vec![page(&[], "7", ""), Answer::Events(vec![bookmark("8")], End::Open)]).await;
    assert_eq!(happened.requests(), [LIST, &watch("7"), &watch("8")]);
    assert!(happened.waits()[1] >= SILENCE_LIMIT, "{:?}", happened.waits());
    assert_eq!(happened.told(), "begin end flush current flush lost");
}

#[tokio::test(start_paused = true)]
async fn tries_become_fewer_until_one_succeeds() {
    let refused = || (0..20).map(|_| refusal(503));
    let heard = Answer::Events(vec![bookmark("8")], End::Closed);
    let happened = follow(refused().chain([page(&[], "7", ""), heard]).chain(refused()).collect()).await;
    let waits = happened.waits();
    let (first, longest) = (Duration::from_millis(500), Duration::from_secs(30));
    for waits in [&waits[..20], &waits[21..]] {
        assert!(waits[0] <= first && waits.iter().all(|wait| *wait <= longest + Duration::from_millis(1)), "{waits:?}");
        assert!(waits[10..].iter().all(|wait| *wait >= longest / 2), "{waits:?}");
    }
}

#[rstest]
#[case(401, false, "check the Pod's ServiceAccount token")]
#[case(403, false, "allow get, list and watch on imagestreams.pinstream.dev")]
#[case(404, false, "pinstream crd | kubectl apply")]
#[case(410, false, "listed again")]
#[case(429, true, "answers 429: because")]
#[case(503, true, "answers 503: because")]
fn refusal_names_the_next_step(#[case] code: u16, #[case] is_passing: bool, #[case] text: &str) {
    let status = Status { code, message: "because".to_owned(), ..Status::default() };
    let error = WatchError::of(&kube::Error::Api(status.boxed()), Served::Pinstream);
    assert_eq!(error.is_passing(), is_passing);
    assert!(error.to_string().contains(text), "{error}");
}

#[test]
fn missing_openshift_api_points_to_the_other_source() {
    let status = Status { code: 404, ..Status::default() };
    let error = WatchError::of_status(&status, Served::OpenShift).to_string();
    assert!(error.contains("imagestreams.image.openshift.io") && error.contains("--source pinstream"), "{error}");
}
