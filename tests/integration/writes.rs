//! Replays recorded writes of image streams on the pure functions: what was stored before and what was sent → what was
//! stored then, or why it was refused.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use pinstream::stream::pullspec::RegistryHost;
use pinstream::stream::types::{ImportMode, SpecTag};
use pinstream::stream::write::{self, Context, Invalid, Source};
use pinstream::stream::{ImageStream, Key};
use serde_json::{Value, json};

use crate::support::repository;

/// Registry host of the server that was recorded.
const HOST: &str = "image-registry.openshift-image-registry.svc:5000";

fn data(name: &str) -> Value {
    let path = repository().join("tests/conformance").join(name);
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn parsed(value: &Value) -> ImageStream {
    serde_json::from_value(value.clone()).unwrap()
}

/// The stream that a request is to change, as its client had read it. Where the record has no exchange for what happened
/// since, the request itself says what was read: all but where tags come from and who may look up, which it may change.
fn before(request: &Value, stored: &Value) -> ImageStream {
    let mut before = parsed(stored);
    if request["metadata"]["resourceVersion"] == stored["metadata"]["resourceVersion"] {
        return before;
    }
    let read = parsed(request);
    for tag in &mut before.spec.tags {
        if let Some(read) = read.spec.tag(&tag.name) {
            *tag = SpecTag { from: tag.from.take(), ..read.clone() };
        }
    }
    before.metadata.generation = read.metadata.generation;
    before.status = read.status;
    before
}

/// What a write makes of a request.
fn written(request: &Value, stored: &BTreeMap<String, Value>) -> Result<ImageStream, Invalid> {
    let name = request["metadata"]["name"].as_str().unwrap();
    let mut stream = write::read(request)?;
    stream.metadata.namespace = Some("api1".to_owned());
    let others: BTreeMap<&str, ImageStream> = stored.iter().map(|(name, value)| (&**name, parsed(value))).collect();
    let source = |key: &Key| match others.get(&*key.name) {
        Some(other) => Source::Known(other),
        None => Source::Missing,
    };
    let context = Context {
        now: "2026-11-23T12:00:00Z".parse().unwrap(),
        registry_host: &RegistryHost::At(HOST.to_owned()),
        default_mode: ImportMode::Legacy,
        permits: &|_| true,
        source: &source,
    };
    match stored.get(name) {
        Some(old) => write::update(stream, &before(request, old), &context),
        None => write::create(stream, &context),
    }
}

/// Spec, status and generation, times left out: they are those of the recording.
fn comparable(stream: &Value) -> Value {
    fn without_times(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.remove("created");
                fields.remove("lastTransitionTime");
                fields.values_mut().for_each(without_times);
            }
            Value::Array(items) => items.iter_mut().for_each(without_times),
            _ => {}
        }
    }
    let mut comparable = json!({"spec": stream["spec"], "status": stream["status"],
        "generation": stream["metadata"]["generation"]});
    without_times(&mut comparable);
    comparable
}

/// The causes of a recorded refusal, those that OpenShift wraps into an internal error unwrapped.
fn causes(status: &Value) -> BTreeSet<String> {
    let cause = |cause: &Value| {
        let (field, message) = (cause["field"].as_str().unwrap(), cause["message"].as_str().unwrap());
        match message.split_once(" is invalid: ") {
            Some((before, wrapped)) if before.starts_with("Internal error: ") => wrapped.to_owned(),
            _ => format!("{field}: {message}"),
        }
    };
    status["details"]["causes"].as_array().into_iter().flatten().map(cause).collect()
}

#[test]
fn recorded_writes_of_streams_do_what_they_did() {
    let exchanges = data("writes.json");
    let differences = data("write-differences.json");
    let mut unused: BTreeSet<String> = differences.as_object().unwrap().keys().cloned().collect();
    let mut stored: BTreeMap<String, Value> = BTreeMap::new();
    let (mut wrong, mut replayed) = (Vec::new(), 0);
    for (number, exchange) in exchanges.as_array().unwrap().iter().enumerate() {
        let (request, response) = (&exchange["request"], &exchange["response"]);
        if response["kind"] == "ImageStream" && request.is_null() {
            stored.insert(response["metadata"]["name"].as_str().unwrap().to_owned(), response.clone());
        }
        if request["kind"] != "ImageStream" {
            continue;
        }
        let case = format!("{number} {}", exchange["sequence"].as_str().unwrap());
        let (found, expected) = match (written(request, &stored), response["kind"] == "ImageStream") {
            (Ok(stream), true) => (comparable(&serde_json::to_value(stream).unwrap()), comparable(response)),
            (Ok(_), false) => (json!("stored"), json!(causes(response))),
            (Err(invalid), true) => (json!(invalid.to_string()), json!("stored")),
            (Err(invalid), false) => {
                let found: BTreeSet<_> = invalid.errors.iter().map(ToString::to_string).collect();
                (json!(found), json!(causes(response)))
            }
        };
        replayed += 1;
        match differences.get(&case) {
            Some(difference) if found != expected => {
                unused.remove(&case);
                assert!(difference["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{case}");
                assert_eq!(found, difference["found"], "{case}: differs in another way");
            }
            _ if found != expected => wrong.push(format!("{case}\n  found    {found}\n  expected {expected}")),
            _ => {}
        }
        if response["kind"] == "ImageStream" {
            stored.insert(response["metadata"]["name"].as_str().unwrap().to_owned(), response.clone());
        }
    }
    assert!(wrong.is_empty(), "{} of {replayed}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(unused.is_empty(), "these do not differ: {unused:?}");
    assert!(replayed > 20, "{replayed}");
}
