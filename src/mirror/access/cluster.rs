//! Whom a cluster lets pull: whose token it is, and whether that one may get `imagestreams/layers`.

use std::future::Future;
use std::hash::Hash;
use std::time::Instant;

use tokio::sync::Semaphore;

use super::credentials::{fingerprint, is_word};
use super::kept::{Answer, Kept};
use super::{Credentials, Refusal};
use crate::digest::Digest;
use crate::store::kube::{ClusterReviewer, Identity};
use crate::stream::Key;

/// Reviews at a time. Whoever waits for one finds what the one before brought.
const REVIEWS_MAX: usize = 16;

/// Who knows tokens and rights.
pub trait Reviewer: Send + Sync + 'static {
    /// Somebody who is known.
    type Who: Clone + Send + Sync;

    /// Whose token it is; `None` if it is nobody's. An error if nobody can say.
    fn identify(&self, token: &str) -> impl Future<Output = Result<Option<Self::Who>, String>> + Send;

    /// Whether one may pull a stream. An error if nobody can say.
    fn may_pull(&self, who: &Self::Who, stream: &Key) -> impl Future<Output = Result<bool, String>> + Send;

    /// The name of somebody, for logs.
    fn name(who: &Self::Who) -> &str;
}

impl Reviewer for ClusterReviewer {
    type Who = Identity;

    async fn identify(&self, token: &str) -> Result<Option<Identity>, String> {
        ClusterReviewer::identify(self, token).await.map_err(|error| error.to_string())
    }

    async fn may_pull(&self, who: &Identity, stream: &Key) -> Result<bool, String> {
        ClusterReviewer::may_pull(self, who, stream).await.map_err(|error| error.to_string())
    }

    fn name(who: &Identity) -> &str {
        who.name()
    }
}

/// The reviews of a cluster, and what came of them lately.
pub struct Reviews<R: Reviewer> {
    reviewer: R,
    tokens: Kept<Digest, R::Who>,
    grants: Kept<(Digest, Key), ()>,
    places: Semaphore,
}

impl<R: Reviewer> Reviews<R> {
    /// Nobody is asked yet.
    pub fn new(reviewer: R) -> Self {
        Self { reviewer, tokens: Kept::default(), grants: Kept::default(), places: Semaphore::new(REVIEWS_MAX) }
    }

    /// Who shows these credentials.
    pub(super) async fn identify(&self, shown: &Credentials) -> Result<R::Who, Refusal> {
        let token = shown.secret();
        if !is_word(token) {
            return Err(Refusal::BadCredentials);
        }
        let review = || async { Ok(self.reviewer.identify(token).await?.map_or(Answer::No, Answer::Yes)) };
        match self.ask(&self.tokens, fingerprint(&[token]), review).await? {
            Answer::Yes(who) => Ok(who),
            Answer::No => Err(Refusal::BadCredentials),
        }
    }

    /// Whether whoever shows these credentials may pull a stream.
    pub(super) async fn may_pull(&self, shown: &Credentials, stream: &Key) -> Result<(), Refusal> {
        let who = self.identify(shown).await?;
        let question = (fingerprint(&[shown.secret()]), stream.clone());
        let review = || async {
            let may = self.reviewer.may_pull(&who, stream).await?;
            Ok(if may { Answer::Yes(()) } else { Answer::No })
        };
        match self.ask(&self.grants, question, review).await? {
            Answer::Yes(()) => Ok(()),
            Answer::No => Err(Refusal::Denied(R::name(&who).to_owned(), stream.clone())),
        }
    }

    /// The answer that is kept, else a new one. While nobody can be asked, an old yes goes on.
    async fn ask<K, V, F>(
        &self,
        kept: &Kept<K, V>,
        question: K,
        review: impl FnOnce() -> F,
    ) -> Result<Answer<V>, Refusal>
    where
        K: Eq + Hash,
        V: Clone,
        F: Future<Output = Result<Answer<V>, String>>,
    {
        if let Some(answer) = kept.get(&question, Instant::now()) {
            return Ok(answer);
        }
        let _place = self.places.acquire().await.expect("nobody closes it");
        if let Some(answer) = kept.get(&question, Instant::now()) {
            return Ok(answer);
        }
        match review().await {
            Ok(answer) => {
                kept.put(question, answer.clone(), Instant::now());
                Ok(answer)
            }
            Err(error) => kept.get_old(&question, Instant::now()).map(Answer::Yes).ok_or(Refusal::Unavailable(error)),
        }
    }
}
