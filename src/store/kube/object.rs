//! Objects of a cluster read as they are, one at a time: workloads, namespaces.

use kube::api::GetParams;
use kube::core::Request;
use serde_json::Value;

use super::client::answer;
use super::home::{ClusterHome, home_error};
use crate::store::home::HomeError;
use crate::stream::Key;

/// A kind of object of the Kubernetes API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Group and version; `v1` for the core group.
    pub api_version: &'static str,
    /// Kind.
    pub kind: &'static str,
    /// Name of the collection, as it is in paths.
    pub plural: &'static str,
}

impl ClusterHome {
    /// An object as it is stored now, `None` if there is none.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn object(&self, resource: Resource, key: &Key) -> Result<Option<Value>, HomeError> {
        let path = format!("{}/namespaces/{}/{}", root(resource.api_version), key.namespace, resource.plural);
        self.get(&path, resource.kind, key).await
    }

    /// The labels of a namespace, or nothing if it may not be read.
    pub async fn labels(&self, namespace: &str) -> Value {
        let namespace = self.get("/api/v1/namespaces", "Namespace", &Key::new("", namespace)).await;
        namespace
            .ok()
            .flatten()
            .and_then(|namespace| namespace.pointer("/metadata/labels").cloned())
            .unwrap_or_default()
    }

    async fn get(&self, path: &str, kind: &str, key: &Key) -> Result<Option<Value>, HomeError> {
        let request = Request::new(path).get(&key.name, &GetParams::default());
        let request = request.map_err(|error| HomeError::Refused(format!("{key}: {error}")))?;
        match answer(self.client().request(request)).await.map_err(|error| home_error(key, kind, &error)) {
            Ok(object) => Ok(Some(object)),
            Err(HomeError::Gone(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn root(api_version: &str) -> String {
    if api_version.contains('/') { format!("/apis/{api_version}") } else { format!("/api/{api_version}") }
}
