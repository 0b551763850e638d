//! What an audit has found, container by container and summed up. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::audit::{Audit, Standing};
use crate::store::kube::RunningPod;
use crate::stream::{ImageStream, Key};

/// An audit, as it is printed for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    /// By name.
    pub namespaces: BTreeMap<String, Counts>,
    /// Containers that are not current, by namespace and object.
    pub findings: Vec<Entry>,
    /// Streams of whose images no container runs one by its digest.
    pub unused_streams: Vec<String>,
    /// Tags whose newest import failed.
    pub failing_tags: Vec<FailingTag>,
    /// Containers that are current, in the same order.
    #[serde(skip)]
    current: Vec<Entry>,
}

/// Containers of a namespace, by state.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    pub objects: usize,
    pub containers: BTreeMap<&'static str, usize>,
}

impl Counts {
    /// Containers that are current.
    pub(super) fn current(&self) -> usize {
        self.containers.get(Standing::STATES[0]).copied().unwrap_or_default()
    }
}

/// A tag whose newest import failed.
#[derive(Debug, Serialize)]
pub(super) struct FailingTag {
    pub tag: String,
    pub reason: String,
    pub message: String,
}

/// A container.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    pub namespace: String,
    /// Kind and name.
    pub object: String,
    /// List and name.
    pub container: String,
    /// As it is written.
    pub image: String,
    pub state: &'static str,
    /// `STREAM:TAG` that knows the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// How many newer images the tag has had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
    /// Since when there is a newer one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub spot: Option<Spot>,
    #[serde(skip)]
    pub rank: usize,
}

/// A place in a manifest.
#[derive(Debug, Serialize)]
pub(super) struct Spot {
    pub file: String,
    /// From 1.
    pub line: usize,
}

impl Entry {
    pub(super) fn new(
        namespace: String,
        (object, container): (String, String),
        image: String,
        standing: &Standing,
    ) -> Self {
        let place = standing.place();
        let tag = place.map(|place| format!("{}:{}", place.stream, place.tag));
        let behind = place.filter(|place| place.steps > 0);
        let (steps, since) = (behind.map(|place| place.steps), behind.and_then(|place| place.since));
        let advice = advice(standing, &image, tag.as_deref());
        let (state, rank) = (standing.state(), standing.rank());
        Self { namespace, object, container, image, state, tag, steps, since, advice, spot: None, rank }
    }

    pub(super) fn at(self, spot: Spot) -> Self {
        Self { spot: Some(spot), ..self }
    }

    /// Object, container, image and what is the matter, in a sentence.
    pub(super) fn sentence(&self) -> String {
        let behind = self.steps.zip(self.tag.as_ref()).map(|(steps, tag)| format!(" by {steps} of {tag}"));
        let behind = behind.unwrap_or_default();
        let advice = self.advice.as_ref().map(|advice| format!("; {advice}")).unwrap_or_default();
        format!("{}, {}: {} is {}{behind}{advice}", self.object, self.container, self.image, self.state)
    }
}

/// What is to be done about it.
fn advice(standing: &Standing, image: &str, tag: Option<&str>) -> Option<String> {
    Some(match standing {
        Standing::Current(_) => return None,
        Standing::Behind(_) => format!("write {} as its image again, to get the newest", tag.unwrap_or_default()),
        Standing::Unknown => format!("if it is to be followed, import it: pinstream tag {image} NAME:TAG"),
        Standing::Mutable => {
            format!("use a stream: pinstream import-image NAME:TAG --from={image} --confirm, and NAME:TAG as image")
        }
        Standing::Unresolved => format!("see why: pinstream explain {image}"),
    })
}

impl Report {
    pub(super) fn new(entries: Vec<Entry>) -> Self {
        let mut namespaces: BTreeMap<String, Counts> = BTreeMap::new();
        let mut objects: BTreeMap<&str, std::collections::BTreeSet<(&str, Option<&str>)>> = BTreeMap::new();
        for entry in &entries {
            let counts = namespaces.entry(entry.namespace.clone()).or_default();
            *counts.containers.entry(entry.state).or_default() += 1;
            let file = entry.spot.as_ref().map(|spot| spot.file.as_str());
            objects.entry(&entry.namespace).or_default().insert((&entry.object, file));
        }
        for (namespace, objects) in objects {
            namespaces.entry(namespace.to_owned()).or_default().objects = objects.len();
        }
        let mut entries = entries;
        // Objects stay in their order.
        entries.sort_by(|one, other| one.namespace.cmp(&other.namespace));
        let (findings, current) = entries.into_iter().partition(|entry| entry.rank > 0);
        Self { namespaces, findings, unused_streams: Vec::new(), failing_tags: Vec::new(), current }
    }

    /// Of Pods.
    pub(super) fn of_pods(state: &Audit, pods: &[RunningPod]) -> Self {
        let entries = pods.iter().flat_map(|pod| {
            pod.containers.iter().map(|(container, image)| {
                let (namespace, object) = (pod.key.namespace.to_string(), format!("Pod/{}", pod.key.name));
                let standing = state.standing(&namespace, image);
                Entry::new(namespace, (object, container.clone()), image.to_string(), &standing)
            })
        });
        Self::new(entries.collect())
    }

    /// With what there is to say of the streams that are in scope.
    pub(super) fn with_streams<'s>(
        mut self,
        state: &Audit,
        streams: impl Iterator<Item = &'s ImageStream>,
        scope: impl Fn(&Key) -> bool,
    ) -> Self {
        self.unused_streams = state.unused().iter().filter(|key| scope(key)).map(ToString::to_string).collect();
        for stream in streams.filter(|stream| scope(&stream.key())) {
            self.failing_tags.extend(stream.status.tags.iter().filter_map(|events| {
                let failure = events.failure()?;
                let tag = format!("{}:{}", stream.key(), events.tag);
                Some(FailingTag { tag, reason: failure.reason.clone(), message: failure.message.clone() })
            }));
        }
        self
    }

    /// The findings of a namespace.
    pub(super) fn findings_of(&self, namespace: &str) -> &[Entry] {
        part(&self.findings, namespace)
    }

    /// The containers of a namespace that are current.
    pub(super) fn current_of(&self, namespace: &str) -> &[Entry] {
        part(&self.current, namespace)
    }

    /// How many containers there are.
    pub(super) fn total(&self) -> usize {
        self.findings.len() + self.current.len()
    }

    /// How many containers are in a state of this rank or a worse one.
    pub(super) fn count_from(&self, rank: usize) -> usize {
        self.findings.iter().filter(|entry| entry.rank >= rank).count()
    }
}

/// The part of a namespace, of entries in the order of their namespaces.
fn part<'e>(entries: &'e [Entry], namespace: &str) -> &'e [Entry] {
    let begin = entries.partition_point(|entry| *entry.namespace < *namespace);
    let length = entries[begin..].partition_point(|entry| entry.namespace == namespace);
    &entries[begin..begin + length]
}
