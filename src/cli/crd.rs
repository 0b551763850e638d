//! `pinstream crd`: the CustomResourceDefinitions.

use std::io::Write as _;

use anyhow::Context as _;
use clap::Args;

use crate::crd;

/// Print the custom resources, to install them in a cluster
///
/// Image streams, and the images that importing found. OpenShift has both of its own and needs no custom resources.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  pinstream crd | kubectl apply --server-side -f -
  pinstream crd imagestreams
  kubectl explain imagestream.spec.tags")]
pub(super) struct Crd {
    /// Only this one: imagestreams or images
    resource: Option<String>,
}

impl Crd {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let all = crd::all();
        let wanted: Vec<_> =
            all.iter().filter(|known| self.resource.as_deref().is_none_or(|name| name == known.plural)).collect();
        anyhow::ensure!(!wanted.is_empty(), "there is no such custom resource; write imagestreams or images");
        let manifests: Result<Vec<_>, _> = wanted.into_iter().map(crd::Resource::manifest).collect();
        let text = manifests.context("a custom resource has no YAML form")?.join("---\n");
        // Whoever reads this may have stopped to.
        let _ = std::io::stdout().write_all(text.as_bytes());
        Ok(())
    }
}
