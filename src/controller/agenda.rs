//! When each tag is to be imported next. Pure: times are durations since some beginning, chance is an argument.
//!
//! What was asked for comes at once, what failed comes again after waits that double, the schedule comes at its
//! interval. What waits for the home of the streams, and not for a registry, comes when that is back. Must not know how
//! importing is done.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use crate::stream::history;
use crate::stream::plan::{self, Need};
use crate::stream::pullspec::RegistryHost;
use crate::stream::types::SpecTag;
use crate::stream::{ImageStream, Key};

/// In place of a tag: the stream itself, whose tags are to be numbered, copied or listed.
pub const WHOLE_STREAM: &str = "";
/// The first wait after a failure.
pub const RETRY_FIRST: Duration = Duration::from_secs(30);
/// The longest wait after a failure.
pub const RETRY_LONGEST: Duration = Duration::from_mins(15);
/// The first wait for a home that is away.
const HOME_FIRST: Duration = Duration::from_millis(300);
/// The longest wait for one. Each try may ask a registry for what cannot be written.
const HOME_LONGEST: Duration = Duration::from_mins(1);
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
    /// The registry failed: try again, not before that time at least if there is one.
    Later(Option<Duration>),
    /// The home could not be read or written: try again soon, not before that time at least if there is one.
    Away(Option<Duration>),
    /// The home refused, and may again: try again later, or when the home was away and is back.
    Refused,
    /// It failed, and would again: wait until the tag is changed.
    Never,
}

/// What is due for one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// The stream.
    pub key: Key,
    /// Which time it is that something is taken out.
    pub number: u64,
    /// Its tags, and perhaps [`WHOLE_STREAM`].
    pub tags: Vec<String>,
    /// The registry that is asked for them, or for the first of them if there are several; empty if none is.
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

#[derive(Debug)]
struct Entry {
    /// `None`: not before the tag is changed.
    at: Option<Duration>,
    need: Need,
    /// Another one is asked for something else: another generation of the tag, or the tag of another stream.
    version: u64,
    /// It was taken out as it is now. What is changed while it is out is another one, for which no verdict counts.
    is_out: bool,
    /// How often in a row the registry failed.
    tries: u32,
    /// How often in a row the home did, or was faster.
    home_tries: u32,
    /// It waits for the home, until then at least.
    home: Option<Duration>,
}

#[derive(Debug, Default)]
struct Stream {
    entries: BTreeMap<Box<str>, Entry>,
    /// The registry that is asked for them.
    registry: Arc<str>,
    /// Importable tags that need nothing.
    imported: usize,
    /// The number of what is taken out of it.
    out: Option<u64>,
}

type Slot = (Duration, Arc<Key>, Box<str>);

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
    /// How often something was taken out.
    taken: u64,
}

impl Agenda {
    /// An empty one.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        let budget = (f64::from(rules.scheduled_per_minute) / 60.0 * BURST_SECONDS, Duration::ZERO);
        let (streams, urgent, routine) = (HashMap::new(), BTreeSet::new(), BTreeSet::new());
        Self { rules, registry_host: RegistryHost::Unknown, streams, urgent, routine, budget, back: None, taken: 0 }
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
        let mut before = self.take(&key);
        let registry = plan::registry(stream).unwrap_or_default().into();
        let mut after = Stream { registry, out: before.out, ..Stream::default() };
        let whole = self.unsettled(stream).map(|version| (WHOLE_STREAM, Need::Asked, version));
        let tags = stream.spec.tags.iter().filter_map(|tag| {
            let need = plan::need(stream, tag)?;
            Some((tag.name.as_str(), need, fingerprint(&(uid(stream), tag.generation))))
        });
        for (number, (tag, need, version)) in whole.into_iter().chain(tags).enumerate() {
            let known = before.entries.remove(tag).filter(|known| known.is_for(need, version));
            let random = spread(random, number);
            let entry = match known {
                Some(known) => Entry { need, ..known },
                None => entry(need, version, self.rules.interval, now, random),
            };
            after.entries.insert(tag.into(), entry);
        }
        let importable = stream.spec.tags.iter().filter(|tag| plan::is_importable(tag)).count();
        let in_need = after.entries.keys().filter(|tag| &***tag != WHOLE_STREAM).count();
        after.imported = importable.saturating_sub(in_need);
        self.put(key, after);
    }

    /// A stream is gone.
    pub fn delete(&mut self, key: &Key) {
        self.take(key);
    }

    /// Takes out what is due first, all that is due of one stream. That stream is not given again until it is finished.
    pub fn next(&mut self, now: Duration) -> Option<Due> {
        self.refill(now);
        let is_due =
            |slots: &BTreeSet<Slot>| slots.first().filter(|slot| slot.0 <= now).map(|slot| Arc::clone(&slot.1));
        let may_be_routine = self.budget.0 >= 1.0;
        let key = is_due(&self.urgent).or_else(|| is_due(&self.routine).filter(|_| may_be_routine))?;
        let mut stream = self.take(&key);
        self.taken += 1;
        stream.out = Some(self.taken);
        let mut tags = Vec::new();
        for (tag, entry) in stream.entries.iter_mut().filter(|(_, entry)| entry.at.is_some_and(|at| at <= now)) {
            if entry.need == Need::Scheduled {
                if self.budget.0 < 1.0 {
                    continue;
                }
                self.budget.0 -= 1.0;
            }
            entry.is_out = true;
            tags.push(tag.to_string());
        }
        let due = Due { key: (*key).clone(), number: self.taken, tags, registry: Arc::clone(&stream.registry) };
        self.put(key, stream);
        Some(due)
    }

    /// What was taken out by that number is done, each tag with its verdict. What the stream looks like now is told by
    /// [`apply`](Self::apply), before or after.
    pub fn finish(&mut self, key: &Key, number: u64, verdicts: &[(String, Verdict)], now: Duration, random: u64) {
        let known = self.streams.get_key_value(key);
        let Some((key, _)) = known.filter(|(_, stream)| stream.out == Some(number)) else { return };
        let key = Arc::clone(key);
        let mut stream = self.take(&key);
        stream.out = None;
        for (number, (tag, verdict)) in verdicts.iter().enumerate() {
            let Some(entry) = stream.entries.get_mut(tag.as_str()).filter(|entry| entry.is_out) else { continue };
            let random = spread(random, number);
            if *verdict == Verdict::Done && entry.need != Need::Scheduled {
                stream.entries.remove(tag.as_str());
            } else {
                entry.end(*verdict, now, self.rules.interval, random);
            }
        }
        stream.entries.values_mut().for_each(|entry| entry.is_out = false);
        self.put(key, stream);
    }

    /// The home can be read again after it could not: what waits for it is due now. What waits for a registry is not.
    pub fn home_is_back(&mut self, now: Duration) {
        if self.back.is_some_and(|back| now < back + BACK_APART) {
            return;
        }
        self.back = Some(now);
        let is_waiting = |stream: &Stream| stream.entries.values().any(|entry| entry.home_tries > 0);
        let waiting = self.streams.iter().filter(|(_, stream)| is_waiting(stream));
        let waiting: Vec<_> = waiting.map(|(key, _)| Arc::clone(key)).collect();
        for key in waiting {
            let mut stream = self.take(&key);
            stream.entries.values_mut().for_each(|entry| entry.home_is_back(now));
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
            for (tag, entry) in &stream.entries {
                match entry.need {
                    _ if &**tag == WHOLE_STREAM => {}
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

    /// What there is to settle, as a number that is another one when that is something else: tags without a number, tags
    /// that are copied from others and were not yet, a repository whose tags are not known yet, where it is served.
    fn unsettled(&self, stream: &ImageStream) -> Option<u64> {
        let is_unsettled = |tag: &&SpecTag| {
            let generation = tag.generation.unwrap_or_default();
            let is_copied = tag.from.is_some() && !plan::is_importable(tag);
            generation == 0 || is_copied && generation > history::observed(stream.status.tag(&tag.name))
        };
        let tags = stream.spec.tags.iter().filter(is_unsettled).map(|tag| (&tag.name, tag.generation));
        let tags: Vec<_> = tags.collect();
        let elsewhere = self.registry_host.repository(stream);
        let elsewhere = (elsewhere != stream.status.docker_image_repository).then_some(elsewhere);
        let repository = plan::repository(stream);
        if tags.is_empty() && elsewhere.is_none() && repository.is_none() {
            return None;
        }
        Some(fingerprint(&(uid(stream), tags, elsewhere, repository)))
    }

    /// Takes a stream out of everything; an empty one if it is not known.
    fn take(&mut self, key: &Key) -> Stream {
        let Some((key, stream)) = self.streams.remove_entry(key) else { return Stream::default() };
        for (tag, entry) in &stream.entries {
            if let Some(at) = entry.at {
                let slot = (at, Arc::clone(&key), tag.clone());
                self.urgent.remove(&slot);
                self.routine.remove(&slot);
            }
        }
        stream
    }

    fn put(&mut self, key: Arc<Key>, stream: Stream) {
        for (tag, entry) in stream.entries.iter().filter(|_| stream.out.is_none()) {
            let slots = if entry.need == Need::Scheduled { &mut self.routine } else { &mut self.urgent };
            if let Some(at) = entry.at {
                slots.insert((at, Arc::clone(&key), tag.clone()));
            }
        }
        self.streams.insert(key, stream);
    }
}

impl Entry {
    /// It goes on if that is what is needed now: nothing else was asked for, and nobody else answered.
    fn is_for(&self, need: Need, version: u64) -> bool {
        let goes_on = match need {
            Need::Asked => self.need == Need::Asked,
            Need::Failed | Need::Scheduled => self.need != Need::Asked || self.is_out,
        };
        goes_on && self.version == version
    }

    /// It was tried, and is not over.
    fn end(&mut self, verdict: Verdict, now: Duration, interval: Duration, random: u64) {
        let least = match verdict {
            Verdict::Away(least) | Verdict::Later(least) => least.unwrap_or_default(),
            _ => Duration::ZERO,
        };
        let wait = match verdict {
            Verdict::Done => Some(around(interval, random)),
            Verdict::Never => None,
            Verdict::Later(_) => Some(retry(self.tries, random).max(least)),
            Verdict::Refused => Some(retry(self.home_tries, random)),
            Verdict::Again | Verdict::Away(_) => Some(soon(self.home_tries, random).max(least)),
        };
        self.at = wait.map(|wait| now + wait);
        self.home = matches!(verdict, Verdict::Away(_) | Verdict::Refused).then_some(now + least);
        // Whatever the home did says nothing of the registry.
        (self.tries, self.home_tries) = match verdict {
            Verdict::Done => (0, 0),
            Verdict::Never => (self.tries, 0),
            Verdict::Later(_) => (self.tries + 1, 0),
            Verdict::Again | Verdict::Away(_) | Verdict::Refused => (self.tries, self.home_tries + 1),
        };
    }

    /// What waits for the home need not wait any more, and what is tried just now will not have to wait for long.
    fn home_is_back(&mut self, now: Duration) {
        self.home_tries = 0;
        if let Some(least) = self.home.take() {
            self.at = self.at.map(|at| at.min(least.max(now)));
        }
    }
}

/// What is new.
fn entry(need: Need, version: u64, interval: Duration, now: Duration, random: u64) -> Entry {
    let (at, tries) = match need {
        Need::Asked => (now, 0),
        // It failed before this process knew of it, or somebody else was told so.
        Need::Failed => (now + retry(0, random), 1),
        // Nobody knows when it was looked at last; all of them together should not be looked at now.
        Need::Scheduled => (now + share(interval, random), 0),
    };
    Entry { at: Some(at), need, version, is_out: false, tries, home_tries: 0, home: None }
}

/// Another one for another stream of the same name, on a cluster.
fn uid(stream: &ImageStream) -> Option<&str> {
    stream.metadata.other.get("uid")?.as_str()
}

/// The same for what is the same.
fn fingerprint(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// The wait after so many tries that failed before.
fn retry(tries: u32, random: u64) -> Duration {
    doubled(RETRY_FIRST, RETRY_LONGEST, tries, random)
}

/// The same, if it is the home's matter.
fn soon(tries: u32, random: u64) -> Duration {
    doubled(HOME_FIRST, HOME_LONGEST, tries, random)
}

fn doubled(first: Duration, longest: Duration, tries: u32, random: u64) -> Duration {
    around(first.saturating_mul(2_u32.saturating_pow(tries)).min(longest), random).min(longest)
}

/// Nine to eleven tenths of it.
fn around(duration: Duration, random: u64) -> Duration {
    duration * 9 / 10 + share(duration / 5, random)
}

/// Something between nothing and all of it.
fn share(duration: Duration, random: u64) -> Duration {
    duration.mul_f64(f64::from(u32::try_from(random >> 32).unwrap_or_default()) / f64::from(u32::MAX))
}

/// Another number for each of several.
fn spread(random: u64, number: usize) -> u64 {
    let number = u64::try_from(number).unwrap_or_default();
    random.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
