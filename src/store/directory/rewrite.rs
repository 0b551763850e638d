//! A stream's document rewritten: the fields that differ, and nothing else.

use std::fs;

use serde::Serialize;

use super::home::{Opened, unwritable};
use super::walk::Stamp;
use super::written::{WrittenTag, written_tags};
use crate::files::replace;
use crate::store::documents::{self, Format, Item};
use crate::store::edit::{self, EditError, Field};
use crate::store::home::HomeError;
use crate::stream::types::{Spec, SpecTag};
use crate::stream::{ImageStream, Key};

/// The text of the stream's document with what differs in it.
pub(super) fn edited(opened: &Opened, after: &ImageStream) -> Result<String, EditError> {
    let mut document = Document { text: opened.at.text[opened.at.document.clone()].to_owned(), opened };
    let before = &opened.stream;
    if after.metadata.annotations != before.metadata.annotations {
        document.set(Some("metadata"), "annotations", &after.metadata.annotations)?;
    }
    let (spec, spec_before) = (without_numbers(&after.spec), without_numbers(&before.spec));
    if spec.tags != spec_before.tags {
        document.set_tags(&spec_before.tags, &spec.tags)?;
    }
    if spec.lookup_policy != spec_before.lookup_policy {
        document.set(Some("spec"), "lookupPolicy", &spec.lookup_policy)?;
    }
    if spec.docker_image_repository != spec_before.docker_image_repository {
        document.set(Some("spec"), "dockerImageRepository", &spec.docker_image_repository)?;
    }
    if after.status != before.status {
        document.set(None, "status", &after.status)?;
    }
    Ok(document.text)
}

/// A document while it is edited.
struct Document<'a> {
    text: String,
    opened: &'a Opened,
}

impl Document<'_> {
    /// Writes the tags that differ, if each stands by itself in the text, else all.
    fn set_tags(&mut self, before: &[SpecTag], after: &[SpecTag]) -> Result<(), EditError> {
        match self.with_each_tag(before, after)? {
            Some(text) => self.text = text,
            None => self.set(Some("spec"), "tags", &written_tags(after))?,
        }
        Ok(())
    }

    fn with_each_tag(&self, before: &[SpecTag], after: &[SpecTag]) -> Result<Option<String>, EditError> {
        if self.opened.at.format != Format::Yaml || after.is_empty() {
            return Ok(None);
        }
        let field = Field { item: self.opened.at.item, parent: Some("spec"), name: "tags" };
        let set = after.iter().filter(|tag| !before.contains(tag)).map(|tag| (&tag.name, Some(tag)));
        let gone = before.iter().filter(|tag| after.iter().all(|kept| kept.name != tag.name));
        let mut text = self.text.clone();
        for (name, tag) in set.chain(gone.map(|tag| (&tag.name, None))) {
            let written = tag.map(WrittenTag::of);
            match edit::set_item(&text, field, name, written.as_ref())? {
                Some(edited) => text = edited,
                None => return Ok(None),
            }
        }
        Ok(Some(text))
    }

    fn set<T: Serialize>(&mut self, parent: Option<&str>, name: &str, value: &T) -> Result<(), EditError> {
        let field = Field { item: self.opened.at.item, parent, name };
        self.text = edit::set(&self.text, self.opened.at.format, field, value)?;
        Ok(())
    }
}

/// Numbers are the ledger's.
fn without_numbers(spec: &Spec) -> Spec {
    let mut spec = spec.clone();
    for tag in &mut spec.tags {
        tag.generation = None;
    }
    spec
}

/// The stream as it stands in the edited document, if that is what was wanted and nothing else changed.
pub(super) fn checked(opened: &Opened, edited: &str, after: &ImageStream) -> Result<ImageStream, String> {
    let items = |document: &str| {
        let mut items = Vec::new();
        documents::read(document.as_bytes(), opened.at.format, |item, _| items.push(item)).map(|()| items)
    };
    let before = items(&opened.at.text[opened.at.document.clone()]).map_err(|error| error.to_string())?;
    let items = items(edited).map_err(|error| format!("it could not be read any more: {error}"))?;
    let own = opened.at.item.unwrap_or_default();
    let mut wanted =
        ImageStream { spec: after.spec.clone(), status: after.status.clone(), ..opened.at.written.clone() };
    wanted.metadata.annotations.clone_from(&after.metadata.annotations);
    // As they are written: a time in a file has no fractions.
    let json = |stream: &ImageStream| {
        serde_json::to_value(ImageStream { spec: without_numbers(&stream.spec), ..stream.clone() }).ok()
    };
    let is_as_wanted = items.len() == before.len()
        && items.iter().zip(&before).enumerate().all(|(number, (item, before))| match item {
            Item::Stream(stream) if number == own => json(stream) == json(&wanted),
            item => item == before,
        });
    match items.into_iter().nth(own) {
        Some(Item::Stream(stream)) if is_as_wanted => Ok(*stream),
        _ => Err("it would mean something else; give the stream a document of its own".to_owned()),
    }
}

/// Puts the edited document in the place of the one that was read, if the file is still as it was.
pub(super) fn put(opened: &Opened, edited: &str, key: &Key) -> Result<(), HomeError> {
    let (before, after) = (&opened.at.text[..opened.at.document.start], &opened.at.text[opened.at.document.end..]);
    if opened.at.text[opened.at.document.clone()] == *edited {
        return Ok(());
    }
    let is_unchanged = fs::metadata(&opened.at.path).is_ok_and(|metadata| Stamp::of(&metadata) == opened.at.stamp);
    if !is_unchanged {
        return Err(HomeError::Conflict(key.clone()));
    }
    let text = [before, edited, after].concat();
    replace(&opened.at.path, text.as_bytes(), true).map_err(|error| unwritable(&error))
}
