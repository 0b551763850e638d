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

use crate::seldom::Seldom;
use crate::store::kube::causes;

/// How long a Lease is good without being renewed.
pub const LEASE_LASTS: Duration = Duration::from_secs(15);
/// How often its holder renews it.
const RENEWAL: Duration = Duration::from_secs(5);
/// How often others look at it; half as long again at most.
const LOOK: Duration = Duration::from_secs(1);
/// A holder that could not renew for so long stops, well before others may begin.
const GIVE_UP: Duration = Duration::from_secs(12);
/// How long to say nothing after saying what is wrong, if it is something else by then.
const QUIET: Duration = Duration::from_mins(1);
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
    /// When the last attempt began that made the Lease ours. Others may count from then on, however late the answer was.
    renewed: Instant,
    /// What is wrong, as it was said last.
    trouble: Option<String>,
    /// Says that something else is wrong by now.
    other: Seldom,
}

impl Candidate {
    /// Nothing is asked yet.
    #[must_use]
    pub fn new(client: Client, place: Place) -> Self {
        Self {
            leases: Api::namespaced(client, &place.namespace),
            place,
            seen: None,
            renewed: Instant::now(),
            trouble: None,
            other: Seldom::every(QUIET),
        }
    }

    /// Waits until the Lease is ours.
    pub async fn lead(&mut self) {
        let random = RandomState::new();
        loop {
            match self.attempt().await {
                Ok(true) => return self.is_well(),
                Ok(false) => self.is_well(),
                Err(error) => self.complain(&error),
            }
            let share = u32::try_from(random.hash_one(Instant::now()) % 1000).unwrap_or_default();
            tokio::time::sleep(LOOK * (500 + share) / 1000).await;
        }
    }

    /// Renews the Lease, and returns when it is lost or could be.
    pub async fn hold(&mut self) {
        loop {
            let next = if self.trouble.is_none() { self.renewed + RENEWAL } else { Instant::now() + LOOK };
            tokio::time::sleep_until(next).await;
            match tokio::time::timeout_at(self.renewed + GIVE_UP, self.attempt()).await {
                Ok(Ok(true)) => self.is_well(),
                Ok(Err(error)) => self.complain(&error),
                Ok(Ok(false)) | Err(_) => break,
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
        let began = Instant::now();
        let attempt = tokio::time::timeout(ANSWER_LIMIT, self.try_attempt()).await;
        let attempt = attempt.unwrap_or_else(|_| Err("the API server does not answer".to_owned()));
        if attempt == Ok(true) {
            self.renewed = began;
        }
        attempt
    }

    async fn try_attempt(&mut self) -> Result<bool, String> {
        let params = PostParams::default();
        let found = self.leases.get_opt(&self.place.name).await.map_err(|error| causes(&error))?;
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
        let is_news = match &self.trouble {
            None => true,
            Some(said) => said != error && self.other.happened().is_some(),
        };
        if is_news {
            tracing::warn!(lease = %self.name(), error, "Lease cannot be read or written, tried again until it can");
            self.trouble = Some(error.to_owned());
        }
    }

    fn is_well(&mut self) {
        if self.trouble.take().is_some() {
            tracing::info!(lease = %self.name(), "Lease can be read and written again");
        }
    }
}

/// Whoever comes second has not got it.
fn written(result: kube::Result<Lease>) -> Result<bool, String> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(false),
        Err(error) => Err(causes(&error)),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    use hyper::{Method, Request, Response};
    use kube::client::Body;
    use serde_json::json;

    use super::*;

    /// An API server of one Lease, which does at once what it is asked and answers later.
    #[derive(Default)]
    struct Server {
        lease: Mutex<Option<serde_json::Value>>,
        /// When the Lease was written.
        writes: Mutex<Vec<Instant>>,
    }

    impl Server {
        async fn answer(&self, request: Request<Body>) -> Response<Body> {
            let is_write = request.method() != Method::GET;
            let body = request.into_body().collect_bytes().await.unwrap();
            let mut lease = self.lease.lock().unwrap();
            if is_write {
                *lease = Some(serde_json::from_slice(&body).unwrap());
                self.writes.lock().unwrap().push(Instant::now());
            }
            let missing = || json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404});
            let status = if lease.is_some() { 200 } else { 404 };
            let body = Body::from(lease.clone().unwrap_or_else(missing).to_string().into_bytes());
            Response::builder().status(status).body(body).unwrap()
        }
    }

    /// Leads until the API server, which takes that long for an answer, falls silent after so many requests. Gives from
    /// when others have to count, and how long the work went on from then.
    async fn term(delay: Duration, requests: usize) -> (usize, Duration) {
        let (server, asked) = (Arc::new(Server::default()), Arc::new(Mutex::new(0)));
        let answering = Arc::clone(&server);
        let service = tower::service_fn(move |request: Request<Body>| {
            let (server, asked) = (Arc::clone(&answering), Arc::clone(&asked));
            async move {
                *asked.lock().unwrap() += 1;
                if *asked.lock().unwrap() > requests {
                    std::future::pending::<()>().await;
                }
                let answer = server.answer(request).await;
                tokio::time::sleep(delay).await;
                Ok::<_, Infallible>(answer)
            }
        });
        let [namespace, name, identity] = ["default", "lease", "one"].map(str::to_owned);
        let mut candidate = Candidate::new(Client::new(service, "default"), Place { namespace, name, identity });
        candidate.lead().await;
        candidate.hold().await;
        let writes = server.writes.lock().unwrap();
        (writes.len(), writes.last().unwrap().elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_cannot_renew_stops_before_others_begin_however_slow_answers_were() {
        for delay in [0, 500, 1000, 1900, 1999].map(Duration::from_millis) {
            for requests in 2..9 {
                let (writes, worked) = term(delay, requests).await;
                assert!(worked + LOOK < LEASE_LASTS, "{worked:?} after {requests} requests of {delay:?}");
                assert_eq!(writes, requests / 2);
            }
        }
    }

    #[test]
    fn work_goes_on_within_twenty_seconds_and_never_twice() {
        // Another sees the last renewal late, and late again that there was no other.
        let longest = LEASE_LASTS + 2 * (LOOK * 3 / 2);
        assert!(longest < Duration::from_secs(20));
        // One answer that does not come is not the end: there is time to ask once more, by another connection.
        assert!(RENEWAL + ANSWER_LIMIT + LOOK < GIVE_UP);
    }
}
