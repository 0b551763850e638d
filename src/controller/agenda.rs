//! When each tag is to be imported next. Pure: times are durations since some beginning, chance is an argument.
//!
//! What was asked for comes at once, what failed comes again after waits that double, the schedule comes at its
//! interval. What waits for the home of the streams, and not for a registry, comes when that is back. Must not know how
//! importing is done.

mod entry;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use self::entry::{Entry, spread};
use crate::stream::plan::{self, Need};
use crate::stream::pullspec::RegistryHost;
use crate::stream::types::SpecTag;
use crate::stream::{ImageStream, Key};

/// In place of a tag: the stream itself, whose tags are to be numbered, copied or listed.
pub const WHOLE_STREAM: &str = "";
/// A home that comes back more often than this is one that comes and goes.
const BACK_APART: Duration = Duration::from_secs(10);
/// Scheduled imports that may come at once after a quiet time.
const BURST_SECONDS: f64 = 10.0;

/// How often.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// Between two scheduled imports of a tag; each time shortened or lengthened by chance by up to a tenth.
    pub interval: Duration,
    /// How many scheduled imports there may be in a minute.
    pub scheduled_per_minute: u32,
}

/// How an import ended, as far as the next one is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is done.
    Done,
    /// The tag was changed meanwhile: look again at once.
    Again,
    /// Nobody was asked for it: others have their turn first, then it is due.
    Next,
    /// The registry failed: try again, not before that time at least if there is one.
    Later(Option<Duration>),
    /// The home could not be read or written: try again soon, not before that time at least if there is one.
    Away(Option<Duration>),
    /// The home refused, and may again: try again later, or when the home was away and is back.
    Refused,
    /// It failed, and would again: wait until the tag is changed.
    Never,
}

/// What is due for one stream at one registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// The stream.
    pub key: Key,
    /// Its tags, and perhaps [`WHOLE_STREAM`].
    pub tags: Vec<String>,
    /// The registry that is asked for them, empty if none is.
    pub registry: Arc<str>,
}

/// How many tags are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct States {
    /// Asked for and not imported yet.
    pub pending: usize,
    /// The newest import failed.
    pub failed: usize,
    /// Imported, and looked at again and again.
    pub scheduled: usize,
    /// Imported once and for all.
    pub imported: usize,
}

#[derive(Debug, Default)]
struct Stream {
    /// By the registry that is asked.
    lines: BTreeMap<Arc<str>, Line>,
    /// Importable tags that need nothing.
    imported: usize,
}

/// What one registry is asked for one stream.
#[derive(Debug, Default)]
struct Line {
    entries: BTreeMap<Box<str>, Entry>,
    is_running: bool,
}

/// Time, stream, registry and tag.
type Slot = (Duration, Arc<Key>, Arc<str>, Box<str>);

/// The next import of every tag that has one.
#[derive(Debug)]
pub struct Agenda {
    rules: Rules,
    registry_host: RegistryHost,
    streams: HashMap<Arc<Key>, Stream>,
    /// What was asked for or failed.
    urgent: BTreeSet<Slot>,
    /// What is on schedule.
    routine: BTreeSet<Slot>,
    /// How many scheduled imports may come now, and since when that holds.
    budget: (f64, Duration),
    /// When the home was last back.
    back: Option<Duration>,
}

impl Agenda {
    /// An empty one.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        let budget = (f64::from(rules.scheduled_per_minute) / 60.0 * BURST_SECONDS, Duration::ZERO);
        let (streams, urgent, routine) = (HashMap::new(), BTreeSet::new(), BTreeSet::new());
        Self { rules, registry_host: RegistryHost::Unknown, streams, urgent, routine, budget, back: None }
    }

    /// Streams whose status says another registry are to be settled.
    #[must_use]
    pub fn served_at(self, registry_host: RegistryHost) -> Self {
        Self { registry_host, ..self }
    }

    /// A stream is there, new or changed. `random` is any number, another for each call.
    pub fn apply(&mut self, stream: &ImageStream, now: Duration, random: u64) {
        let key = stream.key();
        let key = self.streams.get_key_value(&key).map_or_else(|| Arc::new(key), |(known, _)| Arc::clone(known));
        let before = self.take(&key);
        let mut after = Stream::default();
        let running = before.lines.iter().filter(|(_, line)| line.is_running);
        after.lines.extend(running.map(|(registry, _)| (Arc::clone(registry), Line::running())));
        let mut known: BTreeMap<_, _> = before.lines.into_values().flat_map(|line| line.entries).collect();
        let is_served_elsewhere = self.registry_host.repository(stream) != stream.status.docker_image_repository;
        if is_served_elsewhere || needs_settling(stream) {
            let registry = plan::repository(stream).map(plan::registry).unwrap_or_default();
            let entry = known.remove(WHOLE_STREAM).unwrap_or_else(|| Entry::of_stream(now));
            after.line(&registry).entries.insert(WHOLE_STREAM.into(), entry);
        }
        after.imported = stream.spec.tags.iter().filter(|tag| plan::is_importable(tag)).count();
        for (number, tag) in stream.spec.tags.iter().enumerate() {
            let Some(need) = plan::need(stream, tag) else { continue };
            let generation = tag.generation.unwrap_or_default();
            let known = known
                .remove(tag.name.as_str())
                .filter(|known| known.generation == generation && (need != Need::Asked || known.need == Need::Asked));
            let entry = match known {
                Some(known) => known.with(need),
                None => Entry::new(need, generation, self.rules.interval, now, spread(random, number)),
            };
            let source = tag.from.as_ref().map_or("", |from| from.name.as_str());
            let is_new = after.line(&plan::registry(source)).entries.insert(tag.name.as_str().into(), entry).is_none();
            after.imported -= usize::from(is_new);
        }
        self.put(key, after);
    }

    /// A stream is gone.
    pub fn delete(&mut self, key: &Key) {
        self.take(key);
    }

    /// Takes out what is due first, and all that is due of the same stream at the same registry. That is not given again
    /// until it is finished.
    pub fn next(&mut self, now: Duration) -> Option<Due> {
        self.refill(now);
        let is_due = |slots: &BTreeSet<Slot>| slots.first().filter(|slot| slot.0 <= now).cloned();
        let may_be_routine = self.budget.0 >= 1.0;
        let (_, key, registry, _) =
            is_due(&self.urgent).or_else(|| is_due(&self.routine).filter(|_| may_be_routine))?;
        let mut line = self.take_line(&key, &registry)?;
        line.is_running = true;
        let mut tags = Vec::new();
        for (tag, entry) in line.entries.iter().filter(|(_, entry)| entry.at.is_some_and(|at| at <= now)) {
            if entry.need == Need::Scheduled {
                if self.budget.0 < 1.0 {
                    continue;
                }
                self.budget.0 -= 1.0;
            }
            tags.push(tag.to_string());
        }
        let due = Due { key: (*key).clone(), tags, registry: Arc::clone(&registry) };
        self.put_line(&key, registry, line);
        Some(due)
    }

    /// What was taken out of a stream for a registry is done, each tag with its verdict. What the stream looks like now
    /// is told by [`apply`](Self::apply), before or after.
    pub fn finish(
        &mut self,
        (key, registry): (&Key, &Arc<str>),
        verdicts: &[(String, Verdict)],
        now: Duration,
        random: u64,
    ) {
        let Some((key, _)) = self.streams.get_key_value(key) else { return };
        let key = Arc::clone(key);
        // A tag that comes from another registry by now is in another line.
        let Some(mut line) = self.take_line(&key, registry) else { return };
        line.is_running = false;
        for (number, (tag, verdict)) in verdicts.iter().enumerate() {
            let Some(entry) = line.entries.get_mut(tag.as_str()) else { continue };
            if *verdict == Verdict::Next && entry.need == Need::Scheduled {
                self.budget.0 += 1.0;
            }
            match verdict {
                Verdict::Done if entry.need != Need::Scheduled => drop(line.entries.remove(tag.as_str())),
                verdict => entry.end(*verdict, now, self.rules.interval, spread(random, number)),
            }
        }
        self.put_line(&key, Arc::clone(registry), line);
    }

    /// The home can be read again after it could not: what waits for it is due now. What waits for a registry is not.
    pub fn home_is_back(&mut self, now: Duration) {
        if self.back.is_some_and(|back| now < back + BACK_APART) {
            return;
        }
        self.back = Some(now);
        let is_waiting = |stream: &Stream| stream.entries().any(|(_, entry)| entry.home_tries > 0);
        let waiting = self.streams.iter().filter(|(_, stream)| is_waiting(stream));
        let waiting: Vec<_> = waiting.map(|(key, _)| Arc::clone(key)).collect();
        for key in waiting {
            let mut stream = self.take(&key);
            let entries = stream.lines.values_mut().flat_map(|line| line.entries.values_mut());
            entries.for_each(|entry| entry.home_is_back(now));
            self.put(key, stream);
        }
    }

    /// When there will be something to take out, if nothing changes.
    #[must_use]
    pub fn wake(&self) -> Option<Duration> {
        let urgent = self.urgent.first().map(|slot| slot.0);
        let missing = (1.0 - self.budget.0).max(0.0) * 60.0 / f64::from(self.rules.scheduled_per_minute.max(1));
        let refilled = self.budget.1 + Duration::from_secs_f64(missing);
        let routine = self.routine.first().map(|slot| slot.0.max(refilled));
        urgent.into_iter().chain(routine).min()
    }

    /// How many tags are due and not taken out yet.
    #[must_use]
    pub fn backlog(&self, now: Duration) -> usize {
        let is_due = |slot: &&Slot| slot.0 <= now;
        self.urgent.iter().take_while(is_due).count() + self.routine.iter().take_while(is_due).count()
    }

    /// For how long the scheduled import that waits longest has been due.
    #[must_use]
    pub fn overdue(&self, now: Duration) -> Duration {
        self.routine.first().map_or(Duration::ZERO, |slot| now.saturating_sub(slot.0))
    }

    /// How many scheduled imports have been due for longer than an interval.
    #[must_use]
    pub fn late(&self, now: Duration) -> usize {
        self.routine.iter().take_while(|slot| slot.0 + self.rules.interval < now).count()
    }

    /// How many tags are in which state.
    #[must_use]
    pub fn states(&self) -> States {
        let mut states = States::default();
        for stream in self.streams.values() {
            states.imported += stream.imported;
            for (tag, entry) in stream.entries() {
                match entry.need {
                    _ if tag == WHOLE_STREAM => {}
                    Need::Asked => states.pending += 1,
                    Need::Failed => states.failed += 1,
                    Need::Scheduled => states.scheduled += 1,
                }
            }
        }
        states
    }

    fn refill(&mut self, now: Duration) {
        let rate = f64::from(self.rules.scheduled_per_minute) / 60.0;
        let gained = now.saturating_sub(self.budget.1).as_secs_f64() * rate;
        self.budget = ((self.budget.0 + gained).min((rate * BURST_SECONDS).max(1.0)), now);
    }

    /// Takes a stream out of everything; an empty one if it is not known.
    fn take(&mut self, key: &Key) -> Stream {
        let Some((key, stream)) = self.streams.remove_entry(key) else { return Stream::default() };
        for (registry, line) in &stream.lines {
            self.clear(&key, registry, line);
        }
        stream
    }

    fn put(&mut self, key: Arc<Key>, stream: Stream) {
        for (registry, line) in &stream.lines {
            self.fill(&key, registry, line);
        }
        self.streams.insert(key, stream);
    }

    /// Takes a line out of everything. `None` if it is not known.
    fn take_line(&mut self, key: &Arc<Key>, registry: &Arc<str>) -> Option<Line> {
        let line = self.streams.get_mut(key)?.lines.remove(registry)?;
        self.clear(key, registry, &line);
        Some(line)
    }

    fn put_line(&mut self, key: &Arc<Key>, registry: Arc<str>, line: Line) {
        self.fill(key, &registry, &line);
        let stream = self.streams.entry(Arc::clone(key)).or_default();
        if line.is_running || !line.entries.is_empty() {
            stream.lines.insert(registry, line);
        }
    }

    fn clear(&mut self, key: &Arc<Key>, registry: &Arc<str>, line: &Line) {
        for slot in line.slots(key, registry) {
            self.urgent.remove(&slot.1);
            self.routine.remove(&slot.1);
        }
    }

    fn fill(&mut self, key: &Arc<Key>, registry: &Arc<str>, line: &Line) {
        for (need, slot) in line.slots(key, registry).filter(|_| !line.is_running) {
            let slots = if need == Need::Scheduled { &mut self.routine } else { &mut self.urgent };
            slots.insert(slot);
        }
    }
}

impl Stream {
    fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.lines.values().flat_map(|line| line.entries.iter().map(|(tag, entry)| (&**tag, entry)))
    }

    fn line(&mut self, registry: &str) -> &mut Line {
        if !self.lines.contains_key(registry) {
            self.lines.insert(registry.into(), Line::default());
        }
        self.lines.get_mut(registry).expect("it is there now")
    }
}

impl Line {
    fn running() -> Self {
        Self { is_running: true, ..Self::default() }
    }

    fn slots(&self, key: &Arc<Key>, registry: &Arc<str>) -> impl Iterator<Item = (Need, Slot)> {
        self.entries.iter().filter_map(|(tag, entry)| {
            Some((entry.need, (entry.at?, Arc::clone(key), Arc::clone(registry), tag.clone())))
        })
    }
}

/// The stream has tags without a number, tags that are copied from others and were not yet, or a repository whose tags
/// are not known yet.
fn needs_settling(stream: &ImageStream) -> bool {
    let is_unsettled = |tag: &SpecTag| {
        let generation = tag.generation.unwrap_or_default();
        let is_copied = tag.from.is_some() && !plan::is_importable(tag);
        generation == 0 || is_copied && generation > crate::stream::history::observed(stream.status.tag(&tag.name))
    };
    plan::repository(stream).is_some() || stream.spec.tags.iter().any(is_unsettled)
}

#[cfg(test)]
mod tests;
