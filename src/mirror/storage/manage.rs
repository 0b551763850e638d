//! What is kept, as a whole: opened to be looked at, listed, and deleted from.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::TryStreamExt as _;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore as _, ObjectStoreExt as _};

use super::place::Kind;
use super::{Place, Reason, Storage, StorageError, found, layout};
use crate::digest::Digest;
use crate::metrics::StorageMetrics;

/// Something that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// What it is.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// Seconds since it was used last, in a directory; since it came, in a bucket.
    pub age: Duration,
}

impl Storage {
    /// Opens what is there to look at it and to delete from it. Nothing is made, and nothing tidied up.
    ///
    /// # Errors
    /// If it is not there, or cannot be used.
    pub async fn open_to_manage(place: &Place, metrics: StorageMetrics) -> Result<Self, StorageError> {
        let opened = match place.kind() {
            Kind::Directory(root) => {
                let failed =
                    |error: object_store::Error| StorageError::Open { place: place.to_string(), reason: error.into() };
                LocalFileSystem::new_with_prefix(root)
                    .map(|store| (Arc::new(store) as _, Path::default()))
                    .map_err(failed)
            }
            Kind::Bucket(url) => place.bucket(url),
        };
        let storage = Self::over(place, opened?, PathBuf::new(), None, metrics);
        storage.check().await?;
        Ok(storage)
    }

    /// Everything that is kept. What is no digest is passed over.
    ///
    /// # Errors
    /// If it cannot be listed to the end.
    pub async fn list(&self) -> Result<Vec<Kept>, StorageError> {
        let (now, blobs) = (jiff::Timestamp::now().as_millisecond(), self.blobs());
        let kept = |meta: ObjectMeta| {
            let age = now.saturating_sub(meta.last_modified.timestamp_millis());
            let age = Duration::from_millis(u64::try_from(age).unwrap_or_default());
            let parts: Vec<_> = meta.location.prefix_match(&blobs)?.collect();
            let digest = layout::digest(parts.iter().map(AsRef::as_ref))?;
            Some(Kept { digest, size: meta.size, age })
        };
        let listed = self.inner.store.list(Some(&blobs));
        let kept = listed.try_filter_map(|meta| std::future::ready(Ok(kept(meta))));
        kept.try_collect().await.map_err(|error| self.unmanageable(error))
    }

    /// Throws something away, and forgets to whom it was given.
    ///
    /// # Errors
    /// If that cannot be done. It is none if it is not there.
    pub async fn delete(&self, digest: &Digest) -> Result<(), StorageError> {
        let deleted = found(self.inner.store.delete(&self.path(digest)).await);
        deleted.map_err(|error| self.unmanageable(error))?;
        self.forget_grants(digest).await.map_err(|error| self.unmanageable(error))?;
        if let Some(directory) = &self.inner.directory {
            directory.forget(digest);
        }
        Ok(())
    }

    pub(super) fn unmanageable(&self, error: impl Into<Reason>) -> StorageError {
        StorageError::Manage { place: self.inner.name.clone(), reason: error.into() }
    }
}
