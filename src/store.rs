//! Where streams live, and the hand-over point to those who resolve: one current snapshot, swapped as a whole.
//!
//! Readers never learn which store it is. A store must keep the last good state when what it reads turns bad.

pub mod directory;
pub mod documents;
pub mod edit;
pub mod home;
pub mod kube;
pub mod levels;
pub mod poll;
pub mod publish;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::{ArcSwap, Guard};

use crate::index::Snapshot;

/// The streams as they are now.
#[derive(Debug, Default)]
pub struct Streams {
    current: ArcSwap<Snapshot>,
    loaded: AtomicBool,
}

impl Streams {
    /// The current snapshot. Whoever holds it sees one state, whatever is published meanwhile.
    #[must_use]
    pub fn snapshot(&self) -> Guard<Arc<Snapshot>> {
        self.current.load()
    }

    /// Makes a snapshot the current one.
    pub fn publish(&self, snapshot: Snapshot) {
        self.current.store(Arc::new(snapshot));
        self.loaded.store(true, Ordering::Release);
    }

    /// A snapshot was published at least once.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.loaded.load(Ordering::Acquire)
    }
}
