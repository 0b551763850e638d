//! What happened while everything was killed: which images tags had and when, and what was acknowledged. The model that
//! what is found at the end is compared with; it knows nothing of how Pinstream works.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crate::waiting::eventually_within;

/// How long it may take until something works again.
const PATIENCE: Duration = Duration::from_mins(2);

/// What happened so far.
#[derive(Default)]
pub struct Record {
    /// Nothing more is to be begun.
    pub end: AtomicBool,
    happened: Mutex<Happened>,
}

#[derive(Default)]
struct Happened {
    moves: BTreeMap<String, Vec<Move>>,
    pods: Vec<Pod>,
    pulls: Vec<Answer>,
    deployments: Vec<String>,
    failures: usize,
}

/// A stream's tag became another image.
struct Move {
    image: String,
    /// It was in the registry from then on, and not before.
    pushed: Instant,
    /// It was in the stream at that time.
    seen: Option<Instant>,
}

/// That the tag of a stream is an image.
#[derive(Clone)]
pub struct Answer {
    pub stream: String,
    pub image: String,
    pub asked: Instant,
    pub answered: Instant,
}

/// A Pod that the API server said to have stored.
#[derive(Clone)]
pub struct Pod {
    pub name: String,
    pub uid: String,
    pub answer: Answer,
}

impl Record {
    pub fn is_pushed(&self, stream: &str, image: &str) {
        let next = Move { image: image.to_owned(), pushed: Instant::now(), seen: None };
        self.happened.lock().unwrap().moves.entry(stream.to_owned()).or_default().push(next);
    }

    /// The newest image of a stream is in its history.
    pub fn is_seen(&self, stream: &str) {
        let mut happened = self.happened.lock().unwrap();
        happened.moves.get_mut(stream).unwrap().last_mut().unwrap().seen = Some(Instant::now());
    }

    pub fn is_created(&self, pod: Pod) {
        self.happened.lock().unwrap().pods.push(pod);
    }

    pub fn is_pulled(&self, answer: Answer) {
        self.happened.lock().unwrap().pulls.push(answer);
    }

    pub fn is_deployed(&self, name: String) {
        self.happened.lock().unwrap().deployments.push(name);
    }

    /// Something was refused, or not answered.
    pub fn has_failed(&self) {
        self.happened.lock().unwrap().failures += 1;
    }

    /// Waits until so many more Pods are created.
    pub fn goes_on(&self, more: u64) {
        let created = || self.happened.lock().unwrap().pods.len();
        let before = created();
        eventually_within(PATIENCE, "more Pods are created", || created() as u64 >= before as u64 + more);
    }

    pub fn summary(&self) -> String {
        let happened = self.happened.lock().unwrap();
        let (pods, pulls, failures) = (happened.pods.len(), happened.pulls.len(), happened.failures);
        let mut summary = format!("{pods} Pods, {pulls} pulls, {failures} failures");
        for (stream, moves) in &happened.moves {
            write!(summary, ", {} moves of {stream}", moves.len()).unwrap();
        }
        summary
    }

    /// The images that the tag of each stream had, newest first.
    pub fn histories(&self) -> BTreeMap<String, Vec<String>> {
        let happened = self.happened.lock().unwrap();
        let images = |moves: &Vec<Move>| moves.iter().rev().map(|moved| moved.image.clone()).collect();
        happened.moves.iter().map(|(stream, moves)| (stream.clone(), images(moves))).collect()
    }

    pub fn pods(&self) -> Vec<Pod> {
        self.happened.lock().unwrap().pods.clone()
    }

    pub fn deployments(&self) -> Vec<String> {
        self.happened.lock().unwrap().deployments.clone()
    }

    /// For how long at most the image of a Pod had not been that of the tag any more when it was asked for.
    pub fn oldest_pod(&self) -> Duration {
        let happened = self.happened.lock().unwrap();
        happened.pods.iter().map(|pod| happened.age(&pod.answer)).max().unwrap()
    }

    /// The same of what was pulled.
    pub fn oldest_pull(&self) -> Duration {
        let happened = self.happened.lock().unwrap();
        happened.pulls.iter().map(|answer| happened.age(answer)).max().unwrap()
    }
}

impl Happened {
    fn age(&self, answer: &Answer) -> Duration {
        let moves = &self.moves[&answer.stream];
        let index = moves.iter().position(|moved| moved.image == answer.image);
        let index = index.unwrap_or_else(|| panic!("{} never was {}", answer.stream, answer.image));
        assert!(moves[index].pushed <= answer.answered, "{} was not yet {}", answer.stream, answer.image);
        let replaced = moves.get(index + 1).and_then(|next| next.seen);
        replaced.map_or(Duration::ZERO, |replaced| answer.asked.saturating_duration_since(replaced))
    }
}
