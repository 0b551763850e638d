//! What is known of one image: the object that `describe` shows. Pure.

use serde::{Deserialize, Serialize};

/// What is known of one image, named by its digest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Image {
    digest: String,
}

impl Image {
    /// Name of the resource.
    #[must_use]
    pub fn resource_name(digest: &str) -> String {
        digest.replacen(':', "-", 1)
    }
    /// Digest.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }
    /// As stored.
    #[must_use]
    pub fn as_custom_resource(&self) -> Self {
        self.clone()
    }
}
