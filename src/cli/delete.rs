//! `pinstream delete`: image streams, and tags of them.

use clap::{Args, Subcommand};

use super::backend::{self, Backend, Miss, Opening, Verb, no_stream};
use super::name::{TagName, stream_name};
use super::stdout;
use super::target::{DryRunArgs, Target};
use crate::store::home::{Catalogue as _, HomeError};

/// Delete image streams, or tags of them
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  pinstream delete istag keycloak:19.0
  pinstream delete is keycloak")]
pub(super) struct Delete {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    #[command(aliases = ["imagestream", "imagestreams"])]
    Is(DeleteStreams),
    #[command(aliases = ["imagestreamtag", "imagestreamtags", "istags"])]
    Istag(DeleteTags),
}

/// Delete image streams with all their tags
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  pinstream delete is keycloak
  pinstream delete is keycloak postgres -n demo --dry-run=server")]
struct DeleteStreams {
    /// Names of the streams
    #[arg(required = true, value_name = "NAME", value_parser = stream_name)]
    names: Vec<String>,

    #[command(flatten)]
    dry_run: DryRunArgs,

    #[command(flatten)]
    target: Target,
}

/// Delete tags of image streams with their histories
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  pinstream delete istag keycloak:19.0
  pinstream delete istag keycloak:19.0 keycloak:20.0 --streams ./streams")]
struct DeleteTags {
    /// Names of the tags
    #[arg(required = true, value_name = "NAME:TAG")]
    names: Vec<TagName>,

    #[command(flatten)]
    dry_run: DryRunArgs,

    #[command(flatten)]
    target: Target,
}

impl Delete {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let opening = |dry_run: DryRunArgs| Opening { dry_run: dry_run.dry_run, ..Opening::default() };
        match self.what {
            What::Is(delete) => backend::run(&delete.target.clone(), &opening(delete.dry_run), delete),
            What::Istag(delete) => backend::run(&delete.target.clone(), &opening(delete.dry_run), delete),
        }
    }
}

impl Verb for DeleteStreams {
    async fn on<B: Backend>(self, backend: &B) -> anyhow::Result<()> {
        each(backend, "imagestream", &self.names, async |name| {
            let key = backend.key(name);
            backend.expect(&key).await?;
            if backend.pretends() {
                return Ok(());
            }
            match backend.home().delete(&key).await {
                Err(HomeError::Gone(key)) => Err(no_stream(&key).into()),
                deleted => Ok(deleted?),
            }
        })
        .await
    }
}

impl Verb for DeleteTags {
    async fn on<B: Backend>(self, backend: &B) -> anyhow::Result<()> {
        each(backend, "imagestreamtag", &self.names, async |name| {
            backend.remove_tag(&backend.key(&name.stream), &name.tag).await
        })
        .await
    }
}

/// Deletes all that are there, and then says which were not.
async fn each<B: Backend, N: std::fmt::Display>(
    backend: &B,
    kind: &str,
    names: &[N],
    delete: impl AsyncFn(&N) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let common = backend.common();
    let mut missing = Vec::new();
    for name in names {
        match delete(name).await {
            Ok(()) => {
                let dry_run = common.dry_run.suffix();
                stdout::line(&format!(
                    "{kind}.{} \"{name}\" deleted from {} namespace{dry_run}",
                    common.group, common.namespace
                ))?;
            }
            Err(error) if error.is::<Miss>() => missing.push(error.to_string()),
            Err(error) => return Err(error),
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(Miss(missing.join("\n")).into()) }
}
