//! A home of streams in memory, which keeps to the rules of `store::home`: versions, and changes told in their order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pinstream::controller::agenda::Rules;
use pinstream::controller::import::{Importer, Remote, Settings};
use pinstream::image::Image;
use pinstream::metrics::Metrics;
use pinstream::registry::Keyring;
use pinstream::store::home::{Change, Home, HomeError, News, Stored};
use pinstream::stream::pullspec::RegistryHost;
use pinstream::stream::types::ImportMode;
use pinstream::stream::{ImageStream, Key};
use serde_json::{Value, json};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::watch;

/// What a home cannot do for now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trouble {
    #[default]
    None,
    /// It is away.
    Away,
    /// It can be read, and takes nothing.
    Full,
    /// It does not let anybody write.
    Refuses,
}

impl Trouble {
    fn is_met(self, is_write: bool) -> Result<(), HomeError> {
        match self {
            Self::Away => Err(HomeError::Unavailable("it is away".to_owned())),
            Self::Full if is_write => Err(HomeError::Unavailable("it is full".to_owned())),
            Self::Refuses if is_write => Err(HomeError::Refused("nobody may write".to_owned())),
            _ => Ok(()),
        }
    }
}

#[derive(Default)]
struct State {
    trouble: Trouble,
    streams: BTreeMap<Key, (ImageStream, u64)>,
    followers: Vec<UnboundedSender<Change>>,
    keyrings: BTreeMap<String, Keyring>,
    images: BTreeSet<String>,
    unwelcome: BTreeSet<String>,
    news: Vec<String>,
    conflicts: usize,
    version: u64,
}

/// All streams there are.
pub struct MemoryHome {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

impl MemoryHome {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), changed: watch::Sender::new(0) })
    }

    /// Makes a stream, or changes it as a user would: what is under `status` stays.
    pub fn put(&self, stream: Value) {
        let mut stream: ImageStream = serde_json::from_value(stream).unwrap();
        let mut state = self.state.lock().unwrap();
        if let Some((before, _)) = state.streams.get(&stream.key()) {
            stream.status = before.status.clone();
        }
        self.store(&mut state, stream);
    }

    /// Takes a stream away, as if it had never been.
    pub fn forget(&self, name: &str) {
        let mut state = self.state.lock().unwrap();
        state.streams.remove(&key(name));
        state.followers.retain(|follower| follower.send(Change::Deleted(key(name))).is_ok());
    }

    pub fn lend(&self, namespace: &str, keyring: Keyring) {
        self.state.lock().unwrap().keyrings.insert(namespace.to_owned(), keyring);
    }

    pub fn get(&self, name: &str) -> ImageStream {
        self.state.lock().unwrap().streams[&key(name)].0.clone()
    }

    pub fn all(&self) -> Vec<ImageStream> {
        self.state.lock().unwrap().streams.values().map(|(stream, _)| stream.clone()).collect()
    }

    pub fn has_image(&self, digest: &str) -> bool {
        self.state.lock().unwrap().images.contains(digest)
    }

    pub fn news(&self) -> Vec<String> {
        self.state.lock().unwrap().news.clone()
    }

    /// An image that is never kept.
    pub fn refuses_image(&self, digest: &str) {
        self.state.lock().unwrap().unwelcome.insert(digest.to_owned());
    }

    /// How many writes were refused because the stream had changed.
    pub fn conflicts(&self) -> usize {
        self.state.lock().unwrap().conflicts
    }

    /// There is that trouble from now on. Once there is none any more, whoever follows hears of it.
    pub fn has(&self, trouble: Trouble) {
        let mut state = self.state.lock().unwrap();
        state.trouble = trouble;
        if trouble == Trouble::None {
            state.followers.retain(|follower| follower.send(Change::Back).is_ok());
        }
    }

    /// The changes from now on, after all streams there are.
    pub fn follow(&self) -> UnboundedReceiver<Change> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut state = self.state.lock().unwrap();
        for (stream, _) in state.streams.values() {
            sender.send(Change::Applied(Box::new(stream.clone()))).unwrap();
        }
        sender.send(Change::Listed).unwrap();
        state.followers.push(sender);
        receiver
    }

    /// Waits until a condition of the home holds.
    pub async fn until(&self, condition: impl Fn(&Self) -> bool) {
        let mut changes = self.changed.subscribe();
        while !condition(self) {
            changes.changed().await.unwrap();
        }
    }

    fn store(&self, state: &mut State, stream: ImageStream) -> Stored {
        state.version += 1;
        let version = state.version;
        state.streams.insert(stream.key(), (stream.clone(), version));
        state.followers.retain(|follower| follower.send(Change::Applied(Box::new(stream.clone()))).is_ok());
        self.changed.send_replace(version);
        Stored { stream, version: version.to_string() }
    }
}

/// Between the points where it could be given up, each of these is done wholly or not at all, as a request is.
impl Home for MemoryHome {
    async fn read(&self, key: &Key) -> Result<Option<Stored>, HomeError> {
        tokio::task::yield_now().await;
        let found = {
            let state = self.state.lock().unwrap();
            state.trouble.is_met(false)?;
            state.streams.get(key).cloned()
        };
        tokio::task::yield_now().await;
        Ok(found.map(|(stream, version)| Stored { stream, version: version.to_string() }))
    }

    async fn write(&self, before: &Stored, after: &ImageStream) -> Result<Stored, HomeError> {
        tokio::task::yield_now().await;
        let key = before.key();
        let written = {
            let mut state = self.state.lock().unwrap();
            state.trouble.is_met(true)?;
            let Some((_, version)) = state.streams.get(&key) else { return Err(HomeError::Gone(key)) };
            if version.to_string() != before.version {
                state.conflicts += 1;
                return Err(HomeError::Conflict(key));
            }
            self.store(&mut state, after.clone())
        };
        tokio::task::yield_now().await;
        Ok(written)
    }

    async fn keep_images(&self, images: &[Image]) -> Result<(), HomeError> {
        for image in images {
            tokio::task::yield_now().await;
            let mut state = self.state.lock().unwrap();
            if state.unwelcome.contains(image.digest()) {
                return Err(HomeError::Refused(format!("{} is too large", image.digest())));
            }
            state.images.insert(image.digest().to_owned());
        }
        Ok(())
    }

    async fn keyring(&self, namespace: &str) -> Result<Keyring, HomeError> {
        tokio::task::yield_now().await;
        Ok(self.state.lock().unwrap().keyrings.get(namespace).cloned().unwrap_or_default())
    }

    async fn images_in_use(&self, _namespace: &str) -> Result<BTreeSet<String>, HomeError> {
        tokio::task::yield_now().await;
        Ok(BTreeSet::new())
    }

    async fn tell(&self, stream: &Stored, news: &[News]) {
        tokio::task::yield_now().await;
        let told = news.iter().map(|news| format!("{} {}", stream.key(), news.as_event().1));
        self.state.lock().unwrap().news.extend(told);
    }
}

/// `name` in `demo`, or `namespace/name`.
pub fn key(name: &str) -> Key {
    let (namespace, name) = name.split_once('/').unwrap_or(("demo", name));
    Key::new(namespace, name)
}

/// A stream with these tags: name, image it comes from.
pub fn stream(name: &str, tags: &[(&str, &str)], policy: &Value) -> Value {
    let key = key(name);
    let tag = |(name, image): &(&str, &str)| json!({"name": name, "generation": 1, "importPolicy": policy, "from": {"kind": "DockerImage", "name": image}});
    let tags: Vec<_> = tags.iter().map(tag).collect();
    json!({"metadata": {"name": key.name, "namespace": key.namespace, "generation": 1}, "spec": {"tags": tags}})
}

/// What the newest import of a tag said: a digest, or reason and message.
pub fn result(stream: &ImageStream, tag: &str) -> Option<Result<String, (String, String)>> {
    let events = stream.status.tag(tag)?;
    if let Some(failure) = events.failure() {
        return Some(Err((failure.reason.clone(), failure.message.clone())));
    }
    events.items.first().map(|event| Ok(event.image.clone()))
}

/// Digests of a tag's history, newest first.
pub fn history(stream: &ImageStream, tag: &str) -> Vec<String> {
    let items = stream.status.tag(tag).into_iter().flat_map(|events| &events.items);
    items.map(|event| event.image.clone()).collect()
}

pub const INTERVAL: Duration = Duration::from_mins(15);

/// An importer over a home, as a process would have it.
pub fn importer<R: Remote>(home: &Arc<MemoryHome>, remote: &Arc<R>) -> impl Future<Output = ()> + Send + use<R> {
    let settings = Settings {
        rules: Rules { interval: INTERVAL, scheduled_per_minute: 1000 },
        default_mode: ImportMode::PreserveOriginal,
        repository_tags_max: 50,
        registry_host: RegistryHost::Nowhere,
    };
    let metrics = Metrics::new().unwrap().import;
    Importer::new(Arc::clone(home), Arc::clone(remote), settings, metrics).run(home.follow())
}
