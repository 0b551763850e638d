//! What can be watched: image streams, wherever a cluster has them, Pods, and namespaces that say their level of the policy.
//! How each is asked for, and what it is called.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};

use kube::Client;
use kube::api::{ListParams, WatchParams};
use kube::core::Request;

use super::error::{WatchError, answer};
use crate::backoff::Backoff;
use crate::crd::PLURAL;
use crate::policy::LEVEL_LABEL;
use crate::store::kube::objects::Served;

/// Pods that have not ended.
const ALIVE: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// Which image streams of a cluster are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preference {
    /// OpenShift's where the cluster serves them, else the custom resource.
    Auto,
    /// `image.openshift.io/v1`.
    OpenShift,
    /// The custom resource `pinstream.dev/v1`.
    Pinstream,
}

/// What somebody wants to have watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store::kube) enum Subject {
    /// Image streams.
    Streams(Preference),
    /// Pods that have not ended.
    Pods,
    /// The levels of the policy that namespaces say by their label.
    Levels,
}

impl Subject {
    /// Where a cluster has it.
    pub(super) async fn find(self, client: &Client) -> Result<Collection, WatchError> {
        match self {
            Self::Streams(preference) => discover(client, preference).await.map(Collection::Streams),
            Self::Pods => Ok(Collection::Pods),
            Self::Levels => Ok(Collection::Levelled),
        }
    }

    /// As sentences name it.
    pub(super) fn noun(self) -> &'static str {
        match self {
            Self::Streams(_) => "image streams",
            Self::Pods => "Pods",
            Self::Levels => "levels of namespaces",
        }
    }

    /// What is not to be had before it was read for the first time.
    pub(super) fn consequence(self) -> &'static str {
        match self {
            Self::Streams(_) => "not ready before they can",
            Self::Pods => "no audit before they can",
            Self::Levels => "flags say them until they can",
        }
    }
}

/// Objects of all namespaces, as an API server serves them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store::kube) enum Collection {
    /// Image streams.
    Streams(Served),
    /// Pods that have not ended.
    Pods,
    /// Namespaces with a label that says their level.
    Levelled,
}

impl Collection {
    pub(super) fn request(self) -> Request {
        match self {
            Self::Streams(served) => served.request(),
            Self::Pods => Request::new("/api/v1/pods"),
            Self::Levelled => Request::new("/api/v1/namespaces"),
        }
    }

    /// Which objects a list asks for, and how many at a time. A page is in memory as a whole while it is read.
    pub(in crate::store::kube) fn list(self) -> ListParams {
        match self {
            Self::Streams(_) => ListParams::default().limit(100),
            Self::Pods => ListParams::default().limit(500).fields(ALIVE),
            Self::Levelled => ListParams::default().limit(500).labels(LEVEL_LABEL),
        }
    }

    pub(super) fn watch(self) -> WatchParams {
        match self {
            Self::Streams(_) => WatchParams::default(),
            Self::Pods => WatchParams::default().fields(ALIVE),
            Self::Levelled => WatchParams::default().labels(LEVEL_LABEL),
        }
    }

    /// What lets a process read them.
    pub(super) fn right(self) -> String {
        match self {
            Self::Streams(_) => {
                format!("allow get, list and watch on {self} in all namespaces by a ClusterRole and its binding")
            }
            Self::Pods => format!(
                "allow list and watch on {self} in all namespaces by a ClusterRole and its binding, or turn the audit off \
                 with --no-audit"
            ),
            Self::Levelled => format!(
                "allow list and watch on {self} by a ClusterRole and its binding, or leave their labels aside with \
                 --policy-ignore-labels"
            ),
        }
    }
}

/// As RBAC and error messages name it: `imagestreams.GROUP`.
impl fmt::Display for Collection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Streams(served) => served.fmt(f),
            Self::Pods => f.write_str("pods"),
            Self::Levelled => f.write_str("namespaces"),
        }
    }
}

/// Whether the streams of a cluster are OpenShift's, which imports them itself. Asks until the cluster answers.
pub async fn is_openshift(client: &Client, preference: Preference) -> bool {
    let mut backoff = Backoff::default();
    loop {
        match discover(client, preference).await {
            Ok(served) => return served == Served::OpenShift,
            Err(error) => {
                let wait = backoff.next_after(error.patience(), RandomState::new().hash_one(()));
                let retry_seconds = wait.as_secs_f64();
                tracing::warn!(%error, retry_seconds, "it cannot be told yet whether this is OpenShift");
                tokio::time::sleep(wait).await;
            }
        }
    }
}

/// Which resource the streams of a cluster are.
pub(in crate::store::kube) async fn discover(client: &Client, preference: Preference) -> Result<Served, WatchError> {
    let openshift = Served::OpenShift;
    let is_openshift = match preference {
        Preference::OpenShift => true,
        Preference::Pinstream => false,
        Preference::Auto => {
            let group = openshift.api_version();
            match answer(client.list_api_group_resources(&group), Collection::Streams(openshift)).await {
                Ok(served) => served.resources.iter().any(|served| served.name == PLURAL),
                Err(WatchError::NoOpenShift(_)) => false,
                Err(error) => return Err(error),
            }
        }
    };
    Ok(if is_openshift { openshift } else { Served::Pinstream })
}
