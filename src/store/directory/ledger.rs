//! The numbers of a stream's tags where its file has none: what was last seen of the spec, and what number each tag got.
//! Pure.
//!
//! Files are written by people and their tools, who count nothing. A change of a tag is told by comparing with what was
//! seen before, so that changes are noticed that were made while nobody looked.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::stream::ImageStream;
use crate::stream::types::Spec;
use crate::stream::write::{self, Context, Invalid};

/// What is kept of one stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Ledger {
    /// Of the stream.
    generation: i64,
    /// Of its tags.
    tags: BTreeMap<String, i64>,
    /// The spec as the file had it.
    seen: Spec,
}

impl Ledger {
    /// Of a stream as it is in its file, and with numbers.
    pub(super) fn of(seen: &ImageStream, numbered: &ImageStream) -> Self {
        let tags = numbered.spec.tags.iter();
        Self {
            generation: numbered.metadata.generation.unwrap_or_default(),
            tags: tags.map(|tag| (tag.name.clone(), tag.generation.unwrap_or_default())).collect(),
            seen: seen.spec.clone(),
        }
    }

    /// Gives a stream the numbers that were kept.
    fn number(&self, stream: &mut ImageStream) {
        stream.metadata.generation = Some(self.generation);
        for tag in &mut stream.spec.tags {
            tag.generation = self.tags.get(&tag.name).copied();
        }
    }
}

/// A stream with its numbers, and the ledger to keep in place of `ledger`.
///
/// # Errors
/// Everything that is wrong with the stream, if it was changed.
pub(super) fn numbered(
    stream: &ImageStream,
    ledger: Option<Ledger>,
    context: &Context<'_>,
) -> Result<(ImageStream, Ledger), Invalid> {
    let ledger = match ledger {
        Some(ledger) if ledger.seen == stream.spec => ledger,
        Some(ledger) => {
            let mut old = ImageStream { spec: ledger.seen.clone(), ..stream.clone() };
            ledger.number(&mut old);
            Ledger::of(stream, &write::renumber(stream.clone(), old, context)?)
        }
        None => Ledger::of(stream, &write::adopt(stream.clone(), context)?),
    };
    let mut numbered = stream.clone();
    ledger.number(&mut numbered);
    Ok((numbered, ledger))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::*;
    use crate::stream::pullspec::RegistryHost;
    use crate::stream::types::ImportMode;
    use crate::stream::write::Source;

    /// Numbers a stream with these tags and, if it has any, this history of tag `a`.
    fn number(tags: &Value, history: &Value, ledger: Option<Ledger>) -> (Vec<Option<i64>>, Ledger) {
        let stream = json!({"metadata": {"name": "app"}, "spec": {"tags": tags},
            "status": {"tags": [{"tag": "a", "items": history}]}});
        let stream: ImageStream = serde_json::from_value(stream).unwrap();
        let context = Context {
            now: Timestamp::UNIX_EPOCH,
            registry_host: &RegistryHost::Unknown,
            default_mode: ImportMode::PreserveOriginal,
            permits: &|_| true,
            source: &|_| Source::Unknown,
        };
        let (numbered, ledger) = super::numbered(&stream, ledger, &context).unwrap();
        (numbered.spec.tags.iter().map(|tag| tag.generation).collect(), ledger)
    }

    fn tag(name: &str, from: &str) -> Value {
        json!({"name": name, "from": {"kind": "DockerImage", "name": from}})
    }

    #[test]
    fn tags_with_a_history_are_imported_and_others_are_not() {
        let history = json!([{"image": "sha256:1", "dockerImageReference": "q.io/a@sha256:1", "generation": 1}]);
        let mut numbered = tag("c", "q.io/c:1");
        numbered["generation"] = 4.into();
        let tags = json!([tag("a", "q.io/a:1"), tag("b", "q.io/b:1"), numbered]);
        assert_eq!(number(&tags, &history, None).0, [Some(1), Some(4), Some(4)]);
    }

    #[test]
    fn only_a_change_of_where_a_tag_comes_from_counts() {
        let (first, ledger) = number(&json!([tag("a", "q.io/a:1"), tag("b", "q.io/b:1")]), &json!([]), None);
        assert_eq!(first, [Some(1), Some(1)]);
        let (same, ledger) = number(&json!([tag("a", "q.io/a:1"), tag("b", "q.io/b:1")]), &json!([]), Some(ledger));
        assert_eq!(same, first);
        let mut scheduled = tag("b", "q.io/b:1");
        scheduled["importPolicy"] = json!({"scheduled": true});
        let (changed, ledger) = number(&json!([tag("a", "q.io/a:2"), scheduled]), &json!([]), Some(ledger));
        assert_eq!((changed, ledger.generation), (vec![Some(2), Some(1)], 2));
    }

    #[test]
    fn zero_asks_again_once() {
        let (_, ledger) = number(&json!([tag("a", "q.io/a:1")]), &json!([]), None);
        let mut again = tag("a", "q.io/a:1");
        again["generation"] = 0.into();
        let (asked, ledger) = number(&json!([again]), &json!([]), Some(ledger));
        assert_eq!(asked, [Some(2)]);
        assert_eq!(number(&json!([again]), &json!([]), Some(ledger)).0, [Some(2)]);
    }

    #[test]
    fn ledger_survives_as_json() {
        let (_, ledger) = number(&json!([tag("a", "q.io/a:1")]), &json!([]), None);
        let json = serde_json::to_vec(&ledger).unwrap();
        assert_eq!(serde_json::from_slice::<Ledger>(&json).unwrap(), ledger);
    }
}
