//! A cluster as the place where streams are written: the custom resource, its images, pull secrets, Pods and events.
//!
//! Every write names the version that was read and touches only what differs, so that no field that this client does not
//! know is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use jiff::Timestamp;
use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, TestOperation};
use k8s_openapi::api::core::v1::{Event, ObjectReference, Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Client;
use kube::api::{Api, GetParams, ListParams, ObjectMeta, PatchParams, PostParams};
use kube::core::Request;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::client::{answer, causes};
use super::keyrings::Keyrings;
use super::objects::Served;
use super::patience::patience;
use super::watch::{Preference, discover};
use crate::crd::IMAGES_PLURAL;
use crate::image::Image;
use crate::registry::Keyring;
use crate::store::home::{Home, HomeError, News, Stored};
use crate::stream::{ImageStream, Key};

/// Who writes, as the API server keeps it.
pub(super) const MANAGER: &str = "pinstream";
/// Objects asked for at a time.
pub(super) const PAGE_SIZE: u32 = 500;
/// Annotation of a Secret that is not to be used.
const EXCLUDED: &str = "openshift.io/image.excludeSecret";
/// Kinds of Secrets that hold registry credentials.
const SECRET_TYPES: [&str; 2] = ["kubernetes.io/dockerconfigjson", "kubernetes.io/dockercfg"];

/// The custom resources of a cluster.
pub struct ClusterHome {
    client: Client,
    served: Served,
    /// Writes are checked and answered, but nothing is stored.
    is_rehearsal: bool,
    keyrings: Keyrings,
}

impl ClusterHome {
    /// The custom resource. Nothing is asked yet.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, served: Served::Pinstream, is_rehearsal: false, keyrings: Keyrings::default() }
    }

    /// The resource that is preferred and served. With `is_rehearsal` writes are checked and answered, but nothing is
    /// stored.
    ///
    /// # Errors
    /// If the API server cannot say what it serves.
    pub async fn find(client: Client, preference: Preference, is_rehearsal: bool) -> Result<Self, HomeError> {
        let served = discover(&client, preference).await.map_err(|error| HomeError::Unavailable(error.to_string()))?;
        Ok(Self { served, is_rehearsal, ..Self::new(client) })
    }

    /// Group and version of the streams.
    #[must_use]
    pub fn api_version(&self) -> String {
        self.served.api_version()
    }

    pub(super) fn served(&self) -> Served {
        self.served
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn is_rehearsal(&self) -> bool {
        self.is_rehearsal
    }

    pub(super) fn posting(&self) -> PostParams {
        PostParams { field_manager: Some(MANAGER.to_owned()), dry_run: self.is_rehearsal }
    }

    /// Requests for the streams of a namespace.
    pub(super) fn streams(&self, namespace: &str) -> Request {
        Request::new(format!("/apis/{}/namespaces/{namespace}/{}", self.served.api_version(), crate::crd::PLURAL))
    }

    /// Requests for images.
    pub(super) fn images(&self) -> Request {
        Request::new(format!("/apis/{}/{IMAGES_PLURAL}", self.served.api_version()))
    }

    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        key: &Key,
        request: Result<hyper::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<T, HomeError> {
        let request = request.map_err(|error| HomeError::Refused(format!("{key}: {error}")))?;
        answer(self.client.request(request)).await.map_err(|error| home_error(key, "image stream", &error))
    }

    async fn patch(&self, key: &Key, subresource: Option<&str>, patch: Patch) -> Result<ImageStream, HomeError> {
        let params = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            dry_run: self.is_rehearsal,
            ..PatchParams::default()
        };
        let patch = kube::api::Patch::Json::<()>(patch);
        let request = match subresource {
            Some(subresource) => {
                self.streams(&key.namespace).patch_subresource(subresource, &key.name, &params, &patch)
            }
            None => self.streams(&key.namespace).patch(&key.name, &params, &patch),
        };
        self.ask(key, request).await
    }

    /// How many Pods of a namespace run each image, by digest.
    ///
    /// # Errors
    /// If Pods cannot be listed.
    pub async fn running(&self, namespace: &str) -> Result<BTreeMap<String, usize>, HomeError> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let mut params = ListParams::default().limit(PAGE_SIZE);
        let mut running = BTreeMap::new();
        loop {
            let page = answer(pods.list(&params))
                .await
                .map_err(|error| home_error(&Key::new(namespace, "*"), "Pods", &error))?;
            for pod in &page.items {
                for digest in digests(pod).into_iter().collect::<BTreeSet<_>>() {
                    *running.entry(digest).or_default() += 1;
                }
            }
            match page.metadata.continue_.filter(|rest| !rest.is_empty()) {
                Some(rest) => params = params.continue_token(&rest),
                None => return Ok(running),
            }
        }
    }

    async fn read_keyring(&self, namespace: &str) -> Result<Keyring, HomeError> {
        let mut keyring = Keyring::default();
        for kind in SECRET_TYPES {
            let params = ListParams::default().fields(&format!("type={kind}"));
            let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
            let secrets = match answer(secrets.list(&params)).await {
                Ok(secrets) => secrets,
                Err(kube::Error::Api(status)) if status.code == 403 => {
                    tracing::debug!(namespace, "pull secrets may not be read here, images are imported without");
                    return Ok(keyring);
                }
                Err(error) => {
                    let what = format!("pull secrets of namespace {namespace}: {}", causes(&error));
                    return Err(unavailable(what, &error));
                }
            };
            for secret in secrets {
                add(&mut keyring, namespace, &secret);
            }
        }
        Ok(keyring)
    }
}

/// Puts the credentials of a Secret on the keyring; what cannot be read is passed over with a warning.
fn add(keyring: &mut Keyring, namespace: &str, secret: &Secret) {
    let is_excluded =
        secret.metadata.annotations.iter().flatten().any(|(name, value)| name == EXCLUDED && value == "true");
    if is_excluded {
        return;
    }
    let bytes = |key: &str| secret.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.as_slice());
    let read = match (bytes(".dockerconfigjson"), bytes(".dockercfg")) {
        (Some(config), _) => Keyring::from_docker_config_json(config),
        (None, Some(config)) => Keyring::from_dockercfg(config),
        (None, None) => return,
    };
    match read {
        Ok(read) => keyring.merge(read),
        Err(error) => {
            let name = secret.metadata.name.as_deref().unwrap_or_default();
            tracing::warn!(namespace, secret = name, %error, "pull secret cannot be read and is not used");
        }
    }
}

pub(super) fn home_error(key: &Key, what: &str, error: &kube::Error) -> HomeError {
    match error {
        kube::Error::Api(status) => match status.code {
            404 => HomeError::Gone(key.clone()),
            409 => HomeError::Conflict(key.clone()),
            // The test of the version in a patch fails so; an object that is refused has causes.
            422 if status.details.as_ref().is_none_or(|details| details.causes.is_empty()) => {
                HomeError::Conflict(key.clone())
            }
            code @ (429 | 500..) => {
                unavailable(format!("{what} {key}: the API server answers {code}: {}", status.message), error)
            }
            code => HomeError::Refused(format!("{what} {key}: the API server answers {code}: {}", status.message)),
        },
        error => HomeError::Unavailable(format!("{what} {key}: the API server cannot be reached: {}", causes(error))),
    }
}

/// For as long as the API server asks for, if it does.
fn unavailable(message: String, error: &kube::Error) -> HomeError {
    match patience(error) {
        Some(wait) => HomeError::Busy(message, wait),
        None => HomeError::Unavailable(message),
    }
}

pub(super) fn stored(mut stream: ImageStream, namespace: &str) -> Stored {
    stream.metadata.namespace = Some(namespace.to_owned());
    let version = stream.metadata.other.get("resourceVersion").and_then(Value::as_str).unwrap_or_default().to_owned();
    Stored { stream, version }
}

/// Operations that hold only for that version.
fn at_version(version: &str, writes: Vec<(&str, Value)>) -> Patch {
    let at = |path: &str| PointerBuf::parse(path).expect("field names need no escapes");
    let seen = TestOperation { path: at("/metadata/resourceVersion"), value: version.into() };
    let writes = writes.into_iter().map(|(path, value)| PatchOperation::Add(AddOperation { path: at(path), value }));
    Patch([PatchOperation::Test(seen)].into_iter().chain(writes).collect())
}

fn json<T: serde::Serialize>(value: &T) -> Result<Value, HomeError> {
    serde_json::to_value(value).map_err(|error| HomeError::Refused(error.to_string()))
}

impl Home for ClusterHome {
    async fn read(&self, key: &Key) -> Result<Option<Stored>, HomeError> {
        match self.ask(key, self.streams(&key.namespace).get(&key.name, &GetParams::default())).await {
            Ok(stream) => Ok(Some(stored(stream, &key.namespace))),
            Err(HomeError::Gone(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn write(&self, before: &Stored, after: &ImageStream) -> Result<Stored, HomeError> {
        let key = before.key();
        let mut current = before.clone();
        let mut writes = Vec::new();
        if after.spec != before.stream.spec {
            writes.push(("/spec", json(&after.spec)?));
        }
        if after.metadata.annotations != before.stream.metadata.annotations {
            writes.push(("/metadata/annotations", json(&after.metadata.annotations)?));
        }
        if !writes.is_empty() {
            let written = self.patch(&key, None, at_version(&current.version, writes)).await?;
            current = stored(written, &key.namespace);
        }
        if after.status != before.stream.status {
            let patch = at_version(&current.version, vec![("/status", json(&after.status)?)]);
            let written = self.patch(&key, Some("status"), patch).await?;
            current = stored(written, &key.namespace);
        }
        Ok(current)
    }

    async fn keep_images(&self, kept: &[Image]) -> Result<(), HomeError> {
        for image in kept {
            let object = json(&image.as_custom_resource())?;
            let body = serde_json::to_vec(&object).map_err(|error| HomeError::Refused(error.to_string()))?;
            let request = self.images().create(&self.posting(), body);
            let request = request.map_err(|error| HomeError::Refused(error.to_string()))?;
            match answer(self.client.request::<Value>(request)).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(home_error(&Key::new("", image.digest()), "image", &error)),
            }
        }
        Ok(())
    }

    async fn keyring(&self, namespace: &str) -> Result<Keyring, HomeError> {
        let now = Instant::now();
        if let Some(keyring) = self.keyrings.get(namespace, now) {
            return Ok(keyring);
        }
        let keyring = self.read_keyring(namespace).await?;
        self.keyrings.put(namespace, keyring.clone(), now);
        Ok(keyring)
    }

    fn keyring_was_refused(&self, namespace: &str) {
        self.keyrings.refused(namespace, Instant::now());
    }

    /// Images of running containers, by what their node says.
    async fn images_in_use(&self, namespace: &str) -> Result<BTreeSet<String>, HomeError> {
        match self.running(namespace).await {
            Ok(running) => Ok(running.into_keys().collect()),
            Err(HomeError::Refused(error)) => {
                tracing::warn!(namespace, error, "Pods may not be listed, so that nobody knows which images run");
                Ok(BTreeSet::new())
            }
            Err(error) => Err(error),
        }
    }

    async fn tell(&self, stream: &Stored, news: &[News]) {
        let events: Api<Event> = Api::namespaced(self.client.clone(), &stream.key().namespace);
        for news in news {
            let event = event(stream, news, Timestamp::now());
            if let Err(error) = answer(events.create(&PostParams::default(), &event)).await {
                tracing::debug!(stream = %stream.key(), %error, "event could not be written");
            }
        }
    }
}

/// What a Pod is to run and what it runs, as digests.
fn digests(pod: &Pod) -> Vec<String> {
    let spec = pod.spec.iter();
    let asked = spec.flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    let asked = asked.filter_map(|container| container.image.clone());
    let status = pod.status.iter();
    let run = status.flat_map(|status| {
        let containers = status.container_statuses.iter().flatten();
        containers.chain(status.init_container_statuses.iter().flatten())
    });
    let run = run.map(|container| container.image_id.clone());
    asked.chain(run).filter_map(|image| Some(image.rsplit_once('@')?.1.to_owned())).collect()
}

fn event(stream: &Stored, news: &News, now: Timestamp) -> Event {
    let (kind, reason, message) = news.as_event();
    let key = stream.key();
    let other = |field: &str| stream.stream.metadata.other.get(field).and_then(Value::as_str).map(str::to_owned);
    let time = k8s_openapi::jiff::Timestamp::from_nanosecond(now.as_nanosecond()).ok().map(Time);
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{:x}", key.name, now.as_nanosecond())),
            namespace: Some(key.namespace.to_string()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some(Served::Pinstream.api_version()),
            kind: Some(crate::stream::types::KIND.to_owned()),
            name: Some(key.name.to_string()),
            namespace: Some(key.namespace.to_string()),
            resource_version: Some(stream.version.clone()),
            uid: other("uid"),
            ..ObjectReference::default()
        },
        type_: Some(kind.to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message),
        reporting_component: Some(MANAGER.to_owned()),
        source: Some(k8s_openapi::api::core::v1::EventSource { component: Some(MANAGER.to_owned()), host: None }),
        first_timestamp: time.clone(),
        last_timestamp: time,
        count: Some(1),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pods_say_what_they_run() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {},
            "spec": {"containers": [{"name": "a", "image": "q.io/a@sha256:1"}, {"name": "b", "image": "b:1"}]},
            "status": {"containerStatuses": [{"name": "b", "image": "b:1", "imageID": "docker.io/library/b@sha256:2",
                "ready": true, "restartCount": 0}]}}))
        .unwrap();
        assert_eq!(digests(&pod), ["sha256:1", "sha256:2"]);
    }

    #[test]
    fn patch_holds_only_for_the_version_that_was_read() {
        let patch = serde_json::to_value(at_version("7", vec![("/status", json!({"tags": []}))])).unwrap();
        assert_eq!(
            patch,
            json!([{"op": "test", "path": "/metadata/resourceVersion", "value": "7"},
                   {"op": "add", "path": "/status", "value": {"tags": []}}])
        );
    }
}
