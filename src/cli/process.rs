//! An admission server from its start to its end: wires streams, certificate and listeners, and ends them in order.
//!
//! What `serve` and `webhook` have in common; they differ in their flags, and in that `serve` can be a registry as well.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{self, Sender, UnboundedSender};

use super::certificate as identity;
use super::controller::host;
use super::lifecycle::{Life, bind, endless};
use super::pulling::{Pulling, Upstream};
use crate::admission::handler::{self, PolicyWebhook, StreamWebhook, Webhook};
use crate::config::{
    CertificateSource, ClusterPolicyArgs, LimitArgs, MetricsArgs, PolicyArgs, ResolveArgs, Source, WriteArgs,
};
use crate::controller::import::Settings;
use crate::controller::local::Local;
use crate::metrics::{self, Metrics};
use crate::mirror::catalogue::Catalogue;
use crate::registry::{self, DockerConfig};
use crate::server::certificate::{self, Certificate};
use crate::server::health::{self, Gate};
use crate::server::listener::{Limits, Listener};
use crate::server::{Phase, Phases};
use crate::store::Streams;
use crate::store::directory::{Directory, DirectoryHome, Feed};
use crate::store::home::Change;
use crate::store::kube::{self as cluster, Access, Refused, Watched};
use crate::store::levels::CurrentLevels;
use crate::store::poll::Polled;
use crate::stream::types::ImportMode;
use crate::supervisor::Supervisor;
use crate::workload::Kinds;

/// Refusals that wait for being written.
const REFUSALS_MAX: usize = 100;

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
    /// How long its watches may be silent.
    pub watch_timeout: Duration,
    /// How the streams of a directory are imported, if they are.
    pub import: Option<Settings>,
    /// The client of registries.
    pub remote: registry::Settings,
    /// The registry over a directory, if there is to be one, and its address.
    pub pulling: Option<(SocketAddr, Pulling)>,
    pub resolve: ResolveArgs,
    pub policy: PolicyArgs,
    /// What the policy has to do with the cluster, if it runs on one.
    pub cluster: Option<ClusterPolicyArgs>,
    pub writes: WriteArgs,
    pub metrics: MetricsArgs,
    pub limits: LimitArgs,
}

/// What can be said of a server once it serves.
pub(super) struct Serving {
    /// Where the webhook is reached.
    pub webhook: SocketAddr,
    /// Where the registry is reached, if there is one.
    pub registry: Option<SocketAddr>,
    /// Where health and metrics are.
    pub admin: SocketAddr,
    /// The CA file of its certificate, if that is one of ours.
    pub ca: Option<PathBuf>,
    /// How many streams it knows.
    pub streams: usize,
}

impl Process {
    /// Runs until a signal ends it. `greet` is told once it serves.
    pub(super) async fn serve(self, greet: impl FnOnce(&Serving)) -> anyhow::Result<()> {
        let webhook_socket = bind(self.listen, "--listen").await?;
        let registry_socket = match &self.pulling {
            Some((address, _)) => Some(bind(*address, "--registry-listen").await?),
            None => None,
        };
        let admin_socket = bind(self.admin_listen, "--admin-listen").await?;
        let (webhook, admin) = (webhook_socket.local_addr()?, admin_socket.local_addr()?);
        let registry = registry_socket.as_ref().map(TcpListener::local_addr).transpose()?;
        let shared = Shared::new(self.pulling.as_ref().map(|(_, pulling)| pulling), &self.policy)?;

        let mut life = Life::begin(|phases| self.admin_listener(admin_socket, &shared, phases))?;
        let routes = tokio::select! {
            started = self.start_streams(&shared, &mut life.supervisor) => started?,
            _ = life.signals.next() => return Ok(()),
        };
        let refusals = self.start_policy(&shared, &mut life.supervisor).await?;
        let (certificate, metrics) = (Arc::clone(&shared.certificate), shared.metrics.server.clone());
        let ca = identity::keep(certificate, &self.certificate, &self.access, metrics, &mut life.supervisor).await?;
        life.serve("webhook listener", self.tls_listener(webhook_socket, self.webhook(&shared, refusals), &shared)?);
        if let Some((socket, routes)) = registry_socket.zip(routes) {
            life.serve("registry listener", self.tls_listener(socket, routes, &shared)?);
        }

        tracing::info!(%webhook, registry = registry.map(tracing::field::display), %admin, "serving");
        greet(&Serving { webhook, registry, admin, ca, streams: shared.streams.snapshot().stream_count() });
        life.until_the_end(self.limits.shutdown_delay).await
    }

    fn admin_listener(&self, socket: TcpListener, shared: &Shared, phases: Phases) -> Listener {
        let (streams, certificate) = (Arc::clone(&shared.streams), Arc::clone(&shared.certificate));
        let levels = Arc::clone(&shared.levels);
        let gates = vec![
            Gate::new("streams", move || (!streams.is_loaded()).then_some("not loaded yet")),
            Gate::new("levels", move || (!levels.is_settled()).then_some("not asked for yet")),
            Gate::new("certificate", move || (!certificate.is_loaded()).then_some("not loaded yet")),
            Gate::new("serving", move || (*phases.borrow() > Phase::Serving).then_some("stopping")),
        ];
        let router = health::router(gates).merge(metrics::router(Arc::clone(&shared.metrics)));
        Listener::plain(socket, router, Limits { connections: Limits::ADMIN.connections, ..self.limits.limits() })
    }

    /// Streams of a directory are there when this ends; those of a cluster come when the cluster answers. Gives back the
    /// routes of the registry, if there is to be one.
    async fn start_streams(&self, shared: &Shared, supervisor: &mut Supervisor) -> anyhow::Result<Option<Router>> {
        let (streams, metrics) = (Arc::clone(&shared.streams), Arc::clone(&shared.metrics));
        let places = self.resolve.places();
        let root = match &self.source {
            Source::Directory(root) => root,
            Source::Cluster(preference) => {
                let client = cluster::connect(&self.access).await?;
                let watched = Watched::published(client, *preference, places, streams, metrics);
                supervisor.spawn("streams", endless(watched.given_up_after(self.watch_timeout).keep()));
                return Ok(None);
            }
        };
        let directory = Directory::new(root.clone(), places);
        let remote = Arc::new(registry::Client::new(&self.remote, metrics.import.registry_requests.clone())?);
        let (reader, changes) = mpsc::unbounded_channel();
        let mut routes = None;
        if let (Some((_, pulling)), Some(catalogue)) = (&self.pulling, shared.catalogue.clone()) {
            let home = Arc::new(home_to_read(&directory));
            let upstream = Upstream { home, changes, client: Arc::clone(&remote) };
            routes = Some(pulling.start(upstream, catalogue, None, &metrics, supervisor).await?);
        }
        let reader = routes.is_some().then_some(reader);
        // Before the streams are read: it takes them as they come, so that they are not held all at once.
        let (directory, importing) = self.importing(directory, remote, reader, &metrics);
        if let Some(importing) = importing {
            supervisor.spawn("import", endless(importing.keep()));
        }
        supervisor.spawn("streams", endless(Polled::load(directory, streams, metrics).await?.keep()));
        Ok(routes)
    }

    /// The import of a directory's streams, if they are to be imported and something can be written there. Whole streams
    /// are told to `reader` too, if there is one.
    fn importing(
        &self,
        directory: Directory,
        remote: Arc<registry::Client>,
        reader: Option<UnboundedSender<Change>>,
        metrics: &Metrics,
    ) -> (Directory, Option<Local<registry::Client>>) {
        let read_only = |directory: Directory, reader: Option<UnboundedSender<Change>>| match reader {
            Some(reader) => told(directory, reader),
            None => directory,
        };
        let Some(settings) = &self.import else { return (read_only(directory, reader), None) };
        let logins = DockerConfig::usual(|variable| std::env::var_os(variable));
        match Local::over(&directory, remote, logins, settings.clone(), metrics.import.clone()) {
            Ok((importing, feed)) => {
                let feed = match reader {
                    Some(reader) => feed.and(reader),
                    None => feed,
                };
                (directory.fed(feed), Some(importing))
            }
            Err(error) => {
                let path = directory.root().display();
                tracing::warn!(%path, %error, "nothing can be written here, image streams are served but not imported");
                (read_only(directory, reader), None)
            }
        }
    }

    /// Levels are read from the cluster, if there is one. Gives back who writes events of refusals, if someone is to.
    async fn start_policy(
        &self,
        shared: &Shared,
        supervisor: &mut Supervisor,
    ) -> anyhow::Result<Option<Sender<Refused>>> {
        let reads_labels = self.cluster.is_some_and(|policy| !policy.policy_ignore_labels);
        let writes_events = self.cluster.is_some_and(|policy| policy.policy_events);
        if !reads_labels {
            shared.levels.settle();
        }
        if !reads_labels && !writes_events {
            return Ok(None);
        }
        let client = match (cluster::connect(&self.access).await, &self.source) {
            (Ok(client), _) => client,
            (Err(error), Source::Directory(_)) => {
                tracing::info!(%error, "namespaces have the levels that flags say, and no events are written");
                shared.levels.settle();
                return Ok(None);
            }
            (Err(error), Source::Cluster(_)) => return Err(error.into()),
        };
        if reads_labels {
            let is_patient = matches!(self.source, Source::Cluster(_));
            let levels = Watched::levels(client.clone(), Arc::clone(&shared.levels), is_patient);
            supervisor.spawn("levels", endless(levels.given_up_after(self.watch_timeout).keep()));
        }
        if !writes_events {
            return Ok(None);
        }
        let (sender, refusals) = mpsc::channel(REFUSALS_MAX);
        supervisor.spawn("refusals", endless(cluster::record(client, host(), refusals)));
        Ok(Some(sender))
    }

    fn webhook(&self, shared: &Shared, refusals: Option<Sender<Refused>>) -> Router {
        self.metrics.set(&shared.metrics.resolved);
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
        let policy = PolicyWebhook {
            levels: Arc::clone(&shared.levels),
            exceptions: Arc::new(self.policy.exceptions()),
            kinds: Kinds::with(self.resolve.kinds.clone()),
            refusals,
            metrics: Arc::clone(&shared.metrics),
        };
        handler::router(Arc::new(webhook), Arc::new(streams), Arc::new(policy))
    }

    fn tls_listener(&self, socket: TcpListener, router: Router, shared: &Shared) -> anyhow::Result<Listener> {
        let tls = certificate::tls_config(Arc::clone(&shared.certificate))?;
        Ok(Listener::tls(socket, tls, router, self.limits.limits(), shared.metrics.server.clone()))
    }
}

/// Reads streams and credentials, and writes nothing.
pub(super) fn home_to_read(directory: &Directory) -> DirectoryHome {
    let logins = DockerConfig::usual(|variable| std::env::var_os(variable));
    DirectoryHome::open_to_read(directory.root(), directory.owners(), ImportMode::PreserveOriginal, logins)
}

/// Tells whole streams to whoever reads them, and to nobody else.
pub(super) fn told(directory: Directory, reader: UnboundedSender<Change>) -> Directory {
    let feed = Feed::to_read(home_to_read(&directory)).and(reader);
    directory.fed(feed)
}

/// What several parts work with.
struct Shared {
    metrics: Arc<Metrics>,
    streams: Arc<Streams>,
    certificate: Arc<Certificate>,
    levels: Arc<CurrentLevels>,
    /// What can be pulled, if something can.
    catalogue: Option<Arc<Catalogue>>,
}

impl Shared {
    fn new(pulling: Option<&Pulling>, policy: &PolicyArgs) -> anyhow::Result<Self> {
        let metrics = Arc::new(Metrics::new()?);
        let catalogue = pulling.map(Pulling::catalogue);
        let levels = Arc::new(CurrentLevels::new(policy.levels()));
        Ok(Self { metrics, streams: Arc::default(), certificate: Arc::default(), levels, catalogue })
    }
}
