//! Image streams whose tags move all the time, each sort in another way, and what the [`Model`] is told of it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::command_tests::run;
use crate::control_plane::Namespace;
use crate::importing::{Stream, history, manifest, named, streams_path};
use crate::registry::{Content, Registry};
use crate::soak_model::Model;

/// The stream whose images are pulled through the registry.
pub const LOCAL: &str = "local";
/// The tag of every stream.
const TAG: &str = "1";
/// How many images each stream has by turns, and how many entries its history is to have.
const IMAGES: usize = 6;
const HISTORY: usize = 10;
/// How many it has at most: what is older and run keeps an entry, and one may come in before it is looked at.
const LONGEST_HISTORY: usize = HISTORY + IMAGES + 1;
/// Between two moves of one tag.
const PAUSE: Duration = Duration::from_secs(4);
/// For how long a move may take to be seen, the schedule of a minute included.
const PATIENCE: Duration = Duration::from_mins(3);

/// How the tag of a stream moves.
#[derive(Clone, Copy, PartialEq)]
enum Sort {
    /// Its source moves, and the schedule finds out.
    Scheduled,
    /// It is given another source.
    Written,
    /// By turns that, and back with `pinstream rollback`.
    RolledBack,
    /// Its stream is deleted, and made anew.
    Passing,
}

/// A tag that moves.
pub struct Tag {
    pub namespace: Namespace,
    pub stream: &'static str,
    sort: Sort,
    registry: Arc<Registry>,
    /// Of the images that it has by turns.
    digests: Vec<String>,
    /// What its images are called in a workload, up to the digest.
    repository: String,
    /// What it stands for while its stream is there and no image of it: it may be pulled as soon as it is imported.
    pending: String,
    /// The digest that it had when nothing was under way.
    settled: Mutex<String>,
}

/// One tag of each sort for a namespace, each with an image already.
pub fn tags_of(namespace: &Namespace, registry: &Arc<Registry>, pulled_from: &str, model: &Model) -> Vec<Tag> {
    let sorts = [
        ("scheduled", Sort::Scheduled),
        ("written", Sort::Written),
        (LOCAL, Sort::Written),
        ("rolled-back", Sort::RolledBack),
        ("passing", Sort::Passing),
    ];
    let tag = |(stream, sort): (&'static str, Sort)| {
        let source = format!("{}/{stream}", namespace.name);
        let push = |image| registry.push(&source, &format!("v{image}"), &Content::image(&format!("{source} {image}")));
        let host = if stream == LOCAL { pulled_from } else { &registry.host };
        let tag = Tag {
            namespace: namespace.clone(),
            stream,
            sort,
            registry: Arc::clone(registry),
            digests: (0..IMAGES).map(push).collect(),
            repository: format!("{host}/{source}"),
            pending: format!("{pulled_from}/{source}:{TAG}"),
            settled: Mutex::default(),
        };
        tag.push_current(0);
        tag.move_to(0, model, || tag.write(0)).expect("the first image is imported");
        tag
    };
    sorts.into_iter().map(tag).collect()
}

impl Tag {
    /// `STREAM:TAG`, as workloads write it.
    pub fn short(&self) -> String {
        format!("{}:{TAG}", self.stream)
    }

    /// A digest that is in its history.
    pub fn settled(&self) -> String {
        self.settled.lock().unwrap().clone()
    }

    /// Moves it in its way until the end. What does not become true is an error.
    pub fn keep_moving(&self, model: &Model, end: &AtomicBool, moves: &AtomicU64) -> Result<(), String> {
        let mut image = 0;
        for turn in 1.. {
            let next = Instant::now() + PAUSE;
            while Instant::now() < next {
                if end.load(Ordering::Relaxed) {
                    return Ok(());
                }
                thread::sleep(Duration::from_millis(100));
            }
            let before = image;
            image = (image + 1) % IMAGES;
            match self.sort {
                Sort::Scheduled => self.move_to(image, model, || self.push_current(image))?,
                Sort::Written => self.move_to(image, model, || self.write(image))?,
                Sort::RolledBack => {
                    self.move_to(image, model, || self.write(image))?;
                    self.move_to(before, model, || self.roll_back())?;
                    image = before + usize::from(turn % 2 == 0);
                    image %= IMAGES;
                    if image != before {
                        self.move_to(image, model, || self.write(image))?;
                    }
                }
                Sort::Passing => {
                    self.delete(model);
                    model.begins(&self.name(), Some(self.pending.clone()));
                    self.move_to(image, model, || self.write(image))?;
                }
            }
            moves.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn name(&self) -> String {
        format!("{}/{}", self.namespace.name, self.short())
    }

    fn path(&self) -> String {
        format!("{}/{}", streams_path(&self.namespace.name), self.stream)
    }

    /// Has it move, and waits until that is stored.
    fn move_to(&self, image: usize, model: &Model, has_it_move: impl FnOnce()) -> Result<(), String> {
        let digest = &self.digests[image];
        model.begins(&self.name(), Some(format!("{}@{digest}", self.repository)));
        has_it_move();
        let began = Instant::now();
        let mut found = Vec::new();
        while began.elapsed() < PATIENCE {
            let answer = self.namespace.ask(&Method::GET, &self.path(), None);
            let body = answer.map_err(|error| format!("{}: {error:?}", self.path()))?.body;
            found = history(&named(&body["status"]["tags"], "tag", TAG));
            if found.first() == Some(digest) {
                model.is_stored(&self.name());
                self.settled.lock().unwrap().clone_from(digest);
                return if found.len() <= LONGEST_HISTORY {
                    Ok(())
                } else {
                    Err(format!("a history of {}", found.len()))
                };
            }
            thread::sleep(Duration::from_millis(50));
        }
        Err(format!("{} is not {digest} after {PATIENCE:?} but {found:?}", self.name()))
    }

    fn push_current(&self, image: usize) {
        let source = format!("{}/{}", self.namespace.name, self.stream);
        self.registry.push(&source, "current", &Content::image(&format!("{source} {image}")));
    }

    fn write(&self, image: usize) {
        let source = if self.sort == Sort::Scheduled { "current".to_owned() } else { format!("v{image}") };
        let mut tag = self.registry.spec_tag(TAG, &format!("{}/{}:{source}", self.namespace.name, self.stream));
        tag["importPolicy"]["scheduled"] = (self.sort == Sort::Scheduled).into();
        let policy = if self.stream == LOCAL { "Local" } else { "Source" };
        tag["referencePolicy"] = json!({"type": policy});
        let mut stream: Value = manifest(self.stream, &[tag]);
        stream["metadata"]["annotations"] = json!({"pinstream.dev/history-limit": HISTORY.to_string()});
        Stream::write(&self.namespace, &stream);
    }

    fn roll_back(&self) {
        let output = run(&self.namespace, &format!("rollback {}", self.short()));
        assert_eq!(output.code, Some(0), "{}", output.stderr);
    }

    fn delete(&self, model: &Model) {
        model.begins(&self.name(), None);
        self.namespace.ask(&Method::DELETE, &self.path(), None).unwrap().ok();
        model.is_stored(&self.name());
    }
}
