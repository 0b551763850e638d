//! Flags of the storage of the pull-through registry.

use std::path::PathBuf;

use clap::Args;

use super::parse::bytes;
use crate::mirror::storage::{Place, StorageError};

/// Where images are kept.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Storage")]
pub struct StorageArgs {
    /// Where images are kept: a directory, or a bucket such as s3://bucket/prefix, gs://bucket/prefix or
    /// az://container/prefix. Credentials of a bucket are taken from the environment: AWS_*, GOOGLE_*, AZURE_*
    #[arg(long, value_name = "DIR|URL", env = "PINSTREAM_STORAGE", default_value = "registry-data")]
    storage: String,

    /// Address of the server that has the bucket, where it is not its cloud's own: http://minio:9000
    #[arg(long, value_name = "URL", env = "PINSTREAM_STORAGE_ENDPOINT")]
    storage_endpoint: Option<String>,

    /// The bucket's server may be spoken to without TLS
    #[arg(long, env = "PINSTREAM_STORAGE_ALLOW_HTTP")]
    storage_allow_http: bool,
}

impl StorageArgs {
    /// Where that is.
    ///
    /// # Errors
    /// If it is neither a directory nor a bucket.
    pub fn place(&self) -> Result<Place, StorageError> {
        // What is no text is no option.
        let environment =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let mut place = Place::parse(&self.storage, environment)?;
        if let Some(endpoint) = &self.storage_endpoint {
            place = place.with_option("endpoint", endpoint);
        }
        Ok(if self.storage_allow_http { place.with_option("allow_http", "true") } else { place })
    }
}

/// Where and how much a registry keeps.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Storage")]
pub struct KeepArgs {
    /// Where.
    #[command(flatten)]
    pub storage: StorageArgs,

    /// How much a directory may keep, such as 100GiB. What was used least lately is taken out for what is new. Without it,
    /// all is kept
    #[arg(long, value_name = "SIZE", env = "PINSTREAM_STORAGE_BUDGET", value_parser = bytes)]
    storage_budget: Option<u64>,

    /// Take out what current tags need too, if there is no other room
    #[arg(long, env = "PINSTREAM_STORAGE_EVICT_NEEDED")]
    storage_evict_needed: bool,

    /// Folder for what is being downloaded into a bucket. Without it, one in the system's folder for temporary files
    #[arg(long, value_name = "DIR", env = "PINSTREAM_STORAGE_SPOOL")]
    storage_spool: Option<PathBuf>,
}

impl KeepArgs {
    /// Where that is, and how much.
    ///
    /// # Errors
    /// If it is neither a directory nor a bucket.
    pub fn place(&self) -> Result<Place, StorageError> {
        let mut place = self.storage.place()?;
        place.spool.clone_from(&self.storage_spool);
        place.budget = self.storage_budget;
        place.evict_needed = self.storage_evict_needed;
        Ok(place)
    }
}
