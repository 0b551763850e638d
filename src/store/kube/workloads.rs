//! Other objects of a cluster, read and changed one at a time, as JSON. Knows nothing of what is in them.

use kube::api::{GetParams, Patch, PatchParams};
use kube::core::Request;
use serde_json::Value;

use super::home::{ClusterHome, MANAGER, answer, home_error};
use crate::store::home::HomeError;
use crate::stream::Key;

/// A namespaced resource of the Kubernetes API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resource {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Version of it.
    pub version: &'static str,
    /// Name in paths.
    pub plural: &'static str,
}

impl Resource {
    fn of_namespace(&self, namespace: &str) -> Request {
        let Self { group, version, plural } = self;
        let api = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
        Request::new(format!("{api}/namespaces/{namespace}/{plural}"))
    }
}

impl ClusterHome {
    /// An object, `None` if it is not there.
    ///
    /// # Errors
    /// If the API server does not answer or refuses.
    pub async fn object(&self, resource: &Resource, key: &Key) -> Result<Option<Value>, HomeError> {
        let request = resource.of_namespace(&key.namespace).get(&key.name, &GetParams::default());
        match self.send(resource, key, request).await {
            Ok(object) => Ok(Some(object)),
            Err(HomeError::Gone(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Changes an object by a merge patch.
    ///
    /// # Errors
    /// If the API server does not answer or refuses.
    pub async fn merge_object(&self, resource: &Resource, key: &Key, patch: &Value) -> Result<Value, HomeError> {
        let params = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            dry_run: self.is_rehearsal(),
            ..PatchParams::default()
        };
        let request = resource.of_namespace(&key.namespace).patch(&key.name, &params, &Patch::Merge(patch));
        self.send(resource, key, request).await
    }

    async fn send(
        &self,
        resource: &Resource,
        key: &Key,
        request: Result<hyper::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<Value, HomeError> {
        let request = request.map_err(|error| HomeError::Refused(format!("{key}: {error}")))?;
        answer(self.client().request(request)).await.map_err(|error| home_error(key, resource.plural, &error))
    }
}
