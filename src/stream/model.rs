//! Imports beside a second, simple account of them: whatever is written, asked and answered in whatever order, both say the
//! same. `PROPTEST_CASES=100000 cargo test --release model` runs as many orders.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::json;

use super::history::observed;
use super::outcome::{self, Found, Imported};
use super::plan::{self, Need, Wanted};
use super::pullspec::RegistryHost;
use super::types::{ImageStream, ImportMode, ObjectReference, ReferenceKind, SpecTag};
use super::write::{self, Context, Source};

/// Tags from images, and one that follows the first of them.
const TAGS: [&str; 2] = ["a", "b"];
const FOLLOWER: &str = "c";

#[derive(Clone, Debug)]
enum Step {
    /// Somebody writes that a tag comes from that image.
    Write(usize, u8),
    /// Somebody switches the schedule of a tag.
    Schedule(usize),
    /// Somebody asks for another import of a tag.
    Again(usize),
    /// Somebody takes a tag out of the spec.
    Remove(usize),
    /// A registry is asked what a tag is.
    Ask(usize),
    /// A question from some time ago is answered: by an image, or by a failure.
    Answer(prop::sample::Index, Result<u8, u8>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..2_usize, 0..3_u8).prop_map(|(tag, source)| Step::Write(tag, source)),
        1 => (0..2_usize).prop_map(Step::Schedule),
        1 => (0..2_usize).prop_map(Step::Again),
        1 => (0..2_usize).prop_map(Step::Remove),
        4 => (0..2_usize).prop_map(Step::Ask),
        4 => (any::<prop::sample::Index>(), prop::result::maybe_ok(0..3_u8, 0..2_u8))
            .prop_map(|(question, answer)| Step::Answer(question, answer)),
    ]
}

/// What is known of a tag.
#[derive(Clone, Debug, Default, PartialEq)]
struct Tag {
    /// Source, number and whether it is on a schedule, if it is in the spec.
    spec: Option<(u8, i64, bool)>,
    /// Source, image and number, the newest first.
    items: Vec<(u8, u8, i64)>,
    /// Reason and number.
    failure: Option<(u8, i64)>,
}

/// What a registry was asked: source, number, and the newest image then.
#[derive(Clone, Debug, PartialEq)]
struct Question {
    tag: &'static str,
    source: u8,
    generation: i64,
    newest: Option<u8>,
}

/// The simple account.
#[derive(Clone, Debug)]
struct Model {
    generation: i64,
    tags: BTreeMap<&'static str, Tag>,
}

impl Model {
    /// A write gives the stream the next number, and tags that it changes get it too.
    fn spec(&mut self, tag: &'static str, spec: Option<(u8, bool)>, again: bool) {
        let tag = self.tags.get_mut(tag).unwrap();
        let stored = tag.spec;
        if stored.map(|(source, _, scheduled)| (source, scheduled)) == spec && !again {
            return;
        }
        self.generation += 1;
        tag.spec = spec.map(|(source, scheduled)| {
            let is_same = stored.is_some_and(|stored| stored.0 == source) && !again;
            (source, if is_same { stored.unwrap().1 } else { self.generation }, scheduled)
        });
    }

    fn need(&self, tag: &str) -> Option<Need> {
        let tag = &self.tags[tag];
        let (_, generation, is_scheduled) = tag.spec?;
        let newest = tag.items.first().map(|item| item.2);
        let tried = newest.max(tag.failure.map(|failure| failure.1));
        match tried {
            Some(tried) if tried >= generation => match (tag.failure, is_scheduled) {
                (Some(_), _) => Some(Need::Failed),
                (None, true) => Some(Need::Scheduled),
                (None, false) => None,
            },
            _ => Some(Need::Asked),
        }
    }

    fn ask(&self, tag: &'static str) -> Option<Question> {
        self.need(tag)?;
        let (source, generation, _) = self.tags[tag].spec?;
        Some(Question { tag, source, generation, newest: self.tags[tag].items.first().map(|item| item.1) })
    }

    /// An answer counts if the tag is as it was when it was asked for.
    fn answer(&mut self, question: &Question, answer: Result<u8, u8>) {
        let tag = &self.tags[question.tag];
        let is_as_asked = tag
            .spec
            .is_some_and(|(source, generation, _)| (source, generation) == (question.source, question.generation))
            && tag.items.first().map(|item| item.1) == question.newest;
        if !is_as_asked {
            return;
        }
        match answer {
            Err(reason) => self.tags.get_mut(question.tag).unwrap().failure = Some((reason, question.generation)),
            Ok(image) => {
                let item = (question.source, image, question.generation);
                let has_changed = self.add(question.tag, item);
                self.tags.get_mut(question.tag).unwrap().failure = None;
                if question.tag == TAGS[0] && has_changed {
                    let own = self.tags[FOLLOWER].spec.unwrap().1;
                    let newest = self.tags[TAGS[0]].items[0];
                    self.add(FOLLOWER, (newest.0, newest.1, own.max(newest.2)));
                }
            }
        }
    }

    /// Only another image from another pull spec is a new entry.
    fn add(&mut self, tag: &str, item: (u8, u8, i64)) -> bool {
        let tag = self.tags.get_mut(tag).unwrap();
        match tag.items.first_mut() {
            Some(newest) if *newest == item => return false,
            // A pull spec is a source and an image, so that an equal one means an equal image.
            Some(newest) if newest.1 == item.1 => *newest = item,
            _ => tag.items.insert(0, item),
        }
        tag.failure = None;
        true
    }
}

fn source(number: u8) -> String {
    format!("q.io/demo/source-{number}:1")
}

fn digest(number: u8) -> String {
    format!("sha256:{number:064x}")
}

fn pull_spec(source: u8, image: u8) -> String {
    format!("q.io/demo/source-{source}@{}", digest(image))
}

fn context<T>(work: impl FnOnce(&Context<'_>) -> T) -> T {
    let (now, registry_host) = ("2026-11-24T12:00:00Z".parse().unwrap(), RegistryHost::from(None));
    let default_mode = ImportMode::PreserveOriginal;
    work(&Context {
        now,
        registry_host: &registry_host,
        default_mode,
        permits: &|_| true,
        source: &|_| Source::Unknown,
    })
}

/// Changes the spec of a tag, and stores the stream as a write does.
fn edit(stream: &mut ImageStream, name: &str, change: impl FnOnce(Option<SpecTag>) -> Option<SpecTag>) {
    let mut new = stream.clone();
    let at = new.spec.tags.iter().position(|tag| tag.name == name);
    let changed = change(at.map(|at| new.spec.tags.remove(at)));
    new.spec.tags.extend(changed);
    new.spec.tags.sort_by(|a, b| a.name.cmp(&b.name));
    *stream = context(|context| write::update(new, stream, context)).unwrap();
}

/// What the stream says of its tags, as the model has it.
fn told(stream: &ImageStream) -> (i64, BTreeMap<&'static str, Tag>) {
    let number =
        |text: &str, before: &str, after: &str| text.strip_prefix(before).unwrap().trim_end_matches(after).to_owned();
    let of = |name: &'static str| {
        let spec = stream.spec.tag(name).map(|tag| {
            let from = &tag.from.as_ref().unwrap().name;
            let source = if name == FOLLOWER { 0 } else { number(from, "q.io/demo/source-", ":1").parse().unwrap() };
            (source, tag.generation.unwrap(), tag.import_policy.scheduled)
        });
        let events = stream.status.tag(name);
        let items = events.into_iter().flat_map(|events| &events.items).map(|item| {
            let image = u8::from_str_radix(&item.image[69..], 16).unwrap();
            let (repository, _) = item.docker_image_reference.split_once('@').unwrap();
            let source = number(repository, "q.io/demo/source-", "").parse().unwrap();
            assert_eq!(item.docker_image_reference, pull_spec(source, image));
            (source, image, item.generation)
        });
        let items = items.collect::<Vec<_>>();
        let failure = events.and_then(|events| events.failure());
        let failure = failure.map(|failure| (failure.reason.parse().unwrap(), failure.generation));
        let tried = items.first().map_or(0, |item| item.2).max(failure.map_or(0, |failure| failure.1));
        assert_eq!(observed(events), tried);
        (name, Tag { spec, items, failure })
    };
    (stream.metadata.generation.unwrap(), TAGS.into_iter().chain([FOLLOWER]).map(of).collect())
}

proptest! {
    #[test]
    fn imports_are_what_the_model_says(steps in prop::collection::vec(step(), 1..40)) {
        let from = |kind: &str, name: String| json!({"kind": kind, "name": name});
        let tags = json!([{"name": "a", "from": from("DockerImage", source(0))}, {"name": "b", "from": from("DockerImage", source(1))},
            {"name": "c", "from": from("ImageStreamTag", "a".to_owned())}]);
        let stream = json!({"metadata": {"name": "app", "namespace": "demo"}, "spec": {"tags": tags}});
        let mut stream = context(|context| write::create(serde_json::from_value(stream).unwrap(), context)).unwrap();
        let tag = |source| Tag { spec: Some((source, 1, false)), ..Tag::default() };
        let mut model = Model { generation: 1, tags: [("a", tag(0)), ("b", tag(1)), ("c", tag(0))].into() };
        let mut asked: Vec<(Wanted, Question)> = Vec::new();
        for step in steps {
            match step {
                Step::Write(tag, number) => {
                    edit(&mut stream, TAGS[tag], |tag_before| {
                        let from = Some(ObjectReference {
                            kind: ReferenceKind::DockerImage, name: source(number), ..ObjectReference::default()
                        });
                        let name = TAGS[tag].to_owned();
                        Some(SpecTag { name, from, ..tag_before.unwrap_or_default() })
                    });
                    let is_scheduled = model.tags[TAGS[tag]].spec.is_some_and(|spec| spec.2);
                    model.spec(TAGS[tag], Some((number, is_scheduled)), false);
                }
                Step::Schedule(tag) => {
                    edit(&mut stream, TAGS[tag], |tag| tag.map(|mut tag| {
                        tag.import_policy.scheduled = !tag.import_policy.scheduled;
                        tag
                    }));
                    let spec = model.tags[TAGS[tag]].spec.map(|(source, _, scheduled)| (source, !scheduled));
                    model.spec(TAGS[tag], spec, false);
                }
                Step::Again(tag) => {
                    edit(&mut stream, TAGS[tag], |tag| tag.map(|tag| SpecTag { generation: Some(0), ..tag }));
                    if let Some((source, _, scheduled)) = model.tags[TAGS[tag]].spec {
                        model.spec(TAGS[tag], Some((source, scheduled)), true);
                    }
                }
                Step::Remove(tag) => {
                    edit(&mut stream, TAGS[tag], |_| None);
                    model.spec(TAGS[tag], None, false);
                }
                Step::Ask(tag) => {
                    let wanted = plan::wanted(&stream, TAGS[tag], ImportMode::PreserveOriginal);
                    let question = model.ask(TAGS[tag]);
                    let seen = wanted.as_ref().map(|wanted| (wanted.source.clone(), wanted.generation, wanted.newest.clone()));
                    let expected = question.as_ref().map(|question| (source(question.source), question.generation, question.newest.map(digest)));
                    prop_assert_eq!(seen, expected);
                    asked.extend(wanted.zip(question));
                }
                Step::Answer(which, answer) => {
                    if asked.is_empty() {
                        continue;
                    }
                    let (wanted, question) = asked.swap_remove(which.index(asked.len()));
                    let found = match answer {
                        Ok(image) => Found::Image { pull_spec: pull_spec(question.source, image), image: digest(image) },
                        Err(reason) => Found::Failure { reason: reason.to_string(), message: "no".to_owned() },
                    };
                    let now = "2026-11-24T13:00:00Z".parse().unwrap();
                    stream = outcome::apply(&stream, &[Imported { wanted, found }], now, &BTreeSet::new()).stream;
                    model.answer(&question, answer);
                }
            }
            prop_assert_eq!(told(&stream), (model.generation, model.tags.clone()));
            for tag in TAGS {
                let need = stream.spec.tag(tag).and_then(|tag| plan::need(&stream, tag));
                prop_assert_eq!(need, model.need(tag));
            }
        }
    }
}
