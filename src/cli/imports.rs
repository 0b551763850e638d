//! Commands that import: their flags, and what came of the imports that they waited for.

use clap::Args;

use super::backend::{Backend, Miss, Opening, pending};
use super::target::{DryRun, DryRunArgs, WaitArgs};
use crate::config::RegistryArgs;
use crate::controller::agenda::WHOLE_STREAM;
use crate::stream::types::ReferenceKind;
use crate::stream::{ImageStream, Key, history, plan};

/// Flags of commands that import.
#[derive(Args, Clone, Debug)]
pub(super) struct ImportArgs {
    #[command(flatten)]
    pub dry_run: DryRunArgs,

    #[command(flatten)]
    pub wait: WaitArgs,

    #[command(flatten)]
    pub registry: RegistryArgs,
}

impl ImportArgs {
    pub(super) fn opening(&self) -> Opening {
        Opening {
            dry_run: self.dry_run.dry_run,
            wait: self.wait,
            registry: Some(self.registry.clone()),
            ..Opening::default()
        }
    }
}

/// A tag that could not be imported, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    tag: String,
    message: String,
}

/// Waits for the imports of tags of a stream that was just written, or does them. Gives those that failed.
pub(super) async fn wait<B: Backend>(backend: &B, key: &Key, tags: &[String]) -> anyhow::Result<Vec<Failure>> {
    if backend.common().dry_run != DryRun::None {
        return Ok(Vec::new());
    }
    let mut tags = tags.to_vec();
    if tags.iter().any(|tag| tag == WHOLE_STREAM) {
        // What the repository has is known behind that.
        backend.import(key, &[WHOLE_STREAM.to_owned()]).await?;
        let stream = backend.expect(key).await?.stream;
        if plan::repository(&stream).is_none() {
            tags = pending(&stream);
        }
    }
    let stream = backend.expect(key).await?.stream;
    let waiting: Vec<String> =
        pending(&stream).into_iter().filter(|tag| tags.contains(tag) && comes_by_itself(&stream, tag)).collect();
    if !waiting.is_empty() {
        backend.import(key, &waiting).await?;
    }
    Ok(failures(&backend.expect(key).await?.stream, &tags))
}

/// What was asked for a tag will come: it does not copy one that has nothing.
fn comes_by_itself(stream: &ImageStream, tag: &str) -> bool {
    let is_copy = |tag: &str| {
        let from = stream.spec.tag(tag).and_then(|tag| tag.from.as_ref());
        from.is_some_and(|from| from.kind == ReferenceKind::ImageStreamTag)
    };
    let has_image = |tag| stream.status.tag(tag).is_some_and(|events| !events.items.is_empty());
    !is_copy(tag) || history::tracked(stream, tag).is_some_and(has_image)
}

/// Of these tags those whose newest request failed.
fn failures(stream: &ImageStream, tags: &[String]) -> Vec<Failure> {
    let failed = |tag: &String| {
        let asked = stream.spec.tag(tag).and_then(|tag| tag.generation).unwrap_or_default();
        let failure = stream.status.tag(tag)?.failure().filter(|failure| failure.generation >= asked)?;
        Some(Failure { tag: tag.clone(), message: failure.message.clone() })
    };
    tags.iter().filter_map(failed).collect()
}

/// Says which tags failed. An error if any did.
pub(super) fn report(failures: &[Failure], stream: &str) -> anyhow::Result<()> {
    for Failure { tag, message } in failures {
        eprintln!("error: tag {tag} failed: {message}");
    }
    let tags = match failures {
        [] => return Ok(()),
        [_] => "1 tag".to_owned(),
        several => format!("{} tags", several.len()),
    };
    Err(Miss(format!(
        "{tags} could not be imported, what was known before stays in use; see: pinstream describe is {stream}"
    ))
    .into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stream() -> ImageStream {
        let failed = json!([{"type": "ImportSuccess", "status": "False", "message": "not found", "generation": 2}]);
        let from = |kind: &str, name: &str| json!({"kind": kind, "name": name});
        serde_json::from_value(json!({"metadata": {"name": "app", "namespace": "demo"},
            "spec": {"tags": [
                {"name": "again", "generation": 3, "from": from("DockerImage", "q.io/a:1")},
                {"name": "copy", "generation": 3, "from": from("ImageStreamTag", "app:full")},
                {"name": "empty", "generation": 3, "from": from("ImageStreamTag", "app:again")},
                {"name": "failed", "generation": 2, "from": from("DockerImage", "q.io/a:2")},
                {"name": "full", "generation": 2, "from": from("DockerImage", "q.io/a:3")},
                {"name": "other", "generation": 3, "from": from("ImageStreamTag", "other:1")}]},
            "status": {"tags": [
                {"tag": "again", "items": null, "conditions": failed},
                {"tag": "failed", "items": null, "conditions": failed},
                {"tag": "full", "items": [{"dockerImageReference": "q.io/a:3", "generation": 2}]}]}}))
        .unwrap()
    }

    #[test]
    fn only_what_the_newest_request_came_to_is_a_failure() {
        let tags = ["again", "failed", "full", "none"].map(str::to_owned);
        let found = failures(&stream(), &tags);
        assert_eq!(found, [Failure { tag: "failed".into(), message: "not found".into() }]);
        assert!(report(&[], "app").is_ok());
        assert!(report(&found, "app").unwrap_err().is::<Miss>());
    }

    #[test]
    fn nobody_waits_for_a_copy_of_nothing() {
        let waited = ["again", "copy", "empty", "full", "other"].map(|tag| comes_by_itself(&stream(), tag));
        assert_eq!(waited, [true, true, false, true, false]);
    }
}
