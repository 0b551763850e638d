//! Blobs on their way to clients: how many at a time, and how many bytes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use futures_util::Stream;
use futures_util::stream::BoxStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::metrics::PullMetrics;
use crate::mirror::PullError;

/// The places for blobs that are sent.
pub(super) struct Transfers {
    places: Arc<Semaphore>,
    metrics: PullMetrics,
}

/// A place that is taken until the blob was sent or its client has gone.
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    metrics: PullMetrics,
}

impl Transfers {
    pub(super) fn new(places: usize, metrics: PullMetrics) -> Self {
        Self { places: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))), metrics }
    }

    /// Takes a place, if there is one.
    pub(super) fn begin(&self) -> Result<Place, PullError> {
        let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() else {
            let message = "too many blobs are being sent; try again later".to_owned();
            return Err(PullError::TooManyRequests { message, after: None });
        };
        self.metrics.transfers.inc();
        Ok(Place { _permit: permit, metrics: self.metrics.clone() })
    }
}

impl Place {
    /// The body of the answer, which counts what is taken of it.
    pub(super) fn send(self, body: BoxStream<'static, io::Result<Bytes>>) -> Body {
        Body::from_stream(Sent { body, place: self })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.metrics.transfers.dec();
    }
}

struct Sent {
    body: BoxStream<'static, io::Result<Bytes>>,
    place: Place,
}

impl Stream for Sent {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let polled = self.body.as_mut().poll_next(context);
        match &polled {
            Poll::Ready(Some(Ok(bytes))) => {
                self.place.metrics.bytes.inc_by(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
            }
            Poll::Ready(Some(Err(error))) => {
                tracing::warn!(%error, "a blob is cut off, its client sees a broken transfer");
            }
            _ => {}
        }
        polled
    }
}
