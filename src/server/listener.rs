//! A listening socket: accept, handshake, and the limits on both. Each connection is a task of its listener.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::connection::{self, Protocol, TimeLimits};
use super::descriptors::Seldom;
use super::{Phase, Phases};
use crate::metrics::ServerMetrics;

/// How long to wait after an accept that failed for want of resources.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
    tls: Option<TlsAcceptor>,
    router: Router,
    limits: Limits,
    metrics: Option<ServerMetrics>,
}

impl Listener {
    /// Serves plain HTTP/1.1 on a bound socket.
    #[must_use]
    pub fn plain(socket: TcpListener, router: Router, limits: Limits) -> Self {
        Self { socket, tls: None, router, limits, metrics: None }
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
        let tls = Some(TlsAcceptor::from(Arc::new(config)));
        Self { socket, tls, router, limits, metrics: Some(metrics) }
    }

    /// Serves until the phase is [`Phase::Draining`] and what was under way is finished or out of time.
    pub async fn run(self, phases: Phases) {
        let mut end = phases.clone();
        let permits = Arc::new(Semaphore::new(self.limits.connections));
        let mut connections = JoinSet::new();
        let mut failed = Seldom::default();
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                Some(_) = connections.join_next() => continue,
                () = until_draining(&mut end) => break,
            };
            match accepted {
                Ok(accepted) => self.accepted(accepted, &permits, &mut connections, &phases),
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
                Ok(accepted) => self.accepted(accepted, &permits, &mut connections, &phases),
                Err(_) if failures < LAST_FAILURES => failures += 1,
                Err(_) => break,
            }
        }
        drop(self.socket);
        let drained = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(self.limits.drain, drained).await.is_err() {
            tracing::warn!(connections = connections.len(), "connections cut, they were not finished in time");
        }
    }

    fn accepted(
        &self,
        (stream, peer): (TcpStream, SocketAddr),
        permits: &Arc<Semaphore>,
        connections: &mut JoinSet<()>,
        phases: &Phases,
    ) {
        let Ok(permit) = Arc::clone(permits).try_acquire_owned() else {
            if let Some(metrics) = &self.metrics {
                metrics.connections_refused.inc();
            }
            tracing::debug!(%peer, limit = self.limits.connections, "connection refused, there are too many");
            return;
        };
        let open = self.metrics.clone().map(Open::new);
        let connection = Connection {
            stream,
            peer,
            tls: self.tls.clone(),
            router: self.router.clone(),
            limits: self.limits,
            phases: phases.clone(),
        };
        connections.spawn(async move {
            connection.serve(open.as_ref().map(|open| &open.0)).await;
            drop((open, permit));
        });
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
    tls: Option<TlsAcceptor>,
    router: Router,
    limits: Limits,
    phases: Phases,
}

impl Connection {
    async fn serve(self, metrics: Option<&ServerMetrics>) {
        let Self { stream, peer, tls, router, limits, phases } = self;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "connection is gone");
            return;
        }
        let times = TimeLimits { head: limits.head, idle: limits.idle, write: limits.write };
        let Some(tls) = tls else {
            return connection::serve(stream, Protocol::Http1, router, times, phases).await;
        };
        let failed = |reason: &dyn std::fmt::Display| {
            if let Some(metrics) = metrics {
                metrics.handshake_failures.inc();
            }
            tracing::debug!(%peer, %reason, "TLS handshake failed");
        };
        match tokio::time::timeout(limits.handshake, tls.accept(stream)).await {
            Ok(Ok(stream)) => {
                let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                let protocol = if is_http2 { Protocol::Http2 } else { Protocol::Http1 };
                connection::serve(stream, protocol, router, times, phases).await;
            }
            Ok(Err(error)) => failed(&error),
            Err(_) => failed(&"it took too long"),
        }
    }
}
