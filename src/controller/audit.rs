//! Keeps an audit of the cluster while this replica leads: Pods and image streams as they change, figures for metrics.
//!
//! What there is to say is `crate::audit`'s. No registry is asked, and streams come with the feed of the importer.

use std::collections::HashSet;
use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use tokio::sync::mpsc::{self, Receiver, UnboundedReceiver, UnboundedSender};

use crate::audit::Audit;
use crate::metrics::AuditMetrics;
use crate::store::home::Change;
use crate::store::kube::{PodChange, Watched};
use crate::stream::Key;

/// How often figures are taken.
const MEASURING: Duration = Duration::from_secs(5);
/// How many pages of Pods, or as much of a watch, may wait.
const WAITING_MAX: usize = 2;

/// How the audit is kept and told.
#[derive(Clone, Debug)]
pub struct Auditing {
    /// How many namespaces have metrics of their own.
    pub namespaces: usize,
    /// Where it is told.
    pub metrics: AuditMetrics,
}

impl Auditing {
    /// Keeps the audit, and hands the changes of streams on to the importer. Ends when there will be no more of them.
    /// `silence` is how long the watch of Pods may say nothing.
    pub async fn run(
        self,
        client: Client,
        silence: Duration,
        streams: UnboundedReceiver<Change>,
        importer: UnboundedSender<Change>,
    ) {
        let (sender, pods) = mpsc::channel(WAITING_MAX);
        let auditor = Auditor { auditing: &self, state: State::default() };
        tokio::select! {
            () = Watched::pods(client, sender).given_up_after(silence).keep() => {}
            () = auditor.follow(pods, streams, importer) => {}
        }
        self.metrics.clear();
    }
}

/// What is known, and whether that is all.
#[derive(Debug, Default)]
struct State {
    audit: Audit,
    /// The Pods that a list under way has brought.
    listed: Option<HashSet<Key>>,
    has_pods: bool,
    has_streams: bool,
}

impl State {
    /// Everything was told at least once.
    fn is_complete(&self) -> bool {
        self.has_pods && self.has_streams
    }

    fn pod(&mut self, change: PodChange) {
        match change {
            PodChange::Began => self.listed = Some(HashSet::new()),
            PodChange::Applied(key, images) => {
                self.audit.apply_pod(&key, images.iter().map(|image| &**image));
                if let Some(listed) = &mut self.listed {
                    listed.insert(key);
                }
            }
            PodChange::Unreadable(key) => {
                if let Some(listed) = &mut self.listed {
                    listed.insert(key);
                }
            }
            PodChange::Deleted(key) => self.audit.delete_pod(&key),
            PodChange::Listed => {
                let listed = self.listed.take().unwrap_or_default();
                let gone: Vec<_> = self.audit.pods().filter(|pod| !listed.contains(pod)).collect();
                for pod in &gone {
                    self.audit.delete_pod(pod);
                }
                self.has_pods = true;
            }
            PodChange::Current | PodChange::Lost => {}
        }
    }

    fn stream(&mut self, change: &Change) {
        match change {
            Change::Applied(stream) => self.audit.apply_stream(stream),
            Change::Deleted(key) => self.audit.delete_stream(key),
            Change::Listed => self.has_streams = true,
            Change::Back => {}
        }
    }
}

struct Auditor<'a> {
    auditing: &'a Auditing,
    state: State,
}

impl Auditor<'_> {
    async fn follow(
        mut self,
        mut pods: Receiver<Vec<PodChange>>,
        mut streams: UnboundedReceiver<Change>,
        importer: UnboundedSender<Change>,
    ) {
        let mut measuring = tokio::time::interval(MEASURING);
        loop {
            tokio::select! {
                change = streams.recv() => {
                    let Some(change) = change else { return };
                    let was_complete = self.state.is_complete();
                    self.state.stream(&change);
                    self.look(was_complete);
                    // Whoever does not listen any more need not be told.
                    let _ = importer.send(change);
                }
                batch = pods.recv() => {
                    let Some(batch) = batch else { return };
                    for change in batch {
                        self.learn(change);
                    }
                }
                _ = measuring.tick() => self.measure(),
            }
        }
    }

    fn learn(&mut self, change: PodChange) {
        match change {
            PodChange::Current => self.auditing.metrics.synced.set(1),
            PodChange::Lost => self.auditing.metrics.synced.set(0),
            _ => {}
        }
        let was_complete = self.state.is_complete();
        self.state.pod(change);
        self.look(was_complete);
    }

    /// Tells of the first complete audit at once.
    fn look(&self, was_complete: bool) {
        if self.state.is_complete() && !was_complete {
            let stock = self.state.audit.stock();
            let containers: usize = self.state.audit.sums().map(|(_, sums)| sums.total()).sum();
            tracing::info!(containers, streams = stock.streams, unused = stock.unused, "first audit is complete");
            self.measure();
        }
    }

    fn measure(&self) {
        if self.state.is_complete() {
            let Auditing { namespaces, metrics } = self.auditing;
            metrics.measure(&self.state.audit, *namespaces, Timestamp::now().as_second());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(name: &str) -> PodChange {
        PodChange::Applied(Key::new("demo", name), vec!["app:1".into()])
    }

    fn pods(state: &State) -> Vec<Key> {
        let mut pods: Vec<_> = state.audit.pods().collect();
        pods.sort();
        pods
    }

    #[test]
    fn pod_that_a_new_list_does_not_bring_is_gone() {
        let mut state = State::default();
        for change in [PodChange::Began, applied("a"), applied("b"), PodChange::Listed, applied("c")] {
            state.pod(change);
        }
        assert_eq!(pods(&state).len(), 3);
        // A list that breaks off takes nothing away.
        for change in [PodChange::Lost, PodChange::Began, applied("a"), PodChange::Began, applied("b")] {
            state.pod(change);
        }
        assert_eq!(pods(&state).len(), 3);
        for change in [PodChange::Unreadable(Key::new("demo", "c")), PodChange::Listed] {
            state.pod(change);
        }
        assert_eq!(pods(&state), [Key::new("demo", "b"), Key::new("demo", "c")]);
        state.pod(PodChange::Deleted(Key::new("demo", "b")));
        assert_eq!(pods(&state), [Key::new("demo", "c")]);
    }

    #[test]
    fn audit_is_complete_when_pods_and_streams_were_told() {
        let mut state = State::default();
        state.pod(PodChange::Listed);
        assert!(!state.is_complete());
        state.stream(&Change::Listed);
        assert!(state.is_complete());
    }
}
