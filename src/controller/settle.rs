//! Brings a stream in order that was written while nobody looked: numbers for its tags, tags that are copies, and where
//! it is served.

use std::collections::HashMap;

use jiff::Timestamp;

use super::import::Settings;
use crate::store::home::{Home, HomeError};
use crate::stream::outcome::News;
use crate::stream::types::ReferenceKind;
use crate::stream::write::{self, Context, Source};
use crate::stream::{ImageStream, Key};

/// The stream in order, and what could not be brought in order.
///
/// # Errors
/// If streams that it copies from cannot be read.
pub async fn settled<H: Home>(
    home: &H,
    stream: &ImageStream,
    settings: &Settings,
    now: Timestamp,
) -> Result<(ImageStream, Vec<News>), HomeError> {
    let others = Others::of(home, stream).await?;
    let settled = write::settle(
        stream,
        &Context {
            now,
            registry_host: &settings.registry_host,
            default_mode: settings.default_mode,
            permits: &|_| true,
            source: &|key| others.source(key),
        },
    );
    let news = settled.problems.into_iter().map(|(tag, problem)| News::Failed {
        tag: Some(tag),
        reason: problem.cause.condition_reason().to_owned(),
        message: problem.to_string(),
    });
    Ok((settled.stream, news.collect()))
}

/// The other streams that a stream names, as they are.
pub struct Others(HashMap<Key, Option<ImageStream>>);

impl Others {
    /// Reads them.
    ///
    /// # Errors
    /// If one cannot be read.
    pub async fn of<H: Home>(home: &H, stream: &ImageStream) -> Result<Self, HomeError> {
        let mut others = HashMap::new();
        for key in sources(stream) {
            let other = home.read(&key).await?.map(|stored| stored.stream);
            others.insert(key, other);
        }
        Ok(Self(others))
    }

    /// One of them, for the rules of a write.
    #[must_use]
    pub fn source(&self, key: &Key) -> Source<'_> {
        match self.0.get(key) {
            Some(Some(stream)) => Source::Known(stream),
            Some(None) => Source::Missing,
            None => Source::Unknown,
        }
    }
}

/// The keys of the other streams that a stream names.
fn sources(stream: &ImageStream) -> Vec<Key> {
    let own = stream.metadata.namespace.as_deref().unwrap_or("default");
    let tags = stream.spec.tags.iter().filter_map(|tag| tag.from.as_ref());
    let named = tags.filter(|from| from.kind != ReferenceKind::DockerImage).filter_map(|from| {
        let (name, _) = from.name.split_once([':', '@'])?;
        let namespace = from.namespace.as_deref().filter(|namespace| !namespace.is_empty()).unwrap_or(own);
        Some(Key::new(namespace, name))
    });
    let mut keys: Vec<_> = named.filter(|key| (&*key.namespace, &*key.name) != (own, &*stream.metadata.name)).collect();
    keys.sort();
    keys.dedup();
    keys
}
