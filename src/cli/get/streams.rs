//! Image streams as lines of a list.

use std::cmp::Reverse;

use jiff::Timestamp;

use super::{Found, GetStreams, How, Listed, Row};
use crate::cli::age::ago;
use crate::cli::backend::Backend;
use crate::cli::output;
use crate::store::home::Stored;
use crate::stream::ImageStream;

/// How wide the list of tags is about to be.
const TAGS_WIDTH: usize = 40;

impl Listed for GetStreams {
    const PLURAL: &str = "image streams";

    fn how(&self) -> &How {
        &self.how
    }

    fn header(&self) -> Vec<&'static str> {
        let wide = self.how.is_wide().then_some("LOCAL LOOKUP");
        ["NAME", "IMAGE REPOSITORY", "TAGS", "UPDATED"].into_iter().chain(wide).collect()
    }

    fn is_named(&self) -> bool {
        !self.names.is_empty()
    }

    fn is_one(&self) -> bool {
        self.names.len() == 1
    }

    async fn find<B: Backend>(&self, backend: &B) -> anyhow::Result<Found> {
        let names: Vec<_> = self.names.iter().map(String::as_str).collect();
        let (streams, missing) = self.how.streams(backend, &names).await?;
        let group = &backend.common().group;
        let row = |stored: &Stored| row(stored, group, self.how.is_wide());
        Ok(Found { rows: streams.iter().map(row).collect::<anyhow::Result<_>>()?, missing })
    }
}

fn row(stored: &Stored, group: &str, is_wide: bool) -> anyhow::Result<Row> {
    let stream = &stored.stream;
    Ok(Row {
        namespace: stream.key().namespace.into(),
        name: format!("imagestream.{group}/{}", stream.metadata.name),
        version: stored.version.clone(),
        cells: cells(stream, is_wide, Timestamp::now()),
        object: output::stream(stream, group)?,
    })
}

fn cells(stream: &ImageStream, is_wide: bool, now: Timestamp) -> Vec<String> {
    let (spec, status) = (&stream.spec, &stream.status);
    let repositories =
        [&status.public_docker_image_repository, &spec.docker_image_repository, &status.docker_image_repository];
    let repository = repositories.into_iter().find(|repository| !repository.is_empty()).cloned().unwrap_or_default();
    let tags = newest_first(stream);
    let updated = tags.first().and_then(|(_, created)| *created).map(|created| ago(created, now)).unwrap_or_default();
    let names: Vec<_> = tags.into_iter().map(|(name, _)| name).collect();
    let width = if is_wide { usize::MAX } else { TAGS_WIDTH };
    let mut cells = vec![stream.metadata.name.clone(), repository, shortened(&names, width), updated];
    cells.extend(is_wide.then(|| spec.lookup_policy.local.to_string()));
    cells
}

/// The tags of the status with the time of their newest image. Those without one come last, equal ones by name.
fn newest_first(stream: &ImageStream) -> Vec<(&str, Option<Timestamp>)> {
    let created = |events: &crate::stream::types::TagEvents| events.items.first().and_then(|event| event.created);
    let tags = stream.status.tags.iter().map(|events| (events.tag.as_str(), created(events)));
    let mut tags: Vec<_> = tags.collect();
    tags.sort_by_key(|(name, created)| (Reverse(created.map(Timestamp::as_second)), *name));
    tags
}

/// As many names as have about that width, at least one, and how many more there are. One name more is taken if little
/// room is left over otherwise.
fn shortened(names: &[&str], width: usize) -> String {
    let margin = width / 4;
    let mut text = String::new();
    for (number, name) in names.iter().enumerate() {
        let longer = text.len() + usize::from(number > 0) + name.len();
        let is_short = text.len() < width - margin;
        let fits = longer <= width || is_short && longer <= width.saturating_add(margin);
        if number > 0 && !fits {
            return format!("{text} + {} more...", names.len() - number);
        }
        text += if number > 0 { "," } else { "" };
        text += name;
    }
    text
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case(&[], "")]
    #[case(&["a"], "a")]
    #[case(&["a", "bb"], "a,bb")]
    #[case(&["12345678", "12345678"], "12345678 + 1 more...")]
    #[case(&["1234", "12345678"], "1234 + 1 more...")]
    #[case(&["1234", "123456"], "1234,123456")]
    #[case(&["1234", "1234", "1234", "x"], "1234,1234 + 2 more...")]
    #[case(&["a-very-long-name", "x"], "a-very-long-name + 1 more...")]
    fn names_are_shortened_to_about_ten(#[case] names: &[&str], #[case] expected: &str) {
        assert_eq!(shortened(names, 10), expected);
        assert_eq!(shortened(names, usize::MAX), names.join(","));
    }

    fn stream() -> ImageStream {
        let tag = |name: &str, created: &str| {
            json!({"tag": name, "items": [{"created": created,
            "dockerImageReference": "q.io/a@sha256:1", "image": "sha256:1"}]})
        };
        serde_json::from_value(json!({"metadata": {"name": "app"},
            "spec": {"dockerImageRepository": "q.io/a", "lookupPolicy": {"local": true}},
            "status": {"dockerImageRepository": "r.io/demo/app", "tags": [
                tag("b", "2026-01-01T00:00:00.9Z"), tag("a", "2026-01-01T00:00:00.1Z"), tag("new", "2026-01-01T00:01:00Z"),
                {"tag": "failed"}]}}))
        .unwrap()
    }

    #[test]
    fn newest_tags_come_first() {
        let now = "2026-01-01T00:01:05Z".parse().unwrap();
        assert_eq!(cells(&stream(), false, now), ["app", "q.io/a", "new,a,b,failed", "5 seconds ago"]);
        assert_eq!(cells(&stream(), true, now).last().unwrap(), "true");
    }

    #[test]
    fn public_repository_is_shown_before_all_others() {
        let mut stream = stream();
        stream.status.public_docker_image_repository = "public.io/demo/app".into();
        assert_eq!(cells(&stream, false, Timestamp::UNIX_EPOCH)[1], "public.io/demo/app");
        stream.status.public_docker_image_repository.clear();
        stream.spec.docker_image_repository.clear();
        assert_eq!(cells(&stream, false, Timestamp::UNIX_EPOCH)[1], "r.io/demo/app");
        assert_eq!(cells(&ImageStream::default(), false, Timestamp::UNIX_EPOCH), ["", "", "", ""]);
    }
}
