//! The webhook's own certificate on a cluster: kept in a Secret that all replicas share, and made known to the API
//! server as `caBundle` of the webhook configurations.
//!
//! Replicas are equals. Each reads the Secret, does what is due by [`Authority`], and writes only if nobody wrote
//! meanwhile; whoever comes second reads again.

mod configurations;

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use configurations::Configuration;
use futures_util::TryStreamExt as _;
use jiff::Timestamp;
use json_patch::Patch;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ObjectMeta, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::{Client, ResourceExt as _};
use serde::de::DeserializeOwned;

use crate::backoff::Backoff;
use crate::metrics::ServerMetrics;
use crate::server::authority::{Authority, Shared, newest};
use crate::server::certificate::{Certificate, Pair};
use crate::store::kube::{answer, patience};

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

/// A watch from here begins with what is there.
const ANY: &str = "0";

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
    /// Name of the ValidatingWebhookConfiguration, if there is to be one.
    pub validating: Option<String>,
}

/// Why the certificate could not be looked after.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error("Secret {0} cannot be {1}: {2}")]
    Secret(String, &'static str, kube::Error),
    #[error("{0} {1} cannot be {2}: {3}")]
    Configuration(&'static str, String, &'static str, kube::Error),
    #[error("MutatingWebhookConfiguration {0} does not exist, so that no API server calls this webhook")]
    NoConfiguration(String),
    #[error("a certificate for {0} cannot be made: {1}")]
    Certificate(String, rcgen::Error),
    #[error("others undo again and again what is written to Secret {0} or to the webhook configuration")]
    Undone(String),
}

impl KeepError {
    /// For how long the API server wants to be left alone, if it said so.
    fn patience(&self) -> Option<Duration> {
        match self {
            Self::Secret(_, _, error) | Self::Configuration(_, _, _, error) => patience(error),
            Self::NoConfiguration(_) | Self::Certificate(..) | Self::Undone(_) => None,
        }
    }
}

/// Keeps the certificate of one process.
pub struct Keeper {
    place: Place,
    authority: Authority,
    secrets: Api<Secret>,
    mutating: Api<MutatingWebhookConfiguration>,
    validating: Api<ValidatingWebhookConfiguration>,
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
    mutating: Option<String>,
    validating: Option<String>,
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
        let (mutating, validating) = (Api::all(client.clone()), Api::all(client.clone()));
        let (read, trouble) = (Shared::default(), None);
        Self { place, authority, secrets, mutating, validating, certificate, metrics, read, trouble }
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
                    let random = RandomState::new().hash_one(());
                    tokio::time::sleep(backoff.next_after(error.patience(), random)).await;
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
            let (mutating, validating) = (self.mutating().await, self.validating().await);
            let trusted = newest(&shared.ca_bundle);
            // By a validating configuration that is not there nobody is called.
            let is_announced = matches!((&mutating, &validating), (Ok(mutating), Ok(validating))
                if mutating.announces(&trusted) && validating.as_ref().is_none_or(|found| found.announces(&trusted)));
            let due = self.authority.due(&shared, is_announced, Timestamp::now());
            let due = due.map_err(|error| KeepError::Certificate(self.authority.names.join(", "), error))?;
            if let Some((step, next)) = due {
                if self.write(secret, &next).await? {
                    tracing::info!(secret = %self.place, "{}", step.message());
                }
                continue;
            }
            // What can be told is told, whatever is wrong with the other.
            let mut told = false;
            if let Ok(found) = &mutating {
                told |= announce(&self.mutating, found, &shared.ca_bundle).await?;
            }
            if let Ok(Some(found)) = &validating {
                told |= announce(&self.validating, found, &shared.ca_bundle).await?;
            }
            let (mutating, validating) = (mutating?, validating?);
            if !told {
                return Ok(Seen {
                    secret: secret.and_then(|secret| secret.resource_version()),
                    mutating: mutating.resource_version(),
                    validating: validating.and_then(|found| found.resource_version()),
                });
            }
        }
        Err(KeepError::Undone(self.place.to_string()))
    }

    async fn secret(&self) -> Result<Option<Secret>, KeepError> {
        let found = answer(self.secrets.get_opt(&self.place.secret)).await;
        found.map_err(|error| KeepError::Secret(self.place.to_string(), "read", error))
    }

    async fn mutating(&self) -> Result<MutatingWebhookConfiguration, KeepError> {
        let name = &self.place.configuration;
        let found = read_configuration(&self.mutating, name).await?;
        found.ok_or_else(|| KeepError::NoConfiguration(name.clone()))
    }

    async fn validating(&self) -> Result<Option<ValidatingWebhookConfiguration>, KeepError> {
        match &self.place.validating {
            Some(name) => read_configuration(&self.validating, name).await,
            None => Ok(None),
        }
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
            ("created", answer(self.secrets.create(&params, &secret)).await)
        } else {
            ("written", answer(self.secrets.replace(&self.place.secret, &params, &secret)).await)
        };
        match written {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(false),
            Err(error) => Err(KeepError::Secret(self.place.to_string(), done, error)),
        }
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

    /// Waits for a change of the validating configuration, or until there is one.
    async fn validating_changed(&self, seen: &Seen) {
        match &self.place.validating {
            Some(name) => changed(&self.validating, name, Some(seen.validating.as_deref().unwrap_or(ANY))).await,
            None => std::future::pending().await,
        }
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
            () = changed(&self.mutating, &self.place.configuration, seen.mutating.as_deref()) => {}
            () = self.validating_changed(seen) => {}
            () = tokio::time::sleep(look) => {}
        }
    }
}

/// A configuration, if it is there.
async fn read_configuration<C>(api: &Api<C>, name: &str) -> Result<Option<C>, KeepError>
where
    C: Configuration + Clone + DeserializeOwned + fmt::Debug,
{
    answer(api.get_opt(name)).await.map_err(|error| KeepError::Configuration(C::KIND, name.to_owned(), "read", error))
}

/// Gives the bundle to a configuration, unless someone changed it meanwhile. Gives back whether it had another.
async fn announce<C>(api: &Api<C>, found: &C, bundle: &str) -> Result<bool, KeepError>
where
    C: Configuration + Clone + DeserializeOwned + fmt::Debug,
{
    let Some(patch): Option<Patch> = found.announcement(bundle) else { return Ok(false) };
    let name = found.name_any();
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    match answer(api.patch(&name, &params, &kube::api::Patch::Json::<()>(patch))).await {
        Ok(_) => tracing::info!(kind = C::KIND, configuration = name, "caBundle written"),
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_invalid() => {
            tracing::debug!(kind = C::KIND, configuration = name, %status, "webhook configuration was changed meanwhile");
        }
        Err(error) => return Err(KeepError::Configuration(C::KIND, name, "written", error)),
    }
    Ok(true)
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
        let pause = match api.watch(&params, version).await {
            Ok(events) => {
                let mut events = pin!(events);
                while let Ok(Some(event)) = events.try_next().await {
                    match event {
                        WatchEvent::Bookmark(_) => {}
                        WatchEvent::Error(_) => break,
                        WatchEvent::Added(_) | WatchEvent::Modified(_) | WatchEvent::Deleted(_) => return,
                    }
                }
                WATCH_PAUSE
            }
            Err(error) => patience(&error).unwrap_or_default().max(WATCH_PAUSE),
        };
        tokio::time::sleep(pause).await;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silent_api_server_is_given_up() {
        let silent = tower::service_fn(|_: hyper::Request<kube::client::Body>| {
            std::future::pending::<Result<hyper::Response<kube::client::Body>, std::io::Error>>()
        });
        let [namespace, secret, configuration] = ["system", "tls", "pinstream"].map(str::to_owned);
        let place = Place { namespace, secret, configuration, validating: None };
        let authority = Authority { names: vec!["localhost".to_owned()], lifetime: Duration::from_hours(1) };
        let (client, metrics) = (Client::new(silent, "default"), crate::metrics::Metrics::new().unwrap().server);
        let mut keeper = Keeper::new(&client, place, authority, Arc::default(), metrics);
        let error = keeper.look().await.map(drop).unwrap_err().to_string();
        assert!(error.starts_with("Secret system/tls cannot be read: ") && error.contains("no answer"), "{error}");
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
