//! Instructions of an admission, counted by valgrind's callgrind, which gives the same numbers on a busy machine too.
//!
//! `cargo bench --bench instructions [-- NAME]`: only payloads whose name has that in it. Each step of each payload is a
//! process of its own; what is counted is what happens in [`counted`] and below. `handler` is the whole of the router, its
//! log line included, without HTTP and TLS.

#[path = "common/payloads.rs"]
mod payloads;

use std::hint::black_box;
use std::process::{Command, Stdio};
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::Request;
use axum::response::Response;
use http_body_util::BodyExt as _;
use pinstream::admission::decide::decide;
use pinstream::admission::handler::{self, PolicyWebhook, StreamWebhook, Webhook};
use pinstream::admission::review::{self, Matter, Read};
use pinstream::config::{LogArgs, LogFormat};
use pinstream::index::{IndexedStream, Snapshot};
use pinstream::metrics::Metrics;
use pinstream::policy::Levels;
use pinstream::registry::Registries;
use pinstream::store::Streams;
use pinstream::store::levels::CurrentLevels;
use pinstream::stream::places::Places;
use pinstream::stream::types::ImportMode;
use pinstream::workload::Kinds;
use serde_json::json;
use tower::ServiceExt as _;

use crate::payloads::{Images, Payload};

type Error = Box<dyn std::error::Error>;

/// What is counted of a review, in the order in which it happens.
const STEPS: [&str; 4] = ["decode", "decide", "encode", "handler"];
/// How often each is done: the seeds of hash tables differ from run to run, which so makes little.
const TIMES: u32 = 200;
/// Set in the process that does one step: the number of the payload, and the step.
const CASE: &str = "PINSTREAM_BENCH_CASE";
const DIGEST: &str = "sha256:87fbabfd7d6add32fe8c9cce0d829e1257a1398a1850fcd45f8fd0e659b5a46c";

fn main() -> Result<(), Error> {
    let pinned = format!("registry.example.com/demo/app@{DIGEST}");
    let payloads = Payload::all(&Images { written: "app:1".to_owned(), pinned: pinned.clone() });
    if let Ok(case) = std::env::var(CASE) {
        let (payload, step) = case.split_once(' ').ok_or("no step")?;
        return run(&payloads[payload.parse::<usize>()?], step, stream(&pinned)?);
    }
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    println!("{:32} {:>8} {}", "instructions", "bytes", STEPS.map(|step| format!("{step:>9}")).concat());
    for (number, payload) in payloads.iter().enumerate().filter(|(_, payload)| payload.name.contains(&wanted)) {
        print!("{:32} {:8} ", payload.name, payload.body().len());
        for step in STEPS {
            print!("{:9}", count(&format!("{number} {step}"))?);
        }
        println!();
    }
    Ok(())
}

/// The instructions of one case, each time it is done.
fn count(case: &str) -> Result<u64, Error> {
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("log");
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--toggle-collect=*::counted", "--callgrind-out-file=/dev/null"]);
    valgrind.arg(format!("--log-file={}", log.display())).arg(std::env::current_exe()?).env(CASE, case);
    let status = valgrind.stdout(Stdio::null()).stderr(Stdio::null()).status();
    let status = status.map_err(|error| format!("valgrind: {error}; Debian has it as the package valgrind"))?;
    let said = std::fs::read_to_string(&log)?;
    let counted = said.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse::<u64>().ok());
    match counted.filter(|_| status.success()) {
        Some(counted) if counted > 0 => Ok(counted / u64::from(TIMES)),
        _ => Err(format!("{case} was not counted: {said}").into()),
    }
}

/// Whose instructions are counted, by its name.
#[inline(never)]
fn counted<T>(work: impl FnOnce() -> T) -> T {
    black_box(work())
}

/// Does a step as often as it is counted, and once before that, for what is made at the first time.
fn repeat<T>(mut work: impl FnMut() -> Result<T, Error>) -> Result<(), Error> {
    work()?;
    for _ in 0..TIMES {
        drop(counted(&mut work)?);
    }
    Ok(())
}

fn stream(image: &str) -> Result<Snapshot, Error> {
    let stream = serde_json::from_value(json!({"metadata": {"name": "app", "namespace": "demo"},
        "spec": {"lookupPolicy": {"local": true}}, "status": {"tags": [{"tag": "1", "items": [
            {"created": "2026-01-01T00:00:00Z", "generation": 1, "dockerImageReference": image, "image": DIGEST}]}]}}))?;
    Ok(Snapshot::new([Arc::new(IndexedStream::new(&stream, &Places::default()))]))
}

fn run(payload: &Payload, step: &str, snapshot: Snapshot) -> Result<(), Error> {
    let (body, kinds) = (payload.body(), Kinds::default());
    let read = || review::read(black_box(body.as_bytes()), &kinds);
    let Read::Matter(asked, matter) = read()? else { return Err("the payload is no matter of images".into()) };
    let decision = decide(&matter.question(&asked), &snapshot);
    payload.check(&payload.expected, &matter.answer(&asked, &decision))?;
    match step {
        "decode" => repeat(|| Ok(read()?)),
        "decide" => repeat(|| Ok(decide(&black_box(&matter).question(&asked), black_box(&snapshot)))),
        "encode" => repeat(|| Ok(Matter::answer(black_box(&matter), &asked, black_box(&decision)))),
        _ => handle(payload, snapshot),
    }
}

/// The router as `serve` has it.
fn handle(payload: &Payload, snapshot: Snapshot) -> Result<(), Error> {
    pinstream::logging::start(&LogArgs { log_format: LogFormat::Text, log: None }, "info")?;
    let (streams, metrics, kinds) = (Arc::new(Streams::default()), Arc::new(Metrics::new()?), Kinds::default());
    streams.publish(snapshot);
    let webhook = Webhook { streams, kinds: kinds.clone(), metrics: Arc::clone(&metrics) };
    let writes = StreamWebhook {
        default_mode: ImportMode::PreserveOriginal,
        registries: Registries::default(),
        metrics: Arc::clone(&metrics),
    };
    let levels = Arc::new(CurrentLevels::new(Levels::default()));
    let policy = PolicyWebhook { levels, exceptions: Arc::default(), kinds, refusals: None, metrics };
    let router = handler::router(Arc::new(webhook), Arc::new(writes), Arc::new(policy));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let body = Bytes::from(payload.body());
    let ask = || -> Result<Response, Error> {
        let request = Request::post("/mutate?timeout=10s").header("content-type", "application/json");
        Ok(runtime.block_on(router.clone().oneshot(request.body(Body::from(body.clone()))?))?)
    };
    let answer = runtime.block_on(ask()?.into_body().collect())?.to_bytes();
    payload.check(&payload.expected, &answer)?;
    repeat(ask)
}
