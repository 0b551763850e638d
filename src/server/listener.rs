//! A listening socket: accept, handshake, and the limits on both. Each connection is a task of its listener.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::connection::{self, Protocol, Service, TimeLimits};
use super::places::{Place, Places};
use super::{Phase, Phases};
use crate::metrics::ServerMetrics;
use crate::seldom::Seldom;

/// How long to wait after an accept that failed for want of resources.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long to say nothing after saying that a connection is not accepted.
const QUIET: Duration = Duration::from_secs(10);

/// How many accepts may fail while the last ones are let in.
const LAST_FAILURES: u32 = 16;

/// What a listener lets its clients take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For a TLS handshake.
    pub handshake: Duration,
    /// For the head of a request.
    pub head: Duration,
    /// For a connection without a request.
    pub idle: Duration,
    /// For a client to take a piece of its answer.
    pub write: Duration,
    /// For requests that are under way when the server ends.
    pub drain: Duration,
    /// Connections at a time.
    pub connections: usize,
}

impl Limits {
    /// For health and metrics.
    pub const ADMIN: Self = Self {
        handshake: Duration::from_secs(10),
        head: Duration::from_secs(10),
        idle: Duration::from_mins(2),
        write: Duration::from_mins(1),
        drain: Duration::from_secs(5),
        connections: 64,
    };
}

/// A bound socket and what to serve on it.
pub struct Listener {
    socket: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    /// Those whose handshake is being worked on.
    turns: Arc<Semaphore>,
    router: Router,
    limits: Limits,
    metrics: Option<ServerMetrics>,
}

impl Listener {
    /// Serves plain HTTP/1.1 on a bound socket.
    #[must_use]
    pub fn plain(socket: TcpListener, router: Router, limits: Limits) -> Self {
        Self { socket, tls: None, turns: turns(), router, limits, metrics: None }
    }

    /// Counts connections.
    #[must_use]
    pub fn counting(self, metrics: ServerMetrics) -> Self {
        Self { metrics: Some(metrics), ..self }
    }

    /// Serves HTTPS on a bound socket, and counts connections.
    #[must_use]
    pub fn tls(
        socket: TcpListener,
        config: ServerConfig,
        router: Router,
        limits: Limits,
        metrics: ServerMetrics,
    ) -> Self {
        Self { socket, tls: Some(Arc::new(config)), turns: turns(), router, limits, metrics: Some(metrics) }
    }

    /// Serves until the phase is [`Phase::Draining`] and what was under way is finished or out of time.
    pub async fn run(self, phases: Phases) {
        let mut end = phases.clone();
        let mut guests = Guests::new(self.limits.connections);
        let mut failed = Seldom::every(QUIET);
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                Some(_) = guests.connections.join_next() => continue,
                () = until_draining(&mut end) => break,
            };
            match accepted {
                Ok(accepted) => self.accepted(accepted, &mut guests, &phases),
                Err(error) => {
                    if let Some(times) = failed.happened() {
                        tracing::warn!(%error, times, "connection cannot be accepted");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        // Clients that are connected as far as they can tell are served; after that there is nobody to connect to.
        let mut failures = 0;
        while let Ok(accepted) = tokio::time::timeout(Duration::ZERO, self.socket.accept()).await {
            match accepted {
                Ok(accepted) => self.accepted(accepted, &mut guests, &phases),
                Err(_) if failures < LAST_FAILURES => failures += 1,
                Err(_) => break,
            }
        }
        drop(self.socket);
        let mut connections = guests.connections;
        let drained = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(self.limits.drain, drained).await.is_err() {
            tracing::warn!(connections = connections.len(), "connections cut, they were not finished in time");
        }
    }

    fn accepted(&self, (stream, peer): (TcpStream, SocketAddr), guests: &mut Guests, phases: &Phases) {
        let taken = guests.places.take();
        if taken.as_ref().is_none_or(|(_, displaced)| *displaced) {
            self.too_many(guests);
        }
        let Some((place, _)) = taken else { return };
        let open = self.metrics.clone().map(Open::new);
        let connection = Connection {
            stream,
            peer,
            tls: self.tls.clone().map(|tls| (tls, Arc::clone(&self.turns))),
            router: self.router.clone(),
            limits: self.limits,
            phases: phases.clone(),
            place: Arc::clone(&place),
        };
        let task = guests.connections.spawn(async move {
            connection.serve(open.as_ref().map(|open| &open.0)).await;
            drop(open);
        });
        guests.places.given(&place, task);
    }

    /// One connection is closed, this one or another.
    fn too_many(&self, guests: &mut Guests) {
        if let Some(metrics) = &self.metrics {
            metrics.connections_refused.inc();
        }
        if let Some(times) = guests.full.happened() {
            tracing::warn!(limit = self.limits.connections, times, "connections closed, there are too many");
        }
    }
}

/// Those who are connected.
struct Guests {
    places: Places,
    connections: JoinSet<()>,
    full: Seldom,
}

impl Guests {
    fn new(limit: usize) -> Self {
        Self { places: Places::new(limit), connections: JoinSet::new(), full: Seldom::every(QUIET) }
    }
}

/// Also ends when whoever sets the phase is gone.
async fn until_draining(phases: &mut Phases) {
    let _ = phases.wait_for(|phase| *phase == Phase::Draining).await;
}

/// A connection that is counted as open while this lives.
struct Open(ServerMetrics);

impl Open {
    fn new(metrics: ServerMetrics) -> Self {
        metrics.connections.inc();
        Self(metrics)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.dec();
    }
}

/// An accepted connection.
struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<(Arc<ServerConfig>, Arc<Semaphore>)>,
    router: Router,
    limits: Limits,
    phases: Phases,
    place: Arc<Place>,
}

impl Connection {
    async fn serve(self, metrics: Option<&ServerMetrics>) {
        let Self { stream, peer, tls, router, limits, phases, place } = self;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "connection is gone");
            return;
        }
        let times = TimeLimits { head: limits.head, idle: limits.idle, write: limits.write };
        let service = Service { router, phases, place };
        let Some((tls, turns)) = tls else {
            return connection::serve(stream, Protocol::Http1, service, times).await;
        };
        let failed = |reason: &dyn std::fmt::Display| {
            if let Some(metrics) = metrics {
                metrics.handshake_failures.inc();
            }
            tracing::debug!(%peer, %reason, "TLS handshake failed");
        };
        match tokio::time::timeout(limits.handshake, shake_hands(stream, tls, &turns)).await {
            Ok(Ok(stream)) => {
                let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                let protocol = if is_http2 { Protocol::Http2 } else { Protocol::Http1 };
                connection::serve(stream, protocol, service, times).await;
            }
            Ok(Err(error)) => failed(&error),
            Err(_) => failed(&"it took too long"),
        }
    }
}

/// Half of the cores may work on handshakes.
fn turns() -> Arc<Semaphore> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Arc::new(Semaphore::new(cores.div_ceil(2)))
}

/// A handshake. What costs much of it is done in turn, and between two turns whatever else is ready, so that a flood of
/// handshakes keeps no request waiting.
async fn shake_hands(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    turns: &Semaphore,
) -> io::Result<TlsStream<TcpStream>> {
    let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let turn = turns.acquire().await.map_err(io::Error::other)?;
    // Keys are agreed on and the certificate is proved in this call.
    let rest = hello.into_stream(config);
    tokio::task::yield_now().await;
    drop(turn);
    rest.await
}
