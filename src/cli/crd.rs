//! `pinstream crd`: the CustomResourceDefinition of image streams.

use std::io::Write as _;

use clap::Args;

/// Print the custom resource of image streams, to install it in a cluster
///
/// OpenShift has image streams of its own and needs no custom resource.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  pinstream crd | kubectl apply --server-side -f -
  kubectl explain imagestream.spec.tags")]
pub(super) struct Crd {}

impl Crd {
    #[expect(clippy::unused_self, reason = "every command is run in the same way")]
    pub(super) fn run(self) -> anyhow::Result<()> {
        let manifest = crate::crd::manifest()?;
        // Whoever reads this may have stopped to.
        let _ = std::io::stdout().write_all(manifest.as_bytes());
        Ok(())
    }
}
