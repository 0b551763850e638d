//! What a controller does on a cluster while it leads: follow the streams, import them, let go of images.

use std::sync::Arc;

use kube::Client;
use tokio::sync::mpsc;

use super::import::{Importer, Remote, Settings};
use super::leader::Candidate;
use crate::metrics::ImportMetrics;
use crate::store::kube::{ClusterHome, Preference, Watched, is_openshift, keep_clean};

/// The work of a controller.
pub struct Work<R> {
    client: Client,
    preference: Preference,
    remote: Arc<R>,
    settings: Settings,
    metrics: ImportMetrics,
}

impl<R: Remote> Work<R> {
    /// Nothing is asked yet.
    pub fn new(client: Client, preference: Preference, remote: R, settings: Settings, metrics: ImportMetrics) -> Self {
        Self { client, preference, remote: Arc::new(remote), settings, metrics }
    }

    /// Works whenever it is the candidate who leads. Never ends.
    pub async fn keep(&self, candidate: &mut Candidate) {
        if is_openshift(&self.client, self.preference).await {
            tracing::info!(
                "the image streams of this cluster are OpenShift's, which imports them itself; nothing to do"
            );
            return std::future::pending().await;
        }
        loop {
            candidate.lead().await;
            tracing::info!("leading, image streams are imported");
            self.metrics.leader.set(1);
            tokio::select! {
                () = candidate.hold() => {}
                () = self.once() => {}
            }
            self.metrics.leader.set(0);
        }
    }

    /// The work of one term of office.
    async fn once(&self) {
        let (sender, changes) = mpsc::unbounded_channel();
        let home = Arc::new(ClusterHome::new(self.client.clone()));
        let importer = Importer::new(home, Arc::clone(&self.remote), self.settings.clone(), self.metrics.clone());
        let streams = Watched::feed(self.client.clone(), self.preference, sender);
        tokio::select! {
            () = streams.keep() => {}
            () = importer.run(changes) => {}
            () = keep_clean(self.client.clone()) => {}
        }
    }
}
