//! The pull-through registry without HTTP: images that scripted registries have, and streams that name them.

use std::sync::Arc;

use axum::body::Bytes;
use futures_util::StreamExt as _;
use pinstream::digest::Digest;
use pinstream::metrics::{self, Metrics};
use pinstream::mirror::catalogue::Catalogue;
use pinstream::mirror::content::{Content, Limits, Needs, Sources};
use pinstream::mirror::storage::{Grant, Needed, Place, Storage};
use pinstream::mirror::{Blob, Contents as _, Manifest, Part, PullError, Version};
use pinstream::registry::Settings;
use pinstream::store::home::Change;
use pinstream::stream::Key;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use crate::memory::MemoryHome;
use crate::scripted::{Asked, MANIFEST, Reply, client, soon};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An image with one layer.
#[derive(Clone)]
pub struct Layered {
    pub manifest: String,
    pub digest: Digest,
    pub config: String,
    pub layer: Vec<u8>,
    pub layer_digest: Digest,
}

impl Layered {
    /// With a layer of so many bytes, none like the other.
    pub fn new(seed: u8, size: usize) -> Self {
        let byte = |at: usize| {
            let [low, middle, high, ..] = at.to_le_bytes();
            low ^ middle.wrapping_mul(31) ^ high ^ seed
        };
        let layer: Vec<u8> = (0..size).map(byte).collect();
        let config = json!({"architecture": "amd64", "os": "linux", "author": seed}).to_string();
        let layer_digest = Digest::of(&layer);
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": Digest::of(config.as_bytes()).as_str(), "size": config.len()},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                "digest": layer_digest.as_str(), "size": size}]})
        .to_string();
        Self { digest: Digest::of(manifest.as_bytes()), manifest, config, layer, layer_digest }
    }

    pub fn config_digest(&self) -> Digest {
        Digest::of(self.config.as_bytes())
    }

    /// What a registry that has it answers.
    pub fn reply(&self, asked: &Asked) -> Reply {
        let ends = |digest: &Digest| asked.path.ends_with(digest.as_str());
        if ends(&self.digest) {
            Reply::text(&self.manifest).with("content-type", MANIFEST)
        } else if ends(&self.config_digest()) {
            Reply::text(&self.config)
        } else if ends(&self.layer_digest) {
            self.rest(asked)
        } else {
            Reply::status(404)
        }
    }

    /// The layer, from where it is wanted on.
    pub fn rest(&self, asked: &Asked) -> Reply {
        let size = self.layer.len();
        let Some(from) = asked.from else {
            return Reply::Whole { status: 200, headers: Vec::new(), body: self.layer.clone() };
        };
        let headers = vec![("content-range", format!("bytes {from}-{}/{size}", size - 1))];
        Reply::Whole { status: 206, headers, body: self.layer[from..].to_vec() }
    }
}

/// An index of images, and its digest.
pub fn index(images: &[&Layered]) -> (String, Digest) {
    index_of(MANIFEST, images.iter().map(|image| (&image.digest, image.manifest.len())))
}

/// An index of indexes, and its digest.
pub fn index_of_indexes(indexes: &[&(String, Digest)]) -> (String, Digest) {
    index_of(INDEX, indexes.iter().map(|(text, digest)| (digest, text.len())))
}

fn index_of<'a>(media_type: &str, children: impl Iterator<Item = (&'a Digest, usize)>) -> (String, Digest) {
    let child =
        |(digest, size): (&Digest, usize)| json!({"mediaType": media_type, "digest": digest.as_str(), "size": size});
    let children: Vec<Value> = children.map(child).collect();
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": children}).to_string();
    let digest = Digest::of(index.as_bytes());
    (index, digest)
}

/// A stream in a namespace: tags with their images, newest first, each with the repository that it came from.
pub fn stream(key: &Key, tags: &[(&str, &[(&str, &Digest)])]) -> Value {
    let item = |(repository, digest): &(&str, &Digest)| json!({"dockerImageReference": format!("{repository}@{digest}"), "image": digest.as_str(), "generation": 1});
    let tags: Vec<Value> = tags
        .iter()
        .map(|(tag, items)| json!({"tag": tag, "items": items.iter().map(item).collect::<Vec<_>>()}))
        .collect();
    json!({"metadata": {"name": &*key.name, "namespace": &*key.namespace,
        "annotations": {"openshift.io/image.insecureRepository": "true"}}, "status": {"tags": tags}})
}

/// A running one.
pub struct Mirror {
    pub content: Arc<Content<MemoryHome>>,
    pub catalogue: Arc<Catalogue>,
    pub home: Arc<MemoryHome>,
    pub storage: Storage,
    pub folder: Arc<TempDir>,
    metrics: Arc<Metrics>,
    fetching: JoinSet<()>,
}

impl Mirror {
    pub async fn new() -> Self {
        Self::over(Arc::new(tempfile::tempdir().unwrap()), Limits::default(), |_| {}).await
    }

    /// Over a folder that others may have, too.
    pub async fn over(folder: Arc<TempDir>, limits: Limits, change: impl FnOnce(&mut Settings)) -> Self {
        let metrics = Arc::new(Metrics::new().unwrap());
        let place = Place::parse(folder.path().to_str().unwrap(), []).unwrap();
        let (catalogue, home) = (Arc::new(Catalogue::new(None)), MemoryHome::new());
        let needs = Arc::new(Needs::new(Arc::clone(&catalogue)));
        let needed = Arc::clone(&needs) as Arc<dyn Needed>;
        let storage = Storage::open(&place, needed, metrics.storage.clone()).await.unwrap();
        let sources = Sources {
            catalogue: Arc::clone(&catalogue),
            needs,
            storage: storage.clone(),
            client: Arc::new(client(change)),
            home: Arc::clone(&home),
            metrics: metrics.upstream.clone(),
        };
        let (content, fetcher) = Content::new(sources, limits);
        let mut fetching = JoinSet::new();
        fetching.spawn(fetcher.keep());
        catalogue.take(Change::Listed);
        Self { content: Arc::new(content), catalogue, home, storage, folder, metrics, fetching }
    }

    pub fn put(&self, stream: Value) {
        self.catalogue.take(Change::Applied(Box::new(serde_json::from_value(stream).unwrap())));
    }

    pub async fn manifest(&self, key: &Key, digest: &Digest) -> Result<Manifest, PullError> {
        self.content.manifest(key, &Version::Digest(digest.clone())).await
    }

    /// The bytes of a blob, or the error that it could not be begun with or broke off with.
    pub async fn blob(&self, key: &Key, digest: &Digest) -> Result<Bytes, String> {
        read(self.content.blob(key, digest, Part::Whole).await.map_err(|error| error.to_string())?).await.1
    }

    /// Its manifest is kept, as if it had been fetched without credentials.
    pub async fn keep_manifest(&self, image: &Layered) {
        self.storage.keep_bytes(&image.digest, image.manifest.clone().into()).await.unwrap();
        self.storage.give(&image.digest, Grant::Public).await.unwrap();
    }

    /// Waits until nothing is fetched any more.
    pub async fn idle(&self) {
        soon("nothing is fetched any more", async {
            while self.metric("pinstream_upstream_fetches").await > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    pub async fn is_kept(&self, digest: &Digest) -> bool {
        self.storage.size(digest).await.unwrap().is_some()
    }

    /// Everything is given up, as when the process ends.
    pub async fn stop(&mut self) {
        self.fetching.shutdown().await;
    }

    /// The value of a metric.
    pub async fn metric(&self, line: &str) -> u64 {
        let request = axum::http::Request::get("/metrics").body(axum::body::Body::empty()).unwrap();
        let response = metrics::router(Arc::clone(&self.metrics)).oneshot(request).await.unwrap();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap();
        let found = text.lines().find_map(|found| found.strip_prefix(line)).unwrap_or_else(|| panic!("no {line}"));
        found.trim().parse().unwrap()
    }
}

/// Reads a blob to its end: how many bytes came, and all of them or why it broke off.
pub async fn read(mut blob: Blob) -> (usize, Result<Bytes, String>) {
    let mut bytes = Vec::new();
    while let Some(piece) = blob.body.next().await {
        match piece {
            Ok(piece) => bytes.extend_from_slice(&piece),
            Err(error) => return (bytes.len(), Err(error.to_string())),
        }
    }
    let expected = usize::try_from(blob.range.end - blob.range.start).unwrap();
    assert_eq!(bytes.len(), expected, "the body has as many bytes as it says, or breaks off");
    (bytes.len(), Ok(bytes.into()))
}
