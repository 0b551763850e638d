//! `pinstream history`: the images that a tag pointed to, and who runs them.

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde::Serialize;

use super::age::ago;
use super::backend::{self, Backend, Opening, Verb};
use super::name::TagName;
use super::table::table;
use super::target::Target;
use super::{image_tag, output, stdout};
use crate::stream::ImageStream;
use crate::stream::types::TagEvents;

/// Show the images that a tag pointed to, newest first
///
/// Number 1 is the image that the tag points to now. TAGS are the tags of the stream that point to an image now, PODS how
/// many Pods of the namespace run it; over a directory nothing runs.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  pinstream history keycloak:20.0
  pinstream history keycloak:20.0 -o wide
  pinstream history keycloak:20.0 -o json --streams ./streams")]
pub(super) struct History {
    /// The tag
    #[arg(value_name = "NAME:TAG")]
    name: TagName,

    /// How to print it
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,

    #[command(flatten)]
    target: Target,
}

/// How a history is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A line an image.
    Table,
    /// With their digests.
    Wide,
    /// As JSON.
    Json,
    /// As YAML.
    Yaml,
}

/// A tag's history, as it is printed for programs.
#[derive(Debug, PartialEq, Serialize)]
struct Past {
    namespace: String,
    stream: String,
    tag: String,
    items: Vec<Entry>,
}

/// One image that a tag pointed to.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    /// From 1, which is the newest.
    number: usize,
    /// When the tag came to point to it.
    created: Option<Timestamp>,
    /// Digest; empty for mere references.
    image: String,
    /// Pull spec under which users of the tag get it.
    docker_image_reference: String,
    /// Tags of the stream that point to it now.
    tags: Vec<String>,
    /// How many Pods run it. Absent where nothing runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pods: Option<usize>,
}

impl History {
    pub(super) fn run(self) -> anyhow::Result<()> {
        backend::run(&self.target.clone(), &Opening::to_read(), self)
    }
}

impl Verb for History {
    async fn on<B: Backend>(self, backend: &B) -> anyhow::Result<()> {
        let key = backend.key(&self.name.stream);
        let stored = backend.expect(&key).await?;
        let events = image_tag::history(&stored.stream, &self.name)?;
        let running = backend.running(&key.namespace).await?;
        let items = entries(&stored.stream, events, running.as_ref());
        let past = Past { namespace: key.namespace.into(), stream: key.name.into(), tag: self.name.tag.clone(), items };
        stdout::print(&match self.output {
            Format::Table => lines(&past.items, false, Timestamp::now()),
            Format::Wide => lines(&past.items, true, Timestamp::now()),
            Format::Json => output::json(&serde_json::to_value(&past)?)?,
            Format::Yaml => output::yaml(&serde_json::to_value(&past)?)?,
        })?;
        if let Some(failure) = events.failure() {
            eprintln!("the last import of {} failed ({}): {}", self.name, failure.reason, failure.message);
        }
        Ok(())
    }
}

fn entries(stream: &ImageStream, events: &TagEvents, running: Option<&BTreeMap<String, usize>>) -> Vec<Entry> {
    let pointing = |pull_spec: &str, image: &str| {
        let newest = stream.status.tags.iter().filter_map(|events| Some((&events.tag, events.items.first()?)));
        let here = newest.filter(|(_, event)| {
            event.image == image && (!image.is_empty() || event.docker_image_reference == pull_spec)
        });
        here.map(|(tag, _)| tag.clone()).collect()
    };
    let entry = |(index, event): (usize, &crate::stream::types::TagEvent)| Entry {
        number: index + 1,
        created: event.created,
        image: event.image.clone(),
        docker_image_reference: image_tag::pull_spec(stream, &events.tag, event),
        tags: pointing(&event.docker_image_reference, &event.image),
        pods: running.map(|running| running.get(&event.image).copied().unwrap_or_default()),
    };
    events.items.iter().enumerate().map(entry).collect()
}

fn lines(items: &[Entry], is_wide: bool, now: Timestamp) -> String {
    let has_pods = items.iter().any(|entry| entry.pods.is_some());
    let optional = |name: &'static str, is_there: bool| is_there.then_some(name);
    let header = ["NUMBER", "UPDATED", "TAGS"].into_iter().chain(optional("PODS", has_pods));
    let header: Vec<_> = header.chain(["IMAGE REFERENCE"]).chain(optional("IMAGE NAME", is_wide)).collect();
    let line = |entry: &Entry| {
        let updated = entry.created.map(|created| ago(created, now)).unwrap_or_default();
        let mut line = vec![entry.number.to_string(), updated, entry.tags.join(",")];
        line.extend(entry.pods.map(|pods| pods.to_string()));
        line.push(entry.docker_image_reference.clone());
        line.extend(is_wide.then(|| entry.image.clone()));
        line
    };
    table(&header, &items.iter().map(line).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stream() -> ImageStream {
        let item = |created: &str, digit: &str| {
            let image = format!("sha256:{}", digit.repeat(64));
            json!({"created": created, "dockerImageReference": format!("q.io/a@{image}"), "image": image})
        };
        let (old, new) = (item("2026-01-01T00:00:00Z", "a"), item("2026-01-02T00:00:00Z", "b"));
        serde_json::from_value(json!({"metadata": {"name": "app"},
            "spec": {"tags": [{"name": "1", "referencePolicy": {"type": "Local"}}]},
            "status": {"dockerImageRepository": "r.io/demo/app", "tags": [
                {"tag": "1", "items": [new, old]}, {"tag": "prod", "items": [old]}, {"tag": "failed"}]}}))
        .unwrap()
    }

    #[test]
    fn entries_are_numbered_and_say_who_points_there_and_who_runs_them() {
        let (stream, old) = (stream(), format!("sha256:{}", "a".repeat(64)));
        let running = BTreeMap::from([(old.clone(), 3)]);
        let entries = entries(&stream, stream.status.tag("1").unwrap(), Some(&running));
        let told: Vec<_> = entries.iter().map(|entry| (entry.number, entry.tags.join(","), entry.pods)).collect();
        assert_eq!(told, [(1, "1".to_owned(), Some(0)), (2, "prod".to_owned(), Some(3))]);
        assert_eq!(entries[1].docker_image_reference, format!("r.io/demo/app@{old}"));
    }

    #[test]
    fn nobody_is_counted_where_nothing_runs() {
        let stream = stream();
        let entries = entries(&stream, stream.status.tag("prod").unwrap(), None);
        let now = "2026-01-01T00:00:05Z".parse().unwrap();
        let image = format!("sha256:{}", "a".repeat(64));
        assert_eq!(
            lines(&entries, false, now),
            format!(
                "NUMBER   UPDATED         TAGS   IMAGE REFERENCE\n1        5 seconds ago   prod   q.io/a@{image}\n"
            )
        );
        assert!(lines(&entries, true, now).ends_with(&format!("   {image}\n")));
        assert!(serde_json::to_value(&entries[0]).unwrap().get("pods").is_none());
    }

    #[test]
    fn references_are_told_apart_by_their_pull_specs() {
        let reference = |name: &str| json!([{"dockerImageReference": name, "image": ""}]);
        let stream: ImageStream = serde_json::from_value(json!({"metadata": {"name": "app"}, "status": {"tags": [
            {"tag": "a", "items": reference("q.io/a:1")}, {"tag": "b", "items": reference("q.io/b:1")}]}}))
        .unwrap();
        assert_eq!(entries(&stream, stream.status.tag("a").unwrap(), None)[0].tags, ["a"]);
    }
}
