//! Any body is answered by a review or refused; a patch applies to the object, and a second pass changes nothing.
#![no_main]

use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use libfuzzer_sys::fuzz_target;
use pinstream::admission::review;
use pinstream::index::{IndexedStream, Snapshot};
use pinstream::stream::places::Places;
use pinstream::workload::{Kind, Kinds};
use serde_json::{Value, json};

static SNAPSHOT: LazyLock<Snapshot> = LazyLock::new(|| {
    let digest = "sha256:87fbabfd7d6add32fe8c9cce0d829e1257a1398a1850fcd45f8fd0e659b5a46c";
    let stream = |name: &str, repository: &str| {
        let stream = json!({"metadata": {"name": name, "namespace": "demo"}, "spec": {"lookupPolicy": {"local": true}},
            "status": {"dockerImageRepository": repository, "tags": [
                {"tag": "latest", "items": [{"dockerImageReference": "quay.io/k/k", "image": digest}]}]}});
        let stream = serde_json::from_value(stream).expect("a stream");
        Arc::new(IndexedStream::new(&stream, &Places::default()))
    };
    Snapshot::new([stream("tools", ""), stream("keycloak", "r.io/demo/keycloak"), stream("a", "tools")])
});

static KINDS: LazyLock<Kinds> = LazyLock::new(|| {
    let more = ["PodTemplate", "x.io/Thing=/spec/0/template", "tekton.dev/Task="];
    Kinds::with(more.map(|kind| Kind::parse(kind).expect("a kind")).to_vec())
});

fuzz_target!(|body: &[u8]| {
    let Some(patch) = patch_of(body) else { return };
    // What is skipped unread is checked less strictly than what is read: such a body is read here only in part.
    let Ok(mut review) = serde_json::from_slice::<Value>(body) else { return };
    json_patch::patch(&mut review["request"]["object"], &patch).expect("the patch applies");
    assert_eq!(patch_of(review.to_string().as_bytes()), None);
});

fn patch_of(body: &[u8]) -> Option<json_patch::Patch> {
    let answer = review::answer(body, &SNAPSHOT, &KINDS, |_, _| ()).ok()?;
    let answer: Value = serde_json::from_slice(&answer).expect("an answer is JSON");
    assert_eq!(answer["response"]["allowed"], true);
    let patch = answer["response"]["patch"].as_str()?;
    let patch = base64::engine::general_purpose::STANDARD.decode(patch).expect("base64");
    Some(serde_json::from_slice(&patch).expect("a patch"))
}
