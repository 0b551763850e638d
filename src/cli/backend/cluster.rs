//! The image streams of a cluster, of either API group. A controller imports; commands wait for it.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use tokio::time::Instant;

use super::{Backend, Common, OPENSHIFT, Opening, pending, remove_from_stream};
use crate::cli::target::{DryRun, Target, WaitArgs};
use crate::config::RegistryArgs;
use crate::controller::agenda::WHOLE_STREAM;
use crate::registry::Registries;
use crate::store::home::{Home as _, HomeError};
use crate::store::kube::{Access, ClusterHome, Preference, Resource, connect};
use crate::stream::Key;
use crate::stream::types::ImportMode;

/// How often a stream is looked at while it is imported.
const LOOK: Duration = Duration::from_millis(300);
/// Whoever waits longer than this is told for what.
const PATIENCE: Duration = Duration::from_secs(1);

/// A cluster.
pub(in crate::cli) struct ClusterBackend {
    home: ClusterHome,
    common: Common,
    wait: WaitArgs,
}

impl ClusterBackend {
    pub(in crate::cli) async fn open(target: &Target, opening: &Opening) -> anyhow::Result<Self> {
        let access = Access { kubeconfig: target.kubeconfig.clone(), context: target.context.clone() };
        let client = connect(&access).await?;
        let namespace = target.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
        let home = ClusterHome::find(client, Preference::Auto, opening.dry_run == DryRun::Server).await?;
        let version = home.api_version();
        let common = Common {
            namespace,
            group: version.split('/').next().unwrap_or_default().to_owned(),
            dry_run: opening.dry_run,
            // Left to the cluster.
            default_mode: ImportMode::Unset,
            registries: opening.registry.as_ref().map_or_else(Registries::default, RegistryArgs::registries),
        };
        Ok(Self { home, common, wait: opening.wait })
    }
}

impl Backend for ClusterBackend {
    type Home = ClusterHome;

    fn home(&self) -> &ClusterHome {
        &self.home
    }

    fn common(&self) -> &Common {
        &self.common
    }

    fn writes_status(&self) -> bool {
        false
    }

    fn cluster(&self) -> Option<&ClusterHome> {
        Some(&self.home)
    }

    async fn remove_tag(&self, key: &Key, tag: &str) -> anyhow::Result<()> {
        if self.common.group != OPENSHIFT || self.pretends() {
            return remove_from_stream(self, key, tag).await;
        }
        match self.home.delete_tag(key, tag).await {
            // Nobody knows the tag, or nobody the resource of tags.
            Err(HomeError::Gone(_)) => remove_from_stream(self, key, tag).await,
            deleted => Ok(deleted?),
        }
    }

    async fn import(&self, key: &Key, tags: &[String]) -> anyhow::Result<()> {
        if !self.wait.wait || self.common.dry_run != DryRun::None {
            return Ok(());
        }
        let began = Instant::now();
        let mut is_told = false;
        loop {
            let Some(stored) = self.home.read(key).await? else { return Ok(()) };
            let waiting = pending(&stored.stream).into_iter().filter(|tag| tags.contains(tag)).collect::<Vec<_>>();
            if waiting.is_empty() {
                return Ok(());
            }
            let waiting = waiting.iter().map(|tag| if tag == WHOLE_STREAM { "its repository" } else { tag });
            let waiting = waiting.collect::<Vec<_>>().join(", ");
            anyhow::ensure!(
                began.elapsed() < self.wait.timeout,
                "{key}: {waiting} was not imported within {} s; is the controller running? See how far it is with: \
                 pinstream describe is {}, or do not wait with --wait=false",
                self.wait.timeout.as_secs(),
                key.name
            );
            if !is_told && began.elapsed() > PATIENCE && std::io::stderr().is_terminal() {
                eprintln!("waiting for the import of {waiting} of {key} ...");
                is_told = true;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn running(&self, namespace: &str) -> anyhow::Result<Option<BTreeMap<String, usize>>> {
        Ok(Some(self.home.running(namespace).await?))
    }

    async fn object(&self, resource: Resource, key: &Key) -> anyhow::Result<Option<serde_json::Value>> {
        Ok(self.home.object(resource, key).await?)
    }

    async fn namespace_label(&self, namespace: &str, label: &str) -> Option<String> {
        self.home.labels(namespace).await.get(label)?.as_str().map(str::to_owned)
    }
}
