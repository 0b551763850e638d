//! Which of several controllers does the work: the one that holds a Lease.
//!
//! Holding it keeps work from being done twice; that nothing is spoilt if two hold it, because a clock or a network
//! misleads one of them, is what writes see to.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use tokio::time::Instant;

/// How long a Lease is good without being renewed.
pub const LEASE_LASTS: Duration = Duration::from_secs(15);
/// How often its holder renews it.
const RENEWAL: Duration = Duration::from_secs(5);
/// How often others look at it; half as long again at most.
const LOOK: Duration = Duration::from_secs(1);
/// A holder that could not renew for so long stops, well before others may begin.
const GIVE_UP: Duration = Duration::from_secs(10);
/// How long the API server may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(4);

/// Where the Lease is, and who wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Who wants it: another for each process.
    pub identity: String,
}

/// One who wants to lead.
pub struct Candidate {
    leases: Api<Lease>,
    place: Place,
    /// The Lease as it was last seen, and since when it has been so. Only our own clock counts.
    seen: Option<(LeaseSpec, Instant)>,
    /// What was said last, so that it is said once.
    trouble: Option<String>,
}

impl Candidate {
    /// Nothing is asked yet.
    #[must_use]
    pub fn new(client: Client, place: Place) -> Self {
        Self { leases: Api::namespaced(client, &place.namespace), place, seen: None, trouble: None }
    }

    /// Waits until the Lease is ours.
    pub async fn lead(&mut self) {
        let random = RandomState::new();
        loop {
            match self.attempt().await {
                Ok(true) => return,
                Ok(false) => self.trouble = None,
                Err(error) => self.complain(&error),
            }
            let share = u32::try_from(random.hash_one(Instant::now()) % 1000).unwrap_or_default();
            tokio::time::sleep(LOOK * (500 + share) / 1000).await;
        }
    }

    /// Renews the Lease, and returns when it is lost or could be.
    pub async fn hold(&mut self) {
        let mut renewed = Instant::now();
        while renewed.elapsed() < GIVE_UP {
            let next = if self.trouble.is_none() { RENEWAL } else { LOOK };
            tokio::time::sleep(next).await;
            match self.attempt().await {
                Ok(true) => {
                    renewed = Instant::now();
                    self.trouble = None;
                }
                Ok(false) => break,
                Err(error) => self.complain(&error),
            }
        }
        tracing::warn!(lease = %self.name(), "not leading any more");
    }

    /// Gives the Lease back, so that another need not wait for its end.
    pub async fn release(&self) {
        let Ok(Ok(Some(lease))) = tokio::time::timeout(ANSWER_LIMIT, self.leases.get_opt(&self.place.name)).await
        else {
            return;
        };
        if !self.is_ours(lease.spec.as_ref()) {
            return;
        }
        let spec = LeaseSpec { holder_identity: None, ..lease.spec.unwrap_or_default() };
        let lease = Lease { spec: Some(spec), ..lease };
        let _ =
            tokio::time::timeout(ANSWER_LIMIT, self.leases.replace(&self.place.name, &PostParams::default(), &lease))
                .await;
    }

    /// Takes or renews the Lease if that is allowed. Says whether it is ours then.
    async fn attempt(&mut self) -> Result<bool, String> {
        let attempt = tokio::time::timeout(ANSWER_LIMIT, self.try_attempt()).await;
        attempt.unwrap_or_else(|_| Err("the API server does not answer".to_owned()))
    }

    async fn try_attempt(&mut self) -> Result<bool, String> {
        let params = PostParams::default();
        let found = self.leases.get_opt(&self.place.name).await.map_err(|error| error.to_string())?;
        let Some(lease) = found else {
            let metadata = ObjectMeta { name: Some(self.place.name.clone()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(self.taken(None)) };
            return written(self.leases.create(&params, &lease).await);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        if !self.is_ours(Some(&spec)) && !self.is_free(&spec) {
            return Ok(false);
        }
        let next = Lease { spec: Some(self.taken(Some(&spec))), ..lease };
        written(self.leases.replace(&self.place.name, &params, &next).await)
    }

    fn is_ours(&self, spec: Option<&LeaseSpec>) -> bool {
        spec.and_then(|spec| spec.holder_identity.as_deref()) == Some(&self.place.identity)
    }

    /// Nobody holds it, or it was not renewed for as long as it lasts, by our own clock.
    fn is_free(&mut self, spec: &LeaseSpec) -> bool {
        if spec.holder_identity.as_deref().unwrap_or_default().is_empty() {
            return true;
        }
        let lasts =
            u64::try_from(spec.lease_duration_seconds.unwrap_or_default()).map_or(LEASE_LASTS, Duration::from_secs);
        match &self.seen {
            Some((seen, since)) if seen == spec => since.elapsed() >= lasts,
            _ => {
                self.seen = Some((spec.clone(), Instant::now()));
                false
            }
        }
    }

    fn taken(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = Some(MicroTime(k8s_openapi::jiff::Timestamp::now()));
        let is_renewal = self.is_ours(before);
        let transitions = before.and_then(|before| before.lease_transitions).unwrap_or_default();
        LeaseSpec {
            holder_identity: Some(self.place.identity.clone()),
            lease_duration_seconds: i32::try_from(LEASE_LASTS.as_secs()).ok(),
            acquire_time: before.filter(|_| is_renewal).and_then(|before| before.acquire_time.clone()).or(now.clone()),
            renew_time: now,
            lease_transitions: Some(transitions.saturating_add(i32::from(!is_renewal && before.is_some()))),
            ..LeaseSpec::default()
        }
    }

    fn name(&self) -> String {
        format!("{}/{}", self.place.namespace, self.place.name)
    }

    fn complain(&mut self, error: &str) {
        if self.trouble.as_deref() != Some(error) {
            tracing::warn!(lease = %self.name(), error, "Lease cannot be read or written, tried again until it can");
            self.trouble = Some(error.to_owned());
        }
    }
}

/// Whoever comes second has not got it.
fn written(result: kube::Result<Lease>) -> Result<bool, String> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(false),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_goes_on_within_twenty_seconds_and_never_twice() {
        // Another sees the last renewal late, and late again that there was no other.
        let longest = LEASE_LASTS + 2 * (LOOK * 3 / 2);
        assert!(longest < Duration::from_secs(20));
        // Whoever cannot renew has stopped before the others begin: the last try may hang, and the look before was early.
        assert!(GIVE_UP + LOOK + ANSWER_LIMIT <= LEASE_LASTS);
    }
}
