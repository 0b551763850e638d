//! Which file defines each stream: kept by whoever looks, read by whoever writes.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::stream::Key;

/// The file of each stream. Changes while a look goes on, so that what is handed on can be read at once.
#[derive(Debug, Default)]
pub struct Owners(RwLock<HashMap<Key, PathBuf>>);

impl Owners {
    pub(super) fn read(&self) -> RwLockReadGuard<'_, HashMap<Key, PathBuf>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, HashMap<Key, PathBuf>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}
