//! What a controller does on a cluster while it leads: follow the streams, import them, let go of images.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use super::audit::Auditing;
use super::import::{Importer, Remote, Settings};
use super::leader::Candidate;
use crate::metrics::{ImportMetrics, Metrics, SourceMetrics};
use crate::store::home::Change;
use crate::store::kube::{ClusterHome, Preference, SILENCE_LIMIT, Watched, is_openshift, keep_clean};

/// The work of a controller.
pub struct Work<R> {
    client: Client,
    preference: Preference,
    remote: Arc<R>,
    settings: Settings,
    metrics: ImportMetrics,
    source: SourceMetrics,
    auditing: Option<Auditing>,
    silence: Duration,
}

impl<R: Remote> Work<R> {
    /// Nothing is asked yet.
    pub fn new(client: Client, preference: Preference, remote: R, settings: Settings, metrics: &Metrics) -> Self {
        let (remote, source) = (Arc::new(remote), metrics.source.clone());
        Self {
            client,
            preference,
            remote,
            settings,
            metrics: metrics.import.clone(),
            source,
            auditing: None,
            silence: SILENCE_LIMIT,
        }
    }

    /// Audits too, if that is said.
    #[must_use]
    pub fn audited(self, auditing: Option<Auditing>) -> Self {
        Self { auditing, ..self }
    }

    /// Gives a watch up that is silent for so long.
    #[must_use]
    pub fn given_up_after(self, silence: Duration) -> Self {
        Self { silence, ..self }
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
            self.source.is_left();
            self.metrics.is_left();
            if let Some(auditing) = &self.auditing {
                auditing.metrics.clear();
            }
        }
    }

    /// The work of one term of office.
    async fn once(&self) {
        let (sender, changes) = mpsc::unbounded_channel();
        let (to_importer, handed_on) = mpsc::unbounded_channel();
        let home = Arc::new(ClusterHome::new(self.client.clone()));
        let importer = Importer::new(home, Arc::clone(&self.remote), self.settings.clone(), self.metrics.clone());
        let streams = Watched::feed(self.client.clone(), self.preference, sender, self.source.clone());
        let streams = streams.given_up_after(self.silence);
        tokio::select! {
            () = streams.keep() => {}
            () = self.audit(changes, to_importer) => {}
            () = importer.run(handed_on) => {}
            () = keep_clean(self.client.clone()) => {}
        }
    }

    /// Hands the changes of streams on to the importer, and learns from them.
    async fn audit(&self, mut changes: UnboundedReceiver<Change>, importer: UnboundedSender<Change>) {
        if let Some(auditing) = &self.auditing {
            return auditing.clone().run(self.client.clone(), self.silence, changes, importer).await;
        }
        while let Some(change) = changes.recv().await {
            // Whoever does not listen any more need not be told.
            let _ = importer.send(change);
        }
    }
}
