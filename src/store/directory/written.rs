//! Tags as they are written into files of people: without numbers, and without what is not said.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::stream::types::{ImportPolicy, ObjectReference, ReferencePolicy, SpecTag};

/// A tag in a file.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WrittenTag<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<&'a BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a ObjectReference>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    reference: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    import_policy: Option<&'a ImportPolicy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference_policy: Option<&'a ReferencePolicy>,
}

/// Tags in a file.
pub(super) fn written_tags(tags: &[SpecTag]) -> Vec<WrittenTag<'_>> {
    tags.iter().map(WrittenTag::of).collect()
}

impl<'a> WrittenTag<'a> {
    /// A tag as it is written.
    pub(super) fn of(tag: &'a SpecTag) -> Self {
        Self {
            name: &tag.name,
            annotations: tag.annotations.as_ref().filter(|annotations| !annotations.is_empty()),
            from: tag.from.as_ref(),
            reference: tag.reference,
            import_policy: Some(&tag.import_policy).filter(|policy| **policy != ImportPolicy::default()),
            reference_policy: Some(&tag.reference_policy).filter(|policy| **policy != ReferencePolicy::default()),
        }
    }
}
