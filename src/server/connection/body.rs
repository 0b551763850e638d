//! The body of an answer, by which its request counts as under way until it was taken, or nobody takes it any more.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};

use super::InFlight;

/// A body and its request.
pub(super) struct Held {
    body: Body,
    in_flight: InFlight,
    /// A piece was handed out, and no more was asked for since.
    is_handed_out: bool,
}

impl Held {
    pub(super) fn new(body: Body, in_flight: InFlight) -> Self {
        Self { body, in_flight, is_handed_out: false }
    }

    fn taken(&mut self) {
        if std::mem::take(&mut self.is_handed_out) {
            self.in_flight.taken();
        }
    }
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.taken();
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if matches!(polled, Poll::Ready(Some(Ok(_)))) {
            self.is_handed_out = true;
            self.in_flight.handed_out();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.taken();
    }
}
