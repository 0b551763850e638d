//! Targets of admission reviews: of images, of the policy, and of image streams.

use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use json_patch::Patch;
use serde_json::{Value, json};

use super::DIGEST;
use crate::admission::decide::TOLD_MAX;
use crate::admission::review::{self, Judged, NoReview, Policy, Verdict};
use crate::admission::streams;
use crate::digest::Digest;
use crate::index::{IndexedStream, Snapshot};
use crate::policy::{Exceptions, Level, Levels};
use crate::stream::places::Places;
use crate::stream::types::ImportMode;
use crate::workload::{Kind, Kinds, POLICY_EXCEPT, Workload};

/// Streams of the namespace `demo` that short names lead to; one leads to another's name.
static SNAPSHOT: LazyLock<Snapshot> = LazyLock::new(|| {
    let stream = |name: &str, repository: &str| {
        let stream = json!({"metadata": {"name": name, "namespace": "demo"}, "spec": {"lookupPolicy": {"local": true}},
            "status": {"dockerImageRepository": repository, "tags": [
                {"tag": "latest", "items": [{"dockerImageReference": "quay.io/k/k", "image": DIGEST}]}]}});
        let stream = serde_json::from_value(stream).expect("a stream");
        Arc::new(IndexedStream::new(&stream, &Places::default()))
    };
    Snapshot::new([stream("tools", ""), stream("keycloak", "r.io/demo/keycloak"), stream("a", "tools")])
});

static KINDS: LazyLock<Kinds> = LazyLock::new(|| {
    let more = ["PodTemplate", "x.io/Thing=/spec/0/template", "tekton.dev/Task="];
    Kinds::with(more.map(|kind| Kind::parse(kind).expect("a kind")).to_vec())
});

static LEVELS: LazyLock<Levels> = LazyLock::new(|| Levels {
    default: Level::Audit,
    namespaces: [("demo".into(), Level::Enforce), ("warn".into(), Level::Warn)].into(),
});

static EXCEPTIONS: LazyLock<Exceptions> =
    LazyLock::new(|| Exceptions { images: vec!["k8s.io/*".to_owned()], without_annotations: false });

/// Lists whose entries have an image.
const LISTS: [&str; 5] = ["initContainers", "containers", "ephemeralContainers", "steps", "sidecars"];

/// A body is answered by a review or refused. A patch applies to the object and touches nothing but images, which become those
/// of the streams; a second pass changes nothing. A second reader finds the same images.
pub(crate) fn review(input: &[u8]) {
    let _ = patch_of(input);
    // What is skipped unread is checked less strictly than what is read, and may be there twice: so all is read first.
    let Some((mut body, bytes)) = normal(input) else { return };
    let _ = review::answer(&bytes, &SNAPSHOT, &KINDS, |_, verdict| {
        if let Verdict::Decided(workload, _) = verdict {
            assert_images(workload, &body["request"]);
        }
    });
    let Some(patch) = patch_of(&bytes) else { return };
    let before = body["request"]["object"].clone();
    json_patch::patch(&mut body["request"]["object"], &patch).expect("the patch applies");
    let mut back = body["request"]["object"].clone();
    for operation in patch.iter() {
        let pointer = operation.path().to_string();
        let image = back.pointer_mut(&pointer).expect("a patch applied");
        assert!(image.as_str().is_some_and(is_known), "{pointer}: {image}");
        *image = before.pointer(&pointer).expect("only what is there is replaced").clone();
    }
    assert_eq!(back, before);
    assert_eq!(patch_of(body.to_string().as_bytes()), None);
}

/// An image that has a digest, or is where the streams have their images, under a tag that they do not have yet.
fn is_known(image: &str) -> bool {
    image.ends_with(DIGEST) || ["r.io/demo/keycloak:", "tools:"].iter().any(|stream| image.starts_with(stream))
}

fn patch_of(body: &[u8]) -> Option<Patch> {
    let response = response(body, |body| review::answer(body, &SNAPSHOT, &KINDS, |_, _| ()))?;
    assert_eq!(response["allowed"], true);
    decoded(&response)
}

/// The response to a body, if there is one: it has the uid of the request.
fn response(body: &[u8], answer: impl FnOnce(&[u8]) -> Result<Vec<u8>, NoReview>) -> Option<Value> {
    let mut answer: Value = serde_json::from_slice(&answer(body).ok()?).expect("an answer is JSON");
    if let Ok(asked) = serde_json::from_slice::<Value>(body) {
        assert_eq!(answer["response"]["uid"], asked["request"]["uid"]);
    }
    Some(answer["response"].take())
}

fn decoded(response: &Value) -> Option<Patch> {
    let patch = STANDARD.decode(response["patch"].as_str()?).expect("base64");
    Some(serde_json::from_slice(&patch).expect("a patch"))
}

/// A body without fields that are there twice, and its bytes.
fn normal(input: &[u8]) -> Option<(Value, Vec<u8>)> {
    let body: Value = serde_json::from_slice(input).ok()?;
    let bytes = body.to_string().into_bytes();
    Some((body, bytes))
}

/// A second reader says the same of an object that is created; whatever is refused is told with all that is wrong.
pub(crate) fn policy(input: &[u8]) {
    let policy = Policy { levels: &LEVELS, exceptions: &EXCEPTIONS };
    let judge = |body: &[u8]| response(body, |body| review::validate(body, &policy, &KINDS, |_, _| ()));
    let _ = judge(input);
    let Some((body, bytes)) = normal(input) else { return };
    let mut judged = None;
    let _ = review::validate(&bytes, &policy, &KINDS, |_, verdict| {
        if let Judged::Object(_, judgement, _) = verdict {
            judged = Some((judgement.unpinned().count(), judgement.level));
        }
    });
    let Some(response) = judge(&bytes) else { return };
    let refused = judged.is_some_and(|(unpinned, level)| unpinned > 0 && level == Level::Enforce);
    assert_eq!(response["allowed"], !refused);
    assert_eq!(response.get("patch"), None);
    let Some((unpinned, level)) = judged else { return };
    let request = &body["request"];
    assert_eq!(level, LEVELS.of(text(request.get("namespace"))));
    if request["operation"] == "CREATE" && text(request.get("subResource")).is_empty() {
        assert_eq!(unpinned, count_unpinned(request));
    } else {
        assert!(unpinned <= count_unpinned(request));
    }
    if refused {
        let causes = response["status"]["details"]["causes"].as_array().expect("a refusal has causes");
        assert_eq!((causes.len(), &response["status"]["code"]), (unpinned.min(TOLD_MAX), &json!(403)));
    }
}

/// The images of an object that is created that are neither pinned nor excepted.
fn count_unpinned(request: &Value) -> usize {
    let object = &request["object"];
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    let has_controller = owners.is_some_and(|owners| owners.iter().any(|owner| owner["controller"] == true));
    if has_controller && kind_of(request).is_some_and(|kind| !kind.is_pod()) {
        return 0;
    }
    let Some(spec) = pod_spec(request) else { return 0 };
    let template = kind_of(request).and_then(|kind| object.pointer(kind.template()));
    let excepted: Vec<_> = [Some(object), template]
        .into_iter()
        .flatten()
        .flat_map(|object| {
            text(object.pointer("/metadata/annotations").and_then(|all| all.get(POLICY_EXCEPT))).split(',')
        })
        .map(str::trim)
        .collect();
    let is_excepted = |name: &str| !name.is_empty() && (excepted.contains(&"*") || excepted.contains(&name));
    let is_pinned = |image: &str| {
        image.split_once('@').is_some_and(|(name, digest)| !name.is_empty() && digest.parse::<Digest>().is_ok())
    };
    let is_wrong = |(name, image): &(&str, &str)| {
        !image.is_empty() && !image.starts_with("k8s.io/") && !is_pinned(image) && !is_excepted(name)
    };
    images(spec).filter(is_wrong).count()
}

/// The object's images are those that a tree of it has.
fn assert_images(workload: &Workload<'_>, request: &Value) {
    let Some(spec) = pod_spec(request) else { return assert!(workload.slots.is_empty()) };
    let mut read: Vec<_> = workload.slots.iter().map(|slot| (&*slot.name, &*slot.image)).collect();
    let mut found: Vec<_> = images(spec).collect();
    read.sort_unstable();
    found.sort_unstable();
    assert_eq!(read, found);
}

fn kind_of(request: &Value) -> Option<&'static Kind> {
    let kind = &request["kind"];
    let group = kind.get("group").map_or(Some(""), Value::as_str)?;
    KINDS.find(group, kind["kind"].as_str()?)
}

fn pod_spec(request: &Value) -> Option<&Value> {
    let kind = kind_of(request)?;
    request["object"].pointer(kind.template())?.get("spec")
}

/// Names and images of a pod spec.
fn images(spec: &Value) -> impl Iterator<Item = (&str, &str)> {
    let entries = |list: &str| spec.get(list).and_then(Value::as_array).into_iter().flatten();
    let containers = LISTS.into_iter().flat_map(entries).map(|entry| (entry, entry.get("image")));
    let volumes = entries("volumes").map(|entry| (entry, entry.pointer("/image/reference")));
    containers.chain(volumes).filter_map(|(entry, image)| Some((text(entry.get("name")), image?.as_str()?)))
}

/// A stream that is allowed is so too once it was changed, and is not changed again; one that is refused is told all that is
/// wrong.
pub(crate) fn image_streams(input: &[u8]) {
    let rules = streams::Rules {
        default_mode: ImportMode::PreserveOriginal,
        permits: &|reference| reference.registry != Some("evil.example"),
    };
    let decide = |body: &[u8]| response(body, |body| streams::answer(body, &rules, |_, _| ()));
    let _ = decide(input);
    let Some((mut body, bytes)) = normal(input) else { return };
    let Some(response) = decide(&bytes) else { return };
    if response["allowed"] == false {
        let status = &response["status"];
        let causes = status["details"]["causes"].as_array().expect("a refusal has causes");
        assert!(!causes.is_empty() && status["code"] == 422 && response.get("patch").is_none());
        return;
    }
    let Some(patch) = decoded(&response) else { return };
    assert!(patch.iter().all(|operation| operation.path().to_string().starts_with("/spec/tags/")));
    json_patch::patch(&mut body["request"]["object"], &patch).expect("the patch applies");
    let again = decide(body.to_string().as_bytes()).expect("it was a review");
    assert_eq!((&again["allowed"], again.get("patch")), (&json!(true), None));
}

fn text(value: Option<&Value>) -> &str {
    value.and_then(Value::as_str).unwrap_or_default()
}
