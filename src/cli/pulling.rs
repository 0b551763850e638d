//! The pull-through registry, put together: streams, storage, client, access and routes.

use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use tokio::sync::mpsc::UnboundedReceiver;

use super::lifecycle::endless;
use crate::config::PullArgs;
use crate::metrics::Metrics;
use crate::mirror::access::{Access, Judge, Passwords, Reviews};
use crate::mirror::catalogue::Catalogue;
use crate::mirror::content::{Content, Limits, Needs, Sources};
use crate::mirror::handler;
use crate::mirror::storage::{Needed, Place, Storage};
use crate::registry::Client;
use crate::store::home::{Change, Home};
use crate::store::kube::ClusterReviewer;
use crate::supervisor::Supervisor;

/// What a pull-through registry is to be.
#[derive(Debug)]
pub(super) struct Pulling {
    /// Where what is pulled is kept.
    pub storage: Place,
    /// Who may pull, and how much at a time.
    pub pull: PullArgs,
    /// The host by which clients know it.
    pub host: Option<String>,
    /// Whether it serves HTTPS.
    pub is_secure: bool,
}

/// Where streams, credentials and images come from.
pub(super) struct Upstream<H> {
    pub home: Arc<H>,
    pub changes: UnboundedReceiver<Change>,
    pub client: Arc<Client>,
}

impl Pulling {
    /// What streams allow, before any is known.
    pub(super) fn catalogue(&self) -> Arc<Catalogue> {
        Arc::new(Catalogue::new(self.host.as_deref()))
    }

    /// Opens the storage and starts what runs beside the routes, which it gives back.
    pub(super) async fn start<H: Home>(
        &self,
        upstream: Upstream<H>,
        catalogue: Arc<Catalogue>,
        reviewer: Option<ClusterReviewer>,
        metrics: &Metrics,
        supervisor: &mut Supervisor,
    ) -> anyhow::Result<Router> {
        let needs = Arc::new(Needs::new(Arc::clone(&catalogue)));
        let storage = Storage::open(&self.storage, Arc::clone(&needs) as Arc<dyn Needed>, metrics.storage.clone())
            .await
            .context("what is pulled cannot be kept; name another place with --storage")?;
        if self.storage.budget.is_some() {
            let (needs, storage) = (Arc::clone(&needs), storage.clone());
            supervisor.spawn("needs", endless(async move { needs.keep(storage).await }));
        }
        let Upstream { home, changes, client } = upstream;
        let followed = Arc::clone(&catalogue);
        supervisor.spawn("catalogue", endless(async move { followed.follow(changes).await }));
        let tended = storage.clone();
        supervisor.spawn("storage", async move { match tended.tend().await {} });
        let sources = Sources { catalogue, needs, storage, client, home, metrics: metrics.upstream.clone() };
        let (content, fetcher) = Content::new(sources, Limits::default());
        supervisor.spawn("fetches", endless(fetcher.keep()));
        let judge = self.judge(reviewer, supervisor)?;
        let access = Access::new(self.pull.anonymous(), judge, metrics.pull.clone());
        let settings =
            handler::Settings { is_secure: self.is_secure, host: self.host.clone(), transfers: self.pull.transfers() };
        Ok(handler::router(Arc::new(content), access, settings, metrics.pull.clone()))
    }

    /// Who decides who may pull: the password file if there is one, else the cluster if there is one.
    fn judge(
        &self,
        reviewer: Option<ClusterReviewer>,
        supervisor: &mut Supervisor,
    ) -> anyhow::Result<Judge<ClusterReviewer>> {
        if self.pull.allow_anonymous {
            return Ok(Judge::Everyone);
        }
        if let Some(path) = &self.pull.htpasswd {
            let (passwords, kept) = Passwords::load(path)?;
            supervisor.spawn("passwords", endless(kept.keep()));
            return Ok(Judge::Passwords(passwords));
        }
        Ok(reviewer.map_or(Judge::Everyone, |reviewer| Judge::Cluster(Box::new(Reviews::new(reviewer)))))
    }
}
