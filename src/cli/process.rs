//! An admission server from its start to its end: wires streams, certificate and listeners, and ends them in order.
//!
//! What `serve` and `webhook` have in common; they differ in their flags only.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::admission::handler::{self, StreamWebhook, Webhook};
use crate::config::{CertificateSource, LimitArgs, ResolveArgs, Source, WriteArgs};
use crate::controller::certificate::Keeper;
use crate::controller::import::Settings;
use crate::controller::local::Local;
use crate::metrics::{self, Metrics};
use crate::registry::{self, DockerConfig};
use crate::server::certificate::{self, Certificate, Kept};
use crate::server::health::{self, Gate};
use crate::server::listener::{Limits, Listener};
use crate::server::{Phase, Phases, development};
use crate::store::Streams;
use crate::store::directory::Directory;
use crate::store::kube::{self as cluster, Access, Watched};
use crate::store::poll::Polled;
use crate::supervisor::Supervisor;
use crate::workload::Kinds;

/// The task whose end is the end of the process.
const WEBHOOK_TASK: &str = "webhook listener";

/// What an admission server is to be.
#[derive(Debug)]
pub(super) struct Process {
    /// Address of the webhook.
    pub listen: SocketAddr,
    /// Address of health and metrics.
    pub admin_listen: SocketAddr,
    /// Where its certificate comes from.
    pub certificate: CertificateSource,
    /// Where its streams come from.
    pub source: Source,
    /// How a cluster is found, if it needs one.
    pub access: Access,
    /// How the streams of a directory are imported, if they are.
    pub import: Option<Import>,
    pub resolve: ResolveArgs,
    pub writes: WriteArgs,
    pub limits: LimitArgs,
}

/// How streams are imported.
#[derive(Debug)]
pub(super) struct Import {
    pub settings: Settings,
    pub registry: registry::Settings,
}

/// What can be said of a server once it serves.
pub(super) struct Serving {
    /// Where the webhook is reached.
    pub webhook: SocketAddr,
    /// Where health and metrics are.
    pub admin: SocketAddr,
    /// The CA file of its certificate, if that is one of ours.
    pub ca: Option<PathBuf>,
    /// How many streams it knows.
    pub streams: usize,
}

impl Process {
    /// Runs until a signal ends it. `greet` is told once it serves.
    pub(super) fn run(self, greet: impl FnOnce(&Serving)) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
        let result = runtime.block_on(self.serve(greet));
        runtime.shutdown_background();
        result
    }

    async fn serve(self, greet: impl FnOnce(&Serving)) -> anyhow::Result<()> {
        let mut signals = Signals::new()?;
        let webhook_socket = bind(self.listen, "--listen").await?;
        let admin_socket = bind(self.admin_listen, "--admin-listen").await?;
        let (webhook, admin) = (webhook_socket.local_addr()?, admin_socket.local_addr()?);
        let shared = Shared::new()?;
        let (phase, phases) = watch::channel(Phase::Serving);
        // Health and metrics are served until the webhook has ended.
        let (_admin_phase, admin_phases) = watch::channel(Phase::Serving);
        let mut supervisor = Supervisor::default();

        let listener = self.admin_listener(admin_socket, &shared, phases.clone());
        supervisor.spawn("admin listener", endless(async move { listener.run(admin_phases).await }));
        tokio::select! {
            started = self.start_streams(&shared, &mut supervisor) => started?,
            _ = signals.next() => return Ok(()),
        }
        let ca = self.start_certificate(&shared, &mut supervisor).await?;
        let listener = self.webhook_listener(webhook_socket, &shared)?;
        supervisor.spawn(WEBHOOK_TASK, endless(async move { listener.run(phases).await }));

        tracing::info!(%webhook, %admin, "serving");
        greet(&Serving { webhook, admin, ca, streams: shared.streams.snapshot().stream_count() });
        self.until_the_end(&mut supervisor, &mut signals, &phase).await
    }

    fn admin_listener(&self, socket: TcpListener, shared: &Shared, phases: Phases) -> Listener {
        let (streams, certificate) = (Arc::clone(&shared.streams), Arc::clone(&shared.certificate));
        let gates = vec![
            Gate::new("streams", move || (!streams.is_loaded()).then_some("not loaded yet")),
            Gate::new("certificate", move || (!certificate.is_loaded()).then_some("not loaded yet")),
            Gate::new("serving", move || (*phases.borrow() > Phase::Serving).then_some("stopping")),
        ];
        let router = health::router(gates).merge(metrics::router(Arc::clone(&shared.metrics)));
        Listener::plain(socket, router, Limits { connections: Limits::ADMIN.connections, ..self.limits.limits() })
    }

    /// Streams of a directory are there when this ends; those of a cluster come when the cluster answers.
    async fn start_streams(&self, shared: &Shared, supervisor: &mut Supervisor) -> anyhow::Result<()> {
        let (streams, metrics) = (Arc::clone(&shared.streams), Arc::clone(&shared.metrics));
        let places = self.resolve.places();
        match &self.source {
            Source::Directory(root) => {
                let directory = Directory::new(root.clone(), places);
                let (directory, importing) = self.importing(directory, &shared.metrics)?;
                // Before the streams are read: it takes them as they come, so that they are not held all at once.
                if let Some(importing) = importing {
                    supervisor.spawn("import", endless(importing.keep()));
                }
                let polled = Polled::load(directory, streams, metrics).await?;
                supervisor.spawn("streams", endless(polled.keep()));
            }
            Source::Cluster(preference) => {
                let client = cluster::connect(&self.access).await?;
                let watched = Watched::published(client, *preference, places, streams, metrics);
                supervisor.spawn("streams", endless(watched.keep()));
            }
        }
        Ok(())
    }

    /// The import of a directory's streams, if they are to be imported and something can be written there.
    fn importing(
        &self,
        directory: Directory,
        metrics: &Metrics,
    ) -> anyhow::Result<(Directory, Option<Local<registry::Client>>)> {
        let Some(Import { settings, registry }) = &self.import else { return Ok((directory, None)) };
        let remote = registry::Client::new(registry, metrics.import.registry_requests.clone())?;
        let logins = DockerConfig::usual(|variable| std::env::var_os(variable));
        match Local::over(&directory, remote, logins, settings.clone(), metrics.import.clone()) {
            Ok((importing, feed)) => Ok((directory.fed(feed), Some(importing))),
            Err(error) => {
                let path = directory.root().display();
                tracing::warn!(%path, %error, "nothing can be written here, image streams are served but not imported");
                Ok((directory, None))
            }
        }
    }

    fn webhook_listener(&self, socket: TcpListener, shared: &Shared) -> anyhow::Result<Listener> {
        let webhook = Webhook {
            streams: Arc::clone(&shared.streams),
            kinds: Kinds::with(self.resolve.kinds.clone()),
            metrics: Arc::clone(&shared.metrics),
        };
        let streams = StreamWebhook {
            default_mode: self.writes.mode.default_mode(),
            registries: self.writes.permitted.registries(),
            metrics: Arc::clone(&shared.metrics),
        };
        let tls = certificate::tls_config(Arc::clone(&shared.certificate))?;
        let router = handler::router(Arc::new(webhook), Arc::new(streams));
        Ok(Listener::tls(socket, tls, router, self.limits.limits(), shared.metrics.server.clone()))
    }

    /// A certificate in files is there when this ends, one that replicas share comes when the cluster answers. Gives
    /// back the CA file of it if it is one of ours.
    async fn start_certificate(&self, shared: &Shared, supervisor: &mut Supervisor) -> anyhow::Result<Option<PathBuf>> {
        let (certificate, metrics) = (Arc::clone(&shared.certificate), shared.metrics.server.clone());
        let (files, ca) = match &self.certificate {
            CertificateSource::Files(files) => (files.clone(), None),
            CertificateSource::Development(folder) => {
                let (files, is_new) = development::keep_or_make(folder, Timestamp::now())?;
                if is_new {
                    tracing::info!(folder = %folder.display(), "development certificate made");
                }
                (files, Some(folder.join(development::CA_FILE)))
            }
            CertificateSource::Shared(place, authority) => {
                let client = cluster::connect(&self.access).await?;
                let keeper = Keeper::new(&client, place.clone(), authority.clone(), certificate, metrics);
                supervisor.spawn("certificate", endless(keeper.keep()));
                return Ok(None);
            }
        };
        supervisor.spawn("certificate", endless(Kept::load(files, certificate, metrics).await?.keep()));
        Ok(ca)
    }

    /// Waits for a signal, then ends: unready, a moment of grace, drain. A task that ends before is an error, and
    /// so is a second signal.
    async fn until_the_end(
        &self,
        supervisor: &mut Supervisor,
        signals: &mut Signals,
        phase: &watch::Sender<Phase>,
    ) -> anyhow::Result<()> {
        let grace = tokio::select! {
            (name, result) = supervisor.ended() => return Err(early(name, result)),
            is_patient = signals.next() => if is_patient { self.limits.shutdown_delay } else { Duration::ZERO },
        };
        let _ = phase.send(Phase::Leaving);
        tracing::info!(grace_seconds = grace.as_secs_f64(), "stopping, not ready any more");
        tokio::select! {
            () = tokio::time::sleep(grace) => {}
            (name, result) = supervisor.ended() => return Err(early(name, result)),
            _ = signals.next() => anyhow::bail!("stopped at once by a second signal"),
        }
        let _ = phase.send(Phase::Draining);
        tokio::select! {
            (name, result) = supervisor.ended() => if name != WEBHOOK_TASK || result.is_err() {
                return Err(early(name, result));
            },
            _ = signals.next() => anyhow::bail!("stopped at once by a second signal"),
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

/// What several parts work with.
struct Shared {
    metrics: Arc<Metrics>,
    streams: Arc<Streams>,
    certificate: Arc<Certificate>,
}

impl Shared {
    fn new() -> anyhow::Result<Self> {
        let metrics = Arc::new(Metrics::new()?);
        Ok(Self { metrics, streams: Arc::default(), certificate: Arc::default() })
    }
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
