//! Tags put into a stream and taken out of it, as commands ask for it. Pure; numbers, defaults and what is refused are
//! `stream::write`'s.

use crate::stream::types::{ApiVersion, SpecTag};
use crate::stream::{ImageStream, Key};

/// The stream of that key: a copy of what is there, else a new one.
pub(super) fn stream_or_new(before: Option<&ImageStream>, key: &Key) -> ImageStream {
    before.cloned().unwrap_or_else(|| {
        let mut stream = ImageStream { api_version: ApiVersion::Pinstream, ..ImageStream::default() };
        stream.metadata.name = key.name.to_string();
        stream
    })
}

/// Puts a tag where it belongs in the order of names, in the place of the one of its name.
pub(super) fn put(stream: &mut ImageStream, tag: SpecTag) {
    let tags = &mut stream.spec.tags;
    match tags.binary_search_by(|other| other.name.cmp(&tag.name)) {
        Ok(at) => tags[at] = tag,
        Err(at) => tags.insert(at, tag),
    }
}

/// The stream without what was asked for that tag. `None` if the stream knows no such tag.
pub(super) fn without(stream: &ImageStream, tag: &str) -> Option<ImageStream> {
    if stream.spec.tag(tag).is_none() && stream.status.tag(tag).is_none() {
        return None;
    }
    let mut stream = stream.clone();
    stream.spec.tags.retain(|other| other.name != tag);
    Some(stream)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names(stream: &ImageStream) -> Vec<&str> {
        stream.spec.tags.iter().map(|tag| tag.name.as_str()).collect()
    }

    #[test]
    fn tags_are_put_in_order_replaced_and_taken_away() {
        let mut stream = stream_or_new(None, &Key::new("demo", "app"));
        for name in ["b", "a", "c", "b"] {
            put(&mut stream, SpecTag { name: name.into(), ..SpecTag::default() });
        }
        assert_eq!((names(&stream), stream.metadata.name.as_str()), (vec!["a", "b", "c"], "app"));
        assert_eq!(names(&without(&stream, "b").unwrap()), ["a", "c"]);
        assert_eq!(without(&stream, "x"), None);
        assert_eq!(stream_or_new(Some(&stream), &stream.key()), stream);
    }

    #[test]
    fn tag_that_only_has_a_history_is_known() {
        let value = json!({"metadata": {"name": "app"}, "status": {"tags": [{"tag": "1", "items": []}]}});
        let stream: ImageStream = serde_json::from_value(value).unwrap();
        assert_eq!(without(&stream, "1"), Some(stream));
    }
}
