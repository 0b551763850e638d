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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use http_body_util::BodyExt as _;

    use super::super::{Activity, Protocol, TimeLimits};
    use super::*;

    #[tokio::test]
    async fn a_request_is_under_way_until_the_end_of_its_answer() {
        let limit = Duration::from_secs(1);
        let limits = TimeLimits { head: limit, idle: limit, write: limit };
        let activity = Arc::new(Activity::new(Protocol::Http1, limits));
        let state = || {
            let state = activity.state();
            (state.in_flight, state.unsent)
        };
        let pieces = futures_util::stream::iter(["a", "b"].map(Ok::<_, std::io::Error>));
        let mut body = Held::new(Body::from_stream(pieces), activity.begin());
        assert_eq!(state(), (1, 0));
        for _ in 0..2 {
            assert!(body.frame().await.is_some());
            assert_eq!(state(), (1, 1));
        }
        assert!(body.frame().await.is_none());
        assert_eq!(state(), (1, 0));
        drop(body);
        assert_eq!(state(), (0, 0));
        // A client that goes away in the middle.
        let mut body = Held::new(Body::from("a"), activity.begin());
        assert!(body.frame().await.is_some());
        drop(body);
        assert_eq!(state(), (0, 0));
    }
}
