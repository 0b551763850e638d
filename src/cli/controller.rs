//! `pinstream controller`: imports image streams on a cluster. Any number of replicas; one of them works.

use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;

use clap::Args;
use tokio::sync::watch;

use super::lifecycle::{self, Signals, bind, early, endless};
use crate::config::{AuditArgs, ImportArgs, LeaderArgs, RegistryArgs, RegistryHostArgs, Source, SourceArgs};
use crate::controller::leader::Candidate;
use crate::controller::work::Work;
use crate::metrics::{self, Metrics};
use crate::registry;
use crate::server::Phase;
use crate::server::health;
use crate::server::listener::{Limits, Listener};
use crate::store::kube as cluster;
use crate::supervisor::Supervisor;

/// Import image streams on a cluster, again and again
///
/// Finds the digest behind each tag and writes it into the tag's history: at once when a tag is written, and on schedule
/// where the tag says so. Of several replicas the one that holds the Lease works. On OpenShift there is nothing to do:
/// it imports its streams itself.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  pinstream controller --lease system/pinstream-controller
  pinstream controller --import-interval 5m --registry-allow 'quay.io' --registry-allow '*.example.com:5000'
  pinstream controller --registry-ca registry.example:5000=ca.pem --context prod")]
pub(super) struct Controller {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    import: ImportArgs,
    #[command(flatten)]
    registry: RegistryArgs,
    #[command(flatten)]
    leader: LeaderArgs,
    #[command(flatten)]
    registry_host: RegistryHostArgs,
    #[command(flatten)]
    audit: AuditArgs,
    /// Address of /livez, /readyz and /metrics, plain HTTP. Port 0 picks a free one and logs it
    #[arg(long, value_name = "IP:PORT", env = "PINSTREAM_ADMIN_LISTEN", default_value = "0.0.0.0:9090")]
    admin_listen: SocketAddr,
}

impl Controller {
    pub(super) fn run(self) -> anyhow::Result<()> {
        lifecycle::run(self.work())
    }

    async fn work(self) -> anyhow::Result<()> {
        let Source::Cluster(preference) = self.source.source else {
            anyhow::bail!("a controller works on a cluster; over a directory use: pinstream serve --streams DIR");
        };
        let mut signals = Signals::new()?;
        let metrics = Arc::new(Metrics::new()?);
        let socket = bind(self.admin_listen, "--admin-listen").await?;
        let admin = socket.local_addr()?;
        let (_phase, phases) = watch::channel(Phase::Serving);
        let router = health::router(Vec::new()).merge(metrics::router(Arc::clone(&metrics)));
        let listener = Listener::plain(socket, router, Limits::ADMIN);
        let mut supervisor = Supervisor::default();
        supervisor.spawn("admin listener", endless(async move { listener.run(phases).await }));

        let client = cluster::connect(&self.source.access()).await?;
        let place = self.leader.place(&host(), RandomState::new().hash_one(std::process::id()));
        let mut candidate = Candidate::new(client.clone(), place);
        let remote =
            registry::Client::new(&self.registry.settings_in_cluster()?, metrics.import.registry_requests.clone())?;
        let settings = self.import.settings(self.registry_host.registry_host);
        let work = Work::new(client, preference, remote, settings, &metrics)
            .audited(self.audit.auditing(&metrics.audit))
            .given_up_after(self.source.watch_timeout);
        tracing::info!(%admin, "controller started");
        tokio::select! {
            () = work.keep(&mut candidate) => {}
            (name, result) = supervisor.ended() => return Err(early(name, result)),
            _ = signals.next() => {}
        }
        candidate.release().await;
        tracing::info!("stopped");
        Ok(())
    }
}

/// The name of this machine, which in a Pod is the Pod's.
pub(super) fn host() -> String {
    std::env::var("HOSTNAME").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "pinstream".to_owned())
}
