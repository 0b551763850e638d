//! A directory of image streams. Commands import by themselves, at once.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
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
use crate::stream::places::Places;
use crate::stream::pullspec::RegistryHost;
use crate::stream::types::ImportMode;

/// Import mode of tags that say none.
const DEFAULT_MODE: ImportMode = ImportMode::PreserveOriginal;

/// A directory.
pub(in crate::cli) struct DirectoryBackend {
    home: DirectoryHome,
    /// Which file defines which stream.
    directory: Arc<Mutex<Directory>>,
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
            // What nobody said is not written into files.
            default_mode: ImportMode::Unset,
            registries: registry.as_ref().map_or_else(Registries::default, |settings| settings.registries.clone()),
        };
        let root = root.to_owned();
        let only_reads = opening.only_reads;
        let opened = tokio::task::spawn_blocking(move || {
            let mut directory = Directory::new(root.clone(), Places::default());
            look(&mut directory)?;
            let owners = directory.owners();
            let home = if only_reads {
                DirectoryHome::open_to_read(&root, owners, DEFAULT_MODE, None)
            } else {
                let logins = DockerConfig::usual(|variable| std::env::var_os(variable));
                DirectoryHome::open(&root, owners, DEFAULT_MODE, logins)
                    .with_context(|| format!("nothing can be written into {}", root.display()))?
            };
            anyhow::Ok((home, Arc::new(Mutex::new(directory))))
        });
        let registry = registry.filter(|_| opening.wait.wait && opening.dry_run == DryRun::None);
        let (home, directory) = opened.await??;
        Ok(Self { home, directory, common, registry })
    }
}

/// Reads what changed in a directory, and tells which files cannot be read.
fn look(directory: &mut Directory) -> anyhow::Result<()> {
    for (path, problem) in directory.look(SystemTime::now()).new_problems {
        anyhow::ensure!(path != directory.root(), "{}: {problem}", path.display());
        tracing::warn!(path = %path.display(), %problem, "image streams cannot be read from here");
    }
    Ok(())
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

    fn unread(&self) -> usize {
        self.directory.lock().unwrap_or_else(PoisonError::into_inner).problem_count()
    }

    async fn refresh(&self) -> anyhow::Result<()> {
        let directory = Arc::clone(&self.directory);
        // One that was being read when its reader failed is read on from there.
        let looked = move || look(&mut directory.lock().unwrap_or_else(PoisonError::into_inner));
        tokio::task::spawn_blocking(looked).await?
    }

    async fn import(&self, key: &Key, tags: &[String]) -> anyhow::Result<()> {
        let Some(registry) = &self.registry else { return Ok(()) };
        let metrics = Metrics::new()?.import;
        let remote = registry::Client::new(registry, metrics.registry_requests.clone())?;
        let settings = Settings {
            rules: Rules { interval: std::time::Duration::from_mins(15), scheduled_per_minute: 1 },
            default_mode: DEFAULT_MODE,
            repository_tags_max: 50,
            // Whoever serves the directory knows.
            registry_host: RegistryHost::Unknown,
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
