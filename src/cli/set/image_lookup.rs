//! `pinstream set image-lookup`: whether short names are looked up in a stream, or for a workload in all streams.

use clap::Args;
use serde_json::{Value, json};

use super::workload::{self, Name};
use crate::cli::backend::{self, Backend, Miss, Opening, Verb, no_stream};
use crate::cli::output::Structure;
use crate::cli::selector::Selector;
use crate::cli::stdout;
use crate::cli::target::{DryRunArgs, Target};
use crate::store::home::Catalogue as _;
use crate::stream::types::LookupPolicy;
use crate::stream::{ImageStream, Key};

/// Let objects of the namespace use image streams by their short names, or list which may be
///
/// Without names and without --all and --selector it lists. A workload, TYPE/NAME, gets the annotation that looks up all
/// its images whatever the streams say; its pods are replaced then.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  pinstream set image-lookup keycloak
  pinstream set image-lookup keycloak --enabled=false
  pinstream set image-lookup --all
  pinstream set image-lookup
  pinstream set image-lookup deploy/web
  pinstream set image-lookup deploy/web --list")]
pub(super) struct ImageLookup {
    /// Streams, and on a cluster workloads, such as deploy/web
    #[arg(value_name = "NAME|TYPE/NAME", value_parser = workload::name)]
    names: Vec<Name>,

    /// Whether short names are looked up
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    enabled: bool,

    /// Set it for all streams of the namespace
    #[arg(long, conflicts_with = "names")]
    all: bool,

    /// Only list what is set
    #[arg(long)]
    list: bool,

    /// Streams with these labels
    #[arg(short = 'l', long, value_name = "LABELS", conflicts_with_all = ["names", "all"])]
    selector: Option<Selector>,

    /// Print the list as an object
    #[arg(short, long, value_name = "FORMAT", conflicts_with = "all")]
    output: Option<Structure>,

    #[command(flatten)]
    dry_run: DryRunArgs,

    #[command(flatten)]
    target: Target,
}

impl ImageLookup {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let opening = Opening { dry_run: self.dry_run.dry_run, ..Opening::default() };
        backend::run(&self.target.clone(), &opening, self)
    }

    /// The streams that no name was said for.
    async fn selected<B: Backend>(&self, backend: &B) -> anyhow::Result<Vec<ImageStream>> {
        let streams = backend.home().list(Some(&backend.common().namespace)).await?;
        let is_selected = |stream: &ImageStream| {
            self.selector.as_ref().is_none_or(|selector| selector.matches(&stream.metadata.labels))
        };
        Ok(streams.into_iter().map(|stored| stored.stream).filter(is_selected).collect())
    }

    async fn list<B: Backend>(&self, backend: &B) -> anyhow::Result<()> {
        let mut rows = Vec::new();
        for name in &self.names {
            let is_local = match name {
                Name::Stream(name) => backend.expect(&backend.key(name)).await?.stream.spec.lookup_policy.local,
                Name::Workload(workload, name) => workload.is_forced(&read(backend, workload, name).await?),
            };
            rows.push((name.to_string(), is_local));
        }
        if self.names.is_empty() {
            let streams = self.selected(backend).await?;
            rows.extend(streams.into_iter().map(|stream| (stream.metadata.name, stream.spec.lookup_policy.local)));
        }
        if rows.is_empty() {
            eprintln!("No image streams found in {} namespace.", backend.common().namespace);
        }
        match self.output {
            Some(structure) => {
                let items = rows.iter().map(|(name, local)| json!({"name": name, "local": local}));
                stdout::print(&structure.text(&json!({"items": items.collect::<Vec<_>>()}))?)?;
            }
            None if rows.is_empty() => {}
            None => {
                stdout::print(&table(&rows))?;
            }
        }
        Ok(())
    }

    async fn set<B: Backend>(&self, backend: &B) -> anyhow::Result<()> {
        for name in &self.names {
            match name {
                Name::Stream(name) => self.set_stream(backend, name).await?,
                Name::Workload(workload, name) => self.set_workload(backend, workload, name).await?,
            }
        }
        if self.names.is_empty() {
            let streams = self.selected(backend).await?;
            if streams.is_empty() {
                return Err(Miss(format!("no image streams found in namespace {}", backend.common().namespace)).into());
            }
            for stream in streams {
                self.set_stream(backend, &stream.metadata.name).await?;
            }
        }
        Ok(())
    }

    async fn set_stream<B: Backend>(&self, backend: &B, name: &str) -> anyhow::Result<()> {
        let key = backend.key(name);
        let before = backend.expect(&key).await?.stream.spec.lookup_policy;
        let wanted = LookupPolicy { local: self.enabled };
        let with_policy = |before: Option<&ImageStream>| {
            let mut stream = before.ok_or_else(|| no_stream(&key))?.clone();
            stream.spec.lookup_policy = wanted;
            Ok(stream)
        };
        backend.change(&key, with_policy).await?;
        say(backend, &format!("imagestream.{}/{name}", backend.common().group), before != wanted)?;
        Ok(())
    }

    async fn set_workload<B: Backend>(&self, backend: &B, workload: &workload::Kind, name: &str) -> anyhow::Result<()> {
        let object = read(backend, workload, name).await?;
        let patch = workload.patch(&object, self.enabled);
        let cluster = backend.cluster().filter(|_| !backend.pretends());
        if let (Some(patch), Some(cluster)) = (&patch, cluster) {
            cluster.merge_object(workload.resource, &backend.key(name), patch).await?;
        }
        say(backend, &format!("{}/{name}", workload.singular()), patch.is_some())?;
        Ok(())
    }
}

/// Says what was done to an object.
fn say<B: Backend>(backend: &B, object: &str, is_changed: bool) -> anyhow::Result<()> {
    let done = if is_changed { "updated" } else { "unchanged" };
    stdout::line(&format!("{object} image lookup {done}{}", backend.common().dry_run.suffix()))
}

async fn read<B: Backend>(backend: &B, workload: &workload::Kind, name: &str) -> anyhow::Result<Value> {
    let Some(cluster) = backend.cluster() else {
        anyhow::bail!(
            "{}/{name} is an object of a cluster, and a directory has image streams only; leave out --streams",
            workload.singular()
        );
    };
    let key: Key = backend.key(name);
    let object = cluster.object(workload.resource, &key).await?;
    object.ok_or_else(|| {
        Miss(format!("there is no {}/{name} in namespace {}", workload.singular(), key.namespace)).into()
    })
}

/// The table of names with what is set for them.
fn table(rows: &[(String, bool)]) -> String {
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default().max("NAME".len());
    let line = |name: &str, value: &str| format!("{name:width$}  {value}\n");
    line("NAME", "LOCAL") + &rows.iter().map(|(name, is_local)| line(name, &is_local.to_string())).collect::<String>()
}

impl Verb for ImageLookup {
    async fn on<B: Backend>(self, backend: &B) -> anyhow::Result<()> {
        let says_nothing = self.names.is_empty() && !self.all && self.selector.is_none();
        if self.list || says_nothing {
            return self.list(backend).await;
        }
        anyhow::ensure!(self.output.is_none(), "--output is of a list; write --list too, such as: --list -o json");
        self.set(backend).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_has_two_spaces_between_its_columns() {
        let rows = [("keycloak".to_owned(), true), ("deployments/web".to_owned(), false)];
        assert_eq!(table(&rows), "NAME             LOCAL\nkeycloak         true\ndeployments/web  false\n");
        assert_eq!(table(&[("a".to_owned(), true)]), "NAME  LOCAL\na     true\n");
    }
}
