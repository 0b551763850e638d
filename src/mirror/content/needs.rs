//! What current tags need: their images and what belongs to them, so that it is taken out of the storage last.
//!
//! Of what a manifest says only the beginnings of digests are kept: two with the same are both needed, which does no harm.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::facts::Facts;
use super::search::MANIFEST_MAX;
use crate::digest::Digest;
use crate::mirror::catalogue::Catalogue;
use crate::mirror::storage::{Needed, Storage};

/// How often the storage is looked at for manifests that others brought.
const LOOK: Duration = Duration::from_mins(10);
/// How long what is not needed any more counts as needed at most.
const FRESH: Duration = Duration::from_secs(10);

/// The beginning of a digest.
type Short = u64;

/// What current tags need. Until it is known, everything counts as needed.
pub struct Needs {
    catalogue: Arc<Catalogue>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What belongs to a manifest.
    parts: HashMap<Short, Box<[Short]>>,
    needed: HashSet<Short>,
    /// Of which version of the catalogue that was made, and when.
    made: Option<(u64, Instant)>,
    is_known: bool,
}

impl Needs {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(catalogue: Arc<Catalogue>) -> Self {
        Self { catalogue, state: Mutex::default() }
    }

    /// Reads the manifests of current tags in the storage, and again now and then. Never ends. Of use where a storage has a
    /// budget.
    pub async fn keep(&self, storage: Storage) {
        self.catalogue.loaded().await;
        loop {
            self.read(&storage).await;
            self.locked().is_known = true;
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn read(&self, storage: &Storage) {
        let mut unread = self.catalogue.current();
        while let Some(manifest) = unread.pop() {
            if let Some(facts) = self.read_one(storage, &manifest).await {
                unread.extend(facts.children);
            }
        }
    }

    /// What a manifest says that is in the storage and was not read before.
    async fn read_one(&self, storage: &Storage, digest: &Digest) -> Option<Facts> {
        if self.locked().parts.contains_key(&short(digest)) {
            return None;
        }
        let bytes = storage.bytes(digest, MANIFEST_MAX).await.unwrap_or_else(|error| {
            tracing::debug!(%digest, %error, "a manifest cannot be read from the storage");
            None
        })?;
        let facts = Facts::read(&bytes).ok()?;
        self.learn(digest, &facts);
        Some(facts)
    }

    /// A manifest was read.
    pub(super) fn learn(&self, digest: &Digest, facts: &Facts) {
        let is_current = self.catalogue.is_current(digest);
        let (manifest, parts) = (short(digest), facts.parts().map(short).collect());
        let mut state = self.locked();
        state.parts.insert(manifest, parts);
        if is_current || state.needed.contains(&manifest) {
            state.need(manifest);
        }
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Needed for Needs {
    fn is_needed(&self, digest: &Digest) -> bool {
        if self.catalogue.is_current(digest) {
            return true;
        }
        let (version, now) = (self.catalogue.version(), Instant::now());
        let mut state = self.locked();
        if !state.is_known {
            return true;
        }
        let is_fresh = |(made_of, made): (u64, Instant)| made_of == version || now < made + FRESH;
        if !state.made.is_some_and(is_fresh) {
            state.make(&self.catalogue.current());
            state.made = Some((version, now));
        }
        state.needed.contains(&short(digest))
    }
}

impl State {
    fn make(&mut self, current: &[Digest]) {
        self.needed.clear();
        for image in current {
            self.need(short(image));
        }
        let Self { parts, needed, .. } = self;
        parts.retain(|manifest, _| needed.contains(manifest));
    }

    /// A manifest is needed, and so is all that belongs to it.
    fn need(&mut self, manifest: Short) {
        let mut found = vec![manifest];
        while let Some(next) = found.pop() {
            // Who is needed already may have been read just now.
            if self.needed.insert(next) || next == manifest {
                found.extend(self.parts.get(&next).into_iter().flatten().filter(|part| !self.needed.contains(part)));
            }
        }
    }
}

fn short(digest: &Digest) -> Short {
    Short::from_str_radix(&digest.hex()[..16], 16).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::metrics::Metrics;
    use crate::mirror::storage::Place;
    use crate::store::home::Change;

    fn catalogue_with(images: &[&Digest]) -> Arc<Catalogue> {
        let catalogue = Arc::new(Catalogue::new(None));
        applied(&catalogue, images);
        catalogue.take(Change::Listed);
        catalogue
    }

    /// A stream whose tag had these images, the newest first.
    fn applied(catalogue: &Catalogue, images: &[&Digest]) {
        let items: Vec<Value> = images
            .iter()
            .map(|image| json!({"dockerImageReference": format!("q.io/a@{image}"), "image": image.as_str()}))
            .collect();
        let stream = json!({"metadata": {"name": "app"}, "status": {"tags": [{"tag": "1", "items": items}]}});
        catalogue.take(Change::Applied(Box::new(serde_json::from_value(stream).unwrap())));
    }

    fn image(layer: &Digest) -> String {
        json!({"config": {"digest": Digest::of(b"config").as_str()}, "layers": [{"digest": layer.as_str()}]})
            .to_string()
    }

    #[tokio::test(start_paused = true)]
    async fn what_belongs_to_current_tags_is_needed() {
        let layers = [b"1", b"2"].map(|layer| Digest::of(layer));
        let [one, two] = [0, 1].map(|number| image(&layers[number]));
        let (child, old) = (Digest::of(one.as_bytes()), Digest::of(two.as_bytes()));
        let index = json!({"manifests": [{"digest": child.as_str()}]}).to_string();
        let current = Digest::of(index.as_bytes());

        let folder = tempfile::tempdir().unwrap();
        let place = Place::parse(folder.path().to_str().unwrap(), []).unwrap();
        let metrics = Metrics::new().unwrap().storage;
        let catalogue = catalogue_with(&[&current, &old]);
        let needs = Arc::new(Needs::new(Arc::clone(&catalogue)));
        let needed: Arc<dyn Needed> = Arc::clone(&needs) as Arc<dyn Needed>;
        let storage = Storage::open(&place, needed, metrics).await.unwrap();
        for (digest, text) in [(&current, &index), (&child, &one), (&old, &two)] {
            storage.keep_bytes(digest, text.clone().into()).await.unwrap();
        }
        let is_needed = || [&current, &child, &layers[0], &old, &layers[1]].map(|digest| needs.is_needed(digest));
        assert_eq!(is_needed(), [true; 5], "as long as nothing is known");
        tokio::select! {
            () = needs.keep(storage.clone()) => {}
            () = async { while is_needed() == [true; 5] { tokio::task::yield_now().await } } => {}
        }
        assert_eq!(is_needed(), [true, true, true, false, false]);

        // The tag goes back to the old image, which is pulled.
        applied(&catalogue, &[&old, &current]);
        needs.learn(&old, &Facts::read(two.as_bytes()).unwrap());
        assert_eq!(is_needed()[3..], [true; 2]);
        tokio::time::advance(FRESH).await;
        assert_eq!(is_needed(), [false, false, false, true, true]);
        assert!(needs.is_needed(&Digest::of(b"config")));
    }
}
