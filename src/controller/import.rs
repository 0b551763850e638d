//! Imports what is due: asks registries, puts the answers into streams, and tells what happened.
//!
//! The same for a cluster and a directory. What is due is the agenda's, what becomes of an answer is
//! `stream::outcome`'s. Any number of these may run over the same streams: nothing is written over a change that was not
//! seen, and a result for a tag that changed meanwhile is not taken.

mod trouble;

use std::collections::{BTreeSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, FuturesUnordered, StreamExt as _};
use jiff::Timestamp;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

use self::trouble::{Teller, is_away, is_refusal, verdict_of, verdict_of_home};
use super::agenda::{Agenda, Due, Rules, Verdict, WHOLE_STREAM};
use super::queue::{Places, Queue};
use super::settle;
use crate::metrics::ImportMetrics;
use crate::registry::{self, FetchError, Fetched, Keyring, Reason};
use crate::store::home::{Change, Home, HomeError, Stored};
use crate::stream::Key;
use crate::stream::outcome::{self, Found, Imported, News};
use crate::stream::plan::{self, Wanted};
use crate::stream::pullspec::RegistryHost;
use crate::stream::types::ImportMode;

/// How many streams are imported at a time.
const PLACES: Places = Places { all: 200, of_registry: 20 };
/// How many tags of one stream are imported at a time.
const TAGS_AT_A_TIME: usize = 8;
/// How many answers are put into a stream with one write at most.
const ANSWERS_A_WRITE: usize = 50;
/// How often a stream that others write to meanwhile is read again.
const WRITES_MAX: usize = 10;
/// How often the state of the agenda is measured.
const MEASURING: Duration = Duration::from_secs(5);

/// Who is asked for images.
pub trait Remote: Send + Sync + 'static {
    /// The image behind a tag. `known` is a digest whose image is known already: only another one is of interest.
    fn fetch(
        &self,
        wanted: &Wanted,
        known: Option<&str>,
        keyring: &Keyring,
    ) -> impl Future<Output = Result<Fetched, FetchError>> + Send;

    /// The tags of a repository.
    fn tags(
        &self,
        repository: &str,
        insecure: bool,
        keyring: &Keyring,
    ) -> impl Future<Output = Result<Vec<String>, FetchError>> + Send;
}

/// How importing is done.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// When.
    pub rules: Rules,
    /// What to make of an index where a tag does not say.
    pub default_mode: ImportMode,
    /// How many tags of a repository become tags of a stream.
    pub repository_tags_max: usize,
    /// Host of the registry that serves the streams' images.
    pub registry_host: RegistryHost,
}

/// Imports the tags of all streams of one home.
pub struct Importer<H, R> {
    worker: Worker<H, R>,
    agenda: Agenda,
    queue: Queue,
    began: Instant,
    random: RandomState,
    calls: u64,
}

/// Imports tags of one stream at once, whether they are due or not. What fails is told by conditions of the tags.
///
/// # Errors
/// If the stream cannot be read or written.
pub async fn import_now<H: Home, R: Remote>(
    home: Arc<H>,
    remote: Arc<R>,
    settings: Settings,
    metrics: ImportMetrics,
    key: &Key,
    tags: &[String],
) -> Result<(), HomeError> {
    let worker = Worker { home, remote, settings, metrics, teller: Teller::default() };
    let mut tags = tags.to_vec();
    for _ in 0..WRITES_MAX {
        let mut verdicts = Vec::new();
        match worker.import(key, &tags, &mut verdicts).await {
            Err(HomeError::Conflict(_)) => continue,
            ended => ended?,
        }
        tags = verdicts.into_iter().filter(|(_, verdict)| *verdict == Verdict::Again).map(|(tag, _)| tag).collect();
        if tags.is_empty() {
            return Ok(());
        }
    }
    Err(HomeError::Conflict(key.clone()))
}

/// What a job works with.
struct Worker<H, R> {
    home: Arc<H>,
    remote: Arc<R>,
    settings: Settings,
    metrics: ImportMetrics,
    teller: Teller,
}

/// A job that has ended.
struct Ended {
    key: Key,
    number: u64,
    registry: Arc<str>,
    verdicts: Vec<(String, Verdict)>,
}

/// One tag that was asked for.
struct Answer {
    imported: Imported,
    verdict: Verdict,
    /// The registry wants other credentials.
    is_refused: bool,
}

impl<H: Home, R: Remote> Importer<H, R> {
    /// Nothing is known yet.
    pub fn new(home: Arc<H>, remote: Arc<R>, settings: Settings, metrics: ImportMetrics) -> Self {
        let agenda = Agenda::new(settings.rules).served_at(settings.registry_host.clone());
        let worker = Worker { home, remote, settings, metrics, teller: Teller::default() };
        let queue = Queue::new(PLACES);
        Self { worker, agenda, queue, began: Instant::now(), random: RandomState::new(), calls: 0 }
    }

    /// Imports what the changes make due, and what the clock does. Ends when there will be no more changes.
    pub async fn run(mut self, mut changes: UnboundedReceiver<Change>) {
        let mut jobs = FuturesUnordered::new();
        let mut measuring = tokio::time::interval(MEASURING);
        loop {
            let now = self.began.elapsed();
            while let Some(due) = self.agenda.next(now) {
                self.queue.push(due);
            }
            while let Some(due) = self.queue.start() {
                jobs.push(self.worker.run(due));
            }
            let wake = self.agenda.wake().map_or(self.began + Duration::from_hours(24), |wake| self.began + wake);
            tokio::select! {
                change = changes.recv() => match change {
                    Some(change) => {
                        let random = next(&self.random, &mut self.calls);
                        learn(&mut self.agenda, change, self.began.elapsed(), random);
                    }
                    None => return,
                },
                Some(Ended { key, number, registry, verdicts }) = jobs.next() => {
                    self.queue.end(&key.namespace, &registry);
                    let random = next(&self.random, &mut self.calls);
                    self.agenda.finish(&key, number, &verdicts, self.began.elapsed(), random);
                }
                () = tokio::time::sleep_until(wake) => {}
                _ = measuring.tick() => self.measure(),
            }
        }
    }

    fn measure(&self) {
        let (metrics, now, states) = (&self.worker.metrics, self.began.elapsed(), self.agenda.states());
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let by_state = [
            ("pending", states.pending),
            ("failed", states.failed),
            ("scheduled", states.scheduled),
            ("imported", states.imported),
        ];
        for (state, count) in by_state {
            metrics.tags.with_label_values(&[state]).set(gauge(count));
        }
        metrics.queue.set(gauge(self.agenda.backlog(now) + self.queue.tags()));
        metrics.overdue_tags.set(gauge(self.agenda.late(now)));
        metrics.overdue.set(self.agenda.overdue(now).as_secs_f64());
    }
}

fn learn(agenda: &mut Agenda, change: Change, now: Duration, random: u64) {
    match change {
        Change::Applied(stream) => agenda.apply(&stream, now, random),
        Change::Deleted(key) => agenda.delete(&key),
        Change::Back => agenda.home_is_back(now),
        Change::Listed => {
            let states = agenda.states();
            let (pending, failed, scheduled) = (states.pending, states.failed, states.scheduled);
            tracing::info!(
                pending,
                failed,
                scheduled,
                imported = states.imported,
                "image streams known to the importer"
            );
        }
    }
}

/// A registry that fails is not asked sooner because nobody could be told that it does.
fn unwritten(answers: &[Answer]) -> impl Iterator<Item = (String, Verdict)> {
    let failed = answers.iter().filter(|answer| matches!(answer.verdict, Verdict::Later(_)));
    failed.map(|answer| (answer.imported.wanted.tag.clone(), answer.verdict))
}

fn next(random: &RandomState, calls: &mut u64) -> u64 {
    *calls += 1;
    random.hash_one(*calls)
}

impl<H: Home, R: Remote> Worker<H, R> {
    async fn run(&self, due: Due) -> Ended {
        let Due { key, number, tags, registry } = due;
        let mut verdicts = Vec::new();
        // What is not wanted any more is told by the change that made it so.
        let rest = match self.import(&key, &tags, &mut verdicts).await {
            Ok(()) => Verdict::Done,
            Err(error) => {
                self.teller.tell(&key, &error);
                verdict_of_home(&error)
            }
        };
        let answered: BTreeSet<String> = verdicts.iter().map(|(tag, _)| tag.clone()).collect();
        verdicts.extend(tags.into_iter().filter(|tag| !answered.contains(tag)).map(|tag| (tag, rest)));
        Ended { key, number, registry, verdicts }
    }

    /// Imports tags of a stream. Each that is ended has its verdict then, also if others could not be.
    async fn import(&self, key: &Key, tags: &[String], verdicts: &mut Vec<(String, Verdict)>) -> Result<(), HomeError> {
        let gone = || HomeError::Gone(key.clone());
        let mut stored = self.home.read(key).await?.ok_or_else(gone)?;
        let keyring = self.home.keyring(&key.namespace).await?.of_tenant(&key.namespace);
        if tags.iter().any(|tag| tag == WHOLE_STREAM) {
            let (settled, verdict) = self.whole(stored, &keyring).await?;
            stored = settled;
            verdicts.push((WHOLE_STREAM.to_owned(), verdict));
        }
        let wanted = tags.iter().filter_map(|tag| plan::wanted(&stored.stream, tag, self.settings.default_mode));
        let mut wanted: VecDeque<Wanted> = wanted.collect();
        let mut trouble = None;
        // Where the home is away, what a registry says could not be written down.
        while !wanted.is_empty() && !trouble.as_ref().is_some_and(is_away) {
            // Gathered first: the compiler cannot tell that a future with an iterator that borrows may change threads.
            let next: Vec<Wanted> = wanted.drain(..wanted.len().min(ANSWERS_A_WRITE)).collect();
            let asked = stream::iter(next.into_iter().map(|wanted| self.ask(wanted, &keyring)));
            let asked: Vec<_> = asked.buffer_unordered(TAGS_AT_A_TIME).collect().await;
            let mut answers = Vec::new();
            for asked in asked {
                match asked {
                    Ok(answer) => answers.push(answer),
                    Err((tag, error)) => {
                        verdicts.push((tag, verdict_of_home(&error)));
                        trouble = trouble.filter(is_away).or(Some(error));
                    }
                }
            }
            if answers.iter().any(|answer| answer.is_refused) {
                self.home.keyring_was_refused(&key.namespace);
            }
            let written = self.write(stored, &answers).await;
            let (written, overtaken) = written.inspect_err(|_| verdicts.extend(unwritten(&answers)))?;
            stored = written;
            verdicts.extend(answers.into_iter().map(|answer| {
                let tag = answer.imported.wanted.tag;
                let verdict = if overtaken.contains(&tag) { Verdict::Again } else { answer.verdict };
                (tag, verdict)
            }));
        }
        trouble.map_or(Ok(()), Err)
    }

    /// What concerns the stream and not one of its tags: where it is served, the tags of its repository, numbers, and
    /// tags that are copied.
    async fn whole(&self, mut stored: Stored, keyring: &Keyring) -> Result<(Stored, Verdict), HomeError> {
        let mut verdict = Verdict::Done;
        let mut grown = stored.stream.clone();
        if let Some(repository) = plan::repository(&stored.stream) {
            let insecure = stored.stream.metadata.annotations.get(plan::INSECURE).is_some_and(|value| value == "true");
            match self.remote.tags(repository, insecure, keyring).await {
                Ok(tags) => {
                    let most = self.settings.repository_tags_max;
                    grown = outcome::with_repository(&stored.stream, tags, most, Timestamp::now());
                }
                Err(error) => {
                    verdict = verdict_of(&error);
                    if is_refusal(error.reason) {
                        self.home.keyring_was_refused(&stored.key().namespace);
                    }
                    let (reason, message) = (error.reason.to_string(), error.message);
                    self.home.tell(&stored, &[News::Failed { tag: None, reason, message }]).await;
                }
            }
        }
        let (settled, news) = settle::settled(&*self.home, &grown, &self.settings, Timestamp::now()).await?;
        if settled != stored.stream {
            stored = self.home.write(&stored, &settled).await?;
        }
        if !news.is_empty() {
            self.home.tell(&stored, &news).await;
        }
        Ok((stored, verdict))
    }

    /// Asks for one tag, and keeps what is known of its images, so that no write names one that is not kept. If they
    /// cannot be kept, that concerns only this tag.
    async fn ask(&self, wanted: Wanted, keyring: &Keyring) -> Result<Answer, (String, HomeError)> {
        let began = Instant::now();
        let known = wanted.newest.as_deref().filter(|_| wanted.is_repeated);
        let fetched = self.remote.fetch(&wanted, known, keyring).await;
        let reason = fetched.as_ref().err().map(|error| error.reason);
        self.metrics.imported(reason.map(|reason: Reason| reason.to_string()).as_deref(), began.elapsed());
        let is_refused = reason.is_some_and(is_refusal);
        let (found, verdict) = match fetched {
            Ok(Fetched { digest, pull_spec, images }) => {
                if !images.is_empty() {
                    let kept = self.home.keep_images(&images).await;
                    kept.map_err(|error| (wanted.tag.clone(), error))?;
                }
                (Found::Image { pull_spec, image: digest }, Verdict::Done)
            }
            Err(error) => {
                let verdict = verdict_of(&error);
                (Found::Failure { reason: error.reason.to_string(), message: error.message }, verdict)
            }
        };
        Ok(Answer { imported: Imported { wanted, found }, verdict, is_refused })
    }

    /// Puts answers into the stream, as it is now. Gives back the stream, and the tags whose answers came too late.
    async fn write(&self, mut stored: Stored, answers: &[Answer]) -> Result<(Stored, BTreeSet<String>), HomeError> {
        let results: Vec<_> = answers.iter().map(|answer| answer.imported.clone()).collect();
        for _ in 0..WRITES_MAX {
            let in_use = if outcome::is_full(&stored.stream) {
                self.home.images_in_use(&stored.key().namespace).await?
            } else {
                BTreeSet::new()
            };
            let outcome = outcome::apply(&stored.stream, &results, Timestamp::now(), &in_use);
            if outcome.stream == stored.stream {
                return Ok((stored, outcome.overtaken));
            }
            match self.home.write(&stored, &outcome.stream).await {
                Ok(written) => {
                    self.home.tell(&written, &outcome.news).await;
                    return Ok((written, outcome.overtaken));
                }
                Err(HomeError::Conflict(key)) => {
                    stored = self.home.read(&key).await?.ok_or(HomeError::Gone(key))?;
                }
                Err(error) => return Err(error),
            }
        }
        Err(HomeError::Conflict(stored.key()))
    }
}

impl Remote for registry::Client {
    async fn fetch(&self, wanted: &Wanted, known: Option<&str>, keyring: &Keyring) -> Result<Fetched, FetchError> {
        let wanted = registry::Wanted {
            reference: &wanted.source,
            whole_index: wanted.mode != ImportMode::Legacy,
            insecure: wanted.insecure,
            system: wanted.system.as_deref(),
            architecture: wanted.architecture.as_deref(),
            known,
        };
        registry::Client::fetch(self, &wanted, keyring).await
    }

    async fn tags(&self, repository: &str, insecure: bool, keyring: &Keyring) -> Result<Vec<String>, FetchError> {
        registry::Client::tags(self, repository, insecure, keyring).await
    }
}
