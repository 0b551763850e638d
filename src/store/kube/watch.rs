//! Lists the objects of a collection, watches them from there, and begins again wherever it was when something breaks.
//! What is made of the objects is the sink's.
//!
//! kube's ready-made watcher keeps to itself when a watch is up again and that bookmarks arrived, which is what the
//! age of the streams is known by. Hence this loop.

mod collection;
mod error;
mod trouble;

use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, pin_mut};
use kube::Client;
use kube::api::WatchEvent;

pub(super) use self::collection::{Collection, Subject, discover};
pub use self::collection::{Preference, is_openshift};
pub(super) use self::error::WatchError;
use self::error::answer;
use self::trouble::Trouble;
use super::objects::{Item, Page};
use crate::backoff::Backoff;
use crate::stream::Key;

/// How long a watch may be silent, if nothing else is said. API servers send a bookmark every minute.
pub const SILENCE_LIMIT: Duration = Duration::from_secs(100);
/// A watch that the API server ends sooner than this counts as a failure.
const SHORT: Duration = Duration::from_secs(1);
/// How many events that arrived together are told together.
const BATCH_MAX: usize = 1000;

/// Who is told of the objects as they come, change and go.
pub(super) trait Sink: Send {
    /// A list begins. What it brings is applied as it comes; it may break off and begin again.
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
    fn is_current(&mut self);
    /// The watch is not up; what was told is as old as that.
    fn is_lost(&mut self, since: Instant);
    /// A try failed. What was told before stays.
    fn has_failed(&mut self, _error: &WatchError) {}
    /// Something was told, a page or a part of a watch. Nothing more is read before this is over.
    fn hand_on(&mut self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// Objects of a cluster, told to a sink as they change.
pub struct Watched<S> {
    client: Client,
    subject: Subject,
    sink: S,
    /// What is read, once that is known.
    collection: Option<Collection>,
    /// Where the watch is; none if everything is to be listed first.
    version: Option<String>,
    /// Everything was listed at least once.
    is_loaded: bool,
    /// What goes wrong, as long as it does.
    trouble: Option<Trouble>,
    began: tokio::time::Instant,
    /// When the API server was last heard while the watch was up.
    heard: Instant,
    tries: Tries,
    /// How long the watch may be silent.
    silence: Duration,
}

/// What tries came to, and how long to wait before the next.
#[derive(Default)]
struct Tries {
    backoff: Backoff,
    /// The last error was that the API server had forgotten where the watch was.
    has_expired: bool,
    /// The API server has answered since the watch was last up, if only to refuse.
    has_answered: bool,
}

impl Tries {
    fn have_failed(&mut self, error: &WatchError) -> Duration {
        // What was forgotten during an outage is listed at once, but not if that happens again and again.
        let has_expired = *error == WatchError::Expired;
        // Whoever answers after it was away has just started, and will do better in a moment.
        let is_back = error.is_answer() && !self.has_answered;
        if has_expired && !self.has_expired || is_back {
            self.backoff.reset();
        }
        self.has_expired = has_expired;
        self.has_answered |= is_back;
        self.backoff.next_after(error.patience(), RandomState::new().hash_one(()))
    }

    fn have_succeeded(&mut self) {
        self.backoff.reset();
        self.has_answered = false;
    }
}

#[expect(private_bounds, reason = "sinks are made in this module only")]
impl<S: Sink> Watched<S> {
    /// Nothing is asked yet.
    pub(super) fn of(client: Client, subject: Subject, sink: S) -> Self {
        Self {
            client,
            subject,
            sink,
            collection: None,
            version: None,
            is_loaded: false,
            trouble: None,
            began: tokio::time::Instant::now(),
            heard: Instant::now(),
            tries: Tries::default(),
            silence: SILENCE_LIMIT,
        }
    }

    /// Gives a watch up that is silent for so long.
    #[must_use]
    pub fn given_up_after(self, silence: Duration) -> Self {
        Self { silence, ..self }
    }

    /// Lists, watches, and begins again. Whatever happens the last known objects stay. Never ends.
    pub async fn keep(mut self) {
        loop {
            let error = match self.follow().await {
                Ok(()) => continue,
                Err(error) => error,
            };
            if !error.is_passing() {
                self.version = None;
                self.collection = None;
            }
            let wait = self.tries.have_failed(&error);
            self.report(&error, wait);
            self.sink.has_failed(&error);
            tokio::time::sleep(wait).await;
        }
    }

    fn report(&mut self, error: &WatchError, wait: Duration) {
        let (what, retry_seconds) = (self.subject.noun(), wait.as_secs_f64());
        if *error == WatchError::Expired {
            tracing::info!(%error, "{what} will be listed");
            return;
        }
        let now = self.began.elapsed();
        let is_news = self.trouble.as_mut().is_none_or(|trouble| trouble.goes_on(error.clone(), now));
        self.trouble.get_or_insert_with(|| Trouble::begins(error.clone(), now));
        if !is_news {
            tracing::debug!(%error, retry_seconds, "{what} cannot be read or watched yet");
        } else if self.is_loaded {
            tracing::warn!(%error, retry_seconds, "{what} cannot be watched, the last known ones stay in force");
        } else {
            tracing::warn!(%error, retry_seconds, "{what} cannot be read, {}", self.subject.consequence());
        }
    }

    /// One watch from beginning to end, with what must come before it.
    async fn follow(&mut self) -> Result<(), WatchError> {
        let collection = match self.collection {
            Some(collection) => collection,
            None => self.subject.find(&self.client).await?,
        };
        let version = match self.version.clone() {
            Some(version) => version,
            None => self.list(collection).await?,
        };
        self.collection = Some(collection);
        let ended = self.watch(collection, &version).await;
        let since = if matches!(ended, Err(WatchError::Silent(_))) { self.heard } else { Instant::now() };
        self.sink.is_lost(since);
        self.sink.hand_on().await;
        ended
    }

    /// Reads everything, page by page. Gives back where a watch is to begin.
    async fn list(&mut self, collection: Collection) -> Result<String, WatchError> {
        self.sink.begin_list();
        let (mut params, mut count) = (collection.list(), 0);
        let version = loop {
            let request = collection.request().list(&params).map_err(kube::Error::BuildRequest);
            let page: Page = answer(async { self.client.request(request?).await }, collection).await?;
            count += page.items.len();
            for item in page.items {
                self.sink.apply(item);
            }
            if page.metadata.rest.is_empty() {
                break page.metadata.resource_version;
            }
            self.sink.hand_on().await;
            params = params.continue_token(&page.metadata.rest);
        };
        self.sink.end_list();
        self.sink.flush();
        self.sink.hand_on().await;
        self.is_loaded = true;
        tracing::info!(resource = %collection, count, "{} listed", self.subject.noun());
        self.version = Some(version.clone());
        Ok(version)
    }

    async fn watch(&mut self, collection: Collection, version: &str) -> Result<(), WatchError> {
        let request = collection.request().watch(&collection.watch(), version).map_err(kube::Error::BuildRequest);
        let events = answer(async { self.client.request_events::<Item>(request?).await }, collection).await?;
        let events = events.ready_chunks(BATCH_MAX);
        pin_mut!(events);
        let began = Instant::now();
        self.heard = began;
        self.sink.is_current();
        self.sink.hand_on().await;
        if let Some(trouble) = self.trouble.take() {
            let after_seconds = trouble.lasts(self.began.elapsed()).as_secs_f64();
            tracing::info!(after_seconds, "{} are watched again", self.subject.noun());
        }
        loop {
            let batch = match tokio::time::timeout(self.silence, events.next()).await {
                Ok(Some(batch)) => batch,
                Ok(None) if began.elapsed() < SHORT => return Err(WatchError::Short),
                Ok(None) => return Ok(()),
                Err(_) => return Err(WatchError::Silent(self.silence)),
            };
            self.heard = Instant::now();
            let mut events = batch.into_iter();
            let told = events.try_for_each(|event| {
                self.apply(event.map_err(|error| WatchError::of(&error, collection))?, collection)
            });
            self.sink.flush();
            self.sink.hand_on().await;
            told?;
        }
    }

    fn apply(&mut self, event: WatchEvent<Item>, collection: Collection) -> Result<(), WatchError> {
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
            WatchEvent::Error(status) => return Err(WatchError::of_status(&status, collection)),
        });
        self.tries.have_succeeded();
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod script;
#[cfg(test)]
mod tests;
