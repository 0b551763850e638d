//! What is known of an image, as people read it. Pure.

use std::fmt::Write as _;

use super::facts::{Event, Facts, Tag};

/// Lines of a word and what it is, as `describe` has them.
pub(super) fn render(facts: &Facts, namespace: &str) -> String {
    let mut lines = vec![("Image", facts.image.clone())];
    lines.extend(facts.container.clone().map(|container| ("Container", container)));
    if let Some(tag) = &facts.tag {
        let lookup = if tag.local_lookup { "on" } else { "off" };
        lines.push(("Stream", format!("{} in namespace {namespace}, local look-up {lookup}", tag.stream)));
        lines.push(("Tag", tag_line(tag)));
        lines.extend(tag.failure.clone().map(|failure| ("Import", format!("failed: {failure}"))));
    }
    lines.extend(facts.events.iter().map(|event| ("Event", event_line(event))));
    if facts.outcome == "already_pinned" && facts.events.is_empty() {
        lines.push(("Event", format!("none: no image stream of namespace {namespace} has had this digest")));
    }
    if !facts.imported_as.is_empty() {
        lines.push(("Imported", format!("as {}", facts.imported_as.join(", "))));
    }
    lines.push(("Now", now_line(facts)));
    let mut text = String::new();
    for (word, value) in lines {
        let _ = writeln!(text, "{:<12}{value}", format!("{word}:"));
    }
    text
}

fn tag_line(tag: &Tag) -> String {
    let from = tag.from.as_ref().map(|from| format!(" from {from}")).unwrap_or_default();
    format!("{}{from}{}", tag.name, if tag.scheduled { ", scheduled" } else { "" })
}

fn event_line(event: &Event) -> String {
    let place = match event.behind {
        0 => "current".to_owned(),
        1 => "1 step behind".to_owned(),
        behind => format!("{behind} steps behind"),
    };
    let since = event.created.map(|created| format!(", of {created}")).unwrap_or_default();
    format!("{}, {place} ({} of {}){since}", event.tag, event.behind + 1, event.of)
}

/// What happens if the object is created now.
fn now_line(facts: &Facts) -> String {
    let reason = facts.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    match (&facts.becomes, facts.outcome) {
        (Some(image), "pinned") if facts.reason.is_some() => {
            format!("pinned to {image}, from before the failed import")
        }
        (Some(image), "pinned") => format!("pinned to {image}"),
        (Some(image), _) => format!("rewritten to {image}{reason}"),
        (None, "already_pinned") => "stays: it has a digest".to_owned(),
        (None, "not_short_name") => "stays: it is no short name".to_owned(),
        (None, "owned") => "stays: its object has a controller, which decides over it".to_owned(),
        (None, _) => format!("stays{reason}"),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn facts(outcome: &'static str) -> Facts {
        Facts {
            image: "app:1".into(),
            container: None,
            outcome,
            becomes: None,
            reason: None,
            tag: None,
            events: Vec::new(),
            imported_as: Vec::new(),
            is_unresolved: false,
        }
    }

    #[rstest]
    #[case("already_pinned", None, None, "stays: it has a digest")]
    #[case("no_stream", None, Some("there is none"), "stays: there is none")]
    #[case("tag_missing", Some("r.io/a:1"), Some("no tag"), "rewritten to r.io/a:1: no tag")]
    #[case("pinned", Some("r.io/a@x"), None, "pinned to r.io/a@x")]
    #[case("pinned", Some("r.io/a@x"), Some("the import failed"), "pinned to r.io/a@x, from before the failed import")]
    fn what_happens_now_is_said(
        #[case] outcome: &'static str,
        #[case] becomes: Option<&str>,
        #[case] reason: Option<&str>,
        #[case] expected: &str,
    ) {
        let facts = Facts { becomes: becomes.map(Into::into), reason: reason.map(Into::into), ..facts(outcome) };
        assert_eq!(now_line(&facts), expected);
    }

    #[test]
    fn digest_that_nobody_knows_is_said_to_be_so() {
        let text = render(&facts("already_pinned"), "demo");
        assert!(text.contains("Event:      none: no image stream of namespace demo has had this digest\n"), "{text}");
    }
}
