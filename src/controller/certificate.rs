//! The webhook's own certificate on a cluster: kept in a Secret that all replicas share, and made known to the API
//! server as `caBundle` of the webhook configuration.
//!
//! Replicas are equals. Each reads the Secret, does what is due by [`Authority`], and writes only if nobody wrote
//! meanwhile; whoever comes second reads again.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::TryStreamExt as _;
use jiff::Timestamp;
use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, TestOperation};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhook, MutatingWebhookConfiguration};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ObjectMeta, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::{Client, ResourceExt as _};
use serde::de::DeserializeOwned;

use crate::backoff::Backoff;
use crate::metrics::ServerMetrics;
use crate::server::authority::{Authority, Shared, newest};
use crate::server::certificate::{Certificate, Pair};

/// Who writes, as the API server keeps it.
const MANAGER: &str = "pinstream";
/// Steps of one look at most; more means that others undo what is done.
const STEPS_MAX: usize = 10;
/// The clock is looked at this often in the life of a certificate, within limits.
const LOOKS: u32 = 100;
const LOOK_MIN: Duration = Duration::from_secs(1);
const LOOK_MAX: Duration = Duration::from_mins(5);
/// A watch is ended and begun again after so many seconds.
const WATCH_SECONDS: u32 = 240;
/// Before a watch that ended is begun again.
const WATCH_PAUSE: Duration = Duration::from_secs(2);

const CA_BUNDLE: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// Where the certificate is kept and made known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Namespace of the Secret.
    pub namespace: String,
    /// Name of the Secret.
    pub secret: String,
    /// Name of the MutatingWebhookConfiguration.
    pub configuration: String,
}

/// Why the certificate could not be looked after.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error("Secret {0} cannot be {1}: {2}")]
    Secret(String, &'static str, kube::Error),
    #[error("MutatingWebhookConfiguration {0} cannot be {1}: {2}")]
    Configuration(String, &'static str, kube::Error),
    #[error("MutatingWebhookConfiguration {0} does not exist, so that no API server calls this webhook")]
    NoConfiguration(String),
    #[error("a certificate for {0} cannot be made: {1}")]
    Certificate(String, rcgen::Error),
    #[error("others undo again and again what is written to Secret {0} or to the webhook configuration")]
    Undone(String),
}

/// Keeps the certificate of one process.
pub struct Keeper {
    place: Place,
    authority: Authority,
    secrets: Api<Secret>,
    configurations: Api<MutatingWebhookConfiguration>,
    certificate: Arc<Certificate>,
    metrics: ServerMetrics,
    /// What was read last, whether or not it could be served.
    read: Shared,
    /// What went wrong last, so that it is logged once.
    trouble: Option<String>,
}

/// The versions that were looked at, as far as the objects are there.
struct Seen {
    secret: Option<String>,
    configuration: Option<String>,
}

impl Keeper {
    /// Keeps `certificate` up to date with the Secret of that place.
    #[must_use]
    pub fn new(
        client: &Client,
        place: Place,
        authority: Authority,
        certificate: Arc<Certificate>,
        metrics: ServerMetrics,
    ) -> Self {
        let secrets = Api::namespaced(client.clone(), &place.namespace);
        let configurations = Api::all(client.clone());
        let (read, trouble) = (Shared::default(), None);
        Self { place, authority, secrets, configurations, certificate, metrics, read, trouble }
    }

    /// Looks after the certificate whenever an object changes or the clock says so. Never ends.
    pub async fn keep(mut self) {
        let mut backoff = Backoff::default();
        loop {
            match self.look().await {
                Ok(seen) => {
                    if self.trouble.take().is_some() {
                        tracing::info!(secret = %self.place, "certificate is looked after again");
                    }
                    backoff.reset();
                    self.until_changed(&seen).await;
                }
                Err(error) => {
                    self.complain(&error);
                    tokio::time::sleep(backoff.next(RandomState::new().hash_one(()))).await;
                }
            }
        }
    }

    /// Does everything that is due.
    async fn look(&mut self) -> Result<Seen, KeepError> {
        for _ in 0..STEPS_MAX {
            let secret = self.secret().await?;
            let shared = secret.as_ref().map(read).unwrap_or_default();
            self.serve(&shared);
            let configuration = self.configuration().await;
            let is_announced = matches!(&configuration, Ok(found) if announces(found, &newest(&shared.ca_bundle)));
            let due = self.authority.due(&shared, is_announced, Timestamp::now());
            let due = due.map_err(|error| KeepError::Certificate(self.authority.names.join(", "), error))?;
            if let Some((step, next)) = due {
                if self.write(secret, &next).await? {
                    tracing::info!(secret = %self.place, "{}", step.message());
                }
                continue;
            }
            let configuration = configuration?;
            let Some(patch) = announcement(&configuration, &shared.ca_bundle) else {
                return Ok(Seen {
                    secret: secret.and_then(|secret| secret.resource_version()),
                    configuration: configuration.resource_version(),
                });
            };
            self.announce(patch).await?;
        }
        Err(KeepError::Undone(self.place.to_string()))
    }

    async fn secret(&self) -> Result<Option<Secret>, KeepError> {
        let found = self.secrets.get_opt(&self.place.secret).await;
        found.map_err(|error| KeepError::Secret(self.place.to_string(), "read", error))
    }

    async fn configuration(&self) -> Result<MutatingWebhookConfiguration, KeepError> {
        let name = &self.place.configuration;
        let found = self.configurations.get_opt(name).await;
        let found = found.map_err(|error| KeepError::Configuration(name.clone(), "read", error))?;
        found.ok_or_else(|| KeepError::NoConfiguration(name.clone()))
    }

    /// Writes what is shared from now on; `false` if someone else wrote first.
    async fn write(&self, secret: Option<Secret>, shared: &Shared) -> Result<bool, KeepError> {
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let is_new = secret.is_none();
        let mut secret = secret.unwrap_or_else(|| Secret {
            metadata: ObjectMeta { name: Some(self.place.secret.clone()), ..ObjectMeta::default() },
            ..Secret::default()
        });
        store(shared, secret.data.get_or_insert_default());
        let (done, written) = if is_new {
            ("created", self.secrets.create(&params, &secret).await)
        } else {
            ("written", self.secrets.replace(&self.place.secret, &params, &secret).await)
        };
        match written {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(false),
            Err(error) => Err(KeepError::Secret(self.place.to_string(), done, error)),
        }
    }

    /// Changes the configuration, unless someone changed it meanwhile.
    async fn announce(&self, patch: Patch) -> Result<(), KeepError> {
        let name = &self.place.configuration;
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        match self.configurations.patch(name, &params, &kube::api::Patch::Json::<()>(patch)).await {
            Ok(_) => tracing::info!(configuration = %name, "caBundle written"),
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_invalid() => {
                tracing::debug!(configuration = %name, %status, "webhook configuration was changed meanwhile");
            }
            Err(error) => return Err(KeepError::Configuration(name.clone(), "written", error)),
        }
        Ok(())
    }

    /// Serves what is shared, if that is new and can be served.
    fn serve(&mut self, shared: &Shared) {
        if (&self.read.certificate, &self.read.key) == (&shared.certificate, &shared.key) {
            return;
        }
        match Pair::from_pem(shared.certificate.as_bytes(), shared.key.as_bytes()) {
            Ok(pair) => {
                self.certificate.replace(&pair);
                self.metrics.certificate_expiry.set(pair.not_after.as_duration().as_secs_f64());
                self.metrics.certificate_reloads.with_label_values(&["loaded"]).inc();
                tracing::info!(secret = %self.place, expires = %pair.not_after, "certificate loaded");
            }
            Err(error) if !shared.certificate.is_empty() => {
                self.metrics.certificate_reloads.with_label_values(&["refused"]).inc();
                tracing::error!(secret = %self.place, %error, "certificate of the Secret cannot be used and is made anew");
            }
            Err(_) => {}
        }
        self.read = shared.clone();
    }

    fn complain(&mut self, error: &KeepError) {
        let text = error.to_string();
        if self.trouble.as_ref() != Some(&text) {
            tracing::warn!(error = %text, "certificate cannot be looked after, tried again until it can");
            self.trouble = Some(text);
        }
    }

    /// Waits until one of the objects changes, or it is time to look at the clock.
    async fn until_changed(&self, seen: &Seen) {
        let look = (self.authority.lifetime / LOOKS).clamp(LOOK_MIN, LOOK_MAX);
        tokio::select! {
            () = changed(&self.secrets, &self.place.secret, seen.secret.as_deref()) => {}
            () = changed(&self.configurations, &self.place.configuration, seen.configuration.as_deref()) => {}
            () = tokio::time::sleep(look) => {}
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.secret)
    }
}

/// Returns when an object is no longer of that version. Waits for ever if there is none.
async fn changed<K>(api: &Api<K>, name: &str, version: Option<&str>)
where
    K: Clone + DeserializeOwned + fmt::Debug,
{
    let Some(version) = version else { return std::future::pending().await };
    let params = WatchParams::default().fields(&format!("metadata.name={name}")).timeout(WATCH_SECONDS);
    loop {
        if let Ok(events) = api.watch(&params, version).await {
            let mut events = pin!(events);
            while let Ok(Some(event)) = events.try_next().await {
                match event {
                    WatchEvent::Bookmark(_) => {}
                    WatchEvent::Error(_) => break,
                    WatchEvent::Added(_) | WatchEvent::Modified(_) | WatchEvent::Deleted(_) => return,
                }
            }
        }
        tokio::time::sleep(WATCH_PAUSE).await;
    }
}

fn read(secret: &Secret) -> Shared {
    let text = |key: &str| {
        let bytes = secret.data.as_ref().and_then(|data| data.get(key));
        bytes.map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned()).unwrap_or_default()
    };
    Shared { ca_bundle: text(CA_BUNDLE), ca_key: text(CA_KEY), certificate: text(CERTIFICATE), key: text(KEY) }
}

/// Other keys of the Secret stay as they are.
fn store(shared: &Shared, data: &mut BTreeMap<String, ByteString>) {
    let parts = [
        (CA_BUNDLE, &shared.ca_bundle),
        (CA_KEY, &shared.ca_key),
        (CERTIFICATE, &shared.certificate),
        (KEY, &shared.key),
    ];
    for (key, pem) in parts {
        data.insert(key.to_owned(), ByteString(pem.clone().into_bytes()));
    }
}

/// Every webhook of the configuration is called with this trusted.
fn announces(configuration: &MutatingWebhookConfiguration, pem: &str) -> bool {
    let trusts = |bundle: &ByteString| String::from_utf8_lossy(&bundle.0).contains(pem);
    let mut webhooks = configuration.webhooks.iter().flatten();
    webhooks.all(|webhook| webhook.client_config.ca_bundle.as_ref().is_some_and(trusts))
}

/// The patch that makes the bundle the `caBundle` of every webhook; `None` if it is. Only what is wrong is written, and
/// only to the version that was seen.
fn announcement(configuration: &MutatingWebhookConfiguration, bundle: &str) -> Option<Patch> {
    let at = |path: String| PointerBuf::parse(path).expect("field names and numbers need no escapes");
    let version = configuration.metadata.resource_version.clone().unwrap_or_default();
    let seen = TestOperation { path: at("/metadata/resourceVersion".to_owned()), value: version.into() };
    let is_wrong = |webhook: &MutatingWebhook| {
        webhook.client_config.ca_bundle.as_ref().is_none_or(|written| written.0 != bundle.as_bytes())
    };
    let webhooks = configuration.webhooks.iter().flatten().enumerate();
    let writes: Vec<PatchOperation> = webhooks
        .filter(|(_, webhook)| is_wrong(webhook))
        .map(|(number, _)| {
            let path = at(format!("/webhooks/{number}/clientConfig/caBundle"));
            PatchOperation::Add(AddOperation { path, value: STANDARD.encode(bundle).into() })
        })
        .collect();
    (!writes.is_empty()).then(|| Patch([PatchOperation::Test(seen)].into_iter().chain(writes).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(bundles: &[Option<&str>]) -> MutatingWebhookConfiguration {
        let webhook = |bundle: Option<&str>| {
            let mut webhook = MutatingWebhook::default();
            webhook.client_config.ca_bundle = bundle.map(|bundle| ByteString(bundle.into()));
            webhook
        };
        let metadata = ObjectMeta { resource_version: Some("7".to_owned()), ..ObjectMeta::default() };
        MutatingWebhookConfiguration { metadata, webhooks: Some(bundles.iter().copied().map(webhook).collect()) }
    }

    #[test]
    fn bundle_is_written_where_it_is_not() {
        let found = configuration(&[Some("new old "), None, Some("other")]);
        assert!(!announces(&found, "new "));
        let patch = serde_json::to_value(announcement(&found, "new old ")).unwrap();
        let written = STANDARD.encode("new old ");
        assert_eq!(
            patch,
            serde_json::json!([
                {"op": "test", "path": "/metadata/resourceVersion", "value": "7"},
                {"op": "add", "path": "/webhooks/1/clientConfig/caBundle", "value": written},
                {"op": "add", "path": "/webhooks/2/clientConfig/caBundle", "value": written},
            ])
        );
        let written = configuration(&[Some("new old "), Some("new old ")]);
        assert!(announces(&written, "new ") && announcement(&written, "new old ").is_none());
    }

    #[test]
    fn secret_holds_what_was_stored_beside_what_was_there() {
        let shared = Shared {
            ca_bundle: "a".to_owned(),
            ca_key: "b".to_owned(),
            certificate: "c".to_owned(),
            key: "d".to_owned(),
        };
        let mut secret = Secret::default();
        assert_eq!(read(&secret), Shared::default());
        let data = secret.data.get_or_insert_default();
        data.insert("mine".to_owned(), ByteString(vec![0xff]));
        store(&shared, data);
        assert_eq!(data.len(), 5);
        assert_eq!(read(&secret), shared);
    }
}
