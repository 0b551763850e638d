//! Who may have what is kept: a namespace that was given it with its own credentials, and everybody if it is public.
//!
//! That a repository says yes is proof only where it has sent that content before: who has it decides who may have it, and
//! one that merely claims to have it could be anybody's.

use std::sync::Arc;

use super::fetch::Fetch;
use super::recent::Recent;
use super::upstream::{Giver, Source, Upstream, identity};
use crate::digest::Digest;
use crate::mirror::storage::{Grants, Storage};
use crate::registry::Form;
use crate::registry::flights::Flights;
use crate::store::home::Home;

/// How many rights are remembered; each takes some three hundred bytes.
const KNOWN_MAX: usize = 30_000;

/// Who may have what is kept.
pub(super) struct Rights<H> {
    storage: Storage,
    upstream: Arc<Upstream<H>>,
    known: Recent<(Box<str>, Digest), ()>,
    asked: Flights<(Source, Form, Digest), Option<Giver>>,
}

impl<H: Home> Rights<H> {
    /// Nothing is known yet.
    pub(super) fn new(storage: Storage, upstream: Arc<Upstream<H>>) -> Self {
        Self { storage, upstream, known: Recent::new(KNOWN_MAX), asked: Flights::new() }
    }

    /// It is remembered that a namespace may have something.
    pub(super) fn are_known(&self, namespace: &str, digest: &Digest) -> bool {
        self.known.get(&(namespace.into(), digest.clone())).is_some()
    }

    /// A namespace was given something.
    pub(super) fn remember(&self, namespace: &str, digest: &Digest) {
        self.known.put((namespace.into(), digest.clone()), (), 1);
    }

    /// It is remembered, or written beside the content, that a namespace may have something.
    pub(super) async fn are_given(&self, namespace: &str, digest: &Digest) -> bool {
        self.are_known(namespace, digest) || self.reach(&self.grants(digest).await, namespace, digest)
    }

    /// The same; if nothing is written, the repositories are asked that gave it to others.
    pub(super) async fn may_have(&self, source: &Source, form: Form, (digest, size): (&Digest, u64)) -> bool {
        let namespace = &source.namespace;
        if self.are_known(namespace, digest) {
            return true;
        }
        let grants = self.grants(digest).await;
        if self.reach(&grants, namespace, digest) {
            return true;
        }
        let have_it = source.origins.iter().filter(|origin| grants.are_by(&identity(origin)));
        let having = Source { namespace: namespace.clone(), origins: have_it.cloned().collect() };
        let Some(giver) = self.ask(having, form, (digest, size)).await else { return false };
        self.give(namespace, digest, &giver).await;
        true
    }

    /// Lets a namespace read what is being fetched for another, if the repository that sends it would send it to that one
    /// too.
    pub(super) async fn admit(&self, fetch: &Fetch, turn: usize, source: Source) -> bool {
        let giver = self.ask(source, Form::Blob, (&fetch.wanted.digest, fetch.wanted.size)).await;
        giver.map(|giver| fetch.opened(turn, giver)).is_some()
    }

    /// A namespace was given something that is kept.
    pub(super) async fn give(&self, namespace: &str, digest: &Digest, giver: &Giver) {
        self.remember(namespace, digest);
        if let Err(error) = self.storage.give(digest, giver.grant(namespace)).await {
            tracing::warn!(%digest, namespace, %error, "to whom something was given is not written down");
        }
    }

    /// The first of these repositories that would give it. Who asks the same at the same time shares the answer.
    async fn ask(&self, source: Source, form: Form, (digest, size): (&Digest, u64)) -> Option<Giver> {
        if source.origins.is_empty() {
            return None;
        }
        let work = async || self.upstream.giver(&source, form, (digest, size)).await;
        self.asked.share((source.clone(), form, digest.clone()), work).await
    }

    fn reach(&self, grants: &Grants, namespace: &str, digest: &Digest) -> bool {
        let reach = grants.reach(namespace);
        if reach {
            self.remember(namespace, digest);
        }
        reach
    }

    async fn grants(&self, digest: &Digest) -> Grants {
        self.storage.grants(digest).await.unwrap_or_else(|error| {
            tracing::warn!(%digest, %error, "to whom something was given cannot be read from the storage");
            Grants::default()
        })
    }
}
