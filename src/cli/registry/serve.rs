//! The registry as a process of its own.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use clap::Args;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::cli::certificate as identity;
use crate::cli::lifecycle::{self, Life, bind, endless};
use crate::cli::process::{home_to_read, told};
use crate::cli::pulling::{Pulling, Upstream};
use crate::config::{
    CertificateSource, KeepArgs, LimitArgs, PullArgs, RegistryArgs, RegistryHostArgs, RegistryServerArgs, Source,
    SourceArgs,
};
use crate::metrics::{self, Metrics};
use crate::mirror::catalogue::Catalogue;
use crate::registry::Client;
use crate::server::certificate::{self, Certificate};
use crate::server::health::{self, Gate};
use crate::server::listener::{Limits, Listener};
use crate::server::{Phase, Phases};
use crate::store::directory::Directory;
use crate::store::kube::{self as cluster, ClusterHome, ClusterReviewer, Preference, Watched};
use crate::store::poll::Polled;
use crate::stream::places::Places;
use crate::supervisor::Supervisor;

/// Flags of the registry.
#[derive(Args, Debug)]
pub(in crate::cli) struct Serve {
    #[command(flatten)]
    source: SourceArgs,

    /// Directory of image streams, in place of those of a cluster
    #[arg(long, value_name = "DIR", env = "PINSTREAM_STREAMS", help_heading = "Streams", conflicts_with = "source")]
    streams: Option<PathBuf>,

    #[command(flatten)]
    host: RegistryHostArgs,
    #[command(flatten)]
    pull: PullArgs,
    #[command(flatten)]
    keep: KeepArgs,
    #[command(flatten)]
    registry: RegistryArgs,
    #[command(flatten)]
    server: RegistryServerArgs,
    #[command(flatten)]
    limits: LimitArgs,
}

/// What several parts work with.
struct Shared {
    metrics: Arc<Metrics>,
    catalogue: Arc<Catalogue>,
    certificate: Arc<Certificate>,
    pulling: Pulling,
    client: Arc<Client>,
}

impl Serve {
    pub(in crate::cli) fn run(self) -> anyhow::Result<()> {
        let certificate = self.server.certificate()?;
        lifecycle::run(self.serve(certificate))
    }

    async fn serve(self, certificate: Option<CertificateSource>) -> anyhow::Result<()> {
        let socket = bind(self.server.listen, "--listen").await?;
        let admin_socket = bind(self.server.admin_listen, "--admin-listen").await?;
        let (registry, admin) = (socket.local_addr()?, admin_socket.local_addr()?);
        let shared = self.shared(certificate.is_some())?;
        let mut life = Life::begin(|phases| self.admin_listener(admin_socket, &shared, phases))?;
        let routes = tokio::select! {
            started = self.start(&shared, &mut life.supervisor) => started?,
            _ = life.signals.next() => return Ok(()),
        };
        if let Some(source) = &certificate {
            let (certificate, metrics) = (Arc::clone(&shared.certificate), shared.metrics.server.clone());
            identity::keep(certificate, source, &self.source.access(), metrics, &mut life.supervisor).await?;
        }
        life.serve("registry listener", self.listener(socket, routes, &shared)?);
        tracing::info!(%registry, %admin, "serving");
        life.until_the_end(self.limits.shutdown_delay).await
    }

    fn shared(&self, is_secure: bool) -> anyhow::Result<Shared> {
        let metrics = Arc::new(Metrics::new()?);
        let (storage, host) = (self.keep.place()?, self.host.registry_host.clone());
        let pulling = Pulling { storage, pull: self.pull.clone(), host, is_secure };
        let in_cluster = self.streams.is_none() && matches!(self.source.source, Source::Cluster(_));
        let settings = if in_cluster { self.registry.settings_in_cluster() } else { self.registry.settings() };
        let client = Client::new(&settings?, metrics.import.registry_requests.clone())?;
        let (catalogue, client) = (pulling.catalogue(), Arc::new(client));
        Ok(Shared { metrics, catalogue, certificate: Arc::default(), pulling, client })
    }

    fn admin_listener(&self, socket: TcpListener, shared: &Shared, phases: Phases) -> Listener {
        let (catalogue, certificate) = (Arc::clone(&shared.catalogue), Arc::clone(&shared.certificate));
        let mut gates = vec![Gate::new("streams", move || (!catalogue.is_loaded()).then_some("not loaded yet"))];
        if shared.pulling.is_secure {
            gates.push(Gate::new("certificate", move || (!certificate.is_loaded()).then_some("not loaded yet")));
        }
        gates.push(Gate::new("serving", move || (*phases.borrow() > Phase::Serving).then_some("stopping")));
        let router = health::router(gates).merge(metrics::router(Arc::clone(&shared.metrics)));
        Listener::plain(socket, router, Limits { connections: Limits::ADMIN.connections, ..self.limits.limits() })
    }

    /// Streams of a directory are there when this ends; those of a cluster come when the cluster answers.
    async fn start(&self, shared: &Shared, supervisor: &mut Supervisor) -> anyhow::Result<Router> {
        match (&self.streams, &self.source.source) {
            (Some(root), _) | (None, Source::Directory(root)) => {
                start_directory(root.clone(), shared, supervisor).await
            }
            (None, Source::Cluster(preference)) => self.start_cluster(*preference, shared, supervisor).await,
        }
    }

    async fn start_cluster(
        &self,
        preference: Preference,
        shared: &Shared,
        supervisor: &mut Supervisor,
    ) -> anyhow::Result<Router> {
        let cluster = cluster::connect(&self.source.access()).await?;
        let (sender, changes) = mpsc::unbounded_channel();
        let home = Arc::new(ClusterHome::new(cluster.clone()));
        let upstream = Upstream { home, changes, client: Arc::clone(&shared.client) };
        let reviewer = ClusterReviewer::new(cluster.clone(), preference);
        let catalogue = Arc::clone(&shared.catalogue);
        let routes = shared.pulling.start(upstream, catalogue, Some(reviewer), &shared.metrics, supervisor).await?;
        let streams = Watched::feed(cluster, preference, sender, shared.metrics.source.clone());
        supervisor.spawn("streams", endless(streams.given_up_after(self.source.watch_timeout).keep()));
        Ok(routes)
    }

    fn listener(&self, socket: TcpListener, routes: Router, shared: &Shared) -> anyhow::Result<Listener> {
        let (limits, metrics) = (self.limits.limits(), shared.metrics.server.clone());
        if !shared.pulling.is_secure {
            return Ok(Listener::plain(socket, routes, limits).counting(metrics));
        }
        let tls = certificate::tls_config(Arc::clone(&shared.certificate))?;
        Ok(Listener::tls(socket, tls, routes, limits, metrics))
    }
}

async fn start_directory(root: PathBuf, shared: &Shared, supervisor: &mut Supervisor) -> anyhow::Result<Router> {
    let directory = Directory::new(root, Places::at_host(shared.pulling.host.as_deref()));
    let (sender, changes) = mpsc::unbounded_channel();
    let home = Arc::new(home_to_read(&directory));
    let upstream = Upstream { home, changes, client: Arc::clone(&shared.client) };
    let catalogue = Arc::clone(&shared.catalogue);
    let routes = shared.pulling.start(upstream, catalogue, None, &shared.metrics, supervisor).await?;
    let polled = Polled::load(told(directory, sender), Arc::default(), Arc::clone(&shared.metrics)).await?;
    supervisor.spawn("streams", endless(polled.keep()));
    Ok(routes)
}
