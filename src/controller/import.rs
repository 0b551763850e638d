//! Imports what is due: asks registries, puts the answers into streams, and tells what happened.
//!
//! The same for a cluster and a directory. What is due is the agenda's, what becomes of an answer is
//! `stream::outcome`'s. Any number of these may run over the same streams: nothing is written over a change that was not
//! seen, and a result for a tag that changed meanwhile is not taken.

mod desk;
mod remote;
mod trouble;
mod turn;

use std::collections::{BTreeSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use jiff::Timestamp;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

use self::desk::{Desk, Desks};
pub use self::remote::Remote;
use self::trouble::{Teller, is_refusal, verdict_of, verdict_of_home};
use self::turn::{Asking, Turn};
use super::agenda::{Agenda, Due, Rules, Verdict, WHOLE_STREAM};
use super::queue::{Places, Queue};
use super::settle;
use crate::metrics::ImportMetrics;
use crate::registry::{Fetched, Keyring, Reason};
use crate::store::home::{Change, Home, HomeError, Stored};
use crate::stream::Key;
use crate::stream::outcome::{self, Found, Imported, News};
use crate::stream::plan::{self, Wanted};
use crate::stream::pullspec::RegistryHost;
use crate::stream::types::ImportMode;

/// How many streams are imported at a time; one that asks several registries counts for each.
const PLACES: Places = Places { all: 200, of_registry: 20 };
/// How often a stream that others write to meanwhile is read again.
const WRITES_MAX: usize = 10;
/// How often the state of the agenda is measured.
const MEASURING: Duration = Duration::from_secs(5);

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
    let worker = Worker::new(home, remote, settings, metrics);
    let mut tags = tags.to_vec();
    for _ in 0..WRITES_MAX {
        let mut verdicts = Vec::new();
        match worker.import(key, &tags, &Turn::whole(), &mut verdicts).await {
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
    desks: Desks,
}

/// A job that has ended.
struct Ended {
    key: Key,
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
        let worker = Worker::new(home, remote, settings, metrics);
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
                Some(Ended { key, registry, verdicts }) = jobs.next() => {
                    self.queue.end(&key.namespace, &registry);
                    let random = next(&self.random, &mut self.calls);
                    self.agenda.finish((&key, &registry), &verdicts, self.began.elapsed(), random);
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
    fn new(home: Arc<H>, remote: Arc<R>, settings: Settings, metrics: ImportMetrics) -> Self {
        Self { home, remote, settings, metrics, teller: Teller::default(), desks: Desks::default() }
    }

    async fn run(&self, due: Due) -> Ended {
        let Due { key, tags, registry } = due;
        let mut verdicts = Vec::new();
        // What is not wanted any more is told by the change that made it so.
        let rest = match self.import(&key, &tags, &Turn::at(Arc::clone(&registry)), &mut verdicts).await {
            Ok(()) => Verdict::Done,
            Err(error) => {
                self.teller.tell(&key, &error);
                verdict_of_home(&error)
            }
        };
        let answered: BTreeSet<String> = verdicts.iter().map(|(tag, _)| tag.clone()).collect();
        verdicts.extend(tags.into_iter().filter(|tag| !answered.contains(tag)).map(|tag| (tag, rest)));
        Ended { key, registry, verdicts }
    }

    /// Imports tags of a stream. Each that is ended has its verdict then, also if others could not be.
    async fn import(
        &self,
        key: &Key,
        tags: &[String],
        turn: &Turn,
        verdicts: &mut Vec<(String, Verdict)>,
    ) -> Result<(), HomeError> {
        let desk = self.desks.of(key);
        let keyring = self.home.keyring(&key.namespace).await?.of_tenant(&key.namespace);
        if tags.iter().any(|tag| tag == WHOLE_STREAM) {
            verdicts.push((WHOLE_STREAM.to_owned(), self.whole(key, &desk, &keyring).await?));
        }
        let wanted = self.wanted(key, &desk, tags).await?.into_iter().filter(|wanted| turn.is_for(wanted));
        let wanted: VecDeque<Wanted> = wanted.collect();
        let mut left: BTreeSet<String> = wanted.iter().map(|wanted| wanted.tag.clone()).collect();
        let mut asking = Asking::new(wanted);
        loop {
            let answers = asking.answers(turn, |wanted| self.ask(wanted, &keyring)).await?;
            if answers.is_empty() {
                break;
            }
            if answers.iter().any(|answer| answer.is_refused) {
                self.home.keyring_was_refused(&key.namespace);
            }
            let written = asking.beside(self.put(key, &desk, &answers)).await;
            let overtaken = written.inspect_err(|_| verdicts.extend(unwritten(&answers)))?;
            verdicts.extend(answers.into_iter().map(|answer| {
                let tag = answer.imported.wanted.tag;
                left.remove(&tag);
                let verdict = if overtaken.contains(&tag) { Verdict::Again } else { answer.verdict };
                (tag, verdict)
            }));
        }
        verdicts.extend(left.into_iter().map(|tag| (tag, Verdict::Next)));
        Ok(())
    }

    async fn read(&self, key: &Key) -> Result<Stored, HomeError> {
        self.home.read(key).await?.ok_or_else(|| HomeError::Gone(key.clone()))
    }

    /// What is to be asked for these tags of the stream as it is now.
    async fn wanted(&self, key: &Key, desk: &Desk, tags: &[String]) -> Result<Vec<Wanted>, HomeError> {
        if tags.iter().all(|tag| tag == WHOLE_STREAM) {
            return Ok(Vec::new());
        }
        let mut sheet = desk.sheet.lock().await;
        let stored = sheet.stored.insert(self.read(key).await?);
        let wanted = tags.iter().filter_map(|tag| plan::wanted(&stored.stream, tag, self.settings.default_mode));
        Ok(wanted.collect())
    }

    /// What concerns the stream and not one of its tags: where it is served, the tags of its repository, numbers, and
    /// tags that are copied.
    async fn whole(&self, key: &Key, desk: &Desk, keyring: &Keyring) -> Result<Verdict, HomeError> {
        let stored = self.read(key).await?;
        let (tags, verdict) = self.repository_tags(&stored, keyring).await;
        let mut sheet = desk.sheet.lock().await;
        // Another job may have written it meanwhile.
        let mut stored = sheet.stored.take().unwrap_or(stored);
        let now = Timestamp::now();
        let grown = match tags.filter(|_| plan::repository(&stored.stream).is_some()) {
            Some(tags) => outcome::with_repository(&stored.stream, tags, self.settings.repository_tags_max, now),
            None => stored.stream.clone(),
        };
        let (settled, news) = settle::settled(&*self.home, &grown, &self.settings, now).await?;
        if settled != stored.stream {
            stored = self.home.write(&stored, &settled).await?;
        }
        if !news.is_empty() {
            self.home.tell(&stored, &news).await;
        }
        sheet.stored = Some(stored);
        Ok(verdict)
    }

    /// The tags of the repository of a stream, if it has one that is to be listed and can be.
    async fn repository_tags(&self, stored: &Stored, keyring: &Keyring) -> (Option<Vec<String>>, Verdict) {
        let Some(repository) = plan::repository(&stored.stream) else { return (None, Verdict::Done) };
        let insecure = stored.stream.metadata.annotations.get(plan::INSECURE).is_some_and(|value| value == "true");
        match self.remote.tags(repository, insecure, keyring).await {
            Ok(tags) => (Some(tags), Verdict::Done),
            Err(error) => {
                let verdict = verdict_of(&error);
                if is_refusal(error.reason) {
                    self.home.keyring_was_refused(&stored.key().namespace);
                }
                let (reason, message) = (error.reason.to_string(), error.message);
                self.home.tell(stored, &[News::Failed { tag: None, reason, message }]).await;
                (None, verdict)
            }
        }
    }

    /// Asks for one tag, and keeps what is known of its images, so that no write names one that is not kept.
    async fn ask(&self, wanted: Wanted, keyring: &Keyring) -> Result<Answer, HomeError> {
        let began = Instant::now();
        let known = wanted.newest.as_deref().filter(|_| wanted.is_repeated);
        let fetched = self.remote.fetch(&wanted, known, keyring).await;
        let reason = fetched.as_ref().err().map(|error| error.reason);
        self.metrics.imported(reason.map(|reason: Reason| reason.to_string()).as_deref(), began.elapsed());
        let is_refused = reason.is_some_and(is_refusal);
        let (found, verdict) = match fetched {
            Ok(Fetched { digest, pull_spec, images }) => {
                if !images.is_empty() {
                    self.home.keep_images(&images).await?;
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

    /// Puts answers into the stream, together with those of other jobs. Gives back the tags whose answers came too late.
    async fn put(&self, key: &Key, desk: &Desk, answers: &[Answer]) -> Result<BTreeSet<String>, HomeError> {
        desk.hand_in(answers.iter().map(|answer| answer.imported.clone()));
        let mut sheet = desk.sheet.lock().await;
        let results = desk.handed_in();
        if !results.is_empty() {
            let written = self.write(key, &mut sheet.stored, &results).await;
            sheet.note(results, &written);
        }
        sheet.outcome(answers.iter().map(|answer| &*answer.imported.wanted.tag))
    }

    /// Puts results into the stream as it is now, which is `known` unless that is nothing or was changed.
    async fn write(
        &self,
        key: &Key,
        known: &mut Option<Stored>,
        results: &[Imported],
    ) -> Result<BTreeSet<String>, HomeError> {
        for _ in 0..WRITES_MAX {
            let stored = match known.take() {
                Some(stored) => stored,
                None => self.read(key).await?,
            };
            let in_use = if outcome::is_full(&stored.stream) {
                self.home.images_in_use(&key.namespace).await?
            } else {
                BTreeSet::new()
            };
            let outcome = outcome::apply(&stored.stream, results, Timestamp::now(), &in_use);
            if outcome.stream == stored.stream {
                *known = Some(stored);
                return Ok(outcome.overtaken);
            }
            match self.home.write(&stored, &outcome.stream).await {
                Ok(written) => {
                    self.home.tell(&written, &outcome.news).await;
                    *known = Some(written);
                    return Ok(outcome.overtaken);
                }
                Err(HomeError::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Err(HomeError::Conflict(key.clone()))
    }
}
