//! What could not be kept: it is counted, said now and then, and for a moment nothing more is tried.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::StorageError;
use crate::metrics::StorageMetrics;

/// It is said this often, at most.
const TELL: Duration = Duration::from_mins(1);
/// For how long nothing is written down after something could not be.
const SHORT: Duration = Duration::from_secs(5);

/// What could not be kept.
pub(super) struct Unkept {
    metrics: StorageMetrics,
    /// When it was last said.
    told: Mutex<Option<Instant>>,
    /// When something could not be written down, and why.
    short: Mutex<Option<(Instant, String)>>,
}

impl Unkept {
    /// Everything could be.
    pub(super) fn new(metrics: StorageMetrics) -> Self {
        Self { metrics, told: Mutex::default(), short: Mutex::default() }
    }

    /// Why nothing could be written down lately.
    pub(super) fn lately(&self) -> Option<String> {
        let short = self.short.lock().unwrap_or_else(PoisonError::into_inner);
        short.as_ref().filter(|(since, _)| since.elapsed() < SHORT).map(|(_, why)| why.clone())
    }

    /// Something cannot be written down now.
    pub(super) fn begins(&self, why: String) {
        *self.short.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), why));
    }

    /// Counts it, and says so now and then. Gives the error back.
    pub(super) fn tell(&self, error: StorageError, for_room: bool) -> StorageError {
        self.metrics.not_kept(for_room);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| told.elapsed() >= TELL) {
            *told = Some(Instant::now());
            tracing::warn!(%error, "what was pulled is not kept");
        }
        error
    }
}
