//! A directory of image streams. Commands import by themselves, at once.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context as _;

use super::{Backend, Common, Opening};
use crate::cli::target::{DryRun, Target};
use crate::controller::agenda::Rules;
use crate::controller::import::{Settings, import_now};
use crate::metrics::Metrics;
use crate::registry::{self, DockerConfig, Registries};
use crate::store::directory::{Directory, DirectoryHome};
use crate::store::kube::Resource;
use crate::stream::Key;
use crate::stream::types::ImportMode;

/// A directory.
pub(in crate::cli) struct DirectoryBackend {
    home: DirectoryHome,
    common: Common,
    /// How registries are asked, if they are to be.
    registry: Option<registry::Settings>,
}

impl DirectoryBackend {
    pub(in crate::cli) async fn open(root: &Path, target: &Target, opening: &Opening) -> anyhow::Result<Self> {
        let registry = opening.registry.as_ref().map(crate::config::RegistryArgs::settings).transpose()?;
        let common = Common {
            namespace: target.namespace.clone().unwrap_or_else(|| "default".to_owned()),
            group: crate::crd::GROUP.to_owned(),
            dry_run: opening.dry_run,
            default_mode: ImportMode::PreserveOriginal,
            registries: registry.as_ref().map_or_else(Registries::default, |settings| settings.registries.clone()),
        };
        let root = root.to_owned();
        let default_mode = common.default_mode;
        let opened = tokio::task::spawn_blocking(move || {
            let mut directory = Directory::new(root.clone(), None);
            let look = directory.look(SystemTime::now());
            for (path, problem) in look.new_problems {
                tracing::warn!(path = %path.display(), %problem, "image streams cannot be read from here");
            }
            anyhow::ensure!(directory.is_readable(), "the directory {} cannot be read", root.display());
            let logins = DockerConfig::usual(|variable| std::env::var_os(variable));
            DirectoryHome::open(&root, directory.owners(), default_mode, logins)
                .with_context(|| format!("nothing can be written into {}", root.display()))
        });
        let registry = registry.filter(|_| opening.wait.wait && opening.dry_run == DryRun::None);
        Ok(Self { home: opened.await??, common, registry })
    }
}

impl Backend for DirectoryBackend {
    type Home = DirectoryHome;

    fn home(&self) -> &DirectoryHome {
        &self.home
    }

    fn common(&self) -> &Common {
        &self.common
    }

    fn writes_status(&self) -> bool {
        true
    }

    async fn import(&self, key: &Key, tags: &[String]) -> anyhow::Result<()> {
        let Some(registry) = &self.registry else { return Ok(()) };
        let metrics = Metrics::new()?.import;
        let remote = registry::Client::new(registry, metrics.registry_requests.clone())?;
        let settings = Settings {
            rules: Rules { interval: std::time::Duration::from_mins(15), scheduled_per_minute: 1 },
            default_mode: self.common.default_mode,
            repository_tags_max: 50,
            registry_host: None,
        };
        Ok(import_now(Arc::new(self.home.clone()), Arc::new(remote), settings, metrics, key, tags).await?)
    }

    async fn running(&self, _namespace: &str) -> anyhow::Result<Option<BTreeMap<String, usize>>> {
        Ok(None)
    }

    async fn object(&self, resource: Resource, key: &Key) -> anyhow::Result<Option<serde_json::Value>> {
        anyhow::bail!(
            "a directory has image streams and no {}; leave out --streams to ask the cluster for {}, or explain an image, \
             such as keycloak:20.0",
            resource.plural,
            key.name
        )
    }

    async fn namespace_label(&self, _namespace: &str, _label: &str) -> Option<String> {
        None
    }
}
