//! Events of objects that the policy refused, on the object or on the controller that would have it.
//!
//! A controller tries again and again, so one event stands for all refusals that say the same, and of these only so many
//! are written. An event that cannot be written is no reason for anything.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Client;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc::Receiver;
use tokio::time::Instant;

/// Who writes, as the API server keeps it.
const MANAGER: &str = "pinstream";
/// Why events are written.
const REASON: &str = "PolicyRefused";
/// The longest text that the API server takes.
const NOTE_MAX: usize = 1024;
/// Refusals that say different things and are remembered. Beyond that, no more are written.
const REMEMBERED_MAX: usize = 500;
/// How long what was not refused again is remembered.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(10);
/// An event is written again, with a higher count, this often at most.
const WRITTEN_EVERY: Duration = Duration::from_mins(1);
/// How long the API server may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// An object that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Refused {
    namespace: String,
    version: String,
    kind: String,
    name: String,
    uid: String,
    note: String,
}

impl Refused {
    /// What is to be told of a review whose object was refused with this message. Nothing if it was only a dry run, or if
    /// it cannot be read.
    #[must_use]
    pub fn of_review(body: &[u8], message: &str) -> Option<Self> {
        let Review { request } = serde_json::from_slice(body).ok().filter(|review: &Review| !review.request.dry_run)?;
        let (group, version) = (request.kind.group, request.kind.version);
        let old = request.old_object.unwrap_or_default().metadata;
        let Metadata { name, generate_name, owner_references, .. } = request.object.metadata;
        let end = message.char_indices().map(|(at, character)| at + character.len_utf8());
        let end = end.take_while(|end| *end <= NOTE_MAX).last().unwrap_or_default();
        let (namespace, note) = (request.namespace, message[..end].to_owned());
        Some(match owner_references.into_iter().find(|owner| owner.controller) {
            Some(Owner { api_version: version, kind, name, uid, .. }) => {
                Self { namespace, version, kind, name, uid, note }
            }
            None => Self {
                namespace,
                version: if group.is_empty() { version } else { format!("{group}/{version}") },
                kind: request.kind.kind,
                name: if name.is_empty() { generate_name } else { name },
                uid: old.uid,
                note,
            },
        })
    }
}

#[derive(Deserialize)]
struct Review {
    request: Request,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    kind: Type,
    namespace: String,
    object: Object,
    old_object: Option<Object>,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Type {
    group: String,
    version: String,
    kind: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Object {
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: String,
    generate_name: String,
    uid: String,
    owner_references: Vec<Owner>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Owner {
    api_version: String,
    kind: String,
    name: String,
    uid: String,
    controller: bool,
}

/// Writes an event for what is refused. Never ends.
pub async fn record(client: Client, instance: String, mut refusals: Receiver<Refused>) {
    let random = RandomState::new().hash_one(&instance);
    let mut recorder = Recorder { client, instance, remembered: Remembered::default(), random, is_failing: false };
    while let Some(refused) = refusals.recv().await {
        recorder.tell(refused).await;
    }
    std::future::pending::<()>().await;
}

struct Recorder {
    client: Client,
    instance: String,
    remembered: Remembered,
    /// Keeps the names of events of replicas apart.
    random: u64,
    is_failing: bool,
}

impl Recorder {
    async fn tell(&mut self, refused: Refused) {
        let events = Api::<Event>::namespaced(self.client.clone(), &refused.namespace);
        let written = match self.remembered.add(&refused, Instant::now()) {
            None => return,
            Some(Due::First { number }) => {
                let event = event(refused, &self.instance, format!("pinstream.{:016x}{number:x}", self.random));
                tokio::time::timeout(ANSWER_LIMIT, events.create(&PostParams::default(), &event)).await
            }
            Some(Due::Again { number, count }) => {
                let series = json!({"series": {"count": count, "lastObservedTime": micro_now()}});
                let name = format!("pinstream.{:016x}{number:x}", self.random);
                let patch = Patch::Merge(series);
                tokio::time::timeout(ANSWER_LIMIT, events.patch(&name, &PatchParams::default(), &patch)).await
            }
        };
        let failure = match written {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("the API server did not answer within {} s", ANSWER_LIMIT.as_secs())),
        };
        if let (Some(error), false) = (&failure, self.is_failing) {
            tracing::warn!(
                error,
                "events of refusals cannot be written; it needs create and patch on events.events.k8s.io"
            );
        }
        self.is_failing = failure.is_some();
    }
}

fn micro_now() -> Option<MicroTime> {
    let now = Timestamp::now().as_nanosecond();
    k8s_openapi::jiff::Timestamp::from_nanosecond(now).ok().map(MicroTime)
}

fn event(refused: Refused, instance: &str, name: String) -> Event {
    let Refused { namespace, version, kind, name: object, uid, note } = refused;
    Event {
        metadata: ObjectMeta { name: Some(name), namespace: Some(namespace.clone()), ..ObjectMeta::default() },
        regarding: Some(ObjectReference {
            api_version: Some(version),
            kind: Some(kind),
            name: Some(object),
            namespace: Some(namespace),
            uid: (!uid.is_empty()).then_some(uid),
            ..ObjectReference::default()
        }),
        type_: Some("Warning".to_owned()),
        reason: Some(REASON.to_owned()),
        action: Some("Refuse".to_owned()),
        note: Some(note),
        event_time: micro_now(),
        reporting_controller: Some(MANAGER.to_owned()),
        reporting_instance: Some(instance.to_owned()),
        ..Event::default()
    }
}

/// What was refused lately.
#[derive(Debug, Default)]
struct Remembered {
    refusals: HashMap<Refused, Seen>,
    /// How many events there were so far.
    number: u64,
}

#[derive(Debug)]
struct Seen {
    number: u64,
    count: i32,
    last: Instant,
    written: Instant,
}

/// What is to be written.
#[derive(Debug, PartialEq, Eq)]
enum Due {
    First { number: u64 },
    Again { number: u64, count: i32 },
}

impl Remembered {
    /// What is to be written of one more refusal, if anything is.
    fn add(&mut self, refused: &Refused, now: Instant) -> Option<Due> {
        self.refusals.retain(|_, seen| now.duration_since(seen.last) < FORGOTTEN_AFTER);
        if let Some(seen) = self.refusals.get_mut(refused) {
            seen.last = now;
            seen.count = seen.count.saturating_add(1);
            let is_due = now.duration_since(seen.written) >= WRITTEN_EVERY;
            return is_due.then(|| {
                seen.written = now;
                Due::Again { number: seen.number, count: seen.count }
            });
        }
        if self.refusals.len() >= REMEMBERED_MAX {
            return None;
        }
        self.number += 1;
        self.refusals.insert(refused.clone(), Seen { number: self.number, count: 1, last: now, written: now });
        Some(Due::First { number: self.number })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn review(metadata: &Value, dry_run: bool) -> Vec<u8> {
        json!({"request": {"uid": "u", "operation": "CREATE", "namespace": "demo", "dryRun": dry_run,
            "kind": {"group": "apps", "version": "v1", "kind": "Deployment"}, "object": {"metadata": metadata},
            "oldObject": null}})
        .to_string()
        .into_bytes()
    }

    fn refused(name: &str) -> Refused {
        Refused::of_review(&review(&json!({"name": name}), false), "because").unwrap()
    }

    #[test]
    fn event_is_of_the_object_or_of_its_controller() {
        let of = |metadata: &Value| Refused::of_review(&review(metadata, false), "because").unwrap();
        let own = of(&json!({"name": "web"}));
        assert_eq!((&*own.version, &*own.kind, &*own.name, &*own.note), ("apps/v1", "Deployment", "web", "because"));
        let owner = json!({"apiVersion": "x.io/v1", "kind": "App", "name": "app", "uid": "u1", "controller": true});
        let by_controller = of(&json!({"generateName": "web-", "ownerReferences": [{"name": "other"}, owner]}));
        assert_eq!(
            (&*by_controller.version, &*by_controller.kind, &*by_controller.name, &*by_controller.uid),
            ("x.io/v1", "App", "app", "u1")
        );
        assert_eq!(of(&json!({"generateName": "web-"})).name, "web-");
    }

    #[test]
    fn dry_run_and_what_cannot_be_read_tell_nothing() {
        assert_eq!(Refused::of_review(&review(&json!({"name": "web"}), true), "because"), None);
        assert_eq!(Refused::of_review(b"{}", "because"), None);
    }

    #[test]
    fn note_is_cut_between_characters() {
        let note = Refused::of_review(&review(&json!({"name": "web"}), false), &"ä€".repeat(NOTE_MAX)).unwrap().note;
        assert!(note.len() <= NOTE_MAX && note.len() > NOTE_MAX - 4, "{}", note.len());
    }

    #[test]
    fn refusals_that_say_the_same_are_one_event_that_is_written_now_and_then() {
        let (mut remembered, start) = (Remembered::default(), Instant::now());
        let (one, other) = (refused("one"), refused("other"));
        assert_eq!(remembered.add(&one, start), Some(Due::First { number: 1 }));
        assert_eq!(remembered.add(&one, start), None);
        assert_eq!(remembered.add(&other, start), Some(Due::First { number: 2 }));
        let later = start + WRITTEN_EVERY;
        assert_eq!(remembered.add(&one, later), Some(Due::Again { number: 1, count: 3 }));
        assert_eq!(remembered.add(&one, later), None);
        let much_later = later + FORGOTTEN_AFTER;
        assert_eq!(remembered.add(&one, much_later), Some(Due::First { number: 3 }));
        assert_eq!(remembered.refusals.len(), 1);
    }

    #[test]
    fn only_so_many_are_remembered() {
        let (mut remembered, now) = (Remembered::default(), Instant::now());
        let due = (0..2 * REMEMBERED_MAX).filter_map(|number| remembered.add(&refused(&number.to_string()), now));
        assert_eq!(due.count(), REMEMBERED_MAX);
    }
}
