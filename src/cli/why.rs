//! Why an image stays as it is written, in a sentence. Pure.

use crate::admission::decide::{Missing, Outcome};
use crate::reference::Reference;
use crate::stream::types::DEFAULT_TAG;

/// What people should know of what was found for an image. `None` if there is nothing to say: it is pinned, or never was
/// meant to be.
pub(super) fn why(image: &str, namespace: &str, outcome: &Outcome<'_>) -> Option<String> {
    let (stream, tag) = match Reference::parse(image) {
        Ok(reference) => (reference.name, reference.tag.unwrap_or(DEFAULT_TAG)),
        Err(error) => return Some(error.to_string()),
    };
    Some(match outcome {
        Outcome::NoStream => format!("there is no image stream {stream} in namespace {namespace}"),
        Outcome::LookupDisabled => {
            format!(
                "image stream {stream} has its local look-up off; turn it on with: pinstream set image-lookup {stream}"
            )
        }
        Outcome::TagMissing { why, pending } => {
            let missing = match why {
                Missing::Tag => format!("image stream {stream} has no tag {tag}"),
                Missing::Import => format!("tag {tag} of image stream {stream} was never imported"),
                Missing::Digest => {
                    format!("tag {tag} of image stream {stream} is a reference tag, which has no digest")
                }
            };
            match pending {
                Some(pending) => format!("{missing}; it is pulled as {pending}"),
                None => missing,
            }
        }
        Outcome::Pinned { stale: Some(stale), .. } => {
            let reason = if stale.reason.is_empty() { String::new() } else { format!(" ({})", stale.reason) };
            format!(
                "the newest import of tag {tag} of image stream {stream} failed{reason}; the image before it is used"
            )
        }
        Outcome::Pinned { stale: None, .. }
        | Outcome::AlreadyPinned
        | Outcome::NotShort
        | Outcome::Unchanged
        | Outcome::Owned
        | Outcome::Unparsable => return None,
    })
}

/// A short name that was looked up, or should have been, and has no digest.
pub(super) fn is_unresolved(outcome: &Outcome<'_>) -> bool {
    matches!(outcome, Outcome::NoStream | Outcome::LookupDisabled | Outcome::TagMissing { .. } | Outcome::Unparsable)
}

/// An image that has a digest, or gets one.
pub(super) fn is_pinned(outcome: &Outcome<'_>) -> bool {
    matches!(outcome, Outcome::Pinned { .. } | Outcome::AlreadyPinned)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::index::Stale;

    #[rstest]
    #[case("app:1", Outcome::NoStream, Some("there is no image stream app in namespace demo"))]
    #[case(
        "app",
        Outcome::TagMissing { why: Missing::Tag, pending: None },
        Some("image stream app has no tag latest")
    )]
    #[case(
        "app:1",
        Outcome::TagMissing { why: Missing::Import, pending: Some("r.io/demo/app:1".into()) },
        Some("tag 1 of image stream app was never imported; it is pulled as r.io/demo/app:1")
    )]
    #[case(
        "App",
        Outcome::Unparsable,
        Some(
            "invalid reference format: a name is lower-case letters and digits, separated by '.', '_', '__', '-' or '/'"
        )
    )]
    #[case("q.io/a/b:1", Outcome::NotShort, None)]
    #[case("app:1", Outcome::Pinned { image: "q.io/a@sha256:1", stale: None }, None)]
    fn what_stays_is_explained(#[case] image: &str, #[case] outcome: Outcome<'_>, #[case] expected: Option<&str>) {
        assert_eq!(why(image, "demo", &outcome).as_deref(), expected);
    }

    #[test]
    fn image_from_before_a_failed_import_is_told() {
        let stale = Stale { reason: "NotFound".into(), image_created: None };
        let outcome = Outcome::Pinned { image: "q.io/a@sha256:1", stale: Some(&stale) };
        let said = why("app:1", "demo", &outcome).unwrap();
        assert!(said.contains("(NotFound)") && is_pinned(&outcome) && !is_unresolved(&outcome), "{said}");
    }
}
