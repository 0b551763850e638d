//! Who is asked for images: the client of registries, or what stands for it in tests.

use crate::registry::{self, FetchError, Fetched, Keyring};
use crate::stream::plan::Wanted;
use crate::stream::types::ImportMode;

/// Who is asked for images.
pub trait Remote: Send + Sync + 'static {
    /// The image behind a tag. `known` is a digest whose image is known already: only another one is of interest.
    fn fetch(
        &self,
        wanted: &Wanted,
        known: Option<&str>,
        keyring: &Keyring,
    ) -> impl Future<Output = Result<Fetched, FetchError>> + Send;

    /// The tags of a repository.
    fn tags(
        &self,
        repository: &str,
        insecure: bool,
        keyring: &Keyring,
    ) -> impl Future<Output = Result<Vec<String>, FetchError>> + Send;
}

impl Remote for registry::Client {
    async fn fetch(&self, wanted: &Wanted, known: Option<&str>, keyring: &Keyring) -> Result<Fetched, FetchError> {
        let wanted = registry::Wanted {
            reference: &wanted.source,
            whole_index: wanted.mode != ImportMode::Legacy,
            insecure: wanted.insecure,
            system: wanted.system.as_deref(),
            architecture: wanted.architecture.as_deref(),
            known,
        };
        registry::Client::fetch(self, &wanted, keyring).await
    }

    async fn tags(&self, repository: &str, insecure: bool, keyring: &Keyring) -> Result<Vec<String>, FetchError> {
        registry::Client::tags(self, repository, insecure, keyring).await
    }
}
