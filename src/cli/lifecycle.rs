//! The life of a server process: its tasks, the signals that end it, and the order in which it ends.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::server::listener::Listener;
use crate::server::{Phase, Phases};
use crate::supervisor::Supervisor;

/// Runs a server to its end.
pub(super) fn run(server: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    let result = runtime.block_on(server);
    runtime.shutdown_background();
    result
}

/// A process that lives.
pub(super) struct Life {
    pub(super) supervisor: Supervisor,
    pub(super) signals: Signals,
    phase: watch::Sender<Phase>,
    /// Health and metrics are served until everything else has ended.
    _admin_phase: watch::Sender<Phase>,
    /// The tasks whose end is the end of the process.
    listeners: Vec<&'static str>,
}

impl Life {
    /// Begins. `admin` makes the listener of health and metrics, and is told how to learn how far the process is.
    pub(super) fn begin(admin: impl FnOnce(Phases) -> Listener) -> anyhow::Result<Self> {
        let signals = Signals::new()?;
        let (phase, phases) = watch::channel(Phase::Serving);
        let (admin_phase, admin_phases) = watch::channel(Phase::Serving);
        let mut supervisor = Supervisor::default();
        let listener = admin(phases);
        supervisor.spawn("admin listener", endless(async move { listener.run(admin_phases).await }));
        Ok(Self { supervisor, signals, phase, _admin_phase: admin_phase, listeners: Vec::new() })
    }

    /// Serves what clients come for.
    pub(super) fn serve(&mut self, name: &'static str, listener: Listener) {
        let phases = self.phase.subscribe();
        self.supervisor.spawn(name, endless(async move { listener.run(phases).await }));
        self.listeners.push(name);
    }

    /// Waits for a signal, then ends: unready, a moment of grace, drain. A task that ends before is an error, and
    /// so is a second signal.
    pub(super) async fn until_the_end(mut self, grace: Duration) -> anyhow::Result<()> {
        let grace = tokio::select! {
            (name, result) = self.supervisor.ended() => return Err(early(name, result)),
            is_patient = self.signals.next() => if is_patient { grace } else { Duration::ZERO },
        };
        let _ = self.phase.send(Phase::Leaving);
        tracing::info!(grace_seconds = grace.as_secs_f64(), "stopping, not ready any more");
        tokio::select! {
            () = tokio::time::sleep(grace) => {}
            (name, result) = self.supervisor.ended() => return Err(early(name, result)),
            _ = self.signals.next() => anyhow::bail!("stopped at once by a second signal"),
        }
        let _ = self.phase.send(Phase::Draining);
        while !self.listeners.is_empty() {
            tokio::select! {
                (name, result) = self.supervisor.ended() => {
                    if result.is_err() || !self.listeners.contains(&name) {
                        return Err(early(name, result));
                    }
                    self.listeners.retain(|listener| *listener != name);
                }
                _ = self.signals.next() => anyhow::bail!("stopped at once by a second signal"),
            }
        }
        tracing::info!("stopped, nothing is under way");
        Ok(())
    }
}

pub(super) fn early(name: &str, result: anyhow::Result<()>) -> anyhow::Error {
    let error = result.err().unwrap_or_else(|| anyhow::anyhow!("it just ended"));
    error.context(format!("the task \"{name}\" ended before its time"))
}

pub(super) async fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("{address} cannot be listened on; choose another address with {flag} (port 0 is any free one)")
    })
}

/// A task that has nothing to fail with.
pub(super) async fn endless(task: impl Future<Output = ()>) -> anyhow::Result<()> {
    task.await;
    Ok(())
}

/// The signals that end the process.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("signals cannot be listened for");
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// Waits for the next; `true` if whoever sent it expects the process to take leave first (SIGTERM).
    pub(super) async fn next(&mut self) -> bool {
        tokio::select! {
            _ = self.terminate.recv() => true,
            _ = self.interrupt.recv() => false,
        }
    }
}
