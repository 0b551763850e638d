//! `pinstream registry gc`: what no image stream refers to is shown, and on request deleted.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};

use crate::cli::backend::{self, Backend, Opening, Verb};
use crate::cli::output::Structure;
use crate::cli::stdout;
use crate::cli::table::table;
use crate::cli::target::Target;
use crate::config::StorageArgs;
use crate::metrics::Metrics;
use crate::mirror::storage::garbage::{self, Garbage};
use crate::mirror::storage::{Kept, Storage};
use crate::store::home::Catalogue as _;

/// Show what is kept and no image stream refers to, and delete it with --delete
///
/// The histories of all tags of all namespaces count, with the images of an index, configurations and layers. Registries may
/// go on serving meanwhile.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  pinstream registry gc --storage s3://images/pinstream
  pinstream registry gc --storage /var/lib/pinstream --min-age 168h --delete
  pinstream registry gc --storage ./registry-data --streams ./streams -o json")]
pub(in crate::cli) struct Gc {
    /// Delete it
    #[arg(long)]
    delete: bool,

    /// Leave alone what was used less than this ago; in a bucket, what came less than this ago
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = crate::config::duration)]
    min_age: Duration,

    /// Print it for programs
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Structure>,

    #[command(flatten)]
    storage: StorageArgs,

    /// Work on a directory of image streams. Without it, on the cluster of the kubeconfig
    #[arg(long, value_name = "DIR", env = "PINSTREAM_STREAMS", help_heading = "Where")]
    streams: Option<PathBuf>,

    /// Kubeconfig to reach the cluster with. Without it, the Pod's ServiceAccount, else the usual kubeconfig
    #[arg(long, value_name = "FILE", env = "PINSTREAM_KUBECONFIG", help_heading = "Where")]
    kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig
    #[arg(long, value_name = "NAME", env = "PINSTREAM_CONTEXT", help_heading = "Where")]
    context: Option<String>,
}

impl Gc {
    pub(in crate::cli) fn run(self) -> anyhow::Result<()> {
        let (streams, kubeconfig, context) = (self.streams.clone(), self.kubeconfig.clone(), self.context.clone());
        let target = Target { streams, namespace: None, kubeconfig, context };
        backend::run(&target, &Opening::to_read(), self)
    }
}

impl Verb for Gc {
    async fn on<B: Backend>(self, backend: &B) -> anyhow::Result<()> {
        let place = self.storage.place()?;
        let storage = Storage::open_to_manage(&place, Metrics::new()?.storage).await?;
        // What comes to a stream from now on was pulled a short while ago, or will be pulled again.
        let streams = backend.home().list(None).await?;
        let images = garbage::referred(streams.iter().map(|stored| &stored.stream));
        if self.delete {
            let unread = backend.unread();
            anyhow::ensure!(
                unread == 0,
                "files of image streams cannot be read ({unread}), so it is not known what they refer to; put them right first"
            );
            anyhow::ensure!(
                !images.is_empty(),
                "no image stream refers to an image, so that all would be deleted; look whether these are the right streams, and \
                 if they are delete {place} itself"
            );
        }
        let garbage = garbage::find(&storage, images, self.min_age).await?;
        if self.delete {
            for kept in &garbage.unreferred {
                storage.delete(&kept.digest).await.with_context(|| format!("{} was not deleted", kept.digest))?;
            }
            storage.forget_strays().await?;
        }
        self.print(&garbage)
    }
}

impl Gc {
    fn print(&self, garbage: &Garbage) -> anyhow::Result<()> {
        if let Some(structure) = self.output {
            stdout::print(&structure.text(&self.object(garbage))?)?;
            return Ok(());
        }
        if !garbage.unreferred.is_empty() {
            stdout::print(&table(&["DIGEST", "BYTES", "AGE"], &rows(&garbage.unreferred)))?;
        }
        eprintln!("{}", self.summary(garbage));
        Ok(())
    }

    fn object(&self, garbage: &Garbage) -> Value {
        let item =
            |kept: &Kept| json!({"digest": kept.digest.as_str(), "bytes": kept.size, "ageSeconds": kept.age.as_secs()});
        let total = |kept: &[Kept]| json!({"objects": kept.len(), "bytes": bytes(kept)});
        json!({
            "deleted": self.delete,
            "unreferred": total(&garbage.unreferred),
            "young": total(&garbage.young),
            "referred": total(&garbage.referred),
            "items": garbage.unreferred.iter().map(item).collect::<Vec<_>>(),
        })
    }

    fn summary(&self, garbage: &Garbage) -> String {
        let (count, size) = (garbage.unreferred.len(), bytes(&garbage.unreferred));
        let done = match (self.delete, count) {
            (_, 0) => "nothing to delete".to_owned(),
            (true, _) => format!("deleted {count} with {size} bytes"),
            (false, _) => format!("would delete {count} with {size} bytes; --delete does it"),
        };
        let (young, referred) = (garbage.young.len(), garbage.referred.len());
        format!("{done}. {referred} are referred to, {young} are not but too young")
    }
}

fn bytes(kept: &[Kept]) -> u64 {
    kept.iter().map(|kept| kept.size).sum()
}

fn rows(kept: &[Kept]) -> Vec<Vec<String>> {
    let age = |kept: &Kept| match kept.age.as_secs() / 3600 {
        hours @ 0..48 => format!("{hours}h"),
        hours => format!("{}d", hours / 24),
    };
    kept.iter().map(|kept| vec![kept.digest.to_string(), kept.size.to_string(), age(kept)]).collect()
}
