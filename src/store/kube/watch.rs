//! Lists the streams of a cluster, watches them from there, and begins again wherever it was when something breaks.
//! What is made of the objects is the sink's.
//!
//! kube's ready-made watcher keeps to itself when a watch is up again and that bookmarks arrived, which is what the
//! age of the streams is known by. Hence this loop.

use std::error::Error as _;
use std::fmt::Write as _;
use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, pin_mut};
use kube::Client;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::core::Status;

use super::objects::{Item, Page, Served};
use crate::backoff::Backoff;
use crate::crd::PLURAL;
use crate::stream::Key;

/// How many objects are asked for at a time. A page is in memory as a whole while it is read.
const PAGE_SIZE: u32 = 100;
/// How long an API server may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_mins(1);
/// How long a watch may be silent. API servers send a bookmark every minute.
const SILENCE_LIMIT: Duration = Duration::from_secs(100);
/// A watch that the API server ends sooner than this counts as a failure.
const SHORT: Duration = Duration::from_secs(1);
/// How many events that arrived together are published together.
const BATCH_MAX: usize = 1000;

/// Which image streams of a cluster are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preference {
    /// OpenShift's where the cluster serves them, else the custom resource.
    Auto,
    /// `image.openshift.io/v1`.
    OpenShift,
    /// The custom resource `pinstream.dev/v1`.
    Pinstream,
}

/// Why the streams cannot be read or watched for now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum WatchError {
    #[error("the cluster has no {0}; install the custom resource: pinstream crd | kubectl apply --server-side -f -")]
    NoCustomResource(String),
    #[error("the cluster has no {0}, only OpenShift has it; on other clusters use --source pinstream or auto")]
    NoOpenShift(String),
    #[error("{message}; allow get, list and watch on {resource} in all namespaces by a ClusterRole and its binding")]
    Forbidden { message: String, resource: String },
    #[error(
        "the API server does not accept who asks ({0}); check the Pod's ServiceAccount token, or the kubeconfig's user"
    )]
    Unauthorized(String),
    #[error("the API server answers {code}: {message}")]
    Refused { code: u16, message: String },
    #[error("the API server cannot be reached: {0}")]
    Unreachable(String),
    #[error("the API server said nothing for {} s", .0.as_secs())]
    Silent(Duration),
    #[error("the API server ends each watch at once")]
    Short,
    #[error("the API server does not know any more where the watch was; everything is listed again")]
    Expired,
}

impl WatchError {
    fn of(error: &kube::Error, resource: Served) -> Self {
        match error {
            kube::Error::Api(status) => Self::of_status(status, resource),
            error => Self::Unreachable(causes(error)),
        }
    }

    fn of_status(status: &Status, resource: Served) -> Self {
        let (name, message) = (resource.to_string(), status.message.clone());
        match status.code {
            401 => Self::Unauthorized(message),
            403 => Self::Forbidden { message, resource: name },
            404 if resource == Served::OpenShift => Self::NoOpenShift(name),
            404 => Self::NoCustomResource(name),
            410 => Self::Expired,
            code => Self::Refused { code, message },
        }
    }

    /// The watch can go on from where it was once this is over. Otherwise things may have changed unseen.
    fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Silent(_) | Self::Short => true,
            Self::Refused { code, .. } => *code == 429 || *code >= 500,
            _ => false,
        }
    }
}

/// What led to an error, each cause said once.
fn causes(error: &kube::Error) -> String {
    let mut text = String::new();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            let separator = if text.is_empty() { "" } else { ": " };
            let _ = write!(text, "{separator}{said}");
        }
        source = cause.source();
    }
    if text.is_empty() { error.to_string() } else { text }
}

/// Who is told of the streams as they come, change and go.
pub(super) trait Sink: Send {
    /// A list begins. What it brings is told by [`apply`](Self::apply).
    fn begin_list(&mut self);
    /// The list has ended: what it did not bring is gone.
    fn end_list(&mut self);
    /// An object is there, new or changed.
    fn apply(&mut self, item: Item);
    /// An object is gone.
    fn delete(&mut self, key: &Key);
    /// All that arrived together was told.
    fn flush(&mut self);
    /// The watch is up: what was told is as new as it can be.
    fn is_current(&self);
    /// The watch is not up; what was told is as old as that.
    fn is_lost(&self, since: Instant);
    /// How many streams there are.
    fn stream_count(&self) -> usize;
}

/// The image streams of a cluster, told to a sink as they change.
pub struct Watched<S> {
    client: Client,
    preference: Preference,
    sink: S,
    /// What is read, once that is known.
    resource: Option<Served>,
    /// Where the watch is; none if everything is to be listed first.
    version: Option<String>,
    /// Everything was listed at least once.
    is_loaded: bool,
    /// A failure was reported, and not yet that it is over.
    is_failing: bool,
    /// When the API server was last heard while the watch was up.
    heard: Instant,
    backoff: Backoff,
}

#[expect(private_bounds, reason = "sinks are made in this module only")]
impl<S: Sink> Watched<S> {
    /// Nothing is asked yet.
    pub(super) fn of(client: Client, preference: Preference, sink: S) -> Self {
        Self {
            client,
            preference,
            sink,
            resource: None,
            version: None,
            is_loaded: false,
            is_failing: false,
            heard: Instant::now(),
            backoff: Backoff::default(),
        }
    }

    /// Lists, watches, and begins again. Whatever happens the last known streams stay. Never ends.
    pub async fn keep(mut self) {
        loop {
            let error = match self.follow().await {
                Ok(()) => continue,
                Err(error) => error,
            };
            if !error.is_passing() {
                self.version = None;
                self.resource = None;
            }
            let wait = self.backoff.next(RandomState::new().hash_one(()));
            self.report(&error, wait);
            tokio::time::sleep(wait).await;
        }
    }

    fn report(&mut self, error: &WatchError, wait: Duration) {
        let retry_seconds = wait.as_secs_f64();
        if *error == WatchError::Expired {
            tracing::info!(%error, "image streams will be listed");
            return;
        }
        self.is_failing = true;
        if self.is_loaded {
            let streams = self.sink.stream_count();
            tracing::warn!(%error, streams, retry_seconds, "image streams cannot be watched, the last known ones stay in force");
        } else {
            tracing::warn!(%error, retry_seconds, "image streams cannot be read, not ready before they can");
        }
    }

    /// One watch from beginning to end, with what must come before it.
    async fn follow(&mut self) -> Result<(), WatchError> {
        let resource = match self.resource {
            Some(resource) => resource,
            None => discover(&self.client, self.preference).await?,
        };
        let version = match self.version.clone() {
            Some(version) => version,
            None => self.list(resource).await?,
        };
        self.resource = Some(resource);
        let ended = self.watch(resource, &version).await;
        let since = if matches!(ended, Err(WatchError::Silent(_))) { self.heard } else { Instant::now() };
        self.sink.is_lost(since);
        ended
    }

    /// Reads everything, page by page. Gives back where a watch is to begin.
    async fn list(&mut self, resource: Served) -> Result<String, WatchError> {
        self.sink.begin_list();
        let mut params = ListParams::default().limit(PAGE_SIZE);
        let version = loop {
            let request = resource.request().list(&params).map_err(kube::Error::BuildRequest);
            let page: Page = answer(async { self.client.request(request?).await }, resource).await?;
            for item in page.items {
                self.sink.apply(item);
            }
            if page.metadata.rest.is_empty() {
                break page.metadata.resource_version;
            }
            params = params.continue_token(&page.metadata.rest);
        };
        self.sink.end_list();
        self.sink.flush();
        self.is_loaded = true;
        tracing::info!(%resource, streams = self.sink.stream_count(), "image streams listed");
        self.version = Some(version.clone());
        Ok(version)
    }

    async fn watch(&mut self, resource: Served, version: &str) -> Result<(), WatchError> {
        let request = resource.request().watch(&WatchParams::default(), version).map_err(kube::Error::BuildRequest);
        let events = answer(async { self.client.request_events::<Item>(request?).await }, resource).await?;
        let events = events.ready_chunks(BATCH_MAX);
        pin_mut!(events);
        let began = Instant::now();
        self.heard = began;
        self.sink.is_current();
        if std::mem::take(&mut self.is_failing) {
            tracing::info!("image streams are watched again");
        }
        loop {
            let batch = match tokio::time::timeout(SILENCE_LIMIT, events.next()).await {
                Ok(Some(batch)) => batch,
                Ok(None) if began.elapsed() < SHORT => return Err(WatchError::Short),
                Ok(None) => return Ok(()),
                Err(_) => return Err(WatchError::Silent(SILENCE_LIMIT)),
            };
            self.heard = Instant::now();
            self.backoff.reset();
            let applied = batch
                .into_iter()
                .try_for_each(|event| self.apply(event.map_err(|error| WatchError::of(&error, resource))?, resource));
            self.sink.flush();
            applied?;
        }
    }

    fn apply(&mut self, event: WatchEvent<Item>, resource: Served) -> Result<(), WatchError> {
        self.version = Some(match event {
            WatchEvent::Added(item) | WatchEvent::Modified(item) => {
                let version = item.version().to_owned();
                self.sink.apply(item);
                version
            }
            WatchEvent::Deleted(item) => {
                self.sink.delete(&item.key());
                item.version().to_owned()
            }
            WatchEvent::Bookmark(bookmark) => bookmark.metadata.resource_version,
            WatchEvent::Error(status) => return Err(WatchError::of_status(&status, resource)),
        });
        Ok(())
    }
}

/// Whether the streams of a cluster are OpenShift's, which imports them itself. Asks until the cluster answers.
pub async fn is_openshift(client: &Client, preference: Preference) -> bool {
    let mut backoff = Backoff::default();
    loop {
        match discover(client, preference).await {
            Ok(served) => return served == Served::OpenShift,
            Err(error) => {
                let wait = backoff.next(RandomState::new().hash_one(()));
                let retry_seconds = wait.as_secs_f64();
                tracing::warn!(%error, retry_seconds, "it cannot be told yet whether this is OpenShift");
                tokio::time::sleep(wait).await;
            }
        }
    }
}

/// Which resource to read.
pub(super) async fn discover(client: &Client, preference: Preference) -> Result<Served, WatchError> {
    let openshift = Served::OpenShift;
    let is_openshift = match preference {
        Preference::OpenShift => true,
        Preference::Pinstream => false,
        Preference::Auto => match answer(client.list_api_group_resources(&openshift.api_version()), openshift).await {
            Ok(served) => served.resources.iter().any(|served| served.name == PLURAL),
            Err(WatchError::NoOpenShift(_)) => false,
            Err(error) => return Err(error),
        },
    };
    Ok(if is_openshift { openshift } else { Served::Pinstream })
}

/// Waits for an answer, but not for ever.
async fn answer<T>(asked: impl Future<Output = kube::Result<T>>, resource: Served) -> Result<T, WatchError> {
    match tokio::time::timeout(ANSWER_LIMIT, asked).await {
        Ok(answer) => answer.map_err(|error| WatchError::of(&error, resource)),
        Err(_) => Err(WatchError::Silent(ANSWER_LIMIT)),
    }
}

#[cfg(test)]
mod tests;
