//! The Pods of a cluster that have not ended, watched or listed once, each reduced to the images it asks for. Only reads.

use std::time::Instant;

use kube::Client;
use kube::core::Request;
use serde::Deserialize;
use tokio::sync::mpsc::Sender;

use super::client::answer;
use super::home::{ClusterHome, home_error};
use super::objects::{Item, Page};
use super::watch::{Collection, Sink, Subject, Watched};
use crate::store::home::HomeError;
use crate::stream::Key;

/// What Pods there are, in the order in which the API server tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodChange {
    /// A list begins: what it does not bring is gone. It may break off and begin again.
    Began,
    /// A Pod is there, new or changed, with the images of its containers as they are written.
    Applied(Key, Vec<Box<str>>),
    /// A Pod is there that cannot be read. What was known of it stays.
    Unreadable(Key),
    /// A Pod is gone, or has ended.
    Deleted(Key),
    /// All Pods were told.
    Listed,
    /// The watch is not up: what was told may be old.
    Lost,
    /// The watch is up again.
    Current,
}

/// Collects what arrived together for whoever keeps count of Pods, and waits for those who are slower.
pub struct PodFeed {
    changes: Sender<Vec<PodChange>>,
    waiting: Vec<PodChange>,
}

impl Watched<PodFeed> {
    /// Tells of all Pods of a cluster, as they come, change and go.
    #[must_use]
    pub fn pods(client: Client, changes: Sender<Vec<PodChange>>) -> Self {
        Self::of(client, Subject::Pods, PodFeed { changes, waiting: Vec::new() })
    }
}

impl Sink for PodFeed {
    fn begin_list(&mut self) {
        // A list that could not even begin was told of already.
        if self.waiting.last() != Some(&PodChange::Began) {
            self.waiting.push(PodChange::Began);
        }
    }

    fn end_list(&mut self) {
        self.waiting.push(PodChange::Listed);
    }

    fn apply(&mut self, item: Item) {
        let key = item.key();
        self.waiting.push(match item.spec::<Spec>() {
            Ok(spec) => PodChange::Applied(key, spec.containers().map(|(_, container)| container.image).collect()),
            Err(reason) => {
                tracing::warn!(pod = %key, reason, "Pod cannot be read, the audit keeps what it knew of it");
                PodChange::Unreadable(key)
            }
        });
    }

    fn delete(&mut self, key: &Key) {
        self.waiting.push(PodChange::Deleted(key.clone()));
    }

    fn flush(&mut self) {}

    fn is_current(&mut self) {
        self.waiting.push(PodChange::Current);
    }

    fn is_lost(&mut self, _since: Instant) {
        self.waiting.push(PodChange::Lost);
    }

    async fn hand_on(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        if !waiting.is_empty() {
            // Whoever does not listen any more need not be told.
            let _ = self.changes.send(waiting).await;
        }
    }
}

/// What of a Pod's spec is read. A list that has nothing may be null.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    init_containers: Option<Vec<Container>>,
    containers: Option<Vec<Container>>,
    ephemeral_containers: Option<Vec<Container>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Container {
    name: Box<str>,
    image: Box<str>,
}

impl Spec {
    /// Every container, with the name of its list.
    fn containers(self) -> impl Iterator<Item = (&'static str, Container)> {
        let lists = [
            ("initContainers", self.init_containers),
            ("containers", self.containers),
            ("ephemeralContainers", self.ephemeral_containers),
        ];
        let named = |(list, containers): (&'static str, Option<Vec<Container>>)| {
            containers.into_iter().flatten().map(move |container| (list, container))
        };
        lists.into_iter().flat_map(named)
    }
}

/// A Pod that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningPod {
    /// Which one.
    pub key: Key,
    /// Its containers: list and name as `containers[web]`, and the image as it is written.
    pub containers: Vec<(String, Box<str>)>,
}

impl RunningPod {
    fn read(item: Item) -> Result<Self, HomeError> {
        let key = item.key();
        let spec = item.spec::<Spec>().map_err(|reason| HomeError::Refused(format!("Pod {key}: {reason}")))?;
        let named = |(list, container): (_, Container)| (format!("{list}[{}]", container.name), container.image);
        Ok(Self { key, containers: spec.containers().map(named).collect() })
    }
}

impl ClusterHome {
    /// The Pods of a namespace, or of all, that have not ended.
    ///
    /// # Errors
    /// If they cannot be listed, or one of them cannot be read.
    pub async fn pods(&self, namespace: Option<&str>) -> Result<Vec<RunningPod>, HomeError> {
        let path = namespace.map_or_else(String::new, |namespace| format!("/namespaces/{namespace}"));
        let (mut params, mut pods) = (Collection::Pods.list(), Vec::new());
        loop {
            let request = Request::new(format!("/api/v1{path}/pods")).list(&params);
            let request = request.map_err(|error| HomeError::Refused(error.to_string()))?;
            let page: Page =
                answer(self.client().request(request)).await.map_err(|error| pods_error(namespace, &error))?;
            for item in page.items {
                pods.push(RunningPod::read(item)?);
            }
            if page.metadata.rest.is_empty() {
                return Ok(pods);
            }
            params = params.continue_token(&page.metadata.rest);
        }
    }
}

/// Names the right that is missing, if that is what it is.
fn pods_error(namespace: Option<&str>, error: &kube::Error) -> HomeError {
    match error {
        kube::Error::Api(status) if status.is_forbidden() => {
            let place = namespace.map_or_else(|| "all namespaces".to_owned(), |name| format!("namespace {name}"));
            HomeError::Refused(format!("{}; auditing needs the right to list pods in {place}", status.message))
        }
        error => home_error(&Key::new(namespace.unwrap_or("*"), "*"), "Pods", error),
    }
}

#[cfg(test)]
mod tests;
