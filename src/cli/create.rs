//! `pinstream create`: new image streams, and new tags of them.

mod istag;

use clap::{Args, Subcommand};

use self::istag::CreateTag;
use super::backend::{self, Backend, Opening, Verb};
use super::name::stream_name;
use super::stdout;
use super::target::{DryRunArgs, Target};
use crate::stream::ImageStream;
use crate::stream::types::{ApiVersion, LookupPolicy};

/// Make an image stream, or a tag of one
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  pinstream create is keycloak
  pinstream create istag keycloak:20.0 --from-image quay.io/keycloak/keycloak:20.0.2
  pinstream create is keycloak --lookup-local --streams ./streams")]
pub(super) struct Create {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    #[command(alias = "imagestream")]
    Is(CreateStream),
    #[command(alias = "imagestreamtag")]
    Istag(Box<CreateTag>),
}

/// Make an image stream without tags
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  pinstream create is keycloak
  pinstream create is keycloak --lookup-local -n demo")]
struct CreateStream {
    /// Name of the stream
    #[arg(value_parser = stream_name)]
    name: String,

    /// Let the objects of the namespace use the stream by its short name
    #[arg(long)]
    lookup_local: bool,

    #[command(flatten)]
    dry_run: DryRunArgs,

    #[command(flatten)]
    target: Target,
}

impl Create {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.what {
            What::Is(create) => {
                let opening = Opening { dry_run: create.dry_run.dry_run, ..Opening::default() };
                backend::run(&create.target.clone(), &opening, create)
            }
            What::Istag(create) => create.run(),
        }
    }
}

impl Verb for CreateStream {
    async fn on<B: Backend>(self, backend: &B) -> anyhow::Result<()> {
        let key = backend.key(&self.name);
        let mut wanted = ImageStream { api_version: ApiVersion::Pinstream, ..ImageStream::default() };
        wanted.metadata.name.clone_from(&self.name);
        wanted.spec.lookup_policy = LookupPolicy { local: self.lookup_local };
        backend
            .change(&key, |before| {
                anyhow::ensure!(
                    before.is_none(),
                    "there is an image stream {} in namespace {} already",
                    key.name,
                    key.namespace
                );
                Ok(wanted.clone())
            })
            .await?;
        let common = backend.common();
        stdout::line(&format!("imagestream.{}/{} created{}", common.group, self.name, common.dry_run.suffix()))?;
        Ok(())
    }
}
