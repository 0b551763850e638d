//! The streams that are worked on. Several jobs may ask registries for one stream, but one at a time writes it, for all
//! who have something by then.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::store::home::{HomeError, Stored};
use crate::stream::Key;
use crate::stream::outcome::Imported;

/// All of them.
#[derive(Default)]
pub(super) struct Desks(Mutex<HashMap<Key, Weak<Desk>>>);

/// One stream.
#[derive(Default)]
pub(super) struct Desk {
    inbox: Mutex<Vec<Imported>>,
    /// Whoever has it may write.
    pub(super) sheet: tokio::sync::Mutex<Sheet>,
}

/// What whoever writes has to know, and what became of what others handed in.
#[derive(Default)]
pub(super) struct Sheet {
    /// The stream as it was stored last. `None` if it is to be read again.
    pub(super) stored: Option<Stored>,
    /// By tag, until whoever handed it in looks: whether it came too late.
    written: BTreeMap<String, Result<bool, HomeError>>,
}

impl Desks {
    /// The desk of a stream, which all have who work on it.
    pub(super) fn of(&self, key: &Key) -> Arc<Desk> {
        let mut desks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(desk) = desks.get(key).and_then(Weak::upgrade) {
            return desk;
        }
        desks.retain(|_, desk| desk.strong_count() > 0);
        let desk = Arc::default();
        desks.insert(key.clone(), Arc::downgrade(&desk));
        desk
    }
}

impl Desk {
    pub(super) fn hand_in(&self, results: impl Iterator<Item = Imported>) {
        self.inbox().extend(results);
    }

    /// Everything that was handed in and is not written.
    pub(super) fn handed_in(&self) -> Vec<Imported> {
        mem::take(&mut *self.inbox())
    }

    fn inbox(&self) -> MutexGuard<'_, Vec<Imported>> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sheet {
    /// Says what became of results: which of their tags came too late.
    pub(super) fn note(&mut self, results: Vec<Imported>, written: &Result<BTreeSet<String>, HomeError>) {
        self.written.extend(results.into_iter().map(|result| {
            let tag = result.wanted.tag;
            let outcome = written.as_ref().map(|overtaken| overtaken.contains(&tag)).map_err(Clone::clone);
            (tag, outcome)
        }));
    }

    /// Which of these tags came too late.
    pub(super) fn outcome<'a>(&mut self, tags: impl Iterator<Item = &'a str>) -> Result<BTreeSet<String>, HomeError> {
        let mut overtaken = BTreeSet::new();
        for tag in tags {
            if self.written.remove(tag).transpose()?.unwrap_or_default() {
                overtaken.insert(tag.to_owned());
            }
        }
        Ok(overtaken)
    }
}
