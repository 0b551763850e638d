//! What the fuzzer does with an input: parsers of what others write, each held to what is promised of it.
//!
//! Compiled for `cargo fuzz` and for tests, which run every input that is kept in `fuzz/corpus`. What a module keeps to
//! itself has its target beside it. Must not be used by anything else.

mod admission;
mod files;
mod text;

use self::admission::{image_streams, policy, review};
use self::files::{documents, edits};
use self::text::{patterns, reference};
use crate::cli::resolve::fuzzing::resolve;
use crate::config::fuzzing::flags;
use crate::json::fuzzing::json;
use crate::mirror::content::fuzzing::image;
use crate::mirror::handler::fuzzing::pull;
use crate::registry::fuzzing::{answer, challenge, credentials};
use crate::store::kube::fuzzing::cluster;

type Target = fn(&[u8]);

/// Every target by its name, which is that of its program and of the folder of its inputs.
const TARGETS: &[(&str, Target)] = &[
    ("answer", answer),
    ("challenge", challenge),
    ("cluster", cluster),
    ("credentials", credentials),
    ("documents", documents),
    ("edits", edits),
    ("flags", flags),
    ("image", image),
    ("image_streams", image_streams),
    ("json", json),
    ("patterns", patterns),
    ("policy", policy),
    ("pull", pull),
    ("reference", reference),
    ("resolve", resolve),
    ("review", review),
];

/// Has a target do its work with an input.
///
/// # Panics
/// If something is not as it should be, or there is no such target.
pub fn run(name: &str, input: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).expect("a target of that name");
    target(input);
}

/// The digest that streams of targets have.
pub(crate) const DIGEST: &str = "sha256:87fbabfd7d6add32fe8c9cce0d829e1257a1398a1850fcd45f8fd0e659b5a46c";

/// The first line of an input and the rest of it, if all of it is text.
pub(crate) fn first_line(input: &[u8]) -> Option<(&str, &str)> {
    let text = std::str::from_utf8(input).ok()?;
    Some(text.split_once('\n').unwrap_or((text, "")))
}

#[cfg(test)]
mod tests;
