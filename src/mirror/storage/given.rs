//! To whom what is kept was given, and by which repository: empty objects beside it, which replicas share.
//!
//! Below `given/<algorithm>/<two digits>/<hex>` stands `public`, or one name for a namespace and a repository. They go with
//! what they are about, and take no part in the budget.

use std::collections::HashSet;
use std::path::PathBuf;
use std::{fs, io};

use futures_util::stream::TryStreamExt as _;
use object_store::path::Path;
use object_store::{ObjectStoreExt as _, PutPayload};
use tokio::task::spawn_blocking;

use super::{Storage, StorageError, found, layout};
use crate::digest::Digest;

/// Below it stands what was given to whom.
const GIVEN: &str = "given";
/// Given to everybody.
const PUBLIC: &str = "public";

/// How something was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant<'a> {
    /// Without credentials.
    Public,
    /// With those of a namespace, by a repository.
    To {
        /// The namespace.
        namespace: &'a str,
        /// The repository, in any spelling that is always the same.
        repository: &'a str,
    },
}

/// How something was given until now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    is_public: bool,
    namespaces: HashSet<String>,
    repositories: HashSet<String>,
}

impl Grant<'_> {
    /// Bounded, and valid in every store, whatever the names are.
    fn name(self) -> String {
        match self {
            Self::Public => PUBLIC.to_owned(),
            Self::To { namespace, repository } => format!("{}.{}", hashed(namespace), hashed(repository)),
        }
    }
}

impl Grants {
    /// It was given to this namespace, or to everybody.
    #[must_use]
    pub fn reach(&self, namespace: &str) -> bool {
        self.is_public || self.namespaces.contains(&hashed(namespace))
    }

    /// This repository gave it to somebody with credentials, so it has it.
    #[must_use]
    pub fn are_by(&self, repository: &str) -> bool {
        self.repositories.contains(&hashed(repository))
    }

    fn add(&mut self, name: &str) {
        if name == PUBLIC {
            self.is_public = true;
        } else if let Some((namespace, repository)) = name.split_once('.') {
            self.namespaces.insert(namespace.to_owned());
            self.repositories.insert(repository.to_owned());
        }
    }
}

impl Storage {
    /// Remembers that something that is kept was given.
    ///
    /// # Errors
    /// If that cannot be written.
    pub async fn give(&self, digest: &Digest, grant: Grant<'_>) -> Result<(), StorageError> {
        let path = self.given(digest).join(grant.name());
        let written = self.inner.store.put(&path, PutPayload::new()).await;
        written.map(|_| ()).map_err(|error| StorageError::Write {
            digest: digest.clone(),
            place: self.inner.name.clone(),
            reason: error.into(),
        })
    }

    /// To whom something was given.
    ///
    /// # Errors
    /// If that cannot be read.
    pub async fn grants(&self, digest: &Digest) -> Result<Grants, StorageError> {
        let names: Vec<Path> = self.names(self.given(digest)).await.map_err(|error| self.unreadable(digest, error))?;
        let mut grants = Grants::default();
        names.iter().filter_map(Path::filename).for_each(|name| grants.add(name));
        Ok(grants)
    }

    /// Nobody was given it.
    pub(super) async fn forget_grants(&self, digest: &Digest) -> object_store::Result<()> {
        if let Some(root) = self.inner.folder.clone() {
            let digest = digest.clone();
            let removed = spawn_blocking(move || remove(&root, &digest)).await.map_err(io::Error::from).flatten();
            return removed.map_err(|error| object_store::Error::Generic { store: "directory", source: error.into() });
        }
        for name in self.names(self.given(digest)).await? {
            found(self.inner.store.delete(&name).await)?;
        }
        Ok(())
    }

    /// Forgets to whom things were given that are not kept any more. Gives how many these are.
    ///
    /// # Errors
    /// If it cannot be found out, or not be done.
    pub async fn forget_strays(&self) -> Result<usize, StorageError> {
        let given = self.inner.root.clone().join(GIVEN);
        let names = self.names(given.clone()).await.map_err(|error| self.unmanageable(error))?;
        // Something is kept before it is given, so what is listed afterwards has all that was given before.
        let kept: HashSet<Digest> = self.list().await?.into_iter().map(|kept| kept.digest).collect();
        let digest = |name: &Path| {
            let parts: Vec<_> = name.prefix_match(&given)?.take(layout::PARTS).collect();
            layout::digest(parts.iter().map(AsRef::as_ref))
        };
        let strays: HashSet<Digest> = names.iter().filter_map(digest).filter(|digest| !kept.contains(digest)).collect();
        for digest in &strays {
            self.forget_grants(digest).await.map_err(|error| self.unmanageable(error))?;
        }
        Ok(strays.len())
    }

    async fn names(&self, below: Path) -> object_store::Result<Vec<Path>> {
        let listed = self.inner.store.list(Some(&below)).map_ok(|meta| meta.location).try_collect().await;
        Ok(found(listed)?.unwrap_or_default())
    }

    fn given(&self, digest: &Digest) -> Path {
        layout::parts(digest).iter().fold(self.inner.root.clone().join(GIVEN), |path, part| path.join(*part))
    }
}

/// Nobody was given it, in a directory. Blocks.
pub(super) fn remove(root: &std::path::Path, digest: &Digest) -> io::Result<()> {
    let folder: PathBuf = layout::parts(digest).iter().fold(root.join(GIVEN), |path, part| path.join(part));
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn hashed(name: &str) -> String {
    Digest::of(name.as_bytes()).hex().to_owned()
}

#[cfg(test)]
mod tests;
