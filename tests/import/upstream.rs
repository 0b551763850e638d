//! Registries of the imagination, for simulated time: what each image is, how long an answer takes, who was asked when.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use pinstream::controller::import::Remote;
use pinstream::registry::{FetchError, Fetched, Keyring, Reason, Retry};
use pinstream::stream::plan::Wanted;
use tokio::time::Instant;

use crate::scripted::digest;

/// How long a registry takes that is called slow, and then does not answer.
pub const SLOW: Duration = Duration::from_mins(2);

/// All of them.
pub struct Upstream {
    is_down: AtomicBool,
    /// Which image is behind every tag.
    number: AtomicU64,
    delays: AtomicU64,
    slowest: Duration,
    began: Instant,
    asked: Mutex<BTreeMap<String, Vec<Duration>>>,
}

impl Upstream {
    /// Every answer takes some time up to `slowest`, the same in every run with this seed.
    pub fn new(seed: u64, slowest: Duration) -> Self {
        Self {
            is_down: AtomicBool::new(false),
            number: AtomicU64::new(0),
            delays: AtomicU64::new(seed),
            slowest,
            began: Instant::now(),
            asked: Mutex::default(),
        }
    }

    pub fn set_down(&self, is_down: bool) {
        self.is_down.store(is_down, Ordering::SeqCst);
    }

    /// Every tag is another image from now on.
    pub fn push(&self) {
        self.number.fetch_add(1, Ordering::SeqCst);
    }

    /// The digest that every tag has, or had after so many pushes.
    pub fn digest(number: u64) -> String {
        digest(&number.to_be_bytes())
    }

    /// When each source was asked for, since the beginning.
    pub fn asked(&self) -> BTreeMap<String, Vec<Duration>> {
        self.asked.lock().unwrap().clone()
    }

    async fn wait(&self) {
        // Any sequence without a pattern will do.
        let next =
            |state: u64| Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
        let state = self.delays.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next).unwrap();
        tokio::time::sleep(self.slowest * u32::try_from(state >> 54).unwrap() / 1024).await;
    }
}

impl Remote for Upstream {
    async fn fetch(&self, wanted: &Wanted, _known: Option<&str>, _keyring: &Keyring) -> Result<Fetched, FetchError> {
        self.asked.lock().unwrap().entry(wanted.source.clone()).or_default().push(self.began.elapsed());
        // What a registry sends is what was there when it was asked.
        let (is_down, number) = (self.is_down.load(Ordering::SeqCst), self.number.load(Ordering::SeqCst));
        if wanted.source.contains("slow") {
            tokio::time::sleep(SLOW).await;
            let message = "the registry does not answer in time".to_owned();
            return Err(FetchError { reason: Reason::Timeout, message, retry: Retry::Later });
        }
        self.wait().await;
        if is_down {
            let message = "the registry q.io cannot be reached".to_owned();
            return Err(FetchError { reason: Reason::ServiceUnavailable, message, retry: Retry::Later });
        }
        let digest = Self::digest(number);
        let (name, _) = wanted.source.rsplit_once(':').unwrap();
        Ok(Fetched { pull_spec: format!("{name}@{digest}"), digest, images: Vec::new() })
    }

    async fn tags(&self, _repository: &str, _insecure: bool, _keyring: &Keyring) -> Result<Vec<String>, FetchError> {
        self.wait().await;
        Ok(vec!["latest".to_owned()])
    }
}
