//! One connection: its time limits, and how it ends without cutting off a request.

mod body;

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tower::ServiceExt as _;

use self::body::Held;
use super::places::Place;
use super::{Phase, Phases};

/// A draining HTTP/1.1 connection that was used within this time may have a request on its way; it is waited for.
const LINGER: Duration = Duration::from_secs(1);
/// How often a draining connection is looked at.
const DRAIN_TICK: Duration = Duration::from_millis(50);

/// How much of an answer waits for its client at most, and how long a head may be.
const BUFFER: usize = 128 << 10;

/// The time limits of a connection once its handshake is done.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimeLimits {
    /// From the first byte of a request to the end of its head (HTTP/1.1).
    pub head: Duration,
    /// Without a request.
    pub idle: Duration,
    /// With a client that takes nothing of its answer.
    pub write: Duration,
}

impl TimeLimits {
    /// How often to look whether a limit is reached: it is overrun by a quarter at most.
    fn tick(&self) -> Duration {
        self.head.min(self.idle).min(self.write) / 4
    }
}

/// Which protocol was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// What is served on a connection.
pub(super) struct Service {
    pub router: Router,
    pub phases: Phases,
    /// Kept once something is asked for.
    pub place: Arc<Place>,
}

/// Serves a connection to its end.
pub(super) async fn serve<S>(stream: S, protocol: Protocol, service: Service, limits: TimeLimits)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Arc::new(Activity::new(protocol, limits));
    let io = TokioIo::new(Watched { stream, activity: Arc::clone(&activity) });
    let Service { router, phases, place } = service;
    let service = service_fn({
        let (activity, phases) = (Arc::clone(&activity), phases.clone());
        move |request| {
            place.keep();
            respond(request, router.clone(), activity.begin(), protocol, phases.clone())
        }
    });
    match protocol {
        Protocol::Http1 => {
            let connection = http1::Builder::new().max_buf_size(BUFFER).serve_connection(io, service);
            drive(connection, &activity, phases).await;
        }
        Protocol::Http2 => {
            let connection =
                http2::Builder::new(TokioExecutor::new()).max_send_buf_size(BUFFER).serve_connection(io, service);
            drive(connection, &activity, phases).await;
        }
    }
}

/// Answers a request. Over HTTP/1.1 the last answer before the end tells the client to go elsewhere.
async fn respond(
    request: Request<Incoming>,
    router: Router,
    in_flight: InFlight,
    protocol: Protocol,
    phases: Phases,
) -> Result<Response<Body>, Infallible> {
    let mut response = router.oneshot(request).await?;
    if protocol == Protocol::Http1 && *phases.borrow() > Phase::Serving {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response.map(|body| Body::new(Held::new(body, in_flight))))
}

async fn drive<C: GracefulConnection>(connection: C, activity: &Activity, mut phases: Phases) {
    let mut connection = pin!(connection);
    let mut is_closing = false;
    loop {
        let phase = *phases.borrow_and_update();
        let tick = if phase == Phase::Draining { DRAIN_TICK } else { activity.limits.tick() };
        tokio::select! {
            _ = &mut connection => return,
            () = tokio::time::sleep(tick) => {}
            changed = phases.changed() => if changed.is_err() {
                // Whoever sets the phase is gone, and so is the reason to serve.
                return;
            },
        }
        match activity.judge(Instant::now(), *phases.borrow()) {
            Judgement::Stay => {}
            Judgement::Close if is_closing => {}
            Judgement::Close => {
                is_closing = true;
                connection.as_mut().graceful_shutdown();
            }
            Judgement::Cut => return,
        }
    }
}

/// What is going on on a connection.
struct Activity {
    protocol: Protocol,
    limits: TimeLimits,
    state: Mutex<State>,
}

struct State {
    in_flight: usize,
    /// When the first byte of a head came that is not complete yet.
    head_since: Option<Instant>,
    /// When the last request was answered to its end, or the connection was made.
    quiet_since: Instant,
    /// Answers of which a piece was handed out that the connection has not taken yet.
    unsent: usize,
    /// When the client last took something, or was last handed something.
    progress: Instant,
}

#[derive(Debug, PartialEq, Eq)]
enum Judgement {
    Stay,
    /// Finish what is under way, then end.
    Close,
    /// End now.
    Cut,
}

impl Activity {
    fn new(protocol: Protocol, limits: TimeLimits) -> Self {
        let now = Instant::now();
        let state = State { in_flight: 0, head_since: None, quiet_since: now, unsent: 0, progress: now };
        Self { protocol, limits, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes came in. Only for HTTP/1.1 does that mean that a head has begun.
    fn bytes(&self) {
        let mut state = self.state();
        if self.protocol == Protocol::Http1 && state.in_flight == 0 && state.head_since.is_none() {
            state.head_since = Some(Instant::now());
        }
    }

    /// Bytes went out.
    fn written(&self) {
        self.state().progress = Instant::now();
    }

    fn begin(self: &Arc<Self>) -> InFlight {
        let mut state = self.state();
        state.in_flight += 1;
        state.head_since = None;
        InFlight(Arc::clone(self))
    }

    fn judge(&self, now: Instant, phase: Phase) -> Judgement {
        let state = self.state();
        let quiet = now.saturating_duration_since(state.quiet_since);
        if state.head_since.is_some_and(|since| now.saturating_duration_since(since) >= self.limits.head) {
            return Judgement::Cut;
        }
        let stalled = now.saturating_duration_since(state.progress);
        if state.unsent > 0 && stalled >= self.limits.write {
            return Judgement::Cut;
        }
        let is_idle = state.in_flight == 0 && state.head_since.is_none();
        let is_over = match (phase, self.protocol) {
            (Phase::Draining, Protocol::Http2) => true,
            (Phase::Draining, Protocol::Http1) => is_idle && quiet >= LINGER,
            _ => is_idle && quiet >= self.limits.idle,
        };
        match (is_over, is_idle && quiet >= self.limits.idle + self.limits.head) {
            (false, _) => Judgement::Stay,
            (true, false) => Judgement::Close,
            (true, true) => Judgement::Cut,
        }
    }
}

/// A request that is being answered, until the last byte of the answer is taken.
struct InFlight(Arc<Activity>);

impl InFlight {
    /// A piece of the answer was handed out.
    fn handed_out(&self) {
        let mut state = self.0.state();
        state.unsent += 1;
        state.progress = Instant::now();
    }

    /// The connection asks for more: it has taken what it was handed.
    fn taken(&self) {
        self.0.state().unsent -= 1;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.in_flight -= 1;
        state.quiet_since = Instant::now();
    }
}

/// A stream that notes when bytes come in and go out.
struct Watched<S> {
    stream: S,
    activity: Arc<Activity>,
}

impl<S> Watched<S> {
    fn note(&self, written: &Poll<io::Result<usize>>) {
        if matches!(written, Poll::Ready(Ok(count)) if *count > 0) {
            self.activity.written();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.activity.bytes();
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note(&result);
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.note(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: TimeLimits =
        TimeLimits { head: Duration::from_secs(10), idle: Duration::from_mins(2), write: Duration::from_mins(1) };

    fn after(activity: &Activity, seconds: u64, phase: Phase) -> Judgement {
        activity.judge(Instant::now() + Duration::from_secs(seconds), phase)
    }

    #[test]
    fn slow_head_is_cut_and_idle_connection_closed() {
        let activity = Arc::new(Activity::new(Protocol::Http1, LIMITS));
        assert_eq!(after(&activity, 119, Phase::Serving), Judgement::Stay);
        assert_eq!(after(&activity, 121, Phase::Serving), Judgement::Close);
        assert_eq!(after(&activity, 131, Phase::Serving), Judgement::Cut);
        activity.bytes();
        assert_eq!(after(&activity, 9, Phase::Serving), Judgement::Stay);
        assert_eq!(after(&activity, 11, Phase::Serving), Judgement::Cut);
        let in_flight = activity.begin();
        activity.bytes();
        assert_eq!(after(&activity, 500, Phase::Serving), Judgement::Stay);
        drop(in_flight);
        assert_eq!(after(&activity, 119, Phase::Serving), Judgement::Stay);
    }

    #[test]
    fn draining_waits_for_what_may_be_on_its_way() {
        let activity = Arc::new(Activity::new(Protocol::Http1, LIMITS));
        assert_eq!(after(&activity, 0, Phase::Draining), Judgement::Stay);
        assert_eq!(after(&activity, 2, Phase::Draining), Judgement::Close);
        let _in_flight = activity.begin();
        assert_eq!(after(&activity, 2, Phase::Draining), Judgement::Stay);
        let activity = Arc::new(Activity::new(Protocol::Http2, LIMITS));
        let _in_flight = activity.begin();
        assert_eq!(after(&activity, 0, Phase::Draining), Judgement::Close);
    }

    #[test]
    fn client_that_takes_nothing_is_cut_and_one_that_waits_is_not() {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let activity = Arc::new(Activity::new(protocol, LIMITS));
            let in_flight = activity.begin();
            // Whatever the answer takes to come: that is not the client's fault.
            assert_eq!(after(&activity, 500, Phase::Serving), Judgement::Stay);
            in_flight.handed_out();
            assert_eq!(after(&activity, 59, Phase::Serving), Judgement::Stay);
            assert_eq!(after(&activity, 61, Phase::Serving), Judgement::Cut);
            in_flight.taken();
            assert_eq!(after(&activity, 500, Phase::Serving), Judgement::Stay);
        }
    }

    #[test]
    fn bytes_without_a_request_are_nothing_unusual_in_http2() {
        let activity = Arc::new(Activity::new(Protocol::Http2, LIMITS));
        activity.bytes();
        assert_eq!(after(&activity, 60, Phase::Serving), Judgement::Stay);
    }
}
