//! Who may pull, as a cluster of tests says.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::*;
use crate::metrics::Metrics;

/// A cluster that knows tokens `t-NAME`, and who may pull what.
#[derive(Clone, Default)]
struct Fake(Arc<State>);

#[derive(Default)]
struct State {
    granted: Mutex<HashSet<(String, Key)>>,
    identified: AtomicUsize,
    reviewed: AtomicUsize,
    is_down: AtomicBool,
}

impl Fake {
    fn with(grants: &[(&str, &str)]) -> Self {
        let fake = Self::default();
        let grants = grants.iter().map(|(who, namespace)| ((*who).to_owned(), Key::new(namespace, "app")));
        fake.0.granted.lock().unwrap().extend(grants);
        fake
    }

    fn asked(&self) -> (usize, usize) {
        (self.0.identified.load(Ordering::Relaxed), self.0.reviewed.load(Ordering::Relaxed))
    }

    fn answer(&self) -> Result<(), String> {
        if self.0.is_down.load(Ordering::Relaxed) { Err("connection refused".to_owned()) } else { Ok(()) }
    }
}

impl Reviewer for Fake {
    type Who = String;

    async fn identify(&self, token: &str) -> Result<Option<String>, String> {
        self.0.identified.fetch_add(1, Ordering::Relaxed);
        self.answer().map(|()| token.strip_prefix("t-").map(str::to_owned))
    }

    async fn may_pull(&self, who: &String, stream: &Key) -> Result<bool, String> {
        self.0.reviewed.fetch_add(1, Ordering::Relaxed);
        self.answer().map(|()| self.0.granted.lock().unwrap().contains(&(who.clone(), stream.clone())))
    }

    fn name(who: &String) -> &str {
        who
    }
}

fn access(reviewer: &Fake, anonymous: &[&str]) -> Access<Fake> {
    let anonymous = Anonymous::new(anonymous.iter().map(ToString::to_string).collect());
    let metrics = Metrics::new().unwrap().pull;
    Access::new(anonymous, Judge::Cluster(Box::new(Reviews::new(reviewer.clone()))), metrics)
}

fn token(token: &str) -> Credentials {
    Credentials::Token(token.into())
}

fn counted(access: &Access<Fake>, decision: &str) -> u64 {
    access.metrics.access.with_label_values(&[decision]).get()
}

#[tokio::test]
async fn a_token_pulls_what_its_owner_may_and_nothing_else() {
    let access = access(&Fake::with(&[("ann", "demo")]), &[]);
    let (demo, other) = (Key::new("demo", "app"), Key::new("other", "app"));
    assert_eq!(access.may_pull(&token("t-ann"), &demo).await, Ok(()));
    let login = Credentials::Login("whatever".to_owned(), "t-ann".into());
    assert_eq!(access.may_pull(&login, &demo).await, Ok(()));
    let denied = access.may_pull(&token("t-ann"), &other).await;
    assert_eq!(denied, Err(Refusal::Denied("ann".to_owned(), other.clone())));
    assert_eq!(access.may_pull(&token("t-bob"), &demo).await, Err(Refusal::Denied("bob".to_owned(), demo.clone())));
    assert_eq!(access.may_pull(&token("garbage"), &demo).await, Err(Refusal::BadCredentials));
    let split = Credentials::Login("any".to_owned(), "t-ann\nt-bob".into());
    assert_eq!(access.may_pull(&split, &demo).await, Err(Refusal::BadCredentials));
    assert_eq!(access.may_pull(&Credentials::None, &demo).await, Err(Refusal::NoCredentials));
    let counts = ["allowed", "denied", "bad_credentials", "no_credentials"].map(|decision| counted(&access, decision));
    assert_eq!(counts, [2, 2, 2, 1]);
}

#[tokio::test]
async fn whoever_pulls_many_blobs_is_judged_once() {
    let fake = Fake::with(&[("ann", "demo")]);
    let access = access(&fake, &[]);
    for _ in 0..10 {
        assert_eq!(access.may_pull(&token("t-ann"), &Key::new("demo", "app")).await, Ok(()));
        assert!(access.may_pull(&token("garbage"), &Key::new("demo", "app")).await.is_err());
        assert!(access.may_pull(&token("t-bob"), &Key::new("demo", "app")).await.is_err());
    }
    assert_eq!(fake.asked(), (3, 2));
}

#[tokio::test]
async fn no_credentials_are_needed_where_everybody_may_pull() {
    let fake = Fake::default();
    let access = access(&fake, &["public-*"]);
    let public = Key::new("public-a", "app");
    for shown in [Credentials::None, token("garbage")] {
        assert_eq!(access.may_pull(&shown, &public).await, Ok(()));
    }
    assert_eq!(access.may_pull(&Credentials::None, &Key::new("demo", "app")).await, Err(Refusal::NoCredentials));
    assert_eq!((fake.asked(), counted(&access, "anonymous")), ((0, 0), 2));
    let everyone: Access<Fake> = Access::new(Anonymous::default(), Judge::Everyone, Metrics::new().unwrap().pull);
    assert_eq!(everyone.may_pull(&token("garbage"), &Key::new("demo", "app")).await, Ok(()));
    assert_eq!(everyone.is_known(&Credentials::None).await, Ok(()));
}

#[tokio::test]
async fn while_the_cluster_is_away_grants_go_on_and_nobody_new_is_let_in() {
    let fake = Fake::with(&[("ann", "demo"), ("bob", "demo")]);
    let access = access(&fake, &[]);
    let demo = Key::new("demo", "app");
    assert_eq!(access.may_pull(&token("t-ann"), &demo).await, Ok(()));
    fake.0.is_down.store(true, Ordering::Relaxed);
    assert_eq!(access.may_pull(&token("t-ann"), &demo).await, Ok(()));
    let unavailable = Err(Refusal::Unavailable("connection refused".to_owned()));
    assert_eq!(access.may_pull(&token("t-bob"), &demo).await, unavailable);
    assert_eq!(access.may_pull(&token("t-ann"), &Key::new("other", "app")).await, unavailable);
    // That nobody could say is no answer, and not kept.
    fake.0.is_down.store(false, Ordering::Relaxed);
    assert_eq!(access.may_pull(&token("t-bob"), &demo).await, Ok(()));
}
