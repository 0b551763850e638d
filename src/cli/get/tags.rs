//! Tags with their images as lines of a list.

use jiff::Timestamp;

use super::{Found, GetTags, How, Listed, Row};
use crate::cli::age::ago;
use crate::cli::backend::Backend;
use crate::cli::image_tag;
use crate::cli::name::TagName;
use crate::cli::output::Format;
use crate::store::home::{Catalogue as _, Stored};
use crate::stream::types::TagEvent;

impl Listed for GetTags {
    const PLURAL: &str = "tags with an image";

    fn how(&self) -> &How {
        &self.how
    }

    fn header(&self) -> Vec<&'static str> {
        let wide = self.how.is_wide().then_some("IMAGE NAME");
        ["NAME", "IMAGE REFERENCE", "UPDATED"].into_iter().chain(wide).collect()
    }

    fn is_named(&self) -> bool {
        !self.names.is_empty()
    }

    fn is_one(&self) -> bool {
        self.names.len() == 1
    }

    async fn find<B: Backend>(&self, backend: &B) -> anyhow::Result<Found> {
        if self.names.is_empty() { self.all(backend).await } else { self.named(backend).await }
    }
}

impl GetTags {
    async fn all<B: Backend>(&self, backend: &B) -> anyhow::Result<Found> {
        let (streams, missing) = self.how.streams(backend, &[]).await?;
        let mut found = Found { missing, ..Found::default() };
        for stored in &streams {
            for events in &stored.stream.status.tags {
                let name = TagName { stream: stored.stream.metadata.name.clone(), tag: events.tag.clone() };
                if let Ok(event) = image_tag::newest(&stored.stream, &name) {
                    found.rows.push(self.row(backend, stored, &name, event).await?);
                }
            }
        }
        Ok(found)
    }

    async fn named<B: Backend>(&self, backend: &B) -> anyhow::Result<Found> {
        let mut found = Found::default();
        for name in &self.names {
            let (streams, missing) = self.how.streams(backend, &[&name.stream]).await?;
            found.missing.extend(missing);
            for stored in &streams {
                match image_tag::newest(&stored.stream, name) {
                    Ok(event) => found.rows.push(self.row(backend, stored, name, event).await?),
                    Err(miss) => found.missing.push(miss),
                }
            }
        }
        Ok(found)
    }

    async fn row<B: Backend>(
        &self,
        backend: &B,
        stored: &Stored,
        name: &TagName,
        event: &TagEvent,
    ) -> anyhow::Result<Row> {
        let (stream, group) = (&stored.stream, &backend.common().group);
        // Lists have no images in full: each would be asked for.
        let is_whole = self.is_named() && matches!(self.how.output, Format::Json | Format::Yaml);
        let image = if is_whole { backend.home().image(&event.image).await? } else { None };
        let created = event.created.map(|created| ago(created, Timestamp::now())).unwrap_or_default();
        let mut cells = vec![name.to_string(), image_tag::pull_spec(stream, &name.tag, event), created];
        cells.extend(self.how.is_wide().then(|| event.image.clone()));
        Ok(Row {
            namespace: stream.key().namespace.into(),
            name: format!("imagestreamtag.{group}/{name}"),
            // Other tags of the stream may change meanwhile.
            version: format!("{} {}", serde_json::to_string(event)?, cells[1]),
            cells,
            object: image_tag::object(stream, name, event, image, group)?,
        })
    }
}
