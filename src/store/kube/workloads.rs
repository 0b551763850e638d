//! Objects of a cluster changed by merge patches. Knows nothing of what is in them.

use kube::api::{Patch, PatchParams};
use kube::core::Request;
use serde_json::Value;

use super::Resource;
use super::client::answer;
use super::home::{ClusterHome, MANAGER, home_error};
use crate::store::home::HomeError;
use crate::stream::Key;

impl ClusterHome {
    /// Changes an object by a merge patch, and gives it as it is then.
    ///
    /// # Errors
    /// If the API server does not answer or refuses.
    pub async fn merge_object(&self, resource: Resource, key: &Key, patch: &Value) -> Result<Value, HomeError> {
        let Resource { api_version, kind, plural } = resource;
        let root = if api_version.contains('/') { "apis" } else { "api" };
        let params = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            dry_run: self.is_rehearsal(),
            ..PatchParams::default()
        };
        let request = Request::new(format!("/{root}/{api_version}/namespaces/{}/{plural}", key.namespace));
        let request = request.patch(&key.name, &params, &Patch::Merge(patch));
        let request = request.map_err(|error| HomeError::Refused(format!("{key}: {error}")))?;
        answer(self.client().request(request)).await.map_err(|error| home_error(key, kind, &error))
    }
}
