//! The agenda beside a simple account of one stream after the other: whatever is written, deleted, made anew, heard of late,
//! tried and answered in whatever order, nothing that was asked for is forgotten. `PROPTEST_CASES=100000 cargo test model`
//! runs as many orders.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::json;

use super::*;

const RULES: Rules = Rules { interval: Duration::from_mins(15), scheduled_per_minute: 60_000 };
const STREAMS: [&str; 2] = ["a", "b"];

#[derive(Clone, Debug)]
enum Step {
    /// Somebody makes a stream, or changes its tag.
    Write(usize),
    /// Somebody deletes a stream.
    Delete(usize),
    /// The next news of a stream arrives; or only the latest, as from a list.
    Hear(usize, bool),
    /// Something is taken out, and the stream is read.
    Take,
    /// A registry answered: what came of it is written down.
    Answer(Index, Outcome),
    /// Who took something out says how it ended.
    Finish(Index),
    /// Time passes.
    Wait(u8),
    /// The home is back.
    Back,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    Imported,
    Failed,
    FailedForGood,
    HomeAway,
    HomeRefused,
}

fn step() -> impl Strategy<Value = Step> {
    use Outcome::{Failed, FailedForGood, HomeAway, HomeRefused, Imported};
    let outcome = prop::sample::select(vec![Imported, Imported, Failed, FailedForGood, HomeAway, HomeRefused]);
    prop_oneof![
        3 => (0..2_usize).prop_map(Step::Write),
        1 => (0..2_usize).prop_map(Step::Delete),
        4 => (0..2_usize, prop::bool::weighted(0.2)).prop_map(|(stream, latest)| Step::Hear(stream, latest)),
        3 => Just(Step::Take),
        3 => (any::<Index>(), outcome).prop_map(|(job, outcome)| Step::Answer(job, outcome)),
        3 => any::<Index>().prop_map(Step::Finish),
        1 => any::<u8>().prop_map(Step::Wait),
        1 => Just(Step::Back),
    ]
}

/// A stream as it is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stored {
    uid: u32,
    generation: i64,
    /// The generation whose image is in the history.
    imported: i64,
    /// The generation that failed last, and whether it would again.
    failed: Option<(i64, bool)>,
}

impl Stored {
    fn is_answered(&self) -> bool {
        self.imported == self.generation
    }

    /// Nobody has to try again before it is changed.
    fn is_hopeless(&self) -> bool {
        self.failed == Some((self.generation, true))
    }

    fn told(&self, name: &str) -> ImageStream {
        let item = json!({"dockerImageReference": "a", "image": "sha256:1", "generation": self.imported});
        let items = if self.imported > 0 { vec![item] } else { Vec::new() };
        let failure = |(generation, _)| json!({"type": "ImportSuccess", "status": "False", "generation": generation});
        let conditions: Vec<_> = self.failed.map(failure).into_iter().collect();
        let from = json!({"kind": "DockerImage", "name": "q.io/a:1"});
        let stream = json!({"metadata": {"name": name, "namespace": "demo", "uid": self.uid.to_string()},
            "spec": {"tags": [{"name": "1", "generation": self.generation, "from": from}]},
            "status": {"tags": [{"tag": "1", "items": items, "conditions": conditions}]}});
        serde_json::from_value(stream).unwrap()
    }
}

/// What was taken out, the stream as it was read then, and how it ended if it has.
#[derive(Debug)]
struct Job {
    due: Due,
    read: Option<Stored>,
    verdict: Option<Verdict>,
}

/// The streams, the news of them that are on their way, and what is tried.
#[derive(Default)]
struct World {
    uid: u32,
    streams: BTreeMap<String, Stored>,
    news: BTreeMap<String, VecDeque<Option<Stored>>>,
    jobs: Vec<Job>,
}

impl World {
    fn store(&mut self, name: &str, stored: Option<Stored>) {
        match stored {
            Some(stored) => self.streams.insert(name.to_owned(), stored),
            None => self.streams.remove(name),
        };
        self.news.entry(name.to_owned()).or_default().push_back(stored);
    }

    fn write(&mut self, name: &str) {
        self.uid += 1;
        let new = Stored { uid: self.uid, generation: 1, imported: 0, failed: None };
        let known = self.streams.get(name);
        let stored = known.map_or(new, |known| Stored { generation: known.generation + 1, ..*known });
        self.store(name, Some(stored));
    }

    /// What came of a job is written down, unless the stream is another one by now.
    fn answer(&mut self, job: usize, outcome: Outcome) {
        let Job { due, read, verdict: None } = &self.jobs[job] else { return };
        let name = due.key.name.clone();
        let now = self.streams.get(&*name).copied();
        let verdict = match (*read, outcome) {
            (_, Outcome::HomeAway) => Verdict::Away(None),
            (_, Outcome::HomeRefused) => Verdict::Refused,
            (None, _) => Verdict::Never,
            (Some(read), _) if read.is_answered() => Verdict::Done,
            (Some(read), _) if now.is_none_or(|now| (now.uid, now.generation) != (read.uid, read.generation)) => {
                Verdict::Again
            }
            (Some(read), Outcome::Imported) => {
                self.store(&name, Some(Stored { imported: read.generation, failed: None, ..read }));
                Verdict::Done
            }
            (Some(read), _) => {
                let is_hopeless = outcome == Outcome::FailedForGood;
                self.store(&name, Some(Stored { failed: Some((read.generation, is_hopeless)), ..read }));
                if is_hopeless { Verdict::Never } else { Verdict::Later(None) }
            }
        };
        self.jobs[job].verdict = Some(verdict);
    }
}

/// Tells the agenda the next news of a stream, or only the latest.
fn hear(world: &mut World, agenda: &mut Agenda, name: &str, only_latest: bool, now: Duration, random: u64) {
    let news = world.news.entry(name.to_owned()).or_default();
    let heard = if only_latest { news.drain(..).next_back() } else { news.pop_front() };
    match heard {
        Some(Some(stored)) => agenda.apply(&stored.told(name), now, random),
        Some(None) => agenda.delete(&Key::new("demo", name)),
        None => {}
    }
}

fn take(world: &mut World, agenda: &mut Agenda, now: Duration) {
    if let Some(due) = agenda.next(now) {
        let read = world.streams.get(&*due.key.name).copied();
        world.jobs.push(Job { due, read, verdict: None });
    }
}

fn finish(world: &mut World, agenda: &mut Agenda, job: usize, now: Duration, random: u64) {
    let Job { due, verdict: Some(verdict), .. } = &world.jobs[job] else { return };
    let verdicts: Vec<_> = due.tags.iter().map(|tag| (tag.clone(), *verdict)).collect();
    agenda.finish(&due.key, due.number, &verdicts, now, random);
    world.jobs.swap_remove(job);
}

proptest! {
    /// Once everything is heard and all that is tried has ended, whatever is asked for and not hopeless is imported after
    /// as few tries as there are streams, whatever was before.
    #[test]
    fn nothing_that_was_asked_for_is_forgotten(
        steps in prop::collection::vec((step(), any::<u64>()), 0..120)
    ) {
        let (mut agenda, mut world, mut now) = (Agenda::new(RULES), World::default(), Duration::ZERO);
        for (step, random) in steps {
            let job = |index: Index| (!world.jobs.is_empty()).then(|| index.index(world.jobs.len()));
            match step {
                Step::Write(name) => world.write(STREAMS[name]),
                Step::Delete(name) if world.streams.contains_key(STREAMS[name]) => world.store(STREAMS[name], None),
                Step::Delete(_) => {}
                Step::Hear(name, latest) => hear(&mut world, &mut agenda, STREAMS[name], latest, now, random),
                Step::Take => take(&mut world, &mut agenda, now),
                Step::Answer(index, outcome) => if let Some(job) = job(index) { world.answer(job, outcome) },
                Step::Finish(index) => if let Some(job) = job(index) {
                    finish(&mut world, &mut agenda, job, now, random);
                },
                Step::Wait(seconds) => now += Duration::from_secs(seconds.into()),
                Step::Back => agenda.home_is_back(now),
            }
        }
        // All are heard out, in an order in which what was done is told before and after its news.
        let mut tries = 0;
        while tries <= 2 * STREAMS.len() {
            for job in (0..world.jobs.len()).rev() {
                world.answer(job, Outcome::Imported);
            }
            for name in STREAMS {
                while world.news.get(name).is_some_and(|news| !news.is_empty()) {
                    hear(&mut world, &mut agenda, name, false, now, 0);
                }
            }
            for job in (0..world.jobs.len()).rev() {
                finish(&mut world, &mut agenda, job, now, 0);
            }
            let Some(at) = agenda.wake() else { break };
            now = now.max(at);
            take(&mut world, &mut agenda, now);
            tries += 1;
        }
        for (name, stored) in &world.streams {
            prop_assert!(stored.is_answered() || stored.is_hopeless(), "{name} is forgotten: {stored:?}");
        }
        prop_assert!(world.jobs.is_empty() && agenda.wake().is_none(), "it goes on after {tries} tries");
    }
}
