//! `pinstream set`: one property of an object set.

mod image_lookup;
mod workload;

use clap::{Args, Subcommand};

/// Set who may use image streams by short names
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  pinstream set image-lookup keycloak
  pinstream set image-lookup")]
pub(super) struct Set {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    ImageLookup(image_lookup::ImageLookup),
}

impl Set {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let What::ImageLookup(lookup) = self.what;
        lookup.run()
    }
}
