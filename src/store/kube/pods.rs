//! The Pods of a cluster, listed page by page and watched from there, each reduced to the images it asks for; or listed once.
//!
//! A watch that ends is taken up where it was; when the API server does not know any more where that is, everything is
//! listed again. Pods that have ended are left out by the API server. Only reads.

use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use kube::Client;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::core::Request;
use serde::Deserialize;
use tokio::sync::mpsc::Sender;

use super::home::{self, ClusterHome, home_error};
use super::objects::PageMetadata;
use crate::backoff::Backoff;
use crate::store::home::HomeError;
use crate::stream::Key;

/// How many Pods are asked for at a time.
const PAGE_SIZE: u32 = 500;
/// How long an API server may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_mins(1);
/// How long a watch may be silent. API servers send a bookmark every minute.
const SILENCE_LIMIT: Duration = Duration::from_secs(100);
/// A watch that the API server ends sooner than this is not taken up at once.
const SHORT: Duration = Duration::from_secs(1);
/// Pods that have not ended.
const ALIVE: &str = "status.phase!=Succeeded,status.phase!=Failed";
/// Where Pods are.
const PATH: &str = "/api/v1/pods";

/// What Pods there are, in the order in which the API server tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodChange {
    /// A list begins: what it does not bring is gone.
    Began,
    /// A Pod is there, new or changed, with the images of its containers as they are written.
    Applied(Key, Vec<Box<str>>),
    /// A Pod is gone, or has ended.
    Deleted(Key),
    /// All Pods were told.
    Listed,
    /// The watch is not up: what was told may be old.
    Lost,
    /// The watch is up again.
    Current,
}

/// Why Pods cannot be read or watched for now.
#[derive(Debug, thiserror::Error)]
enum PodsError {
    #[error("{0}; the audit needs list and watch on pods in all namespaces, or turn it off with --no-audit")]
    Forbidden(String),
    #[error("the API server does not know any more where the watch was")]
    Expired,
    #[error("the API server cannot be asked: {0}")]
    Cluster(kube::Error),
    #[error("the API server said nothing for {} s", .0.as_secs())]
    Silent(Duration),
    #[error("nobody listens any more")]
    Unheard,
}

impl From<kube::Error> for PodsError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.is_forbidden() => Self::Forbidden(status.message.clone()),
            kube::Error::Api(status) if status.code == 410 => Self::Expired,
            error => Self::Cluster(error),
        }
    }
}

/// Tells of all Pods of a cluster, as they come, change and go. Ends when nobody listens.
pub async fn keep_pods(client: Client, changes: Sender<PodChange>) {
    let (mut pods, mut backoff) = (Pods { client, changes, version: None }, Backoff::default());
    loop {
        let began = Instant::now();
        match pods.follow(&mut backoff).await {
            // One that ends at once is not taken up at once.
            Ok(()) if began.elapsed() >= SHORT => continue,
            Ok(()) => tracing::debug!("the watch of Pods ended at once"),
            Err(PodsError::Unheard) => return,
            Err(PodsError::Expired) => {
                pods.version = None;
                tracing::info!("Pods will be listed again");
            }
            Err(error) => tracing::warn!(%error, "Pods cannot be watched, the audit stays as it was"),
        }
        if pods.tell(PodChange::Lost).await.is_err() {
            return;
        }
        tokio::time::sleep(backoff.next(RandomState::new().hash_one(()))).await;
    }
}

struct Pods {
    client: Client,
    changes: Sender<PodChange>,
    /// Where the watch is; none if everything is to be listed first.
    version: Option<String>,
}

impl Pods {
    async fn tell(&self, change: PodChange) -> Result<(), PodsError> {
        self.changes.send(change).await.map_err(|_| PodsError::Unheard)
    }

    /// One watch from beginning to end, with the list that it may need.
    async fn follow(&mut self, backoff: &mut Backoff) -> Result<(), PodsError> {
        let version = match self.version.clone() {
            Some(version) => version,
            None => self.list().await?,
        };
        let request = Request::new(PATH).watch(&WatchParams::default().fields(ALIVE), &version);
        let request = request.map_err(kube::Error::BuildRequest)?;
        let events = answer(self.client.request_events::<Item>(request)).await?;
        let mut events = Box::pin(events);
        self.tell(PodChange::Current).await?;
        loop {
            match tokio::time::timeout(SILENCE_LIMIT, events.next()).await {
                Ok(Some(event)) => self.take(event?).await?,
                Ok(None) => return Ok(()),
                Err(_) => return Err(PodsError::Silent(SILENCE_LIMIT)),
            }
            backoff.reset();
        }
    }

    /// Tells every Pod, page by page. Gives where a watch is to begin.
    async fn list(&mut self) -> Result<String, PodsError> {
        self.tell(PodChange::Began).await?;
        let mut params = ListParams::default().fields(ALIVE).limit(PAGE_SIZE);
        loop {
            let request = Request::new(PATH).list(&params).map_err(kube::Error::BuildRequest)?;
            let page: Page = answer(self.client.request(request)).await?;
            for item in page.items {
                let (key, images) = item.read();
                self.tell(PodChange::Applied(key, images)).await?;
            }
            if page.metadata.rest.is_empty() {
                self.tell(PodChange::Listed).await?;
                self.version = Some(page.metadata.resource_version.clone());
                return Ok(page.metadata.resource_version);
            }
            params = params.continue_token(&page.metadata.rest);
        }
    }

    async fn take(&mut self, event: WatchEvent<Item>) -> Result<(), PodsError> {
        let (version, change) = match event {
            WatchEvent::Added(item) | WatchEvent::Modified(item) => {
                let version = item.metadata.resource_version.clone();
                let (key, images) = item.read();
                (version, Some(PodChange::Applied(key, images)))
            }
            WatchEvent::Deleted(item) => {
                let version = item.metadata.resource_version.clone();
                (version, Some(PodChange::Deleted(item.read().0)))
            }
            WatchEvent::Bookmark(bookmark) => (bookmark.metadata.resource_version, None),
            WatchEvent::Error(status) => return Err(kube::Error::Api(status).into()),
        };
        self.version = Some(version);
        match change {
            Some(change) => self.tell(change).await,
            None => Ok(()),
        }
    }
}

async fn answer<T>(asked: impl Future<Output = kube::Result<T>>) -> Result<T, PodsError> {
    let answer = tokio::time::timeout(ANSWER_LIMIT, asked).await.map_err(|_| PodsError::Silent(ANSWER_LIMIT))?;
    Ok(answer?)
}

#[derive(Deserialize)]
struct Page {
    metadata: PageMetadata,
    items: Vec<Item>,
}

/// What of a Pod is read.
#[derive(Clone, Debug, Deserialize)]
struct Item {
    metadata: ItemMetadata,
    #[serde(default)]
    spec: ItemSpec,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ItemMetadata {
    name: Box<str>,
    #[serde(default)]
    namespace: Box<str>,
    #[serde(default)]
    resource_version: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ItemSpec {
    containers: Vec<ItemContainer>,
    init_containers: Vec<ItemContainer>,
    ephemeral_containers: Vec<ItemContainer>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ItemContainer {
    name: Box<str>,
    image: Box<str>,
}

/// A Pod that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningPod {
    /// Which one.
    pub key: Key,
    /// Its containers: list and name as `containers[web]`, and the image as it is written.
    pub containers: Vec<(String, Box<str>)>,
}

impl ClusterHome {
    /// The Pods of a namespace, or of all, that have not ended.
    ///
    /// # Errors
    /// If they cannot be listed.
    pub async fn pods(&self, namespace: Option<&str>) -> Result<Vec<RunningPod>, HomeError> {
        let path =
            namespace.map_or_else(|| PATH.to_owned(), |namespace| format!("/api/v1/namespaces/{namespace}/pods"));
        let place = Key::new(namespace.unwrap_or("*"), "*");
        let mut params = ListParams::default().fields(ALIVE).limit(PAGE_SIZE);
        let mut pods = Vec::new();
        loop {
            let request = Request::new(&path).list(&params);
            let request = request.map_err(|error| HomeError::Refused(error.to_string()))?;
            let page: Page = home::answer(self.client().request(request))
                .await
                .map_err(|error| home_error(&place, "Pods", &error))?;
            pods.extend(page.items.into_iter().map(Item::named));
            if page.metadata.rest.is_empty() {
                return Ok(pods);
            }
            params = params.continue_token(&page.metadata.rest);
        }
    }
}

impl Item {
    fn named(self) -> RunningPod {
        let ItemSpec { containers, init_containers, ephemeral_containers } = self.spec;
        let lists = [
            ("initContainers", init_containers),
            ("containers", containers),
            ("ephemeralContainers", ephemeral_containers),
        ];
        let named = |(list, containers): (&'static str, Vec<ItemContainer>)| {
            containers.into_iter().map(move |container| (format!("{list}[{}]", container.name), container.image))
        };
        let key = Key { namespace: self.metadata.namespace, name: self.metadata.name };
        RunningPod { key, containers: lists.into_iter().flat_map(named).collect() }
    }

    fn read(self) -> (Key, Vec<Box<str>>) {
        let key = Key { namespace: self.metadata.namespace, name: self.metadata.name };
        let ItemSpec { containers, init_containers, ephemeral_containers } = self.spec;
        let all = init_containers.into_iter().chain(containers).chain(ephemeral_containers);
        (key, all.map(|container| container.image).collect())
    }
}
