//! Blobs that are being fetched: each once, however many wait for it, and only so many.
//!
//! A fetch that began is brought to its end, whoever waits: the next who comes finds it in the storage.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::task::JoinSet;

use super::fetch::{Fetch, Wanted};
use super::rights::Rights;
use super::upstream::{Giver, Upstream, nowhere, worse};
use crate::mirror::PullError;
use crate::mirror::catalogue::Origin;
use crate::mirror::storage::{Checked, Spool, SpoolError, Storage};
use crate::registry::{FetchError, Keyring, Reason, Retry};
use crate::store::home::Home;

/// How much is written into a spool at once.
const PIECE: usize = 256 << 10;
/// How often a download may break off without having brought anything worth mentioning.
const ATTEMPTS: u32 = 5;
/// What is worth mentioning.
const PROGRESS: u64 = 1 << 20;
/// When to ask again if too much is under way.
const BUSY: Duration = Duration::from_secs(5);

/// How much may be under way; of one registry half of it, so that one that is slow does not take all.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Blobs that are being fetched.
    pub fetches: usize,
    /// Their bytes, all together.
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { fetches: 512, bytes: 32 << 30 }
    }
}

type Job = BoxFuture<'static, ()>;

/// Does the fetches. When it is dropped they are given up, and who waits for them is told.
pub struct Fetcher {
    jobs: UnboundedReceiver<Job>,
}

impl Fetcher {
    /// Fetches. Ends with those who can ask for it.
    pub async fn keep(mut self) {
        let mut running = JoinSet::new();
        loop {
            tokio::select! {
                job = self.jobs.recv() => match job {
                    Some(job) => { running.spawn(job); }
                    None => return,
                },
                Some(ended) = running.join_next() => if let Err(error) = ended {
                    tracing::error!(%error, "the fetch of a blob ended badly");
                },
            }
        }
    }
}

/// All fetches.
pub(super) struct Fetches<H> {
    upstream: Arc<Upstream<H>>,
    rights: Arc<Rights<H>>,
    storage: Storage,
    limits: Limits,
    state: Mutex<State>,
    jobs: UnboundedSender<Job>,
}

#[derive(Default)]
struct State {
    under_way: HashMap<Wanted, Arc<Fetch>>,
    count: usize,
    bytes: u64,
    /// How many have ended. Who found nothing in the storage looks again if it changed meanwhile.
    ended: u64,
}

/// A fetch that takes its place. It ends when this is dropped, whatever became of it.
struct Place<H> {
    fetches: Arc<Fetches<H>>,
    fetch: Arc<Fetch>,
}

/// Why a download did not come to its end.
enum Trouble {
    Upstream(FetchError),
    /// What came cannot be written down.
    Spool(io::Error),
}

impl From<FetchError> for Trouble {
    fn from(error: FetchError) -> Self {
        Self::Upstream(error)
    }
}

impl<H: Home> Fetches<H> {
    /// Nothing is under way.
    pub(super) fn new(
        upstream: Arc<Upstream<H>>,
        rights: Arc<Rights<H>>,
        storage: Storage,
        limits: Limits,
    ) -> (Arc<Self>, Fetcher) {
        let (jobs, receiver) = tokio::sync::mpsc::unbounded_channel();
        let fetches = Self { upstream, rights, storage, limits, state: Mutex::default(), jobs };
        (Arc::new(fetches), Fetcher { jobs: receiver })
    }

    /// How many have ended.
    pub(super) fn ended(&self) -> u64 {
        self.locked().ended
    }

    /// Waits for a blob in the name of a namespace; begins to fetch it if nobody does. `None` if a fetch ended since
    /// `seen`: it may be in the storage by now.
    pub(super) fn join(
        self: &Arc<Self>,
        wanted: Wanted,
        namespace: &str,
        seen: u64,
    ) -> Result<Option<(Arc<Fetch>, usize)>, PullError> {
        let mut state = self.locked();
        if let Some(fetch) = state.under_way.get(&wanted)
            && let Some(turn) = fetch.take_in(namespace)
        {
            self.upstream.metrics.shared("blob");
            return Ok(Some((Arc::clone(fetch), turn)));
        }
        if state.ended != seen {
            return Ok(None);
        }
        self.check(&state, &wanted)?;
        let fetch = Arc::new(Fetch::new(wanted.clone()));
        let turn = fetch.take_in(namespace);
        state.count += 1;
        state.bytes += wanted.size;
        state.under_way.insert(wanted, Arc::clone(&fetch));
        drop(state);
        self.upstream.metrics.missed("blob");
        self.upstream.metrics.fetches.inc();
        let place = Place { fetches: Arc::clone(self), fetch: Arc::clone(&fetch) };
        // If nobody fetches any more, the job is dropped, and whoever waits is told.
        let _ = self.jobs.send(place.run().boxed());
        Ok(turn.map(|turn| (fetch, turn)))
    }

    fn check(&self, state: &State, wanted: &Wanted) -> Result<(), PullError> {
        let Limits { fetches, bytes } = self.limits;
        let most = bytes / 2;
        if wanted.size > most {
            let text = format!("{} has {} bytes; no more than {most} are fetched", wanted.digest, wanted.size);
            return Err(PullError::Upstream(text));
        }
        let of_same = || state.under_way.keys().filter(|other| other.registry() == wanted.registry());
        let (same, same_bytes) = (of_same().count(), of_same().map(|other| other.size).sum::<u64>());
        let is_too_much = state.count >= fetches
            || state.bytes + wanted.size > bytes
            || same >= fetches.div_ceil(2)
            || same_bytes + wanted.size > most;
        if !is_too_much {
            return Ok(());
        }
        let message = format!("{} blobs are being fetched, which is as much as may be; ask again", state.count);
        Err(PullError::TooManyRequests { message, after: Some(BUSY) })
    }

    /// Fetches a blob in the names of those who wait for it, until it works in one.
    async fn fill(&self, fetch: &Fetch) -> Result<Checked, PullError> {
        let Wanted { digest, size, .. } = &fetch.wanted;
        let failed = |error: PullError| {
            fetch.fail(&error);
            error
        };
        let spool = self.storage.spool(digest, *size).await;
        let mut spool = spool.map_err(|error| failed(PullError::Storage(error.to_string())))?;
        fetch.begins(spool.reader());
        let mut used = HashSet::new();
        let mut last = None;
        while let Some((turn, namespace)) = fetch.next() {
            match self.pour((fetch, turn), &namespace, &mut spool, &mut used).await {
                Ok(()) => {
                    return spool.finish().await.map_err(|error| match error {
                        SpoolError::Digest { .. } => {
                            self.upstream.distrust(used, digest);
                            let text = format!("a registry sent something else than {digest}: {error}");
                            failed(PullError::Upstream(text))
                        }
                        SpoolError::Write(_) => failed(PullError::Storage(format!("{digest}: {error}"))),
                    });
                }
                Err(Trouble::Upstream(error)) => {
                    last = Some(error.message.clone());
                    fetch.refused(turn, error.into());
                }
                Err(Trouble::Spool(error)) => {
                    let error = self.storage.unspooled(error);
                    let text = format!("{digest} cannot be written down while it comes: {error}");
                    spool.stop(&text);
                    return Err(failed(PullError::Storage(text)));
                }
            }
        }
        let why = last.unwrap_or_else(|| "nobody waits for it".to_owned());
        spool.fail(&format!("the download of {digest} broke off"));
        Err(PullError::Upstream(why))
    }

    /// Fetches what is missing in a spool with the credentials of one namespace.
    async fn pour(
        &self,
        (fetch, turn): (&Fetch, usize),
        namespace: &str,
        spool: &mut Spool,
        used: &mut HashSet<Box<str>>,
    ) -> Result<(), Trouble> {
        let Wanted { digest, origins, .. } = &fetch.wanted;
        let keyring = self.upstream.keyring(namespace).await?;
        let mut trouble = None;
        for origin in self.upstream.in_order(origins, digest) {
            let mut broken = 0;
            loop {
                let before = spool.given();
                let error = match self.draw((fetch, turn), &origin, &keyring, spool).await {
                    Err(Trouble::Upstream(error)) => error,
                    result => {
                        used.insert(origin.repository.clone());
                        return result;
                    }
                };
                self.upstream.failed(namespace, &error);
                let came = spool.given() - before;
                if came > 0 {
                    used.insert(origin.repository.clone());
                }
                broken = if came >= PROGRESS { 1 } else { broken + 1 };
                // Whoever gives nothing was asked several times already.
                if !fetch.is_flowing() || !error.is_broken_off() || broken == ATTEMPTS {
                    trouble = Some(worse(trouble, error));
                    break;
                }
                self.upstream.client.pause(broken).await;
            }
        }
        Err(trouble.unwrap_or_else(|| nowhere(digest)).into())
    }

    /// Fetches what is missing in a spool from one repository, once.
    async fn draw(
        &self,
        (fetch, turn): (&Fetch, usize),
        origin: &Origin,
        keyring: &Keyring,
        spool: &mut Spool,
    ) -> Result<(), Trouble> {
        let Wanted { digest, size, .. } = &fetch.wanted;
        let (client, at) = (&self.upstream.client, spool.given());
        let mut download = client.open_blob(&origin.repository, digest, at, origin.insecure, keyring).await?;
        if let Some(said) = download.size.filter(|said| said != size) {
            return Err(lie(origin, &format!("says that {digest} has {said} bytes, its manifest says {size}")).into());
        }
        fetch.opened(turn, Giver::new(origin, download.is_public));
        fetch.flows();
        // A registry that knows no ranges begins anew.
        let mut skip = at - download.offset;
        let mut piece = Vec::with_capacity(PIECE);
        let ended: Result<(), FetchError> = loop {
            let chunk = match download.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            };
            let known = usize::try_from(skip).unwrap_or(usize::MAX).min(chunk.len());
            skip -= known as u64;
            let chunk = &chunk[known..];
            if spool.given() + (piece.len() + chunk.len()) as u64 > *size {
                break Err(lie(
                    origin,
                    &format!("sends more for {digest} than the {size} bytes that its manifest says"),
                ));
            }
            piece.extend_from_slice(chunk);
            if piece.len() >= PIECE {
                self.write(spool, std::mem::replace(&mut piece, Vec::with_capacity(PIECE))).await?;
            }
        };
        self.write(spool, piece).await?;
        spool.flush().await.map_err(Trouble::Spool)?;
        ended?;
        if spool.given() == *size { Ok(()) } else { Err(short(origin, &fetch.wanted, spool.given()).into()) }
    }

    /// Writes down who was given what is kept now.
    async fn write_rights(&self, fetch: &Fetch) {
        let given = fetch.given();
        let public = given.iter().find(|(_, giver)| giver.is_public).cloned();
        for (namespace, giver) in public.map_or(given, |public| vec![public]) {
            self.rights.give(&namespace, &fetch.wanted.digest, &giver).await;
        }
    }

    async fn write(&self, spool: &mut Spool, piece: Vec<u8>) -> Result<(), Trouble> {
        self.upstream.metrics.bytes.inc_by(piece.len() as u64);
        spool.write(Bytes::from(piece)).await.map_err(Trouble::Spool)
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<H: Home> Place<H> {
    async fn run(self) {
        let (fetches, fetch) = (&self.fetches, &self.fetch);
        let digest = &fetch.wanted.digest;
        match fetches.fill(fetch).await {
            Ok(checked) => {
                for (namespace, _) in fetch.given() {
                    fetches.rights.remember(&namespace, digest);
                }
                fetch.is_whole();
                match fetches.storage.keep(checked).await {
                    Ok(()) => fetches.write_rights(fetch).await,
                    Err(error) => tracing::debug!(%digest, %error, "a blob was passed on and not kept"),
                }
            }
            // The storage has said so, and whoever waits gets it otherwise.
            Err(PullError::Storage(why)) => tracing::debug!(%digest, why, "a blob cannot be written down"),
            Err(error) => tracing::warn!(%digest, %error, "a blob could not be fetched"),
        }
    }
}

impl<H> Drop for Place<H> {
    fn drop(&mut self) {
        let mut state = self.fetches.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_this = |fetch: &Arc<Fetch>| Arc::ptr_eq(fetch, &self.fetch);
        if state.under_way.get(&self.fetch.wanted).is_some_and(is_this) {
            state.under_way.remove(&self.fetch.wanted);
        }
        state.count -= 1;
        state.bytes -= self.fetch.wanted.size;
        state.ended += 1;
        drop(state);
        self.fetch.ends();
        self.fetches.upstream.metrics.fetches.dec();
    }
}

/// It says or sends something that cannot be.
pub(super) fn lie(origin: &Origin, what: &str) -> FetchError {
    let message = format!("repository {} {what}", origin.repository);
    FetchError { reason: Reason::Invalid, message, retry: Retry::Later }
}

/// It ended too early without saying so.
fn short(origin: &Origin, wanted: &Wanted, written: u64) -> FetchError {
    let Wanted { digest, size, .. } = wanted;
    let message = format!("repository {} ended {digest} after {written} of {size} bytes", origin.repository);
    FetchError { reason: Reason::ServiceUnavailable, message, retry: Retry::Later }
}
