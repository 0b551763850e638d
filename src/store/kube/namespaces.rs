//! The levels that namespaces say by their label, listed and watched.
//!
//! Of namespaces with the label only names and labels are read. They are few, so whenever a watch ends they are listed again.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use kube::core::PartialObjectMeta;

use crate::backoff::Backoff;
use crate::policy::{LEVEL_LABEL, Level};
use crate::store::levels::CurrentLevels;

/// How long an API server may take to answer a list.
const ANSWER_LIMIT: Duration = Duration::from_mins(1);
/// How long a watch may be silent. API servers send a bookmark every minute.
const SILENCE_LIMIT: Duration = Duration::from_secs(100);

/// A namespace, of which only the metadata is asked for.
type Labelled = PartialObjectMeta<Namespace>;

/// Why the levels cannot be read or watched for now.
#[derive(Debug, thiserror::Error)]
enum LevelsError {
    #[error("{0}; the webhook needs list and watch on namespaces, by a ClusterRole and its binding")]
    Forbidden(String),
    #[error("the API server cannot be asked: {0}")]
    Cluster(kube::Error),
    #[error("the API server said nothing for {} s", .0.as_secs())]
    Silent(Duration),
}

impl From<kube::Error> for LevelsError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.is_forbidden() => Self::Forbidden(status.message.clone()),
            error => Self::Cluster(error),
        }
    }
}

/// Keeps the levels that the namespaces of a cluster say. Whatever happens the last known ones stay. Never ends.
pub async fn keep_levels(client: Client, levels: Arc<CurrentLevels>) {
    let (namespaces, mut own) = (Api::all(client), Own::default());
    let mut backoff = Backoff::default();
    let mut is_failing = false;
    loop {
        let followed = follow(&namespaces, &mut own, &levels, &mut is_failing).await;
        levels.settle();
        let wait = backoff.next(RandomState::new().hash_one(()));
        match followed {
            Ok(()) => backoff.reset(),
            Err(error) if is_failing => tracing::debug!(%error, "levels of namespaces still cannot be watched"),
            Err(error) => {
                tracing::warn!(%error, known = own.0.len(), "levels of namespaces cannot be watched, the last known ones and the default stay in force");
                is_failing = true;
            }
        }
        tokio::time::sleep(wait).await;
    }
}

/// One list and the watch after it, to its end.
async fn follow(
    namespaces: &Api<Namespace>,
    own: &mut Own,
    levels: &CurrentLevels,
    is_failing: &mut bool,
) -> Result<(), LevelsError> {
    let params = ListParams::default().labels(LEVEL_LABEL);
    let list = namespaces.list_metadata(&params);
    let list = tokio::time::timeout(ANSWER_LIMIT, list).await.map_err(|_| LevelsError::Silent(ANSWER_LIMIT))??;
    own.replace(&list.items);
    levels.publish(own.levels());
    levels.settle();
    let version = list.metadata.resource_version.unwrap_or_default();
    let params = WatchParams::default().labels(LEVEL_LABEL);
    let watch = namespaces.watch_metadata(&params, &version);
    let watch = tokio::time::timeout(ANSWER_LIMIT, watch).await.map_err(|_| LevelsError::Silent(ANSWER_LIMIT))??;
    if std::mem::take(is_failing) {
        tracing::info!("levels of namespaces are watched again");
    }
    let mut events = Box::pin(watch);
    loop {
        match tokio::time::timeout(SILENCE_LIMIT, events.next()).await {
            Ok(None) => return Ok(()),
            Ok(Some(event)) => match event? {
                WatchEvent::Added(namespace) | WatchEvent::Modified(namespace) => own.apply(&namespace),
                WatchEvent::Deleted(namespace) => own.delete(&namespace),
                WatchEvent::Bookmark(_) => continue,
                // Whatever it is, everything is listed again.
                WatchEvent::Error(_) => return Ok(()),
            },
            Err(_) => return Err(LevelsError::Silent(SILENCE_LIMIT)),
        }
        levels.publish(own.levels());
    }
}

/// What each labelled namespace says; nothing if that is no level.
#[derive(Debug, Default)]
struct Own(HashMap<Box<str>, Option<Level>>);

impl Own {
    fn replace(&mut self, namespaces: &[Labelled]) {
        let before = std::mem::take(&mut self.0);
        for namespace in namespaces {
            self.say(namespace, &before);
        }
    }

    fn apply(&mut self, namespace: &Labelled) {
        let before = self.0.clone();
        self.say(namespace, &before);
    }

    fn delete(&mut self, namespace: &Labelled) {
        self.0.remove(name(namespace));
    }

    /// What is no level is told once.
    fn say(&mut self, namespace: &Labelled, before: &HashMap<Box<str>, Option<Level>>) {
        let name = name(namespace);
        let labels = namespace.metadata.labels.as_ref();
        let Some(written) = labels.and_then(|labels| labels.get(LEVEL_LABEL)) else { return };
        let level = Level::parse(written);
        if let Err(error) = &level
            && before.get(name) != Some(&None)
        {
            tracing::warn!(namespace = name, %error, "label {LEVEL_LABEL} is passed over, the namespace has the default level");
        }
        self.0.insert(name.into(), level.ok());
    }

    fn levels(&self) -> impl Iterator<Item = (Box<str>, Level)> {
        self.0.iter().filter_map(|(name, level)| Some((name.clone(), (*level)?)))
    }
}

fn name(namespace: &Labelled) -> &str {
    namespace.metadata.name.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn labelled(name: &str, level: Option<&str>) -> Labelled {
        let labels = level.map(|level| json!({LEVEL_LABEL: level})).unwrap_or_default();
        serde_json::from_value(json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
            "metadata": {"name": name, "labels": labels}}))
        .unwrap()
    }

    fn levels(own: &Own) -> Vec<(String, Level)> {
        let mut levels: Vec<_> = own.levels().map(|(name, level)| (name.into_string(), level)).collect();
        levels.sort_by(|one, other| one.0.cmp(&other.0));
        levels
    }

    #[test]
    fn levels_follow_labels() {
        let mut own = Own::default();
        let list = [labelled("a", Some("enforce")), labelled("b", Some("of")), labelled("c", Some("warn"))];
        own.replace(&list);
        assert_eq!(levels(&own), [("a".to_owned(), Level::Enforce), ("c".to_owned(), Level::Warn)]);
        own.apply(&labelled("b", Some("audit")));
        own.apply(&labelled("a", Some("wrong")));
        own.delete(&labelled("c", Some("warn")));
        assert_eq!(levels(&own), [("b".to_owned(), Level::Audit)]);
        own.replace(&[]);
        assert_eq!(levels(&own), []);
    }
}
