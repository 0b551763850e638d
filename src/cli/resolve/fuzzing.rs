//! The target of manifests in which images are resolved.

use std::sync::{Arc, LazyLock};

use serde_json::json;

use super::manifest::{Manifest, Rules};
use crate::fuzzing::DIGEST;
use crate::index::{IndexedStream, Snapshot};
use crate::store::documents::{self, Format};
use crate::store::edit;
use crate::stream::places::Places;
use crate::workload::Kinds;

static SNAPSHOT: LazyLock<Snapshot> = LazyLock::new(|| {
    let stream = json!({"metadata": {"name": "app", "namespace": "demo"}, "spec": {"lookupPolicy": {"local": true}},
        "status": {"tags": [{"tag": "1", "items": [{"dockerImageReference": "q.io/a/b:1", "image": DIGEST}]}]}});
    let stream = serde_json::from_value(stream).expect("a stream");
    Snapshot::new([Arc::new(IndexedStream::new(&stream, &Places::default()))])
});

/// A manifest is resolved or refused. What was resolved can be read, has as many documents and images, and stays as it is when
/// it is resolved again; all but images is as it was. As one YAML stream it says the same.
pub(crate) fn resolve(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let kinds = Kinds::default();
    let rules = Rules { snapshot: &SNAPSHOT, kinds: &kinds, namespace: "demo" };
    let Ok(manifest) = Manifest::read(text.to_owned(), None) else { return };
    let Ok(resolved) = manifest.resolve(&rules) else { return };
    if let Ok(images) = manifest.images(&rules) {
        let lines = text.matches('\n').count() + 1;
        assert!(images.iter().all(|image| image.line >= 1 && image.line <= lines));
        assert_eq!(images.len(), resolved.images);
        assert_eq!(images.iter().filter(|image| image.becomes.is_some()).count(), resolved.edits.len());
    }
    let edited = edit::apply(text, &resolved.edits);
    let format = documents::format_of(text);
    let again = Manifest::read(edited.clone(), Some(format)).expect("what was resolved can be read");
    let twice = again.resolve(&rules).expect("what was resolved can be resolved");
    assert_eq!((twice.edits.len(), twice.images), (0, resolved.images), "{edited}");
    assert_eq!(without_images(text, format), without_images(&edited, format));
    if format == Format::Json {
        let separators: Vec<_> = again.separators().collect();
        let stream = documents::values(&edit::apply(&edited, &separators), Format::Yaml);
        let values = documents::values(&edited, Format::Json).expect("it was read before");
        if let Ok(stream) = stream {
            assert_eq!(stream.len(), values.len());
        }
    }
}

/// The lines of a text that have nothing to do with images.
fn without_images(text: &str, format: Format) -> Vec<serde_json::Value> {
    let documents = documents::values(text, format).expect("it was read before");
    documents.into_iter().map(|document| without_strings(document.value)).collect()
}

/// A value with each image that is resolved as if it had never been one.
fn without_strings(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::String(text) if text.contains(DIGEST) || text == "app:1" => Value::Null,
        Value::Array(items) => items.into_iter().map(without_strings).collect(),
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, without_strings(value))).collect(),
        other => other,
    }
}
