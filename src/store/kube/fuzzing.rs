//! The target of what an API server sends of image streams.

use kube::api::WatchEvent;
use serde_json::Value;

use super::objects::{Item, Page};
use crate::stream::ImageStream;
use crate::stream::places::Places;

/// A page of a list, or an event of a watch. An object that can be read is the stream that a reader of whole objects finds,
/// and one that cannot be read spoils no other.
pub(crate) fn cluster(input: &[u8]) {
    let Ok(value) = serde_json::from_slice::<Value>(input) else { return };
    // As the API server writes it: no field is there twice.
    let text = value.to_string();
    match serde_json::from_str::<WatchEvent<Item>>(&text) {
        Ok(WatchEvent::Added(item) | WatchEvent::Modified(item) | WatchEvent::Deleted(item)) => {
            object(item, &value["object"]);
        }
        Ok(WatchEvent::Bookmark(_) | WatchEvent::Error(_)) | Err(_) => {}
    }
    if let Ok(page) = serde_json::from_str::<Page>(&text) {
        assert_eq!(Some(page.items.len()), value["items"].as_array().map(Vec::len));
        for (item, value) in page.items.into_iter().zip(value["items"].as_array().into_iter().flatten()) {
            object(item, value);
        }
    }
}

fn object(item: Item, value: &Value) {
    let (key, read) = (item.key(), item.clone().parse());
    let _ = item.level();
    assert_eq!(value["metadata"]["resourceVersion"].as_str().unwrap_or_default(), item.version());
    let reduced = item.read(&Places::default());
    assert_eq!((reduced.key, reduced.content.is_ok()), (key.clone(), read.is_ok()));
    if let (Ok(read), Ok(whole)) = (read, serde_json::from_value::<ImageStream>(value.clone())) {
        assert_eq!((&*key.name, read.spec, read.status), (whole.metadata.name.as_str(), whole.spec, whole.status));
    }
}
